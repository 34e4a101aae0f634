//! Reading a tree: mappings by their known keys, and single values by their form.
//!
//! Every function notes what is wrong among the faults and answers `None`; the caller goes on with the rest,
//! so that one run finds all there is. `what` names the place in the file's own words, such as `plans.team`.

use super::diagnostic::{Code, Complaint, Faults, listed, meant, nearest, shown};
use super::tree::{Entry, Mark, Node, Spanned, Value};

/// A mapping whose keys are known.
pub(super) struct Fields<'a> {
    at: Mark,
    what: String,
    entries: &'a [Entry],
    /// The known keys that unknown ones were most likely meant to be.
    misspelt: Vec<String>,
}

impl<'a> Fields<'a> {
    /// Notes every key that is not among `known`.
    pub fn of(node: &'a Node, what: impl Into<String>, known: &[&str], faults: &mut Faults) -> Option<Self> {
        let what = what.into();
        let entries = map(node, &what, faults)?;
        let mut misspelt = Vec::new();
        for entry in entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            misspelt.extend(nearest(&entry.key, known).map(str::to_owned));
            let message = format!("unknown key {} in {what}", shown(&entry.key));
            let help = meant(&entry.key, known.iter().copied(), "keys");
            faults.add(entry.at, Code::UnknownKey, message, help);
        }
        Some(Self { at: node.at, what, entries, misspelt })
    }

    /// What is written under `key`, if anything is.
    pub fn optional(&self, key: &str) -> Option<&'a Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// What is written under `key`, which must be there. A misspelt one has been noted already.
    pub fn required(&self, key: &str, help: &str, faults: &mut Faults) -> Option<&'a Node> {
        let found = self.optional(key);
        if found.is_none() && !self.misspelt.iter().any(|meant| meant == key) {
            let message = format!("the key `{key}` is missing in {}", self.what);
            faults.add(self.at, Code::MissingKey, message, help);
        }
        found
    }

    /// Where the key itself stands, or the mapping when it is absent.
    pub fn key_at(&self, key: &str) -> Mark {
        self.entry(key).map_or(self.at, |entry| entry.at)
    }

    /// The place of a key in the file's own words.
    pub fn path(&self, key: &str) -> String {
        match self.what.as_str() {
            "the policy" => key.to_owned(),
            what => format!("{what}.{key}"),
        }
    }

    fn entry(&self, key: &str) -> Option<&'a Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }
}

fn wrong(node: &Node, what: &str, expected: &str, help: &str, faults: &mut Faults) {
    if node.value == Value::Faulty {
        return;
    }
    let message = format!("{what} must be {expected}, not {}", node.value.kind());
    faults.add(node.at, Code::WrongType, message, help);
}

/// A mapping with keys of the author's choice.
pub(super) fn map<'a>(node: &'a Node, what: &str, faults: &mut Faults) -> Option<&'a [Entry]> {
    match &node.value {
        Value::Map(entries) => Some(entries),
        _ => {
            wrong(node, what, "a mapping", "write `key: value` lines below it, or `{key: value}`", faults);
            None
        }
    }
}

/// A list, which says something: an empty one is a fault.
pub(super) fn list<'a>(node: &'a Node, what: &str, faults: &mut Faults) -> Option<&'a [Node]> {
    match &node.value {
        Value::List(items) if items.is_empty() => {
            faults.add(
                node.at,
                Code::BadValue,
                format!("{what} is an empty list"),
                "list at least one, or leave the key out",
            );
            None
        }
        Value::List(items) => Some(items),
        _ => {
            wrong(node, what, "a list", "write `- item` lines below it, or `[item, item]`", faults);
            None
        }
    }
}

/// Any single value, as its text.
pub(super) fn text<'a>(node: &'a Node, what: &str, faults: &mut Faults) -> Option<&'a str> {
    match &node.value {
        Value::Plain(text) | Value::Quoted(text) => Some(text),
        _ => {
            wrong(node, what, "a single value", "write it on the line of its key, or leave the key out", faults);
            None
        }
    }
}

/// A single value in a form of its own: an amount, a duration, an address.
pub(super) fn form<T>(
    node: &Node,
    what: &str,
    faults: &mut Faults,
    parse: impl FnOnce(&str) -> Result<T, Complaint>,
) -> Option<Spanned<T>> {
    let parsed = parse(text(node, what, faults)?);
    faults.keep(node.at, parsed).map(|value| Spanned { at: node.at, value })
}

/// A whole number within bounds.
pub(super) fn whole(node: &Node, what: &str, least: u64, most: u64, faults: &mut Faults) -> Option<u64> {
    let help = match least == most {
        true => format!("write `{least}`, without quotes"),
        false => format!("write a whole number from {least} to {most}, without quotes"),
    };
    match &node.value {
        Value::Plain(text) => {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            let number = text.parse::<u64>().ok().filter(|n| digits && (least..=most).contains(n));
            if number.is_none() {
                faults.add(node.at, Code::BadValue, format!("{what} cannot be {}", shown(text)), help);
            }
            number
        }
        Value::Quoted(text) => {
            faults.add(node.at, Code::WrongType, format!("{what} is a number, but {} is in quotes", shown(text)), help);
            None
        }
        _ => {
            wrong(node, what, "a number", &help, faults);
            None
        }
    }
}

/// A switch.
pub(super) fn switch(node: &Node, what: &str, faults: &mut Faults) -> Option<bool> {
    match &node.value {
        Value::Plain(text) if text == "true" => Some(true),
        Value::Plain(text) if text == "false" => Some(false),
        Value::Plain(text) | Value::Quoted(text) => {
            let message = format!("{what} is a switch and cannot be {}", shown(text));
            faults.add(node.at, Code::WrongType, message, "write `true` or `false`, without quotes");
            None
        }
        _ => {
            wrong(node, what, "a switch", "write `true` or `false`", faults);
            None
        }
    }
}

/// One of a few words.
pub(super) fn choice<T: Copy>(node: &Node, what: &str, words: &[(&str, T)], faults: &mut Faults) -> Option<T> {
    let written = text(node, what, faults)?;
    let found = words.iter().find(|(word, _)| *word == written).map(|(_, value)| *value);
    if found.is_none() {
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let near = nearest(written, &known).map(|near| format!("did you mean `{near}`?"));
        let help = near.unwrap_or_else(|| format!("write {}", listed(&known)));
        faults.add(node.at, Code::BadValue, format!("{what} cannot be {}", shown(written)), help);
    }
    found
}

/// A name that keys in shared data, headers and metric labels can carry.
pub(super) fn name(written: &str, what: &str) -> Result<(), Complaint> {
    const LONGEST: usize = 64;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@' | '+');
    let starts = written.starts_with(|c: char| c.is_ascii_alphanumeric());
    if starts && written.len() <= LONGEST && written.chars().all(fits) {
        return Ok(());
    }
    let help = format!(
        "write up to {LONGEST} ASCII letters, digits or {}, beginning with a letter or digit",
        listed(&[".", "_", "-", "@", "+"])
    );
    Err(Complaint::new(Code::BadValue, format!("{} is no name for {what}", shown(written)), help))
}

/// A list of names, each once.
pub(super) fn names(node: &Node, what: &str, faults: &mut Faults) -> Vec<Spanned<String>> {
    let mut names: Vec<Spanned<String>> = Vec::new();
    for item in list(node, what, faults).unwrap_or_default() {
        let Some(name) = named(item, what, faults) else { continue };
        if names.iter().any(|known| known.value == name.value) {
            let message = format!("{} is listed twice in {what}", shown(&name.value));
            faults.add(name.at, Code::Duplicate, message, "keep one of them");
        } else {
            names.push(name);
        }
    }
    names
}

/// A single value that is a name.
pub(super) fn named(node: &Node, what: &str, faults: &mut Faults) -> Option<Spanned<String>> {
    form(node, what, faults, |written| name(written, what).map(|()| written.to_owned()))
}
