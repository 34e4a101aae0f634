"""`make bench-count`: how fast tokens are counted, natively and inside Envoy, one core each, beside tiktoken-rs in the same run.

Each figure is the fastest of some passes, so that what else the machine does shows less; `first` is the first pass.
BENCH_NATIVE=no leaves the native half out, which takes minutes to build.
"""

import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

import corpora
import requests
from conftest import ROOT, TARGET, WASM, Stack, Upstream

WASM_BENCH = TARGET / "wasm/farebox-bench.wasm"
ENCODINGS = ("o200k_base", "cl100k_base")
TURNS = 4
PROSE = ("english", "chinese", "code", "json", "chat")


def adversarial():
    """Ten texts of 1 MB that are hard to count, and three more that have been slow."""
    draw = random.Random(7)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    units = {
        "one letter": "a",
        "spaces": " ",
        "newlines": "\n",
        "base64": lambda: draw.choice(alphabet),
        "emoji with marks": lambda: draw.choice("😀👩🇩🇪👍🏽") + "\u0301\ufe0f",
        "one CJK character": "你",
        "combining marks": "\u0301",
        "equals signs": "=",
        "mixed blanks": lambda: draw.choice(" \t\n\r\u00a0\u3000"),
        "random Unicode": lambda: chr(draw.choice((draw.randrange(0x20, 0xD800), draw.randrange(0xE000, 0x20000)))),
        "dashes": "-",
        "slashes": "/",
        "asterisks": "*",
    }
    for name, unit in units.items():
        if callable(unit):
            text = ""
            parts, size = [], 0
            while size < 1_000_000:
                parts.append(unit())
                size += len(parts[-1].encode())
            text = "".join(parts)
        else:
            text = unit * (1_000_000 // len(unit.encode()))
        yield name, text


def request(code, english):
    """An agent's request of 400 KB: a system prompt, tools, and a conversation with tool results."""
    lines, prose = iter(code.splitlines()), iter(english.splitlines())
    take = lambda source, size: "\n".join(iter_bytes(source, size))
    tool = lambda n: {
        "type": "function",
        "function": {"name": f"tool_{n}", "description": take(prose, 600), "parameters": {"type": "object", "properties": {
            name: {"type": "string", "description": take(prose, 80)} for name in ("path", "pattern", "text")}}},
    }
    messages = [{"role": "system", "content": take(prose, 12_000)}]
    size = 0
    while size < 360_000:
        messages.append({"role": "assistant", "content": take(prose, 300)})
        messages.append({"role": "user", "content": take(lines, 6_000)})
        size += 6_300
    messages.append({"role": "user", "content": "And now the newest question: " + take(prose, 1_000)})
    return json.dumps({"model": "gpt-4o", "messages": messages, "tools": [tool(n) for n in range(20)], "max_tokens": 100})


def iter_bytes(lines, size):
    for line in lines:
        yield line
        size -= len(line.encode())
        if size <= 0:
            return


class Native:
    """The bench binary, fed by lines."""

    def __init__(self):
        command = ["cargo", "bench", "--profile", "speed", "--locked", "--features", "bench", "--bench", "count"]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def measure(self, encoding, what, rounds, path):
        self.process.stdin.write(f"{encoding} {what} {rounds} {path}\n")
        self.process.stdin.flush()
        return tuple(map(int, self.process.stdout.readline().split()))


class Inside:
    """The filter with the measurements in it."""

    def __init__(self, folder):
        self.upstream = Upstream()
        self.envoy = Stack(folder, upstream=self.upstream.port, wasm=str(WASM_BENCH), concurrency=1).start()
        self.memory = 0

    def measure(self, encoding, what, rounds, path):
        url = f"{self.envoy.url}/farebox-bench/{encoding}/{what}/{rounds}"
        answer = requests.post(url, data=pathlib.Path(path).read_bytes(), timeout=300)
        assert answer.status_code == 200, f"{answer.text}\n{self.envoy.log()[-2000:]}"
        *figures, before, after = map(int, answer.text.split())
        self.memory = (before, after)
        return tuple(figures)


def begins_with(module):
    """Bytes of linear memory that a module begins with: what its section 5 says (WebAssembly core specification, 5.5)."""
    bytes_of = module.read_bytes()

    def number(at):
        value = shift = 0
        while True:
            byte, at = bytes_of[at], at + 1
            value, shift = value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value, at

    at = 8
    while bytes_of[at] != 5:
        size, at = number(at + 1)
        at += size
    _, at = number(at + 1)
    return number(at + 2)[0] * 65_536


def mb(size, nanoseconds):
    return size * 1e3 / max(nanoseconds, 1)


def best_of(turns, place, encoding, what, rounds, path):
    """Tokens, the first pass of all, and the fastest."""
    told = [place.measure(encoding, what, rounds, path) for _ in range(turns)]
    return told[0][0], told[0][1], min(best for _, _, best in told)


def table(places, encoding, texts, rounds):
    """Each text in several turns: a noisy moment, or one in which V8 still makes its code, spoils no figure then."""
    head = "".join(f"{f'{place}: ours':>16}{'first':>8}{'tiktoken-rs':>13}{'times':>7}" for place in places)
    print(f"\n{encoding}, MB/s\n{'':<20}{head}{'tokens':>10}", flush=True)
    for place in places.values():
        for path in texts.values():
            place.measure(encoding, "ours", rounds, path)
    for name, path in texts.items():
        size = path.stat().st_size
        row, counts = "", set()
        for place in places.values():
            tokens, first, best = best_of(TURNS, place, encoding, "ours", rounds, path)
            theirs, _, slow = best_of(TURNS, place, encoding, "tiktoken", 1, path)
            counts |= {tokens, *([theirs] if theirs else [])}
            speed = f"{mb(size, slow):>13.1f}{slow / best:>6.1f}x" if theirs else f"{'fails':>13}{'':>7}"
            row += f"{mb(size, best):>16.1f}{mb(size, first):>8.1f}{speed}"
        same = f"{counts.pop():>10,}" if len(counts) == 1 else f" DIFFERENT: {counts}"
        print(f"{name:<20}{row}{same}", flush=True)


def main():
    WASM_BENCH.exists() or sys.exit(f"bench-count: {WASM_BENCH} is not there: run `make bench-count`")
    folder = TARGET / "corpora"
    sys.argv[1:] = [str(folder)]
    corpora.main()
    prose = {name: folder / f"{name}.txt" for name in PROSE}
    hard = {}
    for name, text in adversarial():
        hard[name] = folder / f"hard-{name.replace(' ', '-')}.txt"
        hard[name].write_text(text, newline="")
    agent = folder / "agent.json"
    agent.write_text(request(prose["code"].read_text(), prose["english"].read_text()))
    tiny = folder / "tiny.txt"
    tiny.write_text("Hello, world")
    with tempfile.TemporaryDirectory() as name:
        inside = Inside(pathlib.Path(name))
        try:
            # Before anything else is counted in that VM.
            _, load, _ = inside.measure("o200k_base", "ours", 1, tiny)
            begun = inside.memory[0]
            places = {"Envoy": inside} if os.environ.get("BENCH_NATIVE") == "no" else {"native": Native(), "Envoy": inside}
            for encoding in ENCODINGS:
                inside.measure(encoding, "ours", 1, hard["one letter"])
            loaded = inside.memory[1]
            for encoding in ENCODINGS:
                for text in hard.values():
                    inside.measure(encoding, "ours", 1, text)
            # tiktoken-rs is in the measured module, so its memory is not that of the one that ships; what is added is.
            ships, grown = begins_with(pathlib.Path(WASM)), [after - begins_with(WASM_BENCH) for after in (begun, loaded, inside.memory[1])]
            print(f"\nfirst count in a VM: {load / 1e6:.3f} ms; linear memory of the module that ships: {ships / 1e6:.1f} MB,"
                  " {:.1f} MB in a VM that serves, {:.1f} MB after both encodings, {:.1f} MB after all texts of 1 MB below".format(
                      *((ships + more) / 1e6 for more in grown)))
            print("module that ships: {:.2f} MB".format(pathlib.Path(WASM).stat().st_size / 1e6))
            for encoding in ENCODINGS:
                table(places, encoding, prose, 15)
                table(places, encoding, hard, 3)
            print("\na delta of 20 bytes, with the exact total after each; an agent's request of 400 KB (ms)")
            print(f"{'':<12}{'delta µs':>10}{'read':>8}{'count, first':>14}{'again':>8}{'bound only':>12}")
            for who, place in places.items():
                _, _, deltas = best_of(TURNS, place, "o200k_base", "deltas", 5, prose["chat"])
                whats = ("read", "first", "again", "bound")
                read, first, again, bound = (best_of(TURNS, place, "o200k_base", what, 15, agent)[2] / 1e6 for what in whats)
                pieces = prose["chat"].stat().st_size / 20
                print(f"{who:<12}{deltas / pieces / 1e3:>10.2f}{read:>8.2f}{first:>14.2f}{again:>8.2f}{bound:>12.2f}")
        finally:
            inside.envoy.stop()


if __name__ == "__main__":
    main()
