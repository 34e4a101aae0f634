//! `RateLimit` and `RateLimit-Policy`: draft-ietf-httpapi-ratelimit-headers-10, in the structured fields of RFC 9651.

use crate::engine::denial::LimitView;
use crate::now::Now;
use crate::policy::unit::Unit;

/// What the vendors' three headers say.
pub struct Columns {
    /// The whole.
    pub limit: u64,
    /// What is left.
    pub remaining: u64,
    /// Milliseconds until the whole is there again.
    pub reset_ms: Option<u64>,
}

/// The vendors' columns of a quota; `None` for what runs at a moment, for which they have no headers.
pub fn columns(limit: &LimitView, now: Now) -> Option<Columns> {
    limit.window_s?;
    Some(Columns { limit: limit.limit, remaining: limit.remaining, reset_ms: limit.resets_in_ms(now) })
}

/// The two headers of the draft, for one quota.
///
/// `t` is when *more* comes, so it is `retry_ms` where that is known: the draft wants `retry-after` not before it.
/// Units: `requests` is the draft's default, `concurrent-requests` is registered. Tokens and credits are not, so
/// they go into a parameter of our own, as the draft asks of unregistered ones.
pub fn ietf(limit: &LimitView, retry_ms: Option<u64>, now: Now) -> [(String, String); 2] {
    let name = string(&limit.name);
    let unit = match (limit.unit, limit.window_s) {
        (Unit::Requests, Some(_)) => String::new(),
        (Unit::Requests, None) => ";qu=\"concurrent-requests\"".to_owned(),
        (unit, _) => format!(";farebox-unit={}", string(unit.words())),
    };
    let window = limit.window_s.map_or_else(String::new, |seconds| format!(";w={}", integer(seconds)));
    let more = retry_ms.or_else(|| limit.resets_in_ms(now)).map(|ms| ms.div_ceil(1000));
    let more = more.map_or_else(String::new, |seconds| format!(";t={}", integer(seconds)));
    [
        ("ratelimit-policy".to_owned(), format!("{name};q={}{unit}{window}", integer(limit.limit))),
        ("ratelimit".to_owned(), format!("{name};r={}{more}", integer(limit.remaining))),
    ]
}

/// RFC 9651 §3.3.1: an integer has at most 15 digits.
fn integer(value: u64) -> u64 {
    value.min(999_999_999_999_999)
}

/// RFC 9651 §3.3.3: a string is printable ASCII with `"` and `\` escaped. The draft allows no other type for a name,
/// so that what is not ASCII (a name in Chinese) is percent-encoded, and `%` with it.
fn string(text: &str) -> String {
    let mut out = String::from("\"");
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend(['\\', char::from(byte)]),
            b'%' | 0..=0x1f | 0x7f..=0xff => out.push_str(&format!("%{byte:02X}")),
            plain => out.push(char::from(plain)),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, proptest};

    use super::{ietf, string};
    use crate::engine::denial::LimitView;
    use crate::now::Now;
    use crate::policy::unit::Unit;

    fn view(unit: Unit, window_s: Option<u64>) -> LimitView {
        LimitView { name: "calls".into(), limit: 1200, remaining: 7, resets_ms: Some(61_001), unit, window_s }
    }

    fn both(limit: &LimitView, retry_ms: Option<u64>) -> [String; 2] {
        ietf(limit, retry_ms, Now { wall_ms: 1000, mono_ms: 0 }).map(|(_, value)| value)
    }

    #[test]
    fn each_unit_is_named_as_the_draft_allows() {
        assert_eq!(both(&view(Unit::Requests, Some(60)), None), ["\"calls\";q=1200;w=60", "\"calls\";r=7;t=61"]);
        assert_eq!(
            both(&view(Unit::InputTokens, Some(60)), Some(1)),
            ["\"calls\";q=1200;farebox-unit=\"input tokens\";w=60", "\"calls\";r=7;t=1"]
        );
        let live = LimitView { resets_ms: None, ..view(Unit::Requests, None) };
        assert_eq!(both(&live, None), ["\"calls\";q=1200;qu=\"concurrent-requests\"", "\"calls\";r=7"]);
    }

    #[test]
    fn integers_stay_within_fifteen_digits() {
        let huge = LimitView { limit: u64::MAX, ..view(Unit::Requests, Some(u64::MAX)) };
        assert_eq!(both(&huge, None)[0], "\"calls\";q=999999999999999;w=999999999999999");
    }

    #[test]
    fn names_cannot_leave_their_quotes() {
        assert_eq!(string(r#"a"b\c"#), r#""a\"b\\c""#);
        assert_eq!(string("50%\r\nx"), r#""50%25%0D%0Ax""#);
        assert_eq!(string("月"), r#""%E6%9C%88""#);
    }

    proptest! {
        #[test]
        fn any_name_is_printable_ascii(name: String) {
            prop_assert!(string(&name).bytes().all(|byte| (0x20..0x7f).contains(&byte)));
        }
    }
}
