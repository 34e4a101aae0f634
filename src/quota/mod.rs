//! Quotas as integer arithmetic on account records, and the operations that change them.
//!
//! Leaf module: it knows no policy, no clock and no host. Amounts are `u64` micro-units
//! (one token, request or credit is [`MICRO`]).
//!
//! Everything lives in a store that knows only load and compare-and-swap of single values ([`Cells`]), under
//! three kinds of keys ([`Keys`]):
//!
//! - an **account** holds every quota of a subject: what is granted, used and held in the current window and
//!   the last ones, and for each VM slot the number of its last change here;
//! - an **exchange slot** is free, or holds what one running exchange holds, or the record of one that has ended;
//! - a **VM slot** says who owns it, whether the owner still beats, and the owner's last operation.
//!
//! An [`Operation`] writes its intent into the VM slot, then each account, then the exchange slot. A hold is
//! committed by the exchange slot and taken back before that; a settle is decided by its intent and finished by
//! whoever finds it. All writes carry generation and number, so that the work of a dead or slow owner is done once,
//! by it or by the one who [`Claim`]ed its VM slot ([`Recovery`]). Nothing is decided by a clock, and no account is
//! ever scanned. `search` tries every interleaving of all this, `laws` random histories, `crowd`
//! random interleavings.
//!
//! ```text
//!   claim ── recovery ──┐
//!                       ├── hold, settle, free (operation) ── edit ── the store
//!   the engine ─────────┘         │
//!                        booking, standing, debt ── account, window, sliding, rate
//!                                slot, vmslot: what is written
//! ```

use std::fmt;

pub use jiff::civil::Date;

mod account;
mod booking;
mod claim;
mod debt;
mod edit;
mod fault;
mod grant;
mod hold;
mod keys;
mod layout;
mod operation;
mod rate;
mod recovery;
mod settle;
mod sliding;
mod slot;
mod standing;
mod vmslot;
mod window;

#[cfg(test)]
mod cost;
#[cfg(test)]
mod crowd;
#[cfg(test)]
mod laws;
#[cfg(any(test, feature = "test-hooks"))]
pub mod measure;
#[cfg(any(test, feature = "test-hooks"))]
pub mod population;
#[cfg(test)]
mod search;

pub use account::{Account, Period, Reported};
pub use claim::{Claim, Claimed, Sight, beat, first_claimable, open_epoch, peek, release};
pub use grant::{GrantLine, give_back, give_back_past, give_back_unused, grant, read_account};
pub use keys::{FORMAT, Keys};
pub use operation::Operation;
pub use recovery::{Ending, Recovery, Unsent};
pub use slot::{Held, HeldLevel, HeldLine, Slot, read_slot};
pub use window::{mean_length, next_window};

/// Micro-units in one unit: one token, one request, one credit.
pub const MICRO: u64 = 1_000_000;

/// The two-method store that every account lives in: Envoy's shared data, or the simulator's map.
///
/// There is no delete and no enumeration, because Envoy has none.
pub trait Cells {
    /// The value under `key` with its version, or `None` when nothing was ever written there.
    fn load(&mut self, key: &[u8]) -> Result<Option<Cell>, StoreError>;
    /// Writes `value` if the key still is as `expect` says. `false`: somebody else was first, nothing was written.
    fn swap(&mut self, key: &[u8], expect: Expect, value: &[u8]) -> Result<bool, StoreError>;
}

/// A stored value and its version.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cell {
    /// The bytes as they were written.
    pub value: Vec<u8>,
    /// The version to pass to [`Expect::Version`].
    pub version: u32,
}

/// What a swap expects to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Expect {
    /// Nothing was ever written under this key.
    Absent,
    /// The value read with this version is still there.
    Version(u32),
}

/// The store itself failed: not a lost swap, but no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StoreError;

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the host's shared data did not answer")
    }
}

impl std::error::Error for StoreError {}

/// A quota's stable identity: (plan without version, quota name). The subject is the account's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QuotaId(pub u64);

impl QuotaId {
    /// The first eight bytes of SHA-256 over `plan`, a zero byte and `name`.
    pub fn of(plan: &str, name: &str) -> Self {
        use sha2::{Digest, Sha256};
        let digest = Sha256::new().chain_update(plan).chain_update([0]).chain_update(name).finalize();
        let mut id = [0; 8];
        id.iter_mut().zip(digest.iter()).for_each(|(to, from)| *to = *from);
        Self(u64::from_be_bytes(id))
    }
}

/// A quota as the arithmetic sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Quota {
    /// Its stable identity in the account.
    pub id: QuotaId,
    /// The amount a window has, in micro-units. For a bucket: what it holds when full.
    pub limit: u64,
    /// When the amount begins anew.
    pub window: Window,
    /// Whether the ledger grants this quota (true), or `limit` itself is the grant.
    /// Buckets, sliding and concurrent quotas are always local to the process: false.
    pub granted: bool,
    /// Most micro-units of what the last window left unspent that go over into the next; 0: unused lapses.
    pub rollover: u64,
}

/// When a quota's amount begins anew.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Window {
    /// A calendar period in an IANA zone.
    Calendar {
        /// How long it is.
        period: CalendarPeriod,
        /// The zone's IANA name, known to be valid.
        zone: String,
    },
    /// A month or year counted from the subscription day. Where a month has no such day, it begins on its last one.
    Anniversary {
        /// How long it is.
        every: AnniversaryPeriod,
        /// The subscription day, which all windows are counted from: forwards, and back as well.
        anchor: Date,
        /// The zone's IANA name, known to be valid.
        zone: String,
    },
    /// Opens at the first admitted exchange and lasts this many milliseconds.
    FirstUse {
        /// Its length in milliseconds, above zero.
        length_ms: u64,
    },
    /// Whatever moment it ends at: no stretch of this many milliseconds has more than the limit.
    Sliding {
        /// Its length in milliseconds, above zero.
        length_ms: u64,
    },
    /// Refills steadily: `limit` per this many milliseconds, and never holds more than the burst.
    Bucket {
        /// The time in which `limit` is refilled, in milliseconds, above zero.
        period_ms: u64,
        /// What it holds when it is full, in micro-units.
        burst: u64,
    },
    /// One window only.
    Term {
        /// Its first moment, Unix milliseconds, above zero.
        from_ms: u64,
        /// The first moment after it.
        until_ms: u64,
    },
    /// One window that never ends.
    Lifetime,
    /// Counts what runs at this moment; settles to nothing.
    Concurrent,
}

/// How long a calendar window is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CalendarPeriod {
    /// From second 0 of a minute.
    Minute,
    /// From minute 0 of an hour.
    Hour,
    /// From the first moment of a day.
    Day,
    /// From the first moment of a weekday.
    Week {
        /// Which, from Monday 0 to Sunday 6.
        starts: u8,
    },
    /// From the first of a month.
    Month,
    /// From the first of January.
    Year,
}

/// How long a window is that is counted from the subscription day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AnniversaryPeriod {
    /// A month.
    Month,
    /// A year.
    Year,
}

/// Who writes: a VM slot of a process epoch, in its present generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Incarnation {
    /// Random value of this process for this bundle name.
    pub epoch: u64,
    /// The VM slot, `0..MAX_VMS`.
    pub vm: u16,
    /// Raised by every claim of the VM slot; the first is 1.
    pub generation: u32,
}

/// An exchange's identity everywhere: slot, record, ledger, access log.
///
/// Written `epoch-vm-generation-sequence`, the epoch as 16 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExchangeId {
    /// Whose exchange it is.
    pub by: Incarnation,
    /// Contiguous from 1 within the incarnation.
    pub sequence: u64,
}

impl fmt::Display for ExchangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Incarnation { epoch, vm, generation } = self.by;
        write!(f, "{epoch:016x}-{vm}-{generation}-{}", self.sequence)
    }
}

/// What an operation asks of, or does to, one account.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Level {
    /// The account's subject, for example `org/acme` or `seat/alice`.
    pub subject: String,
    /// One line a quota of that subject. Amounts in micro-units.
    pub lines: Vec<Line>,
}

/// One quota and an amount of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Line {
    /// The quota.
    pub quota: Quota,
    /// Micro-units to hold, or micro-units used.
    pub amount: u64,
    /// Micro-units by which this hold may pass what may be spent: overage as debt; `u64::MAX`: observed only. A window
    /// of which only the ledger can know is asked for first all the same, and a term is over when it is over.
    pub over: u64,
}

/// What one quota of an account looks like at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Standing {
    /// Start of the current window in Unix milliseconds; 0 when a first-use window is closed.
    pub window: u64,
    /// What may be spent in it: the limit, or what the ledger has granted less what went back.
    pub granted: u64,
    /// Charged so far. May pass `granted`: that is debt.
    pub used: u64,
    /// What of `granted` pays for what earlier windows were charged beyond theirs. With a ledger, `granted` is without
    /// that, and this is what it could not take off.
    pub owed: u64,
    /// Held by running exchanges.
    pub held: u64,
    /// When the window begins anew, Unix milliseconds. For a bucket: when it is full again; for a sliding window: when
    /// nothing counts any more, or what was asked for fits. 0: not by time.
    pub resets_ms: u64,
    /// What the ledger could still grant, as it last said; `u64::MAX` for quotas that need no grant.
    pub ledger_left: u64,
}

impl Standing {
    /// What a new hold may take now.
    pub fn free(&self) -> u64 {
        self.free_with(0)
    }

    /// What a new hold may take that may pass what there is by `over`. A debt that is there already is borne by that first.
    pub fn free_with(&self, over: u64) -> u64 {
        self.granted.saturating_add(over).saturating_sub(self.spent().saturating_add(self.held))
    }

    /// What may still be spent, as far as this process knows: what is free here and what the ledger still has.
    pub fn left(&self, quota: &Quota) -> u64 {
        match self.ledger_left {
            u64::MAX => self.free(),
            more if quota.granted => self.free().saturating_add(more),
            _ => self.free(),
        }
    }

    /// What no wait for running exchanges brings back: charged, or owed.
    pub fn spent(&self) -> u64 {
        self.used.saturating_add(self.owed)
    }
}

/// Why a hold was not made. It left no trace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Short {
    /// Nothing is known of this quota yet, or the grant is too small: ask the ledger and try again.
    NeedsGrant {
        /// Which account.
        subject: String,
        /// Which quota.
        quota: QuotaId,
        /// Micro-units missing.
        missing: u64,
    },
    /// The amount is spent: only the next window cures it.
    Exhausted {
        /// Which account.
        subject: String,
        /// Which quota.
        quota: QuotaId,
        /// How it stands.
        standing: Standing,
    },
    /// Running exchanges hold what this one needs, or a bucket must refill: soon cured.
    Busy {
        /// Which account.
        subject: String,
        /// Which quota.
        quota: QuotaId,
        /// How it stands.
        standing: Standing,
        /// Milliseconds until it may fit, when that can be told.
        retry_ms: Option<u64>,
    },
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It is done, on every level and in the slot.
    Done,
    /// A hold did not fit. Nothing is left of it.
    Refused(Short),
    /// A newer generation owns this VM slot: stop writing, claim anew.
    Fenced,
    /// Lost too many swaps in a row (10,000): treat the incarnation as fenced and recover.
    Contended,
    /// The slot is not what the operation needs: not free for an admission, or it no longer holds this exchange
    /// (it was settled before, or freed). Nothing was changed.
    WrongSlot,
    /// What is stored under this key is no record of ours: nothing was changed. A stranger writes to our keys, or the
    /// store is damaged; the outage rule applies to what needs it.
    Unreadable {
        /// The key.
        key: Vec<u8>,
    },
}

/// One store call was made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Call `step` again.
    Again,
    /// The operation has ended.
    Ended(Outcome),
}

/// Longest list of VM slots a process may have.
pub const MAX_VMS: u16 = 128;
