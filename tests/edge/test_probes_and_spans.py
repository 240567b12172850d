"""The product as processes: probes sent by the command line, told apart in facts and metrics; spans as a collector gets them."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from otlp_collector import Collector, plain
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from headway.prove.product import Product, Upstream
from headway.prove.rawhttp import request, until
from headway.prove.world import configuration

RUN = "run-42"


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


@pytest.fixture
async def product(tmp_path: Path, collector: Collector) -> AsyncIterator[Product]:
    upstream = Upstream(tmp_path)
    await upstream.start()
    text = configuration(upstream.url, more=f'[control]\notlp_endpoint = "{collector.address}"\n\n[probes]\nlong_tokens = 200\n')
    try:
        async with Product(tmp_path, text) as made:
            yield made
    finally:
        upstream.stop()


def headway(folder: Path, *words: str) -> tuple[int, dict[str, Any], str]:
    done = subprocess.run(
        [sys.executable, "-m", "headway", *words, "--json"], cwd=folder, capture_output=True, text=True, timeout=60
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


async def test_probes_and_spans_of_the_whole_product(product: Product, collector: Collector) -> None:
    key = await product.new_key()
    body = {"model": "harbour-chat", "stream": True, "max_tokens": 4_000, "messages": [{"role": "user", "content": "hello"}]}
    headers = [("authorization", f"Bearer {key}"), ("content-type", "application/json"), ("x-headway-run", RUN)]
    answer = await request(product.url, "POST", "/v1/chat/completions", headers, json.dumps(body).encode())
    assert answer.status == 200
    call = dict(answer.headers)["x-headway-call"]

    await _spans_of_a_call(collector, call)
    probes = _probes(product.folder)
    await _facts_tell_them_apart(product, probes)
    await _metrics_lead_to_the_call(product, call)


def _of(collector: Collector, call: str) -> list[tuple[Span, dict[str, Any]]]:
    return [(span, values) for span in collector.spans() if (values := plain(span)).get("headway.call") == call]


async def _spans_of_a_call(collector: Collector, call: str) -> None:
    await until("both spans arrive", lambda: _ready(len(_of(collector, call)) == 2), within_s=20)
    by_kind = {span.kind: (span, values) for span, values in _of(collector, call)}
    client, said = by_kind[Span.SPAN_KIND_CLIENT]
    server, own = by_kind[Span.SPAN_KIND_SERVER]
    assert client.name == "chat harbour-chat"
    assert client.parent_span_id == server.span_id
    assert said["gen_ai.operation.name"] == "chat"
    assert said["gen_ai.provider.name"] == "openai"
    assert said["gen_ai.conversation.id"] == RUN
    assert (said["gen_ai.request.stream"], said["gen_ai.request.max_tokens"]) == (True, 4_000)
    assert said["gen_ai.response.id"]
    assert said["gen_ai.response.finish_reasons"] == ["stop"]
    assert said["server.address"] == "127.0.0.1"
    parts = [value for name, value in own.items() if name.startswith("headway.phase.")]
    assert sum(parts) == pytest.approx((server.end_time_unix_nano - server.start_time_unix_nano) / 1e6, abs=0.001)
    assert own["headway.schema.version"] == said["headway.schema.version"] == "1"


def _probes(folder: Path) -> list[str]:
    code, listed, _ = headway(folder, "probes", "list")
    assert code == 0
    assert {route["route"]: route["on"] for route in listed["routes"]}["chat/harbour-chat"] is False, "off by default"
    code, _, error = headway(folder, "probes", "run-once")
    assert (code, "on the schedule" in error) == (1, True)
    code, done, error = headway(folder, "probes", "run-once", "--route", "messages/harbour-messages")
    assert code == 0, error
    results = done["rounds"]["messages/harbour-messages"]
    assert [result["kind"] for result in results] == ["short.cold", "short.warm", "long.cold", "long.warm"]
    assert {result["cost_nano_usd"] for result in results} == {0}, "price_as = free"
    return [result["call"] for result in results]


async def _facts_tell_them_apart(product: Product, probes: list[str]) -> None:
    async def stored() -> bool:
        return len((await product.api_json("/calls?origin=probe"))["calls"]) == len(probes)  # type: ignore[arg-type]

    await until("the probes are stored", stored, within_s=20)
    found: Any = (await product.api_json("/calls?origin=probe"))["calls"]
    assert sorted(row["call"] for row in found) == sorted(probes)
    assert {(row["fact"]["charged_to"], row["fact"]["tenant"]) for row in found} == {("probes", "probes")}
    clients: Any = (await product.api_json("/calls"))["calls"]
    assert not {row["call"] for row in clients} & set(probes)


async def _metrics_lead_to_the_call(product: Product, call: str) -> None:
    accept = [("accept", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")]
    page = await request(product.url, "GET", "/metrics", accept)
    assert dict(page.headers)["content-type"].startswith("application/openmetrics-text")
    families = {family.name: family for family in text_string_to_metric_families(page.body.decode())}
    for name in ("headway_first_token_seconds", "headway_call_seconds", "headway_phase_seconds"):
        assert call in {s.exemplar.labels["call"] for s in families[name].samples if s.exemplar}, name
    counted = {(s.labels["kind"], s.labels["route"]) for s in families["headway_probe_first_token_seconds"].samples}
    assert ("long.warm", "messages/harbour-messages") in counted
    routes = {s.labels["route"] for s in families["headway_call_seconds"].samples}
    assert routes == {"chat/harbour-chat"}, "probes are no client traffic"

    async def told() -> bool:
        merged = await request(product.control_url, "GET", "/metrics", [*accept, ("authorization", f"Bearer {product.token()}")])
        return call in merged.body.decode()

    await until("control tells it too", told, within_s=20)
    plain = await request(product.url, "GET", "/metrics")
    assert dict(plain.headers)["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert " # {" not in plain.body.decode()


async def _ready(done: bool) -> bool:
    return done
