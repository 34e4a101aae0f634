//! The ledger: records, grants and losses in one SQLite file.
//!
//! Everything here runs inside a transaction of the caller's and gets the time as a parameter.

pub mod account;
mod debt;
mod grant;
mod loss;
mod record;
mod rollover;
mod schema;
mod sync;
pub mod usage;
mod window;

use std::fmt;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

pub use self::loss::{Losses, Unfinished, losses, unfinished};
pub use self::sync::{Applied, apply};

/// Why the ledger did not do what it was asked to.
#[derive(Debug)]
pub enum Error {
    /// SQLite said no.
    Sqlite(rusqlite::Error),
    /// The file was written by a newer program.
    Newer(i64),
    /// A question that has no answer, and what is wrong with it.
    Question(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(error) => write!(f, "the database did not answer: {error}"),
            Self::Newer(version) => {
                write!(f, "the database has format `{version}`, which this program does not know: use a newer one")
            }
            Self::Question(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Sqlite(error) => Some(error),
            Self::Newer(_) | Self::Question(_) => None,
        }
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// The connection that writes. There is one for each file.
#[derive(Debug)]
pub struct Store(Connection);

impl Store {
    /// Opens or creates the file, and brings it to the newest format.
    ///
    /// A commit is on the disk before it returns: write-ahead log, `synchronous=FULL`.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::prepare(Connection::open(path)?)
    }

    /// A ledger that dies with the process, for tests and simulations.
    pub fn in_memory() -> Result<Self, Error> {
        Self::prepare(Connection::open_in_memory()?)
    }

    fn prepare(mut connection: Connection) -> Result<Self, Error> {
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.set_prepared_statement_cache_capacity(64);
        schema::migrate(&mut connection)?;
        Ok(Self(connection))
    }

    /// Begins a transaction that may write.
    pub fn begin(&mut self) -> Result<Transaction<'_>, Error> {
        Ok(self.0.transaction_with_behavior(TransactionBehavior::Immediate)?)
    }
}

/// A connection that only reads, beside the one that writes.
pub fn reader(path: &Path) -> Result<Connection, Error> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    Ok(connection)
}

/// A quantity as SQLite keeps it. What does not fit is as large as can be: for every quantity here that errs to
/// the side of having been used.
fn stored(quantity: u64) -> i64 {
    i64::try_from(quantity).unwrap_or(i64::MAX)
}

/// A quantity as it was [`stored`].
fn quantity(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or(0)
}
