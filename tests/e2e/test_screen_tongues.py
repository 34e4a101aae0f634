"""Secrets and personal data in the prompts and streams of every dialect, as the providers' own clients see them."""

import json
import re

import pytest
import requests
from clients import CLIENTS, SILENT, Heard
from tongues import Tongues
from whole import behind, key, policy

# Put together here, so that no scanner of repositories trips over this file.
SECRET = "AK" + "IAIOSFODNN7EXAMPLE"
SAID = ["The key ", SECRET[:6], SECRET[6:13], SECRET[13:], " is of alice", "@exam", "ple.com", "; that is", " all."]
PROMPT = "write to bob@example.com now"
PLANS = {
    "open": "{}",
    "redact": "{security: {input: {email: redact}, output: {secrets: redact, email: redact}}}",
    "tag": "{security: {input: {email: tag}, output: {secrets: tag, email: tag}}}",
    "hash": "{security: {input: {email: hash}, output: {secrets: hash, email: hash}}}",
    "watch": "{security: {input: {email: observe}, output: {secrets: observe, email: observe}}}",
    "refuse": "{security: {input: {email: deny}, output: {secrets: deny}}}",
    "names": "{security: {input: {email: pseudonym}}}",
    "phones": "{security: {input: {phone: hash}}}",
}
POLICY = policy("tongues", PLANS, {plan: ("acme", plan) for plan in PLANS}, models='"*": {count: o200k_base}')


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    with behind(Tongues(0), tmp_path_factory.mktemp("tongues"), POLICY) as stack:
        yield stack


def asked(stack, client, plan, said, prompt="Tell me all."):
    """What a client makes of a stream that says this."""
    whole, upstream = stack
    upstream.said, upstream.heard = said, None
    return Heard(client, whole, key(plan), prompt)


# What stands in the place of a secret and of an address.
SAFE = {
    "redact": (r"\[redacted\]", r"\[redacted\]"),
    "tag": (r"\[secrets\]", r"\[email\]"),
    "hash": (r"\[secrets:[0-9a-f]{12}\]", r"\[email:[0-9a-f]{12}\]"),
    "watch": (SECRET, r"alice@example\.com"),
}


def each(test):
    return pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__)(test)


@each
def test_what_a_plan_allows_passes(stack, client):
    heard = asked(stack, client, "open", SAID)
    assert (heard.text, heard.error) == ("".join(SAID), None)


@pytest.mark.parametrize("plan", SAFE)
@each
def test_what_is_hidden_is_hidden_in_the_stream_and_in_the_prompt(stack, client, plan):
    heard, (secret, email) = asked(stack, client, plan, SAID, PROMPT), SAFE[plan]
    safe = re.fullmatch(f"The key {secret} is of {email}; that is all\\.", heard.text)
    assert safe and heard.error is None, (heard.text, heard.error)
    # What was told in pieces is told the same way once more, whole.
    again = "".join(heard.all("again"))
    assert not again or heard.text in again
    assert plan == "watch" or SECRET not in heard.events and "alice@" not in heard.events
    sent = json.dumps(stack[1].heard)
    assert re.search(f"write to {email.replace('alice', 'bob')} now", sent), sent


@each
def test_what_is_denied_ends_the_stream_before_it(stack, client):
    heard = asked(stack, client, "refuse", SAID)
    assert heard.text in ("The key ", "") and (heard.error is not None or client in SILENT), (heard.text, heard.error)


@each
def test_a_prompt_that_is_denied_does_not_leave(stack, client):
    heard = asked(stack, client, "refuse", SAID, PROMPT)
    assert (heard.text, stack[1].heard) == ("", None) and "personal data" in str(heard.error)


@each
def test_names_come_back_in_clear(stack, client):
    heard = asked(stack, client, "names", ["I write", " to [EM", "AIL_1", "]."], PROMPT)
    assert (heard.text, heard.error) == ("I write to bob@example.com.", None)
    assert "bob@" not in json.dumps(stack[1].heard)


def test_what_stands_beside_a_prompt_is_hidden_too(stack):
    """Fields that no model reads, and where labels may have few letters."""
    whole, upstream = stack
    upstream.said = SAID[:1]
    asked = {
        "/v1/responses": {"input": "hi", "metadata": {"of": "bob@example.com"}, "user": "bob@example.com", "prompt_cache_key": "x", "stream": True},
        "/v1/completions": {"prompt": "hi", "stop": ["x", "to bob@example.com"], "stream": True},
        "/v1beta/models/demo:streamGenerateContent?alt=sse": {"contents": [{"parts": [{"text": "hi"}]}], "labels": {"of": "bob@example.com"}},
        "/api/chat": {"messages": [{"role": "user", "content": "hi"}], "options": {"stop": ["bob@example.com"], "num_predict": 500}},
    }
    for path, body in asked.items():
        upstream.heard = None
        headers = {"authorization": f"Bearer {key('redact')}"}
        answer = requests.post(f"{whole.url}{path}", json={"model": "demo", **body}, headers=headers, timeout=60)
        told = json.dumps(body).replace('{"of": "bob@example.com"}', '{"of": "-redacted-"}') if "labels" in body else json.dumps(body)
        expected = json.loads(told.replace("bob@example.com", "[redacted]"))
        assert answer.status_code == 200, answer.text
        assert {name: upstream.heard[name] for name in expected} == expected, path
        refused = requests.post(f"{whole.url}{path}", json={"model": "demo", **body}, headers={"authorization": f"Bearer {key('refuse')}"}, timeout=60)
        assert refused.status_code == 403 and "beside its prompt" in refused.text, refused.text


def test_what_stands_beside_a_prompt_stays_legal(stack):
    """Numbers give way to strings, names of members stay apart, and nothing is cut off a field without room for more."""
    whole, upstream = stack
    upstream.said, upstream.heard = SAID[:1], None
    long = "138-1234-5678 " + "x" * 498
    metadata = {"138-1234-5678": "a", "139-1234-5678": "b", "n": 13812345678, "long": long, "+86 138 1234 5678 " + "y" * 45: "c"}
    call = {"type": "function_call", "call_id": "t", "name": "f", "arguments": '{"to": 13812345678, "of": "138-1234-5678"}'}
    body = {"model": "demo", "input": [call, {"role": "user", "content": "hi"}], "metadata": metadata, "stream": True}
    answer = requests.post(f"{whole.url}/v1/responses", json=body, headers={"authorization": f"Bearer {key('phones')}"}, timeout=60)
    assert answer.status_code == 200, answer.text
    told = upstream.heard["metadata"]
    hashed = re.compile(r"\[phone:[0-9a-f]{12}\]")
    names = list(told)
    assert len(set(names)) == 5 and hashed.fullmatch(names[0]) and hashed.fullmatch(names[1]), told
    assert names[4] == "[phone] " + "y" * 45 and [told[names[0]], told[names[1]], told[names[4]]] == ["a", "b", "c"]
    assert hashed.fullmatch(told["n"]) and told["long"] == "[phone] " + "x" * 498
    arguments = json.loads(upstream.heard["input"][0]["arguments"])
    assert hashed.fullmatch(arguments["to"]) and hashed.fullmatch(arguments["of"])


def test_what_was_found_is_counted_and_nothing_passed_unread(stack):
    whole, _ = stack
    stats = requests.get(f"{whole.envoy.admin}/stats/prometheus", timeout=10).text
    found = re.findall(r"farebox_findings_total\{([^}]*)\} (\d+)", stats)
    count = lambda *labels: sum(int(by) for at, by in found if all(f'="{label}"' in at for label in labels))
    for action in ("redact", "tag", "hash", "observe"):
        assert count("output", "secrets", action) == count("output", "email", action) == len(CLIENTS), (action, found)
        assert count("input", "email", action) >= len(CLIENTS), (action, found)
    assert count("output", "deny") == len(CLIENTS)
    assert "farebox_unscreened_total{" not in stats
    whole.unharmed()
