//! A policy under another bundle name.

use super::diagnostic::Faults;
use super::fields;
use super::tree::{self, Mark, Node, Value};

/// The text of a policy with `name` for its bundle's, and not a character else changed. Counters are kept under that name,
/// so they begin anew. `None`: the text is no policy, or `name` no name for one.
pub fn renamed(text: &str, name: &str) -> Option<String> {
    fields::name(name, "bundle.name").ok()?;
    let (at, _) = bundle_name(text)?;
    let place = tree::place_of(text, at)?;
    // In quotes, so that JSON stays JSON.
    let renamed = format!("{}\"{name}\"{}", text.get(..place.start)?, text.get(place.end..)?);
    bundle_name(&renamed).filter(|(_, read)| read == name).map(|_| renamed)
}

/// What a policy's bundle is called, and where that stands.
fn bundle_name(text: &str) -> Option<(Mark, String)> {
    let root = tree::parse(text, &mut Faults::default())?;
    let name = below(below(&root, "bundle")?, "name")?;
    match &name.value {
        Value::Plain(written) | Value::Quoted(written) => Some((name.at, written.clone())),
        _ => None,
    }
}

fn below<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    let Value::Map(entries) = &node.value else { return None };
    entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
}

#[cfg(test)]
mod tests {
    use super::renamed;
    use crate::policy::compile;

    const QUICKSTART: &str = include_str!("../../examples/quickstart/policy.yaml");

    #[test]
    fn the_name_alone_is_another() {
        let text = renamed(QUICKSTART, "quickstart+2").unwrap();
        assert_eq!(text.replace("\"quickstart+2\"", "quickstart"), QUICKSTART);
        let (before, after) = (compile(QUICKSTART, "p").unwrap(), compile(&text, "p").unwrap());
        assert_eq!((after.name.as_str(), after.version), ("quickstart+2", before.version));
        assert_eq!(renamed(&text, "again"), renamed(QUICKSTART, "again"));
    }

    #[test]
    fn it_is_found_wherever_and_however_it_is_written() {
        for (text, expected) in [
            ("farebox: 1\nbundle: {name: a, version: a}", "farebox: 1\nbundle: {name: \"b+2\", version: a}"),
            (
                "bundle:\n  version: name\n  name: a   # a\nx: a",
                "bundle:\n  version: name\n  name: \"b+2\"   # a\nx: a",
            ),
            ("# é, 价\nname: a\nbundle: { 'name' : \"a\" }\n", "# é, 价\nname: a\nbundle: { 'name' : \"b+2\" }\n"),
            ("bundle:\n  name: 'a'\n  version: 1\n", "bundle:\n  name: \"b+2\"\n  version: 1\n"),
            ("{\"bundle\":{\"name\":\"\\u0061\",\"x\":1}}", "{\"bundle\":{\"name\":\"b+2\",\"x\":1}}"),
        ] {
            assert_eq!(renamed(text, "b+2").as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_has_no_name_gets_none() {
        for text in ["", "a: [", "bundle: a", "bundle: {version: 1}", "bundle: {name: [a]}", "name: a"] {
            assert_eq!(renamed(text, "b"), None, "{text}");
        }
        assert_eq!(renamed(QUICKSTART, "no name"), None);
    }
}
