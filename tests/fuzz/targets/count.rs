//! Any text, whole and in pieces: the tokens that tiktoken-rs counts.
//!
//! The first two bytes choose vocabulary and pieces; what is no UTF-8 is read as everywhere.
#![no_main]

use std::collections::HashSet;

use farebox::meter::count::Encoding;
use farebox::meter::count::running::{Running, RunningBytes};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some(([vocabulary, size], bytes)) = data.split_first_chunk::<2>() else { return };
    let (encoding, oracle) = match vocabulary % 2 {
        0 => (Encoding::O200kBase, tiktoken_rs::o200k_base_singleton()),
        _ => (Encoding::Cl100kBase, tiktoken_rs::cl100k_base_singleton()),
    };
    let text = String::from_utf8_lossy(bytes);
    let count = encoding.count(&text);
    if let Ok(expected) = oracle.count(&text, &HashSet::new()) {
        assert_eq!(count, expected as u64, "{text:?}");
    }
    assert!(count <= encoding.ceiling(text.len()));
    let most = u64::from(*size);
    assert_eq!(encoding.count_up_to(&text, most), Some(count).filter(|count| *count <= most), "{text:?}");

    let size = usize::from(*size).max(1);
    let mut pieces = RunningBytes::new(encoding);
    bytes.chunks(size).for_each(|piece| pieces.push(piece));
    assert_eq!(pieces.total(), count, "{text:?} in pieces of {size}");

    let (mut running, mut at) = (Running::new(encoding), 0);
    while at < text.len() {
        let end = (at + size..text.len()).find(|end| text.is_char_boundary(*end)).unwrap_or(text.len());
        running.push(&text[at..end]);
        at = end;
        // Not after each piece: the beginning is counted anew.
        if at % 7 == 0 {
            assert_eq!(running.total(), encoding.count(&text[..at]), "{:?}", &text[..at]);
            assert!(running.ceiling() >= running.total());
        }
    }
});
