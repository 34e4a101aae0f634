"""Answers of a tier are paced by Envoy, in the way that envoy/envoy.yaml shows."""

import re
import threading
import time

import pytest
from whole import Whole, chat, policy

PLAN = "tokens: {caps: {all: {limit: 1b tokens, per: seat, window: first-use 5h}}}"
POLICY = policy("paced", {"bronze": f"{{connectivity: {{tier: bronze}}, {PLAN}}}", "plain": f"{{{PLAN}}}"}, {"ann": ("acme", "bronze"), "ben": ("acme", "plain")})
# Bytes a second.
RATE = 64 << 10


def paced(text):
    """Takes the comments off the two pieces."""
    for first in ("- name: envoy.filters.http.bandwidth_limit", "- match: {prefix: /, headers: [{name: x-farebox-tier, string_match: {exact: bronze}}]}"):
        piece = re.search(rf"\n( +)# {re.escape(first)}\n(?:\1#   .*\n)+", text)[0]
        text = text.replace(piece, piece.replace("# ", ""))
    return text


@pytest.fixture
def whole(tmp_path):
    with Whole(tmp_path, POLICY, edit=paced) as one:
        yield one


def streamed(whole, seat, tokens):
    """When which pieces of an answer came, in seconds since it was asked for, and its bytes."""
    began, pieces, size = time.monotonic(), [], 0
    answer = whole.post(seat, chat(f"[[output={tokens}]]", "demo-ann", stream=True, max_tokens=tokens), stream=True)
    for piece in answer.iter_content(None):
        size += len(piece)
        pieces.append(time.monotonic() - began)
    assert answer.status_code == 200
    return pieces, size


def test_a_stream_of_a_tier_is_paced_and_others_are_not(whole):
    plain, _ = streamed(whole, "ben", 600)
    pieces, size = streamed(whole, "ann", 600)
    seconds, longest = pieces[-1] - pieces[0], max(later - sooner for sooner, later in zip(pieces, pieces[1:]))
    print(f"{size} bytes in {seconds:.2f} s, {len(pieces)} pieces, {longest * 1000:.0f} ms between two at most; unpaced {plain[-1]:.2f} s")
    # A second's worth may come at once.
    assert plain[-1] < 1 and (size - RATE) / RATE - 0.2 <= seconds < size / RATE + 1.5
    assert longest < 0.5 and len(pieces) > 20
    first, second = whole.ledger.wait(2)
    assert [record["outcome"] for record in (first, second)] == ["complete"] * 2
    assert second["delivered"] == first["delivered"] == 600
    # The filter sees what its caller sees, when that sees it.
    assert (second["settled_ms"] - second["admitted_ms"]) / 1000 > seconds - 0.5


def test_streams_of_a_tier_share_its_bandwidth(whole):
    took = []
    both = [threading.Thread(target=lambda: took.append(streamed(whole, "ann", 600))) for _ in range(2)]
    [one.start() for one in both]
    [one.join() for one in both]
    sizes = sum(size for _, size in took)
    assert max(pieces[-1] for pieces, _ in took) > (sizes - RATE) / RATE - 0.2


def test_who_leaves_a_paced_stream_pays_what_he_was_given(whole):
    answer = whole.post("ann", chat("[[output=900]]", "demo-ann", stream=True, max_tokens=900), stream=True)
    began = time.monotonic()
    for _ in answer.iter_content(None):
        if time.monotonic() - began > 1:
            break
    answer.close()
    (record,) = whole.ledger.wait(1)
    print(f"{record['delivered']} of 900 tokens were delivered")
    assert record["outcome"] == "aborted" and 100 < record["delivered"] == record["usage"]["output"] < 850
