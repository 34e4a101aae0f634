//! The compiled policy: what the engine holds. Immutable, complete, every reference resolved to an index.

use ipnet::IpNet;

use crate::meter::count::Encoding;
use crate::meter::usage::Usage;
use crate::quota::Quota;

/// Everything one policy file says.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// `bundle.name`: keys in shared data carry it, so it names the counters.
    pub name: String,
    /// `bundle.version`, free text for people and records.
    pub version: String,
    /// First eight bytes of SHA-256 over the file as loaded; pinned in every record.
    pub hash: u64,
    /// How the host hands over request headers.
    pub headers: HostMode,
    /// The header names that may carry a key, lower case, in the order of the policy.
    pub credentials: Vec<String>,
    /// How many trusted proxies stand in front: that many addresses from the right of `x-forwarded-for` are theirs.
    pub trusted_proxies: u8,
    /// All known keys.
    pub keys: Vec<Key>,
    /// All seats; [`Key::seat`] points here.
    pub seats: Vec<Seat>,
    /// All models.
    pub models: Models,
    /// All plans; [`Seat::plan`] points here.
    pub plans: Vec<Plan>,
    /// What happens to calls that are no LLM call, or that cannot be read.
    pub unknown: Unknown,
    /// Where records go and grants come from. `None`: the limits are the grants, counters live as long as the process.
    pub collector: Option<Collector>,
}

/// How the host hands over request headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostMode {
    /// Headers are held until the body has been read (`allow_on_headers_stop_iteration`): the full product.
    Held,
    /// Headers leave before the body is read: nothing of them can be changed from the body.
    First,
}

/// One key of one seat.
#[derive(Clone, Debug)]
pub struct Key {
    /// SHA-256 of the key's bytes.
    pub sha256: [u8; 32],
    /// Index into [`Bundle::seats`].
    pub seat: usize,
}

/// One consumer.
#[derive(Clone, Debug)]
pub struct Seat {
    /// Its name; the account is `seat/<name>`.
    pub name: String,
    /// Its organisation; the account is `org/<name>`.
    pub org: String,
    /// Index into [`Bundle::plans`]; `None`: no plan is assigned, every call is refused.
    pub plan: Option<usize>,
}

impl Bundle {
    /// The plan that a record names by its [label](Plan::label), or another version of it: they share their counters.
    pub fn plan_of(&self, label: &str) -> Option<&Plan> {
        let name = label.split('@').next().unwrap_or_default();
        let exact = self.plans.iter().find(|plan| plan.label() == label);
        exact.or_else(|| self.plans.iter().find(|plan| plan.name == name))
    }
}

/// The model catalogue.
#[derive(Clone, Debug)]
pub struct Models {
    /// Exact names and globs, longest pattern first, exact names before globs: the first match is the model.
    pub rows: Vec<Model>,
}

/// One line of the catalogue.
#[derive(Clone, Debug)]
pub struct Model {
    /// The name or glob as written.
    pub pattern: String,
    /// `None`: an exact name.
    pub glob: Option<globset::GlobMatcher>,
    /// How its text is counted.
    pub encoding: Encoding,
    /// What a token costs.
    pub weights: Weights,
}

/// Micro-credits per token, by direction.
///
/// Rates are integers per million tokens; the sum is rounded up once an exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weights {
    /// Micro-credits per million uncached input tokens.
    pub input: u64,
    /// Micro-credits per million input tokens read from a cache.
    pub cache_read: u64,
    /// Micro-credits per million input tokens written to a cache.
    pub cache_write: u64,
    /// Micro-credits per million output tokens.
    pub output: u64,
}

/// What is sold or assigned.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The name without version: part of every quota's identity.
    pub name: String,
    /// The part after `@`, if any.
    pub version: Option<String>,
    /// Funds in the order in which they pay, then caps, as written.
    pub quotas: Vec<PlanQuota>,
    /// How exchanges are held.
    pub hold: HoldRule,
    /// Who may call from where, and how much at a time.
    pub connectivity: Connectivity,
    /// What may be asked.
    pub security: Security,
}

impl Plan {
    /// The plan as the policy writes it: `name` or `name@version`.
    pub fn label(&self) -> String {
        match &self.version {
            Some(version) => format!("{}@{version}", self.name),
            None => self.name.clone(),
        }
    }
}

/// A quota of a plan.
#[derive(Clone, Debug)]
pub struct PlanQuota {
    /// Its name, unique in the plan: what refusals, records and metrics call it.
    pub name: String,
    /// Who pays, or how fast.
    pub role: Role,
    /// What it measures.
    pub unit: Unit,
    /// Whose account it is in.
    pub per: Per,
    /// The arithmetic part.
    pub quota: Quota,
}

/// A fund or a cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Who pays.
    Fund,
    /// How fast.
    Cap,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// All tokens.
    Tokens,
    /// Input tokens, cached ones included.
    InputTokens,
    /// Output tokens, reasoning included.
    OutputTokens,
    /// Admitted exchanges.
    Requests,
    /// The weighted sum of [`Weights`].
    Credits,
}

impl Unit {
    /// Its name in records: `report::wire::Charge::unit`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::InputTokens => "input_tokens",
            Self::OutputTokens => "output_tokens",
            Self::Requests => "requests",
            Self::Credits => "credits",
        }
    }

    /// Micro-units that `usage` comes to: one exchange of a model with `weights`.
    pub fn amount(self, usage: &Usage, weights: &Weights) -> u64 {
        use crate::quota::MICRO;
        match self {
            Self::Tokens => usage.total().saturating_mul(MICRO),
            Self::InputTokens => usage.input_total().saturating_mul(MICRO),
            Self::OutputTokens => usage.output.saturating_mul(MICRO),
            Self::Requests => MICRO,
            Self::Credits => weights.charge(usage),
        }
    }
}

impl Weights {
    /// Micro-credits for `usage`, rounded up once.
    pub fn charge(&self, usage: &Usage) -> u64 {
        let part = |tokens: u64, rate: u64| u128::from(tokens) * u128::from(rate);
        let sum = part(usage.input, self.input)
            .saturating_add(part(usage.cache_read, self.cache_read))
            .saturating_add(part(usage.cache_write, self.cache_write))
            .saturating_add(part(usage.output, self.output));
        u64::try_from(sum.div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }
}

/// Whose account a quota is in. The order is the order in which accounts are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Per {
    /// The seat's own.
    Seat,
    /// Shared by the seats of an organisation.
    Org,
}

/// How exchanges of a plan are held and charged.
#[derive(Clone, Debug)]
pub struct HoldRule {
    /// Output tokens assumed, and asked of the provider, when the request states no limit.
    pub unstated_output: u64,
    /// An output limit is never clamped below this many tokens; what does not fit then is refused.
    pub shrink_to: u64,
    /// What an exchange costs whose VM died.
    pub lost: Lost,
}

/// What an exchange costs whose VM died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// All that was held.
    Held,
    /// What had been delivered when its slot was last written.
    Delivered,
}

/// The connectivity third of a plan.
#[derive(Clone, Debug, Default)]
pub struct Connectivity {
    /// Networks the caller must be in; empty: any.
    pub sources: Vec<IpNet>,
    /// The value of `x-farebox-tier` on the request that goes upstream.
    pub tier: Option<String>,
}

/// The security third of a plan.
#[derive(Clone, Debug, Default)]
pub struct Security {
    /// Model names and globs that may be asked for; empty: every model of the catalogue.
    pub models: Vec<globset::GlobMatcher>,
    /// Longest input in tokens.
    pub longest_input: Option<u64>,
    /// Whether prompts that carry a secret are refused.
    pub deny_secrets: bool,
}

/// What happens to calls that are no LLM call, or that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// A path that no dialect knows.
    pub path: OnUnknown,
    /// A body of a known path that cannot be read (broken JSON, compressed, too large).
    pub body: OnUnknown,
}

/// Pass or deny.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnknown {
    /// It goes upstream, unmetered, and shows in metrics.
    Pass,
    /// It is refused.
    Deny,
}

/// Where records go and grants come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    /// The Envoy cluster's name.
    pub cluster: String,
    /// Milliseconds between syncs.
    pub sync_ms: u64,
    /// Bytes of settled records a VM keeps while the collector is away; beyond that new calls are refused.
    pub buffer_bytes: u64,
    /// Longest wait of a request for a grant, in milliseconds.
    pub patience_ms: u64,
}
