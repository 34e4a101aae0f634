"""The policy cases through a real Envoy: the same that `cargo test` runs in the simulator."""

import os
import re
import subprocess

import pytest
from conftest import ROOT, TARGET, WASM

FAREBOX = os.environ.get("FAREBOX", str(TARGET / "debug/farebox"))
# How many cases no Envoy can carry out: what is used beforehand is kept in Envoy, its clock cannot be set, ...
SKIPPED = {"alone": 6, "caps": 3, "funds": 2, "windows": 8}
POLICIES = [*sorted((ROOT / "tests/cases").glob("*.yaml")), ROOT / "examples/quickstart/policy.yaml"]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda path: path.stem)
def test_cases_hold_in_envoy(policy, tmp_path):
    command = [FAREBOX, "test", str(policy), "--envoy", "--state-dir", str(tmp_path), "--wasm", str(WASM)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    passed, failed, skipped = map(int, re.findall(r"\d+", ended.stdout.splitlines()[-1]))
    print(f"{policy.stem}: {passed} passed, {skipped} skipped")
    assert (failed, skipped) == (0, SKIPPED.get(policy.stem, 0)), ended.stdout
    assert passed > 0
