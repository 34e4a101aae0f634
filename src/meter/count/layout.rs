//! How the generated tables are laid out. The build script that writes them and the counter that reads them share
//! this file, so the two cannot drift apart.
//!
//! All numbers are little endian, and read where they lie: a table is a slice of byte arrays, so its alignment does
//! not matter and nothing is unsafe.

/// An uppercase or titlecase letter: `[\p{Lu}\p{Lt}]`.
pub const UPPER: u8 = 1;
/// A lowercase letter: `\p{Ll}`.
pub const LOWER: u8 = 2;
/// A letter that has no case: `[\p{Lm}\p{Lo}]`.
pub const CASELESS: u8 = 4;
/// A mark: `\p{M}`.
pub const MARK: u8 = 8;
/// A number: `\p{N}`.
pub const NUMBER: u8 = 16;
/// White space that does not end a line: `\s` without CR and LF.
pub const SPACE: u8 = 32;
/// CR or LF.
pub const LINE: u8 = 64;

/// Characters of one row of the class table. The table begins with the row number of each run of that many
/// characters, one byte each; then come the rows. The first row is ASCII.
pub const ROW: usize = 128;
/// How many row numbers there are.
pub const ROWS: usize = 0x11_0000 / ROW;

/// A token's number, which is also its rank, takes this many bits.
pub const TOKEN_BITS: u32 = 18;
/// No token; also the mask of those bits.
pub const NO_TOKEN: u32 = (1 << TOKEN_BITS) - 1;

/// What the counter must know of a token: five bytes each, in the order of the ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// The two tokens that it was merged from; of a single byte, itself twice.
    pub left: u32,
    /// See `left`.
    pub right: u32,
    /// Its length in bytes, 1 to 14; [`LONG`]: more, as many as its halves have together.
    pub length: u32,
}

/// Bytes of an entry in the table of tokens.
pub const TOKEN_BYTES: usize = 5;
/// See [`Token::length`].
pub const LONG: u32 = 15;

impl Token {
    pub const fn pack(self) -> u64 {
        self.left as u64 | ((self.right as u64) << TOKEN_BITS) | ((self.length as u64) << (2 * TOKEN_BITS))
    }

    #[inline]
    pub const fn unpack(packed: u64) -> Self {
        let (left, right) = (packed as u32 & NO_TOKEN, (packed >> TOKEN_BITS) as u32 & NO_TOKEN);
        Self { left, right, length: (packed >> (2 * TOKEN_BITS)) as u32 }
    }
}

/// One node of the trie of all tokens: a double array. The child of a node by a byte lies at `base ^ byte`, if what
/// lies there is labelled with that byte; no two nodes have one base. Four bytes each, the root first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node(pub u32);

/// A byte that UTF-8 never has. It labels what is free, and the extra child that holds the number of a token which is
/// the beginning of others.
pub const NO_BYTE: u8 = 0xc0;

impl Node {
    const LEAF: u32 = 1 << 8;
    const ENDS: u32 = 1 << 9;
    const VALUE: u32 = 10;

    /// Nothing lies here.
    pub const FREE: Self = Self(NO_BYTE as u32);

    /// A token that no longer token begins with.
    pub const fn leaf(label: u8, token: u32) -> Self {
        Self(label as u32 | Self::LEAF | (token << Self::VALUE))
    }

    /// A node with children; `ends`: it is a token too, whose number lies at its child by [`NO_BYTE`].
    pub const fn branch(label: u8, base: u32, ends: bool) -> Self {
        Self(label as u32 | if ends { Self::ENDS } else { 0 } | (base << Self::VALUE))
    }

    #[inline]
    pub const fn label(self) -> u8 {
        self.0 as u8
    }

    #[inline]
    pub const fn is_leaf(self) -> bool {
        self.0 & Self::LEAF != 0
    }

    /// Whether a token ends here.
    #[inline]
    pub const fn ends(self) -> bool {
        self.0 & (Self::LEAF | Self::ENDS) != 0
    }

    /// The token of a leaf; else the base.
    #[inline]
    pub const fn value(self) -> u32 {
        self.0 >> Self::VALUE
    }

    /// Where the child by `byte` would lie.
    #[inline]
    pub const fn child(self, byte: u8) -> usize {
        (self.value() ^ byte as u32) as usize
    }
}

/// Three bytes a slot of the table of merges: the merged token and, above it, a fingerprint of the two that it is merged
/// from. [`NO_TOKEN`]: not taken.
pub const MERGE_BYTES: usize = 3;

/// A hash of two tokens that may merge. Each merge has a slot of its own: pairs are spread over groups, and the seed of a
/// group was chosen so that its pairs fall on slots which no other pair has. So one look tells all.
#[derive(Clone, Copy, Debug)]
pub struct Pair(u64);

impl Pair {
    #[inline]
    pub const fn of(left: u32, right: u32) -> Self {
        let key = ((left as u64) << TOKEN_BITS) | right as u64;
        Self(key.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xd6e8_feb8_6659_fd93))
    }

    /// Its group, of so many.
    #[inline]
    pub const fn group(self, groups: usize) -> usize {
        (((self.0 >> 32) * groups as u64) >> 32) as usize
    }

    /// Its slot, of so many, under the seed of its group.
    #[inline]
    pub const fn slot(self, seed: u16, slots: usize) -> usize {
        let hash = (self.0 ^ (self.0 >> 31) ^ seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (((hash >> 32) * slots as u64) >> 32) as usize
    }

    #[inline]
    pub const fn fingerprint(self) -> u32 {
        self.0 as u32 & 0x3f
    }
}
