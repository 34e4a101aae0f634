//! Reading what is asked of Bedrock: Converse ("Converse" request syntax), and the bodies of model families.

use crate::meter::dialect::{anthropic, openai, pictured, prompt};
use crate::meter::json;
use crate::meter::media::Media;
use crate::meter::part::{Kind, Parts};

/// A top-level entry of a Converse request, not null.
pub fn converse<'a>(parts: &mut Parts<'a>, name: &str, raw: &'a str) {
    match name {
        "messages" => prompt::messages(parts, raw, blocks),
        "system" => {
            parts.system();
            blocks(parts, raw);
        }
        "toolConfig" => tool_config(parts, raw),
        "outputConfig" => {
            parts.schemas = true;
            parts.add(Kind::Schema, raw);
        }
        "additionalModelRequestFields" => additional(parts, raw),
        "promptVariables" => {
            parts.add(Kind::Schema, raw);
            parts.open("a prompt that the provider keeps");
        }
        "inferenceConfig"
        | "guardrailConfig"
        | "performanceConfig"
        | "additionalModelResponseFieldPaths"
        | "serviceTier" => parts.beside(raw),
        "requestMetadata" => parts.labels(raw),
        _ => parts.add(Kind::Schema, raw),
    }
}

/// Fields that are handed to the model's family as they are: tools among them are offered like any others.
fn additional<'a>(parts: &mut Parts<'a>, raw: &'a str) {
    parts.schemas = true;
    let object = json::entries(raw, |key, value| match key {
        b"tools" | b"mcp_servers" | b"container" | b"context_management" if !json::is_null(value) => {
            anthropic::request::entry(parts, &String::from_utf8_lossy(key), value);
        }
        _ => parts.add(Kind::Schema, value),
    });
    if object.is_none() {
        parts.add(Kind::Schema, raw);
    }
}

fn blocks<'a>(parts: &mut Parts<'a>, raw: &'a str) {
    if json::elements(raw, |raw| block(parts, raw)).is_none() {
        parts.text(raw);
    }
}

fn block<'a>(parts: &mut Parts<'a>, raw: &'a str) {
    let object = json::entries(raw, |key, value| match key {
        _ if json::is_null(value) => {}
        b"text" => parts.text(value),
        b"cachePoint" => {}
        b"image" => image(parts, value),
        b"document" => parts.open_media(&[Media::File], "a document that must be unfolded"),
        b"video" => parts.open_media(&[Media::Video], "a document that must be unfolded"),
        b"toolUse" => {
            parts.call();
            parts.add(Kind::Json, value);
        }
        b"toolResult" => {
            parts.goes_on = true;
            tool_result(parts, value);
        }
        b"reasoningContent" => {
            json::entries(value, |key, value| match key {
                b"reasoningText" => thoughts(parts, value),
                _ => parts.add(Kind::Sealed, value),
            });
        }
        b"guardContent" => guarded(parts, value),
        b"searchResult" | b"citationsContent" => parts.add(Kind::Json, value),
        _ => parts.add(Kind::Schema, value),
    });
    if object.is_none() {
        parts.text(raw);
    }
}

/// What a guard of the provider's looks at: `{text}` or `{image}`.
fn guarded<'a>(parts: &mut Parts<'a>, raw: &'a str) {
    match json::fields(raw, ["image"]) {
        Some([Some(_)]) => {
            json::entries(raw, |key, value| match key {
                b"image" => image(parts, value),
                _ => parts.add(Kind::Json, value),
            });
        }
        _ => parts.add(Kind::Json, raw),
    }
}

/// `{text, signature}`: what is signed must stay as it is.
fn thoughts<'a>(parts: &mut Parts<'a>, raw: &'a str) {
    let signed = json::fields(raw, ["signature"]).is_some_and(|[signature]| signature.is_some());
    json::entries(raw, |key, value| match key {
        b"text" if signed => parts.signed(value),
        b"text" => parts.text(value),
        _ => parts.add(Kind::Sealed, value),
    });
}

/// `{format, source: {bytes | s3Location}}`.
fn image<'a>(parts: &mut Parts<'a>, raw: &'a str) {
    let source = json::fields(raw, ["source"]).and_then(|[source]| source);
    match source.and_then(|raw| json::fields(raw, ["bytes"])) {
        Some([Some(bytes)]) => parts.add(Kind::Image, bytes),
        _ => parts.open_media(&[Media::Image], "an image that is not in the body"),
    }
}

fn tool_result<'a>(parts: &mut Parts<'a>, raw: &'a str) {
    json::entries(raw, |key, value| match key {
        b"toolUseId" => parts.add(Kind::Label, value),
        b"content" => {
            json::elements(value, |raw| match json::fields(raw, ["json"]) {
                Some([Some(json)]) => parts.add(Kind::Json, json),
                _ => block(parts, raw),
            });
        }
        _ => {}
    });
}

/// `{tools: [{toolSpec} | {cachePoint} | {systemTool}], toolChoice}`.
fn tool_config<'a>(parts: &mut Parts<'a>, raw: &'a str) {
    parts.schemas = true;
    parts.add(Kind::Tools, raw);
    let tools = json::fields(raw, ["tools"]).and_then(|[tools]| tools);
    json::elements(tools.unwrap_or("[]"), |tool| {
        parts.tool();
        json::entries(tool, |key, _| {
            if !matches!(key, b"toolSpec" | b"cachePoint") {
                parts.open("a tool that the provider runs");
            }
        });
    });
}

/// A top-level entry of a body that InvokeModel passes on. Claude's blocks and the chat format share most names; what
/// only one of them knows is counted as a schema by the other.
pub fn invoke<'a>(parts: &mut Parts<'a>, name: &str, raw: &'a str) {
    match name {
        "prompt" | "inputText" | "message" => {
            parts.frame();
            prompt::prompts(parts, raw);
        }
        "messages" if raw.contains("\"image_url\"") || raw.contains("\"tool_calls\"") => {
            openai::request::entry(parts, name, raw);
        }
        "messages" if nova(raw) => prompt::messages(parts, raw, blocks),
        "system" if raw.starts_with('[') && !raw.contains("\"type\"") => converse(parts, name, raw),
        "toolConfig" => tool_config(parts, raw),
        "tools" if raw.contains("\"function\"") => openai::request::entry(parts, name, raw),
        "textGenerationConfig"
        | "inferenceConfig"
        | "imageGenerationConfig"
        | "anthropic_version"
        | "schemaVersion"
        | "anthropic_beta"
        | "stopSequences" => parts.beside(raw),
        // Those who make images or embed them.
        _ if !CONVERSED.contains(&name) && pictured::shows(name.as_bytes(), raw) => {
            pictured::under(parts, name.as_bytes(), raw);
        }
        _ => anthropic::request::entry(parts, name, raw),
    }
}

/// What a conversation is made of, in which a key may be called as its caller likes.
const CONVERSED: [&str; 8] =
    ["messages", "system", "tools", "tool_choice", "metadata", "documents", "chat_history", "output_config"];

/// Whether messages have Nova's blocks, which have no `type`.
fn nova(raw: &str) -> bool {
    let mut bare = false;
    json::elements(raw, |message| {
        let content = json::fields(message, ["content"]).and_then(|[content]| content);
        json::elements(content.unwrap_or("[]"), |block| {
            bare |= json::fields(block, ["type"]).is_some_and(|[kind]| kind.is_none());
        });
    });
    bare
}
