//! Which paths are LLM calls.

use super::Dialect;
use super::made::{self, Made};

/// What the path of a request says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The wire format.
    pub dialect: Dialect,
    /// The model, where the path names it: it then decides, whatever the body says.
    pub model: Option<String>,
    /// Whether the answer will be a stream, where the path decides.
    pub stream: Option<bool>,
    /// Who serves it.
    pub host: Host,
    /// Whether it is answered at once and worked on later.
    pub deferred: bool,
    /// Whether its provider takes no limit of the output (OpenAI, "Compact a response").
    pub limitless: bool,
    /// What it makes that is counted by the piece, as far as the path tells.
    pub made: Made,
}

/// Who serves a call, as far as its path tells and it makes a difference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Host {
    /// Whoever.
    #[default]
    Any,
    /// Azure, where the model is a deployment: it knows OpenAI's newest fields. Its newest route names it in the body, and is
    /// also that of others (Groq, Amazon), whose models have other names: see [`is_deployment`].
    Azure,
    /// Google's Gemini API, and not Vertex AI, which has the same wire format.
    GeminiApi,
    /// llama.cpp on a route of its own, which it shares with nobody.
    LlamaCpp,
    /// Volcengine's Ark.
    Ark,
    /// Alibaba Cloud's Model Studio where it speaks OpenAI's formats.
    ModelStudio,
}

impl Route {
    /// The route of a request: `POST` to a path in its plain spelling, the query left out.
    pub fn of(method: &[u8], path: &[u8]) -> Option<Self> {
        (method == b"POST").then(|| plain(path)).flatten()
    }

    /// A route of which nothing more is known.
    const fn to(dialect: Dialect, model: Option<String>) -> Self {
        Self { dialect, model, stream: None, host: Host::Any, deferred: false, limitless: false, made: Made::Usual }
    }

    /// That of a request of which nobody knows the format, counted by its bytes as a call of this model.
    pub fn of_bytes(model: &str) -> Self {
        Self { stream: Some(false), limitless: true, ..Self::to(Dialect::Bytes, Some(model.to_owned())) }
    }

    /// Takes in a request header, its name in lower case: DashScope is asked for a stream there (Alibaba Cloud Model
    /// Studio, "DashScope API reference": `X-DashScope-SSE: enable`, or `Accept: text/event-stream`), and for work that goes
    /// on behind its answer (`X-DashScope-Async: enable`).
    pub fn header(&mut self, name: &[u8], value: &[u8]) {
        if self.dialect != Dialect::DashScope {
            return;
        }
        let enabled = value.trim_ascii().eq_ignore_ascii_case(b"enable");
        match name {
            b"x-dashscope-sse" if enabled => self.stream = Some(true),
            b"x-dashscope-async" => self.deferred |= enabled,
            b"accept" if value.to_ascii_lowercase().windows(17).any(|part| part == b"text/event-stream") => {
                self.stream = Some(true);
            }
            _ => {}
        }
    }
}

/// The ends of paths, each with its dialect. The first that fits decides.
const ENDS: [(&str, Dialect); 69] = [
    ("/chat/completions", Dialect::OpenAiChat),
    // MiniMax.
    ("/v1/text/chatcompletion_v2", Dialect::OpenAiChat),
    // Mistral, "Agents completion": a chat, although its path has no such word.
    ("/agents/completions", Dialect::OpenAiChat),
    // Perplexity's newer name of its chat.
    ("/v1/sonar", Dialect::OpenAiChat),
    ("/completions", Dialect::OpenAiCompletions),
    ("/responses/compact", Dialect::OpenAiResponses),
    ("/responses/input_tokens", Dialect::CountTokens),
    ("/responses", Dialect::OpenAiResponses),
    ("/api/chat", Dialect::OllamaChat),
    ("/api/generate", Dialect::OllamaGenerate),
    ("/api/embed", Dialect::OllamaEmbed),
    ("/api/embeddings", Dialect::OllamaEmbed),
    ("/embeddings", Dialect::OpenAiEmbeddings),
    // Volcengine Ark, "Multimodal vectorization"; Voyage's two others.
    ("/embeddings/multimodal", Dialect::OpenAiEmbeddings),
    ("/v1/multimodalembeddings", Dialect::OpenAiEmbeddings),
    ("/v1/contextualizedembeddings", Dialect::OpenAiEmbeddings),
    ("/moderations", Dialect::OpenAiModerations),
    // Mistral, "Classifiers"; Cohere, Jina and SGLang, "Classify".
    ("/classifications", Dialect::OpenAiModerations),
    ("/v1/classify", Dialect::OpenAiModerations),
    ("/images/generations", Dialect::OpenAiImages),
    ("/images/edits", Dialect::OpenAiImages),
    ("/images/variations", Dialect::OpenAiImages),
    ("/audio/speech", Dialect::OpenAiSpeech),
    ("/audio/transcriptions", Dialect::OpenAiTranscription),
    ("/audio/translations", Dialect::OpenAiTranscription),
    ("/v1/messages/count_tokens", Dialect::CountTokens),
    ("/v1/messages", Dialect::AnthropicMessages),
    ("/v1/complete", Dialect::AnthropicComplete),
    ("/v1/chat", Dialect::CohereChat),
    ("/v2/chat", Dialect::CohereChat),
    ("/v1/generate", Dialect::CohereGenerate),
    ("/v1/embed", Dialect::CohereEmbed),
    ("/v2/embed", Dialect::CohereEmbed),
    ("/v1/tokenize", Dialect::CountTokens),
    ("/v1/detokenize", Dialect::CountTokens),
    // Zhipu, Model Studio, xAI, Moonshot, Ark.
    ("/tokenizer", Dialect::CountTokens),
    ("/v1/tokenize-text", Dialect::CountTokens),
    ("/v1/tokenizers/estimate-token-count", Dialect::CountTokens),
    ("/api/v3/tokenization", Dialect::CountTokens),
    ("/rerank", Dialect::Rerank),
    // Alibaba Cloud Model Studio, "Text rerank", its compatible path.
    ("/reranks", Dialect::Rerank),
    // llama.cpp's other name.
    ("/reranking", Dialect::Rerank),
    // vLLM, "Score API".
    ("/v1/score", Dialect::Rerank),
    ("/v1alpha/interactions", Dialect::GeminiInteractions),
    ("/v1beta/interactions", Dialect::GeminiInteractions),
    ("/v1/interactions", Dialect::GeminiInteractions),
    ("/aigc/text-generation/generation", Dialect::DashScope),
    ("/aigc/multimodal-generation/generation", Dialect::DashScope),
    ("/embeddings/text-embedding/text-embedding", Dialect::DashScope),
    ("/embeddings/multimodal-embedding/multimodal-embedding", Dialect::DashScope),
    ("/rerank/text-rerank/text-rerank", Dialect::DashScope),
    ("/v1/t2a_v2", Dialect::MiniMaxSpeech),
    ("/v1/image_generation", Dialect::MiniMaxMedia),
    // Words too common to be looked for behind a prefix: see `WHOLE`.
    ("/generate", Dialect::Generate),
    ("/generate_stream", Dialect::Generate),
    ("/completion", Dialect::Generate),
    ("/infill", Dialect::Generate),
    // vLLM, SGLang, Text Embeddings Inference, llama.cpp.
    ("/score", Dialect::Rerank),
    ("/pooling", Dialect::OpenAiEmbeddings),
    ("/encode", Dialect::OpenAiEmbeddings),
    ("/embed", Dialect::OpenAiEmbeddings),
    ("/embedding", Dialect::OpenAiEmbeddings),
    ("/embed_all", Dialect::OpenAiEmbeddings),
    ("/embed_sparse", Dialect::OpenAiEmbeddings),
    ("/classify", Dialect::OpenAiModerations),
    ("/tokenize", Dialect::CountTokens),
    ("/detokenize", Dialect::CountTokens),
    ("/apply-template", Dialect::CountTokens),
    ("/chat_tokenize", Dialect::CountTokens),
];

/// Where the Gemini API speaks OpenAI's formats (Google, "OpenAI compatibility").
const GEMINI_OPENAI: &[u8] = b"/v1beta/openai/";

/// Where Azure speaks OpenAI's formats with the deployment in the body (Azure OpenAI, "API version lifecycle": v1).
const AZURE_OPENAI: &[u8] = b"/openai/v1/";

/// Where Ark speaks OpenAI's formats (Volcengine Ark, "Base URL and authentication"), its coding and agent plans too.
const ARK: [&[u8]; 3] = [b"/api/v3/", b"/api/coding/v3/", b"/api/plan/v3/"];

/// Where Model Studio speaks OpenAI's formats (Alibaba Cloud Model Studio, "OpenAI compatible").
const MODEL_STUDIO: &[u8] = b"/compatible-mode/";

/// Ends that must be the whole path.
const WHOLE: [&str; 16] = [
    "/generate",
    "/generate_stream",
    "/completion",
    "/infill",
    "/score",
    "/pooling",
    "/encode",
    "/embed",
    "/embedding",
    "/embed_all",
    "/embed_sparse",
    "/classify",
    "/tokenize",
    "/detokenize",
    "/apply-template",
    "/chat_tokenize",
];

/// Whole paths that end like one of those and are something else: LM Studio's own chat ("REST API v1"), which is not Cohere's.
const OTHERS: [&str; 1] = ["/api/v1/chat"];

/// Google's verbs behind the model and a colon; the dialect, and whether the answer is a stream.
const VERBS: [(&str, Dialect, Option<bool>); 8] = [
    ("generateContent", Dialect::GeminiGenerate, Some(false)),
    ("streamGenerateContent", Dialect::GeminiGenerate, Some(true)),
    ("embedContent", Dialect::GeminiEmbed, Some(false)),
    ("batchEmbedContents", Dialect::GeminiEmbed, Some(false)),
    ("countTokens", Dialect::CountTokens, Some(false)),
    ("computeTokens", Dialect::CountTokens, Some(false)),
    ("predict", Dialect::VertexPredict, Some(false)),
    (LONG_RUNNING, Dialect::VertexPredict, Some(false)),
];

/// Veo's (Google, "Generate videos with Veo"): the answer names an operation that goes on.
const LONG_RUNNING: &str = "predictLongRunning";

/// Vertex passes bodies of other vendors on: by the publisher, and whether the answer is a stream.
const PUBLISHERS: [(&str, Dialect); 3] =
    [("anthropic", Dialect::AnthropicMessages), ("mistralai", Dialect::OpenAiChat), ("ai21", Dialect::OpenAiChat)];

/// Bedrock's last segments behind the model.
const OPERATIONS: [(&str, Dialect, bool); 5] = [
    ("converse", Dialect::BedrockConverse, false),
    ("converse-stream", Dialect::BedrockConverse, true),
    ("invoke", Dialect::BedrockInvoke, false),
    ("invoke-with-response-stream", Dialect::BedrockInvoke, true),
    ("count-tokens", Dialect::CountTokens, false),
];

/// The route of a path in its plain spelling, query left out.
pub fn plain(path: &[u8]) -> Option<Route> {
    let path = bare(path);
    let route = recognise(path, same)?;
    // An encoded model would be looked up as it is written, and served as it is meant.
    let clear = bedrock(path, same).is_some() || decoded(path) == path || {
        let named = recognise(&decoded(path), same);
        named.is_some_and(|named| named == route)
    };
    (clear && cleaned(path) == path).then_some(route)
}

/// Whether a server might read this path as one of ours although [`Dialect::of`] does not: percent-encoded,
/// in other case, with `//`, `.` or `..` segments, parameters, back-slashes or a slash at the end. Such a
/// request would pass unmetered, so it is better refused.
pub fn suspicious(path: &[u8]) -> bool {
    let readings = || [cleaned(path), cleaned(&decoded(path))];
    plain(path).is_none() && readings().iter().any(|path| recognise(path, alike).is_some())
}

/// How servers may read a path, the query left out: as it is written, and as the most lenient of them does, percent-decoded
/// and with its segments resolved. Whoever allows a path must allow all of these.
pub fn readings(path: &[u8]) -> [Vec<u8>; 3] {
    let slashed = |path: Vec<u8>| if path.is_empty() { b"/".to_vec() } else { path };
    [bare(path).to_vec(), slashed(cleaned(bare(path))), slashed(cleaned(&decoded(path)))]
}

/// How names are compared: exactly, or as a lenient server would.
type Compare = fn(&[u8], &[u8]) -> bool;

fn same(a: &[u8], b: &[u8]) -> bool {
    a == b
}

fn alike(a: &[u8], b: &[u8]) -> bool {
    a.eq_ignore_ascii_case(b)
}

fn recognise(path: &[u8], compare: Compare) -> Option<Route> {
    google(path, compare).or_else(|| bedrock(path, compare)).or_else(|| by_end(path, compare))
}

/// Whether a path ends so, a `*` being one segment of it.
fn ends(path: &[u8], end: &str, compare: Compare) -> bool {
    let strip = |path: &'_ [u8], end: &str| {
        let (before, tail) = path.split_at_checked(path.len().checked_sub(end.len())?)?;
        compare(tail, end.as_bytes()).then_some(before.len())
    };
    let Some((head, tail)) = end.split_once('*') else { return strip(path, end).is_some() };
    let named = strip(path, tail).and_then(|at| path.get(..at)).unwrap_or_default();
    let segment = named.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let before = named.len().checked_sub(segment.len()).and_then(|at| named.get(..at));
    !segment.is_empty() && before.is_some_and(|before| strip(before, head).is_some())
}

fn by_end(path: &[u8], compare: Compare) -> Option<Route> {
    if OTHERS.iter().any(|other| compare(path, other.as_bytes())) {
        return None;
    }
    let fits = |end: &str| (!WHOLE.contains(&end) || path.len() == end.len()) && ends(path, end, compare);
    let usual = || ENDS.iter().find(|(end, _)| fits(end)).map(|(end, dialect)| (*end, *dialect, Made::Usual, false));
    let (end, dialect, made, later) = made::end(&fits).or_else(usual)?;
    let stream = (end == "/generate_stream").then_some(true);
    let model = deployment(path, end.len());
    let host = match dialect {
        _ if model.is_some() => Host::Azure,
        Dialect::GeminiInteractions => Host::GeminiApi,
        Dialect::Generate if matches!(end, "/completion" | "/infill") => Host::LlamaCpp,
        // Its OpenAI-compatible route.
        _ if begins(path, GEMINI_OPENAI, compare) => Host::GeminiApi,
        _ if begins(path, AZURE_OPENAI, compare) => Host::Azure,
        _ if begins(path, MODEL_STUDIO, compare) => Host::ModelStudio,
        _ if ARK.iter().any(|base| begins(path, base, compare)) => Host::Ark,
        _ => Host::Any,
    };
    // Zhipu's `/api/paas/v4/async/chat/completions`, Perplexity's `/async/chat/completions`.
    let before = path.get(..path.len().saturating_sub(end.len())).unwrap_or_default();
    // An end with a version in it has a gateway's own path in front.
    let deferred = later
        || !end.starts_with("/v1/")
            && before.len().checked_sub(6).and_then(|at| before.get(at..)).is_some_and(|last| compare(last, b"/async"));
    Some(Route { dialect, host, model, stream, deferred, limitless: end == "/responses/compact", made })
}

fn begins(path: &[u8], with: &[u8], compare: Compare) -> bool {
    path.get(..with.len()).is_some_and(|start| compare(start, with))
}

/// Whether a model's name may be that of a deployment at Azure: letters, digits, `-`, `_` and `.` (Azure OpenAI, "Create a
/// deployment"). Others who share its route put their vendors before a slash, or a version behind a colon.
pub fn is_deployment(model: &str) -> bool {
    model.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// The model in an Azure path: `…/deployments/<name>/…/chat/completions`. Azure's own segments are read in any case.
fn deployment(path: &[u8], end: usize) -> Option<String> {
    let before = path.get(..path.len().checked_sub(end)?)?;
    let segments: Vec<_> = before.split(|byte| *byte == b'/').collect();
    let mut pairs = segments.windows(2).rev().filter_map(|pair| <&[&[u8]; 2]>::try_from(pair).ok());
    let [_, name] = pairs.find(|[at, name]| at.eq_ignore_ascii_case(b"deployments") && !name.is_empty())?;
    std::str::from_utf8(name).ok().map(str::to_owned)
}

/// `…/models/<model>:<verb>`, also under `tunedModels` and Vertex's `endpoints`.
fn google(path: &[u8], compare: Compare) -> Option<Route> {
    let colon = path.iter().rposition(|byte| *byte == b':')?;
    let (before, verb) = (path.get(..colon)?, path.get(colon.checked_add(1)?..)?);
    let mut segments = before.rsplit(|byte| *byte == b'/');
    let (name, kind) = (segments.next()?, segments.next()?);
    let kinds: [&[u8]; 3] = [b"models", b"tunedModels", b"endpoints"];
    if name.is_empty() || !kinds.iter().any(|known| compare(kind, known)) {
        return None;
    }
    let model = std::str::from_utf8(name).ok().map(str::to_owned);
    let verbs = VERBS.iter().find(|(known, ..)| compare(verb, known.as_bytes()));
    if let Some((_, dialect, stream)) = verbs {
        // Vertex names a publisher, or an endpoint of one's own.
        let vertex = compare(kind, b"endpoints") || segments.any(|segment| compare(segment, b"publishers"));
        let host = if vertex { Host::Any } else { Host::GeminiApi };
        let deferred = compare(verb, LONG_RUNNING.as_bytes());
        let made = if deferred { Made::Film(8) } else { Made::Usual };
        return Some(Route { dialect: *dialect, model, stream: *stream, host, deferred, limitless: false, made });
    }
    let stream = compare(verb, b"streamRawPredict");
    if !stream && !compare(verb, b"rawPredict") {
        return None;
    }
    let publisher = segments.next()?;
    let (known, dialect) = PUBLISHERS.iter().find(|(known, _)| compare(publisher, known.as_bytes()))?;
    // Google, "Count tokens for Claude models": the model is in the body, and nothing is worked.
    if *known == "anthropic" && compare(name, b"count-tokens") {
        return Some(Route { stream: Some(false), ..Route::to(Dialect::CountTokens, None) });
    }
    // Claude's body says itself whether it streams.
    Some(Route::to(*dialect, model))
}

/// `/model/<model>/<operation>`. Amazon's SDKs write the colons and slashes of a model as `%3A` and `%2F`, once.
fn bedrock(path: &[u8], compare: Compare) -> Option<Route> {
    let slash = path.iter().rposition(|byte| *byte == b'/')?;
    let (before, operation) = (path.get(..slash)?, path.get(slash.checked_add(1)?..)?);
    let (_, dialect, stream) = OPERATIONS.iter().find(|(known, ..)| compare(operation, known.as_bytes()))?;
    let at = before.windows(7).position(|window| compare(window, b"/model/"))?;
    let name = decoded_once(before.get(at.checked_add(7)?..)?);
    // Decoded twice, or with dots resolved, it could be another model.
    let clear =
        !name.is_empty() && !name.contains(&b'%') && cleaned(&[b"/", name.as_slice()].concat()).ends_with(&name);
    let model = String::from_utf8(name).ok().filter(|_| clear)?;
    Some(Route { stream: Some(*stream), ..Route::to(*dialect, Some(model)) })
}

pub(super) fn bare(path: &[u8]) -> &[u8] {
    path.split(|byte| *byte == b'?').next().unwrap_or_default()
}

/// The path as the most lenient server would read it. A plain path is its own clean form.
pub(super) fn cleaned(path: &[u8]) -> Vec<u8> {
    let end = path.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(path.len());
    let path = path.get(..end).unwrap_or_default();
    let mut segments: Vec<&[u8]> = Vec::new();
    for segment in path.split(|byte| matches!(byte, b'/' | b'\\')) {
        let bare = segment.split(|byte| *byte == b';').next().unwrap_or_default();
        match bare.trim_ascii() {
            b"" | b"." => {}
            b".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    let mut cleaned = Vec::with_capacity(path.len());
    for segment in segments {
        cleaned.push(b'/');
        cleaned.extend_from_slice(segment);
    }
    cleaned
}

/// Percent-decoded until nothing changes, five times at most: some chains decode twice.
fn decoded(path: &[u8]) -> Vec<u8> {
    let mut path = bare(path).to_vec();
    for _ in 0..5 {
        let once = decoded_once(&path);
        if once == path {
            break;
        }
        path = once;
    }
    path
}

fn decoded_once(path: &[u8]) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, tail)) = rest.split_first() {
        match (first, digit(tail.first()), digit(tail.get(1))) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or_default());
                rest = tail.get(2..).unwrap_or_default();
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Host, Route, plain, suspicious};
    use crate::meter::dialect::Dialect;

    fn of(path: &str) -> Option<Dialect> {
        Dialect::of(b"POST", path.as_bytes())
    }

    #[test]
    fn plain_paths_are_recognised() {
        for path in ["/v1/chat/completions", "/chat/completions", "/Azure/X/chat/completions?api-version=2024"] {
            assert_eq!(of(path), Some(Dialect::OpenAiChat), "{path}");
            assert!(!suspicious(path.as_bytes()), "{path}");
        }
        for path in ["/v1/messages", "/apps/anthropic/v1/messages?beta=true"] {
            assert_eq!(of(path), Some(Dialect::AnthropicMessages), "{path}");
            assert!(!suspicious(path.as_bytes()), "{path}");
        }
        assert_eq!(Dialect::of(b"GET", b"/v1/messages"), None);
    }

    #[test]
    fn paths_tell_who_serves() {
        for (path, host) in [
            ("/v1beta/models/gemini-2.5-pro:generateContent", Host::GeminiApi),
            ("/v1beta/tunedModels/x:streamGenerateContent?alt=sse", Host::GeminiApi),
            ("/v1beta/interactions", Host::GeminiApi),
            ("/v1beta/openai/chat/completions", Host::GeminiApi),
            ("/v1/projects/p/locations/l/publishers/google/models/gemini-2.5-pro:generateContent", Host::Any),
            ("/v1/projects/p/locations/l/endpoints/7:generateContent", Host::Any),
            ("/v1/chat/completions", Host::Any),
            ("/openai/deployments/d/chat/completions", Host::Azure),
            ("/openai/v1/chat/completions", Host::Azure),
            ("/openai/v1/responses", Host::Azure),
            ("/infill", Host::LlamaCpp),
            ("/api/v3/chat/completions", Host::Ark),
            ("/api/coding/v3/chat/completions", Host::Ark),
            ("/compatible-mode/v1/chat/completions", Host::ModelStudio),
        ] {
            assert_eq!(Route::of(b"POST", path.as_bytes()).map(|route| route.host), Some(host), "{path}");
        }
    }

    #[test]
    fn other_spellings_of_them_are_suspicious() {
        for path in [
            "/v1/chat%2Fcompletions",
            "/v1/chat/completion%73",
            "/v1/chat/completion%2573",
            "/v1/chat/completions/",
            "/v1/chat/completions/.",
            "/v1/chat/completions/x/..",
            "//v1/messages",
            "/v1//messages",
            "/v1/./messages",
            "/v1/Messages",
            "/V1/messages",
            "/v1\\messages",
            "/v1/messages;a=b",
            "/v1/messages#a",
            "/v1/messages%3Fa",
            "/a/../v1/messages",
            "/a%20b/v1/messages/",
            "v1/messages",
        ] {
            assert_eq!(of(path), None, "{path}");
            assert!(suspicious(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn work_has_other_paths_at_some_providers() {
        for (path, dialect) in [
            ("/v1/agents/completions", Dialect::OpenAiChat),
            ("/v1/responses/compact", Dialect::OpenAiResponses),
            ("/api/v3/embeddings/multimodal", Dialect::OpenAiEmbeddings),
            ("/compatible-api/v1/reranks", Dialect::Rerank),
            ("/v1/score", Dialect::Rerank),
            ("/infill", Dialect::Generate),
            ("/api/v3/context/chat/completions", Dialect::OpenAiChat),
            ("/cohere/v1/chat", Dialect::CohereChat),
        ] {
            assert_eq!(of(path), Some(dialect), "{path}");
        }
    }

    #[test]
    fn every_documented_route_of_a_vendor_has_its_dialect() {
        let routes = include_str!("../../../tests/golden/routes.txt");
        let (mut vendor, mut told) = ("", 0);
        for line in routes.lines().filter(|line| !line.is_empty() && !line.starts_with("##")) {
            if let Some(name) = line.strip_prefix("# ") {
                vendor = name;
                continue;
            }
            let (dialect, path) = line.split_once(' ').unwrap();
            let expected = (dialect != "-").then_some(dialect);
            assert_eq!(of(path.trim()).map(Dialect::name), expected, "{vendor}: {path}");
            assert!(!suspicious(path.trim().as_bytes()), "{vendor}: {path}");
            told += 1;
        }
        assert!(told > 150, "{told}");
    }

    #[test]
    fn other_paths_are_neither() {
        for path in [
            "/v1/messages/batches",
            "/v1/models",
            "/",
            "",
            "/app/generate",
            "/api/v1/chat",
            "/app/infill",
            "/models/x:tune",
            "/v1/responses/x",
            "*",
        ] {
            assert_eq!(of(path), None, "{path}");
            assert!(!suspicious(path.as_bytes()), "{path}");
        }
    }

    fn model(path: &str) -> Option<String> {
        plain(path.as_bytes()).and_then(|route| route.model)
    }

    #[test]
    fn azure_names_the_model_in_the_path() {
        assert_eq!(model("/openai/deployments/gpt-4o/chat/completions?api-version=1").as_deref(), Some("gpt-4o"));
        assert_eq!(model("/openai/deployments/ada/embeddings?api-version=1").as_deref(), Some("ada"));
        assert_eq!(model("/v1/chat/completions"), None);
        assert_eq!(model("/deployments/chat/completions"), None);
    }

    #[test]
    fn no_spelling_of_an_azure_path_hides_its_model() {
        assert_eq!(model("/openai/Deployments/gpt-4o/chat/completions").as_deref(), Some("gpt-4o"));
        assert_eq!(model("/openai/deployments/gpt-4o/extensions/chat/completions").as_deref(), Some("gpt-4o"));
        for path in [
            "/openai/deployments/gpt%2D4o/chat/completions",
            "/openai/d%65ployments/gpt-4o/chat/completions",
            "/openai/deployments%2Fgpt-4o/chat/completions",
            "/openai/deployments/gpt%252D4o/chat/completions",
            "/v1beta/models/gemini%2Dpro:generateContent",
            "/v1beta/models/gemini-pro%3AgenerateContent",
            "/v1beta/models/gemini-pro:GenerateContent",
            "/v1beta/Models/gemini-pro:streamGenerateContent",
            "/model/a%253Ab/converse",
            "/model/x%2F..%2Fy/converse",
            "/Model/x/converse",
        ] {
            assert_eq!(of(path), None, "{path}");
            assert!(suspicious(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn google_names_model_and_stream_in_the_path() {
        let route = |path: &str| plain(path.as_bytes()).map(|route| (route.dialect.name(), route.model, route.stream));
        let model = |name: &str| Some(name.to_owned());
        for (path, dialect, name, stream) in [
            ("/v1beta/models/gemini-2.5-flash:generateContent", "gemini-generate", "gemini-2.5-flash", Some(false)),
            ("/v1/publishers/google/models/g:streamGenerateContent?alt=sse", "gemini-generate", "g", Some(true)),
            ("/v1beta/tunedModels/mine:generateContent", "gemini-generate", "mine", Some(false)),
            ("/v1/projects/p/locations/l/endpoints/12:predict", "vertex-predict", "12", Some(false)),
            (
                "/v1/projects/p/publishers/anthropic/models/claude@1:streamRawPredict",
                "anthropic-messages",
                "claude@1",
                None,
            ),
            ("/v1/projects/p/publishers/mistralai/models/m:rawPredict", "openai-chat", "m", None),
            ("/v1/publishers/mistralai/models/count-tokens:rawPredict", "openai-chat", "count-tokens", None),
        ] {
            assert_eq!(route(path), Some((dialect, model(name), stream)), "{path}");
        }
        assert_eq!(route("/v1/publishers/who/models/m:rawPredict"), None);
        // What Claude's own path for it has in its body, this one has too.
        let count = route("/v1/projects/p/locations/l/publishers/anthropic/models/count-tokens:rawPredict");
        assert_eq!(count, Some(("count-tokens", None, Some(false))));
    }

    #[test]
    fn dashscope_is_asked_for_a_stream_in_a_header() {
        let stream = |path: &[u8], name: &[u8], value: &[u8]| {
            let mut route = plain(path).unwrap();
            route.header(name, value);
            route.stream
        };
        let path = b"/api/v1/services/aigc/text-generation/generation";
        assert_eq!(stream(path, b"x-dashscope-sse", b"Enable"), Some(true));
        assert_eq!(stream(path, b"accept", b"text/event-stream, */*"), Some(true));
        assert_eq!(stream(path, b"x-dashscope-sse", b"disable"), None);
        assert_eq!(stream(b"/v1/chat/completions", b"accept", b"text/event-stream"), None);
    }

    #[test]
    fn amazon_writes_models_percent_encoded() {
        for path in ["/model/anthropic.claude-v1:0/converse", "/model/anthropic.claude-v1%3A0/converse"] {
            assert_eq!(model(path).as_deref(), Some("anthropic.claude-v1:0"), "{path}");
            assert!(!suspicious(path.as_bytes()));
        }
        let arn = "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A%3Afoundation-model%2Fx/invoke-with-response-stream";
        assert_eq!(model(arn).as_deref(), Some("arn:aws:bedrock:us-east-1::foundation-model/x"));
        assert_eq!(plain(arn.as_bytes()).unwrap().stream, Some(true));
    }
}
