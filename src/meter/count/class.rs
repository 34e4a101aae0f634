//! Which class each character of a text belongs to, as far as the patterns tell them apart.

pub use super::layout::{CASELESS, LINE, LOWER, MARK, NUMBER, SPACE, UPPER};
use super::layout::{ROW, ROWS};

/// `\p{L}`.
pub const LETTER: u8 = UPPER | LOWER | CASELESS;
/// `\s`.
pub const BLANK: u8 = SPACE | LINE;

static CLASSES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/classes"));

/// A text that is read character by character, and whether its end has been seen in doing so.
#[derive(Clone, Copy, Debug)]
pub struct Scan<'a> {
    text: &'a [u8],
    /// Somebody asked what comes behind the last character: with more text the answer would have been another.
    pub saw_end: bool,
}

impl<'a> Scan<'a> {
    /// `text` is UTF-8; of other bytes some class is told, never out of bounds.
    pub fn new(text: &'a [u8]) -> Self {
        Self { text, saw_end: false }
    }

    /// The byte at `at`.
    #[inline(always)]
    pub fn byte(&mut self, at: usize) -> Option<u8> {
        let byte = self.text.get(at).copied();
        self.saw_end |= byte.is_none();
        byte
    }

    /// The class of the character at `at`, and the offset behind it.
    #[inline(always)]
    pub fn class(&mut self, at: usize) -> Option<(u8, usize)> {
        let byte = self.byte(at)?;
        Some(if byte < 0x80 { (ascii(byte), at + 1) } else { self.class_of_many(at, byte) })
    }

    /// Behind the characters from `at` on whose class is one of `classes`.
    #[inline(always)]
    pub fn run(&mut self, mut at: usize, classes: u8) -> usize {
        while let Some((class, behind)) = self.class(at)
            && class & classes != 0
        {
            at = behind;
        }
        at
    }

    /// Of a character of two to four bytes.
    #[inline(always)]
    fn class_of_many(&self, at: usize, first: u8) -> (u8, usize) {
        let next = |n: usize| usize::from(self.text.get(at + n).copied().unwrap_or(0) & 0x3f);
        let first = usize::from(first);
        let (code, length) = if first < 0xe0 {
            ((first & 0x1f) << 6 | next(1), 2)
        } else if first < 0xf0 {
            ((first & 0x0f) << 12 | next(1) << 6 | next(2), 3)
        } else {
            ((first & 0x07) << 18 | next(1) << 12 | next(2) << 6 | next(3), 4)
        };
        (class_of(code), at + length)
    }
}

/// The class of an ASCII character.
#[inline(always)]
pub fn ascii(byte: u8) -> u8 {
    CLASSES.get(ROWS + usize::from(byte & 0x7f)).copied().unwrap_or(0)
}

/// The class of a character by its code point; 0: none that the patterns name.
#[inline(always)]
pub fn class_of(code: usize) -> u8 {
    let row = usize::from(CLASSES.get(code / ROW).copied().unwrap_or(0));
    CLASSES.get(ROWS + row * ROW + code % ROW).copied().unwrap_or(0)
}
