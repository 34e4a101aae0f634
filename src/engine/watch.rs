//! Watching other VMs: whoever has fallen silent is claimed, and what it held is ended.

use std::collections::BTreeMap;

use crate::engine::effect::{Effect, Severity};
use crate::engine::vm::Vm;
use crate::now::Now;
use crate::quota::recovery::Recovery;
use crate::quota::{Cells, MAX_VMS, StoreError, vmslot};

/// Own beats over which another VM's count must stand still before it may be claimed.
const SILENT_BEATS: u32 = 30;

/// What was last seen of each VM slot.
#[derive(Default)]
pub(super) struct Watch {
    seen: BTreeMap<u16, Seen>,
}

struct Seen {
    generation: u32,
    beat: u64,
    unchanged: u32,
}

impl Vm {
    /// One look at every VM slot; called once a beat of this VM.
    pub(super) fn watch_others(
        &mut self,
        now: Now,
        cells: &mut dyn Cells,
        effects: &mut Vec<Effect>,
    ) -> Result<(), StoreError> {
        let home = self.incarnation().map(|by| by.vm);
        for vm in 0..MAX_VMS {
            let Some(glimpse) = vmslot::peek(&self.keys, vm, cells)? else { break };
            if Some(vm) == home || glimpse.released {
                self.watch.seen.remove(&vm);
                continue;
            }
            let seen = self.watch.seen.entry(vm).or_insert(Seen {
                generation: glimpse.generation,
                beat: glimpse.beat,
                unchanged: 0,
            });
            if (seen.generation, seen.beat) != (glimpse.generation, glimpse.beat) {
                *seen = Seen { generation: glimpse.generation, beat: glimpse.beat, unchanged: 0 };
                continue;
            }
            seen.unchanged = seen.unchanged.saturating_add(1);
            if seen.unchanged >= SILENT_BEATS {
                self.watch.seen.remove(&vm);
                self.recover(vm, glimpse, now, cells, effects)?;
            }
        }
        Ok(())
    }

    fn recover(
        &mut self,
        vm: u16,
        glimpse: vmslot::Glimpse,
        now: Now,
        cells: &mut dyn Cells,
        effects: &mut Vec<Effect>,
    ) -> Result<(), StoreError> {
        let bundle = self.bundle.clone();
        let keep = bundle.collector.is_some();
        let mut lost = |held: &crate::quota::slot::Held| super::lost::settle(&bundle, held, now);
        let Some(found) = Recovery::new(&self.keys, vm, glimpse, keep, now).run(cells, &mut lost)? else {
            return Ok(());
        };
        effects.push(Effect::Log(
            Severity::Warn,
            format!("VM slot {vm} fell silent; {} exchange(s) ended as unsettled, {} record(s) taken over", found.ended, found.settled.len()),
        ));
        effects.push(Effect::Count { metric: "unsettled_total", labels: vec![], by: found.ended });
        for settled in found.settled {
            self.outbox.settled(settled.vm, settled.slot, settled.id, settled.bytes);
        }
        for subject in found.subjects {
            if let Some(touched) = self.touched.get_mut(&subject) {
                touched.dirty = true;
            }
        }
        Ok(())
    }
}
