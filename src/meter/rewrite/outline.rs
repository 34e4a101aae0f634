//! What an event has to do with texts, by the table of its dialect.

use std::borrow::Cow;

use super::Place;
use super::table::{self, Ends, Fields, Node};
use super::texts::MOST;
use crate::meter::{json, written};

/// How deep strings in unknown places are looked for.
const DEEPEST: u8 = 24;

/// Keys in what is told again whose strings are no text, unless somebody's tool has called its arguments so.
const NAMES: [&[u8]; 9] =
    [b"call_id", b"encrypted_content", b"id", b"item_id", b"object", b"role", b"signature", b"status", b"type"];

/// What becomes of a value in an event.
#[derive(Debug)]
pub(super) enum Target {
    /// A piece of this text; `grows`: or all of it so far. `around`: of a text that begins.
    Piece { place: Place, grows: bool, around: Option<Around> },
    /// A text, or a number, that is whole by itself.
    Whole(Place),
    /// The name of a member among arguments.
    Name(Place),
    /// It repeats what stands elsewhere, and is taken out: `null`.
    Out,
}

/// An event with nothing but one text, before and behind that; without the number of the event.
#[derive(Clone, Debug, Default)]
pub(super) struct Around {
    pub head: String,
    pub tail: String,
}

/// What an event has to do with texts. The raw values are slices of its data.
#[derive(Default)]
pub(super) struct Outline<'a> {
    pub strings: Vec<(Target, &'a str)>,
    /// Parts that end with it.
    pub ends: Vec<u64>,
    /// Everything ends with it.
    pub ends_all: bool,
    /// The number of the event, where it has one.
    pub number: Option<&'a str>,
}

/// The outline of an event or a document. `kind`: that of the event, where its frame tells it. `known`: whether a text has
/// begun. `None`: neither a JSON object nor a list of them.
pub(super) fn outline<'a>(
    fields: Fields,
    data: &'a str,
    kind: Option<&str>,
    known: &dyn Fn(&Place) -> bool,
) -> Option<Outline<'a>> {
    let kind = kind.map(str::to_owned);
    let mut walk = Walk { outline: Outline::default(), kind, sealed: None, known, begun: Vec::new() };
    let within = Within::default();
    if data.trim_ascii_start().starts_with('[') {
        json::elements(data, |raw| walk.one(fields, "", raw, within, &Above::Element(&Above::Top)))?;
    } else {
        walk.object(fields, data, within, &Above::Top)?;
    }
    let Walk { mut outline, kind, sealed, .. } = walk;
    outline.ends_all |= kind.as_deref().map(table::ends) == Some(Ends::All);
    // The signature of thoughts comes when they are over.
    if outline.strings.is_empty() {
        outline.ends.extend(sealed);
    }
    Some(outline)
}

/// An event under way through its table.
struct Walk<'a, 'k> {
    outline: Outline<'a>,
    kind: Option<String>,
    sealed: Option<u64>,
    known: &'k dyn Fn(&Place) -> bool,
    /// Texts that begin with it. An answer with more than [`MOST`] is not filtered at all.
    begun: Vec<Place>,
}

/// Where in an event a value stands.
#[derive(Clone, Copy, Debug, Default)]
struct Within {
    part: u64,
    call: Option<u64>,
    /// It is told apart by its place in a list alone, so that no later event can go on with it.
    nameless: bool,
    aside: bool,
    starts: bool,
    /// How many lists it is in that no table knows.
    depth: u8,
}

/// What a value is in.
enum Above<'s, 'a> {
    Top,
    Element(&'s Above<'s, 'a>),
    Entry { of: &'s Above<'s, 'a>, entries: &'s [Entry<'a>], key: &'s str },
}

/// An entry of an object that a table describes.
struct Entry<'a> {
    key: Cow<'static, str>,
    node: Node,
    raw: &'a str,
}

impl<'a> Walk<'a, '_> {
    /// An object. Answers the part that it belongs to; `None`: it is none.
    fn object(&mut self, fields: Fields, raw: &'a str, mut within: Within, above: &Above<'_, 'a>) -> Option<u64> {
        let mut entries = Vec::new();
        json::entries(raw, |key, raw| {
            let (name, node) = table::node(fields, key, raw.starts_with('"'));
            let key = name.map_or_else(|| Cow::Owned(String::from_utf8_lossy(key).into_owned()), Cow::Borrowed);
            entries.push(Entry { key, node, raw });
        })?;
        for Entry { node, raw, .. } in &entries {
            match node {
                Node::Part => {
                    (within.part, within.nameless) = (json::whole(raw).unwrap_or(within.part), false);
                }
                Node::Call => (within.call, within.nameless) = (json::whole(raw).or(within.call), false),
                Node::Kind => self.kind = json::text(raw).map(|kind| kind.into_owned()).or(self.kind.take()),
                Node::Sequence => self.outline.number = Some(raw),
                Node::Aside => within.aside = *raw == "true",
                _ => {}
            }
        }
        if self.kind.as_deref().map(table::ends) == Some(Ends::Part) && matches!(above, Above::Top) {
            self.outline.ends.push(within.part);
        }
        for Entry { key, node, raw } in &entries {
            self.value(*node, key, raw, within, &entries, above);
        }
        Some(within.part)
    }

    fn value(
        &mut self,
        node: Node,
        key: &str,
        raw: &'a str,
        within: Within,
        entries: &[Entry<'a>],
        above: &Above<'_, 'a>,
    ) {
        let here = &Above::Entry { of: above, entries, key };
        match node {
            _ if json::is_null(raw) => {}
            Node::Skip | Node::Keep | Node::Part | Node::Call | Node::Sequence | Node::Kind | Node::Aside => {}
            Node::Piece(name) => self.piece(name, false, raw, within, here),
            Node::Grows(name) => self.piece(name, true, raw, within, here),
            Node::Own => self.piece(key, false, raw, within, here),
            // What a shell prints comes under two keys.
            Node::Delta if raw.starts_with('{') => self.one(table::OWN, key, raw, within, here),
            Node::Delta => {
                let name = self.kind.clone().unwrap_or_default();
                self.piece(&name, false, raw, within, here);
            }
            Node::Seal => self.sealed = self.sealed.or((raw != "\"\"").then_some(within.part)),
            Node::Again => self.below(key, raw, true, false, DEEPEST),
            Node::Last(node) => {
                self.outline.ends_all = true;
                self.value(*node, key, raw, within, entries, above);
            }
            Node::Out => self.out(raw),
            Node::End if is_end(raw) => self.outline.ends.push(within.part),
            Node::EndAll => self.outline.ends_all |= is_end(raw),
            Node::End => {}
            Node::Whole => self.below(key, raw, false, false, DEEPEST),
            Node::Unless(beside, _) if entries.iter().any(|entry| entry.key == beside && !json::is_null(entry.raw)) => {
                self.out(raw);
            }
            Node::Object(fields) | Node::Unless(_, fields) => self.one(fields, key, raw, within, here),
            Node::Start(fields) => self.one(fields, key, raw, Within { starts: true, ..within }, here),
            Node::Stop(fields) => {
                let part = self.object(fields, raw, within, here);
                self.outline.ends.extend(part);
            }
            Node::Parts(fields) => self.list(fields, key, raw, here, |at| Within { part: at, ..within }),
            Node::Calls(fields) => self.list(fields, key, raw, here, |at| Within { call: Some(at), ..within }),
        }
    }

    /// Objects that are told apart.
    fn list(&mut self, fields: Fields, key: &str, raw: &'a str, above: &Above<'_, 'a>, of: impl Fn(u64) -> Within) {
        let mut at = 0;
        let listed = json::elements(raw, |raw| {
            let within = Within { nameless: at > 0, ..of(at) };
            self.one(fields, key, raw, within, &Above::Element(above));
            at += 1;
        });
        if listed.is_none() {
            self.one(fields, key, raw, of(0), above);
        }
    }

    /// An object, or several that belong together, or a string in their place.
    fn one(&mut self, fields: Fields, key: &str, raw: &'a str, within: Within, above: &Above<'_, 'a>) {
        if raw.starts_with('"') {
            return match table::node(fields, b"text", true).1 {
                Node::Grows(name) => self.piece(name, true, raw, within, above),
                Node::Piece(name) => self.piece(name, false, raw, within, above),
                _ => self.piece(key, false, raw, within, above),
            };
        }
        if within.depth > DEEPEST {
            return self.out(raw);
        }
        if self.object(fields, raw, within, above).is_none() {
            let within = Within { depth: within.depth.saturating_add(1), ..within };
            json::elements(raw, |raw| self.one(fields, key, raw, within, &Above::Element(above)));
        }
    }

    fn piece(&mut self, name: &str, grows: bool, raw: &'a str, within: Within, above: &Above<'_, 'a>) {
        let json = table::is_json(name);
        if !raw.starts_with('"') || within.nameless {
            return self.below(name, raw, false, false, DEEPEST);
        }
        if raw == "\"\"" {
            return;
        }
        let key = if within.aside { "aside" } else { name };
        let place = Place { part: within.part, call: within.call, key: key.to_owned(), json, again: false };
        let begins = self.begun.len() <= MOST && !self.begun.contains(&place) && !(self.known)(&place);
        let around = begins.then(|| match within.starts {
            true => goes_on(within.part, name),
            false => Around::of(above),
        });
        self.begun.extend(begins.then(|| place.clone()));
        self.outline.strings.push((Target::Piece { place, grows, around }, raw));
    }

    /// Adds every string below `raw` as whole texts; and where those are `arguments` of a tool, the names of members, which
    /// elsewhere are the provider's, and numbers, which elsewhere are durations, counts and moments.
    fn below(&mut self, key: &str, raw: &'a str, again: bool, arguments: bool, depth: u8) {
        let Some(below) = depth.checked_sub(1) else {
            // Deeper than any answer: taken out rather than passed unread.
            return self.out(raw);
        };
        if raw.starts_with('"') {
            return self.outline.strings.push((Target::Whole(Place::whole(table::is_json(key), again)), raw));
        }
        let arguments = arguments || table::is_json(key) || key == "args";
        if arguments && written::is_long(raw) {
            return self.outline.strings.push((Target::Whole(Place::whole(false, again)), raw));
        }
        let object = json::entries(raw, |key, value| {
            if arguments && let Some(name) = json::name(raw, value) {
                self.outline.strings.push((Target::Name(Place::whole(false, again)), name));
            }
            if !again || arguments || !NAMES.contains(&key) {
                self.below(&String::from_utf8_lossy(key), value, again, arguments, below);
            }
        });
        if object.is_none() {
            json::elements(raw, |value| self.below(key, value, again, arguments, below));
        }
    }

    /// Takes something out, unless there is nothing in it.
    fn out(&mut self, raw: &'a str) {
        if json::says(raw) {
            self.outline.strings.push((Target::Out, raw));
        }
    }
}

/// Whether this says that something is over: a reason, or `true`. DashScope writes the text `null` until then.
fn is_end(raw: &str) -> bool {
    json::says(raw) && raw != "\"null\""
}

/// The event by which Anthropic goes on with a block that has begun.
fn goes_on(part: u64, name: &str) -> Around {
    let kind = match name {
        "thinking" => "thinking_delta",
        "partial_json" => "input_json_delta",
        _ => "text_delta",
    };
    let head =
        format!("{{\"type\":\"content_block_delta\",\"index\":{part},\"delta\":{{\"type\":\"{kind}\",\"{name}\":");
    Around { head, tail: "}}".to_owned() }
}

/// The kind of the event that goes on with what one of this kind begins.
pub(super) fn going_on(kind: &str) -> String {
    match kind {
        "content_block_start" => "content_block_delta".to_owned(),
        kind => kind.strip_suffix("-start").map_or_else(|| kind.to_owned(), |stem| format!("{stem}-delta")),
    }
}

impl Around {
    fn of(above: &Above<'_, '_>) -> Self {
        let mut around = Self::default();
        around.add(above);
        around
    }

    fn add(&mut self, above: &Above<'_, '_>) {
        match above {
            Above::Top => {}
            Above::Element(of) => {
                self.add(of);
                self.head.push('[');
                self.tail.insert(0, ']');
            }
            Above::Entry { of, entries, key } => {
                self.add(of);
                self.head.push('{');
                for Entry { key: other, node, raw } in entries.iter().filter(|entry| entry.key != **key) {
                    if let Some(kept) = kept(*node, raw) {
                        self.head.push_str(&format!("{}:{kept},", serde_json::Value::from(&**other)));
                    }
                }
                self.head.push_str(&format!("{}:", serde_json::Value::from(*key)));
                self.tail.insert(0, '}');
            }
        }
    }
}

/// What an added event has of an entry that is no text.
fn kept(node: Node, raw: &str) -> Option<String> {
    match node {
        Node::Keep | Node::Part | Node::Call | Node::Aside => Some(raw.to_owned()),
        Node::Kind => json::text(raw).map(|kind| serde_json::Value::from(going_on(&kind)).to_string()),
        Node::End if is_end(raw) => Some("null".to_owned()),
        Node::End => Some(raw.to_owned()),
        Node::EndAll => (!is_end(raw) && !raw.starts_with(['{', '['])).then(|| raw.to_owned()),
        _ => None,
    }
}
