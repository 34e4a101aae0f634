//! What texts are screened for, as written and as compiled.

use super::audit::{self, Audit, AuditText, Level};
use super::bundle::{Mode, OnUnknown, Screen};
use super::diagnostic::{Code, Complaint, Faults, shown};
use super::fields::{Fields, choice, form, list, map, name, text};
use super::plan::PlanText;
use super::tree::{Mark, Node, Value};
use crate::scan::{Action, Injection, LONGEST_MATCH, Refused, Scanner, Selection, Topic, check_pattern};

/// The most patterns of a side, and the most keywords.
const MOST: usize = 64;

/// The longest pattern or keyword as written, in bytes.
const LONGEST: usize = 1_000;

/// Which way texts go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Input,
    Output,
}

/// A side as written.
#[derive(Debug)]
pub(super) struct ScreenText {
    at: Mark,
    selection: Selection,
    on_error: OnUnknown,
}

/// Both sides of a plan, compiled.
#[derive(Clone, Debug, Default)]
pub(super) struct Screens {
    pub input: Option<Screen>,
    pub output: Option<Screen>,
    /// What records keep.
    pub audit: Audit,
}

const INPUT: [&str; 14] = [
    "longest",
    "secrets",
    "email",
    "phone",
    "card",
    "iban",
    "cn_id_card",
    "bank_card",
    "passport",
    "ssn",
    "injection",
    "patterns",
    "keywords",
    "on_error",
];

const OUTPUT: [&str; 13] = [
    "longest",
    "secrets",
    "email",
    "phone",
    "card",
    "iban",
    "cn_id_card",
    "bank_card",
    "passport",
    "ssn",
    "patterns",
    "keywords",
    "on_error",
];

const ACTIONS: [(&str, Action); 6] = [
    ("deny", Action::Deny),
    ("redact", Action::Redact),
    ("hash", Action::Hash),
    ("tag", Action::Tag),
    ("observe", Action::Observe),
    ("pseudonym", Action::Pseudonym),
];

/// Reads `input` or `output`: its fields, and what its texts are screened for, if anything.
pub(super) fn read<'a>(
    node: &'a Node,
    what: &str,
    side: Side,
    faults: &mut Faults,
) -> Option<(Fields<'a>, Option<ScreenText>)> {
    let known: &[&str] = match side {
        Side::Input => &INPUT,
        Side::Output => &OUTPUT,
    };
    let fields = Fields::of(node, what, known, faults)?;
    let mut selection = Selection::default();
    for topic in Topic::ALL {
        let Some(node) = fields.optional(topic.name()) else { continue };
        let action = action(node, &fields.path(topic.name()), side, faults);
        selection.topics.extend(action.map(|action| (topic, action)));
    }
    if let Some(node) = fields.optional("injection") {
        selection.injection = injection(node, &fields.path("injection"), faults);
    }
    if let Some(node) = fields.optional("patterns") {
        selection.patterns = patterns(node, &fields.path("patterns"), side, faults);
    }
    if let Some(node) = fields.optional("keywords") {
        selection.keywords = keywords(node, &fields.path("keywords"), side, faults);
    }
    let words = [("deny", OnUnknown::Deny), ("pass", OnUnknown::Pass)];
    let on_error = fields.optional("on_error");
    let asked = selection != Selection::default();
    let says = known.iter().any(|key| !matches!(*key, "longest" | "on_error") && fields.optional(key).is_some());
    if let Some(node) = on_error.filter(|_| !says) {
        let help = "say what is looked for, for example `secrets: redact`, or leave it out";
        faults.add(
            node.at,
            Code::Conflict,
            "`on_error` says what happens when screening fails, but nothing is screened",
            help,
        );
    }
    let on_error = on_error.and_then(|node| choice(node, &fields.path("on_error"), &words, faults));
    let screen = ScreenText { at: node.at, selection, on_error: on_error.unwrap_or(OnUnknown::Deny) };
    Some((fields, asked.then_some(screen)))
}

/// What is done. Names that stand for a text are given on the way in only: on the way out there is nobody to give it back.
fn action(node: &Node, what: &str, side: Side, faults: &mut Faults) -> Option<Action> {
    let known = match side {
        Side::Input => ACTIONS.as_slice(),
        Side::Output => ACTIONS.get(..5).unwrap_or_default(),
    };
    choice(node, what, known, faults)
}

/// One word for all of them, or one for some, by name: the others observe. A text cannot be hidden that is meant to be read,
/// so there are no hashes and names for it.
fn injection(node: &Node, what: &str, faults: &mut Faults) -> Vec<(Injection, Action)> {
    const WORDS: [(&str, Action); 4] =
        [("deny", Action::Deny), ("redact", Action::Redact), ("tag", Action::Tag), ("observe", Action::Observe)];
    if !matches!(node.value, Value::Map(_)) {
        let action = choice(node, what, &WORDS, faults);
        return action.map(|action| Injection::ALL.map(|each| (each, action)).to_vec()).unwrap_or_default();
    }
    let names = Injection::ALL.map(Injection::name);
    let Some(fields) = Fields::of(node, what, &names, faults) else { return Vec::new() };
    if names.iter().all(|name| fields.optional(name).is_none()) {
        let help = "write `observe`, or for example `{markup: deny}`";
        faults.add(node.at, Code::MissingKey, "this rule says nothing of injected instructions", help);
    }
    let action = |each: Injection, faults: &mut Faults| {
        let Some(node) = fields.optional(each.name()) else { return Some(Action::Observe) };
        choice(node, &fields.path(each.name()), &WORDS, faults)
    };
    Injection::ALL.into_iter().filter_map(|each| Some((each, action(each, faults)?))).collect()
}

fn patterns(node: &Node, what: &str, side: Side, faults: &mut Faults) -> Vec<(String, String, Action)> {
    let entries = map(node, what, faults).unwrap_or_default();
    if entries.is_empty() && matches!(node.value, Value::Map(_)) {
        faults.add(node.at, Code::BadValue, format!("{what} names no pattern"), "name one, or leave the key out");
    }
    few(entries.get(MOST).map(|entry| entry.at), what, faults);
    let read = |entry: &super::tree::Entry, faults: &mut Faults| {
        faults.keep(entry.at, name(&entry.key, "a pattern"))?;
        let what = format!("{what}.{}", entry.key);
        let fields = Fields::of(&entry.value, what, &["match", "action"], faults)?;
        let expression =
            fields.required("match", "write a regular expression, for example `match: \"EMP-[0-9]{6}\"`", faults);
        let expression = expression.and_then(|node| form(node, &fields.path("match"), faults, pattern));
        let action = required_action(&fields, side, faults);
        Some((entry.key.clone(), expression?.value, action?))
    };
    entries.iter().take(MOST).filter_map(|entry| read(entry, faults)).collect()
}

fn required_action(fields: &Fields<'_>, side: Side, faults: &mut Faults) -> Option<Action> {
    let node = fields.required("action", "say what is done with it, for example `action: redact`", faults)?;
    action(node, &fields.path("action"), side, faults)
}

fn few(beyond: Option<Mark>, what: &str, faults: &mut Faults) {
    if let Some(at) = beyond {
        faults.add(at, Code::TooLarge, format!("{what} has more than {MOST} lines"), "keep fewer");
    }
}

fn pattern(written: &str) -> Result<String, Complaint> {
    let complain = |code, message: String, help: String| Complaint::new(code, message, help);
    if written.len() > LONGEST {
        return Err(complain(
            Code::TooLarge,
            format!("a pattern has {} bytes", written.len()),
            format!("keep it to {LONGEST}, or make several of it"),
        ));
    }
    check_pattern(written).map(|()| written.to_owned()).map_err(|refused| match refused {
        Refused::Syntax(reason) => complain(
            Code::BadValue,
            format!("{} is no regular expression: {reason}", shown(written)),
            "write it as Rust's `regex` crate reads it, without look-around and back references".to_owned(),
        ),
        Refused::Empty => complain(
            Code::BadValue,
            format!("{} matches the empty text, so it is everywhere", shown(written)),
            "write a pattern that needs at least one character".to_owned(),
        ),
        Refused::Unbounded => complain(
            Code::TooLarge,
            format!("a match of {} has no end, or one beyond {LONGEST_MATCH} bytes", shown(written)),
            "a stream must hold back what may become a match: write for example `{1,64}` in place of `+` or `*`"
                .to_owned(),
        ),
        Refused::TooLarge => complain(
            Code::TooLarge,
            format!("{} is too large when compiled", shown(written)),
            "write smaller repetitions, or `[0-9A-Za-z]` in place of `\\w`".to_owned(),
        ),
    })
}

fn keywords(node: &Node, what: &str, side: Side, faults: &mut Faults) -> Option<(Vec<String>, Action)> {
    let fields = Fields::of(node, what, &["words", "action"], faults)?;
    let words = fields.required("words", "list them, for example `words: [project falcon]`", faults);
    let items = words.and_then(|node| list(node, &fields.path("words"), faults)).unwrap_or_default();
    few(items.get(MOST).map(|item| item.at), &fields.path("words"), faults);
    let action = required_action(&fields, side, faults);
    let mut words: Vec<String> = Vec::new();
    for item in items.iter().take(MOST) {
        let Some(word) = text(item, &fields.path("words"), faults) else { continue };
        if word.trim().is_empty() || word.len() > LONGEST.min(LONGEST_MATCH / 4) {
            let help = "write a word or a phrase of up to 256 bytes";
            faults.add(item.at, Code::BadValue, format!("{} is no keyword", shown(word)), help);
        } else {
            words.push(word.to_owned());
        }
    }
    Some((words, action?)).filter(|(words, _)| !words.is_empty())
}

impl ScreenText {
    /// What it looks for.
    pub(super) fn selection(&self) -> &Selection {
        &self.selection
    }
}

/// Detectors that are compiled; those that look for the same are one.
#[derive(Default)]
struct Known(Vec<(Selection, Scanner)>);

impl Known {
    fn scanner(&mut self, selection: Selection, at: Mark, faults: &mut Faults) -> Option<Scanner> {
        if let Some((_, scanner)) = self.0.iter().find(|(other, _)| *other == selection) {
            return Some(scanner.clone());
        }
        let Ok(scanner) = Scanner::new(&selection) else {
            // Each pattern by itself has been looked at.
            let help = "keep fewer patterns and keywords, or smaller ones";
            faults.add(at, Code::TooLarge, "what is looked for here is too large when compiled together", help);
            return None;
        };
        self.0.push((selection, scanner.clone()));
        Some(scanner)
    }
}

/// Compiles the screens of all plans. A policy that only observes only counts what is found; its records keep no more of a
/// call for that.
pub(super) fn compile(plans: &[PlanText], mode: Mode, faults: &mut Faults) -> Vec<Screens> {
    let mut known = Known::default();
    let mut one = |plan: &PlanText, faults: &mut Faults| {
        let mut side = |written: &Option<ScreenText>, faults: &mut Faults| {
            let ScreenText { at, selection, on_error } = written.as_ref()?;
            let (selection, on_error) = match mode {
                Mode::Enforce => (selection.clone(), *on_error),
                Mode::Observe => (selection.observed(), OnUnknown::Pass),
            };
            Some(Screen { scanner: known.scanner(selection, *at, faults)?, on_error })
        };
        let (input, output) = (side(&plan.input, faults), side(&plan.output, faults));
        let audit = match plan.audit {
            None | Some(AuditText { level: Level::None, .. }) => Audit::None,
            Some(AuditText { level, at }) => {
                let hidden = audit::hidden(&[&plan.input, &plan.output]);
                let keeps = if level == Level::Metadata { Audit::Metadata } else { Audit::Bodies };
                known.scanner(hidden, at, faults).map_or(Audit::None, keeps)
            }
        };
        Screens { input, output, audit }
    };
    plans.iter().map(|plan| one(plan, faults)).collect()
}
