"""Which headers go where. Upstream gets ours and a validated few of the caller's; the caller gets an allow-list of the upstream's.

Hop-by-hop headers never pass. No value of a caller reaches an upstream head unless it matches its pattern here in full.
"""

import re
from typing import Final

from headway.calls.conversation import DialectName
from headway.gateway.flow import Flow, Headers
from headway.kernel.errors import BadRequest, CallError

_BETA: Final = re.compile(rb"[A-Za-z0-9._,= -]{1,200}")
_CALLER_HEADERS: Final[dict[DialectName, tuple[tuple[bytes, str], ...]]] = {
    DialectName.OPENAI_CHAT: ((b"openai-beta", "openai-beta"),),
    DialectName.OPENAI_RESPONSES: ((b"openai-beta", "openai-beta"),),
    DialectName.ANTHROPIC: ((b"anthropic-beta", "anthropic-beta"), (b"anthropic-version", "anthropic-version")),
}
_PASSED_PREFIXES: Final = (
    "openai-",
    "anthropic-",
    "x-ratelimit-",
    "x-request-id",
    "request-id",
    "cf-ray",
    "x-should-retry",
    "retry-after",
)
_RATELIMIT_PREFIXES: Final = ("x-ratelimit-", "anthropic-ratelimit-", "retry-after")
_RATELIMIT_CHARS_MAX: Final = 2_000
JSON_HEADERS: Final = (("accept", "application/json"), ("content-type", "application/json"))
STREAM_HEADERS: Final = (("accept", "text/event-stream"), ("content-type", "application/json"))
USER_AGENT: Final = (("user-agent", "headway"),)


def upstream_headers(
    flow: Flow, own: tuple[tuple[str, str], ...], dialect: DialectName, *, stream: bool
) -> tuple[tuple[str, str], ...]:
    """Complete but for host and content-length. The caller's beta headers pass only to their own dialect."""
    base = (STREAM_HEADERS if stream else JSON_HEADERS) + USER_AGENT + own
    if dialect is not flow.dialect.name:
        return base
    return base + caller_headers(flow.inbound.headers, dialect, {n for n, _ in own})


def caller_headers(headers: dict[bytes, bytes], dialect: DialectName, _taken: set[str]) -> tuple[tuple[str, str], ...]:
    """Validated beta headers of the caller. BadRequest when one does not match in full. Configured headers win."""
    out: tuple[tuple[str, str], ...] = ()
    for name, sent in _CALLER_HEADERS[dialect]:
        value = headers.get(name)
        if value is None or (sent in _taken and sent != "anthropic-version"):
            continue
        if not _BETA.fullmatch(value):
            raise BadRequest(f"header {sent} holds characters that it cannot hold", param=sent)
        if sent not in _taken:
            out += ((sent, value.decode("ascii")),)
    return out


def passed_headers(upstream: tuple[tuple[str, str], ...] | list[tuple[str, str]]) -> Headers:
    """The allow-list of what a provider's answer may tell the caller."""
    return [
        (name.encode("latin-1"), value.encode("latin-1", "replace"))
        for name, value in upstream
        if name.startswith(_PASSED_PREFIXES)
    ]


def ratelimits(upstream: tuple[tuple[str, str], ...] | list[tuple[str, str]]) -> str:
    return ";".join(f"{n}={v}" for n, v in upstream if n.startswith(_RATELIMIT_PREFIXES))[:_RATELIMIT_CHARS_MAX]


def own_headers(flow: Flow) -> Headers:
    """What every answer carries: the call, who answered, by which generation, and what was lost on the way."""
    out: Headers = [(b"x-headway-call", flow.call.encode()), (b"x-headway-generation", flow.live.generation_bytes)]
    if flow.tracks:
        out.append((b"x-headway-answered", flow.tracks[-1].target.name.encode("ascii", "replace")))
    if flow.lost:
        out.append((b"x-headway-lost", ",".join(flow.lost)[:1_000].encode("ascii", "replace")))
    return out


def refusal_headers(error: CallError) -> Headers:
    """Retry-After in both spellings and ``x-should-retry``, so that clients do not multiply our own retries."""
    out: Headers = [(b"content-type", b"application/json"), (b"x-should-retry", b"true" if error.should_retry else b"false")]
    if error.retry_after_ms is not None:
        out.append((b"retry-after-ms", str(error.retry_after_ms).encode()))
        out.append((b"retry-after", str(max(1, -(-error.retry_after_ms // 1000))).encode()))
    return out


def retry_after_ms(headers: tuple[tuple[str, str], ...] | list[tuple[str, str]]) -> int | None:
    """Milliseconds from ``retry-after-ms`` or ``retry-after`` in seconds; a date or nonsense counts as absent."""
    found: int | None = None
    for name, value in headers:
        try:
            if name == "retry-after-ms":
                return max(0, int(float(value)))
            if name == "retry-after":
                found = max(0, int(float(value) * 1000))
        except (ValueError, OverflowError):
            continue
    return found
