//! Reading responses, as verifiers do.

use certctl_domain::{revocation::RevocationReason, time::Timestamp};
use x509_cert::der::{Decode as _, asn1::GeneralizedTime};

use super::{CertId, CertStatus, Failure, NONCE_OID, ResponderId, Status};
use crate::{
    Error,
    asn1::{self, Reader},
    cert::ParsedCertificate,
    crl::reason_of,
    key::SignatureAlgorithm,
};

const WHAT: &str = "OCSP response";

/// A response that was read. Reading it proves nothing: see [`ParsedResponse::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedResponse {
    /// What became of the request; of a failure there is nothing below.
    pub status: Status,
    /// Who says that it answers.
    pub responder: Option<ResponderId>,
    /// When.
    pub produced_at: Option<Timestamp>,
    /// What is said of each certificate: status, since when that is known, when to ask again.
    pub answers: Vec<(CertId, CertStatus, Timestamp, Option<Timestamp>)>,
    /// The nonce that is repeated.
    pub nonce: Option<Vec<u8>>,
    /// The certificates it brings.
    pub certificates: Vec<ParsedCertificate>,
    data: Vec<u8>,
    algorithm: Vec<u8>,
    signature: Vec<u8>,
}

impl ParsedResponse {
    /// Reads a response.
    ///
    /// # Errors
    /// [`Error::Malformed`] for bad DER and for responses of another kind than `id-pkix-ocsp-basic`.
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        let mut outer = Reader::sequence(der, WHAT)?;
        let mut response = Self {
            status: Status::Successful,
            responder: None,
            produced_at: None,
            answers: Vec::new(),
            nonce: None,
            certificates: Vec::new(),
            data: Vec::new(),
            algorithm: Vec::new(),
            signature: Vec::new(),
        };
        match outer.required(0x0a)? {
            [0] => {}
            [code] => {
                let failure = Failure::ALL
                    .into_iter()
                    .find(|failure| failure.code() == *code);
                response.status = Status::Failed(failure.ok_or(Error::malformed(WHAT))?);
                outer.end()?;
                return Ok(response);
            }
            _ => return Err(Error::malformed(WHAT)),
        }
        let mut bytes = Reader::sequence(outer.required(0xa0)?, WHAT)?;
        outer.end()?;
        bytes.required(0x06)?;
        let mut basic = Reader::sequence(bytes.required(0x04)?, WHAT)?;
        bytes.end()?;
        let data = basic.any()?;
        response.data = data.to_vec();
        response.algorithm = basic.any()?.to_vec();
        let [0, signature @ ..] = basic.required(0x03)? else {
            return Err(Error::malformed(WHAT));
        };
        response.signature = signature.to_vec();
        if let Some(certificates) = basic.optional(0xa0)? {
            response.certificates = asn1::elements(certificates, WHAT)?
                .into_iter()
                .map(ParsedCertificate::from_der)
                .collect::<Result<_, _>>()?;
        }
        basic.end()?;
        response.read_data(data)?;
        Ok(response)
    }

    fn read_data(&mut self, data: &[u8]) -> Result<(), Error> {
        let mut fields = Reader::sequence(data, WHAT)?;
        self.responder = Some(if let Some(name) = fields.optional(0xa1)? {
            ResponderId::ByName(name.to_vec())
        } else {
            let hash = Reader::new(fields.required(0xa2)?, WHAT).required(0x04)?;
            ResponderId::ByKey(hash.try_into().map_err(|_| Error::malformed(WHAT))?)
        });
        self.produced_at = Some(time(fields.any()?)?);
        self.answers = asn1::elements(fields.any()?, WHAT)?
            .into_iter()
            .map(answer)
            .collect::<Result<_, _>>()?;
        if let Some(extensions) = fields.optional(0xa1)? {
            for one in asn1::elements(extensions, WHAT)? {
                let (id, _, value) = asn1::extension(one, WHAT)?;
                if id == NONCE_OID {
                    self.nonce = Some(Reader::new(value, WHAT).required(0x04)?.to_vec());
                }
            }
        }
        fields.end()
    }

    /// Checks that `ca` stands behind it at `now`: it signed itself, or the one who signed brings a certificate of it for OCSP that
    /// is valid (§4.2.2.2).
    ///
    /// # Errors
    /// [`Error::BadSignature`], and what is wrong with keys and algorithms.
    pub fn verify(&self, ca: &ParsedCertificate, now: Timestamp) -> Result<(), Error> {
        const OCSP_SIGNING: &str = "1.3.6.1.5.5.7.3.9";
        let responder = self.responder.as_ref().ok_or(Error::BadSignature)?;
        let is_named = |certificate: &&ParsedCertificate| match responder {
            ResponderId::ByName(_) => ResponderId::by_name(certificate) == *responder,
            ResponderId::ByKey(_) => certificate
                .public_key()
                .is_ok_and(|key| ResponderId::by_key(key) == *responder),
        };
        let mut all = self.certificates.iter().chain([ca]);
        let signer = all.find(is_named).ok_or(Error::BadSignature)?;
        if signer != ca {
            signer.verify_signed_by(ca)?;
            let may = signer
                .extended_key_usages()
                .iter()
                .any(|usage| usage == OCSP_SIGNING);
            if !may || !signer.is_valid_at(now) {
                return Err(Error::BadSignature);
            }
        }
        let algorithm = SignatureAlgorithm::from_der(&self.algorithm)?;
        signer
            .public_key()?
            .verify(algorithm, &self.data, &self.signature)
    }
}

fn answer(der: &[u8]) -> Result<(CertId, CertStatus, Timestamp, Option<Timestamp>), Error> {
    let mut fields = Reader::sequence(der, WHAT)?;
    let id = CertId::from_der(fields.any()?)?;
    let status = if fields.optional(0x80)?.is_some() {
        CertStatus::Good
    } else if fields.optional(0x82)?.is_some() {
        CertStatus::Unknown
    } else {
        let mut info = Reader::new(fields.required(0xa1)?, WHAT);
        let at = time(info.any()?)?;
        let reason = info
            .optional(0xa0)?
            .map_or(Ok(RevocationReason::Unspecified), reason_of)?;
        info.end()?;
        CertStatus::Revoked { at, reason }
    };
    let this_update = time(fields.any()?)?;
    let next_update = fields.optional(0xa0)?.map(time).transpose()?;
    Ok((id, status, this_update, next_update))
}

fn time(der: &[u8]) -> Result<Timestamp, Error> {
    let time = GeneralizedTime::from_der(der).map_err(|_| Error::malformed(WHAT))?;
    let seconds = i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
    Ok(Timestamp::from_seconds(seconds))
}
