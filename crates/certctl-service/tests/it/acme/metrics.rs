//! What is counted, and by how much (acme-server §14).

use std::{collections::BTreeMap, time::Duration};

use certctl_acme::{ari::CertId, client::Signer};
use certctl_pki::cert::ParsedCertificate;
use certctl_repository::Backend;
use certctl_service::acme::AcmeConfig;
use certctl_telemetry::MetricsHandle;
use certctl_testkit::TestDb;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    accounts::{change, roll},
    kit::{Client, Server, acme_config, challenge_of, key, last, leaf, serving},
    limits::account_from,
};

/// Tests on both databases, each on one thread: a recorder sees what its own thread does, and only there can the clock be moved.
macro_rules! one_thread_tests {
    ($(async fn $name:ident($($db:tt)+) $body:block)+) => {$(
        async fn $name($($db)+) $body

        mod $name {
            use certctl_testkit::TestDb;

            #[test]
            fn sqlite() {
                crate::acme::metrics::on_one_thread(async { super::$name(TestDb::sqlite().await).await });
            }

            #[test]
            fn postgres() {
                crate::acme::metrics::on_one_thread(async { super::$name(TestDb::postgres().await).await });
            }
        }
    )+};
}
pub(super) use one_thread_tests;

pub(super) fn on_one_thread(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(test);
}

/// What a recorder has of the ACME server.
struct Counts {
    handle: MetricsHandle,
    last: BTreeMap<String, f64>,
}

impl Counts {
    fn new(handle: MetricsHandle) -> Self {
        let last = BTreeMap::new();
        let mut counts = Self { handle, last };
        counts.moved();
        counts
    }

    /// By name and labels; of histograms how many samples there are.
    fn now(&self) -> BTreeMap<String, f64> {
        let text = self.handle.render();
        text.lines()
            .filter_map(|line| line.strip_prefix("certctl_acme_"))
            .filter_map(|line| line.rsplit_once(' '))
            .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
            .collect()
    }

    /// What has changed since this was last asked, each with by how much unless that is one.
    fn moved(&mut self) -> Vec<String> {
        let now = self.now();
        let before = std::mem::replace(&mut self.last, now);
        let left_out = ["_bucket{", "_sum{", "desk_batch", "inflight"];
        self.last
            .iter()
            .filter(|(name, _)| !left_out.iter().any(|part| name.contains(part)))
            .map(|(name, value)| (name, value - before.get(name).copied().unwrap_or_default()))
            .filter(|(_, more)| *more != 0.0)
            .map(|(name, more)| {
                if more == 1.0 {
                    name.clone()
                } else {
                    format!("{name} {more:+}")
                }
            })
            .collect()
    }

    /// Gauges of http-01: how many are looked at, and how many were at the most.
    fn inflight(&self) -> (f64, f64) {
        let now = self.now();
        let of = |name: &str| now.get(name).copied().unwrap_or_default();
        (
            of("challenge_inflight{type=\"http-01\"}"),
            of("challenge_inflight_peak{type=\"http-01\"}"),
        )
    }
}

const LOOKED_AT: &str = "challenge_validate_seconds_count{type=\"http-01\"}";

one_thread_tests! {
    async fn every_request_moves_its_counters_by_one(db: TestDb) {
        let (recorder, handle) = certctl_telemetry::build();
        let _guard = metrics::set_default_local_recorder(&recorder);
        let server = Server::challenging(db, acme_config()).await;
        let mut counts = Counts::new(handle);
        let acme = server.acme();
        let mut client = server.stranger();

        acme.new_nonce().await.unwrap();
        assert_eq!(counts.moved(), ["new_nonce_total"]);
        acme.directory(&client.urls, &client.profile).await.unwrap();
        assert_eq!(counts.moved(), ["directory_total"]);
        acme.renewal_info(&client.urls, &client.profile, "x").await.unwrap_err();
        assert_eq!(counts.moved(), ["renewal_info_failures_total", "renewal_info_total"]);

        client.register(json!({"onlyReturnExisting": true})).await.unwrap_err();
        assert_eq!(counts.moved(), ["new_account_failures_total", "new_account_total"]);
        client.register(json!({})).await.unwrap();
        assert_eq!(counts.moved(), ["new_account_total"]);
        client.register(json!({})).await.unwrap();
        assert_eq!(counts.moved(), ["new_account_idempotent_total", "new_account_total"]);
        change(&client, json!({"contact": []})).await.unwrap();
        assert_eq!(counts.moved(), ["update_account_total"]);
        change(&client, json!({"status": "valid"})).await.unwrap_err();
        assert_eq!(counts.moved(), ["update_account_failures_total", "update_account_total"]);
        roll(&client, &client.signer).await.unwrap_err();
        assert_eq!(counts.moved(), ["key_change_failures_total", "key_change_total"]);
        let new = Signer::new(key()).unwrap();
        roll(&client, &new).await.unwrap();
        assert_eq!(counts.moved(), ["key_change_total"]);
        client = Client { signer: new, ..client };

        client.order(&["a..example.test"]).await.unwrap_err();
        assert_eq!(counts.moved(), ["new_order_failures_total", "new_order_rejected_total", "new_order_total"]);
        let order = client.order(&["a.example.test"]).await.unwrap();
        let id = order.id.to_string();
        assert_eq!(counts.moved(), ["new_order_total"]);
        let authorization = &client.authorizations(&order).await[0];
        assert_eq!(counts.moved(), ["authz_read_total"]);
        client.respond("acme-chall-0000000000000000").await.unwrap_err();
        assert_eq!(counts.moved(), ["challenge_respond_failures_total", "challenge_respond_total"]);
        client.respond(&challenge_of(authorization, "http-01")).await.unwrap();
        assert_eq!(counts.moved(), ["challenge_respond_total"]);
        let stop = CancellationToken::new();
        let (looking, token) = (server.acme(), stop.clone());
        let running = tokio::spawn(async move { looking.run_challenges(&token).await });
        assert_eq!(client.settle(&order).await, "ready");
        assert_eq!(counts.moved(), [LOOKED_AT, "challenge_validate_valid_total"]);

        client.finalize(&id, &["b.example.test"]).await.unwrap_err();
        assert_eq!(counts.moved(), ["finalize_order_failures_total", "finalize_order_total"]);
        client.finalize(&id, &["a.example.test"]).await.unwrap();
        assert_eq!(counts.moved(), ["finalize_order_total"]);
        server.world.work().await;
        let shown = super::kit::body(&client.show_order(&id).await.unwrap().order);
        assert_eq!(counts.moved(), Vec::<String>::new(), "what the engine does is counted there");
        client.download("mc-acme-0000000000000000").await.unwrap_err();
        assert_eq!(counts.moved(), ["cert_download_failures_total", "cert_download_total"]);
        let download = client.download(&last(&shown["certificate"])).await.unwrap();
        assert_eq!(counts.moved(), ["cert_download_total"]);
        let der = leaf(&download);
        let ari = CertId::of_certificate(&ParsedCertificate::from_der(&der).unwrap()).unwrap().to_string();
        acme.renewal_info(&client.urls, &client.profile, &ari).await.unwrap();
        assert_eq!(counts.moved(), ["renewal_info_total"]);
        client.revoke(&der, None).await.unwrap();
        assert_eq!(counts.moved(), ["revoke_cert_total"]);
        client.revoke(&der, None).await.unwrap_err();
        assert_eq!(counts.moved(), ["revoke_cert_failures_total", "revoke_cert_total"]);

        server.proofs.fail("bad.example.test");
        let order = client.order(&["bad.example.test"]).await.unwrap();
        let challenge = challenge_of(&client.authorizations(&order).await[0], "http-01");
        counts.moved();
        client.respond(&challenge).await.unwrap();
        assert_eq!(client.settle(&order).await, "invalid");
        assert_eq!(counts.moved(), ["challenge_respond_total", "challenge_validate_invalid_total", LOOKED_AT]);
        change(&client, json!({"status": "deactivated"})).await.unwrap();
        assert_eq!(counts.moved(), ["deactivate_account_total", "update_account_total"]);
        stop.cancel();
        running.await.unwrap();
    }

    async fn sweeps_and_faults_are_counted(db: TestDb) {
        let (recorder, handle) = certctl_telemetry::build();
        let _guard = metrics::set_default_local_recorder(&recorder);
        let server = Server::challenging(db, acme_config()).await;
        let client = server.client().await;
        let is_shared = server.world.db.backend() == Backend::Postgres;
        for name in ["a.example.test", "b.example.test"] {
            client.order(&[name]).await.unwrap();
        }
        let mut counts = Counts::new(handle);
        server.world.clock.advance(Duration::from_secs(86_401));
        server.acme().gc().await.unwrap();
        // The account and each order have used a nonce.
        let reaped = ["gc_nonces_reaped_total +3"].into_iter().filter(|_| is_shared);
        let expected: Vec<&str> = ["gc_authzs_expired_total +2"].into_iter().chain(reaped).chain(["gc_orders_invalidated_total +2", "gc_runs_total"]).collect();
        assert_eq!(counts.moved(), expected);
        server.acme().gc().await.unwrap();
        assert_eq!(counts.moved(), ["gc_runs_total"]);
        server.world.clock.advance(Duration::from_secs(91 * 86_400));
        server.acme().gc().await.unwrap();
        assert_eq!(counts.moved(), ["gc_orders_deleted_total +2", "gc_runs_total"]);
        server.world.db.execute("ALTER TABLE acme_failing_names RENAME TO elsewhere").await.unwrap();
        server.acme().gc().await.unwrap();
        assert_eq!(counts.moved(), ["gc_run_failures_total", "gc_runs_total"]);

        server.world.db.execute("ALTER TABLE issuers RENAME TO nowhere").await.unwrap();
        server.world.clock.advance(Duration::from_secs(61));
        server.acme().directory(&client.urls, &client.profile).await.unwrap_err();
        assert_eq!(counts.moved(), ["directory_failures_total", "directory_total"]);
        if is_shared {
            server.world.db.execute("ALTER TABLE installation RENAME TO lost").await.unwrap();
            let (other, _) = server.world.replica("other:2", serving(acme_config()));
            other.acme().unwrap().new_nonce().await.unwrap_err();
            assert_eq!(counts.moved(), ["new_nonce_failures_total", "new_nonce_total"]);
        }
    }

    async fn refusals_beyond_a_limit_are_counted_by_what_was_asked(db: TestDb) {
        let (recorder, handle) = certctl_telemetry::build();
        let _guard = metrics::set_default_local_recorder(&recorder);
        let config = AcmeConfig {
            orders_per_hour: 2, concurrent_orders: 1, key_changes_per_hour: 1, challenge_responds_per_hour: 1, new_accounts_per_hour: 2,
            ..acme_config()
        };
        let server = Server::challenging(db, config).await;
        let mut counts = Counts::new(handle);
        let mut limited = move || {
            let moved = counts.moved();
            let mut actions = moved.iter().filter_map(|one| one.strip_prefix("rate_limited_total{action=\""));
            let action = actions.next().map(|one| one.trim_end_matches("\"}").to_owned());
            assert_eq!(actions.next(), None, "{moved:?}");
            action
        };
        let client = account_from(&server, "192.0.2.1").await.ok().unwrap();
        let second = account_from(&server, "192.0.2.1").await.ok().unwrap();
        let order = client.order(&["a.example.test"]).await.unwrap();
        let challenge = challenge_of(&client.authorizations(&order).await[0], "http-01");
        client.respond(&challenge).await.unwrap();
        assert_eq!(limited(), None);
        assert!(account_from(&server, "192.0.2.1").await.is_err());
        assert_eq!(limited().as_deref(), Some("new_account"));
        client.order(&["a.example.test"]).await.unwrap_err();
        assert_eq!(limited().as_deref(), Some("concurrent_orders"));
        client.order(&["a.example.test"]).await.unwrap_err();
        assert_eq!(limited().as_deref(), Some("new_order"));
        server.world.db.execute("UPDATE acme_challenges SET status = 'pending'").await.unwrap();
        client.respond(&challenge).await.unwrap_err();
        assert_eq!(limited().as_deref(), Some("challenge_respond"));
        let paused = format!("INSERT INTO acme_failing_names (account_id, identifier_type, identifier_value, failures, last_failed_at, paused_at) \
            SELECT id, 'dns', 'a.example.test', 15, created_at, created_at FROM acme_accounts WHERE id = '{}'", second.id);
        server.world.db.execute(&paused).await.unwrap();
        second.order(&["a.example.test"]).await.unwrap_err();
        assert_eq!(limited().as_deref(), Some("paused_name"));
        let new = Signer::new(key()).unwrap();
        roll(&second, &new).await.unwrap();
        let second = Client { signer: new, ..second };
        assert_eq!(limited(), None);
        roll(&second, &Signer::new(key()).unwrap()).await.unwrap_err();
        assert_eq!(limited().as_deref(), Some("key_change"));
    }

    async fn gauges_show_how_many_challenges_are_looked_at_and_that_a_pool_is_bounded(db: TestDb) {
        let (recorder, handle) = certctl_telemetry::build();
        let _guard = metrics::set_default_local_recorder(&recorder);
        let server = Server::challenging(db, AcmeConfig { http01_concurrency: 2, ..acme_config() }).await;
        let client = server.client().await;
        let names = ["a.example.test", "b.example.test", "c.example.test", "d.example.test", "e.example.test"];
        let gates = names.map(|name| server.proofs.hold(name));
        let counts = Counts::new(handle);
        let stop = CancellationToken::new();
        let (looking, token) = (server.acme(), stop.clone());
        let running = tokio::spawn(async move { looking.run_challenges(&token).await });
        let order = client.order(&names).await.unwrap();
        for authorization in client.authorizations(&order).await {
            client.respond(&challenge_of(&authorization, "http-01")).await.unwrap();
        }
        server.proofs.asked_for(2).await;
        assert_eq!(counts.inflight(), (2.0, 2.0));
        for gate in gates {
            gate.add_permits(1);
        }
        assert_eq!(client.settle(&order).await, "ready");
        stop.cancel();
        running.await.unwrap();
        assert_eq!(counts.inflight(), (0.0, 2.0), "never more than two");
        assert_eq!(server.proofs.names().len(), 5);
    }
}
