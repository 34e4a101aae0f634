use proptest::prelude::{Just, Strategy, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::{Size, Verdict, largest_output, levels, used, weigh, worst_amount};
use crate::meter::usage::Usage;
use crate::policy::bundle::{Connectivity, HoldRule, Lost, Per, Plan, PlanQuota, Role, Seat, Security, Unit, Weights};
use crate::quota::{MICRO, Quota, QuotaId, Short, Standing, Window};

const UNITS: [Unit; 5] = [Unit::Tokens, Unit::InputTokens, Unit::OutputTokens, Unit::Requests, Unit::Credits];
const WEIGHTS: Weights =
    Weights { input: 1_000_000_000, cache_read: 100_000_000, cache_write: 1_250_000_000, output: 4_000_000_000 };

fn quota(name: &str, unit: Unit, per: Per, limit: u64, granted: bool) -> PlanQuota {
    let window = Window::FirstUse { length_ms: 18_000_000 };
    let quota = Quota { id: QuotaId::of("team", name), limit: limit * MICRO, window, granted };
    PlanQuota { name: name.into(), role: Role::Cap, unit, per, quota }
}

fn plan(quotas: Vec<PlanQuota>) -> Plan {
    Plan {
        name: "team".into(),
        version: None,
        quotas,
        hold: HoldRule { unstated_output: 1_000, shrink_to: 16, lost: Lost::Held },
        connectivity: Connectivity::default(),
        security: Security::default(),
    }
}

fn seat() -> Seat {
    Seat { name: "alice".into(), org: "acme".into(), plan: Some(0) }
}

fn stands(granted: u64, used: u64, held: u64, ledger_left: u64) -> Standing {
    let [granted, used, held] = [granted, used, held].map(|units| units * MICRO);
    Standing { window: 1, granted, used, held, resets_ms: 100, ledger_left }
}

fn size(input: u64, output: u64) -> Size {
    Size { input, output, choices: 1, floor: 0 }
}

fn verdict(plan: &Plan, size: &Size, last: bool, standing: Standing) -> Verdict {
    weigh(plan, &seat(), &WEIGHTS, size, last, |_, _| Some(standing))
}

#[test]
fn the_output_limit_is_clamped_to_what_every_quota_can_pay() {
    let plan = plan(vec![quota("cap", Unit::Tokens, Per::Seat, 1_000, false)]);
    let fits = |used| verdict(&plan, &size(100, 500), false, stands(1_000, used, 0, u64::MAX));
    assert_eq!(fits(0), Verdict::Fits { output: 500 });
    assert_eq!(fits(600), Verdict::Fits { output: 300 });
    assert_eq!(fits(884), Verdict::Fits { output: 16 });
    assert!(matches!(fits(885), Verdict::Short { short: Short::Exhausted { .. }, .. }));
}

#[test]
fn a_request_that_asks_for_less_than_the_floor_is_not_held_to_it() {
    let plan = plan(vec![quota("cap", Unit::Tokens, Per::Seat, 1_000, false)]);
    assert_eq!(verdict(&plan, &size(10, 3), false, stands(13, 0, 0, u64::MAX)), Verdict::Fits { output: 3 });
}

#[test]
fn a_thinking_budget_is_a_floor() {
    let plan = plan(vec![quota("cap", Unit::Tokens, Per::Seat, 1_000, false)]);
    let thinks = Size { floor: 200, ..size(10, 500) };
    assert!(matches!(verdict(&plan, &thinks, false, stands(200, 0, 0, u64::MAX)), Verdict::Short { .. }));
    assert_eq!(verdict(&plan, &thinks, false, stands(210, 0, 0, u64::MAX)), Verdict::Fits { output: 200 });
}

#[test]
fn what_others_merely_hold_is_busy_and_what_is_spent_is_exhausted() {
    let plan = plan(vec![quota("cap", Unit::Tokens, Per::Seat, 1_000, true)]);
    let short = |standing| verdict(&plan, &size(100, 100), false, standing);
    assert!(matches!(short(stands(1_000, 0, 950, 0)), Verdict::Short { short: Short::Busy { .. }, .. }));
    assert!(matches!(short(stands(1_000, 950, 0, 0)), Verdict::Short { short: Short::Exhausted { .. }, .. }));
}

#[test]
fn while_the_ledger_has_more_it_is_asked_and_at_the_deadline_what_is_there_is_used() {
    let plan = plan(vec![quota("cap", Unit::Tokens, Per::Seat, 1_000, true)]);
    let standing = stands(200, 0, 0, 50 * MICRO);
    let Verdict::Wants(wants) = verdict(&plan, &size(100, 500), false, standing) else { panic!("asks") };
    assert_eq!(wants.len(), 1);
    assert_eq!(wants[0].missing, 400 * MICRO);
    assert_eq!(verdict(&plan, &size(100, 500), true, standing), Verdict::Fits { output: 100 });
}

#[test]
fn what_is_asked_for_covers_the_debt_too() {
    let plan = plan(vec![quota("cap", Unit::Tokens, Per::Seat, 1_000, true)]);
    let Verdict::Wants(wants) = verdict(&plan, &size(10, 40), false, stands(100, 290, 10, MICRO)) else {
        panic!("asks")
    };
    assert_eq!(wants[0].missing, 250 * MICRO);
}

#[test]
fn nothing_is_asked_for_when_another_quota_refuses_anyway() {
    let cap = quota("cap", Unit::Tokens, Per::Seat, 1_000, true);
    let plan = plan(vec![cap.clone(), quota("calls", Unit::Requests, Per::Seat, 1, false)]);
    let verdict = weigh(&plan, &seat(), &WEIGHTS, &size(100, 500), false, |_, quota| {
        Some(if quota.name == "cap" { stands(200, 0, 0, u64::MAX) } else { stands(1, 1, 0, u64::MAX) })
    });
    assert!(matches!(verdict, Verdict::Short { short: Short::Exhausted { .. }, .. }), "{verdict:?}");
}

#[test]
fn a_quota_that_nothing_is_known_of_is_asked_for_and_never_guessed() {
    let plan = plan(vec![quota("cap", Unit::Tokens, Per::Seat, 1_000, true)]);
    let weighed = |last| weigh(&plan, &seat(), &WEIGHTS, &size(1, 100), last, |_, _| None);
    assert!(matches!(weighed(false), Verdict::Wants(_)));
    assert!(matches!(weighed(true), Verdict::Short { short: Short::NeedsGrant { .. }, .. }));
}

#[test]
fn credits_are_held_at_the_dearest_input_rate_and_rounded_up_once() {
    let whole = Size { input: 3, output: 2, choices: 2, floor: 0 };
    // 3 tokens at 1.25 and 4 at 4 credits per 1,000 tokens.
    assert_eq!(worst_amount(Unit::Credits, &WEIGHTS, &whole), 3 * 1_250 + 4 * 4_000);
    let odd = Weights { input: 1, cache_read: 1, cache_write: 1, output: 0 };
    assert_eq!(worst_amount(Unit::Credits, &odd, &whole), 1);
}

#[test]
fn levels_come_in_the_order_in_which_accounts_are_written() {
    let plan = plan(vec![
        quota("month", Unit::Credits, Per::Org, 1, false),
        quota("a", Unit::Tokens, Per::Seat, 1, false),
        quota("b", Unit::Requests, Per::Org, 1, false),
    ]);
    let levels = levels(&plan, &seat(), |_| 1);
    let subjects: Vec<&str> = levels.iter().map(|level| level.subject.as_str()).collect();
    assert_eq!(subjects, ["seat/alice", "org/acme"]);
    assert_eq!(levels[1].lines.len(), 2);
}

fn sizes() -> impl Strategy<Value = Size> {
    (0_u64..5_000, 1_u64..5_000, 1_u64..4, prop_oneof![Just(0), 1_u64..300])
        .prop_map(|(input, output, choices, floor)| Size { input, output, choices, floor: floor.min(output) })
}

proptest! {
    #[test]
    fn what_fits_is_paid_for_and_one_token_more_would_not_be(
        size in sizes(),
        unit in prop::sample::select(UNITS.to_vec()),
        free in 0_u64..20_000 * MICRO,
    ) {
        let plan = plan(vec![quota("cap", unit, Per::Seat, 30_000, false)]);
        let standing = Standing { granted: free, ledger_left: u64::MAX, ..Standing::default() };
        if let Verdict::Fits { output } = weigh(&plan, &seat(), &WEIGHTS, &size, false, |_, _| Some(standing)) {
            prop_assert!(output <= size.output);
            let shrunk = Size { output, ..size };
            prop_assert!(worst_amount(unit, &WEIGHTS, &shrunk) <= free);
            if output < size.output {
                let more = Size { output: output + 1, ..size };
                prop_assert!(worst_amount(unit, &WEIGHTS, &more) > free);
                prop_assert!(output >= plan.hold.shrink_to.min(size.output).max(size.floor));
            }
        } else {
            let floor = plan.hold.shrink_to.min(size.output).max(size.floor);
            let smallest = Size { output: floor, ..size };
            prop_assert!(worst_amount(unit, &WEIGHTS, &smallest) > free);
        }
    }

    #[test]
    fn no_usage_within_the_size_costs_more_than_was_held(
        size in sizes(),
        unit in prop::sample::select(UNITS.to_vec()),
        split in (0_u64..100, 0_u64..100, 0_u64..100),
    ) {
        let (read, write, out) = split;
        let cache_read = size.input * read / 100;
        let cache_write = (size.input - cache_read) * write / 100;
        let usage = Usage {
            input: size.input - cache_read - cache_write,
            cache_read,
            cache_write,
            output: size.output * size.choices * out / 100,
            reasoning: 0,
        };
        prop_assert!(unit.amount(&usage, &WEIGHTS) <= worst_amount(unit, &WEIGHTS, &size));
        let plan = plan(vec![quota("cap", unit, Per::Seat, 1, false)]);
        prop_assert_eq!(used(&plan, &seat(), &usage, &WEIGHTS)[0].lines[0].amount, unit.amount(&usage, &WEIGHTS));
    }

    #[test]
    fn the_largest_output_never_overflows(free: u64, input: u64, choices: u64, unit in prop::sample::select(UNITS.to_vec())) {
        let size = Size { input, output: u64::MAX, choices, floor: 0 };
        largest_output(unit, &Weights { input: u64::MAX, output: u64::MAX, ..WEIGHTS }, free, &size);
        worst_amount(unit, &WEIGHTS, &size);
    }
}
