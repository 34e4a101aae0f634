//! What all roots and streams of one bundle name share in this VM.
//!
//! After a configuration update two roots live in one VM, both tick, and either may die with a callout out; so what the
//! VM owns is kept here and not in a root.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::rc::{Rc, Weak};

use super::host::{self, Metric, SharedData, Status};
use super::stream::Passage;
use crate::engine::effect::{Effect, Handle, Severity};
use crate::engine::sync::Callout;
use crate::engine::vm::Vm;
use crate::now::Now;
use crate::policy::bundle::Bundle;

/// The period of a root's tick while nobody waits: three VMs idle at 0.1 % of a core.
pub const TICK_MS: u32 = 100;
/// The same while somebody waits. Timers are quantised to 4 ms by the host.
const TICK_WAITING_MS: u32 = 10;
/// A wake that is further off than this is waited for at the slow pace.
const NEAR_MS: u64 = 2 * TICK_MS as u64;
/// Within one callback, waking may want a sync, and a sync that fails at once may wake; the tick goes on from there.
const TURNS: u32 = 4;

/// Less than any host buffers of a message.
const ROOMY: usize = 16 << 10;
/// Listeners and routes of which it is known how much the host buffers. On others what grows is written in a tick.
const PLACES: usize = 64;

thread_local!(static STATIONS: RefCell<Vec<Rc<Station>>> = RefCell::default());

/// Whose callback runs.
#[derive(Clone, Copy)]
pub enum Site {
    /// A root's: callouts made now are its own.
    Root(u32),
    /// A stream's, and its root.
    Stream {
        /// The stream.
        own: Handle,
        /// Its root.
        root: u32,
    },
}

/// What all roots and streams of one bundle name share in this VM.
pub struct Station {
    name: String,
    vm: RefCell<Vm>,
    /// Streams whose request is held, by context id.
    held: RefCell<BTreeMap<Handle, Held>>,
    /// Callouts that are out: the host's token → (the root that gets the answer, the engine's token).
    out: RefCell<BTreeMap<u32, (u32, u64)>>,
    due: RefCell<Vec<Handle>>,
    sync_soon: Cell<bool>,
    /// A root's tick runs, in which the SDK's table of streams is not borrowed, and that of roots is.
    ticking: Cell<bool>,
    /// Bytes of the largest message that the host is known to buffer, by [place](host::place).
    roomy: RefCell<BTreeMap<Vec<u8>, usize>>,
    /// Roots that tick fast.
    hurried: RefCell<Vec<u32>>,
}

/// The standard hasher's keys are the host's random bytes, others each time.
fn random() -> u64 {
    RandomState::new().hash_one(())
}

struct Held {
    passage: Weak<RefCell<Passage>>,
    wake_at_ms: Option<u64>,
    /// It flows, and is only to be woken if nothing happens until then.
    flows: bool,
}

impl Station {
    /// The station of this bundle's name, with this bundle from now on.
    pub fn of(bundle: &Rc<Bundle>) -> Rc<Self> {
        STATIONS.with_borrow_mut(|stations| {
            if let Some(known) = stations.iter().find(|station| station.name == bundle.name) {
                known.vm.borrow_mut().adopt(Rc::clone(bundle));
                return Rc::clone(known);
            }
            #[cfg_attr(not(feature = "test-hooks"), expect(unused_mut, reason = "only tests change it here"))]
            let mut vm = Vm::new(Rc::clone(bundle), random(), [random(), random()]);
            #[cfg(feature = "test-hooks")]
            super::probe::prepare(&mut vm);
            let new = Rc::new(Self {
                name: bundle.name.clone(),
                vm: RefCell::new(vm),
                held: RefCell::default(),
                out: RefCell::default(),
                due: RefCell::default(),
                sync_soon: Cell::new(false),
                ticking: Cell::new(false),
                roomy: RefCell::default(),
                hurried: RefCell::default(),
            });
            stations.push(Rc::clone(&new));
            new
        })
    }

    /// Runs the engine with what this VM owns, and carries out what does not concern a stream's own messages; those
    /// effects are returned.
    pub fn run<T>(&self, call: impl FnOnce(&mut Vm, &mut SharedData, &mut Vec<Effect>) -> T) -> (T, Vec<Effect>) {
        let mut effects = Vec::new();
        let result = call(&mut self.vm.borrow_mut(), &mut SharedData, &mut effects);
        effects.retain_mut(|effect| !self.carry_out(effect));
        (result, effects)
    }

    fn carry_out(&self, effect: &mut Effect) -> bool {
        match effect {
            Effect::Log(severity, text) => host::log(*severity, text),
            Effect::Count { metric, labels, by } => {
                complain("count", host::measure(Metric::Counter, &host::metric_name(metric, labels), *by));
            }
            Effect::Gauge { metric, value } => {
                complain("set a gauge", host::measure(Metric::Gauge, &host::metric_name(metric, &[]), *value));
            }
            Effect::Wake(handles) => self.due.borrow_mut().append(handles),
            Effect::SyncSoon => self.sync_soon.set(true),
            _ => return false,
        }
        true
    }

    /// Remembers a stream whose request is held, and when it is to be woken at the latest.
    pub fn hold(&self, stream: Handle, root: u32, passage: Weak<RefCell<Passage>>, wake_at_ms: Option<u64>) {
        self.held.borrow_mut().insert(stream, Held { passage, wake_at_ms, flows: false });
        self.hurry(Site::Stream { own: stream, root });
    }

    /// Remembers a stream that flows, and when it is to be woken if nothing happens to it until then.
    pub fn remind(&self, stream: Handle, root: u32, passage: Weak<RefCell<Passage>>, wake_at_ms: u64) {
        self.held.borrow_mut().insert(stream, Held { passage, wake_at_ms: Some(wake_at_ms), flows: true });
        if wake_at_ms <= host::now().mono_ms.saturating_add(NEAR_MS) {
            self.hurry(Site::Stream { own: stream, root });
        }
    }

    /// Neither its request nor its answer is held any more.
    pub fn release(&self, stream: Handle) {
        self.held.borrow_mut().remove(&stream);
    }

    /// Does what has become due in this callback: syncs, and wakes other streams. `true`: the stream whose callback runs
    /// was woken too, and has to see to it itself, for the host cannot resume what has not paused yet.
    pub fn turn(&self, site: Site) -> bool {
        let mut own_too = false;
        for _ in 0..TURNS {
            match site {
                Site::Root(root) if self.sync_soon.take() => self.sync(root),
                // Within a tick, that goes on from there.
                Site::Stream { own, root } if !self.ticking.get() && self.sync_soon.take() => {
                    host::run_in_root(root, own)
                }
                _ => {}
            }
            let due = self.due.take();
            if due.is_empty() {
                break;
            }
            for handle in due {
                match site {
                    Site::Stream { own, .. } if own == handle => own_too = true,
                    _ => self.wake(handle),
                }
            }
            let (Site::Root(context) | Site::Stream { own: context, .. }) = site;
            complain("come back to the callback's own context", host::set_context(context));
        }
        self.hurry(site);
        own_too
    }

    fn wake(&self, stream: Handle) {
        let Some(passage) = self.held.borrow().get(&stream).map(|held| held.passage.clone()) else { return };
        match passage.upgrade() {
            Some(passage) if host::set_context(stream).is_ok() => Passage::woken(&passage, self),
            _ => self.release(stream),
        }
    }

    /// Ticks faster while somebody waits. The host re-arms the timer at each setting, so it is set only when it changes. A
    /// stream looks after itself alone, in each of its pieces; to slow down all are looked at, once a tick.
    fn hurry(&self, site: Site) {
        let (Site::Root(root) | Site::Stream { root, .. }) = site;
        let mut hurried = self.hurried.borrow_mut();
        let fast = hurried.contains(&root);
        if fast && matches!(site, Site::Stream { .. }) {
            return;
        }
        let near = host::now().mono_ms.saturating_add(NEAR_MS);
        let soon = |held: &Held| held.wake_at_ms.is_some_and(|at| !held.flows || at <= near);
        let wanted = match site {
            Site::Root(_) => self.held.borrow().values().any(soon),
            Site::Stream { own, .. } => self.held.borrow().get(&own).is_some_and(soon),
        };
        if wanted && !fast {
            hurried.push(root);
            complain("set the tick", host::set_tick_period(TICK_WAITING_MS));
        } else if !wanted && fast {
            hurried.retain(|other| *other != root);
            complain("set the tick", host::set_tick_period(TICK_MS));
        }
    }

    /// Asks the engine for what is to be sent now, and sends it. Only in a root's callback.
    pub fn sync(&self, root: u32) {
        let (callout, _) = self.run(|vm, cells, effects| vm.sync(host::now(), cells, effects));
        let Some(Callout { cluster, path, headers, body, timeout_ms, token }) = callout else { return };
        match host::dispatch(&cluster, path, &headers, &body, timeout_ms) {
            Ok(sent) => {
                self.out.borrow_mut().insert(sent, (root, token));
            }
            // No callback will come (unknown cluster, no endpoint, circuit breaker): the answer is now.
            Err(_) => {
                self.run(|vm, cells, effects| vm.answered(token, None, host::now(), cells, effects));
            }
        }
    }

    /// The answer to a callout, or `None` when it failed.
    pub fn answered(&self, sent: u32, answer: Option<(u16, &[u8])>) {
        let Some((_, token)) = self.out.borrow_mut().remove(&sent) else { return };
        self.run(|vm, cells, effects| vm.answered(token, answer, host::now(), cells, effects));
    }

    /// A root is about to die. Callouts that it has out are cancelled by the host without a word.
    pub fn root_ends(&self, root: u32) {
        let mut out = self.out.borrow_mut();
        let before = out.len();
        out.retain(|_, (owner, _)| *owner != root);
        self.hurried.borrow_mut().retain(|other| *other != root);
        if out.len() < before {
            self.vm.borrow_mut().orphaned(host::now());
        }
    }

    /// Whether a tick runs.
    pub fn is_ticking(&self) -> bool {
        self.ticking.get()
    }

    /// Whether the host is known to buffer so many bytes of a message of this stream.
    pub fn has_room_for(&self, bytes: usize) -> bool {
        bytes <= ROOMY || self.roomy.borrow().get(&host::place()).is_some_and(|most| bytes <= *most)
    }

    /// The host has buffered so many bytes of a message of this stream.
    pub fn fits(&self, bytes: usize) {
        if bytes <= ROOMY {
            return;
        }
        let (place, mut roomy) = (host::place(), self.roomy.borrow_mut());
        if roomy.len() < PLACES || roomy.contains_key(&place) {
            let most = roomy.entry(place).or_default();
            *most = bytes.max(*most);
        }
    }

    /// One tick of one root.
    pub fn tick(&self, root: u32) {
        let now = host::now();
        self.ticking.set(true);
        self.run(|vm, cells, effects| vm.tick(now, cells, effects));
        self.wake_late(now);
        self.turn(Site::Root(root));
        self.ticking.set(false);
        self.look_for_stuck_streams(now, root);
    }

    fn wake_late(&self, now: Now) {
        let mut due = self.due.borrow_mut();
        for (stream, held) in self.held.borrow_mut().iter_mut() {
            if held.wake_at_ms.is_some_and(|at| at <= now.mono_ms) {
                held.wake_at_ms = None;
                due.push(*stream);
            }
        }
    }

    fn look_for_stuck_streams(&self, now: Now, root: u32) {
        let passages: Vec<_> = {
            let held = self.held.borrow();
            held.iter().filter(|(_, held)| !held.flows).map(|(id, held)| (*id, held.passage.clone())).collect()
        };
        let mut looked = false;
        for (stream, passage) in passages {
            let Some(passage) = passage.upgrade() else { continue };
            looked |= Passage::refuse_if_stuck(&passage, stream, self, now);
        }
        if looked {
            complain("come back to the root's context", host::set_context(root));
        }
    }
}

/// For host calls that fail only when the adapter is wrong: said, and lived with.
pub fn complain(what: &str, result: Result<(), Status>) {
    if let Err(Status(number)) = result {
        host::log(Severity::Error, &format!("farebox: the host would not {what}: status {number}"));
    }
}
