"""What one worker of a real Envoy has learned of how a provider counts, the other one knows."""

import re

import requests
from conftest import until
from test_seen import metrics, total
from whole import Whole, chat, key, policy

PLAN = "{tokens: {caps: {calls: {limit: 500 requests, per: seat, window: first-use 5h}}}}"
POLICY = policy("learned", {"team": PLAN}, {"ann": ("acme", "team")})
WORDS = chat("a few words that are counted here as well as that can be done")
TAUGHT = 12


def worked(one):
    """The workers that have taken in a connection of a client, by name."""
    found = one.envoy.stats(rf"^listener\..*_{one.envoy.port}\.worker_\d+\.downstream_cx_total$")
    return {re.search(r"worker_\d+", name)[0] for name, value in found.items() if value > 0}


def test_what_one_worker_has_learned_the_other_one_knows(tmp_path):
    with Whole(tmp_path, POLICY, concurrency=2) as one:
        silent = {"x-upstream": "output=5 silent"}
        with requests.Session() as connection:
            connection.headers["authorization"] = f"Bearer {key('ann')}"

            def post(orders):
                answer = connection.post(f"{one.url}/v1/chat/completions", json=WORDS, headers={"x-upstream": orders}, timeout=60)
                assert answer.status_code == 200, answer.text

            # All on one connection, so on one worker.
            post("output=5 silent")
            for _ in range(TAUGHT):
                post("output=5 input=60")
        assert len(worked(one)) == 1, "one worker has learned"
        until(lambda: total(metrics(one), "calibration_shared_total", fate="shared") == TAUGHT, 10, "it is shared")
        found = metrics(one)
        assert total(found, "calibration_total", model="demo-*", direction="input", fate="kept") == TAUGHT
        assert total(found, "calibration_total", fate="forgotten") == 0
        sent = 0
        # Each on a connection of its own, until the other worker has had some too.
        while sent < 8 or len(worked(one)) < 2:
            assert one.post("ann", WORDS, headers=silent).status_code == 200
            sent += 1
            assert sent < 200, "the other worker takes no connection"
        records = one.ledger.wait(1 + TAUGHT + sent)
        told = [record["usage"]["input"] for record in sorted(records, key=lambda record: record["admitted_ms"])]
        counted = told[0]
        assert counted < 40 and told[1 : 1 + TAUGHT] == [60] * TAUGHT, told
        assert told[1 + TAUGHT :] == [60] * sent, f"{counted} counted; {told}"
