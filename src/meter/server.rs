//! Servers of tools (MCP): which a request offers, and which of their tools may be used.

use super::json;
use super::offer::{each, plain};

/// A server of tools that a request offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// What the request calls it; may be empty.
    pub label: String,
    /// Where it is, or which connector of the provider's it is; may be empty.
    pub url: String,
    /// The names of those of its tools that may be used, as the request lists them. `None`: all that it has.
    pub tools: Option<Vec<String>>,
}

/// What an entry says of the tools of its server: OpenAI's, xAI's and Google's `allowed_tools`, Anthropic's
/// `tool_configuration`, `default_config` and `configs`.
#[derive(Default)]
pub(super) struct Allowed {
    names: Vec<String>,
    /// There is a list.
    listed: bool,
    /// Something says that all may be used.
    all: bool,
    /// Those are off that are not switched on by name, and those that are.
    off: bool,
    on: Vec<String>,
}

impl Allowed {
    /// Whether this key is about the tools of a server.
    pub(super) fn entry(&mut self, key: &[u8], value: &str) -> bool {
        match key {
            b"allowedtools" | b"allowedtoolnames" => self.list(value),
            b"toolconfiguration" => {
                json::entries(value, |key, value| {
                    if plain(key) == b"allowedtools" && !json::is_null(value) {
                        self.list(value);
                    }
                });
            }
            b"defaultconfig" => match switched(value) {
                Some(false) => self.off = true,
                _ => self.all = true,
            },
            b"configs" => {
                json::entries(value, |name, value| {
                    if switched(value) == Some(true) {
                        self.on.push(String::from_utf8_lossy(name).into_owned());
                    }
                });
            }
            _ => return false,
        }
        true
    }

    /// Names; or objects with lists of them, of which one without allows all.
    fn list(&mut self, value: &str) {
        self.listed = true;
        each(value, |one| match json::text(one) {
            Some(name) => self.names.push(name.into_owned()),
            None => self.within(one),
        });
    }

    /// `{tool_names: […], read_only}`, or Google's `{mode, tools: […]}`.
    fn within(&mut self, raw: &str) {
        let (mut listed, mut none, mut some) = (false, false, false);
        let object = json::entries(raw, |key, value| match plain(key).as_slice() {
            b"toolnames" | b"tools" if !json::is_null(value) => {
                listed = true;
                each(value, |name| match json::text(name) {
                    Some(name) => self.names.push(name.into_owned()),
                    None => self.all = true,
                });
            }
            b"mode" if value == "\"none\"" => none = true,
            b"mode" => some = true,
            _ => {}
        });
        self.all |= object.is_none() || !listed && (some || !none);
    }

    /// `None`: all.
    pub(super) fn tools(self) -> Option<Vec<String>> {
        let mut names = self.names;
        names.extend(self.on);
        ((self.listed || self.off) && !self.all).then_some(names)
    }
}

fn switched(raw: &str) -> Option<bool> {
    match json::fields(raw, ["enabled"]) {
        Some([Some("true")]) => Some(true),
        Some([Some("false")]) => Some(false),
        _ => None,
    }
}

/// Names of tools that are said apart from their servers and go with each of those, at most.
const MOST_NAMES: usize = 65_536;

/// Puts what entries say of one server together: Anthropic has its address in one place, and its tools in another. `None`:
/// it would be too much.
pub(super) fn together(servers: Vec<Server>) -> Option<Vec<Server>> {
    let (mut placed, nameless): (Vec<Server>, Vec<Server>) =
        servers.into_iter().partition(|server| !server.url.is_empty());
    let apart: usize = nameless.iter().flat_map(|server| &server.tools).map(Vec::len).sum();
    if apart.saturating_mul(placed.len()) > MOST_NAMES {
        return None;
    }
    let mut others = Vec::new();
    // What an entry with an address says stands, and what is said apart from it narrows it.
    let said: Vec<bool> = placed.iter().map(|server| server.tools.is_some()).collect();
    let mut met = vec![false; placed.len()];
    for server in nameless {
        let mut known = false;
        for (index, place) in placed.iter_mut().enumerate().filter(|(_, place)| place.label == server.label) {
            known = true;
            if said.get(index) == Some(&true) {
                continue;
            }
            let first = met.get_mut(index).is_some_and(|met| !std::mem::replace(met, true));
            place.tools = match (first, place.tools.take(), &server.tools) {
                (true, _, tools) => tools.clone(),
                (false, Some(mut names), Some(more)) => {
                    names.extend(more.iter().cloned());
                    Some(names)
                }
                (false, ..) => None,
            };
        }
        if !known {
            others.push(server);
        }
    }
    placed.append(&mut others);
    Some(placed)
}

#[cfg(test)]
mod tests {
    use super::{Allowed, Server, together};

    fn tools(entries: &[(&str, &str)]) -> Option<Vec<String>> {
        let mut allowed = Allowed::default();
        entries.iter().for_each(|(key, value)| assert!(allowed.entry(key.as_bytes(), value), "{key}"));
        allowed.tools()
    }

    #[test]
    fn of_duplicates_the_wider_one_counts() {
        let off = r#"{"enabled":false}"#;
        assert_eq!(tools(&[("defaultconfig", off)]), Some(Vec::new()));
        assert_eq!(tools(&[("defaultconfig", off), ("defaultconfig", r#"{"enabled":true}"#)]), None);
        assert_eq!(tools(&[("allowedtools", r#"{"mode":"none"}"#)]), Some(Vec::new()));
        assert_eq!(tools(&[("allowedtools", r#"{"mode":"none","mode":"auto"}"#)]), None);
    }

    #[test]
    fn every_way_to_list_tools() {
        let ab = Some(vec!["a".to_owned(), "b".to_owned()]);
        for entries in [
            &[("allowedtools", r#"["a","b"]"#)][..],
            &[("allowedtoolnames", r#"["a","b"]"#)],
            &[("allowedtools", r#"{"tool_names":["a","b"],"read_only":true}"#)],
            &[("allowedtools", r#"[{"mode":"auto","tools":["a"]},{"tools":["b"]}]"#)],
            &[("allowedtools", r#"["a"]"#), ("allowedtools", r#"["b"]"#)],
            &[("toolconfiguration", r#"{"enabled":true,"allowed_tools":["a","b"]}"#)],
            &[
                ("defaultconfig", r#"{"enabled":false}"#),
                ("configs", r#"{"a":{"enabled":true},"b":{"enabled":true},"c":{"enabled":false}}"#),
            ],
        ] {
            assert_eq!(tools(entries), ab, "{entries:?}");
        }
        for entries in [
            &[][..],
            &[("allowedtools", r#"{"read_only":true}"#)],
            &[("allowedtools", r#"[{"mode":"auto"}]"#)],
            &[("allowedtools", r#"["a",7]"#)],
            &[("allowedtools", r#"["a"]"#), ("allowedtools", r#"{"read_only":true}"#)],
            &[("toolconfiguration", r#"{"enabled":true,"allowed_tools":null}"#)],
            &[("configs", r#"{"a":{"enabled":true}}"#)],
        ] {
            assert_eq!(tools(entries), None, "{entries:?}");
        }
        assert_eq!(tools(&[("allowedtools", r#"[{"mode":"none"}]"#)]), Some(Vec::new()));
    }

    #[test]
    fn what_is_said_of_one_server_apart_is_put_together() {
        let server = |label: &str, url: &str, tools: Option<&[&str]>| Server {
            label: label.to_owned(),
            url: url.to_owned(),
            tools: tools.map(|tools| tools.iter().map(|name| (*name).to_owned()).collect()),
        };
        let told = |servers: &[Server]| together(servers.to_vec()).unwrap();
        let (placed, own) = (server("a", "u", None), server("a", "u", Some(&["x"])));
        assert_eq!(told(&[placed.clone(), server("a", "", Some(&["y"]))]), [server("a", "u", Some(&["y"]))]);
        let alone = std::slice::from_ref(&placed);
        assert_eq!(told(&[server("a", "", None), placed.clone()]), alone);
        let twice = [placed.clone(), server("a", "", Some(&["y"])), server("a", "", Some(&["z"]))];
        assert_eq!(told(&twice), [server("a", "u", Some(&["y", "z"]))]);
        let more = [placed.clone(), server("a", "", Some(&["y"])), server("a", "", None)];
        assert_eq!(told(&more), alone);
        assert_eq!(told(&[own.clone(), server("a", "", None)]), [own]);
        assert_eq!(told(&[placed.clone(), server("b", "", None)]), [placed, server("b", "", None)]);
    }
}
