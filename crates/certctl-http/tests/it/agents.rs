use axum::body::Body;
use certctl_domain::{key::KeySpec, name::SubjectAltName};
use certctl_testkit::{
    TestDb, db_tests,
    pki::{csr::CsrBuilder, key::PrivateKey},
    services::{ADMIN_KEY, BOOTSTRAP_TOKEN},
};
use serde_json::{Value, json};

use crate::{
    nouns::{NOW, NounApi, VIEWER_KEY},
    support::request,
};

const PATH: &str = "/api/v1/agents";

/// An API with an agent of its own key, whose target serves `mc-web`.
struct Agents {
    api: NounApi,
    id: String,
    key: String,
}

fn input(name: &str) -> Value {
    json!({"name": name, "hostname": "web-1.example.test", "os": "linux", "architecture": "amd64", "ip_address": "192.0.2.9", "version": "1.0.0"})
}

impl Agents {
    async fn new(db: TestDb) -> Self {
        db.seed_basics().await;
        let api = NounApi::new(db).await;
        let made = api
            .call("POST", PATH, BOOTSTRAP_TOKEN, &input("web-1"))
            .await
            .json();
        let (id, key) = (text(&made["id"]), text(&made["api_key"]));
        let moved = format!("UPDATE deployment_targets SET agent_id = '{id}'");
        api.db.execute(&moved).await.unwrap();
        Self { api, id, key }
    }

    fn path(&self, rest: &str) -> String {
        format!("{PATH}/{}/{rest}", self.id)
    }

    async fn post(&self, rest: &str, body: &Value) -> crate::support::Answer {
        self.api
            .call("POST", &self.path(rest), &self.key, body)
            .await
    }

    async fn get(&self, rest: &str) -> crate::support::Answer {
        self.api
            .call("GET", &self.path(rest), &self.key, &Value::Null)
            .await
    }

    async fn renew(&self) -> String {
        text(
            &self
                .api
                .post("/api/v1/certificates/mc-web/renew", &Value::Null)
                .await
                .json()["job_id"],
        )
    }

    /// Asks, hands in, has it signed, and takes the deployment.
    async fn deploying(&self) -> Value {
        self.renew().await;
        self.post("csr", &json!({"csr_pem": csr()}))
            .await
            .is(202, &json!({"status": "csr_accepted"}));
        self.api.work().await;
        self.get("work").await.json()["jobs"][0].clone()
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn csr() -> String {
    let key = PrivateKey::generate(KeySpec::EcdsaP256).unwrap();
    let san = SubjectAltName::parse("mc-web.example.test").unwrap();
    CsrBuilder::new("mc-web.example.test")
        .sans(vec![san])
        .sign_pem(&key)
        .unwrap()
}

db_tests! {
    async fn agents_register_over_http(db: TestDb) {
        let agents = Agents::new(db).await;
        let api = &agents.api;
        let made = api.call("POST", PATH, BOOTSTRAP_TOKEN, &input("web-2")).await;
        let (id, key) = (text(&made.json()["id"]), text(&made.json()["api_key"]));
        made.is(201, &json!({"id": id, "name": "web-2", "hostname": "web-1.example.test", "status": "Online", "last_heartbeat_at": NOW, "registered_at": NOW,
            "os": "linux", "architecture": "amd64", "ip_address": "192.0.2.9", "version": "1.0.0", "api_key": key}));
        assert!(id.starts_with("agent-"));
        let read = api.get(&format!("{PATH}/{id}")).await;
        assert!(read.status == 200 && read.json().get("api_key").is_none(), "it is shown once");
        for wrong in ["", "wrong-token"] {
            let refused = api.call("POST", PATH, wrong, &input("web-3")).await;
            refused.is_main(401, "Unauthorized", "invalid_or_missing_bootstrap_token");
        }
        assert_eq!(api.call("POST", PATH, ADMIN_KEY, &input("web-3")).await.status, 201);
        for key in [VIEWER_KEY, &agents.key] {
            api.call("POST", PATH, key, &input("web-4")).await.is_gate(403, "Insufficient permissions");
        }
        let token = BOOTSTRAP_TOKEN;
        api.call("POST", PATH, token, &input("web-1")).await.is_main(409, "Conflict", "an agent named \"web-1\" exists");
        api.call("POST", PATH, token, &json!({"name": "web-5"})).await.is_main(400, "Bad Request", "hostname: is required");
        assert_eq!(api.call("GET", PATH, token, &Value::Null).await.status, 401, "the token is no key");
    }

    async fn a_heartbeat_takes_any_body(db: TestDb) {
        let agents = Agents::new(db).await;
        let done = json!({"status": "heartbeat_recorded"});
        for body in ["", "{", "[1]", "{\"version\": 7}", "{\"version\": \"2.0.0\", \"ip_address\": \"nowhere\"}"] {
            let beat = request("POST", &agents.path("heartbeat"), &agents.key).body(Body::from(body)).unwrap();
            agents.api.send(beat).await.is(200, &done);
        }
        agents.api.services.flush_heartbeats().await.unwrap();
        assert_eq!(agents.api.get(&format!("{PATH}/{}", agents.id)).await.json()["version"], "2.0.0");
        let other = agents.api.call("POST", &format!("{PATH}/ag-web/heartbeat"), &agents.key, &Value::Null).await;
        other.is_gate(403, "an agent's key works for its own agent only");
        agents.api.post(&format!("{PATH}/ag-web/heartbeat"), &Value::Null).await.is(200, &done);
        assert_eq!(agents.api.post(&format!("{PATH}/ag-gone/heartbeat"), &Value::Null).await.status, 404);
        agents.api.call("POST", &agents.path("heartbeat"), VIEWER_KEY, &Value::Null).await.is_gate(403, "Insufficient permissions");
    }

    async fn a_certificate_goes_to_its_target_over_http(db: TestDb) {
        let agents = Agents::new(db).await;
        agents.get("work").await.is(200, &json!({"jobs": [], "count": 0}));
        let job = agents.renew().await;
        let verify = json!({"enabled": true, "timeout": "10000ms", "delay": "2000ms"});
        agents.get("work").await.is(200, &json!({"count": 1, "jobs": [{"id": job, "type": "Issuance", "certificate_id": "mc-web", "status": "AwaitingCSR",
            "common_name": "mc-web.example.test", "sans": ["mc-web.example.test"], "key_algorithm": "ECDSA-P256", "ekus": ["serverAuth"],
            "must_staple": false, "verify": verify}]}));
        agents.get("certificates/mc-web").await.is_main(404, "Not Found", "issued version of certificate mc-web does not exist");
        agents.get("certificates/mc-gone").await.is_main(404, "Not Found", "certificate mc-gone does not exist");
        let bad = agents.post("csr", &json!({"csr_pem": "hello"})).await;
        assert!(bad.status == 400 && text(&bad.json()["message"]).starts_with("csr_pem: "), "{bad:?}");
        let other = PrivateKey::generate(KeySpec::EcdsaP256).unwrap();
        let foreign = CsrBuilder::new("evil.example.test").sign_pem(&other).unwrap();
        assert_eq!(agents.post("csr", &json!({"csr_pem": foreign})).await.status, 422);
        agents.post("csr", &json!({"csr_pem": csr()})).await.is(202, &json!({"status": "csr_accepted"}));
        agents.post("csr", &json!({"csr_pem": csr()})).await.is_main(409, "Conflict", "no renewal waits for a request");
        agents.api.work().await;
        let work = agents.get("work").await.json();
        let item = &work["jobs"][0];
        let deployment = text(&item["id"]);
        assert_eq!(work, json!({"count": 1, "jobs": [{"id": deployment, "type": "Deployment", "certificate_id": "mc-web", "status": "Running",
            "common_name": "mc-web.example.test", "sans": ["mc-web.example.test"], "key_algorithm": "ECDSA-P256", "ekus": ["serverAuth"], "must_staple": false,
            "verify": verify, "target_id": "tgt-web", "target_type": "NGINX", "target_config": {"cert_path": "/etc/nginx/tls/cert.pem"}}]}));
        let given = agents.get("certificates/mc-web").await.json();
        assert_eq!(given.as_object().unwrap().keys().collect::<Vec<_>>(), ["certificate_pem"], "there is no key to give");
        let status = format!("jobs/{deployment}/status");
        let updated = json!({"status": "updated"});
        agents.post(&status, &json!({"status": "Running"})).await.is(200, &updated);
        agents.post(&status, &json!({"status": "done"})).await.is_main(400, "Bad Request", "status: must be Running, Completed or Failed");
        agents.post(&status, &json!({"status": "Completed", "deploy": {"outcome": "deployed"}})).await.is(200, &updated);
        agents.post(&status, &json!({"status": "Completed"})).await.is(200, &updated);
        assert_eq!(agents.post(&status, &json!({"status": "Failed"})).await.status, 409);
        agents.post("jobs/job-gone/status", &json!({"status": "Completed"})).await.is_main(404, "Not Found", "job job-gone does not exist");
        let foreign = agents.api.post(&format!("{PATH}/ag-web/jobs/{deployment}/status"), &json!({"status": "Completed"})).await;
        foreign.is_main(404, "Not Found", &format!("job {deployment} does not exist"));
        let unmapped = agents.api.get(&format!("{PATH}/ag-web/certificates/mc-web")).await;
        unmapped.is_gate(403, "the certificate is mapped to no target of this agent");
    }

    async fn head_does_not_take_the_work_of_an_agent(db: TestDb) {
        let agents = Agents::new(db).await;
        agents.renew().await;
        agents.post("csr", &json!({"csr_pem": csr()})).await.is(202, &json!({"status": "csr_accepted"}));
        agents.api.work().await;
        let head = agents.api.call("HEAD", &agents.path("work"), &agents.key, &Value::Null).await;
        assert_eq!((head.status, head.header("allow")), (405, Some("GET")));
        let work = agents.get("work").await.json();
        assert_eq!((&work["count"], &work["jobs"][0]["type"]), (&json!(1), &json!("Deployment")));
    }

    async fn what_an_agent_saw_is_kept_and_judged(db: TestDb) {
        let agents = Agents::new(db).await;
        let job = text(&agents.deploying().await["id"]);
        let path = format!("/api/v1/jobs/{job}/verify");
        let (one, two) = ("a".repeat(64), "b".repeat(64));
        let verify = async |body: Value| agents.api.call("POST", &path, &agents.key, &body).await;
        let seen = json!({"target_id": "tgt-web", "expected_fingerprint": one, "actual_fingerprint": two, "verified": true});
        verify(seen).await.is(200, &json!({"job_id": job, "verified": false, "verified_at": NOW}));
        let unseen = json!({"target_id": "tgt-web", "expected_fingerprint": one, "actual_fingerprint": "", "verified": false, "error": "refused"});
        verify(unseen).await.is(200, &json!({"job_id": job, "verified": false, "verified_at": NOW}));
        agents.api.get(&format!("/api/v1/jobs/{job}/verification")).await.is(200, &json!({"job_id": job, "target_id": "tgt-web", "expected_fingerprint": one,
            "actual_fingerprint": "", "verified": false, "verified_at": NOW, "error": "refused"}));
        let right = json!({"target_id": "tgt-web", "expected_fingerprint": one, "actual_fingerprint": one, "verified": true});
        verify(right).await.is(200, &json!({"job_id": job, "verified": true, "verified_at": NOW}));
        let empty = json!({"target_id": "tgt-web", "expected_fingerprint": one, "verified": false});
        verify(empty).await.is_main(400, "Bad Request", "actual_fingerprint: is not a SHA-256 in lowercase hex");
        agents.api.get("/api/v1/jobs/job-gone/verification").await.is_main(404, "Not Found", "job job-gone does not exist");
    }

    async fn agents_are_retired_over_http_and_told_so(db: TestDb) {
        let agents = Agents::new(db).await;
        let job = text(&agents.deploying().await["id"]);
        let at = format!("{PATH}/{}", agents.id);
        let counts = json!({"active_targets": 1, "active_certificates": 1, "pending_jobs": 1});
        let blocked = agents.api.delete(&at).await;
        blocked.is(409, &json!({"error": "blocked_by_dependencies", "message": blocked.json()["message"], "counts": counts}));
        agents.api.delete(&format!("{at}?force=true")).await.is_main(400, "Bad Request", "reason: is required with force");
        let long = "x".repeat(1025);
        agents.api.delete(&format!("{at}?force=true&reason={long}")).await.is_main(400, "Bad Request", "reason: is longer than 1024 characters");
        agents.api.delete(&format!("{at}?force=true&reason=a%1Bb")).await.is_main(400, "Bad Request", "reason: holds a control character");
        agents.api.delete(&format!("{PATH}/server-scanner?force=true&reason=x")).await.is_gate(403, "this agent stands for the server itself and is never retired");
        assert_eq!(agents.api.delete(&format!("{PATH}/ag-gone")).await.status, 404);
        agents.api.call("DELETE", &at, VIEWER_KEY, &Value::Null).await.is_gate(403, "Insufficient permissions");
        agents.api.delete(&format!("{at}?force=true&reason=scrapped")).await
            .is(200, &json!({"retired_at": NOW, "already_retired": false, "cascade": true, "counts": counts}));
        agents.api.delete(&at).await.is_done();
        let shown = agents.api.get(&at).await.json();
        assert_eq!((&shown["retired_at"], &shown["retired_reason"]), (&json!(NOW), &json!("scrapped")));
        let ids = |list: Value| list["data"].as_array().unwrap().iter().map(|one| text(&one["id"])).collect::<Vec<_>>();
        assert!(!ids(agents.api.get(PATH).await.json()).contains(&agents.id));
        assert_eq!(ids(agents.api.get(&format!("{PATH}/retired")).await.json()), std::slice::from_ref(&agents.id));
        let gone = format!("agent {} is retired", agents.id);
        for (method, path) in [
            ("POST", agents.path("heartbeat")),
            ("GET", agents.path("work")),
            ("POST", agents.path("csr")),
            ("GET", agents.path("certificates/mc-web")),
            ("POST", agents.path(&format!("jobs/{job}/status"))),
            ("POST", format!("/api/v1/jobs/{job}/verify")),
            // It reads no more of the fleet either, nor does it enrol anew with this key.
            ("GET", "/api/v1/certificates/mc-web".to_owned()),
            ("GET", "/api/v1/certificates".to_owned()),
            ("GET", PATH.to_owned()),
            ("GET", "/api/v1/teams".to_owned()),
            ("POST", PATH.to_owned()),
        ] {
            let answer = agents.api.call(method, &path, &agents.key, &json!({"status": "Completed"})).await;
            assert_eq!(answer.status, 410, "{method} {path}");
            answer.is_main(410, "Gone", &gone);
        }
    }
}
