//! What can go wrong at the database, by what the caller can do about it.

use diesel::result::{DatabaseErrorKind, Error as DieselError};

/// Why a query did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such row.
    #[error("no such row")]
    NotFound,
    /// A unique key is taken.
    #[error("a row with this key exists already")]
    AlreadyExists,
    /// A row refers to one that does not exist, or is referred to by one that does.
    #[error("a row refers to another that is missing, or is still referred to")]
    Reference,
    /// Another transaction came first; the whole transaction can be run again.
    #[error("another transaction came first")]
    Contention(#[source] DieselError),
    /// The database cannot be reached, or no connection became free in time.
    #[error("the database cannot be reached")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A row holds what no version of certctl writes.
    #[error("table {table} holds a row that cannot be read: {problem}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// What cannot be read.
        problem: String,
    },
    /// Anything else the database says.
    #[error("the database refused a statement")]
    Database(#[source] DieselError),
}

impl Error {
    /// A row that cannot be read.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers hand over the error of a closure that maps it"
    )]
    pub(crate) fn corrupt(table: &'static str, problem: impl ToString) -> Self {
        Self::Corrupt {
            table,
            problem: problem.to_string(),
        }
    }

    /// Whether the connection is of no further use, though it answers: the server behind it is not the one that writes.
    #[must_use]
    pub fn spoils_connection(&self) -> bool {
        matches!(self, Self::Unavailable(cause)
            if cause.downcast_ref::<DieselError>().is_some_and(|error| is_read_only(&error.to_string())))
    }

    /// Whether running the whole transaction again may succeed.
    #[must_use]
    pub const fn is_contention(&self) -> bool {
        matches!(self, Self::Contention(_))
    }
}

/// Whether PostgreSQL says that it serves reads only here.
fn is_read_only(message: &str) -> bool {
    message.contains("read-only transaction")
        || message.contains("cannot be executed during recovery")
        || message.contains("recovery is in progress")
}

impl From<DieselError> for Error {
    fn from(error: DieselError) -> Self {
        let message = match &error {
            DieselError::NotFound => return Self::NotFound,
            DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => {
                return Self::AlreadyExists;
            }
            DieselError::DatabaseError(
                DatabaseErrorKind::ForeignKeyViolation | DatabaseErrorKind::RestrictViolation,
                _,
            ) => {
                return Self::Reference;
            }
            DieselError::DatabaseError(DatabaseErrorKind::SerializationFailure, _) => {
                return Self::Contention(error);
            }
            DieselError::DatabaseError(
                DatabaseErrorKind::ClosedConnection | DatabaseErrorKind::UnableToSendCommand,
                _,
            ) => {
                return Self::Unavailable(Box::new(error));
            }
            DieselError::DatabaseError(_, information) => information.message().to_owned(),
            other => other.to_string(),
        };
        // diesel has no kind for these; both databases word them in English whatever the locale of the messages is, except
        // PostgreSQL under a foreign lc_messages, where a deadlock then surfaces as a refusal instead of a second try.
        if message.contains("deadlock detected")
            || message.contains("database is locked")
            || message.contains("database table is locked")
        {
            return Self::Contention(error);
        }
        // SQLite enforces ON DELETE RESTRICT by a trigger, and reports it as one.
        if message == "FOREIGN KEY constraint failed" {
            return Self::Reference;
        }
        // A server that became a standby, or is made to refuse writes while another takes over, will not serve on this connection.
        if is_read_only(&message) {
            return Self::Unavailable(Box::new(error));
        }
        if [
            "connection closed",
            "terminating connection",
            "server closed",
            "error communicating",
            "the database system is",
        ]
        .iter()
        .any(|sign| message.contains(sign))
        {
            return Self::Unavailable(Box::new(error));
        }
        Self::Database(error)
    }
}
