//! Which model answers while the upstream of another one is down or throttles.

use globset::GlobMatcher;

use super::diagnostic::{Code, Complaint, Faults, shown};
use super::document::reference;
use super::fields::{Fields, form, list};
use super::models;
use super::names::matches;
use super::plan::{MOST_LINES, few};
use super::scalar::duration_within;
use super::tokens;
use super::tree::{Node, Spanned};

/// A model that takes the place of others.
#[derive(Clone, Debug)]
pub struct Fallback {
    /// Whose place: names and globs. An alias is what it stands for, too.
    pub models: Vec<GlobMatcher>,
    /// The same, as written.
    pub written: Vec<String>,
    /// The model that their calls go to.
    pub to: String,
    /// For how many milliseconds, where the upstream does not say.
    pub rest_ms: u64,
    /// For how many milliseconds at most, whatever the upstream says.
    pub longest_ms: u64,
}

impl Fallback {
    /// Whether it is for a model of this name, which really is that one.
    pub fn takes(&self, name: &str, real: &str) -> bool {
        matches(&self.models, name) || matches(&self.models, real)
    }
}

/// A rule as written.
#[derive(Debug)]
pub(super) struct FallbackText {
    pub models: Vec<Spanned<String>>,
    pub to: Spanned<String>,
    rest_ms: u64,
    longest_ms: u64,
}

impl FallbackText {
    /// The rule, once it is known to be without fault.
    pub fn compiled(&self) -> Fallback {
        Fallback {
            models: self.models.iter().filter_map(|pattern| models::glob(&pattern.value).ok()).collect(),
            written: self.models.iter().map(|pattern| pattern.value.clone()).collect(),
            to: self.to.value.clone(),
            rest_ms: self.rest_ms,
            longest_ms: self.longest_ms,
        }
    }
}

const REST_MS: u64 = 30_000;
const LONGEST_MS: u64 = 300_000;
/// The longest time for which a model can be left alone, in milliseconds: one that is down for longer is asked once an hour.
pub const LONGEST_REST_MS: u64 = 3_600_000;

/// Reads the list of rules.
pub(super) fn read(node: &Node, what: &str, faults: &mut Faults) -> Vec<FallbackText> {
    let items = list(node, what, faults).unwrap_or_default();
    few(items.get(MOST_LINES).map(|item| item.at), what, faults);
    let mut rules: Vec<FallbackText> = Vec::new();
    for item in items.iter().take(MOST_LINES) {
        let Some(rule) = rule(item, what, faults) else { continue };
        let before: Vec<&Spanned<String>> = rules.iter().flat_map(|rule| &rule.models).collect();
        for pattern in &rule.models {
            if let Some(first) = before.iter().find(|first| first.value == pattern.value) {
                let message = format!("{} falls back in line {} already", shown(&pattern.value), first.at.line);
                faults.add(pattern.at, Code::Duplicate, message, "name it once; a model falls back by its first rule");
            }
        }
        rules.push(rule);
    }
    rules
}

fn rule(node: &Node, what: &str, faults: &mut Faults) -> Option<FallbackText> {
    let fields = Fields::of(node, what, &["models", "to", "for", "longest"], faults)?;
    let help = "name the models that may be down, for example `models: [demo-large]`";
    let models = fields.required("models", help, faults);
    let models = models.map(|node| tokens::model_patterns(node, &fields.path("models"), faults));
    let to = fields.required("to", "name the model that answers then, for example `to: demo-small`", faults);
    let to = to.and_then(|node| reference(node, &fields.path("to"), faults));
    let time = |key: &str, faults: &mut Faults| {
        let node = fields.optional(key)?;
        form(node, &fields.path(key), faults, some_rest).map(|time| time.value)
    };
    let (rest_ms, longest_ms) = (time("for", faults), time("longest", faults));
    let rest_ms = rest_ms.unwrap_or(REST_MS.min(longest_ms.unwrap_or(REST_MS)));
    let longest_ms = longest_ms.unwrap_or(LONGEST_MS.max(rest_ms));
    if rest_ms > longest_ms {
        let message = "`for` is longer than `longest`, which no rest is";
        faults.add(fields.key_at("for"), Code::Conflict, message, "write a shorter one, or a longer `longest`");
    }
    let (models, to) = (models?, to?);
    if !models.is_empty() && models.iter().all(|pattern| pattern.value == to.value) {
        let message = format!("{} cannot take its own place", shown(&to.value));
        faults.add(to.at, Code::Conflict, message, "name another model");
    }
    Some(FallbackText { models, to, rest_ms, longest_ms })
}

fn some_rest(written: &str) -> Result<u64, Complaint> {
    duration_within(written, 1_000, LONGEST_REST_MS, "write for example `30s`")
}
