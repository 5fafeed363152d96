//! What is about to be signed, recorded before it is.

use certctl_domain::{
    id::{CertificateId, IssuerId, JobId},
    job::JobStatus,
    serial::SerialNumber,
    time::Timestamp,
};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{
    Conn, Error,
    prepared::{Prepare as _, one_of, pieces},
    schema::{issuance_intents, jobs},
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
#[diesel(table_name = issuance_intents, treat_none_as_default_value = false, check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
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

impl From<&Intent> for IntentRow {
    fn from(intent: &Intent) -> Self {
        Self {
            job_id: intent.job_id.to_string(),
            issuer_id: intent.issuer_id.to_string(),
            serial_number: intent.serial_number.to_string(),
            not_before: At(intent.not_before),
            spki: intent.spki.clone(),
            request: Json(intent.request.clone()),
            csr_pem: intent.csr_pem.clone(),
            encrypted_private_key: intent.sealed_key.clone(),
            created_at: At(intent.created_at),
        }
    }
}

/// Records intents.
///
/// # Errors
/// [`Error::AlreadyExists`] when a job has one already, or a serial number is another job's.
pub async fn insert_all(conn: &mut Conn, intents: &[Intent]) -> Result<(), Error> {
    let rows: Vec<IntentRow> = intents.iter().map(IntentRow::from).collect();
    insert_all!(conn, issuance_intents::table, rows)
}

/// Records intents of jobs that have none yet; a job that has one keeps it.
///
/// # Errors
/// [`Error::AlreadyExists`] when a serial number is another job's.
pub async fn insert_absent(conn: &mut Conn, intents: &[Intent]) -> Result<(), Error> {
    let rows: Vec<IntentRow> = intents.iter().map(IntentRow::from).collect();
    on_conn!(conn,
        pg c => {
            for piece in pieces(&rows, 2500) {
                diesel::insert_into(issuance_intents::table)
                    .values(piece)
                    .on_conflict(issuance_intents::job_id)
                    .do_nothing()
                    .prepared()
                    .execute(c)
                    .await?;
            }
        },
        sqlite c => {
            c.spawn_blocking(move |c| {
                for row in &rows {
                    let insert = diesel::insert_into(issuance_intents::table)
                        .values(row)
                        .on_conflict(issuance_intents::job_id)
                        .do_nothing()
                        .prepared();
                    diesel::RunQueryDsl::execute(insert, c)?;
                }
                Ok(())
            })
            .await?;
        },
    );
    Ok(())
}

/// An intent of which nothing becomes a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// For which job.
    pub job_id: JobId,
    /// For which certificate.
    pub certificate_id: CertificateId,
    /// Who may have signed.
    pub issuer_id: IssuerId,
    /// Which serial number.
    pub serial_number: SerialNumber,
}

/// The intents of certificates whose jobs ended without a version and are not tried again.
///
/// # Errors
/// What the database says.
pub async fn unfinished(
    conn: &mut Conn,
    certificates: &[CertificateId],
) -> Result<Vec<Unfinished>, Error> {
    let ids: Vec<&str> = certificates.iter().map(CertificateId::as_str).collect();
    let ended = jobs::status
        .eq(JobStatus::Cancelled.as_str())
        .or(jobs::status.eq(JobStatus::Failed.as_str()).and(
            jobs::next_attempt_at
                .is_null()
                .or(jobs::attempts.ge(jobs::max_attempts)),
        ));
    let rows: Vec<(String, Option<String>, String, String)> = on_conn!(conn, c => issuance_intents::table
        .inner_join(jobs::table.on(jobs::id.eq(issuance_intents::job_id)))
        .filter(one_of(jobs::certificate_id, &ids))
        .filter(ended)
        .select((issuance_intents::job_id, jobs::certificate_id, issuance_intents::issuer_id, issuance_intents::serial_number))
        .load(c)
        .await)?;
    let mut found = Vec::with_capacity(rows.len());
    for (job, certificate, issuer, serial) in rows {
        // Asked for by certificate, so that there is one.
        let Some(certificate) = certificate else {
            continue;
        };
        found.push(Unfinished {
            job_id: JobId::from_stored(job),
            certificate_id: CertificateId::from_stored(certificate),
            issuer_id: IssuerId::from_stored(issuer),
            serial_number: SerialNumber::parse(&serial)
                .map_err(|error| Error::corrupt("issuance_intents", error))?,
        });
    }
    Ok(found)
}

/// Deletes the intents of jobs, and the sealed keys with them.
///
/// # Errors
/// What the database says.
pub async fn delete_many(conn: &mut Conn, ids: &[JobId]) -> Result<(), Error> {
    let ids: Vec<&str> = ids.iter().map(JobId::as_str).collect();
    let rows = issuance_intents::table.filter(one_of(issuance_intents::job_id, &ids));
    on_conn!(conn, c => diesel::delete(rows).execute(c).await)?;
    Ok(())
}

/// Reads the intents of jobs; most have none.
///
/// # Errors
/// What the database says.
pub async fn find_many(conn: &mut Conn, jobs: &[JobId]) -> Result<Vec<Intent>, Error> {
    let ids: Vec<&str> = jobs.iter().map(JobId::as_str).collect();
    let rows: Vec<IntentRow> = on_conn!(conn, c => issuance_intents::table
        .filter(one_of(issuance_intents::job_id, &ids))
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
