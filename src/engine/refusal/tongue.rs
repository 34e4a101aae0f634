//! In whose words a dialect's callers expect an error.

use crate::meter::dialect::Dialect;

/// A family of error bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tongue {
    /// Nobody's in particular.
    Neutral,
    OpenAi,
    Anthropic,
    Google,
    Amazon,
    Cohere,
    Ollama,
    DashScope,
    MiniMax,
    /// Text Generation Inference and its like.
    Generate,
}

impl Tongue {
    /// The words of a dialect; `None`: no dialect was recognised.
    pub fn of(dialect: Option<Dialect>) -> Self {
        match dialect {
            // Counting and reranking have many speakers.
            None | Some(Dialect::CountTokens | Dialect::Rerank | Dialect::Bytes) => Self::Neutral,
            Some(
                Dialect::OpenAiChat
                | Dialect::OpenAiResponses
                | Dialect::OpenAiCompletions
                | Dialect::OpenAiEmbeddings
                | Dialect::OpenAiModerations
                | Dialect::OpenAiImages
                | Dialect::OpenAiSpeech
                | Dialect::OpenAiTranscription,
            ) => Self::OpenAi,
            Some(Dialect::AnthropicMessages | Dialect::AnthropicComplete) => Self::Anthropic,
            Some(
                Dialect::GeminiGenerate | Dialect::GeminiEmbed | Dialect::GeminiInteractions | Dialect::VertexPredict,
            ) => Self::Google,
            Some(Dialect::BedrockConverse | Dialect::BedrockInvoke) => Self::Amazon,
            Some(Dialect::CohereChat | Dialect::CohereGenerate | Dialect::CohereEmbed) => Self::Cohere,
            Some(Dialect::OllamaChat | Dialect::OllamaGenerate | Dialect::OllamaEmbed) => Self::Ollama,
            Some(Dialect::DashScope) => Self::DashScope,
            Some(Dialect::MiniMaxSpeech | Dialect::MiniMaxMedia) => Self::MiniMax,
            Some(Dialect::Generate) => Self::Generate,
        }
    }
}
