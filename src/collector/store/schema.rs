//! How the ledger lies in SQLite, and how an older file becomes a newer one.
//!
//! `user_version` is the number of steps that a file has taken. A step that was released is never edited: a
//! change is a new step at the end of [`STEPS`].

use rusqlite::Connection;

use super::Error;

/// Each takes a file one version further.
const STEPS: &[&str] = &[
    "
-- One settled exchange. Epochs are 64 random bits, kept as SQLite's signed integers; amounts are micro-units.
CREATE TABLE records (
    epoch INTEGER NOT NULL, vm INTEGER NOT NULL, generation INTEGER NOT NULL, sequence INTEGER NOT NULL,
    bundle TEXT NOT NULL, org TEXT NOT NULL, seat TEXT NOT NULL, model TEXT NOT NULL,
    admitted_ms INTEGER NOT NULL, received_ms INTEGER NOT NULL, estimated INTEGER NOT NULL,
    input INTEGER NOT NULL, cache_read INTEGER NOT NULL, cache_write INTEGER NOT NULL,
    output INTEGER NOT NULL, reasoning INTEGER NOT NULL, credits INTEGER NOT NULL,
    PRIMARY KEY (epoch, vm, generation, sequence)
) STRICT, WITHOUT ROWID;
CREATE INDEX records_by_time ON records (admitted_ms);

-- The whole record in its wire form, apart from what is summed so that sums read little.
CREATE TABLE bodies (
    epoch INTEGER NOT NULL, vm INTEGER NOT NULL, generation INTEGER NOT NULL, sequence INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (epoch, vm, generation, sequence)
) STRICT, WITHOUT ROWID;

-- What the records of an epoch charged to a quota's window: the check on what the epoch reports as used.
CREATE TABLE charged (
    bundle TEXT NOT NULL, subject TEXT NOT NULL, quota TEXT NOT NULL, window INTEGER NOT NULL,
    epoch INTEGER NOT NULL, amount INTEGER NOT NULL,
    PRIMARY KEY (bundle, subject, quota, window, epoch)
) STRICT, WITHOUT ROWID;

-- A granted quota as last reported. length_ms above 0: a first-use window.
CREATE TABLE quotas (
    bundle TEXT NOT NULL, subject TEXT NOT NULL, quota TEXT NOT NULL,
    unit TEXT NOT NULL, amount INTEGER NOT NULL, length_ms INTEGER NOT NULL, reported_ms INTEGER NOT NULL,
    PRIMARY KEY (bundle, subject, quota)
) STRICT, WITHOUT ROWID;
CREATE TABLE windows (
    bundle TEXT NOT NULL, subject TEXT NOT NULL, quota TEXT NOT NULL, window INTEGER NOT NULL,
    ends INTEGER NOT NULL,
    PRIMARY KEY (bundle, subject, quota, window)
) STRICT, WITHOUT ROWID;

-- What each epoch may spend of a quota's window, and what it says about that. All cumulative.
CREATE TABLE grants (
    bundle TEXT NOT NULL, subject TEXT NOT NULL, quota TEXT NOT NULL, window INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    granted INTEGER NOT NULL, returned INTEGER NOT NULL, used INTEGER NOT NULL, heard_ms INTEGER NOT NULL,
    PRIMARY KEY (bundle, subject, quota, window, epoch)
) STRICT, WITHOUT ROWID;

-- Who has sent, and how far its sequence was searched for losses.
CREATE TABLE incarnations (
    epoch INTEGER NOT NULL, vm INTEGER NOT NULL, generation INTEGER NOT NULL, bundle TEXT NOT NULL,
    next INTEGER NOT NULL, searched INTEGER NOT NULL, heard_ms INTEGER NOT NULL,
    PRIMARY KEY (epoch, vm, generation)
) STRICT, WITHOUT ROWID;
CREATE TABLE losses (
    epoch INTEGER NOT NULL, vm INTEGER NOT NULL, generation INTEGER NOT NULL,
    first INTEGER NOT NULL, last INTEGER NOT NULL, proven_ms INTEGER NOT NULL,
    PRIMARY KEY (epoch, vm, generation, first)
) STRICT, WITHOUT ROWID;

CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
",
    "
-- What a window was passed on by those before it, and what it passed on itself, in micro-units.
ALTER TABLE windows ADD COLUMN carried INTEGER NOT NULL DEFAULT 0;
ALTER TABLE windows ADD COLUMN passed INTEGER NOT NULL DEFAULT 0;
",
];

/// Brings a file to the newest version. A file from a newer program is refused and left alone.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), Error> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let taken = usize::try_from(version).ok().filter(|&taken| taken <= STEPS.len()).ok_or(Error::Newer(version))?;
    for step in STEPS.iter().skip(taken) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", i64::try_from(STEPS.len()).unwrap_or(i64::MAX))?;
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Error, STEPS, migrate};

    #[test]
    fn a_file_takes_each_step_once_and_a_newer_one_is_refused() {
        let mut file = rusqlite::Connection::open_in_memory().unwrap();
        migrate(&mut file).unwrap();
        migrate(&mut file).unwrap();
        let version: i64 = file.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        assert_eq!(version, STEPS.len() as i64);
        for unknown in [STEPS.len() as i64 + 1, -1] {
            file.pragma_update(None, "user_version", unknown).unwrap();
            assert!(matches!(migrate(&mut file), Err(Error::Newer(found)) if found == unknown));
        }
    }
}
