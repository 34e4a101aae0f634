//! Counting tokens of text.

use std::collections::HashSet;

use once_cell::sync::OnceCell;
use tiktoken_rs::CoreBPE;

use super::cut;

/// The longest text that is given to the vocabulary at once, in bytes.
///
/// tiktoken-rs runs its pattern on a backtracking engine whose stack ends at a million steps, and needs some
/// 30 bytes of memory for a byte of one unbroken piece.
const WINDOW: usize = 64 * 1024;

/// A public vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// `o200k_base`: GPT-4o and later.
    O200kBase,
    /// `cl100k_base`: GPT-4 and GPT-3.5.
    Cl100kBase,
}

impl Encoding {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::O200kBase, Self::Cl100kBase];

    /// The name that policies and OpenAI's tiktoken use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::O200kBase => "o200k_base",
            Self::Cl100kBase => "cl100k_base",
        }
    }

    /// The vocabulary of this [`name`](Self::name), if we have it.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|encoding| encoding.name() == name)
    }

    /// Tokens in `text`, special tokens read as plain text.
    ///
    /// Exact, except where a single unbroken piece (white space, a run of signs, one endless word) is longer
    /// than 64 KiB: that is cut, and each cut may count a token or two too many, not fewer. The first call
    /// loads the vocabulary, about a tenth of a second.
    pub fn count(self, text: &str) -> u64 {
        let mut sum = 0u64;
        let mut rest = text;
        while rest.len() > WINDOW {
            let window = cut::floor_boundary(rest, WINDOW);
            let at = rest.get(..window).and_then(cut::last_safe).unwrap_or(window);
            let Some((head, tail)) = rest.split_at_checked(at) else { break };
            sum = sum.saturating_add(self.count_window(head));
            rest = tail;
        }
        sum.saturating_add(self.count_window(rest))
    }

    /// Tokens in a text of bounded length. Should the vocabulary ever fail, every byte is a token: the most
    /// it can be.
    fn count_window(self, text: &str) -> u64 {
        let most = text.len() as u64;
        if most <= 1 {
            return most;
        }
        let count = self.vocabulary().and_then(|bpe| bpe.count(text, &HashSet::new()).ok());
        count.map_or(most, |count| count as u64)
    }

    fn vocabulary(self) -> Option<&'static CoreBPE> {
        static O200K: OnceCell<Option<CoreBPE>> = OnceCell::new();
        static CL100K: OnceCell<Option<CoreBPE>> = OnceCell::new();
        match self {
            Self::O200kBase => O200K.get_or_init(|| tiktoken_rs::o200k_base().ok()).as_ref(),
            Self::Cl100kBase => CL100K.get_or_init(|| tiktoken_rs::cl100k_base().ok()).as_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Encoding;

    #[test]
    fn names_are_found_again() {
        for encoding in Encoding::ALL {
            assert_eq!(Encoding::from_name(encoding.name()), Some(encoding));
        }
        assert_eq!(Encoding::from_name("p50k_base"), None);
    }

    #[test]
    fn known_counts() {
        // Counts published in OpenAI's cookbook, "How to count tokens with tiktoken".
        assert_eq!(Encoding::Cl100kBase.count("antidisestablishmentarianism"), 6);
        assert_eq!(Encoding::O200kBase.count("antidisestablishmentarianism"), 6);
        assert_eq!(Encoding::Cl100kBase.count("2 + 2 = 4"), 7);
        assert_eq!(Encoding::O200kBase.count("お誕生日おめでとう"), 8);
        assert_eq!(Encoding::O200kBase.count(""), 0);
    }

    #[test]
    fn special_tokens_are_plain_text() {
        assert!(Encoding::O200kBase.count("<|endoftext|>") > 1);
    }

    #[test]
    fn a_million_spaces_and_other_monsters_are_counted() {
        for unit in [" ", "a", "=", "\n", "你", "\u{301}", "A", "<|endoftext|>"] {
            let text = unit.repeat(1_100_000 / unit.len());
            let count = Encoding::O200kBase.count(&text);
            assert!((1..=text.len() as u64).contains(&count), "{unit:?}: {count}");
        }
    }

    #[test]
    fn long_texts_are_exact() {
        let text: String = (0..40_000).map(|i| format!("line {i}: it's a \"text\", isn't it?\n")).collect();
        let by_lines: u64 = text.split_inclusive('\n').map(|line| Encoding::O200kBase.count(line)).sum();
        assert_eq!(Encoding::O200kBase.count(&text), by_lines);
    }
}
