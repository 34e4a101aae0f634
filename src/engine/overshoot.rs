//! By how much a quota can be passed, and when: the printed bound of every promise about caps.
//!
//! A call whose worst case can be read (a *closed* one) and that is counted exactly passes nothing: it is held whole
//! before it leaves. What is listed here is all the rest. Where a provider makes more of a prompt than any rule of ours
//! says, the bounds of such calls are [raised](crate::meter::excess) once one was seen.
//!
//! It holds in each window. And where windows follow each other what one was charged too much is a [debt](PlanQuota::begins_anew) that
//! the next ones pay before anything of them can be spent, so that over any number of windows the bound holds *once*, and
//! not once a window: what is charged in all of them is at most their limits and one such bound, and what was charged by
//! calls that still ran as a window ended (only what is charged is owed, not what is held).

use crate::meter::name::Name;
use crate::policy::bundle::{
    Bundle, HoldSize, Mode, Model, PacksHere, Plan, PlanQuota, PriceOf, Relief, Role, StreamHold,
};
use crate::policy::price::Rates;
use crate::policy::unit::Unit;
use crate::quota::Window;

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
    /// By so much of each call that runs.
    EachCall(More),
    /// At a pace of so many micro-units of this unit in so many milliseconds, in each Envoy process.
    Pace(u64, Unit, u64),
    /// As far as the calls go.
    Unbounded,
}

/// What a call may come to beyond what is held of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum More {
    /// What was not expected of it.
    Unexpected,
    /// What its prompt has for a vocabulary that is not ours.
    Vocabulary,
    /// Tools that the answer calls.
    Tools,
    /// Images, characters and seconds of the answer.
    Untold,
    /// What another model costs.
    Served,
    /// What of a stream is not seen.
    Unseen,
    /// What is thought beside the limit.
    Thoughts,
    /// What is written beyond the limit.
    PastLimit,
    /// What is read beyond the ceiling of a call that points at what cannot be read.
    Unread,
}

impl More {
    /// How far that goes, in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Unexpected => {
                "what it comes to beyond what calls of its model lately came to, up to its worst case; of a stream in slices \
                 that is its input and one slice"
            }
            Self::Vocabulary => {
                "what its prompt has beyond one and a half times our count, until a call like it has shown that it has"
            }
            Self::Tools => "the calls after the first",
            Self::Untold => "what its answer has of them beyond what its request says",
            Self::Served => "what the model that answered costs beyond the one that was asked",
            Self::Unseen => {
                "what the provider counts beyond what was seen of it, as thoughts in secret, up to its output limit"
            }
            Self::Thoughts => "what it thinks beyond its budget, or beyond what is assumed where it has none",
            Self::PastLimit => "what it writes beyond its limit",
            Self::Unread => "what it reads beyond that",
        }
    }
}

/// Every way in which this quota of the plan can be passed; none: it holds to the unit for closed calls that are counted
/// exactly.
pub fn of(bundle: &Bundle, plan: &Plan, quota: &PlanQuota) -> Vec<Overshoot> {
    let mut ways = Vec::new();
    let mut way = |when, by| ways.push(Overshoot { when, by });
    // Funds of one unit pay together, by what is expected, where one of them says so; a pack says nothing.
    let expected = |of: &&PlanQuota| of.role == Role::Fund && of.unit == quota.unit && of.hold == HoldSize::Expected;
    if quota.hold == HoldSize::Expected || quota.role == Role::Fund && plan.quotas.iter().any(|of| expected(&of)) {
        way("`hold: expected`", Bound::EachCall(More::Unexpected));
    }
    // OpenAI's open models have its names and chat templates of their own.
    let open = |model: &Model| model.glob.as_ref().is_some_and(|glob| glob.is_match("gpt-oss-120b"));
    let models = || bundle.models.rows.iter().filter(|model| may_take(quota, model));
    if quota.unit.counts_input() && models().any(|model| !Name::of(&model.pattern).is_at_openai() || open(model)) {
        let when = "a model that OpenAI did not make: its vocabulary is not known exactly";
        way(when, Bound::EachCall(More::Vocabulary));
    }
    if plan.hold.assume_input.is_some() && quota.unit.counts_input() {
        way("`assume_input`, for a call that points at what cannot be read", Bound::EachCall(More::Unread));
    }
    let priced =
        |rate: fn(&Rates) -> u64| models().any(|model| rates(quota.unit, model).is_some_and(|of| rate(of) > 0));
    if quota.unit == Unit::ToolCalls || priced(|rates| rates.tool_call) {
        way("an answer calls several tools", Bound::EachCall(More::Tools));
    }
    let untold = matches!(quota.unit, Unit::Images | Unit::Characters | Unit::Seconds);
    if untold || priced(|rates| rates.image.max(rates.character).max(rates.second)) {
        let when = "an answer has images, characters or seconds of which its request does not tell";
        way(when, Bound::EachCall(More::Untold));
    }
    if plan.price_of != PriceOf::Requested && (quota.unit.is_priced() || quota.unit.is_weighted()) {
        way("another model answers", Bound::EachCall(More::Served));
    }
    if matches!(plan.hold.stream, StreamHold::Slices { .. }) && quota.unit.counts_output() {
        way("a stream in slices", Bound::EachCall(More::Unseen));
    }
    // Nobody else serves them, or within their limits.
    let within = |name: &Name| name.is_at_openai() || name.has("claude") || name.has("gemini");
    if quota.unit.counts_output() && models().any(|model| !within(&Name::of(&model.pattern)) || open(model)) {
        way("a model that thinks beside its output limit (Ark, Model Studio)", Bound::EachCall(More::Thoughts));
    }
    if quota.unit.counts_output() {
        way("a provider does not keep to the output limit", Bound::EachCall(More::PastLimit));
    }
    let reliefs = match quota.role {
        Role::Fund => &plan.empty,
        Role::Cap => &quota.full,
    };
    let bears = |unit| quota.role == Role::Cap || may_bear(plan, quota, unit);
    // When no other fund can pay, what happens without funds lets the one pay whose cap was full.
    let goes_on = quota.full.iter().any(|relief| matches!(relief, Relief::NextFund));
    let without = plan.empty.iter().filter(|relief| goes_on && matches!(relief, Relief::Observe | Relief::Throttle(_)));
    for relief in reliefs.iter().chain(without) {
        match relief {
            // What no fund can pay one of them bears.
            Relief::Overage(_, unit) if !bears(Some(*unit)) => {}
            Relief::Observe | Relief::Throttle(_) if !bears(None) => {}
            Relief::Overage(micro, _) => way("`overage`", Bound::EachProcess(*micro)),
            Relief::Observe => way("`observe`", Bound::Unbounded),
            Relief::Throttle(bucket) => {
                let Window::Bucket { period_ms, .. } = bucket.quota.window else { continue };
                way("`throttle`", Bound::Pace(bucket.quota.limit, bucket.unit, period_ms));
            }
            Relief::Deny | Relief::Wait(_) | Relief::Downgrade(_) | Relief::NextFund => {}
        }
    }
    if bundle.mode == Mode::Observe {
        way("`mode: observe`", Bound::Unbounded);
    }
    ways
}

/// Whether a fund or a pack may bear what no fund of a call has: see [`Bill::bearer`](super::bill::Bill::bearer). Packs are
/// there or not, and funds of other models are not.
fn may_bear(plan: &Plan, quota: &PlanQuota, unit: Option<Unit>) -> bool {
    let funds = || plan.quotas.iter().enumerate().filter(|(_, of)| of.role == Role::Fund);
    let pays = |fund: &PlanQuota| fund.begins_anew() && unit.is_none_or(|unit| fund.unit == unit);
    if !pays(quota) && unit.is_some() {
        return false;
    }
    // A pack stands where its plan says; several are good at a time.
    let pack = |here: &&PacksHere| here.unit == quota.unit && here.per == quota.per;
    let at = funds().find(|(_, of)| of.quota.id == quota.quota.id).map(|(at, _)| at.saturating_add(1));
    let at = at.or_else(|| plan.packs.iter().filter(pack).map(|here| here.before).max());
    // A fund is passed over where a cap of it is full.
    let passed_over = |fund: &PlanQuota| {
        let caps = plan.quotas.iter().filter(|cap| cap.of == Some(fund.quota.id));
        caps.flat_map(|cap| &cap.full).any(|relief| matches!(relief, Relief::NextFund))
    };
    // One that pays its debts gives way to later ones that do; another one to all that do, and to all that come later.
    let gives_way = |of: usize, at: usize, fund: &PlanQuota| match pays(quota) {
        true => of >= at && pays(fund),
        false => of >= at || pays(fund),
    };
    let may_be_gone = |fund: &PlanQuota| !fund.models.is_empty() || passed_over(fund);
    at.is_some_and(|at| funds().all(|(of, fund)| !gives_way(of, at, fund) || may_be_gone(fund)))
}

/// Whether calls that fall to this line of the catalogue may count.
fn may_take(quota: &PlanQuota, model: &Model) -> bool {
    let reaches = |pattern: &globset::GlobMatcher| {
        let pattern = pattern.glob().glob();
        // Two patterns may meet in a name that neither spells.
        model.glob.as_ref().is_some_and(|row| row.is_match(pattern) || pattern.contains(['*', '?', '[', '{']))
    };
    quota.takes(&model.pattern) || quota.models.iter().any(reaches)
}

/// What a model costs in a unit that is a sum of prices.
fn rates(unit: Unit, model: &Model) -> Option<&Rates> {
    match unit {
        Unit::Credits => Some(&model.credits),
        Unit::Money(_) => Some(&model.money),
        _ => None,
    }
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

    /// The ways that do not take a provider that breaks its word.
    fn ways(models: &str, tokens: &str) -> Vec<(&'static str, Bound)> {
        let bundle = bundle(models, tokens);
        let plan = &bundle.plans[0];
        let all = of(&bundle, plan, &plan.quotas[0]).into_iter().map(|way| (way.when, way.by));
        all.filter(|(_, by)| *by != Bound::EachCall(More::PastLimit)).collect()
    }

    const EXACT: &str = "gpt-4o-mini: {count: o200k_base, credits: {input: 1, output: 4}}";

    #[test]
    fn a_plain_quota_of_exact_counts_is_not_passed() {
        for unit in ["tokens", "output tokens", "credits", "requests", "input tokens"] {
            let cap = format!("caps: {{c: {{limit: 9 {unit}, per: seat, window: lifetime}}}}");
            assert_eq!(ways(EXACT, &cap), [], "{unit}");
        }
    }

    #[test]
    fn whoever_counts_output_relies_on_the_provider_to_keep_to_its_limit() {
        for (unit, relies) in [("tokens", true), ("output tokens", true), ("requests", false), ("input tokens", false)]
        {
            let bundle = bundle(EXACT, &format!("caps: {{c: {{limit: 9 {unit}, per: seat, window: lifetime}}}}"));
            let past = Overshoot {
                when: "a provider does not keep to the output limit",
                by: Bound::EachCall(More::PastLimit),
            };
            let plan = &bundle.plans[0];
            assert_eq!(of(&bundle, plan, &plan.quotas[0]), if relies { vec![past] } else { vec![] }, "{unit}");
        }
    }

    #[test]
    fn what_an_answer_brings_of_itself_is_listed_by_its_price() {
        let kinds =
            |models: &str, tokens: &str| -> Vec<_> { ways(models, tokens).into_iter().map(|(_, by)| by).collect() };
        let cap = |unit: &str| {
            format!("caps: {{c: {{limit: 9 {unit}, per: seat, window: lifetime, models: [\"gpt-4o*\"]}}}}")
        };
        let rated = |rate: &str| format!("gpt-4*: {{count: o200k_base, credits: {{input: 1, output: 1, {rate}: 1}}}}");
        assert_eq!(kinds(&rated("tool_call"), &cap("credits")), [Bound::EachCall(More::Tools)]);
        assert_eq!(kinds(&rated("second"), &cap("credits")), [Bound::EachCall(More::Untold)]);
        assert_eq!(kinds(&rated("second"), &cap("requests")), []);
        assert_eq!(kinds(EXACT, &cap("seconds")), [Bound::EachCall(More::Untold)]);
        // A line of the catalogue whose calls never count says nothing.
        let other = "gpt-4o: {count: o200k_base, credits: {input: 1, output: 1}}, gpt-5: {count: o200k_base, credits: {input: 1, output: 1, tool_call: 1}}";
        assert_eq!(kinds(other, &cap("credits")), []);
        for unit in ["credits", "weighted requests"] {
            assert_eq!(
                kinds(EXACT, &format!("price: served, {}", cap(unit))),
                [Bound::EachCall(More::Served)],
                "{unit}"
            );
        }
    }

    #[test]
    fn a_cap_of_a_fund_is_passed_where_no_other_fund_can_pay() {
        let with = |empty: &str, full: &str| {
            let fund = |name: &str| format!("{name}: {{amount: 9 requests, per: seat, window: lifetime}}");
            let cap = format!("c: {{limit: 3 requests, per: seat, window: calendar day, of: b, full: [{full}]}}");
            let bundle =
                bundle(EXACT, &format!("funds: {{{}, {}}}, empty: [{empty}], caps: {{{cap}}}", fund("b"), fund("a")));
            let plan = &bundle.plans[0];
            let when =
                |at: usize| of(&bundle, plan, &plan.quotas[at]).into_iter().map(|way| way.when).collect::<Vec<_>>();
            (when(0), when(2))
        };
        assert_eq!(with("observe", "deny"), (vec![], vec![]));
        assert_eq!(with("observe", "next fund"), (vec![], vec!["`observe`"]));
        assert_eq!(with("deny", "next fund"), (vec![], vec![]));
    }

    #[test]
    fn a_debt_falls_to_the_last_fund_that_begins_anew_and_what_is_seen_to_another_where_none_does() {
        let with = |funds: &str, empty: &str| format!("funds: {{{funds}}}, empty: [{empty}]");
        let month =
            |name: &str, more: &str| format!("{name}: {{amount: 9 requests, per: seat, window: calendar month{more}}}");
        let ever = "ever: {amount: 9 requests, per: seat, window: lifetime}";
        let packs = "packs: {from: packs, unit: requests, per: org}";
        let text = |funds: &str, empty: &str| {
            format!(
                "farebox: 1\nbundle: {{name: b, version: '1'}}\nidentity: [{{key: [authorization]}}]\nmodels: {{{EXACT}}}\n\
                 plans: {{p: {{tokens: {{{}}}}}}}\nassign: [{{otherwise: p}}]\n\
                 packs: {{top: {{for: {{org: o}}, amount: 9 requests, until: 2037-01-01}}}}\n\
                 seats:\n  s: {{org: o, keys: ['sha256:{:064x}']}}\n",
                with(funds, empty),
                1
            )
        };
        let by = |funds: &str, empty: &str| {
            let bundle = policy::compile(&text(funds, empty), "b").unwrap_or_else(|faults| panic!("{faults:?}"));
            let plan = &bundle.plans[0];
            let all = plan.quotas.iter().chain([&bundle.packs[0].fund]);
            all.filter(|fund| !of(&bundle, plan, fund).is_empty()).map(|fund| fund.name.clone()).collect::<Vec<_>>()
        };
        let bear = |funds: &str| by(funds, "overage 4 requests");
        assert_eq!(bear(&format!("{packs}, {}", month("a", ""))), ["a"]);
        assert_eq!(bear(&format!("{}, {packs}", month("a", ""))), ["a"]);
        assert_eq!(bear(&format!("{}, {ever}, {packs}", month("a", ""))), ["a"]);
        assert_eq!(bear(&format!("{}, {}, {packs}", month("a", ""), month("b", ""))), ["b"]);
        let some = ", models: [gpt-4o-mini]";
        assert_eq!(bear(&format!("{}, {packs}, {}", month("a", ""), month("b", some))), ["a", "b"]);
        let seen = |funds: &str| by(funds, "observe");
        assert_eq!(seen(&format!("{}, {packs}", month("a", ""))), ["a"]);
        assert_eq!(seen(&format!("{}, {packs}", month("a", some))), ["a", "top"]);
        assert_eq!(seen(&format!("{ever}, {packs}")), ["ever", "top"]);
        assert_eq!(seen(&format!("{packs}, {ever}")), ["ever"]);
    }

    #[test]
    fn what_cannot_be_known_before_is_listed() {
        let cap = |unit: &str| format!("caps: {{c: {{limit: 9 {unit}, per: seat, window: lifetime}}}}");
        let other = "qwen-max: {count: o200k_base}";
        let kinds =
            |models: &str, unit: &str| ways(models, &cap(unit)).into_iter().map(|(_, by)| by).collect::<Vec<_>>();
        let (vocabulary, thoughts) = (Bound::EachCall(More::Vocabulary), Bound::EachCall(More::Thoughts));
        assert_eq!(kinds(other, "tokens"), [vocabulary, thoughts]);
        assert_eq!(kinds(other, "output tokens"), [thoughts]);
        assert_eq!(kinds(other, "input tokens"), [vocabulary]);
        assert_eq!(kinds("claude-opus-4: {count: o200k_base}", "output tokens"), []);
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
        let two = "funds: {f: {amount: 9 requests, per: seat, window: calendar day}, g: {amount: 9 requests, per: seat, \
                   window: calendar day}}, empty: [overage 4 requests]";
        assert_eq!(ways(EXACT, two), [], "it is a debt of the last fund, and this is the first");
        let empty = "funds: {f: {amount: 9 requests, per: seat, window: calendar day}}, empty: [overage 4 requests]";
        assert_eq!(ways(EXACT, empty), [("`overage`", Bound::EachProcess(4_000_000))]);
    }
}
