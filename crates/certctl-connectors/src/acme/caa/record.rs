//! What an `issue` or `issuewild` property says (RFC 8659 §4.2).

use certctl_domain::acme::ChallengeType;

/// An issuer and under which conditions it may issue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Issuer<'a> {
    /// The issuer's domain name; empty where nobody may issue.
    domain: &'a str,
    /// Name and value, as they stand there.
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Issuer<'a> {
    /// Reads a value; none when it is malformed.
    pub(super) fn parse(value: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        let (domain, parameters) = match text.split_once(';') {
            Some((domain, parameters)) => (trimmed(domain), trimmed(parameters)),
            None => (trimmed(text), ""),
        };
        if !domain.is_empty() && !domain.split('.').all(is_label) {
            return None;
        }
        let parameters = if parameters.is_empty() {
            Vec::new()
        } else {
            parameters
                .split(';')
                .map(parameter)
                .collect::<Option<_>>()?
        };
        Some(Self { domain, parameters })
    }

    /// Whether it is the issuer of an identity in lower case. RFC 8659 §4.2 compares as DNS does.
    pub(super) fn is(&self, identity: &str) -> bool {
        !self.domain.is_empty() && self.domain.eq_ignore_ascii_case(identity)
    }

    /// Whether its conditions hold for an account and a challenge. Parameters that RFC 8657 does not define are the issuer's
    /// own, and this one defines none.
    pub(super) fn admits(&self, account_uri: &str, method: ChallengeType) -> bool {
        let values = |name: &str| {
            let mut all = self
                .parameters
                .iter()
                .filter(|(tag, _)| tag.eq_ignore_ascii_case(name))
                .map(|(_, value)| *value);
            (all.next(), all.next().is_some())
        };
        // RFC 8657 §3 and §4: a parameter that stands there twice, or makes no sense, is one that nobody fulfils.
        let account = match values("accounturi") {
            (None, _) => true,
            (Some(uri), false) => uri == account_uri,
            (Some(_), true) => false,
        };
        let proved = match values("validationmethods") {
            (None, _) => true,
            (Some(list), false) => {
                list.split(',').all(is_method) && list.split(',').any(|one| one == method.as_str())
            }
            (Some(_), true) => false,
        };
        account && proved
    }
}

/// Without the white space of RFC 5234 at its ends.
fn trimmed(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// `(ALPHA / DIGIT) *( *("-") (ALPHA / DIGIT))`
fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes
        .iter()
        .all(|b| b.is_ascii_alphanumeric() || *b == b'-')
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
}

/// `*( ALPHA / DIGIT / "-")`, but a method without a name is none.
fn is_method(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// `parameter-tag *WSP "=" *WSP parameter-value`, the value of visible characters.
fn parameter(text: &str) -> Option<(&str, &str)> {
    let (tag, value) = trimmed(text).split_once('=')?;
    let (tag, value) = (trimmed(tag), trimmed(value));
    let visible = value.bytes().all(|b| (0x21..=0x7e).contains(&b));
    (is_label(tag) && visible).then_some((tag, value))
}

#[cfg(test)]
mod tests {
    use certctl_domain::acme::ChallengeType;
    use proptest::prelude::*;

    use super::Issuer;

    fn parse(text: &str) -> Option<Issuer<'_>> {
        Issuer::parse(text.as_bytes())
    }

    #[test]
    fn values_are_a_domain_and_parameters() {
        for (text, domain, parameters) in [
            ("ca.example", "ca.example", vec![]),
            ("", "", vec![]),
            (";", "", vec![]),
            (" ; ", "", vec![]),
            ("  ca.example \t", "ca.example", vec![]),
            ("ca.example;", "ca.example", vec![]),
            (
                "ca.example; account=230123",
                "ca.example",
                vec![("account", "230123")],
            ),
            (
                "ca.example ; a = 1 ;b=2",
                "ca.example",
                vec![("a", "1"), ("b", "2")],
            ),
            ("ca.example; a=", "ca.example", vec![("a", "")]),
            ("ca.example; a=b=c", "ca.example", vec![("a", "b=c")]),
            ("; a=1", "", vec![("a", "1")]),
        ] {
            assert_eq!(parse(text), Some(Issuer { domain, parameters }), "{text:?}");
        }
    }

    #[test]
    fn what_breaks_the_grammar_is_nobody() {
        for text in [
            "%%%%%",
            "ca..example",
            ".ca.example",
            "ca.example.",
            "-ca.example",
            "ca-.example",
            "ca example",
            "ca.example; a",
            "ca.example; =1",
            "ca.example; a=1;",
            "ca.example; a=1;;b=2",
            "ca.example; a=b c",
            "ca.example; a_b=1",
            "ca.example; a=\u{e9}",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
        assert_eq!(Issuer::parse(b"ca.example\xff"), None);
    }

    #[test]
    fn conditions_hold_together_and_only_once() {
        let uri = "https://ca.example/acme/account/1";
        for (parameters, expected) in [
            ("", true),
            ("unknown=1", true),
            ("accounturi=https://ca.example/acme/account/1", true),
            ("AccountURI=https://ca.example/acme/account/1", true),
            ("accounturi=https://ca.example/acme/account/2", false),
            ("accounturi=https://ca.example/acme/account/1/", false),
            ("accounturi=", false),
            (
                "accounturi=https://ca.example/acme/account/1; accounturi=https://ca.example/acme/account/1",
                false,
            ),
            ("validationmethods=dns-01", true),
            ("validationmethods=http-01,dns-01", true),
            ("validationmethods=http-01", false),
            ("validationmethods=ca-custom,dns-01", true),
            ("validationmethods=", false),
            ("validationmethods=dns-01,", false),
            ("validationmethods=dns-01;validationmethods=dns-01", false),
            ("validationmethods=DNS-01", false),
            (
                "accounturi=https://ca.example/acme/account/1; validationmethods=http-01",
                false,
            ),
            (
                "accounturi=https://ca.example/acme/account/1; validationmethods=dns-01",
                true,
            ),
        ] {
            let text = format!("ca.example; {parameters}");
            let issuer = parse(&text).unwrap();
            assert_eq!(
                issuer.admits(uri, ChallengeType::Dns01),
                expected,
                "{parameters}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(value: Vec<u8>) {
            if let Some(issuer) = Issuer::parse(&value) {
                prop_assert!(issuer.domain.is_ascii());
            }
        }

        #[test]
        fn a_name_is_found_whatever_surrounds_it(
            before in "[ \t]{0,3}", after in "[ \t]{0,3}", name in "[a-zA-Z0-9]{1,8}(\\.[a-zA-Z0-9]{1,8}){0,3}",
        ) {
            let text = format!("{before}{name}{after}; a=1");
            prop_assert!(parse(&text).unwrap().is(&name.to_ascii_lowercase()));
        }
    }
}
