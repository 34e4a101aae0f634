"""What the filter writes that is more than Envoy buffers of a message: an error of Envoy's, and nobody else notices."""

import collections
import copy
import json
import time

import pytest
import requests
import yaml
from conftest import free_port
from whole import MICRO, Whole, chat, first, key, policy

# As little as Envoy buffers.
LIMIT = 1 << 20
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
TOKENS = "tokens: {caps: {all: {limit: 1b tokens, per: seat, window: first-use 5h}}}"


def small(text):
    assert "per_connection_buffer_limit_bytes: 16777216" in text
    return text.replace("per_connection_buffer_limit_bytes: 16777216", f"per_connection_buffer_limit_bytes: {LIMIT}")


def start(folder, upstream, connectivity, mode=lambda text: text):
    plan = f"{{{TOKENS}{f', connectivity: {connectivity}' if connectivity else ''}}}"
    text = mode(policy("buffers", {"one": plan}, {"ann": ("acme", "one")}))
    return Whole(folder, text, upstream=upstream.port, edit=small, concurrency=1)


def document(content):
    usage = {"prompt_tokens": 8, "completion_tokens": 1, "total_tokens": 9}
    return json.dumps({"model": "demo-ann", "choices": [{"index": 0, "message": {"role": "assistant", "content": content}}], "usage": usage}).encode()


def answers(conn, content="hi", pieces=1):
    body = document(content)
    conn.sendall(HEAD % len(body))
    for at in range(0, len(body), -(-len(body) // pieces)):
        conn.sendall(body[at : at + -(-len(body) // pieces)])
        time.sleep(0.01)


@pytest.mark.parametrize("mode", [lambda text: text, first], ids=["held", "first"])
@pytest.mark.parametrize("connectivity", [None, "{retry: {on: [503], tries: 3}}"], ids=["once", "again"])
def test_a_request_that_grows_beyond_the_buffer_is_too_large(tmp_path, upstream, mode, connectivity):
    """Usage is asked for in each of these streams, so what leaves is longer than what came."""
    upstream.answer = lambda request, conn: answers(conn)
    with start(tmp_path, upstream, connectivity, mode) as one:
        around = len(json.dumps(chat("", "demo-ann", stream=True)))

        def ask(left):
            return one.post("ann", chat("x" * (LIMIT - left - around), "demo-ann", stream=True)).status_code

        said = {left: ask(left) for left in (500_000, 1, 500, 30, 58, 57, 44, 0, -1, 60, -20_000)}
        assert [ask(left) for left in (500, 30, 500_000)] == [200, 413, 200]
        records = one.ledger.wait(12)
    assert {left for left, status in said.items() if status == 200} == {500_000, 500, 60, 58}, said
    assert set(said.values()) == {200, 413}
    # Where headers leave first the upstream saw those, and nothing of a body.
    assert collections.Counter(record["outcome"] for record in records) == {"complete": 6, "never_sent": 6}
    assert sum(charge["amount"] for record in records for charge in record["charges"]) == 6 * 9 * MICRO


def test_what_fits_through_one_listener_need_not_fit_through_another(tmp_path, upstream):
    port = free_port()

    def narrow(text):
        """A second listener of the same filter in the same VM, which buffers little."""
        whole = yaml.safe_load(text)
        listeners = whole["static_resources"]["listeners"]
        second = copy.deepcopy(listeners[0])
        second["name"] = "narrow"
        second["address"]["socket_address"]["port_value"] = port
        second["per_connection_buffer_limit_bytes"] = LIMIT
        listeners.append(second)
        return yaml.safe_dump(whole)

    sizes = iter([3 * LIMIT, LIMIT + 300, LIMIT - 300, 3 * LIMIT])
    upstream.answer = lambda request, conn: answers(conn, "h" * next(sizes))
    plan = f"{{{TOKENS}, connectivity: {{response: {{idle: 1m}}}}}}"
    text = policy("buffers", {"one": plan}, {"ann": ("acme", "one")})
    with Whole(tmp_path, text, upstream=upstream.port, edit=narrow, concurrency=1) as one:
        headers = {"authorization": f"Bearer {key('ann')}"}
        there, here = one.url, f"http://127.0.0.1:{port}"
        asked = [requests.post(f"{url}/v1/chat/completions", json=chat("hi", "demo-ann"), headers=headers, timeout=30) for url in (there, here, here, there)]
    assert [answer.status_code for answer in asked] == [200, 500, 200, 200]


@pytest.mark.parametrize("pieces", [1, 7])
@pytest.mark.parametrize("limit", ["duration: 1m", "idle: 1m, first_token: 1m"])
def test_a_document_that_is_held_and_larger_than_the_buffer_is_an_error(tmp_path, upstream, limit, pieces):
    sizes = iter([9_000, 300_000, 3 * LIMIT, 100_000, LIMIT - 300, LIMIT + 300, 10 * LIMIT, 10])
    upstream.answer = lambda request, conn: answers(conn, "h" * next(sizes), pieces)
    with start(tmp_path, upstream, f"{{response: {{{limit}}}}}") as one:
        answered = [one.post("ann", chat("hi", "demo-ann")) for _ in range(8)]
        records = one.ledger.wait(8)
    assert [answer.status_code for answer in answered] == [200, 200, 500, 200, 200, 500, 500, 200]
    assert all(answer.content == document("h" * size) for answer, size in zip(answered, [9_000, 300_000, 0, 100_000]) if size)
    # Its provider has written it: what becomes of it then is no matter of the account. What is longer than any document
    # that is read (8 MiB) is not held to its end.
    outcomes = [record["outcome"] for record in records]
    assert outcomes.pop(6) in ("cut_by_upstream", "complete_silent") and set(outcomes) == {"complete"}
