"""The measured runs of VTC's authors: Llama-2-7B on one A10G, requests of several tenants, first come first served against VTC.

One row a request. Runs of one workload carry the same arrivals, prompts and answers, so that they differ by the order alone.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from headway.lab.traces.reading import Row, TraceError, table

FILE: Final = Path("calibration") / "vtc_measured_runs.csv.gz"
COLUMNS: Final = ("experiment", "client_id", "arrival_s", "prompt_tokens", "output_tokens", "ttft_s", "e2e_s")

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One measured run; arrays have one element a request, in order of arrival. Nothing was refused in it."""

    name: str
    client: Ints
    arrival_s: Floats
    prompt: Ints
    output: Ints
    ttft_s: Floats
    e2e_s: Floats

    def __len__(self) -> int:
        return len(self.client)

    @property
    def first_s(self) -> Floats:
        """When each first token came."""
        return self.arrival_s + self.ttft_s

    @property
    def end_s(self) -> Floats:
        return self.arrival_s + self.e2e_s

    def until(self, arrival_s: float) -> "Run":
        """Its requests that came no later."""
        kept = self.arrival_s <= arrival_s
        return Run(
            name=self.name,
            client=self.client[kept],
            arrival_s=self.arrival_s[kept],
            prompt=self.prompt[kept],
            output=self.output[kept],
            ttft_s=self.ttft_s[kept],
            e2e_s=self.e2e_s[kept],
        )


def load_runs(traces: Path, names: Iterable[str]) -> dict[str, Run]:
    """``names`` as ``FCFS.overload``. TraceMissing where the file is not there; TraceError where it cannot be used."""
    path = traces / FILE
    rows: dict[str, list[tuple[float, ...]]] = {name: [] for name in names}
    for row in table(path, COLUMNS):
        wanted = rows.get(row.text("experiment"))
        if wanted is not None:
            wanted.append(_request(row))
    for name, found in rows.items():
        if not found:
            raise TraceError(path, 0, f"has no run {name}")
    return {name: _run(name, found) for name, found in rows.items()}


def _request(row: Row) -> tuple[float, ...]:
    return (
        row.whole("client_id"),
        row.number("arrival_s"),
        row.whole("prompt_tokens", 1),
        row.whole("output_tokens", 1),
        row.number("ttft_s"),  # -1 is a refusal: there is none in the runs that are asked for
        row.number("e2e_s"),
    )


def _run(name: str, rows: list[tuple[float, ...]]) -> Run:
    cells = np.array(sorted(rows, key=lambda row: row[1]), dtype=np.float64)
    return Run(
        name=name,
        client=cells[:, 0].astype(np.int64),
        arrival_s=cells[:, 1],
        prompt=cells[:, 2].astype(np.int64),
        output=cells[:, 3].astype(np.int64),
        ttft_s=cells[:, 4],
        e2e_s=cells[:, 5],
    )
