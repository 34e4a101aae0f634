//! The texts of chat completions and their chunks.

use super::{DEEPEST, Outline, Place, Target, quoted, strings_below};
use crate::meter::json;

/// What the chunks of an answer have in common, so that one can be added.
#[derive(Clone, Debug, Default)]
pub(super) struct Frame {
    id: Option<String>,
    created: Option<String>,
    model: Option<String>,
}

impl Frame {
    /// Takes over what the chunk `data` says.
    pub fn read(&mut self, data: &str) {
        let Some(found) = json::fields(data, ["id", "created", "model"]) else { return };
        for (raw, kept) in found.into_iter().zip([&mut self.id, &mut self.created, &mut self.model]) {
            if let Some(raw) = raw.filter(|raw| raw.len() <= 512 && kept.as_deref() != Some(*raw)) {
                *kept = Some(raw.to_owned());
            }
        }
    }

    /// A chunk with nothing but `text`.
    pub fn event(&self, place: &Place, text: &str) -> Vec<u8> {
        let text = String::from_utf8(quoted(text)).unwrap_or_default();
        let delta = match (place.call, place.key.as_str()) {
            (Some(u64::MAX), key) => format!("{{\"function_call\":{{\"{key}\":{text}}}}}"),
            (Some(call), "input") => {
                format!("{{\"tool_calls\":[{{\"index\":{call},\"custom\":{{\"input\":{text}}}}}]}}")
            }
            (Some(call), key) => format!("{{\"tool_calls\":[{{\"index\":{call},\"function\":{{\"{key}\":{text}}}}}]}}"),
            (None, "thinking") => {
                format!(
                    "{{\"content\":[{{\"type\":\"thinking\",\"thinking\":[{{\"type\":\"text\",\"text\":{text}}}]}}]}}"
                )
            }
            (None, key) => format!("{{{}:{text}}}", String::from_utf8(quoted(key)).unwrap_or_default()),
        };
        let own = |name: &str, raw: &Option<String>| raw.as_ref().map(|raw| format!("\"{name}\":{raw},"));
        let (id, created, model) = (own("id", &self.id), own("created", &self.created), own("model", &self.model));
        format!(
            "data: {{{}\"object\":\"chat.completion.chunk\",{}{}\"choices\":[{{\"index\":{},\"delta\":{delta},\"finish_reason\":null}}]}}\n\n",
            id.unwrap_or_default(),
            created.unwrap_or_default(),
            model.unwrap_or_default(),
            place.part
        )
        .into_bytes()
    }
}

/// The texts of a chunk, or of a whole completion. `None`: no JSON object.
pub(super) fn outline(data: &str) -> Option<Outline<'_>> {
    let mut outline = Outline::default();
    let mut choices = None;
    json::entries(data, |key, value| {
        if key == b"choices" {
            choices = Some(value);
        }
    })?;
    if let Some(choices) = choices {
        json::elements(choices, |raw| choice(&mut outline, raw));
    }
    Some(outline)
}

fn choice<'a>(outline: &mut Outline<'a>, raw: &'a str) {
    let names = ["index", "delta", "message", "text", "finish_reason", "logprobs"];
    let Some([index, delta, message, plain, finish, probabilities]) = json::fields(raw, names) else { return };
    let part = index.and_then(json::whole).unwrap_or(0);
    match (delta, message) {
        (Some(delta), message) => {
            said(outline, part, delta);
            // Perplexity sends the message so far beside each delta.
            outline.strings.extend(message.map(|raw| (Target::Repeat, raw)));
        }
        (None, Some(message)) => said(outline, part, message),
        (None, None) => {}
    }
    if let Some(raw) = plain.filter(|raw| raw.starts_with('"')) {
        outline.strings.push((Target::Piece(place(part, "text")), raw));
    }
    outline.strings.extend(probabilities.map(|raw| (Target::Repeat, raw)));
    if finish.is_some() {
        outline.ends.push(part);
    }
}

fn place(part: u64, key: &str) -> Place {
    Place { part, call: None, key: key.to_owned() }
}

/// A delta or a message.
fn said<'a>(outline: &mut Outline<'a>, part: u64, raw: &'a str) {
    json::entries(raw, |key, value| match key {
        b"role" | b"id" | b"tool_call_id" => {}
        b"reasoning_details" => outline.strings.push((Target::Repeat, value)),
        b"tool_calls" => {
            let mut position = 0;
            json::elements(value, |call| {
                tool_call(outline, part, position, call);
                position += 1;
            });
        }
        b"function_call" => called(outline, part, u64::MAX, value),
        b"content" if value.starts_with('[') => parts(outline, part, value),
        key if value.starts_with('"') => {
            let key = String::from_utf8_lossy(key);
            outline.strings.push((Target::Piece(place(part, &key)), value));
        }
        _ => strings_below(outline, value, DEEPEST),
    });
}

/// Mistral's content: texts and thoughts in a list.
fn parts<'a>(outline: &mut Outline<'a>, part: u64, raw: &'a str) {
    json::elements(raw, |element| {
        json::entries(element, |key, value| match key {
            b"type" => {}
            b"text" if value.starts_with('"') => outline.strings.push((Target::Piece(place(part, "content")), value)),
            b"thinking" => {
                json::elements(value, |thought| {
                    json::entries(thought, |key, value| match key {
                        b"type" => {}
                        b"text" if value.starts_with('"') => {
                            outline.strings.push((Target::Piece(place(part, "thinking")), value));
                        }
                        _ => strings_below(outline, value, DEEPEST),
                    });
                });
            }
            _ => strings_below(outline, value, DEEPEST),
        });
    });
}

fn tool_call<'a>(outline: &mut Outline<'a>, part: u64, position: u64, raw: &'a str) {
    let Some([index, function, custom]) = json::fields(raw, ["index", "function", "custom"]) else { return };
    let call = index.and_then(json::whole).unwrap_or(position);
    for raw in [function, custom].into_iter().flatten() {
        called(outline, part, call, raw);
    }
}

fn called<'a>(outline: &mut Outline<'a>, part: u64, call: u64, raw: &'a str) {
    json::entries(raw, |key, value| match key {
        b"name" => {}
        b"arguments" | b"input" if value.starts_with('"') => {
            let key = String::from_utf8_lossy(key).into_owned();
            outline.strings.push((Target::Piece(Place { part, call: Some(call), key }), value));
        }
        _ => strings_below(outline, value, DEEPEST),
    });
}
