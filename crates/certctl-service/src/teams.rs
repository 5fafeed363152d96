//! Teams.

use certctl_domain::{
    access::{Actor, Permission},
    audit::EventCategory,
    id::TeamId,
    page::{Page, PageRequest},
    team::Team,
    validation::{InvalidField, MAX_NAME, optional_text, required_text},
};
use certctl_repository::{teams, transaction};
use serde_json::json;

use crate::{
    Error, Services,
    error::Expect as _,
    services::{authorise, event, record},
};

/// What a caller says of a team.
#[derive(Debug, Clone, Default)]
pub struct TeamInput {
    /// The id; made when absent. Not read on an update.
    pub id: Option<String>,
    /// The name; required.
    pub name: String,
    /// What the team does.
    pub description: String,
}

impl Services {
    /// Lists teams, newest first.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `team.read`.
    pub async fn list_teams(&self, actor: &Actor, page: PageRequest) -> Result<Page<Team>, Error> {
        authorise(actor, Permission::TeamRead)?;
        Ok(teams::list(&mut self.read().await?, page).await?)
    }

    /// Reads a team.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `team.read`, [`Error::NotFound`].
    pub async fn get_team(&self, actor: &Actor, id: &TeamId) -> Result<Team, Error> {
        authorise(actor, Permission::TeamRead)?;
        teams::find(&mut self.read().await?, id)
            .await
            .or_not_found("team", id)
    }

    /// Makes a team.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `team.edit`, [`Error::Invalid`], [`Error::Conflict`] when the id or name is taken.
    pub async fn create_team(&self, actor: &Actor, input: TeamInput) -> Result<Team, Error> {
        authorise(actor, Permission::TeamEdit)?;
        let now = self.now();
        let team = Team {
            id: match input.id.as_deref().filter(|id| !id.is_empty()) {
                Some(id) => {
                    TeamId::parse(id).map_err(|error| InvalidField::new("id", error.to_string()))?
                }
                None => TeamId::generate(now),
            },
            name: required_text("name", &input.name, MAX_NAME)?,
            description: optional_text("description", &input.description, 4096)?,
            created_at: now,
            updated_at: now,
        };
        transaction!(self.db, "create team", conn => {
            teams::insert(conn, &team).await.or_conflict(|| format!("a team named {:?} or with this id exists", team.name))?;
            record(conn, event(actor, EventCategory::CertLifecycle, "create_team", ("team", team.id.as_str()), json!({}), now)).await?;
            Ok::<_, Error>(())
        })?;
        Ok(team)
    }

    /// Changes a team.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `team.edit`, [`Error::NotFound`], [`Error::Invalid`], [`Error::Conflict`].
    pub async fn update_team(
        &self,
        actor: &Actor,
        id: &TeamId,
        input: TeamInput,
    ) -> Result<Team, Error> {
        authorise(actor, Permission::TeamEdit)?;
        let now = self.now();
        let name = required_text("name", &input.name, MAX_NAME)?;
        let description = optional_text("description", &input.description, 4096)?;
        transaction!(self.db, "update team", conn => {
            let mut team = teams::find(conn, id).await.or_not_found("team", id)?;
            team.name.clone_from(&name);
            team.description.clone_from(&description);
            team.updated_at = now;
            teams::update(conn, &team).await.or_conflict(|| format!("a team named {name:?} exists"))?;
            record(conn, event(actor, EventCategory::CertLifecycle, "update_team", ("team", id.as_str()), json!({}), now)).await?;
            Ok::<_, Error>(team)
        })
    }

    /// Deletes a team that nobody belongs to.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `team.delete`, [`Error::NotFound`], [`Error::Conflict`] while owners or certificates belong to
    /// it.
    pub async fn delete_team(&self, actor: &Actor, id: &TeamId) -> Result<(), Error> {
        authorise(actor, Permission::TeamDelete)?;
        let now = self.now();
        transaction!(self.db, "delete team", conn => {
            match teams::delete(conn, id).await {
                Err(certctl_repository::Error::Reference) => {
                    return Err(Error::Conflict("owners or certificates belong to this team".to_owned()));
                }
                other => other.or_not_found("team", id)?,
            }
            record(conn, event(actor, EventCategory::CertLifecycle, "delete_team", ("team", id.as_str()), json!({}), now)).await?;
            Ok::<_, Error>(())
        })
    }
}
