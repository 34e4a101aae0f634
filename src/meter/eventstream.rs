//! Framing of Amazon's binary event streams, on bytes (AWS Smithy, "Amazon Event Stream Specification").
//!
//! ```text
//!   total length │ length of headers │ CRC-32 of these two │ headers │ payload │ CRC-32 of all before
//!        u32     │        u32        │         u32         │         │         │         u32
//! ```
//!
//! All big-endian. A length without its checksum cannot be trusted, so the first wrong one ends the reading: where the
//! next frame begins is not known any more.

use std::mem;
use std::ops::ControlFlow::{self, Continue};

use super::framing::Piece;

/// The longest frame that is read, in bytes; Amazon's own limit is 24 MiB.
pub const LONGEST: usize = 1024 * 1024;

/// Lengths and their checksum.
const PRELUDE: usize = 12;

/// A frame without headers and payload.
const SHORTEST: usize = PRELUDE + 4;

/// A frame: what it says of itself, and its payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frame<'a> {
    /// `:event-type`, or `:exception-type`.
    pub kind: &'a str,
    /// `:message-type` is `exception` or `error`.
    pub failed: bool,
    /// The payload.
    pub payload: &'a [u8],
}

/// The framing of one body. Memory: [`LONGEST`] at most.
#[derive(Clone, Debug, Default)]
pub struct Frames {
    kept: Vec<u8>,
    /// Bytes of an oversized frame that are still to come, and its length.
    skip: (u64, u64),
    broken: bool,
}

impl Frames {
    /// Cuts `chunk` into pieces. What `each` may say is what [`Framing::push`](super::framing::Framing::push) tells.
    pub fn push<'a>(&mut self, chunk: &'a [u8], mut each: impl FnMut(Piece<'_>) -> ControlFlow<()>) -> &'a [u8] {
        let mut rest = chunk;
        while !rest.is_empty() {
            let (tail, flow) = if self.broken {
                let _ = each(Piece::Raw { bytes: rest, pending: false });
                (&[][..], Continue(()))
            } else if self.skip.0 > 0 {
                (self.pass(rest, &mut each), Continue(()))
            } else if self.kept.is_empty() {
                self.direct(rest, &mut each)
            } else {
                self.fill(rest, &mut each)
            };
            rest = tail;
            if flow.is_break() {
                return rest;
            }
        }
        &[]
    }

    /// What is here of a frame whose end is not.
    pub fn pending(&self) -> &[u8] {
        &self.kept
    }

    /// Whether the body, if it ended now, was whole frames only.
    pub fn is_whole(&self) -> bool {
        self.kept.is_empty() && self.skip.0 == 0 && !self.broken
    }

    /// Takes a frame that lies in one chunk without copying it.
    fn direct<'a>(
        &mut self,
        bytes: &'a [u8],
        each: &mut impl FnMut(Piece<'_>) -> ControlFlow<()>,
    ) -> (&'a [u8], ControlFlow<()>) {
        match self.total(bytes, each) {
            Some(total) if total > LONGEST => (bytes, Continue(())),
            Some(total) if total <= bytes.len() => {
                let (frame, rest) = bytes.split_at(total);
                let _ = each(Piece::Raw { bytes: frame, pending: true });
                (rest, self.complete(frame, each))
            }
            _ if self.broken => (bytes, Continue(())),
            _ => {
                self.keep(bytes, each);
                (&[], Continue(()))
            }
        }
    }

    fn keep(&mut self, bytes: &[u8], each: &mut impl FnMut(Piece<'_>) -> ControlFlow<()>) {
        self.kept.extend_from_slice(bytes);
        let _ = each(Piece::Raw { bytes, pending: true });
    }

    /// Adds to the frame under way as many bytes as it needs to go on.
    fn fill<'a>(
        &mut self,
        bytes: &'a [u8],
        each: &mut impl FnMut(Piece<'_>) -> ControlFlow<()>,
    ) -> (&'a [u8], ControlFlow<()>) {
        let need = match self.kept.len() {
            short if short < PRELUDE => PRELUDE,
            _ => length(&self.kept, 0).unwrap_or(PRELUDE),
        };
        let take = need.saturating_sub(self.kept.len()).min(bytes.len());
        let (head, rest) = bytes.split_at(take);
        self.keep(head, each);
        if self.kept.len() < need {
            return (rest, Continue(()));
        }
        let kept = mem::take(&mut self.kept);
        if need == PRELUDE {
            if self.total(&kept, each).is_some_and(|total| total <= LONGEST) {
                self.kept = kept;
            } else if !self.broken {
                self.skip.0 = self.skip.0.saturating_sub(kept.len() as u64);
            }
            return (rest, Continue(()));
        }
        let flow = self.complete(&kept, each);
        self.kept = kept;
        self.kept.clear();
        (rest, flow)
    }

    /// The length of the frame that begins here, once its prelude is here and holds.
    fn total(&mut self, bytes: &[u8], each: &mut impl FnMut(Piece<'_>) -> ControlFlow<()>) -> Option<usize> {
        let prelude = bytes.get(..PRELUDE)?;
        let (total, headers) = (length(prelude, 0)?, length(prelude, 4)?);
        let sound = prelude.get(..8).map(crc32fast::hash) == number(prelude, 8);
        if !sound || total < SHORTEST || headers > total - SHORTEST {
            self.lose(each);
            return None;
        }
        if total > LONGEST {
            self.skip = (total as u64, total as u64);
        }
        Some(total)
    }

    fn lose(&mut self, each: &mut impl FnMut(Piece<'_>) -> ControlFlow<()>) {
        self.broken = true;
        let _ = each(Piece::Broken);
    }

    fn pass<'a>(&mut self, bytes: &'a [u8], each: &mut impl FnMut(Piece<'_>) -> ControlFlow<()>) -> &'a [u8] {
        let take = usize::try_from(self.skip.0).unwrap_or(usize::MAX).min(bytes.len());
        let (taken, rest) = bytes.split_at(take);
        self.skip.0 = self.skip.0.saturating_sub(take as u64);
        let _ = each(Piece::Huge(taken));
        if self.skip.0 == 0 {
            let _ = each(Piece::Oversized(self.skip.1));
        }
        rest
    }

    /// A whole frame, its prelude known to hold.
    fn complete(&mut self, bytes: &[u8], each: &mut impl FnMut(Piece<'_>) -> ControlFlow<()>) -> ControlFlow<()> {
        let body = bytes.len().checked_sub(4).and_then(|end| bytes.get(..end)).unwrap_or_default();
        if Some(crc32fast::hash(body)) == number(bytes, body.len()) && frame(bytes).is_some() {
            return each(Piece::Event(bytes));
        }
        self.lose(each);
        Continue(())
    }
}

/// Reads a whole frame, whose checksums are known to hold.
pub fn frame(bytes: &[u8]) -> Option<Frame<'_>> {
    let (body, _) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    let (headers, payload) = body.get(PRELUDE..)?.split_at_checked(length(bytes, 4)?)?;
    let mut frame = Frame { payload, ..Frame::default() };
    let mut rest = headers;
    while !rest.is_empty() {
        let (name, value, tail) = header(rest)?;
        rest = tail;
        match (name, value.and_then(|value| std::str::from_utf8(value).ok())) {
            (b":event-type" | b":exception-type" | b":error-code", Some(kind)) => frame.kind = kind,
            (b":message-type", Some(kind)) => frame.failed = kind != "event",
            _ => {}
        }
    }
    Some(frame)
}

/// The first header: its name, its value if that is a string, and what follows.
#[expect(clippy::type_complexity, reason = "three slices of one")]
fn header(bytes: &[u8]) -> Option<(&[u8], Option<&[u8]>, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*length))?;
    let (kind, rest) = rest.split_first()?;
    let fixed = match kind {
        0 | 1 => 0,
        2 => 1,
        3 => 2,
        4 => 4,
        5 | 8 => 8,
        9 => 16,
        6 | 7 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
            return Some((name, (*kind == 7).then_some(value), rest));
        }
        _ => return None,
    };
    Some((name, None, rest.get(fixed..)?))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..).and_then(<[u8]>::first_chunk::<4>).map(|bytes| u32::from_be_bytes(*bytes))
}

fn length(bytes: &[u8], at: usize) -> Option<usize> {
    number(bytes, at).and_then(|length| usize::try_from(length).ok())
}

/// A frame as Amazon writes it: `message` is `event` or `exception`. Empty: it would be longer than a frame can be.
pub fn write(message: &str, kind: &str, payload: &[u8]) -> Vec<u8> {
    let name = if message == "event" { ":event-type" } else { ":exception-type" };
    let mut headers = Vec::new();
    for (name, value) in [(name, kind), (":content-type", "application/json"), (":message-type", message)] {
        let (Ok(length), Ok(size)) = (u8::try_from(name.len()), u16::try_from(value.len())) else { return Vec::new() };
        headers.push(length);
        headers.extend_from_slice(name.as_bytes());
        headers.push(7);
        headers.extend_from_slice(&size.to_be_bytes());
        headers.extend_from_slice(value.as_bytes());
    }
    assembled(&headers, payload).unwrap_or_default()
}

/// A whole frame with another payload: its headers stay, its lengths and checksums do not. `None`: it is no frame, or
/// would be longer than one can be.
pub fn with_payload(frame: &[u8], payload: &[u8]) -> Option<Vec<u8>> {
    let headers = frame.get(PRELUDE..)?.get(..length(frame, 4)?)?;
    assembled(headers, payload)
}

fn assembled(headers: &[u8], payload: &[u8]) -> Option<Vec<u8>> {
    let total = SHORTEST.saturating_add(headers.len()).saturating_add(payload.len());
    let mut frame = u32::try_from(total).ok()?.to_be_bytes().to_vec();
    frame.extend_from_slice(&u32::try_from(headers.len()).ok()?.to_be_bytes());
    frame.extend_from_slice(&crc32fast::hash(&frame).to_be_bytes());
    frame.extend_from_slice(headers);
    frame.extend_from_slice(payload);
    frame.extend_from_slice(&crc32fast::hash(&frame).to_be_bytes());
    Some(frame)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use std::ops::ControlFlow::{Break, Continue};

    use super::{Frames, LONGEST, Piece, frame, with_payload, write};

    /// The body strung together again, the frames, and whether it is whole.
    fn strung<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, Vec<String>, bool) {
        let (mut frames, mut raw, mut found) = (Frames::default(), Vec::new(), Vec::new());
        for chunk in chunks {
            let mut rest = chunk;
            while !rest.is_empty() {
                rest = frames.push(rest, |piece| {
                    match piece {
                        Piece::Raw { bytes, .. } | Piece::Huge(bytes) => raw.extend_from_slice(bytes),
                        Piece::Event(bytes) => {
                            let frame = frame(bytes).unwrap();
                            let payload = String::from_utf8_lossy(frame.payload);
                            found.push(format!("{} {} {payload}", frame.kind, frame.failed));
                            return Break(());
                        }
                        Piece::Oversized(bytes) => found.push(format!("{bytes} bytes")),
                        Piece::Broken => found.push("broken".to_owned()),
                        Piece::LineFeed => panic!("frames have no lines"),
                    }
                    Continue(())
                });
            }
        }
        (raw, found, frames.is_whole())
    }

    fn run<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<String>, bool) {
        let (_, found, whole) = strung(chunks);
        (found, whole)
    }

    #[test]
    fn frames_are_read_however_they_are_cut() {
        let body = [write("event", "chunk", b"{}"), write("exception", "throttlingException", b"no")].concat();
        let whole = (vec!["chunk false {}".to_owned(), "throttlingException true no".to_owned()], true);
        for size in 1..body.len() {
            assert_eq!(run(body.chunks(size)), whole, "{size}");
        }
    }

    #[test]
    fn a_frame_too_long_is_passed_over() {
        let long = write("event", "chunk", &vec![b'x'; LONGEST]);
        let body = [long.clone(), write("event", "chunk", b"{}")].concat();
        for size in [5, 4096, body.len()] {
            assert_eq!(run(body.chunks(size)), (vec![format!("{} bytes", long.len()), "chunk false {}".into()], true));
        }
    }

    #[test]
    fn a_wrong_byte_anywhere_is_told() {
        let body = write("event", "chunk", b"{\"a\":1}");
        for at in 0..body.len() {
            let mut wrong = body.clone();
            wrong[at] ^= 1;
            assert_eq!(run([&wrong[..]]), (vec!["broken".to_owned()], false), "{at}");
        }
        assert_eq!(run([&body[..body.len() - 1]]), (vec![], false));
    }

    #[test]
    fn another_payload_leaves_the_headers() {
        let short = write("event", "chunk", b"{}");
        let long = write("event", "chunk", b"{\"a\": \"longer by far\"}");
        assert_eq!(with_payload(&short, b"{\"a\": \"longer by far\"}"), Some(long.clone()));
        assert_eq!(with_payload(&long, b"{}"), Some(short.clone()));
        assert_eq!(with_payload(&short[..20], b"{}"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_chunks(mut body: Vec<u8>, frames in 0usize..3, cuts in proptest::collection::vec(any::<usize>(), 0..6)) {
            for _ in 0..frames {
                body = [write("event", "chunk", b"{}"), body].concat();
            }
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (body.len() + 1)).chain([0, body.len()]).collect();
            cuts.sort_unstable();
            let cut = strung(cuts.windows(2).map(|cut| &body[cut[0]..cut[1]]));
            prop_assert_eq!(&cut, &strung([&body[..]]));
            prop_assert_eq!(cut.0, body);
        }
    }
}
