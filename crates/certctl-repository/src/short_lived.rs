//! Certificates that live for less than an hour.

use certctl_domain::{id::CertificateId, time::Timestamp};
use diesel::{QueryableByName, sql_types::Text};
use diesel_async::RunQueryDsl;

use crate::{
    Conn, Error,
    db::dialect,
    prepared::Prepare as _,
    types::{At, UtcTimestamp},
};

/// Marks those of short-lived profiles whose end has come as expired, and says which.
///
/// # Errors
/// What the database says.
pub async fn expire(conn: &mut Conn, now: Timestamp) -> Result<Vec<CertificateId>, Error> {
    #[derive(QueryableByName)]
    struct Expired {
        #[diesel(sql_type = Text)]
        id: String,
    }
    // The states stand there as they do in the index on the end, which SQLite only uses for the same words.
    let sql = dialect(
        conn,
        "UPDATE managed_certificates SET status = 'Expired', updated_at = $1 \
         WHERE status IN ('Active', 'Expiring', 'Pending') AND status <> 'Pending' AND expires_at IS NOT NULL AND expires_at <= $1 \
           AND certificate_profile_id IN (SELECT id FROM certificate_profiles \
               WHERE allow_short_lived AND max_ttl_seconds > 0 AND max_ttl_seconds < 3600) RETURNING id",
    );
    let rows: Vec<Expired> = on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<UtcTimestamp, _>(At(now))
        .prepared()
        .load(c)
        .await)?;
    Ok(rows
        .into_iter()
        .map(|row| CertificateId::from_stored(row.id))
        .collect())
}
