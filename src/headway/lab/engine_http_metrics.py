"""What the simulated engine says of itself at ``/metrics``, under vLLM's names (vLLM V1's ``vllm:*`` families)."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

TTFT_S: Final = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
)  # fmt: skip
GAP_S: Final = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
LATENCY_S: Final = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0)
STEP_TOKENS: Final = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)


class Histogram:
    """Cumulative buckets as Prometheus wants them."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        self._counts[bisect_left(self._bounds, value)] += times
        self._sum += value * times

    def lines(self, name: str, labels: str) -> list[str]:
        out, total = [], 0
        for bound, count in zip((*map(float, self._bounds), "+Inf"), self._counts, strict=True):
            total += count
            out.append(f'{name}_bucket{{le="{bound}",{labels}}} {float(total)}')
        return [*out, f"{name}_sum{{{labels}}} {self._sum}", f"{name}_count{{{labels}}} {float(total)}"]


class EngineMetrics:
    """Counters of one engine. Times are seconds of the wall clock, as a caller would measure them."""

    def __init__(self) -> None:
        self.ttft_s = Histogram(TTFT_S)
        self.gap_s = Histogram(GAP_S)
        self.latency_s = Histogram(LATENCY_S)
        self.step_tokens = Histogram(STEP_TOKENS)
        self.prompt_tokens = 0
        self.refused = 0
        self.ended = {"stop": 0, "length": 0, "abort": 0}

    def text(
        self,
        model: str,
        *,
        running: int,
        waiting: int,
        kv_usage: float,
        cache_queried: int,
        cache_hit: int,
        preemptions: int,
        produced: int,
        kv_blocks: int | None,
        block_tokens: int,
    ) -> bytes:
        """The page."""
        labels = f'engine="0",model_name="{_escaped(model)}"'
        page = _Page(labels)
        page.one("num_requests_running", "gauge", "Requests in execution.", running)
        page.one("num_requests_waiting", "gauge", "Requests waiting to be processed.", waiting)
        page.one("kv_cache_usage_perc", "gauge", "KV-cache usage. 1 means 100 percent usage.", kv_usage)
        page.one("prefix_cache_queries", "counter", "Prefix cache queries, in tokens.", cache_queried)
        page.one("prefix_cache_hits", "counter", "Prefix cache hits, in tokens.", cache_hit)
        page.one("num_preemptions", "counter", "Preemptions.", preemptions)
        page.one("prompt_tokens", "counter", "Prompt tokens.", self.prompt_tokens)
        page.one("generation_tokens", "counter", "Generated tokens.", produced)
        page.one("admission_rejections", "counter", "Requests refused because the queue was full.", self.refused)
        page.head("request_success", "counter", "Ended requests.")
        page.lines += [
            f'vllm:request_success_total{{finished_reason="{why}",{labels}}} {float(n)}' for why, n in self.ended.items()
        ]
        page.histogram("time_to_first_token_seconds", "Time to first token.", self.ttft_s)
        page.histogram("inter_token_latency_seconds", "Time between tokens.", self.gap_s)
        page.histogram("e2e_request_latency_seconds", "From arrival to the end.", self.latency_s)
        page.histogram("iteration_tokens_total", "Tokens a step.", self.step_tokens)
        page.head("cache_config_info", "gauge", "KV memory.")
        page.lines.append(f'vllm:cache_config_info{{block_size="{block_tokens}",engine="0",num_gpu_blocks="{kv_blocks}"}} 1.0')
        return ("\n".join(page.lines) + "\n").encode()


class _Page:
    def __init__(self, labels: str) -> None:
        self.lines: list[str] = []
        self._labels = labels

    def head(self, name: str, kind: str, about: str) -> None:
        self.lines += [f"# HELP vllm:{name} {about}", f"# TYPE vllm:{name} {kind}"]

    def one(self, name: str, kind: str, about: str, value: float) -> None:
        self.head(name, kind, about)
        end = "_total" if kind == "counter" else ""
        self.lines.append(f"vllm:{name}{end}{{{self._labels}}} {float(value)}")

    def histogram(self, name: str, about: str, histogram: Histogram) -> None:
        self.head(name, "histogram", about)
        self.lines += histogram.lines(f"vllm:{name}", self._labels)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
