//! What has been learned of a response so far, in whatever dialect.

use super::count::Encoding;
use super::json;
use super::loose::LooseEnds;
use super::tally::Tally;
use super::usage::Usage;

/// No exchange has that many tokens of one kind: a provider that says so is not believed.
const ABSURD: u64 = 100_000_000;

/// What has been learned of a response so far.
#[derive(Clone, Debug)]
pub struct Answer {
    pub tally: Tally,
    pub said: Said,
    /// What the provider said about the input before it knew the output.
    pub opening: Option<Usage>,
    pub served: Option<String>,
    /// Tools that it calls.
    pub tool_calls: u64,
    /// What it has begun and not ended, on a stream.
    pub loose: LooseEnds,
    /// The dialect's own end was seen.
    pub finished: bool,
    /// A reason for the end was given, although the dialect's own end may be missing.
    pub ended: bool,
    pub error: bool,
}

/// What the provider said about usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// Nothing.
    Nothing,
    /// This, last.
    Usage(Usage),
    /// Something that cannot be.
    Absurd,
}

/// A number that cannot be: negative, broken or above any sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Absurd;

impl Answer {
    pub fn new(encoding: Encoding) -> Self {
        Self {
            tally: Tally::new(encoding),
            said: Said::Nothing,
            opening: None,
            served: None,
            tool_calls: 0,
            loose: LooseEnds::default(),
            finished: false,
            ended: false,
            error: false,
        }
    }

    /// The provider's own name for the model: the first that it gives. Kept to 256 bytes.
    pub fn served_by(&mut self, raw: Option<&str>) {
        if self.served.is_some() {
            return;
        }
        let name = raw.filter(|raw| raw.len() <= 258).and_then(json::text);
        self.served = name.filter(|name| !name.is_empty()).map(|name| name.into_owned());
    }

    /// The last word on usage wins; saying nothing does not unsay.
    pub fn hear(&mut self, usage: Option<Result<Usage, Absurd>>) {
        match usage {
            None => {}
            Some(Ok(usage)) => self.said = Said::Usage(usage),
            Some(Err(Absurd)) => self.said = Said::Absurd,
        }
    }
}

/// A count as a provider wrote it; absent and null are `None`.
pub fn count(raw: Option<&str>) -> Result<Option<u64>, Absurd> {
    match raw.filter(|raw| !json::is_null(raw)) {
        None => Ok(None),
        Some(raw) => json::whole(raw).filter(|count| *count <= ABSURD).map(Some).ok_or(Absurd),
    }
}
