"""Memory over days: what was made at the start is not collected again, and what lies free between blocks goes back to the system.

Streams that come and go leave holes in glibc's heap: in ten minutes of 64 of them with a tenth broken off, nothing more was in use and the resident
memory grew by a quarter. ``malloc_trim`` gives whole free pages back, wherever they lie (man 3 malloc_trim).
"""

import asyncio
import ctypes
import gc
from typing import Final

GC_ALLOCATIONS_BETWEEN: Final = 20_000
TRIM_EVERY_S: Final = 30.0


def settle_collector() -> None:
    """What was made at the start stays: the collector need not look at it again, and looks less often at the rest.

    Calls leave no cycles behind (tests/unit/gateway/test_garbage.py holds this), so a rarer look costs no memory.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS_BETWEEN, 20, 50)


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
