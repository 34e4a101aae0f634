//! What looking at a text costs: the same measurement natively and inside Envoy, for `make bench`. Time is a parameter, as
//! everywhere. Only with the feature `test-hooks`, never in what is shipped.
//!
//! All that is known is looked for: in a prompt of 4 KB, which is there as a whole, and in the same text as an answer that
//! comes in pieces of some five bytes.

use std::hint::black_box;

use super::{Action, Injection, Redactor, Scanner, Selection, Topic};

/// Bytes of a prompt, at least.
const PROMPT: usize = 4_096;
/// Bytes of a piece of an answer, at least: a token or two.
const PIECE: usize = 5;
/// Prompts, and answers, in one round.
const TURNS: u32 = 32;

/// In which a text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sample {
    /// English prose.
    English,
    /// A line of Rust with an address in it.
    Code,
    /// Chinese prose, with the marks of its own.
    Chinese,
}

/// What came of it, in nanoseconds of the fastest round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Bytes of the prompt.
    pub bytes: usize,
    /// Looking at the prompt.
    pub prompt: u64,
    /// Looking at a piece of the answer.
    pub piece: u64,
}

impl Sample {
    /// All, each by the name under which a request asks for it.
    pub const ALL: [(&'static str, Sample); 3] =
        [("english", Self::English), ("code", Self::Code), ("chinese", Self::Chinese)];

    fn text(self) -> String {
        let line = match self {
            Self::English => "The quick brown fox jumps over the lazy dog, and nobody counts how often. ",
            Self::Code => {
                "let total = items.iter().map(|item| item.price * 3).sum::<u64>(); // see https://example.com/a/b?c=1\n"
            }
            Self::Chinese => "北京时间上午十点，会议开始。请各位同事准备好材料，并在会前发送给组长；谢谢配合！",
        };
        line.repeat(PROMPT.div_ceil(line.len()))
    }

    /// Looks at this in so many rounds. `None`: the detectors do not compile, or find something where nothing is.
    pub fn cost(self, rounds: u32, now: impl Fn() -> u64) -> Option<Cost> {
        let (text, [asked, answered]) = (self.text(), scanners()?);
        let pieces = pieces(&text);
        let (mut prompt, mut piece) = (u64::MAX, u64::MAX);
        for _ in 0..rounds.max(1) {
            let begun = now();
            for _ in 0..TURNS {
                if !black_box(asked.find(black_box(&text))).is_empty() {
                    return None;
                }
            }
            let read = now();
            for _ in 0..TURNS {
                let (mut redactor, mut out, mut found) = (Redactor::new(answered.clone()), String::new(), false);
                pieces.iter().for_each(|piece| redactor.push(piece, &mut |_, _, _| found = true, &mut out));
                redactor.finish(&mut |_, _, _| found = true, &mut out);
                if found || out.len() != text.len() {
                    return None;
                }
            }
            prompt = prompt.min(read.saturating_sub(begun));
            piece = piece.min(now().saturating_sub(read));
        }
        let turns = u64::from(TURNS);
        Some(Cost { bytes: text.len(), prompt: prompt / turns, piece: piece / turns / pieces.len().max(1) as u64 })
    }
}

/// Of everything in a prompt, and of everything in an answer, where no instruction is looked for.
fn scanners() -> Option<[Scanner; 2]> {
    let topics = Topic::ALL.map(|topic| (topic, Action::Redact)).to_vec();
    let keywords = Some((vec!["project falcon".to_owned(), "机密项目".to_owned()], Action::Deny));
    let patterns = vec![("badge".to_owned(), "EMP-[0-9]{6}".to_owned(), Action::Redact)];
    let answered = Selection { topics, patterns, keywords, injection: Vec::new() };
    let injection = Injection::ALL.map(|injection| (injection, Action::Deny)).to_vec();
    let asked = Selection { injection, ..answered.clone() };
    Some([Scanner::new(&asked).ok()?, Scanner::new(&answered).ok()?])
}

/// A text in pieces of whole characters.
fn pieces(text: &str) -> Vec<&str> {
    let (mut pieces, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let end = (PIECE..rest.len()).find(|end| rest.is_char_boundary(*end)).unwrap_or(rest.len());
        let (piece, behind) = rest.split_at(end);
        pieces.push(piece);
        rest = behind;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::{Cost, Sample};

    #[test]
    fn every_text_is_looked_at_whole_and_in_pieces() {
        for (name, sample) in Sample::ALL {
            let clock = Cell::new(0);
            let tick = || clock.replace(clock.get() + 32_000_000);
            let Cost { bytes, prompt, piece } = sample.cost(1, tick).unwrap_or_else(|| panic!("{name}"));
            assert!((4_096..4_300).contains(&bytes), "{name}: {bytes}");
            assert_eq!(prompt, 1_000_000, "{name}");
            assert!((1_000..3_000).contains(&piece), "{name}: {piece}");
        }
    }
}
