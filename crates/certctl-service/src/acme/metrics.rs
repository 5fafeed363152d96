//! What the ACME server counts (acme-server §14).

use std::time::Duration;

use certctl_domain::acme::ChallengeType;
use certctl_telemetry::metrics_names::{self as names, Metric};
use metrics::{counter, gauge, histogram};

/// A use case, and the counts of its calls and of those that failed.
pub(super) type Counted = (&'static Metric, &'static Metric);

pub(super) const DIRECTORY: Counted = (
    &names::ACME_DIRECTORY_TOTAL,
    &names::ACME_DIRECTORY_FAILURES_TOTAL,
);
pub(super) const NEW_NONCE: Counted = (
    &names::ACME_NEW_NONCE_TOTAL,
    &names::ACME_NEW_NONCE_FAILURES_TOTAL,
);
pub(super) const RENEWAL_INFO: Counted = (
    &names::ACME_RENEWAL_INFO_TOTAL,
    &names::ACME_RENEWAL_INFO_FAILURES_TOTAL,
);
pub(super) const NEW_ACCOUNT: Counted = (
    &names::ACME_NEW_ACCOUNT_TOTAL,
    &names::ACME_NEW_ACCOUNT_FAILURES_TOTAL,
);
pub(super) const UPDATE_ACCOUNT: Counted = (
    &names::ACME_UPDATE_ACCOUNT_TOTAL,
    &names::ACME_UPDATE_ACCOUNT_FAILURES_TOTAL,
);
pub(super) const KEY_CHANGE: Counted = (
    &names::ACME_KEY_CHANGE_TOTAL,
    &names::ACME_KEY_CHANGE_FAILURES_TOTAL,
);
pub(super) const NEW_ORDER: Counted = (
    &names::ACME_NEW_ORDER_TOTAL,
    &names::ACME_NEW_ORDER_FAILURES_TOTAL,
);
pub(super) const FINALIZE_ORDER: Counted = (
    &names::ACME_FINALIZE_ORDER_TOTAL,
    &names::ACME_FINALIZE_ORDER_FAILURES_TOTAL,
);
pub(super) const CERT_DOWNLOAD: Counted = (
    &names::ACME_CERT_DOWNLOAD_TOTAL,
    &names::ACME_CERT_DOWNLOAD_FAILURES_TOTAL,
);
pub(super) const CHALLENGE_RESPOND: Counted = (
    &names::ACME_CHALLENGE_RESPOND_TOTAL,
    &names::ACME_CHALLENGE_RESPOND_FAILURES_TOTAL,
);
pub(super) const REVOKE_CERT: Counted = (
    &names::ACME_REVOKE_CERT_TOTAL,
    &names::ACME_REVOKE_CERT_FAILURES_TOTAL,
);

/// Counts a call, and what became of it.
pub(super) fn count<T, E>(counted: Counted, result: &Result<T, E>) {
    counter!(counted.0.name).increment(1);
    if result.is_err() {
        counter!(counted.1.name).increment(1);
    }
}

/// Counts one more.
pub(super) fn add(metric: &'static Metric, more: usize) {
    if more > 0 {
        counter!(metric.name).increment(more as u64);
    }
}

pub(super) fn count_limited(action: &'static str) {
    counter!(names::ACME_RATE_LIMITED_TOTAL.name, "action" => action).increment(1);
}

pub(super) fn observe_batch(requests: usize) {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a batch has some hundred requests at the most"
    )]
    histogram!(names::ACME_DESK_BATCH.name).record(requests as f64);
}

pub(super) fn observe_challenge(kind: ChallengeType, took: Duration, is_proved: bool) {
    histogram!(names::ACME_CHALLENGE_VALIDATE_SECONDS.name, "type" => kind.as_str())
        .record(took.as_secs_f64());
    add(
        if is_proved {
            &names::ACME_CHALLENGE_VALIDATE_VALID_TOTAL
        } else {
            &names::ACME_CHALLENGE_VALIDATE_INVALID_TOTAL
        },
        1,
    );
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a pool holds some hundred at the most"
)]
pub(super) fn show_inflight(kind: ChallengeType, now: usize, peak: usize) {
    gauge!(names::ACME_CHALLENGE_INFLIGHT.name, "type" => kind.as_str()).set(now as f64);
    gauge!(names::ACME_CHALLENGE_INFLIGHT_PEAK.name, "type" => kind.as_str()).set(peak as f64);
}
