//! What providers make of the formats that they share: each case names whose documentation it follows.

use super::{Dialect, Encoding, Reader, openai, read, reader, usage_of};
use std::rc::Rc;

use crate::meter::dialect::Host;
use crate::meter::reader::Terms;
use crate::meter::watch::MayCall;

fn figures(usage: &str) -> [u64; 5] {
    usage_of(usage).map(|u| [u.input, u.cache_read, u.cache_write, u.output, u.reasoning]).unwrap()
}

fn anthropic(body: &str) -> Reader {
    read(reader(Dialect::AnthropicMessages, false), [body.as_bytes()]).0
}

fn responses(body: &str) -> Reader {
    read(reader(Dialect::OpenAiResponses, false), [body.as_bytes()]).0
}

#[test]
fn what_was_cached_is_found_under_every_name() {
    let usage = |more: &str| format!(r#"{{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15,{more}}}"#);
    for (more, told) in [
        // Alibaba Cloud, "Context cache"; LiteLLM, "Prompt caching"; OpenAI, "Usage"; Mistral (older servers).
        (r#""prompt_tokens_details":{"cached_tokens":2,"cache_creation_input_tokens":3}"#, [5, 2, 3, 5, 0]),
        (r#""prompt_tokens_details":{"cached_tokens":2,"cache_creation_tokens":3}"#, [5, 2, 3, 5, 0]),
        (r#""prompt_tokens_details":{"cached_tokens":2,"cache_write_tokens":3}"#, [5, 2, 3, 5, 0]),
        (r#""num_cached_tokens":4"#, [6, 4, 0, 5, 0]),
        (r#""prompt_tokens_details":null,"cached_tokens":4"#, [6, 4, 0, 5, 0]),
        // What is no number says nothing.
        (r#""prompt_tokens_details":{"cached_tokens":{"text":4}},"prompt_cache_hit_tokens":"x""#, [10, 0, 0, 5, 0]),
        (r#""prompt_tokens_details":[],"input_tokens_details":{"cached_tokens":4}"#, [6, 4, 0, 5, 0]),
        (r#""output_tokens_details":{"thinking_tokens":4}"#, [10, 0, 0, 5, 4]),
    ] {
        assert_eq!(figures(&usage(more)), told, "{more}");
    }
}

#[test]
fn thoughts_beyond_what_was_written_come_beside_it() {
    // Gemini behind Vercel's gateway: 9 tokens at 0.30 and 27 at 2.50 dollars a million are the cost that it tells.
    let usage = r#"{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11,"cost":0.0000702,"completion_tokens_details":{"reasoning_tokens":25}}"#;
    assert_eq!(figures(usage), [9, 0, 0, 27, 25]);
}

/// A chat's answer that calls one tool with these arguments, in pieces of so many bytes: what models of this name write.
fn called(model: &str, name: &str, arguments: &str, size: usize) -> u64 {
    let delta = |delta: String| format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{delta}}}]}}\n\n");
    let call = |inner: String| delta(format!(r#"{{"tool_calls":[{{"index":0,"function":{{{inner}}}}}]}}"#));
    let mut body = call(format!(r#""name":"{name}""#));
    for piece in arguments.as_bytes().chunks(size) {
        let piece = serde_json::Value::from(std::str::from_utf8(piece).unwrap());
        body += &call(format!(r#""arguments":{piece}"#));
    }
    body += "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\ndata: [DONE]\n\n";
    let (reader, _) = read(reader(Dialect::OpenAiChat, false), [body.as_bytes()]);
    reader.written(model, Host::Any)
}

#[test]
fn arguments_are_counted_as_their_model_writes_them() {
    // As reported: 45, and 18 to 25 without arguments; Gemini 5, where there is nothing but words, and its third 9.
    let (tokyo, sum) = (r#"{"city": "Tokyo"}"#, r#"{"a":2,"b":3}"#);
    for size in [1, 5, 99] {
        assert_eq!(called("deepseek-v4-flash", "get_temperature", tokyo, size), 45, "{size}");
        assert_eq!(called("google/gemini-2.5-flash", "add", sum, size), 5, "{size}");
        assert_eq!(called("google/gemini-3-pro", "add", sum, size), 9, "{size}");
    }
    assert_eq!(called("deepseek-v4-flash", "ping", "{}", 9), 21);
}

#[test]
fn a_completion_of_nothing_may_be_left_out() {
    // OpenAI, legacy completions: the usage of an empty answer.
    assert_eq!(figures(r#"{"prompt_tokens":5,"total_tokens":5}"#), [5, 0, 0, 0, 0]);
}

#[test]
fn an_empty_error_is_none() {
    for (error, is) in [("null", false), ("\"\"", false), ("{}", false), ("false", false), ("{\"code\":500}", true)] {
        let body =
            format!(r#"{{"choices":[{{"message":{{"content":"Hi"}},"finish_reason":"stop"}}],"error":{error}}}"#);
        assert_eq!(openai(&body).error_inside(), is, "{error}");
    }
}

#[test]
fn errors_inside_are_seen_wherever_they_stand() {
    // OpenRouter, "Errors and Debugging": in the choice, or by the reason of its end.
    let choice = r#"{"choices":[{"message":{"content":""},"error":{"code":502,"message":"no"}}]}"#;
    assert!(openai(choice).error_inside());
    assert!(openai("data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"error\"}]}\n\n").error_inside());
    // Without a type: gateways that speak their own tongue in streams of others.
    let bare = "data: {\"error\":{\"message\":\"overloaded\"}}\n\n";
    assert!(anthropic(bare).error_inside());
    assert!(responses(bare).error_inside());
    // MiniMax, "Error codes": under status 200, also where it speaks Anthropic's.
    assert!(anthropic(r#"{"base_resp":{"status_code":1004,"status_msg":"no"}}"#).error_inside());
    // Google's endpoints wrap errors into an array.
    assert!(openai(r#"[{"error":{"code":503,"message":"no"}}]"#).error_inside());
}

#[test]
fn a_stream_is_a_stream_whatever_it_is_called() {
    let body = "id: 1\ndata: {\"choices\":[{\"delta\":{\"content\":\"Hi\"},\"finish_reason\":\"stop\"}]}\n\n";
    for kind in ["text/event-stream;charset=UTF-8", "application/x-ndjson", "application/json", "binary/octet-stream"] {
        let new = Reader::new(Dialect::OpenAiChat, Encoding::O200kBase, 200, Some(kind.as_bytes()), None, false);
        let (reader, _) = read(new, body.as_bytes().chunks(1));
        assert!(reader.finished() && reader.unreadable().is_none(), "{kind}");
        assert_eq!(reader.delivered(), 1);
    }
}

#[test]
fn objects_that_follow_each_other_are_read_where_one_was_expected() {
    let chunks = [
        r#"{"choices":[{"delta":{"content":"Hello"}}]}"#,
        r#"{"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#,
    ];
    for body in [chunks.join("\n"), format!("[{}]", chunks.join(",\n"))] {
        let (reader, _) = read(reader(Dialect::OpenAiChat, false), body.as_bytes().chunks(7));
        assert_eq!((reader.reported().map(|usage| usage.input), reader.delivered()), (Some(3), 1), "{body}");
        assert!(reader.finished() && reader.unreadable().is_none());
    }
}

#[test]
fn pieces_that_were_asked_for_repeat_nothing() {
    let event =
        "data:{\"output\":{\"choices\":[{\"message\":{\"content\":\" word\"},\"finish_reason\":\"null\"}]}}\n\n";
    let body = event.repeat(7);
    for (asked, tokens) in [(true, 7), (false, 1)] {
        let mut one = reader(Dialect::DashScope, false);
        if asked {
            one.comes_in_pieces();
        }
        assert_eq!(read(one, [body.as_bytes()]).0.delivered(), tokens);
    }
}

#[test]
fn thoughts_and_calls_that_are_repeated_are_counted_once() {
    // Alibaba, "DashScope API reference": without `incremental_output` each event has all so far.
    let event = |thought: &str, arguments: &str| {
        let call = format!(r#"{{"index":0,"function":{{"name":"look","arguments":"{arguments}"}}}}"#);
        let message = format!(r#"{{"content":"","reasoning_content":"{thought}","tool_calls":[{call}]}}"#);
        format!("data:{{\"output\":{{\"choices\":[{{\"message\":{message},\"finish_reason\":\"null\"}}]}}}}\n\n")
    };
    let delivered = |asked: bool, events: [String; 3]| {
        let mut one = reader(Dialect::DashScope, false);
        if asked {
            one.comes_in_pieces();
        }
        let (reader, _) = read(one, [events.concat().as_bytes()]);
        (reader.delivered(), reader.thoughts(), reader.tool_calls())
    };
    let pieces = [event("Where", ""), event(" is it", r#"{\"city\":"#), event(" now?", r#" \"Paris\"}"#)];
    let so_far = [
        event("Where", ""),
        event("Where is it", r#"{\"city\":"#),
        event("Where is it now?", r#"{\"city\": \"Paris\"}"#),
    ];
    let once = delivered(true, pieces);
    assert!(once.0 > once.1 && once.1 > 3 && once.2 == 1, "{once:?}");
    assert_eq!(delivered(false, so_far), once);
}

#[test]
fn an_ending_repeats_the_text_where_each_event_does() {
    // Alibaba, "DashScope API reference": the last event is what a client goes by.
    let message =
        |text: &str| format!("{{\"choices\":[{{\"message\":{{\"content\":\"{text}\"}},\"finish_reason\":\"null\"}}]}}");
    let bare = |text: &str| format!("{{\"text\":\"{text}\",\"finish_reason\":\"null\"}}");
    let ending = |outputs: [String; 3], asked: bool| {
        let mut one = reader(Dialect::DashScope, false);
        if asked {
            one.comes_in_pieces();
        }
        one.keep_to(Terms { allowance: 3, choices: 1, tells_usage: false, unweighed: false });
        outputs.iter().for_each(|output| {
            one.push(format!("data:{{\"output\":{output}}}\n\n").as_bytes(), false);
        });
        assert!(one.waits().is_some());
        String::from_utf8(one.cut(0)).unwrap()
    };
    let so_far = ["The answer", "The answer is", "The answer is two."];
    assert!(ending(so_far.map(message), false).contains(r#""content":"The answer is","#));
    let last = ending(so_far.map(bare), false);
    assert!(last.contains(r#""text":"The answer is"}"#) && !last.contains("choices"), "{last}");
    let pieces = ["The answer", " is", " two."];
    assert!(ending(pieces.map(message), true).contains(r#""content":"","#));
    assert!(ending(pieces.map(bare), true).contains(r#""text":"""#));
}

#[test]
fn the_last_line_of_coheres_generate_repeats_the_answer() {
    // Cohere, "Generate": a line a token, and the whole response with the last one.
    let body = "{\"text\":\"Hello\",\"is_finished\":false}\n{\"is_finished\":true,\"finish_reason\":\"COMPLETE\",\
        \"response\":{\"generations\":[{\"text\":\"Hello\"}],\
        \"meta\":{\"billed_units\":{\"input_tokens\":3,\"output_tokens\":1}}}}\n";
    let (reader, _) = read(reader(Dialect::CohereGenerate, false), body.as_bytes().chunks(5));
    assert_eq!((reader.reported().map(|usage| (usage.input, usage.output)), reader.delivered()), (Some((3, 1)), 1));
    assert!(reader.finished());
}

#[test]
fn a_response_may_be_done() {
    // OpenRouter, "Responses API Beta": `response.done` where OpenAI says `response.completed`.
    let body =
        "data: {\"type\":\"response.done\",\"response\":{\"usage\":{\"input_tokens\":4,\"output_tokens\":2}}}\n\n";
    let reader = responses(body);
    assert!(reader.finished());
    assert_eq!(reader.reported().map(|usage| usage.total()), Some(6));
}

fn message(start: &str, delta: &str) -> [u64; 4] {
    let body = format!(
        "data: {{\"type\":\"message_start\",\"message\":{{\"usage\":{start}}}}}\n\n\
         data: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":\"end_turn\"}},\"usage\":{delta}}}\n\n"
    );
    anthropic(&body).reported().map(|usage| [usage.input, usage.cache_read, usage.cache_write, usage.output]).unwrap()
}

#[test]
fn the_end_of_a_message_knows_its_input_better() {
    let start = r#"{"input_tokens":100,"output_tokens":1}"#;
    assert_eq!(message(start, r#"{"output_tokens":7}"#), [100, 0, 0, 7]);
    assert_eq!(message(start, r#"{"input_tokens":0,"output_tokens":7}"#), [100, 0, 0, 7]);
    // Anthropic, "Web search tool": what the tool brought is input.
    assert_eq!(message(start, r#"{"input_tokens":900,"output_tokens":7}"#), [900, 0, 0, 7]);
    // A gateway that learns at the end what of it was cached.
    assert_eq!(message(start, r#"{"input_tokens":20,"cache_read_input_tokens":80,"output_tokens":7}"#), [20, 80, 0, 7]);
}

#[test]
fn summaries_of_the_conversation_are_billed() {
    // Anthropic, "Compaction": its own example.
    let delta = r#"{"input_tokens":23000,"output_tokens":1000,"iterations":[
        {"type":"compaction","input_tokens":180000,"output_tokens":3500},
        {"type":"message","input_tokens":23000,"output_tokens":1000}]}"#;
    assert_eq!(message(r#"{"input_tokens":0,"output_tokens":0}"#, &delta.replace('\n', "")), [203_000, 0, 0, 4_500]);
}

#[test]
fn all_turns_of_a_call_with_an_advisor_are_billed() {
    // Anthropic, "Advisor tool": its own example. At the top is the input of the first turn, and nothing of the advisor's.
    let delta = r#"{"input_tokens":412,"cache_read_input_tokens":0,"cache_creation_input_tokens":0,"output_tokens":531,
        "iterations":[{"type":"message","input_tokens":412,"output_tokens":89},
        {"type":"advisor_message","model":"claude-opus-4-7","input_tokens":823,"output_tokens":1612},
        {"type":"message","input_tokens":1348,"cache_read_input_tokens":412,"output_tokens":442}]}"#;
    let delta = delta.replace('\n', "");
    assert_eq!(message(r#"{"input_tokens":412,"output_tokens":1}"#, &delta), [2_583, 412, 0, 2_143]);
}

#[test]
fn turns_of_no_kind_are_in_the_figures_at_the_top() {
    let turns = r#"{"input_tokens":30,"output_tokens":9,"iterations":[
        {"input_tokens":10,"output_tokens":4},{"type":"new","input_tokens":20,"output_tokens":5}]}"#;
    assert_eq!(message(r#"{"input_tokens":30,"output_tokens":1}"#, &turns.replace('\n', "")), [30, 0, 0, 9]);
}

#[test]
fn pictures_that_events_repeat_are_counted_once() {
    let event =
        |images: &str| format!("data: {{\"output\":{{\"choices\":[{{\"message\":{{\"content\":[{images}]}}}}]}}}}\n\n");
    let (one, two) = (r#"{"image":"https://a.test/1"}"#, r#"{"image":"https://a.test/2"}"#);
    let stream = [event(one), event(&format!("{one},{two}")), event(two)].concat();
    let made = read(reader(Dialect::DashScope, true), [stream.as_bytes()]).0.made();
    assert_eq!(made.images, 2);
}

#[test]
fn what_is_written_to_a_cache_is_told_by_how_long_it_is_kept() {
    let hours = |dialect, body: &str| {
        let usage = read(reader(dialect, false), [body.as_bytes()]).0.reported().unwrap();
        (usage.input, usage.cache_read, usage.cache_write, usage.cache_write_1h)
    };
    // Anthropic, "Prompt caching": the example of its usage.
    let usage = r#"{"input_tokens":2048,"cache_read_input_tokens":1800,"cache_creation_input_tokens":248,"output_tokens":503,
        "cache_creation":{"ephemeral_5m_input_tokens":148,"ephemeral_1h_input_tokens":100}}"#;
    let body = format!(r#"{{"type":"message","content":[],"usage":{usage}}}"#);
    assert_eq!(hours(Dialect::AnthropicMessages, &body), (2_048, 1_800, 248, 100));
    // The end of a stream repeats the sum alone.
    let start = usage.replace('\n', "");
    let stream = format!(
        "data: {{\"type\":\"message_start\",\"message\":{{\"usage\":{start}}}}}\n\ndata: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":\"end_turn\"}},\"usage\":{{\"cache_creation_input_tokens\":248,\"output_tokens\":503}}}}\n\n"
    );
    assert_eq!(hours(Dialect::AnthropicMessages, &stream), (2_048, 1_800, 248, 100));
    // Amazon Bedrock, "CacheDetail".
    let usage = r#"{"inputTokens":5,"outputTokens":6,"totalTokens":271,"cacheReadInputTokens":60,"cacheWriteInputTokens":200,
        "cacheDetails":[{"ttl":"1h","inputTokens":150},{"ttl":"5m","inputTokens":50}]}"#;
    let body = format!(r#"{{"output":{{"message":{{"content":[]}}}},"stopReason":"end_turn","usage":{usage}}}"#);
    assert_eq!(hours(Dialect::BedrockConverse, &body), (5, 60, 200, 150));
    // LiteLLM, "Prompt caching".
    let usage = r#"{"prompt_tokens":265,"completion_tokens":6,"total_tokens":271,"prompt_tokens_details":{"cached_tokens":60,
        "cache_creation_tokens":200,"cache_creation_token_details":{"ephemeral_5m_input_tokens":50,"ephemeral_1h_input_tokens":150}}}"#;
    let body = format!(r#"{{"choices":[],"usage":{usage}}}"#);
    assert_eq!(hours(Dialect::OpenAiChat, &body), (5, 60, 200, 150));
}

#[test]
fn a_call_is_heard_wherever_it_is_told() {
    let interaction = |part: &str| {
        format!("data: {{\"event_type\":\"interaction.completed\",\"interaction\":{{\"id\":\"i\",{part}}}}}\n\n")
    };
    for (dialect, body) in [
        // Cohere, "Chat with Streaming", version 1: whole calls, with or without chunks before them, and all of it at its end.
        (Dialect::CohereChat, "{\"event_type\":\"tool-calls-generation\",\"tool_calls\":[{\"name\":\"shell\",\"parameters\":{}}]}\n".to_owned()),
        (Dialect::CohereChat, "{\"event_type\":\"tool-calls-chunk\",\"tool_call_delta\":{\"index\":0,\"name\":\"look\"}}\n\
            {\"event_type\":\"tool-calls-generation\",\"tool_calls\":[{\"name\":\"look\"},{\"name\":\"shell\"}]}\n".to_owned()),
        (Dialect::CohereChat, "{\"event_type\":\"stream-end\",\"response\":{\"tool_calls\":[{\"name\":\"shell\"}]}}\n".to_owned()),
        // Google, "Interactions": what has all steps at its end.
        (Dialect::GeminiInteractions, interaction(r#""steps":[{"type":"function_call","name":"shell","arguments":{}}]"#)),
        (Dialect::GeminiInteractions, interaction(r#""outputs":[{"type":"mcp_server_tool_call","server_name":"s","name":"shell"}]"#)),
        // A message that does not begin empty.
        (Dialect::AnthropicMessages, "data: {\"type\":\"message_start\",\"message\":{\"content\":[{\"type\":\"tool_use\",\"name\":\"shell\"}]}}\n\n".to_owned()),
    ] {
        let mut watched = reader(dialect, false);
        watched.watch(MayCall(Rc::new(|called| !called.name().ends_with("shell"))), false);
        let (watched, _) = read(watched, [body.as_bytes()]);
        let named = if body.contains("mcp_") { "mcp__s__shell" } else { "shell" };
        assert_eq!(watched.forbidden(), Some(named), "{dialect:?}: {body}");
    }
}

#[test]
fn calls_that_are_told_twice_are_counted_once() {
    // Cohere, "Chat with Streaming", version 1.
    let chunks = "{\"event_type\":\"tool-calls-chunk\",\"tool_call_delta\":{\"index\":0,\"name\":\"look\"}}\n\
        {\"event_type\":\"tool-calls-chunk\",\"tool_call_delta\":{\"index\":0,\"parameters\":\"{\\\"of\\\":1}\"}}\n";
    let whole =
        "{\"event_type\":\"tool-calls-generation\",\"tool_calls\":[{\"name\":\"look\",\"parameters\":{\"of\":1}}]}\n";
    let end = "{\"event_type\":\"stream-end\",\"response\":{\"tool_calls\":[{\"name\":\"look\",\"parameters\":{\"of\":1}}]}}\n";
    let told = |body: String| {
        let (reader, _) = read(reader(Dialect::CohereChat, false), [body.as_bytes()]);
        (reader.tool_calls(), reader.delivered())
    };
    let once = told(format!("{chunks}{end}"));
    assert!(once.0 == 1 && once.1 > 1);
    assert_eq!([told(format!("{chunks}{whole}{end}")), told(format!("{whole}{end}"))], [once; 2]);
}

#[test]
fn subtitles_tell_how_long_the_sound_is() {
    let srt = "1\n00:00:00,000 --> 00:00:05,480\nHello there.\n\n2\n00:01:00,000 --> 00:01:02,100\nBye.\n";
    for size in [1, 7, 500] {
        let new = Reader::new(Dialect::OpenAiTranscription, Encoding::O200kBase, 200, Some(b"text/plain"), None, false);
        let (reader, _) = read(new, srt.as_bytes().chunks(size));
        assert_eq!((reader.made().seconds, reader.finished(), reader.reported()), (63, true, None), "{size}");
    }
}

#[test]
fn a_receipt_is_no_answer() {
    let chat = |body: &str, asked| openai(body).only_promises(asked);
    // xAI, "Deferred chat completions"; Zhipu, "Async chat".
    for receipt in [r#"{"request_id":"r"}"#, r#"{"id":"1","request_id":"2","task_status":"PROCESSING"}"#] {
        assert_eq!((chat(receipt, true), chat(receipt, false)), (true, false), "{receipt}");
    }
    assert!(!chat(r#"{"choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}]}"#, true));
    // OpenAI, "Background mode": also where nobody knows that it was asked for.
    for (status, is) in [("queued", true), ("in_progress", true), ("completed", false), ("failed", false)] {
        let body = format!(r#"{{"object":"response","status":"{status}","usage":null,"output":[]}}"#);
        assert_eq!([false, true].map(|asked| responses(&body).only_promises(asked)), [is; 2], "{status}");
    }
    let event = |kind: &str| format!("data: {{\"type\":\"{kind}\",\"response\":{{\"status\":\"?\"}}}}\n\n");
    let begun = event("response.queued") + &event("response.in_progress");
    let ended = begun.clone() + &event("response.completed");
    assert_eq!([true, false].map(|asked| responses(&begun).only_promises(asked)), [true, false]);
    assert!(!responses(&ended).only_promises(true));
}
