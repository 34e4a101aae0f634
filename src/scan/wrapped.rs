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
            let start = long_run(bytes, from)?;
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

/// Where the next run of at least [`SHORTEST`] begins, at `from` at the earliest. A look from the end of where it would be
/// passes over most of a text: whatever ends a run there, none begins before it.
fn long_run(bytes: &[u8], from: usize) -> Option<usize> {
    let mut start = from;
    loop {
        let window = bytes.get(start..start.checked_add(SHORTEST)?)?;
        match window.iter().rposition(|byte| !is_digit(*byte)) {
            Some(end) => start = start.checked_add(end)?.checked_add(1)?,
            None => return Some(start),
        }
    }
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
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::{SHORTEST, is_digit, long_run, runs};

    proptest! {
        #[test]
        fn no_long_run_is_passed_over(text in "([0-9A-Za-z+/_-]{1,60}[ =,é]{0,3}){0,8}") {
            let (bytes, mut from, mut found) = (text.as_bytes(), 0, Vec::new());
            while let Some(start) = long_run(bytes, from) {
                let length = bytes[start..].iter().take_while(|byte| is_digit(**byte)).count();
                found.push(&bytes[start..start + length]);
                from = start + length;
            }
            let all = bytes.split(|byte| !is_digit(*byte));
            prop_assert_eq!(found, all.filter(|run| run.len() >= SHORTEST).collect::<Vec<_>>());
        }
    }

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
