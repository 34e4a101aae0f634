//! By how much the bound of an input is raised, because calls were seen to go above theirs.
//!
//! The [bound](super::bound) of an input says what providers make of each part of a request at most. Where one makes more of
//! it, the call that shows it is past, and charged beyond what was held. Those after it need not be: what such a call had
//! above its bound is its *excess*, and a call that is like it is held with that excess on top.
//!
//! Nobody knows what an excess consists of. It may be a number, as a prompt of the provider's own; or a share of the text,
//! as a vocabulary that is further from ours than was thought. So it is carried over to another call by the worse of the
//! two: for a longer one it is a share, up to four times what was seen, and for a shorter one it is a number, up to 4,096
//! tokens (no prompt of a provider's own is longer), and of what is beyond that a share. Whatever the provider counts by a
//! share and a number, one call makes the bounds sound of all that are up to four times as long.
//!
//! A bound is never less than it is without that, and together no more than sixteen times as much; below 1,024 tokens, as
//! much as one of those.
//!
//! Who writes odd prompts all day must not have others hold more: what only one caller was seen with raises only that
//! caller's bounds, and others' as far as a second one was. An excess is forgotten when a day has passed in which no call of
//! about that length went above its bound; and, because models become other ones, when 256 of them, one after the other,
//! did not.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Calls above their bounds that are remembered of a kind.
const KEPT: usize = 6;
/// From so many on a caller's new ones take the places of its own.
const SHARE: usize = 2;
/// Tokens of an excess that are taken for a number when it is carried over to a shorter call. The longest system prompt of a
/// provider's own that was seen is 2,500.
const NUMBER: u64 = 4_096;
/// A call is about as long as another one if neither is so many times as long.
const ALIKE: u64 = 4;
/// How many times a bound is raised at most, and the length that shorter ones are taken for there.
const MOST_TIMES: (u64, u64) = (16, 1_024);
/// Calls in a row that stay within their bounds before an excess is forgotten.
const CALM: u32 = 256;
/// Hours without a call above its bound, after which it is.
const HOURS: u32 = 24;
/// The largest figure that is learned from: no model reads more.
const MOST: u64 = 16_000_000;

/// What was learned of calls of one model and kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Kept", try_from = "Kept")]
pub struct Excess {
    /// Calls that went above their bounds, the oldest in front.
    above: VecDeque<Above>,
}

/// A call that went above its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Above {
    /// Whose it was.
    seat: u32,
    /// Its input by our bound.
    bound: u64,
    /// What its provider reported beyond that.
    excess: u64,
    /// Calls about as long that stayed within their bounds since one of them did not.
    calm: u32,
    /// When one of them did not, in hours since the Unix epoch.
    hour: u32,
}

/// As it is kept: the numbers of each call, by position.
#[derive(Serialize, Deserialize)]
struct Kept(Vec<(u32, u64, u64, u32, u32)>);

impl From<Excess> for Kept {
    fn from(excess: Excess) -> Self {
        let numbers = |Above { seat, bound, excess, calm, hour }: &Above| (*seat, *bound, *excess, *calm, *hour);
        Self(excess.above.iter().map(numbers).collect())
    }
}

impl TryFrom<Kept> for Excess {
    type Error = &'static str;

    fn try_from(Kept(calls): Kept) -> Result<Self, Self::Error> {
        let sound = |figure: u64| (1..=MOST).contains(&figure);
        if calls.len() > KEPT || !calls.iter().all(|(_, bound, excess, ..)| sound(*bound) && sound(*excess)) {
            return Err("an excess that nobody learned");
        }
        let above = |(seat, bound, excess, calm, hour)| Above { seat, bound, excess, calm, hour };
        Ok(Self { above: calls.into_iter().map(above).collect() })
    }
}

/// A call whose provider said what its input came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Whose it was.
    pub seat: u32,
    /// Its input by our bound, as it is without anything learned.
    pub bound: u64,
    /// What the provider reported.
    pub reported: u64,
    /// When that was, in milliseconds since the Unix epoch.
    pub wall_ms: u64,
}

/// What learning from a call has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taught {
    /// Bounds are higher than before.
    Raised,
    /// So many calls have shown that what was learned from another one does not hold: that is forgotten.
    Forgotten,
    /// Bounds are as before.
    Nothing,
}

impl Taught {
    /// What metrics call it; `None`: nothing to be told.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Raised => Some("raised"),
            Self::Forgotten => Some("forgotten"),
            Self::Nothing => None,
        }
    }
}

impl Excess {
    /// By how many tokens the bound of a call of a seat is raised.
    pub fn raise(&self, seat: u32, bound: u64, wall_ms: u64) -> u64 {
        let fresh = || self.above.iter().filter(|above| !above.is_old(hour(wall_ms)));
        let own = fresh().filter(|above| above.seat == seat).map(|above| above.at(bound)).max().unwrap_or(0);
        // Of all others the one with most, and then the next one.
        let others = || fresh().filter(|above| above.seat != seat);
        let first = others().max_by_key(|above| above.at(bound)).map(|above| above.seat);
        let second = others().filter(|above| Some(above.seat) != first).map(|above| above.at(bound)).max().unwrap_or(0);
        own.max(second).min(most(bound))
    }

    /// Whether there is anything to be learned from a call: it is above its bound, or that was raised.
    pub fn concerns(&self, told: &Told) -> bool {
        told.reported > told.bound || self.raise(told.seat, told.bound, told.wall_ms) > 0
    }

    /// Learns from a call.
    pub fn learn(&mut self, told: &Told) -> Taught {
        let now = hour(told.wall_ms);
        self.above.retain(|above| !above.is_old(now));
        if told.bound == 0 || told.bound > MOST {
            return Taught::Nothing;
        }
        let excess = told.reported.saturating_sub(told.bound).min(most(told.bound)).min(MOST);
        if excess == 0 {
            return self.calm(told);
        }
        for above in self.above.iter_mut().filter(|above| above.is_like(told.bound)) {
            (above.calm, above.hour) = (0, now.max(above.hour));
        }
        if excess <= self.raise(told.seat, told.bound, told.wall_ms) {
            return Taught::Nothing;
        }
        let new = Above { seat: told.seat, bound: told.bound, excess, calm: 0, hour: now };
        self.above.retain(|above| above.seat != new.seat || new.at(above.bound) < above.excess);
        self.make_room(new.seat);
        self.above.push_back(new);
        Taught::Raised
    }

    /// A call stayed within its bound: whatever raised that is doubted.
    fn calm(&mut self, told: &Told) -> Taught {
        let Told { seat, bound, .. } = *told;
        let others: Vec<u32> = self.above.iter().map(|above| above.seat).filter(|of| *of != seat).collect();
        let by_two = others.first().is_some_and(|first| others.iter().any(|other| other != first));
        let before = self.above.len();
        self.above.retain_mut(|above| {
            if above.is_like(bound) && (above.seat == seat || by_two) {
                above.calm = above.calm.saturating_add(1);
            }
            above.calm < CALM
        });
        if self.above.len() < before { Taught::Forgotten } else { Taught::Nothing }
    }

    /// When all places are taken, makes one for a new call of this seat: its own oldest leaves if it has a third of them,
    /// else the oldest of all.
    fn make_room(&mut self, seat: u32) {
        if self.above.len() < KEPT {
            return;
        }
        let own = self.above.iter().filter(|above| above.seat == seat).count();
        let leaves = self.above.iter().position(|above| own < SHARE || above.seat == seat);
        self.above.remove(leaves.unwrap_or(0));
    }
}

impl Above {
    /// What a call with this bound may have above it.
    fn at(&self, bound: u64) -> u64 {
        let number = if bound < self.bound { self.excess.min(NUMBER) } else { 0 };
        let share = u128::from(self.excess.saturating_sub(number));
        let carried = share.saturating_mul(u128::from(bound)).div_ceil(u128::from(self.bound.max(1)));
        let carried = carried.min(share.saturating_mul(u128::from(ALIKE)));
        number.saturating_add(u64::try_from(carried).unwrap_or(u64::MAX))
    }

    fn is_like(&self, bound: u64) -> bool {
        bound <= self.bound.saturating_mul(ALIKE) && self.bound <= bound.saturating_mul(ALIKE)
    }

    fn is_old(&self, now: u32) -> bool {
        now.saturating_sub(self.hour) >= HOURS
    }
}

/// By how much a bound may be raised.
fn most(bound: u64) -> u64 {
    let (times, least) = MOST_TIMES;
    bound.max(least).saturating_mul(times).saturating_sub(bound)
}

fn hour(wall_ms: u64) -> u32 {
    u32::try_from(wall_ms / 3_600_000).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[path = "excess_tests.rs"]
mod tests;
