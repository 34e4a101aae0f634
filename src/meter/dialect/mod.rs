//! The wire formats of providers.

/// A provider's wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI chat completions.
    OpenAiChat,
    /// Anthropic messages.
    AnthropicMessages,
}
