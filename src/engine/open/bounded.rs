//! What was only bounded of a call, and what is learned where it came to more.

use super::{Answer, Open};
use crate::engine::effect::Effect;
use crate::engine::exchange::Prepared;
use crate::engine::settlement::Observed;
use crate::engine::vm::Vm;
use crate::now::Now;
use crate::policy::bundle::{Mode, Seat};

/// What a call may come to at most, as far as that can be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounded {
    /// Input tokens by what we can read, without what was learned of such calls.
    bound: u64,
    /// Input tokens that it was admitted with.
    held: u64,
    /// It points at what cannot be read, so that its bound is the policy's word.
    open: bool,
    /// Its provider was told an output limit.
    limited: bool,
}

impl Bounded {
    /// Of a call that is admitted in this mode.
    pub fn of(prepared: &Prepared, mode: Mode) -> Self {
        let Prepared { call, bound, size, api, .. } = prepared;
        Self {
            bound: *bound,
            held: size.input,
            open: call.open.is_some(),
            limited: api.dialect.writes_text() && (mode == Mode::Enforce || call.output_limit.is_some()),
        }
    }

    /// Input tokens at most, by what we can read.
    pub fn bound(&self) -> u64 {
        self.bound
    }
}

impl Open {
    /// Counts an input that was only bounded, if its provider does not say it, or if it is still to be learned how that
    /// counts.
    pub(super) fn count_unsaid(&mut self, seat: &Seat, now: Now, vm: &mut Vm, effects: &mut Vec<Effect>) {
        let said = match &self.answer {
            Answer::Upstream { reader, .. } => reader.said(),
            Answer::Local | Answer::None => None,
        };
        let said = said.is_some_and(|usage| usage.input_total() > 0) && !vm.counts.wants(&self.counting(seat));
        if !said {
            self.count_input(seat, now, vm);
        }
        let then = if said { "reported" } else { "counted" };
        effects.push(Effect::Count { metric: "bounded_total", labels: vec![("then", then.to_owned())], by: 1 });
    }

    /// Counts the input, if that was not done. It is as if it had been counted first: its bound is raised by what was
    /// learned of such calls.
    pub(super) fn count_input(&mut self, seat: &Seat, now: Now, vm: &mut Vm) -> u64 {
        if let Some(bound) = self.gauge.count(self.model.encoding, &mut vm.known) {
            let raise = vm.counts.raise(&self.counting(seat), bound, now);
            (self.size.input, self.bounded.bound) = (bound.saturating_add(raise), bound);
        }
        self.gauge.tokens()
    }

    /// Learns by how much a call went above its bound, or that calls like it do so no more; and tells what was more than was
    /// held.
    pub(super) fn learn_bound(
        &mut self,
        seat: &Seat,
        seen: &Observed,
        now: Now,
        vm: &mut Vm,
        effects: &mut Vec<Effect>,
    ) {
        let Some(reported) = seen.reported.filter(|_| self.status() < 400) else { return };
        let Bounded { held, open, limited, .. } = self.bounded;
        let model = || ("model", self.model.pattern.clone());
        let limit = self.size.output.saturating_mul(self.size.choices.max(1));
        let input = reported.input_total();
        let beyond = [("input", input, held), ("output", reported.output, if limited { limit } else { u64::MAX })];
        for (direction, came, held) in beyond.into_iter().filter(|(_, came, held)| came > held) {
            let labels = vec![model(), ("direction", direction.to_owned())];
            effects.push(Effect::Count { metric: "bound_exceeded_total", labels: labels.clone(), by: 1 });
            let by = came.saturating_sub(held);
            effects.push(Effect::Count { metric: "bound_exceeded_tokens_total", labels, by });
            effects.push(Effect::Note("above_bound", format!("{direction}:{by}")));
        }
        // An early word may be of a part of it; what is above its bound then is so in the end.
        if open || input == 0 || (!seen.complete && input <= self.bounded.bound) {
            return;
        }
        // A bound that was never counted lies far above the one by which such calls are held where there is less room.
        if self.gauge.counted().is_none() {
            if input <= self.bounded.bound {
                return;
            }
            self.count_input(seat, now, vm);
        }
        let taught = vm.counts.exceed(&self.counting(seat), self.bounded.bound, input, now);
        if let Some(fate) = taught.name() {
            let labels = vec![("model", self.model.pattern.clone()), ("fate", fate.to_owned())];
            effects.push(Effect::Count { metric: "bound_learned_total", labels, by: 1 });
        }
    }
}
