"""Callers whom somebody else vouches for: a token that Envoy's own filter verified, a certificate of its own TLS."""

import base64
import hashlib
import hmac
import json
import subprocess
import time

import pytest
import requests

POLICY = """\
farebox: 1
bundle: {name: identity, version: "1"}
identity:
  - {key: [x-api-key]}
  - {jwt: payload, seat: sub}
  - {san: uri, seat: "spiffe://acme.test/seat/*"}
models:
  demo-small: {count: o200k_base}
plans:
  open: {tokens: {caps: {calls: {limit: 1b requests, per: seat, window: first-use 5h}}}}
seats:
  alice: {org: acme, keys: ["sha256:c3fe0b469a6d4f19a25fbec114762d2186aa2c22888f52c5550a77fc104bcff3"]}
  bob: {org: acme}
assign:
  - {otherwise: open}
"""
SECRET = b"a secret that only issuer and proxy know"
BODY = {"model": "demo-small", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
ANSWER = json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
                     "usage": {"prompt_tokens": 8, "completion_tokens": 1, "total_tokens": 9}}).encode()


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(claims, secret=SECRET):
    head = b64(json.dumps({"alg": "HS256", "typ": "JWT", "kid": "one"}).encode())
    body = b64(json.dumps({"iss": "https://issuer.test", "exp": int(time.time()) + 600, **claims}).encode())
    return f"{head}.{body}.{b64(hmac.new(secret, f'{head}.{body}'.encode(), hashlib.sha256).digest())}"


def with_tokens(text):
    """jwt_authn in front of Farebox; a call without a token goes on, one with a bad token does not."""
    keys = json.dumps({"keys": [{"kty": "oct", "alg": "HS256", "kid": "one", "k": b64(SECRET)}]})
    jwt = f"""\
          - name: envoy.filters.http.jwt_authn
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication
              providers:
                issuer:
                  issuer: https://issuer.test
                  payload_in_metadata: payload
                  forward: false
                  local_jwks: {{inline_string: '{keys}'}}
              rules:
              - match: {{prefix: /}}
                requires: {{requires_any: {{requirements: [{{provider_name: issuer}}, {{allow_missing: {{}}}}]}}}}
"""
    at = "          - name: envoy.filters.http.wasm\n"
    assert text.count(at) == 1
    return text.replace(at, jwt + at)


def run(folder, *arguments):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def certificates(folder):
    """A CA, a server's certificate, and clients' by what their subject alternative names say."""
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    for ca in ("ca", "other"):
        run(folder, "req", "-x509", *new, "-keyout", f"{ca}.key", "-out", f"{ca}.pem", "-subj", f"/CN={ca}", "-days", "2")
    for name, ca, san in [
        ("server", "ca", "IP:127.0.0.1"),
        ("bob", "ca", "URI:spiffe://acme.test/seat/bob"),
        ("alice", "ca", "URI:spiffe://acme.test/seat/alice"),
        ("two", "ca", "URI:spiffe://acme.test/seat/alice,URI:spiffe://acme.test/seat/bob"),
        ("mallory", "ca", "URI:spiffe://acme.test/seat/mallory"),
        ("mesh", "ca", "URI:spiffe://acme.test/ns/mesh/sa/gateway"),
        ("none", "ca", "DNS:host.acme.test"),
        ("forged", "other", "URI:spiffe://acme.test/seat/bob"),
    ]:
        (folder / "extensions").write_text(f"subjectAltName={san}\n")
        run(folder, "req", *new, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        run(folder, "x509", "-req", "-in", f"{name}.csr", "-CA", f"{ca}.pem", "-CAkey", f"{ca}.key", "-CAcreateserial",
            "-days", "2", "-extfile", "extensions", "-out", f"{name}.pem")


def with_tls(text, folder):
    """TLS at the listener, which asks for a client's certificate, verifies it, and takes callers without one too."""
    at = "    filter_chains:\n    - filters:\n"
    assert text.count(at) == 1
    tls = f"""\
    filter_chains:
    - transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            tls_certificates:
            - {{certificate_chain: {{filename: {folder}/server.pem}}, private_key: {{filename: {folder}/server.key}}}}
            validation_context: {{trusted_ca: {{filename: {folder}/ca.pem}}}}
      filters:
"""
    return text.replace(at, tls)


@pytest.fixture
def vouching(stack, upstream, tmp_path):
    certificates(tmp_path)
    upstream.answer = lambda request, conn: conn.sendall(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(ANSWER), ANSWER)
    )
    envoy = stack(policy=POLICY, edit=lambda text: with_tls(with_tokens(text), tmp_path))

    def call(claims=None, cert=None, secret=SECRET, **headers):
        if claims is not None:
            headers["authorization"] = f"Bearer {token(claims, secret)}"
        before = len(envoy.access_log())
        answer = requests.post(
            f"https://127.0.0.1:{envoy.port}/v1/chat/completions",
            json=BODY,
            headers={name.replace("_", "-"): value for name, value in headers.items()},
            cert=cert and (str(tmp_path / f"{cert}.pem"), str(tmp_path / f"{cert}.key")),
            verify=str(tmp_path / "ca.pem"),
            timeout=20,
        )
        deadline = time.monotonic() + 10
        while len(envoy.access_log()) <= before and time.monotonic() < deadline:
            time.sleep(0.02)
        said = envoy.access_log()[-1]
        return answer.status_code, said.get("seat"), said.get("denied_by")

    call.upstream, call.envoy = upstream, envoy
    return call


def test_tokens_and_certificates_name_the_caller(vouching):
    key = {"x_api_key": "demo-alice"}
    assert vouching(**key) == (200, "alice", None)
    assert vouching({"sub": "bob"}) == (200, "bob", None)
    assert vouching(cert="bob") == (200, "bob", None)
    assert vouching({"sub": "alice"}, cert="alice", **key) == (200, "alice", None)
    heads = [request["head"].lower() for request in vouching.upstream.seen]
    assert len(heads) == 4 and not any(b"authorization" in head or b"x-api-key" in head for head in heads)


def test_nobody_and_strangers_are_refused(vouching):
    assert vouching() == (401, None, "identity")
    assert vouching({"sub": "mallory"}) == (401, None, "identity")
    assert vouching(cert="mallory") == (401, None, "identity")
    assert vouching({"name": "bob"}) == (401, None, "identity"), "no such claim says nothing"
    assert vouching(cert="mesh") == (401, None, "identity"), "a certificate of another kind says nothing"
    assert vouching(cert="none") == (401, None, "identity")
    assert not vouching.upstream.seen


def test_conflicts_are_refused(vouching):
    assert vouching({"sub": "bob"}, x_api_key="demo-alice") == (400, None, "identity")
    assert vouching(cert="bob", x_api_key="demo-alice") == (400, None, "identity")
    assert vouching({"sub": "alice"}, cert="bob") == (400, None, "identity")
    assert vouching({"sub": "mallory"}, x_api_key="demo-alice") == (401, None, "identity")
    assert not vouching.upstream.seen
    assert vouching(cert="mesh", x_api_key="demo-alice") == (200, "alice", None), "what says nothing contradicts nobody"


def test_what_is_no_text_names_nobody(vouching):
    for claim in ["bob\u0000", "seat/bob", ""]:
        assert vouching({"sub": claim}) == (401, None, "identity"), claim
    # A subject is a text (RFC 7519, 4.1.2): Envoy itself refuses others.
    for claim in [7.5, ["bob"], {"name": "bob"}, True]:
        assert vouching({"sub": claim})[:2] == (401, None), claim
    assert not vouching.upstream.seen


def test_nothing_is_taken_from_what_is_not_verified(vouching):
    assert vouching({"sub": "bob"}, secret=b"another secret")[0] == 401
    unsigned = f"{b64(b'{}')}.{b64(json.dumps({'iss': 'https://issuer.test', 'sub': 'bob'}).encode())}."
    assert vouching(authorization=f"Bearer {unsigned}")[0] == 401
    with pytest.raises(requests.RequestException):
        vouching(cert="forged")
    assert not vouching.upstream.seen


def test_of_several_names_in_a_certificate_the_first_counts(vouching):
    assert vouching(cert="two") == (200, "alice", None)
