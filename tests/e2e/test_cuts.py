"""Streams that outgrow their fund end legally, are charged what was delivered, and not one token more is delivered than was paid."""

import concurrent.futures
import json
import threading
import time

import anthropic
import openai
import pytest
import requests
from conftest import until
from whole import MICRO, Whole, charged, chat, first, key, policy

OPENAI, ANTHROPIC = "/v1/chat/completions", "/v1/messages"
WIDE = {"type": "object", "required": [f"field_{n}" for n in range(40)], "properties": {f"field_{n}": {"type": "string"} for n in range(40)}}
OPENAI_TOOLS = [{"type": "function", "function": {"name": "note", "description": "Notes.", "parameters": WIDE}}]
ANTHROPIC_TOOLS = [{"name": "note", "description": "Notes.", "input_schema": WIDE}]


def plan(amount, hold):
    return f"{{tokens: {{funds: {{pot: {{amount: {amount}, per: seat, window: calendar month}}}}, hold: {{stream: slices, {hold}}}}}}}"


PLANS = {
    "clean": plan("300 tokens", "slice: 40, cut: clean"),
    "stop": plan("300 tokens", "slice: 40, cut: stop"),
    "shared": plan("9000 tokens", "slice: 100"),
    # Whoever asks for more than there is gets all of it.
    "graced": plan("6000 tokens", "slice: 40, grace: 600, share: all"),
    "bare": plan("6000 tokens", "slice: 40, grace: 0, share: all"),
    "slow": plan("3000 tokens", "slice: 50"),
    "brief": plan("2000 tokens", "slice: 50"),
}
SEATS = {f"{plan}-{n}": (f"org-{plan}", plan) for plan in PLANS for n in range(6)}
LIMITS = {"clean": 300, "stop": 300, "shared": 9000, "graced": 6000, "bare": 6000, "slow": 3000, "brief": 2000}
POLICY = policy("cuts", PLANS, SEATS)


@pytest.fixture(scope="module", params=["held", "first"])
def stack(tmp_path_factory, request):
    with Whole(tmp_path_factory.mktemp("cuts"), POLICY if request.param == "held" else first(POLICY), gated=True) as whole:
        whole.counted = 0
        yield whole
        # Whatever the tests above did: no fund was charged more than it has.
        for (subject, quota), amount in charged(whole.ledger.records()).items():
            assert amount <= LIMITS[quota.split("/")[0]] * MICRO, (subject, quota, amount)


def sdks(whole, seat):
    settings = {"api_key": key(seat), "max_retries": 0}
    return openai.OpenAI(base_url=f"{whole.url}/v1", **settings), anthropic.Anthropic(base_url=whole.url, **settings)


def asked(prompt):
    return [{"role": "user", "content": prompt}]


def record(whole, model):
    """The one record of a call of this model, once it is there."""
    (found,) = until(lambda: [r for r in whole.ledger.records() if r["model"] == model], 30, f"the record of {model}")
    return found


def exchange(whole, model):
    (found,) = [e for e in whole.model.idle() if e["model"] == model]
    return found


def is_exact(record, delivered, outcome="cut_by_us"):
    """It was charged its input and what was delivered."""
    assert (record["outcome"], record["delivered"], record["usage"]["output"]) == (outcome, delivered, delivered)
    assert {c["amount"] for c in record["charges"]} == {(record["usage"]["input"] + delivered) * MICRO}


def name(request, what):
    return f"demo-{what}-{'first' if 'first' in request.node.name else 'held'}"


def test_openai_sdk_sees_a_length_limit(stack, request):
    client, _ = sdks(stack, "clean-0")
    model = name(request, "chat")
    chunks = list(client.chat.completions.create(model=model, messages=asked("Hello [[output=900 ignore-limit]]"), stream=True))
    delivered = len([c for c in chunks if c.choices[0].delta.content])
    assert chunks[-1].choices[0].finish_reason == "length" and all(c.usage is None for c in chunks)
    assert len({(c.id, c.created, c.model, c.object) for c in chunks}) == 1
    done = record(stack, model)
    is_exact(done, delivered)
    # The upstream ran on, and what it made beyond is known.
    assert done["reported"]["output"] == exchange(stack, model)["written_tokens"] == 900
    # What is left is less than the smallest useful call; the rest of the bound of the input is not lost.
    assert 100 < delivered < 300


def test_openai_sdk_gets_the_usage_that_it_asked_for(stack, request):
    client, _ = sdks(stack, "clean-1")
    model = name(request, "usage")
    # Not by the helper that parses: it raises its own error at every length limit, also at OpenAI's.
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(client.chat.completions.create(model=model, messages=asked("Hello [[output=900 ignore-limit]]"), **options))
    delivered = len([c for c in chunks if c.choices and c.choices[0].delta.content])
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "length"
    assert [c.usage.completion_tokens for c in chunks if c.usage] == [delivered] and not chunks[-1].choices
    is_exact(record(stack, model), delivered)


def test_anthropic_sdk_sees_a_length_limit(stack, request):
    _, client = sdks(stack, "clean-2")
    model = name(request, "messages")
    with client.messages.stream(model=model, max_tokens=5000, messages=asked("Hello [[output=900 ignore-limit]]")) as stream:
        texts = list(stream.text_stream)
        final = stream.get_final_message()
    assert final.stop_reason == "max_tokens" and final.usage.output_tokens == len(texts)
    is_exact(record(stack, model), len(texts))


def test_several_answers_end_together(stack, request):
    client, _ = sdks(stack, "clean-3")
    model = name(request, "three")
    chunks = list(client.chat.completions.create(model=model, messages=asked("Hello [[output=900 ignore-limit]]"), n=3, stream=True))
    ends = [(c.choices[0].index, c.choices[0].finish_reason) for c in chunks if c.choices[0].finish_reason]
    assert sorted(ends) == [(0, "length"), (1, "length"), (2, "length")]
    is_exact(record(stack, model), len([c for c in chunks if c.choices[0].delta.content]))


@pytest.mark.parametrize("path", [OPENAI, ANTHROPIC])
def test_stop_lets_the_upstream_go(stack, request, path):
    """The last event arrives whole, then the connection breaks, and the upstream makes no more."""
    model = name(request, "stop" + path.rsplit("/", 1)[1])
    seat = "stop-0" if path == OPENAI else "stop-1"
    body = chat("Hello [[output=5000 ignore-limit pace=5ms]]", model=model, stream=True, max_tokens=4000)
    got = b""
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        for piece in stack.post(seat, body, path=path, stream=True).iter_content(None):
            got += piece
    text = got.decode()
    if path == OPENAI:
        delivered = text.count('"content":"') - text.count('"content":""')
        assert text.endswith("data: [DONE]\n\n") and '"finish_reason":"length"' in text
    else:
        delivered = text.count('"text_delta"')
        assert text.endswith('event: message_stop\ndata: {"type":"message_stop"}\n\n') and '"max_tokens"' in text
    is_exact(record(stack, model), delivered)
    seen = exchange(stack, model)
    print(f"{path}: {delivered} tokens delivered, the upstream made {seen['written_tokens']} of 5000")
    assert seen["outcome"] == "aborted" and delivered <= seen["written_tokens"] < delivered + 60


def test_a_crowd_spends_the_fund_and_no_more(stack, request):
    """Streams that all outgrow the fund which they share, by both SDKs at once: each ends legally, at what it is charged."""
    # No answer begins before 32 have their first slice: else one that is early would take the slice of one that is late.
    model, calls = name(request, "crowd"), 48
    chats, messages = sdks(stack, "shared-0")

    def ask(n):
        asks = {"model": f"{model}-{n}", "max_tokens": 1000, "messages": asked("Hello [[output=2000 ignore-limit pace=2ms slow-headers=4s]]")}
        if n % 2:
            with messages.messages.stream(**asks) as stream:
                texts = list(stream.text_stream)
            return len(texts), stream.get_final_message().stop_reason
        chunks = list(chats.chat.completions.create(**asks, stream=True))
        return len([c for c in chunks if c.choices[0].delta.content]), chunks[-1].choices[0].finish_reason

    def one(n):
        try:
            return f"{model}-{n}", *ask(n)
        except (openai.RateLimitError, anthropic.RateLimitError):
            return None

    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        ended = [end for end in pool.map(one, range(calls)) if end]
    assert {reason for _, _, reason in ended} == {"length", "max_tokens"}
    delivered = {who: tokens for who, tokens, _ in ended}
    records = until(lambda: len(now := {r["model"]: r for r in stack.ledger.records() if r["model"] in delivered}) == len(delivered) and now, 30, "all records")
    spent = charged(records.values())["seat/shared-0", "shared/pot"]
    print(f"{calls} streams, 32 at once: {len(ended)} cut, {calls - len(ended)} refused, {sum(delivered.values())} tokens delivered, {spent / MICRO:.0f} of 9000 charged")
    for who, tokens in delivered.items():
        is_exact(records[who], tokens)
    assert spent <= 9000 * MICRO and 32 <= len(ended) < calls


def blocked(stack, seat, model, path, tools):
    """A call of a tool whose fund another call takes whole while it runs; returns its answer."""
    body = chat("use the tool [[pace=10ms]]", model=model, stream=True, max_tokens=3000, tools=tools)
    answer = stack.post(seat, body, path=path, stream=True)
    pieces = answer.iter_content(None)
    text = next(pieces)
    other = threading.Thread(target=stack.post, args=(seat, chat("Hello [[slow-headers=8s output=1]]", model=f"{model}-other", max_tokens=100_000)))
    other.start()
    text += b"".join(pieces)
    other.join()
    return text.decode()


@pytest.mark.parametrize("path", [OPENAI, ANTHROPIC])
def test_grace_lets_a_call_of_a_tool_end(stack, request, path):
    model = name(request, "graced" + path.rsplit("/", 1)[1])
    seat, tools = ("graced-0", OPENAI_TOOLS) if path == OPENAI else ("graced-1", ANTHROPIC_TOOLS)
    text = blocked(stack, seat, model, path, tools)
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    if path == OPENAI:
        calls = [c["delta"].get("tool_calls") for e in events for c in e["choices"]]
        arguments = "".join(c[0]["function"]["arguments"] for c in calls if c)
        assert '"finish_reason":"tool_calls"' in text
    else:
        arguments = "".join(e["delta"]["partial_json"] for e in events if e["type"] == "content_block_delta")
        assert '"stop_reason":"tool_use"' in text
    assert len(json.loads(arguments)) == 40, "it ended"
    done = record(stack, model)
    print(f"{path}: {done['delivered']} tokens, {done['graced']} of them by grace")
    assert done["outcome"] == "complete" and done["graced"] > 0


@pytest.mark.parametrize("path", [OPENAI, ANTHROPIC])
def test_a_call_of_a_tool_that_is_cut_is_not_disguised(stack, request, path):
    model = name(request, "bare" + path.rsplit("/", 1)[1])
    seat, tools = ("bare-0", OPENAI_TOOLS) if path == OPENAI else ("bare-1", ANTHROPIC_TOOLS)
    text = blocked(stack, seat, model, path, tools)
    assert ('"finish_reason":"length"' if path == OPENAI else '"stop_reason":"max_tokens"') in text
    assert '"finish_reason":"tool_calls"' not in text and '"stop_reason":"tool_use"' not in text
    done = record(stack, model)
    assert (done["outcome"], done["graced"]) == ("cut_by_us", 0)


def shut_in(stack, seat, model, path=OPENAI):
    """A running stream, with the ledger out of reach; yields what arrived by when."""
    body = chat("Hello [[output=400 pace=5ms]]", model=model, stream=True, max_tokens=400)
    answer = stack.post(seat, body, path=path, stream=True)
    for piece in answer.iter_content(None):
        yield piece.decode()


def test_the_answers_of_a_stream_pass_unchanged_while_it_can_be_paid(stack, request):
    model = name(request, "long")
    text = "".join(shut_in(stack, "slow-0", model))
    done = record(stack, model)
    assert text.count('"content":"') - text.count('"content":""') == 400 == done["usage"]["output"]
    assert (done["outcome"], done["source"]) == ("complete", "reported") and text.endswith("data: [DONE]\n\n")
