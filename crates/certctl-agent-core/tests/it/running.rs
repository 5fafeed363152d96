//! The loops: retirement, refusals, and who may make the agent wait.

use certctl_agent_core::{End, Error};

use crate::{
    bench::{Bench, Running, eventually},
    server::{How, awaiting, deployment},
};

#[tokio::test]
async fn gone_in_answer_to_any_call_ends_the_agent() {
    for name in [
        "heartbeat",
        "work",
        "csr",
        "certificates",
        "status",
        "verify",
    ] {
        let bench = Bench::start().await;
        bench.has_live_pair("mc-1");
        let mut target = bench.target();
        target["post_deploy_verify"] =
            serde_json::json!({"endpoint": "127.0.0.1:1", "enabled": false});
        let mut item = deployment("job-1", "mc-1", "tgt-1", &target);
        item["verify"] = serde_json::json!({"enabled": true, "timeout": "1s", "delay": "0s"});
        {
            let mut state = bench.server.state();
            state.deployments.push(item);
            state.awaiting.push(awaiting("job-2", "mc-2", "a.test"));
        }
        bench.server.fault(name, 1, How::Refuse(410));
        let end = Running::start(bench.agent()).ends_by_itself().await;
        assert_eq!(end, End::Retired, "{name}");
    }
}

#[tokio::test]
async fn an_agent_that_is_refused_keeps_trying() {
    for status in [401, 403, 404, 500, 503] {
        let bench = Bench::start().await;
        bench.server.fault("heartbeat", 2, How::Refuse(status));
        bench.server.fault("work", 2, How::Refuse(status));
        let running = Running::start(bench.agent());
        eventually("calls go through again", || {
            bench.server.calls("heartbeat").len() > 3 && bench.server.calls("work").len() > 3
        })
        .await;
        assert_eq!(running.stop().await, End::Stopped);
    }
}

#[tokio::test]
async fn the_heartbeat_describes_the_host() {
    let bench = Bench::start().await;
    bench.agent().heartbeat().await.unwrap();
    let body = bench.server.calls("heartbeat").remove(0).body;
    assert_eq!(body["version"], "9.8.7");
    assert_eq!(body["ip_address"], "127.0.0.1");
    assert_eq!(body["os"], "linux");
    assert!(!body["hostname"].as_str().unwrap().is_empty());
}

#[tokio::test]
async fn a_signed_certificate_is_deployed_without_waiting_for_the_next_poll() {
    let bench = Bench::start().await;
    {
        let mut state = bench.server.state();
        state.awaiting.push(awaiting("job-1", "mc-1", "a.test"));
        let mut target = bench.target();
        target["post_deploy_verify"] =
            serde_json::json!({"endpoint": "127.0.0.1:1", "enabled": false});
        state.deploy_when_signed = Some(("NGINX", target));
    }
    let mut config = bench.config();
    // So long that a second regular poll cannot come within this test.
    config.poll_interval = std::time::Duration::from_secs(3600);
    let agent = certctl_agent_core::Agent::new(
        config,
        std::sync::Arc::new(certctl_domain::time::SystemClock),
    )
    .unwrap();
    let running = Running::start(agent);
    eventually("the certificate is deployed", || {
        bench.server.outcome("deploy-1").is_some()
    })
    .await;
    running.stop().await;
    let outcome = bench.server.outcome("deploy-1").unwrap();
    assert_eq!(outcome["status"], "Completed", "{outcome}");
    assert_eq!(outcome["deploy"]["verify"], "failed");
    let seen = bench.server.calls("verify").remove(0).body;
    assert_eq!(
        (
            seen["verified"].as_bool(),
            seen["actual_fingerprint"].as_str()
        ),
        (Some(false), Some(""))
    );
    assert!(
        seen["error"]
            .as_str()
            .unwrap()
            .contains("no TLS handshake with 127.0.0.1:1"),
        "{seen}"
    );
    assert_eq!(bench.server.calls("work").len(), 2);
}

#[tokio::test]
async fn a_certificate_that_is_signed_a_little_later_is_looked_after() {
    let bench = Bench::start().await;
    bench
        .server
        .state()
        .awaiting
        .push(awaiting("job-1", "mc-1", "a.test"));
    let mut config = bench.config();
    config.poll_interval = std::time::Duration::from_secs(3600);
    let agent = certctl_agent_core::Agent::new(
        config,
        std::sync::Arc::new(certctl_domain::time::SystemClock),
    )
    .unwrap();
    let running = Running::start(agent);
    eventually("the agent looks again", || {
        bench.server.calls("work").len() >= 3
    })
    .await;
    let mut item = deployment("deploy-1", "mc-1", "tgt-1", &bench.target());
    item["verify"] = serde_json::json!({"enabled": false});
    bench.server.state().deployments.push(item);
    eventually("the certificate is deployed", || {
        bench.server.outcome("deploy-1").is_some()
    })
    .await;
    running.stop().await;
    assert_eq!(
        bench.server.outcome("deploy-1").unwrap()["status"],
        "Completed"
    );
}

#[tokio::test]
async fn retirement_is_an_error_of_its_own() {
    let bench = Bench::start().await;
    bench.server.fault("work", 1, How::Refuse(410));
    assert!(matches!(
        bench.agent().poll_once().await,
        Err(Error::Retired)
    ));
}
