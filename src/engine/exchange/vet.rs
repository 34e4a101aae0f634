//! What becomes of a call that may go through unmetered, where its plan screens what is asked.

use std::rc::Rc;

use super::{Exchange, State, Turn};
use crate::engine::effect::{Effect, Flow};
use crate::engine::event::Header;
use crate::engine::screen::{self, Content, Tally};
use crate::engine::vm::Vm;
use crate::meter::rewrite::is_no_text;
use crate::now::Now;
use crate::quota::Cells;

impl Exchange {
    /// A call with a body, before that is here.
    pub(super) fn vet_headers(
        &mut self,
        headers: &[Header],
        now: Now,
        vm: &mut Vm,
        cells: &mut dyn Cells,
        effects: &mut Vec<Effect>,
    ) -> Flow {
        let field = |name: &[u8]| headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_slice());
        // Where a dialect is known its upstream reads text, whatever the caller says of it.
        let apart = self.dialect().is_none() && field(b"content-type").is_some_and(is_no_text);
        let plan = self.plan().filter(|_| !apart);
        let bundle = Rc::clone(&self.bundle);
        match plan.filter(|plan| bundle.plans.get(*plan).is_some_and(|plan| plan.security.input.is_some())) {
            None => self.turn(Turn::Pass, now, vm, cells, effects),
            // What is upgraded has no end; what is compressed nobody has unpacked.
            Some(plan)
                if field(b"upgrade").is_some()
                    || field(b":method") == Some(b"CONNECT")
                    || field(b"content-encoding").is_some_and(|coding| !coding.eq_ignore_ascii_case(b"identity")) =>
            {
                self.vet(plan, None, Content::Unsaid, now, vm, cells, effects)
            }
            Some(plan) => {
                self.state = State::Vetting { plan, content: Content::of(field(b"content-type")) };
                self.await_body(effects)
            }
        }
    }

    /// Looks at the body of a call that may go through. `None`: it cannot be read.
    #[expect(clippy::too_many_arguments, reason = "what is looked at, and what the contract gives with an event")]
    pub(super) fn vet(
        &mut self,
        plan: usize,
        body: Option<&[u8]>,
        content: Content,
        now: Now,
        vm: &mut Vm,
        cells: &mut dyn Cells,
        effects: &mut Vec<Effect>,
    ) -> Flow {
        let bundle = Rc::clone(&self.bundle);
        let mut found = Tally::default();
        let so_far = self.so_far(Some(plan), body.map_or(0, |body| body.len() as u64));
        let mut screened = || {
            bundle.plans.get(plan).map_or(Ok(None), |plan| screen::unmetered(plan, &bundle, body, &content, &mut found))
        };
        let vetted = so_far.and_then(|()| screened());
        found.show("input", "findings", effects);
        let turn = match vetted {
            Ok(told) => {
                effects.extend(told.map(Effect::ReplaceRequestBody));
                Turn::Pass
            }
            Err(denial) => denial.into(),
        };
        self.turn(turn, now, vm, cells, effects)
    }
}
