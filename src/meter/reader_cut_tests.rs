use std::ops::ControlFlow::Continue;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

use super::super::{Need, Terms};
use super::{Forward, Reader, dialect_of, golden_files, reader, told};
use crate::meter::count::Encoding;
use crate::meter::dialect::Dialect;
use crate::meter::eventstream;
use crate::meter::framing::Piece;
use crate::meter::watch::MayCall;

/// What is done about an event that waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    allowance: u64,
    /// How often more is allowed, and how much at least.
    more: u32,
    by: u64,
    grace: u64,
}

pub(super) const TERMS: Terms = Terms { allowance: 0, choices: 1, tells_usage: false, unweighed: false };

/// A finished reader that was kept to an allowance, and what left.
pub(super) fn run<'a>(
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
        Dialect::CohereChat => format!(
            "event: content-delta\ndata: {{\"type\":\"content-delta\",\"index\":0,\
             \"delta\":{{\"message\":{{\"content\":{{\"text\":\"{word}\"}}}}}}}}\n\n"
        ),
        Dialect::CohereGenerate => format!("{{\"is_finished\":false,\"text\":\"{word}\"}}\n"),
        Dialect::OllamaChat => format!("{{\"message\":{{\"content\":\"{word}\"}},\"done\":false}}\n"),
        Dialect::OllamaGenerate => format!("{{\"response\":\"{word}\",\"done\":false}}\n"),
        Dialect::DashScope => format!(
            "id:1\nevent:result\n:HTTP_STATUS/200\ndata:{{\"output\":{{\"choices\":[{{\"message\":\
             {{\"content\":\"{word}\"}},\"finish_reason\":\"null\"}}]}}}}\n\n"
        ),
        Dialect::Generate => format!("data:{{\"token\":{{\"text\":\"{word}\",\"special\":false}}}}\n\n"),
        _ => panic!("{dialect:?} is no text"),
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

/// Every form of stream that can be cut: its dialect, and what is not told by that.
const FORMS: [(Dialect, &str); 26] = [
    (Dialect::OpenAiChat, ""),
    (Dialect::OpenAiCompletions, ""),
    (Dialect::OpenAiResponses, ""),
    (Dialect::AnthropicMessages, ""),
    (Dialect::AnthropicComplete, ""),
    (Dialect::GeminiGenerate, ""),
    (Dialect::GeminiGenerate, "array"),
    (Dialect::GeminiInteractions, ""),
    (Dialect::BedrockConverse, ""),
    (Dialect::BedrockInvoke, "claude"),
    (Dialect::BedrockInvoke, "nova"),
    (Dialect::BedrockInvoke, "titan-text"),
    (Dialect::BedrockInvoke, "llama"),
    (Dialect::BedrockInvoke, "mistral"),
    (Dialect::BedrockInvoke, "cohere.command"),
    (Dialect::BedrockInvoke, "cohere.command-r"),
    (Dialect::BedrockInvoke, "deepseek"),
    (Dialect::BedrockInvoke, "gpt-oss"),
    (Dialect::BedrockInvoke, "claude, first format"),
    (Dialect::CohereChat, ""),
    (Dialect::CohereChat, "first version"),
    (Dialect::CohereGenerate, ""),
    (Dialect::OllamaChat, ""),
    (Dialect::OllamaGenerate, ""),
    (Dialect::DashScope, ""),
    (Dialect::Generate, ""),
];

/// The beginning of a stream of this form, as far as its last word.
fn beginning((dialect, form): (Dialect, &str), said: &[&str]) -> Vec<u8> {
    let delta = |word: &str| format!("{{\"contentBlockIndex\":0,\"delta\":{{\"text\":\"{word}\"}}}}");
    let chunk = |event: &str| {
        let payload = format!("{{\"bytes\":\"{}\"}}", STANDARD.encode(event));
        eventstream::write("event", "chunk", payload.as_bytes())
    };
    match (dialect, form) {
        (Dialect::GeminiGenerate, "array") => {
            let element =
                |word: &&str| format!("{{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":\"{word}\"}}]}}}}]}}");
            let elements: Vec<String> = said.iter().map(element).collect();
            if elements.is_empty() { Vec::new() } else { format!("[{}", elements.join("\r\n,\r\n")).into_bytes() }
        }
        (Dialect::BedrockConverse, _) => said
            .iter()
            .flat_map(|word| eventstream::write("event", "contentBlockDelta", delta(word).as_bytes()))
            .collect(),
        (Dialect::BedrockInvoke, "nova") => {
            said.iter().flat_map(|word| chunk(&format!("{{\"contentBlockDelta\":{}}}", delta(word)))).collect()
        }
        (Dialect::BedrockInvoke, form) if form != "claude" => {
            let event = |word: &&str| match form {
                "titan-text" => format!("{{\"outputText\":\"{word}\",\"index\":0}}"),
                "llama" => format!("{{\"generation\":\"{word}\",\"stop_reason\":null}}"),
                "mistral" => format!("{{\"outputs\":[{{\"text\":\"{word}\",\"stop_reason\":null}}]}}"),
                "cohere.command" => format!("{{\"is_finished\":false,\"text\":\"{word}\"}}"),
                "cohere.command-r" => {
                    format!("{{\"is_finished\":false,\"event_type\":\"text-generation\",\"text\":\"{word}\"}}")
                }
                "deepseek" => format!("{{\"choices\":[{{\"text\":\"{word}\",\"stop_reason\":null}}]}}"),
                "gpt-oss" => format!("{{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{word}\"}}}}]}}"),
                _ => format!("{{\"completion\":\"{word}\",\"stop_reason\":null}}"),
            };
            said.iter().flat_map(|word| chunk(&event(word))).collect()
        }
        (Dialect::BedrockInvoke, _) => {
            let told = words(Dialect::AnthropicMessages, said);
            told.lines().filter_map(|line| line.strip_prefix("data: ")).flat_map(chunk).collect()
        }
        (Dialect::CohereChat, "first version") => {
            let line = |word: &&str| format!("{{\"event_type\":\"text-generation\",\"text\":\"{word}\"}}\n");
            said.iter().map(line).collect::<String>().into_bytes()
        }
        _ => words(dialect, said).into_bytes(),
    }
}

/// A stream that is nothing but these words.
fn stream(form: (Dialect, &str), said: &[&str]) -> Vec<u8> {
    let closing: &[u8] = if form.1 == "array" { b"]" } else { b"" };
    [&beginning(form, said), closing].concat()
}

#[test]
fn every_dialect_that_is_cut_has_its_form_here() {
    for dialect in Dialect::ALL {
        let cut = ["", "claude", "nova"].iter().any(|model| dialect.ends_streams(model));
        assert_eq!(FORMS.iter().any(|(known, _)| *known == dialect), cut, "{dialect:?}");
    }
}

/// Whether a client can read all of this: every object, event and message is whole.
fn is_whole((dialect, form): (Dialect, &str), out: &[u8]) -> bool {
    match (dialect, form) {
        (Dialect::BedrockConverse | Dialect::BedrockInvoke, _) => {
            let mut frames = eventstream::Frames::default();
            frames.push(out, |_| Continue(()));
            frames.is_whole()
        }
        (_, "array") => serde_json::from_slice::<Vec<serde_json::Value>>(out).is_ok(),
        (Dialect::OllamaChat | Dialect::OllamaGenerate | Dialect::CohereGenerate, _) | (_, "first version") => {
            let text = String::from_utf8_lossy(out);
            text.ends_with('\n') && text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok())
        }
        _ => out.ends_with(b"\n\n") || out.ends_with(b"\r\n\r\n"),
    }
}

const WORDS: [&str; 5] = ["One", " two", " three", " four", " five"];

pub(super) fn plan(allowance: u64) -> Plan {
    Plan { allowance, more: 0, by: 0, grace: 0 }
}

#[test]
fn not_one_token_beyond_the_allowance_leaves_and_every_one_within() {
    for form in FORMS {
        let body = stream(form, &WORDS);
        let kept_to = |allowance, body: &[u8]| run(reader(form.0, false), TERMS, plan(allowance), body.chunks(7));
        for allowance in 0..5 {
            let (reader, out) = kept_to(allowance, &body);
            let kept = beginning(form, &WORDS[..usize::try_from(allowance).unwrap()]);
            let text = String::from_utf8_lossy(&out);
            assert!(out.starts_with(&kept) && out.len() > kept.len(), "{form:?}, {allowance}: {text}");
            assert_eq!((reader.delivered(), reader.is_cut()), (allowance, true), "{form:?}");
            assert!(is_whole(form, &out), "{form:?}, {allowance}: {text}");
            let (again, _) = super::read(super::reader(form.0, false), [&out[..]]);
            assert_eq!((again.delivered(), again.finished()), (allowance, true), "{form:?}, {allowance}: {text}");
        }
        let (reader, out) = kept_to(5, &body);
        assert_eq!((out.as_slice(), reader.delivered(), reader.is_cut()), (body.as_slice(), 5, false), "{form:?}");
    }
}

/// Nobody can say what the rest of an event is that does not come, so what is here of it does not leave.
#[test]
fn an_event_that_never_ends_does_not_leave() {
    for form in [(Dialect::OllamaChat, ""), (Dialect::GeminiGenerate, "array"), (Dialect::BedrockConverse, "")] {
        let (whole, more) = (beginning(form, &WORDS[..2]), beginning(form, &WORDS[..3]));
        let (reader, out) = run(reader(form.0, false), TERMS, plan(9), [&more[..more.len() - 3]]);
        assert!(out == whole || out == [&whole[..], b"\r\n"].concat(), "{}", String::from_utf8_lossy(&out));
        assert_eq!((reader.delivered(), reader.finished(), reader.is_cut()), (2, false, false), "{form:?}");
    }
}

/// A stream that is only to be cut when its time is over passes byte for byte what cannot be read; and within that it cannot
/// be ended.
#[test]
fn what_is_not_weighed_passes_also_where_it_cannot_be_read() {
    let terms = Terms { allowance: u64::MAX, unweighed: true, ..TERMS };
    let huge = format!("data: {{\"x\":\"{}\"}}\n\n", "y".repeat(3 << 19));
    let events = [words(Dialect::OpenAiChat, &WORDS[..2]), huge, words(Dialect::OpenAiChat, &WORDS[2..])].concat();
    let broken = {
        let mut body = beginning((Dialect::BedrockConverse, ""), &WORDS);
        let at = body.len() / 2;
        body[at] ^= 1;
        body
    };
    let unended = beginning((Dialect::OllamaChat, ""), &WORDS);
    let bodies = [
        (Dialect::OpenAiChat, events.as_bytes()),
        (Dialect::BedrockConverse, &broken[..]),
        (Dialect::OllamaChat, &unended[..unended.len() - 3]),
    ];
    for (dialect, body) in bodies {
        for size in [1_000, 65_536, usize::MAX] {
            let mut one = reader(dialect, false);
            one.keep_to(terms);
            let (mut out, mut amid) = (Vec::new(), false);
            for chunk in body.chunks(size) {
                match one.push(chunk, false) {
                    Forward::Same => out.extend_from_slice(chunk),
                    Forward::Replace(bytes) => out.extend(bytes),
                }
                assert_eq!(one.waits(), None, "{dialect:?}");
                amid |= one.is_amid_unread();
            }
            if let Forward::Replace(bytes) = one.push(b"", true) {
                out.extend(bytes);
            }
            let at = out.iter().zip(body).position(|(out, body)| out != body).unwrap_or(out.len());
            let seen = String::from_utf8_lossy(&out[at..out.len().min(at + 90)]);
            assert!(out == body, "{dialect:?} in pieces of {size}: {} of {}, at {at}: {seen}", out.len(), body.len());
            assert_eq!(amid, dialect == Dialect::OpenAiChat && size < 1 << 20, "{dialect:?} {size}");
        }
    }
}

/// A frame with a wrong checksum cannot be weighed, and what follows it neither.
#[test]
fn a_stream_that_breaks_is_cut_there() {
    let form = (Dialect::BedrockConverse, "");
    let (whole, mut more) = (beginning(form, &WORDS[..2]), beginning(form, &WORDS));
    more[whole.len() + 40] ^= 1;
    let (reader, out) = run(reader(form.0, false), TERMS, plan(9), [&more[..]]);
    assert!(out.starts_with(&whole) && is_whole(form, &out));
    assert_eq!((reader.delivered(), reader.is_cut()), (2, true));
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

/// What was put behind the events that left, in a form that can be read.
fn added(path: &Path, out: &[u8], body: &[u8]) -> String {
    if path.extension().is_some_and(|kind| kind == "bin") {
        let (told, known) = (frames(out), frames(body));
        let common = told.iter().zip(&known).take_while(|(one, other)| one == other).count();
        return told[common..].iter().map(|frame| format!("{frame}\n")).collect();
    }
    let common = out.iter().zip(body).take_while(|(out, body)| out == body).count();
    let events = path.extension().is_some_and(|kind| kind == "sse");
    let ends = body[..common].windows(2).rposition(|pair| if events { pair == b"\n\n" } else { pair[1] == b'\n' });
    String::from_utf8_lossy(&out[ends.map_or(0, |at| at + 2)..]).into_owned()
}

/// The frames of a binary stream, what InvokeModel wraps unwrapped.
fn frames(bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    eventstream::Frames::default().push(bytes, |piece| {
        if let Piece::Event(bytes) = piece {
            let frame = eventstream::frame(bytes).unwrap();
            let payload: serde_json::Value = serde_json::from_slice(frame.payload).unwrap();
            let inner = payload["bytes"].as_str().map(|wrapped| STANDARD.decode(wrapped).unwrap());
            let inner = inner.map(|bytes| String::from_utf8(bytes).unwrap());
            found.push(format!("{}: {}", frame.kind, inner.unwrap_or_else(|| payload.to_string())));
        }
        Continue(())
    });
    found
}

/// A stream of this form that says a word and then calls the tool `shell`.
fn calling(form: (Dialect, &str)) -> Vec<u8> {
    let frame = |kind: &str, payload: &str| eventstream::write("event", kind, payload.as_bytes());
    let chunk = |event: &str| frame("chunk", &format!("{{\"bytes\":\"{}\"}}", STANDARD.encode(event)));
    let block = "{\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"tool_use\",\"id\":\"t\",\"name\":\"shell\"}}";
    let start = "{\"contentBlockIndex\":1,\"start\":{\"toolUse\":{\"toolUseId\":\"t\",\"name\":\"shell\"}}}";
    let function = "{\"function\":{\"name\":\"shell\",\"arguments\":{}}}";
    let call = match form {
        (Dialect::OpenAiChat, _) => {
            let call =
                "{\"index\":0,\"id\":\"t\",\"type\":\"function\",\"function\":{\"name\":\"shell\",\"arguments\":\"\"}}";
            format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"tool_calls\":[{call}]}}}}]}}\n\n").into_bytes()
        }
        (Dialect::OpenAiResponses, _) => {
            let item =
                "{\"type\":\"function_call\",\"id\":\"f\",\"call_id\":\"t\",\"name\":\"shell\",\"arguments\":\"\"}";
            format!("data: {{\"type\":\"response.output_item.added\",\"output_index\":1,\"item\":{item}}}\n\n")
                .into_bytes()
        }
        (Dialect::AnthropicMessages, _) => format!("event: content_block_start\ndata: {block}\n\n").into_bytes(),
        (Dialect::GeminiGenerate, "") => {
            let part = "{\"functionCall\":{\"name\":\"shell\",\"args\":{}}}";
            format!("data: {{\"candidates\":[{{\"content\":{{\"parts\":[{part}]}}}}]}}\r\n\r\n").into_bytes()
        }
        (Dialect::BedrockConverse, _) => frame("contentBlockStart", start),
        (Dialect::BedrockInvoke, "nova") => chunk(&format!("{{\"contentBlockStart\":{start}}}")),
        (Dialect::BedrockInvoke, _) => chunk(block),
        (Dialect::OllamaChat, _) => {
            format!("{{\"message\":{{\"content\":\"\",\"tool_calls\":[{function}]}},\"done\":false}}\n").into_bytes()
        }
        (other, _) => panic!("{other:?} calls no tools here"),
    };
    [beginning(form, &["hello"]), call].concat()
}

/// What left, readable.
fn readable(dialect: Dialect, out: &[u8]) -> String {
    match dialect {
        Dialect::BedrockConverse | Dialect::BedrockInvoke => frames(out).join("\n"),
        _ => String::from_utf8_lossy(out).into_owned(),
    }
}

#[test]
fn no_stream_calls_a_tool_that_may_not_be_called() {
    let forms = FORMS.into_iter().filter(|(dialect, form)| match dialect {
        Dialect::OpenAiChat | Dialect::OpenAiResponses | Dialect::AnthropicMessages | Dialect::OllamaChat => true,
        Dialect::GeminiGenerate => form.is_empty(),
        Dialect::BedrockConverse => true,
        Dialect::BedrockInvoke => matches!(*form, "claude" | "nova"),
        _ => false,
    });
    for form in forms {
        let body = calling(form);
        for size in [1, 7, 64, body.len()] {
            let mut watched = reader(form.0, false);
            watched.watch(MayCall(Rc::new(|called| called.name() != "shell")), true);
            let (watched, out) = run(watched, TERMS, plan(u64::MAX), body.chunks(size));
            let out = readable(form.0, &out);
            assert_eq!((watched.forbidden(), watched.is_cut()), (Some("shell"), true), "{form:?} by {size}");
            assert!(out.contains("hello") && !out.contains("shell"), "{form:?} by {size}: {out}");
        }
    }
}

#[test]
fn a_stream_that_was_cut_for_its_quota_is_not_blamed_for_what_comes_after() {
    let mut watched = reader(Dialect::OpenAiChat, false);
    watched.watch(MayCall(Rc::new(|called| called.name() != "shell")), true);
    let (watched, _) = run(watched, TERMS, plan(0), [&calling((Dialect::OpenAiChat, ""))[..]]);
    assert_eq!((watched.forbidden(), watched.is_cut()), (None, true));
}

/// The endings of every transcript of a stream at several lengths; `BLESS=1` writes them.
#[test]
fn golden_endings() {
    let mut differing = Vec::new();
    let is_stream = |path: &PathBuf| path.extension().is_some_and(|kind| kind != "json") || told_an_array(path);
    let is_cut = |path: &PathBuf| dialect_of(path).ends_streams(&path.to_string_lossy());
    for path in golden_files().into_iter().filter(|path| is_stream(path) && is_cut(path)) {
        let body = std::fs::read(&path).unwrap();
        let mut told = String::new();
        for allowance in [0, 1, 5, 20] {
            let terms = Terms { choices: 1, tells_usage: allowance == 5, ..TERMS };
            let (reader, out) = run(reader(dialect_of(&path), !terms.tells_usage), terms, plan(allowance), [&body[..]]);
            if reader.is_cut() {
                let (delivered, ending) = (reader.delivered(), added(&path, &out, &body));
                told.push_str(&format!("# {allowance} allowed, {delivered} delivered\n{ending}"));
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

fn told_an_array(path: &Path) -> bool {
    path.to_string_lossy().contains("array")
}

proptest! {
    #[test]
    fn any_chunking_leaves_the_same_bytes(
        which in any::<usize>(), allowance in 0u64..40, more in 0u32..4, by in 0u64..20, grace in 0u64..10,
        hide in any::<bool>(), crlf in any::<bool>(), cuts in proptest::collection::vec(any::<usize>(), 0..12),
    ) {
        let files = golden_files();
        let path = &files[which % files.len()];
        let mut body = std::fs::read(path).unwrap();
        // Binary frames have no lines to end otherwise.
        if let Ok(text) = String::from_utf8(body.clone()) && crlf {
            body = text.replace("\r\n", "\n").replace('\n', "\r\n").into_bytes();
        }
        let body = &body[..];
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

#[test]
fn however_many_choices_were_asked_for_the_end_of_a_cut_stream_is_bounded() {
    let event = b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"}}]}\n\n";
    for dialect in [Dialect::OpenAiChat, Dialect::OpenAiCompletions, Dialect::GeminiGenerate] {
        let mut reader = Reader::new(dialect, Encoding::O200kBase, 200, Some(b"text/event-stream"), None, false);
        reader.keep_to(Terms { choices: 100_000, ..TERMS });
        reader.push(event, false);
        assert!((1..1_000_000).contains(&reader.cut(7).len()), "{dialect:?}");
    }
}
