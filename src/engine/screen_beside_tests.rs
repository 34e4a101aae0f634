//! What a call tells its provider's server beside the prompt is screened in every dialect, and stays legal.

use serde_json::{Value, json};

use super::tests::{body_after, bundle, counted, plan};
use super::{Tally, prompt};
use crate::meter::call::{Leeway, SHORTEST, read_call};
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
fn replacements_keep_to_the_letters_and_the_length_of_their_field() {
    let fit = |leeway: Leeway, text: &str, wanted: &str| leeway.fit(text, wanted.to_owned());
    assert_eq!(fit(Leeway::Plain, "a", "of [EMAIL_1] [email:5f] 中"), "of--email_1---email-5f--中");
    assert_eq!(fit(Leeway::None, "a", "b"), "a");
    let (long, longer) = ("é".repeat(SHORTEST + 9), "x".repeat(200));
    for leeway in [Leeway::Plain, Leeway::Short] {
        assert_eq!(fit(leeway, "a", &longer).len(), SHORTEST);
        assert_eq!(fit(leeway, &long, &longer).len(), SHORTEST + 9);
    }
    assert_eq!(fit(Leeway::Any, "a", &longer), longer);
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
