"""Where real traces of services lie, and their spans as hops read them."""

from pathlib import Path

from headway.lab.traces.reading import traces_folder


def ops_folder(given: str | Path | None = None) -> Path:
    """The folder ops/traces, found as ``traces_folder`` is. It need not exist."""
    return traces_folder(given).parent / "ops" / "traces"
