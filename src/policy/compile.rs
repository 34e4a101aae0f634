//! From the document to the bundle: every reference resolved, every rule that could not take effect refused.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use super::audit::{AuditText, Level};
use super::bundle::{Bundle, Connectivity, HostMode, Key, Model, Models, Plan, Seat, Security, Subscription};
use super::diagnostic::{Code, Faults, shown};
use super::document::Document;
use super::fallback::FallbackText;
use super::models::{self, ModelText, Priced};
use super::names::{self, Case, Names};
use super::plan::PlanText;
use super::screen::{self, Screens};
use super::tokens::{ReliefText, Terms};
use super::tree::{Mark, Spanned};
use super::unit::Unit;
use super::{assign, funding, regions, succession};
use crate::meter::count::Encoding;
use crate::meter::dialect::Api;

/// Checks the whole document, and builds the bundle if no fault is left.
pub(super) fn bundle(document: &Document, text: &str, faults: &mut Faults) -> Option<Bundle> {
    let assigned = assign::resolve(document, faults);
    keys_once(document, faults);
    aliases_exist(document, faults);
    counted_exists(document, faults);
    for plan in &document.plans {
        models_exist(plan, document, faults);
        tier_can_be_set(plan, document, faults);
        keys_can_come(plan, document, faults);
        records_are_kept(plan, document, faults);
        downgrades_are_served(plan, document, faults);
        for rule in &plan.fallback {
            is_served(rule.to.at, &rule.to.value, document, faults);
        }
        if let Some(forced) = &plan.forced {
            is_served(forced.at, &forced.value, document, faults);
        }
    }
    regions::check(document, faults);
    prices_stated(document, faults);
    factors_apply(document, faults);
    one_currency(document, faults);
    funding::check(document, &assigned, faults);
    succession::check(document, faults);
    let screens = screen::compile(&document.plans, document.mode, faults);
    faults.is_empty().then(|| build(document, &assigned, &screens, text))
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

/// An alias repeats a line that is there, and that is no alias itself.
fn aliases_exist(document: &Document, faults: &mut Faults) {
    for (row, alias) in document.models.iter().filter_map(|row| Some((row, row.alias.as_ref()?))) {
        let target = document.models.iter().find(|other| other.pattern.value == alias.value);
        match target {
            Some(target) if target.alias.is_some() => {
                let message = format!("{} is an alias itself", shown(&alias.value));
                faults.add(alias.at, Code::Conflict, message, "name the line that has the price");
            }
            Some(_) => {}
            None => {
                let names = document.models.iter().map(|row| row.pattern.value.as_str());
                let help = faults.meant(&alias.value, names.filter(|name| *name != row.pattern.value), "models");
                faults.add(alias.at, Code::UnknownName, format!("there is no model {}", shown(&alias.value)), help);
            }
        }
    }
}

/// Calls of which nobody knows the format are counted as those of a model that is there.
fn counted_exists(document: &Document, faults: &mut Faults) {
    let Some(model) = &document.counted_as else { return };
    if models::is_glob(&model.value) || model_text(document, &model.value).is_none() {
        let help = faults.meant(&model.value, document.models.iter().map(|row| row.pattern.value.as_str()), "models");
        faults.add(model.at, Code::UnknownName, format!("there is no model {}", shown(&model.value)), help);
    }
}

/// Each pattern of a list of models, and each of a quota's models, must be able to match a model of the catalogue.
fn models_exist(plan: &PlanText, document: &Document, faults: &mut Faults) {
    let quotas = plan.quotas.iter().filter_map(|quota| quota.terms.as_ref()).flat_map(|terms| &terms.models);
    let rests = plan.fallback.iter().flat_map(|rule| &rule.models);
    for pattern in plan.models.iter().chain(quotas).chain(rests) {
        models_match(pattern, Case::Counts, document, faults);
    }
    for pattern in &plan.denied_models {
        models_match(pattern, Case::Ignored, document, faults);
    }
    for pattern in document.packs.iter().flat_map(|pack| &pack.models) {
        models_match(pattern, Case::Counts, document, faults);
    }
}

fn models_match(pattern: &Spanned<String>, case: Case, document: &Document, faults: &mut Faults) {
    let catalogue = || document.models.iter().map(|row| row.pattern.value.as_str());
    let read = |written: &str| match case {
        Case::Counts => written.to_owned(),
        Case::Ignored => written.to_ascii_lowercase(),
    };
    let in_vain = || !catalogue().any(|row| models::overlap(&read(&pattern.value), &read(row)));
    if document.models.is_empty() || faults.are_full() || !in_vain() {
        return;
    }
    let help = faults.meant(&pattern.value, catalogue(), "models");
    let message = format!("{} can match no model of the catalogue", shown(&pattern.value));
    faults.add(pattern.at, Code::UnknownName, message, help);
}

/// A downgrade goes to a model that is in the catalogue and that speaks whatever the caller may speak.
fn downgrades_are_served(plan: &PlanText, document: &Document, faults: &mut Faults) {
    let of_caps = plan.quotas.iter().filter_map(|quota| quota.terms.as_ref()).flat_map(|terms| &terms.full);
    for step in plan.empty.iter().chain(of_caps) {
        let ReliefText::Downgrade(name) = &step.value else { continue };
        is_served(step.at, name, document, faults);
    }
}

/// A model that calls are sent to, whatever they asked for: it is in the catalogue, and speaks what callers may speak.
fn is_served(at: Mark, name: &str, document: &Document, faults: &mut Faults) {
    let Some(row) = model_text(document, name).filter(|_| !models::is_glob(name)) else {
        let names = document.models.iter().map(|row| row.pattern.value.as_str());
        let help = faults.meant(name, names, "models");
        return faults.add(at, Code::UnknownName, format!("there is no model {}", shown(name)), help);
    };
    let row = row.alias.as_ref().and_then(|alias| model_text(document, &alias.value)).unwrap_or(row);
    let speaks = |row: &ModelText, api: Api| row.speaks.is_empty() || row.speaks.iter().any(|named| named.means(api));
    // Whose line says nothing of it may speak anything.
    let spoken = |api: Api| document.models.iter().any(|row| row.alias.is_none() && speaks(row, api));
    let mute = Api::all().find(|api| !speaks(row, *api) && spoken(*api));
    if let Some(api) = mute {
        let dialect = api.dialect.name().replace('-', " ");
        let several = Api::all().filter(|other| other.dialect == api.dialect).count() > 1;
        let words = if several { format!("{dialect} ({})", api.endpoint.name()) } else { dialect };
        let message = format!("{} does not speak {words}, which callers may use", shown(name));
        let help = "choose a model that speaks it, or say with `speaks` what the other models speak";
        faults.add(at, Code::Conflict, message, help);
    }
}

/// The line of the catalogue that a name falls to, before the catalogue is built.
pub(super) fn model_text<'d>(document: &'d Document, name: &str) -> Option<&'d ModelText> {
    let exact = document.models.iter().find(|row| row.glob.is_none() && row.pattern.value == name);
    let globs = document.models.iter().rev().filter(|row| row.glob.as_ref().is_some_and(|glob| glob.is_match(name)));
    // The longest, and of those the first: the last of the reversed ones.
    exact.or_else(|| globs.max_by_key(|row| row.pattern.value.len()))
}

/// Without a collector nobody reads records.
fn records_are_kept(plan: &PlanText, document: &Document, faults: &mut Faults) {
    let Some(AuditText { at, level }) = plan.audit else { return };
    if document.collector.is_none() && level != Level::None {
        let message = "`audit` says what records keep, but there is no `collector` that gets them";
        faults.add(at, Code::Conflict, message, "add `collector: {cluster: …}`, or leave it out");
    }
}

/// Where no header carries a key, none begins with anything.
fn keys_can_come(plan: &PlanText, document: &Document, faults: &mut Faults) {
    if let (Some(at), true) = (plan.keys_at, document.credentials.is_empty()) {
        let message = "`keys` says what keys begin with, but no line of `identity` names headers that carry one";
        faults.add(at, Code::Conflict, message, "add `{key: [authorization]}` to `identity`, or leave it out");
    }
}

fn tier_can_be_set(plan: &PlanText, document: &Document, faults: &mut Faults) {
    if document.headers == HostMode::First && plan.connectivity.tier.is_some() {
        let help = "leave the tier out, or use `envoy: {headers: held}` with a host that can hold headers";
        let message = "a tier header cannot be set where headers leave first (`envoy: {headers: first}`)";
        faults.add(plan.tier_at, Code::Conflict, message, help);
    }
}

/// Units that are sums of prices.
struct Family {
    what: &'static str,
    help: &'static str,
    is: fn(Unit) -> bool,
    price: fn(&ModelText) -> Priced,
}

/// A quota in credits or money needs the price of every model it takes, and one above zero to be of any effect.
fn prices_stated(document: &Document, faults: &mut Faults) {
    let families = [
        Family {
            what: "credits",
            help: "add `credits: {input: …, output: …}` per 1,000 tokens, or `credits: 0` for free",
            is: |unit| unit == Unit::Credits,
            price: |row| row.credits,
        },
        Family {
            what: "money",
            help: "add `money: {currency: …, input: …, output: …}` per million tokens, or `money: 0` for free",
            is: |unit| matches!(unit, Unit::Money(_)),
            price: |row| row.money,
        },
    ];
    for Family { what, help, is, price } in families {
        let priced = |terms: &&Terms| is(terms.unit);
        let of = |plan: &PlanText| {
            let terms = plan.quotas.iter().filter_map(|quota| quota.terms.as_ref());
            let open = terms.filter(priced).any(|terms| terms.models.is_empty());
            open || plan.packs.iter().any(|packs| is(packs.unit))
        };
        let Some(plan) = document.plans.iter().find(|plan| of(plan)) else { continue };
        let rows = || document.models.iter().filter(|row| row.alias.is_none());
        for row in rows().filter(|row| price(row) == Priced::NotStated) {
            let message = format!(
                "the model {} has no price, but the plan {} has a quota in {what}",
                shown(&row.pattern.value),
                shown(&plan.name.value)
            );
            faults.add(row.pattern.at, Code::NoPrice, message, help);
        }
        let free = |row: &ModelText| matches!(price(row), Priced::Stated(rates) if rates.is_free());
        if rows().next().is_some() && rows().all(free) {
            let message =
                format!("the plan {} has a quota in {what}, but every model is free", shown(&plan.name.value));
            let help = "price a model, or state the quota in tokens or requests";
            faults.add(plan.name.at, Code::Conflict, message, help);
        }
    }
}

/// A factor weighs what is priced, and what is counted in weighted units.
fn factors_apply(document: &Document, faults: &mut Faults) {
    let terms = || document.plans.iter().flat_map(|plan| &plan.quotas).filter_map(|quota| quota.terms.as_ref());
    let packs = document.plans.iter().flat_map(|plan| &plan.packs).map(|packs| packs.unit);
    if terms().map(|terms| terms.unit).chain(packs).any(Unit::is_weighted) {
        return;
    }
    let unpriced = |row: &&ModelText| row.credits == Priced::NotStated && row.money == Priced::NotStated;
    for row in document.models.iter().filter(|row| !row.factor.is_empty()).filter(unpriced) {
        let message = format!(
            "the factor of {} takes no effect: the model has no price, and no quota counts what is weighted",
            shown(&row.pattern.value)
        );
        let help = "remove it, price the model, or state a quota in `weighted requests`, `weighted prompts` or `weighted tokens`";
        faults.add(row.pattern.at, Code::Unused, message, help);
    }
}

/// All money of a file is in one currency: nothing here knows a rate of exchange.
fn one_currency(document: &Document, faults: &mut Faults) {
    let priced = document.models.iter().filter_map(|row| row.currency.as_ref()).map(|c| (c.at, c.value));
    let quotas = document.plans.iter().flat_map(|plan| &plan.quotas);
    let of_quota = |terms: &Terms| match terms.unit {
        Unit::Money(currency) => Some((terms.window.at, currency)),
        _ => None,
    };
    let in_money = quotas.filter_map(|quota| of_quota(quota.terms.as_ref()?));
    let mut all = priced.chain(in_money);
    let Some((first_at, first)) = all.next() else { return };
    for (at, other) in all.filter(|(_, other)| *other != first) {
        let message = format!("this is in {other}, but line {} is in {first}", first_at.line);
        faults.add(at, Code::Conflict, message, "state all prices and amounts in one currency");
    }
}

fn build(document: &Document, assigned: &[Option<assign::Assigned>], screens: &[Screens], text: &str) -> Bundle {
    let mut plans: Vec<Plan> = Vec::new();
    let mut built: HashMap<(usize, Option<jiff::civil::Date>), usize> = HashMap::new();
    let mut seats = Vec::with_capacity(document.seats.len());
    let org = document.levels.iter().position(|level| level == "org");
    for (seat, assigned) in document.seats.iter().zip(assigned) {
        let subscription = assigned.and_then(|assigned| {
            let terms = document.assign.rules.get(assigned.rule)?.terms;
            let text = document.plans.get(assigned.plan)?;
            let day = funding::counts_anniversaries(text).then_some(terms.anniversary).flatten();
            let plan = *built.entry((assigned.plan, day)).or_insert_with(|| {
                let screens = screens.get(assigned.plan).cloned().unwrap_or_default();
                plans.push(build_plan(text, screens, document, day));
                plans.len().saturating_sub(1)
            });
            Some(Subscription { plan, term: terms.term, frozen: terms.frozen })
        });
        let name = |level: usize, name: &str| format!("{}/{name}", document.levels.get(level).map_or("", |l| l));
        seats.push(Seat {
            name: seat.name.value.clone(),
            org: org.and_then(|org| seat.of(org)).unwrap_or_default().to_owned(),
            subjects: seat
                .of
                .iter()
                .enumerate()
                .map(|(level, of)| of.as_deref().map_or_else(String::new, |of| name(level, of)))
                .collect(),
            subscription,
        });
    }
    let keys = document.seats.iter().enumerate();
    let keys = keys.flat_map(|(seat, text)| text.keys.iter().map(move |key| Key { sha256: key.value, seat }));
    let rows = document.models.iter().map(|row| build_model(row, document));
    Bundle {
        name: document.name.clone(),
        charter: succession::Charter::of(document),
        version: document.version.clone(),
        hash: hash(text),
        mode: document.mode,
        mask_key: Sha256::new().chain_update("farebox mask\n").chain_update(text).finalize().into(),
        headers: document.headers,
        credentials: document.credentials.clone(),
        vouchers: document.vouchers.clone(),
        trusted_proxies: document.trusted_proxies,
        keys: keys.collect(),
        seats,
        models: Models::sorted(rows.collect()),
        plans,
        packs: funding::packs(document),
        session: document.session.clone(),
        balance: document.balance.clone(),
        unknown: document.unknown,
        counted_as: document.counted_as.as_ref().map(|model| model.value.clone()),
        collector: document.collector.clone(),
    }
}

fn build_model(row: &ModelText, document: &Document) -> Model {
    let named = row.alias.as_ref().and_then(|alias| document.models.iter().find(|of| of.pattern.value == alias.value));
    let terms = named.unwrap_or(row);
    Model {
        pattern: row.pattern.value.clone(),
        glob: row.glob.clone(),
        encoding: terms.encoding.unwrap_or(Encoding::O200kBase),
        credits: terms.credits.rates(),
        money: terms.money.rates(),
        factor: terms.factor.clone(),
        speaks: terms.speaks.clone(),
        regions: terms.regions.clone(),
        alias: named.filter(|named| named.glob.is_none()).map(|named| named.pattern.value.clone()),
    }
}

/// The first eight bytes of SHA-256 over the text.
fn hash(text: &str) -> u64 {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

fn named_models(plan: &PlanText) -> Names {
    let (allow, deny) = (plan.models.iter(), plan.denied_models.iter());
    Names {
        allow: allow.filter_map(|name| models::glob(&name.value).ok()).collect(),
        deny: deny.filter_map(|name| names::pattern(&name.value, Case::Ignored).ok()).collect(),
    }
}

fn build_plan(plan: &PlanText, screens: Screens, document: &Document, anniversary: Option<jiff::civil::Date>) -> Plan {
    Plan {
        name: plan.base.clone(),
        first_name: plan.first_name().to_owned(),
        version: plan.version.clone(),
        quotas: funding::quotas(plan, document, anniversary),
        packs: funding::packs_here(plan),
        empty: funding::empty(plan),
        warn: plan.warn.clone(),
        continued_prompt: plan.continued_prompt,
        round: plan.round,
        price_of: plan.price_of,
        hold: plan.hold.clone(),
        connectivity: Connectivity {
            fallback: plan.fallback.iter().map(FallbackText::compiled).collect(),
            ..plan.connectivity.clone()
        },
        security: Security {
            models: named_models(plan),
            input: screens.input,
            output: screens.output,
            audit: screens.audit,
            ..plan.security.clone()
        },
    }
}
