//! What reading a delta of a stream costs, natively: `cargo bench --bench chunk`, a part of `make bench`.
//!
//! A delta is one event with some words in it, as providers send them: it is framed, parsed, and its text counted. Printed
//! are nanoseconds an event, the best of several rounds, when every event comes in a chunk of its own and when eight share
//! one; passed on as it is, and kept to an allowance.

#![expect(
    clippy::disallowed_methods,
    clippy::float_arithmetic,
    reason = "a bench: it reads the clock, and prints shares of it"
)]

use std::time::Instant;

use farebox::meter::count::Encoding;
use farebox::meter::dialect::Dialect;
use farebox::meter::reader::{Reader, Terms};

const EVENTS: usize = 4_000;
const ROUNDS: usize = 25;

/// An event whose data has some 50 bytes around the words.
fn openai(word: &str) -> String {
    format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{word}\"}}}}]}}\n\n")
}

/// The same as OpenAI sends it today, with all that it repeats.
fn whole(word: &str) -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-9xYzAbCdEfGhIjKlMnOpQrStUvWxY\",\"object\":\"chat.completion.chunk\",\"created\":1732900000,\
         \"model\":\"gpt-4o-2024-08-06\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_0123456789\",\
         \"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{word}\"}},\"logprobs\":null,\"finish_reason\":null}}],\
         \"usage\":null,\"obfuscation\":\"h4Fk2\"}}\n\n"
    )
}

fn anthropic(word: &str) -> String {
    format!(
        "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\
         \"delta\":{{\"type\":\"text_delta\",\"text\":\"{word}\"}}}}\n\n"
    )
}

/// The best round, in nanoseconds an event.
fn measure(dialect: Dialect, events: &[String], together: usize, kept: bool) -> f64 {
    let chunks: Vec<String> = events.chunks(together).map(<[String]>::concat).collect();
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let mut reader = Reader::new(dialect, Encoding::O200kBase, 200, Some(b"text/event-stream"), None, false);
        if kept {
            reader.keep_to(Terms { allowance: u64::from(u32::MAX), choices: 1, tells_usage: false, unweighed: false });
        }
        let begun = Instant::now();
        for chunk in &chunks {
            std::hint::black_box(reader.push(chunk.as_bytes(), false));
        }
        best = best.min(begun.elapsed().as_nanos() as f64 / events.len() as f64);
        assert!(reader.delivered() > 0, "nothing was read");
    }
    best
}

fn main() {
    let words = ["The", " quick", " brown", " fox", " jumps", " over", " the", " lazy", " dog", ".", " Then", " it"];
    let of = |event: fn(&str) -> String| -> Vec<String> {
        words.iter().cycle().take(EVENTS).map(|word| event(word)).collect()
    };
    println!("{:34} {:>6} {:>10} {:>10} {:>10}", "ns an event", "bytes", "one each", "by eight", "kept");
    for (name, dialect, events) in [
        ("OpenAI chat, 50 bytes", Dialect::OpenAiChat, of(openai)),
        ("OpenAI chat, as sent", Dialect::OpenAiChat, of(whole)),
        ("Anthropic messages", Dialect::AnthropicMessages, of(anthropic)),
    ] {
        let bytes = events.iter().map(String::len).sum::<usize>() / events.len();
        let [one, eight, kept] =
            [(1, false), (8, false), (1, true)].map(|(together, kept)| measure(dialect, &events, together, kept));
        println!("{name:34} {bytes:6} {one:10.0} {eight:10.0} {kept:10.0}");
    }
}
