//! What one VM owns: its incarnation, its slots, the exchanges that wait, the records on their way.
//!
//! An engine type, not the host's. A host keeps one [`Vm`] per bundle *name* in each thread and passes it to
//! every event; after a configuration update the new root [adopts](Vm::adopt) its bundle into the same `Vm`.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::engine::bill::Bill;
use crate::engine::effect::{Effect, Handle, Severity};
use crate::engine::expectation::Habits;
use crate::engine::gauge::Shelf;
use crate::engine::learned::{Counting, Counts};
use crate::engine::prefix::Prefixes;
use crate::engine::rejected::Rejected;
use crate::engine::stuck::Lately;
use crate::engine::sync::{Flight, Wanted};
use crate::engine::watch::Watch;
use crate::meter::count::known::Known;
use crate::now::Now;
use crate::policy::bundle::{Bundle, PlanQuota};
use crate::quota::{
    Cells, ExchangeId, Incarnation, Keys, Outcome, Quota, QuotaId, StoreError, beat, first_claimable, open_epoch,
};
use crate::report::outbox::{Outbox, Ticket};
use crate::report::wire::Reached;

/// Exchanges that one VM can have open or unacknowledged at a time. Beyond that calls are refused (503).
pub const SLOTS: u32 = 8_192;

/// Milliseconds between two beats of a VM's heart.
const BEAT_MS: u64 = 1_000;

/// See the module's docs.
pub struct Vm {
    pub(super) bundle: Rc<Bundle>,
    pub(super) keys: Keys,
    pub(super) home: Option<Home>,
    pub(super) outbox: Outbox,
    pub(super) flight: Option<Flight>,
    pub(super) wanted: Wanted,
    pub(super) touched: BTreeMap<String, Touched>,
    /// Some of them were lowered.
    pub(super) lowered: bool,
    pub(super) watch: Watch,
    /// Prompts that were counted lately, whatever the stream and the bundle.
    pub(super) known: Known,
    /// Prompts that may still have to be counted.
    pub(super) shelf: Shelf,
    /// What sessions have sent before.
    pub(super) prefixes: Prefixes,
    /// Calls that came lately.
    pub(super) lately: Lately,
    pub(super) next_token: u64,
    pub(super) last_sync_ms: u64,
    pub(super) fetch_after_ms: u64,
    waiters: BTreeMap<Handle, u64>,
    pub(super) random: u64,
    refusals: u64,
    last_beat_ms: u64,
    /// Whether the charter of `bundle` is known to be in force.
    pub(super) proclaimed: bool,
    /// What calls lately came to.
    pub(super) habits: Habits,
    /// How providers count.
    pub(super) counts: Counts,
    /// How full each quota of an account was said to be, and in which window it was said: one entry for each that has
    /// reached a percent of its plan's list.
    reached: BTreeMap<(String, String), (u64, u8)>,
    /// Refused calls that are still to be counted.
    pub(super) rejections: Vec<Rejected>,
    /// Check, then settle: see [`Vm::hold_nothing`].
    #[cfg(feature = "test-hooks")]
    holds_nothing: bool,
}

/// The VM slot that this VM writes as.
pub(super) struct Home {
    /// Who writes.
    pub by: Incarnation,
    next_sequence: u64,
    unacknowledged: BTreeSet<u64>,
    free: Vec<u32>,
    /// Slots from here on were never used by this incarnation.
    high: u32,
    /// Slots from here on that hold records of earlier incarnations.
    taken: BTreeSet<u32>,
}

impl Home {
    fn next_slot(&mut self) -> Option<u32> {
        if let Some(slot) = self.free.pop() {
            return Some(slot);
        }
        let slot = (self.high..SLOTS).find(|slot| !self.taken.contains(slot))?;
        self.high = slot.saturating_add(1);
        Some(slot)
    }
}

/// An account that exchanges of this VM have used.
#[derive(Default)]
pub(super) struct Touched {
    /// Its granted quotas, as last seen in a bundle.
    pub quotas: Vec<TouchedQuota>,
    /// Something changed since the last report.
    pub dirty: bool,
    /// A newer policy gives it less of some quota than what is granted here may be part of.
    pub lowered: bool,
    /// When an exchange of this VM last used it, by the monotonic clock; 0: since then its unspent grants were returned.
    pub used_ms: u64,
}

/// A granted quota of a touched account.
pub(super) struct TouchedQuota {
    /// `plan/quota`.
    pub name: String,
    /// As records call it.
    pub unit: &'static str,
    /// The arithmetic part.
    pub quota: Quota,
}

/// The place of a new exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its identity.
    pub id: ExchangeId,
    /// Its slot in its VM slot.
    pub slot: u32,
}

/// Why there is no place for a new exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPlace {
    /// All slots are taken.
    Full,
    /// The collector has been away so long that no further record may be kept.
    Unreported,
    /// The host's shared data did not answer, or all VM slots are taken.
    Store,
}

impl Vm {
    /// A VM that serves `bundle`. `random` names the process if this VM is its first, and spreads retries. `secret`
    /// is random too, but told to nobody: under it is remembered what was counted.
    pub fn new(bundle: Rc<Bundle>, random: u64, secret: [u64; 2]) -> Self {
        let buffer = bundle.collector.as_ref().map_or(0, |collector| collector.buffer_bytes);
        Self {
            keys: Keys::new(&bundle.name),
            outbox: Outbox::new(buffer, random),
            bundle,
            home: None,
            flight: None,
            wanted: BTreeMap::new(),
            touched: BTreeMap::new(),
            lowered: false,
            watch: Watch::default(),
            known: Known::new(secret),
            shelf: Shelf::default(),
            prefixes: Prefixes::new(secret),
            lately: Lately::new(secret),
            next_token: 1,
            last_sync_ms: 0,
            fetch_after_ms: 0,
            waiters: BTreeMap::new(),
            random,
            refusals: 0,
            last_beat_ms: 0,
            proclaimed: false,
            habits: Habits::default(),
            counts: Counts::default(),
            reached: BTreeMap::new(),
            rejections: Vec::new(),
            #[cfg(feature = "test-hooks")]
            holds_nothing: false,
        }
    }

    /// From now on calls are weighed as ever, but nothing is held while they run: as gateways do it that check first
    /// and settle later. It shows what the hold prevents. (A millionth of a unit is, so that a window in which calls run
    /// is not taken for an idle one.)
    #[cfg(feature = "test-hooks")]
    pub fn hold_nothing(&mut self) {
        self.holds_nothing = true;
    }

    /// What an exchange that may come to `worst` micro-units of a quota holds of it.
    #[cfg(feature = "test-hooks")]
    pub(super) fn to_hold(&self, worst: u64) -> u64 {
        if self.holds_nothing { worst.min(1) } else { worst }
    }

    /// What an exchange that may come to `worst` micro-units of a quota holds of it: all of that.
    #[cfg(not(feature = "test-hooks"))]
    pub(super) fn to_hold(&self, worst: u64) -> u64 {
        worst
    }

    /// Serves a newer bundle of the same name from now on. Exchanges that run keep theirs.
    pub fn adopt(&mut self, bundle: Rc<Bundle>) {
        self.outbox.set_buffer_bytes(bundle.collector.as_ref().map_or(0, |collector| collector.buffer_bytes));
        // Versions of a plan share a quota's counters and may differ in its limit.
        let mut limits: BTreeMap<QuotaId, BTreeSet<u64>> = BTreeMap::new();
        let packs = bundle.packs.iter().map(|pack| &pack.fund);
        for PlanQuota { quota, .. } in bundle.plans.iter().flat_map(|plan| &plan.quotas).chain(packs) {
            limits.entry(quota.id).or_default().insert(quota.limit);
        }
        for touched in self.touched.values_mut() {
            for TouchedQuota { quota, .. } in &mut touched.quotas {
                let Some(of) = limits.get(&quota.id).filter(|of| !of.contains(&quota.limit)) else { continue };
                let Some(limit) = of.first() else { continue };
                touched.lowered |= *limit < quota.limit;
                quota.limit = *limit;
            }
            self.lowered |= touched.lowered;
        }
        self.bundle = bundle;
        self.proclaimed = false;
    }

    /// The incarnation that this VM writes as, once it has admitted anything.
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.home.as_ref().map(|home| home.by)
    }

    /// Beats the heart, looks for silent VMs and ends what they held, wakes what has waited long enough.
    /// Hosts call it every 50 to 250 ms.
    pub fn tick(&mut self, now: Now, cells: &mut dyn Cells, effects: &mut Vec<Effect>) {
        if now.mono_ms.saturating_sub(self.last_beat_ms) >= BEAT_MS || self.last_beat_ms == 0 {
            self.last_beat_ms = now.mono_ms.max(1);
            if let Err(StoreError) = self.beat(now, cells, effects) {
                effects.push(Effect::Log(Severity::Error, format!("heartbeat not written: {StoreError}")));
            }
        }
        let late: Vec<Handle> =
            self.waiters.iter().filter(|(_, deadline)| **deadline <= now.mono_ms).map(|(handle, _)| *handle).collect();
        if !late.is_empty() {
            effects.push(Effect::Wake(late));
        }
        if self.wants_sync(now) {
            effects.push(Effect::SyncSoon);
        }
    }

    fn beat(&mut self, now: Now, cells: &mut dyn Cells, effects: &mut Vec<Effect>) -> Result<(), StoreError> {
        if let Some(home) = &self.home
            && beat(&self.keys, home.by, cells)? != Outcome::Done
        {
            self.fenced(effects);
        }
        self.give_back_lowered(cells)?;
        self.proclaim(cells, effects)?;
        self.give_back_idle(now, cells)?;
        self.watch_others(now, cells, effects)?;
        // Last, as nothing depends on it.
        self.counts.share(&self.bundle, &self.keys, now, cells, effects)
    }

    /// Someone has claimed this VM slot: nothing may be written as this incarnation any more.
    pub(super) fn fenced(&mut self, effects: &mut Vec<Effect>) {
        if let Some(home) = self.home.take() {
            effects.push(Effect::Log(
                Severity::Warn,
                format!("VM slot {} was claimed by another VM, which ends what ran here; claiming anew", home.by.vm),
            ));
            effects.push(Effect::Count { metric: "fenced_total", labels: vec![], by: 1 });
        }
    }

    /// As [`Vm::fenced`], if this VM still writes as `by`.
    pub(super) fn fenced_as(&mut self, by: Incarnation, effects: &mut Vec<Effect>) {
        if self.incarnation() == Some(by) {
            self.fenced(effects);
        }
    }

    /// Whether nobody in this VM has said yet that a quota is that full in that window.
    pub(super) fn is_news(&mut self, reached: &Reached) -> bool {
        let key = (reached.subject.clone(), reached.quota.clone());
        let said = self.reached.entry(key).or_insert((0, 0));
        let news = *said < (reached.window, reached.percent);
        if news {
            *said = (reached.window, reached.percent);
        }
        news
    }

    /// A place for one more exchange. It is taken until [`Vm::vacate`].
    pub(super) fn place(
        &mut self,
        now: Now,
        cells: &mut dyn Cells,
        effects: &mut Vec<Effect>,
    ) -> Result<Place, NoPlace> {
        if self.bundle.collector.is_some() && self.outbox.full() {
            return Err(NoPlace::Unreported);
        }
        self.be_home(now, cells, effects).map_err(|StoreError| NoPlace::Store)?;
        let home = self.home.as_mut().ok_or(NoPlace::Store)?;
        let slot = home.next_slot().ok_or(NoPlace::Full)?;
        Ok(Place { id: ExchangeId { by: home.by, sequence: home.next_sequence }, slot })
    }

    /// Claims a VM slot where it has none and one can be had.
    pub(super) fn be_home(
        &mut self,
        now: Now,
        cells: &mut dyn Cells,
        effects: &mut Vec<Effect>,
    ) -> Result<(), StoreError> {
        if self.home.is_none() {
            self.home = self.move_in(now, cells, effects)?;
        }
        Ok(())
    }

    /// Claims a VM slot. `None`: all are taken.
    fn move_in(
        &mut self,
        now: Now,
        cells: &mut dyn Cells,
        effects: &mut Vec<Effect>,
    ) -> Result<Option<Home>, StoreError> {
        let epoch = open_epoch(&self.keys, cells, self.random)?;
        let keep = self.bundle.collector.is_some();
        let Some(recovery) = first_claimable(&self.keys, epoch, keep, now, cells)? else { return Ok(None) };
        let found = self.recover(recovery, now, cells, effects)?;
        Ok(found.map(|(by, taken)| Home {
            by,
            next_sequence: 1,
            unacknowledged: BTreeSet::new(),
            free: Vec::new(),
            high: 0,
            taken,
        }))
    }

    /// The exchange at `place` was admitted: only now its sequence is used up, so that sequences are contiguous.
    pub(super) fn admitted(&mut self, place: Place) {
        if let Some(home) = self.home.as_mut().filter(|home| home.by == place.id.by) {
            home.unacknowledged.insert(place.id.sequence);
            home.next_sequence = place.id.sequence.saturating_add(1);
        }
    }

    /// The slot at `place` is free again, or was never written.
    pub(super) fn vacate(&mut self, place: Place) {
        if let Some(home) = self.home.as_mut().filter(|home| home.by == place.id.by) {
            home.free.push(place.slot);
            home.unacknowledged.remove(&place.id.sequence);
        }
    }

    /// The record of `ticket` needs its slot no more.
    pub(super) fn sent(&mut self, ticket: Ticket, cells: &mut dyn Cells) -> Result<(), StoreError> {
        match self.home.as_mut().filter(|home| home.by.vm == ticket.vm) {
            Some(home) if home.by == ticket.id.by => self.vacate(Place { id: ticket.id, slot: ticket.slot }),
            // Of an earlier incarnation: not counted as taken any more, and never pushed twice.
            Some(home) => {
                if home.taken.remove(&ticket.slot) && ticket.slot < home.high {
                    home.free.push(ticket.slot);
                }
            }
            None => self.sent_for_adopted(ticket, cells)?,
        }
        Ok(())
    }

    /// The exchange at `place` was settled. With `keep` its record waits in the slot to be sent, else the slot is free.
    pub(super) fn settled(&mut self, place: Place, bytes: usize, keep: bool, bill: &Bill<'_>, now: Now) {
        if keep {
            self.outbox.settled(place.slot, place.id.by.vm, place.id, bytes);
            self.touch(bill, now);
        } else {
            self.vacate(place);
        }
    }

    /// The lowest sequence that is not acknowledged, and the next one.
    pub(super) fn progress(&self) -> (u64, u64) {
        self.home.as_ref().map_or((1, 1), |home| {
            (home.unacknowledged.first().copied().unwrap_or(home.next_sequence), home.next_sequence)
        })
    }

    /// An id for a refusal: unique within the process, and no exchange id.
    pub(super) fn refusal_id(&mut self) -> String {
        self.refusals = self.refusals.wrapping_add(1);
        format!("r{:08x}-{}", self.random >> 32, self.refusals)
    }

    /// Reads what other VMs have learned of how a model's provider counts, before the first such call is weighed here.
    pub(super) fn meet_model(&mut self, of: &Counting<'_>, now: Now, cells: &mut dyn Cells) {
        self.counts.meet(of, &self.bundle, &self.keys, now, cells);
    }

    /// The exchange `handle` waits, no longer than until `deadline_ms` of the monotonic clock.
    pub(super) fn wait(&mut self, handle: Handle, deadline_ms: u64) {
        self.waiters.insert(handle, deadline_ms);
    }

    /// The exchange `handle` does not wait any more.
    pub(super) fn stop_waiting(&mut self, handle: Handle) {
        self.waiters.remove(&handle);
    }

    /// Everybody who waits.
    pub(super) fn waiting(&self) -> Vec<Handle> {
        self.waiters.keys().copied().collect()
    }

    /// A call was refused because the ledger has nothing left, as it last said. Since then somebody may have given
    /// back, or a newer policy may have raised the limit: the next sync asks again. One a period, however many are
    /// refused.
    pub(super) fn doubt(&mut self, bill: &Bill<'_>, now: Now, cells: &mut dyn Cells, effects: &mut Vec<Effect>) {
        // The sync speaks for an incarnation, and this VM may have admitted nothing yet.
        if self.bundle.collector.is_some()
            && let Ok(place) = self.place(now, cells, effects)
        {
            self.vacate(place);
            self.touch(bill, now);
        }
    }

    /// Remembers that an exchange changes the accounts of `bill`, so that the next sync reports them.
    pub(super) fn touch(&mut self, bill: &Bill<'_>, now: Now) {
        for quota in bill.quotas.iter().filter(|quota| quota.quota.granted) {
            let subject = bill.subject(quota.per);
            let touched = self.touched.entry(subject).or_default();
            touched.dirty = true;
            touched.used_ms = now.mono_ms.max(1);
            let entry =
                TouchedQuota { name: quota.ledger.clone(), unit: quota.unit.name(), quota: quota.quota.clone() };
            match touched.quotas.iter_mut().find(|known| known.quota.id == entry.quota.id) {
                Some(known) => *known = entry,
                None => touched.quotas.push(entry),
            }
        }
    }
}
