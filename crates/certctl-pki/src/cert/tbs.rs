//! Putting the part of a certificate together that is signed.

use certctl_domain::time::Timestamp;
use x509_cert::{
    der::{DateTime, Encode, Tag, TagNumber},
    time::Time,
};

use crate::{Error, asn1, key::SignatureAlgorithm};

/// The fields of a `TBSCertificate` (RFC 5280 §4.1), each as DER.
#[derive(Clone)]
pub(crate) struct Tbs<'a> {
    pub(crate) serial: Vec<u8>,
    pub(crate) signature: SignatureAlgorithm,
    pub(crate) issuer: &'a [u8],
    pub(crate) validity: Vec<u8>,
    pub(crate) subject: Vec<u8>,
    pub(crate) spki: &'a [u8],
    /// Whole extensions in their order.
    pub(crate) extensions: Vec<Vec<u8>>,
}

impl Tbs<'_> {
    pub(crate) fn to_der(&self) -> Vec<u8> {
        let extensions: Vec<&[u8]> = self.extensions.iter().map(Vec::as_slice).collect();
        asn1::sequence(&[
            // `[0] EXPLICIT INTEGER 2`: version 3, because there are extensions.
            &[0xa0, 0x03, 0x02, 0x01, 0x02],
            &self.serial,
            self.signature.to_der(),
            self.issuer,
            &self.validity,
            &self.subject,
            self.spki,
            &asn1::tlv(
                Tag::ContextSpecific {
                    constructed: true,
                    number: TagNumber(3),
                },
                &[&asn1::sequence(&extensions)],
            ),
        ])
    }
}

/// `Validity` with UTCTime up to 2049 and GeneralizedTime from 2050 on (RFC 5280 §4.1.2.5).
pub(crate) fn validity(not_before: Timestamp, not_after: Timestamp) -> Result<Vec<u8>, Error> {
    Ok(asn1::sequence(&[&time(not_before)?, &time(not_after)?]))
}

/// UTCTime up to 2049 and GeneralizedTime from 2050 on, in whole seconds.
pub(crate) fn time(at: Timestamp) -> Result<Vec<u8>, Error> {
    const OUT_OF_RANGE: Error = Error::malformed("time");
    // X.509 could say years before 1970 too, but nothing that is issued now starts there.
    let seconds = u64::try_from(at.as_seconds()).map_err(|_| OUT_OF_RANGE)?;
    let date = DateTime::from_unix_duration(std::time::Duration::from_secs(seconds))
        .map_err(|_| OUT_OF_RANGE)?;
    Time::from(date).to_der().map_err(|_| OUT_OF_RANGE)
}
