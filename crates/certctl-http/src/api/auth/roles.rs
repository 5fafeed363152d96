//! Roles and what they permit (api §10.2).

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use certctl_domain::{
    access::{DEFAULT_TENANT, EffectivePermission, Permission, Role},
    id::RoleId,
};
use certctl_service::roles::{RoleInput, RolePermissionInput};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PageQuery, ScopeBody, ScopeQuery, page};
use crate::{
    ApiError, ApiJson, ApiQuery, AppState, Caller, PathId, PathIds, QueryPairs, Rfc3339,
    routes::Route,
};

pub(super) fn routes() -> Vec<Route> {
    const COLLECTION: &str = "/api/v1/auth/roles";
    const ITEM: &str = "/api/v1/auth/roles/{id}";
    const PERMISSIONS: &str = "/api/v1/auth/roles/{id}/permissions";
    const PERMISSION: &str = "/api/v1/auth/roles/{id}/permissions/{perm}";
    vec![
        Route::get(COLLECTION, "list_roles")
            .permission(Permission::AuthRoleList)
            .query::<PageQuery>()
            .refuses(&[StatusCode::BAD_REQUEST])
            .returns::<RolesView>()
            .handler(list_roles),
        Route::post(COLLECTION, "create_role")
            .permission(Permission::AuthRoleCreate)
            .accepts::<RoleRequest>()
            .refuses(&[StatusCode::CONFLICT])
            .returns_with::<RoleView>(StatusCode::CREATED)
            .handler(create_role),
        Route::get(ITEM, "get_role")
            .permission(Permission::AuthRoleList)
            .returns::<RoleDetailView>()
            .handler(get_role),
        Route::put(ITEM, "update_role")
            .permission(Permission::AuthRoleEdit)
            .accepts::<RoleRequest>()
            .refuses(&[StatusCode::CONFLICT])
            .returns::<RoleView>()
            .handler(update_role),
        Route::delete(ITEM, "delete_role")
            .permission(Permission::AuthRoleDelete)
            .refuses(&[StatusCode::CONFLICT])
            .returns_nothing()
            .handler(delete_role),
        Route::post(PERMISSIONS, "add_role_permission")
            .permission(Permission::AuthRoleEdit)
            .summary("Let a role permit something more; nobody adds what they do not hold")
            .accepts::<RolePermissionRequest>()
            .returns_nothing()
            .handler(add_role_permission),
        Route::delete(PERMISSION, "remove_role_permission")
            .permission(Permission::AuthRoleEdit)
            .query::<ScopeQuery>()
            .refuses(&[StatusCode::BAD_REQUEST, StatusCode::CONFLICT])
            .returns_nothing()
            .handler(remove_role_permission),
    ]
}

async fn list_roles(
    State(state): State<AppState>,
    Caller(actor): Caller,
    query: QueryPairs,
) -> Result<Json<RolesView>, ApiError> {
    let roles = state.services.list_roles(&actor, page(&query)).await?;
    Ok(Json(RolesView {
        total: roles.total,
        roles: roles.rows.into_iter().map(Into::into).collect(),
    }))
}

async fn create_role(
    State(state): State<AppState>,
    Caller(actor): Caller,
    ApiJson(body): ApiJson<RoleRequest>,
) -> Result<Response, ApiError> {
    let role = state.services.create_role(&actor, body.into()).await?;
    Ok((StatusCode::CREATED, Json(RoleView::from(role))).into_response())
}

async fn get_role(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<RoleId>,
) -> Result<Json<RoleDetailView>, ApiError> {
    let (role, permissions) = state.services.get_role(&actor, &id).await?;
    let permissions = permissions
        .into_iter()
        .map(|one| RolePermissionView::new(&id, &one));
    Ok(Json(RoleDetailView {
        permissions: permissions.collect(),
        role: role.into(),
    }))
}

async fn update_role(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<RoleId>,
    ApiJson(body): ApiJson<RoleRequest>,
) -> Result<Json<RoleView>, ApiError> {
    let role = state.services.update_role(&actor, &id, body.into()).await?;
    Ok(Json(role.into()))
}

async fn delete_role(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<RoleId>,
) -> Result<StatusCode, ApiError> {
    state.services.delete_role(&actor, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn add_role_permission(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<RoleId>,
    ApiJson(body): ApiJson<RolePermissionRequest>,
) -> Result<StatusCode, ApiError> {
    let input = RolePermissionInput {
        permission: body.permission,
        scope: body.scope.into(),
    };
    state
        .services
        .add_role_permission(&actor, &id, &input)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn remove_role_permission(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathIds(id, permission): PathIds<RoleId, String>,
    ApiQuery(scope): ApiQuery<ScopeQuery>,
) -> Result<StatusCode, ApiError> {
    let input = RolePermissionInput {
        permission,
        scope: scope.into(),
    };
    state
        .services
        .remove_role_permission(&actor, &id, &input)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A role. Times are whole seconds.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Role")]
struct RoleView {
    id: String,
    tenant_id: &'static str,
    /// Unique.
    name: String,
    description: String,
    created_at: Rfc3339,
    updated_at: Rfc3339,
}

impl From<Role> for RoleView {
    fn from(role: Role) -> Self {
        Self {
            id: role.id.into_string(),
            tenant_id: DEFAULT_TENANT,
            name: role.name,
            description: role.description,
            created_at: role.created_at.truncated_to_seconds().into(),
            updated_at: role.updated_at.truncated_to_seconds().into(),
        }
    }
}

/// Roles by name.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Roles")]
struct RolesView {
    roles: Vec<RoleView>,
    /// How many there are in all.
    total: i64,
}

/// A role with what it permits.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "RoleDetail")]
struct RoleDetailView {
    role: RoleView,
    permissions: Vec<RolePermissionView>,
}

/// Something a role permits.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "RolePermission")]
struct RolePermissionView {
    role_id: String,
    permission_id: String,
    /// The name of the permission.
    permission: &'static str,
    /// `global`, `issuer` or `profile`.
    scope_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope_id: Option<String>,
}

impl RolePermissionView {
    fn new(role: &RoleId, one: &EffectivePermission) -> Self {
        Self {
            role_id: role.to_string(),
            permission_id: one.permission.id(),
            permission: one.permission.as_str(),
            scope_type: one.scope.kind(),
            scope_id: one.scope.id().map(ToOwned::to_owned),
        }
    }
}

/// What is said of a role; an update replaces all of it.
#[derive(Deserialize, JsonSchema)]
struct RoleRequest {
    #[schemars(length(min = 1, max = 255), example = &"release engineering")]
    name: String,
    #[schemars(length(max = 4096))]
    description: Option<String>,
}

impl From<RoleRequest> for RoleInput {
    fn from(body: RoleRequest) -> Self {
        Self {
            name: body.name,
            description: body.description.unwrap_or_default(),
        }
    }
}

/// Something a role is to permit.
#[derive(Deserialize, JsonSchema)]
struct RolePermissionRequest {
    /// The name of the permission.
    #[schemars(example = &"cert.read")]
    permission: String,
    #[serde(flatten)]
    scope: ScopeBody,
}
