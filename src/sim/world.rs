//! Processes, their VMs and streams, a network and a collector, on one virtual clock.
//!
//! Nothing happens by itself: whoever drives a world opens streams, steps them one event at a time, and lets time
//! pass. So every interleaving of events can be had, and by [`Trouble`] every interleaving of store operations too.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

use super::call::Call;
use super::ledger::Ledger;
use super::network::{Message, Network, Then, Weather};
use super::station::Station;
use super::store::{Fate, SharedData, SimCells, VirtualClock};
pub use super::stream::{End, Seen};
use crate::collector::store::Error;
use crate::engine::effect::{Handle, Severity};
use crate::engine::vm::Vm;
use crate::now::Now;
use crate::policy::bundle::Bundle;
use crate::quota::{Account, Keys, Slot, StoreError, read_account, read_slot};
use crate::upstream::vocabulary::Draw;

/// Where a VM is: which process, and which in it. The process is an Envoy, the VM one of its threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct At {
    /// From 0.
    pub process: usize,
    /// From 0.
    pub vm: usize,
}

/// What happens to a VM at one of its next store operations.
pub enum Trouble {
    /// It dies there, and Envoy makes another one in its place.
    Kill,
    /// The store does not answer, this once.
    Fail,
    /// It stands still there, while this happens elsewhere; then it goes on, not knowing of it.
    Stall(Box<dyn FnOnce(&World)>),
    /// From now until there, this happens elsewhere before each operation: two threads that run at the same time.
    Race(Box<dyn FnMut(&World)>),
}

/// See the module's docs. Clones are the same world.
#[derive(Clone)]
pub struct World {
    inner: Rc<Inner>,
}

type Process = Vec<Rc<RefCell<Station>>>;

struct Inner {
    bundle: Rc<Bundle>,
    seed: u64,
    clock: Cell<VirtualClock>,
    processes: RefCell<Vec<Process>>,
    ledger: RefCell<Ledger>,
    network: RefCell<Network>,
    ended: RefCell<BTreeMap<Handle, (At, Seen)>>,
    counters: RefCell<BTreeMap<String, u64>>,
    log: RefCell<Vec<String>>,
    random: RefCell<Draw>,
    last_handle: Cell<Handle>,
}

impl World {
    /// `vms` VMs in each of `processes` processes, at `wall_ms` of the wall clock. `seed` decides all chance in it.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn new(bundle: Bundle, processes: usize, vms: usize, wall_ms: u64, seed: u64) -> Result<Self, Error> {
        let inner = Inner {
            bundle: Rc::new(bundle),
            seed,
            clock: Cell::new(VirtualClock::at(wall_ms)),
            processes: RefCell::default(),
            ledger: RefCell::new(Ledger::new()?),
            network: RefCell::new(Network::new(seed)),
            ended: RefCell::default(),
            counters: RefCell::default(),
            log: RefCell::default(),
            random: RefCell::new(Draw::new(seed, 0x7264)),
            last_handle: Cell::new(0),
        };
        let world = Self { inner: Rc::new(inner) };
        for process in 0..processes {
            let process = world.process(process, vms, 0);
            world.inner.processes.borrow_mut().push(process);
        }
        Ok(world)
    }

    fn process(&self, process: usize, vms: usize, life: u32) -> Process {
        let shared = SharedData::new();
        let station = |vm| Station::new(At { process, vm }, life, shared.clone(), self);
        (0..vms).map(|vm| Rc::new(RefCell::new(station(vm)))).collect()
    }

    /// What it serves.
    pub fn bundle(&self) -> &Rc<Bundle> {
        &self.inner.bundle
    }

    /// Both clocks.
    pub fn now(&self) -> Now {
        self.inner.clock.get().now()
    }

    /// Its ledger.
    pub fn ledger(&self) -> RefMut<'_, Ledger> {
        self.inner.ledger.borrow_mut()
    }

    /// How the way to the collector is from now on.
    pub fn set_weather(&self, weather: Weather) {
        self.network(|network| network.weather = weather);
    }

    /// Whether nothing is on its way to the collector or back.
    pub fn is_calm(&self) -> bool {
        self.network(|network| network.is_idle())
    }

    /// Every VM, in order.
    pub fn places(&self) -> Vec<At> {
        let processes = self.inner.processes.borrow();
        let place = |(process, vms): (usize, &Process)| (0..vms.len()).map(move |vm| At { process, vm }).collect();
        processes.iter().enumerate().flat_map(|process| -> Vec<At> { place(process) }).collect()
    }

    /// Opens a stream at a VM; nothing is told to it yet. `None`: there is no such VM, or it stands still.
    pub fn open(&self, at: At, call: Call) -> Option<Handle> {
        let handle = self.inner.last_handle.get().checked_add(1)?;
        self.inner.last_handle.set(handle);
        self.at(at, |station| station.begin(handle, call, self)).map(|()| handle)
    }

    /// The streams to which something can happen now. Those that wait for a grant are not among them.
    pub fn ready(&self) -> Vec<(At, Handle)> {
        let ready = |at| self.at(at, |station| station.ready().map(|handle| (at, handle)).collect::<Vec<_>>());
        self.places().into_iter().filter_map(ready).flatten().collect()
    }

    /// One event of one stream.
    pub fn step(&self, at: At, stream: Handle) {
        self.at(at, |station| station.step(stream, self));
    }

    /// Lets `ms` milliseconds pass; then everything arrives that is due, and every VM ticks once.
    pub fn tick(&self, ms: u64) {
        let mut clock = self.inner.clock.get();
        clock.advance(ms);
        self.inner.clock.set(clock);
        while let Some(message) = self.network(|network| network.next(self.now().mono_ms)) {
            self.deliver(message);
        }
        for at in self.places() {
            self.at(at, |station| station.tick(self));
        }
    }

    /// Somebody sets the wall clock forth or back.
    pub fn step_wall(&self, by_ms: i64) {
        let mut clock = self.inner.clock.get();
        clock.step_wall(by_ms);
        self.inner.clock.set(clock);
    }

    /// Lets streams run and time pass until every stream has ended, for at most `ms` milliseconds. Tells whether all have.
    pub fn run(&self, ms: u64) -> bool {
        let until = self.now().mono_ms.saturating_add(ms);
        loop {
            let ready = self.ready();
            for (at, stream) in &ready {
                self.step(*at, *stream);
            }
            if self.streams() == 0 {
                return true;
            }
            if ready.is_empty() {
                if self.now().mono_ms >= until {
                    return false;
                }
                self.tick(50);
            }
        }
    }

    /// How many streams have not ended.
    pub fn streams(&self) -> usize {
        self.places().into_iter().filter_map(|at| self.at(at, |station| station.streams.len())).sum()
    }

    /// Trouble for a VM at its `n`-th store operation from now (0: the very next), in place of any trouble armed before.
    pub fn arm(&self, at: At, n: u64, trouble: Trouble) {
        self.at(at, |station| match trouble {
            Trouble::Kill => station.cells.kill_at(n),
            Trouble::Fail => station.cells.fail_at(n),
            Trouble::Stall(meanwhile) => stall(&mut station.cells, n, meanwhile, Rc::downgrade(&self.inner)),
            Trouble::Race(meanwhile) => race(&mut station.cells, n, meanwhile, Rc::downgrade(&self.inner)),
        });
    }

    /// Takes back whatever trouble is armed.
    pub fn disarm(&self, at: At) {
        self.at(at, |station| station.cells.before_op(|_| Fate::Pass));
    }

    /// A process dies, with its streams and its shared data, and starts again.
    pub fn restart(&self, process: usize) {
        let places: Vec<At> = self.places().into_iter().filter(|at| at.process == process).collect();
        let mut life = 0;
        for at in &places {
            let ended = self.at(*at, |station| {
                station.lose_all(self);
                station.life
            });
            // One that stands still cannot be dropped from under its own feet.
            let Some(last) = ended else { return };
            life = life.max(last);
        }
        let fresh = self.process(process, places.len(), life.saturating_add(1));
        if let Some(old) = self.inner.processes.borrow_mut().get_mut(process) {
            *old = fresh;
        }
    }

    /// What was seen of a stream so far.
    pub fn seen(&self, stream: Handle) -> Option<Seen> {
        if let Some((_, seen)) = self.inner.ended.borrow().get(&stream) {
            return Some(seen.clone());
        }
        let find =
            |at| self.at(at, |station| station.seen().find(|(one, _)| *one == stream).map(|(_, seen)| seen.clone()));
        self.places().into_iter().find_map(|at| find(at).flatten())
    }

    /// All streams that have ended, with where they ran.
    pub fn all_ended(&self) -> Vec<(At, Seen)> {
        self.inner.ended.borrow().values().cloned().collect()
    }

    /// What is known of the streams that a process runs now.
    pub fn running(&self, process: usize) -> Vec<Seen> {
        let places = self.places().into_iter().filter(|at| at.process == process);
        let seen =
            places.filter_map(|at| self.at(at, |station| station.seen().map(|(_, seen)| seen.clone()).collect()));
        seen.flat_map(|seen: Vec<Seen>| seen).collect()
    }

    /// The shared data of a process.
    pub fn shared(&self, process: usize) -> Option<SharedData> {
        self.at(At { process, vm: 0 }, |station| station.shared())
    }

    /// All accounts in the shared data of a process.
    ///
    /// # Errors
    /// Never, as no trouble meets the caller's way to the store.
    pub fn accounts(&self, process: usize) -> Result<Vec<Account>, StoreError> {
        let (Some(shared), keys) = (self.shared(process), self.keys()) else { return Ok(Vec::new()) };
        let (mut cells, prefix) = (shared.cells(u16::MAX), keys.account(""));
        let mut accounts = Vec::new();
        for key in shared.keys() {
            let subject = key.strip_prefix(prefix.as_slice()).and_then(|subject| std::str::from_utf8(subject).ok());
            if let Some(subject) = subject {
                accounts.extend(read_account(&keys, subject, &mut cells)?);
            }
        }
        Ok(accounts)
    }

    /// All exchange slots in the shared data of a process that are not free.
    ///
    /// # Errors
    /// Never, as no trouble meets the caller's way to the store.
    pub fn taken_slots(&self, process: usize) -> Result<Vec<Slot>, StoreError> {
        let (Some(shared), keys) = (self.shared(process), self.keys()) else { return Ok(Vec::new()) };
        let (mut cells, zero) = (shared.cells(u16::MAX), keys.slot(0, 0));
        let prefix = zero.strip_suffix(b"0/0".as_slice()).unwrap_or_default();
        let mut taken = Vec::new();
        for key in shared.keys() {
            let Some(rest) = key.strip_prefix(prefix).and_then(|rest| std::str::from_utf8(rest).ok()) else { continue };
            let Some((vm, slot)) = rest.split_once('/') else { continue };
            let (Ok(vm), Ok(slot)) = (vm.parse(), slot.parse()) else { continue };
            taken.extend(read_slot(&keys, vm, slot, &mut cells)?.filter(|slot| *slot != Slot::Free));
        }
        Ok(taken)
    }

    /// The names under which everything is kept.
    pub fn keys(&self) -> Keys {
        Keys::new(&self.inner.bundle.name)
    }

    /// The engine's counters: `name{label=value,…}`.
    pub fn counters(&self) -> BTreeMap<String, u64> {
        self.inner.counters.borrow().clone()
    }

    /// The engine's log lines, with where and when.
    pub fn log_lines(&self) -> Vec<String> {
        self.inner.log.borrow().clone()
    }

    /// The number of store operations that reached the shared data of all processes.
    pub fn operations(&self) -> u64 {
        let processes = self.inner.processes.borrow().len();
        (0..processes).filter_map(|process| self.shared(process)).map(|shared| shared.operations()).sum()
    }

    fn deliver(&self, message: Message) {
        match message {
            Message::Sync { from, body, then } => {
                let Now { wall_ms, mono_ms } = self.now();
                let (status, answer) = self.inner.ledger.borrow_mut().sync(&body, wall_ms);
                let (delay, answer) = match then {
                    Then::Nothing => return,
                    Then::In(delay) => (delay, Some((status, answer))),
                    Then::Garbled(delay) => (delay, Some((200, answer.iter().rev().copied().collect()))),
                };
                self.network(|network| {
                    network.post(mono_ms.saturating_add(delay), Message::Answer { to: from, answer })
                });
            }
            Message::Answer { to, .. } | Message::Orphaned { to } => {
                let kept = message.clone();
                if self.at(to.at, |station| station.receive(message, self)).is_none() {
                    // A VM that stands still hears it when it goes on.
                    let later = self.now().mono_ms.saturating_add(1);
                    self.network(|network| network.post(later, kept));
                }
            }
        }
    }

    /// `None`: there is no such VM, or it stands still.
    fn at<T>(&self, at: At, what: impl FnOnce(&mut Station) -> T) -> Option<T> {
        let station = Rc::clone(self.inner.processes.borrow().get(at.process)?.get(at.vm)?);
        let mut station = station.try_borrow_mut().ok()?;
        Some(what(&mut station))
    }

    pub(super) fn network<T>(&self, what: impl FnOnce(&mut Network) -> T) -> T {
        what(&mut self.inner.network.borrow_mut())
    }

    pub(super) fn seed(&self) -> u64 {
        self.inner.seed
    }

    pub(super) fn fresh_engine(&self) -> Vm {
        let random = self.inner.random.borrow_mut().next();
        // Nobody here looks for collisions.
        Vm::new(Rc::clone(&self.inner.bundle), random, [random; 2])
    }

    pub(super) fn ended(&self, at: At, stream: Handle, seen: Seen) {
        self.inner.ended.borrow_mut().insert(stream, (at, seen));
    }

    pub(super) fn count(&self, metric: &str, labels: &[(&'static str, String)], by: u64) {
        let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut counters = self.inner.counters.borrow_mut();
        let counter = counters.entry(format!("{metric}{{{}}}", labels.join(","))).or_default();
        *counter = counter.saturating_add(by);
    }

    pub(super) fn log(&self, at: At, severity: Severity, line: String) {
        let (mono_ms, At { process, vm }) = (self.now().mono_ms, at);
        self.inner.log.borrow_mut().push(format!("{mono_ms} ms, VM {process}.{vm}: {severity:?}: {line}"));
    }
}

/// Lets `meanwhile` happen at the `n`-th operation of `cells` from now.
fn stall(cells: &mut SimCells, n: u64, meanwhile: Box<dyn FnOnce(&World)>, world: Weak<Inner>) {
    let (mut left, mut meanwhile) = (n, Some(meanwhile));
    cells.before_op(move |_| {
        if left == 0
            && let Some(meanwhile) = meanwhile.take()
            && let Some(inner) = world.upgrade()
        {
            meanwhile(&World { inner });
        }
        left = left.saturating_sub(1);
        Fate::Pass
    });
}

/// Lets `meanwhile` happen before each of the next `n` operations of `cells`.
fn race(cells: &mut SimCells, n: u64, mut meanwhile: Box<dyn FnMut(&World)>, world: Weak<Inner>) {
    let mut left = n;
    cells.before_op(move |_| {
        if left > 0
            && let Some(inner) = world.upgrade()
        {
            meanwhile(&World { inner });
        }
        left = left.saturating_sub(1);
        Fate::Pass
    });
}
