use super::Lack;
use crate::now::Now;
use crate::quota::account::Account;
use crate::quota::laws::Shared;
use crate::quota::slot::{HeldLine, Rule};
use crate::quota::{CalendarPeriod, GrantLine, Keys, Line, Quota, QuotaId, Standing, Window, grant, read_account};

const HOUR: u64 = 3_600_000;
/// 2026-11-25 00:00 in UTC.
const START: u64 = 1_795_564_800_000;

fn at(ms: u64) -> Now {
    Now { wall_ms: START + ms, mono_ms: 0 }
}

fn quota(window: Window, limit: u64, granted: bool) -> Quota {
    Quota { id: QuotaId(7), limit, window, granted, rollover: 0 }
}

fn five_hours() -> Window {
    Window::FirstUse { length_ms: 5 * HOUR }
}

fn month() -> Window {
    Window::Calendar { period: CalendarPeriod::Month, zone: "UTC".to_owned() }
}

fn hold(account: &mut Account, quota: &Quota, amount: u64, now: Now) -> Result<HeldLine, Lack> {
    let window = account.hold(&Line { quota: quota.clone(), amount, over: 0 }, None, now)?;
    Ok(HeldLine { quota: quota.id, window, amount, rule: Rule::of(quota), used: 0 })
}

fn settle(account: &mut Account, held: &HeldLine, used: u64, now: Now) {
    account.settle(&HeldLine { used, ..held.clone() }, now.wall_ms);
}

fn stands(account: &Account, quota: &Quota, now: Now) -> (u64, u64, u64) {
    let Standing { window, used, held, .. } = account.standing(quota, now).unwrap();
    (window, used, held)
}

#[test]
fn an_exchange_is_charged_in_the_window_it_was_admitted_in() {
    let (mut account, quota) = (Account::new("s"), quota(five_hours(), 100, false));
    let old = hold(&mut account, &quota, 10, at(0)).unwrap();
    let new = hold(&mut account, &quota, 100, at(5 * HOUR)).unwrap();
    assert_eq!((old.window, new.window), (START, START + 5 * HOUR));
    // The old window has room of its own, also for more of the same exchange.
    let more = Line { quota: quota.clone(), amount: 5, over: 0 };
    assert_eq!(account.hold(&more, Some(old.window), at(5 * HOUR)), Ok(START));
    let held = HeldLine { amount: 15, ..old };
    settle(&mut account, &held, 20, at(5 * HOUR));
    let reported = account.reported(quota.id).unwrap();
    let previous = reported.before[0];
    assert_eq!((previous.start, previous.used, previous.held), (START, 20, 0));
    assert_eq!((reported.current.used, reported.current.held), (0, 100));
}

/// A model that costs nothing holds nothing, and another may answer.
#[test]
fn a_window_is_kept_while_a_call_that_holds_nothing_runs_in_it() {
    for granted in [false, true] {
        let (mut account, quota) = (Account::new("s"), quota(month(), 100, granted));
        let grant = |at: Now| {
            let span = crate::quota::window::opening(&month(), at.wall_ms).unwrap();
            GrantLine { quota: quota.id, window: span.start, ends: span.ends, granted: 10, left: 90, owed: 0 }
        };
        let grants = [november_and(0), november_and(1)].map(grant);
        if granted {
            account.merge(&grants[0]);
        }
        let nothing = hold(&mut account, &quota, 0, november_and(0)).unwrap();
        if granted {
            account.entry_mut(quota.id, crate::quota::account::Kind::Windowed).unwrap().current.returned = 10;
            account.merge(&grants[1]);
        }
        let next = hold(&mut account, &quota, 7, november_and(1)).unwrap();
        settle(&mut account, &nothing, 5, november_and(1));
        settle(&mut account, &next, 7, november_and(1));
        let reported = account.reported(quota.id).unwrap();
        let before: Vec<_> = reported.before.iter().map(|period| (period.start, period.used)).collect();
        assert_eq!((before, reported.current.used), (vec![(nothing.window, 5)], 7), "granted: {granted}");
    }
}

/// A minute is short, and a stream is long.
#[test]
fn a_window_is_kept_while_something_is_held_in_it() {
    let (mut account, quota) = (Account::new("s"), quota(five_hours(), 100, false));
    let held = hold(&mut account, &quota, 10, at(0)).unwrap();
    for window in 1..8 {
        let other = hold(&mut account, &quota, 90, at(window * 5 * HOUR)).unwrap();
        settle(&mut account, &other, 90, at(window * 5 * HOUR));
    }
    let more = Line { quota: quota.clone(), amount: 5, over: 0 };
    assert_eq!(account.hold(&more, Some(held.window), at(35 * HOUR)), Ok(START));
    settle(&mut account, &HeldLine { amount: 15, ..held }, 30, at(35 * HOUR));
    assert_eq!(stands(&account, &quota, at(35 * HOUR)), (START + 35 * HOUR, 90, 0));
    let kept = |account: &Account| {
        let before = account.reported(quota.id).unwrap().before;
        before.into_iter().map(|period| ((period.start - START) / HOUR, period.used)).collect::<Vec<_>>()
    };
    assert_eq!(kept(&account), [(30, 90), (25, 90), (0, 30)]);
    let again = Account::decode("s", &account.encode()).unwrap();
    assert_eq!(again, account);
    // What it was charged there has still to be said, however soon the next begins; after that it goes.
    hold(&mut account, &quota, 1, at(40 * HOUR)).unwrap();
    assert_eq!(kept(&account), [(35, 90), (30, 90), (0, 30)]);
    hold(&mut account, &quota, 1, at(45 * HOUR)).unwrap();
    assert_eq!(kept(&account), [(40, 0), (35, 90)]);
}

#[test]
fn what_outlives_all_windows_that_are_kept_is_a_debt_of_the_current() {
    let (mut account, quota) = (Account::new("s"), quota(five_hours(), 100, false));
    let held: Vec<_> = (0..66).map(|window| hold(&mut account, &quota, 90, at(window * 5 * HOUR)).unwrap()).collect();
    let now = at(65 * 5 * HOUR);
    assert_eq!(Account::decode("s", &account.encode()).as_ref(), Some(&account));
    let more = Line { quota: quota.clone(), amount: 5, over: 0 };
    assert!(matches!(account.hold(&more, Some(held[0].window), now), Err(Lack::Exhausted(_))));
    settle(&mut account, &held[0], 30, now);
    assert_eq!(stands(&account, &quota, now), (now.wall_ms, 30, 90));
    // Used and held pass the limit together: debt, and nothing more fits.
    assert!(matches!(hold(&mut account, &quota, 1, now), Err(Lack::Busy(..))));
    assert_eq!(account.hold(&more, Some(held[1].window), now), Ok(held[1].window));
}

#[test]
fn a_first_use_window_that_came_to_nothing_is_closed() {
    let (mut account, quota) = (Account::new("s"), quota(five_hours(), 100, false));
    let never = hold(&mut account, &quota, 10, at(0)).unwrap();
    settle(&mut account, &never, 0, at(HOUR));
    assert_eq!(stands(&account, &quota, at(HOUR)), (0, 0, 0));
    let first = hold(&mut account, &quota, 10, at(2 * HOUR)).unwrap();
    assert_eq!(first.window, START + 2 * HOUR);
    settle(&mut account, &first, 10, at(2 * HOUR));
    assert_eq!(account.standing(&quota, at(3 * HOUR)).unwrap().resets_ms, START + 7 * HOUR);
    assert_eq!(account.standing(&quota, at(7 * HOUR)).unwrap().window, 0);
}

#[test]
fn windows_in_which_nothing_happened_push_none_out() {
    let (mut account, quota) = (Account::new("s"), quota(five_hours(), 100, false));
    let first = hold(&mut account, &quota, 10, at(0)).unwrap();
    for window in 1..4 {
        let held = hold(&mut account, &quota, 1, at(window * 5 * HOUR)).unwrap();
        account.undo(&held, at(window * 5 * HOUR).wall_ms);
    }
    settle(&mut account, &first, 7, at(16 * HOUR));
    assert_eq!(account.reported(quota.id).unwrap().before[0].used, 7);
}

#[test]
fn time_that_steps_back_charges_the_current_window() {
    for window in [five_hours(), month()] {
        let (mut account, quota) = (Account::new("s"), quota(window, 100, false));
        let held = hold(&mut account, &quota, 60, at(0)).unwrap();
        let back = Now { wall_ms: START - 40 * 24 * HOUR, mono_ms: 0 };
        let again = hold(&mut account, &quota, 40, back).unwrap();
        assert_eq!(again.window, held.window);
        assert!(matches!(hold(&mut account, &quota, 1, back), Err(Lack::Busy(..))));
    }
}

#[test]
fn a_zone_that_moves_opens_no_fresh_month() {
    let mut account = Account::new("s");
    hold(&mut account, &quota(month(), 100, false), 60, at(0)).unwrap();
    let moved = quota(Window::Calendar { period: CalendarPeriod::Month, zone: "Asia/Shanghai".to_owned() }, 100, false);
    // It is December in Shanghai, and still November in the month that was opened in UTC.
    let now = at(6 * 24 * HOUR - HOUR);
    assert_eq!(stands(&account, &moved, now).2, 60);
    assert_eq!(stands(&account, &moved, at(6 * 24 * HOUR)).2, 0);
}

#[test]
fn a_refusal_says_what_would_cure_it() {
    let (keys, mut shared) = (Keys::new("b"), Shared::default());
    let quota = quota(month(), 1_000, true);
    let mut account = Account::new("s");
    assert_eq!(hold(&mut account, &quota, 5, at(0)), Err(Lack::NeedsGrant { missing: 5 }));
    assert_eq!(account.standing(&quota, at(0)), None);
    let line = |granted, left| GrantLine {
        quota: quota.id,
        window: START - 24 * 24 * HOUR,
        ends: START + 6 * 24 * HOUR,
        granted,
        left,
        owed: 0,
    };
    let mut granting = |granted, left| {
        grant(&keys, "s", &[line(granted, left)], &mut shared).unwrap();
        read_account(&keys, "s", &mut shared).unwrap().unwrap()
    };
    let mut account = granting(10, 90);
    let held = hold(&mut account, &quota, 8, at(0)).unwrap();
    assert_eq!(hold(&mut account, &quota, 5, at(0)), Err(Lack::NeedsGrant { missing: 3 }));
    // Others hold what this one needs, and the ledger has no more: rate, not exhausted.
    let mut account = granting(10, 0);
    hold(&mut account, &quota, 8, at(0)).unwrap();
    assert!(matches!(hold(&mut account, &quota, 5, at(0)), Err(Lack::Busy(..))));
    settle(&mut account, &held, 8, at(0));
    assert!(matches!(hold(&mut account, &quota, 5, at(0)), Err(Lack::Exhausted(_))));
    // A clock that steps back, or a ledger whose clock is ahead: the month that is known stays.
    assert!(matches!(hold(&mut account, &quota, 5, Now { wall_ms: 1, mono_ms: 0 }), Err(Lack::Exhausted(_))));
    // The next month is unknown until the ledger says.
    assert!(matches!(hold(&mut account, &quota, 1, at(6 * 24 * HOUR)), Err(Lack::NeedsGrant { .. })));
    // An answer that was overtaken changes nothing: neither the amount nor what is left.
    let before = granting(10, 0);
    assert_eq!(granting(4, 50), before);
}

#[test]
fn a_granted_first_use_window_that_came_to_nothing_needs_a_new_grant() {
    let (keys, mut shared) = (Keys::new("b"), Shared::default());
    let quota = quota(five_hours(), 1_000, true);
    let opened = |window| GrantLine { quota: quota.id, window, ends: window + 5 * HOUR, granted: 50, left: 0, owed: 0 };
    grant(&keys, "s", &[opened(START)], &mut shared).unwrap();
    let mut account = read_account(&keys, "s", &mut shared).unwrap().unwrap();
    let held = hold(&mut account, &quota, 10, at(1)).unwrap();
    account.undo(&held, at(1).wall_ms);
    let held = hold(&mut account, &quota, 10, at(1)).expect("a refusal closes nothing");
    settle(&mut account, &held, 0, at(2));
    assert!(account.reported(quota.id).unwrap().closed);
    assert!(matches!(hold(&mut account, &quota, 1, at(3)), Err(Lack::NeedsGrant { .. })));
    account.merge(&opened(START + 4));
    assert_eq!(hold(&mut account, &quota, 1, at(5)).unwrap().window, START + 4);
}

#[test]
fn what_is_larger_than_a_bucket_never_fits_and_what_runs_only_counts() {
    let mut account = Account::new("s");
    let bucket = quota(Window::Bucket { period_ms: 60_000, burst: 100 }, 100, false);
    assert!(matches!(hold(&mut account, &bucket, 101, at(0)), Err(Lack::Exhausted(_))));
    hold(&mut account, &bucket, 100, at(0)).unwrap();
    assert!(matches!(hold(&mut account, &bucket, 50, at(0)), Err(Lack::Busy(_, Some(30_000)))));
    assert_eq!(account.standing(&bucket, at(0)).unwrap().resets_ms, START + 60_000);
    // The policy made something else of it: it begins anew, beside what the old one holds.
    let live = quota(Window::Concurrent, 2, false);
    let held = hold(&mut account, &live, 1, at(0)).unwrap();
    hold(&mut account, &live, 1, at(0)).unwrap();
    assert!(matches!(hold(&mut account, &live, 1, at(0)), Err(Lack::Busy(_, None))));
    settle(&mut account, &held, 1, at(0));
    assert_eq!(stands(&account, &live, at(0)), (0, 0, 1));
}

/// A policy that makes a bucket of a fund is rolled out and rolled back.
#[test]
fn a_fund_that_was_something_else_for_a_while_is_not_granted_twice() {
    let (mut account, fund) = (Account::new("s"), quota(month(), 1_000, true));
    let granted = GrantLine { quota: fund.id, window: START, ends: START + HOUR, granted: 100, left: 0, owed: 0 };
    account.merge(&granted);
    let held = hold(&mut account, &fund, 80, at(0)).unwrap();
    let running = hold(&mut account, &fund, 10, at(0)).unwrap();
    settle(&mut account, &held, 80, at(0));
    let bucket = quota(Window::Bucket { period_ms: 60_000, burst: 100 }, 100, false);
    hold(&mut account, &bucket, 100, at(1)).unwrap();
    settle(&mut account, &running, 10, at(1));
    // The ledger has granted no more than before, and says so again.
    account.merge(&granted);
    assert_eq!(stands(&account, &fund, at(2)), (START, 90, 0));
    assert!(matches!(hold(&mut account, &fund, 11, at(2)), Err(Lack::Exhausted(_))));
    hold(&mut account, &fund, 10, at(2)).unwrap();
    assert_eq!(account.standing(&bucket, at(1)).unwrap().used, 100, "an answer of the ledger empties no bucket");
}

#[test]
fn a_hold_may_pass_what_there_is_by_its_overage() {
    let windows = [
        month(),
        Window::Lifetime,
        Window::Concurrent,
        Window::Bucket { period_ms: 60_000, burst: 100 },
        Window::Sliding { length_ms: 60_000 },
    ];
    for window in windows {
        let (mut account, quota) = (Account::new("s"), quota(window, 100, false));
        let mut with = |amount, over| account.hold(&Line { quota: quota.clone(), amount, over }, None, at(0));
        with(100, 0).unwrap();
        assert!(matches!(with(1, 0), Err(Lack::Busy(..))));
        with(20, 20).unwrap();
        assert!(with(1, 20).is_err(), "an overage is a bound, not a discount");
        with(1_000, u64::MAX).unwrap();
        let debt = account.standing(&quota, at(0)).unwrap();
        assert_eq!((debt.used + debt.held, debt.granted, debt.free()), (1_120, 100, 0));
    }
    // A grant that is spent may be passed, too; one that nobody has given yet is asked for.
    let (mut account, fund) = (Account::new("s"), quota(month(), 100, true));
    let line = Line { quota: fund.clone(), amount: 30, over: 20 };
    assert_eq!(account.hold(&line, None, at(0)), Err(Lack::NeedsGrant { missing: 30 }));
    account.merge(&GrantLine { quota: fund.id, window: START, ends: START + HOUR, granted: 10, left: 0, owed: 0 });
    assert_eq!(account.hold(&line, None, at(0)), Ok(START));
}

#[test]
fn a_limit_that_changes_counts_at_once() {
    let windows = [
        month(),
        Window::Concurrent,
        Window::Bucket { period_ms: u64::MAX, burst: 0 },
        Window::Sliding { length_ms: HOUR },
    ];
    for window in windows {
        let of = |limit| {
            let window = match &window {
                Window::Bucket { period_ms, .. } => Window::Bucket { period_ms: *period_ms, burst: limit },
                other => other.clone(),
            };
            quota(window, limit, false)
        };
        let mut account = Account::new("s");
        hold(&mut account, &of(100), 60, at(0)).unwrap();
        assert!(hold(&mut account, &of(50), 1, at(1)).is_err());
        assert_eq!(account.standing(&of(50), at(1)).unwrap().free(), 0);
        hold(&mut account, &of(200), 140, at(2)).unwrap();
        assert!(hold(&mut account, &of(200), 1, at(3)).is_err());
    }
}

fn rolling(limit: u64, rollover: u64) -> Quota {
    Quota { rollover, ..quota(month(), limit, false) }
}

/// The first moment of a month, counted from November 2026.
fn november_and(months: u64) -> Now {
    let first = jiff::civil::date(2026, 11, 1).checked_add(jiff::Span::new().months(months as i64)).unwrap();
    let first = first.to_zoned_datetime(jiff::tz::TimeZone::UTC).unwrap();
    Now { wall_ms: first.timestamp().as_millisecond() as u64, mono_ms: 0 }
}

#[test]
fn what_is_unused_goes_over_into_the_next_window_up_to_a_cap() {
    let (mut account, quota) = (Account::new("s"), rolling(100, 150));
    let spent = hold(&mut account, &quota, 70, november_and(0)).unwrap();
    settle(&mut account, &spent, 60, november_and(0));
    let granted = |account: &Account, now| account.standing(&quota, now).unwrap().granted;
    assert_eq!(granted(&account, november_and(0)), 100);
    assert_eq!(granted(&account, november_and(1)), 140);
    // A month that nobody touched adds its own; the cap is the cap.
    assert_eq!(granted(&account, november_and(2)), 240);
    assert_eq!(granted(&account, november_and(3)), 250);
    assert_eq!(granted(&account, november_and(40)), 250);
    hold(&mut account, &quota, 240, november_and(2)).unwrap();
    assert!(hold(&mut account, &quota, 1, november_and(2)).is_err());
    // What is still held is spent.
    assert_eq!(granted(&account, november_and(3)), 100);
    // A cap that is lowered counts at once, and so does none at all.
    let capped = |rollover| account.standing(&rolling(100, rollover), november_and(2)).unwrap().granted;
    assert_eq!((capped(50), capped(0)), (150, 100));
}

#[test]
fn what_has_gone_over_cannot_be_spent_where_it_came_from() {
    let (mut account, quota) = (Account::new("s"), rolling(100, 50));
    let old = hold(&mut account, &quota, 10, november_and(0)).unwrap();
    hold(&mut account, &quota, 150, november_and(1)).unwrap();
    // 100 less 10 held: 50 have gone over, 40 are left.
    let more = |amount| Line { quota: quota.clone(), amount, over: 0 };
    assert!(account.clone().hold(&more(41), Some(old.window), november_and(1)).is_err());
    account.hold(&more(40), Some(old.window), november_and(1)).unwrap();
    assert!(hold(&mut account, &quota, 1, november_and(1)).is_err());
}

#[test]
fn what_goes_over_twice_is_noticed() {
    use crate::quota::fault::{Fault, with};
    let spent = with(Some(Fault::CarriedIsKept), || {
        std::panic::catch_unwind(what_has_gone_over_cannot_be_spent_where_it_came_from)
    });
    assert!(spent.is_err());
}

#[test]
fn a_first_use_window_that_came_to_nothing_passes_on_nothing_of_its_own() {
    let quota = Quota { rollover: 30, ..quota(five_hours(), 100, false) };
    let mut account = Account::new("s");
    let never = hold(&mut account, &quota, 10, at(0)).unwrap();
    settle(&mut account, &never, 0, at(1));
    assert_eq!(account.standing(&quota, at(2)).unwrap().granted, 100);
    let once = hold(&mut account, &quota, 10, at(2)).unwrap();
    settle(&mut account, &once, 90, at(3));
    // Windows that nobody opened add nothing.
    assert_eq!(account.standing(&quota, at(50 * HOUR)).unwrap().granted, 110);
}

#[test]
fn a_term_pays_from_its_beginning_to_its_end() {
    let term = Window::Term { from_ms: START + HOUR, until_ms: START + 3 * HOUR };
    for granted in [false, true] {
        let (mut account, quota) = (Account::new("s"), quota(term.clone(), 100, granted));
        let line =
            GrantLine { quota: quota.id, window: START + HOUR, ends: START + 3 * HOUR, granted: 100, left: 0, owed: 0 };
        if granted {
            account.merge(&line);
        }
        let resets = |lack| match lack {
            Err(Lack::Exhausted(standing)) => (standing.free(), standing.resets_ms),
            other => panic!("{other:?}"),
        };
        let mut early = if granted { account.clone() } else { Account::new("s") };
        assert_eq!(resets(hold(&mut early, &quota, 1, at(HOUR - 1)).map(|_| ())), (0, START + HOUR), "{granted}");
        let held = hold(&mut account, &quota, 60, at(HOUR)).unwrap();
        assert_eq!(account.standing(&quota, at(2 * HOUR)).unwrap().resets_ms, 0);
        assert_eq!(resets(hold(&mut account, &quota, 1, at(3 * HOUR)).map(|_| ())), (0, 0));
        // What was admitted in it is charged to it, also later, and may go on.
        let more = Line { quota: quota.clone(), amount: 40, over: 0 };
        account.hold(&more, Some(held.window), at(3 * HOUR)).unwrap();
        settle(&mut account, &HeldLine { amount: 100, ..held }, 90, at(4 * HOUR));
        assert_eq!(account.reported(quota.id).unwrap().current.used, 90);
        if !granted {
            // A term that is prolonged goes on with what is used.
            let longer =
                Quota { window: Window::Term { from_ms: START + HOUR, until_ms: START + 9 * HOUR }, ..quota.clone() };
            assert_eq!(account.standing(&longer, at(5 * HOUR)).unwrap().free(), 10);
        }
    }
}

#[test]
fn a_lifetime_never_begins_anew() {
    let (mut account, quota) = (Account::new("s"), quota(Window::Lifetime, 100, false));
    let held = hold(&mut account, &quota, 100, Now { wall_ms: 1, mono_ms: 0 }).unwrap();
    settle(&mut account, &held, 100, Now { wall_ms: 1, mono_ms: 0 });
    let later = Now { wall_ms: u64::MAX - 1, mono_ms: 0 };
    assert!(matches!(hold(&mut account, &quota, 1, later), Err(Lack::Exhausted(Standing { resets_ms: 0, .. }))));
}

#[test]
fn a_sliding_window_lets_go_of_what_has_slid_out() {
    let (mut account, quota) = (Account::new("s"), quota(Window::Sliding { length_ms: HOUR }, 100, false));
    let slice = HOUR / 60;
    let first = hold(&mut account, &quota, 60, at(0)).unwrap();
    let second = hold(&mut account, &quota, 40, at(HOUR / 2)).unwrap();
    assert_eq!((first.window, first.begun()), (START, 0));
    let refused = hold(&mut account, &quota, 50, at(HOUR / 2)).unwrap_err();
    assert!(matches!(refused, Lack::Busy(_, Some(wait)) if wait == HOUR / 2 + slice - 1), "{refused:?}");
    let full = account.standing(&quota, at(HOUR / 2)).unwrap();
    assert_eq!((full.used, full.held), (0, 100), "all of it is held, and none used");
    let fits = |amount| account.standing_for(&quota, amount, at(HOUR / 2)).unwrap().resets_ms;
    assert_eq!([fits(60), fits(61)], [HOUR, HOUR + HOUR / 2].map(|ends| START + ends + slice - 1));
    assert!(matches!(hold(&mut account, &quota, 101, at(0)), Err(Lack::Exhausted(_))));
    // What was not used goes back into the slice in which it was held, and leaves with it.
    settle(&mut account, &first, 20, at(HOUR / 2));
    let standing = account.standing(&quota, at(HOUR / 2)).unwrap();
    assert_eq!((standing.used, standing.held, standing.free()), (20, 40, 40));
    assert_eq!(standing.resets_ms, START + HOUR / 2 + slice - 1 + HOUR);
    let standing = account.standing(&quota, at(HOUR + slice)).unwrap();
    assert_eq!((standing.used, standing.held), (0, 40));
    // After that there is nothing to give back; what was used beyond the hold is charged when that is known.
    let mut again = account.clone();
    again.undo(&HeldLine { amount: 20, ..first }, at(HOUR + slice).wall_ms);
    assert_eq!(again.standing(&quota, at(HOUR + slice)).unwrap().free(), 60);
    settle(&mut account, &second, 75, at(HOUR + slice));
    assert_eq!(account.standing(&quota, at(HOUR + slice)).unwrap().used, 75);
    assert_eq!(account.standing(&quota, at(2 * HOUR)).unwrap().used, 35);
    let undone = hold(&mut account, &quota, 10, at(2 * HOUR)).unwrap();
    account.undo(&undone, at(2 * HOUR).wall_ms);
    assert_eq!(account.standing(&quota, at(2 * HOUR)).unwrap().used, 35);
}
