"""Guards that go by what came before, or by how long it takes, in every dialect: agents that repeat themselves, models that rest, and
documents that do not come. Streams: test_streams.py."""

import concurrent.futures

import pytest
from documents import CALLS, DIALECTS, Answers, ask, complaint, messages
from whole import behind, policy

PLANS = {
    "repeats": "{security: {repeats: {most: 2, within: 10m}}}",
    "repeats-slow": "{security: {repeats: {most: 2, within: 10m, slow: 100ms}}}",
    "repeats-watch": "{security: {repeats: {most: 2, within: 10m}, observe: [repeats]}}",
    "loops": "{security: {loops: {most: 2}}}",
    "loops-slow": "{security: {loops: {most: 2, slow: 100ms}}}",
    "loops-watch": "{security: {loops: {most: 2}, observe: [loops]}}",
    "rests": "{connectivity: {fallback: [{models: [large], to: demo, for: 10m, longest: 10m}]}}",
    "lively": "{connectivity: {response: {idle: 300ms}}}",
    "brief": "{connectivity: {response: {duration: 300ms}}}",
    "late": "{connectivity: {response: {first_token: 300ms}}}",
}
POLICY = policy("over-time", PLANS, {plan: ("acme", plan) for plan in PLANS}, models='"*": {count: o200k_base}\nlarge: {count: o200k_base}')


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    with behind(Answers(), tmp_path_factory.mktemp("over-time"), POLICY) as stack:
        yield stack


def judged(stack, guard, dialect, stream, more):
    """Two calls that are alike pass, and the third does not, or late, or is only counted."""
    for plan, denied in ((guard, True), (f"{guard}-slow", False), (f"{guard}-watch", False)):
        for time in (1, 2, 3):
            answer, reached = ask(stack, plan, dialect, stream, f"{dialect} {stream}", more=more(time))
            what = f"{plan}, {dialect}, {'streamed' if stream else 'whole'}, {time}: {answer.status_code} {answer.text}"
            if denied and time == 3:
                assert (answer.status_code in (403, 429), reached) == (True, 0) and complaint(dialect, answer), what
            else:
                assert (answer.status_code, reached) == (200, 1), what


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_call_that_is_repeated_is_refused_slowed_down_or_observed(stack, dialect):
    for stream in (False, True):
        judged(stack, "repeats", dialect, stream, lambda time: {})


def told(dialect, times):
    """A conversation in which a tool was called so often, always alike."""
    answer = CALLS[dialect]("look", {"q": 1})
    if dialect == "openai chat":
        return {"messages": [*messages("hi"), *[answer["choices"][0]["message"]] * times]}
    if dialect == "openai responses":
        return {"input": [{"role": "user", "content": "hi"}, *answer["output"] * times]}
    if dialect in ("anthropic messages", "bedrock invoke"):
        return {"messages": [*messages("hi"), *[{"role": "assistant", "content": answer["content"]}] * times]}
    if dialect == "gemini generate":
        return {"contents": [{"role": "user", "parts": [{"text": "hi"}]}, *[answer["candidates"][0]["content"]] * times]}
    if dialect == "gemini interactions":
        return {"input": [{"role": "user", "content": "hi"}, *[{"role": "model", "content": answer["outputs"]}] * times]}
    if dialect == "bedrock converse":
        return {"messages": [{"role": "user", "content": [{"text": "hi"}]}, *[answer["output"]["message"]] * times]}
    if dialect == "cohere v1":
        return {"message": "hi", "chat_history": [{"role": "CHATBOT", "message": "", "tool_calls": answer["tool_calls"]}] * times}
    if dialect == "dashscope":
        return {"input": {"messages": [*messages("hi"), *[answer["output"]["choices"][0]["message"]] * times]}}
    return {"messages": [*messages("hi"), *[answer["message"]] * times]}


@pytest.mark.parametrize("dialect", CALLS)
def test_a_tool_that_is_called_in_a_loop_is_refused_slowed_down_or_observed(stack, dialect):
    for stream in (False, True):
        judged(stack, "loops", dialect, stream, lambda time: told(dialect, time))


# Where the model stands in the path, a call goes where it would have gone.
PATHS = ("gemini generate", "bedrock converse", "bedrock invoke", "generate")


@pytest.mark.parametrize("dialect", [dialect for dialect in DIALECTS if dialect not in PATHS])
def test_a_model_that_rests_is_answered_for(stack, dialect):
    _, upstream = stack
    upstream.down = ("large",)
    try:
        answer, reached = ask(stack, "rests", dialect, more={"model": "large"})
        # The first of all has failed; each thereafter goes to the other model.
        assert reached == 1 and answer.status_code == (503 if upstream.heard["model"] == "large" else 200)
        for stream in (False, True):
            answer, reached = ask(stack, "rests", dialect, stream, more={"model": "large"})
            assert (answer.status_code, reached, upstream.heard["model"]) == (200, 1, "demo"), answer.text
    finally:
        upstream.down = ()


def test_a_document_that_does_not_come_is_an_error_in_its_place(stack):
    _, upstream = stack
    for plan, before, behind in (("lively", 0, 2), ("brief", 2, 0), ("brief", 0, 2), ("late", 2, 0)):
        upstream.delay, upstream.stall = before, behind
        try:
            with concurrent.futures.ThreadPoolExecutor(len(DIALECTS)) as pool:
                answers = dict(zip(DIALECTS, pool.map(lambda dialect: ask(stack, plan, dialect)[0], DIALECTS)))
        finally:
            upstream.delay = upstream.stall = 0
        for dialect, answer in answers.items():
            assert answer.status_code == 504 and complaint(dialect, answer), f"{plan}, {dialect}: {answer.status_code} {answer.text}"
    for plan in ("lively", "brief", "late"):
        for dialect in DIALECTS:
            answer, _ = ask(stack, plan, dialect, said="in time")
            assert answer.json() == DIALECTS[dialect][3]("in time")


def test_all_of_it_is_counted(stack):
    stack[0].unharmed()
