//! Plans as written: tokens, connectivity, security.

use super::audit::AuditText;
use super::bundle::{HoldRule, PriceOf, Warn};
use super::connectivity::{self, Connectivity};
use super::diagnostic::{Code, Complaint, Faults};
use super::fallback::FallbackText;
use super::fields::{Fields, map, name, named};
use super::scalar::amount;
use super::screen::ScreenText;
use super::security::{self, Security};
use super::succession;
use super::tokens::{self, PacksText, QuotaText, ReliefText};
use super::tree::{Entry, Mark, Node, Spanned};
use super::unit::Unit;

const MOST_PLANS: usize = 256;
/// The most quotas of a plan, and the most patterns of its allow-list: every call goes through all of them.
pub(super) const MOST_LINES: usize = 64;

/// A plan as written.
#[derive(Debug)]
pub(super) struct PlanText {
    /// As written, version included: what `assign` names.
    pub name: Spanned<String>,
    /// The name before the `@`.
    pub base: String,
    /// What follows the `@`.
    pub version: Option<String>,
    /// The name that it was first given, where it has another one now.
    pub was: Option<Spanned<String>>,
    /// What it says, whatever its layout.
    pub seal: [u8; 16],
    /// Funds, then caps.
    pub quotas: Vec<QuotaText>,
    pub packs: Vec<PacksText>,
    pub empty: Vec<Spanned<ReliefText>>,
    pub warn: Warn,
    /// In micro-units.
    pub continued_prompt: u64,
    /// In micro-units.
    pub round: u64,
    pub price_of: PriceOf,
    /// Whether its prices follow the catalogue, although it was sold under a version.
    pub open_prices: bool,
    pub hold: HoldRule,
    /// Where `hold` says what tries cost that fail.
    pub failed_try_at: Option<Mark>,
    pub connectivity: Connectivity,
    /// Where the tier is stated.
    pub tier_at: Mark,
    /// Where it says what keys begin with.
    pub keys_at: Option<Mark>,
    /// The regions that its calls stay in, as written.
    pub regions: Vec<Spanned<String>>,
    /// Rules of `connectivity`, whose models are resolved later.
    pub fallback: Vec<FallbackText>,
    pub models: Vec<Spanned<String>>,
    /// Models that may not be asked for.
    pub denied_models: Vec<Spanned<String>>,
    /// The model that every call is sent to.
    pub forced: Option<Spanned<String>>,
    /// Without its models and screens, which are resolved later.
    pub security: Security,
    pub input: Option<ScreenText>,
    pub output: Option<ScreenText>,
    pub audit: Option<AuditText>,
}

impl PlanText {
    /// The name without version under which its counters are kept.
    pub fn first_name(&self) -> &str {
        self.was.as_ref().map_or(&self.base, |was| &was.value)
    }
}

/// Reads the `plans` section.
pub(super) fn read(node: &Node, levels: &[String], zone: &str, faults: &mut Faults) -> Vec<PlanText> {
    let entries = map(node, "plans", faults).unwrap_or_default();
    if entries.is_empty() {
        faults.add(node.at, Code::BadValue, "no plan is listed", "define at least one plan");
    }
    if let Some(beyond) = entries.get(MOST_PLANS) {
        faults.add(
            beyond.at,
            Code::TooLarge,
            format!("more than {MOST_PLANS} plans are listed"),
            "split the file into several bundles",
        );
    }
    entries.iter().take(MOST_PLANS).map(|entry| plan(entry, levels, zone, faults)).collect()
}

fn plan(entry: &Entry, levels: &[String], zone: &str, faults: &mut Faults) -> PlanText {
    let (base, version) = match entry.key.split_once('@') {
        Some((base, version)) => (base, Some(version)),
        None => (entry.key.as_str(), None),
    };
    for part in [Some(base), version].into_iter().flatten() {
        faults.keep(entry.at, name(part, "a plan"));
    }
    if entry.key == "deny" {
        let message = "a plan cannot be called `deny`: on a line of `assign` the word refuses the call";
        faults.add(entry.at, Code::Conflict, message, "give it another name");
    }
    let mut plan = PlanText {
        name: Spanned { at: entry.at, value: entry.key.clone() },
        base: base.to_owned(),
        version: version.map(str::to_owned),
        was: None,
        seal: succession::seal(&entry.value),
        quotas: Vec::new(),
        packs: Vec::new(),
        empty: Vec::new(),
        warn: Warn::default(),
        continued_prompt: 0,
        round: 1,
        price_of: PriceOf::default(),
        open_prices: false,
        hold: HoldRule::default(),
        failed_try_at: None,
        connectivity: Connectivity::default(),
        tier_at: entry.at,
        keys_at: None,
        regions: Vec::new(),
        fallback: Vec::new(),
        models: Vec::new(),
        denied_models: Vec::new(),
        forced: None,
        security: Security::default(),
        input: None,
        output: None,
        audit: None,
    };
    let what = format!("plans.{}", entry.key);
    let Some(fields) = Fields::of(&entry.value, what, &["was", "tokens", "connectivity", "security"], faults) else {
        return plan;
    };
    plan.was = fields.optional("was").and_then(|node| named(node, &fields.path("was"), faults));
    if let Some(node) = fields.optional("tokens") {
        tokens::read(node, &fields.path("tokens"), levels, &mut plan, faults);
    }
    if let Some(node) = fields.optional("connectivity") {
        connectivity::read(node, &fields.path("connectivity"), zone, &mut plan, faults);
    }
    if let (Some(at), None) = (plan.failed_try_at, &plan.connectivity.retry) {
        let message = "`failed_try` takes no effect: no call of this plan is tried again";
        faults.add(at, Code::Conflict, message, "add `connectivity: {retry: {on: […]}}`, or remove it");
    }
    if let Some(node) = fields.optional("security") {
        security::read(node, &fields.path("security"), &mut plan, faults);
    }
    plan
}

/// Notes the first line that is one too many.
pub(super) fn few(beyond: Option<Mark>, what: &str, faults: &mut Faults) {
    if let Some(at) = beyond {
        faults.add(at, Code::TooLarge, format!("{what} has more than {MOST_LINES} lines"), "keep fewer");
    }
}

/// An amount of tokens, in whole tokens.
pub(super) fn tokens_only(written: &str) -> Result<u64, Complaint> {
    match amount(written)? {
        (0, _) => {
            Err(Complaint::new(Code::BadValue, "the longest must be above zero", "write for example `128000 tokens`"))
        }
        (micro, Unit::Tokens | Unit::InputTokens) => Ok(micro / crate::quota::MICRO),
        (_, unit) => {
            let message = format!("the longest is stated in tokens, not in {}", unit.words());
            Err(Complaint::new(Code::BadValue, message, "write for example `128000 tokens`"))
        }
    }
}
