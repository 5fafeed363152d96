//! What violates policy rules: what rules look at, and what is on record. Everything is asked and written for many certificates
//! by one statement each.

use std::collections::BTreeMap;

use certctl_domain::{
    id::{CertificateId, PolicyRuleId, PolicyViolationId},
    page::{Page, PageRequest},
    policy_rule::{PolicySeverity, PolicyViolation, Subject},
    time::Timestamp,
};
use diesel::{
    prelude::*,
    sql_types::{BigInt, Nullable, Text},
};
use diesel_async::RunQueryDsl;
use serde_json::{Value, json};

use crate::{
    Conn, Error,
    jobs::complete::{Batch, moment},
    prepared::{Prepare as _, one_of},
    schema::policy_violations,
    types::{At, Json, JsonDoc, TextList, Texts, UtcTimestamp, time},
};

#[derive(QueryableByName)]
struct SubjectRow {
    #[diesel(sql_type = Text)]
    id: String,
    #[diesel(sql_type = Text)]
    issuer_id: String,
    #[diesel(sql_type = Text)]
    common_name: String,
    #[diesel(sql_type = TextList)]
    sans: Texts,
    #[diesel(sql_type = Text)]
    environment: String,
    #[diesel(sql_type = Text)]
    owner_id: String,
    #[diesel(sql_type = Text)]
    team_id: String,
    #[diesel(sql_type = JsonDoc)]
    tags: Json,
    #[diesel(sql_type = BigInt)]
    window_days: i64,
    #[diesel(sql_type = BigInt)]
    max_ttl: i64,
    #[diesel(sql_type = Nullable<UtcTimestamp>)]
    expires_at: Option<At>,
    #[diesel(sql_type = Nullable<UtcTimestamp>)]
    issued_from: Option<At>,
}

/// What rules look at of certificates; those that are archived are left out.
///
/// # Errors
/// What the database says.
pub async fn subjects(conn: &mut Conn, ids: &[CertificateId]) -> Result<Vec<Subject>, Error> {
    let sql = |named: &str| {
        format!(
            "SELECT m.id, m.issuer_id, m.common_name, m.sans, m.environment, m.owner_id, m.team_id, m.tags, \
                CAST(p.renewal_window_days AS BIGINT) AS window_days, CAST(COALESCE(f.max_ttl_seconds, 0) AS BIGINT) AS max_ttl, \
                m.expires_at, (SELECT max(v.not_before) FROM certificate_versions v \
                    WHERE v.certificate_id = m.id AND v.not_after = m.expires_at) AS issued_from \
             FROM managed_certificates m JOIN renewal_policies p ON p.id = m.renewal_policy_id \
                LEFT JOIN certificate_profiles f ON f.id = m.certificate_profile_id \
             WHERE m.id {named} AND m.status <> 'Archived'"
        )
    };
    let sql = match conn {
        Conn::Postgres(_) => sql("= ANY ($1)"),
        Conn::Sqlite(_) => sql("IN (SELECT value FROM json_each($1))").replace('$', "?"),
    };
    let ids = Texts(ids.iter().map(ToString::to_string).collect());
    let rows: Vec<SubjectRow> = on_conn!(conn, c => diesel::sql_query(sql).bind::<TextList, _>(&ids).prepared().load(c).await)?;
    Ok(rows.into_iter().map(Into::into).collect())
}

impl From<SubjectRow> for Subject {
    fn from(row: SubjectRow) -> Self {
        let issued = time(row.expires_at)
            .zip(time(row.issued_from))
            .map(|(end, start)| end.since(start));
        let allowed = u64::try_from(row.max_ttl)
            .ok()
            .filter(|seconds| *seconds > 0);
        let tags = match row.tags.0 {
            Value::Object(tags) => tags,
            _ => serde_json::Map::new(),
        };
        Self {
            certificate_id: CertificateId::from_stored(row.id),
            issuer_id: row.issuer_id,
            common_name: row.common_name,
            sans: row.sans.0,
            environment: row.environment,
            owner_id: row.owner_id,
            team_id: row.team_id,
            tags: tags
                .into_iter()
                .map(|(key, value)| match value {
                    Value::String(text) => (key, text),
                    other => (key, other.to_string()),
                })
                .collect::<BTreeMap<_, _>>(),
            renewal_window_days: u32::try_from(row.window_days).unwrap_or(0),
            lifetime: issued.or_else(|| allowed.map(std::time::Duration::from_secs)),
        }
    }
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = policy_violations, check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
struct ViolationRow {
    id: String,
    certificate_id: String,
    rule_id: String,
    message: String,
    severity: String,
    created_at: At,
    resolved_at: Option<At>,
}

impl TryFrom<ViolationRow> for PolicyViolation {
    type Error = Error;

    fn try_from(row: ViolationRow) -> Result<Self, Error> {
        Ok(Self {
            id: PolicyViolationId::from_stored(row.id),
            certificate_id: CertificateId::from_stored(row.certificate_id),
            rule_id: PolicyRuleId::from_stored(row.rule_id),
            message: row.message,
            severity: PolicySeverity::parse(&row.severity)
                .map_err(|error| Error::corrupt("policy_violations", error))?,
            created_at: row.created_at.0,
            resolved_at: time(row.resolved_at),
        })
    }
}

/// The violations of certificates that stand.
///
/// # Errors
/// What the database says.
pub async fn open(
    conn: &mut Conn,
    certificates: &[CertificateId],
) -> Result<Vec<PolicyViolation>, Error> {
    use policy_violations as v;
    let ids: Vec<&str> = certificates.iter().map(CertificateId::as_str).collect();
    let rows: Vec<ViolationRow> = on_conn!(conn, c => v::table
        .filter(one_of(v::certificate_id, &ids))
        .filter(v::resolved_at.is_null())
        .select(ViolationRow::as_select())
        .load(c)
        .await)?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Puts violations on record; one that stands already is left as it is. Returns those that are new.
///
/// # Errors
/// What the database says.
pub async fn record(
    conn: &mut Conn,
    found: &[PolicyViolation],
) -> Result<Vec<PolicyViolationId>, Error> {
    #[derive(QueryableByName)]
    struct Recorded {
        #[diesel(sql_type = Text)]
        id: String,
    }
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let rows = found
        .iter()
        .map(|one| {
            json!({"id": one.id.as_str(), "cert": one.certificate_id.as_str(), "rule": one.rule_id.as_str(),
                "said": one.message, "level": one.severity.as_str(), "at": moment(conn, one.created_at)})
        })
        .collect();
    let columns = [
        ("id", "text"),
        ("cert", "text"),
        ("rule", "text"),
        ("said", "text"),
        ("level", "text"),
        ("at", "timestamptz"),
    ];
    let batch = Batch::new(conn, &columns, rows);
    // The joins pass over what was deleted meanwhile; `WHERE true` keeps SQLite from taking ON for that of a join.
    let sql = batch.statement(
        conn,
        "INSERT INTO policy_violations (id, certificate_id, rule_id, message, severity, created_at) \
         SELECT b.id, m.id, r.id, b.said, b.level, b.at \
         FROM {batch} JOIN managed_certificates m ON m.id = b.cert JOIN policy_rules r ON r.id = b.rule WHERE true \
         ON CONFLICT DO NOTHING RETURNING id",
    );
    let rows: Vec<Recorded> = on_conn!(conn, c => diesel::sql_query(sql).bind::<JsonDoc, _>(&batch.rows).prepared().load(c).await)?;
    Ok(rows
        .into_iter()
        .map(|row| PolicyViolationId::from_stored(row.id))
        .collect())
}

/// Notes that violations stand no more; they stay on record.
///
/// # Errors
/// What the database says.
pub async fn resolve(
    conn: &mut Conn,
    gone: &[PolicyViolationId],
    now: Timestamp,
) -> Result<usize, Error> {
    use policy_violations as v;
    let mut resolved = 0;
    // SQLite has a limit of parameters.
    for part in gone.chunks(5000) {
        let ids: Vec<&str> = part.iter().map(PolicyViolationId::as_str).collect();
        let rows = v::table
            .filter(one_of(v::id, &ids))
            .filter(v::resolved_at.is_null());
        resolved += on_conn!(conn, c => diesel::update(rows).set(v::resolved_at.eq(Some(At(now)))).execute(c).await)?;
    }
    Ok(resolved)
}

/// Reads one page of what violates a rule, or did, newest first, and the count of all of it.
///
/// # Errors
/// What the database says.
pub async fn list(
    conn: &mut Conn,
    rule: &PolicyRuleId,
    page: PageRequest,
) -> Result<Page<PolicyViolation>, Error> {
    use policy_violations as v;
    let of = || v::table.filter(v::rule_id.eq(rule.as_str()));
    let rows: Vec<ViolationRow> = on_conn!(conn, c => of()
        .select(ViolationRow::as_select())
        .order((v::created_at.desc(), v::id))
        .limit(page.limit())
        .offset(page.offset())
        .load(c)
        .await)?;
    let total: i64 = on_conn!(conn, c => of().count().get_result(c).await)?;
    let rows = rows
        .into_iter()
        .map(TryInto::try_into)
        .collect::<Result<_, Error>>()?;
    Ok(Page { rows, total })
}
