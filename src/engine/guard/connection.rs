//! Guards of connectivity: from where, when, and how a call comes. Pure functions of its headers.

use std::net::IpAddr;

use super::{Body, Found, Head, Judged, content};
use crate::engine::denial::Span;
use crate::engine::denial::{Kind, quoted};
use crate::engine::event::Header;
use crate::engine::source as place;
use crate::meter::dialect::readings;
use crate::policy::bundle::{Guard, Plan, Streaming, Timeouts, matches};

/// The method is one of the plan's. Case counts, as it does to servers.
pub fn methods(head: &Head<'_>) -> Judged {
    let allowed = &head.plan.connectivity.methods;
    if head.asks_balance || allowed.is_empty() || allowed.iter().any(|method| method.as_bytes() == head.method) {
        return Ok(());
    }
    let method = said(head.method);
    let outside = format!("the plan does not allow the method {method}");
    Err(Found::forbidden(outside, format!("{method} is none of `methods` of plan `{}`", head.plan.name)))
}

/// The call is made with a key that begins as those of the plan do. Where its caller is vouched for there may be none.
pub fn keys(head: &Head<'_>) -> Judged {
    let allowed = &head.plan.connectivity.keys;
    let begins = |key: &[u8]| allowed.iter().any(|prefix| key.starts_with(prefix.as_bytes()));
    if allowed.is_empty() || head.key.is_some_and(begins) {
        return Ok(());
    }
    let is = if head.key.is_some() { "the key of the call begins with" } else { "the call has no key, that is" };
    let outside = "the plan takes other keys than the one of this call; send the key that was issued for the plan";
    Err(Found::forbidden(outside, format!("{is} none of `keys` of plan `{}`", head.plan.name)))
}

/// Every host that the request names is one of the plan's: a second one could be what the upstream goes by.
pub fn hosts(head: &Head<'_>) -> Judged {
    let allowed = &head.plan.connectivity.hosts;
    if allowed.is_empty() {
        return Ok(());
    }
    let mut named = values(head.headers, ":authority").chain(values(head.headers, "host")).peekable();
    let outside = "the plan does not allow calls to this host";
    if named.peek().is_none() {
        return Err(Found::forbidden(outside, format!("no host is named, and plan `{}` has `hosts`", head.plan.name)));
    }
    match named.find(|host| bare_host(host).is_none_or(|bare| !matches(allowed, bare))) {
        None => Ok(()),
        Some(host) => {
            let inside = format!("{} is none of `hosts` of plan `{}`", said(host), head.plan.name);
            Err(Found::forbidden(outside, inside))
        }
    }
}

/// A host without its port, the brackets of IPv6, and the dot of the root. `None`: it is no text.
fn bare_host(host: &[u8]) -> Option<&str> {
    let host = std::str::from_utf8(host).ok()?.trim();
    let bare = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inner, port)) if port.is_empty() || is_port(port) => inner,
        Some(_) => host,
        None => host.rsplit_once(':').filter(|(_, port)| is_digits(port)).map_or(host, |(name, _)| name),
    };
    Some(bare.strip_suffix('.').unwrap_or(bare))
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':').is_some_and(is_digits)
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The path is one of the plan's, however a server may read it.
pub fn paths(head: &Head<'_>) -> Judged {
    let allowed = &head.plan.connectivity.paths;
    let takes = |path: &Vec<u8>| std::str::from_utf8(path).is_ok_and(|path| matches(allowed, path));
    if head.asks_balance || allowed.is_empty() || readings(head.path).iter().all(takes) {
        return Ok(());
    }
    let path = said(head.path);
    let outside = "the plan does not allow this path";
    Err(Found::forbidden(outside, format!("{path} is none of `paths` of plan `{}`", head.plan.name)))
}

/// The caller is in none of the networks that the plan denies. One whose address is not known may be in any.
pub fn denied_sources(head: &Head<'_>) -> Judged {
    let denied = &head.plan.connectivity.denied_sources;
    if denied.is_empty() || head.address.is_some_and(|address| !place::allowed(Some(address), denied)) {
        return Ok(());
    }
    Err(elsewhere(head, "denied_sources", "is in one"))
}

/// The caller is in one of the plan's networks.
pub fn sources(head: &Head<'_>) -> Judged {
    if place::allowed(head.address, &head.plan.connectivity.sources) {
        return Ok(());
    }
    Err(elsewhere(head, "sources", "is in none"))
}

fn elsewhere(head: &Head<'_>, list: &str, is_in: &str) -> Box<Found> {
    let plan = &head.plan.name;
    let inside = match head.address.as_ref().map(IpAddr::to_string) {
        Some(address) => format!("{address} {is_in} of `{list}` of plan `{plan}`"),
        None => format!("the caller's address is not known, and plan `{plan}` has `{list}`"),
    };
    // The address that we took for the caller's tells them nothing secret, but networks of the plan would.
    Found::forbidden("calls from this network are not allowed by the plan", inside)
}

/// It is one of the plan's hours. Beyond the calendar it is none.
pub fn hours(head: &Head<'_>) -> Judged {
    let bands = &head.plan.connectivity.hours;
    if head.asks_balance || bands.is_empty() || bands.iter().any(|band| band.has(head.now.wall_ms) == Some(true)) {
        return Ok(());
    }
    let inside = format!("this moment lies in none of the `hours` of plan `{}`", head.plan.name);
    Err(Found::forbidden("the plan does not allow calls at this hour", inside))
}

/// The request says of itself that it is no larger than the plan takes. One that says nothing is judged by what comes.
pub fn announced(head: &Head<'_>) -> Judged {
    let lengths = values(head.headers, "content-length");
    let read = |value: &[u8]| std::str::from_utf8(value).ok()?.trim().parse::<u64>().ok();
    // What is no number, the codec has refused; should one get here, its body is measured.
    lengths.filter_map(read).try_for_each(|bytes| size(head.plan, bytes))
}

/// The body is no larger than the plan takes.
pub fn request(body: &Body<'_>) -> Judged {
    size(body.plan, body.bytes)
}

/// So many bytes of a request are no more than the plan takes.
pub fn size(plan: &Plan, bytes: u64) -> Judged {
    let largest = plan.connectivity.largest_request.unwrap_or(u64::MAX);
    if bytes <= largest {
        return Ok(());
    }
    let outside = format!("the request is larger than the {largest} bytes that the plan allows; send less");
    let inside = format!("a body of {bytes} bytes, plan `{}` takes {largest}", plan.name);
    Err(Found::new(Kind::TooLarge, outside, inside))
}

/// An answer of so many bytes is no larger than the plan lets through.
pub fn answer_size(plan: &Plan, bytes: u64) -> Judged {
    let largest = plan.connectivity.largest_response.unwrap_or(u64::MAX);
    if bytes <= largest {
        return Ok(());
    }
    let outside = format!("the answer is larger than the {largest} bytes that the plan allows; ask for less");
    let inside = format!("an answer of {bytes} bytes or more, plan `{}` takes {largest}", plan.name);
    Err(Found::forbidden(outside, inside))
}

/// An answer has passed one of the limits on its time, by whose name it goes.
pub fn late(plan: &Plan, guard: Guard) -> Judged {
    let Timeouts { first_token_ms, idle_ms, duration_ms } = plan.connectivity.timeouts;
    let (kind, ms) = match guard {
        Guard::FirstToken => (Kind::Late, first_token_ms),
        Guard::Idle => (Kind::Late, idle_ms),
        _ => (Kind::Overlong, duration_ms),
    };
    let (span, name) = (Span(ms.unwrap_or(0)), guard.name());
    let outside = match guard {
        Guard::FirstToken => format!("the model did not begin to answer within {span}; try again"),
        Guard::Idle => format!("the model fell silent in its answer for {span}; try again"),
        _ => format!("the answer takes longer than the {span} that the plan allows; ask for less"),
    };
    let inside = format!("`{name}` of plan `{}` is {} ms", plan.name, span.0);
    Err(Found::new(kind, outside, inside))
}

/// The model is served in a region that the plan's calls may go to. Of one that says nothing of regions nobody knows.
pub fn regions(body: &Body<'_>) -> Judged {
    let allowed = &body.plan.connectivity.regions;
    if allowed.is_empty() {
        return Ok(());
    }
    content::one_model(body)?;
    if body.model.region(allowed).is_some() {
        return Ok(());
    }
    let model = quoted(&body.call.model);
    let outside =
        format!("the plan's calls stay in regions in which the model {model} is not served; ask for another one");
    let inside = format!("plan `{}` stays in {}, {model} is served elsewhere", body.plan.name, allowed.join(", "));
    Err(Found::new(Kind::Forbidden, outside, inside))
}

/// The call asks for a stream where the plan requires one, and for none where it forbids them.
pub fn streaming(body: &Body<'_>) -> Judged {
    let (plan, call) = (body.plan, body.call);
    let (outside, inside) = match plan.connectivity.streaming {
        Some(Streaming::Required) if !call.stream && call.dialect.writes_text() => {
            ("the plan requires streams; ask for one, for example by `\"stream\": true`", "no stream is asked for")
        }
        Some(Streaming::Forbidden) if call.stream => {
            ("the plan allows no streams; ask without, for example by `\"stream\": false`", "a stream is asked for")
        }
        _ => return Ok(()),
    };
    Err(Found::forbidden(outside, format!("{inside}, against `streaming` of plan `{}`", plan.name)))
}

/// All values of a header, by its name in lower case.
pub fn values<'a, 'n>(headers: &'a [Header], name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
    headers.iter().filter(move |(at, _)| at.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value.as_slice())
}

/// A stranger's bytes, for a message.
pub fn said(bytes: &[u8]) -> String {
    quoted(&String::from_utf8_lossy(bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, proptest};

    use super::*;
    use crate::engine::guard::tests::{bundle, chat, plan};
    use crate::now::Now;
    use crate::policy::bundle::Bundle;

    fn judge(bundle: &Bundle, ask: fn(&Head<'_>) -> Judged, headers: &[(&str, &str)]) -> Judged {
        let headers: Vec<Header> =
            headers.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect();
        let field = |name: &str| values(&headers, name).next().unwrap_or_default();
        let head = Head {
            plan: plan(bundle),
            now: Now { wall_ms: 1_795_608_000_000, mono_ms: 0 },
            headers: &headers,
            method: field(":method"),
            path: field(":path"),
            key: values(&headers, "key").next(),
            address: std::str::from_utf8(field("address")).ok().and_then(|text| text.parse().ok()),
            dialect: None,
            asks_after: &[],
            asks_balance: false,
        };
        ask(&head)
    }

    #[test]
    fn methods_are_compared_as_servers_do() {
        let bundle = bundle("connectivity: {methods: [POST, GET]}");
        assert!(judge(&bundle, methods, &[(":method", "POST")]).is_ok());
        for odd in ["post", "PUT", "POST ", "", "GETX"] {
            assert!(judge(&bundle, methods, &[(":method", odd)]).is_err(), "{odd}");
        }
    }

    #[test]
    fn keys_begin_as_those_of_the_plan() {
        let bundle = bundle("connectivity: {keys: [tp-, \"cp-\"]}");
        assert!(judge(&bundle, keys, &[("key", "tp-1")]).is_ok() && judge(&bundle, keys, &[("key", "cp-")]).is_ok());
        for other in ["TP-1", "sk-tp-1", "tp", ""] {
            let found = judge(&bundle, keys, &[("key", other)]).expect_err(other);
            assert!(!found.inside.contains("sk-"), "a key stays unsaid: {found:?}");
        }
        assert!(judge(&bundle, keys, &[]).is_err(), "no key at all");
    }

    #[test]
    fn hosts_are_compared_without_port_and_in_any_case() {
        let bundle = bundle("connectivity: {hosts: [llm.acme.test, \"*.ai.acme.test\", \"fd00::1\"]}");
        for host in [
            "llm.acme.test",
            "LLM.Acme.TEST:8443",
            "llm.acme.test.",
            "a.b.ai.acme.test:1",
            "[fd00::1]:443",
            "[FD00::1]",
        ] {
            assert!(judge(&bundle, hosts, &[(":authority", host)]).is_ok(), "{host}");
        }
        for host in [
            "",
            "acme.test",
            "llm.acme.test.evil.test",
            "evil.test/llm.acme.test",
            "ai.acme.test",
            "llm.acme.test@evil.test",
            "llm.acme.test:x",
            "[fd00::1]evil",
        ] {
            assert!(judge(&bundle, hosts, &[(":authority", host)]).is_err(), "{host}");
        }
        assert!(judge(&bundle, hosts, &[]).is_err(), "no host at all");
    }

    #[test]
    fn a_second_host_must_be_allowed_too() {
        let bundle = bundle("connectivity: {hosts: [llm.acme.test]}");
        for second in [("host", "evil.test"), (":authority", "evil.test"), ("Host", "evil.test")] {
            assert!(judge(&bundle, hosts, &[(":authority", "llm.acme.test"), second]).is_err(), "{second:?}");
        }
        assert!(judge(&bundle, hosts, &[(":authority", "llm.acme.test"), ("host", "llm.acme.test")]).is_ok());
    }

    #[test]
    fn no_spelling_of_a_path_gets_past_the_list() {
        let bundle = bundle("connectivity: {paths: [\"/v1/*\", /team/a/v1/messages]}");
        for path in ["/v1/messages", "/v1/messages?x=/admin", "/team/a/v1/messages"] {
            assert!(judge(&bundle, paths, &[(":path", path)]).is_ok(), "{path}");
        }
        for path in [
            "/admin",
            "/v1/../admin",
            "/v1/%2e%2e/admin",
            "/v1/%252e%252e/admin",
            "/v1/..;/admin",
            "/v1/..\\admin",
            "/V1/messages",
            "//v1/messages",
            "/team/a/v1/messages/",
            "/v1",
            "",
            "*",
        ] {
            assert!(judge(&bundle, paths, &[(":path", path)]).is_err(), "{path}");
        }
    }

    #[test]
    fn a_denied_network_beats_an_allowed_one() {
        let bundle = bundle("connectivity: {sources: [10.0.0.0/8], denied_sources: [10.9.0.0/16, \"2001:db8::/32\"]}");
        let at = |ask, address: &str| judge(&bundle, ask, &[("address", address)]).is_ok();
        assert!(at(sources, "10.1.2.3") && at(denied_sources, "10.1.2.3"));
        assert!(at(sources, "10.9.2.3") && !at(denied_sources, "10.9.2.3"));
        assert!(!at(denied_sources, "::ffff:10.9.2.3"), "IPv4 within IPv6");
        assert!(!at(denied_sources, "2001:db8::7"));
        assert!(!at(denied_sources, "unknown"), "it may be in any network");
    }

    #[test]
    fn hours_open_and_close() {
        // The clock of the test stands at 12:00 UTC on a Wednesday.
        let opens = |hours: &str| {
            let bundle = bundle(&format!("connectivity: {{hours: [{hours}]}}"));
            judge(&bundle, hours_of, &[]).is_ok()
        };
        assert!(opens("{times: 12:00-12:01}"));
        assert!(!opens("{times: 12:01-12:00}"));
        assert!(opens("{times: 20:00-21:00, zone: Asia/Shanghai}, {days: [mon]}"));
        assert!(!opens("{days: [mon, tue, thu, fri, sat, sun]}"));
    }

    fn hours_of(head: &Head<'_>) -> Judged {
        hours(head)
    }

    #[test]
    fn an_announced_length_is_enough_to_refuse() {
        let bundle = bundle("connectivity: {request: {largest: 1 KiB}}");
        let found = judge(&bundle, announced, &[("content-length", "1025")]).expect_err("too large");
        assert_eq!(found.kind, Kind::TooLarge);
        assert!(judge(&bundle, announced, &[("content-length", "1024")]).is_ok());
        assert!(judge(&bundle, announced, &[("content-length", "1"), ("content-length", "2000")]).is_err());
        assert!(
            judge(&bundle, announced, &[]).is_ok() && judge(&bundle, announced, &[("content-length", "x")]).is_ok()
        );
        assert!(size(plan(&bundle), 1024).is_ok() && size(plan(&bundle), 1025).is_err());
    }

    #[test]
    fn streams_are_required_or_forbidden() {
        let takes = |rule: &str, stream: &str| {
            let bundle = bundle(&format!("connectivity: {{streaming: {rule}}}"));
            let call = chat(&format!("{{\"model\": \"m\", \"messages\": [], \"stream\": {stream}}}"));
            streaming(&Body { plan: plan(&bundle), call: &call, model: &bundle.models.rows[0], bytes: 0 }).is_ok()
        };
        assert!(takes("required", "true") && !takes("required", "false") && !takes("required", "null"));
        assert!(!takes("forbidden", "true") && takes("forbidden", "false") && takes("forbidden", "null"));
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_an_answer(host: Vec<u8>, path: Vec<u8>, length in any::<Vec<u8>>()) {
            let bundle = bundle("connectivity: {hosts: [a.test], paths: [/v1/x], methods: [POST], request: {largest: 1 KiB}}");
            let headers = vec![(b":authority".to_vec(), host), (b"content-length".to_vec(), length)];
            let head = Head {
                plan: plan(&bundle), now: Now { wall_ms: u64::MAX, mono_ms: 0 }, headers: &headers, key: Some(&path),
                method: b"\xff", path: &path, address: None, dialect: None, asks_after: &[], asks_balance: false,
            };
            for ask in [methods, keys, hosts, paths, denied_sources, sources, hours, announced] {
                prop_assert!(ask(&head).is_ok() || ask(&head).is_err());
            }
        }
    }
}
