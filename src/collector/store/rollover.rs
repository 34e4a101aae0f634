//! What is left in a window that has ended, and goes over into the next.
//!
//! It is taken from the old window and given to the new one in the same transaction, as often as somebody reports the
//! new one: what Envoys return later follows. What an Envoy was granted and did not return counts as spent.

use rusqlite::Connection;

use super::Error;
use super::debt::pass_on;
use super::grant::Of;
use super::window::{Kept, Which, find, keep, taken};
use crate::report::wire::QuotaReport;

/// What can be granted of `window`: the limit, and what rolls over into it, without what it has passed on and what it owes.
/// And what it owes and cannot pay.
pub(super) fn amount(
    db: &Connection,
    of: Of<'_>,
    report: &QuotaReport,
    window: u64,
    now_ms: u64,
) -> Result<(u64, u64), Error> {
    let Some(found) = find(db, of, report, Which::At, window)? else { return Ok((report.limit, 0)) };
    let mut here = found;
    // What was left before a later window was opened has gone over into that one, perhaps past this one. An Envoy whose
    // clock is ahead does not end a window for the others: one that it has opened is not there before it begins.
    let later = find(db, of, report, Which::After, window)?.filter(|later| later.window <= now_ms);
    let newest = report.rollover > 0 && later.is_none() && window <= now_ms;
    let before = if newest { find(db, of, report, Which::Before, window)? } else { None };
    if let Some(mut before) = before.filter(|before| before.ends <= now_ms) {
        let passed = before.passed;
        pass(db, of, report, &mut before, &mut here)?;
        if before.passed != passed {
            keep(db, of, report, &before)?;
        }
    }
    here.allow(report, now_ms);
    if here != found {
        keep(db, of, report, &here)?;
    }
    Ok((here.amount(report), here.short(report)))
}

/// A window is opened for the first time. When a later one has begun already, this one was counted as skipped: all that it
/// had has gone over into that one, and what others had passed on to it has gone through this one. One that is opened when
/// it is over has what has rolled over into it, before anybody asks what it owes.
pub(super) fn opened(db: &Connection, of: Of<'_>, report: &QuotaReport, window: u64, now_ms: u64) -> Result<(), Error> {
    let Some(mut here) = find(db, of, report, Which::At, window)? else { return Ok(()) };
    let before = find(db, of, report, Which::Before, window)?;
    if let Some(before) = &before {
        here.unused = skipped(report, before, &here);
    }
    if let Some(mut next) = find(db, of, report, Which::After, window)? {
        next.unused = skipped(report, &here, &next);
        keep(db, of, report, &next)?;
        if report.rollover > 0 && next.window <= now_ms {
            here.carried = before.map_or(0, |before| before.passed.min(report.rollover));
            here.passed = here.whole(report);
        }
    }
    keep(db, of, report, &here)?;
    amount(db, of, report, window, now_ms)?;
    pass_on(db, of, report, before.map_or(window, |before| before.window))
}

/// A window is about to be opened: one behind it that has begun already gets what has rolled over into it, as if this one
/// had never been.
pub(super) fn opening(
    db: &Connection,
    of: Of<'_>,
    report: &QuotaReport,
    window: u64,
    now_ms: u64,
) -> Result<(), Error> {
    let later = find(db, of, report, Which::After, window)?.filter(|later| later.window <= now_ms);
    match later.filter(|_| report.rollover > 0) {
        Some(later) => amount(db, of, report, later.window, now_ms).map(drop),
        None => Ok(()),
    }
}

/// What the windows had that were skipped between two.
fn skipped(report: &QuotaReport, before: &Kept, here: &Kept) -> u64 {
    let between = here.window.saturating_sub(before.ends);
    let half = report.every_ms.checked_div(2).unwrap_or(0);
    let skipped = between.saturating_add(half).checked_div(report.every_ms).unwrap_or(0);
    report.limit.saturating_mul(skipped)
}

fn pass(db: &Connection, of: Of<'_>, report: &QuotaReport, before: &mut Kept, here: &mut Kept) -> Result<(), Error> {
    let (taken, used) = taken(db, of, report, before.window)?;
    // A limit that was raised since adds nothing to what is left.
    let had = before.whole(report).min(before.allowed);
    let left = had.saturating_sub(before.passed).saturating_sub(before.owed).saturating_sub(taken);
    let more = left.min(report.rollover.saturating_sub(before.passed));
    if report.length_ms > 0 && used == 0 {
        // A first-use window that came to nothing adds nothing of its own.
        let own = before.carried.saturating_sub(before.passed);
        before.passed = before.passed.saturating_add(more.min(own));
    } else {
        before.passed = before.passed.saturating_add(more);
    }
    let unused = here.unused.saturating_sub(before.debt(report, used));
    here.carried = here.carried.max(before.passed.saturating_add(unused).min(report.rollover));
    Ok(())
}

#[cfg(test)]
mod tests;
