//! Calls of tools that run elsewhere than at the caller: by their provider, or by a server of tools. Many are told by a
//! kind of item alone, without a name.

use std::borrow::Cow;

use super::built_in::{is_known, spellings};
use super::dialect::Dialect;
use super::json;
use super::offer::plain;

/// A call of a tool, as an answer tells it, or a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Called<'a> {
    /// A function or a tool that the caller runs, by its name.
    Function(&'a str),
    /// A tool of the provider's, by its kind.
    BuiltIn(&'a str),
    /// A tool of a server (MCP).
    Server {
        /// What the request calls the server; may be empty.
        label: &'a str,
        /// The name of the tool; empty where the server is only asked which it has.
        tool: &'a str,
    },
}

impl Called<'_> {
    /// By what refusals call it.
    pub fn name(&self) -> String {
        match self {
            Self::Function(name) | Self::BuiltIn(name) => (*name).to_owned(),
            Self::Server { label, tool } => served(label, tool),
        }
    }
}

/// The name of a tool of a server, as agents write it.
pub fn served(label: &str, tool: &str) -> String {
    format!("mcp__{label}__{tool}")
}

/// An item, a block, a part or a step: what it says of a tool that runs elsewhere. `false`: it is none.
pub(super) fn of(raw: &str, each: &mut dyn FnMut(Called<'_>)) -> bool {
    let mut item = Item::default();
    json::entries(raw, |key, value| item.entry(&plain(key), value));
    item.tell(each)
}

/// A call of chat's: one of its kinds runs at the provider. `false`: it is a function, or something that the caller runs.
pub(super) fn of_chat(raw: &str, each: &mut dyn FnMut(Called<'_>)) -> bool {
    let (mut told, mut named) = (false, false);
    json::entries(raw, |key, value| {
        named |= matches!(plain(key).as_slice(), b"function" | b"custom" | b"name") && !json::is_null(value);
    });
    json::entries(raw, |key, value| match plain(key).as_slice() {
        // One that nobody here knows, and that has no name of a function's.
        b"type" => {
            let own = |kind: &Cow<'_, str>| is_known(kind) || !named && !CALLERS.contains(&&**kind);
            for kind in json::text(value).iter().filter(|kind| own(kind)) {
                told = true;
                each(Called::BuiltIn(own_kind(kind).unwrap_or(kind)));
            }
        }
        // Zhipu's servers.
        b"mcp" => told |= of(value, each),
        // Moonshot's own begin so.
        b"function" => {
            json::entries(value, |key, value| {
                let name = json::text(value).filter(|name| plain(key) == b"name" && name.starts_with('$'));
                if let Some(name) = name {
                    told = true;
                    each(Called::BuiltIn(&name));
                }
            });
        }
        _ => {}
    });
    told
}

/// The types of calls that the caller answers, and that of servers, which is told within.
const CALLERS: [&str; 7] = ["function", "custom", "tool", "tool_call", "tool_use", "mcp", ""];

/// All that a conversation tells of tools that ran elsewhere: its provider may go on with them.
pub(super) fn told(body: &str, each: &mut dyn FnMut(Called<'_>)) {
    if !MARKS.iter().any(|mark| memchr::memmem::find(body.as_bytes(), mark).is_some()) {
        return;
    }
    json::entries(body, |key, raw| {
        if matches!(plain(key).as_slice(), b"messages" | b"input" | b"contents" | b"chathistory") {
            turns(raw, each);
        }
    });
}

/// What a body has in it that tells of such a tool, or may hide it.
const MARKS: [&[u8]; 11] = [
    b"_call\"",
    b"_call_output\"",
    b"_result",
    b"server_tool_use",
    b"xecut",
    b"ool",
    b"mcp_",
    b"\"$",
    b"program",
    b"_search",
    b"\\u",
];

/// What an event has in it that calls a tool, or may hide it: one that has none of these does not.
pub(super) fn marks(dialect: Dialect) -> impl Iterator<Item = &'static [u8]> {
    let own: &[&[u8]] = match dialect {
        Dialect::OpenAiResponses => &[b"_call\"", b"_call.", b"_results\"", b"mcp_", b"url_citation", b"program\""],
        Dialect::AnthropicMessages => &[b"_tool_result\""],
        Dialect::GeminiGenerate => &[b"Code", b"codeE", b"groundingM", b"ContextM", b"oolType"],
        Dialect::GeminiInteractions => &[b"_call\"", b"_result\""],
        Dialect::CohereChat => &[b"search_results"],
        Dialect::DashScope => &[b"search_info", b"tool_info"],
        _ => &[b"tool_calls", b"citation", b"search_", b"_search", b"executed_tools", b"\"context\""],
    };
    [b"name".as_slice(), b"\\u"].into_iter().chain(own.iter().copied())
}

fn turns(raw: &str, each: &mut dyn FnMut(Called<'_>)) {
    if json::elements(raw, |one| turn(one, each)).is_some() {
        return;
    }
    turn(raw, each);
    // Alibaba's own, within the input.
    json::entries(raw, |key, value| {
        if plain(key) == b"messages" {
            json::elements(value, |one| turn(one, each));
        }
    });
}

fn turn(raw: &str, each: &mut dyn FnMut(Called<'_>)) {
    of(raw, each);
    json::entries(raw, |key, value| match plain(key).as_slice() {
        b"content" | b"parts" => {
            let listed = json::elements(value, |part| _ = of(part, each)).is_some();
            if !listed {
                of(value, each);
            }
        }
        b"toolcalls" => {
            json::elements(value, |call| _ = of_chat(call, each));
        }
        _ => {}
    });
}

/// What the keys of one item say; of duplicates all.
#[derive(Default)]
struct Item<'a> {
    kinds: Vec<Cow<'a, str>>,
    names: Vec<Cow<'a, str>>,
    labels: Vec<Cow<'a, str>>,
    /// Kinds that are told without a type: Google's.
    own: Vec<String>,
}

impl<'a> Item<'a> {
    fn entry(&mut self, key: &[u8], value: &'a str) {
        match key {
            b"type" => keep(&mut self.kinds, json::text(value)),
            b"name" => keep(&mut self.names, json::text(value)),
            b"serverlabel" | b"servername" => keep(&mut self.labels, json::text(value)),
            b"executablecode" | b"codeexecutionresult" if json::says(value) => {
                self.own.push("code_execution".to_owned())
            }
            // Google, "Tool combination": `toolType: GOOGLE_SEARCH_WEB`.
            b"toolcall" | b"toolresponse" => {
                json::entries(value, |key, value| {
                    let kind = json::text(value).filter(|_| plain(key) == b"tooltype");
                    self.own.extend(kind.map(|kind| kind.to_ascii_lowercase()));
                });
            }
            // Amazon's, whose type tells who runs it.
            b"tooluse" => {
                json::entries(value, |key, value| match key {
                    b"type" => keep(&mut self.kinds, json::text(value)),
                    b"name" => keep(&mut self.names, json::text(value)),
                    _ => {}
                });
            }
            _ => {}
        }
    }

    fn tell(&self, each: &mut dyn FnMut(Called<'_>)) -> bool {
        let mut told = !self.own.is_empty();
        self.own.iter().for_each(|kind| each(Called::BuiltIn(kind)));
        for kind in &self.kinds {
            told |= self.tell_kind(kind, each);
        }
        told
    }

    fn tell_kind(&self, kind: &str, each: &mut dyn FnMut(Called<'_>)) -> bool {
        match kind {
            "mcp_call" | "mcp_tool_use" | "mcp_server_tool_call" | "mcp_approval_request" => {
                each_or_none(&self.labels, |label| {
                    each_or_none(&self.names, |tool| each(Called::Server { label, tool }));
                });
            }
            "mcp_list_tools" => each_or_none(&self.labels, |label| each(Called::Server { label, tool: "" })),
            "server_tool_use" | "tool.execution" => each_or_none(&self.names, |name| each(Called::BuiltIn(name))),
            // Perplexity's.
            "search_results" => each(Called::BuiltIn("web_search")),
            "fetch_url_results" => each(Called::BuiltIn("web_fetch")),
            // xAI's.
            "custom_tool_call" => {
                let own = |name: &&Cow<'_, str>| spellings(name)[2] == "x_search";
                self.names.iter().filter(own).for_each(|name| each(Called::BuiltIn(name)));
                return self.names.iter().any(|name| own(&name));
            }
            _ => {
                let own = own_kind(kind);
                own.into_iter().for_each(|kind| each(Called::BuiltIn(kind)));
                return own.is_some();
            }
        }
        true
    }
}

/// Of the values of a key that comes again and again only some are kept, the first and the last among them: providers go by
/// one of these, and each goes with each of those of other keys.
const MOST_DUPLICATES: usize = 8;

fn keep<'a>(list: &mut Vec<Cow<'a, str>>, value: Option<Cow<'a, str>>) {
    let Some(value) = value else { return };
    list.truncate(MOST_DUPLICATES - 1);
    list.push(value);
}

fn each_or_none(list: &[Cow<'_, str>], mut one: impl FnMut(&str)) {
    list.iter().for_each(|text| one(text));
    if list.is_empty() {
        one("");
    }
}

/// The kind of tool that an item of this type is a call of, or tells the result of: `web_search_call` and
/// `web_search_tool_result` of `web_search`.
pub(super) fn own_kind(kind: &str) -> Option<&str> {
    let called = ["_call", "_call_output", "_tool_result"].iter().find_map(|end| kind.strip_suffix(end));
    let result = || kind.strip_suffix("_result").filter(|kind| is_known(kind));
    let program = || Some(kind).filter(|kind| *kind == "program");
    let caller = |kind: &&str| !matches!(*kind, "function" | "custom_tool" | "tool" | "mcp" | "mcp_server" | "");
    called.or_else(result).or_else(program).filter(caller)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::proptest;

    use super::{of, of_chat, told};

    fn read(raw: &str) -> Vec<String> {
        let mut names = Vec::new();
        of(raw, &mut |called| names.push(called.name()));
        names
    }

    #[test]
    fn of_endless_duplicates_the_first_and_the_last_are_told() {
        let many = |key: &str| (0..10_000).map(|n| format!("\"{key}\":\"{key}{n}\",")).collect::<String>();
        let item = format!("{{\"type\":\"mcp_call\",{}{}\"id\":1}}", many("server_label"), many("name"));
        let told = read(&item);
        assert_eq!(told.len(), 64);
        for name in ["mcp__server_label0__name0", "mcp__server_label9999__name0", "mcp__server_label9999__name9999"] {
            assert!(told.iter().any(|one| one == name), "{name}");
        }
    }

    #[test]
    fn every_kind_of_item_tells_its_tool() {
        for (item, name) in [
            (r#"{"type":"web_search_call","id":"w"}"#, "web_search"),
            (r#"{"type":"file_search_call"}"#, "file_search"),
            (r#"{"type":"code_interpreter_call","code":"1"}"#, "code_interpreter"),
            (r#"{"type":"computer_call","action":{"type":"click"}}"#, "computer"),
            (r#"{"type":"computer_call_output"}"#, "computer"),
            (r#"{"type":"local_shell_call"}"#, "local_shell"),
            (r#"{"type":"shell_call_output"}"#, "shell"),
            (r#"{"type":"apply_patch_call"}"#, "apply_patch"),
            (r#"{"type":"image_generation_call"}"#, "image_generation"),
            (r#"{"type":"tool_search_call"}"#, "tool_search"),
            (r#"{"type":"program","code":"1"}"#, "program"),
            (r#"{"type":"search_results","results":[]}"#, "web_search"),
            (r#"{"type":"custom_tool_call","name":"x_keyword_search"}"#, "x_keyword_search"),
            (r#"{"type":"mcp_call","server_label":"files","name":"read"}"#, "mcp__files__read"),
            (r#"{"type":"mcp_approval_request","server_label":"files","name":"read"}"#, "mcp__files__read"),
            (r#"{"type":"mcp_list_tools","server_label":"files","tools":[{"name":"rm"}]}"#, "mcp__files__"),
            (r#"{"type":"mcp_tool_use","server_name":"files","name":"read"}"#, "mcp__files__read"),
            (r#"{"type":"mcp_server_tool_call","server_name":"files","name":"read"}"#, "mcp__files__read"),
            (r#"{"type":"server_tool_use","name":"web_search","input":{}}"#, "web_search"),
            (r#"{"type":"web_search_tool_result","content":[]}"#, "web_search"),
            (r#"{"type":"bash_code_execution_tool_result"}"#, "bash_code_execution"),
            (r#"{"type":"google_search_result","result":[]}"#, "google_search"),
            (r#"{"type":"url_context_call"}"#, "url_context"),
            (r#"{"type":"tool.execution","name":"web_search_premium"}"#, "web_search_premium"),
            (r#"{"executableCode":{"language":"PYTHON","code":"1"}}"#, "code_execution"),
            (r#"{"code_execution_result":{"outcome":"OUTCOME_OK"}}"#, "code_execution"),
            (r#"{"toolCall":{"toolType":"GOOGLE_SEARCH_WEB","args":{}}}"#, "google_search_web"),
            (r#"{"toolUse":{"type":"server_tool_use","name":"nova_grounding","toolUseId":"t"}}"#, "nova_grounding"),
        ] {
            assert_eq!(read(item), [name], "{item}");
        }
    }

    #[test]
    fn what_the_caller_runs_or_says_is_none() {
        for item in [
            r#"{"type":"function_call","name":"web_search"}"#,
            r#"{"type":"function_call_output","output":"x"}"#,
            r#"{"type":"custom_tool_call","name":"look"}"#,
            r#"{"type":"custom_tool_call_output"}"#,
            r#"{"type":"tool_use","name":"look"}"#,
            r#"{"type":"tool_result","content":"x"}"#,
            r#"{"type":"search_result","content":[]}"#,
            r#"{"type":"function_result"}"#,
            r#"{"type":"mcp_approval_response","approve":true}"#,
            r#"{"type":"message","role":"user","content":"web_search_call"}"#,
            r#"{"type":"text","text":"a"}"#,
            r#"{"text":"a","executableCode":null}"#,
            r#"{"toolUse":{"name":"look"}}"#,
            r#""web_search_call""#,
        ] {
            assert_eq!(read(item), [""; 0], "{item}");
        }
    }

    #[test]
    fn no_spelling_hides_a_kind() {
        assert_eq!(read(r#"{"type":"message","type":"web_search_call"}"#), ["web_search"]);
        assert_eq!(read(r#"{"type":"web_search_call","type":"message"}"#), ["web_search"]);
        assert_eq!(read(r#"{"t\u0079pe":"web_search\u005fcall"}"#), ["web_search"]);
        let two = r#"{"type":"mcp_call","server_label":"a","server_label":"b","name":"x"}"#;
        assert_eq!(read(two), ["mcp__a__x", "mcp__b__x"]);
    }

    #[test]
    fn chats_tell_theirs_among_functions() {
        let chat = |raw: &str| {
            let mut names = Vec::new();
            of_chat(raw, &mut |called| names.push(called.name()));
            names
        };
        assert_eq!(chat(r#"{"type":"web_search","web_search":{}}"#), ["web_search"]);
        assert_eq!(chat(r#"{"type":"builtin_function","function":{"name":"$web_search"}}"#), ["$web_search"]);
        assert_eq!(chat(r#"{"type":"drawing_tool","drawing_tool":{"input":"a hat"}}"#), ["drawing_tool"]);
        assert_eq!(chat(r#"{"type":"a_new_one","a_new_one":{"input":"x"},"function":null}"#), ["a_new_one"]);
        assert_eq!(chat(r#"{"type":"x_search_call","id":"t"}"#), ["x_search"]);
        let mcp = r#"{"type":"mcp","mcp":{"type":"mcp_call","server_label":"files","name":"read"}}"#;
        assert_eq!(chat(mcp), ["mcp__files__read"]);
        for raw in [
            r#"{"type":"function","function":{"name":"web_search"}}"#,
            r#"{"type":"tool_call","id":"t"}"#,
            r#"{"type":"a_new_one","function":{"name":"look"}}"#,
            r#"{"index":0,"function":{"arguments":"{"}}"#,
        ] {
            assert_eq!(chat(raw), [""; 0], "{raw}");
        }
    }

    #[test]
    fn conversations_tell_of_them_in_every_format() {
        for body in [
            r#"{"input":[{"type":"web_search_call"}]}"#,
            r#"{"input":{"type":"web_search_call"}}"#,
            r#"{"messages":[{"role":"assistant","content":[{"type":"server_tool_use","name":"web_search"}]}]}"#,
            r#"{"messages":[{"role":"assistant","tool_calls":[{"type":"web_search"}]}]}"#,
            r#"{"messages":[{"content":[{"toolUse":{"type":"server_tool_use","name":"web_search"}}]}]}"#,
            r#"{"contents":[{"role":"model","parts":[{"toolCall":{"toolType":"web_search"}}]}]}"#,
            r#"{"contents":{"parts":{"toolCall":{"toolType":"web_search"}}}}"#,
            r#"{"input":{"messages":[{"tool_calls":[{"type":"web_search"}]}]}}"#,
            r#"{"inp\u0075t":[{"type":"web_search\u005fcall"}]}"#,
        ] {
            let mut names = Vec::new();
            told(body, &mut |called| names.push(called.name()));
            assert_eq!(names, ["web_search"], "{body}");
        }
        told(r#"{"tools":[{"type":"web_search"}],"messages":[{"content":"hi"}]}"#, &mut |called| panic!("{called:?}"));
    }

    proptest! {
        #[test]
        fn any_body(body in "\\{\"input\":(\\[|\\{|\"|type|name|_call|:|,|\\}|\\]|[a-z]){0,40}\\}") {
            told(&body, &mut |_| {});
        }
    }
}
