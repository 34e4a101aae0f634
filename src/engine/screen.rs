//! What is found in prompts and answers, and what is done about it.

mod names;
mod prompt;
mod tail;

use std::collections::BTreeMap;

use crate::engine::denial::{Denial, Kind};
use crate::engine::effect::{Effect, Severity};
use crate::engine::refusal;
use crate::meter::dialect::Dialect;
use crate::meter::rewrite::{Expected, Filter, Place, Rewriter};
use crate::now::Now;
use crate::policy::bundle::{Bundle, OnUnknown, Plan};
use crate::scan::{Action, Finding, Mask, Quotes, Redactor, Restorer, Rule, Scanner, Topic};
pub(super) use prompt::{Content, Prompt, prompt, unmetered};
pub(super) use tail::Tail;

/// The most texts of one answer that are filtered side by side; the meter gives up before.
const MOST_TEXTS: usize = 1_024;

/// Findings by rule and action, for the counters and the access log.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    found: BTreeMap<(String, &'static str), u64>,
    /// Some of it could not be read, and what was done.
    unread: Option<&'static str>,
}

impl Tally {
    fn add(&mut self, rule: &Rule) {
        self.add_as(rule, rule.action.name());
    }

    fn add_as(&mut self, rule: &Rule, action: &'static str) {
        let count = self.found.entry((rule.name.clone(), action)).or_default();
        *count = count.saturating_add(1);
    }

    /// Each rule with what was done, and how often.
    pub fn list(&self) -> Vec<String> {
        self.found.iter().map(|((rule, action), by)| format!("{rule}:{action}:{by}")).collect()
    }

    /// Counts and notes what was found; `direction` is `input` or `output`.
    pub fn show(&self, direction: &'static str, note: &'static str, effects: &mut Vec<Effect>) {
        for ((rule, action), by) in &self.found {
            let labels = [("direction", direction), ("rule", rule.as_str()), ("action", *action)];
            let labels = labels.map(|(name, value)| (name, value.to_owned())).to_vec();
            effects.push(Effect::Count { metric: "findings_total", labels, by: *by });
        }
        if !self.found.is_empty() {
            effects.push(Effect::Note(note, self.list().join(",")));
        }
        if let Some(action) = self.unread {
            let labels = vec![("by", direction.to_owned()), ("action", action.to_owned())];
            effects.push(Effect::Count { metric: "unread_total", labels, by: 1 });
        }
    }
}

/// Where something was found.
const ANSWER: &str = "answer";

/// What was found, in words that do not tell it.
fn described(rule: &Rule, finding: &Finding) -> String {
    if rule.name.starts_with("injection.") {
        return format!("what looks like an instruction to the model ({})", rule.name);
    }
    match (rule.name == Topic::Secrets.name(), finding.shape.is_empty()) {
        (true, _) => format!("what looks like a secret ({})", finding.shape),
        (false, false) => format!("what looks like personal data ({})", finding.shape),
        (false, true) => format!("what the plan does not let pass ({})", rule.name),
    }
}

fn denial(rule: &Rule, finding: &Finding, place: &str, plan: &Plan) -> Denial {
    let what = described(rule, finding);
    let advice = if place == ANSWER { "" } else { "; take it out and send it again" };
    let inside = format!("the {place} carries {what}, and plan `{}` denies `{}`", plan.name, rule.name);
    Denial::guard(Kind::Forbidden, &rule.name, format!("the {place} carries {what}{advice}"), inside)
}

/// An answer on its way through its screen.
pub(super) struct Answer {
    rewriter: Rewriter,
    texts: Texts,
    on_error: OnUnknown,
    /// It cannot be screened any further.
    failed: bool,
    /// It was broken off: nothing of it leaves any more.
    cut: bool,
    shown: bool,
}

struct Texts {
    scanner: Option<Scanner>,
    mask: Mask,
    open: Vec<Text>,
    tally: Tally,
    denied: Option<Finding>,
}

/// A text that has begun.
struct Text {
    place: Place,
    redactor: Option<Redactor>,
    quotes: Quotes,
    restorer: Option<Restorer>,
}

impl Answer {
    /// The answer of an admitted call. `None`: nothing of it needs to be looked at, or there is no text in it (sound,
    /// vectors, counts).
    pub fn of(plan: &Plan, mask: &Mask, expected: &Expected<'_>) -> Option<Self> {
        let screen = plan.security.output.as_ref();
        if screen.is_none() && mask.restorer().is_none() {
            return None;
        }
        // Names that are not put back harm nobody.
        let on_error = screen.map_or(OnUnknown::Pass, |screen| screen.on_error);
        Some(Self::with(Rewriter::new(expected)?, screen.map(|screen| screen.scanner.clone()), mask.clone(), on_error))
    }

    /// The answer of a call that goes through unmetered: in no `dialect` that is known it is one text. `None`: nothing of it
    /// needs to be looked at, or it says that it is no text.
    pub fn unmetered(
        plan: &Plan,
        bundle: &Bundle,
        dialect: Option<Dialect>,
        content_type: Option<&[u8]>,
        content_encoding: Option<&[u8]>,
    ) -> Option<Self> {
        let screen = plan.security.output.as_ref()?;
        let mask = Mask::new(bundle.mask_key);
        let rewriter = match dialect {
            // Whether a stream was asked for nobody could read; its first byte tells.
            Some(dialect) => {
                let (stream, in_pieces) = (true, false);
                Rewriter::new(&Expected { dialect, stream, in_pieces, content_type, content_encoding })
            }
            None => Rewriter::of_text(content_type, content_encoding),
        }?;
        Some(Self::with(rewriter, Some(screen.scanner.clone()), mask, screen.on_error))
    }

    fn with(rewriter: Rewriter, scanner: Option<Scanner>, mask: Mask, on_error: OnUnknown) -> Self {
        let texts = Texts { scanner, mask, open: Vec::new(), tally: Tally::default(), denied: None };
        Self { rewriter, texts, on_error, failed: false, cut: false, shown: false }
    }

    /// What was found in it so far.
    pub fn findings(&self) -> Vec<String> {
        self.texts.tally.list()
    }

    /// Whether it was refused while it came.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// Whether it is a stream, of which much more may come.
    pub fn is_stream(&self) -> bool {
        self.rewriter.is_stream()
    }

    /// Whether something of a text is held back that only more of it, or its end, brings out.
    pub fn holds_text(&self) -> bool {
        let holds = |text: &Text| {
            let hides = text.redactor.as_ref().is_some_and(|redactor| redactor.held() > 0);
            hides || text.restorer.as_ref().is_some_and(Restorer::holds)
        };
        let held = || self.texts.open.iter().any(holds);
        !self.cut && !self.failed && self.rewriter.carries().is_some_and(|carries| carries || held())
    }

    /// What leaves in the place of a chunk.
    #[expect(clippy::too_many_arguments, reason = "what a refusal in the answer needs to say")]
    pub fn push(
        &mut self,
        chunk: &[u8],
        end: bool,
        plan: &Plan,
        dialect: Option<Dialect>,
        id: &str,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Vec<u8> {
        if self.cut {
            return Vec::new();
        }
        let mut out = self.rewriter.push(chunk, end, &mut self.texts);
        let failed = self.rewriter.failed().map(|failed| failed.0);
        let told = std::mem::replace(&mut self.failed, failed.is_some());
        if let Some(why) = failed.filter(|_| !told && self.texts.scanner.is_some()) {
            let action = if self.on_error == OnUnknown::Deny { "deny" } else { "pass" };
            let labels = vec![("action", action.to_owned())];
            effects.push(Effect::Count { metric: "unscreened_total", labels, by: 1 });
            effects.push(Effect::Note("unscreened", why.to_owned()));
        }
        let refused = match (&self.texts.denied, failed) {
            (Some(finding), _) => {
                let rule = self.texts.scanner.as_ref().and_then(|scanner| scanner.rules().get(finding.rule));
                rule.map(|rule| denial(rule, finding, ANSWER, plan))
            }
            (None, Some(why)) if self.on_error == OnUnknown::Deny => {
                out.clear();
                let inside = format!("the answer cannot be screened: {why}");
                Some(Denial::guard(Kind::Forbidden, "on_error", "the answer cannot be screened", inside))
            }
            _ => None,
        };
        if let Some(denial) = refused {
            self.cut = true;
            effects.push(Effect::Note("decision", "cut".to_owned()));
            effects.push(Effect::Note("denied_by", denial.rule.clone()));
            effects.push(Effect::Note("reason", denial.inside.clone()));
            let error = refusal::reply(dialect, &denial, id, now).body;
            out.extend(self.rewriter.last_words(&error));
        }
        if end || self.cut {
            self.end(effects);
        }
        out
    }

    /// Trailers end it, and nothing can be written any more.
    pub fn end_unheld(&mut self, effects: &mut Vec<Effect>) {
        if self.holds_text() {
            let lost = "trailers that were not announced end an answer, and its last word is lost";
            effects.push(Effect::Log(Severity::Warn, lost.to_owned()));
        }
        self.end(effects);
    }

    /// Nothing more comes: what was found is counted, once.
    pub fn end(&mut self, effects: &mut Vec<Effect>) {
        if !std::mem::replace(&mut self.shown, true) {
            self.texts.tally.show("output", "findings_output", effects);
        }
    }
}

impl Texts {
    fn at(&mut self, place: &Place) -> Option<usize> {
        if let Some(known) = self.open.iter().position(|open| open.place == *place) {
            return Some(known);
        }
        if self.open.len() >= MOST_TEXTS {
            return None;
        }
        let redactor = self.scanner.clone().map(Redactor::new);
        let (quotes, restorer) = (Quotes::of(place.is_json()), self.mask.restorer());
        self.open.push(Text { place: place.clone(), redactor, quotes, restorer });
        self.open.len().checked_sub(1)
    }

    /// Runs a text through both halves: what must not leave is hidden first, then names get back what they stand for.
    fn run(&mut self, place: &Place, text: &str, last: bool, out: &mut String) {
        let Some(at) = self.at(place) else { return };
        let Self { scanner, mask, open, tally, denied } = self;
        let Some(Text { redactor, quotes, restorer, .. }) = open.get_mut(at) else { return };
        let mut safe = String::new();
        match (redactor, scanner) {
            (Some(redactor), Some(scanner)) => {
                let mut followed = 0;
                let mut replace = |finding: &Finding, text: &str, safe: &mut String| {
                    let Some(rule) = scanner.rules().get(finding.rule) else { return };
                    // What is told again was counted when it was told first.
                    if denied.is_none() && !place.is_again() {
                        tally.add(rule);
                    }
                    if rule.action == Action::Deny {
                        denied.get_or_insert_with(|| finding.clone());
                    }
                    if let Some(words) = mask.replace(rule, text, |_| false) {
                        quotes.follow(safe, followed);
                        quotes.put(text, &words, safe);
                        followed = safe.len();
                    }
                };
                redactor.push(text, &mut replace, &mut safe);
                if last {
                    redactor.finish(&mut replace, &mut safe);
                }
                quotes.follow(&mut safe, followed);
                if last {
                    quotes.finish(&mut safe);
                }
            }
            _ => safe.push_str(text),
        }
        match restorer {
            Some(restorer) => {
                restorer.push(&safe, place.is_json(), out);
                if last {
                    restorer.finish(out);
                }
            }
            None => out.push_str(&safe),
        }
        if last {
            open.remove(at);
        }
    }
}

impl Filter for Texts {
    fn push(&mut self, place: &Place, text: &str, out: &mut String) {
        self.run(place, text, false, out);
    }

    fn finish(&mut self, place: &Place, out: &mut String) {
        self.run(place, "", true, out);
    }

    fn stopped(&self) -> bool {
        self.denied.is_some()
    }
}

#[cfg(test)]
#[path = "screen_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "screen_beside_tests.rs"]
mod beside_tests;
