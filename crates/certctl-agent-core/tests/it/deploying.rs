//! Deployments and their reports.

use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use certctl_connectors::{
    deploy::{Error as DeployError, Rollback},
    target::{
        DeploymentRequest, DeploymentResult, Error, Registry, TargetConnector, ValidationResult,
    },
};
use certctl_domain::{key::KeySpec, target::TargetType, time::Timestamp};
use certctl_pki::key::PrivateKey;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::{
    bench::{Bench, Running, contents, eventually},
    server::{API_KEY, How, deployment},
};

/// A connector that does as it is told.
#[derive(Default)]
pub(crate) struct Puppet {
    /// Waited for in every deployment.
    gate: Option<Arc<Semaphore>>,
    fails_with: Option<String>,
    panics: bool,
    at_work: AtomicUsize,
    most_at_work: AtomicUsize,
    at_work_by_target: Mutex<Vec<String>>,
    done: AtomicUsize,
}

impl Puppet {
    fn registry(self: &Arc<Self>) -> Registry {
        Registry::default().with(
            TargetType::Nginx,
            Arc::clone(self) as Arc<dyn TargetConnector>,
        )
    }

    async fn work(&self, request: &DeploymentRequest) -> Result<DeploymentResult, Error> {
        let target = request.target_config["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        {
            let mut busy = self.at_work_by_target.lock().unwrap();
            assert!(
                target.is_empty() || !busy.contains(&target),
                "two deployments of {target} at once"
            );
            busy.push(target.clone());
        }
        let at_work = self.at_work.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_work.fetch_max(at_work, Ordering::SeqCst);
        if let Some(gate) = &self.gate {
            gate.acquire().await.unwrap().forget();
        }
        assert!(!self.panics, "told to panic");
        self.at_work.fetch_sub(1, Ordering::SeqCst);
        self.at_work_by_target
            .lock()
            .unwrap()
            .retain(|busy| *busy != target);
        self.done.fetch_add(1, Ordering::SeqCst);
        if let Some(said) = &self.fails_with {
            return Err(DeployError::ReloadFailed(said.clone()).into());
        }
        Ok(DeploymentResult {
            target_address: "puppet".into(),
            deployment_id: "puppet-1".into(),
            message: "done".into(),
            deployed_at: Timestamp::UNIX_EPOCH,
            idempotent: false,
            verified: false,
            metadata: [(
                "retention".to_owned(),
                request.target_config["backup_retention"].to_string(),
            )]
            .into(),
        })
    }
}

impl TargetConnector for Puppet {
    fn validate_config<'a>(&'a self, _: &'a Value) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async { Ok(()) })
    }
    fn deploy<'a>(
        &'a self,
        request: &'a DeploymentRequest,
    ) -> BoxFuture<'a, Result<DeploymentResult, Error>> {
        Box::pin(self.work(request))
    }
    fn validate_only<'a>(&'a self, _: &'a DeploymentRequest) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async { Err(Error::DryRunNotSupported) })
    }
    fn validate_deployment<'a>(
        &'a self,
        _: &'a Value,
        _: &'a str,
    ) -> BoxFuture<'a, Result<ValidationResult, Error>> {
        Box::pin(async { Err(Error::DryRunNotSupported) })
    }
}

fn unverified(job: &str, target: &str, config: &Value) -> Value {
    let mut item = deployment(job, "mc-1", target, config);
    item["verify"] = json!({"enabled": false});
    item
}

#[tokio::test]
async fn a_certificate_without_its_key_fails_and_touches_nothing() {
    let bench = Bench::start().await;
    let (_, key) = bench.has_live_pair("mc-1");
    let stranger = PrivateKey::generate(KeySpec::EcdsaP256).unwrap();
    let chain = bench.server.ca.certify(stranger.spki_der(), &["live.test"]);
    bench
        .server
        .state()
        .certificates
        .insert("mc-1".into(), json!({"certificate_pem": chain}));
    bench
        .server
        .state()
        .deployments
        .push(deployment("job-1", "mc-1", "tgt-1", &bench.target()));
    bench.agent().poll_once().await.unwrap();

    let outcome = bench.server.outcome("job-1").unwrap();
    assert_eq!(outcome["status"], "Failed");
    assert!(
        outcome["error"].as_str().unwrap().contains("key mismatch"),
        "{outcome}"
    );
    assert_eq!(outcome["deploy"]["outcome"], "key_mismatch");
    assert!(contents(&bench.tls("")).is_empty());
    assert_eq!(bench.keys()["mc-1.key"], key);
}

#[tokio::test]
async fn what_cannot_be_deployed_is_named() {
    let bench = Bench::start().await;
    bench.has_live_pair("mc-1");
    let mut other_type = deployment("job-1", "mc-1", "tgt-1", &bench.target());
    other_type["target_type"] = json!("Traefik");
    let unknown = deployment("job-2", "mc-unknown", "tgt-2", &bench.target());
    let mut dangerous = bench.target();
    dangerous["reload_command"] = json!("true; reboot");
    let dangerous = deployment("job-3", "mc-1", "tgt-3", &dangerous);
    let mut refusing = bench.target();
    refusing["validate_command"] = json!("ls /no/such/thing");
    let refusing = deployment("job-4", "mc-1", "tgt-4", &refusing);
    bench.server.state().deployments = vec![other_type, unknown, dangerous, refusing];
    bench.agent().poll_once().await.unwrap();
    for (job, kind, rollback, said) in [
        ("job-1", "unsupported", "none", "Traefik are not supported"),
        ("job-2", "certificate_unavailable", "none", "404"),
        (
            "job-3",
            "config_invalid",
            "none",
            "reload_command: holds the refused character",
        ),
        ("job-4", "validate_failed", "restored", "No such file"),
    ] {
        let outcome = bench.server.outcome(job).unwrap();
        assert_eq!(outcome["status"], "Failed");
        assert_eq!(outcome["deploy"]["outcome"], kind);
        assert_eq!(outcome["deploy"]["rollback"], rollback);
        assert!(
            outcome["error"].as_str().unwrap().contains(said),
            "{outcome}"
        );
    }
    assert!(contents(&bench.tls("")).is_empty());
}

#[tokio::test]
async fn a_result_is_kept_until_the_server_takes_it() {
    let bench = Bench::start().await;
    bench.has_live_pair("mc-1");
    bench
        .server
        .state()
        .deployments
        .push(unverified("job-1", "tgt-1", &bench.target()));
    // The first report is the start of the job, which is not repeated.
    bench.server.fault("status", 4, How::Refuse(503));
    bench.server.fault("status", 1, How::Lose);
    let running = Running::start(bench.agent());
    eventually("the job is reported as completed and delivered", || {
        let sent = bench.server.calls("status");
        sent.iter()
            .filter(|call| call.body["status"] == "Completed")
            .count()
            >= 5
    })
    .await;
    running.stop().await;
    let outcome = bench.server.outcome("job-1").unwrap();
    assert_eq!(outcome["deploy"]["outcome"], "success");
    assert_eq!(outcome["deploy"]["verify"], "skipped");
    let sent = bench.server.calls("status").len();
    assert_eq!(sent, 6, "one start, three refused, one lost, one delivered");
}

#[tokio::test]
async fn a_result_that_the_server_will_never_take_is_dropped() {
    for status in [400, 404, 409] {
        let bench = Bench::start().await;
        bench.has_live_pair("mc-1");
        bench
            .server
            .state()
            .deployments
            .push(unverified("job-1", "tgt-1", &bench.target()));
        bench.server.fault("status", 2, How::Refuse(status));
        let agent = bench.agent();
        agent.poll_once().await.unwrap();
        agent.poll_once().await.unwrap();
        assert_eq!(bench.server.calls("status").len(), 2);
    }
}

#[tokio::test]
async fn a_job_whose_result_is_not_delivered_is_not_done_again() {
    let bench = Bench::start().await;
    bench.has_live_pair("mc-1");
    let puppet = Arc::new(Puppet::default());
    let item = unverified("job-1", "tgt-1", &bench.target());
    bench.server.fault("status", 3, How::Refuse(500));
    let agent = bench.agent_with(puppet.registry());
    for _ in 0..2 {
        bench.server.state().deployments.push(item.clone());
        agent.poll_once().await.unwrap();
    }
    assert_eq!(puppet.done.load(Ordering::SeqCst), 1);
    assert_eq!(
        bench.server.outcome("job-1").unwrap()["status"],
        "Completed"
    );
}

#[tokio::test]
async fn a_failure_message_is_bounded_and_holds_no_secret() {
    let bench = Bench::start().await;
    bench.has_live_pair("mc-1");
    let said = format!(
        "key {API_KEY}\n-----BEGIN PRIVATE KEY-----\nY2FuYXJ5\n-----END PRIVATE KEY-----\n{}",
        "long ".repeat(5000)
    );
    let puppet = Arc::new(Puppet {
        fails_with: Some(said),
        ..Puppet::default()
    });
    bench
        .server
        .state()
        .deployments
        .push(unverified("job-1", "tgt-1", &bench.target()));
    bench
        .agent_with(puppet.registry())
        .poll_once()
        .await
        .unwrap();
    let outcome = bench.server.outcome("job-1").unwrap();
    let error = outcome["error"].as_str().unwrap();
    assert!(
        error.len() <= 2048 && error.starts_with("reload_failed: key <redacted>"),
        "{error}"
    );
    assert!(!error.contains("Y2FuYXJ5") && !error.contains("PRIVATE KEY"));
    assert_eq!(outcome["deploy"]["rollback"], Rollback::Restored.as_str());
}

#[tokio::test]
async fn a_fault_of_a_connector_fails_its_job_only() {
    let bench = Bench::start().await;
    bench.has_live_pair("mc-1");
    let puppet = Arc::new(Puppet {
        panics: true,
        ..Puppet::default()
    });
    bench
        .server
        .state()
        .deployments
        .push(unverified("job-1", "tgt-1", &bench.target()));
    let agent = bench.agent_with(puppet.registry());
    agent.poll_once().await.unwrap();
    assert_eq!(bench.server.outcome("job-1").unwrap()["status"], "Failed");
    agent.heartbeat().await.unwrap();
}

#[tokio::test]
async fn targets_take_turns_and_no_more_than_four_are_worked_on() {
    let bench = Bench::start().await;
    bench.has_live_pair("mc-1");
    let gate = Arc::new(Semaphore::new(0));
    let puppet = Arc::new(Puppet {
        gate: Some(Arc::clone(&gate)),
        ..Puppet::default()
    });
    for number in 0..12 {
        let target = format!("tgt-{}", number % 6);
        let item = unverified(&format!("job-{number}"), &target, &json!({"name": target}));
        bench.server.state().deployments.push(item);
    }
    let agent = bench.agent_with(puppet.registry());
    let poll = tokio::spawn(async move { agent.poll_once().await });
    eventually("four are at work", || {
        puppet.at_work.load(Ordering::SeqCst) == 4
    })
    .await;
    gate.add_permits(12);
    assert_eq!(poll.await.unwrap().unwrap().deployments, 12);
    assert_eq!(puppet.most_at_work.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn heartbeats_go_on_and_a_stop_waits_while_a_deployment_runs() {
    let bench = Bench::start().await;
    bench.has_live_pair("mc-1");
    let gate = Arc::new(Semaphore::new(0));
    let puppet = Arc::new(Puppet {
        gate: Some(Arc::clone(&gate)),
        ..Puppet::default()
    });
    bench
        .server
        .state()
        .deployments
        .push(unverified("job-1", "tgt-1", &json!({})));
    let agent = bench.agent_with(puppet.registry());
    let running = Running::start(agent.clone());
    eventually("the deployment runs", || {
        puppet.at_work.load(Ordering::SeqCst) == 1
    })
    .await;
    let beats = bench.server.calls("heartbeat").len();
    eventually("heartbeats go on", || {
        bench.server.calls("heartbeat").len() > beats + 5
    })
    .await;

    let stopping = tokio::spawn(running.stop());
    eventually("the agent is stopping", || agent.is_stopping()).await;
    let beats = bench.server.calls("heartbeat").len();
    assert!(!stopping.is_finished(), "the deployment is waited for");
    gate.add_permits(1);
    stopping.await.unwrap();
    // One may have been under way when the agent was asked to end.
    assert!(bench.server.calls("heartbeat").len() <= beats + 1);
    assert_eq!(
        bench.server.outcome("job-1").unwrap()["status"],
        "Completed"
    );
}

#[tokio::test]
async fn what_was_not_begun_when_the_agent_stops_is_given_back() {
    let bench = Bench::start().await;
    bench.has_live_pair("mc-1");
    let gate = Arc::new(Semaphore::new(0));
    let puppet = Arc::new(Puppet {
        gate: Some(Arc::clone(&gate)),
        ..Puppet::default()
    });
    for number in 0..5 {
        let item = unverified(
            &format!("job-{number}"),
            &format!("tgt-{number}"),
            &json!({}),
        );
        bench.server.state().deployments.push(item);
    }
    let agent = bench.agent_with(puppet.registry());
    let running = Running::start(agent.clone());
    eventually("four are at work", || {
        puppet.at_work.load(Ordering::SeqCst) == 4
    })
    .await;
    assert_eq!(contents(&bench.key_dir().join("agent-jobs")).len(), 5);
    let stopping = tokio::spawn(running.stop());
    eventually("the agent is stopping", || agent.is_stopping()).await;
    gate.add_permits(5);
    stopping.await.unwrap();

    let outcomes: Vec<Value> = (0..5)
        .map(|number| bench.server.outcome(&format!("job-{number}")).unwrap())
        .collect();
    let failed: Vec<&Value> = outcomes
        .iter()
        .filter(|o| o["status"] == "Failed")
        .collect();
    assert_eq!(failed.len(), 1, "{outcomes:?}");
    assert!(
        failed[0]["error"]
            .as_str()
            .unwrap()
            .contains("before the deployment began")
    );
    assert!(
        contents(&bench.key_dir().join("agent-jobs")).is_empty(),
        "nothing is owed"
    );
}

#[tokio::test]
async fn after_a_crash_the_agent_answers_for_the_jobs_it_had() {
    let bench = Bench::start().await;
    let jobs = bench.key_dir().join("agent-jobs");
    fs::create_dir_all(&jobs).unwrap();
    fs::write(jobs.join("job-1.json"), "").unwrap();
    fs::write(
        jobs.join("job-2.json"),
        r#"{"status":"Completed","deploy":{"outcome":"success"}}"#,
    )
    .unwrap();
    let running = Running::start(bench.agent());
    eventually("both jobs are answered for", || {
        bench.server.outcome("job-1").is_some() && bench.server.outcome("job-2").is_some()
    })
    .await;
    running.stop().await;
    let cut_off = bench.server.outcome("job-1").unwrap();
    assert_eq!(cut_off["status"], "Failed");
    assert!(
        cut_off["error"]
            .as_str()
            .unwrap()
            .contains("the agent ended before the job did")
    );
    assert_eq!(
        bench.server.outcome("job-2").unwrap()["status"],
        "Completed"
    );
    assert!(contents(&jobs).is_empty());
}

#[tokio::test]
async fn a_key_that_the_server_made_is_kept_as_if_it_were_our_own() {
    let bench = Bench::start().await;
    let key = PrivateKey::generate(KeySpec::EcdsaP256).unwrap();
    let chain = bench.server.ca.certify(key.spki_der(), &["a.test"]);
    let reply = json!({"certificate_pem": chain, "private_key_pem": key.to_pem().expose()});
    bench
        .server
        .state()
        .certificates
        .insert("mc-1".into(), reply);
    bench
        .server
        .state()
        .deployments
        .push(unverified("job-1", "tgt-1", &bench.target()));
    let agent = bench.agent();
    agent.poll_once().await.unwrap();
    assert_eq!(
        bench.server.outcome("job-1").unwrap()["status"],
        "Completed"
    );
    assert_eq!(
        bench.keys(),
        [("mc-1.key".to_owned(), key.to_pem().expose().to_owned())].into()
    );
    assert_eq!(
        fs::read_to_string(bench.tls("key.pem")).unwrap(),
        key.to_pem().expose()
    );

    // A key that does not belong to the certificate does not take the place of one that does.
    let stranger = PrivateKey::generate(KeySpec::EcdsaP256).unwrap();
    bench.server.state().certificates.get_mut("mc-1").unwrap()["private_key_pem"] =
        json!(stranger.to_pem().expose());
    bench
        .server
        .state()
        .deployments
        .push(unverified("job-2", "tgt-1", &bench.target()));
    agent.poll_once().await.unwrap();
    let outcome = bench.server.outcome("job-2").unwrap();
    assert_eq!(outcome["deploy"]["idempotent"], true);
    assert_eq!(bench.keys().len(), 1);
}

#[tokio::test]
async fn a_dry_run_tells_and_changes_nothing() {
    let bench = Bench::start().await;
    bench.has_live_pair("mc-1");
    let mut refusing = bench.target();
    refusing["validate_command"] = json!("false");
    {
        let mut state = bench.server.state();
        state
            .deployments
            .push(deployment("job-1", "mc-1", "tgt-1", &bench.target()));
        state
            .deployments
            .push(deployment("job-2", "mc-1", "tgt-2", &refusing));
        state
            .deployments
            .push(deployment("job-3", "mc-unknown", "tgt-3", &bench.target()));
        state
            .awaiting
            .push(crate::server::awaiting("job-4", "mc-4", "d.test"));
    }
    let before = bench.keys();
    let trials = bench.agent().dry_run().await.unwrap();
    let problems: Vec<Option<&str>> = trials
        .iter()
        .map(|trial| trial.problem.as_deref())
        .collect();
    assert_eq!(problems[0], None);
    assert!(problems[1].unwrap().contains("`false` ended with"));
    assert!(problems[2].unwrap().contains("404"));
    assert_eq!(trials.len(), 3);
    assert_eq!(bench.keys(), before);
    assert!(contents(&bench.tls("")).is_empty());
    assert!(bench.server.calls("status").is_empty() && bench.server.calls("csr").is_empty());
}

#[tokio::test]
async fn the_agents_retention_holds_where_the_target_says_nothing() {
    let bench = Bench::start().await;
    bench.has_live_pair("mc-1");
    let mut config = bench.config();
    config.overrides.backup_retention = Some(7);
    let puppet = Arc::new(Puppet::default());
    let agent = certctl_agent_core::Agent::with_registry(config, puppet.registry()).unwrap();
    let mut own = bench.target();
    own["backup_retention"] = json!(-1);
    bench.server.state().deployments = vec![
        unverified("job-1", "tgt-1", &bench.target()),
        unverified("job-2", "tgt-2", &own),
    ];
    agent.poll_once().await.unwrap();
    let kept = |job| bench.server.outcome(job).unwrap()["deploy"]["metadata"]["retention"].clone();
    assert_eq!((kept("job-1"), kept("job-2")), (json!("7"), json!("-1")));
}
