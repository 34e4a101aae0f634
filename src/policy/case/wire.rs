//! What a case says about how its call looks on the wire, beyond what is asked.

use serde_json::{Map, Value as Json};

use crate::policy::diagnostic::{Code, Complaint, Faults, shown};
use crate::policy::document::is_header_name;
use crate::policy::fields::{Fields, form, map, text};
use crate::policy::tree::{Node, Value};

/// The keys of a call that are read here.
pub(super) const KEYS: [&str; 4] = ["method", "host", "path", "body"];

/// How a call looks on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wire {
    /// The method; `None`: `POST`. One that is no `POST` has no body.
    pub method: Option<String>,
    /// The host that is asked for.
    pub host: Option<String>,
    /// The path, with its query; `None`: that of the wire format.
    pub path: Option<String>,
    /// Members of the body: added, or in the place of those that are there.
    pub body: Map<String, Json>,
}

/// Reads it.
pub(super) fn read(fields: &Fields<'_>, faults: &mut Faults) -> Wire {
    let line = |key: &str, faults: &mut Faults| {
        let node = fields.optional(key)?;
        form(node, &fields.path(key), faults, one_line).map(|line| line.value)
    };
    let (method, host, path) = (line("method", faults), line("host", faults), line("path", faults));
    let body = fields.optional("body").map(|node| members(node, &fields.path("body"), faults));
    Wire { method, host, path, body: body.unwrap_or_default() }
}

fn one_line(written: &str) -> Result<String, Complaint> {
    if !written.is_empty() && written.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(written.to_owned());
    }
    let message = format!("{} cannot be sent like this", shown(written));
    Err(Complaint::new(Code::BadValue, message, "write visible ASCII characters without blanks"))
}

fn members(node: &Node, what: &str, faults: &mut Faults) -> Map<String, Json> {
    let entries = map(node, what, faults).unwrap_or_default();
    entries.iter().map(|entry| (entry.key.clone(), json(&entry.value))).collect()
}

/// A node as JSON: without quotes, numbers and switches are what they look like.
fn json(node: &Node) -> Json {
    match &node.value {
        Value::Null | Value::Faulty => Json::Null,
        Value::Plain(text) => match text.as_str() {
            "true" => Json::Bool(true),
            "false" => Json::Bool(false),
            text => text.parse::<serde_json::Number>().map_or_else(|_| Json::from(text), Json::Number),
        },
        Value::Quoted(text) => Json::from(text.as_str()),
        Value::List(items) => items.iter().map(json).collect(),
        Value::Map(entries) => entries.iter().map(|entry| (entry.key.clone(), json(&entry.value))).collect(),
    }
}

/// Further request headers; one with a list of values is sent once for each.
pub(super) fn headers(node: &Node, faults: &mut Faults) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    for entry in map(node, "call.headers", faults).unwrap_or_default() {
        let one = std::slice::from_ref(&entry.value);
        let values = if let Value::List(values) = &entry.value.value { values.as_slice() } else { one };
        let values: Vec<&str> = values.iter().filter_map(|value| text(value, "a header's value", faults)).collect();
        if !is_header_name(&entry.key) || values.iter().any(|value| value.chars().any(char::is_control)) {
            let message = format!("{} is no header that can be sent", shown(&entry.key));
            faults.add(entry.at, Code::BadValue, message, "write a header's name and its value on one line");
        } else {
            headers.extend(values.into_iter().map(|value| (entry.key.to_ascii_lowercase(), value.to_owned())));
        }
    }
    headers
}

/// `sent`: request headers that the upstream sees; `none` for one that it must not see.
pub(super) fn sent(node: &Node, faults: &mut Faults) -> Vec<(String, Option<String>)> {
    let entries = map(node, "expect.sent", faults).unwrap_or_default();
    let one = |entry: &crate::policy::tree::Entry, faults: &mut Faults| {
        let value = text(&entry.value, "a header's value", faults)?;
        Some((entry.key.to_ascii_lowercase(), (value != "none").then(|| value.to_owned())))
    };
    entries.iter().filter_map(|entry| one(entry, faults)).collect()
}
