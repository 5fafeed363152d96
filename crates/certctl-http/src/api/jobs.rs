//! Jobs and what was seen of deployments (api §17).

use axum::{Json, extract::State};
use certctl_domain::{
    access::Permission,
    id::JobId,
    job::{Job, JobStatus, JobType},
    page::{Page, PageRequest},
};
use certctl_service::{
    JobFilter,
    approvals::{MAX_NOTE, Verdict},
    jobs::VerificationInput,
};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ApiError, ApiJson, AppState, Caller, OptionalJson, Paged, PathId, Rfc3339,
    extract::QueryPairs,
    routes::Route,
    wire::{ID, TEXT},
};

pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::get("/api/v1/jobs", "list_jobs")
            .permission(Permission::JobRead)
            .etag()
            .query::<JobQuery>()
            .lists::<JobView>()
            .handler(list_jobs),
        Route::get("/api/v1/jobs/{id}", "get_job")
            .permission(Permission::JobRead)
            .returns::<JobView>()
            .handler(get_job),
        Route::post("/api/v1/jobs/{id}/cancel", "cancel_job")
            .permission(Permission::JobCancel)
            .refuses(&[StatusCode::CONFLICT])
            .returns::<CancelledView>()
            .handler(cancel_job),
        Route::post("/api/v1/jobs/{id}/approve", "approve_job")
            .permission(Permission::ApprovalApprove)
            .summary("Agrees to a job that waits for approval, and decides its request with it")
            .accepts_optional::<ApproveRequest>()
            .refuses(&[StatusCode::CONFLICT])
            .returns::<DecidedView>()
            .handler(approve_job),
        Route::post("/api/v1/jobs/{id}/reject", "reject_job")
            .permission(Permission::ApprovalReject)
            .summary("Calls off a job that waits for approval, and decides its request with it")
            .accepts_optional::<RejectRequest>()
            .refuses(&[StatusCode::CONFLICT])
            .returns::<DecidedView>()
            .handler(reject_job),
        Route::post("/api/v1/jobs/{id}/verify", "verify_job")
            .permission(Permission::VerificationRun)
            .summary("Stores what was seen at the target of a deployment")
            .accepts::<VerifyRequest>()
            .returns::<VerifiedView>()
            .handler(verify_job),
        Route::get("/api/v1/jobs/{id}/verification", "get_job_verification")
            .permission(Permission::VerificationRead)
            .returns::<VerificationView>()
            .handler(get_job_verification),
    ]
}

/// The parameters, for the description of the API; they are read leniently.
#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "described here, read one by one")]
struct JobQuery {
    /// Only this state.
    status: Option<String>,
    /// Only this type.
    r#type: Option<String>,
}

async fn list_jobs(
    State(state): State<AppState>,
    Caller(actor): Caller,
    query: QueryPairs,
) -> Result<Json<Paged<JobView>>, ApiError> {
    let page = query.page();
    let Some(filter) = filter(&query) else {
        return Ok(Json(nothing(page)));
    };
    let jobs = state.services.list_jobs(&actor, filter, page).await?;
    Ok(Json(Paged::new(jobs, page, Into::into)))
}

/// What to list; none for a state or type that there is not, which nothing matches.
fn filter(query: &QueryPairs) -> Option<JobFilter> {
    let given = |name: &str| query.get(name).filter(|text| !text.is_empty());
    Some(JobFilter {
        status: given("status").map(JobStatus::parse).transpose().ok()?,
        job_type: given("type").map(JobType::parse).transpose().ok()?,
    })
}

fn nothing(page: PageRequest) -> Paged<JobView> {
    Paged::new(
        Page {
            rows: Vec::<Job>::new(),
            total: 0,
        },
        page,
        Into::into,
    )
}

async fn get_job(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<JobId>,
) -> Result<Json<JobView>, ApiError> {
    Ok(Json(state.services.get_job(&actor, &id).await?.into()))
}

async fn cancel_job(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<JobId>,
) -> Result<Json<CancelledView>, ApiError> {
    state.services.cancel_job(&actor, &id).await?;
    Ok(Json(CancelledView {
        status: "job_cancelled",
    }))
}

async fn approve_job(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<JobId>,
    OptionalJson(body): OptionalJson<ApproveRequest>,
) -> Result<Json<DecidedView>, ApiError> {
    let note = body.and_then(|body| body.note);
    let decided = state
        .services
        .decide_job(&actor, &id, Verdict::Approve, note.as_deref());
    decided.await?;
    Ok(Json(DecidedView {
        status: "job_approved",
    }))
}

async fn reject_job(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<JobId>,
    OptionalJson(body): OptionalJson<RejectRequest>,
) -> Result<Json<DecidedView>, ApiError> {
    let reason = body.and_then(|body| body.reason);
    let decided = state
        .services
        .decide_job(&actor, &id, Verdict::Reject, reason.as_deref());
    decided.await?;
    Ok(Json(DecidedView {
        status: "job_rejected",
    }))
}

async fn verify_job(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<JobId>,
    ApiJson(body): ApiJson<VerifyRequest>,
) -> Result<Json<VerifiedView>, ApiError> {
    let seen = state.services.verify_job(&actor, &id, body.into()).await?;
    Ok(Json(VerifiedView {
        job_id: id.into_string(),
        verified: seen.verified,
        verified_at: seen.at.into(),
    }))
}

async fn get_job_verification(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<JobId>,
) -> Result<Json<VerificationView>, ApiError> {
    Ok(Json(
        state.services.get_verification(&actor, &id).await?.into(),
    ))
}

/// A job (model §3.8).
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Job")]
pub(crate) struct JobView {
    id: String,
    r#type: &'static str,
    certificate_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_id: Option<String>,
    status: &'static str,
    attempts: u32,
    max_attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    scheduled_at: Rfc3339,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Rfc3339>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed_at: Option<Rfc3339>,
    created_at: Rfc3339,
    verification_status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    verified_at: Option<Rfc3339>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verification_error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verification_fingerprint: Option<String>,
}

impl From<Job> for JobView {
    fn from(job: Job) -> Self {
        Self {
            id: job.id.into_string(),
            r#type: job.job_type.as_str(),
            certificate_id: job
                .certificate_id
                .map(certctl_domain::id::CertificateId::into_string)
                .unwrap_or_default(),
            target_id: job.target_id.map(certctl_domain::id::TargetId::into_string),
            agent_id: job.agent_id.map(certctl_domain::id::AgentId::into_string),
            status: job.status.as_str(),
            attempts: job.attempts,
            max_attempts: job.max_attempts,
            last_error: job.last_error,
            scheduled_at: job.scheduled_at.into(),
            started_at: job.started_at.map(Into::into),
            completed_at: job.completed_at.map(Into::into),
            created_at: job.created_at.into(),
            verification_status: job.verification_status.as_str(),
            verified_at: job.verified_at.map(Into::into),
            verification_error: job.verification_error,
            verification_fingerprint: job.verification_fingerprint,
        }
    }
}

/// What was done.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "JobCancelled")]
struct CancelledView {
    status: &'static str,
}

/// What was decided.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "JobDecided")]
struct DecidedView {
    /// `job_approved` or `job_rejected`.
    status: &'static str,
}

/// What the approver says.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct ApproveRequest {
    /// Kept with the request.
    #[schemars(length(max = MAX_NOTE), regex(pattern = TEXT))]
    note: Option<String>,
}

/// Why a job is refused.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct RejectRequest {
    /// Kept with the request and on the job.
    #[schemars(length(max = MAX_NOTE), regex(pattern = TEXT))]
    reason: Option<String>,
}

/// What was seen at a target.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["target_id", "expected_fingerprint", "actual_fingerprint"]))]
struct VerifyRequest {
    #[schemars(regex(pattern = ID))]
    target_id: String,
    /// SHA-256 of the leaf that should be served, lowercase hex; empty only with `error`.
    #[schemars(regex(pattern = "^([0-9a-f]{64})?$"))]
    expected_fingerprint: String,
    /// SHA-256 of the leaf that is served; empty when nothing could be seen and `error` says why.
    #[schemars(regex(pattern = "^([0-9a-f]{64})?$"))]
    actual_fingerprint: String,
    verified: bool,
    error: Option<String>,
}

impl From<VerifyRequest> for VerificationInput {
    fn from(request: VerifyRequest) -> Self {
        Self {
            target_id: request.target_id,
            expected_fingerprint: request.expected_fingerprint,
            actual_fingerprint: request.actual_fingerprint,
            verified: request.verified,
            error: request.error,
        }
    }
}

/// What was stored.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Verified")]
struct VerifiedView {
    job_id: String,
    verified: bool,
    verified_at: Rfc3339,
}

/// What was seen at the target of a job.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Verification")]
struct VerificationView {
    job_id: String,
    target_id: String,
    expected_fingerprint: String,
    actual_fingerprint: String,
    verified: bool,
    verified_at: Rfc3339,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl From<Job> for VerificationView {
    fn from(job: Job) -> Self {
        Self {
            job_id: job.id.into_string(),
            target_id: job
                .target_id
                .map(certctl_domain::id::TargetId::into_string)
                .unwrap_or_default(),
            expected_fingerprint: job.expected_fingerprint.unwrap_or_default(),
            actual_fingerprint: job.verification_fingerprint.unwrap_or_default(),
            verified: job.verification_status == certctl_domain::job::VerificationStatus::Success,
            verified_at: Rfc3339::or_zero(job.verified_at),
            error: job.verification_error,
        }
    }
}
