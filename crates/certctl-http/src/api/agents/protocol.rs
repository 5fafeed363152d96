//! What agents call (api §16.3).

use axum::{Json, extract::State};
use certctl_domain::{
    access::Permission,
    agent::AgentReport,
    id::{AgentId, CertificateId, JobId},
};
use certctl_service::work::{AgentCertificate, CsrOutcome, JobReport, WorkItem};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ApiError, ApiJson, AppState, Caller, LenientJson, PathId, PathIds, routes::Route};

pub(super) fn routes() -> Vec<Route> {
    let gone = &[StatusCode::GONE];
    vec![
        Route::post("/api/v1/agents/{id}/heartbeat", "record_heartbeat")
            .permission(Permission::AgentHeartbeat)
            .accepts_optional::<HeartbeatRequest>()
            .refuses(gone)
            .returns::<StatusView>()
            .handler(record_heartbeat),
        Route::get("/api/v1/agents/{id}/work", "poll_work")
            .permission(Permission::AgentJobPoll)
            .summary("What the agent is to do: deployments, each once, and renewals that wait for its request")
            .detached()
            .refuses(gone)
            .returns::<WorkView>()
            .handler(poll_work),
        Route::post("/api/v1/agents/{id}/csr", "submit_csr")
            .permission(Permission::AgentJobPoll)
            .accepts::<CsrRequest>()
            .refuses(&[StatusCode::CONFLICT, StatusCode::GONE, StatusCode::UNPROCESSABLE_ENTITY])
            .returns_with::<StatusView>(StatusCode::ACCEPTED)
            .handler(submit_csr),
        Route::get("/api/v1/agents/{id}/certificates/{certificate_id}", "get_agent_certificate")
            .permission(Permission::CertRead)
            .summary("The latest version of a certificate that one of the agent's targets serves")
            .refuses(gone)
            .returns::<CertificateView>()
            .handler(get_agent_certificate),
        Route::post("/api/v1/agents/{id}/jobs/{job_id}/status", "report_job_status")
            .permission(Permission::AgentJobComplete)
            .accepts::<ReportRequest>()
            .refuses(&[StatusCode::CONFLICT, StatusCode::GONE])
            .returns::<StatusView>()
            .handler(report_job_status),
    ]
}

async fn record_heartbeat(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<AgentId>,
    LenientJson(body): LenientJson<HeartbeatRequest>,
) -> Result<Json<StatusView>, ApiError> {
    state.services.heartbeat(&actor, &id, body.into()).await?;
    Ok(Json(StatusView {
        status: "heartbeat_recorded",
    }))
}

async fn poll_work(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<AgentId>,
) -> Result<Json<WorkView>, ApiError> {
    let jobs: Vec<WorkItemView> = state
        .services
        .poll_work(&actor, &id)
        .await?
        .into_iter()
        .map(Into::into)
        .collect();
    Ok(Json(WorkView {
        count: jobs.len(),
        jobs,
    }))
}

async fn submit_csr(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<AgentId>,
    ApiJson(body): ApiJson<CsrRequest>,
) -> Result<(StatusCode, Json<StatusView>), ApiError> {
    let outcome = state
        .services
        .submit_csr(
            &actor,
            &id,
            &body.csr_pem,
            body.certificate_id.as_deref(),
            body.job_id.as_deref(),
        )
        .await?;
    let status = match outcome {
        CsrOutcome::Accepted => "csr_accepted",
    };
    Ok((StatusCode::ACCEPTED, Json(StatusView { status })))
}

async fn get_agent_certificate(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathIds(id, certificate): PathIds<AgentId, CertificateId>,
) -> Result<Json<CertificateView>, ApiError> {
    Ok(Json(
        state
            .services
            .agent_certificate(&actor, &id, &certificate)
            .await?
            .into(),
    ))
}

async fn report_job_status(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathIds(id, job): PathIds<AgentId, JobId>,
    ApiJson(body): ApiJson<ReportRequest>,
) -> Result<Json<StatusView>, ApiError> {
    let report = JobReport {
        status: body.status,
        error: body.error,
        deploy: body.deploy.map(serde_json::Value::Object),
    };
    state
        .services
        .report_job(&actor, &id, &job, &report)
        .await?;
    Ok(Json(StatusView { status: "updated" }))
}

/// What was done.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Status")]
struct StatusView {
    status: &'static str,
}

/// What an agent says of itself; empty fields change nothing. A body that is anything else says nothing and is taken too, so
/// that an agent of another version is never taken for dead.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(transform = anything_goes)]
struct HeartbeatRequest {
    version: String,
    hostname: String,
    os: String,
    architecture: String,
    ip_address: String,
}

/// Says what the fields are for, and that nothing is refused for its type.
fn anything_goes(schema: &mut schemars::Schema) {
    schema.remove("type");
    let fields = schema
        .get_mut("properties")
        .and_then(|all| all.as_object_mut());
    for field in fields.into_iter().flat_map(|all| all.values_mut()) {
        *field = serde_json::json!({ "description": "A text." });
    }
}

impl From<HeartbeatRequest> for AgentReport {
    fn from(request: HeartbeatRequest) -> Self {
        Self {
            version: request.version,
            hostname: request.hostname,
            os: request.os,
            architecture: request.architecture,
            ip_address: request.ip_address,
        }
    }
}

/// What an agent is to do.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Work")]
struct WorkView {
    jobs: Vec<WorkItemView>,
    count: usize,
}

/// One thing to do (api §16.4).
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "WorkItem")]
struct WorkItemView {
    id: String,
    r#type: &'static str,
    certificate_id: String,
    status: &'static str,
    common_name: String,
    sans: Vec<String>,
    /// The kind of key to make, such as `ECDSA-P256`.
    key_algorithm: &'static str,
    ekus: Vec<&'static str>,
    must_staple: bool,
    verify: VerifyView,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_type: Option<&'static str>,
    /// The whole configuration, secrets included: it goes to the agent of the target only.
    #[serde(skip_serializing_if = "Option::is_none")]
    target_config: Option<serde_json::Value>,
}

/// How to look at a target after a deployment.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "VerifyDefaults")]
struct VerifyView {
    enabled: bool,
    /// A duration such as `10s`.
    timeout: String,
    /// A duration such as `2s`.
    delay: String,
}

impl From<WorkItem> for WorkItemView {
    fn from(item: WorkItem) -> Self {
        let (target_type, target_config) = item
            .target
            .map(|(kind, config)| (kind.as_str(), config))
            .unzip();
        Self {
            id: item.job.id.into_string(),
            r#type: item.job.job_type.as_str(),
            certificate_id: item
                .job
                .certificate_id
                .map(CertificateId::into_string)
                .unwrap_or_default(),
            status: item.job.status.as_str(),
            common_name: item.common_name,
            sans: item.sans,
            key_algorithm: item.key.as_str(),
            ekus: item
                .ekus
                .into_iter()
                .map(certctl_domain::profile::ExtendedKeyUsage::as_str)
                .collect(),
            must_staple: item.must_staple,
            verify: VerifyView {
                enabled: item.verify.enabled,
                timeout: format!("{}ms", item.verify.timeout.as_millis()),
                delay: format!("{}ms", item.verify.delay.as_millis()),
            },
            target_id: item
                .job
                .target_id
                .map(certctl_domain::id::TargetId::into_string),
            target_type,
            target_config,
        }
    }
}

/// A certificate signing request.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["csr_pem"]))]
struct CsrRequest {
    /// PKCS#10 as PEM.
    csr_pem: String,
    /// Required when several renewals wait for a request.
    certificate_id: Option<String>,
    job_id: Option<String>,
}

/// A certificate for its agent.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AgentCertificate")]
struct CertificateView {
    /// Leaf, then chain.
    certificate_pem: String,
    /// Only where the server made the key (demo mode).
    #[serde(skip_serializing_if = "Option::is_none")]
    private_key_pem: Option<String>,
}

impl From<AgentCertificate> for CertificateView {
    fn from(certificate: AgentCertificate) -> Self {
        Self {
            certificate_pem: certificate.certificate_pem,
            private_key_pem: certificate
                .private_key_pem
                .map(|key| key.expose().to_owned()),
        }
    }
}

/// How a job goes.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["status"]))]
struct ReportRequest {
    #[schemars(extend("enum" = ["Running", "Completed", "Failed"]))]
    status: String,
    error: Option<String>,
    /// How the deployment went: outcome, rollback, idempotent, verify, `duration_ms`, metadata; at most 16 KiB, 16 levels deep.
    deploy: Option<serde_json::Map<String, serde_json::Value>>,
}
