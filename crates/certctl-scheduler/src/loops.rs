//! The table of loops (scheduler §2).

use std::{error::Error, future::Future, sync::Arc, time::Duration};

use certctl_service::Services;
use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;

use crate::framework::{Body, Loop};

/// How often each loop runs.
#[derive(Debug, Clone, Copy)]
pub struct Intervals {
    /// The renewal scan.
    pub renewal_check: Duration,
    /// The job processor, between the times it is woken.
    pub job_processor: Duration,
    /// The second try of failed jobs.
    pub job_retry: Duration,
    /// What has waited too long.
    pub job_timeout: Duration,
    /// Agents that are not heard of.
    pub agent_health_check: Duration,
    /// Requests that nobody approved in time.
    pub approval_expiry: Duration,
    /// Revocation lists, beside being told that one is due.
    pub crl_generation: Duration,
    /// Certificates that live for less than an hour.
    pub short_lived_expiry: Duration,
    /// Counts of limits that are out of date, where replicas count together.
    pub rate_limit_gc: Duration,
    /// The verification of the audit trail.
    pub audit_chain_verify: Duration,
    /// The sweeps of the ACME server; none for never.
    pub acme_gc: Option<Duration>,
}

/// How often gathered heartbeats are written: each flush is one commit, so this is what 2,000 agents a second cost.
const HEARTBEAT_FLUSH: Duration = Duration::from_millis(250);
/// How often replicas tell each other what was spent of shared limits.
const LIMITS_FLUSH: Duration = Duration::from_millis(250);
/// How often the uses of API keys are written that are due, each once a minute.
const KEY_USE_FLUSH: Duration = Duration::from_secs(5);
/// How often calls of the API are written, unless there are enough of them for a whole transaction before.
const API_TRAIL_FLUSH: Duration = Duration::from_millis(250);
/// How often it is looked whether a policy rule changed at a replica that did not live to ask the certificates.
const POLICY_REVIEW: Duration = Duration::from_secs(60);
/// How often the audit trail is sealed: one commit each time there is something new.
const SEAL: Duration = Duration::from_secs(1);
/// The longest time a first run is put off, so that replicas that start together do not scan together.
const SPREAD: Duration = Duration::from_secs(5);
const MINUTE: Duration = Duration::from_secs(60);

/// Every loop of a server.
#[must_use]
pub fn table(services: &Services, intervals: Intervals) -> Vec<Loop> {
    let (processor_bell, crl_bell) = (services.clone(), services.clone());
    let review_bell = services.clone();
    let mut loops = vec![
        Loop {
            name: "renewalCheck",
            interval: intervals.renewal_check,
            deadline: 5 * MINUTE,
            at_start: Some(SPREAD),
            bell: None,
            body: body(services, |services, _| async move {
                let summary = services.scan_renewals().await?;
                Ok(Some(format!(
                    "renewal scan: {} enqueued, {} expired, {} expiring, {} planned, {} alerts",
                    summary.enqueued,
                    summary.expired,
                    summary.expiring,
                    summary.planned,
                    summary.alerts
                )))
            }),
        },
        Loop {
            name: "jobProcessor",
            interval: intervals.job_processor,
            deadline: 2 * MINUTE,
            at_start: Some(Duration::ZERO),
            bell: Some(Arc::new(move || {
                let services = processor_bell.clone();
                async move { services.woken().await }.boxed()
            })),
            body: body(services, |services, stop| async move {
                let pass = services.process_jobs(&stop).await?;
                Ok((pass.claimed > 0).then(|| {
                    format!(
                        "{} jobs claimed, {} completed, {} failed, {} handed to agents",
                        pass.claimed, pass.completed, pass.failed, pass.awaiting_csr
                    )
                }))
            }),
        },
        Loop {
            name: "crlGeneration",
            interval: intervals.crl_generation,
            deadline: 5 * MINUTE,
            at_start: Some(SPREAD),
            bell: Some(Arc::new(move || {
                let services = crl_bell.clone();
                async move { services.crl_wanted().await }.boxed()
            })),
            body: body(services, |services, _| async move {
                let lists = services.generate_crls().await?;
                Ok((lists > 0).then(|| format!("{lists} revocation lists made")))
            }),
        },
        Loop {
            name: "policyReview",
            interval: POLICY_REVIEW,
            deadline: 5 * MINUTE,
            at_start: Some(SPREAD),
            bell: Some(Arc::new(move || {
                let services = review_bell.clone();
                async move { services.policies_changed().await }.boxed()
            })),
            body: body(services, |services, stop| async move {
                let review = services.review_policies(&stop).await?;
                Ok((review.asked > 0).then(|| {
                    format!(
                        "a policy rule changed: {} certificates asked, {} new violations",
                        review.asked, review.found
                    )
                }))
            }),
        },
        simple(
            "shortLivedExpiryCheck",
            intervals.short_lived_expiry,
            MINUTE / 2,
            services,
            |services| async move {
                let expired = services.expire_short_lived().await?;
                Ok((expired > 0)
                    .then(|| format!("{expired} short-lived certificates have expired")))
            },
        ),
        simple(
            "jobRetry",
            intervals.job_retry,
            2 * MINUTE,
            services,
            |services| async move {
                let retried = services.retry_jobs().await?;
                Ok((retried > 0).then(|| format!("{retried} failed jobs are due again")))
            },
        ),
        simple(
            "jobTimeout",
            intervals.job_timeout,
            2 * MINUTE,
            services,
            |services| async move {
                let found = services.time_out_jobs().await?;
                Ok((found.csr + found.approval + found.silent_agent > 0).then(|| {
                format!("timed out: {} without a request, {} without approval, {} of silent agents", found.csr, found.approval, found.silent_agent)
            }))
            },
        ),
        simple(
            "agentHealthCheck",
            intervals.agent_health_check,
            MINUTE,
            services,
            |services| async move {
                let offline = services.check_agents().await?;
                Ok((offline > 0).then(|| format!("{offline} agents are offline")))
            },
        ),
        simple(
            "approvalExpiry",
            intervals.approval_expiry,
            MINUTE,
            services,
            |services| async move {
                let expired = services.expire_approvals().await?;
                Ok((expired > 0).then(|| format!("{expired} requests for approval expired")))
            },
        ),
        Loop {
            name: "heartbeatFlush",
            interval: HEARTBEAT_FLUSH,
            deadline: MINUTE,
            at_start: None,
            bell: None,
            body: body(services, |services, _| async move {
                services.flush_heartbeats().await?;
                Ok(None)
            }),
        },
        Loop {
            name: "keyUseFlush",
            interval: KEY_USE_FLUSH,
            deadline: MINUTE,
            at_start: None,
            bell: None,
            body: body(services, |services, _| async move {
                services.flush_key_uses().await?;
                Ok(None)
            }),
        },
    ];
    loops.extend(audit_trail(services, intervals));
    if let (Some(_), Some(interval)) = (services.acme(), intervals.acme_gc) {
        loops.push(acme_gc(services, interval));
    }
    if services.shares_limits() {
        loops.extend(shared_limits(services, intervals));
    }
    loops
}

/// What ends and removes what the ACME server keeps.
fn acme_gc(services: &Services, interval: Duration) -> Loop {
    simple(
        "acmeGC",
        interval,
        MINUTE,
        services,
        |services| async move {
            let Some(acme) = services.acme() else {
                return Ok(None);
            };
            let swept = acme.gc().await?;
            let ended = swept.authorizations + swept.orders + swept.reconciled + swept.challenges;
            let removed = swept.nonces + swept.deleted + swept.spent + swept.names;
            Ok((ended + removed > 0).then(|| {
            format!(
                "ACME: {} authorisations expired, {} orders ended, {} made good, {} challenges taken up, {removed} rows removed",
                swept.authorizations, swept.orders, swept.reconciled, swept.challenges
            )
        }))
        },
    )
}

/// What keeps limits that replicas share.
fn shared_limits(services: &Services, intervals: Intervals) -> [Loop; 2] {
    let sweep = simple(
        "rateLimitGC",
        intervals.rate_limit_gc,
        MINUTE,
        services,
        |services| async move {
            let removed = services.sweep_limits().await?;
            Ok((removed > 0).then(|| format!("{removed} counts of limits are out of date")))
        },
    );
    let flush = Loop {
        name: "rateLimitFlush",
        interval: LIMITS_FLUSH,
        deadline: MINUTE,
        at_start: None,
        bell: None,
        body: body(services, |services, _| async move {
            services.flush_limits().await;
            Ok(None)
        }),
    };
    let at_start = None;
    [Loop { at_start, ..sweep }, flush]
}

/// What keeps the audit trail.
fn audit_trail(services: &Services, intervals: Intervals) -> [Loop; 3] {
    let trail_bell = services.clone();
    [
        Loop {
            name: "apiTrailFlush",
            interval: API_TRAIL_FLUSH,
            deadline: MINUTE,
            at_start: None,
            bell: Some(Arc::new(move || {
                let services = trail_bell.clone();
                async move { services.api_trail_is_long().await }.boxed()
            })),
            body: body(services, |services, _| async move {
                services.flush_api_trail_in_turn().await?;
                Ok(None)
            }),
        },
        Loop {
            name: "auditSeal",
            interval: SEAL,
            deadline: MINUTE,
            at_start: None,
            bell: None,
            body: body(services, |services, _| async move {
                services.seal_audit_log().await?;
                Ok(None)
            }),
        },
        Loop {
            name: "auditChainVerify",
            interval: intervals.audit_chain_verify,
            deadline: 5 * MINUTE,
            at_start: Some(SPREAD),
            bell: None,
            body: body(services, |services, stop| async move {
                let found = services.verify_audit_chain(&stop).await?;
                Ok(found.map(|found| match &found.first_break {
                    None => format!(
                        "audit trail intact: {} rows checked of {}",
                        found.row_count, found.verified.end_seq
                    ),
                    Some(broken) => format!(
                        "audit trail altered at row {}: {}",
                        broken.id, broken.problem
                    ),
                }))
            }),
        },
    ]
}

fn simple<F, Fut>(
    name: &'static str,
    interval: Duration,
    deadline: Duration,
    services: &Services,
    work: F,
) -> Loop
where
    F: Fn(Services) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Option<String>, certctl_service::Error>> + Send + 'static,
{
    Loop {
        name,
        interval,
        deadline,
        at_start: Some(SPREAD),
        bell: None,
        body: body(services, move |services, _| work(services)),
    }
}

fn body<F, Fut>(services: &Services, work: F) -> Body
where
    F: Fn(Services, CancellationToken) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Option<String>, certctl_service::Error>> + Send + 'static,
{
    let services = services.clone();
    Arc::new(move |stop| {
        let work = work(services.clone(), stop);
        async move {
            work.await
                .map_err(|error| Box::new(error) as Box<dyn Error + Send + Sync>)
        }
        .boxed()
    })
}
