//! Test hooks: how the host behaves, asked by requests. Only in builds with the feature `test-hooks`, never shipped.

use std::cell::{Cell, RefCell};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::host::{self, Buffer, Map, SharedData};
use crate::engine::effect::Reply;
use crate::engine::event::Header;
use crate::engine::vm::Vm;
use crate::meter::count::Encoding;
use crate::meter::deltas::{Cost, Delta, Way};
use crate::quota::measure::{Calls, measure};
use crate::quota::population::Population;
use crate::quota::{Cells, Expect};
use crate::scan::measure::Sample;

/// Makes a new VM what its environment (`vm_config.environment_variables`) says: `FAREBOX_TEST=hold-nothing`.
pub fn prepare(vm: &mut Vm) {
    if std::env::var("FAREBOX_TEST").is_ok_and(|said| said == "hold-nothing") {
        vm.hold_nothing();
    }
}

/// Where the wall clock is kept that a test has set: Unix milliseconds to begin at, and what the host's own clock said
/// when it began, both in eight bytes; the latter 0 as long as it has not.
const CLOCK: &[u8] = b"farebox-test/clock";

/// The wall clock that a test has set, for every VM of this process; else `host_ms`, the host's own.
pub fn wall_ms(host_ms: u64) -> u64 {
    match clock() {
        Some((at_ms, 0)) => at_ms,
        Some((at_ms, began_ms)) => at_ms.saturating_add(host_ms.saturating_sub(began_ms)),
        None => host_ms,
    }
}

fn clock() -> Option<(u64, u64)> {
    let cell = SharedData.load(CLOCK).ok().flatten()?;
    let (at, began) = cell.value.split_at_checked(8)?;
    Some((u64::from_le_bytes(at.try_into().ok()?), u64::from_le_bytes(began.try_into().ok()?)))
}

fn write_clock(value: &[u8]) {
    let mut cells = SharedData;
    let version = cells.load(CLOCK).ok().flatten().map(|cell| cell.version);
    let _ = cells.swap(CLOCK, version.map_or(Expect::Absent, Expect::Version), value);
}

/// Sets the clock, which stands there until the next call comes; without a number it is the host's again.
fn set_clock(moment: &str) -> String {
    match moment.parse::<u64>() {
        Ok(at_ms) => write_clock(&[at_ms.to_le_bytes(), 0_u64.to_le_bytes()].concat()),
        Err(_) => write_clock(b""),
    }
    moment.to_owned()
}

/// Lets a clock go on that was set.
fn start_clock() {
    if let Some((at_ms, 0)) = clock() {
        write_clock(&[at_ms.to_le_bytes(), host::host_ms().to_le_bytes()].concat());
    }
}

/// Tokens of the text in the header `x-text`, which is in Base64: counted here, where bytes are classified by vectors.
fn count(encoding: &str, headers: &[Header]) -> String {
    let text = headers.iter().find(|(name, _)| name == b"x-text").and_then(|(_, value)| STANDARD.decode(value).ok());
    let text = text.and_then(|bytes| String::from_utf8(bytes).ok());
    let counted = Encoding::from_name(encoding).zip(text).map(|(encoding, text)| encoding.count(&text));
    format!("{counted:?}")
}

/// Answers a request for `/farebox-test/<hook>`.
pub fn request_headers(headers: &[Header]) -> Option<Reply> {
    let (_, path) = headers.iter().find(|(name, _)| name == b":path")?;
    let path = String::from_utf8_lossy(path);
    let Some(hook) = path.strip_prefix("/farebox-test/") else {
        start_clock();
        return None;
    };
    let mut parts = hook.split('/');
    let hook = parts.next()?;
    let argument = parts.next().unwrap_or_default();
    let said = match hook {
        "panic" => die(),
        "insert" => insert(argument),
        "add" => add(argument, parts.next().and_then(|times| times.parse().ok()).unwrap_or(1)),
        "empty-body" => format!("{:?}", host::set_buffer(Buffer::Request, b"a body")),
        "late-header" => format!("{:?}", host::set_header(Map::Callout, "x", "y")),
        "clock" => set_clock(argument),
        "headers" => format!("{headers:?}"),
        "peer" => format!("{:?}", host::peer()),
        "calls" => numbers(&CALLS.take()),
        "cost" => cost(argument, parts.next()),
        "delta" => delta(argument, parts.next()),
        "scan" => scan(argument, parts.next()),
        "population" => population(argument, parts.next()),
        "count" => count(argument, headers),
        _ => return None,
    };
    let headers = vec![("content-type".to_owned(), "text/plain".to_owned())];
    Some(Reply { status: 200, headers, body: said.into_bytes() })
}

/// Kills the VM when an upstream says so.
pub fn response_body(chunk: &[u8]) {
    if chunk.windows(12).any(|window| window == b"farebox-dies") {
        die();
    }
}

#[expect(clippy::panic, reason = "a VM that dies is what this hook is for")]
fn die() -> ! {
    panic!("killed by a test")
}

/// Inserts twice, and swaps with a right and a stale version.
fn insert(key: &str) -> String {
    let (key, mut cells) = (key.as_bytes(), SharedData);
    let missing = cells.load(key).map(|cell| cell.is_none());
    let first = cells.swap(key, Expect::Absent, b"one");
    let second = cells.swap(key, Expect::Absent, b"two");
    let version = cells.load(key).ok().flatten().map_or(0, |cell| cell.version);
    let right = cells.swap(key, Expect::Version(version), b"");
    let stale = cells.swap(key, Expect::Version(version), b"four");
    let wild = cells.swap(key, Expect::Version(0), b"five");
    let value = cells.load(key).map(|cell| cell.map(|cell| cell.value));
    format!("{missing:?} {first:?} {second:?} {right:?} {stale:?} {wild:?} {value:?}")
}

/// Adds 1 `times` times to the number under `key`, by swaps only, and returns the swaps that were lost.
fn add(key: &str, times: u64) -> String {
    let (key, mut cells) = (key.as_bytes(), SharedData);
    let (mut done, mut lost) = (0, 0_u64);
    let mut seen = 0;
    while done < times {
        let cell = cells.load(key).ok().flatten();
        let expect = cell.as_ref().map_or(Expect::Absent, |cell| Expect::Version(cell.version));
        let value: [u8; 8] = cell.and_then(|cell| cell.value.try_into().ok()).unwrap_or_default();
        seen = u64::from_le_bytes(value) + 1;
        match cells.swap(key, expect, &seen.to_le_bytes()) {
            Ok(true) => done += 1,
            _ => lost += 1,
        }
    }
    format!("{seen} {lost}")
}

thread_local!(static CALLS: Cell<Calls> = Cell::default());

/// Notes a call of shared data by this VM.
pub fn calls(key: &[u8], note: impl FnOnce(&mut (u32, u32))) {
    let mut calls = CALLS.get();
    if let Some(of_kind) = calls.of(key) {
        note(of_kind);
    }
    CALLS.set(calls);
}

/// Loads and swaps of accounts, exchange slots and VM slots.
fn numbers(Calls(calls): &Calls) -> String {
    let all: Vec<String> = calls.iter().map(|(loads, swaps)| format!("{loads} {swaps}")).collect();
    all.join(" ")
}

/// Nanoseconds since this was called.
#[expect(clippy::disallowed_methods, reason = "what is measured is time")]
fn stopwatch() -> impl Fn() -> u64 + Copy {
    let begun = Instant::now();
    move || u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// What hold, extension, settle and freeing cost in this VM: one line each, of nanoseconds and calls.
fn cost(levels: &str, rounds: Option<&str>) -> String {
    let number = |text: &str| text.parse().unwrap_or(1);
    let clock = stopwatch();
    match measure(number(levels), rounds.map_or(1, number), host::now(), &mut SharedData, clock) {
        Ok(costs) => costs.map(|cost| format!("{} {}", cost.nanoseconds, numbers(&cost.calls))).join("\n"),
        Err(error) => error.to_string(),
    }
}

/// What reading a delta of this name costs in this VM, in nanoseconds, in each way.
fn delta(name: &str, rounds: Option<&str>) -> String {
    let rounds = rounds.and_then(|rounds| rounds.parse().ok()).unwrap_or(1);
    let clock = stopwatch();
    let Some((_, delta)) = Delta::ALL.into_iter().find(|(known, _)| *known == name) else { return String::new() };
    let costs = Way::ALL.iter().filter_map(|way| delta.cost(*way, rounds, clock));
    costs.map(|Cost { nanoseconds, .. }| nanoseconds.to_string()).collect::<Vec<_>>().join(" ")
}

/// What looking at a text of this name costs in this VM, in nanoseconds: a prompt, and a piece of an answer.
fn scan(name: &str, rounds: Option<&str>) -> String {
    let rounds = rounds.and_then(|rounds| rounds.parse().ok()).unwrap_or(1);
    let clock = stopwatch();
    let sample = Sample::ALL.into_iter().find(|(known, _)| *known == name);
    let cost = sample.and_then(|(_, sample)| sample.cost(rounds, clock));
    cost.map_or_else(String::new, |cost| format!("{} {}", cost.prompt, cost.piece))
}

thread_local!(static POPULATION: RefCell<Option<Population>> = const { RefCell::new(None) });

/// Bytes of a key and of an account, nanoseconds of a look-up and of hold and settle together, when shared data has the
/// accounts of so many seats. They stay, and more can be asked for.
fn population(seats: &str, times: Option<&str>) -> String {
    let clock = stopwatch();
    let (now, times) = (host::now(), times.and_then(|times| times.parse().ok()).unwrap_or(1));
    let measured = POPULATION.with_borrow_mut(|known| {
        let mut population = match known.take() {
            Some(population) => population,
            None => Population::new(now, &mut SharedData)?,
        };
        population.grow(seats.parse().unwrap_or(1), now, &mut SharedData)?;
        let figures = population.measure(times, now, &mut SharedData, clock);
        *known = Some(population);
        figures
    });
    match measured {
        Ok(figures) => format!("{} {} {} {}", figures.key, figures.account, figures.look_up, figures.request),
        Err(error) => error.to_string(),
    }
}
