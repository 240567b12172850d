"""Spans over HTTP: stored before they are acknowledged, refused with a counted reason, bounded; Headway's own calls beside them."""

import asyncio
import gzip
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

from headway.calls.hops.critical_path import exclusive_us
from headway.control.ingest import Ingest, NotStored
from headway.control.traces import Form, TooMany, TraceDesk
from headway.control.vitals import _taken_in
from headway.facts.engine import Engine
from headway.facts.hop_range import HopQuery
from headway.facts.hops import HopTable
from headway.facts.model import AttemptFact, CallFact, Fact, SpanFact
from headway.facts.own_spans import span_id, trace_id
from headway.facts.parquet_store import ParquetStore
from headway.facts.segments import encode_fact, footer_bytes, header_bytes, record_bytes
from headway.facts.trace_files.opening import read_bytes
from headway.facts.trace_files.reading import Reading, Unreadable
from headway.kernel import limits
from headway.kernel.instants import WallMs
from headway.ledger.model import Role

NOW = WallMs(1_790_000_000_000)
PROTOBUF = {"content-type": "application/x-protobuf"}
JSON = {"content-type": "application/json"}


def spans(count: int, *, trace: int = 1, first: int = 1, start_ns: int = NOW * 1_000_000) -> ExportTraceServiceRequest:
    """A root and its children."""
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for number in range(first, first + count):
        span = scope.spans.add()
        span.trace_id, span.span_id = trace.to_bytes(16, "big"), number.to_bytes(8, "big")
        if number > first:
            span.parent_span_id = first.to_bytes(8, "big")
        span.name = "op"
        span.start_time_unix_nano, span.end_time_unix_nano = start_ns, start_ns + 5_000_000
    return request


def body(count: int, **more: int) -> bytes:
    return spans(count, **more).SerializeToString()


async def test_protobuf_is_taken_and_answered_in_protobuf(world: Any) -> None:
    client = await world.bearer(Role.OPERATOR)
    answer = await client.post("/v1/traces", content=body(3), headers=PROTOBUF)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-protobuf")
    assert ExportTraceServiceResponse.FromString(answer.content) == ExportTraceServiceResponse()
    assert [row.span for row in world.rows] == [f"{n:016x}" for n in (1, 2, 3)]
    assert {row.parent for row in world.rows} == {"", f"{1:016x}"}


async def test_gzip_and_json_with_partial_success(world: Any) -> None:
    client = await world.bearer(Role.OPERATOR)
    packed = await client.post("/v1/traces", content=gzip.compress(body(2)), headers={**PROTOBUF, "content-encoding": "gzip"})
    assert packed.status_code == 200
    one = {"traceId": "0" * 31 + "9", "spanId": "0" * 15 + "1", "name": "a", "startTimeUnixNano": "1", "endTimeUnixNano": "2"}
    document = {"resourceSpans": [{"scopeSpans": [{"spans": [one, one | {"spanId": "abc"}, one | {"name": 3}]}]}]}
    answer = await client.post("/v1/traces", content=json.dumps(document), headers=JSON)
    assert answer.json() == {
        "partialSuccess": {"rejectedSpans": "2", "errorMessage": "2 spans refused: id_malformed 1, span_unreadable 1"}
    }
    assert len(world.rows) == 3
    counts = (await (await world.bearer(Role.VIEWER)).get("/api/v1/traces/counts")).json()
    assert (counts["posts"], counts["spans"], counts["refused"]) == (2, 3, {"id_malformed": 1, "span_unreadable": 1})


async def test_a_tenants_key_stores_its_own_tenants_spans(world: Any) -> None:
    client = await world.bearer(Role.OPERATOR, tenant="acme")
    request = spans(1)
    pair = request.resource_spans[0].scope_spans[0].spans[0].attributes.add()
    pair.key, pair.value.string_value = "headway.tenant", "globex"
    await client.post("/v1/traces", content=request.SerializeToString(), headers=PROTOBUF)
    await (await world.bearer(Role.OPERATOR)).post("/v1/traces", content=request.SerializeToString(), headers=PROTOBUF)
    assert [row.tenant for row in world.rows] == ["acme", "globex"]
    await client.get("/api/v1/traces?range=24h")
    assert [(asked.tenant, asked.until_wall_us - asked.since_wall_us) for asked in world.spans_asked] == [("acme", 86_400_001_000)]


@pytest.mark.parametrize(
    ("content", "headers", "status", "reason"),
    [
        (body(3)[:-7], PROTOBUF, 400, "body_unreadable"),
        (b"{", JSON, 400, "body_unreadable"),
        (body(1), {"content-type": "text/plain"}, 415, "body_unreadable"),
        (body(1), {**PROTOBUF, "content-encoding": "br"}, 415, "body_unreadable"),
        (gzip.compress(body(1))[:-4], {**PROTOBUF, "content-encoding": "gzip"}, 400, "body_unreadable"),
        (b"not gzip", {**PROTOBUF, "content-encoding": "gzip"}, 400, "body_unreadable"),
    ],
)
async def test_what_cannot_be_read_is_refused_and_counted(
    world: Any, content: bytes, headers: dict[str, str], status: int, reason: str
) -> None:
    client = await world.bearer(Role.OPERATOR)
    answer = await client.post("/v1/traces", content=content, headers=headers)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]
    assert world.traces.stats().refused == {reason: 1}
    assert world.rows == []


async def test_who_may_not_is_refused_before_the_body_is_read(world: Any) -> None:
    assert (await world.client().post("/v1/traces", content=body(1), headers=PROTOBUF)).status_code == 401
    viewer = await (await world.bearer(Role.VIEWER)).post("/v1/traces", content=body(1), headers=PROTOBUF)
    assert (viewer.status_code, viewer.json()["error"]["code"]) == (403, "forbidden")
    assert world.traces.stats().posts == 0


async def test_a_body_over_the_bound_is_refused_packed_or_not(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client = await world.bearer(Role.OPERATOR)
    large = await client.post(
        "/v1/traces", content=b"", headers={**PROTOBUF, "content-length": str(limits.TRACE_BODY_BYTES_MAX + 1)}
    )
    assert large.status_code == 413
    monkeypatch.setattr(limits, "TRACE_BODY_BYTES_MAX", 1_000)
    bomb = gzip.compress(bytes(10_000_000))
    answer = await client.post("/v1/traces", content=bomb, headers={**PROTOBUF, "content-encoding": "gzip"})
    assert answer.status_code == 413
    assert world.traces.stats().refused == {"body_too_large": 2}


async def test_more_than_other_routes_may_take_is_taken(world: Any) -> None:
    content = body(3_000)
    assert len(content) > limits.CONTROL_BODY_BYTES_MAX
    client = await world.bearer(Role.OPERATOR)
    assert (await client.post("/v1/traces", content=content, headers=PROTOBUF)).status_code == 200
    assert len(world.rows) == 3_000


async def test_not_stored_is_not_acknowledged(world: Any) -> None:
    client = await world.bearer(Role.OPERATOR)
    world.store_away = "the disk is full"
    answer = await client.post("/v1/traces", content=body(2), headers=PROTOBUF)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert world.traces.stats().refused == {"not_stored": 1}
    world.store_away = ""
    assert (await client.post("/v1/traces", content=body(2), headers=PROTOBUF)).status_code == 200
    assert len(world.rows) == 2


async def test_jaeger_is_uploaded(world: Any) -> None:
    client = await world.bearer(Role.OPERATOR)
    one = {"traceID": "a1", "spanID": "b2", "operationName": "x", "startTime": 5, "duration": 7, "processID": "p"}
    document = {"data": [{"spans": [one, one | {"spanID": "not hex"}], "processes": {"p": {"serviceName": "s"}}}]}
    answer = await client.post("/api/v1/traces", content=json.dumps(document))
    assert answer.json() == {"spans": 1, "refused": {"id_malformed": 1}, "mended": {}}
    (row,) = world.rows
    assert (row.trace, row.span, row.service, row.duration_us) == ("a1".zfill(32), "b2".zfill(16), "s", 7)
    assert row.at_wall_us == world.deps.clock() * 1_000  # 1970: found by when it came
    assert (await client.post("/api/v1/traces?form=xml", content=b"")).status_code == 400


class Kept:
    """A desk over a list."""

    def __init__(self) -> None:
        self.writes: list[int] = []
        self.rows: list[SpanFact] = []
        self.held = asyncio.Event()
        self.held.set()
        self.desk = TraceDesk(self.store, self.read, lambda: NOW)
        self.task = asyncio.create_task(self.desk.run())

    async def store(self, rows: Sequence[SpanFact]) -> None:
        await self.held.wait()
        self.writes.append(len(rows))
        self.rows += rows

    async def read(self, where: HopQuery) -> bytes:
        return b""

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.desk.close()


async def test_posts_that_come_together_are_written_together() -> None:
    kept = Kept()
    await asyncio.gather(*(kept.desk.take(body(2, trace=n), Form.OTLP_PROTOBUF, "") for n in range(1, 21)))
    assert sum(kept.writes) == 40
    assert len(kept.writes) < 10
    await kept.close()


async def test_a_trace_that_is_too_large_is_refused_with_its_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HOP_TRACE_SPANS_MAX", 100)
    kept = Kept()
    whole = spans(101)
    whole.MergeFrom(spans(3, trace=2))
    taken = await kept.desk.take(whole.SerializeToString(), Form.OTLP_PROTOBUF, "")
    assert (taken.spans, taken.refused) == (3, {"trace_too_large": 101})
    for first, expected in ((1, 60), (61, 40), (101, 0)):  # grown by posts: what fits stays
        got = await kept.desk.take(body(expected or 1, trace=3, first=first), Form.OTLP_PROTOBUF, "")
        assert got.spans == expected
    assert kept.desk.stats().refused == {"trace_too_large": 102}
    await kept.close()


async def test_a_million_spans_of_one_trace_are_refused_and_nothing_falls_over() -> None:
    kept = Kept()
    one = spans(1).resource_spans[0].scope_spans[0].spans[0]
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.extend([one] * 1_000_000)
    taken = await kept.desk.take(request.SerializeToString(), Form.OTLP_PROTOBUF, "")
    assert (taken.spans, taken.refused) == (0, {"trace_too_large": 1_000_000})
    await kept.close()


async def test_places_are_bounded_by_number_and_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TRACE_POSTS_WAITING_MAX", 2)
    kept = Kept()
    with kept.desk.turn(1), kept.desk.turn(1), pytest.raises(TooMany), kept.desk.turn(1):
        pass
    with pytest.raises(TooMany), kept.desk.turn(limits.TRACE_WAITING_BYTES_MAX + 1):
        pass
    with kept.desk.turn(1), kept.desk.turn(1):
        pass
    assert kept.desk.stats().refused == {"post_refused": 2}
    assert 'headway_control_trace_refused_total{reason="post_refused"} 2' in _taken_in(kept.desk.stats())
    await kept.close()


async def test_a_stop_refuses_what_is_not_written() -> None:
    kept = Kept()
    kept.held.clear()
    waiting = asyncio.create_task(kept.desk.take(body(1), Form.OTLP_PROTOBUF, ""))
    await asyncio.sleep(0.2)
    kept.task.cancel()
    with pytest.raises(NotStored, match="stopped"):
        await waiting
    await kept.close()


async def test_whatever_bytes_come_the_desk_stands() -> None:
    kept = Kept()
    rng = random.Random(5)
    good = body(5)
    for _ in range(200):
        data = bytearray(good)
        for _ in range(rng.randint(1, 5)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        form = rng.choice(list(Form))
        try:
            kept.desk._read(bytes(data), form, "", rng.random() < 0.2)
        except Unreadable:
            continue
    assert (await kept.desk.take(good, Form.OTLP_PROTOBUF, "")).spans == 5
    await kept.close()


class Stored:
    """The real store, with a desk and a table."""

    def __init__(self, folder: Path) -> None:
        self.store = ParquetStore.open(folder)
        self.heard: list[Fact] = []
        self.ingest = Ingest(self.store, on_facts=self.heard.extend, wall=lambda: NOW)
        self.engine = Engine(self.store)
        self.table = HopTable(self.engine)
        self.desk = TraceDesk(self.ingest.store_spans, self.table.parquet, lambda: NOW)
        self.task = asyncio.create_task(self.desk.run())

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.desk.close()
        await self.ingest.close()
        await self.engine.close()
        self.store.close()


HOUR_US = 3_600_000_000
AROUND = HopQuery(since_wall_us=NOW * 1_000 - HOUR_US, until_wall_us=NOW * 1_000 + HOUR_US)


async def test_what_was_taken_is_found_again_once(tmp_path: Path) -> None:
    bench = Stored(tmp_path)
    for _ in range(2):  # sent again
        await bench.desk.take(body(4), Form.OTLP_PROTOBUF, "acme")
    await bench.desk.take(body(2, trace=2, start_ns=0), Form.OTLP_PROTOBUF, "globex")  # 1970
    await bench.desk.take(body(2, trace=3, start_ns=(NOW - 7_200_000) * 1_000_000), Form.OTLP_PROTOBUF, "")
    found = (await bench.table.traces(AROUND)).cleaned
    assert [(trace.trace[-1], len(trace.spans), trace.tenant) for trace in found.traces] == [("2", 2, "globex"), ("1", 4, "acme")]
    assert {repair.reason: repair.count for repair in found.repairs} == {"duplicate_id": 4, "time_out_of_range": 1}
    mine = (await bench.table.traces(HopQuery(**{**_fields(AROUND), "tenant": "acme"}))).cleaned
    assert [trace.trace[-1] for trace in mine.traces] == ["1"]
    assert bench.heard == []  # never sent on to the collector it may come from
    reading = Reading()
    read_bytes(await bench.desk.stored(NOW - 3_600_000, NOW + 1, ""), reading)
    assert len(reading.spans) == 10
    await bench.close()


async def test_the_newest_whole_traces_are_read_where_there_are_too_many(tmp_path: Path) -> None:
    bench = Stored(tmp_path)
    for number in range(1, 6):
        await bench.desk.take(body(10, trace=number, start_ns=(NOW + number) * 1_000_000), Form.OTLP_PROTOBUF, "")
    found = await bench.table.traces(AROUND, most=25)
    assert [trace.trace[-1] for trace in found.cleaned.traces] == ["4", "5"]
    assert found.left_out == 3
    await bench.close()


def _fields(where: HopQuery) -> dict[str, Any]:
    return {name: getattr(where, name) for name in where.__struct_fields__}


def segment(*facts: Fact) -> bytes:
    rows = b"".join(record_bytes(i, encode_fact(fact)) for i, fact in enumerate(facts))
    return header_bytes("g", "s") + rows + footer_bytes(len(facts))


def call(name: str, took: float, **more: Any) -> CallFact:
    return CallFact(call=name, started_wall_ms=NOW, duration_ms=took, gateway="g", **more)


def attempt(name: str, number: int, start: float, took: float, **more: Any) -> AttemptFact:
    return AttemptFact(
        call=name, attempt=number, started_wall_ms=NOW, start_ms=start, duration_ms=took, gateway="g", upstream_model="m", **more
    )


SEGMENT = f"{NOW:013d}-0123456789abcdef-000001"


async def test_headway_is_a_hop_and_its_queue_another(tmp_path: Path) -> None:
    bench = Stored(tmp_path)
    facts = (
        call("c1", 100.0, tenant="acme", feature="chat"),
        attempt("c1", 1, 0.5, 30.0, outcome="upstream_error"),
        attempt("c1", 2, 31.0, 68.0, queue_ms=20.0, input_tokens=40, cached_tokens=10),
        call("p1", 5.0, origin="piece", parent_call="c1"),
        attempt("p1", 1, 0.0, 5.0),
    )
    stored = await bench.ingest.store_segment("g", SEGMENT, segment(*facts))
    assert stored.rows == {"call": 2, "attempt": 3}
    assert {type(fact) for fact in bench.heard} == {CallFact, AttemptFact}
    (trace,) = (await bench.table.traces(AROUND)).cleaned.traces
    assert exclusive_us(trace) == {"headway": 2_000, "headway queue": 20_000, "model m": 78_000}
    assert (trace.request_type, trace.tenant, trace.cache_hit, trace.prompt_band) == ("headway chat", "acme", True, "short")
    assert [span.error for span in trace.spans if span.is_model] == [True, False]
    assert trace.repairs == ()
    await bench.close()


async def test_own_calls_stand_in_their_callers_trace_and_runs_together(tmp_path: Path) -> None:
    bench = Stored(tmp_path)
    parent = f"00-{1:032x}-{1:016x}-01"
    facts = (
        call("c1", 4.0, traceparent=parent),
        attempt("c1", 1, 0.5, 3.0, traceparent=parent),
        call("r1", 2.0, run="run-7"),
        call("r2", 3.0, run="run-7"),
    )
    await bench.ingest.store_segment("g", SEGMENT, segment(*facts))
    await bench.desk.take(body(1), Form.OTLP_PROTOBUF, "")
    caller, run = sorted(
        (await bench.table.traces(AROUND)).cleaned.traces, key=lambda trace: -len(trace.spans) * 10 - trace.duration_us
    )
    assert exclusive_us(caller) == {"(unnamed)": 1_000, "headway": 1_000, "model m": 3_000}
    assert sorted(span.span for span in run.spans if span.hop == "headway") == sorted([span_id("r1"), span_id("r2")])
    await bench.close()


def test_ids_are_those_of_spans_sent_out() -> None:
    from headway.control import spans as out

    assert bytes.fromhex(trace_id("call_x")) == out.trace_id("call_x")
    assert bytes.fromhex(span_id("call_x", 2)) == out.span_id("call_x", 2)
