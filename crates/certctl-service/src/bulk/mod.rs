//! Renewing, revoking and reassigning many certificates at once (api §12).
//!
//! Which states admit what is asked of [`CertificateStatus::transition`], as the single operations do; the repository only carries
//! out. Each call is one transaction with its audit row, however many certificates match, so it happens as a whole or not at all,
//! and what it answers is what it did.

mod ask;
mod tell;

use std::collections::BTreeSet;

use certctl_domain::{
    access::{Actor, Permission},
    audit::EventCategory,
    certificate::{CertificateEvent, CertificateSource, CertificateStatus},
    id::{CertificateId, JobId, OwnerId, TeamId},
    revocation::RevocationReason,
    validation::InvalidField,
};
use certctl_repository::{
    bulk::{self, Reassignment, Renewal, Revoking, Selection},
    jobs::agent,
    notifications, owners, teams, transaction,
};
use serde_json::{Value, json};

use crate::{
    Error, Services,
    engine::WAKE_CHANNEL,
    input::{known, one_of, reference},
    renewals::warn_unoffered,
    services::{authorise, event, record},
};

/// Ids that one call may name.
pub const MAX_IDS: usize = 10_000;

/// Jobs and failures that one answer lists. Whoever names ids is answered with all of theirs; where criteria match more, the
/// counts are exact and the list is cut, since a list of a million jobs is no answer anybody reads, and would be held in memory.
pub const MAX_LISTED: i64 = 10_000;

/// Ids that an audit row holds; of more it holds the number.
const MAX_AUDITED_IDS: usize = 1000;

/// Which certificates: what is said holds for each. Empty texts say nothing.
#[derive(Debug, Clone, Default)]
pub struct BulkCriteria {
    /// Of this profile.
    pub profile_id: Option<String>,
    /// Of this owner.
    pub owner_id: Option<String>,
    /// Mapped to a target of this agent.
    pub agent_id: Option<String>,
    /// Of this issuer.
    pub issuer_id: Option<String>,
    /// Of this team.
    pub team_id: Option<String>,
    /// Among these; 10,000 at the most.
    pub certificate_ids: Vec<String>,
}

/// To whom certificates are given.
#[derive(Debug, Clone, Default)]
pub struct ReassignInput {
    /// Which certificates.
    pub criteria: BulkCriteria,
    /// Who answers for them from now on; required.
    pub owner_id: String,
    /// Which team does; each keeps its own when it is absent.
    pub team_id: Option<String>,
}

/// One certificate that could not be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BulkFailure {
    /// The id as it is stored, or as it was given.
    pub certificate_id: String,
    /// Why, in words for the caller.
    pub error: &'static str,
}

/// What became of the certificates that match: every one of them is changed, skipped or failed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BulkOutcome {
    /// How many match.
    pub matched: i64,
    /// How many were changed.
    pub changed: i64,
    /// How many were left as they are, since their state says so or nothing is to be changed.
    pub skipped: i64,
    /// How many could not be changed.
    pub failed: i64,
    /// Which of them, [`MAX_LISTED`] at the most.
    pub failures: Vec<BulkFailure>,
    /// The new jobs by certificate, [`MAX_LISTED`] at the most.
    pub jobs: Vec<(CertificateId, JobId)>,
}

const NOTHING_ISSUED: &str = "nothing is issued for this certificate yet";
const UNKNOWN: &str = "there is no such certificate";

impl Services {
    /// Asks for a renewal of every match that admits one (api §11.3): Pending, Active, Expiring or Failed, and none under way.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `cert.issue`, [`Error::Invalid`] without criteria or with too many ids.
    pub async fn bulk_renew(
        &self,
        actor: &Actor,
        criteria: &BulkCriteria,
    ) -> Result<BulkOutcome, Error> {
        authorise(actor, Permission::CertIssue)?;
        let selection = criteria.selection()?;
        let eligible = admitting(CertificateEvent::Renew { force: false });
        let now = self.now();
        let renewal = Renewal {
            eligible: &eligible,
            ungated: self.first_status(false),
            gated: self.first_status(true),
            requested_by: actor.id(),
            listed: MAX_LISTED,
            now,
        };
        let renewed = transaction!(self.db, "bulk renew", conn => {
            let done = bulk::renew(conn, &selection, &renewal).await?;
            let approved = match done.awaiting_approval {
                0 => Vec::new(),
                _ => self.ask_for_batch(conn, actor, &done.asked, now).await?,
            };
            let jobs: Vec<JobId> = done.jobs.iter().map(|(_, job)| job.clone()).collect();
            let unoffered = agent::mark_unoffered(conn, &jobs).await?;
            if done.enqueued > 0 {
                certctl_repository::notify(conn, WAKE_CHANNEL).await?;
            }
            let details = json!({"criteria": criteria.audited(), "total_matched": done.matched, "total_enqueued": done.enqueued,
                "total_awaiting_approval": done.awaiting_approval});
            record(conn, event(actor, EventCategory::CertLifecycle, "bulk_renewal_initiated", BULK, details, now)).await?;
            Ok::<_, Error>((done, approved, unoffered))
        });
        let (done, approved, unoffered) = renewed?;
        ask::count_approved(&approved);
        warn_unoffered(&unoffered);
        if done.enqueued > 0 {
            self.wake.ring();
        }
        Ok(BulkOutcome {
            matched: done.matched,
            changed: done.enqueued,
            skipped: done.matched - done.enqueued,
            jobs: done.jobs,
            ..BulkOutcome::default()
        })
    }

    /// Revokes the latest version of every match that is not revoked or archived (api §11.5), of one door only where `source` says
    /// so. Those of which nothing is issued fail. Issuers are told after the commit, in the background.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `cert.bulk_revoke`, [`Error::Invalid`] without criteria, with too many ids, or for a reason that
    /// is missing or unknown.
    pub async fn bulk_revoke(
        &self,
        actor: &Actor,
        criteria: &BulkCriteria,
        reason: &str,
        source: Option<CertificateSource>,
    ) -> Result<BulkOutcome, Error> {
        authorise(actor, Permission::CertBulkRevoke)?;
        if reason.is_empty() {
            return Err(InvalidField::required("reason").into());
        }
        let reason = one_of("reason", reason, RevocationReason::parse)?;
        let mut selection = criteria.selection()?;
        selection.source = source;
        let eligible = admitting(CertificateEvent::Revoke);
        let now = self.now();
        let revoking = Revoking {
            eligible: &eligible,
            reason,
            revoked_by: actor.id(),
            note: "the certificate was revoked",
            listed: MAX_LISTED,
            now,
        };
        let done = transaction!(self.db, "bulk revoke", conn => {
            let done = bulk::revoke(conn, &selection, &revoking).await?;
            notifications::enqueue_revocations(conn, &done.batch, revoking.reason, now).await?;
            let details = json!({"criteria": criteria.audited(), "reason": reason.as_str(), "source": source.map(CertificateSource::as_str),
                "total_matched": done.matched, "total_revoked": done.revoked, "total_failed": done.without_version});
            record(conn, event(actor, EventCategory::CertLifecycle, "bulk_revocation_initiated", BULK, details, now)).await?;
            Ok::<_, Error>(done)
        })?;
        if done.revoked > 0 {
            self.tell_issuers_in_background(done.batch);
        }
        let failures = done.unissued.into_iter().map(|id| BulkFailure {
            certificate_id: id.into_string(),
            error: NOTHING_ISSUED,
        });
        Ok(BulkOutcome {
            matched: done.matched,
            changed: done.revoked,
            skipped: done.matched - done.revoked - done.without_version,
            failed: done.without_version,
            failures: failures.collect(),
            jobs: Vec::new(),
        })
    }

    /// Gives every match to an owner, and to a team where one is named. Ids that no certificate has are failed, and not matched.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `cert.edit`, [`Error::Invalid`] when nothing says which certificates, with too many ids, and for
    /// an owner or team that is missing or does not exist.
    pub async fn bulk_reassign(
        &self,
        actor: &Actor,
        input: &ReassignInput,
    ) -> Result<BulkOutcome, Error> {
        authorise(actor, Permission::CertEdit)?;
        let selection = input.criteria.selection()?;
        let owner = reference("owner_id", &input.owner_id, OwnerId::parse)?;
        let team = given(input.team_id.as_ref())
            .map(|team| reference("team_id", &team, TeamId::parse))
            .transpose()?;
        let now = self.now();
        let to = Reassignment {
            owner_id: &owner,
            team_id: team.as_ref(),
            now,
        };
        let done = transaction!(self.db, "bulk reassign", conn => {
            known("owner_id", owners::find(conn, &owner).await)?;
            if let Some(team) = &team {
                known("team_id", teams::find(conn, team).await)?;
            }
            let done = bulk::reassign(conn, &selection, &to).await.map_err(gone_meanwhile)?;
            let details = json!({"criteria": input.criteria.audited(), "owner_id": owner.as_str(), "team_id": team.as_ref().map(TeamId::as_str),
                "total_matched": done.matched, "total_reassigned": done.reassigned, "total_failed": done.unknown.len()});
            record(conn, event(actor, EventCategory::CertLifecycle, "bulk_reassignment_initiated", BULK, details, now)).await?;
            Ok::<_, Error>(done)
        })?;
        // Ids that cannot be one at all never reach the database.
        let unknown = input.criteria.impossible_ids().chain(done.unknown);
        let failures: Vec<BulkFailure> = unknown
            .map(|certificate_id| BulkFailure {
                certificate_id,
                error: UNKNOWN,
            })
            .collect();
        Ok(BulkOutcome {
            matched: done.matched,
            changed: done.reassigned,
            skipped: done.matched - done.reassigned,
            failed: i64::try_from(failures.len()).unwrap_or(i64::MAX),
            failures,
            jobs: Vec::new(),
        })
    }
}

/// What the audit rows are about.
const BULK: (&str, &str) = ("certificate", "bulk");

/// The states that admit an event.
fn admitting(event: CertificateEvent) -> Vec<CertificateStatus> {
    CertificateStatus::ALL
        .iter()
        .copied()
        .filter(|status| status.transition(event).is_ok())
        .collect()
}

/// The owner or team may be deleted between the look at it and the change.
fn gone_meanwhile(error: certctl_repository::Error) -> Error {
    match error {
        certctl_repository::Error::Reference => {
            InvalidField::new("owner_id", "does not exist").into()
        }
        other => other.into(),
    }
}

fn given(text: Option<&String>) -> Option<String> {
    text.filter(|text| !text.is_empty()).cloned()
}

impl BulkCriteria {
    /// What is asked of the database.
    fn selection(&self) -> Result<Selection, Error> {
        if self.certificate_ids.len() > MAX_IDS {
            let problem = format!("has more than {MAX_IDS} entries");
            return Err(InvalidField::new("certificate_ids", problem).into());
        }
        let fields = [
            ("profile_id", &self.profile_id),
            ("owner_id", &self.owner_id),
            ("agent_id", &self.agent_id),
            ("issuer_id", &self.issuer_id),
            ("team_id", &self.team_id),
        ];
        for (field, text) in fields {
            // PostgreSQL has no text with a NUL, and would refuse the statement.
            if text.as_ref().is_some_and(|text| text.contains('\0')) {
                return Err(InvalidField::new(field, "contains a NUL character").into());
            }
        }
        let [profile_id, owner_id, agent_id, issuer_id, team_id] =
            fields.map(|(_, text)| given(text.as_ref()));
        let ids: BTreeSet<&String> = self
            .certificate_ids
            .iter()
            .filter(|id| CertificateId::parse(id).is_ok())
            .collect();
        let selection = Selection {
            profile_id,
            owner_id,
            agent_id,
            issuer_id,
            team_id,
            ids: (!self.certificate_ids.is_empty()).then(|| ids.into_iter().cloned().collect()),
            source: None,
        };
        if selection == Selection::default() {
            return Err(Error::BadRequest(
                "name at least one criterion: profile_id, owner_id, agent_id, issuer_id, team_id or certificate_ids".to_owned(),
            ));
        }
        Ok(selection)
    }

    /// Ids that were given and that nothing can have, each once.
    fn impossible_ids(&self) -> impl Iterator<Item = String> {
        let ids: BTreeSet<String> = self
            .certificate_ids
            .iter()
            .filter(|id| CertificateId::parse(id).is_err())
            .cloned()
            .collect();
        ids.into_iter()
    }

    /// What the audit log keeps of it.
    fn audited(&self) -> Value {
        let mut kept = serde_json::Map::new();
        for (name, text) in [
            ("profile_id", &self.profile_id),
            ("owner_id", &self.owner_id),
            ("agent_id", &self.agent_id),
            ("issuer_id", &self.issuer_id),
            ("team_id", &self.team_id),
        ] {
            if let Some(text) = given(text.as_ref()) {
                kept.insert(name.to_owned(), text.into());
            }
        }
        let possible: Vec<&str> = self
            .certificate_ids
            .iter()
            .map(String::as_str)
            .filter(|id| CertificateId::parse(id).is_ok())
            .collect();
        if self.certificate_ids.len() > MAX_AUDITED_IDS {
            kept.insert(
                "certificate_ids_count".to_owned(),
                self.certificate_ids.len().into(),
            );
        } else if !self.certificate_ids.is_empty() {
            kept.insert("certificate_ids".to_owned(), possible.into());
        }
        Value::Object(kept)
    }
}

#[cfg(test)]
mod tests {
    use certctl_domain::certificate::{CertificateEvent, CertificateStatus as S};

    use super::admitting;

    #[test]
    fn the_states_are_those_of_the_contract() {
        let renewable = admitting(CertificateEvent::Renew { force: false });
        assert_eq!(renewable, [S::Pending, S::Active, S::Expiring, S::Failed]);
        let revocable = admitting(CertificateEvent::Revoke);
        let kept: Vec<S> = S::ALL
            .iter()
            .copied()
            .filter(|state| !revocable.contains(state))
            .collect();
        assert_eq!(kept, [S::Revoked, S::Archived]);
    }
}
