"""The whole product on free ports: a model stand-in, a collector and Envoy, each of which can be killed and started again."""

import collections
import contextlib
import hashlib
import json
import os
import re
import signal
import sqlite3
import subprocess
from decimal import Decimal

import msgpack
import requests
from conftest import ROOT, TARGET, WASM, Gate, Stack, free_port, until

FAREBOX = os.environ.get("FAREBOX", str(TARGET / "debug/farebox"))
MICRO = 1_000_000


def policy(name, plans, seats, models="demo-*: {count: o200k_base, credits: {input: 1, cache_read: 0.1, output: 4}}", more=""):
    """A policy of `plans` (name -> YAML flow) and `seats` (name -> (org, plan)); the key of a seat is `key-<seat>`."""
    lines = ["farebox: 1", f"bundle: {{name: {name}, version: '1'}}", "identity:"]
    lines += ["  - {key: [authorization, x-api-key, api-key, x-goog-api-key]}", "models:"]
    lines += [f"  {line}" for line in models.splitlines()]
    lines += ["plans:", *(f"  {plan}: {body}" for plan, body in plans.items())]
    lines += ["seats:"]
    for seat, (org, _) in seats.items():
        lines.append(f'  {seat}: {{org: {org}, keys: ["sha256:{hashlib.sha256(key(seat).encode()).hexdigest()}"]}}')
    lines += ["assign:", *(f"  - {{when: {{seat: {seat}}}, plan: {plan}}}" for seat, (_, plan) in seats.items())]
    lines += ["collector: {cluster: farebox-collector, sync: 200ms, buffer: 64 MiB, patience: 2s}", more]
    return "\n".join(lines) + "\n"


def first(policy):
    """The same policy for a host that does not hold headers, which cannot set a tier."""
    return re.sub(r"connectivity: \{tier: \w+\},\s*", "", policy.replace("bundle:", "envoy: {headers: first}\nbundle:", 1))


def key(seat):
    return f"key-{seat}"


class Program:
    """One of `farebox`'s servers, always on the same port."""

    def __init__(self, folder, *arguments):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.command = [FAREBOX, *arguments, "--listen", f"127.0.0.1:{self.port}"]
        self.log = folder / f"{arguments[0]}.log"
        self.process = None

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=log, text=True)
        line = self.process.stdout.readline()
        assert line.startswith("ready"), f"{self.command}: {line}{self.log.read_text()}"
        return self

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        if self.process and self.process.poll() is None:
            # One that was stopped in its tracks does not hear SIGTERM.
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()


class Model(Program):
    def __init__(self, folder, pace="0"):
        super().__init__(folder, "upstream", "--pace", pace, "--seed", "7")

    def stats(self, **query):
        return requests.get(f"{self.url}/stats", params=query, timeout=30).json()

    def exchanges(self):
        return self.stats(last=100_000)["exchanges"]

    def last(self):
        (exchange,) = self.stats(last=1)["exchanges"]
        return exchange

    def idle(self):
        """The exchanges, once none of them is running."""
        until(lambda: self.stats(last=0)["running"] == 0, 60, "the stand-in notices every end")
        return self.exchanges()


class Ledger(Program):
    def __init__(self, folder, clock=None):
        self.file = folder / "ledger.db"
        super().__init__(folder, "collector", "--db", str(self.file), *(["--clock", str(clock)] if clock else []))

    def records(self):
        """All records, in the order of their exchanges; read from the file, so also while no collector runs."""
        connection = sqlite3.connect(f"file:{self.file}?mode=ro", uri=True, timeout=30)
        try:
            rows = connection.execute("SELECT body FROM bodies ORDER BY epoch, vm, generation, sequence").fetchall()
        finally:
            connection.close()
        return [msgpack.unpackb(body) for (body,) in rows]

    def wait(self, count):
        """The records, once there are `count`; more than that fail at once."""
        records = until(lambda: len(now := self.records()) >= count and now, 60, f"{count} records arrive")
        assert len(records) == count, f"{len(records)} records of {count} exchanges"
        return records

    def get(self, path, **query):
        answer = requests.get(f"{self.url}/v1/{path}", params=query, timeout=30)
        answer.raise_for_status()
        return json.loads(answer.text, parse_float=Decimal)

    def usage(self, **query):
        return self.get("usage", **query)

    def losses(self):
        return self.get("losses")


class Whole:
    """`model`, `ledger` and `envoy`. Whoever makes it stops it.

    `clock`: a file that tells the ledger the time. `upstream`: the port of another upstream than the stand-in. With `gated` there is a `gate` between Envoy and the ledger; other settings are those of `Stack`.
    """

    def __init__(self, folder, policy, *, pace="0", ledger=True, clock=None, collector=None, gated=False, upstream=None, **settings):
        self.folder = folder
        self.policy = policy
        self.model = Model(folder, pace)
        self.ledger = Ledger(folder, clock) if ledger else None
        envoy = folder / "envoy"
        envoy.mkdir()
        self.gate = Gate(self.ledger.port) if gated else None
        collector = collector or (self.gate or self.ledger) and (self.gate or self.ledger).port
        self.envoy = Stack(envoy, upstream=upstream or self.model.port, policy=policy, collector=collector, **settings)
        self.url = self.envoy.url
        # One connection: what one worker has seen another does not know.
        self.session = requests.Session()

    def start(self):
        (self.folder / "policy.yaml").write_text(self.policy)
        checked = subprocess.run([FAREBOX, "check", self.folder / "policy.yaml"], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stdout + checked.stderr
        try:
            self.model.start()
            if self.ledger:
                self.ledger.start()
            self.envoy.start()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self):
        for one in (self.envoy, self.ledger, self.model):
            if one:
                one.stop()
        if self.gate:
            self.gate.close()

    def unharmed(self):
        """No VM died, nothing panicked, and the host refused the adapter nothing."""
        assert self.envoy.process.poll() is None, "Envoy has ended"
        assert self.envoy.vm_crashes() == 0
        # That a faulty policy is refused is no harm.
        log = "\n".join(line for line in self.envoy.log().splitlines() if "failed to load" not in line)
        for word in ("panicked", "proxy_abort", "would not", "critical"):
            assert word not in log, "\n".join(line for line in log.splitlines() if word in line)[:4000]

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                self.unharmed()
        finally:
            self.stop()

    def post(self, seat, body, path="/v1/chat/completions", **more):
        headers = {"authorization": f"Bearer {key(seat)}", **more.pop("headers", {})}
        return requests.post(self.url + path, json=body, headers=headers, timeout=60, **more)


def chat(prompt, model="demo-small", **more):
    return {"model": model, "messages": [{"role": "user", "content": prompt}], **more}


def charged(records):
    """Sums of the charges, by (subject, quota), in micro-units."""
    sums = collections.Counter()
    for record in records:
        for charge in record["charges"]:
            sums[charge["subject"], charge["quota"]] += charge["amount"]
    return sums


@contextlib.contextmanager
def behind(upstream, folder, policy, **settings):
    """A `Whole` in front of this upstream, which ends with it."""
    try:
        with Whole(folder, policy, upstream=upstream.port, **settings) as whole:
            yield whole, upstream
    finally:
        upstream.close()
