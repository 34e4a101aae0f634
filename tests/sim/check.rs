//! What must be true of the accounts, always and in the end.

use std::collections::{BTreeMap, BTreeSet};

use farebox::engine::bill::{Bill, session_account};
use farebox::engine::event::Cause;
use farebox::meter::usage::Source;
use farebox::policy::bundle::{Plan, PlanQuota, Seat};
use farebox::quota::{Incarnation, Keys, QuotaId, Slot, Window, open_epoch, read_account};
use farebox::report::wire::{Outcome, Record};
use farebox::sim::world::{At, End, Seen, World};

use super::bound;
use super::plan::SESSIONS;
use super::run::Figures;

/// (subject, quota) of every seat, each once, with the quota.
fn quotas(world: &World) -> BTreeMap<(String, String), (PlanQuota, Seat)> {
    let bundle = world.bundle();
    let of = |seat: &Seat, plan: &Plan| {
        let packs = bundle.packs.iter().filter(|pack| seat.subjects.contains(&pack.subject)).map(|pack| &pack.fund);
        let mut all = Vec::new();
        for session in SESSIONS {
            let bill = Bill { plan, seat, session: session_account(session.map(str::as_bytes)), quotas: Vec::new() };
            let each =
                |quota: &PlanQuota| ((bill.subject(quota.per), quota.ledger.clone()), (quota.clone(), seat.clone()));
            all.extend(plan.quotas.iter().chain(packs.clone()).map(each));
        }
        all
    };
    bundle.seats.iter().flat_map(|seat| of(seat, bundle.plan_for(seat).unwrap())).collect()
}

/// What is used and held in a process, by subject and quota.
pub fn standings(world: &World, process: usize) -> BTreeMap<(String, String), (u64, u64)> {
    let Some(shared) = world.shared(process) else { return BTreeMap::new() };
    let (keys, mut cells) = (Keys::new(&world.bundle().name), shared.cells(u16::MAX));
    let mut standings = BTreeMap::new();
    for ((subject, name), (quota, _)) in quotas(world) {
        let account = read_account(&keys, &subject, &mut cells).unwrap();
        let standing = account.and_then(|account| account.standing(&quota.quota, world.now())).unwrap_or_default();
        standings.insert((subject, name), (standing.used, standing.held));
    }
    standings
}

/// Whether a call that was refused left no trace between these: but for one request of each cap that counts refusals.
pub fn untouched(
    world: &World,
    before: &BTreeMap<(String, String), (u64, u64)>,
    after: &BTreeMap<(String, String), (u64, u64)>,
) -> bool {
    let quotas = quotas(world);
    before.len() == after.len()
        && before.iter().zip(after).all(|((key, (used, held)), (of, (used_then, held_then)))| {
            let quota = quotas.get(key).map(|(quota, _)| quota);
            let counts = quota.is_some_and(|quota| quota.rejected);
            // What is held may have slid out of a window, and is told again when a request slides in.
            let slides = quota.is_some_and(|quota| matches!(quota.quota.window, Window::Sliding { .. }));
            let same = (used, held) == (used_then, held_then);
            let one_more =
                used + held + farebox::quota::MICRO == used_then + held_then && (slides || held == held_then);
            key == of && (same || counts && one_more)
        })
}

/// The epoch of a process, if it has one.
pub fn epoch(world: &World, process: usize) -> Option<u64> {
    let (shared, keys) = (world.shared(process)?, Keys::new(&world.bundle().name));
    shared.peek(&keys.epoch())?;
    open_epoch(&keys, &mut shared.cells(u16::MAX), 0).ok()
}

/// No more runs at a time than is allowed, in one process.
pub fn concurrency(world: &World, process: usize) -> Result<(), String> {
    // What a VM that was taken for dead ran, another one has ended; its streams may still flow.
    if world.counters().contains_key("unsettled_total{}") {
        return Ok(());
    }
    let runs = |seen: &Seen| seen.admitted().is_some() && !seen.notes.contains_key("outcome");
    let running: Vec<Seen> = world.running(process).into_iter().filter(runs).collect();
    for ((subject, name), (quota, _)) in quotas(world) {
        if quota.quota.window != Window::Concurrent {
            continue;
        }
        let of = |seen: &&Seen| ["seat", "org"].iter().any(|level| format!("{level}/{}", seen.notes[level]) == subject);
        let count = running.iter().filter(of).count() as u64 * farebox::quota::MICRO;
        if count > quota.quota.limit {
            return Err(format!("{count} micro-requests of {subject} run, `{name}` allows {}", quota.quota.limit));
        }
    }
    Ok(())
}

/// All that must be true when everything is quiet. `restarted`: epochs that ended by a restart, whose last words may be lost.
/// `stepped`: somebody set a clock back.
pub fn all(world: &World, restarted: &[u64], stepped: bool, figures: &mut Figures) -> Result<(), String> {
    let ended = world.all_ended();
    let records = world.ledger().records().map_err(|error| error.to_string())?;
    count(world, &ended, &records, figures);
    if let Some((_, seen)) = ended.iter().find(|(_, seen)| !seen.impossible.is_empty()) {
        return Err(format!("no host can do that: {:?}", seen.impossible));
    }
    nothing_held(world)?;
    let lasting = |record: &&Record| !restarted.contains(&incarnation(&record.id).epoch);
    let kept: Vec<&Record> = records.iter().filter(lasting).collect();
    if world.bundle().collector.is_some() {
        each_once(world, &ended, &kept, restarted)?;
        totals(world, &records, restarted)?;
        true_usage(&ended, &records)?;
    }
    let by_id = |(_, seen): (At, Seen)| Some((seen.admitted()?.to_owned(), seen));
    let seen = ended.into_iter().filter_map(by_id).collect();
    never_over(world, &records, &seen, stepped, figures)
}

fn incarnation(id: &str) -> Incarnation {
    farebox::report::id::exchange_id(id).unwrap_or_else(|| panic!("`{id}` is no id")).by
}

fn count(world: &World, ended: &[(At, Seen)], records: &[Record], figures: &mut Figures) {
    figures.admitted += ended.iter().filter(|(_, seen)| seen.admitted().is_some()).count() as u64;
    figures.refused += ended.iter().filter(|(_, seen)| seen.end == Some(End::Refused)).count() as u64;
    figures.lost += ended.iter().filter(|(_, seen)| seen.end == Some(End::Lost)).count() as u64;
    figures.records += records.len() as u64;
    figures.unsettled += records.iter().filter(|record| record.outcome == Outcome::Unsettled).count() as u64;
    figures.rejected += records.iter().filter(|record| is_refusal(record)).count() as u64;
    let next = |record: &&Record| record.passed.iter().any(|pass| pass.how == "next_fund");
    figures.next_fund += records.iter().filter(next).count() as u64;
    figures.operations += world.operations();
    figures.fenced += world.counters().get("fenced_total{}").copied().unwrap_or(0);
    figures.waited += ended.iter().filter(|(_, seen)| seen.waited).count() as u64;
}

/// Nothing is held, and no slot is taken.
pub fn nothing_open(world: &World) -> Result<(), String> {
    let taken = world.taken_slots(0).map_err(|error| error.to_string())?;
    if taken.is_empty() { nothing_held(world) } else { Err(format!("{} slots are taken", taken.len())) }
}

fn nothing_held(world: &World) -> Result<(), String> {
    let processes = world.places().iter().map(|at| at.process).max().map_or(0, |last| last + 1);
    for process in 0..processes {
        for ((subject, name), (_, held)) in standings(world, process) {
            if held > 0 {
                return Err(format!("`{name}` of {subject} holds {held} micro-units for ever"));
            }
        }
        for account in world.accounts(process).map_err(|error| error.to_string())? {
            for (quota, _) in quotas(world).into_values() {
                let Some(reported) = account.reported(quota.quota.id) else { continue };
                let before: u64 = reported.before.iter().map(|before| before.held).sum();
                if reported.current.held + before > 0 {
                    return Err(format!("{} holds in a window: {reported:?}", account.subject()));
                }
            }
        }
    }
    Ok(())
}

/// What the accounts hold is what the exchange slots hold, to the micro-unit. Buckets keep no books of holds.
pub fn held_by_slots(world: &World) -> Result<(), String> {
    let processes = world.places().iter().map(|at| at.process).max().map_or(0, |last| last + 1);
    for process in 0..processes {
        let mut held: BTreeMap<(String, QuotaId), u64> = BTreeMap::new();
        for slot in world.taken_slots(process).map_err(|error| error.to_string())? {
            let Slot::Held(slot) = slot else { continue };
            for (level, line) in slot.levels.iter().flat_map(|level| level.lines.iter().map(move |line| (level, line)))
            {
                *held.entry((level.subject.clone(), line.quota)).or_default() += line.amount;
            }
        }
        for account in world.accounts(process).map_err(|error| error.to_string())? {
            for ((subject, name), (quota, _)) in quotas(world) {
                let Some(known) = account.reported(quota.quota.id).filter(|_| account.subject() == subject) else {
                    continue;
                };
                if matches!(quota.quota.window, Window::Bucket { .. }) {
                    continue;
                }
                let here = known.current.held + known.before.iter().map(|before| before.held).sum::<u64>();
                let slots = held.get(&(subject.clone(), quota.quota.id)).copied().unwrap_or(0);
                if here != slots {
                    return Err(format!("`{name}` of {subject} holds {here}, the slots hold {slots}"));
                }
            }
        }
    }
    Ok(())
}

/// Every admitted exchange has exactly one record.
fn each_once(world: &World, ended: &[(At, Seen)], kept: &[&Record], restarted: &[u64]) -> Result<(), String> {
    let admitted = ended.iter().filter_map(|(_, seen)| seen.admitted());
    let admitted: BTreeSet<&str> = admitted.filter(|id| !restarted.contains(&incarnation(id).epoch)).collect();
    let recorded: BTreeSet<&str> = kept.iter().map(|record| record.id.as_str()).collect();
    if recorded.len() != kept.len() {
        return Err("the ledger has a record twice".to_owned());
    }
    let missing: Vec<_> = admitted.difference(&recorded).collect();
    if !missing.is_empty() {
        return Err(format!("admitted, but no record: {missing:?}"));
    }
    // One whose VM died between the commit and the answer was never told to anybody, but it was held.
    let unknown = |id: &&&str| {
        let record = kept.iter().find(|record| record.id == ***id);
        record.is_none_or(|record| record.outcome != Outcome::Unsettled && !is_refusal(record))
    };
    let surplus: Vec<_> = recorded.difference(&admitted).filter(unknown).collect();
    if !surplus.is_empty() {
        return Err(format!("recorded, but never admitted: {surplus:?}"));
    }
    let refusals = kept.iter().filter(|record| is_refusal(record)).count();
    let refused = ended.iter().filter(|(_, seen)| matches!(seen.end, Some(End::Refused | End::Lost))).count();
    if refusals > refused {
        return Err(format!("{refusals} refusals are recorded, and {refused} calls were refused"));
    }
    let losses = world.ledger().losses().map_err(|error| error.to_string())?;
    if losses.rejected + losses.conflicts > 0 || (restarted.is_empty() && losses.proven > 0) {
        return Err(format!("{losses:?}: {:?}", world.ledger().warnings));
    }
    Ok(())
}

/// Whether it is of a call that was refused, and counts all the same.
fn is_refusal(record: &Record) -> bool {
    record.passed.iter().any(|pass| pass.how == "refused")
}

/// What the records charge is what the accounts used and what the ledger knows.
fn totals(world: &World, records: &[Record], restarted: &[u64]) -> Result<(), String> {
    let mut charged: BTreeMap<(u64, String, String, u64), u64> = BTreeMap::new();
    for record in records {
        for charge in record.charges.iter().filter(|charge| charge.amount > 0) {
            let key = (incarnation(&record.id).epoch, charge.subject.clone(), charge.quota.clone(), charge.window);
            *charged.entry(key).or_default() += charge.amount;
        }
    }
    let quotas = quotas(world);
    let mut reported: BTreeMap<(u64, String, String, u64), u64> = BTreeMap::new();
    for share in world.ledger().shares().map_err(|error| error.to_string())? {
        *reported.entry((share.epoch, share.subject, share.quota, share.window)).or_default() += share.used;
    }
    let keys: BTreeSet<_> = charged.keys().chain(reported.keys()).cloned().collect();
    for key in keys {
        let granted = quotas.get(&(key.1.clone(), key.2.clone())).is_some_and(|(quota, _)| quota.quota.granted);
        let (records, ledger) = (charged.get(&key).copied().unwrap_or(0), reported.get(&key).copied().unwrap_or(0));
        if granted && !restarted.contains(&key.0) && records != ledger {
            return Err(format!("{key:?}: the records charge {records}, the ledger was told {ledger}"));
        }
    }
    let processes = world.places().iter().map(|at| at.process).max().map_or(0, |last| last + 1);
    for process in 0..processes {
        let Some(epoch) = epoch(world, process) else { continue };
        for account in world.accounts(process).map_err(|error| error.to_string())? {
            for ((subject, name), (quota, _)) in &quotas {
                let Some(known) = account.reported(quota.quota.id).filter(|_| account.subject() == subject) else {
                    continue;
                };
                if !quota.quota.granted {
                    continue;
                }
                for period in [known.current].into_iter().chain(known.before.clone()) {
                    let key = (epoch, subject.clone(), name.clone(), period.start);
                    let records = charged.get(&key).copied().unwrap_or(0);
                    if period.used != records {
                        return Err(format!("{key:?}: used {}, the records charge {records}: {known:?}", period.used));
                    }
                }
            }
        }
    }
    Ok(())
}

/// What ran to its end and was reported is charged to the token; nothing is charged beyond what the upstream wrote.
fn true_usage(ended: &[(At, Seen)], records: &[Record]) -> Result<(), String> {
    let by_id: BTreeMap<&str, &Record> = records.iter().map(|record| (record.id.as_str(), record)).collect();
    for (_, seen) in ended {
        let Some(record) = seen.admitted().and_then(|id| by_id.get(id)) else { continue };
        let Some(truth) = &seen.upstream else {
            if record.outcome != Outcome::Unsettled && record.usage.total() > 0 && record.outcome != Outcome::NoResponse
            {
                return Err(format!("never left, but charged: {record:?}"));
            }
            continue;
        };
        if record.outcome == Outcome::Unsettled {
            continue;
        }
        let usage = (record.usage.input_total(), record.usage.cache_read, record.usage.output);
        let whole = (truth.usage.prompt, truth.usage.cached, truth.usage.completion);
        let finished = seen.end == Some(End::Over(Cause::Finished)) && truth.status == 200;
        if finished && record.source == Source::Reported && usage != whole {
            return Err(format!("the upstream said {whole:?}, the record says {usage:?}: {record:?}"));
        }
        // Calls of tools are counted by their text here, and otherwise by whoever wrote them.
        let estimated = record.tool_calls > 0 && record.source != Source::Reported;
        if usage.2 > whole.2 && !estimated {
            return Err(format!("the upstream wrote {} tokens, {} are charged: {record:?}", whole.2, usage.2));
        }
    }
    Ok(())
}

/// No fund and no cap is granted beyond its limit, or charged beyond it and what is printed.
fn never_over(
    world: &World,
    records: &[Record],
    seen: &BTreeMap<String, Seen>,
    stepped: bool,
    figures: &mut Figures,
) -> Result<(), String> {
    let quotas = quotas(world);
    let mut granted: BTreeMap<(String, String, u64), u64> = BTreeMap::new();
    for share in world.ledger().shares().map_err(|error| error.to_string())? {
        *granted.entry((share.subject, share.quota, share.window)).or_default() +=
            share.granted.saturating_sub(share.returned);
    }
    for ((subject, name, window), granted) in granted {
        let Some((quota, _)) = quotas.get(&(subject.clone(), name.clone())) else { continue };
        let most = quota.quota.limit + quota.quota.rollover;
        if granted > most {
            return Err(format!("`{name}` of {subject} in window {window}: granted {granted}, at most {most}"));
        }
    }
    if world.bundle().collector.is_none() {
        return never_over_here(world);
    }
    let (passed, owed) = bound::check(world, records, seen, stepped)?;
    figures.passed += passed;
    figures.owed += owed;
    Ok(())
}

fn never_over_here(world: &World) -> Result<(), String> {
    let processes = world.places().iter().map(|at| at.process).max().map_or(0, |last| last + 1);
    for process in 0..processes {
        for account in world.accounts(process).map_err(|error| error.to_string())? {
            for ((subject, name), (quota, _)) in quotas(world) {
                let Some(known) = account.reported(quota.quota.id).filter(|_| account.subject() == subject) else {
                    continue;
                };
                let before = known.before.iter().map(|before| before.used).max();
                let most = known.current.used.max(before.unwrap_or(0));
                let Some(bound) = bound::without_records(world, &quota) else { continue };
                if most > bound {
                    return Err(format!("`{name}` of {subject}: used {most}, at most {bound}"));
                }
            }
        }
    }
    Ok(())
}
