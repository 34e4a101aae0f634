//! The way to the collector and back.

use std::collections::BTreeMap;

use super::world::At;
use crate::engine::sync::Callout;
use crate::upstream::vocabulary::Draw;

/// How the way to the collector is. Chances are in a thousand, of each sync.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// Longest time that a message takes one way, in milliseconds.
    pub latency_ms: u64,
    /// The sync does not arrive.
    pub lost: u64,
    /// It arrives, and its answer does not.
    pub unanswered: u64,
    /// It arrives twice, the second time later.
    pub doubled: u64,
    /// Its answer comes after everybody has given up on it.
    pub late: u64,
    /// It arrives and is refused with a 500.
    pub refused: u64,
    /// It arrives, and its answer is garbage.
    pub garbled: u64,
    /// It arrives, and the root that had sent it is gone.
    pub orphaned: u64,
}

impl Weather {
    /// Everything goes wrong, about every second time.
    pub const STORM: Self = Self {
        latency_ms: 400,
        lost: 80,
        unanswered: 80,
        doubled: 80,
        late: 80,
        refused: 60,
        garbled: 60,
        orphaned: 60,
    };
}

/// Whose message it is: a VM, and which of the VMs that have lived there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sender {
    pub at: At,
    pub life: u32,
    pub token: u64,
}

/// Something that arrives.
#[derive(Clone, Debug)]
pub(super) enum Message {
    /// At the collector. What it answers is sent on by `then`.
    Sync { from: Sender, body: Vec<u8>, then: Then },
    /// At the VM: the answer, or that there is none.
    Answer { to: Sender, answer: Option<(u16, Vec<u8>)> },
    /// At the VM: its root is gone, and no answer will come.
    Orphaned { to: Sender },
}

/// What becomes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// It arrives so many milliseconds later.
    In(u64),
    /// It is garbage when it arrives.
    Garbled(u64),
    /// Nobody hears it.
    Nothing,
}

/// What is on its way, by when it arrives.
#[derive(Debug)]
pub(super) struct Network {
    pub weather: Weather,
    draw: Draw,
    on_its_way: BTreeMap<(u64, u64), Message>,
    posted: u64,
}

impl Network {
    pub fn new(seed: u64) -> Self {
        Self { weather: Weather::default(), draw: Draw::new(seed, 0x6e65), on_its_way: BTreeMap::new(), posted: 0 }
    }

    /// Sends a message that arrives at `due_ms`.
    pub fn post(&mut self, due_ms: u64, message: Message) {
        self.posted = self.posted.saturating_add(1);
        self.on_its_way.insert((due_ms, self.posted), message);
    }

    /// The next message that has arrived by `now_ms`.
    pub fn next(&mut self, now_ms: u64) -> Option<Message> {
        let first = self.on_its_way.first_entry()?;
        (first.key().0 <= now_ms).then(|| first.remove())
    }

    /// Whether nothing is on its way.
    pub fn is_idle(&self) -> bool {
        self.on_its_way.is_empty()
    }

    /// Sends a callout, with a fate by chance.
    pub fn dispatch(&mut self, now_ms: u64, from: Sender, callout: Callout) {
        let Weather { latency_ms, lost, unanswered, doubled, late, refused, garbled, orphaned } = self.weather;
        let (out, back) =
            (self.draw.below(latency_ms.saturating_add(1)), self.draw.below(latency_ms.saturating_add(1)));
        let chance = self.draw.below(1_000);
        let (arrives, gives_up) = (now_ms.saturating_add(out), now_ms.saturating_add(callout.timeout_ms));
        let body = callout.body;
        let sync = |body: Vec<u8>, then| Message::Sync { from, body, then };
        let none = Message::Answer { to: from, answer: None };
        let mut bound = 0_u64;
        let mut within = |part: u64| {
            bound = bound.saturating_add(part);
            chance < bound
        };
        if within(lost) {
            self.post(gives_up, none);
        } else if within(unanswered) {
            self.post(arrives, sync(body, Then::Nothing));
            self.post(gives_up, none);
        } else if within(doubled) {
            let again = arrives.saturating_add(self.draw.below(10_000));
            self.post(arrives, sync(body.clone(), Then::In(back)));
            self.post(again, sync(body, Then::In(0)));
        } else if within(late) {
            let then = callout.timeout_ms.saturating_add(self.draw.below(3_000));
            self.post(arrives, sync(body, Then::In(then)));
            self.post(gives_up, none);
        } else if within(refused) {
            let answer = Some((500, b"no".to_vec()));
            self.post(arrives.saturating_add(back), Message::Answer { to: from, answer });
        } else if within(garbled) {
            self.post(arrives, sync(body, Then::Garbled(back)));
        } else if within(orphaned) {
            self.post(arrives, sync(body, Then::Nothing));
            let when = arrives.saturating_add(self.draw.below(1_000));
            self.post(when, Message::Orphaned { to: from });
        } else {
            self.post(arrives, sync(body, Then::In(back)));
        }
    }
}
