//! Teams.

use certctl_domain::{
    id::TeamId,
    page::{Page, PageRequest},
    team::Team,
};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{Conn, Error, schema::teams, types::At};

#[derive(Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = teams, treat_none_as_null = true, check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
struct TeamRow {
    id: String,
    name: String,
    description: String,
    created_at: At,
    updated_at: At,
}

impl From<&Team> for TeamRow {
    fn from(team: &Team) -> Self {
        Self {
            id: team.id.to_string(),
            name: team.name.clone(),
            description: team.description.clone(),
            created_at: At(team.created_at),
            updated_at: At(team.updated_at),
        }
    }
}

impl TryFrom<TeamRow> for Team {
    type Error = Error;

    fn try_from(row: TeamRow) -> Result<Self, Error> {
        Ok(Self {
            id: TeamId::from_stored(row.id),
            name: row.name,
            description: row.description,
            created_at: row.created_at.0,
            updated_at: row.updated_at.0,
        })
    }
}

crud!(teams, TeamRow, Team, TeamId, order teams::created_at.desc(), teams::id);
