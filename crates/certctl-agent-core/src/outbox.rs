//! What the server has not been told yet.
//!
//! A deployment that is done must be known to be done, however long the server is away; so its result stays here until the
//! server has taken it, or has said that it never will. Reports are kept on disk as well, see [`Ledger`].

use std::{
    collections::{BTreeSet, VecDeque},
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use certctl_domain::id::JobId;
use certctl_telemetry::ErrorChain;
use serde_json::Value;
use tokio::{sync::Notify, task::spawn_blocking};

use crate::{
    Error,
    ledger::Ledger,
    wire::{
        Client,
        body::{JobReport, Verification},
    },
};

/// The most letters kept. A poll takes on new work only when the last is done, so this is never reached in practice.
const MOST: usize = 1024;

/// What is said of a job whose agent died over it.
const CUT_OFF: &str =
    "the agent ended before the job did; the next deployment puts right what was begun";

#[derive(Debug, Clone)]
enum Message {
    Report(Value),
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

pub(crate) struct Outbox {
    letters: Mutex<Letters>,
    ledger: Ledger,
    /// One delivery at a time, so that nothing is sent twice.
    sending: tokio::sync::Mutex<()>,
    arrived: Notify,
}

impl Outbox {
    /// Opens the ledger; what an earlier life of the agent owes is posted anew.
    pub(crate) fn open(dir: PathBuf) -> Result<Self, Error> {
        let (ledger, owed) = Ledger::open(dir)?;
        let outbox = Self {
            letters: Mutex::default(),
            ledger,
            sending: tokio::sync::Mutex::default(),
            arrived: Notify::new(),
        };
        for (job, report) in owed {
            let report = report.unwrap_or_else(|| {
                tracing::warn!(job_id = %job, "the agent ended before this job did");
                as_json(&JobReport::failed(CUT_OFF.to_owned()))
            });
            outbox.push(job, Message::Report(report));
        }
        Ok(outbox)
    }

    /// Notes that a job is under way, so that it is answered for whatever happens.
    pub(crate) async fn take(&self, job: &JobId) {
        self.note(job, Ledger::take).await;
    }

    /// Keeps the end of a job until it is delivered.
    pub(crate) async fn report(&self, job: &JobId, report: &JobReport) {
        let report = as_json(report);
        let noted = report.clone();
        self.note(job, move |ledger, job| ledger.end(job, &noted))
            .await;
        self.push(job.clone(), Message::Report(report));
    }

    /// Keeps what was seen of a deployment until it is delivered.
    pub(crate) fn verification(&self, job: &JobId, seen: Verification) {
        self.push(job.clone(), Message::Verification(seen));
    }

    /// Writes to the ledger off the async threads. A ledger that cannot be written only matters when the agent dies, too.
    async fn note(
        &self,
        job: &JobId,
        write: impl FnOnce(&Ledger, &JobId) -> Result<(), Error> + Send + 'static,
    ) {
        let (ledger, owned) = (self.ledger.clone(), job.clone());
        let written = spawn_blocking(move || write(&ledger, &owned)).await;
        if let Ok(Err(problem)) = written {
            tracing::warn!(job_id = %job, problem = %ErrorChain(&problem), "the job is not noted on disk");
        }
    }

    fn push(&self, job: JobId, message: Message) {
        let mut letters = self.lock();
        if letters.waiting.len() == MOST {
            letters.waiting.pop_front();
            tracing::error!("more than {MOST} results wait for the server; the oldest is given up");
        }
        let number = letters.next;
        letters.next += 1;
        letters.waiting.push_back(Letter {
            number,
            job,
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
                Ok(()) => self.done(&letter).await,
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
                    self.done(&letter).await;
                }
            }
        }
        Ok(())
    }

    /// Forgets a letter that was delivered or will never be.
    async fn done(&self, letter: &Letter) {
        if matches!(letter.message, Message::Report(_)) {
            self.note(&letter.job, Ledger::forget).await;
        }
        self.lock()
            .waiting
            .retain(|other| other.number != letter.number);
    }

    fn lock(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn as_json(report: &JobReport) -> Value {
    serde_json::to_value(report).expect("texts, numbers and maps of texts are JSON")
}
