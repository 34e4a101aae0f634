//! Accounts as one decision sees them: each is read once.

use std::collections::BTreeMap;

use crate::engine::vm::Vm;
use crate::now::Now;
use crate::policy::bundle::PlanQuota;
use crate::quota::{Account, Cells, Quota, Standing, read_account};

/// Accounts, each read once.
#[derive(Default)]
pub(super) struct Accounts(BTreeMap<String, Option<Option<Account>>>);

impl Accounts {
    /// How a quota of `subject` stands; `None` when nothing is known of it.
    pub(super) fn standing(
        &mut self,
        subject: &str,
        quota: &PlanQuota,
        now: Now,
        vm: &Vm,
        cells: &mut dyn Cells,
    ) -> Option<Standing> {
        self.standing_for(subject, quota, 0, now, vm, cells)
    }

    /// How it stands for a call that asks for so many micro-units.
    pub(super) fn standing_for(
        &mut self,
        subject: &str,
        quota: &PlanQuota,
        amount: u64,
        now: Now,
        vm: &Vm,
        cells: &mut dyn Cells,
    ) -> Option<Standing> {
        match self.read(subject, vm, cells)? {
            Some(account) => account.standing_for(&quota.quota, amount, now),
            None => Standing::unused(&quota.quota, now),
        }
    }

    /// How it stands in the window that an exchange was admitted in; 0: in the one that runs.
    pub(super) fn standing_in(
        &mut self,
        subject: &str,
        quota: &Quota,
        window: u64,
        now: Now,
        vm: &Vm,
        cells: &mut dyn Cells,
    ) -> Option<Standing> {
        match self.read(subject, vm, cells)? {
            Some(account) if window == 0 => account.standing_for(quota, 0, now),
            Some(account) => account.standing_in(quota, window, now),
            None if window == 0 => Standing::unused(quota, now),
            None => None,
        }
    }

    /// `None`: it cannot be read.
    fn read(&mut self, subject: &str, vm: &Vm, cells: &mut dyn Cells) -> Option<&Option<Account>> {
        if !self.0.contains_key(subject) {
            self.0.insert(subject.to_owned(), read_account(&vm.keys, subject, cells).ok());
        }
        self.0.get(subject)?.as_ref()
    }
}
