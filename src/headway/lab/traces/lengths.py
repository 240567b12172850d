"""Prompt and answer lengths without times: ShareGPT (Sarathi-Serve; Apache-2.0) and arXiv summaries (Vidur; MIT), Llama 2 tokens."""

from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

from headway.lab.traces.reading import table

FILES: Final = MappingProxyType(
    {"sharegpt": "lengths_sharegpt_8k_llama2tok.csv.gz", "arxiv": "lengths_arxiv_summarization_llama2tok.csv.gz"}
)


def load_lengths(traces: Path, name: Literal["sharegpt", "arxiv"]) -> list[tuple[int, int]]:
    """(prompt, answer) tokens. TraceMissing, TraceError for a row whose total is not their sum."""
    lengths: list[tuple[int, int]] = []
    for row in table(traces / FILES[name], ("num_prefill_tokens", "num_decode_tokens", "num_total_tokens")):
        prompt, answer = row.whole("num_prefill_tokens", 1), row.whole("num_decode_tokens", 1)
        if prompt + answer != row.whole("num_total_tokens"):
            raise row.error(f"num_total_tokens is {row.text('num_total_tokens')}, not {prompt + answer}")
        lengths.append((prompt, answer))
    return lengths
