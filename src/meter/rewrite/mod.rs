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

mod anthropic;
mod openai;

use std::ops::ControlFlow;

use super::call::{Edit, splice};
use super::dialect::Dialect;
use super::framing::Piece;
use super::json;
use super::sse::Frames;

/// The longest JSON answer that is kept, in bytes.
const LONGEST_JSON: usize = 8 * 1024 * 1024;

/// The most texts of one answer that are filtered side by side.
const MOST: usize = 256;

/// One of the texts of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which choice or content block, from 0.
    pub part: u64,
    /// Which tool call of it, from 0.
    pub call: Option<u64>,
    /// The key under which the text comes, such as `content` or `partial_json`.
    pub key: String,
}

impl Place {
    /// Whether the text is itself JSON, so that what is put into it must be escaped.
    pub fn is_json(&self) -> bool {
        self.call.is_some() || self.key == "partial_json"
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

/// What becomes of a string in an event.
enum Target {
    /// A piece of this text.
    Piece(Place),
    /// A text that is whole by itself.
    Whole,
    /// It repeats what stands elsewhere, and is taken out: `null`.
    Repeat,
}

/// What an event has to do with texts. The raw values are slices of its data.
#[derive(Default)]
struct Outline<'a> {
    strings: Vec<(Target, &'a str)>,
    /// Parts that end with it.
    ends: Vec<u64>,
    /// Everything ends with it.
    ends_all: bool,
}

/// Why an answer cannot be filtered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfiltered(
    /// In words for the operator.
    pub &'static str,
);

/// One answer on its way.
#[derive(Clone, Debug)]
pub struct Rewriter {
    dialect: Dialect,
    body: Body,
    failed: Option<Unfiltered>,
}

#[derive(Clone, Debug)]
enum Body {
    Unknown,
    Stream(Box<Stream>),
    Json(Json),
}

/// A JSON answer, until it is complete.
#[derive(Clone, Debug, Default)]
struct Json {
    kept: Vec<u8>,
    closing: json::Closing,
    complete: bool,
}

#[derive(Clone, Debug, Default)]
struct Stream {
    frames: Frames,
    /// Bytes of the event under way.
    held: Vec<u8>,
    /// Texts that may have something held back, in the order in which they began.
    open: Vec<Place>,
    frame: openai::Frame,
}

impl Rewriter {
    /// An answer of which nothing has come. `None`: texts of this dialect are not known.
    pub fn new(dialect: Dialect, content_encoding: Option<&[u8]>) -> Option<Self> {
        let plain = content_encoding.map(<[u8]>::trim_ascii).unwrap_or_default();
        let compressed = !plain.is_empty() && !plain.eq_ignore_ascii_case(b"identity");
        let failed = compressed.then_some(Unfiltered("the answer is compressed"));
        let known = matches!(dialect, Dialect::OpenAiChat | Dialect::AnthropicMessages);
        known.then_some(Self { dialect, body: Body::Unknown, failed })
    }

    /// Why the answer, from here on, is not filtered but passes as it is: for the caller to break it off.
    pub fn failed(&self) -> Option<Unfiltered> {
        self.failed
    }

    /// Whether the answer has turned out to be a stream of events.
    pub fn is_stream(&self) -> bool {
        matches!(self.body, Body::Stream(_))
    }

    /// The next chunk, and whether it is the last: what leaves in its place.
    pub fn push(&mut self, chunk: &[u8], end: bool, filter: &mut dyn Filter) -> Vec<u8> {
        if self.failed.is_some() {
            return chunk.to_vec();
        }
        if let Body::Unknown = self.body {
            let first = chunk.iter().find(|byte| !byte.is_ascii_whitespace() && !matches!(byte, 0xef | 0xbb | 0xbf));
            match first {
                Some(b'{' | b'[') => self.body = Body::Json(Json::default()),
                Some(_) => self.body = Body::Stream(Box::default()),
                None => return chunk.to_vec(),
            }
        }
        let (out, failed) = match &mut self.body {
            Body::Json(json) => json.push(self.dialect, chunk, end, filter),
            Body::Stream(stream) => stream.push(self.dialect, chunk, end, filter),
            Body::Unknown => (Vec::new(), None),
        };
        self.failed = failed;
        out
    }
}

impl Json {
    /// Nothing leaves before the value is complete, and then all of it: what ends by trailers has no last chunk.
    fn push(
        &mut self,
        dialect: Dialect,
        chunk: &[u8],
        end: bool,
        filter: &mut dyn Filter,
    ) -> (Vec<u8>, Option<Unfiltered>) {
        if self.complete {
            return (chunk.to_vec(), None);
        }
        self.kept.extend_from_slice(chunk);
        if self.kept.len() > LONGEST_JSON {
            return (std::mem::take(&mut self.kept), Some(Unfiltered("the answer is longer than 8 MiB")));
        }
        self.complete = chunk.iter().any(|byte| self.closing.closes(*byte));
        if !self.complete && !end {
            return (Vec::new(), None);
        }
        let body = std::mem::take(&mut self.kept);
        let outline = std::str::from_utf8(&body).ok().and_then(|text| Some((text, outline(dialect, text)?)));
        let Some((text, outline)) = outline else { return (body, Some(Unfiltered("the answer is broken JSON"))) };
        let strings = outline.strings.iter();
        let edits: Vec<Edit> = strings.filter_map(|(target, raw)| whole(text, target, raw, filter)).collect();
        match (filter.stopped(), edits.is_empty()) {
            (true, _) => (Vec::new(), None),
            (false, true) => (body, None),
            (false, false) => (splice(&body, &sorted(edits)), None),
        }
    }
}

fn sorted(mut edits: Vec<Edit>) -> Vec<Edit> {
    edits.sort_by_key(|edit| edit.at.start);
    edits
}

fn outline(dialect: Dialect, data: &str) -> Option<Outline<'_>> {
    match dialect {
        Dialect::OpenAiChat => openai::outline(data),
        Dialect::AnthropicMessages => anthropic::outline(data),
        // Nobody makes a rewriter for it.
        _ => None,
    }
}

/// The change to a string that is a whole text.
fn whole(data: &str, target: &Target, raw: &str, filter: &mut dyn Filter) -> Option<Edit> {
    let place = match target {
        Target::Repeat => return Some(edit(data, raw, b"null".to_vec())),
        Target::Piece(place) => place.clone(),
        Target::Whole => Place { part: u64::MAX, call: None, key: String::new() },
    };
    let text = json::text(raw)?;
    let mut out = String::new();
    filter.push(&place, &text, &mut out);
    filter.finish(&place, &mut out);
    (out != *text).then(|| edit(data, raw, quoted(&out)))
}

fn edit(data: &str, raw: &str, with: Vec<u8>) -> Edit {
    let start = json::offset(data, raw);
    Edit { at: start..start.saturating_add(raw.len()), with }
}

fn quoted(text: &str) -> Vec<u8> {
    serde_json::to_vec(text).unwrap_or_default()
}

impl Stream {
    fn push(
        &mut self,
        dialect: Dialect,
        chunk: &[u8],
        end: bool,
        filter: &mut dyn Filter,
    ) -> (Vec<u8>, Option<Unfiltered>) {
        let (mut out, mut failed) = (Vec::new(), None);
        let mut frames = std::mem::take(&mut self.frames);
        frames.push(chunk, end, |piece| {
            if !filter.stopped() {
                match piece {
                    Piece::Raw { bytes, pending } => {
                        self.held.extend_from_slice(bytes);
                        if !pending && failed.is_none() {
                            out.append(&mut self.held);
                        }
                    }
                    Piece::Huge(bytes) => {
                        failed = failed.or(Some(Unfiltered("an event is longer than 1 MiB")));
                        self.held.extend_from_slice(bytes);
                    }
                    Piece::LineFeed if self.held.is_empty() => out.push(b'\n'),
                    Piece::LineFeed => self.held.push(b'\n'),
                    Piece::Event(data) if failed.is_none() => failed = self.event(dialect, data, filter, &mut out),
                    Piece::Event(_) | Piece::Oversized(_) | Piece::Broken => {}
                }
            }
            ControlFlow::Continue(())
        });
        self.frames = frames;
        if filter.stopped() {
            return (out, None);
        }
        if failed.is_some() {
            // What was held back of the texts, and then this event and all others as they are.
            self.flush(dialect, |_| true, filter, &mut out);
            out.append(&mut self.held);
            out.extend_from_slice(self.frames.unfinished());
        } else if end {
            out.append(&mut self.held);
            self.flush(dialect, |_| true, filter, &mut out);
        }
        (out, failed)
    }

    fn event(
        &mut self,
        dialect: Dialect,
        data: &[u8],
        filter: &mut dyn Filter,
        out: &mut Vec<u8>,
    ) -> Option<Unfiltered> {
        if data.is_empty() {
            out.append(&mut self.held);
            return None;
        }
        if data.trim_ascii() == b"[DONE]" {
            self.flush(dialect, |_| true, filter, out);
            out.append(&mut self.held);
            return None;
        }
        let data = std::str::from_utf8(data).ok();
        let outline = data.and_then(|data| Some((data, outline(dialect, data)?)));
        let Some((data, outline)) = outline else {
            return Some(Unfiltered("an event is no JSON"));
        };
        if dialect == Dialect::OpenAiChat {
            self.frame.read(data);
        }
        let spoken: Vec<Place> = outline
            .strings
            .iter()
            .filter_map(|(target, raw)| match target {
                Target::Piece(place) if *raw != "\"\"" => Some(place.clone()),
                _ => None,
            })
            .collect();
        let ends = |place: &Place| outline.ends_all || outline.ends.contains(&place.part);
        // What has its last piece in this very event is finished in it; what is over without one, before it.
        let over = |place: &Place| {
            !spoken.contains(place) && (ends(place) || spoken.iter().any(|other| succeeds(other, place)))
        };
        self.flush(dialect, over, filter, out);
        let mut changes: Vec<(Option<&Place>, &str, String)> = Vec::new();
        let mut edits = Vec::new();
        for (target, raw) in &outline.strings {
            match target {
                Target::Piece(place) => {
                    let Some(text) = json::text(raw).filter(|text| !text.is_empty()) else { continue };
                    if !self.begin(place) {
                        return Some(Unfiltered("an answer has more than 256 texts"));
                    }
                    let mut changed = String::new();
                    filter.push(place, &text, &mut changed);
                    changes.push((Some(place), raw, changed));
                }
                other => edits.extend(whole(data, other, raw, filter)),
            }
        }
        for place in spoken.iter().filter(|place| ends(place)) {
            if let Some((_, _, last)) = changes.iter_mut().rev().find(|(known, ..)| *known == Some(place)) {
                filter.finish(place, last);
            }
            self.open.retain(|open| open != place);
        }
        if filter.stopped() {
            return None;
        }
        let changed = changes.iter().filter(|(_, raw, text)| json::text(raw).is_none_or(|before| before != *text));
        edits.extend(changed.map(|(_, raw, text)| edit(data, raw, quoted(text))));
        let held = std::mem::take(&mut self.held);
        if edits.is_empty() {
            out.extend(held);
        } else {
            replace_data(&held, &splice(data.as_bytes(), &sorted(edits)), out);
        }
        None
    }

    /// Notes that a text has begun; whether there was room for it.
    fn begin(&mut self, place: &Place) -> bool {
        if !self.open.contains(place) {
            if self.open.len() >= MOST {
                return false;
            }
            self.open.push(place.clone());
        }
        true
    }

    /// Ends the texts that are `over`, and sends what was held back of them.
    fn flush(&mut self, dialect: Dialect, over: impl Fn(&Place) -> bool, filter: &mut dyn Filter, out: &mut Vec<u8>) {
        let (ended, open): (Vec<_>, Vec<_>) = std::mem::take(&mut self.open).into_iter().partition(|place| over(place));
        self.open = open;
        for place in &ended {
            let mut rest = String::new();
            filter.finish(place, &mut rest);
            if rest.is_empty() || filter.stopped() {
                continue;
            }
            out.extend(match dialect {
                Dialect::OpenAiChat => self.frame.event(place, &rest),
                Dialect::AnthropicMessages => anthropic::event(place, &rest),
                _ => Vec::new(),
            });
        }
    }
}

/// Whether a piece at `now` means that the text at `before` is over: another kind of text of the same part. Tool calls
/// may come interleaved, so none ends another.
fn succeeds(now: &Place, before: &Place) -> bool {
    now.part == before.part && before.call.is_none() && (now.key != before.key || now.call.is_some())
}

/// The event in `held` with other data: all its other lines stay.
fn replace_data(held: &[u8], data: &[u8], out: &mut Vec<u8>) {
    let mut written = false;
    let mut rest = held;
    while !rest.is_empty() {
        let end = memchr::memchr2(b'\n', b'\r', rest).map_or(rest.len(), |at| at.saturating_add(1));
        let end = if rest.get(end.saturating_sub(1)..=end) == Some(b"\r\n") { end.saturating_add(1) } else { end };
        let (line, tail) = rest.split_at_checked(end).unwrap_or((rest, &[]));
        rest = tail;
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
}

/// Adds every string below `raw`, keys left alone, as whole texts.
fn strings_below<'a>(outline: &mut Outline<'a>, raw: &'a str, depth: u8) {
    let Some(below) = depth.checked_sub(1) else {
        // Deeper than any answer: taken out rather than passed unread.
        return outline.strings.push((Target::Repeat, raw));
    };
    if raw.starts_with('"') {
        outline.strings.push((Target::Whole, raw));
    } else if json::entries(raw, |_, value| strings_below(outline, value, below)).is_none() {
        json::elements(raw, |value| strings_below(outline, value, below));
    }
}

/// How deep strings in unknown places are looked for.
const DEEPEST: u8 = 24;

#[cfg(test)]
#[path = "rewrite_tests.rs"]
mod tests;
