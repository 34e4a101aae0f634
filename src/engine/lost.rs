//! Ending an exchange whose VM died, from what its slot says.

use crate::engine::admission;
use crate::meter::usage::Source;
use crate::now::Now;
use crate::policy::bundle::{Bundle, Lost};
use crate::quota::{Ending, Held, HeldLevel, HeldLine, Level, QuotaId};
use crate::report::wire::{self, Outcome, Record};

/// What a lost exchange costs, and its record.
///
/// The draft in the slot already carries the charge for all that was held. Where the plan charges what had been
/// delivered instead, and the bundle still knows the plan and the model, it is worked out here.
pub(super) fn end(bundle: &Bundle, held: &Held, now: Now) -> Ending {
    let mut record = wire::decode_record(&held.draft).unwrap_or_default();
    record.id = held.id.to_string();
    record.outcome = Outcome::Unsettled;
    record.source = Source::Estimated;
    record.settled_ms = now.wall_ms;
    record.delivered = held.delivered;
    pin(&mut record, held);
    // What only counts running exchanges settles to nothing, whatever stands in its line.
    let used = delivered(bundle, held, &mut record).unwrap_or_else(|| held.levels.clone());
    Ending { used, record: wire::encode_record(&record) }
}

fn delivered(bundle: &Bundle, held: &Held, record: &mut Record) -> Option<Vec<HeldLevel>> {
    let seat = bundle.seats.iter().find(|seat| seat.name == record.seat)?;
    let name = record.plan.split('@').next()?;
    let plan = bundle.plans.iter().find(|plan| plan.name == name)?;
    if plan.hold.lost != Lost::Delivered {
        return None;
    }
    let model = bundle.models.find(&record.model)?;
    let mut usage = record.usage;
    usage.output = held.delivered;
    let used = admission::used(plan, seat, &usage, &model.weights);
    // The accounts hold what the slot names. If the plan was edited since, it cannot say what those lines cost.
    let mut levels = held.levels.clone();
    for level in &mut levels {
        for line in &mut level.lines {
            line.amount = amount(&used, &level.subject, line.quota)?;
        }
    }
    record.usage = usage;
    record.charges = admission::charges(plan, seat, &used, &held.levels);
    Some(levels)
}

fn amount(levels: &[Level], subject: &str, quota: QuotaId) -> Option<u64> {
    let level = levels.iter().find(|level| level.subject == subject)?;
    level.lines.iter().find(|line| line.quota.id == quota).map(|line| line.amount)
}

/// The draft was written before its windows were known.
fn pin(record: &mut Record, held: &Held) {
    for charge in &mut record.charges {
        let Some((plan, name)) = charge.quota.split_once('/') else { continue };
        let id = QuotaId::of(plan, name);
        let mut lines = held.levels.iter().filter(|level| level.subject == charge.subject).flat_map(|l| &l.lines);
        charge.window = lines.find(|line| line.quota == id).map_or(0, HeldLine::begun);
    }
}
