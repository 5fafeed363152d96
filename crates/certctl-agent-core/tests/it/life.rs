//! One certificate's life on one host, with real services.

use std::time::Duration;

use certctl_connectors::probe::{Endpoint, Presented, Prober};
use serde_json::Value;

use crate::{
    bench::{Bench, Running, eventually},
    server::awaiting,
    services::{Kind, Service},
};

/// Every service lives through the same.
macro_rules! on_each_service {
    ($($name:ident $kind:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                a_certificate_is_asked_for_served_proved_and_renewed(Kind::$kind).await;
            }
        )+
    };
}

on_each_service!(
    a_certificate_lives_in_nginx Nginx,
    a_certificate_lives_in_apache Apache,
    a_certificate_lives_in_haproxy HaProxy,
    a_certificate_lives_on_an_f5 F5,
);

async fn a_certificate_is_asked_for_served_proved_and_renewed(kind: Kind) {
    let bench = Bench::start().await;
    let service = Service::start(kind, &bench).await;
    bench.server.state().deploy_when_signed = Some((kind.target_type(), service.target.clone()));

    let running = Running::start(bench.agent());
    let (mut served, mut keys) = (Vec::new(), Vec::new());
    for round in 1..=2 {
        let outcome = renew(&bench, round).await;
        assert_eq!(outcome["status"], "Completed", "{outcome}");
        assert_eq!(outcome["deploy"]["verify"], "success", "{outcome}");
        assert_eq!(outcome["deploy"]["outcome"], "success", "{outcome}");
        assert_eq!(outcome["deploy"]["rollback"], "none", "{outcome}");

        let seen = bench.server.calls("verify").pop().unwrap().body;
        let expected = seen["expected_fingerprint"].as_str().unwrap();
        assert_eq!(seen["actual_fingerprint"], expected);
        let presented = presented(service.port, expected).await;
        assert_eq!(seen["verified"], true);
        assert_eq!(presented.chain.len(), 2, "leaf and issuer");
        served.push(presented.fingerprint_sha256);
        // Proved, so the key before it is gone.
        assert_eq!(bench.keys().into_keys().collect::<Vec<_>>(), ["mc-1.key"]);
        keys.push(bench.keys()["mc-1.key"].clone());
    }
    assert_ne!(served[0], served[1], "another certificate");
    assert_ne!(keys[0], keys[1], "for another key");

    service.break_it();
    let outcome = renew(&bench, 3).await;
    assert_eq!(outcome["status"], "Failed", "{outcome}");
    assert_eq!(outcome["deploy"]["outcome"], "validate_failed", "{outcome}");
    assert_eq!(outcome["deploy"]["rollback"], "restored", "{outcome}");
    let said = outcome["error"].as_str().unwrap();
    assert!(said.contains(kind.stopped_with()), "{said}");
    let live = Prober::new()
        .probe(&Endpoint::new("127.0.0.1", service.port), PATIENCE)
        .await
        .unwrap();
    assert_eq!(live.fingerprint_sha256, served[1], "what was served is");

    running.stop().await;
    let order: Vec<String> = bench
        .server
        .calls("status")
        .iter()
        .map(|c| c.body["status"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        order,
        [
            "Running",
            "Completed",
            "Running",
            "Completed",
            "Running",
            "Failed"
        ]
    );
}

/// Has the certificate renewed, and waits for the report of its deployment.
async fn renew(bench: &Bench, round: u32) -> Value {
    let item = awaiting(&format!("job-{round}"), "mc-1", "web.test");
    bench.server.state().awaiting.push(item);
    let job = format!("deploy-{round}");
    eventually("the deployment is reported", || {
        bench.server.outcome(&job).is_some()
    })
    .await;
    bench.server.outcome(&job).unwrap()
}

const PATIENCE: Duration = Duration::from_secs(10);

/// What is presented once it is the expected certificate: for a moment after a reload old workers still answer.
async fn presented(port: u16, expected: &str) -> Presented {
    let (prober, at) = (Prober::new(), Endpoint::new("127.0.0.1", port));
    for _ in 0..500 {
        let seen = prober.probe(&at, PATIENCE).await.unwrap();
        if seen.fingerprint_sha256 == expected {
            return seen;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{expected} is never served");
}
