//! Whole answers through the rewriter, cut anywhere.

use proptest::prelude::{prop_assert_eq, proptest};
use serde_json::{Value, json};

use super::{Filter, Place, Rewriter};
use crate::meter::dialect::Dialect;
use crate::scan::{Action, Redactor, Scanner, Selection, Topic};

/// A filter that hides secrets and addresses, and stops at a phone number.
struct Hide {
    scanner: Scanner,
    open: Vec<(Place, Redactor)>,
    stopped: bool,
}

impl Hide {
    fn new() -> Self {
        let topics = [Topic::Secrets, Topic::Email, Topic::Phone].map(|topic| (topic, Action::Redact)).to_vec();
        let scanner = Scanner::new(&Selection { topics, ..Selection::default() }).expect("patterns that compile");
        Self { scanner, open: Vec::new(), stopped: false }
    }

    fn run(&mut self, place: &Place, text: &str, last: bool, out: &mut String) {
        let at = self.open.iter().position(|(open, _)| open == place).unwrap_or_else(|| {
            self.open.push((place.clone(), Redactor::new(self.scanner.clone())));
            self.open.len() - 1
        });
        let stopped = &mut self.stopped;
        let mut replace = |finding: &crate::scan::Finding, _: &str| {
            *stopped |= finding.shape == "phone";
            "█".to_owned()
        };
        self.open[at].1.push(text, &mut replace, out);
        if last {
            self.open[at].1.finish(&mut replace, out);
            self.open.remove(at);
        }
    }
}

impl Filter for Hide {
    fn push(&mut self, place: &Place, text: &str, out: &mut String) {
        self.run(place, text, false, out);
    }

    fn finish(&mut self, place: &Place, out: &mut String) {
        self.run(place, "", true, out);
    }

    fn stopped(&self) -> bool {
        self.stopped
    }
}

fn through<'a>(dialect: Dialect, chunks: impl IntoIterator<Item = &'a [u8]>) -> (String, Rewriter, Hide) {
    let (mut rewriter, mut filter) = (Rewriter::new(dialect, None).expect("a dialect"), Hide::new());
    let mut out = Vec::new();
    for chunk in chunks {
        out.extend(rewriter.push(chunk, false, &mut filter));
    }
    out.extend(rewriter.push(b"", true, &mut filter));
    (String::from_utf8(out).expect("UTF-8"), rewriter, filter)
}

fn events(stream: &str) -> Vec<Value> {
    let data = stream.lines().filter_map(|line| line.strip_prefix("data: "));
    data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).expect(data)).collect()
}

fn openai(deltas: &[Value]) -> String {
    let chunk = |delta: &Value, finish: Value| {
        let choices = json!([{"index": 0, "delta": delta, "finish_reason": finish}]);
        format!(
            "data: {}\n\n",
            json!({"id": "c1", "object": "chat.completion.chunk", "created": 7, "model": "m", "choices": choices})
        )
    };
    let body: String = deltas.iter().map(|delta| chunk(delta, Value::Null)).collect();
    let usage = json!({"id": "c1", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}});
    format!("{body}{}data: {usage}\n\ndata: [DONE]\n\n", chunk(&json!({}), json!("stop")))
}

/// All that a client strings together of one key of the deltas.
fn heard(stream: &str, key: &str) -> String {
    events(stream).iter().filter_map(|event| event["choices"][0]["delta"][key].as_str()).collect()
}

fn arguments(stream: &str, call: u64) -> String {
    let calls = events(stream);
    let calls = calls.iter().filter_map(|event| event["choices"][0]["delta"]["tool_calls"].as_array()).flatten();
    calls.filter(|part| part["index"] == call).filter_map(|part| part["function"]["arguments"].as_str()).collect()
}

fn anthropic(blocks: &[(&str, &[&str])]) -> String {
    let event = |kind: &str, mut value: Value| {
        value["type"] = json!(kind);
        format!("event: {kind}\ndata: {value}\n\n")
    };
    let mut body =
        event("message_start", json!({"message": {"model": "m", "content": [], "usage": {"input_tokens": 1}}}));
    for (index, (key, pieces)) in blocks.iter().enumerate() {
        let kind = match *key {
            "partial_json" => json!({"type": "tool_use", "id": "t", "name": "f", "input": {}}),
            key => json!({"type": key, key: ""}),
        };
        body += &event("content_block_start", json!({"index": index, "content_block": kind}));
        for piece in *pieces {
            body += &event("content_block_delta", json!({"index": index, "delta": {"type": "x_delta", *key: piece}}));
        }
        if *key == "thinking" {
            body += &event(
                "content_block_delta",
                json!({"index": index, "delta": {"type": "signature_delta", "signature": "c2ln"}}),
            );
        }
        body += &event("content_block_stop", json!({"index": index}));
    }
    body + &event("message_delta", json!({"delta": {"stop_reason": "end_turn"}})) + &event("message_stop", json!({}))
}

#[test]
fn what_holds_nothing_passes_byte_by_byte() {
    let stream = openai(&[
        json!({"role": "assistant", "content": ""}),
        json!({"content": "Hello!"}),
        json!({"content": " Bye!"}),
    ]);
    assert_eq!(through(Dialect::OpenAiChat, [stream.as_bytes()]).0, stream);
    let stream = anthropic(&[("text", &["Hello!", " Bye!"])]);
    assert_eq!(through(Dialect::AnthropicMessages, [stream.as_bytes()]).0, stream);
}

#[test]
fn a_secret_over_several_deltas_is_hidden_and_the_rest_comes_in_order() {
    let pieces = ["key AK", "IAIOSF", "ODNN7EX", "AMPLE and", " mail a@b", ".cn"];
    let deltas: Vec<Value> = pieces.iter().map(|piece| json!({"content": piece})).collect();
    let (out, ..) = through(Dialect::OpenAiChat, [openai(&deltas).as_bytes()]);
    assert_eq!(heard(&out, "content"), "key █ and mail █");
    // The end of the text was held back: it comes in an event of its own, before the one that finishes.
    let all = events(&out);
    let last = all.iter().rposition(|event| event["choices"][0]["delta"]["content"].is_string()).unwrap();
    let stop = all.iter().position(|event| event["choices"][0]["finish_reason"] == "stop").unwrap();
    assert!(last < stop && all[last]["id"] == "c1" && all[last]["model"] == "m", "{out}");
    let (out, ..) = through(Dialect::AnthropicMessages, [anthropic(&[("text", &pieces)]).as_bytes()]);
    let heard: String =
        events(&out).iter().filter_map(|event| event["delta"]["text"].as_str().map(str::to_owned)).collect();
    assert_eq!(heard, "key █ and mail █");
    let all = events(&out);
    assert!(
        all.iter().position(|event| event["type"] == "content_block_stop")
            > all.iter().rposition(|event| event["type"] == "content_block_delta")
    );
}

#[test]
fn thoughts_and_tools_are_texts_of_their_own() {
    let call = |index: u64, part: Value| json!({"tool_calls": [{"index": index, "function": part}]});
    let (out, ..) = through(
        Dialect::OpenAiChat,
        [openai(&[
            json!({"reasoning_content": "think of a@b"}),
            json!({"reasoning_content": ".cn"}),
            json!({"content": "so a@b.cn"}),
            call(0, json!({"name": "f", "arguments": "{\"to\":\"a@"})),
            call(1, json!({"name": "g", "arguments": "{\"to\":\"c@d"})),
            call(0, json!({"arguments": "b.cn\"}"})),
            call(1, json!({"arguments": ".cn\"}"})),
        ])
        .as_bytes()],
    );
    assert_eq!((heard(&out, "reasoning_content"), heard(&out, "content")), ("think of █".into(), "so █".into()));
    assert_eq!((arguments(&out, 0), arguments(&out, 1)), (r#"{"to":"█"}"#.into(), r#"{"to":"█"}"#.into()));
    let stream = anthropic(&[("thinking", &["think of a@b", ".cn"]), ("partial_json", &["{\"to\":\"a@b", ".cn\"}"])]);
    let (out, ..) = through(Dialect::AnthropicMessages, [stream.as_bytes()]);
    let heard = |key: &str| {
        events(&out).iter().filter_map(|event| event["delta"][key].as_str().map(str::to_owned)).collect::<String>()
    };
    assert_eq!((heard("thinking"), heard("partial_json")), ("think of █".into(), r#"{"to":"█"}"#.into()));
    // What was held back of the thoughts comes before their signature.
    assert!(out.rfind("thinking_delta").unwrap() < out.find("signature_delta").unwrap(), "{out}");
}

#[test]
fn what_repeats_the_text_is_taken_out() {
    let chunk = json!({"id": "c", "choices": [{"index": 0, "delta": {"content": "a@b.cn ", "reasoning_details": [{"text": "a@b.cn"}],
        "annotations": [{"title": "by a@b.cn"}]}, "message": {"content": "a@b.cn"}, "logprobs": {"content": [{"token": "a@b.cn"}]}}]});
    let (out, ..) = through(Dialect::OpenAiChat, [format!("data: {chunk}\n\n").as_bytes()]);
    assert!(!out.contains("a@b") && out.contains("by █"), "{out}");
}

#[test]
fn json_answers_leave_when_they_are_complete() {
    let document = json!({"choices": [{"index": 0, "message": {"role": "assistant", "content": "a \"{b}\" a@b.cn 中"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 3}});
    let text = format!(" {document}\n");
    let (out, ..) = through(Dialect::OpenAiChat, text.as_bytes().chunks(3));
    assert_eq!(out, text.replace("a@b.cn", "█"));
    let (mut rewriter, mut filter) = (Rewriter::new(Dialect::OpenAiChat, None).unwrap(), Hide::new());
    assert!(rewriter.push(&text.as_bytes()[..20], false, &mut filter).is_empty());
    assert!(!rewriter.push(&text.as_bytes()[20..], false, &mut filter).is_empty(), "complete before the last chunk");
    let message = json!({"type": "message", "content": [{"type": "text", "text": "a@b.cn"}, {"type": "tool_use", "name": "f", "input": {"to": "a@b.cn"}}]});
    let (out, ..) = through(Dialect::AnthropicMessages, [message.to_string().as_bytes()]);
    assert_eq!(out, message.to_string().replace("a@b.cn", "█"));
}

#[test]
fn a_stop_lets_nothing_leave_behind_it() {
    let stream =
        openai(&[json!({"content": "call 138"}), json!({"content": "12345678 now"}), json!({"content": " and more"})]);
    let (out, _, filter) = through(Dialect::OpenAiChat, [stream.as_bytes()]);
    assert!(filter.stopped && heard(&out, "content") == "call " && !out.contains("[DONE]"), "{out}");
}

#[test]
fn what_cannot_be_filtered_is_told_and_complete() {
    let monster = format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n", "x".repeat(2 << 20));
    for body in ["data: no json\n\ndata: more\n\n", "{\"choices\":[}", "[1", &monster] {
        let (out, rewriter, _) = through(Dialect::OpenAiChat, body.as_bytes().chunks(997));
        assert!(rewriter.failed().is_some(), "{}", &body[..12]);
        assert!(out == body, "{}", &out[..out.len().min(200)]);
    }
    assert!(Rewriter::new(Dialect::OpenAiChat, Some(b"gzip")).unwrap().failed().is_some());
}

#[test]
fn line_ends_and_comments_stay() {
    let stream = "﻿: hi\r\n\r\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a@b.cn \"}}]}\r\n\r\n: bye\r\n\r\ndata: [DONE]\r\n\r\n";
    for size in [1, 2, 7, 1000] {
        let (out, ..) = through(Dialect::OpenAiChat, stream.as_bytes().chunks(size));
        assert!(
            out.starts_with("﻿: hi\r\n\r\n") && out.ends_with("data: [DONE]\r\n\r\n") && out.contains("█ "),
            "{out}"
        );
    }
}

proptest! {
    #[test]
    fn chunks_change_nothing(
        pieces in proptest::collection::vec("(AKIAIOSF|ODNN7EXAMPLE|AK|a@b|\\.cn| |, |x|中|\\\\n|\")", 0..12),
        cuts in proptest::collection::vec(0usize..4000, 0..10),
        crlf: bool,
    ) {
        let borrowed: Vec<&str> = pieces.iter().map(String::as_str).collect();
        let deltas: Vec<Value> = pieces.iter().map(|piece| json!({"content": piece})).collect();
        for (dialect, stream) in [
            (Dialect::OpenAiChat, openai(&deltas)),
            (Dialect::AnthropicMessages, anthropic(&[("text", &borrowed), ("partial_json", &borrowed)])),
        ] {
            let stream = if crlf { stream.replace('\n', "\r\n") } else { stream };
            let bytes = stream.as_bytes();
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).chain([0, bytes.len()]).collect();
            places.sort_unstable();
            let whole = through(dialect, [bytes]).0;
            let cut = through(dialect, places.windows(2).map(|pair| &bytes[pair[0]..pair[1]])).0;
            // The line feed behind a rewritten event may come with the next chunk.
            prop_assert_eq!(events(&whole), events(&cut));
            prop_assert_eq!(whole.replace(['\r', '\n'], ""), cut.replace(['\r', '\n'], ""));
            let said: String = pieces.concat();
            let found = Hide::new().scanner.find(&said);
            let mut expected = said.clone();
            for finding in found.iter().rev() {
                expected.replace_range(finding.range.clone(), "█");
            }
            let key = if dialect == Dialect::OpenAiChat { "/choices/0/delta/content" } else { "/delta/text" };
            let heard: String = events(&cut).iter().filter_map(|event| event.pointer(key)?.as_str().map(str::to_owned)).collect();
            prop_assert_eq!(heard, expected);
        }
    }
}
