//! The agent and what its loops share.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use certctl_connectors::{
    deploy::{Engine, command::SystemRunner},
    probe::Prober,
    target::Registry,
};
use certctl_domain::{
    id::{CertificateId, JobId, TargetId},
    time::Clock,
};
use certctl_telemetry::ErrorChain;
use tokio::{
    sync::Semaphore,
    task::{JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::{
    Error,
    config::AgentConfig,
    host::HostFacts,
    keys::KeyStore,
    outbox::Outbox,
    report,
    wire::{Client, Server, body::JobReport},
    work::{self, BadItem, DeploymentWork, RequestWork, Work},
};

/// How many targets are worked on at the same time (agent §11).
const PARALLEL_TARGETS: usize = 4;
/// Where the jobs under way are noted, in the key folder.
const JOBS: &str = "agent-jobs";

/// The agent of one host.
#[derive(Clone)]
pub struct Agent {
    pub(crate) inner: Arc<Inner>,
}

/// What a poll did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Polled {
    /// How many signing requests were accepted, so that certificates are about to come.
    pub accepted: usize,
    /// How many deployments were carried out, well or not.
    pub deployments: usize,
}

pub(crate) struct Inner {
    pub(crate) config: AgentConfig,
    pub(crate) client: Client,
    pub(crate) keys: KeyStore,
    pub(crate) registry: Registry,
    pub(crate) prober: Prober,
    pub(crate) outbox: Outbox,
    /// No new work is taken on.
    pub(crate) stop: CancellationToken,
    /// The server has said that this agent is no longer wanted.
    pub(crate) retired: CancellationToken,
    targets: Mutex<HashMap<TargetId, Arc<tokio::sync::Mutex<()>>>>,
    permits: Semaphore,
}

impl Agent {
    /// Makes an agent with the connectors of this build: opens the key folder and reads the roots. Calls nobody.
    ///
    /// # Errors
    /// [`Error::ServerUrl`], [`Error::CaBundle`], [`Error::NoRoots`], and [`Error::File`] for a key folder that cannot be
    /// used.
    pub fn new(config: AgentConfig, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let registry = Registry::standard(&Engine::new(clock), &SystemRunner::shared());
        Self::with_registry(config, registry)
    }

    /// Makes an agent with other connectors.
    ///
    /// # Errors
    /// As [`Agent::new`].
    pub fn with_registry(config: AgentConfig, registry: Registry) -> Result<Self, Error> {
        let server = Server::new(&config.server)?;
        let inner = Inner {
            client: Client::new(server, config.identity.clone()),
            keys: KeyStore::open(&config.key_dir)?,
            registry,
            prober: Prober::new(),
            outbox: Outbox::open(config.key_dir.join(JOBS))?,
            stop: CancellationToken::new(),
            retired: CancellationToken::new(),
            targets: Mutex::default(),
            permits: Semaphore::new(PARALLEL_TARGETS),
            config,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Says once that the agent is there.
    ///
    /// # Errors
    /// [`Error::Retired`] and what else a call can meet.
    pub async fn heartbeat(&self) -> Result<(), Error> {
        let inner = &self.inner;
        let address = inner.client.server().address();
        let facts = HostFacts::gather(&inner.config.server.version, address).await;
        let beat = inner.client.heartbeat(&facts).await;
        beat.inspect_err(|failure| inner.note(failure))
    }

    /// Asks for work once, does all of it, and tries to deliver every result.
    ///
    /// # Errors
    /// What the poll itself met. How the work went is told to the server, not here.
    pub async fn poll_once(&self) -> Result<Polled, Error> {
        let inner = &self.inner;
        let items = inner.client.work().await;
        let items = items.inspect_err(|failure| inner.note(failure))?;
        let mut tasks = JoinSet::new();
        let Sorted {
            deployments,
            requests,
            bad,
        } = inner.sort(&items);
        for (job, problem) in bad {
            let report = JobReport::failed(inner.safe(&problem));
            inner.outbox.report(&job, &report).await;
        }
        for work in &deployments {
            inner.outbox.take(&work.job).await;
        }
        for work in deployments {
            let span = tracing::info_span!("deployment", job_id = %work.job, certificate_id = %work.certificate, target_id = %work.target);
            let inner = Arc::clone(inner);
            let job = work.job.clone();
            let task = async move { inner.deploy_in_turn(&work).await }.instrument(span);
            tasks.spawn(async move { guard(&job, tokio::spawn(task).await) });
        }
        for work in requests {
            let span = tracing::info_span!("request", job_id = %work.job, certificate_id = %work.certificate);
            let inner = Arc::clone(inner);
            let job = work.job.clone();
            let task = async move { inner.request_in_turn(work).await }.instrument(span);
            tasks.spawn(async move { guard(&job, tokio::spawn(task).await) });
        }
        let mut polled = Polled::default();
        while let Some(done) = tasks.join_next().await {
            match done {
                Ok(Ok(Done::Deployed)) => polled.deployments += 1,
                Ok(Ok(Done::Accepted)) => polled.accepted += 1,
                Ok(Ok(Done::Nothing)) | Err(_) => {}
                Ok(Err(job)) => {
                    let said = "the agent came upon a fault of its own".to_owned();
                    inner.outbox.report(&job, &JobReport::failed(said)).await;
                }
            }
        }
        inner.flush().await;
        Ok(polled)
    }
}

/// What a poll handed out.
#[derive(Default)]
struct Sorted {
    deployments: Vec<DeploymentWork>,
    requests: Vec<RequestWork>,
    bad: Vec<(JobId, String)>,
}

/// What a piece of work came to.
enum Done {
    Deployed,
    Accepted,
    Nothing,
}

/// A piece of work that panics must not take the agent with it, nor leave its job without an end.
fn guard(job: &JobId, joined: Result<Done, JoinError>) -> Result<Done, JobId> {
    joined.map_err(|failed| {
        tracing::error!(job_id = %job, problem = %failed, "a fault of the agent");
        job.clone()
    })
}

impl Inner {
    /// Reads the items, leaving out what is being reported already.
    fn sort(&self, items: &[serde_json::Value]) -> Sorted {
        let mut sorted = Sorted::default();
        for item in items {
            match work::read(item) {
                Ok(Some(Work::Deployment(work))) if !self.outbox.holds(&work.job) => {
                    sorted.deployments.push(*work);
                }
                Ok(Some(Work::Request(work))) if !self.outbox.holds(&work.job) => {
                    sorted.requests.push(work);
                }
                Ok(_) => {}
                Err(BadItem { job, problem }) => {
                    tracing::error!(problem, "a work item cannot be done");
                    let job = job.filter(|job| !self.outbox.holds(job));
                    sorted.bad.extend(job.map(|job| (job, problem)));
                }
            }
        }
        // A new pending key would take the place of the one that a deployment of the same certificate waits for. The
        // request is handed out again with every poll.
        let deployed: BTreeSet<&CertificateId> = sorted
            .deployments
            .iter()
            .map(|work| &work.certificate)
            .collect();
        sorted
            .requests
            .retain(|work| !deployed.contains(&work.certificate));
        sorted
    }

    /// One deployment at a time per target, and a few targets at a time.
    async fn deploy_in_turn(self: &Arc<Self>, work: &DeploymentWork) -> Done {
        let turn = self.turn_of(&work.target);
        let _turn = turn.lock().await;
        let _permit = self.permits.acquire().await;
        if self.is_ending() {
            // Handed out to this agent, so nobody else would take it up.
            let said = "the agent was stopped before the deployment began".to_owned();
            self.outbox
                .report(&work.job, &JobReport::failed(said))
                .await;
            return Done::Nothing;
        }
        self.deploy(work).await;
        self.flush().await;
        Done::Deployed
    }

    async fn request_in_turn(self: &Arc<Self>, work: RequestWork) -> Done {
        let _permit = self.permits.acquire().await;
        if self.is_ending() {
            return Done::Nothing;
        }
        if self.request_certificate(work).await {
            Done::Accepted
        } else {
            Done::Nothing
        }
    }

    fn is_ending(&self) -> bool {
        self.stop.is_cancelled() || self.retired.is_cancelled()
    }

    fn turn_of(&self, target: &TargetId) -> Arc<tokio::sync::Mutex<()>> {
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(targets.entry(target.clone()).or_default())
    }

    /// Tries to deliver every result.
    pub(crate) async fn flush(&self) {
        if let Err(failure) = self.outbox.flush(&self.client).await {
            self.note(&failure);
        }
    }

    /// Any call may be the one that is told that the agent is retired (agent §4).
    pub(crate) fn note(&self, failure: &Error) {
        if matches!(failure, Error::Retired) && !self.retired.is_cancelled() {
            tracing::warn!("{}", ErrorChain(failure));
            self.retired.cancel();
        }
    }

    /// Text fit for the server and the log.
    pub(crate) fn safe(&self, text: &str) -> String {
        report::safe(text, &[self.client.api_key()])
    }
}
