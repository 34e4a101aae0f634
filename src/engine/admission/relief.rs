//! What the policy does instead of a refusal, and how the scale stands after it.

use super::{Block, How, LOOK_MS, Let, Lifted, NOWHERE, Patience, Scale, Stands, Throttle, lack, most, note};
use crate::now::Now;
use crate::policy::bundle::{PlanQuota, Relief, Role};
use crate::policy::unit::Unit;
use crate::quota::{Short, Window};

impl<'b> Scale<'_, 'b> {
    /// The list of reliefs for what is in the way: that of a quota by its place, and behind them that of all funds.
    pub(super) fn list(&self, block: &Block) -> usize {
        if block.funds { self.bill.quotas.len() } else { block.at }
    }

    /// The next relief for what is in the way, and its place in the list. It is used up then.
    pub(super) fn next_relief(&mut self, block: &Block) -> Option<(usize, &'b Relief)> {
        let steps: &'b [Relief] = match block.funds {
            true => &self.bill.plan.empty,
            false => self.bill.quotas.get(block.at).map(|quota| quota.full.as_slice()).unwrap_or_default(),
        };
        let list = self.list(block);
        let next = self.used_up.get_mut(list)?;
        let step = steps.get(*next)?;
        let at = *next;
        *next = next.saturating_add(1);
        Some((at, step))
    }

    /// Lets the call pass the quota: by so much in all, or as far as it goes. Of funds [one](super::Bill::bearer) bears
    /// it. Answers how it was before; `None`: nothing changed.
    pub(super) fn let_pass(&mut self, block: &Block, bound: Option<(u64, Unit)>, how: How) -> Option<Lifted> {
        let of = self.list(block);
        if block.at == NOWHERE {
            // Nothing is there that could bear it, so it is merely seen, or refused.
            if how == How::Observed {
                self.unfunded = false;
                self.lets.push(Let { how, of, at: NOWHERE, by: NOWHERE });
            }
            return None;
        }
        let by = match block.funds {
            false => block.at,
            true => {
                let funds: Vec<usize> = self.segments().into_iter().flatten().collect();
                match self.bill.bearer(&funds, bound.map(|(_, unit)| unit)) {
                    Some(by) => by,
                    // All were passed over for a cap of theirs. What has no bound lets them pay in spite of it; a bound is
                    // one of funds, and says nothing of a cap, which may be in another unit.
                    None if bound.is_none() => return Some(self.take_back(how)),
                    None => return None,
                }
            }
        };
        // A throttle lets pass what is charged, and what nothing is known of cannot be charged.
        if how == How::Throttled && !self.is_known(by) {
            return None;
        }
        let over = self.over.get_mut(by)?;
        let lifted = Lifted { over: vec![(by, *over)], ..Lifted::default() };
        *over = bound.map_or(u64::MAX, |(most, _)| most.max(*over));
        self.lets.push(Let { how, of, at: block.at, by });
        Some(lifted)
    }

    /// Lets a call pass that is only seen. An overage is a debt all the same, and another fund pays; what would have had to
    /// wait or to go to another model would have been refused as it is.
    pub(super) fn let_see(&mut self, block: &Block) {
        loop {
            match self.next_relief(block) {
                Some((_, Relief::Overage(most, unit))) => {
                    return drop(self.let_pass(block, Some((*most, *unit)), How::Overage));
                }
                Some((_, Relief::NextFund)) => return self.skip_fund(block),
                None | Some((_, Relief::Observe | Relief::Throttle(_))) => {
                    return drop(self.let_pass(block, None, How::Observed));
                }
                Some(_) => {}
            }
        }
    }

    /// Takes the fund that a cap is of out of those that may pay, and with it what slows its calls down.
    pub(super) fn skip_fund(&mut self, block: &Block) {
        let Some(fund) = self.bill.quotas.get(block.at).and_then(|cap| cap.of) else { return };
        let place = self.bill.quotas.iter().position(|quota| quota.role == Role::Fund && quota.quota.id == fund);
        self.skipped.extend(place.map(|fund| (fund, block.at)));
        let bill = self.bill;
        let slows = |throttle: &Throttle| bill.quotas.get(throttle.of).and_then(|cap| cap.of) == Some(fund);
        self.throttles.retain(|throttle| !slows(throttle));
    }

    /// Lets the funds pay after all that were passed over, whatever their caps say.
    fn take_back(&mut self, how: How) -> Lifted {
        let skipped = std::mem::take(&mut self.skipped);
        let mut lifted = Lifted { over: Vec::new(), skipped };
        for (_, cap) in &lifted.skipped {
            if let Some(over) = self.over.get_mut(*cap) {
                lifted.over.push((*cap, *over));
                *over = u64::MAX;
            }
            self.lets.push(Let { how, of: self.bill.quotas.len(), at: *cap, by: *cap });
        }
        lifted
    }

    pub(super) fn throttle(&mut self, block: &Block, bucket: &PlanQuota, standing: &mut Stands<'_>) {
        let Some(lifted) = self.let_pass(block, None, How::Throttled) else { return };
        let stands = standing(&self.bill.subject(bucket.per), bucket, self.asked(bucket, self.floor));
        let (of, bucket) = (self.list(block), bucket.clone());
        self.throttles.push(Throttle { of, bucket, stands, lifted });
    }

    /// Takes a throttle back that is in the way itself: what stands behind it is tried. `false`: it is no throttle.
    pub(super) fn withdraw_throttle(&mut self, block: &Block) -> bool {
        let index = block.at.checked_sub(self.bill.quotas.len()).filter(|index| *index < self.throttles.len());
        let Some(index) = index.filter(|_| !block.funds) else { return false };
        let throttle = self.throttles.remove(index);
        let nth = self.throttles.iter().take(index).filter(|other| other.of == throttle.of).count();
        // Last first: what was lifted twice is as it was before the first.
        for (at, before) in throttle.lifted.over.iter().rev() {
            if let Some(over) = self.over.get_mut(*at) {
                *over = *before;
            }
        }
        self.skipped.extend(&throttle.lifted.skipped);
        let mut its =
            self.lets.iter().enumerate().filter(|(_, one)| one.how == How::Throttled && one.of == throttle.of);
        if let Some((at, _)) = its.nth(nth) {
            self.lets.remove(at);
        }
        self.withdrawn.push(throttle);
        true
    }

    /// Of the throttles of this list that have no room now, the one that has some first, and why it has none; not one
    /// that never takes so much.
    pub(super) fn soonest_throttle(&self, block: &Block) -> Option<(Short, u64)> {
        let of = self.list(block);
        let all = self.withdrawn.iter().filter(|throttle| throttle.of == of);
        let lacks = all.filter_map(|throttle| {
            let needed = self.asked(&throttle.bucket, self.floor);
            let subject = self.bill.subject(throttle.bucket.per);
            let short = lack(&throttle.bucket, subject, throttle.stands, needed);
            (needed <= most(&throttle.bucket)).then_some((short, needed))
        });
        lacks.min_by_key(|(short, _)| match short {
            Short::Busy { retry_ms, .. } => retry_ms.unwrap_or(u64::MAX),
            _ => u64::MAX,
        })
    }

    /// When to look again, if waiting can help before this wait is over.
    pub(super) fn wait(
        &self,
        block: &Block,
        (step, ms): (usize, u64),
        now: Now,
        patience: &mut Patience,
    ) -> Option<u64> {
        let quota = self.quota(block)?;
        let id = quota.quota.id;
        let known = patience.waits.iter().find(|(of, at, _)| (*of, *at) == (id, step)).map(|(.., until)| *until);
        let until = known.unwrap_or_else(|| now.mono_ms.saturating_add(ms));
        let look = self.cured_in(block, now)?;
        let wake_ms = now.mono_ms.saturating_add(look.max(1));
        if now.mono_ms >= until || wake_ms > until && look > LOOK_MS {
            return None;
        }
        if known.is_none() {
            patience.waits.push((id, step, until));
            note(patience, How::Waited, Some(quota));
        }
        Some(wake_ms.min(until))
    }

    /// In how many milliseconds what is in the way may be gone, or one of its throttles lets a call through; `None`: time
    /// does not cure it.
    fn cured_in(&self, block: &Block, now: Now) -> Option<u64> {
        let throttled = self.soonest_throttle(block).and_then(|(short, _)| match short {
            Short::Busy { retry_ms, .. } => retry_ms,
            _ => None,
        });
        throttled.into_iter().chain(self.has_room_in(block, now)).min()
    }

    fn has_room_in(&self, block: &Block, now: Now) -> Option<u64> {
        let quota = self.quota(block)?;
        let stands = self.standing(block)?;
        let short = match block.funds {
            true => self.funds_lack(self.asked(quota, self.floor)),
            false => None,
        };
        match short.unwrap_or_else(|| lack(quota, String::new(), Some(stands), self.asked(quota, self.floor))) {
            Short::Busy { retry_ms, .. } => Some(match quota.quota.window {
                Window::Bucket { .. } => retry_ms.unwrap_or(LOOK_MS),
                _ => LOOK_MS,
            }),
            Short::Exhausted { standing, .. } if standing.resets_ms > now.wall_ms => {
                Some(standing.resets_ms.saturating_sub(now.wall_ms))
            }
            _ => None,
        }
    }
}
