"""Traces of every known form are read alike; what cannot be read is refused with its reason, and nothing makes the reader fall over."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from headway.calls.hops.clean import clean
from headway.calls.hops.critical_path import exclusive_us
from headway.calls.hops.seen import by_trace, hop_spans
from headway.facts.hops import clean_traces
from headway.facts.trace_files.opening import read_bytes, read_traces
from headway.facts.trace_files.parts import parts_of
from headway.facts.trace_files.reading import Reading, Unreadable
from headway.kernel.limits import TRACE_ATTRIBUTE_CHARS_MAX, TRACE_NAME_CHARS_MAX

T0_NS = 1_790_000_000_000_000_000
TRACE = "000000000000000000000000000000ab"
TRACES = Path(os.environ.get("HEADWAY_DATA", Path(__file__).parents[4] / "shared" / "data")) / "ops" / "traces"
has_data = pytest.mark.skipif(not TRACES.is_dir(), reason="needs HEADWAY_DATA with ops/traces")


def protobuf(**more: Any) -> ExportTraceServiceRequest:
    """Two spans of one trace, in two services; ``more`` are fields of the second."""
    request = ExportTraceServiceRequest()
    for number, service in enumerate(("edge", "agent"), 1):
        resource = request.resource_spans.add()
        named = resource.resource.attributes.add()
        named.key, named.value.string_value = "service.name", service
        span = resource.scope_spans.add().spans.add()
        span.trace_id, span.span_id = bytes.fromhex(TRACE), number.to_bytes(8, "big")
        span.name, span.kind = f"op {number}", 2
        span.start_time_unix_nano, span.end_time_unix_nano = T0_NS, T0_NS + 3_000_000 // number
    span.parent_span_id = (1).to_bytes(8, "big")
    for key, value in {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}.items():
        pair = span.attributes.add()
        pair.key, pair.value.string_value = key, value
    tokens = span.attributes.add()
    tokens.key, tokens.value.int_value = "gen_ai.usage.input_tokens", 17
    span.status.code = 2
    for field, value in more.items():
        setattr(span, field, value)
    return request


def otlp_json(**more: Any) -> dict[str, Any]:
    """The same in JSON."""

    def resource(service: str, span: dict[str, Any]) -> dict[str, Any]:
        named = [{"key": "service.name", "value": {"stringValue": service}}]
        return {"resource": {"attributes": named}, "scopeSpans": [{"spans": [span]}]}

    one = {"traceId": TRACE, "spanId": f"{1:016x}", "name": "op 1", "kind": 2}
    one |= {"startTimeUnixNano": str(T0_NS), "endTimeUnixNano": str(T0_NS + 3_000_000)}
    two = one | {"spanId": f"{2:016x}", "parentSpanId": f"{1:016x}", "name": "op 2", "kind": "SPAN_KIND_SERVER"}
    two |= {"endTimeUnixNano": T0_NS + 1_500_000, "status": {"code": 2}}
    two["attributes"] = [
        {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
        {"key": "gen_ai.request.model", "value": {"stringValue": "m"}},
        {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "17"}},
    ]
    return {"resourceSpans": [resource("edge", one), resource("agent", two | more)]}


def jaeger(**more: Any) -> dict[str, Any]:
    """The same as Jaeger's query service tells it."""
    one = {"traceID": "ab", "spanID": "1", "operationName": "op 1", "startTime": T0_NS // 1_000, "duration": 3_000}
    one |= {"processID": "p1", "tags": [{"key": "span.kind", "type": "string", "value": "server"}]}
    two = one | {"spanID": "2", "operationName": "op 2", "duration": 1_500, "processID": "p2"}
    two["references"] = [{"refType": "CHILD_OF", "traceID": "ab", "spanID": "1"}]
    two["tags"] = [
        {"key": "span.kind", "value": "server"},
        {"key": "gen_ai.operation.name", "value": "chat"},
        {"key": "gen_ai.request.model", "value": "m"},
        {"key": "gen_ai.usage.input_tokens", "value": 17},
        {"key": "error", "value": True},
    ]
    processes = {"p1": {"serviceName": "edge"}, "p2": {"serviceName": "agent"}}
    return {"data": [{"traceID": "ab", "spans": [one, two | more], "processes": processes}]}


def read(data: bytes | dict[str, Any]) -> Reading:
    into = Reading()
    read_bytes(data if isinstance(data, bytes) else json.dumps(data).encode(), into)
    return into


FORMS = {
    "protobuf": protobuf().SerializeToString(),
    "framed": len(protobuf().SerializeToString()).to_bytes(4, "big") + protobuf().SerializeToString(),
    "json": json.dumps(otlp_json()).encode(),
    "pretty": json.dumps(otlp_json(), indent=2).encode(),
    "jaeger": json.dumps(jaeger()).encode(),
    "trace": json.dumps(jaeger()["data"][0]).encode(),
    "list": json.dumps(jaeger()["data"]).encode(),
    "marked": b"\xef\xbb\xbf" + json.dumps(jaeger()).encode(),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_spans(form: str, tmp_path: Path) -> None:
    path = tmp_path / "traces"
    for data in (FORMS[form], gzip.compress(FORMS[form])):
        path.write_bytes(data)
        found = read_traces(path)
        assert (dict(found.refused), dict(found.mended)) == ({}, {})
        one, two = found.spans
        assert (one.trace, one.span, one.parent, one.service, one.name, one.kind) == (
            TRACE,
            f"{1:016x}",
            "",
            "edge",
            "op 1",
            "server",
        )
        assert (two.parent, two.service, two.hop, two.role, two.input_tokens) == (one.span, "agent", "model m", "model", 17)
        assert (two.start_us, two.duration_us, two.error, one.error) == (T0_NS // 1_000, 1_500, True, False)


def test_one_document_a_line_and_a_bad_line_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    line = json.dumps(otlp_json()).encode()
    path.write_bytes(line + b"\n\n{broken\n" + line + b"\n")
    found = read_traces(path)
    assert len(found.spans) == 4
    assert dict(found.refused) == {"body_unreadable": 1}


@pytest.mark.parametrize("cut", [1, 5, 40, 90])
def test_a_truncated_body_is_refused(cut: int) -> None:
    for whole in (FORMS["protobuf"], FORMS["json"], FORMS["jaeger"]):
        with pytest.raises(Unreadable):
            read(whole[:-cut])


def test_truncated_gzip_and_what_is_no_trace(tmp_path: Path) -> None:
    for name, data in {
        "cut.gz": gzip.compress(FORMS["json"])[:-8],
        "empty": b"",
        "blank": b" \n",
        "text": b"hello there",
        "other.json": b'{"a": 1}',
        "deep.json": b"[" * 100_000,
        "cut.parquet": b"PAR1 and no more",
    }.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(Unreadable):
            read_traces(tmp_path / name)
    with pytest.raises(Unreadable, match="No such file"):
        read_traces(tmp_path / "absent")
    (tmp_path / "big").write_bytes(FORMS["json"])
    with pytest.raises(Unreadable, match="more than 100 bytes"):
        read_traces(tmp_path / "big", bytes_max=100)


@pytest.mark.parametrize("field", ["trace_id", "span_id"])
@pytest.mark.parametrize("size", [0, 7, 15, 17, 40])
def test_ids_of_the_wrong_length_are_refused(field: str, size: int) -> None:
    found = read(protobuf(**{field: b"\x01" * size}).SerializeToString())
    name = {"trace_id": "traceId", "span_id": "spanId"}[field]
    same = read(otlp_json(**{name: "01" * size}))
    for each in (found, same):
        assert dict(each.refused) == {"id_malformed": 1}
        assert (len(each.spans), each.spans_in) == (1, 2)


def test_ids_of_zeros_and_of_other_letters_are_refused() -> None:
    assert read(protobuf(span_id=bytes(8)).SerializeToString()).refused["id_malformed"] == 1
    assert read(otlp_json(spanId="0" * 16)).refused["id_malformed"] == 1
    assert read(otlp_json(spanId="0x" + "1" * 14)).refused["id_malformed"] == 1
    assert read(jaeger(spanID="0")).refused["id_malformed"] == 1
    assert read(jaeger(spanID="x" * 65)).refused["id_malformed"] == 1


def test_a_malformed_parent_is_left_out_and_counted() -> None:
    for found in (read(protobuf(parent_span_id=b"abc").SerializeToString()), read(otlp_json(parentSpanId="abc"))):
        assert found.spans[1].parent == ""
        assert dict(found.mended) == {"parent_malformed": 1}


def test_ten_megabytes_in_an_attribute_are_cut_and_counted() -> None:
    huge = "x" * 10_000_000
    for key in ("gen_ai.tool.name", "nobody.reads.this"):
        request = protobuf()
        pair = request.resource_spans[1].scope_spans[0].spans[0].attributes.add()
        pair.key, pair.value.string_value = key, huge
        pairs = otlp_json()["resourceSpans"][1]["scopeSpans"][0]["spans"][0]["attributes"]
        same = read(otlp_json(attributes=[*pairs, {"key": key, "value": {"stringValue": huge}}]))
        tags = jaeger()["data"][0]["spans"][1]["tags"]
        for found in (read(request.SerializeToString()), same, read(jaeger(tags=[*tags, {"key": key, "value": huge}]))):
            assert dict(found.mended) == {"attribute_truncated": 1}
            assert len(found.spans) == 2
            assert found.spans[1].role == "model"
    assert len(huge) > TRACE_ATTRIBUTE_CHARS_MAX


def test_long_names_are_cut_and_counted() -> None:
    found = read(protobuf(name="n" * 5_000).SerializeToString())
    assert len(found.spans[1].name) == TRACE_NAME_CHARS_MAX
    assert dict(found.mended) == {"name_truncated": 1}


def test_one_span_that_cannot_be_read_costs_no_other() -> None:
    for bad in ({"startTimeUnixNano": "soon"}, {"name": 7}, {"attributes": {"a": 1}}):
        found = read(otlp_json(**bad))
        assert (len(found.spans), dict(found.refused)) == (1, {"span_unreadable": 1})
    for bad in ({"startTime": "soon"}, {"duration": None}, {"tags": 3}):
        found = read(jaeger(**bad))
        assert (len(found.spans), dict(found.refused)) == (1, {"span_unreadable": 1})


def test_structured_arguments_are_read_as_their_values() -> None:
    request = protobuf()
    span = request.resource_spans[1].scope_spans[0].spans[0]
    del span.attributes[:]
    span.kind = 1
    named = span.attributes.add()
    named.key, named.value.string_value = "gen_ai.operation.name", "execute_tool"
    pair = span.attributes.add()
    pair.key = "gen_ai.tool.call.arguments"
    inner = pair.value.kvlist_value.values.add()
    inner.key, inner.value.string_value = "document", "doc-17"
    value = {"kvlistValue": {"values": [{"key": "document", "value": {"stringValue": "doc-17"}}]}}
    attributes = [
        {"key": "gen_ai.operation.name", "value": {"stringValue": "execute_tool"}},
        {"key": "gen_ai.tool.call.arguments", "value": value},
    ]
    first, second = read(request.SerializeToString()).spans[1], read(otlp_json(kind=1, attributes=attributes)).spans[1]
    assert first.inputs == second.inputs
    assert len(first.inputs) == 1


def test_a_value_nested_without_end_costs_its_span_at_most() -> None:
    deep = '{"arrayValue":{"values":[' * 5_000 + "]}}" * 5_000
    text = json.dumps(otlp_json()).replace('{"stringValue": "m"}', deep)
    found = Reading()
    try:
        read_bytes(text.encode(), found)
    except Unreadable:
        return
    assert found.spans_in == 2


def test_times_of_1970_and_2099_and_negative_durations_come_through_and_are_mended() -> None:
    for start_ns in (0, 4_070_908_800_000_000_000):
        found = read(otlp_json(startTimeUnixNano=str(start_ns), endTimeUnixNano=str(start_ns + 1_500_000)))
        cleaned = clean_traces(found.spans)
        assert {repair.reason for repair in cleaned.repairs} == {"time_out_of_range"}
        assert sum(exclusive_us(cleaned.traces[0]).values()) == 3_000
    found = read(otlp_json(endTimeUnixNano=str(T0_NS - 5_000_000)))
    assert found.spans[1].duration_us == -5_000
    assert {repair.reason: repair.count for repair in clean_traces(found.spans).repairs} == {"negative_duration": 1}


def test_columns_of_parquet_and_those_that_lack(tmp_path: Path) -> None:
    table = pa.table(
        {
            "trace": [1, 1, 1],
            "span": [10, 11, 12],
            "parent": [-1, 10, None],
            "service": pa.array(["edge", "auth", "edge"]).dictionary_encode(),
            "operation": ["in", "check", None],
            "start_us": [1_000_000, 1_000_100, None],
            "dur_us": [900, 300, 5],
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    found = read_traces(tmp_path / "t.parquet")
    assert [(s.trace, s.span, s.parent, s.service) for s in found.spans] == [("1", "10", "", "edge"), ("1", "11", "10", "auth")]
    assert dict(found.refused) == {"span_unreadable": 1}
    pq.write_table(table.drop_columns(["service", "dur_us"]), tmp_path / "less.parquet")
    with pytest.raises(Unreadable, match="no column service, duration_us"):
        read_traces(tmp_path / "less.parquet")


def test_parts_hold_what_the_file_holds(tmp_path: Path) -> None:
    for form, data in FORMS.items():
        (tmp_path / form).write_bytes(data)
        spans = [span for part in parts_of(tmp_path / form) for span in read(part.data).spans]
        assert spans == read(data).spans, form
    (tmp_path / "p").write_bytes(b"PAR1....")
    with pytest.raises(Unreadable):
        list(parts_of(tmp_path / "p"))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(FORMS)), st.data())
def test_whatever_comes_is_read_or_refused(form: str, data: st.DataObject) -> None:
    """Bytes replaced, cut out, doubled: never anything but spans, counts and Unreadable; and what was read can be cleaned."""
    body = bytearray(FORMS[form])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body)))
        length = data.draw(st.integers(0, 12))
        body[at : at + length] = data.draw(st.one_of(st.binary(max_size=12), st.just(bytes(body[at : at + 40]))))
    into = Reading()
    try:
        read_bytes(bytes(body), into)
    except Unreadable:
        return
    assert into.spans_in == len(into.spans) + into.refused.total() - into.refused["body_unreadable"]
    cleaned = clean_traces(into.spans)
    assert cleaned.spans_in + cleaned.spans_added == cleaned.spans_kept + cleaned.spans_refused
    for trace in cleaned.traces:
        assert sum(exclusive_us(trace).values()) == trace.duration_us


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        read_bytes(body, Reading())
    except Unreadable:
        pass


@has_data
def test_the_agents_trace_tells_model_tools_and_stores_apart() -> None:
    found = read_traces(TRACES / "jaeger_genai_trace.json.gz")
    assert len(found.spans) == 57
    spans = [span for members in by_trace(found.spans).values() for span in hop_spans(members)]
    hops = {span.hop for span in spans}
    assert {"model model-a", "model model-b", "tool search_traces", "retrieval vector-search"} <= hops
    assert {"db clickhouse/metrics", "db elasticsearch/jaeger-span", "vector-store", "auth-service", "api-edge"} <= hops
    models = [span for span in spans if span.is_model]
    assert {span.name for span in models} == {"chat model-a", "chat model-b"}
    assert all(span.hop.startswith("model ") for span in spans if span.name == "POST /v1/messages")
    (trace,) = clean(spans).traces
    assert sum(exclusive_us(trace).values()) == trace.duration_us == 44_000_000


@has_data
def test_hand_made_traces_keep_their_services_and_sum_up() -> None:
    cases = json.loads(gzip.decompress((TRACES / "crisp_jaeger_test_cases.json.gz").read_bytes()))
    assert len(cases) == 33
    for name, document in cases.items():
        found = read(document)
        services = {process["serviceName"] for trace in document["data"] for process in trace["processes"].values()}
        cleaned = clean_traces(found.spans)
        assert not found.refused, name
        for trace in cleaned.traces:
            assert {span.hop for span in trace.spans} <= services, name
            assert sum(exclusive_us(trace).values()) == trace.duration_us, name
