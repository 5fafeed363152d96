//! The ids of all entities: text newtypes, so that no function takes two bare strings.
//!
//! Any text of the caller's alphabet is accepted on input; what certctl makes itself is `<prefix>-<unix nanos>-<counter>`
//! (model §1).

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    str::FromStr,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::time::Timestamp;

/// The text cannot be an id: `^[A-Za-z0-9._-]{1,128}$`, and neither `.` nor `..` (api §2.4, agent §5).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an id is 1 to 128 characters of A-Z a-z 0-9 . _ -")]
pub struct InvalidId;

/// Whether the text can be an id that a caller chose.
fn is_valid(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text != "."
        && text != ".."
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// A suffix no other process makes at the same nanosecond: the counter of each process starts at a random number.
fn generate(prefix: &str, now: Timestamp) -> String {
    static COUNTER: LazyLock<AtomicU64> =
        LazyLock::new(|| AtomicU64::new(RandomState::new().build_hasher().finish() & 0xffff_ffff));
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}-{}-{count}", i128::from(now.as_micros()) * 1000)
}

/// The text newtype that every id is, whatever it may be made of.
macro_rules! text_id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// Takes an id that the database holds; rows are trusted to keep what was checked when they were written.
            #[must_use]
            pub fn from_stored(text: String) -> Self {
                Self(text)
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

pub(crate) use text_id;

macro_rules! ids {
    ($($(#[$meta:meta])* $name:ident = $prefix:literal;)+) => {$(
        text_id! { $(#[$meta])* $name }

        impl $name {
            /// What an id that certctl makes itself starts with.
            pub const PREFIX: &'static str = $prefix;

            /// Reads an id that a caller chose.
            ///
            /// # Errors
            /// [`InvalidId`] when it is empty, too long, or has a character outside the alphabet.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                if is_valid(text) { Ok(Self(text.to_owned())) } else { Err(InvalidId) }
            }

            /// Makes a new id, unique across processes.
            #[must_use]
            pub fn generate(now: Timestamp) -> Self {
                Self(generate($prefix, now))
            }

            /// Gives the text up.
            #[must_use]
            pub fn into_string(self) -> String {
                self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::parse(text)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    )+};
}

ids! {
    /// A managed certificate.
    CertificateId = "cert";
    /// One issued version of a managed certificate.
    CertificateVersionId = "certver";
    /// A revocation of one serial.
    RevocationId = "rev";
    /// An issuer.
    IssuerId = "issuer";
    /// A deployment target.
    TargetId = "target";
    /// An agent.
    AgentId = "agent";
    /// An agent group.
    AgentGroupId = "ag";
    /// A job.
    JobId = "job";
    /// A renewal policy.
    RenewalPolicyId = "rp";
    /// A certificate profile.
    ProfileId = "prof";
    /// A team.
    TeamId = "team";
    /// An owner.
    OwnerId = "owner";
    /// A notification.
    NotificationId = "notif";
    /// An audit event.
    AuditEventId = "audit";
    /// A role.
    RoleId = "r";
    /// A row of `api_keys`.
    ApiKeyId = "ak";
    /// A grant of a role to an actor.
    ActorRoleId = "ar";
    /// A request for approval; the contract gives it the prefix of grants (model §1).
    ApprovalId = "ar";
    /// A policy rule.
    PolicyRuleId = "rule";
    /// A violation of a policy rule.
    PolicyViolationId = "violation";
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{CertificateId, InvalidId};
    use crate::time::Timestamp;

    #[test]
    fn generated_ids_are_distinct_and_parse() {
        let now = Timestamp::from_seconds(1_700_000_000);
        let ids: HashSet<_> = (0..1000).map(|_| CertificateId::generate(now)).collect();
        assert_eq!(ids.len(), 1000);
        assert!(
            ids.iter()
                .all(|id| CertificateId::parse(id.as_str()).is_ok()
                    && id.as_str().starts_with("cert-1700000000000000000-"))
        );
    }

    #[test]
    fn ids_that_could_leave_a_folder_or_a_header_are_refused() {
        for bad in ["", ".", "..", "a/b", "a b", "a\n", "é", &"x".repeat(129)] {
            assert_eq!(CertificateId::parse(bad), Err(InvalidId), "{bad:?}");
        }
        assert!(CertificateId::parse(&"x".repeat(128)).is_ok());
    }
}
