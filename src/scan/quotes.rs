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
    /// The last byte outside of quotes that is no blank, before a number that is under way.
    last: u8,
    /// The number that is under way: none of it leaves before its end, because words may take its place.
    held: String,
    /// Words stand in the place of a number, and all that comes of it goes too.
    replaced: bool,
}

/// The longest number that is held back, in bytes; longer ones leave as they come.
const LONGEST: usize = 64;

fn is_of_number(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-')
}

impl Quotes {
    /// A text of which nothing has come; `json`: it is known to be JSON.
    pub fn of(json: bool) -> Self {
        Self { json: json.then_some(true), ..Self::default() }
    }

    /// Takes in what was added to `out` from `from` on. A number at its end is held back.
    pub fn follow(&mut self, out: &mut String, from: usize) {
        let added = out.get(from..).unwrap_or_default();
        if self.json.is_none() {
            self.json = added.trim_ascii_start().bytes().next().map(|first| matches!(first, b'{' | b'['));
        }
        if self.json != Some(true) || added.is_empty() {
            return;
        }
        if self.replaced {
            let rest = added.bytes().take_while(|byte| is_of_number(*byte)).count();
            self.replaced = rest == added.len();
            out.replace_range(from..from.saturating_add(rest), "");
        }
        out.insert_str(from, &std::mem::take(&mut self.held));
        let mut number = None;
        for (at, byte) in out.bytes().enumerate().skip(from) {
            if self.quoted {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.quoted = false,
                    _ => {}
                }
            } else if is_of_number(byte) && (number.is_some() || self.is_value()) {
                number.get_or_insert(at);
            } else {
                self.quoted = byte == b'"';
                if !byte.is_ascii_whitespace() || number.is_some() {
                    self.last = byte;
                }
                number = None;
            }
        }
        let Some(at) = number else { return };
        if out.len().saturating_sub(at) <= LONGEST {
            self.held = out.split_off(at);
        } else {
            self.last = b'0';
        }
    }

    /// Adds what stands in the place of something `found`; all before it has been [followed](Self::follow). Of a number it
    /// takes the place of the whole.
    pub fn put(&mut self, found: &str, words: &str, out: &mut String) {
        // What begins with something found is no JSON, whatever the words begin with.
        self.json.get_or_insert(false);
        let number = found.bytes().all(is_of_number);
        if number && self.replaced {
            return;
        }
        if !number {
            self.finish(out);
        }
        self.held.clear();
        let bare = self.json == Some(true) && !self.quoted && self.is_value();
        let from = out.len();
        if bare {
            out.extend(["\"", words, "\""]);
        } else {
            out.push_str(words);
        }
        self.replaced = false;
        self.follow(out, from);
        self.replaced = bare && number;
    }

    /// The text is over: adds what was held back.
    pub fn finish(&mut self, out: &mut String) {
        if !self.held.is_empty() {
            self.last = b'0';
            out.push_str(&std::mem::take(&mut self.held));
        }
    }

    /// Whether a value may stand here.
    fn is_value(&self) -> bool {
        matches!(self.last, b':' | b',' | b'[')
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
                    quotes.put("12", "[x]", &mut out);
                }
                let from = out.len();
                out.push_str(gap);
                quotes.follow(&mut out, from);
            }
        }
        quotes.finish(&mut out);
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
            // Part of a number is as much as all of it.
            (r#"{"a":~7,"b":-~,"c":1|2~3~4|5,"d":~~}"#, false, r#"{"a":"[x]","b":"[x]","c":"[x]","d":"[x]"}"#),
            (r#"{"a":1|2, "b":[-3|.5 ,1.5e-~],"c":7}"#, false, r#"{"a":12, "b":[-3.5 ,"[x]"],"c":7}"#),
            ("[1|2", false, "[12"),
            ("~, ~", false, "[x], [x]"),
            // What only looks like it.
            ("[note] call ~ now.", false, "[note] call [x] now."),
            ("to: ~ or ~.5", false, "to: [x] or [x].5"),
            ("~", false, "[x]"),
        ] {
            assert_eq!(told(text, json), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_no_number_takes_nothing_with_it() {
        let (mut quotes, mut out) = (Quotes::default(), "[see 5, 12".to_owned());
        quotes.follow(&mut out, 0);
        quotes.put("AB", "[x]", &mut out);
        let from = out.len();
        out.push_str("34");
        quotes.follow(&mut out, from);
        quotes.finish(&mut out);
        assert_eq!(out, "[see 5, 12[x]34");
        let mut long = "[".to_owned() + &"1".repeat(100);
        Quotes::default().follow(&mut long, 0);
        assert_eq!(long.len(), 101, "no number is held back for ever");
    }

    proptest! {
        #[test]
        fn pieces_change_nothing(text in "[{\\[\":, a\\\\#.0e|]{0,24}") {
            prop_assert_eq!(told(&text, false), told(&text.replace('|', ""), false));
        }
    }
}
