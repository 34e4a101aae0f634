//! An answer whose texts are changed on their way, and nothing else of it.
//!
//! The texts of an answer (its words, thoughts, arguments of tools) go through a [`Filter`], which may give out less
//! than it got and the rest later. Only events whose text changed are written anew, and of these only the strings; an
//! event is never split. What the filter still holds when a text ends is sent in an event of its own before the one that
//! ends it. A JSON answer is kept until its end, because nothing of it can be sent before its texts are whole.
//!
//! A secret that a provider spreads over two texts is none: each choice, each kind of text and each tool call is filtered
//! for itself. What repeats the text in another form (log probabilities; OpenRouter's `reasoning_details`) is taken out,
//! and strings in places that we do not know are filtered one by one.
//!
//! ```text
//!   bytes ──▶ stream: framing ──▶ texts ──▶ outline, by the table of the dialect
//!                  ▲                │  ▲
//!                  └─ edits, events ┘  └──▶ filter
//! ```
//!
//! Where texts stand in each dialect says one [`table`]; how an event is added it says too: as the one with which the
//! text began, with nothing in it but the text and what all events have.

mod outline;
mod stream;
mod table;
mod texts;

use super::dialect::Dialect;
use super::framing::Framing;
use super::json;
use super::loose::Within;
use super::{LONGEST_DOCUMENT, eventstream, sse, values};
use stream::{Left, Stream};
use texts::Texts;

/// One of the texts of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which choice, content block or item, from 0.
    part: u64,
    /// Which tool call of it, or which piece of content, from 0.
    call: Option<u64>,
    /// The key under which the text comes, such as `content` or `partial_json`.
    key: String,
    json: bool,
    again: bool,
}

impl Place {
    /// A text by itself.
    fn whole(json: bool, again: bool) -> Self {
        Self { part: u64::MAX, call: None, key: String::new(), json, again }
    }

    /// Whether the text is itself JSON, so that what is put into it must be escaped.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Whether it tells again what has come in pieces.
    pub fn is_again(&self) -> bool {
        self.again
    }
}

/// What changes the texts of an answer.
pub trait Filter {
    /// The next piece of a text; adds to `out` what may leave.
    fn push(&mut self, place: &Place, text: &str, out: &mut String);
    /// The text is over: adds the rest. More at the same place is a new text.
    fn finish(&mut self, place: &Place, out: &mut String);
    /// Nothing may leave any more.
    fn stopped(&self) -> bool;
}

/// Why an answer cannot be filtered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfiltered(
    /// In words for the operator.
    pub &'static str,
);

/// What is known of an answer before its first byte.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The wire format.
    pub dialect: Dialect,
    /// A stream was asked for.
    pub stream: bool,
    /// Each event has what is new alone ([`Call::in_pieces`](super::call::Call)).
    pub in_pieces: bool,
    /// The header of this name.
    pub content_type: Option<&'a [u8]>,
    /// The header of this name.
    pub content_encoding: Option<&'a [u8]>,
}

/// One answer on its way.
#[derive(Clone, Debug)]
pub struct Rewriter {
    dialect: Dialect,
    stream: bool,
    /// Text as it is, by its content type.
    plain: bool,
    texts: Texts,
    body: Body,
    failed: Option<Unfiltered>,
}

#[derive(Clone, Debug)]
enum Body {
    Unknown,
    Stream(Box<Stream>),
    Json(Json),
    /// Text as it is; up to three bytes of a character that is not whole yet.
    Plain(Vec<u8>),
}

/// A JSON answer, until it is complete.
#[derive(Clone, Debug)]
struct Json {
    texts: Texts,
    kept: Vec<u8>,
    closing: json::Closing,
    complete: bool,
}

impl Rewriter {
    /// An answer of which nothing has come. `None`: answers of this dialect carry no text.
    pub fn new(expected: &Expected<'_>) -> Option<Self> {
        let Expected { dialect, stream, in_pieces, content_type, content_encoding } = *expected;
        if dialect == Dialect::Bytes {
            return Self::of_text(content_type, content_encoding);
        }
        let encoding = content_encoding.map(<[u8]>::trim_ascii).unwrap_or_default();
        let compressed = !encoding.is_empty() && !encoding.eq_ignore_ascii_case(b"identity");
        let failed = compressed.then_some(Unfiltered("the answer is compressed"));
        let kind = content_type.unwrap_or_default().trim_ascii_start().to_ascii_lowercase();
        let text = kind.starts_with(b"text/") && !kind.starts_with(b"text/event-stream");
        let plain = dialect == Dialect::OpenAiTranscription && text;
        let texts = Texts::of(dialect, in_pieces)?;
        Some(Self { dialect, stream, plain, texts, body: Body::Unknown, failed })
    }

    /// An answer in no format that is known, of which nothing has come: one text. `None`: by its content type it is none.
    pub fn of_text(content_type: Option<&[u8]>, content_encoding: Option<&[u8]>) -> Option<Self> {
        if content_type.is_some_and(is_no_text) {
            return None;
        }
        let dialect = Dialect::OpenAiTranscription;
        let (stream, in_pieces) = (false, false);
        let whole = Self::new(&Expected { dialect, stream, in_pieces, content_type, content_encoding })?;
        Some(Self { plain: true, ..whole })
    }

    /// Why the answer, from here on, is not filtered but passes as it is: for the caller to break it off.
    pub fn failed(&self) -> Option<Unfiltered> {
        self.failed
    }

    /// Whether the answer has turned out to be a stream, of which something may have left.
    pub fn is_stream(&self) -> bool {
        matches!(self.body, Body::Stream(_) | Body::Plain(_))
    }

    /// Of text as it is: whether a character has begun that is not whole yet. `None`: it is anything else.
    pub fn carries(&self) -> Option<bool> {
        let Body::Plain(carry) = &self.body else { return None };
        Some(!carry.is_empty())
    }

    /// The next chunk, and whether it is the last: what leaves in its place.
    pub fn push(&mut self, chunk: &[u8], end: bool, filter: &mut dyn Filter) -> Vec<u8> {
        if self.failed.is_some() {
            return chunk.to_vec();
        }
        let Some(lead) = self.sniff(chunk) else { return chunk.to_vec() };
        let (before, chunk) = chunk.split_at_checked(lead).unwrap_or((chunk, &[]));
        let (out, failed) = match &mut self.body {
            Body::Json(json) => json.push(chunk, end, filter),
            Body::Stream(stream) => stream.push(chunk, end, filter),
            Body::Plain(carry) => plain(carry, chunk, end, filter),
            Body::Unknown => (chunk.to_vec(), Some(Unfiltered("it is neither JSON nor an event stream"))),
        };
        self.failed = failed;
        if before.is_empty() { out } else { [before, &out].concat() }
    }

    /// Tells by the first byte what the body is, and how many bytes go before it. `None`: there is nothing but blanks.
    fn sniff(&mut self, chunk: &[u8]) -> Option<usize> {
        if !matches!(self.body, Body::Unknown) {
            return Some(0);
        }
        if self.plain {
            self.body = Body::Plain(Vec::new());
            return Some(0);
        }
        let stream = |framing| Body::Stream(Box::new(Stream::new(framing, self.texts.clone())));
        if self.dialect.sends_frames() && chunk.first() == Some(&0) {
            self.body = stream(Framing::Messages(eventstream::Frames::default()));
            return Some(0);
        }
        // A byte order mark is three bytes that no JSON or stream begins with.
        let blank = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, 0xef | 0xbb | 0xbf);
        let lead = chunk.iter().position(|byte| !blank(byte))?;
        self.body = match chunk.get(lead)? {
            b'{' | b'[' if self.stream && self.dialect.sends_objects() => {
                stream(Framing::Objects(values::Values::default()))
            }
            b'{' | b'[' => Body::Json(Json::new(self.texts.clone())),
            b':' | b'd' | b'e' | b'i' | b'r' => stream(Framing::Events(sse::Frames::default())),
            _ => Body::Unknown,
        };
        Some(lead)
    }

    /// An error of the dialect, as the last words of this answer: in the place of a document, or as one more event.
    pub fn last_words(&self, error: &[u8]) -> Vec<u8> {
        let Body::Stream(stream) = &self.body else { return error.to_vec() };
        match stream.within() {
            Within::Events if self.dialect == Dialect::AnthropicMessages => {
                [b"event: error\ndata: ", error, b"\n\n"].concat()
            }
            Within::Events => [b"data: ", error, b"\n\n"].concat(),
            Within::Lines => [error, b"\n"].concat(),
            Within::Array { begun } => [if begun { b"," } else { b"[" }.as_slice(), error, b"]"].concat(),
            Within::Messages => eventstream::write("exception", "validationException", error),
        }
    }
}

impl Json {
    fn new(texts: Texts) -> Self {
        Self { texts, kept: Vec::new(), closing: json::Closing::default(), complete: false }
    }

    /// Nothing leaves before the value is complete, and then all of it: what ends by trailers has no last chunk.
    fn push(&mut self, chunk: &[u8], end: bool, filter: &mut dyn Filter) -> Left {
        if self.complete {
            return behind(chunk);
        }
        let closes = chunk.iter().position(|byte| self.closing.closes(*byte));
        let (value, rest) =
            chunk.split_at_checked(closes.map_or(chunk.len(), |at| at.saturating_add(1))).unwrap_or((chunk, &[]));
        self.kept.extend_from_slice(value);
        if self.kept.len() > LONGEST_DOCUMENT {
            self.kept.extend_from_slice(rest);
            return (std::mem::take(&mut self.kept), Some(Unfiltered("the answer is longer than 8 MiB")));
        }
        self.complete = closes.is_some();
        if !self.complete && !end {
            return (Vec::new(), None);
        }
        let body = std::mem::take(&mut self.kept);
        let text = std::str::from_utf8(&body).ok();
        let taken = text.and_then(|text| self.texts.take(text, None, true, &Vec::new, filter).ok());
        let Some(taken) = taken else {
            return ([&body, rest].concat(), Some(Unfiltered("the answer is broken JSON")));
        };
        if filter.stopped() {
            return (Vec::new(), None);
        }
        let mut out = if taken.edits.is_empty() { body } else { super::call::splice(&body, &taken.edits) };
        let (rest, failed) = behind(rest);
        out.extend(rest);
        (out, failed)
    }
}

/// Whether a content type is that of something else than text: pictures, sound, archives, messages in binary.
pub fn is_no_text(content_type: &[u8]) -> bool {
    let kind = content_type.trim_ascii_start().to_ascii_lowercase();
    let kinds: [&[u8]; 8] = [
        b"image/",
        b"audio/",
        b"video/",
        b"font/",
        b"application/pdf",
        b"application/zip",
        b"application/gzip",
        b"application/grpc",
    ];
    kinds.iter().any(|known| kind.starts_with(known))
}

/// What follows a JSON answer: nothing but blanks.
fn behind(chunk: &[u8]) -> Left {
    let blank = chunk.iter().all(u8::is_ascii_whitespace);
    (chunk.to_vec(), (!blank).then_some(Unfiltered("something follows the JSON answer")))
}

/// More text as it is, cut where a character begins that is not whole yet. What is no UTF-8 leaves as it is, behind all
/// that was held back.
fn plain(carry: &mut Vec<u8>, chunk: &[u8], end: bool, filter: &mut dyn Filter) -> Left {
    let place = Place::whole(false, false);
    carry.extend_from_slice(chunk);
    let (valid, readable) = match std::str::from_utf8(carry) {
        Ok(_) => (carry.len(), true),
        Err(error) => (error.valid_up_to(), error.error_len().is_none() && !end),
    };
    let rest = carry.split_off(valid);
    let text = String::from_utf8(std::mem::replace(carry, rest)).unwrap_or_default();
    let mut out = String::new();
    filter.push(&place, &text, &mut out);
    if (end || !readable) && !filter.stopped() {
        filter.finish(&place, &mut out);
    }
    if filter.stopped() {
        return (Vec::new(), None);
    }
    let mut out = out.into_bytes();
    if !readable {
        out.append(carry);
    }
    (out, (!readable).then_some(Unfiltered("the answer is no UTF-8")))
}

#[cfg(test)]
mod forms_tests;
#[cfg(test)]
#[path = "rewrite_tests.rs"]
mod tests;
