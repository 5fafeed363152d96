//! Named transactions: all of it or nothing, and again from the start when another transaction came first.

use std::{
    ops::{Deref, DerefMut},
    time::{Duration, Instant},
};

use diesel_async::SimpleAsyncConnection as _;

use crate::{Conn, Db, Error};

/// Runs a body in a named transaction: all of it or nothing, again from the start when another transaction came first.
///
/// The body may run twice, so it only reads and writes rows. It is a block of an async function that may use `?`; its value is
/// `Result<T, E>` where `E: From<certctl_repository::Error> + RetryHint`.
///
/// With `by_key` before the name, PostgreSQL reads no table from end to end in it that has an index to go by; see
/// [`Attempts::by_key`].
#[macro_export]
macro_rules! transaction {
    ($db:expr, by_key $name:literal, $conn:ident => $body:block) => {
        $crate::transaction!(@ $db, $crate::Attempts::new($name).by_key(), $conn => $body)
    };
    ($db:expr, $name:literal, $conn:ident => $body:block) => {
        $crate::transaction!(@ $db, $crate::Attempts::new($name), $conn => $body)
    };
    (@ $db:expr, $attempts:expr, $conn:ident => $body:block) => {{
        let mut attempts = $attempts;
        loop {
            let mut owned = match $db.begin(&mut attempts).await {
                Ok(transaction) => transaction,
                Err(error) => break Err(error.into()),
            };
            let is_sqlite = owned.is_sqlite();
            // Pinned here, because a future that is handed on by value is in memory twice.
            let work = ::std::pin::pin!(async {
                let outcome = {
                    let $conn: &mut $crate::Conn = &mut owned;
                    async { $body }.await
                };
                owned.finish(&attempts, outcome).await
            });
            let done = $crate::in_place(is_sqlite, work);
            if let Some(done) = done.await {
                break done;
            }
        }
    }};
}

/// Tells whether an error means that another transaction came first.
pub trait RetryHint {
    /// Whether running the transaction again may succeed.
    fn is_contention(&self) -> bool;

    /// Whether the connection is of no further use though it answers, because the server behind it serves reads only.
    fn spoils_connection(&self) -> bool {
        false
    }
}

impl RetryHint for Error {
    fn is_contention(&self) -> bool {
        Error::is_contention(self)
    }

    fn spoils_connection(&self) -> bool {
        Error::spoils_connection(self)
    }
}

/// One transaction, counted over the attempts it takes.
#[derive(Debug)]
pub struct Attempts {
    name: &'static str,
    is_by_key: bool,
    made: u32,
    started: Instant,
}

/// How a transaction begins on PostgreSQL.
const BEGIN: &str = "BEGIN";
/// How one begins whose statements all go by keys: no table from end to end, neither by itself nor along an index into a hash. What
/// has no other way, a small table without a fitting index, is then estimated to cost ten thousand million, for which PostgreSQL
/// would compile it first: hence without `jit`.
const BEGIN_BY_KEY: &str = "BEGIN; SET LOCAL enable_seqscan TO off; SET LOCAL enable_hashjoin TO off; \
     SET LOCAL enable_mergejoin TO off; SET LOCAL jit TO off";

/// Attempts after which contention is reported instead of tried again.
const MAX_ATTEMPTS: u32 = 10;

/// Connections that may turn out dead before the database is taken to be.
const MAX_STALE: u32 = 2;

impl Attempts {
    /// None made yet.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            is_by_key: false,
            made: 0,
            started: Instant::now(),
        }
    }

    /// All its statements find a few rows by their keys.
    ///
    /// PostgreSQL plans a prepared statement for good after its fifth use, and keeps to the plan until the table has been analysed. On
    /// a new installation the tables are next to empty then, so that it reads them from end to end, and goes on so for minutes while
    /// they grow by hundreds of rows a second. This tells it that a few keys are never worth that.
    #[must_use]
    pub fn by_key(self) -> Self {
        Self {
            is_by_key: true,
            ..self
        }
    }

    fn begin(&mut self) {
        self.made += 1;
        metrics::counter!("certctl_db_transaction_attempts_total", "name" => self.name)
            .increment(1);
    }

    /// Records the end; nothing follows it.
    fn end(&self, outcome: &'static str) {
        metrics::counter!("certctl_db_transactions_total", "name" => self.name, "outcome" => outcome)
            .increment(1);
        metrics::histogram!("certctl_db_transaction_seconds", "name" => self.name)
            .record(self.started.elapsed().as_secs_f64());
    }

    fn may_try_again(&self, is_contention: bool) -> bool {
        is_contention && self.made < MAX_ATTEMPTS
    }

    /// Waits before the next attempt, with full jitter, so that two transactions that met do not meet again.
    async fn back_off(&self) {
        let ceiling = 1000 * 2_u64.pow(self.made.min(7));
        let draw = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), self.made);
        tokio::time::sleep(Duration::from_micros(draw % ceiling)).await;
    }
}

impl Db {
    /// Begins a transaction; use the macro `transaction!`, which finishes it.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the database is gone or no connection becomes free in time, [`Error::Contention`] when
    /// another program keeps SQLite locked.
    pub async fn begin(&self, attempts: &mut Attempts) -> Result<Transaction, Error> {
        attempts.begin();
        let begun = self
            .begun(if attempts.is_by_key {
                BEGIN_BY_KEY
            } else {
                BEGIN
            })
            .await;
        if begun.is_err() {
            attempts.end("failed");
        }
        begun
    }

    async fn begun(&self, postgres: &'static str) -> Result<Transaction, Error> {
        let mut stale = 0;
        loop {
            let mut conn = self.writer().await?;
            let begun = on_conn!(&mut conn,
                pg c => c.batch_execute(postgres).await,
                // So that it never fails half way for having read first. Whoever has to wait for another program waits here, and
                // so not in the way of others.
                sqlite c => c.batch_execute("BEGIN IMMEDIATE").await,
            );
            match begun.map_err(Error::from) {
                Ok(()) => {
                    return Ok(Transaction {
                        conn: Some(conn),
                        db: self.clone(),
                    });
                }
                Err(error) => {
                    conn.discard();
                    // The server may have closed its connections while nobody used them; nothing was done on this one yet.
                    self.forget_idle();
                    stale += 1;
                    if !matches!(error, Error::Unavailable(_)) || stale > MAX_STALE {
                        return Err(error);
                    }
                }
            }
        }
    }
}

/// A transaction under way. Dropped unfinished, it takes its connection out of the pool and closes it, and so rolls back.
pub struct Transaction {
    conn: Option<Conn>,
    db: Db,
}

impl Transaction {
    /// Which database it is in.
    #[doc(hidden)]
    #[must_use]
    pub fn is_sqlite(&self) -> bool {
        matches!(**self, Conn::Sqlite(_))
    }

    /// Commits on success and rolls back on failure; nothing when the body should run again.
    pub async fn finish<T, E: From<Error> + RetryHint>(
        mut self,
        attempts: &Attempts,
        outcome: Result<T, E>,
    ) -> Option<Result<T, E>> {
        let error = match outcome {
            Ok(value) => match self.commit().await {
                Ok(()) => {
                    attempts.end("committed");
                    return Some(Ok(value));
                }
                Err(error) if attempts.may_try_again(error.is_contention()) => {
                    attempts.back_off().await;
                    return None;
                }
                Err(error) => {
                    attempts.end("failed");
                    return Some(Err(error.into()));
                }
            },
            Err(error) => error,
        };
        if error.spoils_connection() {
            // Dropped unfinished, it is closed, and so are the idle ones, which lead to the same server; the next ones are made anew
            // and find the one that writes.
            self.db.forget_idle();
        } else {
            self.roll_back().await;
        }
        if attempts.may_try_again(error.is_contention()) {
            attempts.back_off().await;
            return None;
        }
        attempts.end(if error.is_contention() {
            "failed"
        } else {
            "rolled_back"
        });
        Some(Err(error))
    }

    /// When this fails it is not known whether anything was committed; the connection is closed.
    async fn commit(&mut self) -> Result<(), Error> {
        // PostgreSQL answers COMMIT in a transaction that met an error with a silent ROLLBACK. A body that overlooked such an
        // error would be told that all is well; the statement before is refused instead.
        let result = match &mut **self {
            Conn::Postgres(object) => object.batch_execute("SELECT 1; COMMIT").await,
            Conn::Sqlite(object) => object.batch_execute("COMMIT").await,
        };
        result?;
        self.release();
        self.db.committed();
        Ok(())
    }

    /// When this fails the connection is closed, which rolls back too.
    async fn roll_back(&mut self) {
        let ended = on_conn!(&mut **self, c => c.batch_execute("ROLLBACK").await);
        if ended.is_ok() {
            self.release();
        }
    }

    /// Gives the connection back to its pool.
    fn release(&mut self) {
        self.conn = None;
    }
}

impl Deref for Transaction {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        self.conn
            .as_ref()
            .expect("the connection leaves only in finish, which takes the transaction")
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut Conn {
        self.conn
            .as_mut()
            .expect("the connection leaves only in finish, which takes the transaction")
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take() {
            conn.discard();
        }
    }
}
