//! The pattern of `cl100k_base`:
//!
//! ```text
//! '(?i:[sdmt]|ll|ve|re)
//! [^\r\n\p{L}\p{N}]?+\p{L}++
//! \p{N}{1,3}+
//!  ?[^\s\p{L}\p{N}]++[\r\n]*+
//! \s++$
//! \s*[\r\n]
//! \s+(?!\S)
//! \s
//! ```

use super::super::class::{BLANK, CASELESS, LETTER, LINE, LOWER, NUMBER, SPACE, Scan, UPPER, ascii};
use super::super::tables::{self, Tables};
use super::super::window::Window;
use super::{Pattern, blanks, contraction, number, signs};

/// `cl100k_base`.
#[derive(Debug)]
pub enum Cl100k {}

impl Pattern for Cl100k {
    const TABLES: &'static Tables = &tables::CL100K;
    const CASED: bool = false;

    #[inline(always)]
    fn next(scan: &mut Scan<'_>, at: usize) -> usize {
        let Some((class, behind)) = scan.class(at) else { return at };
        match class {
            UPPER | LOWER | CASELESS => return scan.run(behind, LETTER),
            NUMBER => return number(scan, behind),
            LINE => return blanks(scan, at, true),
            _ => {}
        }
        let end = contraction(scan, at);
        if end > at {
            return end;
        }
        match scan.class(behind) {
            Some((next, behind)) if next & LETTER != 0 => scan.run(behind, LETTER),
            next if class == SPACE => {
                let sign = next.is_some_and(|(next, _)| next & (NUMBER | BLANK) == 0);
                let led = sign && scan.byte(at) == Some(b' ');
                if led { signs(scan, behind, false) } else { blanks(scan, at, true) }
            }
            _ => signs(scan, behind, false),
        }
    }

    #[inline(always)]
    fn glance(window: &Window) -> usize {
        let letters = window.letters();
        let letters = letters.upper | letters.lower;
        let lead = match letters & 3 {
            // Neither the first nor the second is a letter.
            0 => return 0,
            2 if window.byte(0) >= 0x80 || ascii(window.byte(0)) & (NUMBER | LINE) != 0 => return 0,
            // It may be a contraction.
            2 if window.byte(0) == b'\'' => return 0,
            2 => 1,
            _ => 0,
        };
        let length = lead + (letters >> lead).trailing_ones();
        // What stops it must be seen, and must be surely no letter.
        if length < 16 && window.byte(length as usize) < 0x80 { length as usize } else { 0 }
    }
}
