//! Text made of tokens that were chosen first.
//!
//! A model emits token ids and knows how many it emitted; nobody has to count them afterwards. So does this
//! stand-in: it draws ids from the `o200k_base` vocabulary and keeps only draws after which the text still
//! encodes to exactly the ids drawn, so that its report is true by construction. The tables are those of
//! `bpe-openai`, which shares no code with the filter's meter: the two can disagree, and tests look for that.

use std::sync::LazyLock;

use bpe_openai::{Tokenizer, o200k_base};

/// Draws after which nothing fitted; then plain words, which always fit, finish the text.
const TRIES_PER_TOKEN: u32 = 64;

/// Number of `o200k_base` tokens of `text`, special tokens being plain text.
pub fn count(text: &str) -> u64 {
    wide(o200k_base().count(text))
}

/// `text` cut into its tokens. A character that spans several tokens makes one piece with their number, since
/// neither JSON nor SSE can carry half of it.
pub fn pieces(text: &str) -> Vec<Piece> {
    let tokenizer = o200k_base();
    let mut pieces = Vec::new();
    let (mut bytes, mut tokens) = (Vec::new(), 0u64);
    for id in tokenizer.encode(text) {
        bytes.extend_from_slice(tokenizer.bpe.token_bytes(id));
        tokens = tokens.saturating_add(1);
        if let Ok(text) = std::str::from_utf8(&bytes) {
            pieces.push(Piece { text: text.to_owned(), tokens });
            bytes.clear();
            tokens = 0;
        }
    }
    pieces
}

/// What one streamed event carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Valid UTF-8, never empty.
    pub text: String,
    /// Tokens in it, at least 1.
    pub tokens: u64,
}

/// A small deterministic generator (SplitMix64, public domain, Sebastiano Vigna).
#[derive(Clone, Debug)]
pub struct Draw(u64);

impl Draw {
    /// A sequence that depends on `seed` and `turn` only.
    pub fn new(seed: u64, turn: u64) -> Draw {
        let mut draw = Draw(seed ^ turn.wrapping_mul(0xA076_1D64_78BD_642F));
        draw.next();
        draw
    }

    /// The next 64 random bits.
    #[expect(clippy::should_implement_trait, reason = "endless: an iterator's `None` would never come")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next().checked_rem(bound).unwrap_or(0)
    }

    fn one<'a>(&mut self, pool: &'a [&'static str]) -> Option<&'a &'static str> {
        let at = usize::try_from(self.below(wide(pool.len()))).unwrap_or(0);
        pool.get(at)
    }
}

/// `tokens` pieces of one token each, whose concatenation encodes to exactly these tokens; the same holds for
/// every prefix, so that a reader who was cut off can count what he got.
pub fn compose(tokens: u64, draw: &mut Draw) -> Vec<Piece> {
    let drawn = attempt(tokens, draw, Mix::Prose);
    let text: String = drawn.iter().map(|piece| piece.text.as_str()).collect();
    // The local checks of `attempt` imply this; should a vocabulary ever break them, words alone cannot fail.
    if count(&text) == tokens { drawn } else { attempt(tokens, draw, Mix::Words) }
}

/// As [`compose`], of plain words only, each with a blank in front of it.
pub fn words(tokens: u64, draw: &mut Draw) -> Vec<Piece> {
    attempt(tokens, draw, Mix::Words)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mix {
    Prose,
    Words,
}

/// ` word` always opens a new pre-token, so nothing before the last word can change how the rest is encoded:
/// it is enough to check the text from that word on.
fn attempt(tokens: u64, draw: &mut Draw, mix: Mix) -> Vec<Piece> {
    let tokenizer = o200k_base();
    let mut pieces = Vec::new();
    let (mut tail, mut tail_tokens) = (String::new(), 0usize);
    let mut tries = 0u32;
    while wide(pieces.len()) < tokens {
        let prose = mix == Mix::Prose && tries < TRIES_PER_TOKEN;
        let pool = match draw.below(100) {
            0..9 if prose => Pool::Marks,
            9..18 if prose => Pool::Letters,
            _ => Pool::Words,
        };
        let Some(text) = draw.one(POOLS.pool(pool)) else { break };
        let before = tail.len();
        tail.push_str(text);
        if tokenizer.count(tail.as_str()) != tail_tokens.saturating_add(1) {
            tail.truncate(before);
            tries = tries.saturating_add(1);
            continue;
        }
        tail_tokens = tail_tokens.saturating_add(1);
        if pool == Pool::Words {
            tail.clear();
            tail.push_str(text);
            tail_tokens = 1;
        }
        tries = 0;
        pieces.push(Piece { text: (*text).to_owned(), tokens: 1 });
    }
    pieces
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pool {
    Words,
    Marks,
    Letters,
}

/// Tokens of the vocabulary by the part that they play in a text.
struct Pools {
    words: Vec<&'static str>,
    marks: Vec<&'static str>,
    letters: Vec<&'static str>,
}

impl Pools {
    fn pool(&self, pool: Pool) -> &[&'static str] {
        match pool {
            Pool::Words => &self.words,
            Pool::Marks => &self.marks,
            Pool::Letters => &self.letters,
        }
    }
}

static POOLS: LazyLock<Pools> = LazyLock::new(|| gather(o200k_base()));

fn gather(tokenizer: &'static Tokenizer) -> Pools {
    let mut pools = Pools { words: Vec::new(), marks: Vec::new(), letters: Vec::new() };
    for id in 0..u32::try_from(tokenizer.bpe.num_tokens()).unwrap_or(0) {
        let Ok(text) = std::str::from_utf8(tokenizer.bpe.token_bytes(id)) else { continue };
        let body = text.strip_prefix(' ').unwrap_or(text);
        let spaced = body.len() < text.len();
        if spaced && (2..=12).contains(&body.len()) && body.bytes().all(|byte| byte.is_ascii_lowercase()) {
            pools.words.push(text);
        } else if matches!(text, "," | "." | "!" | "?" | ":" | ";" | " (" | ")" | " -" | " \"" | "\n" | "\n\n") {
            pools.marks.push(text);
        } else if body.chars().all(|letter| letter.is_alphabetic() && !letter.is_ascii()) && !body.is_empty() {
            // Scripts without spaces and multi-byte letters: what a byte-framing meter gets wrong first.
            pools.letters.push(text);
        }
    }
    pools
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prefix_encodes_to_what_was_drawn() {
        for turn in 0..40 {
            let mut draw = Draw::new(7, turn);
            let tokens = draw.below(120);
            let (mut text, mut total) = (String::new(), 0);
            for piece in compose(tokens, &mut draw) {
                text.push_str(&piece.text);
                total += piece.tokens;
                assert_eq!(count(&text), total, "after {text:?}");
            }
            assert_eq!(total, tokens);
        }
    }

    #[test]
    fn texts_are_varied() {
        let text: String = compose(2_000, &mut Draw::new(1, 1)).into_iter().map(|piece| piece.text).collect();
        assert!(text.contains('\n') && text.contains(',') && !text.is_ascii(), "{text}");
    }

    #[test]
    fn a_sequence_depends_on_seed_and_turn_only() {
        let text = |seed, turn| compose(30, &mut Draw::new(seed, turn));
        assert_eq!(text(1, 1), text(1, 1));
        assert_ne!(text(1, 1), text(1, 2));
        assert_ne!(text(1, 1), text(2, 1));
    }

    #[test]
    fn a_character_is_never_cut() {
        let text = "héllo 🜁🜂 世界 {\"city\": \"Øslo\"}";
        let pieces = pieces(text);
        assert_eq!(pieces.iter().map(|piece| piece.text.as_str()).collect::<String>(), text);
        assert_eq!(pieces.iter().map(|piece| piece.tokens).sum::<u64>(), count(text));
        assert!(pieces.iter().any(|piece| piece.tokens > 1), "the alchemical signs span tokens: {pieces:?}");
    }
}
