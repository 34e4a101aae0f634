//! Holding: admission, and the extension of a running exchange.
//!
//! Reads everything first (VM slot, exchange slot, accounts), so that a refusal is usually found before anything is
//! written. Then the intent, each account, and last the exchange slot, which commits. What is found not to fit after
//! the intent is taken back on the accounts written so far, under the odd number above the operation's own.

use std::sync::Arc;

use super::account::{Account, Stamp};
use super::edit::{Decision, Edit, Edited, PATIENCE};
use super::fault::{Fault, seeded};
use super::operation::{Place, fenced};
use super::slot::{Held, HeldLevel, HeldLine, Rule, Slot, SlotRecord};
use super::vmslot::{Intent, VmRecord};
use super::{Cells, ExchangeId, Expect, Level, Outcome, Short, Step, StoreError};
use crate::now::Now;

/// A hold under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Hold {
    place: Place,
    id: ExchangeId,
    levels: Arc<[Level]>,
    now: Now,
    kind: Kind,
    phase: Phase,
    /// The VM slot as it was read, to be swapped for the intent.
    vm: Option<(Expect, VmRecord)>,
    /// The exchange slot as it was read.
    slot: Option<(Expect, SlotRecord)>,
    edits: Vec<Edit>,
    /// What is held where, level by level: fixed with the intent.
    plan: Vec<HeldLevel>,
    short: Option<Short>,
    number: u64,
    lost: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Admit { draft: Arc<[u8]> },
    Extend { delivered: u64 },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    ReadVm,
    ReadSlot,
    ReadAccount(usize),
    Intent,
    Write(usize),
    Commit,
    ReadAgain,
    /// Taking back the levels below this one, last first; then the end.
    Back(usize, Edit, Why),
}

/// Why a hold is taken back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Why {
    /// It ended like this.
    Ended(Outcome),
    /// A window moved after the plan was made: plan again.
    Moved,
}

/// Why an account was not written.
enum Stop {
    Fenced,
    Unreadable,
    Short(Short),
    Moved,
}

impl Hold {
    pub(super) fn admit(place: Place, id: ExchangeId, levels: Vec<Level>, draft: Vec<u8>, now: Now) -> Self {
        Self::new(place, id, levels, Kind::Admit { draft: draft.into() }, now)
    }

    pub(super) fn extend(place: Place, id: ExchangeId, more: Vec<Level>, delivered: u64, now: Now) -> Self {
        Self::new(place, id, more, Kind::Extend { delivered }, now)
    }

    fn new(place: Place, id: ExchangeId, levels: Vec<Level>, kind: Kind, now: Now) -> Self {
        Self {
            place,
            id,
            levels: levels.into(),
            now,
            kind,
            phase: Phase::ReadVm,
            vm: None,
            slot: None,
            edits: Vec::new(),
            plan: Vec::new(),
            short: None,
            number: 0,
            lost: 0,
        }
    }

    pub(super) fn holds(&self) -> &[HeldLevel] {
        &self.plan
    }

    /// One store call.
    pub(super) fn step(&mut self, cells: &mut dyn Cells) -> Result<Step, StoreError> {
        match self.phase {
            Phase::ReadVm => self.read_vm(cells),
            Phase::ReadSlot => self.read_slot(cells),
            Phase::ReadAccount(level) => self.read_account(level, cells),
            Phase::Intent => self.write_intent(cells),
            Phase::Write(level) => self.write_account(level, cells),
            Phase::Commit => self.commit(cells),
            Phase::ReadAgain => self.read_again(cells),
            Phase::Back(..) => self.take_back(cells),
        }
    }

    fn goes_to(&mut self, phase: Phase) -> Result<Step, StoreError> {
        self.phase = phase;
        Ok(Step::Again)
    }

    /// Begins anew, with nothing written. A hold that loses for ever says so.
    fn restart(&mut self) -> Result<Step, StoreError> {
        self.lost = self.lost.saturating_add(1);
        if self.lost >= PATIENCE {
            return Ok(Step::Ended(Outcome::Contended));
        }
        self.edits.clear();
        self.plan.clear();
        self.short = None;
        (self.vm, self.slot) = (None, None);
        self.goes_to(Phase::ReadVm)
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
        let fits = match (&self.kind, &record.slot) {
            (Kind::Admit { .. }, Slot::Free) => true,
            (Kind::Extend { .. }, Slot::Held(held)) => held.id == self.id,
            _ => false,
        };
        if !fits {
            return Ok(Step::Ended(Outcome::WrongSlot));
        }
        self.slot = Some((expect, record));
        self.edits = self.levels.iter().map(|level| Edit::new(self.place.keys.account(&level.subject))).collect();
        self.goes_to(if self.levels.is_empty() { Phase::Intent } else { Phase::ReadAccount(0) })
    }

    fn read_account(&mut self, index: usize, cells: &mut dyn Cells) -> Result<Step, StoreError> {
        let (Some(level), Some(edit)) = (self.levels.get(index), self.edits.get(index)) else {
            return self.goes_to(Phase::Intent);
        };
        let (mut edit, mut planned) = (edit.clone(), Vec::new());
        let edited = edit.step(cells, |bytes| {
            let (lines, decision) = self.book(level, None, bytes);
            planned = lines;
            decision
        })?;
        match edited {
            Edited::Left(Stop::Fenced) => return Ok(Step::Ended(Outcome::Fenced)),
            Edited::Left(Stop::Unreadable) => {
                return Ok(Step::Ended(Outcome::Unreadable { key: self.place.keys.account(&level.subject) }));
            }
            Edited::Left(Stop::Short(short)) => self.short = Some(worse(self.short.take(), short)),
            _ => {}
        }
        self.plan.push(HeldLevel { subject: level.subject.clone(), lines: planned });
        if let Some(place) = self.edits.get_mut(index) {
            *place = edit;
        }
        if index.saturating_add(1) < self.levels.len() {
            return self.goes_to(Phase::ReadAccount(index.saturating_add(1)));
        }
        match self.short.take() {
            Some(short) => Ok(Step::Ended(Outcome::Refused(short))),
            None => self.goes_to(Phase::Intent),
        }
    }

    fn write_intent(&mut self, cells: &mut dyn Cells) -> Result<Step, StoreError> {
        let Some((expect, record)) = &self.vm else { return self.restart() };
        let intent = VmRecord {
            number: self.number,
            slots: record.slots.max(self.place.slot.saturating_add(1)),
            intent: Some(Intent::Hold { slot: self.place.slot, levels: self.plan.clone() }),
            ..record.clone()
        };
        let vm = self.place.by.vm;
        if !cells.swap(&self.place.keys.vm(vm), *expect, &intent.encode(vm))? {
            return self.restart();
        }
        self.vm = None;
        let first = if seeded(Fault::CommitBeforeAccounts) { Phase::Commit } else { self.write_or_commit(0) };
        self.goes_to(first)
    }

    fn write_or_commit(&self, level: usize) -> Phase {
        if level < self.levels.len() { Phase::Write(level) } else { Phase::Commit }
    }

    fn write_account(&mut self, index: usize, cells: &mut dyn Cells) -> Result<Step, StoreError> {
        let (Some(level), Some(edit)) = (self.levels.get(index), self.edits.get(index)) else {
            return self.goes_to(Phase::Commit);
        };
        let mut edit = edit.clone();
        let planned = self.plan.get(index);
        let edited = edit.step(cells, |bytes| self.book(level, planned, bytes).1)?;
        let key = self.place.keys.account(&level.subject);
        if let Some(place) = self.edits.get_mut(index) {
            *place = edit;
        }
        match edited {
            Edited::Ready | Edited::Lost => Ok(Step::Again),
            Edited::Written if seeded(Fault::CommitBeforeAccounts) && index.saturating_add(1) == self.levels.len() => {
                Ok(Step::Ended(Outcome::Done))
            }
            Edited::Written => {
                let next = self.write_or_commit(index.saturating_add(1));
                self.goes_to(next)
            }
            Edited::Hopeless => self.back_from(index, Why::Ended(Outcome::Contended)),
            Edited::Left(Stop::Fenced) => Ok(Step::Ended(Outcome::Fenced)),
            Edited::Left(Stop::Unreadable) => self.back_from(index, Why::Ended(Outcome::Unreadable { key })),
            Edited::Left(Stop::Short(short)) => self.back_from(index, Why::Ended(Outcome::Refused(short))),
            Edited::Left(Stop::Moved) => self.back_from(index, Why::Moved),
        }
    }

    /// What the account of `level` is to become. With a `plan`, every line must fall where the intent says.
    fn book(&self, level: &Level, plan: Option<&HeldLevel>, bytes: Option<&[u8]>) -> (Vec<HeldLine>, Decision<Stop>) {
        let decoded = match bytes {
            None => Some(Account::new(&level.subject)),
            Some(bytes) => Account::decode(&level.subject, bytes),
        };
        let mut lines = Vec::with_capacity(level.lines.len());
        let Some(mut account) = decoded else { return (lines, Decision::Leave(Stop::Unreadable)) };
        if fenced(account.stamp(self.place.by.vm).generation, self.place.by.generation) {
            return (lines, Decision::Leave(Stop::Fenced));
        }
        let mut short = None;
        for line in &level.lines {
            match account.hold(line, self.pinned(level, line), self.now) {
                Err(lack) => short = Some(worse(short, lack.of(&level.subject, line.quota.id))),
                Ok(window) => lines.push(HeldLine {
                    quota: line.quota.id,
                    window,
                    amount: line.amount,
                    rule: Rule::of(&line.quota),
                    used: 0,
                }),
            }
        }
        let decision = match short {
            Some(short) => Decision::Leave(Stop::Short(short)),
            None if plan.is_some_and(|plan| plan.lines != lines) => Decision::Leave(Stop::Moved),
            None => {
                let generation = self.place.by.generation;
                account.set_stamp(self.place.by.vm, Stamp { generation, number: self.number });
                Decision::Write(account.encode())
            }
        };
        (lines, decision)
    }

    /// The window that the exchange already holds this quota in.
    fn pinned(&self, level: &Level, line: &super::Line) -> Option<u64> {
        let Some((_, SlotRecord { slot: Slot::Held(held), .. })) = &self.slot else { return None };
        let found = held.levels.iter().find(|held| held.subject == level.subject)?;
        found.lines.iter().find(|held| held.quota == line.quota.id).map(|held| held.window)
    }

    fn commit(&mut self, cells: &mut dyn Cells) -> Result<Step, StoreError> {
        let Some((expect, record)) = &self.slot else { return self.goes_to(Phase::ReadAgain) };
        let held = match (&self.kind, &record.slot) {
            (Kind::Extend { delivered }, Slot::Held(held)) => {
                let mut held = held.clone();
                held.add(&self.plan);
                held.delivered = *delivered;
                held
            }
            (Kind::Extend { .. }, _) => return self.back_from(self.levels.len(), Why::Ended(Outcome::WrongSlot)),
            (Kind::Admit { draft }, _) => {
                Held { id: self.id, levels: self.plan.clone(), delivered: 0, draft: draft.to_vec() }
            }
        };
        let stamp = Stamp { generation: self.place.by.generation, number: self.number };
        if !self.place.swap_slot(*expect, &SlotRecord { stamp, slot: Slot::Held(held) }, cells)? {
            return self.goes_to(Phase::ReadAgain);
        }
        if seeded(Fault::CommitBeforeAccounts) {
            return self.goes_to(Phase::Write(0));
        }
        Ok(Step::Ended(Outcome::Done))
    }

    /// Somebody else wrote the slot: only recovery does, under a newer generation.
    fn read_again(&mut self, cells: &mut dyn Cells) -> Result<Step, StoreError> {
        let found = match self.place.read_slot(cells)? {
            Err(Outcome::Fenced) => return Ok(Step::Ended(Outcome::Fenced)),
            Err(outcome) => return self.back_from(self.levels.len(), Why::Ended(outcome)),
            Ok(found) => found,
        };
        self.lost = self.lost.saturating_add(1);
        if self.lost >= PATIENCE {
            return self.back_from(self.levels.len(), Why::Ended(Outcome::Contended));
        }
        self.slot = Some(found);
        self.goes_to(Phase::Commit)
    }

    /// Takes back every level below `level`.
    fn back_from(&mut self, level: usize, why: Why) -> Result<Step, StoreError> {
        let level = if seeded(Fault::RollbackForgetsALevel) { level.saturating_sub(1) } else { level };
        self.take_back_below(level, why)
    }

    fn take_back_below(&mut self, level: usize, why: Why) -> Result<Step, StoreError> {
        let below = level.checked_sub(1).and_then(|index| self.plan.get(index));
        match (below, why) {
            (Some(held), why) => {
                let edit = Edit::new(self.place.keys.account(&held.subject));
                self.goes_to(Phase::Back(level.saturating_sub(1), edit, why))
            }
            (None, Why::Ended(outcome)) => Ok(Step::Ended(outcome)),
            (None, Why::Moved) => self.restart(),
        }
    }

    fn take_back(&mut self, cells: &mut dyn Cells) -> Result<Step, StoreError> {
        let Phase::Back(index, edit, why) = &self.phase else { return Ok(Step::Again) };
        let Some(held) = self.plan.get(*index) else { return self.take_back_below(0, Why::Moved) };
        let mut edit = edit.clone();
        let edited = edit.step(cells, |bytes| {
            super::recovery::undo(held, &self.place, self.number, false, self.now.wall_ms, bytes)
        })?;
        let (index, why) = (*index, why.clone());
        match edited {
            Edited::Ready | Edited::Lost => self.goes_to(Phase::Back(index, edit, why)),
            Edited::Written | Edited::Left(false) => self.take_back_below(index, why),
            Edited::Left(true) => Ok(Step::Ended(Outcome::Fenced)),
            Edited::Hopeless => Ok(Step::Ended(Outcome::Contended)),
        }
    }

    /// What it is taking back, in the words of the search.
    #[cfg(test)]
    pub(super) fn takes_back(&self) -> Option<&'static str> {
        match &self.phase {
            Phase::Back(_, _, Why::Moved) => Some("a window moves under a hold"),
            Phase::Back(..) => Some("a hold is taken back"),
            _ => None,
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
        if let Some((expect, _)) = &mut self.slot {
            *expect = relabel(&by.keys.slot(by.by.vm, by.slot), *expect).unwrap_or(super::edit::NEVER);
        }
        for edit in &mut self.edits {
            edit.normalise(relabel);
        }
        if let Phase::Back(_, edit, _) = &mut self.phase {
            edit.normalise(relabel);
        }
    }
}

/// The refusal that says more: what no wait cures, then what the ledger may cure, then what time cures.
fn worse(known: Option<Short>, new: Short) -> Short {
    let rank = |short: &Short| match short {
        // No reset at all is later than any.
        Short::Exhausted { standing, .. } => (2, standing.resets_ms.wrapping_sub(1)),
        Short::NeedsGrant { .. } => (1, 0),
        Short::Busy { retry_ms, .. } => (0, retry_ms.unwrap_or(0)),
    };
    match known {
        Some(known) if rank(&known) >= rank(&new) => known,
        _ => new,
    }
}
