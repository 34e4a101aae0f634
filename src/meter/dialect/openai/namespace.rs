//! Definitions of tools as OpenAI writes them out for its models: a namespace of types, as in TypeScript (OpenAI, "How to
//! format harmony responses", "Function calling"; the same notation was measured for GPT-4 and after).

use crate::meter::json;

/// The deepest type that is written out; below it stands `any`.
const DEEPEST: usize = 16;

/// A list of tools written out. What is no such list is given back as it stands.
pub fn of(raw: &str) -> String {
    let mut out = String::from("# Tools\n\n## functions\n\nnamespace functions {\n\n");
    match json::elements(raw, |tool| define(&mut out, tool)) {
        Some(()) => out.push_str("} // namespace functions"),
        None => raw.clone_into(&mut out),
    }
    out
}

/// The words of definitions, a line each, without what holds them together: names, descriptions, values to choose from.
/// So Gemini counts them.
pub fn words(raw: &str) -> String {
    let mut out = String::new();
    word(&mut out, raw, DEEPEST);
    out
}

fn word(out: &mut String, raw: &str, depth: usize) {
    let Some(below) = depth.checked_sub(1) else { return };
    let say = |out: &mut String, text: &str| {
        out.push_str(text);
        out.push('\n');
    };
    let object = json::entries(raw, |key, value| match key {
        b"name" | b"description" if value.starts_with('"') => say(out, &json::text(value).unwrap_or_default()),
        b"enum" => {
            json::elements(value, |raw| say(out, &json::text(raw).unwrap_or_default()));
        }
        b"properties" => {
            json::entries(value, |name, schema| {
                say(out, &String::from_utf8_lossy(name));
                word(out, schema, below);
            });
        }
        _ => word(out, value, below),
    });
    if object.is_none() {
        json::elements(raw, |raw| word(out, raw, below));
    }
}

/// `{type, function: {name, description, parameters}}`, or the function by itself.
fn define(out: &mut String, tool: &str) {
    let [inner] = json::fields(tool, ["function"]).unwrap_or_default();
    let names = ["name", "description", "parameters"];
    let Some([name, description, parameters]) = json::fields(inner.unwrap_or(tool), names) else {
        return out.push_str(tool);
    };
    comment(out, description, "");
    out.push_str("type ");
    push(out, name);
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
fn members(out: &mut String, object: &str, indent: &str, depth: usize) {
    let Some([properties, required]) = json::fields(object, ["properties", "required"]) else { return };
    let mut needed = Vec::new();
    json::elements(required.unwrap_or("[]"), |raw| needed.extend(json::text(raw)));
    json::entries(properties.unwrap_or("{}"), |key, schema| {
        let key = String::from_utf8_lossy(key);
        let [description, default] = json::fields(schema, ["description", "default"]).unwrap_or_default();
        comment(out, description, indent);
        out.push_str(indent);
        out.push_str(&key);
        out.push_str(if needed.contains(&key) { ": " } else { "?: " });
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
fn kind(out: &mut String, schema: &str, indent: &str, depth: usize) {
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
        Some(list) if list.starts_with('[') => joined(out, list, |out, raw| {
            let name = json::text(raw).unwrap_or_default();
            simple(out, &name, items, indent, below);
        }),
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

fn simple(out: &mut String, name: &str, items: Option<&str>, indent: &str, depth: usize) {
    match name {
        "integer" | "number" => out.push_str("number"),
        "array" => {
            let mut inner = String::new();
            kind(&mut inner, items.unwrap_or("{}"), indent, depth);
            let several = inner.contains(" | ") && !inner.starts_with('{');
            out.push_str(&if several { format!("({inner})[]") } else { inner + "[]" });
        }
        "" => out.push_str("any"),
        name => out.push_str(name),
    }
}

fn joined(out: &mut String, list: &str, mut each: impl FnMut(&mut String, &str)) {
    let mut first = true;
    json::elements(list, |raw| {
        if !std::mem::take(&mut first) {
            out.push_str(" | ");
        }
        each(out, raw);
    });
}

fn comment(out: &mut String, description: Option<&str>, indent: &str) {
    let Some(text) = description.and_then(json::text).filter(|text| !text.is_empty()) else { return };
    for line in text.lines() {
        out.push_str(indent);
        out.push_str("// ");
        out.push_str(line);
        out.push('\n');
    }
}

fn push(out: &mut String, raw: Option<&str>) {
    out.push_str(&raw.and_then(json::text).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::of;

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
    fn words_are_what_is_left_of_them() {
        let tools = r#"[{"functionDeclarations":[{"name":"weather","description":"What it is","parameters":{"type":"OBJECT",
            "properties":{"city":{"type":"STRING","description":"Where"},"unit":{"enum":["c","f"]}}}}]}]"#;
        assert_eq!(super::words(tools), "weather\nWhat it is\ncity\nWhere\nunit\nc\nf\n");
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
}
