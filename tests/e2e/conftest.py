"""One Envoy a test (or module) on free ports, rendered from envoy/envoy.yaml, and stopped by the one who started it."""

import contextlib
import itertools
import json
import os
import pathlib
import random
import re
import socket
import subprocess
import threading
import time

import pytest
import requests

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
ENVOY = os.environ.get("ENVOY", str(TARGET / "venv/bin/envoy"))
# Where this is set, Envoy runs in a container of this image, on the host's network.
IMAGE = os.environ.get("ENVOY_IMAGE")
WASM = os.environ.get("FAREBOX_WASM", str(TARGET / "wasm/farebox.wasm"))
WASM_HOOKS = os.environ.get("FAREBOX_WASM_HOOKS", str(TARGET / "wasm/farebox-hooks.wasm"))
FAREBOX = os.environ.get("FAREBOX", str(TARGET / "debug/farebox"))

# Passes what it cannot read, so that host behaviour is seen without a model's wire format around it.
PASSING = """\
farebox: 1
bundle: {name: host-tests, version: "1"}
identity:
  - {key: [authorization, x-api-key]}
models:
  demo-small: {count: o200k_base}
plans:
  open: {tokens: {caps: {calls: {limit: 1b requests, per: seat, window: first-use 5h}}}}
seats:
  alice: {org: acme, keys: ["sha256:c3fe0b469a6d4f19a25fbec114762d2186aa2c22888f52c5550a77fc104bcff3"]}
assign:
  - {otherwise: open}
unknown: {path: pass, body: pass}
"""
# The same with a ledger that grants: the first exchange waits for it.
LEDGER = PASSING + "collector: {cluster: farebox-collector, sync: 200ms, patience: 1500ms}\n"
# Alice's.
KEY = {"authorization": "Bearer demo-alice"}
CHAT = "/v1/chat/completions"

# In front of the rest of the upstream's cluster: Envoy leaves trailers of HTTP/1.1 out, unless it is told not to.
TRAILERS = """  - name: upstream
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http_protocol_options: {enable_trailers: true}}
"""


# Those who run tests beside each other have a thousand ports each, below those that the kernel gives to whoever wants any:
# between the moment when a port is found free and that when a server listens there, nobody else may get it.
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
PORTS = itertools.count(random.randrange(1_000))


def free_port():
    while True:
        port = 12_000 + WORKER % 20 * 1_000 + next(PORTS) % 1_000
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("127.0.0.1", port))
            return port


def stop_listening(listener):
    """Closing alone leaves a blocked `accept` alive, which would take one more connection when the port is used again."""
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()


class Upstream:
    """An HTTP/1.1 server that keeps what it received byte by byte, and answers what the test says.

    `answer` is called with the request (`head`, `body`) and an open socket; by default it sends a small 200.
    """

    def __init__(self):
        self.seen = []
        self.answer = lambda request, conn: conn.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                conn, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _serve(self, conn):
        rest = b""
        with conn:
            while True:
                try:
                    request, rest = self._read(conn, rest)
                    if request is None:
                        return
                    self.seen.append(request)
                    self.answer(request, conn)
                    if b"connection: close" in request["head"].lower():
                        return
                except OSError:
                    return

    @staticmethod
    def _read(conn, data):
        def more():
            piece = conn.recv(65536)
            if not piece:
                raise OSError("closed")
            return piece

        while b"\r\n\r\n" not in data:
            data += more()
        head, data = data.split(b"\r\n\r\n", 1)
        length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.I)
        body = trailers = b""
        if length:
            while len(data) < int(length[1]):
                data += more()
            body, data = data[: int(length[1])], data[int(length[1]) :]
        elif re.search(rb"\r\ntransfer-encoding: *chunked", head, re.I):
            while True:
                while b"\r\n" not in data:
                    data += more()
                size, data = data.split(b"\r\n", 1)
                size = int(size.split(b";")[0], 16)
                if size == 0:
                    break
                while len(data) < size + 2:
                    data += more()
                body, data = body + data[:size], data[size + 2 :]
            while b"\r\n" not in data[:2] and b"\r\n\r\n" not in data:
                data += more()
            trailers, data = data.split(b"\r\n", 1) if data[:2] == b"\r\n" else data.split(b"\r\n\r\n", 1)
        return {"head": head, "body": body, "trailers": trailers}, data

    def close(self):
        stop_listening(self._listener)


def with_policy(text, policy):
    """Puts a policy where `__POLICY__` is, each line as deep as the placeholder."""
    at = re.search(r"^( *)__POLICY__$", text, re.M)
    return text.replace(at[0], "".join(at[1] + line for line in policy.splitlines(keepends=True)).rstrip("\n"))


class Ledger:
    """`farebox collector` on a free port, with its own SQLite file."""

    def __init__(self, folder):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.arguments = [FAREBOX, "collector", "--listen", f"127.0.0.1:{self.port}", "--db", folder / "ledger.db"]
        self.log_path = folder / "collector.log"
        self.process = None

    def start(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.arguments, stdout=log, stderr=log)
        until(self._healthy, 30, "the collector serves")
        return self

    def _healthy(self):
        assert self.process.poll() is None, f"the collector ended:\n{self.log_path.read_text()[-2000:]}"
        try:
            return requests.get(self.url + "/healthz", timeout=1).ok
        except requests.RequestException:
            return False

    def usage(self, **query):
        """What `GET /v1/usage` answers."""
        answer = requests.get(self.url + "/v1/usage", params=query, timeout=5)
        answer.raise_for_status()
        return answer.json()

    def stop(self, kill=False):
        stop(self.process, kill)


class Gate:
    """Stands between Envoy and a server; holds, cuts or spoils what comes back.

    `open` lets answers through; `cut` ends the connection after that many bytes of an answer.
    """

    def __init__(self, port):
        self.open, self.cut, self.asked = threading.Event(), None, 0
        self.open.set()
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                return
            threading.Thread(target=self._pump, args=(near, far, self._count), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, self._hold), daemon=True).start()

    def _count(self, piece):
        self.asked += piece.count(b"POST /v1/sync")
        return piece

    def _hold(self, piece):
        self.open.wait(60)
        return piece if self.cut is None else piece[: self.cut]

    def _pump(self, source, sink, change):
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                sink.sendall(change(piece))
                if change == self._hold and self.cut is not None:
                    break
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.open.set()
        stop_listening(self._listener)


class Stack:
    """Envoy with the filter, in front of `upstream` (a port), with `collector` (a port, or nothing that listens)."""

    def __init__(
        self, folder, *, upstream, policy=PASSING, collector=None, wasm=WASM, concurrency=2, edit=None, dynamic=False
    ):
        self.port, self.admin_port = free_port(), free_port()
        self.url, self.admin = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{self.admin_port}"
        self.folder = folder
        self.config, self.filter = folder / "envoy.yaml", folder / "dynamic" / "filter.yaml"
        self.wasm = wasm
        text = self.render(upstream, policy, collector or free_port(), edit)
        if dynamic:
            text = self._discover(text)
        self.config.write_text(text)
        self.log_path, self.access_path = folder / "envoy.log", folder / "access.log"
        self.concurrency = concurrency
        self.process = None

    def render(self, upstream, policy, collector, edit):
        """envoy/envoy.yaml as `farebox run` would render it, and then as `edit` changes it."""
        text = with_policy((ROOT / "envoy/envoy.yaml").read_text(), policy)
        for placeholder, value in {
            "port_value: 10000": f"port_value: {self.port}",
            "port_value: 9901": f"port_value: {self.admin_port}",
            "port_value: 8081": f"port_value: {collector}",
            "port_value: 8082": f"port_value: {upstream}",
            "target/wasm/farebox.wasm": self.wasm,
        }.items():
            assert text.count(placeholder) == 1, f"envoy.yaml lost `{placeholder}`"
            text = text.replace(placeholder, value)
        return edit(text) if edit else text

    def _discover(self, text):
        """Moves the filter into a file of its own that Envoy watches (ECDS), so that `update` can change the policy."""
        found = re.search(r"( *)- name: envoy.filters.http.wasm\n( *)typed_config:\n((?:\2  .*\n)+)", text)
        deeper = len(found[2]) + 2 - 4
        self._filter = "".join(line[deeper:] if line.strip() else line for line in found[3].splitlines(keepends=True))
        self.filter.parent.mkdir()
        self.filter.write_text(self._resource(self._filter))
        discovery = f"""\
{found[1]}- name: farebox
{found[1]}  config_discovery:
{found[1]}    config_source:
{found[1]}      path_config_source: {{path: {self.filter}, watched_directory: {{path: {self.filter.parent}}}}}
{found[1]}      resource_api_version: V3
{found[1]}    type_urls: [type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm]
"""
        return text.replace(found[0], discovery)

    @staticmethod
    def _resource(config):
        kind = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
        return f'resources:\n- "@type": {kind}\n  name: farebox\n  typed_config:\n{config}'

    def update(self, policy):
        """Gives a running Envoy another policy, whole at once, and waits until Envoy has judged it; returns its verdict."""
        counters = "extension_config_discovery.http_filter.*(config_reload|config_fail|update_rejected)$"

        def judged():
            return {name.rsplit(".", 1)[1]: value for name, value in self.stats(counters).items()}

        before = judged()
        text = re.sub(r"( *)value: \|\n(?:\1  .*\n|\n)+", r"\1value: |\n\1  __POLICY__\n", self._filter)
        assert "__POLICY__" in text
        new = self.folder / "new.yaml"
        new.write_text(self._resource(with_policy(text, policy)))
        new.replace(self.filter)
        after = until(lambda: (now := judged()) != before and now, 20, "envoy judges the new policy")
        # `config_reload` counts the attempts.
        failed = [name for name in ("config_fail", "update_rejected") if after.get(name, 0) > before.get(name, 0)]
        return "rejected" if failed else "applied"

    def start(self):
        with open(self.log_path, "ab") as log, open(self.access_path, "ab") as access:
            self.process = subprocess.Popen(
                [
                    *(self._container() if IMAGE else [ENVOY]),
                    *("-c", self.config, "--concurrency", str(self.concurrency), "--use-dynamic-base-id"),
                    *("--file-flush-interval-msec", "50"),
                ],
                stdout=access,
                stderr=log,
            )
        until(lambda: self._ready(), 60, "envoy serves")
        return self

    def _container(self):
        shared = [f"--volume={path}:{path}:ro" for path in (self.folder, self.wasm)]
        # The official image's entry point would change the user, who could not read the test's folder.
        return ["docker", "run", "--rm", "--network=host", "--env=ENVOY_UID=0", *shared, IMAGE, "envoy"]

    def _ready(self):
        assert self.process.poll() is None, f"envoy ended with {self.process.returncode}:\n{self.log()[-4000:]}"
        try:
            return requests.get(self.admin + "/ready", timeout=1).status_code == 200
        except requests.RequestException:
            return False

    def stop(self):
        stop(self.process)

    def log(self):
        return self.log_path.read_text(errors="replace")

    def access_log(self):
        """All access log lines so far, as dictionaries."""
        return [json.loads(line) for line in self.access_path.read_text().splitlines() if line.startswith("{")]

    def stats(self, pattern=""):
        text = requests.get(f"{self.admin}/stats", params={"filter": pattern}, timeout=5).text
        return {k: int(v) for k, v in re.findall(r"^(\S+): (\d+)$", text, re.M)}

    def vm_crashes(self):
        return sum(v for k, v in self.stats(r"^wasm\.farebox\.vm_reload").items())


def pytest_configure(config):
    config.addinivalue_line("markers", "container: one of those that also run against Envoy in a container")
    config.addinivalue_line("markers", "torture: the full size of a heavy test; only with `-m torture`")
    config.addinivalue_line("markers", "llama: needs a real model's weights; only with `-m llama`")
    if not config.option.markexpr:
        config.option.markexpr = "not torture and not llama"
    for needed in [ENVOY, WASM, WASM_HOOKS, FAREBOX]:
        if not os.path.exists(needed):
            pytest.exit(f"{needed} is not there: run `make e2e`, which builds and installs it", returncode=1)


def pytest_terminal_summary(terminalreporter):
    """The figures that tests print are shown also when all is well."""
    said = [(report.nodeid, report.capstdout) for report in terminalreporter.stats.get("passed", []) if report.capstdout]
    if said:
        terminalreporter.section("figures")
    for test, text in said:
        terminalreporter.write_line(f"{test.rsplit('/', 1)[-1]}\n{text.rstrip()}")


def stop(process, kill=False):
    """Ends a process that was started here."""
    if process is None or process.poll() is not None:
        return
    process.kill() if kill else process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def until(condition, seconds, what):
    """Waits until `condition()` holds; the time is a limit, not a measure."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"waited {seconds} s in vain: {what}"
        time.sleep(0.02)
    return value


@pytest.fixture
def upstream():
    server = Upstream()
    yield server
    server.close()


@pytest.fixture
def ledger(tmp_path):
    server = Ledger(tmp_path)
    yield server.start()
    server.stop()


@pytest.fixture
def gate(ledger):
    """The ledger behind a gate."""
    between = Gate(ledger.port)
    yield between
    between.close()


@pytest.fixture
def stack(tmp_path, upstream):
    """Starts Envoys: `stack(policy=…, wasm=…)`. All are stopped at the end, and none may have lost a VM unasked."""
    started = []

    def start(may_crash=False, **settings):
        folder = tmp_path / f"envoy-{len(started)}"
        folder.mkdir()
        one = Stack(folder, **{"upstream": upstream.port, **settings})
        started.append((one, may_crash))
        return one.start()

    yield start
    crashed = []
    for one, may_crash in started:
        if one.process and one.process.poll() is None and not may_crash and one.vm_crashes():
            crashed.append(one.log()[-4000:])
        one.stop()
    assert not crashed, "a VM died:\n" + "\n".join(crashed)
