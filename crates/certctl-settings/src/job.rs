//! How many jobs run at once, and how long they may wait for someone.

use std::time::Duration;

use crate::{
    form::{Bool, Count},
    reader::Reader,
    setting::{DefaultValue::Text, settings},
    span::Span,
};

settings!(JOBS, "Jobs" {
    SCHEDULER_JOB_CLAIM_LIMIT: Count = Count { min: 1, max: 100_000 }, Text("1000"), SERVER,
        "The greatest number of jobs that one look takes up.";
    RENEWAL_CONCURRENCY: Count = Count { min: 1, max: 10_000 }, Text("25"), SERVER,
        "The greatest number of batches of jobs that this replica works on at once; more than three bring nothing.";
    ISSUER_CONCURRENCY: Count = Count { min: 1, max: 10_000 }, Text("10"), SERVER,
        "The greatest number of requests to one issuer that this replica has open at once. No effect yet.";
    JOB_BATCH_SIZE: Count = Count { min: 1, max: 2_500 }, Text("250"), SERVER,
        "The number of jobs that are claimed, signed and stored together: each batch costs three commits.";
    JOB_LEASE_TTL: Span = Span::at_least_seconds(1), Text("5m"), SERVER,
        "How long a claimed job is held without a sign of life before another worker takes it up.";
    JOB_AWAITING_CSR_TIMEOUT: Span = Span::at_least_seconds(1), Text("24h"), SERVER,
        "How long a job waits for the certificate request of an agent before it fails.";
    JOB_AWAITING_APPROVAL_TIMEOUT: Span = Span::at_least_seconds(1), Text("168h"), SERVER,
        "How long a job or the edit of a profile waits for approval before it ends.";
    APPROVAL_BYPASS: Bool = Bool, Text("false"), SERVER,
        "Whether what needs the approval of a second person is approved at once, by `system-bypass`. For demonstrations.";
});

/// How many jobs run at once, and how long they may wait for someone.
#[derive(Debug, Clone)]
pub struct JobSettings {
    /// The greatest number of jobs claimed at once; at least 1.
    pub claim_limit: u32,
    /// The greatest number of jobs worked on at once; at least 1.
    pub concurrency: u32,
    /// The greatest number of open requests to one issuer; at least 1.
    pub issuer_concurrency: u32,
    /// The number of jobs claimed, signed and stored together; at least 1.
    pub batch_size: u32,
    /// How long a claimed job is held without a sign of life.
    pub lease_ttl: Duration,
    /// How long a job waits for a CSR.
    pub awaiting_csr_timeout: Duration,
    /// How long a job waits for approval.
    pub awaiting_approval_timeout: Duration,
    /// Whether what needs approval is approved at once.
    pub approval_bypass: bool,
}

impl JobSettings {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            claim_limit: reader.get(&SCHEDULER_JOB_CLAIM_LIMIT),
            concurrency: reader.get(&RENEWAL_CONCURRENCY),
            issuer_concurrency: reader.get(&ISSUER_CONCURRENCY),
            batch_size: reader.get(&JOB_BATCH_SIZE),
            lease_ttl: reader.get(&JOB_LEASE_TTL),
            awaiting_csr_timeout: reader.get(&JOB_AWAITING_CSR_TIMEOUT),
            awaiting_approval_timeout: reader.get(&JOB_AWAITING_APPROVAL_TIMEOUT),
            approval_bypass: reader.get(&APPROVAL_BYPASS),
        }
    }
}
