//! One stream, stepped an event at a time.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::call::{Call, Ending, header};
use super::store::SimCells;
use super::tries::Met;
use super::upstream::{self, Spoken, Truth};
use crate::engine::effect::{Effect, Flow, Handle, Reply};
use crate::engine::event::{Cause, Event, Header};
use crate::engine::exchange::Exchange;
use crate::engine::vm::Vm;
use crate::now::Now;
use crate::policy::bundle::{Bundle, HostMode, Retry};

/// What was seen of a stream: by its client, by the upstream, and in the filter state.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The status that the client got; 0: none.
    pub status: u16,
    /// The headers that the client got.
    pub headers: Vec<(String, String)>,
    /// The body that the client got.
    pub body: Vec<u8>,
    /// What reached the upstream, and what it knows of it.
    pub upstream: Option<Truth>,
    /// Filter state.
    pub notes: BTreeMap<&'static str, String>,
    /// Whether it had to wait for a grant.
    pub waited: bool,
    /// What the engine asked for that no host can do at that moment: always a fault of the engine.
    pub impossible: Vec<String>,
    /// How it ended; `None`: it has not.
    pub end: Option<End>,
}

/// Which of a stream's messages a callback may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    RequestHeaders,
    RequestBody,
    ResponseHeaders,
    ResponseBody,
    /// Woken while the answer is held.
    HeldAnswer,
    /// Woken while it is not.
    FreeAnswer,
    End,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The filter answered.
    Refused,
    /// It ran, and ended like this.
    Over(Cause),
    /// Its VM died under it.
    Lost,
}

impl Seen {
    /// The exchange id, if it was admitted.
    pub fn admitted(&self) -> Option<&str> {
        let allowed = self.notes.get("decision").is_some_and(|decision| decision == "allow");
        self.notes.get("id").filter(|_| allowed).map(String::as_str)
    }
}

/// What the engine is given with each event, and what comes back that is not for the stream itself.
pub(super) struct Desk<'a> {
    pub engine: &'a mut Vm,
    pub cells: &'a mut SimCells,
    pub now: Now,
    pub effects: Vec<Effect>,
    /// These decide what the upstream says.
    pub seed: u64,
    pub serial: u64,
}

pub(super) struct Stream {
    exchange: Exchange,
    /// Whether headers leave before the body is read.
    headers_first: bool,
    call: Call,
    /// As they leave.
    headers: Vec<Header>,
    body: Vec<u8>,
    stage: Stage,
    /// How it is tried again.
    retry: Option<Retry>,
    /// Tries upstream.
    tries: u32,
    broken: bool,
    /// The answer is held until the exchange is woken.
    answer_held: bool,
    /// Until when the upstream says nothing, between two pieces of its answer.
    rests_until_ms: Option<u64>,
    /// The exchange was told of trailers.
    trailers_told: bool,
    pub wake_at_ms: Option<u64>,
    pub seen: Seen,
}

enum Stage {
    Fresh,
    Body,
    Held,
    Left,
    /// The upstream takes its time.
    Awaiting {
        spoken: Box<Spoken>,
        until_ms: u64,
    },
    Answering {
        spoken: Box<Spoken>,
        shown: u32,
    },
    Ending {
        cause: Cause,
        attempts: u32,
    },
    Over,
}

impl Stream {
    pub fn new(bundle: Rc<Bundle>, handle: Handle, call: Call) -> Self {
        let (headers, body) = (call.headers.clone(), call.body.clone());
        let headers_first = bundle.headers == HostMode::First;
        let exchange = Exchange::new(bundle, handle);
        Self {
            exchange,
            headers_first,
            call,
            headers,
            body,
            stage: Stage::Fresh,
            retry: None,
            tries: 0,
            broken: false,
            answer_held: false,
            rests_until_ms: None,
            trailers_told: false,
            wake_at_ms: None,
            seen: Seen::default(),
        }
    }

    /// Whether something can happen to it now, without anybody waking it.
    pub fn is_ready(&self) -> bool {
        match &self.stage {
            Stage::Answering { spoken, shown } => {
                let more = !self.answer_held
                    || !spoken.pieces.is_empty()
                    || self.call.plot.ending == Ending::Trailers && !self.trailers_told;
                more && self.rests_until_ms.is_none() || self.broken || self.broken_off(*shown).is_some()
            }
            Stage::Held => self.call.plot.ending == Ending::ClientAbort(0),
            Stage::Awaiting { .. } | Stage::Over => false,
            _ => true,
        }
    }

    pub fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    pub fn is_held(&self) -> bool {
        matches!(self.stage, Stage::Held)
    }

    /// The next event.
    pub fn step(&mut self, desk: &mut Desk<'_>) {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Fresh => {
                let (headers, peer, end) = (&self.call.headers, self.call.peer, self.call.body.is_empty());
                let event = Event::RequestHeaders { headers, peer, vouched: &self.call.vouched, end };
                let flow = tell(&mut self.exchange, event, desk);
                self.request_goes(flow, end, Phase::RequestHeaders, desk);
            }
            Stage::Body => {
                let event = Event::RequestBody { body: &self.call.body, end: true };
                let flow = tell(&mut self.exchange, event, desk);
                self.request_goes(flow, true, Phase::RequestBody, desk);
            }
            // The client has gone away while it waited.
            Stage::Held => self.stage = Stage::Ending { cause: Cause::ClientAbort, attempts: 0 },
            Stage::Left => self.leave(desk),
            awaiting @ Stage::Awaiting { .. } => self.stage = awaiting,
            Stage::Answering { spoken, shown } => self.answer(*spoken, shown, desk),
            Stage::Ending { cause, attempts } => {
                tell(&mut self.exchange, Event::Over { cause, attempts }, desk);
                self.apply(Phase::End, desk);
                self.seen.end.get_or_insert(End::Over(cause));
            }
            Stage::Over => {}
        }
    }

    /// What it waited for may be there.
    pub fn wake(&mut self, desk: &mut Desk<'_>) {
        if self.is_due(desk.now) {
            self.rests_until_ms = None;
            if matches!(self.stage, Stage::Awaiting { .. })
                && let Stage::Awaiting { spoken, .. } = std::mem::replace(&mut self.stage, Stage::Over)
            {
                self.begin_answer(*spoken, desk);
            }
            return;
        }
        if matches!(self.stage, Stage::Answering { .. }) {
            return self.wake_answer(desk);
        }
        if matches!(self.stage, Stage::Awaiting { .. }) {
            let flow = tell(&mut self.exchange, Event::Woken { body: &[] }, desk);
            self.apply(Phase::FreeAnswer, desk);
            self.answered_instead(flow, Phase::FreeAnswer, desk);
            return;
        }
        if self.is_held() {
            self.wake_at_ms = None;
            let flow = tell(&mut self.exchange, Event::Woken { body: &self.call.body }, desk);
            self.request_goes(flow, true, Phase::RequestBody, desk);
        }
    }

    /// Its VM died: nobody will tell it anything more.
    pub fn lose(&mut self) {
        self.stage = Stage::Over;
        self.seen.end.get_or_insert(End::Lost);
    }

    fn request_goes(&mut self, flow: Flow, end: bool, phase: Phase, desk: &mut Desk<'_>) {
        if desk.cells.is_dead() {
            // The callback trapped: nothing that it wanted is done, and this stream will hear of nothing more.
            return;
        }
        self.apply(phase, desk);
        self.seen.waited |= end && flow == Flow::Hold;
        self.stage = match flow {
            Flow::Continue if end => Stage::Left,
            Flow::Hold if end => Stage::Held,
            Flow::Continue | Flow::Hold => Stage::Body,
            Flow::Reply(Reply { status, headers, body }) => {
                (self.seen.status, self.seen.headers, self.seen.body) = (status, headers, body);
                self.seen.end = Some(End::Refused);
                Stage::Ending { cause: Cause::Finished, attempts: 0 }
            }
        };
    }

    fn leave(&mut self, desk: &mut Desk<'_>) {
        let ending = self.call.plot.ending;
        match ending {
            Ending::Unrouted => return self.answered_locally(503, Cause::Unrouted, desk),
            Ending::LocalReply => return self.answered_locally(503, Cause::Finished, desk),
            _ => {}
        }
        let (spoken, waited_ms) = self.try_upstream(desk);
        if matches!(ending, Ending::ClientAbort(0) | Ending::ClientLeaves) {
            self.stage = Stage::Ending { cause: Cause::ClientAbort, attempts: self.tries };
            return;
        }
        match waited_ms {
            0 => self.begin_answer(spoken, desk),
            waited_ms => {
                let until_ms = desk.now.mono_ms.saturating_add(waited_ms);
                self.stage = Stage::Awaiting { spoken: Box::new(spoken), until_ms };
            }
        }
    }

    /// Tries the upstream until it answers as it should, or no try is left: the last answer, with the status 0 where there
    /// was none, and how long all took.
    fn try_upstream(&mut self, desk: &Desk<'_>) -> (Spoken, u64) {
        let plot = &self.call.plot;
        let each_ms = self.retry.as_ref().and_then(|retry| retry.each_ms);
        let mut waited_ms = 0_u64;
        loop {
            let draw = (desk.seed, desk.serial);
            let mut spoken = upstream::answer(&self.headers, &self.body, plot, draw, self.tries);
            self.tries = self.tries.saturating_add(1);
            waited_ms = waited_ms.saturating_add(each_ms.map_or(plot.after_ms, |each_ms| each_ms.min(plot.after_ms)));
            let met = Met::of(plot, spoken.status, each_ms);
            if met.is_tried_again(self.retry.as_ref(), self.tries) {
                continue;
            }
            if !matches!(plot.ending, Ending::ConnectFailure | Ending::UpstreamCut(0)) {
                self.seen.upstream = Some(spoken.truth.clone());
            }
            if !matches!(met, Met::Status(_)) {
                spoken.status = 0;
            }
            return (spoken, waited_ms);
        }
    }

    /// Envoy answers in the upstream's place.
    fn answered_locally(&mut self, status: u16, cause: Cause, desk: &mut Desk<'_>) {
        let headers = [header(":status", &status.to_string())];
        let event = Event::ResponseHeaders { headers: &headers, upstream: false, attempts: 0, end: true };
        tell(&mut self.exchange, event, desk);
        self.response_headers(&headers, desk);
        self.stage = Stage::Ending { cause, attempts: self.tries };
    }

    /// Whether the answer that was waited for is there.
    pub fn is_due(&self, now: Now) -> bool {
        let rested = self.rests_until_ms.is_some_and(|until_ms| until_ms <= now.mono_ms);
        rested || matches!(self.stage, Stage::Awaiting { until_ms, .. } if until_ms <= now.mono_ms)
    }

    /// Whether the exchange answers by itself, before anything of the upstream's answer has left.
    fn answered_instead(&mut self, flow: Flow, phase: Phase, desk: &mut Desk<'_>) -> bool {
        let Flow::Reply(Reply { status, headers, body }) = flow else { return false };
        self.apply(phase, desk);
        if !self.seen.body.is_empty() {
            self.seen.impossible.push(format!("a reply in {phase:?}, behind a part of the answer"));
        }
        (self.seen.status, self.seen.headers, self.seen.body) = (status, headers, body);
        self.stage = Stage::Ending { cause: Cause::Finished, attempts: self.tries };
        true
    }

    fn begin_answer(&mut self, spoken: Spoken, desk: &mut Desk<'_>) {
        if spoken.status == 0 {
            let connected = self.call.plot.ending != Ending::ConnectFailure;
            let cause = if connected { Cause::UpstreamReset } else { Cause::ConnectFailure };
            let late = self.retry.as_ref().and_then(|retry| retry.each_ms);
            let late = late.is_some_and(|each_ms| each_ms <= self.call.plot.after_ms);
            return self.answered_locally(if late { 504 } else { 503 }, cause, desk);
        }
        let (headers, attempts) = (&spoken.headers, self.tries);
        let event = Event::ResponseHeaders { headers, upstream: true, attempts, end: false };
        let flow = tell(&mut self.exchange, event, desk);
        self.answer_held = flow == Flow::Hold;
        if self.answered_instead(flow, Phase::ResponseHeaders, desk) {
            return;
        }
        self.response_headers(&spoken.headers, desk);
        self.stage = Stage::Answering { spoken: Box::new(spoken), shown: 0 };
    }

    /// The headers that the client gets, as the effects leave them.
    fn response_headers(&mut self, headers: &[Header], desk: &mut Desk<'_>) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.seen.headers = headers.iter().map(|(name, value)| (text(name), text(value))).collect();
        self.apply(Phase::ResponseHeaders, desk);
        let status = self.seen.headers.iter().find(|(name, _)| name == ":status");
        self.seen.status = status.and_then(|(_, status)| status.parse().ok()).unwrap_or(0);
    }

    /// Who breaks it off by now, if anybody.
    fn broken_off(&self, shown: u32) -> Option<Cause> {
        match self.call.plot.ending {
            Ending::ClientAbort(after) if after <= shown => Some(Cause::ClientAbort),
            Ending::UpstreamCut(after) if after <= shown => Some(Cause::UpstreamReset),
            _ => None,
        }
    }

    fn answer(&mut self, mut spoken: Spoken, shown: u32, desk: &mut Desk<'_>) {
        if let Some(cause) = self.broken_off(shown) {
            self.stage = Stage::Ending { cause, attempts: self.tries };
            return;
        }
        let trailers = self.call.plot.ending == Ending::Trailers;
        if let Some(piece) = spoken.pieces.pop_front() {
            let end = spoken.pieces.is_empty() && !trailers;
            let flow = tell(&mut self.exchange, Event::ResponseBody { chunk: &piece, end }, desk);
            if matches!(flow, Flow::Reply(_)) {
                self.answered_instead(flow, Phase::ResponseBody, desk);
                return;
            }
            let before = self.seen.body.len();
            self.seen.body.extend_from_slice(&piece);
            self.apply_chunk(before, Phase::ResponseBody, desk);
            let shown = shown.saturating_add(1);
            self.rests_until_ms = spoken.rest_ms(shown).map(|ms| desk.now.mono_ms.saturating_add(ms));
            self.answer_goes(flow, spoken, shown);
        } else {
            let mut flow = Flow::Continue;
            if trailers {
                self.trailers_told = true;
                flow = tell(&mut self.exchange, Event::ResponseTrailers, desk);
                self.apply(Phase::End, desk);
            }
            self.answer_goes(flow, spoken, shown);
        }
    }

    /// What the exchange said to an event of the answer, of which so many pieces were shown.
    fn answer_goes(&mut self, flow: Flow, spoken: Spoken, shown: u32) {
        self.answer_held = flow == Flow::Hold;
        let trailers = self.call.plot.ending == Ending::Trailers;
        let all_told = spoken.pieces.is_empty() && (!trailers || self.trailers_told);
        self.stage = if self.broken {
            Stage::Ending { cause: Cause::Other, attempts: self.tries }
        } else if all_told && !self.answer_held {
            Stage::Ending { cause: Cause::Finished, attempts: self.tries }
        } else {
            Stage::Answering { spoken: Box::new(spoken), shown }
        };
    }

    fn wake_answer(&mut self, desk: &mut Desk<'_>) {
        let Stage::Answering { spoken, shown } = std::mem::replace(&mut self.stage, Stage::Over) else { return };
        self.wake_at_ms = None;
        let flow = tell(&mut self.exchange, Event::Woken { body: &[] }, desk);
        let phase = if self.answer_held { Phase::HeldAnswer } else { Phase::FreeAnswer };
        if matches!(flow, Flow::Reply(_)) {
            self.answered_instead(flow, phase, desk);
            return;
        }
        self.apply_chunk(self.seen.body.len(), phase, desk);
        self.answer_goes(flow, *spoken, shown);
    }

    fn apply_chunk(&mut self, before: usize, phase: Phase, desk: &mut Desk<'_>) {
        for effect in &mut desk.effects {
            if let Effect::ReplaceChunk(bytes) = effect {
                self.seen.body.truncate(before);
                self.seen.body.append(bytes);
            }
        }
        self.apply(phase, desk);
    }

    /// Whether any host could carry this out now.
    fn can(&self, effect: &Effect, phase: Phase) -> bool {
        match effect {
            Effect::SetRequestHeader(..) | Effect::RemoveRequestHeader(_) => {
                phase == Phase::RequestHeaders || phase == Phase::RequestBody && !self.headers_first
            }
            Effect::Retry(_) => phase == Phase::RequestHeaders,
            Effect::ReplaceRequestBody(_) => matches!(phase, Phase::RequestHeaders | Phase::RequestBody),
            Effect::SetResponseHeader(..) | Effect::RemoveResponseHeader(_) => phase == Phase::ResponseHeaders,
            Effect::ReplaceChunk(_) => matches!(phase, Phase::ResponseBody | Phase::HeldAnswer),
            Effect::Break => matches!(phase, Phase::ResponseBody | Phase::HeldAnswer | Phase::FreeAnswer),
            _ => true,
        }
    }

    /// Carries out what concerns this stream; the rest stays on the desk.
    fn apply(&mut self, phase: Phase, desk: &mut Desk<'_>) {
        if desk.cells.is_dead() {
            return;
        }
        let mut rest = Vec::new();
        for effect in desk.effects.drain(..) {
            if !self.can(&effect, phase) {
                self.seen.impossible.push(format!("{effect:?} in {phase:?}"));
            }
            match effect {
                Effect::SetRequestHeader(name, value) => {
                    self.headers.retain(|(at, _)| at != name.as_bytes());
                    self.headers.push(header(&name, &value));
                }
                Effect::RemoveRequestHeader(name) => self.headers.retain(|(at, _)| at != name.as_bytes()),
                Effect::Retry(retry) => self.retry = Some(retry),
                Effect::ReplaceRequestBody(body) => self.body = body,
                Effect::SetResponseHeader(name, value) => {
                    self.seen.headers.retain(|(at, _)| *at != name);
                    self.seen.headers.push((name, value));
                }
                Effect::RemoveResponseHeader(name) => self.seen.headers.retain(|(at, _)| *at != name),
                Effect::Note(key, value) => {
                    self.seen.notes.insert(key, value);
                }
                Effect::WakeAt(at) => self.wake_at_ms = Some(at),
                Effect::Break => self.broken = true,
                Effect::ReplaceChunk(_) => {}
                other => rest.push(other),
            }
        }
        desk.effects = rest;
    }
}

fn tell(exchange: &mut Exchange, event: Event<'_>, desk: &mut Desk<'_>) -> Flow {
    exchange.handle(event, desk.now, desk.engine, desk.cells, &mut desk.effects)
}
