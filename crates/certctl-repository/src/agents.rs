//! Agents and their heartbeats.

use certctl_domain::{
    agent::{Agent, AgentDependencies, AgentReport, AgentStatus, SENTINELS},
    id::AgentId,
    page::{Page, PageRequest},
    time::Timestamp,
};
use diesel::{
    prelude::*,
    sql_types::{Array, BigInt, Text},
};
use diesel_async::RunQueryDsl;
use serde_json::json;

use crate::{
    Conn, Error,
    db::dialect,
    prepared::Prepare as _,
    schema::agents,
    seed::demo::NOBODY,
    totals::{self, Counted},
    types::{At, UtcTimestamp, at, time},
};

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = agents, check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
struct AgentRow {
    id: String,
    name: String,
    hostname: String,
    status: String,
    last_heartbeat_at: Option<At>,
    registered_at: At,
    os: String,
    architecture: String,
    ip_address: String,
    version: String,
    retired_at: Option<At>,
    retired_reason: Option<String>,
}

impl From<&Agent> for AgentRow {
    fn from(agent: &Agent) -> Self {
        Self {
            id: agent.id.to_string(),
            name: agent.name.clone(),
            hostname: agent.hostname.clone(),
            status: agent.status.to_string(),
            last_heartbeat_at: at(agent.last_heartbeat_at),
            registered_at: At(agent.registered_at),
            os: agent.os.clone(),
            architecture: agent.architecture.clone(),
            ip_address: agent.ip_address.clone(),
            version: agent.version.clone(),
            retired_at: at(agent.retired_at),
            retired_reason: agent.retired_reason.clone(),
        }
    }
}

impl TryFrom<AgentRow> for Agent {
    type Error = Error;

    fn try_from(row: AgentRow) -> Result<Self, Error> {
        Ok(Self {
            id: AgentId::from_stored(row.id),
            name: row.name,
            hostname: row.hostname,
            status: AgentStatus::parse(&row.status)
                .map_err(|error| Error::corrupt("agents", error))?,
            last_heartbeat_at: time(row.last_heartbeat_at),
            registered_at: row.registered_at.0,
            os: row.os,
            architecture: row.architecture,
            ip_address: row.ip_address,
            version: row.version,
            retired_at: time(row.retired_at),
            retired_reason: row.retired_reason,
        })
    }
}

/// Inserts an agent with the hash of its key.
///
/// # Errors
/// [`Error::AlreadyExists`] when the name is taken.
pub async fn insert(conn: &mut Conn, agent: &Agent, api_key_hash: &str) -> Result<(), Error> {
    let row = AgentRow::from(agent);
    let values = (row, agents::api_key_hash.eq(api_key_hash));
    on_conn!(conn, c => diesel::insert_into(agents::table).values(values).execute(c).await)?;
    Ok(())
}

/// Reads an agent, retired or not.
///
/// # Errors
/// [`Error::NotFound`] when there is none.
pub async fn find(conn: &mut Conn, id: &AgentId) -> Result<Agent, Error> {
    let row: AgentRow = on_conn!(conn, c => agents::table.find(id.as_str()).select(AgentRow::as_select()).first(c).await)?;
    row.try_into()
}

/// Reads an agent and keeps others from changing it, or from referring to it, until the transaction ends.
///
/// # Errors
/// [`Error::NotFound`] when there is none.
pub async fn find_for_update(conn: &mut Conn, id: &AgentId) -> Result<Agent, Error> {
    let row: AgentRow = on_conn!(conn,
        pg c => agents::table.find(id.as_str()).select(AgentRow::as_select()).for_update().first(c).await,
        // The one writer of SQLite has the whole database to itself.
        sqlite c => agents::table.find(id.as_str()).select(AgentRow::as_select()).first(c).await,
    )?;
    row.try_into()
}

/// Reads an agent and keeps it as it is until the transaction ends; others may do the same at the same time. For whoever is about
/// to refer to it: it cannot be retired in between.
///
/// # Errors
/// [`Error::NotFound`] when there is none.
pub async fn lock_shared(conn: &mut Conn, id: &AgentId) -> Result<Agent, Error> {
    let row: AgentRow = on_conn!(conn,
        pg c => agents::table.find(id.as_str()).select(AgentRow::as_select()).for_share().first(c).await,
        // The one writer of SQLite has the whole database to itself.
        sqlite c => agents::table.find(id.as_str()).select(AgentRow::as_select()).first(c).await,
    )?;
    row.try_into()
}

/// Reads the agent whose key has a hash.
///
/// # Errors
/// What the database says.
pub async fn find_by_key_hash(conn: &mut Conn, hash: &str) -> Result<Option<Agent>, Error> {
    let row: Option<AgentRow> = on_conn!(conn, c => agents::table
        .filter(agents::api_key_hash.eq(hash))
        .select(AgentRow::as_select())
        .first(c)
        .await
        .optional())?;
    row.map(TryInto::try_into).transpose()
}

/// Reads several agents by their ids, in the order of the ids; absent ones are left out.
///
/// # Errors
/// What the database says.
pub async fn find_many(conn: &mut Conn, ids: &[AgentId]) -> Result<Vec<Agent>, Error> {
    let ids: Vec<&str> = ids.iter().map(AgentId::as_str).collect();
    let rows: Vec<AgentRow> = on_conn!(conn, c => agents::table
        .filter(agents::id.eq_any(&ids))
        .order(agents::id)
        .select(AgentRow::as_select())
        .load(c)
        .await)?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Reads one page of the agents that are not retired, newest first; or of those that are, last retired first.
///
/// # Errors
/// What the database says.
pub async fn list(conn: &mut Conn, retired: bool, page: PageRequest) -> Result<Page<Agent>, Error> {
    let rows: Vec<AgentRow> = on_conn!(conn, c => {
        let query = agents::table.select(AgentRow::as_select()).limit(page.limit()).offset(page.offset());
        if retired {
            query.filter(agents::retired_at.is_not_null()).order((agents::retired_at.desc(), agents::id)).load(c).await
        } else {
            query.filter(agents::retired_at.is_null()).order((agents::registered_at.desc(), agents::id)).load(c).await
        }
    })?;
    let counted = if retired {
        Counted::RetiredAgents
    } else {
        Counted::Agents
    };
    let total = totals::of(conn, counted).await?;
    let rows = rows
        .into_iter()
        .map(TryInto::try_into)
        .collect::<Result<_, Error>>()?;
    Ok(Page { rows, total })
}

/// Retires an agent; what heartbeats write is left to them.
///
/// # Errors
/// [`Error::NotFound`] when there is none.
pub async fn retire(
    conn: &mut Conn,
    id: &AgentId,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<(), Error> {
    let changed = on_conn!(conn, c => diesel::update(agents::table.find(id.as_str()))
        .set((agents::retired_at.eq(Some(At(now))), agents::retired_reason.eq(reason)))
        .execute(c)
        .await)?;
    if changed == 0 {
        Err(Error::NotFound)
    } else {
        Ok(())
    }
}

/// A heartbeat that was gathered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// Whose.
    pub agent_id: AgentId,
    /// When it came in.
    pub at: Timestamp,
    /// What the agent said of itself.
    pub report: AgentReport,
}

const HEARTBEATS_POSTGRES: &str = "UPDATE agents AS a SET last_heartbeat_at = b.at, status = 'Online', \
    version = COALESCE(NULLIF(b.version, ''), a.version), hostname = COALESCE(NULLIF(b.hostname, ''), a.hostname), \
    os = COALESCE(NULLIF(b.os, ''), a.os), architecture = COALESCE(NULLIF(b.architecture, ''), a.architecture), \
    ip_address = COALESCE(NULLIF(b.ip_address, ''), a.ip_address) \
    FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[]) \
        AS b(id, at, version, hostname, os, architecture, ip_address) \
    WHERE a.id = b.id AND a.retired_at IS NULL AND (a.last_heartbeat_at IS NULL OR a.last_heartbeat_at <= b.at)";
const HEARTBEATS_SQLITE: &str = "UPDATE agents AS a SET last_heartbeat_at = b.value ->> 1, status = 'Online', \
    version = COALESCE(NULLIF(b.value ->> 2, ''), a.version), hostname = COALESCE(NULLIF(b.value ->> 3, ''), a.hostname), \
    os = COALESCE(NULLIF(b.value ->> 4, ''), a.os), architecture = COALESCE(NULLIF(b.value ->> 5, ''), a.architecture), \
    ip_address = COALESCE(NULLIF(b.value ->> 6, ''), a.ip_address) \
    FROM json_each(?) AS b \
    WHERE a.id = b.value ->> 0 AND a.retired_at IS NULL AND (a.last_heartbeat_at IS NULL OR a.last_heartbeat_at <= b.value ->> 1)";

/// Writes gathered heartbeats in one statement; the list holds each agent once. Retired agents are left alone.
///
/// # Errors
/// What the database says.
pub async fn record_heartbeats(conn: &mut Conn, beats: &[Heartbeat]) -> Result<usize, Error> {
    if beats.is_empty() {
        return Ok(0);
    }
    let column = |of: fn(&Heartbeat) -> &str| beats.iter().map(of).collect::<Vec<&str>>();
    let changed = on_conn!(conn,
        pg c => diesel::sql_query(HEARTBEATS_POSTGRES)
            .bind::<Array<Text>, _>(column(|beat| beat.agent_id.as_str()))
            .bind::<Array<UtcTimestamp>, _>(beats.iter().map(|beat| At(beat.at)).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(column(|beat| &beat.report.version))
            .bind::<Array<Text>, _>(column(|beat| &beat.report.hostname))
            .bind::<Array<Text>, _>(column(|beat| &beat.report.os))
            .bind::<Array<Text>, _>(column(|beat| &beat.report.architecture))
            .bind::<Array<Text>, _>(column(|beat| &beat.report.ip_address))
            .prepared()
            .execute(c)
            .await,
        sqlite c => {
            let rows: Vec<_> = beats
                .iter()
                .map(|beat| {
                    let report = &beat.report;
                    json!([beat.agent_id.as_str(), beat.at.as_micros(), report.version, report.hostname, report.os,
                           report.architecture, report.ip_address])
                })
                .collect();
            diesel::sql_query(HEARTBEATS_SQLITE).bind::<Text, _>(json!(rows).to_string()).prepared().execute(c).await
        },
    )?;
    Ok(changed)
}

/// Marks agents that were not heard of since `threshold` as offline; sentinels, retired ones and those of the demo
/// data, who are nobody, are left alone.
///
/// # Errors
/// What the database says.
pub async fn mark_offline(conn: &mut Conn, threshold: Timestamp) -> Result<usize, Error> {
    // The state is no bind, or the index of those that are online would be of no use to a prepared statement; and those never
    // heard of go by themselves, since SQLite does not enter that index twice for one condition with OR.
    const OLD: &str = "UPDATE agents SET status = 'Offline' WHERE status = 'Online' AND retired_at IS NULL \
        AND last_heartbeat_at < $1 AND id NOT IN ($2, $3, $4, $5) AND api_key_hash <> $6";
    const NEVER: &str = "UPDATE agents SET status = 'Offline' WHERE status = 'Online' AND retired_at IS NULL \
        AND last_heartbeat_at IS NULL AND id NOT IN ($1, $2, $3, $4) AND api_key_hash <> $5";
    let [one, two, three, four] = SENTINELS;
    let (old, never) = (dialect(conn, OLD), dialect(conn, NEVER));
    let old = on_conn!(conn, c => diesel::sql_query(old)
        .bind::<UtcTimestamp, _>(At(threshold))
        .bind::<Text, _>(one)
        .bind::<Text, _>(two)
        .bind::<Text, _>(three)
        .bind::<Text, _>(four)
        .bind::<Text, _>(NOBODY)
        .prepared()
        .execute(c)
        .await)?;
    let never = on_conn!(conn, c => diesel::sql_query(never)
        .bind::<Text, _>(one)
        .bind::<Text, _>(two)
        .bind::<Text, _>(three)
        .bind::<Text, _>(four)
        .bind::<Text, _>(NOBODY)
        .prepared()
        .execute(c)
        .await)?;
    Ok(old + never)
}

#[derive(QueryableByName)]
struct DependencyRow {
    #[diesel(sql_type = BigInt)]
    targets: i64,
    #[diesel(sql_type = BigInt)]
    certificates: i64,
    #[diesel(sql_type = BigInt)]
    jobs: i64,
}

/// Counts what depends on an agent.
///
/// # Errors
/// What the database says.
pub async fn dependencies(conn: &mut Conn, id: &AgentId) -> Result<AgentDependencies, Error> {
    const SQL: &str = "SELECT \
        (SELECT count(*) FROM deployment_targets WHERE agent_id = $1 AND retired_at IS NULL) AS targets, \
        (SELECT count(DISTINCT c.id) FROM managed_certificates c \
            JOIN certificate_target_mappings m ON m.certificate_id = c.id \
            JOIN deployment_targets t ON t.id = m.target_id \
            WHERE t.agent_id = $1 AND t.retired_at IS NULL AND c.status NOT IN ('Archived', 'Revoked')) AS certificates, \
        (SELECT count(*) FROM jobs WHERE agent_id = $1 \
            AND status IN ('Pending', 'AwaitingCSR', 'AwaitingApproval', 'Running')) AS jobs";
    let sql = dialect(conn, SQL);
    let row: DependencyRow = on_conn!(conn, c => diesel::sql_query(sql).bind::<Text, _>(id.as_str()).prepared().get_result(c).await)?;
    Ok(AgentDependencies {
        active_targets: row.targets,
        active_certificates: row.certificates,
        pending_jobs: row.jobs,
    })
}
