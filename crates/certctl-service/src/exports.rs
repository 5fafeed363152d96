//! Exports of certificates, limited per actor and hour: a chain is no secret, but a fleet's worth of them is a map.

use certctl_domain::{
    access::{Actor, Permission},
    audit::EventCategory,
    id::CertificateId,
    secret::Secret,
    validation::InvalidField,
};
use certctl_pki::{pem, pkcs12};
use certctl_repository::{certificates, transaction, versions};
use serde_json::json;

use crate::{
    Error, Services,
    error::Expect as _,
    limits::CERTIFICATE_EXPORT,
    services::{authorise, event, record},
};

/// A certificate as PEM, in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PemExport {
    /// The leaf.
    pub cert_pem: String,
    /// The rest.
    pub chain_pem: String,
    /// All of it, leaf first.
    pub full_pem: String,
}

impl Services {
    /// Exports the latest version of a certificate.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `cert.read`, [`Error::NotFound`] when there is no certificate or nothing is issued,
    /// [`Error::TooManyExports`], [`Error::Unprocessable`] when what is stored is no chain.
    pub async fn export_pem(&self, actor: &Actor, id: &CertificateId) -> Result<PemExport, Error> {
        self.export(actor, id, "export_pem", split).await
    }

    /// Exports the latest version of a certificate as PKCS#12: its chain as trusted certificates, and never a key.
    ///
    /// # Errors
    /// As [`Self::export_pem`], and [`Error::Invalid`] for a password that the format cannot take.
    pub async fn export_pkcs12(
        &self,
        actor: &Actor,
        id: &CertificateId,
        password: &Secret,
    ) -> Result<Vec<u8>, Error> {
        authorise(actor, Permission::CertRead)?;
        check_password(password)?;
        self.export(actor, id, "export_pkcs12", |chain| {
            let certificates = pem::decode_certificates(chain).map_err(|_| unreadable())?;
            if certificates.is_empty() {
                return Err(unreadable());
            }
            pkcs12::trust_store(&certificates, password.expose()).map_err(|_| unreadable())
        })
        .await
    }

    /// Reads the latest version, makes something of its chain, and writes down that it was exported.
    async fn export<T>(
        &self,
        actor: &Actor,
        id: &CertificateId,
        action: &'static str,
        make: impl FnOnce(&str) -> Result<T, Error>,
    ) -> Result<T, Error> {
        authorise(actor, Permission::CertRead)?;
        let now = self.now();
        let mut conn = self.read().await?;
        certificates::find(&mut conn, id)
            .await
            .or_not_found("certificate", id)?;
        let version = versions::latest(&mut conn, id)
            .await?
            .ok_or_else(|| Error::not_found("issued version of certificate", id))?;
        drop(conn);
        self.admit_export(actor).await?;
        let export = make(&version.pem_chain)?;
        transaction!(self.db, "export certificate", conn => {
            let details = json!({"serial_number": version.serial_number.as_str()});
            record(conn, event(actor, EventCategory::CertLifecycle, action, ("certificate", id.as_str()), details, now)).await?;
            Ok::<_, Error>(())
        })?;
        Ok(export)
    }
}

/// Characters of a password at the most.
const MAX_PASSWORD: usize = 1024;

/// PKCS#12 takes the characters of the basic plane only (RFC 7292 Appendix B.1).
fn check_password(password: &Secret) -> Result<(), InvalidField> {
    let text = password.expose();
    if text.chars().count() > MAX_PASSWORD {
        let problem = format!("has more than {MAX_PASSWORD} characters");
        return Err(InvalidField::new("password", problem));
    }
    if text.chars().any(|c| u32::from(c) > 0xffff || c == '\0') {
        return Err(InvalidField::new(
            "password",
            "has characters that PKCS#12 cannot take",
        ));
    }
    Ok(())
}

impl Services {
    /// Counts an export of the actor; every way of exporting counts together.
    ///
    /// # Errors
    /// [`Error::TooManyExports`].
    pub(crate) async fn admit_export(&self, actor: &Actor) -> Result<(), Error> {
        let limit = self.config.exports_per_hour;
        let verdict = self.limits.admit(&CERTIFICATE_EXPORT, limit, actor.id());
        match verdict.await.retry_after_seconds() {
            None => Ok(()),
            Some(retry_after) => Err(Error::TooManyExports { retry_after }),
        }
    }
}

fn unreadable() -> Error {
    Error::Unprocessable("the stored chain cannot be read".to_owned())
}

fn split(full_pem: &str) -> Result<PemExport, Error> {
    let certificates = pem::decode_certificates(full_pem).map_err(|_| unreadable())?;
    let (leaf, chain) = certificates.split_first().ok_or_else(unreadable)?;
    Ok(PemExport {
        cert_pem: pem::encode_chain(std::slice::from_ref(leaf)),
        chain_pem: pem::encode_chain(chain),
        full_pem: full_pem.to_owned(),
    })
}
