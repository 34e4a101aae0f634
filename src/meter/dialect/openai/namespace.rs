//! Definitions of tools as OpenAI writes them out for its models: a namespace of types, as in TypeScript (OpenAI, "How to
//! format harmony responses", "Function calling"; the same notation was measured for GPT-4 and after).

use std::collections::BTreeSet;

use crate::meter::json;

/// The deepest type that is written out; below it stands `any`.
const DEEPEST: usize = 16;
/// What is written is no longer than so many times what is read, and a bit: types are mostly shorter than their schemas.
const TIMES: usize = 4;
/// That bit, in bytes.
const BIT: usize = 1_024;

/// A list of tools written out. What is no such list is given back as it stands, and so is what would become far longer
/// than it is: nobody writes so but to make work.
pub fn of(raw: &str) -> String {
    let mut out = Written::of(raw);
    out.push_str("# Tools\n\n## functions\n\nnamespace functions {\n\n");
    let list = json::elements(raw, |tool| define(&mut out, tool));
    out.push_str("} // namespace functions");
    if list.is_some() && !out.full { out.text } else { raw.to_owned() }
}

/// A text that does not grow without end.
struct Written {
    text: String,
    most: usize,
    /// Something had no room; nothing is written any more.
    full: bool,
}

impl Written {
    fn of(raw: &str) -> Self {
        Self { text: String::new(), most: raw.len().saturating_mul(TIMES).saturating_add(BIT), full: false }
    }

    fn push_str(&mut self, more: &str) {
        self.full |= self.text.len().saturating_add(more.len()) > self.most;
        if !self.full {
            self.text.push_str(more);
        }
    }

    fn push(&mut self, letter: char) {
        self.push_str(letter.encode_utf8(&mut [0; 4]));
    }

    /// Makes a list of what was written from `start` on.
    fn list_from(&mut self, start: usize) {
        let inner = self.text.get(start..).unwrap_or_default();
        let several = inner.contains(" | ") && !inner.starts_with('{');
        if several && !self.full {
            self.text.insert(start, '(');
        }
        self.push_str(if several { ")[]" } else { "[]" });
    }
}

/// `{type, function: {name, description, parameters}}`, or the function by itself.
fn define(out: &mut Written, tool: &str) {
    if out.full {
        return;
    }
    let [inner] = json::fields(tool, ["function"]).unwrap_or_default();
    let names = ["name", "description", "parameters"];
    let Some([name, description, parameters]) = json::fields(inner.unwrap_or(tool), names) else {
        return out.push_str(tool);
    };
    comment(out, description, "");
    out.push_str("type ");
    out.push_str(&name.and_then(json::text).unwrap_or_default());
    let properties = parameters.and_then(|raw| json::fields(raw, ["properties"])).and_then(|[raw]| raw);
    if properties.is_some_and(json::says) {
        out.push_str(" = (_: {\n");
        members(out, parameters.unwrap_or_default(), "", DEEPEST);
        out.push_str("}) => any;\n\n");
    } else {
        out.push_str(" = () => any;\n\n");
    }
}

/// The properties of an object, a line each.
fn members(out: &mut Written, object: &str, indent: &str, depth: usize) {
    let Some([properties, required]) = json::fields(object, ["properties", "required"]) else { return };
    let mut needed = BTreeSet::new();
    json::elements(required.unwrap_or("[]"), |raw| needed.extend(json::text(raw)));
    json::entries(properties.unwrap_or("{}"), |key, schema| {
        if out.full {
            return;
        }
        let key = String::from_utf8_lossy(key);
        let [description, default] = json::fields(schema, ["description", "default"]).unwrap_or_default();
        comment(out, description, indent);
        out.push_str(indent);
        out.push_str(&key);
        out.push_str(if needed.contains(&*key) { ": " } else { "?: " });
        kind(out, schema, indent, depth);
        out.push(',');
        if let Some(default) = default {
            out.push_str(" // default: ");
            out.push_str(default);
        }
        out.push('\n');
    });
}

/// The type that a schema describes.
fn kind(out: &mut Written, schema: &str, indent: &str, depth: usize) {
    if out.full {
        return;
    }
    let names = ["anyOf", "oneOf", "enum", "type", "items", "properties", "$ref", "const"];
    let (Some(below), Some(found)) = (depth.checked_sub(1), json::fields(schema, names)) else {
        return out.push_str("any");
    };
    let [any, one, values, named, items, properties, reference, constant] = found;
    if let Some(list) = any.or(one) {
        return joined(out, list, |out, raw| kind(out, raw, indent, below));
    }
    if let Some(values) = values {
        return joined(out, values, |out, raw| out.push_str(raw));
    }
    match named {
        Some(list) if list.starts_with('[') => {
            let mut items = items;
            joined(out, list, |out, raw| {
                let name = json::text(raw).unwrap_or_default();
                // Written once, however often the list says so: else lists in lists would grow with every level.
                let items = if name == "array" { items.take() } else { None };
                simple(out, &name, items, indent, below);
            });
        }
        Some("\"object\"") | None if properties.is_some_and(json::says) => {
            out.push_str("{\n");
            members(out, schema, &format!("{indent}  "), below);
            out.push_str(indent);
            out.push('}');
        }
        Some(name) => simple(out, &json::text(name).unwrap_or_default(), items, indent, below),
        None => match reference.and_then(json::text) {
            Some(path) => out.push_str(path.rsplit('/').next().unwrap_or("any")),
            None => out.push_str(constant.unwrap_or("any")),
        },
    }
}

fn simple(out: &mut Written, name: &str, items: Option<&str>, indent: &str, depth: usize) {
    match name {
        "integer" | "number" => out.push_str("number"),
        "array" => {
            let start = out.text.len();
            kind(out, items.unwrap_or("{}"), indent, depth);
            out.list_from(start);
        }
        "" => out.push_str("any"),
        name => out.push_str(name),
    }
}

fn joined(out: &mut Written, list: &str, mut each: impl FnMut(&mut Written, &str)) {
    let mut first = true;
    json::elements(list, |raw| {
        if !std::mem::take(&mut first) {
            out.push_str(" | ");
        }
        each(out, raw);
    });
}

fn comment(out: &mut Written, description: Option<&str>, indent: &str) {
    let Some(text) = description.and_then(json::text).filter(|text| !text.is_empty()) else { return };
    for line in text.lines() {
        out.push_str(indent);
        out.push_str("// ");
        out.push_str(line);
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::{BIT, DEEPEST, TIMES, of};

    #[test]
    fn tools_become_types() {
        let tools = r#"[{"type":"function","function":{"name":"weather","description":"What the\nweather is.",
            "parameters":{"type":"object","required":["city"],"properties":{
            "city":{"type":"string","description":"Where"},"days":{"type":["integer","null"],"default":1},
            "unit":{"enum":["c","f"]},"at":{"type":"array","items":{"type":"object","properties":{"x":{"type":"number"}}}}
            }}}},{"type":"function","name":"now"}]"#;
        let written = "# Tools\n\n## functions\n\nnamespace functions {\n\n// What the\n// weather is.\n\
            type weather = (_: {\n// Where\ncity: string,\ndays?: number | null, // default: 1\nunit?: \"c\" | \"f\",\n\
            at?: {\n  x?: number,\n}[],\n}) => any;\n\ntype now = () => any;\n\n} // namespace functions";
        assert_eq!(of(tools), written);
    }

    #[test]
    fn depth_is_bounded_and_anything_may_stand_there() {
        let deep = format!("{}{}", r#"{"type":"array","items":"#.repeat(100), "{}".to_owned() + &"}".repeat(100));
        let tools = format!(r#"[{{"name":"f","parameters":{{"properties":{{"a":{deep}}}}}}}]"#);
        assert!(of(&tools).contains("any[][]"));
        for raw in ["7", "{}", "[7,null,\"x\"]", r#"[{"function":7}]"#, r#"[{"name":7,"parameters":[]}]"#] {
            let _ = of(raw);
        }
    }

    /// A tool whose parameters have one property of this schema.
    fn with(schema: &str) -> String {
        format!(r#"[{{"name":"f","parameters":{{"properties":{{"a":{schema}}}}}}}]"#)
    }

    /// `inner` in so many schemas, each between these.
    fn nested(before: &str, inner: &str, after: &str, levels: usize) -> String {
        before.repeat(levels) + inner + &after.repeat(levels)
    }

    #[test]
    fn items_are_written_once_whoever_names_them() {
        let schema = r#"{"type":["array","null","array"],"items":{"type":["string","array"]}}"#;
        assert!(of(&with(schema)).contains("\na?: (string | any[])[] | null | any[],\n"), "{}", of(&with(schema)));
    }

    #[test]
    fn what_is_required_is_told_of_many() {
        let names: Vec<String> = (0..2_000).map(|name| format!("\"p{name}\"")).collect();
        let properties: Vec<String> = names.iter().map(|name| format!("{name}:{{}}")).collect();
        let schema =
            format!(r#"{{"required":[{}],"properties":{{"other":{{}},{}}}}}"#, names.join(","), properties.join(","));
        let written = of(&with(&schema));
        assert!(written.contains("\n  other?: any,\n") && written.contains("\n  p1999: any,\n"), "{written}");
    }

    /// Whatever a schema says, what is written of it is bounded by its bytes.
    #[test]
    fn little_does_not_become_much() {
        let object = |inner: &str| nested(r#"{"type":"object","properties":{"a":"#, inner, "}}", DEEPEST - 3);
        let many = (0..500).map(|_| r#""":0"#).collect::<Vec<_>>().join(",");
        let hostile = [
            with(&nested(r#"{"type":["array","array","array","array"],"items":"#, "{}", "}", DEEPEST)),
            with(&nested(r#"{"type":["array","array"],"items":{"anyOf":["#, "{},{}", "]}}", DEEPEST)),
            with(&nested(r#"{"oneOf":[{"type":["array","array"],"items":"#, "{}", "},{}]}", DEEPEST)),
            with(&object(&format!(r#"{{"description":"{}"}}"#, r"\n".repeat(5_000)))),
            with(&object(&format!(r#"{{"properties":{{{many}}}}}"#))),
            with(&object(&format!(r#"{{"enum":[{}]}}"#, vec!["0"; 5_000].join(",")))),
            with(&object(&format!(r#"{{"anyOf":[{}]}}"#, vec!["0"; 5_000].join(",")))),
            with(&object(&format!(r#"{{"type":[{}]}}"#, vec!["\"array\""; 5_000].join(",")))),
            format!("[{}]", vec!["{}"; 5_000].join(",")),
            format!("[{}]", vec![r#"{"description":"\n\n"}"#; 5_000].join(",")),
            nested("[", "", "]", 100),
        ];
        for raw in &hostile {
            let most = raw.len() * TIMES + BIT;
            assert!(of(raw).len() <= most, "{} of {}: {raw:.80}", of(raw).len(), raw.len());
        }
        let fallen_back = hostile.iter().filter(|raw| of(raw) == **raw).count();
        assert_eq!(fallen_back, 3, "what becomes too long is counted as it stands, and only that");
    }
}
