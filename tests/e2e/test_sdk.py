"""The official SDKs work through the turnstile unchanged, and are told what is wrong in their own words."""

import concurrent.futures
import json

import anthropic
import openai
import pytest
import requests
from conftest import until
from whole import MICRO, Whole, charged, chat, first, key, policy

WEATHER = {"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}}
OPENAI_TOOLS = [{"type": "function", "function": {"name": "weather", "description": "The weather.", "parameters": WEATHER}}]
ANTHROPIC_TOOLS = [{"name": "weather", "description": "The weather.", "input_schema": WEATHER}]

HOLD = "hold: {unstated_output: 200, shrink_to: 16, lost: charge}"
POLICY = policy(
    "sdk",
    {
        "team": f"""{{tokens: {{funds: {{month: {{amount: 100000 credits, per: org, window: calendar month}}}}, {HOLD}}},
          connectivity: {{tier: gold}}, security: {{input: {{longest: 3000 tokens, secrets: deny}}}}}}""",
        "calls": f"{{tokens: {{caps: {{calls: {{limit: 3 requests, per: seat, window: first-use 5h}}}}, {HOLD}}}}}",
        "poor": f"{{tokens: {{funds: {{month: {{amount: 2 credits, per: seat, window: calendar month}}}}, {HOLD}}}}}",
        "live": f"{{tokens: {{caps: {{live: {{limit: 1 request, per: seat, window: concurrent}}}}, {HOLD}}}}}",
        "short": f"{{tokens: {{caps: {{out: {{limit: 90 output tokens, per: seat, window: first-use 5h}}}}, {HOLD}}}}}",
        "pace": f"{{tokens: {{caps: {{pace: {{limit: 100 tokens, per: seat, window: bucket 1m}}}}, {HOLD}}}}}",
        "away": f"{{tokens: {{{HOLD}}}, connectivity: {{sources: [10.0.0.0/8]}}}}",
        "picky": f"{{tokens: {{{HOLD}}}, security: {{models: [demo-small]}}}}",
    },
    {
        "alice": ("acme", "team"),
        "anna": ("acme", "team"),
        "bob": ("bees", "calls"),
        "ben": ("bees", "calls"),
        "carol": ("carols", "poor"),
        "carl": ("carols", "poor"),
        "dave": ("daves", "live"),
        "erin": ("erins", "short"),
        "pat": ("pats", "pace"),
        "frank": ("franks", "away"),
        "gina": ("ginas", "picky"),
    },
)


@pytest.fixture(scope="module", params=["held", "first"])
def stack(tmp_path_factory, request):
    held = request.param == "held"
    with Whole(tmp_path_factory.mktemp("sdk"), POLICY if held else first(POLICY)) as whole:
        # Headers that have left cannot get a tier.
        whole.tier = "gold" if held else None
        yield whole


class Client:
    """Both SDKs with one seat's key, and a count of how often they knock."""

    def __init__(self, whole, seat, api_key=None, retries=2):
        self.whole = whole
        settings = {"api_key": api_key or key(seat), "max_retries": retries}
        self.openai = openai.OpenAI(base_url=f"{whole.url}/v1", **settings)
        self.anthropic = anthropic.Anthropic(base_url=whole.url, **settings)

    def chat(self, prompt, model="demo-small", **more):
        return self.openai.chat.completions.create(model=model, messages=[{"role": "user", "content": prompt}], **more)

    def message(self, prompt, model="demo-small", max_tokens=50, **more):
        messages = [{"role": "user", "content": prompt}]
        return self.anthropic.messages.create(model=model, max_tokens=max_tokens, messages=messages, **more)

    def knocks(self, call):
        """How many requests reached Envoy while `call` ran, and how many of them the model; and what it raised."""
        metric = "http.llm.downstream_rq_total"
        before, heard = self.whole.envoy.stats(metric)[metric], self.whole.model.stats(last=0)["requests"]
        with pytest.raises((openai.OpenAIError, anthropic.AnthropicError)) as raised:
            call()
        after = self.whole.envoy.stats(metric)[metric]
        return after - before, self.whole.model.stats(last=0)["requests"] - heard, raised.value


@pytest.fixture
def client(stack):
    return lambda seat, **more: Client(stack, seat, **more)


def test_openai_works(stack, client):
    alice = client("alice")
    answer = alice.chat("Hello there. [[output=12]]")
    seen = stack.model.last()
    assert answer.usage.completion_tokens == 12 and answer.choices[0].message.content
    # The tier is for Envoy's routes; nothing that a client could read shows it.
    assert seen["headers"].get("x-farebox-tier") == stack.tier
    assert "authorization" not in seen["headers"] and "x-api-key" not in seen["headers"]

    chunks = list(alice.chat("Hello [[output=25]]", stream=True, stream_options={"include_usage": True}))
    assert [c.usage.completion_tokens for c in chunks if c.usage] == [25]
    assert len([c for c in chunks if c.choices and c.choices[0].delta.content]) == 25


def test_usage_is_asked_for_and_hidden(stack, client):
    alice = client("alice")
    chunks = list(alice.chat("Hello [[output=7]]", stream=True))
    assert all(c.choices for c in chunks) and all(c.usage is None for c in chunks), "a chunk nobody asked for"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert stack.model.last()["reported"] is True, "the model was not asked"
    # As bytes: no member that the client did not ask for is left, and the stream still ends as it should.
    raw = stack.post("alice", chat("Hello [[output=7]]", stream=True)).text
    assert '"prompt_tokens"' not in raw and raw.endswith("data: [DONE]\n\n")
    asked = stack.post("alice", chat("Hello [[output=7]]", stream=True, stream_options={"include_usage": True})).text
    assert '"prompt_tokens"' in asked


def test_openai_tools(client):
    alice = client("alice")
    answer = alice.chat("Please use the tool.", tools=OPENAI_TOOLS, max_tokens=100)
    call = answer.choices[0].message.tool_calls[0]
    assert call.function.name == "weather" and set(json.loads(call.function.arguments)) == {"city"}
    messages = [{"role": "user", "content": "use the tool"}]
    with alice.openai.chat.completions.stream(model="demo-small", messages=messages, tools=OPENAI_TOOLS) as stream:
        final = stream.get_final_completion()
    assert set(json.loads(final.choices[0].message.tool_calls[0].function.arguments)) == {"city"}
    messages += [
        {"role": "assistant", "tool_calls": [call.model_dump()]},
        {"role": "tool", "tool_call_id": call.id, "content": "12 degrees"},
    ]
    answer = alice.openai.chat.completions.create(model="demo-small", messages=messages, tools=OPENAI_TOOLS)
    assert answer.choices[0].message.content


def test_anthropic_works(stack, client):
    alice = client("alice")
    answer = alice.message("Hello there.", system="You are terse.")
    assert answer.content[0].text and answer.usage.output_tokens
    seen = stack.model.last()["headers"]
    assert "x-api-key" not in seen and "authorization" not in seen
    messages = [{"role": "user", "content": "Hello [[output=25 cached=4]]"}]
    with alice.anthropic.messages.stream(model="demo-small", max_tokens=20, messages=messages) as stream:
        texts = list(stream.text_stream)
        final = stream.get_final_message()
    assert len(texts) == 20 and final.stop_reason == "max_tokens" and final.usage.output_tokens == 20


def test_anthropic_tools(client):
    alice = client("alice")
    answer = alice.message("use the tool", tools=ANTHROPIC_TOOLS, max_tokens=100)
    assert answer.stop_reason == "tool_use" and set(answer.content[0].input) == {"city"}
    messages = [{"role": "user", "content": "use the tool"}]
    with alice.anthropic.messages.stream(model="demo-small", max_tokens=100, messages=messages, tools=ANTHROPIC_TOOLS) as stream:
        final = stream.get_final_message()
    assert final.stop_reason == "tool_use" and set(final.content[0].input) == {"city"}


def test_rate_limit_of_both_sdks(client):
    """A cap that opens hours from now: the SDK raises its own error at once instead of sitting there."""
    bob = client("bob")
    for _ in range(3):
        bob.chat("Hello")
    knocks, reached, error = bob.knocks(lambda: bob.chat("Hello"))
    assert isinstance(error, openai.RateLimitError) and error.code == "rate_limit_exceeded" and error.type == "requests"
    assert (knocks, reached) == (1, 0)
    headers = error.response.headers
    assert 5 * 3600 - 120 <= int(headers["retry-after"]) <= 5 * 3600 and headers["x-should-retry"] == "false"
    assert headers["x-ratelimit-limit-requests"] == "3" and headers["x-ratelimit-remaining-requests"] == "0"
    assert "`calls`" in str(error) and error.request_id in str(error)

    ben = client("ben")
    for _ in range(3):
        ben.message("Hello")
    knocks, reached, error = ben.knocks(lambda: ben.message("Hello"))
    assert isinstance(error, anthropic.RateLimitError) and error.body["error"]["type"] == "rate_limit_error"
    assert (knocks, reached) == (1, 0)
    assert error.response.headers["anthropic-ratelimit-requests-remaining"] == "0"
    assert error.body["request_id"] == error.request_id and error.request_id in str(error)


def test_exhausted_is_not_retried(client):
    """2 credits are 500 output tokens or so: each call takes some, until not even the smallest fits."""
    for seat, call, wanted in [
        ("carol", lambda c: c.chat("Hello [[output=150]]", max_tokens=150), openai.RateLimitError),
        ("carl", lambda c: c.message("Hello [[output=150]]", max_tokens=150), anthropic.RateLimitError),
    ]:
        one = client(seat)
        served = 0
        for _ in range(40):
            try:
                call(one)
                served += 1
            except wanted:
                break
        knocks, reached, error = one.knocks(lambda: call(one))
        print(f"{seat}: {served} calls served before the fund was empty")
        assert served >= 3 and isinstance(error, wanted)
        assert (knocks, reached) == (1, 0), "an exhausted account was knocked at again"
        assert error.response.headers["x-should-retry"] == "false" and "retry-after" not in error.response.headers
        if seat == "carol":
            assert (error.code, error.type) == ("insufficient_quota", "insufficient_quota")
        else:
            assert error.body["error"]["details"]["error_code"] == "enforced_spend_limit_reached"


def test_what_passes_soon_is_retried(stack, client):
    """One call at a time: the SDK's own retries see the second one through."""
    dave = client("dave", retries=5)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        slow = pool.submit(dave.chat, "Hello [[slow-headers=1s]]")
        until(lambda: stack.model.stats(last=0)["running"], 10, "the first one runs")
        answer = dave.message("Hello")
        assert answer.content and slow.result(30).choices
    denied = [line for line in stack.envoy.access_log() if line.get("denied_by") == "live"]
    assert denied and all(line["status"] == 429 for line in denied)


def test_a_call_that_never_fits_is_told_so(client):
    knocks, reached, error = client("pat").knocks(lambda: client("pat").chat("word " * 300))
    assert isinstance(error, openai.RateLimitError) and (knocks, reached) == (1, 0)
    assert "never lets more than 100 through" in str(error)


def test_clamping_reaches_the_model(stack, client):
    erin = client("erin")
    assert erin.chat("Hello [[output=60]]", max_tokens=4000).usage.completion_tokens == 60
    assert stack.model.last()["limit"] == 90
    # 30 of 90 are left. A limit that was not stated is stated now, for otherwise the hold would bound nothing.
    answer = erin.chat("Hello [[output=14]]")
    assert stack.model.last()["limit"] == 30 and answer.usage.completion_tokens == 14
    # 16 are left, and that is the floor; below it a call is refused and not clamped.
    assert erin.chat("Hello [[output=1]]").usage.completion_tokens == 1 and stack.model.last()["limit"] == 16
    knocks, reached, error = erin.knocks(lambda: erin.chat("Hello [[output=1]]"))
    assert isinstance(error, openai.RateLimitError) and error.code == "rate_limit_exceeded" and (knocks, reached) == (1, 0)


CASES = {
    "no such key": ("nobody", {}, "Hello", 401, "invalid_api_key", "authentication_error"),
    "source": ("frank", {}, "Hello", 403, "forbidden", "permission_error"),
    "model of another plan": ("gina", {"model": "demo-large"}, "Hello", 403, "forbidden", "permission_error"),
    "model of nobody": ("alice", {"model": "gpt-9"}, "Hello", 404, "model_not_found", "not_found_error"),
    "secret": ("alice", {}, "use AKIAIOSFODNN7EXAMPLE now", 403, "forbidden", "permission_error"),
    "too long": ("alice", {}, "word " * 3500, 400, "context_length_exceeded", "invalid_request_error"),
}
ERRORS = {400: "BadRequestError", 401: "AuthenticationError", 403: "PermissionDeniedError", 404: "NotFoundError"}


@pytest.mark.parametrize("case", CASES)
def test_refusals_in_each_dialect(client, case):
    seat, more, prompt, status, code, kind = CASES[case]
    one = client(seat)
    knocks, reached, error = one.knocks(lambda: one.chat(prompt, **more))
    assert type(error) is getattr(openai, ERRORS[status]) and error.code == code
    assert (knocks, reached) == (1, 0)
    knocks, reached, error = one.knocks(lambda: one.message(prompt, **more))
    assert type(error) is getattr(anthropic, ERRORS[status]) and error.body["error"]["type"] == kind
    assert (knocks, reached) == (1, 0)
    assert "AKIA" not in str(error)


def test_two_keys_are_a_conflict(client):
    alice = client("alice")
    call = lambda: alice.chat("Hello", extra_headers={"x-api-key": key("bob")})
    knocks, reached, error = alice.knocks(call)
    assert isinstance(error, openai.BadRequestError) and error.code == "conflicting_api_keys" and reached == 0
    # The same key twice is one key.
    assert alice.chat("Hello", extra_headers={"x-api-key": key("alice")}).choices


def test_no_key_at_all(stack):
    answer = requests.post(f"{stack.url}/v1/chat/completions", json=chat("Hello"), timeout=30)
    assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["error"]["code"] == "invalid_api_key"


def test_a_client_cannot_set_what_is_ours(stack, client):
    client("alice").chat("Hello", extra_headers={"x-farebox-tier": "platinum", "x-envoy-max-retries": "5"})
    seen = stack.model.last()["headers"]
    assert seen.get("x-farebox-tier") == stack.tier and "x-envoy-max-retries" not in seen


def test_balance(stack, client):
    """Last: whatever the tests above did, the records say what the model reported, to the token, and nothing else."""
    anna = client("anna")
    for n in range(5):
        anna.chat(f"Hello [[output={10 + n} cached={n}]]", model=f"demo-{n}")
        list(anna.chat(f"Hello [[output={20 + n}]]", model=f"demo-{n}", stream=True))
        anna.message(f"Hello [[output={n + 1}]]", model=f"demo-{n}")
    exchanges = [one for one in stack.model.idle() if one["outcome"] != "refused"]
    records = stack.ledger.wait(len(exchanges))
    written = sorted((e["model"], e["prompt_tokens"], e["completion_tokens"]) for e in exchanges)
    usage = [(r["model"], r["usage"]) for r in records]
    assert sorted((m, u["input"] + u["cache_read"] + u["cache_write"], u["output"]) for m, u in usage) == written
    assert {r["outcome"] for r in records} == {"complete"} and {r["source"] for r in records} == {"reported"}
    # What an account was charged is what its records add up to, priced by hand: credits per 1,000 tokens.
    for subject, quota in charged(records):
        if quota == "team/month":
            own = [r["usage"] for r in records if f"org/{r['org']}" == subject]
            priced = sum(u["input"] * 1000 + u["cache_read"] * 100 + u["output"] * 4000 for u in own)
            assert charged(records)[subject, quota] == priced * MICRO // 1_000_000
    total = stack.ledger.usage(by="org")["total"]
    print(f"{len(records)} records, {total['input']} + {total['cache_read']} in, {total['output']} out; the model says the same")
    assert total["output"] == sum(e["completion_tokens"] for e in exchanges)
    assert stack.ledger.losses() | {"unfinished": []} == {"proven": 0, "rejected": 0, "conflicts": 0, "unfinished": []}
