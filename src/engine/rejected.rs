//! Refused calls that count: where a cap says so, a call that is refused takes one request of it.
//!
//! It is held and settled as any exchange is, so that there is one record of it and the ledger hears the same. A cap that is
//! full takes no more, so nobody can run into debt by being refused; and only caps of the caller's own account count them.

use crate::engine::accounts::Accounts;
use crate::engine::bill::Bill;
use crate::engine::effect::Effect;
use crate::engine::vm::Vm;
use crate::meter::dialect::Dialect;
use crate::now::Now;
use crate::policy::bundle::{Bundle, PlanQuota};
use crate::quota::{Cells, HeldLevel, Level, MICRO, Operation, Outcome};
use crate::report::wire::{self, Pass, Record};

/// Refusals that wait for a grant to be counted. Beyond that they are not: more come than anybody is told apart.
const MOST_WAITING: usize = 256;

/// A call that was refused.
#[derive(Clone, Debug)]
pub(super) struct Rejected {
    /// Its place among the bundle's seats.
    pub seat: usize,
    pub session: u8,
    pub dialect: Option<Dialect>,
    /// Who refused it.
    pub rule: String,
    pub came_ms: u64,
}

impl Vm {
    /// Counts a refused call on the caps that count them.
    pub(super) fn reject(
        &mut self,
        bundle: &Bundle,
        rejected: Rejected,
        now: Now,
        cells: &mut dyn Cells,
        effects: &mut Vec<Effect>,
    ) {
        let Some(bill) = bill(bundle, &rejected) else { return };
        if self.ask_for(&bill, now, cells) {
            self.touch(&bill, now);
            effects.push(Effect::SyncSoon);
            if self.rejections.len() < MOST_WAITING {
                self.rejections.push(rejected);
            }
            return;
        }
        self.charge_rejected(bundle, &bill, &rejected, now, cells, effects);
    }

    /// Counts those that waited for what the ledger has said by now.
    pub(super) fn count_rejected(&mut self, now: Now, cells: &mut dyn Cells, effects: &mut Vec<Effect>) {
        let bundle = std::rc::Rc::clone(&self.bundle);
        for rejected in std::mem::take(&mut self.rejections) {
            if let Some(bill) = bill(&bundle, &rejected) {
                self.charge_rejected(&bundle, &bill, &rejected, now, cells, effects);
            }
        }
    }

    /// Asks the ledger for a request of each cap that may have one and has none here. Whether there is such a cap.
    fn ask_for(&mut self, bill: &Bill<'_>, now: Now, cells: &mut dyn Cells) -> bool {
        let mut accounts = Accounts::default();
        let mut asked = false;
        for quota in bill.quotas.iter().filter(|quota| quota.quota.granted) {
            let subject = bill.subject(quota.per);
            let missing = match accounts.standing(&subject, quota, now, self, cells) {
                None => MICRO,
                Some(stands) if stands.free() < MICRO && stands.ledger_left > 0 => {
                    MICRO.saturating_add(stands.spent()).saturating_add(stands.held).saturating_sub(stands.granted)
                }
                Some(_) => continue,
            };
            self.want(&subject, quota.quota.id, missing);
            asked = true;
        }
        asked
    }

    fn charge_rejected(
        &mut self,
        bundle: &Bundle,
        bill: &Bill<'_>,
        rejected: &Rejected,
        now: Now,
        cells: &mut dyn Cells,
        effects: &mut Vec<Effect>,
    ) {
        let mut accounts = Accounts::default();
        let levels = bill.levels(|_, quota: &PlanQuota| {
            let stands = accounts.standing(&bill.subject(quota.per), quota, now, self, cells)?;
            (stands.free() >= MICRO).then_some((MICRO, 0))
        });
        if levels.is_empty() {
            return;
        }
        let Ok(place) = self.place(now, cells, effects) else { return };
        let (id, slot) = (place.id, place.slot);
        let record = |outcome, held: &[HeldLevel]| Record {
            id: id.to_string(),
            settled_ms: now.wall_ms,
            outcome,
            charges: bill.charges(&levels, held),
            ..rejected.record(bundle, bill, now)
        };
        let draft = wire::encode_record(&record(wire::Outcome::Unsettled, &[]));
        let mut hold = Operation::hold(&self.keys, id.by, slot, id, levels.clone(), draft, now);
        match hold.run(cells) {
            Ok(Outcome::Done) => self.admitted(place),
            // Another one took what there was, or nobody can tell: it is not counted.
            Ok(Outcome::Refused(_) | Outcome::Unreadable { .. }) => return self.vacate(place),
            _ => return self.fenced_as(id.by, effects),
        }
        let bytes = wire::encode_record(&record(wire::Outcome::NeverSent, hold.holds()));
        let (keep, size): (bool, usize) = (bundle.collector.is_some(), bytes.len());
        let used: Vec<Level> = levels.clone();
        match Operation::settle(&self.keys, id.by, slot, id, used, bytes, keep, now).run(cells) {
            Ok(Outcome::Done) => self.settled(place, size, keep, bill, now),
            _ => self.fenced_as(id.by, effects),
        }
    }
}

impl Rejected {
    fn record(&self, bundle: &Bundle, bill: &Bill<'_>, now: Now) -> Record {
        Record {
            bundle: bundle.name.clone(),
            version: bundle.version.clone(),
            plan: bill.plan.label(),
            seat: bill.seat.name.clone(),
            org: bill.seat.org.clone(),
            dialect: self.dialect.map_or("", Dialect::name).to_owned(),
            came_ms: self.came_ms,
            admitted_ms: now.wall_ms,
            passed: vec![Pass { how: "refused".to_owned(), quota: self.rule.clone() }],
            ..Record::default()
        }
    }
}

/// The caps that count it; `None`: no cap does.
fn bill<'b>(bundle: &'b Bundle, rejected: &Rejected) -> Option<Bill<'b>> {
    let seat = bundle.seats.get(rejected.seat)?;
    let plan = bundle.plan_for(seat)?;
    let quotas: Vec<_> = plan.quotas.iter().filter(|quota| quota.rejected).collect();
    (!quotas.is_empty()).then_some(Bill { plan, seat, session: rejected.session, quotas })
}
