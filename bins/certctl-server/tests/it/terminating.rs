//! SIGTERM with work in flight.

use certctl_testkit::{
    TestDb,
    client::{Client, answer, message},
    database, db_tests,
    procs::child::Signal,
};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::program::{ADMIN_KEY, Home, Process};

/// A server that makes keys itself, on a database with an owner, a team and a policy.
async fn home(db: &TestDb) -> Home {
    db.seed_basics().await;
    Home::on(db.url())
        .set("KEYGEN_MODE", "server")
        .set("DEMO_MODE_ACK", "true")
}

/// Sends half of a request, signals, and gives the rest when the server says that it ends.
async fn ends_in_the_middle_of_a_request(process: &mut Process<'_>, client: &Client) -> u16 {
    let body = r#"{"id":"t-late","name":"Late"}"#;
    let (head, body) = message("POST", "/api/v1/teams", ADMIN_KEY, body);
    let mut stream = client.connect().await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body.as_bytes()[..10]).await.unwrap();
    stream.flush().await.unwrap();
    // The server has taken the connection when it has answered one that came after it.
    assert_eq!(client.get("/ready", "").await.status, 200);
    process.signal(Signal::SIGTERM);
    process.says("shutting down").await;
    stream.write_all(&body.as_bytes()[10..]).await.unwrap();
    answer(&mut stream).await.status
}

db_tests! {
    async fn a_request_in_flight_is_answered(db: TestDb) {
        let home = home(&db).await;
        let (mut process, client) = home.start(None).await;
        assert_eq!(ends_in_the_middle_of_a_request(&mut process, &client).await, 201);
        let status = process.ended().await;
        assert!(status.success(), "{status}: {}", home.log());
        assert!(TcpStream::connect(("127.0.0.1", home.port)).await.is_err(), "nobody listens any more");
        assert_eq!(db.texts("SELECT id AS value FROM teams WHERE id = 't-late'").await.len(), 1);
    }
}

mod postgres {
    use super::*;

    /// The job cannot be stored while the test holds the table, so it is in flight for as long as the test wants.
    #[test]
    fn a_job_and_a_request_in_flight_are_finished() {
        database::run(TestDb::postgres, |db| async move {
            let home = home(&db).await;
            let (mut process, client) = home.start(None).await;
            let certificate = r#"{"id":"mc-1","name":"one","common_name":"one.example.test","owner_id":"o-alice","team_id":"t-platform",
                "issuer_id":"iss-local","renewal_policy_id":"rp-standard"}"#;
            let made = client.call("POST", "/api/v1/certificates", ADMIN_KEY, certificate);
            assert_eq!(made.await.status, 201);
            let held = db
                .hold("BEGIN; LOCK TABLE certificate_versions IN EXCLUSIVE MODE")
                .await;
            let renewed = client.call("POST", "/api/v1/certificates/mc-1/renew", ADMIN_KEY, "");
            assert_eq!(renewed.await.status, 202);
            let waiting = "SELECT count(*)::text AS value FROM pg_locks WHERE NOT granted \
                AND relation = 'certificate_versions'::regclass";
            process
                .until("the job is being stored", async |_| {
                    db.text(waiting).await == "1"
                })
                .await;
            let answered = ends_in_the_middle_of_a_request(&mut process, &client).await;
            assert_eq!(answered, 201);
            let jobs = "SELECT status AS value FROM jobs WHERE type = 'Issuance'";
            assert_eq!(db.texts(jobs).await, ["Running"], "the server waits for it");
            drop(held);
            let status = process.ended().await;
            assert!(status.success(), "{status}: {}", home.log());
            assert_eq!(db.texts(jobs).await, ["Completed"]);
            let versions = "SELECT certificate_id AS value FROM certificate_versions";
            assert_eq!(db.texts(versions).await, ["mc-1"]);
            assert_eq!(
                db.texts("SELECT id AS value FROM teams WHERE id = 't-late'")
                    .await,
                ["t-late"]
            );
        });
    }
}
