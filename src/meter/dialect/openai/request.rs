//! Reading what a chat completion request asks for.
//!
//! Values are read by their keys, not by their `type`, so that a duplicate or a mislabelled part is counted
//! rather than missed.

use crate::meter::dialect::pictured;
use crate::meter::dialect::prompt::prompts;
use crate::meter::json;
use crate::meter::media::Media;
use crate::meter::origin::{is_picture, names_files};
use crate::meter::part::{Kind, Parts};

/// A top-level entry: its unescaped name and its raw value, which is not null.
pub fn entry<'a>(parts: &mut Parts<'a>, name: &str, raw: &'a str) {
    match name {
        "messages" => messages(parts, raw),
        "tools" | "functions" => tools(parts, name, raw),
        "response_format" => {
            parts.schemas = true;
            parts.add(Kind::Format, raw);
        }
        "documents" => {
            parts.schemas = true;
            parts.add(Kind::Schema, raw);
        }
        "background" | "deferred" | "store" if raw == "false" => {}
        // xAI, "Deferred chat completions".
        "background" | "deferred" => parts.deferred = true,
        "previous_response_id" | "conversation" => {
            parts.beside(raw);
            parts.open("a conversation that the provider keeps");
        }
        // Volcengine Ark, "Context API"; Mistral, "Agents completion".
        "context_id" => {
            parts.beside(raw);
            parts.open("a conversation that the provider keeps");
        }
        "agent_id" => {
            parts.beside(raw);
            parts.open("an agent of the provider");
        }
        "web_search_options" | "search_parameters" | "plugins" => {
            parts.beside(raw);
            parts.open("a search by the provider");
        }
        "enable_search" | "web_search" if raw != "false" => parts.open("a search by the provider"),
        "venice_parameters" => venice(parts, raw),
        "data_sources" | "dataSources" => {
            parts.add(Kind::Schema, raw);
            parts.open("data that the provider looks up");
        }
        "prediction" => {
            parts.add(Kind::Schema, raw);
            parts.open("a predicted output");
        }
        "cached_content" | "extra_body" => {
            parts.add(Kind::Schema, raw);
            parts.open("content that the provider keeps");
        }
        "models" => parts.choice(raw),
        "chat_template" => {
            parts.text(raw);
            parts.open("a chat template of its own");
        }
        "mcp_servers" | "container" => {
            parts.beside(raw);
            parts.open("a tool that the provider runs");
        }
        // Told to the server, not to the model.
        "logit_bias" | "stop" | "metadata" | "user" | "safety_identifier" | "prompt_cache_key" | "service_tier"
        | "reasoning_effort" | "tool_choice" | "modalities" | "verbosity" | "store" | "reasoning" | "audio" => {
            parts.beside(raw);
        }
        _ => parts.add(Kind::Schema, raw),
    }
}

/// Venice searches when it is told to, and puts a prompt of its own in front unless it is told not to (Venice, "Chat
/// completions": `venice_parameters`).
fn venice<'a>(parts: &mut Parts<'a>, raw: &'a str) {
    parts.beside(raw);
    let Some([search]) = json::fields(raw, ["enable_web_search"]) else { return };
    if search.is_some_and(|search| !matches!(search, "\"off\"" | "false")) {
        parts.open("a search by the provider");
    }
}

/// A top-level entry of a completion request, also Anthropic's legacy one. Each prompt is answered by itself.
pub fn completion<'a>(parts: &mut Parts<'a>, name: &str, raw: &'a str) {
    match name {
        "prompt" => parts.answers = prompts(parts, raw),
        "suffix" => parts.text(raw),
        "stop" | "stop_sequences" | "metadata" | "user" | "logit_bias" => parts.beside(raw),
        "extra_body" => parts.add(Kind::Schema, raw),
        _ => entry(parts, name, raw),
    }
}

fn messages<'a>(parts: &mut Parts<'a>, raw: &'a str) {
    let array = json::elements(raw, |message| {
        parts.frame();
        parts.goes_on = false;
        if json::entries(message, |key, value| message_entry(parts, key, value)).is_none() {
            parts.add(Kind::Schema, message);
        }
    });
    if array.is_none() {
        parts.add(Kind::Schema, raw);
    }
}

fn message_entry<'a>(parts: &mut Parts<'a>, key: &[u8], raw: &'a str) {
    match key {
        b"role" => {
            parts.goes_on |= matches!(json::text(raw).as_deref(), Some("tool" | "function"));
            parts.role(raw);
        }
        b"tool_call_id" | b"id" => parts.add(Kind::Label, raw),
        b"type" | b"cache_control" => {}
        b"content" => content(parts, raw),
        b"name" => {
            parts.fixed = parts.fixed.saturating_add(1);
            parts.text(raw);
        }
        b"refusal" => parts.text(raw),
        b"reasoning_content" | b"reasoning" | b"thinking" => parts.thought(raw),
        b"reasoning_details" => thoughts(parts, raw),
        b"tool_calls" => tool_calls(parts, raw),
        b"function_call" => {
            parts.call();
            function(parts, raw);
        }
        b"audio" if !json::is_null(raw) => parts.open("an answer that the provider keeps"),
        // OpenRouter: those that an answer brought.
        b"images" => pictured::under(parts, key, raw),
        _ => parts.add(Kind::Schema, raw),
    }
}

/// Bytes that what is sealed has at least.
const SHORTEST_SEAL: usize = 64;

/// What an earlier turn thought, as the provider wrote it, beside the same in plain words (OpenRouter, "Reasoning tokens";
/// Vercel's gateway has it from there): a text or a summary, and the seal of it.
fn thoughts<'a>(parts: &mut Parts<'a>, raw: &'a str) {
    let array = json::elements(raw, |thought| {
        let object = json::entries(thought, |key, value| match key {
            _ if json::is_null(value) => {}
            // No model reads them, but somebody may have written them.
            b"type" | b"format" | b"index" | b"id" => parts.beside(value),
            b"text" | b"summary" => parts.thought(value),
            b"signature" | b"data" if is_sealed(value) => parts.add(Kind::Sealed, value),
            _ => parts.add(Kind::Schema, value),
        });
        if object.is_none() {
            parts.add(Kind::Schema, thought);
        }
    });
    if array.is_none() {
        parts.add(Kind::Schema, raw);
    }
}

/// Whether a string can be what a provider has sealed: base 64, and longer than anybody's key.
fn is_sealed(raw: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=' | b'"');
    raw.len() > SHORTEST_SEAL && raw.bytes().all(letter)
}

fn content<'a>(parts: &mut Parts<'a>, raw: &'a str) {
    let array = json::elements(raw, |part| {
        let (before, held, mut named) = (parts.elsewhere, parts.list.len(), false);
        let object = json::entries(part, |key, value| match key {
            b"uuid" => named = true,
            _ => part_entry(parts, key, value),
        });
        if object.is_none() {
            said(parts, part);
        }
        if named {
            let shown = parts.list.iter().skip(held).any(|part| part.kind == Kind::Image);
            kept_by_name(parts, shown || parts.elsewhere > before);
        }
    });
    if array.is_none() {
        said(parts, raw);
    }
}

/// A text, or the names of files that stand in its place, which Qwen-Long reads.
pub fn said<'a>(parts: &mut Parts<'a>, raw: &'a str) {
    parts.text(raw);
    if names_files(raw) {
        parts.open_media(&[Media::File], "a file");
    }
}

/// A name by which vLLM keeps what stands beside it, or has kept it before. `shown`: an image stands beside it, which is
/// counted.
fn kept_by_name(parts: &mut Parts<'_>, shown: bool) {
    let before = parts.elsewhere;
    parts.open_media(&[Media::Image, Media::Audio, Media::Video], "media that is not in the body");
    if shown {
        parts.elsewhere = before;
    }
}

fn part_entry<'a>(parts: &mut Parts<'a>, key: &[u8], raw: &'a str) {
    match key {
        b"type" | b"cache_control" | b"detail" | b"min_pixels" | b"max_pixels" => {}
        b"text" => said(parts, raw),
        b"refusal" | b"thinking" => parts.text(raw),
        b"image_url" => image(parts, raw),
        b"input_audio" => sound(parts, raw),
        b"file" | b"file_id" | b"file_data" | b"document_url" => parts.open_media(&[Media::File], "a file"),
        b"video_url" | b"video" => parts.open_media(&[Media::Video], "media that is not in the body"),
        b"audio_url" | b"audio" => parts.open_media(&[Media::Audio], "media that is not in the body"),
        b"image" | b"input_image" => parts.open_media(&[Media::Image], "media that is not in the body"),
        b"signature" => parts.add(Kind::Sealed, raw),
        // Anthropic's way to point at something.
        b"source" if matches!(json::fields(raw, ["url", "file_id"]), Some([Some(_), _] | [_, Some(_)])) => {
            parts.open_media(&[Media::Image], "an image that is not in the body");
        }
        b"source" if matches!(json::fields(raw, ["data", "media_type"]), Some([Some(data), _]) if data.starts_with('"')) =>
        {
            source(parts, raw);
        }
        _ => parts.add(Kind::Schema, raw),
    }
}

/// Anthropic's way to send an image or a document: `{"type": "base64", "media_type": …, "data": …}`.
fn source<'a>(parts: &mut Parts<'a>, raw: &'a str) {
    let [data, media] = json::fields(raw, ["data", "media_type"]).unwrap_or_default();
    let media = media.and_then(json::text);
    if media.is_none_or(|media| media.to_ascii_lowercase().starts_with("image/")) {
        data.into_iter().for_each(|data| parts.add(Kind::Image, data));
    } else {
        parts.open_media(&[Media::File], "a document that must be unfolded");
        data.into_iter().for_each(|data| parts.add(Kind::File, data));
    }
}

/// `"…"` or `{"url": "…", "detail": …}`. Of duplicates all must be in the body.
pub fn image<'a>(parts: &mut Parts<'a>, raw: &'a str) {
    let mut found = false;
    let mut one = |parts: &mut Parts<'a>, url: &'a str| {
        found = true;
        if is_picture(url) {
            parts.add(Kind::Image, url);
        } else {
            parts.open_media(&[Media::Image], "an image that is not in the body");
        }
    };
    if raw.starts_with('"') {
        one(parts, raw);
    } else {
        json::entries(raw, |key, value| {
            if key == b"url" {
                one(parts, value);
            }
        });
    }
    if !found {
        parts.open_media(&[Media::Image], "an image that is not in the body");
    }
}

/// `{"data": …, "format": …}`. Some providers fetch a URL that stands for the data; of duplicates none may be one.
pub fn sound<'a>(parts: &mut Parts<'a>, raw: &'a str) {
    let mut found = false;
    json::entries(raw, |key, value| {
        if key == b"data" {
            let inline = json::text(value).is_some_and(|data| data.starts_with("data:") || !data.contains(':'));
            found |= inline;
            if inline {
                parts.add(Kind::Audio, value);
            } else {
                parts.open_media(&[Media::Audio], "sound that is not in the body");
            }
        }
    });
    if !found {
        parts.open_media(&[Media::Audio], "sound that is not in the body");
    }
}

fn tool_calls<'a>(parts: &mut Parts<'a>, raw: &'a str) {
    let array = json::elements(raw, |call| {
        parts.call();
        let object = json::entries(call, |key, value| match key {
            b"id" => parts.add(Kind::Label, value),
            b"type" | b"index" => {}
            b"function" | b"custom" => function(parts, value),
            _ => parts.add(Kind::Schema, value),
        });
        if object.is_none() {
            parts.add(Kind::Schema, call);
        }
    });
    if array.is_none() {
        parts.add(Kind::Schema, raw);
    }
}

fn function<'a>(parts: &mut Parts<'a>, raw: &'a str) {
    if json::entries(raw, |_, value| parts.text(value)).is_none() {
        parts.add(Kind::Schema, raw);
    }
}

/// Only functions and custom tools are run by the caller.
fn tools<'a>(parts: &mut Parts<'a>, name: &str, raw: &'a str) {
    parts.schemas = true;
    parts.add(Kind::Tools, raw);
    let array = json::elements(raw, |tool| {
        parts.tool();
        let mut mine = true;
        json::entries(tool, |key, value| {
            if key == b"type" {
                mine &= json::text(value).is_some_and(|kind| matches!(&*kind, "function" | "custom"));
            }
        });
        if name == "tools" && !mine {
            parts.open("a tool that the provider runs");
        }
    });
    if array.is_none() {
        parts.open("tools that cannot be read");
    }
}
