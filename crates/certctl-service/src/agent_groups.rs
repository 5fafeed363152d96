//! Agent groups.

use certctl_domain::{
    access::{Actor, Permission},
    agent::Agent,
    agent_group::AgentGroup,
    audit::EventCategory,
    id::AgentGroupId,
    network::Network,
    page::{Page, PageRequest},
    validation::{InvalidField, MAX_NAME, optional_text, required_text},
};
use certctl_repository::{agent_groups, transaction};
use serde_json::json;

use crate::{
    Error, Services,
    error::Expect as _,
    input::{deleted, new_id},
    services::{authorise, event, record},
};

/// What a caller says of an agent group; an update replaces all of it.
#[derive(Debug, Clone)]
pub struct AgentGroupInput {
    /// The id; made when absent. Not read on an update.
    pub id: Option<String>,
    /// The name; required.
    pub name: String,
    /// What the group is for.
    pub description: String,
    /// The operating system of its members; empty for any.
    pub match_os: String,
    /// Their architecture; empty for any.
    pub match_architecture: String,
    /// The network their addresses lie in; empty for any.
    pub match_ip_cidr: String,
    /// The version of their program; empty for any.
    pub match_version: String,
    /// Whether the criteria count.
    pub enabled: bool,
}

/// Longest criterion, in characters.
const MAX_CRITERION: usize = 100;
const MAX_DESCRIPTION: usize = 4096;

impl AgentGroupInput {
    /// What is said, in order.
    fn checked(&self) -> Result<Self, InvalidField> {
        let criterion = |field, text: &str| {
            optional_text(field, text, MAX_CRITERION).map(|text| text.trim().to_owned())
        };
        let match_ip_cidr = criterion("match_ip_cidr", &self.match_ip_cidr)?;
        if !match_ip_cidr.is_empty() && match_ip_cidr.parse::<Network>().is_err() {
            let problem = "is no network, such as 10.0.1.0/24 or fd00::/8";
            return Err(InvalidField::new("match_ip_cidr", problem));
        }
        Ok(Self {
            id: self.id.clone(),
            name: required_text("name", &self.name, MAX_NAME)?,
            description: optional_text("description", &self.description, MAX_DESCRIPTION)?,
            match_os: criterion("match_os", &self.match_os)?,
            match_architecture: criterion("match_architecture", &self.match_architecture)?,
            match_ip_cidr,
            match_version: criterion("match_version", &self.match_version)?,
            enabled: self.enabled,
        })
    }

    /// Puts what was said into a group.
    fn write(self, group: &mut AgentGroup) {
        group.name = self.name;
        group.description = self.description;
        group.match_os = self.match_os;
        group.match_architecture = self.match_architecture;
        group.match_ip_cidr = self.match_ip_cidr;
        group.match_version = self.match_version;
        group.enabled = self.enabled;
    }
}

impl Services {
    /// Lists agent groups by name.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `agent.read`.
    pub async fn list_agent_groups(
        &self,
        actor: &Actor,
        page: PageRequest,
    ) -> Result<Page<AgentGroup>, Error> {
        authorise(actor, Permission::AgentRead)?;
        Ok(agent_groups::list(&mut self.read().await?, page).await?)
    }

    /// Reads an agent group.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `agent.read`, [`Error::NotFound`].
    pub async fn get_agent_group(
        &self,
        actor: &Actor,
        id: &AgentGroupId,
    ) -> Result<AgentGroup, Error> {
        authorise(actor, Permission::AgentRead)?;
        agent_groups::find(&mut self.read().await?, id)
            .await
            .or_not_found("agent group", id)
    }

    /// Lists the members of an agent group, by id.
    ///
    /// # Errors
    /// As [`Self::get_agent_group`].
    pub async fn list_agent_group_members(
        &self,
        actor: &Actor,
        id: &AgentGroupId,
        page: PageRequest,
    ) -> Result<Page<Agent>, Error> {
        authorise(actor, Permission::AgentRead)?;
        let mut conn = self.read().await?;
        let group = agent_groups::find(&mut conn, id)
            .await
            .or_not_found("agent group", id)?;
        Ok(agent_groups::members(&mut conn, &group, page).await?)
    }

    /// Makes an agent group.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `agent.edit`, [`Error::Invalid`], [`Error::Conflict`] when the id or name is taken.
    pub async fn create_agent_group(
        &self,
        actor: &Actor,
        input: AgentGroupInput,
    ) -> Result<AgentGroup, Error> {
        authorise(actor, Permission::AgentEdit)?;
        let now = self.now();
        let input = input.checked()?;
        let mut group = AgentGroup {
            id: new_id(input.id.as_deref(), AgentGroupId::parse, || {
                AgentGroupId::generate(now)
            })?,
            name: String::new(),
            description: String::new(),
            match_os: String::new(),
            match_architecture: String::new(),
            match_ip_cidr: String::new(),
            match_version: String::new(),
            enabled: true,
            created_at: now,
            updated_at: now,
        };
        input.write(&mut group);
        transaction!(self.db, "create agent group", conn => {
            agent_groups::insert(conn, &group).await
                .or_conflict(|| format!("an agent group named {:?} or with this id exists", group.name))?;
            let resource = ("agent_group", group.id.as_str());
            record(conn, event(actor, EventCategory::CertLifecycle, "create_agent_group", resource, json!({}), now)).await?;
            Ok::<_, Error>(())
        })?;
        Ok(group)
    }

    /// Changes an agent group.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `agent.edit`, [`Error::NotFound`], [`Error::Invalid`], [`Error::Conflict`].
    pub async fn update_agent_group(
        &self,
        actor: &Actor,
        id: &AgentGroupId,
        input: AgentGroupInput,
    ) -> Result<AgentGroup, Error> {
        authorise(actor, Permission::AgentEdit)?;
        let now = self.now();
        let input = input.checked()?;
        transaction!(self.db, "update agent group", conn => {
            let mut group = agent_groups::find(conn, id).await.or_not_found("agent group", id)?;
            input.clone().write(&mut group);
            group.updated_at = now;
            agent_groups::update(conn, &group).await.or_conflict(|| format!("an agent group named {:?} exists", group.name))?;
            let resource = ("agent_group", id.as_str());
            record(conn, event(actor, EventCategory::CertLifecycle, "update_agent_group", resource, json!({}), now)).await?;
            Ok::<_, Error>(group)
        })
    }

    /// Deletes an agent group; its members stay what they are.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `agent.edit`, [`Error::NotFound`].
    pub async fn delete_agent_group(&self, actor: &Actor, id: &AgentGroupId) -> Result<(), Error> {
        authorise(actor, Permission::AgentEdit)?;
        let now = self.now();
        transaction!(self.db, "delete agent group", conn => {
            deleted(agent_groups::delete(conn, id).await, "agent group", id, "something refers to this agent group")?;
            let resource = ("agent_group", id.as_str());
            record(conn, event(actor, EventCategory::CertLifecycle, "delete_agent_group", resource, json!({}), now)).await?;
            Ok::<_, Error>(())
        })
    }
}
