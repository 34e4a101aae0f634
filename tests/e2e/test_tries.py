"""How a real Envoy tries calls again that a plan wants tried again, and that nobody else has it do so."""

import contextlib
import json
import re
import socket
import threading
import time

import h2.config
import h2.connection
import h2.errors
import h2.events
import pytest
import requests
from conftest import free_port, stop_listening
from test_endings import HTTP2
from test_seen import metrics, total
from whole import MICRO, Whole, chat, first, key, policy

BUSY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\n{}"
BODY = b'{"model":"demo-ann","choices":[{"index":0,"message":{"content":"hi"}}],"usage":{"prompt_tokens":8,"completion_tokens":1,"total_tokens":9}}'
FINE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY
# As little as Envoy buffers of a request.
LIMIT = 1 << 20


def plan(retry):
    connectivity = f"connectivity: {{retry: {retry}}}, " if retry else ""
    return policy("tries", {"one": f"{{{connectivity}tokens: {{caps: {{all: {{limit: 1b tokens, per: seat, window: first-use 5h}}}}}}}}"}, {"ann": ("acme", "one")})


def unguarded(text):
    """Envoy's configuration without what takes such headers off before any filter: a rule, and its suspicion of strangers."""
    rule = "              - remove_on_match: {key_matcher: {prefix: x-envoy-}}\n"
    edge = "          use_remote_address: true\n"
    assert rule in text and edge in text
    ours = "          internal_address_config: {cidr_ranges: [{address_prefix: 127.0.0.0, prefix_len: 8}]}\n"
    return text.replace(rule, "").replace(edge, edge + ours)


def small(text):
    assert "per_connection_buffer_limit_bytes: 16777216" in text
    return text.replace("per_connection_buffer_limit_bytes: 16777216", f"per_connection_buffer_limit_bytes: {LIMIT}")


def start(folder, upstream, retry="{on: [503], tries: 3}", mode=lambda text: text, **settings):
    return Whole(folder, mode(plan(retry)), upstream=upstream.port, **settings)


def failing(upstream, tries, how=lambda request, conn: conn.sendall(BUSY)):
    """Lets each call's first `tries` fail."""
    seen = []

    def answer(request, conn):
        seen.append(request)
        (how if len(seen) <= tries else lambda request, conn: conn.sendall(FINE))(request, conn)

    upstream.answer = answer
    return seen


@pytest.mark.parametrize("mode", [lambda text: text, first], ids=["held", "first"])
def test_the_filter_has_envoy_try_again_with_the_whole_request(tmp_path, upstream, mode):
    seen = failing(upstream, 2)
    with start(tmp_path, upstream, mode=mode) as one:
        # Usage is asked for in the stream, so the body that leaves is not the one that came.
        answer = one.post("ann", chat("word " * 50_000, "demo-ann", stream=True))
        (record,) = one.ledger.wait(1)
    assert (answer.status_code, len(seen), record["attempts"]) == (200, 3, 3)
    assert len({request["body"] for request in seen}) == 1 and len(json.loads(seen[0]["body"])["messages"][0]["content"]) == 250_000
    assert json.loads(seen[2]["body"])["stream_options"] == {"include_usage": True}
    assert not re.search(rb"x-envoy-(retr|max-retries|upstream-rq)", seen[2]["head"].lower()), "the upstream hears of it"


@pytest.mark.parametrize("mode", [lambda text: text, first], ids=["held", "first"])
def test_the_largest_body_that_envoy_takes_is_tried_again(tmp_path, upstream, mode):
    """What is buffered whole is there for another try. What is larger never gets so far."""
    seen = failing(upstream, 1)
    with start(tmp_path, upstream, mode=mode, edit=small) as one:
        around = len(json.dumps(chat("", "demo-ann", max_tokens=9)))
        assert one.post("ann", chat("x" * (LIMIT - 100 - around), "demo-ann", max_tokens=9)).status_code == 200
        assert [len(request["body"]) for request in seen] == [LIMIT - 100] * 2
        assert one.post("ann", chat("x" * LIMIT, "demo-ann", max_tokens=9)).status_code == 413
        assert len(seen) == 2 and set(one.envoy.stats("cluster.upstream.retry_or_shadow_abandoned").values()) == {0}


def test_a_route_says_how_long_envoy_pauses(tmp_path, upstream):
    slow_down = BUSY.replace(b"503 Service Unavailable\r\n", b"429 Too Many Requests\r\nretry-after: 1\r\n")
    seen = failing(upstream, 1, lambda request, conn: conn.sendall(slow_down))

    def pausing(text):
        told = re.search(r"\n +# retry_policy:\n +# .*\n", text)[0]
        return text.replace(told, told.replace("# ", ""))

    with start(tmp_path, upstream, "{on: [429]}", edit=pausing) as one:
        began = time.monotonic()
        assert one.post("ann", chat("hi", "demo-ann")).status_code == 200
        assert 0.95 <= time.monotonic() - began < 2.5 and len(seen) == 2


def test_headers_of_callers_order_no_tries(tmp_path, upstream):
    orders = {
        "x-envoy-retry-on": "5xx",
        "x-envoy-retry-grpc-on": "unavailable",
        "x-envoy-max-retries": "5",
        "x-envoy-retriable-status-codes": "503",
        "x-envoy-retriable-header-names": "content-length",
        "x-envoy-upstream-rq-per-try-timeout-ms": "1",
        "x-envoy-upstream-rq-timeout-ms": "1",
        "x-envoy-hedge-on-per-try-timeout": "true",
    }
    seen = failing(upstream, 99, lambda request, conn: (time.sleep(0.3), conn.sendall(BUSY)))
    with start(tmp_path, upstream, retry=None, edit=unguarded) as one:
        assert one.post("ann", chat("hi", "demo-ann"), headers=orders).status_code == 503
        (record,) = one.ledger.wait(1)
    assert (record["attempts"], len(seen)) == (1, 1)
    assert b"x-envoy-retr" not in seen[0]["head"].lower()


def test_a_caller_does_not_change_what_the_plan_says(tmp_path, upstream):
    seen = failing(upstream, 99)
    with start(tmp_path, upstream, edit=unguarded) as one:
        orders = {"x-envoy-retry-on": "5xx,reset", "x-envoy-max-retries": "9", "X-Envoy-Max-Retries": "8"}
        assert one.post("ann", chat("hi", "demo-ann"), headers=orders).status_code == 503
        (record,) = one.ledger.wait(1)
    assert (record["attempts"], len(seen)) == (3, 3)


def test_what_passes_unmetered_is_tried_once(tmp_path, upstream):
    seen = failing(upstream, 99)
    text = plan("{on: [503], tries: 3}") + "unknown: {path: pass}\n"
    with Whole(tmp_path, text, upstream=upstream.port) as one:
        assert requests.get(one.url + "/v1/models", headers={"x-api-key": key("ann")}, timeout=30).status_code == 503
    assert len(seen) == 1


def test_a_route_does_not_change_it_either(tmp_path, upstream):
    route = "cluster: upstream\n"
    seen = failing(upstream, 99)
    with start(tmp_path, upstream, edit=lambda text: text.replace(route, route + "                  retry_policy: {retry_on: 5xx, num_retries: 7}\n", 1)) as one:
        assert one.post("ann", chat("hi", "demo-ann")).status_code == 503
        (record,) = one.ledger.wait(1)
        assert total(metrics(one), "retries_total", model="demo-*") == 2
    assert (record["attempts"], len(seen)) == (3, 3)


def test_nobody_at_home_is_asked_as_often_and_costs_nothing(tmp_path):
    words = ["connect-failure", "reset-before-request"]
    with Whole(tmp_path, each(words, 4, "hold: {failed_try: input}, "), upstream=free_port()) as one:
        for word in words:
            assert one.post(word, chat("hi", "demo-ann")).status_code == 503
        for record in one.ledger.wait(2):
            assert (record["attempts"], record["outcome"], sum(charge["amount"] for charge in record["charges"])) == (4, "connect_failure", 0)


def each(words, tries, hold=""):
    """A plan for each of these words of `on`, and a seat of the same name."""
    plans = {word: f"{{connectivity: {{retry: {{on: [{word}], tries: {tries}}}}}, tokens: {{{hold}caps: {{all: {{limit: 1b tokens, per: seat, window: first-use 5h}}}}}}}}" for word in words}
    return policy("tries", plans, {word: ("acme", word) for word in words})


def test_a_stream_that_is_refused_is_tried_again(tmp_path):
    """What only HTTP/2 has: an upstream that has not looked at a request says so. It was sent, so nothing was before it."""
    attempts = {"refused-stream": 3, "reset-before-request": 1, "reset": 3, "gateway-error": 3, "connect-failure": 1}
    upstream = Refusing(2)
    edit = lambda text: text.replace("  - name: upstream\n", HTTP2)
    try:
        with Whole(tmp_path, each(attempts, 4), upstream=upstream.port, edit=edit) as one:
            for calls, (word, tries) in enumerate(attempts.items(), 1):
                upstream.asked = 0
                answer = one.post(word, chat("hi", "demo-ann"))
                (record,) = [record for record in one.ledger.wait(calls) if record["plan"] == word]
                assert (answer.status_code, record["attempts"], upstream.asked) == (200 if tries == 3 else 503, tries, tries), word
                # What was sent and never answered is charged as such, whatever the reset said.
                assert sum(charge["amount"] for charge in record["charges"]) == (9 * MICRO if tries == 3 else 8 * MICRO), record
    finally:
        upstream.close()


class Refusing:
    """An upstream that speaks HTTP/2 and refuses its first streams."""

    def __init__(self, streams):
        self.asked, self._streams = 0, streams
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                conn, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _serve(self, conn):
        state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        state.initiate_connection()
        with conn, contextlib.suppress(OSError):
            conn.sendall(state.data_to_send())
            while data := conn.recv(65536):
                for event in state.receive_data(data):
                    if isinstance(event, h2.events.StreamEnded):
                        self._answer(state, event.stream_id)
                conn.sendall(state.data_to_send())

    def _answer(self, state, stream):
        self.asked += 1
        if self.asked <= self._streams:
            return state.reset_stream(stream, h2.errors.ErrorCodes.REFUSED_STREAM)
        state.send_headers(stream, [(":status", "200"), ("content-type", "application/json")])
        state.send_data(stream, BODY, end_stream=True)

    def close(self):
        stop_listening(self._listener)


def test_records_say_what_of_a_charge_failed_before(tmp_path, upstream):
    failing(upstream, 2)
    text = plan("{on: [503], tries: 3}").replace("tokens: {", "tokens: {hold: {failed_try: input}, ")
    with Whole(tmp_path, text, upstream=upstream.port) as one:
        for _ in range(2):
            assert one.post("ann", chat("hi", "demo-ann")).status_code == 200
        first_of_all, second = one.ledger.wait(2)
    usage, reported = first_of_all["usage"], first_of_all["reported"]
    assert (usage["input"], first_of_all["failed_input"], reported["input"], usage["output"]) == (24, 16, 8, 1)
    assert [charge["amount"] for charge in first_of_all["charges"]] == [25 * MICRO]
    assert "failed_input" not in second and second["usage"]["input"] == 8, "who reads an older format sees what he knows"


def test_a_try_that_takes_too_long_is_given_up(tmp_path, upstream):
    seen = failing(upstream, 1, lambda request, conn: time.sleep(3))
    with start(tmp_path, upstream, retry="{on: [reset], tries: 3, each: 500ms}") as one:
        began = time.monotonic()
        assert one.post("ann", chat("hi", "demo-ann")).status_code == 200
        assert 0.5 <= time.monotonic() - began < 2.5
        (record,) = one.ledger.wait(1)
    assert (record["attempts"], len(seen)) == (2, 2)


def test_once_an_answer_has_begun_nothing_is_tried_again(tmp_path, upstream):
    """A stream that breaks off, or that is slow, is no try that failed: its caller has a part of it."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"

    def breaks(request, conn):
        conn.sendall(head)
        time.sleep(1)
        conn.close()

    seen = failing(upstream, 99, breaks)
    with start(tmp_path, upstream, retry="{on: [reset, 5xx], tries: 3, each: 500ms}") as one:
        try:
            one.post("ann", chat("hi", "demo-ann", stream=True))
        except requests.RequestException:
            pass
        (record,) = one.ledger.wait(1)
    assert (record["attempts"], record["outcome"], len(seen)) == (1, "cut_by_upstream", 1)


def test_first_token_is_for_all_tries_together(tmp_path, upstream):
    seen = failing(upstream, 99, lambda request, conn: time.sleep(5))
    text = plan("{on: [reset], tries: 10, each: 400ms}").replace("connectivity: {", "connectivity: {response: {first_token: 1s}, ")
    with Whole(tmp_path, text, upstream=upstream.port) as one:
        began = time.monotonic()
        answer = one.post("ann", chat("hi", "demo-ann"))
        assert answer.status_code == 504 and time.monotonic() - began < 1.6, answer.text
        (record,) = one.ledger.wait(1)
        time.sleep(0.6)
    assert len(seen) == record["attempts"] in (2, 3)
