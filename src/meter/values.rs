//! Framing of JSON objects that follow each other, on bytes: one a line (NDJSON), the elements of an array that is
//! still being written, or a single document.
//!
//! Objects are told by their braces alone, so that a line end within one, or a bracket and a comma between two, change
//! nothing. Each is kept until its end, at most [`LONGEST_DOCUMENT`] bytes of it.

use std::mem;
use std::ops::ControlFlow::{self, Continue};

use super::LONGEST_DOCUMENT;
use super::framing::Piece;

/// The framing of one body. Memory: [`LONGEST_DOCUMENT`] at most.
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
    /// Something that belongs to the next object has been told.
    opened: bool,
    /// They are elements of an array.
    array: bool,
}

impl Values {
    /// Cuts `chunk` into pieces. What `each` may say is what [`Framing::push`](super::framing::Framing::push) tells.
    ///
    /// What opens an array and what divides its elements belongs to the object behind it, what closes lines and arrays
    /// to the one before.
    pub fn push<'a>(&mut self, chunk: &'a [u8], mut each: impl FnMut(Piece<'_>) -> ControlFlow<()>) -> &'a [u8] {
        let mut rest = chunk;
        while !rest.is_empty() {
            if self.depth == 0 {
                let between = rest.iter().position(|byte| *byte == b'{').unwrap_or(rest.len());
                let (gap, object) = rest.split_at(between);
                self.gap(gap, &mut each);
                rest = object;
                if rest.is_empty() {
                    break;
                }
            }
            let end = self.scan(rest);
            let (object, tail) = rest.split_at_checked(end.unwrap_or(rest.len())).unwrap_or((rest, &[]));
            rest = tail;
            match end {
                Some(_) if self.complete(object, &mut each).is_break() => return rest,
                Some(_) => {}
                None => self.hold(object, &mut each),
            }
        }
        &[]
    }

    /// What stands between two objects.
    fn gap(&mut self, gap: &[u8], each: &mut impl FnMut(Piece<'_>) -> ControlFlow<()>) {
        self.strange |= gap.iter().any(|byte| !matches!(byte, b'[' | b']' | b',') && !byte.is_ascii_whitespace());
        self.array |= self.ended == 0 && gap.contains(&b'[');
        let opens = if self.opened { Some(0) } else { gap.iter().position(|byte| matches!(byte, b'[' | b',')) };
        let (before, behind) = gap.split_at_checked(opens.unwrap_or(gap.len())).unwrap_or((gap, &[]));
        for (bytes, pending) in [(before, false), (behind, true)] {
            if !bytes.is_empty() {
                let _ = each(Piece::Raw { bytes, pending });
            }
        }
        self.opened |= !behind.is_empty();
    }

    /// What is here of an object whose end is not.
    pub fn pending(&self) -> &[u8] {
        &self.kept
    }

    /// Whether the objects are elements of an array.
    pub fn is_array(&self) -> bool {
        self.array
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

    /// Keeps a part of an object whose end is not here, or lets it pass when the object is too long.
    fn hold(&mut self, bytes: &[u8], each: &mut impl FnMut(Piece<'_>) -> ControlFlow<()>) {
        if self.oversized == 0 && self.kept.len().saturating_add(bytes.len()) <= LONGEST_DOCUMENT {
            self.kept.extend_from_slice(bytes);
            let _ = each(Piece::Raw { bytes, pending: true });
            return;
        }
        let held = mem::take(&mut self.kept).len().saturating_add(bytes.len());
        self.oversized = self.oversized.saturating_add(held as u64);
        let _ = each(Piece::Huge(bytes));
    }

    fn complete(&mut self, last: &[u8], each: &mut impl FnMut(Piece<'_>) -> ControlFlow<()>) -> ControlFlow<()> {
        self.ended = self.ended.saturating_add(1);
        self.opened = false;
        if self.kept.is_empty() && self.oversized == 0 && last.len() <= LONGEST_DOCUMENT {
            let _ = each(Piece::Raw { bytes: last, pending: true });
            return each(Piece::Event(last));
        }
        self.hold(last, each);
        if self.oversized > 0 {
            let _ = each(Piece::Oversized(mem::take(&mut self.oversized)));
            return Continue(());
        }
        let kept = mem::take(&mut self.kept);
        each(Piece::Event(&kept))
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow::{Break, Continue};

    use proptest::prelude::{prop_assert_eq, proptest};

    use super::{LONGEST_DOCUMENT, Piece, Values};

    /// The body strung together again, the objects, and whether it is whole.
    fn strung<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, Vec<String>, bool) {
        let (mut values, mut raw, mut found) = (Values::default(), Vec::new(), Vec::new());
        for chunk in chunks {
            let mut rest = chunk;
            while !rest.is_empty() {
                rest = values.push(rest, |piece| {
                    match piece {
                        Piece::Raw { bytes, .. } | Piece::Huge(bytes) => raw.extend_from_slice(bytes),
                        Piece::Event(value) => {
                            found.push(String::from_utf8_lossy(value).into_owned());
                            return Break(());
                        }
                        Piece::Oversized(bytes) => found.push(format!("{bytes} bytes")),
                        Piece::LineFeed | Piece::Broken => panic!("objects have no such piece"),
                    }
                    Continue(())
                });
            }
        }
        (raw, found, values.is_whole())
    }

    fn run<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<String>, bool) {
        let (_, found, whole) = strung(chunks);
        (found, whole)
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
    fn what_divides_objects_goes_with_the_next_and_what_closes_them_with_the_last() {
        let mut pieces = Vec::new();
        let mut values = Values::default();
        for byte in b"[{},\n{}\n]\n".chunks(1) {
            values.push(byte, |piece| {
                if let Piece::Raw { bytes, pending } = piece {
                    pieces.push((bytes.to_vec(), pending));
                }
                Continue(())
            });
        }
        let pending: Vec<u8> =
            pieces.iter().filter(|(_, pending)| *pending).flat_map(|(bytes, _)| bytes.clone()).collect();
        let loose: Vec<u8> =
            pieces.iter().filter(|(_, pending)| !pending).flat_map(|(bytes, _)| bytes.clone()).collect();
        assert_eq!((pending.as_slice(), loose.as_slice()), (&b"[{},\n{}"[..], &b"\n]\n"[..]));
        assert!(values.is_array() && values.is_whole());
    }

    #[test]
    fn what_is_no_object_is_told() {
        for body in ["", "[]", "{} x", "data: {}", "{", "null"] {
            assert!(!run([body.as_bytes()]).1, "{body}");
        }
    }

    #[test]
    fn an_object_too_long_is_told_and_the_next_one_read() {
        let body = format!("{{\"a\":\"{}\"}}\n{{}}\n", "x".repeat(LONGEST_DOCUMENT));
        for size in [body.len(), 4096] {
            let (found, whole) = run(body.as_bytes().chunks(size));
            assert!(found == [format!("{} bytes", LONGEST_DOCUMENT + 8), "{}".to_owned()]);
            assert!(whole);
        }
    }

    proptest! {
        #[test]
        fn chunks_change_nothing(body in "([{}\\[\\],\"\\\\a \n]|\\{\"a\":1\\}){0,40}", cuts in proptest::collection::vec(0usize..60, 0..10)) {
            let body = body.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(body.len())).chain([0, body.len()]).collect();
            cuts.sort_unstable();
            let cut = strung(cuts.windows(2).map(|cut| &body[cut[0]..cut[1]]));
            prop_assert_eq!(&cut, &strung([body]));
            prop_assert_eq!(cut.0, body);
        }
    }
}
