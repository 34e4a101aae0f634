//! Plans whose calls stay in regions: every model that a call could be sent to is served there.

use std::collections::BTreeSet;

use super::bundle::{HostMode, OnUnknown};
use super::compile::model_text;
use super::diagnostic::{Code, Faults, shown};
use super::document::Document;
use super::plan::PlanText;
use super::tokens::ReliefText;
use super::tree::Mark;

/// Checks the regions of all plans.
pub(super) fn check(document: &Document, faults: &mut Faults) {
    for plan in &document.plans {
        let Some(first) = plan.regions.first() else { continue };
        known(plan, document, faults);
        if document.headers == HostMode::First {
            let message = "no route can be told a region where headers leave first (`envoy: {headers: first}`)";
            let help = "leave `regions` out, or use `envoy: {headers: held}` with a host that can hold headers";
            faults.add(first.at, Code::Conflict, message, help);
        }
        let unread = [document.unknown.path, document.unknown.body].contains(&OnUnknown::Pass);
        if unread || document.counted_as.is_some() {
            let message = "calls that cannot be read pass (`unknown`), wherever they go";
            faults.add(first.at, Code::Conflict, message, "write `unknown: {path: deny, body: deny}`, or no `regions`");
        }
        targets(plan, document, faults);
    }
}

/// Each region has a model.
fn known(plan: &PlanText, document: &Document, faults: &mut Faults) {
    let all = document.models.iter().flat_map(|row| &row.regions).map(String::as_str);
    let regions: BTreeSet<&str> = all.collect();
    for region in plan.regions.iter().filter(|region| !regions.contains(region.value.as_str())) {
        let help = faults.meant(&region.value, regions.iter().copied(), "regions of models");
        let message = format!("no model is served in the region {}", shown(&region.value));
        faults.add(region.at, Code::UnknownName, message, help);
    }
}

/// Where a plan sends calls by itself, they stay in its regions.
fn targets(plan: &PlanText, document: &Document, faults: &mut Faults) {
    let of_caps = plan.quotas.iter().filter_map(|quota| quota.terms.as_ref()).flat_map(|terms| &terms.full);
    let downgrades = plan.empty.iter().chain(of_caps).filter_map(|step| match &step.value {
        ReliefText::Downgrade(name) => Some((step.at, name)),
        _ => None,
    });
    let others = plan.fallback.iter().map(|rule| &rule.to).chain(&plan.forced).map(|to| (to.at, &to.value));
    let all: Vec<(Mark, &String)> = downgrades.chain(others).collect();
    for (at, name) in all {
        // A name that is none is told elsewhere.
        let Some(row) = model_text(document, name) else { continue };
        let named =
            row.alias.as_ref().and_then(|alias| document.models.iter().find(|row| row.pattern.value == alias.value));
        let served = &named.unwrap_or(row).regions;
        if !plan.regions.iter().any(|region| served.contains(&region.value)) {
            let message = format!("{} is served in none of the regions of this plan", shown(name));
            faults.add(at, Code::Conflict, message, "choose a model that is, or say its `regions` in the catalogue");
        }
    }
}
