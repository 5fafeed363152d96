//! What may be signed for a certificate, and the request that says so to a CA.

use std::time::Duration;

use certctl_domain::{
    certificate::Certificate,
    name::SubjectAltName,
    ports::issuer::IssuanceRequest,
    profile::{ExtendedKeyUsage, Profile},
    time::Timestamp,
};
use certctl_pki::csr::Csr;
use certctl_repository::intents::Intent;
use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::{Error, work::all_names};

/// Checks an agent's request against the certificate and its profile: the names must be exactly those of the certificate, and
/// the key one that the profile allows.
///
/// # Errors
/// [`Error::Unprocessable`] saying what is not allowed.
pub(crate) fn check_csr(
    csr: &Csr,
    certificate: &Certificate,
    profile: Option<&Profile>,
) -> Result<(), Error> {
    let refuse = |problem: String| Err(Error::Unprocessable(problem));
    if let Some(name) = csr.common_name()
        && name != certificate.common_name.as_str()
    {
        return refuse(format!(
            "the request is for {name:?}, the certificate is {:?}",
            certificate.common_name.as_str()
        ));
    }
    let names = all_names(certificate)?;
    if let Some(foreign) = csr.sans().iter().find(|name| !names.contains(name)) {
        return refuse(format!(
            "the request names {foreign}, which the certificate does not"
        ));
    }
    if let Some(missing) = names.iter().find(|name| {
        !csr.sans().contains(name) && csr.common_name() != Some(name.to_string().as_str())
    }) {
        return refuse(format!(
            "the request lacks {missing}, which the certificate names"
        ));
    }
    check_key(csr, profile)?;
    check_names(&names, profile)
}

fn check_key(csr: &Csr, profile: Option<&Profile>) -> Result<(), Error> {
    let (algorithm, bits) = (csr.key_algorithm(), csr.key_bits());
    let admitted = match profile {
        Some(profile) => profile.admits_key(algorithm, bits),
        None => csr.public_key().check_strength().is_ok(),
    };
    if admitted {
        Ok(())
    } else {
        Err(Error::Unprocessable(format!(
            "a key of {algorithm} with {bits} bits is not allowed here"
        )))
    }
}

/// Checks names against the patterns of a profile (model §3.4).
///
/// # Errors
/// [`Error::Unprocessable`] naming the name that matches no pattern.
pub(crate) fn check_names(
    names: &[SubjectAltName],
    profile: Option<&Profile>,
) -> Result<(), Error> {
    let Some(profile) = profile else {
        return Ok(());
    };
    if !profile.enabled {
        return Err(Error::Unprocessable(format!(
            "profile {} is disabled",
            profile.id
        )));
    }
    let patterns = profile
        .required_san_patterns
        .iter()
        .map(|pattern| compile(pattern))
        .collect::<Result<Vec<_>, _>>()?;
    for name in names {
        let text = name.to_string();
        match name {
            SubjectAltName::Uri(uri) if !profile.spiffe_uri_pattern.is_empty() => {
                if !matches_spiffe(&profile.spiffe_uri_pattern, uri) {
                    return Err(Error::Unprocessable(format!(
                        "{uri} does not match {}",
                        profile.spiffe_uri_pattern
                    )));
                }
            }
            _ if patterns.is_empty() || patterns.iter().any(|pattern| pattern.is_match(&text)) => {}
            _ => {
                return Err(Error::Unprocessable(format!(
                    "{text} matches no pattern of profile {}",
                    profile.id
                )));
            }
        }
    }
    Ok(())
}

/// Compiles a pattern of a profile; bounded, since whoever edits profiles chooses it.
///
/// # Errors
/// [`Error::Unprocessable`] for one that is no regular expression or grows too large.
pub(crate) fn compile(pattern: &str) -> Result<Regex, Error> {
    regex::RegexBuilder::new(pattern)
        .size_limit(1 << 20)
        .build()
        .map_err(|_| {
            Error::Unprocessable(format!(
                "{pattern:?} is not a regular expression that can be used"
            ))
        })
}

/// `*` stands for any text within one path segment; at the end, for the rest.
fn matches_spiffe(pattern: &str, uri: &str) -> bool {
    let (body, end) = match pattern.strip_suffix('*') {
        Some(body) => (body, "(?s:.+)"),
        None => (pattern, ""),
    };
    let body: Vec<String> = body.split('*').map(regex::escape).collect();
    compile(&format!("^{}{end}$", body.join("[^/]+"))).is_ok_and(|regex| regex.is_match(uri))
}

/// What a certificate will say besides its key, serial number and dates: recorded with the intent, so that what was checked is
/// what is signed, whatever becomes of certificate and profile meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wanted {
    common_name: String,
    sans: Vec<String>,
    ekus: Vec<String>,
    max_ttl_seconds: u32,
    must_staple: bool,
}

impl Wanted {
    /// What a certificate and its profile ask for now.
    ///
    /// # Errors
    /// [`Error::Unprocessable`] when the names violate the profile.
    pub(crate) fn of(certificate: &Certificate, profile: Option<&Profile>) -> Result<Self, Error> {
        let sans = all_names(certificate)?;
        check_names(&sans, profile)?;
        Ok(Self {
            common_name: certificate.common_name.to_string(),
            sans: sans.iter().map(ToString::to_string).collect(),
            ekus: profile
                .map(|profile| {
                    profile
                        .allowed_ekus
                        .iter()
                        .map(ToString::to_string)
                        .collect()
                })
                .unwrap_or_default(),
            max_ttl_seconds: profile.map_or(0, |profile| profile.max_ttl_seconds),
            must_staple: profile.is_some_and(|profile| profile.must_staple),
        })
    }

    /// What an order asks for, whose names were checked; for so many seconds at the most, 0 for as long as the CA likes.
    pub(crate) fn for_order(
        certificate: &Certificate,
        profile: &Profile,
        max_ttl_seconds: u32,
    ) -> Self {
        Self {
            common_name: certificate.common_name.to_string(),
            sans: certificate.sans.clone(),
            ekus: profile
                .allowed_ekus
                .iter()
                .map(ToString::to_string)
                .collect(),
            max_ttl_seconds,
            must_staple: profile.must_staple,
        }
    }

    /// As it is recorded.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("texts, numbers and lists of them serialise")
    }
}

/// Whether less than half of the longest life would be left of a certificate that is signed by an intent only now. Where the
/// profile bounds none, the life is the CA's to choose, and long.
pub(crate) fn is_stale(intent: &Intent, now: Timestamp) -> bool {
    serde_json::from_value::<Wanted>(intent.request.clone()).is_ok_and(|wanted| {
        let half = Duration::from_secs(u64::from(wanted.max_ttl_seconds)) / 2;
        !half.is_zero() && now > intent.not_before + half
    })
}

/// The request for what an intent says; the same one each time it is made.
///
/// # Errors
/// [`Error::Internal`] when the intent cannot be read, which no program writes.
pub(crate) fn build(intent: &Intent) -> Result<IssuanceRequest, Error> {
    let wanted: Wanted = serde_json::from_value(intent.request.clone()).map_err(Error::internal)?;
    Ok(IssuanceRequest {
        common_name: wanted.common_name,
        sans: wanted
            .sans
            .iter()
            .map(|name| SubjectAltName::parse(name))
            .collect::<Result<_, _>>()?,
        spki_der: intent.spki.clone(),
        csr_pem: intent.csr_pem.clone(),
        ekus: wanted
            .ekus
            .iter()
            .map(|eku| ExtendedKeyUsage::parse(eku))
            .collect::<Result<_, _>>()
            .map_err(Error::internal)?,
        max_ttl_seconds: wanted.max_ttl_seconds,
        must_staple: wanted.must_staple,
        serial: intent.serial_number.clone(),
        not_before: intent.not_before,
    })
}

#[cfg(test)]
mod tests {
    use super::{compile, matches_spiffe};

    #[test]
    fn spiffe_patterns_match_by_their_wildcard() {
        assert!(matches_spiffe(
            "spiffe://example.com/workload/*",
            "spiffe://example.com/workload/api"
        ));
        assert!(!matches_spiffe(
            "spiffe://example.com/workload/*",
            "spiffe://example.com/workload/"
        ));
        assert!(!matches_spiffe(
            "spiffe://example.com/workload/*",
            "spiffe://evil.example/workload/api"
        ));
        assert!(matches_spiffe(
            "spiffe://example.com/a",
            "spiffe://example.com/a"
        ));
        assert!(!matches_spiffe(
            "spiffe://example.com/a",
            "spiffe://example.com/ab"
        ));
        assert!(matches_spiffe(
            "spiffe://example.com/*/x",
            "spiffe://example.com/ns/x"
        ));
        for (pattern, foreign) in [
            ("spiffe://example.com/*/x", "spiffe://example.com/a/b/x"),
            ("spiffe://example.com/*/x", "spiffe://example.com//x"),
            (
                "spiffe://*/workload/x",
                "spiffe://evil.example/a/workload/x",
            ),
            ("spiffe://example.com/*/w/*", "spiffe://example.com/a/b/w/x"),
            ("spiffe://example.com/a.c", "spiffe://example.com/abc"),
        ] {
            assert!(!matches_spiffe(pattern, foreign), "{pattern} {foreign}");
        }
        assert!(matches_spiffe(
            "spiffe://example.com/*/w/*",
            "spiffe://example.com/a/w/x/y"
        ));
    }

    #[test]
    fn patterns_are_bounded() {
        assert!(compile(r".*\.example\.com$").is_ok());
        assert!(compile("(").is_err());
        assert!(compile("(a{1000}){1000}").is_err());
    }
}
