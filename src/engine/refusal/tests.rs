//! One golden file for each dialect and kind, and the laws that hold for all of them.

use std::fmt::Write as _;

use serde_json::Value;

use super::{PATIENCE_S, reply};
use crate::engine::denial::{Denial, Kind, LimitView};
use crate::engine::effect::Reply;
use crate::meter::dialect::Dialect;
use crate::now::Now;
use crate::policy::unit::Unit;

const DIALECTS: [(&str, Option<Dialect>); 10] = [
    ("openai-chat", Some(Dialect::OpenAiChat)),
    ("anthropic-messages", Some(Dialect::AnthropicMessages)),
    ("unknown", None),
    ("gemini-generate", Some(Dialect::GeminiGenerate)),
    ("bedrock-converse", Some(Dialect::BedrockConverse)),
    ("cohere-chat", Some(Dialect::CohereChat)),
    ("ollama-chat", Some(Dialect::OllamaChat)),
    ("dashscope", Some(Dialect::DashScope)),
    ("minimax-speech", Some(Dialect::MiniMaxSpeech)),
    ("generate", Some(Dialect::Generate)),
];

/// Where each family of bodies has its words for the caller.
fn words(body: &Value) -> &str {
    let places = ["/error/message", "/error", "/message", "/base_resp/status_msg"];
    places.iter().find_map(|place| body.pointer(place).and_then(Value::as_str)).expect("a message")
}

/// 2026-11-25T02:00:00Z.
const NOW: Now = Now { wall_ms: 1_795_572_000_000, mono_ms: 5_000 };
const ID: &str = "7d1f-3-1-42";

fn limit(name: &str, unit: Unit, window_s: Option<u64>, resets_in_ms: Option<u64>) -> LimitView {
    let resets_ms = resets_in_ms.map(|ms| NOW.wall_ms + ms);
    LimitView { name: name.into(), limit: 20_000, remaining: 12, resets_ms, unit, window_s }
}

fn denial(kind: Kind) -> Denial {
    let guard = |rule: &str, outside: &str| Denial::guard(kind, rule, outside, "for the operator only");
    match kind {
        Kind::Unauthenticated => guard("identity", "the key is not known here; ask for one"),
        Kind::Conflict => guard("identity", "two different keys were sent; send one"),
        Kind::Forbidden => guard("models", "the plan does not include the model `demo-\"big\"`"),
        Kind::Malformed => Denial::malformed("says `model` twice"),
        Kind::Unbounded => Denial::unbounded("an image by URL"),
        Kind::TooLarge => Denial::too_large(8 << 20),
        Kind::TooLong => guard("longest", "prompt is too long: 128001 tokens > 128000 maximum"),
        Kind::UnknownModel => Denial::unknown_model("gpt-9"),
        Kind::UnknownPath => Denial::unknown_path(),
        Kind::Rate => Denial {
            retry_ms: Some(2_001),
            limit: Some(Box::new(limit("pace", Unit::Tokens, Some(60), Some(36_500)))),
            ..guard("pace", "`pace` allows 20000 tokens per 1m; slow down")
        },
        Kind::Oversized => Denial {
            limit: Some(Box::new(limit("pace", Unit::Tokens, Some(60), None))),
            ..guard("pace", "this call may need 30000 tokens and `pace` never lets more than 20000 through")
        },
        Kind::Exhausted => Denial {
            limit: Some(Box::new(limit("month", Unit::Tokens, Some(2_592_000), Some(482_400_000)))),
            ..guard("month", "the fund `month` is used up")
        },
        Kind::Unavailable => Denial::unavailable("month", "no grant in time", 1_000),
        Kind::Late => guard("first_token", "the model did not begin to answer within 1m; try again"),
        Kind::Overlong => guard("duration", "the answer takes longer than the 15m that the plan allows; ask for less"),
    }
}

fn header<'r>(reply: &'r Reply, name: &str) -> Option<&'r str> {
    let mut values = reply.headers.iter().filter(|(at, _)| at == name).map(|(_, value)| value.as_str());
    let value = values.next();
    assert_eq!(values.next(), None, "{name} twice");
    value
}

fn body(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).expect("a JSON body")
}

fn written(reply: &Reply) -> String {
    let mut out = format!("HTTP {}\n", reply.status);
    for (name, value) in &reply.headers {
        writeln!(out, "{name}: {value}").expect("writing to a string");
    }
    format!("{out}\n{:#}\n", body(reply))
}

fn golden(name: &str, reply: &Reply) {
    store(name, &written(reply));
}

fn store(name: &str, written: &str) {
    insta::with_settings!({
        snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/refusal"),
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, {
        insta::assert_snapshot!(name, written);
    });
}

#[test]
fn each_dialect_says_each_kind() {
    for (dialect_name, dialect) in &DIALECTS[..3] {
        for kind in Kind::ALL {
            golden(&format!("{dialect_name}.{}", kind.name()), &reply(*dialect, &denial(kind), ID, NOW));
        }
    }
}

#[test]
fn dialects_without_limit_headers_say_each_kind_in_few_words() {
    for (dialect_name, dialect) in &DIALECTS[3..] {
        let written = Kind::ALL.map(|kind| written(&reply(*dialect, &denial(kind), ID, NOW)));
        store(dialect_name, &written.join("\n"));
    }
}

#[test]
fn each_dialect_says_each_unit_in_its_own_headers() {
    let units = [
        ("requests", Unit::Requests, Some(18_000)),
        ("concurrent", Unit::Requests, None),
        ("input", Unit::InputTokens, Some(18_000)),
        ("output", Unit::OutputTokens, Some(18_000)),
        ("credits", Unit::Credits, Some(18_000)),
    ];
    for (dialect_name, dialect) in &DIALECTS[..3] {
        for (unit_name, unit, window_s) in units {
            let resets = window_s.map(|_| 3_600_000);
            let limit = Some(Box::new(limit("quota", unit, window_s, resets)));
            let denial = Denial { retry_ms: resets, limit, ..denial(Kind::Rate) };
            golden(&format!("{dialect_name}.rate-{unit_name}"), &reply(*dialect, &denial, ID, NOW));
        }
    }
}

fn all() -> impl Iterator<Item = (Kind, Reply)> {
    DIALECTS
        .into_iter()
        .flat_map(|(_, dialect)| Kind::ALL.into_iter().map(move |kind| (kind, reply(dialect, &denial(kind), ID, NOW))))
}

#[test]
fn only_what_time_cures_invites_a_retry() {
    for (kind, reply) in all() {
        let invited = matches!(kind, Kind::Rate | Kind::Unavailable | Kind::Late);
        assert_eq!(header(&reply, "x-should-retry"), Some(if invited { "true" } else { "false" }), "{kind:?}");
        // When an upstream will be faster nobody knows.
        assert_eq!(header(&reply, "retry-after").is_some(), invited && kind != Kind::Late, "{kind:?}");
    }
}

#[test]
fn the_decision_is_in_message_and_headers_and_the_operators_part_is_not() {
    for (kind, reply) in all() {
        let names = ["x-request-id", "request-id", "x-amzn-requestid"];
        let id = names.iter().find_map(|name| header(&reply, name));
        assert_eq!(id, Some(ID), "{kind:?}");
        let text = written(&reply);
        assert!(words(&body(&reply)).ends_with("(decision 7d1f-3-1-42)"));
        assert!(!text.contains("operator"), "{text}");
        assert!(!text.contains("x-farebox"), "{text}");
    }
}

#[test]
fn waits_are_whole_seconds_rounded_up_and_long_ones_are_told_but_not_invited() {
    let waits = [(Some(1), "1", "true"), (Some(1000), "1", "true"), (Some(1001), "2", "true")];
    let edge = PATIENCE_S * 1000;
    let long = [(Some(edge), "120", "true"), (Some(edge + 1), "121", "false"), (Some(18_000_000), "18000", "false")];
    for (retry_ms, after, invited) in waits.into_iter().chain(long) {
        let denial = Denial { retry_ms, ..denial(Kind::Rate) };
        let reply = reply(Some(Dialect::AnthropicMessages), &denial, ID, NOW);
        assert_eq!((header(&reply, "retry-after"), header(&reply, "x-should-retry")), (Some(after), Some(invited)));
    }
    let unknown = Denial { retry_ms: None, ..denial(Kind::Rate) };
    let reply = reply(Some(Dialect::OpenAiChat), &unknown, ID, NOW);
    assert_eq!((header(&reply, "retry-after"), header(&reply, "x-should-retry")), (None, Some("true")));
}

#[test]
fn an_exhausted_fund_never_says_retry_after_whatever_it_was_given() {
    let denial = Denial { retry_ms: Some(1000), ..denial(Kind::Exhausted) };
    let reply = reply(Some(Dialect::OpenAiChat), &denial, ID, NOW);
    assert_eq!(header(&reply, "retry-after"), None);
}

#[test]
fn header_names_are_lower_case_and_values_cannot_break_a_line() {
    let mut forged = denial(Kind::Rate);
    if let Some(limit) = &mut forged.limit {
        limit.name = "a\r\nset-cookie: x".into();
    }
    let forged = DIALECTS.map(|(_, dialect)| (Kind::Rate, reply(dialect, &forged, ID, NOW)));
    for (_, reply) in all().chain(forged) {
        for (name, value) in &reply.headers {
            assert!(name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'-')), "{name}");
            assert!(value.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{value}");
        }
    }
}

/// What clients of a dialect look for in an error: the places of its parts, all of which are text but those in braces, which
/// are numbers.
fn parts(dialect: Dialect) -> &'static [&'static str] {
    match dialect {
        Dialect::CountTokens | Dialect::Rerank | Dialect::Bytes => &["/error/message"],
        Dialect::OpenAiChat
        | Dialect::OpenAiResponses
        | Dialect::OpenAiCompletions
        | Dialect::OpenAiEmbeddings
        | Dialect::OpenAiModerations
        | Dialect::OpenAiImages
        | Dialect::OpenAiSpeech
        | Dialect::OpenAiTranscription => &["/error/message", "/error/type"],
        Dialect::AnthropicMessages | Dialect::AnthropicComplete => &["/type", "/error/type", "/error/message"],
        Dialect::GeminiGenerate | Dialect::GeminiEmbed | Dialect::GeminiInteractions | Dialect::VertexPredict => {
            &["/error/message", "/error/status", "{/error/code}"]
        }
        Dialect::BedrockConverse | Dialect::BedrockInvoke => &["/message"],
        Dialect::CohereChat | Dialect::CohereGenerate | Dialect::CohereEmbed => &["/message"],
        Dialect::OllamaChat | Dialect::OllamaGenerate | Dialect::OllamaEmbed => &["/error"],
        Dialect::DashScope => &["/code", "/message", "/request_id"],
        Dialect::MiniMaxSpeech | Dialect::MiniMaxMedia => &["{/base_resp/status_code}", "/base_resp/status_msg"],
        Dialect::Generate => &["/error", "/error_type"],
    }
}

#[test]
fn every_dialect_says_every_kind_where_its_clients_look() {
    for dialect in Dialect::ALL {
        for kind in Kind::ALL {
            let denial = denial(kind);
            let reply = reply(Some(dialect), &denial, ID, NOW);
            let told = body(&reply);
            for part in parts(dialect) {
                let number = part.strip_prefix('{').and_then(|part| part.strip_suffix('}'));
                let found = told.pointer(number.unwrap_or(part));
                let fine = match number {
                    Some(_) => found.and_then(Value::as_u64).is_some_and(|code| code > 0),
                    None => found.and_then(Value::as_str).is_some_and(|text| !text.is_empty()),
                };
                assert!(fine, "{dialect:?} {kind:?}: {part} in {told}");
            }
            assert!((400..600).contains(&reply.status), "{dialect:?} {kind:?}: {}", reply.status);
            assert!(words(&told).contains(ID), "{dialect:?} {kind:?}: {told}");
            assert!(!told.to_string().contains("for the operator only"), "{dialect:?} {kind:?}: {told}");
            if matches!(dialect, Dialect::BedrockConverse | Dialect::BedrockInvoke) {
                assert!(header(&reply, "x-amzn-errortype").is_some_and(|name| name.ends_with("Exception")), "{kind:?}");
            }
        }
    }
}
