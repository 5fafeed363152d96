//! Local CAs that replicas share through the database.

use certctl_domain::{id::IssuerId, time::Timestamp};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{Conn, Error, schema::local_authorities, types::At};

/// A CA's certificate and its key as it was handed in: sealed, or PEM when no encryption key is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// The certificate.
    pub certificate_pem: String,
    /// The key.
    pub private_key: Vec<u8>,
}

/// Reads the CA of an issuer.
///
/// # Errors
/// What the database says.
pub async fn find(conn: &mut Conn, issuer: &IssuerId) -> Result<Option<Authority>, Error> {
    let row: Option<(String, Vec<u8>)> = on_conn!(conn, c => local_authorities::table
        .find(issuer.as_str())
        .select((local_authorities::certificate_pem, local_authorities::private_key))
        .first(c)
        .await
        .optional())?;
    Ok(row.map(|(certificate_pem, private_key)| Authority {
        certificate_pem,
        private_key,
    }))
}

/// Stores a CA where there is none, and says which one the issuer has now.
///
/// # Errors
/// What the database says.
pub async fn insert_if_absent(
    conn: &mut Conn,
    issuer: &IssuerId,
    authority: &Authority,
    now: Timestamp,
) -> Result<Authority, Error> {
    let row = (
        local_authorities::issuer_id.eq(issuer.as_str()),
        local_authorities::certificate_pem.eq(&authority.certificate_pem),
        local_authorities::private_key.eq(&authority.private_key),
        local_authorities::created_at.eq(At(now)),
    );
    on_conn!(conn, c => diesel::insert_into(local_authorities::table).values(row).on_conflict_do_nothing().execute(c).await)?;
    find(conn, issuer).await?.ok_or(Error::NotFound)
}

/// Removes the CA of an issuer, when it has one.
///
/// # Errors
/// What the database says.
pub async fn remove(conn: &mut Conn, issuer: &IssuerId) -> Result<(), Error> {
    let row = local_authorities::table.find(issuer.as_str());
    on_conn!(conn, c => diesel::delete(row).execute(c).await)?;
    Ok(())
}
