//! Revocations.

use certctl_domain::{
    access::{Actor, Permission},
    audit::EventCategory,
    certificate::CertificateEvent,
    id::{CertificateId, RevocationId},
    revocation::{Revocation, RevocationReason},
    validation::InvalidField,
};
use certctl_repository::{certificates, revocations, transaction, versions};
use certctl_telemetry::ErrorChain;
use serde_json::json;

use crate::{
    Error, Services,
    error::Expect as _,
    jobs::call_off_waiting,
    services::{authorise, event, record},
};

impl Services {
    /// Revokes the latest version of a certificate, and with it the certificate: state, revocation and audit row together, or
    /// none of them. Then the issuer is told, as well as can be.
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
        let now = self.now();
        let revocation = transaction!(self.db, "revoke certificate", conn => {
            let mut certificate = certificates::find_for_update(conn, id).await.or_not_found("certificate", id)?;
            let seen = certificate.status;
            let next = seen.transition(CertificateEvent::Revoke).map_err(|refused| {
                Error::BadRequest(format!("a certificate that is {} cannot be revoked", refused.from))
            })?;
            let version = versions::latest(conn, id).await?.ok_or_else(|| Error::not_found("issued version of certificate", id))?;
            // Versions that older programs wrote do not say who signed; the certificate's issuer is the best that is known.
            let issuer_id = if version.issuer_id.as_str().is_empty() {
                certificate.issuer_id.clone()
            } else {
                version.issuer_id.clone()
            };
            certificate.status = next;
            certificate.revoked_at = Some(now);
            certificate.revocation_reason = Some(reason);
            certificate.updated_at = now;
            certificates::update(conn, &certificate, seen).await?;
            let revocation = Revocation {
                id: RevocationId::generate(now),
                certificate_id: id.clone(),
                issuer_id: issuer_id.clone(),
                serial_number: version.serial_number.clone(),
                reason,
                revoked_by: actor.id().to_owned(),
                revoked_at: now,
                issuer_notified: false,
            };
            revocations::insert(conn, &revocation).await?;
            call_off_waiting(conn, actor, id, "the certificate was revoked", now).await?;
            let details = json!({"reason": reason.as_str(), "serial_number": version.serial_number.as_str(), "issuer_id": issuer_id.as_str()});
            record(conn, event(actor, EventCategory::CertLifecycle, "certificate_revoked", ("certificate", id.as_str()), details, now)).await?;
            Ok::<_, Error>(revocation)
        })?;
        self.tell_issuer(&revocation).await;
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
