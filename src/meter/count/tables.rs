//! The generated tables of a vocabulary, and single steps in them.

use super::layout::{LONG, MERGE_BYTES, NO_BYTE, NO_TOKEN, Node, Pair, TOKEN_BITS, TOKEN_BYTES, Token};

/// The tables of one vocabulary. They are part of the binary: nothing is loaded, and all threads read the same.
#[derive(Debug)]
pub struct Tables {
    trie: &'static [[u8; 4]],
    seeds: &'static [[u8; 2]],
    merges: &'static [[u8; MERGE_BYTES]],
    tokens: &'static [[u8; TOKEN_BYTES]],
}

/// The longest token that some text begins with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Longest {
    /// [`NO_TOKEN`]: there is no text.
    pub token: u32,
    /// Its bytes.
    pub length: usize,
    /// By how many bytes of the text that was told; 0: by its end.
    pub seen: usize,
}

macro_rules! tables {
    ($name:literal) => {
        Tables {
            trie: include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".trie")).as_chunks().0,
            seeds: include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".seeds")).as_chunks().0,
            merges: include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".merges")).as_chunks().0,
            tokens: include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".tokens")).as_chunks().0,
        }
    };
}

/// `o200k_base` and `o200k_harmony`: they differ in special tokens only.
pub static O200K: Tables = tables!("o200k");
/// `cl100k_base`.
pub static CL100K: Tables = tables!("cl100k");
/// `p50k_base`.
#[cfg(any(test, feature = "old-vocabularies"))]
pub static P50K: Tables = tables!("p50k");
/// `r50k_base`.
#[cfg(any(test, feature = "old-vocabularies"))]
pub static R50K: Tables = tables!("r50k");

impl Tables {
    /// Where every token begins.
    #[inline]
    pub fn root(&self) -> Node {
        self.node(0)
    }

    /// From the node of some bytes to that of one byte more, if any token goes on like this. Not from a leaf.
    #[inline]
    pub fn step(&self, from: Node, byte: u8) -> Option<Node> {
        let node = self.node(from.child(byte));
        (node.label() == byte).then_some(node)
    }

    /// The token that ends at a node which says that one does.
    #[inline]
    pub fn token_at(&self, node: Node) -> u32 {
        if node.is_leaf() { node.value() } else { self.node(node.child(NO_BYTE)).value() }
    }

    /// The two tokens that a token was merged from; of a single byte, itself twice.
    #[inline]
    pub fn halves(&self, token: u32) -> (u32, u32) {
        let Token { left, right, .. } = self.token(token);
        (left, right)
    }

    /// The bytes of a token.
    #[inline]
    pub fn length(&self, token: u32) -> usize {
        match self.token(token) {
            Token { length: LONG, left, right } => self.length_of(left, right),
            Token { length, .. } => length as usize,
        }
    }

    #[cold]
    fn length_of(&self, left: u32, right: u32) -> usize {
        self.length(left) + self.length(right)
    }

    #[inline]
    fn token(&self, token: u32) -> Token {
        let [a, b, c, d, e] = self.tokens.get(token as usize).copied().unwrap_or_default();
        Token::unpack(u64::from_le_bytes([a, b, c, d, e, 0, 0, 0]))
    }

    /// The longest token that `text` begins with.
    #[inline]
    pub fn longest(&self, text: &[u8]) -> Longest {
        let (mut node, mut longest) = (self.root(), None);
        let (mut length, mut seen) = (0, 0);
        for (at, byte) in text.iter().enumerate() {
            let Some(next) = self.step(node, *byte) else {
                seen = at + 1;
                break;
            };
            node = next;
            if node.ends() {
                (longest, length) = (Some(node), at + 1);
                if node.is_leaf() {
                    seen = length;
                    break;
                }
            }
        }
        Longest { token: longest.map_or(NO_TOKEN, |node| self.token_at(node)), length, seen }
    }

    /// The longest token that these bytes of a token begin with and that is shorter; [`NO_TOKEN`] for a single byte.
    #[inline]
    pub fn shorter(&self, bytes: &[u8]) -> Longest {
        self.longest(bytes.split_last().map_or(&[], |(_, shorter)| shorter))
    }

    /// The token that two tokens merge to, if they do.
    #[inline]
    pub fn merged(&self, left: u32, right: u32) -> Option<u32> {
        let pair = Pair::of(left, right);
        let seed = u16::from_le_bytes(*self.seeds.get(pair.group(self.seeds.len()))?);
        let [a, b, c] = *self.merges.get(pair.slot(seed, self.merges.len()))?;
        let slot = u32::from_le_bytes([a, b, c, 0]);
        if slot >> TOKEN_BITS != pair.fingerprint() {
            return None;
        }
        let merged = slot & NO_TOKEN;
        (self.halves(merged) == (left, right)).then_some(merged)
    }

    #[inline]
    fn node(&self, at: usize) -> Node {
        self.trie.get(at).map_or(Node::FREE, |bytes| Node(u32::from_le_bytes(*bytes)))
    }
}
