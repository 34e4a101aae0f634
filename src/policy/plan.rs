//! Plans as written: tokens, connectivity, security.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use super::bundle::{Connectivity, HoldRule, PriceOf, Warn};
use super::diagnostic::{Code, Complaint, Faults, shown};
use super::fields::{Fields, form, list, map, name, named};
use super::scalar::amount;
use super::screen::{self, ScreenText, Side};
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
    pub hold: HoldRule,
    pub connectivity: Connectivity,
    /// Where the tier is stated.
    pub tier_at: Mark,
    pub models: Vec<Spanned<String>>,
    pub longest_input: Option<u64>,
    pub input: Option<ScreenText>,
    pub output: Option<ScreenText>,
}

impl PlanText {
    /// The name without version under which its counters are kept.
    pub fn first_name(&self) -> &str {
        self.was.as_ref().map_or(&self.base, |was| &was.value)
    }
}

/// Reads the `plans` section.
pub(super) fn read(node: &Node, levels: &[String], faults: &mut Faults) -> Vec<PlanText> {
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
    entries.iter().take(MOST_PLANS).map(|entry| plan(entry, levels, faults)).collect()
}

fn plan(entry: &Entry, levels: &[String], faults: &mut Faults) -> PlanText {
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
        hold: HoldRule::default(),
        connectivity: Connectivity::default(),
        tier_at: entry.at,
        models: Vec::new(),
        longest_input: None,
        input: None,
        output: None,
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
        connectivity(node, &fields.path("connectivity"), &mut plan, faults);
    }
    if let Some(node) = fields.optional("security") {
        security(node, &fields.path("security"), &mut plan, faults);
    }
    plan
}

/// Notes the first line that is one too many.
pub(super) fn few(beyond: Option<Mark>, what: &str, faults: &mut Faults) {
    if let Some(at) = beyond {
        faults.add(at, Code::TooLarge, format!("{what} has more than {MOST_LINES} lines"), "keep fewer");
    }
}

fn connectivity(node: &Node, what: &str, plan: &mut PlanText, faults: &mut Faults) {
    let Some(fields) = Fields::of(node, what, &["sources", "tier"], faults) else { return };
    if let Some(node) = fields.optional("sources") {
        let items = list(node, &fields.path("sources"), faults).unwrap_or_default();
        let networks = items.iter().filter_map(|item| form(item, &fields.path("sources"), faults, network));
        plan.connectivity.sources = networks.map(|net| net.value).collect();
    }
    if let Some(node) = fields.optional("tier") {
        plan.tier_at = node.at;
        plan.connectivity.tier = super::fields::named(node, &fields.path("tier"), faults).map(|tier| tier.value);
    }
}

/// A network or a single address. Host bits are dropped; an IPv4 network written in IPv6 becomes what it means,
/// because callers' addresses are compared in that form.
fn network(written: &str) -> Result<IpNet, Complaint> {
    let single = || written.parse::<IpAddr>().map(IpNet::from);
    let net = written.parse::<IpNet>().or_else(|_| single()).map_err(|_| {
        let message = format!("{} is no network", shown(written));
        Complaint::new(
            Code::BadValue,
            message,
            "write an address and a prefix length, for example `10.0.0.0/8` or `fd00::/8`",
        )
    })?;
    let mapped = match net {
        IpNet::V6(v6) => v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96)),
        IpNet::V4(_) => None,
    };
    let plain = mapped.and_then(|(addr, length)| Ipv4Net::new(addr, length).ok()).map(IpNet::V4);
    Ok(plain.unwrap_or(net).trunc())
}

fn security(node: &Node, what: &str, plan: &mut PlanText, faults: &mut Faults) {
    let Some(fields) = Fields::of(node, what, &["models", "input", "output"], faults) else { return };
    if let Some(node) = fields.optional("models") {
        plan.models = tokens::model_patterns(node, &fields.path("models"), faults);
    }
    if let Some(node) = fields.optional("output") {
        plan.output = screen::read(node, &fields.path("output"), Side::Output, faults).and_then(|(_, screen)| screen);
    }
    let Some(node) = fields.optional("input") else { return };
    let Some((input, screen)) = screen::read(node, &fields.path("input"), Side::Input, faults) else { return };
    plan.input = screen;
    if let Some(node) = input.optional("longest") {
        plan.longest_input = form(node, &input.path("longest"), faults, tokens_only).map(|longest| longest.value);
    }
}

/// An amount of tokens, in whole tokens.
pub(super) fn tokens_only(written: &str) -> Result<u64, Complaint> {
    match amount(written)? {
        (0, _) => Err(Complaint::new(
            Code::BadValue,
            "the longest input must be above zero",
            "write for example `128000 tokens`",
        )),
        (micro, Unit::Tokens | Unit::InputTokens) => Ok(micro / crate::quota::MICRO),
        (_, unit) => {
            let message = format!("the longest input is stated in tokens, not in {}", unit.words());
            Err(Complaint::new(Code::BadValue, message, "write for example `128000 tokens`"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_in_the_form_in_which_callers_are_compared() {
        let read = |text: &str| network(text).unwrap().to_string();
        assert_eq!(read("10.1.2.3/8"), "10.0.0.0/8");
        assert_eq!(read("10.1.2.3"), "10.1.2.3/32");
        assert_eq!(read("::ffff:10.1.2.3/104"), "10.0.0.0/8");
        assert_eq!(read("::ffff:10.1.2.3"), "10.1.2.3/32");
        assert_eq!(read("::/0"), "::/0");
        assert!(["10.0.0.0/33", "10.0.0", "", "localhost"].iter().all(|bad| network(bad).is_err()));
    }
}
