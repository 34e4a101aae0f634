//! Counting tokens of text: exactly, at the speed of memory, without loading anything.
//!
//! A vocabulary is defined by a pattern and a list of tokens, byte strings in the order of their ranks. The pattern cuts
//! text into *pieces* (OpenAI calls that pre-tokenising): words with what leads them, up to three digits, runs of signs,
//! white space. Each piece is encoded by itself, by byte pair encoding: it begins as single bytes, and the two neighbours
//! whose merger has the lowest rank are merged until none can be. Most pieces are one token in the end.
//!
//! ```text
//!   text ──▶ pattern ──▶ pieces ──▶ counter: counted lately? ──▶ sum
//!              │                       │ no
//!            class                   merge ◀──▶ walk      the same answer: all at once, or byte by byte
//!                                      │
//!                                    tables ◀── build/ (from tiktoken-rs, when this crate is built)
//! ```
//!
//! - **Why by hand**: tiktoken-rs, which defines what is right here, matches the pattern by a backtracking engine and merges
//!   with a hash of bytes at each step. In Envoy that is 20 MB/s, 100 ms and 30 MB for each VM, and a panic for a million
//!   spaces. Here the pattern is [a function](pattern), and encoding goes [from left to right](merge) in linear time.
//! - **The tables** are made by the build script from tiktoken-rs's vocabularies and regex-syntax's classes, and are part of the
//!   binary ([`layout`] says how they look). Tests and `make count` compare the outcome with tiktoken-rs.
//! - **The oldest vocabularies**, `p50k_base` and `r50k_base`, are 2 MB that hardly anybody needs: a feature.
//! - **Text that is still growing**: where its last piece ends depends on what follows. `don` may become `don't`, three
//!   spaces may be followed by a fourth or lose one to a word. So the end is [held back](running) until a piece is over
//!   whatever follows, which the pattern tells by not having looked past the end of the text ([`class::Scan::saw_end`]).
//! - **What came before** is told by [its hash](known): prompts of agents repeat all but their last message.
//! - **What is remembered**, for each thread and vocabulary in use: counts of short pieces, and [verdicts](verdict) about neighbouring
//!   tokens; up to 1.25 MiB, 128 KiB more once a long run of signs came, and exact. It is a property of the vocabulary, not of anybody's
//!   text, so it shows in nothing but speed, and is kept aside of the functions that use it.

mod class;
mod counter;
pub mod known;
#[allow(dead_code, reason = "the build script writes with the other half")]
mod layout;
mod long;
mod merge;
mod pattern;
pub mod running;
mod tables;
mod verdict;
mod walk;
mod window;

use std::cell::RefCell;

use counter::{Count, Counter};
use pattern::{Cl100k, O200k, Pattern};
#[cfg(any(test, feature = "old-vocabularies"))]
use pattern::{P50k, R50k};

thread_local! {
    static O200K: RefCell<Counter<O200k>> = RefCell::new(Counter::new());
    static CL100K: RefCell<Counter<Cl100k>> = RefCell::new(Counter::new());
}

#[cfg(any(test, feature = "old-vocabularies"))]
thread_local! {
    static P50K: RefCell<Counter<P50k>> = RefCell::new(Counter::new());
    static R50K: RefCell<Counter<R50k>> = RefCell::new(Counter::new());
}

/// A public vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// `o200k_base`: GPT-4o and later.
    O200kBase,
    /// `cl100k_base`: GPT-4 and GPT-3.5.
    Cl100kBase,
    /// `o200k_harmony`: gpt-oss. Other special tokens than `o200k_base`, and the same for text.
    O200kHarmony,
    /// `p50k_base`: GPT-3 and Codex. With the feature `old-vocabularies`.
    #[cfg(any(test, feature = "old-vocabularies"))]
    P50kBase,
    /// `r50k_base`: GPT-2. With the feature `old-vocabularies`.
    #[cfg(any(test, feature = "old-vocabularies"))]
    R50kBase,
}

impl Encoding {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::O200kBase,
        Self::Cl100kBase,
        Self::O200kHarmony,
        #[cfg(any(test, feature = "old-vocabularies"))]
        Self::P50kBase,
        #[cfg(any(test, feature = "old-vocabularies"))]
        Self::R50kBase,
    ];

    /// The name that policies and OpenAI's tiktoken use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::O200kBase => "o200k_base",
            Self::Cl100kBase => "cl100k_base",
            Self::O200kHarmony => "o200k_harmony",
            #[cfg(any(test, feature = "old-vocabularies"))]
            Self::P50kBase => "p50k_base",
            #[cfg(any(test, feature = "old-vocabularies"))]
            Self::R50kBase => "r50k_base",
        }
    }

    /// The vocabulary of this [`name`](Self::name), if we have it.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|encoding| encoding.name() == name)
    }

    /// Tokens in `text`, special tokens read as plain text.
    ///
    /// Exact for every text, in time linear in its length.
    pub fn count(self, text: &str) -> u64 {
        match text.len() {
            0 | 1 => text.len() as u64,
            _ => self.with(|counter| counter.count(text, u64::MAX)),
        }
    }

    /// As [`count`](Self::count), if that is no more than `most`. `None`: it is more, which is told soon after it is seen, so
    /// the work grows with `most` and not with the text.
    pub fn count_up_to(self, text: &str, most: u64) -> Option<u64> {
        let count = self.with(|counter| counter.count(text, most));
        (count <= most).then_some(count)
    }

    /// No fewer than the tokens of any text of so many bytes, told without a look at it: each token has one at least.
    pub const fn ceiling(self, bytes: usize) -> u64 {
        bytes as u64
    }

    /// Which vocabulary it is: those that count text alike share a number.
    pub const fn vocabulary(self) -> u8 {
        match self {
            Self::O200kBase | Self::O200kHarmony => 0,
            Self::Cl100kBase => 1,
            #[cfg(any(test, feature = "old-vocabularies"))]
            Self::P50kBase => 2,
            #[cfg(any(test, feature = "old-vocabularies"))]
            Self::R50kBase => 3,
        }
    }

    /// Lends the counter of this thread.
    fn with<R>(self, ask: impl FnOnce(&mut dyn Count) -> R) -> R {
        match self {
            Self::O200kBase | Self::O200kHarmony => O200K.with(|shared| lend(shared, ask)),
            Self::Cl100kBase => CL100K.with(|shared| lend(shared, ask)),
            #[cfg(any(test, feature = "old-vocabularies"))]
            Self::P50kBase => P50K.with(|shared| lend(shared, ask)),
            #[cfg(any(test, feature = "old-vocabularies"))]
            Self::R50kBase => R50K.with(|shared| lend(shared, ask)),
        }
    }
}

/// Nobody asks from within an answer; if somebody did, they would get a counter that remembers nothing yet.
fn lend<P: Pattern, R>(shared: &RefCell<Counter<P>>, ask: impl FnOnce(&mut dyn Count) -> R) -> R {
    match shared.try_borrow_mut() {
        Ok(mut counter) => ask(&mut *counter),
        Err(_) => ask(&mut Counter::<P>::new()),
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(super) mod texts;
