"""Clients by the dozen at the edge of several quotas at once: never over, nearly all of it usable, and all books agree.

`make torture` runs the same longer.
"""

import collections
import dataclasses
import itertools
import re
import time

import pytest
import requests
from conftest import WASM_HOOKS, Stack, until
from crowd import SMALLEST, Crowd
from whole import MICRO, Whole, charged, first, policy

# The smallest call that the crowd makes holds less than 0.5 % of it: 16 tokens, and the bound of its input.
CAP = 25_000
FULL = pytest.mark.torture
BUCKET_S = 7 * 86_400
# A token weighs one credit, so that quotas in both units end together.
MODELS = "demo-*: {count: o200k_base, credits: {input: 1000, cache_read: 1000, output: 1000}}"
TOKENS = {
    "month": "{amount: %d tokens, per: org, window: calendar month}",
    "seat-5h": "{limit: %d tokens, per: seat, window: first-use 5h}",
    "pace": "{limit: %d tokens, per: seat, window: bucket 7d}",
    "hour": "{limit: %d tokens, per: org, window: sliding 1h}",
    "ever": "{limit: %d credits, per: seat, window: lifetime}",
}
OTHERS = {
    "calls": "{limit: 100000 requests, per: seat, window: first-use 5h}",
    "live": "{limit: 64 requests, per: seat, window: concurrent}",
}
ALL = [*TOKENS, *OTHERS]


@dataclasses.dataclass(frozen=True)
class Round:
    """An organisation of its own, whose seats may use `cap` tokens by each of `levels`."""

    org: str
    seats: tuple
    levels: tuple
    cap: int

    @property
    def plan(self):
        return f"plan-{self.org}"


def edges(caps):
    """One to five quotas that a seat meets all at the same time."""
    each = itertools.product(range(1, len(TOKENS) + 1), enumerate(caps))
    return [Round(f"e{n}-{at}", (f"e{n}-{at}",), tuple(TOKENS)[:n], cap) for n, (at, cap) in each]


def crews(rounds, levels=ALL):
    """In turn one seat, whose quotas all end at once, and four seats that meet first what their organisation has."""
    return [Round(f"o{n}", tuple(f"s{n}-{k}" for k in range(1 if n % 2 == 0 else 4)), tuple(levels), CAP) for n in range(rounds)]


def torture_policy(rounds, name="torture"):
    def plan(one):
        quotas = {level: (TOKENS | OTHERS)[level].replace("%d", str(one.cap)) for level in one.levels}
        caps = ", ".join(f"{level}: {quota}" for level, quota in quotas.items() if level != "month")
        return f"{{tokens: {{funds: {{month: {quotas['month']}}}, caps: {{{caps}}}, hold: {{shrink_to: {SMALLEST}}}}}}}"

    plans = {one.plan: plan(one) for one in rounds}
    everybody = {seat: (one.org, one.plan) for one in rounds for seat in one.seats}
    # Waiting for a grant is no part of what is shown here, and the machine is busy.
    return policy(name, plans, everybody, MODELS).replace("patience: 2s", "patience: 20s")


@pytest.fixture
def whole(tmp_path):
    started = []

    def start(policy, **settings):
        folder = tmp_path / f"whole-{len(started)}"
        folder.mkdir()
        started.append(Whole(folder, policy, pace="1ms", **settings))
        return started[-1].start()

    yield start
    for one in started:
        one.stop()


class Books:
    """What the upstream wrote, what the ledger was told, and what Envoy's metrics say."""

    def __init__(self, envoys, model, ledger, crowds):
        self.upstream = collections.Counter()
        exchanges = model.idle()
        for one in exchanges:
            self.upstream[one["model"].removeprefix("demo-")] += one["prompt_tokens"] + one["completion_tokens"]
        admitted = sum(crowd.admitted() for crowd in crowds)
        assert len(exchanges) == admitted, "what was admitted reached the upstream, and nothing else did"
        self.records = ledger.wait(admitted)
        self.charged = charged(self.records)
        self.recorded = collections.Counter()
        for record in self.records:
            self.recorded[record["seat"]] += sum(record["usage"][k] for k in ("input", "cache_read", "cache_write", "output"))
        self.envoys = envoys
        try:
            self.accounts = until(lambda: _agreed(ledger.get("accounts")["quotas"]), 30, "the last sync's standings arrive")
        except AssertionError as error:
            odd = [one for one in ledger.get("accounts")["quotas"] if one["used"] != one["used_by_records"]]
            raise AssertionError(f"{error}; accounts and records disagree: {odd}") from error

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


def check(books, rounds, crowds, seconds, exact=True):
    """Never over on any level, refusals free, and all books equal. Returns what each round has used."""
    used = []
    for one, crowd in zip(rounds, crowds, strict=True):
        assert crowd.odd == [], crowd.odd[:5]
        org = sum(books.recorded[seat] for seat in one.seats)
        for level in one.levels:
            if level in ("month", "hour"):
                assert books.charged[f"org/{one.org}", f"{one.plan}/{level}"] == org * MICRO <= one.cap * MICRO
            elif level in TOKENS:
                refill = one.cap * seconds / BUCKET_S + 1 if level == "pace" else 0
                for seat in one.seats:
                    own = books.charged[f"seat/{seat}", f"{one.plan}/{level}"]
                    assert own == books.recorded[seat] * MICRO <= (one.cap + refill) * MICRO
        for seat in one.seats:
            if "calls" in one.levels:
                assert books.charged[f"seat/{seat}", f"{one.plan}/calls"] == crowd.admitted(seat) * MICRO, "a refusal was charged"
            # Answers that were hung up are charged by what was delivered, never by more than the upstream wrote.
            agree = books.recorded[seat] == books.upstream[seat] if exact else books.recorded[seat] <= books.upstream[seat]
            assert agree, f"{seat}: filter {books.recorded[seat]}, upstream {books.upstream[seat]}"
        assert books.metric("tokens_total", org=one.org) == org, "the metrics and the records disagree"
        assert books.metric("exchanges_total", org=one.org) == crowd.admitted()
        used.append(org)
    assert books.metric("refusals_total") == sum(crowd.refused() for crowd in crowds)
    for one in books.accounts:
        assert one["used"] * MICRO == books.charged[one["subject"], one["quota"]], one
        assert one["used"] <= one["limit"], one
    return used


def show(title, used, crowds):
    refused, admitted = sum(crowd.refused() for crowd in crowds), sum(crowd.admitted() for crowd in crowds)
    over = sum(max(0, tokens - CAP) for tokens in used)
    print(f"{title}: {len(used)} caps of {CAP:,} tokens: used {min(used) / CAP:.2%} to {max(used) / CAP:.2%}; over: {over}")
    print(f"  {admitted:,} calls admitted, {refused:,} refused, all free", end="")
    print(f"; {sum(crowd.hung_up for crowd in crowds)} hung up" if any(c.hung_up for c in crowds) else "")


def run_rounds(urls, rounds, lead=0, **settings):
    crowds = []
    for n, one in enumerate(rounds):
        crowds.append(Crowd(urls, one.seats, seed=n + 1, **settings).lead(lead).start().wait())
        crowds[-1].tail()
    return crowds


def without_hold(text):
    """Envoy's configuration, for a filter with test hooks that checks first and settles later."""
    before = "runtime: envoy.wasm.runtime.v8\n"
    assert before in text
    indent = re.search(rf"^( *){re.escape(before)}", text, re.M)[1]
    return text.replace(before, f"{before}{indent}environment_variables: {{key_values: {{FAREBOX_TEST: hold-nothing}}}}\n")


@pytest.mark.container
@pytest.mark.parametrize("caps", [[CAP], pytest.param([CAP, 10 * CAP, CAP, 10 * CAP], marks=FULL)], ids=["brief", "full"])
def test_quotas_hold_at_their_edge(whole, caps):
    """The same crowd with the hold and without it, at one to five quotas that all end at once."""
    rounds, clients = edges(caps), 128
    text, began = torture_policy(rounds), time.monotonic()
    one = whole(text)
    crowds = run_rounds([one.url], rounds, clients=clients)
    used = check(Books([one.envoy], one.model, one.ledger, crowds), rounds, crowds, time.monotonic() - began)
    one.unharmed()
    one.stop()
    other = whole(text, wasm=WASM_HOOKS, edit=without_hold)
    loose = run_rounds([other.url], rounds, clients=clients)
    spent = Books([other.envoy], other.model, other.ledger, loose).upstream
    print(f"{clients} clients, 2 workers; streams and not, with and without a declared limit{'':<13}the hold switched off:")
    print("quotas      cap     calls  admitted   charged  overspend      used    admitted   charged  overspend")
    for each, crowd, tokens, free in zip(rounds, crowds, used, loose, strict=True):
        calls, wild = crowd.admitted() + crowd.refused(), sum(spent[seat] for seat in each.seats)
        print(f"{len(each.levels):>6}{each.cap:>9,}{calls:>10,}{crowd.admitted():>10,}{tokens:>10,}{max(0, tokens - each.cap):>11,}", end="")
        print(f"{tokens / each.cap:>10.2%}{free.admitted():>12,}{wild:>10,}{wild - each.cap:>+11,}")
        assert 0.99 * each.cap <= tokens <= each.cap, "too little of the cap was usable"
        assert wild > each.cap, "the crowd does not reach the edge, so the hold shows nothing"


@pytest.mark.container
@pytest.mark.parametrize("count", [2, pytest.param(24, marks=FULL)])
def test_hung_up_answers_hold_the_edge_too(whole, count):
    """Headers first, and four in ten streams are left by their clients."""
    rounds = crews(count)
    one, began = whole(first(torture_policy(rounds))), time.monotonic()
    crowds = run_rounds([one.url], rounds, hang_up=0.4)
    books = Books([one.envoy], one.model, one.ledger, crowds)
    used = check(books, rounds, crowds, time.monotonic() - began, exact=False)
    show("headers first", used, crowds)
    assert min(used) >= 0.99 * CAP, "too little of the cap was usable"
    one.unharmed()


def test_long_prompts_hold_the_edge_too(whole):
    """While there is ample room they are held by a bound, towards the end by their count."""
    seats, cap = ("l0", "l1", "l2", "l3"), 6_000_000
    rounds = [Round("long", seats, ("month", "seat-5h", "calls"), cap)]
    one, began = whole(torture_policy(rounds)), time.monotonic()
    # While nobody else calls there is ample room for certain.
    crowds = run_rounds([one.url], rounds, lead=4, prompt=20_000)
    books = Books([one.envoy], one.model, one.ledger, crowds)
    [used] = check(books, rounds, crowds, time.monotonic() - began)
    bounded, admitted = books.metric("bounded_total"), crowds[0].admitted()
    print(f"prompts of 20 kB: used {used / cap:.2%} of {cap:,} tokens, over: {max(0, used - cap)}; ", end="")
    print(f"{bounded} of {admitted} calls admitted by a bound, {books.metric('bounded_total', then='counted')} counted later")
    assert 0 < bounded < admitted and used >= 0.99 * cap
    one.unharmed()


@pytest.mark.parametrize("count", [2, pytest.param(24, marks=FULL)])
def test_two_envoys_share_a_fund(whole, tmp_path, count):
    rounds = crews(count, ["month", "seat-5h", "calls"])
    text = torture_policy(rounds, "two")
    one = whole(text)
    folder = tmp_path / "second"
    folder.mkdir()
    second = Stack(folder, upstream=one.model.port, policy=text, collector=one.ledger.port)
    try:
        second.start()
        began = time.monotonic()
        crowds = run_rounds([one.url, second.url], rounds)
        books = Books([one.envoy, second], one.model, one.ledger, crowds)
        used = check(books, rounds, crowds, time.monotonic() - began)
        show("two Envoys, one ledger", used, crowds)
        epochs = {record["id"].split("-")[0] for record in books.records}
        assert len(epochs) == 2, "both must have spent"
        assert min(used) >= 0.95 * CAP
    finally:
        second.stop()
