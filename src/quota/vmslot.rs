//! VM slots: who owns one, whether it still beats, and the one operation that its owner has not finished.
//!
//! Layout, little-endian, [`FORMAT`] 5: `format u16`, `vm u16`, `epoch u64`, generation u32, beat u64, released u8,
//! number u64, slots u32, then an intent byte: 0 none; 1 hold (slot u32, levels); 2 settle (slot u32,
//! exchange id, levels, keep u8, record, now u64).

use super::ExchangeId;
use super::keys::FORMAT;
use super::layout::{Reader, Writer};
use super::slot::{HeldLevel, read_id, read_levels, write_id, write_levels};

/// A VM slot as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct VmRecord {
    pub(super) epoch: u64,
    pub(super) generation: u32,
    /// Raised by every tick of the owner.
    pub(super) beat: u64,
    /// Nobody owns it and nothing is left to do: a new VM may take it at once.
    pub(super) released: bool,
    /// The number of the last operation. Numbers rise by two; the odd one above is for its undoing.
    pub(super) number: u64,
    /// One more than the highest exchange slot ever used: how far recovery looks.
    pub(super) slots: u32,
    /// The operation with this number, finished or not: whoever takes the slot over looks.
    pub(super) intent: Option<Intent>,
}

/// Everything that somebody else needs to finish an operation, or to undo it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Intent {
    /// Committed by its slot; undone otherwise.
    Hold { slot: u32, levels: Vec<HeldLevel> },
    /// Decided; finished by whoever finds it.
    Settle(Settlement),
}

/// A decided end of an exchange.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Settlement {
    pub(super) slot: u32,
    pub(super) id: ExchangeId,
    /// What it held and, in `used`, what it costs.
    pub(super) levels: Vec<HeldLevel>,
    /// Whether the record stays in the slot until it is acknowledged.
    pub(super) keep: bool,
    pub(super) record: Vec<u8>,
    /// When it was decided: buckets drain until then.
    pub(super) wall_ms: u64,
}

impl VmRecord {
    /// A VM slot that nobody ever owned.
    pub(super) fn new(epoch: u64) -> Self {
        Self { epoch, generation: 0, beat: 0, released: true, number: 0, slots: 0, intent: None }
    }

    /// `None`: other format, other VM slot, or not a record at all.
    pub(super) fn decode(vm: u16, bytes: &[u8]) -> Option<Self> {
        let mut from = Reader::new(bytes);
        if (from.u16()?, from.u16()?) != (FORMAT, vm) {
            return None;
        }
        let epoch = from.u64()?;
        let (generation, beat, released) = (from.u32()?, from.u64()?, from.flag()?);
        let (number, slots) = (from.u64()?, from.u32()?);
        let intent = match from.u8()? {
            0 => None,
            1 => Some(Intent::Hold { slot: from.u32()?, levels: read_levels(&mut from)? }),
            2 => Some(Intent::Settle(Settlement {
                slot: from.u32()?,
                id: read_id(&mut from)?,
                levels: read_levels(&mut from)?,
                keep: from.flag()?,
                record: from.bytes()?.to_vec(),
                wall_ms: from.u64()?,
            })),
            _ => return None,
        };
        from.end(Self { epoch, generation, beat, released, number, slots, intent })
    }

    pub(super) fn encode(&self, vm: u16) -> Vec<u8> {
        let mut to = Writer::new(256);
        to.u16(FORMAT);
        to.u16(vm);
        to.u64(self.epoch);
        to.u32(self.generation);
        to.u64(self.beat);
        to.flag(self.released);
        to.u64(self.number);
        to.u32(self.slots);
        match &self.intent {
            None => to.u8(0),
            Some(Intent::Hold { slot, levels }) => {
                to.u8(1);
                to.u32(*slot);
                write_levels(&mut to, levels);
            }
            Some(Intent::Settle(settlement)) => {
                to.u8(2);
                to.u32(settlement.slot);
                write_id(&mut to, settlement.id);
                write_levels(&mut to, &settlement.levels);
                to.flag(settlement.keep);
                to.bytes(&settlement.record);
                to.u64(settlement.wall_ms);
            }
        }
        to.done()
    }

    /// The number of the operation after this one.
    pub(super) fn next_number(&self) -> u64 {
        self.number.saturating_add(2)
    }
}

/// See [`Relabel`](super::edit::Relabel): a record that was read, and the name under which it still is what it was.
#[cfg(test)]
pub(super) fn normalise(expect: &mut super::Expect, record: &mut VmRecord, same: Option<super::Expect>) {
    *expect = same.unwrap_or(super::edit::NEVER);
    if same.is_none() {
        *record = VmRecord::new(0);
    }
}
