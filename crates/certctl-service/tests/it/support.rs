//! A small world of one of each noun, with the real local CA behind a door that tests can hold shut.

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use certctl_domain::{
    access::{Actor, ActorType, EffectivePermission, Permission, Scope, SeededRole},
    certificate::Certificate,
    id::{AgentId, CertificateId, IssuerId, JobId},
    issuer::IssuerType,
    job::Job,
    key::KeySpec,
    name::SubjectAltName,
    ports::{
        BoxFuture,
        issuer::{
            IssuanceRequest, IssuedCertificate, Issuer, IssuerError, IssuerFactory, StatusSigner,
        },
    },
    profile::Profile,
    revocation::RevocationReason,
    serial::SerialNumber,
    time::{Clock as _, ManualClock, Timestamp},
};
use certctl_pki::{cert::random_serial, csr::CsrBuilder, key::PrivateKey};
use certctl_repository::{Db, Error as RepositoryError, certificates, profiles, transaction};
use certctl_service::{
    Error, Services,
    acme::AcmePorts,
    config::{Dependencies, KeygenMode, ServiceConfig},
    engine::Pass,
};
use certctl_testkit::{
    Basics, TestDb,
    connectors::issuer::{Factory, ca_store::FileCaStore},
    services::{MemoryVault, config},
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// What is under test, and what it works with.
pub(crate) struct World {
    pub(crate) services: Services,
    pub(crate) db: TestDb,
    pub(crate) clock: ManualClock,
    pub(crate) ca: Arc<Door>,
    pub(crate) admin: Actor,
    /// The agent of the world's only target.
    pub(crate) agent: Actor,
    pub(crate) ids: Basics,
    folder: TempDir,
    ports: AcmePorts,
}

impl World {
    /// Keys are made by agents.
    pub(crate) async fn new(db: TestDb) -> Self {
        Self::with(db, config()).await
    }

    /// Keys are made by the server.
    pub(crate) async fn with_server_keys(db: TestDb) -> Self {
        Self::with(db, server_keys()).await
    }

    pub(crate) async fn with(db: TestDb, config: ServiceConfig) -> Self {
        Self::with_ports(db, config, AcmePorts::default()).await
    }

    /// With what the ACME server looks out with.
    pub(crate) async fn with_ports(db: TestDb, config: ServiceConfig, ports: AcmePorts) -> Self {
        let ids = db.seed_basics().await;
        let clock = db.clock().clone();
        let folder = tempfile::tempdir().unwrap();
        let (services, ca) = assemble(db.db(), &clock, folder.path(), config, ports.clone());
        Self {
            services,
            clock,
            ca,
            admin: Actor::new("ann", ActorType::User, false, Vec::new(), all()),
            agent: agent_actor(ids.agent.as_str()),
            ids,
            db,
            folder,
            ports,
        }
    }

    /// Another process on the same database and the same CA.
    pub(crate) fn replica(&self, instance: &str, config: ServiceConfig) -> (Services, Arc<Door>) {
        let config = ServiceConfig {
            instance: instance.to_owned(),
            ..config
        };
        assemble(
            self.db.replica(),
            &self.clock,
            self.folder.path(),
            config,
            self.ports.clone(),
        )
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Asks for a renewal of a certificate.
    pub(crate) async fn renew(&self, id: &CertificateId) -> JobId {
        let triggered = self
            .services
            .renew_certificate(&self.admin, id, false)
            .await
            .unwrap();
        triggered.job_id
    }

    /// Runs what is due.
    pub(crate) async fn work(&self) -> Pass {
        process(&self.services).await
    }

    /// Whether there is a file of this name among the CAs.
    pub(crate) fn has_ca_file(&self, name: &str) -> bool {
        self.folder.path().join("ca").join(name).exists()
    }

    /// Hands in the request of the world's agent for its certificate.
    pub(crate) async fn hand_in(&self, csr: &str) -> Result<(), Error> {
        let agent = &self.ids.agent;
        self.services
            .submit_csr(&self.agent, agent, csr, None, None)
            .await
            .map(drop)
    }

    /// The world's certificate, issued once with a key of the agent.
    pub(crate) async fn issued(&self) -> PrivateKey {
        self.renew(&self.ids.certificate).await;
        let key = PrivateKey::generate(KeySpec::EcdsaP256).unwrap();
        self.hand_in(&csr_with(&key, "mc-web.example.test"))
            .await
            .unwrap();
        assert_eq!(self.work().await.completed, 1);
        key
    }

    pub(crate) async fn certificate(&self, id: &CertificateId) -> Certificate {
        self.services
            .get_certificate(&self.admin, id)
            .await
            .unwrap()
    }

    /// The state of the world's certificate.
    pub(crate) async fn status(&self) -> &'static str {
        self.certificate(&self.ids.certificate)
            .await
            .status
            .as_str()
    }

    pub(crate) async fn job(&self, id: &JobId) -> Job {
        self.services.get_job(&self.admin, id).await.unwrap()
    }

    /// State of a job and why.
    pub(crate) async fn ended(&self, id: &JobId) -> (&'static str, String) {
        let job = self.job(id).await;
        (job.status.as_str(), job.last_error.unwrap_or_default())
    }

    /// Serials of all versions there are, oldest first.
    pub(crate) async fn versions(&self) -> Vec<String> {
        self.db
            .texts(
                "SELECT serial_number AS value FROM certificate_versions ORDER BY created_at, id",
            )
            .await
    }

    /// Serials that are revoked, with the reason.
    pub(crate) async fn revoked(&self) -> Vec<String> {
        self.db
            .texts("SELECT serial_number || ' ' || reason AS value FROM certificate_revocations ORDER BY 1")
            .await
    }

    /// How often something was done, as the audit log has it.
    pub(crate) async fn recorded(&self, action: &str) -> usize {
        let sql = format!("SELECT id AS value FROM audit_events WHERE action = '{action}'");
        self.db.texts(&sql).await.len()
    }

    /// Type and state of the jobs of a type.
    pub(crate) async fn jobs(&self, kind: &str) -> Vec<String> {
        let sql = format!(
            "SELECT status AS value FROM jobs WHERE type = '{kind}' ORDER BY created_at, id"
        );
        self.db.texts(&sql).await
    }

    /// Changes the world's profile.
    pub(crate) async fn profile(&self, change: impl Fn(&mut Profile) + Send + Sync) {
        let id = &self.ids.profile;
        let changed: Result<(), RepositoryError> = transaction!(self.db, "change profile", conn => {
            let mut profile = profiles::find(conn, id).await?;
            change(&mut profile);
            profiles::update(conn, &profile).await
        });
        changed.unwrap();
    }

    /// Enters a certificate as it is.
    pub(crate) async fn enter(&self, certificate: &Certificate) {
        let entered: Result<(), RepositoryError> = transaction!(self.db, "enter certificate", conn => {
            certificates::insert(conn, certificate).await
        });
        entered.unwrap();
    }
}

/// Enters rows as they are, through the repository.
macro_rules! enter {
    ($world:expr, $($noun:ident::insert($($row:expr),+));+) => {{
        let entered: Result<(), certctl_repository::Error> = certctl_repository::transaction!($world.db, "enter rows", conn => {
            $(certctl_repository::$noun::insert(conn, $($row),+).await?;)+
            Ok(())
        });
        entered.unwrap();
    }};
}
pub(crate) use enter;

/// The configuration with keys made by the server.
pub(crate) fn server_keys() -> ServiceConfig {
    ServiceConfig {
        keygen_mode: KeygenMode::Server,
        ..config()
    }
}

/// Runs what is due.
pub(crate) async fn process(services: &Services) -> Pass {
    services
        .process_jobs(&CancellationToken::new())
        .await
        .unwrap()
}

fn assemble(
    db: Db,
    clock: &ManualClock,
    folder: &Path,
    config: ServiceConfig,
    ports: AcmePorts,
) -> (Services, Arc<Door>) {
    let sealer = Arc::new(crate::kit::sealer());
    let clock = Arc::new(clock.clone());
    let store = Arc::new(FileCaStore::new(folder));
    let factory = Factory::new(store, Some(Arc::clone(&sealer)), clock.clone());
    let door = Arc::new(Door {
        factory,
        state: Arc::default(),
    });
    let services = Services::new(Dependencies {
        db,
        clock,
        sealer: Some(sealer),
        issuers: door.clone(),
        responder_keys: None,
        vault: Arc::new(MemoryVault::default()),
        acme: ports,
        config,
    });
    (services, door)
}

fn held(permissions: impl Iterator<Item = Permission>) -> Vec<EffectivePermission> {
    permissions
        .map(|permission| EffectivePermission {
            permission,
            scope: Scope::Global,
        })
        .collect()
}

fn all() -> Vec<EffectivePermission> {
    held(Permission::ALL.iter().copied())
}

/// An actor of a kind with the permissions of a role.
pub(crate) fn actor_of(id: &str, kind: ActorType, role: SeededRole) -> Actor {
    let permissions = Permission::ALL
        .iter()
        .copied()
        .filter(|one| role.holds(*one));
    Actor::new(id, kind, false, Vec::new(), held(permissions))
}

/// Who an agent's own key speaks for.
pub(crate) fn agent_actor(id: &str) -> Actor {
    actor_of(id, ActorType::Agent, SeededRole::Agent)
}

pub(crate) fn agent_id(id: &str) -> AgentId {
    AgentId::from_stored(id.to_owned())
}

pub(crate) fn certificate_id(id: &str) -> CertificateId {
    CertificateId::from_stored(id.to_owned())
}

/// A request for one name, with a key.
pub(crate) fn csr_with(key: &PrivateKey, name: &str) -> String {
    csr_for(key, name, &[name])
}

/// A request for a common name and further names, with a key.
pub(crate) fn csr_for(key: &PrivateKey, common_name: &str, sans: &[&str]) -> String {
    let sans = sans
        .iter()
        .map(|name| SubjectAltName::parse(name).unwrap())
        .collect();
    CsrBuilder::new(common_name)
        .sans(sans)
        .sign_pem(key)
        .unwrap()
}

/// A request for the world's certificate, with a new key.
pub(crate) fn csr() -> String {
    csr_with(
        &PrivateKey::generate(KeySpec::EcdsaP256).unwrap(),
        "mc-web.example.test",
    )
}

/// What became of a use case, in a word or two; more of them than [`crate::kit::outcome`] knows.
pub(crate) fn outcome<T>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::NotYours(_)) => "not yours".to_owned(),
        Err(Error::Unauthenticated(_)) => "unauthenticated".to_owned(),
        Err(Error::AgentRetired(_)) => "gone".to_owned(),
        Err(Error::AgentBlocked(_)) => "blocked".to_owned(),
        Err(Error::Unprocessable(_)) => "unprocessable".to_owned(),
        Err(Error::TooManyExports { .. }) => "too many".to_owned(),
        Err(Error::Gone(_)) => "gone".to_owned(),
        Err(Error::Disabled(_)) => "disabled".to_owned(),
        other => crate::kit::outcome(other),
    }
}

/// Why a use case refused, in its own words.
#[track_caller]
pub(crate) fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    result.unwrap_err().to_string()
}

/// The real local CA behind a door.
pub(crate) struct Door {
    factory: Factory,
    state: Arc<DoorState>,
}

#[derive(Default)]
struct DoorState {
    refusal: Mutex<Option<IssuerError>>,
    shut: Mutex<Option<Arc<Shut>>>,
    own_serials: AtomicBool,
    is_elsewhere: AtomicBool,
    signed: Mutex<Vec<String>>,
    told: Mutex<Vec<String>>,
}

/// A door that is shut.
pub(crate) struct Shut {
    /// Whether the CA signs before it waits behind the door.
    signs_first: bool,
    /// What it answers instead of signing.
    refusal: Option<IssuerError>,
    arrived: Semaphore,
    opened: Semaphore,
}

impl Shut {
    /// Waits until somebody stands behind the door.
    pub(crate) async fn arrived(&self) {
        let arrived = tokio::time::timeout(Duration::from_secs(60), self.arrived.acquire());
        arrived
            .await
            .expect("somebody comes to the CA")
            .unwrap()
            .forget();
    }

    pub(crate) fn open(&self) {
        self.opened.add_permits(1);
    }
}

impl Door {
    /// Has the CA answer every request with this.
    pub(crate) fn refuse(&self, error: Option<IssuerError>) {
        *self.state.refusal.lock().unwrap() = error;
    }

    /// Shuts the door once: whoever comes next waits, and is refused then.
    pub(crate) fn refuse_late(&self, error: IssuerError) -> Arc<Shut> {
        self.shut_with(false, Some(error))
    }

    /// Shuts the door once: whoever comes next waits, before or after the CA has signed.
    pub(crate) fn shut(&self, signs_first: bool) -> Arc<Shut> {
        self.shut_with(signs_first, None)
    }

    fn shut_with(&self, signs_first: bool, refusal: Option<IssuerError>) -> Arc<Shut> {
        let shut = Arc::new(Shut {
            signs_first,
            refusal,
            arrived: Semaphore::new(0),
            opened: Semaphore::new(0),
        });
        *self.state.shut.lock().unwrap() = Some(Arc::clone(&shut));
        shut
    }

    /// Has the CA choose the serials itself, as those of others do.
    pub(crate) fn choose_serials(&self) {
        self.state.own_serials.store(true, Ordering::SeqCst);
    }

    /// Has the CA be another's, whose key this process does not hold.
    pub(crate) fn stand_elsewhere(&self) {
        self.state.is_elsewhere.store(true, Ordering::SeqCst);
    }

    /// The certificate of the seeded CA, as PEM.
    pub(crate) async fn root(&self) -> String {
        let id = IssuerId::from_stored("iss-local".into());
        let config = serde_json::json!({});
        let connected = self
            .factory
            .connect(&id, IssuerType::GenericCa, &config)
            .await;
        connected.unwrap().ca_pem().await.unwrap()
    }

    /// Every serial that was signed here, in order, however often.
    pub(crate) fn signed(&self) -> Vec<String> {
        self.state.signed.lock().unwrap().clone()
    }

    /// The serials that the CA was told are revoked.
    pub(crate) fn told(&self) -> Vec<String> {
        self.state.told.lock().unwrap().clone()
    }
}

impl IssuerFactory for Door {
    fn validate(&self, kind: IssuerType, config: &Value) -> Result<(), IssuerError> {
        self.factory.validate(kind, config)
    }

    fn connect<'a>(
        &'a self,
        id: &'a IssuerId,
        kind: IssuerType,
        config: &'a Value,
    ) -> BoxFuture<'a, Result<Arc<dyn Issuer>, IssuerError>> {
        Box::pin(async move {
            let behind = self.factory.connect(id, kind, config).await?;
            let state = Arc::clone(&self.state);
            Ok(Arc::new(Guarded { behind, state }) as Arc<dyn Issuer>)
        })
    }

    fn secret_fields(&self, kind: IssuerType) -> &'static [&'static str] {
        self.factory.secret_fields(kind)
    }

    fn destroy<'a>(&'a self, id: &'a IssuerId) -> BoxFuture<'a, Result<(), IssuerError>> {
        self.factory.destroy(id)
    }
}

struct Guarded {
    behind: Arc<dyn Issuer>,
    state: Arc<DoorState>,
}

impl Issuer for Guarded {
    fn issue(
        &self,
        requests: Vec<IssuanceRequest>,
    ) -> BoxFuture<'_, Vec<Result<IssuedCertificate, IssuerError>>> {
        Box::pin(async move {
            if let Some(error) = self.state.refusal.lock().unwrap().clone() {
                return requests.iter().map(|_| Err(error.clone())).collect();
            }
            let shut = self.state.shut.lock().unwrap().take();
            if let Some(shut) = shut.as_ref().filter(|shut| !shut.signs_first) {
                wait_at(shut).await;
            }
            if let Some(error) = shut.as_ref().and_then(|shut| shut.refusal.clone()) {
                return requests.iter().map(|_| Err(error.clone())).collect();
            }
            let mut requests = requests;
            if self.state.own_serials.load(Ordering::SeqCst) {
                for request in &mut requests {
                    request.serial = random_serial().unwrap();
                }
            }
            let answers = self.behind.issue(requests).await;
            let signed = answers
                .iter()
                .flatten()
                .map(|issued| issued.serial.to_string());
            self.state.signed.lock().unwrap().extend(signed);
            if let Some(shut) = shut.as_ref().filter(|shut| shut.signs_first) {
                wait_at(shut).await;
            }
            answers
        })
    }

    fn revoke<'a>(
        &'a self,
        serial: &'a SerialNumber,
        reason: RevocationReason,
    ) -> BoxFuture<'a, Result<(), IssuerError>> {
        self.state.told.lock().unwrap().push(serial.to_string());
        self.behind.revoke(serial, reason)
    }

    fn ca_pem(&self) -> BoxFuture<'_, Result<String, IssuerError>> {
        self.behind.ca_pem()
    }

    fn status_signer(&self) -> Option<Arc<dyn StatusSigner>> {
        let is_elsewhere = self.state.is_elsewhere.load(Ordering::SeqCst);
        self.behind.status_signer().filter(|_| !is_elsewhere)
    }
}

async fn wait_at(shut: &Shut) {
    shut.arrived.add_permits(1);
    shut.opened.acquire().await.unwrap().forget();
}
