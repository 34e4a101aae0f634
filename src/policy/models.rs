//! The model catalogue: which line a model's name belongs to, and what its tokens cost.

use globset::{GlobBuilder, GlobMatcher};

use super::bundle::{Model, Models, Weights};
use super::diagnostic::{Code, Complaint, Faults, meant, shown};
use super::fields::{Fields, form, map, text};
use super::scalar::price;
use super::tree::{Entry, Node, Spanned, Value};
use crate::meter::count::Encoding;

/// The longest catalogue: every call looks through it.
const MOST: usize = 1000;

/// The longest name of a model, in bytes.
const LONGEST_NAME: usize = 256;

impl Models {
    /// The line that a model's name belongs to: the exact name, else the longest glob that matches.
    ///
    /// Case counts. Of two globs of one length the one written first wins. A name longer than 256 bytes is none: it
    /// stands in the record of each call, and a record that the collector cannot take holds up all behind it.
    pub fn find(&self, name: &str) -> Option<&Model> {
        if name.len() > LONGEST_NAME {
            return None;
        }
        self.rows.iter().find(|row| match &row.glob {
            None => row.pattern == name,
            Some(glob) => glob.is_match(name),
        })
    }

    /// Puts lines into the order in which they are tried.
    pub(super) fn sorted(mut rows: Vec<Model>) -> Self {
        rows.sort_by_key(|row| (row.glob.is_some(), std::cmp::Reverse(row.pattern.len())));
        Self { rows }
    }
}

/// A line of the catalogue as written.
#[derive(Debug)]
pub(super) struct ModelText {
    pub pattern: Spanned<String>,
    pub glob: Option<GlobMatcher>,
    /// `None`: at fault, and noted.
    pub encoding: Option<Encoding>,
    pub price: Price,
}

/// What was said of a model's price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Price {
    Stated(Weights),
    NotStated,
    /// Noted among the faults.
    AtFault,
}

/// Reads the `models` section.
pub(super) fn read(node: &Node, faults: &mut Faults) -> Vec<ModelText> {
    let entries = map(node, "models", faults).unwrap_or_default();
    if entries.is_empty() {
        faults.add(
            node.at,
            Code::BadValue,
            "no model is listed",
            "list at least one, for example `\"*\": {count: o200k_base}`",
        );
    }
    if let Some(beyond) = entries.get(MOST) {
        faults.add(
            beyond.at,
            Code::TooLarge,
            format!("more than {MOST} models are listed"),
            "let globs stand for families",
        );
    }
    let row = |entry: &Entry, faults: &mut Faults| {
        let glob = faults.keep(entry.at, glob(&entry.key))?;
        let what = format!("models.{}", entry.key);
        let fields = Fields::of(&entry.value, what, &["count", "credits"], faults)?;
        let encoding = fields
            .required("count", "name the vocabulary that counts its text, for example `count: o200k_base`", faults)
            .and_then(|node| encoding(node, faults));
        let price = match fields.optional("credits") {
            None => Price::NotStated,
            Some(node) => weights(node, &fields.path("credits"), faults).map_or(Price::AtFault, Price::Stated),
        };
        let pattern = Spanned { at: entry.at, value: entry.key.clone() };
        Some(ModelText { pattern, glob: is_glob(&entry.key).then_some(glob), encoding, price })
    };
    entries.iter().take(MOST).filter_map(|entry| row(entry, faults)).collect()
}

fn encoding(node: &Node, faults: &mut Faults) -> Option<Encoding> {
    let written = text(node, "count", faults)?;
    let known = Encoding::from_name(written);
    if known.is_none() {
        let help = meant(written, Encoding::ALL.map(Encoding::name), "vocabularies");
        faults.add(node.at, Code::UnknownEncoding, format!("unknown vocabulary {}", shown(written)), help);
    }
    known
}

/// `0`, or a price for each direction. Cached input costs what input costs unless it is said.
fn weights(node: &Node, what: &str, faults: &mut Faults) -> Option<Weights> {
    if let Value::Plain(number) = &node.value {
        if price(number) == Ok(0) {
            return Some(Weights::default());
        }
        let message = format!("{what} cannot be {}: input and output are priced apart", shown(number));
        faults.add(node.at, Code::BadValue, message, "write `0` for free, or `{input: …, output: …}` per 1,000 tokens");
        return None;
    }
    let fields = Fields::of(node, what, &["input", "cache_read", "cache_write", "output"], faults)?;
    let help = "state credits per 1,000 tokens for `input` and `output`; cached input costs as much as `input` unless it is said";
    let rate = |node: &Node, faults: &mut Faults| form(node, what, faults, price).map(|rate| rate.value);
    let input = fields.required("input", help, faults).and_then(|node| rate(node, faults));
    let output = fields.required("output", help, faults).and_then(|node| rate(node, faults));
    let cached = |key: &str, faults: &mut Faults| match fields.optional(key) {
        None => input,
        Some(node) => rate(node, faults),
    };
    let (cache_read, cache_write) = (cached("cache_read", faults), cached("cache_write", faults));
    Some(Weights { input: input?, cache_read: cache_read?, cache_write: cache_write?, output: output? })
}

/// Whether a pattern is more than an exact name.
pub(super) fn is_glob(pattern: &str) -> bool {
    pattern.contains(['*', '?', '[', '{'])
}

/// A matcher for a name or glob; an exact name matches itself only.
pub(super) fn glob(pattern: &str) -> Result<GlobMatcher, Complaint> {
    const LONGEST: usize = 128;
    let fits = |c: char| c.is_ascii_graphic() && !matches!(c, '\\' | '"' | '`');
    if pattern.is_empty() || pattern.len() > LONGEST || !pattern.chars().all(fits) {
        let help = format!("write up to {LONGEST} visible ASCII characters without `\\` and quotes");
        return Err(Complaint::new(Code::BadValue, format!("{} is no model name or glob", shown(pattern)), help));
    }
    let built = GlobBuilder::new(pattern).literal_separator(false).backslash_escape(false).build();
    built.map(|glob| glob.compile_matcher()).map_err(|error| {
        let message = format!("{} is no glob: {}", shown(pattern), error.kind());
        Complaint::new(
            Code::BadValue,
            message,
            "use `*` for any text and `?` for one character; close every `[` and `{`",
        )
    })
}

/// Whether some name could match both patterns. Where that cannot be told (classes, alternatives): yes.
pub(super) fn overlap(one: &str, other: &str) -> bool {
    if one.contains(['[', '{']) || other.contains(['[', '{']) {
        return true;
    }
    let literal = |pattern: &'_ str| pattern.split(['*', '?']).next().map_or(0, str::len);
    let common = literal(one).min(literal(other));
    if one.get(..common) != other.get(..common) {
        return false;
    }
    let other: Vec<char> = other.chars().collect();
    // `reach[j]`: the part of `one` read so far and the first `j` characters of `other` have a name in common.
    let mut reach = vec![false; other.len() + 1];
    first_row(&mut reach, &other);
    for a in one.chars() {
        let mut next = vec![false; other.len() + 1];
        let mut left = false;
        for (j, cell) in next.iter_mut().enumerate() {
            let at = |j: Option<usize>| j.and_then(|j| reach.get(j)).copied().unwrap_or(false);
            let (above, diagonal) = (at(Some(j)), at(j.checked_sub(1)));
            let b = j.checked_sub(1).and_then(|j| other.get(j)).copied();
            *cell = match (a, b) {
                (_, None) => above && a == '*',
                ('*', Some(_)) | (_, Some('*')) => above || left,
                (a, Some(b)) => diagonal && (a == b || a == '?' || b == '?'),
            };
            left = *cell;
        }
        reach = next;
    }
    reach.last().copied().unwrap_or(false)
}

/// Nothing of one pattern read: only stars of the other have the empty name in common with it.
fn first_row(reach: &mut [bool], other: &[char]) {
    let mut empty = true;
    for (j, cell) in reach.iter_mut().enumerate() {
        if let Some(before) = j.checked_sub(1) {
            empty = empty && other.get(before) == Some(&'*');
        }
        *cell = empty;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn models(patterns: &[&str]) -> Models {
        let row = |pattern: &&str| Model {
            pattern: (*pattern).to_owned(),
            glob: is_glob(pattern).then(|| glob(pattern).unwrap()),
            encoding: Encoding::O200kBase,
            weights: Weights::default(),
        };
        Models::sorted(patterns.iter().map(row).collect())
    }

    #[test]
    fn an_exact_name_beats_a_glob_and_a_longer_glob_a_shorter() {
        let models = models(&["*", "demo-*", "demo-small", "demo-s*", "openai/*"]);
        let found = |name| models.find(name).map(|row| row.pattern.as_str());
        assert_eq!(found("demo-small"), Some("demo-small"));
        assert_eq!(found("demo-smaller"), Some("demo-s*"));
        assert_eq!(found("demo-large"), Some("demo-*"));
        assert_eq!(found("Demo-small"), Some("*"));
        assert_eq!(found("openai/gpt/4"), Some("openai/*"));
    }

    #[test]
    fn nothing_matches_nothing() {
        assert!(models(&["demo-*"]).find("gpt-4o").is_none());
        assert!(models(&["demo-*"]).find("").is_none());
    }

    #[test]
    fn a_name_that_would_burst_a_record_is_none() {
        assert!(models(&["demo-*"]).find(&format!("demo-{}", "x".repeat(251))).is_some());
        assert!(models(&["demo-*"]).find(&format!("demo-{}", "x".repeat(252))).is_none());
    }

    #[test]
    fn globs_overlap_when_a_name_matches_both() {
        assert!(overlap("demo-*", "*-small"));
        assert!(overlap("demo-*", "demo-small"));
        assert!(overlap("*", ""));
        assert!(overlap("a?c", "ab*"));
        assert!(!overlap("demo-*", "gpt-*"));
        assert!(!overlap("abc", "ab"));
        assert!(!overlap("?", ""));
    }

    proptest! {
        /// A pattern overlaps an exact name just when it matches it.
        #[test]
        fn overlap_agrees_with_matching(pattern in "[ab*?]{1,8}", name in "[ab]{0,8}") {
            let matches = glob(&pattern).unwrap().is_match(&name);
            prop_assert_eq!(overlap(&pattern, &name), matches);
            prop_assert_eq!(overlap(&name, &pattern), matches);
        }
    }
}
