"""The workloads, and who is light and who is heavy in each.

Light asks for less than its fair share of the engine (about 102 requests a minute of 256 + 256 tokens), heavy for more. It is a matter of
demand, not of the size of a request: in ``poisson_short_long`` the tenant of many short requests is the bigger consumer.
"""

from typing import Final

import msgspec
import numpy as np

from headway.lab.fair.measured import Mask, Run

ARENA_LIGHT_REQUESTS_MAX: Final = 40
ARENA_HEAVY_CLIENTS: Final = 4


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """``in_file`` is its name there; requests that came after ``until_s`` are left out, in the measured runs too.

    ``light`` and ``heavy`` say who they are; without ``by_requests`` they are ``light_client`` and ``heavy_client``, with it the many
    tenants who ask seldom and the few who ask most.
    """

    name: str
    in_file: str
    light: str
    heavy: str
    light_client: int = 0
    heavy_client: int = 1
    by_requests: bool = False
    until_s: float = float("inf")

    def sides(self, run: Run) -> tuple[Mask, Mask]:
        """Which requests are the light tenants' and which the heavy tenants'."""
        if not self.by_requests:
            return run.client == self.light_client, run.client == self.heavy_client
        clients, requests = np.unique(run.client, return_counts=True)
        most = clients[np.argsort(-requests, kind="stable")]
        return np.isin(run.client, clients[requests <= ARENA_LIGHT_REQUESTS_MAX]), np.isin(run.client, most[:ARENA_HEAVY_CLIENTS])


SIX: Final = (
    Workload(
        name="on_off_less",
        in_file="on_off_less",
        light="client 0, 30 requests a minute in every other minute",
        heavy="client 1, 120 a minute",
    ),
    Workload(
        name="proportional",
        in_file="proportional",
        light="client 0, 15 a minute",
        heavy="client 2, 90 a minute (client 1 asks for 30)",
        heavy_client=2,
    ),
    Workload(name="increase", in_file="increase", light="client 0, 30 a minute", heavy="client 1, from 14 rising to 116 a minute"),
    Workload(
        name="on_off_overload",
        in_file="on_off_overload",
        light="client 0, 120 a minute in every other minute",
        heavy="client 1, 180 a minute",
    ),
    Workload(
        name="overload",
        in_file="overload",
        light="client 0, 90 a minute until 360.4 s",
        heavy="client 1, 180 a minute until 360.4 s",
        until_s=360.4,
    ),
    Workload(
        name="arena",
        in_file="real",
        light="the 17 of 27 clients who ask at most 40 times",
        heavy="the four clients who ask most",
        by_requests=True,
    ),
)
SHORT_LONG: Final = Workload(
    name="poisson_short_long",
    in_file="poisson_short_long",
    light="client 1, 90 long requests (256 + 256 tokens) a minute",
    heavy="client 0, 500 short requests (64 + 64 tokens) a minute, the bigger consumer",
    light_client=1,
    heavy_client=0,
)


def names_of(workload: Workload) -> tuple[str, str]:
    """Its measured runs: first come first served, and VTC."""
    return f"FCFS.{workload.in_file}", f"VTC.{workload.in_file}"
