//! One HTTP stream, from its headers to its record.
//!
//! The states: *fresh* → *reading* the body → perhaps *waiting* for a grant → *open* (admitted, running) → *over*.
//! What is refused goes straight to *over*; what is no LLM call and may pass is *passing* until it ends.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde::de::IgnoredAny;

use crate::engine::admission::{self, Fit, Moment, Patience, Verdict, Want};
use crate::engine::bill::{Bill, Size, session_account};
use crate::engine::denial::{Denial, Kind};
use crate::engine::effect::{Effect, Flow, Handle};
use crate::engine::event::{Cause, Event, Header, Vouched};
use crate::engine::guard::{self, Body, Head, Trace};
use crate::engine::identity::Caller;
use crate::engine::open::{Course, Desk, Open};
use crate::engine::rejected::Rejected;
use crate::engine::screen::{self, Prompt, Tally};
use crate::engine::vm::{NoPlace, Vm};
use crate::engine::{balance, identity, refusal, source, stuck};
use crate::meter::call::{self, Call, Input, Malformed};
use crate::meter::dialect::{self, Dialect, Route};
use crate::meter::form;
use crate::meter::usage::Usage;
use crate::now::Now;
use crate::policy::bundle::{Bundle, Guard, HostMode, Mode, Model, OnUnknown, Plan, PlanQuota, Seat};
use crate::policy::price::Price;
use crate::quota::{Account, Cells, MICRO, Operation, Outcome, Short, Standing, read_account};
use crate::scan::Mask;

/// The request header that routes match on.
pub const TIER_HEADER: &str = "x-farebox-tier";
/// The request header that routes match on when a call was sent to another model than it asked for.
pub const MODEL_HEADER: &str = "x-farebox-model";

const JSON: &str = "application/json";

/// See the module's docs, and [`engine`](crate::engine) for the contract with a host.
pub struct Exchange {
    bundle: Rc<Bundle>,
    handle: Handle,
    state: State,
    dialect: Option<Dialect>,
    /// What the path says.
    route: Option<Route>,
    /// What comes back is told in seconds.
    seconds: bool,
    /// The content type of a body that is a form.
    form: Option<Vec<u8>>,
    /// Whose it is, once that is known.
    seat: Option<usize>,
    /// Which of its seat's session accounts it falls to.
    session: u8,
    /// The session as it names itself, if it does.
    named: Option<Vec<u8>>,
    /// What guards have found that only observe.
    trace: Trace,
}

enum State {
    Fresh,
    /// No LLM call; not metered.
    Passing,
    /// Headers are judged; the body is awaited.
    Reading {
        seat: usize,
    },
    /// Everything is known but whether it fits: a grant is on its way, or the policy lets it wait.
    Waiting {
        prepared: Box<Prepared>,
    },
    /// Admitted.
    Open(Box<Open>),
    /// Refused, or settled.
    Over,
}

/// A call that has passed every guard.
pub(super) struct Prepared {
    pub seat: usize,
    pub plan: usize,
    pub session: u8,
    pub dialect: Dialect,
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
}

/// What a judgement came to, when it is not "go on".
enum Turn {
    Deny(Box<Denial>),
    Pass,
    /// Tell the seat how its quotas stand.
    Balance(usize),
}

impl From<Denial> for Turn {
    fn from(denial: Denial) -> Self {
        Self::Deny(Box::new(denial))
    }
}

impl Exchange {
    /// A new stream. `handle` is the host's own name for it.
    pub fn new(bundle: Rc<Bundle>, handle: Handle) -> Self {
        Self {
            bundle,
            handle,
            state: State::Fresh,
            dialect: None,
            route: None,
            seconds: false,
            form: None,
            seat: None,
            session: 0,
            named: None,
            trace: Trace::default(),
        }
    }

    /// Tells the exchange what happened; it answers with what to do.
    pub fn handle(
        &mut self,
        event: Event<'_>,
        now: Now,
        vm: &mut Vm,
        cells: &mut dyn Cells,
        effects: &mut Vec<Effect>,
    ) -> Flow {
        let before = effects.len();
        let flow = self.goes_on(event, now, vm, cells, effects);
        if let (State::Open(open), Flow::Continue | Flow::Hold) = (&self.state, &flow) {
            open.set_alarm(before, effects);
        }
        flow
    }

    fn goes_on(
        &mut self,
        event: Event<'_>,
        now: Now,
        vm: &mut Vm,
        cells: &mut dyn Cells,
        effects: &mut Vec<Effect>,
    ) -> Flow {
        match event {
            Event::RequestHeaders { headers, peer, vouched, end } => {
                let judged = self.judge_headers(headers, peer, vouched, now, effects);
                match judged {
                    Ok(seat) if end => {
                        self.state = State::Reading { seat };
                        self.request_body(&[], now, vm, cells, effects)
                    }
                    Ok(seat) => {
                        self.state = State::Reading { seat };
                        self.await_body(effects)
                    }
                    Err(Turn::Balance(seat)) => self.tell_balance(seat, now, vm, cells, effects),
                    Err(turn) => self.turn(turn, now, vm, cells, effects),
                }
            }
            Event::RequestBody { body, end } => match self.state {
                State::Reading { .. } if end => self.request_body(body, now, vm, cells, effects),
                State::Reading { seat } => match self.so_far(seat, body.len() as u64) {
                    Ok(()) => Flow::Hold,
                    Err(denial) => self.turn(denial.into(), now, vm, cells, effects),
                },
                State::Waiting { .. } => Flow::Hold,
                _ => Flow::Continue,
            },
            Event::Woken { body } => match std::mem::replace(&mut self.state, State::Over) {
                State::Waiting { prepared } => {
                    vm.stop_waiting(self.handle);
                    self.admit(prepared, body, now, vm, cells, effects)
                }
                State::Open(open) => {
                    vm.stop_waiting(self.handle);
                    self.state = State::Open(open);
                    self.answer_goes_on(Turned::Woken, now, vm, cells, effects)
                }
                state => {
                    self.state = state;
                    Flow::Continue
                }
            },
            Event::ResponseHeaders { headers, upstream, attempts, end } => {
                if let State::Open(open) = &mut self.state {
                    let judged = open.response_headers(&self.bundle, headers, upstream, attempts, now, effects);
                    if let Err(denial) = judged {
                        return self.answer_instead(&denial, now, vm, cells, effects);
                    }
                    if upstream {
                        open.tell_standing(&self.bundle, now, vm, cells, effects);
                    }
                    if end && upstream {
                        self.ended(Cause::Finished, None, now, vm, cells, effects);
                    } else if open.holds_headers() {
                        return Flow::Hold;
                    }
                }
                Flow::Continue
            }
            Event::ResponseBody { chunk, end } => {
                self.answer_goes_on(Turned::Chunk(chunk, end), now, vm, cells, effects)
            }
            Event::ResponseTrailers => self.answer_goes_on(Turned::Trailers, now, vm, cells, effects),
            Event::Over { cause, attempts } => {
                vm.stop_waiting(self.handle);
                self.ended(cause, Some(attempts), now, vm, cells, effects);
                self.state = State::Over;
                Flow::Continue
            }
        }
    }

    /// The answer is refused before any of it has left.
    fn answer_instead(
        &mut self,
        denial: &Denial,
        now: Now,
        vm: &mut Vm,
        cells: &mut dyn Cells,
        effects: &mut Vec<Effect>,
    ) -> Flow {
        let State::Open(open) = &self.state else { return Flow::Continue };
        let id = open.id();
        self.ended(Cause::Finished, None, now, vm, cells, effects);
        Flow::Reply(refusal::reply(self.dialect, denial, &id, now))
    }

    /// Something has happened to the answer.
    fn answer_goes_on(
        &mut self,
        turned: Turned<'_>,
        now: Now,
        vm: &mut Vm,
        cells: &mut dyn Cells,
        effects: &mut Vec<Effect>,
    ) -> Flow {
        let State::Open(open) = &mut self.state else { return Flow::Continue };
        let (chunk, before) = (turned.chunk(), effects.len());
        let late = match turned {
            // What has ended is not late any more.
            Turned::Chunk(_, true) | Turned::Trailers => None,
            Turned::Chunk(_, false) => open.is_late(&self.bundle, true, now.mono_ms, effects),
            Turned::Woken => open.is_late(&self.bundle, false, now.mono_ms, effects),
        };
        if let Some(denial) = late.as_ref().filter(|_| open.is_withheld()) {
            // Settled when the stream is over: only then is it known whether it ever reached an upstream.
            return Flow::Reply(refusal::reply(self.dialect, denial, &open.id(), now));
        }
        let mut desk = Desk { bundle: &self.bundle, handle: self.handle, now, vm, cells, effects };
        let course = match turned {
            _ if late.is_some() => open.end_late(turned.piece(), &mut desk),
            Turned::Chunk(chunk, end) => open.response_body(chunk, end, desk),
            Turned::Trailers => open.response_trailers(desk),
            Turned::Woken => open.woken(desk),
        };
        if let Some(chunk) = chunk {
            open.hear(chunk, now.mono_ms);
        }
        open.judge_calls(&self.bundle, effects);
        open.screen(&self.bundle, chunk, &course, now, before, effects);
        let kept = open.keep(chunk, &course, before, effects);
        match course {
            Course::On if kept => Flow::Hold,
            Course::On => Flow::Continue,
            Course::Waits => Flow::Hold,
            Course::Over(cause) => {
                self.ended(cause, None, now, vm, cells, effects);
                Flow::Continue
            }
            Course::Fenced => {
                self.state = State::Over;
                Flow::Continue
            }
        }
    }

    fn ended(
        &mut self,
        cause: Cause,
        attempts: Option<u32>,
        now: Now,
        vm: &mut Vm,
        cells: &mut dyn Cells,
        effects: &mut Vec<Effect>,
    ) {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Open(open) => open.settle(&self.bundle, cause, attempts, now, vm, cells, effects),
            state @ State::Passing => self.state = state,
            _ => {}
        }
    }

    /// Everything that can be told from the headers alone. A refusal here never reads the body.
    fn judge_headers(
        &mut self,
        headers: &[Header],
        peer: Option<std::net::IpAddr>,
        vouched: &[Vouched],
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Result<usize, Turn> {
        let bundle = Rc::clone(&self.bundle);
        for name in identity::credential_headers(headers, &bundle) {
            effects.push(Effect::RemoveRequestHeader(name));
        }
        let field = |name: &str| headers.iter().find(|(n, _)| n == name.as_bytes()).map(|(_, value)| value.as_slice());
        let (method, path) = (field(":method").unwrap_or_default(), field(":path").unwrap_or_default());
        self.route = Route::of(method, path);
        if let Some(route) = &mut self.route {
            headers.iter().for_each(|(name, value)| route.header(name, value));
        }
        self.dialect = self.route.as_ref().map(|route| route.dialect);
        self.seconds = self.dialect.is_some_and(|dialect| dialect.tells_seconds(path));
        let seat = match identity::identify(headers, vouched, &bundle) {
            Ok(Caller { seat, passed_over }) => {
                unread_identities("pass", passed_over, effects);
                seat
            }
            Err(denial) => {
                let unread = vouched.iter().filter(|said| matches!(said, Vouched::Unreadable)).count();
                unread_identities("deny", unread as u64, effects);
                return Err(denial.into());
            }
        };
        self.seat = Some(seat);
        let who = bundle.seats.get(seat).ok_or_else(no_plan)?;
        let plan = guard::plan(&bundle, who)?;
        guard::subscription(who, now)?;
        let named = bundle.session.iter().find_map(|name| field(name)).filter(|named| !named.is_empty());
        self.session = session_account(named);
        self.named = named.map(<[u8]>::to_vec);
        let plain = path.split(|byte| *byte == b'?').next().unwrap_or_default();
        let asks_balance =
            method == b"GET" && bundle.balance.as_ref().is_some_and(|balance| balance.as_bytes() == plain);
        let address = source::client_address(peer, headers, bundle.trusted_proxies);
        let head = Head { plan, now, headers, method, path, address, dialect: self.dialect, asks_balance };
        guard::head(&head, &mut self.trace, effects)?;
        if asks_balance {
            return Err(Turn::Balance(seat));
        }
        for name in identity::names(headers, |name| plan.security.strips(name)) {
            effects.push(Effect::RemoveRequestHeader(name));
        }
        if let Some(tier) = &plan.connectivity.tier {
            effects.push(Effect::SetRequestHeader(TIER_HEADER.to_owned(), tier.clone()));
        }
        let dialect = match self.dialect {
            Some(dialect) => dialect,
            None if dialect::suspicious(path) => return Err(odd_path().into()),
            None if bundle.unknown.path == OnUnknown::Pass => return Err(Turn::Pass),
            None => return Err(Denial::unknown_path().into()),
        };
        if field("upgrade").is_some() {
            return Err(unreadable(&bundle, "an upgrade request on an LLM path"));
        }
        if field("content-encoding").is_some_and(|value| !value.eq_ignore_ascii_case(b"identity")) {
            return Err(unreadable(&bundle, "a compressed request body"));
        }
        // What we must read must not be compressed, and some clients ask for it by habit.
        if field("accept-encoding").is_some() {
            effects.push(Effect::RemoveRequestHeader("accept-encoding".to_owned()));
        }
        // It is read here as JSON in UTF-8. Said to be something else (a form, another charset), an upstream might read
        // another call in the same bytes.
        // A form with files is read as a form.
        self.form = field("content-type").filter(|value| dialect.takes_forms() && is_form(value)).map(<[u8]>::to_vec);
        if self.form.is_none() && field("content-type").is_none_or(|value| value != JSON.as_bytes()) {
            effects.push(Effect::SetRequestHeader("content-type".to_owned(), JSON.to_owned()));
        }
        effects.push(Effect::Note("seat", who.name.clone()));
        effects.push(Effect::Note("org", who.org.clone()));
        effects.push(Effect::Note("dialect", dialect.name().to_owned()));
        Ok(seat)
    }

    fn await_body(&self, effects: &mut Vec<Effect>) -> Flow {
        if self.bundle.headers == HostMode::First {
            // The headers leave now, and filters behind us decide now: this says *seen*, not *admitted*.
            effects.push(Effect::Note("admitted", "seen".to_owned()));
        }
        Flow::Hold
    }

    /// The most bytes of the request body that are waited for. A host that shows only whole bodies shows what it has as
    /// soon as there is more.
    pub fn most_body_bytes(&self) -> u64 {
        let State::Reading { seat } = self.state else { return u64::MAX };
        seat_plan(&self.bundle, seat).map_or(u64::MAX, |(_, plan, _)| guard::most_bytes(plan))
    }

    fn so_far(&self, seat: usize, bytes: u64) -> Result<(), Denial> {
        seat_plan(&self.bundle, seat).map_or(Ok(()), |(_, plan, _)| guard::so_far(plan, bytes))
    }

    fn request_body(
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
            Err(turn) => self.turn(turn, now, vm, cells, effects),
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
        let dialect = self.dialect.ok_or_else(Denial::unknown_path)?;
        // Before it is read, because reading is what a large one costs.
        guard::so_far(plan, body.len() as u64)?;
        let mut call = match self.read(dialect, body) {
            Ok(call) => call,
            Err(malformed) => return Err(self.unread(&malformed, body)),
        };
        let asked_model = call.model.clone();
        self.force(plan, dialect, &mut call)?;
        let model = bundle.models.find(&call.model).ok_or_else(|| Denial::unknown_model(&call.model))?.clone();
        let mut trace = self.trace.clone();
        let bytes = body.len() as u64;
        guard::body(&Body { plan, call: &call, model: &model, bytes }, &mut trace, effects)?;
        let caller = stuck::Caller { seat: &who.name, session: self.named.as_deref().unwrap_or_default() };
        let slow_ms = stuck::judge(plan, caller, &call, now, &mut vm.lately, &mut trace, effects)?;
        let ceiling = call.open.map_or(Ok(0), |open| guard::ceiling(plan, open, &call.model))?;
        let mut found = Tally::default();
        let screened = screen::prompt(plan, bundle, &call, &mut found);
        found.show("input", "findings", effects);
        let Prompt { edits, mask } = screened?;
        let retold = !edits.is_empty();
        if retold {
            // What the model reads is what is counted.
            let body = call::splice(call.body(), &edits);
            call = self.read(dialect, &body).map_err(|malformed| Denial::malformed(&malformed.to_string()))?;
            self.force(plan, dialect, &mut call)?;
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
        let declared = call.output_limit.unwrap_or(plan.hold.unstated_output);
        // How many there will be nobody can say; of none a quota that is used up would let any number pass.
        let seconds = if self.seconds { call.asked.seconds.max(1) } else { call.asked.seconds };
        let size = Size {
            input: bound,
            output: declared,
            expected: vm.habits.expect(&model.pattern, bound, plan.hold.unstated_output),
            choices: call.choices.max(1),
            floor: call.floor.min(declared),
            prompts: if call.begins_turn { MICRO } else { plan.continued_prompt },
            asked: Usage { seconds, ..call.asked },
            tools: call.tools,
        };
        Ok(Prepared {
            seat,
            plan: plan_index,
            session: self.session,
            dialect,
            asked_model,
            call,
            price: model.price(now.wall_ms, dialect, plan.round),
            came_ms: now.wall_ms,
            model,
            counted,
            trace,
            size,
            patience: Patience::default(),
            deadline_ms: None,
            not_before_ms: if slow_ms > 0 { now.mono_ms.saturating_add(slow_ms) } else { 0 },
            retold,
            mask,
        })
    }

    /// What a body asks for, with what the path says.
    fn read(&self, dialect: Dialect, body: &[u8]) -> Result<Call, Malformed> {
        let mut call = match &self.form {
            Some(content_type) => form::read_form(dialect, content_type, body)?,
            None => call::read_call(dialect, body)?,
        };
        if let Some(route) = &self.route {
            call.take_route(route);
        }
        Ok(call)
    }

    /// Sends a call to the plan's one model, if it has one.
    fn force(&self, plan: &Plan, dialect: Dialect, call: &mut Call) -> Result<(), Denial> {
        let Some(forced) = plan.security.force_model.as_ref().filter(|forced| **forced != call.model) else {
            return Ok(());
        };
        let speaks = self.bundle.models.find(forced).is_some_and(|model| model.speaks(dialect));
        if speaks && call.send_to(forced) { Ok(()) } else { Err(guard::not_forced(plan, forced)) }
    }

    /// Makes of a call one for another model: counted anew, at that model's price.
    fn send_to(&self, prepared: &mut Prepared, name: &str, vm: &mut Vm) {
        let Some(plan) = self.bundle.plans.get(prepared.plan) else { return };
        if prepared.call.open.is_some_and(|open| guard::ceiling(plan, open, name).is_err()) {
            return;
        }
        let (Some(model), true) = (self.bundle.models.find(name), prepared.call.send_to(name)) else { return };
        let round = prepared.price.round;
        prepared.price = model.price(prepared.came_ms, prepared.dialect, round);
        prepared.model = model.clone();
        prepared.counted = None;
        count(plan, prepared, vm);
    }

    /// What can be read in two ways is never passed: the upstream might read the dearer one.
    fn unread(&self, malformed: &Malformed, body: &[u8]) -> Turn {
        let json = serde_json::from_slice::<IgnoredAny>(body).is_ok();
        match self.bundle.unknown.body {
            OnUnknown::Pass if !json => Turn::Pass,
            _ => Denial::malformed(&malformed.to_string()).into(),
        }
    }

    fn admit(
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
            let bill = Bill::of(&bundle, plan, seat, prepared.session, &prepared.call.model, prepared.came_ms);
            let verdict = match with_ample_room(&bundle, &bill, &prepared, now, vm, cells) {
                Some(fit) => Verdict::Fits(fit),
                None => {
                    count(plan, &mut prepared, vm);
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
        let Fit { output, mut levels, passed } = fit;
        let size = Size { output, ..prepared.size };
        let mut open = Open::new(place, bill.plan, prepared, &size, passed, bundle.mode, now);
        let size = open.first_hold(bill, &size, &mut levels);
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
        if prepared.counted.is_none() {
            open.gauges(vm.shelf.keep(prepared.call, prepared.size.input));
        }
        self.state = State::Open(Box::new(open));
        Flow::Continue
    }

    /// Answers for the upstream: how the quotas of the seat stand.
    fn tell_balance(
        &mut self,
        seat: usize,
        now: Now,
        vm: &mut Vm,
        cells: &mut dyn Cells,
        effects: &mut Vec<Effect>,
    ) -> Flow {
        let bundle = Rc::clone(&self.bundle);
        let Some((seat, plan, _)) = seat_plan(&bundle, seat) else {
            return self.turn(no_plan().into(), now, vm, cells, effects);
        };
        self.state = State::Over;
        effects.push(Effect::Note("decision", "balance".to_owned()));
        effects.push(Effect::Note("seat", seat.name.clone()));
        effects.push(Effect::Count { metric: "balances_total", labels: vec![], by: 1 });
        let bill = Bill::all(&bundle, plan, seat, self.session, now.wall_ms);
        let mut accounts = Accounts::default();
        Flow::Reply(balance::page(&bill, now, |subject, quota| accounts.standing(subject, quota, now, vm, cells)))
    }

    fn turn(&mut self, turn: Turn, now: Now, vm: &mut Vm, cells: &mut dyn Cells, effects: &mut Vec<Effect>) -> Flow {
        match turn {
            Turn::Pass | Turn::Balance(_) => {
                effects.push(Effect::Note("admitted", "passed".to_owned()));
                effects.push(Effect::Count { metric: "passed_total", labels: vec![], by: 1 });
                self.state = State::Passing;
                Flow::Continue
            }
            Turn::Deny(denial) => {
                self.state = State::Over;
                // What cannot be told just now is nobody's fault.
                if let Some(seat) = self.seat.filter(|_| denial.kind != Kind::Unavailable) {
                    let rejected = Rejected {
                        seat,
                        session: self.session,
                        dialect: self.dialect,
                        rule: denial.rule.clone(),
                        came_ms: now.wall_ms,
                    };
                    vm.reject(&Rc::clone(&self.bundle), rejected, now, cells, effects);
                }
                let id = vm.refusal_id();
                effects.push(Effect::Note("decision", "deny".to_owned()));
                effects.push(Effect::Note("denied_by", denial.rule.clone()));
                effects.push(Effect::Note("reason", denial.inside.clone()));
                effects.push(Effect::Note("id", id.clone()));
                effects.push(Effect::Count {
                    metric: "refusals_total",
                    labels: vec![("kind", denial.kind.name().to_owned()), ("by", denial.rule.clone())],
                    by: 1,
                });
                Flow::Reply(refusal::reply(self.dialect, &denial, &id, now))
            }
        }
    }
}

/// What happened to an answer.
enum Turned<'a> {
    Chunk(&'a [u8], bool),
    Trailers,
    Woken,
}

impl<'a> Turned<'a> {
    /// A piece of the answer, and whether it is the last.
    fn piece(&self) -> Option<(&'a [u8], bool)> {
        match self {
            Self::Chunk(chunk, end) => Some((chunk, *end)),
            Self::Trailers | Self::Woken => None,
        }
    }

    fn chunk(&self) -> Option<&'a [u8]> {
        match self {
            Self::Chunk(chunk, _) => Some(chunk),
            Self::Trailers | Self::Woken => None,
        }
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
    let Prepared { call, model, size, .. } = prepared;
    let all = call.input_up_to(model.encoding, &mut vm.known, u64::MAX);
    let Input { counted, bound } = all.unwrap_or(Input { counted: u64::MAX, bound: u64::MAX });
    let ceiling = call.open.and_then(|open| guard::ceiling(plan, open, &call.model).ok()).unwrap_or(0);
    size.input = bound.max(counted).max(ceiling);
    size.expected = vm.habits.expect(&model.pattern, size.input, plan.hold.unstated_output);
    prepared.counted = Some(counted);
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
    let Prepared { price, size, patience, deadline_ms, call, dialect, .. } = prepared;
    let last = deadline_ms.is_some_and(|deadline_ms| deadline_ms <= now.mono_ms);
    let moment = Moment { now, last, observe: bundle.mode == Mode::Observe };
    let mut accounts = Accounts::default();
    let mut standing =
        |subject: &str, quota: &PlanQuota, amount| accounts.standing_for(subject, quota, amount, now, vm, cells);
    let can_go_to =
        |model: &str| call.can_be_sent() && bundle.models.find(model).is_some_and(|model| model.speaks(*dialect));
    admission::weigh(bill, price, size, moment, patience, &mut standing, &can_go_to)
}

/// Accounts, each read once.
#[derive(Default)]
pub(super) struct Accounts(BTreeMap<String, Option<Option<Account>>>);

impl Accounts {
    /// How a quota of `subject` stands; `None` when nothing is known of it.
    pub(super) fn standing(
        &mut self,
        subject: &str,
        quota: &PlanQuota,
        now: Now,
        vm: &Vm,
        cells: &mut dyn Cells,
    ) -> Option<Standing> {
        self.standing_for(subject, quota, 0, now, vm, cells)
    }

    /// How it stands for a call that asks for so many micro-units.
    pub(super) fn standing_for(
        &mut self,
        subject: &str,
        quota: &PlanQuota,
        amount: u64,
        now: Now,
        vm: &Vm,
        cells: &mut dyn Cells,
    ) -> Option<Standing> {
        match self.read(subject, vm, cells)? {
            Some(account) => account.standing_for(&quota.quota, amount, now),
            None => Standing::unused(&quota.quota, now),
        }
    }

    /// How it stands in the window that an exchange was admitted in.
    pub(super) fn standing_in(
        &mut self,
        subject: &str,
        quota: &PlanQuota,
        window: u64,
        now: Now,
        vm: &Vm,
        cells: &mut dyn Cells,
    ) -> Option<Standing> {
        self.read(subject, vm, cells)?.as_ref()?.standing_in(&quota.quota, window, now)
    }

    /// `None`: it cannot be read.
    fn read(&mut self, subject: &str, vm: &Vm, cells: &mut dyn Cells) -> Option<&Option<Account>> {
        if !self.0.contains_key(subject) {
            self.0.insert(subject.to_owned(), read_account(&vm.keys, subject, cells).ok());
        }
        self.0.get(subject)?.as_ref()
    }
}

fn seat_plan(bundle: &Bundle, seat: usize) -> Option<(&Seat, &Plan, usize)> {
    let seat = bundle.seats.get(seat)?;
    let index = seat.subscription?.plan;
    Some((seat, bundle.plans.get(index)?, index))
}

/// Counts what was said of a caller and could not be read.
fn unread_identities(action: &str, by: u64, effects: &mut Vec<Effect>) {
    if by > 0 {
        let labels = vec![("by", "identity".to_owned()), ("action", action.to_owned())];
        effects.push(Effect::Count { metric: "unread_total", labels, by });
    }
}

fn no_plan() -> Denial {
    Denial::guard(
        Kind::Forbidden,
        "assign",
        "this key has no plan; ask your administrator for one",
        "the seat has no plan",
    )
}

fn is_form(content_type: &[u8]) -> bool {
    content_type.get(..19).is_some_and(|kind| kind.eq_ignore_ascii_case(b"multipart/form-data"))
}

fn odd_path() -> Denial {
    let outside = "the request path is spelled in an unusual way; send it plainly";
    Denial::guard(Kind::Malformed, "path", outside, "the path would normalise to a metered one")
}

fn unreadable(bundle: &Bundle, what: &str) -> Turn {
    match bundle.unknown.body {
        OnUnknown::Pass => Turn::Pass,
        OnUnknown::Deny => Denial::malformed(&format!("cannot be metered: {what}")).into(),
    }
}

/// How soon a caller may try again when we could not tell, in milliseconds.
const SOON_MS: u64 = 1_000;

fn unavailable(rule: &str, why: &str) -> Denial {
    Denial::unavailable(rule, why, SOON_MS)
}

fn crowded(no_place: NoPlace) -> Denial {
    match no_place {
        NoPlace::Full => unavailable("slots", "every exchange slot of this VM is taken"),
        NoPlace::Unreported => unavailable("collector.buffer", "the buffer of unreported records is full"),
        NoPlace::Store => unavailable("store", "the host's shared data did not answer, or all VM slots are taken"),
    }
}
