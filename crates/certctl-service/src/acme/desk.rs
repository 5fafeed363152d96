//! The desk: what signed requests write, they write together.
//!
//! Each request hands in a ticket. Whoever finds nobody at the desk sets somebody to it, who takes all tickets that wait and carries
//! them out in one transaction: the nonces by one statement, the accounts by another, then one statement for each kind of row. So a request alone
//! costs one commit, and fifty at a time share it. A refusal is the refusal of one ticket; its neighbours are not touched. When a
//! batch fails as a whole, its tickets are carried out one by one.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use certctl_domain::{
    acme::{Account, AcmeAccountId, AcmeAuthorizationId, AcmeOrderId, Order, Problem, ProblemType},
    audit::AuditEvent,
    id::CertificateId,
    time::Timestamp,
};
use certctl_repository::{
    Backend, Conn,
    acme::{accounts, issuing, nonces, orders},
    audit_events, spawn_writer, transaction,
};
use certctl_telemetry::ErrorChain;
use tokio::sync::oneshot;

use super::{
    Acme, Refusal,
    accounts::AccountWork,
    challenges::ChallengeWork,
    finalize::{self, Finalization},
    metrics,
    new_order::{self, Draft},
    nonces::bad_nonce,
    recent::Chain,
    signed::{Opened, Signer, in_force},
};
use crate::{
    Error,
    engine::{
        held::Held,
        store::{Results, Stored},
    },
};

/// Tickets in one transaction at the most.
const BATCH: usize = 200;
/// Who may be at the desk at a time on PostgreSQL, where a transaction waits for answers most of its time. SQLite has one writer.
const CLERKS: usize = 3;
/// Tickets that wait when another clerk comes. With one, 8 clients at a time are served best; more clerks sooner share fewer
/// commits, and fewer later leave the database idle between the answers of one transaction.
const QUEUE: usize = 1;

/// What is to be done.
pub(super) enum Work {
    /// Nothing but what every ticket asks: that nonce and account are good.
    Touch,
    /// An order is to be made.
    Order(Box<Draft>),
    /// An order is to be finalised.
    Finalize(Box<Finalization>),
    /// Something with an account.
    Account(Box<AccountWork>),
    /// Something with a challenge or an authorisation.
    Challenge(Box<ChallengeWork>),
    /// What was signed is to be stored.
    Store(Arc<Results>),
    /// A certificate is to be read.
    Download(CertificateId),
}

/// What came of it.
#[derive(Debug, Clone)]
pub(super) enum Done {
    /// It is done.
    Touched,
    /// The order as it is now, with its authorisations.
    Order(Box<Order>, Vec<AcmeAuthorizationId>),
    /// The account as it is now, and whether it is new.
    Account(Box<Account>, bool),
    /// The token of the lease of a challenge; none when somebody else has taken it up.
    Taken(Option<i64>),
    /// What was stored.
    Stored(Box<Stored>),
    /// Whose the certificate is, who signed it, and its chain.
    Downloaded(Option<Chain>),
}

/// A request as it waits at the desk.
pub(super) struct Ticket {
    /// What all replicas have to agree that it is used now.
    nonce: Option<(String, Timestamp)>,
    /// Who asks, and with which key the signature was verified; none where no account asks.
    account: Option<(AcmeAccountId, String)>,
    work: Work,
}

type Answer = Result<Done, Refusal>;

pub(super) struct Desk {
    waiting: Mutex<Waiting>,
    clerks: usize,
}

#[derive(Default)]
struct Waiting {
    tickets: VecDeque<(Ticket, oneshot::Sender<Answer>)>,
    clerks: usize,
}

impl Desk {
    pub(super) fn new(backend: Backend) -> Self {
        Self {
            waiting: Mutex::default(),
            clerks: match backend {
                Backend::Postgres => CLERKS,
                Backend::Sqlite => 1,
            },
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands in a ticket; true when somebody has to be set to the desk.
    fn put(&self, ticket: Ticket, answer: oneshot::Sender<Answer>) -> bool {
        let mut waiting = self.lock();
        waiting.tickets.push_back((ticket, answer));
        let is_wanted =
            waiting.clerks == 0 || (waiting.clerks < self.clerks && waiting.tickets.len() > QUEUE);
        if is_wanted {
            waiting.clerks += 1;
        }
        is_wanted
    }

    /// The next tickets; none when the clerk is to go.
    fn take(&self) -> Vec<(Ticket, oneshot::Sender<Answer>)> {
        let mut waiting = self.lock();
        let count = waiting.tickets.len().min(BATCH);
        if count == 0 {
            waiting.clerks -= 1;
        }
        waiting.tickets.drain(..count).collect()
    }
}

/// Takes a clerk off whose batch panicked, so that the next ticket sets another to the desk.
struct Clerk<'a>(&'a Desk);

impl Drop for Clerk<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut waiting = self.0.lock();
            waiting.clerks -= 1;
            if waiting.clerks == 0 {
                // Their callers are told by the end of their channels.
                waiting.tickets.clear();
            }
        }
    }
}

impl Acme {
    /// Has something carried out for an account.
    pub(super) async fn submit(
        &self,
        opened: &Opened,
        signer: Option<&Signer>,
        work: Work,
    ) -> Answer {
        let ticket = Ticket {
            nonce: opened.nonce.clone(),
            account: signer.map(|signer| {
                let account = &signer.known.account;
                (account.id.clone(), account.thumbprint.clone())
            }),
            work,
        };
        let answer = self.hand_in(ticket).await;
        // Also where it was refused: the desk has seen the nonce before anything else.
        opened
            .spent
            .store(true, std::sync::atomic::Ordering::Relaxed);
        answer
    }

    /// Has something carried out that no request asks for.
    pub(super) async fn submit_own(&self, work: Work) -> Answer {
        let ticket = Ticket {
            nonce: None,
            account: None,
            work,
        };
        self.hand_in(ticket).await
    }

    /// For requests that only read: that the nonce was not used at another replica, and the account still has its key. On SQLite there
    /// is no other replica, and nothing to write.
    pub(super) async fn touch(&self, opened: &Opened, signer: &Signer) -> Result<(), Refusal> {
        if opened.nonce.is_none() {
            return Ok(());
        }
        self.submit(opened, Some(signer), Work::Touch).await?;
        Ok(())
    }

    async fn hand_in(&self, ticket: Ticket) -> Answer {
        let (tell, told) = oneshot::channel();
        if self.state.desk.put(ticket, tell) {
            let acme = self.clone();
            let is_sqlite = self.services.db.backend() == Backend::Sqlite;
            // In the background, so that a client that hangs up does not take the others' answers with it.
            spawn_writer(is_sqlite, async move { acme.run_desk().await });
        }
        told.await
            .unwrap_or_else(|_| Err(Error::internal("the desk ended before it answered").into()))
    }

    async fn run_desk(self) {
        let clerk = Clerk(&self.state.desk);
        loop {
            let batch = clerk.0.take();
            if batch.is_empty() {
                return;
            }
            metrics::observe_batch(batch.len());
            let (tickets, tell): (Vec<Ticket>, Vec<_>) = batch.into_iter().unzip();
            let answers = self.carry_out_all(tickets).await;
            for (tell, answer) in tell.into_iter().zip(answers) {
                // Whoever asked may have gone.
                let _gone = tell.send(answer);
            }
        }
    }

    async fn carry_out_all(&self, tickets: Vec<Ticket>) -> Vec<Answer> {
        match self.carry_out(&tickets).await {
            Ok(answers) => return answers,
            // Whether it was committed is not known, and what was must not be done again.
            Err(error) if tickets.len() == 1 || matches!(error, Error::Unavailable(_)) => {
                tracing::error!(error = %ErrorChain(&error), requests = tickets.len(), "ACME requests could not be carried out");
                return tickets.iter().map(|_| Err(failed(&error))).collect();
            }
            Err(error) => {
                tracing::warn!(error = %ErrorChain(&error), requests = tickets.len(), "ACME requests are carried out one by one");
            }
        }
        let mut answers = Vec::with_capacity(tickets.len());
        for ticket in &tickets {
            let answer = match self.carry_out(std::slice::from_ref(ticket)).await {
                Ok(mut answers) => answers
                    .pop()
                    .unwrap_or_else(|| Err(failed(&Error::internal("no answer")))),
                Err(error) => {
                    tracing::error!(error = %ErrorChain(&error), "an ACME request could not be carried out");
                    Err(failed(&error))
                }
            };
            answers.push(answer);
        }
        answers
    }

    async fn carry_out(&self, tickets: &[Ticket]) -> Result<Vec<Answer>, Error> {
        let now = self.services.now();
        let lane = tickets
            .iter()
            .any(|one| matches!(&one.work, Work::Finalize(one) if one.is_to_be_signed()))
            .then(|| self.state.lanes.try_take())
            .flatten();
        let done = transaction!(self.services.db, by_key "ACME desk", conn => {
            let mut batch = Batch::of(conn, tickets, lane.is_some(), now).await?;
            self.work(conn, &mut batch).await?;
            audit_events::insert_all(conn, &batch.events).await?;
            if batch.has_jobs {
                certctl_repository::notify(conn, crate::engine::WAKE_CHANNEL).await?;
            }
            Ok::<_, Error>((batch.answers, batch.has_jobs, batch.held, batch.accounts))
        });
        let (answers, has_jobs, held, accounts) = done?;
        if let Some(lane) = lane.filter(|_| !held.is_empty()) {
            // Their clients wait, but not this batch of the desk.
            tokio::spawn(self.clone().issue(held, lane, now));
        }
        if has_jobs {
            self.services.wake.ring();
        }
        for (ticket, answer) in tickets.iter().zip(&answers) {
            self.settle_ticket(ticket, answer.as_ref(), &accounts);
        }
        Ok(answers
            .into_iter()
            .map(|answer| answer.unwrap_or(Ok(Done::Touched)))
            .collect())
    }

    async fn work(&self, conn: &mut Conn, batch: &mut Batch<'_>) -> Result<(), Error> {
        new_order::enter(conn, batch).await?;
        finalize::begin(self, conn, batch).await?;
        for (place, ticket) in batch.tickets.iter().enumerate() {
            if batch.answers[place].is_some() {
                continue;
            }
            let account = batch.account(place).cloned();
            let answer = match &ticket.work {
                Work::Account(work) => work.carry_out(self, conn, account, batch).await?,
                Work::Challenge(work) => work.carry_out(conn, batch).await?,
                Work::Store(results) => Ok(Done::Stored(Box::new(results.write(conn).await?))),
                Work::Download(id) => Ok(Done::Downloaded(issuing::download(conn, id).await?)),
                Work::Touch | Work::Order(_) | Work::Finalize(_) => Ok(Done::Touched),
            };
            batch.answers[place] = Some(answer);
        }
        Ok(())
    }

    /// Counts what was issued. What is remembered of accounts is kept up with what was written, and forgotten where it proved old.
    fn settle_ticket(
        &self,
        ticket: &Ticket,
        answer: Option<&Answer>,
        accounts: &HashMap<AcmeAccountId, Account>,
    ) {
        if let (Work::Finalize(one), Some(Ok(Done::Order(order, _)))) = (&ticket.work, answer) {
            one.count(&self.services, order);
        }
        let known = &self.state.known;
        if let Some(Ok(Done::Account(account, _))) = answer {
            if known.keep(account).is_err() {
                known.forget(&account.id);
            }
        } else if let Some((id, thumbprint)) = &ticket.account {
            let is_same = accounts
                .get(id)
                .is_some_and(|now| now.thumbprint == *thumbprint && in_force(now.status).is_ok());
            if !is_same {
                known.forget(id);
            }
        }
    }
}

fn failed(error: &Error) -> Refusal {
    let refusal: Refusal = Problem::new(
        ProblemType::ServerInternal,
        "the server failed; try again later",
    )
    .into();
    Refusal {
        retry_after: matches!(error, Error::Unavailable(_)).then_some(5),
        ..refusal
    }
}

/// Tickets that are carried out together, and what has come of each so far.
pub(super) struct Batch<'a> {
    pub(super) tickets: &'a [Ticket],
    pub(super) answers: Vec<Option<Answer>>,
    pub(super) accounts: HashMap<AcmeAccountId, Account>,
    /// The orders that tickets change, locked.
    pub(super) orders: HashMap<AcmeOrderId, Order>,
    pub(super) events: Vec<AuditEvent>,
    /// Whether there are jobs for the processor.
    pub(super) has_jobs: bool,
    /// Whether jobs may be made that this process works off itself.
    pub(super) may_sign: bool,
    /// Those that were made.
    pub(super) held: Vec<Held>,
    pub(super) now: Timestamp,
}

impl<'a> Batch<'a> {
    /// Redeems the nonces, reads accounts and orders, and refuses what is refused for them.
    async fn of(
        conn: &mut Conn,
        tickets: &'a [Ticket],
        may_sign: bool,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let asked: Vec<(String, Timestamp)> =
            tickets.iter().filter_map(|one| one.nonce.clone()).collect();
        let fresh: HashSet<String> = nonces::redeem(conn, &asked).await?.into_iter().collect();
        let (mut locked, mut read) = (BTreeSet::new(), BTreeSet::new());
        for ticket in tickets {
            if let Some((id, _)) = &ticket.account {
                let set = if ticket.work.locks_account() {
                    &mut locked
                } else {
                    &mut read
                };
                set.insert(id.clone());
            }
        }
        let locked: Vec<AcmeAccountId> = locked.into_iter().collect();
        let read: Vec<AcmeAccountId> = read
            .into_iter()
            .filter(|id| locked.binary_search(id).is_err())
            .collect();
        let mut found = accounts::lock_many(conn, &locked).await?;
        found.extend(accounts::find_many(conn, &read).await?);
        let wanted: BTreeSet<AcmeOrderId> = tickets
            .iter()
            .filter_map(|one| one.work.order().cloned())
            .collect();
        let wanted: Vec<AcmeOrderId> = wanted.into_iter().collect();
        let orders = orders::lock_many(conn, &wanted).await?;
        let mut batch = Self {
            tickets,
            answers: tickets.iter().map(|_| None).collect(),
            accounts: found.into_iter().map(|one| (one.id.clone(), one)).collect(),
            orders: orders
                .into_iter()
                .map(|one| (one.id.clone(), one))
                .collect(),
            events: Vec::new(),
            has_jobs: false,
            may_sign,
            held: Vec::new(),
            now,
        };
        for place in 0..tickets.len() {
            batch.answers[place] = batch.refusal(place, &fresh).map(Err);
        }
        Ok(batch)
    }

    /// The nonce first, whatever else is wrong (RFC 8555 §6.5); then that the account still has the key.
    fn refusal(&self, place: usize, fresh: &HashSet<String>) -> Option<Refusal> {
        let ticket = &self.tickets[place];
        if let Some((nonce, _)) = &ticket.nonce
            && !fresh.contains(nonce)
        {
            return Some(bad_nonce());
        }
        let (id, thumbprint) = ticket.account.as_ref()?;
        let Some(account) = self.accounts.get(id) else {
            return Some(
                Problem::new(ProblemType::AccountDoesNotExist, "there is no such account").into(),
            );
        };
        if let Err(problem) = in_force(account.status) {
            return Some(problem.into());
        }
        (account.thumbprint != *thumbprint).then(|| {
            Problem::new(ProblemType::Unauthorized, "the signature does not verify").into()
        })
    }

    /// Who handed in a ticket.
    pub(super) fn account(&self, place: usize) -> Option<&Account> {
        let (id, _) = self.tickets[place].account.as_ref()?;
        self.accounts.get(id)
    }

    /// The tickets that are still to be carried out, of one kind.
    pub(super) fn open<T>(&self, of: impl Fn(&'a Work) -> Option<&'a T>) -> Vec<(usize, &'a T)> {
        let tickets = self.tickets;
        tickets
            .iter()
            .enumerate()
            .filter(|(place, _)| self.answers[*place].is_none())
            .filter_map(|(place, ticket)| Some((place, of(&ticket.work)?)))
            .collect()
    }
}

impl Work {
    /// Whether the account must not change meanwhile, nor order anything else.
    fn locks_account(&self) -> bool {
        matches!(self, Self::Order(_) | Self::Account(_))
    }

    /// The order that is changed.
    fn order(&self) -> Option<&AcmeOrderId> {
        match self {
            Self::Finalize(finalization) => Some(&finalization.order_id),
            Self::Challenge(work) => work.order(),
            Self::Touch
            | Self::Order(_)
            | Self::Account(_)
            | Self::Store(_)
            | Self::Download(_) => None,
        }
    }
}
