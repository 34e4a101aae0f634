"""The collector away, killed, slow, or talking nonsense: no call is harmed, and every record arrives once."""

import collections
import http.server
import itertools
import signal
import socketserver
import threading
import time

import msgpack
import pytest
import requests
from conftest import free_port, until
from whole import MICRO, Whole, charged, chat, key, policy

HOLD = "hold: {unstated_output: 200, shrink_to: 16, lost: charge}"
TEAM = f"""{{tokens: {{
      funds: {{month: {{amount: 1b credits, per: org, window: calendar month}}}},
      caps: {{day: {{limit: 1b tokens, per: seat, window: first-use 5h}}, calls: {{limit: 100m requests, per: seat, window: first-use 5h}}}},
      {HOLD}}}}}"""
POLICY = policy("outage", {"team": TEAM}, {"alice": ("acme", "team"), "anna": ("acme", "team"), "zoe": ("zoo", "team")})

PATHS = itertools.cycle(["/v1/chat/completions", "/v1/messages"])


class Load:
    """Clients that call and call, each call with a model's name of its own. Leaving ends them and looks at what they got."""

    def __init__(self, whole, clients=8, rest=0.05):
        self.whole, self.rest = whole, rest
        self.numbers = itertools.count()
        self.statuses = collections.Counter()
        self.faults = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._client, args=(seat,)) for seat in ["alice", "anna"] * (clients // 2)]

    def _client(self, seat):
        session = requests.Session()
        session.headers["authorization"] = f"Bearer {key(seat)}"
        while not self._stop.wait(self.rest):
            n = next(self.numbers)
            body = chat(f"Hello {n}", model=f"demo-{n}", max_tokens=50, stream=n % 3 == 0)
            try:
                answer = session.post(self.whole.url + next(PATHS), json=body, timeout=60)
                whole = answer.text.endswith("data: [DONE]\n\n") or "message_stop" in answer.text if body["stream"] else answer.json()
                self.statuses[answer.status_code if whole else "cut"] += 1
                if answer.status_code != 200:
                    self.faults.append(answer.text)
            except (requests.RequestException, ValueError) as fault:
                self.statuses[type(fault).__name__] += 1
                self.faults.append(str(fault))

    def served(self):
        return self.statuses[200]

    def goes_on(self, calls, seconds=60):
        """Waits until so many more calls were served."""
        target = self.served() + calls
        until(lambda: self.served() >= target or self.faults, seconds, f"{calls} more calls are served")

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        self.goes_on(10)
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
        self.statuses = +self.statuses
        assert self.statuses.keys() == {200}, (self.statuses, self.faults[:3])


def every_record_once(whole, what):
    """The ledger has each exchange of the model once, to the token, and what it says was used is what its records say."""
    exchanges = whole.model.idle()
    records = whole.ledger.wait(len(exchanges))
    asked = sorted((e["model"], e["prompt_tokens"], e["completion_tokens"]) for e in exchanges)
    assert sorted((r["model"], r["usage"]["input"], r["usage"]["output"]) for r in records) == asked
    assert len({r["id"] for r in records}) == len(records)
    tokens = sum(e["prompt_tokens"] + e["completion_tokens"] for e in exchanges)
    for quota, amount in {"team/day": tokens, "team/calls": len(exchanges)}.items():
        assert sum(v for (_, q), v in charged(records).items() if q == quota) == amount * MICRO

    def settled():
        quotas = whole.ledger.get("accounts")["quotas"]
        return quotas and all(q["used"] == q["used_by_records"] for q in quotas) and quotas

    until(settled, 30, "what the Envoys report as used is the sum of the records")
    losses = whole.ledger.losses()
    assert (losses["proven"], losses["rejected"], losses["conflicts"]) == (0, 0, 0)
    print(f"{what}: {len(exchanges)} calls served, {len(records)} records, {tokens} tokens on both sides, 0 lost, 0 twice")


@pytest.mark.parametrize("seconds", [4, pytest.param(30, marks=pytest.mark.torture)])
def test_down_under_load(tmp_path, seconds):
    with Whole(tmp_path, POLICY) as whole:
        with Load(whole) as load:
            whole.ledger.kill()
            before = load.served()
            time.sleep(seconds)
            assert load.served() > before
            waiting = load.served() - len(whole.ledger.records())
            # Whoever was never granted anything cannot be served now, and is told that it is not their fault.
            answer = whole.post("zoe", chat("Hello"))
            assert answer.status_code == 503 and answer.headers["x-should-retry"] == "true", answer.text
            assert "quotas cannot be checked" in answer.json()["error"]["message"]
            whole.ledger.start()
            load.goes_on(20)
        assert whole.post("zoe", chat("Hello", model="demo-zoe")).status_code == 200
        print(f"about {waiting} records waited when the collector came back after {seconds} s")
        every_record_once(whole, f"collector down for {seconds} s")


class Between:
    """Stands between Envoy and the collector, and misbehaves once, as `fault` says, to a sync that carries records."""

    def __init__(self, whole=None):
        self.whole = whole
        self.port = free_port()
        self.fault = None
        self.met = collections.Counter()
        self._lock = threading.Lock()
        self.passed = 0
        between = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                unpacker = msgpack.Unpacker()
                unpacker.feed(body)
                try:
                    between.sync(self, body, unpacker.unpack()["records"])
                except OSError:
                    self.close_connection = True

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", self.port), Handler, bind_and_activate=False)
        self._server.allow_reuse_address = self._server.daemon_threads = True
        self._server.server_bind()
        self._server.server_activate()
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def forward(self, body):
        return requests.post(f"{self.whole.ledger.url}/v1/sync", data=body, timeout=20)

    def sync(self, handler, body, records):
        with self._lock:
            fault = self.fault if records else None
            self.fault = None if records else self.fault
        if fault is None:
            try:
                answer = self.forward(body)
            except requests.RequestException:
                return self.hang_up(handler)
            self.send(handler, answer.status_code, answer.content)
            self.passed += records > 0 and answer.status_code == 200
            return
        try:
            getattr(self, fault)(handler, body)
        finally:
            self.met[fault] += 1

    @staticmethod
    def send(handler, status, body, announced=None):
        handler.send_response(status)
        handler.send_header("content-length", str(announced or len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    @staticmethod
    def hang_up(handler):
        handler.close_connection = True

    # The faults.

    def resets(self, handler, body):
        self.hang_up(handler)

    def answers_500(self, handler, body):
        self.send(handler, 500, b"something broke")

    def answers_garbage(self, handler, body):
        self.send(handler, 200, b"\xc1\xff<html>not what was asked for</html>")

    def answers_something_else(self, handler, body):
        """Well-formed, and nothing that a collector would say."""
        self.send(handler, 200, msgpack.packb({"acknowledged": ["0-0-0-0", "", "\x00" * 100], "grants": [], "rejected": []}))

    def answers_deep(self, handler, body):
        self.send(handler, 200, b"\x91" * 200_000)

    def answers_huge(self, handler, body):
        self.send(handler, 200, b"\xdd\xff\xff\xff\xff" + b"\x00" * 20_000_000)

    def breaks_off(self, handler, body):
        self.send(handler, 200, b"\x83", announced=1000)
        self.hang_up(handler)

    def answers_late(self, handler, body):
        """It commits, and answers after Envoy has given up."""
        answer = self.forward(body)
        time.sleep(3)
        self.send(handler, answer.status_code, answer.content)

    def loses_the_answer(self, handler, body):
        """It commits, and nobody hears of it."""
        assert self.forward(body).status_code == 200
        self.hang_up(handler)

    def dies_after_the_commit(self, handler, body):
        assert self.forward(body).status_code == 200
        self.whole.ledger.kill()
        self.hang_up(handler)
        self.whole.ledger.start()

    def dies_in_the_middle(self, handler, body):
        """Killed while it works on the batch: before or after its commit, as the scheduler will have it."""
        killer = threading.Timer(next(MOMENTS), self.whole.ledger.kill)
        killer.start()
        try:
            self.forward(body)
        except requests.RequestException:
            pass
        killer.join()
        self.hang_up(handler)
        self.whole.ledger.start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


# Moments after a batch has left at which the collector is killed, in seconds.
MOMENTS = itertools.cycle([0.0, 0.001, 0.002, 0.004, 0.008, 0.016])

FAULTS = [
    "resets",
    "answers_500",
    "answers_garbage",
    "answers_something_else",
    "answers_deep",
    "answers_huge",
    "breaks_off",
    "answers_late",
    "loses_the_answer",
    "dies_after_the_commit",
    "dies_in_the_middle",
]


@pytest.mark.parametrize("rounds", [1, pytest.param(6, marks=pytest.mark.torture)])
def test_every_fault(tmp_path, rounds):
    between = Between()
    try:
        with Whole(tmp_path, POLICY, collector=between.port) as whole:
            between.whole = whole
            with Load(whole) as load:
                for fault in FAULTS * rounds:
                    met = between.met[fault]
                    between.fault = fault
                    until(lambda: between.met[fault] > met, 60, f"a batch meets `{fault}`")
                    # Until one gets through again, or the pauses of all the faults would add up.
                    passed = between.passed
                    until(lambda: between.passed > passed, 60, f"a batch gets through after `{fault}`")
                load.goes_on(20)
            every_record_once(whole, f"{sum(between.met.values())} bad syncs ({len(FAULTS)} kinds)")
            failed = whole.envoy.stats("sync_failed_total")
            assert sum(failed.values()) >= sum(between.met.values()) - between.met["answers_something_else"]
    finally:
        between.close()


def test_stopped_in_its_tracks(tmp_path):
    """It accepts connections and says nothing, as a machine without memory does; then it goes on."""
    with Whole(tmp_path, POLICY) as whole:
        with Load(whole) as load:
            whole.ledger.signal(signal.SIGSTOP)
            failed = lambda: sum(whole.envoy.stats("sync_failed_total").values())
            until(lambda: failed() >= 2, 60, "syncs to it fail")
            load.goes_on(20)
            whole.ledger.signal(signal.SIGCONT)
            load.goes_on(20)
        every_record_once(whole, "collector stopped in its tracks")
