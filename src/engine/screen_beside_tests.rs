//! What a call tells its provider's server beside the prompt is screened in every dialect, and stays legal.

use serde_json::{Value, json};

use super::tests::{body_after, bundle, counted, plan};
use super::{Tally, prompt};
use crate::meter::call::read_call;
use crate::meter::dialect::Dialect;

/// A number of a phone: what every field may hold, labels too.
const FOUND: &str = "13812345678";

/// Requests of every dialect with [`FOUND`] in each field that no model reads and that a caller may fill: as any text, and
/// under `for` where only plain letters are allowed.
fn requests() -> Vec<(Dialect, Value)> {
    let n = FOUND;
    let words = json!([{"role": "user", "content": "hi"}]);
    let blocks = json!([{"role": "user", "content": [{"text": "hi"}]}]);
    let chat = json!({"model": "m", "messages": words, "metadata": {"of": n, n: ""}, "user": n, "safety_identifier": n, "prompt_cache_key": n,
        "stop": ["x", n], "tool_choice": {"function": {"name": n}}, "service_tier": n, "web_search_options": {"user_location": {"city": n}}});
    let claude =
        json!({"messages": words, "metadata": {"user_id": n}, "stop_sequences": [n], "tool_choice": {"name": n}});
    let google = json!({"contents": [{"parts": [{"text": "hi"}]}], "labels": {"for": n}, "toolConfig": {"allowedFunctionNames": [n]},
        "generationConfig": {"stopSequences": [n], "responseSchema": {}, "maxOutputTokens": 5}});
    vec![
        (Dialect::OpenAiChat, chat.clone()),
        (
            Dialect::OpenAiResponses,
            json!({"model": "m", "input": "hi", "metadata": {"of": n}, "user": n, "safety_identifier": n, "prompt_cache_key": n,
            "conversation": n, "include": [n], "reasoning": {"summary": n}}),
        ),
        (
            Dialect::OpenAiResponses,
            json!({"model": "m", "input": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hi",
            "annotations": [{"type": "url_citation", "title": n, "url": n, "start_index": 0}], "logprobs": [{"token": n, "logprob": -0.5}]}]}]}),
        ),
        (
            Dialect::OpenAiCompletions,
            json!({"model": "m", "prompt": "hi", "stop": n, "user": n, "metadata": {"of": n}}),
        ),
        (Dialect::OpenAiEmbeddings, json!({"model": "m", "input": "hi", "user": n})),
        (Dialect::OpenAiModerations, json!({"model": "m", "input": "hi", "user": n})),
        (Dialect::OpenAiImages, json!({"model": "m", "prompt": "hi", "user": n, "style": n})),
        (Dialect::OpenAiSpeech, json!({"model": "m", "input": "hi", "voice": n})),
        (Dialect::OpenAiTranscription, json!({"model": "m", "prompt": "hi", "language": n})),
        (
            Dialect::AnthropicMessages,
            json!({"model": "m", "max_tokens": 9, "messages": words, "metadata": {"user_id": n}, "stop_sequences": [n]}),
        ),
        (
            Dialect::AnthropicMessages,
            json!({"model": "m", "max_tokens": 9, "messages": [{"role": "assistant", "content": [{"type": "text", "text": "hi",
            "citations": [{"type": "char_location", "cited_text": n, "document_title": n, "start_char_index": 0}]}]},
            {"role": "user", "content": [{"type": "document", "source": {"type": "text", "data": "hi"}, "citations": {"enabled": true, "of": n}}]}]}),
        ),
        (
            Dialect::AnthropicComplete,
            json!({"model": "m", "prompt": "hi", "stop_sequences": [n], "metadata": {"user_id": n}}),
        ),
        (Dialect::CountTokens, json!({"model": "m", "messages": words, "metadata": {"of": n}})),
        (Dialect::GeminiGenerate, google.clone()),
        (Dialect::GeminiEmbed, json!({"content": {"parts": [{"text": "hi"}]}, "labels": {"for": n}, "taskType": n})),
        (
            Dialect::GeminiInteractions,
            json!({"model": "m", "input": "hi", "labels": {"for": n}, "generation_config": {"stop_sequences": [n]}}),
        ),
        (
            Dialect::VertexPredict,
            json!({"instances": [{"content": "hi", "task_type": n}], "parameters": {"stopSequences": [n]}, "labels": {"for": n}}),
        ),
        (
            Dialect::BedrockConverse,
            json!({"messages": blocks, "requestMetadata": {"for": n}, "inferenceConfig": {"stopSequences": [n], "maxTokens": 5},
            "guardrailConfig": {"guardrailIdentifier": n}, "additionalModelResponseFieldPaths": [n]}),
        ),
        (Dialect::BedrockInvoke, claude.clone()),
        (Dialect::BedrockInvoke, json!({"inputText": "hi", "textGenerationConfig": {"stopSequences": [n]}})),
        (Dialect::CohereChat, json!({"model": "m", "message": "hi", "stop_sequences": [n], "conversation_id": n})),
        (Dialect::CohereChat, chat.clone()),
        (Dialect::CohereGenerate, json!({"model": "m", "prompt": "hi", "stop_sequences": [n]})),
        (Dialect::CohereEmbed, json!({"model": "m", "texts": ["hi"], "input_type": n})),
        (Dialect::Rerank, json!({"model": "m", "query": "hi", "documents": ["a"], "rank_fields": [n]})),
        (Dialect::OllamaChat, json!({"model": "m", "messages": words, "options": {"stop": [n]}, "keep_alive": n})),
        (Dialect::OllamaGenerate, json!({"model": "m", "prompt": "hi", "options": {"stop": [n]}})),
        (Dialect::OllamaEmbed, json!({"model": "m", "input": "hi", "keep_alive": n})),
        (
            Dialect::DashScope,
            json!({"model": "m", "input": {"messages": words}, "parameters": {"stop": [n], "user": n, "max_tokens": 5}}),
        ),
        (Dialect::MiniMaxSpeech, json!({"model": "m", "text": "hi", "voice_setting": {"voice_id": n}})),
        (Dialect::MiniMaxMedia, json!({"model": "m", "prompt": "hi", "aspect_ratio": n})),
        (Dialect::Generate, json!({"inputs": "hi", "parameters": {"stop": [n], "max_new_tokens": 5}, "stop": [n]})),
    ]
}

#[test]
fn what_is_told_beside_a_prompt_is_screened_in_every_dialect() {
    let requests = requests();
    for dialect in Dialect::ALL {
        assert!(requests.iter().any(|(known, _)| *known == dialect), "{dialect:?}");
    }
    let hide = bundle("{input: {phone: tag}}");
    let (deny, watch) = (bundle("{input: {phone: deny}}"), bundle("{input: {phone: observe}}"));
    for (dialect, body) in requests {
        let text = body.to_string();
        let (after, tally) = body_after(&hide, dialect, &body);
        let hidden = text.replace(&format!("\"for\":\"{FOUND}\""), r#""for":"-phone-""#).replace(FOUND, "[phone]");
        assert_eq!(after, serde_json::from_str::<Value>(&hidden).unwrap(), "{dialect:?}");
        let mut effects = Vec::new();
        tally.show("input", "findings", &mut effects);
        let found = text.matches(FOUND).count() as u64;
        let labels = vec!["input".into(), "phone".into(), "tag".into()];
        assert_eq!(counted(&effects, "findings_total"), [(labels, found)], "{dialect:?}");
        let call = read_call(dialect, text.as_bytes()).unwrap();
        let of = |bundle| prompt(plan(bundle), bundle, &call, &mut Tally::default()).map(|screened| screened.edits);
        let denial = of(&deny).unwrap_err();
        assert!(denial.rule == "phone" && !denial.outside.contains("138"), "{dialect:?}: {denial:?}");
        assert_eq!(of(&watch).unwrap(), [], "{dialect:?}");
        if dialect != Dialect::CountTokens {
            assert!(denial.outside.contains("beside its prompt"), "{dialect:?}: {denial:?}");
            // No model reads it, so nobody pays for it.
            assert!(!call.texts().any(|text| text.contains(FOUND)), "{dialect:?}");
        }
    }
}

#[test]
fn a_number_gives_way_to_words_and_the_request_stays_json() {
    let n = 13_812_345_678_u64;
    let hide = bundle("{input: {phone: tag}}");
    let cases = [
        (
            Dialect::OpenAiChat,
            json!({"model": "m", "user": n, "metadata": {"of": n, "at": 1_795_608_000_000_u64}, "messages": [{"role": "user", "content": "hi"}]}),
        ),
        (
            Dialect::AnthropicMessages,
            json!({"model": "m", "max_tokens": 9, "messages": [{"role": "assistant", "content": [
                {"type": "tool_use", "id": "t", "name": "f", "input": {"to": [n, 5], "deep": {"n": n}}}]}]}),
        ),
        (
            Dialect::GeminiGenerate,
            json!({"contents": [{"role": "model", "parts": [{"functionCall": {"name": "f", "args": {"n": n}}}]}]}),
        ),
    ];
    for (dialect, body) in cases {
        let (after, _) = body_after(&hide, dialect, &body);
        let hidden = body.to_string().replace(FOUND, "\"[phone]\"");
        assert_eq!(after, serde_json::from_str::<Value>(&hidden).unwrap(), "{dialect:?}");
        let call = read_call(dialect, body.to_string().as_bytes()).unwrap();
        let deny = bundle("{input: {phone: deny}}");
        assert_eq!(prompt(plan(&deny), &deny, &call, &mut Tally::default()).err().unwrap().rule, "phone");
    }
    let labels = json!({"contents": [], "labels": {"of": n}});
    assert_eq!(body_after(&hide, Dialect::GeminiGenerate, &labels).0["labels"]["of"], "-phone-");
}

#[test]
fn nothing_of_a_number_stays_beside_what_stands_for_it() {
    let hide = bundle("{input: {phone: observe, patterns: {badge: {match: '[0-9]{4}', action: tag}}}}");
    let body = json!({"model": "m", "messages": [], "metadata": {"a": -123_456, "b": 1_234_567.5, "c": 13_812_345_678_u64, "d": 123}});
    let (after, _) = body_after(&hide, Dialect::OpenAiChat, &body);
    let tag = "[patterns.badge]";
    assert_eq!(after["metadata"], json!({"a": tag, "b": tag, "c": tag, "d": 123}));
}

#[test]
fn json_within_a_text_stays_json() {
    let hide = bundle("{input: {phone: tag}}");
    let arguments = r#"{"to": 13812345678, "cc":[13812345678.0], "of": "call 13812345678"}"#;
    let body = json!({"model": "m", "messages": [{"role": "assistant", "tool_calls": [{"id": "t", "type": "function",
        "function": {"name": "f", "arguments": arguments}}]}, {"role": "tool", "tool_call_id": "t", "content": "[13812345678]"}]});
    let (after, _) = body_after(&hide, Dialect::OpenAiChat, &body);
    let told = after["messages"][0]["tool_calls"][0]["function"]["arguments"].as_str().unwrap();
    assert_eq!(told, r#"{"to": "[phone]", "cc":["[phone]"], "of": "call [phone]"}"#);
    assert_eq!(after["messages"][1]["content"], r#"["[phone]"]"#);
}

#[test]
fn nothing_of_a_short_field_is_cut() {
    // As long as a value of OpenAI's `metadata` may be, and what would stand in the place of the number is longer.
    let text = format!("{FOUND}{}.", "é".repeat(500));
    for (action, put) in [("hash", "[phone]"), ("pseudonym", "[PHONE_1]"), ("redact", "[redacted]"), ("tag", "[phone]")]
    {
        let bundle = bundle(&format!("{{input: {{phone: {action}}}}}"));
        let body = json!({"model": "m", "messages": [], "metadata": {"of": text}});
        let (after, _) = body_after(&bundle, Dialect::OpenAiChat, &body);
        assert_eq!(after["metadata"]["of"], text.replace(FOUND, put), "{action}");
    }
    let bundle = bundle("{input: {keywords: {words: [ab, falcon], action: hash}}}");
    let text = format!("ab {} falcon", "x".repeat(60));
    let body = json!({"model": "m", "messages": [], "user": text, "metadata": {"of": "ab falcon"}});
    let (after, _) = body_after(&bundle, Dialect::OpenAiChat, &body);
    assert_eq!(after["user"], format!("** {} ***", "x".repeat(60)));
    let kept = after["metadata"]["of"].as_str().unwrap();
    assert!(kept.starts_with("[keywords:") && kept.matches("[keywords:").count() == 2, "{kept}");
}

#[test]
fn members_with_names_that_are_hidden_stay_apart() {
    let bundle = bundle("{input: {phone: redact}}");
    let body = json!({"model": "m", "metadata": {"13812345678": "a", "13912345678": "b", "[redacted]": "c", "x": "d"},
        "messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"13812345678": [1], "13712345678": 2}}]}]});
    let (after, _) = body_after(&bundle, Dialect::AnthropicMessages, &body);
    assert_eq!(after["messages"][0]["content"][0]["input"], json!({"[redacted]_1": 2, "[redacted]_2": [1]}));
    let apart = json!({"[redacted]_2": "a", "[redacted]_3": "b", "[redacted]": "c", "x": "d"});
    assert_eq!(after["metadata"], apart, "the same name is the same everywhere");
    // Without room for a number it is said, and nothing gets lost.
    let long = format!("138-1234-5678{}", "x".repeat(58));
    let other = long.replacen("138", "139", 1);
    let body = json!({"model": "m", "metadata": {long.clone(): "a", other: "b"}, "messages": []});
    assert_eq!(body_after(&bundle, Dialect::OpenAiChat, &body).0["metadata"].as_object().unwrap().len(), 2);
    let body = json!({"model": "m", "metadata": {"ab".to_owned() + &"x".repeat(70): "a", "ac".to_owned() + &"x".repeat(70): "b"}, "messages": []});
    let words = super::tests::bundle("{input: {patterns: {a: {match: '\\Aa[bc]', action: redact}}}}");
    let call = read_call(Dialect::OpenAiChat, body.to_string().as_bytes()).unwrap();
    let denial = prompt(plan(&words), &words, &call, &mut Tally::default()).err().unwrap();
    assert!(denial.rule == "patterns.a" && denial.outside.contains("names of its members"), "{denial:?}");
}

#[test]
fn keywords_are_not_looked_for_among_the_words_of_settings() {
    let bundle = bundle("{input: {keywords: {words: [auto, priority, falcon], action: deny}, phone: deny}}");
    let of = |body: Value| {
        let call = read_call(Dialect::OpenAiChat, body.to_string().as_bytes()).unwrap();
        prompt(plan(&bundle), &bundle, &call, &mut Tally::default()).err().map(|denial| denial.rule)
    };
    let named = json!({"type": "function", "function": {"name": "falcon"}});
    assert_eq!(of(json!({"model": "m", "messages": [], "tool_choice": "auto", "service_tier": "priority"})), None);
    assert_eq!(of(json!({"model": "m", "messages": [], "tool_choice": named})), None);
    for body in [
        json!({"stop": "auto"}),
        json!({"user": "auto"}),
        json!({"metadata": {"tool_choice": "falcon"}}),
        json!({"tools": [named]}),
    ] {
        let mut whole = json!({"model": "m", "messages": []});
        whole.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        assert_eq!(of(whole).as_deref(), Some("keywords"), "{body}");
    }
    assert_eq!(of(json!({"model": "m", "messages": [], "service_tier": FOUND})).as_deref(), Some("phone"));
}

#[test]
fn credentials_for_servers_of_tools_stay_and_are_counted() {
    let secret = ["AK", "IAIOSFODNN7EXAMPLE"].concat();
    let claude = json!({"model": "m", "max_tokens": 9, "messages": [], "mcp_servers": [{"type": "url", "name": "a", "url": "https://a.test", "authorization_token": secret}]});
    let responses = json!({"model": "m", "input": "hi", "tools": [{"type": "mcp", "server_label": "a", "server_url": "https://a.test", "authorization": secret, "headers": {"x": secret}}]});
    for (dialect, body, found) in [(Dialect::AnthropicMessages, claude, 1), (Dialect::OpenAiResponses, responses, 2)] {
        for action in ["deny", "redact"] {
            let bundle = bundle(&format!("{{input: {{secrets: {action}}}}}"));
            let (after, tally) = body_after(&bundle, dialect, &body);
            let mut effects = Vec::new();
            tally.show("input", "findings", &mut effects);
            let labels = vec!["input".into(), "secrets".into(), "unchanged".into()];
            assert_eq!(
                (after, counted(&effects, "findings_total")),
                (body.clone(), vec![(labels, found)]),
                "{dialect:?}"
            );
            // Anywhere else in the entry of the server it is a secret like any other.
            let elsewhere = body.to_string().replace("https://a.test", &format!("https://a.test/?key={secret}"));
            let call = read_call(dialect, elsewhere.as_bytes()).unwrap();
            let screened = prompt(plan(&bundle), &bundle, &call, &mut Tally::default());
            assert_eq!(screened.map_or(0, |screened| screened.edits.len()), usize::from(action == "redact"));
        }
    }
}

#[test]
fn a_name_given_beside_a_prompt_is_the_one_in_it() {
    let bundle = bundle("{input: {email: pseudonym}}");
    let body = json!({"user": "a@b.cn", "model": "m", "messages": [{"role": "user", "content": "b@b.cn and a@b.cn"}], "stop": "b@b.cn"});
    let (after, _) = body_after(&bundle, Dialect::OpenAiChat, &body);
    // The prompt comes first wherever it stands, so that a conversation keeps its names.
    assert_eq!(after["messages"][0]["content"], "[EMAIL_1] and [EMAIL_2]");
    assert_eq!((&after["user"], &after["stop"]), (&json!("[EMAIL_2]"), &json!("[EMAIL_1]")));
}

#[test]
fn what_clients_say_of_themselves_is_no_secret() {
    let bundle = bundle(
        "{input: {secrets: deny, email: deny, phone: deny, card: deny, iban: deny, cn_id_card: deny, bank_card: deny, passport: deny, ssn: deny}}",
    );
    let hex = "3f0a9c1be7d24586".repeat(4);
    let id =
        format!("user_{hex}_account_6b1f3c5e-9d0a-4f7b-8c2e-1a2b3c4d5e6f_session_0f9e8d7c-6b5a-4c3d-9e8f-7a6b5c4d3e2f");
    let body = json!({"model": "m", "max_tokens": 9, "messages": [], "metadata": {"user_id": id}});
    assert_eq!(body_after(&bundle, Dialect::AnthropicMessages, &body).0, body);
    let body = json!({"model": "m", "input": "hi", "prompt_cache_key": "0199c9d2-5e1a-7cc3-b0f1-6d2a4b8c9e0f", "service_tier": "priority",
        "include": ["reasoning.encrypted_content"], "safety_identifier": hex});
    assert_eq!(body_after(&bundle, Dialect::OpenAiResponses, &body).0, body);
}
