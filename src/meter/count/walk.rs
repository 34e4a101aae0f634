//! Byte pair encoding of one piece that comes byte by byte, with the count after each byte, in bounded memory.
//!
//! Each beginning of a piece has an encoding of its own, and that has a last token. If those of all shorter beginnings
//! are known, the last token of this one is found by trying every token that ends here: it is the one whose left
//! neighbour, the last token of the beginning before it, can be its neighbour. There is exactly one (see
//! [`merge`](super::merge)). A token is at most 128 bytes long, so only the last 128 beginnings matter, however long the piece is.
//!
//! That costs more than [`Merger::count`] for a whole piece, but it goes on where it stopped.

use super::layout::{NO_TOKEN, Node};
use super::merge::Merger;

/// The piece so far.
#[derive(Clone, Debug)]
pub struct Walks {
    /// Through the trie, from each beginning whose bytes since then begin some token. At most 128.
    walks: Vec<Walk>,
    /// The last token.
    last: u32,
    /// Tokens of the piece.
    tokens: u64,
    /// Tokens before each of the last bytes, the latest first.
    before: [u64; 4],
}

#[derive(Clone, Copy, Debug)]
struct Walk {
    node: Node,
    /// The last token before its first byte; [`NO_TOKEN`]: the piece begins there.
    last: u32,
    /// Tokens before its first byte.
    tokens: u64,
}

impl Walks {
    /// An empty piece.
    pub const fn new() -> Self {
        Self { walks: Vec::new(), last: NO_TOKEN, tokens: 0, before: [0; 4] }
    }

    /// Tokens of a whole piece.
    pub fn over(merger: &mut Merger, piece: &[u8]) -> u64 {
        let mut walks = Self::new();
        piece.iter().for_each(|byte| walks.push(merger, *byte));
        walks.tokens
    }

    /// One byte more.
    pub fn push(&mut self, merger: &mut Merger, byte: u8) {
        let tables = merger.tables;
        self.walks.push(Walk { node: tables.root(), last: self.last, tokens: self.tokens });
        let mut found = None;
        self.walks.retain_mut(|walk| {
            let Some(node) = tables.step(walk.node, byte) else { return false };
            walk.node = node;
            if node.ends() && found.is_none() {
                let token = tables.token_at(node);
                if walk.last == NO_TOKEN || merger.neighbours(walk.last, token) {
                    found = Some((token, walk.tokens + 1));
                }
            }
            !node.is_leaf()
        });
        let [a, b, c, _] = self.before;
        self.before = [self.tokens, a, b, c];
        // There is one, always; were there none, a byte would be a token at most.
        (self.last, self.tokens) = found.unwrap_or((NO_TOKEN, self.tokens + 1));
    }

    /// No byte yet.
    pub fn is_empty(&self) -> bool {
        self.last == NO_TOKEN
    }

    /// Tokens so far.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Tokens before the last `bytes` bytes, at most four.
    pub fn tokens_before(&self, bytes: usize) -> u64 {
        match bytes {
            0 => self.tokens,
            _ => self.before.get(bytes - 1).copied().unwrap_or(0),
        }
    }
}
