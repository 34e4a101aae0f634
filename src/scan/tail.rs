//! What belongs to a match beyond its pattern, and is swallowed as it comes.

use super::shapes::Tail;

/// The longest key in its armour, in bytes of text; what follows then is text again.
const LONGEST: usize = 32 * 1024;

/// Where a tail stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Swallowing {
    tail: Tail,
    /// How much of `-----END` has just been seen.
    mark: usize,
    /// Dashes in a row behind that mark; `None`: it has not been seen.
    closing: Option<usize>,
    eaten: usize,
    ended: bool,
}

const MARK: &[u8] = b"-----END";

impl Swallowing {
    /// The tail of a match that has just been found. `None`: it has none.
    pub fn of(tail: Tail) -> Option<Self> {
        (tail != Tail::None).then_some(Self { tail, mark: 0, closing: None, eaten: 0, ended: false })
    }

    /// Bytes at the beginning of `text` that belong to it.
    pub fn eat(&mut self, text: &str) -> usize {
        text.bytes().take_while(|byte| self.takes(*byte)).count()
    }

    /// Whether something was met that does not belong to it.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    fn takes(&mut self, byte: u8) -> bool {
        let more = match self.tail {
            Tail::None => false,
            Tail::Word => byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'),
            Tail::Dotted => byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'),
            Tail::Armour => self.armour(byte),
        };
        self.eaten = self.eaten.saturating_add(1);
        self.ended |= !more;
        !self.ended
    }

    /// Base 64, blanks, and the headers that PGP and old OpenSSL write: no quotes, so that a mention of such a key does
    /// not swallow the text around it for long.
    fn armour(&mut self, byte: u8) -> bool {
        if self.closing == Some(5) || self.eaten >= LONGEST {
            return false;
        }
        match &mut self.closing {
            Some(dashes) if byte == b'-' => *dashes = dashes.saturating_add(1),
            Some(dashes) if *dashes > 0 => *dashes = 0,
            Some(_) => {}
            None => {
                self.mark = match MARK.get(self.mark) {
                    Some(wanted) if *wanted == byte => self.mark.saturating_add(1),
                    // A sixth dash still leaves five.
                    _ if byte == b'-' && self.mark == 5 => 5,
                    _ => usize::from(byte == b'-'),
                };
                if self.mark == MARK.len() {
                    self.closing = Some(0);
                }
            }
        }
        byte.is_ascii_alphanumeric() || byte.is_ascii_whitespace() || b"+/=-\\:,.()".contains(&byte)
    }
}

#[cfg(test)]
mod tests {
    use super::{Swallowing, Tail};

    fn eaten(tail: Tail, text: &str) -> &str {
        &text[..Swallowing::of(tail).map_or(0, |mut state| state.eat(text))]
    }

    #[test]
    fn tails_end_where_they_should() {
        assert_eq!(eaten(Tail::Word, "ab-_9 c"), "ab-_9");
        assert_eq!(eaten(Tail::Dotted, "ab.c\"d"), "ab.c");
        assert_eq!(eaten(Tail::None, "ab"), "");
        let key = "\nMIIB+/=\nVersion: x (y)\n\n------END EC PRIVATE KEY-----";
        assert_eq!(eaten(Tail::Armour, &format!("{key}\nand more")), key);
        assert_eq!(eaten(Tail::Armour, " is how it begins` and"), " is how it begins");
    }

    #[test]
    fn a_tail_goes_on_where_it_stopped() {
        let key = "\nMIIB\n-----END PRIVATE KEY-----rest";
        let mut state = Swallowing::of(Tail::Armour).expect("a tail");
        let eaten: usize = key.chars().map(|c| state.eat(&c.to_string())).sum();
        assert_eq!(&key[eaten..], "rest");
    }
}
