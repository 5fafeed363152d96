//! What the ACME server needs where nobody configured anything: a profile, and somebody to own its certificates.

use certctl_domain::{
    access::Actor,
    id::{OwnerId, ProfileId, TeamId},
};
use certctl_repository::{installation, transaction};

use crate::{Error, Services, owners::OwnerInput, profiles::ProfileInput, teams::TeamInput};

/// The profile of the embedded default.
pub const FIRST_PROFILE: &str = "prof-acme";
/// Who owns its certificates.
pub const FIRST_OWNER: &str = "o-acme";
/// Their team.
pub const FIRST_TEAM: &str = "t-acme";

/// That they were made; whoever removes them does not get them back.
const FACT: &str = "acme_first_rows";

impl Services {
    /// Makes [`FIRST_PROFILE`], [`FIRST_OWNER`] and [`FIRST_TEAM`], once in the life of a database. Their ids are good for a
    /// configuration that names them.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the database cannot be written.
    pub async fn make_acme_rows(&self) -> Result<(), Error> {
        if installation::get(&mut self.read().await?, FACT)
            .await?
            .is_some()
        {
            return Ok(());
        }
        let actor = Actor::system();
        let team = TeamInput {
            id: Some(FIRST_TEAM.to_owned()),
            name: "ACME".to_owned(),
            description: "Certificates that were ordered by ACME on this machine".to_owned(),
        };
        there_is(self.create_team(&actor, team).await)?;
        let owner = OwnerInput {
            id: Some(FIRST_OWNER.to_owned()),
            name: "ACME".to_owned(),
            team_id: FIRST_TEAM.to_owned(),
            ..OwnerInput::default()
        };
        there_is(self.create_owner(&actor, owner).await)?;
        let profile = ProfileInput {
            id: Some(FIRST_PROFILE.to_owned()),
            name: "ACME".to_owned(),
            description: "For ACME clients on this machine, which are believed".to_owned(),
            ..ProfileInput::default()
        };
        there_is(self.create_profile(&actor, profile).await)?;
        let now = self.now();
        // Last, so that a start that was cut short is made good by the next one.
        transaction!(self.db, "note ACME rows", conn => {
            installation::claim(conn, FACT, FIRST_PROFILE, now).await
        })?;
        Ok(())
    }

    /// The first rows as a configuration names them: profile, owner and team.
    #[must_use]
    pub fn acme_rows() -> (ProfileId, OwnerId, TeamId) {
        (
            ProfileId::from_stored(FIRST_PROFILE.to_owned()),
            OwnerId::from_stored(FIRST_OWNER.to_owned()),
            TeamId::from_stored(FIRST_TEAM.to_owned()),
        )
    }
}

/// That somebody made it before is as good.
fn there_is<T>(made: Result<T, Error>) -> Result<(), Error> {
    match made {
        Ok(_) | Err(Error::Conflict(_)) => Ok(()),
        Err(error) => Err(error),
    }
}
