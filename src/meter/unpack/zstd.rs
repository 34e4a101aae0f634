//! Reading zstd as it comes (RFC 8878).
//!
//! `ruzstd` gives out only what lies before the window, or everything once the frame has ended: of a stream of small
//! events that would be nothing until its end. So frames are taken apart here. Each block is handed over as if it were the
//! last of its frame, and what it added is looked at and left where it is, because later blocks refer to it.

use std::io;

use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::{BROKEN, DICTIONARY, Sink, WIDE};

/// The largest window of what is sent under this content coding, in bytes (RFC 9659 §3).
const WIDEST: u64 = 8 * 1024 * 1024;
/// The most bytes of a block, packed or unpacked (RFC 8878 §3.1.1.2.4).
const MOST_IN_BLOCK: usize = 128 * 1024;
/// The most bytes that are kept beyond a window before they are let go of. With them and the largest block, one that is
/// written too long among them, the decoder's buffer, which doubles, stays at twice the largest window.
const MOST_BEYOND: usize = 6 * 1024 * 1024;
/// A frame of which nothing is said but that its window is [`WIDEST`].
const FRAME: [u8; 6] = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x68];

/// Frames on their way, one after the other.
///
/// Memory is taken as bytes come, whatever a header says: up to two windows and a block, and a third window while they are
/// moved.
#[derive(Default)]
pub struct Frames {
    pub sink: Sink,
    /// What has come of a header or a block that is not whole.
    kept: Vec<u8>,
    next: Next,
}

/// What comes next.
#[derive(Default)]
enum Next {
    #[default]
    Header,
    Block(Box<Frame>),
    /// So many bytes that say nothing: a skippable frame, or a checksum, which is not looked at.
    Skipped(u64),
}

/// A frame in the middle.
struct Frame {
    /// In its buffer is what was unpacked, at least the last window of it.
    decoder: FrameDecoder,
    /// Bytes that later blocks may refer to.
    window: usize,
    /// Bytes in the decoder's buffer that have been given out.
    seen: usize,
    has_checksum: bool,
}

/// Why it went wrong, as an error of the writer.
fn failed(why: &'static str) -> io::Error {
    io::Error::other(why)
}

impl io::Write for Frames {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.kept.extend_from_slice(bytes);
        let mut kept = std::mem::take(&mut self.kept);
        let mut at = 0;
        while let Some(rest) = kept.get_mut(at..)
            && let Some(taken) = self.step(rest)?
        {
            at = at.saturating_add(taken);
        }
        kept.drain(..at.min(kept.len()));
        self.kept = kept;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Frames {
    /// Takes the next thing off the front, if it is whole, and says how long it was.
    fn step(&mut self, bytes: &mut [u8]) -> io::Result<Option<usize>> {
        match &mut self.next {
            Next::Header => {
                let Some((next, length)) = header(bytes)? else { return Ok(None) };
                self.next = next;
                Ok(Some(length))
            }
            Next::Skipped(0) => {
                self.next = Next::Header;
                Ok(Some(0))
            }
            Next::Skipped(left) => {
                let taken = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left = left.saturating_sub(taken as u64);
                Ok((taken > 0).then_some(taken))
            }
            Next::Block(frame) => {
                let Some((length, is_last)) = block(bytes)? else { return Ok(None) };
                let Some(whole) = bytes.get_mut(..length) else { return Ok(None) };
                frame.unpack(whole, &mut self.sink)?;
                if is_last {
                    self.next = Next::Skipped(if frame.has_checksum { 4 } else { 0 });
                } else {
                    frame.forget()?;
                }
                Ok(Some(length))
            }
        }
    }
}

impl Frame {
    fn new(window: usize, has_checksum: bool) -> io::Result<Self> {
        // One decoder a frame: one that is used again takes memory for all of its window at once.
        let mut decoder = FrameDecoder::new();
        decoder.reset(FRAME.as_slice()).map_err(|_| failed(BROKEN))?;
        Ok(Self { decoder, window, seen: 0, has_checksum })
    }

    /// Unpacks one block, and gives out what it adds.
    fn unpack(&mut self, block: &mut [u8], sink: &mut Sink) -> io::Result<()> {
        self.decode(block)?;
        let mut look = Look { seen: self.seen, all: 0, sink, said: Ok(()) };
        self.decoder.collect_to_writer(&mut look).map_err(|_| failed(BROKEN))?;
        look.said?;
        if look.all != self.decoder.can_collect() {
            return Err(failed(BROKEN));
        }
        self.seen = look.all;
        Ok(())
    }

    /// Hands over one block as the last of its frame: then all that is unpacked can be seen.
    fn decode(&mut self, block: &mut [u8]) -> io::Result<()> {
        if let Some(first) = block.first_mut() {
            *first |= 1;
        }
        let decoded = self.decoder.decode_blocks(&*block, BlockDecodingStrategy::UptoBlocks(1));
        let most = self.seen.saturating_add(MOST_IN_BLOCK);
        if decoded.is_err() || self.decoder.can_collect() > most { Err(failed(BROKEN)) } else { Ok(()) }
    }

    /// Lets go of what lies before the window, now and then: what stays is copied.
    fn forget(&mut self) -> io::Result<()> {
        if self.seen <= self.window.saturating_add(self.window.clamp(MOST_IN_BLOCK, MOST_BEYOND)) {
            return Ok(());
        }
        let mut last = Last { most: self.window, bytes: Vec::new() };
        self.decoder.collect_to_writer(&mut last).map_err(|_| failed(BROKEN))?;
        // The buffer is a ring, of which only what lies in one piece is seen: empty, it begins at its beginning again.
        self.decoder.collect();
        self.seen = 0;
        for piece in last.bytes.chunks(MOST_IN_BLOCK) {
            let size = u32::try_from(piece.len()).unwrap_or_default() << 3;
            let [a, b, c, _] = size.to_le_bytes();
            self.decode(&mut [&[a, b, c], piece].concat())?;
            self.seen = self.seen.saturating_add(piece.len());
        }
        Ok(())
    }
}

/// Gives out what has not been seen, and takes nothing.
struct Look<'a> {
    seen: usize,
    all: usize,
    sink: &'a mut Sink,
    said: io::Result<()>,
}

impl ruzstd::io::Write for Look<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ruzstd::io::Error> {
        self.all = bytes.len();
        self.said = io::Write::write_all(self.sink, bytes.get(self.seen..).unwrap_or_default());
        Ok(0)
    }

    fn flush(&mut self) -> Result<(), ruzstd::io::Error> {
        Ok(())
    }
}

/// Takes all, and keeps the end of it.
struct Last {
    most: usize,
    bytes: Vec<u8>,
}

impl ruzstd::io::Write for Last {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ruzstd::io::Error> {
        self.bytes = bytes.get(bytes.len().saturating_sub(self.most)..).unwrap_or_default().to_vec();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), ruzstd::io::Error> {
        Ok(())
    }
}

/// The number that these bytes are, the lowest first.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Reads a frame's header, if it is whole: what comes behind it, and how long it is (RFC 8878 §3.1.1.1 and §3.1.2).
fn header(bytes: &[u8]) -> io::Result<Option<(Next, usize)>> {
    let Some((magic, rest)) = bytes.split_at_checked(4) else { return Ok(None) };
    if number(magic) & 0xffff_fff0 == 0x184d_2a50 {
        return Ok(rest.get(..4).map(|length| (Next::Skipped(number(length)), 8)));
    }
    if number(magic) != 0xfd2f_b528 {
        return Err(failed(BROKEN));
    }
    let Some(descriptor) = rest.first() else { return Ok(None) };
    if descriptor & 0b1000 != 0 {
        return Err(failed(BROKEN));
    }
    // A frame of one segment has no window but its content.
    let is_single = descriptor & 0b10_0000 != 0;
    let sized = match descriptor >> 6 {
        0 => usize::from(is_single),
        1 => 2,
        2 => 4,
        _ => 8,
    };
    let named = [0, 1, 2, 4].get(usize::from(descriptor & 0b11)).copied().unwrap_or_default();
    let windowed = usize::from(!is_single);
    let (name_at, size_at) = (5 + windowed, 5 + windowed + named);
    let end = size_at + sized;
    let (Some(name), Some(size)) = (bytes.get(name_at..size_at), bytes.get(size_at..end)) else { return Ok(None) };
    let window = if is_single {
        number(size).saturating_add(if sized == 2 { 256 } else { 0 })
    } else {
        let said = bytes.get(5).copied().unwrap_or_default();
        let base = 1_u64 << (10 + (said >> 3));
        base + base / 8 * u64::from(said & 0b111)
    };
    if window > WIDEST {
        return Err(failed(WIDE));
    }
    if number(name) != 0 {
        return Err(failed(DICTIONARY));
    }
    let frame = Frame::new(usize::try_from(window).unwrap_or_default(), descriptor & 0b100 != 0)?;
    Ok(Some((Next::Block(Box::new(frame)), end)))
}

/// The length of the block that these bytes begin with, its header with it, and whether it is the last one of its frame,
/// as soon as that can be told (RFC 8878 §3.1.1.2).
fn block(bytes: &[u8]) -> io::Result<Option<(usize, bool)>> {
    let Some(said) = bytes.get(..3).map(number) else { return Ok(None) };
    let size = usize::try_from(said >> 3).unwrap_or(usize::MAX);
    let length = match said >> 1 & 0b11 {
        _ if size > MOST_IN_BLOCK => return Err(failed(BROKEN)),
        // One byte, so many times.
        1 => 1,
        0 | 2 => size,
        _ => return Err(failed(BROKEN)),
    };
    Ok(Some((3 + length, said & 1 == 1)))
}

#[cfg(test)]
#[path = "zstd_tests.rs"]
mod tests;
