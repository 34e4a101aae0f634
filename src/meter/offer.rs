//! The tools that a request offers, in whatever dialect.
//!
//! Read by shape and not by dialect, because providers that speak one format act on keys of another. A key counts in any
//! case and with or without underscores, and of duplicates every value counts: whichever of them a provider goes by, it is
//! among those that were looked at.

use super::built_in::{is_known, spellings};
use super::json;
use super::server::{Allowed, Server, together};

/// The most tools that are read; no provider takes nearly as many.
const MOST: usize = 4_096;
/// The most values that a key of one tool has, where it comes again and again.
const MOST_DUPLICATES: usize = 8;
/// How deep lists of tools lie within lists of tools.
pub(super) const DEEPEST: u8 = 4;

/// One thing that a request offers a model to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offer {
    /// A function or a tool that the caller runs, by its name.
    Function(String),
    /// A tool that is the provider's own, by its kind, such as `web_search_20250305`.
    BuiltIn(String),
    /// A server of tools (MCP).
    Server(Server),
    /// Something that cannot be told, and why.
    Unread(&'static str),
}

/// All that a body offers. It is known to be one JSON object.
pub(super) fn offers(body: &str) -> Vec<Offer> {
    let mut found = Found::default();
    json::entries(body, |key, raw| {
        if !json::is_null(raw) {
            found.entry(&plain(key), raw);
        }
    });
    found.all()
}

/// The elements of a list, or what stands in its place.
pub(super) fn each<'a>(raw: &'a str, mut one: impl FnMut(&'a str)) {
    if json::elements(raw, &mut one).is_none() {
        one(raw);
    }
}

/// The lists of tools that items of a conversation bring in (OpenAI, "Tool search"). Those of a server are only told.
pub(super) fn loaded<'a>(raw: &'a str, mut list: impl FnMut(&'a str)) {
    if memchr::memmem::find(raw.as_bytes(), b"ools").is_none() && !raw.contains("\\u") {
        return;
    }
    each(raw, |item| {
        let mut told = false;
        json::entries(item, |key, value| told |= key == b"type" && value == "\"mcp_list_tools\"");
        json::entries(item, |key, value| {
            if !told && plain(key) == b"tools" && !json::is_null(value) {
                list(value);
            }
        });
    });
}

/// Whether a tool of this kind is a server of tools.
pub(super) fn is_server(kind: &str) -> bool {
    matches!(kind, "mcp" | "connector") || kind.starts_with("mcp_")
}

/// A key without underscores and in lower case.
pub(super) fn plain(key: &[u8]) -> Vec<u8> {
    key.iter().filter(|byte| !matches!(byte, b'_' | b'-')).map(u8::to_ascii_lowercase).collect()
}

#[derive(Default)]
struct Found {
    list: Vec<Offer>,
    servers: Vec<Server>,
}

impl Found {
    fn push(&mut self, offer: Offer) {
        match self.list.len() {
            0..MOST => self.list.push(offer),
            MOST => self.list.push(Offer::Unread("more tools than are read")),
            _ => {}
        }
    }

    /// Of one server several entries may tell, of which only all together say what it is.
    fn all(mut self) -> Vec<Offer> {
        match together(std::mem::take(&mut self.servers)) {
            Some(servers) => servers.into_iter().for_each(|server| self.push(Offer::Server(server))),
            None => self.push(Offer::Unread("more tools of servers than are read")),
        }
        self.list
    }

    fn serve(&mut self, server: Server) {
        match self.servers.len() {
            0..MOST => self.servers.push(server),
            _ => self.push(Offer::Unread("more servers of tools than are read")),
        }
    }

    fn built_in(&mut self, kind: &str) {
        self.push(Offer::BuiltIn(kind.to_owned()));
    }

    fn function(&mut self, name: &str) {
        // No function may be called so: Moonshot's own tools are.
        match name.starts_with('$') {
            true => self.built_in(name),
            false => self.push(Offer::Function(name.to_owned())),
        }
    }

    fn entry(&mut self, key: &[u8], raw: &str) {
        match key {
            b"tools" | b"functions" => self.list(raw, DEEPEST),
            // The last Amazon hands to the model as they are.
            b"toolconfig" | b"parameters" | b"additionalmodelrequestfields" => {
                json::entries(raw, |key, value| {
                    if !json::is_null(value) {
                        self.entry(&plain(key), value);
                    }
                });
            }
            b"input" => loaded(raw, |tools| self.list(tools, DEEPEST)),
            b"mcpservers" => each(raw, |server| self.server(server)),
            b"plugins" | b"connectors" => self.plugins(raw),
            b"agent" | b"agentid" => {
                self.built_in("agent");
                if raw.contains("deep-research") {
                    self.built_in("web_search");
                }
            }
            b"container" => self.built_in("container"),
            b"datasources" => self.built_in("data_sources"),
            key => self.switch(key, raw),
        }
    }

    /// A list of them by name or `id`, or an object of them by name.
    fn plugins(&mut self, raw: &str) {
        let named = json::entries(raw, |name, value| {
            if json::says(value) {
                self.built_in(&String::from_utf8_lossy(name));
            }
        });
        if named.is_some() {
            return;
        }
        each(raw, |plugin| {
            let id = || json::fields(plugin, ["id"]).and_then(|[id]| id).and_then(json::text);
            let id = json::text(plugin).or_else(id);
            self.push(id.map_or(Offer::Unread("a plugin without an id"), |id| Offer::BuiltIn(id.into_owned())));
        });
    }

    /// A field that switches a tool of the provider's on.
    fn switch(&mut self, key: &[u8], raw: &str) {
        let says = |name: &str, off: &str| {
            let said = json::fields(raw, [name]).and_then(|[said]| said);
            said.is_some_and(|said| json::says(said) && said.trim_matches('"') != off)
        };
        match key {
            b"websearchoptions" => self.built_in("web_search"),
            // xAI's.
            b"searchparameters" if json::fields(raw, ["mode"]) != Some([Some("\"off\"")]) => {
                self.built_in("web_search")
            }
            // Alibaba's, Baidu's and Tencent's.
            b"enablesearch" | b"websearch" | b"enableenhancement" | b"enabledeepsearch" | b"forcesearchenhancement"
                if is_on(raw) =>
            {
                self.built_in("web_search");
            }
            b"enablecodeinterpreter" if is_on(raw) => self.built_in("code_interpreter"),
            b"veniceparameters" => {
                if says("enable_web_search", "off") {
                    self.built_in("web_search");
                }
                if says("enable_web_scraping", "off") {
                    self.built_in("web_fetch");
                }
            }
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
                b"tools" | b"functiondeclarations" => {
                    tool.holds = true;
                    self.list(value, depth);
                }
                // Google's.
                b"mcpservers" => {
                    tool.holds = true;
                    each(value, |server| self.server(server));
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
        let object = json::entries(raw, |key, value| {
            if !json::is_null(value) {
                tool.entry(&plain(key), key, value);
            }
        });
        tool.labels.append(&mut tool.names);
        if tool.says_too_much() {
            return self.push(Offer::Unread("a server that is called by more names than are read"));
        }
        match (object, tool.labels.is_empty() && tool.urls.is_empty()) {
            (Some(()), false) => tool.tell_servers(self),
            _ => self.push(Offer::Unread("a server without a name and an address")),
        }
    }
}

/// Whether a switch is on: `true`, or an object that does not say that it is off.
fn is_on(raw: &str) -> bool {
    let off = json::fields(raw, ["enable", "enabled"]).is_some_and(|said| said.contains(&Some("false")));
    json::says(raw) && !off
}

/// What the keys of one tool say.
#[derive(Default)]
struct Tool {
    names: Vec<String>,
    kinds: Vec<String>,
    labels: Vec<String>,
    urls: Vec<String>,
    /// Which tools of a server.
    allowed: Allowed,
    /// Keys that are no property of a tool: the way Google names its own.
    others: Vec<String>,
    /// It is a list of further ones.
    holds: bool,
    /// A name or a kind is no text.
    broken: bool,
    /// A function has no name.
    nameless: bool,
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
                self.nameless |= !named;
                if key == b"systemtool" {
                    self.kinds.extend(self.names.last().cloned());
                }
            }
            // Zhipu has what a server is in an object, Google where it is.
            b"mcp" | b"streamablehttptransport" => {
                json::entries(value, |key, value| {
                    if !json::is_null(value) {
                        self.entry(&plain(key), key, value);
                    }
                });
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
            key if self.allowed.entry(key, value) => {}
            _ => self.others.push(snake(&String::from_utf8_lossy(written))),
        }
    }

    fn name(&mut self, name: Option<String>) {
        match name {
            Some(name) => self.names.push(name),
            None => self.broken = true,
        }
    }

    fn tell(mut self, found: &mut Found) {
        if self.says_too_much() {
            return found.push(Offer::Unread("a tool that is called by more names than are read"));
        }
        let own = |kind: &&String| is_own(kind);
        let holds = self.holds || self.kinds.iter().any(|kind| kind == "namespace");
        let serves = self.kinds.iter().any(|kind| is_server(kind)) || !self.labels.is_empty();
        // Google calls a server by a name; what may be taken for a function is one too.
        if serves && !self.kinds.is_empty() && self.kinds.iter().all(|kind| is_server(kind)) {
            self.labels.append(&mut self.names);
        }
        let built_in: Vec<&String> = self.kinds.iter().filter(own).filter(|kind| !is_server(kind) && !holds).collect();
        let bare = self.kinds.is_empty() && self.names.is_empty() && !serves;
        let others: Vec<&String> =
            self.others.iter().filter(|key| bare || is_known(key) && !self.kinds.contains(key)).collect();
        let broken = self.broken || self.nameless && built_in.is_empty();
        if broken {
            found.push(Offer::Unread("a tool whose name is no text"));
        }
        let told = !self.names.is_empty() || !built_in.is_empty() || !others.is_empty();
        built_in.into_iter().chain(others).for_each(|kind| found.built_in(kind));
        if !holds {
            self.names.iter().for_each(|name| self.tell_name(name, found));
        }
        if !told && !serves && !holds && !broken {
            found.push(Offer::Unread("a tool without a name"));
        }
        if serves {
            self.tell_servers(found);
        }
    }

    /// A function; or, where its kind says so, the same tool of the provider's.
    fn tell_name(&self, name: &str, found: &mut Found) {
        let [.., shared] = spellings(name);
        let same = |kind: &String| spellings(kind).last() == Some(&shared);
        let own = || self.kinds.iter().filter(|kind| is_own(kind));
        match own().any(same) {
            true if own().any(|kind| kind == name) => {}
            true => found.built_in(name),
            false => found.function(name),
        }
    }

    /// Whether keys come so often in it that what they say together would be too much: once each is what honest tools do.
    fn says_too_much(&self) -> bool {
        let Self { names, kinds, labels, urls, .. } = self;
        [names, kinds, labels, urls].iter().any(|list| list.len() > MOST_DUPLICATES)
            || labels.len().saturating_mul(urls.len()) > MOST_DUPLICATES
    }

    /// Every address that it names, each with every label.
    fn tell_servers(mut self, found: &mut Found) {
        for list in [&mut self.labels, &mut self.urls] {
            if list.is_empty() {
                list.push(String::new());
            }
        }
        let tools = self.allowed.tools();
        for url in &self.urls {
            for label in &self.labels {
                found.serve(Server { label: label.clone(), url: url.clone(), tools: tools.clone() });
            }
        }
    }
}

/// Whether a tool of this kind may be the provider's own.
fn is_own(kind: &str) -> bool {
    !matches!(kind, "function" | "custom" | "builtin_function")
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

#[cfg(test)]
#[path = "offer_tests.rs"]
mod tests;
