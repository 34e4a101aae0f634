"""How the real Envoy and the host adapter behave: the facts that the design stands on."""

import requests


def test_traffic_passes(stack, upstream):
    envoy = stack()
    answer = requests.post(envoy.url + "/somewhere?x=1", data=b"12345", timeout=10)
    assert (answer.status_code, answer.content) == (200, b"hello")
    assert upstream.seen[0]["body"] == b"12345"
    assert b"content-length: 5" in upstream.seen[0]["head"]
