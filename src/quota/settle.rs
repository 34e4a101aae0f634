//! Settling, which goes forward only: once the intent is written, whoever finds it finishes it. And freeing.

use std::sync::Arc;

use super::account::{Account, Stamp};
use super::edit::{Decision, Edit, Edited, PATIENCE};
use super::fault::{Fault, seeded};
use super::operation::{Place, fenced};
use super::slot::{Held, HeldLevel, HeldLine, Rule, Slot, SlotRecord};
use super::vmslot::{Intent, Settlement, VmRecord};
use super::{Cells, ExchangeId, Expect, Level, Outcome, Step, StoreError};
use crate::now::Now;

/// A settle under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Settle {
    place: Place,
    id: ExchangeId,
    used: Arc<[HeldLevel]>,
    record: Arc<[u8]>,
    keep: bool,
    now: Now,
    phase: Phase,
    vm: Option<(Expect, VmRecord)>,
    settlement: Option<Settlement>,
    number: u64,
    lost: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    ReadVm,
    ReadSlot,
    Intent(Edit),
    Apply(usize, Edit, Edit),
    Publish(Edit),
}

/// Why an account or a slot was not written.
enum Stop {
    Fenced,
    /// There is nothing to do here, or nothing that can be done.
    Nothing,
}

impl Settle {
    pub(super) fn new(place: Place, id: ExchangeId, used: Vec<Level>, record: Vec<u8>, keep: bool, now: Now) -> Self {
        let used = used.iter().map(HeldLevel::charged).collect();
        Self::of_held(place, id, used, record, keep, now)
    }

    /// The same with the lines of a slot, their amounts being what was used.
    pub(super) fn of_held(
        place: Place,
        id: ExchangeId,
        used: Vec<HeldLevel>,
        record: Vec<u8>,
        keep: bool,
        now: Now,
    ) -> Self {
        Self {
            place,
            id,
            used: used.into(),
            record: record.into(),
            keep,
            now,
            phase: Phase::ReadVm,
            vm: None,
            settlement: None,
            number: 0,
            lost: 0,
        }
    }

    /// Finishes a settle that somebody else decided, as operation `number`.
    pub(super) fn finish(place: Place, settlement: Settlement, number: u64) -> Self {
        let place = Place { slot: settlement.slot, ..place };
        let (now, id, keep) = (Now::default(), settlement.id, settlement.keep);
        let mut settle = Self::of_held(place, id, Vec::new(), Vec::new(), keep, now);
        let publish = Edit::new(settle.place.keys.slot(settle.place.by.vm, settle.place.slot));
        settle.number = number;
        settle.settlement = Some(settlement);
        settle.phase = settle.apply_or_publish(0, publish);
        settle
    }

    /// One store call.
    pub(super) fn step(&mut self, cells: &mut dyn Cells) -> Result<Step, StoreError> {
        match self.phase {
            Phase::ReadVm => self.read_vm(cells),
            Phase::ReadSlot => self.read_slot(cells),
            Phase::Intent(_) => self.write_intent(cells),
            Phase::Apply(..) => self.apply(cells),
            Phase::Publish(_) => self.publish(cells),
        }
    }

    fn goes_to(&mut self, phase: Phase) -> Result<Step, StoreError> {
        self.phase = phase;
        Ok(Step::Again)
    }

    fn read_vm(&mut self, cells: &mut dyn Cells) -> Result<Step, StoreError> {
        match self.place.read_vm(cells)? {
            Err(outcome) => Ok(Step::Ended(outcome)),
            Ok((expect, record)) => {
                self.number = record.next_number();
                self.vm = Some((expect, record));
                self.goes_to(Phase::ReadSlot)
            }
        }
    }

    fn read_slot(&mut self, cells: &mut dyn Cells) -> Result<Step, StoreError> {
        let (expect, record) = match self.place.read_slot(cells)? {
            Err(outcome) => return Ok(Step::Ended(outcome)),
            Ok(found) => found,
        };
        let Slot::Held(held) = record.slot else { return Ok(Step::Ended(Outcome::WrongSlot)) };
        if held.id != self.id {
            return Ok(Step::Ended(Outcome::WrongSlot));
        }
        self.settlement = Some(Settlement {
            slot: self.place.slot,
            id: self.id,
            levels: priced(held, &self.used),
            keep: self.keep,
            record: self.record.to_vec(),
            wall_ms: self.now.wall_ms,
        });
        // Only this VM slot's owner writes this slot, so the version is still good when the accounts are done.
        let key = self.place.keys.slot(self.place.by.vm, self.place.slot);
        let publish = Edit::primed(key, expect, self.published().encode(self.place.by.vm, self.place.slot));
        self.goes_to(Phase::Intent(publish))
    }

    fn write_intent(&mut self, cells: &mut dyn Cells) -> Result<Step, StoreError> {
        let (Some((expect, record)), Some(settlement), Phase::Intent(publish)) =
            (&self.vm, &self.settlement, &self.phase)
        else {
            return Ok(Step::Ended(Outcome::Contended));
        };
        let intent =
            VmRecord { number: self.number, intent: Some(Intent::Settle(settlement.clone())), ..record.clone() };
        let vm = self.place.by.vm;
        if cells.swap(&self.place.keys.vm(vm), *expect, &intent.encode(vm))? {
            self.vm = None;
            let next = self.apply_or_publish(0, publish.clone());
            return self.goes_to(next);
        }
        (self.vm, self.settlement) = (None, None);
        self.lost = self.lost.saturating_add(1);
        if self.lost >= PATIENCE { Ok(Step::Ended(Outcome::Contended)) } else { self.goes_to(Phase::ReadVm) }
    }

    fn apply_or_publish(&self, index: usize, publish: Edit) -> Phase {
        match self.level(index) {
            Some(level) => Phase::Apply(index, Edit::new(self.place.keys.account(&level.subject)), publish),
            None => Phase::Publish(publish),
        }
    }

    fn level(&self, index: usize) -> Option<&HeldLevel> {
        self.settlement.as_ref().and_then(|settlement| settlement.levels.get(index))
    }

    fn apply(&mut self, cells: &mut dyn Cells) -> Result<Step, StoreError> {
        let Phase::Apply(index, edit, publish) = &self.phase else { return Ok(Step::Again) };
        let (index, mut edit, publish) = (*index, edit.clone(), publish.clone());
        let edited = edit.step(cells, |bytes| self.applied(index, bytes))?;
        match edited {
            Edited::Ready | Edited::Lost => self.goes_to(Phase::Apply(index, edit, publish)),
            Edited::Written | Edited::Left(Stop::Nothing) => {
                let next = self.apply_or_publish(index.saturating_add(1), publish);
                self.goes_to(next)
            }
            Edited::Left(Stop::Fenced) => Ok(Step::Ended(Outcome::Fenced)),
            Edited::Hopeless => Ok(Step::Ended(Outcome::Contended)),
        }
    }

    /// The account of level `index` after this settle. One that has it already is stamped all the same: that stops
    /// an owner who is slow. One that cannot be read cannot be charged; its record goes to the ledger all the same.
    fn applied(&self, index: usize, bytes: Option<&[u8]>) -> Decision<Stop> {
        let (Some(level), Some(settlement)) = (self.level(index), &self.settlement) else {
            return Decision::Leave(Stop::Nothing);
        };
        let Some(mut account) = bytes.and_then(|bytes| Account::decode(&level.subject, bytes)) else {
            return Decision::Leave(Stop::Nothing);
        };
        let by = self.place.by;
        let stamp = account.stamp(by.vm);
        if fenced(stamp.generation, by.generation) {
            return Decision::Leave(Stop::Fenced);
        }
        if stamp.number < self.number || seeded(Fault::ForwardIgnoresNumber) {
            level.lines.iter().for_each(|line| account.settle(line, settlement.wall_ms));
        }
        account.set_stamp(by.vm, Stamp { generation: by.generation, number: self.number });
        Decision::Write(account.encode())
    }

    /// The slot after this settle.
    fn published(&self) -> SlotRecord {
        let slot = match &self.settlement {
            Some(settlement) if settlement.keep => {
                Slot::Settled { id: settlement.id, record: settlement.record.clone() }
            }
            _ => Slot::Free,
        };
        SlotRecord { stamp: Stamp { generation: self.place.by.generation, number: self.number }, slot }
    }

    fn publish(&mut self, cells: &mut dyn Cells) -> Result<Step, StoreError> {
        let Phase::Publish(edit) = &self.phase else { return Ok(Step::Again) };
        let mut edit = edit.clone();
        let Place { by, slot, .. } = self.place;
        let edited = edit.step(cells, |bytes| match SlotRecord::decode(by.vm, slot, bytes) {
            Some(found) if fenced(found.stamp.generation, by.generation) => Decision::Leave(Stop::Fenced),
            // It was published before, and perhaps acknowledged and freed since.
            Some(found) if found.stamp.number >= self.number => Decision::Leave(Stop::Nothing),
            // An unreadable slot is lost either way; written anew it is at least ours again.
            _ => Decision::Write(self.published().encode(by.vm, slot)),
        })?;
        match edited {
            Edited::Ready | Edited::Lost => self.goes_to(Phase::Publish(edit)),
            Edited::Written | Edited::Left(Stop::Nothing) => Ok(Step::Ended(Outcome::Done)),
            Edited::Left(Stop::Fenced) => Ok(Step::Ended(Outcome::Fenced)),
            Edited::Hopeless => Ok(Step::Ended(Outcome::Contended)),
        }
    }

    /// See [`Edit::normalise`].
    #[cfg(test)]
    pub(super) fn normalise(&mut self, relabel: super::edit::Relabel<'_>) {
        self.lost = 0;
        let by = &self.place;
        if let Some((expect, record)) = &mut self.vm {
            super::vmslot::normalise(expect, record, relabel(&by.keys.vm(by.by.vm), *expect));
        }
        match &mut self.phase {
            Phase::ReadVm | Phase::ReadSlot => {}
            Phase::Intent(publish) | Phase::Publish(publish) => publish.normalise(relabel),
            Phase::Apply(_, edit, publish) => {
                edit.normalise(relabel);
                publish.normalise(relabel);
            }
        }
    }
}

/// What an exchange held, with what it used of it.
fn priced(held: Held, used: &[HeldLevel]) -> Vec<HeldLevel> {
    let mut levels = held.levels;
    for level in used {
        let position = levels.iter().position(|held| held.subject == level.subject);
        if position.is_none() {
            levels.push(HeldLevel { subject: level.subject.clone(), lines: Vec::new() });
        }
        let Some(held) = levels.iter_mut().find(|held| held.subject == level.subject) else { continue };
        for line in &level.lines {
            let lines = held.lines.iter().filter(|held| held.quota == line.quota).count();
            if lines == 0 {
                // Not held: a debt of the current window.
                held.lines.push(HeldLine { window: 0, amount: 0, used: line.amount, ..line.clone() });
                continue;
            }
            // What was held first is used first. Of a quota that is held on several lines several may say what is used.
            let mut rest = line.amount;
            let of_quota = held.lines.iter_mut().filter(|held| held.quota == line.quota);
            for (place, held) in (1..).zip(of_quota) {
                let room = held.amount.saturating_sub(held.used);
                let more = if place == lines { rest } else { rest.min(room) };
                held.used = held.used.saturating_add(more);
                rest = rest.saturating_sub(more);
            }
        }
    }
    levels
}

impl HeldLevel {
    /// Amounts of the policy's quotas as amounts used.
    fn charged(level: &Level) -> Self {
        let line = |line: &super::Line| HeldLine {
            quota: line.quota.id,
            window: 0,
            amount: line.amount,
            rule: Rule::of(&line.quota),
            used: 0,
        };
        Self { subject: level.subject.clone(), lines: level.lines.iter().map(line).collect() }
    }
}

/// A settled slot on its way to being free.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Free {
    place: Place,
    id: ExchangeId,
    edit: Edit,
}

impl Free {
    pub(super) fn new(place: Place, id: ExchangeId) -> Self {
        let edit = Edit::new(place.keys.slot(place.by.vm, place.slot));
        Self { place, id, edit }
    }

    /// One store call.
    pub(super) fn step(&mut self, cells: &mut dyn Cells) -> Result<Step, StoreError> {
        let (by, slot, id) = (self.place.by, self.place.slot, self.id);
        let edited = self.edit.step(cells, |bytes| {
            let Some(found) = SlotRecord::decode(by.vm, slot, bytes) else {
                return Decision::Leave(Outcome::Unreadable { key: self.place.keys.slot(by.vm, slot) });
            };
            if fenced(found.stamp.generation, by.generation) {
                return Decision::Leave(Outcome::Fenced);
            }
            if !matches!(found.slot, Slot::Settled { id: settled, .. } if settled == id) {
                return Decision::Leave(Outcome::WrongSlot);
            }
            let stamp = Stamp { generation: by.generation, ..found.stamp };
            Decision::Write(SlotRecord { stamp, slot: Slot::Free }.encode(by.vm, slot))
        })?;
        Ok(match edited {
            Edited::Ready | Edited::Lost => Step::Again,
            Edited::Written => Step::Ended(Outcome::Done),
            Edited::Left(outcome) => Step::Ended(outcome),
            Edited::Hopeless => Step::Ended(Outcome::Contended),
        })
    }

    /// See [`Edit::normalise`].
    #[cfg(test)]
    pub(super) fn normalise(&mut self, relabel: super::edit::Relabel<'_>) {
        self.edit.normalise(relabel);
    }
}
