"""The model stand-in by itself: the official SDKs work against it, and what it reports is what it wrote."""

import http.client
import json
import os
import pathlib
import socket
import subprocess
import time
import urllib.request

import anthropic
import openai
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
WEATHER = {"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}


def farebox() -> str:
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    found = [target / kind / "farebox" for kind in ("debug", "release") if (target / kind / "farebox").exists()]
    default = max(found, key=lambda path: path.stat().st_mtime, default=target / "debug" / "farebox")
    return os.environ.get("FAREBOX", str(default))


class Upstream:
    def __init__(self, url):
        self.url = url
        self.openai = openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0)
        self.anthropic = anthropic.Anthropic(base_url=url, api_key="any", max_retries=0)

    def stats(self, query=""):
        return json.load(urllib.request.urlopen(f"{self.url}/stats{query}"))

    def exchange(self, id):
        (exchange,) = self.stats(f"?id={id}")["exchanges"]
        return exchange

    def eventually(self, id, outcome):
        """The exchange once it has ended; an abort is noticed when the next token cannot be written."""
        for _ in range(1000):
            exchange = self.exchange(id)
            if exchange["outcome"] != "running":
                break
            time.sleep(0.01)
        assert exchange["outcome"] == outcome, exchange
        return exchange

    def chat(self, prompt, **more):
        return self.openai.chat.completions.create(model="demo-small", messages=[{"role": "user", "content": prompt}], **more)

    def message(self, prompt, max_tokens=100, **more):
        messages = [{"role": "user", "content": prompt}]
        return self.anthropic.messages.create(model="demo-small", max_tokens=max_tokens, messages=messages, **more)

    def post(self, path, body, headers=None):
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"))
        connection.request("POST", path, json.dumps(body), {"content-type": "application/json", **(headers or {})})
        return connection.getresponse()


@pytest.fixture(scope="module")
def upstream():
    command = [farebox(), "upstream", "--listen", "127.0.0.1:0", "--pace", "0", "--seed", "7"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        word, url = process.stdout.readline().split()
        assert word == "ready"
        yield Upstream(url)
    finally:
        process.terminate()
        assert process.wait(10) == 0


def test_openai_completion(upstream):
    answer = upstream.chat("Hello there.")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.prompt_tokens == 3 + 3 + 4
    assert 10 <= answer.usage.completion_tokens <= 60
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    exchange = upstream.exchange(answer.id)
    assert exchange["outcome"] == "completed"
    assert exchange["written_tokens"] == exchange["completion_tokens"] == answer.usage.completion_tokens
    assert exchange["headers"]["authorization"] == "(present)"


def test_openai_stream(upstream):
    stream = upstream.chat("Hello [[output=25]]", stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    pieces = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    assert len(pieces) == 25, "one token an event"
    assert [c.usage.completion_tokens for c in chunks if c.usage] == [25]
    assert chunks[-1].choices == [] and chunks[-2].choices[0].finish_reason == "stop"
    assert upstream.exchange(chunks[0].id)["written_tokens"] == 25


def test_openai_stream_without_usage(upstream):
    chunks = list(upstream.chat("Hello [[output=5]]", stream=True))
    assert all(c.usage is None and c.choices for c in chunks)
    assert upstream.exchange(chunks[0].id)["reported"] is False


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_openai_limit(upstream, name):
    answer = upstream.chat("Hello [[output=25]]", **{name: 7})
    assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("length", 7)
    assert upstream.exchange(answer.id)["limit"] == 7


def test_openai_choices(upstream):
    answer = upstream.chat("Hello [[output=5]]", n=3)
    assert [c.index for c in answer.choices] == [0, 1, 2]
    assert answer.usage.completion_tokens == 15
    chunks = list(upstream.chat("Hello [[output=5]]", n=3, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].usage.completion_tokens == 15
    assert {c.choices[0].index for c in chunks if c.choices} == {0, 1, 2}


def test_openai_tool(upstream):
    tools = [{"type": "function", "function": {"name": "weather", "parameters": WEATHER}}]
    answer = upstream.chat("Please use the tool.", tools=tools)
    assert answer.choices[0].finish_reason == "tool_calls"
    call = answer.choices[0].message.tool_calls[0]
    assert call.function.name == "weather" and set(json.loads(call.function.arguments)) == {"city"}
    with upstream.openai.chat.completions.stream(
        model="demo-small", messages=[{"role": "user", "content": "use the tool"}], tools=tools
    ) as stream:
        final = stream.get_final_completion()
    assert set(json.loads(final.choices[0].message.tool_calls[0].function.arguments)) == {"city"}
    messages = [
        {"role": "user", "content": "use the tool"},
        {"role": "assistant", "tool_calls": [call.model_dump()]},
        {"role": "tool", "tool_call_id": call.id, "content": "12 degrees"},
    ]
    answer = upstream.openai.chat.completions.create(model="demo-small", messages=messages, tools=tools)
    assert answer.choices[0].message.content


def test_anthropic_message(upstream):
    answer = upstream.message("Hello there.", system="You are terse.")
    assert answer.stop_reason == "end_turn" and answer.content[0].text
    assert answer.usage.input_tokens == 3 + 4 + 4 + 3 + 4
    exchange = upstream.exchange(answer.id)
    assert exchange["written_tokens"] == answer.usage.output_tokens
    # Older SDKs send the key as `x-api-key`, 2.13 as a bearer.
    assert "(present)" in {exchange["headers"].get("x-api-key"), exchange["headers"].get("authorization")}
    assert "any" not in json.dumps(exchange["headers"])


def test_anthropic_stream(upstream):
    messages = [{"role": "user", "content": "Hello [[output=25 cached=4]]"}]
    with upstream.anthropic.messages.stream(model="demo-small", max_tokens=20, messages=messages) as stream:
        texts = list(stream.text_stream)
        final = stream.get_final_message()
    assert len(texts) == 20 and "".join(texts) == final.content[0].text
    assert (final.stop_reason, final.usage.output_tokens, final.usage.cache_read_input_tokens) == ("max_tokens", 20, 4)
    assert upstream.exchange(final.id)["prompt_tokens"] == final.usage.input_tokens + 4


def test_anthropic_tool(upstream):
    tools = [{"name": "weather", "description": "The weather.", "input_schema": WEATHER}]
    answer = upstream.message("use the tool", tools=tools)
    assert answer.stop_reason == "tool_use" and set(answer.content[0].input) == {"city"}
    messages = [{"role": "user", "content": "use the tool"}]
    with upstream.anthropic.messages.stream(model="demo-small", max_tokens=100, messages=messages, tools=tools) as stream:
        final = stream.get_final_message()
    assert final.stop_reason == "tool_use" and set(final.content[0].input) == {"city"}


def test_anthropic_token_count(upstream):
    messages = [{"role": "user", "content": "Hello there."}]
    assert upstream.anthropic.messages.count_tokens(model="demo-small", messages=messages).input_tokens == 10


def test_errors(upstream):
    with pytest.raises(openai.RateLimitError) as error:
        upstream.chat("[[error=429]]")
    assert error.value.code == "rate_limit_exceeded" and error.value.response.headers["retry-after"] == "1"
    with pytest.raises(anthropic.RateLimitError):
        upstream.message("[[error=429]]")
    with pytest.raises(anthropic.InternalServerError) as error:
        upstream.message("[[error=529]]")
    assert error.value.body["error"]["type"] == "overloaded_error"
    with pytest.raises(openai.BadRequestError) as error:
        upstream.chat("Hello", extra_headers={"x-upstream": "outptu=3"})
    assert "unknown marker `outptu`" in str(error.value)
    with pytest.raises(openai.BadRequestError):
        upstream.chat("Hello", max_tokens=0)


def test_header_steers(upstream):
    answer = upstream.chat("Hello", extra_headers={"x-upstream": "output=3 input=500 cached=100"})
    assert (answer.usage.completion_tokens, answer.usage.prompt_tokens) == (3, 500)
    assert answer.usage.prompt_tokens_details.cached_tokens == 100


def test_silent_and_absurd(upstream):
    assert upstream.chat("[[silent]]").usage is None
    assert upstream.chat("[[absurd]]").usage.prompt_tokens == -1
    chunks = list(upstream.chat("[[silent]]", stream=True, stream_options={"include_usage": True}))
    assert all(c.usage is None and c.choices for c in chunks)
    events = list(upstream.message("[[silent]]", stream=True))
    assert not hasattr(events[-2], "usage") or events[-2].usage is None
    assert upstream.message("[[absurd]]").usage.input_tokens == -5


def test_limit_ignored(upstream):
    assert upstream.chat("[[output=30 ignore-limit]]", max_tokens=5).usage.completion_tokens == 30


@pytest.mark.parametrize("stream", [False, True])
def test_break(upstream, stream):
    body = {"model": "m", "stream": stream, "messages": [{"role": "user", "content": "[[output=30 break=4]]"}]}
    response = upstream.post("/v1/chat/completions", body)
    id = response.getheader("x-request-id")
    with pytest.raises(http.client.IncompleteRead) as cut:
        response.read()
    assert upstream.eventually(id, "cut")["written_tokens"] == 4
    text = cut.value.partial.decode()
    assert id in text or not stream
    if stream:
        assert sum('"content":"' in line and '"role"' not in line for line in text.splitlines()) == 4


def test_client_hangs_up(upstream):
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "[[output=5000 pace=2ms]]"}]}
    response = upstream.post("/v1/chat/completions", body)
    read = sum('"content":"' in response.readline().decode() for _ in range(20))
    response.close()
    exchange = upstream.eventually(response.getheader("x-request-id"), "aborted")
    assert read - 1 <= exchange["written_tokens"] < 5000


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_inside_error(upstream, path):
    body = {"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": "[[inside-error output=8]]"}]}
    assert "error" in json.load(upstream.post(path, body))
    response = upstream.post(path, {**body, "stream": True})
    text = response.read().decode()
    assert "overloaded" in text.split("data: ")[-1] and "[DONE]" not in text and "message_stop" not in text


def test_framing(upstream):
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "[[crlf comments output=3]]"}]}
    text = upstream.post("/v1/chat/completions", body).read()
    assert text.count(b": still here\r\n\r\n") == 3 and b"\n\n" not in text


def test_trailers(upstream):
    for stream in (False, True):
        body = {"model": "m", "stream": stream, "messages": [{"role": "user", "content": "[[trailers output=3]]"}]}
        host, port = upstream.url.removeprefix("http://").split(":")
        raw = json.dumps(body).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\nte: trailers\r\nconnection: close, te\r\n"
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(f"{head}content-length: {len(raw)}\r\n\r\n".encode() + raw)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert b"\r\ntrailer: x-upstream-tokens\r\n" in answer
        assert answer.endswith(b"0\r\nx-upstream-tokens: 3\r\n\r\n"), answer[-80:]


def test_http2_trailers(upstream):
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "[[trailers output=3]]"}]}
    command = ["curl", "-sv", "--http2-prior-knowledge", f"{upstream.url}/v1/chat/completions", "--json", json.dumps(body)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "HTTP/2 200" in said.stderr and "< x-upstream-tokens: 3" in said.stderr
    assert said.stdout.endswith("data: [DONE]\n\n")


def test_stats_add_up(upstream):
    urllib.request.urlopen(urllib.request.Request(f"{upstream.url}/stats", method="DELETE"))
    answers = [upstream.chat("Hello") for _ in range(5)]
    stats = upstream.stats("?last=2")
    assert (stats["requests"], stats["completed"], stats["running"]) == (5, 5, 0)
    assert stats["completion_tokens"] == stats["written_tokens"] == sum(a.usage.completion_tokens for a in answers)
    assert [e["id"] for e in stats["exchanges"]] == [a.id for a in answers[-2:]]


def test_unknown_path(upstream):
    with pytest.raises(openai.NotFoundError):
        upstream.openai.moderations.create(model="m", input="x")
