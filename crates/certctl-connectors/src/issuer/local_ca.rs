//! The CA in this process (`GenericCA`, issuers §4).
//!
//! Two modes: a root that certctl makes itself and keeps in a [`CaStore`], and a CA whose certificate and key are given
//! as files. Revocation is recorded by the caller; there is no one to tell.

mod config;
mod names;
mod open;
mod sign;
mod status;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use certctl_domain::{
    id::IssuerId,
    ports::{
        BoxFuture,
        issuer::{IssuanceRequest, IssuedCertificate, Issuer, IssuerError, StatusSigner},
    },
    revocation::RevocationReason,
    serial::SerialNumber,
    time::Timestamp,
};
use certctl_pki::{cert::CaSigner, seal::Sealer};

pub use self::config::{Config, Mode};
use super::ca_store::CaStore;

/// A CA that is ready to sign.
pub struct LocalCa {
    inner: Arc<Inner>,
}

struct Inner {
    signer: CaSigner,
    /// The issuing CA and what is above it, up to the root: what clients are told to trust.
    ca_pem: String,
    /// What is handed out with every leaf: the same without the root, which a server must not send to be trusted and need not
    /// send otherwise (RFC 8446 §4.4.2).
    chain_pem: String,
    config: Config,
}

impl LocalCa {
    /// Opens the CA of a configuration; a root that does not exist yet is made.
    ///
    /// # Errors
    /// [`IssuerError::Validation`] naming the field that is wrong; [`IssuerError::Other`] when the store fails, or its key is
    /// sealed and cannot be opened.
    pub async fn connect(
        id: &IssuerId,
        config: Config,
        store: &Arc<dyn CaStore>,
        sealer: Option<Arc<Sealer>>,
        now: Timestamp,
    ) -> Result<Self, IssuerError> {
        let opened = match &config.mode {
            Mode::SelfSigned { common_name } => {
                open::root(id, common_name.clone(), store, sealer, now).await?
            }
            Mode::SubCa {
                certificate_path,
                key_path,
            } => open::files(certificate_path.clone(), key_path.clone(), now).await?,
        };
        Ok(Self {
            inner: Arc::new(Inner {
                ca_pem: opened.ca_pem(),
                chain_pem: opened.chain_pem(),
                signer: opened.signer,
                config,
            }),
        })
    }
}

/// Checks that the files of a configuration, if it names any, are a CA that can be used now.
///
/// # Errors
/// [`IssuerError::Validation`] naming the field that is wrong.
pub fn check_files(config: &Config, now: Timestamp) -> Result<(), IssuerError> {
    match &config.mode {
        Mode::SelfSigned { .. } => Ok(()),
        Mode::SubCa {
            certificate_path,
            key_path,
        } => open::read_files(certificate_path, key_path, now).map(drop),
    }
}

impl Issuer for LocalCa {
    fn issue(
        &self,
        requests: Vec<IssuanceRequest>,
    ) -> BoxFuture<'_, Vec<Result<IssuedCertificate, IssuerError>>> {
        let (inner, count) = (Arc::clone(&self.inner), requests.len());
        Box::pin(async move {
            // What takes less than the hop does.
            if count == 1 && inner.signer.is_quick() {
                let sign = AssertUnwindSafe(|| sign::all(&inner, &requests));
                return catch_unwind(sign)
                    .unwrap_or_else(|_| vec![Err(sign::interrupted()); count]);
            }
            // One hop for the whole batch: signing takes microseconds, a hop to another thread takes tens of them.
            tokio::task::spawn_blocking(move || sign::all(&inner, &requests))
                .await
                .unwrap_or_else(|_| vec![Err(sign::interrupted()); count])
        })
    }

    fn revoke<'a>(
        &'a self,
        _serial: &'a SerialNumber,
        _reason: RevocationReason,
    ) -> BoxFuture<'a, Result<(), IssuerError>> {
        Box::pin(async { Ok(()) })
    }

    fn ca_pem(&self) -> BoxFuture<'_, Result<String, IssuerError>> {
        Box::pin(async { Ok(self.inner.ca_pem.clone()) })
    }

    fn status_signer(&self) -> Option<Arc<dyn StatusSigner>> {
        Some(self.inner.clone())
    }
}
