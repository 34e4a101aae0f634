//! Text in, findings out: secrets, personal data, and what a policy names itself. Knows no policy and no wire format.
//!
//! ```text
//!    text ──fold──▶ what detectors read ──scanner──▶ candidates ──shapes, check──▶ findings ──mask──▶ text
//!                                          redactor: the same for text that comes in pieces
//! ```
//!
//! - **Linear time.** All patterns run as one lazily built automaton (`regex-automata`), compiled once; every pattern has
//!   a longest match, and what may be longer is swallowed by a state of its own, so a stream waits for
//!   [`Scanner::longest`] bytes at most.
//! - **Chunks change nothing.** [`Redactor`] decides about a place in the text only when no further text could change
//!   the decision, so it finds what [`Scanner::find`] finds in the whole.
//! - **What hides is unfolded first:** invisible characters, full-width letters and digits, `\u` escapes of JSON within
//!   JSON. Secrets wrapped in base 64 are found in whole texts ([`Scanner::find`]) and not in streams: the wrapping would
//!   have to be held back to its end. Other wrappings (hex, base 64 twice, letters of another script, words spelled
//!   out, a key split over two messages) are not looked for: whoever wants to lead a secret out on purpose can always
//!   encode it; this is there for accidents.

mod check;
mod fold;
mod injection;
mod mask;
#[cfg(any(test, feature = "test-hooks"))]
pub mod measure;
mod namer;
mod quotes;
mod redactor;
mod scanner;
mod shapes;
mod tail;
mod wrapped;

#[cfg(test)]
mod figures_tests;
#[cfg(test)]
mod injection_figures_tests;

pub use injection::Injection;
pub(crate) use mask::{HIGHEST_NUMBER, stem};
pub use mask::{Mask, Restorer};
pub use namer::Namer;
pub use quotes::Quotes;
pub use redactor::Redactor;
pub use scanner::{Finding, LONGEST_MATCH, Refused, Rule, Scanner, Selection, check_pattern};

/// How many [topics](Topic) there are.
pub(crate) const TOPICS: usize = 9;

/// What is looked for; the names are those of the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Keys, tokens, private keys.
    Secrets,
    /// Addresses of mail.
    Email,
    /// Chinese numbers, and any in the form of E.164.
    Phone,
    /// Payment cards of the international networks.
    Card,
    /// Bank accounts in the form of ISO 13616.
    Iban,
    /// Chinese identity numbers.
    CnIdCard,
    /// Bank cards issued in China.
    BankCard,
    /// Numbers of passports, behind the word.
    Passport,
    /// US Social Security numbers, written with dashes.
    Ssn,
}

impl Topic {
    /// All of them.
    pub const ALL: [Self; TOPICS] = [
        Self::Secrets,
        Self::Email,
        Self::Phone,
        Self::Card,
        Self::Iban,
        Self::CnIdCard,
        Self::BankCard,
        Self::Passport,
        Self::Ssn,
    ];

    /// Its name: the key in the policy, the rule in refusals, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Secrets => "secrets",
            Self::Email => "email",
            Self::Phone => "phone",
            Self::Card => "card",
            Self::Iban => "iban",
            Self::CnIdCard => "cn_id_card",
            Self::BankCard => "bank_card",
            Self::Passport => "passport",
            Self::Ssn => "ssn",
        }
    }
}

/// What is done with what is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// It stays, and is counted.
    Observe,
    /// It gives way to its topic: `[email]`.
    Tag,
    /// It gives way to a keyed hash, the same for the same text: `[email:5f0c…]`.
    Hash,
    /// It gives way to `[redacted]`.
    Redact,
    /// It gives way to a name, `[EMAIL_1]`, for which the answer gets the text back.
    Pseudonym,
    /// The exchange is refused, or ends.
    Deny,
}

impl Action {
    /// Its name: the word in the policy and the label in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Tag => "tag",
            Self::Hash => "hash",
            Self::Redact => "redact",
            Self::Pseudonym => "pseudonym",
            Self::Deny => "deny",
        }
    }
}
