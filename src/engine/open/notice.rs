//! What an admission changes in the request, and what it tells the caller.

use super::Open;
use crate::engine::accounts::Accounts;
use crate::engine::admission::{How, Passed};
use crate::engine::balance;
use crate::engine::bill::Bill;
use crate::engine::denial::LimitView;
use crate::engine::effect::Effect;
use crate::engine::exchange::{MODEL_HEADER, Prepared, REGION_HEADER};
use crate::engine::refusal;
use crate::engine::vm::Vm;
use crate::meter::call;
use crate::now::Now;
use crate::policy::bundle::{Bundle, HostMode};
use crate::quota::Cells;

impl Open {
    /// What the admission changes in the request, and what it shows to others.
    pub(in crate::engine) fn announce(
        &self,
        bundle: &Bundle,
        prepared: &Prepared,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) {
        let call = &prepared.call;
        let edits = call.edits(self.clamp, self.hides_usage);
        if prepared.retold || !edits.is_empty() {
            let body = if prepared.retold { call.body() } else { body };
            effects.push(Effect::ReplaceRequestBody(call::splice(body, &edits)));
        }
        if bundle.headers == HostMode::Held {
            effects.push(Effect::Note("admitted", "yes".to_owned()));
        }
        if self.sent_model != self.asked_model && bundle.headers == HostMode::Held {
            effects.push(Effect::SetRequestHeader(MODEL_HEADER.to_owned(), self.sent_model.clone()));
        }
        let plan = bundle.plans.get(self.plan).filter(|_| bundle.headers == HostMode::Held);
        if let Some(region) = plan.and_then(|plan| self.model.region(&plan.connectivity.regions)) {
            effects.push(Effect::SetRequestHeader(REGION_HEADER.to_owned(), region.to_owned()));
        }
        self.show_passed(effects);
        effects.push(Effect::Note("decision", "allow".to_owned()));
        effects.push(Effect::Note("id", self.place.id.to_string()));
        effects.push(Effect::Note("model", self.asked_model.clone()));
    }

    /// Says what the policy let pass that would else have been refused.
    fn show_passed(&self, effects: &mut Vec<Effect>) {
        for Passed { how, quota } in &self.passed {
            if *how == How::FellBack {
                let labels = vec![("model", quota.clone())];
                effects.push(Effect::Count { metric: "fallbacks_total", labels, by: 1 });
                continue;
            }
            effects.push(Effect::Count {
                metric: "passed_quotas_total",
                labels: vec![("how", how.name().to_owned()), ("by", quota.clone())],
                by: 1,
            });
        }
        let observed = self.passed.iter().filter(|passed| passed.how == How::Observed);
        let would_deny = self.trace.names(&observed.map(|passed| passed.quota.as_str()).collect::<Vec<_>>());
        if !would_deny.is_empty() {
            effects.push(Effect::Note("would_deny", would_deny.join(",")));
        }
    }

    /// Tells the caller how the quotas of the call stand, where the plan says so: the standard headers for each, and
    /// one of ours with the percents.
    pub(in crate::engine) fn tell_standing(
        &self,
        bundle: &Bundle,
        now: Now,
        vm: &Vm,
        cells: &mut dyn Cells,
        effects: &mut Vec<Effect>,
    ) {
        let Some((seat, plan)) = bundle.seats.get(self.seat).zip(bundle.plans.get(self.plan)) else { return };
        if !plan.warn.headers {
            return;
        }
        let bill = Bill::of(bundle, plan, seat, self.session, &self.sent_model, self.came_ms);
        let mut accounts = Accounts::default();
        let (mut lists, mut percents): ([Vec<String>; 2], Vec<String>) = Default::default();
        let pays = |fund| self.held.iter().flat_map(|level| &level.lines).any(|line| line.quota == fund);
        for quota in bill.quotas.iter().filter(|quota| quota.of.is_none_or(pays)) {
            let Some(stands) = accounts.standing(&bill.subject(quota.per), quota, now, vm, cells) else { continue };
            let view = LimitView::of(quota, &stands, now);
            for (list, (_, value)) in lists.iter_mut().zip(refusal::limit_headers(None, &view, None, now)) {
                list.push(value);
            }
            percents.extend(balance::percent(quota, &stands).map(|percent| format!("{}={percent}", quota.name)));
        }
        let values = lists.map(|list| list.join(", "));
        for (name, value) in ["ratelimit-policy", "ratelimit"].into_iter().zip(values) {
            effects.push(Effect::SetResponseHeader(name.to_owned(), value));
        }
        effects.push(Effect::SetResponseHeader("x-quota-used-percent".to_owned(), percents.join(", ")));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::policy;
    use crate::sim::call::Call;
    use crate::sim::world::{At, World};
    use crate::upstream::ask::Api;

    /// Its one key is `key-ann`. The first call falls to the first fund and uses up its cap.
    const POLICY: &str = "farebox: 1
bundle: {name: told, version: '1'}
identity: [{key: [authorization]}]
models: {m: {count: o200k_base}}
plans: {p: {tokens: {
  funds: {first: {amount: 9000 tokens, per: seat, window: calendar month}, second: {amount: 9000 tokens, per: seat, window: calendar month}},
  caps: {pace: {limit: 1 requests, per: seat, of: first, window: first-use 5h, full: [next fund]}, calls: {limit: 9 requests, per: seat, window: first-use 5h}},
  warn: {headers: true}}}}
assign: [{otherwise: p}]
seats: {ann: {org: o, keys: ['sha256:a82937400c2cc11407f5bb2f9af56eded40d3002f15bdf996f5b70917bf8edb1']}}
";

    #[test]
    fn a_cap_of_a_fund_is_told_to_calls_that_the_fund_pays() {
        let world = World::new(policy::compile(POLICY, "p").unwrap(), 1, 1, 1_000_000, 1).unwrap();
        let told = || {
            let body = json!({"model": "m", "max_tokens": 20, "messages": [{"role": "user", "content": "hello"}]});
            let call = Call::new(Api::OpenAiChat, "key-ann", &body);
            let stream = world.open(At { process: 0, vm: 0 }, call).unwrap();
            assert!(world.run(10_000));
            let headers = world.seen(stream).unwrap().headers;
            let policy = headers.into_iter().find(|(name, _)| name == "ratelimit-policy").unwrap().1;
            let names = policy.split(", ").filter_map(|quota| quota.split(';').next().map(ToOwned::to_owned));
            names.collect::<Vec<_>>()
        };
        assert_eq!(told(), ["\"first\"", "\"second\"", "\"pace\"", "\"calls\""]);
        assert_eq!(told(), ["\"first\"", "\"second\"", "\"calls\""]);
    }
}
