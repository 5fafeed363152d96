//! What is still to be said of the requests for approval that a renewal of many has just made: how grave each is, an audit row
//! for each, and that they are approved where the gate is open. A constant number of statements, however many there are.

use certctl_domain::{
    approval::{ApprovalState, BYPASS},
    audit::EventCategory,
    id::{AuditEventId, ProfileId, RenewalPolicyId},
    renewal_policy::{RenewalPolicy, TIERS},
    time::Timestamp,
};
use diesel::{
    QueryableByName,
    sql_types::{BigInt, Text},
};
use diesel_async::RunQueryDsl as _;
use serde_json::json;

use crate::{
    Conn, Error,
    db::dialect,
    jobs::complete::{Batch, moment},
    prepared::Prepare as _,
    types::{At, JsonDoc, UtcTimestamp},
};

#[derive(QueryableByName)]
struct IdRow {
    #[diesel(sql_type = Text)]
    id: String,
}

/// The renewal policies of the certificates that are asked for. Their number follows that of the policies.
///
/// # Errors
/// What the database says.
pub async fn policies(conn: &mut Conn, batch: &str) -> Result<Vec<RenewalPolicyId>, Error> {
    // The full stop is the next character after the dash: together they are a range of the primary key.
    let sql = dialect(
        conn,
        "SELECT DISTINCT m.renewal_policy_id AS id FROM issuance_approval_requests a \
         JOIN managed_certificates m ON m.id = a.certificate_id WHERE a.id > $1 || '-' AND a.id < $1 || '.'",
    );
    let rows: Vec<IdRow> = on_conn!(conn, c => diesel::sql_query(sql).bind::<Text, _>(batch).prepared().load(c).await)?;
    Ok(rows
        .into_iter()
        .map(|row| RenewalPolicyId::from_stored(row.id))
        .collect())
}

/// Puts the tier of each certificate by its policy into what the second person is shown.
///
/// # Errors
/// What the database says.
pub async fn set_tiers(
    conn: &mut Conn,
    batch: &str,
    policies: &[RenewalPolicy],
    now: Timestamp,
) -> Result<usize, Error> {
    let columns = [
        ("policy", "text"),
        ("low", "timestamptz"),
        ("high", "timestamptz"),
        ("tier", "text"),
    ];
    let rows = policies
        .iter()
        .flat_map(|policy| {
            let of = policy.id.as_str();
            policy
                .tiers(now)
                .into_iter()
                .map(move |(after, until, tier)| (of, after, until, tier))
        })
        .map(|(of, after, until, tier)| {
            json!({"policy": of, "low": moment(conn, after), "high": moment(conn, until), "tier": tier})
        })
        .collect();
    let bands = Batch::new(conn, &columns, rows);
    let object = match conn {
        Conn::Postgres(_) => "a.metadata || jsonb_build_object",
        Conn::Sqlite(_) => "json_patch(a.metadata, json_object",
    };
    let end = match conn {
        Conn::Postgres(_) => "",
        Conn::Sqlite(_) => ")",
    };
    let sql = bands.statement(
        conn,
        &format!(
            "UPDATE issuance_approval_requests AS a SET metadata = {object}('severity_tier', \
                COALESCE((SELECT b.tier FROM {{batch}} WHERE b.policy = m.renewal_policy_id \
                    AND m.expires_at > b.low AND m.expires_at <= b.high LIMIT 1), '{mildest}')){end} \
             FROM managed_certificates m WHERE m.id = a.certificate_id AND a.id > $2 || '-' AND a.id < $2 || '.'",
            mildest = TIERS[0],
        ),
    );
    Ok(on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<JsonDoc, _>(&bands.rows)
        .bind::<Text, _>(batch)
        .prepared()
        .execute(c)
        .await)?)
}

/// Who is said to have done something to the requests.
#[derive(Debug, Clone, Copy)]
pub struct By<'a> {
    /// The actor's id.
    pub id: &'a str,
    /// What kind of actor.
    pub kind: &'static str,
}

/// Writes one audit row of an action for each request.
///
/// # Errors
/// What the database says.
pub async fn record(
    conn: &mut Conn,
    batch: &str,
    by: By<'_>,
    action: &str,
    now: Timestamp,
) -> Result<usize, Error> {
    const SQL: &str = "INSERT INTO audit_events \
            (id, actor, actor_type, action, resource_type, resource_id, details, timestamp, event_category) \
         SELECT $1 || '-' || row_number() OVER (ORDER BY a.id), $2, $3, $4, 'approval', a.id, \
            {object}('profile_id', a.profile_id, 'job_id', a.job_id), $5, $6 \
         FROM issuance_approval_requests a WHERE a.id > $7 || '-' AND a.id < $7 || '.'";
    let object = match conn {
        Conn::Postgres(_) => "jsonb_build_object",
        Conn::Sqlite(_) => "json_object",
    };
    let sql = dialect(conn, SQL).replace("{object}", object);
    Ok(on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<Text, _>(AuditEventId::generate(now).as_str())
        .bind::<Text, _>(by.id)
        .bind::<Text, _>(by.kind)
        .bind::<Text, _>(action)
        .bind::<UtcTimestamp, _>(At(now))
        .bind::<Text, _>(EventCategory::CertLifecycle.as_str())
        .bind::<Text, _>(batch)
        .prepared()
        .execute(c)
        .await)?)
}

/// Ends the requests as approved, because the gate is open; how many there were of each profile.
///
/// # Errors
/// What the database says.
pub async fn bypass(
    conn: &mut Conn,
    batch: &str,
    now: Timestamp,
) -> Result<Vec<(ProfileId, u64)>, Error> {
    #[derive(QueryableByName)]
    struct CountRow {
        #[diesel(sql_type = Text)]
        profile_id: String,
        #[diesel(sql_type = BigInt)]
        total: i64,
    }
    let sql = dialect(
        conn,
        "UPDATE issuance_approval_requests SET state = $1, decided_by = $2, decided_at = $3, updated_at = $3 \
         WHERE id > $4 || '-' AND id < $4 || '.' AND state = 'pending'",
    );
    on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<Text, _>(ApprovalState::Approved.as_str())
        .bind::<Text, _>(BYPASS)
        .bind::<UtcTimestamp, _>(At(now))
        .bind::<Text, _>(batch)
        .prepared()
        .execute(c)
        .await)?;
    let sql = dialect(
        conn,
        "SELECT profile_id, count(*) AS total FROM issuance_approval_requests \
         WHERE id > $1 || '-' AND id < $1 || '.' GROUP BY profile_id",
    );
    let rows: Vec<CountRow> = on_conn!(conn, c => diesel::sql_query(sql).bind::<Text, _>(batch).prepared().load(c).await)?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let total = u64::try_from(row.total).unwrap_or(0);
            (ProfileId::from_stored(row.profile_id), total)
        })
        .collect())
}
