"""Agents: 100,000 cached tokens a turn, 32,000 declared, some 600 used, eight at once. What they get out of a fund.

`make torture` adds the other ways to hold, and larger funds, for comparison.
"""

import collections
import http.client
import json
import random
import threading
import time

import pytest
from whole import MICRO, Whole, charged, key, policy

AGENTS, DECLARED, CACHED, NEW = 8, 32_000, 100_000, 300
MODELS = "agent: {count: o200k_base, credits: {input: 1, cache_read: 0.1, cache_write: 1.25, output: 5}}"
# Ways to hold: what the fund says, and what the plan does.
WAYS = {"worst": ("", ""), "slices": ("", "stream: slices, slice: 1024"), "expected": ("hold: expected", "")}
SENTENCE = "The quick brown fox jumps over the lazy dog, and nobody counts how often. "
TURNS = [{"role": ("user", "assistant")[n % 2], "content": SENTENCE * 156} for n in range(40)]


def plan(way, amount):
    fund, hold = WAYS[way]
    fund = f"{{amount: {amount} credits, per: org, window: calendar month, {fund}}}"
    return f"{{tokens: {{funds: {{month: {fund}}}, hold: {{shrink_to: 1024, {hold}}}}}}}"


class Crew:
    """Eight agents of one seat, each of which goes on until one of them hears that the fund is exhausted."""

    def __init__(self, whole, seat):
        self.whole, self.seat = whole, seat
        self.said = collections.Counter()
        self.over = threading.Event()
        self._lock = threading.Lock()
        threads = [threading.Thread(target=self._agent, args=(random.Random(n),), daemon=True) for n in range(AGENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(240)
            assert not thread.is_alive(), self.said

    def _agent(self, chance):
        connection = http.client.HTTPConnection("127.0.0.1", self.whole.envoy.port, timeout=60)
        while not self.over.is_set():
            what = self._turn(connection, chance)
            with self._lock:
                self.said[what] += 1
            if what == "exhausted":
                self.over.set()
            elif what == "busy":
                time.sleep(chance.uniform(0.1, 0.3))

    def _turn(self, connection, chance):
        told = f"[[cached={CACHED} input={CACHED + NEW} output={chance.randint(400, 800)} slow-headers=200ms]]"
        body = {"model": "agent", "max_tokens": DECLARED, "stream": True, "messages": [*TURNS, {"role": "user", "content": told}]}
        connection.request("POST", "/v1/messages", json.dumps(body), {"x-api-key": key(self.seat)})
        answer = connection.getresponse()
        text = answer.read().decode()
        if answer.status == 200:
            return "turns" if '"stop_reason":"end_turn"' in text else "shortened"
        assert answer.status == 429, (answer.status, text)
        return "busy" if answer.headers["x-should-retry"] == "true" else "exhausted"


@pytest.mark.parametrize(
    "ways, funds", [(["expected"], [800]), pytest.param(list(WAYS), [800, 4_000], marks=pytest.mark.torture)], ids=["brief", "full"]
)
def test_what_agents_get_out_of_a_fund(tmp_path, ways, funds):
    rows = {f"{way}-{amount}": (way, amount) for amount in funds for way in ways}
    plans = {name: plan(*row) for name, row in rows.items()}
    with Whole(tmp_path, policy("agents", plans, {name: (name, name) for name in plans}, MODELS)) as one:
        crews = {name: Crew(one, name) for name in rows}
        turns = sum(crew.said["turns"] + crew.said["shortened"] for crew in crews.values())
        spent = charged(one.ledger.wait(turns))
        print(f"{AGENTS} agents, {CACHED:,} cached tokens a turn, {DECLARED:,} declared, 400 to 800 used; until the first is told that the fund is exhausted")
        print("hold          fund     turns  shortened  told to wait     used       over")
        for name, (way, amount) in rows.items():
            said, used = crews[name].said, spent[f"org/{name}", f"{name}/month"] / MICRO
            print(f"{way:<10}{amount:>8,}{said['turns'] + said['shortened']:>10}{said['shortened']:>11}{said['busy']:>14}", end="")
            print(f"{min(1, used / amount):>9.2%}{max(0, used - amount):>11.3f}")
            if way == "expected":
                assert used >= 0.95 * amount and said["shortened"] == 0
