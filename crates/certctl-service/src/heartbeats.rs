//! Heartbeats, gathered in memory and written as one statement every few hundred milliseconds: 2,000 agents a second cost a
//! handful of commits (design §4). What is lost when the process dies is a heartbeat, which the agent repeats.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use certctl_domain::{
    access::{Actor, Permission},
    agent::AgentReport,
    id::AgentId,
    time::Timestamp,
    validation::InvalidField,
};
use certctl_repository::{agents, agents::Heartbeat, transaction};

use crate::{Error, Services, access::own_agent_only, error::Expect as _, services::authorise};

/// How long it is believed that an agent exists and is not retired.
const KNOWN_FOR: Duration = Duration::from_secs(1);
/// Heartbeats written by one statement at the most.
const CHUNK: usize = 2000;

/// Heartbeats that wait to be written.
#[derive(Default)]
pub(crate) struct HeartbeatBuffer {
    waiting: Mutex<HashMap<AgentId, Heartbeat>>,
    known: Mutex<Known>,
}

/// Agents that were seen to be alive not long ago.
#[derive(Default)]
struct Known {
    since: Option<Timestamp>,
    agents: HashSet<AgentId>,
}

impl Known {
    /// Whether what was seen is still believed; what was seen in the future is not, or a clock that was set back would keep it.
    fn is_fresh(&self, now: Timestamp) -> bool {
        self.since
            .is_some_and(|since| since <= now && now.since(since) < KNOWN_FOR)
    }
}

impl HeartbeatBuffer {
    fn is_known(&self, agent: &AgentId, now: Timestamp) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.is_fresh(now) && known.agents.contains(agent)
    }

    fn learn(&self, agent: &AgentId, now: Timestamp) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.is_fresh(now) {
            *known = Known {
                since: Some(now),
                agents: HashSet::new(),
            };
        }
        known.agents.insert(agent.clone());
    }

    /// Forgets which agents live; after one was retired.
    pub(crate) fn forget(&self) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Known::default();
    }

    fn add(&self, beat: Heartbeat) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.insert(beat.agent_id.clone(), beat);
    }

    fn take(&self) -> Vec<Heartbeat> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *waiting).into_values().collect()
    }
}

impl Services {
    /// Takes a heartbeat; it is written with the next flush.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `agent.heartbeat`, [`Error::NotYours`] with another agent's key, [`Error::NotFound`],
    /// [`Error::AgentRetired`]. A field that is out of bounds is left out: an agent that lives is not offline for it (api §16.3).
    pub async fn heartbeat(
        &self,
        actor: &Actor,
        id: &AgentId,
        report: AgentReport,
    ) -> Result<(), Error> {
        authorise(actor, Permission::AgentHeartbeat)?;
        own_agent_only(actor, id)?;
        let now = self.now();
        if !self.heartbeats.is_known(id, now) {
            let agent = agents::find(&mut self.read().await?, id)
                .await
                .or_not_found("agent", id)?;
            if agent.retired_at.is_some() {
                return Err(Error::AgentRetired(id.to_string()));
            }
            self.heartbeats.learn(id, now);
        }
        self.heartbeats.add(Heartbeat {
            agent_id: id.clone(),
            at: now,
            report: tolerable(report),
        });
        Ok(())
    }

    /// Writes the heartbeats that wait; called every few hundred milliseconds and at the end.
    ///
    /// # Errors
    /// [`Error::Unavailable`]; the heartbeats are then lost, and the agents repeat them.
    pub async fn flush_heartbeats(&self) -> Result<usize, Error> {
        let mut waiting = self.heartbeats.take();
        // A fixed order, so that two replicas never lock the same rows crosswise.
        waiting.sort_by(|a, b| a.agent_id.cmp(&b.agent_id));
        for chunk in waiting.chunks(CHUNK) {
            transaction!(self.db, "record heartbeats", conn => {
                agents::record_heartbeats(conn, chunk).await?;
                Ok::<_, Error>(())
            })?;
        }
        Ok(waiting.len())
    }
}

/// What of a report can be stored.
fn tolerable(mut report: AgentReport) -> AgentReport {
    while let Err(Error::Invalid(field)) = check_report(&report) {
        let value = match field.field {
            "version" => &mut report.version,
            "hostname" => &mut report.hostname,
            "os" => &mut report.os,
            "architecture" => &mut report.architecture,
            _ => &mut report.ip_address,
        };
        value.clear();
    }
    report
}

/// The bounds of the columns (model §3.7).
pub(crate) fn check_report(report: &AgentReport) -> Result<(), Error> {
    use certctl_domain::validation::optional_text;
    optional_text("version", &report.version, 50)?;
    optional_text("hostname", &report.hostname, 255)?;
    optional_text("os", &report.os, 50)?;
    optional_text("architecture", &report.architecture, 50)?;
    optional_text("ip_address", &report.ip_address, 45)?;
    if !report.ip_address.is_empty() && report.ip_address.parse::<std::net::IpAddr>().is_err() {
        return Err(InvalidField::new("ip_address", "is not an IP address").into());
    }
    Ok(())
}
