//! When a certificate should be renewed, said by who issued it (ARI, RFC 9773).

use std::{fmt, time::Duration};

use certctl_domain::{acme::Problem, serial::SerialNumber, time::Timestamp};
use certctl_pki::cert::ParsedCertificate;

use crate::{base64url, refuse::malformed};

/// The longest key identifier that is read, in octets; those in use have 20, at most 32.
const MAX_KEY_ID: usize = 64;
/// The longest serial number (RFC 5280 §4.1.2.2).
const MAX_SERIAL: usize = 20;

/// A certificate by its issuer's key and its serial number (RFC 9773 §4.1).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CertId {
    key_id: Vec<u8>,
    serial: SerialNumber,
}

impl CertId {
    /// Reads the last segment of a path, or `replaces` of an order: the authority key identifier and the octets of the
    /// serial number's DER INTEGER, both base64url, with a dot between.
    ///
    /// # Errors
    /// `malformed`. A serial number has one form: positive, a zero octet in front exactly where its first bit is set.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let refuse = |detail| Err(malformed(format!("the id of the certificate {detail}")));
        let Some((key_id, serial)) = text.split_once('.') else {
            return refuse("has no dot");
        };
        // Long before the bounds below, so that nothing long is decoded.
        if text.len() > 2 * (MAX_KEY_ID + MAX_SERIAL) {
            return refuse("is too long");
        }
        let (Ok(key_id), Ok(serial)) = (base64url::decode(key_id), base64url::decode(serial))
        else {
            return refuse("is not two parts of base64url");
        };
        if !(1..=MAX_KEY_ID).contains(&key_id.len()) {
            return refuse("has no good key identifier");
        }
        match serial[..] {
            // X.690 §8.3: the sign is in the first bit, and no octet is there for nothing.
            [] | [0x80..=0xff, ..] | [0] | [0, 0..0x80, ..] => refuse("has no good serial number"),
            _ => match SerialNumber::from_be_bytes(&serial) {
                Ok(serial) => Ok(Self { key_id, serial }),
                Err(_) => refuse("has a serial number that is too long"),
            },
        }
    }

    /// The id of a certificate; none when it names no key of its issuer.
    #[must_use]
    pub fn of_certificate(certificate: &ParsedCertificate) -> Option<Self> {
        Some(Self {
            key_id: certificate.authority_key_id()?.to_vec(),
            serial: certificate.serial().clone(),
        })
    }

    /// The authority key identifier.
    #[must_use]
    pub fn key_id(&self) -> &[u8] {
        &self.key_id
    }

    /// The serial number.
    #[must_use]
    pub const fn serial(&self) -> &SerialNumber {
        &self.serial
    }
}

impl fmt::Display for CertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut serial = self.serial.to_be_bytes();
        if serial.first().is_some_and(|first| *first >= 0x80) {
            serial.insert(0, 0);
        }
        let (key_id, serial) = (base64url::encode(&self.key_id), base64url::encode(serial));
        write!(f, "{key_id}.{serial}")
    }
}

/// What is known of a certificate when its renewal is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// The first second of validity.
    pub not_before: Timestamp,
    /// The last.
    pub not_after: Timestamp,
    /// Whether it is revoked.
    pub is_revoked: bool,
    /// How many days before its end its policy renews; none where no policy says.
    pub renewal_days: Option<u32>,
}

/// When to renew: at a random time in here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The first moment.
    pub start: Timestamp,
    /// The last; always after the first (RFC 9773 §4.2).
    pub end: Timestamp,
}

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// The shortest window: times are sent in whole seconds.
const SECOND: Duration = Duration::from_secs(1);

/// When a certificate should be renewed: at once when it is revoked or over, otherwise in the first half of what its policy
/// leaves for renewing, or else from the last third to the last ninth of its life; never in the past.
#[must_use]
pub fn window(certificate: &Lifetime, now: Timestamp) -> Window {
    let Lifetime {
        not_before,
        not_after,
        ..
    } = *certificate;
    if certificate.is_revoked {
        let start = now - HOUR;
        return Window { start, end: now };
    }
    if not_after <= now {
        let end = now + DAY;
        return Window { start: now, end };
    }
    if not_after <= not_before {
        let start = not_after - DAY;
        return Window {
            start,
            end: not_after,
        };
    }
    let validity = not_after.since(not_before);
    let of_policy = certificate
        .renewal_days
        .map(|days| DAY * days)
        .filter(|lead| !lead.is_zero() && *lead <= validity);
    let (from, to) = match of_policy {
        Some(lead) => (lead, lead / 2),
        // Before RFC 9773 was as it is, a third was the advice; it still is what most clients do by themselves.
        None => (validity / 3, validity / 9),
    };
    let start = (not_after - from).max(now);
    let end = (not_after - to).max(start + SECOND);
    Window { start, end }
}

#[cfg(test)]
mod tests;
