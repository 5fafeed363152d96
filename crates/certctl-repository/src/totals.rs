//! How many rows growing tables have, kept by triggers in the transactions that add and remove them
//! (docs/decisions/0004-totals.md).

use diesel::{
    QueryableByName,
    sql_types::{BigInt, Text},
};
use diesel_async::RunQueryDsl;

use crate::{Conn, Error, db::dialect, prepared::Prepare as _};

/// Rows that are counted as they come and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Managed certificates.
    Certificates,
    /// Jobs.
    Jobs,
    /// Agents that are not retired.
    Agents,
    /// Agents that are.
    RetiredAgents,
    /// Deployment targets, retired or not.
    Targets,
    /// Notifications.
    Notifications,
}

impl Counted {
    /// What is counted, and what of it is not meant.
    const fn nouns(self) -> (&'static str, &'static str) {
        match self {
            Self::Certificates => ("managed_certificates", ""),
            Self::Jobs => ("jobs", ""),
            Self::Agents => ("agents", "agents_retired"),
            Self::RetiredAgents => ("agents_retired", ""),
            Self::Targets => ("deployment_targets", ""),
            Self::Notifications => ("notification_events", ""),
        }
    }
}

#[derive(QueryableByName)]
struct Total {
    #[diesel(sql_type = BigInt)]
    total: i64,
}

/// How many rows there are, exactly: what `count(*)` would say at this moment, from at most 128 rows.
///
/// # Errors
/// What the database says.
pub async fn of(conn: &mut Conn, counted: Counted) -> Result<i64, Error> {
    let (all, without) = counted.nouns();
    let sql = dialect(
        conn,
        "SELECT CAST(COALESCE(SUM(CASE WHEN noun = $1 THEN held ELSE -held END), 0) AS BIGINT) AS total FROM row_totals WHERE noun IN ($1, $2)",
    );
    let row: Total = on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<Text, _>(all)
        .bind::<Text, _>(without)
        .prepared()
        .get_result(c)
        .await)?;
    Ok(row.total)
}
