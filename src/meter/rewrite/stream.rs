//! An answer that streams: which of its bytes leave, event by event, however they are framed.

use std::ops::ControlFlow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::outline::going_on;
use super::texts::{Added, Texts};
use super::{Filter, Unfiltered};
use crate::meter::call::{Edit, splice};
use crate::meter::eventstream;
use crate::meter::framing::{Framing, Kind, Piece};
use crate::meter::json;
use crate::meter::loose::Within;

/// What comes of a chunk.
pub(super) type Left = (Vec<u8>, Option<Unfiltered>);

/// A stream of events.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    framing: Framing,
    way: Way,
}

/// What is under way between two chunks.
#[derive(Clone, Debug)]
struct Way {
    kind: Kind,
    texts: Texts,
    /// Bytes of the event under way.
    held: Vec<u8>,
    /// An event has left.
    begun: bool,
    /// Objects are elements of an array.
    array: bool,
    failed: Option<Unfiltered>,
}

impl Stream {
    pub fn new(framing: Framing, texts: Texts) -> Self {
        let kind = framing.kind();
        Self { framing, way: Way { kind, texts, held: Vec::new(), begun: false, array: false, failed: None } }
    }

    /// The next chunk, and whether it is the last.
    pub fn push(&mut self, chunk: &[u8], end: bool, filter: &mut dyn Filter) -> Left {
        let mut out = Vec::new();
        let way = &mut self.way;
        self.framing.push(chunk, end, |piece| {
            if !filter.stopped() {
                way.piece(piece, filter, &mut out);
            }
            ControlFlow::Continue(())
        });
        if filter.stopped() {
            return (out, None);
        }
        if end && !self.framing.unfinished().is_empty() {
            way.failed.get_or_insert(Unfiltered("the answer ends within an event"));
        }
        if way.failed.is_some() {
            // What was held back of the texts, and then this event and all others as they are.
            way.end(filter, &mut out);
            out.append(&mut way.held);
            if let Framing::Events(frames) = &self.framing {
                out.extend_from_slice(frames.unfinished());
            }
        } else if end {
            out.append(&mut way.held);
            way.end(filter, &mut out);
        }
        (out, way.failed)
    }

    /// What an event would be written into that comes next.
    pub fn within(&self) -> Within {
        match self.way.kind {
            Kind::Events => Within::Events,
            Kind::Objects if self.way.array => Within::Array { begun: self.way.begun },
            Kind::Objects => Within::Lines,
            Kind::Messages => Within::Messages,
        }
    }
}

impl Way {
    fn piece(&mut self, piece: Piece<'_>, filter: &mut dyn Filter, out: &mut Vec<u8>) {
        match piece {
            Piece::Raw { bytes, pending } => self.raw(bytes, pending, filter, out),
            Piece::Huge(bytes) => {
                self.fail("an event is too long");
                self.held.extend_from_slice(bytes);
            }
            Piece::LineFeed if self.held.is_empty() => out.push(b'\n'),
            Piece::LineFeed => self.held.push(b'\n'),
            Piece::Broken => self.fail("a frame has a wrong checksum"),
            Piece::Event(event) if self.failed.is_none() => {
                if let Err(why) = self.event(event, filter, out) {
                    self.failed = Some(why);
                }
            }
            Piece::Event(_) | Piece::Oversized(_) => {}
        }
    }

    fn fail(&mut self, why: &'static str) {
        self.failed.get_or_insert(Unfiltered(why));
    }

    fn raw(&mut self, bytes: &[u8], pending: bool, filter: &mut dyn Filter, out: &mut Vec<u8>) {
        let objects = !pending && self.kind == Kind::Objects;
        if objects && !divides(bytes) {
            self.fail("something between two objects");
        }
        // What was held back must leave before the array is closed.
        let closes = bytes.iter().position(|byte| *byte == b']').filter(|_| objects && self.failed.is_none());
        let (before, bytes) = bytes.split_at_checked(closes.unwrap_or(0)).unwrap_or((&[], bytes));
        if closes.is_some() {
            out.extend_from_slice(before);
            self.end(filter, out);
        }
        self.held.extend_from_slice(bytes);
        if !pending && self.failed.is_none() && !filter.stopped() {
            out.append(&mut self.held);
        }
    }

    fn event(&mut self, event: &[u8], filter: &mut dyn Filter, out: &mut Vec<u8>) -> Result<(), Unfiltered> {
        match self.kind {
            Kind::Events => self.data(event, filter, out),
            Kind::Objects => self.object(event, filter, out),
            Kind::Messages => self.message(event, filter, out),
        }
    }

    /// A server-sent event.
    fn data(&mut self, data: &[u8], filter: &mut dyn Filter, out: &mut Vec<u8>) -> Result<(), Unfiltered> {
        if !lines(&self.held).all(is_field) {
            return Err(Unfiltered("a line that is no server-sent event"));
        }
        if data.trim_ascii() == b"[DONE]" {
            self.end(filter, out);
        }
        if data.is_empty() || data.trim_ascii() == b"[DONE]" {
            if !filter.stopped() {
                out.append(&mut self.held);
            }
            return Ok(());
        }
        let held = std::mem::take(&mut self.held);
        let like = || named(&held);
        let changed = self.take(data, None, false, &like, filter, out);
        self.leave(held, changed, |held, data| Some(with_data(held, data)), filter, out)
    }

    /// A JSON object, with what divides it from the one before.
    fn object(&mut self, object: &[u8], filter: &mut dyn Filter, out: &mut Vec<u8>) -> Result<(), Unfiltered> {
        let lead = self.held.len().saturating_sub(object.len());
        let gap = self.held.get(..lead).unwrap_or_default();
        if !divides(gap) {
            return Err(Unfiltered("something between two objects"));
        }
        self.array |= !self.begun && gap.contains(&b'[');
        let held = std::mem::take(&mut self.held);
        let changed = self.take(object, None, false, &Vec::new, filter, out);
        let with = |held: &[u8], data: &[u8]| Some([held.get(..lead)?, data].concat());
        self.leave(held, changed, with, filter, out)
    }

    /// One of Amazon's messages. What InvokeModel passes on is wrapped in it.
    fn message(&mut self, message: &[u8], filter: &mut dyn Filter, out: &mut Vec<u8>) -> Result<(), Unfiltered> {
        let frame = eventstream::frame(message).ok_or(Unfiltered("a frame that cannot be read"))?;
        if frame.payload.is_empty() {
            out.append(&mut self.held);
            return Ok(());
        }
        let held = std::mem::take(&mut self.held);
        let like = || eventstream::with_payload(message, b"").unwrap_or_default();
        let (wrapped, payload) = (wrapped(frame.payload), frame.payload);
        let changed = match &wrapped {
            Some(Err(why)) => Err(*why),
            Some(Ok((_, inner))) => self.take(inner, None, frame.failed, &like, filter, out),
            None => self.take(payload, Some(frame.kind), frame.failed, &like, filter, out),
        };
        let with = |_: &[u8], data: &[u8]| match &wrapped {
            Some(Ok((at, _))) => {
                let with = serde_json::Value::from(STANDARD.encode(data)).to_string().into_bytes();
                eventstream::with_payload(message, &splice(payload, &[Edit { at: at.clone(), with }]))
            }
            _ => eventstream::with_payload(message, data),
        };
        self.leave(held, changed, with, filter, out)
    }

    /// Puts the texts of an event through the filter. Answers its data as they leave; `None`: as they came.
    fn take(
        &mut self,
        data: &[u8],
        kind: Option<&str>,
        last: bool,
        like: &dyn Fn() -> Vec<u8>,
        filter: &mut dyn Filter,
        out: &mut Vec<u8>,
    ) -> Result<Option<Vec<u8>>, Unfiltered> {
        let text = std::str::from_utf8(data).map_err(|_| Unfiltered("an event is no UTF-8"))?;
        let taken = self.texts.take(text, kind, last, like, filter)?;
        self.add(taken.before, out);
        Ok((!taken.edits.is_empty()).then(|| splice(data, &taken.edits)))
    }

    /// Lets an event leave as it came, or `with` other data.
    fn leave(
        &mut self,
        held: Vec<u8>,
        changed: Result<Option<Vec<u8>>, Unfiltered>,
        with: impl FnOnce(&[u8], &[u8]) -> Option<Vec<u8>>,
        filter: &dyn Filter,
        out: &mut Vec<u8>,
    ) -> Result<(), Unfiltered> {
        let left = match changed {
            Ok(None) => held,
            Ok(Some(data)) => match with(&held, &data) {
                Some(left) => left,
                None => {
                    self.held = held;
                    return Err(Unfiltered("an event is too long to be written anew"));
                }
            },
            Err(why) => {
                self.held = held;
                return Err(why);
            }
        };
        if !filter.stopped() {
            out.extend(left);
            self.begun = true;
        }
        Ok(())
    }

    /// Ends all texts: what was held back of them is sent.
    fn end(&mut self, filter: &mut dyn Filter, out: &mut Vec<u8>) {
        let added = self.texts.end(filter);
        self.add(added, out);
    }

    /// Sends events that were added.
    fn add(&mut self, added: Vec<Added>, out: &mut Vec<u8>) {
        for Added { like, data } in added {
            match self.kind {
                Kind::Events => out.extend([&like, b"data: ".as_slice(), data.as_bytes(), b"\n\n"].concat()),
                Kind::Objects if self.array => out.extend([b",\r\n", data.as_bytes()].concat()),
                Kind::Objects => {
                    let apart: &[u8] = if out.last().is_some_and(|last| *last == b'}') { b"\n" } else { b"" };
                    out.extend([apart, data.as_bytes(), b"\n"].concat());
                }
                Kind::Messages => {
                    let chunk = eventstream::frame(&like).is_some_and(|frame| frame.kind == "chunk");
                    let payload = match chunk {
                        true => format!("{{\"bytes\":\"{}\"}}", STANDARD.encode(&data)),
                        false => data,
                    };
                    out.extend(eventstream::with_payload(&like, payload.as_bytes()).unwrap_or_default());
                }
            }
        }
    }
}

/// What InvokeModel passes on in a message, and where in its payload it stands. `None`: nothing is wrapped in it.
#[expect(clippy::type_complexity, reason = "a place and what is there")]
fn wrapped(payload: &[u8]) -> Option<Result<(std::ops::Range<usize>, Vec<u8>), Unfiltered>> {
    let text = std::str::from_utf8(payload).ok()?;
    let [bytes] = json::fields(text, ["bytes"])?;
    let raw = bytes?;
    let start = json::offset(text, raw);
    let inner = json::text(raw).and_then(|text| STANDARD.decode(text.as_bytes()).ok());
    let inner = inner.ok_or(Unfiltered("a chunk that cannot be unwrapped"));
    Some(inner.map(|inner| (start..start.saturating_add(raw.len()), inner)))
}

/// Whether these bytes only divide objects.
fn divides(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, b'[' | b']' | b',') || byte.is_ascii_whitespace())
}

/// The lines of an event, each with its end.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let end = memchr::memchr2(b'\n', b'\r', rest).map_or(rest.len(), |at| at.saturating_add(1));
        let end = if rest.get(end.saturating_sub(1)..=end) == Some(b"\r\n") { end.saturating_add(1) } else { end };
        let (line, tail) = rest.split_at_checked(end)?;
        rest = tail;
        (!line.is_empty()).then_some(line)
    })
}

/// Whether a line is one of a server-sent event: what is none nobody would read there, and it would pass unread here.
fn is_field(line: &[u8]) -> bool {
    let line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line).trim_ascii_end();
    let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
    matches!(name, b"" | b"data" | b"event" | b"id" | b"retry")
}

/// The line that names an event which goes on with what this one begins.
fn named(held: &[u8]) -> Vec<u8> {
    let name = lines(held).find_map(|line| std::str::from_utf8(line.strip_prefix(b"event:")?).ok());
    name.map(|name| format!("event: {}\n", going_on(name.trim())).into_bytes()).unwrap_or_default()
}

/// The event in `held` with other data: all its other lines stay.
fn with_data(held: &[u8], data: &[u8]) -> Vec<u8> {
    let (mut out, mut written) = (Vec::new(), false);
    for line in lines(held) {
        if !(line.starts_with(b"data:") || line.trim_ascii() == b"data") {
            out.extend_from_slice(line);
        } else if !std::mem::replace(&mut written, true) {
            for line in data.split(|byte| *byte == b'\n') {
                out.extend_from_slice(b"data: ");
                out.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
                out.push(b'\n');
            }
        }
    }
    out
}
