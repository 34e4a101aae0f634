//! What reading a delta of a stream costs: the same measurement natively and inside Envoy, for `make bench`. Time is a
//! parameter, as everywhere. Only with the feature `test-hooks`, never in what is shipped.
//!
//! A delta is one event with a word in it, as providers send them: it is framed, parsed, and its text counted.

use std::hint::black_box;

use super::count::Encoding;
use super::dialect::Dialect;
use super::reader::{Reader, Terms};

/// Events in one round.
const EVENTS: usize = 4_000;
const WORDS: [&str; 12] =
    ["The", " quick", " brown", " fox", " jumps", " over", " the", " lazy", " dog", ".", " Then", " it"];

/// Whose delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delta {
    /// OpenAI chat, 50 bytes of JSON around the word.
    Short,
    /// OpenAI chat with all that it repeats today.
    Whole,
    /// Anthropic messages.
    Anthropic,
}

/// How it comes, and what is done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Each in a chunk of its own, passed on as it is.
    Alone,
    /// Eight share a chunk.
    Together,
    /// Alone, and kept to an allowance, as where a fund may run out.
    Kept,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Bytes of an event, its frame included.
    pub bytes: usize,
    /// Nanoseconds an event in the fastest round.
    pub nanoseconds: u64,
}

impl Delta {
    /// All, each by the name under which a request asks for it.
    pub const ALL: [(&'static str, Delta); 3] =
        [("openai-50-bytes", Self::Short), ("openai-as-sent", Self::Whole), ("anthropic", Self::Anthropic)];

    fn dialect(self) -> Dialect {
        match self {
            Self::Short | Self::Whole => Dialect::OpenAiChat,
            Self::Anthropic => Dialect::AnthropicMessages,
        }
    }

    fn event(self, word: &str) -> String {
        match self {
            Self::Short => format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{word}\"}}}}]}}\n\n"),
            Self::Whole => format!(
                "data: {{\"id\":\"chatcmpl-9xYzAbCdEfGhIjKlMnOpQrStUvWxY\",\"object\":\"chat.completion.chunk\",\
                 \"created\":1732900000,\"model\":\"gpt-4o-2024-08-06\",\"service_tier\":\"default\",\
                 \"system_fingerprint\":\"fp_0123456789\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{word}\"}},\
                 \"logprobs\":null,\"finish_reason\":null}}],\"usage\":null,\"obfuscation\":\"h4Fk2\"}}\n\n"
            ),
            Self::Anthropic => format!(
                "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\
                 \"delta\":{{\"type\":\"text_delta\",\"text\":\"{word}\"}}}}\n\n"
            ),
        }
    }

    /// Reads a stream of these in so many rounds. `None`: nothing of it was read.
    pub fn cost(self, way: Way, rounds: u32, now: impl Fn() -> u64) -> Option<Cost> {
        let events: Vec<String> = WORDS.iter().cycle().take(EVENTS).map(|word| self.event(word)).collect();
        let together = if way == Way::Together { 8 } else { 1 };
        let chunks: Vec<String> = events.chunks(together).map(<[String]>::concat).collect();
        let mut best = u64::MAX;
        for _ in 0..rounds.max(1) {
            let mut reader =
                Reader::new(self.dialect(), Encoding::O200kBase, 200, Some(b"text/event-stream"), None, false);
            if way == Way::Kept {
                let allowance = u64::from(u32::MAX);
                reader.keep_to(Terms { allowance, choices: 1, tells_usage: false, unweighed: false });
            }
            let begun = now();
            for chunk in &chunks {
                black_box(reader.push(chunk.as_bytes(), false));
            }
            best = best.min(now().saturating_sub(begun));
            if reader.delivered() == 0 {
                return None;
            }
        }
        let bytes = events.iter().map(String::len).sum::<usize>();
        Some(Cost { bytes: bytes / EVENTS, nanoseconds: best / EVENTS as u64 })
    }
}

impl Way {
    /// All, in the order in which they are printed.
    pub const ALL: [Way; 3] = [Self::Alone, Self::Together, Self::Kept];
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::{Delta, Way};

    #[test]
    fn every_delta_is_read_in_every_way() {
        for (name, delta) in Delta::ALL {
            for way in Way::ALL {
                let clock = Cell::new(0);
                let tick = || clock.replace(clock.get() + 8_000_000);
                let cost = delta.cost(way, 1, tick).unwrap_or_else(|| panic!("{name}, {way:?}: nothing was read"));
                assert_eq!(cost.nanoseconds, 2_000);
            }
        }
    }
}
