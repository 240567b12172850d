"""An upstream of a few lines that works like an engine: places, a reading rate, a prefix cache, a pace of words. And a bench that is shared."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
from gateway_bench import JSON, STREAM, Bench, FakeExchange, FakeReply, chat, chat_stream

from headway.config.model import Admission, Feature, Provider, Settings, Tenant
from headway.config.secrets import Secrets
from headway.gateway.admission.service import GatewayAdmission
from headway.gateway.live import Live
from headway.gateway.upstream.port import UpstreamRequest
from headway.kernel.instants import mono_ns, wall_ms
from headway.ledger.keys import mint
from headway.ledger.model import KeyRecord

BYTES_A_TOKEN = 4


@dataclass
class Served:
    """A request as the engine saw it."""

    text: str
    tokens: int
    cached: int
    max_tokens: int
    slot: int | None
    at: float
    body: bytes


@dataclass
class Engine:
    """One prompt is read at a time, in order of arrival; what it read last stays in its cache."""

    read_tokens_per_s: float = 100_000.0
    word_s: float = 0.0
    words: int = 2
    caches: bool = True
    served: list[Served] = field(default_factory=list)
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)
    running: int = 0
    running_max: int = 0
    cancelled: int = 0
    _cache: list[str] = field(default_factory=list)

    async def exchange(self, request: UpstreamRequest) -> FakeExchange:
        asked = json.loads(request.body)
        text = "".join(m["content"] for m in asked["messages"] if isinstance(m["content"], str))
        tokens = max(1, len(text) // BYTES_A_TOKEN)
        self.running += 1
        self.running_max = max(self.running_max, self.running)
        try:
            async with self.busy:
                cached = max((_common(text, seen) for seen in self._cache), default=0) // BYTES_A_TOKEN if self.caches else 0
                limit = asked.get("max_tokens") or asked.get("max_completion_tokens") or 0
                now = asyncio.get_running_loop().time()
                self.served.append(Served(text, tokens, cached, limit, asked.get("id_slot"), now, request.body))
                await asyncio.sleep((tokens - cached) / self.read_tokens_per_s)
                self._cache = [text, *(seen for seen in self._cache if not text.startswith(seen))][:8]
            if not asked.get("stream"):
                await asyncio.sleep(self.word_s * (1 if limit == 1 else self.words))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
        usage = {
            "prompt_tokens": tokens,
            "completion_tokens": 1 if limit == 1 else self.words,
            "total_tokens": tokens + self.words,
            "prompt_tokens_details": {"cached_tokens": cached},
        }
        if asked.get("stream"):
            parts = chat_stream(["w "] * self.words, usage=False)
            last = json.dumps(
                {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [], "usage": usage}
            )
            return FakeExchange(200, STREAM, [*parts[:-1], f"data: {last}\n\n".encode(), parts[-1]], pause_s=self.word_s)
        answer = {
            "id": "c1",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "w"}, "finish_reason": "stop"}],
            "usage": usage,
        }
        return FakeExchange(200, JSON, [json.dumps(answer).encode()])

    async def close(self) -> None: ...


def _common(one: str, other: str) -> int:
    n = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        n += 1
    return n


def shared_settings(admission: Admission | None, preset: str = "llama.cpp", slots: int = 4, **tenants: Tenant) -> Settings:
    provider = Provider(
        preset=preset,
        base_url="http://engine.test",
        models=("m",),
        retries_max=0,
        slots=slots,
        admission=admission,
        price_as="free",
    )
    return Settings(
        providers={"engine": provider, "open": Provider(preset="vllm", base_url="http://open.test", models=("m",))},
        features={"chat": Feature(targets=("engine/m",)), "aside": Feature(targets=("open/m",))},
        tenants=tenants or {"acme": Tenant(), "globex": Tenant()},
    )


class SharedBench(Bench):
    """A bench with a key for each tenant and admission as the process wires it."""

    def __init__(self, engine: Engine, config: Settings, **more: object) -> None:
        super().__init__(lambda _: FakeExchange(200, JSON, []), config=config, **more)  # type: ignore[arg-type]
        self.engine = engine
        self.services.upstream = engine
        self.minted = {tenant: mint(wall_ms()) for tenant in config.tenants}
        self.admission = GatewayAdmission(self.services.desk)
        self.services.admission_views = self.admission.views
        self.services.metrics.admission.watch(self.services.metrics.registry, lambda: self.admission.views(mono_ns()))
        self.install(config)

    def install(self, config: Settings) -> None:
        """A new generation, as control would send it."""
        assert self.services.live is not None
        old = self.services.live.snapshot
        keys = tuple(
            KeyRecord(id=key.id, digest=key.digest, principal="usr_1", tenant=tenant) for tenant, key in self.minted.items()
        )
        snapshot = msgspec.structs.replace(old, generation=old.generation + 1, settings=config, keys=keys)
        self.services.live = Live(snapshot, Secrets({}), {})
        self.admission.install(self.services.live, mono_ns(), wall_ms())

    async def ask(self, tenant: str, text: str = "hello", model: str = "chat", **more: object) -> FakeReply:
        headers = {k: v for k, v in more.items() if k.startswith("x_headway")}
        body = {k: v for k, v in more.items() if not k.startswith("x_headway")}
        key = self.minted[tenant].text
        return await self.call(chat(model, text=text, **body), authorization=f"Bearer {key}", **headers)  # type: ignore[arg-type]

    def start(self, tenant: str, text: str = "hello", **more: object) -> "asyncio.Task[FakeReply]":
        return asyncio.create_task(self.ask(tenant, text, **more))

    def metric(self, name: str) -> Mapping[str, float]:
        """Series of a family by their labels."""
        lines = [line for line in self.services.metrics.render().splitlines() if line.startswith((name + "{", name + " "))]
        return {line.rpartition(" ")[0].removeprefix(name).strip("{}"): float(line.rpartition(" ")[2]) for line in lines}
