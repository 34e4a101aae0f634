//! Reading compressed answers (RFC 9110 §8.4.1: gzip, deflate; RFC 7932: br; RFC 8878 and RFC 9659: zstd).
//!
//! The filter asks upstreams not to compress; some do it all the same. What comes is unpacked beside the stream, whose
//! bytes pass as they are. A bomb ends the reading: more than [`MOST_AT_ONCE`] out of [`SLICE`] bytes, or more than
//! [`MOST`] at more than [`RATIO`] to one.

mod zstd;

use std::fmt;
use std::io::{self, Write};

use brotli_decompressor::DecompressorWriter;
use flate2::write::{MultiGzDecoder, ZlibDecoder};

/// Packed bytes that are unpacked at once.
const SLICE: usize = 1024;
/// Bytes that a slice may come to: four times what gzip can make of it.
const MOST_AT_ONCE: usize = 4 * 1024 * 1024;
/// Bytes up to which any ratio is believed.
const MOST: u64 = 64 * 1024 * 1024;
/// Bytes out of one, beyond that.
const RATIO: u64 = 200;

/// Why unpacking ended.
pub const BOMB: &str = "a compressed answer that is far too large";
/// Why unpacking ended.
pub const BROKEN: &str = "a compressed answer that is broken";
/// Why unpacking ended: what may be referred to of a zstd frame is more than RFC 9659 allows.
pub const WIDE: &str = "a compressed answer with a window above 8 MiB";
/// Why unpacking ended: a zstd frame goes by a dictionary that is not sent with it.
pub const DICTIONARY: &str = "a compressed answer that needs a dictionary";

/// One compressed body on its way.
pub struct Unpacker {
    decoder: Decoder,
    packed: u64,
    unpacked: u64,
}

enum Decoder {
    Gzip(Box<MultiGzDecoder<Sink>>),
    Deflate(Box<ZlibDecoder<Sink>>),
    Brotli(Box<DecompressorWriter<Sink>>),
    Zstd(Box<zstd::Frames>),
}

/// Where unpacked bytes are gathered.
#[derive(Default)]
struct Sink(Vec<u8>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.0.len().saturating_add(bytes.len());
        if length > MOST_AT_ONCE {
            return Err(io::Error::other(BOMB));
        }
        if length > self.0.capacity() {
            // Doubled, as far as that can be needed.
            let wanted = length.max(self.0.capacity().saturating_mul(2)).min(MOST_AT_ONCE);
            self.0.reserve_exact(wanted.saturating_sub(self.0.len()));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unpacker")
            .field("packed", &self.packed)
            .field("unpacked", &self.unpacked)
            .finish_non_exhaustive()
    }
}

impl Unpacker {
    /// For this content encoding; `None`: it cannot be unpacked here.
    pub fn of(encoding: &[u8]) -> Option<Self> {
        let decoder = match encoding.trim_ascii().to_ascii_lowercase().as_slice() {
            b"gzip" | b"x-gzip" => Decoder::Gzip(Box::new(MultiGzDecoder::new(Sink::default()))),
            b"deflate" => Decoder::Deflate(Box::new(ZlibDecoder::new(Sink::default()))),
            b"br" => Decoder::Brotli(Box::new(DecompressorWriter::new(Sink::default(), 4096))),
            b"zstd" => Decoder::Zstd(Box::default()),
            _ => return None,
        };
        Some(Self { decoder, packed: 0, unpacked: 0 })
    }

    /// Unpacks `chunk`, and gives what comes of it in pieces.
    ///
    /// # Errors
    ///
    /// The data is broken, or a bomb: nothing more can be read.
    pub fn push(&mut self, chunk: &[u8], mut each: impl FnMut(&[u8])) -> Result<(), &'static str> {
        for slice in chunk.chunks(SLICE) {
            let written = self.write(slice);
            let sink = match &mut self.decoder {
                Decoder::Gzip(decoder) => decoder.get_mut(),
                Decoder::Deflate(decoder) => decoder.get_mut(),
                Decoder::Brotli(decoder) => decoder.get_mut(),
                Decoder::Zstd(frames) => &mut frames.sink,
            };
            let bytes = std::mem::take(&mut sink.0);
            self.packed = self.packed.saturating_add(slice.len() as u64);
            self.unpacked = self.unpacked.saturating_add(bytes.len() as u64);
            each(&bytes);
            written.map_err(|error| {
                let said = error.to_string();
                [BOMB, WIDE, DICTIONARY].into_iter().find(|why| said == **why).unwrap_or(BROKEN)
            })?;
            if self.unpacked > MOST.max(self.packed.saturating_mul(RATIO)) {
                return Err(BOMB);
            }
        }
        Ok(())
    }

    /// Whether packed data came and nothing could be made of it.
    pub fn is_barren(&self) -> bool {
        self.packed > 0 && self.unpacked == 0
    }

    fn write(&mut self, slice: &[u8]) -> io::Result<()> {
        let writer: &mut dyn Write = match &mut self.decoder {
            Decoder::Gzip(decoder) => decoder,
            Decoder::Deflate(decoder) => decoder,
            Decoder::Brotli(decoder) => decoder,
            Decoder::Zstd(frames) => frames,
        };
        writer.write_all(slice)?;
        writer.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};

    use super::{BOMB, BROKEN, Unpacker};

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn unpacked(encoding: &str, packed: &[u8], size: usize) -> Result<Vec<u8>, &'static str> {
        let (mut unpacker, mut out) = (Unpacker::of(encoding.as_bytes()).unwrap(), Vec::new());
        for chunk in packed.chunks(size) {
            unpacker.push(chunk, |bytes| out.extend_from_slice(bytes))?;
        }
        Ok(out)
    }

    #[test]
    fn what_was_packed_comes_out_however_it_is_cut() {
        let text = b"data: {\"choices\":[]}\n\n".repeat(50);
        let mut deflate = ZlibEncoder::new(Vec::new(), Compression::fast());
        deflate.write_all(&text).unwrap();
        let deflate = deflate.finish().unwrap();
        let two = [gzip(&text[..500]), gzip(&text[500..])].concat();
        for size in [1, 7, 100_000] {
            assert_eq!(unpacked("gzip", &gzip(&text), size).unwrap(), text);
            assert_eq!(unpacked(" X-GZIP", &two, size).unwrap(), text);
            assert_eq!(unpacked("deflate", &deflate, size).unwrap(), text);
        }
        // `printf hello | brotli | xxd`
        let brotli = [0x0b, 0x02, 0x80, 0x68, 0x65, 0x6c, 0x6c, 0x6f, 0x03];
        assert_eq!(unpacked("br", &brotli, 1).unwrap(), b"hello");
        assert!(Unpacker::of(b"compress").is_none());
        assert!(Unpacker::of(b"gzip, br").is_none());
    }

    #[test]
    fn an_event_is_out_as_soon_as_it_was_flushed_in() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(b"data: one\n\n").unwrap();
        encoder.flush().unwrap();
        assert_eq!(unpacked("gzip", encoder.get_ref(), 5).unwrap(), b"data: one\n\n");
    }

    #[test]
    fn bombs_and_rubbish_end_the_reading() {
        let bomb = gzip(&vec![b' '; 80 * 1024 * 1024]);
        assert_eq!(unpacked("gzip", &bomb, 4096), Err(BOMB));
        assert_eq!(unpacked("gzip", b"no gzip at all", 4096), Err(BROKEN));
    }
}
