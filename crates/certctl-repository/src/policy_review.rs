//! How far the certificates have been asked again since a policy rule changed.
//!
//! There is at most one row, which is locked while it is worked on, so that of two replicas each page of certificates is asked by one.

use certctl_domain::id::CertificateId;
use diesel::{
    ExpressionMethods as _, QueryDsl as _, QueryableByName,
    sql_types::{BigInt, Text},
};
use diesel_async::RunQueryDsl as _;

use crate::{Conn, Error, db::dialect, prepared::Prepare as _, schema::policy_review};

/// Has all certificates asked again, from the first one on; to be called in the transaction that changes a rule.
///
/// # Errors
/// What the database says.
pub async fn begin(conn: &mut Conn) -> Result<(), Error> {
    const SQL: &str = "INSERT INTO policy_review (id, asked_to) VALUES ('review', '') ON CONFLICT (id) DO UPDATE SET asked_to = ''";
    on_conn!(conn, c => diesel::sql_query(SQL).prepared().execute(c).await)?;
    Ok(())
}

/// Whether anything is to be asked. A look that costs no commit.
///
/// # Errors
/// What the database says.
pub async fn is_under_way(conn: &mut Conn) -> Result<bool, Error> {
    #[derive(QueryableByName)]
    struct CountRow {
        #[diesel(sql_type = BigInt)]
        total: i64,
    }
    const SQL: &str = "SELECT count(*) AS total FROM policy_review WHERE asked_to IS NOT NULL";
    let row: CountRow = on_conn!(conn, c => diesel::sql_query(SQL).prepared().get_result(c).await)?;
    Ok(row.total > 0)
}

#[derive(QueryableByName)]
struct IdRow {
    #[diesel(sql_type = Text)]
    id: String,
}

/// The next certificates to ask, at most `limit`, archived ones left out; nothing when there are none to ask. Until the
/// transaction ends nobody else is given any, and no rule changes.
///
/// # Errors
/// What the database says.
pub async fn next(conn: &mut Conn, limit: i64) -> Result<Option<Vec<CertificateId>>, Error> {
    // Written as it is: this locks the row on PostgreSQL, and SQLite has one writer.
    const LOCK: &str = "UPDATE policy_review SET asked_to = asked_to WHERE asked_to IS NOT NULL RETURNING asked_to AS id";
    const PAGE: &str = "SELECT id FROM managed_certificates WHERE id > $1 AND status <> 'Archived' ORDER BY id LIMIT $2";
    let after: Vec<IdRow> = on_conn!(conn, c => diesel::sql_query(LOCK).prepared().load(c).await)?;
    let Some(after) = after.into_iter().next() else {
        return Ok(None);
    };
    let sql = dialect(conn, PAGE);
    let rows: Vec<IdRow> = on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<Text, _>(after.id)
        .bind::<BigInt, _>(limit)
        .prepared()
        .load(c)
        .await)?;
    Ok(Some(
        rows.into_iter()
            .map(|row| CertificateId::from_stored(row.id))
            .collect(),
    ))
}

/// Notes up to where certificates were asked; none when these were the last.
///
/// # Errors
/// What the database says.
pub async fn asked(conn: &mut Conn, last: Option<&CertificateId>) -> Result<(), Error> {
    let to = last.map(CertificateId::as_str);
    on_conn!(conn, c => diesel::update(policy_review::table.find("review"))
        .set(policy_review::asked_to.eq(to))
        .execute(c)
        .await)?;
    Ok(())
}
