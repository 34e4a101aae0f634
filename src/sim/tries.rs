//! How often Envoy's router tries a call, as its documentation says and `tests/e2e/test_tries.py` sees.

use super::call::{Ending, Plot};
use crate::policy::bundle::Retry;

/// What a try met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Met {
    /// No upstream could be reached.
    NoConnection,
    /// It took the request, and no headers came: it broke off, or was too late.
    NoResponse,
    /// An answer of this status.
    Status(u16),
}

impl Met {
    /// What a try meets whose upstream answers with this status; 0: not at all.
    pub fn of(plot: &Plot, status: u16, each_ms: Option<u64>) -> Self {
        match (plot.ending, status) {
            (Ending::ConnectFailure, _) => Self::NoConnection,
            (Ending::UpstreamCut(0), _) | (_, 0) => Self::NoResponse,
            _ if each_ms.is_some_and(|each_ms| each_ms <= plot.after_ms) => Self::NoResponse,
            (_, status) => Self::Status(status),
        }
    }

    /// Whether it is tried again, after so many tries.
    pub fn is_tried_again(self, retry: Option<&Retry>, tries: u32) -> bool {
        let Some(retry) = retry.filter(|retry| tries < retry.tries) else { return false };
        let any = |words: &[&str]| retry.on.iter().any(|word| words.contains(word));
        match self {
            Self::NoConnection => any(&["connect-failure", "reset-before-request", "reset", "gateway-error", "5xx"]),
            Self::NoResponse => any(&["reset", "gateway-error", "5xx"]),
            Self::Status(status) => {
                retry.statuses.contains(&status)
                    || status >= 500 && any(&["5xx"])
                    || (502..=504).contains(&status) && any(&["gateway-error"])
            }
        }
    }
}
