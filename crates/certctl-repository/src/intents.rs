//! What is about to be signed, recorded before it is.

use certctl_domain::{
    id::{IssuerId, JobId},
    serial::SerialNumber,
    time::Timestamp,
};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{
    Conn, Error,
    schema::issuance_intents,
    types::{At, Json},
};

/// Everything a signature depends on that is not in the certificate's own rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// For which job.
    pub job_id: JobId,
    /// Who is to sign.
    pub issuer_id: IssuerId,
    /// With which serial number.
    pub serial_number: SerialNumber,
    /// From when.
    pub not_before: Timestamp,
    /// The key, as DER `SubjectPublicKeyInfo`.
    pub spki: Vec<u8>,
    /// What else the certificate will say, as it was checked: later changes of certificate or profile do not reach it.
    pub request: serde_json::Value,
    /// The request; empty where the server made the key.
    pub csr_pem: String,
    /// The sealed key, where the server made it.
    pub sealed_key: Option<Vec<u8>>,
    /// When it was recorded.
    pub created_at: Timestamp,
}

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = issuance_intents, check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
struct IntentRow {
    job_id: String,
    issuer_id: String,
    serial_number: String,
    not_before: At,
    spki: Vec<u8>,
    request: Json,
    csr_pem: String,
    encrypted_private_key: Option<Vec<u8>>,
    created_at: At,
}

/// Records intents; a job that has one keeps it, whoever comes second.
///
/// # Errors
/// What the database says.
pub async fn insert_all(conn: &mut Conn, intents: &[Intent]) -> Result<(), Error> {
    let rows: Vec<IntentRow> = intents
        .iter()
        .map(|intent| IntentRow {
            job_id: intent.job_id.to_string(),
            issuer_id: intent.issuer_id.to_string(),
            serial_number: intent.serial_number.to_string(),
            not_before: At(intent.not_before),
            spki: intent.spki.clone(),
            request: Json(intent.request.clone()),
            csr_pem: intent.csr_pem.clone(),
            encrypted_private_key: intent.sealed_key.clone(),
            created_at: At(intent.created_at),
        })
        .collect();
    insert_all!(conn, issuance_intents::table, rows)
}

/// Reads the intents of jobs; most have none.
///
/// # Errors
/// What the database says.
pub async fn find_many(conn: &mut Conn, jobs: &[JobId]) -> Result<Vec<Intent>, Error> {
    let ids: Vec<&str> = jobs.iter().map(JobId::as_str).collect();
    let rows: Vec<IntentRow> = on_conn!(conn, c => issuance_intents::table
        .filter(issuance_intents::job_id.eq_any(&ids))
        .select(IntentRow::as_select())
        .load(c)
        .await)?;
    rows.into_iter()
        .map(|row| {
            Ok(Intent {
                job_id: JobId::from_stored(row.job_id),
                issuer_id: IssuerId::from_stored(row.issuer_id),
                serial_number: SerialNumber::parse(&row.serial_number)
                    .map_err(|error| Error::corrupt("issuance_intents", error))?,
                not_before: row.not_before.0,
                spki: row.spki,
                request: row.request.0,
                csr_pem: row.csr_pem,
                sealed_key: row.encrypted_private_key,
                created_at: row.created_at.0,
            })
        })
        .collect()
}
