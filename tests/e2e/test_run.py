"""`farebox run`: the stack starts, says so, serves, is told apart when it cannot, and leaves nothing behind."""

import http.server
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading

import pytest
from conftest import free_port

ROOT = pathlib.Path(__file__).resolve().parents[2]
PORTS = ["PORT", "ADMIN_PORT", "COLLECTOR_PORT", "UPSTREAM_PORT"]


def farebox():
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return os.environ.get("FAREBOX", str(target / "debug" / "farebox"))


class Run:
    """A running `farebox run`; `said` is what it printed up to the last line of its guide."""

    def __init__(self, state, **variables):
        self.state = state
        self.env = os.environ | {name: str(free_port()) for name in PORTS} | {"STATE_DIR": str(state), "CONCURRENCY": "1"} | variables
        self.process = subprocess.Popen(
            [farebox(), "run"], cwd=ROOT, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.said = ""
        for line in self.process.stdout:
            self.said += line
            if "/v1/usage" in line:
                break

    def stop(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
        _, self.err = self.process.communicate(timeout=60)
        return self.process.returncode

    def shell(self, title):
        """Runs the command below `# title` in the guide, as a reader would."""
        command = re.search(rf"^# {title}.*\n(.*)", self.said, re.M)[1]
        return subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=True).stdout

    def serves(self):
        def open_(name):
            with socket.socket() as s:
                return s.connect_ex(("127.0.0.1", int(self.env[name]))) == 0

        return [name for name in PORTS if open_(name)]


@pytest.fixture
def run(tmp_path):
    started = []

    def start(**variables):
        started.append(Run(tmp_path / f"state-{len(started)}", **variables))
        return started[-1]

    yield start
    for one in started:
        if one.process.returncode is None:
            one.stop()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_starts_serves_and_stops(run, how):
    one = run()
    assert re.match(rf"ready http://127\.0\.0\.1:{one.env['PORT']} ", one.said), one.stop() and one.err
    assert one.serves() == PORTS
    assert one.stop(how) == 0, one.err
    assert one.serves() == [], "nothing is left behind"


def test_the_guide_is_true(run):
    one = run()
    allowed = json.loads(one.shell("allowed"))
    assert allowed["choices"][0]["message"]["content"] and allowed["usage"]["completion_tokens"]
    streamed = one.shell("streamed")
    assert streamed.startswith("data: {") and streamed.endswith("data: [DONE]\n\n")
    denied = one.shell("denied").strip().splitlines()
    assert [line for line in denied if line.isdigit()] == ["200", "200", "200", "429"], denied
    assert '"error"' in denied[-2]
    usage = one.shell("usage")
    assert "alice" in usage and "bob" in usage, usage


def test_an_invalid_policy_starts_nothing(run, tmp_path):
    policy = tmp_path / "policy.yaml"
    policy.write_text("farebox: 1\nplanes: {}\n")
    one = run(POLICY=str(policy))
    assert one.stop() == 2 and "policy.yaml:2:1" in one.err, one.err
    assert one.said == "" and not one.state.exists()


def test_a_port_that_is_taken_is_named(run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        one = run(COLLECTOR_PORT=port)
        assert one.stop() == 1 and f"port {port} is not free" in one.err and "COLLECTOR_PORT" in one.err


def test_an_upstream_that_makes_no_sense_is_named(run):
    one = run(UPSTREAM="api.example.com")
    assert one.stop() == 1 and "UPSTREAM is `api.example.com`" in one.err


@pytest.mark.parametrize("victim", ["upstream", "collector"])
def test_a_child_that_dies_is_reported(run, victim):
    one = run()
    (pid,) = [
        int(path.parent.name)
        for path in pathlib.Path("/proc").glob("[0-9]*/cmdline")
        if (words := _words(path))[1:2] == [victim] and f"127.0.0.1:{one.env[victim.upper() + '_PORT']}" in words
    ]
    os.kill(pid, signal.SIGKILL)
    _, err = one.process.communicate(timeout=60)
    assert one.process.returncode == 1 and f"{victim} ended (signal: 9" in err
    assert one.serves() == []


def _words(path):
    try:
        return path.read_text().split("\0")
    except OSError:
        return []


class Echo(http.server.BaseHTTPRequestHandler):
    """A chat completion whose text is the request's headers."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        message = {"role": "assistant", "content": json.dumps({k.lower(): v for k, v in self.headers.items()})}
        usage = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        body = json.dumps({"object": "chat.completion", "choices": [choice], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def https(tmp_path):
    if not shutil.which("openssl"):
        pytest.skip("no openssl here to make a certificate with")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2"]
        + ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        check=True,
        capture_output=True,
    )
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server.names = []
    context.sni_callback = lambda _, name, __: server.names.append(name)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.cert = cert
    yield server
    server.shutdown()


def call(one):
    url = f"http://127.0.0.1:{one.env['PORT']}/v1/chat/completions"
    body = '{"model":"demo-small","max_tokens":20,"messages":[{"role":"user","content":"Hello"}]}'
    command = ["curl", "-sw", "\n%{http_code}", url, "-H", "authorization: Bearer demo-alice", "--json", body]
    text = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    return text.rsplit("\n", 1)


def test_an_https_upstream_gets_its_name_and_the_providers_key(run, https):
    port = https.server_address[1]
    one = run(UPSTREAM=f"https://localhost:{port}", SSL_CERT_FILE=str(https.cert), UPSTREAM_KEY="sk-provider")
    answer, status = call(one)
    assert status == "200", (answer, (one.state / "envoy.log").read_text()[-2000:])
    seen = json.loads(json.loads(answer)["choices"][0]["message"]["content"])
    assert (seen["authorization"], seen["x-api-key"]) == ("Bearer sk-provider", "sk-provider")
    assert seen["host"].split(":")[0] == "localhost" and set(https.names) == {"localhost"}
    assert "sk-provider" not in "".join(path.read_text(errors="replace") for path in one.state.glob("*.yaml"))


def test_an_upstream_that_nobody_vouches_for_gets_nothing(run, https, tmp_path):
    other = tmp_path / "other.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", os.devnull, "-out", other]
        + ["-subj", "/CN=other"],
        check=True,
        capture_output=True,
    )
    one = run(UPSTREAM=f"https://localhost:{https.server_address[1]}", SSL_CERT_FILE=str(other))
    answer, status = call(one)
    assert status == "503" and "sk-" not in answer
