//! A call that came to more than is held of it: its funds give the rest in their order, as they would have at admission.
//!
//! It is the operation by which a stream gets its next slice, made before the settle: what is charged then is held, on all
//! accounts or on none, and of an exchange whose VM dies between the two the slot says so. Nothing is refused here. What no
//! fund has is a debt of the one that [bears](Bill::bearer) it.

use super::flow::TRIES;
use super::in_force::InForce;
use super::{Course, Desk, Open};
use crate::engine::accounts::Accounts;
use crate::engine::bill::Bill;
use crate::engine::effect::Effect;
use crate::engine::event::Cause;
use crate::engine::slices::{self, Excess};
use crate::engine::vm::{Place, Vm};
use crate::now::Now;
use crate::policy::bundle::{Bundle, Mode};
use crate::policy::price::Price;
use crate::policy::unit::Consumed;
use crate::quota::{Cells, Operation, Outcome};

impl Open {
    /// What it came to beyond what is held of its funds.
    fn excess(
        &self,
        bill: &Bill<'_>,
        (consumed, price): (&Consumed, &Price),
        in_force: &InForce,
        now: Now,
        vm: &Vm,
        cells: &mut dyn Cells,
    ) -> Excess {
        let mut accounts = Accounts::default();
        slices::excess(bill, consumed, price, &self.held, &mut |subject, quota, window| {
            accounts.standing_in(subject, &in_force.quota(&quota.quota), window, now, vm, cells)
        })
    }

    /// Holds that, as far as it is here.
    pub(super) fn hold_excess(
        &mut self,
        (bundle, bill): (&Bundle, &Bill<'_>),
        cost: (&Consumed, &Price),
        now: Now,
        vm: &mut Vm,
        cells: &mut dyn Cells,
        effects: &mut Vec<Effect>,
    ) {
        let Place { id, slot } = self.place;
        let in_force = InForce::of(bundle, bill.plan, vm);
        for _ in 0..TRIES {
            // One that was given up may not begin anything.
            if vm.incarnation() != Some(id.by) {
                return;
            }
            let Excess { mut more, by, .. } = self.excess(bill, cost, &in_force, now, vm, cells);
            // Of each try anew: who would have paid in one that came to nothing has given nothing.
            self.beyond.payer = by;
            if more.is_empty() {
                return;
            }
            in_force.apply(&mut more);
            more.iter_mut().flat_map(|level| &mut level.lines).for_each(|line| line.amount = vm.to_hold(line.amount));
            let mut operation = Operation::extend(&vm.keys, id.by, slot, id, more, self.noted, now);
            match operation.run(cells) {
                Ok(Outcome::Done) => return slices::add(&mut self.held, operation.holds()),
                // The accounts moved between weighing and holding.
                Ok(Outcome::Refused(_)) => {}
                // Somebody else has ended it: the settle meets the same.
                Ok(Outcome::WrongSlot) => return,
                _ => return vm.fenced_as(id.by, effects),
            }
        }
    }

    /// Keeps the end of an answer until the ledger has spoken, where it may have of what the call came to beyond what is
    /// held, and that decides which fund pays: as a stream is kept that waits for its next slice, and no longer. Where
    /// nobody can be kept waiting (the caller hangs up, trailers follow, the provider is silent) what is here has to do.
    pub(in crate::engine) fn await_excess(
        &mut self,
        course: Course,
        chunk: Option<&[u8]>,
        from: usize,
        desk: &mut Desk<'_>,
    ) -> Course {
        let ends = matches!(course, Course::Over(Cause::Finished)) && self.body_ended && self.held_back.is_none();
        let Some(collector) = desk.bundle.collector.as_ref().filter(|_| ends && desk.bundle.mode == Mode::Enforce)
        else {
            return course;
        };
        let Desk { bundle, now, vm, cells, effects, handle } = desk;
        let deadline_ms =
            *self.excess_until_ms.get_or_insert_with(|| now.mono_ms.saturating_add(collector.patience_ms));
        let Some((seat, plan)) = bundle.seats.get(self.seat).zip(bundle.plans.get(self.plan)) else { return course };
        let Some((consumed, price)) = self.came_to(bundle, plan, *now, vm).filter(|_| now.mono_ms < deadline_ms) else {
            return course;
        };
        let bill = Bill::of(bundle, plan, seat, self.session, &self.sent_model, self.came_ms);
        let in_force = InForce::of(bundle, plan, vm);
        let wants = self.excess(&bill, (&consumed, &price), &in_force, *now, vm, *cells).wants;
        if wants.is_empty() {
            return course;
        }
        vm.touch(&bill, *now);
        wants.iter().for_each(|want| vm.want(&want.subject, want.quota, want.missing));
        let replaced = effects.iter_mut().skip(from).find_map(|effect| match effect {
            Effect::ReplaceChunk(bytes) => Some(std::mem::take(bytes)),
            _ => None,
        });
        let ready = replaced.unwrap_or_else(|| {
            effects.push(Effect::ReplaceChunk(Vec::new()));
            chunk.unwrap_or_default().to_vec()
        });
        self.held_back = Some((deadline_ms, ready));
        vm.wait(*handle, deadline_ms);
        effects.extend([Effect::WakeAt(deadline_ms), Effect::SyncSoon]);
        Course::Waits
    }
}
