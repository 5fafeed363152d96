//! Issued versions of certificates.

use certctl_domain::{
    certificate::CertificateVersion,
    id::{CertificateId, CertificateVersionId, IssuerId},
    page::{Page, PageRequest},
    serial::SerialNumber,
};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{Conn, Error, schema::certificate_versions, types::At};

#[derive(Queryable, Selectable)]
#[diesel(table_name = certificate_versions, check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
struct VersionRow {
    id: String,
    certificate_id: String,
    issuer_id: Option<String>,
    serial_number: String,
    not_before: At,
    not_after: At,
    fingerprint_sha256: String,
    pem_chain: String,
    csr_pem: String,
    key_algorithm: String,
    key_size: i32,
    created_at: At,
}

impl TryFrom<VersionRow> for CertificateVersion {
    type Error = Error;

    fn try_from(row: VersionRow) -> Result<Self, Error> {
        Ok(Self {
            id: CertificateVersionId::from_stored(row.id),
            certificate_id: CertificateId::from_stored(row.certificate_id),
            issuer_id: IssuerId::from_stored(row.issuer_id.unwrap_or_default()),
            serial_number: SerialNumber::parse(&row.serial_number)
                .map_err(|error| Error::corrupt("certificate_versions", error))?,
            not_before: row.not_before.0,
            not_after: row.not_after.0,
            fingerprint_sha256: row.fingerprint_sha256,
            pem_chain: row.pem_chain,
            csr_pem: row.csr_pem,
            key_algorithm: row.key_algorithm,
            key_size: row.key_size.unsigned_abs(),
            created_at: row.created_at.0,
        })
    }
}

/// Reads one page of a certificate's versions, newest first.
///
/// # Errors
/// What the database says.
pub async fn list(
    conn: &mut Conn,
    certificate: &CertificateId,
    page: PageRequest,
) -> Result<Page<CertificateVersion>, Error> {
    use certificate_versions as v;
    let of = || v::table.filter(v::certificate_id.eq(certificate.as_str()));
    let rows: Vec<VersionRow> = on_conn!(conn, c => of()
        .select(VersionRow::as_select())
        .order((v::created_at.desc(), v::id.desc()))
        .limit(page.limit())
        .offset(page.offset())
        .load(c)
        .await)?;
    let total: i64 = on_conn!(conn, c => of().count().get_result(c).await)?;
    let rows = rows
        .into_iter()
        .map(TryInto::try_into)
        .collect::<Result<_, Error>>()?;
    Ok(Page { rows, total })
}

/// Reads the latest version of a certificate.
///
/// # Errors
/// What the database says.
pub async fn latest(
    conn: &mut Conn,
    certificate: &CertificateId,
) -> Result<Option<CertificateVersion>, Error> {
    use certificate_versions as v;
    let row: Option<VersionRow> = on_conn!(conn, c => v::table
        .filter(v::certificate_id.eq(certificate.as_str()))
        .select(VersionRow::as_select())
        .order((v::created_at.desc(), v::id.desc()))
        .first(c)
        .await
        .optional())?;
    row.map(TryInto::try_into).transpose()
}

/// The sealed private key of a version that the server made the key for.
///
/// # Errors
/// [`Error::NotFound`] when there is no such version.
pub async fn sealed_key(
    conn: &mut Conn,
    id: &CertificateVersionId,
) -> Result<Option<Vec<u8>>, Error> {
    use certificate_versions as v;
    Ok(
        on_conn!(conn, c => v::table.find(id.as_str()).select(v::encrypted_private_key).first(c).await)?,
    )
}
