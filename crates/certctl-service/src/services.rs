//! The use cases behind one handle, and what all of them share.

use std::{
    ops::Deref,
    sync::{Arc, Mutex},
};

use certctl_domain::{
    access::{Actor, Permission, Scope},
    audit::{AuditEvent, EventCategory, redact},
    id::AuditEventId,
    ports::vault::Vault,
    time::{Clock, Timestamp},
};
use certctl_pki::seal::Sealer;
use certctl_repository::{Conn, Db, audit_events};

use crate::{
    Error,
    access::cache::AccessCache,
    audit::AuditState,
    bootstrap::Bootstrapped,
    config::{Dependencies, ServiceConfig},
    engine::wake::Wake,
    heartbeats::HeartbeatBuffer,
    issuers::registry::IssuerRegistry,
    limits::Limits,
    metrics::RecentCounts,
    status::Status,
    totals::TotalsCache,
};

/// All use cases; cheap to clone. Every public method takes the actor first and authorises before it does anything.
#[derive(Clone)]
pub struct Services(Arc<Inner>);

/// What the use cases share.
pub struct Inner {
    pub(crate) db: Db,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) sealer: Option<Arc<Sealer>>,
    pub(crate) config: ServiceConfig,
    pub(crate) access: AccessCache,
    pub(crate) bootstrapped: Bootstrapped,
    pub(crate) issuers: IssuerRegistry,
    pub(crate) heartbeats: HeartbeatBuffer,
    pub(crate) wake: Wake,
    pub(crate) policies_changed: Wake,
    pub(crate) limits: Limits,
    pub(crate) counts: RecentCounts,
    pub(crate) totals: TotalsCache,
    pub(crate) status: Status,
    pub(crate) vault: Arc<dyn Vault>,
    pub(crate) audit: AuditState,
    pub(crate) acme: Option<Arc<crate::acme::State>>,
    /// When jobs of dead workers were last looked for.
    pub(crate) recovered_at: Mutex<Option<Timestamp>>,
}

impl Services {
    /// Puts the use cases together; nothing runs yet.
    #[must_use]
    pub fn new(dependencies: Dependencies) -> Self {
        let Dependencies {
            db,
            clock,
            sealer,
            issuers,
            responder_keys,
            vault,
            acme: ports,
            config,
        } = dependencies;
        let access = AccessCache::new(&config);
        let limits = Limits::new(config.limits, &db, &config.instance, Arc::clone(&clock));
        let acme = config
            .acme
            .clone()
            .map(|acme| Arc::new(crate::acme::State::new(acme, ports, &db, &limits)));
        Self(Arc::new(Inner {
            acme,
            recovered_at: Mutex::default(),
            db,
            clock,
            sealer,
            access,
            bootstrapped: Bootstrapped::default(),
            issuers: IssuerRegistry::new(issuers),
            heartbeats: HeartbeatBuffer::default(),
            wake: Wake::default(),
            policies_changed: Wake::default(),
            limits,
            counts: RecentCounts::default(),
            totals: TotalsCache::default(),
            status: Status::new(responder_keys),
            vault,
            audit: AuditState::new(&config.audit),
            config,
        }))
    }

    /// The database, for health probes and programs around the services.
    #[must_use]
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// The clock that all use cases go by.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A connection to read with.
    pub(crate) async fn read(&self) -> Result<Conn, Error> {
        Ok(self.db.read().await?)
    }
}

impl Deref for Services {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// Refuses an actor that does not hold the permission for everything.
pub(crate) fn authorise(actor: &Actor, permission: Permission) -> Result<(), Error> {
    authorise_for(actor, permission, &Scope::Global)
}

/// Refuses an actor that does not hold the permission for everything or for exactly this scope.
pub(crate) fn authorise_for(
    actor: &Actor,
    permission: Permission,
    scope: &Scope,
) -> Result<(), Error> {
    if actor.may(permission, scope) {
        Ok(())
    } else {
        Err(Error::Forbidden(permission))
    }
}

/// An audit event of an actor; the details are redacted.
pub(crate) fn event(
    actor: &Actor,
    category: EventCategory,
    action: &str,
    resource: (&str, &str),
    details: serde_json::Value,
    now: Timestamp,
) -> AuditEvent {
    AuditEvent {
        id: AuditEventId::generate(now),
        actor: actor.id().to_owned(),
        actor_type: actor.actor_type(),
        action: action.to_owned(),
        resource_type: resource.0.to_owned(),
        resource_id: resource.1.to_owned(),
        details: redact(details),
        timestamp: now,
        category,
    }
}

/// Writes one audit event in the transaction of what it tells of.
pub(crate) async fn record(conn: &mut Conn, event: AuditEvent) -> Result<(), Error> {
    Ok(audit_events::insert_all(conn, &[event]).await?)
}
