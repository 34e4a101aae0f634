//! The tools that providers run themselves, by one name each, whatever a wire format calls them.
//!
//! | name | in a request | in an answer, or told of an earlier one |
//! |---|---|---|
//! | `web_search` | a tool `web_search…`, `google_search`, `browser_search`, `web_browser`, `image_search`, `nova_grounding`, `$web_search`; `googleSearch`, `googleSearchRetrieval`, `enterpriseWebSearch`; `web_search_options`, `search_parameters`, `enable_search`, `web_search`, `enable_enhancement`, `enable_deep_search`, a plugin `web`, a connector `web-search`; a model `…online`, `sonar…`, `…-search-preview`, `…-search-api`, `…deep-research…`, `compound…` | `web_search_call`, `google_search_call`; `server_tool_use`, `web_search_tool_result`; `groundingMetadata`; `url_citation`; `citations`, `search_results`, `search_info`, `web_search` beside the choices; `executed_tools` |
//! | `web_fetch` | `web_fetch…`, `url_context`, `urlContext`, `visit_website`, `web_extractor`, `fetch_url` | `url_context_call`, `web_fetch_tool_result`, `urlContextMetadata`, `fetch_url_results`; `browse_page`, `view_image` |
//! | `x_search` | `x_search` | `x_search_call`, a custom call of `x_keyword_search`, `view_x_video` and the like |
//! | `file_search` | `file_search`, `fileSearch`, `retrieval`, `collections_search`, `document_library`, `knowledge_search`, `attachment_search` | `file_search_call`, `retrievedContext` in `groundingMetadata` |
//! | `maps` | `google_maps`, `googleMaps` | `google_maps_call`, `maps` in `groundingMetadata` |
//! | `code_execution` | `code_execution…`, `code_interpreter`, `codeExecution`, `nova_code_interpreter`, `enable_code_interpreter`; a model `compound…` | `code_interpreter_call`, `python`, `executableCode`, `codeExecutionResult`, `…code_execution_tool_result` |
//! | `image_generation` | `image_generation`, `drawing_tool` | `image_generation_call` |
//! | `computer` | `computer…`, `computer_use_preview`, `computerUse`, `browser_automation` | `computer_call` |
//! | `shell` | `shell`, `local_shell` | `shell_call`, `local_shell_call` |
//! | `apply_patch` | `apply_patch` | `apply_patch_call` |
//! | `tool_search` | `tool_search`, `tool_search_tool_regex…`, `…_bm25…` | `tool_search_call`, `tool_search_tool_result` |
//!
//! What no row names goes by its own kind, with or without its date: `advisor`, `memory`, `bash`, `wolfram_alpha`. An agent
//! that the provider keeps (`agent`, `agent_id`) has tools that nobody here knows: it is a tool `agent`. A connector
//! (Mistral, OpenAI) is a server, by its `connector_id`.
//!
//! Sources: OpenAI ("Using tools"), Anthropic ("Tool reference"), Google ("Using tools with Gemini", "Interactions"), Amazon
//! ("Nova: system tools"), xAI ("Tools"), Zhipu ("GLM-4-AllTools"), Moonshot ("Web search"), Alibaba ("Tool calling"), Mistral
//! ("Connectors"), Groq ("Built-in tools"), Perplexity ("Agent API: tools"), Cohere ("Chat", version 1), Tencent ("Hunyuan").

use super::json;
use super::name::Name;
use super::offer::plain;

/// The name of a tool, and what providers call it.
const KINDS: [(&str, &[&str]); 10] = [
    (
        "web_search",
        &[
            "web_search_preview",
            "web_search_premium",
            "web_search_image",
            "web-search",
            "web",
            "google_search",
            "google_search_web",
            "google_search_image",
            "google_search_retrieval",
            "enterprise_web_search",
            "parallel_ai_search",
            "browser_search",
            "browser.search",
            "browser.open",
            "browser.find",
            "web_browser",
            "web_search_with_snippets",
            "image_search",
            "nova_grounding",
            "plugin_web_search",
        ],
    ),
    ("web_fetch", &["url_context", "visit_website", "web_extractor", "fetch_url", "browse_page", "view_image"]),
    ("x_search", &["x_keyword_search", "x_semantic_search", "x_user_search", "x_thread_fetch", "view_x_video"]),
    ("file_search", &["retrieval", "collections_search", "document_library", "knowledge_search", "attachment_search"]),
    ("maps", &["google_maps"]),
    (
        "code_execution",
        &["code_interpreter", "nova_code_interpreter", "bash_code_execution", "text_editor_code_execution", "python"],
    ),
    ("image_generation", &["drawing_tool"]),
    ("computer", &["computer_use_preview", "computer_use", "computer_toolset", "browser_automation"]),
    ("shell", &["local_shell"]),
    ("tool_search", &["tool_search_tool", "tool_search_tool_regex", "tool_search_tool_bm"]),
];

/// A kind without the date that its provider put behind it: `web_search_20250305` and `web_search_preview_2025_03_11` are
/// `web_search` and `web_search_preview`.
pub fn undated(kind: &str) -> &str {
    kind.trim_end_matches(|c: char| c.is_ascii_digit() || c == '_')
}

/// All that a tool of this kind is called by: as its provider writes it, without the date, and the name that it shares
/// with those of other providers.
pub fn spellings(kind: &str) -> [&str; 3] {
    let bare = kind.strip_prefix('$').or_else(|| kind.strip_prefix("openrouter:")).unwrap_or(kind);
    let dateless = undated(bare);
    let shared = |kind: &str| KINDS.iter().find(|(_, kinds)| kinds.contains(&kind)).map(|(name, _)| *name);
    [kind, dateless, shared(bare).or_else(|| shared(dateless)).unwrap_or(dateless)]
}

/// Whether some provider has a tool of this kind that a row of the table names.
pub fn is_known(kind: &str) -> bool {
    KINDS.iter().any(|(name, kinds)| *name == kind || kinds.contains(&kind))
}

/// Tools that come with a model, whether a body asks for them or not.
pub fn of_model(model: &str, body: &str) -> Vec<String> {
    let name = Name::of(model);
    let one = |kind: &str| vec![kind.to_owned()];
    if matches!(name.own(), "compound" | "compound-mini") || name.begins("compound-beta") {
        return compound(body);
    }
    let searches = name.has("-search-preview")
        || name.has("-search-api")
        || name.has("deep-research")
        || name.own().ends_with(":online")
        || name.own().ends_with("-online");
    match searches || name.begins("sonar") && !says(body, b"disablesearch") {
        true => one("web_search"),
        false => Vec::new(),
    }
}

/// Groq, "Compound": what it uses, if it says nothing of that.
fn compound(body: &str) -> Vec<String> {
    let mut enabled = None;
    json::entries(body, |key, raw| {
        if plain(key) == b"compoundcustom" {
            let tools = json::fields(raw, ["tools"]).and_then(|[tools]| tools);
            enabled = tools.and_then(|raw| json::fields(raw, ["enabled_tools"])).and_then(|[enabled]| enabled);
        }
    });
    let mut kinds = Vec::new();
    let listed = enabled.and_then(|raw| json::elements(raw, |kind| kinds.extend(json::text(kind))));
    match listed {
        Some(()) => kinds.into_iter().map(|kind| kind.into_owned()).collect(),
        None => ["web_search", "web_fetch", "code_execution"].map(str::to_owned).to_vec(),
    }
}

/// Whether a field at the top says `true`, and no other of that name says otherwise.
fn says(body: &str, name: &[u8]) -> bool {
    let (mut found, mut all) = (false, true);
    json::entries(body, |key, raw| {
        if plain(key) == name {
            found = true;
            all &= raw == "true";
        }
    });
    found && all
}

#[cfg(test)]
mod tests {
    use super::{KINDS, is_known, of_model, spellings, undated};

    #[test]
    fn one_name_for_what_many_call_otherwise() {
        for (kind, name) in [
            ("web_search_20250305", "web_search"),
            ("web_search_preview_2025_03_11", "web_search"),
            ("google_search", "web_search"),
            ("$web_search", "web_search"),
            ("openrouter:web_search", "web_search"),
            ("web_fetch_20250910", "web_fetch"),
            ("code_interpreter", "code_execution"),
            ("code_execution_20250522", "code_execution"),
            ("computer_use_preview", "computer"),
            ("computer_20250124", "computer"),
            ("local_shell", "shell"),
            ("tool_search_tool_bm25_20251119", "tool_search"),
            ("bash_20250124", "bash"),
            ("advisor_20260301", "advisor"),
            ("web_browser", "web_search"),
            ("drawing_tool", "image_generation"),
            ("python", "code_execution"),
            ("view_x_video", "x_search"),
            ("fetch_url", "web_fetch"),
            ("attachment_search", "file_search"),
            ("browser_automation", "computer"),
            ("wolfram_alpha", "wolfram_alpha"),
            ("a_new_one_2030", "a_new_one"),
        ] {
            let bare = kind.trim_start_matches("openrouter:").trim_start_matches('$');
            assert_eq!(spellings(kind), [kind, undated(bare), name]);
        }
    }

    #[test]
    fn no_kind_has_two_names() {
        let all: Vec<&str> = KINDS.iter().flat_map(|(name, kinds)| kinds.iter().chain([name])).copied().collect();
        for kind in &all {
            assert_eq!(all.iter().filter(|other| *other == kind).count(), 1, "{kind}");
            assert!(is_known(kind));
        }
        assert!(!is_known("function") && !is_known("search"));
    }

    #[test]
    fn models_that_search_by_themselves() {
        for (model, body, kinds) in [
            ("sonar-pro", "{}", &["web_search"][..]),
            ("perplexity/sonar", "{}", &["web_search"]),
            ("sonar", r#"{"disable_search":true}"#, &[]),
            ("sonar", r#"{"disable_search":true,"disable_search":false}"#, &["web_search"]),
            ("openai/gpt-4o:online", "{}", &["web_search"]),
            ("gpt-4o-search-preview", "{}", &["web_search"]),
            ("gpt-5-search-api-2025-10-14", "{}", &["web_search"]),
            ("groq/compound-mini", "{}", &["web_search", "web_fetch", "code_execution"]),
            (
                "groq/compound",
                r#"{"compound_custom":{"tools":{"enabled_tools":["wolfram_alpha"]}}}"#,
                &["wolfram_alpha"],
            ),
            ("llama-3.1-sonar-small-128k-online", "{}", &["web_search"]),
            ("o3-deep-research-2025-06-26", "{}", &["web_search"]),
            ("gpt-4o", "{}", &[]),
            ("my-sonar", "{}", &[]),
            ("compound-risk", "{}", &[]),
            ("groq/compound-beta-mini", "{}", &["web_search", "web_fetch", "code_execution"]),
        ] {
            assert_eq!(of_model(model, body), kinds, "{model} {body}");
        }
    }
}
