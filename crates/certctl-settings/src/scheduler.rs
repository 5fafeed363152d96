//! How often the loops run. The least intervals are those of the scheduler contract §2.

use std::time::Duration;

use crate::{
    form::Bool,
    reader::Reader,
    setting::{DefaultValue::Text, settings},
    span::Span,
};

settings!(SCHEDULER, "Scheduler" {
    SCHEDULER_RENEWAL_CHECK_INTERVAL: Span = Span::at_least_seconds(60), Text("1h"), SERVER,
        "How often certificates that are due are looked for.";
    SCHEDULER_JOB_PROCESSOR_INTERVAL: Span = Span::at_least_seconds(1), Text("30s"), SERVER,
        "How often pending jobs are looked for, beside being told of new ones.";
    SCHEDULER_RETRY_INTERVAL: Span = Span::at_least_seconds(1), Text("5m"), SERVER,
        "How often failed jobs that may be tried again are looked for.";
    JOB_TIMEOUT_INTERVAL: Span = Span::at_least_seconds(1), Text("10m"), SERVER,
        "How often jobs that have waited for too long are looked for.";
    SCHEDULER_AGENT_HEALTH_CHECK_INTERVAL: Span = Span::at_least_seconds(1), Text("2m"), SERVER,
        "How often agents that have gone silent are looked for.";
    APPROVAL_EXPIRY_INTERVAL: Span = Span::at_least_seconds(1), Text("1m"), SERVER,
        "How often requests that nobody approved in time are looked for.";
    AGENT_OFFLINE_AFTER: Span = Span::at_least_seconds(1), Text("3m"), SERVER,
        "How long after its last heartbeat an agent is offline.";
    SHORT_LIVED_EXPIRY_CHECK_INTERVAL: Span = Span::at_least_seconds(1), Text("30s"), SERVER,
        "How often certificates with a life of less than an hour are looked at for expiry.";
    AUDIT_CHAIN_VERIFY_INTERVAL: Span = Span::at_least_seconds(60), Text("6h"), SERVER,
        "How often the audit trail is verified: what is new, and everything once a day.";
    RETENTION_INTERVAL: Span = Span::at_least_seconds(60), Text("1h"), SERVER,
        "How often histories beyond their time are removed. No effect yet.";
    SCHEDULER_LEADER_ELECTION: Bool = Bool, Text("true"), SERVER,
        "Whether a loop with outside effects runs on one replica at a time. No effect yet.";
    SCHEDULER_LEASE_TTL: Span = Span::at_least_seconds(5), Text("30s"), SERVER,
        "How long a replica leads a loop without renewing its lease; it renews three times in that time.";
});

/// How often the loops run.
#[derive(Debug, Clone)]
pub struct SchedulerSettings {
    /// Between two looks for certificates that are due.
    pub renewal_check: Duration,
    /// Between two looks for pending jobs.
    pub job_processor: Duration,
    /// Between two looks for jobs to try again.
    pub job_retry: Duration,
    /// Between two looks for jobs that have waited for too long.
    pub job_timeout: Duration,
    /// Between two looks for silent agents.
    pub agent_health_check: Duration,
    /// Between two looks for requests that nobody approved in time.
    pub approval_expiry: Duration,
    /// How long after its last heartbeat an agent is offline.
    pub agent_offline_after: Duration,
    /// Between two looks at certificates with a short life.
    pub short_lived_expiry_check: Duration,
    /// Between two verifications of the audit log.
    pub audit_chain_verify: Duration,
    /// Between two removals of old histories.
    pub retention: Duration,
    /// Whether a loop with outside effects runs on one replica at a time.
    pub leader_election: bool,
    /// How long a lease of a loop lasts; at least five seconds.
    pub lease_ttl: Duration,
}

impl SchedulerSettings {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            renewal_check: reader.get(&SCHEDULER_RENEWAL_CHECK_INTERVAL),
            job_processor: reader.get(&SCHEDULER_JOB_PROCESSOR_INTERVAL),
            job_retry: reader.get(&SCHEDULER_RETRY_INTERVAL),
            job_timeout: reader.get(&JOB_TIMEOUT_INTERVAL),
            agent_health_check: reader.get(&SCHEDULER_AGENT_HEALTH_CHECK_INTERVAL),
            approval_expiry: reader.get(&APPROVAL_EXPIRY_INTERVAL),
            agent_offline_after: reader.get(&AGENT_OFFLINE_AFTER),
            short_lived_expiry_check: reader.get(&SHORT_LIVED_EXPIRY_CHECK_INTERVAL),
            audit_chain_verify: reader.get(&AUDIT_CHAIN_VERIFY_INTERVAL),
            retention: reader.get(&RETENTION_INTERVAL),
            leader_election: reader.get(&SCHEDULER_LEADER_ELECTION),
            lease_ttl: reader.get(&SCHEDULER_LEASE_TTL),
        }
    }
}
