//! Every interleaving of single store calls of the shipped operations, with claims at any moment.
//!
//! The case is that of the design's model: two VMs, two levels, an extension, a refusal, a slot that is used twice,
//! and claimers that take a VM slot over whenever they like, also from an owner that lives and from each other. An
//! actor that is never scheduled again is a dead one, so every prefix of every schedule is a crash. Accounts are
//! missing at the start, so that both VMs race to create them. Beside it there are three VMs, streams that use more than
//! they hold, clocks that step, windows that pass on what they have left, and answers that come late and twice; all of
//! these at once with two claimers is the largest. What keeps that within minutes is in [`reduction`] and [`moves`].

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher;

use super::fault;
use super::{Claim, ExchangeId, GrantLine, Keys, Level, Line, Outcome, Quota, Window, first_claimable, grant};
use crate::now::Now;

mod actor;
mod cases;
mod invariant;
mod moves;
mod reduction;
mod store;

use actor::{Actor, Doing, Rescue, charge_all};
use moves::{Move, Moves};
use store::{Part, Prints, Shelf, Wide};

const NOW: Now = Now { wall_ms: 1_790_000_000_000, mono_ms: 0 };
/// Says after so many states each that the search goes on.
const MANY: usize = 10_000_000;
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
    steps: usize,
    /// Whether steps that nobody else can see are taken at once. See [`reduction`].
    reduced: bool,
    /// What is known of steps.
    moves: Moves,
    /// Accounts in which all holds, by level and fingerprint, whatever else there is.
    sound: Prints<(usize, u128)>,
    /// What it has passed through, where that is asked for: fingerprints of both accounts together, of each before and after
    /// a step, and at rest with the ledger's.
    passed: Option<Prints<[u128; 3]>>,
}

impl Searcher {
    fn new(case: &Case) -> Self {
        let (keys, reached) = (Keys::new("search"), RefCell::default());
        Self {
            keys,
            case: case.clone(),
            reached,
            steps: 0,
            reduced: true,
            moves: Moves::default(),
            sound: Prints::default(),
            passed: None,
        }
    }

    /// Every state that can be reached, or the first in which something is wrong.
    fn search(mut self) -> (Seen, Result<(), String>) {
        fault::underflowed();
        let mut known = Prints::default();
        let result = self.visit(&mut known);
        (Seen { states: known.len(), steps: self.steps, reached: self.reached.into_inner() }, result)
    }

    fn visit(&mut self, known: &mut Prints<u128>) -> Result<(), String> {
        let start = self.onward(self.start())?;
        known.insert(start.print());
        let mut todo = vec![start];
        while let Some(state) = todo.pop() {
            for index in 0..state.actors.len() {
                let Some(next) = self.checked(&state, index)? else { continue };
                let next = self.written(&state, next, index)?;
                let next = self.onward(next)?;
                if known.insert(next.print()) {
                    todo.push(next);
                    if known.len().is_multiple_of(MANY) {
                        println!("… {} states, {} to go on from, {:?}", known.len(), todo.len(), self.case.claims);
                    }
                }
            }
        }
        Ok(())
    }

    /// One step of actor `index`, and whether all holds after it.
    fn checked(&mut self, state: &State, index: usize) -> Result<Option<State>, String> {
        let Some(taken) = self.step(state, index)? else { return Ok(None) };
        self.take(state, index, &taken).map(Some)
    }

    /// The state after that step, if all holds in it.
    fn take(&mut self, state: &State, index: usize, taken: &Move) -> Result<State, String> {
        let next = self.after(state, index, taken);
        self.steps += 1;
        let calm = self.check(&next)?;
        if let Some(passed) = &mut self.passed {
            let accounts =
                |state: &State| state.shelf.values.last_chunk::<2>().unwrap().each_ref().map(|value| value.print);
            let ([first, second], [before, other]) = (accounts(&next), accounts(state));
            passed.extend([[first, second, 0], [before, first, 1], [other, second, 2]]);
            passed.extend(calm.then_some([first, second, next.ledger.print]));
        }
        Ok(next)
    }

    fn start(&self) -> State {
        let keys = &self.keys;
        let vms = 0..u16::try_from(self.case.jobs.len()).unwrap();
        let mut names: Vec<Vec<u8>> = vms.clone().map(|vm| keys.vm(vm)).collect();
        names.extend(vms.clone().map(|vm| keys.slot(vm, 0)));
        names.extend(SUBJECTS.map(|subject| keys.account(subject)));
        let values = names.iter().map(|_| Part::new(None)).collect();
        let mut shelf = Shelf {
            keys: names.into(),
            values,
            broken: None,
            written: None,
            touched: None,
            missed: false,
            deaf: false,
            calls: 0,
        };
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

    /// One step of `actor`; `false` when it has nothing to do.
    fn act(&self, actor: &mut Actor, state: &mut State) -> Result<bool, String> {
        match actor {
            Actor::Owner { by, job, doing } => self.own(*by, job, doing, state),
            Actor::Claimer { vm, by, doing } => self.rescue(*vm, by, doing, state),
            Actor::Ledger { said } => match self.case.says.get(*said) {
                Some((level, granted)) => {
                    self.grant(*level, *granted, &mut state.shelf);
                    *said += 1;
                    Ok(true)
                }
                None => Ok(false),
            },
            Actor::Ack { by, left, doing } => self.acknowledge(*by, left, doing, state),
        }
    }

    fn clock(&self, vm: usize, job: usize) -> Now {
        self.case.clocks[vm][job.min(1)]
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
    Searcher::new(case).search()
}
