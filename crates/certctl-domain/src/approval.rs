//! Requests that wait for a second person (model §5.5).

use std::collections::BTreeMap;

use crate::{
    id::{ApprovalId, CertificateId, JobId, ProfileId},
    owner::Owner,
    text_enum,
    time::Timestamp,
};

text_enum! {
    /// What is asked for.
    pub enum ApprovalKind ("approval kind") {
        /// That a certificate is issued or renewed.
        CertIssuance = "cert_issuance",
        /// That a profile is changed.
        ProfileEdit = "profile_edit",
    }
}

text_enum! {
    /// Where a request stands; every state but the first is final.
    pub enum ApprovalState ("approval state") {
        /// Nobody has decided yet.
        Pending = "pending",
        /// A second person agreed, or the gate is open.
        Approved = "approved",
        /// A second person refused, or what was asked for was called off.
        Rejected = "rejected",
        /// Nobody decided in time.
        Expired = "expired",
    }
}

/// Who decides when nobody does: the requests of a gate that is open.
pub const BYPASS: &str = "system-bypass";
/// Who ends requests that nobody decided in time.
pub const REAPER: &str = "system-reaper";

/// A request.
#[derive(Debug, Clone, PartialEq)]
pub struct Approval {
    /// The id.
    pub id: ApprovalId,
    /// What is asked for.
    pub kind: ApprovalKind,
    /// For which certificate; none for the change of a profile.
    pub certificate_id: Option<CertificateId>,
    /// Which job waits; none for the change of a profile.
    pub job_id: Option<JobId>,
    /// The profile that wants a second person, or is to be changed.
    pub profile_id: ProfileId,
    /// Who asks.
    pub requested_by: String,
    /// Where it stands.
    pub state: ApprovalState,
    /// Who decided; none while it is pending.
    pub decided_by: Option<String>,
    /// When; none while it is pending.
    pub decided_at: Option<Timestamp>,
    /// What the decider said.
    pub decision_note: Option<String>,
    /// What the second person is shown.
    pub metadata: BTreeMap<String, String>,
    /// What the profile is to be; none for a certificate.
    pub payload: Option<serde_json::Value>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// Why somebody is no second person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotSecond {
    /// It is who asked.
    #[error("whoever asked cannot decide")]
    Requester,
    /// It is who owns the certificate, by id, e-mail or name.
    #[error("the owner of the certificate cannot decide")]
    Owner,
}

/// Checks the two-person rule: whoever decides is neither who asked nor who owns the certificate. Names are compared without
/// regard to case and to blanks around them, so that no spelling of one person makes two.
///
/// # Errors
/// [`NotSecond`].
pub fn second_person(
    decider: &str,
    requested_by: Option<&str>,
    owner: Option<&Owner>,
) -> Result<(), NotSecond> {
    let is_decider = |name: &str| !name.trim().is_empty() && folded(name) == folded(decider);
    if requested_by.is_some_and(is_decider) {
        return Err(NotSecond::Requester);
    }
    let owns = owner.is_some_and(|owner| {
        [owner.id.as_str(), &owner.email, &owner.name]
            .into_iter()
            .any(is_decider)
    });
    if owns { Err(NotSecond::Owner) } else { Ok(()) }
}

fn folded(name: &str) -> String {
    name.trim().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::{NotSecond, second_person};
    use crate::{
        id::{OwnerId, TeamId},
        owner::Owner,
        time::Timestamp,
    };

    fn owner() -> Owner {
        Owner {
            id: OwnerId::from_stored("o-alice".into()),
            name: "Alice Ünal".into(),
            email: "alice@example.test".into(),
            team_id: TeamId::from_stored("t-1".into()),
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn neither_the_requester_nor_the_owner_is_a_second_person() {
        let owner = owner();
        for (decider, expected) in [
            ("bob", Err(NotSecond::Requester)),
            (" BOB ", Err(NotSecond::Requester)),
            ("o-alice", Err(NotSecond::Owner)),
            ("Alice@Example.test", Err(NotSecond::Owner)),
            ("alice ünal", Err(NotSecond::Owner)),
            ("carol", Ok(())),
            ("alice", Ok(())),
        ] {
            assert_eq!(
                second_person(decider, Some("bob"), Some(&owner)),
                expected,
                "{decider}"
            );
        }
    }

    #[test]
    fn an_owner_without_a_name_is_not_everybody() {
        let nameless = Owner {
            name: String::new(),
            email: " ".into(),
            ..owner()
        };
        assert_eq!(second_person("", None, Some(&nameless)), Ok(()));
        assert_eq!(second_person("carol", None, None), Ok(()));
    }
}
