//! Certificates on the wire.

use std::collections::BTreeMap;

use certctl_domain::certificate::{
    Certificate, CertificateSource, CertificateStatus, CertificateVersion,
};
use certctl_service::{
    certificates::CertificateInput, exports::PemExport, renewals::RenewalTriggered,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Rfc3339,
    api::targets::TargetView,
    wire::{ChosenId, ID, ID_OR_NONE, TEXT, creation, spellings},
};

/// A certificate (model §3.1).
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Certificate")]
pub(crate) struct CertificateView {
    id: String,
    name: String,
    common_name: String,
    sans: Vec<String>,
    environment: String,
    owner_id: String,
    team_id: String,
    issuer_id: String,
    target_ids: Vec<String>,
    renewal_policy_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_profile_id: Option<String>,
    status: &'static str,
    /// The end of the latest version; the year 1 while nothing is issued.
    expires_at: Rfc3339,
    tags: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_renewal_at: Option<Rfc3339>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_deployment_at: Option<Rfc3339>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<Rfc3339>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revocation_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'static str>,
    created_at: Rfc3339,
    updated_at: Rfc3339,
}

impl From<Certificate> for CertificateView {
    fn from(certificate: Certificate) -> Self {
        Self {
            id: certificate.id.into_string(),
            name: certificate.name,
            common_name: certificate.common_name.as_str().to_owned(),
            sans: certificate.sans,
            environment: certificate.environment,
            owner_id: certificate.owner_id.into_string(),
            team_id: certificate.team_id.into_string(),
            issuer_id: certificate.issuer_id.into_string(),
            target_ids: certificate
                .target_ids
                .into_iter()
                .map(certctl_domain::id::TargetId::into_string)
                .collect(),
            renewal_policy_id: certificate.renewal_policy_id.into_string(),
            certificate_profile_id: certificate
                .profile_id
                .map(certctl_domain::id::ProfileId::into_string),
            status: certificate.status.as_str(),
            expires_at: Rfc3339::or_zero(certificate.expires_at),
            tags: certificate.tags,
            last_renewal_at: certificate.last_renewal_at.map(Into::into),
            last_deployment_at: certificate.last_deployment_at.map(Into::into),
            revoked_at: certificate.revoked_at.map(Into::into),
            revocation_reason: certificate
                .revocation_reason
                .map(certctl_domain::revocation::RevocationReason::as_str),
            source: Some(certificate.source)
                .filter(|source| *source != CertificateSource::Unset)
                .map(CertificateSource::as_str),
            created_at: certificate.created_at.into(),
            updated_at: certificate.updated_at.into(),
        }
    }
}

/// A certificate to be entered or changed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct CertificateRequest {
    /// Made when absent; not read on a change.
    id: Option<ChosenId>,
    /// Unique; required to enter one.
    #[schemars(length(max = 255), regex(pattern = TEXT))]
    name: Option<String>,
    /// A host name, an address or a mailbox; required to enter one.
    #[schemars(length(max = 253), regex(pattern = COMMON_NAME))]
    common_name: Option<String>,
    #[schemars(length(max = 100))]
    sans: Option<Vec<String>>,
    #[schemars(length(max = 50), regex(pattern = TEXT))]
    environment: Option<String>,
    #[schemars(regex(pattern = ID_OR_NONE))]
    owner_id: Option<String>,
    #[schemars(regex(pattern = ID_OR_NONE))]
    team_id: Option<String>,
    #[schemars(regex(pattern = ID_OR_NONE))]
    issuer_id: Option<String>,
    #[schemars(regex(pattern = ID_OR_NONE))]
    renewal_policy_id: Option<String>,
    #[schemars(regex(pattern = ID_OR_NONE))]
    certificate_profile_id: Option<String>,
    #[schemars(extend("enum" = spellings!(CertificateStatus, or none)))]
    status: Option<String>,
    expires_at: Option<Rfc3339>,
    #[schemars(extend("maxProperties" = 64))]
    tags: Option<BTreeMap<String, String>>,
    #[schemars(length(max = 200), inner(regex(pattern = ID)))]
    target_ids: Option<Vec<String>>,
}

creation!(
    NewCertificate: CertificateRequest,
    "name",
    "common_name",
    "owner_id",
    "team_id",
    "issuer_id",
    "renewal_policy_id"
);

/// Nothing, a host name or address, or a mailbox (api §2.4).
const COMMON_NAME: &str = r"^([A-Za-z0-9.*_:-]{0,253}|[!-+\-./-;=?A-~]+@[A-Za-z0-9._-]+)$";

impl From<CertificateRequest> for CertificateInput {
    fn from(request: CertificateRequest) -> Self {
        Self {
            id: request.id.map(ChosenId::into_string),
            name: request.name,
            common_name: request.common_name,
            sans: request.sans,
            environment: request.environment,
            owner_id: request.owner_id,
            team_id: request.team_id,
            issuer_id: request.issuer_id,
            renewal_policy_id: request.renewal_policy_id,
            certificate_profile_id: request.certificate_profile_id,
            status: request.status,
            expires_at: request.expires_at.and_then(Rfc3339::get),
            tags: request.tags,
            target_ids: request.target_ids,
        }
    }
}

/// An issued version (model §3.2).
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "CertificateVersion")]
pub(crate) struct VersionView {
    id: String,
    certificate_id: String,
    /// Lowercase hex without leading zeros.
    serial_number: String,
    not_before: Rfc3339,
    not_after: Rfc3339,
    /// SHA-256 of the leaf's DER, lowercase hex.
    fingerprint_sha256: String,
    /// Leaf first.
    pem_chain: String,
    csr_pem: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    key_algorithm: String,
    #[serde(skip_serializing_if = "is_zero")]
    key_size: u32,
    created_at: Rfc3339,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl From<CertificateVersion> for VersionView {
    fn from(version: CertificateVersion) -> Self {
        Self {
            id: version.id.into_string(),
            certificate_id: version.certificate_id.into_string(),
            serial_number: version.serial_number.to_string(),
            not_before: version.not_before.into(),
            not_after: version.not_after.into(),
            fingerprint_sha256: version.fingerprint_sha256,
            pem_chain: version.pem_chain,
            csr_pem: version.csr_pem,
            key_algorithm: version.key_algorithm,
            key_size: version.key_size,
            created_at: version.created_at.into(),
        }
    }
}

/// The targets of a certificate.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "CertificateDeployments")]
pub(crate) struct DeploymentsView {
    pub(super) data: Vec<TargetView>,
    pub(super) total: usize,
}

/// How to renew.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct RenewRequest {
    /// Renew although it is expired or a renewal is under way.
    pub(super) force: bool,
}

/// Where to deploy.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct DeployRequest {
    /// One of the certificate's targets; all of them when absent.
    pub(super) target_id: Option<String>,
}

/// Why to revoke.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct RevokeRequest {
    /// A reason of RFC 5280 §5.3.1; `unspecified` when absent.
    pub(super) reason: Option<String>,
}

/// What was done.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Done")]
pub(crate) struct StatusView {
    pub(super) status: &'static str,
}

/// A renewal that is under way.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RenewalTriggered")]
pub(crate) struct TriggeredView {
    status: &'static str,
    job_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    approval_id: Option<String>,
}

impl From<RenewalTriggered> for TriggeredView {
    fn from(triggered: RenewalTriggered) -> Self {
        Self {
            status: "renewal_triggered",
            job_id: triggered.job_id.into_string(),
            approval_id: triggered.approval_id,
        }
    }
}

/// What to protect a PKCS#12 file with.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Pkcs12Request {
    /// Characters of the basic plane; empty when absent.
    #[schemars(length(max = 1024))]
    pub(super) password: Option<String>,
}

/// A certificate as PEM.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "PemExport")]
pub(crate) struct PemView {
    cert_pem: String,
    chain_pem: String,
    full_pem: String,
}

impl From<PemExport> for PemView {
    fn from(export: PemExport) -> Self {
        Self {
            cert_pem: export.cert_pem,
            chain_pem: export.chain_pem,
            full_pem: export.full_pem,
        }
    }
}
