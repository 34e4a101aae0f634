//! What is screened of a request besides what its dialect says of it.

use serde_json::{Value, json};

use super::{Leeway, SHORTEST};
use crate::meter::call::{Call, read_call};
use crate::meter::count::Encoding;
use crate::meter::dialect::Dialect;

fn call(dialect: Dialect, body: &Value) -> Call {
    read_call(dialect, body.to_string().as_bytes()).unwrap()
}

#[test]
fn numbers_are_screened_wherever_texts_are() {
    let n = 4_111_111_111_111_111_u64;
    let body = json!({"model": "m", "user": n, "x": n, "y": [1, {"z": n}], "seed": n, "max_tokens": 5000, "temperature": 0.123_456_789,
        "metadata": {"of": n, "small": 999}, "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": n}]});
    let call = call(Dialect::OpenAiChat, &body);
    let numbers: Vec<_> = call.strings().filter(|written| written.text.as_ref() == n.to_string()).collect();
    assert_eq!(numbers.len(), 5);
    for written in &numbers {
        assert_eq!(&call.body()[written.at.clone()], n.to_string().as_bytes());
    }
    let others = call.strings().filter(|written| written.text.starts_with(|first: char| first.is_ascii_digit()));
    assert_eq!(others.count(), 5, "what decides cost, seeds and short numbers are nobody's");
    let short = json!({"model": "m", "x": 1, "messages": []});
    let long = json!({"model": "m", "x": n, "messages": []});
    let tokens = |body| self::call(Dialect::OpenAiChat, body).input_bound(Encoding::O200kBase);
    assert_eq!(tokens(&short), tokens(&long), "numbers are screened, and count as little as ever");
}

#[test]
fn a_number_has_any_form_that_json_has() {
    for (number, seen) in
        [("4111111111111111", true), ("-1234", true), ("1234.5", true), ("999", false), ("0.123456", false)]
    {
        let body = format!("{{\"model\":\"m\",\"metadata\":{{\"a\" : {number} ,\"b\":[{number}]}},\"messages\":[]}}");
        let call = read_call(Dialect::OpenAiChat, body.as_bytes()).unwrap();
        assert_eq!(
            call.strings().filter(|written| written.text == number).count(),
            if seen { 2 } else { 0 },
            "{number}"
        );
    }
}

#[test]
fn exponents_are_written_out() {
    for (number, told) in [
        ("4.111111111111111e15", "4111111111111111"),
        ("4.111111111111111E+15", "4111111111111111"),
        ("0.4111111111111111e16", "4111111111111111"),
        ("41111111111111110e-1", "4111111111111111"),
        ("4.1111111111111115e15", "4111111111111111.5"),
        ("-1.5e3", "1500"),
        ("12e9", "12000000000"),
        ("1e-3", "1e-3"),
        ("1e-1", ".1"),
        ("1234e99999999999", "1234e99999999999"),
        ("1e400", "1e400"),
    ] {
        let body = format!("{{\"model\":\"m\",\"metadata\":{{\"a\":{number}}},\"messages\":[]}}");
        let call = read_call(Dialect::OpenAiChat, body.as_bytes()).unwrap();
        let texts: Vec<_> = call.strings().filter(|written| written.text != "a").collect();
        assert_eq!(texts.iter().map(|written| written.text.as_ref()).collect::<Vec<_>>(), [told], "{number}");
        assert_eq!(&call.body()[texts[0].at.clone()], number.as_bytes());
    }
}

#[test]
fn bounds_in_schemas_stay_numbers() {
    let n = 4_111_111_111_111_111_u64;
    let schema = json!({"type": "object", "maxProperties": n, "properties": {
        "a": {"minimum": n, "const": n}, "default": {"maximum": n, "enum": [[n], {"minimum": n}], "multipleOf": n},
        "properties": {"examples": [n], "minimum": n}}, "default": {"a": n}, "$defs": {"const": {"minimum": n}}});
    let chat = json!({"model": "m", "messages": [], "tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}]});
    let format = json!({"model": "m", "messages": [], "response_format": {"type": "json_schema", "json_schema": {"name": "f", "schema": schema}}});
    let google = json!({"contents": [], "tools": [{"functionDeclarations": [{"name": "f", "parameters": schema}]}]});
    for (dialect, body) in
        [(Dialect::OpenAiChat, chat), (Dialect::OpenAiChat, format), (Dialect::GeminiGenerate, google)]
    {
        let call = call(dialect, &body);
        assert_eq!(call.strings().filter(|written| written.text == n.to_string()).count(), 5, "{body}");
    }
}

#[test]
fn a_seed_is_one_where_requests_have_it() {
    let n = 4_111_111_111_111_111_u64;
    let input = json!([{"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"seed": n, "options": {"seed": n}}}]}]);
    for (dialect, body, seen) in [
        (Dialect::OpenAiChat, json!({"model": "m", "messages": [], "seed": n, "metadata": {"seed": n}, "user": n}), 2),
        (Dialect::AnthropicMessages, json!({"model": "m", "max_tokens": 9, "messages": input}), 2),
        (Dialect::GeminiGenerate, json!({"contents": [], "generationConfig": {"seed": n}, "labels": {"seed": n}}), 1),
        (Dialect::OllamaChat, json!({"model": "m", "messages": [], "options": {"seed": n}}), 0),
    ] {
        let call = call(dialect, &body);
        assert_eq!(call.strings().filter(|written| written.text == n.to_string()).count(), seen, "{body}");
    }
}

#[test]
fn settings_are_told_from_what_somebody_wrote() {
    let body = json!({"model": "m", "messages": [], "tool_choice": {"function": {"name": "a"}}, "service_tier": "b", "metadata": {"tool_choice": "c"},
        "stop": ["d"], "user": "e"});
    let call = call(Dialect::OpenAiChat, &body);
    let settings: Vec<_> = call.strings().filter(|written| written.setting).map(|written| written.text).collect();
    assert_eq!(settings, ["b", "function", "name", "a"]);
    let body = json!({"contents": [], "toolConfig": {"functionCallingConfig": {"mode": "ANY"}},
        "generationConfig": {"stopSequences": ["a"], "response_mime_type": "text/plain", "mediaResolution": "b"}});
    let call = self::call(Dialect::GeminiGenerate, &body);
    let written: Vec<_> = call.strings().filter(|written| !written.setting).map(|written| written.text).collect();
    assert_eq!(written, ["a"]);
}

#[test]
fn names_of_members_are_told_from_values() {
    let body = br#"{"model":"m","metadata":{"a" : "a","b":["a",{"a":1}]},"messages":[]}"#;
    let call = read_call(Dialect::OpenAiChat, body).unwrap();
    let names: Vec<_> = call.strings().map(|written| (call.is_name(&written.at), written.text)).collect();
    let wanted = [(true, "a"), (false, "a"), (true, "b"), (false, "a"), (true, "a")];
    assert_eq!(names, wanted.map(|(name, text)| (name, text.into())));
}

#[test]
fn credentials_stand_where_servers_of_tools_have_them() {
    let cases = [
        (
            Dialect::OpenAiResponses,
            json!({"input": "hi", "tools": [{"type": "mcp", "server_label": "a", "authorization": "S", "headers": {"x": "S"}, "server_url": "no"},
            {"type": "function", "name": "f", "authorization": "no", "parameters": {"authorization": "no"}}], "authorization": "no"}),
            2,
        ),
        (
            Dialect::AnthropicMessages,
            json!({"max_tokens": 5, "messages": [], "mcp_servers": [{"type": "url", "url": "no", "name": "a", "authorization_token": "S"}],
            "tools": [{"type": "mcp_toolset", "mcp_server_name": "a"}], "metadata": {"authorization_token": "no"}}),
            1,
        ),
        (
            Dialect::GeminiGenerate,
            json!({"contents": [], "tools": [{"mcpServers": [{"name": "a", "streamableHttpTransport": {"url": "no", "headers": {"x": "S"}}}]}]}),
            1,
        ),
        (
            Dialect::GeminiInteractions,
            json!({"model": "m", "input": "hi", "tools": [{"type": "mcp_server", "name": "a", "url": "no", "headers": {"x": "S"}}]}),
            1,
        ),
        (
            Dialect::OpenAiChat,
            json!({"model": "m", "messages": [], "tools": [{"type": "mcp", "authorization": null, "headers": {}}], "mcp_servers": "none"}),
            0,
        ),
    ];
    for (dialect, body, found) in cases {
        let call = call(dialect, &body);
        let credentials = call.credentials();
        assert_eq!(credentials.len(), found, "{body}");
        for at in credentials {
            let raw = std::str::from_utf8(&call.body()[at]).unwrap();
            assert!(raw.contains("\"S\"") && !raw.contains("no"), "{raw}");
        }
    }
}

#[test]
fn what_is_put_in_keeps_to_the_letters_and_the_length_of_its_field() {
    assert_eq!(Leeway::Plain.spell("[EMAIL_1] [email:5f] 中".to_owned()), "-email_1---email-5f--中");
    assert_eq!(Leeway::Short.spell("[EMAIL_1]".to_owned()), "[EMAIL_1]");
    let (short, long) = ("é".repeat(SHORTEST), "é".repeat(SHORTEST + 1));
    for leeway in [Leeway::Plain, Leeway::Short] {
        assert!(leeway.takes("a", &short) && leeway.takes(&long, &long) && !leeway.takes("a", &long));
    }
    assert!(Leeway::Any.takes("a", &long));
}
