//! Counting a text that arrives in pieces.

use super::count::Encoding;
use super::cut;

/// Longest tail that is counted anew whenever somebody asks, in bytes.
const SHORT: usize = 256;
/// Longest tail that is held back, in bytes: above it a cut is forced.
const LONGEST: usize = 16 * 1024;

/// Tokens of one text, fed in pieces of any size.
///
/// Pieces counted one by one come to an eighth too much, because tokens span them. So the end of the text,
/// from the last place where it can safely be cut, is held back until more is known. Memory is at most
/// 16 KiB; the work grows with the new text only.
#[derive(Clone, Debug)]
pub struct Running {
    encoding: Encoding,
    committed: u64,
    tail: String,
    /// Tokens in the tail when it was last counted, and its length then: only kept for long tails.
    counted: (u64, usize),
}

impl Running {
    /// An empty text.
    pub fn new(encoding: Encoding) -> Self {
        Self { encoding, committed: 0, tail: String::new(), counted: (0, 0) }
    }

    /// Adds text.
    pub fn push(&mut self, text: &str) {
        self.tail.push_str(text);
        if let Some(at) = cut::last_safe(&self.tail) {
            self.commit(at);
        }
        if self.tail.len() > LONGEST {
            self.force();
        }
        let (_, length) = self.counted;
        if self.tail.len() > SHORT && self.tail.len() >= length.saturating_mul(2) {
            self.counted = (self.encoding.count(&self.tail), self.tail.len());
        }
    }

    /// Tokens so far: exact for ordinary text, cheap for all. A long tail that cannot be cut yet is
    /// estimated at four bytes a token.
    pub fn so_far(&self) -> u64 {
        if self.tail.len() <= SHORT {
            return self.total();
        }
        let (tokens, length) = self.counted;
        let new = self.tail.len().saturating_sub(length) as u64;
        self.committed.saturating_add(tokens).saturating_add(new.div_ceil(4))
    }

    /// Tokens in all of the text. Exact up to the bound of [`Encoding::count`], here with pieces of 16 KiB.
    pub fn total(&self) -> u64 {
        self.committed.saturating_add(self.encoding.count(&self.tail))
    }

    /// Cuts where it may cost a token, until the tail is short.
    fn force(&mut self) {
        let mut rest = self.tail.as_str();
        while rest.len() > LONGEST {
            let Some((head, tail)) = rest.split_at_checked(cut::floor_boundary(rest, LONGEST)) else { break };
            self.committed = self.committed.saturating_add(self.encoding.count(head));
            rest = tail;
        }
        self.tail = rest.to_owned();
        self.counted = (0, 0);
    }

    fn commit(&mut self, at: usize) {
        let Some((head, _)) = self.tail.split_at_checked(at) else { return };
        self.committed = self.committed.saturating_add(self.encoding.count(head));
        self.tail.drain(..at);
        // What arrived in one piece may have been long.
        if self.tail.capacity() > 2 * LONGEST {
            self.tail.shrink_to(LONGEST);
        }
        self.counted = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::{LONGEST, Running};
    use crate::meter::count::Encoding;

    fn run<'a>(encoding: Encoding, pieces: impl IntoIterator<Item = &'a str>) -> Running {
        let mut running = Running::new(encoding);
        pieces.into_iter().for_each(|piece| running.push(piece));
        running
    }

    proptest! {
        #[test]
        fn any_cutting_gives_the_count_of_the_whole(text in crate::meter::cut::tests::texts(), seed in 1usize..7) {
            let chars: Vec<char> = text.chars().collect();
            let pieces: Vec<String> = chars.chunks(seed).map(|piece| piece.iter().collect()).collect();
            for encoding in Encoding::ALL {
                let running = run(encoding, pieces.iter().map(String::as_str));
                prop_assert_eq!(running.total(), encoding.count(&text));
                prop_assert_eq!(running.so_far(), encoding.count(&text));
            }
        }
    }

    #[test]
    fn one_long_piece_without_a_safe_cut_stays_bounded() {
        let text = "=".repeat(1 << 20);
        let running = run(Encoding::O200kBase, [text.as_str(), "="]);
        assert!(running.tail.len() <= LONGEST + 1 && running.tail.capacity() <= 2 * LONGEST + 2);
        assert!(running.total().abs_diff(Encoding::O200kBase.count(&text)) < 200);
        let running = run(Encoding::O200kBase, ["word ".repeat(200_000).as_str()]);
        assert!(running.tail.capacity() <= 2 * LONGEST);
    }

    #[test]
    fn a_stream_without_a_safe_cut_stays_bounded() {
        let mut running = Running::new(Encoding::O200kBase);
        for _ in 0..100_000 {
            running.push("=");
            assert!(running.tail.len() <= LONGEST + 1);
        }
        let whole = Encoding::O200kBase.count(&"=".repeat(100_000));
        assert!((whole..=whole + 20).contains(&running.total()), "{} {whole}", running.total());
        assert!(running.so_far().abs_diff(whole) < whole, "{}", running.so_far());
    }
}
