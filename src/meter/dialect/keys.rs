//! What the keys of a request mean for its cost, dialect by dialect.

use super::Dialect;

/// Keys of one object, each with what it means.
pub type Keys = &'static [(&'static str, Meaning)];

/// What a key means. A key that is named here may be in its object once, spelled exactly so.
#[derive(Clone, Copy, Debug)]
pub enum Meaning {
    /// The model's name.
    Model,
    /// Whether a stream is asked for.
    Stream,
    /// OpenAI's `stream_options`.
    StreamOptions,
    /// The most output tokens of one answer.
    Limit,
    /// How many answers.
    Choices,
    /// How many pictures of a group, where a group is asked for.
    Group,
    /// How many seconds of film.
    Seconds,
    /// A thinking budget in `budget_tokens`, which the limit may not fall below.
    Thinking,
    /// A thinking budget beside the limit.
    Budget,
    /// Whether the model thinks.
    Thinks,
    /// An object of settings; the text in it is read by the dialect.
    Within(Keys),
    /// Text, tools, media: read by the dialect.
    Part,
}

use Meaning::{Budget, Choices, Group, Limit, Model, Part, Seconds, Stream, StreamOptions, Thinking, Thinks, Within};

/// Chat completions and messages alike: providers that speak both act on either's keys.
const COMMON: Keys = &[
    ("agent_id", Part),
    ("background", Part),
    ("best_of", Choices),
    ("chat_template", Part),
    ("container", Part),
    ("context_id", Part),
    ("context_management", Part),
    ("conversation", Part),
    ("data_sources", Part),
    ("deferred", Part),
    ("documents", Part),
    ("enable_thinking", Thinks),
    ("functions", Part),
    ("max_completion_tokens", Limit),
    ("max_tokens", Limit),
    ("mcp_servers", Part),
    ("messages", Part),
    ("min_tokens", Part),
    ("modalities", Part),
    ("model", Model),
    ("models", Part),
    ("n", Choices),
    ("n_predict", Limit),
    ("parallel_tool_calls", Part),
    ("plugins", Part),
    ("prediction", Part),
    ("previous_response_id", Part),
    ("reasoning", Part),
    ("reasoning_effort", Part),
    ("response_format", Part),
    ("search_parameters", Part),
    ("service_tier", Part),
    ("store", Part),
    ("stream", Stream),
    ("stream_options", StreamOptions),
    ("system", Part),
    ("thinking", Thinking),
    ("thinking_budget", Budget),
    ("tool_choice", Part),
    ("tools", Part),
    ("web_search_options", Part),
];

/// OpenAI, "Responses".
const RESPONSES: Keys = &[
    ("background", Part),
    ("conversation", Part),
    ("input", Part),
    ("instructions", Part),
    ("max_output_tokens", Limit),
    ("model", Model),
    ("models", Part),
    ("plugins", Part),
    ("previous_response_id", Part),
    ("prompt", Part),
    ("reasoning", Part),
    ("service_tier", Part),
    ("store", Part),
    ("stream", Stream),
    ("text", Part),
    ("tool_choice", Part),
    ("tools", Part),
];

/// OpenAI, "Completions"; `n_predict` and `max_new_tokens` where open servers take them in its place.
const COMPLETIONS: Keys = &[
    ("best_of", Choices),
    ("max_completion_tokens", Limit),
    ("max_tokens", Limit),
    ("model", Model),
    ("n", Choices),
    ("n_predict", Limit),
    ("prompt", Part),
    ("stream", Stream),
    ("stream_options", StreamOptions),
    ("suffix", Part),
];

/// Embeddings, moderations, reranking, speech: a model and what it reads.
const READ_ONLY: Keys = &[
    ("documents", Part),
    ("images", Part),
    ("input", Part),
    ("inputs", Part),
    ("messages", Part),
    ("model", Model),
    ("prompt", Part),
    ("query", Part),
    ("stream", Stream),
    ("text", Part),
    ("text_1", Part),
    ("text_2", Part),
    ("texts", Part),
];

/// OpenAI, "Images" and "Videos"; MiniMax, "Image", "Video" and "Music generation"; Azure, "Sora" (`n_…`); Zhipu,
/// "CogVideoX"; Volcengine Ark, "Seedream" (groups of images) and "Seedance" (`content`, `frames`).
const IMAGES: Keys = &[
    ("content", Part),
    ("duration", Seconds),
    ("frames", Part),
    ("image", Part),
    ("images", Part),
    ("model", Model),
    ("n", Choices),
    ("n_seconds", Seconds),
    ("n_variants", Choices),
    ("prompt", Part),
    ("quality", Part),
    ("resolution", Part),
    ("seconds", Seconds),
    ("sequential_image_generation", Part),
    ("sequential_image_generation_options", Within(&[("max_images", Group)])),
    ("size", Part),
    ("stream", Stream),
];

/// Anthropic, "Text Completions (legacy)".
const COMPLETE: Keys = &[("max_tokens_to_sample", Limit), ("model", Model), ("prompt", Part), ("stream", Stream)];

/// Google reads its fields under both of their names, so both count.
const GEMINI_CONFIG: Keys = &[
    ("candidateCount", Choices),
    ("candidate_count", Choices),
    ("maxOutputTokens", Limit),
    ("max_output_tokens", Limit),
];

const GEMINI: Keys = &[
    ("cachedContent", Part),
    ("cached_content", Part),
    ("contents", Part),
    ("generationConfig", Within(GEMINI_CONFIG)),
    ("generation_config", Within(GEMINI_CONFIG)),
    ("systemInstruction", Part),
    ("system_instruction", Part),
    ("tools", Part),
];

const INTERACTIONS: Keys = &[
    ("agent", Part),
    ("background", Part),
    ("generation_config", Within(&[("max_output_tokens", Limit)])),
    ("input", Part),
    ("model", Model),
    ("previous_interaction_id", Part),
    ("store", Part),
    ("stream", Stream),
    ("system_instruction", Part),
    ("tools", Part),
];

const PREDICT: Keys =
    &[("instances", Part), ("parameters", Within(&[("durationSeconds", Seconds), ("sampleCount", Choices)]))];

/// What Converse hands to a model's family as it is, whichever that is: their limits, under all names that they have.
const CONVERSE_MORE: Keys = &[
    ("inferenceConfig", Within(&[("maxTokens", Limit), ("max_new_tokens", Limit)])),
    ("maxTokens", Limit),
    ("max_completion_tokens", Limit),
    ("max_gen_len", Limit),
    ("max_new_tokens", Limit),
    ("max_output_tokens", Limit),
    ("max_tokens", Limit),
    ("max_tokens_to_sample", Limit),
    ("n", Choices),
    ("num_generations", Choices),
    ("reasoning_config", Thinking),
    ("textGenerationConfig", Within(&[("maxTokenCount", Limit)])),
    ("thinking", Thinking),
];

const CONVERSE: Keys = &[
    ("additionalModelRequestFields", Within(CONVERSE_MORE)),
    ("inferenceConfig", Within(&[("maxTokens", Limit)])),
    ("messages", Part),
    ("promptVariables", Part),
    ("system", Part),
    ("toolConfig", Part),
];

/// The bodies of all model families that Bedrock passes on.
const INVOKE: Keys = &[
    ("imageGenerationConfig", Within(&[("numberOfImages", Choices)])),
    ("inferenceConfig", Within(&[("maxTokens", Limit), ("max_new_tokens", Limit)])),
    ("inputText", Part),
    ("maxTokens", Limit),
    ("max_completion_tokens", Limit),
    ("max_gen_len", Limit),
    ("max_tokens", Limit),
    ("max_tokens_to_sample", Limit),
    ("message", Part),
    ("messages", Part),
    ("n", Choices),
    ("numResults", Choices),
    ("num_generations", Choices),
    ("prompt", Part),
    ("system", Part),
    ("textGenerationConfig", Within(&[("maxTokenCount", Limit)])),
    ("thinking", Thinking),
    ("tools", Part),
];

const COHERE: Keys = &[
    ("chat_history", Part),
    ("connectors", Part),
    ("conversation_id", Part),
    ("documents", Part),
    ("max_tokens", Limit),
    ("message", Part),
    ("messages", Part),
    ("model", Model),
    ("num_generations", Choices),
    ("preamble", Part),
    ("prompt", Part),
    ("stream", Stream),
    ("tool_results", Part),
    ("tools", Part),
];

/// With those of llama.cpp, which has one of the paths and passes over `options`.
const OLLAMA: Keys = &[
    ("context", Part),
    ("images", Part),
    ("input", Part),
    ("max_completion_tokens", Limit),
    ("max_tokens", Limit),
    ("messages", Part),
    ("model", Model),
    ("n", Choices),
    ("n_predict", Limit),
    ("options", Within(&[("num_predict", Limit)])),
    ("prompt", Part),
    ("stream", Stream),
    ("suffix", Part),
    ("system", Part),
    ("template", Part),
    ("tools", Part),
];

const DASHSCOPE: Keys = &[
    ("input", Part),
    ("model", Model),
    (
        "parameters",
        Within(&[
            ("duration", Seconds),
            ("enable_thinking", Thinks),
            ("max_completion_tokens", Limit),
            ("max_tokens", Limit),
            ("n", Choices),
            ("stream", Stream),
            ("thinking_budget", Budget),
        ]),
    ),
];

/// Text Generation Inference, SGLang and llama.cpp by their own names.
const GENERATE: Keys = &[
    ("input_extra", Part),
    ("input_prefix", Part),
    ("input_suffix", Part),
    ("inputs", Part),
    ("max_completion_tokens", Limit),
    ("max_tokens", Limit),
    ("model", Model),
    ("n_predict", Limit),
    ("parameters", Within(&[("best_of", Choices), ("max_new_tokens", Limit)])),
    ("prompt", Part),
    ("sampling_params", Within(&[("max_new_tokens", Limit), ("n", Choices)])),
    ("stream", Stream),
    ("text", Part),
];

impl Dialect {
    /// The keys of a request that decide its cost, in the order of the names folded to lower case.
    pub(in crate::meter) fn keys(self) -> Keys {
        match self {
            Self::OpenAiChat | Self::AnthropicMessages => COMMON,
            Self::OpenAiResponses => RESPONSES,
            Self::OpenAiCompletions => COMPLETIONS,
            Self::OpenAiEmbeddings
            | Self::OpenAiModerations
            | Self::OpenAiSpeech
            | Self::OpenAiTranscription
            | Self::CountTokens
            | Self::GeminiEmbed
            | Self::CohereEmbed
            | Self::Rerank
            | Self::MiniMaxSpeech => READ_ONLY,
            Self::OpenAiImages | Self::MiniMaxMedia => IMAGES,
            Self::AnthropicComplete => COMPLETE,
            Self::GeminiGenerate => GEMINI,
            Self::GeminiInteractions => INTERACTIONS,
            Self::VertexPredict => PREDICT,
            Self::BedrockConverse => CONVERSE,
            Self::BedrockInvoke => INVOKE,
            Self::CohereChat | Self::CohereGenerate => COHERE,
            Self::OllamaChat | Self::OllamaGenerate | Self::OllamaEmbed => OLLAMA,
            Self::DashScope => DASHSCOPE,
            Self::Generate => GENERATE,
            Self::Bytes => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Keys, Meaning};
    use crate::meter::dialect::Dialect;

    fn check(keys: Keys) {
        assert!(keys.len() <= 64, "they do not fit their bits");
        for (position, (name, meaning)) in keys.iter().enumerate() {
            assert!(name.is_ascii(), "{name}");
            let folded = name.to_ascii_lowercase();
            let same = keys.iter().take(position).find(|(other, _)| other.to_ascii_lowercase() == folded);
            assert!(same.is_none(), "{name} folds to {same:?}");
            if let Meaning::Within(keys) = meaning {
                check(keys);
            }
        }
    }

    #[test]
    fn names_differ_by_more_than_case_and_fit_their_bits() {
        Dialect::ALL.iter().for_each(|dialect| check(dialect.keys()));
    }
}
