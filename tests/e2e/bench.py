"""`make bench`: what Farebox adds to a bare Envoy. The same binary, upstream and load, in turns, on this machine, now.

The last column is the proof that the filter was in the path: records in the ledger for the calls that the load made.
"""

import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

import requests
from conftest import ROOT, WASM, WASM_HOOKS, Stack, until
from whole import Whole, chat, key, policy

SECONDS = int(os.environ.get("BENCH_SECONDS", "5"))
TURNS = int(os.environ.get("BENCH_TURNS", "3"))
PLAN = """{tokens: {funds: {month: {amount: 900b credits, per: org, window: calendar month}},
  caps: {seat-5h: {limit: 900b tokens, per: seat, window: first-use 5h}, calls: {limit: 1b requests, per: seat, window: first-use 5h},
    pace: {limit: 1b tokens, per: seat, window: bucket 1m}, live: {limit: 1000 requests, per: seat, window: concurrent}},
  hold: {shrink_to: 16}}, connectivity: {tier: gold}, security: {input: {longest: 128000 tokens, secrets: deny}}}"""
TOPICS = ("secrets", "email", "phone", "card", "iban", "cn_id_card", "bank_card", "passport", "ssn")
SIDE = "{%s, patterns: {badge: {match: 'EMP-[0-9]{6}', action: redact}}}" % ", ".join(f"{topic}: redact" for topic in TOPICS)
ASKED = f"{SIDE[:-1]}, injection: deny, keywords: {{words: [project falcon, 机密项目], action: deny}}}}"
PLANS = {
    "plan": PLAN.replace("\n", "\n    "),
    "open": "{}",
    "secrets": "{security: {input: {secrets: deny}, output: {secrets: redact}}}",
    "full": f"{{security: {{input: {ASKED}, output: {SIDE}}}}}",
}
SEATS = {"alice": ("acme", "plan"), "bob": ("acme", "open"), "cat": ("acme", "secrets"), "dan": ("acme", "full")}
POLICY = policy("bench", PLANS, SEATS).replace("sync: 200ms", "sync: 1s")
TEXT = "The quick brown fox jumps over the lazy dog, and nobody counts how often. "
CASES = {
    "JSON, 20 tokens out": chat("Say something. [[output=20]]", max_tokens=100),
    "JSON, 8 KB in": chat(TEXT * 110 + "[[output=20]]", max_tokens=100),
    "SSE, 100 tokens out": chat("Say something. [[output=100]]", max_tokens=200, stream=True),
}
CHINESE = "北京时间上午十点，会议开始。请各位同事准备好材料，并在会前发送给组长；谢谢配合！"
CODE = "let total = items.iter().map(|item| item.price * 3).sum::<u64>(); // see https://example.com/a/b?c=1\n"
# Name, body, bytes of text that the guards look at. Prompts are long enough that looking at them shows.
GUARDED = [
    ("4 KB in", chat(TEXT * 55 + "[[output=20]]", max_tokens=100), len(TEXT) * 55),
    ("64 KB in, English", chat(TEXT * 880 + "[[output=20]]", max_tokens=100), len(TEXT) * 880),
    ("64 KB in, code", chat(CODE * 650 + "[[output=20]]", max_tokens=100), len(CODE) * 650),
    ("64 KB in, Chinese", chat(CHINESE * 540 + "[[output=20]]", max_tokens=100), len(CHINESE.encode()) * 540),
    ("SSE, 100 tokens out", chat("Say something. [[output=100]]", max_tokens=200, stream=True), None),
]
LUA = """\
wrk.method, wrk.path, wrk.body = "POST", "/v1/chat/completions", [==[%s]==]
wrk.headers["content-type"], wrk.headers["authorization"] = "application/json", "Bearer %s"
done = function(summary, latency)
  io.write(string.format('{"requests": %%d, "us": %%d, "bad": %%d, "p50": %%.1f, "p99": %%.1f}\\n', summary.requests, summary.duration,
    summary.errors.status + summary.errors.read + summary.errors.timeout, latency:percentile(50), latency:percentile(99)))
end
"""


def bare(text):
    """envoy.yaml without Farebox and without the guard that lets nothing pass without it."""
    for name in ("wasm", "rbac"):
        text = re.sub(rf"          - name: envoy\.filters\.http\.{name}\n(?:            .*\n|\s*#.*\n|\s*\n)+", "", text)
    assert "farebox.wasm" not in text and "rbac" not in text
    return text


def wrk(envoy, script, connections):
    command = ["wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", "-s", script, envoy.url]
    before = cpu(envoy)
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    figures = json.loads(said.splitlines()[-1])
    if figures["bad"]:
        sys.exit(f"bench: {figures['bad']} of {figures['requests']} calls failed\n{said}\n{envoy.log()[-2000:]}")
    return {**figures, "cpu": (cpu(envoy) - before) / max(figures["requests"], 1) * 1e6}


def cpu(envoy):
    """Seconds of processor time that this Envoy has used."""
    fields = pathlib.Path(f"/proc/{envoy.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(one, plain, name, body):
    """Medians over turns in which the two take each other's place, so that a noisy moment meets both."""
    script = one.folder / "load.lua"
    script.write_text(LUA % (json.dumps(body), key("alice")))
    records, sent = one.ledger.usage()["total"]["requests"], 0
    runs = {(who, connections): [] for who in ("bare", "farebox") for connections in (1, 32)}
    for turn in range(TURNS):
        for connections in (1, 32):
            pair = [("bare", plain), ("farebox", one.envoy)]
            for who, envoy in pair if turn % 2 == 0 else pair[::-1]:
                runs[who, connections].append(wrk(envoy, script, connections))
                sent += runs[who, connections][-1]["requests"] if who == "farebox" else 0
    # What wrk leaves unfinished at its end is an exchange too, but none of its requests.
    until(lambda: settled(one) >= records + sent, 120, "the records of all calls arrive")
    records = settled(one) - records
    median = lambda who, connections, what: statistics.median(run[what] for run in runs[who, connections])
    rate = lambda who: statistics.median(run["requests"] / run["us"] * 1e6 for run in runs[who, 32])
    for who in ("bare", "farebox"):
        proof = f"{records:,} of {sent:,} calls" if who == "farebox" else "none"
        p50, p99 = median(who, 1, "p50"), median(who, 1, "p99")
        print(f"{name:<22}{who:<9}{p50:>9,.0f}{p99:>9,.0f}{rate(who):>12,.0f}{median(who, 32, 'cpu'):>13,.0f}   {proof}", flush=True)
    added = median("farebox", 1, "p50") - median("bare", 1, "p50")
    extra = median("farebox", 32, "cpu") - median("bare", 32, "cpu")
    print(f"{'':<22}{'added':<9}{added:>+9,.0f}{'':>9}{rate('farebox') / rate('bare'):>11.2f}x{extra:>+13,.0f}", flush=True)


def guards(one):
    """What looking at texts costs: the same calls under a plan that looks for nothing, for secrets, for everything."""
    print(f"\nguards on texts, one connection\n{'':<22}{'looks for':<12}{'p50 µs':>9}{'CPU µs/call':>13}{'added':>9}{'MB/s':>9}")
    script = one.folder / "guards.lua"
    for name, body, size in GUARDED:
        runs = {who: [] for who in ("bob", "cat", "dan")}
        for _ in range(TURNS):
            for who in runs:
                script.write_text(LUA % (json.dumps(body, ensure_ascii=False), key(who)))
                runs[who].append(wrk(one.envoy, script, 1))
        median = lambda who, what: statistics.median(run[what] for run in runs[who])
        for who, looks in (("bob", "nothing"), ("cat", "secrets"), ("dan", "everything")):
            added = median(who, "cpu") - median("bob", "cpu")
            speed = f"{size / added:>9,.0f}" if size and added > 0 else ""
            print(f"{name:<22}{looks:<12}{median(who, 'p50'):>9,.0f}{median(who, 'cpu'):>13,.0f}{added:>+9,.0f}{speed}", flush=True)


OPERATIONS = ("hold", "extend", "settle", "free")


def native(bench):
    """What one of the native benches prints."""
    command = ["cargo", "bench", "--profile", "speed", "--quiet", "--locked", "--features", "bench", "--bench", bench]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()


def both(ask, bench, hook):
    """Each line of a native bench: its name, its bytes, its figures, and those of the hook of that name inside Envoy."""
    for line in native(bench):
        name, size, *outside = line.split()
        yield name, int(size), list(zip(outside, ask(f"{hook}/{name}/25").split(), strict=True))


def deltas(ask):
    """What reading a delta of a stream costs: in a chunk of its own, where eight share one, and kept to an allowance."""
    print("\nns a delta of a stream, natively and in Envoy")
    print(f"{'':<18}{'bytes':>6}{'one each':>10}{'in Envoy':>10}{'by eight':>10}{'in Envoy':>10}{'kept':>10}{'in Envoy':>10}")
    for name, size, figures in both(ask, "chunk", "delta"):
        print(f"{name:<18}{size:>6}" + "".join(f"{here:>10}{there:>10}" for here, there in figures), flush=True)


def scans(ask):
    """What looking for everything costs, natively and in Envoy: a prompt of 4 KB, and a piece of an answer."""
    print("\nlooking for everything, natively and in Envoy: a prompt, and a piece of an answer of some 5 bytes")
    print(f"{'':<18}{'bytes':>6}{'MB/s':>10}{'in Envoy':>10}{'ns a piece':>12}{'in Envoy':>10}")
    for name, size, (prompt, (here, there)) in both(ask, "scan", "scan"):
        rates = "".join(f"{size / int(ns) * 1_000:>10,.0f}" for ns in prompt)
        print(f"{name:<18}{size:>6}{rates}{here:>12}{there:>10}", flush=True)


def accounts(folder):
    """What an exchange costs its accounts: time and calls of the store, natively and in Envoy's shared data."""
    outside = native("accounts")
    print("\nwhat an exchange costs its accounts, of four quotas each; loads and swaps in all, and swaps of accounts")
    print(f"{'levels':<9}{'':<10}{'native ns':>10}{'in Envoy ns':>13}{'loads':>8}{'swaps':>8}{'of accounts':>13}")
    # With one worker all calls are of one VM, whose counts can be asked for.
    with Whole(folder, POLICY, wasm=WASM_HOOKS, concurrency=1) as one:
        ask = lambda hook: requests.get(f"{one.url}/farebox-test/{hook}", timeout=60).text
        for levels in range(1, 5):
            inside = ask(f"cost/{levels}/2000").splitlines()
            swaps = 0
            for operation, here, there in zip(OPERATIONS, outside[4 * levels - 4 :], inside, strict=False):
                (ns, *_), (envoy_ns, *calls) = (list(map(int, line.split())) for line in (here, there))
                swaps += calls[1] if operation != "extend" else 0
                figures = f"{ns:>10,}{envoy_ns:>13,}{sum(calls[::2]):>8}{sum(calls[1::2]):>8}{calls[1]:>13}"
                print(f"{levels if operation == 'hold' else '':<9}{operation:<10}{figures}", flush=True)
            assert swaps <= 2 * levels, "more than two swaps a level and request"
        for name, seat in (("five quotas on two levels", "alice"), ("no quota", "bob")):
            calls, body = 500, chat("Say something. [[output=20]]", max_tokens=100)
            one.post(seat, body)
            ask("calls")
            for _ in range(calls):
                one.post(seat, body)
            seen = [int(number) / calls for number in ask("calls").split()]
            print(f"calls with {name}: {seen[0] + seen[2] + seen[4]:.1f} loads and {seen[1] + seen[3] + seen[5]:.1f} swaps each, ", end="")
            print(f"{seen[1]:.1f} of them of accounts; heartbeats, syncs and acknowledgements among them", flush=True)
        population(one, ask)
        deltas(ask)
        scans(ask)


def population(one, ask):
    """What very many accounts cost: their bytes in Envoy's memory, and whether one is found as fast as among few."""
    print(f"\n{'accounts of four quotas':<24}{'bytes':>7}{'and its key':>13}{'resident':>10}{'look-up ns':>12}{'hold + settle ns':>18}")
    before, known = resident(one.envoy), 0
    for seats in (1_000, 10_000, 100_000, 1_000_000):
        for step in range(known + 100_000, seats, 100_000):
            ask(f"population/{step}/1")
        known = seats
        turns = [list(map(int, ask(f"population/{seats}/20000").split())) for _ in range(TURNS)]
        key, account, look_up, request = map(statistics.median, zip(*turns, strict=True))
        grown = (resident(one.envoy) - before) / seats
        print(f"{seats:<24,}{account:>7.0f}{key:>13.0f}{grown:>10,.0f}{look_up:>12,.0f}{request:>18,.0f}", flush=True)


def resident(envoy):
    """Bytes of memory that this Envoy has."""
    pages = int(pathlib.Path(f"/proc/{envoy.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def settled(one):
    return one.ledger.usage()["total"]["requests"]


def main():
    if not shutil.which("wrk"):
        sys.exit("bench: wrk is missing: `apt-get install wrk`")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        with Whole(folder, POLICY) as one:
            second = folder / "bare"
            second.mkdir()
            plain = Stack(second, upstream=one.model.port, policy=POLICY, edit=bare)
            try:
                plain.start()
                print(f"Farebox beside bare Envoy: {TURNS} turns of {SECONDS} s each, {os.cpu_count()} cores shared with load and upstream")
                print(f"{'':<31}{'p50 µs':>9}{'p99 µs':>9}{'requests/s':>12}{'CPU µs/call':>13}   records")
                for case, body in CASES.items():
                    measure(one, plain, case, body)
                plain.stop()
                guards(one)
            finally:
                plain.stop()
        third = folder / "accounts"
        third.mkdir()
        accounts(third)


if __name__ == "__main__":
    os.path.exists(WASM) or sys.exit(f"bench: {WASM} is not there: run `make bench`")
    main()
