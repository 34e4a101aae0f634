//! Texts that were counted lately: agents send all of a conversation with each of its turns, and only the end is new.
//!
//! Of a text its hash and its count are kept, and nothing else. Two texts of one hash would have one count, so a stranger
//! who could make such a pair could have a long prompt counted as a short one. Hence SipHash, which was made against
//! strangers who choose the input: 128 bits of it, under a key that only this VM knows. Without the key nothing better
//! is known than to guess, and nobody sees a hash from outside. (By chance, one of 2^40 texts would meet another of the
//! 2^14 that are remembered with a probability of 2^-74.) It is SipHash-1-3, of the fewer rounds, as in Rust's own hash tables: at some bytes a nanosecond it costs a
//! fiftieth of counting, where SHA-256 would cost more than a third.

use std::hash::Hasher as _;

use siphasher::sip128::{Hasher128 as _, SipHasher13};

use super::Encoding;

/// The shortest text that is remembered, in bytes: what is shorter is counted in no time.
const SHORTEST: usize = 64;
/// Rows of the table: a power of two. All of it is 384 KiB, of fixed size, taken when the first text comes.
const ROWS: usize = 1 << 12;
/// Texts in a row, the one asked for last in front; a new one drives out the last.
const WIDTH: usize = 4;

/// How the bytes are read that are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As they stand.
    Plain,
    /// As a JSON string, of which the text is counted: so the escapes of a known text need not be undone.
    Literal,
    /// As JSON definitions of tools, of which the [namespace](crate::meter::dialect::namespace) is counted.
    Namespace,
    /// As the same, of which the [words](crate::meter::dialect::notation::declared_words) are counted, each by itself.
    DeclaredWords,
    /// As the same, as [Gemini's notation](crate::meter::dialect::notation::declared) has them.
    Declared,
    /// As a JSON call of a tool or a result, of which the [words](crate::meter::dialect::notation::told_words) are counted.
    ToldWords,
    /// As the same, as [Gemini's notation](crate::meter::dialect::notation::told) has it.
    Told,
    /// As a JSON string, of which the text is counted, each digit by itself.
    Digits,
    /// As the same, and each end of a line and each `_` by itself too.
    Fine,
}

/// Counts of the last texts, up to 16,384; one for a VM.
#[derive(Clone, Debug)]
pub struct Known {
    key: [u64; 2],
    rows: Vec<[Entry; WIDTH]>,
}

/// A text. Its count is 0 where there is none.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    hash: [u64; 2],
    tokens: u64,
}

impl Known {
    /// Nothing is known yet. `random` is drawn anew for each VM and told to nobody.
    pub fn new(random: [u64; 2]) -> Self {
        Self { key: random, rows: Vec::new() }
    }

    /// Tokens of `bytes` in this form: as remembered, else as `count` says, which is remembered unless it is `None`.
    pub fn count(
        &mut self,
        encoding: Encoding,
        form: Form,
        bytes: &str,
        count: impl FnOnce() -> Option<u64>,
    ) -> Option<u64> {
        if bytes.len() < SHORTEST {
            return count();
        }
        let hash = self.hash(encoding, form, bytes);
        if self.rows.is_empty() {
            self.rows.resize(ROWS, [Entry::default(); WIDTH]);
        }
        let [low, _] = hash;
        let Some(row) = self.rows.get_mut(low as usize % ROWS) else { return count() };
        let found = row.iter().position(|entry| entry.hash == hash && entry.tokens > 0);
        let entry = match found.and_then(|at| row.get(at)) {
            Some(known) => *known,
            None => Entry { hash, tokens: count()? },
        };
        let behind = found.map_or(WIDTH, |at| at.saturating_add(1));
        row.get_mut(..behind)?.rotate_right(1);
        *row.first_mut()? = entry;
        Some(entry.tokens)
    }

    /// Vocabularies that count text alike share a hash.
    fn hash(&self, encoding: Encoding, form: Form, bytes: &str) -> [u64; 2] {
        let [first, second] = self.key;
        let mut hasher = SipHasher13::new_with_keys(first, second);
        hasher.write(bytes.as_bytes());
        let kind = encoding.vocabulary() | (form as u8) << 4;
        hasher.write(&[kind]);
        let hash = hasher.finish128();
        [hash.h1, hash.h2]
    }
}

#[cfg(test)]
mod tests {
    use super::{Form, Known, ROWS, SHORTEST, WIDTH};
    use crate::meter::count::Encoding;

    const O200K: Encoding = Encoding::O200kBase;

    fn known() -> Known {
        Known::new([1, 2])
    }

    /// Asks for a text, and tells whether it was known.
    fn ask(known: &mut Known, encoding: Encoding, form: Form, text: &str) -> (Option<u64>, bool) {
        let mut counted = false;
        let count = known.count(encoding, form, text, || {
            counted = true;
            Some(encoding.count(text))
        });
        (count, !counted)
    }

    #[test]
    fn a_text_is_counted_once() {
        let (mut known, text) = (known(), "all of a conversation ".repeat(100));
        let count = Some(O200K.count(&text));
        assert_eq!(ask(&mut known, O200K, Form::Plain, &text), (count, false));
        assert_eq!(ask(&mut known, O200K, Form::Plain, &text), (count, true));
        assert!(!ask(&mut known, O200K, Form::Plain, &(text + "!")).1, "and another one is not known by that");
    }

    #[test]
    fn a_text_is_known_by_its_vocabulary_and_form() {
        let (mut known, text) = (known(), "\"日本語の文章はどちらで数えるかで違う \\n\\n\"".repeat(3));
        let ways = [(O200K, Form::Plain), (O200K, Form::Literal), (Encoding::Cl100kBase, Form::Plain)];
        for (encoding, form) in ways {
            assert!(!ask(&mut known, encoding, form, &text).1, "{encoding:?} {form:?}");
        }
        for (encoding, form) in ways {
            assert_eq!(ask(&mut known, encoding, form, &text), (Some(encoding.count(&text)), true));
        }
        assert!(ask(&mut known, Encoding::O200kHarmony, Form::Plain, &text).1, "the same for text");
    }

    #[test]
    fn what_was_not_counted_is_not_known() {
        let (mut known, text) = (known(), "x".repeat(SHORTEST));
        assert_eq!(known.count(O200K, Form::Plain, &text, || None), None);
        assert_eq!(known.count(O200K, Form::Plain, &text, || Some(5)), Some(5));
        assert_eq!(known.count(O200K, Form::Plain, &text, || None), Some(5));
    }

    #[test]
    fn the_short_is_not_remembered() {
        let (mut known, text) = (known(), "x".repeat(SHORTEST - 1));
        ask(&mut known, O200K, Form::Plain, &text);
        assert!(!ask(&mut known, O200K, Form::Plain, &text).1);
        assert!(known.rows.is_empty());
    }

    /// However many texts come, the table does not grow; what is asked for again and again stays.
    #[test]
    fn the_last_texts_stay() {
        let mut known = known();
        let text = |number: usize| format!("{number:>SHORTEST$}");
        let texts = ROWS * WIDTH * 2;
        for number in 0..texts {
            ask(&mut known, O200K, Form::Plain, &text(number));
            assert!(number == 0 || ask(&mut known, O200K, Form::Plain, &text(0)).1, "{number}");
        }
        assert_eq!((known.rows.len(), known.rows.capacity()), (ROWS, ROWS));
        let last = (texts - ROWS..texts).filter(|number| ask(&mut known, O200K, Form::Plain, &text(*number)).1).count();
        assert!(last > ROWS * 9 / 10, "{last} of the last {ROWS} are known");
        assert!(!ask(&mut known, O200K, Form::Plain, &text(1)).1, "the oldest is forgotten");
    }

    #[test]
    fn the_key_decides() {
        let text = "x".repeat(SHORTEST);
        let hash = |key| Known::new(key).hash(O200K, Form::Plain, &text);
        assert_ne!(hash([1, 2]), hash([1, 3]));
        assert_ne!(hash([1, 2]), hash([2, 2]));
    }
}
