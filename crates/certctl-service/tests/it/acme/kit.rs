//! Clients of the ACME server, and what they meet.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use certctl_acme::{
    client::Signer,
    urls::{Family, Urls},
};
use certctl_domain::{
    acme::{Problem, ProblemType},
    id::ProfileId,
    key::KeySpec,
    ports::{
        BoxFuture,
        challenge::{CaaChecker, CaaRequest, ChallengeValidator, ProofRequest},
    },
    profile::AcmeAuthMode,
};
use certctl_pki::{csr::Csr, key::PrivateKey};
use certctl_service::{
    Services,
    acme::{
        AccountAnswer, Acme, AcmeConfig, AcmePorts, ChallengeAnswer, Download, OrderAnswer,
        Refusal, SignedRequest,
    },
    config::ServiceConfig,
};
use certctl_testkit::{Basics, TestDb, services::config};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::support::{World, csr_for};

pub(super) const ORIGIN: &str = "https://ca.example.test";

/// Finds proofs where a test put them.
#[derive(Default)]
pub(super) struct Proofs {
    /// Names that prove nothing, and the problem with each.
    pub(super) missing: Mutex<HashMap<String, Problem>>,
    /// Names whose owners forbid this server.
    pub(super) forbidden: Mutex<HashSet<String>>,
    /// Names whose proofs are not found before somebody lets them be.
    gates: Mutex<HashMap<String, Arc<Semaphore>>>,
    /// What was asked for, in order.
    pub(super) asked: Mutex<Vec<ProofRequest>>,
}

impl ChallengeValidator for Proofs {
    fn prove<'a>(&'a self, request: &'a ProofRequest) -> BoxFuture<'a, Result<(), Problem>> {
        self.asked.lock().unwrap().push(request.clone());
        let name = request.identifier.to_string();
        let found = self.missing.lock().unwrap().get(&name).cloned();
        let gate = self.gates.lock().unwrap().get(&name).cloned();
        Box::pin(async move {
            if let Some(gate) = gate {
                gate.acquire().await.unwrap().forget();
            }
            found.map_or(Ok(()), Err)
        })
    }
}

impl CaaChecker for Proofs {
    fn check<'a>(&'a self, request: &'a CaaRequest) -> BoxFuture<'a, Result<(), Problem>> {
        let forbids = self.forbidden.lock().unwrap().contains(&request.name);
        let problem = || Problem::new(ProblemType::Caa, "the owner forbids it");
        Box::pin(std::future::ready(if forbids {
            Err(problem())
        } else {
            Ok(())
        }))
    }
}

impl Proofs {
    pub(super) fn fail(&self, name: &str) {
        let problem = Problem::new(ProblemType::IncorrectResponse, "not what was expected");
        self.missing
            .lock()
            .unwrap()
            .insert(name.to_owned(), problem);
    }

    /// Keeps whoever looks at a name until the gate has a permit for them.
    pub(super) fn hold(&self, name: &str) -> Arc<Semaphore> {
        let gate = Arc::new(Semaphore::new(0));
        let mut gates = self.gates.lock().unwrap();
        gates.insert(name.to_owned(), Arc::clone(&gate));
        gate
    }

    /// The names that were asked for, in order.
    pub(super) fn names(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        asked.iter().map(|one| one.identifier.to_string()).collect()
    }

    /// Waits until so many proofs were asked for.
    pub(super) async fn asked_for(&self, count: usize) {
        let asked = async {
            while self.asked.lock().unwrap().len() < count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), asked)
            .await
            .expect("somebody looks at challenges");
    }

    pub(super) fn pass(&self, name: &str) {
        self.missing.lock().unwrap().remove(name);
    }
}

/// How the server behaves in tests: nothing is limited, nothing waits.
pub(super) fn acme_config() -> AcmeConfig {
    let ids = Basics::default();
    AcmeConfig {
        default_profile: Some(ids.profile),
        owner: Some(ids.owner),
        team: Some(ids.team),
        renewal_policy: Some(ids.policy),
        issuer: Some(ids.issuer),
        finalize_wait: Duration::ZERO,
        // Step by step; `lanes` has it otherwise.
        lanes: 0,
        challenge_tries: vec![Duration::ZERO; 3],
        orders_per_hour: 0,
        concurrent_orders: 0,
        new_accounts_per_hour: 0,
        ..AcmeConfig::default()
    }
}

pub(super) fn serving(acme: AcmeConfig) -> ServiceConfig {
    ServiceConfig {
        acme: Some(acme),
        ..config()
    }
}

/// A server under test.
pub(super) struct Server {
    pub(super) world: World,
    pub(super) proofs: Arc<Proofs>,
}

impl Server {
    pub(super) async fn new(db: TestDb) -> Self {
        Self::with(db, acme_config()).await
    }

    pub(super) async fn with(db: TestDb, acme: AcmeConfig) -> Self {
        Self::of(db, serving(acme)).await
    }

    pub(super) async fn of(db: TestDb, config: ServiceConfig) -> Self {
        let proofs = Arc::new(Proofs::default());
        let ports = AcmePorts {
            validator: Some(proofs.clone()),
            caa: Some(proofs.clone()),
        };
        let world = World::with_ports(db, config, ports).await;
        Self { world, proofs }
    }

    /// One whose profile asks for proofs.
    pub(super) async fn challenging(db: TestDb, acme: AcmeConfig) -> Self {
        let server = Self::with(db, acme).await;
        server
            .world
            .profile(|profile| profile.acme_auth_mode = AcmeAuthMode::Challenge)
            .await;
        server
    }

    pub(super) fn acme(&self) -> Acme {
        self.world.services.acme().unwrap()
    }

    /// A client with a key of its own and no account.
    pub(super) fn stranger(&self) -> Client {
        Client::of(&self.world.services)
    }

    /// A client with an account.
    pub(super) async fn client(&self) -> Client {
        let mut client = self.stranger();
        client.register(json!({})).await.unwrap();
        client
    }

    /// Looks at challenges until the guard is dropped.
    pub(super) fn look(&self) -> tokio_util::sync::DropGuard {
        let stop = CancellationToken::new();
        let (acme, guard) = (self.acme(), stop.clone().drop_guard());
        tokio::spawn(async move { acme.run_challenges(&stop).await });
        guard
    }

    /// Transactions that an order costs, from its making to the download.
    pub(super) async fn commits_of_an_order(&self, client: &Client, name: &str) -> u64 {
        let before = self.world.services.db().commits();
        let id = client.ordered(name).await;
        let done = client.finalize(&id, &[name]).await.unwrap();
        let url = last(&body(&done.order)["certificate"]);
        client.download(&url).await.unwrap();
        self.world.services.db().commits() - before
    }

    /// An order that has led to a certificate.
    pub(super) async fn issued(&self, client: &Client, name: &str) -> (String, Download) {
        let order = client.order(&[name]).await.unwrap();
        let id = order.id.to_string();
        client.finalize(&id, &[name]).await.unwrap();
        self.world.work().await;
        let order = client.show_order(&id).await.unwrap();
        let url = body(&order.order)["certificate"]
            .as_str()
            .unwrap()
            .to_owned();
        let certificate = url.rsplit('/').next().unwrap().to_owned();
        (id, client.download(&certificate).await.unwrap())
    }
}

/// What is answered, as it goes over the wire.
pub(super) fn body(shown: &impl serde::Serialize) -> Value {
    serde_json::to_value(shown).unwrap()
}

/// The type of a problem and its status.
#[track_caller]
pub(super) fn problem<T: std::fmt::Debug>(result: Result<T, Refusal>) -> String {
    let refusal = result.unwrap_err();
    format!(
        "{} {}",
        refusal.problem.status,
        refusal.problem.kind.as_str()
    )
}

/// A program that speaks ACME.
pub(super) struct Client {
    pub(super) acme: Acme,
    pub(super) urls: Urls,
    pub(super) profile: ProfileId,
    pub(super) signer: Signer,
    pub(super) kid: String,
    pub(super) id: String,
}

impl Client {
    pub(super) fn of(services: &Services) -> Self {
        let profile = Basics::default().profile;
        Self {
            acme: services.acme().unwrap(),
            urls: Urls::new(ORIGIN, Family::Profile(profile.clone())),
            profile,
            signer: Signer::new(PrivateKey::generate(KeySpec::EcdsaP256).unwrap()).unwrap(),
            kid: String::new(),
            id: String::new(),
        }
    }

    /// The same account at another server.
    pub(super) fn at(self, services: &Services) -> Self {
        Self {
            acme: services.acme().unwrap(),
            ..self
        }
    }

    pub(super) async fn nonce(&self) -> String {
        self.acme.nonce().await.unwrap()
    }

    pub(super) fn request(&self, url: &str, body: String) -> SignedRequest {
        // Each comes from another host.
        static HOST: AtomicU16 = AtomicU16::new(0);
        let [high, low] = HOST.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        SignedRequest {
            urls: self.urls.clone(),
            profile: self.profile.clone(),
            url: url.to_owned(),
            body: body.into_bytes(),
            client: Some([10, 9, high, low].into()),
        }
    }

    /// A request of the account with a fresh nonce.
    pub(super) async fn post(&self, url: &str, payload: &Value) -> SignedRequest {
        let nonce = self.nonce().await;
        let payload = if payload.is_null() {
            String::new()
        } else {
            payload.to_string()
        };
        self.request(
            url,
            self.signer.sign(&self.kid, url, &nonce, &payload).unwrap(),
        )
    }

    /// A request of the key with a fresh nonce.
    pub(super) async fn post_jwk(&self, url: &str, payload: &Value) -> SignedRequest {
        let nonce = self.nonce().await;
        let body = self
            .signer
            .sign_with_jwk(url, Some(&nonce), &payload.to_string());
        self.request(url, body.unwrap())
    }

    pub(super) async fn register(&mut self, payload: Value) -> Result<AccountAnswer, Refusal> {
        let request = self.post_jwk(&self.urls.new_account(), &payload).await;
        let answer = self.acme.new_account(request).await?;
        self.kid = self.urls.account(&answer.id);
        self.id = answer.id.to_string();
        Ok(answer)
    }

    /// The id of an order for one name.
    pub(super) async fn ordered(&self, name: &str) -> String {
        self.order(&[name]).await.unwrap().id.to_string()
    }

    pub(super) async fn order(&self, names: &[&str]) -> Result<OrderAnswer, Refusal> {
        self.order_with(names, json!({})).await
    }

    pub(super) async fn order_with(
        &self,
        names: &[&str],
        more: Value,
    ) -> Result<OrderAnswer, Refusal> {
        let kind = |name: &str| {
            if name.parse::<std::net::IpAddr>().is_ok() {
                "ip"
            } else {
                "dns"
            }
        };
        let identifiers: Vec<Value> = names
            .iter()
            .map(|name| json!({"type": kind(name), "value": name}))
            .collect();
        let payload = crate::kit::with(&json!({"identifiers": identifiers}), more);
        let request = self.post(&self.urls.new_order(), &payload).await;
        self.acme.new_order(request).await
    }

    pub(super) async fn show_order(&self, id: &str) -> Result<OrderAnswer, Refusal> {
        let url = self.urls.at(&format!("order/{id}"));
        self.acme
            .order(self.post(&url, &Value::Null).await, id)
            .await
    }

    pub(super) async fn status(&self, id: &str) -> String {
        let order = self.show_order(id).await.unwrap();
        body(&order.order)["status"].as_str().unwrap().to_owned()
    }

    pub(super) async fn finalize_request(&self, id: &str, csr: &[u8]) -> SignedRequest {
        let url = self.urls.at(&format!("order/{id}/finalize"));
        let payload = json!({"csr": certctl_acme::base64url::encode(csr)});
        self.post(&url, &payload).await
    }

    /// Finalises with a new key.
    pub(super) async fn finalize(&self, id: &str, names: &[&str]) -> Result<OrderAnswer, Refusal> {
        let request = self.finalize_request(id, &csr_der(&key(), names)).await;
        self.acme.finalize(request, id).await
    }

    pub(super) async fn download(&self, id: &str) -> Result<Download, Refusal> {
        let url = self.urls.at(&format!("cert/{id}"));
        self.acme
            .certificate(self.post(&url, &Value::Null).await, id)
            .await
    }

    /// The authorisations of an order, each as it is shown.
    pub(super) async fn authorizations(&self, order: &OrderAnswer) -> Vec<Value> {
        let mut shown = Vec::new();
        for url in body(&order.order)["authorizations"].as_array().unwrap() {
            let id = last(url);
            shown.push(self.authorization(&id, &Value::Null).await.unwrap());
        }
        shown
    }

    pub(super) async fn authorization(&self, id: &str, payload: &Value) -> Result<Value, Refusal> {
        let url = self.urls.at(&format!("authz/{id}"));
        let request = self.post(&url, payload).await;
        Ok(body(&self.acme.authorization(request, id).await?))
    }

    pub(super) async fn respond(&self, id: &str) -> Result<ChallengeAnswer, Refusal> {
        let url = self.urls.at(&format!("challenge/{id}"));
        self.acme
            .challenge(self.post(&url, &json!({})).await, id)
            .await
    }

    /// Responds to a challenge of each authorisation of an order, and waits until the order is no longer pending.
    pub(super) async fn prove(&self, order: &OrderAnswer, kind: &str) -> String {
        for authorization in self.authorizations(order).await {
            if authorization["status"] == "pending" {
                self.respond(&challenge_of(&authorization, kind))
                    .await
                    .unwrap();
            }
        }
        self.settle(order).await
    }

    /// Waits until an order is no longer pending.
    pub(super) async fn settle(&self, order: &OrderAnswer) -> String {
        let id = order.id.to_string();
        let settled = async {
            loop {
                match self.status(&id).await.as_str() {
                    "pending" => tokio::task::yield_now().await,
                    other => return other.to_owned(),
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), settled)
            .await
            .expect("somebody looks at challenges")
    }

    pub(super) async fn revoke(&self, der: &[u8], reason: Option<u8>) -> Result<(), Refusal> {
        let url = self.urls.revoke_cert();
        let request = self.post(&url, &revocation(der, reason)).await;
        self.acme.revoke(request).await
    }
}

pub(super) fn revocation(der: &[u8], reason: Option<u8>) -> Value {
    let certificate = certctl_acme::base64url::encode(der);
    match reason {
        Some(reason) => json!({"certificate": certificate, "reason": reason}),
        None => json!({"certificate": certificate}),
    }
}

pub(super) fn key() -> PrivateKey {
    PrivateKey::generate(KeySpec::EcdsaP256).unwrap()
}

pub(super) fn csr_der(key: &PrivateKey, names: &[&str]) -> Vec<u8> {
    let text = csr_for(key, names[0], names);
    Csr::parse_pem(&text).unwrap().der().to_vec()
}

/// The id of the challenge of a type.
pub(super) fn challenge_of(authorization: &Value, kind: &str) -> String {
    let challenges = authorization["challenges"].as_array().unwrap();
    let found = challenges.iter().find(|one| one["type"] == kind);
    last(&found.unwrap()["url"])
}

pub(super) fn last(url: &Value) -> String {
    url.as_str().unwrap().rsplit('/').next().unwrap().to_owned()
}

/// The leaf of a chain as DER.
pub(super) fn leaf(download: &Download) -> Vec<u8> {
    certctl_pki::pem::decode_certificates(&download.chain_pem)
        .unwrap()
        .swap_remove(0)
}
