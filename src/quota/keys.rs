//! The names under which everything is kept in shared data.

use std::sync::Arc;

/// The version of every record's layout. It is a part of every key, so that a new layout never meets old bytes.
pub const FORMAT: u16 = 5;

/// Builds the keys of one bundle name: `farebox/5/<bundle name>/…`.
///
/// | key | value |
/// |---|---|
/// | `epoch` | the process epoch, eight bytes |
/// | `charter` | what the policy in force promises its successor to keep |
/// | `v/<vm>` | a VM slot: generation, beat, next number, the one unfinished operation |
/// | `x/<vm>/<n>` | an exchange slot |
/// | `a/<subject>` | an account |
/// | `c/<n>` | what was learned of how a model's provider counts, and what it had above its bounds |
/// | `r/<region>/<tier>/<line>` | since and until when a line of the catalogue rests, because its upstream is down or throttles |
///
/// The bundle's *name*, not its version: an update of the policy keeps the counters. Cloning is cheap.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Keys {
    prefix: Arc<str>,
}

impl Keys {
    /// The keys of the bundle called `bundle`.
    pub fn new(bundle: &str) -> Self {
        // A bundle name may contain a slash; its length keeps `a` with subject `b/…` apart from `a/b`.
        Self { prefix: format!("farebox/{FORMAT}/{}:{bundle}/", bundle.len()).into() }
    }

    /// Where the process epoch is.
    pub fn epoch(&self) -> Vec<u8> {
        format!("{}epoch", self.prefix).into_bytes()
    }

    /// Where the charter of the policy in force is.
    pub fn charter(&self) -> Vec<u8> {
        format!("{}charter", self.prefix).into_bytes()
    }

    /// Where VM slot `vm` is.
    pub fn vm(&self, vm: u16) -> Vec<u8> {
        format!("{}v/{vm}", self.prefix).into_bytes()
    }

    /// Where exchange slot `slot` of VM slot `vm` is.
    pub fn slot(&self, vm: u16, slot: u32) -> Vec<u8> {
        format!("{}x/{vm}/{slot}", self.prefix).into_bytes()
    }

    /// Where page `place` of what was learned of providers' counts is.
    pub fn calibration(&self, place: u16) -> Vec<u8> {
        format!("{}c/{place}", self.prefix).into_bytes()
    }

    /// Where it stands until when an upstream rests: region, tier and line of the catalogue.
    pub fn rest(&self, upstream: &str) -> Vec<u8> {
        format!("{}r/{upstream}", self.prefix).into_bytes()
    }

    /// Where the account of `subject` is.
    pub fn account(&self, subject: &str) -> Vec<u8> {
        format!("{}a/{subject}", self.prefix).into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::Keys;

    #[test]
    fn keys_carry_format_and_bundle_and_never_meet() {
        let keys = Keys::new("acme-ai");
        assert_eq!(keys.account("seat/alice"), b"farebox/5/7:acme-ai/a/seat/alice");
        assert_eq!(keys.slot(3, 17), b"farebox/5/7:acme-ai/x/3/17");
        assert_eq!(keys.vm(3), b"farebox/5/7:acme-ai/v/3");
        assert_eq!(keys.epoch(), b"farebox/5/7:acme-ai/epoch");
        // Without the length, the bundle `a/a` and the bundle `a` would share the account `a/x` of `x`.
        assert_ne!(Keys::new("a").account("a/x"), Keys::new("a/a").account("x"));
    }
}
