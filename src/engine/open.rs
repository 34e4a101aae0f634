//! An admitted exchange: it meters the answer, and settles once, whichever end comes first.

mod bounded;
mod ending;
mod excess;
mod flow;
mod guarded;
mod in_force;
mod notice;
mod screened;
mod timing;

use std::collections::BTreeMap;

use crate::engine::admission::{How, Passed};
use crate::engine::audit::Trail;
use crate::engine::bill::{Beyond, Bill, Borne, Size};
use crate::engine::effect::{Effect, Handle};
use crate::engine::event::Cause;
use crate::engine::exchange::Prepared;
use crate::engine::gauge::Gauge;
use crate::engine::guard::{Servers, Trace};
use crate::engine::prefix;
use crate::engine::screen;
use crate::engine::slices::{self, Slices};
use crate::engine::vm::{Place, Vm};
use crate::meter::dialect::{Api, Host};
use crate::meter::reader::Reader;
use crate::meter::usage::Usage;
use crate::now::Now;
use crate::policy::bundle::{Bundle, Mode, Model, Plan};
use crate::policy::price::Price;
use crate::quota::{Cells, HeldLevel, Level, QuotaId};
use crate::report::wire::{self, Outcome, Pass, Record};
use crate::scan::Mask;

/// See the module's docs.
pub(super) struct Open {
    place: Place,
    seat: usize,
    plan: usize,
    session: u8,
    api: Api,
    host: Host,
    model: Model,
    price: Price,
    asked_model: String,
    /// The model that it was sent to.
    sent_model: String,
    passed: Vec<Passed>,
    /// What guards have found that only observe.
    trace: Trace,
    /// Turns of a conversation that it begins, in micro-units.
    prompts: u64,
    streams: bool,
    hides_usage: bool,
    asks_usage: bool,
    in_pieces: bool,
    /// Its work goes on behind its answer.
    deferred: bool,
    /// Its input cannot be read from its body.
    unread: bool,
    /// Input tokens.
    gauge: Gauge,
    /// What of it may be more than was thought.
    bounded: bounded::Bounded,
    /// All of what it sent is text.
    text: bool,
    /// What it sent, where its session has a name.
    prompt: Option<prefix::Prompt>,
    /// As it was admitted, with the output limit that the upstream was given.
    size: Size,
    clamp: Option<u64>,
    held: Vec<HeldLevel>,
    /// `None`: all that its limit allows is held.
    slices: Option<Slices>,
    /// How far the policy lets quotas be passed.
    over: BTreeMap<QuotaId, u64>,
    /// What is held of a fund beyond what it has, and who gives what is not held.
    beyond: Beyond,
    admitted_ms: u64,
    /// When it came: packs that were good then pay, at the price of then.
    came_ms: u64,
    /// By the monotonic clock.
    began_ms: u64,
    answer: Answer,
    /// Who knows what was replaced by names in the prompt.
    mask: Mask,
    /// The servers of tools that it offered, where the plan has a rule for tools.
    servers: Servers,
    /// Guards that look at the answer.
    guarded: Option<guarded::Guarded>,
    /// How long it may take.
    timing: timing::Timing,
    /// What looks at the texts of the answer.
    screen: Option<Box<screen::Answer>>,
    /// What its record keeps beside its figures.
    trail: Option<Box<Trail>>,
    tail: screen::Tail,
    /// Tries upstream, as the response headers said.
    attempts: u32,
    /// For how long its upstream is not to be asked again, in milliseconds, where it says so.
    retry_after_ms: Option<u64>,
    /// What the slot and the access log say has been delivered.
    noted: u64,
    /// Bytes that passed since the reader was asked.
    unasked: u64,
    /// The answer is held until the ledger has spoken, or this moment of the monotonic clock; and what leaves then.
    held_back: Option<(u64, Vec<u8>)>,
    /// Until when its end may be held, because it came to more than is held of its funds.
    excess_until_ms: Option<u64>,
    /// The body has ended, perhaps while it was held.
    body_ended: bool,
    /// The last event is on its way to the client; then the stream is broken off.
    breaks: bool,
    /// The next slice was asked for before it was needed.
    asked_early: bool,
}

/// How an answer goes on.
pub(super) enum Course {
    /// It flows.
    On,
    /// It is held.
    Waits,
    /// The exchange is over.
    Over(Cause),
    /// Somebody else has ended it.
    Fenced,
}

/// What the contract gives with an event.
pub(super) struct Desk<'a> {
    pub bundle: &'a Bundle,
    pub handle: Handle,
    pub now: Now,
    pub vm: &'a mut Vm,
    pub cells: &'a mut dyn Cells,
    pub effects: &'a mut Vec<Effect>,
}

/// What has come back so far.
enum Answer {
    /// Nothing.
    None,
    /// A reply that Envoy or another filter made; no upstream answered.
    Local,
    /// An upstream's answer.
    Upstream { status: u16, reader: Box<Reader> },
}

impl Open {
    /// `admitted`: its size with the output limit that the accounts can pay.
    pub(super) fn new(
        place: Place,
        rule: &Plan,
        prepared: &Prepared,
        admitted: &Size,
        passed: Vec<Passed>,
        mode: Mode,
        now: Now,
    ) -> Self {
        let Prepared {
            seat,
            plan,
            session,
            api,
            call,
            asked_model,
            model,
            price,
            came_ms,
            counted,
            trace,
            size,
            mask,
            ..
        } = prepared;
        let output = admitted.output;
        // An undeclared limit must be declared to the provider: otherwise the hold bounds nothing.
        let clamp = (call.output_limit.is_none() || output < size.output).then(|| output.saturating_sub(size.beside));
        let clamp = clamp.filter(|_| mode == Mode::Enforce);
        Self {
            place,
            seat: *seat,
            plan: *plan,
            session: *session,
            api: *api,
            host: call.host,
            model: model.clone(),
            price: *price,
            asked_model: asked_model.clone(),
            sent_model: call.model.clone(),
            passed,
            trace: trace.clone(),
            prompts: size.prompts,
            streams: call.stream,
            hides_usage: api.dialect.must_ask_for_usage() && call.stream && !call.asks_usage,
            asks_usage: call.asks_usage,
            in_pieces: call.in_pieces,
            deferred: call.deferred,
            unread: call.unread,
            gauge: Gauge::Counted(counted.unwrap_or(size.input)),
            bounded: bounded::Bounded::of(prepared, mode),
            text: call.is_text(),
            prompt: None,
            size: *admitted,
            clamp,
            held: Vec::new(),
            // Where nothing is enforced, nothing is cut; and what goes on behind its answer no cut ends.
            slices: Slices::first(rule, call, admitted).filter(|_| mode == Mode::Enforce && !call.deferred),
            over: BTreeMap::new(),
            beyond: Beyond::default(),
            admitted_ms: now.wall_ms,
            came_ms: *came_ms,
            began_ms: now.mono_ms,
            answer: Answer::None,
            mask: mask.clone(),
            servers: rule.security.tools.as_ref().map(|_| Servers::in_call(call)).unwrap_or_default(),
            guarded: None,
            timing: timing::Timing::of(rule, now.mono_ms),
            screen: None,
            trail: None,
            tail: screen::Tail::default(),
            attempts: 0,
            retry_after_ms: None,
            noted: 0,
            unasked: 0,
            held_back: None,
            excess_until_ms: None,
            body_ended: false,
            breaks: false,
            asked_early: false,
        }
    }

    /// Makes of what all of the call would hold what is held at first. Answers the size of that.
    pub(super) fn first_hold(
        &mut self,
        bill: &Bill<'_>,
        size: &Size,
        levels: &mut [Level],
        borne: Option<Borne>,
    ) -> Size {
        self.beyond.borne = borne;
        let Some(slices) = self.slices else { return *size };
        let lines = levels.iter().flat_map(|level| &level.lines);
        self.over = lines.filter(|line| line.over > 0).map(|line| (line.quota.id, line.over)).collect();
        self.beyond.borne = slices::shrink(bill, &self.price, size, &slices, levels, borne);
        slices.size(size)
    }

    /// The record as recovery would send it if this VM died: charged by all that is held.
    /// (The windows of the charges are in the slot beside it.)
    pub(super) fn draft(&self, bundle: &Bundle, bill: &Bill<'_>, size: &Size, levels: &[Level]) -> Vec<u8> {
        let worst = size.worst();
        let further = slices::further(bill, levels);
        let record = Record {
            outcome: Outcome::Unsettled,
            usage: Usage { input: self.gauge.tokens(), ..worst.usage },
            tool_calls: worst.tool_calls,
            charges: [bill.charges(levels, &[]), bill.charges(&further, &[])].concat(),
            ..self.record(bundle, bill)
        };
        wire::encode_record(&record)
    }

    /// How far its input is known.
    pub(super) fn gauges(&mut self, gauge: Gauge) {
        self.gauge = gauge;
    }

    /// What its record is to keep.
    pub(super) fn leaves(&mut self, trail: Box<Trail>) {
        self.trail = Some(trail);
    }

    /// What it sends, where its session has a name.
    pub(super) fn sends(&mut self, prompt: Option<prefix::Prompt>) {
        self.prompt = prompt;
    }

    /// The exchange id.
    pub(super) fn id(&self) -> String {
        self.place.id.to_string()
    }

    /// What was held where.
    pub(super) fn holds(&mut self, held: &[HeldLevel]) {
        self.held = held.to_vec();
    }

    fn record(&self, bundle: &Bundle, bill: &Bill<'_>) -> Record {
        let Bill { plan, seat, .. } = bill;
        let pass = |how: How, what: &str| Pass { how: how.name().to_owned(), quota: what.to_owned() };
        let guards = self.trace.guards().iter().map(|guard| pass(How::Observed, guard.name()));
        let slowed = self.trace.slowed().iter().map(|guard| pass(How::Waited, guard.name()));
        let quotas = self.passed.iter().map(|passed| pass(passed.how, &passed.quota));
        let sent = if self.sent_model == self.asked_model { "" } else { &self.sent_model };
        Record {
            id: self.place.id.to_string(),
            bundle: bundle.name.clone(),
            version: bundle.version.clone(),
            plan: plan.label(),
            seat: seat.name.clone(),
            org: seat.org.clone(),
            model: self.asked_model.clone(),
            sent: sent.to_owned(),
            prompts: self.prompts,
            passed: guards.chain(slowed).chain(quotas).collect(),
            came_ms: self.came_ms,
            dialect: self.api.dialect.name().to_owned(),
            stream: self.streams,
            admitted_ms: self.admitted_ms,
            ..Record::default()
        }
    }
}
