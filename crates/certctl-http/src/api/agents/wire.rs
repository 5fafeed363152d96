//! Agents on the wire.

use certctl_domain::{
    agent::{Agent, AgentDependencies, AgentReport},
    secret::Secret,
    time::Timestamp,
};
use certctl_service::agents::AgentInput;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::{
    Rfc3339,
    wire::{TEXT, WORDS, lenient_flag},
};

/// An agent (model §3.7).
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Agent")]
pub(crate) struct AgentView {
    id: String,
    name: String,
    hostname: String,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_heartbeat_at: Option<Rfc3339>,
    registered_at: Rfc3339,
    os: String,
    architecture: String,
    ip_address: String,
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    retired_at: Option<Rfc3339>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retired_reason: Option<String>,
}

impl From<Agent> for AgentView {
    fn from(agent: Agent) -> Self {
        Self {
            id: agent.id.into_string(),
            name: agent.name,
            hostname: agent.hostname,
            status: agent.status.as_str(),
            last_heartbeat_at: agent.last_heartbeat_at.map(Into::into),
            registered_at: agent.registered_at.into(),
            os: agent.os,
            architecture: agent.architecture,
            ip_address: agent.ip_address,
            version: agent.version,
            retired_at: agent.retired_at.map(Into::into),
            retired_reason: agent.retired_reason,
        }
    }
}

/// An agent to be registered.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["name", "hostname"]))]
pub(crate) struct RegisterRequest {
    /// Unique.
    #[schemars(length(min = 1, max = 128), regex(pattern = WORDS))]
    name: String,
    #[schemars(length(min = 1, max = 255), regex(pattern = WORDS))]
    hostname: String,
    #[schemars(length(max = 50), regex(pattern = TEXT))]
    os: String,
    #[schemars(length(max = 50), regex(pattern = TEXT))]
    architecture: String,
    #[schemars(schema_with = "address_or_empty")]
    #[serde(default)]
    ip_address: String,
    #[schemars(length(max = 50), regex(pattern = TEXT))]
    version: String,
}

fn address_or_empty(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [{ "type": "string", "format": "ipv4" }, { "type": "string", "format": "ipv6", "maxLength": 45 }, { "const": "" }] })
}

impl From<RegisterRequest> for AgentInput {
    fn from(request: RegisterRequest) -> Self {
        Self {
            name: request.name,
            report: AgentReport {
                version: request.version,
                hostname: request.hostname,
                os: request.os,
                architecture: request.architecture,
                ip_address: request.ip_address,
            },
        }
    }
}

/// A registered agent with its key, which is shown this once.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "RegisteredAgent")]
pub(crate) struct RegisteredView {
    #[serde(flatten)]
    agent: AgentView,
    /// The bearer key of the agent; only its SHA-256 is stored.
    api_key: String,
}

impl RegisteredView {
    pub(super) fn new(agent: Agent, key: &Secret) -> Self {
        Self {
            agent: agent.into(),
            api_key: key.expose().to_owned(),
        }
    }
}

/// How to retire, for the description of the API.
#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "described here, read one by one")]
pub(super) struct RetireQuery {
    /// `true` or `1` to retire what depends on the agent with it; anything else is no.
    #[serde(default)]
    #[schemars(schema_with = "lenient_flag")]
    force: Option<String>,
    /// Why; required with `force`.
    #[schemars(length(max = 1024), regex(pattern = TEXT))]
    reason: Option<String>,
}

/// A retired agent.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "RetiredAgent")]
pub(crate) struct RetiredView {
    retired_at: Rfc3339,
    already_retired: bool,
    cascade: bool,
    counts: CountsView,
}

/// What depended on an agent.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AgentDependencies")]
struct CountsView {
    active_targets: i64,
    active_certificates: i64,
    pending_jobs: i64,
}

impl RetiredView {
    pub(super) fn new(retired_at: Timestamp, cascade: bool, counts: AgentDependencies) -> Self {
        Self {
            retired_at: retired_at.into(),
            already_retired: false,
            cascade,
            counts: CountsView {
                active_targets: counts.active_targets,
                active_certificates: counts.active_certificates,
                pending_jobs: counts.pending_jobs,
            },
        }
    }
}
