//! Work that goes on behind its answer is charged what is held.

use std::rc::Rc;

use crate::engine::effect::Effect;
use crate::engine::event::{Cause, Event};
use crate::engine::exchange::Exchange;
use crate::engine::vm::Vm;
use crate::now::Now;
use crate::policy;
use crate::sim::SharedData;
use crate::sim::call::header;

/// Its one key is `key-ann`.
const POLICY: &str = "farebox: 1
bundle: {name: later, version: '1'}
identity: [{key: [authorization]}]
models: {'*': {count: o200k_base}}
plans: {p: {tokens: {hold: {assume_input: 500}, caps: {day: {limit: 100000 tokens, per: seat, window: lifetime}}}}}
assign: [{otherwise: p}]
seats: {ann: {org: o, keys: ['sha256:a82937400c2cc11407f5bb2f9af56eded40d3002f15bdf996f5b70917bf8edb1']}}
";

const NOW: Now = Now { wall_ms: 1_795_608_000_000, mono_ms: 5 };

/// What was charged for a call to `path` that this answer came to, whole or broken off: the outcome, input and output.
fn charged(path: &str, body: &str, kind: &str, answer: &str, end: Option<Cause>) -> [String; 3] {
    let bundle = Rc::new(policy::compile(POLICY, "p").unwrap());
    let mut vm = Vm::new(Rc::clone(&bundle), 7, [7; 2]);
    let shared = Rc::new(SharedData::new());
    let mut exchange = Exchange::new(bundle, 1);
    let mut effects = Vec::new();
    let mut tell = |event: Event<'_>| {
        exchange.handle(event, NOW, &mut vm, &mut shared.cells(0), &mut effects);
    };
    let request = [header(":method", "POST"), header(":path", path), header("authorization", "Bearer key-ann")];
    tell(Event::RequestHeaders { headers: &request, peer: None, vouched: &[], end: false });
    tell(Event::RequestBody { body: body.as_bytes(), end: true });
    tell(Event::ResponseHeaders {
        headers: &[header(":status", "200"), header("content-type", kind)],
        upstream: true,
        attempts: 1,
        end: false,
    });
    tell(Event::ResponseBody { chunk: answer.as_bytes(), end: end.is_none() });
    if let Some(cause) = end {
        tell(Event::Over { cause, attempts: 1 });
    }
    ["outcome", "input", "output"].map(|name| {
        let told = effects.iter().find_map(|effect| match effect {
            Effect::Note(of, value) if *of == name => Some(value.clone()),
            _ => None,
        });
        told.unwrap_or_else(|| panic!("{name}: {effects:?}"))
    })
}

fn json(path: &str, body: &str, answer: &str) -> [String; 3] {
    charged(path, body, "application/json", answer, None)
}

#[test]
fn what_is_only_promised_is_charged_as_it_is_held() {
    let queued = r#"{"object":"response","status":"queued","usage":null,"output":[]}"#;
    let done = r#"{"object":"response","status":"completed","usage":{"input_tokens":5,"output_tokens":2},"output":[]}"#;
    let later = r#"{"model":"m","input":"Hi","max_output_tokens":300,"background":true}"#;
    let [outcome, input, output] = json("/v1/responses", later, queued);
    assert_eq!((&*outcome, &*output), ("complete_silent", "300"));
    // What was sent can be read, and so it is counted.
    assert!(input.parse::<u64>().unwrap() < 50, "{input}");
    assert_eq!(json("/v1/responses", later, done), ["complete", "5", "2"]);
    // Not so what the provider keeps.
    let kept = later.replace("\"background\"", "\"previous_response_id\":\"r\",\"background\"");
    assert_eq!(json("/v1/responses", &kept, queued), ["complete_silent", "500", "300"]);
    // xAI and Zhipu.
    let chat = r#"{"model":"m","max_tokens":300,"messages":[{"role":"user","content":"Hi"}],"deferred":true}"#;
    assert_eq!(json("/v1/chat/completions", chat, r#"{"request_id":"r"}"#)[2], "300");
    let plain = chat.replace(",\"deferred\":true", "");
    let receipt = r#"{"id":"1","task_status":"PROCESSING"}"#;
    assert_eq!(json("/api/paas/v4/async/chat/completions", &plain, receipt)[2], "300");
    // An answer that is silent and has come is no promise.
    let said = r#"{"choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}]}"#;
    assert!(json("/v1/chat/completions", chat, said)[2].parse::<u64>().unwrap() < 20);
}

#[test]
fn who_hangs_up_does_not_end_what_goes_on() {
    let body = r#"{"model":"m","input":"Hi","max_output_tokens":300,"stream":true,"background":true}"#;
    let begun = "data: {\"type\":\"response.in_progress\",\"response\":{\"status\":\"in_progress\"}}\n\n";
    let gone = |body: &str| charged("/v1/responses", body, "text/event-stream", begun, Some(Cause::ClientAbort));
    let [outcome, _, output] = gone(body);
    assert_eq!((&*outcome, &*output), ("aborted", "300"));
    let [outcome, _, output] = gone(&body.replace(",\"background\":true", ""));
    assert_eq!((&*outcome, &*output), ("aborted", "0"));
}
