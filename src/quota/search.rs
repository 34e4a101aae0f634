//! Every interleaving of single store calls of the shipped operations, with claims at any moment.
//!
//! The case is that of the design's model: two VMs, two levels, an extension, a refusal, a slot that is used twice,
//! and claimers that take a VM slot over whenever they like, also from an owner that lives and from each other. An
//! actor that is never scheduled again is a dead one, so every prefix of every schedule is a crash. Accounts are
//! missing at the start, so that both VMs race to create them. Beside it there are three VMs, streams that use more than
//! they hold, clocks that step, windows that pass on what they have left, and answers that come late and twice.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::Hasher;

use super::account::{Account, Entry, Kind, Period};
use super::edit::Relabel;
use super::fault;
use super::standing::allowance;
use super::{
    Claim, Claimed, Ending, ExchangeId, Expect, GrantLine, Held, Incarnation, Keys, Level, Line, Operation, Outcome,
    Quota, Recovery, Slot, Step, Unsent, Window, first_claimable, grant, read_slot,
};
use crate::now::Now;

mod cases;
mod store;

use store::{PRESENT, Part, Shelf, Wide};

const NOW: Now = Now { wall_ms: 1_790_000_000_000, mono_ms: 0 };
const SUBJECTS: [&str; 2] = ["seat/a", "org/a"];

/// What the seeded store or driver does wrong, beside the faults in shipped code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    /// The store overwrites accounts, whatever version is expected.
    BlindWrite,
    /// The store overwrites what is said to be absent.
    InsertRace,
    /// The slot is freed although its record was not sent.
    FreedBeforeSent,
}

/// One exchange of a VM.
#[derive(Clone, Copy, Debug)]
struct Job {
    slot: u32,
    hold: u64,
    more: u64,
    uses: u64,
}

/// What is searched.
#[derive(Clone, Debug)]
struct Case {
    limits: [u64; 2],
    /// What each VM runs.
    jobs: Vec<Vec<Job>>,
    claims: Vec<u16>,
    /// What a claimer runs in the VM slot when it has recovered it: slots are used again across generations.
    after: Vec<Job>,
    /// The ledger grants the first amounts before anything begins.
    granted: Option<[u64; 2]>,
    /// What it says later, each at any one moment: the level, and what is granted there. It may repeat itself.
    says: Vec<(usize, u64)>,
    /// The VMs whose first exchange is acknowledged twice more, at any moment after its record was sent.
    acknowledged: Vec<u16>,
    /// By how much each hold may pass what there is.
    over: u64,
    broken: Option<Broken>,
    /// What each VM and, last, the claimers see on the clock: in the first exchange, and in those after it.
    clocks: Vec<[Now; 2]>,
    quotas: fn(level: usize, limit: u64) -> Vec<(Quota, u64)>,
}

/// Somebody who acts on the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Actor {
    /// An owner and the exchange it runs.
    Owner { by: Incarnation, job: usize, doing: Box<Doing> },
    /// Somebody who takes a VM slot over.
    Claimer { vm: u16, by: Option<Incarnation>, doing: Rescue },
    /// The ledger, which has said so much.
    Ledger { said: usize },
    /// An acknowledgement on its way to the first exchange of a VM, for the second and third time.
    Ack { by: Incarnation, left: u8, doing: Option<Operation> },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Doing {
    Begin,
    Admit(Operation),
    Extend(Operation),
    /// The operation, and the record that it writes.
    Settle(Operation),
    Send,
    Free(Operation),
    Done,
    Fenced,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Rescue {
    Claim(Claim),
    Recover(Box<Recovery>),
    Send(Vec<Unsent>),
    Free(Box<Operation>, Vec<Unsent>),
    Done,
    Fenced,
}

type Ledger = BTreeMap<ExchangeId, Vec<u8>>;

#[derive(Clone)]
struct State {
    shelf: Shelf,
    actors: Vec<Part<Actor>>,
    ledger: Part<Ledger>,
}

impl State {
    fn print(&self) -> u128 {
        let mut hasher = Wide(1, 2);
        for value in &self.shelf.values {
            hasher.write_u128(value.print);
        }
        for actor in &self.actors {
            hasher.write_u128(actor.print);
        }
        hasher.write_u128(self.ledger.print);
        hasher.wide()
    }
}

struct Searcher {
    keys: Keys,
    case: Case,
    /// What happened at least once: a search that reaches nothing proves nothing.
    reached: RefCell<BTreeSet<&'static str>>,
}

impl Searcher {
    fn start(&self) -> State {
        let keys = &self.keys;
        let vms = 0..u16::try_from(self.case.jobs.len()).unwrap();
        let mut names: Vec<Vec<u8>> = vms.clone().map(|vm| keys.vm(vm)).collect();
        names.extend(vms.clone().map(|vm| keys.slot(vm, 0)));
        names.extend(SUBJECTS.map(|subject| keys.account(subject)));
        let values = names.iter().map(|_| Part::new(None)).collect();
        let mut shelf = Shelf { keys: names.into(), values, broken: None, written: None, calls: 0 };
        let mut actors = Vec::new();
        for vm in vms {
            let mut recovery = first_claimable(keys, 7, true, NOW, &mut shelf).unwrap().unwrap();
            assert_eq!(recovery.run(&mut shelf, &mut charge_all), Ok(Outcome::Done));
            let by = recovery.by();
            actors.push(Part::new(Actor::Owner { by, job: 0, doing: Box::new(Doing::Begin) }));
            if self.case.acknowledged.contains(&vm) {
                actors.push(Part::new(Actor::Ack { by, left: 2, doing: None }));
            }
        }
        for vm in &self.case.claims {
            let claim = Claim::anyhow(keys, 7, *vm, self.clock(self.case.jobs.len(), 0));
            actors.push(Part::new(Actor::Claimer { vm: *vm, by: None, doing: Rescue::Claim(claim) }));
        }
        if let Some(amounts) = self.case.granted {
            (0..2).for_each(|level| self.grant(level, amounts[level], &mut shelf));
            actors.push(Part::new(Actor::Ledger { said: 0 }));
        }
        shelf.broken = self.case.broken;
        State { shelf, actors, ledger: Part::new(Ledger::new()) }
    }

    fn levels(&self, amount: u64) -> Vec<Level> {
        let level = |index: usize| Level {
            subject: SUBJECTS[index].to_owned(),
            lines: (self.case.quotas)(index, self.case.limits[index])
                .into_iter()
                .map(|(quota, factor)| Line {
                    quota,
                    amount: if factor == 0 { 1 } else { amount * factor },
                    over: self.case.over,
                })
                .collect(),
        };
        vec![level(0), level(1)]
    }

    /// One answer of the ledger. Two store calls: were there others between them, they would be made again.
    fn grant(&self, level: usize, granted: u64, shelf: &mut Shelf) {
        let span = super::window::opening(
            &Window::Calendar { period: super::CalendarPeriod::Month, zone: "UTC".to_owned() },
            NOW.wall_ms,
        )
        .unwrap();
        let line = |(quota, _): (Quota, u64)| {
            quota.granted.then_some(GrantLine {
                quota: quota.id,
                window: span.start,
                ends: span.ends,
                granted,
                left: 0,
                owed: 0,
            })
        };
        let lines: Vec<_> = (self.case.quotas)(level, self.case.limits[level]).into_iter().filter_map(line).collect();
        assert_eq!(grant(&self.keys, SUBJECTS[level], &lines, shelf), Ok(Outcome::Done));
        shelf.calls = 1;
    }

    /// One step of actor `index`: the state after it, or `None` when it has nothing to do.
    fn step(&self, state: &State, index: usize) -> Option<Result<State, String>> {
        let mut next = state.clone();
        (next.shelf.written, next.shelf.calls) = (None, 0);
        let mut actor = Actor::clone(&state.actors[index].value);
        let moved = match &mut actor {
            Actor::Owner { by, job, doing } => self.own(*by, job, doing, &mut next),
            Actor::Claimer { vm, by, doing } => self.rescue(*vm, by, doing, &mut next),
            Actor::Ledger { said } => match self.case.says.get(*said) {
                Some((level, granted)) => {
                    self.grant(*level, *granted, &mut next.shelf);
                    *said += 1;
                    Ok(true)
                }
                None => Ok(false),
            },
            Actor::Ack { by, left, doing } => self.acknowledge(*by, left, doing, &mut next),
        };
        match moved {
            Err(fault) => return Some(Err(fault)),
            Ok(false) => return None,
            Ok(true) => {}
        }
        assert!(next.shelf.calls <= 1, "one store call a step");
        if let Err(fault) = self.lawful(state, &next) {
            return Some(Err(fault));
        }
        if let Actor::Claimer { by: Some(by), doing: Rescue::Done, .. } = actor
            && !self.case.after.is_empty()
        {
            actor = Actor::Owner { by, job: 0, doing: Box::new(Doing::Begin) };
        }
        next.actors[index] = Part::new(actor);
        self.normalise(&mut next, index);
        Some(Ok(next))
    }

    /// What actors expect of keys, under names that do not count how often they were written.
    fn normalise(&self, state: &mut State, moved: usize) {
        let Shelf { keys, values, broken, written, .. } = &state.shelf;
        // A step that wrote has loaded nothing, so that whatever its own actor expects of that key is old as well.
        let relabel = {
            move |key: &[u8], expect: Expect| {
                let position = keys.iter().position(|known| known == key).unwrap();
                let overwritten = *written == Some(position);
                let fresh = match expect {
                    Expect::Absent => values[position].value.is_none(),
                    Expect::Version(version) => version == PRESENT && !overwritten,
                };
                let blind = *broken == Some(Broken::BlindWrite) && position >= keys.len() - 2
                    || *broken == Some(Broken::InsertRace) && expect == Expect::Absent;
                match (fresh, blind) {
                    (true, _) => Some(expect),
                    (false, true) => Some(if expect == Expect::Absent { expect } else { super::edit::NEVER }),
                    (false, false) => None,
                }
            }
        };
        for (index, actor) in state.actors.iter_mut().enumerate() {
            if index != moved && written.is_none() {
                continue;
            }
            let mut normal = Actor::clone(&actor.value);
            normal.normalise(&relabel);
            if normal != *actor.value {
                *actor = Part::new(normal);
            }
        }
    }

    fn clock(&self, vm: usize, job: usize) -> Now {
        self.case.clocks[vm][job.min(1)]
    }

    /// An acknowledgement that comes late, or once more: the slot may be used again by then, or its owner be fenced.
    fn acknowledge(
        &self,
        by: Incarnation,
        left: &mut u8,
        doing: &mut Option<Operation>,
        state: &mut State,
    ) -> Result<bool, String> {
        let id = ExchangeId { by, sequence: 1 };
        match doing {
            None if *left > 0 && state.ledger.value.contains_key(&id) => {
                *left -= 1;
                *doing = Some(Operation::free(&self.keys, by, 0, id));
                Ok(true)
            }
            None => Ok(false),
            Some(operation) => {
                if let Step::Ended(outcome) = operation.step(&mut state.shelf).unwrap() {
                    self.reached.borrow_mut().insert(match outcome {
                        Outcome::WrongSlot => "an acknowledgement comes too late",
                        Outcome::Done => "an acknowledgement is faster than its exchange",
                        _ => "",
                    });
                    *doing = None;
                }
                Ok(true)
            }
        }
    }

    /// A step may hold no more than may be spent and passed. Told from what was written alone.
    fn lawful(&self, before: &State, after: &State) -> Result<(), String> {
        for (index, subject) in SUBJECTS.iter().enumerate() {
            let key = self.keys.account(subject);
            let read = |state: &State| {
                let bytes = state.shelf.value(&key)?;
                Account::decode(subject, bytes)
            };
            let same = before.shelf.value(&key) == after.shelf.value(&key);
            let Some(new) = read(after).filter(|_| !same) else { continue };
            let old = read(before).unwrap_or_else(|| Account::new(subject));
            for (quota, _) in (self.case.quotas)(index, self.case.limits[index]) {
                let kind = Kind::of(&quota.window);
                let Some(now) = new.entry(quota.id, kind).filter(|_| kind == Kind::Windowed) else { continue };
                let was = old.entry(quota.id, kind).map(periods).unwrap_or_default();
                for period in periods(now) {
                    let held = was.iter().find(|was| was.start == period.start).map_or(0, |was| was.held);
                    let most = allowance(&quota, &period) + self.case.over;
                    if period.held > held && period.used + period.owed + period.held > most {
                        return Err(format!("{subject} holds {period:?}, and may {most}"));
                    }
                    let (sum, all) = together(&quota, &period, &periods(now));
                    if period.held > held && period.start == now.current.start && sum > all + self.case.over {
                        return Err(format!("{subject} has spent {sum} of {all} in {now:?}"));
                    }
                }
            }
        }
        Ok(())
    }

    /// By how much an account may be passed: the overage, and what exchanges use beyond what they hold.
    fn bound(&self) -> u64 {
        let jobs = self.case.jobs.iter().flatten().chain(&self.case.after);
        self.case.over + jobs.map(|job| job.uses.saturating_sub(job.hold + job.more)).sum::<u64>()
    }

    fn own(&self, by: Incarnation, job: &mut usize, doing: &mut Doing, state: &mut State) -> Result<bool, String> {
        let (keys, cells) = (&self.keys, &mut state.shelf);
        let now = self.clock(usize::from(by.vm), *job);
        let jobs = if by.generation == 1 { &self.case.jobs[usize::from(by.vm)] } else { &self.case.after };
        let Some(Job { slot, hold, more, uses }) = jobs.get(*job).copied() else {
            let ending = *doing == Doing::Begin;
            if ending {
                *doing = Doing::Done;
            }
            return Ok(ending);
        };
        let id = ExchangeId { by, sequence: *job as u64 + 1 };
        let settle = |uses: u64| {
            let keep = self.case.broken != Some(Broken::FreedBeforeSent);
            let record = vec![u8::try_from(uses).unwrap()];
            Doing::Settle(Operation::settle(keys, by, slot, id, self.levels(uses), record, keep, now))
        };
        if *doing == Doing::Begin {
            let levels = self.levels(hold);
            *doing = Doing::Admit(Operation::hold(keys, by, slot, id, levels, vec![hold as u8], now));
        }
        let (Doing::Admit(operation) | Doing::Extend(operation) | Doing::Settle(operation) | Doing::Free(operation)) =
            doing
        else {
            if *doing != Doing::Send {
                return Ok(false);
            }
            let found = read_slot(keys, by.vm, slot, cells).unwrap().unwrap();
            if let Slot::Settled { id: settled, record } = found
                && settled == id
            {
                send(&mut state.ledger, id, record)?;
                *doing = Doing::Free(Operation::free(keys, by, slot, id));
            } else {
                next_job(job, doing);
            }
            return Ok(true);
        };
        let Step::Ended(outcome) = operation.step(cells).unwrap() else {
            self.reached.borrow_mut().extend(operation.takes_back());
            return Ok(true);
        };
        self.reached.borrow_mut().insert(match (&*doing, &outcome) {
            (Doing::Admit(_), Outcome::Refused(_)) => "an admission is refused",
            (Doing::Extend(_), Outcome::Done) => "an extension is held",
            (Doing::Extend(_), Outcome::Refused(_)) => "an extension is refused",
            (Doing::Admit(_) | Doing::Extend(_), Outcome::Fenced) => "a hold is fenced",
            (Doing::Settle(_), Outcome::Fenced) => "a settle is fenced",
            _ => "",
        });
        match (&*doing, outcome) {
            (_, Outcome::Fenced) => *doing = Doing::Fenced,
            (Doing::Admit(_), Outcome::Done) if more > 0 => {
                let more = self.more(more);
                *doing = Doing::Extend(Operation::extend(keys, by, slot, id, more, 1, now));
            }
            (Doing::Admit(_) | Doing::Extend(_), Outcome::Done) => *doing = settle(uses),
            (Doing::Extend(_), Outcome::Refused(_)) => *doing = settle(uses.min(hold)),
            (Doing::Admit(_), Outcome::Refused(_)) | (Doing::Free(_), Outcome::Done | Outcome::WrongSlot) => {
                next_job(job, doing);
            }
            (Doing::Settle(_), Outcome::Done) => *doing = Doing::Send,
            (doing, outcome) => return Err(format!("{doing:?} ended in {outcome:?}")),
        }
        Ok(true)
    }

    /// What an extension holds: not another place among those that run.
    fn more(&self, amount: u64) -> Vec<Level> {
        let mut levels = self.levels(amount);
        for level in &mut levels {
            level.lines.retain(|line| line.quota.window != Window::Concurrent);
        }
        levels
    }

    fn rescue(
        &self,
        vm: u16,
        by: &mut Option<Incarnation>,
        doing: &mut Rescue,
        state: &mut State,
    ) -> Result<bool, String> {
        let cells = &mut state.shelf;
        match doing {
            Rescue::Done | Rescue::Fenced => return Ok(false),
            Rescue::Claim(claim) => match claim.step(cells).unwrap() {
                Claimed::Again => {}
                Claimed::Missed => *doing = Rescue::Fenced,
                Claimed::Taken(recovery) => {
                    *by = Some(recovery.by());
                    *doing = Rescue::Recover(recovery);
                }
            },
            Rescue::Recover(recovery) => match recovery.step(cells, &mut charge_all).unwrap() {
                Step::Again => {
                    self.reached.borrow_mut().insert(recovery.does());
                }
                Step::Ended(Outcome::Done) => *doing = Rescue::Send(recovery.unsent().to_vec()),
                Step::Ended(Outcome::Fenced) => *doing = Rescue::Fenced,
                Step::Ended(outcome) => return Err(format!("a recovery ended in {outcome:?}")),
            },
            Rescue::Send(unsent) => match unsent.pop() {
                None => *doing = Rescue::Done,
                Some(Unsent { slot, id, record }) => {
                    send(&mut state.ledger, id, record)?;
                    let by = by.ok_or(format!("VM slot {vm} has no claimer"))?;
                    let free = Operation::free(&self.keys, by, slot, id);
                    *doing = Rescue::Free(Box::new(free), std::mem::take(unsent));
                }
            },
            Rescue::Free(operation, unsent) => match operation.step(cells).unwrap() {
                Step::Again => {}
                Step::Ended(Outcome::Fenced) => *doing = Rescue::Fenced,
                Step::Ended(_) => *doing = Rescue::Send(std::mem::take(unsent)),
            },
        }
        Ok(true)
    }

    /// What must hold in every state.
    fn check(&self, state: &State) -> Result<(), String> {
        if fault::underflowed() {
            return Err("more was released than was held".to_owned());
        }
        let vms = 0..u16::try_from(self.case.jobs.len()).unwrap();
        let calm = vms.clone().all(|vm| state.actors.iter().any(|actor| self.rests(state, &actor.value, vm)));
        if calm && vms.clone().any(|vm| !matches!(self.slot(state, vm), Slot::Free)) {
            return Err("at rest a slot is not free".to_owned());
        }
        let sent: u64 = state.ledger.value.values().map(|record| u64::from(record[0])).sum();
        for (index, subject) in SUBJECTS.iter().enumerate() {
            let bytes = state.shelf.value(&self.keys.account(subject));
            let Some(account) = bytes.map(|bytes| Account::decode(subject, bytes).unwrap()) else {
                if calm && sent > 0 {
                    return Err(format!("at rest {subject} is missing"));
                }
                continue;
            };
            for (quota, factor) in (self.case.quotas)(index, self.case.limits[index]) {
                let Some(entry) = account.entry(quota.id, super::account::Kind::of(&quota.window)) else { continue };
                let bound = self.bound() * factor.max(1);
                for period in periods(entry) {
                    let most = if quota.granted { quota.limit } else { allowance(&quota, &period) } + bound;
                    if period.used + period.held > most {
                        return Err(format!("{subject}: used {} and held {} of {most}", period.used, period.held));
                    }
                }
                let held: u64 = periods(entry).iter().map(|period| period.held).sum();
                let used: u64 = periods(entry).iter().map(|period| period.used).sum();
                let sum = used + held;
                if sum > 2 * quota.limit + bound {
                    return Err(format!("{subject}: {sum} in two windows of {}", quota.limit));
                }
                let used = used + entry.slices.sum();
                if used > quota.limit * 2 + bound {
                    return Err(format!("{subject}: {used} of {}", quota.limit));
                }
                let wanted = if entry.kind == Kind::Concurrent { 0 } else { sent * factor };
                if calm && (used, held) != (wanted, 0) {
                    return Err(format!("at rest {subject} has {entry:?}, the ledger says {wanted}"));
                }
            }
        }
        Ok(())
    }

    fn slot(&self, state: &State, vm: u16) -> Slot {
        read_slot(&self.keys, vm, 0, &mut state.shelf.clone()).unwrap().unwrap()
    }

    /// Whether this actor owns VM slot `vm` and has nothing more to do.
    fn rests(&self, state: &State, actor: &Actor, vm: u16) -> bool {
        let by = match actor {
            Actor::Owner { by, doing, .. } if **doing == Doing::Done => by,
            Actor::Claimer { by: Some(by), doing: Rescue::Done, .. } => by,
            _ => return false,
        };
        let seen = super::peek(&self.keys, vm, &mut state.shelf.clone()).unwrap();
        by.vm == vm && seen.is_some_and(|seen| seen.generation == by.generation)
    }
}

impl Actor {
    fn normalise(&mut self, relabel: Relabel<'_>) {
        match self {
            Self::Owner { doing, .. } => match &mut **doing {
                Doing::Admit(operation)
                | Doing::Extend(operation)
                | Doing::Settle(operation)
                | Doing::Free(operation) => operation.normalise(relabel),
                Doing::Begin | Doing::Send | Doing::Done | Doing::Fenced => {}
            },
            Self::Claimer { doing, .. } => match doing {
                Rescue::Claim(claim) => claim.normalise(relabel),
                Rescue::Recover(recovery) => recovery.normalise(relabel),
                Rescue::Free(operation, _) => operation.normalise(relabel),
                Rescue::Send(_) | Rescue::Done | Rescue::Fenced => {}
            },
            Self::Ack { doing, .. } => {
                if let Some(operation) = doing {
                    operation.normalise(relabel);
                }
            }
            Self::Ledger { .. } => {}
        }
    }
}

/// What was spent until now in all windows that are kept, and what they have together, with what went over into the first:
/// more than that and one overage nobody may hold. What the ledger grants, it sees to.
fn together(quota: &Quota, current: &Period, kept: &[Period]) -> (u64, u64) {
    if quota.granted {
        return (0, 0);
    }
    let first = kept.iter().min_by_key(|period| period.start).unwrap_or(current);
    let windows = super::mean_length(&quota.window).map(|mean| (current.start - first.start + mean / 2) / mean + 1);
    let sum = kept.iter().map(|period| period.used).sum::<u64>() + current.held;
    (sum, quota.limit * windows.unwrap_or(kept.len() as u64) + first.carried)
}

/// The windows of a quota that are kept.
fn periods(entry: &Entry) -> Vec<Period> {
    [entry.current].into_iter().chain(entry.before.iter().copied()).collect()
}

fn next_job(job: &mut usize, doing: &mut Doing) {
    *job += 1;
    *doing = Doing::Begin;
}

/// A lost exchange costs what it held on the first quota of the first level; its record says so.
fn charge_all(held: &Held) -> Ending {
    let amount = held.levels[0].lines[0].amount;
    Ending { used: held.levels.clone(), record: vec![u8::try_from(amount).unwrap()] }
}

fn send(ledger: &mut Part<Ledger>, id: ExchangeId, record: Vec<u8>) -> Result<(), String> {
    match ledger.value.get(&id) {
        Some(known) if *known != record => Err(format!("{id} arrived as {known:?} and as {record:?}")),
        Some(_) => Ok(()),
        None => {
            let mut more = Ledger::clone(&ledger.value);
            more.insert(id, record);
            *ledger = Part::new(more);
            Ok(())
        }
    }
}

/// What a search saw.
#[derive(Clone, Debug, Default)]
struct Seen {
    states: usize,
    steps: usize,
    reached: BTreeSet<&'static str>,
}

/// Searches `case` to the end, or to the first state in which something is wrong.
fn search(case: &Case) -> (Seen, Result<(), String>) {
    let searcher = Searcher { keys: Keys::new("search"), case: case.clone(), reached: RefCell::default() };
    fault::underflowed();
    let start = searcher.start();
    // Fingerprints are hashes already.
    let (mut known, mut todo, mut steps) = (HashSet::from([start.print()]), vec![start], 0);
    while let Some(state) = todo.pop() {
        for index in 0..state.actors.len() {
            let Some(next) = searcher.step(&state, index) else { continue };
            steps += 1;
            let checked = next.and_then(|next| searcher.check(&next).map(|()| next));
            match checked {
                Err(fault) => return (Seen { states: known.len(), steps, ..Seen::default() }, Err(fault)),
                Ok(next) => {
                    if known.insert(next.print()) {
                        todo.push(next);
                    }
                }
            }
        }
    }
    (Seen { states: known.len(), steps, reached: searcher.reached.into_inner() }, Ok(()))
}
