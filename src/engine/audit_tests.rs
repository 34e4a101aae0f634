//! What is kept of calls, and what is not.

use std::rc::Rc;

use proptest::prelude::{ProptestConfig, prop, prop_assert, prop_assert_eq, proptest};
use serde_json::json;

use super::{LONGEST, Trail, last};
use crate::engine::event::{Event, Header};
use crate::engine::exchange::Exchange;
use crate::engine::vm::Vm;
use crate::meter::call::read_call;
use crate::meter::dialect::Dialect;
use crate::meter::rewrite::Expected;
use crate::now::Now;
use crate::policy::bundle::{Bundle, Plan};
use crate::report::wire::Audit;
use crate::scan::{Action, Mask, Rule};
use crate::sim::SharedData;
use crate::sim::call::header;

/// A made-up key, put together here so that no scanner of repositories trips over this file.
const KEY: &str = concat!("AK", "IAIOSFODNN7EXAMPLE");

/// The hash of `key-ann`.
const ANN: &str = "a82937400c2cc11407f5bb2f9af56eded40d3002f15bdf996f5b70917bf8edb1";

fn bundle(security: &str) -> Bundle {
    let text = format!(
        "farebox: 1\nbundle: {{name: b, version: '1'}}\nidentity: [{{key: [authorization]}}]\n\
         models: {{m: {{count: o200k_base}}}}\nplans: {{p: {{security: {security}}}}}\n\
         seats: {{s: {{org: o, keys: [\"sha256:{}\"]}}}}\nassign: [{{otherwise: p}}]\ncollector: {{cluster: c}}\n",
        ANN
    );
    crate::policy::compile(&text, "p").unwrap_or_else(|faults| panic!("{faults:?}"))
}

fn trail(plan: &Plan) -> Option<Trail> {
    let headers: Vec<Header> = vec![(b"User-Agent".to_vec(), b"codex/1".to_vec())];
    Trail::of(plan, &headers, b"/v1/chat/completions?key=hunter2", "10.1.2.3".parse().ok())
}

fn stream(words: &[&str]) -> String {
    let delta = |text: &&str| {
        format!("data: {}\n\n", json!({"id": "c", "choices": [{"index": 0, "delta": {"content": text}}]}))
    };
    words.iter().map(delta).collect::<String>() + "data: [DONE]\n\n"
}

/// What is kept of a call with this prompt, whose answer comes in these chunks.
fn kept(bundle: &Bundle, prompt: &str, chunks: &[&[u8]], end: bool) -> Option<Audit> {
    kept_behind(&Mask::new([7; 32]), bundle, prompt, chunks, end)
}

/// The same with an answer in which what has names was put back.
fn kept_behind(mask: &Mask, bundle: &Bundle, prompt: &str, chunks: &[&[u8]], end: bool) -> Option<Audit> {
    let mut trail = trail(&bundle.plans[0])?;
    let body = json!({"model": "m", "messages": [{"role": "system", "content": "Be brief"}, {"role": "user", "content": prompt}]});
    let call = read_call(Dialect::OpenAiChat, body.to_string().as_bytes()).unwrap();
    trail.admitted(&call, &["email:redact:1".to_owned()]);
    let (dialect, stream, in_pieces) = (Dialect::OpenAiChat, true, false);
    trail.expects(&Expected { dialect, stream, in_pieces, content_type: None, content_encoding: None }, mask);
    for (at, chunk) in chunks.iter().enumerate() {
        trail.hears(chunk, end && at + 1 == chunks.len());
    }
    Some(trail.record(vec!["phone:tag:2".to_owned()]))
}

#[test]
fn each_level_keeps_what_it_says() {
    let answer = stream(&["Hello", " there"]);
    let kept = |security| kept(&bundle(security), "Hi", &[answer.as_bytes()], true);
    assert_eq!((kept("{audit: none}"), kept("{models: [m]}")), (None, None));
    let metadata = kept("{audit: metadata}").unwrap();
    let texts = (metadata.prompt.as_str(), metadata.answer.as_str());
    assert_eq!((metadata.address.as_str(), metadata.agent.as_str(), texts), ("10.1.2.3", "codex/1", ("", "")));
    assert_eq!(metadata.path, "/v1/chat/completions", "a query may carry a key");
    assert_eq!(metadata.findings, ["email:redact:1", "phone:tag:2"]);
    let bodies = kept("{audit: bodies}").unwrap();
    assert_eq!((bodies.prompt.as_str(), bodies.answer.as_str()), ("Be brief\nHi", "Hello there"));
    assert_eq!((bodies.path, bodies.findings), (metadata.path, metadata.findings));
}

#[test]
fn what_has_a_name_is_kept_nowhere_and_what_the_plan_names_neither() {
    let answer = stream(&["mail alice@exa", "mple.com, EMP-12", "3456, falcon ", &KEY[..9], &KEY[9..], " bye"]);
    let bundle = bundle(
        "{audit: bodies, input: {keywords: {words: [falcon], action: observe}}, \
         output: {patterns: {badge: {match: \"EMP-[0-9]{6}\", action: observe}}}}",
    );
    let prompt = format!("a falcon, {KEY}, EMP-654321 and 13812345678");
    let kept = kept(&bundle, &prompt, &[answer.as_bytes()], true).unwrap();
    assert_eq!(kept.prompt, "Be brief\na [redacted], [redacted], [redacted] and [redacted]");
    assert_eq!(kept.answer, "mail [redacted], [redacted], [redacted] [redacted] bye");
}

#[test]
fn definitions_of_tools_are_kept_nowhere() {
    let bundle = bundle("{audit: bodies}");
    let server = json!({
        "type": "mcp", "server_url": "https://u:pw@a.test", "authorization": "opaque", "headers": {"x-key": "of mine"},
        "description": "long ".repeat(LONGEST),
    });
    let format = json!({"type": "json_schema", "json_schema": {"name": "shape"}});
    let dialects = [
        (Dialect::OpenAiChat, "messages", "response_format", format.clone()),
        (Dialect::OpenAiResponses, "input", "text", json!({"format": format})),
    ];
    for (dialect, talk, shape, format) in dialects {
        let body = json!({"model": "m", talk: [{"role": "user", "content": "Hi"}], "tools": [server], shape: format});
        let mut trail = trail(&bundle.plans[0]).unwrap();
        trail.admitted(&read_call(dialect, body.to_string().as_bytes()).unwrap(), &[]);
        assert_eq!(trail.record(Vec::new()).prompt, "Hi", "{dialect:?}");
    }
}

#[test]
fn neither_agent_nor_path_is_kept_with_what_has_a_name() {
    for level in ["metadata", "bodies"] {
        let security = format!("{{audit: {level}, input: {{keywords: {{words: [falcon], action: observe}}}}}}");
        let bundle = bundle(&security);
        let (agent, path) =
            (format!("falcon/1 ({KEY}; a@b.cn) {}", "é".repeat(200)), format!("/{KEY}/v1/chat/completions"));
        let headers: Vec<Header> = vec![(b"user-agent".to_vec(), agent.into_bytes())];
        let kept = Trail::of(&bundle.plans[0], &headers, path.as_bytes(), None).unwrap().record(Vec::new());
        assert!(kept.agent.starts_with("[redacted]/1 ([redacted]; [redacted]) é"), "{}", kept.agent);
        assert_eq!((kept.agent.len(), kept.path.as_str()), (256, "/[redacted]/v1/chat/completions"));
    }
}

#[test]
fn what_was_put_back_is_kept_by_its_name() {
    let mut mask = Mask::new([7; 32]);
    let rule = Rule { name: "passport".into(), action: Action::Pseudonym };
    for text in ["E12345678", "a \"b\""] {
        mask.replace(&rule, text, |_| false);
    }
    let answer = stream(&["Yours is E123", "45678, not E87654321: a \"b\", a \\\"b\\\""]);
    let kept = kept_behind(&mask, &bundle("{audit: bodies}"), "Hi", &[answer.as_bytes()], true).unwrap();
    assert_eq!(kept.answer, "Yours is [PASSPORT_1], not E87654321: [PASSPORT_2], [PASSPORT_2]");
}

#[test]
fn of_long_texts_the_end_is_kept() {
    let words = "word ".repeat(LONGEST);
    let answer = stream(&[&words, "the end"]);
    let kept = kept(&bundle("{audit: bodies}"), &format!("{words}and then"), &[answer.as_bytes()], true).unwrap();
    assert!(kept.prompt.len() <= LONGEST && kept.prompt.ends_with("and then"), "{}", kept.prompt.len());
    assert!(kept.answer.len() <= LONGEST && kept.answer.ends_with("the end"), "{}", kept.answer.len());
    assert_eq!((kept.prompt_cut, kept.answer_cut), (true, true));
    assert_eq!((last("ééé", 3), last("ab", 9)), ("é", "ab"));
}

#[test]
fn an_answer_that_breaks_off_is_kept_as_far_as_it_came() {
    let answer = stream(&["Hello", " there, ", &KEY[..12]]);
    let came = answer.split("data: [DONE]").next().unwrap();
    let kept = kept(&bundle("{audit: bodies}"), "Hi", &[came.as_bytes()], false).unwrap();
    assert_eq!((kept.answer.trim_end(), kept.answer_cut), ("Hello there,", true));
}

#[test]
fn an_answer_that_ends_by_trailers_is_kept_whole() {
    let now = Now { wall_ms: 1_795_608_000_000, mono_ms: 5 };
    let bundle = Rc::new(bundle("{audit: bodies}"));
    let (mut vm, shared) = (Vm::new(Rc::clone(&bundle), 7, [7; 2]), SharedData::new());
    vm.tick(now, &mut shared.cells(0), &mut Vec::new());
    let mut exchange = Exchange::new(bundle, 1);
    let headers = [(":method", "POST"), (":path", "/v1/chat/completions"), ("authorization", "Bearer key-ann")];
    let headers = headers.map(|(name, value)| header(name, value));
    let answered = [header(":status", "200"), header("content-type", "text/event-stream")];
    let body = json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "Hi"}]}).to_string();
    let answer = stream(&["call 13812345678"]);
    let chunk = answer.split("data: [DONE]").next().unwrap().as_bytes();
    for event in [
        Event::RequestHeaders { headers: &headers, peer: None, vouched: &[], end: false },
        Event::RequestBody { body: body.as_bytes(), end: true },
        Event::ResponseHeaders { headers: &answered, upstream: true, attempts: 1, end: false },
        Event::ResponseBody { chunk, end: false },
        Event::ResponseTrailers,
    ] {
        exchange.handle(event, now, &mut vm, &mut shared.cells(0), &mut Vec::new());
    }
    let kept = |key: &Vec<u8>| String::from_utf8_lossy(&shared.peek(key).unwrap().value).into_owned();
    let cells: Vec<_> = shared.keys().iter().map(kept).collect();
    let whole = |cell: &String| cell.contains("call [redacted]") && !cell.contains("answer_cut");
    assert!(cells.iter().any(whole), "{cells:?}");
}

#[test]
fn it_is_said_whether_there_was_more() {
    let bundle = bundle("{audit: bodies}");
    let cut = |prompt: &str, answer: &str| {
        let kept = kept(&bundle, prompt, &[answer.as_bytes()], true).unwrap();
        (kept.prompt_cut, kept.answer_cut)
    };
    assert_eq!(cut("Hi", &stream(&["Hello"])), (false, false));
    assert_eq!(cut("Hi", &stream(&["Hello", &"w ".repeat(LONGEST / 2)])), (false, true));
    // The instructions before it, of which nothing is left.
    assert_eq!(cut(&"w ".repeat(LONGEST / 2), &stream(&["Hello"])), (true, false));
    assert_eq!(cut("Hi", "no stream"), (false, true), "what cannot be read");
    let choices = |most: usize| {
        let delta = |at| json!({"choices": [{"index": at, "delta": {"content": "w"}}]});
        (0..most).map(|at| format!("data: {}\n\n", delta(at))).collect::<String>() + "data: [DONE]\n\n"
    };
    assert_eq!((cut("Hi", &choices(64)), cut("Hi", &choices(65))), ((false, false), (false, true)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn however_an_answer_is_cut_the_same_is_kept(cuts in prop::collection::vec(0usize..600, 0..12)) {
        let answer = stream(&["key ", &KEY[..5], &KEY[5..], ", 1381234", "5678 and 你好"]);
        let bundle = bundle("{audit: bodies}");
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % answer.len()).collect();
        cuts.extend([0, answer.len()]);
        cuts.sort_unstable();
        let chunks: Vec<&[u8]> = cuts.windows(2).map(|cut| &answer.as_bytes()[cut[0]..cut[1]]).collect();
        let found = kept(&bundle, "Hi", &chunks, true).unwrap().answer;
        prop_assert_eq!(&found, "key [redacted], [redacted] and 你好");
        prop_assert!(!found.contains(&KEY[..8]));
    }
}
