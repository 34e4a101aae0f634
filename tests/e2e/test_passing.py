"""Calls that go through unmetered, as `unknown` allows: what their plan screens for is looked for in them all the same."""

import gzip
import json
import re
import time

import pytest
import requests
from server import Handler, Server
from whole import Whole, key, policy

# Put together here, so that no scanner of repositories trips over this file.
SECRET = "AK" + "IAIOSFODNN7EXAMPLE"
PLANS = {
    "open": "{}",
    "small": "{connectivity: {request: {largest: 2 KiB}}, security: {input: {secrets: deny}}}",
    "redact": "{security: {input: {email: redact, phone: redact}, output: {email: redact, phone: tag}}}",
    "refuse": "{security: {input: {secrets: deny}, output: {secrets: deny}}}",
    "trust": "{security: {input: {secrets: deny, on_error: pass}, output: {secrets: deny, on_error: pass}}}",
}
POLICY = policy("passing", PLANS, {plan: ("acme", plan) for plan in PLANS}) + "unknown: {path: pass, body: pass}\n"
SAID = {"to": "alice@example.com", "call": [13812345678, "138-1234-5678"], "more": "x" * 5000}
SAFE = {"to": "[redacted]", "call": ["[phone]", "[phone]"], "more": "x" * 5000}


class Store(Server):
    """An upstream that answers what it is told to, in small pieces, and remembers what it heard."""

    def __init__(self):
        self.answer, self.kind, self.headers, self.heard, self.asked = b"", "application/json", {}, None, None
        store = self

        class Keeps(Handler):
            def do_POST(self):
                store.heard, store.asked = self.body(), dict(self.headers.items())
                self.send_response(200)
                self.send_header("content-type", store.kind)
                for name, value in store.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(store.answer)))
                self.end_headers()
                for at in range(0, len(store.answer), 7 if len(store.answer) < 500 else 700):
                    self.wfile.write(store.answer[at : at + (7 if len(store.answer) < 500 else 700)])
                    self.wfile.flush()
                    time.sleep(0.002)

            do_GET = do_POST

        super().__init__(Keeps)


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    store = Store()
    try:
        with Whole(tmp_path_factory.mktemp("passing"), POLICY, upstream=store.port) as whole:
            yield whole, store
    finally:
        store.close()


def ask(stack, plan, method="POST", path="/v1/files", answer=b"{}", kind="application/json", sent=None, headers=None, more=None):
    whole, store = stack
    store.answer, store.kind, store.headers, store.heard = answer, kind, headers or {}, None
    asked = {"authorization": f"Bearer {key(plan)}", "content-type": "application/json", **(more or {})}
    return requests.request(method, whole.url + path, data=sent, headers=asked, timeout=30)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_without_a_screen_all_passes_as_it_is(stack, method):
    said = json.dumps(SAID).encode()
    answer = ask(stack, "open", method, answer=said, sent=said)
    assert (answer.status_code, answer.content, stack[1].heard) == (200, said, said)
    assert answer.headers["content-length"] == str(len(said)) and "gzip" in stack[1].asked.get("accept-encoding", stack[1].asked.get("Accept-Encoding", ""))


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_is_redacted_is_hidden_both_ways_and_json_stays_json(stack, method):
    said = json.dumps(SAID).encode()
    answer = ask(stack, "redact", method, answer=said, sent=said if method == "POST" else None)
    assert (answer.status_code, answer.json()) == (200, SAFE)
    if method == "POST":
        assert json.loads(stack[1].heard) == {**SAFE, "call": ["[redacted]", "[redacted]"]}
    assert "accept-encoding" not in {name.lower() for name in stack[1].asked}


def test_a_stream_of_events_is_screened_too(stack):
    events = b"".join(b"data: " + json.dumps({"n": n, "to": "alice@example.com"}).encode() + b"\n\n" for n in range(20))
    answer = ask(stack, "redact", answer=events, kind="text/event-stream")
    assert answer.content == events.replace(b"alice@example.com", b"[redacted]")


def test_what_is_denied_neither_leaves_nor_comes(stack):
    said = json.dumps({"key": SECRET, "more": "x" * 3000}).encode()
    answer = ask(stack, "refuse", sent=said)
    assert (answer.status_code, stack[1].heard) == (403, None) and SECRET not in answer.text
    try:
        came = ask(stack, "refuse", "GET", answer=said).content
    except requests.RequestException:
        came = b""
    assert SECRET.encode() not in came and b"xxx" not in came
    assert ask(stack, "refuse", "GET", answer=b'{"fine": true}').json() == {"fine": True}


def test_what_is_held_to_be_read_may_be_no_larger_than_the_plan_says(stack):
    for size, status in ((1000, 200), (5000, 413), (500_000, 413)):
        pieces = iter([b"x" * 500] * (size // 500))  # an iterator goes in chunks, without a length
        answer = ask(stack, "small", sent=pieces)
        assert (answer.status_code, stack[1].heard is None) == (status, status != 200), size


def test_what_is_no_text_is_not_looked_at(stack):
    picture = b"\x89PNG\r\n" + bytes(range(256)) * 20 + SECRET.encode()
    answer = ask(stack, "refuse", answer=picture, kind="image/png", sent=picture, more={"content-type": "image/png"})
    assert (answer.status_code, answer.content, stack[1].heard) == (200, picture, picture)


def test_what_cannot_be_read_goes_by_on_error(stack):
    packed = gzip.compress(json.dumps(SAID).encode() * 20)
    refused = ask(stack, "refuse", sent=packed, more={"content-encoding": "gzip"})
    assert (refused.status_code, stack[1].heard) == (403, None), refused.text
    assert ask(stack, "trust", sent=packed, more={"content-encoding": "gzip"}).status_code == 200 and stack[1].heard == packed
    said = b"\xff\xfe what is this? " * 50
    try:
        came = ask(stack, "refuse", "GET", answer=said, kind="text/plain").content
    except requests.RequestException:
        came = b""
    assert b"what is this" not in came
    assert ask(stack, "trust", "GET", answer=said, kind="text/plain").content == said


def test_it_is_counted(stack):
    whole, _ = stack
    stats = requests.get(f"{whole.envoy.admin}/stats/prometheus", timeout=10).text
    assert re.search(r"farebox_passed_total\{?[^}]*\}? [1-9]", stats)
    for name, labels in (("findings_total", ("input", "email", "redact")), ("findings_total", ("output", "email", "redact")), ("findings_total", ("output", "secrets", "deny")), ("unread_total", ("input", "deny")), ("unread_total", ("input", "pass")), ("unscreened_total", ("pass",)), ("unscreened_total", ("deny",))):
        lines = re.findall(rf"farebox_{name}\{{([^}}]*)\}} \d+", stats)
        assert any(all(f'"{label}"' in line for label in labels) for line in lines), (name, labels, lines)
    whole.unharmed()
