//! Audit events as they are read; each use case writes its own, in its transaction.

use certctl_domain::{
    access::{Actor, Permission},
    audit::AuditEvent,
    id::AuditEventId,
    page::{Page, PageRequest},
};
use certctl_repository::audit_events;

use crate::{Error, Services, error::Expect as _, services::authorise};

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
        Ok(audit_events::list(&mut self.read().await?, filter, page).await?)
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
