"""Engines that were measured: vLLM 0.19.0 under a burst (LLMServingSim; MIT), S-LoRA under several schedulers (VTC artifact; Apache-2.0)."""

from pathlib import Path
from typing import Final

import msgspec

from headway.lab.traces.profiles import FOLDER
from headway.lab.traces.reading import TraceError, records, table

VTC_FILE: Final = Path("calibration") / "vtc_measured_runs.csv.gz"


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds from the first arrival, by the client's clock for ``arrived_s``, by the engine's for the others.

    The two clocks are set equal at the first request; ``queued_s`` is when the engine took note of it, between two steps.
    """

    id: str
    prompt_tokens: int
    output_tokens: int
    arrived_s: float
    queued_s: float
    scheduled_s: float
    first_token_s: float
    last_token_s: float

    @property
    def ttft_s(self) -> float:
        return self.first_token_s - self.queued_s

    @property
    def e2e_s(self) -> float:
        return self.last_token_s - self.queued_s

    @property
    def tpot_ms(self) -> float | None:
        """None for an answer of one token."""
        gaps = self.output_tokens - 1
        return 1_000 * (self.last_token_s - self.first_token_s) / gaps if gaps else None


class Second(msgspec.Struct, frozen=True, kw_only=True):
    """One second of the engine's own log."""

    at_s: float
    prompt_tokens_per_s: float
    output_tokens_per_s: float
    running: int
    waiting: int


class _Line(msgspec.Struct, frozen=True):
    request_id: str
    input_toks: int
    output_toks: int
    arrival_time: float
    queued_ts: float
    scheduled_ts: float
    first_token_ts: float
    last_token_ts: float


def load_vllm_requests(traces: Path, run: str) -> list[Request]:
    """``run`` as in the file's name, ``RTX4090_Llama-3.1-8B``; in order of arrival. TraceMissing, TraceError."""
    path = traces / FOLDER / f"vllm_measured__{run}__requests.jsonl.gz"
    lines: list[_Line] = []
    for number, line in records(path, _Line):
        if line.input_toks < 1 or line.output_toks < 1:
            raise TraceError(path, number, "a prompt or an answer has no tokens")
        if not line.queued_ts <= line.scheduled_ts <= line.first_token_ts <= line.last_token_ts:
            raise TraceError(path, number, "queued, scheduled, first and last token are not in that order")
        lines.append(line)
    if not lines:
        raise TraceError(path, 0, "has no requests")
    lines.sort(key=lambda line: line.arrival_time)
    arrived, queued = lines[0].arrival_time, lines[0].queued_ts
    return [
        Request(
            id=line.request_id,
            prompt_tokens=line.input_toks,
            output_tokens=line.output_toks,
            arrived_s=line.arrival_time - arrived,
            queued_s=line.queued_ts - queued,
            scheduled_s=line.scheduled_ts - queued,
            first_token_s=line.first_token_ts - queued,
            last_token_s=line.last_token_ts - queued,
        )
        for line in lines
    ]


def load_vllm_seconds(traces: Path, run: str) -> list[Second]:
    """The engine's log, a row a second. TraceMissing, TraceError."""
    path = traces / FOLDER / f"vllm_measured__{run}__timeseries.csv.gz"
    return [
        Second(
            at_s=row.number("t"),
            prompt_tokens_per_s=row.number("prompt_throughput"),
            output_tokens_per_s=row.number("gen_throughput"),
            running=row.whole("running"),
            waiting=row.whole("waiting"),
        )
        for row in table(path, ("t", "prompt_throughput", "gen_throughput", "running", "waiting"))
    ]


class FairRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request of one of VTC's runs: Llama-2-7B on S-LoRA, one A10G. ``ttft_s`` and ``e2e_s`` are None when it was refused."""

    client: int
    arrived_s: float
    prompt_tokens: int
    output_tokens: int
    ttft_s: float | None
    e2e_s: float | None


def load_vtc_runs(traces: Path) -> dict[str, list[FairRequest]]:
    """By ``SCHEDULER.workload``, in the file's order. TraceMissing, TraceError."""
    runs: dict[str, list[FairRequest]] = {}
    columns = ("experiment", "client_id", "arrival_s", "prompt_tokens", "output_tokens", "ttft_s", "e2e_s")
    for row in table(traces / VTC_FILE, columns):
        refused = row.number("ttft_s", -1) == -1
        runs.setdefault(row.text("experiment"), []).append(
            FairRequest(
                client=row.whole("client_id"),
                arrived_s=row.number("arrival_s"),
                prompt_tokens=row.whole("prompt_tokens", 1),
                output_tokens=row.whole("output_tokens", 0 if refused else 1),
                ttft_s=None if refused else row.number("ttft_s"),
                e2e_s=None if refused else row.number("e2e_s"),
            )
        )
    return runs
