"""Rows of the plans' tables that no case can carry out: what runs at one time, in a real Envoy."""

import contextlib

import pytest
import requests
from conftest import ROOT, until
from whole import Whole

ZHIPU = (ROOT / "examples/plans/zhipu-glm-coding-plan/policy.yaml").read_text()
HEADERS = {"user-agent": "claude-cli/2.1"}


@pytest.fixture(scope="module")
def zhipu(tmp_path_factory):
    with Whole(tmp_path_factory.mktemp("zhipu"), ZHIPU) as whole:
        yield whole


def call(stack, seat, words):
    """A streamed call, as soon as its headers have come."""
    body = {"model": "glm-4.7", "max_tokens": 20, "stream": True, "messages": [{"role": "user", "content": words}]}
    headers = {**HEADERS, "authorization": f"Bearer demo-{seat}"}
    return requests.post(f"{stack.url}/v1/chat/completions", json=body, headers=headers, stream=True, timeout=60)


@pytest.mark.parametrize("seat, tier, most", [("ann", "lite", 2), ("ben", "pro", 5), ("cat", "max", 10)])
def test_as_many_calls_run_as_the_tier_has(zhipu, seat, tier, most):
    with contextlib.ExitStack() as running:
        for number in range(most):
            answer = running.enter_context(call(zhipu, seat, f"run {number} [[stall=2]]"))
            assert answer.status_code == 200, f"{tier} has {most} at a time, and call {number + 1} is refused: {answer.text}"
        one_more = call(zhipu, seat, "one more")
        assert one_more.status_code == 429 and one_more.json()["error"]["code"] == "rate_limit_exceeded", one_more.text
        assert "live" in one_more.json()["error"]["message"] and int(one_more.headers["retry-after"]) == 1
    # They have hung up.
    until(lambda: call(zhipu, seat, "and again").status_code == 200, 20, "there is room again")
