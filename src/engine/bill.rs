//! The accounts that one call of one seat is charged to, and how much each of them.

use crate::engine::expectation::Expected;
use crate::meter::usage::Usage;
use crate::order;
use crate::policy::bundle::{Bundle, HoldSize, Per, Plan, PlanQuota, Relief, Role, SESSIONS, Seat};
use crate::policy::price::Price;
use crate::policy::unit::{Consumed, Unit};
use crate::quota::{HeldLevel, HeldLine, Level, Line, QuotaId, Window};
use crate::report::wire::Charge;

/// What is known of a call before it is admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Input tokens: a sound upper bound.
    pub input: u64,
    /// Output tokens that one choice may have, as declared or assumed.
    pub output: u64,
    /// Of these, what may be thought beside the limit that the provider is told.
    pub beside: u64,
    /// What it will come to, as far as that can be told.
    pub expected: Expected,
    /// Choices asked for, at least 1.
    pub choices: u64,
    /// Output limits below this many tokens are of no use to the caller, or forbidden by the dialect.
    pub floor: u64,
    /// Output limits are not lowered below this many tokens for the sake of others: longer answers are rare.
    pub enough: u64,
    /// Turns of a conversation that it begins, in micro-units.
    pub prompts: u64,
    /// Images, characters and seconds that it asks for, as far as that can be told; the rest is 0. Seconds that come back
    /// and of which nothing can be told are 1.
    pub asked: Usage,
    /// Whether the answer may call tools. How many is not known before it comes: one is held.
    pub tools: bool,
    /// How many more times its input may be paid for: tries that fail, where the plan charges them.
    pub again: u64,
}

impl Size {
    /// The dearest that this size can come to.
    pub fn worst(&self) -> Consumed {
        self.consumed(self.output)
    }

    fn consumed(&self, output: u64) -> Consumed {
        Consumed { again: self.again, ..self.consuming(Usage { input: self.input, output, ..Usage::default() }) }
    }

    /// `usage`: of the output, what one choice has.
    fn consuming(&self, usage: Usage) -> Consumed {
        let usage = Usage {
            output: usage.output.saturating_mul(self.choices),
            reasoning: usage.reasoning.saturating_mul(self.choices),
            images: self.asked.images,
            characters: self.asked.characters,
            seconds: self.asked.seconds,
            ..usage
        };
        Consumed { usage, prompts: self.prompts, tool_calls: u64::from(self.tools), again: 0 }
    }
}

/// A part of what is held of a fund: what none of the funds has, and this one bears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Borne {
    /// The fund.
    pub by: QuotaId,
    /// How much, in micro-units.
    pub amount: u64,
}

impl Borne {
    /// How much of it this quota bears.
    pub fn of(borne: Option<Self>, quota: &PlanQuota) -> u64 {
        borne.filter(|borne| borne.by == quota.quota.id).map_or(0, |borne| borne.amount)
    }
}

/// Who gives what a call came to beyond what its funds give of what is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beyond {
    /// What was agreed when it was admitted, and is held.
    pub borne: Option<Borne>,
    /// The fund that has the rest, though it is not here; `None`: the one that bears what nobody has.
    pub payer: Option<QuotaId>,
}

/// The line of a quota, by its place in a bill: micro-units, and how far they may pass the quota.
type LineOf<'f> = dyn FnMut(usize, &PlanQuota) -> Option<(u64, u64)> + 'f;

/// Every quota that one call is charged to: funds in the order in which they pay, packs among them, then caps.
#[derive(Clone)]
pub struct Bill<'b> {
    /// The plan.
    pub plan: &'b Plan,
    /// The seat.
    pub seat: &'b Seat,
    /// Which of the seat's session accounts.
    pub session: u8,
    /// The quotas that take a call of this model.
    pub quotas: Vec<&'b PlanQuota>,
}

impl<'b> Bill<'b> {
    /// The quotas that a call of `model` falls to which is admitted at `wall_ms`. A pack whose term has not begun or
    /// is over does not pay.
    pub fn of(bundle: &'b Bundle, plan: &'b Plan, seat: &'b Seat, session: u8, model: &str, wall_ms: u64) -> Self {
        let mut bill = Self { plan, seat, session, quotas: Vec::with_capacity(plan.quotas.len()) };
        for (index, quota) in plan.quotas.iter().enumerate() {
            bill.packs_before(index, bundle, model, wall_ms);
            if quota.takes(model) {
                bill.quotas.push(quota);
            }
        }
        bill.packs_before(plan.quotas.len(), bundle, model, wall_ms);
        bill
    }

    /// Every quota of the seat's plan, whatever the model, and all packs that are good at `wall_ms`.
    pub fn all(bundle: &'b Bundle, plan: &'b Plan, seat: &'b Seat, session: u8, wall_ms: u64) -> Self {
        let mut bill = Self { plan, seat, session, quotas: plan.quotas.iter().collect() };
        let good = bundle.packs.iter().filter(|pack| {
            let (from, until) = pack.term;
            seat.subjects.contains(&pack.subject) && from <= wall_ms && wall_ms < until
        });
        bill.quotas.extend(good.map(|pack| &pack.fund));
        bill
    }

    fn packs_before(&mut self, index: usize, bundle: &'b Bundle, model: &str, wall_ms: u64) {
        for here in self.plan.packs.iter().filter(|here| here.before == index) {
            let whose = self.subject(here.per);
            let good = bundle.packs.iter().filter(|pack| {
                let (from, until) = pack.term;
                pack.subject == whose && pack.fund.unit == here.unit && from <= wall_ms && wall_ms < until
            });
            self.quotas.extend(good.map(|pack| &pack.fund).filter(|fund| fund.takes(model)));
        }
    }

    /// The account that a quota of this level is in. Empty where the seat belongs to nothing of that level, which
    /// `farebox check` refuses.
    pub fn subject(&self, per: Per) -> String {
        match per {
            Per::Session => format!("session/{}/{}", self.seat.name, self.session),
            Per::Level(level) => self.seat.subjects.get(usize::from(level)).cloned().unwrap_or_default(),
        }
    }

    /// One level an account, in the total order in which accounts are written, of the lines that `line` gives:
    /// micro-units, and how far they may pass the quota.
    pub fn levels(&self, mut line: impl FnMut(usize, &PlanQuota) -> Option<(u64, u64)>) -> Vec<Level> {
        self.levels_of(&self.quotas, &mut line)
    }

    /// Everything that a call may be held to: the bill, and the buckets of the plan's throttles.
    pub fn with_throttles(&self) -> Vec<&'b PlanQuota> {
        let caps = self.plan.quotas.iter().flat_map(|quota| &quota.full);
        let throttles = caps.chain(&self.plan.empty).filter_map(|relief| match relief {
            Relief::Throttle(bucket) => Some(&**bucket),
            _ => None,
        });
        self.quotas.iter().copied().chain(throttles).collect()
    }

    fn levels_of(&self, quotas: &[&PlanQuota], line: &mut LineOf<'_>) -> Vec<Level> {
        let mut levels: Vec<(Per, Level)> = Vec::new();
        for (index, quota) in quotas.iter().enumerate() {
            let Some((amount, over)) = line(index, quota) else { continue };
            add(&mut levels, quota.per, || self.subject(quota.per), Line { quota: quota.quota.clone(), amount, over });
        }
        order::by_key(&mut levels, |(per, _)| *per);
        levels.into_iter().map(|(_, level)| level).collect()
    }

    /// Of the funds at these places, the one that bears what none of them has: the last that begins anew, so that there is
    /// somebody who pays a debt; where a unit is said, of those in it. Where none is, and none begins anew, the last of all.
    pub fn bearer(&self, funds: &[usize], unit: Option<Unit>) -> Option<usize> {
        let bears = |at: &&usize| {
            let quota = self.quotas.get(**at);
            quota.is_some_and(|quota| quota.begins_anew() && unit.is_none_or(|unit| quota.unit == unit))
        };
        funds.iter().rfind(bears).or_else(|| funds.last().filter(|_| unit.is_none())).copied()
    }

    /// What each account is charged for `consumed`, of what `held` was held of it. Caps take their measure. Funds pay
    /// in their order, each what is held of it and what it has; what is beyond all that is `beyond`. Quotas that nothing is
    /// held of are not charged.
    pub fn used(&self, consumed: &Consumed, price: &Price, held: &[HeldLevel], beyond: Beyond) -> Vec<Level> {
        let Beyond { borne, payer } = beyond;
        let held_of = |quota: &PlanQuota| held_amount(held, &self.subject(quota.per), quota.quota.id);
        let paying: Vec<(usize, u64)> = self
            .quotas
            .iter()
            .enumerate()
            .filter(|(_, quota)| quota.role == Role::Fund)
            .filter_map(|(index, quota)| Some((index, held_of(quota)?.saturating_sub(Borne::of(borne, quota)))))
            .collect();
        let mut rest = paying
            .first()
            .and_then(|(index, _)| self.quotas.get(*index))
            .map_or(0, |quota| quota.unit.amount(consumed, price));
        // What costs nothing is still a call of its funds.
        let free = rest == 0;
        let mut paid = Vec::with_capacity(paying.len());
        for (index, has) in &paying {
            let part = rest.min(*has);
            rest = rest.saturating_sub(part);
            paid.push((*index, part));
        }
        let places: Vec<usize> = paying.iter().map(|(index, _)| *index).collect();
        let place = |fund: QuotaId| {
            let is_it = |at: &usize| self.quotas.get(*at).is_some_and(|quota| quota.quota.id == fund);
            places.iter().copied().find(is_it)
        };
        let mut pay = |at: Option<usize>, amount: u64| {
            if let Some((_, part)) = paid.iter_mut().find(|(of, _)| Some(*of) == at) {
                *part = part.saturating_add(amount);
            }
        };
        let bears = borne.and_then(|borne| place(borne.by));
        let agreed = rest.min(borne.filter(|_| bears.is_some()).map_or(0, |borne| borne.amount));
        pay(bears, agreed);
        let payer = payer.and_then(place).or(bears).or_else(|| self.bearer(&places, None));
        pay(payer, rest.saturating_sub(agreed));
        self.levels_of(&self.with_throttles(), &mut |index, quota| match quota.role {
            Role::Fund => paid.iter().find(|(at, _)| *at == index).map(|(_, part)| (*part, 0)),
            Role::Cap => {
                held_of(quota)?;
                // A cap of a fund that turned out to pay nothing is held, and not used.
                let pays = |fund: QuotaId| {
                    let part = |(at, part): &(usize, u64)| {
                        let is_it = self.quotas.get(*at).is_some_and(|quota| quota.quota.id == fund);
                        is_it && (*part > 0 || free)
                    };
                    paid.iter().any(part)
                };
                Some((if quota.of.is_none_or(pays) { measure(quota, consumed, price) } else { 0 }, 0))
            }
        })
    }

    /// A charge of just what is held: of work that nobody here hears of any more. Caps of a fund that gives nothing are held,
    /// and not used.
    pub fn held(&self, held: &[HeldLevel]) -> Vec<Level> {
        let held_of = |quota: &PlanQuota| held_amount(held, &self.subject(quota.per), quota.quota.id);
        let funds = || self.quotas.iter().filter(|quota| quota.role == Role::Fund);
        let gives = |quota: &PlanQuota| held_of(quota).is_some_and(|amount| amount > 0);
        let free = !funds().any(|fund| gives(fund));
        let pays = |of: QuotaId| funds().any(|fund| fund.quota.id == of && (free || gives(fund)));
        self.levels_of(&self.with_throttles(), &mut |_, quota| {
            let amount = held_of(quota)?;
            let counts = quota.quota.window != Window::Concurrent && quota.of.is_none_or(pays);
            Some((if counts { amount } else { 0 }, 0))
        })
    }

    /// A charge of nothing, of all that is held.
    pub fn nothing(&self, held: &[HeldLevel]) -> Vec<Level> {
        self.levels(|_, quota| held_amount(held, &self.subject(quota.per), quota.quota.id).map(|_| (0, 0)))
    }

    /// The charges of a record: `levels` with the names that the ledger knows, in the windows that `held` was taken in.
    pub fn charges(&self, levels: &[Level], held: &[HeldLevel]) -> Vec<Charge> {
        let amount = |subject: &str, id: QuotaId| {
            let level = levels.iter().find(|level| level.subject == subject)?;
            level.lines.iter().find(|line| line.quota.id == id).map(|line| line.amount)
        };
        let window = |subject: &str, id: QuotaId| {
            let mut lines = held.iter().filter(|level| level.subject == subject).flat_map(|level| &level.lines);
            lines.find(|line| line.quota == id).map_or(0, HeldLine::begun)
        };
        let charged = self.quotas.iter().filter(|quota| quota.quota.window != Window::Concurrent);
        charged
            .filter_map(|quota| {
                let subject = self.subject(quota.per);
                let amount = amount(&subject, quota.quota.id)?;
                let (window, unit) = (window(&subject, quota.quota.id), quota.unit.name().to_owned());
                Some(Charge { window, subject, quota: quota.ledger.clone(), unit, amount })
            })
            .collect()
    }
}

fn add(levels: &mut Vec<(Per, Level)>, per: Per, subject: impl Fn() -> String, line: Line) {
    match levels.iter_mut().find(|(of, _)| *of == per) {
        Some((_, level)) => level.lines.push(line),
        None => levels.push((per, Level { subject: subject(), lines: vec![line] })),
    }
}

/// What `consumed` comes to in a quota. A concurrent one settles to nothing.
fn measure(quota: &PlanQuota, consumed: &Consumed, price: &Price) -> u64 {
    match quota.quota.window {
        Window::Concurrent => 0,
        _ => quota.unit.amount(consumed, price),
    }
}

/// Micro-units of `unit` that `consumed` comes to at most, whatever is cached or reasoned: what a hold takes.
pub fn most(unit: Unit, consumed: &Consumed, price: &Price) -> u64 {
    let Consumed { usage, .. } = consumed;
    let dear = price.dearest();
    let worst = match unit {
        // Which part of the input is cached, and which of the output is reasoning, is told by the answer.
        Unit::CacheReadTokens => Usage { cache_read: usage.input_total(), ..Usage::default() },
        Unit::CacheWriteTokens => Usage { cache_write: usage.input_total(), ..Usage::default() },
        Unit::ReasoningTokens => Usage { reasoning: usage.output, output: usage.output, ..Usage::default() },
        _ => *usage,
    };
    unit.amount(&Consumed { usage: worst, ..*consumed }, &dear)
}

/// Micro-units that a call of this size asks of a quota: the most that it can come to, or what is expected of it where
/// the quota says so.
pub fn asked(quota: &PlanQuota, size: &Size, price: &Price) -> u64 {
    let most = |consumed| most(quota.unit, &consumed, price);
    match (quota.hold, size.expected) {
        (HoldSize::Worst, _) => most(size.worst()),
        (HoldSize::Expected, Expected::Assumed(output)) => most(size.consumed(output.min(size.output))),
        (HoldSize::Expected, Expected::Learned(usage)) => {
            // How much of the output is reasoning is not learned: all or nothing of it, whichever is dearer. And what is
            // expected to be nothing is held as something, or any number of calls would pass a full quota.
            let output = usage.output.min(size.output);
            let of = |reasoning| size.consuming(Usage { output, reasoning, ..usage });
            let [plain, reasoned] = [0, output].map(|reasoning| quota.unit.amount(&of(reasoning), price));
            let worst = most(size.worst());
            plain.max(reasoned).max(1).min(worst)
        }
    }
}

/// What is held of one quota of an account.
pub fn held_amount(levels: &[HeldLevel], subject: &str, quota: QuotaId) -> Option<u64> {
    let level = levels.iter().find(|level| level.subject == subject)?;
    let amounts = level.lines.iter().filter(|line| line.quota == quota).map(|line| line.amount);
    amounts.reduce(u64::saturating_add)
}

/// Which of its seat's session accounts a session key falls to: one of [`SESSIONS`]. Calls without one have account 0 to
/// themselves.
pub fn session_account(key: Option<&[u8]>) -> u8 {
    use sha2::{Digest, Sha256};
    let Some(key) = key.filter(|key| !key.is_empty()) else { return 0 };
    let first = Sha256::digest(key).first().copied().unwrap_or(0);
    (first % SESSIONS).saturating_add(1)
}
