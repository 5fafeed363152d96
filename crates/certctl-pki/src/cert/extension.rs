//! Extensions, each as the DER of one whole `Extension` (RFC 5280 §4.1.2.9).

use certctl_domain::{name::SubjectAltName, profile::ExtendedKeyUsage};
use x509_cert::{
    der::{
        Encode, Tag,
        asn1::OctetString,
        oid::{ObjectIdentifier, db::rfc5280 as oid},
    },
    ext::pkix::{
        AccessDescription, AuthorityInfoAccessSyntax, AuthorityKeyIdentifier, BasicConstraints,
        CrlDistributionPoints, KeyUsage, KeyUsages, crl::dp::DistributionPoint,
        name::DistributionPointName,
    },
};

use crate::{Error, asn1, general_name};

/// `id-pe-tlsfeature` (RFC 7633 §3).
pub(crate) const MUST_STAPLE_OID: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.1.24");
/// `SEQUENCE { 5 }`: the feature `status_request` (protocols §5).
pub(crate) const MUST_STAPLE_VALUE: &[u8] = &[0x30, 0x03, 0x02, 0x01, 0x05];

pub(crate) fn subject_alt_names(
    sans: &[SubjectAltName],
    is_critical: bool,
) -> Result<Vec<u8>, Error> {
    Ok(whole(
        oid::ID_CE_SUBJECT_ALT_NAME,
        is_critical,
        &general_name::encode(sans)?,
    ))
}

pub(crate) fn must_staple() -> Vec<u8> {
    whole(MUST_STAPLE_OID, false, MUST_STAPLE_VALUE)
}

/// §4.2.1.9; `None` is no CA. Critical for CAs, and for leaves because nothing is lost by it.
pub(crate) fn basic_constraints(ca: Option<Option<u8>>) -> Result<Vec<u8>, Error> {
    let value = BasicConstraints {
        ca: ca.is_some(),
        path_len_constraint: ca.flatten(),
    };
    Ok(whole(oid::ID_CE_BASIC_CONSTRAINTS, true, &der(&value)?))
}

/// §4.2.1.3.
pub(crate) fn key_usage(usages: KeyUsageSet) -> Result<Vec<u8>, Error> {
    Ok(whole(oid::ID_CE_KEY_USAGE, true, &der(&KeyUsage(usages))?))
}

pub(crate) type KeyUsageSet = x509_cert::der::flagset::FlagSet<KeyUsages>;

/// §4.2.1.12.
pub(crate) fn extended_key_usage(usages: &[ExtendedKeyUsage]) -> Vec<u8> {
    let ids: Vec<u8> = usages
        .iter()
        .flat_map(|usage| asn1::tlv(Tag::ObjectIdentifier, &[eku_oid(*usage).as_bytes()]))
        .collect();
    whole(oid::ID_CE_EXT_KEY_USAGE, false, &asn1::sequence(&[&ids]))
}

/// The object identifiers of protocols §5.
pub(crate) const fn eku_oid(usage: ExtendedKeyUsage) -> ObjectIdentifier {
    match usage {
        ExtendedKeyUsage::ServerAuth => oid::ID_KP_SERVER_AUTH,
        ExtendedKeyUsage::ClientAuth => oid::ID_KP_CLIENT_AUTH,
        ExtendedKeyUsage::CodeSigning => oid::ID_KP_CODE_SIGNING,
        ExtendedKeyUsage::EmailProtection => oid::ID_KP_EMAIL_PROTECTION,
        ExtendedKeyUsage::TimeStamping => oid::ID_KP_TIME_STAMPING,
    }
}

/// `id-kp-OCSPSigning` alone (RFC 6960 §4.2.2.2).
pub(crate) fn ocsp_signing() -> Vec<u8> {
    let id = asn1::tlv(Tag::ObjectIdentifier, &[oid::ID_KP_OCSP_SIGNING.as_bytes()]);
    whole(oid::ID_CE_EXT_KEY_USAGE, false, &asn1::sequence(&[&id]))
}

/// `id-pkix-ocsp-nocheck` (RFC 6960 §4.2.2.2.1).
pub(crate) const OCSP_NOCHECK_OID: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.5");

/// Tells verifiers not to ask whether the responder itself is revoked, which would lead in a circle; it lives for weeks only.
pub(crate) fn ocsp_nocheck() -> Vec<u8> {
    whole(OCSP_NOCHECK_OID, false, &[0x05, 0x00])
}

/// §4.2.1.2.
pub(crate) fn subject_key_id(id: &[u8]) -> Vec<u8> {
    whole(
        oid::ID_CE_SUBJECT_KEY_IDENTIFIER,
        false,
        &asn1::tlv(Tag::OctetString, &[id]),
    )
}

/// §4.2.1.1, by key identifier alone.
pub(crate) fn authority_key_id(id: &[u8]) -> Result<Vec<u8>, Error> {
    let value = AuthorityKeyIdentifier {
        key_identifier: Some(OctetString::new(id).map_err(|_| Error::malformed("key identifier"))?),
        ..AuthorityKeyIdentifier::default()
    };
    Ok(whole(
        oid::ID_CE_AUTHORITY_KEY_IDENTIFIER,
        false,
        &der(&value)?,
    ))
}

/// §4.2.1.13: one distribution point per URL, since they are independent places.
pub(crate) fn crl_distribution_points(urls: &[String]) -> Result<Vec<u8>, Error> {
    let points = urls
        .iter()
        .map(|url| {
            Ok(DistributionPoint {
                distribution_point: Some(DistributionPointName::FullName(vec![general_name::uri(
                    url,
                )?])),
                reasons: None,
                crl_issuer: None,
            })
        })
        .collect::<Result<Vec<_>, Error>>()?;
    let value = CrlDistributionPoints(points);
    Ok(whole(
        oid::ID_CE_CRL_DISTRIBUTION_POINTS,
        false,
        &der(&value)?,
    ))
}

/// §4.2.2.1.
pub(crate) fn authority_info_access(ocsp: &[String], issuers: &[String]) -> Result<Vec<u8>, Error> {
    let ocsp = ocsp.iter().map(|url| (ID_AD_OCSP, url));
    let issuers = issuers.iter().map(|url| (ID_AD_CA_ISSUERS, url));
    let descriptions = ocsp
        .chain(issuers)
        .map(|(access_method, url)| {
            Ok(AccessDescription {
                access_method,
                access_location: general_name::uri(url)?,
            })
        })
        .collect::<Result<Vec<_>, Error>>()?;
    let value = AuthorityInfoAccessSyntax(descriptions);
    Ok(whole(
        oid::ID_PE_AUTHORITY_INFO_ACCESS,
        false,
        &der(&value)?,
    ))
}

const ID_AD_OCSP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1");
const ID_AD_CA_ISSUERS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.2");

fn der(value: &impl Encode) -> Result<Vec<u8>, Error> {
    value.to_der().map_err(|_| Error::malformed("extension"))
}

pub(crate) fn whole(id: ObjectIdentifier, is_critical: bool, value: &[u8]) -> Vec<u8> {
    let id = asn1::tlv(Tag::ObjectIdentifier, &[id.as_bytes()]);
    let value = asn1::tlv(Tag::OctetString, &[value]);
    // DEFAULT FALSE is left out (X.690 §11.5).
    let critical: &[u8] = if is_critical {
        &[0x01, 0x01, 0xff]
    } else {
        &[]
    };
    asn1::sequence(&[&id, critical, &value])
}
