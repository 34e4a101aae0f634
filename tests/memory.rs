//! The memory that reading a stream takes: printed, and no more for a long one than for a short one.
//!
//! Told by the most that a process has had resident when some readers are in the middle of their streams: one process for
//! each kind, as what one frees the next one lives in. Without `/proc` it says so and passes.

#![expect(clippy::unwrap_used, reason = "a test: what it says itself is well-formed")]

use farebox::meter::count::Encoding;
use farebox::meter::dialect::Dialect;
use farebox::meter::reader::{Reader, Terms};

/// Readers at once: what the allocator keeps for itself is divided by so many.
const READERS: usize = 16;
/// The same, of those that take much.
const FEW: usize = 4;
/// Events of a stream.
const EVENTS: u64 = 2_000;
/// The most that a stream in the middle of small events may take, in KiB.
const SMALL: u64 = 256;
/// The most that one may take in an event that never ends: 1 MiB of it, as much that waits, and what growing buffers leave.
const ENDLESS: u64 = 6 * 1024;
/// The most that a document may take that never ends, and an object of a stream of objects: 8 MiB of it, as much that waits,
/// and what growing buffers leave.
const DOCUMENT: u64 = 26 * 1024;
/// The most that an answer in zstd may take whose window is the largest: two of them, a third while they are moved, and an
/// event that never ends.
const ZSTD: u64 = 24 * 1024 + ENDLESS;

/// The most bytes that were ever resident, in KiB.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

fn reader(dialect: Dialect, kept: bool) -> Reader {
    let mut reader = Reader::new(dialect, Encoding::O200kBase, 200, Some(b"text/event-stream"), None, true);
    if kept {
        reader.keep_to(Terms { allowance: u64::MAX / 2, choices: 1, tells_usage: false, unweighed: false });
    }
    reader
}

fn compressed() -> Reader {
    Reader::new(Dialect::OpenAiChat, Encoding::O200kBase, 200, Some(b"text/event-stream"), Some(b"zstd"), true)
}

fn event(dialect: Dialect, number: u64) -> String {
    let word = format!(" word{number}");
    match dialect {
        Dialect::AnthropicMessages => format!(
            "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\"{word}\"}}}}\n\n"
        ),
        Dialect::OpenAiResponses => format!(
            "data: {{\"type\":\"response.output_text.delta\",\"sequence_number\":{number},\"output_index\":0,\"content_index\":0,\"delta\":\"{word}\"}}\n\n"
        ),
        Dialect::GeminiGenerate => {
            format!("data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":\"{word}\"}}]}}}}]}}\r\n\r\n")
        }
        Dialect::OllamaChat => format!("{{\"message\":{{\"content\":\"{word}\"}},\"done\":false}}\n"),
        _ => format!(
            "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{word}\"}},\"finish_reason\":null}}]}}\n\n"
        ),
    }
}

/// KiB a reader, when each of so many has been fed by `feed`.
fn taken(readers: usize, make: impl Fn() -> Reader, feed: impl Fn(&mut Reader)) -> u64 {
    let before = resident().unwrap();
    let mut many: Vec<Reader> = (0..readers).map(|_| make()).collect();
    many.iter_mut().for_each(&feed);
    let after = resident().unwrap();
    drop(many);
    after.saturating_sub(before) / u64::try_from(readers).unwrap()
}

fn endless(reader: &mut Reader, begun: &str) {
    reader.push(begun.as_bytes(), false);
    (0..2_048).for_each(|_| drop(reader.push(&[b'x'; 8 * 1024], false)));
}

/// One frame with a window of 8 MiB, in blocks of 8 KiB that are as they are, four windows long.
fn endless_frame(reader: &mut Reader) {
    reader.push(&[0x28, 0xb5, 0x2f, 0xfd, 0, 0x68], false);
    let block = [&[0, 0, 1][..], b"data: ", &[b'x'; 8 * 1024 - 6]].concat();
    (0..4_096).for_each(|_| drop(reader.push(&block, false)));
    assert_eq!(reader.unreadable(), None);
}

/// What the parent process asks of this one.
const ASKED: &str = "FAREBOX_MEMORY_OF";

const DIALECTS: [Dialect; 5] = [
    Dialect::OpenAiChat,
    Dialect::OpenAiResponses,
    Dialect::AnthropicMessages,
    Dialect::GeminiGenerate,
    Dialect::OllamaChat,
];

/// `openai-chat kept small`: in KiB.
fn measure(what: &str) -> u64 {
    // What is built once is built before.
    let mut warm = reader(Dialect::OpenAiChat, false);
    (0..100).for_each(|number| drop(warm.push(event(Dialect::OpenAiChat, number).as_bytes(), false)));
    let words: Vec<&str> = what.split(' ').collect();
    let [name, how, size] = words.try_into().unwrap();
    let dialect = Dialect::named(name).unwrap();
    let make = || reader(dialect, how == "kept");
    match size {
        "small" => taken(READERS, make, |reader| {
            (0..EVENTS).for_each(|number| drop(reader.push(event(dialect, number).as_bytes(), false)));
        }),
        "endless" => {
            let begun = event(dialect, 0);
            let begun = begun.get(..begun.len() / 2).unwrap();
            taken(FEW, make, |reader| endless(reader, begun))
        }
        "frame" => taken(FEW, compressed, endless_frame),
        _ => taken(FEW, make, |reader| endless(reader, "{\"choices\":[{\"message\":{\"content\":\"")),
    }
}

/// The same in a process of its own.
fn measured(what: &str) -> u64 {
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["a_stream_takes_no_more_the_longer_it_is", "--exact", "--nocapture"])
        .env(ASKED, what)
        .output()
        .unwrap();
    let told = String::from_utf8(child.stdout).unwrap();
    told.lines().find_map(|line| line.split("KiB:").nth(1)?.trim().parse().ok()).unwrap()
}

#[test]
fn a_stream_takes_no_more_the_longer_it_is() {
    if resident().is_none() {
        eprintln!("SKIPPED: no /proc here tells what is resident");
        return;
    }
    if let Ok(what) = std::env::var(ASKED) {
        println!("\nKiB: {}", measure(&what));
        return;
    }
    println!("memory of a stream, KiB: {EVENTS} small events; an event that never ends");
    for dialect in DIALECTS {
        for how in ["passed", "kept"] {
            let [small, long] = ["small", "endless"].map(|size| measured(&format!("{} {how} {size}", dialect.name())));
            println!("{:20} {how:6} {small:>8} {long:>8}", dialect.name());
            let most = if dialect == Dialect::OllamaChat { DOCUMENT } else { ENDLESS };
            assert!(small <= SMALL, "{dialect:?} takes {small} KiB");
            assert!(long <= most, "{dialect:?} takes {long} KiB in one event");
        }
    }
    let document = measured("openai-chat passed document");
    println!("a document that never ends: {document}");
    assert!(document <= DOCUMENT, "a document takes {document} KiB");
    let frame = measured("openai-chat passed frame");
    println!("an answer in zstd that never ends: {frame}");
    assert!(frame <= ZSTD, "an answer in zstd takes {frame} KiB");
}
