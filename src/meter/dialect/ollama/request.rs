//! Reading what is asked of Ollama (Ollama, "API").

use crate::meter::call::fold;
use crate::meter::dialect::openai;
use crate::meter::dialect::prompt::prompts;
use crate::meter::json;
use crate::meter::part::{Kind, Parts};

/// A top-level entry: its unescaped name and its raw value, which is not null.
pub fn entry<'a>(parts: &mut Parts<'a>, name: &str, raw: &'a str) {
    match name {
        "messages" => messages(parts, raw),
        "prompt" | "suffix" | "system" | "input" => {
            parts.frame();
            prompts(parts, raw);
        }
        // Tokens of an earlier answer, as numbers.
        "context" => {
            prompts(parts, raw);
        }
        "images" => {
            json::elements(raw, |image| parts.add(Kind::Image, image));
        }
        "template" if raw != "\"\"" => {
            parts.text(raw);
            parts.open("a chat template of its own");
        }
        "template" | "keep_alive" | "think" | "options" | "truncate" => parts.beside(raw),
        "format" => {
            parts.schemas = true;
            parts.add(Kind::Format, raw);
        }
        _ => openai::request::entry(parts, name, raw),
    }
}

fn messages<'a>(parts: &mut Parts<'a>, raw: &'a str) {
    let list = json::elements(raw, |message| {
        parts.frame();
        parts.goes_on = false;
        // Its keys have any case.
        let object = json::entries(message, |key, value| match fold(key).as_slice() {
            _ if json::is_null(value) => {}
            b"role" => {
                parts.goes_on |= value == "\"tool\"";
                parts.role(value);
            }
            b"content" | b"thinking" => parts.text(value),
            b"images" => {
                json::elements(value, |image| parts.add(Kind::Image, image));
            }
            b"tool_calls" => {
                parts.call();
                parts.add(Kind::Json, value);
            }
            b"tool_name" => parts.text(value),
            b"tool_call_id" => parts.add(Kind::Label, value),
            _ => parts.add(Kind::Schema, value),
        });
        if object.is_none() {
            parts.add(Kind::Schema, message);
        }
    });
    if list.is_none() {
        parts.add(Kind::Schema, raw);
    }
}
