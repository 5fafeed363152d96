//! The bodies of the calls, as the wire has them.

use std::{collections::BTreeMap, fmt};

use certctl_connectors::target::config::Span;
use certctl_domain::{id::TargetId, secret::Secret};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::host::HostFacts;

#[derive(Debug, Serialize)]
pub(crate) struct Registration<'a> {
    pub(crate) name: &'a str,
    #[serde(flatten)]
    pub(crate) facts: &'a HostFacts,
}

#[derive(Deserialize)]
pub(crate) struct Registered {
    pub(crate) id: String,
    #[serde(default, deserialize_with = "maybe_secret")]
    pub(crate) api_key: Option<Secret>,
}

#[derive(Deserialize)]
pub(crate) struct WorkReply {
    /// Read one by one, so that one that cannot be read does not take the others with it.
    pub(crate) jobs: Vec<Value>,
}

/// One item of work. Whatever the contract does not require may be absent or null.
#[derive(Deserialize)]
pub(crate) struct WorkItem {
    pub(crate) id: String,
    #[serde(rename = "type")]
    pub(crate) job_type: String,
    pub(crate) certificate_id: String,
    pub(crate) status: String,
    pub(crate) common_name: Option<String>,
    pub(crate) sans: Option<Vec<String>>,
    pub(crate) key_algorithm: Option<String>,
    pub(crate) must_staple: Option<bool>,
    pub(crate) target_id: Option<String>,
    pub(crate) target_type: Option<String>,
    pub(crate) target_config: Option<Value>,
    pub(crate) verify: Option<VerifyRule>,
}

/// How a deployment is to be verified.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct VerifyRule {
    pub(crate) enabled: Option<bool>,
    pub(crate) timeout: Option<Span>,
    pub(crate) delay: Option<Span>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Csr<'a> {
    pub(crate) csr_pem: &'a str,
    pub(crate) certificate_id: &'a str,
    pub(crate) job_id: &'a str,
}

#[derive(Debug, Deserialize)]
pub(crate) struct CsrReply {
    /// `csr_signed`, or `csr_accepted` when the certificate comes later.
    #[serde(default)]
    pub(crate) status: String,
}

#[derive(Deserialize)]
pub(crate) struct CertificateReply {
    pub(crate) certificate_pem: String,
    /// Only where the server makes the keys, and only once per deployment.
    #[serde(default, deserialize_with = "maybe_secret")]
    pub(crate) private_key_pem: Option<Secret>,
}

impl fmt::Debug for CertificateReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CertificateReply")
    }
}

/// The report on a job.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct JobReport {
    pub(crate) status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) deploy: Option<DeployReport>,
}

impl JobReport {
    pub(crate) fn failed(error: String) -> Self {
        Self {
            status: "Failed",
            error: Some(error),
            deploy: None,
        }
    }
}

/// What the deployment itself was like, for the server's metrics (targets §2).
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct DeployReport {
    /// `success`, or the kind of the failure.
    pub(crate) outcome: String,
    /// `none`, `restored` or `also_failed`.
    pub(crate) rollback: &'static str,
    pub(crate) idempotent: bool,
    /// `success`, `failed` or `skipped`.
    pub(crate) verify: &'static str,
    pub(crate) duration_ms: u64,
    pub(crate) metadata: BTreeMap<String, String>,
}

/// What was seen to be served.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Verification {
    #[serde(serialize_with = "as_text")]
    pub(crate) target_id: TargetId,
    pub(crate) expected_fingerprint: String,
    /// Empty when nothing was seen.
    pub(crate) actual_fingerprint: String,
    pub(crate) verified: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

fn as_text<S: Serializer>(value: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn maybe_secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.filter(|text| !text.is_empty()).map(Secret::new))
}
