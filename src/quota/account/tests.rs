//! The bytes of an account.

use std::path::PathBuf;

use super::super::sliding::Slices;
use super::{Account, Entry, Kind, Period, Stamp};
use crate::quota::QuotaId;

/// One of each kind, as after some days of use.
fn account() -> Account {
    let (start, ends) = (1_788_220_800_000, 1_790_812_800_000);
    let month = Period { start, ends, used: 1_234_567_000_000, held: 2_048_000_000, ..Period::default() };
    let granted = Period { granted: 9_000_000_000, allowed: u64::MAX, waived: true, ..month };
    let past = Period {
        start: start - 86_400_000,
        ends: start,
        granted: 1,
        used: 2,
        held: 3,
        returned: 4,
        carried: 5,
        allowed: 6,
        owed: 7,
        spare: 8,
        waived: false,
        late: true,
    };
    let windowed = Entry { current: granted, before: vec![past, Period::default()], ..entry(1, Kind::Windowed) };
    let closed = Entry { current: month, closed: true, left: 0, ..entry(2, Kind::Windowed) };
    let level = Period { start: ends - 1, used: 77, ends: 59_999, ..Period::default() };
    let bucket = Entry { current: level, ..entry(3, Kind::Bucket) };
    let live = Entry { current: Period { held: 3_000_000, ..Period::default() }, ..entry(4, Kind::Concurrent) };
    let charged = vec![(start, 1_000_000), (start + 60_000, u64::MAX - 1)];
    let slices = Slices { length_ms: 3_600_000, latest_ms: start + 60_001, charged };
    let sliding = Entry { slices, ..live.clone() };
    let sliding = Entry { id: QuotaId(5), kind: Kind::Sliding, ..sliding };
    Account {
        subject: "seat/阿丽丝".to_owned(),
        entries: vec![windowed, closed, bucket, live, sliding],
        stamps: vec![(0, Stamp { generation: 1, number: 9 }), (7, Stamp { generation: u32::MAX, number: 1 << 40 })],
    }
}

fn entry(id: u64, kind: Kind) -> Entry {
    Entry::new(QuotaId(id), kind)
}

/// The layout is a contract with every other VM of the process, also with those of the version before.
#[test]
fn the_bytes_of_format_5_stay_as_they_are() {
    let bytes = account().encode();
    let hex: String =
        bytes.chunks(32).map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n").collect();
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/cells/account.hex");
    if std::env::var_os("FAREBOX_BLESS").is_some() {
        std::fs::write(&golden, &hex).unwrap();
    }
    let kept = std::fs::read_to_string(&golden).unwrap_or_default();
    assert_eq!(kept, hex, "the layout has changed; that needs a new `FORMAT`");
    assert_eq!(Account::decode("seat/阿丽丝", &bytes), Some(account()));
}

#[test]
fn only_a_whole_record_of_the_same_subject_is_read() {
    let bytes = account().encode();
    assert_eq!(Account::decode("seat/bob", &bytes), None);
    for end in 0..bytes.len() {
        assert_eq!(Account::decode("seat/阿丽丝", &bytes[..end]), None, "cut at {end}");
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    assert_eq!(Account::decode("seat/阿丽丝", &longer), None);
    let older = [&[4, 0], &bytes[2..]].concat();
    assert_eq!(Account::decode("seat/阿丽丝", &older), None);
}
