use std::path::{Path, PathBuf};

use proptest::prelude::{any, prop_assert_eq, proptest};

use super::{Forward, Reader};
use crate::meter::count::Encoding;
use crate::meter::dialect::Dialect;
use crate::meter::usage::Usage;

/// A finished reader and what left in place of its chunks.
fn read<'a>(mut reader: Reader, chunks: impl IntoIterator<Item = &'a [u8]>) -> (Reader, Vec<u8>) {
    let mut out = Vec::new();
    for chunk in chunks {
        match reader.push(chunk, false) {
            Forward::Same => out.extend_from_slice(chunk),
            Forward::Replace(bytes) => out.extend(bytes),
        }
    }
    if let Forward::Replace(bytes) = reader.push(b"", true) {
        out.extend(bytes);
    }
    (reader, out)
}

fn reader(dialect: Dialect, hide: bool) -> Reader {
    Reader::new(dialect, Encoding::O200kBase, 200, Some(b"text/event-stream"), None, hide)
}

fn openai(body: &str) -> Reader {
    read(reader(Dialect::OpenAiChat, false), [body.as_bytes()]).0
}

/// All that a reader tells, as one text.
fn told(reader: &Reader) -> String {
    let usage = |usage: Usage| {
        let Usage { input, cache_read, cache_write, cache_write_1h, output, reasoning, .. } = usage;
        let Usage { images, characters, seconds, provider_total, .. } = usage;
        let tokens = format!(
            "input {input}, cache read {cache_read}, cache write {cache_write}, output {output}, reasoning {reasoning}"
        );
        let rest = [
            ("cache write 1h", cache_write_1h),
            ("images", images),
            ("characters", characters),
            ("seconds", seconds),
            ("total", provider_total),
        ];
        let rest = rest.iter().filter(|(_, figure)| *figure > 0).map(|(name, figure)| format!(", {name} {figure}"));
        tokens + &rest.collect::<String>()
    };
    format!(
        "reported: {}\nreported input: {}\nmade: {}\nabsurd: {}\ndelivered: {}\nfinished: {}\nerror inside: {}\nserved: {}\nunreadable: {}\n",
        reader.reported().map_or("-".into(), usage),
        reader.reported_input().map_or("-".into(), usage),
        Some(reader.made()).filter(|made| *made != Usage::default()).map_or("-".into(), usage),
        reader.absurd(),
        reader.delivered(),
        reader.finished(),
        reader.error_inside(),
        reader.served().unwrap_or("-"),
        reader.unreadable().unwrap_or("-"),
    )
}

fn golden_files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/meter");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|ext| ext != "told" && ext != "md")).collect();
    files.sort();
    assert!(files.len() >= 20);
    files
}

/// By the beginning of the name: a dialect's, else whose chat it is.
fn dialect_of(path: &Path) -> Dialect {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let named = Dialect::ALL.into_iter().filter(|dialect| name.starts_with(dialect.name()));
    let chat = if name.starts_with("anthropic") { Dialect::AnthropicMessages } else { Dialect::OpenAiChat };
    named.max_by_key(|dialect| dialect.name().len()).unwrap_or(chat)
}

/// Transcripts in the providers' shapes, each beside what the reader tells of it. `BLESS=1` writes the latter.
#[test]
fn golden_transcripts() {
    let mut differing = Vec::new();
    for path in golden_files() {
        let body = std::fs::read(&path).unwrap();
        let (reader, out) = read(reader(dialect_of(&path), false), [&body[..]]);
        assert_eq!(out, body);
        let told = told(&reader);
        let expected = PathBuf::from(format!("{}.told", path.display()));
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&expected, &told).unwrap();
        }
        if std::fs::read_to_string(&expected).unwrap_or_default() != told {
            differing.push(format!("{}\n{told}", path.display()));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

/// Two chunks, cut at every byte; and single bytes.
#[test]
fn golden_transcripts_cut_anywhere() {
    for path in golden_files() {
        let body = std::fs::read(&path).unwrap();
        for hide in [false, true] {
            let (whole, out) = read(reader(dialect_of(&path), hide), [&body[..]]);
            let whole = (told(&whole), out);
            let step = if hide { 1 } else { 7 };
            for at in (0..body.len()).step_by(step) {
                let (cut, out) = read(reader(dialect_of(&path), hide), [&body[..at], &body[at..]]);
                assert_eq!((told(&cut), out), whole, "{} cut at {at}", path.display());
            }
            let (single, out) = read(reader(dialect_of(&path), hide), body.chunks(1));
            assert_eq!((told(&single), out), whole, "{}", path.display());
        }
    }
}

#[test]
fn only_the_usage_chunk_is_hidden() {
    for path in golden_files() {
        let Ok(body) = String::from_utf8(std::fs::read(&path).unwrap()) else { continue };
        let (_, out) = read(reader(dialect_of(&path), true), [body.as_bytes()]);
        let ending = if body.contains("\r\n") { "\r\n\r\n" } else { "\n\n" };
        let kept = body.split_inclusive(ending).filter(|event| {
            let usage_only = event.contains("\"choices\":[]") && event.contains("\"usage\":{");
            !usage_only || !dialect_of(&path).must_ask_for_usage()
        });
        assert_eq!(String::from_utf8(out).unwrap(), kept.collect::<String>(), "{}", path.display());
    }
}

#[test]
fn an_event_waits_only_to_be_hidden() {
    let mut hiding = reader(Dialect::OpenAiChat, true);
    assert_eq!(hiding.push(b": hi\ndata: {\"choi", false), Forward::Replace(b": hi\n".to_vec()));
    assert_eq!(hiding.push(b"ces\":[]", false), Forward::Replace(Vec::new()));
    assert_eq!(hiding.push(b"", true), Forward::Replace(b"data: {\"choices\":[]".to_vec()));
    let mut open = reader(Dialect::OpenAiChat, false);
    assert_eq!(open.push(b": hi\ndata: {\"choi", false), Forward::Same);
    let mut json = reader(Dialect::OpenAiChat, true);
    assert_eq!(json.push(b"{\"error\":", false), Forward::Same);
}

proptest! {
    #[test]
    fn any_bytes_in_any_chunks(
        body in "(data: |\\{\"choices\":|\\[|\\]|\\}|\\{\"delta\":|\"content\":\"a b\"|\"usage\":\\{\"prompt_tokens\":1,\"completion_tokens\":2\\}|,|\r\n|\n\n|\r|[a-z{ :]|\\[DONE\\]|\u{feff}){0,40}",
        cuts in proptest::collection::vec(any::<usize>(), 0..8), hide in any::<bool>(), anthropic in any::<bool>(),
    ) {
        let dialect = if anthropic { Dialect::AnthropicMessages } else { Dialect::OpenAiChat };
        let body = body.as_bytes();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (body.len() + 1)).chain([0, body.len()]).collect();
        cuts.sort_unstable();
        let (whole, out) = read(reader(dialect, hide), [body]);
        let (cut, cut_out) = read(reader(dialect, hide), cuts.windows(2).map(|cut| &body[cut[0]..cut[1]]));
        prop_assert_eq!(told(&cut), told(&whole));
        prop_assert_eq!(cut_out, out);
    }
}

fn usage_of(usage: &str) -> Option<Usage> {
    openai(&format!("data: {{\"choices\":[],\"usage\":{usage}}}\n\n")).reported()
}

#[test]
fn usage_that_cannot_be_is_refused() {
    for usage in [
        r#"{"prompt_tokens":-1,"completion_tokens":2}"#,
        r#"{"prompt_tokens":1,"completion_tokens":2.5}"#,
        r#"{"prompt_tokens":1,"completion_tokens":"2"}"#,
        r#"{"prompt_tokens":1,"completion_tokens":100000001}"#,
        r#"{"prompt_tokens":1,"completion_tokens":99999999999999999999999}"#,
        r#"{"prompt_tokens":1,"completion_tokens":1e3}"#,
        r#"{"prompt_tokens":1,"completion_tokens":2,"total_tokens":-3}"#,
        r#"{"prompt_tokens":1,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":-3}}"#,
        r#"{"prompt_tokens":1}"#,
        r#"{"prompt_tokens":0,"completion_tokens":0}"#,
        "{}",
        "null",
        "7",
    ] {
        assert_eq!(usage_of(usage), None, "{usage}");
    }
}

#[test]
fn usage_in_one_canonical_form() {
    let of =
        |usage: &str| usage_of(usage).map(|u| [u.input, u.cache_read, u.cache_write, u.output, u.reasoning]).unwrap();
    assert_eq!(of(r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":null}"#), [10, 0, 0, 5, 0]);
    assert_eq!(
        of(r#"{"prompt_tokens":10.0,"completion_tokens":5,"cost":{"x":0.1},"cost_rate":0.5}"#),
        [10, 0, 0, 5, 0]
    );
    assert_eq!(of(r#"{"prompt_tokens":10,"total_tokens":12}"#), [10, 0, 0, 2, 0]);
    assert_eq!(of(r#"{"prompt_tokens":10,"completion_tokens":5,"prompt_cache_hit_tokens":4}"#), [6, 4, 0, 5, 0]);
    // Reasoning inside (OpenAI), at the top level (Copilot), outside (xAI), and known from the total only (Gemini).
    let reasoned = |total: u64| {
        format!(
            r#"{{"prompt_tokens":10,"completion_tokens":5,"total_tokens":{total},"completion_tokens_details":{{"reasoning_tokens":3}}}}"#
        )
    };
    assert_eq!(of(&reasoned(15)), [10, 0, 0, 5, 3]);
    assert_eq!(of(&reasoned(18)), [10, 0, 0, 8, 3]);
    assert_eq!(
        of(r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15,"reasoning_tokens":4}"#),
        [10, 0, 0, 5, 4]
    );
    assert_eq!(of(r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":45}"#), [10, 0, 0, 35, 30]);
    // Sound and cached input outside the prompt.
    assert_eq!(
        of(
            r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":35,"prompt_tokens_details":{"audio_tokens":20}}"#
        ),
        [30, 0, 0, 5, 0]
    );
    assert_eq!(
        of(
            r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":45,"cache_read_input_tokens":20,"cache_creation_input_tokens":10}"#
        ),
        [10, 20, 10, 5, 0]
    );
}

#[test]
fn silence_and_zeros_do_not_unsay() {
    let said = r#"data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;
    for after in
        ["data: {\"usage\":null}", "data: {\"usage\":{\"prompt_tokens\":0,\"completion_tokens\":0}}", "data: x"]
    {
        assert_eq!(openai(&format!("{said}\n\n{after}\n\n")).reported().unwrap().output, 2, "{after}");
    }
}

#[test]
fn what_cannot_be_read_is_told() {
    let new = |kind: &'static str, encoding: Option<&'static [u8]>| {
        Reader::new(Dialect::OpenAiChat, Encoding::O200kBase, 200, Some(kind.as_bytes()), encoding, true)
    };
    for (reader, body, why) in [
        (new("application/json", Some(b"compress")), "{}", "compressed"),
        (new("application/json", Some(b"zstd")), "{}", "a compressed answer that is broken"),
        (new("application/json", Some(b"gzip")), "{}", "a compressed answer that is broken"),
        (new("text/html", None), "<html>", "neither JSON nor an event stream"),
        (new("application/json", None), "dear", "neither JSON nor an event stream"),
        (new("application/json", None), "{\"choices\":[", "broken JSON"),
        (new("application/json", None), "", "empty"),
    ] {
        let (reader, out) = read(reader, [body.as_bytes()]);
        assert_eq!((reader.unreadable(), out.as_slice()), (Some(why), body.as_bytes()));
        assert!(!reader.finished());
    }
    assert_eq!(read(new("application/json", Some(b" Identity")), [&b"{}"[..]]).0.unreadable(), None);
}

#[test]
fn white_space_before_a_frame_means_the_same_in_a_piece_of_its_own() {
    let new = || Reader::new(Dialect::BedrockConverse, Encoding::O200kBase, 200, None, None, false);
    for body in [&b"\r\0\x91"[..], b"\n\0{\"a\":1}", b" \t\0\0\0\x10"] {
        let (whole, pieces) = (read(new(), [body]).0, read(new(), body.chunks(1)).0);
        assert!(whole.unreadable().is_some());
        assert_eq!(pieces.unreadable(), whole.unreadable());
    }
}

#[test]
fn large_and_deep_answers_are_bounded() {
    let mut large = reader(Dialect::OpenAiChat, true);
    assert_eq!(large.push(b"{\"choices\":[{\"message\":{\"content\":\"", false), Forward::Same);
    for _ in 0..10 * 1024 {
        assert_eq!(large.push("word word word \n".repeat(64).as_bytes(), false), Forward::Same);
    }
    assert_eq!(large.unreadable(), Some("an answer above 8 MiB"));
    assert!(large.delivered() > 1_000_000);
    let deep = openai(&format!("data: {}\n\ndata: {{\"choices\":{}\n\n", "[".repeat(100_000), "[".repeat(100_000)));
    assert_eq!((deep.reported(), deep.delivered()), (None, 0));
    let long = openai(&format!("data: {{\"x\":\"{}\"}}\n\ndata: [DONE]\n\n", "x".repeat(2 << 20)));
    assert_eq!((long.unreadable(), long.finished()), (Some("an event above 1 MiB"), true));
}

#[test]
fn an_event_of_lines_without_data_is_not_held_for_ever() {
    let line = b"id: 1\n".repeat(100_000);
    let mut hiding = reader(Dialect::OpenAiChat, true);
    let mut passed = 0;
    for _ in 0..10 {
        passed += match hiding.push(&line, false) {
            Forward::Same => line.len(),
            Forward::Replace(bytes) => bytes.len(),
        };
    }
    assert!(passed > 3_000_000, "{passed}");
    assert_eq!(hiding.unreadable(), None);
    hiding.push(b"\ndata: [DONE]\n\n", true);
    assert!(hiding.finished());
    assert_eq!(hiding.unreadable(), Some("an event above 1 MiB"));
}

#[test]
fn an_abort_counts_what_was_passed_on() {
    let mut stream = reader(Dialect::OpenAiChat, false);
    let mut text = String::new();
    for word in ["The", " quick", " brown", " fox", " jumps", " ov", "er", " it"] {
        text.push_str(word);
        stream.push(format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{word}\"}}}}]}}\n\n").as_bytes(), false);
        assert_eq!(stream.delivered(), Encoding::O200kBase.count(&text));
    }
    assert!(!stream.finished());
    let mut json = reader(Dialect::OpenAiChat, false);
    json.push(br#"{"choices":[{"message":{"content":"The quick brown"#, false);
    assert_eq!(json.delivered(), Encoding::O200kBase.count("The quick brown"));
}

#[test]
fn an_error_status_is_no_error_inside() {
    let error = br#"{"error":{"message":"no"}}"#;
    let new = |status| Reader::new(Dialect::OpenAiChat, Encoding::O200kBase, status, None, None, true);
    assert!(read(new(200), [&error[..]]).0.error_inside());
    assert!(!read(new(429), [&error[..]]).0.error_inside());
}

#[test]
fn compressed_answers_are_read_and_pass_as_they_are() {
    for path in golden_files() {
        let body = std::fs::read(&path).unwrap();
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, &body).unwrap();
        let packed = packed.finish().unwrap();
        let (dialect, kind) = (dialect_of(&path), Some(&b"text/event-stream"[..]));
        let new = || Reader::new(dialect, Encoding::O200kBase, 200, kind, Some(b"gzip"), true);
        let plain = told(&read(reader(dialect, false), [&body[..]]).0);
        for size in [1, 100, packed.len()] {
            let (reader, out) = read(new(), packed.chunks(size));
            assert_eq!((told(&reader), out), (plain.clone(), packed.clone()), "{}", path.display());
        }
    }
}

#[path = "reader_cut_tests.rs"]
mod cutting;
#[path = "reader_own_tests.rs"]
mod own;
#[path = "reader_vendor_tests.rs"]
mod vendors;
