"""Secrets and personal data in streams, as the official SDKs and the wire see them. Whole answers: tests/cases/screen.yaml."""

import json
import re

import anthropic
import openai
import pytest
import requests
from whole import Whole, chat, key, policy

# Put together here, so that no scanner of repositories trips over this file.
SECRET = "AK" + "IAIOSFODNN7EXAMPLE"
POLICY = policy(
    "screen",
    {
        "redact": "{security: {output: {secrets: redact, email: redact, phone: tag}}}",
        "refuse": "{security: {output: {secrets: deny}}}",
        "names": "{security: {input: {email: pseudonym}}}",
        "forms": "{security: {input: {email: redact, on_error: pass}}}",
        "phones": "{security: {input: {phone: redact}}}",
    },
    {"alice": ("acme", "redact"), "bob": ("acme", "refuse"), "cat": ("acme", "names"), "dan": ("acme", "forms"), "eve": ("acme", "phones")},
)
SAID = f"The key {SECRET} is of alice@example.com, phone 138-1234-5678; that is all."
SAFE = "The key [redacted] is of [redacted], phone [phone]; that is all."


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    with Whole(tmp_path_factory.mktemp("screen"), POLICY) as whole:
        yield whole


def heard(whole, seat, prompt, dialect, orders="echo pace=3ms"):
    """The text that an SDK strings together of a stream."""
    more = {"api_key": key(seat), "max_retries": 0, "default_headers": {"x-upstream": orders}}
    messages = [{"role": "user", "content": prompt}]
    if dialect == "openai":
        client = openai.OpenAI(base_url=f"{whole.url}/v1", **more)
        chunks = client.chat.completions.create(model="demo-small", messages=messages, max_tokens=100, stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    with anthropic.Anthropic(base_url=whole.url, **more).messages.stream(model="demo-small", messages=messages, max_tokens=100) as stream:
        return "".join(stream.text_stream)


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
@pytest.mark.parametrize("orders", ["echo pace=3ms", "echo", "echo crlf comments"])
def test_streams_are_redacted(stack, dialect, orders):
    assert heard(stack, "alice", SAID, dialect, orders) == SAFE


def test_nothing_hidden_is_on_the_wire_and_every_event_is_whole(stack):
    headers = {"authorization": f"Bearer {key('alice')}", "x-upstream": "echo pace=3ms"}
    answer = requests.post(f"{stack.url}/v1/chat/completions", json=chat(SAID, max_tokens=100, stream=True), headers=headers, stream=True, timeout=30)
    pieces = list(answer.iter_content(None))
    raw = b"".join(pieces).decode()
    assert len(pieces) > 3, "it was buffered"
    assert "IOSFODNN7" not in raw and "alice@" not in raw and "1234" not in raw
    assert all(piece.endswith(b"\n\n") for piece in pieces if piece), "an event was split"
    events = [json.loads(data) for data in re.findall(r"^data: (\{.*)$", raw, re.M)]
    assert "".join(event["choices"][0]["delta"].get("content") or "" for event in events if event["choices"]) == SAFE


def test_a_denied_stream_ends_in_an_error_that_the_sdks_raise(stack):
    for dialect, kind in (("openai", openai.APIError), ("anthropic", anthropic.APIError)):
        with pytest.raises(kind, match="aws_access_key_id"):
            heard(stack, "bob", f"it is {SECRET} " + "and so on " * 20, dialect)


def test_names_come_back_in_clear(stack):
    for dialect in ("openai", "anthropic"):
        assert heard(stack, "cat", "write to alice@example.com now", dialect) == "write to alice@example.com now"
        assert "alice@" not in json.dumps(stack.model.last())


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_json_that_is_streamed_stays_json(stack, dialect):
    said = {"phone": 13812345678, "of": [13812345678, "call 138-1234-5678", 5]}
    safe = {"phone": "[phone]", "of": ["[phone]", "call [phone]", 5]}
    assert json.loads(heard(stack, "alice", json.dumps(said), dialect)) == safe


@pytest.mark.parametrize("seat,prompt,status", [("cat", "a song", 200), ("cat", "of alice@example.com", 403), ("dan", "of alice@example.com", 200), ("eve", "13812345678", 403)])
def test_a_form_goes_as_it_is_or_not_at_all(stack, seat, prompt, status):
    form = {"model": "demo-small", "prompt": prompt}
    headers = {"authorization": f"Bearer {key(seat)}"}
    answer = requests.post(f"{stack.url}/v1/audio/transcriptions", data=form, files={"file": ("a.mp3", b"s" * 5000)}, headers=headers, timeout=30)
    assert answer.status_code == status, answer.text
    if status == 403:
        assert "cannot be hidden in a form" in answer.json()["error"]["message"] and "alice@" not in answer.text


def test_findings_are_counted(stack):
    stats = requests.get(f"{stack.envoy.admin}/stats/prometheus", timeout=10).text
    found = [line for line in stats.splitlines() if "farebox_findings_total{" in line]
    assert any('rule="secrets"' in line and 'action="redact"' in line and 'direction="output"' in line for line in found), found
    assert any('rule="email"' in line and 'action="pseudonym"' in line and 'direction="input"' in line for line in found), found
    stack.unharmed()
