//! One response, as it streams past.

use std::mem;
use std::ops::ControlFlow::Continue;

use super::answer::{Answer, MOST_REPEATED, Said};
use super::bytes::Bytes;
use super::count::Encoding;
use super::cues::Cues;
use super::dialect::{BARE, Dialect, Host};
use super::framing::{Framing, Piece};
use super::loose::Ending;
use super::manner::{Calls, Manner};
use super::stream::{Report, Stream};
use super::unpack::{self, Unpacker};
use super::usage::Usage;
use super::watch::{MayCall, Watch};
use super::{LONGEST_DOCUMENT, eventstream, partial, sse, values};

/// The most choices that a stream is ended of when it is cut: eight times as many as anybody gives (OpenAI's `n`).
const MOST_ENDED: u64 = 1_024;

/// The longest JSON answer that is counted whenever somebody asks, in bytes.
const SHORT_JSON: usize = 16 * 1024;

/// What leaves towards the client in place of a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forward {
    /// The chunk as it is.
    Same,
    /// These bytes.
    Replace(Vec<u8>),
}

/// One response: what was delivered, counted here, and what the provider reported.
///
/// Feed it every chunk of the body, in order; the cuts between them change nothing. Memory is bounded: 8 MiB
/// for a JSON answer (a longer one is unreadable), 1 MiB and what is being forwarded for an event of a
/// stream (a longer one is skipped and makes the answer unreadable), as much again for what waits, some KiB a
/// text for counting; of a compressed one also what later bytes may refer to, up to 24 MiB of zstd.
///
/// A stream can be [kept to](Self::keep_to) a number of output tokens: see [`stream`](super::stream).
#[derive(Debug)]
pub struct Reader {
    dialect: Dialect,
    encoding: Encoding,
    status: u16,
    hide_usage: bool,
    declared: Declared,
    terms: Option<Terms>,
    /// What compressed bytes go through before they are read.
    unpacker: Option<Unpacker>,
    body: Body,
    ended: Ended,
    /// Tools that the answer had called when it was cut.
    calls_at_cut: Option<u64>,
    answer: Answer,
    /// What the headers said about usage.
    in_headers: Option<Usage>,
    unreadable: Option<&'static str>,
}

/// What a stream is kept to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Output tokens that may be delivered, by the count that is kept here.
    pub allowance: u64,
    /// How many answers were asked for.
    pub choices: u64,
    /// Whether the client asked for usage on the stream.
    pub tells_usage: bool,
    /// What cannot be read, as an event above 1 MiB, passes all the same: it is only to be cut, and not for what it says.
    pub unweighed: bool,
}

/// What must be allowed so that a stream can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// So many output tokens in all.
    Tokens(u64),
    /// No allowance helps: an event above 1 MiB, or more behind an event than is kept.
    Never,
}

/// What remains to be told of a stream that has ended.
#[derive(Clone, Copy, Debug, Default)]
struct Ended {
    cut_at: Option<u64>,
    graced: u64,
}

/// How the body is framed.
#[derive(Clone, Debug)]
enum Body {
    /// Nothing but white space so far.
    Unknown,
    /// Events, however they are framed.
    Stream(Stream),
    Json(Json),
    /// Text as it is; up to three bytes of a character that is not whole yet, and what it says of its length.
    Text(Vec<u8>, Cues),
    /// Sound, in which there is nothing to read.
    Sound,
    /// Bytes of no format that is known.
    Bytes(Bytes),
    /// Not read (any more), or ended.
    Deaf,
}

/// What the content type promises, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Declared {
    /// Server-sent events; also other text and bytes of no kind, under which some send them.
    Events,
    /// Text as it is.
    Text,
    /// Sound, or whatever else a dialect of sound sends.
    Sound,
    /// JSON.
    Json,
    /// Something else.
    Other,
}

impl Declared {
    fn of(dialect: Dialect, kind: &[u8]) -> Self {
        let events = kind.starts_with(b"text/event-stream");
        match dialect {
            Dialect::OpenAiTranscription if kind.starts_with(b"text/") && !events => Self::Text,
            Dialect::OpenAiSpeech | Dialect::MiniMaxSpeech if !events && !kind.starts_with(b"application/json") => {
                Self::Sound
            }
            _ if kind.starts_with(b"text/") || kind.starts_with(b"application/octet-stream") => Self::Events,
            _ if kind.starts_with(b"application/json") => Self::Json,
            _ => Self::Other,
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Json {
    kept: Vec<u8>,
    /// Output tokens when they were last counted, and the length then.
    counted: (u64, usize),
}

impl Reader {
    /// A response with these headers, none of its body seen yet.
    ///
    /// `hide_usage`: usage was asked for on the client's behalf, so the chunk that only carries it is taken out
    /// of what the client sees.
    pub fn new(
        dialect: Dialect,
        encoding: Encoding,
        status: u16,
        content_type: Option<&[u8]>,
        content_encoding: Option<&[u8]>,
        hide_usage: bool,
    ) -> Self {
        let plain = content_encoding.map(<[u8]>::trim_ascii).unwrap_or_default();
        let compressed = !plain.is_empty() && !plain.eq_ignore_ascii_case(b"identity");
        // What is counted by its bytes is counted as it is sent.
        let compressed = compressed && dialect != Dialect::Bytes;
        let unpacker = if compressed { Unpacker::of(plain) } else { None };
        let kind = content_type.unwrap_or(b"text/event-stream").trim_ascii_start().to_ascii_lowercase();
        Self {
            dialect,
            encoding,
            status,
            // Of a compressed stream nothing can be taken out.
            hide_usage: hide_usage && dialect.must_ask_for_usage() && !compressed,
            declared: Declared::of(dialect, &kind),
            terms: None,
            body: if compressed && unpacker.is_none() { Body::Deaf } else { Body::Unknown },
            unreadable: (compressed && unpacker.is_none()).then_some("compressed"),
            unpacker,
            ended: Ended::default(),
            calls_at_cut: None,
            answer: Answer::new(encoding),
            in_headers: None,
        }
    }

    /// The next chunk of the body, and whether it is the last. Says what leaves in its place.
    ///
    /// Bytes are only ever held back on a stream, when usage is to be hidden or the stream is kept to terms: an
    /// incomplete event waits for its end, for the end of the body, or until it is longer than 1 MiB; and what would
    /// pass the allowance waits until more is allowed ([`waits`](Self::waits)).
    pub fn push(&mut self, chunk: &[u8], end: bool) -> Forward {
        let Some(mut unpacker) = self.unpacker.take() else { return self.take_in(chunk, end) };
        let unpacked = unpacker.push(chunk, |bytes| {
            self.take_in(bytes, false);
        });
        match unpacked {
            Ok(()) if end && unpacker.is_barren() => self.give_up(unpack::BROKEN),
            Ok(()) => self.unpacker = Some(unpacker),
            Err(why) => self.give_up(why),
        }
        if end {
            self.take_in(b"", true);
        }
        Forward::Same
    }

    /// Reads no further. What was delivered until now counts.
    fn give_up(&mut self, why: &'static str) {
        if let Body::Json(json) = mem::replace(&mut self.body, Body::Deaf) {
            self.answer.tally.add(json.so_far(self.encoding));
        }
        self.unreadable = Some(why);
    }

    fn take_in(&mut self, chunk: &[u8], end: bool) -> Forward {
        let lead = self.sniff(chunk, end);
        let rest = chunk.get(lead..).unwrap_or_default();
        let forward = match &mut self.body {
            Body::Stream(stream) => {
                let mut forward = chunk.get(..lead).unwrap_or_default().to_vec();
                let report = Report { answer: &mut self.answer, unreadable: &mut self.unreadable };
                stream.push(rest, end, report, &mut forward);
                if stream.changes() && forward != chunk { Forward::Replace(forward) } else { Forward::Same }
            }
            Body::Json(json) => {
                if !json.push(rest, self.encoding) {
                    self.give_up("an answer above 8 MiB");
                }
                Forward::Same
            }
            Body::Text(carry, cues) => {
                cues.push(rest);
                text(&mut self.answer, carry, rest);
                Forward::Same
            }
            Body::Bytes(bytes) => bytes.push(chunk, end, &mut self.answer.tally),
            Body::Unknown | Body::Deaf | Body::Sound => Forward::Same,
        };
        if end && self.waits().is_none() {
            self.end();
        }
        forward
    }

    /// Takes in a response header, its name in lower case: Bedrock tells usage there.
    pub fn header(&mut self, name: &[u8], value: &[u8]) {
        let mut usage = self.in_headers.unwrap_or_default();
        if self.dialect.read_header(&mut usage, name, value) {
            self.in_headers = Some(usage);
        }
    }

    /// Each event of the stream has what is new alone, as the request asked ([`Call::in_pieces`](super::call::Call)).
    pub fn comes_in_pieces(&mut self) {
        self.answer.in_pieces = true;
    }

    /// Keeps a stream to terms, from before its first chunk.
    pub fn keep_to(&mut self, terms: Terms) {
        // Of a compressed stream nothing can be taken out.
        self.terms = Some(terms).filter(|_| self.unpacker.is_none());
    }

    /// Watches which tools the answer calls, from before its first chunk. `enforced`: a stream that is kept to terms never
    /// passes an event on that calls another; it waits, and can only be cut.
    pub fn watch(&mut self, may: MayCall, enforced: bool) {
        self.answer.watch = Watch::new(may, enforced);
    }

    /// The first tool that the answer calls and may not: of a document it is known when it has ended.
    pub fn forbidden(&self) -> Option<&str> {
        self.answer.watch.forbidden()
    }

    /// Whether a body whose first bytes these are is one JSON document. `None`: they are only white space. `streams`: a stream
    /// was asked for, which in some dialects begins like a document.
    pub fn begins_document(&self, chunk: &[u8], streams: bool) -> Option<bool> {
        let first = chunk.iter().find(|byte| !byte.is_ascii_whitespace() && !matches!(byte, 0xef | 0xbb | 0xbf))?;
        let told = matches!(self.declared, Declared::Text | Declared::Sound) || self.unpacker.is_some();
        let alike = streams && self.dialect.sends_objects();
        Some(matches!(first, b'{' | b'[') && !told && !alike && !matches!(self.body, Body::Deaf))
    }

    /// Whether the answer is a stream that is kept to terms; only such a one can be cut and ended legally.
    pub fn is_kept(&self) -> bool {
        self.terms.is_some() && matches!(self.body, Body::Stream(_)) && self.cut_at().is_none()
    }

    /// Whether the stream is in the middle of an event that is not read, of which a part has left: behind that no other
    /// event can be put.
    pub fn is_amid_unread(&self) -> bool {
        matches!(&self.body, Body::Stream(stream) if stream.is_amid_unread())
    }

    /// Whether its headers say that it is JSON.
    pub fn is_declared_json(&self) -> bool {
        self.declared == Declared::Json
    }

    /// The output tokens that must be allowed so that the event that comes next can leave. `None`: nothing waits.
    pub fn waits(&self) -> Option<Need> {
        let stream = match &self.body {
            Body::Stream(stream) => stream,
            Body::Bytes(bytes) => return bytes.waits(),
            _ => return None,
        };
        stream.waits().map(|needs| needs.map_or(Need::Never, Need::Tokens))
    }

    /// Allows a stream that is kept to terms so many output tokens in all. What waits leaves by [`go_on`](Self::go_on).
    pub fn allow(&mut self, tokens: u64) {
        let Some(terms) = &mut self.terms else { return };
        terms.allowance = tokens;
        match &mut self.body {
            Body::Stream(stream) => stream.allow(tokens),
            Body::Bytes(bytes) => bytes.allow(tokens),
            _ => {}
        }
    }

    /// Lets the calls of tools that are under way end within `tokens` more, once. `false`: there is none.
    pub fn give_grace(&mut self, tokens: u64) -> bool {
        let Body::Stream(stream) = &mut self.body else { return false };
        self.terms.is_some() && stream.give_grace(tokens, &mut self.answer)
    }

    /// Output tokens that were delivered by grace.
    pub fn graced(&self) -> u64 {
        match &self.body {
            Body::Stream(stream) => stream.graced(),
            _ => self.ended.graced,
        }
    }

    /// What leaves now of that which waited.
    pub fn go_on(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        let over = match &mut self.body {
            Body::Stream(stream) => {
                let report = Report { answer: &mut self.answer, unreadable: &mut self.unreadable };
                stream.go_on(report, &mut out)
            }
            Body::Bytes(bytes) => {
                out = bytes.release(&mut self.answer.tally);
                bytes.is_over()
            }
            _ => false,
        };
        if over {
            self.end();
        }
        out
    }

    /// Ends the stream towards the client. Answers the bytes by which its dialect ends a stream at its length limit;
    /// nothing may follow them. What still comes is read for what the provider reports, and nothing of it leaves.
    /// `input`: the input tokens, for a client that asked for usage, where the provider has not said them.
    pub fn cut(&mut self, input: u64) -> Vec<u8> {
        if let Body::Bytes(bytes) = &mut self.body {
            bytes.cut();
            if bytes.is_over() {
                self.end();
            }
            return Vec::new();
        }
        let (Some(terms), Body::Stream(stream)) = (self.terms, &mut self.body) else { return Vec::new() };
        if stream.cut_at().is_some() {
            return Vec::new();
        }
        let mut loose = self.answer.loose.clone();
        let (bare, message) = (self.answer.repeated(0, BARE), self.answer.repeated(0, 0));
        let one = message.or(bare).unwrap_or_default().to_owned();
        let bare = bare.is_some() && message.is_none();
        let others = (1..terms.choices.min(MOST_REPEATED)).map(|of| self.answer.repeated(of, 0).unwrap_or_default());
        let so_far: Vec<String> = std::iter::once(one).chain(others.map(str::to_owned)).collect();
        self.calls_at_cut = Some(self.answer.tool_calls);
        self.answer.watch.close();
        let report = Report { answer: &mut self.answer, unreadable: &mut self.unreadable };
        let over = stream.cut(report);
        // The first event may be the one that waited; it names the answer.
        loose.named(self.answer.loose.id.as_deref(), self.answer.loose.created.as_deref());
        loose.family = loose.family.or(self.answer.loose.family);
        loose.lists |= self.answer.loose.lists;
        let (output, within) = (stream.cut_at().unwrap_or(0), stream.within());
        let usage = Usage { output, ..self.answer.opening.unwrap_or(Usage { input, ..Usage::default() }) };
        let bytes = self.dialect.ending(&Ending {
            within,
            loose: &loose,
            model: self.answer.served.as_deref(),
            usage,
            tells_usage: terms.tells_usage,
            choices: terms.choices.min(MOST_ENDED),
            so_far: &so_far,
            bare,
        });
        if over {
            self.end();
        }
        bytes
    }

    /// Whether it was cut.
    pub fn is_cut(&self) -> bool {
        self.cut_at().is_some()
    }

    fn cut_at(&self) -> Option<u64> {
        match &self.body {
            Body::Stream(stream) => stream.cut_at(),
            Body::Bytes(bytes) => bytes.cut_at(),
            _ => self.ended.cut_at,
        }
    }

    /// Output tokens passed to the client so far: text, thinking, names and arguments of tool calls. Exact for
    /// the vocabulary once the body has ended; before that a few tokens of an unfinished word may be off. Of an
    /// oversized JSON answer only the first 8 MiB are counted.
    pub fn delivered(&self) -> u64 {
        if let Some(delivered) = self.cut_at() {
            return delivered;
        }
        let json = match &self.body {
            Body::Json(json) => json.so_far(self.encoding),
            Body::Stream(stream) => partial::count(self.encoding, stream.unread()),
            _ => 0,
        };
        self.answer.tally.so_far().saturating_add(json)
    }

    /// Output tokens as its provider would count them, by what was delivered and by what models of this name write beside
    /// it: marks around thoughts, calls and the end. Of an answer that is not complete, what was delivered.
    pub fn written(&self, model: &str, host: Host) -> u64 {
        let delivered = self.delivered();
        if !self.finished() || self.is_cut() || delivered == 0 || self.dialect == Dialect::Bytes {
            return delivered;
        }
        let manner = Manner::of(self.served().unwrap_or(model), self.dialect, host);
        let respelt = self.answer.respelt;
        let arguments = self.answer.tally.arguments();
        let (apart, calls) = match manner.calls {
            Calls::Json => (0, 0),
            Calls::Words => (respelt.json.saturating_add(arguments.signs), respelt.words),
            Calls::Notation => (respelt.json, respelt.notation),
        };
        let texts = manner.texts(delivered.saturating_sub(apart)).saturating_add(calls);
        let texts = texts.saturating_add(manner.cuts.more(self.answer.tally.seams()));
        texts.saturating_add(manner.unseen(self.tool_calls(), arguments, self.thoughts() > 0))
    }

    /// Of the output tokens delivered those of thoughts. What a model thought may be more: some providers pass on a
    /// summary, others nothing.
    pub fn thoughts(&self) -> u64 {
        self.answer.tally.thoughts()
    }

    /// Whether there is something of the answer, once a byte of it has come: a token of a stream, or its end; of anything
    /// else a byte that is no white space.
    pub fn has_begun(&self) -> bool {
        let answer = &self.answer;
        match &self.body {
            Body::Unknown => false,
            Body::Stream(stream) => {
                let ends = answer.ended || answer.finished || answer.error;
                let held = stream.waits().is_some() || stream.cut_at().is_some();
                let unread = self.unreadable.is_some() || stream.is_amid_unread();
                ends || held || unread || answer.tally.ceiling() > 0 || answer.made != Usage::default()
            }
            Body::Json(_) | Body::Text(..) | Body::Sound | Body::Bytes(_) | Body::Deaf => true,
        }
    }

    /// Whether the answer is complete: `[DONE]`, `message_stop`, a whole JSON value; or, as some providers
    /// end without them, a finish reason and then the end of the body.
    pub fn finished(&self) -> bool {
        self.answer.finished
    }

    /// Whether the answer only promises work that goes on behind it. `deferred`: so it was asked for, and then whatever has
    /// not come to its end does.
    pub fn only_promises(&self, deferred: bool) -> bool {
        self.answer.queued.unwrap_or(deferred && !self.answer.ended)
    }

    /// Whether a 2xx answer carries an error in its body or stream.
    pub fn error_inside(&self) -> bool {
        (200..300).contains(&self.status) && self.answer.error
    }

    /// Tools that the answer calls, so far.
    pub fn tool_calls(&self) -> u64 {
        self.calls_at_cut.unwrap_or(self.answer.tool_calls)
    }

    /// The model that the provider says it served.
    pub fn served(&self) -> Option<&str> {
        self.answer.served.as_deref()
    }

    /// The usage that the provider reported last. `None`: none, or one that cannot be (negative, no whole
    /// number, above 100 million).
    pub fn reported(&self) -> Option<Usage> {
        let Usage { images, characters, seconds, .. } = self.answer.made;
        let usage = match self.answer.said {
            Said::Usage(usage) => usage,
            Said::Nothing | Said::Absurd => return None,
        };
        // What was seen in the answer stands where the provider does not count it.
        let or = |told: u64, seen: u64| if told > 0 { told } else { seen };
        Some(Usage {
            images: or(usage.images, images),
            characters: or(usage.characters, characters),
            seconds: or(usage.seconds, seconds),
            ..usage
        })
    }

    /// Whether there was sound in it, of which nobody can tell what it says.
    pub fn sounded(&self) -> bool {
        self.answer.sounded
    }

    /// What was seen in the answer that is not counted in tokens: images, characters, seconds; the rest is 0.
    pub fn made(&self) -> Usage {
        self.answer.made
    }

    /// Whether the provider said what it wrote and not what it read.
    pub fn input_silent(&self) -> bool {
        self.answer.input_silent && self.reported().is_some()
    }

    /// What the provider said about the input when it began, the output being 0: Anthropic does. It holds
    /// although the stream broke off before [`reported`](Self::reported).
    pub fn reported_input(&self) -> Option<Usage> {
        self.answer.opening.filter(|_| self.answer.said != Said::Absurd)
    }

    /// What the provider said, as far as it got: what it [reported](Self::reported), else of the
    /// [input](Self::reported_input).
    pub fn said(&self) -> Option<Usage> {
        self.reported().or(self.reported_input())
    }

    /// Whether the provider reported a usage that cannot be.
    pub fn absurd(&self) -> bool {
        self.answer.said == Said::Absurd
    }

    /// Why the answer, or a part of it, could not be read.
    pub fn unreadable(&self) -> Option<&'static str> {
        self.unreadable
    }

    /// Tells JSON from a stream by the first byte that is no white space: providers answer with JSON errors
    /// where a stream was asked for, and with streams under no content type at all. Returns how many bytes of
    /// the chunk come before the body proper.
    fn sniff(&mut self, chunk: &[u8], end: bool) -> usize {
        if !matches!(self.body, Body::Unknown) {
            return 0;
        }
        if self.dialect == Dialect::Bytes {
            self.body = Body::Bytes(Bytes::new(self.terms.map(|terms| terms.allowance)));
            return 0;
        }
        if self.declared == Declared::Text {
            self.body = Body::Text(Vec::new(), Cues::default());
            return 0;
        }
        let frames = self.dialect.sends_frames();
        if self.declared == Declared::Sound && chunk.first().is_some_and(|first| !frames || *first != 0) {
            self.body = Body::Sound;
            return 0;
        }
        // A byte order mark is three bytes that no JSON or stream begins with.
        let lead = chunk.iter().take_while(|b| b.is_ascii_whitespace() || matches!(b, 0xef | 0xbb | 0xbf)).count();
        self.body = match chunk.get(lead) {
            Some(0) if frames => self.stream(Framing::Messages(eventstream::Frames::default())),
            Some(b'{' | b'[') if self.dialect.sends_objects() => {
                self.stream(Framing::Objects(values::Values::default()))
            }
            Some(b'{' | b'[') => Body::Json(Json::default()),
            // No JSON begins so; some servers call their streams JSON, or what they please.
            Some(b':' | b'd' | b'e' | b'i' | b'r') => self.stream(Framing::Events(sse::Frames::default())),
            Some(_) => {
                self.unreadable = Some("neither JSON nor an event stream");
                Body::Deaf
            }
            None => {
                if end {
                    // What could not be unpacked has its own reason.
                    self.unreadable.get_or_insert("empty");
                }
                Body::Unknown
            }
        };
        lead
    }

    /// A stream of events, kept to its terms.
    fn stream(&self, framing: Framing) -> Body {
        let allowance = self.terms.map(|terms| terms.allowance);
        let unweighed = self.terms.is_some_and(|terms| terms.unweighed);
        Body::Stream(Stream::new(self.dialect, framing, self.hide_usage, allowance, unweighed))
    }

    fn end(&mut self) {
        match mem::replace(&mut self.body, Body::Deaf) {
            Body::Json(json) => {
                let text = String::from_utf8_lossy(&json.kept);
                self.answer.finished = self.dialect.read_body(&mut self.answer, &text);
                if !self.answer.finished && !several(self.dialect, &mut self.answer, &json.kept) {
                    self.unreadable = Some("broken JSON");
                    self.answer.tally.add(partial::count(self.encoding, &json.kept));
                }
            }
            Body::Stream(stream) => self.end_stream(&stream),
            Body::Text(carry, mut cues) => {
                cues.end();
                self.answer.made.seconds = cues.seconds();
                self.answer.speak_plain(&String::from_utf8_lossy(&carry));
                self.answer.finished = true;
            }
            Body::Sound => self.answer.finished = true,
            Body::Bytes(bytes) => {
                self.answer.finished = true;
                self.ended.cut_at = bytes.cut_at();
            }
            Body::Unknown | Body::Deaf => {}
        }
        if let (Said::Nothing, Some(usage)) = (self.answer.said, self.in_headers) {
            self.answer.said = Said::Usage(usage);
        }
        self.answer.tally.end_all();
    }

    fn end_stream(&mut self, stream: &Stream) {
        let (answer, whole) = (&mut self.answer, stream.framing().is_whole());
        match stream.framing() {
            Framing::Events(_) => {
                if !answer.heard && self.declared != Declared::Events {
                    self.unreadable = Some("neither JSON nor an event stream");
                }
                answer.finished |= answer.ended;
            }
            // A whole answer ends with its last brace; a stream has a reason for its end.
            Framing::Objects(_) if whole => {
                answer.finished |= answer.ended || !answer.tally.is_empty() || answer.error;
            }
            Framing::Objects(_) => {
                self.unreadable.get_or_insert("broken JSON");
                answer.tally.add(partial::count(self.encoding, stream.unread()));
            }
            Framing::Messages(_) => {
                answer.finished |= answer.ended && whole;
                if !whole {
                    self.unreadable.get_or_insert("a frame that was cut");
                }
            }
        }
        self.ended = Ended { cut_at: stream.cut_at(), graced: stream.graced() };
    }
}

/// Reads objects that follow each other where one was expected: lines, or an array. Whether that is what they are.
fn several(dialect: Dialect, answer: &mut Answer, bytes: &[u8]) -> bool {
    let mut check = values::Values::default();
    check.push(bytes, |_| Continue(()));
    if !check.is_whole() {
        return false;
    }
    values::Values::default().push(bytes, |piece| {
        if let Piece::Event(value) = piece {
            dialect.read_event(answer, &String::from_utf8_lossy(value));
        }
        Continue(())
    });
    answer.finished |= answer.ended || answer.error;
    true
}

/// More text as it is, cut where a character begins that is not whole yet.
fn text(answer: &mut Answer, carry: &mut Vec<u8>, bytes: &[u8]) {
    carry.extend_from_slice(bytes);
    let long = |byte: u8| match byte {
        0xf0..=0xff => 4,
        0xe0..=0xef => 3,
        0xc0..=0xdf => 2,
        _ => 1,
    };
    let cut = carry.iter().rev().take(3).position(|byte| *byte >= 0xc0);
    let cut = cut.filter(|back| carry.iter().rev().nth(*back).is_some_and(|byte| long(*byte) > back.saturating_add(1)));
    let rest = carry.split_off(carry.len().saturating_sub(cut.map_or(0, |back| back.saturating_add(1))));
    answer.speak_plain(&String::from_utf8_lossy(carry));
    *carry = rest;
}

impl Json {
    /// Keeps a chunk; whether there was room for it. Counting is repeated when the body has doubled, so the work
    /// grows with the body only.
    fn push(&mut self, chunk: &[u8], encoding: Encoding) -> bool {
        if self.kept.len().saturating_add(chunk.len()) > LONGEST_DOCUMENT {
            return false;
        }
        self.kept.extend_from_slice(chunk);
        if self.kept.len() > SHORT_JSON && self.kept.len() >= self.counted.1.saturating_mul(2) {
            self.counted = (partial::count(encoding, &self.kept), self.kept.len());
        }
        true
    }

    /// Output tokens in what is here; of long bodies the newest part is estimated at four bytes a token.
    fn so_far(&self, encoding: Encoding) -> u64 {
        let (tokens, length) = self.counted;
        if self.kept.len() <= SHORT_JSON {
            return partial::count(encoding, &self.kept);
        }
        tokens.saturating_add(self.kept.len().saturating_sub(length) as u64 / 4)
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
