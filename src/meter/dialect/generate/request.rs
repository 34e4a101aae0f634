//! Reading what is asked of the own routes of open servers.

use crate::meter::dialect::prompt::prompts;
use crate::meter::json;
use crate::meter::media::Media;
use crate::meter::part::{Kind, Parts};

/// A top-level entry: its unescaped name and its raw value, which is not null.
pub fn entry<'a>(parts: &mut Parts<'a>, name: &str, raw: &'a str) {
    match name {
        "inputs" | "prompt" | "text" | "input_ids" => {
            if raw.starts_with('{') {
                // llama.cpp's prompt with media beside it.
                parts.open_media(&[Media::Image, Media::Audio, Media::Video], "media that is not in the body");
            }
            parts.answers = prompts(parts, raw);
        }
        // llama.cpp's `/infill`: what stands before and behind the gap, and files beside it.
        "input_prefix" | "input_suffix" => parts.text(raw),
        "input_extra" => {
            let list = json::elements(raw, |file| {
                parts.frame();
                if json::entries(file, |_, value| parts.text(value)).is_none() {
                    parts.add(Kind::Schema, file);
                }
            });
            if list.is_none() {
                parts.add(Kind::Schema, raw);
            }
        }
        "image_data" => image_data(parts, raw),
        "video_data" => parts.open_media(&[Media::Video], "media that is not in the body"),
        "audio_data" => parts.open_media(&[Media::Audio], "media that is not in the body"),
        "parameters" | "sampling_params" => {
            json::entries(raw, |key, value| match key {
                b"grammar" | b"json_schema" => parts.add(Kind::Schema, value),
                _ => parts.beside(value),
            });
        }
        "json_schema" | "grammar" | "samplers" | "stop" => parts.beside(raw),
        _ => parts.add(Kind::Schema, raw),
    }
}

/// One image, a list of them, or a list of such lists: one for each prompt.
fn image_data(parts: &mut Parts<'_>, raw: &str) {
    let mut many = 0u64;
    let mut one = |raw: &str| many = many.saturating_add(u64::from(!json::is_null(raw)));
    let list = json::elements(raw, |raw| {
        if json::elements(raw, &mut one).is_none() {
            one(raw);
        }
    });
    if list.is_none() {
        one(raw);
    }
    for _ in 0..many {
        parts.open_media(&[Media::Image], "media that is not in the body");
    }
}
