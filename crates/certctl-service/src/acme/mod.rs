//! The ACME server's use cases (RFC 8555, 8737, 8738, 9773).
//!
//! Who asks is told by the signature on each request, so these use cases take no actor: [`SignedRequest`] is checked in the order
//! of RFC 8555 §6 (`signed`), and everything that writes goes through one desk for each replica, which carries out what waits there
//! in one transaction (`desk`). What operators do is in `operators`, and takes an actor like everything else.

mod accounts;
mod answers;
mod certificates;
mod challenges;
mod config;
mod desk;
mod dispatch;
mod finalize;
mod first_rows;
mod gc;
mod generations;
mod issue;
mod known;
mod limits;
mod metrics;
mod new_order;
mod nonces;
mod operators;
mod orders;
mod recent;
mod revoke;
mod signed;
mod view;
mod waiting;

use std::sync::Arc;

use certctl_domain::{
    access::{Actor, ActorType},
    acme::AcmeAccountId,
};
use certctl_repository::{Backend, Db};
use tokio::sync::Semaphore;

pub(crate) use self::waiting::{orders_failed, orders_given_up, orders_succeeded};
pub use self::{
    answers::{
        AccountAnswer, ChallengeAnswer, Download, OrderAnswer, OrdersAnswer, Refusal,
        RenewalInfoAnswer, SignedRequest,
    },
    config::{AcmeConfig, AcmePorts},
    first_rows::{FIRST_OWNER, FIRST_PROFILE, FIRST_TEAM},
    gc::GcSummary,
    operators::NewEabKey,
};
pub use certctl_repository::acme::failing_names::PausedName;

use crate::{Services, limits::Limits};

/// The ACME server; cheap to clone.
#[derive(Clone)]
pub struct Acme {
    services: Services,
    state: Arc<State>,
}

/// What the use cases of a process remember.
pub(crate) struct State {
    config: AcmeConfig,
    ports: AcmePorts,
    nonces: nonces::Nonces,
    known: known::KnownAccounts,
    recent: recent::Recent,
    view: view::Views,
    desk: desk::Desk,
    pub(crate) waiting: waiting::Waiting,
    lanes: crate::engine::held::Lanes,
    /// Who signs at a time before anything is written: as many as the machine runs at once.
    signing: Semaphore,
    pools: dispatch::Pools,
    limits: limits::AcmeLimits,
}

impl State {
    pub(crate) fn new(config: AcmeConfig, ports: AcmePorts, db: &Db, limits: &Limits) -> Self {
        Self {
            nonces: nonces::Nonces::new(&config, db.backend() == Backend::Sqlite),
            known: known::KnownAccounts::new(),
            recent: recent::Recent::new(),
            view: view::Views::default(),
            desk: desk::Desk::new(db.backend()),
            waiting: waiting::Waiting::default(),
            lanes: crate::engine::held::Lanes::new(config.lanes),
            signing: Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from)),
            pools: dispatch::Pools::new(&config),
            limits: limits::AcmeLimits::new(&config, limits),
            config,
            ports,
        }
    }
}

impl Services {
    /// The ACME server; none where it is switched off.
    #[must_use]
    pub fn acme(&self) -> Option<Acme> {
        self.acme.as_ref().map(|state| Acme {
            services: self.clone(),
            state: Arc::clone(state),
        })
    }
}

impl Acme {
    /// How it behaves.
    #[must_use]
    pub fn config(&self) -> &AcmeConfig {
        &self.state.config
    }

    /// Whether other replicas may serve the same clients.
    fn is_shared(&self) -> bool {
        self.services.db.backend() == Backend::Postgres
    }
}

/// An account as the audit log names it.
fn actor_of(account: &AcmeAccountId) -> Actor {
    Actor::new(
        format!("acme:{account}"),
        ActorType::ApiKey,
        false,
        Vec::new(),
        Vec::new(),
    )
}
