//! What is searched: the case of the design's model, variants of it, and seeded faults.

use std::collections::BTreeSet;
use std::num::NonZero;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use super::{Broken, Case, Job, NOW, Seen, search};
use crate::now::Now;
use crate::quota::edit::PATIENCE;
use crate::quota::fault::{self, Fault};
use crate::quota::{CalendarPeriod, Quota, QuotaId, Window};

/// A month, and on the second level a bucket of the same size and a number of exchanges at once.
fn months(level: usize, limit: u64) -> Vec<(Quota, u64)> {
    let quota =
        |name: &str, limit, window| Quota { id: QuotaId::of("p", name), limit, window, granted: false, rollover: 0 };
    let mut quotas =
        vec![(quota("month", limit, Window::Calendar { period: CalendarPeriod::Month, zone: "UTC".to_owned() }), 1)];
    if level == 1 {
        quotas.push((quota("bucket", 10 * limit, Window::Bucket { period_ms: 60_000, burst: 10 * limit }), 10));
        quotas.push((quota("live", 2, Window::Concurrent), 0));
    }
    quotas
}

/// The case of the design's model. On level 0 there is room for both VMs' holds, on level 1 only for one.
fn full(claims: &[u16]) -> Case {
    let job = |hold, more, uses| Job { slot: 0, hold, more, uses };
    Case {
        limits: [4, 3],
        jobs: vec![vec![job(1, 1, 2), job(1, 0, 1)], vec![job(2, 0, 2)]],
        claims: claims.to_vec(),
        after: Vec::new(),
        granted: None,
        says: Vec::new(),
        acknowledged: Vec::new(),
        over: 0,
        broken: None,
        clocks: vec![[NOW; 2]; 4],
        quotas: months,
    }
}

/// The same with one exchange a VM and no extension: small enough for two claimers in the ordinary tests.
fn small(claims: &[u16]) -> Case {
    let job = |hold, uses| Job { slot: 0, hold, more: 0, uses };
    Case { jobs: vec![vec![job(2, 1)], vec![job(2, 2)]], ..full(claims) }
}

/// First-use windows that two VMs open at different moments.
fn first_use(_: usize, limit: u64) -> Vec<(Quota, u64)> {
    let window = Window::FirstUse { length_ms: 18_000_000 };
    vec![(Quota { id: QuotaId::of("p", "five hours"), limit, window, granted: false, rollover: 0 }, 1)]
}

/// Months without a bucket, which would drain from one to the next.
fn rollover(level: usize, limit: u64) -> Vec<(Quota, u64)> {
    let mut quotas = months(level, limit);
    quotas.retain(|(quota, _)| !matches!(quota.window, Window::Bucket { .. }));
    quotas
}

/// A month that the ledger grants.
fn granted(level: usize, limit: u64) -> Vec<(Quota, u64)> {
    let mut quotas = months(level, limit);
    quotas[0].0.granted = true;
    quotas
}

fn after(ms: u64) -> Now {
    Now { wall_ms: NOW.wall_ms + ms, ..NOW }
}

/// Cases beside the model's: windows that move under running operations, grants that arrive at any moment, and a
/// claimer that goes on to use what it claimed.
fn variants(base: fn(&[u16]) -> Case, claims: &[u16]) -> [(&'static str, Case); 4] {
    let job = Job { slot: 0, hold: 1, more: 0, uses: 1 };
    let month = 31 * 86_400_000;
    [
        ("first use", Case { quotas: first_use, clocks: vec![[NOW; 2], [after(3); 2], [after(5); 2]], ..base(claims) }),
        (
            "rollover",
            Case { quotas: rollover, clocks: vec![[NOW; 2], [after(month); 2], [after(month); 2]], ..base(claims) },
        ),
        ("grants", Case { quotas: granted, granted: Some([2, 2]), says: vec![(0, 4), (1, 3)], ..base(claims) }),
        ("reuse", Case { after: vec![job], ..base(claims) }),
    ]
}

/// What may happen beside the model's case: streams that use more than they hold, overage, a window that passes
/// on what it has left while clocks step back into it, sliding windows, a grant that arrives twice and then late, an
/// acknowledgement that is late and doubled.
fn hostile(claims: &[u16]) -> Vec<(&'static str, Case)> {
    let job = |hold, uses| Job { slot: 0, hold, more: 0, uses };
    let month = 31 * 86_400_000;
    let small = small(claims);
    let two = |first, second| vec![vec![first], vec![second]];
    vec![
        ("beyond the hold", Case { jobs: two(job(2, 3), job(1, 4)), limits: [3, 3], ..small.clone() }),
        (
            "overage",
            Case {
                jobs: vec![vec![job(1, 1), job(1, 1)], vec![job(1, 1)]],
                limits: [1, 1],
                over: 1,
                quotas: alone,
                ..small.clone()
            },
        ),
        (
            "carried",
            Case {
                quotas: carried,
                // The second clock is a month ahead, and the first steps there and the second back.
                clocks: vec![[NOW, after(month)], [after(month), NOW], [after(month); 2]],
                jobs: vec![vec![Job { more: 1, ..job(2, 3) }, job(2, 2)], vec![job(4, 4)]],
                limits: [3, 3],
                ..small.clone()
            },
        ),
        (
            "debt",
            Case {
                quotas: alone,
                clocks: vec![[NOW, after(month)], [NOW, after(month)], [after(month); 2]],
                jobs: vec![vec![job(1, 3), job(1, 1)], vec![job(1, 2)]],
                limits: [2, 2],
                ..small.clone()
            },
        ),
        ("sliding", Case { quotas: sliding, ..small.clone() }),
        (
            "sliding in slices",
            Case {
                quotas: sliding,
                clocks: vec![[NOW; 2], [after(120_000); 2], [after(120_000); 2]],
                jobs: two(job(2, 1), job(1, 0)),
                ..small.clone()
            },
        ),
        ("one at a time", Case { quotas: one_at_a_time, limits: [4, 4], ..small.clone() }),
        ("a small bucket", Case { quotas: small_bucket, ..small.clone() }),
        (
            "grants and acknowledgements that come twice",
            Case {
                quotas: granted,
                granted: Some([2, 2]),
                says: vec![(0, 4), (0, 4), (0, 2)],
                acknowledged: vec![0],
                after: vec![job(1, 1)],
                jobs: vec![vec![job(2, 1), job(1, 1)], vec![job(2, 2)]],
                ..small
            },
        ),
    ]
}

/// A month of which all that is left goes over.
fn carried(_: usize, limit: u64) -> Vec<(Quota, u64)> {
    let window = Window::Calendar { period: CalendarPeriod::Month, zone: "UTC".to_owned() };
    vec![(Quota { id: QuotaId::of("p", "month"), limit, window, granted: false, rollover: limit }, 1)]
}

/// A sliding hour, in which all that is searched happens.
fn sliding(_: usize, limit: u64) -> Vec<(Quota, u64)> {
    let window = Window::Sliding { length_ms: 3_600_000 };
    vec![(Quota { id: QuotaId::of("p", "hour"), limit, window, granted: false, rollover: 0 }, 1)]
}

/// A month a level, which has room for both, and on the second level one exchange at a time.
fn one_at_a_time(level: usize, limit: u64) -> Vec<(Quota, u64)> {
    let mut quotas = alone(level, limit);
    if level == 1 {
        let window = Window::Concurrent;
        quotas.push((Quota { id: QuotaId::of("p", "live"), limit: 1, window, granted: false, rollover: 0 }, 0));
    }
    quotas
}

/// A bucket on the second level, with room for one of both.
fn small_bucket(level: usize, limit: u64) -> Vec<(Quota, u64)> {
    if level == 0 {
        return alone(level, limit);
    }
    let window = Window::Bucket { period_ms: 60_000, burst: limit };
    vec![(Quota { id: QuotaId::of("p", "bucket"), limit, window, granted: false, rollover: 0 }, 1)]
}

/// Three VMs, one exchange each, on two levels of which the second has room for two of them.
fn three(claims: &[u16]) -> Case {
    let job = |hold, uses| Job { slot: 0, hold, more: 0, uses };
    let jobs = vec![vec![job(1, 1)], vec![job(1, 2)], vec![job(1, 1)]];
    Case { limits: [3, 2], jobs, quotas: alone, ..full(claims) }
}

/// One month a level.
fn alone(_: usize, limit: u64) -> Vec<(Quota, u64)> {
    let window = Window::Calendar { period: CalendarPeriod::Month, zone: "UTC".to_owned() };
    vec![(Quota { id: QuotaId::of("p", "month"), limit, window, granted: false, rollover: 0 }, 1)]
}

/// The same without what the second VM runs.
fn one_vm(case: Case) -> Case {
    Case { jobs: vec![case.jobs[0].clone(), Vec::new()], ..case }
}

/// Cases that are small enough to be searched in every order.
pub(super) fn few() -> Vec<(&'static str, Case)> {
    let months = [("months", small(&[])), ("months, claimed", small(&[0]))];
    let claimed = hostile(&[0]).into_iter().filter(|(_, case)| case.acknowledged.is_empty());
    let job = Job { slot: 0, hold: 1, more: 0, uses: 1 };
    let again = [&[0][..], &[0, 0]].map(|claims| ("reuse, one VM", Case { after: vec![job], ..one_vm(small(claims)) }));
    let late = Case { acknowledged: vec![0], after: vec![job], ..one_vm(small(&[0])) };
    let more = again.into_iter().chain([("late acknowledgements, one VM", late), ("three VMs", three(&[]))]);
    months.into_iter().chain(hostile(&[])).chain(claimed).chain(more).collect()
}

fn holds(name: &str, case: &Case) -> BTreeSet<&'static str> {
    let (seen, result) = search(case);
    let Seen { states, steps, reached } = seen;
    println!("{name}, claims on VM slots {:?}: {states} states, {steps} steps: {result:?}", case.claims);
    assert_eq!(result, Ok(()), "{name}, claims on {:?}", case.claims);
    reached
}

const REACHED: [&str; 13] = [
    "a window moves under a hold",
    "a hold is fenced",
    "a hold is taken back",
    "a hold of the dead was committed or not",
    "a hold of the dead is undone",
    "a lost exchange is ended",
    "a settle is fenced",
    "a settle of the dead is finished",
    "an admission is refused",
    "an extension is held",
    "an extension is refused",
    "an acknowledgement comes too late",
    "an acknowledgement is faster than its exchange",
];

#[test]
fn no_interleaving_breaks_an_account() {
    let mut reached = BTreeSet::new();
    for claims in [&[][..], &[0]] {
        reached.append(&mut holds("months", &full(claims)));
    }
    holds("months, one VM", &one_vm(small(&[0, 0])));
    holds("months, small", &small(&[0, 1]));
    for (name, case) in variants(small, &[0]) {
        reached.append(&mut holds(name, &case));
    }
    for (name, case) in hostile(&[]).into_iter().chain(hostile(&[0])) {
        reached.append(&mut holds(name, &case));
    }
    reached.append(&mut holds("three VMs", &three(&[])));
    for what in REACHED {
        assert!(reached.contains(what), "never in all interleavings: {what}; only {reached:?}");
    }
}

/// Three VMs, and all that may happen at once: a stream that uses more than it holds, grants that come twice and late,
/// an acknowledgement that is late and doubled, and a clock that is a month behind.
fn three_hostile(claims: &[u16]) -> Case {
    let month = 31 * 86_400_000;
    let mut case = three(claims);
    case.jobs[1][0].uses = 3;
    Case {
        quotas: granted_alone,
        granted: Some([2, 1]),
        says: vec![(0, 3), (0, 3), (1, 2), (1, 1)],
        acknowledged: vec![0],
        clocks: vec![[NOW; 2], [after(1); 2], [before(month); 2], [NOW; 2]],
        ..case
    }
}

/// One month a level that the ledger grants.
fn granted_alone(level: usize, limit: u64) -> Vec<(Quota, u64)> {
    let mut quotas = alone(level, limit);
    quotas[0].0.granted = true;
    quotas
}

fn before(ms: u64) -> Now {
    Now { wall_ms: NOW.wall_ms - ms, ..NOW }
}

/// All that is searched by the make target, in the order in which it is begun: what takes longest first.
fn at_length() -> Vec<(&'static str, Case)> {
    let months = [&[][..], &[0], &[0, 0], &[0, 1]].map(|claims| ("months", full(claims)));
    let variants = [variants(full, &[0]), variants(small, &[0, 0]), variants(small, &[0, 1])];
    let hostile = [&[0, 0][..], &[0, 1]].into_iter().flat_map(hostile);
    let claims = [&[0, 1][..], &[0, 0], &[0], &[]];
    let all_at_once = claims.map(|claims| ("three VMs, hostile", three_hostile(claims)));
    let three = claims.map(|claims| ("three VMs", three(claims)));
    let all = all_at_once.into_iter().chain(three).chain(hostile).chain(variants.into_iter().flatten()).chain(months);
    // By name: `SEARCH=three` is all that has `three` in its name.
    let wanted = std::env::var("SEARCH").unwrap_or_default();
    all.filter(|(name, _)| name.contains(&wanted)).collect()
}

#[test]
#[ignore = "minutes of each core: run by its own make target"]
fn no_interleaving_of_the_full_case_breaks_an_account() {
    let (cases, next) = (at_length(), AtomicUsize::new(0));
    assert!(!cases.is_empty(), "no case has `SEARCH` in its name");
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some((name, case)) = cases.get(next.fetch_add(1, Relaxed)) {
                    holds(name, case);
                }
            });
        }
    });
    println!(
        "not covered: three VMs of which one has more than one exchange, or an extension; more than two exchanges a VM, \
         one extension each, or two at a time; more than two levels or claimers; what is given back to the ledger under \
         a hold; operations that give up after {PATIENCE} lost swaps; stores that lose what they have acknowledged. \
         `quota::crowd` and `make simulate` try these at random."
    );
}

/// Every fault that can be seeded, and where.
const FAULTS: [(Option<Fault>, Option<Broken>); 14] = [
    (None, Some(Broken::BlindWrite)),
    (Some(Fault::NoGenerationCheck), None),
    (Some(Fault::NoRestampOfSlot), None),
    (Some(Fault::NoStampOfUntouchedLevels), None),
    (Some(Fault::UndoKeepsNumber), None),
    (Some(Fault::ForwardIgnoresNumber), None),
    (Some(Fault::CommitBeforeAccounts), None),
    (Some(Fault::RollbackForgetsALevel), None),
    (Some(Fault::LostNotEnded), None),
    (Some(Fault::LostIsForgotten), None),
    (None, Some(Broken::FreedBeforeSent)),
    (None, Some(Broken::InsertRace)),
    (Some(Fault::SettleKeepsHeld), None),
    (Some(Fault::AdmissionIgnoresHeld), None),
];

#[test]
fn the_search_is_not_blind() {
    for (fault, broken) in FAULTS {
        let caught = [&[][..], &[0], &[0, 0], &[0, 1]].iter().find_map(|claims| {
            let case = Case { broken, ..full(claims) };
            let (seen, result) = fault::with(fault, || search(&case));
            let name = fault.map_or_else(|| format!("{:?}", broken), |fault| format!("{fault:?}"));
            println!("{name}, claims on {claims:?}: {} states, {} steps: {result:?}", seen.states, seen.steps);
            result.err()
        });
        assert!(caught.is_some(), "{fault:?} {broken:?} was not caught");
    }
    for (fault, name) in [
        (Fault::CarriedIsKept, "carried"),
        (Fault::OverCountsAnew, "overage"),
        (Fault::DebtIsForgotten, "debt"),
        (Fault::LiveIsNotCounted, "one at a time"),
        (Fault::SlidingForgetsSettled, "sliding"),
        (Fault::RefundIsLate, "sliding in slices"),
    ] {
        let (_, case) = hostile(&[]).into_iter().find(|(known, _)| *known == name).unwrap();
        let (seen, result) = fault::with(Some(fault), || search(&case));
        println!("{fault:?}, {name}: {} states, {} steps: {result:?}", seen.states, seen.steps);
        assert!(result.is_err(), "{fault:?} was not caught");
    }
}
