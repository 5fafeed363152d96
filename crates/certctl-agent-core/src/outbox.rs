//! What the server has not been told yet.
//!
//! A deployment that is done must be known to be done, however long the server is away; so its result stays here until the
//! server has taken it, or has said that it never will.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use certctl_domain::id::JobId;
use certctl_telemetry::ErrorChain;
use tokio::sync::Notify;

use crate::{
    Error,
    wire::{
        Client,
        body::{JobReport, Verification},
    },
};

/// The most letters kept. A poll takes on new work only when the last is done, so this is never reached in practice.
const MOST: usize = 1024;

#[derive(Debug, Clone)]
pub(crate) enum Message {
    Report(JobReport),
    Verification(Verification),
}

#[derive(Debug, Clone)]
struct Letter {
    number: u64,
    job: JobId,
    message: Message,
}

#[derive(Default)]
struct Letters {
    next: u64,
    waiting: VecDeque<Letter>,
}

#[derive(Default)]
pub(crate) struct Outbox {
    letters: Mutex<Letters>,
    /// One delivery at a time, so that nothing is sent twice.
    sending: tokio::sync::Mutex<()>,
    arrived: Notify,
}

impl Outbox {
    pub(crate) fn post(&self, job: &JobId, message: Message) {
        let mut letters = self.lock();
        if letters.waiting.len() == MOST {
            letters.waiting.pop_front();
            tracing::error!("more than {MOST} results wait for the server; the oldest is given up");
        }
        let number = letters.next;
        letters.next += 1;
        letters.waiting.push_back(Letter {
            number,
            job: job.clone(),
            message,
        });
        drop(letters);
        self.arrived.notify_one();
    }

    /// Whether something about this job has not been delivered.
    pub(crate) fn holds(&self, job: &JobId) -> bool {
        self.lock().waiting.iter().any(|letter| letter.job == *job)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    /// Waits until something is posted.
    pub(crate) async fn arrival(&self) {
        self.arrived.notified().await;
    }

    /// Tries to deliver everything once, in order. What cannot be delivered now stays.
    ///
    /// # Errors
    /// [`Error::Retired`] when the server says so; other failures are logged.
    pub(crate) async fn flush(&self, client: &Client) -> Result<(), Error> {
        let _sending = self.sending.lock().await;
        let mut held_back = BTreeSet::new();
        let letters: Vec<Letter> = self.lock().waiting.iter().cloned().collect();
        for letter in letters {
            // Of one job, the verification goes before the end of the job.
            if held_back.contains(&letter.job) {
                continue;
            }
            let sent = match &letter.message {
                Message::Report(report) => client.report(&letter.job, report).await,
                Message::Verification(seen) => client.verification(&letter.job, seen).await,
            };
            match sent {
                Ok(()) => self.remove(letter.number),
                Err(Error::Retired) => return Err(Error::Retired),
                Err(failure) if failure.is_transient() => {
                    tracing::warn!(job_id = %letter.job, problem = %ErrorChain(&failure),
                        "a result could not be delivered and is kept");
                    held_back.insert(letter.job);
                }
                Err(failure) => {
                    // 409: the job has ended already; 404: it is not ours any more; 400: an older server.
                    tracing::warn!(job_id = %letter.job, problem = %ErrorChain(&failure),
                        "the server does not take a result");
                    self.remove(letter.number);
                }
            }
        }
        Ok(())
    }

    fn remove(&self, number: u64) {
        self.lock().waiting.retain(|letter| letter.number != number);
    }

    fn lock(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
