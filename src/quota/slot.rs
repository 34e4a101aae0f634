//! Exchange slots: what one exchange holds, from admission until its record is acknowledged.
//!
//! Layout, little-endian, [`FORMAT`] 5: `format u16`, `vm u16`, `slot u32`, the stamp of the last write
//! (generation u32, number u64), then a state byte: 0 free; 1 held (exchange id, levels, delivered u64, draft);
//! 2 settled (exchange id, record).

use super::account::{Kind, Stamp};
use super::keys::{FORMAT, Keys};
use super::layout::{Reader, Writer};
use super::{Cells, ExchangeId, Incarnation, QuotaId, StoreError, Window};

/// What an exchange slot says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Slot {
    /// Nothing: the next admission may take it.
    Free,
    /// A running exchange, or one whose VM died.
    Held(Held),
    /// An ended exchange whose record is not acknowledged yet.
    Settled {
        /// Which exchange.
        id: ExchangeId,
        /// Its record in wire form.
        record: Vec<u8>,
    },
}

/// What a running exchange holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Held {
    /// Which exchange.
    pub id: ExchangeId,
    /// Everything it holds, in the order in which accounts are written.
    pub levels: Vec<HeldLevel>,
    /// Output tokens delivered when the slot was last written.
    pub delivered: u64,
    /// The engine's bytes from admission: what it needs to make a record when the VM is dead.
    pub draft: Vec<u8>,
}

/// What an exchange holds of one account.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HeldLevel {
    /// The account's subject.
    pub subject: String,
    /// One line a quota; of a sliding window one a slice that it was charged in.
    pub lines: Vec<HeldLine>,
}

/// What an exchange holds of one quota: enough to settle it without the policy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HeldLine {
    /// Which quota.
    pub quota: QuotaId,
    /// The window it was admitted in, by its start; for a bucket the moment of the hold, for a sliding window the start
    /// of the slice that it was charged in. 0: none.
    pub window: u64,
    /// Micro-units held. In the answer to "what does it cost", micro-units used.
    pub amount: u64,
    pub(super) rule: Rule,
    /// Micro-units charged: only in the intent of a settle.
    pub(super) used: u64,
}

#[cfg(test)]
impl HeldLevel {
    /// An account of which these amounts are held.
    pub fn holding(subject: &str, lines: impl IntoIterator<Item = (super::Quota, u64)>) -> Self {
        let line = |(quota, amount): (super::Quota, u64)| HeldLine {
            quota: quota.id,
            window: 1,
            amount,
            rule: Rule::of(&quota),
            used: 0,
        };
        Self { subject: subject.to_owned(), lines: lines.into_iter().map(line).collect() }
    }
}

impl HeldLine {
    /// Whether `more` is held with it. Of a sliding window each slice has a line, or what is given back of the one would be
    /// taken from the other.
    fn is_with(&self, more: &Self) -> bool {
        self.quota == more.quota && (self.window == more.window || !matches!(self.rule, Rule::Sliding { .. }))
    }

    /// The start of the window that it is charged in; 0 where windows have no start.
    pub fn begun(&self) -> u64 {
        match self.rule {
            Rule::Timed | Rule::FirstUse { .. } => self.window,
            Rule::Bucket { .. } | Rule::Sliding { .. } | Rule::Concurrent => 0,
        }
    }
}

/// The part of a quota that settling needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Rule {
    /// Windows that are opened by the calendar, by the ledger, or once.
    Timed,
    FirstUse {
        granted: bool,
    },
    Sliding {
        length_ms: u64,
    },
    Bucket {
        limit: u64,
        period_ms: u64,
    },
    Concurrent,
}

impl Rule {
    pub(super) fn of(quota: &super::Quota) -> Self {
        match quota.window {
            Window::Calendar { .. } | Window::Anniversary { .. } | Window::Term { .. } | Window::Lifetime => {
                Self::Timed
            }
            Window::FirstUse { .. } => Self::FirstUse { granted: quota.granted },
            Window::Sliding { length_ms } => Self::Sliding { length_ms },
            Window::Bucket { period_ms, .. } => Self::Bucket { limit: quota.limit, period_ms },
            Window::Concurrent => Self::Concurrent,
        }
    }

    /// Of which kind the entry is that such a line changes.
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Timed | Self::FirstUse { .. } => Kind::Windowed,
            Self::Sliding { .. } => Kind::Sliding,
            Self::Bucket { .. } => Kind::Bucket,
            Self::Concurrent => Kind::Concurrent,
        }
    }
}

impl Held {
    /// Adds what an extension holds.
    pub(super) fn add(&mut self, more: &[HeldLevel]) {
        for level in more {
            let Some(held) = self.levels.iter_mut().find(|held| held.subject == level.subject) else {
                self.levels.push(level.clone());
                continue;
            };
            for line in &level.lines {
                match held.lines.iter_mut().find(|held| held.is_with(line)) {
                    Some(held) => held.amount = held.amount.saturating_add(line.amount),
                    None => held.lines.push(line.clone()),
                }
            }
        }
    }
}

/// A slot as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct SlotRecord {
    pub(super) stamp: Stamp,
    pub(super) slot: Slot,
}

/// Reads exchange slot `slot` of VM slot `vm`. One never written is free; `None`: not a record of this slot.
pub fn read_slot(keys: &Keys, vm: u16, slot: u32, cells: &mut dyn Cells) -> Result<Option<Slot>, StoreError> {
    let cell = cells.load(&keys.slot(vm, slot))?;
    Ok(SlotRecord::decode(vm, slot, cell.as_ref().map(|cell| cell.value.as_slice())).map(|record| record.slot))
}

impl SlotRecord {
    /// `None` bytes are a slot never written: free.
    pub(super) fn decode(vm: u16, slot: u32, bytes: Option<&[u8]>) -> Option<Self> {
        let Some(bytes) = bytes else {
            return Some(Self { stamp: Stamp::default(), slot: Slot::Free });
        };
        let mut from = Reader::new(bytes);
        if (from.u16()?, from.u16()?, from.u32()?) != (FORMAT, vm, slot) {
            return None;
        }
        let stamp = Stamp { generation: from.u32()?, number: from.u64()? };
        let slot = match from.u8()? {
            0 => Slot::Free,
            1 => Slot::Held(Held {
                id: read_id(&mut from)?,
                levels: read_levels(&mut from)?,
                delivered: from.u64()?,
                draft: from.bytes()?.to_vec(),
            }),
            2 => Slot::Settled { id: read_id(&mut from)?, record: from.bytes()?.to_vec() },
            _ => return None,
        };
        from.end(Self { stamp, slot })
    }

    pub(super) fn encode(&self, vm: u16, slot: u32) -> Vec<u8> {
        let mut to = Writer::new(256);
        to.u16(FORMAT);
        to.u16(vm);
        to.u32(slot);
        to.u32(self.stamp.generation);
        to.u64(self.stamp.number);
        match &self.slot {
            Slot::Free => to.u8(0),
            Slot::Held(held) => {
                to.u8(1);
                write_id(&mut to, held.id);
                write_levels(&mut to, &held.levels);
                to.u64(held.delivered);
                to.bytes(&held.draft);
            }
            Slot::Settled { id, record } => {
                to.u8(2);
                write_id(&mut to, *id);
                to.bytes(record);
            }
        }
        to.done()
    }
}

pub(super) fn read_id(from: &mut Reader<'_>) -> Option<ExchangeId> {
    let by = Incarnation { epoch: from.u64()?, vm: from.u16()?, generation: from.u32()? };
    Some(ExchangeId { by, sequence: from.u64()? })
}

pub(super) fn write_id(to: &mut Writer, id: ExchangeId) {
    to.u64(id.by.epoch);
    to.u16(id.by.vm);
    to.u32(id.by.generation);
    to.u64(id.sequence);
}

pub(super) fn read_levels(from: &mut Reader<'_>) -> Option<Vec<HeldLevel>> {
    from.list(|from| {
        let subject = from.text()?;
        Some(HeldLevel { subject, lines: from.list(read_line)? })
    })
}

pub(super) fn write_levels(to: &mut Writer, levels: &[HeldLevel]) {
    to.list(levels, |to, level| {
        to.bytes(level.subject.as_bytes());
        to.list(&level.lines, write_line);
    });
}

fn read_line(from: &mut Reader<'_>) -> Option<HeldLine> {
    let quota = QuotaId(from.u64()?);
    let (window, amount, used) = (from.u64()?, from.u64()?, from.u64()?);
    let rule = match from.u8()? {
        0 => Rule::Timed,
        1 => Rule::FirstUse { granted: from.flag()? },
        2 => Rule::Bucket { limit: from.u64()?, period_ms: from.u64()? },
        3 => Rule::Concurrent,
        4 => Rule::Sliding { length_ms: from.u64()? },
        _ => return None,
    };
    Some(HeldLine { quota, window, amount, rule, used })
}

fn write_line(to: &mut Writer, line: &HeldLine) {
    to.u64(line.quota.0);
    to.u64(line.window);
    to.u64(line.amount);
    to.u64(line.used);
    match line.rule {
        Rule::Timed => to.u8(0),
        Rule::FirstUse { granted } => {
            to.u8(1);
            to.flag(granted);
        }
        Rule::Bucket { limit, period_ms } => {
            to.u8(2);
            to.u64(limit);
            to.u64(period_ms);
        }
        Rule::Concurrent => to.u8(3),
        Rule::Sliding { length_ms } => {
            to.u8(4);
            to.u64(length_ms);
        }
    }
}
