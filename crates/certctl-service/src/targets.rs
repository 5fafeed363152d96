//! Deployment targets.

mod config;

use certctl_domain::{
    access::{Actor, Permission},
    agent::{Agent, AgentStatus},
    audit::EventCategory,
    id::{AgentId, TargetId},
    issuer::{ConfigSource, TestStatus},
    page::{Page, PageRequest},
    target::{Target, TargetType},
    time::Timestamp,
    validation::{InvalidField, MAX_NAME, required_text},
};
use certctl_repository::{Conn, agents, jobs, locks, targets, transaction};
use serde_json::{Value, json};

use crate::{
    Error, Services,
    error::Expect as _,
    input::{deleted, known, new_id, one_of, reference, written},
    revising::{Tries, aside},
    secrets,
    services::{authorise, event, record},
};

/// What a caller says of a target; an update replaces all of it. It holds secrets, so it does not print.
#[derive(Clone, Default)]
pub struct TargetInput {
    /// The id; made when absent. Not read on an update.
    pub id: Option<String>,
    /// The name; required, unique for the agent.
    pub name: String,
    /// The kind; required.
    pub target_type: String,
    /// The agent that deploys there; required.
    pub agent_id: String,
    /// The configuration, an object; a value of `********` keeps what is stored, unless the kind changes.
    pub config: Option<Value>,
    /// Whether it is deployed to; yes.
    pub enabled: Option<bool>,
}

/// What a test of a target said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetTest {
    /// Whether its agent could deploy now.
    pub success: bool,
    /// Why, or why not.
    pub message: String,
}

/// What of the input can be checked by itself.
struct Parsed {
    name: String,
    kind: TargetType,
    agent_id: AgentId,
    config: Value,
    enabled: bool,
}

impl Services {
    /// Lists targets, newest first, their secrets masked.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `target.read`.
    pub async fn list_targets(
        &self,
        actor: &Actor,
        page: PageRequest,
    ) -> Result<Page<Target>, Error> {
        authorise(actor, Permission::TargetRead)?;
        let page = targets::list(&mut self.read().await?, page).await?;
        Ok(page.map(shown))
    }

    /// Reads a target, its secrets masked.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `target.read`, [`Error::NotFound`].
    pub async fn get_target(&self, actor: &Actor, id: &TargetId) -> Result<Target, Error> {
        authorise(actor, Permission::TargetRead)?;
        let target = targets::find(&mut self.read().await?, id).await;
        Ok(shown(target.or_not_found("target", id)?))
    }

    /// Makes a target. Every kind of the contract is taken: which of them can be deployed to is the agent's to know.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `target.edit`, [`Error::Invalid`] naming the field, also for an agent that does not exist or
    /// is retired, [`Error::BadRequest`] for a secret without a key to seal it with, [`Error::Conflict`] when the id, or the
    /// name at this agent, is taken.
    pub async fn create_target(&self, actor: &Actor, input: TargetInput) -> Result<Target, Error> {
        authorise(actor, Permission::TargetEdit)?;
        let now = self.now();
        let id = new_id(input.id.as_deref(), TargetId::parse, || {
            TargetId::generate(now)
        })?;
        let parsed = parse(input)?;
        let target = Target {
            id,
            name: parsed.name.clone(),
            target_type: parsed.kind,
            agent_id: parsed.agent_id.clone(),
            config: json!({}),
            encrypted_config: None,
            enabled: parsed.enabled,
            last_tested_at: None,
            test_status: TestStatus::Untested,
            source: ConfigSource::Database,
            retired_at: None,
            retired_reason: None,
            created_at: now,
            updated_at: now,
        };
        let target = self.revised_target(target, parsed).await?;
        transaction!(self.db, "create target", conn => {
            check_agent(conn, &target.agent_id).await?;
            written(targets::insert(conn, &target).await, "agent_id", || taken(&target))?;
            record(conn, event(actor, EventCategory::Config, "create_target", ("target", target.id.as_str()), details(&target), now)).await?;
            Ok::<_, Error>(())
        })?;
        Ok(shown(target))
    }

    /// Replaces what is said of a target; masked values stay as they are. It is untested then.
    ///
    /// # Errors
    /// As [`Services::create_target`], [`Error::NotFound`], and [`Error::Conflict`] for a target that was retired with its agent,
    /// or that others keep changing at the same time.
    pub async fn update_target(
        &self,
        actor: &Actor,
        id: &TargetId,
        input: TargetInput,
    ) -> Result<Target, Error> {
        authorise(actor, Permission::TargetEdit)?;
        let mut tries = Tries::new("target", id);
        loop {
            let before = targets::find(&mut self.read().await?, id)
                .await
                .or_not_found("target", id)?;
            let parsed = parse(input.clone())?;
            if before.retired_at.is_some() {
                return Err(Error::Conflict(format!(
                    "target {id} was retired with its agent"
                )));
            }
            let mut after = self.revised_target(before.clone(), parsed).await?;
            let now = self.now();
            after.updated_at = now;
            let done = transaction!(self.db, "update target", conn => {
                locks::target(conn, id).await.or_not_found("target", id)?;
                if targets::find(conn, id).await.or_not_found("target", id)? != before {
                    return Ok(false);
                }
                check_agent(conn, &after.agent_id).await?;
                written(targets::update(conn, &after).await, "agent_id", || taken(&after))?;
                jobs::reassign_of_target(conn, id, &after.agent_id).await?;
                record(conn, event(actor, EventCategory::Config, "update_target", ("target", id.as_str()), details(&after), now)).await?;
                Ok::<_, Error>(true)
            })?;
            if done {
                return Ok(shown(after));
            }
            tries.again()?;
        }
    }

    /// Deletes a target; certificates are no longer mapped to it.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `target.delete`, [`Error::NotFound`], [`Error::Conflict`] while something refers to it.
    pub async fn delete_target(&self, actor: &Actor, id: &TargetId) -> Result<(), Error> {
        authorise(actor, Permission::TargetDelete)?;
        let now = self.now();
        transaction!(self.db, "delete target", conn => {
            jobs::cancel_of_target(conn, id, "the target was deleted", now).await?;
            deleted(targets::delete(conn, id).await, "target", id, "something refers to this target")?;
            record(conn, event(actor, EventCategory::Config, "delete_target", ("target", id.as_str()), json!({}), now)).await?;
            Ok::<_, Error>(())
        })
    }

    /// Tells whether the agent of a target could deploy now, and notes it. The server never connects to a target.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `target.edit`, [`Error::NotFound`].
    pub async fn test_target(&self, actor: &Actor, id: &TargetId) -> Result<TargetTest, Error> {
        authorise(actor, Permission::TargetEdit)?;
        let now = self.now();
        transaction!(self.db, "test target", conn => {
            locks::target(conn, id).await.or_not_found("target", id)?;
            let mut target = targets::find(conn, id).await.or_not_found("target", id)?;
            let agent = agents::find(conn, &target.agent_id).await?;
            let test = assess(&target, &agent, now);
            let (status, action) = if test.success {
                (TestStatus::Success, "target_test_connection_success")
            } else {
                (TestStatus::Failed, "target_test_connection_failed")
            };
            target.test_status = status;
            target.last_tested_at = Some(now);
            targets::update(conn, &target).await?;
            record(conn, event(actor, EventCategory::Config, action, ("target", id.as_str()), details(&target), now)).await?;
            Ok::<_, Error>(test)
        })
    }

    /// The target with what the caller said put on it, its configuration checked and sealed; away from the threads that serve
    /// requests, because opening what is stored may stretch a passphrase.
    async fn revised_target(&self, mut target: Target, parsed: Parsed) -> Result<Target, Error> {
        let sealer = self.sealer.clone();
        aside(move || {
            let (kind, sealer) = (parsed.kind, sealer.as_deref());
            let same_kind = kind == target.target_type;
            let config = secrets::merged(parsed.config, &target, same_kind, sealer)?;
            let config = config::checked(kind, config)?;
            secrets::put(&mut target, &config, config::secret_fields(kind), sealer)?;
            target.name = parsed.name;
            target.target_type = kind;
            target.agent_id = parsed.agent_id;
            target.enabled = parsed.enabled;
            target.test_status = TestStatus::Untested;
            Ok(target)
        })
        .await
    }
}

/// A target as it may leave.
pub(crate) fn shown(target: Target) -> Target {
    let fields = config::secret_fields(target.target_type);
    secrets::shown(target, fields)
}

fn parse(input: TargetInput) -> Result<Parsed, Error> {
    if input.target_type.is_empty() {
        return Err(InvalidField::required("type").into());
    }
    Ok(Parsed {
        name: required_text("name", &input.name, MAX_NAME)?,
        kind: one_of("type", &input.target_type, TargetType::parse)?,
        agent_id: reference("agent_id", &input.agent_id, AgentId::parse)?,
        config: secrets::object(input.config)?,
        enabled: input.enabled.unwrap_or(true),
    })
}

/// The agent must be one that will ask for work.
async fn check_agent(conn: &mut Conn, id: &AgentId) -> Result<(), Error> {
    // Locked, so that it is not retired between this look and the commit: the target would be left behind without an agent.
    let agent = known("agent_id", agents::lock_shared(conn, id).await)?;
    let refuse = |problem: String| Err(InvalidField::new("agent_id", problem).into());
    if agent.retired_at.is_some() {
        return refuse(format!("agent {id} is retired"));
    }
    if agent.is_sentinel() {
        return refuse(format!("{id} stands for the server, which deploys nothing"));
    }
    Ok(())
}

fn assess(target: &Target, agent: &Agent, now: Timestamp) -> TargetTest {
    let name = &agent.id;
    let problem = if target.retired_at.is_some() {
        Some("the target is retired".to_owned())
    } else if agent.retired_at.is_some() {
        Some(format!("agent {name} is retired"))
    } else if agent.status != AgentStatus::Online {
        Some(format!("agent {name} is {}", agent.status))
    } else if !agent.is_deployable(now) {
        Some(format!(
            "agent {name} has not been heard of for five minutes"
        ))
    } else {
        None
    };
    TargetTest {
        success: problem.is_none(),
        message: problem.unwrap_or_else(|| format!("agent {name} is online")),
    }
}

fn details(target: &Target) -> Value {
    json!({"type": target.target_type.as_str(), "agent_id": target.agent_id.as_str(), "enabled": target.enabled})
}

fn taken(target: &Target) -> String {
    format!(
        "agent {} has a target named {:?}, or one with this id exists",
        target.agent_id, target.name
    )
}
