//! What operations do to an account: holding, taking back, settling. Pure integer arithmetic.
//!
//! A window admits while `used + owed + held + amount ≤ granted − returned`; without a ledger what is granted is the limit
//! and what was carried into it, and what is owed is what windows before it were charged beyond theirs. A bucket and a
//! sliding window take the amount when it is held and give back at settle what was too much: a bucket not what has
//! drained since, because that has been refilled already, and giving it back again would lift the bucket above what its
//! rate allows; a sliding window in the slice in which it was charged. A concurrent quota only counts what runs. Each
//! admits by [`Line::over`] more than that.

use super::account::{Account, Entry, Kind};
use super::fault::{Fault, seeded};
use super::rate::Rate;
use super::slot::{HeldLine, Rule};
use super::standing::{Place, allowance, carry, place};
use super::{Line, QuotaId, Short, Standing, Window};
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
            Window::Sliding { length_ms } => self.hold_sliding(line, length_ms, now),
            Window::Concurrent => self.hold_concurrent(line).map(|()| 0),
            Window::Calendar { .. }
            | Window::Anniversary { .. }
            | Window::FirstUse { .. }
            | Window::Term { .. }
            | Window::Lifetime => self.hold_window(line, pinned, now),
        }
    }

    fn hold_window(&mut self, line: &Line, pinned: Option<u64>, now: Now) -> Result<u64, Lack> {
        let Line { quota, amount, over } = line;
        let gone = |account: &Self| Lack::Exhausted(account.standing(quota, now).unwrap_or_default());
        if pinned.is_none() {
            let entry = self.entry(quota.id, Kind::Windowed);
            match place(entry, quota, now) {
                Place::Current => {}
                Place::Unknown => return Err(Lack::NeedsGrant { missing: *amount }),
                Place::Outside(_) => return Err(gone(self)),
                Place::New(span) => {
                    let carry = carry(entry, quota, span);
                    if let Some(entry) = self.entry_of(quota.id, Kind::Windowed) {
                        let passed = if seeded(Fault::CarriedIsKept) { 0 } else { carry.passed };
                        entry.current.returned = entry.current.returned.saturating_add(passed);
                        entry.advance(span.start, span.ends, carry);
                    }
                }
            }
        }
        let Some(entry) = self.entry_of(quota.id, Kind::Windowed) else { return Err(gone(self)) };
        let ledger_left = entry.ledger_left(quota);
        let is_current = pinned.is_none_or(|pin| pin == entry.current.start);
        let window = pinned.unwrap_or(entry.current.start);
        // An exchange that outlived two windows cannot be extended where it was admitted.
        let Some(period) = entry.kept(window) else { return Err(gone(self)) };
        let spent = period.used.saturating_add(period.owed);
        let mut allowed = allowance(quota, period).saturating_add(*over);
        if seeded(Fault::OverCountsAnew) {
            allowed = allowed.max(spent.saturating_add(period.held).saturating_add(*over));
        }
        let wanted = spent.checked_add(period.held).and_then(|sum| sum.checked_add(*amount));
        let missing = wanted.map_or(u64::MAX, |wanted| wanted.saturating_sub(allowed));
        let ignored = seeded(Fault::AdmissionIgnoresHeld) && period.used < allowed;
        // A call that asks for nothing of a quota passes it, whatever debt there is.
        if missing == 0 || *amount == 0 || ignored {
            period.allow(line);
            period.held = period.held.saturating_add(*amount);
            // It may be charged for all that: by what it calls, or by the model that answers.
            period.late |= *amount == 0;
            return Ok(window);
        }
        let standing = Standing::of_period(quota, period, ledger_left);
        if quota.granted && ledger_left > 0 && is_current {
            Err(Lack::NeedsGrant { missing })
        } else if spent.saturating_add(*amount) > allowed {
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
            Some(wanted) if wanted <= most || line.amount == 0 => {
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

    /// Answers the slice: an extension is charged in one of its own, and held on a line of its own.
    fn hold_sliding(&mut self, line: &Line, length_ms: u64, now: Now) -> Result<u64, Lack> {
        let most = line.quota.limit.saturating_add(line.over);
        let standing = self.standing(&line.quota, now).unwrap_or_default();
        let Some(entry) = self.entry_of(line.quota.id, Kind::Sliding) else { return Err(Lack::Exhausted(standing)) };
        entry.slices.go_to(length_ms, now.wall_ms);
        let spent = if seeded(Fault::SlidingForgetsSettled) { entry.current.held } else { entry.slices.sum() };
        if line.amount == 0 || spent.checked_add(line.amount).is_some_and(|wanted| wanted <= most) {
            entry.current.held = entry.current.held.saturating_add(line.amount);
            return Ok(entry.slices.charge(line.amount));
        }
        // More than the whole window never fits.
        let Some(room) = most.checked_sub(line.amount) else { return Err(Lack::Exhausted(standing)) };
        let wait = entry.slices.below(room).saturating_sub(now.wall_ms);
        Err(Lack::Busy(standing, Some(wait.max(1))))
    }

    fn hold_concurrent(&mut self, line: &Line) -> Result<(), Lack> {
        let standing = self.standing(&line.quota, Now::default()).unwrap_or_default();
        let entry = self.entry_of(line.quota.id, Kind::Concurrent);
        let Some(level) = entry.map(|entry| &mut entry.current) else { return Err(Lack::Busy(standing, None)) };
        match level.held.checked_add(line.amount) {
            Some(held) if held <= line.quota.limit.saturating_add(line.over) || seeded(Fault::LiveIsNotCounted) => {
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
            Rule::Timed | Rule::FirstUse { .. } => {
                if let Some(period) = entry.kept(line.window) {
                    release(&mut period.held, line.amount);
                }
            }
            Rule::Bucket { limit, period_ms } => entry.true_up(Rate { limit, period_ms }, line, 0, wall_ms),
            Rule::Sliding { .. } => {
                release(&mut entry.current.held, line.amount);
                entry.slices.refund(line.window, line.amount);
            }
            Rule::Concurrent => release(&mut entry.current.held, line.amount),
        }
    }

    /// Replaces what `line` holds by what it used: in the window it was admitted in while that is kept, else in the
    /// current one.
    pub(super) fn settle(&mut self, line: &HeldLine, wall_ms: u64) {
        let Some(entry) = self.entry_of(line.quota, line.rule.kind()) else { return };
        match line.rule {
            Rule::Timed | Rule::FirstUse { .. } => entry.settle_window(line),
            Rule::Bucket { limit, period_ms } => entry.true_up(Rate { limit, period_ms }, line, line.used, wall_ms),
            Rule::Sliding { length_ms } => entry.settle_slices(length_ms, line, wall_ms),
            Rule::Concurrent => release(&mut entry.current.held, line.amount),
        }
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

impl Entry {
    fn settle_window(&mut self, line: &HeldLine) {
        let late = line.window != self.current.start && line.used > 0;
        match self.kept(line.window) {
            Some(period) => {
                period.late |= late;
                let held = if seeded(Fault::SettleKeepsHeld) { 0 } else { line.amount };
                release(&mut period.held, held);
                let debt = period.charge(line.used);
                self.pass_debt(line.window, debt);
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
    pub(super) fn drain(&mut self, rate: Rate, wall_ms: u64) {
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

    /// Replaces what a sliding window was charged for `line`: too much is taken back where it was charged, what is
    /// missing is charged now.
    fn settle_slices(&mut self, length_ms: u64, line: &HeldLine, wall_ms: u64) {
        release(&mut self.current.held, line.amount);
        let length_ms = if self.slices.length_ms == 0 { length_ms } else { self.slices.length_ms };
        self.slices.go_to(length_ms, wall_ms);
        self.slices.charge(line.used.saturating_sub(line.amount));
        let at = if seeded(Fault::RefundIsLate) { self.slices.latest_ms } else { line.window };
        self.slices.refund(at, line.amount.saturating_sub(line.used));
    }
}

#[cfg(test)]
mod tests;
