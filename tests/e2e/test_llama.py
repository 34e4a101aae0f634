"""A real model behind it: llama.cpp with real weights (`make llama`; 242 MB, so not in the default run)."""

import pathlib
import sqlite3

import msgpack
import openai
import pytest
from conftest import until
from test_run import run  # noqa: F401  (the fixture)

pytestmark = pytest.mark.llama
MODEL = "gemma-3-270m"
PROMPTS = [
    "Hi",
    "Write one sentence about the sea.",
    "用一句话介绍上海。",
    "Почему небо голубое?",
    "Count from one to twenty in words.",
    "def fibonacci(n):",
    '{"name": "Ada", "born": 1815}',
    "🙂🙃 What do these mean?",
    "Translate to French: good morning, my friend.",
    "List three prime numbers above one hundred.",
    " ".join(["A long prompt repeats itself."] * 40),
    "\n\n\n   spaces    and\ttabs   \n",
    "SELECT name FROM seats WHERE org = 'acme';",
    "What is 12 * 12?",
    "ありがとう",
    "Say nothing.",
    "https://example.org/a/b?c=d#e",
    "Ünïcödé ﬁgures ½ ⅓",
    "Explain a turnstile to a child.",
    "The end",
]


def records(file):
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30) as connection:
        rows = connection.execute("SELECT body FROM bodies ORDER BY epoch, vm, generation, sequence").fetchall()
    return [msgpack.unpackb(body) for (body,) in rows]


def call(client, number, prompt):
    """Every second call streams. Answers what the server reported: prompt and completion tokens."""
    asked = {"model": MODEL, "max_tokens": 5 + 3 * number, "temperature": 0, "messages": [{"role": "user", "content": prompt}]}
    if number % 2 == 0:
        usage = client.chat.completions.create(**asked).usage
    else:
        chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
        (usage,) = [chunk.usage for chunk in chunks if chunk.usage]
    return usage.prompt_tokens, usage.completion_tokens


def test_each_record_is_what_the_real_server_reported(run):  # noqa: F811
    started = run(UPSTREAM="llama")
    assert "ready http" in started.said, started.stop() or started.err
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{started.env['PORT']}/v1", api_key="demo-alice", timeout=120)
    reported = [call(client, number, prompt) for number, prompt in enumerate(PROMPTS)]
    # Without being asked for it by the client: hidden, and in the record all the same.
    quiet = list(client.chat.completions.create(
        model=MODEL, max_tokens=8, temperature=0, stream=True, messages=[{"role": "user", "content": PROMPTS[0]}]
    ))
    assert not [chunk for chunk in quiet if chunk.usage]
    (file,) = pathlib.Path(started.state).glob("*.db")
    kept = until(lambda: len(now := records(file)) > len(PROMPTS) and now, 30, "all records are in the ledger")
    seen = [(record["usage"]["input"] + record["usage"]["cache_read"], record["usage"]["output"]) for record in kept]
    print(f"{len(PROMPTS)} prompts to a real model: {sum(map(sum, reported)):,} tokens reported, {sum(map(sum, seen[:-1])):,} in the records")
    assert seen[:-1] == reported
    assert seen[-1][0] == reported[0][0] and {record["source"] for record in kept} == {"reported"}
