"""Answers that begin late, fall silent or take too long: what callers see, that the upstream is let go, and what it costs."""

import concurrent.futures

import anthropic
import openai
import pytest
import requests
from conftest import until
from whole import MICRO, Whole, chat, first, key, policy

OPENAI, ANTHROPIC = "/v1/chat/completions", "/v1/messages"


def plan(response, more=""):
    return f"{{tokens: {{caps: {{all: {{limit: 1m tokens, per: seat, window: lifetime}}}}{more}}}, connectivity: {{response: {{{response}}}}}}}"


PLANS = {
    "prompt": plan("first_token: 3s"),
    "lively": plan("idle: 2s"),
    "brief": plan("duration: 2s"),
    "all": plan("first_token: 4s, idle: 4s, duration: 12s", ", hold: {stream: slices, slice: 20}"),
}
SEATS = {f"{plan}-{n}": (f"org-{plan}", plan) for plan in PLANS for n in range(8)}
POLICY = policy("timing", PLANS, SEATS)


@pytest.fixture(scope="module", params=["held", "first"])
def stack(tmp_path_factory, request):
    with Whole(tmp_path_factory.mktemp("timing"), POLICY if request.param == "held" else first(POLICY), gated=True) as whole:
        whole.held = request.param == "held"
        yield whole


def sdks(whole, seat):
    settings = {"api_key": key(seat), "max_retries": 0, "timeout": 30}
    return openai.OpenAI(base_url=f"{whole.url}/v1", **settings), anthropic.Anthropic(base_url=whole.url, **settings)


def asked(prompt):
    return [{"role": "user", "content": prompt}]


def settled(whole, model, outcome, output):
    """It made one record, which says this, and was charged its input and this output."""
    (record,) = until(lambda: [r for r in whole.ledger.records() if r["model"] == model], 30, f"the record of {model}")
    assert (record["outcome"], record["delivered"], record["usage"]["output"]) == (outcome, output, output)
    assert [c["amount"] for c in record["charges"]] == [(record["usage"]["input"] + output) * MICRO]
    return record


def let_go(whole, model):
    """The upstream was broken off, and the time that it had worked for by then."""
    (exchange,) = until(lambda: [e for e in whole.model.idle() if e["model"] == model], 30, f"the upstream knows of {model}")
    assert exchange["outcome"] == "aborted"
    return exchange


def ended_by(whole, guard):
    stats = requests.get(f"{whole.envoy.admin}/stats", params={"filter": "refused_answers_total"}, timeout=10).text
    return sum(int(line.rsplit(": ", 1)[1]) for line in stats.splitlines() if f".by={guard};" in line)


def test_sdks_understand_an_answer_that_does_not_begin(stack):
    chats, messages = sdks(stack, "prompt-0")
    before = ended_by(stack, "first_token")
    with pytest.raises(openai.InternalServerError) as late:
        chats.chat.completions.create(model="demo-late", messages=asked("Hello [[slow-headers=20s]]"))
    assert (late.value.status_code, late.value.code) == (504, "timeout") and "did not begin to answer within 3s" in late.value.message
    with pytest.raises(anthropic.APIStatusError) as late:
        messages.messages.create(model="demo-later", max_tokens=50, messages=asked("Hello [[slow-headers=20s]]"))
    assert (late.value.status_code, late.value.body["error"]["type"]) == (504, "timeout_error")
    for model in ("demo-late", "demo-later"):
        settled(stack, model, "no_response", 0)
        let_go(stack, model)
    assert ended_by(stack, "first_token") == before + 2


@pytest.mark.parametrize("path", [OPENAI, ANTHROPIC])
def test_a_stream_that_begins_without_a_token_is_late(stack, path):
    """Its headers have come. Where they can be held, the caller does not know."""
    model = f"demo-empty-{path.rsplit('/', 1)[1]}"
    body = chat("Hello [[stall=0]]", model=model, stream=True, max_tokens=50)
    if stack.held:
        answer = stack.post("prompt-1", body, path=path)
        assert answer.status_code == 504 and answer.json()["error"]["type"] in ("server_error", "timeout_error")
        assert answer.headers["x-should-retry"] == "true"
    else:
        answer = stack.post("prompt-1", body, path=path, stream=True)
        assert answer.status_code == 200
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            answer.content  # noqa: B018
    settled(stack, model, "cut_by_us", 0)
    let_go(stack, model)


@pytest.mark.parametrize("path", [OPENAI, ANTHROPIC])
def test_an_answer_in_time_loses_nothing(stack, path):
    """Whatever waited for the first token leaves with it, in its order."""
    for seat in ("prompt-2", "lively-2", "all-2"):
        for more in ({"stream": True}, {}):
            body = chat("Hello [[output=30 comments]]", model="demo-same", max_tokens=50, **more)
            ours = stack.post(seat, body, path=path)
            theirs = requests.post(stack.model.url + path, json=body, timeout=30)
            assert (ours.status_code, theirs.status_code) == (200, 200)
            texts = [text.text.replace(i, "") for text, i in ((ours, identity(ours)), (theirs, identity(theirs)))]
            assert len(texts[0]) > 300 and words(texts[0]) == words(texts[1])


def identity(answer):
    text = answer.text.split('"id":"', 1)[1]
    return text.split('"', 1)[0]


def words(text):
    """How often each kind of event is there: the words themselves are drawn anew."""
    kinds = ('"content":', "text_delta", "[DONE]", "message_stop", ": ping", "finish_reason", "stop_reason")
    return [text.count(kind) for kind in kinds]


def test_a_slow_beginning_leaves_at_its_first_token(stack):
    """Not only when all is said."""
    body = chat("Hello [[output=12 pace=300ms]]", model="demo-slow", stream=True)
    answer = stack.post("prompt-3", body, stream=True)
    pieces = answer.iter_content(None)
    assert b"[DONE]" not in next(pieces)
    assert b"".join(pieces).endswith(b"data: [DONE]\n\n")
    settled(stack, "demo-slow", "complete", 12)


@pytest.mark.parametrize("path", [OPENAI, ANTHROPIC])
def test_a_stream_that_falls_silent_is_broken_off(stack, path):
    model = f"demo-silent-{path.rsplit('/', 1)[1]}"
    before = ended_by(stack, "idle")
    got = b""
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        body = chat("Hello [[output=50 stall=7 pace=5ms]]", model=model, stream=True, max_tokens=80)
        for piece in stack.post("lively-3", body, path=path, stream=True).iter_content(None):
            got += piece
    assert got.count(b'"content":"') - got.count(b'"content":""') == 7 if path == OPENAI else got.count(b"text_delta") == 7
    assert b"finish_reason\":\"" not in got and b"message_stop" not in got, "it is no finished answer"
    settled(stack, model, "cut_by_us", 7)
    let_go(stack, model)
    assert ended_by(stack, "idle") == before + 1


def test_a_stream_that_drips_is_not_silent(stack):
    chunks = stack.post("lively-4", chat("Hello [[output=8 pace=500ms]]", model="demo-drips", stream=True)).text
    assert chunks.endswith("data: [DONE]\n\n")
    settled(stack, "demo-drips", "complete", 8)


def test_a_stream_that_takes_all_its_time_ends_legally(stack):
    chats, messages = sdks(stack, "brief-0")
    chunks = []
    for chunk in chats.chat.completions.create(model="demo-long", messages=asked("Hello [[output=500 pace=20ms]]"), stream=True):
        chunks.append(chunk)
        if chunk.choices[0].finish_reason:
            break
    assert chunks[-1].choices[0].finish_reason == "length"
    settled(stack, "demo-long", "cut_by_us", len([c for c in chunks if c.choices[0].delta.content]))
    assert let_go(stack, "demo-long")["written_tokens"] < 300
    kinds = []
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        body = chat("Hello [[output=500 pace=20ms]]", model="demo-longer", stream=True, max_tokens=900)
        for line in stack.post("brief-1", body, path=ANTHROPIC, stream=True).iter_lines():
            kinds += [line[7:]] if line.startswith(b"event: ") else []
    assert kinds[-2:] == [b"message_delta", b"message_stop"]
    settled(stack, "demo-longer", "cut_by_us", kinds.count(b"content_block_delta"))


def test_a_document_that_takes_too_long_is_an_error_and_not_to_be_tried_again(stack):
    answer = stack.post("brief-2", chat("Hello [[slow-headers=20s]]", model="demo-document"))
    assert (answer.status_code, answer.json()["error"]["code"], answer.headers["x-should-retry"]) == (504, "timeout", "false")
    settled(stack, "demo-document", "no_response", 0)
    let_go(stack, "demo-document")


def test_a_body_that_ends_by_trailers_was_in_time(stack):
    for n, more in enumerate(({"stream": True}, {})):
        answer = stack.post("all-3", chat("Hello [[output=9 trailers]]", model=f"demo-trailers-{n}", **more))
        assert answer.status_code == 200 and len(answer.content) > 100
        settled(stack, f"demo-trailers-{n}", "complete", 9)


def test_a_crowd_is_timed_one_by_one(stack):
    """In each of 40 streams at once the limit that it passes ends it, and those that pass none go on."""
    ways = [("slow-headers=20s", "no_response", 0), ("output=90 stall=9", "cut_by_us", 9), ("output=12 pace=200ms", "complete", 12), ("output=3", "complete", 3)]

    def ask(n):
        way, outcome, output = ways[n % len(ways)]
        try:
            stack.post(f"all-{n % 8}", chat(f"Hello [[{way}]]", model=f"demo-crowd-{n}", stream=True, max_tokens=100))
        except requests.exceptions.ChunkedEncodingError:
            assert outcome == "cut_by_us"
        return settled(stack, f"demo-crowd-{n}", outcome, output)

    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        assert len(list(pool.map(ask, range(40)))) == 40
