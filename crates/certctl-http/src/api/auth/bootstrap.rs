//! The first administrator (api §10.1).

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use certctl_domain::secret::Secret;
use http::{StatusCode, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ApiError, ApiJson, AppState, Rfc3339, routes::Route};

const PATH: &str = "/api/v1/auth/bootstrap";
/// A token and a name need no more; the route is open to everybody.
const BODY_LIMIT: usize = 4096;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get(PATH, "get_bootstrap")
            .public()
            .summary("Whether the first administrator can still be made")
            .refuses(&[StatusCode::SERVICE_UNAVAILABLE])
            .returns::<AvailableView>()
            .handler(get_bootstrap),
        Route::post(PATH, "bootstrap")
            .public()
            .summary("Make the first administrator, once")
            .body_limit(BODY_LIMIT)
            .accepts::<BootstrapRequest>()
            .refuses(&[
                StatusCode::UNAUTHORIZED,
                StatusCode::CONFLICT,
                StatusCode::GONE,
                StatusCode::SERVICE_UNAVAILABLE,
            ])
            .returns_with::<BootstrappedView>(StatusCode::CREATED)
            .handler(bootstrap),
    ]
}

async fn get_bootstrap(State(state): State<AppState>) -> Result<Json<AvailableView>, ApiError> {
    let available = state.services.is_bootstrap_available().await?;
    Ok(Json(AvailableView { available }))
}

async fn bootstrap(
    State(state): State<AppState>,
    ApiJson(body): ApiJson<BootstrapRequest>,
) -> Result<Response, ApiError> {
    let token = Secret::new(body.token);
    let (key, value) = state.services.bootstrap(&token, &body.actor_name).await?;
    let view = BootstrappedView {
        actor_id: key.name,
        api_key_id: key.id.into_string(),
        key_value: value.expose().to_owned(),
        created_at: key.created_at.truncated_to_seconds().into(),
        message: "this key is shown once; keep it",
    };
    let no_store = [(header::CACHE_CONTROL, "no-store")];
    Ok((StatusCode::CREATED, no_store, Json(view)).into_response())
}

/// Whether the first administrator can still be made.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "BootstrapAvailability")]
struct AvailableView {
    available: bool,
}

/// Who the first administrator is to be.
#[derive(Deserialize, JsonSchema)]
struct BootstrapRequest {
    /// `CERTCTL_BOOTSTRAP_TOKEN`.
    token: String,
    /// The name of the administrator's key.
    #[schemars(regex(pattern = "^[a-z0-9][a-z0-9_-]{2,63}$"), example = &"first-admin")]
    actor_name: String,
}

/// The first administrator.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Bootstrapped")]
struct BootstrappedView {
    actor_id: String,
    api_key_id: String,
    /// The key, shown this once.
    #[schemars(regex(pattern = "^[0-9a-f]{64}$"))]
    key_value: String,
    created_at: Rfc3339,
    message: &'static str,
}
