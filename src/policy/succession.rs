//! What a policy promises its successor to keep: the versions that were sold, and the names that hold counters.
//!
//! Counters live under names: `plan/quota`, the plan without its version. An update that renames a quota without saying
//! so would open a fresh budget beside a spent one, and one that edits `team@2026-11` would change what was sold under
//! that name. So an update must *follow* the policy in force ([`Charter::follow`]):
//!
//! - a plan with a version stays as it was written; other terms are another version;
//! - what it charges by outside of it stays as well: the price of every model that it can come to, in what it counts in
//!   (`credits`, `money` and `factor` of the line that a name falls to), and the zone by which its days begin. New models
//!   may come, and old ones go. A version that is sold with `prices: open` follows the price list instead. A price moves
//!   when no version is listed any more that was sold at it;
//! - a new or edited plan goes on with every quota that any version of it had, under the same name or by `was`, unless
//!   the name is listed under `dropped`;
//! - a plan that is gone is the `was` of another one, or `dropped`.
//!
//! - a quota goes on in its unit, on its level and in its kind of window: under another level or window its counters would
//!   begin anew, and in another unit 500,000 tokens would be 500,000 requests. One that is to begin anew has a new name,
//!   and the old one is `dropped`. Its limit, its burst and the length of its window may change under running counters.
//!
//! Packs come and go by their terms, and are no part of it.
//!
//! A listener that is still warming counts as serving: its workers proclaim what they were given.
//!
//! One bundle name has one policy. Where two listeners carry two, the newer one is in force for both, and a VM of the
//! other that starts anew is held against it.

use sha2::{Digest, Sha256};

use super::bundle::Per;
use super::diagnostic::{Code, Diagnostic, Faults, shown};
use super::document::Document;
use super::plan::PlanText;
use super::tokens::QuotaText;
use super::tree::{Entry, Mark, Node, Spanned, Value};
use crate::order;

mod bytes;
mod tariff;

use tariff::{Reach, Tariff};

/// The plans of a policy and the names under which their counters are kept. Filters keep the one in force in shared data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Charter {
    plans: Vec<Chartered>,
    /// Versions that were sold and are not listed any more.
    gone: Vec<Gone>,
    /// What models cost; of a policy without versions nothing.
    tariff: Tariff,
    /// The bundle's name.
    bundle: String,
    /// Where it stands.
    named_at: Mark,
    /// Where the plans are listed.
    at: Mark,
    /// `plan` or `plan/quota`, as written.
    dropped: Vec<Spanned<String>>,
}

/// A plan of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Chartered {
    /// As the policy writes it, version included.
    label: String,
    /// The name without version that its counters carry: the first that it was given.
    first_name: String,
    quotas: Vec<Kept>,
    /// Of a plan with a version: what it says, whatever its layout and comments.
    sealed: Option<[u8; 16]>,
    /// Of a plan with a version: the zones in which its hours are told, and the prices that it charges by, unless they are
    /// open.
    outside: (Vec<String>, Option<Reach>),
    at: Mark,
}

impl Chartered {
    fn of(plan: &PlanText, document: &Document) -> Self {
        let sold = plan.version.is_some();
        let hours = plan.connectivity.hours.iter().map(|band| band.zone.clone());
        let reach = Some(Reach::of(plan)).filter(|reach| sold && !plan.open_prices && reach.is_priced());
        Self {
            label: plan.name.value.clone(),
            first_name: plan.first_name().to_owned(),
            quotas: plan.quotas.iter().map(|quota| Kept::of(quota, document)).collect(),
            sealed: sold.then_some(plan.seal),
            outside: (hours.filter(|_| sold).collect(), reach),
            at: plan.name.at,
        }
    }

    /// Whether nothing that matters here has changed.
    fn is_like(&self, other: &Self) -> bool {
        // Where they stand says nothing.
        let says = |quota: &Kept| (quota.name.clone(), quota.terms.clone());
        (&self.label, &self.first_name, self.sealed) == (&other.label, &other.first_name, other.sealed)
            && self.quotas.iter().map(says).eq(other.quotas.iter().map(says))
    }
}

/// A quota, and what makes its counters mean what they say.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    /// The name it was first given.
    name: String,
    /// The words of its unit, its level, and its kind of window; empty where that was at fault.
    terms: [String; 3],
    at: Mark,
}

impl Kept {
    fn of(quota: &QuotaText, document: &Document) -> Self {
        let level = |per: Per| match per {
            Per::Session => "session".to_owned(),
            Per::Level(at) => document.levels.get(usize::from(at)).cloned().unwrap_or_default(),
        };
        let terms = quota.terms.as_ref().map(|terms| {
            let window = terms.window.value.kind(&document.zone);
            [terms.unit.words().to_owned(), level(terms.per.value), window]
        });
        Self { name: quota.first_name().to_owned(), terms: terms.unwrap_or_default(), at: quota.name.at }
    }

    /// How this one differs from what it was, in words: what it is, and what it was.
    fn differs(&self, old: &Self) -> Option<String> {
        let ways = ["is in", "is per", "has the window"].into_iter().zip(["was in", "was per", "had"]);
        let mut each = ways.zip(self.terms.iter().zip(&old.terms));
        let ((is, was), (new, old)) = each.find(|(_, (new, old))| new != old)?;
        Some(format!("{is} {}, and {was} {}", shown(new), shown(old)))
    }
}

/// A version that was sold and is not listed any more.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Gone {
    label: String,
    sealed: [u8; 16],
}

/// The most versions that are remembered after they are gone.
const MOST_GONE: usize = 1_024;

impl Charter {
    /// The charter of a document.
    pub(super) fn of(document: &Document) -> Self {
        let plans: Vec<Chartered> = document.plans.iter().map(|plan| Chartered::of(plan, document)).collect();
        let priced = plans.iter().any(|plan| plan.outside.1.is_some());
        Self {
            plans,
            gone: Vec::new(),
            tariff: if priced { Tariff::of(document) } else { Tariff::default() },
            bundle: document.name.clone(),
            named_at: document.named_at,
            at: document.plans_at,
            dropped: document.dropped.clone(),
        }
    }

    /// Everything by which this policy, the text `file`, breaks with the one before it. Empty: it may take its place.
    pub fn follow(&self, before: &Self, file: &str) -> Vec<Diagnostic> {
        let mut faults = Faults::default();
        if self.bundle != before.bundle {
            let message = format!("the bundle was called {}", shown(&before.bundle));
            let help = "keep the name: all counters are kept under it, and would begin anew";
            faults.add(self.named_at, Code::Succession, message, help);
            return faults.into_diagnostics(file);
        }
        for plan in &self.plans {
            let sold = before.sealed().find(|sold| sold.label == plan.label);
            match (&sold, plan.sealed) {
                (Some(sold), Some(now)) if sold.sealed != now => {
                    broken_seal(plan, &mut faults);
                    continue;
                }
                (Some(_), Some(_)) => self.charges_stay(plan, before, &mut faults),
                _ => {}
            }
            if !before.plans.iter().any(|old| old.is_like(plan)) {
                self.quotas_go_on(plan, before, &mut faults);
            }
        }
        self.plans_go_on(before, &mut faults);
        faults.into_diagnostics(file)
    }

    /// Every version that was sold, of plans that are there and of those that are gone.
    fn sealed(&self) -> impl Iterator<Item = Gone> {
        let as_gone = |plan: &Chartered| Some(Gone { label: plan.label.clone(), sealed: plan.sealed? });
        self.plans.iter().filter_map(as_gone).chain(self.gone.iter().cloned())
    }

    /// What a version that was sold charges by outside of itself.
    fn charges_stay(&self, plan: &Chartered, before: &Self, faults: &mut Faults) {
        let (zones, reach) = &plan.outside;
        let listed = before.plans.iter().find(|old| old.label == plan.label);
        if let Some(old) = listed.filter(|old| old.outside.0 != *zones) {
            let (new, old) = (zones.join(", "), old.outside.0.join(", "));
            let message = format!("the hours of the plan {} are told in {new}, and were in {old}", shown(&plan.label));
            faults.add(plan.at, Code::Succession, message, "keep the file's `zone`: a version stays as it was sold");
        }
        if let Some(reach) = reach {
            self.tariff.keep(&before.tariff, (&plan.label, reach), listed.is_some(), faults);
        }
    }

    /// This charter in the place of the one `before` it: it goes on knowing the versions that are not listed any more, so
    /// that none comes back with other terms.
    pub fn in_place_of(&self, before: &Self) -> Self {
        let lists = |label: &str| self.plans.iter().any(|plan| plan.label == label);
        let gone: Vec<Gone> = before.sealed().filter(|sold| !lists(&sold.label)).take(MOST_GONE).collect();
        let known = |label: &str| lists(label) || gone.iter().any(|gone| gone.label == label);
        let sold = before.plans.iter().filter_map(|plan| {
            let reach = plan.outside.1.as_ref()?;
            Some((plan.label.as_str(), reach, lists(&plan.label)))
        });
        let mut tariff = Tariff { past: Vec::new(), lines: self.tariff.lines.clone() };
        tariff.remember(&before.tariff, sold, known);
        Self { gone, tariff, ..self.clone() }
    }

    fn quotas_go_on(&self, plan: &Chartered, before: &Self, faults: &mut Faults) {
        let versions = before.plans.iter().filter(|old| old.first_name == plan.first_name);
        let mut seen: Vec<&String> = Vec::new();
        for old in versions.flat_map(|old| &old.quotas) {
            let (quota, name) = (&old.name, format!("{}/{}", plan.first_name, old.name));
            if seen.contains(&quota) || self.is_dropped(&name) {
                continue;
            }
            if let Some(new) = plan.quotas.iter().find(|new| new.name == *quota) {
                if let Some(differs) = new.differs(old) {
                    seen.push(quota);
                    let sold = plan.sealed.is_some() && before.sealed().any(|sold| sold.label == plan.label);
                    other_terms(plan, new, (&differs, sold), faults);
                }
                continue;
            }
            seen.push(quota);
            let message = format!("the plan {} has no quota {} any more", shown(&plan.label), shown(quota));
            let help = format!(
                "if it was renamed, write `was: {quota}` at the new name, or its counters begin anew; if it is meant to go, list `dropped: [{name}]`"
            );
            faults.add(plan.at, Code::Succession, message, help);
        }
    }

    fn plans_go_on(&self, before: &Self, faults: &mut Faults) {
        let mut missed: Vec<&String> = Vec::new();
        for old in &before.plans {
            let name = &old.first_name;
            let goes_on = self.plans.iter().any(|plan| plan.first_name == *name);
            if goes_on || missed.contains(&name) || self.is_dropped(name) {
                continue;
            }
            missed.push(name);
            let message = format!("there is no plan {} any more", shown(name));
            let help = format!(
                "if it was renamed, write `was: {name}` in the new plan, or its counters begin anew; if it is meant to go, list `dropped: [{name}]`"
            );
            faults.add(self.at, Code::Succession, message, help);
        }
    }

    fn is_dropped(&self, name: &str) -> bool {
        self.dropped.iter().any(|dropped| dropped.value == name)
    }
}

/// A quota whose counters would begin anew, or stand for something else. `sold`: the plan itself is as it was sold.
fn other_terms(plan: &Chartered, quota: &Kept, (differs, sold): (&str, bool), faults: &mut Faults) {
    let message = format!("the quota {} of the plan {} {differs}", shown(&quota.name), shown(&plan.label));
    let help = match sold {
        true => {
            "a version stays as it was sold: keep the file's `zone` and `levels`, or write a new version".to_owned()
        }
        false => format!(
            "counters go with the name, and these would begin anew or stand for something else: keep what it was, or give it a new name and list `dropped: [{}/{}]`",
            plan.first_name, quota.name
        ),
    };
    faults.add(quota.at, Code::Succession, message, help);
}

fn broken_seal(plan: &Chartered, faults: &mut Faults) {
    let message = format!("the plan {} says something else than it did", shown(&plan.label));
    let help = "a version stays as it was sold: write the new terms under a new version and assign that; both share their counters";
    faults.add(plan.at, Code::Succession, message, help);
}

/// Notes names that are said to be gone and are there, and plans that share a first name and are not versions of one.
pub(super) fn check(document: &Document, faults: &mut Faults) {
    for dropped in &document.dropped {
        let (plan, quota) = match dropped.value.split_once('/') {
            Some((plan, quota)) => (plan, Some(quota)),
            None => (dropped.value.as_str(), None),
        };
        let versions: Vec<&PlanText> = document.plans.iter().filter(|of| of.first_name() == plan).collect();
        let there = match quota {
            None => !versions.is_empty(),
            // A quota may go from the next version while the last is still sold.
            Some(quota) => {
                !versions.is_empty()
                    && versions.iter().all(|plan| plan.quotas.iter().any(|of| of.first_name() == quota))
            }
        };
        if there {
            let message = format!("{} is dropped, and is still there", shown(&dropped.value));
            faults.add(dropped.at, Code::Conflict, message, "remove it from the plans, or from `dropped`");
        }
    }
    versions_agree(document, faults);
    for (at, plan) in document.plans.iter().enumerate() {
        let other = document.plans.iter().take(at).find(|other| {
            let versions = other.base == plan.base;
            versions != (other.first_name() == plan.first_name())
        });
        if let Some(other) = other {
            let message = format!(
                "the plans {} and {} would {}",
                shown(&other.name.value),
                shown(&plan.name.value),
                if other.base == plan.base { "not share their counters" } else { "share their counters" }
            );
            let help = "all versions of a plan have one `was`, and no other plan has it";
            faults.add(plan.was.as_ref().map_or(plan.name.at, |was| was.at), Code::Conflict, message, help);
        }
    }
}

/// Notes quotas of versions that share their counters, and would read them differently.
fn versions_agree(document: &Document, faults: &mut Faults) {
    for (at, plan) in document.plans.iter().enumerate() {
        let elder = document
            .plans
            .iter()
            .take(at)
            .filter(|elder| elder.first_name() == plan.first_name() && elder.name.value != plan.name.value);
        let elder: Vec<&PlanText> = elder.collect();
        for quota in plan.quotas.iter().filter(|quota| quota.terms.is_some()) {
            let same = |of: &QuotaText| of.first_name() == quota.first_name() && of.terms.is_some();
            let found = elder.iter().find_map(|elder| Some((elder, elder.quotas.iter().find(|of| same(of))?)));
            let Some((elder, other)) = found else { continue };
            if let Some(differs) = Kept::of(quota, document).differs(&Kept::of(other, document)) {
                let message = format!(
                    "the quota {} of {} {differs} in {}, whose counters it goes on with",
                    shown(&quota.name.value),
                    shown(&plan.name.value),
                    shown(&elder.name.value)
                );
                faults.add(
                    quota.name.at,
                    Code::Conflict,
                    message,
                    "give it another name: its counters then begin anew",
                );
            }
        }
    }
}

/// What a node says, whatever its layout, quotes and comments.
pub(super) fn seal(node: &Node) -> [u8; 16] {
    let mut digest = Sha256::new();
    digest_into(node, false, &mut digest);
    let whole: [u8; 32] = digest.finalize().into();
    let mut first = [0; 16];
    first.iter_mut().zip(whole).for_each(|(to, from)| *to = from);
    first
}

/// Each kind by a letter, each text and list by its length: no two trees are written alike. The tree's depth is bounded.
/// The order of keys says nothing, but that of funds does (`ordered`): they pay in it.
fn digest_into(node: &Node, ordered: bool, digest: &mut Sha256) {
    let text = |letter: &[u8], text: &str, digest: &mut Sha256| {
        digest.update(letter);
        digest.update(length(text.len()));
        digest.update(text);
    };
    match &node.value {
        Value::Null | Value::Faulty => digest.update(b"n"),
        Value::Plain(written) | Value::Quoted(written) => text(b"t", written, digest),
        Value::List(items) => {
            digest.update(b"l");
            digest.update(length(items.len()));
            items.iter().for_each(|item| digest_into(item, false, digest));
        }
        Value::Map(entries) => {
            digest.update(b"m");
            digest.update(length(entries.len()));
            let mut entries: Vec<&Entry> = entries.iter().collect();
            if !ordered {
                order::by(&mut entries, |one, other| one.key.cmp(&other.key));
            }
            for entry in entries {
                text(b"k", &entry.key, digest);
                digest_into(&entry.value, entry.key == "funds", digest);
            }
        }
    }
}

/// As wide in the filter as in the tools, so that both seal alike.
fn length(count: usize) -> [u8; 8] {
    u64::try_from(count).unwrap_or(u64::MAX).to_le_bytes()
}

#[cfg(test)]
#[path = "succession_tests.rs"]
mod tests;
