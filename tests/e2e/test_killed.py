"""Envoy killed in the middle of its work, and one VM of it: what the ledger keeps is never passed, and what is lost is bounded."""

import threading

import pytest
import requests
from conftest import WASM_HOOKS, until
from crowd import SMALLEST, Crowd
from whole import MICRO, Whole, charged, chat, key, policy

SEATS = [f"s{n}" for n in range(4)]


def edge(org, seat):
    caps = f"seat-5h: {{limit: {seat} tokens, per: seat, window: first-use 5h}}, live: {{limit: 64 requests, per: seat, window: concurrent}}"
    return f"""{{tokens: {{funds: {{month: {{amount: {org} tokens, per: org, window: calendar month}}}},
        caps: {{{caps}}}, hold: {{shrink_to: {SMALLEST}}}}}}}"""


def edge_policy(name, org, seat):
    return policy(name, {"edge": edge(org, seat)}, {seat: ("acme", "edge") for seat in SEATS}).replace("patience: 2s", "patience: 20s")


def tokens(record):
    return sum(record["usage"][kind] for kind in ("input", "cache_read", "cache_write", "output"))


def accounts(one):
    return {(each["subject"], each["quota"]): each for each in one.ledger.get("accounts")["quotas"]}


def test_envoy_killed_under_load(tmp_path):
    fund, kills = 100_000, 3
    with Whole(tmp_path, edge_policy("killed", fund, 40_000), pace="2ms") as one:
        crowd = Crowd([one.url], SEATS, clients=24).start()
        for _ in range(kills):
            before = one.model.stats(last=0)["requests"]
            until(lambda: one.model.stats(last=0)["requests"] > before + 60, 60, "the crowd is at work")
            one.envoy.process.kill()
            one.envoy.process.wait()
            one.envoy.start()
        crowd.wait()
        crowd.tail()
        exchanges = one.model.idle()
        written = sum(each["prompt_tokens"] + each["written_tokens"] for each in exchanges)
        until(lambda: told_all(accounts(one)), 60, "the living Envoy has told what it used")
        records, books = one.ledger.records(), accounts(one)
        told, month = sum(map(tokens, records)), books["org/acme", "edge/month"]
        # What dead processes were granted stays counted against the window, used or not: no more than that can be missing.
        bound = month["granted"] - month["used_by_records"]
        open_, missing = sum(each["outcome"] == "aborted" for each in exchanges), len(exchanges) - len(records)
        print(f"{kills} kills under load: {len(exchanges)} exchanges, {len(records)} records: {missing} missing, {open_} of them open at a kill")
        print(f"  fund {fund:,}: the upstream wrote {written:,}, the records say {told:,}; missing {written - told:,}, bound {bound:,}")
        assert len(month["epochs"]) == kills + 1
        assert missing > 0, "nothing was under way at the kills, so this shows nothing"
        assert written <= fund, "a kill opened a second fund"
        for (subject, _), account in books.items():
            assert account["used"] <= account["granted"] <= account["limit"], account
            if subject.startswith("seat/"):
                own = [each for each in exchanges if each["model"] == f"demo-{subject.removeprefix('seat/')}"]
                assert sum(each["prompt_tokens"] + each["written_tokens"] for each in own) <= account["limit"]
        assert 0 <= written - told <= bound, "more is missing than was set aside for it"
        assert month["left"] < 100, "and what is set aside is all that cannot be used"


def told_all(books):
    """The Envoy that lives is the one heard last."""
    return all(each["epochs"][0]["used"] == each["epochs"][0]["used_by_records"] for each in books.values())


class Reader(threading.Thread):
    """A client that reads a long stream to its end, or until it is cut."""

    def __init__(self, one, seat, output):
        super().__init__(daemon=True)
        self.one, self.seat, self.output = one, seat, output
        self.text, self.status = b"", None

    def run(self):
        body = chat(f"[[output={self.output} pace=20ms]]", f"demo-{self.seat}", max_tokens=self.output, stream=True)
        try:
            with self.one.post(self.seat, body, stream=True) as answer:
                self.status = answer.status_code
                for piece in answer.iter_content(None):
                    self.text += piece
        except requests.RequestException:
            pass

    @property
    def whole(self):
        return b"[DONE]" in self.text


def test_vm_killed_under_load(tmp_path):
    limit, count = 40_000, 24
    one = Whole(tmp_path, edge_policy("vm", limit, limit), pace="0", wasm=WASM_HOOKS)
    try:
        one.start()
        readers = [Reader(one, SEATS[n % 4], 250) for n in range(count)]
        for reader in readers:
            reader.start()
        until(lambda: all(len(reader.text) > 500 for reader in readers), 60, "all streams run")
        with pytest.raises(requests.RequestException):
            requests.get(f"{one.url}/farebox-test/panic", timeout=10).raise_for_status()
        assert "killed by a test" in one.envoy.log()
        for reader in readers:
            reader.join(60)
        whole = sum(reader.whole for reader in readers)
        assert 0 < whole < count, "streams ran on both workers, and only one of them died"
        # Served again, by whichever worker a connection meets.
        until(lambda: serves(one), 30, "both workers serve")
        again = one.model.stats(last=0)["requests"] - count
        records = one.ledger.wait(count + again)
        lost = [record for record in records if record["outcome"] == "unsettled"]
        print(f"a VM killed with {count} streams open: {whole} went on, {len(lost)} ended as unsettled, one record each")
        assert len(lost) == count - whole and len({record["id"] for record in records}) == count + again
        vm = lambda record: record["id"].rsplit("-", 1)[0]
        assert len({vm(record) for record in lost}) == 1
        survivors = [record for record in records if vm(record) != vm(lost[0])]
        assert {record["outcome"] for record in survivors} == {"complete"}
        for record in lost:
            # Charged by what was held: `lost: charge` is the default.
            assert {charge["amount"] for charge in record["charges"]} and tokens(record) >= 250
        # Nothing is left held: the rest can be used up, and no more than that.
        crowd = Crowd([one.url], SEATS, clients=32).start().wait()
        crowd.tail()
        records = one.ledger.wait(count + again + crowd.admitted())
        used = charged(records)["org/acme", "edge/month"]
        print(f"  then the rest of the fund was used: {used / MICRO / limit:.2%}")
        assert 0.99 * limit <= used / MICRO <= limit
    finally:
        one.stop()


def serves(one):
    """Whether twenty calls in a row succeed, each on a connection of its own."""
    body = lambda seat: chat("[[output=1]]", f"demo-{seat}", max_tokens=SMALLEST)
    return all(one.post(seat, body(seat)).status_code == 200 for seat in SEATS * 5)
