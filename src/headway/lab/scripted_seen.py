"""What the scripted upstream saw, for tests: bodies byte for byte, headers, and when a peer closed.

Instants are nanoseconds of CLOCK_MONOTONIC, which all processes of one machine share, so that a test can subtract its own.
"""

import base64
import time
from collections import deque

import msgspec

RECORDS_KEPT = 5_000
BODY_BYTES_KEPT = 1024 * 1024


class Record(msgspec.Struct, kw_only=True):
    """One request, from its head to its end."""

    epoch: int
    at_ns: int
    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    connection: int
    mark: str = ""
    events_sent: int = 0
    first_sent_ns: int | None = None
    ended_ns: int | None = None
    ended: str = ""
    """done, cut, or peer_closed."""


class Seen:
    """Counters for the life of the process (or since ``reset``), and the last RECORDS_KEPT requests."""

    def __init__(self, *, keep: bool = True) -> None:
        self.keep = keep
        self.connections_open = 0
        self.reset()

    def reset(self) -> None:
        self.requests = 0
        self.in_flight = 0
        self.in_flight_max = 0
        self.connections = 0
        self.ended = {"done": 0, "cut": 0, "peer_closed": 0}
        self.by_path: dict[str, int] = {}
        self.records: deque[Record] = deque(maxlen=RECORDS_KEPT)
        self._epoch = getattr(self, "_epoch", 0) + 1

    def begin(self, method: str, target: str, headers: list[tuple[str, str]], body: bytes, connection: int) -> Record:
        self.requests += 1
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        path = target.partition("?")[0]
        self.by_path[path] = self.by_path.get(path, 0) + 1
        record = Record(
            epoch=self._epoch,
            at_ns=time.monotonic_ns(),
            method=method,
            target=target,
            headers=headers,
            body=body[:BODY_BYTES_KEPT],
            connection=connection,
        )
        if self.keep:
            self.records.append(record)
        return record

    def end(self, record: Record, how: str) -> None:
        if record.ended:
            return
        record.ended, record.ended_ns = how, time.monotonic_ns()
        if record.epoch == self._epoch:  # else it began before a reset, which forgot it
            self.in_flight -= 1
            self.ended[how] += 1

    def report(self, *, last: int = 20, contains: str = "", bodies: bool = True) -> bytes:
        """``/_seen`` as JSON. Bodies are base64."""
        chosen = [r for r in self.records if not contains or contains.encode() in r.body or contains == r.mark]
        return msgspec.json.encode(
            {
                "now_ns": time.monotonic_ns(),
                "requests": self.requests,
                "in_flight": self.in_flight,
                "in_flight_max": self.in_flight_max,
                "connections": self.connections,
                "connections_open": self.connections_open,
                "ended": self.ended,
                "by_path": self.by_path,
                "last": [_shown(r, bodies) for r in chosen[-last:]] if last else [],
            }
        )


def _shown(record: Record, bodies: bool) -> dict[str, object]:
    shown = msgspec.structs.asdict(record)
    del shown["epoch"]
    shown["body"] = base64.b64encode(record.body).decode() if bodies else len(record.body)
    return shown
