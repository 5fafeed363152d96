//! Keys and signing requests.

use std::fs;

use certctl_agent_core::Polled;
use certctl_domain::name::SubjectAltName;
use certctl_pki::csr::Csr;
use serde_json::json;

use crate::{
    bench::Bench,
    server::{API_KEY, How, awaiting},
};

fn csr_of(call: &crate::server::Call) -> Csr {
    Csr::parse_pem(call.body["csr_pem"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn a_request_holds_what_the_work_asks_for_and_the_key_stays() {
    let bench = Bench::start().await;
    let mut item = awaiting("job-1", "mc-1", "a.test");
    item["sans"] = json!(["a.test", "10.1.2.3", "ops@a.test", "spiffe://a.test/w"]);
    item["key_algorithm"] = json!("ECDSA-P384");
    item["must_staple"] = json!(true);
    bench.server.state().awaiting.push(item);
    let polled = bench.agent().poll_once().await.unwrap();
    assert_eq!(
        polled,
        Polled {
            accepted: 1,
            deployments: 0
        }
    );

    let sent = bench.server.calls("csr").remove(0);
    assert_eq!(sent.body["job_id"], "job-1");
    assert_eq!(sent.body["certificate_id"], "mc-1");
    let csr = csr_of(&sent);
    assert_eq!(csr.common_name(), Some("a.test"));
    assert_eq!(csr.key_bits(), 384);
    assert!(csr.must_staple());
    assert_eq!(
        csr.sans(),
        ["a.test", "10.1.2.3", "ops@a.test", "spiffe://a.test/w"]
            .map(|n| SubjectAltName::parse(n).unwrap())
    );
    assert!(bench.keys()["mc-1.key.pending"].contains("EC PRIVATE KEY"));
    for call in &bench.server.state().calls {
        assert!(
            !call.text.contains("PRIVATE KEY") && !call.text.contains(API_KEY),
            "{call:?}"
        );
        assert_eq!(call.user_agent, "certctl-agent/9.8.7");
    }
}

#[tokio::test]
async fn a_lost_request_is_sent_again_with_the_same_key() {
    let bench = Bench::start().await;
    bench
        .server
        .state()
        .awaiting
        .push(awaiting("job-1", "mc-1", "a.test"));
    bench.server.fault("csr", 2, How::Refuse(503));
    for _ in 0..3 {
        // A new agent each time: what is known must be on disk.
        bench.agent().poll_once().await.unwrap();
    }
    let keys: Vec<Vec<u8>> = bench
        .server
        .calls("csr")
        .iter()
        .map(|c| csr_of(c).spki_der().to_vec())
        .collect();
    assert_eq!(keys.len(), 3);
    assert!(keys.iter().all(|key| *key == keys[0]));
    assert_eq!(bench.server.outcome("job-1"), None, "nothing has failed");
}

#[tokio::test]
async fn a_lost_answer_costs_neither_a_second_key_nor_the_first() {
    let bench = Bench::start().await;
    let item = awaiting("job-1", "mc-1", "a.test");
    {
        let mut state = bench.server.state();
        state.awaiting.push(item.clone());
        state.deploy_when_signed = Some(("NGINX", bench.target()));
    }
    bench.server.fault("csr", 1, How::Lose);
    let agent = bench.agent();
    agent.poll_once().await.unwrap();
    // A poll that crosses with the signing hands the item out once more; by then nothing waits.
    let deployments = std::mem::take(&mut bench.server.state().deployments);
    bench.server.state().awaiting.push(item);
    bench.server.fault("csr", 1, How::Refuse(409));
    agent.poll_once().await.unwrap();
    bench.server.state().awaiting.clear();
    bench.server.state().deployments = deployments;
    agent.poll_once().await.unwrap();

    let sent = bench.server.calls("csr");
    assert_eq!(sent.len(), 2);
    assert_eq!(csr_of(&sent[0]).spki_der(), csr_of(&sent[1]).spki_der());
    assert_eq!(
        bench.server.outcome("deploy-1").unwrap()["status"],
        "Completed"
    );
    assert_eq!(bench.keys().into_keys().collect::<Vec<_>>(), ["mc-1.key"]);
}

#[tokio::test]
async fn a_request_that_somebody_else_won_leaves_nothing() {
    let bench = Bench::start().await;
    bench
        .server
        .state()
        .awaiting
        .push(awaiting("job-1", "mc-1", "a.test"));
    bench.server.fault("csr", 1, How::Refuse(409));
    bench.agent().poll_once().await.unwrap();
    assert!(bench.keys().is_empty());
    assert_eq!(bench.server.outcome("job-1"), None, "that is no failure");
}

#[tokio::test]
async fn a_refused_renewal_leaves_the_live_pair_alone_and_says_why() {
    for status in [400, 422] {
        let bench = Bench::start().await;
        let (chain, key) = bench.has_live_pair("mc-1");
        fs::write(bench.tls("cert.pem"), &chain).unwrap();
        fs::write(bench.tls("key.pem"), &key).unwrap();
        bench
            .server
            .state()
            .awaiting
            .push(awaiting("job-1", "mc-1", "live.test"));
        bench.server.fault("csr", 9, How::Refuse(status));
        bench.agent().poll_once().await.unwrap();

        let outcome = bench.server.outcome("job-1").unwrap();
        assert_eq!(outcome["status"], "Failed");
        let said = outcome["error"].as_str().unwrap();
        assert!(
            said.contains(&status.to_string()) && said.contains("told to refuse"),
            "{said}"
        );
        assert_eq!(bench.keys(), [("mc-1.key".to_owned(), key.clone())].into());
        assert_eq!(fs::read_to_string(bench.tls("cert.pem")).unwrap(), chain);
        assert_eq!(fs::read_to_string(bench.tls("key.pem")).unwrap(), key);
    }
}

#[tokio::test]
async fn work_that_makes_no_sense_fails_by_name_and_the_rest_is_done() {
    let bench = Bench::start().await;
    let mut strange = awaiting("job-1", "mc-1", "a.test");
    strange["key_algorithm"] = json!("DSA-1024");
    let mut escaping = awaiting("job-2", "../mc-2", "b.test");
    escaping["sans"] = json!(["b.test"]);
    let mut bad_name = awaiting("job-3", "mc-3", "c.test");
    bad_name["sans"] = json!(["c..test"]);
    let good = awaiting("job-4", "mc-4", "d.test");
    bench.server.state().awaiting = vec![strange, escaping, bad_name, json!(5), good];
    bench.agent().poll_once().await.unwrap();
    for (job, said) in [
        ("job-1", "DSA-1024"),
        ("job-2", "certificate_id"),
        ("job-3", "c..test"),
    ] {
        let outcome = bench.server.outcome(job).unwrap();
        assert!(
            outcome["error"].as_str().unwrap().contains(said),
            "{outcome}"
        );
    }
    assert!(bench.server.state().certificates.contains_key("mc-4"));
    assert_eq!(bench.keys().len(), 2, "a key and its note, for mc-4");
}
