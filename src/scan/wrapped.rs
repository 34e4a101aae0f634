//! Secrets wrapped in base 64, once.

use std::ops::Range;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// The shortest run that is unwrapped, in characters: 18 bytes, as short as any secret.
const SHORTEST: usize = 24;

/// The longest run that is unwrapped: longer ones are images and files.
const LONGEST: usize = 64 * 1024;

const CODEC: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// Runs of base 64 in `text` that unwrap to text, with that text.
pub(super) fn runs(text: &str) -> impl Iterator<Item = (Range<usize>, String)> {
    let bytes = text.as_bytes();
    let mut from = 0usize;
    std::iter::from_fn(move || {
        loop {
            let start = from.checked_add(bytes.get(from..)?.iter().position(|byte| is_digit(*byte))?)?;
            let length = bytes.get(start..)?.iter().take_while(|byte| is_digit(**byte)).count();
            let end = start.checked_add(length)?;
            from = end;
            if (SHORTEST..=LONGEST).contains(&length)
                && let Some(unwrapped) = text.get(start..end).and_then(unwrap)
            {
                let padding = bytes.get(end..)?.iter().take(2).take_while(|byte| **byte == b'=').count();
                return Some((start..end.saturating_add(padding), unwrapped));
            }
        }
    })
}

const fn is_digit(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_')
}

/// The text in a run, in either alphabet. `None`: what is in it is no text.
fn unwrap(run: &str) -> Option<String> {
    // The first characters tell, and most words and paths fail here.
    let decode = |run: &str| match run.contains(['-', '_']) {
        true => CODEC.decode(run.replace('-', "+").replace('_', "/")).ok(),
        false => CODEC.decode(run).ok(),
    };
    let whole = run.get(..run.len().checked_sub(usize::from(run.len() % 4 == 1))?)?;
    let head = decode(whole.get(..SHORTEST)?)?;
    head.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()).then_some(())?;
    String::from_utf8(decode(whole)?).ok()
}

#[cfg(test)]
mod tests {
    use super::runs;

    #[test]
    fn text_in_base_64_is_unwrapped() {
        let text = "see TXkgcGFzc3dvcmQgaXMgaHVudGVyMg== and /usr/local/lib/python3/site-packages";
        let found: Vec<_> = runs(text).collect();
        assert_eq!(found.len(), 1);
        assert_eq!(&text[found[0].0.clone()], "TXkgcGFzc3dvcmQgaXMgaHVudGVyMg==");
        assert_eq!(found[0].1, "My password is hunter2");
    }

    #[test]
    fn what_is_no_text_is_left() {
        for text in ["iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ", "da39a3ee5e6b4b0d3255bfef95601890afd80709", ""] {
            assert_eq!(runs(text).count(), 0, "{text}");
        }
    }
}
