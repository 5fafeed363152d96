//! Names that a certificate is issued for.

use std::{fmt, net::IpAddr};

use crate::validation::{InvalidField, MAX_COMMON_NAME};

/// A subject alternative name, classified once for every connector (issuers §1, SAN rule).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SubjectAltName {
    /// A host name, possibly with one leading wildcard label, in lower case.
    Dns(String),
    /// An IPv4 or IPv6 address.
    Ip(IpAddr),
    /// A mailbox.
    Email(String),
    /// A URI, such as a SPIFFE id.
    Uri(String),
}

impl SubjectAltName {
    /// Classifies a text: an address is an IP, `scheme:` a URI, `@` a mailbox, the rest a host name.
    ///
    /// # Errors
    /// [`InvalidField`] for `sans` when the text is no well-formed name of its class.
    pub fn parse(text: &str) -> Result<Self, InvalidField> {
        let refuse =
            |problem: &str| InvalidField::new("sans", format!("{:?} {problem}", shortened(text)));
        check_safe(text).map_err(refuse)?;
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self::Ip(ip));
        }
        if let Some((scheme, rest)) = text.split_once(':')
            && is_scheme(scheme)
        {
            if rest.is_empty() || !text.is_ascii() || text.contains(' ') || text.len() > 2048 {
                return Err(refuse("is not a URI"));
            }
            return Ok(Self::Uri(text.to_owned()));
        }
        if text.contains('@') {
            if is_mailbox(text) {
                Ok(Self::Email(text.to_owned()))
            } else {
                Err(refuse("is not an e-mail address"))
            }
        } else if is_dns_name(text) {
            Ok(Self::Dns(text.to_ascii_lowercase()))
        } else {
            Err(refuse("is not a host name"))
        }
    }
}

impl fmt::Display for SubjectAltName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(text) | Self::Email(text) | Self::Uri(text) => f.write_str(text),
            Self::Ip(ip) => ip.fmt(f),
        }
    }
}

/// The common name of a certificate: a host name, an address or, with an `@`, a mailbox; 1 to 253 characters (api §2.4).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CommonName(String);

impl CommonName {
    /// Checks a text against the rule.
    ///
    /// # Errors
    /// [`InvalidField`] for `common_name`.
    pub fn parse(text: &str) -> Result<Self, InvalidField> {
        let refuse = |problem: &str| InvalidField::new("common_name", problem);
        if text.is_empty() {
            return Err(InvalidField::required("common_name"));
        }
        if text.chars().count() > MAX_COMMON_NAME {
            return Err(refuse("is longer than 253 characters"));
        }
        check_safe(text).map_err(refuse)?;
        let well_formed = if text.contains('@') {
            is_mailbox(text)
        } else {
            text.bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'*' | b'_' | b':'))
        };
        if well_formed {
            Ok(Self(text.to_owned()))
        } else {
            Err(refuse("is neither a host name, an address nor a mailbox"))
        }
    }

    /// Takes a name that the database holds.
    #[must_use]
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CommonName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Refuses text that shows as something other than what it is: bidirectional controls, zero-width and control characters,
/// and labels that mix ASCII letters with other scripts (issuers §4, name safety).
///
/// # Errors
/// What is wrong, as the end of a sentence.
pub fn check_safe(text: &str) -> Result<(), &'static str> {
    for c in text.chars() {
        match c {
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                return Err("holds a bidirectional control");
            }
            '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}' => {
                return Err("holds a zero-width character");
            }
            c if c.is_control() => return Err("holds a control character"),
            _ => {}
        }
    }
    let mixed = text.split('.').any(|label| {
        label.chars().any(|c| c.is_ascii_alphabetic())
            && label.chars().any(|c| !c.is_ascii() && !c.is_whitespace())
    });
    if mixed {
        Err("mixes ASCII letters with other characters in one label")
    } else {
        Ok(())
    }
}

/// RFC 3986 §3.1; one letter alone is taken for a drive, not a scheme.
fn is_scheme(text: &str) -> bool {
    text.len() > 1
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-'))
}

fn is_mailbox(text: &str) -> bool {
    text.is_ascii()
        && text.len() <= 254
        && text.rsplit_once('@').is_some_and(|(local, host)| {
            !local.is_empty()
                && !local.contains(['@', ' ', '<', '>', ','])
                && !host.starts_with('*')
                && is_dns_name(host)
        })
}

/// RFC 1034 §3.5 with underscores as they occur in practice, and one wildcard as the whole first label (RFC 6125 §6.4.3).
#[must_use]
pub fn is_dns_name(text: &str) -> bool {
    let host = text.strip_prefix("*.").unwrap_or(text);
    !host.is_empty()
        && text.len() <= 253
        && host.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        })
}

fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::{CommonName, SubjectAltName};

    #[test]
    fn names_are_classified_as_the_contract_says() {
        let class = |text: &str| SubjectAltName::parse(text).unwrap();
        assert_eq!(
            class("API.example.com"),
            SubjectAltName::Dns("api.example.com".into())
        );
        assert_eq!(
            class("*.example.com"),
            SubjectAltName::Dns("*.example.com".into())
        );
        assert!(matches!(class("2001:db8::1"), SubjectAltName::Ip(_)));
        assert!(matches!(class("192.0.2.7"), SubjectAltName::Ip(_)));
        assert!(matches!(
            class("spiffe://example.com/workload/a"),
            SubjectAltName::Uri(_)
        ));
        assert!(matches!(class("bob@example.com"), SubjectAltName::Email(_)));
    }

    #[test]
    fn deceptive_and_malformed_names_are_refused() {
        for bad in [
            "",
            "a..b",
            "-a.example",
            "a.*.example",
            "ex\u{202e}ample.com",
            "p\u{0430}ypal.com",
            "a b",
            "@example.com",
            "a@",
            "x\n.example",
        ] {
            assert!(SubjectAltName::parse(bad).is_err(), "{bad:?}");
        }
        assert!(SubjectAltName::parse(&format!("{}.example", "a".repeat(64))).is_err());
    }

    #[test]
    fn common_names_are_bounded() {
        assert!(CommonName::parse("host_1.example.com").is_ok());
        assert!(CommonName::parse("bob@example.com").is_ok());
        assert!(CommonName::parse("").is_err());
        assert!(CommonName::parse(&"a".repeat(254)).is_err());
        assert!(CommonName::parse("a;b").is_err());
    }
}
