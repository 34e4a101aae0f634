//! Counting a text that arrives in pieces.

use super::Encoding;
use super::long::Long;

/// From this length on, in bytes, what is held back is looked through for pieces that are over.
const DRAIN: usize = 16;
/// What is still held back then and longer than this is one long piece.
const LONG: usize = 128;
/// Tokens by which the end of a long piece may grow when it merges anew.
const SLACK: u64 = 128;

/// Tokens of one text, fed in pieces of any size; exact after each of them.
///
/// Pieces counted one by one come to an eighth too much, because tokens span them. So the end of the text is held back
/// for as long as its last piece may go on or become another one: at most 128 bytes and what arrived last. Of a longer
/// piece nothing is held back, but it is counted byte by byte. Memory is some KiB at most, and the work grows with the new text
/// only, whatever the text.
#[derive(Clone, Debug)]
pub struct Running {
    encoding: Encoding,
    /// Tokens of the pieces that are over.
    settled: u64,
    tail: Tail,
}

/// The text behind them.
#[derive(Clone, Debug)]
enum Tail {
    Short(String),
    Long(Box<Long>),
}

impl Running {
    /// An empty text.
    pub fn new(encoding: Encoding) -> Self {
        Self { encoding, settled: 0, tail: Tail::Short(String::new()) }
    }

    /// Adds text.
    pub fn push(&mut self, text: &str) {
        match &mut self.tail {
            Tail::Short(tail) => {
                tail.push_str(text);
                if tail.len() >= DRAIN {
                    self.drain();
                }
            }
            Tail::Long(long) => {
                if let Some((tokens, rest)) = self.encoding.with(|counter| counter.grow(long, text)) {
                    self.over(tokens, rest);
                }
            }
        }
    }

    /// Tokens in all of the text so far, as if it ended here.
    pub fn total(&self) -> u64 {
        let tail = match &self.tail {
            Tail::Short(tail) => self.encoding.count(tail),
            Tail::Long(long) => long.tokens().saturating_add(self.encoding.count(long.behind())),
        };
        self.settled.saturating_add(tail)
    }

    /// No fewer than [`total`](Self::total), told without counting: a token has a byte at least. With so many bytes more
    /// as a text then has it is no fewer than its total either; a long piece may merge its end anew, which the slack
    /// covers.
    pub fn ceiling(&self) -> u64 {
        let tail = match &self.tail {
            Tail::Short(tail) => self.encoding.ceiling(tail.len()),
            Tail::Long(long) => {
                long.tokens().saturating_add(self.encoding.ceiling(long.behind().len())).saturating_add(SLACK)
            }
        };
        self.settled.saturating_add(tail)
    }

    /// A long piece is over; `rest` follows.
    fn over(&mut self, tokens: u64, rest: String) {
        self.settled = self.settled.saturating_add(tokens);
        self.tail = Tail::Short(rest);
        self.drain();
    }

    /// Counts the pieces that are over. Each turn of the loop uses up a long piece.
    fn drain(&mut self) {
        while let Tail::Short(tail) = &mut self.tail {
            let (length, tokens) = self.encoding.with(|counter| counter.settled(tail));
            self.settled = self.settled.saturating_add(tokens);
            tail.drain(..length);
            if tail.len() <= LONG {
                // What arrived in one piece may have been long.
                tail.shrink_to(2 * LONG);
                return;
            }
            match self.encoding.with(|counter| counter.begin(tail)) {
                Ok(long) => self.tail = Tail::Long(Box::new(long)),
                Err((0, _)) => return,
                Err((tokens, rest)) => {
                    self.settled = self.settled.saturating_add(tokens);
                    *tail = rest;
                }
            }
        }
    }
}

/// As [`Running`], of bytes that are cut anywhere and need not be UTF-8: each sequence that is none is one U+FFFD.
#[derive(Clone, Debug)]
pub struct RunningBytes {
    running: Running,
    /// The beginning of a character.
    cut: Vec<u8>,
}

impl RunningBytes {
    /// An empty text.
    pub fn new(encoding: Encoding) -> Self {
        Self { running: Running::new(encoding), cut: Vec::new() }
    }

    /// Adds bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        let mut all = std::mem::take(&mut self.cut);
        all.extend_from_slice(bytes);
        let mut chunks = all.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            self.running.push(chunk.valid());
            let odd = chunk.invalid();
            let begins = |odd| std::str::from_utf8(odd).is_err_and(|error| error.error_len().is_none());
            if chunks.peek().is_none() && begins(odd) {
                odd.clone_into(&mut self.cut);
            } else if !odd.is_empty() {
                self.running.push("\u{fffd}");
            }
        }
    }

    /// Tokens in all of it.
    pub fn total(mut self) -> u64 {
        if !self.cut.is_empty() {
            self.running.push("\u{fffd}");
        }
        self.running.total()
    }
}
