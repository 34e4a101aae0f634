//! The compiled policy: what the engine holds. Immutable, complete, every reference resolved to an index.

use super::price::{self, FactorLine, Price, Rates};
use super::succession::Charter;
use super::unit::Unit;
use crate::meter::count::Encoding;
use crate::meter::dialect::{Api, Asked, Named};
use crate::quota::{Quota, QuotaId, Window};
use crate::scan::Scanner;

pub use super::agents::{Loops, Repeats};
pub use super::audit::Audit;
pub use super::band::Band;
pub use super::connectivity::{Connectivity, Streaming, Timeouts};
pub use super::fallback::{Fallback, LONGEST_REST_MS};
pub use super::guard::Guard;
pub use super::identity::{By, San, Voucher};
pub use super::images::Images;
pub use super::names::{Names, matches};
pub use super::retry::Retry;
pub use super::security::{Security, SystemRule, Tools};

/// Everything one policy file says.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// `bundle.name`: keys in shared data carry it, so it names the counters.
    pub name: String,
    /// What its successor has to keep.
    pub charter: Charter,
    /// `bundle.version`, free text for people and records.
    pub version: String,
    /// First eight bytes of SHA-256 over the file as loaded; pinned in every record.
    pub hash: u64,
    /// Whether decisions take effect.
    pub mode: Mode,
    /// What hashes of screened texts are made with: made from the file as loaded, and told nobody.
    pub mask_key: [u8; 32],
    /// How the host hands over request headers.
    pub headers: HostMode,
    /// The header names that may carry a key, lower case, in the order of the policy.
    pub credentials: Vec<String>,
    /// Who else says whose call it is, in the order of the policy.
    pub vouchers: Vec<Voucher>,
    /// How many trusted proxies stand in front: that many addresses from the right of `x-forwarded-for` are theirs.
    pub trusted_proxies: u8,
    /// All known keys.
    pub keys: Vec<Key>,
    /// All seats; [`Key::seat`] points here.
    pub seats: Vec<Seat>,
    /// All models.
    pub models: Models,
    /// All plans as they are assigned: one that is assigned with several subscription days stands here for each of
    /// them. [`Subscription::plan`] points here.
    pub plans: Vec<Plan>,
    /// Top-ups, soonest end first.
    pub packs: Vec<Pack>,
    /// What groups calls into sessions: header names in lower case, in the order in which they are looked for.
    pub session: Vec<String>,
    /// The path at which a key is told how its own quotas stand; `None`: nowhere.
    pub balance: Option<String>,
    /// What happens to calls that are no LLM call, or that cannot be read.
    pub unknown: Unknown,
    /// The model as whose calls those are counted, by their bytes, of which nobody knows the format, whatever
    /// [`unknown`](Self::unknown) says of their paths.
    pub counted_as: Option<String>,
    /// Where records go and grants come from. `None`: the limits are the grants, counters live as long as the process.
    pub collector: Option<Collector>,
}

/// Whether decisions take effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// They do.
    #[default]
    Enforce,
    /// Quotas are decided and reported, and no call is refused or changed for their sake.
    Observe,
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
    /// Its organisation; empty where the policy has no such level.
    pub org: String,
    /// Its accounts by level: `seat/<name>` first, `org/<name>` and the like after it, in the order in which accounts
    /// are written. Empty where it belongs to nothing of that level.
    pub subjects: Vec<String>,
    /// What it has subscribed to; `None`: no plan is assigned, every call is refused.
    pub subscription: Option<Subscription>,
}

/// What a seat has, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Index into [`Bundle::plans`].
    pub plan: usize,
    /// Unix milliseconds, from the first up to and without the second.
    pub term: (u64, u64),
    /// Whether it is suspended.
    pub frozen: bool,
}

impl Bundle {
    /// The plan that a record names by its [label](Plan::label), or another version of it: they share their counters.
    pub fn plan_of(&self, label: &str) -> Option<&Plan> {
        let name = label.split('@').next().unwrap_or_default();
        let exact = self.plans.iter().find(|plan| plan.label() == label);
        exact.or_else(|| self.plans.iter().find(|plan| plan.name == name || plan.first_name == name))
    }

    /// The plan of a seat.
    pub fn plan_for(&self, seat: &Seat) -> Option<&Plan> {
        self.plans.get(seat.subscription?.plan)
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
    /// What it costs in credits.
    pub credits: Rates,
    /// What it costs in the bundle's currency.
    pub money: Rates,
    /// What its calls weigh, by hour, date and API: the first line that applies; else once.
    pub factor: Vec<FactorLine>,
    /// The APIs that it is served by; empty: any.
    pub speaks: Vec<Named>,
    /// Where it is served; empty: nobody says.
    pub regions: Vec<String>,
    /// The name that it is another one of, where that is exact.
    pub alias: Option<String>,
}

impl Model {
    /// What a call for `name` that falls to this line is really for.
    pub fn real<'a>(&'a self, name: &'a str) -> &'a str {
        self.alias.as_deref().unwrap_or(name)
    }

    /// The price of a call that is admitted at `wall_ms`, with priced amounts rounded up to multiples of `round`.
    pub fn price(&self, wall_ms: u64, api: Api, round: u64) -> Price {
        let (factor, long) = price::factor(&self.factor, wall_ms, api);
        Price { credits: self.credits, money: self.money, factor, long, round, hours: true }
    }

    /// Whether its calls always cost what those of `other` do.
    pub fn costs_as(&self, other: &Self) -> bool {
        (self.credits, self.money, &self.factor) == (other.credits, other.money, &other.factor)
    }

    /// The first of these regions in which it is served.
    pub fn region<'a>(&self, allowed: &'a [String]) -> Option<&'a str> {
        allowed.iter().find(|region| self.regions.contains(region)).map(String::as_str)
    }

    /// Whether it is served by this API.
    pub fn speaks(&self, api: Api) -> bool {
        self.speaks.is_empty() || self.speaks.iter().any(|named| named.means(api))
    }
}

/// What is sold or assigned.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The name without version.
    pub name: String,
    /// The name without version that it was first given: part of every quota's identity.
    pub first_name: String,
    /// The part after `@`, if any.
    pub version: Option<String>,
    /// Funds in the order in which they pay, then caps, as written.
    pub quotas: Vec<PlanQuota>,
    /// Where packs stand among the funds.
    pub packs: Vec<PacksHere>,
    /// What happens when no fund can pay, in order; what follows the last is a refusal.
    pub empty: Vec<Relief>,
    /// When somebody is told how full a quota is.
    pub warn: Warn,
    /// What a call that only goes on with tool results counts in prompts, in micro-units.
    pub continued_prompt: u64,
    /// Priced amounts are rounded up to a multiple of this many micro-units; at least 1.
    pub round: u64,
    /// Whose price is paid where another model answered than was asked.
    pub price_of: PriceOf,
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

    /// How many tries of a call are paid for besides the last, if all fail.
    pub fn paid_failures(&self) -> u64 {
        match (self.hold.failed_try, &self.connectivity.retry) {
            (FailedTry::Input, Some(retry)) => u64::from(retry.tries.saturating_sub(1)),
            _ => 0,
        }
    }

    /// Whether a guard only says what it would have refused.
    pub fn observes(&self, guard: Guard) -> bool {
        self.connectivity.observe.contains(&guard) || self.security.observe.contains(&guard)
    }
}

/// Whose price is paid where another model answered than was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PriceOf {
    /// That of the one that was asked: what was held covers it.
    #[default]
    Requested,
    /// That of the one that answered. Where it is dearer than what was held, the rest is debt.
    Served,
    /// That of the dearer one.
    Dearer,
}

/// When somebody is told how full a quota is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Warn {
    /// Percents of a quota, ascending: the record of the exchange that reaches one says so.
    pub at: Vec<u8>,
    /// Whether answers tell their callers how the quotas stand, in headers.
    pub headers: bool,
}

/// A quota of a plan.
#[derive(Clone, Debug)]
pub struct PlanQuota {
    /// Its name, unique in the plan: what refusals, records and metrics call it.
    pub name: String,
    /// The name under which records and the ledger know it: `plan/quota`, the plan without its version, the quota by
    /// the name it was first given.
    pub ledger: String,
    /// Who pays, or how fast.
    pub role: Role,
    /// What it measures.
    pub unit: Unit,
    /// Whose account it is in.
    pub per: Per,
    /// The models whose calls it takes; empty: all.
    pub models: Vec<globset::GlobMatcher>,
    /// What a hold takes of it.
    pub hold: HoldSize,
    /// What happens when it is full, in order; what follows the last is a refusal. Of a cap only.
    pub full: Vec<Relief>,
    /// Whether a call that is refused takes one request of it too, as far as there is one. Of a cap only.
    pub rejected: bool,
    /// The fund for whose calls it is, whoever else pays a part of them; `None`: for all. Of a cap only.
    pub of: Option<QuotaId>,
    /// The arithmetic part.
    pub quota: Quota,
}

impl PlanQuota {
    /// Whether calls of this model count.
    pub fn takes(&self, model: &str) -> bool {
        self.models.is_empty() || self.models.iter().any(|glob| glob.is_match(model))
    }

    /// Whether one window follows the other, so that the next pays what one was charged too much. A pack, a term or a
    /// lifetime has none, a sliding window and a bucket count on without a break.
    pub fn begins_anew(&self) -> bool {
        matches!(self.quota.window, Window::Calendar { .. } | Window::Anniversary { .. } | Window::FirstUse { .. })
    }
}

/// What a hold takes of a quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HoldSize {
    /// The most that the call can come to.
    #[default]
    Worst,
    /// What calls of this model have lately come to, by direction. The quota may be passed by what a call needs beyond
    /// that; a stream in slices holds all that it is given from there on.
    Expected,
}

/// What happens instead of a refusal when a quota cannot take a call.
#[derive(Clone, Debug)]
pub enum Relief {
    /// Nothing: the call is refused.
    Deny,
    /// The call waits until it fits, this many milliseconds at most.
    Wait(u64),
    /// The call goes on beyond the quota, as fast as this bucket allows.
    Throttle(Box<PlanQuota>),
    /// The call goes to this model instead, where that speaks its wire format.
    Downgrade(String),
    /// The call goes on beyond the quota, up to this many micro-units of this unit in all.
    Overage(u64, Unit),
    /// The call goes on, and the record says that it would have been refused.
    Observe,
    /// The fund that the cap is of does not pay this call; those behind it may.
    NextFund,
}

/// A place among the funds where packs pay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacksHere {
    /// In front of this one of [`Plan::quotas`].
    pub before: usize,
    /// Packs in this unit.
    pub unit: Unit,
    /// Of this level.
    pub per: Per,
}

/// A one-off top-up of one account, with an end of its own.
#[derive(Clone, Debug)]
pub struct Pack {
    /// Whose it is: `org/acme`.
    pub subject: String,
    /// The fund that it is. Its window is its term.
    pub fund: PlanQuota,
    /// Unix milliseconds, from the first up to and without the second.
    pub term: (u64, u64),
}

/// A fund or a cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Who pays.
    Fund,
    /// How fast.
    Cap,
}

/// Whose account a quota is in. The order is the order in which accounts are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Per {
    /// A session's: one of [`SESSIONS`] accounts of the seat, or, of a call without session, one more. Two sessions may
    /// share an account, and so its quota: a session key, which nobody vouches for, can tighten and never widen.
    Session,
    /// A level's, by its place in [`Seat::subjects`]: 0 is the seat itself.
    Level(u8),
}

/// How many accounts the sessions of a seat share: shared data forgets no key, so each session cannot have its own.
pub const SESSIONS: u8 = 64;

/// How exchanges of a plan are held and charged.
#[derive(Clone, Debug)]
pub struct HoldRule {
    /// Output tokens assumed, and asked of the provider, when the request states no limit.
    pub unstated_output: u64,
    /// Input tokens held of a call that points at what cannot be read; `None`: such a call is refused where its input
    /// counts.
    pub assume_input: Option<u64>,
    /// Every prompt is counted before it is admitted. Else a long one that is new is only bounded where there is ample
    /// room, and counted when its provider says nothing of it.
    pub counts_always: bool,
    /// An output limit is never clamped below this many tokens; what does not fit then is refused.
    pub shrink_to: u64,
    /// An output limit is lowered where it would leave too little for others (`engine::admission`).
    pub shares: bool,
    /// How much is held of a stream's output.
    pub stream: StreamHold,
    /// What the ends cost that a plan may price.
    pub charges: Charges,
    /// What each try costs that failed before the last of its call.
    pub failed_try: FailedTry,
    /// What an exchange costs whose VM died.
    pub lost: Lost,
}

/// What holds where a plan says nothing.
impl Default for HoldRule {
    fn default() -> Self {
        Self {
            unstated_output: 1024,
            assume_input: None,
            counts_always: false,
            shrink_to: 16,
            shares: true,
            stream: StreamHold::Full,
            charges: Charges {
                no_response: Charge::Input,
                upstream_error: Charge::Nothing,
                error_inside: Charge::Delivered,
                aborted: Charge::Delivered,
                cut_by_upstream: Charge::Delivered,
            },
            failed_try: FailedTry::Nothing,
            lost: Lost::Held,
        }
    }
}

/// How much is held of a stream's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamHold {
    /// All that its limit allows: it is never cut.
    Full,
    /// A slice, and then the next one. Where there is none the stream is cut.
    Slices {
        /// Output tokens.
        slice: u64,
        /// Output tokens by which a call of a tool that is under way may end beyond the last slice; they are held from
        /// the beginning, of calls that offer tools.
        grace: u64,
        /// What happens to the upstream when a stream is cut.
        cut: Cut,
    },
}

/// What happens to the upstream when a stream is cut. The client sees the end of its dialect either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// It runs on, and what it says is swallowed.
    Clean,
    /// Its connection is broken off, and so is the client's behind the last event.
    Stop,
}

/// What the ends cost that a plan may price; the table of all ends is in `engine::settlement`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charges {
    /// A reset or a timeout before the response headers.
    pub no_response: Charge,
    /// The upstream answered 4xx or 5xx.
    pub upstream_error: Charge,
    /// A 200 with an error inside.
    pub error_inside: Charge,
    /// The client hung up.
    pub aborted: Charge,
    /// The upstream broke off.
    pub cut_by_upstream: Charge,
}

impl Charges {
    /// All of them, in the order in which they are written above.
    pub fn all_mut(&mut self) -> [&mut Charge; 5] {
        let Self { no_response, upstream_error, error_inside, aborted, cut_by_upstream } = self;
        [no_response, upstream_error, error_inside, aborted, cut_by_upstream]
    }
}

/// What an end of an exchange costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    /// Nothing, on any quota.
    Nothing,
    /// The input.
    Input,
    /// The input and what was delivered; where the provider reported, what it reported.
    Delivered,
    /// As `Delivered`, but at least so many output tokens for each second since admission, up to the output limit: what
    /// the provider may have made that nobody has seen.
    Pace(u64),
    /// The input and the whole output limit.
    Held,
}

/// What a try costs that failed before the last of its call, whose cost is that of the call's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailedTry {
    /// Nothing.
    Nothing,
    /// The input, of the kinds that the last try has.
    Input,
}

/// What an exchange costs whose VM died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// All that was held.
    Held,
    /// What had been delivered when its slot was last written.
    Delivered,
}

/// What texts are screened for.
#[derive(Clone, Debug)]
pub struct Screen {
    /// The detectors, and what is done with what they find.
    pub scanner: Scanner,
    /// What happens to an answer that cannot be screened, or a prompt that cannot be changed.
    pub on_error: OnUnknown,
}

/// What happens to calls that are no LLM call, or that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// A path that no dialect knows.
    pub path: OnUnknown,
    /// A body of a known path that cannot be read (broken JSON, compressed, too large).
    pub body: OnUnknown,
    /// A request that only asks after work which goes on.
    pub after: After,
}

/// What callers may ask after. Whose work it is only its provider could say, to whom all callers of one upstream key are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Nothing.
    Deny,
    /// Work, by the name of its job.
    Work,
    /// Files too, by their names.
    Files,
}

impl After {
    /// Whether callers may ask so.
    pub fn takes(self, asked: Asked) -> bool {
        match self {
            Self::Deny => false,
            Self::Work => !asked.file,
            Self::Files => true,
        }
    }
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
