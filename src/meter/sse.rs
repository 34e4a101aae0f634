//! Framing of server-sent events, on bytes (WHATWG HTML, "Server-sent events").
//!
//! Lines end with LF, CR or CR LF, wherever the chunks are cut; an event ends with a blank line, or with the
//! body. Of an event only its `data` is kept, at most [`LONGEST`] bytes of it.

use std::mem;
use std::ops::ControlFlow;

use super::framing::Piece;

/// The longest event that is read, in bytes.
pub const LONGEST: usize = 1024 * 1024;

/// The framing of one body. Memory: twice [`LONGEST`] at most.
#[derive(Clone, Debug, Default)]
pub struct Frames {
    /// The bytes of a line whose end is not here yet.
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    /// Bytes of the event under way that are no data.
    other: usize,
    pending: bool,
    after_cr: bool,
    /// Bytes of the event under way, once it is too long; 0: it is not.
    oversized: u64,
}

impl Frames {
    /// Cuts `chunk` into pieces; at the `end` the last line and event are complete as they are.
    ///
    /// Behind an [`Piece::Event`] `each` may ask for a break: then the rest of the chunk is given back, to be pushed
    /// again later. What it says to other pieces does not matter.
    pub fn push<'a>(
        &mut self,
        chunk: &'a [u8],
        end: bool,
        mut each: impl FnMut(Piece<'_>) -> ControlFlow<()>,
    ) -> &'a [u8] {
        let mut rest = chunk;
        while let Some((first, tail)) = rest.split_first() {
            if mem::take(&mut self.after_cr) && *first == b'\n' {
                let _ = each(Piece::LineFeed);
                rest = tail;
                continue;
            }
            match memchr::memchr2(b'\n', b'\r', rest).and_then(|at| rest.split_at_checked(at.saturating_add(1))) {
                Some((line, tail)) => {
                    self.after_cr = line.ends_with(b"\r");
                    rest = tail;
                    if self.complete(line, &mut each).is_break() {
                        return rest;
                    }
                }
                None => {
                    self.hold(rest, &mut each);
                    rest = &[];
                }
            }
        }
        if end {
            // A line without its end is not blank: it completes no event.
            let _ = self.complete(b"", &mut each);
            let _ = self.dispatch(&mut each);
        }
        &[]
    }

    /// The bytes of a line whose end is not here yet; they were in no piece.
    pub fn unfinished(&self) -> &[u8] {
        if self.oversized == 0 { &self.line } else { &[] }
    }

    /// Keeps the beginning of a line, or lets it pass when the event is too long.
    fn hold(&mut self, bytes: &[u8], each: &mut impl FnMut(Piece<'_>) -> ControlFlow<()>) {
        if self.oversized > 0 {
            return self.pass(bytes, each);
        }
        if self.line.len().saturating_add(bytes.len()) <= LONGEST {
            self.line.extend_from_slice(bytes);
            return;
        }
        let held = mem::take(&mut self.line);
        self.give_up(held.len().saturating_add(self.data.len()));
        let _ = each(Piece::Huge(&held));
        // From here on `line` only says whether the line under way has bytes.
        self.pass(bytes, each);
    }

    /// Takes in the line that `last` ends.
    fn complete(&mut self, last: &[u8], each: &mut impl FnMut(Piece<'_>) -> ControlFlow<()>) -> ControlFlow<()> {
        if self.oversized > 0 {
            return self.complete_oversized(last, each);
        }
        if self.line.is_empty() {
            return self.line(last, each);
        }
        let mut line = mem::take(&mut self.line);
        line.extend_from_slice(last);
        self.line(&line, each)
    }

    /// Within an oversized event a blank line still ends it; everything passes.
    fn complete_oversized(
        &mut self,
        last: &[u8],
        each: &mut impl FnMut(Piece<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let blank = self.line.is_empty() && matches!(last, b"\n" | b"\r");
        self.pass(last, each);
        self.line.clear();
        if blank { self.dispatch(each) } else { ControlFlow::Continue(()) }
    }

    fn pass(&mut self, bytes: &[u8], each: &mut impl FnMut(Piece<'_>) -> ControlFlow<()>) {
        if let Some(byte) = bytes.first().filter(|_| self.line.is_empty()) {
            self.line.push(*byte);
        }
        self.oversized = self.oversized.saturating_add(bytes.len() as u64);
        let _ = each(Piece::Huge(bytes));
    }

    fn give_up(&mut self, bytes: usize) {
        if self.oversized == 0 {
            self.oversized = (bytes as u64).max(1);
        }
        self.data = Vec::new();
        self.has_data = false;
        self.other = 0;
        self.pending = true;
    }

    /// A whole line with its end.
    fn line(&mut self, raw: &[u8], each: &mut impl FnMut(Piece<'_>) -> ControlFlow<()>) -> ControlFlow<()> {
        if raw.is_empty() {
            return ControlFlow::Continue(());
        }
        let line = raw.strip_suffix(b"\n").or_else(|| raw.strip_suffix(b"\r")).unwrap_or(raw);
        if line.is_empty() {
            let _ = each(Piece::Raw { bytes: raw, pending: self.pending });
            return self.dispatch(each);
        }
        if !line.starts_with(b":") {
            self.pending = true;
        }
        let value = data_of(line);
        let data = value.map_or(0, <[u8]>::len);
        let other = self.other.saturating_add(raw.len().saturating_sub(data));
        if self.pending && self.data.len().saturating_add(data).max(other) > LONGEST {
            self.give_up(self.data.len());
            self.pass(raw, each);
            self.line.clear();
            return ControlFlow::Continue(());
        }
        self.other = if self.pending { other } else { 0 };
        if let Some(value) = value {
            if mem::replace(&mut self.has_data, true) {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(value);
        }
        let _ = each(Piece::Raw { bytes: raw, pending: self.pending });
        ControlFlow::Continue(())
    }

    fn dispatch(&mut self, each: &mut impl FnMut(Piece<'_>) -> ControlFlow<()>) -> ControlFlow<()> {
        if !mem::take(&mut self.pending) {
            return ControlFlow::Continue(());
        }
        let flow = match mem::take(&mut self.oversized) {
            0 => each(Piece::Event(&self.data)),
            bytes => {
                let _ = each(Piece::Oversized(bytes));
                ControlFlow::Continue(())
            }
        };
        self.data.clear();
        self.has_data = false;
        self.other = 0;
        flow
    }
}

/// The value of a `data` line.
fn data_of(line: &[u8]) -> Option<&[u8]> {
    let value = line.strip_prefix(b"data")?;
    match value.strip_prefix(b":") {
        Some(value) => Some(value.strip_prefix(b" ").unwrap_or(value)),
        None => value.is_empty().then_some(value),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert_eq, proptest};

    use std::ops::ControlFlow;

    use super::{Frames, LONGEST, Piece};

    /// The body strung together again, the events, and the oversized ones.
    fn run<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, Vec<String>, Vec<u64>) {
        let (mut frames, mut raw, mut events, mut oversized) = (Frames::default(), Vec::new(), Vec::new(), Vec::new());
        let mut take = |piece: Piece<'_>| {
            match piece {
                Piece::Raw { bytes, .. } | Piece::Huge(bytes) => raw.extend_from_slice(bytes),
                Piece::LineFeed => raw.push(b'\n'),
                Piece::Event(data) => {
                    events.push(String::from_utf8_lossy(data).into_owned());
                    return ControlFlow::Break(());
                }
                Piece::Oversized(bytes) => oversized.push(bytes),
                Piece::Broken => panic!("an event stream cannot break"),
            }
            ControlFlow::Continue(())
        };
        for chunk in chunks {
            let mut rest = chunk;
            while !rest.is_empty() {
                rest = frames.push(rest, false, &mut take);
            }
        }
        assert!(frames.push(b"", true, take).is_empty());
        (raw, events, oversized)
    }

    fn events(body: &str) -> Vec<String> {
        run([body.as_bytes()]).1
    }

    #[test]
    fn events_by_the_book_and_beside_it() {
        assert_eq!(events("data: a\n\ndata: b\n\n"), ["a", "b"]);
        assert_eq!(events("data: a\r\n\r\ndata: b\r\n\r\n"), ["a", "b"]);
        assert_eq!(events("data: a\r\rdata:b\r\r"), ["a", "b"]);
        assert_eq!(events(": hello\n\ndata: a\n: in between\ndata: b\n\n: bye\n\n"), ["a\nb"]);
        assert_eq!(events("event: x\nid: 1\ndata: a\nretry: 5\n\n"), ["a"]);
        assert_eq!(events("data: a\n"), ["a"]);
        assert_eq!(events("data: a"), ["a"]);
        assert_eq!(events("data\n\ndatabase: no\n\ndata:  two\n\n"), ["", "", " two"]);
        assert_eq!(events("\n\n\ndata: a\n\n\n\n"), ["a"]);
    }

    proptest! {
        #[test]
        fn chunks_change_nothing(body in "(data: ?[ab]{0,3}|:c|event: x|\r\n|\n|\r){0,30}", cuts in proptest::collection::vec(0usize..60, 0..10)) {
            let body = body.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(body.len())).chain([0, body.len()]).collect();
            cuts.sort_unstable();
            let cut = run(cuts.windows(2).map(|cut| &body[cut[0]..cut[1]]));
            prop_assert_eq!(&cut, &run([body]));
            prop_assert_eq!(cut.0, body);
        }
    }

    #[test]
    fn an_event_too_long_is_told_and_the_next_one_read() {
        let long = "x".repeat(LONGEST + 10_000);
        let several = "data: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\n".repeat(LONGEST / 32);
        for monster in [format!("data: {long}\n"), several] {
            let body = format!("data: a\n\n{monster}data: tail\n\ndata: b\n\n");
            for size in [body.len(), 1000, 999] {
                let (raw, events, oversized) = run(body.as_bytes().chunks(size));
                assert!(raw == body.as_bytes());
                assert_eq!(events, ["a", "b"]);
                assert_eq!(oversized.len(), 1);
            }
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut frames = Frames::default();
        for _ in 0..2000 {
            frames.push(&[b'x'; 4096], false, |_| ControlFlow::Continue(()));
        }
        assert!(frames.line.capacity() + frames.data.capacity() <= 3 * LONGEST);
    }
}
