//! The `tests` section: what must happen to a call under this policy, as data.
//!
//! The case runner drives these through the simulator or a real Envoy. Nothing is defaulted by the runner:
//! what a case leaves out is filled in here, or is not asserted.

use std::collections::HashSet;
use std::net::IpAddr;

mod call;
mod expect;
mod names;
mod wire;

pub use wire::Wire;

pub(super) use names::check;

use super::diagnostic::{Code, Complaint, Faults, shown};
use super::document::reference;
use super::fields::{Fields, form, list, map, text, whole};
use super::scalar::amount;
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
    /// What is already used in the windows of the caller's plan that run at the first call.
    pub used: Vec<Amount>,
    /// Calls before this one, in their order. Each must be admitted.
    pub before: Vec<Earlier>,
    /// The call.
    pub call: Call,
    /// What the upstream answers, should the call reach it.
    pub answer: Answer,
    /// What must come of it.
    pub expect: Expect,
}

/// A call before the one that the case is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Earlier {
    /// Who calls; `None`: who makes the call that the case is about.
    pub who: Option<Who>,
    /// The wall clock then; `None`: that of the call after it.
    pub at_ms: Option<u64>,
    /// What others have used by then in the windows of the caller's plan that run at that call, and nobody before.
    pub used: Vec<Amount>,
    /// The call.
    pub call: Call,
    /// What the upstream answers.
    pub answer: Answer,
}

/// One of the calls of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked<'c> {
    /// Who calls.
    pub who: &'c Who,
    /// The wall clock at it in Unix milliseconds; `None`: any moment will do.
    pub at_ms: Option<u64>,
    /// What has been used just before it, and of whose quotas.
    pub used: Vec<(&'c Who, &'c Amount)>,
    /// The call.
    pub call: &'c Call,
    /// What the upstream answers.
    pub answer: &'c Answer,
}

impl Case {
    /// The calls of the case in their order. The last is the one that it is about.
    pub fn calls(&self) -> Vec<Asked<'_>> {
        let mut calls = vec![self.last()];
        let mut next = self.at_ms;
        for Earlier { who, at_ms, used, call, answer } in self.before.iter().rev() {
            next = at_ms.or(next);
            let who = who.as_ref().unwrap_or(&self.who);
            let used = used.iter().map(|used| (who, used)).collect();
            calls.insert(0, Asked { who, at_ms: next, used, call, answer });
        }
        if let Some(first) = calls.first_mut() {
            first.used.extend(self.used.iter().map(|used| (&self.who, used)));
        }
        calls
    }

    /// The call that the case is about.
    pub fn last(&self) -> Asked<'_> {
        Asked { who: &self.who, at_ms: self.at_ms, used: Vec::new(), call: &self.call, answer: &self.answer }
    }
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
    /// `POST /v1/images/generations`.
    OpenAiImages,
    /// `POST /v1/audio/speech`.
    OpenAiSpeech,
    /// `POST /v1/audio/transcriptions`.
    OpenAiTranscription,
    /// `POST /v1/embeddings`.
    OpenAiEmbeddings,
    /// `POST /v1/t2a_v2`.
    MiniMaxSpeech,
    /// `POST /v1/image_generation`.
    MiniMaxImages,
    /// `POST /v1/video_generation`: only the name of its task comes back.
    MiniMaxVideo,
    /// `POST /v1/music_generation`.
    MiniMaxMusic,
}

impl Api {
    /// Whether a model writes text in it.
    pub fn is_text(self) -> bool {
        matches!(self, Self::OpenAiChat | Self::AnthropicMessages)
    }

    /// Whether it is one of MiniMax's own, which tells its errors in a 200.
    pub fn is_minimax(self) -> bool {
        matches!(self, Self::MiniMaxSpeech | Self::MiniMaxImages | Self::MiniMaxVideo | Self::MiniMaxMusic)
    }
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
    /// The limit that it states besides by its older name, `max_tokens` of OpenAI chat.
    pub max_tokens: Option<u64>,
    /// Images that it asks for. Default: 1.
    pub images: u64,
    /// Seconds that the sound in it lasts, as far as its size tells, or that a film is to last. Default: 1, of a film 6.
    pub seconds: u64,
    /// Whether it asks for a stream. Default: no.
    pub stream: bool,
    /// The caller's address; `None`: the loopback address.
    pub from: Option<IpAddr>,
    /// Whether it ends with the result of a tool, and so begins no turn. Default: no.
    pub continues: bool,
    /// Whether it points at what cannot be read: the URL of an image. Default: no.
    pub open: bool,
    /// Further request headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// How it looks on the wire.
    pub wire: Wire,
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
    /// How many of these were written to a cache, where the dialect tells. Default: 0.
    pub cache_write: u64,
    /// Of these, kept for an hour.
    pub cache_write_1h: u64,
    /// How many of the output tokens were reasoning, where the dialect tells. Default: 0.
    pub reasoning: u64,
    /// How many tools it calls; the call offers one then. Default: 0.
    pub tool_calls: u64,
    /// Tools that it has used and that nobody here ran: the provider's by their kinds, those of servers as
    /// `mcp__LABEL__NAME`. Default: none.
    pub used: Vec<String>,
    /// Images that it brings; `None`: as many as were asked for.
    pub images: Option<u64>,
    /// Seconds of sound that it says it has heard, or of the song. Default: those of the call.
    pub seconds: u64,
    /// What the tries before it meet, in turn: a status, or no response. Default: it is the first.
    pub failed: Vec<Option<u16>>,
    /// HTTP status. Default: 200.
    pub status: u16,
    /// Whether it reports no usage. Default: it does report.
    pub silent: bool,
    /// Whether it goes past the output limit that it was given. Default: it heeds it.
    pub past_limit: bool,
    /// Whether it says the prompt's text again, in place of words of its own. Default: no.
    pub echo: bool,
    /// Whether its words are the arguments of a tool that it calls; the call offers one then. Default: no.
    pub arguments: bool,
    /// How long it takes until it begins, in milliseconds. Default: no time.
    pub after_ms: u64,
    /// How long it takes between two tokens of a stream, in milliseconds. Default: no time.
    pub every_ms: u64,
    /// The model that it says has answered; `None`: the one that was asked.
    pub served: Option<String>,
    /// How it ends.
    pub ends: Ends,
}

/// How an answer ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ends {
    /// Whole.
    #[default]
    Whole,
    /// With an error in a 200: in the place of the answer, or in the middle of a stream.
    ErrorInside,
    /// The upstream breaks a stream off after so many output tokens.
    Broken(u64),
    /// The client hangs up after so many output tokens of a stream; 0: before any answer.
    HungUp(u64),
    /// After so many output tokens of a stream nothing more comes, and no end either.
    Silent(u64),
    /// The upstream takes the request and breaks off before it answers.
    NoResponse,
    /// The upstream cannot be reached.
    NoConnection,
    /// Something behind the filter answers in the upstream's place.
    NotSent,
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
    /// The limit that the upstream sees under its older name, `max_tokens` of OpenAI chat.
    pub max_tokens: Option<u64>,
    /// Why the answer ended, in the words of the caller's dialect.
    pub finish: Option<String>,
    /// Output tokens that the caller gets.
    pub delivered: Option<u64>,
    /// The model that the upstream sees.
    pub model: Option<String>,
    /// How the policy let it pass quotas that would have refused it, in turn.
    pub passed: Option<Vec<&'static str>>,
    /// The text of the answer that the caller sees.
    pub text: Option<String>,
    /// How the record says that it ended: the row of the outcome table.
    pub outcome: Option<&'static str>,
    /// The percents of which quotas the record says that the call has reached, in the order of the policy.
    pub reached: Option<Vec<Reached>>,
    /// Output tokens by which the record says that a call of a tool was let end.
    pub graced: Option<u64>,
    /// How often the record says that it was tried.
    pub tries: Option<u64>,
    /// What the record keeps beside its figures.
    pub audit: Option<Audit>,
    /// Request headers that the upstream sees; `None`: it must not see this one.
    pub sent: Vec<(String, Option<String>)>,
}

/// What a record keeps beside its figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audit {
    /// Nothing.
    Nothing,
    /// This, of each field that is named.
    Kept(Vec<(&'static str, String)>),
}

/// How full a quota has become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The quota's name.
    pub quota: String,
    /// The percent.
    pub percent: u8,
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
    /// Its callers, and what it names of their quotas.
    named: Vec<Named>,
}

/// Names of quotas, and the units of what is said of them; `None`: a percent.
type Mentions = Vec<(Spanned<String>, Option<Unit>)>;

/// A caller, and every quota of it that a case names.
#[derive(Debug)]
struct Named {
    who: Spanned<Who>,
    amounts: Mentions,
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

const KEYS: [&str; 8] = ["name", "as", "at", "used", "before", "call", "answer", "expect"];

fn draft(node: &Node, faults: &mut Faults) -> Option<Draft> {
    let fields = Fields::of(node, "a case", &KEYS, faults)?;
    let name = fields
        .required("name", "say in a sentence what the case shows", faults)
        .and_then(|node| text(node, "a case's name", faults));
    let who = fields
        .required("as", "say who calls: `as: {seat: …}` or `as: {key: …}`", faults)
        .and_then(|node| who(node, faults));
    let at_ms = fields.optional("at").and_then(|node| form(node, "at", faults, moment));
    let mut amounts_named = Vec::new();
    let used = fields.optional("used").and_then(|node| amounts(node, "used", &mut amounts_named, faults));
    let mut named = Vec::new();
    let before = fields.optional("before").map(|node| earlier(node, who.as_ref(), at_ms.as_ref(), &mut named, faults));
    let asked = call::asked(&fields, faults);
    let expect = fields
        .required("expect", "say what must come of it: `expect: {decision: allow}`", faults)
        .and_then(|node| expect::read(node, &mut amounts_named, faults));
    let (call, answer) = asked?;
    let who = who?;
    named.insert(0, Named { who: who.clone(), amounts: amounts_named });
    let case = Case {
        name: name?.to_owned(),
        line: node.at.line,
        who: who.value,
        at_ms: at_ms.map(|at| at.value),
        used: used.unwrap_or_default(),
        before: before.unwrap_or_default(),
        call,
        answer,
        expect: expect?,
    };
    Some(Draft { case, at: node.at, named })
}

/// `[{as: {…}, at: …, used: {…}, call: {…}, answer: {…}}]`, none after the one that follows it. `by` makes the last call.
fn earlier(
    node: &Node,
    by: Option<&Spanned<Who>>,
    last: Option<&Spanned<u64>>,
    named: &mut Vec<Named>,
    faults: &mut Faults,
) -> Vec<Earlier> {
    let mut found = Vec::new();
    let mut moments: Vec<Spanned<u64>> = Vec::new();
    for item in list(node, "before", faults).unwrap_or_default() {
        let Some(fields) = Fields::of(item, "before", &["as", "at", "used", "call", "answer"], faults) else {
            continue;
        };
        let other = fields.optional("as").and_then(|node| who(node, faults));
        let at = fields.optional("at").and_then(|node| form(node, "before.at", faults, moment));
        let mut of_caller = Vec::new();
        let used = fields.optional("used").and_then(|node| amounts(node, "before.used", &mut of_caller, faults));
        let asked = call::asked(&fields, faults);
        found.extend(asked.map(|(call, answer)| Earlier {
            who: other.as_ref().map(|who| who.value.clone()),
            at_ms: at.as_ref().map(|at| at.value),
            used: used.unwrap_or_default(),
            call,
            answer,
        }));
        named.extend(other.as_ref().or(by).map(|who| Named { who: who.clone(), amounts: of_caller }));
        moments.extend(at);
    }
    let first = moments.first().map(|at| at.at);
    let later = moments.iter().skip(1).chain(last);
    if let Some((_, late)) = moments.iter().zip(later).find(|(one, next)| one.value > next.value) {
        faults.add(
            late.at,
            Code::Conflict,
            "this call comes before the one in front of it",
            "put them into their order",
        );
    } else if let Some(at) = first.filter(|_| last.is_none()) {
        faults.add(
            at,
            Code::Conflict,
            "the case has moments before its call, and none of its own",
            "state its `at` too",
        );
    }
    found
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
fn amounts(node: &Node, what: &str, named: &mut Mentions, faults: &mut Faults) -> Option<Vec<Amount>> {
    let entries = map(node, what, faults)?;
    let mut one = |entry: &Entry| {
        let (micro, unit) = form(&entry.value, &format!("{what}.{}", entry.key), faults, amount)?.value;
        named.push((Spanned { at: entry.at, value: entry.key.clone() }, Some(unit)));
        Some(Amount { quota: entry.key.clone(), micro })
    };
    Some(entries.iter().filter_map(&mut one).collect())
}

/// No case states more tokens than this.
const MOST_TOKENS: u64 = 100_000_000;

fn status(node: Option<&Node>, what: &str, faults: &mut Faults) -> Option<u16> {
    whole(node?, what, 200, 599, faults).and_then(|status| u16::try_from(status).ok())
}
