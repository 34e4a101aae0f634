//! The record of one subject: every quota's windows, holds and grants, and who changed it last.
//!
//! Layout, little-endian, [`FORMAT`] 5: `format u16`, subject (length u32 and UTF-8), a count u16 and that many
//! quotas, a count u16 and that many stamps, and nothing behind them. A *number* has up to ten bytes (see `layout`).
//!
//! | part | bytes |
//! |---|---|
//! | quota | id u64, kind u8, then by kind |
//! | windowed, 0 | closed u8, ledger's left, a number, current period, a count u8 and that many before it, the last one first |
//! | bucket, 1 | moment of the level, level, remainder of its last drain: three numbers |
//! | concurrent, 2 | what runs, a number |
//! | sliding, 3 | length, latest moment, held: three numbers, a count u16 and that many slices: start and amount, two numbers |
//! | period | start, ends, granted, used, held, returned, carried, allowed, owed, spare: ten numbers; waived, late: two u8 |
//! | stamp | VM slot u16, generation u32, number of the operation, a number |

use super::keys::FORMAT;
use super::layout::{Reader, Writer};
use super::sliding::Slices;
use super::standing::Carry;
use super::{QuotaId, Window};

/// How many windows before the current one are kept, whatever is held in them: what an exchange was charged there last is
/// still to be reported.
const KEPT: usize = 2;
/// The most that are kept. What outlives them is charged to the current one.
const MOST_KEPT: usize = 64;

/// All quotas of one subject.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Account {
    pub(super) subject: String,
    pub(super) entries: Vec<Entry>,
    stamps: Vec<(u16, Stamp)>,
}

/// The last change that was made for a VM slot: the later one is greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Stamp {
    pub(super) generation: u32,
    pub(super) number: u64,
}

/// One quota of an account.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Entry {
    pub(super) id: QuotaId,
    pub(super) kind: Kind,
    /// A granted first-use window that ended unused: the ledger opens the next.
    pub(super) closed: bool,
    /// What the ledger could still grant, as it last said.
    pub(super) left: u64,
    pub(super) current: Period,
    /// The windows before it that are kept, the last one first.
    pub(super) before: Vec<Period>,
    /// Of a sliding window, of which `current.held` says what running exchanges were charged.
    pub(super) slices: Slices,
}

/// What the numbers of an entry mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// Periods are windows.
    Windowed,
    /// `current.used` is the level at the moment `current.start`, `current.ends` the remainder of its last drain.
    Bucket,
    /// Only `current.held` is used.
    Concurrent,
    /// `slices` is used, and `current.held`.
    Sliding,
}

impl Kind {
    pub(super) fn of(window: &Window) -> Self {
        match window {
            Window::Calendar { .. }
            | Window::Anniversary { .. }
            | Window::FirstUse { .. }
            | Window::Term { .. }
            | Window::Lifetime => Self::Windowed,
            Window::Bucket { .. } => Self::Bucket,
            Window::Concurrent => Self::Concurrent,
            Window::Sliding { .. } => Self::Sliding,
        }
    }
}

/// One window of one quota, as this process knows it. Amounts are micro-units and cumulative within the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Period {
    /// When it began, Unix milliseconds; 0: none was opened.
    pub start: u64,
    /// The first moment after it.
    pub ends: u64,
    /// What the ledger let this process spend in it; 0 where the limit is the grant.
    pub granted: u64,
    /// Charged.
    pub used: u64,
    /// Held by running exchanges.
    pub held: u64,
    /// Given back to the ledger; without one, passed on to the window after it.
    pub returned: u64,
    /// What the windows before it left unspent and passed on to it. With a ledger that is a part of `granted`.
    pub carried: u64,
    /// The most that it was ever said to have, by the holds that were made here: the limit, and what was carried. What is
    /// charged beyond that is debt. `u64::MAX`: the ledger decides.
    pub allowed: u64,
    /// What is paid here of the debts of windows before it. With a ledger only what that could not take off `granted`.
    pub owed: u64,
    /// What windows that were skipped before it, or are no longer kept, can still pay of debts that come to light later.
    pub spare: u64,
    /// Whether something was let pass here that the quota, enforced, would have refused: then nothing that is charged here
    /// is debt.
    pub waived: bool,
    /// Something was charged here when the window was over, or may be, because a call that holds nothing was admitted in
    /// it: it is kept a while, so that this can be charged and reported here.
    pub late: bool,
}

impl Period {
    /// Granted and neither charged, held nor given back.
    pub fn unspent(&self) -> u64 {
        self.granted.saturating_sub(self.returned.saturating_add(self.used).saturating_add(self.held))
    }

    /// Whether nothing came of it: nothing is used or held in it, nothing is known to come, and nothing more can be.
    pub(super) fn is_blank(&self) -> bool {
        self.is_unused() && !self.late && self.granted <= self.returned
    }

    /// Whether nothing was charged to it and nothing is held in it.
    pub fn is_unused(&self) -> bool {
        self.used == 0 && self.held == 0
    }
}

/// What an account says to the ledger about one quota.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reported {
    /// The window that is current.
    pub current: Period,
    /// Those before it while they are kept, the last one first: exchanges admitted in them are still charged there.
    pub before: Vec<Period>,
    /// The window was closed unused: the next exchange needs a new one from the ledger.
    pub closed: bool,
}

impl Account {
    /// An account in which nothing ever happened.
    pub(super) fn new(subject: &str) -> Self {
        Self { subject: subject.to_owned(), entries: Vec::new(), stamps: Vec::new() }
    }

    /// Whose account it is.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// What to report to the ledger about `quota`; `None` when the account does not know it.
    pub fn reported(&self, quota: QuotaId) -> Option<Reported> {
        let entry = self.entry(quota, Kind::Windowed)?;
        Some(Reported { current: entry.current, before: entry.before.clone(), closed: entry.closed })
    }

    /// Reads the record of `subject`. `None`: other format, other subject, or not a record at all.
    pub(super) fn decode(subject: &str, bytes: &[u8]) -> Option<Self> {
        let mut from = Reader::new(bytes);
        if from.u16()? != FORMAT {
            return None;
        }
        let named = from.text()?;
        let entries = from.list(Entry::read)?;
        let stamps =
            from.list(|from| Some((from.u16()?, Stamp { generation: from.u32()?, number: from.number()? })))?;
        let account = from.end(Self { subject: named, entries, stamps })?;
        (account.subject == subject).then_some(account)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let size = 16 + self.subject.len() + 100 * self.entries.len() + 16 * self.stamps.len();
        let mut to = Writer::new(size);
        to.u16(FORMAT);
        to.bytes(self.subject.as_bytes());
        to.list(&self.entries, |to, entry| entry.write(to));
        to.list(&self.stamps, |to, (vm, stamp)| {
            to.u16(*vm);
            to.u32(stamp.generation);
            to.number(stamp.number);
        });
        to.done()
    }

    pub(super) fn entry(&self, quota: QuotaId, kind: Kind) -> Option<&Entry> {
        self.entries.iter().find(|entry| (entry.id, entry.kind) == (quota, kind))
    }

    pub(super) fn entry_mut(&mut self, quota: QuotaId, kind: Kind) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| (entry.id, entry.kind) == (quota, kind))
    }

    /// The entry of `quota`, made where it is missing: always `Some`. A policy that changes the kind of a quota under
    /// its name begins anew beside the old entry, which is kept: forgetting what was used and returned in it would
    /// make its grants good once more when the policy changes back.
    pub(super) fn entry_of(&mut self, quota: QuotaId, kind: Kind) -> Option<&mut Entry> {
        if self.entry(quota, kind).is_none() {
            self.entries.push(Entry::new(quota, kind));
        }
        self.entry_mut(quota, kind)
    }

    /// The last change made for VM slot `vm`.
    pub(super) fn stamp(&self, vm: u16) -> Stamp {
        self.stamps.iter().find(|(of, _)| *of == vm).map_or_else(Stamp::default, |(_, stamp)| *stamp)
    }

    pub(super) fn set_stamp(&mut self, vm: u16, stamp: Stamp) {
        match self.stamps.iter_mut().find(|(of, _)| *of == vm) {
            Some((_, found)) => *found = stamp,
            None => self.stamps.push((vm, stamp)),
        }
    }
}

impl Entry {
    fn new(id: QuotaId, kind: Kind) -> Self {
        let period = Period::default();
        Self { id, kind, closed: false, left: u64::MAX, current: period, before: Vec::new(), slices: Slices::default() }
    }

    /// Makes `start` the current window, with what goes over into it. Windows only advance; a current one of which nothing
    /// came is not kept.
    pub(super) fn advance(&mut self, start: u64, ends: u64, over: Carry) {
        let Carry { carried, owed, spare, .. } = over;
        if start <= self.current.start {
            return;
        }
        if self.current.start == 0 {
            // What was charged before any window was known is charged to the first.
            self.current = Period { start, ends, carried, owed, spare, ..self.current };
        } else {
            if !self.current.is_blank() {
                self.before.insert(0, self.current);
                self.forget();
            }
            self.current = Period { start, ends, carried, owed, spare, ..Period::default() };
        }
        self.closed = false;
    }

    /// Keeps the last windows, and older ones while something is held in them: a stream may run through many minutes.
    fn forget(&mut self) {
        let mut at = self.before.len();
        while at > KEPT {
            at = at.saturating_sub(1);
            // What was charged to one just now is kept until the window after the next begins: to be reported.
            let stays = |period: &mut Period| std::mem::take(&mut period.late) || period.held > 0;
            if self.before.get_mut(at).is_some_and(stays) {
                continue;
            }
            let gone = self.before.remove(at);
            // Older ones may be kept, and what they come to owe would have been paid by it first.
            if let Some(next) = at.checked_sub(1).and_then(|at| self.before.get_mut(at)) {
                next.spare = next.spare.saturating_add(gone.can_pay());
            }
        }
        self.before.truncate(MOST_KEPT);
    }

    /// The kept window that began at `start`.
    pub(super) fn kept(&mut self, start: u64) -> Option<&mut Period> {
        if start == 0 {
            None
        } else if self.current.start == start {
            Some(&mut self.current)
        } else {
            self.before.iter_mut().find(|period| period.start == start)
        }
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let id = QuotaId(from.u64()?);
        Some(match from.u8()? {
            0 => {
                let (closed, left, current) = (from.flag()?, from.number()?, Period::read(from)?);
                let before = (0..from.u8()?).map(|_| Period::read(from)).collect::<Option<_>>()?;
                Self { closed, left, current, before, ..Self::new(id, Kind::Windowed) }
            }
            1 => {
                let (start, used, ends) = (from.number()?, from.number()?, from.number()?);
                let current = Period { start, used, ends, ..Period::default() };
                Self { current, ..Self::new(id, Kind::Bucket) }
            }
            2 => {
                let current = Period { held: from.number()?, ..Period::default() };
                Self { current, ..Self::new(id, Kind::Concurrent) }
            }
            3 => {
                let (length_ms, latest_ms, held) = (from.number()?, from.number()?, from.number()?);
                let charged = from.list(|from| Some((from.number()?, from.number()?)))?;
                let (slices, current) =
                    (Slices { length_ms, latest_ms, charged }, Period { held, ..Period::default() });
                Self { slices, current, ..Self::new(id, Kind::Sliding) }
            }
            _ => return None,
        })
    }

    fn write(&self, to: &mut Writer) {
        let Self { id, kind, closed, left, current, before, slices } = self;
        to.u64(id.0);
        match kind {
            Kind::Windowed => {
                to.u8(0);
                to.flag(*closed);
                to.number(*left);
                current.write(to);
                let before = before.get(..MOST_KEPT).unwrap_or(before);
                to.u8(u8::try_from(before.len()).unwrap_or(u8::MAX));
                before.iter().for_each(|period| period.write(to));
            }
            Kind::Bucket => {
                to.u8(1);
                [current.start, current.used, current.ends].iter().for_each(|value| to.number(*value));
            }
            Kind::Concurrent => {
                to.u8(2);
                to.number(current.held);
            }
            Kind::Sliding => {
                to.u8(3);
                to.number(slices.length_ms);
                to.number(slices.latest_ms);
                to.number(current.held);
                to.list(&slices.charged, |to, (start, amount)| {
                    to.number(*start);
                    to.number(*amount);
                });
            }
        }
    }
}

impl Period {
    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            start: from.number()?,
            ends: from.number()?,
            granted: from.number()?,
            used: from.number()?,
            held: from.number()?,
            returned: from.number()?,
            carried: from.number()?,
            allowed: from.number()?,
            owed: from.number()?,
            spare: from.number()?,
            waived: from.flag()?,
            late: from.flag()?,
        })
    }

    fn write(&self, to: &mut Writer) {
        let Self { start, ends, granted, used, held, returned, carried, allowed, owed, spare, waived, late } = *self;
        let figures = [start, ends, granted, used, held, returned, carried, allowed, owed, spare];
        figures.iter().for_each(|value| to.number(*value));
        to.flag(waived);
        to.flag(late);
    }
}

#[cfg(test)]
mod tests;
