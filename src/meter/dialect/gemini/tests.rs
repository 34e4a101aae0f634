//! What Gemini reads and writes of tools, at either of its hosts; the figures are those of recorded exchanges, or near them.

use crate::meter::call::{Call, read_call};
use crate::meter::count::Encoding;
use crate::meter::dialect::{Dialect, Host, Route};
use crate::meter::media::Media;
use crate::meter::reader::Reader;

const VERTEX: &str = "/v1/projects/p/locations/l/publishers/google/models/gemini-2.5-flash:generateContent";
const API: &str = "/v1beta/models/gemini-2.5-flash:generateContent";

/// A call with this conversation and the one tool; its instructions stand behind it.
fn call(path: &str, contents: &str) -> Call {
    let body = format!(
        r#"{{"contents":[{contents}],"systemInstruction":{{"parts":[{{"text":"You are a helpful assistant"}}]}},
        "tools":[{{"functionDeclarations":[{{"name":"weather","description":"Get weather information for a location",
        "parameters":{{"type":"OBJECT","properties":{{"location":{{"type":"STRING","description":"the city"}}}},
        "required":["location"]}}}}]}}]}}"#
    );
    let mut call = read_call(Dialect::GeminiGenerate, body.as_bytes()).unwrap();
    call.take_route(&Route::of(b"POST", path.as_bytes()).unwrap());
    call
}

const ASKS: &str = r#"{"role":"user","parts":[{"text":"What's the weather in Florence,Italy?"}]}"#;

/// The conversation goes on with a call, signed or not, and its result.
fn going_on(signature: &str) -> String {
    let call = r#"{"name":"weather","args":{"location":"Florence,Italy"}}"#;
    format!(
        r#"{ASKS},{{"role":"model","parts":[{{"functionCall":{call}{signature}}}]}},
        {{"role":"user","parts":[{{"functionResponse":{{"name":"weather","response":{{"result":"40 C"}}}}}}]}}"#
    )
}

#[test]
fn instructions_behind_a_conversation_begin_no_turn() {
    assert!(call(API, ASKS).begins_turn);
    assert!(!call(API, &going_on("")).begins_turn);
}

#[test]
fn vertex_counts_words_and_the_api_what_is_written_out() {
    let counted = |path: &str, contents: &str| call(path, contents).count_input(Encoding::O200kBase);
    // 28 were reported; another name of the model, with the same contents, 40.
    assert_eq!([ASKS, &going_on("")].map(|contents| counted(VERTEX, contents)), [27, 38]);
    assert_eq!([ASKS, &going_on("")].map(|contents| counted(API, contents)), [55, 86]);
    let old = API.replace("2.5", "2.0");
    assert_eq!(counted(&old, ASKS), counted(VERTEX, ASKS));
}

/// Signatures of 2.5 are read with the only call of a turn that goes on, an eighth of their bytes.
#[test]
fn signatures_are_read_again_with_an_only_call() {
    let more = |contents: &dyn Fn(&str) -> String| {
        let signature = format!(r#","thoughtSignature":"{}""#, "A".repeat(800));
        let counted = |signature: &str| call(VERTEX, &contents(signature)).count_input(Encoding::O200kBase);
        counted(&signature) - counted("")
    };
    assert_eq!(more(&going_on), 802 / 8);
    assert_eq!(more(&|signature: &str| format!("{},{ASKS}", going_on(signature))), 0);
    assert_eq!(more(&|signature: &str| format!("{},{}", going_on(""), going_on(signature))), 0);
}

/// What an answer with this call comes to.
fn written(host: Host, args: &str) -> u64 {
    let call = format!(r#"{{"functionCall":{{"name":"add","args":{args}}}}}"#);
    let body = format!(r#"{{"candidates":[{{"content":{{"parts":[{call}]}},"finishReason":"STOP"}}]}}"#);
    let json = Some(&b"application/json"[..]);
    let mut reader = Reader::new(Dialect::GeminiGenerate, Encoding::O200kBase, 200, json, None, false);
    reader.push(body.as_bytes(), true);
    assert!(reader.finished() && reader.tool_calls() == 1);
    reader.written("gemini-2.5-flash", host)
}

#[test]
fn calls_are_counted_as_their_host_counts_them() {
    // However the server indents them: 5 and 18 were reported.
    for args in [r#"{"a":2,"b":3}"#, "{\n  \"a\": 2,\n  \"b\": 3\n}"] {
        assert_eq!((written(Host::Any, args), written(Host::GeminiApi, args)), (5, 17), "{args}");
    }
    let long = format!(r#"{{"a":"{}"}}"#, "word ".repeat(20_000));
    assert!(written(Host::Any, &long) >= 20_000);
}

#[test]
fn a_picture_is_one_with_or_without_a_step_around_it() {
    let picture = r#"{"type":"image","data":"iVBORw0KGgo=","mime_type":"image/png"}"#;
    for input in [picture, &format!("[{picture}]"), &format!(r#"[{{"role":"user","content":[{picture}]}}]"#)] {
        let body = format!(r#"{{"model":"m","input":{input}}}"#);
        let call = read_call(Dialect::GeminiInteractions, body.as_bytes()).unwrap();
        assert_eq!((call.media.as_slice(), call.open), (&[Media::Image][..], None), "{input}");
    }
}
