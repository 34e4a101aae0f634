//! The texts of messages and their stream events.

use super::{DEEPEST, Outline, Place, Target, quoted, strings_below};
use crate::meter::json;

/// An event with nothing but `text`.
pub(super) fn event(place: &Place, text: &str) -> Vec<u8> {
    let kind = match place.key.as_str() {
        "thinking" => "thinking_delta",
        "partial_json" => "input_json_delta",
        _ => "text_delta",
    };
    let text = String::from_utf8(quoted(text)).unwrap_or_default();
    format!(
        "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":{},\"delta\":{{\"type\":\"{kind}\",\"{}\":{text}}}}}\n\n",
        place.part, place.key
    )
    .into_bytes()
}

/// The texts of an event, or of a whole message. `None`: no JSON object.
pub(super) fn outline(data: &str) -> Option<Outline<'_>> {
    let names = ["type", "index", "content_block", "delta", "content", "message"];
    let [kind, index, start, delta, content, message] = json::fields(data, names)?;
    let mut outline = Outline::default();
    let part = index.and_then(json::whole).unwrap_or(0);
    let kind = kind.and_then(json::text);
    match kind.as_deref() {
        Some("message_start") => {
            let content = message.and_then(|raw| json::fields(raw, ["content"])).and_then(|[content]| content);
            blocks(&mut outline, content);
        }
        Some("content_block_start") => outline.block(part, start),
        Some("content_block_delta") => outline.block(part, delta),
        Some("content_block_stop") => outline.ends.push(part),
        Some("message_stop" | "error") => outline.ends_all = true,
        Some("message") | None => blocks(&mut outline, content),
        Some(_) => {}
    }
    Some(outline)
}

fn blocks<'a>(outline: &mut Outline<'a>, content: Option<&'a str>) {
    let mut part = 0;
    json::elements(content.unwrap_or_default(), |raw| {
        outline.block(part, Some(raw));
        part += 1;
    });
}

impl<'a> Outline<'a> {
    /// A block, or a piece of one.
    fn block(&mut self, part: u64, raw: Option<&'a str>) {
        let mut sealed = false;
        json::entries(raw.unwrap_or_default(), |key, value| match key {
            b"text" | b"thinking" | b"partial_json" if value.starts_with('"') => {
                let key = String::from_utf8_lossy(key).into_owned();
                self.strings.push((Target::Piece(Place { part, call: None, key }), value));
            }
            b"signature" => sealed = value != "\"\"",
            b"type" | b"id" | b"tool_use_id" | b"name" | b"data" | b"encrypted_content" => {}
            _ => strings_below(self, value, DEEPEST),
        });
        // The signature of thoughts comes when they are over.
        if sealed && self.strings.is_empty() {
            self.ends.push(part);
        }
    }
}
