//! YAML text as a tree in which every node knows where it stands.
//!
//! JSON is YAML, so one parser reads both. What a policy has no use for is refused here: anchors, aliases,
//! tags, merge keys, several documents, and keys that stand twice. Size and depth are bounded, so that the
//! functions over a tree may recurse.

use std::collections::HashMap;
use std::ops::Range;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span};

use super::diagnostic::{Code, Faults, shown};

/// The largest policy, in bytes.
pub const LARGEST: usize = 4 << 20;
/// The deepest nesting of lists and mappings.
pub const DEEPEST: usize = 32;

/// The most opening brackets and commas: the parser keeps some hundred bytes for each while a bracket is open.
const MOST_ITEMS: usize = 200_000;

const SPLIT: &str = "keep fewer seats in one file, or split it into several bundles";

/// A place in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Mark {
    /// From 1.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
}

impl From<Marker> for Mark {
    fn from(marker: Marker) -> Self {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self { line: number(marker.line()), column: number(marker.col()).saturating_add(1) }
    }
}

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spanned<T> {
    pub at: Mark,
    pub value: T,
}

/// A node of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub at: Mark,
    pub value: Value,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// Nothing was written, or `null`, or `~`.
    Null,
    /// What cannot be used, and is noted among the faults already.
    Faulty,
    /// Text without quotes: a word, a number, a switch.
    Plain(String),
    /// Text in quotes, or a block of text.
    Quoted(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order written; no key stands twice.
    Map(Vec<Entry>),
}

/// One line of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub at: Mark,
    pub key: String,
    pub value: Node,
}

impl Value {
    /// What kind of thing it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null | Self::Faulty => "nothing",
            Self::Plain(_) | Self::Quoted(_) => "a single value",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

/// Reads a text. `None`: there is no tree, and the reason is among the faults.
pub(super) fn parse(text: &str, faults: &mut Faults) -> Option<Node> {
    let start = Mark { line: 1, column: 1 };
    if text.len() > LARGEST {
        let message = "the file is larger than 4 MiB";
        faults.add(start, Code::TooLarge, message, SPLIT);
        return None;
    }
    match estimate(text) {
        Estimate::Moderate => {}
        Estimate::Deep => {
            too_deep(start, faults);
            return None;
        }
        Estimate::Many => {
            let message = format!("the file has more than {MOST_ITEMS} brackets and commas");
            faults.add(start, Code::TooLarge, message, SPLIT);
            return None;
        }
    }
    let mut parser = Parser::new_from_str(text);
    let mut builder = Builder::default();
    while let Some(event) = parser.next_event() {
        match event {
            Ok((Event::StreamEnd, _)) => break,
            Ok((event, span)) => builder.event(event, span, faults)?,
            Err(error) => {
                let message = format!("cannot be read: {}", error.info());
                let help = syntax_help(error.info());
                faults.add(Mark::from(*error.marker()), Code::Syntax, message, help);
                return None;
            }
        }
    }
    if builder.root.is_none() {
        faults.add(start, Code::Syntax, "the file is empty", "start with `farebox: 1`");
    }
    builder.root
}

/// Where a single value stands in the text, in bytes, quotes and all: the one that begins at a place of the tree.
pub(super) fn place_of(text: &str, at: Mark) -> Option<Range<usize>> {
    let byte = |marker: Marker| text.char_indices().nth(marker.index()).map_or(text.len(), |(byte, _)| byte);
    let mut events = Parser::new_from_str(text).map_while(Result::ok);
    let is_it = |(event, span): &(Event<'_>, Span)| matches!(event, Event::Scalar(..)) && Mark::from(span.start) == at;
    let (_, span) = events.find(is_it)?;
    let (start, end) = (byte(span.start), byte(span.end));
    // Behind closing quotes the parser counts the blanks too.
    Some(start..start.saturating_add(text.get(start..end)?.trim_end().len()))
}

/// The parser's words say what it met; these say what the author most likely meant.
fn syntax_help(info: &str) -> &'static str {
    if info.contains("anchor") {
        "put a value that begins with `*` or `&` in quotes, for example `\"*\"`"
    } else if info.contains("tab") {
        "indent with spaces"
    } else if info.contains("Unicode character escape") {
        "write the character itself; halves of a surrogate pair are not read"
    } else {
        "check indentation, quotes and brackets here and in the line above"
    }
}

fn too_deep(at: Mark, faults: &mut Faults) {
    let message = format!("lists and mappings are nested deeper than {DEEPEST} levels");
    faults.add(at, Code::TooLarge, message, "no part of a policy needs such depth");
}

/// Puts events together. `None` from a method: give up, the reason is among the faults.
#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    root: Option<Node>,
}

/// A list or mapping whose end has not come.
enum Open {
    List { at: Mark, items: Vec<Node> },
    Map { at: Mark, entries: Vec<Entry>, seen: HashMap<String, Mark>, key: Option<Spanned<Option<String>>> },
}

impl Builder {
    fn event(&mut self, event: Event<'_>, span: Span, faults: &mut Faults) -> Option<()> {
        let at = Mark::from(span.start);
        match event {
            Event::DocumentStart(_) if self.root.is_some() => {
                let help = "keep one policy in a file; remove this `---` and what follows";
                faults.add(at, Code::YamlFeature, "a second document begins here", help);
                return None;
            }
            Event::Alias(_) => {
                faults.add(at, Code::YamlFeature, "aliases are not used in policies", "write the value out");
                self.place(Node { at, value: Value::Faulty }, faults);
            }
            Event::Scalar(text, style, anchor, tag) => {
                plain_features(at, anchor, tag.is_some(), faults);
                self.place(Node { at, value: scalar(text.into_owned(), style) }, faults);
            }
            Event::SequenceStart(anchor, tag) => {
                plain_features(at, anchor, tag.is_some(), faults);
                self.enter(Open::List { at, items: Vec::new() }, at, faults)?;
            }
            Event::MappingStart(anchor, tag) => {
                plain_features(at, anchor, tag.is_some(), faults);
                let map = Open::Map { at, entries: Vec::new(), seen: HashMap::new(), key: None };
                self.enter(map, at, faults)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.leave(faults),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {}
        }
        Some(())
    }

    fn enter(&mut self, open: Open, at: Mark, faults: &mut Faults) -> Option<()> {
        if self.open.len() >= DEEPEST {
            too_deep(at, faults);
            return None;
        }
        self.open.push(open);
        Some(())
    }

    fn leave(&mut self, faults: &mut Faults) {
        let node = match self.open.pop() {
            Some(Open::List { at, items }) => Node { at, value: Value::List(items) },
            Some(Open::Map { at, entries, .. }) => Node { at, value: Value::Map(entries) },
            None => return,
        };
        self.place(node, faults);
    }

    /// A node is complete: it is a key, a value, an item, or the whole file.
    fn place(&mut self, node: Node, faults: &mut Faults) {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map { entries, seen, key, .. }) => match key.take() {
                None => *key = Some(Spanned { at: node.at, value: key_text(node, faults) }),
                Some(Spanned { value: None, .. }) => {}
                Some(Spanned { at, value: Some(text) }) => match seen.get(&text) {
                    Some(first) => {
                        let message = format!("the key {} stands twice in this mapping", shown(&text));
                        let help = format!("keep one of them; the first is in line {}", first.line);
                        faults.add(at, Code::Duplicate, message, help);
                    }
                    None => {
                        seen.insert(text.clone(), at);
                        entries.push(Entry { at, key: text, value: node });
                    }
                },
            },
        }
    }
}

/// Anchors and tags are refused, and their node is read as if they were not there.
fn plain_features(at: Mark, anchor: usize, tagged: bool, faults: &mut Faults) {
    if anchor != 0 {
        faults.add(at, Code::YamlFeature, "anchors are not used in policies", "remove the `&name` before this value");
    }
    if tagged {
        faults.add(at, Code::YamlFeature, "tags are not used in policies", "remove the `!tag` before this value");
    }
}

fn scalar(text: String, style: ScalarStyle) -> Value {
    match style {
        ScalarStyle::Plain if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL") => Value::Null,
        ScalarStyle::Plain => Value::Plain(text),
        _ => Value::Quoted(text),
    }
}

fn key_text(node: Node, faults: &mut Faults) -> Option<String> {
    match node.value {
        Value::Plain(text) if text == "<<" => {
            faults.add(node.at, Code::YamlFeature, "merge keys are not used in policies", "write the keys out");
            None
        }
        Value::Plain(text) | Value::Quoted(text) => Some(text),
        other => {
            let message = format!("a key is a word, but this is {}", other.kind());
            faults.add(node.at, Code::WrongType, message, "write `name: value`; quote a name that holds brackets");
            None
        }
    }
}

/// What parsing a text would take.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Estimate {
    Moderate,
    Deep,
    Many,
}

/// Judges a text before it is parsed.
///
/// While a bracket is open the parser keeps every token, and for each of them it looks at every open bracket
/// again, so that a file of nothing but brackets would take hours. This errs towards deeper: every opening
/// bracket counts, a closing one only outside what may be a quote or a comment. The exact depth is the builder's.
fn estimate(text: &str) -> Estimate {
    const DEEPEST_ESTIMATE: usize = 256;
    let (mut depth, mut items) = (0_usize, 0_usize);
    let mut inside = Inside::Start;
    let mut before = '\n';
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if let '[' | '{' = c {
            depth += 1;
        }
        items += usize::from(matches!(c, '[' | '{' | ','));
        if depth > DEEPEST_ESTIMATE || items > MOST_ITEMS {
            return if depth > DEEPEST_ESTIMATE { Estimate::Deep } else { Estimate::Many };
        }
        inside = match (inside, c) {
            (Inside::Comment, '\n') => Inside::Start,
            (Inside::Double, '\\') => {
                chars.next_if(|next| matches!(next, '"' | '\\'));
                Inside::Double
            }
            (Inside::Single, '\'') if chars.next_if_eq(&'\'').is_some() => Inside::Single,
            (Inside::Double, '"') | (Inside::Single, '\'') => Inside::Plain,
            (Inside::Comment | Inside::Double | Inside::Single, _) => inside,
            (_, '#') if before.is_whitespace() => Inside::Comment,
            (Inside::Start, '"') if depth > 0 => Inside::Double,
            (Inside::Start, '\'') if depth > 0 => Inside::Single,
            (_, ']' | '}') => {
                depth = depth.saturating_sub(1);
                Inside::Plain
            }
            (_, '[' | '{' | ',' | ':') => Inside::Start,
            (Inside::Start, c) if c.is_whitespace() => Inside::Start,
            _ => Inside::Plain,
        };
        before = c;
    }
    Estimate::Moderate
}

/// Where [`estimate`] believes to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    /// Where a value may start: only here a quote opens.
    Start,
    Plain,
    Double,
    Single,
    Comment,
}
