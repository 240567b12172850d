"""How many tokens a prompt will be, from bytes: learnt from usage by model, without a tokenizer in the gateway.

A byte-level tokenizer never makes more tokens than bytes, so ``upper`` starts there and tightens to the smallest ratio seen with a margin.
Images are not text: ``unseen_tokens`` bounds them.
"""

import zlib
from collections import OrderedDict
from dataclasses import dataclass

from headway.kernel.limits import PREFIX_HASHES_MAX

BYTES_A_TOKEN_FIRST = 4.0
ERROR_FIRST = 0.5
LEARN_RATE = 0.1
TEMPLATE_TOKENS_MAX = 64
"""What a chat template adds around a short prompt."""
UPPER_MARGIN = 0.8
SEEN_BEFORE_TIGHTENING = 20
MODELS_LEARNT_MAX = 1_024
SMALL_PROMPT_BYTES = 400
"""Shorter prompts are mostly template and teach nothing about bytes a token."""
PLAUSIBLE_RATIO_MIN, PLAUSIBLE_RATIO_MAX = 0.75, 16.0
"""Bytes a token of any text, its template included."""
PREFIX_BLOCK_BYTES = 1_024
PREFIX_BLOCKS_SMALL = 16
PREFIX_BLOCK_LARGE_BYTES = 4_096


@dataclass(slots=True)
class Learnt:
    bytes_a_token: float = BYTES_A_TOKEN_FIRST
    error: float = ERROR_FIRST
    smallest: float = 1.0
    n: int = 0


class Estimator:
    """One per gateway. Full: the model unused for longest is forgotten and starts again from the first guess."""

    def __init__(self) -> None:
        self._models: OrderedDict[str, Learnt] = OrderedDict()

    def learnt(self, model: str) -> Learnt:
        """What is known of a model; the first guess where nothing is. Asking keeps nothing: names come from callers."""
        return self._models.get(model) or Learnt()

    def tokens(self, model: str, prompt_bytes: int) -> int:
        return int(prompt_bytes / self.learnt(model).bytes_a_token) + 1

    def upper(self, model: str, prompt_bytes: int) -> int:
        """A count that the prompt will not exceed: what a budget reserves."""
        known = self.learnt(model)
        per_token = known.smallest * UPPER_MARGIN if known.n >= SEEN_BEFORE_TIGHTENING else 1.0
        return int(prompt_bytes / max(1.0, per_token)) + TEMPLATE_TOKENS_MAX

    def learn(self, model: str, prompt_bytes: int, input_tokens: int) -> None:
        if input_tokens <= 0 or prompt_bytes < SMALL_PROMPT_BYTES:
            return
        ratio = prompt_bytes / input_tokens
        if not PLAUSIBLE_RATIO_MIN <= ratio <= PLAUSIBLE_RATIO_MAX:
            return  # images or documents, whose bytes or URLs say nothing of text
        known = self._models.setdefault(model, Learnt())
        self._models.move_to_end(model)
        if len(self._models) > MODELS_LEARNT_MAX:
            self._models.popitem(last=False)
        off = abs(ratio - known.bytes_a_token) / ratio
        rate = max(LEARN_RATE, 1 / (known.n + 1))
        known.error += rate * (off - known.error)
        known.bytes_a_token += rate * (ratio - known.bytes_a_token)
        known.smallest = ratio if known.n == 0 else min(known.smallest, ratio)
        known.n += 1


def prefix_hashes(prompt: memoryview | bytes) -> tuple[int, ...]:
    """A chain of CRC-32 over growing prefixes: two prompts share their first k hashes when they share that many blocks.

    Blocks are 1 KiB for the first 16, then 4 KiB; at most PREFIX_HASHES_MAX.
    """
    out: list[int] = []
    crc = start = 0
    size = len(prompt)
    while start < size and len(out) < PREFIX_HASHES_MAX:
        step = PREFIX_BLOCK_BYTES if len(out) < PREFIX_BLOCKS_SMALL else PREFIX_BLOCK_LARGE_BYTES
        if start + step > size:
            break
        crc = zlib.crc32(prompt[start : start + step], crc)
        out.append(crc)
        start += step
    return tuple(out)
