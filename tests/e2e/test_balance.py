"""Callers are told how their quotas stand: on a page of their own, in answers; and operators in records."""

import pytest
import requests
from conftest import until
from whole import Whole, chat, key, policy

PLAN = """{tokens: {
      funds: {month: {amount: 1000 tokens, per: seat, window: calendar month}},
      caps: {calls: {limit: 10 requests, per: org, window: first-use 5h}, live: {limit: 4 requests, per: seat, window: concurrent}},
      warn: {at: [50, 80, 100], headers: true}}}"""
POLICY = policy("told", {"team": PLAN}, {"alice": ("acme", "team"), "bert": ("bolt", "team")}, more="balance: /v1/farebox/balance")


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    with Whole(tmp_path_factory.mktemp("told"), POLICY) as whole:
        yield whole


def balance(stack, seat):
    answer = requests.get(
        f"{stack.url}/v1/farebox/balance?now", headers={"authorization": f"Bearer {key(seat)}"}, timeout=10
    )
    assert answer.status_code == 200, answer.text
    page = answer.json()
    return page["seat"], page["plan"], {quota["name"]: quota for quota in page["quotas"]}


def test_a_key_sees_its_own_quotas_and_nobody_elses(stack):
    answer = stack.post("alice", chat("Hello [[output=100 input=400]]"))
    assert answer.status_code == 200
    seat, plan, quotas = balance(stack, "alice")
    assert (seat, plan) == ("alice", "team")
    assert (quotas["month"]["used"], quotas["month"]["left"], quotas["month"]["limit"]) == (500, 500, 1000)
    assert (quotas["calls"]["used"], quotas["calls"]["left"], quotas["calls"]["unit"]) == (1, 9, "requests")
    assert quotas["month"]["resets"].endswith("Z") and quotas["live"]["held"] == 0
    # Nobody has asked the ledger about Bert yet, so nobody claims to know.
    assert balance(stack, "bert")[2]["month"]["left"] is None
    bare = f"{stack.url}/v1/farebox/balance"
    assert requests.get(bare, timeout=10).status_code == 401
    assert requests.post(bare, headers={"authorization": f"Bearer {key('alice')}"}, timeout=10).status_code == 404


def test_answers_say_how_full_the_quotas_are_and_records_what_they_reached(stack):
    # Prompts of some tokens each, which the model counts as we do: what it reported beyond that would raise later bounds.
    answer = stack.post("bert", chat("Hello [[output=530]]", max_tokens=530))
    assert "month=" in answer.headers["x-quota-used-percent"], answer.headers
    assert '"month";' in answer.headers["ratelimit"] and '"calls";q=10' in answer.headers["ratelimit-policy"]
    stack.post("bert", chat("Hello [[output=10]]", max_tokens=10))
    stack.post("bert", chat("Hello [[output=270]]", max_tokens=270))

    def records():
        return [record for record in stack.ledger.records() if record["seat"] == "bert"]

    until(lambda: len(records()) == 3, 10, "all are recorded")
    records = sorted(records(), key=lambda record: record["admitted_ms"])
    reached = [[(entry["quota"], entry["percent"]) for entry in record["reached"]] for record in records]
    # Two workers, and each says it once.
    assert reached[0] == [("team/month", 50)] and reached[2] == [("team/month", 80)], reached
    assert reached[1] in ([], [("team/month", 50)]), reached
