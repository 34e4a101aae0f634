//! Reading what is asked of Cohere (Cohere, "Chat", both versions, and "Generate").

use crate::meter::dialect::openai;
use crate::meter::dialect::prompt::prompts;
use crate::meter::json;
use crate::meter::part::{Kind, Parts};

/// A top-level entry: its unescaped name and its raw value, which is not null.
pub fn entry<'a>(parts: &mut Parts<'a>, name: &str, raw: &'a str) {
    match name {
        "message" | "prompt" | "preamble" => {
            parts.frame();
            prompts(parts, raw);
        }
        "chat_history" => {
            let list = json::elements(raw, |turn| {
                parts.frame();
                let object = json::entries(turn, |key, value| match key {
                    b"role" => {}
                    b"message" => parts.text(value),
                    _ => parts.add(Kind::Schema, value),
                });
                if object.is_none() {
                    parts.add(Kind::Schema, turn);
                }
            });
            if list.is_none() {
                parts.add(Kind::Schema, raw);
            }
        }
        "documents" | "tool_results" => {
            json::elements(raw, |_| parts.frame());
            parts.schemas = true;
            parts.add(Kind::Schema, raw);
        }
        "connectors" => {
            let mut any = false;
            json::elements(raw, |_| any = true);
            if any {
                parts.open("a search by the provider");
            }
        }
        "conversation_id" => {
            parts.beside(raw);
            parts.open("a conversation that the provider keeps");
        }
        "tools" if !raw.contains("\"function\"") => {
            // The first version's tools have no type: the caller runs them all.
            parts.schemas = true;
            parts.add(Kind::Tools, raw);
            json::elements(raw, |_| parts.tool());
        }
        "safety_mode" | "citation_options" | "citation_quality" | "prompt_truncation" | "stop_sequences"
        | "strict_tools" | "thinking" => parts.beside(raw),
        // The second version has the messages, tools and formats of chat completions.
        _ => openai::request::entry(parts, name, raw),
    }
}
