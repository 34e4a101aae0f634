//! The arguments of the tools that an answer calls, as far as providers count by them: how many there are, and how many
//! signs stand between their names and values.
//!
//! Told from the bytes of their JSON, in whatever pieces it comes, in a few bytes of memory.

use super::tally::Voice;

/// The arguments of all calls of one answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    /// Calls that have any.
    pub calls: u64,
    /// Arguments of all of them.
    pub given: u64,
    /// Tokens of the signs of their JSON: one between a name and its value, one between a value and the next name, one at
    /// each end.
    pub signs: u64,
    /// Whose JSON came last. Who goes on after another spoke begins anew.
    last: Option<Voice>,
    /// How deep it is nested where it stands.
    depth: u32,
    /// It stands in a string.
    string: bool,
    /// And behind a backslash of it.
    escaped: bool,
    /// The call has arguments.
    any: bool,
}

impl Arguments {
    /// More of the JSON of a call. `None`: whole by itself.
    pub fn push(&mut self, of: Option<Voice>, json: &str) {
        if of.is_none() || of != self.last {
            let Self { calls, given, signs, .. } = *self;
            *self = Self { calls, given, signs, last: of, ..Self::default() };
        }
        json.bytes().for_each(|byte| self.byte(byte));
    }

    fn byte(&mut self, byte: u8) {
        if self.string {
            self.string = self.escaped || byte != b'"';
            self.escaped = !self.escaped && byte == b'\\';
            return;
        }
        match byte {
            b'"' => self.string = true,
            b'{' | b'[' => self.depth = self.depth.saturating_add(1),
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            b':' => self.named(),
            b',' => self.signs = self.signs.saturating_add(1),
            _ => {}
        }
    }

    /// There was a name.
    fn named(&mut self) {
        self.signs = self.signs.saturating_add(1);
        if self.depth != 1 {
            return;
        }
        self.given = self.given.saturating_add(1);
        if !std::mem::replace(&mut self.any, true) {
            self.calls = self.calls.saturating_add(1);
            self.signs = self.signs.saturating_add(2);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::Arguments;
    use crate::meter::tally::{Kind, Voice};

    const ONE: Voice = Voice { kind: Kind::Tool, answer: 0, part: 0 };
    const OTHER: Voice = Voice { part: 1, ..ONE };

    fn of(texts: &[(Option<Voice>, &str)]) -> (u64, u64, u64) {
        let mut arguments = Arguments::default();
        texts.iter().for_each(|(of, json)| arguments.push(*of, json));
        (arguments.calls, arguments.given, arguments.signs)
    }

    #[test]
    fn arguments_are_those_of_the_outermost_object() {
        for (json, expected) in [
            ("", (0, 0, 0)),
            ("{}", (0, 0, 0)),
            (r#"{"x":2,"y":3}"#, (1, 2, 5)),
            (r#"{"a": {"b": [1, 2], "c": 3}}"#, (1, 1, 7)),
            (r#"{"a:,\"{":"\\"}"#, (1, 1, 3)),
            ("1,2:3", (0, 0, 2)),
        ] {
            assert_eq!(of(&[(Some(ONE), json)]), expected, "{json}");
        }
    }

    #[test]
    fn each_call_begins_anew() {
        assert_eq!(of(&[(Some(ONE), r#"{"x":"#), (Some(OTHER), r#"{"y":1}"#)]), (2, 2, 6));
        assert_eq!(of(&[(None, r#"{"x":1"#), (None, r#"{"y":1}"#)]), (2, 2, 6));
    }

    proptest! {
        #[test]
        fn in_whatever_pieces(pieces in proptest::collection::vec("[{}\\[\\]:,\"\\\\a]{0,5}", 0..8), one in any::<bool>()) {
            let voice = Some(if one { ONE } else { OTHER });
            let cut: Vec<_> = pieces.iter().map(|piece| (voice, piece.as_str())).collect();
            prop_assert_eq!(of(&cut), of(&[(voice, &pieces.concat())]));
        }
    }
}
