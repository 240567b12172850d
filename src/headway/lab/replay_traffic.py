"""Traffic for a replay: a trace by name, by its file's name or by path, as asks at a rate of one's choice."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from headway.kernel.errors import HeadwayError
from headway.kernel.instants import NS_PER_S
from headway.lab.traces.calls import TraceCall
from headway.lab.traces.catalog import TRAFFIC, load_calls
from headway.lab.traces.reading import TraceMissing, table
from headway.lab.worlds.model import Ask

FILES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "azure_llm_2023_code.csv.gz": "azure_code",
        "azure_llm_2023_conv.csv.gz": "azure_conv",
        "mooncake_conversation.jsonl.gz": "mooncake",
        "servegen_deepseek_r1.jsonl.gz": "servegen_r1",
        "servegen_m_mid_day2_51clients.jsonl.gz": "servegen_m_mid",
        "vtc_arena_27clients.csv.gz": "arena",
    }
)
OWN_COLUMNS: Final = ("arrival_s", "tenant", "prompt_tokens", "output_tokens")
NOBODY: Final = "all"
"""The tenant of traces that name none."""


class UnknownTrace(HeadwayError):
    """No trace of this name, and no such file."""


def load(trace: str, traces: Path, *, seed: int) -> tuple[str, list[TraceCall]]:
    """The trace's name and its calls in order of time.

    A file of any other name is read as a CSV with ``arrival_s, tenant, prompt_tokens, output_tokens``. UnknownTrace, TraceMissing, TraceError.
    """
    if trace in TRAFFIC:
        return trace, load_calls(trace, traces, seed=seed)
    path = Path(trace)
    known = FILES.get(path.name)
    if known is not None:
        folder = path.parent if path.exists() else traces
        return known, load_calls(known, folder, seed=seed)
    if not path.exists():
        raise UnknownTrace(
            f"there is no trace {trace!r}, and no such file; traces are {', '.join(TRAFFIC)}, or a CSV with {', '.join(OWN_COLUMNS)}"
        )
    return path.name, load_own(path)


def load_own(path: Path) -> list[TraceCall]:
    """One's own traffic. TraceMissing, TraceError with the line."""
    if not path.is_file():
        raise TraceMissing(path, 0, "is not a file")
    calls = [
        TraceCall(
            at_ns=round(row.number("arrival_s") * NS_PER_S),
            tenant=row.text("tenant"),
            prompt_tokens=row.whole("prompt_tokens", 1),
            output_tokens=row.whole("output_tokens", 1),
        )
        for row in table(path, OWN_COLUMNS)
    ]
    return sorted(calls, key=lambda call: call.at_ns)


def asks(calls: Sequence[TraceCall], *, scale: float = 1.0, limit: int | None = None) -> list[Ask]:
    """``scale`` times the recorded rate: all gaps shrink alike. ``limit`` takes the first so many."""
    chosen = calls if limit is None else calls[:limit]
    begin = chosen[0].at_ns if chosen else 0
    return [
        Ask(
            call=f"call-{number:06d}",
            at=round((call.at_ns - begin) / scale),
            tenant=call.tenant or NOBODY,
            band="",
            prompt_tokens=call.prompt_tokens,
            output_tokens=call.output_tokens,
            blocks=call.blocks[: call.prompt_tokens // call.block_tokens] if call.block_tokens else (),
        )
        for number, call in enumerate(chosen)
    ]


def block_tokens_of(calls: Sequence[TraceCall], default: int) -> int:
    """Blocks of the trace decide the engine's: equal names of 512 tokens say nothing about 16."""
    return next((call.block_tokens for call in calls if call.block_tokens), default)
