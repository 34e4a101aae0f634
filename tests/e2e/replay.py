"""`make replay [CORPUS=path/to/exchanges.jsonl.gz]`: recorded exchanges once more, through a real Envoy.

An upstream answers each request with the recorded bytes, in the recorded pieces where those are known. What the client gets must be
what the filter's own reader lets through natively (all of it, but usage that only the filter had asked for), and the record in the
ledger must say what that reader read. Without a corpus it says so and ends.
"""

import base64
import collections
import concurrent.futures
import gzip
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import requests
from conftest import ROOT, Upstream, until
from whole import Whole, policy

CORPUS = pathlib.Path(os.environ.get("CORPUS") or ROOT.parent / "shared/corpus/exchanges.jsonl.gz")
# Headers that belong to a connection, or to bodies as they were before the recorder unpacked them.
NOT_REPLAYED = {"content-length", "content-encoding", "transfer-encoding", "connection", "keep-alive", "date", "server", "alt-svc", "upgrade"}
KEY = "x-replay"


def rows(path):
    with gzip.open(path, "rt") if path.suffix == ".gz" else open(path) as lines:
        yield from (json.loads(line) for line in lines if line.strip())


def packed(text, binary):
    return base64.b64decode(binary) if binary else (text or "").encode()


class Row:
    """One recorded exchange."""

    def __init__(self, row):
        self.id, self.status, self.row = row["id"], row["status"] or 200, row
        self.path = row["path"].removesuffix(" (assumed)")
        self.answer = packed(row["response_body"], row.get("response_body_b64"))
        self.kind = self.header(row["response_headers"], "content-type")
        body = row["request_body"]
        self.body = None if body is None else base64.b64decode(body[7:]) if body.startswith("base64:") else body.encode()

    @staticmethod
    def header(headers, name):
        found = [value for known, value in (headers or {}).items() if known.lower() == name]
        return (found[0] if isinstance(found[0], str) else found[0][0]) if found else None

    def request_headers(self):
        kind = self.header(self.row["request_headers"], "content-type") or "application/json"
        if self.body.startswith(b"--") and "boundary" not in kind:
            line = self.body[2:].split(b"\r\n" if b"\r\n" in self.body else b"")[0] if b"\r\n" in self.body else b""
            kind = f"multipart/form-data; boundary={line.decode(errors='replace')}"
        extra = {name: self.header(self.row["request_headers"], name) for name in ("x-dashscope-sse", "accept")}
        return {"content-type": kind, KEY: self.id, **{name: value for name, value in extra.items() if value}}

    def pieces(self):
        rest = self.answer
        for size in self.row.get("chunk_lens") or []:
            piece, rest = rest[:size], rest[size:]
            if piece:
                yield piece
        if rest:
            yield rest

    def replay(self, conn):
        """Its answer, as the provider sent it."""
        headers = [f"HTTP/1.1 {self.status} Recorded", "transfer-encoding: chunked"]
        for name, value in (self.row["response_headers"] or {}).items():
            for one in [value] if isinstance(value, str) else value:
                if name.lower() not in NOT_REPLAYED and not name.startswith(":"):
                    headers.append(f"{name}: {' '.join(str(one).split())}")
        conn.sendall("\r\n".join(headers).encode() + b"\r\n\r\n")
        for piece in self.pieces():
            conn.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        conn.sendall(b"0\r\n\r\n")


def native(corpus, folder):
    """What the reader does with each row, natively, by id."""
    told = folder / "replayed.jsonl"
    command = ["cargo", "test", "--quiet", "--locked", "--test", "corpus"]
    environment = {**os.environ, "FAREBOX_CORPUS": str(corpus), "FAREBOX_REPLAYED": str(told)}
    subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True)
    return {row["id"]: row for row in map(json.loads, told.read_text().splitlines())}


def seat(place):
    return f"row-{place}"


def send(whole, place, row):
    """The answer that a client gets: its status and its bytes; also bytes of one that is broken off."""
    headers = {"authorization": f"Bearer key-{seat(place)}", **row.request_headers()}
    try:
        answer = requests.post(whole.url + row.path, data=row.body, headers=headers, timeout=60, stream=True)
        return answer.status_code, answer.raw.read(decode_content=False)
    except requests.RequestException as error:
        return type(error).__name__, b""


def differs(row, told, status, body, record):
    """What is not as it should be; `None`: nothing."""
    if (status, hashlib.sha256(body).hexdigest()) != (row.status, told["sha256"]):
        return f"the client got {status} and {len(body)} bytes, not {row.status} and {len(row.answer)}: {body[:300]!r}"
    if record is None:
        return "no record"
    same = {"reported": told["reported"] or None, "delivered": told["delivered"], "tool_calls": told["tool_calls"]}
    for name, expected in same.items():
        if record[name] != expected:
            return f"the record says {name} {record[name]}, natively {expected}"
    return None


def replay(corpus, folder):
    """Rows by what became of them, and the faults."""
    told = native(corpus, folder)
    known = [row for row in map(Row, rows(corpus)) if row.id in told]
    by_id = {row.id: row for row in known}
    upstream = Upstream()
    wanted = re.compile(rb"\r\nx-replay: ([^\r]+)", re.IGNORECASE)
    upstream.answer = lambda request, conn: by_id[wanted.search(request["head"])[1].decode()].replay(conn)
    seats = {seat(place): ("acme", "all") for place in range(len(known))}
    text = policy("replay", {"all": "{}"}, seats, models='"*": {count: o200k_base}')
    became, faults = collections.Counter(), []
    with Whole(folder, text, upstream=upstream.port) as whole:
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda numbered: send(whole, *numbered), enumerate(known)))
        sent = sum(1 for request in upstream.seen if wanted.search(request["head"]))
        until(lambda: len(whole.ledger.records()) >= sent, 60, "all records arrive")
        records = {record["seat"]: record for record in whole.ledger.records()}
    for place, (row, (status, body)) in enumerate(zip(known, answers, strict=True)):
        fault = differs(row, told[row.id], status, body, records.get(seat(place)))
        became["as recorded, but for usage that only the filter asked for" if told[row.id]["changed"] else "byte for byte"] += fault is None
        if fault:
            faults.append(f"{row.id} ({told[row.id]['dialect']}): {fault}")
    became["of unknown paths or without a request"] = sum(1 for _ in rows(corpus)) - len(known)
    return became, faults


def main():
    if not CORPUS.is_file():
        print(f"replay: SKIPPED: no corpus at {CORPUS}; name one in CORPUS")
        return
    with tempfile.TemporaryDirectory() as name:
        became, faults = replay(CORPUS, pathlib.Path(name))
    for what, count in became.items():
        print(f"{count:>7,} {what}")
    print(f"{len(faults):>7,} with a difference")
    sys.exit("\n".join(faults) if faults else 0)


if __name__ == "__main__":
    main()
