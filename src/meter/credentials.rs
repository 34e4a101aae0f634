//! Credentials that a request hands to its provider for servers of tools.

use super::json;
use super::offer::{DEEPEST, each, is_server, loaded, plain};

/// What a body hands to its provider as credentials for servers of tools.
#[derive(Default)]
pub(super) struct Credentials<'a> {
    /// The raw values of the fields that are there for it, in the entries of such servers and nowhere else: a token, or
    /// headers of calls to them.
    pub fields: Vec<&'a str>,
    /// Whether the address of one has a user in it, as in `https://user:password@host`.
    pub in_address: bool,
}

/// Read wherever offers of them are.
pub(super) fn credentials(body: &str) -> Credentials<'_> {
    let mut found = Credentials::default();
    json::entries(body, |key, raw| found.entry(&plain(key), raw));
    found
}

impl<'a> Credentials<'a> {
    fn entry(&mut self, key: &[u8], raw: &'a str) {
        match key {
            b"mcpservers" => each(raw, |server| self.handed(server)),
            b"tools" | b"functions" => self.list(raw, DEEPEST),
            b"input" => loaded(raw, |tools| self.list(tools, DEEPEST)),
            b"toolconfig" | b"parameters" | b"additionalmodelrequestfields" => {
                json::entries(raw, |key, value| self.entry(&plain(key), value));
            }
            _ => {}
        }
    }

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
            b"streamablehttptransport" | b"mcp" => self.handed(value),
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
