"""What engines call the figures of their load. Names drift: the first of a row that is on the page counts.

vLLM (docs, "Production metrics", 0.6 to 0.11): ``vllm:num_requests_running``, ``_waiting``, ``vllm:kv_cache_usage_perc`` (until 0.9
``vllm:gpu_cache_usage_perc``), ``vllm:num_preemptions_total`` (bare name in some builds), and the pool's size in the labels of
``vllm:cache_config_info``. SGLang: ``sglang:num_running_reqs``, ``sglang:num_queue_reqs``, ``sglang:token_usage``,
``sglang:max_total_num_tokens``. llama.cpp: ``llamacpp:requests_processing``, ``llamacpp:requests_deferred``, and
``llamacpp:kv_cache_usage_ratio`` in versions that still have it. Colons were written as underscores by some exporters in between.
"""

import re
from types import MappingProxyType
from typing import Final

import msgspec

from headway.calls.admission.model import EngineLoad
from headway.kernel.limits import ENGINE_SLOTS_MAX

ALIASES: Final = MappingProxyType(
    {
        "running": ("vllm:num_requests_running", "sglang:num_running_reqs", "llamacpp:requests_processing"),
        "waiting": ("vllm:num_requests_waiting", "sglang:num_queue_reqs", "llamacpp:requests_deferred"),
        "kv_used_share": (
            "vllm:kv_cache_usage_perc",
            "vllm:gpu_cache_usage_perc",
            "sglang:token_usage",
            "llamacpp:kv_cache_usage_ratio",
        ),
        "preemptions": ("vllm:num_preemptions_total", "vllm:num_preemptions", "sglang:num_retractions_total"),
        "kv_tokens": ("sglang:max_total_num_tokens",),
    }
)
CACHE_CONFIG: Final = "vllm:cache_config_info"
SAMPLES_MAX: Final = 20_000
_SAMPLE: Final = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+\S+)?$")
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_SHARES: Final = frozenset({"kv_used_share"})


class _Slot(msgspec.Struct):
    is_processing: bool = False


_slots: msgspec.json.Decoder[list[_Slot]] = msgspec.json.Decoder(list[_Slot])


def load_of_metrics(text: str) -> EngineLoad:
    """From a page in the Prometheus text format. Series of one name are added up (ranks, models), shares averaged; nonsense is skipped."""
    found: dict[str, list[float]] = {}
    blocks: float | None = None
    for line in text.splitlines()[:SAMPLES_MAX]:
        sample = _SAMPLE.match(line)
        if sample is None:
            continue
        name = sample[1]
        if _same(name, CACHE_CONFIG):
            blocks = _pool_tokens(dict(_LABEL.findall(sample[2] or "")))
            continue
        value = _number(sample[3])
        if value is not None and value >= 0:
            found.setdefault(name.replace("_", ":", 1) if ":" not in name else name, []).append(value)
    values = {field: _picked(found, names, share=field in _SHARES) for field, names in ALIASES.items()}
    if values["kv_tokens"] is None:
        values["kv_tokens"] = blocks
    whole = {field: int(value) for field, value in values.items() if value is not None and field not in _SHARES}
    used = values["kv_used_share"]
    return EngineLoad(kv_used_share=None if used is None else min(1.0, used), **whole)


def with_slots(load: EngineLoad, text: str) -> EngineLoad:
    """llama.cpp's ``/slots``: how many there are, and how many work; what ``/metrics`` said of that goes before."""
    try:
        slots = _slots.decode(text)[:ENGINE_SLOTS_MAX]
    except (msgspec.MsgspecError, UnicodeError):
        return load
    working = sum(slot.is_processing for slot in slots)
    running = load.running if load.running is not None else working
    return msgspec.structs.replace(load, slots=len(slots) or None, running=running)


def _same(name: str, wanted: str) -> bool:
    return name == wanted or name == wanted.replace(":", "_")


def _picked(found: dict[str, list[float]], names: tuple[str, ...], *, share: bool) -> float | None:
    for name in names:
        if values := found.get(name):
            return sum(values) / len(values) if share else sum(values)
    return None


def _pool_tokens(labels: dict[str, str]) -> float | None:
    """Blocks times their size, as vLLM tells them in labels."""
    blocks, size = _number(labels.get("num_gpu_blocks", "")), _number(labels.get("block_size", ""))
    return blocks * size if blocks is not None and size is not None and blocks > 0 and size > 0 else None


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < 1e15 else None
