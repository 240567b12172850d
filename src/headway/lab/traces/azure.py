"""Azure's code and chat services, one hour of 2023-11-16 (Patel et al., Splitwise, ISCA 2024; CC-BY-4.0). No tenants."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from headway.kernel.instants import NS_PER_S
from headway.lab.traces.calls import TraceCall
from headway.lab.traces.reading import Row, table

COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
DIGIT_NS = 100
"""The seventh digit of a second."""


def load_azure(traces: Path, service: Literal["code", "conv"]) -> list[TraceCall]:
    """In the file's order, which is the order of time. TraceMissing, TraceError."""
    calls: list[TraceCall] = []
    began: int | None = None
    for row in table(traces / f"azure_llm_2023_{service}.csv.gz", COLUMNS):
        at = _instant_ns(row)
        began = at if began is None else began
        if at < began or (calls and at - began < calls[-1].at_ns):
            raise row.error(f"TIMESTAMP {row.text('TIMESTAMP')} is before the row above it")
        calls.append(
            TraceCall(at_ns=at - began, prompt_tokens=row.whole("ContextTokens", 1), output_tokens=row.whole("GeneratedTokens", 1))
        )
    return calls


def _instant_ns(row: Row) -> int:
    text = row.text("TIMESTAMP")
    whole, _, digits = text.partition(".")
    try:
        seconds = int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp())
        return seconds * NS_PER_S + int(digits.ljust(7, "0")[:7]) * DIGIT_NS
    except ValueError:
        raise row.error(f"TIMESTAMP is {text!r}, not a time such as 2023-11-16 18:17:03.9799600") from None
