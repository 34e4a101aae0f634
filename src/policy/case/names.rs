//! The names in a case: seats, and quotas of their plans.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use super::{Draft, Mentions, Who};
use crate::policy::assign::Assigned;
use crate::policy::diagnostic::{Code, Faults, listed, shown};
use crate::policy::document::{Document, PackText, SeatText};
use crate::policy::plan::PlanText;
use crate::policy::unit::Unit;

/// Looks up the names of seats and quotas, and compares units.
pub(in crate::policy) fn check(
    cases: &[Draft],
    document: &Document,
    assigned: &[Option<Assigned>],
    faults: &mut Faults,
) {
    let seats: HashMap<&str, usize> =
        document.seats.iter().enumerate().map(|(index, seat)| (seat.name.value.as_str(), index)).collect();
    // A seat without a plan may be the consequence of a fault that is noted already.
    let sound = faults.is_empty();
    for named in cases.iter().flat_map(|draft| &draft.named) {
        let seat = match &named.who.value {
            Who::Seat(name) => {
                let found = seats.get(name.as_str()).copied();
                if found.is_none() {
                    let help = faults.meant(name, seats.keys().copied(), "seats");
                    faults.add(named.who.at, Code::UnknownName, format!("there is no seat {}", shown(name)), help);
                    continue;
                }
                found
            }
            Who::Key(key) => by_key(&document.seats, key),
        };
        let assigned = seat.and_then(|seat| assigned.get(seat).copied().flatten());
        match assigned.and_then(|assigned| document.plans.get(assigned.plan)).zip(seat) {
            Some((plan, seat)) => check_names(plan, &packs_of(document, seat), &named.amounts, faults),
            None if sound => no_quotas(&named.amounts, faults),
            None => {}
        }
    }
}

fn by_key(seats: &[SeatText], key: &str) -> Option<usize> {
    let hash: [u8; 32] = Sha256::digest(key.as_bytes()).into();
    seats.iter().position(|seat| seat.keys.iter().any(|known| known.value == hash))
}

fn no_quotas(named: &Mentions, faults: &mut Faults) {
    if let Some((name, _)) = named.first() {
        let help = "name a seat that has a plan, or leave the amounts out";
        faults.add(name.at, Code::UnknownName, "the caller has no plan, and so no quotas", help);
    }
}

/// The packs of the accounts that a seat has.
fn packs_of(document: &Document, seat: usize) -> Vec<&PackText> {
    let Some(seat) = document.seats.get(seat) else { return Vec::new() };
    let of_seat = |pack: &&PackText| seat.of(pack.owner.0) == Some(pack.owner.1.value.as_str());
    document.packs.iter().filter(of_seat).collect()
}

fn check_names(plan: &PlanText, packs: &[&PackText], named: &Mentions, faults: &mut Faults) {
    let units = plan.quotas.iter().map(|quota| (&quota.name.value, quota.terms.as_ref().map(|terms| terms.unit)));
    let units: Vec<(&String, Option<Unit>)> =
        units.chain(packs.iter().map(|pack| (&pack.name.value, Some(pack.unit)))).collect();
    for (name, unit) in named {
        let Some((_, stated)) = units.iter().find(|(known, _)| **known == name.value) else {
            let known = units.iter().map(|(name, _)| name.as_str());
            let help = faults.meant(&name.value, known, "quotas");
            let message = format!("the plan {} has no quota {}", shown(&plan.name.value), shown(&name.value));
            faults.add(name.at, Code::UnknownName, message, help);
            continue;
        };
        if let Some((stated, unit)) = stated.zip(*unit).filter(|(stated, unit)| stated != unit) {
            let message = format!("the quota {} is in {}, not in {}", shown(&name.value), stated.words(), unit.words());
            let help = format!("state the amount in {}", listed(&[stated.words()]));
            faults.add(name.at, Code::Conflict, message, help);
        }
    }
}
