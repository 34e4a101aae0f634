//! The wire format between filter and collector, version 1: MessagePack maps with field names.
//!
//! `POST /v1/sync`, content type `application/msgpack`. The body is one [`SyncHead`], followed by
//! `head.records` [`Record`]s, each a MessagePack value of its own: a batch is a concatenation.
//! The answer is `200` with one [`SyncReply`] when everything was committed; any other status means
//! that nothing was, and the same batch comes again. Unknown fields are ignored on both sides.
//! Amounts are micro-units (`quota::MICRO`); times are Unix milliseconds.

use serde::{Deserialize, Serialize};

use crate::meter::usage::{Source, Usage};

/// The version of this format.
pub const VERSION: u32 = 1;

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
    /// The model that the provider says it served; empty when it did not say.
    pub served: String,
    /// `openai-chat` or `anthropic-messages`.
    pub dialect: String,
    /// Whether the answer was a stream.
    pub stream: bool,
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
    /// Where `usage` came from.
    pub source: Source,
    /// What the provider reported, if anything.
    pub reported: Option<Usage>,
    /// Output tokens that passed through to the client, counted here.
    pub delivered: u64,
    /// What was charged, quota by quota.
    pub charges: Vec<Charge>,
}

/// An amount taken from one quota.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Charge {
    /// The account, for example `org/acme`.
    pub subject: String,
    /// `plan/quota`, the plan without version.
    pub quota: String,
    /// `tokens`, `input_tokens`, `output_tokens`, `requests` or `credits`.
    pub unit: String,
    /// Start of the window it was admitted in; 0 where windows have no start.
    pub window: u64,
    /// Micro-units.
    pub amount: u64,
}

/// How an exchange ended: the rows of the outcome table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
    pub accounts: Vec<AccountReport>,
}

/// How one account of this epoch stands. Cumulative: repeating it is harmless.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AccountReport {
    /// The account, for example `org/acme`.
    pub subject: String,
    /// Its granted quotas.
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
}

/// The collector's answer: everything in the batch is committed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
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
    /// Its end.
    pub ends: u64,
    /// Cumulative micro-units this epoch may spend in this window.
    pub granted: u64,
    /// What the ledger could still grant to anybody.
    pub left: u64,
}
