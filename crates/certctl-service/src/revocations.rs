//! Revocations.

use certctl_domain::{
    access::{Actor, Permission},
    audit::EventCategory,
    certificate::CertificateEvent,
    id::{CertificateId, RevocationId},
    revocation::{Revocation, RevocationReason},
    validation::InvalidField,
};
use certctl_repository::{certificates, notifications, revocations, transaction};
use certctl_telemetry::ErrorChain;
use serde_json::json;

use crate::{
    Error, Services,
    error::Expect as _,
    jobs::call_off_waiting,
    notifications as told,
    services::{authorise, event, record},
};

impl Services {
    /// Revokes a certificate: its latest version and every other one that is still valid. State, revocations, audit row and the mark
    /// that status services go by are written together, or none of them. Then the issuer is told, as well as can be.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `cert.revoke`, [`Error::Invalid`] for an unknown reason, [`Error::NotFound`] when there is no
    /// certificate or nothing is issued, [`Error::BadRequest`] when it is revoked or archived already.
    pub async fn revoke_certificate(
        &self,
        actor: &Actor,
        id: &CertificateId,
        reason: Option<&str>,
    ) -> Result<(), Error> {
        authorise(actor, Permission::CertRevoke)?;
        let reason = match reason.filter(|reason| !reason.is_empty()) {
            Some(text) => RevocationReason::parse(text)
                .map_err(|error| InvalidField::new("reason", error.to_string()))?,
            None => RevocationReason::Unspecified,
        };
        self.revoke_by(actor, id, reason).await
    }

    /// Revokes for somebody of whom it is known that they may.
    pub(crate) async fn revoke_by(
        &self,
        actor: &Actor,
        id: &CertificateId,
        reason: RevocationReason,
    ) -> Result<(), Error> {
        let now = self.now();
        let revoked = transaction!(self.db, "revoke certificate", conn => {
            let mut certificate = certificates::find_for_update(conn, id).await.or_not_found("certificate", id)?;
            let seen = certificate.status;
            let next = seen.transition(CertificateEvent::Revoke).map_err(|refused| {
                Error::BadRequest(format!("a certificate that is {} cannot be revoked", refused.from))
            })?;
            let serials = revocations::revocable(conn, id, now).await?;
            if serials.is_empty() {
                return Err(Error::not_found("issued version of certificate", id));
            }
            certificate.status = next;
            certificate.revoked_at = Some(now);
            certificate.revocation_reason = Some(reason);
            certificate.updated_at = now;
            certificates::update(conn, &certificate, seen).await?;
            let revoked: Vec<Revocation> = serials
                .into_iter()
                .map(|(issuer_id, serial_number)| Revocation {
                    id: RevocationId::generate(now),
                    certificate_id: id.clone(),
                    issuer_id,
                    serial_number,
                    reason,
                    revoked_by: actor.id().to_owned(),
                    revoked_at: now,
                    issuer_notified: false,
                })
                .collect();
            notifications::enqueue_all(conn, &[told::of_revocation(id, reason)], now).await?;
            call_off_waiting(conn, actor, id, "the certificate was revoked", now).await?;
            let details = details(&revoked, reason);
            record(conn, event(actor, EventCategory::CertLifecycle, "certificate_revoked", ("certificate", id.as_str()), details, now)).await?;
            // Last, because it locks a row that every revocation of the issuer waits for.
            revocations::enter(conn, &revoked).await?;
            Ok::<_, Error>(revoked)
        })?;
        self.status.changed();
        for revocation in &revoked {
            self.tell_issuer(revocation).await;
        }
        Ok(())
    }

    /// Tells the issuer of a revocation; the database is the truth already, so a failure is logged and no more.
    pub(crate) async fn tell_issuer(&self, revocation: &Revocation) {
        let told = match self.connected_issuer(&revocation.issuer_id).await {
            Ok(connected) => connected
                .issuer
                .revoke(&revocation.serial_number, revocation.reason)
                .await
                .map_err(Into::into),
            Err(error) => Err(error),
        };
        if let Err(error) = told {
            tracing::warn!(issuer.id = %revocation.issuer_id, serial = %revocation.serial_number, error = %ErrorChain(&error),
                "the issuer could not be told of a revocation");
            return;
        }
        let noted: Result<(), Error> = transaction!(self.db, "note revocation told", conn => {
            revocations::set_notified(conn, &revocation.id).await?;
            Ok::<_, Error>(())
        });
        if let Err(error) = noted {
            tracing::warn!(error = %ErrorChain(&error), "that the issuer was told of a revocation could not be noted");
        }
    }
}

/// What the audit log says; the serial of the latest version first.
fn details(revoked: &[Revocation], reason: RevocationReason) -> serde_json::Value {
    let serials: Vec<&str> = revoked
        .iter()
        .map(|one| one.serial_number.as_str())
        .collect();
    json!({"reason": reason.as_str(), "serial_number": serials[0], "issuer_id": revoked[0].issuer_id.as_str(), "serial_numbers": serials})
}
