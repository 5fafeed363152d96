//! Requests that wait for a second person (api §18).

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use certctl_domain::{
    access::{Actor, Permission},
    approval::{Approval, ApprovalState},
    id::{ApprovalId, CertificateId, JobId},
    page::Page,
};
use certctl_service::{
    ApprovalFilter,
    approvals::{MAX_NOTE, Verdict},
};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ApiError, AppState, Caller, OptionalJson, Paged, PathId, Rfc3339, extract::QueryPairs,
    routes::Route, wire::TEXT,
};

pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::get("/api/v1/approvals", "list_approvals")
            .permission(Permission::ApprovalRead)
            .query::<ApprovalQuery>()
            .lists::<ApprovalView>()
            .handler(list_approvals),
        Route::get("/api/v1/approvals/{id}", "get_approval")
            .permission(Permission::ApprovalRead)
            .returns::<ApprovalView>()
            .handler(get_approval),
        Route::post("/api/v1/approvals/{id}/approve", "approve_approval")
            .permission(Permission::ApprovalApprove)
            .summary("Agrees, and has done what was asked for; neither the requester nor the owner of the certificate may")
            .accepts_optional::<DecisionRequest>()
            .refuses(&[StatusCode::CONFLICT])
            .returns::<DecidedView>()
            .handler(approve),
        Route::post("/api/v1/approvals/{id}/reject", "reject_approval")
            .permission(Permission::ApprovalReject)
            .summary("Refuses, and calls off what was asked for; neither the requester nor the owner of the certificate may")
            .accepts_optional::<DecisionRequest>()
            .refuses(&[StatusCode::CONFLICT])
            .returns::<DecidedView>()
            .handler(reject),
    ]
}

/// The parameters, for the description of the API; what is none of the values matches nothing.
#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "described here, read one by one")]
struct ApprovalQuery {
    /// Only in this state: `pending`, `approved`, `rejected` or `expired`.
    state: Option<String>,
    /// Only of this certificate.
    certificate_id: Option<String>,
    /// Only by this requester.
    requested_by: Option<String>,
}

async fn list_approvals(
    State(state): State<AppState>,
    Caller(actor): Caller,
    query: QueryPairs,
) -> Result<Paged<ApprovalView>, ApiError> {
    let page = query.page();
    let Some(filter) = filter(&query) else {
        let nothing = Page {
            rows: Vec::<Approval>::new(),
            total: 0,
        };
        return Ok(Paged::new(nothing, page, Into::into));
    };
    let approvals = state.services.list_approvals(&actor, &filter, page).await?;
    Ok(Paged::new(approvals, page, Into::into))
}

/// What to list; none for a state that there is not, which nothing matches.
fn filter(query: &QueryPairs) -> Option<ApprovalFilter> {
    let given = |name: &str| query.get(name).filter(|text| !text.is_empty());
    Some(ApprovalFilter {
        state: given("state").map(ApprovalState::parse).transpose().ok()?,
        certificate_id: given("certificate_id").map(str::to_owned),
        requested_by: given("requested_by").map(str::to_owned),
    })
}

async fn get_approval(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<ApprovalId>,
) -> Result<Json<ApprovalView>, ApiError> {
    Ok(Json(state.services.get_approval(&actor, &id).await?.into()))
}

async fn approve(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<ApprovalId>,
    OptionalJson(body): OptionalJson<DecisionRequest>,
) -> Result<Json<DecidedView>, ApiError> {
    decide(&state, &actor, id, Verdict::Approve, body).await
}

async fn reject(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<ApprovalId>,
    OptionalJson(body): OptionalJson<DecisionRequest>,
) -> Result<Json<DecidedView>, ApiError> {
    decide(&state, &actor, id, Verdict::Reject, body).await
}

async fn decide(
    state: &AppState,
    actor: &Actor,
    id: ApprovalId,
    verdict: Verdict,
    body: Option<DecisionRequest>,
) -> Result<Json<DecidedView>, ApiError> {
    let note = body.and_then(|body| body.note);
    state
        .services
        .decide_approval(actor, &id, verdict, note.as_deref())
        .await?;
    Ok(Json(DecidedView {
        id: id.into_string(),
        decided_by: actor.id().to_owned(),
        action: match verdict {
            Verdict::Approve => "approved",
            Verdict::Reject => "rejected",
        },
    }))
}

/// What the decider says.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct DecisionRequest {
    /// Why; kept with the request, and on the job that is called off.
    #[schemars(length(max = MAX_NOTE), regex(pattern = TEXT))]
    note: Option<String>,
}

/// What was decided.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ApprovalDecision")]
struct DecidedView {
    id: String,
    decided_by: String,
    /// `approved` or `rejected`.
    action: &'static str,
}

/// A request that waits, or waited, for a second person (model §3.9).
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ApprovalRequest")]
struct ApprovalView {
    id: String,
    /// `cert_issuance` or `profile_edit`.
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_id: Option<String>,
    /// The job that waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    job_id: Option<String>,
    /// The profile that wants a second person, or is to be changed.
    profile_id: String,
    requested_by: String,
    /// `pending`, `approved`, `rejected` or `expired`.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    decided_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decided_at: Option<Rfc3339>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision_note: Option<String>,
    /// What the certificate is: `common_name`, `sans`, `issuer_id`, `severity_tier`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
    /// What the profile is to be: JSON in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("contentEncoding" = "base64", "contentMediaType" = "application/json"))]
    payload: Option<String>,
    created_at: Rfc3339,
    updated_at: Rfc3339,
}

impl From<Approval> for ApprovalView {
    fn from(approval: Approval) -> Self {
        Self {
            id: approval.id.into_string(),
            kind: approval.kind.as_str(),
            certificate_id: approval.certificate_id.map(CertificateId::into_string),
            job_id: approval.job_id.map(JobId::into_string),
            profile_id: approval.profile_id.into_string(),
            requested_by: approval.requested_by,
            state: approval.state.as_str(),
            decided_by: approval.decided_by,
            decided_at: approval.decided_at.map(Into::into),
            decision_note: approval.decision_note,
            metadata: approval.metadata,
            payload: approval
                .payload
                .map(|payload| STANDARD.encode(payload.to_string())),
            created_at: approval.created_at.into(),
            updated_at: approval.updated_at.into(),
        }
    }
}
