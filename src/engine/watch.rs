//! Watching other VMs: whoever has fallen silent is claimed, and what it held is ended.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::engine::bill::Bill;
use crate::engine::effect::{Effect, Severity};
use crate::engine::lost;
use crate::engine::vm::Vm;
use crate::now::Now;
use crate::policy::bundle::Bundle;
use crate::quota::{
    Cells, Claim, Claimed, Incarnation, MAX_VMS, Outcome, Recovery, Sight, StoreError, beat, open_epoch, peek, release,
};
use crate::report::outbox::Ticket;
use crate::report::wire::decode_record;

/// Own beats over which another VM's count must stand still before it may be claimed.
const SILENT_BEATS: u32 = 30;

/// What was last seen of other VM slots, and those that were taken over.
#[derive(Default)]
pub(super) struct Watch {
    /// Each with the number of own beats over which it has stood still.
    seen: BTreeMap<u16, (Sight, u32)>,
    /// Claimed here, and beaten for until every record in them was acknowledged. If this VM dies too, they fall silent
    /// and the next one takes them over.
    adopted: BTreeMap<u16, Adopted>,
}

struct Adopted {
    by: Incarnation,
    unsent: BTreeSet<u32>,
}

impl Vm {
    /// One look at every VM slot; called once a beat of this VM.
    pub(super) fn watch_others(
        &mut self,
        now: Now,
        cells: &mut dyn Cells,
        effects: &mut Vec<Effect>,
    ) -> Result<(), StoreError> {
        self.beat_for_adopted(cells)?;
        // A VM that serves no streams watches too: after a reload without traffic there may be no other.
        let home = self.incarnation().map(|by| by.vm);
        for vm in 0..MAX_VMS {
            let Some(sight) = peek(&self.keys, vm, cells)? else { break };
            if home == Some(vm) || sight.released || self.watch.adopted.contains_key(&vm) {
                self.watch.seen.remove(&vm);
                continue;
            }
            let seen = self.watch.seen.entry(vm).or_insert((sight, 0));
            *seen = if seen.0 == sight { (sight, seen.1.saturating_add(1)) } else { (sight, 0) };
            if seen.1 >= SILENT_BEATS {
                self.watch.seen.remove(&vm);
                self.take_over(vm, sight, now, cells, effects)?;
            }
        }
        Ok(())
    }

    fn beat_for_adopted(&mut self, cells: &mut dyn Cells) -> Result<(), StoreError> {
        let mut lost = Vec::new();
        for (vm, adopted) in &self.watch.adopted {
            // The last record is gone, but the store did not answer when the slot was given back.
            let done = adopted.unsent.is_empty() && release(&self.keys, adopted.by, cells)? == Outcome::Done;
            if done || beat(&self.keys, adopted.by, cells)? != Outcome::Done {
                lost.push(*vm);
            }
        }
        for vm in lost {
            self.watch.adopted.remove(&vm);
        }
        Ok(())
    }

    fn take_over(
        &mut self,
        vm: u16,
        seen: Sight,
        now: Now,
        cells: &mut dyn Cells,
        effects: &mut Vec<Effect>,
    ) -> Result<(), StoreError> {
        let keep = self.bundle.collector.is_some();
        // Who owned the slot has opened it.
        let epoch = open_epoch(&self.keys, cells, self.random)?;
        let Claimed::Taken(recovery) = Claim::new(&self.keys, epoch, vm, seen, keep, now).run(cells)? else {
            return Ok(());
        };
        let Some((by, unsent)) = self.recover(*recovery, now, cells, effects)? else { return Ok(()) };
        if unsent.is_empty() {
            release(&self.keys, by, cells)?;
        } else {
            self.watch.adopted.insert(vm, Adopted { by, unsent });
        }
        Ok(())
    }

    /// Ends what a claimed VM slot held, and queues its records. Answers as whom, and which slots are not free yet.
    pub(super) fn recover(
        &mut self,
        mut recovery: Recovery,
        now: Now,
        cells: &mut dyn Cells,
        effects: &mut Vec<Effect>,
    ) -> Result<Option<(Incarnation, BTreeSet<u32>)>, StoreError> {
        let (bundle, by) = (Rc::clone(&self.bundle), recovery.by());
        let outcome = recovery.run(cells, &mut |held| lost::end(&bundle, held, now))?;
        if outcome != Outcome::Done {
            return Ok(None);
        }
        let (ended, unsent) = (recovery.ended(), recovery.unsent());
        if ended > 0 || !unsent.is_empty() {
            let text = format!(
                "VM slot {}: its VM is gone; {ended} exchange(s) ended as unsettled, {} record(s) taken over",
                by.vm,
                unsent.len()
            );
            effects.push(Effect::Log(Severity::Warn, text));
            effects.push(Effect::Count { metric: "unsettled_total", labels: vec![], by: ended.into() });
            self.touched.values_mut().for_each(|touched| touched.dirty = true);
        }
        // By insertion: a set that is collected brings a sort of its own.
        let mut slots = BTreeSet::new();
        for unsent in unsent {
            slots.insert(unsent.slot);
            self.touch_recorded(&bundle, &unsent.record, now);
            self.outbox.settled(unsent.slot, by.vm, unsent.id, unsent.record.len());
        }
        Ok(Some((by, slots)))
    }

    /// The ledger must hear of accounts that only the dead VM knew of.
    fn touch_recorded(&mut self, bundle: &Bundle, record: &[u8], now: Now) {
        let Some(record) = decode_record(record) else { return };
        let Some(seat) = bundle.seats.iter().find(|seat| seat.name == record.seat) else { return };
        if let Some(plan) = bundle.plan_of(&record.plan) {
            let sent = if record.sent.is_empty() { &record.model } else { &record.sent };
            // Which session it was does not matter: no quota of a session is granted, so none is reported.
            self.touch(&Bill::of(bundle, plan, seat, 0, sent, record.came_ms), now);
        }
    }

    /// As whom this VM speaks to the collector: its own incarnation, or one that it has taken over.
    pub(super) fn speaker(&self) -> Option<Incarnation> {
        self.incarnation().or_else(|| self.watch.adopted.values().next().map(|adopted| adopted.by))
    }

    /// As whom the slot of `ticket` is freed.
    pub(super) fn owner(&self, ticket: Ticket) -> Incarnation {
        let adopted = self.watch.adopted.get(&ticket.vm).map(|adopted| adopted.by);
        adopted.or(self.incarnation().filter(|by| by.vm == ticket.vm)).unwrap_or(ticket.id.by)
    }

    /// A slot of an adopted VM slot is free. The last one gives the VM slot back.
    pub(super) fn sent_for_adopted(&mut self, ticket: Ticket, cells: &mut dyn Cells) -> Result<(), StoreError> {
        let Some(adopted) = self.watch.adopted.get_mut(&ticket.vm) else { return Ok(()) };
        adopted.unsent.remove(&ticket.slot);
        if adopted.unsent.is_empty() {
            release(&self.keys, adopted.by, cells)?;
            self.watch.adopted.remove(&ticket.vm);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::vm::Vm;
    use crate::now::Now;
    use crate::policy;
    use crate::report::wire::{Record, encode_record};
    use std::rc::Rc;

    #[test]
    fn an_account_of_the_dead_is_reported_also_when_its_plan_has_a_new_version() {
        let text = format!(
            "farebox: 1\nbundle: {{name: b, version: '1'}}\nidentity: [{{key: [authorization]}}]\n\
             models: {{m: {{count: o200k_base}}}}\n\
             plans: {{p@2: {{tokens: {{caps: {{calls: {{limit: 9 requests, per: seat, window: first-use 5h}}}}}}}}}}\n\
             assign: [{{otherwise: p@2}}]\ncollector: {{cluster: c}}\nseats:\n  s: {{org: o, keys: ['sha256:{:064x}']}}\n",
            1
        );
        let bundle = Rc::new(policy::compile(&text, "b").unwrap());
        let mut vm = Vm::new(Rc::clone(&bundle), 7, [7; 2]);
        let record = Record { plan: "p@1".to_owned(), seat: "s".to_owned(), ..Record::default() };
        vm.touch_recorded(&bundle, &encode_record(&record), Now { wall_ms: 1, mono_ms: 1 });
        assert!(vm.touched.contains_key("seat/s"));
    }
}
