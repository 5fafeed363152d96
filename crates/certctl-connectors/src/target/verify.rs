//! A connector's own look at what is served (targets §2, post-deploy verify).

use std::time::Duration;

use certctl_domain::validation::InvalidField;
use certctl_telemetry::ErrorChain;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::sleep;

use super::config::{self, PostDeployVerify, Span};
use crate::{
    deploy::HookFailure,
    probe::{Endpoint, Prober},
};

/// Where to look, how often and how patiently.
#[derive(Debug, Clone)]
pub(super) struct Verification {
    endpoint: Endpoint,
    timeout: Duration,
    attempts: u32,
    backoff: Duration,
    max_backoff: Duration,
}

/// The fields that every type with a TLS service has.
#[derive(Deserialize)]
struct Fields {
    #[serde(default)]
    post_deploy_verify: PostDeployVerify,
    post_deploy_verify_attempts: Option<u32>,
    post_deploy_verify_backoff: Option<Span>,
    post_deploy_verify_max_backoff: Option<Span>,
}

impl Verification {
    /// Reads the settings; nothing when there is nowhere to look, or nobody wants it.
    ///
    /// # Errors
    /// [`InvalidField`] naming the field.
    pub(super) fn read(config: &Value) -> Result<Option<Self>, InvalidField> {
        const ATTEMPTS: u32 = 3;
        const MOST_ATTEMPTS: u32 = 20;
        const BACKOFF: Duration = Duration::from_secs(1);
        const MAX_BACKOFF: Duration = Duration::from_secs(16);
        let fields: Fields = config::read(config)?;
        if !fields.post_deploy_verify.is_enabled() {
            return Ok(None);
        }
        let endpoint = fields
            .post_deploy_verify
            .endpoint()
            .map_err(|problem| InvalidField::new("post_deploy_verify", problem.to_string()))?;
        Ok(endpoint.map(|endpoint| Self {
            endpoint,
            timeout: fields.post_deploy_verify.timeout(),
            attempts: fields
                .post_deploy_verify_attempts
                .unwrap_or(ATTEMPTS)
                .clamp(1, MOST_ATTEMPTS),
            backoff: fields
                .post_deploy_verify_backoff
                .map_or(BACKOFF, |span| span.0),
            max_backoff: fields
                .post_deploy_verify_max_backoff
                .map_or(MAX_BACKOFF, |span| span.0),
        }))
    }

    /// Looks until the leaf of this fingerprint is presented; a service takes a moment after a reload, so one look is not
    /// enough.
    pub(super) async fn look(&self, prober: &Prober, fingerprint: &str) -> Result<(), HookFailure> {
        let (endpoint, attempts) = (&self.endpoint, self.attempts);
        let mut pause = self.backoff;
        let mut problem = String::new();
        for attempt in 1..=attempts {
            problem = match prober.probe(endpoint, self.timeout).await {
                Ok(seen) if seen.fingerprint_sha256 == fingerprint => return Ok(()),
                Ok(seen) => format!(
                    "{endpoint} presents the certificate {} instead of {fingerprint}",
                    seen.fingerprint_sha256
                ),
                Err(failure) => ErrorChain(&failure).to_string(),
            };
            if attempt < attempts {
                sleep(pause.min(self.max_backoff)).await;
                pause = pause.saturating_mul(2);
            }
        }
        Err(HookFailure(format!("{problem} (attempts: {attempts})")))
    }
}
