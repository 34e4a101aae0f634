//! Reading what is asked of DashScope: everything a model reads is in `input`, the rest in `parameters`.

use crate::meter::dialect::{openai, pictured, reading};
use crate::meter::json;
use crate::meter::media::Media;
use crate::meter::origin::is_picture;
use crate::meter::part::{Kind, Parts};

/// A top-level entry: its unescaped name and its raw value, which is not null.
pub fn entry<'a>(parts: &mut Parts<'a>, name: &str, raw: &'a str) {
    match name {
        "input" => {
            let object = json::entries(raw, |key, value| match key {
                b"messages" => messages(parts, value),
                b"prompt" => {
                    parts.frame();
                    parts.text(value);
                }
                b"history" => parts.add(Kind::Schema, value),
                b"query" | b"documents" => reading::rerank(parts, &String::from_utf8_lossy(key), value),
                b"file_urls" => parts.open_media(&[Media::File], "a file"),
                b"text" | b"texts" => reading::entry(parts, &String::from_utf8_lossy(key), value),
                _ => pictured::under(parts, key, value),
            });
            if object.is_none() {
                parts.add(Kind::Schema, raw);
            }
        }
        "parameters" => {
            json::entries(raw, |key, value| match key {
                b"tools" | b"response_format" => {
                    openai::request::entry(parts, &String::from_utf8_lossy(key), value);
                }
                b"incremental_output" => parts.in_pieces = value == "true",
                b"enable_search" if value != "false" => parts.open("a search by the provider"),
                _ => parts.beside(value),
            });
        }
        _ => parts.add(Kind::Schema, raw),
    }
}

/// Chat messages, whose parts are `{text}`, `{image}`, `{audio}` or `{video}`.
fn messages<'a>(parts: &mut Parts<'a>, raw: &'a str) {
    if !raw.contains("\"image\"") && !raw.contains("\"audio\"") && !raw.contains("\"video\"") {
        return openai::request::entry(parts, "messages", raw);
    }
    super::super::prompt::messages(parts, raw, |parts, content| {
        let list = json::elements(content, |part| {
            json::entries(part, |key, value| match key {
                b"text" => openai::request::said(parts, value),
                b"image" if is_picture(value) => parts.add(Kind::Image, value),
                b"image" => parts.open_media(&[Media::Image], "media that is not in the body"),
                b"audio" => parts.open_media(&[Media::Audio], "media that is not in the body"),
                _ => parts.open_media(&[Media::Video], "media that is not in the body"),
            });
        });
        if list.is_none() {
            openai::request::said(parts, content);
        }
    });
}
