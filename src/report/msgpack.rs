//! Where one MessagePack value ends, found without decoding it.
//!
//! A batch is a concatenation, so a record that does not decode must not take its neighbours with it.

/// Splits off the first MessagePack value of `bytes`: (the value, the rest). `None` when it is cut short or
/// uses the one byte that MessagePack never uses.
///
/// Work is linear in the value and memory is constant, however deep it nests
/// (<https://github.com/msgpack/msgpack/blob/master/spec.md>).
pub(super) fn split_value(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut rest = bytes;
    let mut pending: u64 = 1;
    while pending > 0 {
        let (payload, children) = header(&mut rest)?;
        rest = rest.get(usize::try_from(payload).ok()?..)?;
        // Each pending value needs a byte at least: more of them than bytes cannot end well.
        pending = (pending - 1).checked_add(children)?;
        if pending > rest.len() as u64 {
            return None;
        }
    }
    bytes.split_at_checked(bytes.len() - rest.len())
}

/// The values in a list. `None`: it is none.
pub(super) fn list(value: &[u8]) -> Option<impl Iterator<Item = &[u8]>> {
    matches!(value.first(), Some(0x90..=0x9f | 0xdc | 0xdd)).then(|| parts(value))
}

/// The keys and values of a map, in turn. `None`: it is none.
pub(super) fn map(value: &[u8]) -> Option<impl Iterator<Item = &[u8]>> {
    matches!(value.first(), Some(0x80..=0x8f | 0xde | 0xdf)).then(|| parts(value))
}

/// A value that is cut short has fewer than it says.
fn parts(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = value;
    let mut left = header(&mut rest).map_or(0, |(_, children)| children);
    std::iter::from_fn(move || {
        left = left.checked_sub(1)?;
        let (part, tail) = split_value(rest)?;
        rest = tail;
        Some(part)
    })
}

/// Takes the marker and length of a value: (bytes of payload that follow, values nested in it).
fn header(rest: &mut &[u8]) -> Option<(u64, u64)> {
    let (&marker, tail) = rest.split_first()?;
    *rest = tail;
    Some(match marker {
        0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => (0, 0),
        0x80..=0x8f => (0, u64::from(marker & 0x0f) * 2),
        0x90..=0x9f => (0, u64::from(marker & 0x0f)),
        0xa0..=0xbf => (u64::from(marker & 0x1f), 0),
        0xc1 => return None,
        0xc4 | 0xd9 => (length(rest, 1)?, 0),
        0xc5 | 0xda => (length(rest, 2)?, 0),
        0xc6 | 0xdb => (length(rest, 4)?, 0),
        0xc7 => (length(rest, 1)? + 1, 0),
        0xc8 => (length(rest, 2)? + 1, 0),
        0xc9 => (length(rest, 4)? + 1, 0),
        0xcc | 0xd0 => (1, 0),
        0xcd | 0xd1 => (2, 0),
        0xca | 0xce | 0xd2 => (4, 0),
        0xcb | 0xcf | 0xd3 => (8, 0),
        0xd4 => (2, 0),
        0xd5 => (3, 0),
        0xd6 => (5, 0),
        0xd7 => (9, 0),
        0xd8 => (17, 0),
        0xdc => (0, length(rest, 2)?),
        0xdd => (0, length(rest, 4)?),
        0xde => (0, length(rest, 2)? * 2),
        0xdf => (0, length(rest, 4)? * 2),
    })
}

/// Takes a big-endian length of `width` bytes, at most four.
fn length(rest: &mut &[u8], width: usize) -> Option<u64> {
    let (digits, tail) = rest.split_at_checked(width)?;
    *rest = tail;
    Some(digits.iter().fold(0, |sum, &digit| sum << 8 | u64::from(digit)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, proptest};

    use super::{list, map, split_value};

    /// One value of every marker family, with its whole length.
    fn samples() -> Vec<Vec<u8>> {
        let mut all: Vec<Vec<u8>> = vec![
            vec![0x05],
            vec![0xc0],
            vec![0xff],
            vec![0xa2, b'h', b'i'],
            vec![0xd9, 1, b'x'],
            vec![0xda, 0, 1, b'x'],
            vec![0xdb, 0, 0, 0, 1, b'x'],
            vec![0xc4, 1, 9],
            vec![0xc7, 2, 7, 1, 2],
            vec![0xd4, 7, 1],
            vec![0xcc, 200],
            vec![0xcd, 1, 0],
            vec![0xce, 0, 0, 0, 1],
            vec![0x92, 1, 0xa1, b'x'],
            vec![0x81, 0xa1, b'k', 0x91, 0xc3],
            vec![0xdc, 0, 2, 1, 2],
            vec![0xde, 0, 1, 1, 2],
        ];
        all.push([&[0xcf][..], &[1; 8]].concat());
        all.push([&[0xd8][..], &[1; 17]].concat());
        all
    }

    #[test]
    fn every_marker_ends_where_it_ends() {
        for value in samples() {
            let followed = [&value[..], &[0xc3, 0x01]].concat();
            assert_eq!(split_value(&followed), Some((&value[..], &[0xc3, 0x01][..])), "{value:02x?}");
            for cut in 0..value.len() {
                assert_eq!(split_value(&value[..cut]), None, "{value:02x?} cut at {cut}");
            }
        }
    }

    #[test]
    fn nesting_and_false_lengths_cost_nothing() {
        let deep = [vec![0x91; 1_000_000], vec![0xc0]].concat();
        assert_eq!(split_value(&deep).map(|(value, rest)| (value.len(), rest.len())), Some((1_000_001, 0)));
        assert_eq!(split_value(&[0xdf, 0xff, 0xff, 0xff, 0xff, 0xc0]), None);
        assert_eq!(split_value(&[0xc1]), None);
    }

    proptest! {
        #[test]
        fn what_serde_writes_is_one_value(
            value in prop::collection::vec(any::<(String, u64, Option<i64>)>(), 0..8),
            tail in any::<Vec<u8>>(),
        ) {
            let written = rmp_serde::to_vec_named(&value).unwrap();
            let bytes = [&written[..], &tail[..]].concat();
            assert_eq!(split_value(&bytes), Some((&written[..], &tail[..])));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in any::<Vec<u8>>()) {
            let _ = split_value(&bytes);
        }
    }

    #[test]
    fn lists_and_maps_are_taken_apart() {
        let nested = serde_json::json!([1, "two", [3, null], {"four": 5}]);
        let bytes = rmp_serde::to_vec(&nested).unwrap();
        let found: Vec<&[u8]> = list(&bytes).unwrap().collect();
        let each = nested.as_array().unwrap().iter().map(|part| rmp_serde::to_vec(part).unwrap());
        assert_eq!(found, each.collect::<Vec<_>>());
        assert_eq!(list(&bytes[..bytes.len() - 1]).unwrap().count(), 3);
        assert_eq!(map(found[3]).unwrap().collect::<Vec<_>>(), [&b"\xa4four"[..], &[5]]);
        for other in [&b""[..], &[0xc0], &[0x81, 0xa1, b'x', 0x90], b"\xa4four"] {
            assert!(list(other).is_none());
        }
        for other in [&b""[..], &[0xc0], &[0x91, 0x80], b"\xa4four"] {
            assert!(map(other).is_none());
        }
    }
}
