//! Tools that run elsewhere than at the caller, as answers tell of them: documents and streams.

use std::rc::Rc;

use serde_json::{Value, json};

use super::cutting::{TERMS, plan, run};
use super::{Dialect, Reader, read, reader};
use crate::meter::called::Called;
use crate::meter::watch::MayCall;

/// A reader that may not hear of any tool but functions.
fn watched(dialect: Dialect, kind: &[u8]) -> Reader {
    let mut reader = Reader::new(dialect, super::Encoding::O200kBase, 200, Some(kind), None, false);
    reader.watch(MayCall(Rc::new(|called| matches!(called, Called::Function(_)))), true);
    reader
}

fn document(dialect: Dialect, body: &Value) -> Option<String> {
    let (reader, _) = read(watched(dialect, b"application/json"), [body.to_string().as_bytes()]);
    reader.forbidden().map(str::to_owned)
}

/// The first event says `hello`, the second is this one, and then more is said.
fn stream(dialect: Dialect, event: &Value) -> String {
    let say = |text: &str| match dialect {
        Dialect::OpenAiChat => json!({"choices": [{"index": 0, "delta": {"content": text}}]}),
        Dialect::OpenAiResponses => {
            json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": text})
        }
        Dialect::AnthropicMessages => {
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}})
        }
        Dialect::GeminiGenerate => json!({"candidates": [{"index": 0, "content": {"parts": [{"text": text}]}}]}),
        Dialect::GeminiInteractions => {
            json!({"event_type": "content.delta", "index": 0, "delta": {"type": "text", "text": text}})
        }
        Dialect::CohereChat => json!({"event_type": "text-generation", "text": text}),
        _ => json!({"output": {"text": text, "finish_reason": "null"}}),
    };
    [&say("hello"), event, &say("secret")].map(|event| format!("data: {event}\n\n")).concat()
}

/// What answers tell of tools that their provider has used: the dialect, a document, an event, and the tool.
fn told() -> Vec<(Dialect, Value, Value, &'static str)> {
    use Dialect::*;
    let chat = |message: Value| {
        (json!({"choices": [{"message": message}]}), json!({"choices": [{"index": 0, "delta": message}]}))
    };
    let beside = |name: &str, found: Value| {
        let mut document = json!({"choices": [{"message": {"content": "x"}}]});
        document[name] = found.clone();
        (document, json!({"choices": [{"index": 0, "delta": {"content": ""}}], name: found}))
    };
    let item = |item: Value| {
        let event = json!({"type": "response.output_item.added", "output_index": 1, "item": item});
        (json!({"output": [item], "status": "completed"}), event)
    };
    let block = |block: Value| {
        let event = json!({"type": "content_block_start", "index": 1, "content_block": block});
        (json!({"type": "message", "content": [block]}), event)
    };
    let part = |part: Value| {
        let whole = json!({"candidates": [{"content": {"parts": [part]}}]});
        (whole.clone(), whole)
    };
    let grounds = |key: &str, found: Value| {
        let whole = json!({"candidates": [{"content": {"parts": []}, key: found}]});
        (whole.clone(), whole)
    };
    let step =
        |step: Value| (json!({"outputs": [step]}), json!({"event_type": "content.delta", "index": 1, "delta": step}));
    let cited = json!([{"type": "url_citation", "url_citation": {"url": "https://a.test"}}]);
    let mut rows = Vec::new();
    let mut add = |dialect: Dialect, name: &'static str, (document, event): (Value, Value)| {
        rows.push((dialect, document, event, name));
    };
    add(OpenAiChat, "web_search", chat(json!({"content": "x", "annotations": cited})));
    add(OpenAiChat, "web_search", chat(json!({"executed_tools": [{"type": "search", "arguments": "{}"}]})));
    add(OpenAiChat, "python", chat(json!({"executed_tools": [{"type": "python"}]})));
    add(OpenAiChat, "web_search", chat(json!({"tool_calls": [{"index": 0, "id": "t", "type": "web_search"}]})));
    add(
        OpenAiChat,
        "drawing_tool",
        chat(
            json!({"tool_calls": [{"index": 0, "id": "t", "type": "drawing_tool", "drawing_tool": {"input": "a hat"}}]}),
        ),
    );
    add(
        OpenAiChat,
        "mcp__files__rm",
        chat(
            json!({"tool_calls": [{"index": 0, "id": "t", "type": "mcp", "mcp": {"type": "mcp_call", "server_label": "files", "name": "rm"}}]}),
        ),
    );
    add(
        OpenAiChat,
        "$web_search",
        chat(
            json!({"tool_calls": [{"index": 0, "type": "builtin_function", "function": {"name": "$web_search", "arguments": "{}"}}]}),
        ),
    );
    add(OpenAiChat, "data_sources", chat(json!({"content": "x", "context": {"citations": [{"url": "u"}]}})));
    for name in ["citations", "search_results", "web_search"] {
        add(OpenAiChat, "web_search", beside(name, json!([{"url": "https://a.test"}])));
    }
    add(OpenAiChat, "web_search", beside("search_info", json!({"search_results": [{"url": "u"}]})));
    for (kind, name) in [
        ("web_search_call", "web_search"),
        ("file_search_call", "file_search"),
        ("code_interpreter_call", "code_interpreter"),
        ("computer_call", "computer"),
        ("local_shell_call", "local_shell"),
        ("shell_call", "shell"),
        ("apply_patch_call", "apply_patch"),
        ("image_generation_call", "image_generation"),
        ("tool_search_call", "tool_search"),
        ("search_results", "web_search"),
        ("program", "program"),
    ] {
        add(OpenAiResponses, name, item(json!({"id": "i", "type": kind, "status": "in_progress"})));
    }
    let mcp = |kind: &str| json!({"type": kind, "id": "m", "server_label": "files", "name": "rm", "arguments": "{}"});
    add(OpenAiResponses, "mcp__files__rm", item(mcp("mcp_call")));
    add(OpenAiResponses, "mcp__files__rm", item(mcp("mcp_approval_request")));
    add(OpenAiResponses, "mcp__files__", item(json!({"type": "mcp_list_tools", "server_label": "files", "tools": []})));
    let said = json!({"output": [{"type": "message", "content": [{"type": "output_text", "text": "x", "annotations": [{"type": "url_citation", "url": "u"}]}]}]});
    let note =
        json!({"type": "response.output_text.annotation.added", "annotation": {"type": "url_citation", "url": "u"}});
    add(OpenAiResponses, "web_search", (said, note));
    let stage = json!({"type": "response.web_search_call.searching", "output_index": 1, "item_id": "w"});
    add(OpenAiResponses, "web_search", (item(json!({"type": "web_search_call"})).0, stage));
    add(
        AnthropicMessages,
        "web_search",
        block(json!({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}})),
    );
    add(
        AnthropicMessages,
        "web_search",
        block(json!({"type": "web_search_tool_result", "tool_use_id": "s", "content": []})),
    );
    add(AnthropicMessages, "code_execution", block(json!({"type": "code_execution_tool_result", "tool_use_id": "s"})));
    add(
        AnthropicMessages,
        "mcp__files__rm",
        block(json!({"type": "mcp_tool_use", "id": "s", "server_name": "files", "name": "rm", "input": {}})),
    );
    add(GeminiGenerate, "code_execution", part(json!({"executableCode": {"language": "PYTHON", "code": "1"}})));
    add(
        GeminiGenerate,
        "code_execution",
        part(json!({"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}})),
    );
    add(GeminiGenerate, "google_search_web", part(json!({"toolCall": {"toolType": "GOOGLE_SEARCH_WEB"}})));
    add(GeminiGenerate, "google_search", grounds("groundingMetadata", json!({"webSearchQueries": ["x"]})));
    add(
        GeminiGenerate,
        "google_search",
        grounds("groundingMetadata", json!({"groundingChunks": [{"web": {"uri": "u"}}]})),
    );
    add(
        GeminiGenerate,
        "google_maps",
        grounds("groundingMetadata", json!({"groundingChunks": [{"maps": {"uri": "u"}}]})),
    );
    add(
        GeminiGenerate,
        "file_search",
        grounds("groundingMetadata", json!({"groundingChunks": [{"retrievedContext": {"uri": "u"}}]})),
    );
    add(GeminiGenerate, "url_context", grounds("urlContextMetadata", json!({"urlMetadata": [{"retrievedUrl": "u"}]})));
    add(
        GeminiInteractions,
        "google_search",
        step(json!({"type": "google_search_call", "id": "g", "arguments": {"queries": ["x"]}})),
    );
    let begun =
        |step: Value| (json!({"outputs": [step]}), json!({"event_type": "content.start", "index": 1, "content": step}));
    add(GeminiInteractions, "google_search", begun(json!({"type": "google_search_call", "id": "g"})));
    add(GeminiInteractions, "code_execution", step(json!({"type": "code_execution_result", "result": "1"})));
    add(
        GeminiInteractions,
        "mcp__files__rm",
        step(json!({"type": "mcp_server_tool_call", "server_name": "files", "name": "rm", "arguments": {}})),
    );
    let found = json!([{"connector": {"id": "web-search"}, "document_ids": ["d"]}]);
    add(
        CohereChat,
        "web-search",
        (
            json!({"text": "x", "search_results": found}),
            json!({"event_type": "search-results", "search_results": found}),
        ),
    );
    add(
        DashScope,
        "web_search",
        (
            json!({"output": {"text": "x", "search_info": {"search_results": [{"url": "u"}]}}}),
            json!({"output": {"text": "hello", "search_info": {"search_results": [{"url": "u"}]}}}),
        ),
    );
    rows
}

#[test]
fn every_document_tells_what_was_used() {
    for (dialect, body, _, name) in told() {
        assert_eq!(document(dialect, &body).as_deref(), Some(name), "{dialect:?} {body}");
    }
}

#[test]
fn a_stream_is_cut_before_what_was_used() {
    for (dialect, _, event, name) in told() {
        let body = stream(dialect, &event);
        for size in [1, 7, 64, body.len()] {
            let (reader, out) =
                run(watched(dialect, b"text/event-stream"), TERMS, plan(u64::MAX), body.as_bytes().chunks(size));
            let out = String::from_utf8_lossy(&out);
            assert_eq!((reader.forbidden(), reader.is_cut()), (Some(name), true), "{dialect:?} {event} by {size}");
            assert!(out.contains("hello") && !out.contains("secret"), "{dialect:?} {event}: {out}");
            assert_eq!(reader.delivered(), 1, "{dialect:?} {event}");
        }
    }
}

#[test]
fn a_converse_tells_what_amazon_ran() {
    let said = |block: Value| json!({"output": {"message": {"content": [block]}}, "stopReason": "end_turn"});
    for (block, name) in [
        (
            json!({"toolUse": {"type": "server_tool_use", "name": "nova_grounding", "input": {}}}),
            Some("nova_grounding"),
        ),
        (json!({"citationsContent": {"citations": [{"location": {"web": {"url": "u"}}}]}}), Some("web_search")),
        (json!({"citationsContent": {"citations": [{"location": {"documentChar": {"start": 1}}}]}}), None),
        (json!({"toolUse": {"name": "look", "input": {}}}), None),
    ] {
        assert_eq!(document(Dialect::BedrockConverse, &said(block.clone())).as_deref(), name, "{block}");
    }
}

#[test]
fn what_the_caller_runs_is_a_function_whatever_it_is_called() {
    for (dialect, body) in [
        (
            Dialect::OpenAiChat,
            json!({"choices": [{"message": {"annotations": [], "tool_calls": [{"type": "function", "function": {"name": "web_search"}}]}}], "citations": []}),
        ),
        (
            Dialect::OpenAiResponses,
            json!({"output": [{"type": "function_call", "name": "web_search"}, {"type": "reasoning"}]}),
        ),
        (
            Dialect::AnthropicMessages,
            json!({"type": "message", "content": [{"type": "tool_use", "name": "web_search", "input": {}}]}),
        ),
        (
            Dialect::GeminiGenerate,
            json!({"candidates": [{"content": {"parts": [{"functionCall": {"name": "google_search"}}]}, "groundingMetadata": {}}]}),
        ),
        (
            Dialect::GeminiInteractions,
            json!({"outputs": [{"type": "function_call", "name": "google_search", "arguments": {}}]}),
        ),
    ] {
        assert_eq!(document(dialect, &body), None, "{body}");
    }
}

#[test]
fn whoever_runs_it_a_call_is_counted_once() {
    let item = json!({"type": "mcp_call", "server_label": "f", "name": "read", "arguments": "{\"a\":1}"});
    let body = stream(
        Dialect::OpenAiResponses,
        &json!({"type": "response.output_item.added", "output_index": 1, "item": item}),
    );
    let (reader, _) = read(reader(Dialect::OpenAiResponses, false), [body.as_bytes()]);
    assert_eq!(reader.tool_calls(), 1);
}
