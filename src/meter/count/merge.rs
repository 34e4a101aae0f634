//! Byte pair encoding of one piece, without merging.
//!
//! The definition merges: a piece begins as single bytes, and the two neighbours that merge to the lowest rank are
//! merged, until no two neighbours merge. That is slow. The way here finds the same tokens from left to right, and rests
//! on two facts:
//!
//! 1. **Whether a list of tokens is an encoding can be told from its neighbours alone.** A list is what merging makes of
//!    its bytes if and only if each two neighbours are what merging makes of their own bytes. (If merging the whole list's
//!    bytes went another way, the first merge that crosses a border between two tokens would also happen when these
//!    two stand alone, because up to it nothing from outside has taken part.) So each text has one such list.
//! 2. **Whether two tokens can be neighbours is told by undoing their merges** from the highest rank down, looking at the
//!    border: the tokens that meet there may not merge to a rank that would have come before the merge that is undone.
//!    That takes as many steps as the two tokens have merges along the border, a handful.
//!
//! So: take the longest token that can stand here beside its left neighbour; if none can, the left neighbour was wrong:
//! go back, and take the next shorter one there. An offset that has turned out to lead nowhere is never entered again,
//! so the work is linear in the length of the piece: at most one visit an offset, with at most 128 lengths to try.
//! Going back is rare and short; see [`KEPT`] for what is done so that memory stays small all the same.
//!
//! Method: "backtracking" in GitHub's write-up of their crate `bpe` ("So many tokens, so little time", 2024).

use super::layout::{NO_TOKEN, TOKEN_BITS};
use super::tables::{Longest, Tables};
use super::verdict::Verdicts;
use super::walk::Walks;

/// So many of the last tokens of a piece are kept to go back to. Should a piece ever need more, it is counted anew in a
/// slower way that needs no going back ([`Walks`]).
const KEPT: usize = 4_096;

/// Answers of [`Merger::follower`] that are remembered: a power of two. 128 KiB.
const FOLLOWERS: usize = 1 << 14;

/// So many shorter tokens are tried one by one. Usually the first or second fits.
const PATIENCE: u32 = 4;

/// From so many bytes on, a token or a walk through the trie is long.
const LONG: usize = 16;

/// Counts tokens of single pieces. All it keeps from one to the next are verdicts, which are facts of the vocabulary.
#[derive(Debug)]
pub struct Merger {
    pub tables: &'static Tables,
    verdicts: Verdicts,
    /// What [`Merger::follower`] has found; empty until it is asked.
    followers: Vec<u64>,
    /// The tokens of the piece so far, without those that were let go.
    tokens: Vec<u32>,
    /// One bit an offset: it leads nowhere.
    dead: Vec<u64>,
    kept: usize,
    /// The last long walk through the trie in this piece: where it began, and what it found.
    walked: (usize, Longest),
}

impl Merger {
    pub fn new(tables: &'static Tables) -> Self {
        Self {
            tables,
            verdicts: Verdicts::new(),
            followers: Vec::new(),
            tokens: Vec::new(),
            dead: Vec::new(),
            kept: KEPT,
            walked: Default::default(),
        }
    }

    /// Tokens of one piece. Of a long one it stops some thousands after there are more than `most`.
    #[inline]
    pub fn count(&mut self, piece: &[u8], most: u64) -> u64 {
        if piece.len() <= 1 {
            return piece.len() as u64;
        }
        let first = self.tables.longest(piece);
        if first.length == piece.len() {
            return 1;
        }
        match self.search(piece, first, most) {
            Some(count) => count,
            None => Walks::over(self, piece),
        }
    }

    /// See the module's docs. `None`: it would have to go back further than is kept. Tokens that were let go stay, so when
    /// these alone are more than `most`, the rest cannot matter.
    fn search(&mut self, piece: &[u8], first: Longest, most: u64) -> Option<u64> {
        self.tokens.clear();
        self.dead.clear();
        self.walked = Default::default();
        // Tokens let go, and the offset where those that are kept begin, in words of `dead`.
        let (mut gone, mut origin) = (0u64, 0);
        let (mut at, mut token, mut length) = (0, first.token, first.length);
        // Tokens tried at this offset in vain.
        let mut tries = 0;
        loop {
            let last = self.tokens.last().copied();
            let end = at + length;
            if !self.is_dead(origin, end) && last.is_none_or(|last| self.neighbours(last, token)) {
                self.tokens.push(token);
                at = end;
                if at == piece.len() {
                    return Some(gone + self.tokens.len() as u64);
                }
                if self.tokens.len() > 2 * self.kept {
                    gone += self.let_go(at, &mut origin);
                    if gone > most {
                        return Some(gone);
                    }
                }
                (token, length) = self.longest(piece, at);
                tries = 0;
                continue;
            }
            tries += 1;
            let tried = piece.get(at..end)?;
            (token, length) = match last {
                Some(last) if tries > PATIENCE || length >= LONG => {
                    let token = self.follower(last, token, tried);
                    (token, self.tables.length(token))
                }
                _ => {
                    let Longest { token, length, .. } = self.tables.shorter(tried);
                    (token, length)
                }
            };
            if token == NO_TOKEN {
                self.bury(origin, at);
                // It ends where nothing leads on, so a shorter one is next.
                (token, tries) = (self.tokens.pop()?, 0);
                length = self.tables.length(token);
                at -= length;
            }
        }
    }

    /// The longest token at an offset, and its length. In a long run of one byte or pattern that is the same again and again,
    /// which one comparison tells, where the walk would take a hundred steps.
    #[inline]
    fn longest(&mut self, piece: &[u8], at: usize) -> (u32, usize) {
        let (from, Longest { token, length, seen }) = self.walked;
        if seen >= LONG && piece.get(at..at + seen).is_some_and(|here| Some(here) == piece.get(from..from + seen)) {
            return (token, length);
        }
        let longest = self.tables.longest(piece.get(at..).unwrap_or_default());
        if longest.seen >= LONG {
            self.walked = (at, longest);
        }
        (longest.token, longest.length)
    }

    /// Lets the older half go. How many these were.
    fn let_go(&mut self, at: usize, origin: &mut usize) -> u64 {
        let going = self.tokens.len() - self.kept;
        let kept = self.tokens.drain(..going).as_slice().len();
        let bytes: usize = self.tokens.iter().map(|token| self.tables.length(*token)).sum();
        let words = (at - bytes) / 64;
        self.dead.drain(..(words - *origin).min(self.dead.len()));
        *origin = words;
        kept as u64
    }

    #[inline]
    fn is_dead(&self, origin: usize, at: usize) -> bool {
        self.dead.get((at / 64).wrapping_sub(origin)).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    fn bury(&mut self, origin: usize, at: usize) {
        let word = at / 64 - origin;
        if self.dead.len() <= word {
            self.dead.resize(word + 1, 0);
        }
        if let Some(word) = self.dead.get_mut(word) {
            *word |= 1 << (at % 64);
        }
    }

    /// The longest token that can stand behind `left`, of those that begin `token` and are shorter; or [`NO_TOKEN`]. In long
    /// runs of one byte a hundred are tried in vain, and again with each token. `bytes` are the token's.
    #[inline]
    fn follower(&mut self, left: u32, token: u32, bytes: &[u8]) -> u32 {
        // Never 0, which is what empty slots have.
        let key = (u64::from(left) << TOKEN_BITS | u64::from(token)) + 1;
        let slot = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % FOLLOWERS;
        let known = self.followers.get(slot).copied().unwrap_or(0);
        if known >> TOKEN_BITS == key {
            return known as u32 & NO_TOKEN;
        }
        let mut shorter = self.tables.shorter(bytes);
        while shorter.token != NO_TOKEN && !self.neighbours(left, shorter.token) {
            shorter = self.tables.shorter(bytes.get(..shorter.length).unwrap_or_default());
        }
        let found = shorter.token;
        if self.followers.is_empty() {
            self.followers.resize(FOLLOWERS, 0);
        }
        if let Some(slot) = self.followers.get_mut(slot) {
            *slot = key << TOKEN_BITS | u64::from(found);
        }
        found
    }

    /// Whether two tokens can be neighbours in an encoding.
    #[inline]
    pub fn neighbours(&mut self, left: u32, right: u32) -> bool {
        self.verdicts.neighbours(self.tables, left, right)
    }
}
