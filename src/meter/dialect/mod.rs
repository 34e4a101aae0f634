//! The wire formats, one module each.

mod anthropic;
mod openai;
mod path;

pub use path::suspicious;

pub(super) use openai::answer::Shape;

use super::answer::Answer;
use super::loose::Ending;
use super::part::Parts;

/// A provider's wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI chat completions.
    OpenAiChat,
    /// Anthropic messages.
    AnthropicMessages,
}

impl Dialect {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::OpenAiChat, Self::AnthropicMessages];

    /// The name in records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenAiChat => "openai-chat",
            Self::AnthropicMessages => "anthropic-messages",
        }
    }

    /// The dialect that a request to `path` speaks: `POST …/chat/completions` or `POST …/v1/messages`, the
    /// query left out. Paths in any other spelling are not recognised here; see [`suspicious`].
    pub fn of(method: &[u8], path: &[u8]) -> Option<Self> {
        (method == b"POST").then(|| path::plain(path)).flatten()
    }

    /// The model that an Azure path names: `…/deployments/<name>/chat/completions`.
    pub fn deployment(path: &[u8]) -> Option<&str> {
        path::deployment(path)
    }

    /// The field that limits the output, written when a request has none that counts. `hosted`: by OpenAI or Azure.
    ///
    /// OpenAI's reasoning models refuse `max_tokens`; others (Ollama, LM Studio, llama.cpp before 2026) pass over
    /// `max_completion_tokens` in silence, so that a clamp would be none. Hence by who serves the model.
    pub(super) fn limit_field(self, hosted: bool) -> &'static str {
        match self {
            Self::OpenAiChat if hosted => "max_completion_tokens",
            Self::OpenAiChat | Self::AnthropicMessages => "max_tokens",
        }
    }

    /// Whether `field` surely limits the output. Only llama.cpp knows `n_predict`, so it never does.
    ///
    /// Where OpenAI hosts, either of its two does, and both in one request are refused.
    pub(super) fn heeds(self, field: &str, hosted: bool) -> bool {
        field == "max_tokens" || (field == "max_completion_tokens" && self == Self::OpenAiChat && hosted)
    }

    /// Reads a top-level entry of a request body that is not a number or a flag.
    pub(super) fn read_entry<'a>(self, parts: &mut Parts<'a>, name: &str, raw: &'a str) {
        if super::json::is_null(raw) {
            return;
        }
        match self {
            Self::OpenAiChat => openai::request::entry(parts, name, raw),
            Self::AnthropicMessages => anthropic::request::entry(parts, name, raw),
        }
    }

    /// Reads the data of one event of a stream.
    pub(super) fn read_event(self, answer: &mut Answer, data: &str) -> Shape {
        match self {
            Self::OpenAiChat => openai::answer::event(answer, data),
            Self::AnthropicMessages => {
                anthropic::answer::event(answer, data);
                Shape::Other
            }
        }
    }

    /// The bytes by which a stream ends at its length limit.
    pub(super) fn ending(self, ending: &Ending<'_>) -> Vec<u8> {
        match self {
            Self::OpenAiChat => openai::ending::ending(ending),
            Self::AnthropicMessages => anthropic::ending::ending(ending),
        }
    }

    /// Reads a whole JSON answer; whether it was one.
    pub(super) fn read_body(self, answer: &mut Answer, raw: &str) -> bool {
        match self {
            Self::OpenAiChat => openai::answer::body(answer, raw).is_some(),
            Self::AnthropicMessages => anthropic::answer::body(answer, raw).is_some(),
        }
    }
}

/// Whether this names one of OpenAI's own hosted models, whose vocabularies are public.
pub(super) fn is_openai_own(model: &str) -> bool {
    let own = ["gpt-", "chatgpt-", "o1", "o3", "o4"].iter().any(|prefix| model.starts_with(prefix));
    own && !model.starts_with("gpt-oss")
}
