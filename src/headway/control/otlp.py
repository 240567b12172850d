"""Sends spans, and metrics made of them, to an OTLP/HTTP collector, in a thread of its own. A collector that is away, slow or wrong costs spans, counted,
and nothing else.

Protocol: https://opentelemetry.io/docs/specs/otlp/#otlphttp. Binary protobuf; 429, 502, 503 and 504 are tried again after Retry-After or with doubling
pauses, all other refusals are final. Metrics are cumulative and go once a minute; a collector that has no place for them is asked no more.
"""

import http.client
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import SplitResult, urlsplit

import msgspec
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from headway.control.genai_metrics import GenAiMetrics
from headway.control.span_attributes import Host
from headway.control.span_verdicts import SpanVerdicts
from headway.control.spans import Told, request_of, span_told, together, verdict_span
from headway.facts.model import Fact
from headway.kernel import limits
from headway.kernel.errors import ConfigError
from headway.kernel.instants import wall_ms

_TRY_AGAIN = frozenset({429, 502, 503, 504})
_TRACES = "/v1/traces"
_METRICS = "/v1/metrics"
_NO_METRICS = frozenset({404, 405, 415, 501})
_NS_PER_MS = 1_000_000
_FIRST_PAUSE_S = 0.5
_IDLE_S = 5.0
_MS_PER_S = 1000
_ANSWER_BYTES_MAX = 64 * 1024
_log = logging.getLogger(__name__)


class SpanStats(msgspec.Struct, frozen=True, kw_only=True):
    """Counts since the start. ``shed`` did not fit the queue, ``refused`` were not wanted by the collector."""

    sent: int
    shed: int
    refused: int
    failures: int
    queued: int
    unjudged: int
    """Calls whose verdict no span tells, since too many came."""
    problem: str
    """Why spans do not arrive at the moment; empty when they do."""


class SpanExport:
    """Hands facts to a collector at ``endpoint``: its base address or the whole one ending with ``/v1/traces``. ``known``: the providers in force. ``ConfigError`` when it is neither http nor https."""

    def __init__(
        self,
        endpoint: str,
        *,
        version: str = "",
        headers: Mapping[str, str] | None = None,
        known: Callable[[], Mapping[str, Host]] = dict,
    ) -> None:
        self._address = _address(endpoint)
        self._headers = {"content-type": "application/x-protobuf", "user-agent": f"headway/{version}", **(headers or {})}
        self._resource = {"service.name": "headway", "service.version": version}
        self._known = known
        self._queue: deque[Told] = deque()
        self._verdicts = SpanVerdicts()
        self._unsent: deque[Span] = deque(maxlen=limits.SPAN_VERDICTS_UNSENT_MAX)
        """Spans of verdicts, which go with the next spans or alone."""
        self._metrics = GenAiMetrics(wall_ms() * _NS_PER_MS)
        self._metrics_due_s = time.monotonic() + limits.OTLP_METRICS_EVERY_MS / _MS_PER_S
        self._metrics_wanted = True
        self._counts: Counter[str] = Counter()
        self._problem = ""
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="otlp", daemon=True)
        self._thread.start()

    def offer(self, facts: Sequence[Fact]) -> None:
        """Queue the spans of ``facts``; never blocks. Past SPAN_QUEUE_MAX the new ones are shed."""
        room = limits.SPAN_QUEUE_MAX - len(self._queue)
        self._queue.extend(together(facts[: max(0, room)]))
        self._counts["shed"] += max(0, len(facts) - max(0, room))
        self._wake.set()

    def stats(self) -> SpanStats:
        counts = self._counts
        return SpanStats(
            sent=counts["sent"],
            shed=counts["shed"],
            refused=counts["refused"],
            failures=counts["failures"],
            queued=len(self._queue),
            unjudged=self._verdicts.left_out,
            problem=self._problem,
        )

    def close(self, wait_s: float = 2.0) -> None:
        """Try once more to send what waits, for at most ``wait_s``."""
        self._stop.set()
        self._wake.set()
        self._thread.join(wait_s)

    def _work(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while not self._stop.is_set() or self._queue:
            waiting = self._verdicts.pending or self._unsent or (self._metrics_wanted and self._metrics.changed)
            self._wake.wait(_IDLE_S if waiting else None)
            self._wake.clear()
            self._unsent.extend(verdict_span(*each) for each in self._verdicts.idle(wall_ms(), time.monotonic()))
            while self._queue or self._unsent:
                batch = [self._queue.popleft() for _ in range(min(len(self._queue), limits.SPANS_PER_POST_MAX))]
                late = [self._unsent.popleft() for _ in range(min(len(self._unsent), limits.SPANS_PER_POST_MAX - len(batch)))]
                spans = self._spans(batch) + late
                again_s = self._post(spans) if spans else None
                if again_s is None:
                    pause_s = _FIRST_PAUSE_S
                    self._learn(batch)
                    self._send_metrics(at_once=False)
                    continue
                self._unsent.extendleft(reversed(late))
                self._queue.extendleft(reversed(batch))
                if self._stop.wait(max(again_s, pause_s)):
                    return
                pause_s = min(pause_s * 2, limits.SPAN_RETRY_MS_MAX / _MS_PER_S)
            self._send_metrics(at_once=self._stop.is_set())

    def _learn(self, batch: list[Told]) -> None:
        """What was sent teaches verdicts and counts in metrics: here, once, whatever had to be tried again."""
        try:
            self._metrics.learn(batch, self._known())
            self._unsent.extend(verdict_span(*each) for each in self._verdicts.learn(batch, time.monotonic()))
        except (ValueError, TypeError, OverflowError) as error:  # a number that no clock or counter holds
            _log.warning("calls in a batch of %d could not be judged: %s", len(batch), error)

    def _send_metrics(self, *, at_once: bool) -> None:
        now_s = time.monotonic()
        if not self._metrics_wanted or not self._metrics.changed or (now_s < self._metrics_due_s and not at_once):
            return
        self._metrics_due_s = now_s + limits.OTLP_METRICS_EVERY_MS / _MS_PER_S
        request = self._metrics.request(self._resource, wall_ms() * _NS_PER_MS)
        address = self._address._replace(path=self._address.path.removesuffix(_TRACES) + _METRICS)
        try:
            status, _, _ = self._exchange(request.SerializeToString(), address.path)
        except (OSError, http.client.HTTPException):
            self._metrics.changed = True  # the next minute tells it too
            return
        if status in _NO_METRICS:
            self._metrics_wanted = False
            _log.info("the span collector takes no metrics: it answered %d to %s", status, _METRICS)

    def _spans(self, batch: list[Told]) -> list[Span]:
        spans: list[Span] = []
        known = self._known()
        for told in batch:
            try:
                span = span_told(told, known)
            except (ValueError, TypeError, OverflowError):  # a number that no protobuf field can hold
                self._counts["refused"] += 1
                continue
            if span is not None:
                spans.append(span)
        return spans

    def _post(self, spans: list[Span]) -> float | None:
        """Send one batch. None when it is done with, well or not; else the least number of seconds after which to try again."""
        try:
            sent = request_of(spans, self._resource).SerializeToString()
            status, retry_after_s, body = self._exchange(sent, self._address.path)
        except (OSError, http.client.HTTPException) as error:
            return self._failed(f"cannot be reached: {error}", 0.0)
        if status in _TRY_AGAIN:
            return self._failed(f"answered {status}", retry_after_s)
        if status // 100 != 2:
            self._counts["refused"] += len(spans)
            self._failed(f"answered {status}, so {len(spans)} spans were dropped", 0.0)
            return None
        rejected = _rejected(body)
        self._counts["refused"] += rejected
        self._counts["sent"] += len(spans) - rejected
        if self._problem:
            _log.info("the span collector takes spans again")
        self._problem = ""
        return None

    def _failed(self, what: str, again_s: float) -> float:
        self._counts["failures"] += 1
        if not self._problem:
            _log.warning("the span collector %s", what, extra={"fields": {"collector": self._address.netloc}})
        self._problem = f"the span collector at {self._address.netloc} {what}"
        return again_s

    def _exchange(self, body: bytes, path: str) -> tuple[int, float, bytes]:
        secure = self._address.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(self._address.hostname or "", self._address.port, timeout=limits.SPAN_POST_TIMEOUT_MS / _MS_PER_S)
        try:
            connection.request("POST", path, body, self._headers)
            answer = connection.getresponse()
            return answer.status, _seconds(answer.getheader("retry-after")), answer.read(_ANSWER_BYTES_MAX)
        finally:
            connection.close()


def _address(endpoint: str) -> SplitResult:
    where = urlsplit(endpoint)
    if where.scheme not in ("http", "https") or not where.hostname:
        raise ConfigError(
            f"{endpoint!r} is not an address of a collector", where="control.otlp_endpoint", fix="write it as http://host:4318"
        )
    path = where.path.rstrip("/")
    return where._replace(path=path if path.endswith(_TRACES) else path + _TRACES)


def _seconds(retry_after: str | None) -> float:
    """The delay-seconds form of Retry-After, bounded; its date form counts as none."""
    if retry_after is None or not retry_after.strip().isdecimal():
        return 0.0
    return min(float(retry_after), limits.SPAN_RETRY_MS_MAX / _MS_PER_S)


def _rejected(body: bytes) -> int:
    try:
        return int(ExportTraceServiceResponse.FromString(body).partial_success.rejected_spans)
    except DecodeError:
        return 0
