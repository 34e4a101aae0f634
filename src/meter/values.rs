//! Framing of JSON objects that follow each other, on bytes: one a line (NDJSON), the elements of an array that is
//! still being written, or a single document.
//!
//! Objects are told by their braces alone, so that a line end within one, or a bracket and a comma between two, change
//! nothing. Each is kept until its end, at most [`LONGEST`] bytes of it.

/// The longest object that is read, in bytes.
pub const LONGEST: usize = 8 * 1024 * 1024;

/// What a piece of a body turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A whole object.
    Value(&'a [u8]),
    /// An object above [`LONGEST`] has ended: it had this many bytes.
    Oversized(u64),
}

/// The framing of one body. Memory: [`LONGEST`] at most.
#[derive(Clone, Debug, Default)]
pub struct Values {
    kept: Vec<u8>,
    depth: u32,
    quoted: bool,
    escaped: bool,
    /// Bytes of the object under way, once it is too long; 0: it is not.
    oversized: u64,
    /// Something that is neither an object nor stands between two.
    strange: bool,
    /// Objects that have ended.
    ended: u64,
}

impl Values {
    /// Cuts `chunk` into pieces.
    pub fn push(&mut self, chunk: &[u8], mut each: impl FnMut(Piece<'_>)) {
        let mut rest = chunk;
        while !rest.is_empty() {
            if self.depth == 0 {
                let between = rest.iter().position(|byte| *byte == b'{').unwrap_or(rest.len());
                let (gap, object) = rest.split_at(between);
                self.strange |=
                    gap.iter().any(|byte| !matches!(byte, b'[' | b']' | b',') && !byte.is_ascii_whitespace());
                rest = object;
                if rest.is_empty() {
                    return;
                }
            }
            let end = self.scan(rest);
            let (object, tail) = rest.split_at_checked(end.unwrap_or(rest.len())).unwrap_or((rest, &[]));
            rest = tail;
            match end {
                Some(_) => self.complete(object, &mut each),
                None => self.hold(object),
            }
        }
    }

    /// What is here of an object whose end is not.
    pub fn pending(&self) -> &[u8] {
        &self.kept
    }

    /// Whether the body, if it ended now, was nothing but whole objects, one at least.
    pub fn is_whole(&self) -> bool {
        self.depth == 0 && !self.strange && self.ended > 0
    }

    /// How far the object under way reaches in `bytes`; `None`: beyond them.
    fn scan(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            if self.escaped {
                self.escaped = false;
            } else if self.quoted {
                at = at.saturating_add(memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?);
                self.escaped = bytes.get(at) == Some(&b'\\');
                self.quoted = self.escaped;
            } else {
                match byte {
                    b'"' => self.quoted = true,
                    b'{' | b'[' => self.depth = self.depth.saturating_add(1),
                    b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                    _ => {}
                }
            }
            at = at.saturating_add(1);
            if self.depth == 0 {
                return Some(at);
            }
        }
        None
    }

    fn hold(&mut self, bytes: &[u8]) {
        if self.oversized == 0 && self.kept.len().saturating_add(bytes.len()) <= LONGEST {
            self.kept.extend_from_slice(bytes);
            return;
        }
        let held = std::mem::take(&mut self.kept).len().saturating_add(bytes.len());
        self.oversized = self.oversized.saturating_add(held as u64);
    }

    fn complete(&mut self, last: &[u8], each: &mut impl FnMut(Piece<'_>)) {
        self.ended = self.ended.saturating_add(1);
        if self.kept.is_empty() && self.oversized == 0 && last.len() <= LONGEST {
            return each(Piece::Value(last));
        }
        self.hold(last);
        if self.oversized > 0 {
            each(Piece::Oversized(std::mem::take(&mut self.oversized)));
        } else {
            each(Piece::Value(&self.kept));
        }
        self.kept.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::{LONGEST, Piece, Values};

    fn run<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<String>, bool) {
        let (mut values, mut found) = (Values::default(), Vec::new());
        for chunk in chunks {
            values.push(chunk, |piece| match piece {
                Piece::Value(value) => found.push(String::from_utf8_lossy(value).into_owned()),
                Piece::Oversized(bytes) => found.push(format!("{bytes} bytes")),
            });
        }
        (found, values.is_whole())
    }

    fn found(body: &str) -> Vec<String> {
        run([body.as_bytes()]).0
    }

    #[test]
    fn lines_arrays_and_single_documents() {
        assert_eq!(found("{\"a\":1}\n{\"a\":2}\r\n"), ["{\"a\":1}", "{\"a\":2}"]);
        assert_eq!(found("[{\"a\":[1,{}]}\n,\n{}]"), ["{\"a\":[1,{}]}", "{}"]);
        assert_eq!(found(" {\n \"a\": \"}\\\"{\"\n}\n"), ["{\n \"a\": \"}\\\"{\"\n}"]);
        assert!(run([&b"[{}]"[..]]).1);
    }

    #[test]
    fn what_is_no_object_is_told() {
        for body in ["", "[]", "{} x", "data: {}", "{", "null"] {
            assert!(!run([body.as_bytes()]).1, "{body}");
        }
    }

    #[test]
    fn an_object_too_long_is_told_and_the_next_one_read() {
        let body = format!("{{\"a\":\"{}\"}}\n{{}}\n", "x".repeat(LONGEST));
        for size in [body.len(), 4096] {
            let (found, whole) = run(body.as_bytes().chunks(size));
            assert!(found == [format!("{} bytes", LONGEST + 8), "{}".to_owned()]);
            assert!(whole);
        }
    }

    proptest! {
        #[test]
        fn chunks_change_nothing(body in "([{}\\[\\],\"\\\\a \n]|\\{\"a\":1\\}){0,40}", cuts in proptest::collection::vec(0usize..60, 0..10)) {
            let body = body.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(body.len())).chain([0, body.len()]).collect();
            cuts.sort_unstable();
            prop_assert_eq!(run(cuts.windows(2).map(|cut| &body[cut[0]..cut[1]])), run([body]));
        }
    }
}
