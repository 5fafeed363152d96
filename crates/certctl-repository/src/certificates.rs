//! Managed certificates: rows, lists and the changes of their state.

use std::collections::{BTreeMap, HashMap};

use certctl_domain::{
    certificate::{Certificate, CertificateSource, CertificateStatus},
    id::{AgentId, CertificateId, IssuerId, OwnerId, ProfileId, RenewalPolicyId, TargetId, TeamId},
    name::CommonName,
    page::{Page, PageRequest},
    revocation::RevocationReason,
    time::Timestamp,
};
use diesel::{dsl::exists, prelude::*};
use diesel_async::RunQueryDsl;

use crate::{
    Conn, Error,
    prepared::one_of,
    schema::{certificate_target_mappings, deployment_targets, managed_certificates},
    totals::{self, Counted},
    types::{At, Json, Texts, at, time},
};

#[derive(Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = managed_certificates, treat_none_as_default_value = false, treat_none_as_null = true, check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
struct CertificateRow {
    id: String,
    name: String,
    common_name: String,
    sans: Texts,
    environment: String,
    owner_id: String,
    team_id: String,
    issuer_id: String,
    renewal_policy_id: String,
    certificate_profile_id: Option<String>,
    status: String,
    expires_at: Option<At>,
    renew_at: Option<At>,
    tags: Json,
    last_renewal_at: Option<At>,
    last_deployment_at: Option<At>,
    revoked_at: Option<At>,
    revocation_reason: Option<String>,
    source: String,
    created_at: At,
    updated_at: At,
}

impl From<&Certificate> for CertificateRow {
    fn from(certificate: &Certificate) -> Self {
        Self {
            id: certificate.id.to_string(),
            name: certificate.name.clone(),
            common_name: certificate.common_name.to_string(),
            sans: Texts(certificate.sans.clone()),
            environment: certificate.environment.clone(),
            owner_id: certificate.owner_id.to_string(),
            team_id: certificate.team_id.to_string(),
            issuer_id: certificate.issuer_id.to_string(),
            renewal_policy_id: certificate.renewal_policy_id.to_string(),
            certificate_profile_id: certificate.profile_id.as_ref().map(ToString::to_string),
            status: certificate.status.to_string(),
            expires_at: at(certificate.expires_at),
            renew_at: at(certificate.renew_at),
            tags: Json(
                certificate
                    .tags
                    .iter()
                    .map(|(key, value)| (key.clone(), serde_json::Value::from(value.clone())))
                    .collect(),
            ),
            last_renewal_at: at(certificate.last_renewal_at),
            last_deployment_at: at(certificate.last_deployment_at),
            revoked_at: at(certificate.revoked_at),
            revocation_reason: certificate
                .revocation_reason
                .map(|reason| reason.as_str().to_owned()),
            source: certificate.source.to_string(),
            created_at: At(certificate.created_at),
            updated_at: At(certificate.updated_at),
        }
    }
}

impl CertificateRow {
    fn into_certificate(self, target_ids: Vec<TargetId>) -> Result<Certificate, Error> {
        let corrupt = |problem: String| Error::corrupt("managed_certificates", problem);
        let tags: BTreeMap<String, serde_json::Value> =
            serde_json::from_value(self.tags.0).map_err(|error| corrupt(error.to_string()))?;
        Ok(Certificate {
            id: CertificateId::from_stored(self.id),
            name: self.name,
            common_name: CommonName::from_stored(self.common_name),
            sans: self.sans.0,
            environment: self.environment,
            owner_id: OwnerId::from_stored(self.owner_id),
            team_id: TeamId::from_stored(self.team_id),
            issuer_id: IssuerId::from_stored(self.issuer_id),
            target_ids,
            renewal_policy_id: RenewalPolicyId::from_stored(self.renewal_policy_id),
            profile_id: self.certificate_profile_id.map(ProfileId::from_stored),
            status: CertificateStatus::parse(&self.status)
                .map_err(|error| corrupt(error.to_string()))?,
            expires_at: time(self.expires_at),
            renew_at: time(self.renew_at),
            // Rows of others may hold numbers or booleans as values; a tag is text.
            tags: tags
                .into_iter()
                .map(|(key, value)| match value {
                    serde_json::Value::String(text) => (key, text),
                    other => (key, other.to_string()),
                })
                .collect(),
            last_renewal_at: time(self.last_renewal_at),
            last_deployment_at: time(self.last_deployment_at),
            revoked_at: time(self.revoked_at),
            revocation_reason: self
                .revocation_reason
                .map(|reason| RevocationReason::parse(&reason))
                .transpose()
                .map_err(|error| corrupt(error.to_string()))?,
            source: CertificateSource::parse(&self.source)
                .map_err(|error| corrupt(error.to_string()))?,
            created_at: self.created_at.0,
            updated_at: self.updated_at.0,
        })
    }
}

/// Inserts a certificate with its mappings.
///
/// # Errors
/// [`Error::AlreadyExists`] when the id or name is taken, [`Error::Reference`] when it refers to nothing.
pub async fn insert(conn: &mut Conn, certificate: &Certificate) -> Result<(), Error> {
    let row = CertificateRow::from(certificate);
    on_conn!(conn, c => diesel::insert_into(managed_certificates::table).values(&row).execute(c).await)?;
    insert_mappings(conn, &certificate.id, &certificate.target_ids).await
}

/// Inserts certificates that are deployed nowhere; one statement on PostgreSQL.
///
/// # Errors
/// [`Error::AlreadyExists`] when an id or a name is taken, [`Error::Reference`] when one refers to nothing.
pub async fn insert_all(conn: &mut Conn, certificates: &[Certificate]) -> Result<(), Error> {
    let rows: Vec<CertificateRow> = certificates.iter().map(CertificateRow::from).collect();
    insert_all!(conn, managed_certificates::table, rows)
}

/// Writes every column of a certificate, provided it is still in the state it was read in.
///
/// # Errors
/// [`Error::NotFound`] when it is gone or its state has changed, [`Error::AlreadyExists`] when the name is taken.
pub async fn update(
    conn: &mut Conn,
    certificate: &Certificate,
    seen: CertificateStatus,
) -> Result<(), Error> {
    let row = CertificateRow::from(certificate);
    let unchanged = managed_certificates::table
        .find(certificate.id.as_str())
        .filter(managed_certificates::status.eq(seen.as_str()));
    let changed = on_conn!(conn, c => diesel::update(unchanged).set(&row).execute(c).await)?;
    if changed == 0 {
        Err(Error::NotFound)
    } else {
        Ok(())
    }
}

/// Replaces the targets a certificate is mapped to.
///
/// # Errors
/// [`Error::Reference`] when a target does not exist.
pub async fn replace_mappings(
    conn: &mut Conn,
    id: &CertificateId,
    targets: &[TargetId],
) -> Result<(), Error> {
    let mapped = certificate_target_mappings::table
        .filter(certificate_target_mappings::certificate_id.eq(id.as_str()));
    on_conn!(conn, c => diesel::delete(mapped).execute(c).await)?;
    insert_mappings(conn, id, targets).await
}

async fn insert_mappings(
    conn: &mut Conn,
    id: &CertificateId,
    targets: &[TargetId],
) -> Result<(), Error> {
    for target in targets {
        let row = (
            certificate_target_mappings::certificate_id.eq(id.as_str()),
            certificate_target_mappings::target_id.eq(target.as_str()),
        );
        on_conn!(conn, c => diesel::insert_into(certificate_target_mappings::table)
            .values(row)
            .on_conflict_do_nothing()
            .execute(c)
            .await)?;
    }
    Ok(())
}

/// Reads a certificate.
///
/// # Errors
/// [`Error::NotFound`] when there is none.
pub async fn find(conn: &mut Conn, id: &CertificateId) -> Result<Certificate, Error> {
    let row: CertificateRow = on_conn!(conn, c => managed_certificates::table.find(id.as_str()).select(CertificateRow::as_select()).first(c).await)?;
    Ok(with_targets(conn, vec![row]).await?.swap_remove(0))
}

/// Reads a certificate and keeps others from changing it until the transaction ends.
///
/// # Errors
/// [`Error::NotFound`] when there is none.
pub async fn find_for_update(conn: &mut Conn, id: &CertificateId) -> Result<Certificate, Error> {
    let row: CertificateRow = on_conn!(conn,
        pg c => managed_certificates::table
            .find(id.as_str())
            .select(CertificateRow::as_select())
            .for_update()
            .first(c)
            .await,
        // The one writer of SQLite has the whole database to itself.
        sqlite c => managed_certificates::table.find(id.as_str()).select(CertificateRow::as_select()).first(c).await,
    )?;
    Ok(with_targets(conn, vec![row]).await?.swap_remove(0))
}

/// Reads several certificates by their ids; absent ones are left out.
///
/// # Errors
/// What the database says.
pub async fn find_many(conn: &mut Conn, ids: &[CertificateId]) -> Result<Vec<Certificate>, Error> {
    let ids: Vec<&str> = ids.iter().map(CertificateId::as_str).collect();
    let rows: Vec<CertificateRow> = on_conn!(conn, c => managed_certificates::table
        .filter(one_of(managed_certificates::id, &ids))
        .select(CertificateRow::as_select())
        .load(c)
        .await)?;
    with_targets(conn, rows).await
}

/// Adds the mappings to rows, by one query for all of them.
async fn with_targets(
    conn: &mut Conn,
    rows: Vec<CertificateRow>,
) -> Result<Vec<Certificate>, Error> {
    let ids: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    let pairs: Vec<(String, String)> = on_conn!(conn, c => certificate_target_mappings::table
        .filter(one_of(certificate_target_mappings::certificate_id, &ids))
        .select((certificate_target_mappings::certificate_id, certificate_target_mappings::target_id))
        .order((certificate_target_mappings::certificate_id, certificate_target_mappings::target_id))
        .load(c)
        .await)?;
    let mut targets: HashMap<String, Vec<TargetId>> = HashMap::new();
    for (certificate, target) in pairs {
        targets
            .entry(certificate)
            .or_default()
            .push(TargetId::from_stored(target));
    }
    rows.into_iter()
        .map(|row| {
            let mapped = targets.remove(&row.id).unwrap_or_default();
            row.into_certificate(mapped)
        })
        .collect()
}

/// What to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct CertificateFilter {
    /// In this state.
    pub status: Option<CertificateStatus>,
    /// In this environment.
    pub environment: Option<String>,
    /// Of this owner.
    pub owner_id: Option<String>,
    /// Of this team.
    pub team_id: Option<String>,
    /// Of this issuer.
    pub issuer_id: Option<String>,
    /// Of this profile.
    pub profile_id: Option<String>,
    /// Mapped to a target of this agent.
    pub agent_id: Option<AgentId>,
    /// Ending before.
    pub expires_before: Option<Timestamp>,
    /// Ending after.
    pub expires_after: Option<Timestamp>,
    /// Made after.
    pub created_after: Option<Timestamp>,
    /// Changed after.
    pub updated_after: Option<Timestamp>,
}

impl CertificateFilter {
    /// Whether it leaves nothing out.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }
}

/// By what to order a list; the last key is always unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CertificateOrder {
    /// By the end of validity; rows without one come last either way, so that both databases agree.
    ExpiresAt,
    /// By when it was made.
    #[default]
    CreatedAt,
    /// By when it was changed.
    UpdatedAt,
    /// By common name.
    CommonName,
    /// By name.
    Name,
    /// By state.
    Status,
    /// By environment.
    Environment,
}

macro_rules! filtered {
    ($filter:expr) => {{
        use managed_certificates as m;
        let filter: &CertificateFilter = $filter;
        let mut query = m::table.into_boxed();
        if let Some(status) = filter.status {
            query = query.filter(m::status.eq(status.as_str()));
        }
        if let Some(environment) = &filter.environment {
            query = query.filter(m::environment.eq(environment.as_str()));
        }
        if let Some(owner) = &filter.owner_id {
            query = query.filter(m::owner_id.eq(owner.as_str()));
        }
        if let Some(team) = &filter.team_id {
            query = query.filter(m::team_id.eq(team.as_str()));
        }
        if let Some(issuer) = &filter.issuer_id {
            query = query.filter(m::issuer_id.eq(issuer.as_str()));
        }
        if let Some(profile) = &filter.profile_id {
            query = query.filter(m::certificate_profile_id.eq(profile.as_str()));
        }
        if let Some(agent) = &filter.agent_id {
            let mapped = certificate_target_mappings::table
                .inner_join(deployment_targets::table)
                .filter(certificate_target_mappings::certificate_id.eq(m::id))
                .filter(deployment_targets::agent_id.eq(agent.as_str()));
            query = query.filter(exists(mapped));
        }
        if let Some(time) = filter.expires_before {
            query = query.filter(m::expires_at.lt(Some(At(time))));
        }
        if let Some(time) = filter.expires_after {
            query = query.filter(m::expires_at.gt(Some(At(time))));
        }
        if let Some(time) = filter.created_after {
            query = query.filter(m::created_at.gt(At(time)));
        }
        if let Some(time) = filter.updated_after {
            query = query.filter(m::updated_at.gt(At(time)));
        }
        query
    }};
}

macro_rules! ordered {
    ($query:expr, $order:expr, $descending:expr) => {{
        use managed_certificates as m;
        // Each is the order of an index, read forwards or backwards, and none leaves a tie open.
        match ($order, $descending) {
            (CertificateOrder::ExpiresAt, false) => {
                $query.order((m::expires_at.asc(), m::id.asc()))
            }
            (CertificateOrder::ExpiresAt, true) => {
                $query.order((m::expires_at.desc(), m::id.desc()))
            }
            (CertificateOrder::CreatedAt, false) => {
                $query.order((m::created_at.asc(), m::id.asc()))
            }
            (CertificateOrder::CreatedAt, true) => {
                $query.order((m::created_at.desc(), m::id.desc()))
            }
            (CertificateOrder::UpdatedAt, false) => {
                $query.order((m::updated_at.asc(), m::id.asc()))
            }
            (CertificateOrder::UpdatedAt, true) => {
                $query.order((m::updated_at.desc(), m::id.desc()))
            }
            (CertificateOrder::CommonName, false) => {
                $query.order((m::common_name.asc(), m::id.asc()))
            }
            (CertificateOrder::CommonName, true) => {
                $query.order((m::common_name.desc(), m::id.desc()))
            }
            // Names are unique.
            (CertificateOrder::Name, false) => $query.order(m::name.asc()),
            (CertificateOrder::Name, true) => $query.order(m::name.desc()),
            (CertificateOrder::Status, false) => {
                $query.order((m::status.asc(), m::created_at.asc(), m::id.asc()))
            }
            (CertificateOrder::Status, true) => {
                $query.order((m::status.desc(), m::created_at.desc(), m::id.desc()))
            }
            (CertificateOrder::Environment, false) => {
                $query.order((m::environment.asc(), m::created_at.asc(), m::id.asc()))
            }
            (CertificateOrder::Environment, true) => {
                $query.order((m::environment.desc(), m::created_at.desc(), m::id.desc()))
            }
        }
    }};
}

/// Reads one page and the count of all matches.
///
/// # Errors
/// What the database says.
pub async fn list(
    conn: &mut Conn,
    filter: &CertificateFilter,
    order: CertificateOrder,
    descending: bool,
    page: PageRequest,
) -> Result<Page<Certificate>, Error> {
    Ok(Page {
        rows: list_page(conn, filter, order, descending, page).await?,
        total: count(conn, filter).await?,
    })
}

/// Reads the rows of one page. The rows before it are passed over one by one, so a page costs what it is deep; a cursor does not.
///
/// # Errors
/// What the database says.
pub async fn list_page(
    conn: &mut Conn,
    filter: &CertificateFilter,
    order: CertificateOrder,
    descending: bool,
    page: PageRequest,
) -> Result<Vec<Certificate>, Error> {
    let rows: Vec<CertificateRow> = if order == CertificateOrder::ExpiresAt {
        by_expiry(conn, filter, descending, page).await?
    } else {
        on_conn!(conn, c => {
            let query = filtered!(filter).select(CertificateRow::as_select()).limit(page.limit()).offset(page.offset());
            ordered!(query, order, descending).load(c).await
        })?
    };
    with_targets(conn, rows).await
}

/// Those without an end come last either way, which is the order of no index of both databases: first the ones that have an end,
/// and where they do not fill the page, the others behind them.
async fn by_expiry(
    conn: &mut Conn,
    filter: &CertificateFilter,
    descending: bool,
    page: PageRequest,
) -> Result<Vec<CertificateRow>, Error> {
    use managed_certificates as m;
    let mut rows: Vec<CertificateRow> = on_conn!(conn, c => {
        let ending = filtered!(filter).filter(m::expires_at.is_not_null()).select(CertificateRow::as_select());
        ordered!(ending.limit(page.limit()).offset(page.offset()), CertificateOrder::ExpiresAt, descending).load(c).await
    })?;
    let missing = page.limit() - i64::try_from(rows.len()).unwrap_or(i64::MAX);
    if missing > 0 {
        let ending: i64 = on_conn!(conn, c => filtered!(filter).filter(m::expires_at.is_not_null()).count().get_result(c).await)?;
        let offset = (page.offset() - ending).max(0);
        let endless: Vec<CertificateRow> = on_conn!(conn, c => {
            let endless = filtered!(filter).filter(m::expires_at.is_null()).select(CertificateRow::as_select());
            ordered!(endless.limit(missing).offset(offset), CertificateOrder::ExpiresAt, descending).load(c).await
        })?;
        rows.extend(endless);
    }
    Ok(rows)
}

/// Reads the rows after a position in the order (created_at, id) descending; `limit` rows at the most.
///
/// # Errors
/// What the database says.
pub async fn list_after(
    conn: &mut Conn,
    filter: &CertificateFilter,
    after: Option<(Timestamp, &str)>,
    limit: i64,
) -> Result<Vec<Certificate>, Error> {
    use managed_certificates as m;
    let rows: Vec<CertificateRow> = on_conn!(conn, c => {
        let mut query = filtered!(filter).select(CertificateRow::as_select());
        if let Some((created_at, id)) = after {
            // The first condition alone is what an index can be entered by; the second settles the tie.
            query = query
                .filter(m::created_at.le(At(created_at)))
                .filter(m::created_at.lt(At(created_at)).or(m::id.lt(id)));
        }
        query.order((m::created_at.desc(), m::id.desc())).limit(limit).load(c).await
    })?;
    with_targets(conn, rows).await
}

/// Counts all matches: kept where nothing is filtered, a range of an index otherwise.
///
/// # Errors
/// What the database says.
pub async fn count(conn: &mut Conn, filter: &CertificateFilter) -> Result<i64, Error> {
    if filter.is_everything() {
        return totals::of(conn, Counted::Certificates).await;
    }
    Ok(on_conn!(conn, c => filtered!(filter).count().get_result(c).await)?)
}

/// Moves a certificate from one state to another; false when it is no longer in the first.
///
/// # Errors
/// What the database says.
pub async fn set_status(
    conn: &mut Conn,
    id: &CertificateId,
    from: CertificateStatus,
    to: CertificateStatus,
    now: Timestamp,
) -> Result<bool, Error> {
    use managed_certificates as m;
    let row = m::table
        .find(id.as_str())
        .filter(m::status.eq(from.as_str()));
    let changed = on_conn!(conn, c => diesel::update(row)
        .set((m::status.eq(to.as_str()), m::updated_at.eq(At(now))))
        .execute(c)
        .await)?;
    Ok(changed == 1)
}

/// Whether a certificate is mapped to a target of an agent.
///
/// # Errors
/// What the database says.
pub async fn is_mapped_to_agent(
    conn: &mut Conn,
    id: &CertificateId,
    agent: &AgentId,
) -> Result<bool, Error> {
    let mapped = certificate_target_mappings::table
        .inner_join(deployment_targets::table)
        .filter(certificate_target_mappings::certificate_id.eq(id.as_str()))
        .filter(deployment_targets::agent_id.eq(agent.as_str()));
    let count: i64 = on_conn!(conn, c => mapped.count().get_result(c).await)?;
    Ok(count > 0)
}

/// Notes when a certificate was last deployed.
///
/// # Errors
/// What the database says.
pub async fn set_deployed(
    conn: &mut Conn,
    id: &CertificateId,
    now: Timestamp,
) -> Result<(), Error> {
    use managed_certificates as m;
    on_conn!(conn, c => diesel::update(m::table.find(id.as_str()))
        .set((m::last_deployment_at.eq(Some(At(now))), m::updated_at.eq(At(now))))
        .execute(c)
        .await)?;
    Ok(())
}
