"""How the real Envoy and the host adapter behave: the facts that the design stands on."""

import concurrent.futures
import re
import socket
import struct
import subprocess
import threading

import pytest
import requests
from conftest import ENVOY, PASSING, WASM_HOOKS, Stack, Upstream, free_port, until

HELD, FIRST = PASSING, PASSING.replace("bundle:", "envoy: {headers: first}\nbundle:")


@pytest.fixture(params=["held", "first"])
def policy(request):
    return {"held": HELD, "first": FIRST}[request.param]


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


@pytest.mark.container
def test_traffic_passes(stack, upstream, policy):
    envoy = stack(policy=policy)
    answer = requests.post(envoy.url + "/somewhere?x=1", data=b"12345", timeout=10)
    assert (answer.status_code, answer.content) == (200, b"hello")
    assert upstream.seen[0]["body"] == b"12345"
    assert requests.get(envoy.url + "/models", timeout=10).content == b"hello"


@pytest.mark.container
def test_insert_if_absent_and_swap(stack):
    envoy = stack(wasm=WASM_HOOKS)
    # Missing at first; inserted once only; right version taken; stale one not; version 0 never passed on; set empty is not missing.
    assert hook(envoy, "insert/one") == "Ok(true) Ok(true) Ok(false) Ok(true) Ok(false) Err(StoreError) Ok(Some([]))"


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
def test_headers_that_are_no_utf8(stack, policy):
    envoy = stack(policy=policy, wasm=WASM_HOOKS)
    for _ in range(20):
        got = raw(envoy, b"GET /x HTTP/1.1\r\nhost: a\r\nx-foo: \xff\xfe\xc3\x28\r\nx-foo: again\r\n\r\n")
        assert got.startswith(b"HTTP/1.1 200"), got
    text = raw(
        envoy,
        b"GET /farebox-test/headers HTTP/1.1\r\nhost: a\r\nx-d: 1\r\nx-d: 2\r\nconnection: close\r\n\r\n",
        until_closed=True,
    )
    # Duplicates are kept apart: "x-d" is 120, 45, 100.
    assert text.count(b"[120, 45, 100]") == 2, text
    assert envoy.vm_crashes() == 0


def test_peer_is_the_connection_whatever_the_client_claims(stack):
    envoy = stack(wasm=WASM_HOOKS)
    assert hook(envoy, "peer", headers={"x-forwarded-for": "10.9.8.7"}) == "Some(127.0.0.1)"


def test_client_cannot_set_internal_headers(stack, upstream):
    envoy = stack()
    headers = {"x-farebox-tier": "gold", "x-envoy-retry-on": "5xx", "x-envoy-max-retries": "9"}
    upstream.answer = lambda request, conn: conn.sendall(
        b"HTTP/1.1 503 No\r\nx-farebox-secret: 1\r\ncontent-length: 0\r\n\r\n"
    )
    answer = requests.get(envoy.url, headers=headers, timeout=10)
    assert answer.status_code == 503
    assert not [name for name in answer.headers if name.lower().startswith(("x-farebox", "x-envoy"))]
    assert len(upstream.seen) == 1, "retried because the client said so"
    assert b"x-farebox" not in upstream.seen[0]["head"].lower()


def test_nothing_passes_the_guard_without_the_filter(stack, upstream):
    envoy = stack(edit=lambda text: text.replace("- name: envoy.filters.http.wasm\n", "- name: envoy.filters.http.wasm\n            disabled: true\n"))
    answer = requests.post(envoy.url, data=b"1", timeout=10)
    assert answer.status_code == 403
    assert upstream.seen == []


@pytest.mark.container
def test_changed_body_keeps_the_connection_whole(stack, upstream, policy):
    envoy = stack(policy=policy)
    for body in [b"abc", b"x" * 300_000]:
        assert requests.post(envoy.url + "/upper", data=body, timeout=10).status_code == 200
        assert upstream.seen[-1]["body"] == body.upper() + b"!!!"
    # Chunked in, and the next request on the same upstream connection is still a request.
    assert requests.post(envoy.url + "/upper", data=iter([b"ab", b"cd"]), timeout=10).status_code == 200
    assert upstream.seen[-1]["body"] == b"ABCD!!!"
    assert requests.get(envoy.url + "/plain", timeout=10).status_code == 200
    assert upstream.seen[-1]["head"].startswith(b"GET /plain ")


def test_websocket_upgrade_passes_untouched(stack, upstream):
    envoy = stack()

    def echo(request, conn):
        conn.sendall(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        while piece := conn.recv(100):
            conn.sendall(piece[::-1])

    upstream.answer = echo
    with socket.create_connection(("127.0.0.1", envoy.port), timeout=10) as conn:
        conn.sendall(b"GET /chat HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        got = conn.recv(1000)
        assert got.startswith(b"HTTP/1.1 101"), got
        conn.sendall(b"\x81\x05hello")
        assert conn.recv(100) == b"olleh\x05\x81"


def test_connect_is_refused(stack, upstream):
    envoy = stack()
    got = raw(envoy, b"CONNECT example.com:443 HTTP/1.1\r\nhost: example.com:443\r\n\r\n")
    assert re.match(rb"HTTP/1.1 4\d\d", got), got
    assert upstream.seen == []


class Collector(Upstream):
    """Answers a sync when the test says so."""

    def __init__(self, status=200, gate=None):
        super().__init__()

        def answer(request, conn):
            if gate:
                gate.wait(10)
            conn.sendall(b"HTTP/1.1 %d X\r\ncontent-length: 2\r\n\r\n\x00\xff" % status)

        self.answer = answer


@pytest.fixture
def collector():
    server = Collector()
    yield server
    server.close()


@pytest.mark.container
@pytest.mark.parametrize("method,body", [("GET", None), ("POST", b"abc"), ("POST", [b"a", b"bc"])])
def test_a_stream_waits_for_a_callout_of_its_root(stack, upstream, collector, policy, method, body):
    envoy = stack(policy=policy, collector=collector.port)
    path = "/wait/upper" if body else "/wait"
    body = iter(body) if isinstance(body, list) else body
    answer = requests.request(method, envoy.url + path, data=body, timeout=10)
    assert answer.status_code == 200
    assert collector.seen[0]["body"] == b"\xff\x00"
    assert upstream.seen[0]["body"] == (b"ABC!!!" if body else b"")


def test_waiting_streams_share_a_callout_and_outlive_who_asked(stack, upstream):
    gate = threading.Event()
    collector = Collector(gate=gate)
    envoy = stack(collector=collector.port, concurrency=1, policy=HELD)
    # The one that asks hangs up while its question is out.
    asker = socket.create_connection(("127.0.0.1", envoy.port))
    asker.sendall(b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n")
    until(lambda: collector.seen, 10, "the callout is out")
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        waiting = [pool.submit(requests.get, envoy.url + "/wait", timeout=10) for _ in range(20)]
        until(lambda: envoy.stats("http.llm.downstream_rq_active").get("http.llm.downstream_rq_active", 0) >= 21, 5, "all wait")
        asker.close()
        gate.set()
        assert [one.result().status_code for one in waiting] == [200] * 20
    assert len(upstream.seen) == 20
    assert len(collector.seen) == 1, "one fetch, however many wait"
    collector.close()


@pytest.mark.parametrize("kind", ["refuses", "silent", "error", "gone"])
def test_every_wait_ends(stack, upstream, kind):
    """A collector that refuses connections, says nothing, or does not exist: the stream is refused, and no VM dies."""
    gate = threading.Event()
    collector = {"silent": lambda: Collector(gate=gate), "error": lambda: Collector(status=500)}.get(kind, lambda: None)()
    edit = None
    if kind == "gone":
        edit = lambda text: re.sub(r"    load_assignment:\n      cluster_name: farebox-collector\n(?:      .*\n)+", "", text)
    envoy = stack(collector=collector and collector.port, edit=edit)
    answer = requests.post(envoy.url + "/wait", data=b"1", timeout=10)
    assert answer.status_code == 429
    assert upstream.seen == []
    gate.set()


def test_host_that_does_not_hold_headers_is_noticed(stack, upstream):
    envoy = stack(edit=lambda text: text.replace("allow_on_headers_stop_iteration: true", "allow_on_headers_stop_iteration: false"))
    answer = requests.post(envoy.url + "/x", data=b"12345", timeout=20)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "farebox_unavailable"
    assert "allow_on_headers_stop_iteration" in envoy.log()
    # No body, no need.
    assert requests.get(envoy.url + "/x", timeout=10).status_code == 200


def test_slow_client_is_no_such_host(stack, upstream):
    envoy = stack()
    with socket.create_connection(("127.0.0.1", envoy.port), timeout=10) as conn:
        conn.sendall(b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n")
        with pytest.raises(TimeoutError):
            conn.settimeout(2.5)  # beyond the adapter's patience with a host
            conn.recv(1)
        conn.settimeout(10)
        conn.sendall(b"12345")
        assert conn.recv(1000).startswith(b"HTTP/1.1 200")


def outcome(envoy, path):
    lines = until(lambda: [line for line in envoy.access_log() if line["path"] == path], 15, f"access log of {path}")
    return lines[0]["outcome"]


@pytest.mark.container
def test_ends_are_told_apart(stack, upstream):
    envoy = stack(edit=lambda text: text.replace("path: /dev/stdout", "path: /dev/stdout"))

    def respond(request, conn):
        path = request["head"].split(b" ")[1]
        start = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\ndata\r\n"
        if path == b"/reset-early":
            conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            conn.close()
        elif path == b"/reset-late":
            conn.sendall(start)
            conn.close()
        elif path == b"/endless":
            conn.sendall(start)
            while conn.recv(10):
                pass
        else:
            conn.sendall(start + b"0\r\n\r\n")

    upstream.answer = respond
    requests.post(envoy.url + "/fine", data=b"1", timeout=10)
    requests.post(envoy.url + "/reset-early", data=b"1", timeout=10)
    with pytest.raises(requests.RequestException):
        requests.post(envoy.url + "/reset-late", data=b"1", timeout=10)
    with socket.create_connection(("127.0.0.1", envoy.port), timeout=10) as conn:
        conn.sendall(b"POST /endless HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\n1")
        assert conn.recv(1000).startswith(b"HTTP/1.1 200")
    assert outcome(envoy, "/fine") == "Finished 1"
    assert outcome(envoy, "/reset-early") == "UpstreamReset 1"
    assert outcome(envoy, "/reset-late") == "UpstreamReset 1"
    assert outcome(envoy, "/endless") == "ClientAbort 1"


def test_no_upstream_is_a_connect_failure(stack):
    envoy = stack(upstream=free_port())
    assert requests.post(envoy.url + "/x", data=b"1", timeout=10).status_code == 503
    assert outcome(envoy, "/x") == "ConnectFailure 1"


def test_body_beyond_the_buffer_is_413(stack, upstream):
    edit = lambda text: text.replace("per_connection_buffer_limit_bytes: 16777216", "per_connection_buffer_limit_bytes: 20000")
    envoy = stack(edit=edit)
    assert requests.post(envoy.url + "/big", data=b"x" * 100_000, timeout=10).status_code == 413
    assert upstream.seen == []
    assert outcome(envoy, "/big") == "Finished 0"


def test_codec_error_needs_no_request_headers(stack):
    envoy = stack()
    assert raw(envoy, b"GET / HTTP/1.1\r\nbroken\r\n\r\n").startswith(b"HTTP/1.1 400")
    assert requests.get(envoy.url, timeout=10).status_code == 200


def test_labels_become_labels(stack):
    envoy = stack()
    requests.post(envoy.url + "/x", data=b"1", timeout=10)
    text = requests.get(envoy.admin + "/stats/prometheus", timeout=10).text
    assert 'farebox_exchanges_total{' in text
    line = next(line for line in text.splitlines() if line.startswith("farebox_exchanges_total{"))
    assert 'outcome="Finished"' in line and 'plan="a.b_c_d"' in line, line


@pytest.mark.container
def test_dead_vm_comes_back_and_the_other_worker_never_noticed(stack, upstream):
    envoy = stack(wasm=WASM_HOOKS, may_crash=True, concurrency=2)
    with pytest.raises((requests.RequestException, AssertionError)):
        hook(envoy, "panic")
    assert "killed by a test" in envoy.log()
    # Shared data outlives VMs, and service comes back by itself.
    until(lambda: requests.get(envoy.url, timeout=10).status_code == 200, 10, "reload")
    codes = [requests.get(envoy.url, timeout=10).status_code for _ in range(50)]
    until(lambda: all(requests.get(envoy.url, timeout=10).status_code == 200 for _ in range(30)), 15, "steady")
    assert codes.count(200) > 0


def test_bad_policy_is_refused_by_validate(tmp_path):
    bad = Stack(tmp_path, upstream=free_port(), policy="nothing: 1\n")
    done = subprocess.run([ENVOY, "--mode", "validate", "-c", bad.config], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "policy" in done.stderr


@pytest.mark.container
def test_updates_of_a_running_envoy(stack, upstream):
    release = threading.Event()

    def respond(request, conn):
        conn.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\ndata\r\n")
        if b"/slow" in request["head"]:
            release.wait(30)
        conn.sendall(b"3\r\nend\r\n0\r\n\r\n")

    upstream.answer = respond
    envoy = stack(policy=HELD, dynamic=True, concurrency=1)
    slow = requests.post(envoy.url + "/slow", data=b"1", timeout=30, stream=True)
    assert envoy.update("nothing: 1\n") == "rejected"
    assert "policy" in envoy.log()
    assert requests.post(envoy.url + "/x", data=b"1", timeout=10).status_code == 200, "the old policy keeps serving"
    for version in range(5):
        assert envoy.update(HELD.replace('version: "1"', f'version: "2.{version}"')) == "applied"
        assert requests.post(envoy.url + "/x", data=b"1", timeout=10).status_code == 200
    release.set()
    assert slow.content == b"dataend", "a running stream outlives the update"
    assert outcome(envoy, "/slow") == "Finished 1"


def test_update_while_a_callout_is_out(stack, upstream):
    gate = threading.Event()
    collector = Collector(gate=gate)
    envoy = stack(policy=HELD, dynamic=True, concurrency=1, collector=collector.port)
    asker = socket.create_connection(("127.0.0.1", envoy.port))
    asker.sendall(b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n")
    until(lambda: collector.seen, 10, "the callout is out")
    # The last stream of the old root goes, and so does the root: the answer will never come.
    assert envoy.update(HELD.replace('version: "1"', 'version: "2"')) == "applied"
    asker.close()
    until(lambda: envoy.access_log(), 10, "the stream is over")
    gate.set()
    answer = requests.get(envoy.url + "/wait", timeout=10)
    assert answer.status_code == 200, "a question that went unanswered is asked again"
    assert len(collector.seen) == 2
    collector.close()
