//! Jobs: renewal, issuance, deployment and validation in one table with one state machine.

use std::time::Duration;

use crate::{
    id::{AgentId, CertificateId, JobId, TargetId},
    text_enum,
    time::Timestamp,
};

text_enum! {
    /// What a job does.
    pub enum JobType ("job type") {
        /// The first version of a certificate.
        Issuance = "Issuance",
        /// A further version.
        Renewal = "Renewal",
        /// Bringing a version to a target.
        Deployment = "Deployment",
        /// Looking whether a target serves what it should.
        Validation = "Validation",
    }
}

text_enum! {
    /// Where a job stands (model §5.2).
    pub enum JobStatus ("job status") {
        /// Waits for a worker or an agent.
        Pending = "Pending",
        /// Waits for an agent's certificate signing request.
        AwaitingCsr = "AwaitingCSR",
        /// Waits for a second person.
        AwaitingApproval = "AwaitingApproval",
        /// A worker or an agent has it.
        Running = "Running",
        /// Done; terminal.
        Completed = "Completed",
        /// Failed; terminal once its attempts are used up.
        Failed = "Failed",
        /// Called off; terminal.
        Cancelled = "Cancelled",
    }
}

text_enum! {
    /// Whether a deployment was seen to be served.
    pub enum VerificationStatus ("verification status") {
        /// Not yet looked.
        Pending = "pending",
        /// The target serves it.
        Success = "success",
        /// The target does not, or could not be reached.
        Failed = "failed",
        /// There is nothing to look at.
        Skipped = "skipped",
    }
}

/// What happens to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobEvent {
    /// A second person agrees.
    Approve,
    /// A second person refuses.
    Reject,
    /// A worker or an agent takes it.
    Claim,
    /// The server hands it to an agent that must make the key.
    AwaitCsr,
    /// It is done.
    Complete,
    /// It failed.
    Fail,
    /// A failed job is tried again, or a lease ran out.
    Retry,
    /// It is called off.
    Cancel,
}

/// A state does not admit an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a job that is {from} cannot do this")]
pub struct IllegalTransition {
    /// The state it is in.
    pub from: JobStatus,
}

impl JobStatus {
    /// The state after `event`.
    ///
    /// # Errors
    /// [`IllegalTransition`] where the state machine has no such edge; the database refuses the same by comparing the old
    /// state in the `WHERE` of every change.
    pub fn transition(self, event: JobEvent) -> Result<Self, IllegalTransition> {
        use JobEvent as E;
        match (self, event) {
            (Self::AwaitingApproval, E::Approve) | (Self::Failed | Self::Running, E::Retry) => {
                Ok(Self::Pending)
            }
            (Self::AwaitingApproval, E::Reject) => Ok(Self::Cancelled),
            (Self::Pending | Self::AwaitingCsr, E::Claim) => Ok(Self::Running),
            (Self::Pending | Self::Running, E::AwaitCsr) => Ok(Self::AwaitingCsr),
            (Self::Running, E::Complete) => Ok(Self::Completed),
            (Self::Running | Self::AwaitingCsr | Self::AwaitingApproval, E::Fail) => {
                Ok(Self::Failed)
            }
            (
                Self::Pending | Self::Running | Self::AwaitingCsr | Self::AwaitingApproval,
                E::Cancel,
            ) => Ok(Self::Cancelled),
            _ => Err(IllegalTransition { from: self }),
        }
    }

    /// Whether nothing can happen to it any more, attempts aside.
    #[must_use]
    pub const fn is_finished(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// The states in which a job is still to be done.
    pub const OPEN: [Self; 4] = [
        Self::Pending,
        Self::AwaitingCsr,
        Self::AwaitingApproval,
        Self::Running,
    ];
}

/// A job.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// The id.
    pub id: JobId,
    /// What it does.
    pub job_type: JobType,
    /// For which certificate; none only in rows written by others.
    pub certificate_id: Option<CertificateId>,
    /// To which target.
    pub target_id: Option<TargetId>,
    /// By which agent.
    pub agent_id: Option<AgentId>,
    /// Where it stands.
    pub status: JobStatus,
    /// How often it was started.
    pub attempts: u32,
    /// How often it may be started.
    pub max_attempts: u32,
    /// Why it last failed.
    pub last_error: Option<String>,
    /// Not before when it runs.
    pub scheduled_at: Timestamp,
    /// When it was last started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it entered the state it is in.
    pub status_changed_at: Timestamp,
    /// When it may be tried again; none when it may not.
    pub next_attempt_at: Option<Timestamp>,
    /// Whether what was deployed was seen to be served.
    pub verification_status: VerificationStatus,
    /// When it was looked at.
    pub verified_at: Option<Timestamp>,
    /// The fingerprint that was expected.
    pub expected_fingerprint: Option<String>,
    /// The fingerprint that was served.
    pub verification_fingerprint: Option<String>,
    /// Why the look failed.
    pub verification_error: Option<String>,
}

/// Whether a failure may pass by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryClass {
    /// Time-outs, network faults, 5xx, rate limits: try again later.
    Retryable,
    /// Wrong input, refused credentials, policy: trying again changes nothing.
    Permanent,
}

/// How long to wait before attempt `attempts + 1`: the interval doubled with each attempt, at most an hour or the interval
/// itself where that is longer, spread by a fifth either way (scheduler §5).
#[must_use]
pub fn retry_delay(attempts: u32, interval: Duration, jitter: f64) -> Duration {
    let factor = 2_u32.saturating_pow(attempts.saturating_sub(1).min(16));
    let cap = interval.max(Duration::from_secs(3600));
    let delay = interval.saturating_mul(factor).min(cap);
    delay.mul_f64(0.8 + 0.4 * jitter.clamp(0.0, 1.0))
}

/// How long an agent may take for a deployment it was given before it is given out again; the answer that gave it out may
/// have been lost (scheduler §5: each job has 15 minutes).
pub const AGENT_LEASE: Duration = Duration::from_secs(15 * 60);
/// The retry interval of a job whose certificate has no policy.
pub const DEFAULT_RETRY_INTERVAL: Duration = Duration::from_secs(60);
/// Attempts of a job whose certificate has no policy.
pub const DEFAULT_MAX_ATTEMPTS: u32 = 3;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{JobEvent as E, JobStatus as S, retry_delay};

    #[test]
    fn finished_jobs_stay_finished() {
        for event in [
            E::Approve,
            E::Reject,
            E::Claim,
            E::AwaitCsr,
            E::Complete,
            E::Fail,
            E::Retry,
            E::Cancel,
        ] {
            assert!(S::Completed.transition(event).is_err());
            assert!(S::Cancelled.transition(event).is_err());
        }
        assert_eq!(S::Failed.transition(E::Retry), Ok(S::Pending));
    }

    #[test]
    fn no_job_passes_the_approval_gate_by_itself() {
        assert!(S::AwaitingApproval.transition(E::Claim).is_err());
        assert!(S::AwaitingApproval.transition(E::Retry).is_err());
        assert!(S::AwaitingApproval.transition(E::AwaitCsr).is_err());
    }

    #[test]
    fn retries_double_up_to_the_cap() {
        let minute = Duration::from_secs(60);
        assert_eq!(retry_delay(1, minute, 0.5), minute);
        assert_eq!(retry_delay(3, minute, 0.5), 4 * minute);
        assert_eq!(retry_delay(30, minute, 0.5), Duration::from_secs(3600));
        assert_eq!(
            retry_delay(2, Duration::from_secs(7200), 0.5),
            Duration::from_secs(7200)
        );
    }
}
