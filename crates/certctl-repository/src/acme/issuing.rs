//! What becomes of orders when the certificates they lead to are issued, or are not.

use certctl_domain::{
    acme::{AcmeAccountId, AcmeOrderId, Problem},
    id::{CertificateId, IssuerId},
    serial::SerialNumber,
    time::Timestamp,
};
use diesel::{
    QueryableByName,
    sql_types::{BigInt, Nullable, Text},
};
use diesel_async::RunQueryDsl;
use serde_json::json;

use super::stored;
use crate::{
    Conn, Error,
    jobs::complete::Batch,
    prepared::Prepare as _,
    types::{At, Json, JsonDoc, UtcTimestamp},
};

/// An order that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Which.
    pub order_id: AcmeOrderId,
    /// Whose.
    pub account_id: AcmeAccountId,
    /// What it led to.
    pub certificate_id: CertificateId,
    /// Whether there is a certificate.
    pub is_valid: bool,
}

#[derive(QueryableByName)]
struct EndedRow {
    #[diesel(sql_type = Text)]
    id: String,
    #[diesel(sql_type = Text)]
    account_id: String,
    #[diesel(sql_type = Nullable<Text>)]
    certificate_id: Option<String>,
    #[diesel(sql_type = Text)]
    status: String,
}

impl From<EndedRow> for Ended {
    fn from(row: EndedRow) -> Self {
        Self {
            order_id: AcmeOrderId::from_stored(row.id),
            account_id: AcmeAccountId::from_stored(row.account_id),
            certificate_id: CertificateId::from_stored(row.certificate_id.unwrap_or_default()),
            is_valid: row.status == "valid",
        }
    }
}

const RETURNED: &str = "RETURNING acme_orders.id, acme_orders.account_id, acme_orders.certificate_id, acme_orders.status";

/// Makes the orders of certificates valid that are processing; to be called in the transaction that stores what was issued.
///
/// # Errors
/// What the database says.
pub async fn succeed(
    conn: &mut Conn,
    certificates: &[CertificateId],
    now: Timestamp,
) -> Result<Vec<Ended>, Error> {
    end(conn, certificates, None, now).await
}

/// Makes the orders of certificates invalid that are processing; to be called in the transaction that gives up issuing.
///
/// # Errors
/// What the database says.
pub async fn fail(
    conn: &mut Conn,
    certificates: &[CertificateId],
    error: &Problem,
    now: Timestamp,
) -> Result<Vec<Ended>, Error> {
    end(conn, certificates, Some(error), now).await
}

async fn end(
    conn: &mut Conn,
    certificates: &[CertificateId],
    error: Option<&Problem>,
    now: Timestamp,
) -> Result<Vec<Ended>, Error> {
    if certificates.is_empty() {
        return Ok(Vec::new());
    }
    let rows = certificates
        .iter()
        .map(|id| json!({"cert": id.as_str()}))
        .collect();
    let batch = Batch::new(conn, &[("cert", "text")], rows);
    let sql = batch.statement(
        conn,
        &format!(
            "UPDATE acme_orders SET status = $3, error = $4, updated_at = $2 FROM {{batch}} \
             WHERE acme_orders.certificate_id = b.cert AND acme_orders.certificate_id IS NOT NULL AND status = 'processing' {RETURNED}"
        ),
    );
    let (status, error) = match error {
        None => ("valid", None),
        Some(problem) => ("invalid", Some(Json(stored::problem(problem)))),
    };
    let rows: Vec<EndedRow> = on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<JsonDoc, _>(&batch.rows)
        .bind::<UtcTimestamp, _>(At(now))
        .bind::<Text, _>(status)
        .bind::<Nullable<JsonDoc>, _>(&error)
        .prepared()
        .load(c)
        .await)?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// Ends up to `limit` orders that are processing while their jobs have ended otherwise: called off, not approved in time, or given
/// up by a sweep. What has a version is valid whatever became of the job.
///
/// # Errors
/// What the database says.
pub async fn reconcile(
    conn: &mut Conn,
    error: &Problem,
    limit: i64,
    now: Timestamp,
) -> Result<Vec<Ended>, Error> {
    let error_bind = match conn {
        Conn::Postgres(_) => "CAST($1 AS jsonb)",
        Conn::Sqlite(_) => "$1",
    };
    let sql = format!(
        "UPDATE acme_orders SET updated_at = $2, \
            status = CASE WHEN EXISTS (SELECT 1 FROM certificate_versions v WHERE v.certificate_id = acme_orders.certificate_id) THEN 'valid' ELSE 'invalid' END, \
            error = CASE WHEN EXISTS (SELECT 1 FROM certificate_versions v WHERE v.certificate_id = acme_orders.certificate_id) THEN NULL ELSE {error_bind} END \
         WHERE status = 'processing' AND id IN (SELECT o.id FROM acme_orders o LEFT JOIN jobs j ON j.id = o.job_id \
            WHERE o.status = 'processing' AND (j.id IS NULL OR j.status IN ('Completed', 'Cancelled') \
                OR (j.status = 'Failed' AND (j.next_attempt_at IS NULL OR j.attempts >= j.max_attempts))) \
            ORDER BY o.updated_at LIMIT $3) {RETURNED}"
    );
    let sql = match conn {
        Conn::Postgres(_) => sql,
        Conn::Sqlite(_) => sql.replace('$', "?"),
    };
    let error = Json(stored::problem(error));
    let rows: Vec<EndedRow> = on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<JsonDoc, _>(&error)
        .bind::<UtcTimestamp, _>(At(now))
        .bind::<BigInt, _>(limit)
        .prepared()
        .load(c)
        .await)?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// A version of a certificate, with what decides about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedVersion {
    /// Of which certificate.
    pub certificate_id: CertificateId,
    /// Who signed.
    pub issuer_id: IssuerId,
    /// The serial number.
    pub serial_number: SerialNumber,
    /// The start of validity.
    pub not_before: Timestamp,
    /// The end of validity.
    pub not_after: Timestamp,
    /// Leaf first, then the chain.
    pub pem_chain: String,
    /// Whether it is the latest of its certificate.
    pub is_latest: bool,
    /// Whether it is revoked.
    pub is_revoked: bool,
    /// How many days before its end its policy renews it.
    pub renewal_window_days: u32,
    /// The order it came from, and whose that is.
    pub ordered: Option<(AcmeOrderId, AcmeAccountId)>,
}

#[derive(QueryableByName)]
struct VersionRow {
    #[diesel(sql_type = Text)]
    certificate_id: String,
    #[diesel(sql_type = Text)]
    issuer_id: String,
    #[diesel(sql_type = Text)]
    serial_number: String,
    #[diesel(sql_type = UtcTimestamp)]
    not_before: At,
    #[diesel(sql_type = UtcTimestamp)]
    not_after: At,
    #[diesel(sql_type = Text)]
    pem_chain: String,
    #[diesel(sql_type = diesel::sql_types::Bool)]
    is_latest: bool,
    #[diesel(sql_type = diesel::sql_types::Bool)]
    is_revoked: bool,
    #[diesel(sql_type = BigInt)]
    renewal_window_days: i64,
    #[diesel(sql_type = Nullable<Text>)]
    order_id: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    account_id: Option<String>,
}

impl TryFrom<VersionRow> for IssuedVersion {
    type Error = Error;

    fn try_from(row: VersionRow) -> Result<Self, Error> {
        let ordered = row.order_id.zip(row.account_id);
        Ok(Self {
            certificate_id: CertificateId::from_stored(row.certificate_id),
            issuer_id: IssuerId::from_stored(row.issuer_id),
            serial_number: SerialNumber::parse(&row.serial_number)
                .map_err(|error| Error::corrupt("certificate_versions", error))?,
            not_before: row.not_before.0,
            not_after: row.not_after.0,
            pem_chain: row.pem_chain,
            is_latest: row.is_latest,
            is_revoked: row.is_revoked,
            renewal_window_days: u32::try_from(row.renewal_window_days).unwrap_or(0),
            ordered: ordered.map(|(order, account)| {
                (
                    AcmeOrderId::from_stored(order),
                    AcmeAccountId::from_stored(account),
                )
            }),
        })
    }
}

const VERSION: &str = "SELECT v.certificate_id, COALESCE(NULLIF(v.issuer_id, ''), m.issuer_id) AS issuer_id, v.serial_number, \
        v.not_before, v.not_after, v.pem_chain, \
        v.id = (SELECT w.id FROM certificate_versions w WHERE w.certificate_id = v.certificate_id \
            ORDER BY w.created_at DESC, w.id DESC LIMIT 1) AS is_latest, \
        EXISTS (SELECT 1 FROM certificate_revocations r WHERE r.issuer_id = COALESCE(NULLIF(v.issuer_id, ''), m.issuer_id) \
            AND r.serial_number = v.serial_number) AS is_revoked, \
        CAST(p.renewal_window_days AS BIGINT) AS renewal_window_days, o.id AS order_id, o.account_id \
    FROM certificate_versions v JOIN managed_certificates m ON m.id = v.certificate_id \
        JOIN renewal_policies p ON p.id = m.renewal_policy_id \
        LEFT JOIN acme_orders o ON o.certificate_id = m.id AND o.certificate_id IS NOT NULL WHERE ";

/// The version with a serial number that an issuer signed.
///
/// # Errors
/// What the database says.
pub async fn by_serial(
    conn: &mut Conn,
    issuer: &IssuerId,
    serial: &SerialNumber,
) -> Result<Option<IssuedVersion>, Error> {
    let sql = [VERSION, "v.issuer_id = $1 AND v.serial_number = $2"].concat();
    let sql = match conn {
        Conn::Postgres(_) => sql,
        Conn::Sqlite(_) => sql.replace('$', "?"),
    };
    let rows: Vec<VersionRow> = on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<Text, _>(issuer.as_str())
        .bind::<Text, _>(serial.as_str())
        .prepared()
        .load(c)
        .await)?;
    rows.into_iter().next().map(TryInto::try_into).transpose()
}

/// The version that is exactly this certificate: by the SHA-256 of its DER, lowercase hex.
///
/// # Errors
/// What the database says.
pub async fn by_fingerprint(
    conn: &mut Conn,
    fingerprint: &str,
) -> Result<Option<IssuedVersion>, Error> {
    let sql = [VERSION, "v.fingerprint_sha256 = $1"].concat();
    let sql = match conn {
        Conn::Postgres(_) => sql,
        Conn::Sqlite(_) => sql.replace('$', "?"),
    };
    let rows: Vec<VersionRow> = on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<Text, _>(fingerprint)
        .prepared()
        .load(c)
        .await)?;
    rows.into_iter().next().map(TryInto::try_into).transpose()
}

/// A certificate to be downloaded: whose order it is of, who signed it, and its chain.
///
/// # Errors
/// What the database says.
pub async fn download(
    conn: &mut Conn,
    id: &CertificateId,
) -> Result<Option<(AcmeAccountId, IssuerId, String)>, Error> {
    use diesel::{
        ExpressionMethods as _, JoinOnDsl as _, NullableExpressionMethods as _,
        OptionalExtension as _, QueryDsl as _,
    };

    use crate::schema::{acme_orders as o, certificate_versions as v};
    let row: Option<(String, String, String)> = on_conn!(conn, c => RunQueryDsl::first(o::table
        .inner_join(v::table.on(v::certificate_id.nullable().eq(o::certificate_id)))
        .filter(o::certificate_id.eq(Some(id.as_str())))
        .filter(o::status.eq("valid"))
        .order((v::created_at.desc(), v::id.desc()))
        .select((o::account_id, o::issuer_id, v::pem_chain)), c)
        .await
        .optional())?;
    Ok(row.map(|(account, issuer, chain)| {
        let account = AcmeAccountId::from_stored(account);
        (account, IssuerId::from_stored(issuer), chain)
    }))
}
