//! What each epoch may spend of a quota's window.
//!
//! All figures of an (account, quota, window, epoch) are cumulative and merged by maximum, so that a report or an
//! answer may be repeated, overtaken or lost. What an epoch has been granted and not given back counts as spent
//! until the window ends, heard from or not: an Envoy that died may have spent it.

use rusqlite::{Connection, OptionalExtension, params};

use super::{Error, debt, quantity, rollover, stored, window};
use crate::quota::MICRO;
use crate::report::wire::{Grant, QuotaReport};

/// A grant that is larger than what was wanted takes this part of what is left: large while there is plenty, and
/// ever smaller towards the end, where another Envoy may need it more.
const PART_OF_LEFT: u64 = 8;

/// What one epoch may spend of a window, and what it says about that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    /// Granted to it.
    pub granted: u64,
    /// Given back by it.
    pub returned: u64,
    /// Charged by it. Above `granted − returned` it is debt, and counts too.
    pub used: u64,
}

impl Share {
    /// What it may still spend or has spent by grant.
    pub(super) fn entitled(&self) -> u64 {
        self.granted.saturating_sub(self.returned)
    }

    /// What nobody else can have.
    pub(super) fn taken(&self) -> u64 {
        self.entitled().max(self.used)
    }

    /// Raises the grant so that it reaches `stated + want` where the limit allows it, `others` being what the other
    /// epochs have taken.
    ///
    /// When the ledger has granted more than the epoch stated (an answer was lost, or two of its VMs asked at once),
    /// that is the answer, and only what is still missing is added. Only a want that is new gets a whole slice.
    fn raise(&mut self, limit: u64, others: u64, stated: u64, want: u64) {
        if want == 0 {
            return;
        }
        let missing = stated.saturating_add(want).saturating_sub(self.granted);
        let left = limit.saturating_sub(others).saturating_sub(self.taken());
        let slice = if self.granted > stated { 0 } else { (left / PART_OF_LEFT).div_ceil(MICRO).saturating_mul(MICRO) };
        let room = limit.saturating_sub(others).saturating_sub(self.entitled());
        self.granted = self.granted.saturating_add(room.min(slice.max(missing)));
    }
}

/// Which quota of which account, and who reports.
#[derive(Clone, Copy, Debug)]
pub(super) struct Of<'a> {
    /// Bundle name.
    pub bundle: &'a str,
    /// The account.
    pub subject: &'a str,
    /// Process epoch.
    pub epoch: u64,
}

/// Merges a report and answers it.
pub(super) fn report(db: &Connection, of: Of<'_>, report: &QuotaReport, now_ms: u64) -> Result<Grant, Error> {
    declare(db, of, report, now_ms)?;
    let told = report.window > 0 || report.length_ms == 0;
    let mut more = false;
    if told {
        let mut share = load(db, of, &report.quota, report.window)?;
        more = report.used > share.used;
        share.used = share.used.max(report.used);
        share.returned = share.returned.max(report.returned);
        // More than was granted here: this ledger was restored from an older copy. What was said stands.
        share.granted = share.granted.max(report.granted);
        save(db, of, &report.quota, report.window, share, now_ms)?;
    }
    let window = if report.length_ms == 0 {
        match overlapping(db, of, report, now_ms)? {
            Some(running) => Some(running),
            None => {
                open(db, of, report, (report.window, report.ends), now_ms)?;
                Some((report.window, report.ends))
            }
        }
    } else {
        first_use(db, of, report, now_ms)?
    };
    let Some((window, ends)) = window else {
        let (subject, quota) = (of.subject.to_owned(), report.quota.clone());
        return Ok(Grant { subject, quota, left: report.limit, ..Grant::default() });
    };
    if told {
        debt::reported(db, of, report, more, now_ms)?;
    }
    let (amount, owed) = rollover::amount(db, of, report, window, now_ms)?;
    let mut share = load(db, of, &report.quota, window)?;
    let others = others(db, of, &report.quota, window)?;
    let before = share.granted;
    share.raise(amount, others, if window == report.window { report.granted } else { 0 }, report.want);
    if share.granted != before {
        save(db, of, &report.quota, window, share, now_ms)?;
    }
    let left = amount.saturating_sub(others).saturating_sub(share.taken());
    Ok(Grant {
        subject: of.subject.to_owned(),
        quota: report.quota.clone(),
        window,
        ends,
        granted: share.granted,
        left,
        owed,
    })
}

/// The first-use window that is open now, opened by this report if it wants something: (start, end).
///
/// All epochs share it. One of which nobody has used anything, and of which nobody has anything left, was asked for by
/// calls that came to nothing: the next that wants something opens another in its place. A window that only the report
/// knows is adopted while it lasts: the ledger has lost it, and a second one beside it would be a second fund.
fn first_use(db: &Connection, of: Of<'_>, report: &QuotaReport, now_ms: u64) -> Result<Option<(u64, u64)>, Error> {
    let latest = db
        .prepare_cached(
            "SELECT window, ends FROM windows WHERE bundle = ? AND subject = ? AND quota = ? ORDER BY window DESC LIMIT 1",
        )?
        .query_row(params![of.bundle, of.subject, report.quota], |row| {
            Ok((quantity(row.get(0)?), quantity(row.get(1)?)))
        })
        .optional()?;
    let mut after = latest.map_or(0, |(_, ends)| ends);
    if let Some((window, _)) = latest.filter(|_| now_ms < after) {
        if now_ms <= window || !is_unused(db, of, &report.quota, window)? {
            return Ok(latest);
        }
        if report.want == 0 {
            return Ok(latest.filter(|_| report.window == window));
        }
        close(db, of, &report.quota, window, now_ms)?;
        after = now_ms;
    }
    let lasts = report.window.saturating_add(report.length_ms);
    let opened = match report.window {
        known if known > 0 && (after..=now_ms).contains(&known) && now_ms < lasts => known,
        _ if report.want > 0 => now_ms,
        _ => return Ok(None),
    };
    let ends = opened.saturating_add(report.length_ms);
    open(db, of, report, (opened, ends), now_ms)?;
    Ok(Some((opened, ends)))
}

/// The window that runs, when a report that has nothing yet means another one that overlaps it: the policy has changed
/// its idea of when the window begins, and a second one beside the first would be a second fund.
fn overlapping(db: &Connection, of: Of<'_>, report: &QuotaReport, now_ms: u64) -> Result<Option<(u64, u64)>, Error> {
    if report.granted > 0 || report.used > 0 {
        return Ok(None);
    }
    let running = db
        .prepare_cached(
            "SELECT window, ends FROM windows WHERE bundle = ?1 AND subject = ?2 AND quota = ?3
               AND window <= ?4 AND ?4 < ends AND window < ?6 AND ?5 < ends
             ORDER BY window = ?5 DESC, window DESC LIMIT 1",
        )?
        .query_row(
            params![of.bundle, of.subject, report.quota, stored(now_ms), stored(report.window), stored(report.ends)],
            |row| Ok((quantity(row.get(0)?), quantity(row.get(1)?))),
        )
        .optional()?;
    Ok(running)
}

/// Notes that the window exists. Its first end stands, whatever the policy says later.
fn open(
    db: &Connection,
    of: Of<'_>,
    report: &QuotaReport,
    (opens, ends): (u64, u64),
    now_ms: u64,
) -> Result<(), Error> {
    if window::find(db, of, report, window::Which::At, opens)?.is_some() {
        return Ok(());
    }
    rollover::opening(db, of, report, opens, now_ms)?;
    if window::insert(db, of, report, opens, ends)? {
        rollover::opened(db, of, report, opens, now_ms)?;
    }
    Ok(())
}

/// Whether nobody has used anything of a window, nor can.
fn is_unused(db: &Connection, of: Of<'_>, quota: &str, window: u64) -> Result<bool, Error> {
    let used = db
        .prepare_cached(
            "SELECT 1 FROM grants WHERE bundle = ? AND subject = ? AND quota = ? AND window = ?
               AND (used > 0 OR granted > returned) LIMIT 1",
        )?
        .query_row(params![of.bundle, of.subject, quota, stored(window)], |_| Ok(()))
        .optional()?;
    Ok(used.is_none())
}

/// Ends a window before its time.
fn close(db: &Connection, of: Of<'_>, quota: &str, window: u64, ends: u64) -> Result<(), Error> {
    db.prepare_cached("UPDATE windows SET ends = ? WHERE bundle = ? AND subject = ? AND quota = ? AND window = ?")?
        .execute(params![stored(ends), of.bundle, of.subject, quota, stored(window)])?;
    Ok(())
}

fn declare(db: &Connection, of: Of<'_>, report: &QuotaReport, now_ms: u64) -> Result<(), Error> {
    db.prepare_cached(
        "INSERT INTO quotas (bundle, subject, quota, unit, amount, length_ms, reported_ms) VALUES (?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET unit = excluded.unit, amount = excluded.amount, length_ms = excluded.length_ms,
             reported_ms = excluded.reported_ms",
    )?
    .execute(params![
        of.bundle,
        of.subject,
        report.quota,
        report.unit,
        stored(report.limit),
        stored(report.length_ms),
        stored(now_ms),
    ])?;
    Ok(())
}

fn load(db: &Connection, of: Of<'_>, quota: &str, window: u64) -> Result<Share, Error> {
    let found = db
        .prepare_cached(
            "SELECT granted, returned, used FROM grants
             WHERE bundle = ? AND subject = ? AND quota = ? AND window = ? AND epoch = ?",
        )?
        .query_row(params![of.bundle, of.subject, quota, stored(window), of.epoch.cast_signed()], share)
        .optional()?;
    Ok(found.unwrap_or_default())
}

pub(super) fn share(row: &rusqlite::Row<'_>) -> rusqlite::Result<Share> {
    Ok(Share { granted: quantity(row.get(0)?), returned: quantity(row.get(1)?), used: quantity(row.get(2)?) })
}

fn save(db: &Connection, of: Of<'_>, quota: &str, window: u64, share: Share, now_ms: u64) -> Result<(), Error> {
    db.prepare_cached(
        "INSERT OR REPLACE INTO grants (bundle, subject, quota, window, epoch, granted, returned, used, heard_ms)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        of.bundle,
        of.subject,
        quota,
        stored(window),
        of.epoch.cast_signed(),
        stored(share.granted),
        stored(share.returned),
        stored(share.used),
        stored(now_ms),
    ])?;
    Ok(())
}

/// What all other epochs have taken of the window.
fn others(db: &Connection, of: Of<'_>, quota: &str, window: u64) -> Result<u64, Error> {
    let mut statement = db.prepare_cached(
        "SELECT granted, returned, used FROM grants
         WHERE bundle = ? AND subject = ? AND quota = ? AND window = ? AND epoch <> ?",
    )?;
    let shares =
        statement.query_map(params![of.bundle, of.subject, quota, stored(window), of.epoch.cast_signed()], share)?;
    Ok(shares.into_iter().try_fold(0u64, |sum, one| one.map(|one| sum.saturating_add(one.taken())))?)
}

#[cfg(test)]
mod tests;
