"""What steps cost on other machines: Splitwise's and DistServe's tables, Sarathi-Serve's figures. Times are milliseconds."""

from pathlib import Path
from typing import Final, Literal

import msgspec

from headway.lab.traces.reading import TraceError, lines, table

FOLDER: Final = Path("calibration")
BROKEN: Final = ("llama2-70b", 2, 64)
"""Model, tensor parallel degree, batch: its prefill times are a sixteenth of what they should be."""


class SplitwiseRow(msgspec.Struct, frozen=True, kw_only=True):
    model: str
    hardware: str
    tensor_parallel: int
    prompt_tokens: int
    batch: int
    output_tokens: int
    prompt_ms: float
    token_ms: float
    e2e_ms: float


def load_splitwise(traces: Path, *, broken: bool = False) -> list[SplitwiseRow]:
    """Without the rows whose prefill times are known to be wrong, unless ``broken``. TraceMissing, TraceError."""
    rows = [
        SplitwiseRow(
            model=row.text("model"),
            hardware=row.text("hardware"),
            tensor_parallel=row.whole("tensor_parallel", 1),
            prompt_tokens=row.whole("prompt_size", 1),
            batch=row.whole("batch_size", 1),
            output_tokens=row.whole("token_size", 1),
            prompt_ms=row.number("prompt_time"),
            token_ms=row.number("token_time"),
            e2e_ms=row.number("e2e_time"),
        )
        for row in table(
            traces / FOLDER / "splitwise_perf_model_a100_h100.csv.gz",
            (
                "model",
                "hardware",
                "prompt_size",
                "batch_size",
                "token_size",
                "prompt_time",
                "token_time",
                "e2e_time",
                "tensor_parallel",
            ),
        )
    ]
    return [row for row in rows if broken or (row.model, row.tensor_parallel, row.batch) != BROKEN]


class DistServeFit(msgspec.Struct, frozen=True, kw_only=True):
    """prefill = a + b x sum(L) + c x sum(L^2); decode = a + b x context tokens + c x batch, one fit up to a batch and one above it."""

    prefill: tuple[float, float, float]
    decoding_smallbs: tuple[float, float, float]
    decoding_largebs: tuple[float, float, float]
    decoding_large_small_bs_threshold: int

    def prefill_ms(self, prompts: tuple[int, ...]) -> float:
        a, b, c = self.prefill
        return a + b * sum(prompts) + c * sum(tokens * tokens for tokens in prompts)

    def decode_ms(self, context_tokens: int, batch: int) -> float:
        a, b, c = self.decoding_smallbs if batch < self.decoding_large_small_bs_threshold else self.decoding_largebs
        return a + b * context_tokens + c * batch


def load_distserve(traces: Path, engine: Literal["distserve", "vllm"]) -> dict[tuple[str, int], DistServeFit]:
    """By (model, tensor parallel degree). TraceMissing, TraceError."""
    path = traces / FOLDER / f"distserve_profiler_a100_{engine}.json"
    text = "".join(line for _, line in lines(path))
    try:
        fits = msgspec.json.decode(text, type=dict[str, dict[str, DistServeFit]])
    except msgspec.MsgspecError as error:
        raise TraceError(path, 0, str(error)) from None
    return {(model, int(degree)): fit for model, degrees in fits.items() for degree, fit in degrees.items()}


class SarathiBatch(msgspec.Struct, frozen=True, kw_only=True):
    """Yi-34B on two A100."""

    prefill_tokens: int
    decode_tokens: int
    ms: float


def load_sarathi_batches(
    traces: Path, name: Literal["figure-2_prefill", "figure-2_decode", "table-2_results"]
) -> list[SarathiBatch]:
    """The figures hold seconds and the table milliseconds; both are milliseconds here. TraceMissing, TraceError."""
    to_ms = 1.0 if name.startswith("table") else 1_000.0
    return [
        SarathiBatch(
            prefill_tokens=row.whole("batch_num_prefill_tokens"),
            decode_tokens=row.whole("batch_num_decode_tokens"),
            ms=row.number("batch_execution_time") * to_ms,
        )
        for row in table(
            traces / FOLDER / f"sarathi_osdi24_{name}.csv",
            ("batch_num_prefill_tokens", "batch_num_decode_tokens", "batch_execution_time"),
        )
    ]


def load_sarathi_chunking(traces: Path) -> dict[tuple[int, int], float]:
    """Prefill time over the unchunked one, by (prompt tokens, chunk tokens). TraceMissing, TraceError."""
    columns = ("prefill_length", "chunk_size", "prefill_execution_time_relative")
    return {
        (row.whole("prefill_length", 1), row.whole("chunk_size", 1)): row.number("prefill_execution_time_relative")
        for row in table(traces / FOLDER / "sarathi_osdi24_figure-9_chunking-overhead.csv", columns)
    }
