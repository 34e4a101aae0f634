"""However a stream ends: one record, nothing left held, and a charge between what was read and what was written."""

import concurrent.futures
import contextlib
import json
import random
import re
import socket
import struct
import threading

import pytest
import requests
from conftest import Upstream, until
from whole import MICRO, Whole, charged, chat, key, policy

# Where all that is to be held is exactly what the caps have, one leaked unit would refuse the last call of a test.
LIVE, HELD = 64, 20_000_000
HOLD = "hold: {unstated_output: 400, shrink_to: 400, lost: charge}"
CAPS = f"""{{
      live: {{limit: {LIVE} requests, per: seat, window: concurrent}},
      out: {{limit: {HELD} output tokens, per: seat, window: first-use 5h}}}}"""
POLICY = policy("endings", {"team": f"{{tokens: {{caps: {CAPS}, {HOLD}}}}}"}, {"alice": ("acme", "team")}, more="unknown: {path: deny, body: deny}")


# Trailers come only over HTTP/2; a reset there leaves the connection to others.
HTTP2 = """\
  - name: upstream
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
"""

# Streams by how they end, over HTTP/1.1 and over HTTP/2.
FULL = {"h1": {"hung up": 100, "cut": 25, "silent": 25}, "h2": {"hung up": 100, "cut": 25, "silent": 25, "trailers": 50}}
FIFTH = {version: {kind: count // 5 for kind, count in kinds.items()} for version, kinds in FULL.items()}


@pytest.fixture(scope="module", params=["h1", "h2"])
def stack(request, tmp_path_factory):
    edit = {"h1": None, "h2": lambda text: text.replace("  - name: upstream\n", HTTP2)}[request.param]
    with Whole(tmp_path_factory.mktemp("endings"), POLICY, pace="1ms", edit=edit) as whole:
        whole.version = request.param
        yield whole


class Reader:
    """A client that reads as much of a stream as it likes, and then goes away as rudely as TCP allows."""

    def __init__(self, whole, path, body, headers=()):
        payload = json.dumps(body).encode()
        head = [f"POST {path} HTTP/1.1", "host: x", f"authorization: Bearer {key('alice')}", f"content-length: {len(payload)}", *headers]
        self.conn = socket.create_connection(("127.0.0.1", whole.envoy.port), timeout=60)
        self.conn.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + payload)
        self.got = b""

    def tokens(self):
        """Tokens in the whole events that have arrived: the stand-in puts one into each."""
        return self.got.count(b'"content":"') - self.got.count(b'"content":""') + self.got.count(b'"text_delta"')

    def read(self, tokens=None):
        """Reads until so many tokens are there, or to the end; returns whether it came to the end that HTTP asks for."""
        while tokens is None or self.tokens() < tokens or b"\r\n\r\n" not in self.got:
            try:
                piece = self.conn.recv(65536)
            except ConnectionError:
                return False
            if not piece:
                return False
            self.got += piece
            if b"\r\n0\r\n" in self.got[-200:]:
                return True
        return False

    def hang_up(self):
        self.conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.conn.close()


def run(whole, sizes):
    """Lets all streams end in their way, eight at a time; returns what each client read, by the model's name."""
    jobs = []
    for kind, count in sizes.items():
        for n in range(count):
            path = ("/v1/chat/completions", "/v1/messages")[n % 2]
            jobs.append((kind, f"demo-{kind.replace(' ', '-')}-{n}", path, random.Random(f"{kind} {n}")))
    random.Random(1).shuffle(jobs)
    read, lock = {}, threading.Lock()

    def one(job):
        kind, model, path, dice = job
        length = dice.randint(30, 200)
        marks = {"hung up": f"output={length}", "cut": f"output={length} break={dice.randrange(length)}"}
        marks |= {"silent": f"output={length} silent", "trailers": f"output={length} trailers"}
        reader = Reader(whole, path, chat(f"Tell me. [[{marks[kind]}]]", model=model, stream=True, max_tokens=400))
        # At random points: between the headers and the first token, in the middle, and at times just when it ends.
        ended = reader.read(tokens=dice.randrange(length) if kind == "hung up" else None)
        with lock:
            read[model] = (kind, reader.tokens(), ended)
        reader.hang_up()

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(one, jobs))
    return read


@pytest.mark.parametrize("full", [False, pytest.param(True, marks=pytest.mark.torture)], ids=["fifth", "full"])
def test_every_end_is_one_record(stack, full):
    sizes = (FULL if full else FIFTH)[stack.version]
    read = run(stack, sizes)
    exchanges = {e["model"]: e for e in stack.model.idle()}
    records = {r["model"]: r for r in stack.ledger.wait(len(read))}
    assert records.keys() == read.keys()
    for kind in sizes:
        rows = [(records[m], exchanges[m], got) for m, (of, got, _) in read.items() if of == kind]
        outcomes = sorted({r["outcome"] for r, _, _ in rows})
        got, paid = sum(n for _, _, n in rows), sum(r["usage"]["output"] for r, _, _ in rows)
        written = sum(e["written_tokens"] for _, e, _ in rows)
        print(f"{stack.version}, {kind}: {len(rows)} streams; clients read {got}, charged {paid}, the model wrote {written}; {', '.join(outcomes)}")
        for record, exchange, tokens in rows:
            assert tokens <= record["usage"]["output"] <= exchange["written_tokens"], (record, exchange, tokens)
            assert record["charges"] and {c["amount"] for c in record["charges"] if c["quota"] == "team/out"} == {record["usage"]["output"] * MICRO}
    kinds = {m: read[m][0] for m in read}
    assert {r["outcome"] for m, r in records.items() if kinds[m] == "cut"} == {"cut_by_upstream"}
    assert {r["outcome"] for m, r in records.items() if kinds[m] == "silent"} == {"complete_silent"}
    assert {r["outcome"] for m, r in records.items() if kinds[m] == "hung up"} <= {"aborted", "complete"}
    # What the provider did not report is counted here, and exactly so: its tokens are of the vocabulary that we count with.
    for model, record in records.items():
        if kinds[model] in ("silent", "trailers"):
            assert read[model][2], f"{model} did not come to its end"
            assert record["usage"]["output"] == exchanges[model]["completion_tokens"]
    nothing_is_held(stack)


def nothing_is_held(stack):
    """Calls that take all that is left, at once and to the unit, are admitted."""
    used = sum(amount for (_, quota), amount in charged(stack.ledger.records()).items() if quota == "team/out")
    left = HELD - used // MICRO
    # `shrink_to` is not the point here: what is declared is what is held, and 1 more than is left does not fit.
    biggest = stack.post("alice", chat("Hello [[output=1]]", max_tokens=left))
    assert biggest.status_code == 200
    assert stack.model.last()["limit"] == left, "something is still held"
    lives = [Reader(stack, "/v1/chat/completions", chat("Hello [[output=2 pace=5s]]", stream=True, max_tokens=400)) for _ in range(LIVE)]
    until(lambda: stack.model.stats(last=0)["running"] == LIVE, 30, f"{LIVE} calls run at once")
    refused = stack.post("alice", chat("Hello"))
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    for reader in lives:
        reader.hang_up()
    stack.model.idle()


# A route on which Envoy answers by itself, behind the filter.
NOWHERE = """              - match: {prefix: /, headers: [{name: x-nowhere, present_match: true}]}
                direct_response: {status: 404}
              - match: {prefix: /}
"""


def test_not_even_an_answer(tmp_path):
    """Ends before any byte of an answer: never sent, hung up while waiting, reset, no connection, an error inside and outside."""
    with Whole(tmp_path, POLICY, edit=lambda text: text.replace("              - match: {prefix: /}\n", NOWHERE)) as whole:
        assert whole.post("alice", chat("Hello", model="demo-nowhere"), headers={"x-nowhere": "1"}).status_code == 404
        assert whole.ledger.wait(1)[0]["outcome"] == "never_sent"
        reader = Reader(whole, "/v1/chat/completions", chat("Hello [[slow-headers=1s]]", model="demo-left"))
        until(lambda: whole.model.stats(last=0)["running"] or whole.model.stats(last=0)["requests"], 10, "it arrives")
        reader.hang_up()
        assert whole.post("alice", chat("[[error=500]]", model="demo-500")).status_code == 500
        assert whole.post("alice", chat("[[error=429]]", model="demo-429")).status_code == 429
        whole.post("alice", chat("[[inside-error output=8]]", model="demo-inside", stream=True))
        whole.post("alice", chat("[[garbage output=8]]", model="demo-garbage"))
        whole.model.idle()
        whole.ledger.wait(6)
        whole.model.kill()
        assert whole.post("alice", chat("Hello", model="demo-gone")).status_code == 503
        records = {r["model"]: r for r in whole.ledger.wait(7)}
        rows = {m: (r["outcome"], r["usage"]["input"] > 0, r["usage"]["output"]) for m, r in records.items()}
        print(rows)
        assert rows["demo-nowhere"] == ("never_sent", False, 0)
        assert rows["demo-500"] == rows["demo-429"] == ("upstream_error", False, 0)
        assert rows["demo-gone"] == ("connect_failure", False, 0)
        assert rows["demo-left"] == ("aborted", True, 0)
        assert rows["demo-inside"][0] == "error_inside" and rows["demo-inside"][1]
        assert rows["demo-garbage"][0] == "complete_silent" and rows["demo-garbage"][1]
        whole.model.start()
        nothing_is_held(whole)


def test_a_retried_call_says_how_often_it_was_tried(tmp_path):
    """Envoy's tries cost tokens too, and the answer does not tell of them."""
    upstream = Upstream()
    busy = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\n{}"
    body = b'{"model":"demo-ann","choices":[{"index":0,"message":{"content":"hi"}}],"usage":{"prompt_tokens":8,"completion_tokens":1,"total_tokens":9}}'
    fine = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    upstream.answer = lambda request, conn: conn.sendall(busy if len(upstream.seen) < 3 else fine)

    def retrying(text):
        port = re.search(r"- name: upstream\n.*?port_value: (\d+)", text, re.S)
        text = text[: port.start(1)] + str(upstream.port) + text[port.end(1) :]
        return text.replace("cluster: upstream\n", "cluster: upstream\n                  retry_policy: {retry_on: 5xx, num_retries: 3}\n", 1)

    plans = {"one": "{tokens: {caps: {all: {limit: 1000 tokens, per: seat, window: first-use 5h}}}}"}
    with Whole(tmp_path, policy("tries", plans, {"ann": ("acme", "one")}), edit=retrying) as one:
        assert one.post("ann", chat("Hi", "demo-ann")).status_code == 200
        (record,) = one.ledger.wait(1)
    upstream.close()
    assert (record["attempts"], record["status"], len(upstream.seen)) == (3, 200, 3)


def test_what_a_broken_stream_had_reported_by_then_is_used(tmp_path):
    """Anthropic tells the input, cached or not, before the first token; the output is then counted here."""
    plans = {"one": "{tokens: {caps: {all: {limit: 10000 tokens, per: seat, window: first-use 5h}}}}"}
    asked = {"model": "demo-ann", "max_tokens": 100, "stream": True, "messages": [{"role": "user", "content": "[[cached=10]] [[output=40]] [[break=9]]"}]}
    with Whole(tmp_path, policy("early", plans, {"ann": ("acme", "one")})) as one:
        with contextlib.suppress(requests.RequestException):
            requests.post(one.url + "/v1/messages", json=asked, headers={"x-api-key": key("ann")}, timeout=30)
        (record,) = one.ledger.wait(1)
        written = one.model.idle()[0]
    assert (record["outcome"], record["source"]) == ("cut_by_upstream", "mixed")
    assert record["usage"]["cache_read"] == 10 and record["usage"]["output"] == 9
    assert record["usage"]["input"] + 10 == written["prompt_tokens"]
