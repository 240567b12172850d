"""Causes, phases and evidence as people read them, and what to do about each."""

from types import MappingProxyType
from typing import Final

import msgspec

from headway.calls.phases.model import Cause, Evidence, Phase
from headway.control.words import count, milliseconds

CAUSES: Final = MappingProxyType(
    {
        Cause.OWN_QUEUE: "our own queue",
        Cause.THROTTLING: "rate limit",
        Cause.RETRY: "failed attempts",
        Cause.LONG_PROMPT: "long prompt",
        Cause.COLD_CACHE: "cold cache",
        Cause.ROUTE_CHANGE: "route change",
        Cause.NEIGHBOUR: "neighbour",
        Cause.LONGER_OUTPUT: "longer answer",
        Cause.SLOW_DECODE: "slow decode",
        Cause.SLOW_READER: "slow reader",
        Cause.TOOL_WAIT: "tool wait",
        Cause.CANNOT_TELL: "cannot tell",
    }
)


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """What to do first about a cause; ``link`` leads to where it can be seen."""

    do: str
    link: str = ""
    words: str = ""


ADVICE: Final = MappingProxyType(
    {
        Cause.OWN_QUEUE: Advice(
            do="See who waits for whom; raise the endpoint's room or the tenant's weight.", link="/admission", words="Admission"
        ),
        Cause.THROTTLING: Advice(do="Ask for a higher limit, or send part of it elsewhere.", link="/settings", words="Settings"),
        Cause.RETRY: Advice(
            do="See which attempts failed, and why the first target is still the first.",
            link="/calls?state=failed",
            words="Failed calls",
        ),
        Cause.LONG_PROMPT: Advice(do="Cut what is sent, or let long prompts go in pieces.", link="/admission", words="Admission"),
        Cause.COLD_CACHE: Advice(do="Keep the prompt's beginning the same from call to call, and what changes at its end."),
        Cause.ROUTE_CHANGE: Advice(do="Tell the provider when it began; route around it meanwhile."),
        Cause.NEIGHBOUR: Advice(
            do="Nothing of yours changed: hedge, or move to capacity of your own.", link="/admission", words="Admission"
        ),
        Cause.LONGER_OUTPUT: Advice(do="Bound the answer's tokens, or ask for less."),
        Cause.SLOW_DECODE: Advice(do="Compare with another route of the same model."),
        Cause.SLOW_READER: Advice(do="The caller reads slowly: look at its network and its own work between reads."),
        Cause.TOOL_WAIT: Advice(do="The run waited for its tool, not for the model.", link="/time", words="Where the time goes"),
        Cause.CANNOT_TELL: Advice(do="See what is missing at each call: mostly a signal that the provider does not send."),
    }
)
PHASES: Final = MappingProxyType(
    {
        Phase.TOOL.value: "tool before it",
        Phase.ATTEMPTS.value: "failed attempts",
        Phase.QUEUE.value: "our queue",
        Phase.CONNECT.value: "connecting",
        Phase.PROVIDER.value: "waiting for the first token",
        Phase.DECODE.value: "receiving tokens",
        Phase.STALL.value: "stalls",
        Phase.READER.value: "caller reads slowly",
        Phase.CLOSE.value: "closing",
    }
)
"""In the order in which they are drawn, which is about that of time."""
SHORT: Final = MappingProxyType(
    {
        Phase.TOOL.value: "tool",
        Phase.ATTEMPTS.value: "attempts",
        Phase.QUEUE.value: "queue",
        Phase.CONNECT.value: "connect",
        Phase.PROVIDER.value: "first token",
        Phase.DECODE.value: "tokens",
        Phase.STALL.value: "stalls",
        Phase.READER.value: "reader",
        Phase.CLOSE.value: "close",
    }
)
"""Inside a bar."""


def cause_words(cause: str | Cause | None) -> str:
    """Empty for none."""
    return CAUSES[Cause(cause)] if cause else ""


def evidence_words(evidence: Evidence) -> str:
    """``uncached prompt tokens: 28,000, usually 1,240``."""
    if evidence.value is None:
        return evidence.what
    usual = f", usually {_amount(evidence.usual, evidence.unit)}" if evidence.usual is not None else ""
    return f"{evidence.what}: {_amount(evidence.value, evidence.unit)}{usual}"


def _amount(value: float, unit: str) -> str:
    unit, comma, more = unit.partition(",")
    if unit == "ms":
        return ("0 ms" if not value else milliseconds(value)) + comma + more
    text = count(value) if abs(value) >= 10 or value == int(value) else f"{value:.1f}"
    named = f"{text} {unit}" if unit and unit != "tokens" else text
    return named + comma + more
