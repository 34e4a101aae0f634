//! What an exchange consumed, in one canonical form for every provider.

use serde::{Deserialize, Serialize};

/// What one exchange consumed. The token fields do not overlap: the whole input is
/// `input + cache_read + cache_write`, the whole output is `output` (reasoning is a part of it, as what is kept for an hour
/// is one of what is written to a cache).
///
/// Each dialect writes down, where it reads them, what its provider's figures include and exclude.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Input tokens that were neither read from nor written to a cache.
    pub input: u64,
    /// Input tokens read from the provider's cache.
    pub cache_read: u64,
    /// Input tokens written to the provider's cache.
    pub cache_write: u64,
    /// The part of `cache_write` that is kept for an hour, which Anthropic charges more for than for five minutes.
    #[serde(skip_serializing_if = "is_zero")]
    pub cache_write_1h: u64,
    /// Output tokens, reasoning included.
    pub output: u64,
    /// The part of `output` that was reasoning.
    pub reasoning: u64,
    /// Images: made, or given where the provider counts those.
    #[serde(skip_serializing_if = "is_zero")]
    pub images: u64,
    /// Characters: of text that is spoken or translated.
    #[serde(skip_serializing_if = "is_zero")]
    pub characters: u64,
    /// Seconds of sound or film, begun ones whole.
    #[serde(skip_serializing_if = "is_zero")]
    pub seconds: u64,
    /// The total that the provider stated, in its own sum; 0: none. Told, never charged for.
    #[serde(skip_serializing_if = "is_zero")]
    pub provider_total: u64,
}

/// What few exchanges have costs the others no byte on the wire.
fn is_zero(figure: &u64) -> bool {
    *figure == 0
}

impl Usage {
    /// All input tokens.
    pub fn input_total(&self) -> u64 {
        self.input.saturating_add(self.cache_read).saturating_add(self.cache_write)
    }

    /// All tokens.
    pub fn total(&self) -> u64 {
        self.input_total().saturating_add(self.output)
    }
}

/// Where a usage came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "&'static str", try_from = "String")]
pub enum Source {
    /// The provider said so.
    Reported,
    /// Counted here, because the provider was silent or absurd.
    #[default]
    Estimated,
    /// Some of both.
    Mixed,
}

impl From<Source> for &'static str {
    fn from(source: Source) -> Self {
        source.name()
    }
}

impl TryFrom<String> for Source {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|source| source.name() == name)
            .ok_or_else(|| format!("`{name}` is no source of a usage"))
    }
}

const _: () = assert!(Source::Mixed as usize + 1 == Source::ALL.len(), "a source is not in the list");

impl Source {
    const ALL: [Self; 3] = [Self::Reported, Self::Estimated, Self::Mixed];

    /// Its name on the wire and in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reported => "reported",
            Self::Estimated => "estimated",
            Self::Mixed => "mixed",
        }
    }
}
