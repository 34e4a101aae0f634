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

use super::super::class::{BLANK, CASELESS, LETTER, LINE, LOWER, NUMBER, SPACE, Scan, UPPER};
use super::super::tables::{self, Tables};
use super::super::window::{FOREIGN, Window};
use super::{Pattern, Style, blanks, contraction, glance_lead, glance_others, glance_stop, number, signs};

/// `cl100k_base`.
#[derive(Debug)]
pub enum Cl100k {}

impl Pattern for Cl100k {
    const TABLES: &'static Tables = &tables::CL100K;
    const STYLE: Style = Style::Caseless;

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
    fn glance(window: &Window<'_>) -> usize {
        let classes = window.classes();
        match glance_lead(window, classes) {
            None => glance_others(window, classes, false),
            // It may be a contraction.
            Some(1) if window.byte(0) == b'\'' => 0,
            Some(lead) => {
                let length = lead + (classes.are(UPPER | LOWER) >> lead).trailing_ones();
                glance_stop(classes, length, FOREIGN)
            }
        }
    }
}
