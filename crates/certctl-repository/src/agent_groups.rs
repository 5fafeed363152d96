//! Agent groups and their members.

use certctl_domain::{
    agent::Agent,
    agent_group::AgentGroup,
    id::{AgentGroupId, AgentId},
    page::{Page, PageRequest},
};
use diesel::{
    prelude::*,
    sql_types::{BigInt, Bool, Text},
};
use diesel_async::RunQueryDsl;

use crate::{
    Conn, Error, agents, db::dialect, prepared::Prepare as _, schema::agent_groups, types::At,
};

#[derive(Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = agent_groups, treat_none_as_null = true, check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
struct AgentGroupRow {
    id: String,
    name: String,
    description: String,
    match_os: String,
    match_architecture: String,
    match_ip_cidr: String,
    match_version: String,
    enabled: bool,
    created_at: At,
    updated_at: At,
}

impl From<&AgentGroup> for AgentGroupRow {
    fn from(group: &AgentGroup) -> Self {
        Self {
            id: group.id.to_string(),
            name: group.name.clone(),
            description: group.description.clone(),
            match_os: group.match_os.clone(),
            match_architecture: group.match_architecture.clone(),
            match_ip_cidr: group.match_ip_cidr.clone(),
            match_version: group.match_version.clone(),
            enabled: group.enabled,
            created_at: At(group.created_at),
            updated_at: At(group.updated_at),
        }
    }
}

impl TryFrom<AgentGroupRow> for AgentGroup {
    type Error = Error;

    fn try_from(row: AgentGroupRow) -> Result<Self, Error> {
        Ok(Self {
            id: AgentGroupId::from_stored(row.id),
            name: row.name,
            description: row.description,
            match_os: row.match_os,
            match_architecture: row.match_architecture,
            match_ip_cidr: row.match_ip_cidr,
            match_version: row.match_version,
            enabled: row.enabled,
            created_at: row.created_at.0,
            updated_at: row.updated_at.0,
        })
    }
}

crud!(agent_groups, AgentGroupRow, AgentGroup, AgentGroupId, order agent_groups::name, agent_groups::id);

/// A candidate for membership: an agent that was included, or meets every criterion but that of the address.
#[derive(QueryableByName)]
struct Candidate {
    #[diesel(sql_type = Text)]
    id: String,
    #[diesel(sql_type = Text)]
    ip_address: String,
    #[diesel(sql_type = Bool)]
    included: bool,
}

/// Candidates that are looked at together.
const CHUNK: i64 = 1000;

/// Reads one page of the members, in the order of their ids, with the count of all: agents that were included, and those that
/// meet every criterion, less those that were excluded; retired ones are none.
///
/// Whether an address lies in a network is decided here, since SQLite knows no networks and PostgreSQL fails on an address that is
/// none; so all candidates are passed by, a thousand at a time and as three columns, and only a page of them is kept.
///
/// # Errors
/// What the database says.
pub async fn members(
    conn: &mut Conn,
    group: &AgentGroup,
    page: PageRequest,
) -> Result<Page<Agent>, Error> {
    let (mut kept, mut total, mut after) = (Vec::new(), 0_i64, String::new());
    loop {
        let candidates = candidates(conn, group, &after).await?;
        for one in &candidates {
            if !one.included && !group.holds_address(&one.ip_address) {
                continue;
            }
            if (page.offset()..page.offset() + page.limit()).contains(&total) {
                kept.push(AgentId::from_stored(one.id.clone()));
            }
            total += 1;
        }
        match candidates.last() {
            Some(last) if i64::try_from(candidates.len()).is_ok_and(|count| count >= CHUNK) => {
                after.clone_from(&last.id);
            }
            _ => break,
        }
    }
    Ok(Page {
        rows: agents::find_many(conn, &kept).await?,
        total,
    })
}

async fn candidates(
    conn: &mut Conn,
    group: &AgentGroup,
    after: &str,
) -> Result<Vec<Candidate>, Error> {
    const SQL: &str = "SELECT a.id, a.ip_address, m.agent_id IS NOT NULL AS included \
        FROM agents a LEFT JOIN agent_group_members m ON m.agent_group_id = $1 AND m.agent_id = a.id \
        WHERE a.id > $2 AND a.retired_at IS NULL AND COALESCE(m.membership_type, '') <> 'exclude' \
            AND (m.membership_type = 'include' OR ($3 \
                AND ($4 = '' OR lower(a.os) = lower($4)) AND ($5 = '' OR lower(a.architecture) = lower($5)) \
                AND ($6 = '' OR a.version = $6))) \
        ORDER BY a.id LIMIT $7";
    let sql = dialect(conn, SQL);
    Ok(on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<Text, _>(group.id.as_str())
        .bind::<Text, _>(after)
        .bind::<Bool, _>(group.is_dynamic())
        .bind::<Text, _>(&group.match_os)
        .bind::<Text, _>(&group.match_architecture)
        .bind::<Text, _>(&group.match_version)
        .bind::<BigInt, _>(CHUNK)
        .prepared()
        .load(c)
        .await)?)
}
