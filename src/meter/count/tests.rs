use std::collections::HashSet;

use super::Encoding;
use super::running::Running;
use crate::meter::count::texts::{self, Texts};

#[test]
fn names_are_found_again() {
    for encoding in Encoding::ALL.iter().copied() {
        assert_eq!(Encoding::from_name(encoding.name()), Some(encoding));
    }
    assert_eq!(Encoding::from_name("p50k"), None);
}

#[test]
fn known_counts() {
    // Counts published in OpenAI's cookbook, "How to count tokens with tiktoken".
    assert_eq!(Encoding::Cl100kBase.count("antidisestablishmentarianism"), 6);
    assert_eq!(Encoding::O200kBase.count("antidisestablishmentarianism"), 6);
    assert_eq!(Encoding::Cl100kBase.count("2 + 2 = 4"), 7);
    assert_eq!(Encoding::O200kBase.count("お誕生日おめでとう"), 8);
    assert_eq!(Encoding::O200kBase.count(""), 0);
}

#[test]
fn special_tokens_are_plain_text() {
    assert!(Encoding::O200kBase.count("<|endoftext|>") > 1);
}

/// Random texts, and those in the folder that `FAREBOX_COUNT_FOLDER` names, whole and in random pieces, beside tiktoken-rs.
/// `make count` runs a million of them for each vocabulary.
#[test]
fn no_difference_from_tiktoken() {
    let texts = std::env::var("FAREBOX_COUNT_TEXTS").ok().and_then(|texts| texts.parse().ok()).unwrap_or(20_000);
    std::thread::scope(|scope| {
        for (encoding, oracle) in [
            (Encoding::O200kBase, tiktoken_rs::o200k_base_singleton()),
            (Encoding::Cl100kBase, tiktoken_rs::cl100k_base_singleton()),
            (Encoding::P50kBase, tiktoken_rs::p50k_base_singleton()),
            (Encoding::R50kBase, tiktoken_rs::r50k_base_singleton()),
        ] {
            scope.spawn(move || {
                let mut random = Texts::new(texts);
                let (mut bytes, mut totals) = (0, 0);
                let mut compare = |text: &str, random: &mut Texts| {
                    // A million spaces are too much for its patterns; there the ways of counting here are compared.
                    let expected = oracle.count(text, &HashSet::new()).map_or(encoding.count(text), |count| count as u64);
                    assert_eq!(encoding.count(text), expected, "{encoding:?} {text:.500?}");
                    totals += stream(encoding, text, expected, random);
                    bytes += text.len();
                };
                for _ in 0..texts {
                    let text = random.text();
                    compare(&text, &mut random);
                }
                files().for_each(|text| compare(&text, &mut random));
                let (name, files) = (encoding.name(), files().count());
                println!("{name}: {texts} random texts, {files} files, {bytes} bytes, {totals} totals on the way: no difference");
            });
        }
    });
}

/// The texts of `make bench-count`, if they are there; a line at a time, because the whole beginning is counted anew for each
/// total on the way.
fn files() -> impl Iterator<Item = String> {
    let folder = std::env::var_os("FAREBOX_COUNT_FOLDER").map(|folder| std::fs::read_dir(folder).unwrap());
    let paths = folder.into_iter().flatten().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|kind| kind == "txt")).flat_map(|path| {
        let text = std::fs::read_to_string(path).unwrap();
        let mut pieces = Vec::new();
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(texts::boundary(rest, 4_000));
            pieces.push(piece.to_owned());
            rest = behind;
        }
        pieces.push(text);
        pieces
    })
}

/// Feeds a text in pieces of 1 to 6 characters, now and then more; compares some of the totals on the way, of a long text
/// few. How many.
fn stream(encoding: Encoding, text: &str, expected: u64, random: &mut Texts) -> usize {
    let mut running = Running::new(encoding);
    let (mut at, mut totals) = (0, 0);
    while at < text.len() {
        let most = if random.below(20) == 0 { 200 } else { 6 };
        let end = texts::boundary(text, at + 1 + random.below(most));
        running.push(&text[at..end]);
        at = end;
        if random.below(8 + text.len() / 50) == 0 {
            totals += 1;
            assert_eq!(running.total(), encoding.count(&text[..at]), "{encoding:?} {text:.500?} up to {at}");
            assert!(running.ceiling() >= running.total(), "{encoding:?} {text:.500?} up to {at}");
        }
    }
    assert_eq!(running.total(), expected, "{encoding:?} {text:.500?} streamed");
    totals
}

/// Long pieces of every kind, and what may follow them.
#[test]
fn long_pieces_stream_exactly() {
    let mut random = Texts::new(7);
    for (encoding, oracle) in [
        (Encoding::O200kBase, tiktoken_rs::o200k_base_singleton()),
        (Encoding::Cl100kBase, tiktoken_rs::cl100k_base_singleton()),
        (Encoding::P50kBase, tiktoken_rs::p50k_base_singleton()),
        (Encoding::R50kBase, tiktoken_rs::r50k_base_singleton()),
    ] {
        for _ in 0..3_000 {
            let text = random.long();
            let expected = oracle.count_ordinary(&text) as u64;
            assert_eq!(encoding.count(&text), expected, "{encoding:?} {text:?}");
            stream(encoding, &text, expected, &mut random);
        }
    }
}

#[test]
fn monsters_are_counted_whole_and_in_pieces() {
    for (unit, repeats) in [
        (" ", 300_000),
        ("a", 300_000),
        ("=", 20_000),
        ("\n", 300_000),
        ("你", 100_000),
        ("\u{301}", 50_000),
        ("A", 30_000),
        ("-", 20_000),
        ("中A", 20_000),
        ("\n ", 50_000),
    ] {
        let text = unit.repeat(repeats);
        for encoding in Encoding::ALL.iter().copied() {
            let count = encoding.count(&text);
            let mut running = Running::new(encoding);
            text.as_bytes().chunks(3 * unit.len()).for_each(|chunk| running.push(std::str::from_utf8(chunk).unwrap()));
            assert_eq!(running.total(), count, "{encoding:?} {unit:?}");
            let mut running = Running::new(encoding);
            running.push(&text);
            running.push("x'");
            assert_eq!(running.total(), encoding.count(&format!("{text}x'")), "{encoding:?} {unit:?}");
        }
    }
}

#[test]
fn counting_stops_at_a_limit() {
    let mut random = Texts::new(11);
    for encoding in Encoding::ALL.iter().copied() {
        for _ in 0..500 {
            let text = random.text();
            let count = encoding.count(&text);
            assert!(count <= encoding.ceiling(text.len()), "{encoding:?} {text:?}");
            for most in [0, 1, count / 2, count.saturating_sub(1)] {
                assert_eq!(
                    encoding.count_up_to(&text, most),
                    Some(count).filter(|count| *count <= most),
                    "{text:?} {most}"
                );
            }
            assert_eq!(encoding.count_up_to(&text, count), Some(count), "{encoding:?} {text:?}");
        }
    }
}

/// However long the text is, and also when all of it is one piece.
#[test]
fn what_is_behind_a_limit_is_not_counted() {
    for encoding in Encoding::ALL.iter().copied() {
        for unit in ["the end ", "你好", "-", "qxz", "😀", "\n ", "\u{301}"] {
            let text = unit.repeat(4_000_000 / unit.len());
            let seen = encoding.with(|counter| counter.count(&text, 100));
            let whole = encoding.count(&text);
            assert!(seen > 100 && seen < 15_000 && seen < whole / 2, "{encoding:?} {unit:?}: {seen} of {whole}");
            assert_eq!(encoding.count_up_to(&text, 100), None, "{encoding:?} {unit:?}");
        }
    }
}
