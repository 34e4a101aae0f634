//! The stream context: callbacks → events, effects → host calls.

mod swell;

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

use super::host::{self, Buffer, Map};
use super::station::{Site, Station, complain};
use super::tries;
use crate::engine::effect::{Effect, Flow, Handle, Reply, Severity};
use crate::engine::event::{Cause, Event, Vouched};
use crate::engine::exchange::Exchange;
use crate::now::Now;
use crate::policy::bundle::{Bundle, HostMode};

/// A request held this long without one body callback, although the host has read some of its body, is stuck.
const STUCK_MS: u64 = 1000;
/// An exchange that is woken within its own callback may want to wait again.
const ROUNDS: u32 = 4;

/// One HTTP stream, as the SDK holds it.
pub struct Stream {
    station: Option<Rc<Station>>,
    passage: Option<Rc<RefCell<Passage>>>,
}

impl Stream {
    /// A stream that has seen nothing yet. Without a configuration it refuses.
    pub fn new(own: Handle, root: u32, running: Option<(Rc<Station>, Rc<Bundle>)>) -> Self {
        let (station, bundle) = running.unzip();
        let passage = bundle.map(|bundle| Rc::new_cyclic(|me| RefCell::new(Passage::new(own, root, bundle, me))));
        Self { station, passage }
    }

    fn on(&self, call: impl FnOnce(&mut Passage, &Station) -> Action) -> Action {
        match (&self.passage, &self.station) {
            (Some(passage), Some(station)) => call(&mut passage.borrow_mut(), station),
            _ => Action::Continue,
        }
    }
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _: usize, end: bool) -> Action {
        if self.passage.is_none() {
            complain("refuse", host::reply(&unavailable("the filter has no policy")));
            return Action::Pause;
        }
        self.on(|passage, station| passage.request_headers(station, end))
    }

    fn on_http_request_body(&mut self, bytes: usize, end: bool) -> Action {
        self.on(|passage, station| passage.request_body(station, bytes, end))
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        self.on(|passage, station| passage.request_trailers(station))
    }

    fn on_http_response_headers(&mut self, _: usize, end: bool) -> Action {
        self.on(|passage, station| passage.response_headers(station, end))
    }

    fn on_http_response_body(&mut self, _: usize, end: bool) -> Action {
        self.on(|passage, station| passage.response_body(station, end))
    }

    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        self.on(|passage, station| passage.response_trailers(station))
    }

    // The one callback that comes however a stream ends (but not when its VM dies).
    fn on_log(&mut self) {
        self.on(|passage, station| {
            passage.over(station);
            Action::Continue
        });
    }
}

/// Where the stream is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// No request headers yet; there may never be any: an earlier filter or the codec can answer by itself.
    New,
    /// The request is held until its body is here.
    Reading {
        /// What was seen of it when; `None` once a body callback came, and with headers first.
        silent: Option<Silent>,
    },
    /// The request is complete and held until the exchange is woken.
    Waiting,
    /// It is admitted, and held until a tick writes a body that may be more than the host buffers.
    Swelling,
    /// The request went upstream; the exchange sees the answer.
    Open,
    /// Let through at once: the exchange sees how it is answered and that it ends, and no body.
    Untouched,
    /// Answered by us. Our own answer passes our callbacks too, and is none of the upstream's.
    Answered,
}

/// A body of which no callback has come yet.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Silent {
    since_ms: u64,
    /// Bytes of the request, headers included, that the host has read by then.
    size: u64,
}

impl Silent {
    /// `request.size` would not do: it is the announced length where there is one.
    fn now(now: Now) -> Self {
        Self { since_ms: now.mono_ms, size: host::number("request\0total_size").unwrap_or(u64::MAX) }
    }
}

/// A stream's way through, apart from its context: it is reached from the tick and from other streams' callbacks too, when
/// the SDK's table of contexts is borrowed.
pub struct Passage {
    own: Handle,
    root: u32,
    me: Weak<RefCell<Passage>>,
    bundle: Rc<Bundle>,
    exchange: Option<Exchange>,
    stage: Stage,
    has_body: bool,
    wake_at_ms: Option<u64>,
    /// Bytes of the request body: those that came, and then those that leave.
    body_bytes: usize,
    /// The body that takes its place at the next tick.
    swollen: Option<Vec<u8>>,
    /// It was answered while the request was held: nothing of its body left, and nothing does.
    unsent: bool,
    /// The response's announced length, while nobody removed it.
    content_length: bool,
    chunk: usize,
    response_ended: bool,
    /// The answer is held until the exchange is woken.
    answer_held: bool,
    /// What leaves of a held answer at the next tick, and whether the exchange itself lets it go on.
    swollen_answer: Option<Vec<u8>>,
    waits_for_tick: bool,
    /// The piece that was shown last has been replaced.
    replaced: bool,
    broken: bool,
}

impl Passage {
    fn new(own: Handle, root: u32, bundle: Rc<Bundle>, me: &Weak<RefCell<Self>>) -> Self {
        Self {
            own,
            root,
            me: Weak::clone(me),
            bundle,
            exchange: None,
            stage: Stage::New,
            has_body: false,
            wake_at_ms: None,
            body_bytes: 0,
            swollen: None,
            unsent: false,
            content_length: false,
            chunk: 0,
            response_ended: false,
            answer_held: false,
            swollen_answer: None,
            waits_for_tick: false,
            replaced: false,
            broken: false,
        }
    }

    fn request_headers(&mut self, station: &Station, end: bool) -> Action {
        // Not readable any more once this callback has returned Continue, so all of them are read now, as bytes: a value
        // need not be UTF-8.
        let headers = host::headers(Map::Request).unwrap_or_default();
        tries::clean(&headers);
        #[cfg(feature = "test-hooks")]
        if let Some(reply) = super::probe::request_headers(&headers) {
            return self.answer(station, &reply);
        }
        #[cfg(feature = "bench")]
        if super::bench::is_asked(&headers) {
            self.stage = Stage::Reading { silent: None };
            return Action::Pause;
        }
        self.exchange = Some(Exchange::new(Rc::clone(&self.bundle), self.own));
        self.has_body = !end;
        let vouched: Vec<Vouched> = self.bundle.vouchers.iter().map(host::vouched).collect();
        let event = Event::RequestHeaders { headers: &headers, peer: host::peer(), vouched: &vouched, end };
        match self.decide(station, event, end.then_some(&[])) {
            Flow::Continue => {
                let looks = self.exchange.as_ref().is_some_and(Exchange::looks_at_answer);
                self.let_through(station, if looks { Stage::Open } else { Stage::Untouched })
            }
            Flow::Hold if end => self.wait(station),
            Flow::Hold => self.read_body(station),
            Flow::Reply(reply) => self.answer(station, &reply),
        }
    }

    fn read_body(&mut self, station: &Station) -> Action {
        if self.bundle.headers == HostMode::First {
            // The headers leave now. A body that is replaced later must not contradict a length announced before: what is
            // longer would be the next request on that connection.
            complain("remove content-length", host::remove_header(Map::Request, "content-length"));
            self.stage = Stage::Reading { silent: None };
            return Action::Continue;
        }
        self.stage = Stage::Reading { silent: Some(Silent::now(host::now())) };
        station.hold(self.own, self.root, Weak::clone(&self.me), None);
        Action::Pause
    }

    /// `bytes`: what the host has buffered of it.
    fn request_body(&mut self, station: &Station, bytes: usize, end: bool) -> Action {
        match &mut self.stage {
            Stage::Reading { silent } => *silent = None,
            Stage::Waiting | Stage::Swelling | Stage::Answered => return Action::Pause,
            // It was answered before anybody looked at it: nothing of it leaves, and the host is not to gather it.
            Stage::Open if self.unsent => {
                complain("drop the rest of a request", host::set_buffer(Buffer::Request, &[]));
                return Action::Pause;
            }
            Stage::New | Stage::Open | Stage::Untouched => return Action::Continue,
        }
        let most = self.exchange.as_ref().map_or(u64::MAX, Exchange::most_body_bytes);
        if !end && bytes as u64 <= most {
            // The host buffers, and the whole body is shown once, at its end: showing all of it at each piece would cost
            // the square of its length.
            return Action::Pause;
        }
        let body = host::buffer(Buffer::Request).unwrap_or_default();
        self.body_bytes = body.len();
        #[cfg(feature = "bench")]
        if let Some(reply) = super::bench::request_body(&body) {
            return self.answer(station, &reply);
        }
        match self.decide(station, Event::RequestBody { body: &body, end }, end.then_some(&body)) {
            Flow::Continue => self.let_through(station, Stage::Open),
            Flow::Hold if !end => Action::Pause,
            Flow::Hold => self.wait(station),
            Flow::Reply(reply) => self.answer(station, &reply),
        }
    }

    /// The body's end, when trailers follow: no body callback says so then.
    fn request_trailers(&mut self, station: &Station) -> Action {
        if let Some(exchange) = &self.exchange {
            let trailers = host::headers(Map::RequestTrailers).unwrap_or_default();
            for name in exchange.unwanted(&trailers) {
                complain("remove a trailer", host::remove_header(Map::RequestTrailers, &name));
            }
        }
        self.request_body(station, 0, true)
    }

    fn wait(&mut self, station: &Station) -> Action {
        self.stage = Stage::Waiting;
        station.hold(self.own, self.root, Weak::clone(&self.me), self.wake_at_ms.take());
        Action::Pause
    }

    fn let_through(&mut self, station: &Station, stage: Stage) -> Action {
        if self.swollen.is_some() {
            self.stage = Stage::Swelling;
            station.hold(self.own, self.root, Weak::clone(&self.me), Some(0));
            return Action::Pause;
        }
        self.stage = stage;
        match self.wake_at_ms.take() {
            // The answer may be late.
            Some(at) => station.remind(self.own, self.root, Weak::clone(&self.me), at),
            None => station.release(self.own),
        }
        Action::Continue
    }

    fn answer(&mut self, station: &Station, reply: &Reply) -> Action {
        self.stage = Stage::Answered;
        station.release(self.own);
        complain("answer", host::reply(reply));
        Action::Pause
    }

    /// What the stream waited for may be there. Called with the stream's context in effect, from a callback that is not
    /// its own.
    pub fn woken(this: &Rc<RefCell<Self>>, station: &Station) {
        let Ok(mut passage) = this.try_borrow_mut() else { return };
        match passage.stage {
            Stage::Waiting => {}
            Stage::Open if passage.waits_for_tick => {
                drop(passage);
                return Self::swell_answer(this, station);
            }
            Stage::Open => return passage.answer_woken(station),
            Stage::Swelling => {
                drop(passage);
                return Self::swell(this, station);
            }
            _ => return,
        }
        let body = if passage.has_body { host::buffer(Buffer::Request).unwrap_or_default() } else { Vec::new() };
        match passage.step(station, Event::Woken { body: &body }) {
            Flow::Continue => {
                if passage.let_through(station, Stage::Open) == Action::Continue {
                    complain("resume", host::resume_request());
                }
            }
            Flow::Hold => {
                passage.wait(station);
            }
            // And no resume: after a reply in the same callback both would happen.
            Flow::Reply(reply) => {
                passage.answer(station, &reply);
            }
        }
    }

    /// Refuses a request that waits for a body which the host reads but does not show. That is how a host behaves that
    /// lacks `allow_on_headers_stop_iteration`, whatever the policy says. A client that is slow to send is left alone.
    /// Returns whether the stream's context is in effect now.
    pub fn refuse_if_stuck(this: &Rc<RefCell<Self>>, stream: Handle, station: &Station, now: Now) -> bool {
        let Ok(mut passage) = this.try_borrow_mut() else { return false };
        let Stage::Reading { silent: Some(silent) } = passage.stage else { return false };
        if now.mono_ms < silent.since_ms.saturating_add(STUCK_MS) || host::set_context(stream).is_err() {
            return false;
        }
        let silent = Silent { size: silent.size, ..Silent::now(now) };
        if Silent::now(now).size <= silent.size {
            passage.stage = Stage::Reading { silent: Some(silent) };
            return true;
        }
        host::log(
            Severity::Error,
            "farebox: the policy says `envoy: {headers: held}`, but this host does not show the body of a request whose \
             headers are held: set allow_on_headers_stop_iteration in the plugin's configuration, or write \
             `envoy: {headers: first}`; refused with 503",
        );
        passage.answer(station, &unavailable("the gateway in front of this model is set up wrongly"));
        true
    }

    fn response_headers(&mut self, station: &Station, end: bool) -> Action {
        match self.stage {
            Stage::New | Stage::Answered => return Action::Continue,
            // Somebody else has answered a request that is still held here: too large, or timed out; or, where headers leave
            // first, its upstream has.
            Stage::Reading { .. } | Stage::Waiting | Stage::Swelling => {
                self.stage = Stage::Open;
                self.unsent = true;
                station.release(self.own);
            }
            Stage::Open | Stage::Untouched => {}
        }
        self.response_ended = end;
        let headers = host::headers(Map::Response).unwrap_or_default();
        self.content_length = headers.iter().any(|(name, _)| name == b"content-length");
        // Answers that Envoy or a filter makes up pass here too; only this detail tells them from an upstream's.
        let upstream = host::property("response\0code_details").is_some_and(|details| details == b"via_upstream");
        if upstream {
            station.fits(self.body_bytes);
        }
        let event = Event::ResponseHeaders { headers: &headers, upstream, attempts: attempts(), end };
        match self.decide(station, event, None) {
            Flow::Reply(reply) => self.answer(station, &reply),
            flow => self.answer_flows(station, &flow),
        }
    }

    fn response_body(&mut self, station: &Station, end: bool) -> Action {
        self.response_ended |= end;
        if self.stage != Stage::Open {
            return Action::Continue;
        }
        let chunk = host::buffer(Buffer::Response).unwrap_or_default();
        #[cfg(feature = "test-hooks")]
        super::probe::response_body(&chunk);
        self.chunk = chunk.len();
        self.replaced = false;
        let flow = self.decide(station, Event::ResponseBody { chunk: &chunk, end }, Some(&[]));
        if let (Some(swollen), false) = (&mut self.swollen_answer, self.replaced) {
            swollen.extend_from_slice(&chunk);
            complain("replace a piece of the response", host::set_buffer(Buffer::Response, &[]));
        }
        self.answer_flows(station, &flow)
    }

    fn response_trailers(&mut self, station: &Station) -> Action {
        self.response_ended = true;
        if self.stage != Stage::Open {
            return Action::Continue;
        }
        let flow = self.decide(station, Event::ResponseTrailers, Some(&[]));
        self.answer_flows(station, &flow)
    }

    /// What the exchange said to a piece of the answer. Of an answer that is held the host keeps nothing: the exchange has
    /// all of it, so each piece that arrives meanwhile is shown alone.
    fn answer_flows(&mut self, station: &Station, flow: &Flow) -> Action {
        if let Flow::Reply(reply) = flow {
            return self.answer(station, reply);
        }
        self.answer_held = *flow == Flow::Hold;
        self.waits_for_tick = self.swollen_answer.is_some() && !self.answer_held && !self.broken;
        if self.waits_for_tick {
            self.answer_held = true;
            station.hold(self.own, self.root, Weak::clone(&self.me), Some(0));
            return Action::Pause;
        }
        match self.wake_at_ms.take() {
            Some(at) if self.answer_held => station.hold(self.own, self.root, Weak::clone(&self.me), Some(at)),
            Some(at) => station.remind(self.own, self.root, Weak::clone(&self.me), at),
            None if !self.answer_held => station.release(self.own),
            None => {}
        }
        if self.answer_held { Action::Pause } else { Action::Continue }
    }

    /// What a running answer waited for may be there, or its stream is to be broken off.
    fn answer_woken(&mut self, station: &Station) {
        let held = self.answer_held;
        let flow = self.step(station, Event::Woken { body: &[] });
        self.answer_flows(station, &flow);
        if held && !self.answer_held && !self.broken && self.stage == Stage::Open {
            complain("resume the answer", host::resume_response());
        }
    }

    fn over(&mut self, station: &Station) {
        station.release(self.own);
        if self.exchange.is_none() {
            return;
        }
        let cause = if self.stage == Stage::Answered { Cause::Finished } else { cause(self.response_ended) };
        let attempts = if self.unsent { 0 } else { attempts() };
        self.decide(station, Event::Over { cause, attempts }, None);
        self.exchange = None;
    }

    /// Shows an event to the exchange and does what has become due. `complete` is the whole request body when all of it is
    /// here: only then can the exchange wait, and be woken before this callback returns.
    fn decide(&mut self, station: &Station, event: Event<'_>, complete: Option<&[u8]>) -> Flow {
        let mut flow = self.step(station, event);
        for _ in 0..ROUNDS {
            let woken = station.turn(Site::Stream { own: self.own, root: self.root });
            let (Some(body), Flow::Hold, true) = (complete, &flow, woken) else { break };
            flow = self.step(station, Event::Woken { body });
        }
        flow
    }

    fn step(&mut self, station: &Station, event: Event<'_>) -> Flow {
        let Some(exchange) = &mut self.exchange else { return Flow::Continue };
        let (flow, effects) = station.run(|vm, cells, effects| exchange.handle(event, host::now(), vm, cells, effects));
        for effect in effects {
            self.apply(station, effect);
        }
        flow
    }

    fn apply(&mut self, station: &Station, effect: Effect) {
        match effect {
            Effect::SetRequestHeader(name, value) => {
                complain("set a request header", host::set_header(Map::Request, &name, &value));
            }
            Effect::RemoveRequestHeader(name) => {
                complain("remove a request header", host::remove_header(Map::Request, &name));
            }
            Effect::Retry(retry) => tries::order(&retry),
            Effect::ReplaceRequestBody(body) => self.replace_request_body(station, body),
            Effect::SetResponseHeader(name, value) => {
                complain("set a response header", host::set_header(Map::Response, &name, &value));
            }
            Effect::RemoveResponseHeader(name) => {
                self.content_length &= name != "content-length";
                complain("remove a response header", host::remove_header(Map::Response, &name));
            }
            Effect::ReplaceChunk(bytes) => self.replace_chunk(station, bytes),
            Effect::Break => {
                self.broken = true;
                complain("break the stream off", host::break_off());
            }
            Effect::Note(key, value) => complain("set filter state", host::note(key, &value)),
            Effect::WakeAt(at) => self.wake_at_ms = Some(at),
            // The station has carried these out.
            Effect::Count { .. } | Effect::Gauge { .. } | Effect::Log(..) | Effect::Wake(_) | Effect::SyncSoon => {}
        }
    }
}

/// An answer of the host adapter itself, in a shape that both the OpenAI and the Anthropic SDKs read.
fn unavailable(why: &str) -> Reply {
    let body =
        format!(r#"{{"type":"error","error":{{"type":"api_error","code":"farebox_unavailable","message":"{why}"}}}}"#);
    let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    Reply { status: 503, headers, body: body.into_bytes() }
}

/// Envoy's response flags, one bit each.
mod flag {
    /// No healthy upstream, connection failure, name resolution.
    pub const NOT_CONNECTED: u64 = 0x2 | 0x20 | 0x400_0000;
    /// Overflow (a circuit breaker of Envoy's own), no route, no cluster.
    pub const UNROUTED: u64 = 0x80 | 0x100 | 0x100_0000;
    /// The client closed its connection (also: the proxy shuts down), or reset its HTTP/2 stream.
    pub const DOWNSTREAM_CLOSED: u64 = 0x4000 | 0x1000_0000;
    /// Timeout, reset by Envoy, by the upstream, connection closed, out of retries, longest duration twice, broken protocol.
    pub const UPSTREAM_BROKE: u64 = 0x4 | 0x8 | 0x10 | 0x40 | 0x8000 | 0x8_0000 | 0x40_0000 | 0x80_0000;
    /// Nothing came or went for too long; the route's or the connection manager's idle timeout.
    pub const IDLE: u64 = 0x1_0000;
}

/// Tries that Envoy made upstream so far.
fn attempts() -> u32 {
    let attempts = host::number("upstream\0request_attempt_count").unwrap_or(0);
    u32::try_from(attempts).unwrap_or(u32::MAX)
}

/// Why a stream is over, from what Envoy says in `on_log`.
fn cause(response_ended: bool) -> Cause {
    let flags = host::number("response\0flags").unwrap_or(0);
    if flags & flag::DOWNSTREAM_CLOSED != 0 {
        let details = host::property("response\0code_details").unwrap_or_default();
        let local = details.starts_with(b"downstream_local_disconnect");
        return if local { Cause::Shutdown } else { Cause::ClientAbort };
    }
    if flags & flag::NOT_CONNECTED != 0 {
        Cause::ConnectFailure
    } else if flags & flag::UNROUTED != 0 {
        Cause::Unrouted
    } else if flags & (flag::UPSTREAM_BROKE | flag::IDLE) != 0 {
        Cause::UpstreamReset
    } else if flags == 0 && response_ended {
        Cause::Finished
    } else {
        // A reset of our own leaves no flag.
        Cause::Other
    }
}
