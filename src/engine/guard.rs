//! The checks that need no quota and no look at the text: who, from where, which model, how long.
//!
//! Each is a pure function and names the rule that bound. The engine asks them cheapest first: plan and source
//! before the body is read, then the model, the text itself (`screen`), and the length last.

use std::net::IpAddr;

use super::denial::{Denial, Kind, quoted};
use super::source as place;
use crate::meter::call::{Input, Longer};
use crate::now::Now;
use crate::policy::bundle::{Bundle, Plan, Seat, Subscription};

/// The plan of a seat. A seat without one is known, but may do nothing (rule `assign`).
pub fn plan<'b>(bundle: &'b Bundle, seat: &Seat) -> Result<&'b Plan, Denial> {
    bundle.plan_for(seat).ok_or_else(|| {
        let inside = format!("no line of `assign` gives seat `{}` a plan", seat.name);
        Denial::guard(Kind::Forbidden, "assign", "this key has no plan; ask your administrator for one", inside)
    })
}

/// The seat's subscription runs (rule `subscription`).
pub fn subscription(seat: &Seat, now: Now) -> Result<(), Denial> {
    let Some(Subscription { term: (from, until), frozen, .. }) = seat.subscription else { return Ok(()) };
    let (state, outside) = if frozen {
        ("frozen", "this subscription is suspended; ask your administrator to resume it")
    } else if now.wall_ms < from {
        ("not begun", "this subscription has not begun yet")
    } else if now.wall_ms >= until {
        ("expired", "this subscription has expired; ask your administrator to renew it")
    } else {
        return Ok(());
    };
    let inside = format!("the subscription of seat `{}` is {state}", seat.name);
    Err(Denial::guard(Kind::Forbidden, "subscription", outside, inside))
}

/// The caller is in one of the plan's networks (rule `sources`).
pub fn source(plan: &Plan, address: Option<IpAddr>) -> Result<(), Denial> {
    if place::allowed(address, &plan.connectivity.sources) {
        return Ok(());
    }
    let inside = match address {
        Some(address) => format!("{address} is in none of `sources` of plan `{}`", plan.name),
        None => format!("the caller's address is not known, and plan `{}` has `sources`", plan.name),
    };
    // The address that we took for the caller's tells them nothing secret, but networks of the plan would.
    Err(Denial::guard(Kind::Forbidden, "sources", "calls from this network are not allowed by the plan", inside))
}

/// The plan allows the model (rule `models`). The name is matched as the request spells it.
pub fn model(plan: &Plan, model: &str) -> Result<(), Denial> {
    let allowed = &plan.security.models;
    if allowed.is_empty() || allowed.iter().any(|glob| glob.is_match(model)) {
        return Ok(());
    }
    let model = quoted(model);
    let outside = format!("the plan does not include the model {model}; ask for another model");
    Err(Denial::guard(Kind::Forbidden, "models", outside, format!("plan `{}` does not allow {model}", plan.name)))
}

/// Input up to so many times the longest is counted to its end, so that a caller hears by how much to shorten it; what is
/// longer still is not worth the work.
const TOLD: u64 = 2;

/// Input tokens to be held of a call that points at what cannot be read, `what` (rule `open`): the plan's ceiling. 0 where
/// nothing in the plan depends on the input.
pub fn ceiling(plan: &Plan, what: &str, model: &str) -> Result<u64, Denial> {
    if let Some(ceiling) = plan.hold.assume_input {
        return Ok(ceiling);
    }
    let counts = plan.quotas.iter().any(|quota| quota.takes(model) && quota.unit.counts_input())
        || plan.packs.iter().any(|packs| packs.unit.counts_input());
    let security = &plan.security;
    if counts || security.longest_input.is_some() || security.input.is_some() {
        return Err(Denial::unbounded(what));
    }
    Ok(0)
}

/// How many tokens of the input are counted: see [`longest_input`].
pub fn told_input(plan: &Plan) -> u64 {
    plan.security.longest_input.map_or(u64::MAX, |longest| longest.saturating_mul(TOLD))
}

/// The input is no longer than the plan takes (rule `longest`), in tokens. It was counted up to [`told_input`].
///
/// The words are those of Anthropic's own error: agents know them, read the numbers and compact their conversation.
pub fn longest_input(plan: &Plan, input: Result<Input, Longer>) -> Result<Input, Denial> {
    let longest = plan.security.longest_input.unwrap_or(u64::MAX);
    let (tokens, more) = match input {
        Ok(input) if input.counted <= longest => return Ok(input),
        Ok(input) => (input.counted, ""),
        Err(longer) => (longer.at_least, "at least "),
    };
    let outside = format!("prompt is too long: {more}{tokens} tokens > {longest} maximum");
    let inside = format!("{more}{tokens} input tokens, plan `{}` takes {longest}", plan.name);
    Err(Denial::guard(Kind::TooLong, "longest", outside, inside))
}

#[cfg(test)]
mod tests {
    use super::{ceiling, longest_input, model, source, told_input};
    use crate::engine::denial::Kind;
    use crate::meter::call::{Input, Longer};
    use crate::policy::bundle::{Connectivity, HoldRule, Plan, Security};

    fn plan() -> Plan {
        Plan {
            name: "team".into(),
            first_name: "team".into(),
            version: None,
            quotas: Vec::new(),
            packs: Vec::new(),
            empty: Vec::new(),
            warn: crate::policy::bundle::Warn::default(),
            continued_prompt: 0,
            round: 1,
            price_of: crate::policy::bundle::PriceOf::default(),
            hold: HoldRule::default(),
            connectivity: Connectivity::default(),
            security: Security::default(),
        }
    }

    fn glob(pattern: &str) -> globset::GlobMatcher {
        globset::Glob::new(pattern).expect("a glob").compile_matcher()
    }

    fn counted(counted: u64) -> Result<Input, Longer> {
        Ok(Input { counted, bound: counted })
    }

    #[test]
    fn a_plan_without_rules_allows() {
        let plan = plan();
        assert!(source(&plan, None).is_ok());
        assert!(model(&plan, "anything").is_ok());
        assert!(longest_input(&plan, counted(u64::MAX)).is_ok());
        assert_eq!(told_input(&plan), u64::MAX);
    }

    #[test]
    fn what_cannot_be_read_needs_a_ceiling_where_it_counts() {
        let mut plan = plan();
        assert_eq!(ceiling(&plan, "a file", "m").ok(), Some(0), "nothing depends on it");
        plan.security.longest_input = Some(100);
        let denial = ceiling(&plan, "a file", "m").expect_err("nobody can tell how long it is");
        assert_eq!((denial.kind, denial.rule.as_str()), (Kind::Unbounded, "open"));
        plan.hold.assume_input = Some(7_000);
        assert_eq!(ceiling(&plan, "a file", "m").ok(), Some(7_000));
    }

    #[test]
    fn sources_bind_and_an_unknown_address_is_refused() {
        let mut plan = plan();
        plan.connectivity.sources = vec!["10.0.0.0/8".parse().expect("a network")];
        assert!(source(&plan, Some("10.1.2.3".parse().expect("an address"))).is_ok());
        for address in [None, Some("192.0.2.1".parse().expect("an address"))] {
            let denial = source(&plan, address).expect_err("outside");
            assert_eq!((denial.kind, denial.rule.as_str()), (Kind::Forbidden, "sources"));
            assert!(!denial.outside.contains("10.0.0.0"), "{}", denial.outside);
        }
    }

    #[test]
    fn models_bind_by_glob_and_the_name_is_made_safe() {
        let mut plan = plan();
        plan.security.models = vec![glob("demo-*"), glob("exact")];
        assert!(model(&plan, "demo-small").is_ok());
        assert!(model(&plan, "exact").is_ok());
        assert!(model(&plan, "Demo-small").is_err());
        let denial = model(&plan, "other\nforged").expect_err("not allowed");
        assert_eq!((denial.kind, denial.rule.as_str()), (Kind::Forbidden, "models"));
        assert!(!denial.inside.contains('\n'));
    }

    #[test]
    fn the_longest_input_itself_is_allowed() {
        let mut plan = plan();
        plan.security.longest_input = Some(128_000);
        assert!(longest_input(&plan, counted(128_000)).is_ok());
        let denial = longest_input(&plan, counted(128_001)).expect_err("one too many");
        assert_eq!(denial.outside, "prompt is too long: 128001 tokens > 128000 maximum");
        assert_eq!(denial.kind, Kind::TooLong);
        assert_eq!(told_input(&plan), 256_000);
        let denial = longest_input(&plan, Err(Longer { at_least: 256_001 })).expect_err("far too many");
        assert_eq!(denial.outside, "prompt is too long: at least 256001 tokens > 128000 maximum");
    }
}
