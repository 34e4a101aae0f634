//! First-use windows that a call needs, asked for at the same time.
//!
//! Each sync gives back those that nobody has used, because the first exchange that is admitted opens them. A call that
//! asked for one after the other would lose the first while it waits for the second, and never have both.

use super::{Scale, Want};
use crate::policy::bundle::{PlanQuota, Role};
use crate::quota::{QuotaId, Window};

impl Scale<'_, '_> {
    /// Adds the first-use windows that the call needs beside what it asks for, as far as nobody uses them.
    pub(super) fn want_together(&self, wants: &mut Vec<Want>) {
        if wants.is_empty() {
            return;
        }
        let is_asked = |quota: &PlanQuota| wants.iter().any(|want| want.quota == quota.quota.id);
        let funds = || self.bill.quotas.iter().enumerate().filter(|(_, quota)| quota.role == Role::Fund);
        let asked: Vec<usize> = funds().filter(|(_, quota)| is_asked(quota)).map(|(at, _)| at).collect();
        // What is asked of a fund may be all that the call needs: those behind it are not asked yet.
        let (paying, most) = self.paying().unwrap_or_default();
        let gives = self.shares(&paying, most).into_iter().map(|(at, _)| at);
        let gives = gives.filter(|at| asked.last().is_none_or(|last| at < last));
        let pays: Vec<usize> = asked.iter().copied().chain(gives).collect();
        let pays = |fund: QuotaId| funds().any(|(at, quota)| quota.quota.id == fund && pays.contains(&at));
        for (at, quota) in self.bill.quotas.iter().enumerate().filter(|(at, quota)| self.is_idle(*at, quota)) {
            let needed = match (quota.role, quota.of) {
                (Role::Fund, _) => pays(quota.quota.id),
                (Role::Cap, of) => of.is_none_or(&pays),
            };
            let subject = self.bill.subject(quota.per);
            let asked = |want: &Want| want.quota == quota.quota.id && want.subject == subject;
            if needed && self.over(at) < u64::MAX && !wants.iter().any(asked) {
                let missing = self.asked(quota, self.size.output).max(1);
                wants.push(Want { subject, quota: quota.quota.id, missing });
            }
        }
    }

    /// Whether it is a window that nobody has used, or that is not open.
    fn is_idle(&self, at: usize, quota: &PlanQuota) -> bool {
        let by_use = quota.quota.granted && matches!(quota.quota.window, Window::FirstUse { .. });
        let stands = self.stands.get(at).and_then(|stands| *stands);
        by_use && stands.is_none_or(|stands| stands.used == 0 && stands.held == 0)
    }
}
