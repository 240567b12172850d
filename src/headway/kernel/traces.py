"""Ids of traces and spans (W3C Trace Context) that follow from a call's id: whoever works them out, and however often, they are the same."""

import hashlib


def trace_id(call: str) -> bytes:
    """Sixteen bytes that follow from a call's id."""
    return hashlib.blake2b(call.encode(), digest_size=16, person=b"headway.trace").digest()


def span_id(*parts: object) -> bytes:
    """Eight bytes that follow from what the span is about."""
    return hashlib.blake2b("\n".join(map(str, parts)).encode(), digest_size=8, person=b"headway.span").digest()


def trace_of(call: str, traceparent: str) -> bytes:
    """The trace that a call is in: its caller's where it named one, else its own."""
    return bytes.fromhex(traceparent[3:35]) if traceparent else trace_id(call)
