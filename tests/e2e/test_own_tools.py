"""Tools that providers run themselves, and those of servers, on a real Envoy: asked for in a call, told of in its conversation, and used in
an answer, as a document and as a stream. One name in the policy is for those of all providers. Functions: test_guards.py, test_streams.py."""

import json

import pytest
from documents import Answers, ask, complaint
from whole import behind, policy

PLANS = {
    "denied": "{security: {tools: {deny: [web_search]}}}",
    "few": '{security: {tools: {allow: ["get_*"]}}}',
    "allow": '{security: {tools: {allow: [web_search, "get_*"]}}}',
    "other": "{security: {tools: {deny: [code_execution, web_fetch]}}}",
    "watch": "{security: {tools: {deny: [web_search]}, observe: [tools]}}",
    "servers": '{security: {tools: {allow: [look, "mcp__*__read"], servers: {allow: ["https://mcp.acme.test/*"]}}}}',
    "whole-servers": '{security: {tools: {allow: [look], deny: [rm], servers: {allow: ["https://mcp.acme.test/*"]}}}}',
}
POLICY = policy("own-tools", PLANS, {plan: ("acme", plan) for plan in PLANS}, models='"*": {count: o200k_base}')

# What asks for a search, in each dialect and of each provider that has another way.
SEARCHES = [
    ("openai chat", {"web_search_options": {}}),
    ("openai chat", {"search_parameters": {"mode": "auto"}}),
    ("openai chat", {"enable_search": True}),
    ("openai chat", {"plugins": [{"id": "web"}]}),
    ("openai chat", {"model": "sonar-pro"}),
    ("openai chat", {"model": "openai/gpt-4o:online"}),
    ("openai chat", {"tools": [{"type": "builtin_function", "function": {"name": "$web_search"}}]}),
    ("openai chat", {"tools": [{"type": "web_search", "web_search": {"enable": True}}]}),
    ("openai responses", {"tools": [{"type": "web_search_preview"}]}),
    ("openai responses", {"input": [{"type": "web_search_call", "id": "w", "status": "completed"}]}),
    ("anthropic messages", {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
    ("anthropic messages", {"messages": [{"role": "assistant", "content": [{"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}]}]}),
    ("gemini generate", {"tools": [{"functionDeclarations": [{"name": "get_x"}], "googleSearch": {}}]}),
    ("gemini interactions", {"tools": [{"type": "google_search"}]}),
    ("bedrock converse", {"toolConfig": {"tools": [{"systemTool": {"name": "nova_grounding"}}]}}),
    ("bedrock converse", {"additionalModelRequestFields": {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}}),
    ("bedrock invoke", {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
    ("cohere v1", {"connectors": [{"id": "web-search"}]}),
    ("dashscope", {"parameters": {"enable_search": True}}),
]


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    with behind(Answers(), tmp_path_factory.mktemp("own-tools"), POLICY) as stack:
        yield stack


@pytest.mark.parametrize("dialect, more", SEARCHES, ids=lambda one: one if isinstance(one, str) else json.dumps(one)[:60])
def test_what_asks_for_a_search_is_judged_by_one_name(stack, dialect, more):
    for plan, passes in (("denied", False), ("few", False), ("allow", True), ("other", True), ("watch", True)):
        for stream in (False, True):
            answer, reached = ask(stack, plan, dialect, stream, prompt="hi", more=more)
            assert (answer.status_code, reached) == ((200, 1) if passes else (403, 0)), f"{plan}, {stream}: {answer.text}"
            assert passes or complaint(dialect, answer), answer.text


def chat(message):
    return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}


# An answer that has searched: as a document, and as events of a stream of which the second tells it.
USED = {
    "openai chat": (
        chat({"role": "assistant", "content": "found", "annotations": [{"type": "url_citation", "url_citation": {"url": "https://a.test"}}]}),
        [{"choices": [{"index": 0, "delta": {"content": "hello"}}]}, {"choices": [{"index": 0, "delta": {"annotations": [{"type": "url_citation"}], "content": "found"}}]}],
    ),
    "openai responses": (
        {"output": [{"type": "web_search_call", "id": "w"}, {"type": "message", "content": [{"type": "output_text", "text": "found"}]}], "status": "completed"},
        [
            {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "hello"},
            {"type": "response.output_item.added", "output_index": 1, "item": {"type": "web_search_call", "id": "w", "status": "in_progress"}},
            {"type": "response.output_text.delta", "output_index": 2, "content_index": 0, "delta": "found"},
        ],
    ),
    "anthropic messages": (
        {"type": "message", "role": "assistant", "content": [{"type": "web_search_tool_result", "tool_use_id": "s", "content": []}, {"type": "text", "text": "found"}], "stop_reason": "end_turn"},
        [
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hello"}},
            {"type": "content_block_start", "index": 1, "content_block": {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}},
            {"type": "content_block_delta", "index": 2, "delta": {"type": "text_delta", "text": "found"}},
        ],
    ),
    "gemini generate": (
        {"candidates": [{"index": 0, "content": {"parts": [{"text": "found"}]}, "groundingMetadata": {"webSearchQueries": ["x"]}, "finishReason": "STOP"}]},
        [
            {"candidates": [{"index": 0, "content": {"parts": [{"text": "hello"}]}}]},
            {"candidates": [{"index": 0, "content": {"parts": [{"text": "found"}]}, "groundingMetadata": {"groundingChunks": [{"web": {"uri": "u"}}]}}]},
        ],
    ),
    "gemini interactions": (
        {"id": "i", "outputs": [{"type": "google_search_call", "arguments": {}}, {"type": "text", "text": "found"}], "status": "completed"},
        [
            {"event_type": "content.delta", "index": 0, "delta": {"type": "text", "text": "hello"}},
            {"event_type": "content.delta", "index": 1, "delta": {"type": "google_search_call", "arguments": {}}},
            {"event_type": "content.delta", "index": 2, "delta": {"type": "text", "text": "found"}},
        ],
    ),
    "dashscope": (
        {"output": {"text": "found", "search_info": {"search_results": [{"url": "u"}]}, "finish_reason": "stop"}},
        [{"output": {"text": "hello", "finish_reason": "null"}}, {"output": {"text": "hello found", "search_info": {"search_results": [{"url": "u"}]}, "finish_reason": "null"}}],
    ),
    "cohere v1": (
        {"text": "found", "search_results": [{"connector": {"id": "web-search"}}], "finish_reason": "COMPLETE"},
        None,
    ),
    "bedrock converse": (
        {"output": {"message": {"role": "assistant", "content": [{"toolUse": {"type": "server_tool_use", "name": "nova_grounding", "toolUseId": "t", "input": {}}}, {"text": "found"}]}}, "stopReason": "end_turn"},
        None,
    ),
}
VERDICTS = (("denied", False), ("few", False), ("allow", True), ("other", True), ("watch", True))


@pytest.mark.parametrize("dialect", USED)
def test_a_document_that_has_searched_is_judged(stack, dialect):
    whole = USED[dialect][0]
    for plan, passes in VERDICTS:
        answer, reached = ask(stack, plan, dialect, prompt="hi", whole=whole)
        assert reached == 1 and (answer.json() == whole) == passes, f"{plan}: {answer.text}"
        assert passes or complaint(dialect, answer) and "found" not in answer.text, answer.text


@pytest.mark.parametrize("dialect", [dialect for dialect, (_, events) in USED.items() if events])
def test_a_stream_ends_before_a_search(stack, dialect):
    _, upstream = stack
    upstream.kind, raw = "text/event-stream", "".join(f"data: {json.dumps(event)}\n\n" for event in USED[dialect][1]).encode()
    try:
        for plan, passes in VERDICTS:
            answer, reached = ask(stack, plan, dialect, stream=True, prompt="hi", whole=raw)
            assert (answer.status_code, reached) == (200, 1) and "hello" in answer.text, f"{plan}: {answer.text}"
            assert ("found" in answer.text) == passes, f"{plan}: {answer.text}"
    finally:
        upstream.kind = "application/json"


def server(tools=None):
    said = {"type": "mcp", "server_label": "files", "server_url": "https://mcp.acme.test/files", "require_approval": "never"}
    return {"tools": [said | ({"allowed_tools": tools} if tools else {})]}


def test_tools_of_a_server_are_judged_by_server_and_name(stack):
    called = lambda label, name: {"output": [{"type": "mcp_call", "id": "m", "server_label": label, "name": name, "arguments": "{}", "output": "found"}], "status": "completed"}
    for plan, more, status in (
        ("whole-servers", server(), 200),
        ("whole-servers", server(["read", "list"]), 200),
        ("whole-servers", server(["read", "rm"]), 403),
        ("servers", server(), 403),
        ("servers", server(["read"]), 200),
        ("servers", server(["read", "list"]), 403),
        ("servers", {"tools": [{"type": "mcp", "server_label": "files", "server_url": "https://evil.test/", "allowed_tools": ["read"]}]}, 403),
    ):
        answer, reached = ask(stack, plan, "openai responses", prompt="hi", more=more)
        assert (answer.status_code, reached) == (status, int(status == 200)), f"{plan}, {more}: {answer.text}"
    for plan, more, label, name, passes in (
        ("whole-servers", server(), "files", "list", True),
        ("whole-servers", server(), "files", "rm", False),
        ("whole-servers", server(["read"]), "files", "list", False),
        ("whole-servers", server(), "mail", "list", False),
        ("servers", server(["read"]), "files", "read", True),
        ("servers", server(["read"]), "files", "list", False),
    ):
        whole = called(label, name)
        answer, reached = ask(stack, plan, "openai responses", prompt="hi", more=more, whole=whole)
        assert reached == 1 and (answer.json() == whole) == passes, f"{plan}, {label}, {name}: {answer.text}"
        assert passes or f"mcp__{label}__{name}" in complaint("openai responses", answer) and "found" not in answer.text


def test_nothing_is_harmed(stack):
    stack[0].unharmed()
