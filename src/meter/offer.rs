//! The tools that a request offers, in whatever dialect.
//!
//! Read by shape and not by dialect, because providers that speak one format act on keys of another. A key counts in any
//! case and with or without underscores, and of duplicates every value counts: whichever of them a provider goes by, it is
//! among those that were looked at.

use super::json;

/// The most tools that are read; no provider takes nearly as many.
const MOST: usize = 4_096;
/// How deep lists of tools lie within lists of tools.
const DEEPEST: u8 = 4;

/// One thing that a request offers a model to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offer {
    /// A function or a tool that the caller runs, by its name.
    Function(String),
    /// A tool that is the provider's own, by its kind, such as `web_search_20250305`.
    BuiltIn(String),
    /// A server of tools (MCP).
    Server {
        /// What the request calls it; may be empty.
        label: String,
        /// Where it is, or which connector of the provider's it is; may be empty.
        url: String,
    },
    /// Something that cannot be told, and why.
    Unread(&'static str),
}

/// All that a body offers. It is known to be one JSON object.
pub(super) fn offers(body: &str) -> Vec<Offer> {
    let mut found = Found(Vec::new());
    json::entries(body, |key, raw| {
        if !json::is_null(raw) {
            found.entry(&plain(key), raw);
        }
    });
    found.0
}

/// What a body hands to its provider as credentials for servers of tools.
#[derive(Default)]
pub(super) struct Credentials<'a> {
    /// The raw values of the fields that are there for it, in the entries of such servers and nowhere else: a token, or
    /// headers of calls to them.
    pub fields: Vec<&'a str>,
    /// Whether the address of one has a user in it, as in `https://user:password@host`.
    pub in_address: bool,
}

/// Read wherever [`offers`] reads.
pub(super) fn credentials(body: &str) -> Credentials<'_> {
    let mut found = Credentials::default();
    json::entries(body, |key, raw| match plain(key).as_slice() {
        b"mcpservers" => each(raw, |server| found.handed(server)),
        b"tools" | b"functions" => found.list(raw, DEEPEST),
        b"toolconfig" | b"parameters" => {
            json::entries(raw, |key, value| {
                if matches!(plain(key).as_slice(), b"tools" | b"functions") {
                    found.list(value, DEEPEST);
                }
            });
        }
        _ => {}
    });
    found
}

impl<'a> Credentials<'a> {
    /// A list of tools, or one tool in its place.
    fn list(&mut self, raw: &'a str, depth: u8) {
        let Some(below) = depth.checked_sub(1) else { return };
        each(raw, |tool| {
            let mut serves = false;
            json::entries(tool, |key, value| match plain(key).as_slice() {
                b"type" => serves |= json::text(value).is_some_and(|kind| is_server(&kind)),
                b"serverlabel" | b"mcpservername" | b"serverurl" | b"connectorid" => serves |= !json::is_null(value),
                b"tools" | b"functiondeclarations" => self.list(value, below),
                // Google's.
                b"mcpservers" => each(value, |server| self.handed(server)),
                _ => {}
            });
            if serves {
                self.handed(tool);
            }
        });
    }

    /// What the entry of a server has of them.
    fn handed(&mut self, server: &'a str) {
        json::entries(server, |key, value| match plain(key).as_slice() {
            b"authorization" | b"authorizationtoken" | b"headers" if json::says(value) => self.fields.push(value),
            b"serverurl" | b"url" => self.in_address |= json::text(value).is_some_and(|url| has_user(&url)),
            b"streamablehttptransport" => self.handed(value),
            _ => {}
        });
    }
}

/// Whether an address has a user in it, however its slashes are written.
fn has_user(url: &str) -> bool {
    let slash = |c: char| matches!(c, '/' | '\\');
    let behind = url.split_once(':').filter(|(scheme, _)| !scheme.contains(slash)).map_or(url, |(_, behind)| behind);
    let host = behind.trim_start_matches(slash).split(|c| slash(c) || matches!(c, '?' | '#')).next();
    host.is_some_and(|host| host.contains('@'))
}

/// The elements of a list, or what stands in its place.
fn each<'a>(raw: &'a str, mut one: impl FnMut(&'a str)) {
    if json::elements(raw, &mut one).is_none() {
        one(raw);
    }
}

/// Whether a tool of this kind is a server of tools.
fn is_server(kind: &str) -> bool {
    kind == "mcp" || kind.starts_with("mcp_")
}

/// A key without underscores and in lower case.
pub(super) fn plain(key: &[u8]) -> Vec<u8> {
    key.iter().filter(|byte| !matches!(byte, b'_' | b'-')).map(u8::to_ascii_lowercase).collect()
}

struct Found(Vec<Offer>);

impl Found {
    fn push(&mut self, offer: Offer) {
        match self.0.len() {
            0..MOST => self.0.push(offer),
            MOST => self.0.push(Offer::Unread("more tools than are read")),
            _ => {}
        }
    }

    fn built_in(&mut self, kind: &str) {
        self.push(Offer::BuiltIn(kind.to_owned()));
    }

    fn entry(&mut self, key: &[u8], raw: &str) {
        match key {
            b"tools" | b"functions" => self.list(raw, DEEPEST),
            b"toolconfig" | b"parameters" => {
                json::entries(raw, |key, value| match plain(key).as_slice() {
                    b"tools" | b"functions" if !json::is_null(value) => self.list(value, DEEPEST),
                    b"enablesearch" if json::says(value) => self.built_in("web_search"),
                    _ => {}
                });
            }
            b"mcpservers" => {
                json::elements(raw, |server| self.server(server)).unwrap_or_else(|| self.server(raw));
            }
            b"websearchoptions" | b"searchparameters" => self.built_in("web_search"),
            b"enablesearch" | b"websearch" if json::says(raw) => self.built_in("web_search"),
            b"plugins" | b"connectors" => {
                json::elements(raw, |plugin| {
                    let id = json::fields(plugin, ["id"]).and_then(|[id]| id).and_then(json::text);
                    self.push(id.map_or(Offer::Unread("a plugin without an id"), |id| Offer::BuiltIn(id.into_owned())));
                });
            }
            b"container" => self.built_in("container"),
            b"datasources" => self.built_in("data_sources"),
            _ => {}
        }
    }

    /// A list of tools, or one tool in its place.
    fn list(&mut self, raw: &str, depth: u8) {
        let Some(below) = depth.checked_sub(1) else { return self.push(Offer::Unread("tools within tools")) };
        if json::elements(raw, |tool| self.tool(tool, below)).is_none() {
            self.tool(raw, below);
        }
    }

    fn tool(&mut self, raw: &str, depth: u8) {
        let mut tool = Tool::default();
        let object = json::entries(raw, |key, value| {
            if json::is_null(value) {
                return;
            }
            match plain(key).as_slice() {
                b"tools" => {
                    tool.holds = true;
                    self.list(value, depth);
                }
                b"functiondeclarations" => {
                    tool.holds = true;
                    self.list(value, depth);
                }
                key_plain => tool.entry(key_plain, key, value),
            }
        });
        match object {
            Some(()) => tool.tell(self),
            None => self.push(Offer::Unread("a tool that is no object")),
        }
    }

    fn server(&mut self, raw: &str) {
        let mut tool = Tool::default();
        let object = json::entries(raw, |key, value| match plain(key).as_slice() {
            b"name" => tool.labels.extend(json::text(value).map(|text| text.into_owned())),
            key_plain => tool.entry(key_plain, key, value),
        });
        match (object, tool.labels.is_empty() && tool.urls.is_empty()) {
            (Some(()), false) => tool.tell_servers(self),
            _ => self.push(Offer::Unread("a server without a name and an address")),
        }
    }
}

/// What the keys of one tool say.
#[derive(Default)]
struct Tool {
    names: Vec<String>,
    kinds: Vec<String>,
    labels: Vec<String>,
    urls: Vec<String>,
    /// Keys that are no property of a tool: the way Google names its own.
    others: Vec<String>,
    /// It is a list of further ones.
    holds: bool,
    broken: bool,
}

impl Tool {
    fn entry(&mut self, key: &[u8], written: &[u8], value: &str) {
        let text = || json::text(value).map(|text| text.into_owned());
        match key {
            b"name" => self.name(text()),
            b"type" => match text() {
                Some(kind) => self.kinds.push(kind),
                None => self.broken = true,
            },
            b"serverlabel" | b"mcpservername" => self.labels.extend(text()),
            b"serverurl" | b"url" | b"connectorid" => self.urls.extend(text()),
            b"function" | b"custom" | b"toolspec" | b"systemtool" => {
                let mut named = false;
                json::entries(value, |key, value| {
                    if plain(key) == b"name" {
                        named = true;
                        self.name(json::text(value).map(|text| text.into_owned()));
                    }
                });
                self.broken |= !named;
                if key == b"systemtool" {
                    self.kinds.extend(self.names.last().cloned());
                }
            }
            b"cachepoint" => self.holds = true,
            b"description"
            | b"parameters"
            | b"inputschema"
            | b"strict"
            | b"cachecontrol"
            | b"parameterdefinitions"
            | b"format"
            | b"response"
            | b"behavior"
            | b"deferloading"
            | b"allowedcallers" => {}
            _ => self.others.push(String::from_utf8_lossy(written).into_owned()),
        }
    }

    fn name(&mut self, name: Option<String>) {
        match name {
            Some(name) => self.names.push(name),
            None => self.broken = true,
        }
    }

    fn tell(self, found: &mut Found) {
        if self.broken {
            found.push(Offer::Unread("a tool whose name is no text"));
        }
        let own = |kind: &&String| !matches!(kind.as_str(), "function" | "custom");
        let holds = self.holds || self.kinds.iter().any(|kind| kind == "namespace");
        let built_in: Vec<&String> = self.kinds.iter().filter(own).filter(|kind| !is_server(kind) && !holds).collect();
        let serves = self.kinds.iter().any(|kind| is_server(kind)) || !self.labels.is_empty();
        let silent = self.names.is_empty() && built_in.is_empty() && !serves && !holds && !self.broken;
        built_in.into_iter().for_each(|kind| found.built_in(kind));
        if !holds {
            self.names.iter().for_each(|name| found.push(Offer::Function(name.clone())));
        }
        if silent {
            match self.kinds.is_empty() && !self.others.is_empty() {
                true => self.others.iter().for_each(|key| found.built_in(&snake(key))),
                false => found.push(Offer::Unread("a tool without a name")),
            }
        }
        if serves {
            self.tell_servers(found);
        }
    }

    /// Every address that it names, each with every label.
    fn tell_servers(mut self, found: &mut Found) {
        for list in [&mut self.labels, &mut self.urls] {
            if list.is_empty() {
                list.push(String::new());
            }
        }
        for url in &self.urls {
            for label in &self.labels {
                found.push(Offer::Server { label: label.clone(), url: url.clone() });
            }
        }
    }
}

/// `googleSearch` as `google_search`.
fn snake(key: &str) -> String {
    let mut out = String::new();
    for c in key.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// A kind without the date that its provider put behind it: `web_search_20250305` and `web_search_preview_2025_03_11` are
/// `web_search` and `web_search_preview`.
pub fn undated(kind: &str) -> &str {
    kind.trim_end_matches(|c: char| c.is_ascii_digit() || c == '_')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::proptest;

    use super::{Offer, credentials, offers, undated};

    fn told(body: &str) -> Vec<String> {
        let one = |offer: Offer| match offer {
            Offer::Function(name) => name,
            Offer::BuiltIn(kind) => format!("own {kind}"),
            Offer::Server { label, url } => format!("server {label} {url}"),
            Offer::Unread(why) => format!("? {why}"),
        };
        offers(body).into_iter().map(one).collect()
    }

    #[test]
    fn functions_of_every_dialect() {
        for body in [
            r#"{"tools":[{"type":"function","function":{"name":"a","parameters":{"name":"x"}}},{"type":"custom","custom":{"name":"b"}}]}"#,
            r#"{"tools":[{"type":"function","name":"a"},{"name":"b","input_schema":{}}]}"#,
            r#"{"functions":[{"name":"a"}],"tools":[{"name":"b","type":"custom"}]}"#,
            r#"{"tools":[{"functionDeclarations":[{"name":"a"}]},{"function_declarations":[{"name":"b"}]}]}"#,
            r#"{"tools":{"functionDeclarations":[{"name":"a"},{"name":"b"}]}}"#,
            r#"{"toolConfig":{"tools":[{"toolSpec":{"name":"a"}},{"cachePoint":{"type":"default"}},{"toolSpec":{"name":"b"}}]}}"#,
            r#"{"parameters":{"tools":[{"type":"function","function":{"name":"a"}},{"type":"function","function":{"name":"b"}}]}}"#,
            r#"{"tools":[{"type":"namespace","name":"n","tools":[{"type":"function","name":"a"},{"type":"function","name":"b"}]}]}"#,
        ] {
            let mut told = told(body);
            told.sort();
            assert_eq!(told, ["a", "b"], "{body}");
        }
        assert_eq!(told(r#"{"messages":[{"tools":[{"name":"a"}]}],"tools":null}"#), [""; 0]);
    }

    #[test]
    fn tools_of_the_providers() {
        assert_eq!(
            told(r#"{"tools":[{"type":"web_search_20250305","name":"web_search"}]}"#),
            ["own web_search_20250305", "web_search"]
        );
        assert_eq!(
            told(r#"{"tools":[{"googleSearch":{}},{"code_execution":{}}]}"#),
            ["own google_search", "own code_execution"]
        );
        assert_eq!(
            told(r#"{"tools":[{"type":"code_interpreter","container":{"type":"auto"}}]}"#),
            ["own code_interpreter"]
        );
        assert_eq!(
            told(r#"{"toolConfig":{"tools":[{"systemTool":{"name":"nova_grounding"}}]}}"#),
            ["own nova_grounding", "nova_grounding"]
        );
        assert_eq!(told(r#"{"web_search_options":{},"enable_search":false}"#), ["own web_search"]);
        assert_eq!(told(r#"{"plugins":[{"id":"web"}]}"#), ["own web"]);
        assert_eq!(
            [undated("web_search_20250305"), undated("web_search_preview_2025_03_11"), undated("bash")],
            ["web_search", "web_search_preview", "bash"]
        );
    }

    #[test]
    fn servers_by_label_and_address() {
        let told = [
            told(r#"{"tools":[{"type":"mcp","server_label":"files","server_url":"https://mcp.test/x"}]}"#),
            told(r#"{"mcp_servers":[{"type":"url","name":"files","url":"https://mcp.test/x"}]}"#),
            told(r#"{"tools":[{"type":"mcp_toolset","mcp_server_name":"files"}]}"#),
            told(r#"{"tools":[{"type":"mcp","server_label":"mail","connector_id":"connector_gmail"}]}"#),
        ];
        assert_eq!(
            told,
            [
                ["server files https://mcp.test/x"],
                ["server files https://mcp.test/x"],
                ["server files "],
                ["server mail connector_gmail"],
            ]
        );
    }

    #[test]
    fn credentials_are_read_wherever_servers_are() {
        let server = r#"{"type":"mcp","authorization":"S"}"#;
        for body in [
            format!(r#"{{"parameters":{{"tools":[{server}]}}}}"#),
            format!(r#"{{"toolConfig":{{"tools":{server}}}}}"#),
            format!(r#"{{"functions":[{server}]}}"#),
            format!(r#"{{"tools":[{{"type":"namespace","name":"n","tools":[{server}]}}]}}"#),
            r#"{"tools":[{"server_label":"a","Authorization":"S"}]}"#.to_owned(),
            r#"{"tools":[{"name":"f","connector_id":"c","authorization":"S"}]}"#.to_owned(),
            r#"{"tools":[{"type":"mcp_toolset","mcp_server_name":"a","headers":"S"}]}"#.to_owned(),
        ] {
            assert_eq!(credentials(&body).fields, ["\"S\""], "{body}");
        }
        let deep = (0..9).fold(server.to_owned(), |tool, _| format!(r#"{{"tools":[{tool}]}}"#));
        assert!(credentials(&deep).fields.is_empty() && told(&deep).contains(&"? tools within tools".to_owned()));
        assert!(credentials(r#"{"tools":[{"type":"function","name":"f","authorization":"S"}]}"#).fields.is_empty());
    }

    #[test]
    fn credentials_in_an_address_are_seen() {
        for (url, has) in [
            ("https://user:pass@a.test/x", true),
            ("https://token@a.test", true),
            ("HTTPS:\\\\\\\\u@a.test\\\\x", true),
            ("u:p@a.test", true),
            ("//u@a.test", true),
            ("https://a.test/@scope/x?to=a@b.cn#@", false),
            ("https://a.test:8443\\\\@x", false),
            ("connector_gmail", false),
        ] {
            for body in [
                format!(r#"{{"tools":[{{"type":"mcp","server_url":"{url}"}}]}}"#),
                format!(r#"{{"mcp_servers":[{{"url":"{url}"}}]}}"#),
                format!(r#"{{"tools":[{{"mcpServers":[{{"streamableHttpTransport":{{"url":"{url}"}}}}]}}]}}"#),
            ] {
                assert_eq!(credentials(&body).in_address, has, "{body}");
            }
        }
    }

    #[test]
    fn no_spelling_hides_a_tool() {
        assert_eq!(told(r#"{"Tools":[{"TYPE":"function","Function":{"Name":"a"}}]}"#), ["a"]);
        assert_eq!(told(r#"{"t\u006fols":[{"n\u0061me":"\u0061"}]}"#), ["a"]);
        assert_eq!(told(r#"{"tools":[{"name":"a","name":"b"}]}"#), ["a", "b"]);
        assert_eq!(
            told(r#"{"tools":[{"type":"function","function":{"name":"a","name":"b"},"name":"c"}]}"#),
            ["a", "b", "c"]
        );
        assert_eq!(told(r#"{"tools":[{"type":"function","type":"web_search","name":"a"}]}"#), ["own web_search", "a"]);
        assert_eq!(told(r#"{"tools":[{"name":"a"}],"tools":[{"name":"b"}]}"#), ["a", "b"]);
        assert_eq!(
            told(r#"{"tools":[{"type":"mcp","server_label":"a","server_url":"u","server_url":"v"}]}"#),
            ["server a u", "server a v"]
        );
    }

    #[test]
    fn what_cannot_be_told_says_so() {
        for (body, why) in [
            (r#"{"tools":"shell"}"#, "? a tool that is no object"),
            (r#"{"tools":[["shell"]]}"#, "? a tool that is no object"),
            (r#"{"tools":[{"name":7}]}"#, "? a tool whose name is no text"),
            (r#"{"tools":[{"type":"function","function":{}}]}"#, "? a tool whose name is no text"),
            (r#"{"tools":[{"type":"function"}]}"#, "? a tool without a name"),
            (r#"{"tools":[{}]}"#, "? a tool without a name"),
        ] {
            assert_eq!(told(body), [why], "{body}");
        }
    }

    #[test]
    fn a_huge_list_is_read_to_a_bound() {
        let body = format!("{{\"tools\":[{}{{\"name\":\"shell\"}}]}}", "{\"name\":\"a\"},".repeat(10_000));
        let told = told(&body);
        assert_eq!((told.len(), told.last().map(String::as_str)), (4_097, Some("? more tools than are read")));
        let deep = format!("{{\"tools\":{}{{\"name\":\"shell\"}}{}}}", "{\"tools\":".repeat(50), "}".repeat(50));
        assert_eq!(offers(&deep), [Offer::Unread("tools within tools")]);
    }

    proptest! {
        #[test]
        fn any_body(body in "\\{\"tools\":(\\[|\\{|\"|name|type|:|,|\\}|\\]|function|[a-z]){0,40}\\}") {
            offers(&body);
        }
    }
}
