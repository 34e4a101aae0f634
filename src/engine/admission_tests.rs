use proptest::prelude::{Just, Strategy, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::{Fit, How, Moment, Patience, Verdict, weigh};
use crate::engine::bill::{Beyond, Bill, Borne, Size, most};
use crate::engine::expectation::Expected;
use crate::engine::slices::excess;
use crate::meter::usage::Usage;
use crate::now::Now;
use crate::policy::bundle::{Connectivity, HoldRule, HoldSize, Per, Plan, PlanQuota, Relief, Role, Seat, Security};
use crate::policy::price::{Price, Rates};
use crate::policy::unit::{Consumed, Unit};
use crate::quota::{HeldLevel, MICRO, Quota, QuotaId, Short, Standing, Window};

const SEAT: Per = Per::Level(0);
const ORG: Per = Per::Level(1);
const UNITS: [Unit; 12] = [
    Unit::Tokens,
    Unit::InputTokens,
    Unit::FreshTokens,
    Unit::UncachedTokens,
    Unit::CacheReadTokens,
    Unit::CacheWriteTokens,
    Unit::OutputTokens,
    Unit::ReasoningTokens,
    Unit::WeightedTokens,
    Unit::Requests,
    Unit::WeightedRequests,
    Unit::Credits,
];
const RATES: Rates = Rates {
    input: 1_000_000_000,
    cache_read: 100_000_000,
    cache_write: 1_250_000_000,
    cache_write_1h: 1_250_000_000,
    output: 4_000_000_000,
    reasoning: 5_000_000_000,
    request: 0,
    prompt: 0,
    tool_call: 0,
    image: 0,
    character: 0,
    second: 0,
};
const PRICE: Price = Price { credits: RATES, money: RATES, factor: 1_500_000, long: None, round: 1, hours: true };

pub(super) fn quota(name: &str, unit: Unit, per: Per, limit: u64, granted: bool) -> PlanQuota {
    let window = Window::FirstUse { length_ms: 18_000_000 };
    PlanQuota {
        name: name.into(),
        ledger: format!("team/{name}"),
        role: Role::Cap,
        unit,
        per,
        models: Vec::new(),
        hold: HoldSize::Worst,
        full: Vec::new(),
        rejected: false,
        of: None,
        quota: Quota { id: QuotaId::of("team", name), limit: limit * MICRO, window, granted, rollover: 0 },
    }
}

pub(super) fn fund(name: &str, unit: Unit, limit: u64) -> PlanQuota {
    PlanQuota { role: Role::Fund, ..quota(name, unit, SEAT, limit, false) }
}

pub(super) fn plan(quotas: Vec<PlanQuota>) -> Plan {
    Plan {
        name: "team".into(),
        first_name: "team".into(),
        version: None,
        quotas,
        packs: Vec::new(),
        empty: Vec::new(),
        warn: crate::policy::bundle::Warn::default(),
        continued_prompt: 0,
        round: 1,
        price_of: crate::policy::bundle::PriceOf::default(),
        hold: HoldRule { unstated_output: 1_000, shrink_to: 16, ..HoldRule::default() },
        connectivity: Connectivity::default(),
        security: Security::default(),
    }
}

fn seat() -> Seat {
    let subjects = vec!["seat/alice".into(), "org/acme".into()];
    Seat { name: "alice".into(), org: "acme".into(), subjects, subscription: None }
}

pub(super) fn stands(granted: u64, used: u64, held: u64, ledger_left: u64) -> Standing {
    let [granted, used, held] = [granted, used, held].map(|units| units * MICRO);
    Standing { window: 1, granted, used, held, resets_ms: 100, ledger_left, ..Standing::default() }
}

pub(super) fn size(input: u64, output: u64) -> Size {
    Size {
        input,
        output,
        expected: Expected::Assumed(output),
        beside: 0,
        choices: 1,
        floor: 0,
        enough: u64::MAX,
        prompts: MICRO,
        asked: Usage::default(),
        tools: false,
        again: 0,
    }
}

/// A weighing under `plan`.
struct Weighing<'a> {
    plan: &'a Plan,
    size: Size,
    last: bool,
    now_ms: u64,
    patience: Patience,
}

impl<'a> Weighing<'a> {
    fn of(plan: &'a Plan, size: Size) -> Self {
        Self { plan, size, last: false, now_ms: 0, patience: Patience::default() }
    }

    fn with(&mut self, mut standing: impl FnMut(&PlanQuota) -> Option<Standing>) -> Verdict {
        let seat = seat();
        let quotas = self.plan.quotas.iter().collect();
        let bill = Bill { plan: self.plan, seat: &seat, session: 0, quotas };
        let now = Now { wall_ms: self.now_ms, mono_ms: self.now_ms };
        let moment = Moment { now, last: self.last, observe: false };
        let mut standing = |_: &str, quota: &PlanQuota, _: u64| standing(quota);
        weigh(&bill, &PRICE, &self.size, moment, &mut self.patience, &mut standing, &|model| model == "small")
    }
}

pub(super) fn verdict(plan: &Plan, size: &Size, last: bool, standing: Standing) -> Verdict {
    Weighing { last, ..Weighing::of(plan, *size) }.with(|_| Some(standing))
}

pub(super) fn output(verdict: Verdict) -> u64 {
    match verdict {
        Verdict::Fits(fit) => fit.output,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_output_limit_is_clamped_to_what_every_quota_can_pay() {
    let plan = plan(vec![quota("cap", Unit::Tokens, SEAT, 1_000, false)]);
    let fits = |used| verdict(&plan, &size(100, 500), false, stands(1_000, used, 0, u64::MAX));
    assert_eq!([0, 600, 884].map(|used| output(fits(used))), [500, 300, 16]);
    assert!(matches!(fits(885), Verdict::Short { short: Short::Exhausted { .. }, .. }));
}

#[test]
fn a_request_that_asks_for_less_than_the_floor_is_not_held_to_it() {
    let plan = plan(vec![quota("cap", Unit::Tokens, SEAT, 1_000, false)]);
    assert_eq!(output(verdict(&plan, &size(10, 3), false, stands(13, 0, 0, u64::MAX))), 3);
}

#[test]
fn a_thinking_budget_is_a_floor() {
    let plan = plan(vec![quota("cap", Unit::Tokens, SEAT, 1_000, false)]);
    let thinks = Size { floor: 200, ..size(10, 500) };
    assert!(matches!(verdict(&plan, &thinks, false, stands(200, 0, 0, u64::MAX)), Verdict::Short { .. }));
    assert_eq!(output(verdict(&plan, &thinks, false, stands(210, 0, 0, u64::MAX))), 200);
}

#[test]
fn what_others_merely_hold_is_busy_and_what_is_spent_is_exhausted() {
    for role in [Role::Cap, Role::Fund] {
        let plan = plan(vec![PlanQuota { role, ..quota("cap", Unit::Tokens, SEAT, 1_000, true) }]);
        let short = |standing| verdict(&plan, &size(100, 100), false, standing);
        assert!(matches!(short(stands(1_000, 0, 950, 0)), Verdict::Short { short: Short::Busy { .. }, .. }));
        assert!(matches!(short(stands(1_000, 950, 0, 0)), Verdict::Short { short: Short::Exhausted { .. }, .. }));
    }
}

#[test]
fn while_the_ledger_has_more_it_is_asked_and_at_the_deadline_what_is_there_is_used() {
    let plan = plan(vec![quota("cap", Unit::Tokens, SEAT, 1_000, true)]);
    let standing = stands(200, 0, 0, 50 * MICRO);
    let Verdict::Wants(wants) = verdict(&plan, &size(100, 500), false, standing) else { panic!("asks") };
    assert_eq!(wants.len(), 1);
    assert_eq!(wants[0].missing, 400 * MICRO);
    assert_eq!(output(verdict(&plan, &size(100, 500), true, standing)), 100);
}

#[test]
fn what_is_asked_for_covers_the_debt_too() {
    let plan = plan(vec![quota("cap", Unit::Tokens, SEAT, 1_000, true)]);
    let Verdict::Wants(wants) = verdict(&plan, &size(10, 40), false, stands(100, 290, 10, MICRO)) else {
        panic!("asks")
    };
    assert_eq!(wants[0].missing, 250 * MICRO);
}

#[test]
fn nothing_is_asked_for_when_another_quota_refuses_anyway() {
    let cap = quota("cap", Unit::Tokens, SEAT, 1_000, true);
    let plan = plan(vec![cap.clone(), quota("calls", Unit::Requests, SEAT, 1, false)]);
    let verdict = Weighing::of(&plan, size(100, 500))
        .with(|quota| Some(if quota.name == "cap" { stands(200, 0, 0, u64::MAX) } else { stands(1, 1, 0, u64::MAX) }));
    assert!(matches!(verdict, Verdict::Short { short: Short::Exhausted { .. }, .. }), "{verdict:?}");
}

#[test]
fn a_quota_that_nothing_is_known_of_is_asked_for_and_never_guessed() {
    let plan = plan(vec![quota("cap", Unit::Tokens, SEAT, 1_000, true)]);
    let weighed = |last| Weighing { last, ..Weighing::of(&plan, size(1, 100)) }.with(|_| None);
    assert!(matches!(weighed(false), Verdict::Wants(_)));
    assert!(matches!(weighed(true), Verdict::Short { short: Short::NeedsGrant { .. }, .. }));
}

/// Each sync closes the windows that nobody has used: what a call asked for one after the other it would never have together.
#[test]
fn first_use_windows_that_a_call_needs_are_asked_for_together() {
    let own = PlanQuota { role: Role::Fund, ..quota("own", Unit::Requests, SEAT, 100, true) };
    let of_own = PlanQuota { of: Some(own.quota.id), ..quota("of-own", Unit::Requests, SEAT, 500, true) };
    let pool = PlanQuota { role: Role::Fund, ..quota("pool", Unit::Requests, ORG, 100, true) };
    let of_pool = PlanQuota { of: Some(pool.quota.id), ..quota("of-pool", Unit::Requests, SEAT, 500, true) };
    let plan = plan(vec![own, pool, of_own, of_pool, quota("calls", Unit::Requests, SEAT, 9, true)]);
    let wanted = |unknown: &[&str], used: &[&str]| {
        let stands = |quota: &PlanQuota| {
            let used = u64::from(used.contains(&quota.name.as_str()));
            (!unknown.contains(&quota.name.as_str())).then_some(stands(5, used, 0, 0))
        };
        let Verdict::Wants(wants) = Weighing::of(&plan, size(10, 10)).with(stands) else { return Vec::new() };
        let name = |id| plan.quotas.iter().find(|quota| quota.quota.id == id).unwrap().name.as_str();
        let mut names: Vec<&str> = wants.iter().map(|want| name(want.quota)).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(wanted(&["own", "of-own", "of-pool", "calls"], &[]), ["calls", "of-own", "own"]);
    assert_eq!(wanted(&["of-own"], &[]), ["calls", "of-own", "own"], "what is open and unused would close");
    assert_eq!(wanted(&["of-own"], &["own", "calls"]), ["of-own"]);
    assert_eq!(wanted(&["own"], &["own", "calls"]), ["of-own", "own"]);
    assert_eq!(wanted(&[], &[]), [""; 0], "nothing is missing");
}

#[test]
fn credits_are_held_at_the_dearest_rates_and_rounded_up_once() {
    let whole = Size { choices: 2, ..size(3, 2) };
    // 3 tokens at 1.25 and 4 at 5 credits per 1,000 tokens, half as much again.
    assert_eq!(most(Unit::Credits, &whole.worst(), &PRICE), (3 * 1_250 + 4 * 5_000) * 3 / 2);
    let odd = Price { credits: Rates { input: 1, ..Rates::default() }, factor: MICRO, ..PRICE };
    assert_eq!(most(Unit::Credits, &whole.worst(), &odd), 1);
}

/// What was held of the lines that fit.
fn held(fit: &Fit) -> Vec<(String, u64, u64)> {
    let lines = fit.levels.iter().flat_map(|level| &level.lines);
    lines.map(|line| (format!("{:x}", line.quota.id.0), line.amount / MICRO, line.over)).collect()
}

fn amounts(fit: &Fit) -> Vec<u64> {
    held(fit).iter().map(|(_, amount, _)| *amount).collect()
}

#[test]
fn levels_come_in_the_order_in_which_accounts_are_written() {
    let plan = plan(vec![
        PlanQuota { per: ORG, ..fund("month", Unit::Credits, 1_000) },
        quota("a", Unit::Tokens, SEAT, 1_000, false),
        quota("b", Unit::Requests, ORG, 1, false),
        quota("c", Unit::Requests, Per::Session, 1, false),
    ]);
    let Verdict::Fits(fit) = verdict(&plan, &size(1, 16), false, stands(1_000, 0, 0, u64::MAX)) else { panic!() };
    let subjects: Vec<&str> = fit.levels.iter().map(|level| level.subject.as_str()).collect();
    assert_eq!(subjects, ["session/alice/0", "seat/alice", "org/acme"]);
    assert_eq!(fit.levels[2].lines.len(), 2);
}

#[test]
fn a_call_is_split_where_one_fund_ends_and_the_next_begins() {
    let plan = plan(vec![fund("seat", Unit::Tokens, 1_000), fund("pack", Unit::Tokens, 1_000)]);
    let weighed = |first, second| {
        Weighing::of(&plan, size(100, 100)).with(|quota| {
            Some(if quota.name == "seat" {
                stands(1_000, first, 0, u64::MAX)
            } else {
                stands(1_000, second, 0, u64::MAX)
            })
        })
    };
    let share = |first, second| match weighed(first, second) {
        Verdict::Fits(fit) => (fit.output, amounts(&fit)),
        other => panic!("{other:?}"),
    };
    assert_eq!(share(0, 0), (100, vec![200]));
    assert_eq!(share(850, 0), (100, vec![150, 50]));
    assert_eq!(share(1_000, 0), (100, vec![200]));
    // Together they have just enough for a shorter answer.
    assert_eq!(share(900, 950), (50, vec![100, 50]));
    assert!(matches!(weighed(950, 950), Verdict::Short { short: Short::Exhausted { .. }, .. }));
}

#[test]
fn what_a_split_call_used_is_taken_in_the_same_order_and_the_excess_from_the_last() {
    let plan = plan(vec![fund("seat", Unit::Tokens, 1_000), fund("pack", Unit::Tokens, 1_000)]);
    let seat = seat();
    let bill = Bill { plan: &plan, seat: &seat, session: 0, quotas: plan.quotas.iter().collect() };
    let held = [150, 50].into_iter().zip(&plan.quotas).map(|(amount, quota)| (quota.quota.clone(), amount * MICRO));
    let held = vec![HeldLevel::holding("seat/alice", held)];
    let used = |tokens| {
        let usage = Usage { input: tokens, ..Usage::default() };
        let levels = bill.used(&Consumed { usage, ..Consumed::default() }, &PRICE, &held, Beyond::default());
        levels[0].lines.iter().map(|line| line.amount / MICRO).collect::<Vec<_>>()
    };
    assert_eq!(used(120), [120, 0]);
    assert_eq!(used(180), [150, 30]);
    assert_eq!(used(260), [150, 110]);
    assert_eq!(used(0), [0, 0]);
}

#[test]
fn a_fund_in_another_unit_pays_the_whole_call_or_none_of_it() {
    let plan = plan(vec![fund("calls", Unit::Requests, 10), fund("credits", Unit::Tokens, 1_000)]);
    let weighed = |calls, tokens| {
        Weighing::of(&plan, size(100, 100)).with(|quota| {
            Some(if quota.name == "calls" {
                stands(10, calls, 0, u64::MAX)
            } else {
                stands(1_000, tokens, 0, u64::MAX)
            })
        })
    };
    let Verdict::Fits(fit) = weighed(9, 0) else { panic!() };
    assert_eq!(amounts(&fit), [1]);
    let Verdict::Fits(fit) = weighed(10, 0) else { panic!() };
    assert_eq!(amounts(&fit), [200]);
    assert!(matches!(weighed(10, 1_000), Verdict::Short { .. }));
}

fn relieved(reliefs: Vec<Relief>) -> Plan {
    plan(vec![PlanQuota { full: reliefs, ..quota("cap", Unit::Tokens, SEAT, 1_000, false) }])
}

#[test]
fn overage_goes_beyond_the_limit_up_to_its_bound_and_no_further() {
    let plan = relieved(vec![Relief::Overage(100 * MICRO, Unit::Tokens)]);
    let weighed = |used| verdict(&plan, &size(50, 50), false, stands(1_000, used, 0, u64::MAX));
    let Verdict::Fits(fit) = weighed(1_000) else { panic!() };
    assert_eq!(held(&fit)[0].1, 100);
    assert_eq!(held(&fit)[0].2, 100 * MICRO);
    assert_eq!((fit.passed[0].how, fit.passed[0].quota.as_str()), (How::Overage, "cap"));
    // Debt that is there already counts.
    assert_eq!(output(weighed(1_030)), 20);
    assert!(matches!(weighed(1_035), Verdict::Short { .. }));
}

#[test]
fn what_is_observed_passes_whole_and_is_noted() {
    let plan = relieved(vec![Relief::Observe]);
    let Verdict::Fits(fit) = verdict(&plan, &size(50, 500), false, stands(1_000, 5_000, 0, u64::MAX)) else { panic!() };
    assert_eq!((fit.output, fit.passed[0].how), (500, How::Observed));
}

#[test]
fn a_downgrade_is_tried_once_and_then_what_follows_it() {
    let plan = relieved(vec![Relief::Downgrade("other".into()), Relief::Downgrade("small".into()), Relief::Deny]);
    let mut weighing = Weighing::of(&plan, size(50, 50));
    let full = |_: &PlanQuota| Some(stands(1_000, 1_000, 0, u64::MAX));
    assert_eq!(weighing.with(full), Verdict::Downgrade("small".into()));
    assert!(matches!(weighing.with(full), Verdict::Short { .. }));
    assert_eq!(output(weighing.with(|_| Some(stands(1_000, 0, 0, u64::MAX)))), 50);
}

#[test]
fn a_wait_ends_with_room_or_with_its_deadline() {
    let plan = relieved(vec![Relief::Wait(5_000), Relief::Deny]);
    let mut weighing = Weighing::of(&plan, size(50, 50));
    let held = |_: &PlanQuota| Some(stands(1_000, 0, 1_000, u64::MAX));
    assert_eq!(weighing.with(held), Verdict::Waits { wake_ms: 100 });
    weighing.now_ms = 4_950;
    assert_eq!(weighing.with(held), Verdict::Waits { wake_ms: 5_000 });
    weighing.now_ms = 5_000;
    assert!(matches!(weighing.with(held), Verdict::Short { short: Short::Busy { .. }, .. }));
    let Verdict::Fits(fit) = weighing.with(|_| Some(stands(1_000, 0, 0, u64::MAX))) else { panic!() };
    assert_eq!(fit.passed[0].how, How::Waited);
}

#[test]
fn nobody_waits_for_what_comes_too_late() {
    let plan = relieved(vec![Relief::Wait(5_000), Relief::Deny]);
    let spent = |resets_ms| move |_: &PlanQuota| Some(Standing { resets_ms, ..stands(1_000, 1_000, 0, u64::MAX) });
    let weighed = |resets_ms| Weighing::of(&plan, size(50, 50)).with(spent(resets_ms));
    assert_eq!(weighed(3_000), Verdict::Waits { wake_ms: 3_000 });
    assert!(matches!(weighed(6_000), Verdict::Short { .. }));
}

/// One request a minute.
fn throttle() -> Relief {
    let bucket = quota("cap.throttle", Unit::Requests, SEAT, 1, false);
    let window = Window::Bucket { period_ms: 60_000, burst: MICRO };
    Relief::Throttle(Box::new(PlanQuota { quota: Quota { window, ..bucket.quota.clone() }, ..bucket }))
}

#[test]
fn a_throttled_call_takes_from_a_bucket_of_its_own() {
    let plan = relieved(vec![throttle()]);
    let weighed = |taken| {
        Weighing::of(&plan, size(50, 50)).with(|quota| {
            Some(if quota.name == "cap" { stands(1_000, 1_000, 0, u64::MAX) } else { stands(1, taken, 0, u64::MAX) })
        })
    };
    let Verdict::Fits(fit) = weighed(0) else { panic!() };
    assert_eq!((amounts(&fit), fit.passed[0].how), (vec![100, 1], How::Throttled));
    assert!(matches!(weighed(1), Verdict::Short { short: Short::Busy { .. }, .. }));
}

#[test]
fn no_throttle_lets_a_call_pass_to_a_fund_that_nothing_is_known_of() {
    let term = Quota { window: Window::Term { from_ms: 0, until_ms: 90_000 }, ..fund("term", Unit::Tokens, 9).quota };
    let [term, anew] = [PlanQuota { quota: term, ..fund("term", Unit::Tokens, 9) }, fund("anew", Unit::Tokens, 9)];
    let plan = Plan { empty: vec![throttle()], ..plan(vec![term, anew]) };
    let weighed = |known: bool| {
        Weighing { last: true, ..Weighing::of(&plan, size(50, 50)) }.with(|quota| match quota.name.as_str() {
            "term" => Some(stands(9, 2, 0, 0)),
            "anew" => known.then_some(stands(9, 9, 0, 0)),
            _ => Some(stands(1, 0, 0, u64::MAX)),
        })
    };
    let Verdict::Fits(fit) = weighed(true) else { panic!() };
    assert_eq!(amounts(&fit), [7, 93, 1], "the fund that begins anew bears what none has");
    assert!(matches!(weighed(false), Verdict::Short { .. }), "{:?}", weighed(false));
}

/// How a call ends whose quota is full, and its throttle's bucket too: an answer of its own for each step behind that.
#[test]
fn beyond_the_pace_of_a_throttle_the_next_step_is_tried() {
    for funds in [false, true] {
        let weighed = |steps: Vec<Relief>| {
            let steps = [vec![throttle()], steps].concat();
            let plan = match funds {
                true => Plan { empty: steps, ..plan(vec![fund("cap", Unit::Tokens, 1_000)]) },
                false => relieved(steps),
            };
            let mut weighing = Weighing::of(&plan, size(50, 50));
            let verdict = weighing.with(|quota| {
                let full = Standing { resets_ms: 90_000, ..stands(1_000, 1_000, 0, u64::MAX) };
                Some(if quota.name == "cap" { full } else { stands(1, 1, 0, u64::MAX) })
            });
            match verdict {
                Verdict::Fits(fit) => format!("{:?}", fit.passed.iter().map(|passed| passed.how).collect::<Vec<_>>()),
                Verdict::Short { short: Short::Busy { quota, retry_ms, .. }, .. } => {
                    assert_eq!(quota, QuotaId::of("team", "cap.throttle"), "the throttle says when to come again");
                    format!("denied for {retry_ms:?}")
                }
                Verdict::Waits { wake_ms } => format!("waits {wake_ms}"),
                other => format!("{other:?}"),
            }
        };
        assert_eq!(weighed(vec![]), "denied for Some(60000)");
        assert_eq!(weighed(vec![Relief::Deny]), "denied for Some(60000)");
        assert_eq!(weighed(vec![Relief::Downgrade("small".into())]), r#"Downgrade("small")"#);
        assert_eq!(weighed(vec![Relief::Overage(100 * MICRO, Unit::Tokens)]), "[Overage]");
        assert_eq!(weighed(vec![Relief::Overage(10 * MICRO, Unit::Tokens), Relief::Observe]), "[Observed]");
        assert_eq!(weighed(vec![Relief::Observe]), "[Observed]");
        // For the bucket, or for the window, whichever is first.
        assert_eq!(weighed(vec![Relief::Wait(70_000)]), "waits 60000");
        assert_eq!(weighed(vec![Relief::Wait(50_000), Relief::Observe]), "[Observed]");
    }
}

#[test]
fn after_the_wait_behind_a_throttle_the_throttle_lets_the_call_through() {
    let plan = relieved(vec![throttle(), Relief::Wait(70_000), Relief::Deny]);
    let mut weighing = Weighing::of(&plan, size(50, 50));
    let taken = |taken| {
        move |quota: &PlanQuota| {
            Some(if quota.name == "cap" { stands(1_000, 1_000, 0, u64::MAX) } else { stands(1, taken, 0, u64::MAX) })
        }
    };
    assert_eq!(weighing.with(taken(1)), Verdict::Waits { wake_ms: 100 }, "the window ends sooner");
    weighing.now_ms = 60_000;
    let Verdict::Fits(fit) = weighing.with(taken(0)) else { panic!() };
    assert_eq!(fit.passed.iter().map(|passed| passed.how).collect::<Vec<_>>(), [How::Waited, How::Throttled]);
    // Another call was faster, and the time is up.
    weighing.now_ms = 70_000;
    assert!(matches!(weighing.with(taken(1)), Verdict::Short { .. }));
}

/// What each fund holds of a call of 100 tokens, and what of it is borne; or who is short.
fn borne(plan: &Plan, has: &[u64]) -> String {
    let verdict = Weighing::of(plan, size(50, 50)).with(|quota| {
        let at = plan.quotas.iter().position(|one| one.name == quota.name).unwrap();
        Some(stands(1_000, 1_000 - has[at], 0, u64::MAX))
    });
    match verdict {
        Verdict::Fits(fit) => {
            let passed: Vec<_> = fit.passed.iter().map(|passed| passed.how.name()).collect();
            format!("{:?} {:?} {passed:?}", amounts(&fit), fit.borne.map(|borne| borne.amount / MICRO))
        }
        Verdict::Short { .. } => "short".to_owned(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_no_fund_has_is_borne_by_the_last_that_begins_anew_in_the_unit_of_the_overage() {
    let lasting = |name: &str, unit| {
        let fund = fund(name, unit, 1_000);
        PlanQuota { quota: Quota { window: Window::Lifetime, ..fund.quota }, ..fund }
    };
    let empty = |unit| vec![Relief::Overage(80 * MICRO, unit), Relief::Deny];
    let month = || fund("month", Unit::Tokens, 1_000);
    let packed = Plan { empty: empty(Unit::Tokens), ..plan(vec![month(), lasting("pack", Unit::Tokens)]) };
    // First all that there is, and then the debt.
    assert_eq!(borne(&packed, &[0, 30]), r#"[70, 30] Some(70) ["overage"]"#);
    assert_eq!(borne(&packed, &[20, 30]), r#"[70, 30] Some(50) ["overage"]"#);
    assert_eq!(borne(&packed, &[20, 80]), r#"[20, 80] None []"#);
    assert_eq!(borne(&packed, &[0, 0]), r#"[80] Some(80) ["overage"]"#, "no further");
    // Neither another unit nor what never begins anew bears it.
    let mixed = |unit| Plan { empty: empty(unit), ..plan(vec![month(), fund("calls", Unit::Requests, 1_000)]) };
    assert_eq!(borne(&mixed(Unit::Tokens), &[0, 0]), r#"[80] Some(80) ["overage"]"#);
    assert_eq!(borne(&mixed(Unit::Requests), &[0, 0]), r#"[1] Some(1) ["overage"]"#);
    assert_eq!(borne(&mixed(Unit::Credits), &[0, 0]), "short");
    let packs = Plan { empty: empty(Unit::Tokens), ..plan(vec![lasting("pack", Unit::Tokens)]) };
    assert_eq!(borne(&packs, &[0]), "short");
    // What is only seen is charged all the same.
    let seen = Plan { empty: vec![Relief::Observe], ..packed.clone() };
    assert_eq!(borne(&seen, &[0, 30]), r#"[70, 30] Some(70) ["observed"]"#);
}

#[test]
fn a_call_with_an_overage_that_came_to_less_leaves_no_debt() {
    let plan = plan(vec![fund("month", Unit::Tokens, 1_000), fund("pack", Unit::Tokens, 1_000)]);
    let seat = seat();
    let bill = Bill { plan: &plan, seat: &seat, session: 0, quotas: plan.quotas.iter().collect() };
    let held = [70, 30].into_iter().zip(&plan.quotas).map(|(amount, quota)| (quota.quota.clone(), amount * MICRO));
    let held = vec![HeldLevel::holding("seat/alice", held)];
    let borne = Borne { by: plan.quotas[0].quota.id, amount: 50 * MICRO };
    let used = |tokens, payer| {
        let usage = Usage { input: tokens, ..Usage::default() };
        let consumed = Consumed { usage, ..Consumed::default() };
        let levels = bill.used(&consumed, &PRICE, &held, Beyond { borne: Some(borne), payer });
        levels[0].lines.iter().map(|line| line.amount / MICRO).collect::<Vec<_>>()
    };
    let alone = [10, 40, 60, 100, 130].map(|tokens| used(tokens, None));
    assert_eq!(alone, [[10, 0], [20, 20], [30, 30], [70, 30], [100, 30]].map(Vec::from));
    // One that has the rest with the ledger gives that, and what was agreed stays.
    let payer = Some(plan.quotas[1].quota.id);
    assert_eq!([60, 100, 130].map(|tokens| used(tokens, payer)), [[30, 30], [70, 30], [70, 60]].map(Vec::from));
}

#[test]
fn an_excess_asks_the_ledger_only_where_that_decides_who_pays() {
    let granted = |name: &str| PlanQuota { role: Role::Fund, ..quota(name, Unit::Tokens, SEAT, 1_000, true) };
    let plan = |funds: &[&str]| plan(funds.iter().map(|name| granted(name)).collect());
    // 10 tokens are held of the first, and 100 were used: what it holds more, who is charged the rest, what is asked for.
    let of = |plan: &Plan, stands: &[Option<Standing>]| {
        let seat = seat();
        let bill = Bill { plan, seat: &seat, session: 0, quotas: plan.quotas.iter().collect() };
        let held = [HeldLevel::holding("seat/alice", [(plan.quotas[0].quota.clone(), 10 * MICRO)])];
        let usage = Usage { input: 100, ..Usage::default() };
        let consumed = Consumed { usage, ..Consumed::default() };
        let place = |id: QuotaId| plan.quotas.iter().position(|quota| quota.quota.id == id).unwrap();
        let found = excess(&bill, &consumed, &PRICE, &held, &mut |_, quota, _| stands[place(quota.quota.id)]);
        let lines = found.more.iter().flat_map(|level| &level.lines);
        let more: Vec<_> = lines.map(|line| (place(line.quota.id), line.amount / MICRO)).collect();
        let wants: Vec<_> = found.wants.iter().map(|want| (place(want.quota), want.missing / MICRO)).collect();
        (more, found.by.map(place), wants)
    };
    let (one, two) = (plan(&["month"]), plan(&["month", "pack"]));
    let full = Some(stands(100, 90, 10, 0));
    let rich = Some(stands(100, 60, 10, 500 * MICRO));
    let near = Some(stands(100, 60, 10, 20 * MICRO));
    assert_eq!(of(&one, &[full]), (vec![], None, vec![]), "nobody else could pay");
    assert_eq!(of(&two, &[rich, None]), (vec![(0, 30)], Some(0), vec![]), "the ledger has it");
    assert_eq!(of(&two, &[near, None]), (vec![(0, 30)], None, vec![(0, 60), (1, 40)]), "it has not all of it");
    assert_eq!(of(&two, &[full, rich]), (vec![(1, 30)], Some(1), vec![]));
    assert_eq!(of(&two, &[full, Some(stands(0, 0, 0, 500 * MICRO))]), (vec![(1, 0)], Some(1), vec![]));
    // What was used beyond a grant the ledger may not have heard of yet.
    let beyond = Some(stands(100, 150, 10, 100 * MICRO));
    assert_eq!(of(&two, &[beyond, full]), (vec![(1, 0)], None, vec![(0, 150)]));
}

#[test]
fn an_overage_that_did_not_bear_the_call_is_not_told() {
    let sub = fund("sub", Unit::Requests, 100);
    let cap = PlanQuota {
        of: Some(sub.quota.id),
        full: vec![Relief::Overage(MICRO, Unit::Requests), Relief::NextFund],
        ..quota("short", Unit::Requests, SEAT, 10, false)
    };
    let plan = plan(vec![sub, fund("pool", Unit::Tokens, 1_000), cap]);
    let told = |calls| {
        let verdict = Weighing::of(&plan, size(50, 50)).with(|quota| {
            Some(if quota.name == "short" { stands(10, calls, 0, u64::MAX) } else { stands(1_000, 0, 0, u64::MAX) })
        });
        let Verdict::Fits(fit) = verdict else { panic!("{verdict:?}") };
        fit.passed.iter().map(|passed| passed.how).collect::<Vec<_>>()
    };
    assert_eq!([9, 10, 11].map(told), [vec![], vec![How::Overage], vec![How::NextFund]]);
}

#[test]
fn a_cap_may_hold_what_is_expected() {
    let plan = plan(vec![PlanQuota { hold: HoldSize::Expected, ..quota("cap", Unit::Tokens, SEAT, 1_000, false) }]);
    let agent = Size { expected: Expected::Assumed(600), ..size(100, 32_000) };
    let Verdict::Fits(fit) = verdict(&plan, &agent, false, stands(1_000, 0, 0, u64::MAX)) else { panic!() };
    assert_eq!((fit.output, amounts(&fit)), (32_000, vec![700]));
}

#[test]
fn what_is_expected_is_weighed_by_what_it_costs() {
    let plan = plan(vec![PlanQuota { hold: HoldSize::Expected, ..fund("month", Unit::Credits, 1_000) }]);
    let turn = Usage { input: 100, cache_read: 1_000, output: 600, ..Usage::default() };
    let agent = Size { expected: Expected::Learned(turn), ..size(150_000, 32_000) };
    let held = |agent: &Size| {
        let Verdict::Fits(fit) = verdict(&plan, agent, false, stands(1_000_000, 0, 0, u64::MAX)) else { panic!() };
        (fit.output, fit.levels[0].lines[0].amount)
    };
    // All of the output may be reasoning, which is dearer here.
    assert_eq!(held(&agent), (32_000, (100 * 1_000 + 1_000 * 100 + 600 * 5_000) * 3 / 2));
    // Of a call that may not have so much it is never more than the worst.
    let short = Size { expected: Expected::Learned(turn), ..size(10, 20) };
    assert_eq!(held(&short), (20, (10 * 1_250 + 20 * 5_000) * 3 / 2));
}

fn sizes() -> impl Strategy<Value = Size> {
    (0_u64..5_000, 1_u64..5_000, 1_u64..4, prop_oneof![Just(0), 1_u64..300])
        .prop_map(|(input, output, choices, floor)| Size { choices, floor: floor.min(output), ..size(input, output) })
}

proptest! {
    #[test]
    fn what_fits_is_paid_for_and_one_token_more_would_not_be(
        size in sizes(),
        unit in prop::sample::select(UNITS.to_vec()),
        free in 0_u64..20_000 * MICRO,
    ) {
        let plan = plan(vec![quota("cap", unit, SEAT, 30_000, false)]);
        let standing = Standing { granted: free, ledger_left: u64::MAX, ..Standing::default() };
        let of = |size: Size| most(unit, &size.worst(), &PRICE);
        if let Verdict::Fits(fit) = verdict(&plan, &size, false, standing) {
            let output = fit.output;
            prop_assert!(output <= size.output);
            let with = |output| of(Size { output, ..size });
            prop_assert!(with(output) <= free);
            if output < size.output {
                prop_assert!(with(output + 1) > free);
                prop_assert!(output >= plan.hold.shrink_to.min(size.output).max(size.floor));
            }
        } else {
            let floor = plan.hold.shrink_to.min(size.output).max(size.floor);
            let smallest = of(Size { output: floor, ..size });
            prop_assert!(smallest > free);
        }
    }

    #[test]
    fn no_usage_within_the_size_costs_more_than_was_held(
        size in sizes(),
        unit in prop::sample::select(UNITS.to_vec()),
        split in (0_u64..100, 0_u64..100, 0_u64..100, 0_u64..100),
    ) {
        let (read, write, out, thought) = split;
        let cache_read = size.input * read / 100;
        let cache_write = (size.input - cache_read) * write / 100;
        let output = size.output * size.choices * out / 100;
        let usage = Usage {
            input: size.input - cache_read - cache_write,
            cache_read,
            cache_write,
            output,
            reasoning: output * thought / 100,
            ..Usage::default()
        };
        let consumed = Consumed { usage, prompts: MICRO, tool_calls: 0, again: 0 };
        prop_assert!(unit.amount(&consumed, &PRICE) <= most(unit, &size.worst(), &PRICE));
        let plan = plan(vec![quota("cap", unit, SEAT, 1, false)]);
        let seat = seat();
        let bill = Bill { plan: &plan, seat: &seat, session: 0, quotas: plan.quotas.iter().collect() };
        let held = [HeldLevel::holding("seat/alice", [(plan.quotas[0].quota.clone(), 1)])];
        let used = bill.used(&consumed, &PRICE, &held, Beyond::default());
        prop_assert_eq!(used[0].lines[0].amount, unit.amount(&consumed, &PRICE));
    }

    /// What a call came to beyond its hold is given by its funds in their order, all that they have; the rest is borne by the
    /// last that begins anew, and by no other. All of it is charged, and nobody is passed while another has something.
    #[test]
    fn an_excess_is_split_like_a_hold(
        funds in prop::collection::vec((0_u64..200, 0_u64..200, prop::bool::ANY), 1..5),
        tokens in 0_u64..1_500,
    ) {
        let build = |(at, (.., lasts)): (usize, &(u64, u64, bool))| {
            let fund = fund(&format!("f{at}"), Unit::Tokens, 1_000);
            let window = if *lasts { Window::Lifetime } else { fund.quota.window.clone() };
            PlanQuota { quota: Quota { window, ..fund.quota }, ..fund }
        };
        let plan = plan(funds.iter().enumerate().map(build).collect());
        let seat = seat();
        let bill = Bill { plan: &plan, seat: &seat, session: 0, quotas: plan.quotas.iter().collect() };
        // Of a fund that gives nothing nothing is held, but of the first there is always something.
        let mut amounts: Vec<u64> = funds.iter().map(|(held, ..)| *held).collect();
        amounts[0] += 1;
        let holding = |amounts: &[u64], touched: &[QuotaId]| {
            let lines = plan.quotas.iter().zip(amounts).filter(|(quota, amount)| {
                **amount > 0 || touched.contains(&quota.quota.id)
            });
            vec![HeldLevel::holding("seat/alice", lines.map(|(quota, amount)| (quota.quota.clone(), amount * MICRO)))]
        };
        let has = |quota: &PlanQuota| funds[quota.name[1..].parse::<usize>().unwrap()].1;
        let usage = Usage { input: tokens, ..Usage::default() };
        let consumed = Consumed { usage, ..Consumed::default() };
        let held = holding(&amounts, &[]);
        let found = excess(&bill, &consumed, &PRICE, &held, &mut |_, quota, _| Some(stands(has(quota), 0, 0, u64::MAX)));
        let lines: Vec<_> = found.more.iter().flat_map(|level| &level.lines).collect();
        prop_assert!(found.wants.is_empty());
        for line in &lines {
            let at = plan.quotas.iter().position(|quota| quota.quota.id == line.quota.id).unwrap();
            prop_assert!(line.amount <= funds[at].1 * MICRO && line.over == 0);
            amounts[at] += line.amount / MICRO;
        }
        let touched: Vec<QuotaId> = lines.iter().map(|line| line.quota.id).collect();
        let used = bill.used(&consumed, &PRICE, &holding(&amounts, &touched), Beyond::default());
        let of = |quota: &PlanQuota| {
            let line = used[0].lines.iter().find(|line| line.quota.id == quota.quota.id);
            line.map_or(0, |line| line.amount / MICRO)
        };
        prop_assert_eq!(plan.quotas.iter().map(of).sum::<u64>(), tokens);
        let first: u64 = funds.iter().map(|(held, ..)| held).sum::<u64>() + 1;
        let all: u64 = first + funds.iter().map(|(_, free, _)| free).sum::<u64>();
        let renews = plan.quotas.iter().rposition(PlanQuota::begins_anew);
        for (at, quota) in plan.quotas.iter().enumerate() {
            let most = funds[at].0 + u64::from(at == 0) + funds[at].1;
            if of(quota) > most {
                prop_assert!(tokens > all, "another has something");
                prop_assert!(renews.is_none_or(|bears| bears == at), "it begins anew");
            }
        }
        prop_assert!(lines.is_empty() || tokens > first);
    }

    /// Whatever the funds have, the shares of a call add up to what it holds, and no fund gives more than it has.
    #[test]
    fn shares_add_up(free in prop::collection::vec(0_u64..300, 1..5), input in 0_u64..300, out in 1_u64..300) {
        let funds = (0..free.len()).map(|at| fund(&format!("f{at}"), Unit::Tokens, 1_000)).collect();
        let plan = plan(funds);
        let has = |quota: &PlanQuota| free[quota.name[1..].parse::<usize>().unwrap()];
        let verdict = Weighing::of(&plan, size(input, out)).with(|quota| Some(stands(has(quota), 0, 0, u64::MAX)));
        let total: u64 = free.iter().sum();
        if let Verdict::Fits(fit) = verdict {
            prop_assert_eq!(amounts(&fit).iter().sum::<u64>(), input + fit.output);
            prop_assert!(fit.output == out || input + fit.output == total);
            for line in &fit.levels[0].lines {
                let quota = plan.quotas.iter().find(|quota| quota.quota.id == line.quota.id).unwrap();
                prop_assert!(line.amount <= has(quota) * MICRO);
            }
        } else {
            prop_assert!(total < input + out.min(16));
        }
    }
}

#[test]
fn a_plan_whose_funds_do_not_take_the_call_does_not_give_it_away() {
    let empty = vec![Relief::Overage(MICRO, Unit::Tokens), Relief::Downgrade("small".into())];
    let plan = Plan { empty, ..plan(vec![fund("of another model", Unit::Tokens, 1_000)]) };
    let seat = seat();
    let bill = Bill { plan: &plan, seat: &seat, session: 0, quotas: Vec::new() };
    let mut patience = Patience::default();
    let mut verdict = |observe| {
        let moment = Moment { now: Now::default(), last: false, observe };
        weigh(&bill, &PRICE, &size(10, 50), moment, &mut patience, &mut |_, _, _| None, &|model| model == "small")
    };
    assert_eq!(verdict(false), Verdict::Downgrade("small".into()));
    assert_eq!(verdict(false), Verdict::Unfunded);
    assert!(matches!(verdict(true), Verdict::Fits(_)));
}

#[test]
fn what_is_expected_to_be_nothing_is_held_as_something() {
    let expected = Expected::Learned(Usage { input: 10, output: 20, ..Usage::default() });
    let size = Size { expected, choices: 2, ..size(100, 50) };
    let asked = |unit| {
        let quota = PlanQuota { hold: HoldSize::Expected, ..quota("q", unit, SEAT, 1_000, false) };
        crate::engine::bill::asked(&quota, &size, &PRICE)
    };
    assert_eq!(asked(Unit::ReasoningTokens), 40 * MICRO, "all of the output may be reasoning");
    assert_eq!(asked(Unit::CacheWriteTokens), 1, "a full quota is full");
    assert_eq!(asked(Unit::Tokens), 50 * MICRO);
}

#[test]
fn a_cap_of_a_fund_binds_where_that_fund_pays_and_else_the_next_one_does() {
    let subscription = fund("subscription", Unit::Requests, 100);
    let cap =
        |full| PlanQuota { of: Some(subscription.quota.id), full, ..quota("short", Unit::Requests, SEAT, 10, false) };
    let quotas = |full| vec![subscription.clone(), fund("pack", Unit::Credits, 1_000_000), cap(full)];
    let (refusing, going_on) = (plan(quotas(Vec::new())), plan(quotas(vec![Relief::NextFund])));
    // Of the subscription, the pack and the cap: granted and used.
    let weigh = |plan: &Plan, figures: [(u64, u64); 3]| {
        let mut weighing = Weighing::of(plan, size(10, 10));
        let verdict = weighing.with(|quota| {
            let at = plan.quotas.iter().position(|one| one.name == quota.name).unwrap();
            Some(stands(figures[at].0, figures[at].1, 0, 0))
        });
        let lines = |fit: &Fit| -> Vec<QuotaId> {
            fit.levels.iter().flat_map(|level| &level.lines).map(|line| line.quota.id).collect()
        };
        match verdict {
            Verdict::Fits(fit) => {
                let passed: Vec<&str> = fit.passed.iter().map(|passed| passed.how.name()).collect();
                let names = |id: &QuotaId| plan.quotas.iter().find(|one| one.quota.id == *id).unwrap().name.clone();
                format!("{:?} {passed:?}", lines(&fit).iter().map(names).collect::<Vec<_>>())
            }
            Verdict::Short { short: Short::Exhausted { quota, .. }, .. } => {
                format!("no {}", plan.quotas.iter().find(|one| one.quota.id == quota).unwrap().name)
            }
            other => panic!("{other:?}"),
        }
    };
    let full_pack = (1_000_000, 0);
    assert_eq!(weigh(&going_on, [(100, 0), full_pack, (10, 9)]), r#"["subscription", "short"] []"#);
    assert_eq!(weigh(&going_on, [(100, 0), full_pack, (10, 10)]), r#"["pack"] ["next_fund"]"#);
    assert_eq!(weigh(&refusing, [(100, 0), full_pack, (10, 10)]), "no short");
    // The cap has nothing to say of calls that the pack pays.
    assert_eq!(weigh(&refusing, [(100, 100), full_pack, (10, 10)]), r#"["pack"] []"#);
    // What tells when to come again is the cap, not the fund that has plenty.
    assert_eq!(weigh(&going_on, [(100, 0), (1_000_000, 1_000_000), (10, 10)]), "no short");
}
