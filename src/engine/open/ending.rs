//! How an admitted exchange ends: it settles once, on all levels, and leaves one record.

use super::guarded::Guarded;
use super::{Answer, Open};
use crate::engine::accounts::Accounts;
use crate::engine::balance;
use crate::engine::bill::Bill;
use crate::engine::effect::{Effect, Severity};
use crate::engine::event::Cause;
use crate::engine::fallback;
use crate::engine::learned::{self, Counted, Counting};
use crate::engine::served::Served;
use crate::engine::settlement::{self, Observed};
use crate::engine::vm::{Place, Vm};
use crate::meter::dialect::Dialect;
use crate::meter::usage::{Source, Usage};
use crate::now::Now;
use crate::policy::bundle::{Bundle, Charge, FailedTry, Plan, PlanQuota, Seat};
use crate::policy::price::Price;
use crate::policy::unit::Consumed;
use crate::quota::{self, Cells, Level, Operation};
use crate::report::wire::{self, Outcome, Reached, Record};

impl Open {
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
                (Cause::ConnectFailure | Cause::Unrouted, _) => Outcome::ConnectFailure,
                (_, Some(0)) => Outcome::NeverSent,
                (Cause::ClientAbort | Cause::Shutdown, _) => Outcome::Aborted,
                _ => Outcome::NoResponse,
            },
        }
    }

    /// Whether the work goes on although the exchange has ended, so that nobody here will hear what it came to: asked for in
    /// the background, or answered with no more than that it is queued.
    fn goes_on(&self, outcome: Outcome) -> bool {
        let promises = match &self.answer {
            Answer::Upstream { reader, .. } => reader.reported().is_none() && reader.only_promises(self.deferred),
            Answer::Local | Answer::None => self.deferred,
        };
        match outcome {
            Outcome::CompleteSilent => promises,
            Outcome::NoResponse | Outcome::Aborted | Outcome::CutByUs | Outcome::CutByUpstream => {
                self.deferred && promises
            }
            _ => false,
        }
    }

    /// Of work that goes on what is held is charged, and what it may come to told.
    fn observe_held(&self, seen: &mut Observed) {
        seen.made = self.size.asked;
        if self.unread {
            seen.input = seen.input.max(self.size.input);
        }
    }

    /// By what an exchange is charged that ended so.
    fn rule(&self, outcome: Outcome, goes_on: bool, plan: &Plan, now: Now, vm: &Vm) -> Charge {
        let fails = outcome == Outcome::ErrorInside;
        match settlement::rule(outcome, &plan.hold) {
            _ if goes_on => Charge::Held,
            Charge::Delivered if fails && self.came_to_nothing(&self.observed(outcome, now, vm)) => Charge::Nothing,
            rule => rule,
        }
    }

    /// Whether it was to make something else than text, and nothing of that was made.
    fn came_to_nothing(&self, seen: &Observed) -> bool {
        let asked = Usage { provider_total: 0, ..self.size.asked } != Usage::default();
        asked && seen.reported.is_none() && seen.made == Usage::default() && seen.delivered == 0
    }

    fn observed(&self, outcome: Outcome, now: Now, vm: &Vm) -> Observed {
        let limit = self.size.output.saturating_mul(self.size.choices.max(1));
        let seen = Observed {
            input: self.gauge.counted().unwrap_or(0),
            cached: self.prompt.as_ref().map_or(0, |prompt| vm.prefixes.cached(prompt, self.began_ms)),
            limit: self.slices.map_or(limit, |slices| slices.held),
            ran_ms: now.mono_ms.saturating_sub(self.began_ms),
            ..Observed::default()
        };
        let Answer::Upstream { reader, .. } = &self.answer else { return seen };
        let withheld = self.timing.is_withheld() || self.guarded.as_ref().is_some_and(Guarded::is_withheld);
        let delivered = if withheld { 0 } else { reader.delivered() };
        // In sound nothing can be read, and few say how much they spoke: what was to be spoken was.
        let failed = reader.error_inside();
        let asked = &self.size.asked;
        let spoke = |usage: Usage| match usage.characters {
            0 if !failed || reader.sounded() => Usage { characters: asked.characters, ..usage },
            _ => usage,
        };
        // Of text that was heard neither, unless it is subtitles: what was to be heard was.
        let heard = |usage: Usage| match usage.seconds {
            0 if !failed && self.api.dialect == Dialect::OpenAiTranscription => {
                Usage { seconds: asked.seconds, ..usage }
            }
            _ => usage,
        };
        Observed {
            delivered,
            written: delivered,
            reported: reader.said().map(spoke),
            complete: reader.reported().is_some()
                && !reader.input_silent()
                && (outcome == Outcome::Complete || reader.finished()),
            made: heard(spoke(reader.made())),
            cut: reader.is_cut(),
            ..seen
        }
    }

    /// What kind of call it is, as far as providers count by it.
    pub(super) fn counting(&self, seat: &Seat) -> Counting<'_> {
        Counting {
            seat: learned::seat(&seat.name),
            pattern: &self.model.pattern,
            count: self.model.encoding,
            model: &self.sent_model,
            dialect: self.api.dialect,
            tools: self.size.tools,
            calls: self.tool_calls() > 0,
            text: self.text,
        }
    }

    /// Learns from what a provider reported how it counts; and where it is silent, counts as it would have, no more than
    /// is held.
    fn count_as_the_provider(
        &self,
        outcome: Outcome,
        seat: &Seat,
        seen: &mut Observed,
        vm: &mut Vm,
        effects: &mut Vec<Effect>,
    ) {
        let Answer::Upstream { reader, .. } = &self.answer else { return };
        let of = self.counting(seat);
        let output = reader.written(&self.sent_model, self.host);
        let counted = Counted { input: seen.input, output, thoughts: reader.thoughts() };
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
                let told = told.within(seen.input, self.size.input, seen.delivered, seen.limit);
                (seen.input, seen.written) = (told.input, told.output);
            }
            _ => {}
        }
    }

    /// How many tries before the last are paid for: no more than is held, whatever else may have had the call tried again.
    fn failed(&self, outcome: Outcome, plan: &Plan, tries: u32) -> u64 {
        match settlement::failed_try(outcome, &plan.hold) {
            FailedTry::Input => u64::from(tries.saturating_sub(1)).min(self.size.again),
            FailedTry::Nothing => 0,
        }
    }

    /// What it consumed by this rule, and who says so.
    fn consumed(&self, rule: Charge, failed: u64, observed: &Observed) -> (Consumed, Source) {
        let (usage, again, source) = observed.charged_with(rule, failed);
        let (prompts, tool_calls) = match rule {
            Charge::Nothing => (0, 0),
            _ => (self.prompts, self.tool_calls()),
        };
        (Consumed { usage, prompts, tool_calls, again }, source)
    }

    /// What it came to, and at which price, if it is complete and its provider has said it.
    pub(super) fn came_to(&self, bundle: &Bundle, plan: &Plan, now: Now, vm: &Vm) -> Option<(Consumed, Price)> {
        let outcome = self.outcome(Cause::Finished, None);
        let observed = self.observed(outcome, now, vm);
        if outcome != Outcome::Complete || !observed.complete {
            return None;
        }
        let failed = self.failed(outcome, plan, self.attempts);
        let (consumed, _) = self.consumed(settlement::rule(outcome, &plan.hold), failed, &observed);
        let named = self.served();
        let served = Served::of(bundle, &self.model, &self.sent_model, &named);
        Some((consumed, served.price(plan, &self.price, self.came_ms, self.api, &consumed)))
    }

    /// Settles all levels at once and queues the one record.
    #[expect(clippy::too_many_arguments, reason = "the contract's four, and how it ended")]
    pub(in crate::engine) fn settle(
        mut self,
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
        let goes_on = self.goes_on(outcome);
        let rule = self.rule(outcome, goes_on, plan, now, vm);
        let tries = attempts.unwrap_or(self.attempts);
        let failed = self.failed(outcome, plan, tries);
        let is_free = rule == Charge::Nothing && failed == 0;
        self.let_rest(plan, (outcome, cause), now, vm, cells, effects);
        vm.meet_model(&self.counting(seat), now, cells);
        let bounded = self.gauge.counted().is_none();
        if bounded && !is_free {
            self.count_unsaid(seat, now, vm, effects);
        }
        let mut observed = self.observed(outcome, now, vm);
        self.count_as_the_provider(outcome, seat, &mut observed, vm, effects);
        self.learn_bound(seat, &observed, now, vm, effects);
        if goes_on {
            self.observe_held(&mut observed);
        }
        let (mut consumed, source) = self.consumed(rule, failed, &observed);
        if goes_on {
            consumed.tool_calls = u64::from(self.size.tools);
        }
        let Consumed { usage, prompts, tool_calls, .. } = consumed;
        let named = self.served();
        let served = Served::of(bundle, &self.model, &self.sent_model, &named);
        let price = served.price(plan, &self.price, self.came_ms, self.api, &consumed);
        if !is_free && !goes_on {
            self.hold_excess((bundle, &bill), (&consumed, &price), now, vm, cells, effects);
        }
        let used = match is_free {
            true => bill.nothing(&self.held),
            false if goes_on => bill.held(&self.held),
            false => bill.used(&consumed, &price, &self.held, self.beyond),
        };
        if matches!(outcome, Outcome::Complete | Outcome::CompleteSilent) && !goes_on {
            // Of a bound that lies far above what a count would have given nothing is to be learned.
            let bound = if bounded { 0 } else { self.bounded.bound() };
            vm.habits.learn(&self.model.pattern, bound, self.size.choices, &usage, source);
        }
        if outcome == Outcome::Complete
            && let (Some(prompt), Some(reported)) = (&self.prompt, &observed.reported)
        {
            vm.prefixes.remember(prompt.clone(), reported, now.mono_ms);
        }
        let reached = self.reached(&bill, &used, now, vm, cells);
        let trail = self.trail.take();
        // An answer that its client left in the middle has had no end of its own.
        if let Some(screen) = &mut self.screen {
            screen.end(effects);
        }
        let findings = self.screen.as_ref().map(|screen| screen.findings()).unwrap_or_default();
        let record = Record {
            reached,
            settled_ms: now.wall_ms,
            outcome,
            served: named,
            status: self.status(),
            attempts: tries,
            usage: consumed.all(),
            failed_input: usage.input_total().saturating_mul(failed),
            source,
            reported: observed.reported,
            delivered: observed.delivered,
            graced: self.graced(),
            prompts,
            tool_calls,
            charges: bill.charges(&used, &self.held),
            audit: trail.map(|trail| trail.record(findings)),
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
        self.show(&record, &plan.name, !is_free, effects);
        if !matches!(served, Served::AsAsked) {
            effects.push(Effect::Count { metric: "served_other_total", labels: self.who(&record, &plan.name), by: 1 });
        }
    }

    /// Notes that the upstream of the model is down or throttles, where a rule of the plan wants to know.
    fn let_rest(
        &self,
        plan: &Plan,
        (outcome, cause): (Outcome, Cause),
        now: Now,
        vm: &Vm,
        cells: &mut dyn Cells,
        effects: &mut Vec<Effect>,
    ) {
        let why = match (outcome, self.status()) {
            (Outcome::ConnectFailure, _) if cause == Cause::ConnectFailure => "connect_failure",
            (Outcome::UpstreamError, 429) => "429",
            (Outcome::UpstreamError, 503) => "503",
            (Outcome::UpstreamError, 529) => "529",
            _ => return,
        };
        let said = self.retry_after_ms;
        if let Some(ms) = fallback::rest(plan, &self.model, &self.sent_model, said, now, &vm.keys, cells) {
            let labels = vec![("model", fallback::line(&self.model).to_owned()), ("why", why.to_owned())];
            effects.push(Effect::Count { metric: "rests_total", labels, by: 1 });
            effects.push(Effect::Note("rests", format!("{ms}ms")));
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

    pub(super) fn status(&self) -> u16 {
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
        if record.attempts > 1 {
            let failed = u64::from(record.attempts).saturating_sub(1);
            effects.push(count("retries_total", self.who(record, plan), failed));
        }
        effects.push(count("tokens_total", with("direction", "input"), record.usage.input));
        effects.push(count("tokens_total", with("direction", "cache_read"), record.usage.cache_read));
        effects.push(count("tokens_total", with("direction", "cache_write"), record.usage.cache_write));
        effects.push(count("tokens_total", with("direction", "output"), record.usage.output));
        if record.source != Source::Reported && charged {
            effects.push(count("estimated_total", self.who(record, plan), 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::policy;
    use crate::sim::call::Call;
    use crate::sim::world::{At, Trouble, World};
    use crate::upstream::ask::Api;
    use crate::upstream::script::{Report, Script};

    /// Its one key is `key-ann`.
    const POLICY: &str = "farebox: 1
bundle: {name: learned, version: '1'}
identity: [{key: [authorization]}]
models: {qwen-*: {count: o200k_base}}
plans: {p: {tokens: {caps: {calls: {limit: 99 requests, per: seat, window: bucket 1m}}}}}
assign: [{otherwise: p}]
seats: {ann: {org: o, keys: ['sha256:a82937400c2cc11407f5bb2f9af56eded40d3002f15bdf996f5b70917bf8edb1']}}
";

    /// A call with this content and this behaviour of the upstream: its input, as it was settled.
    fn input(world: &World, content: &Value, script: Script) -> u64 {
        input_in(0, world, content, script)
    }

    fn input_in(vm: usize, world: &World, content: &Value, script: Script) -> u64 {
        let body = json!({"model": "qwen-vl-max", "max_tokens": 9, "messages": [{"role": "user", "content": content}]});
        let mut call = Call::new(Api::OpenAiChat, "key-ann", &body);
        call.plot.script = script;
        let stream = world.open(At { process: 0, vm }, call).unwrap();
        assert!(world.run(10_000));
        let seen = world.seen(stream).unwrap();
        seen.notes.get("input").unwrap_or_else(|| panic!("{:?}", seen.notes)).parse().unwrap()
    }

    fn learned(world: &World) -> u64 {
        world.counters().iter().filter(|(name, _)| name.starts_with("calibration_total")).map(|(_, by)| by).sum()
    }

    #[test]
    fn a_provider_that_told_nonsense_is_believed_in_bounds_and_pictures_teach_nothing() {
        let world = World::new(policy::compile(POLICY, "p").unwrap(), 1, 1, 1_000_000, 1).unwrap();
        let (told, silent) =
            (Script { input: Some(1), ..Script::default() }, Script { report: Report::Silent, ..Script::default() });
        let words = json!("a few words that are counted here as well as that can be done");
        let counted = input(&world, &words, silent.clone());
        let picture = json!([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]);
        for _ in 0..12 {
            input(&world, &picture, told.clone());
        }
        assert_eq!((learned(&world), input(&world, &words, silent.clone())), (0, counted));
        for _ in 0..12 {
            input(&world, &words, told.clone());
        }
        assert_eq!((learned(&world), input(&world, &words, silent)), (24, counted / 2));
    }

    #[test]
    fn what_one_vm_has_learned_the_others_and_a_later_one_know() {
        let world = World::new(policy::compile(POLICY, "p").unwrap(), 1, 2, 1_000_000, 1).unwrap();
        let (told, silent) =
            (Script { input: Some(90), ..Script::default() }, Script { report: Report::Silent, ..Script::default() });
        let words = json!("a few words that are counted here as well as that can be done");
        let counted = input_in(0, &world, &words, silent.clone());
        for _ in 0..12 {
            input_in(0, &world, &words, told.clone());
        }
        // A beat or two, by which it is shared.
        (0..40).for_each(|_| world.tick(50));
        let known = input_in(0, &world, &words, silent.clone());
        assert_ne!(known, counted);
        assert_eq!(input_in(1, &world, &words, silent.clone()), known);
        // The one that has learned dies, and another begins in its place.
        world.arm(At { process: 0, vm: 0 }, 0, Trouble::Kill);
        world.tick(50);
        assert_eq!(input_in(0, &world, &words, silent), known);
    }
}

#[cfg(test)]
#[path = "later_tests.rs"]
mod later;
