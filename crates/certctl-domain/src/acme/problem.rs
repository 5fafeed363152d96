//! What went wrong, in the words of RFC 8555 §6.7.

use super::Identifier;

macro_rules! problem_types {
    ($($(#[$meta:meta])* $name:ident = $text:literal $status:literal;)+) => {
        /// The kinds of problems, each with the status it is answered with where nothing else is said.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ProblemType { $($(#[$meta])* $name),+ }

        impl ProblemType {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// What follows `urn:ietf:params:acme:error:`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }

            /// The HTTP status where nothing else is said.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status),+ }
            }
        }
    };
}

problem_types! {
    /// No account has this key or this URL.
    AccountDoesNotExist = "accountDoesNotExist" 400;
    /// Another order replaces the certificate already (RFC 9773 §5).
    AlreadyReplaced = "alreadyReplaced" 409;
    /// It is revoked already.
    AlreadyRevoked = "alreadyRevoked" 400;
    /// The signing request cannot be taken.
    BadCsr = "badCSR" 400;
    /// The nonce is missing, unknown, too old or used.
    BadNonce = "badNonce" 400;
    /// The key is of a kind that is not taken.
    BadPublicKey = "badPublicKey" 400;
    /// The reason is none that clients may give.
    BadRevocationReason = "badRevocationReason" 400;
    /// The signature algorithm is not taken.
    BadSignatureAlgorithm = "badSignatureAlgorithm" 400;
    /// A CAA record forbids it (RFC 8659).
    Caa = "caa" 403;
    /// Several things went wrong; see the subproblems.
    Compound = "compound" 400;
    /// The host could not be reached.
    Connection = "connection" 400;
    /// The name could not be resolved.
    Dns = "dns" 400;
    /// The account must be bound to somebody known.
    ExternalAccountRequired = "externalAccountRequired" 403;
    /// The answer to a challenge was wrong.
    IncorrectResponse = "incorrectResponse" 403;
    /// A contact is malformed.
    InvalidContact = "invalidContact" 400;
    /// The profile is none that is offered (draft-ietf-acme-profiles).
    InvalidProfile = "invalidProfile" 400;
    /// The request is malformed, or names what does not exist.
    Malformed = "malformed" 400;
    /// The order cannot be finalised as it stands.
    OrderNotReady = "orderNotReady" 403;
    /// Too many requests.
    RateLimited = "rateLimited" 429;
    /// No certificate is issued for an identifier.
    RejectedIdentifier = "rejectedIdentifier" 400;
    /// The server failed.
    ServerInternal = "serverInternal" 500;
    /// The TLS handshake failed.
    Tls = "tls" 400;
    /// Whoever asks may not.
    Unauthorized = "unauthorized" 401;
    /// A contact is of a kind that is not taken.
    UnsupportedContact = "unsupportedContact" 400;
    /// An identifier is of a kind that is not taken.
    UnsupportedIdentifier = "unsupportedIdentifier" 400;
    /// A person has to do something first.
    UserActionRequired = "userActionRequired" 403;
}

impl ProblemType {
    /// Reads what `as_str` writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|one| one.as_str() == text)
    }
}

/// A problem, as it is answered and as it is kept with orders and challenges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Its kind.
    pub kind: ProblemType,
    /// What is wrong, for a person; never what broke inside.
    pub detail: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong with each identifier, where several are.
    pub subproblems: Vec<Subproblem>,
}

/// What is wrong with one identifier (RFC 8555 §6.7.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subproblem {
    /// Its kind.
    pub kind: ProblemType,
    /// What is wrong.
    pub detail: String,
    /// With which identifier: type and value as the client gave them, since they may be no identifiers at all.
    pub identifier: Option<(String, String)>,
}

impl Problem {
    /// One with the status of its kind.
    #[must_use]
    pub fn new(kind: ProblemType, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            status: kind.status(),
            subproblems: Vec::new(),
        }
    }

    /// With another status.
    #[must_use]
    pub fn with_status(self, status: u16) -> Self {
        Self { status, ..self }
    }
}

impl Subproblem {
    /// Of an identifier that is well formed.
    #[must_use]
    pub fn of(kind: ProblemType, detail: impl Into<String>, identifier: &Identifier) -> Self {
        Self {
            kind,
            detail: detail.into(),
            identifier: Some((
                identifier.identifier_type().as_str().to_owned(),
                identifier.to_string(),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ProblemType;

    #[test]
    fn every_kind_is_read_back_and_is_an_error() {
        for kind in ProblemType::ALL {
            assert_eq!(ProblemType::parse(kind.as_str()), Some(*kind));
            assert!((400..600).contains(&kind.status()));
        }
        assert_eq!(ProblemType::parse("nonsense"), None);
    }
}
