"""What a streamed answer may call, and how long it may be, in each dialect: of what the plan does not allow its provider's own client never
hears, and sees a length limit in its place; and what calls say is screened. Whole answers: test_guards.py."""

import concurrent.futures
import re

import pytest
import requests
from clients import CLIENTS, SILENT, TOOLLESS, Heard, cohere_v1
from tongues import Tongues
from whole import behind, key, policy

PLANS = {
    "open": "{}",
    "without": "{security: {tools: {deny: [rm]}}}",
    "with": '{security: {tools: {allow: [look, "r*"]}}}',
    "few": "{security: {tools: {allow: [look]}}}",
    "watch": "{security: {tools: {deny: [rm]}, observe: [tools]}}",
    "small": "{connectivity: {response: {largest: 8 KiB}}}",
    "small-watch": "{connectivity: {response: {largest: 8 KiB}, observe: [response]}}",
    "lively": "{connectivity: {response: {idle: 500ms}}}",
    "brief": "{connectivity: {response: {duration: 2s}}}",
    "late": "{connectivity: {response: {first_token: 500ms}}}",
    "hide": "{security: {output: {email: redact, phone: hash}}}",
    "see": "{security: {output: {email: observe, phone: observe}}}",
    "refuse": "{security: {output: {phone: deny}}}",
    "all": "{connectivity: {response: {largest: 1 MiB}}, security: {tools: {deny: [rm]}, output: {email: redact, phone: hash}}}",
    "all-small": "{connectivity: {response: {largest: 8 KiB}}, security: {tools: {deny: [rm]}, output: {email: redact, phone: hash}}}",
}
POLICY = policy("calls", PLANS, {plan: ("acme", plan) for plan in PLANS}, models='"*": {count: o200k_base}')
LOOK, RM = ("look", ['{"for": "files', '", "deep": 2}']), ("rm", ['{"path": ', '"/everything"}'])
CALLED = [("look", {"for": "files", "deep": 2}), ("rm", {"path": "/everything"})]
CALLING = [client for client in CLIENTS if client not in TOOLLESS]
# Cohere's first version tells all calls in one event, of which nothing leaves if one of them may not.
TOGETHER = {cohere_v1}


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    with behind(Tongues(0, ["Let me", " see."]), tmp_path_factory.mktemp("calls"), POLICY) as stack:
        yield stack


def heard(stack, client, plan, *calls, said=("Let me", " see.")):
    whole, upstream = stack
    upstream.said, upstream.calls = list(said), calls
    heard = Heard(client, whole, key(plan), "Do it.")
    assert plan == "refuse" or heard.error is None, repr(heard.error) + heard.events[-900:]
    return heard


def each(clients):
    return pytest.mark.parametrize("client", clients, ids=lambda client: client.__name__)


@each(CALLING)
def test_a_call_that_is_allowed_or_only_observed_passes(stack, client):
    for plan in ("open", "with", "watch"):
        came = heard(stack, client, plan, LOOK, RM)
        assert (came.text, came.calls) == ("Let me see.", CALLED), plan
        assert came.end not in (None, CLIENTS[client]), plan
    came = heard(stack, client, "without", LOOK)
    assert (came.text, came.calls) == ("Let me see.", CALLED[:1]) and came.end not in (None, CLIENTS[client])


@each(CALLING)
def test_of_a_call_that_is_denied_nothing_leaves(stack, client):
    for plan in ("without", "few"):
        for calls, pass_on in (((RM,), []), ((RM, LOOK), []), ((LOOK, RM), CALLED[:1])):
            came = heard(stack, client, plan, *calls)
            pass_on = [] if client in TOGETHER else pass_on
            assert (came.text, came.calls, came.end) == ("Let me see.", pass_on, CLIENTS[client]), f"{plan}, {calls}: {came.events}"
            assert '"rm"' not in came.events and "everything" not in came.events, came.events


# An address, and a phone's number as a text and as none.
MAIL = ("mail", ['{"to": "ann', '@example.com", "of": [138123', '45678, {"tel": "138-', '1234-5678"}]}'])
HASHED = r"\[phone:[0-9a-f]{12}\]"


@each(CALLING)
def test_an_answer_may_be_nothing_but_a_call(stack, client):
    came = heard(stack, client, "without", RM, LOOK, said=())
    assert (came.text, came.calls, came.end) == ("", [], CLIENTS[client]) and "everything" not in came.events, came.events
    came = heard(stack, client, "without", LOOK, said=())
    assert (came.text, came.calls) == ("", CALLED[:1]) and came.end not in (None, CLIENTS[client]), came.events
    came = heard(stack, client, "hide", MAIL, said=())
    assert came.calls[0][1]["to"] == "[redacted]" and "ann@" not in came.events, came.events


@each(CALLING)
def test_what_a_call_says_is_hidden(stack, client):
    came = heard(stack, client, "hide", LOOK, MAIL)
    (look, (name, arguments)) = came.calls
    assert (look, name, arguments["to"]) == (CALLED[0], "mail", "[redacted]"), arguments
    number, tel = arguments["of"][0], arguments["of"][1]["tel"]
    assert re.fullmatch(HASHED, number) and re.fullmatch(HASHED, tel), arguments
    assert "ann@" not in came.events and "1234" not in came.events, came.events
    came = heard(stack, client, "see", LOOK, MAIL)
    assert came.calls == [CALLED[0], ("mail", {"to": "ann@example.com", "of": [13812345678, {"tel": "138-1234-5678"}]})]
    came = heard(stack, client, "refuse", MAIL)
    assert "1234" not in came.events and (came.error is not None or client in SILENT), came.events


@each(CLIENTS)
def test_a_stream_that_is_too_large_ends_at_a_length_limit(stack, client):
    said = ["The phone ", "138-1234", "-5678 of ann@exam", "ple.com;", *[f" {n} bottles" for n in range(99)], "."]
    whole = "".join(said)
    came = heard(stack, client, "small", said=said)
    assert whole.startswith(came.text) and len(came.text) > 100 and came.end == CLIENTS[client], came.events
    # Of a byte too much nothing leaves, whatever else there is to do.
    came = heard(stack, client, "all-small", said=said)
    text, hidden = re.subn(f"^The phone {HASHED} of \\[redacted\\];", "The phone 138-1234-5678 of ann@example.com;", came.text)
    assert hidden and whole.startswith(text) and len(text) > 100 and came.end == CLIENTS[client], came.events
    for plan in ("open", "small-watch"):
        came = heard(stack, client, plan, said=said)
        assert came.text == whole and came.end not in (None, CLIENTS[client]), plan


def test_of_a_byte_too_much_nothing_leaves(stack):
    """Whatever came with it in one piece."""
    whole, upstream = stack
    upstream.said, upstream.calls = [f" {n} bottles" for n in range(99)], ()
    for path, body in (("/v1/chat/completions", {}), ("/v1/messages", {"max_tokens": 500})):
        asked = {"model": "demo", "stream": True, "messages": [{"role": "user", "content": "Do it."}], **body}
        raw = requests.post(whole.url + path, json=asked, headers={"authorization": f"Bearer {key('small')}"}, timeout=30).content
        assert 7_900 < raw.rindex(b"bottles") <= 8_192, path


@each(CALLING)
def test_what_was_held_back_is_said_before_the_end(stack, client):
    """The last word is one that may be the beginning of something to be hidden; then a call comes that may not."""
    came = heard(stack, client, "all", RM, said=["Write to ann@exam", "ple.com, or to 138-", "1234"])
    assert (came.text, came.calls, came.end) == ("Write to [redacted], or to 138-1234", [], CLIENTS[client]), came.events
    came = heard(stack, client, "all", MAIL, RM, said=["Write to ann@exam", "ple.com, or to 138-", "1234"])
    assert (came.text, len(came.calls), came.end) == ("Write to [redacted], or to 138-1234", int(client not in TOGETHER), CLIENTS[client]), came.events


def at_once(stack, plan, said, pause):
    """What all clients make of a stream that is slow."""
    whole, upstream = stack
    upstream.said, upstream.calls, upstream.pause = said, (), pause
    try:
        with concurrent.futures.ThreadPoolExecutor(len(CLIENTS)) as pool:
            return zip(CLIENTS, pool.map(lambda client: Heard(client, whole, key(plan), "Do it."), CLIENTS))
    finally:
        upstream.pause = None


def test_a_stream_that_does_not_begin_is_an_error(stack):
    for client, came in at_once(stack, "late", ["late"], (0, 3)):
        assert came.events == "" and "did not begin to answer" in str(came.error), f"{client.__name__}: {came.events}, {came.error!r}"


def test_a_stream_that_falls_silent_is_broken_off(stack):
    """With no end that could be taken for a whole answer."""
    said = [f" {n} bottles" for n in range(20)]
    for client, came in at_once(stack, "lively", said, (12, 3)):
        assert "".join(said).startswith(came.text) and came.end is None, f"{client.__name__}: {came.events}"
        assert came.error is not None or client in SILENT, client.__name__


def test_a_stream_that_takes_all_its_time_ends_at_a_length_limit(stack):
    said = [f" {n} bottles" for n in range(99)]
    for client, came in at_once(stack, "brief", said, (8, 0.2)):
        assert "".join(said).startswith(came.text) and came.text and came.end == CLIENTS[client], f"{client.__name__}: {came.events}, {came.error!r}"


def test_all_of_it_is_counted(stack):
    whole, _ = stack
    stats = requests.get(f"{whole.envoy.admin}/stats/prometheus", timeout=10).text
    count = lambda metric, label: sum(int(number) for labels, number in re.findall(rf"farebox_{metric}\{{([^}}]*)\}} (\d+)", stats) if f'"{label}"' in labels)
    assert count("refused_answers_total", "tools") == 9 * len(CALLING)
    assert count("refused_answers_total", "response") == 2 * len(CLIENTS) + 2
    assert (count("observed_total", "tools"), count("observed_total", "response")) == (len(CALLING), len(CLIENTS))
    assert "farebox_unscreened_total{" not in stats
    whole.unharmed()
