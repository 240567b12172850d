"""Calls with nothing wrong: who asks for what and when, drawn from a seed."""

import random
from typing import Final

from headway.lab.phase_worlds.families import Shape
from headway.lab.phase_worlds.model import Asked

PAPERS: Final = "papers"


class Tenant:
    """What one tenant's calls usually are."""

    __slots__ = ("name", "output", "prefix", "tail")

    def __init__(self, name: str, prefix: int, tail: int, output: int) -> None:
        self.name, self.prefix, self.tail, self.output = name, prefix, tail, output


def tenants(shape: Shape, rng: random.Random) -> list[Tenant]:
    """The last one is the one with the papers."""
    names = [(f"tenant-{n + 1}", shape.tail_tokens) for n in range(shape.tenants)] + [(PAPERS, shape.papers_tokens)]
    return [
        Tenant(name, rng.randint(*shape.prefix_tokens), rng.randint(*tail), rng.randint(*shape.output_tokens))
        for name, tail in names
    ]


def calls(
    shape: Shape, who: list[Tenant], rng: random.Random, *, count: int, per_s: float, start_ms: float = 0.0, name: str = "call"
) -> list[Asked]:
    """``count`` calls one after another, exponential gaps from ``start_ms`` on."""
    made: list[Asked] = []
    at_ms = start_ms
    for number in range(count):
        at_ms += rng.expovariate(per_s) * 1_000
        asks = who[-1] if rng.random() < shape.papers_share else who[rng.randrange(len(who) - 1)]
        made.append(call(shape, asks, rng, f"{name}-{number:05d}", at_ms))
    return made


def call(shape: Shape, tenant: Tenant, rng: random.Random, name: str, at_ms: float) -> Asked:
    tool = rng.lognormvariate(0.0, shape.tool_vary) * shape.tool_ms if rng.random() < shape.run_share else 0.0
    return Asked(
        call=name,
        at_ms=at_ms,
        tenant=tenant.name,
        prefix=tenant.name,
        prefix_tokens=tenant.prefix,
        tail_tokens=max(2, round(tenant.tail * rng.lognormvariate(0.0, shape.tail_sigma))),
        output_tokens=_around(rng, tenant.output, shape.output_vary),
        tool_ms=tool,
    )


def _around(rng: random.Random, middle: int, vary: float) -> int:
    return max(2, round(middle * (1 + max(-2.5, min(2.5, rng.gauss(0.0, 1.0))) * vary)))
