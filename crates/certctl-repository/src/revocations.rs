//! Revoked serials, and the mark that tells status services of them.
//!
//! Whatever enters rows here ends with [`mark_dirty`], in the same transaction: that raises the version of each issuer, from which
//! every replica knows that its cached OCSP answers are to be asked again and that a CRL is due.

use certctl_domain::{
    id::{CertificateId, IssuerId, RevocationId},
    revocation::{Revocation, RevocationReason, SHORT_LIVED},
    serial::SerialNumber,
    time::Timestamp,
};
use diesel::{
    prelude::*,
    sql_types::{BigInt, Text},
};
use diesel_async::RunQueryDsl;

use crate::{
    Conn, Error,
    listen::notify,
    prepared::Prepare as _,
    schema::{certificate_revocations, certificate_versions, managed_certificates},
    types::{At, UtcTimestamp},
};

/// The channel on which replicas hear that something was revoked.
pub const CHANNEL: &str = "certctl_revocations";

#[derive(Insertable)]
#[diesel(table_name = certificate_revocations)]
struct NewRow {
    id: String,
    certificate_id: String,
    issuer_id: String,
    serial_number: String,
    reason: &'static str,
    revoked_by: String,
    revoked_at: At,
    issuer_notified: bool,
    created_at: At,
}

impl From<&Revocation> for NewRow {
    fn from(revocation: &Revocation) -> Self {
        Self {
            id: revocation.id.to_string(),
            certificate_id: revocation.certificate_id.to_string(),
            issuer_id: revocation.issuer_id.to_string(),
            serial_number: revocation.serial_number.to_string(),
            reason: revocation.reason.as_str(),
            revoked_by: revocation.revoked_by.clone(),
            revoked_at: At(revocation.revoked_at),
            issuer_notified: revocation.issuer_notified,
            created_at: At(revocation.revoked_at),
        }
    }
}

/// Enters revocations and marks their issuers; a serial that is revoked already stays as it is.
///
/// # Errors
/// [`Error::Reference`] when a certificate or an issuer does not exist.
pub async fn enter(conn: &mut Conn, revocations: &[Revocation]) -> Result<(), Error> {
    let Some(last) = revocations.iter().map(|one| one.revoked_at).max() else {
        return Ok(());
    };
    let rows: Vec<NewRow> = revocations.iter().map(NewRow::from).collect();
    on_conn!(conn,
        pg c => {
            for chunk in rows.chunks(2500) {
                diesel::insert_into(certificate_revocations::table)
                    .values(chunk)
                    .on_conflict_do_nothing()
                    .execute(c)
                    .await?;
            }
        },
        sqlite c => {
            c.spawn_blocking(move |c| {
                for row in &rows {
                    let insert = diesel::insert_into(certificate_revocations::table)
                        .values(row)
                        .on_conflict_do_nothing();
                    diesel::RunQueryDsl::execute(insert, c)?;
                }
                Ok(())
            })
            .await?;
        },
    );
    let issuers: Vec<IssuerId> = revocations
        .iter()
        .map(|one| one.issuer_id.clone())
        .collect();
    mark_dirty(conn, &issuers, last).await
}

/// Marks issuers of which something was revoked: their version grows, what the new rows lack is filled in from the versions, and
/// the other replicas are told when the transaction commits. To be called last in a transaction, once for all its rows: it locks
/// one row for each issuer, in the order of their ids, so that two transactions cannot wait for each other.
///
/// # Errors
/// [`Error::Reference`] when an issuer does not exist.
pub async fn mark_dirty(
    conn: &mut Conn,
    issuers: &[IssuerId],
    now: Timestamp,
) -> Result<(), Error> {
    let mut ids: Vec<&str> = issuers.iter().map(IssuerId::as_str).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.is_empty() {
        return Ok(());
    }
    for id in &ids {
        raise_version(conn, id, now).await?;
        describe(conn, id).await?;
    }
    notify(conn, CHANNEL).await
}

async fn raise_version(conn: &mut Conn, issuer: &str, now: Timestamp) -> Result<(), Error> {
    let sql = crate::db::dialect(
        conn,
        "INSERT INTO revocation_status AS s (issuer_id, version, updated_at) VALUES ($1, 1, $2) \
         ON CONFLICT (issuer_id) DO UPDATE SET version = s.version + 1, updated_at = excluded.updated_at",
    );
    on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<Text, _>(issuer)
        .bind::<UtcTimestamp, _>(At(now))
        .prepared()
        .execute(c)
        .await)?;
    Ok(())
}

/// Fills in what the rows of an issuer do not say yet: whether the certificate is too short-lived for status services, and until
/// when its entry is on lists. Finds its rows by a partial index, so that the cost follows the new rows.
///
/// # Errors
/// What the database says.
pub async fn describe(conn: &mut Conn, issuer: &str) -> Result<usize, Error> {
    // A serial that no version has is listed for good: nobody knows when it ends.
    const PG: &str = "UPDATE certificate_revocations r SET short_lived = d.is_short, \
         listed_until = CASE WHEN d.is_short THEN NULL WHEN d.ends IS NULL THEN timestamptz '9999-12-31 00:00:00+00' \
             ELSE GREATEST(d.ends, d.revoked_at) END \
         FROM (SELECT n.id, n.revoked_at, v.not_after AS ends, \
                 COALESCE(v.not_after < v.not_before + $2 * interval '1 microsecond', false) AS is_short \
             FROM certificate_revocations n LEFT JOIN certificate_versions v \
               ON v.issuer_id = n.issuer_id AND v.serial_number = n.serial_number \
             WHERE n.short_lived IS NULL AND n.issuer_id = $1) d \
         WHERE r.id = d.id";
    const SQLITE: &str = "UPDATE certificate_revocations SET short_lived = d.is_short, \
         listed_until = CASE WHEN d.is_short THEN NULL WHEN d.ends IS NULL THEN 253402214400000000 \
             ELSE max(d.ends, d.revoked_at) END \
         FROM (SELECT n.id, n.revoked_at, v.not_after AS ends, COALESCE(v.not_after < v.not_before + ?2, 0) AS is_short \
             FROM certificate_revocations n LEFT JOIN certificate_versions v \
               ON v.issuer_id = n.issuer_id AND v.serial_number = n.serial_number \
             WHERE n.short_lived IS NULL AND n.issuer_id = ?1) d \
         WHERE certificate_revocations.id = d.id";
    let limit = i64::try_from(SHORT_LIVED.as_micros()).unwrap_or(i64::MAX);
    let described = on_conn!(conn,
        pg c => diesel::sql_query(PG).bind::<Text, _>(issuer).bind::<BigInt, _>(limit).prepared().execute(c).await,
        sqlite c => diesel::sql_query(SQLITE).bind::<Text, _>(issuer).bind::<BigInt, _>(limit).prepared().execute(c).await,
    )?;
    Ok(described)
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

/// What revoking a certificate revokes.
///
/// The latest version, whenever it ends, and every other one that is still valid: whoever holds an older version's key can be
/// taken for the certificate's owner as well as whoever holds the latest. Versions whose signer is not recorded are taken to be
/// of the certificate's issuer.
///
/// # Errors
/// What the database says.
pub async fn revocable(
    conn: &mut Conn,
    certificate: &CertificateId,
    now: Timestamp,
) -> Result<Vec<(IssuerId, SerialNumber)>, Error> {
    use certificate_versions as v;
    let rows: Vec<(Option<String>, String, String, At)> = on_conn!(conn, c => v::table
        .inner_join(managed_certificates::table.on(managed_certificates::id.eq(v::certificate_id)))
        .filter(v::certificate_id.eq(certificate.as_str()))
        .order((v::created_at.desc(), v::id.desc()))
        .select((v::issuer_id, managed_certificates::issuer_id, v::serial_number, v::not_after))
        .load(c)
        .await)?;
    rows.into_iter()
        .enumerate()
        .filter(|(place, (.., not_after))| *place == 0 || not_after.0 >= now)
        .map(|(_, (signer, issuer, serial, _))| {
            let issuer = signer.filter(|id| !id.is_empty()).unwrap_or(issuer);
            let serial = SerialNumber::parse(&serial)
                .map_err(|error| Error::corrupt("certificate_versions", error))?;
            Ok((IssuerId::from_stored(issuer), serial))
        })
        .collect()
}

/// What is known of a serial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// A version has it, and it is not revoked; nor is it told when it is too short-lived to be.
    Good,
    /// It is revoked.
    Revoked {
        /// Since when.
        at: Timestamp,
        /// Why.
        reason: RevocationReason,
    },
    /// Nothing has it.
    Unknown,
}

/// What is known of serials of an issuer, in their order: one query where all are revoked, otherwise up to three.
///
/// # Errors
/// What the database says.
pub async fn standings(
    conn: &mut Conn,
    issuer: &IssuerId,
    serials: &[SerialNumber],
) -> Result<Vec<Standing>, Error> {
    use certificate_revocations as r;
    use certificate_versions as v;
    let asked: Vec<&str> = serials.iter().map(SerialNumber::as_str).collect();
    let revoked: Vec<(String, String, At, Option<bool>)> = on_conn!(conn, c => r::table
        .filter(r::issuer_id.eq(issuer.as_str()))
        .filter(r::serial_number.eq_any(&asked))
        .select((r::serial_number, r::reason, r::revoked_at, r::short_lived))
        .load(c)
        .await)?;
    let mut standings = vec![Standing::Unknown; serials.len()];
    for (serial, reason, at, short_lived) in revoked {
        let standing = if short_lived == Some(true) {
            Standing::Good
        } else {
            let reason = RevocationReason::parse(&reason)
                .map_err(|error| Error::corrupt("certificate_revocations", error))?;
            Standing::Revoked { at: at.0, reason }
        };
        set(&mut standings, serials, &serial, standing);
    }
    let open: Vec<&str> = asked
        .iter()
        .zip(&standings)
        .filter(|(_, standing)| **standing == Standing::Unknown)
        .map(|(serial, _)| *serial)
        .collect();
    if open.is_empty() {
        return Ok(standings);
    }
    let of_serials = || {
        v::table
            .filter(v::serial_number.eq_any(&open))
            .select(v::serial_number)
    };
    let mut known: Vec<String> =
        on_conn!(conn, c => of_serials().filter(v::issuer_id.eq(issuer.as_str())).load(c).await)?;
    if known.len() < open.len() {
        // Versions that older programs wrote do not say who signed; the certificate's issuer is the best that is known.
        let unsigned: Vec<String> = on_conn!(conn, c => v::table
            .inner_join(managed_certificates::table.on(managed_certificates::id.eq(v::certificate_id)))
            .filter(v::issuer_id.is_null())
            .filter(v::serial_number.eq_any(&open))
            .filter(managed_certificates::issuer_id.eq(issuer.as_str()))
            .select(v::serial_number)
            .load(c)
            .await)?;
        known.extend(unsigned);
    }
    for serial in known {
        set(&mut standings, serials, &serial, Standing::Good);
    }
    Ok(standings)
}

fn set(standings: &mut [Standing], serials: &[SerialNumber], serial: &str, standing: Standing) {
    for (place, one) in standings.iter_mut().zip(serials) {
        if one.as_str() == serial {
            *place = standing;
        }
    }
}
