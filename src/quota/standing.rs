//! How a quota stands at one moment, and the window that an amount falls into then.

use super::account::{Account, Entry, Kind, Period};
use super::rate::Rate;
use super::window::{Outside, Span, mean_length, opening, outside};
use super::{Quota, Standing, Window};
use crate::now::Now;

/// The window that an amount of a windowed quota falls into now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The current one.
    Current,
    /// A new one.
    New(Span),
    /// The ledger must say.
    Unknown,
    /// None: the term is over (0), or begins at this moment.
    Outside(u64),
}

/// Where `quota` stands in time. Time that steps back stays in the current window, and a window keeps the end that
/// it was opened with, so that an update of the policy opens no fresh one early.
pub(super) fn place(entry: Option<&Entry>, quota: &Quota, now: Now) -> Place {
    let current = entry.map_or_else(Period::default, |entry| entry.current);
    let idle = current.is_unused();
    match outside(&quota.window, now.wall_ms) {
        Some(Outside::After) => return Place::Outside(0),
        // A term that was paid from has begun, whatever the clock says now.
        Some(Outside::Before(from)) if current.start != from || idle => return Place::Outside(from),
        _ => {}
    }
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

/// What goes over into a new window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Carry {
    /// What the new window has beside its limit.
    pub(super) carried: u64,
    /// What the current one passes on, and so has no more.
    pub(super) passed: u64,
    /// What the current one was charged beyond what it had, as far as windows between them did not pay it.
    pub(super) owed: u64,
    /// What those could pay beyond that, if more comes to light.
    pub(super) spare: u64,
}

impl Carry {
    /// Nothing, and never any debt: the ledger sees to that, or the window stands alone.
    pub(super) const NOTHING: Self = Self { carried: 0, passed: 0, owed: 0, spare: u64::MAX };
}

/// What `quota` carries from the current window into the one at `span`: what was neither used nor is held, and the
/// whole limit of each window between them, together at most its rollover. And what was used beyond what there was, which
/// each window between them lessens by its whole limit. With a ledger, the ledger does it.
pub(super) fn carry(entry: Option<&Entry>, quota: &Quota, span: Span) -> Carry {
    let Some(current) = entry.map(|entry| entry.current).filter(|current| current.start != 0) else {
        return Carry::default();
    };
    if quota.granted || matches!(quota.window, Window::Term { .. } | Window::Lifetime) {
        return Carry::NOTHING;
    }
    if current.is_unused() && matches!(quota.window, Window::FirstUse { .. }) {
        // It came to nothing: what it had and what it owed is what there is, and nothing is added.
        let Period { carried, owed, spare, .. } = current;
        return Carry { carried: carried.min(quota.rollover), passed: 0, owed, spare };
    }
    let passed = left(quota, &current).min(quota.rollover);
    let between = span.start.saturating_sub(current.ends);
    let skipped = mean_length(&quota.window)
        .and_then(|mean| between.saturating_add(mean.checked_div(2)?).checked_div(mean))
        .unwrap_or(0);
    let (unused, debt) = (quota.limit.saturating_mul(skipped), current.debt());
    let more = passed.saturating_add(unused.saturating_sub(debt));
    let carried = more.min(quota.rollover);
    let spare = more.saturating_sub(carried);
    // Of a window that came to nothing no trace is kept, and it could have paid too.
    let pays = if current.is_blank() { current.can_pay().saturating_sub(passed) } else { 0 };
    Carry { carried, passed, owed: debt.saturating_sub(unused), spare: spare.saturating_add(pays) }
}

/// What is left of a window that ends, and goes over. A limit that was raised since adds nothing to it.
fn left(quota: &Quota, period: &Period) -> u64 {
    let had = allowance(quota, period).min(period.allowed.saturating_sub(period.returned));
    had.saturating_sub(period.used.saturating_add(period.owed).saturating_add(period.held))
}

/// What a window may spend.
pub(super) fn allowance(quota: &Quota, period: &Period) -> u64 {
    if quota.granted {
        // The ledger granted it under the limit of then, which may have been lowered since.
        let most = quota.limit.saturating_add(quota.rollover);
        return period.granted.saturating_sub(period.returned).min(most);
    }
    quota.limit.saturating_add(period.carried.min(quota.rollover)).saturating_sub(period.returned)
}

impl Account {
    /// How `quota` stands; `None` when only the ledger can say.
    pub fn standing(&self, quota: &Quota, now: Now) -> Option<Standing> {
        let entry = self.entry(quota.id, Kind::of(&quota.window));
        Standing::of(entry, quota, now)
    }

    /// How it stands for an exchange that asks for `amount`: of a sliding window [`Standing::resets_ms`] is then when that
    /// fits at the latest, if nothing else is held until then.
    pub fn standing_for(&self, quota: &Quota, amount: u64, now: Now) -> Option<Standing> {
        let standing = self.standing(quota, now)?;
        let (Window::Sliding { length_ms }, true) = (&quota.window, amount > 0) else { return Some(standing) };
        let Some(entry) = self.entry(quota.id, Kind::Sliding) else { return Some(standing) };
        let mut slices = entry.slices.clone();
        slices.go_to(*length_ms, now.wall_ms);
        // What is larger than the window never fits: it is told when there is most.
        Some(Standing { resets_ms: slices.below(quota.limit.saturating_sub(amount)), ..standing })
    }

    /// How `quota` stands in the window that an exchange was admitted in and is extended in; `None`: it is not kept. What
    /// the ledger has left in one that has ended is not asked for.
    pub fn standing_in(&self, quota: &Quota, window: u64, now: Now) -> Option<Standing> {
        let mut entry = self.entry(quota.id, Kind::of(&quota.window))?.clone();
        let runs = entry.current.start == window && now.wall_ms < entry.current.ends;
        let left = if runs || !quota.granted { entry.ledger_left(quota) } else { 0 };
        let period = entry.kept(window)?;
        Some(Standing::of_period(quota, period, left))
    }
}

impl Standing {
    /// How a quota stands that nobody ever used; `None` when only the ledger can say.
    pub fn unused(quota: &Quota, now: Now) -> Option<Self> {
        Self::of(None, quota, now)
    }

    pub(super) fn of_period(quota: &Quota, period: &Period, ledger_left: u64) -> Self {
        Self {
            window: period.start,
            granted: allowance(quota, period),
            used: period.used,
            owed: period.owed,
            held: period.held,
            resets_ms: resets(quota, period.ends),
            ledger_left,
        }
    }

    fn of(entry: Option<&Entry>, quota: &Quota, now: Now) -> Option<Self> {
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
            Window::Sliding { length_ms } => {
                let mut slices = entry.map(|entry| entry.slices.clone()).unwrap_or_default();
                slices.go_to(length_ms, now.wall_ms);
                let sum = slices.sum();
                // What a running exchange was charged may have slid out since.
                let held = entry.map_or(0, |entry| entry.current.held).min(sum);
                let (used, resets_ms) = (sum.saturating_sub(held), if sum == 0 { 0 } else { slices.below(0) });
                Some(Self { window: now.wall_ms.saturating_sub(length_ms), used, held, resets_ms, ..nothing })
            }
            Window::Concurrent => Some(Self { held: entry.map_or(0, |entry| entry.current.held), ..nothing }),
            Window::Calendar { .. }
            | Window::Anniversary { .. }
            | Window::FirstUse { .. }
            | Window::Term { .. }
            | Window::Lifetime => Self::of_window(entry, quota, now),
        }
    }

    fn of_window(entry: Option<&Entry>, quota: &Quota, now: Now) -> Option<Self> {
        let current = entry.map_or_else(Period::default, |entry| entry.current);
        let nothing = Self { ledger_left: u64::MAX, ..Self::default() };
        match place(entry, quota, now) {
            Place::Unknown => None,
            Place::Outside(resets_ms) => {
                let Period { start, used, held, .. } = current;
                Some(Self { window: start, used, held, resets_ms, ledger_left: 0, ..nothing })
            }
            Place::New(span) => {
                let Carry { carried, owed, .. } = carry(entry, quota, span);
                let new = Self { granted: quota.limit.saturating_add(carried), owed, ..nothing };
                match quota.window {
                    Window::FirstUse { .. } => Some(new),
                    _ => Some(Self { window: span.start, resets_ms: resets(quota, span.ends), ..new }),
                }
            }
            Place::Current => {
                let left = entry.map_or(u64::MAX, |entry| entry.ledger_left(quota));
                Some(Self::of_period(quota, &current, left))
            }
        }
    }
}

/// When the window that ends at `ends` begins anew: never, where there is only one.
fn resets(quota: &Quota, ends: u64) -> u64 {
    if matches!(quota.window, Window::Term { .. } | Window::Lifetime) { 0 } else { ends }
}

impl Entry {
    /// What the ledger could still grant.
    pub(super) fn ledger_left(&self, quota: &Quota) -> u64 {
        if quota.granted { self.left } else { u64::MAX }
    }
}

#[cfg(test)]
mod tests {
    use super::allowance;
    use crate::quota::{Period, Quota, QuotaId, Window};

    #[test]
    fn what_was_granted_under_a_higher_limit_is_not_all_allowed() {
        let quota = Quota { id: QuotaId(1), limit: 6, window: Window::Lifetime, granted: true, rollover: 1 };
        let allowed = |granted, returned| allowance(&quota, &Period { granted, returned, ..Period::default() });
        assert_eq!((allowed(9, 0), allowed(9, 1), allowed(9, 3), allowed(5, 0)), (7, 7, 6, 5));
    }
}
