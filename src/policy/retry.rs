//! What the host tries again, how often, and how long a try may take.

use super::connectivity::{Timeouts, some_time};
use super::diagnostic::{Code, Complaint, Faults, shown};
use super::fields::{Fields, form, list, whole};
use super::tree::{Node, Spanned};

/// Which calls are tried again that the upstream did not answer, or not as it should. A call is never tried again once
/// the headers of an answer have come that is none of these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retry {
    /// After which failures, in Envoy's words.
    pub on: Vec<&'static str>,
    /// After which statuses, 400 to 599.
    pub statuses: Vec<u16>,
    /// How often it is tried in all, 2 to 10.
    pub tries: u32,
    /// How long a try may take until the headers of its answer come, in milliseconds; `None`: as long as it likes.
    pub each_ms: Option<u64>,
}

impl Retry {
    /// All that it is tried again after, as written.
    pub fn written(&self) -> Vec<String> {
        let statuses = self.statuses.iter().map(u16::to_string);
        self.on.iter().map(|word| (*word).to_owned()).chain(statuses).collect()
    }
}

/// Failures by the names that Envoy has for them, in `x-envoy-retry-on`.
const WORDS: [&str; 6] = ["connect-failure", "refused-stream", "reset-before-request", "reset", "gateway-error", "5xx"];
/// Those that a try is which has taken too long.
const LATE: [&str; 3] = ["reset", "gateway-error", "5xx"];
/// The most tries: each costs its provider the work of a call.
const MOST_TRIES: u64 = 10;

/// Reads the rule. `timeouts`: of the answer to all tries together.
pub(super) fn read(node: &Node, what: &str, timeouts: &Timeouts, faults: &mut Faults) -> Option<Retry> {
    let fields = Fields::of(node, what, &["on", "tries", "each"], faults)?;
    let help = "say what is tried again, for example `on: [connect-failure, 503]`";
    let on = fields.required("on", help, faults);
    let tries = fields.optional("tries").and_then(|node| whole(node, &fields.path("tries"), 2, MOST_TRIES, faults));
    let each = fields.optional("each").and_then(|node| form(node, &fields.path("each"), faults, some_time));
    let mut retry = Retry {
        tries: tries.and_then(|tries| u32::try_from(tries).ok()).unwrap_or(2),
        each_ms: each.as_ref().map(|each| each.value),
        ..Retry::default()
    };
    let (on, what) = (on?, fields.path("on"));
    for item in list(on, &what, faults).unwrap_or_default() {
        let Some(Spanned { at, value }) = form(item, &what, faults, failure) else { continue };
        let twice = match value {
            Failure::Word(word) => once(&mut retry.on, word),
            Failure::Status(status) => once(&mut retry.statuses, status),
        };
        if twice {
            faults.add(at, Code::Duplicate, format!("{what} names this twice"), "keep one of them");
        }
    }
    let Some(each) = each else { return Some(retry) };
    if !retry.on.iter().any(|word| LATE.contains(word)) {
        let message = "`each` makes no other try: one that is late is none of `on`";
        faults.add(each.at, Code::Conflict, message, "add `reset` to `on`, or use `response: {first_token: …}`");
    }
    for (key, ms) in [("first_token", timeouts.first_token_ms), ("duration", timeouts.duration_ms)] {
        if ms.is_some_and(|ms| ms <= each.value) {
            let message = format!("`each` has no effect: `response.{key}` is over by then");
            faults.add(each.at, Code::Conflict, message, format!("write a shorter one, or a longer `{key}`"));
        }
    }
    Some(retry)
}

fn once<T: PartialEq>(list: &mut Vec<T>, item: T) -> bool {
    let known = list.contains(&item);
    if !known {
        list.push(item);
    }
    known
}

enum Failure {
    Word(&'static str),
    Status(u16),
}

fn failure(written: &str) -> Result<Failure, Complaint> {
    let word = WORDS.iter().find(|word| **word == written).map(|word| Failure::Word(word));
    let status = || written.parse().ok().filter(|status| (400..=599).contains(status)).map(Failure::Status);
    word.or_else(status).ok_or_else(|| {
        let help = format!("write {}, or a status from 400 to 599", WORDS.map(|word| format!("`{word}`")).join(", "));
        Complaint::new(Code::BadValue, format!("nothing fails as {}", shown(written)), help)
    })
}
