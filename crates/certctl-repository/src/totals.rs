//! How many rows growing tables have, kept by triggers in the transactions that add and remove them
//! (docs/decisions/0004-totals.md).

use diesel::{
    QueryableByName,
    sql_types::{BigInt, Text},
};
use diesel_async::RunQueryDsl;

use crate::{Conn, Error, db::dialect};

/// A table whose rows are counted as they come and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Managed certificates.
    Certificates,
    /// Jobs.
    Jobs,
}

impl Counted {
    const fn table(self) -> &'static str {
        match self {
            Self::Certificates => "managed_certificates",
            Self::Jobs => "jobs",
        }
    }
}

#[derive(QueryableByName)]
struct Total {
    #[diesel(sql_type = BigInt)]
    total: i64,
}

/// How many rows a table has, exactly: what `count(*)` would say at this moment, from at most 64 rows.
///
/// # Errors
/// What the database says.
pub async fn of(conn: &mut Conn, counted: Counted) -> Result<i64, Error> {
    let sql = dialect(
        conn,
        "SELECT CAST(COALESCE(SUM(held), 0) AS BIGINT) AS total FROM row_totals WHERE noun = $1",
    );
    let row: Total = on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<Text, _>(counted.table())
        .get_result(c)
        .await)?;
    Ok(row.total)
}
