"""Many clients at once, at the edge of what their seats may use: each goes on until not even the smallest call fits."""

import collections
import http.client
import json
import random
import threading
import time
from urllib.parse import urlsplit

from whole import key

SMALLEST = 16  # the policy's `shrink_to`
LARGEST = 300
UNSTATED = 0.3  # of the calls that may leave their output limit open


class Crowd:
    """What the clients saw. `said` counts their answers by (seat, status); `odd` keeps what should not happen."""

    def __init__(self, urls, seats, clients=64, hang_up=0.0, broken=0.0, prompt=0, seed=1):
        self.urls, self.seats, self.hang_up, self.broken = urls, seats, hang_up, broken
        self.prompt = prompt  # bytes of new text in each prompt, about
        # Of `broken` calls the upstream may leave the answer at any place.
        self.said, self.odd = collections.Counter(), []
        self.read = 0  # bytes of answers
        self.hung_up = 0
        self._lock = threading.Lock()
        self._changes = 0  # answers that were admitted
        self._threads = [threading.Thread(target=self._client, args=(n, seed * 1000 + n), daemon=True) for n in range(clients)]

    def start(self):
        for thread in self._threads:
            thread.start()
        return self

    def wait(self, seconds=240):
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0, end - time.monotonic()))
            assert not thread.is_alive(), f"a client still runs after {seconds} s: {self.said}"
        return self

    def lead(self, calls):
        """Before the others come: so many small calls of each, one after the other."""
        for seat in self.seats:
            for n in range(calls):
                assert self._call(_connect(self.urls[0]), random.Random(n), seat, SMALLEST) == 200
        return self

    def tail(self):
        """Now that all is quiet: the smallest calls, one after the other, until none fits. Returns how many did."""
        fitted = 0
        for seat in self.seats:
            for url in self.urls:
                while self._call(_connect(url), random.Random(fitted), seat, SMALLEST) == 200:
                    fitted += 1
        return fitted

    def admitted(self, seat=None):
        return self._sum(200, seat)

    def refused(self, seat=None):
        return self._sum(429, seat)

    def _sum(self, status, seat):
        return sum(count for (who, what), count in self.said.items() if what == status and seat in (None, who))

    def _client(self, n, seed):
        chance, seat, url = random.Random(seed), self.seats[n % len(self.seats)], self.urls[n // len(self.seats) % len(self.urls)]
        connection, quiet = _connect(url), 0
        largest, failures = LARGEST, 0
        while quiet < 8 and failures < 300:
            before = self._changes
            status = self._call(connection, chance, seat, largest)
            if status == 200:
                quiet, largest = 0, LARGEST
            elif status == 429:
                # Others may be about to give back what they hold.
                quiet = quiet + 1 if largest == SMALLEST and self._changes == before else 0
                largest = SMALLEST
                time.sleep(chance.uniform(0.02, 0.1))
            else:
                # Whether that may happen is the test's to say; the client tries again.
                failures += 1
                time.sleep(0.1)

    def _call(self, connection, chance, seat, largest):
        limit = chance.randint(SMALLEST, largest)
        anthropic, stream = chance.random() < 0.3, chance.random() < 0.5
        broken = chance.random() < self.broken
        hang_up = stream and not broken and chance.random() < self.hang_up
        words = f"[[output={chance.randint(0, limit)}{f' break={chance.randint(0, limit)}' if broken else ''}]]"
        words += chance.randbytes(self.prompt * 4 // 9).hex(" ", 4)
        body = {"model": f"demo-{seat}", "stream": stream, "messages": [{"role": "user", "content": words}]}
        # Anthropic's calls must state one.
        if anthropic or chance.random() >= UNSTATED:
            body["max_tokens"] = limit
        headers = {"authorization": f"Bearer {key(seat)}", "content-type": "application/json"}
        try:
            connection.request("POST", "/v1/messages" if anthropic else "/v1/chat/completions", json.dumps(body), headers)
            answer = connection.getresponse()
            if hang_up and answer.status == 200:
                answer.read(chance.randint(1, 4000))
                answer.close()
                connection.close()
                with self._lock:
                    self.hung_up += 1
            else:
                text = self._all(connection, answer, broken)
                self._look(seat, answer.status, stream, text, broken)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            with self._lock:
                self.odd.append(f"{seat}: {error!r}")
            return 0
        with self._lock:
            self.said[seat, answer.status] += 1
            self._changes += answer.status == 200
        return answer.status

    def _all(self, connection, answer, broken):
        """The body, or of one that the upstream breaks off nothing."""
        try:
            return answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            if not broken:
                raise
            return b""

    def _look(self, seat, status, stream, text, broken):
        whole = status == 429 or status == 200 and (broken or not stream or b"[DONE]" in text or b"message_stop" in text)
        with self._lock:
            self.read += len(text)
            if not whole:
                self.odd.append(f"{seat}: {status} {text[-300:]!r}")


def _connect(url):
    where = urlsplit(url)
    return http.client.HTTPConnection(where.hostname, where.port, timeout=60)
