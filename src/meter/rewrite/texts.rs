//! The texts of one answer, as they go through the filter.

use super::outline::{Around, Outline, Target, outline};
use super::table::{self, Fields};
use super::{Filter, Place, Unfiltered};
use crate::meter::call::Edit;
use crate::meter::dialect::Dialect;
use crate::meter::json;
use crate::meter::members::Members;
use crate::order;

/// The most texts of one answer that are filtered side by side.
pub(super) const MOST: usize = 256;

/// The longest text that is kept to see whether events repeat it, in bytes.
const LONGEST_REPEATED: usize = 1024 * 1024;

/// The most texts of one answer that are kept so.
const MOST_REPEATED: usize = 8;

/// All texts of one answer.
#[derive(Clone, Debug)]
pub(super) struct Texts {
    fields: Fields,
    /// Each event has what is new alone, whatever its provider may do otherwise.
    in_pieces: bool,
    /// Texts that may have something held back, in the order in which they began.
    open: Vec<Text>,
    /// A piece of a text has come.
    spoken: bool,
    /// The number of the last event, and how many have been added.
    number: Option<u64>,
    added: u64,
}

/// A text that has begun.
#[derive(Clone, Debug)]
struct Text {
    place: Place,
    around: Around,
    /// What the framing needs to add an event like the one that it began with.
    like: Vec<u8>,
    grown: Option<Grown>,
}

/// A text of which each event may have all so far.
#[derive(Clone, Debug, Default)]
struct Grown {
    /// As it came, and as it left.
    came: String,
    left: String,
    /// The last event had only what was new.
    piecemeal: bool,
    /// It is not looked at any more whether it is repeated.
    settled: bool,
}

/// An event to be added before the one that was read.
pub(super) struct Added {
    /// What the framing kept of an event of this text.
    pub like: Vec<u8>,
    /// Its data.
    pub data: String,
}

/// What has become of an event.
pub(super) struct Taken {
    /// What is to be sent before it.
    pub before: Vec<Added>,
    /// What is to be changed in it.
    pub edits: Vec<Edit>,
}

/// A piece of a text in an event, and what leaves in its place.
struct Change<'a> {
    place: Place,
    raw: &'a str,
    text: String,
}

impl Texts {
    /// The texts of an answer of this dialect. `None`: it carries none.
    pub fn of(dialect: Dialect, in_pieces: bool) -> Option<Self> {
        let fields = table::of(dialect)?;
        Some(Self { fields, in_pieces, open: Vec::new(), spoken: false, number: None, added: 0 })
    }

    /// Takes in an event, or a whole answer, which is the `last`: all texts end with it. `like`: what the framing needs to
    /// add an event like this one. `kind`: that of the event, where its frame tells it.
    pub fn take(
        &mut self,
        data: &str,
        kind: Option<&str>,
        last: bool,
        like: &dyn Fn() -> Vec<u8>,
        filter: &mut dyn Filter,
    ) -> Result<Taken, Unfiltered> {
        let known = |place: &Place| self.open.iter().any(|text| text.place == *place);
        let mut read = outline(self.fields, data, kind, &known).ok_or(Unfiltered("an event is no JSON"))?;
        read.ends_all |= last;
        let spoken: Vec<Place> = read.strings.iter().filter_map(|(target, _)| target.place().cloned()).collect();
        let ends = |place: &Place| read.ends_all || read.ends.contains(&place.part);
        // What has its last piece in this very event is finished in it; what is over without one, before it.
        let over = |place: &Place| {
            !spoken.contains(place) && (ends(place) || spoken.iter().any(|other| succeeds(other, place)))
        };
        let before = self.finish(over, filter);
        let mut edits = self.numbered(&read, data);
        let mut changes: Vec<Change<'_>> = Vec::new();
        let mut members = None;
        for (target, raw) in std::mem::take(&mut read.strings) {
            match target {
                Target::Out => edits.push(edit(data, raw, b"null".to_vec())),
                Target::Whole(place) => {
                    edits.extend(self.whole(place, raw, filter).map(|text| edit(data, raw, quoted(&text))));
                }
                Target::Name(place) => {
                    let Some(told) = self.whole(place, raw, filter) else { continue };
                    let members = members.get_or_insert_with(|| Members::of(data.as_bytes()));
                    let apart = members.rename(raw, &told).unwrap_or(told);
                    edits.push(edit(data, raw, quoted(&apart)));
                }
                Target::Piece { place, grows, around } => {
                    let Some(text) = json::text(raw) else { continue };
                    let at = self.begin(&place, grows, around, like)?;
                    let text = self.say(at, &text, filter);
                    changes.push(Change { place, raw, text });
                }
            }
        }
        for (at, place) in spoken.iter().enumerate() {
            let later = spoken.get(at.saturating_add(1)..).unwrap_or_default();
            let last = !later.contains(place);
            if last && (ends(place) || later.iter().any(|other| succeeds(other, place))) {
                self.end_within(place, &mut changes, filter);
            }
        }
        let changed = changes.iter().filter(|change| json::text(change.raw).is_none_or(|before| before != change.text));
        edits.extend(changed.map(|change| edit(data, change.raw, quoted(&change.text))));
        order::by_key(&mut edits, |edit| edit.at.start);
        Ok(Taken { before, edits })
    }

    /// Ends all texts that are open: what was held back of them, as events of their own.
    pub fn end(&mut self, filter: &mut dyn Filter) -> Vec<Added> {
        self.finish(|_| true, filter)
    }

    /// What leaves in the place of a string that is a whole text, or of a number, which gives way to a string: nothing of it
    /// stays around the words. `None`: it stays.
    fn whole(&self, mut place: Place, raw: &str, filter: &mut dyn Filter) -> Option<String> {
        place.again &= self.spoken;
        let number = !raw.starts_with('"');
        let text = if number { raw.into() } else { json::text(raw)? };
        let mut out = String::new();
        filter.push(&place, &text, &mut out);
        filter.finish(&place, &mut out);
        let stays = |c: char| number && (c.is_ascii_digit() || matches!(c, '-' | '.'));
        (out != *text).then(|| out.trim_matches(stays).to_owned())
    }

    /// Notes that a text has begun; where it is kept.
    fn begin(
        &mut self,
        place: &Place,
        grows: bool,
        around: Option<Around>,
        like: &dyn Fn() -> Vec<u8>,
    ) -> Result<usize, Unfiltered> {
        self.spoken = true;
        if let Some(at) = self.open.iter().position(|text| text.place == *place) {
            return Ok(at);
        }
        let grows = grows && !self.in_pieces;
        if self.open.len() >= MOST {
            return Err(Unfiltered("an answer has more than 256 texts"));
        }
        if grows && self.open.iter().filter(|text| text.grown.is_some()).count() >= MOST_REPEATED {
            return Err(Unfiltered("an answer has more than 8 texts that each event may repeat"));
        }
        let grown = grows.then(Grown::default);
        self.open.push(Text { place: place.clone(), around: around.unwrap_or_default(), like: like(), grown });
        Ok(self.open.len().saturating_sub(1))
    }

    /// More of a text; what leaves in its place.
    fn say(&mut self, at: usize, said: &str, filter: &mut dyn Filter) -> String {
        let mut out = String::new();
        let Some(Text { place, grown, .. }) = self.open.get_mut(at) else { return out };
        let Some(grown) = grown else {
            filter.push(place, said, &mut out);
            return out;
        };
        let repeats = !grown.settled && !grown.came.is_empty();
        match said.strip_prefix(grown.came.as_str()).filter(|_| repeats) {
            Some(new) => {
                filter.push(place, new, &mut grown.left);
                said.clone_into(&mut grown.came);
                grown.piecemeal = false;
                grown.left.clone()
            }
            None => {
                grown.piecemeal = !grown.came.is_empty();
                filter.push(place, said, &mut out);
                grown.keep(said, &out);
                out
            }
        }
    }

    /// Ends a text with its last piece in the event.
    fn end_within(&mut self, place: &Place, changes: &mut [Change<'_>], filter: &mut dyn Filter) {
        if let Some(change) = changes.iter_mut().rev().find(|change| change.place == *place) {
            filter.finish(place, &mut change.text);
        }
        self.open.retain(|text| text.place != *place);
    }

    /// Ends the texts that are `over`: what was held back of each, in an event of its own.
    fn finish(&mut self, over: impl Fn(&Place) -> bool, filter: &mut dyn Filter) -> Vec<Added> {
        let (ended, open): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.open).into_iter().partition(|text| over(&text.place));
        self.open = open;
        let mut added = Vec::new();
        for Text { place, around, like, grown } in ended {
            let mut rest = String::new();
            filter.finish(&place, &mut rest);
            if rest.is_empty() || filter.stopped() {
                continue;
            }
            let text = grown.filter(|grown| !grown.piecemeal).map(|grown| grown.left).unwrap_or_default() + &rest;
            added.push(Added { like, data: self.event(&around, &text) });
        }
        added
    }

    /// An event with nothing but this text, numbered where the others are.
    fn event(&mut self, around: &Around, text: &str) -> String {
        let Around { head, tail } = around;
        let text = String::from_utf8(quoted(text)).unwrap_or_default();
        let (Some(number), Some(members)) = (&mut self.number, head.strip_prefix('{')) else {
            return format!("{head}{text}{tail}");
        };
        *number = number.saturating_add(1);
        self.added = self.added.saturating_add(1);
        format!("{{\"sequence_number\":{number},{members}{text}{tail}")
    }

    /// The change to the number of an event behind those that were added.
    fn numbered(&mut self, read: &Outline<'_>, data: &str) -> Vec<Edit> {
        let Some((raw, number)) = read.number.and_then(|raw| Some((raw, json::whole(raw)?))) else { return Vec::new() };
        let number = number.saturating_add(self.added);
        self.number = Some(number);
        if self.added == 0 { Vec::new() } else { vec![edit(data, raw, number.to_string().into_bytes())] }
    }
}

impl Grown {
    /// Takes in a piece. Of a text that is longer than is kept it is taken for granted that it comes in pieces.
    fn keep(&mut self, came: &str, left: &str) {
        self.settled |= self.came.len().saturating_add(came.len()) > LONGEST_REPEATED;
        if self.settled {
            self.came.clear();
            self.left.clear();
        } else {
            self.came.push_str(came);
            self.left.push_str(left);
        }
    }
}

impl Target {
    /// The text that it is a piece of.
    fn place(&self) -> Option<&Place> {
        match self {
            Self::Piece { place, .. } => Some(place),
            Self::Whole(_) | Self::Name(_) | Self::Out => None,
        }
    }
}

/// Whether a piece at `now` means that the text at `before` is over: another kind of text of the same part. Tool calls
/// may come interleaved, so none ends another.
fn succeeds(now: &Place, before: &Place) -> bool {
    now.part == before.part && before.call.is_none() && (now.key != before.key || now.call.is_some())
}

fn edit(data: &str, raw: &str, with: Vec<u8>) -> Edit {
    let start = json::offset(data, raw);
    Edit { at: start..start.saturating_add(raw.len()), with }
}

fn quoted(text: &str) -> Vec<u8> {
    serde_json::to_vec(text).unwrap_or_default()
}
