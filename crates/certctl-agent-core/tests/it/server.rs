//! A server in this process that speaks the agent protocol over TLS 1.3.

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
};

use certctl_domain::key::KeySpec;
use certctl_pki::{csr::Csr, key::PrivateKey};
use certctl_testkit::ca::Ca;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_rustls::TlsAcceptor;

use crate::http::{self, Reply, Request};

pub(crate) const AGENT: &str = "agent-1";
pub(crate) const API_KEY: &str = "canary-api-key";
pub(crate) const TOKEN: &str = "canary-bootstrap-token";

/// One call of the agent.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// The last part of the path: `heartbeat`, `work`, `csr`, `status`, `verify`, `agents`; `certificates` for a fetch.
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) body: Value,
    pub(crate) text: String,
    pub(crate) user_agent: String,
}

/// How the server misbehaves, so many times, in calls of one name.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    pub(crate) times: u32,
    pub(crate) how: How,
}

#[derive(Debug, Clone)]
pub(crate) enum How {
    /// Answers with this status and does nothing.
    Refuse(u16),
    /// Does what it is asked, and the answer is lost on the way.
    Lose,
    /// Answers with so many bytes.
    Flood(usize),
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) calls: Vec<Call>,
    pub(crate) faults: Vec<Fault>,
    /// Handed out with every poll until a signing request is accepted.
    pub(crate) awaiting: Vec<Value>,
    /// Handed out once.
    pub(crate) deployments: Vec<Value>,
    /// What a fetch answers.
    pub(crate) certificates: HashMap<String, Value>,
    /// Queued when a certificate is signed: the type of the target and its configuration.
    pub(crate) deploy_when_signed: Option<(&'static str, Value)>,
    jobs: u32,
}

pub(crate) struct Server {
    state: Arc<Mutex<State>>,
    pub(crate) ca: Arc<Ca>,
    address: SocketAddr,
    folder: tempfile::TempDir,
    accepting: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let ca = Arc::new(Ca::new("Agent Test Root"));
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), ca.root_pem()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = (Arc::clone(&state), Arc::clone(&ca));
        let accepting = tokio::spawn(accept(listener, acceptor(&ca), shared));
        Self {
            state,
            ca,
            address,
            folder,
            accepting,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub(crate) fn ca_bundle(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn fault(&self, name: &'static str, times: u32, how: How) {
        self.state().faults.push(Fault { name, times, how });
    }

    /// The calls of one name.
    pub(crate) fn calls(&self, name: &str) -> Vec<Call> {
        let calls = &self.state().calls;
        calls
            .iter()
            .filter(|call| call.name == name)
            .cloned()
            .collect()
    }

    /// The last report on a job that is not `Running`.
    pub(crate) fn outcome(&self, job: &str) -> Option<Value> {
        let calls = self.calls("status");
        let of_job = calls.iter().rev().find(|call| {
            call.path.contains(&format!("/jobs/{job}/")) && call.body["status"] != "Running"
        });
        of_job.map(|call| call.body.clone())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn acceptor(ca: &Ca) -> TlsAcceptor {
    let key = PrivateKey::generate(KeySpec::EcdsaP256).unwrap();
    let chain = ca.certify(key.spki_der(), &["localhost", "127.0.0.1"]);
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain.as_bytes())
        .map(Result::unwrap)
        .collect();
    let key = PrivateKeyDer::from_pem_slice(key.to_pem().expose().as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

type Shared = (Arc<Mutex<State>>, Arc<Ca>);

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, shared: Shared) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, shared) = (acceptor.clone(), shared.clone());
        tokio::spawn(async move {
            // A client that does not trust this server ends the handshake, which some tests are about.
            if let Ok(stream) = acceptor.accept(stream).await {
                http::serve(stream, |request| answer(&shared, request)).await;
            }
        });
    }
}

/// What goes back, unless it is lost on the way.
fn answer((state, ca): &Shared, request: &Request) -> Option<Reply> {
    let mut parts = request.path.rsplit('/');
    let last = parts.next().unwrap().to_owned();
    let name = if parts.next() == Some("certificates") {
        "certificates".to_owned()
    } else {
        last
    };
    let mut state = state.lock().unwrap();
    let call = Call {
        name: name.clone(),
        path: request.path.clone(),
        body: serde_json::from_str(&request.body).unwrap_or_default(),
        text: request.body.clone(),
        user_agent: request.header("user-agent").to_owned(),
    };
    state.calls.push(call.clone());
    let fault = state
        .faults
        .iter_mut()
        .find(|fault| fault.name == name && fault.times > 0);
    let how = fault.map(|fault| {
        fault.times -= 1;
        fault.how.clone()
    });
    let authorization = request.header("authorization");
    match how {
        Some(How::Refuse(status)) => Some(reply(
            status,
            &json!({"error": "refused", "message": "told to refuse"}),
        )),
        Some(How::Flood(bytes)) => Some(Reply {
            status: 200,
            body: "x".repeat(bytes),
        }),
        Some(How::Lose) => {
            act(&mut state, ca, &request.method, &call, authorization);
            None
        }
        None => Some(act(&mut state, ca, &request.method, &call, authorization)),
    }
}

fn act(state: &mut State, ca: &Ca, method: &str, call: &Call, authorization: &str) -> Reply {
    if (method, call.path.as_str()) == ("POST", "/api/v1/agents") {
        return register(call, authorization);
    }
    if authorization != format!("Bearer {API_KEY}") {
        return reply(401, &json!({"error": "Invalid API key"}));
    }
    let own = format!("/api/v1/agents/{AGENT}/");
    let is_known = call.path.starts_with(&own) || call.path.starts_with("/api/v1/jobs/");
    match (is_known, call.name.as_str()) {
        (false, _) => reply(403, &json!({"error": "Insufficient permissions"})),
        (_, "heartbeat") => reply(200, &json!({"status": "heartbeat_recorded"})),
        (_, "work") => {
            let mut jobs = std::mem::take(&mut state.deployments);
            jobs.extend(state.awaiting.clone());
            reply(200, &json!({"count": jobs.len(), "jobs": jobs}))
        }
        (_, "csr") => sign(state, ca, &call.body),
        (_, "certificates") => {
            let id = call.path.rsplit('/').next().unwrap();
            match state.certificates.get(id) {
                Some(certificate) => reply(200, certificate),
                None => reply(
                    404,
                    &json!({"error": "Not Found", "message": "no certificate"}),
                ),
            }
        }
        (_, "status" | "verify") => reply(200, &json!({"status": "updated"})),
        _ => reply(404, &json!({"error": "Not Found"})),
    }
}

fn register(call: &Call, authorization: &str) -> Reply {
    if authorization != format!("Bearer {TOKEN}") {
        return reply(
            401,
            &json!({"error": "Unauthorized", "message": "invalid_or_missing_bootstrap_token"}),
        );
    }
    if call.body["name"] == "taken" {
        return reply(
            409,
            &json!({"error": "Conflict", "message": "the name is taken"}),
        );
    }
    reply(
        201,
        &json!({"id": AGENT, "name": call.body["name"], "status": "Online", "api_key": API_KEY}),
    )
}

fn sign(state: &mut State, ca: &Ca, body: &Value) -> Reply {
    let Ok(csr) = Csr::parse_pem(body["csr_pem"].as_str().unwrap_or_default()) else {
        return reply(
            400,
            &json!({"error": "Bad Request", "message": "csr_pem: not a CSR"}),
        );
    };
    let id = body["certificate_id"].as_str().unwrap().to_owned();
    let awaited = state
        .awaiting
        .iter()
        .position(|item| item["certificate_id"] == id.as_str());
    let Some(awaited) = awaited else {
        return reply(
            409,
            &json!({"error": "Conflict", "message": "no job awaits a CSR"}),
        );
    };
    state.awaiting.remove(awaited);
    let name = csr.common_name().unwrap().to_owned();
    let chain = ca.certify(csr.spki_der(), &[&name]);
    state
        .certificates
        .insert(id.clone(), json!({"certificate_pem": chain}));
    if let Some((target_type, config)) = state.deploy_when_signed.clone() {
        state.jobs += 1;
        let job = format!("deploy-{}", state.jobs);
        let mut item = deployment(&job, &id, "tgt-1", &config);
        item["target_type"] = json!(target_type);
        state.deployments.push(item);
    }
    reply(202, &json!({"status": "csr_signed"}))
}

fn reply(status: u16, body: &Value) -> Reply {
    Reply {
        status,
        body: body.to_string(),
    }
}

/// A deployment as a poll hands it out.
pub(crate) fn deployment(job: &str, certificate: &str, target: &str, config: &Value) -> Value {
    json!({
        "id": job, "type": "Deployment", "certificate_id": certificate, "status": "Running",
        "target_id": target, "target_type": "NGINX", "target_config": config,
        "verify": {"enabled": true, "timeout": "5s", "delay": "0s"},
    })
}

/// A certificate that waits for a signing request, as a poll hands it out.
pub(crate) fn awaiting(job: &str, certificate: &str, name: &str) -> Value {
    json!({
        "id": job, "type": "Renewal", "certificate_id": certificate, "status": "AwaitingCSR",
        "common_name": name, "sans": [name],
    })
}
