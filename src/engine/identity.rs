//! Whose call it is: a key in a header, compared by its SHA-256.
//!
//! A key reaches us in the clear and is never kept, logged or sent on. The policy holds hashes only, and the
//! comparison visits every known hash whatever it finds, so that its time tells nothing about which one was near.

use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::denial::{Denial, Kind};
use super::event::Header;
use crate::policy::bundle::{Bundle, Key};

/// Headers that providers read keys from. They are taken off every metered call, whether or not this policy
/// reads them: the provider's key is put in behind the filter, and one of the client's own would spend past it.
const PROVIDER_CREDENTIALS: [&str; 4] = ["authorization", "x-api-key", "api-key", "x-goog-api-key"];

/// Headers that only we may set. A client that sends them is pretending.
const OURS: &[u8] = b"x-farebox-";

/// The rule that a refusal names when no key, an unknown key, or more than one key came.
const RULE: &str = "identity";

/// The seat whose key `headers` carry, as an index into [`Bundle::seats`].
///
/// The same key in two headers is one key (some SDKs send both). Refused are: no key (401), one that nobody has
/// (401), two different ones (400), and a header that carries a key and was sent twice (400), whatever it says:
/// Envoy and the upstream might not agree on which of them counts.
pub fn identify(headers: &[Header], bundle: &Bundle) -> Result<usize, Denial> {
    let seat = seat_of(headers, &bundle.credentials, &bundle.keys)?;
    if bundle.seats.get(seat).is_none() {
        let inside = format!("a key points at seat {seat}, which the bundle lacks");
        return Err(Denial::guard(Kind::Unauthenticated, RULE, UNKNOWN, inside));
    }
    Ok(seat)
}

const UNKNOWN: &str = "the key is not known here; check it, or ask your administrator for one";

/// [`identify`] over the parts of the bundle that it reads.
pub fn seat_of(headers: &[Header], credentials: &[String], keys: &[Key]) -> Result<usize, Denial> {
    let mut found: Option<&[u8]> = None;
    for name in credentials {
        let Some(key) = key_in(headers, name)? else { continue };
        match found {
            // Both are the caller's own bytes: nothing secret is compared here.
            Some(other) if other != key => return Err(conflict("two different keys were sent; send one")),
            _ => found = Some(key),
        }
    }
    let Some(key) = found else {
        let names = credentials.join("`, `");
        let outside = format!("no key was sent; send one in `{names}` (`authorization` as `Bearer <key>`)");
        return Err(Denial::guard(Kind::Unauthenticated, RULE, outside, "no key"));
    };
    if let Some(seat) = seat_by_key(key, keys) {
        return Ok(seat);
    }
    // Proxies may have folded a repeated header into one: then this is no wrong key, but two.
    if key.contains(&b',') {
        return Err(conflict("more than one key was sent; send one"));
    }
    Err(Denial::guard(Kind::Unauthenticated, RULE, UNKNOWN, "unknown key"))
}

/// The key in the header `name`; `None` when the header is absent or empty.
fn key_in<'a>(headers: &'a [Header], name: &str) -> Result<Option<&'a [u8]>, Denial> {
    let mut values = headers.iter().filter(|(at, _)| at.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value);
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(conflict(&format!("the header `{name}` was sent twice; send it once")));
    }
    let value = value.trim_ascii();
    if value.is_empty() {
        return Ok(None);
    }
    if !name.eq_ignore_ascii_case("authorization") {
        return Ok(Some(value));
    }
    let Some((scheme, key)) = value.split_at_checked(6) else { return Err(not_bearer()) };
    // RFC 9110 §11.1: the scheme is case-insensitive; RFC 6750 §2.1: at least one space, then the key.
    match (scheme.eq_ignore_ascii_case(b"bearer"), key) {
        (true, []) => Ok(None),
        (true, [b' ' | b'\t', key @ ..]) => Ok(Some(key.trim_ascii_start())),
        _ => Err(not_bearer()),
    }
}

fn not_bearer() -> Denial {
    let outside = "the header `authorization` must be `Bearer <key>`";
    Denial::guard(Kind::Unauthenticated, RULE, outside, "authorization with another scheme than bearer")
}

fn conflict(outside: &str) -> Denial {
    Denial::guard(Kind::Conflict, RULE, outside, outside)
}

/// The seat that has this key. Takes as long for a hit as for a miss.
pub fn seat_by_key(key: &[u8], keys: &[Key]) -> Option<usize> {
    let digest: [u8; 32] = Sha256::digest(key).into();
    let mut hit = Choice::from(0);
    let mut seat = 0_u64;
    for known in keys {
        let same = known.sha256.ct_eq(&digest);
        seat.conditional_assign(&u64::try_from(known.seat).unwrap_or(u64::MAX), same);
        hit |= same;
    }
    if bool::from(hit) { usize::try_from(seat).ok() } else { None }
}

/// The request headers to take off before the request goes upstream: whatever may carry a credential of the
/// client, and whatever begins with `x-farebox-`. Each name once, in lower case.
pub fn credential_headers(headers: &[Header], bundle: &Bundle) -> Vec<String> {
    strip_list(headers, &bundle.credentials)
}

/// The names of the headers that are `wanted`, pseudo-headers left out: each once, in lower case.
pub fn names(headers: &[Header], wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in headers.iter().filter_map(|(name, _)| std::str::from_utf8(name).ok()) {
        let name = name.to_ascii_lowercase();
        if !name.starts_with(':') && wanted(&name) && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn strip_list(headers: &[Header], credentials: &[String]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (name, _) in headers {
        let carries = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        let strip = name.get(..OURS.len()).is_some_and(|head| head.eq_ignore_ascii_case(OURS))
            || PROVIDER_CREDENTIALS.into_iter().any(carries)
            || credentials.iter().any(|known| carries(known));
        // Header names are tokens (RFC 9110 §5.1), so ASCII; what is none cannot be named to the host either.
        if let (true, Ok(name)) = (strip, std::str::from_utf8(name)) {
            let name = name.to_ascii_lowercase();
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
    use sha2::{Digest, Sha256};

    use super::{seat_by_key, seat_of, strip_list};
    use crate::engine::denial::Kind;
    use crate::engine::event::Header;
    use crate::policy::bundle::Key;

    fn headers(pairs: &[(&str, &str)]) -> Vec<Header> {
        pairs.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
    }

    fn keys(list: &[(&str, usize)]) -> Vec<Key> {
        list.iter().map(|(key, seat)| Key { sha256: Sha256::digest(key).into(), seat: *seat }).collect()
    }

    fn all() -> Vec<String> {
        ["authorization", "x-api-key", "api-key"].map(String::from).to_vec()
    }

    fn seat(pairs: &[(&str, &str)]) -> Result<usize, Kind> {
        let keys = keys(&[("demo-alice", 0), ("demo-bob", 1), ("demo-bob-2", 1)]);
        seat_of(&headers(pairs), &all(), &keys).map_err(|denial| denial.kind)
    }

    #[test]
    fn a_key_is_found_in_each_header() {
        assert_eq!(seat(&[("authorization", "Bearer demo-alice")]), Ok(0));
        assert_eq!(seat(&[("authorization", "bEARER   demo-bob ")]), Ok(1));
        assert_eq!(seat(&[("x-api-key", "demo-bob-2")]), Ok(1));
        assert_eq!(seat(&[("api-key", " demo-alice ")]), Ok(0));
        assert_eq!(seat(&[(":path", "/"), ("X-Api-Key", "demo-bob")]), Ok(1));
    }

    #[test]
    fn no_key_and_unknown_keys_are_unauthenticated() {
        for pairs in [
            &[][..],
            &[("cookie", "demo-alice")],
            &[("x-api-key", "")],
            &[("authorization", "Bearer")],
            &[("authorization", "Bearer ")],
            &[("authorization", "")],
            &[("authorization", "demo-alice")],
            &[("authorization", "Basic demo-alice")],
            &[("authorization", "Bearerdemo-alice")],
            &[("authorization", "Bear")],
            &[("x-api-key", "demo-alic")],
            &[("x-api-key", "Bearer demo-alice")],
            &[("x-api-key", "DEMO-ALICE")],
        ] {
            assert_eq!(seat(pairs), Err(Kind::Unauthenticated), "{pairs:?}");
        }
    }

    #[test]
    fn the_same_key_twice_is_one_key() {
        assert_eq!(seat(&[("authorization", "Bearer demo-alice"), ("x-api-key", "demo-alice")]), Ok(0));
    }

    #[test]
    fn two_keys_are_a_conflict_even_of_one_seat_or_unknown() {
        for pairs in [
            &[("authorization", "Bearer demo-alice"), ("x-api-key", "demo-bob")],
            &[("x-api-key", "demo-bob"), ("api-key", "demo-bob-2")],
            &[("x-api-key", "demo-bob"), ("authorization", "Bearer nobody")],
        ] {
            assert_eq!(seat(pairs), Err(Kind::Conflict), "{pairs:?}");
        }
    }

    #[test]
    fn a_repeated_credential_header_is_a_conflict_even_with_one_key() {
        assert_eq!(seat(&[("x-api-key", "demo-alice"), ("x-api-key", "demo-alice")]), Err(Kind::Conflict));
        assert_eq!(seat(&[("x-api-key", "demo-alice"), ("X-API-KEY", "")]), Err(Kind::Conflict));
        assert_eq!(seat(&[("authorization", "Bearer demo-alice,Bearer demo-bob")]), Err(Kind::Conflict));
    }

    #[test]
    fn another_scheme_beside_a_key_is_refused_and_not_skipped() {
        assert!(seat(&[("authorization", "Basic eDp5"), ("x-api-key", "demo-alice")]).is_err());
    }

    #[test]
    fn headers_that_the_policy_does_not_name_are_not_read() {
        let only = vec![String::from("x-api-key")];
        let sent = headers(&[("authorization", "Bearer demo-alice")]);
        assert!(seat_of(&sent, &only, &keys(&[("demo-alice", 0)])).is_err());
    }

    #[test]
    fn a_message_never_repeats_the_key() {
        let keys = keys(&[("demo-alice", 0)]);
        for value in ["hunter2-secret", "hunter2-secret,other"] {
            let denial = seat_of(&headers(&[("x-api-key", value)]), &all(), &keys).expect_err("unknown");
            assert!(!format!("{denial:?}").contains("hunter2"), "{denial:?}");
        }
    }

    #[test]
    fn a_hit_stands_whatever_comes_after_it_in_the_list() {
        let keys = keys(&[("c", 2), ("b", 1), ("a", 0)]);
        assert_eq!(
            ["a", "b", "c", "d"].map(|key| seat_by_key(key.as_bytes(), &keys)),
            [Some(0), Some(1), Some(2), None]
        );
    }

    #[test]
    fn bytes_that_are_no_text_can_be_a_key() {
        let raw = b"\xff\xfe".to_vec();
        let keys = vec![Key { sha256: Sha256::digest(&raw).into(), seat: 3 }];
        assert_eq!(seat_of(&[(b"x-api-key".to_vec(), raw)], &all(), &keys).ok(), Some(3));
    }

    #[test]
    fn credentials_and_our_own_headers_are_taken_off() {
        let sent = headers(&[
            (":path", "/v1/messages"),
            ("authorization", "Bearer a"),
            ("X-Farebox-Tier", "gold"),
            ("x-farebox-", ""),
            ("x-farebo", "stays"),
            ("x-goog-api-key", "z"),
            ("x-team-key", "k"),
            ("x-team-key", "k"),
            ("anthropic-version", "2023-06-01"),
        ]);
        let strip = strip_list(&sent, &[String::from("x-team-key")]);
        assert_eq!(strip, ["authorization", "x-farebox-tier", "x-farebox-", "x-goog-api-key", "x-team-key"]);
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_an_answer(sent: Vec<(Vec<u8>, Vec<u8>)>, value: Vec<u8>) {
            let mut sent = sent;
            sent.push((b"authorization".to_vec(), value));
            prop_assert!(seat_of(&sent, &all(), &keys(&[("demo-alice", 0)])).is_err());
            strip_list(&sent, &all());
        }

        #[test]
        fn every_key_finds_its_own_seat(list in proptest::collection::btree_set("[a-z]{1,12}", 1..20), pick: usize) {
            let list: Vec<_> = list.into_iter().collect();
            let keys: Vec<_> = list.iter().enumerate()
                .map(|(seat, key)| Key { sha256: Sha256::digest(key).into(), seat }).collect();
            let seat = pick % list.len();
            prop_assert_eq!(seat_by_key(list[seat].as_bytes(), &keys), Some(seat));
            prop_assert_eq!(seat_by_key(b"NOBODY", &keys), None);
        }

        #[test]
        fn a_key_of_another_seat_is_never_taken(key in any::<Vec<u8>>()) {
            prop_assert_eq!(seat_by_key(&key, &keys(&[("demo-alice", 5)])), (key == b"demo-alice").then_some(5));
        }
    }
}
