use certctl_testkit::{TestDb, db_tests};
use tokio::io::AsyncWriteExt as _;

use crate::{
    client::{answer, message},
    installation::{ADMIN_KEY, Installation},
};

const CERTIFICATES: usize = 20;

db_tests! {
    // The way of SIGTERM: what is in flight is answered, what is being signed is stored, nothing is left held.
    async fn a_server_that_ends_answers_and_stores_what_it_began(db: TestDb) {
        db.seed_basics().await;
        let folder = Installation::on(db.url()).with_admin().set("KEYGEN_MODE", "server").set("DEMO_MODE_ACK", "true")
            .set("CONFIG_ENCRYPTION_KEY", "a test's encryption key of 32 bytes and more");
        let (running, client, _) = folder.start().await;
        for number in 0..CERTIFICATES {
            let body = format!(r#"{{"id":"mc-{number}","name":"n {number}","common_name":"n{number}.example.test","owner_id":"o-alice","team_id":"t-platform",
                "issuer_id":"iss-local","renewal_policy_id":"rp-standard"}}"#);
            assert_eq!(client.call("POST", "/api/v1/certificates", ADMIN_KEY, &body).await.status, 201);
            let path = format!("/api/v1/certificates/mc-{number}/renew");
            assert_eq!(client.call("POST", &path, ADMIN_KEY, "").await.status, 202);
        }
        // A request of which half has arrived.
        let (head, body) = message("POST", "/api/v1/teams", ADMIN_KEY, r#"{"id":"t-late","name":"Late"}"#);
        let mut stream = client.connect().await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body.as_bytes()[..10]).await.unwrap();
        stream.flush().await.unwrap();
        // The server has taken the connection when it has answered one that came after it.
        assert_eq!(client.get("/ready", "").await.status, 200);
        let ending = tokio::spawn(running.drain());
        stream.write_all(&body.as_bytes()[10..]).await.unwrap();
        assert_eq!(answer(&mut stream).await.status, 201);
        assert!(ending.await.unwrap(), "nothing had to be cut");
        assert!(client.connect().await.is_err(), "nobody listens any more");
        let states = db.texts("SELECT status AS value FROM jobs WHERE type = 'Issuance'").await;
        assert!(states.len() == CERTIFICATES && states.iter().all(|state| ["Completed", "Pending"].contains(&state.as_str())), "{states:?}");
        let versions = db.texts("SELECT certificate_id AS value FROM certificate_versions").await.len();
        assert_eq!(versions, states.iter().filter(|state| *state == "Completed").count(), "each signature is stored");
        assert_eq!(db.texts("SELECT id AS value FROM teams WHERE id = 't-late'").await.len(), 1);
        // What was given back is done by the next start.
        let (running, client, _) = folder.start().await;
        for number in 0..CERTIFICATES {
            let path = format!("/api/v1/certificates/mc-{number}");
            let done = async {
                while client.get(&path, ADMIN_KEY).await.json()["status"] != "Active" {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
            };
            tokio::time::timeout(std::time::Duration::from_secs(60), done).await.expect("it is issued");
        }
        assert!(running.drain().await);
        assert_eq!(db.texts("SELECT DISTINCT serial_number AS value FROM certificate_versions").await.len(), CERTIFICATES);
    }

    // What was answered is on record when the server has ended, however short a time before its end that was.
    async fn the_last_calls_of_the_api_are_in_the_trail_and_sealed(db: TestDb) {
        db.seed_basics().await;
        let (running, client, _) = Installation::on(db.url()).with_admin().start().await;
        for number in 0..CERTIFICATES {
            assert_eq!(client.get(&format!("/api/v1/teams/t-{number}"), ADMIN_KEY).await.status, 404);
        }
        assert!(running.drain().await);
        let calls = "SELECT resource_id AS value FROM audit_events WHERE resource_type = 'api' AND actor = 'admin'";
        assert_eq!(db.texts(calls).await.len(), CERTIFICATES);
        assert!(db.texts("SELECT event_id AS value FROM audit_unsealed").await.is_empty());
    }
}
