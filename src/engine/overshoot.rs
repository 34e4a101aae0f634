//! By how much a quota can be passed, and when: the printed bound of every promise about caps.
//!
//! A call whose worst case can be read (a *closed* one) and that is counted exactly passes nothing: it is held whole
//! before it leaves. What is listed here is all the rest.

use crate::meter::dialect::is_openai_own;
use crate::policy::bundle::{Bundle, HoldSize, Mode, Model, Plan, PlanQuota, PriceOf, Relief, Role, StreamHold};
use crate::policy::unit::Unit;
use crate::quota::{QuotaId, Window};

/// A way in which a quota can be passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overshoot {
    /// When it happens.
    pub when: &'static str,
    /// How far it goes.
    pub by: Bound,
}

/// How far a quota can be passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// By so many micro-units in each Envoy process.
    EachProcess(u64),
    /// By so much of each call that runs, in words.
    EachCall(&'static str),
    /// At a pace of so many micro-units of this unit in so many milliseconds, in each Envoy process.
    Pace(u64, Unit, u64),
    /// As far as the calls go.
    Unbounded,
}

/// Every way in which this quota of the plan can be passed; none: it holds to the unit for closed calls that are counted
/// exactly.
pub fn of(bundle: &Bundle, plan: &Plan, quota: &PlanQuota) -> Vec<Overshoot> {
    let mut ways = Vec::new();
    let mut way = |when, by| ways.push(Overshoot { when, by });
    // Funds of one unit pay together, by what is expected, where one of them says so; a pack says nothing.
    let expected = |of: &&PlanQuota| of.role == Role::Fund && of.unit == quota.unit && of.hold == HoldSize::Expected;
    if quota.hold == HoldSize::Expected || quota.role == Role::Fund && plan.quotas.iter().any(|of| expected(&of)) {
        let more = "what it comes to beyond what calls of its model lately came to, up to its worst case; of a stream in slices \
                    that is its input and one slice";
        way("`hold: expected`", Bound::EachCall(more));
    }
    // OpenAI's open models have its names and chat templates of their own.
    let open = |model: &Model| model.glob.as_ref().is_some_and(|glob| glob.is_match("gpt-oss-120b"));
    let other = |model: &Model| quota.takes(&model.pattern) && (!is_openai_own(&model.pattern) || open(model));
    if quota.unit.counts_input() && bundle.models.rows.iter().any(other) {
        let more = "what its prompt has beyond one and a half times our count";
        way("a model that OpenAI did not make: its vocabulary is not known exactly", Bound::EachCall(more));
    }
    if quota.unit == Unit::ToolCalls {
        way("an answer calls several tools", Bound::EachCall("the calls after the first"));
    }
    if plan.price_of != PriceOf::Requested && quota.unit.is_priced() {
        let more = "what the model that answered costs beyond the one that was asked";
        way("another model answers", Bound::EachCall(more));
    }
    if matches!(plan.hold.stream, StreamHold::Slices { .. }) && quota.unit.counts_output() {
        let more = "what the provider counts beyond what was seen of it, as thoughts in secret, up to its output limit";
        way("a stream in slices", Bound::EachCall(more));
    }
    let reliefs = match quota.role {
        Role::Fund => &plan.empty,
        Role::Cap => &quota.full,
    };
    let bears = quota.role == Role::Cap || last_fund(plan).is_none_or(|last| last == quota.quota.id);
    for relief in reliefs {
        match relief {
            // What no fund can pay is a debt of the last.
            Relief::Overage(_) if !bears => {}
            Relief::Overage(micro) => way("`overage`", Bound::EachProcess(*micro)),
            Relief::Observe => way("`observe`", Bound::Unbounded),
            Relief::Throttle(bucket) => {
                let Window::Bucket { period_ms, .. } = bucket.quota.window else { continue };
                way("`throttle`", Bound::Pace(bucket.quota.limit, bucket.unit, period_ms));
            }
            Relief::Deny | Relief::Wait(_) | Relief::Downgrade(_) => {}
        }
    }
    if bundle.mode == Mode::Observe {
        way("`mode: observe`", Bound::Unbounded);
    }
    ways
}

fn last_fund(plan: &Plan) -> Option<QuotaId> {
    plan.quotas.iter().rfind(|quota| quota.role == Role::Fund).map(|quota| quota.quota.id)
}

/// Whether the quota is one for all Envoys that share a collector; else each has the limit for itself.
pub fn is_shared(quota: &PlanQuota) -> bool {
    quota.quota.granted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy;

    fn bundle(models: &str, tokens: &str) -> Bundle {
        let text = format!(
            "farebox: 1\nbundle: {{name: b, version: '1'}}\nidentity: [{{key: [authorization]}}]\nmodels: {{{models}}}\n\
             plans: {{p: {{tokens: {{{tokens}}}}}}}\nassign: [{{otherwise: p}}]\n\
             seats:\n  s: {{org: o, keys: ['sha256:{:064x}']}}\n",
            1
        );
        policy::compile(&text, "b").unwrap_or_else(|faults| panic!("{faults:?}"))
    }

    fn ways(models: &str, tokens: &str) -> Vec<(&'static str, Bound)> {
        let bundle = bundle(models, tokens);
        let plan = &bundle.plans[0];
        of(&bundle, plan, &plan.quotas[0]).into_iter().map(|way| (way.when, way.by)).collect()
    }

    const EXACT: &str = "gpt-4o-mini: {count: o200k_base, credits: {input: 1, output: 4}}";

    #[test]
    fn a_plain_quota_of_exact_counts_is_not_passed() {
        for unit in ["tokens", "output tokens", "credits", "requests"] {
            let cap = format!("caps: {{c: {{limit: 9 {unit}, per: seat, window: lifetime}}}}");
            assert_eq!(ways(EXACT, &cap), [], "{unit}");
        }
    }

    #[test]
    fn what_cannot_be_known_before_is_listed() {
        let cap = |unit: &str| format!("caps: {{c: {{limit: 9 {unit}, per: seat, window: lifetime}}}}");
        let other = "qwen-max: {count: o200k_base}";
        assert_eq!(ways(other, &cap("tokens")).len(), 1);
        assert_eq!(ways(other, &cap("output tokens")), [], "it is the output that is counted here");
        assert_eq!(ways(EXACT, &cap("tool calls")).len(), 1);
        assert_eq!(ways(EXACT, &format!("price: dearer, {}", cap("credits"))).len(), 1);
        let expected = "caps: {c: {limit: 9 tokens, per: seat, window: lifetime, hold: expected}}";
        assert!(matches!(ways(EXACT, expected)[..], [("`hold: expected`", Bound::EachCall(_))]));
    }

    #[test]
    fn a_stream_in_slices_follows_what_is_seen() {
        let cap =
            |unit| format!("caps: {{c: {{limit: 900 {unit}, per: seat, window: lifetime}}}}, hold: {{stream: slices}}");
        assert_eq!(ways(EXACT, &cap("tokens")).len(), 1);
        assert_eq!(ways(EXACT, &cap("input tokens")), []);
    }

    #[test]
    fn reliefs_say_how_far() {
        let full =
            |full: &str| format!("caps: {{c: {{limit: 9 requests, per: seat, window: lifetime, full: [{full}]}}}}");
        assert_eq!(ways(EXACT, &full("wait 5s, deny")), []);
        assert_eq!(ways(EXACT, &full("overage 3 requests")), [("`overage`", Bound::EachProcess(3_000_000))]);
        assert_eq!(ways(EXACT, &full("observe")), [("`observe`", Bound::Unbounded)]);
        assert_eq!(
            ways(EXACT, &full("throttle 2 requests per 1m")),
            [("`throttle`", Bound::Pace(2_000_000, Unit::Requests, 60_000))]
        );
        let two = "funds: {f: {amount: 9 requests, per: seat, window: lifetime}, g: {amount: 9 requests, per: seat, \
                   window: lifetime}}, empty: [overage 4 requests]";
        assert_eq!(ways(EXACT, two), [], "it is a debt of the last fund, and this is the first");
        let empty = "funds: {f: {amount: 9 requests, per: seat, window: lifetime}}, empty: [overage 4 requests]";
        assert_eq!(ways(EXACT, empty), [("`overage`", Bound::EachProcess(4_000_000))]);
    }
}
