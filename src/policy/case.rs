//! The `tests` section: what must happen to a call under this policy, as data.
//!
//! The case runner drives these through the simulator or a real Envoy. Nothing is defaulted by the runner:
//! what a case leaves out is filled in here, or is not asserted.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use sha2::{Digest, Sha256};

use super::assign::Assigned;
use super::diagnostic::{Code, Complaint, Faults, listed, shown};
use super::document::{Document, PackText, SeatText, is_header_name, reference};
use super::fields::{Fields, choice, form, list, map, switch, text, whole};
use super::plan::PlanText;
use super::scalar::{amount, duration};
use super::tree::{Entry, Mark, Node, Spanned};
use super::unit::Unit;

/// One case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// What it shows, unique in the file.
    pub name: String,
    /// Where it begins in the file, from 1.
    pub line: u32,
    /// Who calls.
    pub who: Who,
    /// The wall clock at the call in Unix milliseconds; `None`: any moment will do.
    pub at_ms: Option<u64>,
    /// What is already used in the current windows of the caller's plan.
    pub used: Vec<Amount>,
    /// The call.
    pub call: Call,
    /// What the upstream answers, should the call reach it.
    pub answer: Answer,
    /// What must come of it.
    pub expect: Expect,
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Whoever has this key, in clear; it may be one that the policy does not know.
    Key(String),
    /// A seat of the policy; a real Envoy can be asked only with a key.
    Seat(String),
}

/// An amount of one quota of the caller's plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Amount {
    /// The quota's name.
    pub quota: String,
    /// Micro-units.
    pub micro: u64,
}

/// The wire format of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// `POST /v1/chat/completions`.
    OpenAiChat,
    /// `POST /v1/messages`.
    AnthropicMessages,
}

/// The call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its wire format.
    pub api: Api,
    /// The model asked for; it may be one that the policy does not know.
    pub model: String,
    /// What is asked.
    pub prompt: Prompt,
    /// The output limit that it states, in tokens.
    pub max_output: Option<u64>,
    /// Whether it asks for a stream. Default: no.
    pub stream: bool,
    /// The caller's address; `None`: the loopback address.
    pub from: Option<IpAddr>,
    /// Further request headers, names in lower case.
    pub headers: Vec<(String, String)>,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// Some text of about this many tokens.
    Tokens(u64),
    /// This text.
    Text(String),
}

/// What the upstream answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Output tokens. Default: 20, or `max_output` where that is less.
    pub output: u64,
    /// Input tokens reported, cached ones included; `None`: as many as the call has.
    pub input: Option<u64>,
    /// How many of these were read from a cache. Default: 0.
    pub cached: u64,
    /// HTTP status. Default: 200.
    pub status: u16,
    /// Whether it reports no usage. Default: it does report.
    pub silent: bool,
    /// Whether it goes past the output limit that it was given. Default: it heeds it.
    pub past_limit: bool,
    /// Whether it says the prompt's text again, in place of words of its own. Default: no.
    pub echo: bool,
}

/// What must come of the call. `None`: not asserted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expect {
    /// Whether it is admitted.
    pub decision: Decision,
    /// The quota or guard that refuses it.
    pub by: Option<String>,
    /// The HTTP status that the caller sees.
    pub status: Option<u16>,
    /// The error code or type in the body that the caller sees.
    pub code: Option<String>,
    /// The `retry-after` header that the caller sees.
    pub retry_after: Option<RetryAfter>,
    /// The tier header that the upstream sees.
    pub tier: Option<String>,
    /// What is charged, for the quotas named; an empty list: nothing on any quota.
    pub charged: Option<Vec<Amount>>,
    /// What is still held afterwards, for the quotas named; an empty list: nothing on any quota.
    pub held: Option<Vec<Amount>>,
    /// How many records are made.
    pub records: Option<u64>,
    /// The output limit that the upstream sees, in tokens.
    pub max_output: Option<u64>,
    /// Why the answer ended, in the words of the caller's dialect.
    pub finish: Option<String>,
    /// Output tokens that the caller gets.
    pub delivered: Option<u64>,
    /// The text of the answer that the caller sees.
    pub text: Option<String>,
}

/// Whether a call is admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It goes upstream.
    Allow,
    /// It is refused.
    Deny,
}

/// The `retry-after` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAfter {
    /// It must not be there.
    Absent,
    /// It must be there and say no more than this many milliseconds.
    AtMost(u64),
    /// It must say just this many milliseconds.
    Exactly(u64),
}

/// A case before its names have been looked up.
#[derive(Debug)]
pub(super) struct Draft {
    case: Case,
    at: Mark,
    who_at: Mark,
    /// Every amount of a quota that the case names.
    named: Vec<(Spanned<String>, Unit)>,
}

impl Draft {
    pub fn into_case(self) -> Case {
        self.case
    }
}

/// Reads the `tests` section.
pub(super) fn read(node: &Node, faults: &mut Faults) -> Vec<Draft> {
    let items = list(node, "tests", faults).unwrap_or_default();
    let drafts: Vec<Draft> = items.iter().filter_map(|item| draft(item, faults)).collect();
    let mut names = HashSet::new();
    for draft in drafts.iter().filter(|draft| !names.insert(draft.case.name.as_str())) {
        let message = format!("two cases are named {}", shown(&draft.case.name));
        faults.add(draft.at, Code::Duplicate, message, "say what this one shows");
    }
    drafts
}

const KEYS: [&str; 7] = ["name", "as", "at", "used", "call", "answer", "expect"];

fn draft(node: &Node, faults: &mut Faults) -> Option<Draft> {
    let fields = Fields::of(node, "a case", &KEYS, faults)?;
    let name = fields
        .required("name", "say in a sentence what the case shows", faults)
        .and_then(|node| text(node, "a case's name", faults));
    let who = fields
        .required("as", "say who calls: `as: {seat: …}` or `as: {key: …}`", faults)
        .and_then(|node| who(node, faults));
    let at_ms = fields.optional("at").and_then(|node| form(node, "at", faults, moment));
    let mut named = Vec::new();
    let used = fields.optional("used").and_then(|node| amounts(node, "used", &mut named, faults));
    let call = fields
        .required("call", "describe the call: `call: {api: openai chat, model: …, input: …}`", faults)
        .and_then(|node| call(node, faults));
    let max_output = call.as_ref().and_then(|call| call.max_output);
    let answer = answer(fields.optional("answer"), max_output, faults);
    let expect = fields
        .required("expect", "say what must come of it: `expect: {decision: allow}`", faults)
        .and_then(|node| expect(node, &mut named, faults));
    let case = Case {
        name: name?.to_owned(),
        line: node.at.line,
        who: who.as_ref()?.value.clone(),
        at_ms: at_ms.map(|at| at.value),
        used: used.unwrap_or_default(),
        call: call?,
        answer,
        expect: expect?,
    };
    Some(Draft { case, at: node.at, who_at: who?.at, named })
}

fn who(node: &Node, faults: &mut Faults) -> Option<Spanned<Who>> {
    let fields = Fields::of(node, "as", &["key", "seat"], faults)?;
    let (key, seat) = (fields.optional("key"), fields.optional("seat"));
    let (node, name): (_, fn(String) -> Who) = match (key, seat) {
        (Some(node), None) => (node, Who::Key),
        (None, Some(node)) => (node, Who::Seat),
        _ => {
            faults.add(node.at, Code::BadValue, "a case has one caller", "write `as: {seat: …}` or `as: {key: …}`");
            return None;
        }
    };
    reference(node, "as", faults).map(|written| Spanned { at: written.at, value: name(written.value) })
}

/// A moment with its offset from UTC (RFC 3339), in Unix milliseconds.
fn moment(written: &str) -> Result<u64, Complaint> {
    let parsed: Option<jiff::Timestamp> = written.parse().ok();
    parsed.and_then(|at| u64::try_from(at.as_millisecond()).ok()).ok_or_else(|| {
        let message = format!("{} is no moment since 1970 with an offset", shown(written));
        Complaint::new(Code::BadValue, message, "write for example `2026-11-25T10:00:00+08:00`")
    })
}

/// `{quota: amount}`, each also noted in `named`.
fn amounts(
    node: &Node,
    what: &str,
    named: &mut Vec<(Spanned<String>, Unit)>,
    faults: &mut Faults,
) -> Option<Vec<Amount>> {
    let entries = map(node, what, faults)?;
    let mut one = |entry: &Entry| {
        let (micro, unit) = form(&entry.value, &format!("{what}.{}", entry.key), faults, amount)?.value;
        named.push((Spanned { at: entry.at, value: entry.key.clone() }, unit));
        Some(Amount { quota: entry.key.clone(), micro })
    };
    Some(entries.iter().filter_map(&mut one).collect())
}

/// No case states more tokens than this.
const MOST_TOKENS: u64 = 100_000_000;
const CALL_KEYS: [&str; 8] = ["api", "model", "input", "prompt", "max_output", "stream", "from", "headers"];

fn call(node: &Node, faults: &mut Faults) -> Option<Call> {
    let fields = Fields::of(node, "call", &CALL_KEYS, faults)?;
    let apis = [("openai chat", Api::OpenAiChat), ("anthropic messages", Api::AnthropicMessages)];
    let api = fields
        .required("api", "write `api: openai chat` or `api: anthropic messages`", faults)
        .and_then(|node| choice(node, "call.api", &apis, faults));
    let model = fields
        .required("model", "name the model that is asked for", faults)
        .and_then(|node| text(node, "call.model", faults));
    let prompt = match (fields.optional("input"), fields.optional("prompt")) {
        (Some(node), None) => whole(node, "call.input", 1, MOST_TOKENS, faults).map(Prompt::Tokens),
        (None, Some(node)) => text(node, "call.prompt", faults).map(|prompt| Prompt::Text(prompt.to_owned())),
        _ => {
            let help = "state how many tokens it has, `input: 500`, or its text, `prompt: \"…\"`";
            faults.add(node.at, Code::MissingKey, "a call has either `input` or `prompt`", help);
            None
        }
    };
    let max_output =
        fields.optional("max_output").and_then(|node| whole(node, "call.max_output", 1, MOST_TOKENS, faults));
    let stream = fields.optional("stream").and_then(|node| switch(node, "call.stream", faults));
    let from = fields.optional("from").and_then(|node| form(node, "call.from", faults, address));
    let headers = fields.optional("headers").map(|node| headers(node, faults));
    Some(Call {
        api: api?,
        model: model?.to_owned(),
        prompt: prompt?,
        max_output,
        stream: stream.unwrap_or(false),
        from: from.map(|from| from.value),
        headers: headers.unwrap_or_default(),
    })
}

fn address(written: &str) -> Result<IpAddr, Complaint> {
    written.parse().map_err(|_| {
        let message = format!("{} is no address", shown(written));
        Complaint::new(Code::BadValue, message, "write for example `10.1.2.3` or `fd00::1`")
    })
}

fn headers(node: &Node, faults: &mut Faults) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    for entry in map(node, "call.headers", faults).unwrap_or_default() {
        let value = text(&entry.value, "a header's value", faults);
        let fits = value.is_none_or(|value| !value.chars().any(char::is_control));
        if !is_header_name(&entry.key) || !fits {
            let message = format!("{} is no header that can be sent", shown(&entry.key));
            faults.add(entry.at, Code::BadValue, message, "write a header's name and its value on one line");
        } else if let Some(value) = value {
            headers.push((entry.key.to_ascii_lowercase(), value.to_owned()));
        }
    }
    headers
}

fn answer(node: Option<&Node>, max_output: Option<u64>, faults: &mut Faults) -> Answer {
    let output = max_output.unwrap_or(20).min(20);
    let mut answer =
        Answer { output, input: None, cached: 0, status: 200, silent: false, past_limit: false, echo: false };
    let known = ["output", "input", "cached", "status", "silent", "past_limit", "echo"];
    let Some(fields) = node.and_then(|node| Fields::of(node, "answer", &known, faults)) else { return answer };
    let mut tokens = |key: &str| {
        let node = fields.optional(key)?;
        whole(node, &fields.path(key), 0, MOST_TOKENS, faults)
    };
    answer.output = tokens("output").unwrap_or(output);
    answer.input = tokens("input");
    answer.cached = tokens("cached").unwrap_or(0);
    if let (Some(input), cached) = (answer.input, answer.cached)
        && cached > input
    {
        let message = format!("{cached} tokens of {input} cannot have been cached");
        faults.add(fields.key_at("cached"), Code::Conflict, message, "`input` includes the cached tokens");
    }
    answer.status = status(fields.optional("status"), "answer.status", faults).unwrap_or(200);
    let mut flag = |key: &str| {
        let node = fields.optional(key)?;
        switch(node, &fields.path(key), faults)
    };
    (answer.silent, answer.past_limit) = (flag("silent").unwrap_or(false), flag("past_limit").unwrap_or(false));
    answer.echo = flag("echo").unwrap_or(false);
    answer
}

fn status(node: Option<&Node>, what: &str, faults: &mut Faults) -> Option<u16> {
    whole(node?, what, 200, 599, faults).and_then(|status| u16::try_from(status).ok())
}

const EXPECT_KEYS: [&str; 13] = [
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
    "text",
];

fn expect(node: &Node, named: &mut Vec<(Spanned<String>, Unit)>, faults: &mut Faults) -> Option<Expect> {
    let fields = Fields::of(node, "expect", &EXPECT_KEYS, faults)?;
    let decisions = [("allow", Decision::Allow), ("deny", Decision::Deny)];
    let decision = fields
        .required("decision", "write `decision: allow` or `decision: deny`", faults)
        .and_then(|node| choice(node, "expect.decision", &decisions, faults));
    if decision == Some(Decision::Deny) {
        excluded(&fields, "a refused call", &["tier", "max_output", "finish", "delivered", "text"], faults);
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
    let (by, code, tier, finish, text) = (word("by"), word("code"), word("tier"), word("finish"), word("text"));
    let retry_after =
        fields.optional("retry_after").and_then(|node| form(node, "expect.retry_after", faults, retry_after));
    let mut number = |key: &str, most: u64| {
        let node = fields.optional(key)?;
        whole(node, &fields.path(key), 0, most, faults)
    };
    let (records, max_output) = (number("records", 1000), number("max_output", MOST_TOKENS));
    let delivered = number("delivered", MOST_TOKENS);
    let status = status(fields.optional("status"), "expect.status", faults);
    let retry_after = retry_after.map(|retry| retry.value);
    let decision = decision?;
    Some(Expect {
        decision,
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
        delivered,
        text,
    })
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

/// Looks up the names of seats and quotas, and compares units.
pub(super) fn check(document: &Document, assigned: &[Option<Assigned>], faults: &mut Faults) {
    let seats: HashMap<&str, usize> =
        document.seats.iter().enumerate().map(|(index, seat)| (seat.name.value.as_str(), index)).collect();
    // A seat without a plan may be the consequence of a fault that is noted already.
    let sound = faults.is_empty();
    for draft in &document.cases {
        let seat = match &draft.case.who {
            Who::Seat(name) => {
                let found = seats.get(name.as_str()).copied();
                if found.is_none() {
                    let help = faults.meant(name, seats.keys().copied(), "seats");
                    faults.add(draft.who_at, Code::UnknownName, format!("there is no seat {}", shown(name)), help);
                    continue;
                }
                found
            }
            Who::Key(key) => by_key(&document.seats, key),
        };
        let assigned = seat.and_then(|seat| assigned.get(seat).copied().flatten());
        match assigned.and_then(|assigned| document.plans.get(assigned.plan)).zip(seat) {
            Some((plan, seat)) => check_names(plan, &packs_of(document, seat), draft, faults),
            None if sound => no_quotas(draft, faults),
            None => {}
        }
    }
}

fn by_key(seats: &[SeatText], key: &str) -> Option<usize> {
    let hash: [u8; 32] = Sha256::digest(key.as_bytes()).into();
    seats.iter().position(|seat| seat.keys.iter().any(|known| known.value == hash))
}

fn no_quotas(draft: &Draft, faults: &mut Faults) {
    if let Some((name, _)) = draft.named.first() {
        let help = "name a seat that has a plan, or leave the amounts out";
        faults.add(name.at, Code::UnknownName, "the caller has no plan, and so no quotas", help);
    }
}

/// The packs of the accounts that a seat has.
fn packs_of(document: &Document, seat: usize) -> Vec<&PackText> {
    let Some(seat) = document.seats.get(seat) else { return Vec::new() };
    let of_seat = |pack: &&PackText| seat.of(pack.owner.0) == Some(pack.owner.1.value.as_str());
    document.packs.iter().filter(of_seat).collect()
}

fn check_names(plan: &PlanText, packs: &[&PackText], draft: &Draft, faults: &mut Faults) {
    let units = plan.quotas.iter().map(|quota| (&quota.name.value, quota.terms.as_ref().map(|terms| terms.unit)));
    let units: Vec<(&String, Option<Unit>)> =
        units.chain(packs.iter().map(|pack| (&pack.name.value, Some(pack.unit)))).collect();
    for (name, unit) in &draft.named {
        let Some((_, stated)) = units.iter().find(|(known, _)| **known == name.value) else {
            let known = units.iter().map(|(name, _)| name.as_str());
            let help = faults.meant(&name.value, known, "quotas");
            let message = format!("the plan {} has no quota {}", shown(&plan.name.value), shown(&name.value));
            faults.add(name.at, Code::UnknownName, message, help);
            continue;
        };
        if let Some(stated) = stated.filter(|stated| stated != unit) {
            let message = format!("the quota {} is in {}, not in {}", shown(&name.value), stated.words(), unit.words());
            let help = format!("state the amount in {}", listed(&[stated.words()]));
            faults.add(name.at, Code::Conflict, message, help);
        }
    }
}
