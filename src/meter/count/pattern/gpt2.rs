//! The pattern of `p50k_base` and `r50k_base`, which GPT-2 had too:
//!
//! ```text
//! '(?:[sdmt]|ll|ve|re)
//!  ?\p{L}++
//!  ?\p{N}++
//!  ?[^\s\p{L}\p{N}]++
//! \s++$
//! \s+(?!\S)
//! \s
//! ```

use super::super::class::{BLANK, LETTER, NUMBER, Scan};
use super::super::tables::{self, Tables};
use super::super::window::Window;
use super::{Pattern, Style};

/// The vocabularies that have it; `LATER`: the second of them.
#[derive(Debug)]
pub enum Gpt2<const LATER: bool> {}

/// `p50k_base`: GPT-3 and Codex.
pub type P50k = Gpt2<true>;
/// `r50k_base`: GPT-2, and GPT-3 before Codex.
pub type R50k = Gpt2<false>;

impl<const LATER: bool> Pattern for Gpt2<LATER> {
    const TABLES: &'static Tables = if LATER { &tables::P50K } else { &tables::R50K };
    const STYLE: Style = Style::Plain;

    fn next(scan: &mut Scan<'_>, at: usize) -> usize {
        next(scan, at)
    }

    fn glance(_: &Window<'_>) -> usize {
        0
    }
}

fn next(scan: &mut Scan<'_>, at: usize) -> usize {
    let end = contraction(scan, at);
    if end > at {
        return end;
    }
    let led = scan.byte(at) == Some(b' ') && scan.class(at + 1).is_some_and(|(class, _)| class & BLANK == 0);
    let begins = if led { at + 1 } else { at };
    let Some((class, behind)) = scan.class(begins) else { return at };
    if class & LETTER != 0 {
        scan.run(behind, LETTER)
    } else if class & NUMBER != 0 {
        scan.run(behind, NUMBER)
    } else if class & BLANK != 0 {
        blanks(scan, at)
    } else {
        signs(scan, behind)
    }
}

/// Behind a contraction at `at`, in small letters only; else `at`.
fn contraction(scan: &mut Scan<'_>, at: usize) -> usize {
    if scan.byte(at) != Some(b'\'') {
        return at;
    }
    let last = match scan.byte(at + 1) {
        Some(b's' | b'd' | b'm' | b't') => return at + 2,
        Some(b'l') => b'l',
        Some(b'v' | b'r') => b'e',
        _ => return at,
    };
    if scan.byte(at + 2) == Some(last) { at + 3 } else { at }
}

/// Behind signs from `at` on.
fn signs(scan: &mut Scan<'_>, mut at: usize) -> usize {
    while let Some((class, behind)) = scan.class(at)
        && class & (LETTER | NUMBER | BLANK) == 0
    {
        at = behind;
    }
    at
}

/// Behind white space from `at` on: all of it where the text ends, else all but its last character, unless that is the
/// only one.
fn blanks(scan: &mut Scan<'_>, at: usize) -> usize {
    let (mut last, mut end) = (at, at);
    loop {
        let Some((class, behind)) = scan.class(end) else { return end };
        if class & BLANK == 0 {
            return if last == at { end } else { last };
        }
        (last, end) = (end, behind);
    }
}
