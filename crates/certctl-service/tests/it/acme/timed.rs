//! What takes time, with a clock that the test moves (acme-server §6, §7).
//!
//! The clock of the runtime stands still or is moved while nobody waits for the database, and runs otherwise: the pools of the
//! database have times of their own. So what a test lets pass is the least that passes.

use std::time::Duration;

use certctl_service::acme::{AcmeConfig, OrderAnswer};
use certctl_testkit::TestDb;
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time};
use tokio_util::sync::CancellationToken;

use super::{
    kit::{Client, Server, acme_config, challenge_of},
    metrics::one_thread_tests,
};

/// Lets so much time pass, at once.
async fn pass(seconds: u64) {
    time::pause();
    time::advance(Duration::from_secs(seconds)).await;
    time::resume();
}

/// Gives everybody a turn, while the clock stands still.
async fn turn() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

struct Looking {
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Looking {
    fn start(server: &Server) -> Self {
        let stop = CancellationToken::new();
        let (acme, token) = (server.acme(), stop.clone());
        let running = tokio::spawn(async move { acme.run_challenges(&token).await });
        Self { stop, running }
    }

    /// To the end, since a query that is dropped on the way is not borne by a runtime of one thread.
    async fn end(self) {
        self.stop.cancel();
        self.running.await.unwrap();
    }
}

/// The authorisation for a name.
async fn of(client: &Client, order: &OrderAnswer, name: &str) -> Value {
    let all = client.authorizations(order).await;
    let found = all
        .into_iter()
        .find(|one| one["identifier"]["value"] == name);
    found.unwrap()
}

/// Waits until an authorisation is not pending; the error of its challenge.
async fn ended(client: &Client, order: &OrderAnswer, name: &str) -> Value {
    loop {
        let authorization = of(client, order, name).await;
        if authorization["status"] != "pending" {
            let challenges = authorization["challenges"].as_array().unwrap();
            let looked_at = challenges.iter().find(|one| one["type"] == "http-01");
            return looked_at.unwrap()["error"]["type"].clone();
        }
        tokio::task::yield_now().await;
    }
}

const CONNECTION: &str = "urn:ietf:params:acme:error:connection";

/// An order of two names, of whose challenges the first is looked at until its gate opens, and the second waits for that.
async fn one_waits_for_the_other(server: &Server, client: &Client) -> OrderAnswer {
    let order = client
        .order(&["a.example.test", "b.example.test"])
        .await
        .unwrap();
    for (name, count) in [("a.example.test", 1), ("b.example.test", 1)] {
        let authorization = of(client, &order, name).await;
        client
            .respond(&challenge_of(&authorization, "http-01"))
            .await
            .unwrap();
        server.proofs.asked_for(count).await;
    }
    order
}

one_thread_tests! {
    async fn the_half_minute_of_a_challenge_begins_when_it_is_taken_up(db: TestDb) {
        let server = Server::challenging(db, AcmeConfig { http01_concurrency: 1, ..acme_config() }).await;
        let client = server.client().await;
        let gate = server.proofs.hold("a.example.test");
        server.proofs.hold("b.example.test");
        let looking = Looking::start(&server);
        let order = one_waits_for_the_other(&server, &client).await;
        pass(15).await;
        gate.add_permits(1);
        server.proofs.asked_for(2).await;
        // Half of its time went by while it waited.
        pass(16).await;
        assert_eq!(ended(&client, &order, "b.example.test").await, CONNECTION);
        assert_eq!(ended(&client, &order, "a.example.test").await, Value::Null, "this one was proved");
        assert_eq!(client.settle(&order).await, "invalid");
        looking.end().await;
    }

    async fn a_challenge_whose_time_went_by_while_it_waited_is_not_looked_at(db: TestDb) {
        let server = Server::challenging(db, AcmeConfig { http01_concurrency: 1, ..acme_config() }).await;
        let client = server.client().await;
        server.proofs.hold("a.example.test");
        let looking = Looking::start(&server);
        let order = one_waits_for_the_other(&server, &client).await;
        pass(31).await;
        for name in ["a.example.test", "b.example.test"] {
            assert_eq!(ended(&client, &order, name).await, CONNECTION);
        }
        assert_eq!(server.proofs.names(), ["a.example.test"]);
        let failing = server.world.db.texts("SELECT identifier_value AS value FROM acme_failing_names").await;
        assert_eq!(failing, ["a.example.test"], "nobody's name is paused because the server was busy");
        looking.end().await;
    }

    async fn a_proof_is_looked_for_again_after_five_and_after_fifteen_seconds(db: TestDb) {
        let config = AcmeConfig { challenge_tries: AcmeConfig::default().challenge_tries, ..acme_config() };
        let server = Server::challenging(db, config).await;
        let client = server.client().await;
        server.proofs.fail("a.example.test");
        let gate = server.proofs.hold("a.example.test");
        let looking = Looking::start(&server);
        let order = client.order(&["a.example.test"]).await.unwrap();
        let challenge = challenge_of(&of(&client, &order, "a.example.test").await, "http-01");
        client.respond(&challenge).await.unwrap();
        server.proofs.asked_for(1).await;
        // Nobody asks the database between the tries.
        time::pause();
        gate.add_permits(2);
        turn().await;
        for (seconds, tries) in [(4, 1), (1, 2), (14, 2), (1, 3)] {
            time::advance(Duration::from_secs(seconds) + Duration::from_millis(1)).await;
            turn().await;
            assert_eq!(server.proofs.names().len(), tries, "{seconds} s more");
        }
        time::resume();
        gate.add_permits(1);
        let error = ended(&client, &order, "a.example.test").await;
        assert_eq!(error, json!("urn:ietf:params:acme:error:incorrectResponse"));
        assert_eq!(server.proofs.names().len(), 3);
        looking.end().await;
    }
}
