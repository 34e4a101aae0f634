//! The real collector's ledger, in memory, behind the real wire format.

use rusqlite::Connection;

use crate::collector::store::{self, Error, Losses, Store};
use crate::report::wire::{Record, decode_record, decode_sync, encode_reply};

/// The ledger of one simulated world.
#[derive(Debug)]
pub struct Ledger {
    store: Store,
    /// What the collector would have told its operator.
    pub warnings: Vec<String>,
}

/// What one epoch has of a quota's window, as the ledger knows it. Micro-units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// The account.
    pub subject: String,
    /// `plan/quota`.
    pub quota: String,
    /// Start of the window.
    pub window: u64,
    /// Whose share.
    pub epoch: u64,
    /// Granted, cumulative.
    pub granted: u64,
    /// Given back, cumulative.
    pub returned: u64,
    /// Used, as the epoch reported it.
    pub used: u64,
}

impl Ledger {
    /// An empty one.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn new() -> Result<Self, Error> {
        Ok(Self { store: Store::in_memory()?, warnings: Vec::new() })
    }

    /// Answers the body of a `POST /v1/sync`, committed: status and body.
    pub fn sync(&mut self, body: &[u8], now_ms: u64) -> (u16, Vec<u8>) {
        let (head, records) = match decode_sync(body) {
            Ok(sync) => sync,
            Err(error) => return (400, error.to_string().into_bytes()),
        };
        let applied = self.store.begin().and_then(|transaction| {
            let applied = store::apply(&transaction, &head, &records, now_ms)?;
            transaction.commit()?;
            Ok(applied)
        });
        match applied {
            Ok(applied) => {
                self.warnings.extend(applied.warnings);
                (200, encode_reply(&applied.reply))
            }
            Err(error) => (500, error.to_string().into_bytes()),
        }
    }

    /// All records, in the order of their ids.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn records(&mut self) -> Result<Vec<Record>, Error> {
        records(&*self.store.begin()?)
    }

    /// What never became part of it.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn losses(&mut self) -> Result<Losses, Error> {
        store::losses(&*self.store.begin()?)
    }

    /// All shares of all epochs.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn shares(&mut self) -> Result<Vec<Share>, Error> {
        let transaction = self.store.begin()?;
        let mut statement = transaction
            .prepare("SELECT subject, quota, window, epoch, granted, returned, used FROM grants ORDER BY 1, 2, 3, 4")?;
        let rows = statement.query_map([], |row| {
            let number = |at: usize| row.get::<_, i64>(at).map(i64::cast_unsigned);
            Ok(Share {
                subject: row.get(0)?,
                quota: row.get(1)?,
                window: number(2)?,
                epoch: number(3)?,
                granted: number(4)?,
                returned: number(5)?,
                used: number(6)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

/// All records of a ledger's database, in the order of their ids.
///
/// # Errors
/// When SQLite fails.
pub fn records(db: &Connection) -> Result<Vec<Record>, Error> {
    let mut statement = db.prepare("SELECT body FROM bodies ORDER BY epoch, vm, generation, sequence")?;
    let bodies = statement.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
    let decoded = bodies.map(|body| body.map(|body| decode_record(&body).unwrap_or_default()));
    Ok(decoded.collect::<Result<_, _>>()?)
}
