//! Whether the accounts can pay for a call, with which output limit, and what happens where they cannot.
//!
//! Pure arithmetic over a [`Bill`] and the standing of its accounts. Everything here happens before anything is
//! written, so that a refusal leaves no trace.
//!
//! First the output limit is lowered, where that leaves room for others (`share`). Caps must all take the call; one that is of a fund, if that fund pays. Of the funds one must pay, or several that
//! follow each other and are in one unit: then the call is split at the boundary, the first giving what it has. Where
//! something is in the way, the policy's reliefs are tried in the order in which they are written.

mod ample;
mod fit;
mod relief;
mod share;
mod short;
mod together;

use crate::engine::bill::{self, Bill, Borne, Size};
use crate::now::Now;
use crate::policy::bundle::{PlanQuota, Relief, Role};
use crate::policy::price::Price;
use crate::policy::unit::Unit;
use crate::quota::{Level, QuotaId, Short, Standing};
pub use ample::with_ample_room;
pub use share::enough;
use short::lack;

/// What the accounts say to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It fits.
    Fits(Fit),
    /// The ledger may have more than it has granted here: worth one fetch.
    Wants(Vec<Want>),
    /// It may fit later, and the policy lets it wait.
    Waits {
        /// When to look again, by the monotonic clock.
        wake_ms: u64,
    },
    /// The policy sends it to this model instead: weigh it as that.
    Downgrade(String),
    /// The plan has funds, and none of them takes this call: packs that have ended, funds of other models.
    Unfunded,
    /// It does not fit, not even shrunk.
    Short {
        /// Which quota is in the way, and why.
        short: Short,
        /// Micro-units of that quota that the smallest useful call would need.
        needed: u64,
    },
}

/// How a call is admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fit {
    /// Output tokens a choice, perhaps fewer than declared.
    pub output: u64,
    /// What to hold.
    pub levels: Vec<Level>,
    /// Of what is held of funds, what none of them has.
    pub borne: Option<Borne>,
    /// What the policy let pass, as far as it took effect.
    pub passed: Vec<Passed>,
}

/// A relief that took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// What it was.
    pub how: How,
    /// The quota that was in the way.
    pub quota: String,
}

/// Which relief took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It would have been refused, had the quota been enforced.
    Observed,
    /// It goes beyond the quota, as debt.
    Overage,
    /// It goes beyond the quota, at a slower pace.
    Throttled,
    /// It was sent to another model.
    Downgraded,
    /// It had to wait.
    Waited,
    /// Another fund pays than the one whose cap was in the way.
    NextFund,
    /// It was sent to another model, because the upstream of the one that stands in the place of the quota is down or
    /// throttles.
    FellBack,
}

impl How {
    /// Its name in records and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Observed => "observed",
            Self::Overage => "overage",
            Self::Throttled => "throttled",
            Self::Downgraded => "downgraded",
            Self::Waited => "waited",
            Self::NextFund => "next_fund",
            Self::FellBack => "fell_back",
        }
    }
}

/// Micro-units wanted of one quota beyond what is granted here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// The account.
    pub subject: String,
    /// The quota.
    pub quota: QuotaId,
    /// Micro-units missing.
    pub missing: u64,
}

/// What has been tried for one call so far. It outlives a wait.
#[derive(Clone, Debug, Default)]
pub struct Patience {
    /// Until when a quota's wait lasts, by the quota, the step and the monotonic clock.
    waits: Vec<(QuotaId, usize, u64)>,
    /// What took effect already: waits, and other models.
    pub passed: Vec<Passed>,
    /// The models that the call was sent to.
    pub models: Vec<String>,
}

/// The moment of a weighing.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// What the clocks say.
    pub now: Now,
    /// There is no time left to ask the ledger: what is granted now is all there is.
    pub last: bool,
    /// Everything is decided and nothing enforced.
    pub observe: bool,
}

/// How a quota of an account stands for a call that asks for so many micro-units; `None`: nothing is known of it.
pub type Stands<'a> = dyn FnMut(&str, &PlanQuota, u64) -> Option<Standing> + 'a;

/// How often a call that waits for others looks again, in milliseconds.
const LOOK_MS: u64 = 100;
/// How soon a seat that merely waits for others may try again, in milliseconds.
const SOON_MS: u64 = 1_000;

/// Weighs a call against its bill.
///
/// `can_go_to` tells whether the call can be sent to another model.
pub fn weigh(
    bill: &Bill<'_>,
    price: &Price,
    size: &Size,
    moment: Moment,
    patience: &mut Patience,
    standing: &mut Stands<'_>,
    can_go_to: &dyn Fn(&str) -> bool,
) -> Verdict {
    let mut scale = Scale::new(bill, price, size, moment.observe, standing);
    // Each round uses up one relief, or ends.
    loop {
        // What is refused anyway asks the ledger for nothing: a first-use window would open for it.
        if let Some(block) = scale.refused() {
            return scale.short(&block);
        }
        let wants = scale.wants();
        let blocked = scale.blocked();
        if !wants.is_empty() && !moment.last && !blocked.as_ref().is_some_and(|block| scale.is_hopeless(block)) {
            return Verdict::Wants(wants);
        }
        let Some(block) = blocked else { break };
        if moment.observe {
            scale.let_see(&block);
            continue;
        }
        if scale.withdraw_throttle(&block) {
            continue;
        }
        match scale.next_relief(&block) {
            None | Some((_, Relief::Deny)) => return scale.short(&block),
            Some((_, Relief::Observe)) => drop(scale.let_pass(&block, None, How::Observed)),
            Some((_, Relief::Overage(most, unit))) => {
                drop(scale.let_pass(&block, Some((*most, *unit)), How::Overage));
            }
            Some((_, Relief::NextFund)) => scale.skip_fund(&block),
            Some((_, Relief::Throttle(bucket))) => scale.throttle(&block, bucket, standing),
            Some((step, Relief::Wait(ms))) => {
                if let Some(wake_ms) = scale.wait(&block, (step, *ms), moment.now, patience) {
                    return Verdict::Waits { wake_ms };
                }
            }
            Some((_, Relief::Downgrade(model))) => {
                if !patience.models.contains(model) && can_go_to(model) {
                    patience.models.push(model.clone());
                    note(patience, How::Downgraded, scale.quota(&block));
                    return Verdict::Downgrade(model.clone());
                }
            }
        }
    }
    Verdict::Fits(scale.fit(patience))
}

fn note(patience: &mut Patience, how: How, quota: Option<&PlanQuota>) {
    let passed = Passed { how, quota: quota.map_or("funds", |quota| &quota.name).to_owned() };
    if !patience.passed.contains(&passed) {
        patience.passed.push(passed);
    }
}

/// What is in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Block {
    /// The quota that is named, by its place in the bill (or behind it, among the throttles).
    at: usize,
    /// Whether it stands for all funds.
    funds: bool,
}

/// The place of the fund that is missing.
const NOWHERE: usize = usize::MAX;

/// A relief that lets a call go on at its pace.
struct Throttle {
    /// Whose relief it is, by the list of reliefs that it stands in.
    of: usize,
    /// What the call takes from, and how that stands.
    bucket: PlanQuota,
    stands: Option<Standing>,
    lifted: Lifted,
}

/// What a relief changed that lets a call pass, as it was before.
#[derive(Default)]
struct Lifted {
    /// How far quotas could be passed, by their places.
    over: Vec<(usize, u64)>,
    /// Funds that did not pay.
    skipped: Vec<(usize, usize)>,
}

/// A relief that lets a call pass.
struct Let {
    how: How,
    /// The list of reliefs that it stands in.
    of: usize,
    /// The quota that was in the way, by its place.
    at: usize,
    /// The one that is passed.
    by: usize,
}

impl Throttle {
    fn free(&self) -> u64 {
        self.stands.as_ref().map_or(0, Standing::free)
    }
}

/// One call on the scale.
struct Scale<'a, 'b> {
    bill: &'a Bill<'b>,
    price: &'a Price,
    /// With the output limit that leaves something for others.
    size: Size,
    floor: u64,
    /// Nothing is refused or shortened, and all is charged as if it were.
    observe: bool,
    /// The plan has funds and the bill has none, and that is in the way.
    unfunded: bool,
    /// How each quota of the bill stands.
    stands: Vec<Option<Standing>>,
    /// How far the policy lets each be passed.
    over: Vec<u64>,
    /// Funds that do not pay this call, and the cap that was in the way, by their places.
    skipped: Vec<(usize, usize)>,
    /// What slows the call down.
    throttles: Vec<Throttle>,
    /// What would have, and has no room itself.
    withdrawn: Vec<Throttle>,
    /// What lets the call pass.
    lets: Vec<Let>,
    /// Reliefs used up: of each quota, and last of the funds together.
    used_up: Vec<usize>,
}

impl<'a, 'b> Scale<'a, 'b> {
    fn new(bill: &'a Bill<'b>, price: &'a Price, size: &'a Size, observe: bool, standing: &mut Stands<'_>) -> Self {
        let floor = bill.plan.hold.shrink_to.min(size.output).max(size.floor);
        let least = Size { output: floor, ..*size };
        let stands = bill.quotas.iter().map(|quota| {
            let asked = bill::asked(quota, &least, price);
            standing(&bill.subject(quota.per), quota, asked)
        });
        let stands = stands.collect();
        let plan_has_funds =
            bill.plan.quotas.iter().any(|quota| quota.role == Role::Fund) || !bill.plan.packs.is_empty();
        let mut scale = Self {
            bill,
            price,
            size: *size,
            observe,
            unfunded: plan_has_funds && bill.quotas.iter().all(|quota| quota.role != Role::Fund),
            floor,
            stands,
            over: vec![0; bill.quotas.len()],
            skipped: Vec::new(),
            throttles: Vec::new(),
            withdrawn: Vec::new(),
            lets: Vec::new(),
            used_up: vec![0; bill.quotas.len().saturating_add(1)],
        };
        scale.size.output = scale.fair();
        scale
    }

    /// What `quota` is asked for with this output limit.
    fn asked(&self, quota: &PlanQuota, output: u64) -> u64 {
        bill::asked(quota, &Size { output, ..self.size }, self.price)
    }

    fn over(&self, at: usize) -> u64 {
        self.over.get(at).copied().unwrap_or(0)
    }

    /// Micro-units that quota `at` has now.
    fn has(&self, at: usize) -> u64 {
        self.stands.get(at).and_then(|stands| *stands).map_or(0, |stands| stands.free())
    }

    /// Micro-units that quota `at` can give now.
    fn free(&self, at: usize) -> u64 {
        if self.over(at) == u64::MAX {
            return u64::MAX;
        }
        let Some(Some(stands)) = self.stands.get(at) else { return 0 };
        stands.free_with(self.over(at))
    }

    /// The caps that must take the call: of those that are of a fund, the ones whose fund gives a share.
    fn caps(&self) -> impl Iterator<Item = (usize, &'b PlanQuota)> + '_ {
        let paying = match self.bill.quotas.iter().any(|quota| quota.of.is_some()) {
            true => self.paying().map(|(segment, most)| self.shares(&segment, self.within(most, self.plain_caps()))),
            false => None,
        };
        let pays = move |fund: QuotaId| {
            let mut funds = paying.iter().flatten().filter_map(|(at, _)| self.bill.quotas.get(*at));
            funds.any(|quota| quota.quota.id == fund)
        };
        self.all_caps().filter(move |(_, quota)| quota.of.is_none_or(&pays))
    }

    fn all_caps(&self) -> impl Iterator<Item = (usize, &'b PlanQuota)> + '_ {
        self.bill.quotas.iter().enumerate().filter(|(_, quota)| quota.role == Role::Cap).map(|(at, quota)| (at, *quota))
    }

    /// Those that are of no fund.
    fn plain_caps(&self) -> impl Iterator<Item = (usize, &'b PlanQuota)> + '_ {
        self.all_caps().filter(|(_, quota)| quota.of.is_none())
    }

    /// An output limit, lowered to what these caps and the throttles have.
    fn within(&self, mut output: u64, caps: impl Iterator<Item = (usize, &'b PlanQuota)>) -> u64 {
        if self.observe {
            return self.size.output;
        }
        for (at, quota) in caps.filter(|(at, _)| self.over(*at) < u64::MAX) {
            output = output.min(self.largest(quota, self.free(at)).unwrap_or(output));
        }
        for throttle in &self.throttles {
            output = output.min(self.largest(&throttle.bucket, throttle.free()).unwrap_or(output));
        }
        output
    }

    /// Funds that follow each other and are in one unit pay a call together.
    fn segments(&self) -> Vec<Vec<usize>> {
        let mut segments: Vec<(Unit, Vec<usize>)> = Vec::new();
        let funds = self.bill.quotas.iter().enumerate().filter(|(_, quota)| quota.role == Role::Fund);
        for (at, quota) in funds.filter(|(at, _)| !self.skipped.iter().any(|(fund, _)| fund == at)) {
            match segments.last_mut() {
                Some((unit, members)) if *unit == quota.unit => members.push(at),
                _ => segments.push((quota.unit, vec![at])),
            }
        }
        segments.into_iter().map(|(_, members)| members).collect()
    }

    fn segment_free(&self, segment: &[usize]) -> u64 {
        segment.iter().fold(0, |sum, at| sum.saturating_add(self.free(*at)))
    }

    /// The largest output limit for which `free` micro-units of `quota` suffice; `None`: not even the smallest useful.
    fn largest(&self, quota: &PlanQuota, free: u64) -> Option<u64> {
        self.largest_from(quota, free, self.floor)
    }

    /// The same, where `least` is the smallest.
    fn largest_from(&self, quota: &PlanQuota, free: u64, least: u64) -> Option<u64> {
        let fits = |output: u64| self.asked(quota, output) <= free;
        let declared = self.size.output.max(least);
        if fits(declared) {
            return Some(declared);
        }
        if !fits(least) {
            return None;
        }
        let (mut good, mut bad) = (least, declared);
        while bad.saturating_sub(good) > 1 {
            let middle = good.saturating_add(bad.saturating_sub(good) / 2);
            if fits(middle) { good = middle } else { bad = middle }
        }
        Some(good)
    }

    fn largest_of(&self, segment: &[usize]) -> Option<u64> {
        let first = segment.first().and_then(|at| self.bill.quotas.get(*at))?;
        self.largest(first, self.segment_free(segment))
    }

    /// The funds that pay: the first that can pay all of the call, else those that can pay most of it.
    fn paying(&self) -> Option<(Vec<usize>, u64)> {
        let mut best: Option<(Vec<usize>, u64)> = None;
        for segment in self.segments() {
            let Some(output) = self.largest_of(&segment) else { continue };
            if best.as_ref().is_none_or(|(_, most)| output > *most) {
                best = Some((segment, output));
            }
        }
        best
    }

    fn has_funds(&self) -> bool {
        self.bill.quotas.iter().any(|quota| quota.role == Role::Fund)
    }

    /// What the ledger should be asked for: all that is short of the whole call, fund by fund in their order.
    fn wants(&self) -> Vec<Want> {
        let mut wants = Vec::new();
        let of_funds = self.fund_wants();
        // Which fund pays, and so which caps of funds bind, is not known before those have answered.
        for (at, quota) in self.caps().filter(|(_, quota)| quota.of.is_none() || of_funds.is_empty()) {
            self.want(at, quota, self.asked(quota, self.size.output), &mut wants);
        }
        wants.extend(of_funds);
        self.want_together(&mut wants);
        wants
    }

    fn fund_wants(&self) -> Vec<Want> {
        let mut wants = Vec::new();
        // What a later fund could pay is asked of it only when those before it have nothing left.
        for segment in self.segments() {
            let Some(first) = segment.first().and_then(|at| self.bill.quotas.get(*at)) else { continue };
            let mut need = self.asked(first, self.size.output);
            for at in &segment {
                let Some(quota) = self.bill.quotas.get(*at) else { continue };
                self.want(*at, quota, need, &mut wants);
                let left = self.stands.get(*at).and_then(|stands| *stands).map_or(0, |stands| stands.ledger_left);
                let more = if quota.quota.granted { left } else { 0 };
                need = need.saturating_sub(self.free(*at).saturating_add(more));
                if need == 0 {
                    break;
                }
            }
            if need == 0 {
                break;
            }
        }
        wants
    }

    fn want(&self, at: usize, quota: &PlanQuota, need: u64, wants: &mut Vec<Want>) {
        if self.over(at) == u64::MAX {
            return;
        }
        let subject = || self.bill.subject(quota.per);
        match self.stands.get(at) {
            // Even a call that costs nothing here needs to know the window; a want of nothing would not be asked.
            Some(None) => wants.push(Want { subject: subject(), quota: quota.quota.id, missing: need.max(1) }),
            Some(Some(stands)) if quota.quota.granted && stands.ledger_left > 0 && self.free(at) < need => {
                // What is used beyond the grant is missing too: a want without it would bring nothing that is free.
                let needed = need.saturating_add(stands.spent()).saturating_add(stands.held);
                let missing = needed.saturating_sub(stands.granted);
                wants.push(Want { subject: subject(), quota: quota.quota.id, missing });
            }
            _ => {}
        }
    }

    /// The first quota that does not take the call; the funds together are one, named by the first.
    fn blocked(&self) -> Option<Block> {
        if self.unfunded {
            return Some(Block { at: NOWHERE, funds: true });
        }
        if self.has_funds() && self.paying().is_none() {
            return Some(Block { at: self.first_fund()?, funds: true });
        }
        let cap = self.caps().find(|(at, quota)| {
            let known = self.stands.get(*at).is_some_and(Option::is_some);
            self.over(*at) < u64::MAX && (!known || self.largest(quota, self.free(*at)).is_none())
        });
        if let Some((at, _)) = cap {
            return Some(Block { at, funds: false });
        }
        let full = |throttle: &Throttle| self.largest(&throttle.bucket, throttle.free()).is_none();
        let throttle = self.throttles.iter().position(full);
        throttle.map(|index| Block { at: self.bill.quotas.len().saturating_add(index), funds: false })
    }

    /// The first quota that does not take the call, whatever the ledger says of others, and that has no relief left.
    /// With a downgrade among the reliefs nobody can tell: it may be a call of another model in the end.
    fn refused(&self) -> Option<Block> {
        let downgrades = |reliefs: &[Relief]| reliefs.iter().any(|relief| matches!(relief, Relief::Downgrade(_)));
        if self.observe
            || downgrades(&self.bill.plan.empty)
            || self.bill.quotas.iter().any(|quota| downgrades(&quota.full))
        {
            return None;
        }
        let spent = |steps: &[Relief], index: usize| {
            let next = self.used_up.get(index).and_then(|next| steps.get(*next));
            next.is_none_or(|relief| matches!(relief, Relief::Deny))
        };
        let at = self.first_fund();
        let funds = Block { at: at.unwrap_or(NOWHERE), funds: true };
        let short = self.unfunded || at.is_some() && self.paying().is_none();
        if short && self.is_hopeless(&funds) && spent(&self.bill.plan.empty, self.bill.quotas.len()) {
            return Some(funds);
        }
        let full = |(at, quota): &(usize, &PlanQuota)| {
            let fits = |free| self.largest(quota, free).is_some();
            let full = match self.stands.get(*at) {
                Some(Some(_)) => self.is_hopeless(&Block { at: *at, funds: false }) && !fits(self.free(*at)),
                _ => !fits(most(quota)),
            };
            self.over(*at) < u64::MAX && full && spent(&quota.full, *at)
        };
        let mut caps = self.caps().filter(|(_, quota)| quota.of.is_none() || self.fund_wants().is_empty());
        caps.find(full).map(|(at, _)| Block { at, funds: false })
    }

    /// The fund that stands for all that may pay.
    fn first_fund(&self) -> Option<usize> {
        let is_fund = |quota: &&PlanQuota| quota.role == Role::Fund;
        let left = self.segments().into_iter().flatten().next();
        left.or_else(|| self.bill.quotas.iter().position(is_fund))
    }

    fn quota(&self, block: &Block) -> Option<&PlanQuota> {
        self.bill.quotas.get(block.at).copied().or_else(|| self.throttle_at(block).map(|throttle| &throttle.bucket))
    }

    fn standing(&self, block: &Block) -> Option<Standing> {
        match self.stands.get(block.at) {
            Some(stands) => *stands,
            None => self.throttle_at(block).and_then(|throttle| throttle.stands),
        }
    }

    /// The throttle that is in the way, if one is.
    fn throttle_at(&self, block: &Block) -> Option<&Throttle> {
        self.throttles.get(block.at.checked_sub(self.bill.quotas.len())?)
    }

    /// Whether a fetch would be in vain: what is in the way gets nothing from the ledger.
    fn is_hopeless(&self, block: &Block) -> bool {
        let dry = |at: usize| match (self.bill.quotas.get(at), self.stands.get(at)) {
            (Some(quota), Some(Some(stands))) => !quota.quota.granted || stands.ledger_left == 0,
            (Some(_), _) => false,
            _ => true,
        };
        match block.funds {
            true => self.segments().iter().flatten().all(|at| dry(*at)),
            // Another fund may pay than the one that it is of.
            false if self.quota(block).is_some_and(|quota| quota.of.is_some()) => {
                dry(block.at) && self.fund_wants().is_empty()
            }
            false => dry(block.at),
        }
    }
}

/// The most that a window of a quota ever has.
fn most(quota: &PlanQuota) -> u64 {
    quota.quota.limit.saturating_add(quota.quota.rollover)
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
