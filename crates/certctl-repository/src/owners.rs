//! Owners.

use certctl_domain::{
    id::{OwnerId, TeamId},
    owner::Owner,
    page::{Page, PageRequest},
};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{Conn, Error, schema::owners, types::At};

#[derive(Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = owners, treat_none_as_null = true, check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
struct OwnerRow {
    id: String,
    name: String,
    email: String,
    team_id: String,
    created_at: At,
    updated_at: At,
}

impl From<&Owner> for OwnerRow {
    fn from(owner: &Owner) -> Self {
        Self {
            id: owner.id.to_string(),
            name: owner.name.clone(),
            email: owner.email.clone(),
            team_id: owner.team_id.to_string(),
            created_at: At(owner.created_at),
            updated_at: At(owner.updated_at),
        }
    }
}

impl TryFrom<OwnerRow> for Owner {
    type Error = Error;

    fn try_from(row: OwnerRow) -> Result<Self, Error> {
        Ok(Self {
            id: OwnerId::from_stored(row.id),
            name: row.name,
            email: row.email,
            team_id: TeamId::from_stored(row.team_id),
            created_at: row.created_at.0,
            updated_at: row.updated_at.0,
        })
    }
}

crud!(owners, OwnerRow, Owner, OwnerId, order owners::created_at.desc(), owners::id);
