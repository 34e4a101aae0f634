//! What the policy does instead of a refusal, and how the scale stands after it.

use super::{Block, How, LOOK_MS, NOWHERE, Patience, Scale, Stands, Throttle, lack, note};
use crate::now::Now;
use crate::policy::bundle::{PlanQuota, Relief, Role};
use crate::quota::{Short, Window};

impl<'b> Scale<'_, 'b> {
    /// The next relief for what is in the way, and its place in the list. It is used up then.
    pub(super) fn next_relief(&mut self, block: &Block) -> Option<(usize, &'b Relief)> {
        let index = if block.funds { self.bill.quotas.len() } else { block.at };
        let steps: &'b [Relief] = match block.funds {
            true => &self.bill.plan.empty,
            false => self.bill.quotas.get(block.at).map(|quota| quota.full.as_slice()).unwrap_or_default(),
        };
        // A throttle's own bucket has no relief.
        let next = self.used_up.get_mut(index)?;
        if block.at >= self.bill.quotas.len() && !block.funds {
            return None;
        }
        let step = steps.get(*next)?;
        let at = *next;
        *next = next.saturating_add(1);
        Some((at, step))
    }

    /// Lets the call pass the quota by `most` micro-units in all. Of funds the last one bears it.
    pub(super) fn let_pass(&mut self, block: &Block, most: u64, how: How, patience: &mut Patience) {
        if block.at == NOWHERE {
            // Nothing is there that could bear it, so it is merely seen, or refused.
            if how == How::Observed {
                self.unfunded = false;
                note(patience, how, None);
            }
            return;
        }
        let last = self.segments().into_iter().flatten().next_back();
        let at = match (block.funds, last) {
            (false, _) => block.at,
            (true, Some(last)) => last,
            // All were passed over for a cap of theirs. What has no bound lets them pay in spite of it; a bound is one of
            // funds, and says nothing of a cap, which may be in another unit.
            (true, None) if most == u64::MAX => return self.take_back(how, patience),
            (true, None) => return,
        };
        if let Some(over) = self.over.get_mut(at) {
            *over = (*over).max(most);
        }
        note(patience, how, self.bill.quotas.get(block.at).copied());
    }

    /// Lets a call pass that is only seen. An overage is a debt all the same, and another fund pays; what would have had to
    /// wait or to go to another model would have been refused as it is.
    pub(super) fn let_see(&mut self, block: &Block, patience: &mut Patience) {
        loop {
            match self.next_relief(block) {
                Some((_, Relief::Overage(most))) => return self.let_pass(block, *most, How::Overage, patience),
                Some((_, Relief::NextFund)) => return self.skip_fund(block),
                None | Some((_, Relief::Observe | Relief::Throttle(_))) => {
                    return self.let_pass(block, u64::MAX, How::Observed, patience);
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
    pub(super) fn take_back(&mut self, how: How, patience: &mut Patience) {
        for (_, cap) in std::mem::take(&mut self.skipped) {
            if let Some(over) = self.over.get_mut(cap) {
                *over = u64::MAX;
            }
            note(patience, how, self.bill.quotas.get(cap).copied());
        }
    }

    pub(super) fn throttle(
        &mut self,
        block: &Block,
        bucket: &PlanQuota,
        patience: &mut Patience,
        standing: &mut Stands<'_>,
    ) {
        self.let_pass(block, u64::MAX, How::Throttled, patience);
        let stands = standing(&self.bill.subject(bucket.per), bucket, self.asked(bucket, self.floor));
        self.throttles.push(Throttle { of: block.at, bucket: bucket.clone(), stands });
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

    /// In how many milliseconds what is in the way may be gone; `None`: time does not cure it.
    pub(super) fn cured_in(&self, block: &Block, now: Now) -> Option<u64> {
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
