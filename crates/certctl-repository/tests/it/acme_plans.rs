//! No query of the ACME server reads a growing table from end to end.

use std::time::Duration;

use certctl_domain::{
    acme::{
        AccountStatus, AcmeAccountId, AcmeAuthorizationId, AcmeChallengeId, AcmeOrderId, Problem,
        ProblemType,
    },
    id::{CertificateId, IssuerId, JobId, ProfileId},
    serial::SerialNumber,
};
use certctl_repository::{
    Backend,
    acme::{
        accounts, authorizations, challenges, failing_names, issuing, nonces,
        orders::{self, Finalized},
        sweeps,
    },
    transaction,
};
use certctl_testkit::{TestDb, database::START, db_tests};

use crate::plans::{Caught, check, fill, full_scan, plan, plan_as_it_is};

/// Thousands of orders of hundreds of accounts, nearly all of which have ended.
async fn fill_acme(db: &TestDb) {
    let at = |seconds: &str| match db.backend() {
        Backend::Postgres => format!("to_timestamp({} + {seconds})", START.as_seconds()),
        Backend::Sqlite => format!("({} + {seconds}) * 1000000", START.as_seconds()),
    };
    let no = match db.backend() {
        Backend::Postgres => "false",
        Backend::Sqlite => "0",
    };
    let into = |count: u32, into: &str, select: &str| {
        let with = format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})"
        );
        match db.backend() {
            Backend::Postgres => format!("INSERT INTO {into} {with} {select}"),
            Backend::Sqlite => format!("{with} INSERT INTO {into} {select}"),
        }
    };
    let state = "CASE WHEN i % 100 = 1 THEN 'pending' WHEN i % 100 = 2 THEN 'ready' WHEN i % 100 = 3 THEN 'processing' \
        WHEN i % 10 = 4 THEN 'invalid' ELSE 'valid' END";
    let statements = [
        into(
            500,
            "acme_accounts (id, jwk_thumbprint, jwk_pem, profile_id, created_at, updated_at)",
            &format!(
                "SELECT 'acme-acc-' || i, 't' || i, '', 'prof-standard-tls', {0}, {0} FROM n",
                at("i")
            ),
        ),
        into(
            4000,
            "acme_orders (id, account_id, profile_id, issuer_id, auth_mode, identifiers, status, expires_at, certificate_id, job_id, \
                replaces, created_at, updated_at)",
            &format!(
                "SELECT 'acme-ord-' || i, 'acme-acc-' || (1 + i % 500), 'prof-standard-tls', 'iss-local', 'challenge', '[]', {state}, {0}, \
                'mc-' || i, 'job-' || i, CASE WHEN i % 2 = 0 THEN 'r' || i END, {0}, {0} FROM n",
                at("i * 60")
            ),
        ),
        into(
            4000,
            "acme_authorizations (id, order_id, account_id, identifier_type, identifier_value, wildcard, status, expires_at, proved_by, \
                created_at, updated_at)",
            &format!(
                "SELECT 'acme-authz-' || i, 'acme-ord-' || i, 'acme-acc-' || (1 + i % 500), 'dns', 'n' || i || '.example.test', {no}, \
                CASE WHEN i % 100 = 1 THEN 'pending' ELSE 'valid' END, {0}, 'http-01', {0}, {0} FROM n",
                at("i * 60")
            ),
        ),
        into(
            4000,
            "acme_challenges (id, authz_id, type, status, token, lease_expires_at, created_at)",
            &format!(
                "SELECT 'acme-chall-' || i, 'acme-authz-' || i, 'http-01', CASE WHEN i % 100 = 1 THEN 'processing' ELSE 'valid' END, 't', {0}, {0} FROM n",
                at("i * 60")
            ),
        ),
        into(
            4000,
            "acme_redeemed_nonces (nonce, expires_at)",
            &format!("SELECT 'n' || i, {} FROM n", at("i")),
        ),
        into(
            400,
            "acme_failing_names (account_id, identifier_type, identifier_value, failures, last_failed_at, paused_at)",
            &format!(
                "SELECT 'acme-acc-' || i, 'dns', 'n.example.test', 3, {0}, CASE WHEN i % 20 = 0 THEN {0} END FROM n",
                at("i")
            ),
        ),
        "ANALYZE".to_owned(),
    ];
    for statement in statements {
        db.execute(&statement)
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    }
}

db_tests! {
    async fn what_acme_clients_ask_is_a_range_of_an_index(db: TestDb) {
        db.seed_basics().await;
        fill(&db).await;
        fill_acme(&db).await;
        let now = START + Duration::from_secs(100_000);
        let account = AcmeAccountId::from_stored("acme-acc-77".into());
        let accounts_ = std::slice::from_ref(&account);
        let order = AcmeOrderId::from_stored("acme-ord-77".into());
        let orders_ = std::slice::from_ref(&order);
        let authorization = AcmeAuthorizationId::from_stored("acme-authz-77".into());
        let challenge = AcmeChallengeId::from_stored("acme-chall-77".into());
        let certificate = CertificateId::from_stored("mc-77".into());
        let certificates = std::slice::from_ref(&certificate);
        let profile = ProfileId::from_stored("prof-standard-tls".into());
        let issuer = IssuerId::from_stored("iss-local".into());
        let serial = SerialNumber::parse("77").unwrap();
        let names = ["n77.example.test".to_owned()];
        let problem = Problem::new(ProblemType::ServerInternal, "x");
        let lease = Duration::from_secs(60);
        check!(db, "account", conn => accounts::find(conn, &account).await);
        check!(db, "account of a key", conn => accounts::find_by_key(conn, &profile, "t77").await);
        check!(db, "accounts", conn => accounts::find_many(conn, accounts_).await);
        check!(db, "accounts, locked", conn => accounts::lock_many(conn, accounts_).await);
        check!(db, "end account", conn => accounts::end(conn, &account, AccountStatus::Revoked, now).await);
        check!(db, "order", conn => orders::find(conn, &order).await);
        check!(db, "orders, locked", conn => orders::lock_many(conn, orders_).await);
        check!(db, "count open", conn => orders::count_open(conn, accounts_, now).await);
        check!(db, "replaced", conn => orders::replaced(conn, &["r78"]).await);
        check!(db, "list orders", conn => orders::list_after(conn, &account, Some((now, &order)), 100).await);
        let finalized = [Finalized {
            order_id: AcmeOrderId::from_stored("acme-ord-102".into()), csr_pem: String::new(),
            certificate_id: certificate.clone(), job_id: JobId::from_stored("job-77".into()), is_issued: false,
        }];
        check!(db, "begin", conn => orders::begin(conn, &finalized, now).await);
        check!(db, "make ready", conn => orders::make_ready(conn, &order, now).await);
        check!(db, "invalidate of account", conn => orders::invalidate_of_account(conn, &account, &problem, now).await);
        check!(db, "authorisation", conn => authorizations::find(conn, &authorization).await);
        check!(db, "authorisations of orders", conn => authorizations::of_orders(conn, orders_).await);
        check!(db, "order with its authorisations", conn => orders::find_whole(conn, &order).await);
        check!(db, "proved", conn => authorizations::proved(conn, accounts_, &names, now).await);
        check!(db, "challenges", conn => challenges::of_authorization(conn, &authorization).await);
        check!(db, "challenge", conn => challenges::find(conn, &challenge).await);
        check!(db, "begin challenge", conn => challenges::begin(conn, &challenge, lease, now).await);
        check!(db, "end challenge", conn => challenges::end(conn, &challenge, 1, Ok(()), now).await);
        check!(db, "take challenges over", conn => challenges::take_over(conn, lease, 100, now).await);
        check!(db, "succeed", conn => issuing::succeed(conn, certificates, now).await);
        check!(db, "fail", conn => issuing::fail(conn, certificates, &problem, now).await);
        check!(db, "reconcile", conn => issuing::reconcile(conn, &problem, 100, now).await);
        check!(db, "by serial", conn => issuing::by_serial(conn, &issuer, &serial).await);
        check!(db, "by fingerprint", conn => issuing::by_fingerprint(conn, "f77").await);
        check!(db, "download", conn => issuing::download(conn, &certificate).await);
        check!(db, "is redeemed", conn => nonces::is_redeemed(conn, "n77").await);
        check!(db, "sweep nonces", conn => nonces::sweep(conn, 100, now).await);
        check!(db, "paused", conn => failing_names::paused(conn, accounts_, &names).await);
        check!(db, "forget names", conn => failing_names::sweep(conn, now, 100).await);
        check!(db, "expire authorisations", conn => sweeps::expire_authorizations(conn, &problem, 100, now).await);
        check!(db, "expire orders", conn => sweeps::expire_orders(conn, &problem, 100, now).await);
        check!(db, "delete orders", conn => sweeps::delete_ended(conn, now, 100, now).await);
    }

    async fn what_is_planned_on_empty_tables_goes_by_keys_when_they_are_full(db: TestDb) {
        db.seed_basics().await;
        let ready = AcmeOrderId::from_stored("acme-ord-102".into());
        let finalized = [Finalized {
            order_id: ready.clone(), csr_pem: String::new(), certificate_id: CertificateId::from_stored("mc-77".into()),
            job_id: JobId::from_stored("job-77".into()), is_issued: false,
        }];
        let caught = Caught::default();
        let planned: Result<(), certctl_repository::Error> = transaction!(db, by_key "plans", conn => {
            caught.on(conn);
            orders::lock_many(conn, std::slice::from_ref(&ready)).await?;
            // There is none, and it says so; its statement was sent.
            assert!(orders::begin(conn, &finalized, START).await.is_err());
            let statements = caught.off(conn);
            assert_eq!(statements.len(), 2, "{statements:?}");
            for sql in statements {
                let steps = plan_as_it_is(conn, &sql).await;
                assert!(full_scan(&steps).is_none(), "{sql}\n{}", steps.join("\n"));
                let all = steps.join("\n");
                assert!(!all.contains("Hash") && !all.contains("Merge"), "{sql}\n{all}");
                assert!(!all.contains("acme_orders_expiring"), "the index of open orders, where ended ones stand until a VACUUM:\n{sql}\n{all}");
            }
            Ok(())
        });
        planned.unwrap();
        if db.backend() == Backend::Postgres {
            let setting = "SELECT string_agg(setting, ' ') AS value FROM pg_settings WHERE name IN ('enable_seqscan', 'enable_hashjoin', 'enable_mergejoin', 'jit')";
            assert_eq!(db.text(setting).await, "on on on on", "of the connection, after the transaction");
        }
    }
}
