//! The wire formats, one module each.
//!
//! | name | path | streams | output limit |
//! |---|---|---|---|
//! | `openai-chat` | `…/chat/completions`, also at Azure, Vertex (Mistral) and MiniMax | SSE | `max_completion_tokens`, `max_tokens`, `n_predict` |
//! | `openai-responses` | `…/responses` | SSE | `max_output_tokens` |
//! | `openai-completions` | `…/completions` | SSE | `max_tokens` |
//! | `openai-embeddings`, `openai-moderations` | `…/embeddings`, `…/moderations` | | |
//! | `openai-images` | `…/images/{generations,edits,variations}`, and films: `…/v1/videos` and what others call it | SSE | |
//! | `openai-speech` | `…/audio/speech` | SSE, sound | |
//! | `openai-transcription` | `…/audio/{transcriptions,translations}` | SSE, text | |
//! | `anthropic-messages` | `…/v1/messages`, Vertex's `:rawPredict` | SSE | `max_tokens` |
//! | `anthropic-complete` | `…/v1/complete` | SSE | `max_tokens_to_sample` |
//! | `count-tokens` | `…/count_tokens`, `…/input_tokens`, `:countTokens`, `…/count-tokens`, `…/tokenize` | | |
//! | `gemini-generate` | `:generateContent`, `:streamGenerateContent` | SSE, array | `generationConfig.maxOutputTokens` |
//! | `gemini-embed`, `vertex-predict` | `:embedContent`, `:batchEmbedContents`, `:predict` | | |
//! | `gemini-interactions` | `…/v1beta/interactions` | SSE | `generation_config.max_output_tokens` |
//! | `bedrock-converse` | `/model/…/converse`, `-stream` | frames | `inferenceConfig.maxTokens` |
//! | `bedrock-invoke` | `/model/…/invoke`, `-with-response-stream` | frames | the model family's |
//! | `cohere-chat`, `cohere-generate` | `…/v1/chat`, `…/v2/chat`, `…/v1/generate` | SSE, lines | `max_tokens` |
//! | `cohere-embed`, `rerank` | `…/v1/embed`, `…/v2/embed`, `…/rerank` | | |
//! | `ollama-chat`, `ollama-generate`, `ollama-embed` | `…/api/{chat,generate,embed}` | lines | `options.num_predict` |
//! | `dashscope` | `…/aigc/…/generation`, embeddings, rerank, images, films, speech | SSE | `parameters.max_tokens` |
//! | `minimax-speech`, `minimax-media` | `…/v1/t2a_v2`, `…/v1/t2a_async_v2`, `…/v1/{image,video,music}_generation` | SSE | |
//! | `bytes` | none that is known, where the policy says `unknown: {path: count …}` | | |
//! | `generate` | `/generate`, `/generate_stream` (TGI, SGLang), `/completion`, `/infill` (llama.cpp) | SSE | `max_new_tokens`, `n_predict`, `max_tokens` |
//!
//! What each provider's figures include and exclude is written down where they are read: in the modules named `usage`,
//! or at the head of the dialect's own. What is made that no token counts is told in `made`. Which keys decide what a request costs is a table a dialect, in `keys`.

mod anthropic;
mod api;
mod bedrock;
mod cohere;
mod dashscope;
mod endpoint;
mod gemini;
pub(super) mod generate;
mod keys;
mod made;
mod minimax;
mod ollama;
mod openai;
mod path;
mod pictured;
mod prompt;
mod reading;

pub use api::{Api, Named};
pub use endpoint::Endpoint;
pub use made::{Asked, Made, asks_after};
pub(super) use made::{LONGEST_CHOSEN, MOST_OF_GROUP, film_flags, film_tokens_a_second, picture_tokens};
pub(super) use path::is_deployment;
pub use path::{Host, Route, readings, suspicious};

pub(super) use bedrock::family::{
    limit_field as invoke_limit, makes_images as invoke_makes_images, writes_text as invoke_writes_text,
};
pub(super) use dashscope::BARE;
pub(super) use gemini::notation;
pub(super) use keys::{Keys, Meaning};
pub(super) use openai::answer::Shape;
pub(super) use openai::namespace;
pub(super) use prompt::wide_characters;

use super::answer::Answer;
use super::loose::{Ending, Family, Within};
use super::part::Parts;
use super::usage::Usage;

/// A field: the settings that it lies in, if not in the body itself, and its name.
pub(super) type Field = (Option<&'static str>, &'static str);

/// A provider's wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI chat completions.
    OpenAiChat,
    /// OpenAI responses.
    OpenAiResponses,
    /// OpenAI completions.
    OpenAiCompletions,
    /// OpenAI embeddings.
    OpenAiEmbeddings,
    /// OpenAI moderations.
    OpenAiModerations,
    /// OpenAI images: generations, edits, variations; and films.
    OpenAiImages,
    /// OpenAI speech.
    OpenAiSpeech,
    /// OpenAI transcriptions and translations.
    OpenAiTranscription,
    /// Anthropic messages, also at Vertex.
    AnthropicMessages,
    /// Anthropic text completions.
    AnthropicComplete,
    /// Counting tokens, whoever counts: nothing is consumed.
    CountTokens,
    /// Google's generated content, streamed or not.
    GeminiGenerate,
    /// Google's embeddings.
    GeminiEmbed,
    /// Google's interactions.
    GeminiInteractions,
    /// Vertex predictions: embeddings and images.
    VertexPredict,
    /// Amazon Bedrock's Converse, streamed or not.
    BedrockConverse,
    /// Amazon Bedrock's InvokeModel, streamed or not: a model family's own body.
    BedrockInvoke,
    /// Cohere chat, both versions.
    CohereChat,
    /// Cohere generate.
    CohereGenerate,
    /// Cohere embeddings.
    CohereEmbed,
    /// Reranking, whoever does it.
    Rerank,
    /// Ollama chat.
    OllamaChat,
    /// Ollama generate.
    OllamaGenerate,
    /// Ollama embeddings.
    OllamaEmbed,
    /// DashScope's own generation, embeddings and reranking.
    DashScope,
    /// MiniMax speech.
    MiniMaxSpeech,
    /// MiniMax images, films and music.
    MiniMaxMedia,
    /// The own routes of open servers: TGI, SGLang, llama.cpp.
    Generate,
    /// None that is known: what is counted is bytes, and a token is [`BYTES_A_TOKEN`] of them.
    Bytes,
}

/// Bytes that are taken for a token where nobody knows the format: English text has about as many, and what stands around
/// it in a body makes up for shorter ones.
pub const BYTES_A_TOKEN: u64 = 4;

/// What a dialect's work writes, as far as a request can bound it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writes {
    /// Text, up to a limit in the request.
    Text,
    /// No tokens at all.
    Nothing,
    /// Something whose tokens no request limits: at most so many an answer.
    AtMost(u64),
}

impl Dialect {
    /// All formats that are known.
    pub const ALL: [Self; 28] = [
        Self::OpenAiChat,
        Self::OpenAiResponses,
        Self::OpenAiCompletions,
        Self::OpenAiEmbeddings,
        Self::OpenAiModerations,
        Self::OpenAiImages,
        Self::OpenAiSpeech,
        Self::OpenAiTranscription,
        Self::AnthropicMessages,
        Self::AnthropicComplete,
        Self::CountTokens,
        Self::GeminiGenerate,
        Self::GeminiEmbed,
        Self::GeminiInteractions,
        Self::VertexPredict,
        Self::BedrockConverse,
        Self::BedrockInvoke,
        Self::CohereChat,
        Self::CohereGenerate,
        Self::CohereEmbed,
        Self::Rerank,
        Self::OllamaChat,
        Self::OllamaGenerate,
        Self::OllamaEmbed,
        Self::DashScope,
        Self::MiniMaxSpeech,
        Self::MiniMaxMedia,
        Self::Generate,
    ];

    /// The name in records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenAiChat => "openai-chat",
            Self::OpenAiResponses => "openai-responses",
            Self::OpenAiCompletions => "openai-completions",
            Self::OpenAiEmbeddings => "openai-embeddings",
            Self::OpenAiModerations => "openai-moderations",
            Self::OpenAiImages => "openai-images",
            Self::OpenAiSpeech => "openai-speech",
            Self::OpenAiTranscription => "openai-transcription",
            Self::AnthropicMessages => "anthropic-messages",
            Self::AnthropicComplete => "anthropic-complete",
            Self::CountTokens => "count-tokens",
            Self::GeminiGenerate => "gemini-generate",
            Self::GeminiEmbed => "gemini-embed",
            Self::GeminiInteractions => "gemini-interactions",
            Self::VertexPredict => "vertex-predict",
            Self::BedrockConverse => "bedrock-converse",
            Self::BedrockInvoke => "bedrock-invoke",
            Self::CohereChat => "cohere-chat",
            Self::CohereGenerate => "cohere-generate",
            Self::CohereEmbed => "cohere-embed",
            Self::Rerank => "rerank",
            Self::OllamaChat => "ollama-chat",
            Self::OllamaGenerate => "ollama-generate",
            Self::OllamaEmbed => "ollama-embed",
            Self::DashScope => "dashscope",
            Self::MiniMaxSpeech => "minimax-speech",
            Self::MiniMaxMedia => "minimax-media",
            Self::Generate => "generate",
            Self::Bytes => "bytes",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().chain([Self::Bytes]).find(|dialect| dialect.name() == name)
    }

    /// The dialect that a request to `path` speaks, the query left out. Paths in any but their plain spelling are not
    /// recognised here; see [`suspicious`].
    pub fn of(method: &[u8], path: &[u8]) -> Option<Self> {
        Route::of(method, path).map(|route| route.dialect)
    }

    /// Whether usage comes on a stream only when it is asked for, in a chunk of its own.
    pub const fn must_ask_for_usage(self) -> bool {
        matches!(self, Self::OpenAiChat | Self::OpenAiCompletions)
    }

    /// Whether the body may be a form with files instead of JSON.
    pub const fn takes_forms(self) -> bool {
        matches!(self, Self::OpenAiTranscription | Self::OpenAiImages)
    }

    /// Whether the answer to a call of `path` is told in seconds, of sound or film, of which its request does not say how
    /// many they will be.
    pub fn tells_seconds(self, path: &[u8]) -> bool {
        let path = path.split(|byte| *byte == b'?').next().unwrap_or_default();
        match self {
            Self::OpenAiTranscription | Self::MiniMaxSpeech => true,
            Self::MiniMaxMedia => !path.ends_with(b"/image_generation"),
            _ => false,
        }
    }

    /// Whether the answer is a stream when a request does not say: Ollama's is.
    pub(super) const fn streams_unasked(self) -> bool {
        matches!(self, Self::OllamaChat | Self::OllamaGenerate)
    }

    /// Whether a stream of it can be ended early, so that its clients see a length limit: what [`ending`](Self::ending)
    /// writes. What InvokeModel passes on is as many formats as families of models; of one that its name does not tell (an
    /// application's inference profile, an imported model) nobody knows, and the hold is all of what it may write.
    pub(super) fn ends_streams(self, model: &str) -> bool {
        match self {
            Self::BedrockInvoke => Family::of(model).is_some(),
            Self::OpenAiChat
            | Self::OpenAiCompletions
            | Self::OpenAiResponses
            | Self::AnthropicMessages
            | Self::AnthropicComplete
            | Self::GeminiGenerate
            | Self::GeminiInteractions
            | Self::BedrockConverse
            | Self::CohereChat
            | Self::CohereGenerate
            | Self::OllamaChat
            | Self::OllamaGenerate
            | Self::DashScope
            | Self::Generate => true,
            _ => false,
        }
    }

    /// Whether a call is answered with text, which may come as a stream.
    pub fn writes_text(self) -> bool {
        self.writes() == Writes::Text
    }

    /// What the work writes, as far as a request can bound it.
    pub(super) const fn writes(self) -> Writes {
        match self {
            // The dearest picture: gpt-image-1 in high quality, 1024 × 1536 (OpenAI, "Image generation": 6,208), and what
            // its preview images add (3 × 100).
            Self::OpenAiImages => Writes::AtMost(6_600),
            // Some 20 tokens a second of speech, and no character takes a third of one (OpenAI, "gpt-4o-mini-tts").
            Self::OpenAiSpeech => Writes::AtMost(4_096 * 7),
            Self::OpenAiTranscription => Writes::AtMost(2_000),
            Self::OpenAiEmbeddings
            | Self::OpenAiModerations
            | Self::CountTokens
            | Self::GeminiEmbed
            | Self::VertexPredict
            | Self::CohereEmbed
            | Self::Rerank
            | Self::OllamaEmbed
            | Self::MiniMaxSpeech
            | Self::MiniMaxMedia => Writes::Nothing,
            _ => Writes::Text,
        }
    }

    /// The field that limits the output, written when a request has none that counts: the settings that it lies in, and
    /// its name. `hosted`: by OpenAI or Azure. Open servers' own routes have [`generate::limit_field`], Bedrock's models
    /// [`invoke_limit`].
    ///
    /// OpenAI's reasoning models refuse `max_tokens`; others (Ollama, LM Studio, llama.cpp before 2026) pass over
    /// `max_completion_tokens` in silence, so that a clamp would be none. Hence by who serves the model.
    pub(super) fn limit_field(self, hosted: bool) -> Option<Field> {
        let within = |settings, name| Some((Some(settings), name));
        match self {
            Self::OpenAiChat if hosted => Some((None, "max_completion_tokens")),
            Self::OpenAiResponses => Some((None, "max_output_tokens")),
            Self::AnthropicComplete => Some((None, "max_tokens_to_sample")),
            Self::GeminiGenerate => within("generationConfig", "maxOutputTokens"),
            Self::GeminiInteractions => within("generation_config", "max_output_tokens"),
            Self::BedrockConverse => within("inferenceConfig", "maxTokens"),
            Self::OllamaChat | Self::OllamaGenerate => within("options", "num_predict"),
            Self::DashScope => within("parameters", "max_tokens"),
            _ if self.writes() == Writes::Text => Some((None, "max_tokens")),
            _ => None,
        }
    }

    /// Whether `field` surely limits the output. Only llama.cpp knows `n_predict`, so elsewhere it never does.
    ///
    /// Where OpenAI hosts, either of its two does, and both in one request are refused.
    pub(super) fn heeds(self, field: &str, hosted: bool) -> bool {
        match self {
            Self::OpenAiChat | Self::OpenAiCompletions | Self::AnthropicMessages => {
                field == "max_tokens" || (field == "max_completion_tokens" && self == Self::OpenAiChat && hosted)
            }
            Self::GeminiGenerate => true,
            _ => self.limit_field(hosted).is_some_and(|(_, name)| name == field),
        }
    }

    /// Reads a top-level entry of a request body that is not a number or a flag.
    pub(super) fn read_entry<'a>(self, parts: &mut Parts<'a>, name: &str, raw: &'a str) {
        if super::json::is_null(raw) {
            return;
        }
        match self {
            Self::OpenAiChat => openai::request::entry(parts, name, raw),
            Self::OpenAiResponses => openai::responses_request::entry(parts, name, raw),
            Self::OpenAiCompletions => openai::request::completion(parts, name, raw),
            Self::OpenAiEmbeddings | Self::OpenAiModerations | Self::CohereEmbed | Self::OllamaEmbed => {
                reading::entry(parts, name, raw);
            }
            Self::OpenAiImages | Self::MiniMaxMedia => reading::images(parts, name, raw),
            Self::OpenAiSpeech => reading::speech(parts, name, raw, prompt::characters),
            Self::MiniMaxSpeech => reading::speech(parts, name, raw, prompt::wide_characters),
            Self::OpenAiTranscription => reading::transcription(parts, name, raw),
            Self::AnthropicMessages => anthropic::request::entry(parts, name, raw),
            Self::AnthropicComplete => openai::request::completion(parts, name, raw),
            Self::CountTokens => reading::counted(parts, raw),
            Self::GeminiGenerate | Self::GeminiEmbed => gemini::request::entry(parts, name, raw),
            Self::GeminiInteractions => gemini::request::interaction(parts, name, raw),
            Self::VertexPredict => gemini::request::predict(parts, name, raw),
            Self::BedrockConverse => bedrock::request::converse(parts, name, raw),
            Self::BedrockInvoke => bedrock::request::invoke(parts, name, raw),
            Self::CohereChat | Self::CohereGenerate => cohere::request::entry(parts, name, raw),
            Self::Rerank => reading::rerank(parts, name, raw),
            Self::OllamaChat | Self::OllamaGenerate => ollama::request::entry(parts, name, raw),
            Self::DashScope => dashscope::request::entry(parts, name, raw),
            Self::Generate => generate::request::entry(parts, name, raw),
            Self::Bytes => {}
        }
    }

    /// Reads the data of one event of a stream.
    pub(super) fn read_event(self, answer: &mut Answer, data: &str) -> Shape {
        answer.heard |= !data.is_empty();
        match self {
            Self::OpenAiCompletions if generate::is_llama(data) => {
                generate::body(answer, data);
            }
            Self::OpenAiChat | Self::OpenAiCompletions => return openai::answer::event(answer, data),
            Self::AnthropicMessages => anthropic::answer::event(answer, data),
            Self::OpenAiResponses => openai::responses::event(answer, data),
            Self::GeminiInteractions => gemini::interactions::event(answer, data),
            _ => {
                self.read_body(answer, data);
            }
        }
        Shape::Other
    }

    /// Reads the payload of one frame of Amazon's binary streams.
    pub(super) fn read_frame(self, answer: &mut Answer, kind: &str, payload: &str) {
        match self {
            Self::BedrockConverse => bedrock::converse::frame(answer, kind, payload),
            Self::BedrockInvoke => bedrock::invoke::frame(answer, payload),
            _ => {}
        }
    }

    /// The bytes by which a stream ends at its length limit. Empty: it has no stream, or none that we end.
    pub(super) fn ending(self, ending: &Ending<'_>) -> Vec<u8> {
        match self {
            Self::OpenAiChat => openai::ending::ending(ending),
            Self::OpenAiCompletions if ending.loose.family == Some(Family::LlamaCpp) => {
                generate::ending::ending(ending)
            }
            Self::OpenAiCompletions => openai::completion_ending::ending(ending),
            Self::OpenAiResponses => openai::responses_ending::ending(ending),
            Self::AnthropicMessages => anthropic::ending::ending(ending),
            Self::AnthropicComplete => anthropic::complete_ending::ending(ending),
            Self::GeminiGenerate => gemini::ending::content(ending),
            Self::GeminiInteractions => gemini::ending::interaction(ending),
            Self::BedrockConverse => bedrock::ending::converse(ending),
            Self::BedrockInvoke => bedrock::ending::invoke(ending),
            Self::CohereChat => cohere::ending::chat(ending),
            Self::CohereGenerate => cohere::ending::generate(ending),
            // llama.cpp's, which knows no lines.
            Self::OllamaChat if ending.within == Within::Events => openai::ending::ending(ending),
            Self::OllamaChat | Self::OllamaGenerate => ollama::ending::ending(ending),
            Self::DashScope => dashscope::ending::ending(ending),
            Self::Generate => generate::ending::ending(ending),
            _ => Vec::new(),
        }
    }

    /// Reads a whole JSON answer; whether it was one.
    pub(super) fn read_body(self, answer: &mut Answer, raw: &str) -> bool {
        let read = match self {
            Self::OpenAiCompletions if generate::is_llama(raw) => generate::body(answer, raw),
            Self::OpenAiChat | Self::OpenAiCompletions => openai::answer::body(answer, raw).map(|_| ()),
            Self::OpenAiResponses => openai::responses::body(answer, raw),
            Self::OpenAiEmbeddings | Self::OpenAiModerations | Self::CohereEmbed | Self::Rerank => {
                openai::reading::body(answer, raw)
            }
            Self::OpenAiImages => openai::media::images(answer, raw),
            Self::OpenAiSpeech => openai::media::speech(answer, raw),
            Self::OpenAiTranscription => openai::media::transcription(answer, raw),
            Self::AnthropicMessages => anthropic::answer::body(answer, raw),
            Self::AnthropicComplete => anthropic::complete::body(answer, raw),
            Self::CountTokens => openai::reading::counted(answer, raw),
            Self::GeminiGenerate => gemini::answer::body(answer, raw),
            Self::GeminiEmbed => gemini::reading::embeddings(answer, raw),
            Self::GeminiInteractions => gemini::interactions::body(answer, raw),
            Self::VertexPredict => gemini::reading::predictions(answer, raw),
            Self::BedrockConverse => bedrock::converse::body(answer, raw),
            Self::BedrockInvoke => bedrock::invoke::body(answer, raw),
            Self::CohereChat | Self::CohereGenerate => cohere::answer::body(answer, raw),
            Self::OllamaChat | Self::OllamaGenerate | Self::OllamaEmbed => ollama::body(answer, raw),
            Self::DashScope => dashscope::body(answer, raw),
            Self::MiniMaxSpeech => minimax::speech(answer, raw),
            Self::MiniMaxMedia => minimax::media(answer, raw),
            Self::Generate => generate::body(answer, raw),
            Self::Bytes => None,
        };
        read.is_some()
    }

    /// Reads one response header: whether it told something of the usage, into `usage`.
    pub(super) fn read_header(self, usage: &mut Usage, name: &[u8], value: &[u8]) -> bool {
        if self != Self::BedrockInvoke {
            return false;
        }
        let Some((_, figure)) = bedrock::usage::HEADERS.iter().find(|(known, _)| known.as_bytes() == name) else {
            return false;
        };
        let value = std::str::from_utf8(value).ok();
        let told = super::answer::count(value).ok().flatten();
        told.map(|told| *figure(usage) = told).is_some()
    }

    /// Whether a body that begins with a brace may be one of several objects: lines, or an array that streams.
    pub(super) const fn sends_objects(self) -> bool {
        matches!(
            self,
            Self::OllamaChat | Self::OllamaGenerate | Self::CohereChat | Self::CohereGenerate | Self::GeminiGenerate
        )
    }

    /// Whether answers may be Amazon's binary streams.
    pub(super) const fn sends_frames(self) -> bool {
        matches!(self, Self::BedrockConverse | Self::BedrockInvoke)
    }
}
