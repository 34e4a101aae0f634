"""What operators see: labelled metrics, one JSON line an exchange; and what clients do not."""

import re

import pytest
import requests
from conftest import until
from whole import Whole, chat, policy

HOLD = "hold: {unstated_output: 200, shrink_to: 16, lost: charge}"
TEAM = f"""{{tokens: {{caps: {{calls: {{limit: 4 requests, per: seat, window: first-use 5h}}}}, {HOLD}}},
      connectivity: {{tier: gold}}, security: {{models: ["demo-*"]}}}}"""
POLICY = policy("seen", {"team": TEAM}, {"alice": ("acme", "team"), "bert": ("bolt", "team")})


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    with Whole(tmp_path_factory.mktemp("seen"), POLICY) as whole:
        yield whole


@pytest.fixture(scope="module")
def answers(stack):
    """One of each kind, by the name of what happened."""
    said = {
        "complete": stack.post("alice", chat("Hello [[output=7 input=20 cached=5]]", model="demo-whole")),
        "silent": stack.post("alice", chat("Hello [[output=9 silent]]", model="demo-silent")),
        "stream": stack.post("alice", chat("Hello [[output=11]]", model="demo-stream", stream=True)),
        "error": stack.post("alice", chat("[[error=500]]", model="demo-error")),
        "other": stack.post("bert", chat("Hello [[output=3]]", model="demo-other")),
        # The error cost nothing, so a fourth one fits.
        "fourth": stack.post("alice", chat("Hello [[output=1]]", model="demo-fourth")),
        "capped": stack.post("alice", chat("Hello")),
        "stranger": stack.post("nobody", chat("Hello")),
    }
    until(lambda: len(stack.envoy.access_log()) >= 8, 10, "all are logged")
    return said


def metrics(whole):
    """(name, labels as a set) -> value, of what is Farebox's own."""
    text = requests.get(f"{whole.envoy.admin}/stats/prometheus", timeout=10).text
    found = {}
    for name, labels, value in re.findall(r"^(\w*farebox\w*)\{(.*)\} (\d+)$", text, re.M):
        found[name.split("farebox_", 1)[-1], frozenset(re.findall(r'(\w+)="([^"]*)"', labels))] = int(value)
    return found


def total(found, name, **labels):
    return sum(value for (of, has), value in found.items() if of == name and labels.items() <= dict(has).items())


def test_metrics_carry_labels(stack, answers):
    found = metrics(stack)
    assert total(found, "exchanges_total", org="acme", plan="team", model="demo-*", outcome="complete") == 3
    assert total(found, "exchanges_total", org="acme", plan="team", outcome="complete_silent") == 1
    assert total(found, "exchanges_total", org="acme", outcome="upstream_error") == 1
    assert total(found, "exchanges_total", org="bolt", plan="team", model="demo-*", outcome="complete") == 1
    assert total(found, "exchanges_total") == 6, "a refusal is no exchange"
    assert total(found, "refusals_total", kind="rate", by="calls") == 1
    assert total(found, "refusals_total", kind="unauthenticated", by="identity") == 1
    assert total(found, "tokens_total", org="acme", plan="team", direction="output") == 7 + 9 + 11 + 1
    assert total(found, "tokens_total", org="acme", direction="cache_read") == 5
    assert total(found, "tokens_total", org="bolt", direction="output") == 3
    assert total(found, "estimated_total", org="acme") == 1
    # What is a label is in no name, and keys are nowhere.
    assert not [name for name, _ in found if "acme" in name or "demo" in name or ";" in name]
    assert "key-alice" not in str(found)


def test_access_log(stack, answers):
    lines = stack.envoy.access_log()
    by_model = {line["model"]: line for line in lines if "model" in line}
    line = by_model["demo-whole"]
    assert (line["decision"], line["admitted"], line["outcome"], line["source"]) == ("allow", "yes", "complete", "reported")
    assert (line["seat"], line["org"], line["dialect"], line["input"], line["output"]) == ("alice", "acme", "openai-chat", "20", "7")
    assert by_model["demo-silent"]["source"] == "estimated" and by_model["demo-silent"]["output"] == "9"
    assert by_model["demo-stream"]["output"] == "11"
    # The id is that of the record.
    ids = {record["model"]: record["id"] for record in stack.ledger.wait(6)}
    assert {model: line["id"] for model, line in by_model.items()} == ids

    (capped,), (stranger,) = [[one for one in lines if one.get("denied_by") == by] for by in ("calls", "identity")]
    assert capped["decision"] == "deny" and capped["status"] == 429 and "seat/alice" in capped["reason"]
    assert stranger["decision"] == "deny" and stranger["status"] == 401 and stranger["reason"] == "unknown key"
    # The caller is told the same id, and less about how the account stands.
    denied = answers["capped"]
    assert denied.headers["x-request-id"] == capped["id"]
    assert denied.headers["x-request-id"] in denied.text and "seat/alice" not in denied.text
    assert "key-" not in stack.envoy.access_path.read_text()


def test_nothing_internal_reaches_the_client(stack, answers):
    assert stack.model.exchanges()[0]["headers"]["x-farebox-tier"] == "gold", "the tier is set, so there is something to hide"
    for name, answer in answers.items():
        assert not [h for h in answer.headers if h.lower().startswith(("x-farebox", "x-envoy"))], name
