"""The workloads, and who is light and who is heavy in each.

Light asks for less than its fair share, heavy for more. It is a matter of demand, not of the size of a request: in ``poisson_short_long``
the tenant of many short requests is the bigger consumer.
"""

from collections.abc import Mapping
from typing import Final

import msgspec
import numpy as np

from headway.lab.fair.measured import Mask, Run

ARENA_LIGHT_REQUESTS_MAX: Final = 40
ARENA_HEAVY_CLIENTS: Final = 4


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """``in_file`` is its name there; requests that came after ``until_s`` are left out, in the measured runs too."""

    name: str
    in_file: str
    light: str
    heavy: str
    until_s: float = float("inf")
    by_requests: bool = False
    """Light and heavy are groups of tenants by how often they ask; else client 0 and the client with the most requests."""

    def sides(self, run: Run) -> tuple[Mask, Mask]:
        """Which requests are the light tenants' and which the heavy tenants'."""
        clients, requests = np.unique(run.client, return_counts=True)
        most = clients[np.argsort(-requests, kind="stable")]
        if not self.by_requests:
            return run.client == 0, run.client == (most[0] if most[0] != 0 else most[1])
        few = clients[requests <= ARENA_LIGHT_REQUESTS_MAX]
        return np.isin(run.client, few), np.isin(run.client, most[:ARENA_HEAVY_CLIENTS])


SIX: Final = (
    Workload(
        name="on_off_less", in_file="on_off_less", light="client 0, 15 requests a minute", heavy="client 1, 120 in its on minutes"
    ),
    Workload(name="proportional", in_file="proportional", light="client 0, 15 a minute", heavy="client 2, 90 a minute (of three)"),
    Workload(name="increase", in_file="increase", light="client 0, 30 a minute", heavy="client 1, rising to twice its fair share"),
    Workload(name="on_off_overload", in_file="on_off_overload", light="client 0, 60 a minute", heavy="client 1, 180 a minute"),
    Workload(name="overload", in_file="overload", light="client 0, 90 a minute", heavy="client 1, 180 a minute", until_s=360.4),
    Workload(
        name="arena",
        in_file="real",
        light="the 17 clients of at most 40 requests",
        heavy="the four clients with the most requests",
        by_requests=True,
    ),
)
SHORT_LONG: Final = Workload(
    name="poisson_short_long",
    in_file="poisson_short_long",
    light="client 1, few long requests (256 + 256 tokens)",
    heavy="client 0, many short requests (64 + 64 tokens), the bigger consumer",
)
ARMS: Final[Mapping[str, str]] = {"fcfs": "fcfs", "vtc": "fair", "ours": "lanes"}
"""Arm -> name of the product's policy."""


def names_of(workload: Workload) -> tuple[str, str]:
    """Its measured runs: first come first served, and VTC."""
    return f"FCFS.{workload.in_file}", f"VTC.{workload.in_file}"
