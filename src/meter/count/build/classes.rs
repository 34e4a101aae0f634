//! The class of every character.

use std::collections::HashMap;

use regex_syntax::hir::{Class, HirKind};

use crate::layout::{CASELESS, LINE, LOWER, MARK, NUMBER, ROW, ROWS, SPACE, UPPER};

/// Row numbers, then rows: see `layout::ROW`.
pub fn table() -> Vec<u8> {
    let mut classes = vec![0u8; ROW * ROWS];
    for (pattern, class) in [
        (r"[\p{Lu}\p{Lt}]", UPPER),
        (r"\p{Ll}", LOWER),
        (r"[\p{Lm}\p{Lo}]", CASELESS),
        (r"\p{M}", MARK),
        (r"\p{N}", NUMBER),
        (r"[\s--[\r\n]]", SPACE),
        (r"[\r\n]", LINE),
    ] {
        for (first, last) in ranges(pattern) {
            for class_of in &mut classes[first as usize..=last as usize] {
                assert_eq!(*class_of, 0, "the classes do not overlap");
                *class_of = class;
            }
        }
    }
    let (mut numbers, mut rows, mut known) = (Vec::new(), Vec::new(), HashMap::new());
    for row in classes.chunks(ROW) {
        let number = *known.entry(row).or_insert_with(|| {
            rows.extend_from_slice(row);
            rows.len() / ROW - 1
        });
        numbers.push(u8::try_from(number).expect("at most 256 different rows"));
    }
    numbers.extend(rows);
    numbers
}

/// What a pattern of one character matches.
fn ranges(pattern: &str) -> Vec<(char, char)> {
    let parsed = regex_syntax::parse(pattern).expect("a pattern");
    match parsed.kind() {
        HirKind::Class(Class::Unicode(class)) => class.iter().map(|range| (range.start(), range.end())).collect(),
        kind => panic!("{pattern} is no class: {kind:?}"),
    }
}
