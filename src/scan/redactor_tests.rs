//! Any chunking gives the same; nothing leaves that the whole text would hide.

use proptest::prelude::{Strategy, prop_assert, prop_assert_eq, proptest};

use super::Redactor;
use crate::scan::scanner::{Finding, Scanner, Selection};
use crate::scan::{Action, Topic};

fn scanner(action: Action) -> Scanner {
    let topics = Topic::ALL.into_iter().map(|topic| (topic, action)).collect();
    let patterns = vec![("badge".to_owned(), "工号[ :：]?[0-9]{6}".to_owned(), action)];
    let keywords = Some((vec!["project falcon".to_owned(), "机密项目".to_owned()], action));
    Scanner::new(&Selection { topics, patterns, keywords, injection: Vec::new() }).expect("patterns that compile")
}

/// The text with everything found in pieces, and the most that was held back.
fn redact<'a>(scanner: &Scanner, pieces: impl IntoIterator<Item = &'a str>) -> (String, Vec<String>, usize) {
    let (mut redactor, mut out, mut most) = (Redactor::new(scanner.clone()), String::new(), 0);
    let mut found = Vec::new();
    let mut replace = |finding: &Finding, _: &str, out: &mut String| {
        found.push(format!("{}:{}", finding.rule, finding.shape));
        if scanner.action(finding.rule) != Action::Observe {
            out.push('█');
        }
    };
    for piece in pieces {
        redactor.push(piece, &mut replace, &mut out);
        most = most.max(redactor.held());
    }
    redactor.finish(&mut replace, &mut out);
    assert_eq!(redactor.held(), 0);
    (out, found, most)
}

/// The same by the search in the whole.
fn whole(scanner: &Scanner, text: &str) -> String {
    let (mut out, mut from) = (String::new(), 0);
    scanner.search(text, |finding| {
        out.push_str(&text[from..finding.range.start]);
        out.push('█');
        from = finding.range.end;
    });
    out + &text[from..]
}

/// Texts made of what is found, of its parts, and of what stands around it.
fn texts() -> impl Strategy<Value = String> {
    let found = proptest::sample::select(vec![
        "AKIAIOSFODNN7EXAMPLE",
        "A\u{200b}KIAIOSF\u{feff}ODNN7EXAMPLE",
        r"\u0041KIAIOSFODNN7EXAMPLE",
        "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",
        "ghp_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq18",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIBOgIBAAJBAKj34GkxFhD9\n-----END RSA PRIVATE KEY-----",
        r"-----BEGIN PRIVATE KEY-----\nMIIBOgIBAAJB\n",
        "13812345678",
        "１３８１２３４５６７８",
        "138-1234-5678",
        "+86 138 1234 5678",
        "+49 30 901820",
        "4111 1111 1111 1111",
        "4111111111111111",
        "6222600260001072444",
        "11010519491231002X",
        "DE89 3704 0044 0532 0130 00",
        "alice.w@example.co.uk",
        "护照号：E12345678",
        "passport no. C01234567",
        "536-90-4399",
        "工号：123456",
        "Project Falcon",
        "机密项目",
        "AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
    ]);
    let part = (found.clone(), 0usize..40)
        .prop_map(|(text, cut)| text.char_indices().nth(cut).map_or(text, |(at, _)| &text[..at]).to_owned());
    let around = proptest::sample::select(vec![
        " ",
        "",
        "\n",
        ".",
        ",",
        "，",
        "-",
        "_",
        "a",
        "7",
        "\\",
        r"\n",
        r"\u",
        "\u{200b}",
        "\u{200b}\u{200b}\u{200b}\u{200b}\u{200b}",
        "“",
        "密钥",
        "@",
        "+",
        "e",
        "=",
        "\"",
        "the ",
        "2024-05-12 10:30 ",
        "x.com",
        "é",
    ]);
    let piece = proptest::prop_oneof![
        3 => found.prop_map(str::to_owned),
        2 => part,
        5 => around.prop_map(str::to_owned),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn cut<'a>(text: &'a str, cuts: &[usize]) -> Vec<&'a str> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).chain([0, text.len()]).collect();
    places.retain(|place| text.is_char_boundary(*place));
    places.sort_unstable();
    places.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect()
}

proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(512))]

    #[test]
    fn any_chunking_gives_what_the_whole_gives(text in texts(), cuts in proptest::collection::vec(0usize..4096, 0..12)) {
        for action in [Action::Redact, Action::Observe] {
            let scanner = scanner(action);
            let at_once = redact(&scanner, [text.as_str()]);
            let in_pieces = redact(&scanner, cut(&text, &cuts));
            let by_character = redact(&scanner, text.char_indices().map(|(at, c)| &text[at..at + c.len_utf8()]));
            prop_assert_eq!(&in_pieces.0, &at_once.0);
            prop_assert_eq!(&by_character.0, &at_once.0);
            prop_assert_eq!(&in_pieces.1, &at_once.1);
            prop_assert_eq!(&by_character.1, &at_once.1);
            match action {
                Action::Observe => prop_assert_eq!(&at_once.0, &text),
                _ => prop_assert_eq!(&at_once.0, &whole(&scanner, &text)),
            }
            prop_assert!(by_character.2 <= scanner.longest() * 6 + 64);
        }
    }
}

#[test]
fn what_is_found_never_leaves_in_part() {
    let scanner = scanner(Action::Redact);
    for (text, hidden) in [
        ("key AKIAIOSFODNN7EXAMPLE.", "key █."),
        ("call 138-1234-5678 now", "call █ now"),
        ("a\n-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\nb", "a\n█\nb"),
        ("我的身份证是11010519491231002X，谢谢", "我的身份证是█，谢谢"),
    ] {
        let (mut redactor, mut out) = (Redactor::new(scanner.clone()), String::new());
        for c in text.chars() {
            redactor.push(&c.to_string(), &mut |_, _, out| out.push('█'), &mut out);
            assert!(hidden.starts_with(&out), "{out:?} has left of {text:?}");
        }
        redactor.finish(&mut |_, _, out| out.push('█'), &mut out);
        assert_eq!(out, hidden);
    }
}

#[test]
fn ordinary_words_wait_for_one_another_only() {
    let scanner = scanner(Action::Redact);
    let text = "The quick brown fox jumps over the lazy dog, and nothing of it is anybody's. ".repeat(20);
    let (out, found, most) = redact(&scanner, text.split_inclusive(' '));
    assert_eq!((out, found.len()), (text, 0));
    assert!(most <= 12, "{most} bytes held back of ordinary words");
}

#[test]
fn a_swallowed_key_takes_no_memory() {
    let (mut redactor, mut out) = (Redactor::new(scanner(Action::Redact)), String::new());
    let mut replace = |_: &Finding, _: &str, out: &mut String| out.push('█');
    redactor.push("-----BEGIN PRIVATE KEY-----\n", &mut replace, &mut out);
    for _ in 0..1_000 {
        redactor.push(&"A".repeat(64), &mut replace, &mut out);
        assert!(redactor.held() <= 64);
    }
    // The armour is given up after 32 KiB, and then the text leaves again.
    assert!(out.starts_with('█') && out.len() < 40_000 && out.len() > 20_000, "{}", out.len());
}
