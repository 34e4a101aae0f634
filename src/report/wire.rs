//! The wire format between filter and collector, version 1: MessagePack maps with field names.
//!
//! Anybody may write a collector; this page is all it takes.
//!
//! # The call
//!
//! `POST /v1/sync`, content type `application/msgpack`. The body is one [`SyncHead`], followed by
//! `head.records` [`Record`]s, each a MessagePack value of its own: a batch is a concatenation.
//! The answer is `200` with one [`SyncReply`] when everything was committed; any other status means
//! that nothing was, and the same batch comes again, later and perhaps in other company.
//!
//! - Unknown fields are ignored on both sides, missing ones have the value zero, empty or none.
//! - Amounts are micro-units (`quota::MICRO`: 1,000,000 are one token, request or credit); times are Unix
//!   milliseconds; enumerations are lower-case words (`"complete"`, `"reported"`).
//! - A body is at most [`MAX_BODY`] bytes, [`MAX_RECORDS`] records and [`MAX_ACCOUNTS`] accounts long, and
//!   nests at most [`MAX_DEPTH`] deep.
//!
//! # What a collector must do
//!
//! 1. Apply each record once: `record.id` is the key. A known id is acknowledged again and changes nothing.
//! 2. Commit before it answers.
//! 3. Name every record of the batch, by id in `acknowledged` or by position in `rejected`; only a record
//!    that will *never* be taken is rejected, because the filter then drops it.
//! 4. Merge `used`, `returned` and `granted` of a (bundle, subject, quota, window, epoch) by maximum: a sync
//!    may be repeated or overtaken by an older one.
//! 5. Answer each [`QuotaReport`] with a [`Grant`]. Over all epochs, granted less returned never passes
//!    `limit` and what was carried, less what is owed. `want` is relative to the `granted` stated beside it: if the ledger has already granted more
//!    than that, the want is (partly) met by saying so.
//! 6. Decide when a first-use window (`length_ms` above 0) opens, the same for all epochs: with the first `want`. That
//!    may come to nothing, and the filter then gives back all that it was granted. So a window in which nobody has used
//!    anything, and of which no epoch has anything left (`granted` is `returned`), ends with the next `want`, which opens
//!    another.
//! 7. Carry what is left in a window that has ended into the next, up to `rollover`: it is a part of what that window
//!    has, and no more of what the old one had. What was granted and not returned is not left.
//! 8. Take what all epochs together used of a window beyond what it had off what the next one has, and what that does not
//!    cover off the one after; each window that was skipped (`every_ms`) pays a whole `limit` of it. What a window had is
//!    the most that was stated while it ran; one of which any epoch says `waived` makes no debt. Not so where `every_ms`
//!    and `length_ms` are both 0: such a window stands alone.
//!
//! # Try it
//!
//! A sync without records, `{"farebox": 1, "bundle": "acme", "epoch": 7}`; the answer holds no grants:
//!
//! ```text
//! printf '\x83\xa7farebox\x01\xa6bundle\xa4acme\xa5epoch\x07' |
//!   curl -s --data-binary @- -H 'content-type: application/msgpack' http://127.0.0.1:8081/v1/sync | xxd
//! ```
//!
//! `tests/golden/wire/` has one example of each message, as hex and as JSON.

mod reply;

use std::fmt;

use serde::de::{DeserializeOwned, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::msgpack::split_value;
use crate::meter::usage::{Source, Usage};

/// The version of this format.
pub const VERSION: u32 = 1;
/// Longest body of a sync, in bytes.
pub const MAX_BODY: usize = 8 << 20;
/// Most records in a sync.
pub const MAX_RECORDS: usize = 4096;
/// Most accounts in a sync.
pub const MAX_ACCOUNTS: usize = 4096;
/// Most quotas in an account's report, and most charges in a record.
pub const MAX_QUOTAS: usize = 256;
/// Deepest nesting of a message, unknown fields included.
pub const MAX_DEPTH: usize = 32;
/// Most grants in a reply: one for each quota that a sync can report.
const MAX_GRANTS: usize = MAX_ACCOUNTS * MAX_QUOTAS;

/// One settled exchange.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// The exchange id (`quota::ExchangeId` as text): the idempotency key.
    pub id: String,
    /// Bundle name.
    pub bundle: String,
    /// Bundle version.
    pub version: String,
    /// Plan, `name@version` as written.
    pub plan: String,
    /// Seat name.
    pub seat: String,
    /// Organisation name.
    pub org: String,
    /// The model that was asked for.
    pub model: String,
    /// The model that it was sent to instead; empty: to the one asked for.
    pub sent: String,
    /// The model that the provider says it served; empty when it did not say.
    pub served: String,
    /// The wire format: a name of [`Dialect`](crate::meter::dialect::Dialect), for example `openai-chat`.
    pub dialect: String,
    /// Whether the answer was a stream.
    pub stream: bool,
    /// When it came: its price is that of then.
    pub came_ms: u64,
    /// When it was admitted.
    pub admitted_ms: u64,
    /// When it was settled.
    pub settled_ms: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// HTTP status from the upstream; 0 when there was none.
    pub status: u16,
    /// Tries that Envoy made upstream.
    pub attempts: u32,
    /// What is charged for.
    pub usage: Usage,
    /// The part of `usage` that tries cost which failed before the last, in input tokens of all kinds.
    #[serde(skip_serializing_if = "is_zero")]
    pub failed_input: u64,
    /// Where `usage` came from.
    pub source: Source,
    /// What the provider reported, if anything.
    pub reported: Option<Usage>,
    /// Output tokens that passed through to the client, counted here.
    pub delivered: u64,
    /// Turns of a conversation that are charged for, in micro-units.
    pub prompts: u64,
    /// Tools that the answer called.
    pub tool_calls: u64,
    /// What the policy let pass that a guard or a quota would have refused, guards first.
    #[serde(deserialize_with = "at_most::<MAX_QUOTAS, _, _>")]
    pub passed: Vec<Pass>,
    /// Quotas that this exchange has filled up to a percent that the policy asks to be told of. More than one exchange
    /// may say the same: each VM says it once a window.
    #[serde(deserialize_with = "at_most::<MAX_QUOTAS, _, _>")]
    pub reached: Vec<Reached>,
    /// The part of `delivered` by which a call of a tool was let end when the stream had to be cut.
    pub graced: u64,
    /// What was charged, quota by quota.
    #[serde(deserialize_with = "at_most::<MAX_QUOTAS, _, _>")]
    pub charges: Vec<Charge>,
    /// What is kept of it beside its figures, where its plan says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit: Option<Audit>,
}

/// How a call came, and what was said. Texts are without secrets and personal data, and some 16 KiB at most, the last of
/// what there was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Audit {
    /// The caller's address; empty where it is not known.
    pub address: String,
    /// What the client says that it is (`user-agent`); anybody can say anything.
    pub agent: String,
    /// The path, without its query.
    pub path: String,
    /// What was found in the call, then in its answer, each as `rule:action:times`.
    #[serde(deserialize_with = "at_most::<MAX_QUOTAS, _, _>")]
    pub findings: Vec<String>,
    /// What was asked, as it left for the upstream: a line each text. Empty where texts are not kept.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub prompt: String,
    /// What was answered, as the caller got it, but for what was put back in the place of names.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub answer: String,
    /// More was asked than is kept of it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub prompt_cut: bool,
    /// More was answered than is kept of it: it was too long, broke off in the middle of what may have been a secret, had
    /// too many texts side by side, or could not be read.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub answer_cut: bool,
}

/// What few exchanges have costs the others no byte.
fn is_zero(figure: &u64) -> bool {
    *figure == 0
}

/// How full a quota has become.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reached {
    /// The account.
    pub subject: String,
    /// `plan/quota`, as in a charge.
    pub quota: String,
    /// Start of the window.
    pub window: u64,
    /// The percent that it has reached.
    pub percent: u8,
}

/// A quota or a guard that was in the way, and what was done about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pass {
    /// `observed`, `overage`, `throttled`, `downgraded` or `waited`. Or `refused`: the call was, and counts all the same
    /// where a cap says so; its outcome is `never_sent`.
    pub how: String,
    /// The quota's name, or the guard's; of a call that was refused, what refused it.
    pub quota: String,
}

/// An amount taken from one quota.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Charge {
    /// The account, for example `org/acme`.
    pub subject: String,
    /// `plan/quota`, the plan without version.
    pub quota: String,
    /// `tokens`, `input_tokens`, `requests`, `credits`, `CNY` and so on: the policy's words, joined by `_`.
    pub unit: String,
    /// Start of the window it was admitted in; 0 where windows have no start.
    pub window: u64,
    /// Micro-units.
    pub amount: u64,
}

/// How an exchange ended: the rows of the outcome table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "&'static str", try_from = "String")]
pub enum Outcome {
    /// Admitted, but it never left for the upstream.
    NeverSent,
    /// No connection to the upstream.
    ConnectFailure,
    /// Reset or timeout before response headers.
    NoResponse,
    /// The upstream answered 4xx or 5xx.
    UpstreamError,
    /// Status 200 with an error inside.
    ErrorInside,
    /// The client hung up.
    Aborted,
    /// We cut the stream at a limit.
    CutByUs,
    /// The upstream broke off.
    CutByUpstream,
    /// Complete, and the provider reported usage.
    Complete,
    /// Complete, and the provider was silent or absurd.
    CompleteSilent,
    /// Its VM died; ended by recovery.
    #[default]
    Unsettled,
}

impl From<Outcome> for &'static str {
    fn from(outcome: Outcome) -> Self {
        outcome.name()
    }
}

impl TryFrom<String> for Outcome {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|outcome| outcome.name() == name);
        found.ok_or_else(|| format!("`{name}` is no outcome"))
    }
}

const _: () = assert!(Outcome::Unsettled as usize + 1 == Outcome::ALL.len(), "an outcome is not in the list");

impl Outcome {
    /// All of them, in the order of the outcome table.
    pub const ALL: [Self; 11] = [
        Self::NeverSent,
        Self::ConnectFailure,
        Self::NoResponse,
        Self::UpstreamError,
        Self::ErrorInside,
        Self::Aborted,
        Self::CutByUs,
        Self::CutByUpstream,
        Self::Complete,
        Self::CompleteSilent,
        Self::Unsettled,
    ];

    /// Its name on the wire, in logs and in metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::NeverSent => "never_sent",
            Self::ConnectFailure => "connect_failure",
            Self::NoResponse => "no_response",
            Self::UpstreamError => "upstream_error",
            Self::ErrorInside => "error_inside",
            Self::Aborted => "aborted",
            Self::CutByUs => "cut_by_us",
            Self::CutByUpstream => "cut_by_upstream",
            Self::Complete => "complete",
            Self::CompleteSilent => "complete_silent",
            Self::Unsettled => "unsettled",
        }
    }
}

/// The head of a sync.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SyncHead {
    /// [`VERSION`].
    pub farebox: u32,
    /// Bundle name.
    pub bundle: String,
    /// Process epoch.
    pub epoch: u64,
    /// VM slot.
    pub vm: u16,
    /// Generation of the VM slot.
    pub generation: u32,
    /// The lowest sequence of this incarnation that is not yet acknowledged.
    pub lowest: u64,
    /// The next sequence of this incarnation: one below `lowest` that the ledger lacks is a proven loss.
    pub next: u64,
    /// How many records follow.
    pub records: u32,
    /// How the accounts that this VM touched stand.
    #[serde(deserialize_with = "at_most::<MAX_ACCOUNTS, _, _>")]
    pub accounts: Vec<AccountReport>,
}

/// How one account of this epoch stands. Cumulative: repeating it is harmless.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AccountReport {
    /// The account, for example `org/acme`.
    pub subject: String,
    /// Its granted quotas.
    #[serde(deserialize_with = "at_most::<MAX_QUOTAS, _, _>")]
    pub quotas: Vec<QuotaReport>,
}

/// How one granted quota stands in this epoch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct QuotaReport {
    /// `plan/quota`, the plan without version.
    pub quota: String,
    /// Unit name, as in [`Charge::unit`].
    pub unit: String,
    /// What the whole window has, in micro-units.
    pub limit: u64,
    /// The window that this report speaks of: its start; 0: first use, not open here.
    pub window: u64,
    /// The window's end; 0 for a first-use window that is not open here.
    pub ends: u64,
    /// Above zero: a first-use window of this length; the ledger says when it opened.
    pub length_ms: u64,
    /// Charged in this window by this epoch, cumulative.
    pub used: u64,
    /// Given back in this window by this epoch, cumulative.
    pub returned: u64,
    /// Granted in this window as this epoch knows it, cumulative.
    pub granted: u64,
    /// Micro-units wanted beyond that now; 0: just reporting.
    pub want: u64,
    /// Most of what is left unspent in a window that goes over into the next, in micro-units; 0: it lapses.
    pub rollover: u64,
    /// Mean length of a window, where each follows the one before it without a gap, in milliseconds: so the ledger can
    /// tell how many were skipped, which roll over whole. 0: they do not follow each other.
    pub every_ms: u64,
    /// Calls were let pass in this window that the quota, enforced, would have refused: what it is charged is no debt.
    pub waived: bool,
}

/// The collector's answer: everything in the batch is committed.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SyncReply {
    /// [`VERSION`].
    pub farebox: u32,
    /// Ids of all records of the batch that the ledger now has, new or known before.
    pub acknowledged: Vec<String>,
    /// Records the ledger will never take, with the reason; they are dropped and counted.
    pub rejected: Vec<Rejection>,
    /// One line a reported quota.
    pub grants: Vec<Grant>,
}

/// A record that the ledger will never take.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rejection {
    /// Its position in the batch, from 0.
    pub position: u32,
    /// Why.
    pub reason: String,
}

/// What an epoch may spend of a quota. Cumulative: merge by maximum.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Grant {
    /// The account.
    pub subject: String,
    /// `plan/quota`.
    pub quota: String,
    /// Start of the window that this grant is for; for first use: when it opened.
    pub window: u64,
    /// Its end. Where it lies in the past, the window runs on by the ledger's clock: the filter asks again soon.
    pub ends: u64,
    /// Cumulative micro-units this epoch may spend in this window.
    pub granted: u64,
    /// What the ledger could still grant to anybody.
    pub left: u64,
    /// What earlier windows were charged beyond theirs and this one cannot pay with all that it has: an overage has to
    /// bear that first.
    pub owed: u64,
}

/// Why bytes are no message of this format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WireError {
    /// The head of a sync does not decode.
    Head(String),
    /// A reply does not decode.
    Reply(String),
    /// It speaks another version of this format.
    Version(u32),
    /// The head states more records than one sync may have.
    TooMany(u32),
    /// The body ends inside the record at this position.
    CutShort(u32),
    /// This many bytes follow the last value.
    Trailing(usize),
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head(why) => write!(f, "the sync's head is not a MessagePack map of this format: {why}"),
            Self::Reply(why) => write!(f, "the reply is not a MessagePack map of this format: {why}"),
            Self::Version(version) => {
                write!(f, "format version `{version}` is not spoken here: field `farebox` must be {VERSION}")
            }
            Self::TooMany(records) => {
                write!(
                    f,
                    "the head states `{records}` records, one sync has at most {MAX_RECORDS}: send smaller batches"
                )
            }
            Self::CutShort(position) => write!(f, "the body ends inside record {position}, counted from 0"),
            Self::Trailing(bytes) => write!(f, "{bytes} bytes follow the last value that the head states"),
        }
    }
}

impl std::error::Error for WireError {}

/// Reads one record as the filter keeps it; `None`: it is none.
///
/// By way of a tree: a part of the code that reading at once is compiled to, which is compiled anew for each type. Nobody
/// else's bytes are read so, as a tree is many times their size.
pub fn decode_record(bytes: &[u8]) -> Option<Record> {
    // A map is two levels here, and a string three.
    let tree = rmpv::decode::read_value_with_max_depth(&mut &*bytes, 2 * MAX_DEPTH + 3).ok()?;
    rmpv::ext::from_value(tree).ok()
}

/// A record as it is kept in its slot and sent: encoded once, at settle.
pub fn encode_record(record: &Record) -> Vec<u8> {
    encode(record)
}

/// The body of a sync: the head, with `records` set to their number, and the records as they were encoded.
///
/// The caller keeps to [`MAX_RECORDS`], [`MAX_ACCOUNTS`] and [`MAX_BODY`].
pub fn encode_sync(head: &SyncHead, records: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut body = encode(&SyncHead { records: u32::try_from(records.len()).unwrap_or(u32::MAX), ..head.clone() });
    records.iter().for_each(|record| body.extend_from_slice(record.as_ref()));
    body
}

/// A sync's head and its records, in order; a record that does not decode is an `Err` that says why.
pub fn decode_sync(body: &[u8]) -> Result<(SyncHead, Vec<Result<Record, String>>), WireError> {
    let (first, mut rest) = split_value(body).ok_or_else(|| WireError::Head("it is cut short".to_owned()))?;
    let head: SyncHead = decode(first).map_err(WireError::Head)?;
    if head.farebox != VERSION {
        return Err(WireError::Version(head.farebox));
    }
    if head.records as usize > MAX_RECORDS {
        return Err(WireError::TooMany(head.records));
    }
    let mut records = Vec::new();
    for position in 0..head.records {
        let (value, tail) = split_value(rest).ok_or(WireError::CutShort(position))?;
        records.push(decode(value));
        rest = tail;
    }
    if rest.is_empty() { Ok((head, records)) } else { Err(WireError::Trailing(rest.len())) }
}

/// The body of an answer.
pub fn encode_reply(reply: &SyncReply) -> Vec<u8> {
    encode(reply)
}

/// The collector's answer. Anything but one map of this version is an error: then nothing was acknowledged.
pub fn decode_reply(body: &[u8]) -> Result<SyncReply, WireError> {
    let (value, rest) = split_value(body).ok_or_else(|| WireError::Reply("it is cut short".to_owned()))?;
    let reply = reply::read(value).map_err(WireError::Reply)?;
    match (reply.farebox, rest.len()) {
        (VERSION, 0) => Ok(reply),
        (VERSION, bytes) => Err(WireError::Trailing(bytes)),
        (version, _) => Err(WireError::Version(version)),
    }
}

/// Named maps. Writing these types into memory has no way to fail, so there is no error to hand on.
fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    rmp_serde::to_vec_named(value).unwrap_or_default()
}

/// One whole value, with bounded recursion.
fn decode<T: DeserializeOwned>(value: &[u8]) -> Result<T, String> {
    let mut decoder = rmp_serde::Deserializer::from_read_ref(value);
    decoder.set_max_depth(MAX_DEPTH);
    T::deserialize(&mut decoder).map_err(|error| error.to_string())
}

/// A list of at most `MOST` elements: a byte on the wire can become hundreds in memory.
fn at_most<'de, const MOST: usize, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    struct Bounded<T, const MOST: usize>(std::marker::PhantomData<T>);

    impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for Bounded<T, MOST> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {MOST} elements")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
            let mut list = Vec::new();
            while let Some(element) = seq.next_element()? {
                if list.len() == MOST {
                    return Err(A::Error::invalid_length(MOST + 1, &self));
                }
                list.push(element);
            }
            Ok(list)
        }
    }

    from.deserialize_seq(Bounded::<T, MOST>(std::marker::PhantomData))
}

#[cfg(test)]
mod tests;
