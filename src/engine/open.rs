//! An admitted exchange: it meters the answer, and settles once, whichever end comes first.

use std::collections::BTreeMap;

use crate::engine::admission::{How, Passed};
use crate::engine::balance;
use crate::engine::bill::{Bill, Size};
use crate::engine::denial::LimitView;
use crate::engine::effect::{Effect, Handle, Severity};
use crate::engine::event::{Cause, Header};
use crate::engine::exchange::{Accounts, MODEL_HEADER, Prepared};
use crate::engine::learned::{Counted, Counting};
use crate::engine::refusal;
use crate::engine::screen;
use crate::engine::served::Served;
use crate::engine::settlement::{self, Observed};
use crate::engine::slices::{self, Room, Slices};
use crate::engine::vm::{Place, Vm};
use crate::meter::call;
use crate::meter::dialect::Dialect;
use crate::meter::reader::{Forward, Need, Reader, Terms};
use crate::meter::usage::{Source, Usage};
use crate::now::Now;
use crate::policy::bundle::{Bundle, Charge, Cut, HostMode, Lost, Mode, Model, Plan, PlanQuota, StreamHold};
use crate::policy::price::Price;
use crate::policy::unit::Consumed;
use crate::quota::{self, Cells, HeldLevel, Level, Operation, QuotaId};
use crate::report::wire::{self, Outcome, Pass, Reached, Record};
use crate::scan::Mask;

/// How many output tokens may pass until what was delivered is written down again.
const NOTED_EVERY: u64 = 64;
/// How often an extension is tried when the accounts move between weighing and holding.
const TRIES: u32 = 8;

/// See the module's docs.
pub(super) struct Open {
    place: Place,
    seat: usize,
    plan: usize,
    session: u8,
    dialect: Dialect,
    model: Model,
    price: Price,
    asked_model: String,
    /// The model that it was sent to.
    sent_model: String,
    passed: Vec<Passed>,
    /// Turns of a conversation that it begins, in micro-units.
    prompts: u64,
    streams: bool,
    hides_usage: bool,
    asks_usage: bool,
    counted: u64,
    /// As it was admitted, with the output limit that the upstream was given.
    size: Size,
    clamp: Option<u64>,
    held: Vec<HeldLevel>,
    /// `None`: all that its limit allows is held.
    slices: Option<Slices>,
    /// How far the policy lets quotas be passed.
    over: BTreeMap<QuotaId, u64>,
    admitted_ms: u64,
    /// When it came: packs that were good then pay, at the price of then.
    came_ms: u64,
    /// By the monotonic clock.
    began_ms: u64,
    answer: Answer,
    /// Who knows what was replaced by names in the prompt.
    mask: Mask,
    /// What looks at the texts of the answer.
    screen: Option<Box<screen::Answer>>,
    /// Tries upstream, as the response headers said.
    attempts: u32,
    /// What the slot and the access log say has been delivered.
    noted: u64,
    /// Bytes that passed since the reader was asked.
    unasked: u64,
    /// The answer is held until the ledger has spoken, or this moment of the monotonic clock; and what leaves then.
    held_back: Option<(u64, Vec<u8>)>,
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
            dialect,
            call,
            asked_model,
            model,
            price,
            came_ms,
            counted,
            size,
            mask,
            ..
        } = prepared;
        let output = admitted.output;
        // An undeclared limit must be declared to the provider: otherwise the hold bounds nothing.
        let clamp = (call.output_limit.is_none() || output < size.output).then_some(output);
        let clamp = clamp.filter(|_| mode == Mode::Enforce);
        Self {
            place,
            seat: *seat,
            plan: *plan,
            session: *session,
            dialect: *dialect,
            model: model.clone(),
            price: *price,
            asked_model: asked_model.clone(),
            sent_model: call.model.clone(),
            passed,
            prompts: size.prompts,
            streams: call.stream,
            hides_usage: dialect.must_ask_for_usage() && call.stream && !call.asks_usage,
            asks_usage: call.asks_usage,
            counted: *counted,
            size: *admitted,
            clamp,
            held: Vec::new(),
            // Where nothing is enforced, nothing is cut.
            slices: Slices::first(rule, call, admitted).filter(|_| mode == Mode::Enforce),
            over: BTreeMap::new(),
            admitted_ms: now.wall_ms,
            came_ms: *came_ms,
            began_ms: now.mono_ms,
            answer: Answer::None,
            mask: mask.clone(),
            screen: None,
            attempts: 0,
            noted: 0,
            unasked: 0,
            held_back: None,
            body_ended: false,
            breaks: false,
            asked_early: false,
        }
    }

    /// Makes of what all of the call would hold what is held at first. Answers the size of that.
    pub(super) fn first_hold(&mut self, bill: &Bill<'_>, size: &Size, levels: &mut [Level]) -> Size {
        let Some(slices) = self.slices else { return *size };
        let lines = levels.iter().flat_map(|level| &level.lines);
        self.over = lines.filter(|line| line.over > 0).map(|line| (line.quota.id, line.over)).collect();
        slices::shrink(bill, &self.price, size, &slices, levels);
        slices.size(size)
    }

    /// The record as recovery would send it if this VM died: charged by all that is held.
    /// (The windows of the charges are in the slot beside it.)
    pub(super) fn draft(&self, bundle: &Bundle, bill: &Bill<'_>, size: &Size, levels: &[Level]) -> Vec<u8> {
        let worst = size.worst();
        let further = if self.slices.is_some() { slices::further(bill, levels) } else { Vec::new() };
        let record = Record {
            outcome: Outcome::Unsettled,
            usage: Usage { input: self.counted, ..worst.usage },
            tool_calls: worst.tool_calls,
            charges: [bill.charges(levels, &[]), bill.charges(&further, &[])].concat(),
            ..self.record(bundle, bill)
        };
        wire::encode_record(&record)
    }

    /// What was held where.
    pub(super) fn holds(&mut self, held: &[HeldLevel]) {
        self.held = held.to_vec();
    }

    fn record(&self, bundle: &Bundle, bill: &Bill<'_>) -> Record {
        let Bill { plan, seat, .. } = bill;
        let pass = |passed: &Passed| Pass { how: passed.how.name().to_owned(), quota: passed.quota.clone() };
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
            passed: self.passed.iter().map(pass).collect(),
            came_ms: self.came_ms,
            dialect: self.dialect.name().to_owned(),
            stream: self.streams,
            admitted_ms: self.admitted_ms,
            ..Record::default()
        }
    }

    /// What the admission changes in the request, and what it shows to others.
    pub(super) fn announce(&self, bundle: &Bundle, prepared: &Prepared, body: &[u8], effects: &mut Vec<Effect>) {
        let call = &prepared.call;
        let edits = call.edits(self.clamp, self.hides_usage);
        if prepared.retold || !edits.is_empty() {
            let body = if prepared.retold { call.body() } else { body };
            effects.push(Effect::ReplaceRequestBody(call::splice(body, &edits)));
        }
        if bundle.headers == HostMode::Held {
            effects.push(Effect::Note("admitted", "yes".to_owned()));
        }
        if self.sent_model != self.asked_model && bundle.headers == HostMode::Held {
            effects.push(Effect::SetRequestHeader(MODEL_HEADER.to_owned(), self.sent_model.clone()));
        }
        self.show_passed(effects);
        effects.push(Effect::Note("decision", "allow".to_owned()));
        effects.push(Effect::Note("id", self.place.id.to_string()));
        effects.push(Effect::Note("model", self.asked_model.clone()));
    }

    /// Says what the policy let pass that would else have been refused.
    fn show_passed(&self, effects: &mut Vec<Effect>) {
        for Passed { how, quota } in &self.passed {
            effects.push(Effect::Count {
                metric: "passed_quotas_total",
                labels: vec![("how", how.name().to_owned()), ("by", quota.clone())],
                by: 1,
            });
        }
        let observed = self.passed.iter().find(|passed| passed.how == How::Observed);
        if let Some(Passed { quota, .. }) = observed {
            effects.push(Effect::Note("would_deny", quota.clone()));
        }
    }

    /// Tells the caller how the quotas of the call stand, where the plan says so: the standard headers for each, and
    /// one of ours with the percents.
    pub(super) fn tell_standing(
        &self,
        bundle: &Bundle,
        now: Now,
        vm: &Vm,
        cells: &mut dyn Cells,
        effects: &mut Vec<Effect>,
    ) {
        let Some((seat, plan)) = bundle.seats.get(self.seat).zip(bundle.plans.get(self.plan)) else { return };
        if !plan.warn.headers {
            return;
        }
        let bill = Bill::of(bundle, plan, seat, self.session, &self.sent_model, self.came_ms);
        let mut accounts = Accounts::default();
        let (mut lists, mut percents): ([Vec<String>; 2], Vec<String>) = Default::default();
        for quota in &bill.quotas {
            let Some(stands) = accounts.standing(&bill.subject(quota.per), quota, now, vm, cells) else { continue };
            let view = LimitView::of(quota, &stands, now);
            for (list, (_, value)) in lists.iter_mut().zip(refusal::limit_headers(None, &view, None, now)) {
                list.push(value);
            }
            percents.extend(balance::percent(quota, &stands).map(|percent| format!("{}={percent}", quota.name)));
        }
        let values = lists.map(|list| list.join(", "));
        for (name, value) in ["ratelimit-policy", "ratelimit"].into_iter().zip(values) {
            effects.push(Effect::SetResponseHeader(name.to_owned(), value));
        }
        effects.push(Effect::SetResponseHeader("x-quota-used-percent".to_owned(), percents.join(", ")));
    }

    pub(super) fn response_headers(
        &mut self,
        bundle: &Bundle,
        headers: &[Header],
        upstream: bool,
        attempts: u32,
        effects: &mut Vec<Effect>,
    ) {
        self.attempts = attempts;
        let field = |name: &[u8]| headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_slice());
        let status = field(b":status")
            .and_then(|status| std::str::from_utf8(status).ok())
            .and_then(|status| status.parse().ok())
            .unwrap_or(0);
        if (100..200).contains(&status) {
            return;
        }
        if !upstream {
            self.answer = Answer::Local;
            return;
        }
        let mut reader = Reader::new(
            self.dialect,
            self.model.encoding,
            status,
            field(b"content-type"),
            field(b"content-encoding"),
            self.hides_usage,
        );
        headers.iter().for_each(|(name, value)| reader.header(name, value));
        if let Some(slices) = self.slices.filter(|_| status < 400) {
            let choices = self.size.choices.max(1);
            reader.keep_to(Terms { allowance: slices.allowance(), choices, tells_usage: self.asks_usage });
        }
        // An error of the upstream has no texts of a model.
        if let Some(plan) = bundle.plans.get(self.plan).filter(|_| status < 400) {
            let screen = screen::Answer::of(plan, &self.mask, self.dialect, field(b"content-encoding"));
            self.screen = screen.map(Box::new);
        }
        let changes = self.hides_usage || self.slices.is_some() || self.screen.is_some();
        if changes && field(b"content-length").is_some() {
            effects.push(Effect::RemoveResponseHeader("content-length".to_owned()));
        }
        self.answer = Answer::Upstream { status, reader: Box::new(reader) };
    }

    /// Meters a piece of the answer.
    pub(super) fn response_body(&mut self, chunk: &[u8], end: bool, mut desk: Desk<'_>) -> Course {
        if self.is_fenced(&mut desk) {
            return Course::Fenced;
        }
        if self.breaks {
            desk.effects.push(Effect::ReplaceChunk(Vec::new()));
            desk.effects.push(Effect::Break);
            return Course::Over(Cause::Other);
        }
        let Answer::Upstream { reader, .. } = &mut self.answer else { return Course::On };
        let forward = reader.push(chunk, end);
        self.body_ended |= end;
        self.unasked = self.unasked.saturating_add(chunk.len() as u64);
        if let Some((_, ready)) = &mut self.held_back {
            if let Forward::Replace(mut bytes) = forward {
                ready.append(&mut bytes);
            }
            desk.effects.push(Effect::ReplaceChunk(Vec::new()));
            // More than is kept waits: nothing but a cut is left.
            return if reader.waits() == Some(Need::Never) { self.woken(desk) } else { Course::Waits };
        }
        let waits = reader.waits().is_some();
        match forward {
            Forward::Same if !waits => {}
            Forward::Same => return self.make_way(chunk.to_vec(), &mut desk),
            Forward::Replace(bytes) if waits => return self.make_way(bytes, &mut desk),
            Forward::Replace(bytes) => desk.effects.push(Effect::ReplaceChunk(bytes)),
        }
        if end {
            return Course::Over(Cause::Finished);
        }
        self.progress(&mut desk)
    }

    /// Puts what leaves now through the screen of the plan, if it has one: the bytes that the effects from `from` on send,
    /// or else the chunk.
    pub(super) fn screen(
        &mut self,
        bundle: &Bundle,
        chunk: Option<&[u8]>,
        course: &Course,
        now: Now,
        from: usize,
        effects: &mut Vec<Effect>,
    ) {
        let (Some(screen), Some(plan)) = (&mut self.screen, bundle.plans.get(self.plan)) else { return };
        if matches!(course, Course::Fenced) {
            return;
        }
        let replaced = effects.iter_mut().skip(from).find_map(|effect| match effect {
            Effect::ReplaceChunk(bytes) => Some(bytes),
            _ => None,
        });
        let bytes: &[u8] = match (&replaced, chunk) {
            (Some(bytes), _) => bytes,
            (None, Some(chunk)) => chunk,
            (None, None) => return,
        };
        let was_cut = screen.is_cut();
        let last = self.body_ended && !matches!(course, Course::Waits);
        let id = self.place.id.to_string();
        let mut said = Vec::new();
        let out = screen.push(bytes, last, plan, self.dialect, &id, now, &mut said);
        match replaced {
            Some(bytes) => *bytes = out,
            None if chunk != Some(&out[..]) => effects.push(Effect::ReplaceChunk(out)),
            None => {}
        }
        effects.append(&mut said);
        if screen.is_cut() && !was_cut && screen.is_stream() && !self.body_ended {
            // In this callback it would take the last event with it.
            self.breaks = true;
            effects.push(Effect::WakeAt(now.mono_ms));
        }
    }

    /// Whether the answer was refused while it came.
    fn is_refused(&self) -> bool {
        self.screen.as_ref().is_some_and(|screen| screen.is_cut())
    }

    /// What it waited for may be there, or it is time to break off.
    pub(super) fn woken(&mut self, mut desk: Desk<'_>) -> Course {
        if self.breaks {
            desk.effects.push(Effect::Break);
            return Course::Over(Cause::Other);
        }
        let Some((deadline_ms, ready)) = self.held_back.take() else { return Course::On };
        if self.is_fenced(&mut desk) {
            return Course::Fenced;
        }
        let last = desk.now.mono_ms >= deadline_ms;
        self.make_way_until(Some(deadline_ms), last, ready, &mut desk)
    }

    /// The answer ended by trailers.
    pub(super) fn response_trailers(&mut self, mut desk: Desk<'_>) -> Course {
        let Answer::Upstream { reader, .. } = &mut self.answer else { return Course::On };
        // Nothing can be sent after trailers: what was held back to look at it is lost only if it was incomplete.
        reader.push(&[], true);
        self.body_ended = true;
        if self.held_back.is_some() && !self.is_fenced(&mut desk) {
            return Course::Waits;
        }
        if reader_waits(&self.answer) {
            self.cut();
        }
        Course::Over(Cause::Finished)
    }

    /// An event waits for a larger hold. `ready`: what leaves before it.
    fn make_way(&mut self, ready: Vec<u8>, desk: &mut Desk<'_>) -> Course {
        self.make_way_until(None, false, ready, desk)
    }

    /// `last`: there is no time left to ask the ledger.
    fn make_way_until(
        &mut self,
        deadline_ms: Option<u64>,
        last: bool,
        mut ready: Vec<u8>,
        desk: &mut Desk<'_>,
    ) -> Course {
        loop {
            let Answer::Upstream { reader, .. } = &mut self.answer else { return Course::On };
            let Some(need) = reader.waits() else { break };
            let made = match need {
                Need::Tokens(tokens) => self.extend(tokens, desk),
                Need::Never => Extension::Refused,
            };
            match made {
                Extension::Made => {}
                Extension::Fenced => {
                    desk.effects.push(Effect::ReplaceChunk(Vec::new()));
                    desk.effects.push(Effect::Break);
                    return Course::Fenced;
                }
                Extension::Asked if !last => return self.wait(deadline_ms, ready, desk),
                Extension::Asked | Extension::Refused => {
                    if !self.give_grace() {
                        ready.extend(self.cut());
                        return self.after_cut(ready, desk);
                    }
                }
            }
            let Answer::Upstream { reader, .. } = &mut self.answer else { return Course::On };
            ready.extend(reader.go_on());
        }
        desk.effects.push(Effect::ReplaceChunk(ready));
        if self.body_ended { Course::Over(Cause::Finished) } else { self.progress(desk) }
    }

    fn wait(&mut self, deadline_ms: Option<u64>, ready: Vec<u8>, desk: &mut Desk<'_>) -> Course {
        let patience = desk.bundle.collector.as_ref().map_or(0, |collector| collector.patience_ms);
        let deadline_ms = deadline_ms.unwrap_or_else(|| desk.now.mono_ms.saturating_add(patience));
        self.held_back = Some((deadline_ms, ready));
        desk.vm.wait(desk.handle, deadline_ms);
        desk.effects.push(Effect::ReplaceChunk(Vec::new()));
        desk.effects.push(Effect::WakeAt(deadline_ms));
        desk.effects.push(Effect::SyncSoon);
        Course::Waits
    }

    /// Ends the stream towards the client; answers the last events.
    fn cut(&mut self) -> Vec<u8> {
        match &mut self.answer {
            Answer::Upstream { reader, .. } => reader.cut(self.counted),
            Answer::None | Answer::Local => Vec::new(),
        }
    }

    fn after_cut(&mut self, last: Vec<u8>, desk: &mut Desk<'_>) -> Course {
        let how = match desk.bundle.plans.get(self.plan).map(|plan| plan.hold.stream) {
            Some(StreamHold::Slices { cut: Cut::Stop, .. }) => Cut::Stop,
            _ => Cut::Clean,
        };
        desk.effects.push(Effect::ReplaceChunk(last));
        let name = if how == Cut::Stop { "stop" } else { "clean" };
        desk.effects.push(Effect::Note("cut", name.to_owned()));
        desk.effects.push(Effect::Count { metric: "cuts_total", labels: vec![("how", name.to_owned())], by: 1 });
        if self.body_ended {
            return Course::Over(Cause::Finished);
        }
        if how == Cut::Stop {
            // In this callback it would take the last events with it.
            self.breaks = true;
            desk.effects.push(Effect::WakeAt(desk.now.mono_ms));
        }
        Course::On
    }

    fn give_grace(&mut self) -> bool {
        let grace = self.slices.map_or(0, |slices| slices.grace());
        match &mut self.answer {
            Answer::Upstream { reader, .. } => grace > 0 && reader.give_grace(grace),
            Answer::None | Answer::Local => false,
        }
    }

    /// Holds enough so that `needs` output tokens can be delivered, and up to a slice more.
    fn extend(&mut self, needs: u64, desk: &mut Desk<'_>) -> Extension {
        let Desk { bundle, now, vm, cells, effects, .. } = desk;
        let Some((seat, plan)) = bundle.seats.get(self.seat).zip(bundle.plans.get(self.plan)) else {
            return Extension::Refused;
        };
        let (Some(slices), Answer::Upstream { reader, .. }) = (&mut self.slices, &mut self.answer) else {
            return Extension::Refused;
        };
        let bill = Bill::of(bundle, plan, seat, self.session, &self.sent_model, self.came_ms);
        // More than was expected is wanted: from now on what may be delivered is held.
        let size = Size { expected: self.size.expected.unless_beyond(needs, self.size.choices), ..self.size };
        let known =
            slices::Known { price: &self.price, size: &size, before: &self.size, held: &self.held, over: &self.over };
        for _ in 0..TRIES {
            let mut accounts = Accounts::default();
            let found = slices::room(&bill, known, slices, needs, &mut |subject, quota| {
                accounts.standing(subject, quota, *now, vm, *cells)
            });
            let (held, mut more) = match found {
                Room::Not => return Extension::Refused,
                Room::Wants(wants) => {
                    vm.touch(&bill, *now);
                    wants.iter().for_each(|want| vm.want(&want.subject, want.quota, want.missing));
                    return Extension::Asked;
                }
                Room::Made { held, more } => (held, more),
            };
            more.iter_mut().flat_map(|level| &mut level.lines).for_each(|line| line.amount = vm.to_hold(line.amount));
            let (Place { id, slot }, delivered) = (self.place, reader.delivered());
            let mut operation = Operation::extend(&vm.keys, id.by, slot, id, more, delivered, *now);
            match operation.run(*cells) {
                Ok(quota::Outcome::Done) => {
                    slices::add(&mut self.held, operation.holds());
                    slices.held = held;
                    self.size = size;
                    reader.allow(slices.allowance());
                    self.noted = delivered;
                    self.asked_early = false;
                    vm.touch(&bill, *now);
                    effects.push(Effect::Note("delivered", delivered.to_string()));
                    return Extension::Made;
                }
                // The accounts moved between weighing and holding.
                Ok(quota::Outcome::Refused(_)) => {}
                _ => {
                    vm.fenced_as(id.by, effects);
                    return Extension::Fenced;
                }
            }
        }
        Extension::Refused
    }

    /// Writes down what has been delivered, every so often: for the access log, which outlives this process, and where
    /// the plan charges a lost exchange by it, for whoever ends this one if the VM dies. And asks for the next slice
    /// before this one is at its end.
    fn progress(&mut self, desk: &mut Desk<'_>) -> Course {
        let Answer::Upstream { reader, .. } = &self.answer else { return Course::On };
        // A token has a byte at least, and asking may count again: not for each byte of an answer that drips.
        if self.unasked < NOTED_EVERY || reader.is_cut() {
            return Course::On;
        }
        self.unasked = 0;
        let delivered = reader.delivered();
        if self.slices.is_some_and(|slices| slices.is_near(delivered)) && !self.asked_early {
            return self.ask_early(delivered, desk);
        }
        if delivered < self.noted.saturating_add(NOTED_EVERY) {
            return Course::On;
        }
        self.noted = delivered;
        desk.effects.push(Effect::Note("delivered", delivered.to_string()));
        if desk.bundle.plans.get(self.plan).is_none_or(|plan| plan.hold.lost != Lost::Delivered) {
            return Course::On;
        }
        let Place { id, slot } = self.place;
        let extended = Operation::extend(&desk.vm.keys, id.by, slot, id, Vec::new(), delivered, desk.now);
        let mut extended = extended;
        if extended.run(desk.cells) != Ok(quota::Outcome::Done) {
            desk.vm.fenced_as(id.by, desk.effects);
        }
        Course::On
    }

    /// Extends the hold before it must be, once a slice. What cannot be had now is asked of the ledger.
    fn ask_early(&mut self, delivered: u64, desk: &mut Desk<'_>) -> Course {
        self.asked_early = true;
        let needs = self.slices.map_or(0, |slices| slices.allowance()).max(delivered).saturating_add(1);
        match self.extend(needs, desk) {
            Extension::Asked => desk.effects.push(Effect::SyncSoon),
            Extension::Fenced => {
                desk.effects.push(Effect::ReplaceChunk(Vec::new()));
                desk.effects.push(Effect::Break);
                return Course::Fenced;
            }
            Extension::Made | Extension::Refused => {}
        }
        Course::On
    }

    /// Whether somebody else has ended this exchange: what it was charged stands, so nothing more may be delivered.
    fn is_fenced(&self, desk: &mut Desk<'_>) -> bool {
        let fenced = desk.vm.incarnation() != Some(self.place.id.by);
        if fenced {
            desk.effects.push(Effect::ReplaceChunk(Vec::new()));
            desk.effects.push(Effect::Break);
        }
        fenced
    }

    fn outcome(&self, cause: Cause, attempts: Option<u32>) -> Outcome {
        match &self.answer {
            Answer::Upstream { status, .. } if *status >= 400 => Outcome::UpstreamError,
            Answer::Upstream { reader, .. } => {
                let complete = reader.finished() || cause == Cause::Finished;
                match cause {
                    _ if reader.is_cut() || self.is_refused() => Outcome::CutByUs,
                    _ if reader.error_inside() => Outcome::ErrorInside,
                    _ if complete && reader.reported().is_some() => Outcome::Complete,
                    _ if complete => Outcome::CompleteSilent,
                    Cause::ClientAbort | Cause::Shutdown => Outcome::Aborted,
                    _ => Outcome::CutByUpstream,
                }
            }
            Answer::Local | Answer::None => match (cause, attempts) {
                (Cause::ConnectFailure, _) => Outcome::ConnectFailure,
                (_, Some(0)) => Outcome::NeverSent,
                (Cause::ClientAbort | Cause::Shutdown, _) => Outcome::Aborted,
                _ => Outcome::NoResponse,
            },
        }
    }

    fn observed(&self, outcome: Outcome, now: Now) -> Observed {
        let limit = self.size.output.saturating_mul(self.size.choices.max(1));
        let seen = Observed {
            input: self.counted,
            limit: self.slices.map_or(limit, |slices| slices.held),
            ran_ms: now.mono_ms.saturating_sub(self.began_ms),
            ..Observed::default()
        };
        let Answer::Upstream { reader, .. } = &self.answer else { return seen };
        let delivered = reader.delivered();
        Observed {
            delivered,
            written: delivered,
            reported: reader.reported().or(reader.reported_input()),
            complete: reader.reported().is_some()
                && !reader.input_silent()
                && (outcome == Outcome::Complete || reader.finished()),
            made: reader.made(),
            cut: reader.is_cut(),
            ..seen
        }
    }

    /// Learns from what a provider reported how it counts; and where it is silent, counts as it would have, no more than
    /// is held.
    fn count_as_the_provider(&self, outcome: Outcome, seen: &mut Observed, vm: &mut Vm, effects: &mut Vec<Effect>) {
        let Answer::Upstream { reader, .. } = &self.answer else { return };
        let of = Counting {
            pattern: &self.model.pattern,
            model: &self.sent_model,
            dialect: self.dialect,
            tools: self.size.tools,
            calls: self.tool_calls() > 0,
        };
        let counted =
            Counted { input: self.counted, output: reader.written(&self.sent_model), thoughts: reader.thoughts() };
        match (outcome, seen.reported) {
            (Outcome::Complete, Some(reported)) if seen.complete => {
                for (direction, fate) in vm.counts.learn(&of, &counted, &reported) {
                    let Some(fate) = fate.name() else { continue };
                    let labels = vec![
                        ("model", of.pattern.to_owned()),
                        ("direction", direction.to_owned()),
                        ("fate", fate.to_owned()),
                    ];
                    effects.push(Effect::Count { metric: "calibration_total", labels, by: 1 });
                }
            }
            (Outcome::CompleteSilent, None) => {
                let told = vm.counts.foretell(&of, &counted);
                seen.input = told.input.min(self.size.input.max(seen.input));
                seen.written = told.output.min(seen.limit.max(seen.delivered));
            }
            _ => {}
        }
    }

    /// Settles all levels at once and queues the one record.
    #[expect(clippy::too_many_arguments, reason = "the contract's four, and how it ended")]
    pub(super) fn settle(
        self,
        bundle: &Bundle,
        cause: Cause,
        attempts: Option<u32>,
        now: Now,
        vm: &mut Vm,
        cells: &mut dyn Cells,
        effects: &mut Vec<Effect>,
    ) {
        let Some((seat, plan)) = bundle.seats.get(self.seat).zip(bundle.plans.get(self.plan)) else { return };
        let bill = Bill::of(bundle, plan, seat, self.session, &self.sent_model, self.came_ms);
        let outcome = self.outcome(cause, attempts);
        let mut observed = self.observed(outcome, now);
        self.count_as_the_provider(outcome, &mut observed, vm, effects);
        let rule = settlement::rule(outcome, &plan.hold);
        let (usage, source) = observed.charged(rule);
        let (prompts, tool_calls) = match rule {
            Charge::Nothing => (0, 0),
            _ => (self.prompts, self.tool_calls()),
        };
        let consumed = Consumed { usage, prompts, tool_calls };
        let named = self.served();
        let served = Served::of(bundle, &self.model, &self.sent_model, &named);
        let price = served.price(plan, &self.price, self.came_ms, self.dialect, &consumed);
        let used = match rule {
            Charge::Nothing => bill.nothing(&self.held),
            _ => bill.used(&consumed, &price, &self.held),
        };
        if outcome == Outcome::Complete || outcome == Outcome::CompleteSilent {
            vm.habits.learn(&self.model.pattern, self.size.input, self.size.choices, &usage, source);
        }
        let reached = self.reached(&bill, &used, now, vm, cells);
        let record = Record {
            reached,
            settled_ms: now.wall_ms,
            outcome,
            served: named,
            status: self.status(),
            attempts: attempts.unwrap_or(self.attempts),
            usage,
            source,
            reported: observed.reported,
            delivered: observed.delivered,
            graced: self.graced(),
            prompts,
            tool_calls,
            charges: bill.charges(&used, &self.held),
            ..self.record(bundle, &bill)
        };
        let bytes = wire::encode_record(&record);
        let (keep, size) = (bundle.collector.is_some(), bytes.len());
        let Place { id, slot } = self.place;
        if vm.incarnation() != Some(id.by) {
            // Given up, perhaps with an operation unfinished: another one would write over it, and what that one holds
            // would stay held for ever. Whoever claims the VM slot ends this exchange.
            effects.push(Effect::Log(Severity::Warn, format!("exchange {id} is left to whoever claims its VM slot")));
            return;
        }
        match Operation::settle(&vm.keys, id.by, slot, id, used, bytes, keep, now).run(cells) {
            Ok(quota::Outcome::Done) => vm.settled(self.place, size, keep, &bill, now),
            // Somebody has claimed this VM slot and ended the exchange from what its slot said.
            Ok(quota::Outcome::WrongSlot) => {}
            Ok(quota::Outcome::Fenced) => vm.fenced_as(id.by, effects),
            failed => {
                vm.fenced_as(id.by, effects);
                effects.push(Effect::Log(Severity::Error, format!("exchange {id} not settled here: {failed:?}")));
            }
        }
        self.show(&record, &plan.name, rule != Charge::Nothing, effects);
        if !matches!(served, Served::AsAsked) {
            effects.push(Effect::Count { metric: "served_other_total", labels: self.who(&record, &plan.name), by: 1 });
        }
    }

    /// The labels by which exchanges are counted.
    fn who(&self, record: &Record, plan: &str) -> Vec<(&'static str, String)> {
        vec![("org", record.org.clone()), ("plan", plan.to_owned()), ("model", self.model.pattern.clone())]
    }

    /// What quotas this exchange fills up, as far as nobody in this VM has said so before.
    fn reached(&self, bill: &Bill<'_>, used: &[Level], now: Now, vm: &mut Vm, cells: &mut dyn Cells) -> Vec<Reached> {
        if bill.plan.warn.at.is_empty() {
            return Vec::new();
        }
        let charged = |subject: &str, quota: &PlanQuota| {
            let level = used.iter().find(|level| level.subject == subject)?;
            level.lines.iter().find(|line| line.quota.id == quota.quota.id).map(|line| line.amount)
        };
        let mut accounts = Accounts::default();
        let reached =
            balance::reached(bill, charged, |subject, quota| accounts.standing(subject, quota, now, vm, cells));
        reached.into_iter().filter(|reached| vm.is_news(reached)).collect()
    }

    fn graced(&self) -> u64 {
        match &self.answer {
            Answer::Upstream { reader, .. } => reader.graced(),
            _ => 0,
        }
    }

    fn served(&self) -> String {
        match &self.answer {
            Answer::Upstream { reader, .. } => reader.served().unwrap_or_default().to_owned(),
            _ => String::new(),
        }
    }

    fn status(&self) -> u16 {
        match &self.answer {
            Answer::Upstream { status, .. } => *status,
            _ => 0,
        }
    }

    fn tool_calls(&self) -> u64 {
        match &self.answer {
            Answer::Upstream { reader, .. } => reader.tool_calls(),
            _ => 0,
        }
    }

    fn show(&self, record: &Record, plan: &str, charged: bool, effects: &mut Vec<Effect>) {
        let outcome = record.outcome.name();
        effects.push(Effect::Note("outcome", outcome.to_owned()));
        effects.push(Effect::Note("input", record.usage.input_total().to_string()));
        effects.push(Effect::Note("output", record.usage.output.to_string()));
        effects.push(Effect::Note("source", record.source.name().to_owned()));
        let with = |name: &'static str, value: &str| {
            let mut labels = self.who(record, plan);
            labels.push((name, value.to_owned()));
            labels
        };
        let count = |metric, labels, by| Effect::Count { metric, labels, by };
        effects.push(count("exchanges_total", with("outcome", outcome), 1));
        effects.push(count("tokens_total", with("direction", "input"), record.usage.input));
        effects.push(count("tokens_total", with("direction", "cache_read"), record.usage.cache_read));
        effects.push(count("tokens_total", with("direction", "cache_write"), record.usage.cache_write));
        effects.push(count("tokens_total", with("direction", "output"), record.usage.output));
        if record.source != Source::Reported && charged {
            effects.push(count("estimated_total", self.who(record, plan), 1));
        }
    }
}

/// What became of an extension.
enum Extension {
    Made,
    /// The ledger may have more.
    Asked,
    Refused,
    Fenced,
}

fn reader_waits(answer: &Answer) -> bool {
    matches!(answer, Answer::Upstream { reader, .. } if reader.waits().is_some())
}
