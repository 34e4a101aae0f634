//! What a case expects.

use super::{Audit, Decision, Expect, MOST_TOKENS, Mentions, Reached, RetryAfter, amounts, status};
use crate::policy::diagnostic::{Code, Complaint, Faults, shown};
use crate::policy::fields::{Fields, choice, form, list, text, whole};
use crate::policy::scalar::duration;
use crate::policy::tree::{Node, Spanned, Value};

const EXPECT_KEYS: [&str; 22] = [
    "decision",
    "by",
    "status",
    "code",
    "retry_after",
    "tier",
    "charged",
    "held",
    "records",
    "max_output",
    "finish",
    "delivered",
    "model",
    "passed",
    "text",
    "outcome",
    "max_tokens",
    "reached",
    "graced",
    "tries",
    "audit",
    "sent",
];

const MOST_TRIES: u64 = 1000;

/// How a quota can be passed, as records say it.
const PASSED: [(&str, &str); 7] = [
    ("observed", "observed"),
    ("overage", "overage"),
    ("throttled", "throttled"),
    ("downgraded", "downgraded"),
    ("waited", "waited"),
    ("next fund", "next_fund"),
    ("fell back", "fell_back"),
];

/// How exchanges end, as records say it, that a case can bring about. No case can leave a call unsent or unsettled: that
/// takes another filter, or a VM that dies.
pub const OUTCOMES: [&str; 10] = [
    "never_sent",
    "connect_failure",
    "no_response",
    "upstream_error",
    "error_inside",
    "aborted",
    "cut_by_us",
    "cut_by_upstream",
    "complete",
    "complete_silent",
];

/// Reads what a case expects; amounts of quotas are noted in `named` too.
pub(super) fn read(node: &Node, named: &mut Mentions, faults: &mut Faults) -> Option<Expect> {
    let fields = Fields::of(node, "expect", &EXPECT_KEYS, faults)?;
    let decisions = [("allow", Decision::Allow), ("deny", Decision::Deny)];
    let decision = fields
        .required("decision", "write `decision: allow` or `decision: deny`", faults)
        .and_then(|node| choice(node, "expect.decision", &decisions, faults));
    if decision == Some(Decision::Deny) {
        let of_upstream = ["tier", "max_output", "max_tokens", "model"];
        let of_answer =
            ["finish", "delivered", "text", "passed", "outcome", "reached", "graced", "tries", "audit", "sent"];
        excluded(&fields, "a refused call", &of_upstream, faults);
        excluded(&fields, "a refused call", &of_answer, faults);
    } else if decision == Some(Decision::Allow) {
        excluded(&fields, "an admitted call", &["by", "retry_after"], faults);
    }
    let mut amount_of = |key: &str, faults: &mut Faults| {
        fields.optional(key).and_then(|node| amounts(node, &fields.path(key), named, faults))
    };
    let (charged, held) = (amount_of("charged", faults), amount_of("held", faults));
    let mut word = |key: &str| {
        let node = fields.optional(key)?;
        text(node, &fields.path(key), faults).map(str::to_owned)
    };
    let (by, code, tier) = (word("by"), word("code"), word("tier"));
    let (finish, model, text) = (word("finish"), word("model"), word("text"));
    let retry_after =
        fields.optional("retry_after").and_then(|node| form(node, "expect.retry_after", faults, retry_after));
    let mut number = |key: &str, most: u64| {
        let node = fields.optional(key)?;
        whole(node, &fields.path(key), 0, most, faults)
    };
    let (records, max_output) = (number("records", 1000), number("max_output", MOST_TOKENS));
    let (delivered, max_tokens) = (number("delivered", MOST_TOKENS), number("max_tokens", MOST_TOKENS));
    let (graced, tries) = (number("graced", MOST_TOKENS), number("tries", MOST_TRIES));
    let reached = fields.optional("reached").map(|node| reached(node, named, faults));
    let passed = fields.optional("passed").map(|node| passed(node, faults));
    let audit = fields.optional("audit").and_then(|node| audit(node, faults));
    let sent = fields.optional("sent").map(|node| super::wire::sent(node, faults));
    let outcomes = OUTCOMES.map(|name| (name, name));
    let outcome = fields.optional("outcome").and_then(|node| choice(node, "expect.outcome", &outcomes, faults));
    let status = status(fields.optional("status"), "expect.status", faults);
    let retry_after = retry_after.map(|retry| retry.value);
    Some(Expect {
        decision: decision?,
        by,
        status,
        code,
        retry_after,
        tier,
        charged,
        held,
        records,
        max_output,
        finish,
        text,
        delivered,
        model,
        passed,
        outcome,
        max_tokens,
        reached,
        graced,
        tries,
        audit,
        sent: sent.unwrap_or_default(),
    })
}

/// What a record keeps, by the names of its fields; of a text all of it.
const KEPT: [&str; 7] = ["address", "agent", "path", "findings", "prompt", "answer", "cut"];

/// `none`, or `{agent: …, findings: [email:redact:1], answer: …}`.
fn audit(node: &Node, faults: &mut Faults) -> Option<Audit> {
    if !matches!(node.value, Value::Map(_)) {
        return choice(node, "expect.audit", &[("none", ())], faults).map(|()| Audit::Nothing);
    }
    let fields = Fields::of(node, "expect.audit", &KEPT, faults)?;
    let mut kept = Vec::new();
    for key in KEPT {
        let Some(node) = fields.optional(key) else { continue };
        let what = fields.path(key);
        let said = match key {
            "findings" | "cut" if node.value == Value::List(Vec::new()) => String::new(),
            "cut" => {
                let sides = [("prompt", "prompt"), ("answer", "answer")];
                let items = list(node, &what, faults).unwrap_or_default();
                let sides = items.iter().filter_map(|item| choice(item, &what, &sides, faults));
                sides.collect::<Vec<_>>().join(", ")
            }
            "findings" => {
                let items = list(node, &what, faults).unwrap_or_default();
                items.iter().filter_map(|item| text(item, &what, faults)).collect::<Vec<_>>().join(", ")
            }
            _ => text(node, &what, faults)?.to_owned(),
        };
        kept.push((key, said));
    }
    Some(Audit::Kept(kept))
}

/// `[month 50, calls 80]`; an empty list says that there is none.
fn reached(node: &Node, named: &mut Mentions, faults: &mut Faults) -> Vec<Reached> {
    if node.value == Value::List(Vec::new()) {
        return Vec::new();
    }
    let items = list(node, "expect.reached", faults).unwrap_or_default();
    let found = items.iter().filter_map(|item| form(item, "expect.reached", faults, one_reached));
    let named = found.map(|Spanned { at, value }| {
        named.push((Spanned { at, value: value.quota.clone() }, None));
        value
    });
    named.collect()
}

fn one_reached(written: &str) -> Result<Reached, Complaint> {
    let read = written.rsplit_once(' ').and_then(|(quota, percent)| {
        let percent = percent.parse().ok().filter(|percent| (1..=100).contains(percent))?;
        Some(Reached { quota: quota.trim().to_owned(), percent })
    });
    read.ok_or_else(|| {
        let message = format!("{} is no quota with a percent", shown(written));
        Complaint::new(Code::BadValue, message, "write for example `reached: [month 80]`")
    })
}

/// A list of ways; an empty one says that there was none.
fn passed(node: &Node, faults: &mut Faults) -> Vec<&'static str> {
    if node.value == Value::List(Vec::new()) {
        return Vec::new();
    }
    let items = list(node, "expect.passed", faults).unwrap_or_default();
    items.iter().filter_map(|item| choice(item, "expect.passed", &PASSED, faults)).collect()
}

/// What could never be seen on such a call.
fn excluded(fields: &Fields<'_>, what: &str, keys: &[&str], faults: &mut Faults) {
    for key in keys.iter().filter(|key| fields.optional(key).is_some()) {
        let message = format!("{what} shows no `{key}`");
        faults.add(fields.key_at(key), Code::Conflict, message, "remove it, or change the decision");
    }
}

fn retry_after(written: &str) -> Result<RetryAfter, Complaint> {
    match written {
        "none" => Ok(RetryAfter::Absent),
        written => match written.strip_prefix("at most ") {
            Some(most) => duration(most.trim()).map(RetryAfter::AtMost),
            None => duration(written).map(RetryAfter::Exactly),
        },
    }
    .map_err(|Complaint { code, message, .. }| {
        Complaint::new(code, message, "write `at most 5h`, `5s`, or `none` where no retry is invited")
    })
}
