"""Traces of a shop with an assistant, as its services would send them: the model is most of the median and little of the p99.

Three request types, a slow authentication and a slow feature store in the tail, a gate before a retrieval that does not need it, one large trace.
"""

import math
import random
from collections.abc import Sequence

from headway.facts.model import SpanFact

MODEL = "model gpt-5-mini"
TENANTS = ("acme", "acme", "globex", "initech")
US = 1_000


class Trace:
    """Spans of one trace as they are laid down."""

    def __init__(self, rng: random.Random, start_us: int, tenant: str) -> None:
        self.rng, self.trace, self.tenant = rng, f"{rng.getrandbits(128):032x}", tenant
        self.start_us = start_us
        self.spans: list[SpanFact] = []

    def span(self, parent: str, service: str, name: str, start_ms: float, took_ms: float, **more: object) -> str:
        span = f"{self.rng.getrandbits(64):016x}"
        at = self.start_us + int(start_ms * US)
        self.spans.append(
            SpanFact(
                trace=self.trace,
                span=span,
                parent=parent,
                service=service,
                name=name,
                start_wall_us=at,
                at_wall_us=at,
                duration_us=max(1, int(took_ms * US)),
                tenant=self.tenant,
                **more,  # type: ignore[arg-type]
            )
        )
        return span

    def call(self, parent: str, caller: str, service: str, name: str, start_ms: float, took_ms: float, **more: object) -> str:
        """A client's span and the server's under it, a little later and a little shorter."""
        client = self.span(parent, caller, f"{service} {name}", start_ms, took_ms, kind="client", peer=service)
        wire = min(0.6, took_ms / 10)
        return self.span(client, service, name, start_ms + wire, took_ms - 2 * wire, kind="server", **more)


def _ms(rng: random.Random, median: float, spread: float) -> float:
    return median * math.exp(rng.gauss(0, spread))


def answer(rng: random.Random, start_us: int) -> list[SpanFact]:
    """POST /assistant: authentication, features, retrieval, model, moderation, one after the other."""
    tenant = rng.choice(TENANTS)
    trace, slow = Trace(rng, start_us, tenant), rng.random() < 0.05
    auth = _ms(rng, 22, 0.35) * (14 if slow and rng.random() < 0.6 else 1)
    features = _ms(rng, 35, 0.5) * (22 if slow else 1)
    retrieval, embed, sql = _ms(rng, 60, 0.4), _ms(rng, 18, 0.2), _ms(rng, 30, 0.6) * (8 if rng.random() < 0.02 else 1)
    hit = rng.random() < 0.7
    tokens = int(_ms(rng, 1800, 0.7))
    model = (180 if hit else 420) * math.exp(rng.gauss(0, 0.25)) + rng.randint(60, 240)
    checks, own = _ms(rng, 14, 0.3), _ms(rng, 6, 0.3)
    at = own
    root_ms = own + auth + features + retrieval + embed + sql + model + checks + 2 * own
    root = trace.span("", "assistant", "POST /assistant", 0, root_ms, kind="server")
    for service, name, took in (("auth", "POST /verify", auth), ("feature-store", "GET /features", features)):
        inside = trace.call(root, "assistant", service, name, at, took)
        if service == "feature-store":
            trace.span(
                inside, service, "SELECT features", at + 2, max(1.0, took - 5), kind="client", role="db", hop="db postgres/features"
            )
        at += took
    search = trace.call(root, "assistant", "retrieval", "POST /search", at, retrieval + embed + sql, outputs=("aa11",))
    trace.span(search, "retrieval", "embeddings", at + 3, embed, kind="client", role="embeddings", hop="embeddings text-3")
    trace.span(search, "retrieval", "SELECT chunks", at + 5 + embed, sql, kind="client", role="db", hop="db postgres/chunks")
    at += retrieval + embed + sql
    trace.span(
        root,
        "assistant",
        "chat gpt-5-mini",
        at,
        model,
        kind="client",
        role="model",
        hop=MODEL,
        input_tokens=tokens,
        cached_tokens=tokens * 3 // 4 if hit else 0,
        status="error" if rng.random() < 0.01 else "",
        inputs=("aa11",),
    )
    at += model
    trace.call(root, "assistant", "moderation", "POST /check", at, checks)
    trace.span(root, "assistant", "publish turn", at + checks, _ms(rng, 40, 0.5), kind="producer", awaited=False)
    return trace.spans


def listing(rng: random.Random, start_us: int) -> list[SpanFact]:
    """GET /products: no model in it."""
    trace = Trace(rng, start_us, rng.choice(TENANTS))
    auth, sql, cache = _ms(rng, 12, 0.3), _ms(rng, 25, 0.7), _ms(rng, 3, 0.3)
    root = trace.span("", "shop", "GET /products", 0, auth + sql + cache + 8, kind="server")
    trace.call(root, "shop", "auth", "POST /verify", 2, auth)
    trace.span(root, "shop", "GET list", 3 + auth, cache, kind="client", role="db", hop="db redis")
    trace.span(root, "shop", "SELECT products", 4 + auth + cache, sql, kind="client", role="db", hop="db postgres/shop")
    return trace.spans


def agent(rng: random.Random, start_us: int) -> list[SpanFact]:
    """An agent's run: rounds of model and tools."""
    trace = Trace(rng, start_us, rng.choice(TENANTS))
    rounds, at = rng.randint(2, 6), 4.0
    plan = [(_ms(rng, 450, 0.3), _ms(rng, 300, 0.9)) for _ in range(rounds)]
    root = trace.span("", "agent", "invoke_agent order-helper", 0, sum(m + t + 3 for m, t in plan) + 12, kind="server")
    for i, (model, tool) in enumerate(plan):
        trace.span(
            root,
            "agent",
            "chat gpt-5-mini",
            at,
            model,
            kind="client",
            role="model",
            hop=MODEL,
            input_tokens=900 + 800 * i,
            cached_tokens=700 * i,
        )
        at += model + 1
        trace.span(root, "agent", "execute_tool crm", at, tool, role="tool", hop="tool crm", kind="internal")
        at += tool + 2
    return trace.spans


def shop(seed: int, n: int, since_us: int, until_us: int) -> list[list[SpanFact]]:
    """``n`` traces, three in five of the assistant."""
    rng = random.Random(seed)
    kinds = (answer, answer, answer, listing, agent)
    return [kinds[i % 5](rng, since_us + int((until_us - since_us) * rng.random())) for i in range(n)]


def large(seed: int, start_us: int, spans: int = 10_000, tenant: str = "acme") -> list[SpanFact]:
    """A batch job that calls out ten thousand times: rows of calls in workers that run beside each other."""
    rng = random.Random(seed)
    trace = Trace(rng, start_us, tenant)
    workers = 8
    each = (spans - 1 - workers) // (3 * workers)
    root = trace.span("", "batch", "reindex catalogue", 0, 1, kind="internal")
    longest = 0.0
    for worker in range(workers):
        at, mine = 5.0 * worker, []
        top = trace.span(root, "batch", f"worker {worker}", at, 1, kind="internal")
        begun = at
        for item in range(each):
            model, sql = _ms(rng, 40, 0.6), _ms(rng, 9, 0.8)
            step = trace.span(top, "batch", f"item {item}", at, model + sql + 3, kind="internal")
            trace.span(step, "batch", "chat gpt-5-mini", at + 1, model, kind="client", role="model", hop=MODEL, input_tokens=800)
            trace.span(
                step,
                "batch",
                "UPDATE item",
                at + 2 + model,
                sql,
                kind="client",
                role="db",
                hop="db postgres/shop",
                status="error" if rng.random() < 0.004 else "",
            )
            at += model + sql + 4
        mine.append(at)
        _stretch(trace.spans, top, begun, at)
        longest = max(longest, at)
    _stretch(trace.spans, root, 0, longest + 10)
    return trace.spans


def _stretch(spans: list[SpanFact], span: str, start_ms: float, end_ms: float) -> None:
    """A parent is as long as what it waited for, which is known when it has been laid down."""
    for place, row in enumerate(spans):
        if row.span == span:
            spans[place] = SpanFact(
                **{**{f: getattr(row, f) for f in row.__struct_fields__}, "duration_us": int((end_ms - start_ms) * US)}
            )
            return


def rows(traces: Sequence[Sequence[SpanFact]]) -> list[SpanFact]:
    return [span for trace in traces for span in trace]
