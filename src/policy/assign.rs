//! Which seat has which plan: the first line that matches.

use std::collections::{HashMap, HashSet};

use super::diagnostic::{Code, Faults, shown};
use super::document::{Document, SeatText, reference};
use super::fields::{Fields, list};
use super::tree::{Mark, Node, Spanned};

/// One line of `assign`.
#[derive(Debug)]
pub(super) struct Rule {
    pub at: Mark,
    pub when: When,
    /// `None`: deny.
    pub plan: Option<Spanned<String>>,
}

/// What a line matches: all that it names must be so.
#[derive(Debug)]
pub(super) enum When {
    Seat(Spanned<String>),
    Org(Spanned<String>),
    Both { seat: Spanned<String>, org: Spanned<String> },
    Otherwise,
}

/// The `assign` section as written.
#[derive(Debug, Default)]
pub(super) struct Assign {
    pub rules: Vec<Rule>,
    /// Whether no line had to be left out as faulty.
    pub whole: bool,
}

/// Reads the `assign` section.
pub(super) fn read(node: &Node, faults: &mut Faults) -> Assign {
    let items = list(node, "assign", faults).unwrap_or_default();
    let rules: Vec<Rule> = items.iter().filter_map(|item| rule(item, faults)).collect();
    let whole = !rules.is_empty() && rules.len() == items.len();
    Assign { rules, whole }
}

const HELP: &str = "write `{when: {seat: …}, plan: …}`, `{when: {org: …}, plan: …}` or `{otherwise: deny}`";

fn rule(node: &Node, faults: &mut Faults) -> Option<Rule> {
    let fields = Fields::of(node, "assign", &["when", "plan", "otherwise"], faults)?;
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
        return Some(Rule { at: node.at, when: When::Otherwise, plan });
    }
    let plan = fields.required("plan", HELP, faults).and_then(|node| reference(node, "assign.plan", faults));
    let when = fields.required("when", HELP, faults)?;
    let when = Fields::of(when, "assign.when", &["seat", "org"], faults)?;
    let mut named = |key: &str| when.optional(key).map(|node| reference(node, &when.path(key), faults));
    let when = match (named("seat"), named("org")) {
        (None, None) => {
            faults.add(when.key_at("when"), Code::MissingKey, "this line says of nobody when it applies", HELP);
            return None;
        }
        (Some(seat), None) => When::Seat(seat?),
        (None, Some(org)) => When::Org(org?),
        (Some(seat), Some(org)) => When::Both { seat: seat?, org: org? },
    };
    let plan = plan?;
    Some(Rule { at: node.at, when, plan: (plan.value != "deny").then_some(plan) })
}

/// The plan of every seat, and the faults of the lines: names that do not exist, lines that could not take effect,
/// plans that nobody has.
pub(super) fn resolve(document: &Document, faults: &mut Faults) -> Vec<Option<usize>> {
    let plans: HashMap<&str, usize> =
        document.plans.iter().enumerate().map(|(index, plan)| (plan.name.value.as_str(), index)).collect();
    let mut who = Who::of(&document.seats);
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
    let first = |seat: &SeatText| who.first(seat).and_then(|line| lines.get(line).copied()).flatten();
    document.seats.iter().map(first).collect()
}

/// The first line for each that a line can name.
struct Who<'a> {
    /// Every seat and its organisation, where that is known.
    orgs: HashMap<&'a str, Option<&'a str>>,
    known_orgs: HashSet<&'a str>,
    /// Whether every seat states its organisation: where one does not, a missing one is its consequence.
    orgs_sound: bool,
    by_seat: HashMap<&'a str, (usize, Mark)>,
    by_org: HashMap<&'a str, (usize, Mark)>,
    otherwise: Option<(usize, Mark)>,
}

impl<'a> Who<'a> {
    fn of(seats: &'a [SeatText]) -> Self {
        Self {
            orgs: seats.iter().map(|seat| (seat.name.as_str(), seat.org.as_deref())).collect(),
            known_orgs: seats.iter().filter_map(|seat| seat.org.as_deref()).collect(),
            orgs_sound: seats.iter().all(|seat| seat.org.is_some()),
            by_seat: HashMap::new(),
            by_org: HashMap::new(),
            otherwise: None,
        }
    }

    /// Notes what a line takes; one that an earlier line covers altogether is a fault.
    fn line(&mut self, rule: &'a Rule, index: usize, faults: &mut Faults) {
        let covered = match &rule.when {
            When::Seat(seat) => {
                self.seat_exists(seat, faults);
                self.covering(&seat.value)
            }
            When::Org(org) => {
                self.org_exists(org, faults);
                self.by_org.get(org.value.as_str())
            }
            When::Both { seat, org } => {
                self.seat_exists(seat, faults);
                self.belongs(seat, org, faults);
                self.covering(&seat.value)
            }
            When::Otherwise => None,
        };
        if let Some((_, earlier)) = covered.or(self.otherwise.as_ref()) {
            let message =
                format!("this line has no effect: line {} comes first and takes all that it matches", earlier.line);
            faults.add(rule.at, Code::Shadowed, message, "move it up, or remove it");
            return;
        }
        match &rule.when {
            When::Seat(seat) | When::Both { seat, .. } => drop(self.by_seat.insert(&seat.value, (index, rule.at))),
            When::Org(org) => drop(self.by_org.insert(&org.value, (index, rule.at))),
            When::Otherwise => self.otherwise = Some((index, rule.at)),
        }
    }

    /// The earlier line that takes this seat, if one does.
    fn covering(&self, seat: &str) -> Option<&(usize, Mark)> {
        let org = self.orgs.get(seat).copied().flatten();
        self.by_seat.get(seat).or_else(|| self.by_org.get(org?))
    }

    fn first(&self, seat: &SeatText) -> Option<usize> {
        let by_org = seat.org.as_deref().and_then(|org| self.by_org.get(org));
        let lines = [self.by_seat.get(seat.name.as_str()), by_org, self.otherwise.as_ref()];
        lines.into_iter().flatten().map(|(line, _)| *line).min()
    }

    fn seat_exists(&self, seat: &Spanned<String>, faults: &mut Faults) {
        if !self.orgs.contains_key(seat.value.as_str()) {
            let help = faults.meant(&seat.value, self.orgs.keys().copied(), "seats");
            faults.add(seat.at, Code::UnknownName, format!("there is no seat {}", shown(&seat.value)), help);
        }
    }

    fn org_exists(&self, org: &Spanned<String>, faults: &mut Faults) {
        if self.orgs_sound && !self.known_orgs.contains(org.value.as_str()) {
            let help = faults.meant(&org.value, self.known_orgs.iter().copied(), "organisations");
            faults.add(org.at, Code::UnknownName, format!("no seat is in an organisation {}", shown(&org.value)), help);
        }
    }

    fn belongs(&self, seat: &Spanned<String>, org: &Spanned<String>, faults: &mut Faults) {
        if let Some(Some(real)) = self.orgs.get(seat.value.as_str())
            && *real != org.value
        {
            let message =
                format!("the seat {} is in {}, not in {}", shown(&seat.value), shown(real), shown(&org.value));
            faults.add(org.at, Code::Conflict, message, "this line could never match; leave `org` out");
        }
    }
}
