//! One response, as it streams past.

use std::mem;

use super::answer::{Answer, Said};
use super::count::Encoding;
use super::dialect::{Dialect, Shape};
use super::partial;
use super::sse::{Frames, Piece};
use super::usage::Usage;

/// The longest JSON answer that is read, in bytes.
const LONGEST_JSON: usize = 8 * 1024 * 1024;

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
/// stream (a longer one is skipped and makes the answer unreadable), some KiB a text for counting.
#[derive(Clone, Debug)]
pub struct Reader {
    dialect: Dialect,
    encoding: Encoding,
    status: u16,
    hide_usage: bool,
    declared_stream: bool,
    body: Body,
    answer: Answer,
    unreadable: Option<&'static str>,
}

/// How the body is framed.
#[derive(Clone, Debug)]
enum Body {
    /// Nothing but white space so far.
    Unknown,
    Stream(Stream),
    Json(Json),
    /// Not read (any more), or ended.
    Deaf,
}

#[derive(Clone, Debug, Default)]
struct Json {
    kept: Vec<u8>,
    /// Output tokens when they were last counted, and the length then.
    counted: (u64, usize),
}

#[derive(Clone, Debug, Default)]
struct Stream {
    frames: Frames,
    /// Bytes of the event under way, when events may have to be dropped.
    held: Vec<u8>,
    /// The last event was dropped, and an LF of its line end may still come.
    dropped: bool,
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
        let kind = content_type.unwrap_or(b"text/event-stream").trim_ascii_start().to_ascii_lowercase();
        Self {
            dialect,
            encoding,
            status,
            hide_usage: hide_usage && dialect == Dialect::OpenAiChat,
            declared_stream: kind.starts_with(b"text/"),
            body: if compressed { Body::Deaf } else { Body::Unknown },
            answer: Answer::new(encoding),
            unreadable: compressed.then_some("compressed"),
        }
    }

    /// The next chunk of the body, and whether it is the last. Says what leaves in its place.
    ///
    /// Bytes are only ever held back when usage is to be hidden, on a stream: an incomplete event waits for its
    /// end, for the end of the body, or until it is longer than 1 MiB.
    pub fn push(&mut self, chunk: &[u8], end: bool) -> Forward {
        let lead = self.sniff(chunk, end);
        let rest = chunk.get(lead..).unwrap_or_default();
        let forward = match &mut self.body {
            Body::Stream(stream) => {
                let mut forward = chunk.get(..lead).unwrap_or_default().to_vec();
                let mut reading = Reading {
                    dialect: self.dialect,
                    hide: self.hide_usage,
                    answer: &mut self.answer,
                    unreadable: &mut self.unreadable,
                    held: &mut stream.held,
                    dropped: &mut stream.dropped,
                    out: &mut forward,
                };
                stream.frames.push(rest, end, |piece| reading.piece(piece));
                if end {
                    forward.append(&mut stream.held);
                }
                if self.hide_usage && forward != chunk { Forward::Replace(forward) } else { Forward::Same }
            }
            Body::Json(json) => {
                if !json.push(rest, self.encoding) {
                    // Delivered it is: at most what its bytes allow.
                    let seen = json.so_far(self.encoding);
                    self.answer.tally.add(seen);
                    self.unreadable = Some("an answer above 8 MiB");
                    self.body = Body::Deaf;
                }
                Forward::Same
            }
            Body::Unknown | Body::Deaf => Forward::Same,
        };
        if end {
            self.end();
        }
        forward
    }

    /// Output tokens passed to the client so far: text, thinking, names and arguments of tool calls. Exact for
    /// the vocabulary once the body has ended; before that a few tokens of an unfinished word may be off. Of an
    /// oversized JSON answer only the first 8 MiB are counted.
    pub fn delivered(&self) -> u64 {
        let json = match &self.body {
            Body::Json(json) => json.so_far(self.encoding),
            _ => 0,
        };
        self.answer.tally.so_far().saturating_add(json)
    }

    /// Whether the answer is complete: `[DONE]`, `message_stop`, a whole JSON value; or, as some providers
    /// end without them, a finish reason and then the end of the body.
    pub fn finished(&self) -> bool {
        self.answer.finished
    }

    /// Whether a 2xx answer carries an error in its body or stream.
    pub fn error_inside(&self) -> bool {
        (200..300).contains(&self.status) && self.answer.error
    }

    /// Tools that the answer calls, so far.
    pub fn tool_calls(&self) -> u64 {
        self.answer.tool_calls
    }

    /// The model that the provider says it served.
    pub fn served(&self) -> Option<&str> {
        self.answer.served.as_deref()
    }

    /// The usage that the provider reported last. `None`: none, or one that cannot be (negative, no whole
    /// number, above 100 million).
    pub fn reported(&self) -> Option<Usage> {
        match self.answer.said {
            Said::Usage(usage) => Some(usage),
            Said::Nothing | Said::Absurd => None,
        }
    }

    /// What the provider said about the input when it began, the output being 0: Anthropic does. It holds
    /// although the stream broke off before [`reported`](Self::reported).
    pub fn reported_input(&self) -> Option<Usage> {
        self.answer.opening.filter(|_| self.answer.said != Said::Absurd)
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
        // A byte order mark is three bytes that no JSON or stream begins with.
        let lead = chunk.iter().take_while(|b| b.is_ascii_whitespace() || matches!(b, 0xef | 0xbb | 0xbf)).count();
        self.body = match chunk.get(lead) {
            Some(b'{' | b'[') => Body::Json(Json::default()),
            Some(b':' | b'd' | b'e' | b'i' | b'r') if self.declared_stream => Body::Stream(Stream::default()),
            Some(_) => {
                self.unreadable = Some("neither JSON nor an event stream");
                Body::Deaf
            }
            None => {
                if end {
                    self.unreadable = Some("empty");
                }
                Body::Unknown
            }
        };
        lead
    }

    fn end(&mut self) {
        match mem::replace(&mut self.body, Body::Deaf) {
            Body::Json(json) => {
                let text = String::from_utf8_lossy(&json.kept);
                self.answer.finished = self.dialect.read_body(&mut self.answer, &text);
                if !self.answer.finished {
                    self.unreadable = Some("broken JSON");
                    self.answer.tally.add(partial::count(self.encoding, &json.kept));
                }
            }
            Body::Stream(_) => self.answer.finished |= self.answer.ended,
            Body::Unknown | Body::Deaf => {}
        }
        self.answer.tally.end_all();
    }
}

impl Json {
    /// Keeps a chunk; whether there was room for it. Counting is repeated when the body has doubled, so the work
    /// grows with the body only.
    fn push(&mut self, chunk: &[u8], encoding: Encoding) -> bool {
        if self.kept.len().saturating_add(chunk.len()) > LONGEST_JSON {
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

/// The parts of a reader that one piece of a stream touches.
struct Reading<'a> {
    dialect: Dialect,
    hide: bool,
    answer: &'a mut Answer,
    unreadable: &'a mut Option<&'static str>,
    held: &'a mut Vec<u8>,
    dropped: &'a mut bool,
    out: &'a mut Vec<u8>,
}

impl Reading<'_> {
    fn piece(&mut self, piece: Piece<'_>) {
        match piece {
            Piece::Raw { bytes, pending } if self.hide => self.raw(bytes, pending),
            Piece::LineFeed if self.hide => self.line_feed(),
            Piece::Raw { .. } | Piece::LineFeed => {}
            Piece::Event(data) => {
                let shape = self.dialect.read_event(self.answer, &String::from_utf8_lossy(data));
                *self.dropped = self.hide && shape == Shape::UsageOnly;
                if *self.dropped {
                    self.held.clear();
                } else {
                    self.out.append(self.held);
                }
            }
            Piece::Oversized(bytes) => {
                *self.unreadable = Some("an event above 1 MiB");
                // Delivered it was: four bytes a token.
                self.answer.tally.add(bytes.div_ceil(4));
            }
        }
    }

    fn raw(&mut self, bytes: &[u8], pending: bool) {
        *self.dropped = false;
        self.held.extend_from_slice(bytes);
        if !pending {
            self.out.append(self.held);
        }
    }

    /// The second half of a line end goes where the first half went.
    fn line_feed(&mut self) {
        if *self.dropped {
            return;
        }
        if self.held.is_empty() {
            self.out.push(b'\n');
        } else {
            self.held.push(b'\n');
        }
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
