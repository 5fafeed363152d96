//! Owners.

use certctl_domain::{
    access::{Actor, Permission},
    audit::EventCategory,
    id::{OwnerId, TeamId},
    owner::Owner,
    page::{Page, PageRequest},
    validation::{InvalidField, MAX_NAME, required_text},
};
use certctl_repository::{owners, teams, transaction};
use serde_json::json;

use crate::{
    Error, Services,
    error::Expect as _,
    input::{deleted, known, new_id, reference, written},
    services::{authorise, event, record},
};

/// What a caller says of an owner; an update replaces all of it.
#[derive(Debug, Clone, Default)]
pub struct OwnerInput {
    /// The id; made when absent. Not read on an update.
    pub id: Option<String>,
    /// The name; required.
    pub name: String,
    /// Where mail goes; may be empty.
    pub email: String,
    /// The team the owner belongs to; required.
    pub team_id: String,
}

impl Services {
    /// Lists owners, newest first.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `owner.read`.
    pub async fn list_owners(
        &self,
        actor: &Actor,
        page: PageRequest,
    ) -> Result<Page<Owner>, Error> {
        authorise(actor, Permission::OwnerRead)?;
        Ok(owners::list(&mut self.read().await?, page).await?)
    }

    /// Reads an owner.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `owner.read`, [`Error::NotFound`].
    pub async fn get_owner(&self, actor: &Actor, id: &OwnerId) -> Result<Owner, Error> {
        authorise(actor, Permission::OwnerRead)?;
        owners::find(&mut self.read().await?, id)
            .await
            .or_not_found("owner", id)
    }

    /// Makes an owner.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `owner.edit`, [`Error::Invalid`] naming the field, also for a team that does not exist,
    /// [`Error::Conflict`] when the id is taken.
    pub async fn create_owner(&self, actor: &Actor, input: OwnerInput) -> Result<Owner, Error> {
        authorise(actor, Permission::OwnerEdit)?;
        let now = self.now();
        let owner = Owner {
            id: new_id(input.id.as_deref(), OwnerId::parse, || {
                OwnerId::generate(now)
            })?,
            name: required_text("name", &input.name, MAX_NAME)?,
            email: parse_email(&input.email)?,
            team_id: reference("team_id", &input.team_id, TeamId::parse)?,
            created_at: now,
            updated_at: now,
        };
        transaction!(self.db, "create owner", conn => {
            known("team_id", teams::find(conn, &owner.team_id).await)?;
            written(owners::insert(conn, &owner).await, "team_id", || format!("an owner with the id {} exists", owner.id))?;
            let details = json!({"team_id": owner.team_id.as_str()});
            record(conn, event(actor, EventCategory::CertLifecycle, "create_owner", ("owner", owner.id.as_str()), details, now)).await?;
            Ok::<_, Error>(())
        })?;
        Ok(owner)
    }

    /// Replaces what is said of an owner.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `owner.edit`, [`Error::NotFound`], [`Error::Invalid`] naming the field, also for a team that
    /// does not exist.
    pub async fn update_owner(
        &self,
        actor: &Actor,
        id: &OwnerId,
        input: OwnerInput,
    ) -> Result<Owner, Error> {
        authorise(actor, Permission::OwnerEdit)?;
        let now = self.now();
        let name = required_text("name", &input.name, MAX_NAME)?;
        let email = parse_email(&input.email)?;
        let team_id = reference("team_id", &input.team_id, TeamId::parse)?;
        transaction!(self.db, "update owner", conn => {
            let stored = owners::find(conn, id).await.or_not_found("owner", id)?;
            known("team_id", teams::find(conn, &team_id).await)?;
            let owner = Owner { name: name.clone(), email: email.clone(), team_id: team_id.clone(), updated_at: now, ..stored };
            written(owners::update(conn, &owner).await, "team_id", || format!("an owner with the id {id} exists"))?;
            let details = json!({"team_id": owner.team_id.as_str()});
            record(conn, event(actor, EventCategory::CertLifecycle, "update_owner", ("owner", id.as_str()), details, now)).await?;
            Ok::<_, Error>(owner)
        })
    }

    /// Deletes an owner that answers for nothing.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `owner.delete`, [`Error::NotFound`], [`Error::Conflict`] while certificates belong to it.
    pub async fn delete_owner(&self, actor: &Actor, id: &OwnerId) -> Result<(), Error> {
        authorise(actor, Permission::OwnerDelete)?;
        let now = self.now();
        transaction!(self.db, "delete owner", conn => {
            deleted(owners::delete(conn, id).await, "owner", id, "certificates belong to this owner")?;
            record(conn, event(actor, EventCategory::CertLifecycle, "delete_owner", ("owner", id.as_str()), json!({}), now)).await?;
            Ok::<_, Error>(())
        })
    }
}

/// An address, or nothing. Whether it is one the mail server decides; what could become a second header does not get there.
fn parse_email(text: &str) -> Result<String, InvalidField> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let refuse = |problem: &str| Err(InvalidField::new("email", problem));
    if text.chars().count() > MAX_NAME {
        return refuse("is longer than 255 characters");
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return refuse("holds a space or a control character");
    }
    match text.rsplit_once('@') {
        Some((local, domain)) if !local.is_empty() && !domain.is_empty() => Ok(text.to_owned()),
        _ => refuse("is not an e-mail address"),
    }
}
