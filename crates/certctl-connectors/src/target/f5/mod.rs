//! F5 BIG-IP: new objects, and one transaction that has the profile name them (targets §3.13).
//!
//! The profile is the one thing that is served, and it changes as a whole or not at all. What a deployment makes has names
//! of its own (`certctl-cert-<nanoseconds>`), so nothing that is in use is ever overwritten, and going back means naming the
//! old objects again.

mod api;
mod config;
mod error;
mod session;
mod tidy;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU32, Ordering},
};

use certctl_domain::{target::TargetType, time::Timestamp, validation::InvalidField};
use certctl_telemetry::ErrorChain;
use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio::time::Instant;
use zeroize::Zeroizing;

pub use self::error::Error as F5Error;
use self::{
    api::{CHUNK, Kind, References},
    config::Config,
    session::Session,
};
use super::{
    DeploymentRequest, DeploymentResult, Error, Means, TargetConnector, ValidationResult,
    deployment_id, leaf_fingerprint, pem,
};
use crate::deploy::{self, HookFailure};

/// The F5 connector.
pub struct F5 {
    means: Means,
    chunk: usize,
}

/// What a deployment is to put on the appliance.
struct Material<'a> {
    cert: String,
    chain: Option<String>,
    key: Zeroizing<String>,
    fingerprint: String,
    config: &'a Config,
}

/// A deployment that has changed the profile, or found nothing to change.
enum Done {
    Already(References),
    Changed(References),
}

impl F5 {
    /// The connector for F5 BIG-IP.
    #[must_use]
    pub fn new(means: Means) -> Self {
        Self {
            means,
            chunk: CHUNK,
        }
    }

    /// The same connector, which uploads in pieces of this many bytes, at least one.
    #[must_use]
    pub fn with_chunk(self, chunk: usize) -> Self {
        let chunk = chunk.clamp(1, CHUNK);
        Self { chunk, ..self }
    }

    async fn put_in_place(&self, request: &DeploymentRequest) -> Result<DeploymentResult, Error> {
        let started = Instant::now();
        let config = Config::read(&request.target_config)?;
        let material = Material::of(request, &config)?;
        let mut session = Session::open(&config).await.map_err(Error::F5)?;
        let done = self.change(&mut session, &material).await;
        session.close().await;
        let done = done?;

        let now = self.means.engine.clock().now();
        let idempotent = matches!(done, Done::Already(_));
        let verified = config.verify.is_some() && !idempotent;
        let (Done::Already(named) | Done::Changed(named)) = done;
        let mut metadata = BTreeMap::from([
            (
                "duration_ms".to_owned(),
                started.elapsed().as_millis().to_string(),
            ),
            ("idempotent".to_owned(), idempotent.to_string()),
            ("ssl_profile".to_owned(), config.full_path(&config.profile)),
        ]);
        for (name, object) in [
            ("cert_object", named.cert),
            ("key_object", named.key),
            ("chain_object", named.chain),
        ] {
            metadata.extend(object.map(|object| (name.to_owned(), object)));
        }
        let message = match (idempotent, verified) {
            (true, _) => "already in place",
            (false, true) => "committed and seen to be served",
            (false, false) => "committed",
        };
        Ok(DeploymentResult {
            target_address: config.address(),
            deployment_id: deployment_id(TargetType::F5, now),
            message: message.to_owned(),
            deployed_at: now,
            idempotent,
            verified,
            metadata,
        })
    }

    async fn change(
        &self,
        session: &mut Session<'_>,
        material: &Material<'_>,
    ) -> Result<Done, Error> {
        let before = material.config.only_pair(session).await?;
        if let Some(cert) = &before.cert
            && let Some(live) = session.certificate(cert).await.map_err(Error::F5)?
            && live.fingerprint_sha256().as_ref() == Some(&material.fingerprint)
        {
            return Ok(Done::Already(before));
        }
        let now = self.means.engine.clock().now();
        let after = material.names(now);
        let result = self.replace(session, material, &before, &after).await;
        match &result {
            Ok(()) => {
                session
                    .sweep(&material.config.partition, &before, &after, now)
                    .await;
            }
            // What is unknown may be in use.
            Err(Error::Deploy(failure)) if failure.rollback() == deploy::Rollback::AlsoFailed => {}
            Err(_) => session.remove(&after).await,
        }
        result.map(|()| Done::Changed(after))
    }

    /// From what is named before to what is named after; or back, as far as it came.
    async fn replace(
        &self,
        session: &mut Session<'_>,
        material: &Material<'_>,
        before: &References,
        after: &References,
    ) -> Result<(), Error> {
        self.install(session, material, after)
            .await
            .map_err(Error::F5)?;
        let profile = material.config.full_path(&material.config.profile);
        let transaction = session.begin().await.map_err(Error::F5)?;
        let queued = session.patch(&profile, after, Some(transaction)).await;
        let committed = match queued {
            Ok(()) => session.commit(transaction).await,
            refused => refused,
        };
        let committed = match committed {
            // Whether it was carried out is not known, but can be looked at once it cannot be carried out any more.
            Err(unknown) if !unknown.is_refusal() => {
                session.give_up(transaction).await;
                session.shows(&profile, after).await.map_err(|_| unknown)
            }
            known => known,
        };
        let cause = match committed {
            Ok(()) => match self.verify(session, material, &profile, after).await {
                Ok(()) => return Ok(()),
                Err(said) => deploy::Error::VerifyFailed(said),
            },
            Err(refusal) if refusal.is_refusal() => {
                session.give_up(transaction).await;
                return Err(deploy::Error::ValidateFailed(ErrorChain(&refusal).to_string()).into());
            }
            Err(unknown) => deploy::Error::ReloadFailed(ErrorChain(&unknown).to_string()),
        };
        match session.restore(&profile, before).await {
            Ok(()) => Err(cause.into()),
            Err(problem) => Err(deploy::Error::RollbackFailed {
                cause: Box::new(cause),
                problem: format!(
                    "the profile {profile} could not be given back what it named, {}: {}",
                    before.as_json(),
                    ErrorChain(&problem)
                ),
                backups: Vec::new(),
            }
            .into()),
        }
    }

    /// Uploads and installs certificate, chain and key under their new names.
    async fn install(
        &self,
        session: &mut Session<'_>,
        material: &Material<'_>,
        after: &References,
    ) -> Result<(), F5Error> {
        let files = [
            (Kind::Certificate, &after.cert, Some(&material.cert)),
            (Kind::Certificate, &after.chain, material.chain.as_ref()),
            (Kind::Key, &after.key, Some(&*material.key)),
        ];
        for (kind, full_path, text) in files {
            let (Some(full_path), Some(text)) = (full_path, text) else {
                continue;
            };
            let file = full_path.rsplit('/').next().unwrap_or(full_path);
            let uploaded = session.upload(file, text.as_bytes(), self.chunk).await;
            let installed = match uploaded {
                Ok(()) => session.install(kind, full_path, file).await,
                failed => failed,
            };
            // Also after a failure: a part of a key is worth as much care.
            if let Err(problem) = session.remove_upload(file).await {
                tracing::warn!(file, problem = %ErrorChain(&problem), "an uploaded file stays on the appliance");
            }
            installed?;
        }
        Ok(())
    }

    /// Looks at the profile, and at what is served where that is wanted.
    async fn verify(
        &self,
        session: &mut Session<'_>,
        material: &Material<'_>,
        profile: &str,
        after: &References,
    ) -> Result<(), String> {
        let shown = session.shows(profile, after).await;
        shown.map_err(|problem| ErrorChain(&problem).to_string())?;
        let Some(verification) = &material.config.verify else {
            return Ok(());
        };
        let looked = verification
            .look(&self.means.prober, &material.fingerprint)
            .await;
        looked.map_err(|HookFailure(said)| said)
    }

    /// Logs in and reads the profile; nothing is changed.
    async fn try_out(&self, request: &DeploymentRequest) -> Result<(), Error> {
        let config = Config::read(&request.target_config)?;
        Material::of(request, &config)?;
        let said = |problem: F5Error| Error::DryRun(ErrorChain(&problem).to_string());
        let mut session = Session::open(&config).await.map_err(said)?;
        let found = config.only_pair(&mut session).await;
        session.close().await;
        match found {
            Ok(_) => Ok(()),
            Err(Error::F5(problem)) => Err(said(problem)),
            Err(problem) => Err(problem),
        }
    }

    async fn look(&self, config: &Value, serial: &str) -> Result<ValidationResult, Error> {
        let config = Config::read(config)?;
        let mut session = Session::open(&config).await.map_err(Error::F5)?;
        let found = config.live_serial(&mut session).await;
        session.close().await;
        let found = found?.unwrap_or_default();
        Ok(ValidationResult {
            valid: !found.is_empty() && found.eq_ignore_ascii_case(serial.trim_start_matches('0')),
            message: if found.is_empty() {
                "the profile names no certificate that the appliance knows".to_owned()
            } else {
                "the profile was read".to_owned()
            },
            serial: found,
            target_address: config.address(),
            validated_at: self.means.engine.clock().now(),
            metadata: BTreeMap::new(),
        })
    }
}

impl TargetConnector for F5 {
    fn validate_config<'a>(&'a self, config: &'a Value) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async { Config::read(config).map(drop) })
    }

    fn deploy<'a>(
        &'a self,
        request: &'a DeploymentRequest,
    ) -> BoxFuture<'a, Result<DeploymentResult, Error>> {
        Box::pin(self.put_in_place(request))
    }

    fn validate_only<'a>(
        &'a self,
        request: &'a DeploymentRequest,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.try_out(request))
    }

    fn validate_deployment<'a>(
        &'a self,
        config: &'a Value,
        serial: &'a str,
    ) -> BoxFuture<'a, Result<ValidationResult, Error>> {
        Box::pin(self.look(config, serial))
    }
}

impl<'a> Material<'a> {
    fn of(request: &DeploymentRequest, config: &'a Config) -> Result<Self, Error> {
        let chain = pem::block(&request.chain_pem);
        Ok(Self {
            key: Zeroizing::new(pem::block(request.key()?)),
            cert: pem::block(&request.cert_pem),
            // All issuers in one object, however many they are: version 15 takes no list of them (targets §3.13).
            chain: (!chain.is_empty()).then_some(chain),
            fingerprint: leaf_fingerprint(&request.cert_pem)?,
            config,
        })
    }

    /// Names that nobody has: the time in nanoseconds, whose last three digits count within this process.
    fn names(&self, now: Timestamp) -> References {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed) % 1000;
        let nanos = format!("{}{count:03}", now.as_micros());
        let name = |part: &str| self.config.full_path(&format!("certctl-{part}-{nanos}"));
        References {
            cert: Some(name("cert")),
            key: Some(name("key")),
            chain: self.chain.as_ref().map(|_| name("chain")),
        }
    }
}

impl Config {
    /// An object of the partition.
    fn full_path(&self, name: &str) -> String {
        format!("/{}/{name}", self.partition)
    }

    /// What the profile names. With several pairs it is not known which is meant, so nothing is touched.
    async fn only_pair(&self, session: &mut Session<'_>) -> Result<References, Error> {
        let path = self.full_path(&self.profile);
        let profile = session.profile(&path).await.map_err(Error::F5)?;
        match profile.pairs() {
            1 => Ok(profile.references()),
            several => Err(Error::Config(InvalidField::new(
                "ssl_profile",
                format!(
                    "{path} has {several} pairs of certificate and key; give each a profile of its own"
                ),
            ))),
        }
    }

    async fn live_serial(&self, session: &mut Session<'_>) -> Result<Option<String>, Error> {
        let Some(cert) = self.only_pair(session).await?.cert else {
            return Ok(None);
        };
        let file = session.certificate(&cert).await.map_err(Error::F5)?;
        Ok(file.and_then(|file| file.serial()))
    }
}
