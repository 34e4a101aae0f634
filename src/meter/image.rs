//! What an image in a body comes to, by its size and the rule that its model's provider publishes.
//!
//! | models | rule |
//! |---|---|
//! | OpenAI (“Images and vision”) | tiles of 512 pixels, or patches of 32, by model |
//! | Claude (Anthropic, “Vision”) | width × height / 750, the longer edge 1,568 at most |
//! | Gemini 2 (Google, “Token counting”) | 258 a tile of 768; one up to 384 × 384 |
//! | Gemini 3 (Google, “Media resolution”) | 1,120 |
//! | Qwen-VL (Alibaba Cloud, “Vision”) | a token for 28 × 28 pixels, and two; third generation 32 × 32 |
//! | Mistral (“Vision”) | a token for 28 × 28 pixels and one a row, the longer edge 1,540 at most |
//! | others | as Claude |

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use super::name::Name;
use super::origin::told;

/// A middling picture, where its size cannot be told: 1024 × 1024 is 765 tokens by OpenAI's tiles, some 1,400 by
/// Anthropic's area.
const MIDDLING: u64 = 1_100;
/// So much of a picture is looked at for its size, in characters of base64: headers of JPEGs may hold thumbnails.
const HEAD: usize = 96 * 1024;

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// An image in a body, as far as it can be told without unfolding it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picture {
    /// How many bytes it has, at most.
    pub bytes: u64,
    /// Width times height, if its head tells them.
    pub pixels: Option<u64>,
}

impl Picture {
    /// Of a raw JSON string: a `data:` URL, or base64 by itself.
    pub fn of(raw: &str) -> Self {
        let text = told(raw);
        let data = text.split_once(";base64,").map_or(&*text, |(_, data)| data).trim_end_matches('=');
        // Four characters are three bytes.
        let bytes = (data.len() as u64).saturating_mul(3) / 4;
        Self { bytes, pixels: size(&text).map(|(width, height)| width.saturating_mul(height)) }
    }
}

/// The most that any image can cost: 2833 + 5667 × 8 tiles, gpt-4o-mini (OpenAI, "Images and vision").
const MOST_GPT_4O_MINI: u64 = 48_169;
/// Anthropic, "Vision": at most some 4,800 tokens at the highest resolution.
const MOST_CLAUDE: u64 = 5_000;
/// All others: Qwen-VL takes up to 16,384 at high resolution; OpenAI's tiles and patches stay below.
const MOST_OTHER: u64 = 16_384;

/// The most tokens that an image comes to with a model, however large it is: the published maximum of its family.
pub fn most(model: &str) -> u64 {
    let name = Name::of(model);
    match () {
        () if name.has("claude") => MOST_CLAUDE,
        () if name.has("gpt-4o-mini") => MOST_GPT_4O_MINI,
        () => MOST_OTHER,
    }
}

/// Tokens of the image in a raw JSON string: a `data:` URL, or base64 by itself. Never more than [`most`]: what is larger
/// is scaled down.
pub fn tokens(raw: &str, model: &str) -> u64 {
    by_size(raw, model).min(most(model))
}

fn by_size(raw: &str, model: &str) -> u64 {
    let name = Name::of(model);
    if name.has("gemini-3") {
        return 1_120;
    }
    let Some((width, height)) = size(raw).filter(|(width, height)| *width > 0 && *height > 0) else { return MIDDLING };
    if name.is_openai() {
        openai(name.own(), width, height)
    } else if name.has("gemini") {
        if width.max(height) <= 384 { 258 } else { 258 * width.div_ceil(768) * height.div_ceil(768) }
    } else if name.has("qwen3") {
        cells(width, 32).saturating_mul(cells(height, 32)).saturating_add(2)
    } else if name.has("qwen") {
        cells(width, 28).saturating_mul(cells(height, 28)).saturating_add(2)
    } else if name.has("stral") {
        let (width, height) = within(width, height, 1_540);
        width.div_ceil(28).saturating_add(1).saturating_mul(height.div_ceil(28))
    } else {
        let (width, height) = within(width, height, 1_568);
        (width * height / 750).max(4)
    }
}

/// Cells of this many pixels along an edge, the nearest number.
fn cells(edge: u64, pixels: u64) -> u64 {
    (edge.saturating_add(pixels / 2) / pixels.max(1)).max(1)
}

/// The size that fits `most` along the longer edge.
fn within(width: u64, height: u64, most: u64) -> (u64, u64) {
    let longer = width.max(height);
    if longer <= most { (width, height) } else { ((width * most / longer).max(1), (height * most / longer).max(1)) }
}

fn openai(name: &str, width: u64, height: u64) -> u64 {
    // Patches of 32 pixels, 1,536 at most; hundredths a patch.
    let patches =
        [("gpt-4.1-mini", 162), ("gpt-4.1-nano", 246), ("gpt-5-mini", 162), ("gpt-5-nano", 246), ("o4-mini", 172)];
    if let Some((_, hundredths)) = patches.iter().find(|(known, _)| name.starts_with(known)) {
        return width.div_ceil(32).saturating_mul(height.div_ceil(32)).min(1_536) * hundredths / 100;
    }
    let (base, tile) = match name {
        _ if name.starts_with("gpt-4o-mini") => (2_833, 5_667),
        _ if name.starts_with("gpt-5") => (70, 140),
        _ if name.starts_with('o') => (75, 150),
        _ => (85, 170),
    };
    let (width, height) = within(width, height, 2_048);
    let shorter = width.min(height).max(1);
    let scaled = |edge: u64| if shorter > 768 { edge * 768 / shorter } else { edge };
    base + tile * scaled(width).div_ceil(512) * scaled(height).div_ceil(512)
}

/// Width and height in pixels, as far as the picture's head tells them; at most 65,535 each.
fn size(raw: &str) -> Option<(u64, u64)> {
    let text = told(raw);
    let base64 = text.split_once(";base64,").map_or(&*text, |(_, data)| data);
    let head = base64.as_bytes().get(..base64.len().min(HEAD))?;
    // Whole groups of four.
    let whole = head.get(..head.len() - head.len() % 4).filter(|whole| !whole.is_empty()).unwrap_or(head);
    let bytes = LENIENT.decode(whole).ok()?;
    let (width, height) = png(&bytes).or_else(|| gif(&bytes)).or_else(|| webp(&bytes)).or_else(|| jpeg(&bytes))?;
    Some((width.min(65_535), height.min(65_535)))
}

/// A number of these bytes, the most significant first.
fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let slice = bytes.get(at..at.checked_add(N)?)?;
    Some(slice.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

/// A number of these bytes, the least significant first.
fn little<const N: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let slice = bytes.get(at..at.checked_add(N)?)?;
    Some(slice.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

fn png(bytes: &[u8]) -> Option<(u64, u64)> {
    let begins = bytes.starts_with(b"\x89PNG\r\n\x1a\n") && bytes.get(12..16) == Some(b"IHDR");
    begins.then(|| Some((number::<4>(bytes, 16)?, number::<4>(bytes, 20)?))).flatten()
}

fn gif(bytes: &[u8]) -> Option<(u64, u64)> {
    bytes.starts_with(b"GIF8").then(|| Some((little::<2>(bytes, 6)?, little::<2>(bytes, 8)?))).flatten()
}

fn webp(bytes: &[u8]) -> Option<(u64, u64)> {
    if bytes.get(8..12) != Some(b"WEBP") {
        return None;
    }
    match bytes.get(12..16)? {
        b"VP8X" => Some((little::<3>(bytes, 24)? + 1, little::<3>(bytes, 27)? + 1)),
        b"VP8L" => {
            let bits = little::<4>(bytes, 21)?;
            Some(((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1))
        }
        _ => Some((little::<2>(bytes, 26)? & 0x3fff, little::<2>(bytes, 28)? & 0x3fff)),
    }
}

/// The first frame header: its segment's marker is from C0 to CF, but for three that mean something else. Any number of FF
/// may stand before a marker, and some have no segment behind them (ITU T.81, B.1.1.2 and B.1.1.3).
fn jpeg(bytes: &[u8]) -> Option<(u64, u64)> {
    if !bytes.starts_with(b"\xff\xd8") {
        return None;
    }
    let mut at = 2usize;
    loop {
        let marker = number::<2>(bytes, at)?;
        if matches!(marker, 0xffc0..=0xffcf) && !matches!(marker, 0xffc4 | 0xffc8 | 0xffcc) {
            return Some((number::<2>(bytes, at.checked_add(7)?)?, number::<2>(bytes, at.checked_add(5)?)?));
        }
        match marker {
            0xffff => {
                at = at.checked_add(1)?;
                continue;
            }
            0xff01 | 0xffd0..=0xffd8 => {
                at = at.checked_add(2)?;
                continue;
            }
            // Data, or no picture: its header should have come before.
            ..=0xff00 | 0xffd9 | 0xffda => return None,
            _ => {}
        }
        let length = number::<2>(bytes, at.checked_add(2)?)?.max(2);
        at = at.checked_add(2)?.checked_add(usize::try_from(length).ok()?)?;
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use proptest::prelude::{any, prop_assert, proptest};

    use super::{MIDDLING, Picture, most, size, tokens};

    fn picture(bytes: &[u8]) -> String {
        format!("\"data:image/x;base64,{}\"", STANDARD.encode(bytes))
    }

    fn png(width: u32, height: u32) -> String {
        let sizes = [width.to_be_bytes(), height.to_be_bytes()].concat();
        picture(&[&b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"[..], &sizes, &[8, 2, 0, 0, 0]].concat())
    }

    #[test]
    fn sizes_stand_in_the_head() {
        assert_eq!(size(&png(640, 480)), Some((640, 480)));
        assert_eq!(size(&picture(b"GIF89a\x40\x01\xf0\0\0\0")), Some((320, 240)));
        let jpeg = b"\xff\xd8\xff\xe0\0\x04ab\xff\xc4\0\x02\xff\xc2\0\x11\x08\x01\xe0\x02\x80\x03";
        assert_eq!(size(&picture(jpeg)), Some((640, 480)));
        // Who takes what has no length for a segment, or fill for a marker, reads a smaller one first.
        let small = b"\xff\xc0\0\x11\x08\0\x01\0\x01\x03";
        let frame = b"\xff\xc0\0\x11\x08\x01\xe0\x02\x80\x03";
        for odd in [&b"\xff\xff\xff"[..], b"\xff\x01", b"\xff\xd0", b"\xff\xd7\xff"] {
            let comment = b"\xff\xfe\0\x0c";
            let forged = [&b"\xff\xd8"[..], odd, comment, small, frame].concat();
            assert_eq!(size(&picture(&forged)), Some((640, 480)), "{odd:02x?}");
        }
        assert_eq!(size(&picture(&[&b"\xff\xd8\xff\xda\0\x02"[..], frame].concat())), None, "in the data");
        assert_eq!(size(&picture(b"\x89PNG\r\n\x1a\n\0\0\0\x04aaaa\0\0\0\x01\0\0\0\x01")), None, "no header first");
        let mut webp = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0".to_vec();
        webp.extend([0x7f, 2, 0, 0xdf, 1, 0]);
        assert_eq!(size(&picture(&webp)), Some((640, 480)));
        for raw in ["", "\"\"", "\"x\"", "\"data:image/png;base64,!!!!\"", "\"iVBORw0K\"", "\"/9j/2Q==\""] {
            assert_eq!(size(raw), None, "{raw}");
            assert_eq!(tokens(raw, "gpt-4o"), MIDDLING);
        }
    }

    #[test]
    fn a_picture_tells_its_bytes_and_pixels() {
        let raw = png(640, 480);
        assert_eq!(Picture::of(&raw), Picture { bytes: 29, pixels: Some(640 * 480) });
        // Some write every slash with an escape.
        assert_eq!(Picture::of(&raw.replace('/', "\\/")), Picture::of(&raw));
        assert_eq!(Picture::of("\"iVBORw0K\""), Picture { bytes: 6, pixels: None });
        assert_eq!(Picture::of("{\"bytesBase64Encoded\": 1}").pixels, None);
    }

    #[test]
    fn the_providers_own_examples() {
        // OpenAI, "Images and vision": 1024 × 1024 and 2048 × 4096 in high detail; 1024 × 1024 in patches.
        assert_eq!(tokens(&png(1024, 1024), "gpt-4o-2024-08-06"), 765);
        assert_eq!(tokens(&png(2048, 4096), "openai/gpt-4o"), 1105);
        assert_eq!(tokens(&png(1024, 1024), "gpt-4.1-mini"), 1024 * 162 / 100);
        // Anthropic, "Vision": 1092 × 1092, some 1,590 tokens.
        assert_eq!(tokens(&png(1092, 1092), "claude-sonnet-4"), 1589);
        // Google, "Token counting": 258 up to 384 pixels, tiles beyond.
        assert_eq!(tokens(&png(384, 200), "gemini-2.5-flash"), 258);
        assert_eq!(tokens(&png(1000, 700), "gemini-2.5-flash"), 516);
    }

    #[test]
    fn what_is_too_large_is_scaled_down() {
        assert_eq!(tokens(&png(8_000, 6_000), "qwen-vl-max"), 16_384);
        assert_eq!(most("us.anthropic.Claude-3-haiku"), 5_000);
    }

    const FAMILIES: [&str; 16] = [
        "gpt-4o",
        "openai/gpt-4o-mini",
        "gpt-4.1-mini",
        "gpt-4.1-nano",
        "gpt-5",
        "gpt-5-nano",
        "o1",
        "o4-mini",
        "claude-sonnet-4",
        "gemini-2.5-flash",
        "gemini-3-pro",
        "qwen-vl-max",
        "Qwen/Qwen3-VL-8B",
        "pixtral-12b",
        "mistral-small",
        "my-model",
    ];

    proptest! {
        #[test]
        fn no_size_is_beyond_the_most(width in any::<u32>(), height in any::<u32>(), small in 1u32..20_000) {
            for (width, height) in [(width, height), (small, height), (width, small), (small, small / 2 + 1)] {
                for model in FAMILIES {
                    let (tokens, most) = (tokens(&png(width, height), model), most(model));
                    prop_assert!(tokens <= most, "{} × {} to {}: {} of {}", width, height, model, tokens, most);
                }
            }
        }

        #[test]
        fn no_head_is_beyond_the_most(kind in 0..4usize, rest in proptest::collection::vec(any::<u8>(), 0..64)) {
            let magic: [&[u8]; 4] = [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"GIF89a", b"RIFF\0\0\0\0WEBPVP8", b"\xff\xd8\xff\xc0\0\x11\x08"];
            let raw = picture(&[magic[kind], &rest].concat());
            for model in FAMILIES {
                prop_assert!(tokens(&raw, model) <= most(model), "{} {}", model, raw);
            }
        }
    }
}
