"""Headway's own hop as its stored spans tell it, over what a caller measures from outside in the same run.

The running product stands before an upstream that costs next to nothing. One caller, one call at a time: straight to the upstream and through Headway.
What Headway adds to a call, seen from outside, is p50 through Headway less p50 straight, as in ``make bench``. Inside it is the time that hop ``headway``
owns on the critical path of the spans that control stored, p50, and what no process can see of itself: a call through Headway crosses the kernel twice
more. What one such pair of crossings takes is measured on the straight calls of the same round: from handing a request over until its answer is read,
less what the upstream held it. Its sockets and sizes are those of the calls.

Twice so: ``turns`` asks straight and through in turn, so that upstream and gateway sleep as long and wake as cold in both; ``blocks`` asks hundreds of
one kind back to back, which is ``make bench`` to the letter. There the next request arrives while the gateway still books the last call; it waits
unread for what no instant of its own tells, and the ratio is lower by that.
"""

import asyncio
import contextlib
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Final

import msgspec

from headway.calls.hops.seen import SeenSpan
from headway.calls.hops.times import times_of
from headway.facts.hops import clean_traces
from headway.facts.own_spans import SERVICE
from headway.facts.trace_files.opening import read_bytes
from headway.facts.trace_files.reading import Reading
from headway.gateway.listener.server import new_loop
from headway.kernel.figure import Figure
from headway.prove.hops_own_calls import CallFailed, Line, Turns, connect
from headway.prove.hops_own_mock import DIRECT, HELD
from headway.prove.product import START_WITHIN_S, Child, Product, answers, free_port
from headway.prove.rawhttp import get_json, until
from headway.prove.report import NotMeasurable, Wanted

Say = Callable[[str], None]
RATIO: Final = "own_hop_over_bench"
WANTED: Final[Mapping[str, Wanted]] = MappingProxyType({RATIO: Wanted(at_least=0.8, at_most=1.2)})
ROUNDS: Final = 12
CALLS: Final = 250
"""Of each kind in a round."""
WARM_CALLS: Final = 500
STORED_WITHIN_S: Final = 30.0
TURNS, BLOCKS, WARM = "turns", "blocks", "warm"
HTTP_OK: Final = 200
HOW: Final = (
    "(p50 of hop headway in the stored spans + two kernel crossings, measured on straight calls) / (p50 through Headway - p50 straight), one caller that "
    "asks straight and through in turn; median of rounds, low and high the extreme ones"
)
HOW_BLOCKS: Final = (
    "the same where a caller asks back to back, as make bench does: a request then lies unread while the last call is booked"
)
_NS_PER_US = 1_000
_CONFIGURATION = """
[providers.mock]
preset = "openai"
base_url = "{url}/v1"
key = "env:HEADWAY_UPSTREAM_KEY"
models = ["own"]
price_as = "free"
"""
_FEATURE = """
[features.{name}]
targets = ["mock/own"]
"""


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """Medians of one round, microseconds. ``held_us`` is the upstream's time with a request; ``straight_waited_us`` leaves out the caller's sending."""

    arm: str
    feature: str
    straight_us: float
    straight_waited_us: float
    held_us: float
    through_us: float

    @property
    def added_us(self) -> float:
        return self.through_us - self.straight_us

    @property
    def kernel_us(self) -> float:
        """Two crossings. Below zero where a reader is awake before the call that wrote to it has returned: such writes are counted as own time."""
        return self.straight_waited_us - self.held_us


def measure(say: Say, *, rounds: int = ROUNDS, calls: int = CALLS) -> dict[str, Figure]:
    """NotMeasurable where the product cannot be started."""
    with tempfile.TemporaryDirectory(prefix="headway-own-hop-") as folder:
        try:
            done, own = _run(_measured(Path(folder), rounds, calls, say))
        except (OSError, RuntimeError, TimeoutError, CallFailed) as error:
            raise NotMeasurable(
                f"the product and an upstream could not be called here: {error}", "pip install 'headway[serve]'; see headway check"
            ) from None
    return figures(done, own, calls)


Outcome = tuple[list[Round], dict[str, list[int]]]


def _run(work: Coroutine[None, None, Outcome]) -> Outcome:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(work)


async def _measured(folder: Path, rounds: int, calls: int, say: Say) -> Outcome:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    mock = Child("mock", [sys.executable, "-m", "headway.prove.hops_own_mock", "--port", str(port)], cwd=folder)
    names = [f"{arm}-{number}" for number in range(rounds) for arm in (TURNS, BLOCKS)]
    configuration = _CONFIGURATION.format(url=url) + "".join(_FEATURE.format(name=name) for name in [WARM, *names])
    say("starting Headway before an upstream that costs nothing")
    mock.start()
    try:
        await until("the upstream answers", lambda: answers(url, HELD), within_s=START_WITHIN_S)
        async with Product(folder, configuration) as product:
            key = await product.new_key()
            straight = await connect(url, key, DIRECT)
            await _round(product, url, key, straight, WARM, WARM_CALLS)
            done = []
            for number, name in enumerate(names):
                say(f"{2 * calls} calls, round {number + 1} of {len(names)}")
                done.append(await _round(product, url, key, straight, name, calls))
            straight.close()
            say("reading what control stored of them")
            return done, await _stored(product, names, calls)
    finally:
        mock.stop()


async def _round(product: Product, upstream: str, key: str, straight: Line, feature: str, calls: int) -> Round:
    """On a new connection to Headway, so that no round inherits the luck of another."""
    line = await connect(product.url, key, feature)
    straight.clear()
    await get_json(upstream, HELD)
    arm = feature.partition("-")[0]
    for lines in [[straight], [line]] if arm == BLOCKS else [[straight, line]]:
        await Turns(lines, calls).done()
    line.close()
    held = await get_json(upstream, HELD)
    assert isinstance(held, dict)
    return Round(
        arm=arm,
        feature=feature,
        straight_us=median(straight.took) / _NS_PER_US,
        straight_waited_us=median(straight.waited) / _NS_PER_US,
        held_us=held["p50_ns"] / _NS_PER_US,
        through_us=median(line.took) / _NS_PER_US,
    )


async def _stored(product: Product, features: Sequence[str], calls: int) -> dict[str, list[int]]:
    """Microseconds that Headway owns of each call, by feature, as soon as control has them all; else what it has after STORED_WITHIN_S."""
    found: dict[str, list[int]] = {}

    async def whole() -> bool:
        answer = await product.api("GET", "/traces?range=15m")
        reading = Reading()
        if answer.status == HTTP_OK:
            read_bytes(answer.body, reading)
        found.clear()
        found.update(own_us(reading.spans))
        return all(len(found.get(feature, ())) >= calls for feature in features)

    with contextlib.suppress(TimeoutError):
        await until("control has stored all calls", whole, within_s=STORED_WITHIN_S, every_s=1.0)
    return found


def own_us(spans: Iterable[SeenSpan]) -> dict[str, list[int]]:
    """What hop ``headway`` owns of the critical path of each trace, microseconds, by request type without the hop's name."""
    owned: dict[str, list[int]] = {}
    for trace in clean_traces(spans).traces:
        owned.setdefault(trace.spans[0].name, []).append(times_of(trace).by_hop.get(SERVICE, 0))
    return owned


def figures(done: Sequence[Round], own: Mapping[str, Sequence[int]], calls: int) -> dict[str, Figure]:
    """Medians of rounds; low and high are the extreme rounds. A ratio of which calls are missing in the store is not told."""
    missing = [f"{one.feature} {len(own.get(one.feature, ()))}" for one in done if len(own.get(one.feature, ())) < calls]
    if missing or any(one.added_us <= 0 for one in done):
        why = (
            f"control stored fewer than {calls} calls of {', '.join(missing)}"
            if missing
            else "calls through Headway were not slower"
        )
        return {RATIO: Figure(value=None, unit="ratio", n=len(done) * calls, method=why)}
    arms = {arm: [one for one in done if one.arm == arm] for arm in (TURNS, BLOCKS)}
    ratio = {arm: [(median(own[one.feature]) + one.kernel_us) / one.added_us for one in rounds] for arm, rounds in arms.items()}
    turns = arms[TURNS]
    n = len(turns) * calls
    return {
        RATIO: _figure(ratio[TURNS], "ratio", n, HOW),
        "own_hop.blocks_over_bench": _figure(ratio[BLOCKS], "ratio", n, HOW_BLOCKS),
        "own_hop.spans_p50_us": _figure(
            [median(own[one.feature]) for one in turns], "us", n, "what hop headway owns of a call's critical path"
        ),
        "own_hop.kernel_p50_us": _figure(
            [one.kernel_us for one in turns], "us", n, "two crossings of the kernel between two processes"
        ),
        "own_hop.added_p50_us": _figure(
            [one.added_us for one in turns], "us", n, "p50 through Headway less p50 straight to the upstream"
        ),
        "own_hop.added_blocks_p50_us": _figure(
            [one.added_us for one in arms[BLOCKS]], "us", n, "the same where a caller asks back to back"
        ),
    }


def _figure(values: Sequence[float], unit: str, n: int, method: str) -> Figure:
    digits = 3 if unit == "ratio" else 1
    low, mid, high = (round(value, digits) for value in (min(values), median(values), max(values)))
    return Figure(value=mid, unit=unit, n=n, method=method, low=low, high=high)
