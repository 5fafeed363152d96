//! What the loops keep in order: leases that ran out, retries, time-outs, silent agents. Each is one statement over all rows it
//! concerns, with its audit rows from what the statement returned.

use std::time::Duration;

use certctl_domain::{
    access::Actor,
    agent::DEPLOYABLE_WITHIN,
    audit::{AuditEvent, EventCategory},
    id::CertificateId,
    job::{DEFAULT_RETRY_INTERVAL, retry_delay},
    time::Timestamp,
};
use certctl_repository::{
    Conn, agents, audit_events,
    jobs::{
        claim::{self, Swept},
        complete,
    },
    short_lived, transaction,
};
use serde_json::{Value, json};

use crate::{
    Error, Services, acme,
    engine::end_intents,
    metrics::{RunEnd, observe_run},
    notifications::tell_of_swept,
    renewals::jitter,
    services::event,
};

/// What a sweep of time-outs found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// Renewals for which no request came.
    pub csr: usize,
    /// Jobs that nobody approved.
    pub approval: usize,
    /// Deployments whose agent fell silent.
    pub silent_agent: usize,
}

impl Services {
    /// Takes up jobs whose worker died.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn recover_jobs(&self) -> Result<usize, Error> {
        let now = self.now();
        let (swept, orders) = transaction!(self.db, "recover jobs", conn => {
            let swept = claim::recover(conn, now).await?;
            let mut orders = Vec::new();
            if !swept.is_empty() {
                let failed = failed_for_good(&swept);
                complete::fail_certificates(conn, &failed, now).await?;
                end_intents(conn, &Actor::system(), &failed, now).await?;
                orders = acme::orders_given_up(conn, &failed, now).await?;
                audit(conn, "job_timeout", &swept, |one| json!({"old_status": "Running", "new_status": one.status, "timeout_reason": "lease_expired"}), now).await?;
                tell_of_swept(conn, &swept, "the worker that held the job died", now).await?;
            }
            Ok::<_, Error>((swept, orders))
        })?;
        self.orders_ended(&orders);
        if !swept.is_empty() {
            crate::metrics::count_expired_leases(swept.len());
            observe_failures(&swept, now);
            tracing::warn!(
                jobs = swept.len(),
                "jobs of a worker that died were taken up again"
            );
        }
        Ok(swept.len())
    }

    /// Makes failed jobs due again whose time has come.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn retry_jobs(&self) -> Result<usize, Error> {
        let now = self.now();
        let swept = transaction!(self.db, "retry jobs", conn => {
            let claim::Retried { due: swept, superseded } = claim::retry_due(conn, now).await?;
            end_intents(conn, &Actor::system(), &superseded, now).await?;
            audit(conn, "job_retry", &swept, |one| json!({"old_status": "Failed", "new_status": one.status,
                "attempts": one.attempts, "max_attempts": one.max_attempts}), now).await?;
            Ok::<_, Error>(swept)
        })?;
        if !swept.is_empty() {
            self.wake.ring();
        }
        Ok(swept.len())
    }

    /// Ends what has waited too long.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn time_out_jobs(&self) -> Result<Timeouts, Error> {
        Ok(Timeouts {
            csr: self.expire_awaiting_csr().await?,
            approval: self.expire_approvals().await? + self.expire_unapproved_jobs().await?,
            silent_agent: self.reap_silent_agents().await?,
        })
    }

    /// Ends tries for which no request came; they are tried again while attempts are left.
    async fn expire_awaiting_csr(&self) -> Result<usize, Error> {
        let now = self.now();
        let after = self.config.awaiting_csr_timeout;
        let again = now + retry_delay(1, DEFAULT_RETRY_INTERVAL, jitter());
        transaction!(self.db, "expire jobs without a request", conn => {
            let swept = claim::expire_awaiting_csr(conn, now - after, again, now).await?;
            end_swept(conn, &swept, now).await?;
            let events = timeout_events(&swept, "AwaitingCSR", "csr_timeout", after, now);
            audit_events::insert_all(conn, &events).await?;
            tell_of_swept(conn, &swept, "no request came", now).await?;
            Ok::<_, Error>(swept.len())
        })
    }

    async fn reap_silent_agents(&self) -> Result<usize, Error> {
        let now = self.now();
        let again = now + retry_delay(1, DEFAULT_RETRY_INTERVAL, jitter());
        let swept = transaction!(self.db, "reap jobs of silent agents", conn => {
            let swept = claim::reap_of_silent_agents(conn, now - DEPLOYABLE_WITHIN, again, now).await?;
            audit(conn, "job_offline_agent_reap", &swept, |_| json!({"timeout_reason": "agent_offline"}), now).await?;
            tell_of_swept(conn, &swept, "the agent fell silent", now).await?;
            Ok::<_, Error>(swept)
        })?;
        observe_failures(&swept, now);
        Ok(swept.len())
    }

    /// Marks certificates of short-lived profiles as expired whose end has come, with an audit row for each.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn expire_short_lived(&self) -> Result<usize, Error> {
        let now = self.now();
        transaction!(self.db, "expire short-lived certificates", conn => {
            let expired = short_lived::expire(conn, now).await?;
            let system = Actor::system();
            let events: Vec<AuditEvent> = expired
                .iter()
                .map(|id| event(&system, EventCategory::CertLifecycle, "short_lived_cert_expired", ("certificate", id.as_str()), json!({}), now))
                .collect();
            audit_events::insert_all(conn, &events).await?;
            Ok::<_, Error>(expired.len())
        })
    }

    /// Marks agents as offline that were not heard of.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn check_agents(&self) -> Result<usize, Error> {
        let threshold = self.now() - self.config.agent_offline_after;
        transaction!(self.db, "mark agents offline", conn => {
            Ok::<_, Error>(agents::mark_offline(conn, threshold).await?)
        })
    }
}

/// The certificates of jobs that failed and are not tried again.
fn failed_for_good(swept: &[Swept]) -> Vec<CertificateId> {
    swept
        .iter()
        .filter(|one| one.failed_for_good())
        .filter_map(|one| one.certificate_id.clone())
        .collect()
}

/// Notes the runs that a sweep ended.
fn observe_failures(swept: &[Swept], now: Timestamp) {
    for one in swept {
        let end = RunEnd::failure(!one.failed_for_good());
        observe_run(&one.kind, one.started_at, end, now);
    }
}

/// What ends with jobs that are not tried again: the renewal of their certificates, what was to be signed, and the orders that wait.
pub(crate) async fn end_swept(
    conn: &mut Conn,
    swept: &[Swept],
    now: Timestamp,
) -> Result<(), Error> {
    let ended = failed_for_good(swept);
    complete::fail_certificates(conn, &ended, now).await?;
    end_intents(conn, &Actor::system(), &ended, now).await?;
    acme::orders_given_up(conn, &ended, now).await?;
    Ok(())
}

/// What the audit log says of jobs that waited too long (scheduler §2).
pub(crate) fn timeout_events(
    swept: &[Swept],
    from: &str,
    reason: &str,
    after: Duration,
    now: Timestamp,
) -> Vec<AuditEvent> {
    events(
        "job_timeout",
        swept,
        |one| {
            json!({"old_status": from, "new_status": one.status, "timeout_reason": reason,
                "age_hours": after.as_secs() / 3600, "retry": one.next_attempt_at.is_some()})
        },
        now,
    )
}

fn events(
    action: &str,
    swept: &[Swept],
    details: impl Fn(&Swept) -> Value,
    now: Timestamp,
) -> Vec<AuditEvent> {
    let system = Actor::system();
    swept
        .iter()
        .map(|one| {
            event(
                &system,
                EventCategory::CertLifecycle,
                action,
                ("job", one.id.as_str()),
                details(one),
                now,
            )
        })
        .collect()
}

async fn audit(
    conn: &mut Conn,
    action: &str,
    swept: &[Swept],
    details: impl Fn(&Swept) -> Value,
    now: Timestamp,
) -> Result<(), Error> {
    let events = events(action, swept, details, now);
    Ok(audit_events::insert_all(conn, &events).await?)
}
