//! The pattern of `o200k_base`:
//!
//! ```text
//! [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?
//! [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?
//! \p{N}{1,3}
//!  ?[^\s\p{L}\p{N}]+[\r\n/]*
//! \s*[\r\n]+
//! \s+(?!\S)
//! \s+
//! ```

use super::super::class::{BLANK, CASELESS, LETTER, LINE, LOWER, MARK, NUMBER, SPACE, Scan, UPPER};
use super::super::tables::{self, Tables};
use super::super::window::{FOREIGN, Window};
use super::{Pattern, Style, blanks, contraction, glance_lead, glance_others, glance_stop, number, signs};

/// `o200k_base`, `o200k_harmony`.
#[derive(Debug)]
pub enum O200k {}

impl Pattern for O200k {
    const TABLES: &'static Tables = &tables::O200K;
    const STYLE: Style = Style::Cased;

    #[inline(always)]
    fn next(scan: &mut Scan<'_>, at: usize) -> usize {
        let Some((class, behind)) = scan.class(at) else { return at };
        let end = match class {
            UPPER | LOWER | CASELESS => word(scan, at).either(at),
            NUMBER => return number(scan, behind),
            LINE => return blanks(scan, at, false),
            // A mark leads a word if that is one of the first kind; else it is one itself.
            MARK => match word(scan, behind).first {
                led if led > behind => led,
                _ => word(scan, at).first,
            },
            _ => match scan.class(behind) {
                Some((next, _)) if next & (LETTER | MARK) != 0 => word(scan, behind).either(behind),
                next if class == SPACE => {
                    let sign = next.is_some_and(|(next, _)| next & (NUMBER | BLANK) == 0);
                    let led = sign && scan.byte(at) == Some(b' ');
                    return if led { signs(scan, behind, true) } else { blanks(scan, at, false) };
                }
                _ => return signs(scan, behind, true),
            },
        };
        contraction(scan, end)
    }

    #[inline(always)]
    fn glance(window: &Window<'_>) -> usize {
        let classes = window.classes();
        let Some(lead) = glance_lead(window, classes) else { return glance_others(window, classes, true) };
        let capitals = (classes.are(UPPER) >> lead).trailing_ones();
        let length = lead + capitals + (classes.are(LOWER) >> lead >> capitals).trailing_ones();
        let length = glance_stop(classes, length, FOREIGN);
        // A contraction may follow.
        if window.byte(length) == b'\'' { 0 } else { length }
    }
}

/// Where a word from some offset on ends, by the first and by the second alternative; where it begins: not at all.
struct Word {
    first: usize,
    second: usize,
}

impl Word {
    #[inline(always)]
    fn either(&self, start: usize) -> usize {
        if self.first > start { self.first } else { self.second }
    }
}

/// A word without what leads it. Both alternatives take all capitals, caseless letters and marks first. If lowercase
/// follows, both go on through it. Else the first gives back until its last character is one that may be lowercase,
/// that is caseless or a mark, and the second gives back nothing.
#[inline(always)]
fn word(scan: &mut Scan<'_>, start: usize) -> Word {
    let (mut at, mut first) = (start, start);
    while let Some((class, behind)) = scan.class(at) {
        match class {
            UPPER => at = behind,
            CASELESS | MARK => (at, first) = (behind, behind),
            LOWER => {
                let end = scan.run(behind, LOWER | CASELESS | MARK);
                return Word { first: end, second: end };
            }
            _ => break,
        }
    }
    Word { first, second: at }
}
