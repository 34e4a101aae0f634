//! Ending an exchange whose VM died, from what its slot says.

use crate::engine::admission;
use crate::meter::usage::Source;
use crate::now::Now;
use crate::policy::bundle::{Bundle, Lost};
use crate::quota::slot::Held;
use crate::quota::{Level, Window};
use crate::report::wire::{self, Outcome, Record};

/// What a lost exchange used, and its record.
///
/// The draft in the slot already carries the charge for all that was held. Where the plan charges what had been
/// delivered instead, and the bundle still knows the plan and the model, it is worked out here.
pub(super) fn settle(bundle: &Bundle, held: &Held, now: Now) -> (Vec<Level>, Vec<u8>) {
    let mut record = wire::decode_record(&held.draft).unwrap_or_default();
    record.id = held.id.to_string();
    record.outcome = Outcome::Unsettled;
    record.source = Source::Estimated;
    record.settled_ms = now.wall_ms;
    record.delivered = held.delivered;
    let used = delivered(bundle, held, &mut record).unwrap_or_else(|| all_held(held));
    (used, wire::encode_record(&record))
}

/// Everything that was held is used; what only counted running exchanges is given back.
fn all_held(held: &Held) -> Vec<Level> {
    let mut levels = held.levels.clone();
    for line in levels.iter_mut().flat_map(|level| &mut level.lines) {
        if line.quota.window == Window::Concurrent {
            line.amount = 0;
        }
    }
    levels
}

fn delivered(bundle: &Bundle, held: &Held, record: &mut Record) -> Option<Vec<Level>> {
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
    // The accounts were changed by what the slot names; a plan edited since must name the same quotas.
    let same = used.len() == held.levels.len()
        && used.iter().zip(&held.levels).all(|(new, old)| {
            new.subject == old.subject
                && new.lines.len() == old.lines.len()
                && new.lines.iter().zip(&old.lines).all(|(new, old)| new.quota.id == old.quota.id)
        });
    if !same {
        return None;
    }
    record.usage = usage;
    record.charges = admission::charges(plan, seat, &used);
    Some(used)
}
