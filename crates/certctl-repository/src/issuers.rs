//! Issuers.

use certctl_domain::{
    id::IssuerId,
    issuer::{ConfigSource, HierarchyMode, Issuer, IssuerType, TestStatus},
    page::{Page, PageRequest},
    text_enum::UnknownValue,
    time::Timestamp,
};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{
    Conn, Error,
    schema::issuers,
    types::{At, Json, at, time},
};

#[derive(Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = issuers, treat_none_as_null = true, check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
struct IssuerRow {
    id: String,
    name: String,
    kind: String,
    config: Json,
    encrypted_config: Option<Vec<u8>>,
    enabled: bool,
    last_tested_at: Option<At>,
    test_status: String,
    source: String,
    hierarchy_mode: String,
    created_at: At,
    updated_at: At,
}

impl From<&Issuer> for IssuerRow {
    fn from(issuer: &Issuer) -> Self {
        Self {
            id: issuer.id.to_string(),
            name: issuer.name.clone(),
            kind: issuer.issuer_type.to_string(),
            config: Json(issuer.config.clone()),
            encrypted_config: issuer.encrypted_config.clone(),
            enabled: issuer.enabled,
            last_tested_at: at(issuer.last_tested_at),
            test_status: issuer.test_status.to_string(),
            source: issuer.source.to_string(),
            hierarchy_mode: issuer.hierarchy_mode.to_string(),
            created_at: At(issuer.created_at),
            updated_at: At(issuer.updated_at),
        }
    }
}

impl TryFrom<IssuerRow> for Issuer {
    type Error = Error;

    fn try_from(row: IssuerRow) -> Result<Self, Error> {
        let corrupt = |error: UnknownValue| Error::corrupt("issuers", error);
        Ok(Self {
            id: IssuerId::from_stored(row.id),
            name: row.name,
            issuer_type: IssuerType::parse(&row.kind).map_err(corrupt)?,
            config: row.config.0,
            encrypted_config: row.encrypted_config,
            enabled: row.enabled,
            last_tested_at: time(row.last_tested_at),
            test_status: TestStatus::parse(&row.test_status).map_err(corrupt)?,
            source: ConfigSource::parse(&row.source).map_err(corrupt)?,
            hierarchy_mode: HierarchyMode::parse(&row.hierarchy_mode).map_err(corrupt)?,
            created_at: row.created_at.0,
            updated_at: row.updated_at.0,
        })
    }
}

crud!(issuers, IssuerRow, Issuer, IssuerId, order issuers::created_at.desc(), issuers::id);

/// Whether anything that an issuer signed is valid after `now`, whoever issues its certificate since.
///
/// # Errors
/// What the database says.
pub async fn vouches(conn: &mut Conn, id: &IssuerId, now: Timestamp) -> Result<bool, Error> {
    use crate::schema::certificate_versions as v;
    let valid = v::table
        .filter(v::issuer_id.eq(id.as_str()))
        .filter(v::not_after.gt(At(now)))
        .select(v::id)
        .limit(1);
    let found: Option<String> = on_conn!(conn, c => valid.first(c).await.optional())?;
    Ok(found.is_some())
}

/// Whether an issuer is asked to sign something, or may have signed it already.
///
/// # Errors
/// What the database says.
pub async fn is_signing(conn: &mut Conn, id: &IssuerId) -> Result<bool, Error> {
    use crate::schema::issuance_intents as i;
    let asked = i::table
        .filter(i::issuer_id.eq(id.as_str()))
        .select(i::job_id)
        .limit(1);
    let found: Option<String> = on_conn!(conn, c => asked.first(c).await.optional())?;
    Ok(found.is_some())
}
