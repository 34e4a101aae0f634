//! Why a call does not fit: which quota is named, and when to come again.

use super::{Block, NOWHERE, SOON_MS, Scale, Verdict, most};
use crate::policy::bundle::{PlanQuota, Role};
use crate::quota::{QuotaId, Short, Standing, Window};

impl Scale<'_, '_> {
    pub(super) fn short(&self, block: &Block) -> Verdict {
        if block.at == NOWHERE {
            return Verdict::Unfunded;
        }
        if let Some(cap) = self.cap_to_name(block) {
            return self.short(&Block { at: cap, funds: false });
        }
        let Some(quota) = self.quota(block) else {
            let short = Short::NeedsGrant { subject: String::new(), quota: QuotaId(0), missing: 0 };
            return Verdict::Short { short, needed: 0 };
        };
        let needed = self.asked(quota, self.floor);
        let subject = self.bill.subject(quota.per);
        let standing = self.standing(block);
        // Of several funds, one whose rest is merely held by others makes the call wait, not fail for good.
        let short = match block.funds {
            true => self.funds_lack(needed).unwrap_or_else(|| lack(quota, subject, standing, needed)),
            false => lack(quota, subject, standing, needed),
        };
        // What is used up for long is let through at a pace all the same: that says when to come again.
        match (short, self.soonest_throttle(block)) {
            (Short::Exhausted { .. }, Some((short, needed))) => Verdict::Short { short, needed },
            (short, _) => Verdict::Short { short, needed },
        }
    }

    /// Where a fund was passed over for its cap, and those behind it have nothing and get nothing, that cap says when to
    /// come again: the one that ends first.
    pub(super) fn cap_to_name(&self, block: &Block) -> Option<usize> {
        let known = self.segments().into_iter().flatten().all(|at| self.is_known(at));
        if !block.funds || !known || self.funds_lack(1).is_some() {
            return None;
        }
        let resets = |at: usize| self.stands.get(at).and_then(|stands| *stands).map_or(u64::MAX, |s| s.resets_ms);
        self.skipped.iter().map(|(_, cap)| *cap).min_by_key(|cap| resets(*cap))
    }

    /// The lack of all funds together: busy where running calls hold what would do.
    pub(super) fn funds_lack(&self, needed: u64) -> Option<Short> {
        for segment in self.segments() {
            let first = segment.first().and_then(|at| self.bill.quotas.get(*at))?;
            let asked = self.asked(first, self.floor).max(needed.min(1));
            let unknown = segment.iter().any(|at| self.stands.get(*at).is_none_or(|stands| stands.is_none()));
            let held = segment.iter().filter_map(|at| self.stands.get(*at).and_then(|stands| *stands));
            let released = held.fold(0_u64, |sum, s| sum.saturating_add(s.granted.saturating_sub(s.spent())));
            if unknown || released < asked {
                continue;
            }
            let (at, stands) = segment.iter().find_map(|at| {
                let stands = self.stands.get(*at).and_then(|stands| *stands)?;
                (stands.held > 0).then_some((*at, stands))
            })?;
            let quota = self.bill.quotas.get(at)?;
            return Some(Short::Busy {
                subject: self.bill.subject(quota.per),
                quota: quota.quota.id,
                standing: stands,
                retry_ms: Some(SOON_MS),
            });
        }
        None
    }
}

/// Tells what kind of lack it is that `needed` micro-units do not fit.
pub(super) fn lack(quota: &PlanQuota, subject: String, standing: Option<Standing>, needed: u64) -> Short {
    let id = quota.quota.id;
    // Of a cap that never has so much nothing needs to be known.
    let all = Standing { granted: most(quota), ledger_left: u64::MAX, ..Standing::default() };
    let oversized = quota.role == Role::Cap && needed > most(quota);
    let Some(standing) = standing.or(oversized.then_some(all)) else {
        return Short::NeedsGrant { subject, quota: id, missing: needed };
    };
    let busy = |retry_ms| Short::Busy { subject: subject.clone(), quota: id, standing, retry_ms: Some(retry_ms) };
    match &quota.quota.window {
        Window::Concurrent => busy(SOON_MS),
        Window::Bucket { period_ms, .. } => {
            let missing = needed.saturating_sub(standing.free());
            let wait = (u128::from(missing) * u128::from(*period_ms)).div_ceil(u128::from(quota.quota.limit.max(1)));
            busy(u64::try_from(wait).unwrap_or(u64::MAX).max(1))
        }
        _ if standing.spent().saturating_add(needed) > standing.granted => {
            Short::Exhausted { subject, quota: id, standing }
        }
        _ => busy(SOON_MS),
    }
}
