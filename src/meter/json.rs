//! Walking strangers' JSON without building a tree.
//!
//! `serde_json` decides what is JSON; we only ask it for the raw text of the values below one object or
//! array, so memory does not grow with the number of values, and every value keeps its byte range.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Calls `each` with the unescaped key and the raw value of every entry, in order, duplicates included.
/// `None`: `raw` is no JSON object.
pub fn entries<'a>(raw: &'a str, mut each: impl FnMut(&[u8], &'a str)) -> Option<()> {
    walk_entries(raw, &mut each)
}

// The parser is compiled once, not once for everybody who asks.
fn walk_entries<'a>(raw: &'a str, each: &mut dyn FnMut(&[u8], &'a str)) -> Option<()> {
    if !raw.trim_ascii_start().starts_with('{') {
        return None;
    }
    let mut json = serde_json::Deserializer::from_str(raw);
    json.deserialize_map(Entries(each)).ok()?;
    json.end().ok()
}

/// Calls `each` with every raw element, in order. `None`: `raw` is no JSON array.
pub fn elements<'a>(raw: &'a str, mut each: impl FnMut(&'a str)) -> Option<()> {
    walk_elements(raw, &mut each)
}

fn walk_elements<'a>(raw: &'a str, each: &mut dyn FnMut(&'a str)) -> Option<()> {
    if !raw.trim_ascii_start().starts_with('[') {
        return None;
    }
    let mut json = serde_json::Deserializer::from_str(raw);
    json.deserialize_seq(Elements(each)).ok()?;
    json.end().ok()
}

/// The raw values under `names`; of duplicates the last, as most parsers do; `null` counts as absent.
/// `None`: `raw` is no JSON object.
pub fn fields<'a, const N: usize>(raw: &'a str, names: [&str; N]) -> Option<[Option<&'a str>; N]> {
    let mut found = [None; N];
    pick(raw, &names, &mut found)?;
    Some(found)
}

fn pick<'a>(raw: &'a str, names: &[&str], found: &mut [Option<&'a str>]) -> Option<()> {
    walk_entries(raw, &mut |key, value| {
        for (name, slot) in names.iter().zip(found.iter_mut()) {
            if name.as_bytes() == key {
                *slot = (!is_null(value)).then_some(value);
            }
        }
    })
}

/// Whether `raw` is `null`.
pub fn is_null(raw: &str) -> bool {
    raw.trim_ascii() == "null"
}

/// Whether `raw` says something: it is not `null`, `false`, `0`, or empty text, an empty list or object. So providers
/// write a field that they always send and seldom mean, as `error`.
pub fn says(raw: &str) -> bool {
    !matches!(raw.trim_ascii(), "null" | "false" | "0" | "\"\"" | "[]" | "{}")
}

/// The text of a JSON string, unescaped; lone surrogates become U+FFFD. `None`: `raw` is no string.
pub fn text(raw: &str) -> Option<Cow<'_, str>> {
    let Key(bytes) = serde_json::from_str(raw).ok()?;
    Some(match bytes {
        Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
        Cow::Owned(bytes) => Cow::Owned(lossy(bytes)),
    })
}

fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// A whole number that is not negative; `12.0` is one. `None`: anything else.
pub fn whole(raw: &str) -> Option<u64> {
    let raw = raw.trim_ascii();
    let digits = match raw.split_once('.') {
        Some((digits, zeros)) if !zeros.is_empty() && zeros.bytes().all(|b| b == b'0') => digits,
        Some(_) => return None,
        None => raw,
    };
    (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
}

/// Whether no value in `body` lies deeper than `most` objects and arrays. Meant for bodies that then parse:
/// on broken JSON the answer is only some bound.
pub fn depth_within(body: &[u8], most: usize) -> bool {
    let (mut depth, mut quoted, mut escaped) = (0usize, false, false);
    for byte in body {
        match (quoted, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => quoted = !quoted,
            (false, b'{' | b'[') => {
                depth += 1;
                if depth > most {
                    return false;
                }
            }
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
}

/// Finds the end of a JSON value that comes in pieces.
#[derive(Clone, Copy, Debug, Default)]
pub struct Closing {
    depth: usize,
    quoted: bool,
    escaped: bool,
}

impl Closing {
    /// Whether the outermost value ends with this byte.
    pub fn closes(&mut self, byte: u8) -> bool {
        match (self.quoted, byte) {
            (true, _) if self.escaped => self.escaped = false,
            (true, b'\\') => self.escaped = true,
            (_, b'"') => self.quoted = !self.quoted,
            (false, b'{' | b'[') => self.depth = self.depth.saturating_add(1),
            (false, b'}' | b']') => {
                self.depth = self.depth.saturating_sub(1);
                return self.depth == 0;
            }
            _ => {}
        }
        false
    }
}

/// The raw string literals in JSON text, quotes included, keys and values alike, in order.
///
/// A literal without its end is not given; [`rest`](Self::rest) then begins before it.
pub struct Strings<'a> {
    rest: &'a str,
}

impl<'a> Strings<'a> {
    /// All string literals in `raw`, which is known to be JSON.
    pub fn of(raw: &'a str) -> Self {
        Self { rest: raw }
    }

    /// What comes behind the last literal.
    pub fn rest(&self) -> &'a str {
        self.rest
    }
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let (_, from_quote) = self.rest.split_at_checked(memchr::memchr(b'"', self.rest.as_bytes())?)?;
        let mut end = 1;
        loop {
            let tail = from_quote.as_bytes().get(end..)?;
            let hit = memchr::memchr2(b'"', b'\\', tail)?;
            let escape = tail.get(hit) == Some(&b'\\');
            end += hit + if escape { 2 } else { 1 };
            if !escape {
                break;
            }
        }
        let (literal, rest) = from_quote.split_at_checked(end)?;
        self.rest = rest;
        Some(literal)
    }
}

/// The raw string literals and numbers in JSON text, keys and values alike, in order.
pub struct Leaves<'a> {
    rest: &'a str,
    depth: usize,
}

impl<'a> Leaves<'a> {
    /// All strings and numbers in `raw`, which is known to be JSON.
    pub fn of(raw: &'a str) -> Self {
        Self { rest: raw, depth: 0 }
    }

    /// In how many objects and lists the last leaf lies.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Whether the last leaf, a string, is the name of a member.
    pub fn is_name(&self) -> bool {
        self.rest.trim_ascii_start().starts_with(':')
    }
}

impl<'a> Iterator for Leaves<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let at = self.rest.bytes().position(|byte| {
            match byte {
                b'{' | b'[' => self.depth = self.depth.saturating_add(1),
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
            byte == b'"' || byte == b'-' || byte.is_ascii_digit()
        })?;
        let rest = self.rest.get(at..)?;
        if rest.starts_with('"') {
            let mut strings = Strings::of(rest);
            let literal = strings.next()?;
            self.rest = strings.rest();
            return Some(literal);
        }
        let end = rest.bytes().position(|byte| !is_of_number(byte)).unwrap_or(rest.len());
        let (number, rest) = rest.split_at_checked(end)?;
        self.rest = rest;
        Some(number)
    }
}

/// Whether a number may have this byte.
fn is_of_number(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E')
}

/// The name of the member whose value `raw`, a slice of the text `whole`, is, as it is written. `None`: it is none's.
pub fn member<'a>(whole: &'a str, raw: &str) -> Option<&'a str> {
    let name = name(whole, raw)?;
    name.get(1..name.len().saturating_sub(1))
}

/// The same, in its quotes.
pub fn name<'a>(whole: &'a str, raw: &str) -> Option<&'a str> {
    let before = whole.get(..offset(whole, raw))?.trim_ascii_end().strip_suffix(':')?.trim_ascii_end();
    let inside = before.strip_suffix('"')?;
    let quotes = inside.bytes().enumerate().rev().filter(|(_, byte)| *byte == b'"').map(|(at, _)| at);
    let escaped = |at: usize| {
        let slashes = inside.bytes().take(at).rev().take_while(|byte| *byte == b'\\').count();
        slashes % 2 == 1
    };
    before.get({ quotes }.find(|at| !escaped(*at))?..)
}

/// Where `part`, a slice of `whole`, begins in it.
pub fn offset(whole: &str, part: &str) -> usize {
    (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize)
}

struct Entries<'e, 'de>(&'e mut dyn FnMut(&[u8], &'de str));

impl<'de> Visitor<'de> for Entries<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(key)) = map.next_key()? {
            let value: &'de RawValue = map.next_value()?;
            (self.0)(&key, value.get());
        }
        Ok(())
    }
}

struct Elements<'e, 'de>(&'e mut dyn FnMut(&'de str));

impl<'de> Visitor<'de> for Elements<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(value) = seq.next_element::<&'de RawValue>()? {
            (self.0)(value.get());
        }
        Ok(())
    }
}

/// A string as bytes: `serde_json` then lets lone surrogates pass, which some providers accept.
struct Key<'a>(Cow<'a, [u8]>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_bytes(KeyVisitor).map(Key)
    }
}

struct KeyVisitor;

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = Cow<'de, [u8]>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(bytes))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(Cow::Owned(bytes.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::{Strings, depth_within, entries, fields, name, text, whole};

    #[test]
    fn keys_are_unescaped_and_duplicates_shown() {
        let mut seen = Vec::new();
        entries(r#" {"a": 1, "\u0061":[2 ], "b\n":{"a":3}} "#, |key, raw| {
            seen.push((String::from_utf8_lossy(key).into_owned(), raw.to_owned()));
        })
        .unwrap();
        assert_eq!(seen, [("a".into(), "1".into()), ("a".into(), "[2 ]".into()), ("b\n".into(), r#"{"a":3}"#.into())]);
    }

    #[test]
    fn what_is_no_object_is_told() {
        for raw in ["", "[]", "1", "{", "{}x", r#"{"a":}"#, r#"{"a":1,}"#, "{} {}"] {
            assert_eq!(entries(raw, |_, _| {}), None, "{raw}");
        }
    }

    #[test]
    fn the_last_duplicate_wins_and_null_is_absent() {
        let [a, b, c] = fields(r#"{"a":1,"a":2,"b":null}"#, ["a", "b", "c"]).unwrap();
        assert_eq!((a, b, c), (Some("2"), None, None));
    }

    #[test]
    fn lone_surrogates_do_not_lose_the_text() {
        assert_eq!(text(r#""a\ud800b""#).unwrap(), "a\u{fffd}\u{fffd}\u{fffd}b");
        assert_eq!(text(r#""\ud83d\ude00""#).unwrap(), "😀");
        assert_eq!(text("12"), None);
    }

    #[test]
    fn whole_numbers() {
        assert_eq!(whole("12"), Some(12));
        assert_eq!(whole("12.0"), Some(12));
        for raw in ["-1", "1.5", "1e3", "\"1\"", "", "99999999999999999999", "1.", "null"] {
            assert_eq!(whole(raw), None, "{raw}");
        }
    }

    #[test]
    fn strings_are_found_at_any_depth() {
        let found: Vec<_> = Strings::of(r#"{"a\"b":["c",{"d":"e\\"}],"f":1}"#).collect();
        assert_eq!(found, [r#""a\"b""#, r#""c""#, r#""d""#, r#""e\\""#, r#""f""#]);
    }

    #[test]
    fn names_are_found_behind_their_values() {
        let whole = r#"{"a":1, "b\"\\" : 2,"c":[3]}"#;
        for (value, wanted) in [("1", Some(r#""a""#)), ("2", Some(r#""b\"\\""#)), ("[3]", Some(r#""c""#)), ("3", None)]
        {
            let at = whole.find(value).unwrap();
            assert_eq!(name(whole, &whole[at..at + value.len()]), wanted);
        }
    }

    #[test]
    fn depth_ignores_brackets_in_strings() {
        assert!(depth_within(br#"{"a":"[[[[\"[["}"#, 1));
        assert!(depth_within(b"[[]]", 2));
        assert!(!depth_within(b"[[]]", 1));
    }
}
