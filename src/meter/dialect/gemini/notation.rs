//! How Gemini is told of tools, of calls and of their results, and how it calls.
//!
//! Vertex AI counts the words of all that and nothing between them: exactly so in most of 40 recorded rows. The Gemini API
//! counts what is written out, since Gemini 2.5, and that is the notation which Google publishes for the open model of the
//! family ("FunctionGemma formatting and best practices"): `declaration:add{description:"…",parameters:{…}}`,
//! `call:add{x:2}`, `response:add{result:5}`. The signs at both ends of each are in the model's manner; 16 recorded rows
//! come out so.

use crate::meter::json;

/// The deepest value that is looked into; what is below is taken as it stands.
const DEEPEST: usize = 32;

/// What finds the words of raw JSON and tells each.
pub type Tell = fn(&str, &mut dyn FnMut(&str));

/// The words of definitions: names, descriptions, values to choose from, types, what is required.
pub fn declared_words(raw: &str, each: &mut dyn FnMut(&str)) {
    word(raw, DEEPEST, each);
}

/// The words of a call or of a result: the tool's name, and the names and values of what is said to it, or by it.
pub fn told_words(raw: &str, each: &mut dyn FnMut(&str)) {
    match Told::of(raw) {
        Some(told) => told.words(each),
        None => scalars(raw, DEEPEST, each),
    }
}

/// Definitions as they are written out, one after the other.
pub fn declared(raw: &str) -> String {
    let mut out = String::new();
    let mut one = |tool: &str| {
        let lists = json::fields(tool, ["functionDeclarations", "function_declarations", "function"]);
        match lists.unwrap_or_default() {
            [Some(list), ..] | [_, Some(list), _] => {
                json::elements(list, |raw| declare(&mut out, raw));
            }
            [.., function] => declare(&mut out, function.unwrap_or(tool)),
        }
    };
    if json::elements(raw, &mut one).is_none() {
        one(raw);
    }
    out
}

/// A call or a result as it is written out.
pub fn told(raw: &str) -> String {
    let mut out = String::new();
    match Told::of(raw) {
        Some(told) => told.write(&mut out),
        None => bare(&mut out, raw, DEEPEST),
    }
    out
}

/// A call of a tool, or what came of it.
#[derive(Clone, Copy)]
pub struct Told<'a> {
    /// `call` or `response`.
    pub what: &'static str,
    /// The tool's name, as raw JSON.
    pub name: &'a str,
    /// What is said, as raw JSON.
    pub said: &'a str,
}

impl<'a> Told<'a> {
    /// `{name, args}` or `{name, response}`. `None`: something else.
    fn of(raw: &'a str) -> Option<Self> {
        let [name, args, response] = json::fields(raw, ["name", "args", "response"])?;
        let (what, said) = if response.is_some() { ("response", response) } else { ("call", args) };
        Some(Self { what, name: name?, said: said.unwrap_or("{}") })
    }

    /// Its words.
    pub fn words(self, each: &mut dyn FnMut(&str)) {
        each(&json::text(self.name).unwrap_or_default());
        scalars(self.said, DEEPEST, each);
    }

    /// Writes it out.
    pub fn write(self, out: &mut String) {
        out.push_str(self.what);
        out.push(':');
        out.push_str(&json::text(self.name).unwrap_or_default());
        bare(out, self.said, DEEPEST);
    }
}

fn declare(out: &mut String, raw: &str) {
    let [name] = json::fields(raw, ["name"]).unwrap_or_default();
    out.push_str("declaration:");
    out.push_str(&name.and_then(json::text).unwrap_or_default());
    members(out, raw, DEEPEST, |key| !matches!(key, b"name" | b"type" | b"strict"));
}

/// An object without quotes around its keys, and without what is null.
fn members(out: &mut String, raw: &str, depth: usize, wanted: fn(&[u8]) -> bool) {
    out.push('{');
    let mut first = true;
    json::entries(raw, |key, value| {
        if json::is_null(value) || !wanted(key) {
            return;
        }
        if !std::mem::take(&mut first) {
            out.push(',');
        }
        out.push_str(&String::from_utf8_lossy(key));
        out.push(':');
        bare(out, value, depth);
    });
    out.push('}');
}

fn bare(out: &mut String, raw: &str, depth: usize) {
    let Some(below) = depth.checked_sub(1) else { return out.push_str(raw) };
    match raw.as_bytes().first() {
        Some(b'{') => members(out, raw, below, |_| true),
        Some(b'[') => {
            out.push('[');
            let mut first = true;
            json::elements(raw, |raw| {
                if !std::mem::take(&mut first) {
                    out.push(',');
                }
                bare(out, raw, below);
            });
            out.push(']');
        }
        Some(b'"') => {
            out.push('"');
            out.push_str(&json::text(raw).unwrap_or_default());
            out.push('"');
        }
        _ => out.push_str(raw.trim_ascii()),
    }
}

/// Names and values, at every depth.
fn scalars(raw: &str, depth: usize, each: &mut dyn FnMut(&str)) {
    let Some(below) = depth.checked_sub(1) else { return each(raw) };
    match raw.as_bytes().first() {
        Some(b'{') => {
            json::entries(raw, |key, value| {
                each(&String::from_utf8_lossy(key));
                scalars(value, below, each);
            });
        }
        Some(b'[') => {
            json::elements(raw, |raw| scalars(raw, below, each));
        }
        Some(b'"') => each(&json::text(raw).unwrap_or_default()),
        _ => each(raw.trim_ascii()),
    }
}

fn word(raw: &str, depth: usize, each: &mut dyn FnMut(&str)) {
    let Some(below) = depth.checked_sub(1) else { return };
    let object = json::entries(raw, |key, value| match key {
        b"name" | b"description" if value.starts_with('"') => say(value, each),
        b"type" if value.starts_with('"') => {
            say(value, each);
            // It is cut in two.
            if value.eq_ignore_ascii_case("\"string\"") {
                say(value, each);
            }
        }
        b"enum" | b"required" => {
            json::elements(value, |raw| say(raw, each));
        }
        b"properties" => {
            json::entries(value, |name, schema| {
                each(&String::from_utf8_lossy(name));
                word(schema, below, each);
            });
        }
        _ => word(value, below, each),
    });
    if object.is_none() {
        json::elements(raw, |raw| word(raw, below, each));
    }
}

fn say(raw: &str, each: &mut dyn FnMut(&str)) {
    each(&json::text(raw).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::{DEEPEST, Tell, declared, declared_words, told, told_words};

    fn words(raw: &str, tell: Tell) -> String {
        let mut words = Vec::new();
        tell(raw, &mut |word| words.push(word.to_owned()));
        words.join("|")
    }

    const WEATHER: &str = r#"[{"functionDeclarations":[{"name":"weather","description":"What it is","parameters":{"type":"OBJECT",
        "properties":{"city":{"type":"STRING","description":"Where"},"unit":{"enum":["c","f"]}},"required":["city"]}}]}]"#;

    #[test]
    fn words_are_what_is_left_of_tools() {
        let told = "weather|What it is|OBJECT|city|STRING|STRING|Where|unit|c|f|city";
        assert_eq!(words(WEATHER, declared_words), told);
    }

    #[test]
    fn tools_are_written_out_whoever_wrote_them() {
        let written = "declaration:weather{description:\"What it is\",parameters:{type:\"OBJECT\",properties:{\
            city:{type:\"STRING\",description:\"Where\"},unit:{enum:[\"c\",\"f\"]}},required:[\"city\"]}}";
        assert_eq!(declared(WEATHER), written);
        let chat =
            r#"[{"type":"function","function":{"name":"now","strict":false,"parameters":null}},{"name":"then"}]"#;
        assert_eq!(declared(chat), "declaration:now{}declaration:then{}");
    }

    #[test]
    fn calls_and_results_are_told() {
        let call = r#"{"id":"7","name":"add","args":{"x":2,"to":["a b",null,{"y":true}]}}"#;
        assert_eq!(words(call, told_words), "add|x|2|to|a b|null|y|true");
        assert_eq!(told(call), r#"call:add{x:2,to:["a b",null,{y:true}]}"#);
        let result = r#"{"name":"add","response":{"result":"5"}}"#;
        assert_eq!(
            (words(result, told_words), told(result)),
            ("add|result|5".to_owned(), r#"response:add{result:"5"}"#.to_owned())
        );
        // What is neither stands for itself.
        assert_eq!((words(r#"{"x":[1]}"#, told_words), told(r#"{"x":[1]}"#)), ("x|1".to_owned(), "{x:[1]}".to_owned()));
    }

    /// Whatever stands there, it becomes no longer than it is, but for what each definition is called.
    #[test]
    fn little_does_not_become_much() {
        let nested = |open: &str, close: &str| format!("{}7{}", open.repeat(DEEPEST * 3), close.repeat(DEEPEST * 3));
        let hostile = [
            nested(r#"{"a":"#, "}"),
            nested("[", "]"),
            nested(r#"{"properties":{"a":"#, "}}"),
            format!("[{}]", vec!["{}"; 5_000].join(",")),
            format!("[{}]", vec!["null"; 5_000].join(",")),
            format!(r#"{{"name":"f","args":[{}]}}"#, vec!["\"\\n\""; 5_000].join(",")),
            format!(r#"{{"name":7,"response":[{}]}}"#, vec!["1"; 5_000].join(",")),
            r#"{"name":"f"}"#.to_owned(),
            "7".to_owned(),
            String::new(),
        ];
        for raw in &hostile {
            let sum = |tell: Tell| {
                let mut bytes = 0;
                tell(raw, &mut |word| bytes += word.len());
                bytes
            };
            assert!(told(raw).len() <= raw.len().max(2), "{raw:.80}");
            assert!(declared(raw).len() <= raw.len() * 8 + 16, "{raw:.80}");
            assert!(sum(told_words) <= raw.len() && sum(declared_words) <= 2 * raw.len(), "{raw:.80}");
        }
    }
}
