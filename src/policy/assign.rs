//! Which seat has which plan, from when, until when: the first line that matches.

use std::collections::{HashMap, HashSet};

use jiff::civil::Date;

use super::diagnostic::{Code, Complaint, Faults, shown};
use super::document::{Document, SeatText, reference};
use super::fields::{Fields, choice, form, list};
use super::scalar::moment;
use super::tree::{Mark, Node, Spanned};

/// One line of `assign`.
#[derive(Debug)]
pub(super) struct Rule {
    pub at: Mark,
    /// All that must be so: a level and a name. Empty: `otherwise`.
    pub when: Vec<(usize, Spanned<String>)>,
    /// `None`: deny.
    pub plan: Option<Spanned<String>>,
    pub terms: Terms,
}

/// What a line says about a subscription beside the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    /// The subscription day, from which anniversaries are counted.
    pub anniversary: Option<Date>,
    /// Unix milliseconds, from the first up to and without the second.
    pub term: (u64, u64),
    pub frozen: bool,
}

/// The `assign` section as written.
#[derive(Debug, Default)]
pub(super) struct Assign {
    pub rules: Vec<Rule>,
    /// Whether no line had to be left out as faulty.
    pub whole: bool,
}

/// What a seat is assigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Assigned {
    /// The plan, by its place in the document.
    pub plan: usize,
    /// The line, by its place in the section.
    pub rule: usize,
}

/// Reads the `assign` section.
pub(super) fn read(node: &Node, levels: &[String], zone: &str, faults: &mut Faults) -> Assign {
    let items = list(node, "assign", faults).unwrap_or_default();
    let rules: Vec<Rule> = items.iter().filter_map(|item| rule(item, levels, zone, faults)).collect();
    let whole = !rules.is_empty() && rules.len() == items.len();
    Assign { rules, whole }
}

const HELP: &str = "write `{when: {seat: …}, plan: …}`, `{when: {org: …}, plan: …}` or `{otherwise: deny}`";
const TERMS: [&str; 4] = ["anniversary", "from", "until", "state"];

fn rule(node: &Node, levels: &[String], zone: &str, faults: &mut Faults) -> Option<Rule> {
    let known = [&["when", "plan", "otherwise"], &TERMS[..]].concat();
    let fields = Fields::of(node, "assign", &known, faults)?;
    if let Some(otherwise) = fields.optional("otherwise") {
        if fields.optional("when").is_some() || fields.optional("plan").is_some() {
            let at = fields.key_at("otherwise");
            faults.add(
                at,
                Code::Conflict,
                "`otherwise` stands alone: it is for all that no line before it matched",
                HELP,
            );
        }
        let plan = reference(otherwise, "assign.otherwise", faults)?;
        let plan = (plan.value != "deny").then_some(plan);
        let terms = terms(&fields, plan.is_some(), zone, faults);
        return Some(Rule { at: node.at, when: Vec::new(), plan, terms });
    }
    let plan = fields.required("plan", HELP, faults).and_then(|node| reference(node, "assign.plan", faults));
    let when = fields.required("when", HELP, faults)?;
    let known: Vec<&str> = levels.iter().map(String::as_str).collect();
    let when = Fields::of(when, "assign.when", &known, faults)?;
    let stated = levels.iter().enumerate().filter_map(|(at, level)| Some((at, level, when.optional(level)?)));
    let named = stated.map(|(at, level, node)| Some((at, reference(node, &when.path(level), faults)?)));
    let conditions: Option<Vec<(usize, Spanned<String>)>> = named.collect();
    if conditions.as_ref().is_some_and(Vec::is_empty) {
        faults.add(when.key_at("when"), Code::MissingKey, "this line says of nobody when it applies", HELP);
        return None;
    }
    let (when, plan) = (conditions?, plan?);
    let plan = (plan.value != "deny").then_some(plan);
    let terms = terms(&fields, plan.is_some(), zone, faults);
    Some(Rule { at: node.at, when, plan, terms })
}

fn terms(fields: &Fields<'_>, has_plan: bool, zone: &str, faults: &mut Faults) -> Terms {
    let mut terms = Terms { anniversary: None, term: (0, u64::MAX), frozen: false };
    if !has_plan {
        for key in TERMS.iter().filter(|key| fields.optional(key).is_some()) {
            let message = format!("a line that gives no plan has no `{key}`");
            faults.add(fields.key_at(key), Code::Conflict, message, "remove it, or name a plan");
        }
        return terms;
    }
    let day = fields.optional("anniversary").and_then(|node| form(node, "assign.anniversary", faults, date));
    terms.anniversary = day.map(|day| day.value);
    let mut at = |key: &str| {
        let node = fields.optional(key)?;
        form(node, &fields.path(key), faults, |written| moment(written, zone)).map(|at| at.value)
    };
    terms.term = (at("from").unwrap_or(0), at("until").unwrap_or(u64::MAX));
    if terms.term.0 >= terms.term.1 {
        let message = "the subscription ends before it begins";
        faults.add(fields.key_at("until"), Code::Conflict, message, "`until` is the first moment it is not good for");
    }
    if let Some(node) = fields.optional("state") {
        let words = [("active", false), ("frozen", true)];
        terms.frozen = choice(node, "assign.state", &words, faults).unwrap_or(false);
    }
    terms
}

/// `2026-11-03`.
fn date(written: &str) -> Result<Date, Complaint> {
    let read = (written.len() == "2026-11-03".len()).then(|| written.parse().ok()).flatten();
    read.ok_or_else(|| {
        let message = format!("{} is no day", shown(written));
        Complaint::new(Code::BadValue, message, "write the day the subscription began, for example `2026-11-03`")
    })
}

/// The plan of every seat, and the faults of the lines: names that do not exist, lines that could not take effect,
/// plans that nobody has.
pub(super) fn resolve(document: &Document, faults: &mut Faults) -> Vec<Option<Assigned>> {
    let plans: HashMap<&str, usize> =
        document.plans.iter().enumerate().map(|(index, plan)| (plan.name.value.as_str(), index)).collect();
    let mut who = Who::of(document);
    let mut whole = document.assign.whole;
    let mut assigned = HashSet::new();
    let mut lines = Vec::with_capacity(document.assign.rules.len());
    for (index, rule) in document.assign.rules.iter().enumerate() {
        let plan = rule.plan.as_ref().and_then(|name| {
            let found = plans.get(name.value.as_str()).copied();
            if found.is_none() {
                whole = false;
                let help = faults.meant(&name.value, plans.keys().copied(), "plans");
                faults.add(name.at, Code::UnknownName, format!("there is no plan {}", shown(&name.value)), help);
            }
            found
        });
        assigned.extend(plan);
        who.line(rule, index, faults);
        lines.push(plan);
    }
    let left = document.plans.iter().enumerate().filter(|(index, _)| whole && !assigned.contains(index));
    for (_, plan) in left {
        let message = format!("the plan {} is assigned to nobody", shown(&plan.name.value));
        faults.add(plan.name.at, Code::Unused, message, "assign it to somebody, or remove it");
    }
    let first = |seat: &SeatText| {
        let rule = who.first(seat)?;
        Some(Assigned { plan: lines.get(rule).copied().flatten()?, rule })
    };
    document.seats.iter().map(first).collect()
}

/// A line that asks for more than one thing, by its place and where it is.
type Narrow<'a> = (usize, Mark, &'a [(usize, Spanned<String>)]);

/// The first line for each that a line can name.
struct Who<'a> {
    levels: &'a [String],
    seats: HashMap<&'a str, &'a SeatText>,
    /// Every name of every level that a seat has.
    known: HashSet<(usize, &'a str)>,
    /// Whether all seats say what they belong to: where one does not, a missing name is its consequence.
    sound: bool,
    /// The first line that takes all of a name.
    by_name: HashMap<(usize, &'a str), (usize, Mark)>,
    /// Lines that ask for more than one thing.
    narrow: Vec<Narrow<'a>>,
    otherwise: Option<(usize, Mark)>,
}

impl<'a> Who<'a> {
    fn of(document: &'a Document) -> Self {
        let seats = &document.seats;
        let names = seats
            .iter()
            .flat_map(|seat| seat.of.iter().enumerate().filter_map(|(level, name)| Some((level, name.as_deref()?))));
        Self {
            levels: &document.levels,
            seats: seats.iter().map(|seat| (seat.name.value.as_str(), seat)).collect(),
            known: names.collect(),
            sound: seats.iter().all(|seat| !seat.unsound),
            by_name: HashMap::new(),
            narrow: Vec::new(),
            otherwise: None,
        }
    }

    /// Notes what a line takes; one that an earlier line covers altogether is a fault.
    fn line(&mut self, rule: &'a Rule, index: usize, faults: &mut Faults) {
        let seat = rule.when.iter().find(|(level, _)| *level == 0);
        match seat.filter(|(_, seat)| self.seats.contains_key(seat.value.as_str())) {
            // What it says of a seat that is known is right or can never match.
            Some(_) => {}
            None => rule.when.iter().for_each(|(level, name)| self.exists(*level, name, faults)),
        }
        self.can_match(rule, faults);
        if let Some((_, earlier)) = self.covering(rule) {
            let message =
                format!("this line has no effect: line {} comes first and takes all that it matches", earlier.line);
            faults.add(rule.at, Code::Shadowed, message, "move it up, or remove it");
            return;
        }
        // A seat is one: what else the line asks of it only repeats what it belongs to.
        let seat = rule.when.iter().find(|(level, _)| *level == 0);
        match (seat, rule.when.as_slice()) {
            (Some((level, name)), _) | (None, [(level, name)]) => {
                self.by_name.insert((*level, &name.value), (index, rule.at));
            }
            (None, []) => self.otherwise = Some((index, rule.at)),
            (None, several) => self.narrow.push((index, rule.at, several)),
        }
    }

    /// The earlier line that takes all that this one matches, if one does.
    fn covering(&self, rule: &Rule) -> Option<(usize, Mark)> {
        let seat = rule.when.iter().find(|(level, _)| *level == 0).and_then(|(_, name)| self.seats.get(&*name.value));
        let by_seat = seat.and_then(|seat| self.matching(seat));
        let by_name = rule.when.iter().find_map(|(level, name)| self.by_name.get(&(*level, &*name.value)).copied());
        let wider = |several: &[(usize, Spanned<String>)]| {
            several.iter().all(|(level, name)| rule.when.iter().any(|(l, n)| l == level && n.value == name.value))
        };
        let by_narrow = self.narrow.iter().find(|(.., several)| wider(several)).map(|(line, at, _)| (*line, *at));
        by_seat.or(by_name).or(by_narrow).or(self.otherwise)
    }

    /// The first line so far that names what a seat is or belongs to.
    fn matching(&self, seat: &SeatText) -> Option<(usize, Mark)> {
        let names = seat.of.iter().enumerate().filter_map(|(level, name)| Some((level, name.as_deref()?)));
        let by_name = names.filter_map(|name| self.by_name.get(&name).copied());
        let fits = |several: &[(usize, Spanned<String>)]| {
            several.iter().all(|(level, name)| seat.of(*level) == Some(name.value.as_str()))
        };
        let narrow = self.narrow.iter().filter(|(.., several)| fits(several)).map(|(line, at, _)| (*line, *at));
        by_name.chain(narrow).min_by_key(|(line, _)| *line)
    }

    fn first(&self, seat: &SeatText) -> Option<usize> {
        let lines = [self.matching(seat), self.otherwise];
        lines.into_iter().flatten().map(|(line, _)| line).min()
    }

    fn exists(&self, level: usize, name: &Spanned<String>, faults: &mut Faults) {
        if self.known.contains(&(level, name.value.as_str())) || !self.sound && level > 0 {
            return;
        }
        let (kind, message) = match self.levels.get(level).map(String::as_str) {
            Some("seat") => ("seats", format!("there is no seat {}", shown(&name.value))),
            Some("org") | None => ("organisations", format!("no seat is in an organisation {}", shown(&name.value))),
            Some(level) => ("names", format!("no seat is in the {level} {}", shown(&name.value))),
        };
        let known = self.known.iter().filter(|(of, _)| *of == level).map(|(_, name)| *name);
        let help = faults.meant(&name.value, known, kind);
        faults.add(name.at, Code::UnknownName, message, help);
    }

    /// A line that names a seat and what it belongs to must be right about it.
    fn can_match(&self, rule: &Rule, faults: &mut Faults) {
        let seat = rule.when.iter().find(|(level, _)| *level == 0).and_then(|(_, name)| self.seats.get(&*name.value));
        let Some(seat) = seat else { return };
        for (level, name) in rule.when.iter().filter(|(level, _)| *level > 0) {
            let Some(real) = seat.of(*level).filter(|real| *real != name.value) else { continue };
            let message =
                format!("the seat {} is in {}, not in {}", shown(&seat.name.value), shown(real), shown(&name.value));
            let level = self.levels.get(*level).map_or("org", String::as_str);
            let help = format!("this line could never match; leave `{level}` out");
            faults.add(name.at, Code::Conflict, message, help);
        }
    }
}
