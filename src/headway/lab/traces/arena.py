"""Ten minutes of Chatbot Arena as 27 tenants, very unlike in size (VTC artifact, OSDI 2024; Apache-2.0)."""

from pathlib import Path
from typing import Final

from headway.kernel.instants import NS_PER_S
from headway.lab.traces.calls import TraceCall
from headway.lab.traces.reading import table

FILE: Final = "vtc_arena_27clients.csv.gz"


def load_arena(traces: Path) -> list[TraceCall]:
    """In order of time. TraceMissing, TraceError."""
    calls = [
        TraceCall(
            at_ns=round(row.number("arrival_s") * NS_PER_S),
            tenant=str(row.whole("client_id")),
            prompt_tokens=row.whole("prompt_tokens", 1),
            output_tokens=row.whole("output_tokens", 1),
        )
        for row in table(traces / FILE, ("arrival_s", "client_id", "prompt_tokens", "output_tokens"))
    ]
    return sorted(calls, key=lambda call: call.at_ns)
