//! An admitted exchange: it meters the answer, and settles once, whichever end comes first.

use crate::engine::admission::{How, Passed};
use crate::engine::balance;
use crate::engine::bill::{Bill, Size};
use crate::engine::denial::LimitView;
use crate::engine::effect::{Effect, Severity};
use crate::engine::event::{Cause, Header};
use crate::engine::exchange::{Accounts, MODEL_HEADER, Prepared};
use crate::engine::refusal;
use crate::engine::settlement::{self, Observed, Rule};
use crate::engine::vm::{Place, Vm};
use crate::meter::call::{self, Call};
use crate::meter::dialect::Dialect;
use crate::meter::reader::{Forward, Reader};
use crate::meter::usage::{Source, Usage};
use crate::now::Now;
use crate::policy::bundle::{Bundle, HostMode, Lost, Mode, Model, PlanQuota};
use crate::policy::price::Price;
use crate::policy::unit::Consumed;
use crate::quota::{self, Cells, HeldLevel, Level, Operation};
use crate::report::wire::{self, Outcome, Pass, Reached, Record};

/// How many output tokens may pass until what was delivered is written down again.
const NOTED_EVERY: u64 = 64;

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
    counted: u64,
    clamp: Option<u64>,
    held: Vec<HeldLevel>,
    admitted_ms: u64,
    /// When it came: packs that were good then pay, at the price of then.
    came_ms: u64,
    answer: Answer,
    /// Tries upstream, as the response headers said.
    attempts: u32,
    /// What the slot and the access log say has been delivered.
    noted: u64,
    /// Bytes that passed since the reader was asked.
    unasked: u64,
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
    pub(super) fn new(
        place: Place,
        prepared: &Prepared,
        output: u64,
        passed: Vec<Passed>,
        mode: Mode,
        now: Now,
    ) -> Self {
        let Prepared { seat, plan, session, dialect, call, asked_model, model, price, came_ms, counted, size, .. } =
            prepared;
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
            hides_usage: *dialect == Dialect::OpenAiChat && call.stream && !call.asks_usage,
            counted: *counted,
            clamp,
            held: Vec::new(),
            admitted_ms: now.wall_ms,
            came_ms: *came_ms,
            answer: Answer::None,
            attempts: 0,
            noted: 0,
            unasked: 0,
        }
    }

    /// The record as recovery would send it if this VM died: charged by all that is held.
    /// (The windows of the charges are in the slot beside it.)
    pub(super) fn draft(&self, bundle: &Bundle, bill: &Bill<'_>, size: &Size, levels: &[Level]) -> Vec<u8> {
        let worst = size.worst();
        let record = Record {
            outcome: Outcome::Unsettled,
            usage: Usage { input: self.counted, ..worst.usage },
            tool_calls: worst.tool_calls,
            charges: bill.charges(levels, &[]),
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
    pub(super) fn announce(&self, bundle: &Bundle, call: &Call, body: &[u8], effects: &mut Vec<Effect>) {
        let edits = call.edits(self.clamp, self.hides_usage);
        if !edits.is_empty() {
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
        effects.push(Effect::SetResponseHeader("x-farebox-used-percent".to_owned(), percents.join(", ")));
    }

    pub(super) fn response_headers(
        &mut self,
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
        let reader = Reader::new(
            self.dialect,
            self.model.encoding,
            status,
            field(b"content-type"),
            field(b"content-encoding"),
            self.hides_usage,
        );
        if self.hides_usage && field(b"content-length").is_some() {
            effects.push(Effect::RemoveResponseHeader("content-length".to_owned()));
        }
        self.answer = Answer::Upstream { status, reader: Box::new(reader) };
    }

    /// Meters a piece of the answer. Tells whether it is an upstream's answer.
    pub(super) fn response_body(&mut self, chunk: &[u8], end: bool, effects: &mut Vec<Effect>) -> bool {
        let Answer::Upstream { reader, .. } = &mut self.answer else { return false };
        if let Forward::Replace(bytes) = reader.push(chunk, end) {
            effects.push(Effect::ReplaceChunk(bytes));
        }
        self.unasked = self.unasked.saturating_add(chunk.len() as u64);
        true
    }

    /// Writes down what has been delivered, every so often: for the access log, which outlives this process, and where
    /// the plan charges a lost exchange by it, for whoever ends this one if the VM dies.
    pub(super) fn progress(
        &mut self,
        bundle: &Bundle,
        now: Now,
        vm: &mut Vm,
        cells: &mut dyn Cells,
        effects: &mut Vec<Effect>,
    ) {
        let Answer::Upstream { reader, .. } = &self.answer else { return };
        // A token has a byte at least, and asking may count again: not for each byte of an answer that drips.
        if self.unasked < NOTED_EVERY {
            return;
        }
        self.unasked = 0;
        let delivered = reader.delivered();
        if delivered < self.noted.saturating_add(NOTED_EVERY) {
            return;
        }
        self.noted = delivered;
        effects.push(Effect::Note("delivered", delivered.to_string()));
        if bundle.plans.get(self.plan).is_none_or(|plan| plan.hold.lost != Lost::Delivered) {
            return;
        }
        let Place { id, slot } = self.place;
        let extended = Operation::extend(&vm.keys, id.by, slot, id, Vec::new(), delivered, now).run(cells);
        if extended != Ok(quota::Outcome::Done) {
            vm.fenced_as(id.by, effects);
        }
    }

    /// Whether somebody else has ended this exchange: what it was charged stands, so nothing more may be delivered.
    pub(super) fn is_fenced(&self, vm: &Vm) -> bool {
        vm.incarnation() != Some(self.place.id.by)
    }

    /// The answer ended by trailers. Tells whether it is an upstream's answer.
    pub(super) fn response_trailers(&mut self) -> bool {
        let Answer::Upstream { reader, .. } = &mut self.answer else { return false };
        // Nothing can be sent after trailers: what was held back to look at it is lost only if it was incomplete.
        reader.push(&[], true);
        true
    }

    fn outcome(&self, cause: Cause, attempts: Option<u32>) -> Outcome {
        match &self.answer {
            Answer::Upstream { status, .. } if *status >= 400 => Outcome::UpstreamError,
            Answer::Upstream { reader, .. } => {
                let complete = reader.finished() || cause == Cause::Finished;
                match cause {
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

    fn observed(&self, outcome: Outcome) -> Observed {
        let Answer::Upstream { reader, .. } = &self.answer else {
            return Observed { input: self.counted, ..Observed::default() };
        };
        Observed {
            input: self.counted,
            delivered: reader.delivered(),
            reported: reader.reported().or(reader.reported_input()),
            complete: reader.reported().is_some() && (outcome == Outcome::Complete || reader.finished()),
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
        let observed = self.observed(outcome);
        let (usage, source) = observed.charged(outcome);
        let rule = settlement::rule(outcome);
        let (prompts, tool_calls) = match rule {
            Rule::Nothing => (0, 0),
            _ => (self.prompts, self.tool_calls()),
        };
        let used = match rule {
            Rule::Nothing => bill.nothing(&self.held),
            _ => bill.used(&Consumed { usage, prompts, tool_calls }, &self.price, &self.held),
        };
        if outcome == Outcome::Complete || outcome == Outcome::CompleteSilent {
            vm.learn_output(&self.model.pattern, usage.output);
        }
        let reached = self.reached(&bill, &used, now, vm, cells);
        let record = Record {
            reached,
            settled_ms: now.wall_ms,
            outcome,
            served: self.served(),
            status: self.status(),
            attempts: attempts.unwrap_or(self.attempts),
            usage,
            source,
            reported: observed.reported,
            delivered: observed.delivered,
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
        self.show(&record, &plan.name, effects);
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

    fn show(&self, record: &Record, plan: &str, effects: &mut Vec<Effect>) {
        let outcome = record.outcome.name();
        effects.push(Effect::Note("outcome", outcome.to_owned()));
        effects.push(Effect::Note("input", record.usage.input_total().to_string()));
        effects.push(Effect::Note("output", record.usage.output.to_string()));
        effects.push(Effect::Note("source", record.source.name().to_owned()));
        let who =
            || vec![("org", record.org.clone()), ("plan", plan.to_owned()), ("model", self.model.pattern.clone())];
        let with = |name: &'static str, value: &str| {
            let mut labels = who();
            labels.push((name, value.to_owned()));
            labels
        };
        let count = |metric, labels, by| Effect::Count { metric, labels, by };
        effects.push(count("exchanges_total", with("outcome", outcome), 1));
        effects.push(count("tokens_total", with("direction", "input"), record.usage.input));
        effects.push(count("tokens_total", with("direction", "cache_read"), record.usage.cache_read));
        effects.push(count("tokens_total", with("direction", "cache_write"), record.usage.cache_write));
        effects.push(count("tokens_total", with("direction", "output"), record.usage.output));
        if record.source != Source::Reported && settlement::rule(record.outcome) != Rule::Nothing {
            effects.push(count("estimated_total", who(), 1));
        }
    }
}
