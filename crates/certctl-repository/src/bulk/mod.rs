//! Changes of many certificates at once: one statement on PostgreSQL, a constant number on SQLite, however many match.
//!
//! PostgreSQL picks, locks, changes and counts in one statement of several parts. SQLite has no statement that changes two tables, so
//! what was picked stands in a temporary table of the one writer meanwhile, which ends with the transaction.
//!
//! Rows that others hold are waited for, not passed over: the counts are those of all matches. They are locked in the order of
//! their ids, so that two bulk changes never wait for each other in a circle.

pub mod asked;
mod reassign;
mod renew;
mod revoke;

use certctl_domain::certificate::{CertificateSource, CertificateStatus};
use diesel_async::{RunQueryDsl as _, SimpleAsyncConnection as _};

use crate::{
    Backend, Error,
    connect::CACHE_KIB,
    db::SqliteConn,
    types::{TextList, Texts},
};

pub use self::{
    reassign::{Reassigned, Reassignment, reassign},
    renew::{Renewal, Renewed, renew},
    revoke::{Revoked, Revoking, Untold, revoke, set_told, untold},
};

/// Which certificates; what is said holds for each of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Of this profile.
    pub profile_id: Option<String>,
    /// Of this owner.
    pub owner_id: Option<String>,
    /// Mapped to a target of this agent.
    pub agent_id: Option<String>,
    /// Of this issuer.
    pub issuer_id: Option<String>,
    /// Of this team.
    pub team_id: Option<String>,
    /// Among these.
    pub ids: Option<Vec<String>>,
    /// That came in by this door.
    pub source: Option<CertificateSource>,
}

/// Parameters that [`Selection::condition`] takes; those of a statement come after them, and it must use its last one, since
/// SQLite counts parameters by the largest number.
macro_rules! bind_selection {
    ($sql:expr, $selection:expr) => {
        diesel::sql_query($sql)
            .bind::<diesel::sql_types::Nullable<diesel::sql_types::Text>, _>(
                $selection.profile_id.clone(),
            )
            .bind::<diesel::sql_types::Nullable<diesel::sql_types::Text>, _>(
                $selection.owner_id.clone(),
            )
            .bind::<diesel::sql_types::Nullable<diesel::sql_types::Text>, _>(
                $selection.agent_id.clone(),
            )
            .bind::<diesel::sql_types::Nullable<diesel::sql_types::Text>, _>(
                $selection.issuer_id.clone(),
            )
            .bind::<diesel::sql_types::Nullable<diesel::sql_types::Text>, _>(
                $selection.team_id.clone(),
            )
            .bind::<diesel::sql_types::Nullable<crate::types::TextList>, _>(
                $selection.ids.clone().map(crate::types::Texts),
            )
            .bind::<diesel::sql_types::Nullable<diesel::sql_types::Text>, _>(
                $selection
                    .source
                    .map(certctl_domain::certificate::CertificateSource::as_str),
            )
    };
}
use bind_selection;

impl Selection {
    /// The condition on `managed_certificates m`, with the parameters 1 to 7. Only what is asked for stands in it, so that the
    /// planner sees which index leads there.
    fn condition(&self, backend: Backend) -> String {
        let agents = "m.id IN (SELECT x.certificate_id FROM certificate_target_mappings x \
            JOIN deployment_targets t ON t.id = x.target_id WHERE t.agent_id = $3)";
        let ids = one_of(backend, "m.id", 6);
        let parts = [
            (
                self.profile_id.is_some(),
                "m.certificate_profile_id = $1".to_owned(),
            ),
            (self.owner_id.is_some(), "m.owner_id = $2".to_owned()),
            (self.agent_id.is_some(), agents.to_owned()),
            (self.issuer_id.is_some(), "m.issuer_id = $4".to_owned()),
            (self.team_id.is_some(), "m.team_id = $5".to_owned()),
            (self.ids.is_some(), ids),
            (self.source.is_some(), "m.source = $7".to_owned()),
        ];
        let asked: Vec<String> = parts
            .into_iter()
            .filter_map(|(is_asked, part)| is_asked.then_some(part))
            .collect();
        // Nothing asked for is nothing picked: the whole fleet is never meant by leaving everything out.
        if asked.is_empty() {
            return "false".to_owned();
        }
        asked.join(" AND ")
    }
}

/// Whether an expression is one of a list of texts, which is the parameter `number`.
fn one_of(backend: Backend, expression: &str, number: u8) -> String {
    match backend {
        Backend::Postgres => format!("{expression} = ANY(${number})"),
        Backend::Sqlite => format!("{expression} IN (SELECT value FROM json_each(${number}))"),
    }
}

/// The states as they are bound.
fn states(states: &[CertificateStatus]) -> Texts {
    Texts(
        states
            .iter()
            .map(|state| state.as_str().to_owned())
            .collect(),
    )
}

/// What was picked on SQLite: its number among the matches, from [`NUMBERED_FROM`] on, whether it is to be changed, and the version that a revocation is about.
const PICKED: &str = "CREATE TEMP TABLE IF NOT EXISTS bulk_picked \
    (n INTEGER PRIMARY KEY, id TEXT NOT NULL, eligible INTEGER NOT NULL, version_id TEXT); DELETE FROM bulk_picked";

/// Puts what matches into the temporary table; returns how many.
async fn pick(
    conn: &mut SqliteConn,
    selection: &Selection,
    eligible: &str,
    version: &str,
    bound: &Texts,
) -> Result<i64, Error> {
    conn.batch_execute(PICKED).await?;
    let sql = format!(
        "INSERT INTO bulk_picked (n, id, eligible, version_id) \
         SELECT {NUMBERED_FROM} + row_number() OVER (ORDER BY m.id), m.id, {eligible}, {version} FROM managed_certificates m WHERE {}",
        selection.condition(Backend::Sqlite)
    )
    .replace('$', "?");
    let picked = bind_selection!(sql, selection)
        .bind::<TextList, _>(bound)
        .execute(conn)
        .await?;
    Ok(count(picked))
}

/// What the numbers behind the ids of one call begin after: all have as many digits, so that the order of the ids is that of the
/// numbers, and each index over them is written from one end to the other and not all over.
const NUMBERED_FROM: i64 = 1_000_000_000;

/// Memory for pages that a bulk change may hold on SQLite, in KiB. With less, the pages of fifteen indexes go out and come in
/// again several times within one change: that costs a third of its time.
const ROOM: u32 = 64 * 1024;

/// Runs a bulk change with more memory for pages; what it takes is given back at the end of the transaction.
async fn roomy<T>(
    conn: &mut SqliteConn,
    change: impl AsyncFnOnce(&mut SqliteConn) -> Result<T, Error>,
) -> Result<T, Error> {
    conn.batch_execute(&format!("PRAGMA cache_size = -{ROOM}"))
        .await?;
    let changed = change(conn).await;
    // Pages above the bound go as soon as they are written, so this may stand before the commit.
    conn.batch_execute(&format!("PRAGMA cache_size = -{CACHE_KIB}"))
        .await?;
    changed
}

/// Rows as they are counted.
fn count(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}
