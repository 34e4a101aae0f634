//! Reading what a messages request asks for.

use crate::meter::dialect::openai::request::image;
use crate::meter::json;
use crate::meter::media::Media;
use crate::meter::part::{Kind, Parts};

/// Content within content within content: a tool result with a document of blocks. Deeper is counted by bytes.
const DEEPEST_CONTENT: u8 = 4;

/// Anthropic's own client-run tools bring a definition that is not in the body; the documented ones take
/// 245 (bash) to 735 tokens, and the newest computer tool was seen to take 1,800.
const CLIENT_TOOL: u64 = 2_000;

/// A top-level entry: its unescaped name and its raw value, which is not null.
pub fn entry<'a>(parts: &mut Parts<'a>, name: &str, raw: &'a str) {
    match name {
        "messages" => messages(parts, raw),
        "system" => {
            parts.system();
            content(parts, raw, DEEPEST_CONTENT);
        }
        "tools" => tools(parts, raw),
        "mcp_servers" | "container" => {
            parts.beside(raw);
            parts.open("a tool that the provider runs");
        }
        "context_management" => {
            parts.beside(raw);
            context_management(parts, raw);
        }
        "background" | "store" if raw == "false" => {}
        "background" => parts.deferred = true,
        "previous_response_id" | "conversation" => {
            parts.beside(raw);
            parts.open("a conversation that the provider keeps");
        }
        "models" => parts.choice(raw),
        "chat_template" => {
            parts.text(raw);
            parts.open("a chat template of its own");
        }
        "output_format" | "output_config" => {
            parts.schemas = true;
            parts.add(Kind::Format, raw);
        }
        // Told to the server, not to the model.
        "metadata" | "stop_sequences" | "service_tier" | "tool_choice" | "cache_control" | "reasoning_effort"
        | "store" => parts.beside(raw),
        _ => parts.add(Kind::Schema, raw),
    }
}

fn messages<'a>(parts: &mut Parts<'a>, raw: &'a str) {
    let array = json::elements(raw, |message| {
        parts.frame();
        parts.goes_on = false;
        let object = json::entries(message, |key, value| match key {
            b"role" => parts.role(value),
            b"content" => content(parts, value, DEEPEST_CONTENT),
            _ => parts.add(Kind::Schema, value),
        });
        if object.is_none() {
            parts.add(Kind::Schema, message);
        }
    });
    if array.is_none() {
        parts.add(Kind::Schema, raw);
    }
}

/// A string, or an array of blocks.
fn content<'a>(parts: &mut Parts<'a>, raw: &'a str, depth: u8) {
    let Some(below) = depth.checked_sub(1) else { return parts.add(Kind::Schema, raw) };
    if raw.starts_with('{') {
        return block(parts, raw, below);
    }
    if json::elements(raw, |element| block(parts, element, below)).is_none() {
        parts.text(raw);
    }
}

fn block<'a>(parts: &mut Parts<'a>, raw: &'a str, depth: u8) {
    let (mut kinds, mut sources) = (Vec::new(), Vec::new());
    let object = json::entries(raw, |key, value| match key {
        b"type" => {
            kinds.push(value);
            block_type(parts, value);
        }
        b"id" => parts.add(Kind::Label, value),
        b"tool_use_id" => {
            parts.goes_on = true;
            parts.add(Kind::Label, value);
        }
        b"cache_control" | b"is_error" => {}
        // Quotations, which stand in the documents too.
        b"citations" => parts.beside(value),
        b"thinking" => parts.signed(value),
        b"text" | b"name" | b"title" | b"context" => parts.text(value),
        b"input" => parts.add(Kind::Json, value),
        b"signature" | b"data" | b"encrypted_content" => parts.add(Kind::Sealed, value),
        b"content" => content(parts, value, depth),
        b"source" => sources.push(source(parts, value, depth)),
        b"file_id" => parts.open_media(&[Media::File], "a file that the provider keeps"),
        // OpenAI's way, which some who speak this take too.
        b"image_url" => image(parts, value),
        _ => parts.add(Kind::Schema, value),
    });
    if object.is_none() {
        parts.text(raw);
    }
    let document = !kinds.is_empty() && kinds.iter().all(|kind| *kind == "\"document\"");
    for from in sources {
        given(parts, from, document);
    }
}

/// What stands in a block's `source`.
enum Origin<'a> {
    /// Text, or content of its own, which is read.
    Text,
    /// Base64 in the body, and whether it says that it is an image.
    Data(Option<&'a str>, bool),
    /// Not in the body.
    Elsewhere,
}

/// Each source is one image or one document, as the block says; what says neither may be an image.
fn given<'a>(parts: &mut Parts<'a>, from: Origin<'a>, document: bool) {
    match from {
        Origin::Text => {}
        Origin::Data(data, true) => data.into_iter().for_each(|data| parts.add(Kind::Image, data)),
        Origin::Data(data, false) => {
            parts.open_media(&[Media::File], "a document that must be unfolded");
            let kind = if document { Kind::File } else { Kind::Image };
            data.into_iter().for_each(|data| parts.add(kind, data));
        }
        Origin::Elsewhere => {
            let media: &[Media] = if document { &[Media::File] } else { &[Media::Image, Media::File] };
            parts.open_media(media, "an image or document that is not in the body");
        }
    }
}

fn block_type(parts: &mut Parts<'_>, raw: &str) {
    match json::text(raw).as_deref() {
        Some("tool_use") => parts.call(),
        Some("container_upload") => parts.open_media(&[Media::File], "a file that the provider keeps"),
        Some("compaction") => parts.open("a summary that the provider keeps"),
        _ => {}
    }
}

/// Where an image or a document comes from; also the `source` of a search result, which is a string.
fn source<'a>(parts: &mut Parts<'a>, raw: &'a str, depth: u8) -> Origin<'a> {
    let Some([kind, media]) = json::fields(raw, ["type", "media_type"]) else {
        parts.text(raw);
        return Origin::Text;
    };
    let image = media.and_then(json::text).is_some_and(|media| media.to_ascii_lowercase().starts_with("image/"));
    let kind = kind.and_then(json::text);
    let kind = kind.as_deref().unwrap_or_default();
    let mut from = match kind {
        "base64" => Origin::Data(None, image),
        "text" | "content" => Origin::Text,
        _ => Origin::Elsewhere,
    };
    json::entries(raw, |key, value| match (key, kind) {
        (b"type" | b"media_type", _) => {}
        (b"data", "base64") => match from {
            Origin::Data(None, image) => from = Origin::Data(Some(value), image),
            _ => parts.add(Kind::Image, value),
        },
        (b"data", _) => parts.text(value),
        (b"content", _) => content(parts, value, depth),
        (b"url" | b"file_id", _) => from = Origin::Elsewhere,
        _ => parts.add(Kind::Schema, value),
    });
    from
}

/// Custom tools, and those of Anthropic's that the caller runs, are closed; all others run at the provider.
fn tools<'a>(parts: &mut Parts<'a>, raw: &'a str) {
    parts.add(Kind::Tools, raw);
    parts.schemas = true;
    let array = json::elements(raw, |tool| {
        parts.tool();
        json::entries(tool, |key, value| {
            if key == b"type" && !json::is_null(value) {
                tool_type(parts, &json::text(value).unwrap_or_default());
            }
        });
    });
    if array.is_none() {
        parts.open("tools that cannot be read");
    }
}

fn tool_type(parts: &mut Parts<'_>, kind: &str) {
    let own = ["bash_", "text_editor_", "computer_", "memory_"];
    if own.iter().any(|prefix| kind.starts_with(prefix)) {
        parts.fixed = parts.fixed.saturating_add(CLIENT_TOOL);
    } else if kind != "custom" {
        parts.open("a tool that the provider runs");
    }
}

/// Edits that clear make the input shorter; others (compaction) run the model once more.
fn context_management<'a>(parts: &mut Parts<'a>, raw: &'a str) {
    let mut clears = true;
    if let Some([Some(edits)]) = json::fields(raw, ["edits"]) {
        json::elements(edits, |edit| {
            let kind = json::fields(edit, ["type"]).and_then(|[kind]| kind).and_then(json::text);
            clears &= kind.is_some_and(|kind| kind.starts_with("clear_"));
        });
    }
    if !clears {
        parts.open("a summary that the provider writes");
    }
}
