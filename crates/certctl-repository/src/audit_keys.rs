//! The keys that sign the audit trail, and the signed words about the trail as a whole.

use certctl_domain::time::Timestamp;
use diesel::{prelude::*, upsert::excluded};
use diesel_async::RunQueryDsl;

use crate::{
    Conn, Error,
    schema::{audit_keys, audit_marks},
    types::{At, at, time},
};

/// A key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditKey {
    /// What heads name it by.
    pub key_id: String,
    /// The public half, `SubjectPublicKeyInfo` in DER.
    pub public_key: Vec<u8>,
    /// The private half, sealed; nothing when it lies in a data directory.
    pub private_key: Option<Vec<u8>>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When another took its place.
    pub retired_at: Option<Timestamp>,
}

/// Reads all keys, newest first. There is one more with every rotation.
///
/// # Errors
/// What the database says.
pub async fn list(conn: &mut Conn) -> Result<Vec<AuditKey>, Error> {
    type Row = (String, Vec<u8>, Option<Vec<u8>>, At, Option<At>);
    let rows: Vec<Row> = on_conn!(conn, c => audit_keys::table
        .select((audit_keys::key_id, audit_keys::public_key, audit_keys::private_key, audit_keys::created_at, audit_keys::retired_at))
        .order((audit_keys::created_at.desc(), audit_keys::key_id.desc()))
        .load(c)
        .await)?;
    Ok(rows
        .into_iter()
        .map(
            |(key_id, public_key, private_key, created_at, retired_at)| AuditKey {
                key_id,
                public_key,
                private_key,
                created_at: created_at.0,
                retired_at: time(retired_at),
            },
        )
        .collect())
}

/// Enters a key, or the sealed private half of one that is there without.
///
/// # Errors
/// What the database says.
pub async fn insert(conn: &mut Conn, key: &AuditKey) -> Result<(), Error> {
    let row = (
        audit_keys::key_id.eq(&key.key_id),
        audit_keys::public_key.eq(&key.public_key),
        audit_keys::private_key.eq(&key.private_key),
        audit_keys::created_at.eq(At(key.created_at)),
        audit_keys::retired_at.eq(at(key.retired_at)),
    );
    on_conn!(conn, c => diesel::insert_into(audit_keys::table).values(row).on_conflict_do_nothing().execute(c).await)?;
    if key.private_key.is_some() {
        let bare = audit_keys::table
            .find(&key.key_id)
            .filter(audit_keys::private_key.is_null());
        on_conn!(conn, c => diesel::update(bare).set(audit_keys::private_key.eq(&key.private_key)).execute(c).await)?;
    }
    Ok(())
}

/// Retires every sealed key but one.
///
/// # Errors
/// What the database says.
pub async fn retire_others(conn: &mut Conn, key_id: &str, now: Timestamp) -> Result<(), Error> {
    let others = audit_keys::table
        .filter(audit_keys::key_id.ne(key_id))
        .filter(audit_keys::private_key.is_not_null())
        .filter(audit_keys::retired_at.is_null());
    on_conn!(conn, c => diesel::update(others).set(audit_keys::retired_at.eq(At(now))).execute(c).await)?;
    Ok(())
}

/// A signed word about the trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// What is signed, JSON.
    pub document: String,
    /// The signature over it.
    pub signature: Vec<u8>,
}

/// Reads a mark.
///
/// # Errors
/// What the database says.
pub async fn mark(conn: &mut Conn, name: &str) -> Result<Option<Mark>, Error> {
    let row: Option<(String, Vec<u8>)> = on_conn!(conn, c => audit_marks::table
        .find(name)
        .select((audit_marks::document, audit_marks::signature))
        .first(c)
        .await
        .optional())?;
    Ok(row.map(|(document, signature)| Mark {
        document,
        signature,
    }))
}

/// Sets a mark in place of the one before.
///
/// # Errors
/// What the database says.
pub async fn set_mark(
    conn: &mut Conn,
    name: &str,
    mark: &Mark,
    now: Timestamp,
) -> Result<(), Error> {
    let row = (
        audit_marks::name.eq(name),
        audit_marks::document.eq(&mark.document),
        audit_marks::signature.eq(&mark.signature),
        audit_marks::updated_at.eq(At(now)),
    );
    on_conn!(conn, c => diesel::insert_into(audit_marks::table)
        .values(row)
        .on_conflict(audit_marks::name)
        .do_update()
        .set((
            audit_marks::document.eq(excluded(audit_marks::document)),
            audit_marks::signature.eq(excluded(audit_marks::signature)),
            audit_marks::updated_at.eq(excluded(audit_marks::updated_at)),
        ))
        .execute(c)
        .await)?;
    Ok(())
}
