//! What is left in a window that has ended, and goes over into the next.
//!
//! It is taken from the old window and given to the new one in the same transaction, as often as somebody reports the
//! new one: what Envoys return later follows. What an Envoy was granted and did not return counts as spent.

use rusqlite::{Connection, OptionalExtension, params};

use super::grant::{Of, share};
use super::{Error, quantity, stored};
use crate::report::wire::QuotaReport;

/// A window of a quota, as it is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Kept {
    window: u64,
    ends: u64,
    carried: u64,
    passed: u64,
}

impl Kept {
    /// What it has.
    fn amount(self, report: &QuotaReport) -> u64 {
        report.limit.saturating_add(self.carried.min(report.rollover)).saturating_sub(self.passed)
    }
}

/// What `window` has: the limit, and what rolls over into it, and without what it has passed on.
pub(super) fn amount(
    db: &Connection,
    of: Of<'_>,
    report: &QuotaReport,
    window: u64,
    now_ms: u64,
) -> Result<u64, Error> {
    let Some(mut here) = find(db, of, report, window, "window = ?")? else { return Ok(report.limit) };
    // What was left before a later window was opened has gone over into that one, perhaps past this one.
    let newest = report.rollover > 0 && find(db, of, report, window, "window > ?")?.is_none();
    let before = if newest { find(db, of, report, window, "window < ?")? } else { None };
    // An Envoy whose clock is ahead does not end a window for the others.
    if let Some(mut before) = before.filter(|before| before.ends <= now_ms) {
        let (passed, carried) = (before.passed, here.carried);
        pass(db, of, report, &mut before, &mut here)?;
        if (before.passed, here.carried) != (passed, carried) {
            keep(db, of, report, before)?;
            keep(db, of, report, here)?;
        }
    }
    Ok(here.amount(report))
}

/// A window is opened for the first time. When a later one is there already, this one was counted as skipped, and all
/// that it had has gone over.
pub(super) fn opened(db: &Connection, of: Of<'_>, report: &QuotaReport) -> Result<(), Error> {
    let late = report.rollover > 0 && find(db, of, report, report.window, "window > ?")?.is_some();
    match find(db, of, report, report.window, "window = ?")?.filter(|_| late) {
        Some(here) => keep(db, of, report, Kept { passed: report.limit, ..here }),
        None => Ok(()),
    }
}

fn pass(db: &Connection, of: Of<'_>, report: &QuotaReport, before: &mut Kept, here: &mut Kept) -> Result<(), Error> {
    let (taken, used) = taken(db, of, report, before.window)?;
    let left = before.amount(report).saturating_sub(taken);
    let more = left.min(report.rollover.saturating_sub(before.passed));
    if report.length_ms > 0 && used == 0 {
        // A first-use window that came to nothing adds nothing of its own.
        let own = before.carried.saturating_sub(before.passed);
        before.passed = before.passed.saturating_add(more.min(own));
    } else {
        before.passed = before.passed.saturating_add(more);
    }
    let between = here.window.saturating_sub(before.ends);
    let half = report.every_ms.checked_div(2).unwrap_or(0);
    let skipped = between.saturating_add(half).checked_div(report.every_ms).unwrap_or(0);
    let unused = report.limit.saturating_mul(skipped);
    here.carried = here.carried.max(before.passed.saturating_add(unused).min(report.rollover));
    Ok(())
}

fn find(db: &Connection, of: Of<'_>, report: &QuotaReport, window: u64, which: &str) -> Result<Option<Kept>, Error> {
    let found = db
        .prepare_cached(&format!(
            "SELECT window, ends, carried, passed FROM windows
             WHERE bundle = ? AND subject = ? AND quota = ? AND {which} ORDER BY window DESC LIMIT 1"
        ))?
        .query_row(params![of.bundle, of.subject, report.quota, stored(window)], |row| {
            Ok(Kept {
                window: quantity(row.get(0)?),
                ends: quantity(row.get(1)?),
                carried: quantity(row.get(2)?),
                passed: quantity(row.get(3)?),
            })
        })
        .optional()?;
    Ok(found)
}

fn keep(db: &Connection, of: Of<'_>, report: &QuotaReport, kept: Kept) -> Result<(), Error> {
    db.prepare_cached(
        "UPDATE windows SET carried = ?, passed = ? WHERE bundle = ? AND subject = ? AND quota = ? AND window = ?",
    )?
    .execute(params![
        stored(kept.carried),
        stored(kept.passed),
        of.bundle,
        of.subject,
        report.quota,
        stored(kept.window)
    ])?;
    Ok(())
}

/// What all epochs have taken of a window, and what they say they used.
fn taken(db: &Connection, of: Of<'_>, report: &QuotaReport, window: u64) -> Result<(u64, u64), Error> {
    let mut statement = db.prepare_cached(
        "SELECT granted, returned, used FROM grants WHERE bundle = ? AND subject = ? AND quota = ? AND window = ?",
    )?;
    let shares = statement.query_map(params![of.bundle, of.subject, report.quota, stored(window)], share)?;
    Ok(shares.into_iter().try_fold((0_u64, 0_u64), |(taken, used), one| {
        one.map(|one| (taken.saturating_add(one.taken()), used.saturating_add(one.used)))
    })?)
}

#[cfg(test)]
mod tests;
