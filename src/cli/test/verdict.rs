//! What a case expects against what was seen.

use std::collections::BTreeMap;

use super::request::{quota, quotas};
use crate::collector::amount::Amount;
use crate::policy::Bundle;
use crate::policy::case::{self, Case, Decision, RetryAfter};
use crate::report::wire::{self, Reached, Record};

/// What was seen of a call. Amounts are micro-units by the name of the quota.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Whether it reached the upstream.
    pub admitted: bool,
    /// The rule that refused it.
    pub by: Option<String>,
    /// The status that the caller got.
    pub status: u16,
    /// The codes and types in the body that the caller got.
    pub codes: Vec<String>,
    /// The `retry-after` that the caller got.
    pub retry_after: Option<String>,
    /// The tier header that the upstream got.
    pub tier: Option<String>,
    /// The output limit that the upstream got.
    pub max_output: Option<u64>,
    /// The limit that it got besides, by its older name.
    pub max_tokens: Option<u64>,
    /// Why the answer that the caller got says that it ended.
    pub finish: Option<String>,
    /// Output tokens that the caller got.
    pub delivered: u64,
    /// The text of the answer that the caller got.
    pub text: String,
    /// What was charged.
    pub charged: BTreeMap<String, u64>,
    /// What stayed held; `None`: this host cannot see it.
    pub held: Option<BTreeMap<String, u64>>,
    /// How many records were made.
    pub records: u64,
    /// The model that the upstream got.
    pub model: Option<String>,
    /// How quotas were passed, as the record says.
    pub passed: Vec<String>,
    /// How it ended, as the record says.
    pub outcome: Option<&'static str>,
    /// How full quotas have become, `name percent`, as the record says.
    pub reached: Vec<String>,
    /// By how much a call of a tool was let end, as the record says.
    pub graced: u64,
    /// How often it was tried, as the record says.
    pub tries: u64,
    /// What the record keeps beside its figures.
    pub audit: Option<wire::Audit>,
    /// The request headers that the upstream got, those of one name joined.
    pub sent: BTreeMap<String, String>,
    /// Why the call itself was never made.
    pub spoiled: Option<Mismatch>,
    /// What contradicts itself, whatever the case expects.
    pub contradictions: Vec<Mismatch>,
}

/// One thing that is not as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Which.
    pub what: String,
    /// What it should be.
    pub expected: String,
    /// What it is.
    pub seen: String,
}

impl Observed {
    /// A case whose call was not made, because the one at this place before it was refused.
    pub fn spoiled(place: usize, by: Option<&str>) -> Self {
        let spoiled = Mismatch {
            what: format!("before[{place}]"),
            expected: "allow".to_owned(),
            seen: format!("refused by {}", by.unwrap_or("nothing")),
        };
        Self { spoiled: Some(spoiled), ..Self::default() }
    }

    /// A case of which the call at this place did not end within so long.
    pub fn endless(place: usize, within_ms: u64) -> Self {
        let endless = Mismatch {
            what: format!("call {}", place.saturating_add(1)),
            expected: "an end".to_owned(),
            seen: format!("none within {} min", within_ms / 60_000),
        };
        Self { spoiled: Some(endless), ..Self::default() }
    }
}

/// What the records of a call say, besides what was charged.
pub fn recorded(case: &Case, bundle: &Bundle, records: &[Record]) -> Observed {
    let name = |reached: &Reached| {
        let all = quotas(&case.who, &case.call, bundle);
        let found = all.iter().find(|(of, quota)| quota.ledger == reached.quota && *of == reached.subject);
        let name = found.map_or(&reached.quota, |(_, quota)| &quota.name);
        format!("{name} {}", reached.percent)
    };
    Observed {
        outcome: records.last().map(|record| record.outcome.name()),
        passed: records.iter().flat_map(|record| &record.passed).map(|passed| passed.how.clone()).collect(),
        reached: records.iter().flat_map(|record| &record.reached).map(name).collect(),
        tries: records.iter().fold(0, |sum, record| sum.saturating_add(u64::from(record.attempts))),
        graced: records.iter().fold(0, |sum, record| sum.saturating_add(record.graced)),
        audit: records.last().and_then(|record| record.audit.clone()),
        records: u64::try_from(records.len()).unwrap_or(u64::MAX),
        ..Observed::default()
    }
}

/// The `error.code`, `error.type` and `error.details.error_code` of an error body.
pub fn codes(body: &[u8]) -> Vec<String> {
    let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let places = ["/error/code", "/error/type", "/error/details/error_code"];
    places.iter().filter_map(|at| body.pointer(at)?.as_str()).map(str::to_owned).collect()
}

/// The text of an answer, JSON or a stream, of either dialect.
pub fn text(body: &[u8]) -> String {
    let body = String::from_utf8_lossy(body);
    let documents: Vec<serde_json::Value> = match serde_json::from_str(&body) {
        Ok(document) => vec![document],
        Err(_) => {
            let data = body.lines().filter_map(|line| line.strip_prefix("data:"));
            data.filter_map(|data| serde_json::from_str(data).ok()).collect()
        }
    };
    let places = ["/choices/0/message/content", "/choices/0/delta/content", "/content/0/text", "/delta/text"];
    let found = documents.iter().flat_map(|document| places.iter().filter_map(|at| document.pointer(at)?.as_str()));
    found.collect()
}

/// Everything that is not as the case expects.
pub fn compare(case: &Case, seen: &Observed, bundle: &Bundle) -> Vec<Mismatch> {
    if let Some(spoiled) = &seen.spoiled {
        return vec![spoiled.clone()];
    }
    let expect = &case.expect;
    let mut found = Found(Vec::new());
    let word = |admitted| if admitted { "allow" } else { "deny" };
    found.unless("decision", word(expect.decision == Decision::Allow), word(seen.admitted));
    if let Some(by) = &expect.by {
        found.unless("by", by, seen.by.as_deref().unwrap_or("nothing"));
    }
    if let Some(status) = expect.status {
        found.unless("status", &status.to_string(), &seen.status.to_string());
    }
    if let Some(code) = &expect.code
        && !seen.codes.contains(code)
    {
        found.add("code", code, &said(&seen.codes.join(" and ")));
    }
    if let Some(retry_after) = expect.retry_after {
        found.retry_after(retry_after, seen.retry_after.as_deref());
    }
    if let Some(tier) = &expect.tier {
        found.unless("tier", tier, seen.tier.as_deref().unwrap_or("none"));
    }
    for (what, expected, seen) in
        [("max_output", expect.max_output, seen.max_output), ("max_tokens", expect.max_tokens, seen.max_tokens)]
    {
        if let Some(limit) = expected {
            let seen = seen.map_or("none".to_owned(), |limit| limit.to_string());
            found.unless(what, &limit.to_string(), &seen);
        }
    }
    if let Some(finish) = &expect.finish {
        found.unless("finish", finish, seen.finish.as_deref().unwrap_or("none"));
    }
    if let Some(delivered) = expect.delivered {
        found.unless("delivered", &delivered.to_string(), &seen.delivered.to_string());
    }
    if let Some(model) = &expect.model {
        found.unless("model", model, seen.model.as_deref().unwrap_or("none"));
    }
    if let Some(passed) = &expect.passed {
        found.unless("passed", &said(&passed.join(", ")), &said(&seen.passed.join(", ")));
    }
    if let Some(outcome) = expect.outcome {
        found.unless("outcome", outcome, seen.outcome.unwrap_or("none"));
    }
    if let Some(reached) = &expect.reached {
        let expected: Vec<String> = reached.iter().map(|one| format!("{} {}", one.quota, one.percent)).collect();
        found.unless("reached", &said(&expected.join(", ")), &said(&seen.reached.join(", ")));
    }
    if let Some(graced) = expect.graced {
        found.unless("graced", &graced.to_string(), &seen.graced.to_string());
    }
    if let Some(tries) = expect.tries {
        found.unless("tries", &tries.to_string(), &seen.tries.to_string());
    }
    match (&expect.audit, &seen.audit) {
        (None, _) | (Some(case::Audit::Nothing), None) => {}
        (Some(case::Audit::Nothing), Some(_)) => found.add("audit", "none", "something"),
        (Some(case::Audit::Kept(_)), None) => found.add("audit", "something", "none"),
        (Some(case::Audit::Kept(fields)), Some(audit)) => {
            for (name, expected) in fields {
                found.unless(&format!("audit.{name}"), &said(expected), &said(&kept(audit, name)));
            }
        }
    }
    for (name, value) in &expect.sent {
        let seen = seen.sent.get(name).map_or("none", String::as_str);
        found.unless(&format!("sent.{name}"), value.as_deref().unwrap_or("none"), seen);
    }
    if let Some(text) = &expect.text {
        found.unless("text", text, &seen.text);
    }
    let mut amounts = |what: &str, expected: &Option<Vec<case::Amount>>, seen: &BTreeMap<String, u64>| {
        if let Some(expected) = expected {
            found.amounts(what, expected, seen, &|name, micro| amount(case, bundle, name, micro));
        }
    };
    amounts("charged", &expect.charged, &seen.charged);
    if let Some(held) = &seen.held {
        amounts("held", &expect.held, held);
    }
    if let Some(records) = expect.records {
        found.unless("records", &records.to_string(), &seen.records.to_string());
    }
    if found.0.is_empty() { seen.contradictions.clone() } else { found.0 }
}

/// A field of what a record keeps.
fn kept(audit: &wire::Audit, name: &str) -> String {
    let cut = [("prompt", audit.prompt_cut), ("answer", audit.answer_cut)];
    match name {
        "address" => audit.address.clone(),
        "agent" => audit.agent.clone(),
        "path" => audit.path.clone(),
        "findings" => audit.findings.join(", "),
        "prompt" => audit.prompt.clone(),
        "answer" => audit.answer.clone(),
        _ => cut.iter().filter(|(_, cut)| *cut).map(|(side, _)| *side).collect::<Vec<_>>().join(", "),
    }
}

/// An amount with the unit of its quota.
fn amount(case: &Case, bundle: &Bundle, name: &str, micro: u64) -> String {
    let unit = quota(&case.who, &case.call, name, bundle).map_or("micro-units", |(_, quota)| quota.unit.words());
    format!("{} {unit}", Amount::from(micro))
}

fn said(text: &str) -> String {
    if text.is_empty() { "none".to_owned() } else { text.to_owned() }
}

struct Found(Vec<Mismatch>);

impl Found {
    fn add(&mut self, what: &str, expected: &str, seen: &str) {
        let (what, expected, seen) = (what.to_owned(), expected.to_owned(), seen.to_owned());
        self.0.push(Mismatch { what, expected, seen });
    }

    fn unless(&mut self, what: &str, expected: &str, seen: &str) {
        if expected != seen {
            self.add(what, expected, seen);
        }
    }

    fn retry_after(&mut self, expected: RetryAfter, seen: Option<&str>) {
        let seconds = seen.and_then(|seen| seen.parse::<u64>().ok());
        let fits = match expected {
            RetryAfter::Absent => seen.is_none(),
            // The header says whole seconds, rounded up.
            RetryAfter::AtMost(ms) => seconds.is_some_and(|seconds| seconds <= ms.div_ceil(1_000)),
            RetryAfter::Exactly(ms) => seconds.is_some_and(|seconds| seconds == ms.div_ceil(1_000)),
        };
        if !fits {
            let expected = match expected {
                RetryAfter::Absent => "none".to_owned(),
                RetryAfter::AtMost(ms) => format!("at most {} s", ms.div_ceil(1_000)),
                RetryAfter::Exactly(ms) => format!("{} s", ms.div_ceil(1_000)),
            };
            self.add("retry_after", &expected, &seen.map_or("none".to_owned(), |seen| format!("{seen} s")));
        }
    }

    /// An empty list expects nothing on any quota; otherwise only the quotas named are compared.
    fn amounts(
        &mut self,
        what: &str,
        expected: &[case::Amount],
        seen: &BTreeMap<String, u64>,
        written: &dyn Fn(&str, u64) -> String,
    ) {
        if expected.is_empty() {
            for (name, micro) in seen.iter().filter(|(_, micro)| **micro > 0) {
                self.add(&format!("{what}.{name}"), "nothing", &written(name, *micro));
            }
        }
        for case::Amount { quota, micro } in expected {
            let seen = seen.get(quota).copied().unwrap_or(0);
            if seen != *micro {
                self.add(&format!("{what}.{quota}"), &written(quota, *micro), &written(quota, seen));
            }
        }
    }
}
