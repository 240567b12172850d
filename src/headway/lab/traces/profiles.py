"""Kernel times of one machine and model, layer by layer (LLMServingSim's profiles, vLLM 0.19.0). Times are microseconds."""

from pathlib import Path
from typing import Final

import msgspec

from headway.lab.traces.reading import TraceError, lines, table

FOLDER: Final = Path("calibration") / "llmservingsim"


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """``dense[layer]`` and ``per_sequence[layer]`` are (count, us) in rising order of tokens or sequences.

    ``attention`` is keyed (prefill chunk, its context, decodes, their context); ``moe`` (tokens, activated experts), empty for a
    dense model. One layer each; a model has many.
    """

    hardware: str
    model: str
    tensor_parallel: int
    dense: dict[str, list[tuple[int, float]]]
    per_sequence: dict[str, list[tuple[int, float]]]
    attention: dict[tuple[int, int, int, int], float]
    moe: dict[tuple[int, int], float]
    skew: float | None
    """Measured weight of the longest decode against the mean one in attention; None where it was not measured."""


def load_profile(traces: Path, hardware: str, model: str, tensor_parallel: int = 1) -> Profile:
    """``model`` as ``meta-llama/Llama-3.1-8B``. TraceMissing, TraceError."""
    stem = f"profile__{hardware}__{model.replace('/', '__')}__bf16__tp{tensor_parallel}__"
    folder = traces / FOLDER
    moe = folder / f"{stem}moe.csv.gz"
    meta = folder / f"profile__{hardware}__{model.replace('/', '__')}__bf16__meta.yaml.gz"
    return Profile(
        hardware=hardware,
        model=model,
        tensor_parallel=tensor_parallel,
        dense=_curves(folder / f"{stem}dense.csv.gz", "tokens"),
        per_sequence=_curves(folder / f"{stem}per_sequence.csv.gz", "sequences"),
        attention=_attention(folder / f"{stem}attention.csv.gz"),
        moe=_moe(moe) if moe.exists() else {},
        skew=_skew(meta, tensor_parallel),
    )


def _curves(path: Path, axis: str) -> dict[str, list[tuple[int, float]]]:
    curves: dict[str, list[tuple[int, float]]] = {}
    for row in table(path, ("layer", axis, "time_us")):
        curve = curves.setdefault(row.text("layer"), [])
        count = row.whole(axis, 1)
        if curve and count <= curve[-1][0]:
            raise row.error(f"{axis} {count} does not rise within layer {row.text('layer')}")
        curve.append((count, row.number("time_us")))
    return curves


def _attention(path: Path) -> dict[tuple[int, int, int, int], float]:
    times: dict[tuple[int, int, int, int], float] = {}
    for row in table(path, ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode", "time_us")):
        key = (row.whole("prefill_chunk"), row.whole("kv_prefill"), row.whole("n_decode"), row.whole("kv_decode"))
        times[key] = row.number("time_us")
    if not times:
        raise TraceError(path, 0, "has no rows")
    return times


def _moe(path: Path) -> dict[tuple[int, int], float]:
    columns = ("tokens", "activated_experts", "time_us")
    return {(row.whole("tokens", 1), row.whole("activated_experts", 1)): row.number("time_us") for row in table(path, columns)}


def _skew(path: Path, tensor_parallel: int) -> float | None:
    """``alpha_default`` of the tensor parallel degree, read line by line: the file is flat enough to need no YAML reader."""
    degree = ""
    for number, text in lines(path):
        words = text.split()
        if len(words) == 1 and words[0][:-1].isdigit():
            degree = words[0][:-1]
        if words[:1] == ["alpha_default:"] and degree == str(tensor_parallel):
            try:
                return float(words[1])
            except (IndexError, ValueError):
                raise TraceError(path, number, "alpha_default is not a number") from None
    return None
