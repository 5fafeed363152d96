//! Owners (api §22).

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use certctl_domain::{access::Permission, id::OwnerId, owner::Owner};
use certctl_service::owners::OwnerInput;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ApiError, ApiJson, AppState, Caller, Paged, Paging, PathId, Rfc3339,
    routes::Route,
    wire::{ChosenId, ID, WORDS},
};

/// Nothing, or what could be an address; whether it is one the mail server decides.
const MAILBOX: &str = r"^([^\s\u0000-\u001F\u007F-\u009F]+@[^\s@\u0000-\u001F\u007F-\u009F]+)?$";

pub(crate) fn routes() -> Vec<Route> {
    const COLLECTION: &str = "/api/v1/owners";
    const ITEM: &str = "/api/v1/owners/{id}";
    vec![
        Route::get(COLLECTION, "list_owners")
            .permission(Permission::OwnerRead)
            .lists::<OwnerView>()
            .handler(list_owners),
        Route::post(COLLECTION, "create_owner")
            .permission(Permission::OwnerEdit)
            .accepts::<OwnerRequest>()
            .refuses(&[StatusCode::CONFLICT])
            .returns_with::<OwnerView>(StatusCode::CREATED)
            .handler(create_owner),
        Route::get(ITEM, "get_owner")
            .permission(Permission::OwnerRead)
            .returns::<OwnerView>()
            .handler(get_owner),
        Route::put(ITEM, "update_owner")
            .permission(Permission::OwnerEdit)
            .accepts::<OwnerRequest>()
            .returns::<OwnerView>()
            .handler(update_owner),
        Route::delete(ITEM, "delete_owner")
            .permission(Permission::OwnerDelete)
            .refuses(&[StatusCode::CONFLICT])
            .returns_nothing()
            .handler(delete_owner),
    ]
}

async fn list_owners(
    State(state): State<AppState>,
    Caller(actor): Caller,
    Paging(page): Paging,
) -> Result<Paged<OwnerView>, ApiError> {
    let owners = state.services.list_owners(&actor, page).await?;
    Ok(Paged::new(owners, page, Into::into))
}

async fn create_owner(
    State(state): State<AppState>,
    Caller(actor): Caller,
    ApiJson(body): ApiJson<OwnerRequest>,
) -> Result<Response, ApiError> {
    let owner = state.services.create_owner(&actor, body.into()).await?;
    Ok((StatusCode::CREATED, Json(OwnerView::from(owner))).into_response())
}

async fn get_owner(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<OwnerId>,
) -> Result<Json<OwnerView>, ApiError> {
    Ok(Json(state.services.get_owner(&actor, &id).await?.into()))
}

async fn update_owner(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<OwnerId>,
    ApiJson(body): ApiJson<OwnerRequest>,
) -> Result<Json<OwnerView>, ApiError> {
    let owner = state
        .services
        .update_owner(&actor, &id, body.into())
        .await?;
    Ok(Json(owner.into()))
}

async fn delete_owner(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<OwnerId>,
) -> Result<StatusCode, ApiError> {
    state.services.delete_owner(&actor, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Who answers for certificates.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Owner")]
struct OwnerView {
    id: String,
    name: String,
    /// Where mail goes; may be empty.
    email: String,
    team_id: String,
    created_at: Rfc3339,
    updated_at: Rfc3339,
}

impl From<Owner> for OwnerView {
    fn from(owner: Owner) -> Self {
        Self {
            id: owner.id.into_string(),
            name: owner.name,
            email: owner.email,
            team_id: owner.team_id.into_string(),
            created_at: owner.created_at.into(),
            updated_at: owner.updated_at.into(),
        }
    }
}

/// What is said of an owner; an update replaces all of it.
#[derive(Debug, Deserialize, JsonSchema)]
struct OwnerRequest {
    /// Made when absent; not read on an update.
    id: Option<ChosenId>,
    #[schemars(length(min = 1, max = 255), regex(pattern = WORDS))]
    name: String,
    /// Where mail goes.
    #[schemars(length(max = 255), regex(pattern = MAILBOX))]
    email: Option<String>,
    /// A team that exists.
    #[schemars(regex(pattern = ID))]
    team_id: String,
}

impl From<OwnerRequest> for OwnerInput {
    fn from(body: OwnerRequest) -> Self {
        Self {
            id: body.id.map(ChosenId::into_string),
            name: body.name,
            email: body.email.unwrap_or_default(),
            team_id: body.team_id,
        }
    }
}
