//! Edits of profiles that wait for a second person.

use certctl_domain::{id::ProfileId, time::Timestamp};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::Value;

use crate::{
    Conn, Error,
    schema::issuance_approval_requests,
    types::{At, Json},
};

/// A request to change a profile.
#[derive(Debug, Clone)]
pub struct NewProfileEdit<'a> {
    /// The id, `ar-…`.
    pub id: &'a str,
    /// Which profile.
    pub profile_id: &'a ProfileId,
    /// Who asks.
    pub requested_by: &'a str,
    /// What the profile is to be.
    pub payload: Value,
    /// When.
    pub created_at: Timestamp,
}

/// Enters a request.
///
/// # Errors
/// [`Error::Reference`] when there is no such profile.
pub async fn insert(conn: &mut Conn, edit: &NewProfileEdit<'_>) -> Result<(), Error> {
    use issuance_approval_requests as a;
    let row = (
        a::id.eq(edit.id),
        a::approval_kind.eq("profile_edit"),
        a::profile_id.eq(edit.profile_id.as_str()),
        a::requested_by.eq(edit.requested_by),
        a::state.eq("pending"),
        a::payload.eq(Some(Json(edit.payload.clone()))),
        a::created_at.eq(At(edit.created_at)),
        a::updated_at.eq(At(edit.created_at)),
    );
    on_conn!(conn, c => diesel::insert_into(a::table).values(row).execute(c).await)?;
    Ok(())
}

/// The undecided edits of a profile that somebody asked for: id and payload, oldest first.
///
/// # Errors
/// What the database says.
pub async fn pending(
    conn: &mut Conn,
    profile: &ProfileId,
    requested_by: &str,
) -> Result<Vec<(String, Value)>, Error> {
    use issuance_approval_requests as a;
    let rows: Vec<(String, Option<Json>)> = on_conn!(conn, c => a::table
        .filter(a::profile_id.eq(profile.as_str()))
        .filter(a::approval_kind.eq("profile_edit"))
        .filter(a::state.eq("pending"))
        .filter(a::requested_by.eq(requested_by))
        .select((a::id, a::payload))
        .order((a::created_at, a::id))
        .load(c)
        .await)?;
    Ok(rows
        .into_iter()
        .map(|(id, payload)| (id, payload.map_or(Value::Null, |json| json.0)))
        .collect())
}
