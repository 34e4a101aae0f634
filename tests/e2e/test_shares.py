"""While a call with a huge output limit runs, others of its organisation find room, with limits of their own."""

from contextlib import contextmanager

from conftest import until
from whole import Whole, chat, policy

FUND = "{month: {amount: 100000 tokens, per: org, window: calendar month}}"
PLANS = {"fair": f"{{tokens: {{funds: {FUND}}}}}", "first": f"{{tokens: {{funds: {FUND}, hold: {{share: all}}}}}}"}
SEATS = {"ann": ("one", "fair"), "ben": ("one", "fair"), "cas": ("two", "first"), "dan": ("two", "first")}
BOUND = 500  # tokens that a short prompt comes to at most


@contextmanager
def greedy(one, seat):
    """A stream of this seat that asks for far more than there is, and stops in the middle; the limit that it was given."""
    body = chat("Hello [[output=9 stall=3]]", stream=True, max_tokens=1_000_000)
    with one.post(seat, body, stream=True) as answer:
        assert answer.status_code == 200, answer.text
        # As long as somebody has hold of them: else the caller has gone.
        pieces = answer.iter_content(1)
        next(pieces)
        until(lambda: one.model.stats(last=0)["running"] > 0, 10, "it runs")
        yield one.model.last()["limit"]
        pieces.close()


def limit(one, seat, asked):
    """The output limit that reaches the model of a call of this seat which asks for so much."""
    answer = one.post(seat, chat("Hello [[output=5]]", max_tokens=asked))
    assert answer.status_code == 200, answer.text
    return one.model.last()["limit"]


def test_a_greedy_call_leaves_room_for_others(tmp_path):
    with Whole(tmp_path, policy("shares", PLANS, SEATS)) as one:
        with greedy(one, "ann") as first, greedy(one, "ben") as second:
            assert 50_000 - BOUND < first < 50_000 and 25_000 - BOUND < second < 25_000, (first, second)
            # What fits into half of what they leave is not lowered, what does not is.
            assert limit(one, "ann", 12_000) == 12_000
            assert 12_500 - BOUND < limit(one, "ben", 20_000) < 12_500
        until(lambda: one.model.stats(last=0)["running"] == 0, 30, "they are gone")
        # Who is alone gets what is there.
        until(lambda: limit(one, "ben", 90_000) == 90_000, 10, "nothing is held any more")


def test_whoever_comes_first_has_all_where_the_plan_says_so(tmp_path):
    with Whole(tmp_path, policy("shares", PLANS, SEATS)) as one:
        with greedy(one, "cas") as first:
            assert 100_000 - BOUND < first < 100_000
            refused = one.post("dan", chat("Hello", max_tokens=100))
            assert refused.status_code == 429 and refused.headers["x-should-retry"] == "true", refused.text
