//! Who answers OCSP for an issuer: a key of its own with a certificate of the CA, so that the CA's key is not at work for every
//! question (RFC 6960 §4.2.2.2).
//!
//! All replicas use the responder in the database. Whoever finds that it ends soon makes another and puts it in the place of
//! exactly the one it read; of several replicas one succeeds, and the others take what it put there. That needs no lock that
//! somebody could die with.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use certctl_domain::{
    id::IssuerId,
    key::KeySpec,
    ports::issuer::{ResponderKeyFiles, ResponderRequest},
    secret::Secret,
    time::Timestamp,
};
use certctl_pki::{
    cert::{ParsedCertificate, random_serial},
    key::PrivateKey,
    ocsp::{Responder, ResponderId, ResponseData},
};
use certctl_repository::{
    ocsp_responders::{self, KeyPlace, StoredResponder},
    sealed::SealedColumn,
    transaction,
};
use certctl_telemetry::ErrorChain;

use crate::{Error, Services, status::Authority};

/// How long before now a responder's validity begins, for verifiers whose clocks are behind (issuers §4).
const SKEW: Duration = Duration::from_secs(300);

/// The responders in use.
pub(crate) struct Responders {
    key_files: Option<Arc<dyn ResponderKeyFiles>>,
    in_use: Mutex<HashMap<IssuerId, Arc<Responder>>>,
    turn: tokio::sync::Mutex<()>,
}

impl Responders {
    pub(crate) fn new(key_files: Option<Arc<dyn ResponderKeyFiles>>) -> Self {
        Self {
            key_files,
            in_use: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    fn get(&self, id: &IssuerId) -> Option<Arc<Responder>> {
        self.in_use
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id)
            .cloned()
    }

    fn put(&self, id: &IssuerId, responder: Responder) -> Arc<Responder> {
        let responder = Arc::new(responder);
        let mut in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        in_use.insert(id.clone(), Arc::clone(&responder));
        responder
    }
}

/// Who signs an answer.
pub(crate) enum AnswerSigner {
    /// A responder of the CA.
    Delegated(Arc<Responder>),
    /// The CA itself, where a responder's key could be kept nowhere.
    Itself(Arc<Authority>),
}

impl AnswerSigner {
    pub(crate) fn id(&self) -> Result<ResponderId, Error> {
        Ok(match self {
            Self::Delegated(responder) => responder.id().clone(),
            Self::Itself(ca) => ResponderId::by_key(ca.certificate.public_key()?),
        })
    }

    /// When its certificate ends, after which nobody believes what it signed.
    pub(crate) fn not_after(&self) -> Timestamp {
        match self {
            Self::Delegated(responder) => responder.certificate().not_after(),
            Self::Itself(ca) => ca.certificate.not_after(),
        }
    }

    pub(crate) fn sign(&self, data: &ResponseData) -> Result<Vec<u8>, Error> {
        match self {
            Self::Delegated(responder) => Ok(responder.sign(data)?),
            Self::Itself(ca) => {
                let signature = ca.signer.sign(data.tbs()).map_err(Error::internal)?;
                Ok(data.signed(ca.algorithm, &signature, None))
            }
        }
    }
}

impl Services {
    /// Who signs answers for an issuer now.
    pub(crate) async fn answer_signer(
        &self,
        id: &IssuerId,
        authority: &Arc<Authority>,
    ) -> Result<AnswerSigner, Error> {
        if self.status.responders.key_files.is_none() && self.sealer.is_none() {
            return Ok(AnswerSigner::Itself(Arc::clone(authority)));
        }
        let is_valid = |one: &Arc<Responder>| {
            one.certificate().is_valid_at(self.now())
                && one.certificate().issuer_der() == authority.certificate.subject_der()
                && one.certificate().authority_key_id() == authority.certificate.subject_key_id()
        };
        if let Some(responder) = self.status.responders.get(id).filter(is_valid) {
            return Ok(AnswerSigner::Delegated(responder));
        }
        self.renew_responder(id, authority)
            .await
            .map(AnswerSigner::Delegated)
    }

    /// Replaces the responder of an issuer when it ends soon. While that fails, the one there is goes on.
    pub(crate) async fn keep_responder(
        &self,
        id: &IssuerId,
        authority: &Arc<Authority>,
    ) -> Result<(), Error> {
        if self.status.responders.key_files.is_none() && self.sealer.is_none() {
            return Ok(());
        }
        let ends_soon = |one: &Responder| self.ends_soon(one.certificate().not_after());
        if self
            .status
            .responders
            .get(id)
            .is_some_and(|one| !ends_soon(&one))
        {
            return Ok(());
        }
        self.renew_responder(id, authority).await.map(drop)
    }

    fn ends_soon(&self, not_after: Timestamp) -> bool {
        not_after < self.now() + self.config.status.responder_grace
    }

    /// Takes the responder of the database, or makes one in its place.
    async fn renew_responder(
        &self,
        id: &IssuerId,
        authority: &Arc<Authority>,
    ) -> Result<Arc<Responder>, Error> {
        /// Replicas that are faster, one after the other, before it is given up.
        const TRIES: u32 = 5;
        let _turn = self.status.responders.turn.lock().await;
        for _ in 0..TRIES {
            let stored = ocsp_responders::find(&mut self.read().await?, id).await?;
            let usable = match &stored {
                Some(stored) if !self.is_spent(stored, authority) => {
                    self.open(id, stored, authority).await
                }
                _ => None,
            };
            if let Some(responder) = usable {
                return Ok(self.status.responders.put(id, responder));
            }
            let before = stored.map(|stored| stored.cert_serial);
            if let Some(responder) = self.replace(id, authority, before.as_deref()).await? {
                tracing::info!(issuer.id = %id, serial = %responder.certificate().serial(), "an OCSP responder was certified");
                return Ok(self.status.responders.put(id, responder));
            }
        }
        Err(Error::Unavailable(
            "other replicas keep replacing the OCSP responder".into(),
        ))
    }

    /// Whether it is to be replaced: it ends soon, unless the CA itself does.
    fn is_spent(&self, stored: &StoredResponder, authority: &Authority) -> bool {
        self.ends_soon(stored.not_after)
            && (stored.not_after <= self.now()
                || stored.not_after < authority.certificate.not_after())
    }

    /// A stored responder, if its key can be read and it is this CA's.
    async fn open(
        &self,
        id: &IssuerId,
        stored: &StoredResponder,
        authority: &Authority,
    ) -> Option<Responder> {
        let opened = async {
            let key = match &stored.key {
                KeyPlace::Sealed(blob) => {
                    let sealer = self
                        .sealer
                        .as_deref()
                        .ok_or(certctl_pki::Error::NoEncryptionKey)?;
                    let pem = sealer.open(&SealedColumn::ResponderKeys.place(id.as_str()), blob)?;
                    PrivateKey::from_pem(std::str::from_utf8(&pem).unwrap_or_default())?
                }
                KeyPlace::File(_) => {
                    let files = self.status.responders.key_files.as_deref();
                    let files = files.ok_or_else(|| {
                        Error::internal("its key is in a file, and no folder is configured")
                    })?;
                    let pem = files.load(id).await.map_err(Error::internal)?;
                    PrivateKey::from_pem(
                        pem.ok_or_else(|| Error::internal("its key file is not there"))?
                            .expose(),
                    )?
                }
            };
            let certificate = ParsedCertificate::from_pem(&stored.cert_pem)?;
            certificate.verify_signed_by(&authority.certificate)?;
            Ok::<_, Error>(Responder::new(certificate, key)?)
        };
        match opened.await {
            Ok(responder) => Some(responder),
            Err(error) => {
                tracing::warn!(issuer.id = %id, error = %ErrorChain(&error), "the OCSP responder cannot be used and is replaced");
                None
            }
        }
    }

    /// Makes a responder and stores it; nothing when another replica was faster.
    async fn replace(
        &self,
        id: &IssuerId,
        authority: &Arc<Authority>,
        before: Option<&str>,
    ) -> Result<Option<Responder>, Error> {
        let now = self.now();
        let key = PrivateKey::generate(KeySpec::EcdsaP256)?;
        let der = authority
            .signer
            .certify_responder(&ResponderRequest {
                spki_der: key.spki_der().to_vec(),
                serial: random_serial()?,
                not_before: now - SKEW,
                not_after: now + self.config.status.responder_validity,
            })
            .map_err(Error::internal)?;
        let certificate = ParsedCertificate::from_der(&der)?;
        let pem = key.to_pem();
        let kept = match &self.status.responders.key_files {
            Some(files) => KeyPlace::File(files.path(id)),
            None => KeyPlace::Sealed(self.seal_key(id, &pem)?),
        };
        let stored = StoredResponder {
            cert_pem: certificate.to_pem(),
            cert_serial: certificate.serial().to_string(),
            key: kept,
            key_alg: "ECDSA-P256".to_owned(),
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
        };
        let is_ours = transaction!(self.db, "replace ocsp responder", conn => {
            Ok::<_, Error>(ocsp_responders::replace(conn, id, before, &stored, now).await?)
        })?;
        if !is_ours {
            return Ok(None);
        }
        // Only now, since the file is that of the row's responder. A crash in between leaves a row whose key does not fit, which
        // is replaced like one whose key is lost.
        if let Some(files) = &self.status.responders.key_files {
            files.store(id, pem).await.map_err(Error::internal)?;
        }
        Ok(Some(Responder::new(certificate, key)?))
    }

    fn seal_key(&self, id: &IssuerId, pem: &Secret) -> Result<Vec<u8>, Error> {
        let sealer = self
            .sealer
            .as_deref()
            .ok_or(certctl_pki::Error::NoEncryptionKey)?;
        Ok(sealer.seal(
            &SealedColumn::ResponderKeys.place(id.as_str()),
            pem.expose().as_bytes(),
        )?)
    }
}
