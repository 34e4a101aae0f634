//! The patterns by which the vocabularies cut text into pieces, made by hand.
//!
//! Each is a regular expression with alternatives that are tried in order, published in OpenAI's tiktoken
//! (`tiktoken_ext/openai_public.py`). Here each is a function that finds where the piece at an offset ends, and that
//! never looks further than a character or two behind it: time is linear, whatever the text.

mod cl100k;
#[cfg(any(test, feature = "old-vocabularies"))]
mod gpt2;
mod o200k;

pub use cl100k::Cl100k;
#[cfg(any(test, feature = "old-vocabularies"))]
pub use gpt2::{P50k, R50k};
pub use o200k::O200k;

use super::class::{BLANK, LETTER, LINE, LOWER, NUMBER, Scan, UPPER};
use super::tables::Tables;
use super::window::{Classes, FOREIGN, SIGN, SLASH, Window};

/// How one vocabulary cuts text into pieces.
pub trait Pattern {
    /// The vocabulary.
    const TABLES: &'static Tables;
    /// What else is to be known of pieces that grow long.
    const STYLE: Style;

    /// Behind the piece that begins at `at`, which is inside the text. [`Scan::saw_end`]: more text might change that.
    fn next(scan: &mut Scan<'_>, at: usize) -> usize;

    /// The length of the piece that a window begins with, if that can be told whatever follows the window; else 0. It agrees
    /// with `next`, and sees nothing but ASCII.
    fn glance(window: &Window<'_>) -> usize;
}

/// How patterns differ in pieces that can be long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `o200k`: words are told apart by case and may end with a contraction, and signs may be followed by slashes.
    Cased,
    /// `cl100k`: words of any letters, whatever leads them.
    Caseless,
    /// Those before: a blank may lead a word, a number or signs; numbers are as long as they are, and line ends are blanks.
    #[cfg_attr(not(any(test, feature = "old-vocabularies")), allow(dead_code, reason = "only they have it"))]
    Plain,
}

/// Behind a contraction (`(?i:'s|'t|'re|'ve|'m|'ll|'d)`) at `at`; else `at`. The long s is an s.
#[inline(always)]
pub fn contraction(scan: &mut Scan<'_>, at: usize) -> usize {
    if scan.byte(at) != Some(b'\'') {
        return at;
    }
    let last = match scan.byte(at + 1).map(|byte| byte.to_ascii_lowercase()) {
        Some(b's' | b't' | b'm' | b'd') => return at + 2,
        Some(b'r' | b'v') => b'e',
        Some(b'l') => b'l',
        // U+017F is C5 BF.
        Some(0xc5) => 0xbf,
        _ => return at,
    };
    if scan.byte(at + 2).is_some_and(|byte| byte.to_ascii_lowercase() == last) { at + 3 } else { at }
}

/// Behind up to three numbers, the first of which ends at `at`.
#[inline(always)]
fn number(scan: &mut Scan<'_>, mut at: usize) -> usize {
    for _ in 0..2 {
        match scan.class(at) {
            Some((NUMBER, behind)) => at = behind,
            _ => break,
        }
    }
    at
}

/// Behind signs (`[^\s\p{L}\p{N}]+`) from `at` on, and the line ends that follow them; with `slashes`, slashes too.
#[inline(always)]
fn signs(scan: &mut Scan<'_>, mut at: usize, slashes: bool) -> usize {
    while let Some((class, behind)) = scan.class(at)
        && class & (LETTER | NUMBER | BLANK) == 0
    {
        at = behind;
    }
    while let Some(byte) = scan.byte(at)
        && (matches!(byte, b'\r' | b'\n') || (slashes && byte == b'/'))
    {
        at += 1;
    }
    at
}

/// Behind white space from `at` on: up to the last line end in it, or all but its last character when text follows.
/// `whole_at_end`: a run that ends the text is one piece, whatever is in it.
#[inline(always)]
fn blanks(scan: &mut Scan<'_>, at: usize, whole_at_end: bool) -> usize {
    let (mut line, mut last, mut end) = (None, at, at);
    let ended = loop {
        let Some((class, behind)) = scan.class(end) else { break true };
        if class & BLANK == 0 {
            break false;
        }
        (last, end) = (end, behind);
        if class == LINE {
            line = Some(end);
        }
    };
    match line {
        _ if ended && whole_at_end => end,
        Some(line) => line,
        None if ended || last == at => end,
        None => last,
    }
}

/// What a word may be led by, and `None` if the window does not begin with an ASCII word.
#[inline(always)]
fn glance_lead(window: &Window<'_>, classes: Classes) -> Option<u32> {
    match classes.are(UPPER | LOWER) & 3 {
        1 | 3 => Some(0),
        2 if leads(window.byte(0)) => Some(1),
        _ => None,
    }
}

/// Whether an ASCII character that is no letter can lead a word.
#[inline(always)]
fn leads(byte: u8) -> bool {
    byte < 0x80 && !matches!(byte, b'0'..=b'9' | b'\r' | b'\n')
}

/// A length, if what stops the piece is in the window and is none of these classes; else 0.
#[inline(always)]
fn glance_stop(classes: Classes, length: u32, not: u8) -> usize {
    if length < 16 && classes.are(not) >> length & 1 == 0 { length as usize } else { 0 }
}

/// [`Pattern::glance`] for what is no word: signs, white space and numbers, as in `signs`, `blanks` and `number`.
#[inline(always)]
fn glance_others(window: &Window<'_>, classes: Classes, slashes: bool) -> usize {
    let signs = classes.are(SIGN);
    if signs & 1 == 1 || (signs & 2 == 2 && window.byte(0) == b' ') {
        let lead = !signs & 1;
        let signs = lead + (signs >> lead).trailing_ones();
        let tail = classes.are(if slashes { LINE | SLASH } else { LINE });
        return glance_stop(classes, signs + (tail >> signs).trailing_ones(), FOREIGN);
    }
    let blanks = classes.are(BLANK).trailing_ones();
    if blanks > 0 {
        let lines = classes.are(LINE) & !(u32::MAX << blanks);
        let length = if lines != 0 { 32 - lines.leading_zeros() } else { 1.max(blanks - 1) };
        return if glance_stop(classes, blanks, FOREIGN) > 0 { length as usize } else { 0 };
    }
    match classes.are(NUMBER).trailing_ones() {
        0 => 0,
        1 | 2 if classes.are(FOREIGN) & 0b110 != 0 => 0,
        numbers => numbers.min(3) as usize,
    }
}
