"""What lets a model rest on a real Envoy, and what does not."""

import pytest
from conftest import free_port
from test_seen import metrics, total
from whole import Whole, chat, policy

MODELS = "demo-large: {count: o200k_base}\ndemo-small: {count: o200k_base}"
RULE = "{connectivity: {fallback: [{models: [demo-large], to: demo-small, for: 60s}]}}"
POLICY = policy("fallback", {"team": RULE}, {"ann": ("acme", "team")}, MODELS)
LARGE = chat("hi", model="demo-large")

# How Envoy's configuration is changed, and the path that is asked for.
NOWHERE = {
    "no route": ("match: {prefix: /}", "match: {prefix: /v1/}", "/else/v1/chat/completions", 404),
    "a circuit breaker": ("max_pending_requests: 16384", "max_pending_requests: 0", "/v1/chat/completions", 503),
}


def test_an_upstream_that_cannot_be_reached_lets_a_model_rest(tmp_path):
    with Whole(tmp_path, POLICY, upstream=free_port()) as one:
        for calls in (1, 2, 3):
            assert one.post("ann", LARGE).status_code == 503
            # Its client hears of a failure before the filter does.
            records = one.ledger.wait(calls)
        assert [record["outcome"] for record in records] == ["connect_failure"] * 3
        found = metrics(one)
        assert total(found, "rests_total", model="demo-large", why="connect_failure") == total(found, "rests_total") == 1
        assert total(found, "fallbacks_total", model="demo-large") == 2


@pytest.mark.parametrize("why", NOWHERE)
def test_what_envoy_itself_sends_nowhere_says_nothing_of_an_upstream(tmp_path, why):
    was, is_now, path, status = NOWHERE[why]

    def edit(text):
        assert was in text
        return text.replace(was, is_now)

    with Whole(tmp_path, POLICY, edit=edit) as one:
        assert one.post("ann", LARGE, path).status_code == status
        (record,) = one.ledger.wait(1)
        assert (record["outcome"], one.model.exchanges()) == ("connect_failure", [])
        assert one.post("ann", LARGE, path).status_code == status
        one.ledger.wait(2)
        found = metrics(one)
        assert total(found, "rests_total") == total(found, "fallbacks_total") == 0
