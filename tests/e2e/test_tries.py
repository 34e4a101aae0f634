"""Nobody has Envoy try calls again by saying so."""

import time

from whole import Whole, chat, policy

BUSY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\n{}"
BODY = b'{"model":"demo-ann","choices":[{"index":0,"message":{"content":"hi"}}],"usage":{"prompt_tokens":8,"completion_tokens":1,"total_tokens":9}}'
FINE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY

def plan(retry):
    connectivity = f"connectivity: {{retry: {retry}}}, " if retry else ""
    return policy("tries", {"one": f"{{{connectivity}tokens: {{caps: {{all: {{limit: 1b tokens, per: seat, window: first-use 5h}}}}}}}}"}, {"ann": ("acme", "one")})


def unguarded(text):
    """Envoy's configuration without what takes such headers off before any filter: a rule, and its suspicion of strangers."""
    rule = "              - remove_on_match: {key_matcher: {prefix: x-envoy-}}\n"
    edge = "          use_remote_address: true\n"
    assert rule in text and edge in text
    ours = "          internal_address_config: {cidr_ranges: [{address_prefix: 127.0.0.0, prefix_len: 8}]}\n"
    return text.replace(rule, "").replace(edge, edge + ours)


def start(folder, upstream, retry="{on: [503], tries: 3}", mode=lambda text: text, **settings):
    return Whole(folder, mode(plan(retry)), upstream=upstream.port, **settings)


def failing(upstream, tries, how=lambda request, conn: conn.sendall(BUSY)):
    """Lets each call's first `tries` fail."""
    seen = []

    def answer(request, conn):
        seen.append(request)
        (how if len(seen) <= tries else lambda request, conn: conn.sendall(FINE))(request, conn)

    upstream.answer = answer
    return seen


def test_headers_of_callers_order_no_tries(tmp_path, upstream):
    orders = {
        "x-envoy-retry-on": "5xx",
        "x-envoy-retry-grpc-on": "unavailable",
        "x-envoy-max-retries": "5",
        "x-envoy-retriable-status-codes": "503",
        "x-envoy-retriable-header-names": "content-length",
        "x-envoy-upstream-rq-per-try-timeout-ms": "1",
        "x-envoy-upstream-rq-timeout-ms": "1",
        "x-envoy-hedge-on-per-try-timeout": "true",
    }
    seen = failing(upstream, 99, lambda request, conn: (time.sleep(0.3), conn.sendall(BUSY)))
    with start(tmp_path, upstream, retry=None, edit=unguarded) as one:
        assert one.post("ann", chat("hi", "demo-ann"), headers=orders).status_code == 503
        (record,) = one.ledger.wait(1)
    assert (record["attempts"], len(seen)) == (1, 1)
    assert b"x-envoy-retr" not in seen[0]["head"].lower()
