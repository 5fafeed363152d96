//! All metrics by name, with kind, unit, labels and help (operations contract §5).
//!
//! ```text
//! metrics::counter!(HTTP_REQUESTS_TOTAL.name, "method" => "GET", "route" => "/health", "status" => "2xx").increment(1);
//! ```

use metrics::Unit;

/// What kind of value a metric has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A count that only grows.
    Counter,
    /// A value that goes up and down.
    Gauge,
    /// A distribution in buckets.
    Histogram,
}

impl Kind {
    /// The word of the text format.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Who holds the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The recorder of this process, for what this process did.
    Recorder,
    /// Nobody: it is worked out at each scrape, most often by the database, and the same on every replica.
    Scrape,
}

/// A metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// The whole name.
    pub name: &'static str,
    /// What kind of value it has.
    pub kind: Kind,
    /// What the value counts.
    pub unit: Unit,
    /// The names of its labels; every sample has all of them.
    pub labels: &'static [&'static str],
    /// The upper bounds of its buckets, ascending; empty unless it is a histogram.
    pub buckets: &'static [f64],
    /// Who holds the value.
    pub source: Source,
    /// What it means.
    pub help: &'static str,
}

/// Describes all recorded metrics to the recorder in force.
pub fn describe_all() {
    for metric in ALL
        .iter()
        .filter(|metric| metric.source == Source::Recorder)
    {
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, metric.unit, metric.help),
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.unit, metric.help),
            Kind::Histogram => metrics::describe_histogram!(metric.name, metric.unit, metric.help),
        }
    }
}

/// Seconds of a call to a CA, as the contract sets them.
const ISSUANCE_BUCKETS: &[f64] = &[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];
/// Seconds of a request or a statement that should take milliseconds.
const FAST_BUCKETS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
/// Seconds of a run of a loop, up to the longest deadline of one.
const RUN_BUCKETS: &[f64] = &[
    0.001, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0,
];
/// Seconds of a job, which may wait for an agent's next poll.
const JOB_BUCKETS: &[f64] = &[
    0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 30.0, 60.0, 300.0, 1800.0, 3600.0,
];
/// Things that one transaction does.
const BATCH_BUCKETS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];
/// Seconds that people take (scheduler §6).
const HUMAN_BUCKETS: &[f64] = &[60.0, 300.0, 1800.0, 3600.0, 21_600.0, 86_400.0];

/// Declares metrics and the list of them all, so that none can be left out of it.
macro_rules! metrics {
    ($($name:ident = $kind:ident $source:ident $unit:ident $text:literal [$($label:literal),*] $($buckets:ident)? : $help:literal;)+) => {
        $(
            #[doc = concat!("`", $text, "`: ", $help)]
            pub const $name: Metric = Metric {
                name: $text,
                kind: Kind::$kind,
                unit: Unit::$unit,
                labels: &[$($label),*],
                buckets: metrics!(@buckets $($buckets)?),
                source: Source::$source,
                help: $help,
            };
        )+
        /// All metrics.
        pub static ALL: &[&Metric] = &[$(&$name),+];
    };
    (@buckets) => { &[] };
    (@buckets $buckets:ident) => { $buckets };
}

metrics! {
    // The fleet.
    CERTIFICATE_TOTAL = Gauge Scrape Count "certctl_certificate_total" []: "Certificates.";
    CERTIFICATE_ACTIVE = Gauge Scrape Count "certctl_certificate_active" []: "Certificates with the status Active.";
    CERTIFICATE_EXPIRING_SOON = Gauge Scrape Count "certctl_certificate_expiring_soon" []:
        "Certificates that expire within 30 days and are neither expired nor revoked.";
    CERTIFICATE_EXPIRED = Gauge Scrape Count "certctl_certificate_expired" []: "Certificates with the status Expired.";
    CERTIFICATE_REVOKED = Gauge Scrape Count "certctl_certificate_revoked" []: "Certificates with the status Revoked.";
    AGENT_TOTAL = Gauge Scrape Count "certctl_agent_total" []: "Agents that are not retired.";
    AGENT_ONLINE = Gauge Scrape Count "certctl_agent_online" []:
        "Agents that are not retired and sent a heartbeat within five minutes.";
    JOB_PENDING = Gauge Scrape Count "certctl_job_pending" []: "Jobs that are not finished.";
    JOB_COMPLETED_TOTAL = Counter Scrape Count "certctl_job_completed_total" []: "Jobs that were completed.";
    JOB_FAILED_TOTAL = Counter Scrape Count "certctl_job_failed_total" []: "Runs of jobs that failed, those that are tried again included.";
    NOTIFICATION_DEAD_TOTAL = Counter Scrape Count "certctl_notification_dead_total" []: "Notifications that were given up.";
    UPTIME_SECONDS = Gauge Scrape Seconds "certctl_uptime_seconds" []: "Seconds since this process started.";

    // Issuance.
    ISSUANCE_TOTAL = Counter Recorder Count "certctl_issuance_total" ["issuer_type", "outcome"]:
        "Requests to issuers for a certificate, by outcome: success or failure.";
    ISSUANCE_DURATION_SECONDS = Histogram Recorder Seconds "certctl_issuance_duration_seconds" ["issuer_type"] ISSUANCE_BUCKETS:
        "How long issuers took to answer.";
    ISSUANCE_FAILURES_TOTAL = Counter Recorder Count "certctl_issuance_failures_total" ["issuer_type", "error_class"]:
        "Failed requests to issuers, by class: timeout, auth, rate_limited, validation, upstream_5xx, upstream_4xx, network or other.";
    VAULT_TOKEN_RENEWALS_TOTAL = Counter Recorder Count "certctl_vault_token_renewals_total" ["result"]:
        "Renewals of the Vault token, by result: success, failure or not_renewable.";

    // Deployment.
    DEPLOY_ATTEMPTS_TOTAL = Counter Recorder Count "certctl_deploy_attempts_total" ["target_type", "result"]:
        "Deployments, by result: success or failure.";
    DEPLOY_VALIDATE_FAILURES_TOTAL = Counter Recorder Count "certctl_deploy_validate_failures_total" ["target_type"]:
        "Deployments that ended because the target's own check refused the new files.";
    DEPLOY_RELOAD_FAILURES_TOTAL = Counter Recorder Count "certctl_deploy_reload_failures_total" ["target_type"]:
        "Deployments whose target did not reload.";
    DEPLOY_POST_VERIFY_FAILURES_TOTAL = Counter Recorder Count "certctl_deploy_post_verify_failures_total" ["target_type"]:
        "Deployments after which another certificate was served.";
    DEPLOY_ROLLBACK_TOTAL = Counter Recorder Count "certctl_deploy_rollback_total" ["target_type", "outcome"]:
        "Deployments that were rolled back, by outcome: restored or also_failed.";
    DEPLOY_IDEMPOTENT_SKIP_TOTAL = Counter Recorder Count "certctl_deploy_idempotent_skip_total" ["target_type"]:
        "Deployments that found the same files in place and wrote nothing.";

    // Jobs.
    JOB_WAIT_SECONDS = Histogram Recorder Seconds "certctl_job_wait_seconds" ["type"] JOB_BUCKETS:
        "How long jobs waited from the time they could run until they were claimed.";
    JOB_DURATION_SECONDS = Histogram Recorder Seconds "certctl_job_duration_seconds" ["type", "outcome"] JOB_BUCKETS:
        "How long jobs took from their claim to their end, by outcome: completed, failed, retry or released.";
    JOB_CLAIM_SIZE = Histogram Recorder Count "certctl_job_claim_size" [] CLAIM_BUCKETS: "Jobs taken up by one claim.";
    JOB_LEASES_EXPIRED_TOTAL = Counter Recorder Count "certctl_job_leases_expired_total" []:
        "Jobs taken up again because their worker's lease had expired.";

    // Notifications and approvals.
    EXPIRY_ALERTS_TOTAL = Counter Recorder Count "certctl_expiry_alerts_total" ["channel", "threshold", "result"]:
        "Alerts of coming expiry, by result: success, failure or deduped.";
    APPROVAL_DECISIONS_TOTAL = Counter Recorder Count "certctl_approval_decisions_total" ["outcome", "profile_id"]:
        "Decisions on approval requests.";
    APPROVAL_PENDING_AGE_SECONDS = Histogram Recorder Seconds "certctl_approval_pending_age_seconds" [] HUMAN_BUCKETS:
        "How old approval requests were when they were decided.";

    // Audit.
    AUDIT_CHAIN_VERIFY_TOTAL = Counter Recorder Count "certctl_audit_chain_verify_total" []: "Verifications of the audit log.";
    AUDIT_CHAIN_BREAK_DETECTED_TOTAL = Counter Recorder Count "certctl_audit_chain_break_detected_total" []:
        "Verifications of the audit log that found it altered.";
    AUDIT_CHAIN_ROWS = Gauge Recorder Count "certctl_audit_chain_rows" []: "Rows that the last verification of the audit log saw.";
    AUDIT_CHAIN_LAST_VERIFIED_AT = Gauge Recorder Seconds "certctl_audit_chain_last_verified_at" []:
        "When the audit log was last verified, in seconds since 1970.";

    // Protocol front ends.
    OCSP_COUNTER_TOTAL = Counter Recorder Count "certctl_ocsp_counter_total" ["label"]: "Events of the OCSP responder.";
    EST_TOTAL = Counter Recorder Count "certctl_est_total" ["path_id", "outcome"]: "EST requests.";
    SCEP_TOTAL = Counter Recorder Count "certctl_scep_total" ["path_id", "outcome"]: "SCEP requests.";

    // Loops.
    SCHEDULER_RUNS_TOTAL = Counter Recorder Count "certctl_scheduler_runs_total" ["loop", "result"]:
        "Runs of a loop, by result: success, failure, timeout or panic.";
    SCHEDULER_RUN_SECONDS = Histogram Recorder Seconds "certctl_scheduler_run_seconds" ["loop"] RUN_BUCKETS: "How long a loop ran.";
    SCHEDULER_SKIPPED_TICKS_TOTAL = Counter Recorder Count "certctl_scheduler_skipped_ticks_total" ["loop"]:
        "Ticks that were dropped because the run before was still going.";
    SCHEDULER_LAST_SUCCESS_TIMESTAMP_SECONDS = Gauge Recorder Seconds "certctl_scheduler_last_success_timestamp_seconds" ["loop"]:
        "When a loop last succeeded, in seconds since 1970.";
    SCHEDULER_LEADER = Gauge Recorder Count "certctl_scheduler_leader" ["loop"]:
        "1 where this replica leads the loop, else 0; over all replicas the sum is at most 1.";

    // HTTP.
    HTTP_REQUESTS_TOTAL = Counter Recorder Count "certctl_http_requests_total" ["method", "route", "status"]:
        "Requests that were answered, by route template and class of status: 2xx, 3xx, 4xx or 5xx.";
    HTTP_REQUEST_DURATION_SECONDS = Histogram Recorder Seconds "certctl_http_request_duration_seconds" ["method", "route", "status"] FAST_BUCKETS:
        "How long requests took until their answer began.";
    HTTP_INFLIGHT = Gauge Recorder Count "certctl_http_inflight" []: "Requests that are being answered.";
    RATE_LIMIT_TOTAL = Counter Recorder Count "certctl_rate_limit_total" ["site", "result"]:
        "Decisions of rate limits, by result: allowed, limited or error.";
    TLS_RELOAD_TOTAL = Counter Recorder Count "certctl_tls_reload_total" ["result"]:
        "Reloads of the server's certificate, by result: success or failure.";
    TLS_CERT_NOT_AFTER_TIMESTAMP_SECONDS = Gauge Recorder Seconds "certctl_tls_cert_not_after_timestamp_seconds" []:
        "When the server's own certificate expires, in seconds since 1970.";

    // Database.
    DB_POOL_SIZE = Gauge Recorder Count "certctl_db_pool_size" []: "Connections to the database that are open.";
    DB_POOL_IDLE = Gauge Recorder Count "certctl_db_pool_idle" []: "Connections to the database that nobody uses.";
    DB_POOL_WAITING = Gauge Recorder Count "certctl_db_pool_waiting" []: "Tasks that wait for a connection to the database.";
    DB_POOL_WAIT_SECONDS = Histogram Recorder Seconds "certctl_db_pool_wait_seconds" [] FAST_BUCKETS:
        "How long tasks waited for a connection to the database.";
    DB_TRANSACTIONS_TOTAL = Counter Recorder Count "certctl_db_transactions_total" ["name", "outcome"]:
        "Transactions that ended, by outcome: committed, rolled_back or failed.";
    DB_TRANSACTION_ATTEMPTS_TOTAL = Counter Recorder Count "certctl_db_transaction_attempts_total" ["name"]:
        "Attempts at transactions; more than transactions where they had to be retried.";
    DB_TRANSACTION_SECONDS = Histogram Recorder Seconds "certctl_db_transaction_seconds" ["name"] FAST_BUCKETS:
        "How long transactions took, all attempts together.";
    // The ACME server.
    ACME_DIRECTORY_TOTAL = Counter Recorder Count "certctl_acme_directory_total" []: "Requests for an ACME directory.";
    ACME_DIRECTORY_FAILURES_TOTAL = Counter Recorder Count "certctl_acme_directory_failures_total" []: "Requests for an ACME directory that were refused or failed.";
    ACME_NEW_NONCE_TOTAL = Counter Recorder Count "certctl_acme_new_nonce_total" []: "Requests for an ACME nonce.";
    ACME_NEW_NONCE_FAILURES_TOTAL = Counter Recorder Count "certctl_acme_new_nonce_failures_total" []: "Requests for an ACME nonce that were refused or failed.";
    ACME_RENEWAL_INFO_TOTAL = Counter Recorder Count "certctl_acme_renewal_info_total" []: "Requests for ACME renewal information.";
    ACME_RENEWAL_INFO_FAILURES_TOTAL = Counter Recorder Count "certctl_acme_renewal_info_failures_total" []: "Requests for ACME renewal information that were refused or failed.";
    ACME_NEW_ACCOUNT_TOTAL = Counter Recorder Count "certctl_acme_new_account_total" []: "Requests for an ACME account.";
    ACME_NEW_ACCOUNT_FAILURES_TOTAL = Counter Recorder Count "certctl_acme_new_account_failures_total" []: "Requests for an ACME account that were refused or failed.";
    ACME_UPDATE_ACCOUNT_TOTAL = Counter Recorder Count "certctl_acme_update_account_total" []: "Requests to an ACME account, readings included.";
    ACME_UPDATE_ACCOUNT_FAILURES_TOTAL = Counter Recorder Count "certctl_acme_update_account_failures_total" []: "Requests to an ACME account, readings included that were refused or failed.";
    ACME_KEY_CHANGE_TOTAL = Counter Recorder Count "certctl_acme_key_change_total" []: "Requests to change the key of an ACME account.";
    ACME_KEY_CHANGE_FAILURES_TOTAL = Counter Recorder Count "certctl_acme_key_change_failures_total" []: "Requests to change the key of an ACME account that were refused or failed.";
    ACME_NEW_ORDER_TOTAL = Counter Recorder Count "certctl_acme_new_order_total" []: "Requests for an ACME order.";
    ACME_NEW_ORDER_FAILURES_TOTAL = Counter Recorder Count "certctl_acme_new_order_failures_total" []: "Requests for an ACME order that were refused or failed.";
    ACME_FINALIZE_ORDER_TOTAL = Counter Recorder Count "certctl_acme_finalize_order_total" []: "Requests to finalise an ACME order.";
    ACME_FINALIZE_ORDER_FAILURES_TOTAL = Counter Recorder Count "certctl_acme_finalize_order_failures_total" []: "Requests to finalise an ACME order that were refused or failed.";
    ACME_CERT_DOWNLOAD_TOTAL = Counter Recorder Count "certctl_acme_cert_download_total" []: "Downloads of certificates by ACME.";
    ACME_CERT_DOWNLOAD_FAILURES_TOTAL = Counter Recorder Count "certctl_acme_cert_download_failures_total" []: "Downloads of certificates by ACME that were refused or failed.";
    ACME_CHALLENGE_RESPOND_TOTAL = Counter Recorder Count "certctl_acme_challenge_respond_total" []: "Requests to an ACME challenge.";
    ACME_CHALLENGE_RESPOND_FAILURES_TOTAL = Counter Recorder Count "certctl_acme_challenge_respond_failures_total" []: "Requests to an ACME challenge that were refused or failed.";
    ACME_REVOKE_CERT_TOTAL = Counter Recorder Count "certctl_acme_revoke_cert_total" []: "Requests to revoke a certificate by ACME.";
    ACME_REVOKE_CERT_FAILURES_TOTAL = Counter Recorder Count "certctl_acme_revoke_cert_failures_total" []: "Requests to revoke a certificate by ACME that were refused or failed.";
    ACME_NEW_ACCOUNT_IDEMPOTENT_TOTAL = Counter Recorder Count "certctl_acme_new_account_idempotent_total" []: "Requests for an ACME account whose key has one already.";
    ACME_DEACTIVATE_ACCOUNT_TOTAL = Counter Recorder Count "certctl_acme_deactivate_account_total" []: "ACME accounts that their holders gave up.";
    ACME_NEW_ORDER_REJECTED_TOTAL = Counter Recorder Count "certctl_acme_new_order_rejected_total" []: "ACME orders that were refused for their identifiers.";
    ACME_AUTHZ_READ_TOTAL = Counter Recorder Count "certctl_acme_authz_read_total" []: "Requests to ACME authorisations.";
    ACME_CHALLENGE_VALIDATE_VALID_TOTAL = Counter Recorder Count "certctl_acme_challenge_validate_valid_total" []: "ACME challenges that were proved.";
    ACME_CHALLENGE_VALIDATE_INVALID_TOTAL = Counter Recorder Count "certctl_acme_challenge_validate_invalid_total" []: "ACME challenges that were not proved.";
    ACME_GC_NONCES_REAPED_TOTAL = Counter Recorder Count "certctl_acme_gc_nonces_reaped_total" []: "Used ACME nonces that were forgotten.";
    ACME_GC_AUTHZS_EXPIRED_TOTAL = Counter Recorder Count "certctl_acme_gc_authzs_expired_total" []: "ACME authorisations that were not proved in time.";
    ACME_GC_ORDERS_INVALIDATED_TOTAL = Counter Recorder Count "certctl_acme_gc_orders_invalidated_total" []: "ACME orders that were ended by a sweep.";
    ACME_GC_ORDERS_DELETED_TOTAL = Counter Recorder Count "certctl_acme_gc_orders_deleted_total" []: "ACME orders that ended long ago and were deleted.";
    ACME_GC_AUTHZS_DELETED_TOTAL = Counter Recorder Count "certctl_acme_gc_authzs_deleted_total" []: "ACME authorisations that were deleted before their orders.";
    ACME_GC_RUNS_TOTAL = Counter Recorder Count "certctl_acme_gc_runs_total" []: "Runs of the ACME sweeps.";
    ACME_GC_RUN_FAILURES_TOTAL = Counter Recorder Count "certctl_acme_gc_run_failures_total" []: "ACME sweeps that failed.";
    ACME_RATE_LIMITED_TOTAL = Counter Recorder Count "certctl_acme_rate_limited_total" ["action"]: "ACME requests beyond a limit.";
    ACME_CHALLENGE_VALIDATE_SECONDS = Histogram Recorder Seconds "certctl_acme_challenge_validate_seconds" ["type"] RUN_BUCKETS:
        "Time from when an ACME challenge was taken up to its end.";
    ACME_CHALLENGE_INFLIGHT = Gauge Recorder Count "certctl_acme_challenge_inflight" ["type"]: "ACME challenges that are looked at.";
    ACME_CHALLENGE_INFLIGHT_PEAK = Gauge Recorder Count "certctl_acme_challenge_inflight_peak" ["type"]: "Most ACME challenges that were looked at together.";
    ACME_DESK_BATCH = Histogram Recorder Count "certctl_acme_desk_batch" [] BATCH_BUCKETS: "ACME requests that one transaction carried out.";
}

/// Jobs of one claim.
const CLAIM_BUCKETS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use metrics::Unit;

    use super::{ALL, Kind};

    #[test]
    fn names_are_distinct_and_say_their_unit() {
        let mut seen = BTreeSet::new();
        for metric in ALL {
            assert!(
                seen.insert(metric.name),
                "{} is declared twice",
                metric.name
            );
            assert!(metric.name.starts_with("certctl_"), "{}", metric.name);
            assert!(
                metric
                    .name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
                "{}",
                metric.name
            );
            assert!(metric.help.ends_with('.'), "{}", metric.name);
            if metric.kind == Kind::Counter {
                assert!(metric.name.ends_with("_total"), "{}", metric.name);
            }
            if metric.unit == Unit::Seconds {
                // The contract's name for this one has no unit.
                assert!(
                    metric.name.ends_with("_seconds")
                        || metric.name == "certctl_audit_chain_last_verified_at",
                    "{}",
                    metric.name
                );
            }
        }
    }

    #[test]
    fn histograms_and_only_they_have_ascending_buckets() {
        for metric in ALL {
            assert_eq!(
                metric.kind == Kind::Histogram,
                !metric.buckets.is_empty(),
                "{}",
                metric.name
            );
            assert!(metric.buckets.is_sorted_by(|a, b| a < b), "{}", metric.name);
        }
    }

    #[test]
    fn the_names_of_the_contract_are_all_there() {
        let names: BTreeSet<_> = ALL.iter().map(|metric| metric.name).collect();
        let contract = "certificate_total certificate_active certificate_expiring_soon certificate_expired certificate_revoked \
            agent_total agent_online job_pending job_completed_total job_failed_total notification_dead_total uptime_seconds \
            ocsp_counter_total issuance_total issuance_duration_seconds issuance_failures_total deploy_attempts_total \
            deploy_validate_failures_total deploy_reload_failures_total deploy_post_verify_failures_total \
            deploy_idempotent_skip_total deploy_rollback_total vault_token_renewals_total expiry_alerts_total \
            audit_chain_break_detected_total audit_chain_verify_total audit_chain_rows audit_chain_last_verified_at \
            approval_decisions_total approval_pending_age_seconds est_total scep_total scheduler_runs_total \
            scheduler_run_seconds scheduler_skipped_ticks_total scheduler_last_success_timestamp_seconds scheduler_leader \
            rate_limit_total tls_reload_total tls_cert_not_after_timestamp_seconds http_requests_total \
            http_request_duration_seconds http_inflight db_pool_size db_pool_idle db_pool_waiting";
        for name in contract.split_whitespace() {
            assert!(
                names.contains(format!("certctl_{name}").as_str()),
                "certctl_{name}"
            );
        }
    }
}
