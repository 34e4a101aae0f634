//! The connectivity third of a plan: who may call from where, when, and how.

use std::net::IpAddr;

use globset::GlobMatcher;
use ipnet::{IpNet, Ipv4Net};

use super::band::{self, Band};
use super::diagnostic::{Code, Complaint, Faults, shown};
use super::fallback::{self, Fallback};
use super::fields::{Fields, choice, form, list, named, names};
use super::guard::{self, Guard};
use super::names::{Case, patterns};
use super::plan::{MOST_LINES, PlanText, few};
use super::retry::{self, Retry};
use super::scalar::{duration_within, some_bytes};
use super::tree::Node;

/// The connectivity third of a plan.
#[derive(Clone, Debug, Default)]
pub struct Connectivity {
    /// Networks the caller must be in; empty: any.
    pub sources: Vec<IpNet>,
    /// Networks the caller must not be in, whatever `sources` says.
    pub denied_sources: Vec<IpNet>,
    /// When calls are taken, in any of these bands; empty: always.
    pub hours: Vec<Band>,
    /// Hosts that may be asked for, without their ports, in any case; empty: any.
    pub hosts: Vec<GlobMatcher>,
    /// Paths that may be asked for, without their queries; empty: any.
    pub paths: Vec<GlobMatcher>,
    /// Methods that may be used; empty: any.
    pub methods: Vec<String>,
    /// What the key of a call may begin with; empty: anything, and there need not be one.
    pub keys: Vec<String>,
    /// The largest request body, in bytes.
    pub largest_request: Option<u64>,
    /// The largest answer, in bytes as they come from upstream.
    pub largest_response: Option<u64>,
    /// How long an answer may take.
    pub timeouts: Timeouts,
    /// Whether calls must, or must not, ask for a stream.
    pub streaming: Option<Streaming>,
    /// The value of `x-farebox-tier` on the request that goes upstream.
    pub tier: Option<String>,
    /// The regions that calls stay in, those in front first; empty: they may go anywhere.
    pub regions: Vec<String>,
    /// What the host tries again; `None`: nothing.
    pub retry: Option<Retry>,
    /// Which models take the place of others whose upstreams are down or throttle, the first that fits.
    pub fallback: Vec<Fallback>,
    /// Guards that only observe.
    pub observe: Vec<Guard>,
}

/// How long an answer may take, in milliseconds. `None`: as long as it likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// From admission until there is something of the answer: a token of a stream, a byte of anything else.
    pub first_token_ms: Option<u64>,
    /// Between two of its bytes.
    pub idle_ms: Option<u64>,
    /// From admission until its end.
    pub duration_ms: Option<u64>,
}

/// Whether streams are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streaming {
    /// Every call that can be answered with a stream must ask for one.
    Required,
    /// No call may.
    Forbidden,
}

const GUARDS: [Guard; 14] = [
    Guard::Sources,
    Guard::DeniedSources,
    Guard::Hours,
    Guard::Hosts,
    Guard::Paths,
    Guard::Methods,
    Guard::Keys,
    Guard::Request,
    Guard::Response,
    Guard::FirstToken,
    Guard::Idle,
    Guard::Duration,
    Guard::Streaming,
    Guard::Regions,
];

const KEYS: [&str; 15] = [
    "sources",
    "denied_sources",
    "hours",
    "hosts",
    "paths",
    "methods",
    "keys",
    "request",
    "response",
    "streaming",
    "tier",
    "regions",
    "retry",
    "fallback",
    "observe",
];

/// Reads it. `zone`: the file's, in which hours are told that name none.
pub(super) fn read(node: &Node, what: &str, zone: &str, plan: &mut PlanText, faults: &mut Faults) {
    let Some(fields) = Fields::of(node, what, &KEYS, faults) else { return };
    let connectivity = &mut plan.connectivity;
    connectivity.sources = networks(&fields, "sources", faults);
    connectivity.denied_sources = networks(&fields, "denied_sources", faults);
    some_source_left(&fields, connectivity, faults);
    if let Some(node) = fields.optional("hours") {
        connectivity.hours = hours(node, &fields.path("hours"), zone, faults);
    }
    let globs = |key: &str, case: Case, faults: &mut Faults| match fields.optional(key) {
        Some(node) => patterns(node, &fields.path(key), case, faults),
        None => Vec::new(),
    };
    connectivity.hosts = globs("hosts", Case::Ignored, faults);
    connectivity.paths = globs("paths", Case::Counts, faults);
    if let Some(node) = fields.optional("methods") {
        let what = fields.path("methods");
        let items = list(node, &what, faults).unwrap_or_default();
        let methods = items.iter().filter_map(|item| form(item, &what, faults, method));
        connectivity.methods = methods.map(|method| method.value).collect();
    }
    if let Some(node) = fields.optional("keys") {
        plan.keys_at = Some(node.at);
        connectivity.keys = prefixes(node, &fields.path("keys"), faults);
    }
    if let Some(request) = inner(&fields, "request", &["largest"], faults) {
        let node = request.required("largest", "say how large it may be, for example `largest: 1 MiB`", faults);
        connectivity.largest_request = node.and_then(|node| largest(node, &request, faults));
    }
    let response = inner(&fields, "response", &RESPONSE_KEYS, faults);
    if let Some(response) = &response {
        read_response(response, connectivity, faults);
    }
    let words = [("required", Streaming::Required), ("forbidden", Streaming::Forbidden)];
    let streaming = fields.optional("streaming");
    connectivity.streaming = streaming.and_then(|node| choice(node, &fields.path("streaming"), &words, faults));
    if let Some(node) = fields.optional("tier") {
        plan.tier_at = node.at;
        connectivity.tier = named(node, &fields.path("tier"), faults).map(|tier| tier.value);
    }
    if let Some(node) = fields.optional("regions") {
        plan.regions = names(node, &fields.path("regions"), faults);
        connectivity.regions = plan.regions.iter().map(|region| region.value.clone()).collect();
    }
    let retry = fields.optional("retry");
    let timeouts = connectivity.timeouts;
    connectivity.retry = retry.and_then(|node| retry::read(node, &fields.path("retry"), &timeouts, faults));
    if let Some(node) = fields.optional("fallback") {
        plan.fallback = fallback::read(node, &fields.path("fallback"), faults);
    }
    let there = |guard: Guard| {
        let node = match guard {
            Guard::Response => response.as_ref()?.optional("largest"),
            Guard::FirstToken | Guard::Idle | Guard::Duration => response.as_ref()?.optional(guard.name()),
            _ => fields.optional(guard.name()),
        };
        node.map(|node| node.at)
    };
    connectivity.observe = guard::observed(&fields, &GUARDS, there, faults);
}

const RESPONSE_KEYS: [&str; 4] = ["largest", "first_token", "idle", "duration"];

fn inner<'n>(fields: &Fields<'n>, key: &str, keys: &[&str], faults: &mut Faults) -> Option<Fields<'n>> {
    Fields::of(fields.optional(key)?, fields.path(key), keys, faults)
}

fn largest(node: &Node, fields: &Fields<'_>, faults: &mut Faults) -> Option<u64> {
    form(node, &fields.path("largest"), faults, some_bytes).map(|size| size.value)
}

/// What an answer may be, and how long it may take.
fn read_response(fields: &Fields<'_>, connectivity: &mut Connectivity, faults: &mut Faults) {
    if RESPONSE_KEYS.iter().all(|key| fields.optional(key).is_none()) {
        let help = "say how large it may be or how long it may take, for example `{largest: 1 MiB, first_token: 60s}`";
        faults.add(fields.key_at("largest"), Code::MissingKey, "this rule says nothing of answers", help);
    }
    connectivity.largest_response = fields.optional("largest").and_then(|node| largest(node, fields, faults));
    let time = |key: &str, faults: &mut Faults| {
        let found = form(fields.optional(key)?, &fields.path(key), faults, some_time)?;
        Some(found.value)
    };
    let timeouts = Timeouts {
        first_token_ms: time("first_token", faults),
        idle_ms: time("idle", faults),
        duration_ms: time("duration", faults),
    };
    for (key, ms) in [("first_token", timeouts.first_token_ms), ("idle", timeouts.idle_ms)] {
        if let (Some(ms), Some(all)) = (ms, timeouts.duration_ms)
            && ms >= all
        {
            let message = format!("`{key}` has no effect: `duration` is over by then");
            faults.add(fields.key_at(key), Code::Conflict, message, "write a shorter one, or a longer `duration`");
        }
    }
    connectivity.timeouts = timeouts;
}

/// A time that a filter which looks ten times a second can keep.
pub(super) fn some_time(written: &str) -> Result<u64, Complaint> {
    duration_within(written, 200, LONGEST_MS, "write for example `30s`")
}

/// The longest time that an answer can be given.
const LONGEST_MS: u64 = 86_400_000;

/// A plan whose networks are all denied takes nobody.
fn some_source_left(fields: &Fields<'_>, connectivity: &Connectivity, faults: &mut Faults) {
    let Connectivity { sources, denied_sources, .. } = connectivity;
    let denied = |net: &IpNet| denied_sources.iter().any(|denied| denied.contains(net));
    if !sources.is_empty() && sources.iter().all(denied) {
        let message = "no caller is left: all of `sources` is in `denied_sources`";
        let help = "name networks that lie within those of `sources`";
        faults.add(fields.key_at("denied_sources"), Code::Conflict, message, help);
    }
}

fn hours(node: &Node, what: &str, zone: &str, faults: &mut Faults) -> Vec<Band> {
    let items = list(node, what, faults).unwrap_or_default();
    few(items.get(MOST_LINES).map(|item| item.at), what, faults);
    let mut bands = Vec::new();
    for item in items.iter().take(MOST_LINES) {
        let Some(fields) = Fields::of(item, what, &["times", "days", "zone"], faults) else { continue };
        if fields.optional("times").is_none() && fields.optional("days").is_none() {
            let help = "say when, for example `{times: 08:00-18:00, days: [mon, fri]}`";
            faults.add(item.at, Code::MissingKey, "this band names neither hours nor days", help);
        }
        bands.extend(band::read(&fields, zone, faults));
    }
    bands
}

/// What keys begin with, each once.
fn prefixes(node: &Node, what: &str, faults: &mut Faults) -> Vec<String> {
    let items = list(node, what, faults).unwrap_or_default();
    few(items.get(MOST_LINES).map(|item| item.at), what, faults);
    let mut found: Vec<String> = Vec::new();
    for item in items.iter().take(MOST_LINES) {
        let Some(prefix) = form(item, what, faults, prefix) else { continue };
        if found.contains(&prefix.value) {
            let message = format!("{} is listed twice in {what}", shown(&prefix.value));
            faults.add(prefix.at, Code::Duplicate, message, "keep one of them");
        } else {
            found.push(prefix.value);
        }
    }
    found
}

/// Short, so that nobody writes a whole key into the policy.
fn prefix(written: &str) -> Result<String, Complaint> {
    if (1..=16).contains(&written.len()) && written.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(written.to_owned());
    }
    let message = format!("{} is nothing that a key begins with", shown(written));
    Err(Complaint::new(Code::BadValue, message, "write up to 16 visible ASCII characters, for example `tp-`"))
}

/// RFC 9110, 9.1: a token, in which case counts.
fn method(written: &str) -> Result<String, Complaint> {
    if (1..=32).contains(&written.len()) && written.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-') {
        return Ok(written.to_owned());
    }
    let help = "write it in capitals, for example `POST`";
    Err(Complaint::new(Code::BadValue, format!("{} is no method", shown(written)), help))
}

/// A list of networks and addresses.
pub(super) fn networks(fields: &Fields<'_>, key: &str, faults: &mut Faults) -> Vec<IpNet> {
    let Some(node) = fields.optional(key) else { return Vec::new() };
    let items = list(node, &fields.path(key), faults).unwrap_or_default();
    items.iter().filter_map(|item| form(item, &fields.path(key), faults, network)).map(|net| net.value).collect()
}

/// A network or a single address. Host bits are dropped; an IPv4 network written in IPv6 becomes what it means,
/// because callers' addresses are compared in that form.
fn network(written: &str) -> Result<IpNet, Complaint> {
    let single = || written.parse::<IpAddr>().map(IpNet::from);
    let net = written.parse::<IpNet>().or_else(|_| single()).map_err(|_| {
        let message = format!("{} is no network", shown(written));
        Complaint::new(
            Code::BadValue,
            message,
            "write an address and a prefix length, for example `10.0.0.0/8` or `fd00::/8`",
        )
    })?;
    let mapped = match net {
        IpNet::V6(v6) => v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96)),
        IpNet::V4(_) => None,
    };
    let plain = mapped.and_then(|(addr, length)| Ipv4Net::new(addr, length).ok()).map(IpNet::V4);
    Ok(plain.unwrap_or(net).trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_in_the_form_in_which_callers_are_compared() {
        let read = |text: &str| network(text).unwrap().to_string();
        assert_eq!(read("10.1.2.3/8"), "10.0.0.0/8");
        assert_eq!(read("10.1.2.3"), "10.1.2.3/32");
        assert_eq!(read("::ffff:10.1.2.3/104"), "10.0.0.0/8");
        assert_eq!(read("::ffff:10.1.2.3"), "10.1.2.3/32");
        assert_eq!(read("::/0"), "::/0");
        assert!(["10.0.0.0/33", "10.0.0", "", "localhost"].iter().all(|bad| network(bad).is_err()));
    }
}
