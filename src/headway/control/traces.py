"""Takes spans in: a body of any known form becomes rows of the table ``span``, durable before it is acknowledged.

Bodies are read one after the other in a thread of their own; posts that come together are written into one file. Nothing is dropped silently: what is
refused or changed is counted by its reason, told to the sender, and is a metric. Spans that are taken in are not sent on to a collector: it may be
where they came from. A post that is sent again is stored again; reports take each span once.
"""

import asyncio
import zlib
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from enum import StrEnum

import msgspec

from headway.calls.hops.seen import SeenSpan
from headway.control.ingest import NotStored
from headway.control.ports import Away
from headway.facts.answers import FactsAway
from headway.facts.hop_range import HopQuery
from headway.facts.model import SpanFact
from headway.facts.span_rows import has_ids, to_row
from headway.facts.trace_files.jaeger import read_jaeger
from headway.facts.trace_files.otlp_json import read_otlp_json
from headway.facts.trace_files.otlp_protobuf import read_otlp_protobuf
from headway.facts.trace_files.reading import BODY_UNREADABLE, ID_MALFORMED, Reading, Unreadable
from headway.kernel import limits
from headway.kernel.errors import HeadwayError
from headway.kernel.instants import WallMs, wall_ms

TRACE_TOO_LARGE, BODY_TOO_LARGE, POST_REFUSED, NOT_STORED = "trace_too_large", "body_too_large", "post_refused", "not_stored"
_S_PER_MS = 0.001
_US_PER_MS = 1_000


class Form(StrEnum):
    OTLP_PROTOBUF = "otlp-protobuf"
    OTLP_JSON = "otlp-json"
    JAEGER = "jaeger"


_READERS: Mapping[Form, Callable[[bytes, Reading], None]] = {
    Form.OTLP_PROTOBUF: read_otlp_protobuf,
    Form.OTLP_JSON: read_otlp_json,
    Form.JAEGER: read_jaeger,
}


class TooMany(HeadwayError):
    """``TRACE_POSTS_WAITING_MAX`` bodies wait already: come again."""


class TooLarge(HeadwayError):
    """A body over ``TRACE_BODY_BYTES_MAX`` once it is unpacked."""


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a body: ``spans`` are durable. Reasons are those of ``facts.trace_files.reading`` and ``trace_too_large``."""

    spans: int
    refused: dict[str, int] = {}
    mended: dict[str, int] = {}

    @property
    def refused_spans(self) -> int:
        return sum(self.refused.values())


class TraceStats(msgspec.Struct, frozen=True, kw_only=True):
    """Counts since the start. ``refused`` counts spans; of whole posts (body_too_large, body_unreadable, not_stored, post_refused) posts."""

    posts: int
    spans: int
    refused: dict[str, int]
    mended: dict[str, int]


Store = Callable[[Sequence[SpanFact]], Awaitable[None]]
"""Makes rows durable; ``NotStored`` when that fails."""
Read = Callable[[HopQuery], Awaitable[bytes]]
"""Spans as a file of Parquet; ``FactsAway`` when they cannot be read."""
_Waiting = tuple[list[SpanFact], "asyncio.Future[None]"]


class TraceDesk:
    """``store`` writes rows, ``read`` finds them again; ``run`` is the task that calls it and must run while posts are taken."""

    def __init__(self, store: Store, read: Read, wall: Callable[[], WallMs] = wall_ms) -> None:
        self._store, self._read_stored, self._wall = store, read, wall
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="traces")
        self._open = self._open_bytes = 0
        self._waiting: list[_Waiting] = []
        self._wake = asyncio.Event()
        self._seen: OrderedDict[str, int] = OrderedDict()
        self._counts: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._mended: Counter[str] = Counter()

    @contextmanager
    def turn(self, size_bytes: int) -> Iterator[None]:
        """A place for a body while it is received, read and written. ``TooMany`` when so many, or so many bytes, have one already."""
        if self._open >= limits.TRACE_POSTS_WAITING_MAX or self._open_bytes + size_bytes > limits.TRACE_WAITING_BYTES_MAX:
            self._refused[POST_REFUSED] += 1
            raise TooMany(f"{self._open} bodies of spans are being read already; send it again in a second")
        self._open += 1
        self._open_bytes += size_bytes
        try:
            yield
        finally:
            self._open -= 1
            self._open_bytes -= size_bytes

    async def take(self, body: bytes, form: Form, tenant: str, *, packed: bool = False) -> Taken:
        """``packed``: gzip. ``Unreadable``, ``TooLarge`` or ``NotStored`` for a body of which nothing was kept."""
        try:
            rows, reading = await asyncio.get_running_loop().run_in_executor(
                self._thread, lambda: self._read(body, form, tenant, packed)
            )
            if rows:
                await self._written(rows)
        except (Unreadable, TooLarge, NotStored) as error:
            self._refused[_reason(error)] += 1
            raise
        self._counts["posts"] += 1
        self._counts["spans"] += len(rows)
        self._refused.update(reading.refused)
        self._mended.update(reading.mended)
        return Taken(spans=len(rows), refused=dict(reading.refused), mended=dict(reading.mended))

    async def stored(self, since_wall_ms: int, until_wall_ms: int, tenant: str) -> bytes:
        """The spans of traces that began in the range, as a file of Parquet. ``Away`` when they cannot be read."""
        where = HopQuery(since_wall_us=since_wall_ms * _US_PER_MS, until_wall_us=until_wall_ms * _US_PER_MS, tenant=tenant)
        try:
            return await self._read_stored(where)
        except FactsAway as error:
            raise Away(str(error)) from error

    def refuse(self, reason: str) -> None:
        """Count a post that did not come as far as ``take``."""
        self._refused[reason] += 1

    def stats(self) -> TraceStats:
        return TraceStats(
            posts=self._counts["posts"], spans=self._counts["spans"], refused=dict(self._refused), mended=dict(self._mended)
        )

    async def run(self) -> None:
        """Write what waits, posts that come within ``TRACE_LINGER_MS`` together, until cancelled; then what waits is refused."""
        try:
            while True:
                await self._wake.wait()
                await asyncio.sleep(limits.TRACE_LINGER_MS * _S_PER_MS)
                await self._write()
        finally:
            for _, done in self._waiting:
                if not done.done():
                    done.set_exception(NotStored("control is being stopped; send the spans again"))
            self._waiting.clear()

    async def close(self) -> None:
        """Finish what is being read."""
        await asyncio.to_thread(self._thread.shutdown)

    async def _written(self, rows: list[SpanFact]) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((rows, done))
        self._wake.set()
        await done

    async def _write(self) -> None:
        batch: list[_Waiting] = []
        size = 0
        while self._waiting and (not batch or size + len(self._waiting[0][0]) <= limits.TRACE_BATCH_SPANS_MAX):
            batch.append(self._waiting.pop(0))
            size += len(batch[-1][0])
        if not self._waiting:
            self._wake.clear()
        failed: NotStored | None = None
        try:
            await self._store([row for rows, _ in batch for row in rows])
        except NotStored as error:
            failed = error
        except asyncio.CancelledError:
            self._waiting[:0] = batch
            raise
        for _, done in batch:
            if not done.done():
                done.set_result(None) if failed is None else done.set_exception(failed)

    def _read(self, body: bytes, form: Form, tenant: str, packed: bool) -> tuple[list[SpanFact], Reading]:
        reading = Reading()
        _READERS[form](_unpacked(body) if packed else body, reading)
        now = self._wall()
        return [to_row(span, now, tenant) for span in self._fitting(reading)], reading

    def _fitting(self, reading: Reading) -> list[SeenSpan]:
        """Spans with ids of the right form, of traces that are not too large. A trace that grows too large keeps what it had."""
        good = [span for span in reading.spans if has_ids(span)]
        if len(good) < len(reading.spans):
            reading.refused[ID_MALFORMED] += len(reading.spans) - len(good)
        sizes = Counter(span.trace for span in good)
        over = {trace for trace, size in sizes.items() if self._grown(trace, size) > limits.HOP_TRACE_SPANS_MAX}
        if over:
            reading.refused[TRACE_TOO_LARGE] += sum(sizes[trace] for trace in over)
            good = [span for span in good if span.trace not in over]
        return good

    def _grown(self, trace: str, size: int) -> int:
        total = self._seen.pop(trace, 0) + size
        self._seen[trace] = total if total <= limits.HOP_TRACE_SPANS_MAX else total - size
        if len(self._seen) > limits.TRACE_COUNTED_MAX:
            self._seen.popitem(last=False)
        return total


def _unpacked(body: bytes) -> bytes:
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        data = unpacker.decompress(body, limits.TRACE_BODY_BYTES_MAX)
    except zlib.error as error:
        raise Unreadable(f"the body is no gzip: {error}") from error
    if unpacker.unconsumed_tail:
        raise TooLarge(f"the body holds more than {limits.TRACE_BODY_BYTES_MAX:,} bytes unpacked; send smaller batches")
    if not unpacker.eof:
        raise Unreadable("the body is cut off: its gzip has no end")
    return data


def _reason(error: Exception) -> str:
    if isinstance(error, Unreadable):
        return BODY_UNREADABLE
    return BODY_TOO_LARGE if isinstance(error, TooLarge) else NOT_STORED
