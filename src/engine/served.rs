//! The model that answered where another one was asked, and whose price is paid then.

use crate::meter::dialect::Api;
use crate::order;
use crate::policy::bundle::{Bundle, Model, Plan, PriceOf};
use crate::policy::price::Price;
use crate::policy::unit::{Consumed, Unit};

/// What the provider says of who answered.
#[derive(Clone, Copy, Debug)]
pub enum Served<'b> {
    /// The model that was asked, or one of the same price, or it says nothing.
    AsAsked,
    /// A line of the catalogue with another price.
    Other(&'b Model),
    /// A model that the catalogue does not know: it has no price here.
    Unknown,
}

impl<'b> Served<'b> {
    /// Who answered a call to `asked`, by the name that the provider gives; empty where it gives none.
    pub fn of(bundle: &'b Bundle, asked: &Model, sent: &str, named: &str) -> Self {
        if named.is_empty() || named == sent {
            return Self::AsAsked;
        }
        match bundle.models.find(named) {
            Some(row) if row.costs_as(asked) => Self::AsAsked,
            Some(row) => Self::Other(row),
            None => Self::Unknown,
        }
    }

    /// The price that a call pays which came at `came_ms` and was admitted at the price `pinned`.
    pub fn price(self, plan: &Plan, pinned: &Price, came_ms: u64, api: Api, consumed: &Consumed) -> Price {
        let Self::Other(row) = self else { return *pinned };
        let served = row.price(came_ms, api, plan.round);
        let cost = |price: &Price| {
            // By what the plan counts in; credits first, where it counts in both.
            let quotas = plan.quotas.iter().map(|quota| quota.unit);
            let mut units: Vec<Unit> = quotas.chain(plan.packs.iter().map(|packs| packs.unit)).collect();
            units.retain(|unit| unit.is_priced());
            order::by_key(&mut units, |unit| *unit != Unit::Credits);
            (units.first().map_or(0, |unit| unit.amount(consumed, price)), price.factor)
        };
        match plan.price_of {
            PriceOf::Requested => *pinned,
            PriceOf::Served => served,
            PriceOf::Dearer if cost(&served) > cost(pinned) => served,
            PriceOf::Dearer => *pinned,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::dialect::{Dialect, Endpoint};
    use crate::meter::usage::Usage;
    use crate::policy;

    const CHAT: Api = Api { dialect: Dialect::OpenAiChat, endpoint: Endpoint::Chat };

    fn bundle(price: &str) -> Bundle {
        let text = format!(
            "farebox: 1\nbundle: {{name: b, version: '1'}}\nidentity: [{{key: [authorization]}}]\n\
             models:\n  small: {{count: o200k_base, credits: {{input: 1, output: 4}}}}\n  \
             large: {{count: o200k_base, credits: {{input: 5, output: 2}}}}\n  \
             small-*: {{count: o200k_base, credits: {{input: 1, output: 4}}}}\n\
             plans: {{p: {{tokens: {{price: {price}, caps: {{c: {{limit: 900 credits, per: seat, window: lifetime}}}}}}}}}}\n\
             assign: [{{otherwise: p}}]\nseats:\n  s: {{org: o, keys: ['sha256:{:064x}']}}\n",
            1
        );
        policy::compile(&text, "b").unwrap_or_else(|faults| panic!("{faults:?}"))
    }

    /// Micro-credits for a thousand tokens in and a thousand out, asked of `small` and answered by `named`.
    fn paid(price: &str, named: &str, output: u64) -> u64 {
        let bundle = bundle(price);
        let asked = bundle.models.find("small").unwrap();
        let pinned = asked.price(0, CHAT, 1);
        let usage = Usage { input: 1000, output, ..Usage::default() };
        let consumed = Consumed { usage, ..Consumed::default() };
        let served = Served::of(&bundle, asked, "small", named);
        let price = served.price(&bundle.plans[0], &pinned, 0, CHAT, &consumed);
        Unit::Credits.amount(&consumed, &price) / 1_000_000
    }

    #[test]
    fn the_policy_says_whose_price_is_paid() {
        for name in ["", "small", "small-2026-11", "never-heard-of"] {
            assert_eq!(["requested", "served", "dearer"].map(|price| paid(price, name, 1000)), [5, 5, 5], "{name}");
        }
        assert_eq!(["requested", "served", "dearer"].map(|price| paid(price, "large", 1000)), [5, 7, 7]);
        // Which one is dearer depends on what was used.
        assert_eq!(["requested", "served", "dearer"].map(|price| paid(price, "large", 9000)), [37, 23, 37]);
    }

    #[test]
    fn who_answered_is_told_apart_by_price() {
        let bundle = bundle("served");
        let asked = bundle.models.find("small").unwrap();
        let of = |named| Served::of(&bundle, asked, "small", named);
        assert!(matches!(of("small-2026-11"), Served::AsAsked));
        assert!(matches!(of("large"), Served::Other(row) if row.pattern == "large"));
        assert!(matches!(of("never-heard-of"), Served::Unknown));
    }
}
