"""How the real Envoy and the host adapter behave: the facts that the design stands on."""

import base64
import concurrent.futures
import json
import random
import re
import socket
import string
import struct
import subprocess
import threading

import h2.config
import h2.connection
import h2.events
import pytest
import requests
from conftest import CHAT, ENVOY, FAREBOX, KEY, LEDGER, PASSING, TRAILERS, WASM, WASM_HOOKS, Gate, Stack, Upstream, free_port, until


def first(policy):
    return policy.replace("bundle:", "envoy: {headers: first}\nbundle:", 1)


@pytest.fixture(params=["held", "first"])
def mode(request):
    """Turns a policy into one for this host mode."""
    return {"held": lambda policy: policy, "first": first}[request.param]


def chat(envoy, content="hello", **settings):
    body = {"model": "demo-small", "max_tokens": 16, "messages": [{"role": "user", "content": content}]}
    data = json.dumps({**body, **settings.pop("body", {})})
    return requests.post(envoy.url + CHAT, data=settings.pop("wrap", lambda data: data)(data), headers=KEY, timeout=20, **settings)


def get(envoy, path="/x", **headers):
    return requests.get(envoy.url + path, headers={**KEY, **headers}, timeout=20)


def hook(envoy, path, **settings):
    answer = requests.get(f"{envoy.url}/farebox-test/{path}", timeout=30, **settings)
    assert answer.status_code == 200, answer.text
    return answer.text


def raw(envoy, data, until_closed=False):
    """Sends bytes as they are; returns what comes back until the head is there, or until the end."""
    with socket.create_connection(("127.0.0.1", envoy.port), timeout=10) as conn:
        conn.sendall(data)
        got = b""
        while until_closed or b"\r\n\r\n" not in got:
            piece = conn.recv(65536)
            if not piece:
                break
            got += piece
        return got


AUTH = b"authorization: Bearer demo-alice\r\n"


@pytest.mark.container
def test_traffic_passes(stack, upstream, mode):
    envoy = stack(policy=mode(PASSING))
    answer = requests.post(envoy.url + "/somewhere?x=1", data=b"12345", headers=KEY, timeout=10)
    assert (answer.status_code, answer.content) == (200, b"hello")
    assert upstream.seen[0]["body"] == b"12345"
    assert get(envoy, "/models").content == b"hello"
    assert chat(envoy).content == b"hello"
    # What nobody could read, and the policy passes.
    answer = requests.post(envoy.url + CHAT, data=b"\xff no json", headers=KEY, timeout=10)
    assert (answer.status_code, upstream.seen[-1]["body"]) == (200, b"\xff no json")
    assert requests.get(envoy.url, timeout=10).status_code == 401, "and who calls must still be known"


def test_no_hooks_in_the_module_that_ships():
    hook = b"killed by a test"
    assert hook in open(WASM_HOOKS, "rb").read()
    assert hook not in open(WASM, "rb").read()


@pytest.mark.container
def test_insert_if_absent_and_swap(stack):
    envoy = stack(wasm=WASM_HOOKS)
    # Missing at first; inserted once only; right version taken; stale one not; version 0 never passed on; set empty is not missing.
    assert hook(envoy, "insert/one") == "Ok(true) Ok(true) Ok(false) Ok(true) Ok(false) Err(StoreError) Ok(Some([]))"


def test_vectors_in_the_filter_count_as_the_binary_does_without(stack, tmp_path):
    envoy, draw = stack(wasm=WASM_HOOKS), random.Random(5)
    signs = string.ascii_letters * 2 + string.digits + string.punctuation + " \t\n\r\x0b\x0c\x00\x1f\x7f /" + "'s'LL'd"
    foreign = "\u00a0\u017f\u0301\u4e2d\u3000\u0660\u01c5\U0001f600é"
    pieces = [*signs, *signs, *foreign, "    ", "\n\n", "AbC", "hello", "World", "://", "1234"]
    texts = ["".join(draw.choices(pieces, k=draw.randrange(1, 4_000))) for _ in range(40)]
    files = [tmp_path / f"{n}" for n in range(len(texts))]
    for file, text in zip(files, texts):
        file.write_bytes(text.encode())
    for encoding in ("o200k_base", "cl100k_base"):
        told = subprocess.run([FAREBOX, "count", "--encoding", encoding, *map(str, files)], capture_output=True, text=True, check=True)
        expected = [f"Some({line.split()[0]})" for line in told.stdout.splitlines()][: len(texts)]
        said = [hook(envoy, f"count/{encoding}", headers={"x-text": base64.b64encode(text.encode()).decode()}) for text in texts]
        assert said == expected and len(said) == 40


def test_swaps_lose_nothing_across_workers(stack):
    envoy = stack(wasm=WASM_HOOKS, concurrency=2)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        said = list(pool.map(lambda _: hook(envoy, "add/sum/5000"), range(64)))
    lost = sum(int(one.split()[1]) for one in said)
    print(f"64 requests of 5,000 swaps on one key: {lost} lost races")
    assert max(int(one.split()[0]) for one in said) == 64 * 5000
    # Every insert at once: many keys that many requests meet first.
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        said = list(pool.map(lambda n: (n % 200, hook(envoy, f"add/key-{n % 200}/1")), range(800)))
    for key in range(200):
        assert max(int(one.split()[0]) for n, one in said if n == key) == 4


def test_body_where_there_is_none_is_an_error_and_no_panic(stack):
    envoy = stack(wasm=WASM_HOOKS)
    assert hook(envoy, "empty-body") == "Err(Status(2))"
    assert hook(envoy, "late-header") == "Err(Status(2))"


@pytest.mark.container
def test_headers_that_are_no_utf8(stack, mode):
    envoy = stack(policy=mode(PASSING), wasm=WASM_HOOKS)
    for path in [b"/x", CHAT.encode()]:
        for _ in range(10):
            got = raw(envoy, b"GET " + path + b" HTTP/1.1\r\nhost: a\r\n" + AUTH + b"x-foo: \xff\xfe\xc3\x28\r\nx-foo: again\r\n\r\n")
            assert got.startswith(b"HTTP/1.1 200"), got
    got = raw(envoy, b"GET /x HTTP/1.1\r\nhost: a\r\nauthorization: Bearer \xff\xfe\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 401"), got
    text = raw(
        envoy,
        b"GET /farebox-test/headers HTTP/1.1\r\nhost: a\r\nx-d: 1\r\nx-d: 2\r\nconnection: close\r\n\r\n",
        until_closed=True,
    )
    # Duplicates are kept apart: "x-d" is 120, 45, 100.
    assert text.count(b"[120, 45, 100]") == 2, text


def test_peer_is_the_connection_whatever_the_client_claims(stack):
    envoy = stack(wasm=WASM_HOOKS)
    assert hook(envoy, "peer", headers={"x-forwarded-for": "10.9.8.7"}) == "Some(127.0.0.1)"


def test_client_cannot_set_internal_headers(stack, upstream):
    envoy = stack()
    upstream.answer = lambda request, conn: conn.sendall(
        b"HTTP/1.1 503 No\r\nx-farebox-secret: 1\r\ncontent-length: 0\r\n\r\n"
    )
    headers = {"x-farebox-tier": "gold", "x-envoy-retry-on": "5xx", "x-envoy-max-retries": "9"}
    answer = get(envoy, **headers)
    assert answer.status_code == 503
    assert not [name for name in answer.headers if name.lower().startswith(("x-farebox", "x-envoy"))]
    assert len(upstream.seen) == 1, "retried because the client said so"
    assert b"x-farebox" not in upstream.seen[0]["head"].lower()
    assert b"demo-alice" not in upstream.seen[0]["head"], "the caller's key is none of the upstream's business"


def test_nothing_passes_the_guard_without_the_filter(stack, upstream):
    name = "- name: envoy.filters.http.wasm\n"
    envoy = stack(edit=lambda text: text.replace(name, name + "            disabled: true\n"))
    assert requests.post(envoy.url, data=b"1", headers=KEY, timeout=10).status_code == 403
    assert upstream.seen == []


@pytest.mark.container
def test_changed_body_keeps_the_connection_whole(stack, upstream, mode):
    envoy = stack(policy=mode(PASSING), concurrency=1)
    for content in ["short", "long " * 60_000]:
        # Usage is asked for in the stream, so the body that leaves is longer than the one that came.
        assert chat(envoy, content, body={"stream": True}).status_code == 200
        sent = json.loads(upstream.seen[-1]["body"])
        assert sent["messages"][0]["content"] == content
        assert sent["stream_options"] == {"include_usage": True}
        # Chunked in, in pieces.
        pieces = lambda data: iter([data[:7].encode(), data[7:].encode()])
        assert chat(envoy, content, body={"stream": True}, wrap=pieces).status_code == 200
        assert json.loads(upstream.seen[-1]["body"]) == sent
    # And what follows on the same upstream connection is a request of its own.
    assert get(envoy, "/plain").status_code == 200
    assert upstream.seen[-1]["head"].startswith(b"GET /plain ")


def http2(envoy, headers, body, trailers=None, path=CHAT):
    """One request over HTTP/2 without TLS; returns status and body. `trailers` end it, else its last data frame does."""
    with socket.create_connection(("127.0.0.1", envoy.port), timeout=10) as conn:
        state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        state.initiate_connection()
        fixed = [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", path)]
        state.send_headers(1, [*fixed, *headers])
        state.send_data(1, body, end_stream=trailers is None)
        if trailers is not None:
            state.send_headers(1, trailers, end_stream=True)
        conn.sendall(state.data_to_send())
        status, got = None, b""
        while piece := conn.recv(65536):
            for event in state.receive_data(piece):
                if isinstance(event, h2.events.ResponseReceived):
                    status = int(dict(event.headers)[b":status"])
                elif isinstance(event, h2.events.DataReceived):
                    got += event.data
                elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
                    return status, got
            conn.sendall(state.data_to_send())
    return status, got


@pytest.mark.parametrize("trailers", [None, [("x-sum", "1")]])
def test_http2_and_request_trailers(stack, upstream, gate, mode, trailers):
    """The body's end is told by trailers alone; and the stream waits in that very callback."""
    envoy = stack(policy=mode(LEDGER), collector=gate.port)
    body = json.dumps({"model": "demo-small", "max_tokens": 9, "stream": True, "messages": []}).encode()
    status, got = http2(envoy, KEY.items(), body, trailers)
    assert (status, got) == (200, b"hello")
    assert json.loads(upstream.seen[0]["body"])["stream_options"] == {"include_usage": True}
    assert http2(envoy, KEY.items(), b"{", trailers)[0] == 200
    assert http2(envoy, [], b"{", trailers)[0] == 401


def test_request_trailers_carry_no_credentials(stack, upstream, mode):
    """Neither of a call that is metered nor of one that passes; others go on."""
    policy = mode(PASSING).replace("open: {", "open: {security: {headers: {strip: [x-internal-*]}}, ")
    envoy = stack(policy=policy, edit=lambda text: text.replace("  - name: upstream\n", TRAILERS))
    trailers = [("authorization", "Bearer x"), ("x-api-key", "x"), ("x-farebox-tier", "gold"), ("x-internal-id", "7"), ("x-sum", "1")]
    for path in (CHAT, "/somewhere"):
        body = json.dumps({"model": "demo-small", "messages": []}).encode()
        assert http2(envoy, KEY.items(), body, trailers, path) == (200, b"hello")
        # HTTP/1.1 has none behind a body whose length is announced.
        announced = b"content-length" in upstream.seen[-1]["head"].lower()
        assert upstream.seen[-1]["trailers"] == (b"" if announced else b"x-sum: 1")
    assert not announced


def test_two_bundles_in_one_vm_do_not_mix(stack, upstream):
    """Two listeners, one VM a thread: each filter counts by its own bundle."""
    few = PASSING.replace("1b requests", "3 requests")
    other_port = free_port()

    def second(text):
        listener = re.search(r"  - name: llm\n    address:(?:.*\n)+?(?=\n  clusters:)", text)[0]
        again = listener.replace("- name: llm\n    address", "- name: other\n    address", 1)
        again = re.sub(r"port_value: \d+", f"port_value: {other_port}", again, count=1)
        again = again.replace("name: host-tests", "name: other-tests")
        return text.replace(listener, listener + again)

    envoy = stack(policy=few, edit=second, concurrency=1)
    codes = [chat(envoy).status_code for _ in range(4)]
    assert codes == [200, 200, 200, 429]
    envoy.url = f"http://127.0.0.1:{other_port}"
    assert [chat(envoy).status_code for _ in range(4)] == codes, "the other bundle has its own counters"


def test_refusals_reach_the_client_whole(stack, upstream, mode):
    envoy = stack(policy=mode(PASSING.replace("1b requests", "2 requests")))
    assert [chat(envoy).status_code for _ in range(2)] == [200, 200]
    for content in ["short", "long " * 60_000]:
        answer = chat(envoy, content)
        assert answer.status_code == 429
        assert answer.json()["error"]["code"] == "rate_limit_exceeded"
        assert int(answer.headers["retry-after"]) > 0
    line = last_line(envoy, 3)
    assert (line["details"], line["decision"], "outcome" in line) == ("farebox", "deny", False), line
    # With headers first the upstream has seen the head of it, and never the body.
    assert [len(one["body"]) > 0 for one in upstream.seen] == [True, True]


def test_websocket_upgrade_passes_untouched(stack, upstream):
    envoy = stack()

    def echo(request, conn):
        conn.sendall(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        while piece := conn.recv(100):
            conn.sendall(piece[::-1])

    upstream.answer = echo
    with socket.create_connection(("127.0.0.1", envoy.port), timeout=10) as conn:
        conn.sendall(b"GET /chat HTTP/1.1\r\nhost: a\r\n" + AUTH + b"connection: upgrade\r\nupgrade: websocket\r\n\r\n")
        got = conn.recv(1000)
        assert got.startswith(b"HTTP/1.1 101"), got
        conn.sendall(b"\x81\x05hello")
        assert conn.recv(100) == b"olleh\x05\x81"


def test_connect_is_refused(stack, upstream):
    envoy = stack()
    got = raw(envoy, b"CONNECT example.com:443 HTTP/1.1\r\nhost: example.com:443\r\n" + AUTH + b"\r\n")
    assert re.match(rb"HTTP/1.1 4\d\d", got), got
    assert upstream.seen == []


@pytest.mark.container
@pytest.mark.parametrize("pieces", [None, [0, 7], [0, 1, 2, 3]])
def test_a_stream_waits_for_a_callout_of_its_root(stack, upstream, gate, mode, pieces):
    envoy = stack(policy=mode(LEDGER), collector=gate.port)
    wrap = pieces and (lambda data: iter([data[a:b].encode() for a, b in zip(pieces, [*pieces[1:], None])]))
    answer = chat(envoy, "grüße", body={"stream": True}, **({"wrap": wrap} if wrap else {}))
    assert answer.status_code == 200, answer.text
    assert gate.asked >= 1, "it did not wait for its grant"
    assert json.loads(upstream.seen[0]["body"])["stream_options"] == {"include_usage": True}


def test_waiting_streams_share_a_callout_and_outlive_who_asked(stack, upstream, gate):
    policy = LEDGER.replace("patience: 1500ms", "patience: 20s")
    envoy = stack(collector=gate.port, concurrency=1, policy=policy)
    gate.open.clear()
    # The one that asks hangs up while its question is out.
    asker = socket.create_connection(("127.0.0.1", envoy.port))
    body = b'{"model":"demo-small","max_tokens":9,"messages":[]}'
    asker.sendall(b"POST %s HTTP/1.1\r\nhost: a\r\n%scontent-length: %d\r\n\r\n%s" % (CHAT.encode(), AUTH, len(body), body))
    until(lambda: gate.asked, 10, "the callout is out")
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        waiting = [pool.submit(chat, envoy) for _ in range(20)]
        active = "http.llm.downstream_rq_active"
        until(lambda: envoy.stats(active).get(active, 0) >= 21, 5, "all wait")
        asked = gate.asked
        asker.close()
        gate.open.set()
        assert [one.result().status_code for one in waiting] == [200] * 20
    assert len(upstream.seen) == 20
    assert asked <= 2, "one fetch at a time, however many wait"


@pytest.mark.parametrize("kind", ["refuses", "silent", "error", "garbage", "cut", "gone"])
def test_every_wait_ends(stack, upstream, ledger, kind):
    """A collector that cannot grant: the stream is refused in time, nothing reaches the upstream, and no VM dies."""
    edit, collector = None, None
    if kind == "silent":
        collector = Gate(ledger.port)
        collector.open.clear()
    elif kind == "cut":
        collector = Gate(ledger.port)
        collector.cut = 40
    elif kind in ("error", "garbage"):
        collector = Upstream()
        status = {"error": b"500 X", "garbage": b"200 OK"}[kind]
        collector.answer = lambda _, conn: conn.sendall(b"HTTP/1.1 " + status + b"\r\ncontent-length: 3\r\n\r\n\x93\x00\xff")
    elif kind == "gone":
        endpoints = r"    load_assignment:\n      cluster_name: farebox-collector\n(?:      .*\n)+"
        edit = lambda text: re.sub(endpoints, "", text)
    envoy = stack(policy=LEDGER, collector=collector and collector.port, edit=edit)
    answer = chat(envoy)
    assert answer.status_code == 503, answer.text
    assert upstream.seen == []
    if kind != "silent":
        counted = envoy.stats("farebox.sync_failed_total")
        assert counted.get("wasmcustom.farebox.sync_failed_total"), "and the failure is counted"
    if collector:
        collector.close()


def test_host_that_does_not_hold_headers_is_noticed(stack, upstream):
    flag = "allow_on_headers_stop_iteration: "
    envoy = stack(edit=lambda text: text.replace(flag + "true", flag + "false"))
    answer = chat(envoy)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "farebox_unavailable"
    assert flag.strip(": ") in envoy.log()
    # No body, no need.
    assert get(envoy).status_code == 200


def test_slow_client_is_no_such_host(stack, upstream):
    envoy = stack()
    with socket.create_connection(("127.0.0.1", envoy.port), timeout=10) as conn:
        conn.sendall(b"POST %s HTTP/1.1\r\nhost: a\r\n%scontent-length: 5\r\n\r\n" % (CHAT.encode(), AUTH))
        conn.settimeout(2.5)  # beyond the adapter's patience with a host
        with pytest.raises(TimeoutError):
            conn.recv(1)
        conn.settimeout(10)
        conn.sendall(b"\xff" * 5)
        assert conn.recv(1000).startswith(b"HTTP/1.1 200")


def last_line(envoy, count):
    """The access log's line of the `count`-th stream."""
    return until(lambda: len(lines := envoy.access_log()) >= count and lines[count - 1], 15, f"{count} access log lines")


@pytest.mark.container
def test_ends_are_told_apart(stack, upstream):
    envoy = stack(concurrency=1)
    start = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    event = b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
    start += b"%x\r\n%s\r\n" % (len(event), event)
    how = None

    def respond(request, conn):
        if how == "reset early":
            conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            conn.close()
        elif how == "reset late":
            conn.sendall(start)
            conn.close()
        elif how == "endless":
            conn.sendall(start)
            while conn.recv(10):
                pass
        else:
            conn.sendall(start + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")

    upstream.answer = respond
    assert chat(envoy, body={"stream": True}).status_code == 200
    assert last_line(envoy, 1)["outcome"] == "complete_silent"
    how = "reset early"
    assert chat(envoy, body={"stream": True}).status_code == 503
    assert last_line(envoy, 2)["outcome"] == "no_response"
    how = "reset late"
    with pytest.raises(requests.RequestException):
        chat(envoy, body={"stream": True})
    assert last_line(envoy, 3)["outcome"] == "cut_by_upstream"
    how = "endless"
    with chat(envoy, body={"stream": True}, stream=True) as answer:
        assert answer.status_code == 200
        answer.raw.read(1)
    line = last_line(envoy, 4)
    assert (line["outcome"], line["admitted"], line["attempts"]) == ("aborted", "yes", 1)


def test_no_upstream_is_a_connect_failure(stack):
    envoy = stack(upstream=free_port())
    assert chat(envoy).status_code == 503
    assert last_line(envoy, 1)["outcome"] == "connect_failure"


def test_body_beyond_the_buffer_is_413(stack, upstream):
    limit = "per_connection_buffer_limit_bytes: "
    envoy = stack(edit=lambda text: text.replace(limit + "16777216", limit + "20000"))
    assert chat(envoy, "x" * 100_000).status_code == 413
    assert upstream.seen == []
    assert "outcome" not in last_line(envoy, 1), "what was never admitted is no exchange"


def test_codec_error_needs_no_request_headers(stack):
    envoy = stack()
    assert raw(envoy, b"GET / HTTP/1.1\r\nbroken\r\n\r\n").startswith(b"HTTP/1.1 400")
    assert get(envoy).status_code == 200


def test_labels_become_labels(stack):
    envoy = stack(policy=PASSING.replace("demo-small", "demo.small-4.1"))
    chat(envoy, body={"model": "demo.small-4.1"})
    chat(envoy, body={"model": "unheard-of"})
    requests.get(envoy.url, timeout=10)
    until(lambda: len(envoy.access_log()) == 3, 10, "three streams are over")
    text = requests.get(envoy.admin + "/stats/prometheus", timeout=10).text
    ours = [line for line in text.splitlines() if line.startswith("farebox_")]
    exchanges = [line for line in ours if line.startswith("farebox_exchanges_total{")]
    assert exchanges and 'model="demo.small-4.1"' in exchanges[0], text
    # A label without its rule in envoy.yaml would stay in the name.
    for line in ours:
        assert re.fullmatch(r"farebox_[a-z_]+\{[^}]*\} \d+", line), line
    assert any(line.startswith("farebox_refusals_total{") for line in ours)


@pytest.mark.container
def test_dead_vm_comes_back_by_itself(stack, upstream):
    envoy = stack(wasm=WASM_HOOKS, may_crash=True, concurrency=2)
    with pytest.raises((requests.RequestException, AssertionError)):
        hook(envoy, "panic")
    assert "killed by a test" in envoy.log()
    until(lambda: all(get(envoy).status_code == 200 for _ in range(30)), 15, "both workers serve")


def test_bad_policy_is_refused_by_validate(tmp_path):
    bad = Stack(tmp_path, upstream=free_port(), policy=PASSING.replace("plans:", "plants:"))
    done = subprocess.run([ENVOY, "--mode", "validate", "-c", bad.config], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "plants" in done.stderr and "policy:7:" in done.stderr


@pytest.mark.container
def test_updates_of_a_running_envoy(stack, upstream):
    release = threading.Event()

    def respond(request, conn):
        conn.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\ndata\r\n")
        if b"slow" in request["body"]:
            release.wait(60)
        conn.sendall(b"3\r\nend\r\n0\r\n\r\n")

    upstream.answer = respond
    envoy = stack(dynamic=True, concurrency=1)
    slow = chat(envoy, "slow", stream=True)
    assert envoy.update(PASSING.replace("plans:", "plants:")) == "rejected"
    assert "plants" in envoy.log()
    assert chat(envoy).status_code == 200, "the old policy keeps serving"
    for version in range(5):
        assert envoy.update(PASSING.replace('version: "1"', f'version: "2.{version}"')) == "applied"
        assert chat(envoy).status_code == 200
    release.set()
    assert slow.content == b"dataend", "a running stream outlives the update"
    until(lambda: [line for line in envoy.access_log() if "outcome" in line][6:], 10, "seven exchanges are settled")


def test_update_while_a_callout_is_out(stack, upstream, gate):
    policy = LEDGER.replace("patience: 1500ms", "patience: 20s")
    envoy = stack(policy=policy, dynamic=True, concurrency=1, collector=gate.port)
    gate.open.clear()
    asker = socket.create_connection(("127.0.0.1", envoy.port))
    body = b'{"model":"demo-small","max_tokens":9,"messages":[]}'
    asker.sendall(b"POST %s HTTP/1.1\r\nhost: a\r\n%scontent-length: %d\r\n\r\n%s" % (CHAT.encode(), AUTH, len(body), body))
    until(lambda: gate.asked, 10, "the callout is out")
    # The last stream of the old root goes, and so does the root: the answer will never come.
    assert envoy.update(policy.replace('version: "1"', 'version: "2"')) == "applied"
    asker.close()
    until(lambda: envoy.access_log(), 10, "the stream is over")
    gate.open.set()
    assert chat(envoy).status_code == 200, "a question that went unanswered is asked again"
