//! What a provider counts, foretold from what is counted here: learned from the calls on which it reported usage.
//!
//! The vocabularies of many models are not public. Counted in one of ours their texts come to a number that is off by a
//! ratio, and what their templates add is off by a number: so a line is drawn through what was counted here and what was
//! reported, of the last calls of one model. It is drawn by medians (Theil and Sen's): a third of the calls may be
//! anything without moving it far. The ratio and the offset are kept in bounds, all arithmetic is of whole numbers, and
//! the memory is fixed.
//!
//! Where the counts are as good without it, or moved by a number alone, they are left so: a line that was drawn through a
//! dozen calls must earn its place by coming nearer to them.
//!
//! A line is used from the [tenth](ENOUGH) call on, and not while the calls that it was drawn through lie off it;
//! when several calls in a row miss it by far, the model has become another one: what was learned is forgotten.
//!
//! Who writes odd prompts all day must not move what others are charged: a caller's line is drawn through the calls of
//! others only as long as none of them made more than a third, else through its own.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::name::Name;

/// Whether a model's vocabulary is none of ours, so that its counts must be learned.
pub fn is_private(model: &str) -> bool {
    !Name::of(model).is_openai()
}

/// Calls from which a line is used.
pub const ENOUGH: u32 = 10;
/// Calls that a line is drawn through: the last ones.
const KEPT: usize = 24;
/// From so many on a caller's new calls take the places of its own.
const THIRD: usize = KEPT / 3;
/// What the ratio is told in.
const ONE: i64 = 1_024;
/// The bounds of the ratio: half, and two and a half. No vocabulary in use is further from ours in any script.
const RATIOS: (i64, i64) = (ONE / 2, ONE * 5 / 2);
/// The bound of the offset, in tokens: the longest system prompt of a provider's own that was seen is 2,500.
const FURTHEST: i64 = 4_096;
/// Two calls tell something of the ratio when they are so many tokens apart.
const APART: i64 = 16;
/// Pairs of such calls that must be there; else the ratio is one.
const PAIRS: usize = 12;
/// The largest count that is learned from: no model reads more.
const MOST: u64 = 16_000_000;
/// By how much of a call, in thousandths, a line must come nearer in the mean for each thing more that it moves.
const EARNED: u64 = 5;
/// Calls in a row that miss the line by half before it is forgotten.
const MISSES: u8 = 6;

/// What was learned of one model, one direction, and one kind of call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Kept", try_from = "Kept")]
pub struct Calibration {
    /// The last calls, the oldest in front.
    calls: VecDeque<Seen>,
    /// Calls in a row that missed the line.
    missed: u8,
}

/// A call that was learned from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    /// Whose it was.
    seat: u32,
    counted: u32,
    reported: u32,
}

/// A calibration as it is kept: calls in a row that missed, and of each call its seat, what was counted and what was
/// reported.
#[derive(Serialize, Deserialize)]
struct Kept(u8, Vec<(u32, u32, u32)>);

impl From<Calibration> for Kept {
    fn from(calibration: Calibration) -> Self {
        let calls = calibration.calls.iter().map(|seen| (seen.seat, seen.counted, seen.reported));
        Self(calibration.missed, calls.collect())
    }
}

impl TryFrom<Kept> for Calibration {
    type Error = &'static str;

    fn try_from(Kept(missed, calls): Kept) -> Result<Self, Self::Error> {
        let sound = |figure: u32| (1..=MOST).contains(&u64::from(figure));
        if calls.len() > KEPT || !calls.iter().all(|(_, counted, reported)| sound(*counted) && sound(*reported)) {
            return Err("a calibration that nobody learned");
        }
        let calls = calls.into_iter().map(|(seat, counted, reported)| Seen { seat, counted, reported });
        Ok(Self { calls: calls.collect(), missed })
    }
}

/// `reported = counted × ratio / 1024 + offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    ratio: i64,
    offset: i64,
    /// Most calls that it was drawn through lie near it.
    firm: bool,
}

/// What learning from a call has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learned {
    /// It is one call more.
    Kept,
    /// It cannot be learned from: one of the numbers is 0, or absurd.
    Nothing,
    /// Too many calls missed the line: learning begins anew.
    Forgotten,
}

impl Learned {
    /// What metrics call it; `None`: nothing to be told.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Kept => Some("kept"),
            Self::Forgotten => Some("forgotten"),
            Self::Nothing => None,
        }
    }
}

impl Calibration {
    /// Learns from a call of a seat: tokens as counted here, and as the provider reported them.
    pub fn learn(&mut self, seat: u32, counted: u64, reported: u64) -> Learned {
        let fits = |count: u64| u32::try_from(count).ok().filter(|count| (1..=MOST).contains(&u64::from(*count)));
        let (Some(counted), Some(reported)) = (fits(counted), fits(reported)) else { return Learned::Nothing };
        if let Some(foretold) = self.foretell(seat, u64::from(counted)) {
            let off = foretold.abs_diff(u64::from(reported));
            let misses = off > 16 && off > u64::from(reported) / 2;
            self.missed = if misses { self.missed.saturating_add(1) } else { 0 };
        }
        let doubted = self.missed >= MISSES;
        if doubted {
            self.forget(seat);
        }
        self.make_room(seat);
        self.calls.push_back(Seen { seat, counted, reported });
        if doubted { Learned::Forgotten } else { Learned::Kept }
    }

    /// Too many calls in a row have missed. When all of them were one caller's, it is that caller that is odd, and not the
    /// model that has become another one: what others have taught stays.
    fn forget(&mut self, seat: u32) {
        let own = |seen: &Seen| seen.seat == seat;
        let before = usize::from(MISSES).saturating_sub(1);
        match self.calls.iter().rev().take(before).all(own) && !self.calls.iter().all(own) {
            true => self.calls.retain(|seen| seen.seat != seat),
            false => self.calls.clear(),
        }
        self.missed = 0;
    }

    /// What the provider would report of a call of a seat, by what was learned. `None`: too little was, or too little of it
    /// agrees, or too much of it is one other seat's.
    pub fn foretell(&self, seat: u32, counted: u64) -> Option<u64> {
        let line = self.line_for(seat)?;
        u64::try_from(line.at(i64::try_from(counted.min(MOST)).ok()?).max(1)).ok()
    }

    /// When all places are taken, makes one for a new call of this seat: its own oldest leaves if it has a third of them,
    /// else the oldest of whoever has most.
    fn make_room(&mut self, seat: u32) {
        if self.calls.len() < KEPT {
            return;
        }
        let most = self.calls.iter().rev().max_by_key(|seen| self.of(seen.seat)).map_or(seat, |seen| seen.seat);
        let leaves = if self.of(seat) >= THIRD { seat } else { most };
        if let Some(oldest) = self.calls.iter().position(|seen| seen.seat == leaves) {
            self.calls.remove(oldest);
        }
    }

    fn of(&self, seat: u32) -> usize {
        self.calls.iter().filter(|seen| seen.seat == seat).count()
    }

    /// The line through the calls that say something to this seat, if it is used.
    fn line_for(&self, seat: u32) -> Option<Line> {
        let others = self.calls.iter().filter(|seen| seen.seat != seat);
        let most = others.map(|seen| self.of(seen.seat)).max().unwrap_or(0);
        let all = most.saturating_mul(3) <= self.calls.len();
        let told: Vec<Seen> = self.calls.iter().filter(|seen| all || seen.seat == seat).copied().collect();
        (told.len() >= ENOUGH as usize).then(|| Line::through(&told)).filter(|line| line.firm)
    }
}

impl Line {
    fn through(calls: &[Seen]) -> Self {
        let mut ratios: Vec<i64> = Vec::with_capacity(KEPT * KEPT / 2);
        for (index, Seen { counted: x, reported: y, .. }) in calls.iter().enumerate() {
            for Seen { counted: to_x, reported: to_y, .. } in calls.iter().skip(index.saturating_add(1)) {
                let apart = i64::from(*to_x).saturating_sub(i64::from(*x));
                let more = i64::from(*to_y).saturating_sub(i64::from(*y)).saturating_mul(ONE);
                if apart.abs() >= APART {
                    ratios.extend(more.checked_div(apart));
                }
            }
        }
        let ratio = if ratios.len() < PAIRS { ONE } else { median(&mut ratios).clamp(RATIOS.0, RATIOS.1) };
        let along = |x: u32| i64::from(x).saturating_mul(ratio) / ONE;
        let mut offsets: Vec<i64> =
            calls.iter().map(|seen| i64::from(seen.reported).saturating_sub(along(seen.counted))).collect();
        let drawn = Self { ratio, offset: median(&mut offsets).clamp(-FURTHEST, FURTHEST), firm: false };
        let line = drawn.or_less(calls);
        let mut shares: Vec<i64> = calls
            .iter()
            .map(|Seen { counted: x, reported: y, .. }| {
                let off = line.at(i64::from(*x)).saturating_sub(i64::from(*y)).saturating_abs();
                // Eight tokens off are nothing to doubt a line for.
                off.saturating_sub(8).max(0).saturating_mul(100) / i64::from(*y).max(1)
            })
            .collect();
        Self { firm: median(&mut shares) <= 20, ..line }
    }

    /// The line, or counts that are moved less, if they are as near to these calls.
    fn or_less(self, calls: &[Seen]) -> Self {
        let unmoved = Self { ratio: ONE, offset: 0, ..self };
        let mut more: Vec<i64> =
            calls.iter().map(|seen| i64::from(seen.reported).saturating_sub(i64::from(seen.counted))).collect();
        let shifted = Self { offset: median(&mut more).clamp(-FURTHEST, FURTHEST), ..unmoved };
        let price = EARNED.saturating_mul(calls.len() as u64);
        let costs = [(unmoved, 0), (shifted, price), (self, price.saturating_mul(2))];
        let best = costs.into_iter().min_by_key(|(line, price)| line.off(calls).saturating_add(*price));
        best.map_or(self, |(line, _)| line)
    }

    /// By how much it is off these calls, each by its share in thousandths, all together. A call is off by no more than
    /// itself: one that is off by far says no more than that it is off.
    fn off(&self, calls: &[Seen]) -> u64 {
        let off = |Seen { counted, reported, .. }: &Seen| {
            let off = self.at(i64::from(*counted)).max(1).abs_diff(i64::from(*reported)).saturating_mul(1_000);
            (off / u64::from(*reported).max(1)).min(1_000)
        };
        calls.iter().map(off).fold(0, u64::saturating_add)
    }

    fn at(&self, counted: i64) -> i64 {
        (counted.saturating_mul(self.ratio) / ONE).saturating_add(self.offset)
    }
}

/// The middle one, the lower of two; 0 of none.
fn median(values: &mut [i64]) -> i64 {
    let middle = values.len().saturating_sub(1) / 2;
    if values.is_empty() {
        return 0;
    }
    let (_, value, _) = values.select_nth_unstable(middle);
    *value
}

#[cfg(test)]
#[path = "calibration_tests.rs"]
mod tests;
