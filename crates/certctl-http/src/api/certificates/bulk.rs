//! Many certificates at once (api §12).

use axum::{Json, extract::State};
use certctl_domain::{access::Permission, certificate::CertificateSource};
use certctl_service::bulk::{BulkCriteria, BulkFailure, BulkOutcome, ReassignInput};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ApiError, ApiJson, AppState, Caller, routes::Route};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::post("/api/v1/certificates/bulk-renew", "bulk_renew_certificates")
            .permission(Permission::CertIssue)
            .summary("Asks for a renewal of every certificate that matches; those under way, expired, revoked or archived are skipped")
            .accepts::<CriteriaRequest>()
            .refuses(&[StatusCode::BAD_REQUEST])
            .returns::<BulkRenewView>()
            .handler(bulk_renew),
        Route::post("/api/v1/certificates/bulk-revoke", "bulk_revoke_certificates")
            .permission(Permission::CertBulkRevoke)
            .summary("Revokes every certificate that matches; those revoked or archived already are skipped")
            .accepts::<BulkRevokeRequest>()
            .refuses(&[StatusCode::BAD_REQUEST])
            .returns::<BulkRevokeView>()
            .handler(bulk_revoke),
        Route::post("/api/v1/est/certificates/bulk-revoke", "bulk_revoke_est_certificates")
            .permission(Permission::CertBulkRevoke)
            .summary("Revokes every certificate that matches and came in by EST")
            .accepts::<BulkRevokeRequest>()
            .refuses(&[StatusCode::BAD_REQUEST])
            .returns::<BulkRevokeView>()
            .handler(bulk_revoke_est),
        Route::post("/api/v1/certificates/bulk-reassign", "bulk_reassign_certificates")
            .permission(Permission::CertEdit)
            .summary("Gives certificates to another owner, named by their ids or by criteria")
            .accepts::<BulkReassignRequest>()
            .refuses(&[StatusCode::BAD_REQUEST])
            .returns::<BulkReassignView>()
            .handler(bulk_reassign),
    ]
}

/// Which certificates: what is given holds for each. At least one must be given and not be empty.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "BulkCriteria", extend("minProperties" = 1))]
pub(crate) struct CriteriaRequest {
    /// Of this profile.
    profile_id: Option<String>,
    /// Of this owner.
    owner_id: Option<String>,
    /// Mapped to a target of this agent.
    agent_id: Option<String>,
    /// Of this issuer.
    issuer_id: Option<String>,
    /// Of this team.
    team_id: Option<String>,
    /// Among these; ids that no certificate has are passed over.
    #[schemars(length(max = 10_000))]
    certificate_ids: Option<Vec<String>>,
}

impl From<CriteriaRequest> for BulkCriteria {
    fn from(request: CriteriaRequest) -> Self {
        Self {
            profile_id: request.profile_id,
            owner_id: request.owner_id,
            agent_id: request.agent_id,
            issuer_id: request.issuer_id,
            team_id: request.team_id,
            certificate_ids: request.certificate_ids.unwrap_or_default(),
        }
    }
}

/// Which certificates to revoke, and why: what is given holds for each. One criterion at least must be given and not be empty.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "BulkRevoke", extend("minProperties" = 2))]
pub(crate) struct BulkRevokeRequest {
    /// A reason of RFC 5280 §5.3.1.
    #[schemars(length(min = 1))]
    reason: String,
    /// Of this profile.
    #[serde(default)]
    profile_id: Option<String>,
    /// Of this owner.
    #[serde(default)]
    owner_id: Option<String>,
    /// Mapped to a target of this agent.
    #[serde(default)]
    agent_id: Option<String>,
    /// Of this issuer.
    #[serde(default)]
    issuer_id: Option<String>,
    /// Of this team.
    #[serde(default)]
    team_id: Option<String>,
    /// Among these; ids that no certificate has are passed over.
    #[serde(default)]
    #[schemars(length(max = 10_000))]
    certificate_ids: Option<Vec<String>>,
}

impl BulkRevokeRequest {
    /// The criteria and the reason.
    fn into_parts(self) -> (BulkCriteria, String) {
        let criteria = BulkCriteria {
            profile_id: self.profile_id,
            owner_id: self.owner_id,
            agent_id: self.agent_id,
            issuer_id: self.issuer_id,
            team_id: self.team_id,
            certificate_ids: self.certificate_ids.unwrap_or_default(),
        };
        (criteria, self.reason)
    }
}

/// Which certificates go to whom.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "BulkReassign")]
pub(crate) struct BulkReassignRequest {
    /// These certificates; required unless there are criteria. Ids that no certificate has are failed.
    #[serde(default)]
    #[schemars(length(max = 10_000))]
    certificate_ids: Option<Vec<String>>,
    /// All that match, in place of ids.
    #[serde(default)]
    criteria: Option<CriteriaRequest>,
    /// Who answers for them from now on.
    #[schemars(length(min = 1))]
    owner_id: String,
    /// Which team does; each keeps its own when it is absent.
    #[serde(default)]
    team_id: Option<String>,
}

impl From<BulkReassignRequest> for ReassignInput {
    fn from(request: BulkReassignRequest) -> Self {
        let mut criteria: BulkCriteria = request.criteria.unwrap_or_default().into();
        criteria
            .certificate_ids
            .extend(request.certificate_ids.unwrap_or_default());
        Self {
            criteria,
            owner_id: request.owner_id,
            team_id: request.team_id,
        }
    }
}

/// A certificate and its new job.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct EnqueuedJob {
    certificate_id: String,
    job_id: String,
}

/// A certificate that could not be changed.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "BulkError")]
pub(crate) struct BulkErrorView {
    certificate_id: String,
    error: &'static str,
}

/// What became of those that match.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "BulkRenewResult")]
pub(crate) struct BulkRenewView {
    total_matched: i64,
    total_enqueued: i64,
    total_skipped: i64,
    total_failed: i64,
    /// The new jobs, 10,000 at the most.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    enqueued_jobs: Vec<EnqueuedJob>,
    /// There, and true, when there are more new jobs than are listed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    enqueued_jobs_truncated: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<BulkErrorView>,
}

/// What became of those that match.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "BulkRevokeResult")]
pub(crate) struct BulkRevokeView {
    total_matched: i64,
    total_revoked: i64,
    total_skipped: i64,
    total_failed: i64,
    /// Those that could not be revoked, 10,000 at the most.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<BulkErrorView>,
    /// There, and true, when more failed than are listed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    errors_truncated: bool,
}

/// What became of those that match; ids that no certificate has are failed, and not matched.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "BulkReassignResult")]
pub(crate) struct BulkReassignView {
    total_matched: i64,
    total_reassigned: i64,
    total_skipped: i64,
    total_failed: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<BulkErrorView>,
}

fn is_cut<T>(listed: &[T], all: i64) -> bool {
    i64::try_from(listed.len()).is_ok_and(|listed| listed < all)
}

fn errors(failures: Vec<BulkFailure>) -> Vec<BulkErrorView> {
    failures
        .into_iter()
        .map(|failure| BulkErrorView {
            certificate_id: failure.certificate_id,
            error: failure.error,
        })
        .collect()
}

impl From<BulkOutcome> for BulkRenewView {
    fn from(outcome: BulkOutcome) -> Self {
        Self {
            total_matched: outcome.matched,
            total_enqueued: outcome.changed,
            total_skipped: outcome.skipped,
            total_failed: outcome.failed,
            enqueued_jobs_truncated: is_cut(&outcome.jobs, outcome.changed),
            enqueued_jobs: outcome
                .jobs
                .into_iter()
                .map(|(certificate, job)| EnqueuedJob {
                    certificate_id: certificate.into_string(),
                    job_id: job.into_string(),
                })
                .collect(),
            errors: errors(outcome.failures),
        }
    }
}

impl From<BulkOutcome> for BulkRevokeView {
    fn from(outcome: BulkOutcome) -> Self {
        Self {
            total_matched: outcome.matched,
            total_revoked: outcome.changed,
            total_skipped: outcome.skipped,
            total_failed: outcome.failed,
            errors_truncated: is_cut(&outcome.failures, outcome.failed),
            errors: errors(outcome.failures),
        }
    }
}

impl From<BulkOutcome> for BulkReassignView {
    fn from(outcome: BulkOutcome) -> Self {
        Self {
            total_matched: outcome.matched,
            total_reassigned: outcome.changed,
            total_skipped: outcome.skipped,
            total_failed: outcome.failed,
            errors: errors(outcome.failures),
        }
    }
}

async fn bulk_renew(
    State(state): State<AppState>,
    Caller(actor): Caller,
    ApiJson(body): ApiJson<CriteriaRequest>,
) -> Result<Json<BulkRenewView>, ApiError> {
    let done = state.services.bulk_renew(&actor, &body.into()).await?;
    Ok(Json(done.into()))
}

async fn bulk_revoke(
    State(state): State<AppState>,
    Caller(actor): Caller,
    ApiJson(body): ApiJson<BulkRevokeRequest>,
) -> Result<Json<BulkRevokeView>, ApiError> {
    let (criteria, reason) = body.into_parts();
    let done = state
        .services
        .bulk_revoke(&actor, &criteria, &reason, None)
        .await?;
    Ok(Json(done.into()))
}

async fn bulk_revoke_est(
    State(state): State<AppState>,
    Caller(actor): Caller,
    ApiJson(body): ApiJson<BulkRevokeRequest>,
) -> Result<Json<BulkRevokeView>, ApiError> {
    let (criteria, reason) = body.into_parts();
    let est = Some(CertificateSource::Est);
    let done = state
        .services
        .bulk_revoke(&actor, &criteria, &reason, est)
        .await?;
    Ok(Json(done.into()))
}

async fn bulk_reassign(
    State(state): State<AppState>,
    Caller(actor): Caller,
    ApiJson(body): ApiJson<BulkReassignRequest>,
) -> Result<Json<BulkReassignView>, ApiError> {
    let done = state.services.bulk_reassign(&actor, &body.into()).await?;
    Ok(Json(done.into()))
}
