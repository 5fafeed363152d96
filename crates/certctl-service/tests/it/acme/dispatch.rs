//! Who looks at challenges, how many at once, and what becomes of them when a server ends (acme-server §6, §7).

use std::time::Duration;

use certctl_service::acme::{Acme, AcmeConfig, OrderAnswer};
use certctl_testkit::{TestDb, db_tests};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::kit::{Client, Server, acme_config, body, challenge_of, serving};

/// The http-01 challenges of an order, by name.
async fn challenges(client: &Client, order: &OrderAnswer) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = client
        .authorizations(order)
        .await
        .iter()
        .map(|one| {
            let name = one["identifier"]["value"].as_str().unwrap();
            (name.to_owned(), challenge_of(one, "http-01"))
        })
        .collect();
    found.sort_unstable();
    found
}

fn run(acme: Acme) -> (CancellationToken, JoinHandle<()>) {
    let stop = CancellationToken::new();
    let token = stop.clone();
    let running = tokio::spawn(async move { acme.run_challenges(&token).await });
    (stop, running)
}

/// Repeats a question until it is answered as it should be.
async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let repeated = async {
        while !is_so().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), repeated)
        .await
        .expect("it comes to that");
}

/// State of a challenge and when to ask again.
async fn respond(client: &Client, challenge: &str) -> (Value, Option<u64>) {
    let answer = client.respond(challenge).await.unwrap();
    (
        body(&answer.challenge)["status"].clone(),
        answer.retry_after,
    )
}

db_tests! {
    async fn a_challenge_stays_pending_while_too_many_wait(db: TestDb) {
        let config = AcmeConfig { challenge_queue: 2, challenge_responds_per_hour: 1, ..acme_config() };
        let server = Server::challenging(db, config).await;
        let client = server.client().await;
        let order = client.order(&["a.example.test", "b.example.test", "c.example.test"]).await.unwrap();
        let challenges = challenges(&client, &order).await;
        for (_, challenge) in &challenges[..2] {
            assert_eq!(respond(&client, challenge).await, ("processing".into(), Some(3)));
        }
        let last = &challenges[2].1;
        for _ in 0..3 {
            assert_eq!(respond(&client, last).await, ("pending".into(), Some(3)), "and nothing of its hour is used up");
        }
        let by_dns = challenge_of(&client.authorizations(&order).await[0], "dns-01");
        assert_eq!(respond(&client, &by_dns).await.0, "processing", "each type has a queue of its own");
        let _looking = server.look();
        until(async || respond(&client, last).await.0 != "pending").await;
        assert_eq!(client.settle(&order).await, "ready");
    }

    async fn what_waits_at_the_end_is_given_back_and_what_is_looked_at_ends(db: TestDb) {
        let config = AcmeConfig { http01_concurrency: 1, ..acme_config() };
        let server = Server::challenging(db, config.clone()).await;
        let client = server.client().await;
        let order = client.order(&["a.example.test", "b.example.test", "c.example.test", "d.example.test"]).await.unwrap();
        let challenges = challenges(&client, &order).await;
        let gate = server.proofs.hold("a.example.test");
        let (stop, running) = run(server.acme());
        respond(&client, &challenges[0].1).await;
        server.proofs.asked_for(1).await;
        for (_, challenge) in &challenges[1..3] {
            assert_eq!(respond(&client, challenge).await.0, "processing");
        }
        stop.cancel();
        // Long before their leases would run out, while the first one is still looked at.
        let (other, _) = server.world.replica("other:2", serving(config));
        let there = other.acme().unwrap();
        let mut taken = 0;
        until(async || {
            taken += there.recover_challenges().await.unwrap();
            taken == 2
        }).await;
        assert_eq!(server.proofs.names(), ["a.example.test"]);
        assert_eq!(respond(&client, &challenges[3].1).await, ("pending".into(), Some(3)), "nothing more is taken up");
        gate.add_permits(1);
        running.await.unwrap();
        let (_stop, _running) = run(there);
        let client = client.at(&other);
        assert_eq!(respond(&client, &challenges[3].1).await.0, "processing");
        assert_eq!(client.settle(&order).await, "ready");
        let mut names = server.proofs.names();
        names.sort_unstable();
        assert_eq!(names, ["a.example.test", "b.example.test", "c.example.test", "d.example.test"], "each was looked at once");
    }

    async fn what_nobody_looks_at_is_taken_up_by_the_sweep(db: TestDb) {
        let server = Server::challenging(db, acme_config()).await;
        let client = server.client().await;
        let order = client.order(&["a.example.test"]).await.unwrap();
        let challenges = challenges(&client, &order).await;
        respond(&client, &challenges[0].1).await;
        let (other, _) = server.world.replica("other:2", serving(acme_config()));
        let there = other.acme().unwrap();
        server.world.clock.advance(Duration::from_secs(59));
        assert_eq!(there.gc().await.unwrap().challenges, 0);
        server.world.clock.advance(Duration::from_secs(1));
        assert_eq!(there.gc().await.unwrap().challenges, 1, "after twice the time that it has");
        assert_eq!(there.gc().await.unwrap().challenges, 0, "once");
        let (_stop, _running) = run(there);
        assert_eq!(client.settle(&order).await, "ready");
        // Whoever had it before wakes up and is too late.
        let _looking = server.look();
        server.proofs.asked_for(2).await;
        assert_eq!(client.status(order.id.as_str()).await, "ready");
        assert_eq!(server.world.recorded("acme_challenge_completed").await, 1);
    }
}
