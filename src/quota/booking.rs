//! What operations do to an account: holding, taking back, settling. Pure integer arithmetic.
//!
//! A window admits while `used + held + amount ≤ granted − returned`. A bucket takes the amount when it is held and
//! gives back at settle what was too much, except what has drained since: that has been refilled already, and giving
//! it back again would lift the bucket above what its rate allows. A concurrent quota only counts what runs.

use super::account::{Account, Entry, Kind, Period};
use super::slot::{HeldLine, Rule};
use super::window::{Rate, Span, opening};
use super::{Line, Quota, QuotaId, Short, Standing, Window};
use crate::now::Now;

/// Why a line does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lack {
    NeedsGrant { missing: u64 },
    Exhausted(Standing),
    Busy(Standing, Option<u64>),
}

impl Lack {
    pub(super) fn of(self, subject: &str, quota: QuotaId) -> Short {
        let subject = subject.to_owned();
        match self {
            Self::NeedsGrant { missing } => Short::NeedsGrant { subject, quota, missing },
            Self::Exhausted(standing) => Short::Exhausted { subject, quota, standing },
            Self::Busy(standing, retry_ms) => Short::Busy { subject, quota, standing, retry_ms },
        }
    }
}

/// The window that an amount of a windowed quota falls into now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The current one.
    Current,
    /// A new one.
    New(Span),
    /// The ledger must say.
    Unknown,
}

/// Where `quota` stands in time. Time that steps back stays in the current window, and a window keeps the end that
/// it was opened with, so that an update of the policy opens no fresh one early.
fn place(entry: Option<&Entry>, quota: &Quota, now: Now) -> Place {
    let current = entry.map_or_else(Period::default, |entry| entry.current);
    let idle = current.used == 0 && current.held == 0;
    let closed = match (&quota.window, quota.granted) {
        (Window::FirstUse { .. }, false) => idle,
        (Window::FirstUse { .. }, true) => entry.is_some_and(|entry| entry.closed),
        _ => false,
    };
    if current.start != 0 && now.wall_ms < current.ends && !closed {
        return Place::Current;
    }
    if quota.granted {
        return Place::Unknown;
    }
    match opening(&quota.window, now.wall_ms) {
        Some(span) if span.start > current.start => {
            Place::New(Span { start: if idle { span.start } else { span.start.max(current.ends) }, ..span })
        }
        _ => Place::Current,
    }
}

impl Account {
    /// Holds `line`: in the window that it falls into now, or for an extension in `pinned`, the window that its
    /// exchange was admitted in. Answers that window. An account that answers `Err` must not be written.
    pub(super) fn hold(&mut self, line: &Line, pinned: Option<u64>, now: Now) -> Result<u64, Lack> {
        let quota = &line.quota;
        match quota.window {
            Window::Bucket { period_ms, burst } => {
                let rate = Rate { limit: quota.limit, period_ms };
                self.hold_bucket(line, rate, burst, now).map(|()| pinned.unwrap_or(now.wall_ms))
            }
            Window::Concurrent => self.hold_concurrent(line).map(|()| 0),
            _ => self.hold_window(line, pinned, now),
        }
    }

    fn hold_window(&mut self, line: &Line, pinned: Option<u64>, now: Now) -> Result<u64, Lack> {
        let Line { quota, amount, over } = line;
        if pinned.is_none() {
            match place(self.entry(quota.id, Kind::Windowed), quota, now) {
                Place::Current => {}
                Place::Unknown => return Err(Lack::NeedsGrant { missing: *amount }),
                Place::New(span) => {
                    if let Some(entry) = self.entry_of(quota.id, Kind::Windowed) {
                        entry.advance(span.start, span.ends);
                    }
                }
            }
        }
        let gone = Lack::Exhausted(self.standing(quota, now).unwrap_or_default());
        let Some(entry) = self.entry_of(quota.id, Kind::Windowed) else { return Err(gone) };
        let ledger_left = entry.ledger_left(quota);
        let is_current = pinned.is_none_or(|pin| pin == entry.current.start);
        let window = pinned.unwrap_or(entry.current.start);
        // An exchange that outlived two windows cannot be extended where it was admitted.
        let Some(period) = entry.kept(window) else { return Err(gone) };
        let allowed = allowance(quota, period).saturating_add(*over);
        let wanted = period.used.checked_add(period.held).and_then(|sum| sum.checked_add(*amount));
        let missing = wanted.map_or(u64::MAX, |wanted| wanted.saturating_sub(allowed));
        let ignored = super::fault::seeded(super::fault::Fault::AdmissionIgnoresHeld);
        if missing == 0 || ignored && period.used < allowed {
            period.held = period.held.saturating_add(*amount);
            return Ok(window);
        }
        let standing = Standing::of_period(quota, period, ledger_left);
        if quota.granted && ledger_left > 0 && is_current {
            Err(Lack::NeedsGrant { missing })
        } else if period.used.saturating_add(*amount) > allowed {
            Err(Lack::Exhausted(standing))
        } else {
            Err(Lack::Busy(standing, None))
        }
    }

    fn hold_bucket(&mut self, line: &Line, rate: Rate, burst: u64, now: Now) -> Result<(), Lack> {
        let most = burst.saturating_add(line.over);
        let standing = self.standing(&line.quota, now).unwrap_or_default();
        let Some(entry) = self.entry_of(line.quota.id, Kind::Bucket) else { return Err(Lack::Exhausted(standing)) };
        entry.drain(rate, now.wall_ms);
        let level = &mut entry.current;
        let remainder = level.ends;
        let missing = match level.used.checked_add(line.amount) {
            Some(wanted) if wanted <= most => {
                level.used = wanted;
                return Ok(());
            }
            Some(wanted) => wanted.saturating_sub(most),
            None => u64::MAX,
        };
        // More than a full bucket never fits, however long one waits.
        if line.amount > most {
            Err(Lack::Exhausted(standing))
        } else {
            Err(Lack::Busy(standing, rate.time_for(missing, remainder)))
        }
    }

    fn hold_concurrent(&mut self, line: &Line) -> Result<(), Lack> {
        let standing = self.standing(&line.quota, Now::default()).unwrap_or_default();
        let entry = self.entry_of(line.quota.id, Kind::Concurrent);
        let Some(level) = entry.map(|entry| &mut entry.current) else { return Err(Lack::Busy(standing, None)) };
        match level.held.checked_add(line.amount) {
            Some(held) if held <= line.quota.limit.saturating_add(line.over) => {
                level.held = held;
                Ok(())
            }
            _ => Err(Lack::Busy(standing, None)),
        }
    }

    /// Takes back what `line` holds, as if it had never been held.
    pub(super) fn undo(&mut self, line: &HeldLine, wall_ms: u64) {
        let Some(entry) = self.entry_mut(line.quota, line.rule.kind()) else { return };
        match line.rule {
            Rule::Calendar | Rule::FirstUse { .. } => {
                if let Some(period) = entry.kept(line.window) {
                    release(&mut period.held, line.amount);
                }
            }
            Rule::Bucket { limit, period_ms } => entry.true_up(Rate { limit, period_ms }, line, 0, wall_ms),
            Rule::Concurrent => release(&mut entry.current.held, line.amount),
        }
    }

    /// Replaces what `line` holds by what it used: in the window it was admitted in while that is kept, else as a debt
    /// of the current one.
    pub(super) fn settle(&mut self, line: &HeldLine, wall_ms: u64) {
        let Some(entry) = self.entry_of(line.quota, line.rule.kind()) else { return };
        match line.rule {
            Rule::Calendar | Rule::FirstUse { .. } => entry.settle_window(line),
            Rule::Bucket { limit, period_ms } => entry.true_up(Rate { limit, period_ms }, line, line.used, wall_ms),
            Rule::Concurrent => release(&mut entry.current.held, line.amount),
        }
    }

    /// How `quota` stands; `None` when only the ledger can say.
    pub fn standing(&self, quota: &Quota, now: Now) -> Option<Standing> {
        let entry = self.entry(quota.id, Kind::of(&quota.window));
        Standing::of(entry, quota, now)
    }
}

/// Takes `amount` out of what is held. Less than that cannot be there; if it is, a search or a law says so.
fn release(held: &mut u64, amount: u64) {
    #[cfg(test)]
    if *held < amount {
        super::fault::note_underflow();
    }
    *held = held.saturating_sub(amount);
}

/// What a window may spend.
fn allowance(quota: &Quota, period: &Period) -> u64 {
    if quota.granted { period.granted.saturating_sub(period.returned) } else { quota.limit }
}

impl Standing {
    /// How a quota stands that nobody ever used; `None` when only the ledger can say.
    pub fn unused(quota: &Quota, now: Now) -> Option<Self> {
        Self::of(None, quota, now)
    }

    fn of_period(quota: &Quota, period: &Period, ledger_left: u64) -> Self {
        Self {
            window: period.start,
            granted: allowance(quota, period),
            used: period.used,
            held: period.held,
            resets_ms: period.ends,
            ledger_left,
        }
    }

    fn of(entry: Option<&Entry>, quota: &Quota, now: Now) -> Option<Self> {
        let current = entry.map_or_else(Period::default, |entry| entry.current);
        let nothing = Self { granted: quota.limit, ledger_left: u64::MAX, ..Self::default() };
        match quota.window {
            Window::Bucket { period_ms, burst } => {
                let rate = Rate { limit: quota.limit, period_ms };
                let (used, remainder) = entry.map_or((0, 0), |entry| {
                    let mut entry = entry.clone();
                    entry.drain(rate, now.wall_ms);
                    (entry.current.used, entry.current.ends)
                });
                let wait = rate.time_for(used, remainder).unwrap_or(u64::MAX);
                let resets_ms = if used == 0 { 0 } else { now.wall_ms.saturating_add(wait) };
                Some(Self { window: now.wall_ms, granted: burst, used, resets_ms, ..nothing })
            }
            Window::Concurrent => Some(Self { held: current.held, ..nothing }),
            _ => match place(entry, quota, now) {
                Place::Unknown => None,
                Place::New(_) if matches!(quota.window, Window::FirstUse { .. }) => Some(nothing),
                Place::New(span) => Some(Self { window: span.start, resets_ms: span.ends, ..nothing }),
                Place::Current => {
                    let left = entry.map_or(u64::MAX, |entry| entry.ledger_left(quota));
                    Some(Self::of_period(quota, &current, left))
                }
            },
        }
    }
}

impl Entry {
    fn ledger_left(&self, quota: &Quota) -> u64 {
        if quota.granted { self.left } else { u64::MAX }
    }

    fn settle_window(&mut self, line: &HeldLine) {
        match self.kept(line.window) {
            Some(period) => {
                let held = if super::fault::seeded(super::fault::Fault::SettleKeepsHeld) { 0 } else { line.amount };
                release(&mut period.held, held);
                period.used = period.used.saturating_add(line.used);
            }
            None => self.current.used = self.current.used.saturating_add(line.used),
        }
        // Nothing came of the exchange that opened this window: the ledger may open another, later.
        let idle = self.current.used == 0 && self.current.held == 0 && self.current.start == line.window;
        if idle && matches!(line.rule, Rule::FirstUse { granted: true }) {
            self.closed = true;
        }
    }

    /// Lets a bucket drain until `wall_ms`. Time that steps back drains nothing.
    fn drain(&mut self, rate: Rate, wall_ms: u64) {
        let level = &mut self.current;
        let (drained, remainder) = rate.drained(wall_ms.saturating_sub(level.start), level.ends);
        level.used = level.used.saturating_sub(drained);
        // An empty bucket saves nothing up.
        level.ends = if level.used == 0 { 0 } else { remainder };
        level.start = level.start.max(wall_ms);
    }

    /// Replaces what a bucket gave to `line` by `used`.
    fn true_up(&mut self, rate: Rate, line: &HeldLine, used: u64, wall_ms: u64) {
        self.drain(rate, wall_ms);
        let refundable = line.amount.saturating_sub(rate.drained_at_most(wall_ms.saturating_sub(line.window)));
        let refund = line.amount.saturating_sub(used).min(refundable);
        let more = used.saturating_sub(line.amount);
        self.current.used = self.current.used.saturating_add(more).saturating_sub(refund);
    }
}

#[cfg(test)]
mod tests;
