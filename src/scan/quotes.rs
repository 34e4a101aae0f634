//! Text that may be JSON, and stays JSON when a bare number in it gives way to words: they are put in quotes.

/// Follows one text as it leaves, in whatever pieces.
///
/// JSON is what is said to be, and what begins like a list or an object. Words go in quotes where a value stands, that is
/// outside of all quotes and behind `:`, `,` or `[`; elsewhere they stand as they are.
#[derive(Clone, Debug, Default)]
pub struct Quotes {
    /// Whether the text is JSON, once that is known.
    json: Option<bool>,
    quoted: bool,
    escaped: bool,
    /// The last byte outside of quotes that is no blank.
    last: u8,
    /// Words were put in the place of the digits of a number: its fraction and exponent go too. Whether they have begun.
    number: Option<bool>,
}

impl Quotes {
    /// A text of which nothing has come; `json`: it is known to be JSON.
    pub fn of(json: bool) -> Self {
        Self { json: json.then_some(true), ..Self::default() }
    }

    /// Takes in what was added to `out` from `from` on.
    pub fn follow(&mut self, out: &mut String, from: usize) {
        let added = out.get(from..).unwrap_or_default();
        if self.json.is_none() {
            self.json = added.trim_ascii_start().bytes().next().map(|first| matches!(first, b'{' | b'['));
        }
        if self.json != Some(true) {
            return;
        }
        if let Some(begun) = self.number.filter(|_| !added.is_empty()) {
            let goes_on = begun || matches!(added.as_bytes().first(), Some(b'.' | b'e' | b'E'));
            let of_number = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-');
            let rest = if goes_on { added.bytes().take_while(of_number).count() } else { 0 };
            self.number = (goes_on && rest == added.len()).then_some(true);
            out.replace_range(from..from.saturating_add(rest), "");
        }
        for byte in out.get(from..).unwrap_or_default().bytes() {
            match (self.quoted, byte) {
                (true, _) if self.escaped => self.escaped = false,
                (true, b'\\') => self.escaped = true,
                (_, b'"') => {
                    self.quoted = !self.quoted;
                    self.last = byte;
                }
                (false, byte) if !byte.is_ascii_whitespace() => self.last = byte,
                _ => {}
            }
        }
    }

    /// Adds what stands in the place of something found; all before it has been [followed](Self::follow).
    pub fn put(&mut self, words: &str, out: &mut String) {
        let from = out.len();
        let bare = self.json == Some(true) && !self.quoted && matches!(self.last, b':' | b',' | b'[');
        if bare {
            out.extend(["\"", words, "\""]);
        } else {
            out.push_str(words);
        }
        self.follow(out, from);
        self.number = bare.then_some(false);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::Quotes;

    /// Words in the place of every `~`, in pieces cut at `|`.
    fn told(text: &str, json: bool) -> String {
        let (mut quotes, mut out) = (Quotes::of(json), String::new());
        for piece in text.split('|') {
            for (at, gap) in piece.split('~').enumerate() {
                if at > 0 {
                    quotes.put("[x]", &mut out);
                }
                let from = out.len();
                out.push_str(gap);
                quotes.follow(&mut out, from);
            }
        }
        out
    }

    #[test]
    fn what_stands_for_a_bare_number_is_quoted() {
        for (text, json, wanted) in [
            (r#"{"a":~,"b":[~, ~],"c": ~}"#, false, r#"{"a":"[x]","b":["[x]", "[x]"],"c": "[x]"}"#),
            (r#"{"a":"of ~ and \"~\"","~":1}"#, false, r#"{"a":"of [x] and \"[x]\"","[x]":1}"#),
            (r#"{"a":~.0,"b":~e5,"c":~|.|2|5e-1|}"#, false, r#"{"a":"[x]","b":"[x]","c":"[x]"}"#),
            (r#" | {"a":|~}"#, false, r#"  {"a":"[x]"}"#),
            // An argument that came alone.
            (r#""a":~}"#, true, r#""a":"[x]"}"#),
            // What only looks like it.
            ("[note] call ~ now.", false, "[note] call [x] now."),
            ("to: ~ or ~.5", false, "to: [x] or [x].5"),
            ("~", false, "[x]"),
        ] {
            assert_eq!(told(text, json), wanted, "{text}");
        }
    }

    proptest! {
        #[test]
        fn pieces_change_nothing(text in "[{\\[\":, a\\\\#.0e|]{0,24}") {
            prop_assert_eq!(told(&text, false), told(&text.replace('|', ""), false));
        }
    }
}
