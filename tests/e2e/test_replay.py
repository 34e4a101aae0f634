"""One recorded exchange of each provider, API and kind of answer, through a real Envoy: a sample of what `make replay` replays whole."""

import json
import os
import pathlib
import random

import pytest
import replay

SEED = int(os.environ.get("REPLAY_SEED", "20261201"))


def corpus():
    """The corpus that is named in the environment, else the one beside the project."""
    named = os.environ.get("FAREBOX_CORPUS")
    path = pathlib.Path(named) if named else replay.CORPUS
    if not path.is_file():
        pytest.skip(f"no corpus at {path}; name one in FAREBOX_CORPUS")
    return path


def sample(rows, seed):
    """One row of each kind, by chance, the same with each seed."""
    kinds = {}
    for row in rows:
        if row["request_body"] is not None:
            kinds.setdefault((row["provider"], row["api"], bool(row["stream"])), []).append(row)
    chance = random.Random(seed)
    return [chance.choice(sorted(kinds[kind], key=lambda row: row["id"])) for kind in sorted(kinds)]


def test_a_sample_of_recorded_traffic_passes_as_it_was_recorded(tmp_path):
    rows = sample(replay.rows(corpus()), SEED)
    picked = tmp_path / "sample.jsonl"
    picked.write_text("".join(json.dumps(row) + "\n" for row in rows))
    became, faults = replay.replay(picked, tmp_path)
    assert not faults, f"seed {SEED}:\n" + "\n".join(faults)
    # Two formats nobody knows, and what was recorded so that its request cannot be read again.
    passed = sum(count for what, count in became.items() if "unknown" not in what)
    assert passed >= 0.9 * len(rows), became
