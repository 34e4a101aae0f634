//! What a window was charged beyond what it had: a debt, which the next ones pay.
//!
//! It is reckoned anew, window by window, whenever somebody reports what was used of one: so reports may come late, twice
//! or in any order. Only what was used is owed, and not what was granted and never heard of again.

use rusqlite::Connection;

use super::Error;
use super::grant::Of;
use super::window::{Kept, Which, find, keep, since, taken};
use crate::report::wire::QuotaReport;

impl Kept {
    /// Notes what is said that it has. A limit that is raised later does not reach a window that is over.
    pub(super) fn allow(&mut self, report: &QuotaReport, now_ms: u64) {
        if now_ms < self.ends || self.allowed == 0 {
            self.allowed = self.allowed.max(self.whole(report));
        }
    }

    /// What it leaves to those after it, when so much of it is `used`.
    pub(super) fn debt(&self, report: &QuotaReport, used: u64) -> u64 {
        if stands_alone(report) {
            return 0;
        }
        if report.length_ms > 0 && used == 0 {
            // A first-use window that came to nothing pays nothing.
            return self.owed;
        }
        let used = if self.waived { 0 } else { used };
        used.saturating_add(self.owed).saturating_add(self.passed).saturating_sub(self.allowed)
    }

    /// What was left before it, in windows that were skipped, and did not go over into it.
    fn spare(&self, before: &Self) -> u64 {
        self.unused.saturating_add(before.passed).saturating_sub(self.carried)
    }

    /// What it owes and cannot pay with all that it has.
    pub(super) fn short(&self, report: &QuotaReport) -> u64 {
        self.owed.saturating_sub(self.whole(report).saturating_sub(self.passed))
    }
}

/// A term or a lifetime: there is no window after it.
fn stands_alone(report: &QuotaReport) -> bool {
    report.every_ms == 0 && report.length_ms == 0
}

/// Somebody has said what was used of a window; whether that is `more` than was said before. If nothing is new, nothing is
/// reckoned: an Envoy without calls repeats itself with every sync, and there may be a window a minute.
pub(super) fn reported(
    db: &Connection,
    of: Of<'_>,
    report: &QuotaReport,
    more: bool,
    now_ms: u64,
) -> Result<(), Error> {
    let found = find(db, of, report, Which::At, report.window)?.filter(|_| !stands_alone(report));
    let Some(known) = found else { return Ok(()) };
    let mut here = Kept { waived: known.waived || report.waived, ..known };
    here.allow(report, now_ms);
    if here != known {
        keep(db, of, report, &here)?;
    }
    if more || here != known { pass_on(db, of, report, here.window) } else { Ok(()) }
}

/// Reckons what all windows after the one at `window` owe.
pub(super) fn pass_on(db: &Connection, of: Of<'_>, report: &QuotaReport, window: u64) -> Result<(), Error> {
    let mut last: Option<Kept> = None;
    for mut here in since(db, of, report, window)? {
        if let Some(before) = last {
            let (_, used) = taken(db, of, report, before.window)?;
            let owed = before.debt(report, used).saturating_sub(here.spare(&before));
            if owed != here.owed {
                here.owed = owed;
                keep(db, of, report, &here)?;
            }
        }
        last = Some(here);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
