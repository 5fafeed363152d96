//! Agents: registering, reading, retiring.

use certctl_domain::{
    access::{Actor, ActorType, Permission, Scope, SeededRole},
    agent::{Agent, AgentDependencies, AgentReport, AgentStatus},
    audit::EventCategory,
    id::{ActorRoleId, AgentId, RoleId},
    page::{Page, PageRequest},
    secret::Secret,
    time::Timestamp,
    validation::{InvalidField, MAX_AGENT_NAME, required_text},
};
use certctl_repository::{agents, jobs, roles, targets, transaction};
use serde_json::json;

use crate::{
    Error, Services,
    access::key_hash,
    error::Expect as _,
    first_run::random_key,
    heartbeats::check_report,
    services::{authorise, event, record},
};

/// What is said of an agent to be registered.
#[derive(Debug, Clone, Default)]
pub struct AgentInput {
    /// The name; required.
    pub name: String,
    /// What the agent says of itself; the host name is required.
    pub report: AgentReport,
}

/// How a caller may register an agent.
#[derive(Debug, Clone)]
pub enum Registrar {
    /// With the bootstrap token.
    Token(Secret),
    /// With a key that holds `agent.edit`.
    Actor(Actor),
}

/// How an agent was retired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retirement {
    /// It was retired before.
    Already,
    /// It is retired now.
    Now {
        /// Since when.
        retired_at: Timestamp,
        /// Whether what depended on it was retired and called off with it.
        cascade: bool,
        /// What depended on it.
        counts: AgentDependencies,
    },
}

impl Services {
    /// Whether a bearer is the token that agents register with.
    #[must_use]
    pub fn is_bootstrap_token(&self, bearer: &str) -> bool {
        let Some(token) = &self.config.agent_bootstrap_token else {
            return false;
        };
        same_secret(bearer, token)
    }

    /// Registers an agent and makes its key, which is shown this once.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] with a wrong token, [`Error::Forbidden`] without `agent.edit`, [`Error::Invalid`],
    /// [`Error::Conflict`] when the name is taken.
    pub async fn register_agent(
        &self,
        registrar: &Registrar,
        input: AgentInput,
    ) -> Result<(Agent, Secret), Error> {
        let bootstrap = Actor::new(
            "agent-bootstrap",
            ActorType::Anonymous,
            false,
            Vec::new(),
            Vec::new(),
        );
        let actor = match registrar {
            Registrar::Token(token) if self.is_bootstrap_token(token.expose()) => &bootstrap,
            Registrar::Token(_) => {
                return Err(Error::Unauthenticated(
                    "invalid_or_missing_bootstrap_token".to_owned(),
                ));
            }
            Registrar::Actor(actor) => {
                authorise(actor, Permission::AgentEdit)?;
                actor
            }
        };
        let now = self.now();
        let agent = parse(input, now)?;
        let key = Secret::new(random_key()?);
        let role_id = RoleId::from_stored(SeededRole::Agent.id());
        transaction!(self.db, "register agent", conn => {
            agents::insert(conn, &agent, &key_hash(key.expose())).await.or_conflict(|| format!("an agent named {:?} exists", agent.name))?;
            let grant = roles::NewGrant {
                id: ActorRoleId::generate(now),
                actor_id: agent.id.as_str(),
                actor_type: ActorType::Agent,
                role_id: &role_id,
                scope: Scope::Global,
                granted_by: actor.id(),
                granted_at: now,
                expires_at: None,
            };
            roles::grant(conn, &grant).await?;
            let details = json!({"hostname": agent.hostname});
            record(conn, event(actor, EventCategory::CertLifecycle, "agent_registered", ("agent", agent.id.as_str()), details, now)).await?;
            Ok::<_, Error>(())
        })?;
        Ok((agent, key))
    }

    /// Lists agents: those in use, newest first, or those retired, last retired first.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `agent.read`.
    pub async fn list_agents(
        &self,
        actor: &Actor,
        retired: bool,
        page: PageRequest,
    ) -> Result<Page<Agent>, Error> {
        authorise(actor, Permission::AgentRead)?;
        Ok(agents::list(&mut self.read().await?, retired, page).await?)
    }

    /// Reads an agent, retired or not.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `agent.read`, [`Error::NotFound`].
    pub async fn get_agent(&self, actor: &Actor, id: &AgentId) -> Result<Agent, Error> {
        authorise(actor, Permission::AgentRead)?;
        agents::find(&mut self.read().await?, id)
            .await
            .or_not_found("agent", id)
    }

    /// Retires an agent: its key is answered with 410 from then on. With `force`, its targets are retired and its open jobs are
    /// called off with it.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `agent.retire`, [`Error::NotFound`], [`Error::Invalid`] for `force` without a reason,
    /// [`Error::NotYours`] for one of the server's own, [`Error::AgentBlocked`] while something depends on it.
    pub async fn retire_agent(
        &self,
        actor: &Actor,
        id: &AgentId,
        force: bool,
        reason: Option<&str>,
    ) -> Result<Retirement, Error> {
        authorise(actor, Permission::AgentRetire)?;
        let reason = reason.map(str::trim).filter(|reason| !reason.is_empty());
        if force && reason.is_none() {
            return Err(InvalidField::new("reason", "is required with force").into());
        }
        let now = self.now();
        let retired = transaction!(self.db, "retire agent", conn => {
            let agent = agents::find_for_update(conn, id).await.or_not_found("agent", id)?;
            if agent.is_sentinel() {
                return Err(Error::NotYours("this agent stands for the server itself and is never retired".to_owned()));
            }
            if agent.retired_at.is_some() {
                return Ok(Retirement::Already);
            }
            let counts = agents::dependencies(conn, id).await?;
            if !counts.is_empty() && !force {
                return Err(Error::AgentBlocked(counts));
            }
            agents::retire(conn, id, reason, now).await?;
            let details = json!({"force": force, "active_targets": counts.active_targets, "pending_jobs": counts.pending_jobs});
            record(conn, event(actor, EventCategory::CertLifecycle, "agent_retired", ("agent", id.as_str()), details, now)).await?;
            let cascade = !counts.is_empty();
            if cascade {
                let why = reason.unwrap_or("the agent was retired");
                let targets = targets::retire_of_agent(conn, id, why, now).await?;
                let jobs = jobs::cancel_of_agent(conn, id, "the agent was retired", now).await?;
                let details = json!({"targets": targets, "jobs": jobs});
                record(conn, event(actor, EventCategory::CertLifecycle, "agent_retirement_cascaded", ("agent", id.as_str()), details, now)).await?;
            }
            Ok::<_, Error>(Retirement::Now { retired_at: now, cascade, counts })
        })?;
        self.heartbeats.forget();
        self.access.clear();
        Ok(retired)
    }
}

/// Whether a text is a secret; compared in constant time, by hashes.
pub(crate) fn same_secret(given: &str, expected: &Secret) -> bool {
    let digest = |text: &str| ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let (given, expected) = (digest(given), digest(expected.expose()));
    // Every byte is looked at whatever the first ones say.
    given
        .as_ref()
        .iter()
        .zip(expected.as_ref())
        .fold(0_u8, |difference, (a, b)| difference | (a ^ b))
        == 0
}

fn parse(input: AgentInput, now: Timestamp) -> Result<Agent, Error> {
    let name = required_text("name", &input.name, MAX_AGENT_NAME)?;
    let hostname = required_text("hostname", &input.report.hostname, 255)?;
    check_report(&input.report)?;
    let AgentReport {
        version,
        os,
        architecture,
        ip_address,
        ..
    } = input.report;
    Ok(Agent {
        id: AgentId::generate(now),
        name,
        hostname,
        status: AgentStatus::Online,
        last_heartbeat_at: Some(now),
        registered_at: now,
        os,
        architecture,
        ip_address,
        version,
        retired_at: None,
        retired_reason: None,
    })
}
