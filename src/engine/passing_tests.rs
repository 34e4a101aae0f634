//! What goes through unmetered, event by event.

use std::rc::Rc;

use crate::engine::effect::{Effect, Flow};
use crate::engine::event::{Cause, Event, Header};
use crate::engine::exchange::Exchange;
use crate::engine::vm::Vm;
use crate::now::Now;
use crate::policy;
use crate::sim::SharedData;
use crate::sim::call::header;

const NOW: Now = Now { wall_ms: 1_795_608_000_000, mono_ms: 5 };

/// One stream, and the VM that it runs in.
struct Stage {
    exchange: Exchange,
    vm: Vm,
    shared: Rc<SharedData>,
}

impl Stage {
    /// Under a policy whose one plan has this `security`, and in which `more` stands.
    fn of(security: &str, more: &str) -> Self {
        let text = format!(
            "farebox: 1\nbundle: {{name: b, version: '1'}}\nidentity: [{{key: [authorization]}}]\n{more}\n\
             models: {{m: {{count: o200k_base}}}}\nplans: {{p: {{security: {security}}}}}\n\
             seats: {{ann: {{org: o, keys: ['sha256:a82937400c2cc11407f5bb2f9af56eded40d3002f15bdf996f5b70917bf8edb1']}}}}\n\
             assign: [{{otherwise: p}}]\n"
        );
        let bundle = Rc::new(policy::compile(&text, "p").unwrap_or_else(|faults| panic!("{faults:?}")));
        let vm = Vm::new(Rc::clone(&bundle), 7, [7; 2]);
        Self { exchange: Exchange::new(bundle, 1), vm, shared: Rc::new(SharedData::new()) }
    }

    fn tell(&mut self, event: Event<'_>) -> (Flow, Vec<Effect>) {
        let mut effects = Vec::new();
        let flow = self.exchange.handle(event, NOW, &mut self.vm, &mut self.shared.cells(0), &mut effects);
        (flow, effects)
    }

    /// A request's headers.
    fn ask(&mut self, path: &str, more: &[(&str, &str)], end: bool) -> (Flow, Vec<Effect>) {
        let mut headers = vec![header(":method", "POST"), header(":path", path)];
        headers.push(header("authorization", "Bearer key-ann"));
        headers.extend(more.iter().map(|(name, value)| header(name, value)));
        self.tell(Event::RequestHeaders { headers: &headers, peer: None, vouched: &[], end })
    }

    fn send(&mut self, body: &[u8], end: bool) -> (Flow, Vec<Effect>) {
        self.tell(Event::RequestBody { body, end })
    }

    /// An upstream begins to answer.
    fn begin(&mut self) -> (Flow, Vec<Effect>) {
        self.begin_with(header("content-length", "9"))
    }

    fn begin_with(&mut self, more: Header) -> (Flow, Vec<Effect>) {
        let headers: [Header; 2] = [header(":status", "200"), more];
        self.tell(Event::ResponseHeaders { headers: &headers, upstream: true, attempts: 1, end: false })
    }

    /// A transcription as plain text, which begins.
    fn transcribe(&mut self) {
        self.ask("/v1/audio/transcriptions", &[("content-type", "application/json")], false);
        let body = br#"{"model": "m", "prompt": "a@b.cn", "input_audio": {"data": "AAAA", "format": "wav"}}"#;
        assert_eq!(self.send(body, true).0, Flow::Continue);
        self.begin_with(header("content-type", "text/plain"));
    }

    /// What leaves in the place of a piece of the answer, and whether it is held.
    fn hear(&mut self, chunk: &str, end: bool) -> (String, bool) {
        let (flow, effects) = self.tell(Event::ResponseBody { chunk: chunk.as_bytes(), end });
        (replaced(&effects).unwrap_or_else(|| chunk.to_owned()), flow == Flow::Hold)
    }

    /// Trailers end an answer that is `held`, or is not: what leaves before them, and what else is done then.
    fn end_by_trailers(&mut self, held: bool) -> (String, Vec<Effect>) {
        let (flow, effects) = self.tell(Event::ResponseTrailers);
        assert_eq!((flow, replaced(&effects)), (if held { Flow::Hold } else { Flow::Continue }, None));
        if !held {
            return (String::new(), effects);
        }
        assert!(effects.contains(&Effect::WakeAt(NOW.mono_ms)), "{effects:?}");
        let (flow, effects) = self.tell(Event::Woken { body: &[] });
        assert_eq!(flow, Flow::Continue);
        (replaced(&effects).unwrap_or_default(), effects)
    }
}

fn replaced(effects: &[Effect]) -> Option<String> {
    effects.iter().find_map(|effect| match effect {
        Effect::ReplaceChunk(bytes) => Some(String::from_utf8(bytes.clone()).unwrap()),
        _ => None,
    })
}

#[test]
fn nothing_is_lost_of_an_answer_that_ends_by_trailers() {
    for (chunks, whole) in [
        (vec!["hello"], "hello"),
        (vec!["so: hel", "lo"], "so: hello"),
        (vec!["to a@b", ".cn"], "to [redacted]"),
        (vec!["{\"a\": 1}\n"], "{\"a\": 1}\n"),
        (vec![], ""),
    ] {
        let mut stage = Stage::of("{output: {email: redact}}", "unknown: {path: pass}");
        assert_eq!(stage.ask("/v1/files", &[], true).0, Flow::Continue);
        stage.begin();
        let (mut out, mut held) = (String::new(), false);
        for chunk in &chunks {
            let (piece, holds) = stage.hear(chunk, false);
            assert!(!holds || piece.is_empty(), "a host keeps what it holds: {piece}");
            out += &piece;
            held = holds;
        }
        out += &stage.end_by_trailers(held).0;
        assert_eq!(out, whole, "{chunks:?}");
    }
}

/// A metered text, of which the same is true.
#[test]
fn nothing_is_lost_of_a_transcription_that_ends_by_trailers() {
    let (hides, restores) = ("{output: {email: redact}}", "{input: {email: pseudonym}}");
    for (plan, chunks, whole) in [
        (hides, vec!["hello"], "hello"),
        (hides, vec!["to a@b", ".cn"], "to [redacted]"),
        (hides, vec!["so "], "so "),
        (restores, vec!["yes ["], "yes ["),
        (restores, vec!["to [EMAIL", "_1]"], "to a@b.cn"),
    ] {
        let mut stage = Stage::of(plan, "");
        stage.transcribe();
        let (mut out, mut held) = (String::new(), false);
        for chunk in &chunks {
            let (piece, holds) = stage.hear(chunk, false);
            out += &piece;
            held = holds;
        }
        assert_eq!(stage.tell(Event::Woken { body: &[] }).0 == Flow::Hold, held, "woken for nothing");
        let (last, effects) = stage.end_by_trailers(held);
        out += &last;
        let found = effects.iter().any(|effect| matches!(effect, Effect::Note("findings_output", _)));
        assert_eq!(found, whole.contains("redacted"), "{effects:?}");
        assert_eq!(out, whole, "{chunks:?}");
    }
}

/// Another VM has ended the call while the end of its answer waited. In the callback of trailers nothing can be replaced.
#[test]
fn an_answer_that_somebody_else_has_ended_is_broken_off_behind_its_trailers() {
    let mut stage = Stage::of("{output: {email: redact}}", "");
    stage.transcribe();
    assert!(stage.hear("hello", false).1);
    stage.vm.fenced(&mut Vec::new());
    let (flow, effects) = stage.tell(Event::ResponseTrailers);
    assert_eq!((flow, effects), (Flow::Hold, vec![Effect::WakeAt(NOW.mono_ms)]));
    let (_, effects) = stage.tell(Event::Woken { body: &[] });
    assert_eq!((replaced(&effects).as_deref(), effects.contains(&Effect::Break)), (Some(""), true), "{effects:?}");
}

#[test]
fn an_answer_is_held_no_longer_than_something_of_it_is() {
    let mut stage = Stage::of("{output: {email: redact}}", "unknown: {path: pass}");
    stage.ask("/v1/files", &[], true);
    stage.begin();
    assert_eq!(stage.hear("data: {\"n\": 1}\n\n", false), ("data: {\"n\": 1}\n\n".to_owned(), false));
    assert_eq!(stage.hear("to a@b", false), (String::new(), true));
    let woken = stage.tell(Event::Woken { body: &[] });
    assert_eq!(woken, (Flow::Hold, vec![]), "woken for nothing");
    assert_eq!(stage.hear(".cn. \n", false), ("to [redacted]. \n".to_owned(), false));
    assert_eq!(stage.hear("so", false), (String::new(), true));
    assert_eq!(stage.hear("", true), ("so".to_owned(), false));
}

#[test]
fn an_answer_of_words_is_not_held_to_its_end() {
    for (more, most) in [(("x", "y"), 300), (("trailer", "etag"), 70_000)] {
        let mut stage = Stage::of("{output: {email: redact}}", "unknown: {path: pass}");
        stage.ask("/v1/files", &[], true);
        stage.begin_with(header(more.0, more.1));
        let (mut said, mut left, mut longest) = (0, 0, 0);
        for _ in 0..20_000 {
            said += " word".len();
            left += stage.hear(" word", false).0.len();
            longest = longest.max(said - left);
        }
        assert!(longest > most / 2 && longest <= most, "{more:?}: {longest}");
        assert_eq!(left + stage.hear("", true).0.len(), said);
    }
    // What is longer than that is not held at all, so that its last word cannot be saved; which is said.
    let mut stage = Stage::of("{output: {email: redact}}", "unknown: {path: pass}");
    stage.ask("/v1/files", &[], true);
    stage.begin();
    assert_eq!(stage.hear(&"word ".repeat(100), false), ("word ".repeat(100), false));
    assert_eq!(stage.hear("more ".repeat(100).trim_end(), false), ("more ".repeat(99), false));
    let (flow, effects) = stage.tell(Event::ResponseTrailers);
    assert!(flow == Flow::Continue && matches!(&effects[..], [Effect::Log(..)]), "{effects:?}");
}

#[test]
fn a_body_that_is_too_large_is_not_waited_for() {
    for path in ["/v1/files", "/v1/chat/completions"] {
        let plan = "{input: {secrets: deny}}, connectivity: {request: {largest: 1 KiB}}";
        let mut stage = Stage::of(plan, "unknown: {path: pass}");
        assert_eq!(stage.exchange.most_body_bytes(), u64::MAX);
        assert_eq!(stage.ask(path, &[], false).0, Flow::Hold);
        assert_eq!(stage.exchange.most_body_bytes(), 1_024, "{path}");
        assert_eq!(stage.send(&[b' '; 1_024], false), (Flow::Hold, vec![]), "{path}");
        let (flow, _) = stage.send(&[b' '; 1_025], false);
        assert!(matches!(flow, Flow::Reply(ref reply) if reply.status == 413), "{path}: {flow:?}");
    }
}

#[test]
fn an_early_answer_gets_past_no_screen() {
    let more = "envoy: {headers: first}\nunknown: {path: pass}";
    for path in ["/v1/files", "/v1/chat/completions"] {
        let mut stage = Stage::of("{input: {secrets: deny}, output: {email: redact}}", more);
        assert_eq!(stage.ask(path, &[], false).0, Flow::Hold);
        assert_eq!(stage.send(b"it is ", false).0, Flow::Hold);
        let (flow, effects) = stage.begin();
        assert_eq!(flow, Flow::Continue);
        let length = Effect::RemoveResponseHeader("content-length".to_owned());
        assert!(effects.contains(&length), "{path}: {effects:?}");
        assert!(stage.exchange.looks_at_answer());
        for end in [false, true] {
            assert_eq!(stage.send(b"it is nothing", end), (Flow::Hold, vec![]), "{path}: nobody has looked at it");
        }
        let chunk = match path {
            "/v1/files" => "to a@b.cn ".to_owned(),
            _ => r#"{"choices": [{"index": 0, "message": {"content": "to a@b.cn "}}]}"#.to_owned(),
        };
        let (out, held) = stage.hear(&chunk, true);
        assert_eq!((out, held), (chunk.replace("a@b.cn", "[redacted]"), false), "{path}");
    }
}

#[test]
fn what_is_read_is_not_asked_for_in_packs_and_what_is_not_stays() {
    let chat = "/v1/chat/completions";
    for (path, more, metered) in [
        ("/v1/files", None, false),
        (chat, Some(("upgrade", "websocket")), false),
        (chat, Some(("content-encoding", "gzip")), false),
        (chat, None, true),
    ] {
        for (security, screened) in
            [("{}", false), ("{input: {email: deny}}", false), ("{output: {email: deny}}", true)]
        {
            let mut stage = Stage::of(security, "unknown: {path: pass, body: pass}");
            let asked: Vec<_> = [("accept-encoding", "gzip")].into_iter().chain(more).collect();
            let (_, effects) = stage.ask(path, &asked, false);
            let removed = effects.contains(&Effect::RemoveRequestHeader("accept-encoding".to_owned()));
            assert_eq!(removed, metered || screened, "{path} {more:?} {security}");
        }
    }
}

#[test]
fn no_content_type_gets_an_llm_call_past_its_screen() {
    let more = "unknown: {path: pass, body: pass}";
    let asked = |path: &str, headers: &[(&str, &str)], body: &[u8]| {
        let mut stage = Stage::of("{input: {secrets: deny}}", more);
        match stage.ask(path, headers, false).0 {
            Flow::Hold => stage.send(body, true).0 == Flow::Continue,
            flow => flow == Flow::Continue,
        }
    };
    let (chat, picture) = ("/v1/chat/completions", ("content-type", "image/png"));
    assert!(asked("/v1/files", &[picture], b"\xff"), "what is no text is not looked at");
    assert!(asked("/v1/files", &[picture, ("content-encoding", "x")], b"\xff"));
    assert!(!asked(chat, &[picture, ("content-encoding", "x")], b"\xff"));
    assert!(!asked(chat, &[picture, ("upgrade", "websocket")], b"\xff"));
    assert!(!asked(chat, &[picture], b"no json: \xff\0"), "its upstream would read a text");
    assert!(asked(chat, &[picture], b"no json"));
}

#[test]
fn whoever_asks_after_work_pays_nothing_whatever_is_unknown() {
    let asked = |method: &str, path: &str, security: &str, unknown: &str| {
        let mut stage = Stage::of(security, unknown);
        let headers = [header(":method", method), header(":path", path), header("authorization", "Bearer key-ann")];
        let (flow, effects) =
            stage.tell(Event::RequestHeaders { headers: &headers, peer: None, vouched: &[], end: true });
        (matches!(flow, Flow::Continue), effects.contains(&Effect::Note("admitted", "passed".to_owned())))
    };
    for security in ["{}", "{endpoints: {allow: [images]}}"] {
        for unknown in ["unknown: {path: deny}", "unknown: {path: count m}", "unknown: {after: files}"] {
            let asked = |path: &str| asked("GET", path, security, unknown);
            assert_eq!(asked("/v1/query/video_generation?task_id=1"), (true, true));
            assert_eq!(asked("/api/v1/tasks/0385dc79"), (true, true));
        }
        let asked = |method: &str, path: &str, security: &str| asked(method, path, security, "unknown: {path: deny}");
        assert_eq!(asked("GET", "/api/v1/tasks", security), (false, false));
        assert_eq!(asked("DELETE", "/api/v1/tasks/0385dc79", security), (false, false));
        assert_eq!(asked("GET", "/api/v1/tasks/..%2f..%2fx", security), (false, false));
    }
    // Whoever may not ask for it may not ask after it either.
    let (film, chat) = ("/v1/videos/video_1/content", "{endpoints: {allow: [chat, other]}}");
    assert_eq!(asked("GET", film, chat, "unknown: {path: pass}"), (false, false));
    assert_eq!(asked("GET", film, chat, "unknown: {path: count m}"), (false, false));
    for path in ["pass", "deny", "count m"] {
        assert_eq!(
            asked("GET", film, "{}", &format!("unknown: {{path: {path}, after: deny}}")),
            (false, false),
            "{path}"
        );
    }
}

#[test]
fn files_are_read_by_whoever_the_policy_lets_ask_for_them() {
    let asked = |security: &str, unknown: &str| {
        let mut stage = Stage::of(security, unknown);
        let path = header(":path", "/v1/files/retrieve?file_id=205258526306433");
        let headers = [header(":method", "GET"), path, header("authorization", "Bearer key-ann")];
        let (_, effects) = stage.tell(Event::RequestHeaders { headers: &headers, peer: None, vouched: &[], end: true });
        effects.contains(&Effect::Note("admitted", "passed".to_owned()))
    };
    assert!(!asked("{}", "unknown: {path: deny}") && !asked("{}", "unknown: {path: deny, after: work}"));
    assert!(asked("{}", "unknown: {path: deny, after: files}") && asked("{}", "unknown: {path: pass}"));
    assert!(asked("{endpoints: {allow: [images]}}", "unknown: {after: files}"));
    assert!(!asked("{endpoints: {allow: [images]}}", "unknown: {path: pass}"), "it is any file, and no image");
    assert!(!asked("{endpoints: {allow: [chat]}}", "unknown: {after: files}"));
}

#[test]
fn a_tunnel_is_never_counted_by_bytes_that_nobody_sees() {
    let asked = |method: &str, more: Option<(&str, &str)>, unknown: &str| {
        let mut stage = Stage::of("{}", unknown);
        let mut headers =
            vec![header(":method", method), header(":path", "/ws"), header("authorization", "Bearer key-ann")];
        headers.extend(more.map(|(name, value)| header(name, value)));
        let (flow, effects) =
            stage.tell(Event::RequestHeaders { headers: &headers, peer: None, vouched: &[], end: false });
        let status = if let Flow::Reply(reply) = flow { reply.status } else { 0 };
        (status, effects.contains(&Effect::Note("admitted", "passed".to_owned())))
    };
    for (method, more) in [("GET", Some(("upgrade", "websocket"))), ("CONNECT", None)] {
        assert_eq!(asked(method, more, "unknown: {path: count m}"), (400, false), "{method}");
        assert_eq!(asked(method, more, "unknown: {path: count m, body: pass}"), (0, true), "{method}");
    }
    assert_eq!(asked("POST", None, "unknown: {path: count m}"), (0, false), "its body is waited for");
}

#[test]
fn what_was_found_in_an_answer_that_its_client_left_is_counted_once() {
    let found = |ends: &[&str]| {
        let mut stage = Stage::of("{output: {email: redact}}", "");
        stage.ask("/v1/chat/completions", &[("content-type", "application/json")], false);
        stage.send(br#"{"model": "m", "stream": true, "messages": []}"#, true);
        stage.begin_with(header("content-type", "text/event-stream"));
        let delta = r#"{"choices":[{"index":0,"delta":{"content":"write to a@b.cn, or not at all"}}]}"#;
        let chunks = std::iter::once(format!("data: {delta}\n\n")).chain(ends.iter().map(|end| (*end).to_owned()));
        let mut effects = Vec::new();
        for (at, chunk) in chunks.enumerate() {
            effects.extend(stage.tell(Event::ResponseBody { chunk: chunk.as_bytes(), end: at > 0 }).1);
        }
        effects.extend(stage.tell(Event::Over { cause: Cause::ClientAbort, attempts: 1 }).1);
        let found = |effect: &&Effect| matches!(effect, Effect::Count { metric: "findings_total", by: 1, .. });
        effects.iter().filter(found).count()
    };
    assert_eq!(found(&[]), 1);
    assert_eq!(found(&["data: [DONE]\n\n"]), 1);
}

#[test]
fn what_is_counted_by_bytes_is_not_tried_again() {
    let retries = |path: &str| {
        let mut stage = Stage::of("{}, connectivity: {retry: {on: [503], tries: 2}}", "unknown: {path: count m}");
        let (_, effects) = stage.ask(path, &[], false);
        effects.iter().any(|effect| matches!(effect, Effect::Retry(_)))
    };
    assert!(retries("/v1/chat/completions"));
    assert!(!retries("/v1/echo"), "nobody knows whether it may be done twice");
}
