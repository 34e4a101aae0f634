"""Ways around the turnstile, each tried on a real Envoy: refused, or of no use. One line an evasion.

What gets through although somebody might wish otherwise is here too, as `LIMITS`, and in README's section of that name: whoever wants to
lead something out on purpose can always write it in another way.
"""

import base64
import json

import pytest
from conftest import until
from test_strangers import Raw
from whole import Whole, chat, key, policy

# Put together here, so that no scanner of repositories trips over this file.
SECRET = "AK" + "IAIOSFODNN7EXAMPLE"
CARD = 4111111111111111
PLANS = {
    "guarded": """{tokens: {caps: {calls: {limit: 100000 requests, per: seat, window: first-use 5h}}},
      connectivity: {paths: ["/v1/chat/completions", "/v1/completions"], tier: bronze},
      security: {models: [demo-small], tools: {allow: ["get_*"], most: 64}, headers: {strip: [x-internal-*]}, input: {secrets: deny, card: deny, keywords: {words: [auto, falcon], action: deny}}}}""",
    "elsewhere": "{connectivity: {sources: [10.0.0.0/8]}}",
    "counted": "{tokens: {caps: {tokens: {limit: 1000000 tokens, per: seat, window: first-use 5h}}}, connectivity: {tier: bronze}, security: {tools: {deny: [web_search]}}}",
}
SEATS = {"alice": ("acme", "guarded"), "bob": ("acme", "guarded"), "carl": ("acme", "elsewhere"), "dora": ("acme", "counted")}
MODELS = """demo-large: {count: o200k_base}
demo-latest: {alias: demo-large}
demo-*: {count: o200k_base}"""
POLICY = policy("evasions", PLANS, SEATS, models=MODELS)

CHAT = "/v1/chat/completions"
TOOL = {"type": "function", "function": {"name": "get_time", "parameters": {}}}
FORBIDDEN = {"type": "function", "function": {"name": "rm", "parameters": {}}}


def body(prompt="Hello [[output=5]]", **more):
    return json.dumps(chat(prompt, max_tokens=20, **more)).encode()


def said(content, **more):
    return json.dumps({"model": "demo-small", "max_tokens": 20, "messages": [{"role": "user", "content": content}], **more}).encode()


def call(data=None, path=CHAT, headers=(), seat="alice", version="1.1", raw=None):
    """A request as it goes on the wire. `raw`: what stands for the body and its length."""
    data = body() if data is None else data
    lines = [f"POST {path} HTTP/{version}", "host: x", f"authorization: Bearer {key(seat)}", "content-type: application/json"]
    if raw is None:
        lines.append(f"content-length: {len(data)}")
    lines += headers
    return "\r\n".join(lines).encode() + b"\r\n" + (b"\r\n" + data if raw is None else raw)


def chunked(data, trailers="", size=10**9):
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    return b"transfer-encoding: chunked\r\n\r\n" + b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n%s\r\n" % trailers.encode()


BOB = f"x-api-key: {key('bob')}"
GOOD = body()
OPEN = 400
ESCAPED = "".join(f"\\u{ord(letter):04x}" for letter in SECRET)
# What is tried: what is sent, and the answer's status. 0: Envoy ends the connection.
EVASIONS = {
    # Who calls.
    "no key": (call().replace(b"authorization", b"x-authorization"), 401),
    "two identities at once": (call(headers=[BOB]), 400),
    "one header with two keys": (call(headers=[f"authorization: Bearer {key('bob')}"]), 400),
    "the same in another case": (call(headers=[f"AUTHORIZATION: Bearer {key('bob')}"]), 400),
    "two keys in one value": (call().replace(b"key-alice", b"key-alice, Bearer key-bob"), (400, 401)),
    "a key in trailers": (call(raw=chunked(GOOD, BOB + "\r\n")).replace(b"authorization", b"x-other"), 401),
    "another identity in trailers": (call(raw=chunked(GOOD, BOB + "\r\n")), 200),
    "a name with a blank before the colon": (call(headers=[f"x-api-key : {key('bob')}"]), (0, 400)),
    "a key with underscores": (call(headers=[f"x_api_key: {key('bob')}"]), 200),
    "a folded header": (call(headers=["x-odd: a", " x-farebox-tier: gold"]), (0, 200, 400)),
    "a tier of one's own": (call(headers=["x-farebox-tier: gold"]), 200),
    "and again": (call(headers=["X-FAREBOX-TIER: gold", "x-farebox-tier: gold", "x_farebox_tier: gold"]), 200),
    "a tier in trailers": (call(raw=chunked(GOOD, "x-farebox-tier: gold\r\n")), 200),
    "a tier that the hop is to take off": (call(headers=["connection: x-farebox-tier"]), (0, 200, 400)),
    "what the plan strips": (call(headers=["X-Internal-Debug: gold", "x-internal-: gold", "x_internal_debug: gold"]), 200),
    # Where from.
    "from elsewhere": (call(seat="carl"), 403),
    "a spoofed forwarded-for": (call(seat="carl", headers=["x-forwarded-for: 10.1.2.3"]), 403),
    "two of them": (call(seat="carl", headers=["x-forwarded-for: 10.1.2.3", "X-Forwarded-For: 10.1.2.3, 10.1.2.4"]), 403),
    "its cousins": (call(seat="carl", headers=["forwarded: for=10.1.2.3", "x-real-ip: 10.1.2.3", "x-envoy-external-address: 10.1.2.3"]), 403),
    # Where to.
    "a path in capitals": (call(path="/V1/CHAT/COMPLETIONS"), (403, 404)),
    # Envoy makes these two plain before anybody reads them.
    "an encoded letter": (call(path="/v1/%63hat/completions"), 200),
    "an encoded slash": (call(path="/v1/chat%2fcompletions"), (400, 403)),
    "dots": (call(path="/v1/embeddings/../chat/completions/../../embeddings"), (400, 403, 404)),
    "a path behind another": (call(path="/v1/chat/completions/../../v1/embeddings"), (400, 403, 404)),
    "a parameter of the path": (call(path="/v1/chat/completions;/v1/embeddings"), (400, 403, 404)),
    "a backslash": (call(path="/v1\\chat\\completions"), 200),
    "another path by header": (call(path="/v1/embeddings", headers=["x-original-url: " + CHAT, "x-rewrite-url: " + CHAT, "x-envoy-original-path: " + CHAT]), 403),
    "another method by header": (call(headers=["x-http-method-override: GET"]), 200),
    # How.
    "HTTP/1.0": (call(version="1.0"), 426),
    "HTTP/0.9": (b"GET /v1/chat/completions\r\n\r\n", (0, 400, 426)),
    "both lengths": (call(headers=["transfer-encoding: chunked"]), (0, 400)),
    "two lengths": (call(headers=["content-length: 5"]), (0, 400)),
    "an upgrade": (call(headers=["connection: upgrade", "upgrade: websocket"]), (400, 403)),
    "a compressed body": (call(headers=["content-encoding: gzip"]), 400),
    # Which model.
    "a model that is not the plan's": (call(body(model="demo-large")), 403),
    "its alias": (call(body(model="demo-latest")), 403),
    "in capitals": (call(body(model="DEMO-SMALL")), (403, 404)),
    "with a blank": (call(body(model="demo-small ")), (403, 404)),
    "with an invisible character": (call(body(model="demo-small\u200b")), (403, 404)),
    "with a zero byte": (call(body(model="demo-small\0")), (403, 404)),
    "in letters of another script": (call(body(model="demo-sm\u0430ll")), (403, 404)),
    "a model by escapes": (call(GOOD.replace(b"demo-small", b"demo-\\u006carge")), 403),
    "a model in pieces of a byte": (call(raw=chunked(body(model="demo-large"), size=1)), 403),
    "a key twice": (call(b'{"model":"demo-large",' + GOOD[1:]), 400),
    "a key twice, by escapes": (call(b'{"mod\\u0065l":"demo-large",' + GOOD[1:]), 400),
    "a key in another case beside it": (call(b'{"Model":"demo-large",' + GOOD[1:]), 400),
    "a key with the Kelvin sign": (call('{"max_to\u212aens":9999999,'.encode() + GOOD[1:]), 400),
    # What it may use.
    "a tool that is not the plan's": (call(body(tools=[FORBIDDEN])), 403),
    "one among many": (call(body(tools=[TOOL] * 40 + [FORBIDDEN])), 403),
    "ten thousand tools": (call(body(tools=[TOOL] * 10_000)), 403),
    "under the old key": (call(body(functions=[{"name": "rm"}])), 403),
    "its name by escapes": (call(body(tools=[FORBIDDEN]).replace(b'"rm"', b'"\\u0072m"')), 403),
    "a search by a provider's own name": (call(body(tools=[{"type": "web_browser"}]), seat="dora"), 403),
    "by a switch in another spelling": (call(body(Enable_Search=True), seat="dora"), 403),
    "by escapes": (call(GOOD.replace(b"{", b'{"tools":[{"type":"\\u0077eb_search_2099"}],', 1), seat="dora"), 403),
    "by the name of a model": (call(body(model="demo-small:online"), seat="dora"), 403),
    "told of as if it had been": (call(said("go on").replace(b'"messages": [', b'"messages": [{"role":"assistant","tool_calls":[{"id":"t","type":"web_search"}]},'), seat="dora"), 403),
    "a name twice in it": (call(body(tools=[TOOL]).replace(b'"name": "get_time"', b'"name": "rm", "name": "get_time"')), 403),
    # What it costs.
    "a limit twice": (call(b'{"max_tokens":9999,' + GOOD[1:]), 400),
    "a limit as text": (call(body().replace(b'"max_tokens": 20', b'"max_tokens": "20"')), 400),
    "no usage, please": (call(body(stream=True, stream_options={"include_usage": False})), 200),
    "options twice": (call(body(stream=True, stream_options={}).replace(b'{"model"', b'{"stream_options":{"include_usage":true},"model"')), 400),
    "usage twice in them": (call(body(stream=True, stream_options={"x": 1}).replace(b'"x": 1', b'"include_usage":true,"include_usage":false')), 400),
    "usage in another case": (call(body(stream=True, stream_options={"Include_Usage": False})), 400),
    "options that are none": (call(body(stream=True, stream_options="no")), 400),
    # What it points at, of which nobody here can count the tokens.
    "an image elsewhere": (call(said([{"type": "image_url", "image_url": {"url": "https://a.test/x.png"}}]), seat="dora"), OPEN),
    "by escapes, elsewhere": (call(said([{"type": "image_url", "image_url": {"url": "X"}}]).replace(b"X", b"https\\u003a//a.test/x.png"), seat="dora"), OPEN),
    "a file by its name": (call(said("fileid://file-1"), seat="dora"), OPEN),
    "a file by escapes": (call(said("X").replace(b"X", b"\\u0066ileid:\\/\\/file-1"), seat="dora"), OPEN),
    "none: an image that is there": (call(said([{"type": "image_url", "image_url": {"url": "data:image\\/png;base64,AAAA".replace("\\/", "/")}}]).replace(b"image/png", b"image\\/png"), seat="dora"), 200),
    # What it tells.
    "a secret": (call(body(f"it is {SECRET}")), 403),
    "a secret by escapes": (call(body("it is X").replace(b"X", ESCAPED.encode())), 403),
    "by escapes within escapes": (call(body(json.dumps({"key": "X"})).replace(b"X", ESCAPED.replace("\\", "\\\\").encode())), 403),
    "with invisible characters": (call(body("it is " + "\u200b".join(SECRET))), 403),
    "in wide letters": (call(body("it is " + "".join(chr(ord(letter) + 0xFEE0) for letter in SECRET))), 403),
    "in base 64": (call(body("decode " + base64.b64encode(f"key: {SECRET}".encode()).decode())), 403),
    "in a key": (call(body(tools=[{"type": "function", "function": {"name": "get_x", "parameters": {SECRET: {}}}}])), 403),
    "in a place that nobody knows": (call(body(x={"y": [SECRET]})), 403),
    "in what an earlier turn called": (call(json.dumps({**chat("go on"), "messages": [{"role": "assistant", "tool_calls": [{"id": "t", "type": "function", "function": {"name": "f", "arguments": json.dumps({"k": SECRET})}}]}, {"role": "user", "content": "go on"}]}).encode()), 403),
    "messages twice": (call(b'{"messages":[{"role":"user","content":"hi"}],' + body(f"it is {SECRET}")[1:]), 400),
    "content twice in a message": (call(said(f"it is {SECRET}").replace(b'"role"', b'"content":"hi","role"')), 403),
    "in pieces of a byte": (call(raw=chunked(body(f"it is {SECRET}"), size=1)), 403),
    "in a path that nobody knows": (call(body(f"it is {SECRET}"), path="/v1/files"), (403, 404)),
    "a card as a number": (call(body(metadata={"of": CARD})), 403),
    "as a fraction": (call(body(metadata={"of": CARD}).replace(b"%d" % CARD, b"%d.0" % CARD)), 403),
    "with an exponent": (call(body(metadata={"of": 1}).replace(b'"of": 1', b'"of": 4.111111111111111e15')), 403),
    "as a number where a text should be": (call(body(user=CARD)), 403),
    "in a place that nobody knows, as a number": (call(body(x=[{"y": CARD}])), 403),
    "as a number in what an earlier turn called": (call(json.dumps({"model": "demo-small", "max_tokens": 20, "messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "get_x", "input": {"n": CARD}}]}, {"role": "user", "content": "go on"}]}).encode()), 403),
    "as the name of a member": (call(body(metadata={str(CARD): "x"})), 403),
    "a keyword": (call(body("Falcon")), 403),
    "a keyword beside the prompt": (call(body(user="falcon")), 403),
    "none: the word of a setting": (call(body(tool_choice="auto", service_tier="auto")), 200),
    "numbers of tokens": (call(b'{"model":"demo-small","prompt":[15339,1917],"max_tokens":5}', path="/v1/completions"), 403),
}
LIMITS = {
    "a secret over two parts of a message": call(said([{"type": "text", "text": SECRET[:8]}, {"type": "text", "text": SECRET[8:]}])),
    "a secret in base 64 twice": call(body("decode " + base64.b64encode(base64.b64encode(SECRET.encode())).decode())),
    "a secret in hexadecimal": call(body("decode " + SECRET.encode().hex())),
    "a secret with a percent sign": call(body("it is " + SECRET.replace("I", "%49", 1))),
    "a secret backwards": call(body("it is " + SECRET[::-1])),
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    with Whole(tmp_path_factory.mktemp("evasions"), POLICY) as whole:
        yield whole
        whole.unharmed()


def status(whole, sent):
    raw = Raw(whole, sent)
    try:
        return raw.answer()[0]
    except (AssertionError, ConnectionError):
        return 0
    finally:
        raw.close()


@pytest.mark.parametrize("evasion", EVASIONS)
def test_an_evasion_is_refused_or_of_no_use(stack, evasion):
    sent, wanted = EVASIONS[evasion]
    before = stack.model.stats(last=0)["requests"]
    got = status(stack, sent)
    assert got in (wanted if isinstance(wanted, tuple) else (wanted,)), evasion
    reached = stack.model.stats(last=0)["requests"] - before
    assert reached == (got == 200), "what was refused reached the model" if reached else "what was allowed did not"
    if reached:
        seen = stack.model.last()
        assert key("alice") not in json.dumps(seen) and key("bob") not in json.dumps(seen), "a key went upstream"
        tiers = [value for name, value in seen["headers"].items() if name.replace("_", "-") == "x-farebox-tier"]
        assert tiers == ["bronze"] and not any(name.replace("_", "-").startswith("x-internal") for name in seen["headers"]), seen["headers"]


@pytest.mark.parametrize("limit", LIMITS)
def test_what_is_known_to_get_through(stack, limit):
    assert status(stack, LIMITS[limit]) == 200


def test_usage_is_charged_although_the_caller_asked_not_to_hear_it(stack):
    charged = lambda: sum(record["usage"]["output"] for record in stack.ledger.records() if record["seat"] == "bob")
    sent = call(body("Hello [[output=7]]", stream=True, stream_options={"include_usage": False}), seat="bob")
    raw = Raw(stack, sent)
    answered, text = raw.answer()
    raw.close()
    assert answered == 200 and b'"usage"' not in text.replace(b'"usage":null', b"")
    until(lambda: charged() == 7, 20, "what it used is in the ledger")
