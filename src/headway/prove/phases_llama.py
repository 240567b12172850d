"""``headway prove phases --engine llama``: six causes done to calls on the local real engine, through the running product.

One call after another, whatever is done to one of them, with calls left alone between. Long prompt and longer output are asked for; a cold cache is a slot
that another prompt has taken; a neighbour's prompts come a moment before; another route is a second server of other speed, to which the name leads
for some calls on end; a slow reader stops reading. Verdicts are those of the facts that the product stored, read when it has stopped. The engine's own timings are
only compared with the split.
"""

import asyncio
import contextlib
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from itertools import groupby
from types import MappingProxyType
from typing import Final

import msgspec

from headway.calls.phases.model import Cause
from headway.kernel.figure import Proof
from headway.prove.phases_llama_calls import Answer, Broken, Wish, ask, words
from headway.prove.phases_llama_figures import CAUSES, Done, figures, matrix_of
from headway.prove.phases_llama_stage import CROWD, CROWD_SLOTS, FEATURE, SLOTS, TENANTS, Stage, stage
from headway.prove.phases_llama_stored import stored, until_stored
from headway.prove.phases_proved import Proved
from headway.prove.report import Wanted

EACH: Final = 42
"""Calls that each cause is done to."""
WARM: Final = 105
"""Calls left alone before, so that 30 of each tenant are known."""
STRETCH: Final = 14
"""Calls on the other route, each time."""
PREFIX_WORDS: Final = 420
TAIL_WORDS: Final = 70.0
TAIL_SIGMA: Final = 0.3
TAIL_WORDS_MAX: Final = 250
"""What a prompt has of its own: log-normal, so that the engine's time a token can be learnt."""
OUTPUT_TOKENS: Final = (22, 27)
LONG_WORDS: Final = 500
LONGER_TOKENS: Final = 55
PAUSE_S: Final = 2.0
ALTERNATIVES: Final = 120
"""Told with each token to a slow reader, so that an answer of usual length is more than sockets hold."""
CROWD_CALLS: Final = 2
CROWD_WORDS: Final = 350
CROWD_EARLY_S: Final = 0.03
CROWD_TOKENS: Final = 20
RUN_S_MAX: Final = 1_080.0
"""No new call begins later; what was not done often enough by then is absent from the figures."""
FAILURES_MAX: Final = 20
STORED_WITHIN_S: Final = 30.0
WANTED: Final[Mapping[str, Wanted]] = MappingProxyType(
    {f"{cause}.accuracy_answered": Wanted(at_least=0.90) for cause in CAUSES}
    | {f"{cause}.coverage": Wanted(at_least=0.60) for cause in CAUSES}
    | {
        "clean_named": Wanted(at_most=0.05),
        "split.prefill_error_p50": Wanted(at_most=0.10),
        "split.decode_error_p50": Wanted(at_most=0.10),
    }
)
LEFT_ALONE: Final = None

Say = Callable[[str], None]
Job = Cause | None
"""What is done to the next call; None leaves it alone."""


class Length(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured; short ones are for trying it out."""

    each: int = EACH
    warm: int = WARM
    stretch: int = STRETCH
    run_s_max: float = RUN_S_MAX


def prove(seed: int, say: Say, length: Length | None = None) -> Proved:
    """Run it all; a quarter of an hour on two idle cores. ModelError when the local model is not built, KeyboardInterrupt when it was told to stop."""
    try:
        return asyncio.run(_until_stopped(_prove(seed, say, length or Length())))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def _until_stopped(work: Coroutine[None, None, Proved]) -> Proved:
    """A SIGTERM ends it as Ctrl-C does: what was started is stopped first."""
    task = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


async def _prove(seed: int, say: Say, length: Length) -> Proved:
    began = time.monotonic()
    say("starting two local models and the product")
    async with stage() as running:
        run = _Run(running, random.Random(f"phases:{seed}"), say, began)
        await run.all(jobs(random.Random(f"jobs:{seed}"), length), length)
        await until_stored(running.product, run.last_call, STORED_WITHIN_S)
        running.product.stop()
        told = await stored(running.product.state)
    return Proved(
        Proof(
            pillar="phases",
            engine="llama",
            seed=seed,
            figures=figures(run.done, told, seed, least=length.each),
            took_s=round(time.monotonic() - began, 1),
        ),
        matrix_of(run.done, told),
    )


def jobs(rng: random.Random, length: Length) -> list[Job]:
    """In what order what is done: after each call that something was done to, one is left alone; stretches on the other route stand together."""
    stretches = -(-length.each // length.stretch)
    single: list[list[Job]] = [
        [cause, LEFT_ALONE] for cause in CAUSES if cause is not Cause.ROUTE_CHANGE for _ in range(length.each)
    ]
    rng.shuffle(single)
    for number in range(stretches):
        single.insert((2 * number + 1) * len(single) // (2 * stretches), [Cause.ROUTE_CHANGE] * length.stretch + [LEFT_ALONE] * 2)
    return [LEFT_ALONE] * length.warm + [job for group in single for job in group]


class _Run:
    """One after another. ``done`` are the calls that ended well, oldest first."""

    def __init__(self, running: Stage, rng: random.Random, say: Say, began: float) -> None:
        self.done: list[Done] = []
        self.last_call = ""
        self._running, self._rng, self._say, self._began = running, rng, say, began
        self._prefixes = {tenant: f"{tenant} {words(rng, PREFIX_WORDS)}" for tenant in TENANTS}
        self._failed = 0

    async def all(self, todo: Sequence[Job], length: Length) -> None:
        await self._warm_other()
        numbered = list(enumerate(todo))
        for other, stretch in groupby(numbered, key=lambda each: each[1] is Cause.ROUTE_CHANGE):
            async with self._running.elsewhere() if other else contextlib.nullcontext():
                for number, job in stretch:
                    if time.monotonic() - self._began > length.run_s_max or self._failed > FAILURES_MAX:
                        return
                    self._say(f"{number} of {len(todo)} calls; {self._counts()}")
                    await self._tried(job, warm=number < length.warm)

    async def _warm_other(self) -> None:
        """Prompts are in the other server's cache too: what is shown is its speed."""
        for tenant, slot in SLOTS.items():
            await self._running.fill_slot(self._running.other, slot, self._prefixes[tenant])

    async def _tried(self, job: Job, *, warm: bool) -> None:
        try:
            await self._one(job, warm=warm)
        except (Broken, OSError, TimeoutError):
            self._failed += 1

    async def _one(self, job: Job, *, warm: bool) -> None:
        tenant = self._rng.choice(TENANTS)
        wish = self._wish(tenant, SLOTS[tenant])
        if job is Cause.LONG_PROMPT:
            wish = msgspec.structs.replace(wish, text=f"{wish.text} {words(self._rng, LONG_WORDS)}")
        elif job is Cause.LONGER_OUTPUT:
            wish = msgspec.structs.replace(wish, output_tokens=wish.output_tokens + LONGER_TOKENS)
        elif job is Cause.SLOW_READER:
            wish = msgspec.structs.replace(wish, pause_s=PAUSE_S, alternatives=ALTERNATIVES)
        elif job is Cause.COLD_CACHE:
            await self._running.fill_slot(self._running.usual, wish.slot, words(self._rng, 12))
        answer = await (self._beside_crowd(wish) if job is Cause.NEIGHBOUR else self._ask(wish))
        if answer.status != 200:
            self._failed += 1
            return
        self.last_call = answer.call
        self.done.append(Done(call=answer.call, cause=job, timings=answer.timings, counts=not warm))

    def _wish(self, tenant: str, slot: int) -> Wish:
        own = min(round(TAIL_WORDS * self._rng.lognormvariate(0.0, TAIL_SIGMA)), TAIL_WORDS_MAX)
        text = f"{self._prefixes[tenant]} {self._rng.randrange(10**6)} {words(self._rng, max(own, 5))}"
        return Wish(text=text, tenant=tenant, slot=slot, output_tokens=self._rng.randint(*OUTPUT_TOKENS))

    async def _ask(self, wish: Wish) -> Answer:
        return await ask(self._running.product.url, self._running.keys[wish.tenant], FEATURE, wish)

    async def _beside_crowd(self, wish: Wish) -> Answer:
        """Others' prompts come a moment before; all have ended when this returns."""
        async with asyncio.TaskGroup() as group:
            for slot in CROWD_SLOTS[:CROWD_CALLS]:
                text = f"{self._rng.randrange(10**9)} {words(self._rng, CROWD_WORDS)}"
                other = Wish(text=text, tenant=CROWD, slot=slot, output_tokens=CROWD_TOKENS)
                group.create_task(self._unminded(other))
            await asyncio.sleep(CROWD_EARLY_S)
            answer = group.create_task(self._ask(wish))
        return answer.result()

    async def _unminded(self, wish: Wish) -> None:
        """Whether a neighbour is answered well is not what this is about."""
        with contextlib.suppress(Broken, OSError, TimeoutError):
            await self._ask(wish)

    def _counts(self) -> str:
        counted = Counter(each.cause for each in self.done if each.counts)
        left_alone = counted.pop(LEFT_ALONE, 0)
        parts = [f"{cause} {count}" for cause, count in counted.items() if cause is not None]
        return ", ".join([f"left alone {left_alone}", *parts, *([f"failed {self._failed}"] if self._failed else [])])
