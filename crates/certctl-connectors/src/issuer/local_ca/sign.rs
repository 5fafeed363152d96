//! Signing what is asked for.

use std::{borrow::Cow, thread, time::Duration};

use certctl_domain::{
    ports::issuer::{IssuanceRequest, IssuedCertificate, IssuerError},
    profile::ExtendedKeyUsage,
    revocation::{Shard, is_short_lived},
    serial::SerialNumber,
    time::Timestamp,
};
use certctl_pki::{
    Error,
    cert::{CertificateSpec, SignedCertificate},
};

use super::{Inner, names::alternative_names};

/// Below this many requests a thread costs more than it signs.
const LEAST_PER_THREAD: usize = 16;
const DEFAULT_EKUS: [ExtendedKeyUsage; 2] =
    [ExtendedKeyUsage::ServerAuth, ExtendedKeyUsage::ClientAuth];

type Outcome = Result<IssuedCertificate, IssuerError>;

/// Signs a batch on as many threads as the machine runs at once; the answers stand in the order of the requests.
pub(super) fn all(ca: &Inner, requests: &[IssuanceRequest]) -> Vec<Outcome> {
    let threads = thread::available_parallelism()
        .map_or(1, usize::from)
        .min(requests.len() / LEAST_PER_THREAD);
    if threads < 2 {
        return requests.iter().map(|request| one(ca, request)).collect();
    }
    thread::scope(|scope| {
        let running: Vec<_> = requests
            .chunks(requests.len().div_ceil(threads))
            .map(|part| {
                let sign = move || part.iter().map(|request| one(ca, request)).collect();
                (part.len(), scope.spawn(sign))
            })
            .collect();
        running
            .into_iter()
            .flat_map(|(count, handle)| -> Vec<Outcome> {
                handle
                    .join()
                    .unwrap_or_else(|_| vec![Err(interrupted()); count])
            })
            .collect()
    })
}

pub(super) fn interrupted() -> IssuerError {
    IssuerError::Other("signing was interrupted".to_owned())
}

fn one(ca: &Inner, request: &IssuanceRequest) -> Outcome {
    let sans = alternative_names(&request.common_name, &request.sans)?;
    let (not_before, not_after) = validity(ca, request)?;
    let ekus: &[ExtendedKeyUsage] = if request.ekus.is_empty() {
        &DEFAULT_EKUS
    } else {
        &request.ekus
    };
    let (crl_urls, ocsp_urls) = pointers(ca, &request.serial, not_before, not_after);
    let signed = ca
        .signer
        .sign(&CertificateSpec {
            common_name: &request.common_name,
            sans: &sans,
            spki_der: &request.spki_der,
            serial: &request.serial,
            not_before,
            not_after,
            ekus,
            must_staple: request.must_staple,
            ca: None,
            crl_urls: &crl_urls,
            ocsp_urls,
            ca_issuers_urls: &[],
        })
        .map_err(refusal)?;
    Ok(answer(ca, request, &signed, (not_before, not_after)))
}

/// Where a leaf says that its status is to be learned; nowhere when it ends before anybody would ask again (issuers §4).
fn pointers<'a>(
    ca: &'a Inner,
    serial: &SerialNumber,
    not_before: Timestamp,
    not_after: Timestamp,
) -> (Cow<'a, [String]>, &'a [String]) {
    if is_short_lived(not_before, not_after) {
        return (Cow::Borrowed(&[]), &[]);
    }
    let crl_urls = match Shard::of_serial(serial, ca.config.crl_shards) {
        None => Cow::Borrowed(&ca.config.crl_urls[..]),
        Some(shard) => ca
            .config
            .crl_urls
            .iter()
            .map(|url| shard.url(url))
            .collect(),
    };
    (crl_urls, &ca.config.ocsp_urls)
}

fn answer(
    ca: &Inner,
    request: &IssuanceRequest,
    signed: &SignedCertificate,
    (not_before, not_after): (Timestamp, Timestamp),
) -> IssuedCertificate {
    IssuedCertificate {
        leaf_pem: signed.to_pem(),
        chain_pem: ca.chain_pem.clone(),
        serial: request.serial.clone(),
        not_before,
        not_after,
        fingerprint_sha256: signed.fingerprint(),
        leaf_der: signed.der().to_vec(),
    }
}

/// From the request's start for the least of the configured life, the request's bound and what is left of the CA.
fn validity(ca: &Inner, request: &IssuanceRequest) -> Result<(Timestamp, Timestamp), IssuerError> {
    let own = u64::from(ca.config.validity_days) * 86_400;
    let life = match request.max_ttl_seconds {
        0 => own,
        bound => own.min(u64::from(bound)),
    };
    let not_before = request.not_before.truncated_to_seconds();
    // The last second is itself part of the validity (RFC 5280 §4.1.2.5), so a life of n seconds ends n - 1 after its first.
    let not_after = not_before + Duration::from_secs(life - 1);
    let not_after = not_after.min(ca.signer.certificate().not_after());
    if not_after < not_before {
        return Err(IssuerError::Other(
            "the CA's certificate has expired".to_owned(),
        ));
    }
    Ok((not_before, not_after))
}

/// What breaks a rule will break it again; what failed here may not.
pub(super) fn refusal(error: Error) -> IssuerError {
    match error {
        Error::Signing | Error::Randomness => IssuerError::Other(error.to_string()),
        other => IssuerError::Validation(other.to_string()),
    }
}
