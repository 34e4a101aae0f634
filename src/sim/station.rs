//! One VM with its streams: a thread of Envoy.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::call::Call;
use super::network::{Message, Sender};
use super::store::{SharedData, SimCells};
use super::stream::{Desk, Seen, Stream};
use super::world::{At, World};
use crate::engine::effect::{Effect, Handle};
use crate::engine::vm::Vm;

/// Waking may want a sync and a sync that fails may wake: it goes on at the next tick.
const TURNS: u32 = 4;

pub(super) struct Station {
    pub at: At,
    pub life: u32,
    pub engine: Vm,
    pub cells: SimCells,
    pub streams: BTreeMap<Handle, Stream>,
    shared: SharedData,
    due: Vec<Handle>,
    sync_soon: bool,
}

impl Station {
    pub fn new(at: At, life: u32, shared: SharedData, world: &World) -> Self {
        Self {
            at,
            life,
            engine: world.fresh_engine(),
            cells: shared.cells(u16::try_from(at.vm).unwrap_or(u16::MAX)),
            streams: BTreeMap::new(),
            shared,
            due: Vec::new(),
            sync_soon: false,
        }
    }

    pub fn shared(&self) -> SharedData {
        self.shared.clone()
    }

    pub fn begin(&mut self, handle: Handle, call: Call, world: &World) {
        self.streams.insert(handle, Stream::new(Rc::clone(world.bundle()), handle, call));
    }

    /// One event of one stream.
    pub fn step(&mut self, handle: Handle, world: &World) {
        self.touch(handle, world, Stream::step);
        self.turn(world);
    }

    fn touch(&mut self, handle: Handle, world: &World, what: fn(&mut Stream, &mut Desk<'_>)) {
        let Some(stream) = self.streams.get_mut(&handle) else { return };
        let mut desk = Desk {
            engine: &mut self.engine,
            cells: &mut self.cells,
            now: world.now(),
            effects: Vec::new(),
            seed: world.seed(),
            serial: u64::from(handle),
        };
        what(stream, &mut desk);
        let effects = desk.effects;
        if self.cells.is_dead() {
            return;
        }
        let (over, seen) = (stream.is_over(), stream.seen.clone());
        if over {
            self.streams.remove(&handle);
            world.ended(self.at, handle, seen);
        }
        self.carry_out(effects, world);
    }

    fn carry_out(&mut self, effects: Vec<Effect>, world: &World) {
        for effect in effects {
            match effect {
                Effect::Wake(handles) => self.due.extend(handles),
                Effect::SyncSoon => self.sync_soon = true,
                Effect::Count { metric, labels, by } => world.count(metric, &labels, by),
                Effect::Log(severity, line) => world.log(self.at, severity, line),
                _ => {}
            }
        }
    }

    /// Runs the engine outside of any stream.
    fn run(&mut self, world: &World, what: impl FnOnce(&mut Vm, &mut SimCells, &mut Vec<Effect>)) {
        let mut effects = Vec::new();
        what(&mut self.engine, &mut self.cells, &mut effects);
        if !self.cells.is_dead() {
            self.carry_out(effects, world);
        }
    }

    /// Does what has become due: syncs, and wakes streams.
    fn turn(&mut self, world: &World) {
        for _ in 0..TURNS {
            if std::mem::take(&mut self.sync_soon) {
                self.sync(world);
            }
            let due = std::mem::take(&mut self.due);
            for handle in &due {
                self.touch(*handle, world, Stream::wake);
            }
            if self.cells.is_dead() {
                return self.reload(world);
            }
            if due.is_empty() && !self.sync_soon {
                break;
            }
        }
    }

    fn sync(&mut self, world: &World) {
        let now = world.now();
        let mut callout = None;
        self.run(world, |engine, cells, effects| callout = engine.sync(now, cells, effects));
        if let Some(callout) = callout.filter(|_| !self.cells.is_dead()) {
            let from = Sender { at: self.at, life: self.life, token: callout.token };
            world.network(|network| network.dispatch(now.mono_ms, from, callout));
        }
    }

    pub fn tick(&mut self, world: &World) {
        let now = world.now();
        self.run(world, |engine, cells, effects| engine.tick(now, cells, effects));
        for (handle, stream) in &mut self.streams {
            if stream.is_due(now) || stream.wake_at_ms.is_some_and(|at| at <= now.mono_ms) {
                stream.wake_at_ms = None;
                self.due.push(*handle);
            }
        }
        self.turn(world);
    }

    /// Something arrived from the collector.
    pub fn receive(&mut self, message: Message, world: &World) {
        let now = world.now();
        match message {
            Message::Answer { to, answer } if to.life == self.life => {
                let answer = answer.as_ref().map(|(status, body)| (*status, body.as_slice()));
                self.run(world, |engine, cells, effects| engine.answered(to.token, answer, now, cells, effects));
            }
            Message::Orphaned { to } if to.life == self.life => self.engine.orphaned(now),
            _ => {}
        }
        self.turn(world);
    }

    /// The VM died: what ran in it is lost, and Envoy makes a new one.
    fn reload(&mut self, world: &World) {
        self.lose_all(world);
        let life = self.life.saturating_add(1);
        *self = Self::new(self.at, life, self.shared.clone(), world);
    }

    pub fn lose_all(&mut self, world: &World) {
        for (handle, mut stream) in std::mem::take(&mut self.streams) {
            stream.lose();
            world.ended(self.at, handle, stream.seen);
        }
    }

    pub fn ready(&self) -> impl Iterator<Item = Handle> + '_ {
        self.streams.iter().filter(|(_, stream)| stream.is_ready()).map(|(handle, _)| *handle)
    }

    pub fn seen(&self) -> impl Iterator<Item = (Handle, &Seen)> {
        self.streams.iter().map(|(handle, stream)| (*handle, &stream.seen))
    }
}
