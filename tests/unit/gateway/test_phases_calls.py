"""What the gateway notes of a call's time: instants of attempts, blocked writes, heads and bodies of providers, and streams that only seem good."""

import asyncio
import json

import pytest
from gateway_bench import Bench, FakeExchange, FakeReply, chat, chat_stream, settings, sse

from headway.calls.admission.model import EngineLoad
from headway.calls.conversation import DialectName, Finished, PartDelta, PartEnded, PartStarted, Started, StopReason
from headway.calls.phases.split import split
from headway.config.model import Feature, Gateway, Provider
from headway.facts.model import AttemptFact, CallFact
from headway.facts.seen import seen_of
from headway.gateway.dialects.registry import REGISTRY
from headway.gateway.heads import read_head
from headway.gateway.replies import noted
from headway.gateway.upstream.port import UpstreamRequest
from headway.kernel.instants import mono_ns
from headway.kernel.limits import BLOCKED_WRITES_MAX
from headway.lab.scripted_recording import Recordings

HEAD = [("content-type", "text/event-stream"), ("x-request-id", "r1")]
LOOP = ["I will check the timetable once more. "] * 60


def streams(parts: list[bytes], *, pause_s: float = 0.0, head: list[tuple[str, str]] | None = None) -> Bench:
    return Bench(lambda _: FakeExchange(200, head or HEAD, parts, pause_s=pause_s))


def rows(bench: Bench) -> tuple[CallFact, list[AttemptFact]]:
    return bench.facts.call(), [row for row in bench.facts.rows if isinstance(row, AttemptFact)]


async def test_a_stream_is_split_by_what_came_when() -> None:
    bench = streams(chat_stream(["a", "b", "c", "d"]), pause_s=0.02)
    await bench.call(chat(stream=True))
    call, attempts = rows(bench)
    (attempt,) = attempts
    assert attempt.start_ms is not None
    assert attempt.sent_ms is not None
    assert attempt.address == "192.0.2.1:443"
    assert attempt.first_token_ms is not None
    assert attempt.last_token_ms is not None
    found = split(seen_of(call, attempts))
    assert sum(found.parts_ms.values()) == found.duration_ms == call.duration_ms
    # A role, four words and the finish reason, then usage and [DONE], each 20 ms after the one before.
    assert 35 < found.parts_ms["provider"] < 80, "a role is no token"
    assert 75 < found.parts_ms["decode"] < 160
    assert 35 < found.parts_ms["close"] < 80, "usage is none either"


async def test_pings_and_comments_end_no_gap() -> None:
    parts = chat_stream(["a", "b"])
    with_pings = [part for each in parts for part in (each, b": keep-alive\n\n", b'event: ping\ndata: {"type": "ping"}\n\n')]
    bench = streams(with_pings)
    await bench.call(chat(stream=True))
    assert rows(bench)[1][0].chunks == len(parts) - 1, "usage is taken out, since the caller did not ask for it"


async def test_retries_and_their_back_off_are_accounted_for() -> None:
    def script(_: UpstreamRequest) -> FakeExchange:
        if len(bench.upstream.requests) > 1:
            return FakeExchange(200, HEAD, chat_stream())
        head = [("content-type", "application/json"), ("retry-after-ms", "80")]
        return FakeExchange(429, head, [b'{"error":{"message":"slow down"}}'])

    bench = Bench(script)
    await bench.call(chat(stream=True))
    call, attempts = rows(bench)
    seen = seen_of(call, attempts)
    assert [row.status for row in attempts] == [429, 200]
    assert attempts[0].retry_after_ms == 80
    assert seen.attempts == 2
    assert 80 <= seen.throttled_ms == seen.attempts_ms <= seen.sent_ms
    found = split(seen)
    assert found.parts_ms["attempts"] == pytest.approx(seen.attempts_ms, abs=0.01)
    assert sum(found.parts_ms.values()) == call.duration_ms


@pytest.mark.parametrize(
    ("parts", "fault"),
    [
        (chat_stream(LOOP), "loop"),
        (chat_stream(["The ferry leaves at ", "noon."]), ""),
        (chat_stream([]), "silent"),
        (chat_stream(["The ferry is late today because of the storm in the German Bight. " * 2, "If you miss it, you can still ", "go by"]), "truncated"),
    ],
    ids=["loop", "good", "silent", "truncated"],
)  # fmt: skip
async def test_a_stream_that_only_seems_good_is_marked_and_counted(parts: list[bytes], fault: str) -> None:
    bench = streams(parts)
    reply = await bench.call(chat(stream=True))
    call, attempts = rows(bench)
    assert reply.ended
    assert (call.outcome, call.stream_fault, attempts[0].stream_fault) == ("done", fault, fault)
    counted = f'headway_stream_faults_total{{fault="{fault}",feature="chat",provider="one"}} 1'
    assert (counted in bench.services.metrics.render()) is bool(fault)


@pytest.mark.parametrize("wire", ["bytes", "translated"])
@pytest.mark.parametrize("caller", list(DialectName))
async def test_a_loop_is_heard_in_every_dialect(caller: DialectName, wire: str) -> None:
    codec = REGISTRY[caller]
    upstream = (
        codec
        if wire == "bytes"
        else REGISTRY[DialectName.ANTHROPIC if caller is DialectName.OPENAI_CHAT else DialectName.OPENAI_CHAT]
    )
    body: dict[str, object] = {"model": "chat", "stream": True}
    body |= {"input": "hello"} if caller is DialectName.OPENAI_RESPONSES else {"messages": [{"role": "user", "content": "hello"}]}
    body |= {"max_tokens": 4_000} if caller is DialectName.ANTHROPIC else {}
    conversation, _ = codec.decode_request(json.dumps(body).encode())
    encoder = upstream.encoder(conversation)
    said = [
        Started(id="a", model="m"),
        PartStarted(index=0, kind="text"),
        *(PartDelta(index=0, text=word) for word in LOOP),
        PartEnded(index=0),
        Finished(stop=StopReason.END),
    ]
    config = settings()
    config.providers["one"] = Provider(preset="vllm", base_url="http://one.test", models=("m1",), dialect=upstream.name)
    bench = Bench(lambda _: FakeExchange(200, HEAD, [encoder.encode(each) for each in said]), config=config)
    await bench.call(json.dumps(body).encode(), path=codec.path, dialect=caller)
    assert (bench.facts.call().wire, bench.facts.call().stream_fault) == (wire, "loop")


async def test_a_stop_sequence_of_the_callers_own_may_cut_anywhere() -> None:
    words = ["The ferry is late today because of the storm in the German Bight. " * 2, "If you miss it, you can still ", "go by"]
    for stop in ({"stop": ["boat"]}, {}):
        bench = streams(chat_stream(words))
        await bench.call(chat(stream=True, **stop))
        assert bench.facts.call().stream_fault == ("" if stop else "truncated")


async def test_off_means_no_token_times_and_no_look_at_the_text() -> None:
    config = settings(chat=Feature(targets=("one/m1",)))
    off = Bench(
        lambda _: FakeExchange(200, HEAD, chat_stream(LOOP)),
        config=type(config)(**{**{f: getattr(config, f) for f in config.__struct_fields__}, "gateway": Gateway(phases=False)}),
    )
    await off.call(chat(stream=True))
    call, (attempt,) = rows(off)
    assert (call.stream_fault, attempt.token_times, attempt.chunks) == ("", b"", len(chat_stream(LOOP, usage=False)))
    assert attempt.first_token_ms is not None
    assert attempt.last_token_ms is not None


async def test_a_slow_reader_is_told_by_our_own_clock() -> None:
    class Slow(FakeReply):
        async def send(self, data: bytes) -> None:
            await super().send(data)
            if len(self.chunks) == 3:
                began = mono_ns()
                await asyncio.sleep(0.05)
                self.blocked = noted(self.blocked, began, mono_ns())

    bench = streams(chat_stream(["a", "b", "c", "d"]))
    await bench.call(chat(stream=True), reply=Slow())
    call, attempts = rows(bench)
    assert 50 <= call.blocked_ms < 90
    found = split(seen_of(call, attempts))
    assert found.parts_ms["reader"] == pytest.approx(call.blocked_ms, abs=0.3)
    assert found.parts_ms["stall"] == 0.0
    assert found.parts_ms["decode"] < 40


def test_blocked_writes_are_kept_in_bounded_room_and_their_sum_stays_true() -> None:
    blocked: list[int] | None = None
    for number in range(BLOCKED_WRITES_MAX + 100):
        blocked = noted(blocked, 100 * number, 100 * number + 7)
    assert blocked is not None
    assert len(blocked) == 2 * BLOCKED_WRITES_MAX
    assert sum(blocked[1::2]) - sum(blocked[::2]) == 7 * (BLOCKED_WRITES_MAX + 100)
    assert blocked == sorted(blocked)


def test_heads_of_providers() -> None:
    anthropic = read_head(
        (
            ("content-type", "text/event-stream"),
            ("request-id", "req_1"),
            ("cf-ray", "8f0c2a9be40d4c55-FRA"),
            ("x-envoy-upstream-service-time", "1234"),
            ("anthropic-ratelimit-tokens-limit", "100"),
        )
    )
    assert (anthropic.edge, anthropic.took_ms, anthropic.request_id) == ("FRA", 1234.0, "req_1")
    openai = read_head(
        (("openai-processing-ms", "412"), ("x-envoy-upstream-service-time", "9999"), ("cf-ray", "8f0c2a9be40d4c55-AMS-x"))
    )
    assert (openai.edge, openai.took_ms) == ("", 412.0)
    azure = read_head((("x-ms-region", "Sweden Central"), ("openai-processing-ms", "-1"), ("x-ratelimit-remaining-tokens", "-1")))
    assert (azure.region, azure.took_ms) == ("Sweden Central", None)
    assert read_head((("openai-processing-ms", "1e999"), ("cf-ray", "\u00e9"))).took_ms is None


async def test_tiers_and_what_the_provider_took_land_in_the_row() -> None:
    chunk = json.dumps(
        {
            "id": "c",
            "model": "m1-real",
            "service_tier": "priority",
            "choices": [{"index": 0, "delta": {"content": "Hi."}, "finish_reason": "stop"}],
        }
    )
    head = [*HEAD, ("cf-ray", "8f0c2a9be40d4c55-FRA"), ("openai-processing-ms", "77")]
    bench = streams([*sse(chunk), b"data: [DONE]\n\n"], head=head)
    await bench.call(chat(stream=True))
    (attempt,) = rows(bench)[1]
    assert (attempt.tier, attempt.edge, attempt.upstream_ms) == ("priority", "FRA", 77.0)


@pytest.mark.parametrize("dialect", list(DialectName))
def test_every_recorded_answer_tells_its_tokens_in_one_form(dialect: DialectName) -> None:
    recordings = Recordings()
    for name in recordings.names(dialect):
        found = recordings.find(dialect, name, streamed=False)
        if found.status != 200 or found.content_type.startswith("text/event-stream"):
            continue
        usage = REGISTRY[dialect].see_answer(found.body).usage
        assert usage is not None, name
        assert usage.input_tokens is not None
        assert (usage.cached_tokens or 0) + (usage.cache_write_tokens or 0) <= usage.input_tokens, (
            f"{name}: a prompt includes what was cached"
        )


@pytest.mark.parametrize("dialect", list(DialectName))
def test_every_recorded_stream_tells_its_tokens_in_one_form(dialect: DialectName) -> None:
    recordings, told = Recordings(), 0
    for name in recordings.names(dialect):
        found = recordings.find(dialect, name, streamed=True)
        if found.status != 200 or not found.content_type.startswith("text/event-stream"):
            continue
        body = {"model": "m", "stream": True, "max_tokens": 9, "messages": [], "input": "x"}
        codec = REGISTRY[dialect]
        watcher = codec.watcher(codec.scan(json.dumps(body).encode()))
        for event in found.events():
            watcher.feed(event)
        usage = watcher.seen.usage
        if usage is not None and usage.input_tokens is not None:
            told += 1
            assert (usage.cached_tokens or 0) + (usage.cache_write_tokens or 0) <= usage.input_tokens, name
            assert (usage.reasoning_tokens or 0) <= (usage.output_tokens or 0), name
    assert told > 3


async def test_a_translated_stream_tells_tier_and_fingerprint_too() -> None:
    chunk = json.dumps(
        {
            "id": "c",
            "model": "m1-real",
            "system_fingerprint": "fp_7",
            "service_tier": "flex",
            "choices": [{"index": 0, "delta": {"content": "Hi."}, "finish_reason": "stop"}],
        }
    )
    bench = streams([*sse(chunk), b"data: [DONE]\n\n"])
    body = json.dumps({"model": "chat", "stream": True, "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}).encode()
    await bench.call(body, path="/v1/messages", dialect="anthropic")
    (attempt,) = rows(bench)[1]
    assert (bench.facts.call().wire, attempt.fingerprint, attempt.tier) == ("translated", "fp_7", "flex")


async def test_what_an_engine_last_said_is_on_the_row() -> None:
    def script(_: UpstreamRequest) -> FakeExchange:
        return FakeExchange(200, HEAD, chat_stream())

    bench = Bench(script)
    await bench.call(chat(stream=True))
    name = rows(bench)[1][0].endpoint
    bench.services.engine_loads[name] = EngineLoad(running=3, waiting=2)
    await bench.call(chat(stream=True))
    first, second = rows_all = [row for row in bench.facts.rows if isinstance(row, AttemptFact)]
    assert len(rows_all) == 2
    assert (first.engine_waiting, second.engine_waiting, second.engine_running) == (None, 2, 3)


@pytest.mark.parametrize("dialect", list(DialectName))
async def test_no_recorded_stream_of_a_provider_has_a_fault(dialect: DialectName) -> None:
    recordings = Recordings()
    config = settings()
    config.providers["one"] = Provider(preset="vllm", base_url="http://one.test", models=("m1",), dialect=dialect)
    for name in recordings.names(dialect):
        found = recordings.find(dialect, name, streamed=True)
        if found.status != 200 or not found.content_type.startswith("text/event-stream"):
            continue
        parts = found.events()
        bench = Bench(lambda _, parts=parts: FakeExchange(200, HEAD, parts), config=config)  # type: ignore[misc]
        body: dict[str, object] = {
            "model": "chat",
            "stream": True,
            "max_tokens": 4_000,
            "messages": [{"role": "user", "content": "x"}],
        }
        if dialect is DialectName.OPENAI_RESPONSES:
            body = {"model": "chat", "stream": True, "input": "x"}
        await bench.call(json.dumps(body).encode(), path=REGISTRY[dialect].path, dialect=dialect)
        assert bench.facts.call().stream_fault == "", name
        found_parts = split(seen_of(*rows(bench)))
        assert sum(found_parts.parts_ms.values()) == found_parts.duration_ms == bench.facts.call().duration_ms, name
