//! From the document to the bundle: every reference resolved, every rule that could not take effect refused.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use super::bundle::{Bundle, HostMode, Key, Model, Models, Plan, PlanQuota, Seat, Security, Unit, Weights};
use super::diagnostic::{Code, Faults, shown};
use super::document::Document;
use super::models::{self, ModelText, Price};
use super::plan::PlanText;
use super::scalar::WindowText;
use super::tree::{Mark, Spanned};
use super::{assign, case};
use crate::meter::count::Encoding;
use crate::quota::{Quota, QuotaId, Window};

/// Checks the whole document, and builds the bundle if no fault is left.
pub(super) fn bundle(document: &Document, text: &str, faults: &mut Faults) -> Option<Bundle> {
    let assigned = assign::resolve(document, faults);
    keys_once(document, faults);
    for plan in &document.plans {
        models_exist(plan, document, faults);
        tier_can_be_set(plan, document, faults);
    }
    prices_stated(document, faults);
    case::check(document, &assigned, faults);
    faults.is_empty().then(|| build(document, &assigned, text))
}

fn keys_once(document: &Document, faults: &mut Faults) {
    let mut first: HashMap<[u8; 32], Mark> = HashMap::new();
    for key in document.seats.iter().flat_map(|seat| &seat.keys) {
        if let Some(first) = first.get(&key.value) {
            let message = format!("this key stands in line {} too", first.line);
            faults.add(key.at, Code::Duplicate, message, "a key belongs to one seat; give each seat its own");
        } else {
            first.insert(key.value, key.at);
        }
    }
}

/// Each pattern of an allow-list must be able to match a model of the catalogue.
fn models_exist(plan: &PlanText, document: &Document, faults: &mut Faults) {
    let catalogue = || document.models.iter().map(|row| row.pattern.value.as_str());
    let in_vain = |pattern: &Spanned<String>| !catalogue().any(|row| models::overlap(&pattern.value, row));
    for allowed in &plan.models {
        if document.models.is_empty() || faults.are_full() || !in_vain(allowed) {
            continue;
        }
        let help = faults.meant(&allowed.value, catalogue(), "models");
        let message = format!("{} can match no model of the catalogue", shown(&allowed.value));
        faults.add(allowed.at, Code::UnknownName, message, help);
    }
}

fn tier_can_be_set(plan: &PlanText, document: &Document, faults: &mut Faults) {
    if document.headers == HostMode::First && plan.connectivity.tier.is_some() {
        let help = "leave the tier out, or use `envoy: {headers: held}` with a host that can hold headers";
        let message = "a tier header cannot be set where headers leave first (`envoy: {headers: first}`)";
        faults.add(plan.tier_at, Code::Conflict, message, help);
    }
}

/// A quota in credits needs the price of every model, and one above zero to be of any effect.
fn prices_stated(document: &Document, faults: &mut Faults) {
    let in_credits =
        |plan: &&PlanText| plan.quotas.iter().filter_map(|quota| quota.terms).any(|terms| terms.unit == Unit::Credits);
    let Some(plan) = document.plans.iter().find(in_credits) else { return };
    for row in document.models.iter().filter(|row| row.price == Price::NotStated) {
        let message = format!(
            "the model {} has no price, but the plan {} has a quota in credits",
            shown(&row.pattern.value),
            shown(&plan.name.value)
        );
        let help = "add `credits: {input: …, output: …}` per 1,000 tokens, or `credits: 0` for free";
        faults.add(row.pattern.at, Code::NoPrice, message, help);
    }
    let free = |row: &ModelText| row.price == Price::Stated(Weights::default());
    if !document.models.is_empty() && document.models.iter().all(free) {
        let message = format!("the plan {} has a quota in credits, but every model is free", shown(&plan.name.value));
        faults.add(plan.name.at, Code::Conflict, message, "price a model, or state the quota in tokens or requests");
    }
}

fn build(document: &Document, assigned: &[Option<usize>], text: &str) -> Bundle {
    let seats = document.seats.iter().zip(assigned).map(|(seat, plan)| Seat {
        name: seat.name.clone(),
        org: seat.org.clone().unwrap_or_default(),
        plan: *plan,
    });
    let keys = document.seats.iter().enumerate();
    let keys = keys.flat_map(|(seat, text)| text.keys.iter().map(move |key| Key { sha256: key.value, seat }));
    let rows = document.models.iter().map(|row| Model {
        pattern: row.pattern.value.clone(),
        glob: row.glob.clone(),
        encoding: row.encoding.unwrap_or(Encoding::O200kBase),
        weights: match row.price {
            Price::Stated(weights) => weights,
            Price::NotStated | Price::AtFault => Default::default(),
        },
    });
    Bundle {
        name: document.name.clone(),
        version: document.version.clone(),
        hash: hash(text),
        headers: document.headers,
        credentials: document.credentials.clone(),
        trusted_proxies: document.trusted_proxies,
        keys: keys.collect(),
        seats: seats.collect(),
        models: Models::sorted(rows.collect()),
        plans: document.plans.iter().map(|plan| build_plan(plan, document)).collect(),
        unknown: document.unknown,
        collector: document.collector.clone(),
    }
}

/// The first eight bytes of SHA-256 over the text.
fn hash(text: &str) -> u64 {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

fn build_plan(plan: &PlanText, document: &Document) -> Plan {
    let quotas = plan.quotas.iter().filter_map(|written| {
        let terms = written.terms?;
        let window = match terms.window {
            WindowText::CalendarMonth => Window::CalendarMonth { zone: document.zone.clone() },
            WindowText::FirstUse(length_ms) => Window::FirstUse { length_ms },
            WindowText::Bucket(period_ms) => Window::Bucket { period_ms },
            WindowText::Concurrent => Window::Concurrent,
        };
        let shared = matches!(window, Window::CalendarMonth { .. } | Window::FirstUse { .. });
        let granted = shared && document.collector.is_some();
        let id = QuotaId::of(&plan.base, &written.name.value);
        Some(PlanQuota {
            name: written.name.value.clone(),
            role: written.role,
            unit: terms.unit,
            per: terms.per,
            quota: Quota { id, limit: terms.limit, window, granted },
        })
    });
    let quotas: Vec<PlanQuota> = quotas.collect();
    Plan {
        name: plan.base.clone(),
        version: plan.version.clone(),
        quotas,
        hold: plan.hold.clone(),
        connectivity: plan.connectivity.clone(),
        security: Security {
            models: plan.models.iter().filter_map(|pattern| models::glob(&pattern.value).ok()).collect(),
            longest_input: plan.longest_input,
            deny_secrets: plan.deny_secrets,
        },
    }
}
