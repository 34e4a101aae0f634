//! Where texts stand in the events and answers of each dialect: one table.
//!
//! What is not listed is looked at string by string ([`Node::Whole`]), so that nothing passes unread because it is new.
//! Documents have the same keys as events, where both exist.

use crate::meter::dialect::Dialect;

/// What stands under a key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Node {
    /// Nothing that a model wrote.
    Skip,
    /// Nothing that a model wrote, and every event has it: one that is added does too.
    Keep,
    /// The number of the part that the event belongs to: a choice, a content block, an item.
    Part,
    /// The number of a text within its part: a tool call, a piece of content.
    Call,
    /// The number of the event.
    Sequence,
    /// The kind of the event.
    Kind,
    /// The next piece of the text of this name.
    Piece(&'static str),
    /// The next piece of the text of the name of its own key.
    Own,
    /// The next piece of the text that the kind of the event names.
    Delta,
    /// The next piece, or all of the text so far: providers do the one or the other.
    Grows(&'static str),
    /// `true`: the text beside it is another one: thoughts, or the name of a special token.
    Aside,
    /// A signature: what it signs is over.
    Seal,
    /// Texts that were told in pieces before, or are told whole only.
    Again,
    /// This, and everything ends with it.
    Last(&'static Node),
    /// The same in another form, such as the probabilities of its tokens: taken out.
    Out,
    /// Why the part ends, once it does.
    End,
    /// Why everything ends, or `true`, once it does.
    EndAll,
    /// A text by itself, or all that are below.
    Whole,
    /// An object; several in a list belong together; a string in its place is what its `text` would be.
    Object(Fields),
    /// The same, but [`Node::Out`] where this key stands beside it.
    Unless(&'static str, Fields),
    /// Objects in a list, each a part: by their own number, else by their place.
    Parts(Fields),
    /// Objects in a list, each a call: by their own number, else by their place.
    Calls(Fields),
    /// An object that begins a part; what it brings goes on as Anthropic's pieces do.
    Start(Fields),
    /// An object whose being there ends the part that it names.
    Stop(Fields),
}

/// The keys of an object.
pub(super) type Fields = &'static [(&'static str, Node)];

use Node::{
    Again, Aside, Call, Calls, Delta, End, EndAll, Grows, Keep, Kind, Last, Object, Out, Own, Part, Parts, Piece, Seal,
    Sequence, Skip, Start, Stop, Unless, Whole,
};

/// Keys that mean the same wherever a table does not say otherwise.
const COMMON: Fields = &[
    ("created", Keep),
    ("created_at", Keep),
    ("event_id", Skip),
    ("id", Keep),
    ("index", Keep),
    ("model", Keep),
    ("object", Keep),
    ("obfuscation", Skip),
    ("role", Skip),
    ("service_tier", Skip),
    ("system_fingerprint", Keep),
    ("type", Keep),
    ("usage", Skip),
];

/// A key of a table that stands for every other that holds a string.
const ANY: &str = "*";

/// An object in which every string is a piece of the text of its own key.
pub(super) const OWN: Fields = &[(ANY, Own)];

/// What a key means in a table, and its name there, where it has one.
pub(super) fn node(fields: Fields, key: &[u8], string: bool) -> (Option<&'static str>, Node) {
    let known = |fields: Fields, key: &[u8]| fields.iter().find(|(name, _)| name.as_bytes() == key);
    let any = || known(fields, ANY.as_bytes()).filter(|_| string).map(|(_, node)| (None, *node));
    let own = known(fields, key).map(|(name, node)| (Some(*name), *node));
    let common = || known(COMMON, key).map(|(name, node)| (Some(*name), *node));
    own.or_else(any).or_else(common).unwrap_or((None, Whole))
}

/// Whether the text of this name is JSON itself, so that what is put into it must be escaped.
pub(super) fn is_json(name: &str) -> bool {
    matches!(name, "arguments" | "input" | "parameters" | "partial_json") || name.contains("arguments")
}

/// What an event of this kind ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    Nothing,
    Part,
    All,
}

/// The kinds by which dialects say that something is over.
pub(super) fn ends(kind: &str) -> Ends {
    match kind {
        "content_block_stop" | "contentBlockStop" | "content-end" | "tool-call-end" | "content.stop" | "step.stop" => {
            Ends::Part
        }
        "message_stop" | "messageStop" | "message-end" | "stream-end" | "metadata" | "error" => Ends::All,
        "transcript.text.done" => Ends::All,
        "interaction.completed" | "interaction.complete" | "interaction.failed" | "interaction.incomplete" => Ends::All,
        "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled" | "response.done" => {
            Ends::All
        }
        done if done.starts_with("response.") && done.ends_with(".done") => Ends::Part,
        _ => Ends::Nothing,
    }
}

/// The table of a dialect. `None`: its answers carry no text.
pub(super) fn of(dialect: Dialect) -> Option<Fields> {
    Some(match dialect {
        Dialect::OpenAiChat | Dialect::OpenAiCompletions => CHAT,
        Dialect::OpenAiResponses => RESPONSES,
        Dialect::OpenAiTranscription => TRANSCRIPTION,
        Dialect::AnthropicMessages => MESSAGES,
        Dialect::AnthropicComplete => COMPLETE,
        Dialect::GeminiGenerate => GEMINI,
        Dialect::GeminiInteractions => INTERACTIONS,
        Dialect::BedrockConverse => CONVERSE,
        Dialect::BedrockInvoke => INVOKE,
        Dialect::CohereChat | Dialect::CohereGenerate => COHERE,
        Dialect::OllamaChat | Dialect::OllamaGenerate => OLLAMA,
        Dialect::DashScope => DASHSCOPE,
        Dialect::Generate => GENERATE,
        Dialect::OpenAiImages
        | Dialect::OpenAiModerations
        | Dialect::VertexPredict
        | Dialect::Rerank
        | Dialect::MiniMaxMedia => PICTURES,
        Dialect::OpenAiEmbeddings
        | Dialect::Bytes
        | Dialect::OpenAiSpeech
        | Dialect::CountTokens
        | Dialect::GeminiEmbed
        | Dialect::CohereEmbed
        | Dialect::OllamaEmbed
        | Dialect::MiniMaxSpeech => return None,
    })
}

/// OpenAI, "Chat completions" and "Completions", and what others add to them.
const CHAT: Fields = &[("choices", Parts(CHOICE)), ("x_groq", Skip)];
const CHOICE: Fields = &[
    ("content_filter_results", Skip),
    ("delta", Object(SAID)),
    ("finish_reason", End),
    ("index", Part),
    ("logprobs", Out),
    // Perplexity sends the message so far beside each delta.
    ("message", Unless("delta", SAID)),
    ("native_finish_reason", Skip),
    ("text", Piece("text")),
];
const SAID: Fields = &[
    ("audio", Object(SPOKEN)),
    ("content", Object(CONTENT)),
    ("function_call", Object(FUNCTION)),
    ("id", Skip),
    // LiteLLM repeats in these what it has of the thoughts.
    ("provider_specific_fields", Out),
    ("reasoning_details", Out),
    ("role", Skip),
    ("thinking_blocks", Out),
    ("tool_call_id", Skip),
    ("tool_calls", Calls(TOOL_CALL)),
    (ANY, Own),
];
const SPOKEN: Fields = &[("data", Skip), ("expires_at", Skip), ("id", Skip), ("transcript", Piece("transcript"))];
/// Mistral's content: texts and thoughts in a list.
const CONTENT: Fields = &[("text", Piece("content")), ("thinking", Object(THOUGHTS))];
const THOUGHTS: Fields = &[("text", Piece("thinking"))];
const TOOL_CALL: Fields =
    &[("custom", Object(FUNCTION)), ("function", Object(FUNCTION)), ("id", Skip), ("index", Call), ("type", Skip)];
const FUNCTION: Fields = &[("arguments", Piece("arguments")), ("input", Piece("input")), ("name", Skip)];

/// OpenAI, "Responses" and "Streaming events". What is done is told again, whole.
const RESPONSES: Fields = &[
    ("arguments", Again),
    ("code", Again),
    ("content_index", Call),
    ("delta", Delta),
    ("input", Again),
    ("item", Again),
    ("item_id", Keep),
    ("logprobs", Out),
    ("output", Again),
    ("output_index", Part),
    ("part", Again),
    ("partial_image_b64", Skip),
    ("refusal", Again),
    ("response", Again),
    ("sequence_number", Sequence),
    ("summary_index", Call),
    ("text", Again),
    ("type", Kind),
];

/// OpenAI, "Audio: transcriptions".
const TRANSCRIPTION: Fields = &[
    ("delta", Delta),
    ("logprobs", Out),
    ("segments", Object(SEGMENT)),
    ("text", Again),
    ("type", Kind),
    ("words", Out),
];
const SEGMENT: Fields = &[("text", Piece("segment")), ("tokens", Out)];

/// Anthropic, "Messages" and "Streaming messages".
const MESSAGES: Fields = &[
    ("content", Parts(BLOCK)),
    ("content_block", Start(BLOCK)),
    ("delta", Object(BLOCK)),
    ("index", Part),
    ("message", Object(MESSAGE)),
    ("stop_reason", Skip),
    ("type", Kind),
];
const MESSAGE: Fields = &[("content", Parts(BLOCK)), ("stop_reason", Skip)];
const BLOCK: Fields = &[
    ("data", Skip),
    ("encrypted_content", Skip),
    ("id", Skip),
    ("name", Skip),
    ("partial_json", Piece("partial_json")),
    ("signature", Seal),
    ("stop_reason", Skip),
    ("text", Piece("text")),
    ("thinking", Piece("thinking")),
    ("tool_use_id", Skip),
];

/// Anthropic, "Text Completions (legacy)".
const COMPLETE: Fields = &[("completion", Piece("completion")), ("log_id", Keep), ("stop_reason", EndAll)];

/// Google, "GenerateContentResponse".
const GEMINI: Fields = &[
    ("candidates", Parts(CANDIDATE)),
    ("createTime", Keep),
    ("modelVersion", Keep),
    ("responseId", Keep),
    ("usageMetadata", Skip),
];
const CANDIDATE: Fields = &[
    ("content", Object(GOOGLE_CONTENT)),
    ("finishReason", End),
    ("index", Part),
    ("logprobsResult", Out),
    ("safetyRatings", Skip),
];
const GOOGLE_CONTENT: Fields = &[("parts", Object(GOOGLE_PART)), ("role", Keep)];
const GOOGLE_PART: Fields = &[
    ("executableCode", Object(&[("code", Piece("code")), ("language", Keep)])),
    ("functionCall", Object(&[("args", Whole), ("name", Skip)])),
    ("inlineData", Skip),
    ("text", Piece("text")),
    ("thought", Aside),
    ("thoughtSignature", Skip),
];

/// Google, "Interactions".
const INTERACTIONS: Fields = &[
    ("content", Object(STEP)),
    ("delta", Object(STEP)),
    ("event_type", Kind),
    ("index", Part),
    ("interaction", Again),
    ("outputs", Again),
    ("step", Again),
    ("steps", Again),
];
const STEP: Fields = &[
    ("arguments", Piece("arguments")),
    ("content", Object(&[("text", Piece("content"))])),
    ("data", Skip),
    ("id", Skip),
    ("name", Skip),
    ("signature", Seal),
    ("text", Piece("text")),
    ("thought", Piece("thought")),
];

/// Amazon, "Converse" and "ConverseStream": the kind of an event is in the headers of its frame.
const CONVERSE: Fields = &[
    ("contentBlockIndex", Part),
    ("delta", Object(CONVERSE_BLOCK)),
    ("metrics", Skip),
    ("output", Object(&[("message", Object(&[("content", Parts(CONVERSE_BLOCK))]))])),
    ("p", Skip),
    ("start", Object(&[("toolUse", Object(TOOL_USE))])),
    ("stopReason", Skip),
];
const CONVERSE_BLOCK: Fields = &[
    ("reasoningContent", Object(REASONING)),
    ("text", Piece("text")),
    ("toolResult", Object(RESULT)),
    ("toolUse", Object(TOOL_USE)),
];
const RESULT: Fields = &[("status", Skip), ("text", Piece("result")), ("toolUseId", Skip)];
const REASONING: Fields = &[
    ("reasoningText", Object(&[("signature", Seal), ("text", Piece("reasoning"))])),
    ("redactedContent", Skip),
    ("signature", Seal),
    ("text", Piece("reasoning")),
];
const TOOL_USE: Fields = &[("input", Piece("input")), ("name", Skip), ("toolUseId", Skip), ("type", Skip)];

/// Amazon, "InvokeModel": what the families of models send, each in its own words.
const INVOKE: Fields = &[
    ("amazon-bedrock-invocationMetrics", Skip),
    ("choices", Parts(CHOICE)),
    ("completion", Piece("completion")),
    ("completionReason", EndAll),
    ("completions", Parts(&[("data", Object(&[("text", Piece("text"))])), ("finishReason", Skip)])),
    ("content", Parts(BLOCK)),
    ("contentBlockDelta", Object(CONVERSE)),
    ("contentBlockStart", Object(CONVERSE)),
    ("contentBlockStop", Stop(CONVERSE)),
    ("content_block", Start(BLOCK)),
    ("delta", Object(BLOCK)),
    ("event_type", Kind),
    ("finish_reason", Skip),
    ("generation", Piece("generation")),
    ("generations", Parts(GENERATION)),
    ("index", Part),
    ("is_finished", EndAll),
    ("message", Object(MESSAGE)),
    ("messageStop", EndAll),
    ("metadata", EndAll),
    ("output", Object(&[("message", Object(&[("content", Parts(CONVERSE_BLOCK))]))])),
    ("outputText", Piece("outputText")),
    ("outputs", Parts(&[("stop_reason", End), ("text", Piece("text"))])),
    ("response", Again),
    ("results", Parts(&[("completionReason", End), ("outputText", Piece("outputText"))])),
    ("stopReason", Skip),
    ("stop_reason", EndAll),
    ("text", Piece("text")),
    ("type", Kind),
];

/// Cohere, "Chat" in both versions, and "Generate"; what only whole answers have says that nothing follows.
const COHERE: Fields = &[
    ("chat_history", Last(&Again)),
    ("delta", Object(&[("finish_reason", Skip), ("message", Object(COHERE_MESSAGE))])),
    ("event_type", Kind),
    ("finish_reason", EndAll),
    ("generation_id", Keep),
    ("generations", Last(&Parts(GENERATION))),
    ("index", Part),
    ("is_finished", EndAll),
    ("message", Last(&Object(COHERE_MESSAGE))),
    ("meta", Skip),
    ("response", Again),
    ("response_id", Keep),
    ("text", Piece("text")),
    ("tool_call_delta", Object(COHERE_CALL)),
    ("type", Kind),
];
const GENERATION: Fields =
    &[("finish_reason", End), ("id", Skip), ("index", Part), ("text", Piece("text")), ("token_likelihoods", Out)];
const COHERE_MESSAGE: Fields = &[
    ("content", Object(&[("text", Piece("content")), ("thinking", Piece("thinking"))])),
    ("tool_calls", Object(&[("function", Object(FUNCTION)), ("id", Skip)])),
    ("tool_plan", Piece("tool_plan")),
];
const COHERE_CALL: Fields =
    &[("index", Call), ("name", Skip), ("parameters", Piece("parameters")), ("text", Piece("plan"))];

/// Ollama, "API". `context` is the conversation in numbers.
const OLLAMA: Fields = &[
    ("context", Out),
    ("done", EndAll),
    ("done_reason", Skip),
    ("logprobs", Out),
    ("message", Object(OLLAMA_MESSAGE)),
    ("response", Piece("response")),
    ("thinking", Piece("thinking")),
];
const OLLAMA_MESSAGE: Fields = &[
    ("content", Piece("content")),
    ("images", Skip),
    ("role", Keep),
    ("thinking", Piece("thinking")),
    ("tool_calls", Object(&[("function", Object(&[("arguments", Whole), ("name", Skip)])), ("id", Skip)])),
];

/// Alibaba, "DashScope API reference": unless it is asked for pieces, each event has all so far.
const DASHSCOPE: Fields = &[("output", Object(DASHSCOPE_OUTPUT)), ("request_id", Keep)];
const DASHSCOPE_OUTPUT: Fields = &[
    ("choices", Parts(DASHSCOPE_CHOICE)),
    ("embeddings", Skip),
    ("finish_reason", EndAll),
    ("results", Whole),
    ("text", Grows("text")),
];
const DASHSCOPE_CHOICE: Fields =
    &[("finish_reason", End), ("index", Part), ("logprobs", Out), ("message", Object(DASHSCOPE_MESSAGE))];
const DASHSCOPE_MESSAGE: Fields = &[
    ("content", Object(&[("text", Grows("content"))])),
    ("reasoning_content", Grows("reasoning_content")),
    ("role", Keep),
    ("tool_calls", Calls(DASHSCOPE_CALL)),
];
const DASHSCOPE_CALL: Fields = &[("function", Object(DASHSCOPE_FUNCTION)), ("id", Skip), ("index", Call)];
const DASHSCOPE_FUNCTION: Fields = &[("arguments", Grows("arguments")), ("name", Skip)];

/// Text Generation Inference, SGLang, llama.cpp.
const GENERATE: Fields = &[
    ("completion_probabilities", Out),
    ("content", Piece("content")),
    ("details", Object(DETAILS)),
    ("generated_text", Last(&Again)),
    ("generation_settings", Skip),
    ("meta_info", Object(META)),
    ("output_ids", Out),
    ("prompt", Again),
    ("stop", EndAll),
    ("stop_type", Skip),
    ("text", Grows("text")),
    ("token", Object(&[("logprob", Skip), ("special", Aside), ("text", Piece("token"))])),
    ("tokens", Out),
    ("top_tokens", Out),
];
const DETAILS: Fields = &[("finish_reason", EndAll), ("prefill", Out), ("tokens", Out), ("top_tokens", Out)];
const META: Fields = &[
    ("finish_reason", EndAll),
    ("input_token_logprobs", Out),
    ("input_top_logprobs", Out),
    ("output_token_logprobs", Out),
    ("output_top_logprobs", Out),
];

/// Pictures, judgements, predictions, documents in their order: whatever text is in them; pictures are none.
const PICTURES: Fields = &[
    ("b64_json", Skip),
    (
        "data",
        Object(&[("audio", Skip), ("b64_json", Skip), ("image_base64", Skip), ("image_urls", Skip), ("url", Skip)]),
    ),
    ("predictions", Object(&[("bytesBase64Encoded", Skip), ("embeddings", Skip)])),
    ("type", Kind),
];
