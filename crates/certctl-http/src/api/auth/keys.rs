//! API keys and the roles they hold (api §10.2).

use std::time::Duration;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use certctl_domain::{
    access::{ActorType, DEFAULT_TENANT, Permission},
    id::{ApiKeyId, RoleId},
    time::Timestamp,
    validation::InvalidField,
};
use certctl_service::{
    grants::GrantInput,
    keys::{KeyHolder, KeyInput, MAX_GRACE, ShownKey},
};
use http::{StatusCode, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PageQuery, ScopeBody, ScopeQuery, page};
use crate::{
    ApiError, ApiJson, ApiQuery, AppState, Caller, OptionalJson, PathId, PathIds, QueryPairs,
    Rfc3339, routes::Route,
};

pub(super) fn routes() -> Vec<Route> {
    const COLLECTION: &str = "/api/v1/auth/keys";
    const ITEM: &str = "/api/v1/auth/keys/{id}";
    const ROLES: &str = "/api/v1/auth/keys/{id}/roles";
    const ROLE: &str = "/api/v1/auth/keys/{id}/roles/{role_id}";
    vec![
        Route::get(COLLECTION, "list_keys")
            .permission(Permission::AuthKeyList)
            .summary("Everybody who holds a role, and every stored key")
            .query::<KeysQuery>()
            .query::<PageQuery>()
            .refuses(&[StatusCode::BAD_REQUEST])
            .returns::<KeysView>()
            .handler(list_keys),
        Route::post(COLLECTION, "create_key")
            .permission(Permission::AuthKeyCreate)
            .summary(
                "Make a key, whose value is shown this once; it can hold no more than its maker",
            )
            .accepts::<KeyRequest>()
            .refuses(&[StatusCode::CONFLICT])
            .returns_with::<ShownKeyView>(StatusCode::CREATED)
            .handler(create_key),
        Route::get(ITEM, "get_key")
            .permission(Permission::AuthKeyList)
            .summary("One key, by its name or its id")
            .returns::<KeyView>()
            .handler(get_key),
        Route::delete(ITEM, "delete_key")
            .permission(Permission::AuthKeyDelete)
            .summary("Delete a key with its grants")
            .refuses(&[StatusCode::CONFLICT])
            .returns_nothing()
            .handler(delete_key),
        Route::post("/api/v1/auth/keys/{id}/rotate", "rotate_key")
            .permission(Permission::AuthKeyRotate)
            .summary("Give a key a new value, which is shown this once")
            .accepts_optional::<RotateRequest>()
            .refuses(&[StatusCode::CONFLICT])
            .returns::<ShownKeyView>()
            .handler(rotate_key),
        Route::post(ROLES, "grant_role")
            .permission(Permission::AuthRoleAssign)
            .summary("Grant a role; nobody grants what they do not hold")
            .accepts::<GrantRequest>()
            .refuses(&[StatusCode::CONFLICT])
            .returns_nothing()
            .handler(grant_role),
        Route::delete(ROLE, "revoke_role")
            .permission(Permission::AuthRoleRevoke)
            .summary("Take a role back: for one scope, or for all")
            .query::<ScopeQuery>()
            .refuses(&[StatusCode::BAD_REQUEST, StatusCode::CONFLICT])
            .returns_nothing()
            .handler(revoke_role),
    ]
}

async fn list_keys(
    State(state): State<AppState>,
    Caller(actor): Caller,
    query: QueryPairs,
) -> Result<Json<KeysView>, ApiError> {
    let kind = query
        .get("actor_type")
        .map(ActorType::parse)
        .transpose()
        .map_err(|error| InvalidField::new("actor_type", error.to_string()))?;
    let page = page(&query);
    let keys = state.services.list_keys(&actor, kind, page).await?;
    Ok(Json(KeysView {
        total: keys.total,
        page: page.page(),
        per_page: page.per_page(),
        keys: keys.rows.into_iter().map(Into::into).collect(),
    }))
}

async fn create_key(
    State(state): State<AppState>,
    Caller(actor): Caller,
    ApiJson(body): ApiJson<KeyRequest>,
) -> Result<Response, ApiError> {
    let input = KeyInput {
        name: body.name,
        role_ids: body.role_ids.unwrap_or_default(),
        expires_at: body.expires_at.and_then(Rfc3339::get),
    };
    let key = state.services.create_key(&actor, input).await?;
    Ok(shown(StatusCode::CREATED, key))
}

async fn get_key(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<ApiKeyId>,
) -> Result<Json<KeyView>, ApiError> {
    Ok(Json(
        state.services.get_key(&actor, id.as_str()).await?.into(),
    ))
}

async fn delete_key(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<ApiKeyId>,
) -> Result<StatusCode, ApiError> {
    state.services.delete_key(&actor, id.as_str()).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn rotate_key(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<ApiKeyId>,
    OptionalJson(body): OptionalJson<RotateRequest>,
) -> Result<Response, ApiError> {
    let grace = body.and_then(|body| body.grace_seconds).unwrap_or(0);
    let grace = Duration::from_secs(grace);
    let key = state
        .services
        .rotate_key(&actor, id.as_str(), grace)
        .await?;
    Ok(shown(StatusCode::OK, key))
}

async fn grant_role(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<ApiKeyId>,
    ApiJson(body): ApiJson<GrantRequest>,
) -> Result<StatusCode, ApiError> {
    let input = GrantInput {
        role_id: body.role_id,
        scope: body.scope.into(),
        expires_at: body.expires_at.and_then(Rfc3339::get),
    };
    state
        .services
        .grant_role(&actor, id.as_str(), input)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn revoke_role(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathIds(id, role): PathIds<ApiKeyId, RoleId>,
    ApiQuery(scope): ApiQuery<ScopeQuery>,
) -> Result<StatusCode, ApiError> {
    state
        .services
        .revoke_role(&actor, id.as_str(), &role, &scope.into())
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// An answer that holds the value of a key; nothing on its way may keep it.
fn shown(status: StatusCode, key: ShownKey) -> Response {
    let no_store = [(header::CACHE_CONTROL, "no-store")];
    (status, no_store, Json(ShownKeyView::from(key))).into_response()
}

fn seconds(time: Timestamp) -> Rfc3339 {
    time.truncated_to_seconds().into()
}

/// Which keys.
#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "its schema is what is used")]
struct KeysQuery {
    /// Only actors of this kind.
    #[serde(default)]
    #[schemars(with = "String", extend("enum" = ["User", "System", "Agent", "APIKey", "Anonymous"]))]
    actor_type: Option<String>,
}

/// Holders of roles, by id.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Keys")]
struct KeysView {
    keys: Vec<KeyView>,
    /// How many there are in all.
    total: i64,
    page: u32,
    per_page: u32,
}

/// An actor with the roles of its grants that have not ended, and its key where that is stored. Times are whole seconds.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Key")]
struct KeyView {
    actor_id: String,
    actor_type: &'static str,
    tenant_id: &'static str,
    role_ids: Vec<String>,
    /// Whether the configuration of the server has a key of this name; such a key is changed there.
    configured: bool,
    #[serde(flatten)]
    stored: Option<StoredKeyView>,
}

/// What is stored of a key.
#[derive(Serialize, JsonSchema)]
struct StoredKeyView {
    id: String,
    name: String,
    created_by: String,
    created_at: Rfc3339,
    /// When the key ends; absent when it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Rfc3339>,
    /// When it was last used, to the minute; absent when it never was.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_at: Option<Rfc3339>,
    /// Until when the value before the last rotation is accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_valid_until: Option<Rfc3339>,
}

impl From<KeyHolder> for KeyView {
    fn from(one: KeyHolder) -> Self {
        Self {
            actor_id: one.holder.actor_id,
            actor_type: one.holder.actor_type.as_str(),
            tenant_id: DEFAULT_TENANT,
            role_ids: texts(one.holder.roles),
            configured: one.is_configured,
            stored: one.key.map(|key| StoredKeyView {
                id: key.id.into_string(),
                name: key.name,
                created_by: key.created_by,
                created_at: seconds(key.created_at),
                expires_at: key.expires_at.map(seconds),
                last_used_at: key.last_used_at.map(seconds),
                previous_valid_until: key.previous.map(|one| seconds(one.valid_until)),
            }),
        }
    }
}

/// A key with its value.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ShownKey")]
struct ShownKeyView {
    id: String,
    name: String,
    /// The same as the name.
    actor_id: String,
    role_ids: Vec<String>,
    /// The key, shown this once.
    #[schemars(regex(pattern = "^[0-9a-f]{64}$"))]
    key_value: String,
    created_at: Rfc3339,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Rfc3339>,
    /// Until when the value before is accepted; absent when it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_valid_until: Option<Rfc3339>,
}

impl From<ShownKey> for ShownKeyView {
    fn from(shown: ShownKey) -> Self {
        let key = shown.key;
        Self {
            id: key.id.into_string(),
            actor_id: key.name.clone(),
            name: key.name,
            role_ids: texts(shown.roles),
            key_value: shown.value.expose().to_owned(),
            created_at: seconds(key.created_at),
            expires_at: key.expires_at.map(seconds),
            previous_valid_until: key.previous.map(|one| seconds(one.valid_until)),
        }
    }
}

fn texts(roles: Vec<RoleId>) -> Vec<String> {
    roles.into_iter().map(RoleId::into_string).collect()
}

/// A key to be made.
#[derive(Deserialize, JsonSchema)]
struct KeyRequest {
    /// The name, which is the actor that audit rows name; `actor-` and `ak-` are not for beginnings.
    #[schemars(regex(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"), example = &"ci")]
    name: String,
    /// The roles it holds from the start, for everything.
    #[schemars(length(max = 50))]
    role_ids: Option<Vec<String>>,
    /// When it ends; must be in the future.
    expires_at: Option<Rfc3339>,
}

/// How to rotate a key.
#[derive(Deserialize, JsonSchema)]
struct RotateRequest {
    /// For how many seconds the old value is accepted beside the new one; 0 when absent.
    #[schemars(range(min = 0, max = MAX_GRACE.as_secs()))]
    grace_seconds: Option<u64>,
}

/// A role to be granted.
#[derive(Deserialize, JsonSchema)]
struct GrantRequest {
    #[schemars(regex(pattern = "^[A-Za-z0-9._-]{1,128}$"), example = &"r-operator")]
    role_id: String,
    #[serde(flatten)]
    scope: ScopeBody,
    /// When the grant ends; must be in the future.
    expires_at: Option<Rfc3339>,
}
