//! One seed: a world, what happens in it, and the rest until all is quiet.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use farebox::policy;
use farebox::quota::Slot;
use farebox::sim::network::Weather;
use farebox::sim::world::{At, End, Trouble, World};
use farebox::upstream::vocabulary::Draw;

use super::era::Era;
use super::{check, plan};

/// 2026-11-25 12:00 UTC.
pub const START_MS: u64 = 1_795_608_000_000;

/// What a run covered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    pub admitted: u64,
    pub refused: u64,
    pub lost: u64,
    pub records: u64,
    pub unsettled: u64,
    pub operations: u64,
    pub kills: u64,
    pub fails: u64,
    pub stalls: u64,
    pub races: u64,
    pub fenced: u64,
    pub restarts: u64,
    pub waited: u64,
    pub passed: u64,
    /// Refused calls that count.
    pub rejected: u64,
    /// Calls of which a fund was passed over for a cap of its own.
    pub next_fund: u64,
    /// Windows after one that was passed.
    pub owed: u64,
}

impl Figures {
    fn all(&self) -> [(&'static str, u64); 16] {
        [
            ("exchanges admitted", self.admitted),
            ("refused", self.refused),
            ("lost with their VM", self.lost),
            ("records", self.records),
            ("of them unsettled", self.unsettled),
            ("store operations", self.operations),
            ("VMs killed", self.kills),
            ("store failures", self.fails),
            ("stalls", self.stalls),
            ("operations raced", self.races),
            ("fenced", self.fenced),
            ("process restarts", self.restarts),
            ("waited for a grant", self.waited),
            ("windows passed as is printed", self.passed),
            ("refusals counted", self.rejected),
            ("paid by the next fund", self.next_fund),
        ]
    }

    pub fn add(&mut self, more: &Self) {
        let sum = [
            &mut self.admitted,
            &mut self.refused,
            &mut self.lost,
            &mut self.records,
            &mut self.unsettled,
            &mut self.operations,
            &mut self.kills,
            &mut self.fails,
            &mut self.stalls,
            &mut self.races,
            &mut self.fenced,
            &mut self.restarts,
            &mut self.waited,
            &mut self.passed,
            &mut self.rejected,
            &mut self.next_fund,
        ];
        sum.into_iter().zip(more.all()).for_each(|(sum, (_, more))| *sum += more);
    }

    /// A run of many seeds in which something never happened has tested nothing of it.
    pub fn assert_covered(&self) {
        for (what, count) in self.all() {
            assert!(count > 0, "no {what} in all these seeds");
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<_> = self.all().iter().map(|(what, count)| format!("{count} {what}")).collect();
        f.write_str(&all.join(", "))
    }
}

/// What drives a world, also from inside a stall.
pub struct Driver {
    pub draw: RefCell<Draw>,
    pub figures: RefCell<Figures>,
    pub faults: RefCell<Vec<String>>,
    /// How deep in stalls.
    depth: RefCell<u32>,
    /// Stalls that have run: around a step that contains one, before and after cannot be compared.
    interleaved: RefCell<u64>,
}

/// Runs a seed. `Err`: what is wrong.
pub fn run(seed: u64) -> Result<Figures, String> {
    let bundle = policy::compile(&plan::policy(seed), "sim.yaml")
        .map_err(|faults| faults.iter().map(|fault| format!("{fault}\n")).collect::<String>())?;
    let mut draw = Draw::new(seed, 2);
    let (processes, vms) = (1 + draw.below(2) as usize, 1 + draw.below(4) as usize);
    let world = World::new(bundle, processes, vms, Era::of(seed).from_ms + draw.below(5 * 86_400_000), seed)
        .map_err(|error| error.to_string())?;
    if draw.below(3) == 0 {
        world.set_weather(Weather::STORM);
    } else {
        world.set_weather(Weather { latency_ms: draw.below(300), ..Weather::default() });
    }
    let calls = 8 + draw.below(40);
    let driver = Rc::new(Driver {
        draw: RefCell::new(draw),
        figures: RefCell::default(),
        faults: RefCell::default(),
        depth: RefCell::default(),
        interleaved: RefCell::default(),
    });
    let restarts = driver.below(10) == 0;
    let jumps = driver.below(4) == 0;
    let troubles = driver.below(4) > 0;
    let mut opened = 0;
    let (mut jumped, mut stepped) = (false, false);
    let mut restarted = Vec::new();
    while opened < calls || (!world.ready().is_empty() && driver.below(200) > 0) {
        match driver.below(100) {
            0..=24 if opened < calls => {
                opened += 1;
                driver.open(&world);
            }
            25..=27 if troubles => driver.trouble(&world),
            28 if restarts && driver.below(10) == 0 => {
                let process = driver.below(processes as u64) as usize;
                restarted.extend(check::epoch(&world, process));
                world.restart(process);
                driver.figures.borrow_mut().restarts += 1;
            }
            29 if jumps && !jumped => {
                jumped = true;
                let hours = [1, 2, 6, 24 * 8, 24 * 20][driver.below(5) as usize];
                world.tick(hours * 3_600_000);
            }
            30 if jumps => {
                stepped = true;
                world.step_wall([-5_000, -1, 1, 5_000][driver.below(4) as usize]);
            }
            31..=39 => world.tick(1 + driver.below(400)),
            _ => driver.step(&world),
        }
        let faults = driver.faults.borrow();
        if !faults.is_empty() {
            return Err(faults.join("; ") + &told(&world));
        }
    }
    quiesce(&world, &driver).map_err(|why| why + &told(&world))?;
    let mut figures = *driver.figures.borrow();
    check::all(&world, &restarted, stepped, &mut figures).map_err(|why| why + &told(&world))?;
    Ok(figures)
}

fn told(world: &World) -> String {
    if std::env::var_os("SIM_SEED").is_none() {
        return String::new();
    }
    format!("\n{}", world.log_lines().join("\n"))
}

/// No trouble any more: streams run to their ends, silent VMs are claimed, records arrive.
fn quiesce(world: &World, driver: &Driver) -> Result<(), String> {
    world.set_weather(Weather::default());
    world.places().into_iter().for_each(|at| world.disarm(at));
    // Streams stand still until every dead VM has been claimed: what is held then is what their slots say.
    (0..80).for_each(|_| world.tick(1_000));
    check::held_by_slots(world)?;
    if !world.run(60_000) {
        return Err(format!("{} streams never end", world.streams()));
    }
    let faults = driver.faults.borrow();
    if !faults.is_empty() {
        return Err(faults.join("; "));
    }
    let processes = world.places().iter().map(|at| at.process).max().map_or(0, |last| last + 1);
    for round in 0..400 {
        world.tick(1_000);
        let quiet = (0..processes).all(|process| world.taken_slots(process).is_ok_and(|slots| slots.is_empty()));
        // Two syncs more, so that the ledger knows of the last change.
        if round > 40 && quiet && world.is_calm() {
            (0..5).for_each(|_| world.tick(1_000));
            return Ok(());
        }
    }
    let brief = |slot: &Slot| match slot {
        Slot::Held(held) => format!("held {}", held.id),
        Slot::Settled { id, .. } => format!("settled {id}"),
        Slot::Free => String::new(),
    };
    let slots = |process| world.taken_slots(process).unwrap_or_default().iter().map(brief).collect::<Vec<_>>();
    let slots: Vec<_> = (0..processes).map(slots).collect();
    Err(format!("after 400 s of peace slots are taken: {slots:?}"))
}

impl Driver {
    pub fn below(&self, bound: u64) -> u64 {
        self.draw.borrow_mut().below(bound)
    }

    fn somewhere(&self, world: &World) -> At {
        let places = world.places();
        places[self.below(places.len() as u64) as usize]
    }

    fn open(&self, world: &World) {
        let call = plan::call(&mut self.draw.borrow_mut());
        world.open(self.somewhere(world), call);
    }

    /// One event of one random stream; the limits that hold at every moment are looked at.
    fn step(&self, world: &World) {
        let ready = world.ready();
        if ready.is_empty() {
            return world.tick(1 + self.below(100));
        }
        let (at, stream) = ready[self.below(ready.len() as u64) as usize];
        let (before, interleaved) = (check::standings(world, at.process), *self.interleaved.borrow());
        let fenced = || world.counters().get("fenced_total{}").copied();
        let fenced_before = fenced();
        let was_running = world.seen(stream).is_some_and(|seen| seen.end.is_none() && seen.admitted().is_none());
        world.step(at, stream);
        let Some(seen) = world.seen(stream) else { return };
        // A store that did not answer may have left half a hold, which the next claim of the VM slot takes back.
        let by_store = seen.notes.get("denied_by").is_some_and(|by| by == "store");
        // So may one that did not answer when the refusal itself was counted, for which its VM was given up.
        let untouched = *self.interleaved.borrow() == interleaved && !by_store && fenced() == fenced_before;
        if was_running && seen.end == Some(End::Refused) && untouched {
            let after = check::standings(world, at.process);
            if !check::untouched(world, &before, &after) {
                let why = format!("a refusal by {:?} changed {before:?} to {after:?}", seen.notes.get("denied_by"));
                self.faults.borrow_mut().push(why);
            }
        }
        if seen.admitted().is_some()
            && let Err(why) = check::concurrency(world, at.process)
        {
            self.faults.borrow_mut().push(why);
        }
    }

    /// Arms something at a random VM.
    fn trouble(self: &Rc<Self>, world: &World) {
        let at = self.somewhere(world);
        let n = self.below(40);
        let trouble = match self.below(7) {
            5 | 6 => {
                let driver = Rc::clone(self);
                Trouble::Race(Box::new(move |world| driver.beside(world)))
            }
            0 | 1 => {
                self.figures.borrow_mut().kills += 1;
                Trouble::Kill
            }
            2 => {
                self.figures.borrow_mut().fails += 1;
                Trouble::Fail
            }
            _ => {
                let driver = Rc::clone(self);
                Trouble::Stall(Box::new(move |world| driver.meanwhile(world)))
            }
        };
        world.arm(at, n, trouble);
    }

    /// What happens elsewhere at the same time.
    fn beside(&self, world: &World) {
        *self.interleaved.borrow_mut() += 1;
        self.figures.borrow_mut().races += 1;
        for _ in 0..self.below(4) {
            let ready = world.ready();
            if !ready.is_empty() {
                let (at, stream) = ready[self.below(ready.len() as u64) as usize];
                world.step(at, stream);
            }
        }
    }

    /// What happens elsewhere while a VM stands still: a little, or so much that it is taken for dead.
    fn meanwhile(self: &Rc<Self>, world: &World) {
        if *self.depth.borrow() >= 2 {
            return;
        }
        *self.depth.borrow_mut() += 1;
        *self.interleaved.borrow_mut() += 1;
        self.figures.borrow_mut().stalls += 1;
        let long = self.below(2) == 0;
        for _ in 0..if long { 40 } else { 1 } {
            for _ in 0..self.below(6) {
                let ready = world.ready();
                if !ready.is_empty() {
                    let (at, stream) = ready[self.below(ready.len() as u64) as usize];
                    world.step(at, stream);
                }
            }
            world.tick(if long { 1_000 } else { self.below(100) });
        }
        *self.depth.borrow_mut() -= 1;
    }
}
