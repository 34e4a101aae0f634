//! What a policy promises its successor to keep: the versions that were sold, and the names that hold counters.
//!
//! Counters live under names: `plan/quota`, the plan without its version. An update that renames a quota without saying
//! so would open a fresh budget beside a spent one, and one that edits `team@2026-11` would change what was sold under
//! that name. So an update must *follow* the policy in force ([`Charter::follow`]):
//!
//! - a plan with a version stays as it was written; other terms are another version;
//! - a new or edited plan goes on with every quota that any version of it had, under the same name or by `was`, unless
//!   the name is listed under `dropped`;
//! - a plan that is gone is the `was` of another one, or `dropped`.
//!
//! Packs come and go by their terms, and are no part of it. Nor is what a quota measures and whose it is: its counters go
//! with the name, so a quota that changes its unit or its level should have a new one, and the old one be dropped.
//!
//! A listener that is still warming counts as serving: its workers proclaim what they were given.
//!
//! One bundle name has one policy. Where two listeners carry two, the newer one is in force for both, and a VM of the
//! other that starts anew is held against it.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::diagnostic::{Code, Diagnostic, Faults, shown};
use super::document::Document;
use super::plan::PlanText;
use super::tree::{Entry, Mark, Node, Spanned, Value};
use crate::order;

/// How deep what is kept may nest.
const DEEPEST: usize = 32;

/// The plans of a policy and the names under which their counters are kept. Filters keep the one in force in shared data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charter {
    plans: Vec<Chartered>,
    /// Versions that were sold and are not listed any more.
    gone: Vec<(String, [u8; 16])>,
    /// The bundle's name.
    bundle: String,
    /// Where it stands.
    #[serde(skip)]
    named_at: Mark,
    /// Where the plans are listed.
    #[serde(skip)]
    at: Mark,
    /// `plan` or `plan/quota`, as written.
    #[serde(skip)]
    dropped: Vec<Spanned<String>>,
}

/// A plan of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Chartered {
    /// As the policy writes it, version included.
    label: String,
    /// The name without version that its counters carry: the first that it was given.
    first_name: String,
    /// The first names of its quotas.
    quotas: Vec<String>,
    /// Of a plan with a version: what it says, whatever its layout and comments.
    sealed: Option<[u8; 16]>,
    #[serde(skip)]
    at: Mark,
}

impl Chartered {
    /// Whether nothing that matters here has changed.
    fn is_like(&self, other: &Self) -> bool {
        (&self.label, &self.first_name, &self.quotas, self.sealed)
            == (&other.label, &other.first_name, &other.quotas, other.sealed)
    }
}

/// The most versions that are remembered after they are gone.
const MOST_GONE: usize = 1_024;

impl Charter {
    /// The charter of a document.
    pub(super) fn of(document: &Document) -> Self {
        let plans = document.plans.iter().map(|plan| Chartered {
            label: plan.name.value.clone(),
            first_name: plan.first_name().to_owned(),
            quotas: plan.quotas.iter().map(|quota| quota.first_name().to_owned()).collect(),
            sealed: plan.version.as_ref().map(|_| plan.seal),
            at: plan.name.at,
        });
        Self {
            plans: plans.collect(),
            gone: Vec::new(),
            bundle: document.name.clone(),
            named_at: document.named_at,
            at: document.plans_at,
            dropped: document.dropped.clone(),
        }
    }

    /// What it is kept as.
    pub fn to_bytes(&self) -> Vec<u8> {
        rmp_serde::to_vec(self).unwrap_or_default()
    }

    /// What was kept; `None` where it cannot be read, as after a change of this format.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        // By way of a tree: little code, for what is seldom read.
        let tree = rmpv::decode::read_value_with_max_depth(&mut &*bytes, DEEPEST).ok()?;
        rmpv::ext::from_value(tree).ok()
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
            let sold = before.sealed().find(|(label, _)| *label == plan.label);
            match (sold, plan.sealed) {
                (Some((_, sold)), Some(now)) if sold != now => broken_seal(plan, &mut faults),
                _ if before.plans.iter().any(|old| old.is_like(plan)) => {}
                _ => self.quotas_go_on(plan, before, &mut faults),
            }
        }
        self.plans_go_on(before, &mut faults);
        faults.into_diagnostics(file)
    }

    /// Every version that was sold, of plans that are there and of those that are gone.
    fn sealed(&self) -> impl Iterator<Item = (&str, [u8; 16])> {
        let now = self.plans.iter().filter_map(|plan| Some((plan.label.as_str(), plan.sealed?)));
        now.chain(self.gone.iter().map(|(label, seal)| (label.as_str(), *seal)))
    }

    /// This charter in the place of the one `before` it: it goes on knowing the versions that are not listed any more, so
    /// that none comes back with other terms.
    pub fn in_place_of(&self, before: &Self) -> Self {
        let listed = |label: &str| self.plans.iter().any(|plan| plan.label == label);
        let gone = before.sealed().filter(|(label, _)| !listed(label)).map(|(label, seal)| (label.to_owned(), seal));
        Self { gone: gone.take(MOST_GONE).collect(), ..self.clone() }
    }

    fn quotas_go_on(&self, plan: &Chartered, before: &Self, faults: &mut Faults) {
        let versions = before.plans.iter().filter(|old| old.first_name == plan.first_name);
        let mut missed: Vec<&String> = Vec::new();
        for quota in versions.flat_map(|old| &old.quotas) {
            let name = format!("{}/{quota}", plan.first_name);
            if plan.quotas.contains(quota) || missed.contains(&quota) || self.is_dropped(&name) {
                continue;
            }
            missed.push(quota);
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
