//! How long an answer may take: until it begins, without a byte, and in all.
//!
//! | limit | while nothing of the answer has left | when some of it has |
//! |---|---|---|
//! | `first_token` | an error of the caller's dialect, 504 | where headers cannot be held: it is broken off |
//! | `idle` | the same | it is broken off: a host can send something only in the place of what comes, and nothing comes |
//! | `duration` | the same | a stream ends as at a length limit, in the place of what comes next, and is then broken off; one of which nothing comes, and what is no stream, is broken off |
//!
//! So that there is an error to be had, nothing leaves, not even the headers, of a stream until its first token, where
//! that has a limit, and of a JSON document until it is whole. The upstream is broken off in every case: it need not
//! work on. What that costs is settled as any cut.

use super::{Answer, Course, Desk, Open};
use crate::engine::denial::Denial;
use crate::engine::effect::Effect;
use crate::engine::event::Cause;
use crate::engine::guard;
use crate::meter::LONGEST_DOCUMENT;
use crate::policy::bundle::{Bundle, Guard, HostMode, Plan, Timeouts};

/// How long a stream that has taken all its time is waited for, so that it can end legally.
const LAST_WORDS_MS: u64 = 1_000;

/// The clock of one answer.
#[derive(Debug)]
pub(super) struct Timing {
    /// What still binds: a limit that was passed and only observes is taken off.
    limits: Timeouts,
    /// When it was admitted, by the monotonic clock, as are the rest.
    began_ms: u64,
    /// When something of the answer came last, its headers included; `None`: nothing has come.
    heard_ms: Option<u64>,
    /// There is something of it: a token of a stream, a byte of anything else.
    begun: bool,
    /// It can be ended by its dialect's last events.
    ends_legally: bool,
    gate: Gate,
}

/// Whether what comes of the answer leaves.
#[derive(Debug)]
enum Gate {
    /// As it comes.
    Open,
    /// Nothing yet. What has come: its headers, held by the host, and these bytes.
    Closed { kept: Vec<u8>, until_whole: bool },
    /// Nothing any more, and nothing has: an error went in its place.
    Refused,
    /// It was broken off on its way.
    Broken,
}

impl Timing {
    /// `plan`'s for an answer to a call that was admitted at `now_ms`.
    pub fn of(plan: &Plan, now_ms: u64) -> Self {
        Self {
            limits: plan.connectivity.timeouts,
            began_ms: now_ms,
            heard_ms: None,
            begun: false,
            ends_legally: false,
            gate: Gate::Open,
        }
    }

    fn is_idle_of_limits(&self) -> bool {
        self.limits == Timeouts::default()
    }

    /// Whether an answer may have to be ended by its dialect's last events.
    pub fn cuts(&self, plan: &Plan) -> bool {
        self.limits.duration_ms.is_some() && !plan.observes(Guard::Duration)
    }

    /// The headers of an upstream's answer are here. `good`: it is no error; `document`: it is one of JSON, and no stream.
    pub fn headers(&mut self, plan: &Plan, host: HostMode, good: bool, document: bool, now_ms: u64) {
        self.heard_ms = Some(now_ms);
        let binds = |limit: Option<u64>, guard: Guard| limit.is_some() && !plan.observes(guard);
        let Timeouts { first_token_ms, idle_ms, duration_ms } = self.limits;
        let first = binds(first_token_ms, Guard::FirstToken);
        let whole = document && (binds(idle_ms, Guard::Idle) || binds(duration_ms, Guard::Duration));
        if good && host == HostMode::Held && (first || whole) {
            self.gate = Gate::Closed { kept: Vec::new(), until_whole: whole };
        }
        // An upstream that refuses has begun to answer.
        self.begun |= !good;
    }

    /// The answer is not an upstream's: nobody is waited for.
    pub fn local(&mut self) {
        self.limits = Timeouts::default();
    }

    /// Whether the host holds the headers, because nothing may leave yet.
    pub fn holds(&self) -> bool {
        matches!(self.gate, Gate::Closed { .. })
    }

    /// Whether an error went in the place of all of the answer.
    pub fn is_withheld(&self) -> bool {
        matches!(self.gate, Gate::Refused)
    }

    /// Whether it was ended here.
    pub fn is_refused(&self) -> bool {
        matches!(self.gate, Gate::Refused | Gate::Broken)
    }

    /// What was held for the hold's sake goes on: the upstream was not silent meanwhile.
    pub fn resumes(&mut self, now_ms: u64) {
        self.heard_ms = self.heard_ms.map(|_| now_ms);
    }

    /// When the next of its limits is passed if nothing more comes.
    fn next_ms(&self, own: bool) -> Option<u64> {
        self.deadlines(own).into_iter().flatten().map(|(_, at)| at).min()
    }

    /// `own`: its own hold is waited for, so that it is not the upstream that is silent.
    fn deadlines(&self, own: bool) -> [Option<(Guard, u64)>; 3] {
        let Timeouts { first_token_ms, idle_ms, duration_ms } = self.limits;
        let at = |guard, from: u64, ms: Option<u64>| ms.map(|ms| (guard, from.saturating_add(ms)));
        let patience = if self.ends_legally && !self.holds() { LAST_WORDS_MS } else { 0 };
        [
            at(Guard::FirstToken, self.began_ms, first_token_ms.filter(|_| !self.begun)),
            self.heard_ms.filter(|_| !own).and_then(|heard| at(Guard::Idle, heard, idle_ms)),
            at(Guard::Duration, self.began_ms.saturating_add(patience), duration_ms),
        ]
    }

    /// Which limit was passed first.
    fn passed(&self, own: bool, now_ms: u64) -> Option<Guard> {
        let passed = self.deadlines(own).into_iter().flatten().filter(|(_, at)| *at <= now_ms);
        passed.min_by_key(|(_, at)| *at).map(|(guard, _)| guard)
    }

    /// It has taken all its time, and something of it has come all the same.
    fn is_overlong(&self, now_ms: u64) -> bool {
        self.limits.duration_ms.is_some_and(|ms| self.began_ms.saturating_add(ms) <= now_ms)
    }

    /// A limit that only observes has been noted.
    fn take_off(&mut self, guard: Guard) {
        match guard {
            Guard::FirstToken => self.limits.first_token_ms = None,
            Guard::Idle => self.limits.idle_ms = None,
            _ => self.limits.duration_ms = None,
        }
    }

    /// What leaves in the place of `bytes`; `None`: these.
    fn through(&mut self, bytes: &[u8], last: bool) -> Option<Vec<u8>> {
        let Gate::Closed { kept, until_whole } = &mut self.gate else { return None };
        // With more it leaves: no longer document is read either.
        let fits = kept.len().saturating_add(bytes.len()) <= LONGEST_DOCUMENT;
        if !last && fits && (*until_whole || !self.begun) {
            kept.extend_from_slice(bytes);
            return Some(Vec::new());
        }
        let mut out = std::mem::take(kept);
        self.gate = Gate::Open;
        out.extend_from_slice(bytes);
        Some(out)
    }
}

impl Open {
    /// Whether the host is to hold the headers of the answer, because nothing of it may leave yet.
    pub(in crate::engine) fn holds_headers(&self) -> bool {
        self.timing.holds()
    }

    /// Which limit on its time the answer has passed, if that is enforced. `arrives`: something of it has come at last, so
    /// that only all of its time can be over.
    pub(in crate::engine) fn is_late(
        &mut self,
        bundle: &Bundle,
        arrives: bool,
        now_ms: u64,
        effects: &mut Vec<Effect>,
    ) -> Option<Denial> {
        if self.timing.is_idle_of_limits() || self.breaks || self.body_ended || self.timing.is_refused() {
            return None;
        }
        let plan = bundle.plans.get(self.plan)?;
        let has_ended = self.is_refused() || self.is_cut();
        loop {
            let guard = match arrives {
                true => self.timing.is_overlong(now_ms).then_some(Guard::Duration),
                false => self.timing.passed(self.held_back.is_some(), now_ms),
            }?;
            if has_ended {
                // Its client has had the end of it. What the upstream still sends is only read, and not for ever.
                if plan.observes(guard) {
                    self.timing.take_off(guard);
                    continue;
                }
                self.breaks = true;
                effects.push(Effect::WakeAt(now_ms));
                return None;
            }
            match self.judge(plan, guard, guard::late(plan, guard), effects) {
                Err(denial) => {
                    self.timing.gate = match self.timing.holds() || matches!(self.answer, Answer::None) {
                        true => Gate::Refused,
                        false => Gate::Broken,
                    };
                    return Some(denial);
                }
                Ok(()) => self.timing.take_off(guard),
            }
        }
    }

    /// Whether an error goes in the place of the whole answer.
    pub(in crate::engine) fn is_withheld(&self) -> bool {
        self.timing.is_withheld()
    }

    /// Ends an answer that is late and under way. `chunk`: what has come of it, if anything has.
    pub(in crate::engine) fn end_late(&mut self, chunk: Option<(&[u8], bool)>, desk: &mut Desk<'_>) -> Course {
        let held_back = self.held_back.take();
        if desk.vm.incarnation() != Some(self.place.id.by) {
            // While it flows there is nothing in a tick that could be replaced.
            if chunk.is_some() || held_back.is_some() {
                desk.effects.push(Effect::ReplaceChunk(Vec::new()));
            }
            desk.effects.push(Effect::Break);
            return Course::Fenced;
        }
        let kept = matches!(&self.answer, Answer::Upstream { reader, .. } if reader.is_kept());
        if !kept || chunk.is_none() && held_back.is_none() || !self.timing.ends_legally {
            if chunk.is_some() {
                desk.effects.push(Effect::ReplaceChunk(Vec::new()));
            }
            desk.effects.push(Effect::Break);
            return Course::Over(Cause::Other);
        }
        let mut last = held_back.map(|(_, ready)| ready).unwrap_or_default();
        last.extend(self.cut(desk));
        let (bytes, end) = chunk.unwrap_or_default();
        if let Answer::Upstream { reader, .. } = &mut self.answer {
            reader.push(bytes, end);
        }
        self.body_ended |= end;
        self.stop_after(last, desk)
    }

    fn is_cut(&self) -> bool {
        matches!(&self.answer, Answer::Upstream { reader, .. } if reader.is_cut())
    }

    /// Something of the answer has come.
    pub(in crate::engine) fn hear(&mut self, chunk: &[u8], now_ms: u64) {
        let Answer::Upstream { reader, .. } = &self.answer else { return };
        if !chunk.is_empty() {
            self.timing.heard_ms = Some(now_ms);
            self.timing.begun |= reader.has_begun();
        }
        let ends = reader.is_kept() && !reader.is_amid_unread();
        self.timing.ends_legally = self.timing.limits.duration_ms.is_some() && ends;
    }

    /// Keeps what leaves now, if nothing may yet: the bytes that the effects from `from` on send, or else the chunk. Whether
    /// it is kept.
    pub(in crate::engine) fn keep(
        &mut self,
        chunk: Option<&[u8]>,
        course: &Course,
        from: usize,
        effects: &mut Vec<Effect>,
    ) -> bool {
        if !self.timing.holds() || matches!(course, Course::Fenced | Course::Waits) {
            return false;
        }
        let ends = self.body_ended || self.breaks || self.is_refused() || matches!(course, Course::Over(_));
        let replaced = effects.iter_mut().skip(from).find_map(|effect| match effect {
            Effect::ReplaceChunk(bytes) => Some(bytes),
            _ => None,
        });
        let bytes: &[u8] = match &replaced {
            Some(bytes) => bytes,
            None => chunk.unwrap_or_default(),
        };
        if let Some(out) = self.timing.through(bytes, ends) {
            match replaced {
                Some(bytes) => *bytes = out,
                // Woken for nothing: what is held stays held.
                None if chunk.is_none() && out.is_empty() => {}
                None => effects.push(Effect::ReplaceChunk(out)),
            }
        }
        self.timing.holds()
    }

    /// Has itself woken when the next limit is passed, if nothing that has been said since `from` wakes it before.
    pub(in crate::engine) fn set_alarm(&self, from: usize, effects: &mut Vec<Effect>) {
        if self.breaks || self.timing.is_refused() || self.body_ended {
            return;
        }
        let Some(next) = self.timing.next_ms(self.held_back.is_some()) else { return };
        let own = self.held_back.as_ref().map(|(deadline_ms, _)| *deadline_ms);
        let next = own.map_or(next, |deadline_ms| next.min(deadline_ms));
        let said = effects.iter().skip(from).rev().find_map(|effect| match effect {
            Effect::WakeAt(at) => Some(*at),
            _ => None,
        });
        if said.is_none_or(|at| next < at) {
            effects.push(Effect::WakeAt(next));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::policy;
    use crate::sim::call::{Call, Ending, body};
    use crate::sim::world::{At, Seen, World};
    use crate::upstream::ask::Api;
    use crate::upstream::script::Script;

    /// A policy whose one plan says this of answers; its one key is `key-ann`.
    fn policy(response: &str) -> String {
        format!(
            "farebox: 1
bundle: {{name: timed, version: '1'}}
identity: [{{key: [authorization, x-api-key]}}]
models: {{m: {{count: o200k_base}}}}
plans:
  p:
    tokens: {{caps: {{all: {{limit: 1m tokens, per: seat, window: lifetime}}}}, hold: {{stream: slices, slice: 16}}}}
{response}
assign: [{{otherwise: p}}]
seats: {{ann: {{org: o, keys: ['sha256:a82937400c2cc11407f5bb2f9af56eded40d3002f15bdf996f5b70917bf8edb1']}}}}
"
        )
    }

    const ALL: &str = "    connectivity: {response: {first_token: 1s, idle: 1s, duration: 9s}}";

    struct Asked {
        api: Api,
        stream: bool,
        ending: Ending,
        chunks: Option<u64>,
        script: Script,
    }

    fn answered(response: &str, asked: &Asked) -> (World, Seen) {
        let world = World::new(policy::compile(&policy(response), "p").unwrap(), 1, 1, 1_000_000, 7).unwrap();
        let mut call = Call::new(asked.api, "key-ann", &body(asked.api, "m", "hello", Some(900), asked.stream));
        call.plot.script = asked.script.clone();
        (call.plot.ending, call.plot.chunks) = (asked.ending, asked.chunks);
        let stream = world.open(At { process: 0, vm: 0 }, call).unwrap();
        assert!(world.run(60_000), "it never ends");
        let seen = world.seen(stream).unwrap();
        assert_eq!(seen.impossible, Vec::<String>::new());
        assert_eq!(world.taken_slots(0).unwrap().len(), 0, "something is held");
        (world, seen)
    }

    #[test]
    fn an_answer_in_time_is_the_same_to_the_byte_however_it_comes() {
        for api in [Api::OpenAiChat, Api::AnthropicMessages] {
            for (stream, ending) in [
                (true, Ending::Finished),
                (false, Ending::Finished),
                (true, Ending::Trailers),
                (false, Ending::Trailers),
            ] {
                for chunks in std::iter::once(None).chain((0..24).map(Some)) {
                    let script = Script { output: Some(40), comments: true, ..Script::default() };
                    let asked = Asked { api, stream, ending, chunks, script };
                    let ((_, plain), (_, timed)) = (answered("", &asked), answered(ALL, &asked));
                    assert!(plain.body.len() > 200);
                    assert_eq!(timed.body, plain.body, "{api:?} {stream} {ending:?} {chunks:?}");
                    assert_eq!((timed.status, timed.notes.get("output")), (200, plain.notes.get("output")));
                }
            }
        }
    }

    #[test]
    fn whatever_falls_silent_ends_and_settles_once() {
        for api in [Api::OpenAiChat, Api::AnthropicMessages] {
            for (after, chunks) in
                (0..8).flat_map(|after| [(after, None), (after, Some(after)), (after, Some(after + 90))])
            {
                for rule in ["first_token: 1s", "idle: 1s", "duration: 1s", "first_token: 1s, idle: 2s, duration: 3s"] {
                    let script = Script { output: Some(40), stall_after: Some(after), ..Script::default() };
                    let asked = Asked { api, stream: true, ending: Ending::Finished, chunks, script };
                    let rule = format!("    connectivity: {{response: {{{rule}}}}}");
                    if rule.contains("first_token: 1s}") && (after > 0 || chunks.is_some()) {
                        continue;
                    }
                    let (world, seen) = answered(&rule, &asked);
                    let settled = world
                        .counters()
                        .iter()
                        .filter(|(name, _)| name.starts_with("exchanges_total"))
                        .map(|(_, by)| by)
                        .sum::<u64>();
                    assert_eq!(settled, 1, "{api:?} {after} {chunks:?} {rule}");
                    let by = seen.notes.get("denied_by").map_or("", String::as_str);
                    assert!(rule.contains(by) && !by.is_empty(), "{api:?} {after} {chunks:?} {rule}: {by}");
                    assert!(matches!(seen.status, 200 | 504), "{}", seen.status);
                }
            }
        }
    }

    /// An error that a guard has put in the place of a document is not kept until the upstream has ended, and what has been
    /// cut is not read for ever.
    #[test]
    fn what_was_ended_before_its_time_ends_all_the_same() {
        let rule = "    connectivity: {response: {largest: 1 KiB, duration: 2s}}";
        for (stream, chunks) in [(false, 40), (true, 40)] {
            let many = if stream { 800 } else { 100 };
            let script = Script { output: Some(900), stall_after: Some(many), ..Script::default() };
            let chunks = Some(chunks).filter(|_| !stream);
            let asked = Asked { api: Api::OpenAiChat, stream, ending: Ending::Finished, chunks, script };
            let (_, seen) = answered(rule, &asked);
            assert_eq!(seen.notes.get("denied_by").map(String::as_str), Some("response"), "{stream} {:?}", seen.notes);
            assert!(!seen.body.is_empty(), "{stream}: {}", seen.status);
        }
    }

    #[test]
    fn a_caller_who_leaves_while_headers_are_held_is_an_abort() {
        let script = Script { output: Some(40), ..Script::default() };
        let asked = Asked { api: Api::OpenAiChat, stream: true, ending: Ending::ClientAbort(1), chunks: None, script };
        let (_, seen) = answered(ALL, &asked);
        assert_eq!(seen.notes.get("outcome").map(String::as_str), Some("aborted"));
        assert_eq!(seen.notes.get("output").map(String::as_str), Some("0"));
    }
}
