//! Who pays and how fast, from the document to the bundle: quotas, packs, and what happens when they are used up.

use std::collections::{HashMap, HashSet};

use globset::GlobMatcher;
use jiff::civil::Date;

use super::assign::Assigned;
use super::bundle::{HoldSize, Pack, PacksHere, Per, PlanQuota, Relief, Role};
use super::diagnostic::{Code, Faults, shown};
use super::document::{Document, PackText, SeatText};
use super::models;
use super::plan::PlanText;
use super::tokens::{QuotaText, ReliefText, Terms};
use super::tree::Spanned;
use super::window::WindowText;
use crate::order;
use crate::quota::{Quota, QuotaId, Window};

/// What owns the quotas of packs, in the place of a plan's name.
const PACKS: &str = "packs";

/// Notes what could not take effect: quotas of levels that their seats lack, packs that nobody draws on, names that
/// were given away twice.
pub(super) fn check(document: &Document, assigned: &[Option<Assigned>], faults: &mut Faults) {
    for plan in &document.plans {
        if plan.base == PACKS || plan.first_name() == PACKS {
            let message = "a plan cannot be called `packs`: packs have their accounts under that name";
            faults.add(plan.name.at, Code::Conflict, message, "give it another name");
        }
        former_names(plan, faults);
        funds_hold_alike(plan, faults);
        caps_of_funds(plan, faults);
        sessions_are_told(plan, document, faults);
    }
    let seats = || document.seats.iter().zip(assigned).filter_map(|(seat, assigned)| Some((seat, (*assigned)?)));
    let mut noted = HashSet::new();
    for (seat, assigned) in seats() {
        let Some(plan) = document.plans.get(assigned.plan) else { continue };
        levels_exist(seat, plan, document, &mut noted, faults);
    }
    subscription_days(document, assigned, faults);
    for pack in &document.packs {
        let drawn = seats().filter_map(|(seat, assigned)| Some((seat, document.plans.get(assigned.plan)?)));
        pack_is_drawn(pack, document, drawn, faults);
    }
}

/// A name that a quota had before is not the name of another one now.
fn former_names(plan: &PlanText, faults: &mut Faults) {
    let mut taken: HashMap<&str, &Spanned<String>> =
        plan.quotas.iter().map(|quota| (quota.name.value.as_str(), &quota.name)).collect();
    for was in plan.quotas.iter().filter_map(|quota| quota.was.as_ref()) {
        if let Some(other) = taken.insert(&was.value, was) {
            let message = format!("the name {} has another quota, in line {}", shown(&was.value), other.at.line);
            faults.add(was.at, Code::Conflict, message, "a former name belongs to one quota");
        }
    }
}

/// Funds that pay a call together hold the same of it.
fn funds_hold_alike(plan: &PlanText, faults: &mut Faults) {
    let funds = plan.quotas.iter().filter(|quota| quota.role == Role::Fund);
    let mut last: Option<(&QuotaText, &Terms)> = None;
    for (quota, terms) in funds.filter_map(|quota| Some((quota, quota.terms.as_ref()?))) {
        if let Some((before, _)) = last.filter(|(_, of)| of.unit == terms.unit && of.hold != terms.hold) {
            let message = format!(
                "{} and {} pay together, and one of them holds what is expected, the other the worst",
                shown(&before.name.value),
                shown(&quota.name.value)
            );
            faults.add(quota.name.at, Code::Conflict, message, "give both the same `hold`");
        }
        last = Some((quota, terms));
    }
}

/// A cap of a fund names one, and there is another behind it for a call to go on to.
fn caps_of_funds(plan: &PlanText, faults: &mut Faults) {
    for (quota, terms) in plan.quotas.iter().filter_map(|quota| Some((quota, quota.terms.as_ref()?))) {
        let next = terms.full.iter().find(|step| step.value == ReliefText::NextFund);
        let Some(fund) = &terms.of else {
            if let Some(next) = next {
                let message = format!("nothing says of which fund {} is a cap", shown(&quota.name.value));
                let help = "write `of: FUND`, the fund that does not pay when this is full";
                faults.add(next.at, Code::MissingKey, message, help);
            }
            continue;
        };
        let place = plan.quotas.iter().position(|other| other.role == Role::Fund && other.name.value == fund.value);
        let Some(place) = place else {
            let funds = plan.quotas.iter().filter(|other| other.role == Role::Fund);
            let help = faults.meant(&fund.value, funds.map(|fund| fund.name.value.as_str()), "funds");
            let message = format!("the plan has no fund {}", shown(&fund.value));
            faults.add(fund.at, Code::UnknownName, message, help);
            continue;
        };
        let behind = plan.quotas.iter().skip(place.saturating_add(1)).any(|other| other.role == Role::Fund)
            || plan.packs.iter().any(|packs| packs.before > place);
        if let Some(next) = next.filter(|_| !behind) {
            let message = format!("there is no fund behind {}", shown(&fund.value));
            let help = "add one, or `{from: packs, …}`, below it; or remove this step";
            faults.add(next.at, Code::Conflict, message, help);
        }
    }
}

fn sessions_are_told(plan: &PlanText, document: &Document, faults: &mut Faults) {
    let mut terms = plan.quotas.iter().filter_map(|quota| quota.terms.as_ref());
    if let Some(terms) = terms.find(|terms| terms.per.value == Per::Session).filter(|_| document.session.is_empty()) {
        let message = "nothing says what a session is, so that all calls of a seat would be one";
        let help = "list the headers that carry it, for example `session: [x-claude-code-session-id]`";
        faults.add(terms.per.at, Code::MissingKey, message, help);
    }
}

fn levels_exist<'d>(
    seat: &SeatText,
    plan: &'d PlanText,
    document: &Document,
    noted: &mut HashSet<(&'d str, u8)>,
    faults: &mut Faults,
) {
    let quotas = plan.quotas.iter().filter_map(|quota| Some(&quota.terms.as_ref()?.per));
    for per in quotas.chain(plan.packs.iter().map(|packs| &packs.per)) {
        let Per::Level(at) = per.value else { continue };
        if seat.unsound || seat.of(usize::from(at)).is_some() || !noted.insert((&plan.name.value, at)) {
            continue;
        }
        let level = document.levels.get(usize::from(at)).map_or("level", String::as_str);
        let message = format!(
            "the plan {} has a quota per {level}, but its seat {} has no {level}",
            shown(&plan.name.value),
            shown(&seat.name.value)
        );
        faults.add(per.at, Code::MissingKey, message, format!("write `{level}: …` at the seat"));
    }
}

/// Whether the plan counts from a subscription day.
pub(super) fn counts_anniversaries(plan: &PlanText) -> bool {
    plan.quotas.iter().filter_map(|quota| quota.terms.as_ref()).any(|terms| terms.window.value.is_anniversary())
}

/// A quota of an account, by its plan, its name, its level and the account's owner.
type Shared<'d> = (&'d str, &'d str, usize, &'d str);

/// Who has a plan that counts from the subscription day has such a day; and those who share an account share it.
fn subscription_days(document: &Document, assigned: &[Option<Assigned>], faults: &mut Faults) {
    let mut noted = HashSet::new();
    let mut days: HashMap<Shared<'_>, (Option<Date>, u32)> = HashMap::new();
    for (seat, assigned) in document.seats.iter().zip(assigned) {
        let Some((assigned, plan)) = assigned.and_then(|a| Some((a, document.plans.get(a.plan)?))) else { continue };
        let Some(rule) = document.assign.rules.get(assigned.rule).filter(|_| counts_anniversaries(plan)) else {
            continue;
        };
        if rule.terms.anniversary.is_none() && noted.insert(assigned.rule) {
            let message = format!("the plan {} counts from the subscription day", shown(&plan.name.value));
            faults.add(rule.at, Code::MissingKey, message, "state it, for example `anniversary: 2026-11-03`");
        }
        for quota in &plan.quotas {
            let Some(terms) = quota.terms.as_ref().filter(|terms| terms.window.value.is_anniversary()) else {
                continue;
            };
            let Per::Level(level) = terms.per.value else { continue };
            let Some(owner) = seat.of(usize::from(level)) else { continue };
            let account = (plan.first_name(), quota.first_name(), usize::from(level), owner);
            let (day, line) = *days.entry(account).or_insert((rule.terms.anniversary, rule.at.line));
            if day != rule.terms.anniversary && noted.insert(assigned.rule) {
                let message = format!(
                    "{} shares {} with those of line {line}, which states another day",
                    shown(&seat.name.value),
                    shown(&quota.name.value)
                );
                faults.add(rule.at, Code::Conflict, message, "an account has one subscription day");
            }
        }
    }
}

fn pack_is_drawn<'d>(
    pack: &PackText,
    document: &Document,
    mut seats: impl Iterator<Item = (&'d SeatText, &'d PlanText)>,
    faults: &mut Faults,
) {
    let (level, owner) = &pack.owner;
    let mut known = document.seats.iter().filter_map(|seat| seat.of(*level));
    let named = document.levels.get(*level).map_or("level", String::as_str);
    if !known.any(|name| name == owner.value) {
        if document.seats.iter().all(|seat| !seat.unsound) {
            let names = document.seats.iter().filter_map(|seat| seat.of(*level));
            let help = faults.meant(&owner.value, names, "names");
            faults.add(owner.at, Code::UnknownName, format!("there is no {named} {}", shown(&owner.value)), help);
        }
        return;
    }
    let here = |plan: &PlanText| {
        let of_level = |per: Per| per == Per::Level(u8::try_from(*level).unwrap_or(u8::MAX));
        plan.packs.iter().any(|packs| packs.unit == pack.unit && of_level(packs.per.value))
    };
    if !seats.any(|(seat, plan)| seat.of(*level) == Some(owner.value.as_str()) && here(plan)) {
        let message = format!("no plan of {} draws on packs in {}", shown(&owner.value), pack.unit.words());
        let help = format!("add `{{from: packs, unit: {}, per: {named}}}` to its funds", pack.unit.words());
        faults.add(pack.name.at, Code::Unused, message, help);
    }
}

/// The quotas of a plan for those who subscribed on this day.
pub(super) fn quotas(plan: &PlanText, document: &Document, day: Option<Date>) -> Vec<PlanQuota> {
    plan.quotas.iter().filter_map(|quota| built(plan, quota, document, day)).collect()
}

fn built(plan: &PlanText, written: &QuotaText, document: &Document, day: Option<Date>) -> Option<PlanQuota> {
    let terms = written.terms.as_ref()?;
    let window = terms.window.value.window(&document.zone, terms.burst.unwrap_or(terms.limit), day);
    let granted = !terms.window.value.is_rate() && terms.per.value != Per::Session && document.collector.is_some();
    let (owner, first_name) = (plan.first_name(), written.first_name());
    Some(PlanQuota {
        name: written.name.value.clone(),
        ledger: format!("{owner}/{first_name}"),
        role: written.role,
        unit: terms.unit,
        per: terms.per.value,
        models: globs(&terms.models),
        hold: terms.hold,
        full: reliefs(owner, first_name, terms.per.value, &terms.full),
        rejected: terms.rejected,
        of: terms.of.as_ref().map(|fund| QuotaId::of(owner, first_name_of(plan, &fund.value))),
        quota: Quota {
            id: QuotaId::of(owner, first_name),
            limit: terms.limit,
            window,
            granted,
            rollover: terms.rollover,
        },
    })
}

/// The name under which the counters of a quota of this plan are kept.
fn first_name_of<'p>(plan: &'p PlanText, name: &'p str) -> &'p str {
    plan.quotas.iter().find(|quota| quota.name.value == name).map_or(name, QuotaText::first_name)
}

fn globs(patterns: &[Spanned<String>]) -> Vec<GlobMatcher> {
    patterns.iter().filter_map(|pattern| models::glob(&pattern.value).ok()).collect()
}

/// What happens when no fund of the plan can pay.
pub(super) fn empty(plan: &PlanText) -> Vec<Relief> {
    let first = plan.quotas.iter().find(|quota| quota.role == Role::Fund).and_then(|quota| quota.terms.as_ref());
    let per = first.map_or(Per::Level(0), |terms: &Terms| terms.per.value);
    reliefs(plan.first_name(), "empty", per, &plan.empty)
}

fn reliefs(plan: &str, quota: &str, per: Per, steps: &[Spanned<ReliefText>]) -> Vec<Relief> {
    let mut throttles = 0_usize;
    let built = |step: &Spanned<ReliefText>| match &step.value {
        ReliefText::Deny => Relief::Deny,
        ReliefText::Wait(ms) => Relief::Wait(*ms),
        ReliefText::Throttle(limit, unit, period_ms) => {
            // Each has a bucket of its own.
            throttles = throttles.saturating_add(1);
            let name = match throttles {
                1 => format!("{quota}.throttle"),
                more => format!("{quota}.throttle{more}"),
            };
            Relief::Throttle(Box::new(PlanQuota {
                ledger: format!("{plan}/{name}"),
                role: Role::Cap,
                unit: *unit,
                per,
                models: Vec::new(),
                hold: HoldSize::Worst,
                full: Vec::new(),
                rejected: false,
                of: None,
                quota: Quota {
                    id: QuotaId::of(plan, &name),
                    limit: *limit,
                    window: WindowText::Bucket(*period_ms).window("UTC", *limit, None),
                    granted: false,
                    rollover: 0,
                },
                name,
            }))
        }
        ReliefText::Downgrade(model) => Relief::Downgrade(model.clone()),
        ReliefText::Overage(micro, unit) => Relief::Overage(*micro, *unit),
        ReliefText::Observe => Relief::Observe,
        ReliefText::NextFund => Relief::NextFund,
    };
    steps.iter().map(built).collect()
}

/// Where packs pay among the funds of a plan.
pub(super) fn packs_here(plan: &PlanText) -> Vec<PacksHere> {
    let here =
        plan.packs.iter().map(|packs| PacksHere { before: packs.before, unit: packs.unit, per: packs.per.value });
    here.collect()
}

/// All packs, soonest end first, and of those that end together the one that began first.
pub(super) fn packs(document: &Document) -> Vec<Pack> {
    let mut packs: Vec<Pack> = document.packs.iter().map(|pack| built_pack(pack, document)).collect();
    order::by(&mut packs, |one, other| {
        (one.term.1, one.term.0, &one.fund.name).cmp(&(other.term.1, other.term.0, &other.fund.name))
    });
    packs
}

fn built_pack(pack: &PackText, document: &Document) -> Pack {
    let (level, owner) = &pack.owner;
    let (from_ms, until_ms) = pack.term;
    Pack {
        subject: format!("{}/{}", document.levels.get(*level).map_or("", String::as_str), owner.value),
        fund: PlanQuota {
            name: pack.name.value.clone(),
            ledger: format!("{PACKS}/{}", pack.name.value),
            role: Role::Fund,
            unit: pack.unit,
            per: Per::Level(u8::try_from(*level).unwrap_or(0)),
            models: globs(&pack.models),
            hold: HoldSize::Worst,
            full: Vec::new(),
            rejected: false,
            of: None,
            quota: Quota {
                id: QuotaId::of(PACKS, &pack.name.value),
                limit: pack.amount,
                window: Window::Term { from_ms, until_ms },
                granted: document.collector.is_some(),
                rollover: 0,
            },
        },
        term: pack.term,
    }
}
