//! Agents: registering, reading, retiring (api §16.1, §16.2). What agents themselves call is in [`protocol`].

mod protocol;
mod wire;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use certctl_domain::{access::Permission, id::AgentId, secret::Secret, validation::optional_text};
use certctl_service::agents::{Registrar, Retirement};
use http::StatusCode;

pub(crate) use self::wire::AgentView;
use self::wire::{RegisterRequest, RegisteredView, RetiredView};
use crate::{
    ApiError, ApiJson, AppState, Caller, Paged, Paging, PathId,
    extract::{Bearer, MaybeCaller, QueryPairs},
    problem::BlockedBody,
    routes::Route,
};

/// Longest reason for retiring an agent, in characters.
const MAX_REASON: usize = 1024;

pub(crate) fn routes() -> Vec<Route> {
    let mut routes = vec![
        Route::get("/api/v1/agents", "list_agents")
            .permission(Permission::AgentRead)
            .summary("Lists the agents that are not retired")
            .etag()
            .lists::<AgentView>()
            .handler(list_agents),
        Route::get("/api/v1/agents/retired", "list_retired_agents")
            .permission(Permission::AgentRead)
            .lists::<AgentView>()
            .handler(list_retired_agents),
        Route::post("/api/v1/agents", "register_agent")
            .optionally_authenticated()
            .summary("Registers an agent, with the bootstrap token as bearer or a key that holds agent.edit; shows its key once")
            .accepts::<RegisterRequest>()
            .refuses(&[StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::CONFLICT])
            .returns_with::<RegisteredView>(StatusCode::CREATED)
            .handler(register_agent),
        Route::get("/api/v1/agents/{id}", "get_agent").permission(Permission::AgentRead).returns::<AgentView>().handler(get_agent),
        Route::delete("/api/v1/agents/{id}", "retire_agent")
            .permission(Permission::AgentRetire)
            .summary("Retires an agent; with force and a reason also what depends on it")
            .query::<wire::RetireQuery>()
            .refuses(&[StatusCode::BAD_REQUEST])
            .refuses_with::<BlockedBody>(StatusCode::CONFLICT)
            .returns::<RetiredView>()
            .or_status(StatusCode::NO_CONTENT)
            .handler(retire_agent),
    ];
    routes.extend(protocol::routes());
    routes
}

async fn list_agents(
    State(state): State<AppState>,
    Caller(actor): Caller,
    Paging(page): Paging,
) -> Result<Json<Paged<AgentView>>, ApiError> {
    Ok(Json(Paged::new(
        state.services.list_agents(&actor, false, page).await?,
        page,
        Into::into,
    )))
}

async fn list_retired_agents(
    State(state): State<AppState>,
    Caller(actor): Caller,
    Paging(page): Paging,
) -> Result<Json<Paged<AgentView>>, ApiError> {
    Ok(Json(Paged::new(
        state.services.list_agents(&actor, true, page).await?,
        page,
        Into::into,
    )))
}

async fn get_agent(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<AgentId>,
) -> Result<Json<AgentView>, ApiError> {
    Ok(Json(state.services.get_agent(&actor, &id).await?.into()))
}

async fn register_agent(
    State(state): State<AppState>,
    MaybeCaller(actor): MaybeCaller,
    Bearer(bearer): Bearer,
    ApiJson(body): ApiJson<RegisterRequest>,
) -> Result<(StatusCode, Json<RegisteredView>), ApiError> {
    let registrar = match actor {
        Some(actor) => Registrar::Actor(actor),
        None => Registrar::Token(bearer.unwrap_or_else(|| Secret::new(""))),
    };
    let (agent, key) = state
        .services
        .register_agent(&registrar, body.into())
        .await?;
    Ok((StatusCode::CREATED, Json(RegisteredView::new(agent, &key))))
}

async fn retire_agent(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<AgentId>,
    query: QueryPairs,
) -> Result<Response, ApiError> {
    let reason = match query.get("reason") {
        Some(reason) => Some(optional_text("reason", reason, MAX_REASON)?),
        None => None,
    };
    let retired = state
        .services
        .retire_agent(&actor, &id, query.flag("force"), reason.as_deref())
        .await?;
    Ok(match retired {
        Retirement::Already => StatusCode::NO_CONTENT.into_response(),
        Retirement::Now {
            retired_at,
            cascade,
            counts,
        } => Json(RetiredView::new(retired_at, cascade, counts)).into_response(),
    })
}
