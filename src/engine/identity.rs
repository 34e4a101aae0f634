//! Whose call it is: a key in a header, compared by its SHA-256, or what somebody else vouches for.
//!
//! Every source that says something must name the same seat, so that none of them can be played against another: a key
//! that is stolen is of no use behind another's certificate. Which of them is asked first makes no difference but for the
//! one that a refusal names.
//!
//! A key reaches us in the clear and is never kept, logged or sent on. The policy holds hashes only, and the
//! comparison visits every known hash whatever it finds, so that its time tells nothing about which one was near.

use std::net::IpAddr;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::denial::{Denial, Kind};
use super::event::{Header, Vouched};
use super::source;
use crate::policy::bundle::{Bundle, By, Key, OnUnknown, Voucher};

/// Headers that providers read keys from. They are taken off every metered call, whether or not this policy
/// reads them: the provider's key is put in behind the filter, and one of the client's own would spend past it.
const PROVIDER_CREDENTIALS: [&str; 4] = ["authorization", "x-api-key", "api-key", "x-goog-api-key"];

/// Headers that only we may set. A client that sends them is pretending.
const OURS: &[u8] = b"x-farebox-";

/// The rule that a refusal names when no key, an unknown key, or more than one key came.
const RULE: &str = "identity";

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// An index into [`Bundle::seats`].
    pub seat: usize,
    /// Vouchers that said something unreadable, and were passed over as the policy says.
    pub passed_over: u64,
}

/// What all vouchers say: those that the host has asked, and proxies in front, which speak by a header. Such a header is
/// believed where the connection's own `peer` is one of them; of any other, or of one whose address is not known, it is as
/// unreadable as one that is there twice.
pub fn heard(bundle: &Bundle, told: &[Vouched], headers: &[Header], peer: Option<IpAddr>) -> Vec<Vouched> {
    let one = |(at, voucher): (usize, &Voucher)| {
        let By::Header { name, from } = &voucher.by else { return told.get(at).cloned().unwrap_or_default() };
        let mut values = headers.iter().filter(|(at, _)| at.eq_ignore_ascii_case(name.as_bytes()));
        match (values.next(), values.next()) {
            (None, _) => Vouched::Nothing,
            (Some((_, value)), None) if value.trim_ascii().is_empty() => Vouched::Nothing,
            (Some((_, value)), None) if !from.is_empty() && source::allowed(peer, from) => {
                Vouched::Says(value.trim_ascii().to_vec())
            }
            _ => Vouched::Unreadable,
        }
    };
    bundle.vouchers.iter().enumerate().map(one).collect()
}

/// Whose call it is: by the keys in `headers`, and by what is `vouched`.
///
/// The same key in two headers is one key (some SDKs send both). Refused are: nobody named (401), a key that nobody has or
/// a name that is no seat (401), two different keys or names (400), and a header that carries a key and was sent twice
/// (400), whatever it says: Envoy and the upstream might not agree on which of them counts. What a voucher says that
/// cannot be read is refused (401), unless the policy passes over it.
pub fn identify(headers: &[Header], vouched: &[Vouched], bundle: &Bundle) -> Result<Caller, Denial> {
    let by_key = match by_key(headers, &bundle.credentials, &bundle.keys) {
        Ok(seat) => Some(seat),
        Err(Unkeyed::NoKey) => None,
        Err(Unkeyed::Refused(denial)) => return Err(denial),
    };
    let (mut found, mut passed_over) = (by_key, 0_u64);
    for (voucher, said) in bundle.vouchers.iter().zip(vouched) {
        let seat = match (named(voucher, said), voucher.unreadable) {
            (Ok(None), _) => continue,
            (Ok(Some(name)), _) => {
                bundle.seats.iter().position(|seat| seat.name == name).ok_or_else(|| stranger(voucher))?
            }
            (Err(Unreadable), OnUnknown::Pass) => {
                passed_over = passed_over.saturating_add(1);
                continue;
            }
            (Err(Unreadable), OnUnknown::Deny) => return Err(unreadable(voucher)),
        };
        if found.is_some_and(|known| known != seat) {
            return Err(conflict(
                "two different callers are named, by key, token or client certificate; be one of them",
            ));
        }
        found = Some(seat);
    }
    match found {
        Some(seat) if bundle.seats.get(seat).is_none() => {
            let inside = format!("a key points at seat {seat}, which the bundle lacks");
            Err(Denial::guard(Kind::Unauthenticated, RULE, UNKNOWN, inside))
        }
        Some(seat) => Ok(Caller { seat, passed_over }),
        None => Err(nobody(&bundle.credentials, &bundle.vouchers)),
    }
}

/// A voucher says something that is no name.
struct Unreadable;

/// The name of a seat, as policies may give it: nothing else is looked up.
const LONGEST_NAME: usize = 64;

/// The seat that a voucher names, if it names one.
fn named<'a>(voucher: &Voucher, said: &'a Vouched) -> Result<Option<&'a str>, Unreadable> {
    let bytes = match said {
        Vouched::Nothing => return Ok(None),
        Vouched::Says(bytes) => bytes,
        Vouched::Unreadable => return Err(Unreadable),
    };
    let text = std::str::from_utf8(bytes).map_err(|_| Unreadable)?;
    let Some(name) = voucher.seat(text) else { return Ok(None) };
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@+".contains(&byte);
    let is_name = (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(fits);
    if is_name { Ok(Some(name)) } else { Err(Unreadable) }
}

fn stranger(voucher: &Voucher) -> Denial {
    let outside = format!("the {} names nobody who is known here; ask your administrator", voucher.name());
    let inside = format!("the {} names a seat that the policy lacks", voucher.name());
    Denial::guard(Kind::Unauthenticated, RULE, outside, inside)
}

fn unreadable(voucher: &Voucher) -> Denial {
    let text = match &voucher.by {
        By::Header { name, .. } => {
            format!("the header `{name}` is not believed here; send it once, through the proxy that sets it")
        }
        By::Jwt { .. } | By::San(_) => format!("what the {} says of the caller cannot be read", voucher.name()),
    };
    Denial::guard(Kind::Unauthenticated, RULE, text.clone(), text)
}

fn nobody(credentials: &[String], vouchers: &[Voucher]) -> Denial {
    let names = credentials.join("`, `");
    let by_key = format!("no key was sent; send one in `{names}` (`authorization` as `Bearer <key>`)");
    let (outside, inside) = match (credentials, vouchers) {
        (_, []) => (by_key, "no key"),
        ([], _) if vouchers.iter().all(|voucher| voucher.header().is_some()) => {
            ("nobody says who calls; call through the proxy that does".to_owned(), "no identity")
        }
        ([], _) => ("nobody says who calls; send a token, or show a client certificate".to_owned(), "no identity"),
        _ => (format!("{by_key}, a token, or show a client certificate"), "no identity"),
    };
    Denial::guard(Kind::Unauthenticated, RULE, outside, inside)
}

const UNKNOWN: &str = "the key is not known here; check it, or ask your administrator for one";

/// Why a key names nobody.
enum Unkeyed {
    NoKey,
    Refused(Denial),
}

impl From<Denial> for Unkeyed {
    fn from(denial: Denial) -> Self {
        Self::Refused(denial)
    }
}

/// The seat whose key `headers` carry.
fn by_key(headers: &[Header], credentials: &[String], keys: &[Key]) -> Result<usize, Unkeyed> {
    let mut found: Option<&[u8]> = None;
    for name in credentials {
        let Some(key) = key_in(headers, name)? else { continue };
        match found {
            // Both are the caller's own bytes: nothing secret is compared here.
            Some(other) if other != key => return Err(conflict("two different keys were sent; send one").into()),
            _ => found = Some(key),
        }
    }
    let Some(key) = found else { return Err(Unkeyed::NoKey) };
    if let Some(seat) = seat_by_key(key, keys) {
        return Ok(seat);
    }
    // Proxies may have folded a repeated header into one: then this is no wrong key, but two.
    if key.contains(&b',') {
        return Err(conflict("more than one key was sent; send one").into());
    }
    Err(Denial::guard(Kind::Unauthenticated, RULE, UNKNOWN, "unknown key").into())
}

/// The key that a call is made with, once it is known whose it is. `None`: it has none.
pub fn sent_key<'a>(headers: &'a [Header], bundle: &Bundle) -> Option<&'a [u8]> {
    bundle.credentials.iter().find_map(|name| key_in(headers, name).ok().flatten())
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

/// The request headers to take off before the request goes upstream: whatever may carry a credential of the client or say
/// who it is, and whatever begins with `x-farebox-`; with `_` for `-` too, because servers of the CGI family read both as
/// the same header. Each name once, in lower case.
pub fn credential_headers(headers: &[Header], bundle: &Bundle) -> Vec<String> {
    let told = bundle.vouchers.iter().filter_map(Voucher::header);
    let known: Vec<&String> = bundle.credentials.iter().chain(told).collect();
    strip_list(headers, &known)
}

/// The names of the headers that are `wanted`, also with `_` for `-`, pseudo-headers left out: each once, in lower case.
pub fn names(headers: &[Header], wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in headers.iter().filter_map(|(name, _)| std::str::from_utf8(name).ok()) {
        let name = name.to_ascii_lowercase();
        let wanted = wanted(&name) || wanted(&name.replace('_', "-"));
        if !name.starts_with(':') && wanted && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn strip_list(headers: &[Header], credentials: &[&String]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (name, _) in headers {
        let carries = |known: &str| same_name(name, known.as_bytes());
        let strip = name.get(..OURS.len()).is_some_and(|head| same_name(head, OURS))
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

/// Whether two names are of one header for some server: in any case, and with `_` for `-`.
fn same_name(one: &[u8], other: &[u8]) -> bool {
    let plain = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    one.len() == other.len() && one.iter().map(plain).eq(other.iter().map(plain))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
    use sha2::{Digest, Sha256};

    use super::{Unkeyed, by_key, credential_headers, heard, identify, nobody, seat_by_key, strip_list};
    use crate::engine::denial::{Denial, Kind};
    use crate::engine::event::{Header, Vouched};
    use crate::policy::bundle::{Bundle, Key};

    fn headers(pairs: &[(&str, &str)]) -> Vec<Header> {
        pairs.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
    }

    fn keys(list: &[(&str, usize)]) -> Vec<Key> {
        list.iter().map(|(key, seat)| Key { sha256: Sha256::digest(key).into(), seat: *seat }).collect()
    }

    fn all() -> Vec<String> {
        ["authorization", "x-api-key", "api-key"].map(String::from).to_vec()
    }

    fn seat_of(headers: &[Header], credentials: &[String], keys: &[Key]) -> Result<usize, Denial> {
        by_key(headers, credentials, keys).map_err(|unkeyed| match unkeyed {
            Unkeyed::NoKey => nobody(credentials, &[]),
            Unkeyed::Refused(denial) => denial,
        })
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

    /// Seats `alice` (0) and `bob` (1), a key of Alice's, a claim, and a certificate.
    fn vouched_for(unreadable: &str) -> Bundle {
        let hash: String = Sha256::digest("demo-alice").iter().map(|byte| format!("{byte:02x}")).collect();
        let text = format!(
            "farebox: 1\nbundle: {{name: b, version: '1'}}\nidentity: [{{key: [x-api-key]}}, {{jwt: payload, seat: sub, \
             unreadable: {unreadable}}}, {{san: uri, seat: \"spiffe://acme.test/seat/*\"}}]\n\
             models: {{m: {{count: o200k_base}}}}\nplans: {{p: {{}}}}\n\
             seats: {{alice: {{org: o, keys: [\"sha256:{hash}\"]}}, bob: {{org: o}}}}\nassign: [{{otherwise: p}}]\n"
        );
        crate::policy::compile(&text, "p").unwrap_or_else(|faults| panic!("{faults:?}"))
    }

    fn says(text: &str) -> Vouched {
        Vouched::Says(text.as_bytes().to_vec())
    }

    fn who(bundle: &Bundle, key: &str, vouched: &[Vouched]) -> Result<(usize, u64), Kind> {
        let sent = if key.is_empty() { vec![] } else { headers(&[("x-api-key", key)]) };
        identify(&sent, vouched, bundle).map(|who| (who.seat, who.passed_over)).map_err(|denial| denial.kind)
    }

    const SPIFFE: &str = "spiffe://acme.test/seat/";

    #[test]
    fn each_source_can_name_the_caller() {
        let bundle = vouched_for("deny");
        let nothing = [Vouched::Nothing, Vouched::Nothing];
        assert_eq!(who(&bundle, "demo-alice", &nothing), Ok((0, 0)));
        assert_eq!(who(&bundle, "", &[says("bob"), Vouched::Nothing]), Ok((1, 0)));
        assert_eq!(who(&bundle, "", &[Vouched::Nothing, says(&format!("{SPIFFE}bob"))]), Ok((1, 0)));
        assert_eq!(who(&bundle, "demo-alice", &[says("alice"), says(&format!("{SPIFFE}alice"))]), Ok((0, 0)));
        assert_eq!(who(&bundle, "", &nothing), Err(Kind::Unauthenticated));
    }

    #[test]
    fn two_names_are_a_conflict_whoever_says_them() {
        let bundle = vouched_for("deny");
        let (alice, bob) = (format!("{SPIFFE}alice"), format!("{SPIFFE}bob"));
        assert_eq!(who(&bundle, "demo-alice", &[says("bob"), Vouched::Nothing]), Err(Kind::Conflict));
        assert_eq!(who(&bundle, "demo-alice", &[Vouched::Nothing, says(&bob)]), Err(Kind::Conflict));
        assert_eq!(who(&bundle, "", &[says("bob"), says(&alice)]), Err(Kind::Conflict));
    }

    #[test]
    fn a_wrong_name_is_not_made_good_by_a_right_one() {
        let bundle = vouched_for("deny");
        assert_eq!(who(&bundle, "demo-alice", &[says("mallory"), Vouched::Nothing]), Err(Kind::Unauthenticated));
        assert_eq!(who(&bundle, "demo-nobody", &[says("alice"), Vouched::Nothing]), Err(Kind::Unauthenticated));
        assert_eq!(who(&bundle, "", &[says("ALICE"), Vouched::Nothing]), Err(Kind::Unauthenticated));
    }

    #[test]
    fn a_certificate_of_another_kind_says_nothing() {
        let bundle = vouched_for("deny");
        for other in ["spiffe://acme.test/ns/mesh/sa/gateway", "spiffe://evil.test/seat/bob", ""] {
            assert_eq!(who(&bundle, "demo-alice", &[Vouched::Nothing, says(other)]), Ok((0, 0)), "{other}");
        }
        for odd in ["a/b", "", "alice%00", "alice\u{200b}", &"x".repeat(65)] {
            let said = says(&format!("{SPIFFE}{odd}"));
            assert_eq!(who(&bundle, "demo-alice", &[Vouched::Nothing, said]), Err(Kind::Unauthenticated), "{odd}");
        }
    }

    /// As above, with a proxy in front at 10.0.0.5 in place of the token.
    fn behind_a_proxy(unreadable: &str) -> Bundle {
        let hash: String = Sha256::digest("demo-alice").iter().map(|byte| format!("{byte:02x}")).collect();
        let text = format!(
            "farebox: 1\nbundle: {{name: b, version: '1'}}\nidentity: [{{key: [x-api-key]}}, {{header: X-User, seat: \"u-*\", \
             from: [10.0.0.5, \"fd00::/8\"], unreadable: {unreadable}}}]\n\
             models: {{m: {{count: o200k_base}}}}\nplans: {{p: {{}}}}\n\
             seats: {{alice: {{org: o, keys: [\"sha256:{hash}\"]}}, bob: {{org: o}}}}\nassign: [{{otherwise: p}}]\n"
        );
        crate::policy::compile(&text, "p").unwrap_or_else(|faults| panic!("{faults:?}"))
    }

    fn through(bundle: &Bundle, peer: &str, pairs: &[(&str, &str)]) -> Result<(usize, u64), Kind> {
        let sent = headers(pairs);
        let said = heard(bundle, &[], &sent, peer.parse().ok());
        identify(&sent, &said, bundle).map(|who| (who.seat, who.passed_over)).map_err(|denial| denial.kind)
    }

    #[test]
    fn a_header_is_believed_behind_its_proxy_alone() {
        let bundle = behind_a_proxy("deny");
        assert_eq!(through(&bundle, "10.0.0.5", &[("x-user", "u-bob")]), Ok((1, 0)));
        assert_eq!(through(&bundle, "::ffff:10.0.0.5", &[("X-USER", " u-bob ")]), Ok((1, 0)));
        assert_eq!(through(&bundle, "fd00::7", &[("x-user", "u-alice"), ("x-api-key", "demo-alice")]), Ok((0, 0)));
        for elsewhere in ["10.0.0.6", "127.0.0.1", "nobody knows"] {
            let forged = [("x-user", "u-bob"), ("x-forwarded-for", "10.0.0.5")];
            assert_eq!(through(&bundle, elsewhere, &forged), Err(Kind::Unauthenticated), "{elsewhere}");
            let beside = [("x-user", "u-alice"), ("x-api-key", "demo-alice")];
            assert_eq!(through(&bundle, elsewhere, &beside), Err(Kind::Unauthenticated), "{elsewhere}");
            let ignored = behind_a_proxy("ignore");
            assert_eq!(through(&ignored, elsewhere, &beside), Ok((0, 1)), "{elsewhere}");
            assert_eq!(through(&ignored, elsewhere, &forged), Err(Kind::Unauthenticated), "{elsewhere}");
        }
    }

    #[test]
    fn what_a_proxy_says_is_one_name_and_contradicts_nobody() {
        let bundle = behind_a_proxy("deny");
        let at = |pairs: &[(&str, &str)]| through(&bundle, "10.0.0.5", pairs);
        assert_eq!(at(&[("x-user", "u-bob"), ("x-user", "u-bob")]), Err(Kind::Unauthenticated));
        assert_eq!(at(&[("x-user", "u-bob"), ("x-api-key", "demo-alice")]), Err(Kind::Conflict));
        assert_eq!(at(&[("x-user", "u-mallory")]), Err(Kind::Unauthenticated));
        assert_eq!(at(&[("x-user", "u-"), ("x-api-key", "demo-alice")]), Err(Kind::Unauthenticated));
        assert_eq!(at(&[("x-user", "bob")]), Err(Kind::Unauthenticated), "it is none of that proxy's names");
        assert_eq!(at(&[("x-user", ""), ("x-api-key", "demo-alice")]), Ok((0, 0)), "it says nothing");
        assert_eq!(at(&[("x_user", "u-bob")]), Err(Kind::Unauthenticated));
    }

    #[test]
    fn the_header_of_a_proxy_goes_no_further() {
        let bundle = behind_a_proxy("deny");
        let sent = headers(&[("x-user", "u-bob"), ("X_User", "u-bob"), ("x-users", "stays")]);
        assert_eq!(credential_headers(&sent, &bundle), ["x-user", "x_user"]);
    }

    #[test]
    fn what_cannot_be_read_is_refused_or_passed_over_as_the_policy_says() {
        // A number comes as the eight bytes of a float, a list as lengths and texts.
        for said in [Vouched::Unreadable, Vouched::Says(7.5_f64.to_le_bytes().to_vec()), says("a b"), says("")] {
            let vouched = [said, Vouched::Nothing];
            assert_eq!(who(&vouched_for("deny"), "demo-alice", &vouched), Err(Kind::Unauthenticated), "{vouched:?}");
            assert_eq!(who(&vouched_for("ignore"), "demo-alice", &vouched), Ok((0, 1)));
            assert_eq!(who(&vouched_for("ignore"), "", &vouched), Err(Kind::Unauthenticated));
        }
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
            ("x_farebox_tier", "gold"),
            ("X_Team-Key", "k"),
            ("x-team-key", "k"),
            ("x-team-key", "k"),
            ("anthropic-version", "2023-06-01"),
        ]);
        let strip = strip_list(&sent, &[&String::from("x-team-key")]);
        let ours = ["authorization", "x-farebox-tier", "x-farebox-", "x-goog-api-key", "x_farebox_tier"];
        assert_eq!(strip, [&ours[..], &["x_team-key", "x-team-key"]].concat());
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_an_answer(sent: Vec<(Vec<u8>, Vec<u8>)>, value: Vec<u8>) {
            let mut sent = sent;
            sent.push((b"authorization".to_vec(), value));
            prop_assert!(seat_of(&sent, &all(), &keys(&[("demo-alice", 0)])).is_err());
            strip_list(&sent, &all().iter().collect::<Vec<_>>());
        }

        #[test]
        fn nobody_is_made_of_any_bytes(token: Vec<u8>, uri: Vec<u8>) {
            let bundle = vouched_for("deny");
            let named = [&b"alice"[..], b"bob"].contains(&token.as_slice());
            let vouched = [Vouched::Says(token), Vouched::Says(uri)];
            prop_assert!(named || identify(&[], &vouched, &bundle).is_err());
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
