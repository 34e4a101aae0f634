//! What a screen does that no case of `tests/cases/screen.yaml` can show.

use serde_json::{Value, json};

use super::{Answer, Content, Tally, prompt, unmetered};
use crate::engine::effect::Effect;
use crate::meter::call::{read_call, splice};
use crate::meter::dialect::Dialect;
use crate::meter::form::read_form;
use crate::meter::rewrite::Expected;
use crate::now::Now;
use crate::policy::bundle::{Bundle, Plan};

const NOW: Now = Now { wall_ms: 1_795_608_000_000, mono_ms: 5 };

pub(super) fn bundle(security: &str) -> Bundle {
    let text = format!(
        "farebox: 1\nbundle: {{name: b, version: '1'}}\nidentity: [{{key: [authorization]}}]\n\
         models: {{m: {{count: o200k_base}}}}\nplans: {{p: {{security: {security}}}}}\n\
         seats: {{s: {{org: o, keys: [\"sha256:{}\"]}}}}\nassign: [{{when: {{seat: s}}, plan: p}}, {{otherwise: deny}}]\n",
        "1".repeat(64)
    );
    crate::policy::compile(&text, "p").unwrap_or_else(|faults| panic!("{faults:?}"))
}

pub(super) fn plan(bundle: &Bundle) -> &Plan {
    &bundle.plans[0]
}

pub(super) fn body_after(bundle: &Bundle, dialect: Dialect, body: &Value) -> (Value, Tally) {
    let call = read_call(dialect, body.to_string().as_bytes()).unwrap();
    let mut tally = Tally::default();
    let screened = prompt(plan(bundle), bundle, &call, &mut tally).unwrap();
    (serde_json::from_slice(&splice(call.body(), &screened.edits)).unwrap(), tally)
}

fn delta(text: &str) -> String {
    format!("data: {}\n\n", json!({"id": "c", "choices": [{"index": 0, "delta": {"content": text}}]}))
}

fn expected(dialect: Dialect) -> Expected<'static> {
    Expected { dialect, stream: true, in_pieces: false, content_type: None, content_encoding: None }
}

/// The chunks through the screen of a plan, and what was asked of the host.
fn answer(bundle: &Bundle, chunks: &[&str]) -> (String, Vec<Effect>, bool) {
    let mask = crate::scan::Mask::new(bundle.mask_key);
    let mut answer = Answer::of(plan(bundle), &mask, &expected(Dialect::OpenAiChat)).unwrap();
    let (mut out, mut effects) = (Vec::new(), Vec::new());
    for (at, chunk) in chunks.iter().enumerate() {
        let end = at + 1 == chunks.len();
        out.extend(answer.push(
            chunk.as_bytes(),
            end,
            plan(bundle),
            Some(Dialect::OpenAiChat),
            "id-1",
            NOW,
            &mut effects,
        ));
    }
    (String::from_utf8(out).unwrap(), effects, answer.is_cut())
}

pub(super) fn counted(effects: &[Effect], wanted: &str) -> Vec<(Vec<String>, u64)> {
    let count = |effect: &Effect| match effect {
        Effect::Count { metric, labels, by } if *metric == wanted => {
            Some((labels.iter().map(|(_, value)| value.clone()).collect(), *by))
        }
        _ => None,
    };
    effects.iter().filter_map(count).collect()
}

#[test]
fn every_text_of_a_prompt_is_looked_at_and_the_rest_stays() {
    let bundle = bundle("{input: {email: tag}}");
    let body = json!({"model": "m", "max_tokens": 9, "temperature": 0.5, "system": "I am a@b.cn", "messages": [
        {"role": "user", "content": [{"type": "text", "text": "say \"a@b.cn\"\n"}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {"to": ["a@b.cn"]}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "sent to a@b.cn"}]}]});
    let (after, _) = body_after(&bundle, Dialect::AnthropicMessages, &body);
    assert_eq!(after, serde_json::from_str::<Value>(&body.to_string().replace("a@b.cn", "[email]")).unwrap());
}

#[test]
fn signed_thoughts_stay_as_they_are() {
    let bundle = bundle("{input: {email: redact}}");
    let body = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "assistant", "content": [
        {"type": "thinking", "thinking": "of a@b.cn", "signature": "c2ln"}, {"type": "text", "text": "to a@b.cn"}]}]});
    let (after, tally) = body_after(&bundle, Dialect::AnthropicMessages, &body);
    assert_eq!(after["messages"][0]["content"][0]["thinking"], "of a@b.cn");
    assert_eq!(after["messages"][0]["content"][1]["text"], "to [redacted]");
    let mut effects = Vec::new();
    tally.show("input", "findings", &mut effects);
    assert!(effects.contains(&Effect::Note("findings", "email:redact:1,email:unchanged:1".to_owned())), "{effects:?}");
}

/// What becomes of a form whose prompt has an address in it: the rule that refused it, or what was counted.
fn form(security: &str) -> Result<String, String> {
    let bundle = bundle(security);
    let part = |disposition: &str, value: &str| {
        format!("--b\r\nContent-Disposition: form-data; {disposition}\r\n\r\n{value}\r\n")
    };
    let body = part("name=file; filename=a.mp3", "sound")
        + &part("name=model", "m")
        + &part("name=prompt", "of a@b.cn")
        + "--b--\r\n";
    let call = read_form(Dialect::OpenAiTranscription, b"multipart/form-data; boundary=b", body.as_bytes()).unwrap();
    let mut tally = Tally::default();
    let screened = prompt(plan(&bundle), &bundle, &call, &mut tally);
    let mut effects = Vec::new();
    tally.show("input", "findings", &mut effects);
    let Some(Effect::Note(_, found)) = effects.pop() else { panic!("nothing was found") };
    match screened {
        Ok(screened) => {
            assert!(screened.edits.is_empty(), "an edit of something that is no form: {:?}", screened.edits);
            Ok(found)
        }
        Err(denial) => {
            assert!(!format!("{denial:?}").contains("a@b"), "{denial:?}");
            Err(format!("{}: {}", denial.rule, denial.inside))
        }
    }
}

#[test]
fn a_form_is_never_changed() {
    assert_eq!(form("{input: {email: observe}}"), Ok("email:observe:1".to_owned()));
    let denied = form("{input: {email: deny}}").unwrap_err();
    assert!(denied.starts_with("email: the prompt carries"), "{denied}");
    for action in ["redact", "hash", "tag", "pseudonym"] {
        let refused = form(&format!("{{input: {{email: {action}}}}}")).unwrap_err();
        assert!(refused.starts_with("on_error: the form carries") && refused.contains(action), "{refused}");
        let passed = form(&format!("{{input: {{email: {action}, on_error: pass}}}}"));
        assert_eq!(passed, Ok("email:unchanged:1".to_owned()));
    }
}

#[test]
fn a_name_that_stands_in_the_prompt_is_not_given() {
    let bundle = bundle("{input: {email: pseudonym}}");
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "[EMAIL_1] is a@b.cn"}]});
    let (after, _) = body_after(&bundle, Dialect::OpenAiChat, &body);
    assert_eq!(after["messages"][0]["content"], "[EMAIL_1] is [EMAIL_2]");
}

#[test]
fn a_refusal_names_the_shape_and_never_the_secret() {
    let bundle = bundle("{input: {secrets: deny}}");
    let secret = ["AK", "IAIOSFODNN7EXAMPLE"].concat();
    let body = json!({"model": "m", "messages": [{"role": "user", "content": format!("it is {secret}")}]});
    let call = read_call(Dialect::OpenAiChat, body.to_string().as_bytes()).unwrap();
    let mut tally = Tally::default();
    let denial = prompt(plan(&bundle), &bundle, &call, &mut tally).err().expect("a secret");
    assert_eq!(denial.rule, "secrets");
    assert!(denial.outside.contains("aws_access_key_id") && !format!("{denial:?}").contains("AKIA"), "{denial:?}");
    let mut effects = Vec::new();
    tally.show("input", "findings", &mut effects);
    assert_eq!(counted(&effects, "findings_total"), [(vec!["input".into(), "secrets".into(), "deny".into()], 1)]);
}

#[test]
fn a_stream_that_is_denied_ends_in_an_error_of_the_dialect() {
    let bundle = bundle("{output: {secrets: deny}}");
    let secret = ["AK", "IAIOSFODNN7EXAMPLE"].concat();
    let (first, second) = (delta(&format!("it is {}", &secret[..8])), delta(&format!("{} and more", &secret[8..])));
    let (out, effects, cut) = answer(&bundle, &[&first, &second, &delta("still more"), "data: [DONE]\n\n"]);
    assert!(cut && !out.contains("AKIA") && !out.contains("more"), "{out}");
    let last: Value = serde_json::from_str(out.trim_end().rsplit_once("data: ").unwrap().1).unwrap();
    assert_eq!(last["error"]["code"], "forbidden");
    assert!(effects.contains(&Effect::Note("denied_by", "secrets".into())));
    assert_eq!(counted(&effects, "findings_total").len(), 1);
}

#[test]
fn what_cannot_be_screened_is_broken_off_or_passes_and_is_counted() {
    for (on_error, passes) in [("deny", false), ("pass", true)] {
        let bundle = bundle(&format!("{{output: {{secrets: redact, on_error: {on_error}}}}}"));
        let (out, effects, cut) = answer(&bundle, &[&delta("hello, "), "data: no json\n\n", "data: more\n\n"]);
        assert_eq!((cut, out.contains("no json"), out.contains("more")), (!passes, passes, passes), "{out}");
        assert_eq!(counted(&effects, "unscreened_total"), [(vec![on_error.into()], 1)]);
    }
}

/// A document of a dialect through the screen of a plan.
fn document(bundle: &Bundle, dialect: Dialect, body: &Value) -> Value {
    let mask = crate::scan::Mask::new(bundle.mask_key);
    let expected = Expected { stream: false, ..expected(dialect) };
    let mut answer = Answer::of(plan(bundle), &mask, &expected).unwrap();
    let body = body.to_string();
    let out = answer.push(body.as_bytes(), true, plan(bundle), Some(dialect), "id-1", NOW, &mut Vec::new());
    serde_json::from_slice(&out).unwrap()
}

#[test]
fn numbers_in_arguments_of_tools_give_way_to_words_and_durations_stay() {
    let bundle = bundle("{output: {phone: tag}}");
    let n = 13_812_345_678_u64;
    let google = json!({"candidates": [{"content": {"parts": [{"functionCall": {"name": "f", "args": {"to": [n, {"n": n}]}}}]}, "finishReason": "STOP"}]});
    let claude = json!({"type": "message", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"to": n}}], "stop_reason": "tool_use"});
    let ollama = json!({"message": {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"to": n}}}]}, "done": true});
    for (dialect, body) in
        [(Dialect::GeminiGenerate, google), (Dialect::AnthropicMessages, claude), (Dialect::OllamaChat, ollama)]
    {
        let after = document(&bundle, dialect, &body);
        let hidden = body.to_string().replace(&n.to_string(), "\"[phone]\"");
        assert_eq!(after, serde_json::from_str::<Value>(&hidden).unwrap(), "{dialect:?}");
    }
    // Nanoseconds may well look like somebody's number.
    let took = json!({"message": {"role": "assistant", "content": "hi"}, "done": true, "total_duration": n, "eval_duration": n});
    assert_eq!(document(&bundle, Dialect::OllamaChat, &took), took);
}

#[test]
fn nothing_of_a_number_stays_around_what_stands_for_it() {
    let hide = bundle("{output: {patterns: {badge: {match: '77[0-9]{4}', action: tag}}}}");
    let google = |args: Value| json!({"candidates": [{"content": {"parts": [{"functionCall": {"name": "f", "args": args}}]}, "finishReason": "STOP"}]});
    let args = json!({"a": -1_277_123_456, "b": 77_123_456.5, "c": "12771234 and 5", "d": 78_000_000});
    let told =
        json!({"a": "[patterns.badge]", "b": "[patterns.badge]", "c": "12[patterns.badge] and 5", "d": 78_000_000});
    assert_eq!(document(&hide, Dialect::GeminiGenerate, &google(args.clone())), google(told.clone()));
    // The same within a text that is JSON.
    let openai = |args: &Value| json!({"choices": [{"index": 0, "message": {"role": "assistant", "tool_calls": [{"id": "t", "type": "function", "function": {"name": "f", "arguments": args.to_string()}}]}, "finish_reason": "tool_calls"}]});
    assert_eq!(document(&hide, Dialect::OpenAiChat, &openai(&args)), openai(&told));
}

#[test]
fn arguments_are_screened_whatever_they_are_called() {
    let bundle = bundle("{output: {email: tag, phone: tag}}");
    let arguments = json!({"id": "a@b.cn", "status": 13_812_345_678_u64, "role": [{"type": "b@b.cn"}]});
    let hidden = json!({"id": "[email]", "status": "[phone]", "role": [{"type": "[email]"}]});
    let google = |arguments: &Value| json!({"id": "i", "outputs": [{"type": "function_call", "id": "a@b.cn", "name": "find", "arguments": arguments}]});
    let cohere = |arguments: &Value| json!({"text": "hi", "chat_history": [{"role": "CHATBOT", "tool_calls": [{"name": "find", "parameters": arguments}]}]});
    for (dialect, of) in
        [(Dialect::GeminiInteractions, &google as &dyn Fn(&Value) -> Value), (Dialect::CohereChat, &cohere)]
    {
        assert_eq!(document(&bundle, dialect, &of(&arguments)), of(&hidden), "{dialect:?}");
    }
}

#[test]
fn names_of_members_among_arguments_are_screened_and_stay_apart() {
    let hide = bundle("{output: {email: tag}}");
    let claude = |input: Value| json!({"type": "message", "a@b.cn": 1, "content": [{"type": "tool_use", "id": "t", "name": "f", "input": input}]});
    let input = json!({"contacts": {"a@b.cn": "A", "b@b.cn": {"c@b.cn": 1}}, "of": {"a@b.cn": 2, "[email]_2": 3}});
    let after = document(&hide, Dialect::AnthropicMessages, &claude(input));
    let told = &after["content"][0]["input"];
    assert!(!told.to_string().contains("b.cn"), "{told}");
    let contacts = told["contacts"].as_object().unwrap();
    let first = contacts.iter().find(|(_, value)| **value == "A").unwrap().0;
    assert_eq!((contacts.len(), &told["of"]), (2, &json!({first.as_str(): 2, "[email]_2": 3})));
    assert!(after["a@b.cn"] == 1, "{after}");
    // A name that was given comes back where the model makes one of a member of it.
    let given = bundle("{input: {email: pseudonym}}");
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "a@b.cn"}]});
    let call = read_call(Dialect::AnthropicMessages, body.to_string().as_bytes()).unwrap();
    let mask = prompt(plan(&given), &given, &call, &mut Tally::default()).unwrap().mask;
    let expected = Expected { stream: false, ..expected(Dialect::AnthropicMessages) };
    let mut answer = Answer::of(plan(&given), &mask, &expected).unwrap();
    let body = claude(json!({"[EMAIL_1]": "A"})).to_string().replace("a@b.cn", "x");
    let out = answer.push(body.as_bytes(), true, plan(&given), None, "id-1", NOW, &mut Vec::new());
    assert!(String::from_utf8(out).unwrap().contains(r#"{"a@b.cn":"A"}"#));
}

#[test]
fn json_in_an_answer_stays_json_however_it_is_cut() {
    let bundle = bundle("{output: {phone: tag}}");
    let text = r#"{"to": 13812345678, "cc": [13812345678.0, "call 13812345678"]}"#;
    for cut in 1..text.len() {
        let (head, tail) = text.split_at(cut);
        let (out, ..) = answer(&bundle, &[&delta(head), &delta(tail), "data: [DONE]\n\n"]);
        let events = out.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
        let said: String =
            events.filter_map(|event| event["choices"][0]["delta"]["content"].as_str().map(str::to_owned)).collect();
        assert_eq!(said, r#"{"to": "[phone]", "cc": ["[phone]", "call [phone]"]}"#, "{cut}");
    }
}

#[test]
fn what_is_observed_is_counted_once_and_passes() {
    let bundle = bundle("{output: {email: observe}}");
    let chunks = [delta("to a@b"), delta(".cn and c@d.cn"), "data: [DONE]\n\n".to_owned()];
    let (out, effects, _) = answer(&bundle, &chunks.each_ref().map(String::as_str));
    let heard: String = out
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok())
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(heard, "to a@b.cn and c@d.cn");
    assert_eq!(counted(&effects, "findings_total"), [(vec!["output".into(), "email".into(), "observe".into()], 2)]);
}

/// A prompt of every dialect, `a@b.cn` in each place where a model would read it, and how often that is.
fn prompts() -> Vec<(Dialect, Value)> {
    let chat = json!({"model": "m", "messages": [{"role": "system", "content": "I am a@b.cn"},
        {"role": "user", "name": "a@b.cn", "content": [{"type": "text", "text": "say a@b.cn"}]},
        {"role": "assistant", "reasoning_content": "of a@b.cn", "tool_calls": [{"id": "t", "type": "function", "function": {"name": "f", "arguments": "{\"to\":\"a@b.cn\"}"}}]},
        {"role": "tool", "tool_call_id": "t", "content": "sent to a@b.cn"}],
        "tools": [{"type": "function", "function": {"name": "f", "description": "writes to a@b.cn", "parameters": {"a@b.cn": {}}}}],
        "response_format": {"type": "json_schema", "json_schema": {"description": "of a@b.cn"}}, "unknown": {"x": ["a@b.cn"]},
        "extra_body": {"more": "a@b.cn"}, "chat_template": "of a@b.cn", "data_sources": [{"role": "by a@b.cn"}]});
    let claude = json!({"max_tokens": 9, "system": [{"type": "text", "text": "I am a@b.cn"}], "messages": [{"role": "user", "content": "say a@b.cn"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"to": ["a@b.cn"]}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "sent to a@b.cn"}]}]}],
        "tools": [{"name": "f", "description": "writes to a@b.cn", "input_schema": {"type": "object"}}]});
    let converse = json!({"system": [{"text": "I am a@b.cn"}], "messages": [{"role": "user", "content": [{"text": "say a@b.cn"}]},
        {"role": "assistant", "content": [{"reasoningContent": {"reasoningText": {"text": "of a@b.cn"}}}, {"toolUse": {"toolUseId": "t", "name": "f", "input": {"to": "a@b.cn"}}}]},
        {"role": "user", "content": [{"toolResult": {"toolUseId": "t", "content": [{"json": {"to": "a@b.cn"}}, {"text": "sent to a@b.cn"}]}}]}],
        "toolConfig": {"tools": [{"toolSpec": {"name": "f", "description": "to a@b.cn", "inputSchema": {"json": {}}}}]},
        "promptVariables": {"who": {"text": "a@b.cn"}}});
    let google = json!({"systemInstruction": {"parts": [{"text": "I am a@b.cn"}]}, "contents": [{"role": "user", "parts": [{"text": "say a@b.cn"}]},
        {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {"to": "a@b.cn"}}}]}, {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"to": "a@b.cn"}}}]}],
        "tools": [{"functionDeclarations": [{"name": "f", "description": "to a@b.cn"}]}], "generationConfig": {"responseSchema": {"description": "of a@b.cn"}}});
    let with = |mut body: Value, more: Value| {
        if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
            body.extend(more);
        }
        body
    };
    vec![
        (Dialect::OpenAiChat, chat.clone()),
        (
            Dialect::OpenAiResponses,
            json!({"model": "m", "instructions": "I am a@b.cn", "input": [{"role": "user", "content": [{"type": "input_text", "text": "say a@b.cn"}]},
            {"type": "function_call", "call_id": "t", "name": "f", "arguments": "{\"to\":\"a@b.cn\"}"}, {"type": "function_call_output", "call_id": "t", "output": "sent to a@b.cn"}],
            "tools": [{"type": "function", "name": "f", "description": "to a@b.cn"}], "text": {"format": {"description": "of a@b.cn"}}}),
        ),
        (
            Dialect::OpenAiCompletions,
            json!({"model": "m", "prompt": ["say a@b.cn", "and a@b.cn"], "suffix": "of a@b.cn"}),
        ),
        (Dialect::OpenAiEmbeddings, json!({"model": "m", "input": ["of a@b.cn", "a@b.cn"]})),
        (Dialect::OpenAiModerations, json!({"model": "m", "input": [{"type": "text", "text": "of a@b.cn"}]})),
        (Dialect::OpenAiImages, json!({"model": "m", "prompt": "a hat of a@b.cn"})),
        (
            Dialect::OpenAiSpeech,
            json!({"model": "m", "input": "say a@b.cn", "instructions": "as a@b.cn", "voice": "alloy"}),
        ),
        (Dialect::OpenAiTranscription, json!({"model": "m", "prompt": "of a@b.cn"})),
        (Dialect::AnthropicMessages, with(claude.clone(), json!({"model": "m"}))),
        (Dialect::AnthropicComplete, json!({"model": "m", "prompt": "say a@b.cn"})),
        (Dialect::CountTokens, chat.clone()),
        (Dialect::GeminiGenerate, google.clone()),
        (
            Dialect::GeminiEmbed,
            json!({"content": {"parts": [{"text": "of a@b.cn"}]}, "title": "a@b.cn", "requests": [{"content": {"parts": [{"text": "a@b.cn"}]}}]}),
        ),
        (
            Dialect::GeminiInteractions,
            json!({"model": "m", "system_instruction": "I am a@b.cn", "input": [{"type": "user_input", "content": [{"type": "text", "text": "say a@b.cn"}]}],
            "tools": [{"type": "function", "name": "f", "description": "to a@b.cn"}]}),
        ),
        (
            Dialect::VertexPredict,
            json!({"instances": [{"content": "of a@b.cn", "title": "a@b.cn"}, {"prompt": "a@b.cn", "more": {"x": "a@b.cn"}}]}),
        ),
        (Dialect::BedrockConverse, converse.clone()),
        (Dialect::BedrockInvoke, with(claude, json!({"anthropic_version": "bedrock-2023-05-31"}))),
        (Dialect::BedrockInvoke, converse),
        (Dialect::BedrockInvoke, json!({"inputText": "say a@b.cn"})),
        (
            Dialect::CohereChat,
            json!({"model": "m", "message": "say a@b.cn", "preamble": "I am a@b.cn", "chat_history": [{"role": "USER", "message": "of a@b.cn"}],
            "documents": [{"text": "by a@b.cn"}], "tools": [{"name": "f", "description": "to a@b.cn"}]}),
        ),
        (Dialect::CohereChat, chat.clone()),
        (Dialect::CohereGenerate, json!({"model": "m", "prompt": "say a@b.cn"})),
        (Dialect::CohereEmbed, json!({"model": "m", "texts": ["of a@b.cn"]})),
        (
            Dialect::Rerank,
            json!({"model": "m", "query": "who is a@b.cn", "documents": ["of a@b.cn", {"text": "a@b.cn"}]}),
        ),
        (
            Dialect::OllamaChat,
            json!({"model": "m", "messages": [{"role": "system", "content": "I am a@b.cn"}, {"role": "assistant", "thinking": "of a@b.cn", "content": "",
            "tool_calls": [{"function": {"name": "f", "arguments": {"to": "a@b.cn"}}}]}, {"role": "tool", "content": "sent to a@b.cn"}],
            "tools": [{"type": "function", "function": {"name": "f", "description": "to a@b.cn"}}], "format": {"description": "of a@b.cn"}}),
        ),
        (
            Dialect::OllamaGenerate,
            json!({"model": "m", "prompt": "say a@b.cn", "system": "I am a@b.cn", "suffix": "of a@b.cn", "template": "as a@b.cn"}),
        ),
        (Dialect::OllamaEmbed, json!({"model": "m", "input": "of a@b.cn"})),
        (
            Dialect::DashScope,
            json!({"model": "m", "input": {"messages": [{"role": "user", "content": [{"text": "say a@b.cn"}]}], "prompt": "a@b.cn", "history": [{"user": "of a@b.cn"}]},
            "parameters": {"tools": [{"type": "function", "function": {"name": "f", "description": "to a@b.cn"}}]}}),
        ),
        (Dialect::MiniMaxSpeech, json!({"model": "m", "text": "say a@b.cn"})),
        (Dialect::MiniMaxMedia, json!({"model": "m", "prompt": "a hat of a@b.cn", "lyrics": "oh a@b.cn"})),
        (Dialect::Generate, json!({"inputs": "say a@b.cn", "parameters": {"grammar": {"value": "of a@b.cn"}}})),
        (Dialect::Generate, json!({"prompt": "say a@b.cn", "system_prompt": "I am a@b.cn"})),
    ]
}

#[test]
fn every_text_of_a_prompt_of_every_dialect_is_looked_at_and_can_be_hidden() {
    let hide = bundle("{input: {email: tag}}");
    let (deny, watch) = (bundle("{input: {email: deny}}"), bundle("{input: {email: observe}}"));
    let prompts = prompts();
    for dialect in Dialect::ALL {
        assert!(prompts.iter().any(|(known, _)| *known == dialect), "{dialect:?}");
    }
    for (dialect, body) in prompts {
        let text = body.to_string();
        let (after, tally) = body_after(&hide, dialect, &body);
        assert_eq!(after, serde_json::from_str::<Value>(&text.replace("a@b.cn", "[email]")).unwrap(), "{dialect:?}");
        let found = text.matches("a@b.cn").count() as u64;
        let mut effects = Vec::new();
        tally.show("input", "findings", &mut effects);
        assert_eq!(
            counted(&effects, "findings_total"),
            [(vec!["input".into(), "email".into(), "tag".into()], found)],
            "{dialect:?}"
        );
        let call = read_call(dialect, text.as_bytes()).unwrap();
        let of = |bundle: &Bundle| {
            prompt(plan(bundle), bundle, &call, &mut Tally::default()).map(|screened| screened.edits.len())
        };
        assert_eq!(of(&deny).unwrap_err().rule, "email", "{dialect:?}");
        assert_eq!(of(&watch).unwrap(), 0, "{dialect:?}");
        // What is counted is looked at: nothing else in the call has the address.
        let texts = call.texts().filter(|text| text.contains("a@b.cn")).count() as u64;
        assert_eq!(
            texts,
            call.strings().filter(|written| !written.beside && written.text.contains("a@b.cn")).count() as u64
        );
    }
}

#[test]
fn numbers_of_tokens_cannot_be_screened() {
    let body = json!({"model": "m", "prompt": [[15339, 1917]]});
    let call = read_call(Dialect::OpenAiCompletions, body.to_string().as_bytes()).unwrap();
    for (rules, refused) in
        [("email: redact", true), ("email: redact, on_error: pass", false), ("email: observe", false)]
    {
        let bundle = bundle(&format!("{{input: {{{rules}}}}}"));
        let mut tally = Tally::default();
        let screened = prompt(plan(&bundle), &bundle, &call, &mut tally);
        assert_eq!(screened.err().map(|denial| denial.rule), refused.then(|| "on_error".to_owned()), "{rules}");
        let mut effects = Vec::new();
        tally.show("input", "findings", &mut effects);
        assert_eq!(counted(&effects, "unread_total").len(), usize::from(!rules.contains("observe")), "{rules}");
    }
}

#[test]
fn signed_thoughts_of_amazons_stay_too() {
    let bundle = bundle("{input: {email: redact}}");
    let thought = json!({"reasoningContent": {"reasoningText": {"text": "of a@b.cn", "signature": "c2ln"}}});
    let body = json!({"messages": [{"role": "assistant", "content": [thought, {"text": "to a@b.cn"}]}]});
    let (after, _) = body_after(&bundle, Dialect::BedrockConverse, &body);
    assert_eq!(after["messages"][0]["content"][0], thought);
    assert_eq!(after["messages"][0]["content"][1]["text"], "to [redacted]");
}

/// An answer of every dialect through a plan's screen: what leaves, and which rule ended it.
fn answered(security: &str, dialect: Dialect, body: &[u8]) -> Option<(String, Option<String>)> {
    let bundle = bundle(security);
    let mask = crate::scan::Mask::new(bundle.mask_key);
    let (mut out, mut effects) = (Vec::new(), Vec::new());
    let mut answer = Answer::of(plan(&bundle), &mask, &Expected { stream: false, ..expected(dialect) })?;
    for (at, chunk) in body.chunks(7).enumerate() {
        let end = (at + 1) * 7 >= body.len();
        out.extend(answer.push(chunk, end, plan(&bundle), Some(dialect), "id-1", NOW, &mut effects));
    }
    let by = effects.iter().find_map(|effect| match effect {
        Effect::Note("denied_by", by) => Some(by.clone()),
        _ => None,
    });
    assert_eq!(by.is_some(), answer.is_cut());
    Some((String::from_utf8(out).unwrap(), by))
}

#[test]
fn an_answer_of_any_dialect_is_screened_or_carries_no_text() {
    let silent = [
        Dialect::OpenAiEmbeddings,
        Dialect::OpenAiSpeech,
        Dialect::CountTokens,
        Dialect::GeminiEmbed,
        Dialect::CohereEmbed,
        Dialect::OllamaEmbed,
        Dialect::MiniMaxSpeech,
    ];
    for dialect in Dialect::ALL {
        // In a place that nobody knows, so that it holds in all of them.
        let body = json!({"news": {"x": ["of a@b.cn"]}}).to_string();
        let of = |rules: &str, body: &[u8]| answered(&format!("{{output: {{{rules}}}}}"), dialect, body);
        let Some((hidden, None)) = of("email: redact", body.as_bytes()) else {
            assert!(silent.contains(&dialect), "{dialect:?}");
            continue;
        };
        assert!(!silent.contains(&dialect), "{dialect:?}");
        assert_eq!(hidden, body.replace("a@b.cn", "[redacted]"), "{dialect:?}");
        assert_eq!(of("email: observe", body.as_bytes()), Some((body.clone(), None)), "{dialect:?}");
        let (said, by) = of("email: deny", body.as_bytes()).unwrap();
        assert!(by.as_deref() == Some("email") && !said.contains("a@b"), "{dialect:?}: {said}");
        serde_json::from_str::<Value>(&said).unwrap_or_else(|_| panic!("{dialect:?}: {said}"));
        for broken in [&b"{\"x\": a@b.cn}"[..], b"plain a@b.cn"] {
            let (said, by) = of("email: redact", broken).unwrap();
            assert!(by.as_deref() == Some("on_error") && !said.contains("a@b"), "{dialect:?}: {said}");
            let passed = of("email: redact, on_error: pass", broken);
            assert_eq!(passed, Some((String::from_utf8(broken.to_vec()).unwrap(), None)), "{dialect:?}");
        }
    }
}

#[test]
fn what_was_found_is_counted_where_an_answer_ends_by_trailers() {
    let bundle = bundle("{output: {email: observe}}");
    let mask = crate::scan::Mask::new(bundle.mask_key);
    let mut answer = Answer::of(plan(&bundle), &mask, &expected(Dialect::OpenAiChat)).unwrap();
    let mut effects = Vec::new();
    let chunk = delta("to a@b.cn now ");
    answer.push(chunk.as_bytes(), false, plan(&bundle), Some(Dialect::OpenAiChat), "id", NOW, &mut effects);
    assert!(counted(&effects, "findings_total").is_empty());
    answer.end(&mut effects);
    answer.end(&mut effects);
    assert_eq!(counted(&effects, "findings_total").len(), 1);
}

#[test]
fn what_is_told_again_is_counted_once() {
    let bundle = bundle("{output: {email: redact}}");
    let mask = crate::scan::Mask::new(bundle.mask_key);
    let mut answer = Answer::of(plan(&bundle), &mask, &expected(Dialect::OpenAiResponses)).unwrap();
    let delta =
        json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "to a@b.cn "});
    let done =
        json!({"type": "response.output_text.done", "output_index": 0, "content_index": 0, "text": "to a@b.cn "});
    let (mut out, mut effects) = (Vec::new(), Vec::new());
    for event in [&delta, &done] {
        let chunk = format!("data: {event}\n\n");
        out.extend(answer.push(
            chunk.as_bytes(),
            event == &done,
            plan(&bundle),
            Some(Dialect::OpenAiResponses),
            "id",
            NOW,
            &mut effects,
        ));
    }
    assert_eq!(String::from_utf8(out).unwrap().matches("[redacted]").count(), 2);
    assert_eq!(counted(&effects, "findings_total"), [(vec!["output".into(), "email".into(), "redact".into()], 1)]);
}

#[test]
fn what_goes_through_unmetered_is_screened_as_one_text() {
    let bundle = bundle("{output: {email: redact, phone: tag}}");
    let kind = |kind: &'static str| {
        Answer::unmetered(plan(&bundle), &bundle, None, Some(kind.as_bytes()), None).map(|mut answer| {
            let mut out = Vec::new();
            for (at, chunk) in [r#"{"a@"#, r#"b.cn": [13812"#, r#"345678, "of c@d"#, r#".cn"]}"#].iter().enumerate() {
                out.extend(answer.push(chunk.as_bytes(), at == 3, plan(&bundle), None, "id", NOW, &mut Vec::new()));
            }
            String::from_utf8(out).unwrap()
        })
    };
    let hidden = r#"{"[redacted]": ["[phone]", "of [redacted]"]}"#;
    for text in ["application/json", "text/plain", "application/octet-stream", ""] {
        assert_eq!(kind(text).as_deref(), Some(hidden), "{text}");
    }
    for other in ["image/png", "Audio/mpeg", "application/zip", "application/grpc+proto"] {
        assert_eq!(kind(other), None, "{other}");
    }
    // In a format that is known only the request could not be read.
    let mut answer = Answer::unmetered(plan(&bundle), &bundle, Some(Dialect::OpenAiChat), None, None).unwrap();
    let mut push = |chunk: &str, end| {
        let chat = Some(Dialect::OpenAiChat);
        String::from_utf8(answer.push(chunk.as_bytes(), end, plan(&bundle), chat, "id", NOW, &mut Vec::new())).unwrap()
    };
    let out = push(&delta("to a@"), false) + &push(&delta("b.cn now"), false) + &push("data: [DONE]\n\n", true);
    assert!(!out.contains("a@") && out.contains("[redacted]"), "{out}");
}

#[test]
fn what_turns_out_to_be_no_text_loses_no_byte() {
    let through = |security: &str, chunks: &[&[u8]]| {
        let bundle = bundle(security);
        let mut answer = Answer::unmetered(plan(&bundle), &bundle, None, None, None).unwrap();
        let mut push = |(at, chunk): (usize, &&[u8])| {
            answer.push(chunk, at + 1 == chunks.len(), plan(&bundle), None, "id", NOW, &mut Vec::new())
        };
        chunks.iter().enumerate().flat_map(&mut push).collect::<Vec<u8>>()
    };
    let pass = "{output: {email: redact, on_error: pass}}";
    for chunks in [
        [b"%PDF-1.7\nabc".as_slice(), b"\xff\xfe more", b" and abc"],
        [b"abc\xe4", b"\xb8 def", b"\xff"],
        [b"abc", b"def\xff", b"\xe4\xb8"],
        [b"abc", b"def", b"\xe4\xb8"],
    ] {
        assert_eq!(through(pass, &chunks), chunks.concat(), "{chunks:?}");
    }
    let out = through(pass, &[b"to a@b", b".cn and \xff", b"x"]);
    assert_eq!(out, b"to [redacted] and \xffx", "what could be read was screened");
    let out = through("{output: {email: deny, on_error: pass}}", &[b"to a@b", b".cn and \xff", b"x"]);
    assert!(!String::from_utf8_lossy(&out).contains("a@b"), "{out:?}");
}

#[test]
fn what_is_asked_unmetered_is_screened_as_one_text() {
    let of = |security: &str, body: Option<&[u8]>| {
        let bundle = bundle(security);
        let (mut tally, mut effects) = (Tally::default(), Vec::new());
        let content = Content::of(Some(b"multipart/form-data; boundary=b"));
        let vetted = unmetered(plan(&bundle), &bundle, body, &content, &mut tally);
        tally.show("input", "findings", &mut effects);
        let unread = counted(&effects, "unread_total").into_iter().next().map(|(labels, _)| labels[1].clone());
        (vetted.map(|told| told.map(|told| String::from_utf8(told).unwrap())).map_err(|denial| denial.rule), unread)
    };
    let text = br#"{"a@b.cn": 13812345678}"#.as_slice();
    let form = b"--b\r\n\r\na@b.cn\r\n--b\r\n\r\n\xff\xd8\r\n--b--".as_slice();
    assert_eq!(of("{}", Some(text)), (Ok(None), None));
    assert_eq!(of("{output: {email: deny}}", None), (Ok(None), None));
    assert_eq!(of("{input: {email: deny}}", Some(b"nothing")), (Ok(None), None));
    assert_eq!(of("{input: {email: deny}}", Some(text)), (Err("email".into()), None));
    assert_eq!(of("{input: {email: deny}}", Some(form)), (Err("email".into()), None));
    let hidden = r#"{"[email]": "[redacted]"}"#.to_owned();
    assert_eq!(of("{input: {email: pseudonym, phone: redact}}", Some(text)), (Ok(Some(hidden)), None));
    assert_eq!(of("{input: {email: observe}}", Some(text)), (Ok(None), None));
    assert_eq!(of("{input: {email: redact}}", Some(form)), (Err("on_error".into()), None));
    assert_eq!(of("{input: {email: redact, on_error: pass}}", Some(form)), (Ok(None), None));
    assert_eq!(of("{input: {email: redact}}", None), (Err("on_error".into()), Some("deny".into())));
    assert_eq!(of("{input: {email: redact, on_error: pass}}", None), (Ok(None), Some("pass".into())));
    assert_eq!(of("{input: {email: observe}}", None), (Ok(None), Some("pass".into())));
}

#[test]
fn a_text_in_other_letters_goes_by_on_error_and_what_is_no_text_passes() {
    let of = |security: &str, content_type: &str, body: &[u8]| {
        let bundle = bundle(security);
        let (mut tally, content) = (Tally::default(), Content::of(Some(content_type.as_bytes())));
        let vetted = unmetered(plan(&bundle), &bundle, Some(body), &content, &mut tally);
        assert_ne!(vetted, Ok(Some(Vec::new())));
        (vetted.is_ok(), tally.unread)
    };
    let utf16: Vec<u8> = "to a@b.cn".encode_utf16().flat_map(u16::to_le_bytes).chain([0, 0xd8]).collect();
    let marked = [b"\xff\xfe".as_slice(), &utf16].concat();
    // Without any letter that others have this is UTF-8 too, with zero bytes.
    let ascii: Vec<u8> = "to a@b.cn".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = "to a@b.cn".encode_utf16().flat_map(u16::to_be_bytes).collect();
    // It begins with a letter of others, so that this is UTF-8 with controls.
    let mixed: Vec<u8> = "中a@b.cn".encode_utf16().flat_map(u16::to_le_bytes).collect();
    // Letters of ours as a file has them in it: among what is no text.
    let profile = [b"\0\0\0\x0cmluc".as_slice(), &ascii, &[0, 0xd8, 1, 0]].concat();
    let form = |field: &[u8]| {
        let head = b"--b\r\nContent-Disposition: form-data; name=x\r\n\r\n".as_slice();
        [head, field, b"\r\n--b--\r\n"].concat()
    };
    let latin = b"caf\xe9 of nobody\n".as_slice();
    let picture = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\xff".as_slice();
    for (kind, body, text) in [
        ("text/plain; charset=utf-16", utf16.as_slice(), true),
        ("application/json", &utf16, true),
        ("Application/Vnd.x+JSON", latin, true),
        ("application/x-www-form-urlencoded", latin, true),
        ("", &marked, true),
        ("application/octet-stream", latin, true),
        ("text/plain; charset=utf-16", &ascii, true),
        ("application/json", &ascii, true),
        ("application/octet-stream", &ascii, true),
        ("", &big, true),
        ("", &mixed, true),
        ("application/octet-stream", &mixed, true),
        ("", &profile, false),
        ("multipart/form-data; boundary=b", form(&ascii).as_slice(), true),
        ("multipart/form-data; boundary=b", form(&utf16).as_slice(), true),
        ("multipart/form-data; boundary=b", form(b"caf\xc3\xa9").as_slice(), false),
        ("application/octet-stream", picture, false),
        ("", picture, false),
        ("multipart/form-data; boundary=b", latin, false),
    ] {
        let told = |security| of(security, kind, body);
        assert_eq!(told("{input: {email: deny}}"), (!text, text.then_some("deny")), "{kind} {body:?}");
        assert_eq!(told("{input: {email: deny, on_error: pass}}"), (true, text.then_some("pass")), "{kind} {body:?}");
        assert_eq!(told("{input: {email: observe}}"), (true, text.then_some("pass")), "{kind} {body:?}");
        assert_eq!(told("{}"), (true, None));
    }
}
