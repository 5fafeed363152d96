//! Revoked serials.

use certctl_domain::{
    id::{IssuerId, RevocationId},
    revocation::Revocation,
    serial::SerialNumber,
};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{Conn, Error, schema::certificate_revocations, types::At};

/// Enters a revocation; a serial that is revoked already stays as it is.
///
/// # Errors
/// What the database says.
pub async fn insert(conn: &mut Conn, revocation: &Revocation) -> Result<(), Error> {
    use certificate_revocations as r;
    let row = (
        r::id.eq(revocation.id.as_str()),
        r::certificate_id.eq(revocation.certificate_id.as_str()),
        r::issuer_id.eq(revocation.issuer_id.as_str()),
        r::serial_number.eq(revocation.serial_number.as_str()),
        r::reason.eq(revocation.reason.as_str()),
        r::revoked_by.eq(&revocation.revoked_by),
        r::revoked_at.eq(At(revocation.revoked_at)),
        r::issuer_notified.eq(revocation.issuer_notified),
        r::created_at.eq(At(revocation.revoked_at)),
    );
    on_conn!(conn, c => diesel::insert_into(r::table).values(row).on_conflict_do_nothing().execute(c).await)?;
    Ok(())
}

/// Notes that the issuer itself was told.
///
/// # Errors
/// What the database says.
pub async fn set_notified(conn: &mut Conn, id: &RevocationId) -> Result<(), Error> {
    use certificate_revocations as r;
    on_conn!(conn, c => diesel::update(r::table.find(id.as_str())).set(r::issuer_notified.eq(true)).execute(c).await)?;
    Ok(())
}

/// Whether a serial of an issuer is revoked.
///
/// # Errors
/// What the database says.
pub async fn is_revoked(
    conn: &mut Conn,
    issuer: &IssuerId,
    serial: &SerialNumber,
) -> Result<bool, Error> {
    use certificate_revocations as r;
    let rows = r::table
        .filter(r::issuer_id.eq(issuer.as_str()))
        .filter(r::serial_number.eq(serial.as_str()));
    let count: i64 = on_conn!(conn, c => rows.count().get_result(c).await)?;
    Ok(count > 0)
}
