use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::super::{BOMB, BROKEN, DICTIONARY, Unpacker, WIDE};
use super::FRAME;

/// `events(0..120)` by the reference encoder (zstandard 0.25 of PyPI), level 19, `window_log=17, write_checksum=1`,
/// in three blocks: `FLUSH_BLOCK` after the first event and after the fortieth. The second block has tables of its
/// own, the third repeats some and refers to both blocks before it.
const GOLDEN: &str = "KLUv/QQ4oAEAZGF0YTogeyJjaG9pY2VzIjpbeyJkZWx0YSI6eyJjb250ZW50IjoiIHdvcmQwIn19XX0KCoQCAAJDCQ3QPQCVxpIihCQZqBgBAKu7kXhWNLdM4lnR3PLEs6K5nXhWNHcnqCD84DXLARH8//8OAT9JkkxUkEgiyQYikSQ8WIoBAAAAeG67qwQB9QMAsoYOC9DnAABEREjITkCs1/Qs9xh+biwSh8IyCJzkVjTSgGlWNNKAWVY00oBJVjTSgDlWNNKAKVY00oDZC1GoELg+8DW2AxLYQeD//wYBf8sEx5hSllJKKaWUohQRkyFDJJKZyIhIJCciczKZiUykRHIiEpOTmchEJCUHS96AuAuG0Q==";
/// Where its blocks end, and how many events have come by then.
const BLOCKS: [(usize, u32); 3] = [(61, 1), (144, 40), (277, 120)];

fn golden() -> Vec<u8> {
    STANDARD.decode(GOLDEN).unwrap()
}

fn events(numbers: std::ops::Range<u32>) -> Vec<u8> {
    numbers
        .flat_map(|n| format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\" word{n}\"}}}}]}}\n\n").into_bytes())
        .collect()
}

fn packed(text: &[u8]) -> Vec<u8> {
    compress_to_vec(text, CompressionLevel::Fastest)
}

/// What came out, and how it ended.
fn unpacked(packed: &[u8], size: usize) -> (Vec<u8>, Result<(), &'static str>) {
    let (mut unpacker, mut out) = (Unpacker::of(b"zstd").unwrap(), Vec::new());
    let ended = packed.chunks(size).try_for_each(|chunk| unpacker.push(chunk, |bytes| out.extend_from_slice(bytes)));
    (out, ended)
}

#[test]
fn what_was_packed_comes_out_however_it_is_cut() {
    for size in [1, 7, 100, 100_000] {
        assert_eq!(unpacked(&golden(), size), (events(0..120), Ok(())));
    }
}

#[test]
fn frames_follow_each_other_and_some_say_nothing() {
    let skipped = [&[0x5f, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], &golden()[..3]].concat();
    let all = [skipped.clone(), golden(), skipped.clone(), packed(b"plain"), packed(b""), golden(), skipped].concat();
    for size in [1, 7, 100_000] {
        assert_eq!(unpacked(&all, size), ([events(0..120), b"plain".to_vec(), events(0..120)].concat(), Ok(())));
    }
}

#[test]
fn a_block_is_out_as_soon_as_it_is_in() {
    for (end, number) in BLOCKS {
        assert_eq!(unpacked(&golden()[..end], 5), (events(0..number), Ok(())));
    }
}

#[test]
fn what_is_cut_off_gives_what_came_until_then() {
    for end in 0..golden().len() {
        let known = BLOCKS.iter().rev().find(|(at, _)| *at <= end).map_or(0, |(_, number)| *number);
        let (out, ended) = unpacked(&golden()[..end], 64);
        assert_eq!(ended, Ok(()));
        // The last four bytes are the checksum, which nobody waits for.
        assert_eq!(out, events(0..if end >= 273 { 120 } else { known }), "{end}");
    }
}

#[test]
fn many_windows_are_read_one_after_the_other() {
    // The encoder's window is 128 KiB.
    let text = events(0..40_000);
    assert!(text.len() > 16 * 128 * 1024);
    let packed = packed(&text);
    assert!(packed.len() < text.len() / 4);
    for size in [1000, 1_000_000] {
        assert!(unpacked(&packed, size) == (text.clone(), Ok(())));
    }
}

#[test]
fn any_window_up_to_8_mib_will_do() {
    let raw = [0x29, 0, 0, b'h', b'e', b'l', b'l', b'o'];
    let frame = |header: &[u8]| unpacked(&[&[0x28, 0xb5, 0x2f, 0xfd], header, &raw].concat(), 3);
    let hello = (b"hello".to_vec(), Ok(()));
    assert_eq!(frame(&[0, 0x68]), hello);
    assert_eq!(frame(&[0, 0x69]), (vec![], Err(WIDE)));
    assert_eq!(frame(&[0, 0xff]), (vec![], Err(WIDE)));
    // Its content is its window: of one byte, of two, which count from 256, of four and of eight.
    assert_eq!(frame(&[0x20, 5]), hello);
    assert_eq!(frame(&[0x60, 5, 0]), hello);
    assert_eq!(frame(&[0xa0, 0, 0, 0x80, 0]), hello);
    assert_eq!(frame(&[0xa0, 1, 0, 0x80, 0]), (vec![], Err(WIDE)));
    assert_eq!(frame(&[0xe0, 0, 0, 0, 0, 0, 0, 0, 1]), (vec![], Err(WIDE)));
    // The dictionary of the number 0 is none.
    assert_eq!(frame(&[1, 0x68, 0]), hello);
    assert_eq!(frame(&[2, 0x68, 0, 1]), (vec![], Err(DICTIONARY)));
    assert_eq!(frame(&[8, 0x68]), (vec![], Err(BROKEN)));
}

#[test]
fn bombs_and_rubbish_end_the_reading() {
    // Blocks of one byte each, 128 Ki times.
    let bomb = [&FRAME[..], &[0x02, 0, 0x10, b' '].repeat(1000)].concat();
    let (out, ended) = unpacked(&bomb, 4096);
    assert_eq!((out.len(), ended), (4 * 1024 * 1024, Err(BOMB)));
    // The same, and never as much at once.
    let slow = [&[0x02, 0, 0x10, b' '][..], &[0; 3].repeat(100)].concat();
    let (out, ended) = unpacked(&[&FRAME[..], &slow.repeat(1000)].concat(), 304);
    assert_eq!((out.len() / 1024 / 1024, ended), (64, Err(BOMB)));
    for rubbish in
        [&b"no zstd at all"[..], &[&FRAME[..], &[0x06, 0, 0]].concat(), &[&FRAME[..], &[0, 1, 0x10]].concat()]
    {
        assert_eq!(unpacked(rubbish, 4096), (vec![], Err(BROKEN)));
    }
    // 1 MiB of literals in one block.
    let swollen = [&FRAME[..], &[0x2d, 0, 0, 0xfd, 0xff, 0xff, b' ', 0]].concat();
    assert_eq!(unpacked(&swollen, 4096), (vec![], Err(BROKEN)));
}

#[test]
fn no_broken_byte_does_harm() {
    let (golden, mut broken) = (golden(), 0);
    for at in 0..golden.len() {
        for bit in 0..8 {
            let mut other = golden.clone();
            other[at] ^= 1 << bit;
            let (out, ended) = unpacked(&other, 100);
            assert!(out.len() <= 3 * 128 * 1024);
            assert!(ended.is_ok() || [BROKEN, WIDE, DICTIONARY].contains(&ended.unwrap_err()));
            broken += u32::from(ended.is_err());
        }
    }
    assert!(broken > 300, "{broken}");
}
