//! Answers that are no text of a model: images, speech, transcriptions and embeddings (OpenAI, "Images", "Audio" and
//! "Embeddings"), and what MiniMax paints, says, films and sings ("Image", "T2A", "Video" and "Music generation").

use serde_json::{Value, json};

use super::script::Script;
use super::vocabulary;

/// Where they are asked for.
pub const PATHS: [&str; 9] = [
    "/v1/images/generations",
    "/v1/audio/speech",
    "/v1/audio/transcriptions",
    "/v1/embeddings",
    "/v1/image_generation",
    "/v1/t2a_v2",
    "/v1/video_generation",
    "/v1/music_generation",
    "/v1/echo",
];

/// The most images that one answer brings.
const MOST_IMAGES: u64 = 100;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Its wire format, as `/stats` calls it.
    pub api: &'static str,
    /// As the caller wrote it.
    pub model: String,
    /// What is to be painted, said or embedded.
    pub words: String,
    work: Work,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Work {
    Images(u64),
    Speech,
    Transcription,
    Embeddings,
    MiniMaxImages(u64),
    MiniMaxSpeech,
    MiniMaxVideo,
    MiniMaxMusic,
    /// What was sent, in no format that anybody knows.
    Echo(Vec<u8>),
}

/// Reads a request; `None`: the path is none of [`PATHS`], and ends as none of them does behind its version.
///
/// # Errors
/// A text for the caller.
pub fn read(path: &str, body: &[u8]) -> Option<Result<Wish, String>> {
    let document = || serde_json::from_slice(body).map_err(|error| format!("the body is no JSON: {error}"));
    let text = |body: &Value, key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let wish = |api, model: String, words, work| match model.as_str() {
        "" => Err("`model` is missing".to_owned()),
        _ => Ok(Wish { api, model, words, work }),
    };
    let known = PATHS.iter().find(|known| path.ends_with(known.trim_start_matches("/v1")))?;
    Some(match *known {
        "/v1/images/generations" => document().and_then(|body: Value| {
            let many = body.get("n").and_then(Value::as_u64).unwrap_or(1).min(MOST_IMAGES);
            wish("openai images", text(&body, "model"), text(&body, "prompt"), Work::Images(many))
        }),
        "/v1/audio/speech" => document()
            .and_then(|body: Value| wish("openai speech", text(&body, "model"), text(&body, "input"), Work::Speech)),
        "/v1/audio/transcriptions" => {
            let form = String::from_utf8_lossy(body);
            let field = form.split("name=\"model\"\r\n\r\n").nth(1).and_then(|rest| rest.split("\r\n").next());
            wish("openai transcription", field.unwrap_or_default().to_owned(), String::new(), Work::Transcription)
        }
        "/v1/embeddings" => document().and_then(|body: Value| {
            wish("openai embeddings", text(&body, "model"), text(&body, "input"), Work::Embeddings)
        }),
        "/v1/image_generation" => document().and_then(|body: Value| {
            let many = body.get("n").and_then(Value::as_u64).unwrap_or(1).min(MOST_IMAGES);
            wish("minimax images", text(&body, "model"), text(&body, "prompt"), Work::MiniMaxImages(many))
        }),
        "/v1/t2a_v2" => document().and_then(|body: Value| {
            wish("minimax speech", text(&body, "model"), text(&body, "text"), Work::MiniMaxSpeech)
        }),
        "/v1/video_generation" => document().and_then(|body: Value| {
            wish("minimax video", text(&body, "model"), text(&body, "prompt"), Work::MiniMaxVideo)
        }),
        "/v1/music_generation" => document().and_then(|body: Value| {
            wish("minimax music", text(&body, "model"), text(&body, "lyrics"), Work::MiniMaxMusic)
        }),
        "/v1/echo" => wish("echo", "any".to_owned(), String::new(), Work::Echo(body.to_vec())),
        _ => return None,
    })
}

/// The content type and the body of the answer.
pub fn answer(wish: &Wish, script: &Script) -> (&'static str, Vec<u8>) {
    let document = |body: Value| ("application/json", body.to_string().into_bytes());
    match &wish.work {
        Work::Images(many) => {
            let many = usize::try_from(script.images.unwrap_or(*many).min(MOST_IMAGES)).unwrap_or(0);
            document(json!({"created": 0, "data": vec![json!({"b64_json": "iVBORw0KGgo="}); many]}))
        }
        Work::Embeddings => {
            let input = script.input.unwrap_or_else(|| vocabulary::count(&wish.words));
            let usage = json!({"prompt_tokens": input, "total_tokens": input});
            let vector = json!({"object": "embedding", "index": 0, "embedding": [0.5]});
            document(json!({"object": "list", "data": [vector], "model": wish.model, "usage": usage}))
        }
        Work::MiniMaxImages(_) | Work::MiniMaxSpeech | Work::MiniMaxVideo | Work::MiniMaxMusic
            if script.inside_error =>
        {
            document(json!({"base_resp": {"status_code": 1026, "status_msg": "the stand-in was asked to fail here"}}))
        }
        Work::MiniMaxImages(many) => {
            let made = usize::try_from(script.images.unwrap_or(*many).min(MOST_IMAGES)).unwrap_or(0);
            let (urls, missing) = (vec!["https://images.example/1.png"; made], many.saturating_sub(made as u64));
            let counts = json!({"success_count": made.to_string(), "failed_count": missing.to_string()});
            document(json!({"data": {"image_urls": urls}, "metadata": counts, "base_resp": succeeded()}))
        }
        Work::MiniMaxSpeech => {
            // A Chinese character counts twice.
            let characters: usize = wish.words.chars().map(|letter| 1 + usize::from(letter > '\u{2fff}')).sum();
            let extra = json!({"usage_characters": characters, "audio_length": 900});
            let data = json!({"audio": "fffb90", "status": 2});
            document(json!({"data": data, "extra_info": extra, "base_resp": succeeded()}))
        }
        Work::MiniMaxVideo => document(json!({"task_id": "106916112212032", "base_resp": succeeded()})),
        Work::MiniMaxMusic => {
            let extra = json!({"music_duration": script.seconds.saturating_mul(1_000)});
            document(json!({"data": {"audio": "fffb90", "status": 2}, "extra_info": extra, "base_resp": succeeded()}))
        }
        Work::Echo(body) => ("application/octet-stream", body.clone()),
        Work::Speech => ("audio/mpeg", b"\xff\xfb\x90\x00 no sound".to_vec()),
        Work::Transcription => {
            document(json!({"task": "transcribe", "duration": script.seconds, "text": "as was heard"}))
        }
    }
}

fn succeeded() -> Value {
    json!({"status_code": 0, "status_msg": "success"})
}

#[cfg(test)]
mod tests {
    use super::{Wish, answer, read};
    use crate::upstream::script::Script;
    use serde_json::Value;

    fn wish(path: &str, body: &str) -> Result<Wish, String> {
        read(path, body.as_bytes()).unwrap()
    }

    #[test]
    fn each_is_answered_in_its_own_unit() {
        let script = Script { seconds: 12, ..Script::default() };
        let said = |wish: &Wish, script: &Script| serde_json::from_slice::<Value>(&answer(wish, script).1).unwrap();
        let images = wish("/v1/images/generations", r#"{"model":"m","prompt":"a cat","n":3}"#).unwrap();
        assert_eq!((images.words.as_str(), said(&images, &script)["data"].as_array().unwrap().len()), ("a cat", 3));
        let fewer = Script { images: Some(2), ..Script::default() };
        assert_eq!(said(&images, &fewer)["data"].as_array().unwrap().len(), 2);
        let speech = wish("/v1/audio/speech", r#"{"model":"m","input":"hello"}"#).unwrap();
        assert_eq!(answer(&speech, &script).0, "audio/mpeg");
        let form = "--x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper\r\n--x--\r\n";
        let heard = wish("/v1/audio/transcriptions", form).unwrap();
        assert_eq!((heard.model.as_str(), said(&heard, &script)["duration"].as_u64()), ("whisper", Some(12)));
        let vectors = wish("/api/coding/v3/embeddings", r#"{"model":"m","input":"hello world"}"#).unwrap();
        assert_eq!(said(&vectors, &script)["usage"]["prompt_tokens"], 2);
    }

    #[test]
    fn minimax_is_answered_in_its_own_words_and_fails_in_a_200() {
        let whole = Script { seconds: 12, ..Script::default() };
        let fails = Script { inside_error: true, ..Script::default() };
        for (path, body, at, told) in [
            ("/v1/image_generation", r#"{"model":"m","prompt":"a cat","n":3}"#, "/metadata/success_count", "\"3\""),
            ("/v1/t2a_v2", r#"{"model":"m","text":"你好 ann"}"#, "/extra_info/usage_characters", "8"),
            ("/v1/video_generation", r#"{"model":"m","prompt":"a cat"}"#, "/task_id", "\"106916112212032\""),
            ("/v1/music_generation", r#"{"model":"m","lyrics":"la"}"#, "/extra_info/music_duration", "12000"),
        ] {
            let wish = wish(path, body).unwrap();
            let said = |script: &Script| serde_json::from_slice::<Value>(&answer(&wish, script).1).unwrap();
            assert_eq!(said(&whole).pointer(at).unwrap().to_string(), told, "{path}");
            assert_eq!(said(&whole).pointer("/base_resp/status_code").unwrap(), 0);
            assert_eq!(said(&fails).pointer("/base_resp/status_code").unwrap(), 1026);
        }
    }

    #[test]
    fn nonsense_is_told_apart() {
        assert!(wish("/v1/images/generations", "{").unwrap_err().contains("no JSON"));
        assert!(wish("/v1/audio/speech", "{}").unwrap_err().contains("`model`"));
        assert!(read("/v1/chat/completions", b"{}").is_none());
    }
}
