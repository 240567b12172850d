"""Memory over days: what was made at the start is not collected again, and what lies free between blocks goes back to the system.

Streams that come and go leave holes in glibc's heap: in ten minutes of 64 of them with a tenth broken off, nothing more was in use and the resident
memory grew by a quarter. ``malloc_trim`` gives whole free pages back, wherever they lie (man 3 malloc_trim). And glibc puts a large block among the small ones
once another of its size was freed; segments on their way to control are such blocks, so the bound from which blocks lie apart is held (man 3 mallopt).
"""

import asyncio
import ctypes
import gc
from typing import Final

GC_ALLOCATIONS_BETWEEN: Final = 20_000
TRIM_EVERY_S: Final = 30.0
APART_BYTES: Final = 256 * 1024
"""Blocks from this size on lie by themselves and go back to the system when they are freed."""
TOP_FREE_BYTES_MAX: Final = 2 * 1024 * 1024
"""So much may lie free at the heap's end: less would ask the system again and again."""
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3


def settle_collector() -> None:
    """What was made at the start stays: the collector need not look at it again, and looks less often at the rest.

    Calls leave no cycles behind (tests/unit/gateway/test_garbage.py holds this), so a rarer look costs no memory.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS_BETWEEN, 20, 50)


def keep_large_apart() -> bool:
    """Early in a process. False where the C library has no such setting."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_MMAP_THRESHOLD, APART_BYTES) and mallopt(_M_TRIM_THRESHOLD, TOP_FREE_BYTES_MAX))


def trim() -> bool:
    """Give free pages of the heap back. False where the C library has no such call: then there is nothing to do."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is None:
        return False
    malloc_trim(ctypes.c_size_t(0))
    return True


async def trim_now_and_then(every_s: float = TRIM_EVERY_S) -> None:
    """Until cancelled. In a thread: a heap of 20 MB takes about a millisecond."""
    while True:
        await asyncio.sleep(every_s)
        if not await asyncio.to_thread(trim):
            return
