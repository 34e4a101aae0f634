//! Operations: step machines that hold, extend, settle and free, one store call a step.
//!
//! The same machines are driven by the owner of a VM slot, by recovery and by the search of all interleavings.

use super::fault::{Fault, seeded};
use super::hold::Hold;
use super::keys::Keys;
use super::settle::{Free, Settle};
use super::slot::{HeldLevel, SlotRecord};
use super::vmslot::VmRecord;
use super::{Cells, ExchangeId, Expect, Incarnation, Level, Outcome, Step, StoreError};
use crate::now::Now;

/// An operation under way: a value that can be kept, compared and driven by anybody.
///
/// A VM slot has one unfinished operation at a time: drive one to its end before the next begins. When
/// [`step`](Self::step) fails, no state was changed by it, and it may be called again; who gives up instead must
/// treat its incarnation as fenced.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Operation {
    machine: Machine,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Machine {
    Hold(Box<Hold>),
    Settle(Box<Settle>),
    Free(Free),
}

/// Where an operation happens: whose slot, and under which keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) keys: Keys,
    pub(super) by: Incarnation,
    pub(super) slot: u32,
}

impl Operation {
    /// Admits exchange `id` into the free slot `slot`: holds every line of every level, or nothing.
    ///
    /// `levels` are in the bundle's total order of accounts, each subject once and in it each quota once. `draft` is
    /// kept for whoever must end the exchange when this VM is dead.
    pub fn hold(
        keys: &Keys,
        by: Incarnation,
        slot: u32,
        id: ExchangeId,
        levels: Vec<Level>,
        draft: Vec<u8>,
        now: Now,
    ) -> Self {
        let place = Place { keys: keys.clone(), by, slot };
        Self { machine: Machine::Hold(Box::new(Hold::admit(place, id, levels, draft, now))) }
    }

    /// Holds `more` for the running exchange `id`, in the windows it was admitted in, and writes down what it has
    /// delivered. A refusal changes nothing: the stream is cut at what it holds, or goes on with that.
    pub fn extend(
        keys: &Keys,
        by: Incarnation,
        slot: u32,
        id: ExchangeId,
        more: Vec<Level>,
        delivered: u64,
        now: Now,
    ) -> Self {
        let place = Place { keys: keys.clone(), by, slot };
        Self { machine: Machine::Hold(Box::new(Hold::extend(place, id, more, delivered, now))) }
    }

    /// Ends exchange `id`: replaces everything it holds by what it `used`.
    ///
    /// A quota that it holds and `used` does not name is released unused; one that it does not hold is charged to the
    /// current window. `keep`: the record stays in the slot until [`free`](Self::free); otherwise the slot is free at
    /// once, because nobody collects records. [`Outcome::WrongSlot`] says that the exchange was ended before.
    #[expect(clippy::too_many_arguments, reason = "each is one fact about the end of an exchange")]
    pub fn settle(
        keys: &Keys,
        by: Incarnation,
        slot: u32,
        id: ExchangeId,
        used: Vec<Level>,
        record: Vec<u8>,
        keep: bool,
        now: Now,
    ) -> Self {
        let place = Place { keys: keys.clone(), by, slot };
        Self { machine: Machine::Settle(Box::new(Settle::new(place, id, used, record, keep, now))) }
    }

    /// Frees the slot after the record of `id` was acknowledged. A slot that holds anything else stays as it is, and
    /// the outcome is [`Outcome::WrongSlot`]: it was freed before.
    pub fn free(keys: &Keys, by: Incarnation, slot: u32, id: ExchangeId) -> Self {
        let place = Place { keys: keys.clone(), by, slot };
        Self { machine: Machine::Free(Free::new(place, id)) }
    }

    /// What a hold or an extension holds, with the windows it holds it in: final once it is [`Outcome::Done`].
    /// Empty for other operations.
    pub fn holds(&self) -> &[HeldLevel] {
        match &self.machine {
            Machine::Hold(machine) => machine.holds(),
            Machine::Settle(_) | Machine::Free(_) => &[],
        }
    }

    /// One store call.
    pub fn step(&mut self, cells: &mut dyn Cells) -> Result<Step, StoreError> {
        match &mut self.machine {
            Machine::Hold(machine) => machine.step(cells),
            Machine::Settle(machine) => machine.step(cells),
            Machine::Free(machine) => machine.step(cells),
        }
    }

    /// Steps until the operation has ended. Bounded, because every machine gives up after 10,000 lost swaps.
    pub fn run(&mut self, cells: &mut dyn Cells) -> Result<Outcome, StoreError> {
        loop {
            if let Step::Ended(outcome) = self.step(cells)? {
                return Ok(outcome);
            }
        }
    }

    /// What it is taking back, in the words of the search.
    #[cfg(test)]
    pub(super) fn takes_back(&self) -> Option<&'static str> {
        match &self.machine {
            Machine::Hold(hold) => hold.takes_back(),
            _ => None,
        }
    }

    /// See [`Edit::normalise`](super::edit::Edit::normalise).
    #[cfg(test)]
    pub(super) fn normalise(&mut self, relabel: super::edit::Relabel<'_>) {
        match &mut self.machine {
            Machine::Hold(machine) => machine.normalise(relabel),
            Machine::Settle(machine) => machine.normalise(relabel),
            Machine::Free(machine) => machine.normalise(relabel),
        }
    }
}

/// Whether a value written under generation `found` stops a writer of generation `own`.
pub(super) fn fenced(found: u32, own: u32) -> bool {
    found > own && !seeded(Fault::NoGenerationCheck)
}

impl Place {
    /// Loads the VM slot. `Err`: this writer must stop, or cannot read it.
    pub(super) fn read_vm(&self, cells: &mut dyn Cells) -> Result<Result<(Expect, VmRecord), Outcome>, StoreError> {
        let key = self.keys.vm(self.by.vm);
        let Some(cell) = cells.load(&key)? else { return Ok(Err(Outcome::Fenced)) };
        Ok(match VmRecord::decode(self.by.vm, &cell.value) {
            None => Err(Outcome::Unreadable { key }),
            Some(record) if fenced(record.generation, self.by.generation) => Err(Outcome::Fenced),
            Some(record) => Ok((Expect::Version(cell.version), record)),
        })
    }

    /// Loads the exchange slot. `Err`: this writer must stop, or cannot read it.
    pub(super) fn read_slot(&self, cells: &mut dyn Cells) -> Result<Result<(Expect, SlotRecord), Outcome>, StoreError> {
        let key = self.keys.slot(self.by.vm, self.slot);
        let cell = cells.load(&key)?;
        let expect = cell.as_ref().map_or(Expect::Absent, |cell| Expect::Version(cell.version));
        let bytes = cell.as_ref().map(|cell| cell.value.as_slice());
        Ok(match SlotRecord::decode(self.by.vm, self.slot, bytes) {
            None => Err(Outcome::Unreadable { key }),
            Some(record) if fenced(record.stamp.generation, self.by.generation) => Err(Outcome::Fenced),
            Some(record) => Ok((expect, record)),
        })
    }

    /// Swaps the exchange slot.
    pub(super) fn swap_slot(
        &self,
        expect: Expect,
        record: &SlotRecord,
        cells: &mut dyn Cells,
    ) -> Result<bool, StoreError> {
        cells.swap(&self.keys.slot(self.by.vm, self.slot), expect, &record.encode(self.by.vm, self.slot))
    }
}
