//! Ending what a VM left behind: its unfinished operation, then every exchange that it held.

use super::account::{Account, Stamp};
use super::edit::{Decision, Edit, Edited};
use super::fault::{Fault, seeded};
use super::operation::{Place, fenced};
use super::settle::Settle;
use super::slot::{Held, HeldLevel, Slot, SlotRecord};
use super::vmslot::{Intent, VmRecord};
use super::{Cells, ExchangeId, Incarnation, Keys, Outcome, Step, StoreError};
use crate::now::Now;

/// What an exchange costs whose VM died.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The lines of [`Held::levels`] with what is charged for in place of the amounts held; a line left out is
    /// released unused. `held.levels.clone()` charges everything that was held.
    pub used: Vec<HeldLevel>,
    /// Its record in wire form.
    pub record: Vec<u8>,
}

/// A settled slot whose record is to be sent, and the slot freed when it is acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unsent {
    /// The exchange slot.
    pub slot: u32,
    /// Which exchange.
    pub id: ExchangeId,
    /// Its record in wire form.
    pub record: Vec<u8>,
}

/// The recovery of a VM slot that was just claimed.
///
/// Finishes or undoes the operation found in it, then looks at every exchange slot: a held one is settled by the
/// caller's rule, a settled one is noted for sending. It does so as the claimer, whose [`by`](Self::by) also frees
/// the slots. When all that it found was sent, [`release`](super::release) gives the VM slot to the next VM, or the
/// claimer keeps it for its own exchanges.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Recovery {
    place: Place,
    keep: bool,
    now: Now,
    phase: Phase,
    slots: u32,
    unsent: Vec<Unsent>,
    ended: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// Was the hold committed? If not, rewrite its slot so that it cannot be.
    Seal(Edit, Undoing),
    /// Undo it, level by level.
    Undo(usize, Edit, Undoing),
    /// Finish the settle that was decided.
    Forward(Box<Settle>),
    Scan(u32),
    /// End a held exchange, with the record that is then unsent.
    End(u32, Box<Settle>, Unsent),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Undoing {
    slot: u32,
    levels: Vec<HeldLevel>,
    number: u64,
}

/// Why a slot was not sealed.
enum Unsealed {
    Fenced,
    Committed,
}

impl Recovery {
    /// `keep`: records stay in their slots until acknowledged (there is a collector).
    pub(super) fn new(keys: &Keys, by: Incarnation, found: VmRecord, keep: bool, now: Now) -> Self {
        let place = Place { keys: keys.clone(), by, slot: 0 };
        let phase = match found.intent {
            None => Phase::Scan(0),
            Some(Intent::Settle(settlement)) => {
                Phase::Forward(Box::new(Settle::finish(place.clone(), settlement, found.number)))
            }
            Some(Intent::Hold { slot, levels }) => {
                Phase::Seal(Edit::new(keys.slot(by.vm, slot)), Undoing { slot, levels, number: found.number })
            }
        };
        Self { place, keep, now, phase, slots: found.slots, unsent: Vec::new(), ended: 0 }
    }

    /// As whom it works.
    pub fn by(&self) -> Incarnation {
        self.place.by
    }

    /// What is to be sent, as far as it has found out; everything once it is done.
    pub fn unsent(&self) -> &[Unsent] {
        &self.unsent
    }

    /// How many held exchanges it has ended.
    pub fn ended(&self) -> u32 {
        self.ended
    }

    /// One store call. `charge` says what a lost exchange costs; it may be asked again for the same exchange and
    /// must then answer the same.
    pub fn step(&mut self, cells: &mut dyn Cells, charge: &mut dyn FnMut(&Held) -> Ending) -> Result<Step, StoreError> {
        match self.phase {
            Phase::Seal(..) => self.seal(cells),
            Phase::Undo(..) => self.undo(cells),
            Phase::Forward(_) => self.forward(cells),
            Phase::Scan(slot) => self.scan(slot, cells, charge),
            Phase::End(..) => self.end(cells),
        }
    }

    /// Steps to the end: [`Outcome::Done`], [`Outcome::Fenced`] when somebody claimed the VM slot meanwhile and does
    /// it all, or [`Outcome::Contended`].
    pub fn run(
        &mut self,
        cells: &mut dyn Cells,
        charge: &mut dyn FnMut(&Held) -> Ending,
    ) -> Result<Outcome, StoreError> {
        loop {
            if let Step::Ended(outcome) = self.step(cells, charge)? {
                return Ok(outcome);
            }
        }
    }

    fn goes_to(&mut self, phase: Phase) -> Result<Step, StoreError> {
        self.phase = phase;
        Ok(Step::Again)
    }

    fn seal(&mut self, cells: &mut dyn Cells) -> Result<Step, StoreError> {
        let Phase::Seal(edit, undoing) = &self.phase else { return Ok(Step::Again) };
        let (mut edit, undoing) = (edit.clone(), undoing.clone());
        let by = self.place.by;
        let edited = edit.step(cells, |bytes| {
            let found = SlotRecord::decode(by.vm, undoing.slot, bytes);
            // A slot that cannot be read holds nothing that could be committed.
            let found = found.unwrap_or(SlotRecord { stamp: Stamp::default(), slot: Slot::Free });
            if fenced(found.stamp.generation, by.generation) {
                return Decision::Leave(Unsealed::Fenced);
            }
            if found.stamp.number == undoing.number {
                return Decision::Leave(Unsealed::Committed);
            }
            let stamp = Stamp { generation: by.generation, ..found.stamp };
            Decision::Write(SlotRecord { stamp, ..found }.encode(by.vm, undoing.slot))
        })?;
        if matches!(edited, Edited::Ready) && seeded(Fault::NoRestampOfSlot) {
            return self.undo_from(0, undoing);
        }
        match edited {
            Edited::Ready | Edited::Lost => self.goes_to(Phase::Seal(edit, undoing)),
            Edited::Written => self.undo_from(0, undoing),
            Edited::Left(Unsealed::Committed) => self.goes_to(Phase::Scan(0)),
            Edited::Left(Unsealed::Fenced) => Ok(Step::Ended(Outcome::Fenced)),
            Edited::Hopeless => Ok(Step::Ended(Outcome::Contended)),
        }
    }

    fn undo_from(&mut self, index: usize, undoing: Undoing) -> Result<Step, StoreError> {
        match undoing.levels.get(index) {
            Some(level) => {
                let edit = Edit::new(self.place.keys.account(&level.subject));
                self.goes_to(Phase::Undo(index, edit, undoing))
            }
            None => self.goes_to(Phase::Scan(0)),
        }
    }

    fn undo(&mut self, cells: &mut dyn Cells) -> Result<Step, StoreError> {
        let Phase::Undo(index, edit, undoing) = &self.phase else { return Ok(Step::Again) };
        let (index, mut edit, undoing) = (*index, edit.clone(), undoing.clone());
        let Some(level) = undoing.levels.get(index) else { return self.goes_to(Phase::Scan(0)) };
        let stamps = !seeded(Fault::NoStampOfUntouchedLevels);
        let edited =
            edit.step(cells, |bytes| undo(level, &self.place, undoing.number, stamps, self.now.wall_ms, bytes))?;
        match edited {
            Edited::Ready | Edited::Lost => self.goes_to(Phase::Undo(index, edit, undoing)),
            Edited::Written | Edited::Left(false) => self.undo_from(index.saturating_add(1), undoing),
            Edited::Left(true) => Ok(Step::Ended(Outcome::Fenced)),
            Edited::Hopeless => Ok(Step::Ended(Outcome::Contended)),
        }
    }

    fn forward(&mut self, cells: &mut dyn Cells) -> Result<Step, StoreError> {
        let Phase::Forward(settle) = &mut self.phase else { return Ok(Step::Again) };
        match settle.step(cells)? {
            Step::Again => Ok(Step::Again),
            Step::Ended(Outcome::Done) => self.goes_to(Phase::Scan(0)),
            ended => Ok(ended),
        }
    }

    fn scan(
        &mut self,
        slot: u32,
        cells: &mut dyn Cells,
        charge: &mut dyn FnMut(&Held) -> Ending,
    ) -> Result<Step, StoreError> {
        if slot >= self.slots {
            return Ok(Step::Ended(Outcome::Done));
        }
        let place = Place { slot, ..self.place.clone() };
        let next = Phase::Scan(slot.saturating_add(1));
        match place.read_slot(cells)? {
            Err(Outcome::Fenced) => Ok(Step::Ended(Outcome::Fenced)),
            Ok((_, SlotRecord { slot: Slot::Held(held), .. })) if !seeded(Fault::LostNotEnded) => {
                let Ending { mut used, record } = charge(&held);
                if seeded(Fault::LostIsForgotten) {
                    used.clear();
                }
                let unsent = Unsent { slot, id: held.id, record: record.clone() };
                let settle = Settle::of_held(place, held.id, used, record, self.keeps_lost(), self.now);
                self.goes_to(Phase::End(slot, Box::new(settle), unsent))
            }
            Ok((_, SlotRecord { slot: Slot::Settled { id, record }, .. })) => {
                self.unsent.push(Unsent { slot, id, record });
                self.goes_to(next)
            }
            // Free, or not a record: there is nothing to end.
            _ => self.goes_to(next),
        }
    }

    fn keeps_lost(&self) -> bool {
        self.keep && !seeded(Fault::LostIsForgotten)
    }

    fn end(&mut self, cells: &mut dyn Cells) -> Result<Step, StoreError> {
        let Phase::End(slot, settle, unsent) = &mut self.phase else { return Ok(Step::Again) };
        match settle.step(cells)? {
            Step::Again => Ok(Step::Again),
            Step::Ended(Outcome::Done | Outcome::WrongSlot) => {
                let (next, unsent) = (Phase::Scan(slot.saturating_add(1)), unsent.clone());
                self.ended = self.ended.saturating_add(1);
                if self.keeps_lost() {
                    self.unsent.push(unsent);
                }
                self.goes_to(next)
            }
            ended => Ok(ended),
        }
    }

    /// What it is at, in the words of the search.
    #[cfg(test)]
    pub(super) fn does(&self) -> &'static str {
        match self.phase {
            Phase::Seal(..) => "a hold of the dead was committed or not",
            Phase::Undo(..) => "a hold of the dead is undone",
            Phase::Forward(_) => "a settle of the dead is finished",
            Phase::End(..) => "a lost exchange is ended",
            Phase::Scan(_) => "",
        }
    }

    /// See [`Edit::normalise`].
    #[cfg(test)]
    pub(super) fn normalise(&mut self, relabel: super::edit::Relabel<'_>) {
        match &mut self.phase {
            Phase::Seal(edit, _) | Phase::Undo(_, edit, _) => edit.normalise(relabel),
            Phase::Forward(settle) | Phase::End(_, settle, _) => settle.normalise(relabel),
            Phase::Scan(_) => {}
        }
    }
}

/// The account of `level` after hold `number` is taken back: where the account has it. `stamps`: an account that does
/// not have it is stamped all the same, so that a slow owner cannot write it any more. `Leave(true)`: fenced.
pub(super) fn undo(
    level: &HeldLevel,
    place: &Place,
    number: u64,
    stamps: bool,
    wall_ms: u64,
    bytes: Option<&[u8]>,
) -> Decision<bool> {
    // A hold writes a missing account by insert-if-absent, so it too must be there before it is certain that nobody does.
    let found = match bytes {
        None if stamps => Some(Account::new(&level.subject)),
        None => None,
        Some(bytes) => Account::decode(&level.subject, bytes),
    };
    let Some(mut account) = found else { return Decision::Leave(false) };
    let stamp = account.stamp(place.by.vm);
    if fenced(stamp.generation, place.by.generation) {
        return Decision::Leave(true);
    }
    let has_it = stamp.number == number;
    if !has_it && !stamps {
        return Decision::Leave(false);
    }
    let undone = if seeded(Fault::UndoKeepsNumber) { number } else { number.saturating_add(1) };
    if has_it {
        level.lines.iter().for_each(|line| account.undo(line, wall_ms));
    }
    account.set_stamp(place.by.vm, Stamp { generation: place.by.generation, number: undone });
    Decision::Write(account.encode())
}
