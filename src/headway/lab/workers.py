"""Processes for simulations that are independent of each other: as many as there are cores, ended at once when the work is stopped."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.context import SpawnContext
from typing import Any, Final

CONTEXT: Final[SpawnContext] = get_context("spawn")


@contextmanager
def workers(most: int, prepare: Any = None, *arguments: Any) -> Iterator[ProcessPoolExecutor]:
    """At most ``most``, each prepared by ``prepare(*arguments)``. Whatever is raised inside, Ctrl-C too, ends them before it goes on."""
    count = max(1, min(most, os.cpu_count() or 1))
    pool = ProcessPoolExecutor(count, mp_context=CONTEXT, initializer=_begin, initargs=(prepare, *arguments))
    try:
        yield pool
    except BaseException:
        processes = tuple((getattr(pool, "_processes", None) or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()
        raise
    pool.shutdown()


def _begin(prepare: Any, *arguments: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to stop
    if prepare is not None:
        prepare(*arguments)
