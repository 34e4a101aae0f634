//! Reading what is asked of work that writes no text: embeddings, moderations, reranking, speech, images.

use super::openai::request::sound;
use super::pictured;
use super::prompt::prompts;
use crate::meter::json;
use crate::meter::media::Media;
use crate::meter::origin::{is_address, is_picture};
use crate::meter::part::{Kind, Parts};

/// Embeddings and moderations: an entry that is not null.
pub fn entry<'a>(parts: &mut Parts<'a>, name: &str, raw: &'a str) {
    match name {
        "input" | "inputs" | "text" | "texts" | "prompt" | "content" if raw.contains('{') => objects(parts, raw),
        "input" | "inputs" | "text" | "texts" | "prompt" | "content" => {
            parts.frames = parts.frames.saturating_add(prompts(parts, raw));
        }
        "images" | "image" => {
            parts.frame();
            pictured::under(parts, name.as_bytes(), raw);
        }
        "encoding_format" | "input_type" | "embedding_types" | "truncate" | "output_dtype" | "user" | "options"
        | "keep_alive" => parts.beside(raw),
        _ => parts.add(Kind::Schema, raw),
    }
}

/// Inputs with parts of their own: text, or an image that is in the body or not.
fn objects<'a>(parts: &mut Parts<'a>, raw: &'a str) {
    parts.frame();
    let one = |parts: &mut Parts<'a>, raw: &'a str| part(parts, raw);
    if raw.starts_with('[') {
        json::elements(raw, |element| one(parts, element));
    } else {
        one(parts, raw);
    }
}

fn part<'a>(parts: &mut Parts<'a>, raw: &'a str) {
    if raw.starts_with('"') {
        if is_picture(raw) {
            return parts.add(Kind::Image, raw);
        }
        return parts.text(raw);
    }
    let object = json::entries(raw, |key, value| match key {
        b"type" => {}
        b"text" => parts.text(value),
        b"image_url" | b"image" | b"url" | b"image_base64" if value.starts_with('{') => part(parts, value),
        b"image_url" | b"image" | b"url" | b"image_base64" if is_picture(value) => {
            parts.add(Kind::Image, value);
        }
        b"image_base64" if !is_address(value) => parts.add(Kind::Image, value),
        b"image_url" | b"image" | b"url" | b"image_base64" | b"video" => {
            parts.open_media(&[Media::Image], "an image that is not in the body")
        }
        b"content" => objects(parts, value),
        _ => parts.add(Kind::Schema, value),
    });
    if object.is_none() {
        parts.add(Kind::Schema, raw);
    }
}

/// Reranking: the query is read once with each document.
pub fn rerank<'a>(parts: &mut Parts<'a>, name: &str, raw: &'a str) {
    match name {
        "query" => parts.add(Kind::Query, raw),
        "documents" => {
            let list = json::elements(raw, |document| {
                parts.frame();
                if json::entries(document, |_, value| parts.text(value)).is_none() {
                    parts.text(document);
                }
            });
            if list.is_none() {
                parts.add(Kind::Schema, raw);
            }
        }
        // vLLM's scores: one text with each of several, or pairs.
        "text_1" if raw.starts_with('"') => parts.add(Kind::Query, raw),
        "text_1" | "text_2" => {
            let texts = prompts(parts, raw);
            parts.frames = parts.frames.saturating_add(if name == "text_2" { texts } else { 0 });
        }
        "return_documents" | "rank_fields" => parts.beside(raw),
        _ => parts.add(Kind::Schema, raw),
    }
}

/// Speech: what is spoken is told in characters, as `count` counts them.
pub fn speech<'a>(parts: &mut Parts<'a>, name: &str, raw: &'a str, count: fn(&str) -> u64) {
    match name {
        "input" | "text" => {
            parts.asked.characters = parts.asked.characters.saturating_add(count(raw));
            parts.text(raw);
        }
        // How long it is its provider tells; of none a quota that is used up would let any number pass.
        "text_file_id" => {
            parts.asked.characters = parts.asked.characters.max(1);
            parts.open_media(&[Media::File], "a file");
        }
        "voice" | "response_format" | "stream_format" | "voice_setting" | "audio_setting" | "language_boost"
        | "pronunciation_dict" | "output_format" => parts.beside(raw),
        _ => parts.add(Kind::Schema, raw),
    }
}

/// Transcriptions, where they are asked for in JSON: the sound is in the body.
pub fn transcription<'a>(parts: &mut Parts<'a>, name: &str, raw: &'a str) {
    match name {
        "input_audio" => sound(parts, raw),
        "prompt" => parts.text(raw),
        "language" | "response_format" | "timestamp_granularities" | "include" | "chunking_strategy" => {
            parts.beside(raw);
        }
        "file" | "url" | "audio_url" => parts.open_media(&[Media::Audio], "sound that is not in the body"),
        _ => parts.add(Kind::Schema, raw),
    }
}

/// Images: a prompt, and images to change.
pub fn images<'a>(parts: &mut Parts<'a>, name: &str, raw: &'a str) {
    match name {
        "prompt" | "lyrics" => parts.text(raw),
        "image" | "images" | "mask" | "first_frame_image" | "last_frame_image" | "subject_reference" => {
            parts.frame();
            pictured::under(parts, name.as_bytes(), raw);
        }
        "input_reference" => pictured::under(parts, b"image", raw),
        // MiniMax's newer films and all of Ark's.
        "content" => objects(parts, raw),
        // Ark's, at 24 a second.
        "frames" => {
            let frames = json::whole(raw).unwrap_or(0);
            parts.asked.seconds = parts.asked.seconds.max(frames.div_ceil(24));
        }
        "sequential_image_generation" => {
            parts.grouped = json::text(raw).as_deref() != Some("disabled");
            parts.beside(raw);
        }
        "size"
        | "quality"
        | "style"
        | "response_format"
        | "output_format"
        | "background"
        | "moderation"
        | "user"
        | "aspect_ratio"
        | "resolution"
        | "callback_url"
        | "audio_setting"
        | "ratio"
        | "sequential_image_generation_options" => parts.beside(raw),
        key if pictured::shows(key.as_bytes(), raw) => pictured::under(parts, key.as_bytes(), raw),
        _ => parts.add(Kind::Schema, raw),
    }
}

/// A count of tokens: nothing is worked, so nothing is bounded; but what a model would read is guarded.
pub fn counted<'a>(parts: &mut Parts<'a>, raw: &'a str) {
    parts.add(Kind::Schema, raw);
}
