//! What requests of several dialects are made of.

use crate::meter::json;
use crate::meter::part::{Kind, Parts};

/// A prompt, or several: strings, lists of token numbers, or lists of either. Returns how many prompts there are.
pub fn prompts<'a>(parts: &mut Parts<'a>, raw: &'a str) -> u64 {
    if raw.starts_with('"') {
        parts.text(raw);
        return 1;
    }
    let (mut prompts, mut numbers) = (0u64, 0u64);
    let list = json::elements(raw, |element| match element.as_bytes().first() {
        Some(b'"') => {
            parts.text(element);
            prompts = prompts.saturating_add(1);
        }
        Some(b'[') => {
            let mut numbered = 0u64;
            json::elements(element, |number| {
                if number.starts_with(|first: char| first.is_ascii_digit()) {
                    numbered = numbered.saturating_add(1);
                } else {
                    parts.add(Kind::Schema, number);
                }
            });
            parts.fixed = parts.fixed.saturating_add(numbered);
            parts.numbered |= numbered > 0;
            prompts = prompts.saturating_add(1);
        }
        Some(b'0'..=b'9') => numbers = numbers.saturating_add(1),
        _ => {
            parts.add(Kind::Schema, element);
            prompts = prompts.saturating_add(1);
        }
    });
    if list.is_none() {
        parts.add(Kind::Schema, raw);
    }
    parts.fixed = parts.fixed.saturating_add(numbers);
    parts.numbered |= numbers > 0;
    prompts.saturating_add(u64::from(numbers > 0)).max(1)
}

/// Messages with a role and a content that `content` reads.
pub fn messages<'a>(parts: &mut Parts<'a>, raw: &'a str, mut content: impl FnMut(&mut Parts<'a>, &'a str)) {
    let array = json::elements(raw, |message| {
        parts.frame();
        parts.goes_on = false;
        let object = json::entries(message, |key, value| match key {
            b"role" => parts.role(value),
            b"content" => content(parts, value),
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

/// Characters of a raw JSON string; 0 for anything else.
pub fn characters(raw: &str) -> u64 {
    json::text(raw).map_or(0, |text| text.chars().count() as u64)
}

/// The same where a Chinese character counts as two (Alibaba Cloud, "Speech synthesis": billing rules). MiniMax's
/// `usage_characters` count so too, as far as is known; where it tells them, they stand.
pub fn wide_characters(raw: &str) -> u64 {
    let width = |letter: char| {
        if matches!(letter, '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..) { 2 } else { 1 }
    };
    json::text(raw).map_or(0, |text| text.chars().map(width).fold(0, u64::saturating_add))
}

/// Tools as a list: all of it is a schema, each a frame; `closed` tells of each whether the caller runs it.
pub fn tools<'a>(parts: &mut Parts<'a>, raw: &'a str, closed: impl Fn(&str) -> bool) {
    parts.schemas = true;
    parts.add(Kind::Tools, raw);
    let array = json::elements(raw, |tool| {
        parts.tool();
        if !closed(tool) {
            parts.open("a tool that the provider runs");
        }
    });
    if array.is_none() {
        parts.open("tools that cannot be read");
    }
}

/// Whether the `type` of a tool, each if there are several, is one of `kinds`; without one it is what `bare` says.
pub fn is_kind(tool: &str, kinds: &[&str], bare: bool) -> bool {
    let (mut mine, mut found) = (true, false);
    json::entries(tool, |key, value| {
        if key == b"type" {
            found = true;
            mine &= json::text(value).is_some_and(|kind| kinds.contains(&&*kind));
        }
    });
    mine && (found || bare)
}
