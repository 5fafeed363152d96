//! The audit trail: read, sealed, verified, exported; each use case writes its own rows, in its transaction.

mod api_trail;
mod export;
mod keys;
mod proof;
mod seal;
mod verify;

use std::sync::Mutex;

use certctl_domain::{
    access::{Actor, Permission},
    audit::AuditEvent,
    id::AuditEventId,
    page::{Page, PageRequest},
    time::Timestamp,
};
use certctl_pki::trail::TrailKey;
use certctl_repository::audit_events;
use tokio::sync::Semaphore;

pub use api_trail::ApiCall;
pub use certctl_pki::trail::{Anchor, Break, Hash, Problem, SignedHead, event_json, hash_from_hex};
pub use export::{AuditExport, ExportRange, SealedExport};
pub use keys::TrailKeyView;
pub use proof::InclusionProof;
pub use seal::SealPass;
pub use verify::{AuditVerification, VerifyFrom};

use self::api_trail::ApiTrail;
use crate::{
    Error, Services, config::AuditConfig, error::Expect as _, services::authorise, totals::Asked,
};

/// What the audit trail keeps in memory.
pub(crate) struct AuditState {
    /// Calls of the API that wait to be written.
    pub(crate) calls: ApiTrail,
    /// The key that signs here.
    key: tokio::sync::Mutex<Option<std::sync::Arc<TrailKey>>>,
    /// The newest head this process knows of, which nobody can take away from it in the database.
    newest: Mutex<Option<Anchor>>,
    /// When the newest head was last written to the log.
    told_at: Mutex<Option<Timestamp>>,
    /// One verification at a time, for it reads everything.
    verifying: Semaphore,
}

impl AuditState {
    pub(crate) fn new(config: &AuditConfig) -> Self {
        Self {
            calls: ApiTrail::new(config),
            key: tokio::sync::Mutex::default(),
            newest: Mutex::default(),
            told_at: Mutex::default(),
            verifying: Semaphore::new(1),
        }
    }
}

impl Services {
    /// Lists audit events, newest first.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `audit.read`.
    pub async fn list_audit_events(
        &self,
        actor: &Actor,
        filter: &audit_events::AuditFilter,
        page: PageRequest,
    ) -> Result<Page<AuditEvent>, Error> {
        authorise(actor, Permission::AuditRead)?;
        let rows = audit_events::list_page(&mut self.read().await?, filter, page).await?;
        let total = self.count(&Asked::AuditEvents(filter.clone())).await?;
        Ok(Page { rows, total })
    }

    /// Reads one audit event.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `audit.read`, [`Error::NotFound`].
    pub async fn get_audit_event(
        &self,
        actor: &Actor,
        id: &AuditEventId,
    ) -> Result<AuditEvent, Error> {
        authorise(actor, Permission::AuditRead)?;
        audit_events::find(&mut self.read().await?, id)
            .await
            .or_not_found("audit event", id)
    }
}
