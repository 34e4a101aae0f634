//! Where other vocabularies cut text that ours do not.
//!
//! Ours take up to three digits for a token, and a sign with the ends of lines behind it. Gemini's, Qwen's and Mistral's
//! cut numbers into their digits (Gemma's report, "Tokenizer"; Qwen's technical report, 2.2; Mistral's `tekken` pattern,
//! `\p{N}`), and Gemini's cuts lines off the sign before them too: with both, recorded answers with numbers, dates and
//! indented JSON come out exactly, and so do names like `get_weather`, where a `_` is a token of its own. It is told from
//! the bytes alone, so it costs a look at each.

use super::count::Encoding;

/// What a vocabulary cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cuts {
    /// What ours do.
    None,
    /// Numbers too.
    Digits,
    /// Numbers, lines, and names whose words are joined by `_`.
    Fine,
}

/// The cuts in a text, which may come in pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seams {
    /// Tokens more where each digit is one.
    digits: u64,
    /// Tokens more where the end of a line is one, whatever stands before it.
    lines: u64,
    /// Tokens more where a `_` before a word is one.
    joints: u64,
    /// Digits of the number that the text ends in, modulo three.
    run: u8,
    /// It ends in a sign.
    sign: bool,
    /// It ends in a `_`.
    joint: bool,
}

impl Cuts {
    /// Tokens that this vocabulary has more of a text with such seams than ours.
    pub fn more(self, seams: &Seams) -> u64 {
        match self {
            Self::None => 0,
            Self::Digits => seams.digits,
            Self::Fine => seams.digits.saturating_add(seams.lines).saturating_add(seams.joints),
        }
    }

    /// Tokens of a whole text, if they are no more than `most`.
    pub fn count(self, encoding: Encoding, text: &str, most: u64) -> Option<u64> {
        let count = encoding.count_up_to(text, most).map(|count| self.tokens(text, count));
        count.filter(|count| *count <= most)
    }

    /// Tokens of a whole text that has `count` of ours. Where ours cut already there is no more: a token has a byte at least.
    pub fn tokens(self, text: &str, count: u64) -> u64 {
        if self == Self::None {
            return count;
        }
        let mut seams = Seams::default();
        seams.push(text);
        count.saturating_add(self.more(&seams)).min(text.len() as u64)
    }
}

impl Seams {
    /// More of the text.
    pub fn push(&mut self, text: &str) {
        for byte in text.bytes() {
            if byte.is_ascii_digit() {
                // The first of three is a token of ours too.
                self.digits = self.digits.saturating_add(u64::from(self.run != 0));
                self.run = (self.run + 1) % 3;
            } else {
                self.run = 0;
            }
            self.lines = self.lines.saturating_add(u64::from(byte == b'\n' && self.sign));
            self.sign = byte.is_ascii_punctuation();
            self.joints = self.joints.saturating_add(u64::from(self.joint && byte.is_ascii_alphabetic()));
            self.joint = byte == b'_';
        }
    }

    /// Another text begins.
    pub fn part(&mut self) {
        (self.run, self.sign, self.joint) = (0, false, false);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    use super::{Cuts, Encoding, Seams};

    #[test]
    fn numbers_and_lines_are_cut() {
        for (text, digits, lines) in [
            ("a word", 0, 0),
            ("5 times 3 is 15.", 1, 0),
            ("2014-05-21", 4, 0),
            ("4242\n", 2, 0),
            ("1234567", 4, 0),
            ("{\n  \"age\": 30,\n  \"name\": \"John\"\n}", 1, 3),
            // The third figure is of lines and joints.
            ("get_the_weather of _", 0, 2),
        ] {
            let count = Encoding::O200kBase.count(text);
            let more = [Cuts::None, Cuts::Digits, Cuts::Fine].map(|cuts| cuts.tokens(text, count) - count);
            assert_eq!(more, [0, digits, digits + lines], "{text:?}");
        }
    }

    #[test]
    fn another_text_does_not_go_on_with_a_number() {
        let mut seams = Seams::default();
        seams.push("12");
        seams.part();
        seams.push("3");
        assert_eq!(Cuts::Digits.more(&seams), 1);
    }

    proptest! {
        #[test]
        fn in_whatever_pieces(texts in proptest::collection::vec("[0-9a_{,\n ]{0,6}", 0..8)) {
            let mut seams = Seams::default();
            texts.iter().for_each(|text| seams.push(text));
            let whole = texts.concat();
            let mut at_once = Seams::default();
            at_once.push(&whole);
            for cuts in [Cuts::Digits, Cuts::Fine] {
                prop_assert_eq!(cuts.more(&seams), cuts.more(&at_once));
            }
        }

        #[test]
        fn a_token_has_a_byte_at_least(text in "[ -~\n]{0,60}") {
            let counted = Cuts::Fine.tokens(&text, Encoding::O200kBase.count(&text));
            prop_assert!(counted <= text.len() as u64);
        }
    }

    /// A sign that no vocabulary of ours joins to the end of a line.
    #[test]
    fn where_ours_cut_already_there_is_no_more() {
        let text = "^\n".repeat(5);
        let count = Encoding::O200kBase.count(&text);
        assert_eq!((count, Cuts::Fine.tokens(&text, count)), (10, 10));
    }
}
