//! How Envoy's router is told to try a call again: by request headers, which it takes off. They are not for callers, who
//! would have others' tokens spent over and over, or calls end before their time.

use super::host::{self, Map};
use super::station::complain;
use crate::engine::event::Header;

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
