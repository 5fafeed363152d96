//! Who answers OCSP for each issuer. All replicas use the one in the table.

use certctl_domain::{id::IssuerId, time::Timestamp};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{Conn, Error, schema::ocsp_responders, types::At};

/// Where the key of a responder is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyPlace {
    /// In a file.
    File(String),
    /// Here, sealed.
    Sealed(Vec<u8>),
}

/// A responder as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredResponder {
    /// Its certificate.
    pub cert_pem: String,
    /// The certificate's serial, which names the responder.
    pub cert_serial: String,
    /// Its key.
    pub key: KeyPlace,
    /// The key's algorithm.
    pub key_alg: String,
    /// Since when it may answer.
    pub not_before: Timestamp,
    /// Until when.
    pub not_after: Timestamp,
}

/// Reads the responder of an issuer.
///
/// # Errors
/// [`Error::Corrupt`] when its key is nowhere.
pub async fn find(conn: &mut Conn, issuer: &IssuerId) -> Result<Option<StoredResponder>, Error> {
    use ocsp_responders as o;
    type Row = (
        String,
        String,
        Option<String>,
        Option<Vec<u8>>,
        String,
        At,
        At,
    );
    let row: Option<Row> = on_conn!(conn, c => o::table
        .find(issuer.as_str())
        .select((o::cert_pem, o::cert_serial, o::key_path, o::encrypted_key, o::key_alg, o::not_before, o::not_after))
        .first(c)
        .await
        .optional())?;
    let Some((cert_pem, cert_serial, path, sealed, key_alg, not_before, not_after)) = row else {
        return Ok(None);
    };
    let key = match (path, sealed) {
        (_, Some(sealed)) => KeyPlace::Sealed(sealed),
        (Some(path), None) => KeyPlace::File(path),
        (None, None) => {
            return Err(Error::corrupt(
                "ocsp_responders",
                "a responder without a key",
            ));
        }
    };
    Ok(Some(StoredResponder {
        cert_pem,
        cert_serial,
        key,
        key_alg,
        not_before: not_before.0,
        not_after: not_after.0,
    }))
}

/// Puts a responder in the place of the one with the serial `before`, or where there is none; false when another replica was
/// faster, whose responder is then the one to use.
///
/// # Errors
/// [`Error::Reference`] when there is no such issuer.
pub async fn replace(
    conn: &mut Conn,
    issuer: &IssuerId,
    before: Option<&str>,
    new: &StoredResponder,
    now: Timestamp,
) -> Result<bool, Error> {
    use ocsp_responders as o;
    let (path, sealed) = match &new.key {
        KeyPlace::File(path) => (Some(path), None),
        KeyPlace::Sealed(sealed) => (None, Some(sealed)),
    };
    let values = (
        o::cert_pem.eq(&new.cert_pem),
        o::cert_serial.eq(&new.cert_serial),
        o::key_path.eq(path),
        o::encrypted_key.eq(sealed),
        o::key_alg.eq(&new.key_alg),
        o::not_before.eq(At(new.not_before)),
        o::not_after.eq(At(new.not_after)),
        o::rotated_from.eq(before),
        o::updated_at.eq(At(now)),
    );
    let changed = match before {
        Some(serial) => {
            let row = o::table
                .find(issuer.as_str())
                .filter(o::cert_serial.eq(serial));
            on_conn!(conn, c => diesel::update(row).set(values).execute(c).await)?
        }
        None => {
            let row = (
                o::issuer_id.eq(issuer.as_str()),
                o::created_at.eq(At(now)),
                values,
            );
            on_conn!(conn, c => diesel::insert_into(o::table).values(row).on_conflict_do_nothing().execute(c).await)?
        }
    };
    Ok(changed == 1)
}
