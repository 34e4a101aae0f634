//! Whole answers through the rewriter, cut anywhere.

use proptest::prelude::{prop_assert_eq, proptest};
use serde_json::{Value, json};

use super::forms_tests::{FORMS, Framed};
use super::{Expected, Filter, Place, Rewriter};
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
        let mut replace = |finding: &crate::scan::Finding, _: &str, out: &mut String| {
            *stopped |= finding.shape == "phone";
            out.push('█');
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

fn expected(dialect: Dialect) -> Expected<'static> {
    Expected { dialect, stream: true, in_pieces: false, content_type: None, content_encoding: None }
}

fn through<'a>(dialect: Dialect, chunks: impl IntoIterator<Item = &'a [u8]>) -> (String, Rewriter, Hide) {
    let (mut rewriter, mut filter) = (Rewriter::new(&expected(dialect)).expect("a dialect"), Hide::new());
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
            let kind = if *key == "partial_json" { "input_json" } else { key };
            let delta = json!({"type": format!("{kind}_delta"), *key: piece});
            body += &event("content_block_delta", json!({"index": index, "delta": delta}));
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

/// As much work as there is text, and not its square: an upstream may send what it likes.
#[test]
fn a_text_in_a_hundred_thousand_pieces_is_filtered_like_any_other() {
    let piece = |text: &str| format!("{{\"index\":0,\"message\":{{\"content\":\"{text}\"}}}}");
    let mut pieces = vec![piece("write "), piece("to ann@exa"), piece("mple.com ")];
    pieces.resize(100_000, piece("a"));
    let document = format!("{{\"choices\":[{}]}}", pieces.join(","));
    let (out, rewriter, _) = through(Dialect::OpenAiChat, [document.as_bytes()]);
    assert_eq!(rewriter.failed(), None);
    let told: Value = serde_json::from_str(&out).unwrap();
    let texts = told["choices"].as_array().unwrap().iter().filter_map(|choice| choice["message"]["content"].as_str());
    let text: String = texts.collect();
    assert!(text.starts_with("write to █ aaa") && !out.contains("exa"), "{:.200}", text);
    assert_eq!(text.chars().filter(|letter| *letter == 'a').count(), 99_997);
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
    let (mut rewriter, mut filter) = (Rewriter::new(&expected(Dialect::OpenAiChat)).unwrap(), Hide::new());
    assert_eq!(rewriter.push(&text.as_bytes()[..20], false, &mut filter), b" ");
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
    let packed = Expected { content_encoding: Some(b"gzip"), ..expected(Dialect::OpenAiChat) };
    assert!(Rewriter::new(&packed).unwrap().failed().is_some());
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

const SECRET: [&str; 6] = ["key AK", "IAIOSF", "ODNN7EX", "AMPLE and", " mail a@b", ".cn"];
const SAFE: &str = "key █ and mail █";

fn filtered<'a>(expected: &Expected<'_>, chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, Rewriter, Hide) {
    let (mut rewriter, mut filter) = (Rewriter::new(expected).expect("texts"), Hide::new());
    let mut out = Vec::new();
    for chunk in chunks {
        out.extend(rewriter.push(chunk, false, &mut filter));
    }
    out.extend(rewriter.push(b"", true, &mut filter));
    (out, rewriter, filter)
}

/// All strings in what left, wherever they stand: as a client could read them.
fn strings(events: &[Value]) -> String {
    fn add(value: &Value, all: &mut String) {
        match value {
            Value::String(text) => all.extend([text.as_str(), "\n"]),
            Value::Array(list) => list.iter().for_each(|value| add(value, all)),
            Value::Object(map) => map.values().for_each(|value| add(value, all)),
            _ => {}
        }
    }
    let mut all = String::new();
    events.iter().for_each(|event| add(event, &mut all));
    all
}

#[test]
fn every_dialect_that_streams_text_has_its_form_here() {
    for dialect in Dialect::ALL {
        let streams = ["", "claude"].iter().any(|model| dialect.ends_streams(model));
        let known = FORMS.iter().any(|form| form.dialect == dialect);
        assert_eq!(known, streams || dialect == Dialect::OpenAiTranscription, "{dialect:?}");
    }
}

#[test]
fn in_every_dialect_what_is_hidden_over_several_events_is_hidden_in_all_of_them() {
    for form in FORMS {
        let stream = form.stream(&SECRET);
        for size in [1, 7, 100, stream.len()] {
            let (out, rewriter, _) = filtered(&form.expected(), stream.chunks(size));
            assert_eq!(rewriter.failed(), None, "{form:?}");
            let events = form.events(&out);
            for voice in form.voices {
                assert_eq!(form.heard(voice, &events), SAFE, "{form:?}, {}, by {size}: {events:#?}", voice.name);
            }
            let all = strings(&events);
            assert!(!["IOSF", "ODNN7", "a@b", ".cn"].iter().any(|part| all.contains(part)), "{form:?}: {all}");
        }
    }
}

#[test]
fn in_every_dialect_what_holds_nothing_passes_byte_by_byte() {
    for form in FORMS {
        let stream = form.stream(&["Hello!", " Bye!"]);
        let (out, rewriter, _) = filtered(&form.expected(), [&stream[..]]);
        assert_eq!(rewriter.failed(), None, "{form:?}");
        // Numbers of tokens say the text again, and are taken out.
        if form.dialect != Dialect::OllamaGenerate {
            assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&stream), "{form:?}");
        }
    }
}

#[test]
fn in_every_dialect_a_stop_lets_nothing_leave_behind_it() {
    for form in FORMS {
        let stream = form.stream(&["call 138", "12345678 now", " and more"]);
        for size in [1, 64, stream.len()] {
            let (mut out, rewriter, filter) = filtered(&form.expected(), stream.chunks(size));
            assert!(filter.stopped, "{form:?}");
            let error = rewriter.last_words(b"{\"message\":\"no\"}");
            out.extend(error);
            let events = form.events(&out);
            let all = strings(&events);
            assert!(
                !all.contains("1234") && !all.contains("more") && all.contains("no\n"),
                "{form:?} by {size}: {all}"
            );
        }
    }
}

#[test]
fn in_every_dialect_numbers_of_events_go_on_behind_those_that_are_added() {
    let form = FORMS.iter().find(|form| form.dialect == Dialect::OpenAiResponses).unwrap();
    let (out, ..) = filtered(&form.expected(), [&form.stream(&SECRET)[..]]);
    let events = form.events(&out);
    let numbers: Vec<u64> = events.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..events.len() as u64).collect::<Vec<_>>());
    assert!(events.len() > form.events(&form.stream(&SECRET)).len(), "none was added");
}

/// Whole answers of every dialect that carries text; `a@b.cn` stands wherever a text does.
fn answers() -> Vec<(Dialect, Value)> {
    let made = |delta: &str| json!({"choices": [{"index": 0, delta: {"role": "assistant", "content": "to a@b.cn", "reasoning_content": "of a@b.cn"}}]});
    let converse = json!({"output": {"message": {"role": "assistant", "content": [{"reasoningContent": {"reasoningText": {"text": "of a@b.cn", "signature": "c2ln"}}},
        {"text": "to a@b.cn"}, {"toolUse": {"toolUseId": "t", "name": "f", "input": {"to": ["a@b.cn"]}}}]}}, "stopReason": "end_turn"});
    let item = json!([{"type": "message", "content": [{"type": "output_text", "text": "to a@b.cn", "annotations": [{"title": "by a@b.cn"}]}]},
        {"type": "function_call", "name": "f", "arguments": "{\"to\":\"a@b.cn\"}"}]);
    vec![
        (Dialect::OpenAiChat, made("message")),
        (
            Dialect::OpenAiChat,
            json!({"choices": [{"message": {"tool_calls": [{"id": "t", "function": {"name": "f", "arguments": "{\"to\":\"a@b.cn\"}"}}]}}]}),
        ),
        (
            Dialect::OpenAiCompletions,
            json!({"choices": [{"text": "to a@b.cn", "index": 0}, {"text": "and a@b.cn", "index": 1}]}),
        ),
        (Dialect::OpenAiResponses, json!({"id": "resp_1", "object": "response", "output": item, "usage": {}})),
        (
            Dialect::OpenAiTranscription,
            json!({"text": "to a@b.cn", "segments": [{"id": 0, "text": " to a@"}, {"id": 1, "text": "b.cn now a@b.cn"}]}),
        ),
        (
            Dialect::OpenAiImages,
            json!({"created": 1, "data": [{"b64_json": "aGk=", "revised_prompt": "a hat of a@b.cn"}]}),
        ),
        (Dialect::OpenAiModerations, json!({"results": [{"why": "it names a@b.cn"}]})),
        (
            Dialect::AnthropicMessages,
            json!({"type": "message", "content": [{"type": "text", "text": "a@b.cn"}, {"type": "tool_use", "name": "f", "input": {"to": "a@b.cn"}}]}),
        ),
        (Dialect::AnthropicComplete, json!({"completion": " to a@b.cn", "stop_reason": "stop_sequence"})),
        (
            Dialect::GeminiGenerate,
            json!({"candidates": [{"content": {"parts": [{"text": "to a@b.cn"}, {"functionCall": {"name": "f", "args": {"to": "a@b.cn"}}}]}, "finishReason": "STOP"}]}),
        ),
        (
            Dialect::GeminiInteractions,
            json!({"status": "completed", "outputs": [{"type": "text", "text": "to a@b.cn"}]}),
        ),
        (Dialect::VertexPredict, json!({"predictions": [{"content": "to a@b.cn"}, "of a@b.cn"]})),
        (Dialect::BedrockConverse, converse.clone()),
        (Dialect::BedrockInvoke, converse),
        (Dialect::BedrockInvoke, json!({"type": "message", "content": [{"type": "text", "text": "to a@b.cn"}]})),
        (
            Dialect::BedrockInvoke,
            json!({"inputTextTokenCount": 5, "results": [{"tokenCount": 2, "outputText": "to a@b.cn", "completionReason": "FINISH"}]}),
        ),
        (Dialect::BedrockInvoke, json!({"generation": "to a@b.cn", "stop_reason": "stop"})),
        (Dialect::BedrockInvoke, json!({"outputs": [{"text": "to a@b.cn", "stop_reason": "stop"}]})),
        (Dialect::BedrockInvoke, json!({"completions": [{"data": {"text": "to a@b.cn"}}]})),
        (Dialect::BedrockInvoke, made("message")),
        (
            Dialect::CohereChat,
            json!({"id": "c", "message": {"role": "assistant", "content": [{"type": "text", "text": "to a@b.cn"}], "tool_plan": "tell a@b.cn"}}),
        ),
        (
            Dialect::CohereChat,
            json!({"text": "to a@b.cn", "chat_history": [{"role": "USER", "message": "tell a@b.cn"}], "finish_reason": "COMPLETE"}),
        ),
        (Dialect::CohereGenerate, json!({"generations": [{"id": "g", "text": "to a@b.cn"}], "prompt": "tell a@b.cn"})),
        (Dialect::Rerank, json!({"results": [{"index": 0, "document": {"text": "of a@b.cn"}}]})),
        (
            Dialect::OllamaChat,
            json!({"message": {"role": "assistant", "content": "to a@b.cn", "thinking": "of a@b.cn", "tool_calls": [{"function": {"name": "f", "arguments": {"to": "a@b.cn"}}}]}, "done": true}),
        ),
        (Dialect::OllamaGenerate, json!({"response": "to a@b.cn", "thinking": "of a@b.cn", "done": true})),
        (Dialect::DashScope, json!({"output": {"text": "to a@b.cn", "finish_reason": "stop"}, "request_id": "r"})),
        (
            Dialect::DashScope,
            json!({"output": {"choices": [{"message": {"role": "assistant", "content": [{"text": "to a@b.cn"}]}, "finish_reason": "stop"}]}}),
        ),
        (Dialect::MiniMaxMedia, json!({"data": {"image_base64": ["aGk="]}, "base_resp": {"status_msg": "of a@b.cn"}})),
        (Dialect::Generate, json!([{"generated_text": "to a@b.cn"}])),
        (Dialect::Generate, json!({"text": "to a@b.cn", "meta_info": {"finish_reason": {"type": "stop"}}})),
        (Dialect::Generate, json!({"content": "to a@b.cn", "stop": true})),
    ]
}

#[test]
fn whole_answers_of_every_dialect_are_filtered_wherever_text_stands() {
    let answers = answers();
    for dialect in Dialect::ALL {
        let texts = Rewriter::new(&expected(dialect)).is_some();
        assert_eq!(answers.iter().any(|(known, _)| *known == dialect), texts, "{dialect:?}");
    }
    for (dialect, answer) in answers {
        for stream in [false, true] {
            let body = answer.to_string();
            let (out, rewriter, _) = filtered(&Expected { stream, ..expected(dialect) }, body.as_bytes().chunks(9));
            assert_eq!(rewriter.failed(), None, "{dialect:?}: {body}");
            let hidden = body.replace(" to a@\"", " to \"").replace("\"b.cn now", "\"█ now").replace("a@b.cn", "█");
            assert_eq!(String::from_utf8(out).unwrap(), hidden, "{dialect:?}");
        }
    }
}

/// Texts in places of their own, in pieces of one event each.
#[test]
fn texts_beside_the_answer_are_hidden_over_several_events_too() {
    type Says = fn(&str) -> Value;
    let printed: Says = |said| json!({"type": "response.shell_call_output_content.delta", "output_index": 0, "delta": {"stdout": said}});
    let spoken: Says =
        |said| json!({"choices": [{"index": 0, "delta": {"audio": {"id": "a", "data": "aGk=", "transcript": said}}}]});
    let blocks: Says =
        |said| json!({"choices": [{"index": 0, "delta": {"content": "", "thinking_blocks": [{"thinking": said}]}}]});
    let forms = [
        (Dialect::OpenAiResponses, printed, "/delta/stdout"),
        (Dialect::OpenAiChat, spoken, "/choices/0/delta/audio/transcript"),
        (Dialect::OpenAiChat, blocks, "/choices/0/delta/thinking_blocks/0/thinking"),
    ];
    for (dialect, says, at) in forms {
        let stream: String = SECRET.iter().map(|said| format!("data: {}\n\n", says(said))).collect();
        let (out, ..) = filtered(&expected(dialect), [stream.as_bytes()]);
        let out = events(&String::from_utf8(out).unwrap());
        let heard: String = out.iter().filter_map(|event| event.pointer(at)?.as_str()).collect();
        assert_eq!(heard, if at.contains("blocks") { "" } else { SAFE }, "{at}");
    }
}

/// Interactions of an older version begin with a part of what is said.
#[test]
fn a_text_that_begins_with_its_place_is_one_with_its_pieces() {
    let event = |kind: &str, key: &str, said: &str| json!({"event_type": kind, "index": 1, key: {"type": "text", "text": said}});
    let mut said = SECRET.iter();
    let first = said.next().map(|said| event("content.start", "content", said));
    let all = first.into_iter().chain(said.map(|said| event("content.delta", "delta", said)));
    let stream: String = all.map(|event| format!("data: {event}\n\n")).collect();
    let (out, ..) = filtered(&expected(Dialect::GeminiInteractions), [stream.as_bytes()]);
    let out = events(&String::from_utf8(out).unwrap());
    let text = |event: &Value| {
        ["/content/text", "/delta/text"].iter().find_map(|at| Some(event.pointer(at)?.as_str()?.to_owned()))
    };
    assert_eq!(out.iter().filter_map(text).collect::<String>(), SAFE);
}

#[test]
fn what_is_deeper_than_any_answer_is_taken_out() {
    let deep = format!("{}\"a@b.cn\"{}", "[".repeat(100_000), "]".repeat(100_000));
    for (dialect, key) in
        [(Dialect::OpenAiChat, "choices"), (Dialect::GeminiGenerate, "candidates"), (Dialect::Generate, "x")]
    {
        let body = format!("{{\"{key}\":{deep}}}");
        let (out, rewriter, _) = filtered(&expected(dialect), body.as_bytes().chunks(50_000));
        assert_eq!(rewriter.failed(), None);
        let out = String::from_utf8(out).unwrap();
        assert!(out.contains("[null]") && !out.contains("a@b"), "{dialect:?}: {}", &out[..100]);
    }
}

#[test]
fn texts_that_are_no_json_are_filtered_as_they_come() {
    let plain = Expected { content_type: Some(b"text/plain; charset=utf-8"), ..expected(Dialect::OpenAiTranscription) };
    let said = "中 key AKIAIOSFODNN7EXAMPLE and mail a@b.cn, 中";
    for size in [1, 2, 5, said.len()] {
        let (out, rewriter, _) = filtered(&plain, said.as_bytes().chunks(size));
        assert_eq!((String::from_utf8(out).unwrap().as_str(), rewriter.failed()), ("中 key █ and mail █, 中", None));
    }
    assert!(filtered(&plain, [&b"a \xff b"[..]]).1.failed().is_some());
}

#[test]
fn numbers_and_chances_of_tokens_are_taken_out() {
    let ollama = json!({"response": "hi", "done": true, "context": [1, 2]});
    let tgi = json!({"generated_text": "hi", "details": {"finish_reason": "length", "tokens": [{"text": "hi"}]}});
    for (dialect, answer, at) in
        [(Dialect::OllamaGenerate, ollama, "/context"), (Dialect::Generate, tgi, "/details/tokens")]
    {
        let (out, ..) = filtered(&expected(dialect), [answer.to_string().as_bytes()]);
        let out: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(out.pointer(at), Some(&Value::Null), "{out}");
    }
}

/// What breaks a stream in every framing: it is told, and nothing is lost.
#[test]
fn what_cannot_be_read_is_told_in_every_framing() {
    for form in FORMS {
        let stream = form.stream(&["Hello!", " Bye!"]);
        let mut broken = stream.clone();
        match form.framed {
            Framed::Events => broken.extend(b"data: no json\n\n"),
            Framed::Lines | Framed::Array => broken.extend(b"a@b.cn\n"),
            Framed::Messages | Framed::Chunks => *broken.last_mut().unwrap() ^= 1,
        }
        let cut = &stream[..stream.len() - 3];
        for (body, whole) in
            [(broken.as_slice(), false), (cut, form.framed == Framed::Events || form.framed == Framed::Array)]
        {
            for size in [1, 64, body.len()] {
                let (out, rewriter, _) = filtered(&form.expected(), body.chunks(size));
                assert!(rewriter.failed().is_some() || whole, "{form:?} by {size}");
                assert!(form.dialect == Dialect::OllamaGenerate || out.len() >= body.len(), "{form:?} by {size}");
            }
        }
    }
    for body in ["hello a@b.cn", "a line\n\ndata: {}\n\n", "data: {}\na@b.cn: x\n\n"] {
        let (_, rewriter, _) = filtered(&expected(Dialect::OpenAiChat), body.as_bytes().chunks(5));
        assert!(rewriter.failed().is_some(), "{body}");
    }
    let alone = Expected { stream: false, ..expected(Dialect::OllamaChat) };
    let (_, rewriter, _) = filtered(&alone, b"{\"message\":{\"content\":\"hi\"}}\n{\"x\":\"a@b.cn\"}".chunks(7));
    assert!(rewriter.failed().is_some(), "a second answer");
}

proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(128))]
    #[test]
    fn chunks_change_nothing(
        pieces in proptest::collection::vec("(AKIAIOSF|ODNN7EXAMPLE|AK|a@b|\\.cn| |, |x|中|\\\\n|\")", 0..12),
        cuts in proptest::collection::vec(0usize..9000, 0..10),
        crlf: bool,
        // Every fourth form in a case, and each in its turn.
        turn in 0usize..4,
    ) {
        let borrowed: Vec<&str> = pieces.iter().map(String::as_str).collect();
        let said: String = pieces.concat();
        let mut safe = said.clone();
        for finding in Hide::new().scanner.find(&said).iter().rev() {
            safe.replace_range(finding.range.clone(), "█");
        }
        for form in FORMS.iter().skip(turn).step_by(4) {
            let mut stream = form.stream(&borrowed);
            if crlf && form.framed == Framed::Events {
                stream = String::from_utf8(stream).unwrap().replace('\n', "\r\n").into_bytes();
            }
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).chain([0, stream.len()]).collect();
            places.sort_unstable();
            let whole = filtered(&form.expected(), [&stream[..]]).0;
            let cut = filtered(&form.expected(), places.windows(2).map(|pair| &stream[pair[0]..pair[1]])).0;
            let events = form.events(&cut);
            // The line feed behind a rewritten event may come with the next chunk.
            prop_assert_eq!(form.events(&whole), events.clone());
            if form.framed == Framed::Events {
                let plain = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(['\r', '\n'], "");
                prop_assert_eq!(plain(&whole), plain(&cut));
            } else {
                prop_assert_eq!(&whole, &cut);
            }
            for voice in form.voices {
                let heard = form.heard(voice, &events);
                prop_assert_eq!(&heard, &safe, "{:?} {}", form, voice.name);
            }
        }
    }
}
