//! How often what may be asked (acme-server §9).

use std::{net::IpAddr, time::Duration};

use certctl_acme::client::Signer;
use certctl_service::acme::{AcmeConfig, SignedRequest};
use certctl_testkit::{TestDb, db_tests};
use serde_json::json;

use super::{
    accounts::roll,
    kit::{Client, Server, acme_config, challenge_of, key, problem},
};

#[test]
fn the_bounds_are_those_of_the_contract_unless_somebody_says_otherwise() {
    let config = AcmeConfig::default();
    assert_eq!(
        [
            config.orders_per_hour,
            config.concurrent_orders,
            config.key_changes_per_hour,
            config.challenge_responds_per_hour,
            config.new_accounts_per_hour,
        ],
        [100, 5, 5, 60, 10]
    );
    assert_eq!(
        [
            config.http01_concurrency,
            config.dns01_concurrency,
            config.tlsalpn01_concurrency,
            config.challenge_queue,
        ],
        [10, 10, 10, 1000]
    );
    let seconds = [
        config.challenge_timeout,
        config.nonce_ttl,
        config.order_ttl,
        config.authz_ttl,
        config.ari_poll_interval,
        config.retention,
    ];
    assert_eq!(
        seconds.map(|one| one.as_secs()),
        [30, 300, 86_400, 86_400, 21_600, 90 * 86_400]
    );
    assert_eq!(config.challenge_tries, [0, 5, 15].map(Duration::from_secs));
}

/// What a stranger at an address is told who wants an account.
pub(super) async fn account_from(
    server: &Server,
    address: &str,
) -> Result<Client, (String, Option<u64>)> {
    let mut client = server.stranger();
    let request = client
        .post_jwk(&client.urls.new_account(), &json!({}))
        .await;
    let request = SignedRequest {
        client: Some(address.parse::<IpAddr>().unwrap()),
        ..request
    };
    match client.acme.new_account(request).await {
        Ok(answer) => {
            client.kid = client.urls.account(&answer.id);
            client.id = answer.id.to_string();
            Ok(client)
        }
        Err(refusal) => {
            let after = refusal.retry_after;
            Err((problem::<()>(Err(refusal)), after))
        }
    }
}

db_tests! {
    async fn accounts_of_an_hour_are_limited_by_address(db: TestDb) {
        let server = Server::with(db, AcmeConfig { new_accounts_per_hour: 2, ..acme_config() }).await;
        let first = account_from(&server, "192.0.2.1").await.ok().unwrap();
        assert!(account_from(&server, "192.0.2.1").await.is_ok());
        let refused = account_from(&server, "192.0.2.1").await.err().unwrap();
        assert_eq!(refused, ("429 rateLimited".to_owned(), Some(1800)));
        assert!(account_from(&server, "192.0.2.2").await.is_ok(), "each address has its own");
        assert!(account_from(&server, "::ffff:192.0.2.1").await.is_err(), "however it is written");
        // Whoever has one address of IPv6 has more of them than could ever be counted.
        for host in ["2001:db8::1", "2001:db8::2:0:0:1"] {
            assert!(account_from(&server, host).await.is_ok());
        }
        assert!(account_from(&server, "2001:db8::ffff").await.is_err());
        assert!(account_from(&server, "2001:db8:0:1::1").await.is_ok());
        // Who has an account is told of it as often as they like.
        let again = first.post_jwk(&first.urls.new_account(), &json!({})).await;
        let again = SignedRequest { client: Some("192.0.2.1".parse().unwrap()), ..again };
        assert!(!first.acme.new_account(again).await.unwrap().created);
        server.world.clock.advance(Duration::from_secs(1800));
        assert!(account_from(&server, "192.0.2.1").await.is_ok());
    }

    async fn key_changes_of_an_hour_are_limited_by_account(db: TestDb) {
        let server = Server::with(db, AcmeConfig { key_changes_per_hour: 2, ..acme_config() }).await;
        let mut client = server.client().await;
        for _ in 0..2 {
            let new = Signer::new(key()).unwrap();
            roll(&client, &new).await.unwrap();
            client = Client { signer: new, ..client };
        }
        let refused = roll(&client, &Signer::new(key()).unwrap()).await.unwrap_err();
        assert_eq!((refused.problem.kind.as_str(), refused.problem.status, refused.retry_after), ("rateLimited", 429, Some(1800)));
        client.order(&["a.example.test"]).await.unwrap();
        let other = server.client().await;
        roll(&other, &Signer::new(key()).unwrap()).await.unwrap();
    }

    async fn zero_is_no_limit(db: TestDb) {
        let none = AcmeConfig { key_changes_per_hour: 0, challenge_responds_per_hour: 0, ..acme_config() };
        let server = Server::challenging(db, none).await;
        let mut client = account_from(&server, "192.0.2.1").await.ok().unwrap();
        for _ in 0..11 {
            client = account_from(&server, "192.0.2.1").await.ok().unwrap();
        }
        for _ in 0..6 {
            let new = Signer::new(key()).unwrap();
            roll(&client, &new).await.unwrap();
            client = Client { signer: new, ..client };
        }
        let order = client.order(&["a.example.test"]).await.unwrap();
        for _ in 0..6 {
            client.order(&["a.example.test"]).await.unwrap();
        }
        let challenge = challenge_of(&client.authorizations(&order).await[0], "http-01");
        for _ in 0..61 {
            client.respond(&challenge).await.unwrap();
            server.world.db.execute("UPDATE acme_challenges SET status = 'pending'").await.unwrap();
        }
    }

    async fn an_order_beyond_the_hour_is_refused_before_the_cap_is_looked_at(db: TestDb) {
        let server = Server::with(db, AcmeConfig { orders_per_hour: 1, concurrent_orders: 1, ..acme_config() }).await;
        let client = server.client().await;
        client.order(&["a.example.test"]).await.unwrap();
        let refused = client.order(&["a.example.test"]).await.unwrap_err();
        assert_eq!(refused.retry_after, Some(3600), "that of the bucket, not that of the cap");
        assert_eq!(server.world.db.texts("SELECT id AS value FROM acme_orders").await.len(), 1, "nothing was written");
        server.world.clock.advance(Duration::from_secs(3600));
        let refused = client.order(&["a.example.test"]).await.unwrap_err();
        assert_eq!((refused.problem.status, refused.retry_after), (429, Some(60)));
    }
}
