//! What is wrong with a policy file, where, and what to do about it.
//!
//! All faults of a file are collected in one run. Texts are lower case, without a final full stop, on one
//! line, with what the author wrote in backticks; they never repeat a credential.

use std::fmt;

use serde::Serialize;

use super::tree::Mark;
use crate::order;

/// More diagnostics than this are not collected: the last one then says that there are more.
pub const MOST: usize = 200;

/// The kind of a fault, stable across versions: what scripts and editors match on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The text is neither YAML nor JSON.
    Syntax,
    /// The file, a list or a name passes a fixed bound.
    TooLarge,
    /// A YAML feature that policies do not use: anchors, aliases, tags, merge keys, several documents.
    YamlFeature,
    /// A key that means nothing here.
    UnknownKey,
    /// A key that must be there is not.
    MissingKey,
    /// The same key, name or credential twice.
    Duplicate,
    /// A list where a mapping belongs, and the like.
    WrongType,
    /// A value outside its range or form.
    BadValue,
    /// A unit that nobody measures.
    UnknownUnit,
    /// A vocabulary that is not built in.
    UnknownEncoding,
    /// A name that is not in the IANA time zone database.
    UnknownZone,
    /// A window of no known kind.
    UnknownWindow,
    /// A name that is defined nowhere in the file.
    UnknownName,
    /// A key that is no SHA-256 hash.
    BadHash,
    /// A line that an earlier one always takes the place of.
    Shadowed,
    /// A definition that nothing uses.
    Unused,
    /// A credits quota, and a model whose price in credits is not stated.
    NoPrice,
    /// Two settings that exclude each other, or a setting that could not take effect.
    Conflict,
    /// An update that would edit a plan that was sold, or open a fresh budget beside a spent one.
    Succession,
    /// More faults than are shown.
    More,
}

impl Code {
    /// The code as it is printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::TooLarge => "too-large",
            Self::YamlFeature => "yaml-feature",
            Self::UnknownKey => "unknown-key",
            Self::MissingKey => "missing-key",
            Self::Duplicate => "duplicate",
            Self::WrongType => "wrong-type",
            Self::BadValue => "bad-value",
            Self::UnknownUnit => "unknown-unit",
            Self::UnknownEncoding => "unknown-encoding",
            Self::UnknownZone => "unknown-zone",
            Self::UnknownWindow => "unknown-window",
            Self::UnknownName => "unknown-name",
            Self::BadHash => "bad-hash",
            Self::Shadowed => "shadowed",
            Self::Unused => "unused",
            Self::NoPrice => "no-price",
            Self::Conflict => "conflict",
            Self::Succession => "succession",
            Self::More => "more",
        }
    }
}

/// One fault of a policy file. Its [`Display`](fmt::Display) is the form for people: one line, and one more for the help.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// What kind of fault.
    pub code: Code,
    /// The file's name as the caller gave it.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: String,
}

impl Diagnostic {
    /// The form for logs that keep one line an entry: the help follows in parentheses.
    pub fn one_line(&self) -> String {
        let Self { code, file, line, column, message, help } = self;
        format!("{file}:{line}:{column}: error[{}]: {message} ({help})", code.name())
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, file, line, column, message, help } = self;
        write!(f, "{file}:{line}:{column}: error[{}]: {message}\n  help: {help}", code.name())
    }
}

/// A fault of one value, before it is known where in the file it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    pub code: Code,
    pub message: String,
    pub help: String,
}

impl Complaint {
    pub fn new(code: Code, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { code, message: message.into(), help: help.into() }
    }
}

/// The faults found so far.
#[derive(Debug, Default)]
pub(super) struct Faults {
    list: Vec<(Mark, Complaint)>,
    /// Where the first fault stands that found no room.
    more: Option<Mark>,
}

impl Faults {
    pub fn add(&mut self, at: Mark, code: Code, message: impl Into<String>, help: impl Into<String>) {
        self.complain(at, Complaint::new(code, message, help));
    }

    pub fn complain(&mut self, at: Mark, complaint: Complaint) {
        if !self.are_full() {
            self.list.push((at, complaint));
        } else if self.more.is_none() {
            self.more = Some(at);
        }
    }

    /// The value, or nothing and its complaint noted.
    pub fn keep<T>(&mut self, at: Mark, value: Result<T, Complaint>) -> Option<T> {
        value.map_err(|complaint| self.complain(at, complaint)).ok()
    }

    /// Whether no more can be told.
    pub fn are_full(&self) -> bool {
        self.list.len() >= MOST
    }

    /// [`meant`], for lists as long as the file allows: it is not looked for when it could not be shown.
    pub fn meant<'a>(&self, written: &str, known: impl IntoIterator<Item = &'a str>, things: &str) -> String {
        if self.are_full() { String::new() } else { meant(written, known, things) }
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// All of them, in the order of the file.
    pub fn into_diagnostics(self, file: &str) -> Vec<Diagnostic> {
        let mut list = self.list;
        order::by_key(&mut list, |(at, _)| *at);
        if let Some(at) = self.more {
            let message = format!("there are more faults than the {MOST} shown");
            list.push((at, Complaint::new(Code::More, message, "mend these and check again")));
        }
        let placed = |(at, Complaint { code, message, help }): (Mark, Complaint)| Diagnostic {
            code,
            file: file.to_owned(),
            line: at.line,
            column: at.column,
            message,
            help,
        };
        list.into_iter().map(placed).collect()
    }
}

/// Help for a name that is not among `known`: the nearest one, else all of them when they are few.
/// `things` says in the plural what they are.
pub(super) fn meant<'a>(written: &str, known: impl IntoIterator<Item = &'a str>, things: &str) -> String {
    let mut known: Vec<&str> = known.into_iter().collect();
    if let Some(near) = nearest(written, &known) {
        return format!("did you mean `{near}`?");
    }
    order::by(&mut known, |one, other| one.cmp(other));
    match known.len() {
        0 => format!("there are no {things}"),
        1..=16 => {
            format!("known {things}: {}", known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "))
        }
        many => format!("none of the {many} {things} is like it"),
    }
}

/// `a`, `b` or `c`, in backticks.
pub(super) fn listed(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        None => "nothing".to_owned(),
        Some((only, [])) => only.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}

/// The known name that differs least, if it differs little: case, or a third of its letters at most.
pub(super) fn nearest<'a>(written: &str, known: &[&'a str]) -> Option<&'a str> {
    // The distance takes time in the product of both lengths, and for each known name.
    const MOST_NAMES: usize = 2000;
    if written.len() > 64 {
        return None;
    }
    let lower = written.to_lowercase();
    let distance = |name: &str| strsim::osa_distance(&lower, &name.to_lowercase());
    let (off, best) =
        known.iter().take(MOST_NAMES).filter(|name| name.len() <= 64).map(|name| (distance(name), *name)).min()?;
    let longest = best.chars().count().max(lower.chars().count());
    (off * 3 <= longest).then_some(best)
}

/// What the author wrote, in backticks and at a bearable length; control characters are shown as escapes.
pub(super) fn shown(written: &str) -> String {
    const LONGEST: usize = 60;
    let mut short = String::from("`");
    for c in written.chars().take(LONGEST) {
        if c.is_control() { short.extend(c.escape_default()) } else { short.push(c) }
    }
    if written.chars().nth(LONGEST).is_some() {
        short.push('…');
    }
    short.push('`');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_near() {
        let known = ["limit", "per", "window"];
        assert_eq!(nearest("limt", &known), Some("limit"));
        assert_eq!(nearest("Window", &known), Some("window"));
        assert_eq!(nearest("colour", &known), None);
        assert_eq!(meant("colour", known, "keys"), "known keys: `limit`, `per`, `window`");
        assert_eq!(meant("colour", ["x"; 17], "plans"), "none of the 17 plans is like it");
        assert_eq!(meant("colour", [], "plans"), "there are no plans");
    }

    #[test]
    fn what_was_written_is_shown_short_and_without_control_characters() {
        assert_eq!(shown("a\nb\u{1b}"), "`a\\nb\\u{1b}`");
        assert_eq!(shown(&"x".repeat(100)).chars().count(), 63);
    }

    #[test]
    fn faults_are_bounded_and_in_the_order_of_the_file() {
        let mut faults = Faults::default();
        for line in (1..=500).rev() {
            faults.add(Mark { line, column: 1 }, Code::BadValue, "m", "h");
        }
        let all = faults.into_diagnostics("p.yaml");
        assert_eq!(all.len(), MOST + 1);
        assert!(all.windows(2).take(MOST - 1).all(|pair| pair[0].line < pair[1].line));
        assert_eq!(all[MOST].code, Code::More);
    }
}
