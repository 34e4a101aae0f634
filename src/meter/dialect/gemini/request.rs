//! Reading what is asked of Gemini (Google, "GenerateContentRequest"). Every field has two names, `systemInstruction`
//! and `system_instruction`; Google reads both.

use crate::meter::dialect::pictured;
use crate::meter::dialect::prompt::prompts;
use crate::meter::json;
use crate::meter::media::Media;
use crate::meter::part::{Kind, Parts};

/// A field's name without underscores, in lower case: both of its names come to the same.
fn plain(name: &[u8]) -> Vec<u8> {
    name.iter().filter(|byte| **byte != b'_').map(u8::to_ascii_lowercase).collect()
}

/// A top-level entry: its unescaped name and its raw value, which is not null.
pub fn entry<'a>(parts: &mut Parts<'a>, name: &str, raw: &'a str) {
    match plain(name.as_bytes()).as_slice() {
        b"contents" => contents(parts, raw),
        b"content" => content(parts, raw),
        b"requests" => {
            json::elements(raw, |request| {
                json::entries(request, |key, value| entry(parts, &String::from_utf8_lossy(key), value));
            });
        }
        b"systeminstruction" => system(parts, raw),
        b"tools" => tools(parts, raw),
        b"generationconfig" => config(parts, raw),
        b"cachedcontent" => parts.open("content that the provider keeps"),
        b"model" | b"safetysettings" | b"toolconfig" | b"tasktype" | b"outputdimensionality" => parts.beside(raw),
        b"labels" => parts.labels(raw),
        b"title" => parts.text(raw),
        _ => parts.add(Kind::Schema, raw),
    }
}

/// Instructions, which may stand behind the conversation: they go on with nothing, and begin nothing.
fn system<'a>(parts: &mut Parts<'a>, raw: &'a str) {
    let goes_on = parts.goes_on;
    parts.systems = parts.systems.saturating_add(1);
    content(parts, raw);
    parts.goes_on = goes_on;
}

fn config<'a>(parts: &mut Parts<'a>, raw: &'a str) {
    json::entries(raw, |key, value| match plain(key).as_slice() {
        b"responseschema" | b"responsejsonschema" if !json::is_null(value) => {
            parts.schemas = true;
            parts.add(Kind::Format, value);
        }
        _ => parts.beside(value),
    });
}

fn contents<'a>(parts: &mut Parts<'a>, raw: &'a str) {
    if json::elements(raw, |raw| content(parts, raw)).is_none() {
        content(parts, raw);
    }
}

/// `{role, parts}`, or a text in its place.
fn content<'a>(parts: &mut Parts<'a>, raw: &'a str) {
    parts.frame();
    parts.goes_on = false;
    let object = json::entries(raw, |key, value| match key {
        b"role" => {
            if !matches!(value, "\"user\"" | "\"model\"" | "\"function\"" | "\"system\"" | "null") {
                parts.text(value);
            }
        }
        b"parts" => {
            if json::elements(value, |raw| part(parts, raw)).is_none() {
                part(parts, value);
            }
        }
        _ => parts.add(Kind::Schema, value),
    });
    if object.is_none() {
        parts.text(raw);
    }
}

fn part<'a>(parts: &mut Parts<'a>, raw: &'a str) {
    let object = json::entries(raw, |key, value| match plain(key).as_slice() {
        _ if json::is_null(value) => {}
        b"text" => parts.text(value),
        b"thought" | b"videometadata" | b"mediaresolution" => {}
        b"thoughtsignature" => parts.add(Kind::Sealed, value),
        b"inlinedata" => inline(parts, value),
        b"filedata" => file(parts, value),
        b"functioncall" => {
            parts.call();
            parts.goes_on = false;
            parts.add(Kind::Json, value);
        }
        b"functionresponse" => {
            parts.call();
            parts.goes_on = true;
            function_response(parts, value);
        }
        b"executablecode" | b"codeexecutionresult" => parts.add(Kind::Json, value),
        _ => parts.add(Kind::Schema, value),
    });
    if object.is_none() {
        parts.text(raw);
    }
}

/// `{mimeType, fileUri}`.
fn file(parts: &mut Parts<'_>, raw: &str) {
    let mut image = false;
    json::entries(raw, |key, value| {
        let says = || json::text(value).is_some_and(|kind| kind.to_ascii_lowercase().starts_with("image/"));
        image |= plain(key) == b"mimetype" && says();
    });
    let media: &[Media] = if image { &[Media::Image, Media::File] } else { &[Media::File] };
    parts.open_media(media, "a file");
}

/// `{name, response, parts: [{inlineData}]}`: what is beside its words has parts of its own.
fn function_response<'a>(parts: &mut Parts<'a>, raw: &'a str) {
    let mut shows = false;
    json::entries(raw, |key, _| shows |= plain(key) == b"parts");
    if !shows {
        return parts.add(Kind::Json, raw);
    }
    json::entries(raw, |key, value| {
        if plain(key) != b"parts" || json::elements(value, |raw| shown(parts, raw)).is_none() {
            parts.add(Kind::Json, value);
        }
    });
}

/// A part of what a function answered.
fn shown<'a>(parts: &mut Parts<'a>, raw: &'a str) {
    let object = json::entries(raw, |key, value| match plain(key).as_slice() {
        b"inlinedata" => inline(parts, value),
        b"filedata" => file(parts, value),
        _ => parts.add(Kind::Json, value),
    });
    if object.is_none() {
        parts.add(Kind::Json, raw);
    }
}

/// `{mimeType, data}`. Documents are unfolded page by page, films second by second.
fn inline<'a>(parts: &mut Parts<'a>, raw: &'a str) {
    let (mut kind, mut data) = (None, None);
    json::entries(raw, |key, value| match plain(key).as_slice() {
        b"mimetype" => kind = json::text(value).map(|kind| kind.to_ascii_lowercase()),
        b"data" => data = Some(value),
        _ => {}
    });
    match (kind.as_deref().and_then(|kind| kind.split('/').next()), data) {
        (Some("image"), Some(data)) => parts.add(Kind::Image, data),
        (Some("audio"), Some(data)) => parts.add(Kind::Audio, data),
        (Some("video"), _) => parts.open_media(&[Media::Video], "a document that must be unfolded"),
        _ => parts.open_media(&[Media::File], "a document that must be unfolded"),
    }
}

/// Function declarations are run by the caller; all else (search, code, URLs) by Google.
fn tools<'a>(parts: &mut Parts<'a>, raw: &'a str) {
    parts.schemas = true;
    parts.add(Kind::Tools, raw);
    let one = |parts: &mut Parts<'a>, tool: &'a str| {
        json::entries(tool, |key, value| match plain(key).as_slice() {
            _ if json::is_null(value) => {}
            b"functiondeclarations" => {
                json::elements(value, |_| parts.tool());
            }
            _ => parts.open("a tool that the provider runs"),
        });
    };
    if json::elements(raw, |tool| one(parts, tool)).is_none() {
        one(parts, raw);
    }
}

/// `instances` of a prediction: objects whose strings are read; pictures in base64 are not.
pub fn predict<'a>(parts: &mut Parts<'a>, name: &str, raw: &'a str) {
    match name {
        "instances" => {}
        // Told to the server, not to the model.
        "parameters" => return parts.beside(raw),
        "labels" => return parts.labels(raw),
        _ => return parts.add(Kind::Schema, raw),
    }
    json::elements(raw, |instance| {
        parts.frame();
        json::entries(instance, |key, value| match key {
            b"content" | b"prompt" | b"text" | b"title" => {
                prompts(parts, value);
            }
            b"task_type" | b"taskType" => parts.beside(value),
            _ => pictured::under(parts, key, value),
        });
    });
}

/// A top-level entry of an interaction.
pub fn interaction<'a>(parts: &mut Parts<'a>, name: &str, raw: &'a str) {
    match name {
        "input" => interaction_input(parts, raw),
        "system_instruction" => system(parts, raw),
        "tools" => crate::meter::dialect::prompt::tools(parts, raw, |tool| {
            crate::meter::dialect::prompt::is_kind(tool, &["function"], false)
        }),
        "previous_interaction_id" => parts.open("a conversation that the provider keeps"),
        "agent" => parts.open("an agent of the provider"),
        "background" if raw == "false" => {}
        "background" => parts.deferred = true,
        "response_format" | "response_mime_type" => {
            parts.schemas = true;
            parts.add(Kind::Format, raw);
        }
        "store" | "generation_config" | "response_modalities" => parts.beside(raw),
        "labels" => parts.labels(raw),
        _ => parts.add(Kind::Schema, raw),
    }
}

/// A text, a content, or a list of contents or of steps with content.
fn interaction_input<'a>(parts: &mut Parts<'a>, raw: &'a str) {
    if raw.starts_with('"') {
        parts.frame();
        return parts.text(raw);
    }
    if json::elements(raw, |raw| interaction_part(parts, raw)).is_none() {
        interaction_part(parts, raw);
    }
}

fn interaction_part<'a>(parts: &mut Parts<'a>, raw: &'a str) {
    parts.frame();
    let image = json::fields(raw, ["type"]).is_some_and(|[kind]| kind == Some("\"image\""));
    let object = json::entries(raw, |key, value| match key {
        b"type" | b"role" | b"mime_type" => {}
        b"text" | b"name" => parts.text(value),
        b"content" => match json::elements(value, |raw| interaction_content(parts, raw)) {
            Some(()) => {}
            None => interaction_content(parts, value),
        },
        b"signature" => parts.add(Kind::Sealed, value),
        b"arguments" | b"result" => parts.add(Kind::Json, value),
        b"call_id" | b"id" => parts.add(Kind::Label, value),
        b"uri" => parts.open_media(&[Media::File], "a file"),
        b"data" if image => parts.add(Kind::Image, value),
        b"data" => parts.open_media(&[Media::File], "a document that must be unfolded"),
        _ => parts.add(Kind::Schema, value),
    });
    if object.is_none() {
        parts.text(raw);
    }
}

fn interaction_content<'a>(parts: &mut Parts<'a>, raw: &'a str) {
    let image = json::fields(raw, ["type"]).is_some_and(|[kind]| kind == Some("\"image\""));
    let object = json::entries(raw, |key, value| match key {
        b"type" | b"mime_type" => {}
        b"text" => parts.text(value),
        b"data" if image => parts.add(Kind::Image, value),
        b"data" => parts.open_media(&[Media::File], "a document that must be unfolded"),
        b"uri" => parts.open_media(&[Media::File], "a file"),
        _ => parts.add(Kind::Schema, value),
    });
    if object.is_none() {
        parts.text(raw);
    }
}
