"""An hour of conversations with the blocks of their prompts (Mooncake, FAST 2025; Apache-2.0).

Its clock ticks about every three seconds: all calls of a tick carry the same time. Their bursts are the clock's, so arrivals are spread.
"""

import random
from itertools import groupby
from pathlib import Path
from typing import Final

import msgspec

from headway.kernel.instants import NS_PER_MS
from headway.lab.traces.calls import TraceCall
from headway.lab.traces.reading import TraceError, records

FILE: Final = "mooncake_conversation.jsonl.gz"
BLOCK_TOKENS: Final = 512
LAST_TICK_MS: Final = 3_000


class _Line(msgspec.Struct, frozen=True):
    timestamp: int
    input_length: int
    output_length: int
    hash_ids: tuple[int, ...]


def load_mooncake(traces: Path, *, spread_seed: int | None = None) -> list[TraceCall]:
    """As recorded, or with the calls of each tick spread over it at random by ``spread_seed``. TraceMissing, TraceError.

    The last block of a prompt may be partly filled: ``blocks`` holds it too, the engine takes whole ones only.
    """
    path = traces / FILE
    calls: list[TraceCall] = []
    for number, line in records(path, _Line):
        if line.timestamp < 0 or line.input_length < 1 or line.output_length < 1:
            raise TraceError(path, number, "timestamp is negative, or a length is below 1")
        if calls and line.timestamp * NS_PER_MS < calls[-1].at_ns:
            raise TraceError(path, number, f"timestamp {line.timestamp} is before the line above it")
        if len(line.hash_ids) != -(-line.input_length // BLOCK_TOKENS):
            raise TraceError(path, number, f"has {len(line.hash_ids)} hash_ids for {line.input_length} tokens")
        calls.append(
            TraceCall(
                at_ns=line.timestamp * NS_PER_MS,
                prompt_tokens=line.input_length,
                output_tokens=line.output_length,
                blocks=line.hash_ids,
                block_tokens=BLOCK_TOKENS,
            )
        )
    return calls if spread_seed is None else spread(calls, spread_seed)


def spread(calls: list[TraceCall], seed: int) -> list[TraceCall]:
    """Calls of one tick come at random times before the next tick, in their order."""
    draw = random.Random(seed)
    ticks = [(at, list(group)) for at, group in groupby(calls, key=lambda call: call.at_ns)]
    ends = [at for at, _ in ticks[1:]] + [ticks[-1][0] + LAST_TICK_MS * NS_PER_MS] if ticks else []
    moved: list[TraceCall] = []
    for (began, group), end in zip(ticks, ends, strict=True):
        times = sorted(draw.randrange(began, end) for _ in group)
        moved += [msgspec.structs.replace(call, at_ns=at) for call, at in zip(group, times, strict=True)]
    return moved
