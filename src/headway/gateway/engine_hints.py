"""What an engine of one's own is told beside the caller's words, once the call was admitted: its priority, and the slot of its prefix."""

import zlib

from headway.gateway.dialects.scan import dump, set_members, spans, splice
from headway.gateway.flow import Flow
from headway.gateway.live import Target


def with_engine_hints(flow: Flow, target: Target, body: bytes) -> bytes:
    """``body`` with vLLM's ``priority`` (lower first) and llama.cpp's ``id_slot``, where a policy asked for them; else as it is."""
    if flow.priority is None and flow.slot is None:
        return body
    members: dict[str, bytes] = {}
    preset = target.endpoint.preset.name
    if flow.priority is not None and preset == "vllm":
        members["priority"] = dump(flow.priority)
    if flow.slot is not None and preset == "llama.cpp":
        members["id_slot"] = dump(flow.slot)
    return splice(body, set_members(body, spans(body), members)) if members else body


def slot_for(call: str, target: Target) -> int | None:
    """The slot that a call and its sub-calls share, by the call's id; None where the provider does not say how many ``slots`` it has."""
    slots = target.endpoint.provider.slots
    return zlib.crc32(call.encode()) % slots if slots > 0 and target.endpoint.preset.name == "llama.cpp" else None
