use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

use super::{Call, DEEPEST, Longer, read_call, splice};
use crate::meter::count::Encoding;
use crate::meter::count::known::Known;
use crate::meter::dialect::{Dialect, Route};

fn openai(body: &str) -> Call {
    read_call(Dialect::OpenAiChat, body.as_bytes()).unwrap()
}

fn anthropic(body: &str) -> Call {
    read_call(Dialect::AnthropicMessages, body.as_bytes()).unwrap()
}

fn fault(body: &str) -> String {
    read_call(Dialect::OpenAiChat, body.as_bytes()).unwrap_err().to_string()
}

fn edited(call: &Call, body: &str, clamp: Option<u64>, usage: bool) -> String {
    String::from_utf8(splice(body.as_bytes(), &call.edits(clamp, usage))).unwrap()
}

const CHAT: &str = r#"{"model":"gpt-4o","messages":[{"role":"system","content":"You are helpful."},{"role":"user","content":"Say \"hi\" \u4f60"}],"max_tokens":50,"n":2,"stream":true}"#;

#[test]
fn a_chat_is_read() {
    let call = openai(CHAT);
    assert_eq!((call.model.as_str(), call.stream, call.choices, call.output_limit), ("gpt-4o", true, 2, Some(50)));
    assert_eq!((call.asks_usage, call.open, call.floor), (false, None, 0));
    assert_eq!(call.texts().collect::<Vec<_>>(), ["You are helpful.", "Say \"hi\" 你"]);
    let texts = Encoding::O200kBase.count("You are helpful.") + Encoding::O200kBase.count("Say \"hi\" 你");
    assert_eq!(call.count_input(Encoding::O200kBase), texts + 2 * 4 + 3);
    assert_eq!(call.input_bound(Encoding::O200kBase), texts + 2 * 8 + 16);
}

#[test]
fn what_was_thought_is_not_counted_a_second_time_as_its_provider_wrote_it() {
    // OpenRouter, "Reasoning tokens": an answer of the model's as its caller sends it back.
    let body = |details: &str| {
        let thought = "The user asks for the weather, and there is a tool for it.";
        openai(&format!(
            r#"{{"model":"anthropic/claude-sonnet-4","messages":[{{"role":"assistant","content":"ok","reasoning":"{thought}"{}}}]}}"#,
            details.replace("THOUGHT", thought)
        ))
    };
    let details =
        r#","reasoning_details":[{"type":"reasoning.text","text":"THOUGHT","format":"anthropic-claude-v1","index":0}]"#;
    let sealed = format!(
        r#","reasoning_details":[{{"type":"reasoning.encrypted","data":"{}==","id":"r","index":0}}]"#,
        "c2VhbA".repeat(11)
    );
    let sealed = sealed.as_str();
    let count = |details: &str| body(details).count_input(Encoding::O200kBase);
    assert_eq!(count(details), count(""));
    assert_eq!(count(sealed), count(""));
    let bound = |details: &str| body(details).input_bound(Encoding::O200kBase);
    assert!(bound(details) > bound("") && bound(sealed) > bound(""));
    // Whatever else stands there is looked at.
    let words =
        r#","reasoning_details":[{"type":"a b","format":"c","id":"d","data":"not sealed","signature":"short"}]"#;
    let call = body(words);
    let seen: Vec<_> = call.strings().map(|written| written.text.into_owned()).collect();
    for word in ["a b", "c", "d", "not sealed", "short"] {
        assert!(seen.iter().any(|text| text == word), "{word}: {seen:?}");
    }
}

/// Of whatever counting may say is no less than it: ids and thoughts that are too long to be counted, texts of models that
/// count more than we do, calls of tools that are nothing but framing, definitions that are written out.
#[test]
fn what_is_told_before_counting_is_no_less_than_what_counting_tells() {
    let (odd, long) = ("a1b2".repeat(5_000), "x".repeat(600));
    let thought = "I think. ".repeat(40_000);
    let calls = r#"{"id":"","type":"function","function":{"name":"f","arguments":""}},"#.repeat(500);
    let enums = r#"{"enum":["a"]},"#.repeat(300);
    let bodies = [
        format!(r#""messages":[{{"role":"user","content":"{odd}"}}]"#),
        format!(r#""messages":[{{"role":"user","content":"{}"}}]"#, r"@\n%1234\n".repeat(3_000)),
        format!(r#""messages":[{{"role":"tool","tool_call_id":"{long}","content":"{odd}"}}]"#),
        format!(r#""messages":[{{"role":"assistant","content":null,"tool_calls":[{}]}}]"#, calls.trim_end_matches(',')),
        format!(r#""messages":[{{"role":"assistant","reasoning_content":"{thought}","content":"ok"}}]"#),
        format!(
            r#""messages":[],"tools":[{{"type":"function","function":{{"name":"f","parameters":{{"type":"object","properties":{{"p":{{"anyOf":[{}]}}}}}}}}}}]"#,
            enums.trim_end_matches(',')
        ),
    ];
    for model in [
        "gpt-4o",
        "mistral-large",
        "gemini-2.5-pro",
        "claude-opus-4",
        "deepseek-chat",
        "qwen3-coder",
        "grok-4",
        "command-r",
        "gpt-oss-120b",
    ] {
        for body in &bodies {
            let call = openai(&format!(r#"{{"model":"{model}",{body}}}"#));
            let all = call.input(Encoding::O200kBase);
            let at_most = call.input_at_most(Encoding::O200kBase, &mut Known::new([0; 2]), u64::MAX);
            let (most, _) = at_most.unwrap();
            assert!(most >= all.bound.max(all.counted), "{model} {body:.60}: {most}, {all:?}");
        }
    }
}

/// In a body of every kind of part: counting to a limit gives the whole count or says that it is more, at every limit, and
/// remembering changes nothing.
#[test]
fn the_input_is_counted_up_to_a_limit() {
    let long = "All of it, from the beginning to the end. ".repeat(9);
    let body = format!(
        r#"{{"model":"m","messages":[{{"role":"robot","content":"{long}"}},
        {{"role":"assistant","content":null,"tool_calls":[{{"id":"{long}","type":"function","function":{{"name":"f","arguments":"{{}}"}}}}]}},
        {{"role":"tool","tool_call_id":"1","content":[{{"type":"text","text":"{long}"}}]}}],
        "tools":[{{"type":"function","function":{{"name":"f","description":"{long}","parameters":{{"type":"object"}}}}}}]}}"#
    );
    let rerank = format!(r#"{{"model":"m","query":"{long}","documents":["x","{long}"]}}"#);
    for call in [openai(&body), read_call(Dialect::Rerank, rerank.as_bytes()).unwrap()] {
        let mut known = Known::new([1, 2]);
        let all = call.input(Encoding::O200kBase);
        assert!(all.bound >= all.counted && all.counted > 3);
        let at_most = call.input_at_most(Encoding::O200kBase, &mut Known::new([5, 6]), u64::MAX);
        let (most, unknown) = at_most.unwrap();
        assert!(most >= all.bound && unknown >= long.len(), "{most} {unknown}");
        for most in (0..all.counted + 3).chain([u64::MAX]) {
            let expected = if most < all.counted { Err(Longer { at_least: most + 1 }) } else { Ok(all) };
            assert_eq!(call.input_up_to(Encoding::O200kBase, &mut Known::new([3, 4]), most), expected, "{most}");
            assert_eq!(call.input_up_to(Encoding::O200kBase, &mut known, most), expected, "{most}, some of it known");
        }
    }
}

/// Tools that are written out must be counted for a bound too, and no further than a count would go.
#[test]
fn tools_are_counted_up_to_a_limit_for_a_bound() {
    let long = "All of it, from the beginning to the end. ".repeat(9);
    let tool = format!(r#"{{"type":"function","function":{{"name":"f","description":"{long}"}}}}"#);
    for model in ["gpt-4o", "gemini-2.5-flash", "qwen-max"] {
        let call = openai(&format!(r#"{{"model":"{model}","messages":[],"tools":[{tool}]}}"#));
        let at_most = |most| call.input_at_most(Encoding::O200kBase, &mut Known::new([5, 6]), most);
        assert!(at_most(u64::MAX).is_some_and(|(most, _)| most > 99), "{model}");
        // Of those that are taken as they stand nothing is counted.
        assert_eq!(at_most(50).is_some(), model == "qwen-max", "{model}");
    }
}

/// The same with every family's share of each kind of part, in parts of every remainder.
#[test]
fn no_share_of_a_count_stops_it_too_soon() {
    for model in ["claude-x", "gemini-2", "gpt-4o", "mistral-x", "gpt-oss"] {
        for text in (0..8).map(|words| "word ".repeat(words)) {
            let body = format!(
                r#"{{"model":"{model}","messages":[{{"role":"user","content":"{text}"}},{{"role":"user","content":{{"x":"{text}"}}}}],
                "response_format":{{"type":"json_schema","json_schema":{{"schema":{{"a":"{text}"}}}}}},
                "tools":[{{"type":"function","function":{{"name":"f","description":"{text}"}}}}]}}"#
            );
            let rerank = format!(r#"{{"model":"{model}","query":"{text}","documents":["x","y","z"]}}"#);
            for call in [openai(&body), read_call(Dialect::Rerank, rerank.as_bytes()).unwrap()] {
                let all = call.input(Encoding::O200kBase);
                for most in 0..all.counted + 3 {
                    let expected = if most < all.counted { Err(Longer { at_least: most + 1 }) } else { Ok(all) };
                    let counted = call.input_up_to(Encoding::O200kBase, &mut Known::new([0; 2]), most);
                    assert_eq!(counted, expected, "{model}: {most}");
                }
            }
        }
    }
}

/// A query is held as any text of its script is, once a document.
#[test]
fn a_query_is_bounded_as_text_is() {
    for text in ["ما هي عاصمة فرنسا؟", "फ्रांस की राजधानी क्या है?", "เมืองหลวงของฝรั่งเศสคืออะไร", "plain"]
    {
        let bound = |query: &str| {
            let body = format!(r#"{{"model":"m","query":"{query}","documents":["a","b","c"]}}"#);
            read_call(Dialect::Rerank, body.as_bytes()).unwrap().input_bound(Encoding::O200kBase)
        };
        let chat = |text: &str| {
            let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{text}"}}]}}"#);
            openai(&body).input_bound(Encoding::O200kBase)
        };
        assert_eq!(bound(text) - bound(""), 3 * (chat(text) - chat("")), "{text}");
    }
}

#[test]
fn images_sounds_and_what_is_sealed_are_no_text() {
    let of = |part: &str| openai(&format!(r#"{{"model":"m","messages":[{{"role":"user","content":[{part}]}}]}}"#));
    assert!(of(r#"{"type":"text","text":"x"}"#).is_text());
    assert!(!of(r#"{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}"#).is_text());
    assert!(!of(r#"{"type":"input_audio","input_audio":{"data":"AAAA","format":"mp3"}}"#).is_text());
    let sealed = r#"{"model":"c","max_tokens":9,"messages":[{"role":"assistant","content":[
        {"type":"thinking","thinking":"Hm","signature":"c2ln"}]}]}"#;
    assert!(!anthropic(sealed).is_text());
}

/// What is counted of an image is no more than what is held for it.
#[test]
fn a_large_image_is_within_its_bound() {
    let mut head = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    head.extend([8_000_u32.to_be_bytes(), 6_000_u32.to_be_bytes()].concat());
    let url = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, head);
    for model in ["qwen-vl-max", "qwen3-vl", "gemini-2.5-pro", "claude-x", "gpt-4o-mini", "gpt-4o", "m"] {
        let body = format!(
            r#"{{"model":"{model}","messages":[{{"role":"user","content":[
            {{"type":"image_url","image_url":{{"url":"data:image/png;base64,{url}"}}}}]}}]}}"#
        );
        let input = openai(&body).input(Encoding::O200kBase);
        assert!(input.counted > 700 && input.counted <= input.bound, "{model}: {input:?}");
    }
}

/// An id that goes on without end is not counted, but bounded.
#[test]
fn a_long_id_is_bounded_by_its_bytes() {
    let id = "x".repeat(10_000);
    let chat = r#"{"model":"m","messages":[{"role":"tool","tool_call_id":"ID","content":"x"}]}"#;
    let (short, long) =
        (openai(chat).input(Encoding::O200kBase), openai(&chat.replace("ID", &id)).input(Encoding::O200kBase));
    assert_eq!(short.counted, long.counted);
    assert!((10_000..10_100).contains(&long.bound), "{long:?}");
}

#[test]
fn a_message_call_is_read() {
    let call = anthropic(
        r#"{"model":"claude-x","max_tokens":4096,"thinking":{"type":"enabled","budget_tokens":1024},
        "system":[{"type":"text","text":"Be brief.","cache_control":{"type":"ephemeral"}}],
        "messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"x","content":[{"type":"text","text":"42"}]}]},
        {"role":"assistant","content":[{"type":"thinking","thinking":"Hm","signature":"c2ln"},
        {"type":"tool_use","id":"i","name":"add","input":{"a":"one"}}]}]}"#,
    );
    assert_eq!((call.output_limit, call.floor, call.open), (Some(4096), 1025, None));
    assert_eq!(call.texts().collect::<Vec<_>>(), ["Be brief.", "x", "42", "Hm", "i", "add", "a", "one"]);
}

#[test]
fn what_decides_cost_is_there_once_and_spelled_exactly() {
    assert_eq!(fault(r#"{"model":"a","max_tokens":1,"max_tokens":9}"#), "`max_tokens` appears twice; send it once");
    assert_eq!(fault(r#"{"model":"a","\u006dodel":"b"}"#), "`model` appears twice; send it once");
    assert_eq!(fault(r#"{"model":"a","Max_Tokens":9}"#), "`Max_Tokens` is not `max_tokens`; spell it exactly");
    assert_eq!(fault("{\"max_to\u{212a}ens\":9}"), "`max_to\u{212a}ens` is not `max_tokens`; spell it exactly");
    assert_eq!(fault("{\"me\u{17f}\u{17f}ages\":[]}"), "`me\u{17f}\u{17f}ages` is not `messages`; spell it exactly");
    assert!(fault(r#"{"stream_options":{"include_usage":true,"include_usage":false}}"#).contains("must appear once"));
    assert!(fault(r#"{"thinking":{"budget_tokens":1,"budget_tokens":2}}"#).contains("must appear once"));
    // What decides nothing may be there twice.
    assert_eq!(openai(r#"{"user":"a","user":"b"}"#).open, None);
}

#[test]
fn values_have_their_types() {
    for limit in ["-1", "1.5", "1e3", "\"5\"", "true", "[]", "99999999999999999999"] {
        let body = format!(r#"{{"model":"a","max_tokens":{limit}}}"#);
        assert_eq!(fault(&body), "`max_tokens` must be a whole number, 0 or above", "{limit}");
    }
    assert_eq!(fault(r#"{"stream":1}"#), "`stream` must be true or false");
    assert_eq!(fault(r#"{"model":7}"#), "`model` must be a string");
    assert_eq!(fault(r#"{"stream_options":7}"#), "`stream_options` must be an object");
}

#[test]
fn broken_bodies_are_told() {
    for body in ["", "[]", "{", "null", "{\"a\":}", "{}x", "{\"a\":NaN}", "\u{feff}{}"] {
        assert_eq!(fault(body), "the body is not one JSON object; send one", "{body}");
    }
    let bytes = read_call(Dialect::OpenAiChat, b"{\"a\":\"\xff\"}").unwrap_err().to_string();
    assert_eq!(bytes, "the body is not UTF-8; send JSON in UTF-8");
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| format!(r#"{{"messages":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    assert!(read_call(Dialect::OpenAiChat, nested(DEEPEST - 1).as_bytes()).is_ok());
    assert!(fault(&nested(DEEPEST)).contains("deeper than 128"));
    assert!(fault(&"[".repeat(1_000_000)).contains("deeper than 128"));
    let content = format!(r#"{{"messages":[{{"content":{}"x"{}}}]}}"#, r#"[{"content":"#.repeat(60), "}]".repeat(60));
    assert_eq!(anthropic(&content).texts().last().unwrap(), "x");
}

#[test]
fn large_bodies_are_read() {
    let text = "word ".repeat(2_000_000);
    let call = openai(&format!(r#"{{"model":"gpt-4o","messages":[{{"role":"user","content":"{text}"}}]}}"#));
    assert_eq!(call.texts().map(|text| text.len()).sum::<usize>(), 10_000_000);
    let parts = format!(r#"{{"model":"m","messages":[{}0]}}"#, "[],".repeat(3_000_000));
    assert!(openai(&parts).input_bound(Encoding::O200kBase) > 6_000_000);
}

#[test]
fn clamping_changes_every_limit_and_nothing_else() {
    let body = r#"{ "max_tokens" : 4096,"max_completion_tokens":1, "n_predict": null , "x":[ 1 ]}"#;
    let call = openai(body);
    assert_eq!(call.output_limit, Some(4096));
    insta::assert_snapshot!(
        edited(&call, body, Some(20), false),
        @r#"{ "max_tokens" : 20,"max_completion_tokens":1, "n_predict": 20 , "x":[ 1 ]}"#
    );
    assert_eq!(edited(&call, body, None, true), body);
    assert_eq!(edited(&openai("{}"), "{}", Some(7), false), r#"{"max_tokens":7}"#);
    for (model, after) in [
        ("gpt-4o", r#"{"max_completion_tokens":7,"model":"gpt-4o"}"#),
        ("qwen-max", r#"{"max_tokens":7,"model":"qwen-max"}"#),
        ("gpt-oss-20b", r#"{"max_tokens":7,"model":"gpt-oss-20b"}"#),
    ] {
        let body = format!(r#"{{"model":"{model}"}}"#);
        assert_eq!(edited(&openai(&body), &body, Some(7), false), after);
    }
    let body = "\n{ \"model\":\"claude\"}";
    assert_eq!(edited(&anthropic(body), body, Some(7), true), "\n{\"max_tokens\":7, \"model\":\"claude\"}");
}

#[test]
fn a_limit_that_the_provider_may_pass_over_is_stated_once_more() {
    for (before, after) in [
        (r#"{"model":"qwen","n_predict":5}"#, r#"{"max_tokens":5,"model":"qwen","n_predict":5}"#),
        (r#"{"model":"gpt-4o","n_predict":5}"#, r#"{"max_completion_tokens":5,"model":"gpt-4o","n_predict":5}"#),
        (
            r#"{"model":"qwen","max_completion_tokens":5}"#,
            r#"{"max_tokens":5,"model":"qwen","max_completion_tokens":5}"#,
        ),
        (r#"{"model":"qwen","max_tokens":null,"n_predict":5}"#, r#"{"model":"qwen","max_tokens":5,"n_predict":5}"#),
        (r#"{"model":"gpt-4o","max_tokens":5}"#, r#"{"model":"gpt-4o","max_tokens":5}"#),
        (r#"{"model":"o3","max_completion_tokens":5}"#, r#"{"model":"o3","max_completion_tokens":5}"#),
    ] {
        assert_eq!(edited(&openai(before), before, None, false), after);
    }
    let body = r#"{"model":"claude","max_completion_tokens":5}"#;
    let after = r#"{"max_tokens":5,"model":"claude","max_completion_tokens":5}"#;
    assert_eq!(edited(&anthropic(body), body, None, false), after);
}

#[test]
fn azure_takes_the_newer_field_whatever_the_deployment_is_called() {
    let body = r#"{"model":"whatever"}"#;
    let mut call = openai(body);
    call.take_route(&Route::of(b"POST", b"/openai/deployments/our-o3/chat/completions").unwrap());
    assert_eq!(call.model, "our-o3");
    assert_eq!(edited(&call, body, Some(7), false), r#"{"max_completion_tokens":7,"model":"whatever"}"#);
}

#[test]
fn what_templates_write_out_is_in_the_bound() {
    let long = "word ".repeat(10_000);
    for body in [
        format!(r#"{{"model":"qwen","messages":[{{"role":"{long}","content":"a"}}]}}"#),
        format!(r#"{{"model":"qwen","messages":[{{"role":"tool","tool_call_id":"{long}","content":"a"}}]}}"#),
        format!(r#"{{"model":"qwen","messages":[{{"role":"assistant","tool_calls":[{{"id":"{long}"}}]}}]}}"#),
        format!(r#"{{"model":"qwen","messages":[{{"role":"user","content":[{{"type":"tool_use","id":"{long}"}}]}}]}}"#),
    ] {
        // Where nothing is consumed there is nothing to bound.
        for dialect in Dialect::ALL.into_iter().filter(|dialect| *dialect != Dialect::CountTokens) {
            let call = read_call(dialect, body.as_bytes()).unwrap();
            assert!(call.input_bound(Encoding::O200kBase) >= 10_000, "{dialect:?} {:.90}", body);
        }
    }
}

#[test]
fn usage_is_asked_for_on_streams_only() {
    for (before, after) in [
        (r#"{"stream":true}"#, r#"{"stream_options":{"include_usage":true},"stream":true}"#),
        (r#"{"stream":true,"stream_options":{}}"#, r#"{"stream":true,"stream_options":{"include_usage":true}}"#),
        (
            r#"{"stream":true,"stream_options":{ "a":1}}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true, "a":1}}"#,
        ),
        (
            r#"{"stream":true,"stream_options":{"include_usage":false}}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
        ),
        (r#"{"stream":true,"stream_options":null}"#, r#"{"stream":true,"stream_options":{"include_usage":true}}"#),
        (
            r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
        ),
        (r#"{"stream":false}"#, r#"{"stream":false}"#),
    ] {
        assert_eq!(edited(&openai(before), before, None, true), after);
    }
    let body = r#"{"stream":true}"#;
    assert_eq!(
        edited(&openai(body), body, Some(3), true),
        r#"{"max_tokens":3,"stream_options":{"include_usage":true},"stream":true}"#
    );
    assert_eq!(edited(&anthropic(body), body, None, true), body);
}

#[test]
fn work_that_goes_on_behind_its_answer_is_open_and_can_be_read() {
    let told = |call: &Call| (call.open.is_some(), call.deferred, call.unread);
    for (dialect, body) in [
        (Dialect::OpenAiChat, r#"{"deferred":true}"#),
        (Dialect::OpenAiChat, r#"{"background":true}"#),
        (Dialect::OpenAiResponses, r#"{"background":true,"input":"x"}"#),
        (Dialect::GeminiInteractions, r#"{"background":true,"input":"x"}"#),
    ] {
        assert_eq!(told(&read_call(dialect, body.as_bytes()).unwrap()), (true, true, false), "{body}");
        let now = body.replace("true", "false");
        assert_eq!(told(&read_call(dialect, now.as_bytes()).unwrap()), (false, false, false), "{now}");
    }
    let both = r#"{"background":true,"previous_response_id":"r"}"#;
    assert_eq!(told(&read_call(Dialect::OpenAiResponses, both.as_bytes()).unwrap()), (true, true, true));
    for (path, header) in [
        // Zhipu, "Async chat"; Perplexity, "Async chat completions"; Alibaba Cloud, "DashScope API reference".
        ("/api/paas/v4/async/chat/completions", None),
        ("/async/chat/completions", None),
        ("/api/v1/services/aigc/multimodal-generation/generation", Some("enable")),
    ] {
        let mut route = Route::of(b"POST", path.as_bytes()).unwrap();
        header.into_iter().for_each(|value| route.header(b"x-dashscope-async", value.as_bytes()));
        let mut call = read_call(route.dialect, b"{}").unwrap();
        call.take_route(&route);
        assert_eq!(told(&call), (true, true, false), "{path}");
    }
}

#[test]
fn what_cannot_be_bounded_is_open() {
    let part = |part: &str| format!(r#"{{"messages":[{{"role":"user","content":[{part}]}}]}}"#);
    for body in [
        part(r#"{"type":"image_url","image_url":{"url":"https://a/b.png"}}"#),
        part(r#"{"type":"image_url","image_url":{"url":"data:image/png;base64,AA","url":"http://a"}}"#),
        part(r#"{"type":"image_url","image_url":"http://a"}"#),
        part(r#"{"type":"text","image_url":{}}"#),
        part(r#"{"type":"image_url","image_url":{"url":"data:application/pdf;base64,AA"}}"#),
        part(r#"{"type":"image_url","image_url":{"url":"data:video/mp4;base64,AA"}}"#),
        part(r#"{"type":"input_audio","input_audio":{"data":"https://a/b.wav","format":"wav"}}"#),
        part(r#"{"type":"input_audio","input_audio":{"data":"https\u003a//a/b.wav","data":"AA"}}"#),
        part(r#"{"type":"input_audio","input_audio":{}}"#),
        part(r#"{"type":"file","file":{"file_id":"file-1"}}"#),
        part(r#"{"type":"video_url","video_url":{"url":"data:video/mp4;base64,AA"}}"#),
        r#"{"tools":[{"type":"web_search"}]}"#.into(),
        r#"{"tools":[{"type":"function"},{"type":"function","type":"web_search"}]}"#.into(),
        r#"{"tools":{}}"#.into(),
        r#"{"web_search_options":{}}"#.into(),
        r#"{"background":true}"#.into(),
        r#"{"previous_response_id":"r"}"#.into(),
        r#"{"context_id":"ctx-1"}"#.into(),
        r#"{"agent_id":"ag-1"}"#.into(),
        r#"{"messages":[{"role":"system","content":"fileid://file-fe-1"}]}"#.into(),
        r#"{"messages":[{"role":"system","content":"\u0066ileid:\/\/file-fe-1"}]}"#.into(),
        r#"{"messages":[{"role":"system","content":["fileid://file-fe-1"]}]}"#.into(),
        part(r#"{"type":"text","text":"\u0066ileid://file-fe-1"}"#),
        part(r#"{"type":"audio","audio":"https://a/b.wav"}"#),
        r#"{"deferred":true}"#.into(),
        r#"{"model":"x:online"}"#.into(),
        r#"{"chat_template":"{{ x * 100 }}"}"#.into(),
        r#"{"messages":[{"role":"assistant","audio":{"id":"a"}}]}"#.into(),
    ] {
        assert!(openai(&body).open.is_some(), "{body}");
    }
    for body in [
        part(r#"{"type":"image","source":{"type":"url","url":"https://a"}}"#),
        part(r#"{"type":"image","source":{"type":"file","file_id":"f"}}"#),
        part(r#"{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"AA"}}"#),
        part(r#"{"type":"container_upload","file_id":"f"}"#),
        part(r#"{"type":"image_url","image_url":{"url":"https\u003a//a"}}"#),
        r#"{"tools":[{"type":"web_search_20250305","name":"web_search"}]}"#.into(),
        r#"{"mcp_servers":[{}]}"#.into(),
        r#"{"context_management":{"edits":[{"type":"compact_20260112"}]}}"#.into(),
    ] {
        assert!(anthropic(&body).open.is_some(), "{body}");
    }
}

#[test]
fn escapes_hide_no_pointer() {
    for (dialect, body) in [
        (Dialect::OpenAiResponses, r#"{"input":[{"type":"re\u0061soning","id":"rs_1","summary":[]}]}"#),
        (Dialect::OpenAiResponses, r#"{"input":[{"content":[{"type":"input_image","image_url":"https\u003a//a"}]}]}"#),
        (Dialect::OpenAiImages, r#"{"prompt":"x","image":"https\u003a//a.test/x.png"}"#),
        (Dialect::OpenAiEmbeddings, r#"{"input":[{"image_base64":"https\u003a//a.test/x.png"}]}"#),
        (
            Dialect::DashScope,
            r#"{"input":{"messages":[{"role":"system","content":"\u0066ileid://f"},{"content":[{"image":"data:image/png;base64,AA"}]}]}}"#,
        ),
        (Dialect::DashScope, r#"{"input":{"messages":[{"content":[{"\u0061udio":"https://a.test/x.wav"}]}]}}"#),
        (
            Dialect::BedrockInvoke,
            r#"{"messages":[{"content":[{"type":"\u0069mage_url","\u0069mage_url":{"url":"https://a.test/x.png"}}]}]}"#,
        ),
    ] {
        assert!(read_call(dialect, body.as_bytes()).unwrap().open.is_some(), "{dialect:?} {body}");
    }
}

#[test]
fn what_is_in_the_body_is_closed() {
    let image = r#"{"messages":[{"content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}],
        "tools":[{"type":"function","function":{"name":"f"}}],"background":false,"prediction":null}"#;
    assert_eq!(openai(image).open, None);
    assert!(openai(image).input_bound(Encoding::O200kBase) > 16_384);
    let slashes = openai(&image.replace("image/png", "image\\/png"));
    assert_eq!((slashes.open, slashes.images().count()), (None, 1));
    assert_eq!(openai(r#"{"messages":[{"content":"what is fileid://f?"}]}"#).open, None);
    let body = r#"{"model":"claude","messages":[{"content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}},
        {"type":"document","title":"T","source":{"type":"text","media_type":"text/plain","data":"abc"}}]}],
        "tools":[{"name":"f","input_schema":{}},{"type":"bash_20250124","name":"bash"}],
        "context_management":{"edits":[{"type":"clear_thinking_20251015"}]}}"#;
    assert_eq!(anthropic(body).open, None);
}

#[test]
fn hidden_text_is_counted_and_seen() {
    // Of duplicates, of unknown keys and of parts in wrong places a model may read any.
    let secret = "sk-123";
    for body in [
        r#"{"messages":[{"content":"sk-123","content":""}]}"#,
        r#"{"messages":[{"content":[{"type":"text","text":"sk-123","text":""}]}]}"#,
        r#"{"messages":[{"content":[["sk-123"]]}]}"#,
        r#"{"messages":[{"content":{"text":"sk-123"}}]}"#,
        r#"{"messages":["sk-123"]}"#,
        r#"{"messages":"sk-123"}"#,
        r#"{"prompt":"sk-123"}"#,
        r#"{"messages":[{"x":{"y":["\u0073k-123"]}}]}"#,
        r#"{"tools":[{"function":{"description":"sk-123"}}]}"#,
    ] {
        for dialect in Dialect::ALL {
            let call = read_call(dialect, body.as_bytes()).unwrap();
            assert!(call.texts().any(|text| text.contains(secret)), "{dialect:?} {body}");
            let bound = call.input_bound(Encoding::O200kBase);
            assert!(bound >= 16 + 2 || dialect == Dialect::CountTokens, "{dialect:?} {body}");
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        for dialect in Dialect::ALL {
            let _ = read_call(dialect, &body);
        }
    }

    #[test]
    fn edits_make_what_they_say(
        limits in proptest::collection::vec(proptest::option::of(0u64..100), 3), clamp in 0u64..100, space in "[ \n]{0,2}",
    ) {
        let names = ["max_tokens", "max_completion_tokens", "n_predict"];
        let fields: String = names.iter().zip(&limits).filter_map(|(name, limit)| {
            limit.map(|limit| format!(",{space}\"{name}\"{space}:{space}{limit}"))
        }).collect();
        let body = format!(r#"{{{space}"stream":true{fields}}}"#);
        let call = openai(&body);
        let after = edited(&call, &body, Some(clamp), true);
        let again = openai(&after);
        prop_assert!(again.asks_usage && again.output_limit.is_some_and(|limit| limit <= clamp));
        prop_assert_eq!(again.edits(Some(clamp), true), []);
        prop_assert_eq!(call.output_limit, limits.iter().flatten().max().copied());
    }
}
