//! Reading what a request for a response asks for (OpenAI, "Create a model response").

use std::cell::OnceCell;

use super::request::sound;
use crate::meter::dialect::prompt::{is_kind, tools};
use crate::meter::json;
use crate::meter::media::Media;
use crate::meter::origin::is_picture;
use crate::meter::part::{Kind, Parts};

/// Tools that the caller runs.
const CLOSED: [&str; 6] = ["function", "custom", "local_shell", "apply_patch", "computer_use_preview", "computer"];

/// A top-level entry: its unescaped name and its raw value, which is not null.
pub fn entry<'a>(parts: &mut Parts<'a>, name: &str, raw: &'a str) {
    match name {
        "input" => input(parts, raw),
        "instructions" => {
            parts.system();
            parts.text(raw);
        }
        "tools" => tools(parts, raw, |tool| is_kind(tool, &CLOSED, false)),
        "text" => {
            parts.schemas = true;
            parts.add(Kind::Format, raw);
        }
        "background" if raw == "false" => {}
        "background" => parts.deferred = true,
        "previous_response_id" | "conversation" => {
            parts.beside(raw);
            parts.open("a conversation that the provider keeps");
        }
        "prompt" => {
            parts.add(Kind::Schema, raw);
            parts.open("a prompt that the provider keeps");
        }
        "plugins" => {
            parts.beside(raw);
            parts.open("a search by the provider");
        }
        "models" => parts.choice(raw),
        "context_management" => {
            parts.beside(raw);
            parts.open("a summary that the provider writes");
        }
        "reasoning" => {
            parts.beside(raw);
            let mode = json::fields(raw, ["mode"]).and_then(|[mode]| mode);
            if mode.is_some_and(|mode| mode != "\"standard\"") {
                parts.open("several runs of the model");
            }
        }
        "metadata"
        | "user"
        | "safety_identifier"
        | "prompt_cache_key"
        | "prompt_cache_retention"
        | "prompt_cache_options"
        | "service_tier"
        | "tool_choice"
        | "include"
        | "truncation"
        | "store"
        | "stream_options"
        | "provider" => parts.beside(raw),
        _ => parts.add(Kind::Schema, raw),
    }
}

fn input<'a>(parts: &mut Parts<'a>, raw: &'a str) {
    let array = json::elements(raw, |item| {
        parts.frame();
        parts.goes_on = false;
        let made = is_of(item, &["image_generation_call"]);
        let shows = OnceCell::new();
        let object = json::entries(item, |key, value| match key {
            b"result" if made => made_image(parts, value),
            b"file_id" if !json::is_null(value) && *shows.get_or_init(|| is_of(item, &IMAGES)) => kept_image(parts),
            _ => item_entry(parts, key, value),
        });
        if object.is_none() {
            parts.text(item);
        }
        if made && json::fields(item, ["result"]).is_some_and(|[result]| result.is_none()) {
            kept_image(parts);
        }
        let bare = || matches!(json::fields(item, ["encrypted_content", "content"]), Some([None, None]));
        if is_of(item, &["reasoning"]) && bare() {
            parts.open("thoughts that the provider keeps");
        }
    });
    if array.is_none() {
        parts.frame();
        parts.text(raw);
    }
}

fn item_entry<'a>(parts: &mut Parts<'a>, key: &[u8], raw: &'a str) {
    match key {
        b"type" => item_type(parts, raw),
        b"role" => parts.role(raw),
        b"status" | b"id" | b"phase" => {}
        b"call_id" => parts.add(Kind::Label, raw),
        b"content" | b"summary" => content(parts, raw),
        b"output" => {
            parts.goes_on = true;
            content(parts, raw);
        }
        b"name" | b"arguments" | b"input" | b"text" => parts.text(raw),
        b"encrypted_content" => parts.add(Kind::Sealed, raw),
        b"image_url" => image(parts, raw),
        b"file_id" | b"file_data" | b"file_url" if !json::is_null(raw) => parts.open_media(&[Media::File], "a file"),
        // What code has drawn.
        b"outputs" => {
            if json::elements(raw, |output| drawn(parts, output)).is_none() {
                parts.add(Kind::Schema, raw);
            }
        }
        _ => parts.add(Kind::Schema, raw),
    }
}

/// `{type: image, url}`, or what was logged.
fn drawn<'a>(parts: &mut Parts<'a>, raw: &'a str) {
    match json::fields(raw, ["url"]) {
        Some([Some(url)]) if is_of(raw, &["image"]) => image(parts, url),
        _ => parts.add(Kind::Schema, raw),
    }
}

/// An image that was made in an earlier answer: base64 by itself.
fn made_image<'a>(parts: &mut Parts<'a>, raw: &'a str) {
    if raw.starts_with('"') && raw != "\"\"" {
        parts.add(Kind::Image, raw);
    }
}

fn kept_image(parts: &mut Parts<'_>) {
    parts.open_media(&[Media::Image, Media::File], "an image that the provider keeps");
}

fn item_type(parts: &mut Parts<'_>, raw: &str) {
    match json::text(raw).as_deref() {
        // Its frame is counted with the item.
        Some("function_call" | "custom_tool_call") => parts.calls = parts.calls.saturating_add(1),
        Some("item_reference") => parts.open("a conversation that the provider keeps"),
        Some("compaction") => parts.open("a summary that the provider keeps"),
        _ => {}
    }
}

fn content<'a>(parts: &mut Parts<'a>, raw: &'a str) {
    let array = json::elements(raw, |part| {
        if entries_of(parts, part).is_none() {
            parts.text(part);
        }
    });
    if array.is_none() && entries_of(parts, raw).is_none() {
        parts.text(raw);
    }
}

/// Contents that are images.
const IMAGES: [&str; 2] = ["input_image", "computer_screenshot"];

/// Whether an item or a content says, by any of its types, that it is of one of these.
fn is_of(raw: &str, kinds: &[&str]) -> bool {
    let mut is = false;
    json::entries(raw, |key, value| {
        is |= key == b"type" && json::text(value).is_some_and(|kind| kinds.contains(&&*kind));
    });
    is
}

/// All of a part. `None`: it is no object.
fn entries_of<'a>(parts: &mut Parts<'a>, part: &'a str) -> Option<()> {
    // Looked for once, however often a file is named.
    let shows = OnceCell::new();
    json::entries(part, |key, value| part_entry(parts, || *shows.get_or_init(|| is_of(part, &IMAGES)), key, value))
}

/// An entry of a part that `shows` an image, or does not.
fn part_entry<'a>(parts: &mut Parts<'a>, shows: impl FnOnce() -> bool, key: &[u8], raw: &'a str) {
    match key {
        b"type" | b"detail" | b"prompt_cache_breakpoint" => {}
        // What the answer said beside its words, when it was one.
        b"annotations" | b"logprobs" => parts.beside(raw),
        b"text" | b"refusal" => parts.text(raw),
        b"image_url" => image(parts, raw),
        b"input_audio" => sound(parts, raw),
        b"file_id" if !json::is_null(raw) && shows() => kept_image(parts),
        b"file_id" | b"file_data" | b"file_url" | b"filename" if !json::is_null(raw) => {
            parts.open_media(&[Media::File], "a file")
        }
        _ => parts.add(Kind::Schema, raw),
    }
}

fn image<'a>(parts: &mut Parts<'a>, raw: &'a str) {
    if is_picture(raw) {
        parts.add(Kind::Image, raw);
    } else if !json::is_null(raw) {
        parts.open_media(&[Media::Image], "an image that is not in the body");
    }
}
