//! How the call of a case looks on the wire.

use serde_json::Value;

use crate::policy::case::Wire;
use crate::sim::call::{Call, header};

/// Makes a call look as its case says.
pub(super) fn apply(wire: &Wire, call: &mut Call) {
    let pseudo = [(":method", &wire.method), (":authority", &wire.host), (":path", &wire.path)];
    for (name, value) in pseudo.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
        call.headers.retain(|(at, _)| at != name.as_bytes());
        call.headers.insert(0, header(name, value));
    }
    if let (false, Ok(Value::Object(mut body))) = (wire.body.is_empty(), serde_json::from_slice(&call.body)) {
        body.extend(wire.body.clone());
        call.body = Value::Object(body).to_string().into_bytes();
    }
    if wire.method.as_ref().is_some_and(|method| method != "POST") {
        call.body.clear();
    }
}
