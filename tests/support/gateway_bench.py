"""An upstream without sockets and a whole pipeline around it, for tests of what the gateway decides."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from headway.calls.model import CallPolicy
from headway.calls.pricing import PriceRow, PriceTable
from headway.config.model import Feature, Provider, Settings, Tenant
from headway.config.secrets import Secrets
from headway.facts.model import CallFact, Fact
from headway.gateway.app import Watch
from headway.gateway.desk import Desk
from headway.gateway.dialects.registry import REGISTRY
from headway.gateway.families import GatewayMetrics
from headway.gateway.flow import Flow, Inbound
from headway.gateway.heads import Headers
from headway.gateway.live import Live
from headway.gateway.pipeline import Pipeline
from headway.gateway.services import Services
from headway.gateway.upstream.port import UpstreamError, UpstreamPhase, UpstreamRequest
from headway.kernel.instants import MonoNs, mono_ns, wall_ms
from headway.ledger.keys import mint
from headway.ledger.model import KeyRecord
from headway.link.messages import BudgetScope, Snapshot

MINTED = mint(wall_ms())


@dataclass
class FakeExchange:
    status: int
    headers: Sequence[tuple[str, str]]
    parts: Sequence[bytes]
    cut_after: int | None = None
    pause_s: float = 0.0
    connected_at: MonoNs | None = None
    sent_at: MonoNs = field(default_factory=mono_ns)
    head_at: MonoNs = field(default_factory=mono_ns)
    ended_at: MonoNs | None = None
    address: str = "192.0.2.1:443"
    closed: bool = False

    async def chunks(self) -> AsyncIterator[bytes]:
        for i, part in enumerate(self.parts):
            if self.cut_after is not None and i >= self.cut_after:
                raise UpstreamError("the connection was cut", phase=UpstreamPhase.BODY)
            if self.pause_s:
                await asyncio.sleep(self.pause_s)
            yield part
        if self.cut_after is not None and self.cut_after >= len(self.parts):
            raise UpstreamError("the connection was cut", phase=UpstreamPhase.BODY)
        self.ended_at = mono_ns()

    async def read(self, limit_bytes: int) -> bytes:
        return b"".join([part async for part in self.chunks()])

    async def close(self) -> None:
        self.closed = True


Script = Callable[[UpstreamRequest], FakeExchange | UpstreamError]


class FakeUpstream:
    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[UpstreamRequest] = []
        self.exchanges: list[FakeExchange] = []

    async def exchange(self, request: UpstreamRequest) -> FakeExchange:
        self.requests.append(request)
        await asyncio.sleep(0)
        answer = self.script(request)
        if isinstance(answer, UpstreamError):
            raise answer
        self.exchanges.append(answer)
        return answer

    async def close(self) -> None: ...


class FakeReply:
    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.chunks: list[bytes] = []
        self.ended = self.aborted = False
        self.blocked: list[int] = []
        self.on_send: Callable[[bytes], None] | None = None

    async def start(self, status: int, headers: Headers) -> None:
        assert not self.status, "an answer starts once"
        self.status, self.headers = status, dict(headers)

    async def send(self, data: bytes) -> None:
        assert self.status
        assert not self.ended
        self.chunks.append(data)
        if self.on_send is not None:
            self.on_send(data)

    async def end(self, data: bytes = b"") -> None:
        assert not self.ended, "an answer ends once"
        self.ended = True
        if data:
            self.chunks.append(data)

    async def abort(self) -> None:
        self.aborted = True

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)


class Facts:
    def __init__(self) -> None:
        self.rows: list[Fact] = []

    def put(self, fact: Fact) -> bool:
        self.rows.append(fact)
        return True

    def calls(self) -> list[CallFact]:
        return [row for row in self.rows if isinstance(row, CallFact)]

    def call(self) -> CallFact:
        (only,) = [c for c in self.calls() if c.origin == "client"]
        return only


class NoFeed:
    def __init__(self) -> None:
        self.asked = 0

    def opened(self, flow: Flow) -> None: ...

    def closed(self, flow: Flow, facts: list[Fact]) -> None: ...

    def ask_leases(self) -> None:
        self.asked += 1


def settings(**features: Feature) -> Settings:
    return Settings(
        providers={
            "one": Provider(preset="vllm", base_url="http://one.test", models=("m1",)),
            "two": Provider(preset="vllm", base_url="http://two.test", models=("m2",)),
            "claude": Provider(preset="anthropic", base_url="http://claude.test", models=("opus",), dialect="anthropic"),
        },
        features={
            "chat": Feature(targets=("one/m1",)),
            "pair": Feature(targets=("one/m1", "two/m2")),
            "abroad": Feature(targets=("claude/opus",)),
            **features,
        },
        tenants={"acme": Tenant()},
    )


def key_record() -> KeyRecord:
    return KeyRecord(id=MINTED.id, digest=MINTED.digest, principal="usr_1", tenant="acme")


class Bench:
    """A pipeline with a fake upstream, real codecs and in-memory facts."""

    def __init__(
        self,
        script: Script,
        *,
        policy: CallPolicy | None = None,
        others: tuple[CallPolicy, ...] = (),
        config: Settings | None = None,
        budgets: tuple[BudgetScope, ...] = (),
        prices: tuple[PriceRow, ...] = (),
    ) -> None:
        self.upstream = FakeUpstream(script)
        self.facts = Facts()
        self.feed = NoFeed()
        self.services = Services(
            gateway="gw",
            upstream=self.upstream,
            dialects=dict(REGISTRY),
            facts=self.facts,
            feed=self.feed,
            metrics=GatewayMetrics(),
            desk=Desk(policy, others),
        )
        snapshot = Snapshot(
            generation=7,
            made_wall_ms=wall_ms(),
            settings=config or settings(),
            keys=(key_record(),),
            prices=PriceTable(version="test", rows=tuple(sorted(prices, key=lambda r: (r.provider, r.model)))),
            budgets=budgets,
        )
        self.services.book.install(budgets)
        self.services.live = Live(snapshot, Secrets({}), {})
        self.pipeline = Pipeline(self.services)

    async def call(
        self,
        body: bytes,
        *,
        path: str = "/v1/chat/completions",
        dialect: str = "openai-chat",
        reply: FakeReply | None = None,
        unread: bool = False,
        **headers: str,
    ) -> FakeReply:
        """``unread``: as the routes go that pass within one dialect."""
        reply = reply or FakeReply()
        all_headers = {b"authorization": b"Bearer " + MINTED.text.encode()}
        all_headers |= {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
        inbound = Inbound("POST", path, all_headers, body, "10.0.0.1", mono_ns(), wall_ms())
        codec = next(d for d in REGISTRY if d == dialect)
        assert self.services.live is not None
        watch = Watch(None)
        watch.task = asyncio.create_task(
            self.pipeline.handle(inbound, reply, codec, self.services.live, watch, self.pipeline.run_opaque if unread else None)
        )
        await watch.task
        return reply


def chat(model: str = "chat", *, stream: bool = False, text: str = "hello", **more: object) -> bytes:
    import json

    return json.dumps({"model": model, "messages": [{"role": "user", "content": text}], "stream": stream, **more}).encode()


def sse(*datas: str) -> list[bytes]:
    return [f"data: {d}\n\n".encode() for d in datas]


def chat_stream(
    words: Sequence[str] = ("Hel", "lo"), *, usage: bool = True, model: str = "m1-real", done: bool = True
) -> list[bytes]:
    import json

    def chunk(delta: dict[str, str], finish: str | None = None) -> str:
        return json.dumps(
            {
                "id": "c1",
                "object": "chat.completion.chunk",
                "created": 1,
                "model": model,
                "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
            }
        )

    out = [chunk({"role": "assistant", "content": ""}), *(chunk({"content": w}) for w in words), chunk({}, "stop")]
    if usage:
        out.append(
            json.dumps(
                {
                    "id": "c1",
                    "object": "chat.completion.chunk",
                    "created": 1,
                    "model": model,
                    "choices": [],
                    "usage": {"prompt_tokens": 11, "completion_tokens": 2, "total_tokens": 13},
                }
            )
        )
    return sse(*out, "[DONE]") if done else sse(*out)


STREAM = (("content-type", "text/event-stream"),)
JSON = (("content-type", "application/json"), ("x-request-id", "req-1"), ("set-cookie", "no"))


def whole(text: str = "Hello", model: str = "m1-real") -> bytes:
    import json

    return json.dumps(
        {
            "id": "c1",
            "object": "chat.completion",
            "created": 1,
            "model": model,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 11, "completion_tokens": 2, "total_tokens": 13},
        }
    ).encode()
