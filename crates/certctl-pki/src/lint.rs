//! The rules every certificate is held against before it is signed.
//!
//! They read the finished `TBSCertificate` and not the specification it was made from, so that a fault of the encoder is
//! found as well as a fault of the request. One finding is enough for nothing to be signed.

mod rules;
#[cfg(test)]
mod tests;

use std::fmt;

use certctl_domain::time::Timestamp;

/// What the rules need to know of the certificate that signs.
#[derive(Debug, Clone, Copy)]
pub struct Issuer<'a> {
    /// The end of its validity; [`Timestamp::MAX`] for a certificate that signs itself.
    pub not_after: Timestamp,
    /// Its subject key identifier.
    pub key_id: &'a [u8],
    /// How many CAs may follow below it; none is no bound.
    pub path_length: Option<u8>,
}

/// A rule that a certificate breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which rule.
    pub rule: Rule,
    /// What is wrong, as a sentence without a full stop.
    pub problem: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule.name(), self.problem)
    }
}

macro_rules! rules {
    ($($(#[$meta:meta])* $variant:ident = $name:literal;)+) => {
        /// The rules by name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Rule { $($(#[$meta])* $variant),+ }

        impl Rule {
            /// Every rule.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name as it is reported.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }
    };
}

rules! {
    /// The bytes are a version 3 `TBSCertificate` in DER whose extensions decode.
    WellFormed = "well_formed";
    /// RFC 5280 §4.2: no extension twice.
    NoDuplicateExtension = "no_duplicate_extension";
    /// RFC 5280 §4.1.2.2: the serial is positive and has 8 to 20 octets.
    Serial = "serial";
    /// The validity starts before it ends.
    ValidityOrder = "validity_order";
    /// RFC 5280 §4.1.2.5: UTCTime up to 2049, GeneralizedTime after.
    ValidityEncoding = "validity_encoding";
    /// A certificate does not outlive the one that signs it.
    WithinIssuer = "within_issuer";
    /// RFC 9525 §6: servers are known by their alternative names only.
    SanForServers = "san_for_servers";
    /// Names are well-formed, safe to show, and critical when the subject is empty (RFC 5280 §4.2.1.6).
    NamesWellFormed = "names_well_formed";
    /// The common name of a leaf is one of its alternative names; that of an OCSP responder is a title.
    CommonNameInSan = "common_name_in_san";
    /// The key is of a supported kind and not weak.
    KeyStrength = "key_strength";
    /// RFC 5280 §4.2.1.3: key usages fit the kind of key and whether it is a CA.
    KeyUsage = "key_usage";
    /// RFC 5280 §4.2.1.9: basic constraints are there, critical, and within those of the issuer.
    BasicConstraints = "basic_constraints";
    /// RFC 5280 §4.2.1.12: leaves say what they are for, CAs do not; never anyExtendedKeyUsage.
    ExtendedKeyUsage = "extended_key_usage";
    /// RFC 5280 §4.2.1.1: the authority key identifier is that of the issuer.
    AuthorityKeyId = "authority_key_id";
    /// RFC 5280 §4.2.1.2: the subject key identifier is there.
    SubjectKeyId = "subject_key_id";
    /// RFC 6960 §4.2.2.2: a key that answers OCSP requests does nothing else, and nobody asks whether it is revoked.
    OcspResponder = "ocsp_responder";
}

/// Holds a DER `TBSCertificate` against every rule; an empty answer means it may be signed.
#[must_use]
pub fn check(tbs: &[u8], issuer: &Issuer<'_>) -> Vec<Finding> {
    rules::check(tbs, issuer)
}
