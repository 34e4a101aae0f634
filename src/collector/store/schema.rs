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
    "
-- What a window is charged beyond the most that it was said to have is a debt, which the next ones pay. Of a window that
-- was there before this step nobody knows what it had: it makes none.
ALTER TABLE windows ADD COLUMN allowed INTEGER NOT NULL DEFAULT 9223372036854775807;
-- What it pays for those before it, and what those had that were skipped between it and the last.
ALTER TABLE windows ADD COLUMN owed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE windows ADD COLUMN unused INTEGER NOT NULL DEFAULT 0;
-- Calls were let pass in it that would have been refused: it makes no debt.
ALTER TABLE windows ADD COLUMN waived INTEGER NOT NULL DEFAULT 0;
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
    use crate::collector::store::grant::{Of, report};
    use crate::report::wire::QuotaReport;

    /// Nobody knows what those windows had when they were charged.
    #[test]
    fn windows_of_an_older_file_leave_no_debt() {
        let mut file = rusqlite::Connection::open_in_memory().unwrap();
        file.execute_batch(&STEPS[..2].concat()).unwrap();
        file.pragma_update(None, "user_version", 2).unwrap();
        file.execute_batch(
            "INSERT INTO windows (bundle, subject, quota, window, ends) VALUES ('b', 's', 'q', 1000, 2000);
             INSERT INTO grants VALUES ('b', 's', 'q', 1000, 7, 100, 0, 900, 0);",
        )
        .unwrap();
        migrate(&mut file).unwrap();
        let of = Of { bundle: "b", subject: "s", epoch: 7 };
        let report = |window: u64, used, want| {
            let quota = "q".to_owned();
            let report = QuotaReport { quota, limit: 100, window, used, want, every_ms: 1_000, ..Default::default() };
            report_at(&file, of, &QuotaReport { ends: window + 1_000, ..report }, window)
        };
        assert_eq!(report(1_000, 950, 0).left, 0);
        assert_eq!(report(2_000, 150, 1_000).granted, 100);
        assert_eq!(report(3_000, 0, 1_000).granted, 50);
    }

    fn report_at(
        file: &rusqlite::Connection,
        of: Of<'_>,
        said: &QuotaReport,
        now_ms: u64,
    ) -> crate::report::wire::Grant {
        report(file, of, said, now_ms).unwrap()
    }

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
