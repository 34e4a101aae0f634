//! Work that goes on behind its answer is charged what is held.

use std::rc::Rc;

use crate::engine::effect::{Effect, Flow};
use crate::engine::event::{Cause, Event};
use crate::engine::exchange::Exchange;
use crate::engine::vm::Vm;
use crate::now::Now;
use crate::policy;
use crate::quota::{MICRO, read_account};
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
    settled(POLICY, (path, &[]), body, (kind, answer), end).0
}

/// The same under another policy and with more request headers; and what each quota of its plan is charged.
fn settled(
    policy: &str,
    (path, more): (&str, &[(&str, &str)]),
    body: &str,
    (kind, answer): (&str, &str),
    end: Option<Cause>,
) -> ([String; 3], Vec<(String, u64)>) {
    let bundle = Rc::new(policy::compile(policy, "p").unwrap_or_else(|faults| panic!("{faults:?}")));
    let mut vm = Vm::new(Rc::clone(&bundle), 7, [7; 2]);
    let shared = Rc::new(SharedData::new());
    let mut exchange = Exchange::new(Rc::clone(&bundle), 1);
    let mut effects = Vec::new();
    let mut tell = |event: Event<'_>| exchange.handle(event, NOW, &mut vm, &mut shared.cells(0), &mut effects);
    let mut request = vec![header(":method", "POST"), header(":path", path), header("authorization", "Bearer key-ann")];
    request.extend(more.iter().map(|(name, value)| header(name, value)));
    tell(Event::RequestHeaders { headers: &request, peer: None, vouched: &[], end: false });
    let flow = tell(Event::RequestBody { body: body.as_bytes(), end: true });
    assert!(matches!(flow, Flow::Continue), "{flow:?}");
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
    let notes = ["outcome", "input", "output"].map(|name| {
        let told = effects.iter().find_map(|effect| match effect {
            Effect::Note(of, value) if *of == name => Some(value.clone()),
            _ => None,
        });
        told.unwrap_or_else(|| panic!("{name}: {effects:?}"))
    });
    let account = read_account(&vm.keys, &bundle.seats[0].subjects[0], &mut shared.cells(0)).unwrap().unwrap();
    let quotas = bundle.plans[0].quotas.iter().filter(|quota| quota.takes("m"));
    let used = quotas.map(|quota| {
        let standing = account.standing(&quota.quota, NOW).unwrap();
        assert_eq!(standing.held, 0, "{}", quota.name);
        (quota.name.clone(), standing.used / MICRO)
    });
    (notes, used.collect())
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

/// The policy with these caps.
fn capped(caps: &str) -> String {
    let text = POLICY
        .replace("caps: {day: {limit: 100000 tokens, per: seat, window: lifetime}}", &format!("caps: {{{caps}}}"));
    assert_ne!(text, POLICY);
    text
}

/// What each of these caps is charged.
fn caps(caps: &str, path: &str, body: &str, answer: &str) -> Vec<u64> {
    let used = settled(&capped(caps), (path, &[]), body, ("application/json", answer), None).1;
    used.into_iter().map(|(_, used)| used).collect()
}

#[test]
fn what_is_held_is_charged_and_neither_more_nor_less() {
    let queued = r#"{"object":"response","status":"queued","usage":null,"output":[]}"#;
    let later = r#"{"model":"m","input":"Hi","max_output_tokens":3000,"background":true,"tools":[{"type":"function","name":"f"}]}"#;
    let cap = |name: &str, unit: &str, more: &str| {
        format!("{name}: {{limit: 100000 {unit}, per: seat, window: lifetime{more}}}")
    };
    // The expected size, where that is what is held: an answer of 1,024 tokens, as nothing is known of the model.
    let worst = cap("worst", "output tokens", "");
    let expected = cap("expected", "output tokens", ", hold: expected");
    assert_eq!(caps(&format!("{worst}, {expected}"), "/v1/responses", later, queued), [3_000, 1_024]);
    // What nobody can see of it, too.
    let unseen =
        [cap("reasoning", "reasoning tokens", ""), cap("calls", "tool calls", ""), cap("made", "requests", "")];
    assert_eq!(caps(&unseen.join(", "), "/v1/responses", later, queued), [3_000, 1, 1]);
    // What runs at this moment does not any more.
    let live = "live: {limit: 4 requests, per: seat, window: concurrent}, day: {limit: 9 requests, per: seat, window: lifetime}";
    assert_eq!(caps(live, "/v1/responses", later, queued), [0, 1]);
}

#[test]
fn funds_are_charged_what_each_of_them_holds() {
    let queued = r#"{"object":"response","status":"queued","usage":null,"output":[]}"#;
    let later = r#"{"model":"m","input":"Hi","max_output_tokens":3000,"background":true}"#;
    let plan = "caps: {day: {limit: 100000 tokens, per: seat, window: lifetime}}";
    let funds = "funds: {first: {amount: 1000 output tokens, per: seat, window: lifetime}, \
                 second: {amount: 9000 output tokens, per: seat, window: lifetime}}, empty: [deny], caps: {\
                 of-first: {limit: 9 requests, per: seat, window: lifetime, of: first}, \
                 of-second: {limit: 9 requests, per: seat, window: lifetime, of: second}}";
    let of = |output: &str| {
        let body = later.replace("3000", output);
        let policy = POLICY.replace(plan, funds);
        let used = settled(&policy, ("/v1/responses", &[]), &body, ("application/json", queued), None).1;
        used.into_iter().map(|(_, used)| used).collect::<Vec<_>>()
    };
    assert_eq!(of("3000"), [1_000, 2_000, 1, 1]);
    assert_eq!(of("900"), [900, 0, 1, 0]);
}

#[test]
fn films_are_charged_by_what_they_ask_for() {
    let units = ["seconds", "images", "requests"]
        .map(|unit| format!("{unit}: {{limit: 1000 {unit}, per: seat, window: lifetime}}"));
    let of = |path: &str, body: &str, answer: &str| caps(&units.join(", "), path, body, answer);
    let task = r#"{"task_id":"1","base_resp":{"status_code":0,"status_msg":"success"}}"#;
    let refused = r#"{"task_id":"","base_resp":{"status_code":1008,"status_msg":"insufficient balance"}}"#;
    let film = r#"{"model":"m","prompt":"a cat","duration":10}"#;
    assert_eq!(of("/v1/video_generation", film, task), [10, 0, 1]);
    assert_eq!(of("/v1/video_generation", film, refused), [0, 0, 0]);
    let queued = r#"{"id":"video_1","object":"video","status":"queued","error":null,"seconds":"8"}"#;
    assert_eq!(of("/v1/videos", r#"{"model":"m","prompt":"a cat","seconds":"8"}"#, queued), [8, 0, 1]);
    assert_eq!(of("/v1/videos", r#"{"model":"m"}"#, r#"{"error":{"code":"x","message":"no"}}"#), [0, 0, 0]);
    let zhipu = r#"{"id":"1","request_id":"2","task_status":"PROCESSING"}"#;
    assert_eq!(of("/api/paas/v4/videos/generations", r#"{"model":"m","prompt":"a cat"}"#, zhipu), [5, 0, 1]);
    let images = r#"{"model":"m","input":{"prompt":"a cat"},"parameters":{"n":3}}"#;
    let pending = r#"{"output":{"task_status":"PENDING","task_id":"1"},"request_id":"r"}"#;
    let synthesis = "/api/v1/services/aigc/text2image/image-synthesis";
    assert_eq!(of(synthesis, images, pending), [0, 3, 1]);
    assert_eq!(of(synthesis, images, r#"{"code":"InvalidParameter","message":"no","request_id":"r"}"#), [0, 0, 0]);
    // Told in tokens too, at Ark.
    let tokens = "tokens: {limit: 900000 output tokens, per: seat, window: lifetime}";
    let content = r#"{"model":"m","content":[{"type":"text","text":"a cat --rs 480p --dur 4"}]}"#;
    let ark = "/api/v3/contents/generations/tasks";
    assert_eq!(caps(tokens, ark, content, r#"{"id":"cgt-1"}"#), [40_000]);
}

#[test]
fn whoever_leaves_pays_for_the_film_all_the_same() {
    let units = "seconds: {limit: 1000 seconds, per: seat, window: lifetime}";
    let film = r#"{"model":"m","prompt":"a cat","duration":10}"#;
    let left = settled(
        &capped(units),
        ("/v1/video_generation", &[]),
        film,
        ("application/json", "{"),
        Some(Cause::ClientAbort),
    );
    assert_eq!(left.1, [("seconds".to_owned(), 10)]);
}

#[test]
fn what_is_made_at_once_is_charged_by_what_came() {
    let units = ["images", "characters", "seconds"]
        .map(|unit| format!("{unit}: {{limit: 1000 {unit}, per: seat, window: lifetime}}"));
    let of = |path: &str, body: &str, answer: &str| {
        let policy = capped(&units.join(", "))
            .replace("models: {'*'", "models: {qwen-image: {alias: m}, m: {count: o200k_base}, '*'");
        let used = settled(&policy, (path, &[]), body, ("application/json", answer), None).1;
        used.into_iter().map(|(_, used)| used).collect::<Vec<_>>()
    };
    let generation = "/api/v1/services/aigc/multimodal-generation/generation";
    let made = r#"{"output":{"choices":[{"message":{"content":[{"image":"https://a.test/1"}]},"finish_reason":"stop"}]},"usage":{"image_count":1}}"#;
    let image = r#"{"model":"qwen-image-plus","input":{"messages":[{"role":"user","content":[{"text":"a cat"}]}]}}"#;
    assert_eq!(of(generation, image, made), [1, 0, 0]);
    let spoken = r#"{"output":{"finish_reason":"stop","audio":{"url":"http://a.test/1"}},"usage":{"characters":8}}"#;
    let speech = r#"{"model":"qwen3-tts-flash","input":{"text":"你好 ann","voice":"Cherry"}}"#;
    assert_eq!(of(generation, speech, spoken), [0, 8, 0]);
    let predicted = r#"{"predictions":[{"mimeType":"image/png","bytesBase64Encoded":"QQ=="}]}"#;
    let imagen = "/v1/projects/p/locations/l/publishers/google/models/imagen-4.0:predict";
    assert_eq!(of(imagen, r#"{"instances":[{"prompt":"a cat"}]}"#, predicted), [1, 0, 0]);
    let refused = r#"{"base_resp":{"status_code":1026,"status_msg":"sensitive"}}"#;
    assert_eq!(of("/v1/t2a_v2", r#"{"model":"m","text":"hello"}"#, refused), [0, 0, 0]);
}

#[test]
fn an_answer_that_is_counted_by_its_bytes_holds_more_as_it_comes_and_is_broken_off_where_there_is_none() {
    let policy = |limit: u64| {
        let cap = format!("all: {{limit: {limit} tokens, per: seat, window: lifetime}}");
        let policy = capped(&cap).replace("assume_input: 500", "unstated_output: 10, shrink_to: 1");
        format!("{policy}unknown: {{path: count m}}\n")
    };
    let of = |limit: u64, answer: usize| {
        let (body, answer) = ("x".repeat(40), "x".repeat(answer));
        let (notes, used) = settled(&policy(limit), ("/v1/other", &[]), &body, ("text/plain", &answer), None);
        (notes[0].clone(), used[0].1)
    };
    assert_eq!(of(1_000, 4_000), ("cut_by_us".to_owned(), 1_000));
    assert_eq!(of(1_000, 3_960), ("complete_silent".to_owned(), 1_000));
    assert_eq!(of(1_000, 3_961), ("cut_by_us".to_owned(), 1_000));
    assert_eq!(of(20, 41), ("cut_by_us".to_owned(), 20));
    assert_eq!(of(1_000, 1), ("complete_silent".to_owned(), 11));
}

#[test]
fn speech_that_fails_after_it_was_heard_is_charged() {
    let policy = capped("characters: {limit: 1000 characters, per: seat, window: lifetime}");
    let of = |path: &str, body: &str, events: [&str; 2]| {
        let stream: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
        settled(&policy, (path, &[]), body, ("text/event-stream", &stream), None).1
    };
    let used = |characters| vec![("characters".to_owned(), characters)];
    let (spoken, silent) = (r#"{"data":{"audio":"49443304","status":1}}"#, r#"{"data":{"audio":"","status":1}}"#);
    let fails = r#"{"base_resp":{"status_code":1026,"status_msg":"sensitive"}}"#;
    let minimax = r#"{"model":"m","text":"hello","stream":true}"#;
    assert_eq!(of("/v1/t2a_v2", minimax, [spoken, fails]), used(5));
    assert_eq!(of("/v1/t2a_v2", minimax, [silent, fails]), used(0));
    let (spoken, fails) = (r#"{"type":"speech.audio.delta","audio":"SUQz"}"#, r#"{"error":{"message":"no"}}"#);
    let openai = r#"{"model":"m","input":"hello","voice":"alloy","stream_format":"sse"}"#;
    assert_eq!(of("/v1/audio/speech", openai, [spoken, fails]), used(5));
    let (spoken, fails) = (r#"{"output":{"audio":{"data":"SUQz"}}}"#, r#"{"code":"InternalError","message":"no"}"#);
    let studio = r#"{"model":"qwen3-tts-flash","input":{"text":"hello","voice":"Cherry"}}"#;
    assert_eq!(of("/api/v1/services/aigc/multimodal-generation/generation", studio, [spoken, fails]), used(5));
}
