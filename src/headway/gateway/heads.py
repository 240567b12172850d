"""Which headers go where. Upstream gets ours and a validated few of the caller's; the caller gets an allow-list of the upstream's.

Hop-by-hop headers never pass. No value of a caller reaches an upstream head unless it matches its pattern here in full.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from headway.calls.conversation import DialectName
from headway.kernel.errors import BadRequest, CallError, MethodNotAllowed

Headers = list[tuple[bytes, bytes]]

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
_KEPT_BACK: Final = frozenset(("openai-organization", "openai-project", "anthropic-organization-id"))
"""They name the operator's account at the provider, which is no business of a caller."""
_RATELIMIT_PREFIXES: Final = ("x-ratelimit-", "anthropic-ratelimit-", "retry-after")
_RATELIMIT_CHARS_MAX: Final = 2_000
_EDGE: Final = re.compile(r"[0-9a-f]+-([A-Z]{3})")
_TOOK: Final = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,6})?")
_REQUEST_IDS: Final = ("x-request-id", "request-id")
_ID_CHARS_MAX: Final = 200
JSON_HEADERS: Final = (("accept", "application/json"), ("content-type", "application/json"))
STREAM_HEADERS: Final = (("accept", "text/event-stream"), ("content-type", "application/json"))
USER_AGENT: Final = (("user-agent", "headway"),)


def upstream_headers(
    own: tuple[tuple[str, str], ...], dialect: DialectName, *, stream: bool, caller: dict[bytes, bytes] | None
) -> tuple[tuple[str, str], ...]:
    """Complete but for host and content-length. ``caller``: the caller's headers where it speaks this dialect, for its beta headers."""
    base = (STREAM_HEADERS if stream else JSON_HEADERS) + USER_AGENT + own
    return base if caller is None else base + caller_headers(caller, dialect, {n for n, _ in own})


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


class Told(NamedTuple):
    """What an upstream's head tells: of itself, and to the caller."""

    passed: Headers
    """The allow-list of what a provider's answer may tell the caller."""
    content_type: str
    request_id: str
    region: str
    ratelimit: str
    edge: str = ""
    """City of the network's edge that answered, of ``cf-ray``."""
    took_ms: float | None = None
    """What the provider says it took: ``openai-processing-ms``, else ``x-envoy-upstream-service-time``."""
    encoded: bool = False
    """Compressed, which nothing here asks for."""

    @property
    def is_stream(self) -> bool:
        return self.content_type.startswith("text/event-stream")


NOTHING_TOLD: Final = Told([], "", "", "", "")


def read_head(headers: Sequence[tuple[str, str]]) -> Told:
    """One walk over an upstream's headers (lower-case names)."""
    passed: Headers = []
    content_type = request_id = region = ratelimit = edge = ""
    took_ms: float | None = None
    encoded = False
    for name, value in headers:
        if name == "content-type":
            content_type = value
        elif name.startswith(_PASSED_PREFIXES) and name not in _KEPT_BACK:
            passed.append((name.encode("latin-1"), value.encode("latin-1", "replace")))
            if name in _REQUEST_IDS:
                request_id = value[:_ID_CHARS_MAX]
            elif name.startswith(_RATELIMIT_PREFIXES):
                ratelimit = f"{ratelimit};{name}={value}" if ratelimit else f"{name}={value}"
            elif name == "openai-processing-region":
                region = value[:_ID_CHARS_MAX]
            elif name == "openai-processing-ms":
                took_ms = float(value) if _TOOK.fullmatch(value) else None
            elif name == "cf-ray":
                edge = found[1] if (found := _EDGE.fullmatch(value)) else ""
        elif name == "x-ms-region":
            region = value[:_ID_CHARS_MAX]
        elif name == "x-envoy-upstream-service-time":
            took_ms = float(value) if took_ms is None and _TOOK.fullmatch(value) else took_ms
        elif name == "content-encoding":
            encoded = value.lower() not in ("", "identity")
    return Told(passed, content_type, request_id, region, ratelimit[:_RATELIMIT_CHARS_MAX], edge, took_ms, encoded)


def refusal_headers(error: CallError) -> Headers:
    """Retry-After in both spellings and ``x-should-retry``, so that clients do not multiply our own retries."""
    out: Headers = [(b"content-type", b"application/json"), (b"x-should-retry", b"true" if error.should_retry else b"false")]
    if isinstance(error, MethodNotAllowed):
        out.append((b"allow", error.allow.encode()))
    if error.retry_after_ms is not None:
        out.append((b"retry-after-ms", str(error.retry_after_ms).encode()))
        out.append((b"retry-after", str(max(1, -(-error.retry_after_ms // 1000))).encode()))
    return out


def retry_after_ms(headers: Sequence[tuple[str, str]]) -> int | None:
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
