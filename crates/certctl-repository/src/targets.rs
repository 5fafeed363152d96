//! Deployment targets.

use certctl_domain::{
    id::{AgentId, CertificateId, TargetId},
    issuer::{ConfigSource, TestStatus},
    page::{Page, PageRequest},
    target::{Target, TargetType},
    text_enum::UnknownValue,
    time::Timestamp,
};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{
    Conn, Error,
    schema::{certificate_target_mappings, deployment_targets},
    totals::Counted,
    types::{At, Json, at, time},
};

#[derive(Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = deployment_targets, treat_none_as_null = true, check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
struct TargetRow {
    id: String,
    name: String,
    kind: String,
    agent_id: String,
    config: Json,
    encrypted_config: Option<Vec<u8>>,
    enabled: bool,
    last_tested_at: Option<At>,
    test_status: String,
    source: String,
    retired_at: Option<At>,
    retired_reason: Option<String>,
    created_at: At,
    updated_at: At,
}

impl From<&Target> for TargetRow {
    fn from(target: &Target) -> Self {
        Self {
            id: target.id.to_string(),
            name: target.name.clone(),
            kind: target.target_type.to_string(),
            agent_id: target.agent_id.to_string(),
            config: Json(target.config.clone()),
            encrypted_config: target.encrypted_config.clone(),
            enabled: target.enabled,
            last_tested_at: at(target.last_tested_at),
            test_status: target.test_status.to_string(),
            source: target.source.to_string(),
            retired_at: at(target.retired_at),
            retired_reason: target.retired_reason.clone(),
            created_at: At(target.created_at),
            updated_at: At(target.updated_at),
        }
    }
}

impl TryFrom<TargetRow> for Target {
    type Error = Error;

    fn try_from(row: TargetRow) -> Result<Self, Error> {
        let corrupt = |error: UnknownValue| Error::corrupt("deployment_targets", error);
        Ok(Self {
            id: TargetId::from_stored(row.id),
            name: row.name,
            target_type: TargetType::parse(&row.kind).map_err(corrupt)?,
            agent_id: AgentId::from_stored(row.agent_id),
            config: row.config.0,
            encrypted_config: row.encrypted_config,
            enabled: row.enabled,
            last_tested_at: time(row.last_tested_at),
            test_status: TestStatus::parse(&row.test_status).map_err(corrupt)?,
            source: ConfigSource::parse(&row.source).map_err(corrupt)?,
            retired_at: time(row.retired_at),
            retired_reason: row.retired_reason,
            created_at: row.created_at.0,
            updated_at: row.updated_at.0,
        })
    }
}

crud!(deployment_targets, TargetRow, Target, TargetId, kept Counted::Targets, order deployment_targets::created_at.desc(), deployment_targets::id);

/// The targets a certificate is mapped to, newest first.
///
/// # Errors
/// What the database says.
pub async fn of_certificate(
    conn: &mut Conn,
    certificate: &CertificateId,
) -> Result<Vec<Target>, Error> {
    let rows: Vec<TargetRow> = on_conn!(conn, c => certificate_target_mappings::table
        .inner_join(deployment_targets::table)
        .filter(certificate_target_mappings::certificate_id.eq(certificate.as_str()))
        .select(TargetRow::as_select())
        .order((deployment_targets::created_at.desc(), deployment_targets::id))
        .load(c)
        .await)?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Reads several targets by their ids; absent ones are left out.
///
/// # Errors
/// What the database says.
pub async fn find_many(conn: &mut Conn, ids: &[TargetId]) -> Result<Vec<Target>, Error> {
    let ids: Vec<&str> = ids.iter().map(TargetId::as_str).collect();
    let rows: Vec<TargetRow> = on_conn!(conn, c => deployment_targets::table
        .filter(deployment_targets::id.eq_any(&ids))
        .select(TargetRow::as_select())
        .load(c)
        .await)?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Marks every target of an agent as retired with it.
///
/// # Errors
/// What the database says.
pub async fn retire_of_agent(
    conn: &mut Conn,
    agent: &AgentId,
    reason: &str,
    now: Timestamp,
) -> Result<usize, Error> {
    let open = deployment_targets::table
        .filter(deployment_targets::agent_id.eq(agent.as_str()))
        .filter(deployment_targets::retired_at.is_null());
    Ok(on_conn!(conn, c => diesel::update(open)
        .set((
            deployment_targets::retired_at.eq(Some(At(now))),
            deployment_targets::retired_reason.eq(Some(reason)),
            deployment_targets::updated_at.eq(At(now)),
        ))
        .execute(c)
        .await)?)
}
