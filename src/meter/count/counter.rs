//! Counting text: cut into pieces, each looked up among those that were counted lately, else encoded.

use std::marker::PhantomData;

use super::class::Scan;
use super::long::Long;
use super::merge::Merger;
use super::pattern::Pattern;
use super::window::Window;

/// Pieces of up to 15 bytes whose counts are remembered, once many have come: a power of two. 1 MiB. (A quarter of that is a
/// fifth slower for prose and code of some megabytes: to encode a piece anew costs ten times what it costs to look it up.)
const REMEMBERED: usize = 1 << 16;
/// The same at first. 64 KiB: more would be felt at the first count in a VM, by which all of it is written once.
const AT_FIRST: usize = 1 << 12;
/// By so much the room grows, in place, when as many were learned as it has.
const GROWTH: usize = 4;

/// What can be asked of a counter, whatever its vocabulary.
pub trait Count {
    /// Tokens of a text that is whole: nothing follows. It stops soon after there are more than `most`.
    fn count(&mut self, text: &str, most: u64) -> u64;

    /// Tokens of those pieces at the beginning of a text that stay as they are whatever follows, and how long these are.
    fn settled(&mut self, text: &str) -> (usize, u64);

    /// As [`Long::push`].
    fn grow(&mut self, long: &mut Long, text: &str) -> Option<(u64, String)>;

    /// Begins a piece that is long already, and grows it by all of `text`.
    fn begin(&mut self, text: &str) -> Result<Long, (u64, String)>;
}

/// A vocabulary with what makes counting in it fast. Everything it remembers is exact, so it shows in nothing but speed;
/// one serves a whole thread.
#[derive(Debug)]
pub struct Counter<P> {
    pub merger: Merger,
    /// By a hash of its bytes: a piece with its length and count, exactly. See [`Counter::short`].
    remembered: Vec<[u64; 2]>,
    /// Pieces learned since the room has grown.
    learned: usize,
    pattern: PhantomData<P>,
}

impl<P: Pattern> Counter<P> {
    pub fn new() -> Self {
        let mut remembered = Vec::with_capacity(REMEMBERED);
        remembered.resize(AT_FIRST, [0; 2]);
        Self { merger: Merger::new(P::TABLES), remembered, learned: 0, pattern: PhantomData }
    }

    /// A piece whose end can be told at a glance: its length and tokens.
    #[inline(always)]
    fn at_a_glance(&mut self, text: &[u8], at: usize) -> Option<(usize, u64)> {
        let window = Window::full(text, at)?;
        match P::glance(&window) {
            0 => None,
            1 => Some((1, 1)),
            length => Some((length, self.short(&window, length))),
        }
    }

    /// Tokens of the piece between two offsets; of a long one not many above `most`.
    #[inline(always)]
    fn piece(&mut self, text: &[u8], from: usize, to: usize, most: u64) -> u64 {
        match to - from {
            0..=1 => 1,
            length @ 2..=15 => match Window::full(text, from) {
                Some(window) => self.short(&window, length),
                None => {
                    let mut room = [0; 16];
                    let window = Window::padded(text.get(from..to).unwrap_or_default(), &mut room);
                    self.short(&window, length)
                }
            },
            _ => self.merger.count(text.get(from..to).unwrap_or_default(), most),
        }
    }

    /// Tokens of the first `length` bytes of a window, 2 to 15. The top byte of the key has room for the length and the
    /// count, which are below 16 both.
    #[inline(always)]
    fn short(&mut self, window: &Window<'_>, length: usize) -> u64 {
        let [low, high] = window.key(length);
        let key = [low, high | (length as u64) << 56];
        let [a, b] = key;
        let hash = (a ^ b.rotate_left(29).wrapping_mul(0xd6e8_feb8_6659_fd93)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let slot = (hash >> 32) as usize & self.remembered.len().wrapping_sub(1);
        let [low, high] = self.remembered.get(slot).copied().unwrap_or_default();
        if low == a && (high ^ b) << 4 == 0 {
            return high >> 60;
        }
        self.learn(window, length, key, slot)
    }

    #[inline(never)]
    fn learn(&mut self, window: &Window<'_>, length: usize, [low, high]: [u64; 2], slot: usize) -> u64 {
        let count = self.merger.count(window.first(length), u64::MAX);
        if let Some(slot) = self.remembered.get_mut(slot) {
            *slot = [low, high | count << 60];
        }
        self.learned = self.learned.saturating_add(1);
        let room = self.remembered.len();
        if self.learned >= room && room < REMEMBERED {
            // What lies elsewhere from now on is learned again.
            self.remembered.resize(room * GROWTH, [0; 2]);
            self.learned = 0;
        }
        count
    }
}

impl<P: Pattern> Count for Counter<P> {
    fn count(&mut self, text: &str, most: u64) -> u64 {
        let text = text.as_bytes();
        let (mut scan, mut at, mut sum) = (Scan::new(text), 0, 0u64);
        while at < text.len() && sum <= most {
            if let Some((length, tokens)) = self.at_a_glance(text, at) {
                (at, sum) = (at + length, sum + tokens);
                continue;
            }
            let end = P::next(&mut scan, at);
            sum += self.piece(text, at, end, most - sum);
            at = end;
        }
        sum
    }

    fn settled(&mut self, text: &str) -> (usize, u64) {
        let text = text.as_bytes();
        let (mut scan, mut at, mut sum) = (Scan::new(text), 0, 0u64);
        while at < text.len() {
            if let Some((length, tokens)) = self.at_a_glance(text, at) {
                (at, sum) = (at + length, sum + tokens);
                continue;
            }
            let end = P::next(&mut scan, at);
            if scan.saw_end {
                break;
            }
            sum += self.piece(text, at, end, u64::MAX);
            at = end;
        }
        (at, sum)
    }

    fn grow(&mut self, long: &mut Long, text: &str) -> Option<(u64, String)> {
        long.push(self, text)
    }

    fn begin(&mut self, text: &str) -> Result<Long, (u64, String)> {
        Long::begin(self, text)
    }
}

#[cfg(test)]
mod tests {
    use super::{AT_FIRST, Count, Counter, REMEMBERED};
    use crate::meter::count::pattern::O200k;

    /// It begins small, because the first count in a VM waits for it; it ends large, and where it lies it stays.
    #[test]
    fn room_grows_with_what_is_learned_and_no_further() {
        let mut counter = Counter::<O200k>::new();
        let (capacity, mut rooms) = (counter.remembered.capacity(), vec![counter.remembered.len()]);
        // A piece each: words of five letters.
        let letter = |at: usize, place: u32| char::from(b'a' + (at / 26_usize.pow(place) % 26) as u8);
        let word = |at: usize| [' ', 'q'].into_iter().chain((0..4).map(move |place| letter(at, place)));
        let words = |from: usize| (from..from + 1_000).flat_map(word).collect::<String>();
        for from in (0..100_000).step_by(1_000) {
            let once = counter.count(&words(from), u64::MAX);
            assert_eq!(once, counter.count(&words(from), u64::MAX), "as it was before the room grew");
            if rooms.last() != Some(&counter.remembered.len()) {
                rooms.push(counter.remembered.len());
            }
        }
        assert_eq!(rooms, [AT_FIRST, AT_FIRST * 4, REMEMBERED]);
        assert_eq!(counter.remembered.capacity(), capacity);
    }
}
