//! Debt: what a window was charged beyond what it had, and the next ones pay.
//!
//! A window pays with all that it has before anything of it can be spent; what that does not cover the one after it pays,
//! and so on. One that was skipped pays as if it had been there. What a window had is the most that any hold found there,
//! so that a limit that is lowered makes no debt of what was lawful, and one that is raised leaves none.
//!
//! Only what is charged is owed, and that only grows: an exchange that ends late, in a window that is over, adds to what
//! the windows after it owe, at that moment. What is merely held there is not owed yet.

use super::Line;
use super::account::{Entry, Period};
use super::fault::{Fault, seeded};

impl Period {
    /// Notes what a hold was told that there is here.
    pub(super) fn allow(&mut self, line: &Line) {
        let quota = &line.quota;
        let most = match quota.granted {
            true => u64::MAX,
            false => quota.limit.saturating_add(self.carried.min(quota.rollover)),
        };
        self.allowed = self.allowed.max(most);
        self.waived |= line.over == u64::MAX;
    }

    /// Charges `used`. Answers by how much that makes its debt grow.
    pub(super) fn charge(&mut self, used: u64) -> u64 {
        let known = self.debt();
        self.used = self.used.saturating_add(used);
        self.debt().saturating_sub(known)
    }

    /// What it leaves to the windows after it.
    pub(super) fn debt(&self) -> u64 {
        if seeded(Fault::DebtIsForgotten) { 0 } else { self.claimed().saturating_sub(self.allowed) }
    }

    /// What it could still pay of a debt, with the windows skipped before it.
    pub(super) fn can_pay(&self) -> u64 {
        self.spare.saturating_add(self.allowed.saturating_sub(self.claimed()))
    }

    /// What was taken out of what it had: used, passed on, and paid.
    fn claimed(&self) -> u64 {
        let used = if self.waived { 0 } else { self.used };
        used.saturating_add(self.owed).saturating_add(self.returned)
    }

    /// Takes over `debt` of a window before it. Answers what it leaves of that to those after it.
    fn owe(&mut self, debt: u64) -> u64 {
        let known = self.debt();
        let spared = debt.min(self.spare);
        self.spare = self.spare.saturating_sub(spared);
        self.owed = self.owed.saturating_add(debt.saturating_sub(spared));
        self.debt().saturating_sub(known)
    }
}

impl Entry {
    /// The window that began at `window` leaves so much more debt than it did when the ones after it began.
    pub(super) fn pass_debt(&mut self, window: u64, mut debt: u64) {
        if debt == 0 || window == self.current.start {
            return;
        }
        let after = self.before.iter_mut().rev().skip_while(|period| period.start <= window);
        for period in after.chain([&mut self.current]) {
            debt = period.owe(debt);
        }
    }
}

#[cfg(test)]
mod tests;
