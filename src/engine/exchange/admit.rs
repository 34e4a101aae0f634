//! A call that has passed every guard is weighed, waits or is held.

use std::rc::Rc;

use super::{Exchange, Prepared, State, no_plan, seat_plan, unavailable};
use crate::engine::accounts::Accounts;
use crate::engine::admission::{self, Fit, Moment, Verdict, Want};
use crate::engine::bill::{Bill, Size};
use crate::engine::denial::Denial;
use crate::engine::effect::{Effect, Flow};
use crate::engine::learned::{self, Counting};
use crate::engine::open::Open;
use crate::engine::vm::{NoPlace, Vm};
use crate::engine::{fallback, guard};
use crate::meter::call::Input;
use crate::now::Now;
use crate::policy::bundle::{Bundle, Mode, Plan, PlanQuota, Seat};
use crate::policy::price::Price;
use crate::quota::{Cells, Operation, Outcome, Short};

impl Exchange {
    /// Makes of a call one for another model: counted anew, at that model's price.
    fn send_to(&self, prepared: &mut Prepared, name: &str, vm: &mut Vm) {
        let Some(plan) = self.bundle.plans.get(prepared.plan) else { return };
        if guard::ceiling(plan, &prepared.call, name).is_err() {
            return;
        }
        let left = prepared.call.model.clone();
        let (Some(model), true) = (self.bundle.models.find(name), prepared.call.send_to(name)) else { return };
        // Nothing sends it back there.
        prepared.patience.models.push(left);
        let Price { round, hours, .. } = prepared.price;
        prepared.price = Price { hours, ..model.price(prepared.came_ms, prepared.api, round) };
        prepared.model = model.clone();
        prepared.counted = None;
        count(plan, prepared, vm);
    }

    /// Sends a call on as long as the model that it would go to rests.
    fn fall_back(&self, plan: &Plan, prepared: &mut Prepared, now: Now, vm: &mut Vm, cells: &mut dyn Cells) {
        while let Some(step) = fallback::next(&self.bundle, plan, prepared, now, &vm.keys, cells) {
            prepared.patience.models.push(step.to.clone());
            self.send_to(prepared, &step.to, vm);
            if prepared.call.model != step.to {
                return;
            }
            prepared.patience.passed.push(step.passed());
        }
    }

    pub(super) fn admit(
        &mut self,
        mut prepared: Box<Prepared>,
        body: &[u8],
        now: Now,
        vm: &mut Vm,
        cells: &mut dyn Cells,
        effects: &mut Vec<Effect>,
    ) -> Flow {
        if now.mono_ms < prepared.not_before_ms {
            let wake_ms = prepared.not_before_ms;
            return self.wait(prepared, wake_ms, vm, effects);
        }
        let bundle = Rc::clone(&self.bundle);
        let Some((seat, plan, _)) = seat_plan(&bundle, prepared.seat) else {
            return self.turn(no_plan().into(), now, vm, cells, effects);
        };
        if let Err(error) = vm.give_back_lowered(cells) {
            return self.turn(unavailable("store", &error.to_string()).into(), now, vm, cells, effects);
        }
        // A refused hold means that the accounts moved between weighing and holding: weigh again, a bounded number of
        // times. A downgrade weighs again too, once for each model of the policy's list.
        let mut tries = 0;
        while tries < 8 {
            self.fall_back(plan, &mut prepared, now, vm, cells);
            let bill = Bill::of(&bundle, plan, seat, prepared.session, &prepared.call.model, prepared.came_ms);
            raise(seat, &mut prepared, now, vm, cells);
            let verdict = match with_ample_room(&bundle, &bill, &prepared, now, vm, cells) {
                Some(fit) => Verdict::Fits(fit),
                None => {
                    count(plan, &mut prepared, vm);
                    raise(seat, &mut prepared, now, vm, cells);
                    weigh(&bundle, &bill, &mut prepared, now, vm, cells)
                }
            };
            match verdict {
                Verdict::Fits(fit) => match self.hold(&bill, &prepared, fit, now, vm, cells, effects) {
                    Ok(open) => return self.open(open, *prepared, body, vm, effects),
                    Err(Retry::Again) => tries += 1,
                    Err(Retry::Never(denial)) => return self.turn(denial.into(), now, vm, cells, effects),
                },
                Verdict::Wants(wants) => return self.fetch(&bill, prepared, wants, now, vm, cells, effects),
                Verdict::Waits { wake_ms } => {
                    // The window that opens then is another one: the ledger has its time to grant some of that.
                    prepared.deadline_ms = None;
                    return self.wait(prepared, wake_ms, vm, effects);
                }
                Verdict::Downgrade(model) => self.send_to(&mut prepared, &model, vm),
                Verdict::Unfunded => {
                    return self.turn(Denial::unfunded(&prepared.call.model).into(), now, vm, cells, effects);
                }
                Verdict::Short { short, needed } => {
                    if matches!(short, Short::Exhausted { .. }) {
                        vm.doubt(&bill, now, cells, effects);
                    }
                    let denial = Denial::short(&short, &bill.with_throttles(), needed, now);
                    return self.turn(denial.into(), now, vm, cells, effects);
                }
            }
        }
        self.turn(unavailable("contention", "the accounts changed too fast").into(), now, vm, cells, effects)
    }

    /// Waits until `wake_ms`, or until somebody wakes it.
    fn wait(&mut self, prepared: Box<Prepared>, wake_ms: u64, vm: &mut Vm, effects: &mut Vec<Effect>) -> Flow {
        vm.wait(self.handle, wake_ms);
        effects.push(Effect::WakeAt(wake_ms));
        self.state = State::Waiting { prepared };
        Flow::Hold
    }

    /// Waits for the ledger, until the deadline at the latest.
    #[expect(clippy::too_many_arguments, reason = "the contract's four, and what is waited for")]
    fn fetch(
        &mut self,
        bill: &Bill<'_>,
        mut prepared: Box<Prepared>,
        wants: Vec<Want>,
        now: Now,
        vm: &mut Vm,
        cells: &mut dyn Cells,
        effects: &mut Vec<Effect>,
    ) -> Flow {
        let patience = self.bundle.collector.as_ref().map_or(0, |collector| collector.patience_ms);
        let deadline_ms = prepared.deadline_ms.unwrap_or_else(|| now.mono_ms.saturating_add(patience));
        prepared.deadline_ms = Some(deadline_ms);
        // The sync speaks for an incarnation, so there must be one before anything is admitted.
        match vm.place(now, cells, effects) {
            Ok(place) => vm.vacate(place),
            Err(no_place) => return self.turn(crowded(no_place).into(), now, vm, cells, effects),
        }
        vm.touch(bill, now);
        for want in wants {
            vm.want(&want.subject, want.quota, want.missing);
        }
        let flow = self.wait(prepared, deadline_ms, vm, effects);
        effects.push(Effect::SyncSoon);
        flow
    }

    #[expect(clippy::too_many_arguments, reason = "the contract's four, and what is held")]
    fn hold(
        &self,
        bill: &Bill<'_>,
        prepared: &Prepared,
        fit: Fit,
        now: Now,
        vm: &mut Vm,
        cells: &mut dyn Cells,
        effects: &mut Vec<Effect>,
    ) -> Result<Open, Retry> {
        let bundle = Rc::clone(&self.bundle);
        let place = vm.place(now, cells, effects).map_err(|no_place| Retry::Never(crowded(no_place)))?;
        let Fit { output, mut levels, borne, passed } = fit;
        let size = Size { output, ..prepared.size };
        let mut open = Open::new(place, bill.plan, prepared, &size, passed, bundle.mode, now);
        let size = open.first_hold(bill, &size, &mut levels, borne);
        for line in levels.iter_mut().flat_map(|level| &mut level.lines) {
            line.amount = vm.to_hold(line.amount);
        }
        let draft = open.draft(&bundle, bill, &size, &levels);
        let mut operation = Operation::hold(&vm.keys, place.id.by, place.slot, place.id, levels, draft, now);
        match operation.run(cells) {
            Ok(Outcome::Done) => {
                vm.admitted(place);
                open.holds(operation.holds());
                // By the model that it goes to now: each has a cache of its own.
                let named = self.named.as_deref();
                open.sends(named.and_then(|name| vm.prefixes.prompt(&bill.seat.name, name, &prepared.call)));
                vm.touch(bill, now);
                Ok(open)
            }
            Ok(Outcome::Refused(_)) => {
                vm.vacate(place);
                Err(Retry::Again)
            }
            // An incarnation that left an operation unfinished may not begin another: whoever claims it finishes that one.
            Ok(Outcome::Fenced | Outcome::Contended | Outcome::WrongSlot) => {
                vm.fenced(effects);
                Err(Retry::Again)
            }
            Ok(Outcome::Unreadable { key }) => {
                vm.vacate(place);
                let key = String::from_utf8_lossy(&key);
                Err(Retry::Never(unavailable("store", &format!("the value under `{key}` is no record of ours"))))
            }
            Err(error) => {
                vm.fenced(effects);
                Err(Retry::Never(unavailable("store", &error.to_string())))
            }
        }
    }

    /// Lets an admitted call go on.
    fn open(&mut self, mut open: Open, prepared: Prepared, body: &[u8], vm: &Vm, effects: &mut Vec<Effect>) -> Flow {
        open.announce(&self.bundle, &prepared, body, effects);
        if let Some(mut trail) = self.trail.take() {
            trail.admitted(&prepared.call, &prepared.findings);
            open.leaves(trail);
        }
        if prepared.counted.is_none() {
            open.gauges(vm.shelf.keep(prepared.call, prepared.bound));
        }
        self.state = State::Open(Box::new(open));
        Flow::Continue
    }
}

/// A hold that was not made.
enum Retry {
    Again,
    Never(Denial),
}

/// Counts the input of a call, if that was not done for its model.
fn count(plan: &Plan, prepared: &mut Prepared, vm: &mut Vm) {
    if prepared.counted.is_some() {
        return;
    }
    let Prepared { call, model, size, bound: most, .. } = prepared;
    let all = call.input_up_to(model.encoding, &mut vm.known, u64::MAX);
    let Input { counted, bound } = all.unwrap_or(Input { counted: u64::MAX, bound: u64::MAX });
    let ceiling = guard::ceiling(plan, call, &call.model).unwrap_or(0);
    *most = bound.max(counted).max(ceiling);
    size.input = *most;
    size.expected = vm.habits.expect(&model.pattern, *most, plan.hold.unstated_output);
    size.enough = admission::enough(plan, call, size.expected);
    prepared.counted = Some(counted);
}

/// Raises the bound of a call's input by what calls like it were seen to have above theirs. One that points at what cannot
/// be read has what the policy says.
fn raise(seat: &Seat, prepared: &mut Prepared, now: Now, vm: &mut Vm, cells: &mut dyn Cells) {
    let Prepared { call, model, size, bound, api, .. } = prepared;
    if call.open.is_some() {
        return;
    }
    let of = Counting {
        seat: learned::seat(&seat.name),
        pattern: &model.pattern,
        count: model.encoding,
        model: &call.model,
        dialect: api.dialect,
        tools: size.tools,
        calls: false,
        text: call.is_text(),
    };
    vm.meet_model(&of, now, cells);
    size.input = bound.saturating_add(vm.counts.raise(&of, *bound, now));
}

/// How a call fits whose input is only bounded, if that will do.
fn with_ample_room(
    bundle: &Bundle,
    bill: &Bill<'_>,
    prepared: &Prepared,
    now: Now,
    vm: &Vm,
    cells: &mut dyn Cells,
) -> Option<Fit> {
    if prepared.counted.is_some() {
        return None;
    }
    let moment = Moment { now, last: false, observe: bundle.mode == Mode::Observe };
    let mut accounts = Accounts::default();
    let mut standing =
        |subject: &str, quota: &PlanQuota, amount| accounts.standing_for(subject, quota, amount, now, vm, cells);
    admission::with_ample_room(bill, &prepared.price, &prepared.size, moment, &mut standing)
}

/// Weighs a call, each account read once.
fn weigh(
    bundle: &Bundle,
    bill: &Bill<'_>,
    prepared: &mut Prepared,
    now: Now,
    vm: &Vm,
    cells: &mut dyn Cells,
) -> Verdict {
    let Prepared { price, size, patience, deadline_ms, call, api, .. } = prepared;
    let last = deadline_ms.is_some_and(|deadline_ms| deadline_ms <= now.mono_ms);
    let moment = Moment { now, last, observe: bundle.mode == Mode::Observe };
    let mut accounts = Accounts::default();
    let mut standing =
        |subject: &str, quota: &PlanQuota, amount| accounts.standing_for(subject, quota, amount, now, vm, cells);
    let can_go_to =
        |model: &str| call.can_be_sent() && bundle.models.find(model).is_some_and(|model| model.speaks(*api));
    admission::weigh(bill, price, size, moment, patience, &mut standing, &can_go_to)
}

fn crowded(no_place: NoPlace) -> Denial {
    match no_place {
        NoPlace::Full => unavailable("slots", "every exchange slot of this VM is taken"),
        NoPlace::Unreported => unavailable("collector.buffer", "the buffer of unreported records is full"),
        NoPlace::Store => unavailable("store", "the host's shared data did not answer, or all VM slots are taken"),
    }
}
