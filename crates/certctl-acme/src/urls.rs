//! Where everything is: the URLs of one family of routes.

use certctl_domain::{
    acme::{AcmeAccountId, AcmeAuthorizationId, AcmeChallengeId, AcmeOrderId},
    id::{CertificateId, ProfileId},
};

/// Which of the two families of routes a client uses. It is answered with URLs of the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Family {
    /// `/acme/profile/{id}/…`.
    Profile(ProfileId),
    /// `/acme/…`, bound to the configured profile.
    Shorthand,
}

/// The URLs of a family under the origin that the client uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Urls {
    family: Family,
    base: String,
}

impl Urls {
    /// The URLs under an origin: scheme, host and, where there is one, port, without a slash at the end.
    #[must_use]
    pub fn new(origin: &str, family: Family) -> Self {
        let origin = origin.trim_end_matches('/');
        let base = match &family {
            // The alphabet of ids needs no escapes in a path.
            Family::Profile(id) => format!("{origin}/acme/profile/{id}/"),
            Family::Shorthand => format!("{origin}/acme/"),
        };
        Self { family, base }
    }

    /// Which family they are of.
    #[must_use]
    pub const fn family(&self) -> &Family {
        &self.family
    }

    /// The URL that this path under the family has.
    #[must_use]
    pub fn at(&self, path: &str) -> String {
        [self.base.as_str(), path].concat()
    }

    fn of(&self, parts: &[&str]) -> String {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let mut url = String::with_capacity(self.base.len() + length);
        url.push_str(&self.base);
        url.extend(parts.iter().copied());
        url
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> String {
        self.at("directory")
    }

    /// Where nonces come from.
    #[must_use]
    pub fn new_nonce(&self) -> String {
        self.at("new-nonce")
    }

    /// Where accounts are made.
    #[must_use]
    pub fn new_account(&self) -> String {
        self.at("new-account")
    }

    /// Where orders are made.
    #[must_use]
    pub fn new_order(&self) -> String {
        self.at("new-order")
    }

    /// Where an account's key is changed.
    #[must_use]
    pub fn key_change(&self) -> String {
        self.at("key-change")
    }

    /// Where certificates are revoked.
    #[must_use]
    pub fn revoke_cert(&self) -> String {
        self.at("revoke-cert")
    }

    /// What the id of a certificate is appended to, after a slash (RFC 9773 §4.1).
    #[must_use]
    pub fn renewal_info(&self) -> String {
        self.at("renewal-info")
    }

    /// An account.
    #[must_use]
    pub fn account(&self, id: &AcmeAccountId) -> String {
        self.of(&["account/", id.as_str()])
    }

    /// The orders of an account.
    #[must_use]
    pub fn orders(&self, id: &AcmeAccountId) -> String {
        self.of(&["account/", id.as_str(), "/orders"])
    }

    /// An order.
    #[must_use]
    pub fn order(&self, id: &AcmeOrderId) -> String {
        self.of(&["order/", id.as_str()])
    }

    /// Where an order is finalised.
    #[must_use]
    pub fn finalize(&self, id: &AcmeOrderId) -> String {
        self.of(&["order/", id.as_str(), "/finalize"])
    }

    /// An authorisation.
    #[must_use]
    pub fn authorization(&self, id: &AcmeAuthorizationId) -> String {
        self.of(&["authz/", id.as_str()])
    }

    /// A challenge.
    #[must_use]
    pub fn challenge(&self, id: &AcmeChallengeId) -> String {
        self.of(&["challenge/", id.as_str()])
    }

    /// A certificate with its chain.
    #[must_use]
    pub fn certificate(&self, id: &CertificateId) -> String {
        self.of(&["cert/", id.as_str()])
    }

    /// The same certificate with another chain (RFC 8555 §7.4.2), counted from 1.
    #[must_use]
    pub fn alternate(&self, id: &CertificateId, number: usize) -> String {
        self.of(&["cert/", id.as_str(), "/", &number.to_string()])
    }

    /// The account of a `kid`; none unless it is the URL of an account of this family, letter for letter.
    #[must_use]
    pub fn parse_kid(&self, kid: &str) -> Option<AcmeAccountId> {
        AcmeAccountId::parse(
            kid.strip_prefix(self.base.as_str())?
                .strip_prefix("account/")?,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(id: &str) -> Family {
        Family::Profile(ProfileId::parse(id).unwrap())
    }

    #[test]
    fn every_url_stays_in_its_family() {
        let account = AcmeAccountId::from_digest(&"A".repeat(43));
        for (family, base) in [
            (profile("prof-1"), "https://ca.example/acme/profile/prof-1/"),
            (Family::Shorthand, "https://ca.example/acme/"),
        ] {
            let urls = Urls::new("https://ca.example", family);
            let order = AcmeOrderId::from_random([0; 10]);
            let certificate = CertificateId::parse("mc-acme-1").unwrap();
            for (url, path) in [
                (urls.directory(), "directory".to_owned()),
                (urls.new_nonce(), "new-nonce".to_owned()),
                (urls.new_account(), "new-account".to_owned()),
                (urls.new_order(), "new-order".to_owned()),
                (urls.key_change(), "key-change".to_owned()),
                (urls.revoke_cert(), "revoke-cert".to_owned()),
                (urls.renewal_info(), "renewal-info".to_owned()),
                (urls.account(&account), format!("account/{account}")),
                (urls.orders(&account), format!("account/{account}/orders")),
                (urls.order(&order), format!("order/{order}")),
                (urls.finalize(&order), format!("order/{order}/finalize")),
                (urls.certificate(&certificate), "cert/mc-acme-1".to_owned()),
                (
                    urls.alternate(&certificate, 1),
                    "cert/mc-acme-1/1".to_owned(),
                ),
            ] {
                assert_eq!(url, format!("{base}{path}"));
            }
        }
    }

    #[test]
    fn a_kid_is_an_account_of_this_family_and_nothing_else() {
        let account = AcmeAccountId::from_digest(&"A".repeat(43));
        let urls = Urls::new("https://ca.example", profile("one"));
        let kid = urls.account(&account);
        assert_eq!(urls.parse_kid(&kid), Some(account.clone()));
        for foreign in [
            Urls::new("https://ca.example", profile("two")),
            Urls::new("https://ca.example", Family::Shorthand),
            Urls::new("https://other.example", profile("one")),
            Urls::new("http://ca.example", profile("one")),
        ] {
            assert_eq!(urls.parse_kid(&foreign.account(&account)), None);
        }
        for bad in [
            format!("{kid}/"),
            format!("{kid}?a"),
            format!("{kid}/orders"),
            kid.replace("account/", "account//"),
            kid.to_uppercase(),
            account.to_string(),
            String::new(),
        ] {
            assert_eq!(urls.parse_kid(&bad), None, "{bad}");
        }
    }
}
