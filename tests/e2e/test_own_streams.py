"""Tools that providers run themselves, and those of servers, told in the middle of a stream that the provider's own client reads: of what the
plan does not allow it never hears, and sees a length limit in its place. Requests, documents and raw events: test_own_tools.py."""

import base64
import json
import re

import pytest
import requests
from clients import (
    CLIENTS,
    Heard,
    anthropic_messages,
    bedrock_converse,
    bedrock_invoke,
    bedrock_nova,
    cohere_v1,
    dashscope_generation,
    dashscope_repeating,
    google_array,
    google_generate,
    google_interactions,
    openai_chat,
    openai_responses,
)
from tongues import Tongues, frame, sse
from whole import behind, key, policy

# Of what Anthropic's client does not know it makes the nearest that it does.
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")

PLANS = {
    "open": "{}",
    "denied": '{security: {tools: {deny: [web_search, "mcp__files__*"]}}}',
    "few": "{security: {tools: {allow: [look]}}}",
    "allow": '{security: {tools: {allow: [web_search, "mcp__*__read"], servers: {allow: [files]}}}}',
    "other": '{security: {tools: {deny: [code_execution, "mcp__*__rm"]}}}',
    "watch": '{security: {tools: {deny: [web_search, "mcp__files__*"]}, observe: [tools]}}',
}
POLICY = policy("own-streams", PLANS, {plan: ("acme", plan) for plan in PLANS}, models='"*": {count: o200k_base}')
SAID = ["Let me", " see", " what", " there", " is."]
COUNT = len(SAID)
FOUND = "https://found.test/it"


def whole_line(data):
    return json.dumps(data) + "\n"


def named(event):
    return sse(event, event["type"])


def choices(delta):
    return sse({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "demo", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})


def items(item):
    """OpenAI, "Responses: streaming events": an item that a tool of the provider's leaves."""
    event = lambda kind: named({"type": kind, "sequence_number": 50, "output_index": 1, "item": item})
    return [event("response.output_item.added"), event("response.output_item.done")]


def blocks(*blocks):
    """Anthropic, "Streaming messages": whole blocks, as results of its tools come."""
    for index, block in enumerate(blocks, 1):
        yield {"type": "content_block_start", "index": index, "content_block": block}
        yield {"type": "content_block_stop", "index": index}


def candidate(**more):
    chunk = {"candidates": [{"content": {"role": "model", "parts": [{"text": ""}]}, "index": 0, **more}], "modelVersion": "demo", "responseId": "r1"}
    return chunk


def steps(step):
    event = lambda kind, **more: sse({"event_type": kind, **more}, kind)
    return [event("step.start", index=1, step=step), event("step.stop", index=1)]


def searched(said):
    """Alibaba, "Web search": what was found stands beside the text."""
    choice = {"message": {"role": "assistant", "content": said}, "finish_reason": "null"}
    info = {"search_results": [{"index": 1, "title": "it", "url": FOUND, "site_name": "it", "icon": ""}]}
    return f"id:9\nevent:result\n:HTTP_STATUS/200\ndata:{json.dumps({'output': {'choices': [choice], 'search_info': info}, 'request_id': 'r1'})}\n\n"


def chunk(payload):
    return frame("chunk", {"bytes": base64.b64encode(json.dumps(payload).encode()).decode()})


CLAUDE = [
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "it"}},
    {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [{"type": "web_search_result", "url": FOUND, "title": "it", "encrypted_content": "eA==", "page_age": None}]},
]
GROUNDED = {"groundingMetadata": {"webSearchQueries": ["it"], "groundingChunks": [{"web": {"uri": FOUND, "title": "it"}}]}}
NOVA = [
    ("contentBlockStart", {"contentBlockIndex": 1, "start": {"toolUse": {"toolUseId": "t1", "name": "nova_grounding", "type": "server_tool_use"}}}),
    ("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"toolUse": {"input": json.dumps({"query": FOUND})}}}),
    ("contentBlockStop", {"contentBlockIndex": 1}),
]
# Of each client that has such a tool: behind how many events it comes, and as what.
SEARCHED = {
    openai_chat: (COUNT, [choices({"content": "", "annotations": [{"type": "url_citation", "url_citation": {"url": FOUND, "title": "it", "start_index": 0, "end_index": 1}}]})]),
    openai_responses: (3 + COUNT, items({"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": FOUND}})),
    anthropic_messages: (3 + COUNT, [named(event) for event in blocks(*CLAUDE)]),
    google_generate: (COUNT - 1, [f"data: {json.dumps(candidate(**GROUNDED))}\r\n\r\n"]),
    google_array: (COUNT - 1, ["," + json.dumps(candidate(**GROUNDED)) + "\r\n"]),
    google_interactions: (3 + COUNT, steps({"type": "google_search_call", "id": "g1", "arguments": {"queries": [FOUND]}})),
    cohere_v1: (1 + COUNT, [whole_line({"is_finished": False, "event_type": "search-results", "documents": [{"id": "d", "url": FOUND}], "search_results": [{"search_query": {"text": "it", "generation_id": "g1"}, "connector": {"id": "web-search"}, "document_ids": ["d"]}]})]),
    dashscope_generation: (COUNT - 1, [searched("")]),
    dashscope_repeating: (COUNT - 1, [searched("".join(SAID[:-1]))]),
    bedrock_converse: (2 + COUNT, [frame(kind, payload) for kind, payload in NOVA]),
    bedrock_invoke: (3 + COUNT, [chunk(event) for event in blocks(*CLAUDE)]),
    bedrock_nova: (2 + COUNT, [chunk({kind: payload}) for kind, payload in NOVA]),
}


def mcp(label, name):
    """A call of a server's tool, in each dialect that tells of such."""
    claudes = [
        {"type": "mcp_tool_use", "id": "mcptoolu_1", "name": name, "server_name": label, "input": {"path": FOUND}},
        {"type": "mcp_tool_result", "tool_use_id": "mcptoolu_1", "is_error": False, "content": [{"type": "text", "text": FOUND}]},
    ]
    return {
        openai_responses: (3 + COUNT, items({"type": "mcp_call", "id": "mcp_1", "server_label": label, "name": name, "arguments": "{}", "output": FOUND, "error": None})),
        anthropic_messages: (3 + COUNT, [named(event) for event in blocks(*claudes)]),
        google_interactions: (3 + COUNT, steps({"type": "mcp_server_tool_call", "id": "m1", "server_name": label, "name": name, "arguments": {"path": FOUND}})),
        bedrock_invoke: (3 + COUNT, [chunk(event) for event in blocks(*claudes)]),
    }


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    with behind(Tongues(0, SAID), tmp_path_factory.mktemp("own-streams"), POLICY) as stack:
        yield stack


def heard(stack, client, plan, between):
    whole, upstream = stack
    upstream.between = between
    return Heard(client, whole, key(plan), "Do it.")


def judged(stack, client, between, verdicts):
    for plan, passes in verdicts:
        came = heard(stack, client, plan, between)
        assert came.error is None, f"{plan}: {came.error!r} {came.events[-900:]}"
        if passes:
            assert came.text == "".join(SAID) and came.end not in (None, CLIENTS[client]), f"{plan}: {came.events}"
        else:
            assert "".join(SAID).startswith(came.text) and SAID[1] in came.text and came.end == CLIENTS[client], f"{plan}: {came.events}"
            assert FOUND not in came.events, f"{plan}: {came.events}"


def each(clients):
    return pytest.mark.parametrize("client", clients, ids=lambda client: client.__name__)


@each(SEARCHED)
def test_a_client_never_hears_of_a_search_that_is_denied(stack, client):
    judged(stack, client, SEARCHED[client], (("open", True), ("denied", False), ("few", False), ("allow", True), ("other", True), ("watch", True)))


@each(mcp("", ""))
def test_a_client_never_hears_of_a_server_that_is_denied(stack, client):
    """By the label that it has in the request; nobody has offered it here."""
    judged(stack, client, mcp("files", "read")[client], (("open", True), ("denied", False), ("few", False), ("allow", True), ("other", True), ("watch", True)))
    judged(stack, client, mcp("files", "rm")[client], (("allow", False), ("other", False), ("denied", False)))
    judged(stack, client, mcp("mail", "read")[client], (("allow", False), ("denied", True)))


def test_all_of_it_is_counted(stack):
    whole, _ = stack
    stats = requests.get(f"{whole.envoy.admin}/stats/prometheus", timeout=10).text
    count = lambda metric: sum(int(number) for labels, number in re.findall(rf"farebox_{metric}\{{([^}}]*)\}} (\d+)", stats) if '"tools"' in labels)
    assert count("refused_answers_total") == 2 * len(SEARCHED) + 6 * len(mcp("", ""))
    assert count("observed_total") == len(SEARCHED) + len(mcp("", ""))
    whole.unharmed()
