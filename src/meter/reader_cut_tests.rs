use std::path::PathBuf;

use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

use super::super::{Need, Terms};
use super::{Forward, Reader, dialect_of, golden_files, reader, told};
use crate::meter::count::Encoding;
use crate::meter::dialect::Dialect;

/// What is done about an event that waits.
#[derive(Clone, Copy, Debug)]
struct Plan {
    allowance: u64,
    /// How often more is allowed, and how much at least.
    more: u32,
    by: u64,
    grace: u64,
}

const TERMS: Terms = Terms { allowance: 0, choices: 1, tells_usage: false };

/// A finished reader that was kept to an allowance, and what left.
fn run<'a>(
    mut reader: Reader,
    terms: Terms,
    plan: Plan,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> (Reader, Vec<u8>) {
    reader.keep_to(Terms { allowance: plan.allowance, ..terms });
    let (mut out, mut left, mut allowance) = (Vec::new(), plan.more, plan.allowance);
    let mut take = |reader: &mut Reader, chunk: &[u8], end: bool| {
        match reader.push(chunk, end) {
            Forward::Same => out.extend_from_slice(chunk),
            Forward::Replace(bytes) => out.extend(bytes),
        }
        while let Some(need) = reader.waits() {
            let Need::Tokens(tokens) = need else {
                out.extend(reader.cut(7));
                break;
            };
            if left > 0 {
                left -= 1;
                allowance = tokens.max(allowance + plan.by);
                reader.allow(allowance);
            } else if !reader.give_grace(plan.grace) {
                out.extend(reader.cut(7));
                break;
            }
            out.extend(reader.go_on());
        }
    };
    chunks.into_iter().for_each(|chunk| take(&mut reader, chunk, false));
    take(&mut reader, b"", true);
    (reader, out)
}

fn told_of(reader: &Reader) -> String {
    format!("{}cut: {}\ngraced: {}\n", told(reader), reader.is_cut(), reader.graced())
}

fn words(dialect: Dialect, words: &[&str]) -> String {
    let event = |word: &str| match dialect {
        Dialect::OpenAiChat => format!(
            "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":17,\"model\":\"m-1\",\
             \"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{word}\"}},\"finish_reason\":null}}]}}\n\n"
        ),
        Dialect::AnthropicMessages => format!(
            "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\
             \"delta\":{{\"type\":\"text_delta\",\"text\":\"{word}\"}}}}\n\n"
        ),
        Dialect::OpenAiCompletions => format!(
            "data: {{\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"created\":17,\"model\":\"m-1\",\
             \"choices\":[{{\"text\":\"{word}\",\"index\":0,\"finish_reason\":null}}]}}\n\n"
        ),
        Dialect::OpenAiResponses => format!(
            "event: response.output_text.delta\ndata: {{\"type\":\"response.output_text.delta\",\
             \"sequence_number\":4,\"output_index\":0,\"content_index\":0,\"delta\":\"{word}\"}}\n\n"
        ),
        Dialect::AnthropicComplete => {
            format!("event: completion\r\ndata: {{\"type\":\"completion\",\"completion\":\"{word}\"}}\r\n\r\n")
        }
        Dialect::GeminiGenerate => {
            format!("data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":\"{word}\"}}]}}}}]}}\r\n\r\n")
        }
        Dialect::GeminiInteractions => format!(
            "event: step.delta\ndata: {{\"event_type\":\"step.delta\",\"index\":1,\
             \"delta\":{{\"type\":\"text\",\"text\":\"{word}\"}}}}\n\n"
        ),
        _ => panic!("{dialect:?} is not cut"),
    };
    let opening = match dialect {
        Dialect::AnthropicMessages => {
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"m-1\",\
             \"usage\":{\"input_tokens\":11,\"output_tokens\":1}}}\n\nevent: content_block_start\ndata: \
             {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n"
        }
        Dialect::OpenAiResponses => {
            "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\
             \"response\":{\"id\":\"resp_1\",\"created_at\":17,\"model\":\"m-1\",\"usage\":null}}\n\n"
        }
        _ => "",
    };
    opening.to_owned() + &words.iter().map(|word| event(word)).collect::<String>()
}

/// Those whose streams are of events.
fn cut_dialects() -> impl Iterator<Item = Dialect> {
    Dialect::ALL.into_iter().filter(|dialect| dialect.sends_events() || *dialect == Dialect::GeminiGenerate)
}

const WORDS: [&str; 5] = ["One", " two", " three", " four", " five"];

fn plan(allowance: u64) -> Plan {
    Plan { allowance, more: 0, by: 0, grace: 0 }
}

#[test]
fn not_one_token_beyond_the_allowance_leaves_and_every_one_within() {
    for dialect in cut_dialects() {
        let body = words(dialect, &WORDS);
        for allowance in 0..5 {
            let (reader, out) = run(reader(dialect, false), TERMS, plan(allowance), [body.as_bytes()]);
            let kept = words(dialect, &WORDS[..usize::try_from(allowance).unwrap()]);
            assert!(out.starts_with(kept.as_bytes()), "{allowance}: {}", String::from_utf8_lossy(&out));
            assert_eq!((reader.delivered(), reader.is_cut()), (allowance, true));
            let text = String::from_utf8(out).unwrap();
            assert!(!text.contains(WORDS[usize::try_from(allowance).unwrap()]), "{text}");
        }
        let (reader, out) = run(reader(dialect, false), TERMS, plan(5), [body.as_bytes()]);
        assert_eq!((out.as_slice(), reader.delivered(), reader.is_cut()), (body.as_bytes(), 5, false));
    }
}

#[test]
fn what_waits_leaves_when_more_is_allowed() {
    let body = words(Dialect::OpenAiChat, &WORDS);
    let mut one = reader(Dialect::OpenAiChat, false);
    one.keep_to(Terms { allowance: 2, ..TERMS });
    let Forward::Replace(first) = one.push(body.as_bytes(), false) else { panic!("all of it left") };
    assert_eq!(first, words(Dialect::OpenAiChat, &WORDS[..2]).into_bytes());
    assert_eq!((one.waits(), one.delivered()), (Some(Need::Tokens(3)), 2));
    assert_eq!(one.go_on(), b"", "nothing more was allowed");
    one.allow(4);
    assert_eq!(one.go_on(), &words(Dialect::OpenAiChat, &WORDS).as_bytes()[first.len()..][..first.len() + 4]);
    assert_eq!(one.waits(), Some(Need::Tokens(5)));
    assert_eq!(one.push(b"data: [DONE]\n\n", true), Forward::Replace(Vec::new()));
    assert!(!one.finished());
    one.allow(9);
    assert!(String::from_utf8(one.go_on()).unwrap().ends_with("data: [DONE]\n\n"));
    assert!(one.finished() && one.waits().is_none() && one.delivered() == 5);
}

#[test]
fn what_the_upstream_says_after_the_cut_is_read_and_not_delivered() {
    let mut body = words(Dialect::OpenAiChat, &WORDS);
    body.push_str("data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":5}}\n\ndata: [DONE]\n\n");
    let (reader, out) = run(reader(Dialect::OpenAiChat, true), TERMS, plan(3), body.as_bytes().chunks(11));
    assert_eq!((reader.delivered(), reader.reported().unwrap().output, reader.finished()), (3, 5, true));
    assert_eq!(String::from_utf8(out).unwrap().matches("[DONE]").count(), 1);
}

#[test]
fn an_event_too_long_to_be_weighed_ends_the_stream() {
    let start = words(Dialect::OpenAiChat, &WORDS[..2]);
    let body = format!("{start}data: {{\"x\":\"{}\"}}\n\ndata: [DONE]\n\n", "x".repeat(2 << 20));
    for size in [body.len(), 4096] {
        let (reader, out) = run(reader(Dialect::OpenAiChat, false), TERMS, plan(1 << 40), body.as_bytes().chunks(size));
        assert!(out.len() < start.len() + 400 && out.starts_with(start.as_bytes()));
        assert_eq!((reader.is_cut(), reader.delivered()), (true, 2));
    }
}

#[test]
fn what_waits_too_long_is_not_kept() {
    let mut one = reader(Dialect::OpenAiChat, false);
    one.keep_to(Terms { allowance: 1, ..TERMS });
    one.push(words(Dialect::OpenAiChat, &WORDS).as_bytes(), false);
    assert_eq!(one.waits(), Some(Need::Tokens(2)));
    for _ in 0..300 {
        one.push(&[b'x'; 4096], false);
    }
    assert_eq!(one.waits(), Some(Need::Never));
    one.allow(100);
    assert_eq!(one.go_on(), b"");
    assert!(!one.cut(7).is_empty() && one.waits().is_none());
}

#[test]
fn an_answer_that_is_no_stream_is_not_kept() {
    let json = br#"{"choices":[{"index":0,"message":{"content":"One two three"},"finish_reason":"stop"}]}"#;
    let (reader, out) = run(reader(Dialect::OpenAiChat, false), TERMS, plan(1), [&json[..]]);
    assert_eq!((out.as_slice(), reader.is_kept(), reader.delivered()), (&json[..], false, 3));
}

/// A call of a tool in three pieces of one token, then another call.
fn calls() -> Vec<String> {
    let event = |index: u32, rest: &str| {
        format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"tool_calls\":[{{\"index\":{index},{rest}}}]}}}}]}}\n\n"
        )
    };
    let argument = |index, piece: &str| event(index, &format!("\"function\":{{\"arguments\":\"{piece}\"}}"));
    vec![
        event(0, "\"id\":\"c\",\"function\":{\"name\":\"weather\",\"arguments\":\"\"}"),
        argument(0, "One"),
        argument(0, " two"),
        argument(0, " three"),
        event(1, "\"id\":\"d\",\"function\":{\"name\":\"clock\",\"arguments\":\"\"}"),
    ]
}

const FINISH: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\ndata: [DONE]\n\n";

#[test]
fn grace_lets_the_call_under_way_end_and_no_other_begin() {
    let calls = calls();
    let graced = Plan { grace: 10, ..plan(2) };
    let one_call = calls[..4].concat() + FINISH;
    let (reader, out) = run(super::reader(Dialect::OpenAiChat, false), TERMS, graced, [one_call.as_bytes()]);
    assert_eq!(String::from_utf8(out).unwrap(), one_call, "it ended by itself");
    assert_eq!((reader.graced(), reader.is_cut(), reader.finished()), (2, false, true));
    let two = calls.concat() + FINISH;
    let (reader, out) = run(super::reader(Dialect::OpenAiChat, false), TERMS, graced, [two.as_bytes()]);
    let text = String::from_utf8(out).unwrap();
    assert!(text.starts_with(&calls[..4].concat()) && !text.contains("clock"));
    assert!(text.contains("\"finish_reason\":\"length\"") && !text.contains("tool_calls\"}"));
    assert_eq!((reader.graced(), reader.delivered(), reader.is_cut()), (2, 4, true));
}

#[test]
fn grace_is_as_long_as_it_is_and_a_call_cut_in_it_is_not_disguised() {
    let calls = calls();
    let body = calls[..4].concat() + FINISH;
    let (reader, out) =
        run(super::reader(Dialect::OpenAiChat, false), TERMS, Plan { grace: 1, ..plan(2) }, [body.as_bytes()]);
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains(" two") && !text.contains(" three"), "{text}");
    assert!(text.contains("\"finish_reason\":\"length\"") && !text.contains("\"finish_reason\":\"tool_calls\""));
    assert_eq!((reader.graced(), reader.delivered()), (1, 3));
    // Where no tool is called there is none.
    let text = words(Dialect::OpenAiChat, &WORDS);
    let (reader, _) =
        run(super::reader(Dialect::OpenAiChat, false), TERMS, Plan { grace: 9, ..plan(2) }, [text.as_bytes()]);
    assert_eq!((reader.graced(), reader.delivered()), (0, 2));
}

/// The endings of every transcript at several lengths; `BLESS=1` writes them.
#[test]
fn golden_endings() {
    let mut differing = Vec::new();
    for path in golden_files() {
        let body = std::fs::read(&path).unwrap();
        let mut told = String::new();
        for allowance in [0, 1, 5, 20] {
            let terms = Terms { choices: 1, tells_usage: allowance == 5, ..TERMS };
            let (reader, out) = run(reader(dialect_of(&path), !terms.tells_usage), terms, plan(allowance), [&body[..]]);
            if reader.is_cut() {
                let common = out.iter().zip(&body).take_while(|(out, body)| out == body).count();
                let kept = body[..common].windows(2).rposition(|pair| pair == b"\n\n").map_or(0, |at| at + 2);
                let ending = String::from_utf8_lossy(&out[kept..]);
                told.push_str(&format!("# {allowance} allowed, {} delivered\n{ending}", reader.delivered()));
            }
        }
        let name = path.file_name().unwrap().to_string_lossy();
        let expected = path.with_file_name("endings").join(format!("{name}.ending"));
        if std::env::var_os("BLESS").is_some() && !told.is_empty() {
            std::fs::create_dir_all(expected.parent().unwrap()).unwrap();
            std::fs::write(&expected, &told).unwrap();
        }
        if std::fs::read_to_string(&expected).unwrap_or_default() != told {
            differing.push(format!("{}\n{told}", path.display()));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

proptest! {
    #[test]
    fn any_chunking_leaves_the_same_bytes(
        which in any::<usize>(), allowance in 0u64..40, more in 0u32..4, by in 0u64..20, grace in 0u64..10,
        hide in any::<bool>(), crlf in any::<bool>(), cuts in proptest::collection::vec(any::<usize>(), 0..12),
    ) {
        // Binary frames have no lines to end otherwise.
        let text = |path: &PathBuf| String::from_utf8(std::fs::read(path).unwrap()).is_ok();
        let files: Vec<PathBuf> = golden_files().into_iter().filter(text).collect();
        let path = &files[which % files.len()];
        let mut body = String::from_utf8(std::fs::read(path).unwrap()).unwrap();
        if crlf {
            body = body.replace("\r\n", "\n").replace('\n', "\r\n");
        }
        let body = body.as_bytes();
        let (plan, terms) = (Plan { allowance, more, by, grace }, Terms { choices: 1, tells_usage: !hide, ..TERMS });
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (body.len() + 1)).chain([0, body.len()]).collect();
        cuts.sort_unstable();
        let (whole, out) = run(reader(dialect_of(path), hide), terms, plan, [body]);
        let pieces = cuts.windows(2).map(|cut| &body[cut[0]..cut[1]]);
        let (cut, cut_out) = run(reader(dialect_of(path), hide), terms, plan, pieces);
        prop_assert_eq!(told_of(&cut), told_of(&whole));
        prop_assert_eq!(String::from_utf8_lossy(&cut_out), String::from_utf8_lossy(&out));
        let (single, single_out) = run(reader(dialect_of(path), hide), terms, plan, body.chunks(1));
        prop_assert_eq!(told_of(&single), told_of(&whole));
        prop_assert_eq!(single_out, out);
    }

    #[test]
    fn the_count_of_what_left_is_what_was_delivered_and_allowed(
        seed in any::<u64>(), size in 1usize..9, allowance in 0u64..30, grace in 0u64..5,
    ) {
        let text = crate::meter::count::texts::Texts::new(seed).text();
        let chars: Vec<char> = text.chars().collect();
        let events: Vec<String> = chars
            .chunks(size)
            .map(|piece| {
                let delta = serde_json::json!({"choices": [{"index": 0, "delta": {"content": piece.iter().collect::<String>()}}]});
                format!("data: {delta}\n\n")
            })
            .collect();
        let (kept, out) = run(reader(Dialect::OpenAiChat, false), TERMS, Plan { grace, ..plan(allowance) }, [events.concat().as_bytes()]);
        let (again, _) = super::read(reader(Dialect::OpenAiChat, false), [&out[..]]);
        prop_assert_eq!(kept.delivered(), again.delivered());
        prop_assert!(kept.delivered() <= allowance);
        prop_assert!(kept.is_cut() || Encoding::O200kBase.count(&text) <= allowance);
    }
}
