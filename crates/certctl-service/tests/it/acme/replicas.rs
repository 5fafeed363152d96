//! What happens at two replicas at the same moment happens once.

use certctl_acme::{ari::CertId, client::Signer};
use certctl_pki::{cert::ParsedCertificate, key::PrivateKey};
use certctl_service::acme::AcmeConfig;
use certctl_testkit::{TestDb, db_tests};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    accounts::roll,
    kit::{Client, Server, acme_config, body, challenge_of, key, leaf, problem, serving},
};

/// One account at two replicas.
async fn at_two(server: &Server, config: AcmeConfig) -> (Client, Client) {
    let (mut here, mut there) = strangers(server, config);
    here.register(json!({})).await.unwrap();
    there.kid.clone_from(&here.kid);
    there.id.clone_from(&here.id);
    (here, there)
}

/// One key at two replicas, without an account.
fn strangers(server: &Server, config: AcmeConfig) -> (Client, Client) {
    let (other, _) = server.world.replica("other:2", serving(config));
    let pem = key().to_pem();
    let signer = || Signer::new(PrivateKey::from_pem(pem.expose()).unwrap()).unwrap();
    let here = Client {
        signer: signer(),
        ..server.stranger()
    };
    let there = Client {
        signer: signer(),
        ..Client::of(&other)
    };
    (here, there)
}

db_tests! {
    async fn an_account_is_made_once(db: TestDb) {
        let server = Server::new(db).await;
        for _ in 0..5 {
            let (mut here, mut there) = strangers(&server, acme_config());
            let (a, b) = tokio::join!(here.register(json!({})), there.register(json!({})));
            let (a, b) = (a.unwrap(), b.unwrap());
            assert_eq!(a.id, b.id);
            assert!(a.created != b.created, "one of them made it");
        }
        assert_eq!(server.world.recorded("acme_account_created").await, 5);
    }

    async fn an_order_is_finalised_once(db: TestDb) {
        let server = Server::new(db).await;
        let (here, there) = at_two(&server, acme_config()).await;
        for round in 1..=5 {
            let id = here.order(&["a.example.test"]).await.unwrap().id.to_string();
            let names = ["a.example.test"];
            let (a, b) = tokio::join!(here.finalize(&id, &names), there.finalize(&id, &names));
            assert_eq!((a.unwrap().retry_after, b.unwrap().retry_after), (Some(3), Some(3)), "both are told that it is under way");
            assert_eq!(server.world.work().await.completed, 1);
            assert_eq!(there.status(&id).await, "valid");
            assert_eq!(server.world.versions().await.len(), round);
        }
        assert_eq!(server.world.recorded("acme_order_processing").await, 5);
    }

    async fn a_certificate_is_replaced_by_one_order(db: TestDb) {
        let server = Server::new(db).await;
        let (here, there) = at_two(&server, acme_config()).await;
        for _ in 0..5 {
            let (_, download) = server.issued(&here, "a.example.test").await;
            let id = CertId::of_certificate(&ParsedCertificate::from_der(&leaf(&download)).unwrap()).unwrap();
            let replaces = json!({"replaces": id.to_string()});
            let (a, b) = tokio::join!(
                here.order_with(&["a.example.test"], replaces.clone()),
                there.order_with(&["a.example.test"], replaces.clone())
            );
            let (made, refused) = if a.is_ok() { (a, b) } else { (b, a) };
            assert_eq!(body(&made.unwrap().order)["replaces"], replaces["replaces"]);
            assert_eq!(problem(refused), "409 alreadyReplaced");
        }
    }

    async fn a_key_is_changed_once(db: TestDb) {
        let server = Server::new(db).await;
        for _ in 0..5 {
            let (here, there) = at_two(&server, acme_config()).await;
            let keys = [(); 2].map(|()| Signer::new(key()).unwrap());
            let (a, b) = tokio::join!(roll(&here, &keys[0]), roll(&there, &keys[1]));
            assert!(a.is_ok() != b.is_ok());
            let refused = problem(if a.is_ok() { b } else { a });
            // Either it came to the swap, or the key that signed was dead before.
            assert!(["409 unauthorized", "401 unauthorized"].contains(&refused.as_str()), "{refused}");
        }
        assert_eq!(server.world.recorded("acme_account_key_rolled").await, 5);
    }

    async fn the_last_of_two_proofs_makes_the_order_ready(db: TestDb) {
        let server = Server::challenging(db, acme_config()).await;
        let (here, there) = at_two(&server, acme_config()).await;
        let stop = CancellationToken::new();
        let _guard = stop.clone().drop_guard();
        for acme in [here.acme.clone(), there.acme.clone()] {
            let stop = stop.clone();
            tokio::spawn(async move { acme.run_challenges(&stop).await });
        }
        for round in 1..=5 {
            let names = [format!("a{round}.example.test"), format!("b{round}.example.test")];
            let gates = names.each_ref().map(|name| server.proofs.hold(name));
            let order = here.order(&names.each_ref().map(String::as_str)).await.unwrap();
            let authorizations = here.authorizations(&order).await;
            here.respond(&challenge_of(&authorizations[0], "http-01")).await.unwrap();
            there.respond(&challenge_of(&authorizations[1], "http-01")).await.unwrap();
            server.proofs.asked_for(2 * round).await;
            for gate in gates {
                gate.add_permits(1);
            }
            assert_eq!(here.settle(&order).await, "ready");
        }
    }
}
