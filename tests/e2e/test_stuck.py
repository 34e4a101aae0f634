"""Agents that are stuck: what their SDKs see when they repeat a call, call a tool in circles, or are slowed down."""

import threading

import anthropic
import openai
import pytest
import requests
from conftest import until
from whole import Whole, chat, first, key, policy

PLANS = {
    "strict": "{security: {repeats: {most: 2, within: 1h}, loops: {most: 2}}}",
    "gentle": "{tokens: {caps: {all: {limit: 9000 tokens, per: seat, window: lifetime}}}, security: {repeats: {most: 1, within: 1h, slow: 1s}}}",
    "watched": "{security: {repeats: {most: 1, within: 1h}, loops: {most: 1}, observe: [repeats, loops]}}",
    "patient": "{tokens: {caps: {all: {limit: 9000 tokens, per: seat, window: lifetime}}}, security: {repeats: {most: 1, within: 1h, slow: 60s}}}",
}
SEATS = {f"{plan}-{n}": (f"org-{plan}", plan) for plan in PLANS for n in range(4)}
POLICY = policy("stuck", PLANS, SEATS, more="session: [x-session]")


@pytest.fixture(scope="module", params=["held", "first"])
def stack(tmp_path_factory, request):
    with Whole(tmp_path_factory.mktemp("stuck"), POLICY if request.param == "held" else first(POLICY), concurrency=1) as whole:
        yield whole


def counted(whole, metric, **labels):
    stats = requests.get(f"{whole.envoy.admin}/stats", params={"filter": f"farebox.{metric}"}, timeout=10).text
    wanted = [f".{name}={value};" for name, value in labels.items()]
    return sum(int(line.rsplit(": ", 1)[1]) for line in stats.splitlines() if all(label in line for label in wanted))


def sdks(whole, seat, **more):
    settings = {"api_key": key(seat), "max_retries": 0, **more}
    return openai.OpenAI(base_url=f"{whole.url}/v1", **settings), anthropic.Anthropic(base_url=whole.url, **settings)


def circle(times, arguments="{}"):
    """A conversation in which a tool was called so often, in OpenAI's words."""
    calls = [{"id": f"c{n}", "type": "function", "function": {"name": "look", "arguments": arguments}} for n in range(times)]
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "nothing"} for call in calls]
    return [{"role": "user", "content": "look [[output=1]]"}, {"role": "assistant", "content": "", "tool_calls": calls}, *results]


def circle_of_blocks(times):
    """The same in Anthropic's."""
    uses = [{"type": "tool_use", "id": f"t{n}", "name": "look", "input": {"at": "the same"}} for n in range(times)]
    results = [{"type": "tool_result", "tool_use_id": use["id"], "content": "nothing"} for use in uses]
    return [{"role": "user", "content": "look"}, {"role": "assistant", "content": uses}, {"role": "user", "content": results}]


def test_the_same_call_is_refused_in_its_own_words(stack):
    chats, messages = sdks(stack, "strict-0")
    ask = {"model": "demo-small", "messages": [{"role": "user", "content": "again [[output=1]]"}]}
    for _ in range(2):
        chats.chat.completions.create(**ask)
        messages.messages.create(**ask, max_tokens=9)
    with pytest.raises(openai.RateLimitError) as refused:
        chats.chat.completions.create(**ask)
    # Longer than an SDK would sit and wait.
    assert refused.value.response.headers["x-should-retry"] == "false" and int(refused.value.response.headers["retry-after"]) <= 3600
    assert "the same call came 3 times within 1h" in refused.value.message
    with pytest.raises(anthropic.RateLimitError) as refused:
        messages.messages.create(**ask, max_tokens=9)
    assert refused.value.body["error"]["type"] == "rate_limit_error"
    assert counted(stack, "refusals_total", by="repeats") == 2
    # Another session, another seat, another word: another call.
    chats.with_options(default_headers={"x-session": "s"}).chat.completions.create(**ask)
    sdks(stack, "strict-1")[0].chat.completions.create(**ask)
    chats.chat.completions.create(model="demo-small", messages=[{"role": "user", "content": "anew [[output=1]]"}])


def test_a_circle_is_refused_in_its_own_words(stack):
    chats, messages = sdks(stack, "strict-2")
    chats.chat.completions.create(model="demo-small", messages=circle(2))
    with pytest.raises(openai.PermissionDeniedError) as refused:
        chats.chat.completions.create(model="demo-small", messages=circle(3))
    assert "the tool `look` was called 3 times with the same arguments" in refused.value.message
    with pytest.raises(anthropic.PermissionDeniedError):
        messages.messages.create(model="demo-small", max_tokens=9, messages=circle_of_blocks(3))
    varied = circle(2) + circle(2, '{"at": "another"}')
    chats.chat.completions.create(model="demo-small", messages=varied)


def test_who_is_slowed_down_is_answered_all_the_same(stack):
    chats, _ = sdks(stack, "gentle-0")
    slowed = counted(stack, "slowed_total", by="repeats")
    for n in range(3):
        stream = chats.chat.completions.create(model="demo-slowed", messages=[{"role": "user", "content": "again [[output=3]]"}], stream=True)
        assert len([c for c in stream if c.choices[0].delta.content]) == 3, n
    assert counted(stack, "slowed_total", by="repeats") == slowed + 2
    records = until(lambda: len(now := [r for r in stack.ledger.records() if r["model"] == "demo-slowed"]) == 3 and now, 30, "three records")
    assert sorted([passed["how"] for passed in r["passed"]] for r in records) == [[], ["waited"], ["waited"]]
    # By the filter's own clock, in whole milliseconds: those that waited were admitted a second after they came.
    waited = [r["admitted_ms"] - r["came_ms"] for r in records if r["passed"]]
    assert min(waited) >= 999, waited


def test_who_is_slowed_down_and_leaves_has_asked_nothing(stack):
    """Also many at once: none of them holds anything while it waits."""
    body = chat("again [[output=1]]", model="demo-left")
    assert stack.post("patient-0", body).status_code == 200

    def leave():
        with pytest.raises(requests.exceptions.Timeout):
            requests.post(f"{stack.url}/v1/chat/completions", json=body, headers={"authorization": f"Bearer {key('patient-0')}"}, timeout=2)

    threads = [threading.Thread(target=leave) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stack.post("patient-0", chat("another [[output=1]]", model="demo-left", max_tokens=5000)).status_code == 200
    assert len([e for e in stack.model.idle() if e["model"] == "demo-left"]) == 2
    until(lambda: len([r for r in stack.ledger.records() if r["model"] == "demo-left"]) == 2, 30, "two records and no more")


def test_what_only_observes_is_noted(stack):
    chats, _ = sdks(stack, "watched-0")
    for _ in range(2):
        chats.chat.completions.create(model="demo-watched", messages=circle(2))
    records = until(lambda: len(now := [r for r in stack.ledger.records() if r["model"] == "demo-watched"]) == 2 and now, 30, "two records")
    observed = sorted([passed["quota"] for passed in record["passed"] if passed["how"] == "observed"] for record in records)
    assert observed == [["loops"], ["repeats", "loops"]]
