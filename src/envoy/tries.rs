//! How Envoy's router is told to try a call again: by request headers, which it takes off.
//!
//! It keeps what it has sent of a request until the headers of an answer come, as far as the listener's buffer goes; a
//! request whose headers are held until its body is read is never larger. The headers that it obeys are ours to set:
//! a caller who could send them would have others' tokens spent over and over, or calls end before their time.

use super::host::{self, Map};
use super::station::complain;
use crate::engine::event::Header;
use crate::policy::bundle::Retry;

/// How the headers begin that tell the router how often, after what, and until when it tries.
const OBEYED: [&str; 4] = ["x-envoy-retr", "x-envoy-max-retries", "x-envoy-hedge-", "x-envoy-upstream-"];

/// Takes off what a caller says about it.
pub fn clean(headers: &[Header]) {
    for (name, _) in headers {
        let obeyed = OBEYED.iter().any(|head| name.starts_with(head.as_bytes()));
        if let (true, Ok(name)) = (obeyed, std::str::from_utf8(name)) {
            complain("remove a request header", host::remove_header(Map::Request, name));
        }
    }
}

/// Says it for the policy.
pub fn order(retry: &Retry) {
    let statuses: Vec<String> = retry.statuses.iter().map(u16::to_string).collect();
    let mut on = retry.on.clone();
    if !statuses.is_empty() {
        on.push("retriable-status-codes");
    }
    let each = retry.each_ms.map(|ms| ms.to_string());
    let orders = [
        ("x-envoy-retry-on", Some(on.join(","))),
        ("x-envoy-max-retries", Some(retry.tries.saturating_sub(1).to_string())),
        ("x-envoy-retriable-status-codes", Some(statuses.join(",")).filter(|codes| !codes.is_empty())),
        ("x-envoy-upstream-rq-per-try-timeout-ms", each),
    ];
    for (name, value) in orders.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        complain("set a request header", host::set_header(Map::Request, name, &value));
    }
}
