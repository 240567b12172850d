"""How each cause is done to a call that is about to be made. What touches more than one call is in ``episodes.py``."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from headway.calls.phases.model import Cause
from headway.lab.phase_worlds import hosted, own
from headway.lab.phase_worlds.model import Asked
from headway.lab.phase_worlds.plan import Plan, Usual

THROTTLED, BROKEN = 429, 503
Do = Callable[[Asked, float, Plan, Usual], Asked]


def _hold(each: Asked, ms: float, plan: Plan, usual: Usual) -> Asked:
    return msgspec.structs.replace(each, hold_ms=each.hold_ms + ms)


def _throttle(each: Asked, ms: float, plan: Plan, usual: Usual) -> Asked:
    return msgspec.structs.replace(each, tries=(*each.tries, (THROTTLED, ms)))


def _retry(each: Asked, ms: float, plan: Plan, usual: Usual) -> Asked:
    return msgspec.structs.replace(each, tries=(*each.tries, (BROKEN, ms)))


def _long_prompt(each: Asked, ms: float, plan: Plan, usual: Usual) -> Asked:
    more = hosted.tokens_for(plan.family, ms) if plan.hosted else own.tokens_for(plan.family, ms, each.prompt_tokens)
    return msgspec.structs.replace(each, tail_tokens=each.tail_tokens + more)


def _longer_output(each: Asked, ms: float, plan: Plan, usual: Usual) -> Asked:
    return msgspec.structs.replace(each, output_tokens=each.output_tokens + max(1, round(ms / usual.token_ms)))


def _slow_decode(each: Asked, ms: float, plan: Plan, usual: Usual) -> Asked:
    return msgspec.structs.replace(each, pace=1 + ms / (usual.token_ms * each.output_tokens))


def _slow_reader(each: Asked, ms: float, plan: Plan, usual: Usual) -> Asked:
    return msgspec.structs.replace(each, blocked_ms=ms)


def _tool_wait(each: Asked, ms: float, plan: Plan, usual: Usual) -> Asked:
    return msgspec.structs.replace(each, tool_ms=each.tool_ms + ms)


ALONE: Final[Mapping[Cause, Do]] = MappingProxyType(
    {
        Cause.OWN_QUEUE: _hold,
        Cause.THROTTLING: _throttle,
        Cause.RETRY: _retry,
        Cause.LONG_PROMPT: _long_prompt,
        Cause.LONGER_OUTPUT: _longer_output,
        Cause.SLOW_DECODE: _slow_decode,
        Cause.SLOW_READER: _slow_reader,
        Cause.TOOL_WAIT: _tool_wait,
    }
)


def may_meet(cause: Cause, each: Asked) -> bool:
    """Whether ``cause`` can happen to a call at all: only one that follows a tool waits for it."""
    return cause is not Cause.TOOL_WAIT or each.tool_ms > 0
