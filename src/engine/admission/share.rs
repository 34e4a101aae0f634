//! How far the output limit of a call is lowered so that others find room.
//!
//! A call declares an output limit and holds all of it, although most use little of theirs. One with a huge limit can so
//! hold all that an account has left, and whoever comes meanwhile is turned away. To lower its limit may cost its caller the
//! end of an answer, and that is worse than to have others come again in a second. So it is done where it is likely to cost
//! nothing, and only there:
//!
//! - What a call asks for it gets, whatever it leaves, as long as nothing else is held on the account and all of it fits:
//!   nobody is known to need the rest.
//! - If others hold there, or the account does not have what it asks for (and its limit would be lowered anyway), it gets
//!   no more than half of what is left. What is left halves with each such call, and so there is always something.
//! - No limit is lowered for the sake of others to less than four times what calls of the model lately wrote, nor below
//!   `unstated_output`, which the plan takes for enough: an answer that is longer than that is rare, and the last tokens of
//!   an account are for whoever comes. Where not even so much is left there is nothing to share: what a relief lets pass is
//!   not made shorter by it.
//! - Nor where the dialect forbids it, as below a budget for thinking, nor below `shrink_to`.
//!
//! It is a matter of funds and caps that hold the worst case, over windows. One that holds what is expected needs no more
//! than is used; a stream held in slices needs a slice; a bucket fills again by itself. Of several funds that pay a call
//! together it is what they have together.

use super::Scale;
use crate::engine::expectation::Expected;
use crate::meter::call::Call;
use crate::policy::bundle::{HoldSize, Plan, PlanQuota, StreamHold};
use crate::quota::Window;

/// Of what is left, the part that a call may take at most while others are there: one of so many.
const PART: u64 = 2;
/// Answers longer than so many times those that calls of the model lately had are rare.
const RARE: u64 = 4;

/// Output tokens, of each choice, below which the limit of a call is not lowered for the sake of others. `u64::MAX`: it is
/// not lowered at all.
pub fn enough(plan: &Plan, call: &Call, expected: Expected) -> u64 {
    let sliced = matches!(plan.hold.stream, StreamHold::Slices { .. }) && call.can_be_cut();
    if sliced || !plan.hold.shares {
        return u64::MAX;
    }
    plan.hold.unstated_output.max(expected.output().saturating_mul(RARE))
}

impl Scale<'_, '_> {
    /// The output limit that leaves something for others.
    pub(super) fn fair(&self) -> u64 {
        let declared = self.size.output;
        let least = self.floor.max(self.size.enough);
        if self.observe || declared <= least {
            return declared;
        }
        let caps = self.plain_caps().map(|(at, _)| self.fair_of(&[at], least));
        // The funds pay that can pay most.
        let funds = self.segments().iter().map(|segment| self.fair_of(segment, least)).max();
        caps.chain(funds).min().unwrap_or(declared)
    }

    /// The same on account of some quotas that pay together.
    fn fair_of(&self, members: &[usize], least: u64) -> u64 {
        let declared = self.size.output;
        let Some(first) = members.first().and_then(|at| self.bill.quotas.get(*at)) else { return declared };
        let (mut left, mut held) = (0_u64, 0_u64);
        for at in members {
            let (Some(quota), Some(stands)) = (self.bill.quotas.get(*at), self.stands.get(*at)) else { continue };
            // Nobody knows what there is to be shared before the ledger has spoken.
            let Some(stands) = stands.filter(|_| is_shared(quota)) else { return declared };
            left = left.saturating_add(stands.left(&quota.quota));
            held = held.saturating_add(stands.held);
        }
        let asked = self.asked(first, declared);
        let least_asked = self.asked(first, least);
        let matters = least_asked < asked && least_asked <= left;
        if !matters || asked <= left / PART || held == 0 && asked <= left {
            return declared;
        }
        self.largest_from(first, left / PART, least).unwrap_or(least)
    }
}

/// Whether calls hold of it what they may come to, for as long as they run.
fn is_shared(quota: &PlanQuota) -> bool {
    let runs = !matches!(quota.quota.window, Window::Bucket { .. } | Window::Concurrent);
    runs && quota.hold == HoldSize::Worst
}

#[cfg(test)]
#[path = "share_tests.rs"]
mod tests;
