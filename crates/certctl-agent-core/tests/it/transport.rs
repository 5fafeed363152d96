//! Whom the agent talks to, and what it takes from them.

use std::sync::Arc;

use certctl_agent_core::{Agent, Error};
use certctl_domain::time::SystemClock;
use certctl_testkit::ca::Ca;

use crate::{bench::Bench, server::How};

fn agent(config: certctl_agent_core::AgentConfig) -> Result<Agent, Error> {
    Agent::new(config, Arc::new(SystemClock))
}

#[tokio::test]
async fn a_server_of_another_root_is_not_talked_to_unless_told_so() {
    let bench = Bench::start().await;
    let other = bench.folder().join("other.pem");
    std::fs::write(&other, Ca::new("Another Root").root_pem()).unwrap();
    let mut config = bench.config();
    config.server.ca_bundle = Some(other);
    let refused = agent(config.clone()).unwrap().heartbeat().await;
    assert!(matches!(refused, Err(Error::Unreachable { .. })));
    assert!(bench.server.calls("heartbeat").is_empty());

    config.server.insecure_skip_verify = true;
    agent(config).unwrap().heartbeat().await.unwrap();
}

#[tokio::test]
async fn what_makes_no_agent_stops_the_start() {
    let bench = Bench::start().await;
    for url in [
        "http://localhost:8443",
        "localhost:8443",
        "",
        "https://",
        "https://a/path",
        "https://me@a",
    ] {
        let mut config = bench.config();
        config.server.url = url.to_owned();
        assert!(matches!(agent(config), Err(Error::ServerUrl(_))), "{url}");
    }
    let empty = bench.folder().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    for bundle in [empty, bench.folder().join("missing.pem")] {
        let mut config = bench.config();
        config.server.ca_bundle = Some(bundle);
        assert!(matches!(agent(config), Err(Error::CaBundle { .. })));
    }
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_its_end() {
    let bench = Bench::start().await;
    bench.server.fault("work", 1, How::Flood(5 * 1024 * 1024));
    let refused = bench.agent().poll_once().await;
    assert!(
        matches!(refused, Err(Error::BadAnswer { ref problem, .. }) if problem == "longer than 4 MiB"),
        "{refused:?}"
    );
    bench.server.fault("work", 1, How::Flood(1024));
    let refused = bench.agent().poll_once().await.unwrap_err();
    assert!(matches!(refused, Error::BadAnswer { .. }) && refused.is_transient());
}

#[tokio::test]
async fn a_server_that_is_away_is_a_passing_failure() {
    let bench = Bench::start().await;
    let mut config = bench.config();
    config.server.url = "https://127.0.0.1:1".to_owned();
    let failure = agent(config).unwrap().heartbeat().await.unwrap_err();
    assert!(matches!(failure, Error::Unreachable { .. }) && failure.is_transient());
}
