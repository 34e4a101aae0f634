use std::fmt::Write as _;
use std::path::PathBuf;

use proptest::prelude::{Just, Strategy, any, prop, prop_oneof, proptest};

use super::{
    AccountReport, Audit, Charge, Grant, MAX_RECORDS, Outcome, QuotaReport, Record, Rejection, SyncHead, SyncReply,
    VERSION, WireError, decode_record, decode_reply, decode_sync, encode_record, encode_reply, encode_sync,
};
use crate::meter::usage::{Source, Usage};

fn record() -> Record {
    Record {
        id: "0123456789abcdef-1-2-3".to_owned(),
        bundle: "acme-ai".to_owned(),
        version: "2026-11-24".to_owned(),
        plan: "team-seat@2026-11".to_owned(),
        seat: "alice".to_owned(),
        org: "acme".to_owned(),
        model: "qwen-max".to_owned(),
        sent: "qwen-plus".to_owned(),
        served: "qwen-max-2026-10".to_owned(),
        dialect: "openai-chat".to_owned(),
        stream: true,
        came_ms: 1_795_499_999_000,
        admitted_ms: 1_795_500_000_000,
        settled_ms: 1_795_500_004_200,
        outcome: Outcome::Complete,
        status: 200,
        attempts: 1,
        usage: Usage { input: 120, cache_read: 1000, cache_write: 0, output: 64, reasoning: 16, ..Usage::default() },
        source: Source::Reported,
        reported: Some(Usage {
            input: 120,
            cache_read: 1000,
            cache_write: 0,
            output: 64,
            reasoning: 16,
            ..Usage::default()
        }),
        delivered: 48,
        prompts: 1_000_000,
        tool_calls: 2,
        passed: vec![super::Pass { how: "downgraded".to_owned(), quota: "seat".to_owned() }],
        reached: vec![super::Reached {
            subject: "seat/alice".to_owned(),
            quota: "team-seat/seat".to_owned(),
            window: 1_793_462_400_000,
            percent: 80,
        }],
        // Not written where it is nothing, so that these bytes are those of before there was such a field.
        failed_input: 0,
        graced: 4,
        charges: vec![Charge {
            subject: "seat/alice".to_owned(),
            quota: "team-seat/seat".to_owned(),
            unit: "credits".to_owned(),
            window: 1_793_462_400_000,
            amount: 952_000,
        }],
        audit: None,
    }
}

fn head() -> SyncHead {
    SyncHead {
        farebox: VERSION,
        bundle: "acme-ai".to_owned(),
        epoch: 0x0123_4567_89ab_cdef,
        vm: 1,
        generation: 2,
        lowest: 3,
        next: 5,
        records: 1,
        accounts: vec![AccountReport {
            subject: "seat/alice".to_owned(),
            quotas: vec![QuotaReport {
                quota: "team-seat/seat".to_owned(),
                unit: "credits".to_owned(),
                limit: 25_000_000_000,
                window: 1_793_462_400_000,
                ends: 1_796_054_400_000,
                length_ms: 0,
                used: 952_000,
                returned: 0,
                granted: 4_000_000_000,
                want: 1_000_000,
                rollover: 5_000_000,
                every_ms: 2_629_746_000,
                waived: true,
            }],
        }],
    }
}

fn reply() -> SyncReply {
    SyncReply {
        farebox: VERSION,
        acknowledged: vec!["0123456789abcdef-1-2-3".to_owned()],
        rejected: vec![Rejection { position: 1, reason: "`x` is no exchange id".to_owned() }],
        grants: vec![Grant {
            subject: "seat/alice".to_owned(),
            quota: "team-seat/seat".to_owned(),
            window: 1_793_462_400_000,
            ends: 1_796_054_400_000,
            granted: 4_000_000_000,
            left: 21_000_000_000,
            owed: 0,
        }],
    }
}

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/wire").join(name)
}

fn hex(bytes: &[u8]) -> String {
    bytes.chunks(32).fold(String::new(), |mut text, line| {
        line.iter().for_each(|byte| write!(text, "{byte:02x}").unwrap());
        text + "\n"
    })
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// Compares with the golden file, or writes it when `FAREBOX_BLESS` is set.
fn assert_golden(name: &str, found: &str) {
    if std::env::var_os("FAREBOX_BLESS").is_some() {
        std::fs::write(golden(name), found).unwrap();
    }
    let kept = std::fs::read_to_string(golden(name)).unwrap_or_default();
    assert_eq!(kept, found, "{name}: the wire format has changed; that needs a new version");
}

#[test]
fn the_bytes_of_version_1_stay_as_they_are() {
    assert_golden("record.hex", &hex(&encode_record(&record())));
    assert_golden("record.json", &(serde_json::to_string_pretty(&record()).unwrap() + "\n"));
    assert_golden("head.hex", &hex(&encode_sync(&SyncHead { records: 0, ..head() }, &[] as &[&[u8]])));
    assert_golden("head.json", &(serde_json::to_string_pretty(&SyncHead { records: 0, ..head() }).unwrap() + "\n"));
    assert_golden("sync.hex", &hex(&encode_sync(&head(), &[encode_record(&record())])));
    assert_golden("reply.hex", &hex(&encode_reply(&reply())));
    assert_golden("reply.json", &(serde_json::to_string_pretty(&reply()).unwrap() + "\n"));
}

#[test]
fn the_bytes_of_version_1_are_still_read() {
    let sync = unhex(&std::fs::read_to_string(golden("sync.hex")).unwrap());
    assert_eq!(decode_sync(&sync).unwrap(), (head(), vec![Ok(record())]));
    assert_eq!(decode_reply(&unhex(&std::fs::read_to_string(golden("reply.hex")).unwrap())).unwrap(), reply());
}

#[test]
fn unknown_fields_are_ignored_and_missing_ones_are_empty() {
    let newer = serde_json::json!({"farebox": 1, "bundle": "b", "records": 0, "future": {"deep": [[1, "x"], null]}});
    let (head, records) = decode_sync(&rmp_serde::to_vec_named(&newer).unwrap()).unwrap();
    assert_eq!(head, SyncHead { farebox: 1, bundle: "b".to_owned(), ..SyncHead::default() });
    assert_eq!(records, []);
    let (_, records) = decode_sync(&encode_sync(&head, &[[0x80]])).unwrap();
    assert_eq!(records, [Ok(Record::default())]);
}

#[test]
fn a_bad_record_leaves_its_neighbours_alone() {
    let good = encode_record(&record());
    let strange = serde_json::json!({"id": "x", "outcome": "vanished"});
    let strange = rmp_serde::to_vec_named(&strange).unwrap();
    let (_, records) = decode_sync(&encode_sync(&head(), &[&good[..], &strange, &[0x07], &good])).unwrap();
    assert_eq!(records[0], Ok(record()));
    assert!(records[1].as_ref().unwrap_err().contains("vanished"), "{records:?}");
    assert!(records[2].is_err());
    assert_eq!(records[3], Ok(record()));
}

#[test]
fn broken_framing_is_an_error_that_says_what() {
    let whole = encode_sync(&head(), &[encode_record(&record())]);
    assert_eq!(decode_sync(&whole[..whole.len() - 1]), Err(WireError::CutShort(0)));
    assert_eq!(decode_sync(&[&whole[..], &[0xc0]].concat()), Err(WireError::Trailing(1)));
    let other = encode_sync(&SyncHead { farebox: 2, ..head() }, &[] as &[&[u8]]);
    assert_eq!(decode_sync(&other), Err(WireError::Version(2)));
    let many = vec![[0x80]; MAX_RECORDS + 1];
    assert_eq!(decode_sync(&encode_sync(&head(), &many)), Err(WireError::TooMany(MAX_RECORDS as u32 + 1)));
    assert!(matches!(decode_sync(b""), Err(WireError::Head(_))));
    assert!(matches!(decode_reply(b"<html>"), Err(WireError::Reply(_))));
    assert_eq!(decode_reply(&encode_reply(&SyncReply::default())), Err(WireError::Version(0)));
}

#[test]
fn lists_and_nesting_are_bounded() {
    let charges = Record { charges: vec![Charge::default(); super::MAX_QUOTAS + 1], ..record() };
    let (_, records) = decode_sync(&encode_sync(&head(), &[encode_record(&charges)])).unwrap();
    assert!(records[0].as_ref().unwrap_err().contains(&format!("at most {}", super::MAX_QUOTAS)), "{records:?}");
    let nested = |levels| [&[0x81, 0xa1, b'x'][..], &vec![0x91; levels], &[0xc0]].concat();
    let deep = [nested(super::MAX_DEPTH - 2), nested(super::MAX_DEPTH), nested(100_000)];
    let (_, records) = decode_sync(&encode_sync(&head(), &deep)).unwrap();
    assert_eq!(records[0], Ok(Record::default()), "an unknown field may nest");
    for record in &records[1..] {
        assert!(record.as_ref().unwrap_err().contains("depth"), "{record:?}");
    }
}

fn usage() -> impl Strategy<Value = Usage> {
    any::<[u64; 10]>().prop_map(|figures| {
        let [input, cache_read, cache_write, cache_write_1h, output, reasoning, images, rest @ ..] = figures;
        let [characters, seconds, provider_total] = rest;
        let usage = Usage { input, cache_read, cache_write, cache_write_1h, output, reasoning, ..Usage::default() };
        Usage { images, characters, seconds, provider_total, ..usage }
    })
}

fn any_record() -> impl Strategy<Value = Record> {
    let outcome = prop::sample::select(&Outcome::ALL[..]);
    let source = prop_oneof![Just(Source::Reported), Just(Source::Estimated), Just(Source::Mixed)];
    let charge = any::<(String, String, u64, u64)>().prop_map(|(subject, quota, window, amount)| Charge {
        subject,
        quota,
        window,
        amount,
        unit: "tokens".to_owned(),
    });
    let numbers = any::<(u64, u64, u16, u32, u64)>();
    let charges = prop::collection::vec(charge, 0..4);
    (any::<[String; 3]>(), numbers, outcome, source, usage(), prop::option::of(usage()), charges).prop_map(
        |(
            [id, seat, model],
            (admitted_ms, settled_ms, status, attempts, delivered),
            outcome,
            source,
            usage,
            reported,
            charges,
        )| {
            Record {
                id,
                seat,
                model,
                admitted_ms,
                settled_ms,
                status,
                attempts,
                delivered,
                outcome,
                source,
                usage,
                reported,
                charges,
                failed_input: settled_ms / 2,
                stream: status % 2 == 0,
                audit: (status % 3 == 0).then(|| Audit {
                    agent: format!("agent {status}"),
                    findings: vec!["email:redact:1".to_owned(); usize::from(status % 5)],
                    prompt: "Hi".repeat(usize::from(status % 7)),
                    prompt_cut: status % 2 == 0,
                    answer_cut: status % 4 == 0,
                    ..Audit::default()
                }),
                ..record()
            }
        },
    )
}

proptest! {
    #[test]
    fn a_batch_comes_back_as_it_was(records in prop::collection::vec(any_record(), 0..5)) {
        let encoded: Vec<Vec<u8>> = records.iter().map(encode_record).collect();
        let (found, decoded) = decode_sync(&encode_sync(&head(), &encoded)).unwrap();
        assert_eq!(found, SyncHead { records: records.len() as u32, ..head() });
        assert_eq!(decoded.into_iter().collect::<Result<Vec<_>, _>>().unwrap(), records);
        let one_by_one: Option<Vec<Record>> = encoded.iter().map(|bytes| decode_record(bytes)).collect();
        assert_eq!(one_by_one.unwrap(), records, "as the filter reads them");
    }

    #[test]
    fn a_reply_comes_back_as_it_was(ids in any::<Vec<String>>(), left: u64, granted: u64, position: u32) {
        let mut reply = reply();
        reply.acknowledged = ids;
        reply.grants.iter_mut().for_each(|grant| (grant.left, grant.granted) = (left, granted));
        reply.rejected.iter_mut().for_each(|one| one.position = position);
        assert_eq!(decode_reply(&encode_reply(&reply)).unwrap(), reply);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in any::<Vec<u8>>(), at: prop::sample::Index, byte: u8) {
        let _ = decode_sync(&bytes);
        let _ = decode_reply(&bytes);
        let mut near = encode_sync(&head(), &[encode_record(&record())]);
        let at = at.index(near.len());
        near[at] = byte;
        let _ = decode_sync(&near);
        let mut near = encode_reply(&reply());
        let at = at % near.len();
        near[at] = byte;
        let _ = decode_reply(&near);
    }
}
