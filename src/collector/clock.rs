//! The one place where the collector reads a clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix milliseconds; 0 when the machine thinks it is before 1970.
#[expect(clippy::disallowed_methods, reason = "a host: everything below it gets the time as a parameter")]
pub(super) fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
