//! Where text may be cut so that the tokens of the parts are the tokens of the whole.
//!
//! Both vocabularies first split text into pieces by a pattern, then encode each piece by itself. A cut is
//! safe when the pattern ends a piece there whatever follows, and ends it there too when nothing follows.
//! The rules below are a subset of the safe cuts that can be told from few characters, by the patterns of
//! `cl100k_base` and `o200k_base` as published in OpenAI's tiktoken.

/// The last safe cut in `text` that is above 0 and below its length.
pub fn last_safe(text: &str) -> Option<usize> {
    let mut after = text.chars().next_back()?;
    let mut at = text.len().checked_sub(after.len_utf8())?;
    while let Some(before) = text.get(..at)?.chars().next_back() {
        if is_safe(before, after) {
            return Some(at);
        }
        after = before;
        at = at.checked_sub(before.len_utf8())?;
    }
    None
}

/// The char boundary at or below `at`.
pub fn floor_boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0)
}

/// Whether a cut between these two neighbours is safe.
fn is_safe(before: char, after: char) -> bool {
    let line_end = |c| matches!(c, '\r' | '\n');
    if before.is_whitespace() {
        // A run of white space gives its last character to the word that follows, unless that is a line end.
        return line_end(before) && !after.is_whitespace() && after != '/' && !is_mark_like(after);
    }
    if after.is_whitespace() && !line_end(after) {
        return true;
    }
    if is_letter(before) {
        return ends_a_word(after);
    }
    // Before a digit every other piece ends; between digits it depends on the count of three.
    before.is_ascii_punctuation() && after.is_ascii_digit()
}

/// Surely a letter (`\p{L}`): never a mark, a number or a symbol. Many letters are missing, on purpose.
fn is_letter(c: char) -> bool {
    match c {
        'a'..='z' | 'A'..='Z' => true,
        '\u{c0}'..='\u{24f}' => c != '×' && c != '÷',
        '\u{391}'..='\u{3a1}' | '\u{3a3}'..='\u{3c9}' | '\u{410}'..='\u{44f}' => true,
        '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}' => true,
        '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}' => true,
        _ => false,
    }
}

/// Surely no letter, no mark and no apostrophe: a word cannot go on with it.
fn ends_a_word(c: char) -> bool {
    match c {
        '\'' => false,
        c if c.is_ascii() => !c.is_ascii_alphabetic(),
        '\u{2010}'..='\u{2027}' | '\u{3001}'..='\u{3003}' | '\u{3008}'..='\u{3011}' => true,
        '\u{ff01}'..='\u{ff0f}' | '\u{ff1a}'..='\u{ff20}' => true,
        _ => false,
    }
}

/// Perhaps a mark: outside the scripts that we know.
fn is_mark_like(c: char) -> bool {
    !c.is_ascii() && !is_letter(c) && !ends_a_word(c)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::{Strategy, any, prop_assert_eq, proptest};

    use super::last_safe;
    use crate::meter::count::Encoding;

    /// Texts made of what the patterns tell apart.
    pub fn texts() -> impl Strategy<Value = String> {
        let piece = proptest::prop_oneof![
            "[a-zA-Z]{1,6}",
            "[ \t\r\n/]{1,3}",
            "[0-9]{1,5}",
            "['.,;:!?(){}=+_-]{1,3}",
            "('s|'S|'ll|'RE|'\u{17f}|don't|I'M)",
            "[\u{4e00}-\u{4e20}，。、]{1,3}",
            "[\u{300}\u{301}\u{93e}अ\u{aa}\u{2b0}ǅéßÉ²½Ⅷ\u{3000}\u{a0}\u{85}\u{2028}😀\u{200d}Ⓐ]{1,3}",
            any::<char>().prop_map(String::from),
        ];
        proptest::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn both_sides_of_a_safe_cut_add_up(text in texts()) {
            if let Some(at) = last_safe(&text) {
                let (left, right) = text.split_at(at);
                for encoding in Encoding::ALL {
                    prop_assert_eq!(
                        encoding.count(left) + encoding.count(right), encoding.count(&text), "{:?} | {:?}", left, right
                    );
                }
            }
        }
    }

    #[test]
    fn ordinary_text_can_be_cut_often() {
        assert_eq!(last_safe("the cat"), Some(3));
        assert_eq!(last_safe("你好，世界"), Some("你好".len()));
        assert_eq!(last_safe("a = f(1)\nb"), Some(9));
        assert_eq!(last_safe("don't"), None);
        assert_eq!(last_safe("a"), None);
        assert_eq!(last_safe(""), None);
    }
}
