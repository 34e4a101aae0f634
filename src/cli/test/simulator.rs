//! The simulator as a host of cases: one process, one VM, an upstream that answers as soon as the case lets it.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::Host;
use super::answered;
use super::preload;
use super::request::{self, request, unanswerable, unseen};
use super::verdict::{Mismatch, Observed, codes, recorded, text};
use crate::collector::amount::Amount;
use crate::engine::event::{Header, Vouched};
use crate::policy::Bundle;
use crate::policy::bundle::{Key, Voucher};
use crate::policy::case::{Asked, Case, Who};
use crate::quota::{Keys, Standing, Window, read_account};
use crate::report::wire::Record;
use crate::sim::world::{At, Seen, World};

/// The clock of a case that names no moment: 2026-11-25 12:00 UTC, far from every month's ends.
const NOON_MS: u64 = 1_795_608_000_000;
/// Longest virtual time for the call: the longest that a policy lets it wait, and some for its answer.
const LONGEST_MS: u64 = 15 * 60_000;
/// Longest virtual time for its record to arrive.
const RECORD_MS: u64 = 60_000;

/// Carries out each case in a world of its own.
#[derive(Debug)]
pub struct Simulator<'b> {
    bundle: &'b Bundle,
}

impl<'b> Simulator<'b> {
    /// For cases of this policy.
    pub fn new(bundle: &'b Bundle) -> Self {
        Self { bundle }
    }
}

/// The caller's key.
fn key(who: &Who) -> String {
    match who {
        Who::Key(key) => key.clone(),
        Who::Seat(name) => format!("the key of {name} in the simulator"),
    }
}

/// Gives a seat that is asked for by name a key.
fn know(bundle: &mut Bundle, who: &Who) {
    let Who::Seat(name) = who else { return };
    let sha256 = Sha256::digest(key(who).as_bytes()).into();
    let seat = bundle.seats.iter().position(|seat| seat.name == *name);
    bundle.keys.extend(seat.map(|seat| Key { sha256, seat }));
}

impl Host for Simulator<'_> {
    fn name(&self) -> &'static str {
        "simulator"
    }

    fn cannot(&mut self, case: &Case) -> Option<String> {
        unanswerable(case).or_else(|| unseen(case, self.bundle))
    }

    fn run(&mut self, case: &Case) -> Result<Observed, String> {
        let calls = case.calls();
        let mut bundle = self.bundle.clone();
        for asked in &calls {
            know(&mut bundle, asked.who);
        }
        let at_ms = calls.first().and_then(|first| first.at_ms).unwrap_or(NOON_MS);
        let world = World::new(bundle, 1, 1, at_ms, u64::from(case.line)).map_err(|error| error.to_string())?;
        let mut observed = Err("the case has no call".to_owned());
        for (place, asked) in calls.iter().enumerate() {
            wait_until(&world, asked.at_ms);
            use_before(&world, place, asked)?;
            let slots = world.taken_slots(0).map_err(|error| error.to_string())?.len();
            let before = standings(case, &world)?;
            let Some(seen) = carry_out(&world, asked)? else { return Ok(Observed::endless(place, LONGEST_MS)) };
            let after = standings(case, &world)?;
            await_records(&world, slots);
            if place.saturating_add(1) < calls.len() && !was_let_through(&seen) {
                return Ok(Observed::spoiled(place, seen.notes.get("denied_by").map(String::as_str)));
            }
            observed = observe(case, &world, &seen, &before, &after);
        }
        observed
    }
}

/// Somebody sets the clock forth.
fn wait_until(world: &World, at_ms: Option<u64>) {
    let by_ms = at_ms.and_then(|at_ms| at_ms.checked_sub(world.now().wall_ms)).unwrap_or(0);
    world.step_wall(i64::try_from(by_ms).unwrap_or(i64::MAX));
}

/// Uses what the case says was used before a call.
fn use_before(world: &World, place: usize, asked: &Asked<'_>) -> Result<(), String> {
    let shared = world.shared(0).ok_or("the world is empty")?;
    preload::use_local(asked, world.bundle(), &mut shared.cells(u16::MAX), world.now())?;
    let bundle = world.bundle();
    let Some(sync) = preload::for_ledger(place, asked, bundle, &bundle.name, world.now()) else { return Ok(()) };
    match world.ledger().sync(&sync, world.now().wall_ms) {
        (200, _) => Ok(()),
        (_, said) => Err(format!("the ledger refused what was used before: {}", String::from_utf8_lossy(&said))),
    }
}

/// Makes a call, until its end; `None`: there is none.
fn carry_out(world: &World, asked: &Asked<'_>) -> Result<Option<Seen>, String> {
    let mut call = request(asked, &key(asked.who), world.bundle());
    if let (Who::Seat(seat), true) = (asked.who, world.bundle().credentials.is_empty()) {
        // Nobody has a key here: whoever else vouches for callers names this one.
        let says = |voucher: &Voucher| Vouched::Says(voucher.says(seat).into_bytes());
        call.vouched = world.bundle().vouchers.iter().map(says).collect();
    }
    let stream = world.open(At { process: 0, vm: 0 }, call).ok_or("the world is empty")?;
    if !world.run(LONGEST_MS) {
        return Ok(None);
    }
    world.seen(stream).map(Some).ok_or_else(|| "the stream is not known any more".to_owned())
}

/// Whether it left for the upstream, which need not have heard of it.
fn was_let_through(seen: &Seen) -> bool {
    seen.upstream.is_some() || seen.admitted().is_some()
}

/// Until no record waits in its slot.
fn await_records(world: &World, slots_before: usize) {
    let until = world.now().mono_ms.saturating_add(RECORD_MS);
    while world.now().mono_ms < until && world.taken_slots(0).is_ok_and(|slots| slots.len() > slots_before) {
        world.tick(100);
    }
}

/// How the caller's quotas stand in the shared data, and what there is of records.
struct Standings {
    quotas: BTreeMap<String, Standing>,
    records: Vec<String>,
    ended: u64,
}

impl Standings {
    fn of(&self, quota: &str) -> Standing {
        self.quotas.get(quota).copied().unwrap_or_default()
    }
}

fn standings(case: &Case, world: &World) -> Result<Standings, String> {
    let keys = Keys::new(&world.bundle().name);
    let mut cells = world.shared(0).ok_or("the world is empty")?.cells(u16::MAX);
    let mut quotas = BTreeMap::new();
    for (subject, quota) in request::quotas(&case.who, &case.call, world.bundle()) {
        let account = read_account(&keys, &subject, &mut cells).map_err(|error| error.to_string())?;
        let standing = account.and_then(|account| account.standing(&quota.quota, world.now()));
        quotas.insert(quota.name.clone(), standing.unwrap_or_default());
    }
    let records = records(world)?.into_iter().map(|record| record.id).collect();
    Ok(Standings { quotas, records, ended: ended(world) })
}

fn records(world: &World) -> Result<Vec<Record>, String> {
    world.ledger().records().map_err(|error| error.to_string())
}

/// How many exchanges have ended.
fn ended(world: &World) -> u64 {
    let counters = world.counters();
    counters.iter().filter(|(name, _)| name.starts_with("exchanges_total")).map(|(_, by)| by).sum()
}

/// What a body states.
fn stated(body: &[u8], key: &str) -> Option<serde_json::Value> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    body.get(key).cloned()
}

/// Headers by their names, those of one name joined as in HTTP.
fn sent(headers: &[Header]) -> BTreeMap<String, String> {
    let mut sent = BTreeMap::<String, String>::new();
    for (name, value) in headers {
        let (name, value) = (String::from_utf8_lossy(name).into_owned(), String::from_utf8_lossy(value).into_owned());
        sent.entry(name).and_modify(|all| all.extend([", ", &value])).or_insert(value);
    }
    sent
}

fn observe(case: &Case, world: &World, seen: &Seen, before: &Standings, after: &Standings) -> Result<Observed, String> {
    let upstream = seen.upstream.as_ref();
    let tier = upstream.and_then(|upstream| {
        let found = upstream.headers.iter().find(|(name, _)| name == b"x-farebox-tier");
        found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    });
    let retry_after = seen.headers.iter().find(|(name, _)| name == "retry-after").map(|(_, value)| value.clone());
    let mut records = records(world)?;
    records.retain(|record| !before.records.contains(&record.id));
    let answered = answered::read(&seen.body);
    let mut observed = Observed {
        finish: answered.finish,
        delivered: answered.tokens,
        admitted: was_let_through(seen),
        by: seen.notes.get("denied_by").cloned(),
        status: seen.status,
        codes: codes(&seen.body),
        retry_after,
        text: text(&seen.body),
        tier,
        max_output: upstream.and_then(|upstream| upstream.limit),
        max_tokens: upstream.and_then(|upstream| stated(&upstream.body, "max_tokens")?.as_u64()),
        model: upstream.and_then(|upstream| stated(&upstream.body, "model")?.as_str().map(str::to_owned)),
        sent: upstream.map(|upstream| sent(&upstream.headers)).unwrap_or_default(),
        held: Some(BTreeMap::new()),
        ..recorded(case, world.bundle(), &records)
    };
    observed.contradictions.extend(seen.impossible.iter().map(|what| Mismatch {
        what: "what the engine asks of its host".to_owned(),
        expected: "something possible".to_owned(),
        seen: what.clone(),
    }));
    for (subject, quota) in request::quotas(&case.who, &case.call, world.bundle()) {
        let (was, is) = (before.of(&quota.name), after.of(&quota.name));
        // While a call waits, another window may begin.
        let moves = matches!(quota.quota.window, Window::Bucket { .. } | Window::Sliding { .. } | Window::Concurrent);
        let used_before = if moves || was.window == is.window { was.used } else { 0 };
        let by_account = is.used.saturating_sub(used_before);
        let of_quota = |name: &str, of: &str| name == quota.ledger && of == subject;
        let charges = records.iter().flat_map(|record| &record.charges);
        let charges = charges.filter(|charge| of_quota(&charge.quota, &charge.subject));
        let charges: Vec<_> = charges.collect();
        let by_record = charges.iter().fold(0_u64, |sum, charge| sum.saturating_add(charge.amount));
        let charged = if world.bundle().collector.is_some() { by_record } else { by_account };
        observed.charged.insert(quota.name.clone(), charged);
        if let Some(held) = &mut observed.held {
            held.insert(quota.name.clone(), is.held.saturating_sub(was.held));
        }
        // A bucket drains while the call runs; all others must agree with the record to the micro-unit, unless the
        // window has ended that the call was admitted in.
        let ended = charges.iter().any(|charge| charge.window != is.window);
        if charged != by_account && !ended && !matches!(quota.quota.window, Window::Bucket { .. }) {
            observed.contradictions.push(Mismatch {
                what: format!("`{}` in the account against the record", quota.name),
                expected: Amount::from(charged).to_string(),
                seen: Amount::from(by_account).to_string(),
            });
        }
    }
    if world.bundle().collector.is_none() {
        observed.records = ended(world).saturating_sub(before.ended);
    }
    Ok(observed)
}
