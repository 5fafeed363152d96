//! What an order asks a certificate for: host names and addresses.

use std::{fmt, net::IpAddr};

use crate::{name::SubjectAltName, text_enum};

text_enum! {
    /// What an identifier is (RFC 8555 §9.7.7, RFC 8738 §3).
    pub enum IdentifierType ("identifier type") {
        /// A host name, in an order possibly with one wildcard label in front.
        Dns = "dns",
        /// An address.
        Ip = "ip",
    }
}

/// An identifier, in its one spelling.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Identifier {
    /// A host name as A-labels in lower case, without a trailing dot; with `*.` in front for a wildcard.
    Dns(String),
    /// An address.
    Ip(IpAddr),
}

/// Why a text is no identifier that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIdentifier {
    /// It is no host name (RFC 8555 §7.1.4, RFC 5280 §4.2.1.6).
    #[error("is not a host name of letters, digits and hyphens")]
    Syntax,
    /// It ends in a dot.
    #[error("must not end in a dot")]
    TrailingDot,
    /// The star is not the whole first label, or there is nothing below it.
    #[error("may have one star, as the whole first label")]
    Wildcard,
    /// A host name that is an address; the type for those is `ip`.
    #[error("is an address; use an identifier of type ip")]
    Address,
    /// An address that is none, or not in the spelling of RFC 8738 §3 (RFC 5952 for IPv6).
    #[error("is not an address in its canonical form")]
    NotAnAddress,
}

impl Identifier {
    /// Reads a host name of an order. Capitals are folded; what else is not in its one spelling is refused.
    ///
    /// # Errors
    /// [`InvalidIdentifier`] saying why.
    pub fn dns(text: &str) -> Result<Self, InvalidIdentifier> {
        use InvalidIdentifier as E;
        if text.len() > 253 || !text.is_ascii() {
            return Err(E::Syntax);
        }
        if text.ends_with('.') {
            return Err(E::TrailingDot);
        }
        let bare = text.strip_prefix("*.");
        let host = bare.unwrap_or(text);
        if host.contains('*') {
            return Err(E::Wildcard);
        }
        if host.parse::<IpAddr>().is_ok() {
            return Err(E::Address);
        }
        let labels: Vec<&str> = host.split('.').collect();
        if !labels.iter().all(|label| is_ldh(label)) {
            return Err(E::Syntax);
        }
        // A last label of digits only is taken for an address by whoever resolves it (RFC 3696 §2).
        if labels
            .last()
            .is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()))
        {
            return Err(E::Address);
        }
        if bare.is_some() && labels.len() < 2 {
            return Err(E::Wildcard);
        }
        Ok(Self::Dns(text.to_ascii_lowercase()))
    }

    /// Reads an address of an order: exactly as it is written back.
    ///
    /// # Errors
    /// [`InvalidIdentifier::NotAnAddress`].
    pub fn ip(text: &str) -> Result<Self, InvalidIdentifier> {
        let ip: IpAddr = text.parse().map_err(|_| InvalidIdentifier::NotAnAddress)?;
        if ip.to_string() == text {
            Ok(Self::Ip(ip))
        } else {
            Err(InvalidIdentifier::NotAnAddress)
        }
    }

    /// Takes an identifier that the database holds; none when no program of certctl wrote it.
    #[must_use]
    pub fn from_stored(kind: &str, value: &str) -> Option<Self> {
        match IdentifierType::parse(kind).ok()? {
            IdentifierType::Dns => Self::dns(value).ok(),
            IdentifierType::Ip => Self::ip(value).ok(),
        }
    }

    /// What it is.
    #[must_use]
    pub const fn identifier_type(&self) -> IdentifierType {
        match self {
            Self::Dns(_) => IdentifierType::Dns,
            Self::Ip(_) => IdentifierType::Ip,
        }
    }

    /// Whether it is a wildcard.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        matches!(self, Self::Dns(name) if name.starts_with("*."))
    }

    /// What an authorisation is for: the name below the star (RFC 8555 §7.1.4).
    #[must_use]
    pub fn without_wildcard(&self) -> Self {
        match self {
            Self::Dns(name) => Self::Dns(name.strip_prefix("*.").unwrap_or(name).to_owned()),
            Self::Ip(ip) => Self::Ip(*ip),
        }
    }

    /// As it stands in a certificate.
    #[must_use]
    pub fn to_san(&self) -> SubjectAltName {
        match self {
            Self::Dns(name) => SubjectAltName::Dns(name.clone()),
            Self::Ip(ip) => SubjectAltName::Ip(*ip),
        }
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(ip) => ip.fmt(f),
        }
    }
}

/// Letters, digits and hyphens, no hyphen at an end (RFC 1123 §2.1); `xn--` labels are among them.
fn is_ldh(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::{Identifier, InvalidIdentifier as E};

    #[test]
    fn host_names_have_one_spelling() {
        for (text, expected) in [
            ("Example.COM", "example.com"),
            ("*.example.com", "*.example.com"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(Identifier::dns(text).unwrap().to_string(), expected);
        }
        let star = Identifier::dns("*.example.com").unwrap();
        assert!(star.is_wildcard());
        assert_eq!(star.without_wildcard().to_string(), "example.com");
    }

    #[test]
    fn what_is_no_host_name_is_refused_for_what_it_is() {
        for (text, expected) in [
            ("", E::Syntax),
            (".", E::TrailingDot),
            ("example.com.", E::TrailingDot),
            ("a..b", E::Syntax),
            ("bücher.example", E::Syntax),
            ("under_score.example", E::Syntax),
            ("-a.example", E::Syntax),
            ("*", E::Wildcard),
            ("*.com", E::Wildcard),
            ("*.*.example.com", E::Wildcard),
            ("a.*.example.com", E::Wildcard),
            ("f*.example.com", E::Wildcard),
            ("192.0.2.1", E::Address),
            ("2001:db8::1", E::Address),
            ("a.1", E::Address),
        ] {
            assert_eq!(Identifier::dns(text), Err(expected), "{text:?}");
        }
        assert!(Identifier::dns(&format!("{}.example", "a".repeat(64))).is_err());
        assert!(Identifier::dns(&["a"; 130].join(".")).is_err());
    }

    #[test]
    fn addresses_have_one_spelling() {
        assert!(Identifier::ip("192.0.2.1").is_ok());
        assert!(Identifier::ip("2001:db8::1").is_ok());
        for bad in [
            "2001:DB8::1",
            "2001:db8:0::1",
            "192.0.2.01",
            "example.com",
            "",
        ] {
            assert_eq!(Identifier::ip(bad), Err(E::NotAnAddress), "{bad}");
        }
    }
}
