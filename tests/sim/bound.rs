//! What is charged, beside what `farebox explain` prints: no quota is passed further than by that, on any level.

use std::collections::{BTreeMap, BTreeSet};

use farebox::engine::overshoot::{self, Bound, More};
use farebox::policy::bundle::{HoldSize, PlanQuota, StreamHold};
use farebox::quota::{Window, mean_length};
use farebox::report::id::exchange_id;
use farebox::report::wire::Record;
use farebox::sim::world::{Seen, World};
use serde_json::Value;

/// What a quota may be passed by.
struct Printed {
    /// Micro-units in each process.
    each_process: u64,
    each_call: Vec<More>,
    /// As far as calls go, or at a pace of its own.
    unbounded: bool,
}

fn printed(world: &World, quota: &PlanQuota) -> Printed {
    let bundle = world.bundle();
    let mut printed = Printed { each_process: 0, each_call: Vec::new(), unbounded: false };
    let plans = bundle.seats.iter().filter_map(|seat| bundle.plan_for(seat));
    for way in plans.flat_map(|plan| overshoot::of(bundle, plan, quota)) {
        match way.by {
            Bound::EachProcess(micro) => printed.each_process = printed.each_process.max(micro),
            Bound::EachCall(more) => printed.each_call.push(more),
            Bound::Pace(..) | Bound::Unbounded => printed.unbounded = true,
        }
    }
    printed
}

/// Whether a call did what a way of passing a quota speaks of.
fn did(more: More, record: &Record, seen: Option<&Seen>) -> bool {
    let truth = seen.and_then(|seen| seen.upstream.as_ref());
    match more {
        More::Unexpected => true,
        More::Tools => record.tool_calls > 1,
        More::Served => !record.served.is_empty() && record.served != *sent(record),
        More::Unseen => record.usage.output > record.delivered,
        More::PastLimit => truth.is_some_and(|truth| {
            let body: Value = serde_json::from_slice(&truth.body).unwrap_or_default();
            let choices = body["n"].as_u64().unwrap_or(1);
            truth.limit.is_none_or(|limit| record.usage.output > limit * choices)
        }),
        // The stand-in counts prompts as we do, and makes nothing but words.
        More::Vocabulary | More::Untold | More::Unread | More::Thoughts => false,
    }
}

fn sent(record: &Record) -> &String {
    if record.sent.is_empty() { &record.model } else { &record.sent }
}

/// A charge of one quota, and whose.
struct Charged<'r> {
    record: &'r Record,
    epoch: u64,
    amount: u64,
    /// It may have come to more than was held of it, and in which way.
    beyond: bool,
}

/// In how many windows a quota was passed, as is printed, and how many came after such a one; or what is wrong with what the
/// records charge. `stepped`: somebody set a clock back, so that times of records do not tell what was before what.
pub fn check(
    world: &World,
    records: &[Record],
    seen: &BTreeMap<String, Seen>,
    stepped: bool,
) -> Result<(u64, u64), String> {
    let (mut passed, mut owed) = (0, 0);
    let bundle = world.bundle();
    let known = || bundle.plans.iter().flat_map(|plan| &plan.quotas).chain(bundle.packs.iter().map(|pack| &pack.fund));
    let charged: BTreeSet<(&String, &String)> =
        records.iter().flat_map(|record| &record.charges).map(|charge| (&charge.subject, &charge.quota)).collect();
    for (subject, name) in charged {
        let Some(quota) = known().find(|quota| quota.ledger == *name) else { continue };
        let ways = printed(world, quota);
        let sliding = matches!(quota.quota.window, Window::Sliding { .. } | Window::Bucket { .. });
        let streams = bundle.plans.iter().any(|plan| plan.hold.stream != StreamHold::Full);
        // A stream in slices is charged to a sliding window as it goes on, which its record does not tell.
        if ways.unbounded || quota.quota.window == Window::Concurrent || sliding && (streams || stepped) {
            continue;
        }
        // Of each window; and where each process has the limit for itself, of each process.
        let mut windows: BTreeMap<(u64, u64), Vec<Charged<'_>>> = BTreeMap::new();
        for record in records {
            let Some(epoch) = exchange_id(&record.id).map(|id| id.by.epoch) else { continue };
            let charges = record.charges.iter().filter(|charge| charge.subject == *subject && charge.quota == *name);
            for charge in charges.filter(|charge| charge.amount > 0) {
                let beyond = ways.each_call.iter().any(|more| did(*more, record, seen.get(&record.id)));
                let key = (charge.window, if overshoot::is_shared(quota) { 0 } else { epoch });
                windows.entry(key).or_default().push(Charged { record, epoch, amount: charge.amount, beyond });
            }
        }
        for ((window, _), charges) in &windows {
            passed += judge(quota, &ways, charges, stepped)
                .map_err(|why| format!("`{name}` of {subject} in window {window}: {why}"))?;
        }
        if quota.begins_anew() && !stepped {
            let epochs: BTreeSet<u64> = windows.values().flatten().map(|of| of.epoch).collect();
            // What several processes share the ledger reckons, and it hears of what the others use a little later.
            for epoch in epochs.iter().filter(|_| epochs.len() == 1 || !overshoot::is_shared(quota)) {
                let of_epoch = |charges: &&Vec<Charged<'_>>| charges.iter().any(|of| of.epoch == *epoch);
                let windows = windows.iter().filter(|(_, charges)| of_epoch(charges));
                let windows: Vec<_> = windows.map(|((window, _), charges)| (*window, charges)).collect();
                owed += together(quota, &ways, &windows).map_err(|why| format!("`{name}` of {subject}: {why}"))?;
            }
        }
    }
    Ok((passed, owed))
}

/// What a window was charged too much the next ones pay: over windows that follow each other no more is charged than they
/// have together, with what went over into the first and what is printed, *once*; but for calls that ran as one ended.
/// Answers how many windows came after one that was passed.
fn together(quota: &PlanQuota, ways: &Printed, windows: &[(u64, &Vec<Charged<'_>>)]) -> Result<u64, String> {
    let limit = quota.quota.limit;
    let sum = |charges: &[Charged<'_>]| charges.iter().map(|of| of.amount).sum::<u64>();
    let next = |at: usize| windows.get(at + 1).map_or(u64::MAX, |(start, _)| *start);
    for first in 0..windows.len() {
        let (mut all, mut late) = (0, 0);
        for last in first..windows.len() {
            let (start, charges) = windows[last];
            let count = match mean_length(&quota.quota.window) {
                Some(mean) => (start - windows[first].0 + mean / 2) / mean + 1,
                None => (last - first + 1) as u64,
            };
            let ran_last = charges.iter().map(|of| of.record.admitted_ms).max().unwrap_or(0);
            let beyond = charges.iter().filter(|of| of.beyond && of.record.settled_ms >= ran_last);
            let beyond: u64 = beyond.map(|of| of.amount).sum();
            all += sum(charges);
            let most = count * limit + quota.quota.rollover + ways.each_process + beyond + late;
            if all > most {
                let each: Vec<_> = windows[first..=last].iter().map(|(start, of)| (*start, sum(of))).collect();
                return Err(format!("charged {all} in {count} windows of {limit}, at most {most}: {each:?}"));
            }
            let ran = charges.iter().filter(|of| of.record.settled_ms >= next(last));
            late += ran.map(|of| of.amount).sum::<u64>();
        }
    }
    let after = windows.iter().skip(1).zip(windows).filter(|(_, (_, before))| sum(before) > limit);
    Ok(after.count() as u64)
}

/// The most that a quota may be charged in a process where there are no records; `None`: they would have to tell.
pub fn without_records(world: &World, quota: &PlanQuota) -> Option<u64> {
    let ways = printed(world, quota);
    let told = ways.each_call.iter().all(|more| matches!(more, More::Vocabulary | More::Untold | More::Unread));
    (told && !ways.unbounded).then(|| quota.quota.limit + quota.quota.rollover + ways.each_process)
}

/// Whether these charges pass the quota, in as many windows.
fn judge(quota: &PlanQuota, ways: &Printed, charges: &[Charged<'_>], stepped: bool) -> Result<u64, String> {
    let all: Vec<&Charged<'_>> = charges.iter().collect();
    let limit = quota.quota.limit + quota.quota.rollover;
    match quota.quota.window {
        Window::Sliding { length_ms } => {
            let mut most = 0;
            for last in charges {
                let until = last.record.admitted_ms;
                let within =
                    |of: &Charged<'_>| of.record.admitted_ms <= until && until - of.record.admitted_ms < length_ms;
                let all: Vec<_> = charges.iter().filter(|of| within(of)).collect();
                most = most.max(passes(quota, ways, &all, limit, true)?);
            }
            Ok(most)
        }
        Window::Bucket { period_ms, .. } => {
            let (first, last) = charges.iter().fold((u64::MAX, 0), |(first, last), of| {
                (first.min(of.record.admitted_ms), last.max(of.record.settled_ms))
            });
            let refilled = u128::from(quota.quota.limit) * u128::from(last - first) / u128::from(period_ms);
            passes(quota, ways, &all, limit + refilled as u64 + 1, true)
        }
        _ => passes(quota, ways, &all, limit, stepped),
    }
}

fn passes(
    quota: &PlanQuota,
    ways: &Printed,
    charges: &[&Charged<'_>],
    limit: u64,
    whenever: bool,
) -> Result<u64, String> {
    let mut last: BTreeMap<u64, u64> = BTreeMap::new();
    for of in charges {
        let moment = last.entry(of.epoch).or_default();
        *moment = (*moment).max(of.record.admitted_ms);
    }
    // What is beyond counts as used for those who come after it: only who still ran then can have passed the limit.
    let ran = |of: &&&Charged<'_>| whenever || of.record.settled_ms >= last[&of.epoch];
    let beyond: u64 = charges.iter().filter(|of| of.beyond).filter(ran).map(|of| of.amount).sum();
    let sum: u64 = charges.iter().map(|of| of.amount).sum();
    let most = limit + ways.each_process * last.len() as u64 + beyond;
    if sum > most {
        let each: Vec<_> = charges.iter().map(|of| (&of.record.id, of.amount, of.beyond, of.record.outcome)).collect();
        let printed = (ways.each_process, &ways.each_call, quota.hold == HoldSize::Expected);
        return Err(format!("charged {sum}, limit {limit}, at most {most}; printed {printed:?}; {each:?}"));
    }
    Ok(u64::from(sum > limit))
}
