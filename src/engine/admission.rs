//! What a call may cost at most, which output limit the accounts can pay, and what is held for it.
//!
//! Pure arithmetic over the plan and the standing of its accounts. Everything here happens before
//! anything is written, so that a refusal leaves no trace.

use crate::meter::usage::Usage;
use crate::policy::bundle::{Bundle, Per, Plan, PlanQuota, Role, Seat, Unit, Weights};
use crate::quota::{Level, Line, MICRO, QuotaId, Standing, Window};
use crate::report::wire::Charge;

/// What is known of a call before it is admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Input tokens: a sound upper bound.
    pub input: u64,
    /// Output tokens that one choice may have, as declared or assumed.
    pub output: u64,
    /// Choices asked for, at least 1.
    pub choices: u64,
    /// Output limits below this many tokens are of no use to the caller, or forbidden by the dialect.
    pub floor: u64,
}

impl Size {
    /// The dearest usage that this size can come to.
    pub fn worst(&self) -> Usage {
        Usage { input: self.input, output: self.output.saturating_mul(self.choices), ..Usage::default() }
    }
}

/// What the accounts say to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It fits with this output limit, which may be lower than declared.
    Fits {
        /// Output tokens a choice.
        output: u64,
    },
    /// The ledger may have more than it has granted here: worth one fetch.
    Wants(Vec<Want>),
    /// It does not fit, not even shrunk.
    Short {
        /// Index into [`Plan::quotas`] of the binding quota.
        quota: usize,
        /// How it stands; `None` when nothing is known of it.
        standing: Option<Standing>,
        /// Micro-units that the smallest useful call would need.
        needs: u64,
    },
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

/// The account of a seat's plan quota.
pub fn subject(per: Per, seat: &Seat) -> String {
    match per {
        Per::Seat => format!("seat/{}", seat.name),
        Per::Org => format!("org/{}", seat.org),
    }
}

/// Micro-units that `size` may come to at most, whatever is cached: what a hold takes.
pub fn worst_amount(unit: Unit, weights: &Weights, size: &Size) -> u64 {
    match unit {
        Unit::Credits => dearest(weights).charge(&size.worst()),
        _ => unit.amount(&size.worst(), weights),
    }
}

/// The weights with every input token at the dearest input rate: which of them are cached is not known before the answer.
fn dearest(weights: &Weights) -> Weights {
    let input = weights.input.max(weights.cache_read).max(weights.cache_write);
    Weights { input, cache_read: input, cache_write: input, output: weights.output }
}

/// The largest output limit a choice for which `free` micro-units of `unit` suffice; `None`: not even the input fits.
fn largest_output(unit: Unit, weights: &Weights, free: u64, size: &Size) -> Option<u64> {
    let choices = size.choices.max(1);
    match unit {
        Unit::Tokens => Some((free / MICRO).checked_sub(size.input)? / choices),
        Unit::OutputTokens => Some(free / MICRO / choices),
        Unit::InputTokens => (free / MICRO >= size.input).then_some(u64::MAX),
        Unit::Requests => (free >= MICRO).then_some(u64::MAX),
        Unit::Credits => {
            let weights = dearest(weights);
            let budget = u128::from(free).saturating_mul(1_000_000);
            let left = budget.checked_sub(u128::from(size.input) * u128::from(weights.input))?;
            match u128::from(weights.output) {
                0 => Some(u64::MAX),
                rate => Some(u64::try_from(left / rate / u128::from(choices)).unwrap_or(u64::MAX)),
            }
        }
    }
}

/// Weighs a call against its plan.
///
/// `standing` tells how a quota of an account stands, or `None` when nothing is known of it.
/// With `asked` the ledger has been asked already: what is granted now is all there is.
pub fn weigh(
    plan: &Plan,
    seat: &Seat,
    weights: &Weights,
    size: &Size,
    asked: bool,
    mut standing: impl FnMut(&str, &PlanQuota) -> Option<Standing>,
) -> Verdict {
    let floor = plan.hold.shrink_to.min(size.output).max(size.floor);
    let smallest = Size { output: floor, ..*size };
    let (mut wants, mut output, mut short) = (Vec::new(), size.output, None);
    for (index, quota) in plan.quotas.iter().enumerate() {
        let subject = subject(quota.per, seat);
        let stands = standing(&subject, quota);
        let full = worst_amount(quota.unit, weights, size);
        let Some(now) = stands else {
            wants.push(Want { subject, quota: quota.quota.id, missing: full });
            short.get_or_insert((index, None));
            continue;
        };
        let most = largest_output(quota.unit, weights, now.free(), size);
        if most.is_none_or(|most| most < size.output) && quota.quota.granted && now.ledger_left > 0 {
            wants.push(Want { subject, quota: quota.quota.id, missing: full.saturating_sub(now.free()) });
        }
        match most {
            Some(most) if most >= floor => output = output.min(most),
            _ => {
                short.get_or_insert((index, Some(now)));
            }
        }
    }
    // Asked or not, a quota that nothing is known of cannot be judged: only the ledger's answer helps.
    let unknown = matches!(short, Some((_, None)));
    match short {
        _ if !wants.is_empty() && (!asked || unknown) && !hopeless(plan, short) => Verdict::Wants(wants),
        Some((quota, standing)) => {
            let needs = plan.quotas.get(quota).map_or(0, |q| worst_amount(q.unit, weights, &smallest));
            Verdict::Short { quota, standing, needs }
        }
        None => Verdict::Fits { output },
    }
}

/// Whether a fetch would be in vain: the quota in the way gets nothing from the ledger.
fn hopeless(plan: &Plan, short: Option<(usize, Option<Standing>)>) -> bool {
    let Some((index, Some(standing))) = short else { return false };
    plan.quotas.get(index).is_some_and(|q| !q.quota.granted || standing.ledger_left == 0)
}

/// One level an account, in the total order in which accounts are written, with `amount` for every quota.
pub fn levels(plan: &Plan, seat: &Seat, mut amount: impl FnMut(&PlanQuota) -> u64) -> Vec<Level> {
    let mut levels: Vec<Level> = Vec::new();
    for per in [Per::Seat, Per::Org] {
        let lines: Vec<Line> = plan
            .quotas
            .iter()
            .filter(|quota| quota.per == per)
            .map(|quota| Line { quota: quota.quota.clone(), amount: amount(quota) })
            .collect();
        if !lines.is_empty() {
            levels.push(Level { subject: subject(per, seat), lines });
        }
    }
    levels
}

/// Why a quota is in the way, and when trying again may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// The amount is spent.
    Spent {
        /// Milliseconds until the window begins anew; `None` when time does not cure it.
        until_ms: Option<u64>,
    },
    /// Others hold what this call needs, or it refills: soon cured.
    Busy {
        /// Milliseconds until it may fit.
        retry_ms: u64,
    },
    /// More than the quota ever has: no wait cures it.
    TooLarge,
    /// Nothing is known of it, and the ledger did not answer.
    Unknown,
}

/// How soon a seat that merely waits for others may try again.
const SOON_MS: u64 = 1_000;

/// Tells what kind of lack a refusal by `quota` is.
pub fn lack(quota: &PlanQuota, standing: Option<Standing>, needs: u64, wall_ms: u64) -> Lack {
    let Some(standing) = standing else { return Lack::Unknown };
    if needs > quota.quota.limit {
        return Lack::TooLarge;
    }
    match &quota.quota.window {
        Window::Concurrent => Lack::Busy { retry_ms: SOON_MS },
        Window::Bucket { period_ms } => {
            let missing = needs.saturating_sub(standing.free());
            let wait = (u128::from(missing) * u128::from(*period_ms)).div_ceil(u128::from(quota.quota.limit.max(1)));
            Lack::Busy { retry_ms: u64::try_from(wait).unwrap_or(u64::MAX).max(1) }
        }
        // The ledger's total is what counts: what it granted elsewhere is spent as far as this window goes.
        _ if standing.used.saturating_add(needs) > standing.granted => {
            let until_ms = (standing.resets_ms > wall_ms).then(|| standing.resets_ms.saturating_sub(wall_ms));
            Lack::Spent { until_ms }
        }
        _ => Lack::Busy { retry_ms: SOON_MS },
    }
}

/// Whether a refusal by this quota says *exhausted* (a fund is empty) and not *rate* (a cap is full).
pub fn is_fund(quota: &PlanQuota) -> bool {
    quota.role == Role::Fund
}

/// The name under which records and the ledger know a quota: `plan/quota`, the plan without its version.
pub fn ledger_name(plan: &Plan, quota: &PlanQuota) -> String {
    format!("{}/{}", plan.name, quota.name)
}

/// The quotas of a seat's accounts, for everything that must name them.
pub fn seat_quotas<'a>(bundle: &'a Bundle, seat: &'a Seat) -> impl Iterator<Item = (&'a Plan, &'a PlanQuota)> {
    let plan = seat.plan.and_then(|index| bundle.plans.get(index));
    plan.into_iter().flat_map(|plan| plan.quotas.iter().map(move |quota| (plan, quota)))
}

/// What each level used: `usage`, by the unit of each quota. Concurrent quotas settle to nothing.
pub fn used(plan: &Plan, seat: &Seat, usage: &Usage, weights: &Weights) -> Vec<Level> {
    levels(plan, seat, |quota| match quota.quota.window {
        Window::Concurrent => 0,
        _ => quota.unit.amount(usage, weights),
    })
}

/// The charges of a record: `levels` with the names that the ledger knows.
pub fn charges(plan: &Plan, seat: &Seat, levels: &[Level]) -> Vec<Charge> {
    let amount = |subject: &str, id: QuotaId| {
        let level = levels.iter().find(|level| level.subject == subject)?;
        level.lines.iter().find(|line| line.quota.id == id).map(|line| line.amount)
    };
    plan.quotas
        .iter()
        .filter(|quota| quota.quota.window != Window::Concurrent)
        .filter_map(|quota| {
            let subject = subject(quota.per, seat);
            let amount = amount(&subject, quota.quota.id)?;
            let (name, unit) = (ledger_name(plan, quota), quota.unit.name().to_owned());
            Some(Charge { subject, quota: name, unit, window: 0, amount })
        })
        .collect()
}
