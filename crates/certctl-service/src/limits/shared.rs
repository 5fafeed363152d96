//! Sliding windows that replicas count together, without a query for each request.
//!
//! A replica takes permits out of the shared window in slices and spends them by itself. What it has not spent goes back when
//! the slice's lease ends, when the replica ends, or when another one finds the window empty and asks for it: so no permit lies
//! idle at one replica while another refuses. A window that is really empty is remembered until its next permit is free, so
//! refusing costs nothing either.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use certctl_repository::{Db, limits, transaction};
use certctl_telemetry::ErrorChain;
use tokio::time::{Instant, sleep, timeout};

use super::{
    Site, Verdict,
    ledger::{self, Answer, Ask, Settle},
};
use crate::Error;

/// How long permits are held before they go back unspent.
const LEASE: Duration = Duration::from_secs(10);
/// How long to wait for permits that another replica holds. One that does not answer by then is gone or cannot hear.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks whether they came back.
const AGAIN: Duration = Duration::from_millis(20);
/// How long the database may take, and how long it is left alone when it took longer.
const DATABASE: Duration = Duration::from_secs(2);
const LEFT_ALONE: Duration = Duration::from_secs(1);
/// Windows in one transaction at the most.
const BATCH: usize = 500;

/// What this replica knows and holds of windows.
pub(super) struct Shared {
    db: Db,
    holder: String,
    state: Mutex<State>,
    /// One exchange at a time; what others want meanwhile goes with the next.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    keys: HashMap<String, Entry>,
    down_until: Option<Instant>,
}

struct Entry {
    site: &'static Site,
    limit: u32,
    /// Permits that may be spent until the deadline.
    left: u32,
    deadline: Instant,
    /// Permits spent that the database has not been told of.
    used: u32,
    last_used: Instant,
    /// Whether the database counts permits that this replica has not accounted for.
    leased: bool,
    wanted: bool,
    recalled: bool,
    full_until: Option<Instant>,
    again_at: Option<Instant>,
    patient_until: Option<Instant>,
}

/// What this replica knows by itself.
enum Local {
    Decided(Verdict),
    Wait(Instant),
    Ask,
    Down,
}

/// The database cannot be asked.
#[derive(Debug)]
pub(super) struct Down;

impl Shared {
    pub(super) fn new(db: Db, holder: String) -> Self {
        Self {
            db,
            holder,
            state: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// Admits one more of a key, unless the window is full.
    pub(super) async fn admit(
        &self,
        site: &'static Site,
        limit: u32,
        key: &str,
    ) -> Result<Verdict, Down> {
        loop {
            match self.local(site, limit, key) {
                Local::Decided(verdict) => return Ok(verdict),
                Local::Down => return Err(Down),
                Local::Wait(until) => sleep(until.saturating_duration_since(Instant::now())).await,
                Local::Ask => {
                    let _turn = self.turn.lock().await;
                    // Whoever had the turn before may have asked for this key too.
                    match self.local(site, limit, key) {
                        Local::Decided(verdict) => return Ok(verdict),
                        Local::Down => return Err(Down),
                        Local::Wait(_) => {}
                        Local::Ask => self.exchange().await?,
                    }
                }
            }
        }
    }

    /// Gives back what was held for too long or asked for by others, and accounts for what was spent.
    pub(super) async fn tend(&self) -> Result<(), Down> {
        let _turn = self.turn.lock().await;
        loop {
            let now = Instant::now();
            if !self.state().keys.values().any(|entry| entry.is_due(now)) {
                return Ok(());
            }
            self.exchange().await?;
        }
    }

    /// Gives everything back.
    pub(super) async fn give_back(&self) -> Result<(), Down> {
        for entry in self.state().keys.values_mut() {
            entry.recalled = entry.leased;
        }
        self.tend().await
    }

    /// Another replica finds this window empty.
    pub(super) async fn recalled(&self, key: &str) -> Result<(), Down> {
        let held = match self.state().keys.get_mut(key) {
            Some(entry) => {
                entry.recalled = entry.leased;
                entry.leased
            }
            None => false,
        };
        if held { self.tend().await } else { Ok(()) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic cannot leave an entry half written, so a poisoned lock is as good as any.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn local(&self, site: &'static Site, limit: u32, key: &str) -> Local {
        let mut state = self.state();
        let now = Instant::now();
        if !state.keys.contains_key(key) {
            state.make_room(site, now);
            state
                .keys
                .insert(key.to_owned(), Entry::new(site, limit, now));
        }
        let down = state.down_until.is_some_and(|until| now < until);
        let Some(entry) = state.keys.get_mut(key) else {
            return Local::Down;
        };
        entry.limit = limit;
        match entry.decide(now) {
            Local::Ask if down => Local::Down,
            decided => decided,
        }
    }

    /// Settles what is due and takes what is wanted, of all keys together.
    async fn exchange(&self) -> Result<(), Down> {
        let sent = Instant::now();
        let asks = self.state().withdraw(sent);
        if asks.is_empty() {
            return Ok(());
        }
        match timeout(DATABASE, self.ask(&asks)).await {
            Ok(Ok(answers)) => {
                let mut state = self.state();
                for ((key, _, _), answer) in asks.iter().zip(answers) {
                    if let Some(entry) = state.keys.get_mut(key) {
                        entry.learn(answer, sent);
                    }
                }
                Ok(())
            }
            failed => {
                match failed {
                    Ok(Err(error)) => {
                        tracing::warn!(error = %ErrorChain(&error), "limits cannot be counted together");
                    }
                    _ => tracing::warn!(
                        "limits cannot be counted together: the database takes too long"
                    ),
                }
                self.state().down_until = Some(Instant::now() + LEFT_ALONE);
                Err(Down)
            }
        }
    }

    /// One transaction of two statements, three when other replicas are asked to give back.
    async fn ask(&self, asks: &[(String, &'static str, Ask)]) -> Result<Vec<Answer>, Error> {
        let keys: Vec<_> = asks
            .iter()
            .map(|(key, site, _)| (key.clone(), *site))
            .collect();
        transaction!(self.db, "exchange permits", conn => {
            let mut buckets = limits::lock(conn, &keys).await?;
            buckets.sort_by(|a, b| a.key.cmp(&b.key));
            let mut answers = Vec::with_capacity(asks.len());
            let mut recalls = Vec::new();
            for (bucket, (key, _, ask)) in buckets.iter_mut().zip(asks) {
                let answer = ledger::exchange(&mut bucket.slices, &self.holder, bucket.now, ask);
                if ask.want > 0 && answer.granted == 0 && answer.held_by_others {
                    recalls.push(key.clone());
                }
                answers.push(answer);
            }
            limits::store(conn, &buckets).await?;
            if !recalls.is_empty() {
                limits::recall(conn, recalls).await?;
            }
            Ok::<_, Error>(answers)
        })
    }
}

impl State {
    /// Takes out of circulation what the next exchange gives back, and says what it asks, by key in order.
    fn withdraw(&mut self, now: Instant) -> Vec<(String, &'static str, Ask)> {
        let mut asks: Vec<_> = self
            .keys
            .iter_mut()
            .filter(|(_, entry)| entry.wanted || entry.is_due(now))
            .take(BATCH)
            .map(|(key, entry)| (key.clone(), entry.site.name, entry.withdraw(now)))
            .collect();
        asks.sort_by(|a, b| a.0.cmp(&b.0));
        asks
    }

    /// Keeps the number of keys bounded. What a forgotten key held counts as spent until its lease would have ended.
    fn make_room(&mut self, site: &Site, now: Instant) {
        if self.keys.len() < site.max_keys {
            return;
        }
        self.keys.retain(|_, entry| {
            entry.leased || entry.wanted || entry.full_until.is_some_and(|until| now < until)
        });
        if self.keys.len() >= site.max_keys
            && let Some(key) = self.keys.keys().next().cloned()
        {
            self.keys.remove(&key);
        }
    }
}

impl Entry {
    fn new(site: &'static Site, limit: u32, now: Instant) -> Self {
        Self {
            site,
            limit,
            left: 0,
            deadline: now,
            used: 0,
            last_used: now,
            leased: false,
            wanted: false,
            recalled: false,
            full_until: None,
            again_at: None,
            patient_until: None,
        }
    }

    fn decide(&mut self, now: Instant) -> Local {
        if self.left > 0 && now < self.deadline {
            self.left -= 1;
            self.used += 1;
            self.last_used = now;
            return Local::Decided(Verdict::Allowed);
        }
        if let Some(until) = self.full_until.filter(|until| now < *until) {
            return Local::Decided(Verdict::Limited {
                retry_after: until - now,
            });
        }
        if let Some(again_at) = self.again_at.filter(|again_at| now < *again_at) {
            return Local::Wait(again_at);
        }
        self.wanted = true;
        Local::Ask
    }

    /// Whether the database should hear of it although nobody here wants more.
    fn is_due(&self, now: Instant) -> bool {
        self.leased && (self.recalled || self.left == 0 || now >= self.deadline)
    }

    fn withdraw(&mut self, now: Instant) -> Ask {
        self.left = 0;
        Ask {
            limit: self.limit,
            window: self.site.window,
            lease: LEASE,
            want: if self.wanted { slice(self.limit) } else { 0 },
            settle: self.leased.then(|| Settle {
                used: self.used,
                age: now - self.last_used,
            }),
        }
    }

    /// The lease is counted from before the question was sent, so it ends here before it ends at the database.
    fn learn(&mut self, answer: Answer, sent: Instant) {
        let wanted = std::mem::take(&mut self.wanted);
        self.recalled = false;
        self.used = 0;
        self.left = answer.granted;
        self.leased = answer.granted > 0;
        self.deadline = sent + LEASE;
        self.full_until = None;
        self.again_at = None;
        if !wanted || answer.granted > 0 {
            self.patient_until = None;
            return;
        }
        let now = Instant::now();
        let patient_until = *self.patient_until.get_or_insert(now + PATIENCE);
        if !answer.held_by_others {
            self.patient_until = None;
            self.full_until = Some(sent + answer.free_in.max(AGAIN));
        } else if now < patient_until {
            self.again_at = Some(now + AGAIN);
        } else {
            self.patient_until = None;
            self.full_until = Some(now + PATIENCE);
        }
    }
}

/// A tenth of the limit: few enough that replicas share, many enough that a permit costs a tenth of a question or less.
fn slice(limit: u32) -> u32 {
    (limit / 10).clamp(1, 100)
}
