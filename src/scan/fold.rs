//! Text as detectors read it: without what is there only to hide from them.
//!
//! Characters that nobody sees are left out, full-width letters and digits become ASCII, and the escapes of JSON
//! within JSON (arguments of a tool call) are undone, however often they were escaped themselves. All of it is told character by character, so the way a text is
//! cut changes nothing, and every place in the folded text knows its place in the text as written.

use std::borrow::Cow;

/// Invisible characters in a row that are left out; more of them stay, so that what is waited for is bounded.
const MOST_INVISIBLE: u8 = 8;

/// A folded text, or the beginning of one.
pub(super) struct Folded<'a> {
    /// What detectors read.
    pub text: Cow<'a, str>,
    marks: Vec<Mark>,
    /// Bytes of context in front of `text`, which are not in the text as written.
    context: usize,
    /// Where the text as written stops being certain: an escape whose end is not here yet.
    pub certain: usize,
}

/// A place where the two texts part.
struct Mark {
    /// Where it begins in the folded text.
    from: usize,
    /// Where it ends in the folded text.
    to: usize,
    /// Where it ends in the text as written.
    raw_to: usize,
}

impl<'a> Folded<'a> {
    /// Folds `raw`, of which nothing went before.
    pub fn whole(raw: &'a str) -> Self {
        Self::part(raw, None, 0, true)
    }

    /// Folds a part of a text: behind the (folded) character `before`, `invisible` characters that were left out, and
    /// perhaps not the `last`.
    pub fn part(raw: &'a str, before: Option<char>, invisible: u8, last: bool) -> Self {
        if before.is_none() && !has_special(raw) {
            return Self { text: Cow::Borrowed(raw), marks: Vec::new(), context: 0, certain: raw.len() };
        }
        let mut text = String::with_capacity(raw.len().saturating_add(4));
        text.extend(before);
        let mut folded = Self { context: text.len(), text: Cow::Borrowed(""), marks: Vec::new(), certain: raw.len() };
        let (mut at, mut invisible) = (0, invisible);
        while let Some(rest) = raw.get(at..).filter(|rest| !rest.is_empty()) {
            let plain = rest.bytes().position(is_special).unwrap_or(rest.len());
            if let Some(run) = rest.get(..plain).filter(|run| !run.is_empty()) {
                text.push_str(run);
                invisible = 0;
            }
            at = at.saturating_add(plain);
            let Some(rest) = rest.get(plain..).filter(|rest| !rest.is_empty()) else { break };
            let (length, decoded) = match next(rest, last) {
                Next::Read(length, decoded) => (length, decoded),
                Next::AsItStands(length) => {
                    text.push_str(rest.get(..length).unwrap_or_default());
                    (at, invisible) = (at.saturating_add(length), 0);
                    continue;
                }
                Next::Unknown => {
                    folded.certain = at;
                    break;
                }
            };
            at = at.saturating_add(length);
            let from = text.len();
            if is_invisible(decoded) && invisible < MOST_INVISIBLE {
                invisible = invisible.saturating_add(1);
            } else {
                invisible = 0;
                text.push(narrow(decoded));
            }
            if text.len().saturating_sub(from) != length || rest.get(..length) != text.get(from..) {
                folded.marks.push(Mark { from, to: text.len(), raw_to: at });
            }
        }
        folded.text = Cow::Owned(text);
        folded
    }

    /// Where the text proper begins, behind the context.
    pub fn begin(&self) -> usize {
        self.context
    }

    /// The place in the text as written of what begins at `at`.
    pub fn raw_start(&self, at: usize) -> usize {
        self.raw(at, self.marks.partition_point(|mark| mark.to <= at))
    }

    /// The place in the text as written where what ends at `at` ends: invisible characters behind it are not its own.
    pub fn raw_end(&self, at: usize) -> usize {
        self.raw(at, self.marks.partition_point(|mark| mark.from < at))
    }

    fn raw(&self, at: usize, marks: usize) -> usize {
        match marks.checked_sub(1).and_then(|last| self.marks.get(last)) {
            Some(mark) => mark.raw_to.saturating_add(at.saturating_sub(mark.to)),
            None => at.saturating_sub(self.context),
        }
    }
}

/// Invisible characters at the end of `raw`, on top of `before` where it has nothing else.
pub(super) fn trailing_invisible(raw: &str, before: u8) -> u8 {
    let folded = Folded::part(raw, Some('x'), before, true);
    let end = folded.text.len();
    let trailing = folded.marks.iter().rev().take_while(|mark| mark.from == end && mark.to == end).count();
    let all = folded.text.len() == folded.context;
    u8::try_from(trailing).unwrap_or(u8::MAX).saturating_add(if all { before } else { 0 })
}

/// Whether a byte can begin a character or an escape that is folded.
const fn is_special(byte: u8) -> bool {
    matches!(byte, b'\\' | 0xc2 | 0xcd | 0xd8 | 0xe1 | 0xe2 | 0xef | 0xf3)
}

/// Whether any byte [can](is_special). Eager within a run, so that many bytes are compared at once.
fn has_special(text: &str) -> bool {
    text.as_bytes().chunks(64).any(|run| run.iter().fold(false, |any, byte| any | is_special(*byte)))
}

/// What a text begins with.
enum Next {
    /// So many bytes that are read as this character.
    Read(usize, char),
    /// So many bytes that are read as they stand.
    AsItStands(usize),
    /// More is needed to tell.
    Unknown,
}

/// The most backslashes of one escape: that of JSON in JSON in JSON has four, or three before a quote.
const MOST_BACKSLASHES: usize = 8;

/// What `rest` begins with, an escape undone. All its backslashes belong to it, so that whoever takes it away leaves no
/// half of another.
fn next(rest: &str, last: bool) -> Next {
    let Some(first) = rest.chars().next() else { return Next::Unknown };
    if first != '\\' {
        return Next::Read(first.len_utf8(), first);
    }
    let slashes = rest.bytes().take(MOST_BACKSLASHES.saturating_add(1)).take_while(|byte| *byte == b'\\').count();
    if slashes > MOST_BACKSLASHES {
        return Next::AsItStands(2);
    }
    let escape = rest.as_bytes().get(slashes..).unwrap_or_default();
    let length = slashes.saturating_add(1);
    match escape.first() {
        None if !last => Next::Unknown,
        Some(b'n' | b'r' | b't') => Next::Read(length, '\n'),
        // Behind two backslashes a quote is the end of a string.
        Some(b'"') if slashes % 2 == 1 => Next::Read(length, '"'),
        Some(b'/') if slashes % 2 == 1 => Next::Read(length, '/'),
        Some(b'u') => {
            let digits = escape.iter().skip(1).take(4).take_while(|byte| byte.is_ascii_hexdigit()).count();
            if digits < 4 && escape.len() == digits.saturating_add(1) && !last {
                return Next::Unknown;
            }
            let code = rest.get(length..length.saturating_add(digits)).filter(|_| digits == 4);
            let decoded = code.and_then(|hex| u32::from_str_radix(hex, 16).ok()).and_then(char::from_u32);
            decoded.map_or(Next::AsItStands(slashes), |decoded| Next::Read(length.saturating_add(4), decoded))
        }
        _ => Next::AsItStands(slashes),
    }
}

/// Characters that show nothing (Unicode's default ignorables, as far as text has them).
const fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{e0000}'..='\u{e0fff}')
}

/// Full-width letters, digits and the marks that join them, as ASCII. (Other full-width marks are ordinary in Chinese.)
fn narrow(c: char) -> char {
    let wide = matches!(c, '０'..='９' | 'Ａ'..='Ｚ' | 'ａ'..='ｚ' | '＠' | '．' | '＿' | '－' | '＋' | '／' | '＝');
    let ascii = wide.then(|| u32::from(c).checked_sub(0xfee0)).flatten();
    ascii.and_then(char::from_u32).unwrap_or(c)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::Folded;

    #[test]
    fn what_hides_is_folded() {
        for (raw, folded) in [
            ("plain", "plain"),
            ("A\u{200b}K\u{feff}IA", "AKIA"),
            ("１３８＠ｑｑ．ｃｏｍ，", "138@qq.com，"),
            (r"\u0041KIA\nX\\nY", "AKIA\nX\nY"),
            (r#"a=\"b\" c:\/\/d \\\"e\\\" \\u0041"#, "a=\"b\" c://d \"e\" A"),
            (r#"C:\dir\\" \\\\server"#, r#"C:\dir\\" \\\\server"#),
            (r"\u12", r"\u12"),
            (r"\ud800x", r"\ud800x"),
            ("“quoted” – text 密钥", "“quoted” – text 密钥"),
        ] {
            assert_eq!(Folded::whole(raw).text, folded, "{raw}");
        }
    }

    #[test]
    fn places_lead_back() {
        let raw = "x\u{200b}\u{200b}A\u{200b}B\u{200b} y";
        let folded = Folded::whole(raw);
        assert_eq!(folded.text, "xAB y");
        assert_eq!(&raw[folded.raw_start(1)..folded.raw_end(3)], "A\u{200b}B");
        let raw = r"a\u0042c";
        let folded = Folded::whole(raw);
        assert_eq!(&raw[folded.raw_start(1)..folded.raw_end(2)], r"\u0042");
    }

    #[test]
    fn an_escape_without_its_end_is_waited_for() {
        for cut in 1..6 {
            let raw = &r"a\u0041"[..1 + cut];
            assert_eq!(Folded::part(raw, None, 0, false).certain, 1, "{raw}");
            assert_eq!(Folded::part(raw, None, 0, true).text, raw);
        }
    }

    #[test]
    fn a_flood_of_invisible_characters_is_not_left_out() {
        let raw = format!("A{}B", "\u{200b}".repeat(20));
        assert_eq!(Folded::whole(&raw).text.chars().filter(|c| *c == '\u{200b}').count(), 2);
    }

    proptest! {
        #[test]
        fn every_character_leads_to_its_own_place(raw in "[a\u{200b}\\\\un0-4\"/ＡＢ，é]{0,30}") {
            let folded = Folded::whole(&raw);
            let mut from = 0;
            for (at, c) in folded.text.char_indices() {
                let (start, end) = (folded.raw_start(at), folded.raw_end(at + c.len_utf8()));
                prop_assert_eq!(raw.is_char_boundary(start) && raw.is_char_boundary(end) && from <= start && start < end, true);
                from = end;
            }
        }
    }
}
