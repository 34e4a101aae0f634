//! The hold of a stream, slice by slice.
//!
//! A plan may hold, of the output of a stream, only a slice: what is delivered comes near its end, and the hold is
//! extended by the next one. So a call that declares 32,000 tokens and uses 600 does not lock others out. What cannot be
//! extended is cut: nothing is delivered that is not held. Tokens here are output tokens of all choices together, by our
//! own count.

use std::collections::BTreeMap;

use crate::engine::admission::Want;
use crate::engine::bill::{self, Bill, Borne, Size, held_amount};
use crate::meter::call::Call;
use crate::meter::dialect::Dialect;
use crate::policy::bundle::{Plan, PlanQuota, Role, StreamHold};
use crate::policy::price::Price;
use crate::policy::unit::Consumed;
use crate::quota::{HeldLevel, HeldLine, Level, QuotaId, Standing};

/// No limit.
const NONE: u64 = u64::MAX;

/// How much of a stream's output is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slices {
    /// Output tokens that are held.
    pub held: u64,
    /// Output tokens that the call may have at most, if the provider heeds its limit. [`NONE`]: it was told none.
    limit: u64,
    slice: u64,
    /// Output tokens of the hold that are kept for a call of a tool which is under way at the cut.
    grace: u64,
}

impl Slices {
    /// The first slice of a call that was admitted with this `size`. `None`: all of it is held.
    ///
    /// Nobody knows how to tell an answer in an unknown format its limit, so that there is none: it is held in slices of
    /// what is assumed where no limit is stated, whatever the plan says of streams.
    pub fn first(plan: &Plan, call: &Call, size: &Size) -> Option<Self> {
        let limit = size.output.saturating_mul(size.choices.max(1));
        if call.dialect == Dialect::Bytes {
            return Some(Self { held: limit, limit: NONE, slice: limit.max(1), grace: 0 });
        }
        let StreamHold::Slices { slice, grace, .. } = plan.hold.stream else { return None };
        let grace = if call.tools { grace } else { 0 };
        call.can_be_cut().then(|| Self { held: limit.min(slice.saturating_add(grace)), limit, slice, grace })
    }

    /// The size of a call of which so much is held.
    pub fn size(&self, size: &Size) -> Size {
        sized(size, self.held)
    }

    /// Output tokens that may be delivered. Of a hold that reaches the limit all: then the provider ends the call.
    pub fn allowance(&self) -> u64 {
        self.held.saturating_sub(self.reserve(self.held))
    }

    /// Output tokens by which a call of a tool may end beyond that.
    pub fn grace(&self) -> u64 {
        self.reserve(self.held)
    }

    fn reserve(&self, held: u64) -> u64 {
        if held >= self.limit { 0 } else { self.grace }
    }

    /// Whether so many delivered tokens come near to what is allowed: half a slice.
    pub fn is_near(&self, delivered: u64) -> bool {
        self.held < self.limit && delivered.saturating_add(self.slice / 2) >= self.allowance()
    }

    /// The next hold: from the least that lets `needs` tokens be delivered to a whole slice more. Of bytes any part can be
    /// delivered.
    fn next(&self, needs: u64) -> (u64, u64) {
        if self.limit == NONE {
            let least = self.held.saturating_add(1);
            return (least, self.held.saturating_add(self.slice).max(needs).max(least));
        }
        let least = needs.saturating_add(self.reserve(needs)).min(needs.max(self.limit));
        let whole = self.held.saturating_add(self.slice);
        let most = if self.held < self.limit { whole.min(self.limit) } else { whole };
        (least, most.max(least))
    }
}

/// Whether the accounts can pay for more of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// They can: the hold then covers `held` output tokens, and `more` is to be held for that, of which a fund may bear
    /// what none has.
    Made { held: u64, more: Vec<Level>, borne: Option<Borne> },
    /// The ledger may have more than it has granted here.
    Wants(Vec<Want>),
    /// They cannot.
    Not,
}

/// What is known of the call.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub price: &'a Price,
    pub size: &'a Size,
    /// The size of which what is held now was asked: less was expected of it then, perhaps.
    pub before: &'a Size,
    pub held: &'a [HeldLevel],
    /// How far the policy lets quotas be passed.
    pub over: &'a BTreeMap<QuotaId, u64>,
}

/// `size` with so many output tokens, all choices together.
fn sized(size: &Size, output: u64) -> Size {
    Size { output, expected: size.expected.of_choices(size.choices.max(1)), choices: 1, ..*size }
}

/// What a quota is asked for when so many output tokens are held.
fn asked(quota: &PlanQuota, price: &Price, size: &Size, output: u64) -> u64 {
    bill::asked(quota, &sized(size, output), price)
}

/// Makes of `levels`, which hold all of a call, the hold of its first slice. Of several funds the first give it, and last
/// the one that bears what none has. Answers what it bears then.
pub(super) fn shrink(
    bill: &Bill<'_>,
    price: &Price,
    size: &Size,
    slices: &Slices,
    levels: &mut [Level],
    borne: Option<Borne>,
) -> Option<Borne> {
    let mut rest: Option<u64> = None;
    for quota in &bill.quotas {
        let subject = bill.subject(quota.per);
        let mut lines = levels.iter_mut().filter(|level| level.subject == subject).flat_map(|level| &mut level.lines);
        let Some(line) = lines.find(|line| line.quota.id == quota.quota.id) else { continue };
        let asked = asked(quota, price, size, slices.held);
        line.amount = match quota.role {
            Role::Cap => asked.min(line.amount),
            Role::Fund => {
                let left = rest.unwrap_or(asked);
                let share = left.min(line.amount.saturating_sub(Borne::of(borne, quota)));
                rest = Some(left.saturating_sub(share));
                share
            }
        };
    }
    let borne = borne.map(|all| Borne { amount: all.amount.min(rest.unwrap_or(0)), ..all })?;
    let mut lines = levels.iter_mut().flat_map(|level| &mut level.lines);
    if let Some(line) = lines.find(|line| line.quota.id == borne.by) {
        line.amount = line.amount.saturating_add(borne.amount);
    }
    Some(borne).filter(|borne| borne.amount > 0)
}

/// Lines of nothing for the funds of a bill that `levels` does not touch: an extension may take from them.
pub(super) fn further(bill: &Bill<'_>, levels: &[Level]) -> Vec<Level> {
    let held = |quota: &PlanQuota| {
        let own = levels.iter().filter(|level| level.subject == bill.subject(quota.per)).flat_map(|level| &level.lines);
        own.into_iter().any(|line| line.quota.id == quota.quota.id)
    };
    let may: Vec<usize> = paying(bill, held).into_iter().filter(|(_, quota)| !held(quota)).map(|(at, _)| at).collect();
    bill.levels(|at, _| may.contains(&at).then_some((0, 0)))
}

/// What a call came to beyond what is held of its funds.
pub(super) struct Excess {
    /// What they have of that, each in its turn; and where they do not have it all here a line of nothing for the one that is
    /// charged the rest, so that this is in a window that is known.
    pub more: Vec<Level>,
    /// The one that is charged the rest, because the ledger has it for that one; `None`: the one that bears what nobody has.
    pub by: Option<QuotaId>,
    /// What the ledger may have of the rest, where that matters to who pays it.
    pub wants: Vec<Want>,
}

/// Looks for that. `standing`: as in [`room`].
pub(super) fn excess(
    bill: &Bill<'_>,
    consumed: &Consumed,
    price: &Price,
    held: &[HeldLevel],
    standing: &mut dyn FnMut(&str, &PlanQuota, u64) -> Option<Standing>,
) -> Excess {
    let held_of = |quota: &PlanQuota| held_amount(held, &bill.subject(quota.per), quota.quota.id);
    let funds = paying(bill, |quota| held_of(quota).is_some());
    let all = funds.iter().filter_map(|(_, quota)| held_of(quota)).fold(0, u64::saturating_add);
    let cost = funds.first().map_or(0, |(_, quota)| quota.unit.amount(consumed, price));
    let (mut rest, mut need) = (cost.saturating_sub(all), cost.saturating_sub(all));
    let (mut shares, mut known, mut wants, mut payer) = (Vec::new(), Vec::new(), Vec::new(), None);
    let only = funds.len() == 1;
    for (at, quota) in funds.into_iter().filter(|_| cost > all) {
        let subject = bill.subject(quota.per);
        let pinned = pinned(held, &subject, quota.quota.id);
        let pan = Pan { at, quota, pinned: pinned > 0, stands: standing(&subject, quota, pinned), over: 0 };
        let share = rest.min(pan.has());
        rest = rest.saturating_sub(share);
        shares.push((at, share));
        known.extend(pan.stands.map(|_| at));
        if pan.could() >= need {
            payer = Some(at);
            break;
        }
        wants.extend(pan.want(bill, need).filter(|_| !only));
        need = need.saturating_sub(pan.could());
    }
    let bearer = bill.bearer(&known, None).filter(|at| bill.quotas.get(*at).is_some_and(|quota| quota.begins_anew()));
    let by = payer.or(bearer).filter(|_| rest > 0);
    let more = bill.levels(|at, quota| {
        let share = shares.iter().find(|(of, _)| *of == at).map_or(0, |(_, share)| *share);
        (share > 0 || by == Some(at) && held_of(quota).is_none()).then_some((share, 0))
    });
    let by = payer.filter(|_| rest > 0).and_then(|at| bill.quotas.get(at)).map(|quota| quota.quota.id);
    Excess { more, by, wants }
}

/// One quota on the scale.
struct Pan<'a> {
    at: usize,
    quota: &'a PlanQuota,
    /// It is held in a window already, and extended in that.
    pinned: bool,
    stands: Option<Standing>,
    over: u64,
}

impl Pan<'_> {
    /// What there is.
    fn has(&self) -> u64 {
        self.stands.map_or(0, |stands| stands.free())
    }

    /// The same, and how far it may be passed.
    fn free(&self) -> u64 {
        let Some(stands) = self.stands else { return 0 };
        if self.over == u64::MAX {
            return u64::MAX;
        }
        stands.free_with(self.over)
    }

    /// What the ledger could still grant, as it last said.
    fn left(&self) -> u64 {
        self.stands.filter(|_| self.quota.quota.granted).map_or(0, |stands| stands.ledger_left)
    }

    /// What there is here and with the ledger, as that last said, less what was used beyond a grant since.
    fn could(&self) -> u64 {
        let Some(stands) = self.stands else { return 0 };
        let all = stands.granted.saturating_add(self.left());
        all.saturating_sub(stands.spent().saturating_add(stands.held))
    }

    /// What the ledger should be asked for, if it may have it.
    fn want(&self, bill: &Bill<'_>, need: u64) -> Option<Want> {
        let stands = self.stands.unwrap_or_default();
        let may = self.quota.quota.granted && self.stands.map_or(!self.pinned, |stands| stands.ledger_left > 0);
        (may && self.free() < need).then(|| Want {
            subject: bill.subject(self.quota.per),
            quota: self.quota.quota.id,
            missing: need.saturating_add(stands.spent()).saturating_add(stands.held).saturating_sub(stands.granted),
        })
    }
}

/// Looks for room so that `needs` output tokens can be delivered. `standing` is asked how a quota stands in the window
/// that it is held in, by its start; 0: in the one that runs.
pub(super) fn room(
    bill: &Bill<'_>,
    known: Known<'_>,
    slices: &Slices,
    needs: u64,
    standing: &mut dyn FnMut(&str, &PlanQuota, u64) -> Option<Standing>,
) -> Room {
    let Known { price, size, before, .. } = known;
    let more = |quota: &PlanQuota, held: u64| {
        asked(quota, price, size, held).saturating_sub(asked(quota, price, before, slices.held))
    };
    let (least, most) = slices.next(needs);
    let (mut held, mut wants, mut blocked) = (most, Vec::new(), false);
    let is_held = |quota: &PlanQuota| held_amount(known.held, &bill.subject(quota.per), quota.quota.id).is_some();
    let mut pan = |at: usize, quota| {
        let over = known.over.get(&quota_id(quota)).copied().unwrap_or(0);
        let subject = bill.subject(quota.per);
        let pinned = pinned(known.held, &subject, quota.quota.id);
        Pan { at, quota, pinned: pinned > 0, stands: standing(&subject, quota, pinned), over }
    };
    let caps = bill.quotas.iter().enumerate().filter(|(_, quota)| quota.role == Role::Cap && is_held(quota));
    for (at, quota) in caps {
        let whole = more(quota, most);
        if whole == 0 {
            continue;
        }
        let pan = pan(at, quota);
        wants.extend(pan.want(bill, whole));
        match largest(least, held, |held| more(quota, held) <= pan.free()) {
            Some(fits) => held = fits,
            None => blocked = true,
        }
    }
    let funds: Vec<Pan<'_>> = paying(bill, is_held).into_iter().map(|(at, quota)| pan(at, quota)).collect();
    if let Some(first) = funds.first() {
        let mut need = more(first.quota, most);
        for fund in &funds {
            wants.extend(fund.want(bill, need));
            need = need.saturating_sub(fund.free().saturating_add(fund.left()));
        }
        let free = funds.iter().fold(0_u64, |sum, fund| sum.saturating_add(fund.free()));
        match largest(least, held, |held| more(first.quota, held) <= free) {
            Some(fits) => held = fits,
            None => blocked = true,
        }
    }
    if blocked {
        return if wants.is_empty() { Room::Not } else { Room::Wants(wants) };
    }
    let (shares, borne) = shares(&funds, funds.first().map_or(0, |first| more(first.quota, held)));
    let over = |quota: &PlanQuota| known.over.get(&quota.quota.id).copied().unwrap_or(0);
    let levels = bill.levels(|at, quota| {
        let amount = match quota.role {
            Role::Cap if is_held(quota) => more(quota, held),
            Role::Cap => 0,
            Role::Fund => shares.iter().find(|(of, _)| *of == at).map_or(0, |(_, share)| *share),
        };
        (amount > 0).then(|| (amount, over(quota)))
    });
    Room::Made { held, more: levels, borne }
}

fn quota_id(quota: &PlanQuota) -> QuotaId {
    quota.quota.id
}

/// The start of the window that a quota is held in; 0: it is not held, or has none.
fn pinned(held: &[HeldLevel], subject: &str, quota: QuotaId) -> u64 {
    let level = held.iter().find(|level| level.subject == subject);
    let line = level.and_then(|level| level.lines.iter().find(|line| line.quota == quota));
    line.map_or(0, HeldLine::begun)
}

/// The funds that the call draws on, in their order: those that follow each other and are in one unit with one that is
/// held. One of which a cap is not held cannot begin to pay.
fn paying<'b>(bill: &Bill<'b>, is_held: impl Fn(&PlanQuota) -> bool) -> Vec<(usize, &'b PlanQuota)> {
    let mut funds: Vec<(usize, &PlanQuota)> = Vec::new();
    let mut drawn = false;
    let may = |quota: &PlanQuota| is_held(quota) || may_pay(bill, quota, &is_held);
    for (at, quota) in bill.quotas.iter().enumerate().filter(|(_, quota)| quota.role == Role::Fund && may(quota)) {
        if funds.last().is_some_and(|(_, last)| last.unit != quota.unit) {
            if drawn {
                break;
            }
            funds.clear();
        }
        drawn |= is_held(quota);
        funds.push((at, *quota));
    }
    if drawn { funds } else { Vec::new() }
}

/// Whether a fund may pay a part of a call: all caps of it were held when the call was admitted.
fn may_pay(bill: &Bill<'_>, fund: &PlanQuota, is_held: impl Fn(&PlanQuota) -> bool) -> bool {
    bill.quotas.iter().filter(|cap| cap.of == Some(fund.quota.id)).all(|cap| is_held(cap))
}

/// How much each of the funds gives of `rest`: the first what it has, and so on; and what the one bears that may be passed.
fn shares(funds: &[Pan<'_>], mut rest: u64) -> (Vec<(usize, u64)>, Option<Borne>) {
    let mut shares = Vec::with_capacity(funds.len());
    for fund in funds {
        let share = rest.min(fund.has());
        rest = rest.saturating_sub(share);
        shares.push((fund.at, share));
    }
    let mut borne = None;
    for (fund, (_, share)) in funds.iter().zip(&mut shares).rev() {
        let amount = rest.min(fund.free().saturating_sub(fund.has()));
        rest = rest.saturating_sub(amount);
        if amount > 0 {
            *share = share.saturating_add(amount);
            borne = Some(Borne { by: fund.quota.quota.id, amount });
        }
    }
    (shares, borne)
}

/// The largest of `least..=most` that fits, where all below one that fits do too.
fn largest(least: u64, most: u64, fits: impl Fn(u64) -> bool) -> Option<u64> {
    if !fits(least) {
        return None;
    }
    let (mut good, mut bad) = (least, most.saturating_add(1));
    while bad.saturating_sub(good) > 1 {
        let middle = good.saturating_add(bad.saturating_sub(good) / 2);
        if fits(middle) { good = middle } else { bad = middle }
    }
    Some(good)
}

/// Adds what an extension holds, of accounts and quotas perhaps that nothing was held of before.
pub(super) fn add(held: &mut Vec<HeldLevel>, more: &[HeldLevel]) {
    for level in more {
        let Some(known) = held.iter_mut().find(|known| known.subject == level.subject) else {
            held.push(level.clone());
            continue;
        };
        for line in &level.lines {
            match known.lines.iter_mut().find(|known| known.quota == line.quota) {
                Some(known) => known.amount = known.amount.saturating_add(line.amount),
                None => known.lines.push(line.clone()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Slices, largest};

    const FIRST: Slices = Slices { held: 110, limit: 1_000, slice: 100, grace: 10 };

    #[test]
    fn the_grace_is_kept_until_the_hold_reaches_the_limit() {
        assert_eq!((FIRST.allowance(), FIRST.grace()), (100, 10));
        let last = Slices { held: 1_000, ..FIRST };
        assert_eq!((last.allowance(), last.grace()), (1_000, 0));
    }

    #[test]
    fn a_hold_grows_by_a_slice_and_not_beyond_the_limit_unless_it_must() {
        assert_eq!(FIRST.next(101), (111, 210));
        assert_eq!(FIRST.next(250), (260, 260));
        assert_eq!(Slices { held: 950, ..FIRST }.next(941), (951, 1_000));
        assert_eq!(Slices { held: 950, ..FIRST }.next(995), (1_000, 1_000));
        // An upstream that does not heed its limit, or counts otherwise.
        assert_eq!(Slices { held: 1_000, ..FIRST }.next(1_001), (1_001, 1_100));
    }

    #[test]
    fn the_next_slice_is_wanted_before_this_one_ends() {
        assert!(!FIRST.is_near(49) && FIRST.is_near(50));
        assert!(!Slices { held: 1_000, ..FIRST }.is_near(999), "there is none");
    }

    #[test]
    fn the_largest_that_fits() {
        for most in 3..40 {
            for bound in 0..40 {
                let expected = (3..=most).filter(|n| *n <= bound).max();
                assert_eq!(largest(3, most, |n| n <= bound), expected);
            }
        }
    }
}
