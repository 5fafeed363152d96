//! Agent groups (api §22).

use axum::{Json, extract::State};
use certctl_domain::{access::Permission, agent_group::AgentGroup, id::AgentGroupId};
use certctl_service::agent_groups::AgentGroupInput;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::agents::AgentView;
use crate::{
    ApiError, ApiJson, AppState, Caller, Paged, Paging, PathId, Rfc3339,
    routes::Route,
    wire::{ChosenId, TEXT, WORDS},
};

pub(crate) fn routes() -> Vec<Route> {
    const COLLECTION: &str = "/api/v1/agent-groups";
    const ITEM: &str = "/api/v1/agent-groups/{id}";
    vec![
        Route::get(COLLECTION, "list_agent_groups")
            .permission(Permission::AgentRead)
            .lists::<AgentGroupView>()
            .handler(list_agent_groups),
        Route::post(COLLECTION, "create_agent_group")
            .permission(Permission::AgentEdit)
            .accepts::<AgentGroupRequest>()
            .refuses(&[StatusCode::CONFLICT])
            .returns_with::<AgentGroupView>(StatusCode::CREATED)
            .handler(create_agent_group),
        Route::get(ITEM, "get_agent_group")
            .permission(Permission::AgentRead)
            .returns::<AgentGroupView>()
            .handler(get_agent_group),
        Route::put(ITEM, "update_agent_group")
            .permission(Permission::AgentEdit)
            .accepts::<AgentGroupRequest>()
            .refuses(&[StatusCode::CONFLICT])
            .returns::<AgentGroupView>()
            .handler(update_agent_group),
        Route::delete(ITEM, "delete_agent_group")
            .permission(Permission::AgentEdit)
            .returns_nothing()
            .handler(delete_agent_group),
        Route::get("/api/v1/agent-groups/{id}/members", "list_agent_group_members")
            .permission(Permission::AgentRead)
            .summary("Lists the agents that were included and those that meet every criterion, less those that were excluded")
            .lists::<AgentView>()
            .handler(list_agent_group_members),
    ]
}

crud_handlers!(AgentGroupId, AgentGroupRequest => AgentGroupView:
    list_agent_groups, create_agent_group, get_agent_group, update_agent_group, delete_agent_group);

async fn list_agent_group_members(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<AgentGroupId>,
    Paging(page): Paging,
) -> Result<Paged<AgentView>, ApiError> {
    let members = state
        .services
        .list_agent_group_members(&actor, &id, page)
        .await?;
    Ok(Paged::new(members, page, Into::into))
}

/// A group of agents (model §3.7).
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AgentGroup")]
struct AgentGroupView {
    id: String,
    /// Unique.
    name: String,
    description: String,
    /// The operating system of its members, in any case; empty for any.
    match_os: String,
    /// Their architecture, in any case; empty for any.
    match_architecture: String,
    /// The network their addresses lie in; empty for any.
    match_ip_cidr: String,
    /// The version of their program; empty for any.
    match_version: String,
    /// Whether the criteria count; those that were included are members all the same.
    enabled: bool,
    created_at: Rfc3339,
    updated_at: Rfc3339,
}

impl From<AgentGroup> for AgentGroupView {
    fn from(group: AgentGroup) -> Self {
        Self {
            id: group.id.into_string(),
            name: group.name,
            description: group.description,
            match_os: group.match_os,
            match_architecture: group.match_architecture,
            match_ip_cidr: group.match_ip_cidr,
            match_version: group.match_version,
            enabled: group.enabled,
            created_at: group.created_at.into(),
            updated_at: group.updated_at.into(),
        }
    }
}

/// What is said of a group; an update replaces all of it.
#[derive(Debug, Deserialize, JsonSchema)]
struct AgentGroupRequest {
    /// Made when absent; not read on an update.
    id: Option<ChosenId>,
    /// Unique.
    #[schemars(length(min = 1, max = 255), regex(pattern = WORDS))]
    name: String,
    #[schemars(length(max = 4096), regex(pattern = TEXT))]
    description: Option<String>,
    #[schemars(length(max = 100), regex(pattern = TEXT))]
    match_os: Option<String>,
    #[schemars(length(max = 100), regex(pattern = TEXT))]
    match_architecture: Option<String>,
    /// A network such as `10.0.1.0/24` or `fd00::/8`, or one address.
    #[schemars(length(max = 100), regex(pattern = TEXT))]
    match_ip_cidr: Option<String>,
    #[schemars(length(max = 100), regex(pattern = TEXT))]
    match_version: Option<String>,
    /// `true` when absent.
    enabled: Option<bool>,
}

impl From<AgentGroupRequest> for AgentGroupInput {
    fn from(body: AgentGroupRequest) -> Self {
        Self {
            id: body.id.map(ChosenId::into_string),
            name: body.name,
            description: body.description.unwrap_or_default(),
            match_os: body.match_os.unwrap_or_default(),
            match_architecture: body.match_architecture.unwrap_or_default(),
            match_ip_cidr: body.match_ip_cidr.unwrap_or_default(),
            match_version: body.match_version.unwrap_or_default(),
            enabled: body.enabled.unwrap_or(true),
        }
    }
}
