//! Revocation by clients (RFC 8555 §7.6).

use certctl_acme::payload::Revocation as Asked;
use certctl_domain::{
    access::{Actor, ActorType},
    acme::{Identifier, Problem, ProblemType},
    audit::EventCategory,
    id::RevocationId,
    name::SubjectAltName,
    revocation::{Revocation, RevocationReason},
};
use certctl_pki::cert::ParsedCertificate;
use certctl_repository::{
    acme::{
        authorizations,
        issuing::{self, IssuedVersion},
    },
    revocations, transaction,
};
use serde_json::json;

use super::{
    Acme, Refusal, SignedRequest, actor_of,
    desk::Work,
    metrics,
    signed::{Opened, Signer, absent},
};
use crate::{
    Error,
    services::{event, record},
};

impl Acme {
    /// Revokes a certificate for the account that ordered it or has proved all its names, or for whoever has its key.
    ///
    /// # Errors
    /// Those of every signed request, `unauthorized` for anybody else, `malformed` with 404 for a certificate that is none of this
    /// server's, `alreadyRevoked`, `badRevocationReason`.
    pub async fn revoke(&self, request: SignedRequest) -> Result<(), Refusal> {
        let result = match self.open(&request).await {
            Ok(opened) => {
                let revoked = self.revoke_asked(&opened, &request).await;
                self.settle(&opened, revoked).await
            }
            Err(refusal) => Err(refusal),
        };
        metrics::count(metrics::REVOKE_CERT, &result);
        result
    }

    async fn revoke_asked(&self, opened: &Opened, request: &SignedRequest) -> Result<(), Refusal> {
        // Who signed is decided before anything is asked, so that one nonce does for either way.
        if Self::is_of_account(opened)? {
            let signer = self.signer(opened, request).await?;
            let asked = Asked::parse(opened.jws.payload())?;
            self.touch(opened, &signer).await?;
            let (version, leaf) = self.revocable(&asked).await?;
            self.may_revoke(&signer, &version, &leaf).await?;
            let actor = actor_of(signer.id());
            return self.revoke_version(&actor, &version, asked.reason).await;
        }
        let key = self.key_holder(opened)?;
        let asked = Asked::parse(opened.jws.payload())?;
        let leaf = read(&asked)?;
        if !key.is_key_of(leaf.spki_der()) {
            let detail = "the key that signed is not that of the certificate";
            return Err(Problem::new(ProblemType::Unauthorized, detail).into());
        }
        // Whoever has the key may be anybody, but has proved more than an address; what is written is bounded by certificates.
        if opened.nonce.is_some() {
            self.submit(opened, None, Work::Touch).await?;
        }
        let (version, _) = self.revocable(&asked).await?;
        let actor = Actor::new(
            format!("acme-cert-key:{}", version.serial_number),
            ActorType::Anonymous,
            false,
            Vec::new(),
            Vec::new(),
        );
        self.revoke_version(&actor, &version, asked.reason).await
    }

    /// The version that is this certificate, octet for octet.
    async fn revocable(
        &self,
        asked: &Asked,
    ) -> Result<(IssuedVersion, ParsedCertificate), Refusal> {
        let leaf = read(asked)?;
        let fingerprint = leaf.fingerprint_sha256();
        let mut conn = self.services.read().await?;
        let version = issuing::by_fingerprint(&mut conn, &fingerprint).await?;
        Ok((version.ok_or_else(|| absent("certificate"))?, leaf))
    }

    /// RFC 8555 §7.6: the account that ordered it, or one that has proved every name in it.
    async fn may_revoke(
        &self,
        signer: &Signer,
        version: &IssuedVersion,
        leaf: &ParsedCertificate,
    ) -> Result<(), Refusal> {
        if version
            .ordered
            .as_ref()
            .is_some_and(|(_, account)| account == signer.id())
        {
            return Ok(());
        }
        let names: Option<Vec<Identifier>> = leaf.sans().iter().map(identifier).collect();
        let names = names.filter(|names| !names.is_empty());
        if let Some(names) = names {
            let values: Vec<String> = names
                .iter()
                .map(|name| name.without_wildcard().to_string())
                .collect();
            let account = std::slice::from_ref(signer.id());
            let now = self.services.now();
            let mut conn = self.services.read().await?;
            let proved = authorizations::proved(&mut conn, account, &values, now).await?;
            let has = |name: &Identifier| {
                proved.iter().any(|kept| {
                    kept.authorization.identifier == name.without_wildcard()
                        && kept.authorization.wildcard == name.is_wildcard()
                })
            };
            if names.iter().all(has) {
                return Ok(());
            }
        }
        let detail = "the account neither ordered the certificate nor has proved all its names";
        Err(Problem::new(ProblemType::Unauthorized, detail).into())
    }

    async fn revoke_version(
        &self,
        actor: &Actor,
        version: &IssuedVersion,
        reason: RevocationReason,
    ) -> Result<(), Refusal> {
        let revoked_already = || {
            let detail = "the certificate is revoked already";
            Refusal::from(Problem::new(ProblemType::AlreadyRevoked, detail))
        };
        if version.is_revoked {
            return Err(revoked_already());
        }
        let done = if version.is_latest {
            let id = &version.certificate_id;
            self.services.revoke_by(actor, id, reason).await
        } else {
            self.revoke_old(actor, version, reason).await
        };
        match done {
            // Somebody else was quicker.
            Err(Error::BadRequest(_)) => Err(revoked_already()),
            other => Ok(other?),
        }
    }

    /// An older version alone: whoever has its key has no say in those that came after it.
    async fn revoke_old(
        &self,
        actor: &Actor,
        version: &IssuedVersion,
        reason: RevocationReason,
    ) -> Result<(), Error> {
        let now = self.services.now();
        let revocation = Revocation {
            id: RevocationId::generate(now),
            certificate_id: version.certificate_id.clone(),
            issuer_id: version.issuer_id.clone(),
            serial_number: version.serial_number.clone(),
            reason,
            revoked_by: actor.id().to_owned(),
            revoked_at: now,
            issuer_notified: false,
        };
        transaction!(self.services.db, "revoke version", conn => {
            let details = json!({"serial_number": version.serial_number.as_str(), "issuer_id": version.issuer_id.as_str(),
                "reason": reason.as_str()});
            let resource = ("certificate", version.certificate_id.as_str());
            record(conn, event(actor, EventCategory::CertLifecycle, "certificate_revoked", resource, details, now)).await?;
            revocations::enter(conn, std::slice::from_ref(&revocation)).await?;
            Ok::<_, Error>(())
        })?;
        self.services.status.changed();
        self.services.tell_issuer(&revocation).await;
        Ok(())
    }
}

fn read(asked: &Asked) -> Result<ParsedCertificate, Refusal> {
    ParsedCertificate::from_der(&asked.certificate)
        .map_err(|_| Problem::new(ProblemType::Malformed, "the certificate cannot be read").into())
}

/// A name of a certificate as ACME proves it; none for what it cannot.
fn identifier(name: &SubjectAltName) -> Option<Identifier> {
    match name {
        SubjectAltName::Dns(name) => Identifier::dns(name).ok(),
        SubjectAltName::Ip(ip) => Some(Identifier::Ip(*ip)),
        _ => None,
    }
}
