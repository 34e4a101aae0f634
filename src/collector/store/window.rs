//! The windows of a quota, as they are kept: what goes over from one into the next, and what it owes.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::grant::{Of, share};
use super::{Error, quantity, stored};
use crate::report::wire::QuotaReport;

/// A window of a quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    /// Its start.
    pub window: u64,
    /// Its end.
    pub ends: u64,
    /// What those before it passed on to it.
    pub carried: u64,
    /// What it passed on, and has no more.
    pub passed: u64,
    /// The most that it was said to have while it ran, with what was carried; 0: nobody has said yet.
    pub allowed: u64,
    /// What it pays for what those before it were charged beyond theirs.
    pub owed: u64,
    /// What those had that were skipped between it and the one before.
    pub unused: u64,
    /// It makes no debt.
    pub waived: bool,
}

/// Which window, as seen from a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// The one that begins then.
    At,
    /// The last before it.
    Before,
    /// The first after it.
    After,
}

impl Kept {
    /// What it has in all, by this report.
    pub(super) fn whole(&self, report: &QuotaReport) -> u64 {
        report.limit.saturating_add(self.carried.min(report.rollover))
    }

    /// What can be granted of it, by this report.
    pub(super) fn amount(&self, report: &QuotaReport) -> u64 {
        self.whole(report).saturating_sub(self.passed.saturating_add(self.owed))
    }
}

const COLUMNS: &str = "window, ends, carried, passed, allowed, owed, unused, waived";

fn kept(row: &Row<'_>) -> rusqlite::Result<Kept> {
    Ok(Kept {
        window: quantity(row.get(0)?),
        ends: quantity(row.get(1)?),
        carried: quantity(row.get(2)?),
        passed: quantity(row.get(3)?),
        allowed: quantity(row.get(4)?),
        owed: quantity(row.get(5)?),
        unused: quantity(row.get(6)?),
        waived: row.get(7)?,
    })
}

/// Notes that a window exists, and answers whether that is new.
pub(super) fn insert(db: &Connection, of: Of<'_>, report: &QuotaReport, window: u64, ends: u64) -> Result<bool, Error> {
    let new = db
        .prepare_cached(
            "INSERT OR IGNORE INTO windows (bundle, subject, quota, window, ends, allowed) VALUES (?, ?, ?, ?, ?, 0)",
        )?
        .execute(params![of.bundle, of.subject, report.quota, stored(window), stored(ends)])?;
    Ok(new > 0)
}

/// The window at, before or after `moment`.
pub(super) fn find(
    db: &Connection,
    of: Of<'_>,
    report: &QuotaReport,
    which: Which,
    moment: u64,
) -> Result<Option<Kept>, Error> {
    let (compared, order) = match which {
        Which::At => ("=", "DESC"),
        Which::Before => ("<", "DESC"),
        Which::After => (">", "ASC"),
    };
    let found = db
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM windows
             WHERE bundle = ? AND subject = ? AND quota = ? AND window {compared} ? ORDER BY window {order} LIMIT 1"
        ))?
        .query_row(params![of.bundle, of.subject, report.quota, stored(moment)], kept)
        .optional()?;
    Ok(found)
}

/// All windows from the one that began at `window`, in their order.
pub(super) fn since(db: &Connection, of: Of<'_>, report: &QuotaReport, window: u64) -> Result<Vec<Kept>, Error> {
    let mut statement = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM windows
         WHERE bundle = ? AND subject = ? AND quota = ? AND window >= ? ORDER BY window"
    ))?;
    let found = statement.query_map(params![of.bundle, of.subject, report.quota, stored(window)], kept)?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// Writes down what is known of a window.
pub(super) fn keep(db: &Connection, of: Of<'_>, report: &QuotaReport, kept: &Kept) -> Result<(), Error> {
    db.prepare_cached(
        "UPDATE windows SET carried = ?, passed = ?, allowed = ?, owed = ?, unused = ?, waived = ?
         WHERE bundle = ? AND subject = ? AND quota = ? AND window = ?",
    )?
    .execute(params![
        stored(kept.carried),
        stored(kept.passed),
        stored(kept.allowed),
        stored(kept.owed),
        stored(kept.unused),
        kept.waived,
        of.bundle,
        of.subject,
        report.quota,
        stored(kept.window)
    ])?;
    Ok(())
}

/// What all epochs have taken of a window, and what they say they used.
pub(super) fn taken(db: &Connection, of: Of<'_>, report: &QuotaReport, window: u64) -> Result<(u64, u64), Error> {
    let mut statement = db.prepare_cached(
        "SELECT granted, returned, used FROM grants WHERE bundle = ? AND subject = ? AND quota = ? AND window = ?",
    )?;
    let shares = statement.query_map(params![of.bundle, of.subject, report.quota, stored(window)], share)?;
    Ok(shares.into_iter().try_fold((0_u64, 0_u64), |(taken, used), one| {
        one.map(|one| (taken.saturating_add(one.taken()), used.saturating_add(one.used)))
    })?)
}
