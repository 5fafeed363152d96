//! One row for each call of the API, written behind the answer and never lost to it: the queue has an end, and who finds it full
//! waits (operations §7).

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use certctl_domain::{
    access::{Actor, ActorType},
    audit::{AuditEvent, EventCategory},
    id::AuditEventId,
    time::Timestamp,
};
use certctl_repository::{audit_events, transaction};
use serde_json::json;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::{Error, Services, config::AuditConfig};

/// Rows in one transaction at the most (operations §7).
const CHUNK: usize = 500;
/// Characters of a resource id (model §8.1).
const MAX_RESOURCE: usize = 255;
/// Characters of a path that are kept.
const MAX_PATH: usize = 2048;

/// A call of the API.
#[derive(Debug, Clone)]
pub struct ApiCall {
    /// Who called; nobody for an enrolment by token.
    pub actor: Option<Actor>,
    /// The method.
    pub method: String,
    /// The path without the query.
    pub path: String,
    /// The SHA-256 of the whole body, in hex.
    pub body_hash: String,
    /// The status of the answer.
    pub status: u16,
    /// How long it took, in milliseconds.
    pub latency_ms: u64,
    /// The agent that sent a sign of life by it, if that is what it was.
    pub heartbeat_of: Option<String>,
}

/// Calls that wait to be written.
pub(crate) struct ApiTrail {
    queue: Mutex<VecDeque<Waiting>>,
    room: Arc<Semaphore>,
    bell: Notify,
    flushing: tokio::sync::Mutex<()>,
    beats: Mutex<Beats>,
}

/// A row, and its place in the queue, which is free again when the row is written.
struct Waiting {
    event: AuditEvent,
    _place: Option<OwnedSemaphorePermit>,
}

/// The agents that have a row for their heartbeats of this hour.
#[derive(Default)]
struct Beats {
    hour: i64,
    agents: HashSet<String>,
}

impl ApiTrail {
    pub(crate) fn new(config: &AuditConfig) -> Self {
        Self {
            queue: Mutex::default(),
            room: Arc::new(Semaphore::new(config.queue)),
            bell: Notify::new(),
            flushing: tokio::sync::Mutex::default(),
            beats: Mutex::default(),
        }
    }

    fn push(&self, event: AuditEvent, place: Option<OwnedSemaphorePermit>) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.push_back(Waiting {
            event,
            _place: place,
        });
        // Rows that are being written are still in the queue, and what is behind them is no reason to begin again.
        if queue.len().is_multiple_of(CHUNK) {
            self.bell.notify_one();
        }
    }

    /// The rows that waited longest; they stay in the queue until they are written.
    fn oldest(&self) -> Vec<AuditEvent> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = queue.iter().take(CHUNK);
        rows.map(|waiting| waiting.event.clone()).collect()
    }

    fn written(&self, count: usize) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.drain(..count);
    }

    /// Whether an agent has no row for its signs of life of this hour yet.
    fn is_first_beat(&self, agent: &str, now: Timestamp) -> bool {
        !self.beats(now).agents.contains(agent)
    }

    /// Notes that an agent has its row for this hour.
    fn beat(&self, agent: &str, now: Timestamp) {
        self.beats(now).agents.insert(agent.to_owned());
    }

    fn beats(&self, now: Timestamp) -> MutexGuard<'_, Beats> {
        let hour = now.as_seconds().div_euclid(3600);
        let mut beats = self.beats.lock().unwrap_or_else(PoisonError::into_inner);
        if beats.hour != hour {
            *beats = Beats {
                hour,
                agents: HashSet::new(),
            };
        }
        beats
    }
}

impl Services {
    /// Enters a call; waits while the queue is full. Whoever gives up waiting has entered nothing yet.
    pub async fn record_api_call(&self, call: &ApiCall) {
        if self.is_left_out(call) {
            return;
        }
        // The semaphore is never closed, so there is always a place in the end.
        let place = Arc::clone(&self.audit.calls.room)
            .acquire_owned()
            .await
            .ok();
        self.enter_api_call(call, place);
    }

    /// Enters a call whose caller is gone, so that nobody can wait; there are no more of them than requests in flight.
    pub fn record_abandoned_api_call(&self, call: &ApiCall) {
        if !self.is_left_out(call) {
            self.enter_api_call(call, None);
        }
    }

    fn enter_api_call(&self, call: &ApiCall, place: Option<OwnedSemaphorePermit>) {
        let event = self.event_of(call);
        if let Some(agent) = self.sampled(call) {
            self.audit.calls.beat(agent, event.timestamp);
        }
        self.audit.calls.push(event, place);
    }

    fn is_left_out(&self, call: &ApiCall) -> bool {
        self.sampled(call)
            .is_some_and(|agent| !self.audit.calls.is_first_beat(agent, self.now()))
    }

    /// The agent whose sign of life a call is, where one for each hour is enough: those that were refused are all entered.
    fn sampled<'a>(&self, call: &'a ApiCall) -> Option<&'a str> {
        let accepted = (200..300).contains(&call.status);
        call.heartbeat_of
            .as_deref()
            .filter(|_| accepted && self.config.audit.sample_heartbeats)
    }

    fn event_of(&self, call: &ApiCall) -> AuditEvent {
        let now = self.now();
        let (actor, actor_type) = match &call.actor {
            Some(actor) => (actor.id().to_owned(), actor.actor_type()),
            None => ("anonymous".to_owned(), ActorType::Anonymous),
        };
        AuditEvent {
            id: AuditEventId::generate(now),
            actor,
            actor_type,
            action: format!("api_{}", call.method.to_lowercase()),
            resource_type: "api".to_owned(),
            resource_id: cut(&call.path, MAX_RESOURCE),
            details: json!({
                "method": call.method,
                "path": cut(&call.path, MAX_PATH),
                "body_hash": call.body_hash,
                "status": call.status,
                "latency_ms": call.latency_ms,
            }),
            timestamp: now,
            category: EventCategory::CertLifecycle,
        }
    }

    /// Writes the calls that wait, as many as one transaction takes at a time; how many there were.
    ///
    /// # Errors
    /// [`Error::Unavailable`]; what was not written waits on.
    pub async fn flush_api_trail(&self) -> Result<usize, Error> {
        self.flush_calls(|_| true).await
    }

    /// As [`Self::flush_api_trail`], but after a whole transaction of calls the few that came meanwhile wait for the next turn: written
    /// at once they would be a commit for a few rows, over and over.
    ///
    /// # Errors
    /// As [`Self::flush_api_trail`].
    pub async fn flush_api_trail_in_turn(&self) -> Result<usize, Error> {
        self.flush_calls(|written| written == 0).await
    }

    /// `takes_few` says whether less than a transaction takes is written after so many.
    async fn flush_calls(&self, takes_few: impl Fn(usize) -> bool + Send) -> Result<usize, Error> {
        let _one = self.audit.calls.flushing.lock().await;
        let mut count = 0;
        loop {
            let rows = self.audit.calls.oldest();
            let is_few = rows.len() < CHUNK;
            if rows.is_empty() || (is_few && !takes_few(count)) {
                return Ok(count);
            }
            self.write_calls(&rows).await?;
            self.audit.calls.written(rows.len());
            count += rows.len();
            if is_few {
                return Ok(count);
            }
        }
    }

    async fn write_calls(&self, rows: &[AuditEvent]) -> Result<(), Error> {
        let written = transaction!(self.db, "record api calls", conn => {
            audit_events::insert_all(conn, rows).await?;
            Ok::<_, Error>(())
        });
        match written {
            // The answer to an earlier commit was lost, and it had succeeded.
            Err(error) if error.is_duplicate() => {
                transaction!(self.db, "record api calls again", conn => {
                    let ids: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
                    let there = audit_events::existing(conn, &ids).await?;
                    let absent: Vec<AuditEvent> =
                        rows.iter().filter(|row| !there.iter().any(|id| id == row.id.as_str())).cloned().collect();
                    audit_events::insert_all(conn, &absent).await?;
                    Ok::<_, Error>(())
                })
            }
            other => other,
        }
    }

    /// Waits until so many calls wait that they should be written before their time.
    pub async fn api_trail_is_long(&self) {
        self.audit.calls.bell.notified().await;
    }
}

/// The first characters of a text.
fn cut(text: &str, characters: usize) -> String {
    text.chars().take(characters).collect()
}
