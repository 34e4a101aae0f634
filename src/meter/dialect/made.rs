//! What is made that is counted by the piece: pictures, films, songs and speech, by the path of a call or by its model; and
//! the calls that ask after it.
//!
//! | provider | path | made | where a call does not say |
//! |---|---|---|---|
//! | MiniMax ("Video Generation", "Music Generation", "T2A Async") | `…/v1/{video,music}_generation`, `…/v2/video_generation`, `…/v1/t2a_async_v2` | a film, a song, speech | 6 seconds |
//! | Alibaba Cloud Model Studio ("Wan", "Qwen-Image") | `…/aigc/{text2image,image2image}/image-synthesis`, `…/aigc/image-generation/generation` | pictures | 4 with Wan, else 1 |
//! | the same ("Wan" films) | `…/aigc/{video-generation,image2video}/video-synthesis` | a film | 5 seconds |
//! | Zhipu ("CogVideoX", "Vidu") | `…/videos/generations` | a film | 5 seconds |
//! | Volcengine Ark ("Seedance") | `…/contents/generations/tasks` | a film, told in tokens too | 5 seconds |
//! | OpenAI, Azure ("Videos", "Sora") | `…/v1/videos`, `…/video/generations/jobs` | a film | 4 and 5 seconds |
//! | Google ("Veo") | `:predictLongRunning` | films | 8 seconds |
//! | Google ("Imagen", "Virtual Try-On", "Gemini" with `image` in the name) | `:predict`, `:generateContent` | pictures | 4 with Imagen, else 1 |
//!
//! Films, and whatever DashScope is asked for with `X-DashScope-Async`, are worked on behind an answer that only says under
//! which name: such a call is charged by what it asks for. [Asking after](asks_after) it costs nothing.
//!
//! DashScope's and Google's pictures may be asked for where their chats are: what they cost is told by the model, and to
//! [`Endpoint`](super::Endpoint) they are what their path is.

use super::path::{bare, cleaned};
use super::{Dialect, Endpoint, Route};

/// What a call has made, as far as its path or its model tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Made {
    /// What its dialect makes.
    #[default]
    Usual,
    /// Pictures, so many where the call does not say.
    Pictures(u64),
    /// A film of so many seconds where the call does not say.
    Film(u64),
    /// A song. How long nobody says before it is there.
    Song,
    /// A text that is read aloud.
    Speech,
}

use Made::{Film, Pictures, Song, Speech, Usual};

/// The ends of paths, what is made there, and whether it is made behind the answer; `*` is one segment. A remix lasts as long
/// as its film, which nobody says: 12 seconds at most.
const ENDS: [(&str, Dialect, Made, bool); 14] = [
    ("/v1/video_generation", Dialect::MiniMaxMedia, Film(6), true),
    ("/v2/video_generation", Dialect::MiniMaxMedia, Film(6), true),
    ("/v1/music_generation", Dialect::MiniMaxMedia, Song, false),
    ("/v1/t2a_async_v2", Dialect::MiniMaxSpeech, Speech, true),
    ("/aigc/text2image/image-synthesis", Dialect::DashScope, Pictures(1), true),
    ("/aigc/image2image/image-synthesis", Dialect::DashScope, Pictures(1), true),
    ("/aigc/image-generation/generation", Dialect::DashScope, Pictures(1), false),
    ("/aigc/video-generation/video-synthesis", Dialect::DashScope, Film(5), true),
    ("/aigc/image2video/video-synthesis", Dialect::DashScope, Film(5), true),
    ("/videos/generations", Dialect::OpenAiImages, Film(5), true),
    ("/contents/generations/tasks", Dialect::OpenAiImages, Film(5), true),
    ("/video/generations/jobs", Dialect::OpenAiImages, Film(5), true),
    ("/v1/videos", Dialect::OpenAiImages, Film(4), true),
    ("/v1/videos/*/remix", Dialect::OpenAiImages, Film(12), true),
];

/// The longest film that a model may make which is left to choose: Seedance ("`duration`: -1").
pub const LONGEST_CHOSEN: u64 = 15;

/// The most pictures of a group that a model may make (Volcengine Ark, "Seedream": `sequential_image_generation`).
pub const MOST_OF_GROUP: u64 = 15;

/// The path that ends so, if something is made there.
pub(super) fn end(fits: &dyn Fn(&str) -> bool) -> Option<(&'static str, Dialect, Made, bool)> {
    ENDS.iter().find(|(end, ..)| fits(end)).copied()
}

impl Made {
    /// What a call of this route makes with this model.
    pub fn of(route: &Route, model: &str) -> Self {
        let has = |part: &str| memchr::memmem::find(model.as_bytes(), part.as_bytes()).is_some();
        // Wan's newer models make four (Alibaba Cloud Model Studio, "Wan text-to-image": `n`).
        let pictures = || Pictures(if has("t2i") || has("wan2.") { 4 } else { 1 });
        match (route.made, route.dialect) {
            (Pictures(_), _) => pictures(),
            (Usual, Dialect::DashScope) if has("-t2i") || has("-i2i") || has("-image") => pictures(),
            // MiniMax's too, which is served there ("MiniMax speech synthesis").
            (Usual, Dialect::DashScope) if has("-tts") || has("/speech-") => Speech,
            (Usual, Dialect::VertexPredict) if has("imag") => Pictures(4),
            (Usual, Dialect::VertexPredict) if has("virtual-try-on") => Pictures(1),
            (Usual, Dialect::GeminiGenerate) if has("-image") => Pictures(1),
            (made, _) => made,
        }
    }
}

/// Tokens that a second of one of Ark's films comes to at most: width × height × 24 frames / 1024 (Volcengine Ark, "Video
/// generation: token usage"), by what `resolution` says; where that is empty, by what its model does then. What nobody knows
/// is taken for the largest, 3840 × 2160.
pub fn film_tokens_a_second(resolution: &str, model: &str) -> u64 {
    match resolution {
        "480p" => 10_000,
        "720p" => 22_000,
        "" if !model.contains("1-0-pro") => 22_000,
        "" | "1080p" => 50_000,
        _ => 200_000,
    }
}

/// Tokens that one of Ark's pictures comes to at most: width × height / 256 (Volcengine Ark, "Image generation": `usage`), by
/// what `size` says: `2048x2048`, or `2K` where its sides are up to its model. What nobody knows is taken for the largest.
pub fn picture_tokens(size: Option<&str>) -> u64 {
    const LARGEST: u64 = 4_096 * 4_096 / 256;
    let Some(size) = size.map(str::to_ascii_lowercase).filter(|size| !size.is_empty() && size != "adaptive") else {
        return 2_048 * 2_048 / 256;
    };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    if let Some(thousands) = size.strip_suffix('k').and_then(number) {
        return thousands.saturating_mul(1_024).saturating_pow(2).div_ceil(256);
    }
    let sides = size.split_once(['x', '*', '×']);
    let area = sides.and_then(|(width, height)| number(width)?.checked_mul(number(height)?));
    area.map_or(LARGEST, |area| area.div_ceil(256))
}

/// What a prompt of Ark's says of its film behind two hyphens: how many seconds it lasts (`--dur`, `--duration`; `--frames`),
/// and its resolution (`--rs`, `--resolution`).
pub fn film_flags(text: &str) -> (u64, Option<&str>) {
    let (mut seconds, mut resolution) = (0u64, None);
    let mut words = text.split_ascii_whitespace();
    while let Some(word) = words.next() {
        let number = |word: Option<&str>| word.and_then(|word| word.parse().ok()).unwrap_or(LONGEST_CHOSEN);
        match word {
            "--dur" | "--duration" => seconds = seconds.max(number(words.next())),
            "--frames" => seconds = seconds.max(number(words.next()).div_ceil(24)),
            "--rs" | "--resolution" => resolution = words.next(),
            _ => {}
        }
    }
    (seconds, resolution)
}

/// What a request asks after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The kinds of work that may be told of there.
    pub of: &'static [Endpoint],
    /// It is not asked for by the name of a job but by that of a file, of which a provider has others too.
    pub file: bool,
}

const fn work(of: &'static [Endpoint]) -> Asked {
    Asked { of, file: false }
}

const fn file(of: &'static [Endpoint]) -> Asked {
    Asked { of, file: true }
}

/// Where providers are asked after work that goes on; `*` is the name of it, one segment of the path.
const AFTER: [(&str, Asked); 13] = [
    // DashScope, "Query task results".
    ("/api/v1/tasks/*", work(&[Endpoint::Images, Endpoint::Audio])),
    // MiniMax.
    ("/v1/query/video_generation", work(&[Endpoint::Images])),
    ("/v2/query/video_generation/*", work(&[Endpoint::Images])),
    ("/v1/query/t2a_async_query_v2", work(&[Endpoint::Audio])),
    ("/v1/files/retrieve", file(&[Endpoint::Images, Endpoint::Audio])),
    ("/v1/files/retrieve_content", file(&[Endpoint::Images, Endpoint::Audio])),
    // Zhipu.
    ("/async-result/*", work(&[Endpoint::Images])),
    // Ark.
    ("/contents/generations/tasks/*", work(&[Endpoint::Images])),
    // OpenAI and Azure.
    ("/v1/videos/*", work(&[Endpoint::Images])),
    ("/v1/videos/*/content", work(&[Endpoint::Images])),
    ("/video/generations/jobs/*", work(&[Endpoint::Images])),
    ("/video/generations/*/content/video", work(&[Endpoint::Images])),
    // Google's Gemini API.
    ("/models/*/operations/*", work(&[Endpoint::Predict])),
];

/// What a request asks after, if it only asks after work that goes on, or for what was made: it costs nothing. Of paths in
/// any but their plain spelling this is not told.
pub fn asks_after(method: &[u8], path: &[u8]) -> Option<Asked> {
    let path = bare(path);
    if path.contains(&b'%') || cleaned(path) != path {
        return None;
    }
    let path = std::str::from_utf8(path).ok()?;
    match method {
        // Google, "Poll the status of the operation".
        b"POST" if path.ends_with(":fetchPredictOperation") => Some(work(&[Endpoint::Predict])),
        b"GET" => AFTER.iter().find(|(known, _)| fits(known, path)).map(|(_, asked)| *asked),
        _ => None,
    }
}

/// Whether a path ends in these segments, with something in front of them.
fn fits(known: &str, path: &str) -> bool {
    let mut asked = path.rsplit('/');
    let mut known = known.rsplit('/').take_while(|segment| !segment.is_empty());
    let same = known.all(|segment| asked.next().is_some_and(|asked| asked == segment || segment == "*"));
    same && asked.next().is_some()
}

#[cfg(test)]
mod tests {
    use super::{Made, asks_after, film_flags, picture_tokens};
    use crate::meter::call::read_call;
    use crate::meter::dialect::{Dialect, Route};
    use crate::meter::usage::Usage;

    fn made(path: &str, model: &str) -> Option<(Dialect, Made, bool)> {
        let route = Route::of(b"POST", path.as_bytes())?;
        let model = route.model.as_deref().unwrap_or(model);
        Some((route.dialect, Made::of(&route, model), route.deferred))
    }

    #[test]
    fn paths_and_models_tell_what_is_made() {
        let services = "/api/v1/services/aigc";
        let google = "/v1/projects/p/locations/l/publishers/google/models";
        for (path, model, dialect, what, later) in [
            ("/v1/video_generation", "MiniMax-Hailuo-2.3", Dialect::MiniMaxMedia, Made::Film(6), true),
            ("/v1/image_generation", "image-01", Dialect::MiniMaxMedia, Made::Usual, false),
            ("/v1/music_generation", "music-2.5", Dialect::MiniMaxMedia, Made::Song, false),
            ("/v1/t2a_async_v2", "speech-2.8-hd", Dialect::MiniMaxSpeech, Made::Speech, true),
            (
                &format!("{services}/text2image/image-synthesis"),
                "wan2.2-t2i-flash",
                Dialect::DashScope,
                Made::Pictures(4),
                true,
            ),
            (
                &format!("{services}/text2image/image-synthesis"),
                "wanx2.1-t2i-turbo",
                Dialect::DashScope,
                Made::Pictures(4),
                true,
            ),
            (
                &format!("{services}/text2image/image-synthesis"),
                "qwen-image",
                Dialect::DashScope,
                Made::Pictures(1),
                true,
            ),
            (
                &format!("{services}/image2image/image-synthesis"),
                "wanx2.1-imageedit",
                Dialect::DashScope,
                Made::Pictures(1),
                true,
            ),
            (
                &format!("{services}/video-generation/video-synthesis"),
                "wan2.5-t2v-preview",
                Dialect::DashScope,
                Made::Film(5),
                true,
            ),
            (
                &format!("{services}/multimodal-generation/generation"),
                "qwen-image-edit",
                Dialect::DashScope,
                Made::Pictures(1),
                false,
            ),
            (
                &format!("{services}/multimodal-generation/generation"),
                "wan2.6-t2i",
                Dialect::DashScope,
                Made::Pictures(4),
                false,
            ),
            (
                &format!("{services}/multimodal-generation/generation"),
                "qwen3-tts-flash",
                Dialect::DashScope,
                Made::Speech,
                false,
            ),
            (
                &format!("{services}/multimodal-generation/generation"),
                "qwen-vl-max",
                Dialect::DashScope,
                Made::Usual,
                false,
            ),
            ("/api/paas/v4/videos/generations", "cogvideox-3", Dialect::OpenAiImages, Made::Film(5), true),
            ("/api/paas/v4/images/generations", "cogview-4", Dialect::OpenAiImages, Made::Usual, false),
            (
                "/api/v3/contents/generations/tasks",
                "doubao-seedance-1-0-pro",
                Dialect::OpenAiImages,
                Made::Film(5),
                true,
            ),
            ("/v1/videos", "sora-2", Dialect::OpenAiImages, Made::Film(4), true),
            ("/v1/videos/video_123/remix", "sora-2", Dialect::OpenAiImages, Made::Film(12), true),
            (
                "/openai/v1/video/generations/jobs?api-version=preview",
                "sora",
                Dialect::OpenAiImages,
                Made::Film(5),
                true,
            ),
            (
                &format!("{google}/veo-3.0-generate-001:predictLongRunning"),
                "",
                Dialect::VertexPredict,
                Made::Film(8),
                true,
            ),
            (
                &format!("{google}/imagen-4.0-generate-001:predict"),
                "",
                Dialect::VertexPredict,
                Made::Pictures(4),
                false,
            ),
            (
                &format!("{google}/virtual-try-on-preview-08-04:predict"),
                "",
                Dialect::VertexPredict,
                Made::Pictures(1),
                false,
            ),
            (&format!("{google}/text-embedding-005:predict"), "", Dialect::VertexPredict, Made::Usual, false),
            (
                "/v1beta/models/gemini-2.5-flash-image:generateContent",
                "",
                Dialect::GeminiGenerate,
                Made::Pictures(1),
                false,
            ),
        ] {
            assert_eq!(made(path, model), Some((dialect, what, later)), "{path} {model}");
        }
    }

    /// What a call asks for: images, characters, seconds, output tokens, and whether it is closed and left for later.
    fn asks(path: &str, body: &str) -> (u64, u64, u64, Option<u64>, bool, bool) {
        let route = Route::of(b"POST", path.as_bytes()).unwrap();
        let mut call = read_call(route.dialect, body.as_bytes()).unwrap();
        call.take_route(&route);
        assert_eq!(call.edits(None, true), [], "{path} {body}");
        let Usage { images, characters, seconds, .. } = call.asked;
        (images, characters, seconds, call.output_limit, call.open.is_none(), call.deferred)
    }

    #[test]
    fn what_is_asked_for_is_told() {
        const SERVICES: &str = "/api/v1/services/aigc";
        const GOOGLE: &str = "/v1/projects/p/locations/l/publishers/google/models";
        let film = |seconds| (0, 0, seconds, Some(0), true, true);
        let ark = "/api/v3/contents/generations/tasks";
        for (path, body, told) in [
            ("/v1/video_generation", r#"{"model":"MiniMax-Hailuo-2.3","prompt":"a cat","duration":10}"#, film(10)),
            (
                "/v1/video_generation",
                r#"{"model":"MiniMax-Hailuo-2.3","first_frame_image":"https://a.test/x"}"#,
                film(6),
            ),
            (
                "/v2/video_generation",
                r#"{"model":"MiniMax-H3","content":[{"type":"text","text":"a cat"}],"duration":8}"#,
                film(8),
            ),
            ("/v1/image_generation", r#"{"model":"image-01","prompt":"a cat","n":3}"#, (3, 0, 0, Some(0), true, false)),
            (
                "/v1/music_generation",
                r#"{"model":"music-2.5","prompt":"jazz","lyrics":"la"}"#,
                (0, 0, 0, Some(0), true, false),
            ),
            // A Chinese character counts twice.
            ("/v1/t2a_v2", r#"{"model":"speech-2.8-hd","text":"你好, ann"}"#, (0, 9, 0, Some(0), true, false)),
            ("/v1/t2a_async_v2", r#"{"model":"speech-2.8-hd","text":"hello"}"#, (0, 5, 0, Some(0), true, true)),
            ("/v1/t2a_async_v2", r#"{"model":"speech-2.8-hd","text_file_id":7}"#, (0, 1, 0, Some(0), false, true)),
            ("/api/paas/v4/videos/generations", r#"{"model":"cogvideox-3","prompt":"a cat","duration":10}"#, film(10)),
            (
                "/api/paas/v4/videos/generations",
                r#"{"model":"vidu2","image_url":["https://a.test/x"],"prompt":"x"}"#,
                film(5),
            ),
            ("/v1/videos", r#"{"model":"sora-2","prompt":"a cat","seconds":"12"}"#, film(12)),
            ("/v1/videos", r#"{"model":"sora-2","prompt":"a cat"}"#, film(4)),
            ("/v1/videos/video_123/remix", r#"{"prompt":"a dog"}"#, film(12)),
            (
                ark,
                r#"{"model":"seedance-2","content":[],"duration":5,"resolution":"4K"}"#,
                (0, 0, 5, Some(1_000_000), true, true),
            ),
            (
                "/openai/v1/video/generations/jobs",
                r#"{"model":"sora","prompt":"a cat","n_seconds":10,"n_variants":2}"#,
                film(20),
            ),
            (
                ark,
                r#"{"model":"seedance-1-5","content":[{"type":"text","text":"a cat"}]}"#,
                (0, 0, 5, Some(110_000), true, true),
            ),
            (
                ark,
                r#"{"model":"seedance-1-5","content":[{"type":"text","text":"a --rs 1080p --dur 10"},{"type":"image_url","image_url":{"url":"https://a.test/x"}}],"duration":4,"resolution":"480p"}"#,
                (0, 0, 10, Some(500_000), true, true),
            ),
            (ark, r#"{"model":"seedance-1-0-pro","content":[],"duration":-1}"#, (0, 0, 15, Some(750_000), true, true)),
            (
                "/api/v3/images/generations",
                r#"{"model":"seedream-4","prompt":"x","sequential_image_generation":"auto","sequential_image_generation_options":{"max_images":6}}"#,
                (6, 0, 0, Some(16_384), true, false),
            ),
            // It reads no `n`, and makes a group or one picture.
            (
                "/api/v3/images/generations",
                r#"{"model":"seedream-4","prompt":"x","size":"4K","sequential_image_generation":"auto","n":1}"#,
                (15, 0, 0, Some(65_536), true, false),
            ),
            (
                "/api/v3/images/generations",
                r#"{"model":"seedream-4","prompt":"x","size":"1024x768","sequential_image_generation":"disabled","sequential_image_generation_options":{"max_images":6}}"#,
                (1, 0, 0, Some(3_072), true, false),
            ),
            (
                "/v1/images/generations",
                r#"{"model":"gpt-image-1","prompt":"x","n":2}"#,
                (2, 0, 0, Some(6_600), true, false),
            ),
            (
                "/api/v3/images/generations",
                r#"{"model":"seedream-4","prompt":"x","sequential_image_generation":"auto","duration":9}"#,
                (15, 0, 0, Some(16_384), true, false),
            ),
            (
                &format!("{SERVICES}/text2image/image-synthesis"),
                r#"{"model":"wan2.2-t2i-flash","input":{"prompt":"a cat"},"parameters":{"size":"1024*1024","n":2}}"#,
                (2, 0, 0, Some(0), true, true),
            ),
            (
                &format!("{SERVICES}/text2image/image-synthesis"),
                r#"{"model":"wan2.2-t2i-flash","input":{"prompt":"a cat"}}"#,
                (4, 0, 0, Some(0), true, true),
            ),
            (
                &format!("{SERVICES}/multimodal-generation/generation"),
                r#"{"model":"qwen-image-edit","input":{"messages":[{"role":"user","content":[{"image":"https://a.test/x"},{"text":"a hat"}]}]}}"#,
                (1, 0, 0, Some(0), true, false),
            ),
            (
                &format!("{SERVICES}/multimodal-generation/generation"),
                r#"{"model":"qwen3-tts-flash","input":{"text":"你好 ann","voice":"Cherry"}}"#,
                (0, 8, 0, None, true, false),
            ),
            (
                &format!("{SERVICES}/video-generation/video-synthesis"),
                r#"{"model":"wan2.5-t2v-preview","input":{"prompt":"a cat"},"parameters":{"duration":10}}"#,
                film(10),
            ),
            (
                &format!("{GOOGLE}/veo-3.0-generate-001:predictLongRunning"),
                r#"{"instances":[{"prompt":"a cat","image":{"gcsUri":"gs://a/b"}}],"parameters":{"sampleCount":2,"durationSeconds":6}}"#,
                film(12),
            ),
            (
                &format!("{GOOGLE}/imagen-4.0-generate-001:predict"),
                r#"{"instances":[{"prompt":"a cat"}]}"#,
                (4, 0, 0, Some(0), true, false),
            ),
            (
                &format!("{GOOGLE}/imagen-4.0-generate-001:predict"),
                r#"{"instances":[{"prompt":"a cat"}],"parameters":{"sampleCount":2,"durationSeconds":9}}"#,
                (2, 0, 0, Some(0), true, false),
            ),
            (
                &format!("{GOOGLE}/text-embedding-005:predict"),
                r#"{"instances":[{"content":"a cat"}]}"#,
                (0, 0, 0, Some(0), true, false),
            ),
            (
                "/v1beta/models/gemini-2.5-flash-image:generateContent",
                r#"{"contents":[{"parts":[{"text":"a cat"}]}],"generationConfig":{"maxOutputTokens":2000}}"#,
                (1, 0, 0, Some(2_000), true, false),
            ),
        ] {
            assert_eq!(asks(path, body), told, "{path} {body}");
        }
    }

    #[test]
    fn how_long_a_film_is_to_be_can_be_said_in_one_way_only() {
        let read = |body: &str| read_call(Dialect::MiniMaxMedia, body.as_bytes()).is_ok();
        assert!(read(r#"{"model":"m","duration":6}"#) && read(r#"{"model":"m","duration":"6"}"#));
        for odd in ["6.5", "1e1", "-6", "[6]", r#""six""#, r#"6,"duration":10"#, r#"6,"Duration":10"#] {
            assert!(!read(&format!(r#"{{"model":"m","duration":{odd}}}"#)), "{odd}");
        }
    }

    #[test]
    fn what_asks_after_work_is_told_from_what_asks_for_it() {
        for path in [
            "/api/v1/tasks/0385dc79-5ff8-4d82-bcb6-7e2b1a1b1c1d",
            "/v1/query/video_generation?task_id=1",
            "/v2/query/video_generation/424010985738629",
            "/v1/query/t2a_async_query_v2?task_id=1",
            "/v1/files/retrieve?file_id=205258526306433",
            "/minimax/v1/files/retrieve?file_id=1",
            "/api/paas/v4/async-result/16591731777601843-8059",
            "/api/v3/contents/generations/tasks/cgt-20250331175019-68d9t",
            "/v1/videos/video_123",
            "/v1/videos/video_123/content?variant=video",
            "/openai/v1/video/generations/jobs/task_01?api-version=preview",
            "/openai/v1/video/generations/gen_01/content/video",
            "/v1beta/models/veo-3.0-generate-001/operations/abc123",
        ] {
            let asked = asks_after(b"GET", path.as_bytes()).unwrap_or_else(|| panic!("{path}"));
            assert_eq!(asked.file, path.contains("/files/"), "{path}");
            let other = ["POST", "DELETE"].map(|method| asks_after(method.as_bytes(), path.as_bytes()));
            assert_eq!(other, [None, None], "{path}");
        }
        let fetch = b"/v1/projects/p/locations/l/publishers/google/models/veo-3.0:fetchPredictOperation";
        assert!(asks_after(b"POST", fetch).is_some() && asks_after(b"GET", fetch).is_none());
        for path in [
            "/api/v1/tasks/",
            "/api/v1/tasks",
            "/v1/videos",
            "/v1/files",
            "/v1/files/1",
            "/v1/responses/resp_1",
            "/api/v3/contents/generations/tasks",
            "/api/v1/tasks/%2e%2e",
            "/api/v1/tasks/../x",
            "//v1/videos/a",
            "/v1beta/operations/x",
            "/v1/models/x",
            "",
        ] {
            assert_eq!(asks_after(b"GET", path.as_bytes()), None, "{path}");
        }
    }

    #[test]
    fn how_large_a_picture_is_tells_its_tokens() {
        for (size, tokens) in [
            (None, 16_384),
            (Some("2K"), 16_384),
            (Some("1k"), 4_096),
            (Some("4K"), 65_536),
            (Some("2304x1728"), 15_552),
            (Some("adaptive"), 16_384),
            (Some("huge"), 65_536),
            (Some("99999999999999999999x1"), 65_536),
        ] {
            assert_eq!(picture_tokens(size), tokens, "{size:?}");
        }
    }

    #[test]
    fn a_prompt_may_say_how_long_its_film_is() {
        assert_eq!(film_flags("a cat --rs 720p  --dur 10 --camerafixed true"), (10, Some("720p")));
        assert_eq!(film_flags("a cat --duration -1"), (15, None));
        assert_eq!(film_flags("a cat --frames 57 --dur 2"), (3, None));
        assert_eq!(film_flags("a cat -- dur 10 --dur"), (15, None));
        assert_eq!(film_flags("a cat"), (0, None));
    }
}
