//! Whether two tokens can be neighbours in an encoding: judged by the vocabulary, and remembered.
//!
//! Most of the time that a long piece takes goes into judging, and the tables that a judge reads do not fit into a
//! processor's nearest caches. So many verdicts are remembered, in little room: four bytes each, and exactly.

use super::layout::TOKEN_BITS;
use super::tables::Tables;

/// How many bits tell which of the remembered verdicts it is. 256 KiB.
const SLOT_BITS: u32 = 16;

/// Bits of two tokens' numbers.
const PAIR_BITS: u32 = 2 * TOKEN_BITS;

/// Verdicts on two tokens each.
#[derive(Debug)]
pub struct Verdicts(Vec<u32>);

impl Verdicts {
    pub fn new() -> Self {
        Self(vec![0; 1 << SLOT_BITS])
    }

    /// Whether two tokens can be neighbours in an encoding.
    #[inline]
    pub fn neighbours(&mut self, tables: &Tables, left: u32, right: u32) -> bool {
        let Self(verdicts) = self;
        let (slot, mark) = place(left, right);
        let known = verdicts.get(slot).copied().unwrap_or(0);
        if known >> 1 == mark {
            return known & 1 == 1;
        }
        let verdict = judge(tables, left, right);
        if let Some(slot) = verdicts.get_mut(slot) {
            *slot = mark << 1 | u32::from(verdict);
        }
        verdict
    }
}

/// Where the verdict on two tokens lies, and what marks it as theirs; a mark is never 0, which is what empty slots have.
///
/// The two numbers are mixed in a way that can be undone (a shift that is xored in, and a product with an odd number,
/// both within their 36 bits). So no other two have this slot and this mark.
#[inline(always)]
fn place(left: u32, right: u32) -> (usize, u32) {
    const REST: u32 = PAIR_BITS - SLOT_BITS;
    let pair = u64::from(left) << TOKEN_BITS | u64::from(right);
    let mixed = (pair ^ pair >> 17).wrapping_mul(0x9e37_79b9_7f4a_7c15) & ((1 << PAIR_BITS) - 1);
    ((mixed >> REST) as usize, mixed as u32 & ((1 << REST) - 1) | 1 << REST)
}

/// Undoes the merges of two tokens along their border, the latest first. What then meets at the border must not merge to
/// a token of lower rank than the merge that was undone last: it would have come first. Of equal ranks the left comes first.
fn judge(tables: &Tables, mut left: u32, mut right: u32) -> bool {
    // What meets at the border may not merge to a rank below this.
    let mut limit = u32::MAX;
    // A single byte is its own half: there is nothing to undo.
    let undo_left = |left: u32| Some(tables.halves(left).1).filter(|half| *half != left);
    let undo_right = |right: u32| Some(tables.halves(right).0).filter(|half| *half != right);
    loop {
        if tables.merged(left, right).is_some_and(|merged| merged < limit) {
            return false;
        }
        let (left_half, right_half) = (undo_left(left), undo_right(right));
        if let Some(half) = left_half.filter(|_| left > right || right_half.is_none()) {
            (limit, left) = (left, half);
        } else if let Some(half) = right_half {
            (limit, right) = (right + 1, half);
        } else {
            return true;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    use super::{PAIR_BITS, SLOT_BITS, Verdicts, judge, place};
    use crate::meter::count::layout::{NO_TOKEN, TOKEN_BITS};
    use crate::meter::count::tables::O200K;

    /// What [`place`] does, undone: so it is one to one.
    fn pair_at(slot: usize, mark: u32) -> (u32, u32) {
        let rest = PAIR_BITS - SLOT_BITS;
        let mixed = (slot as u64) << rest | u64::from(mark & ((1 << rest) - 1));
        // Newton's way to the inverse of an odd number modulo 2^64: each step doubles the bits that are right.
        let odd = 0x9e37_79b9_7f4a_7c15_u64;
        let inverse = (0..6).fold(odd, |inverse, _| inverse.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(inverse))));
        let shifted = mixed.wrapping_mul(inverse) & ((1 << PAIR_BITS) - 1);
        let pair = shifted ^ shifted >> 17 ^ shifted >> 34;
        ((pair >> TOKEN_BITS) as u32, pair as u32 & NO_TOKEN)
    }

    proptest! {
        #[test]
        fn no_two_pairs_have_one_place(left in 0..=NO_TOKEN, right in 0..=NO_TOKEN) {
            let (slot, mark) = place(left, right);
            prop_assert!(slot < 1 << SLOT_BITS && mark > 0 && mark < 1 << 31);
            prop_assert_eq!(pair_at(slot, mark), (left, right));
        }
    }

    /// Pairs that share a slot drive each other out, and each is judged rightly again.
    #[test]
    fn what_was_driven_out_is_judged_again() {
        let mut verdicts = Verdicts::new();
        // What merges is never left as two; what is taken at random nearly always can be.
        let merged = (300..100_000).map(|token| O200K.halves(token));
        let random = (0..60_000).map(|at| (at * 3, 199_000 - at));
        let pairs: Vec<(u32, u32)> = merged.chain(random).filter(|(left, right)| place(*left, *right).0 < 16).collect();
        let alone = pairs.iter().filter(|(left, right)| judge(&O200K, *left, *right)).count();
        assert!(alone > 8 && pairs.len() - alone > 8, "{alone} of {} pairs for 16 slots", pairs.len());
        for _ in 0..2 {
            for (left, right) in &pairs {
                assert_eq!(verdicts.neighbours(&O200K, *left, *right), judge(&O200K, *left, *right), "{left} {right}");
            }
        }
    }
}
