//! What a call may cost at most, which output limit the accounts can pay, and what is held for it.
//!
//! Pure arithmetic over the plan and the standing of its accounts. Everything here happens before
//! anything is written, so that a refusal leaves no trace.

use crate::meter::usage::Usage;
use crate::policy::bundle::{Per, Plan, PlanQuota, Seat, Unit, Weights};
use crate::quota::{HeldLevel, HeldLine, Level, Line, MICRO, QuotaId, Short, Standing, Window};
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
        /// Which quota is in the way, and why.
        short: Short,
        /// What the smallest useful call would need, on every level.
        needs: Vec<Level>,
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
/// With `last` there is no time left to ask the ledger: what is granted now is all there is.
pub fn weigh(
    plan: &Plan,
    seat: &Seat,
    weights: &Weights,
    size: &Size,
    last: bool,
    mut standing: impl FnMut(&str, &PlanQuota) -> Option<Standing>,
) -> Verdict {
    let floor = plan.hold.shrink_to.min(size.output).max(size.floor);
    let smallest = Size { output: floor, ..*size };
    let (mut wants, mut output, mut short) = (Vec::new(), size.output, None);
    for (index, quota) in plan.quotas.iter().enumerate() {
        let subject = subject(quota.per, seat);
        let stands = standing(&subject, quota);
        let full = worst_amount(quota.unit, weights, size);
        let Some(stands) = stands else {
            // Even a call that costs nothing here needs to know the window; a want of nothing would not be asked.
            wants.push(Want { subject, quota: quota.quota.id, missing: full.max(1) });
            short.get_or_insert((index, None));
            continue;
        };
        let most = largest_output(quota.unit, weights, stands.free(), size);
        if most.is_none_or(|most| most < size.output) && quota.quota.granted && stands.ledger_left > 0 {
            // What is used beyond the grant is missing too: a want without it would bring nothing that is free.
            let needed = full.saturating_add(stands.used).saturating_add(stands.held);
            wants.push(Want { subject, quota: quota.quota.id, missing: needed.saturating_sub(stands.granted) });
        }
        match most {
            Some(most) if most >= floor => output = output.min(most),
            _ => {
                short.get_or_insert((index, Some(stands)));
            }
        }
    }
    match short {
        // The ledger gives what it has, so that asking again and again comes to an end.
        _ if !wants.is_empty() && !last && !hopeless(plan, short) => Verdict::Wants(wants),
        Some((index, standing)) => {
            let needs = levels(plan, seat, |quota| worst_amount(quota.unit, weights, &smallest));
            let needed = plan.quotas.get(index).map_or(0, |quota| worst_amount(quota.unit, weights, &smallest));
            match plan.quotas.get(index) {
                Some(quota) => Verdict::Short { short: lack(quota, subject(quota.per, seat), standing, needed), needs },
                None => Verdict::Fits { output },
            }
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

/// How soon a seat that merely waits for others may try again, in milliseconds.
const SOON_MS: u64 = 1_000;

/// Tells what kind of lack it is that `needed` micro-units do not fit.
fn lack(quota: &PlanQuota, subject: String, standing: Option<Standing>, needed: u64) -> Short {
    let id = quota.quota.id;
    let Some(standing) = standing else { return Short::NeedsGrant { subject, quota: id, missing: needed } };
    let busy = |retry_ms| Short::Busy { subject: subject.clone(), quota: id, standing, retry_ms: Some(retry_ms) };
    match &quota.quota.window {
        Window::Concurrent => busy(SOON_MS),
        Window::Bucket { period_ms } => {
            let missing = needed.saturating_sub(standing.free());
            let wait = (u128::from(missing) * u128::from(*period_ms)).div_ceil(u128::from(quota.quota.limit.max(1)));
            busy(u64::try_from(wait).unwrap_or(u64::MAX).max(1))
        }
        _ if standing.used.saturating_add(needed) > standing.granted => {
            Short::Exhausted { subject, quota: id, standing }
        }
        _ => busy(SOON_MS),
    }
}

/// The name under which records and the ledger know a quota: `plan/quota`, the plan without its version.
pub fn ledger_name(plan: &Plan, quota: &PlanQuota) -> String {
    format!("{}/{}", plan.name, quota.name)
}

/// What each level used: `usage`, by the unit of each quota. Concurrent quotas settle to nothing.
pub fn used(plan: &Plan, seat: &Seat, usage: &Usage, weights: &Weights) -> Vec<Level> {
    levels(plan, seat, |quota| match quota.quota.window {
        Window::Concurrent => 0,
        _ => quota.unit.amount(usage, weights),
    })
}

/// The charges of a record: `levels` with the names that the ledger knows, in the windows that `held` was taken in.
pub fn charges(plan: &Plan, seat: &Seat, levels: &[Level], held: &[HeldLevel]) -> Vec<Charge> {
    let amount = |subject: &str, id: QuotaId| {
        let level = levels.iter().find(|level| level.subject == subject)?;
        level.lines.iter().find(|line| line.quota.id == id).map(|line| line.amount)
    };
    let window = |subject: &str, id: QuotaId| {
        let mut lines = held.iter().filter(|level| level.subject == subject).flat_map(|level| &level.lines);
        lines.find(|line| line.quota == id).map_or(0, HeldLine::begun)
    };
    plan.quotas
        .iter()
        .filter(|quota| quota.quota.window != Window::Concurrent)
        .filter_map(|quota| {
            let subject = subject(quota.per, seat);
            let amount = amount(&subject, quota.quota.id)?;
            let (name, unit) = (ledger_name(plan, quota), quota.unit.name().to_owned());
            Some(Charge { window: window(&subject, quota.quota.id), subject, quota: name, unit, amount })
        })
        .collect()
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
