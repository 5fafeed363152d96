//! Teams (api §22).

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use certctl_domain::{access::Permission, id::TeamId, team::Team};
use certctl_service::teams::TeamInput;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ApiError, ApiJson, AppState, Caller, Paged, Paging, PathId, Rfc3339,
    routes::Route,
    wire::{ChosenId, TEXT, WORDS},
};

pub(crate) fn routes() -> Vec<Route> {
    const COLLECTION: &str = "/api/v1/teams";
    const ITEM: &str = "/api/v1/teams/{id}";
    vec![
        Route::get(COLLECTION, "list_teams")
            .permission(Permission::TeamRead)
            .lists::<TeamView>()
            .handler(list_teams),
        Route::post(COLLECTION, "create_team")
            .permission(Permission::TeamEdit)
            .accepts::<TeamRequest>()
            .refuses(&[StatusCode::CONFLICT])
            .returns_with::<TeamView>(StatusCode::CREATED)
            .handler(create_team),
        Route::get(ITEM, "get_team")
            .permission(Permission::TeamRead)
            .returns::<TeamView>()
            .handler(get_team),
        Route::put(ITEM, "update_team")
            .permission(Permission::TeamEdit)
            .accepts::<TeamRequest>()
            .refuses(&[StatusCode::CONFLICT])
            .returns::<TeamView>()
            .handler(update_team),
        Route::delete(ITEM, "delete_team")
            .permission(Permission::TeamDelete)
            .refuses(&[StatusCode::CONFLICT])
            .returns_nothing()
            .handler(delete_team),
    ]
}

async fn list_teams(
    State(state): State<AppState>,
    Caller(actor): Caller,
    Paging(page): Paging,
) -> Result<Paged<TeamView>, ApiError> {
    let teams = state.services.list_teams(&actor, page).await?;
    Ok(Paged::new(teams, page, Into::into))
}

async fn create_team(
    State(state): State<AppState>,
    Caller(actor): Caller,
    ApiJson(body): ApiJson<TeamRequest>,
) -> Result<Response, ApiError> {
    let team = state.services.create_team(&actor, body.into()).await?;
    Ok((StatusCode::CREATED, Json(TeamView::from(team))).into_response())
}

async fn get_team(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<TeamId>,
) -> Result<Json<TeamView>, ApiError> {
    Ok(Json(state.services.get_team(&actor, &id).await?.into()))
}

async fn update_team(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<TeamId>,
    ApiJson(body): ApiJson<TeamRequest>,
) -> Result<Json<TeamView>, ApiError> {
    let team = state.services.update_team(&actor, &id, body.into()).await?;
    Ok(Json(team.into()))
}

async fn delete_team(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<TeamId>,
) -> Result<StatusCode, ApiError> {
    state.services.delete_team(&actor, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A team.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Team")]
struct TeamView {
    id: String,
    /// Unique.
    name: String,
    description: String,
    created_at: Rfc3339,
    updated_at: Rfc3339,
}

impl From<Team> for TeamView {
    fn from(team: Team) -> Self {
        Self {
            id: team.id.into_string(),
            name: team.name,
            description: team.description,
            created_at: team.created_at.into(),
            updated_at: team.updated_at.into(),
        }
    }
}

/// What is said of a team; an update replaces all of it.
#[derive(Debug, Deserialize, JsonSchema)]
struct TeamRequest {
    /// Made when absent; not read on an update.
    id: Option<ChosenId>,
    /// Unique.
    #[schemars(length(min = 1, max = 255), regex(pattern = WORDS))]
    name: String,
    #[schemars(length(max = 4096), regex(pattern = TEXT))]
    description: Option<String>,
}

impl From<TeamRequest> for TeamInput {
    fn from(body: TeamRequest) -> Self {
        Self {
            id: body.id.map(ChosenId::into_string),
            name: body.name,
            description: body.description.unwrap_or_default(),
        }
    }
}
