//! Probes, version, who am I, and the description of the API (api §9).

use std::{sync::LazyLock, time::Duration};

use axum::{
    Json,
    body::Bytes,
    extract::State,
    response::{IntoResponse, Response},
};
use certctl_domain::access::{Actor, DEFAULT_TENANT, SeededRole};
use certctl_telemetry::{ErrorChain, HealthState};
use http::{StatusCode, header};
use schemars::JsonSchema;
use serde::Serialize;

use super::auth::EffectivePermissionView;
use crate::{
    auth::AuthMode,
    extract::Caller,
    openapi::openapi_document,
    routes::{RateClass, Route},
    state::{AppState, BuildInfo, Database},
};

/// How long the database may take to give a sign of life (operations §3).
const PING_WITHIN: Duration = Duration::from_secs(2);

pub(crate) fn routes() -> Vec<Route> {
    let probe = |path, id| {
        Route::get(path, id)
            .public()
            .tag("meta")
            .rate_class(RateClass::Probe)
            .any_origin()
    };
    vec![
        probe("/health", "get_health")
            .summary("Whether the process is alive")
            .returns::<StatusView>()
            .handler(get_health),
        Route::get("/healthz", "get_healthz")
            .public()
            .tag("meta")
            .rate_class(RateClass::Probe)
            .summary("The same as /health, for container probes")
            .returns::<StatusView>()
            .handler(get_health),
        probe("/ready", "get_ready")
            .summary("Whether the server can work")
            .refuses(&[StatusCode::SERVICE_UNAVAILABLE])
            .returns::<ReadyView>()
            .handler(get_ready),
        Route::get("/api/v1/version", "get_version")
            .public()
            .tag("meta")
            .any_origin()
            .summary("Which program this is")
            .returns::<BuildInfo>()
            .handler(get_version),
        Route::get("/api/v1/auth/info", "get_auth_info")
            .public()
            .any_origin()
            .summary("How callers prove who they are")
            .returns::<AuthInfoView>()
            .handler(get_auth_info),
        Route::get("/api/v1/auth/check", "check_auth")
            .authenticated()
            .summary("Who the caller is and what they may do")
            .returns::<AuthCheckView>()
            .handler(check_auth),
        Route::get("/api/v1/openapi.json", "get_openapi")
            .public()
            .tag("meta")
            .summary("This description")
            .returns_media("application/json")
            .handler(get_openapi),
    ]
}

async fn get_health() -> Json<StatusView> {
    Json(StatusView { status: "healthy" })
}

async fn get_ready(State(state): State<AppState>) -> Response {
    let view = match state.health.state() {
        HealthState::Starting => ReadyView::no("starting", "the server is starting"),
        HealthState::Ready => database_view(&state).await,
        HealthState::Draining => ReadyView::no("draining", "the server is shutting down"),
    };
    let status = if view.error.is_none() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(view)).into_response()
}

async fn database_view(state: &AppState) -> ReadyView {
    match tokio::time::timeout(PING_WITHIN, state.readiness.ping()).await {
        Ok(Ok(Database::Reachable)) => ReadyView::yes("reachable"),
        Ok(Ok(Database::NotConfigured)) => ReadyView::yes("not_configured"),
        Ok(Err(error)) => {
            tracing::warn!(error = %ErrorChain(&*error), "the database refused a ping");
            ReadyView::no("db_unavailable", "the database cannot be reached")
        }
        Err(_) => ReadyView::no("db_unavailable", "the database did not answer within 2 s"),
    }
}

async fn get_version(State(state): State<AppState>) -> Json<BuildInfo> {
    Json(state.info.clone())
}

async fn get_auth_info(State(state): State<AppState>) -> Json<AuthInfoView> {
    let mode = state.settings.auth_mode;
    Json(AuthInfoView {
        auth_type: mode.as_str(),
        required: mode != AuthMode::None,
    })
}

async fn check_auth(Caller(actor): Caller) -> Json<AuthCheckView> {
    Json(AuthCheckView::of(&actor))
}

async fn get_openapi() -> Response {
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| openapi_document().to_string().into());
    (
        [(header::CONTENT_TYPE, "application/json")],
        DOCUMENT.clone(),
    )
        .into_response()
}

/// A sign of life.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Status")]
struct StatusView {
    status: &'static str,
}

/// Whether the server can work.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Readiness")]
struct ReadyView {
    /// `ready`, `starting`, `db_unavailable` or `draining`.
    status: &'static str,
    /// `reachable` or `not_configured`.
    #[serde(skip_serializing_if = "Option::is_none")]
    db: Option<&'static str>,
    /// Why it cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
}

impl ReadyView {
    const fn yes(db: &'static str) -> Self {
        Self {
            status: "ready",
            db: Some(db),
            error: None,
        }
    }

    const fn no(status: &'static str, error: &'static str) -> Self {
        Self {
            status,
            db: None,
            error: Some(error),
        }
    }
}

/// How callers prove who they are.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AuthInfo")]
struct AuthInfoView {
    /// `api-key` or `none`.
    auth_type: &'static str,
    /// Whether a credential is needed.
    required: bool,
}

/// Who the caller is.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AuthCheck")]
struct AuthCheckView {
    /// Always `authenticated`.
    status: &'static str,
    /// The id of the actor.
    user: String,
    /// Whether the key was made for an administrator.
    admin: bool,
    actor_id: String,
    actor_type: &'static str,
    tenant_id: &'static str,
    roles: Vec<String>,
    effective_permissions: Vec<EffectivePermissionView>,
    /// Whether one of the roles is the administrator's.
    admin_via_role: bool,
}

impl AuthCheckView {
    fn of(actor: &Actor) -> Self {
        let admin_role = SeededRole::Admin.id();
        Self {
            status: "authenticated",
            user: actor.id().to_owned(),
            admin: actor.has_admin_flag(),
            actor_id: actor.id().to_owned(),
            actor_type: actor.actor_type().as_str(),
            tenant_id: DEFAULT_TENANT,
            roles: actor.roles().iter().map(ToString::to_string).collect(),
            effective_permissions: EffectivePermissionView::of(actor),
            admin_via_role: actor.roles().iter().any(|role| role.as_str() == admin_role),
        }
    }
}
