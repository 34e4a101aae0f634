"""The policy cases through a real Envoy: the same that `cargo test` runs in the simulator."""

import concurrent.futures
import os
import re
import subprocess

import pytest
from conftest import ROOT, TARGET, WASM, WASM_HOOKS

FAREBOX = os.environ.get("FAREBOX", str(TARGET / "debug/farebox"))
QUICKSTART = ROOT / "examples/quickstart/policy.yaml"
POLICIES = [*sorted((ROOT / "tests/cases").glob("*.yaml")), *sorted((ROOT / "examples").glob("**/policy.yaml"))]
# How many cases no Envoy can carry out: a caller has no key, what is used beforehand is kept in Envoy, ...
SKIPPED = {"alone": 6, "caps": 3, "endings": 2, "rejected": 1, "sliding": 1, "windows": 2, "zhipu-glm-coding-plan": 6}


def name(policy):
    return policy.parent.name if policy.stem == "policy" else policy.stem


def run_cases(policy, folder, wasm):
    """How many passed; none may fail, and only those be skipped that are known."""
    command = [FAREBOX, "test", str(policy), "--envoy", "--state-dir", str(folder), "--wasm", str(wasm)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1200, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    passed, failed, skipped = map(int, re.findall(r"\d+", ended.stdout.splitlines()[-1]))
    assert (failed, skipped) == (0, SKIPPED.get(name(policy), 0)), ended.stdout
    assert passed > 0
    return passed


@pytest.fixture(scope="module")
def runs(request, tmp_path_factory):
    """The runs of all policies that are asked for, twice as many at once as there are processors: half of the time they wait.

    The longest begin first, so that none of them is left alone at the end."""
    asked = [item.callspec.params["policy"] for item in request.session.items if "policy" in getattr(item, "fixturenames", ())]
    asked.sort(key=lambda policy: policy.stat().st_size, reverse=True)
    with concurrent.futures.ThreadPoolExecutor(2 * os.cpu_count()) as pool:
        yield {policy: pool.submit(run_cases, policy, tmp_path_factory.mktemp(name(policy)), WASM_HOOKS) for policy in asked}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("policy", POLICIES, ids=name)
def test_cases_hold_in_envoy(policy, runs):
    """By a filter with test hooks, whose clock can be set: so cases at month ends and peak hours run too."""
    print(f"{name(policy)}: {runs[policy].result()} passed")


def test_cases_hold_in_envoy_with_the_filter_that_is_shipped(tmp_path):
    print(f"{name(QUICKSTART)}: {run_cases(QUICKSTART, tmp_path, WASM)} passed")
