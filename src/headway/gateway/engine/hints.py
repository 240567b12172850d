"""What an engine of one's own is told beside the caller's words, once the call was admitted: its priority, and the slot of its prefix."""

import zlib
from types import MappingProxyType
from typing import Final

from headway.gateway.dialects.scan import dump, set_members, spans, splice
from headway.gateway.flow import Flow
from headway.gateway.live import Target

PRIORITY_SIGN: Final = MappingProxyType({"vllm": 1, "sglang": -1})
"""Presets whose engines take a ``priority`` in the body; ours is lower first."""


def with_engine_hints(flow: Flow, target: Target, body: bytes) -> bytes:
    """``body`` with a priority, where the provider is said to take one, and llama.cpp's ``id_slot``; else as it is.

    vLLM refuses a priority unless it was started with ``--scheduling-policy priority``, lower first; SGLang reads higher ones first.
    """
    if flow.priority is None and flow.slot is None:
        return body
    members: dict[str, bytes] = {}
    preset = target.endpoint.preset.name
    sign = PRIORITY_SIGN.get(preset)
    admission = target.endpoint.provider.admission
    if flow.priority is not None and sign is not None and admission is not None and admission.priority:
        members["priority"] = dump(sign * flow.priority)
    if flow.slot is not None and preset == "llama.cpp":
        members["id_slot"] = dump(flow.slot)
    return splice(body, set_members(body, spans(body), members)) if members else body


def slot_for(call: str, target: Target) -> int | None:
    """The slot that a call and its sub-calls share, by the call's id; None where the provider does not say how many ``slots`` it has."""
    slots = target.endpoint.provider.slots
    return zlib.crc32(call.encode()) % slots if slots > 0 and target.endpoint.preset.name == "llama.cpp" else None
