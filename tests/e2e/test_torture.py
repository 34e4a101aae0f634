"""Sixty-four clients at the edge of several caps at once: never over, nearly all of it usable, and all books agree.

`make torture` runs the same longer.
"""

import collections
import re
import time

import pytest
import requests
from conftest import WASM_HOOKS, Stack, until
from crowd import SMALLEST, Crowd
from whole import MICRO, Whole, charged, first, policy

CAP = 20_000
# A round is an organisation of its own: one seat, so that all its caps end at once, or four seats under one organisation's.
SIZES = pytest.mark.parametrize("rounds", [2, pytest.param(24, marks=pytest.mark.torture)])
BUCKET_S = 7 * 86_400
LEVELS = {
    "month": f"{{amount: {CAP} tokens, per: org, window: calendar month}}",
    "org-5h": f"{{limit: {CAP} tokens, per: org, window: first-use 5h}}",
    "seat-5h": f"{{limit: {CAP} tokens, per: seat, window: first-use 5h}}",
    "pace": f"{{limit: {CAP} tokens, per: seat, window: bucket 7d}}",
    "calls": "{limit: 100000 requests, per: seat, window: first-use 5h}",
    "live": "{limit: 64 requests, per: seat, window: concurrent}",
}


def seats(rounds):
    """Rounds in turn of one seat, and of four."""
    return [[f"s{n}-{k}" for k in range(1 if n % 2 == 0 else 4)] for n in range(rounds)]


def torture_policy(levels, rounds, name="torture"):
    caps = ", ".join(f"{level}: {LEVELS[level]}" for level in levels if level != "month")
    plan = f"{{tokens: {{funds: {{month: {LEVELS['month']}}}, caps: {{{caps}}}, hold: {{shrink_to: {SMALLEST}}}}}}}"
    everybody = {seat: (f"o{n}", "edge") for n, crew in enumerate(seats(rounds)) for seat in crew}
    # Waiting for a grant is no part of what is shown here, and the machine is busy.
    return policy(name, {"edge": plan}, everybody).replace("patience: 2s", "patience: 20s")


ALL = list(LEVELS)


@pytest.fixture
def whole(tmp_path):
    started = []

    def start(policy, **settings):
        started.append(Whole(tmp_path, policy, pace="1ms", **settings))
        return started[-1].start()

    yield start
    for one in started:
        one.stop()


class Books:
    """What the upstream wrote, what the ledger was told, and what Envoy's metrics say: all by organisation."""

    def __init__(self, envoys, model, ledger, crowds):
        self.upstream, self.by_seat = collections.Counter(), collections.Counter()
        exchanges = model.idle()
        for one in exchanges:
            self.by_seat[one["model"].removeprefix("demo-")] += one["prompt_tokens"] + one["completion_tokens"]
        admitted = sum(crowd.admitted() for crowd in crowds)
        assert len(exchanges) == admitted, "what was admitted reached the upstream, and nothing else did"
        self.records = ledger.wait(admitted)
        self.charged = charged(self.records)
        self.recorded = collections.Counter()
        for record in self.records:
            self.recorded[record["seat"]] += sum(record["usage"][k] for k in ("input", "cache_read", "cache_write", "output"))
        self.envoys = envoys
        self.accounts = until(lambda: _agreed(ledger.get("accounts")["quotas"]), 30, "the last sync's standings arrive")

    def metric(self, name, **labels):
        total = 0
        for envoy in self.envoys:
            text = requests.get(envoy.admin + "/stats/prometheus", timeout=10).text
            for found, value in re.findall(rf"^farebox_{name}\{{(.*)\}} (\d+)$", text, re.M):
                if all(f'{label}="{wanted}"' in found for label, wanted in labels.items()):
                    total += int(value)
        return total


def _agreed(quotas):
    return quotas if all(one["used"] == one["used_by_records"] for one in quotas) else None


def check(books, crowds, levels, seconds, exact=True):
    """Never over on any level, 99 % of the tightest used, refusals free, and all books equal."""
    refill = CAP * seconds / BUCKET_S + 1
    used = []
    for n, crowd in enumerate(crowds):
        assert crowd.odd == [], crowd.odd[:5]
        org = sum(books.recorded[seat] for seat in crowd.seats)
        for level in levels:
            if level in ("month", "org-5h"):
                assert books.charged[f"org/o{n}", f"edge/{level}"] == org * MICRO <= CAP * MICRO
            elif level in ("seat-5h", "pace"):
                for seat in crowd.seats:
                    own = books.charged[f"seat/{seat}", f"edge/{level}"]
                    assert own == books.recorded[seat] * MICRO <= (CAP + (refill if level == "pace" else 0)) * MICRO
        for seat in crowd.seats:
            if "calls" in levels:
                assert books.charged[f"seat/{seat}", "edge/calls"] == crowd.admitted(seat) * MICRO, "a refusal was charged"
            # Answers that were hung up are charged by what was delivered, never by more than the upstream wrote.
            agree = books.recorded[seat] == books.by_seat[seat] if exact else books.recorded[seat] <= books.by_seat[seat]
            assert agree, f"{seat}: filter {books.recorded[seat]}, upstream {books.by_seat[seat]}"
        assert books.metric("tokens_total", org=f"o{n}") == org, "the metrics and the records disagree"
        assert books.metric("exchanges_total", org=f"o{n}") == crowd.admitted()
        used.append(org)
    assert books.metric("refusals_total") == sum(crowd.refused() for crowd in crowds)
    for one in books.accounts:
        assert one["used"] * MICRO == books.charged[one["subject"], one["quota"]], one
        assert one["used"] <= one["limit"], one
    return used


def show(title, used, crowds, tails):
    refused, admitted = sum(crowd.refused() for crowd in crowds), sum(crowd.admitted() for crowd in crowds)
    over = sum(max(0, tokens - CAP) for tokens in used)
    print(f"{title}: {len(used)} caps of {CAP:,} tokens: used {min(used) / CAP:.2%} to {max(used) / CAP:.2%}; over: {over}")
    print(f"  {admitted:,} calls admitted ({sum(tails)} by the quiet tail), {refused:,} refused, all free", end="")
    print(f"; {sum(crowd.hung_up for crowd in crowds)} hung up" if any(c.hung_up for c in crowds) else "")


def run_rounds(urls, rounds, **settings):
    crowds, tails = [], []
    for n, crew in enumerate(seats(rounds)):
        crowds.append(Crowd(urls, crew, seed=n + 1, **settings).start().wait())
        tails.append(crowds[-1].tail())
    return crowds, tails


@pytest.mark.container
@SIZES
@pytest.mark.parametrize("hang_up, mode", [(0.0, "held"), (0.4, "first")], ids=["whole-held", "hung-up-first"])
def test_caps_hold_at_their_edge(whole, hang_up, mode, rounds):
    text = torture_policy(ALL, rounds)
    one, began = whole(first(text) if mode == "first" else text), time.monotonic()
    crowds, tails = run_rounds([one.url], rounds, hang_up=hang_up)
    books = Books([one.envoy], one.model, one.ledger, crowds)
    used = check(books, crowds, ALL, time.monotonic() - began, exact=not hang_up)
    show(f"headers {mode}", used, crowds, tails)
    assert min(used) >= 0.99 * CAP, "too little of the cap was usable"
    one.unharmed()


def test_what_the_hold_prevents(whole):
    """Check first and settle later, as without a hold: the same crowd runs over."""

    def edit(text):
        before = "runtime: envoy.wasm.runtime.v8\n"
        assert before in text
        indent = re.search(rf"^( *){re.escape(before)}", text, re.M)[1]
        return text.replace(before, f"{before}{indent}environment_variables: {{key_values: {{FAREBOX_TEST: hold-nothing}}}}\n")

    one = whole(torture_policy(ALL, 1), wasm=WASM_HOOKS, edit=edit)
    crowd = Crowd([one.url], seats(1)[0]).start().wait()
    books = Books([one.envoy], one.model, one.ledger, [crowd])
    used = sum(books.by_seat.values())
    print(f"without the hold: {used:,} tokens of a cap of {CAP:,}: {used - CAP:,} over ({used / CAP - 1:.1%})")
    assert used > CAP, "the crowd does not reach the edge, so the other tests show nothing"


@SIZES
def test_two_envoys_share_a_fund(whole, tmp_path, rounds):
    levels = ["month", "seat-5h", "calls"]
    text = torture_policy(levels, rounds, "two")
    one = whole(text)
    folder = tmp_path / "second"
    folder.mkdir()
    second = Stack(folder, upstream=one.model.port, policy=text, collector=one.ledger.port)
    try:
        second.start()
        began = time.monotonic()
        crowds, tails = run_rounds([one.url, second.url], rounds)
        books = Books([one.envoy, second], one.model, one.ledger, crowds)
        used = check(books, crowds, levels, time.monotonic() - began)
        show("two Envoys, one ledger", used, crowds, tails)
        epochs = {record["id"].split("-")[0] for record in books.records}
        assert len(epochs) == 2, "both must have spent"
        assert min(used) >= 0.95 * CAP
    finally:
        second.stop()
