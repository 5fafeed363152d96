//! One certificate's life on one host, with a real nginx.

use std::{fs, time::Duration};

use certctl_connectors::probe::{Endpoint, Presented, Prober};
use certctl_testkit::{
    install::{Program, ensure},
    nginx::{self, free_port},
};
use serde_json::json;

use crate::{
    bench::{Bench, Running, eventually},
    server::awaiting,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_asked_for_served_proved_and_renewed() {
    ensure(&[Program::Nginx]).expect("this test needs nginx: install the package nginx");
    let bench = Bench::start().await;
    // nginx does not start without a pair, so it begins with one that nobody manages.
    let (chain, key) = bench.has_live_pair("elsewhere");
    fs::write(bench.tls("cert.pem"), chain).unwrap();
    fs::write(bench.tls("key.pem"), key).unwrap();
    fs::remove_dir_all(bench.key_dir()).unwrap();
    let port = free_port().unwrap();
    let conf = nginx::conf(&format!(
        "server {{ listen 127.0.0.1:{port} ssl; ssl_certificate tls/cert.pem; ssl_certificate_key tls/key.pem; }}"
    ));
    let web = nginx::Nginx::start(bench.folder(), &conf).unwrap();
    let command = format!(
        "{} -p {} -c {} -e error.log",
        Program::Nginx.require().unwrap().display(),
        web.prefix().display(),
        web.conf_path().display()
    );
    let mut target = bench.target();
    target["validate_command"] = json!(format!("{command} -t -q"));
    target["reload_command"] = json!(format!("{command} -s reload"));
    target["post_deploy_verify"] = json!({"endpoint": format!("127.0.0.1:{port}")});
    target["post_deploy_verify_backoff"] = json!("100ms");
    target["post_deploy_verify_attempts"] = json!(20);
    bench.server.state().deploy_when_signed = Some(target);

    let running = Running::start(bench.agent());
    let mut served = Vec::new();
    for round in 1..=2 {
        bench
            .server
            .state()
            .awaiting
            .push(awaiting(&format!("job-{round}"), "mc-1", "web.test"));
        let job = format!("deploy-{round}");
        eventually("the deployment is reported", || {
            bench.server.outcome(&job).is_some()
        })
        .await;
        let outcome = bench.server.outcome(&job).unwrap();
        assert_eq!(outcome["status"], "Completed", "{outcome}");
        assert_eq!(outcome["deploy"]["verify"], "success", "{outcome}");

        let seen = bench.server.calls("verify").pop().unwrap().body;
        let expected = seen["expected_fingerprint"].as_str().unwrap();
        assert_eq!(seen["actual_fingerprint"], expected);
        let presented = presented(port, expected).await;
        assert_eq!(seen["verified"], true);
        assert_eq!(presented.chain.len(), 2, "leaf and issuer");
        served.push((
            presented.fingerprint_sha256,
            fs::read_to_string(bench.tls("key.pem")).unwrap(),
        ));
        // Proved, so the key before it is gone.
        assert_eq!(bench.keys().into_keys().collect::<Vec<_>>(), ["mc-1.key"]);
    }
    running.stop().await;
    assert_ne!(served[0].0, served[1].0, "another certificate");
    assert_ne!(served[0].1, served[1].1, "for another key");
    let order: Vec<String> = bench
        .server
        .calls("status")
        .iter()
        .map(|c| c.body["status"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(order, ["Running", "Completed", "Running", "Completed"]);
}

/// What nginx presents once it is the expected certificate: for a moment after a reload old workers still answer.
async fn presented(port: u16, expected: &str) -> Presented {
    let (prober, at) = (Prober::new(), Endpoint::new("127.0.0.1", port));
    for _ in 0..500 {
        let seen = prober.probe(&at, Duration::from_secs(10)).await.unwrap();
        if seen.fingerprint_sha256 == expected {
            return seen;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{expected} is never served");
}
