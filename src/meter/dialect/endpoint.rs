//! What a call is for.

use super::Dialect;

/// What a call is for, whoever is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    /// An answer in a conversation.
    Chat,
    /// An answer, with tools that the provider runs and conversations that it keeps.
    Responses,
    /// Text that goes on from a text.
    Completions,
    /// Vectors of texts.
    Embeddings,
    /// Judgements on texts.
    Moderations,
    /// Documents in the order in which they fit a query.
    Rerank,
    /// Images, films and music.
    Images,
    /// Speech from text, and text from speech.
    Audio,
    /// The number of tokens.
    Count,
    /// Bodies of Bedrock's and Vertex's own models, which may be anything.
    Predict,
    /// Paths that no dialect knows.
    Other,
}

impl Endpoint {
    /// All of them, by the names that policies use.
    pub const ALL: [(&'static str, Self); 11] = [
        ("chat", Self::Chat),
        ("responses", Self::Responses),
        ("completions", Self::Completions),
        ("embeddings", Self::Embeddings),
        ("moderations", Self::Moderations),
        ("rerank", Self::Rerank),
        ("images", Self::Images),
        ("audio", Self::Audio),
        ("count", Self::Count),
        ("predict", Self::Predict),
        ("other", Self::Other),
    ];

    /// That of a request. The path tells where a wire format has several.
    pub fn of(dialect: Option<Dialect>, path: &[u8]) -> Self {
        let has = |part: &[u8]| memchr::memmem::find(path, part).is_some();
        match dialect {
            None | Some(Dialect::Bytes) => Self::Other,
            Some(Dialect::DashScope) if has(b"/embeddings/") => Self::Embeddings,
            Some(Dialect::DashScope) if has(b"/rerank/") => Self::Rerank,
            Some(Dialect::DashScope) if has(b"-synthesis") || has(b"/image-generation/") => Self::Images,
            Some(
                Dialect::OpenAiChat
                | Dialect::AnthropicMessages
                | Dialect::GeminiGenerate
                | Dialect::BedrockConverse
                | Dialect::CohereChat
                | Dialect::OllamaChat
                | Dialect::DashScope,
            ) => Self::Chat,
            Some(Dialect::OpenAiResponses | Dialect::GeminiInteractions) => Self::Responses,
            Some(
                Dialect::OpenAiCompletions
                | Dialect::AnthropicComplete
                | Dialect::CohereGenerate
                | Dialect::OllamaGenerate
                | Dialect::Generate,
            ) => Self::Completions,
            Some(Dialect::OpenAiEmbeddings | Dialect::GeminiEmbed | Dialect::CohereEmbed | Dialect::OllamaEmbed) => {
                Self::Embeddings
            }
            Some(Dialect::OpenAiModerations) => Self::Moderations,
            Some(Dialect::Rerank) => Self::Rerank,
            Some(Dialect::OpenAiImages | Dialect::MiniMaxMedia) => Self::Images,
            Some(Dialect::OpenAiSpeech | Dialect::OpenAiTranscription | Dialect::MiniMaxSpeech) => Self::Audio,
            Some(Dialect::CountTokens) => Self::Count,
            Some(Dialect::VertexPredict | Dialect::BedrockInvoke) => Self::Predict,
        }
    }

    /// Its name in policies and messages.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, known)| *known == self).map_or("other", |(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::Endpoint;
    use crate::meter::dialect::Dialect;

    #[test]
    fn a_path_has_one_purpose() {
        for (path, name) in [
            ("/v1/chat/completions", "chat"),
            ("/v1/messages", "chat"),
            ("/v1/messages/count_tokens", "count"),
            ("/v1/responses", "responses"),
            ("/api/v1/services/aigc/text-generation/generation", "chat"),
            ("/api/v1/services/embeddings/text-embedding/text-embedding", "embeddings"),
            ("/api/v1/services/rerank/text-rerank/text-rerank", "rerank"),
            ("/api/v1/services/aigc/text2image/image-synthesis", "images"),
            ("/api/v1/services/aigc/video-generation/video-synthesis", "images"),
            ("/v1/video_generation", "images"),
            ("/v1/videos", "images"),
            ("/v1/t2a_async_v2", "audio"),
            ("/v1/audio/speech", "audio"),
            ("/v1beta/models/g:embedContent", "embeddings"),
            ("/model/x/invoke", "predict"),
            ("/v1/models", "other"),
        ] {
            let dialect = Dialect::of(b"POST", path.as_bytes());
            assert_eq!(Endpoint::of(dialect, path.as_bytes()).name(), name, "{path}");
        }
    }
}
