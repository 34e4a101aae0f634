//! What the body of a request decides: what is asked for, past all guards of the text, and how large it is.

use serde::de::IgnoredAny;

use super::{Exchange, State, Turn, no_plan, seat_plan};
use crate::engine::admission::{self, Patience};
use crate::engine::bill::Size;
use crate::engine::denial::Denial;
use crate::engine::effect::{Effect, Flow};
use crate::engine::guard::{self, Body, Trace};
use crate::engine::screen::{self, Content, Prompt, Tally};
use crate::engine::stuck;
use crate::engine::vm::Vm;
use crate::meter::call::{self, Call, Input, Malformed};
use crate::meter::dialect::{Api, Dialect, Endpoint};
use crate::meter::form;
use crate::meter::rewrite::is_no_text;
use crate::meter::usage::Usage;
use crate::now::Now;
use crate::policy::bundle::{Guard, Model, OnUnknown, Plan};
use crate::policy::price::Price;
use crate::quota::{Cells, MICRO};
use crate::scan::Mask;

/// A call that has passed every guard.
pub(in crate::engine) struct Prepared {
    pub seat: usize,
    pub plan: usize,
    pub session: u8,
    pub api: Api,
    pub call: Call,
    /// The model that was asked for, also after a downgrade.
    pub asked_model: String,
    pub model: Model,
    /// Pinned: also a call that waits is charged at the price of the moment it came.
    pub price: Price,
    pub came_ms: u64,
    /// Input tokens as counted here; `None`: they are only bounded, by what its size says.
    pub counted: Option<u64>,
    /// What guards have found that only observe.
    pub trace: Trace,
    /// Input tokens at most, by what we can read alone; its size may say more, by what was learned of such calls.
    pub bound: u64,
    pub size: Size,
    pub patience: Patience,
    /// Until when it waits for grants, by the monotonic clock, once it has asked for one.
    pub deadline_ms: Option<u64>,
    /// It is slowed down until then, by the monotonic clock.
    pub not_before_ms: u64,
    /// Whether `call` is not the body as it came: something in its texts was replaced.
    pub retold: bool,
    /// Who knows what was replaced by names.
    pub mask: Mask,
    /// What was found in its texts.
    pub findings: Vec<String>,
}

impl Exchange {
    pub(super) fn request_body(
        &mut self,
        body: &[u8],
        now: Now,
        vm: &mut Vm,
        cells: &mut dyn Cells,
        effects: &mut Vec<Effect>,
    ) -> Flow {
        let State::Reading { seat } = self.state else { return Flow::Continue };
        match self.prepare(seat, body, now, vm, effects) {
            Ok(prepared) => self.admit(Box::new(prepared), body, now, vm, cells, effects),
            Err(turn) => match (turn, self.plan()) {
                (Turn::Pass, Some(plan)) => {
                    let content = self.form.clone().map_or(Content::Text, Content::Files);
                    self.vet(plan, Some(body), content, now, vm, cells, effects)
                }
                (turn, _) => self.turn(turn, now, vm, cells, effects),
            },
        }
    }

    /// Reads the call and puts it past every guard, cheapest first.
    fn prepare(
        &self,
        seat: usize,
        body: &[u8],
        now: Now,
        vm: &mut Vm,
        effects: &mut Vec<Effect>,
    ) -> Result<Prepared, Turn> {
        let bundle = &self.bundle;
        let (who, plan, plan_index) = seat_plan(bundle, seat).ok_or_else(no_plan)?;
        let api = self.api.ok_or_else(Denial::unknown_path)?;
        let dialect = api.dialect;
        // Before it is read, because reading is what a large one costs.
        guard::so_far(plan, body.len() as u64)?;
        let mut call = match self.read(dialect, body) {
            Ok(call) => call,
            Err(malformed) => return Err(self.unread(&malformed, body)),
        };
        let asked_model = call.model.clone();
        self.force(plan, api, &mut call)?;
        let model = bundle.models.find(&call.model).ok_or_else(|| Denial::unknown_model(&call.model))?.clone();
        let mut trace = self.trace.clone();
        let bytes = body.len() as u64;
        guard::body(&Body { plan, call: &call, model: &model, bytes }, &mut trace, effects)?;
        let caller = stuck::Caller { seat: &who.name, session: self.named.as_deref().unwrap_or_default() };
        let slow_ms = stuck::judge(plan, caller, &call, now, &mut vm.lately, &mut trace, effects)?;
        let ceiling = guard::ceiling(plan, &call, &call.model)?;
        let mut found = Tally::default();
        let screened = match dialect {
            Dialect::Bytes => self.screen_bytes(plan, &mut call, body, &mut found),
            _ => screen::prompt(plan, bundle, &call, &mut found),
        };
        found.show("input", "findings", effects);
        let Prompt { edits, mask } = screened?;
        let retold = !edits.is_empty() || dialect == Dialect::Bytes && !call.body().is_empty();
        if !edits.is_empty() {
            // What the model reads is what is counted.
            let body = call::splice(call.body(), &edits);
            call = self.read(dialect, &body).map_err(|malformed| Denial::malformed(&malformed.to_string()))?;
            self.force(plan, api, &mut call)?;
        }
        let bounded = vm.shelf.bound(plan, &call, model.encoding, &mut vm.known);
        let (counted, bound) =
            match bounded.filter(|bound| plan.security.longest_input.is_none_or(|most| *bound <= most)) {
                Some(bound) => (None, bound),
                None => {
                    let input = call.input_up_to(model.encoding, &mut vm.known, guard::told_input(plan));
                    trace.take(plan, Guard::Longest, guard::longest_input(plan, input), effects)?;
                    // Only what is refused was not counted to its end.
                    let Input { counted, bound } = input.map_err(|_| Denial::malformed("cannot be counted"))?;
                    (Some(counted), bound.max(counted))
                }
            };
        let bound = bound.max(ceiling);
        let unstated = guard::unstated_output(plan);
        let thinks = !matches!(api.endpoint, Endpoint::Embeddings | Endpoint::Rerank);
        let beside = if thinks { call.thought_beside(unstated) } else { 0 };
        let declared = call.output_limit.unwrap_or(unstated).saturating_add(beside);
        // How many there will be nobody can say; of none a quota that is used up would let any number pass.
        let seconds = if self.seconds { call.asked.seconds.max(1) } else { call.asked.seconds };
        let expected = vm.habits.expect(&model.pattern, bound, plan.hold.unstated_output);
        let hours = call.may_keep_for_hours();
        let size = Size {
            input: bound,
            output: declared,
            expected,
            choices: call.choices.max(1),
            // Of what is thought beside the limit nothing is saved by a lower one.
            floor: match beside {
                0 => call.floor,
                _ => beside.saturating_add(call.floor.max(plan.hold.shrink_to).max(1)),
            }
            .min(declared),
            beside,
            enough: admission::enough(plan, &call, expected),
            prompts: if call.begins_turn { MICRO } else { plan.continued_prompt },
            asked: Usage { seconds, ..call.asked },
            tools: call.tools,
            again: plan.paid_failures(),
        };
        Ok(Prepared {
            seat,
            plan: plan_index,
            session: self.session,
            api,
            asked_model,
            call,
            price: Price { hours, ..model.price(now.wall_ms, api, plan.round) },
            came_ms: now.wall_ms,
            model,
            counted,
            trace,
            bound,
            size,
            patience: Patience::default(),
            deadline_ms: None,
            not_before_ms: if slow_ms > 0 { now.mono_ms.saturating_add(slow_ms) } else { 0 },
            retold,
            mask,
            findings: found.list(),
        })
    }

    /// Screens a body of which nobody knows the format: it is one text. What is changed of it is the body of the call then.
    fn screen_bytes(&self, plan: &Plan, call: &mut Call, body: &[u8], found: &mut Tally) -> Result<Prompt, Denial> {
        let kind = self.form.as_deref();
        if !kind.is_some_and(is_no_text)
            && let Some(told) = screen::unmetered(plan, &self.bundle, Some(body), &Content::of(kind), found)?
        {
            call.retell(told);
        }
        Ok(Prompt { edits: Vec::new(), mask: Mask::new(self.bundle.mask_key) })
    }

    /// What a body asks for, with what the path says.
    fn read(&self, dialect: Dialect, body: &[u8]) -> Result<Call, Malformed> {
        let mut call = match &self.form {
            _ if dialect == Dialect::Bytes => Call::of_bytes(body.len() as u64),
            Some(content_type) => form::read_form(dialect, content_type, body)?,
            None => call::read_call(dialect, body)?,
        };
        if let Some(route) = &self.route {
            call.take_route(route);
        }
        Ok(call)
    }

    /// Sends a call to the plan's one model, if it has one.
    fn force(&self, plan: &Plan, api: Api, call: &mut Call) -> Result<(), Denial> {
        let Some(forced) = plan.security.force_model.as_ref().filter(|forced| **forced != call.model) else {
            return Ok(());
        };
        let speaks = self.bundle.models.find(forced).is_some_and(|model| model.speaks(api));
        if speaks && call.send_to(forced) { Ok(()) } else { Err(guard::not_forced(plan, forced)) }
    }

    /// What can be read in two ways is never passed: the upstream might read the dearer one.
    fn unread(&self, malformed: &Malformed, body: &[u8]) -> Turn {
        let json = serde_json::from_slice::<IgnoredAny>(body).is_ok();
        match self.bundle.unknown.body {
            OnUnknown::Pass if !json => Turn::Pass,
            _ => Denial::malformed(&malformed.to_string()).into(),
        }
    }
}
