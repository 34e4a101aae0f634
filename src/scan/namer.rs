//! What was put back in the place of names, turned into the names again.

use crate::order;

/// Puts names, in a text that comes in pieces, in the place of what they stand for: what a [`Restorer`](super::Restorer)
/// has done, undone. Holds back what may be the beginning of a text that has a name.
#[derive(Clone, Debug)]
pub struct Namer {
    /// Texts as they are and as they stand in JSON, each with its name, in the order of their bytes.
    texts: Vec<(String, String)>,
    held: String,
}

/// What stands at one place of a text.
enum At<'a> {
    /// No text that has a name.
    Nothing,
    /// So many bytes that have this name.
    Named(usize, &'a str),
    /// What more must come to tell.
    Open,
}

impl Namer {
    /// Of texts, as they are and as they stand in JSON, with their names.
    pub(super) fn of(mut texts: Vec<(String, String)>) -> Self {
        texts.retain(|(text, _)| !text.is_empty());
        order::by(&mut texts, |one, other| one.cmp(other));
        texts.dedup_by(|(one, _), (other, _)| one == other);
        Self { texts, held: String::new() }
    }

    /// Whether something is held back.
    pub fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// The next piece; `last`: no more comes, and the next one begins a new text. Adds to `out`.
    pub fn push(&mut self, text: &str, last: bool, out: &mut String) {
        let mut held = std::mem::take(&mut self.held);
        held.push_str(text);
        let mut rest = held.as_str();
        while let Some(first) = rest.chars().next() {
            let taken = match self.at(rest, last) {
                At::Nothing => {
                    out.push(first);
                    first.len_utf8()
                }
                At::Named(length, name) => {
                    out.push_str(name);
                    length
                }
                At::Open => break,
            };
            rest = rest.get(taken..).unwrap_or_default();
        }
        rest.clone_into(&mut self.held);
    }

    /// What `rest` begins with: the longest text that has a name.
    fn at(&self, rest: &str, last: bool) -> At<'_> {
        let (mut found, mut fitting) = (At::Nothing, self.texts.as_slice());
        for (depth, byte) in rest.bytes().enumerate() {
            let here = |text: &str| text.as_bytes().get(depth).copied();
            let from = fitting.partition_point(|(text, _)| here(text) < Some(byte));
            let to = fitting.partition_point(|(text, _)| here(text) <= Some(byte));
            fitting = fitting.get(from..to).unwrap_or_default();
            let Some((text, name)) = fitting.first() else { return found };
            let length = depth.saturating_add(1);
            if text.len() == length {
                found = At::Named(length, name);
            }
        }
        let longer = fitting.last().is_some_and(|(text, _)| text.len() > rest.len());
        if longer && !last { At::Open } else { found }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::Namer;

    const TEXTS: [(&str, &str); 4] =
        [("E12345678", "[PASSPORT_1]"), ("E1234", "[BADGE_2]"), ("say \\\"hi\\\"", "[WORD_3]"), ("é", "[WORD_4]")];

    fn namer() -> Namer {
        Namer::of(TEXTS.map(|(text, name)| (text.to_owned(), name.to_owned())).to_vec())
    }

    #[test]
    fn the_longest_text_gets_its_name() {
        let named = |text: &str| {
            let mut out = String::new();
            namer().push(text, true, &mut out);
            out
        };
        assert_eq!(named("E12345678, E1234567 E12 E1234"), "[PASSPORT_1], [BADGE_2]567 E12 [BADGE_2]");
        assert_eq!(named("éè say \\\"hi\\\" say"), "[WORD_4]è [WORD_3] say");
    }

    #[test]
    fn what_breaks_off_is_held() {
        let (mut namer, mut out) = (namer(), String::new());
        namer.push("it is E1234", false, &mut out);
        assert_eq!((out.as_str(), namer.holds()), ("it is ", true));
    }

    proptest! {
        #[test]
        fn any_chunking_names_the_same(cuts in proptest::collection::vec(0usize..12, 0..40)) {
            let text = "EE12345678 E1234é say \\\"hi\\\" and E123456";
            let (mut namer, mut out, mut rest) = (namer(), String::new(), text);
            for cut in cuts {
                let at = (0..=cut.min(rest.len())).rev().find(|at| rest.is_char_boundary(*at)).unwrap_or(0);
                let (piece, after) = rest.split_at(at);
                namer.push(piece, false, &mut out);
                rest = after;
            }
            namer.push(rest, true, &mut out);
            prop_assert_eq!(out, "E[PASSPORT_1] [BADGE_2][WORD_4] [WORD_3] and [BADGE_2]56");
        }
    }
}
