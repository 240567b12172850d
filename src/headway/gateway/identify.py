"""Who asks, and what their ``x-headway-*`` headers say. Keys are compared in constant time; nothing here leaves the process."""

import re
from typing import Final

from headway.calls.model import Origin
from headway.gateway.caller import Caller
from headway.gateway.flow import Inbound
from headway.gateway.live import DEFAULT_TENANT, Live
from headway.kernel.errors import BadRequest, Unauthorized
from headway.kernel.instants import WallMs
from headway.kernel.limits import HEADER_VALUE_CHARS_MAX
from headway.ledger.keys import parse, verify

_VALUE: Final = re.compile(rb"[A-Za-z0-9._:/@+=-]{1,%d}" % HEADER_VALUE_CHARS_MAX)
_TRACEPARENT: Final = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
"""https://www.w3.org/TR/trace-context/, version 00."""
_TAKEN: Final = (
    (b"x-headway-run", "run"),
    (b"x-headway-step", "step"),
    (b"x-headway-parent", "parent"),
    (b"x-headway-class", "klass"),
    (b"x-headway-prompt", "prompt_ref"),
    (b"x-headway-commitment", "commitment"),
    (b"x-headway-idempotency-key", "idempotency_key"),
)
_KNOWN: Final = frozenset([name for name, _ in _TAKEN] + [b"x-headway-deadline-ms"])
DEADLINE_MS_MAX = 24 * 3600 * 1000
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "::ffff:127.0.0.1", ""})
"""Peers that count as this machine; a Unix socket has no address."""
_FORWARDED: Final = (b"forwarded", b"x-forwarded-for", b"x-real-ip")
_KEY_HEADERS: Final = (b"authorization", b"x-api-key", b"api-key")


def identify(inbound: Inbound, live: Live, now: WallMs) -> Caller:
    """Raises Unauthorized, or BadRequest for a header that cannot be used."""
    presented = presented_key(inbound.headers)
    if presented.startswith("hw_"):
        caller = _by_key(presented, live, now)
    elif live.settings.open_access and from_this_machine(inbound.peer, inbound.headers):
        caller = Caller(tenant=DEFAULT_TENANT, principal="open", scopes=(f"tenant:{DEFAULT_TENANT}",))
    else:
        verify(None, presented)
        raise Unauthorized(
            "this gateway wants a Headway key (hw_…) as bearer token or x-api-key; `headway keys create` makes one"
            if not presented
            else _WRONG
        )
    return _with_headers(caller, inbound.headers)


_WRONG: Final = "this key is not known, expired or revoked; `headway keys list` shows the keys there are"


def from_this_machine(peer: str, headers: dict[bytes, bytes]) -> bool:
    """Whether the caller itself is on this machine: a proxy here speaks for others, and says so."""
    return peer in LOOPBACK and not any(name in headers for name in _FORWARDED)


def presented_key(headers: dict[bytes, bytes]) -> str:
    """The key in ``authorization: Bearer``, ``x-api-key`` or ``api-key``, one of ours before others; empty when there is none."""
    first = ""
    for name in _KEY_HEADERS:
        value = headers.get(name)
        if value is None:
            continue
        if name == b"authorization" and value[:7].lower() in (b"bearer ", b"bearer"):
            value = value[7:]
        key = value.strip().decode("latin-1")
        if key.startswith("hw_"):
            return key
        first = first or key
    return first


def unknown_headway_headers(headers: dict[bytes, bytes]) -> int:
    """How many ``x-headway-*`` headers a caller sent that none of ours reads: ignored and counted."""
    return sum([name not in _KNOWN for name in headers if name[:10] == b"x-headway-"])


def _by_key(presented: str, live: Live, now: WallMs) -> Caller:
    identifier = parse(presented)
    record = live.keys.get(identifier[0]) if identifier else None
    good = verify(record, presented, identifier)
    if (
        record is None
        or not good
        or record.revoked_wall_ms is not None
        or (record.expires_wall_ms is not None and now >= record.expires_wall_ms)
    ):
        raise Unauthorized(_WRONG)
    known = live.callers.get(record.id)
    if known is not None and known[0] is record:
        return known[1]
    tenant = record.tenant or DEFAULT_TENANT
    caller = Caller(
        tenant=tenant,
        principal=record.principal,
        key=record.id,
        klass=live.tenant(record.tenant).klass,
        features=record.features,
        scopes=(f"tenant:{tenant}", f"key:{record.id}"),
        origin=Origin.PROBE if record.id == live.probe_key else Origin.CLIENT,
    )
    live.callers[record.id] = (record, caller)  # bounded by the keys there are; a changed key is another record
    return caller


def _with_headers(caller: Caller, headers: dict[bytes, bytes]) -> Caller:
    taken: dict[str, str] = {}
    for name, field in _TAKEN:
        value = headers.get(name)
        if value is not None:
            taken[field] = _checked(name, value)
    deadline = headers.get(b"x-headway-deadline-ms")
    deadline_ms = None
    if deadline is not None:
        if not deadline.isdigit() or not 0 < int(deadline[:12]) <= DEADLINE_MS_MAX:
            raise BadRequest(
                f"header x-headway-deadline-ms takes a whole number from 1 to {DEADLINE_MS_MAX}", param="x-headway-deadline-ms"
            )
        deadline_ms = float(deadline)
    traceparent = headers.get(b"traceparent", b"")
    if _TRACEPARENT.fullmatch(traceparent):  # what is not one is ignored, as the recommendation asks
        taken["traceparent"] = traceparent.decode("ascii")
    if not taken and deadline_ms is None:
        return caller
    values = {name: getattr(caller, name) for name in Caller.__dataclass_fields__} | taken | {"deadline_ms": deadline_ms}
    return Caller(**values)


def _checked(name: bytes, value: bytes) -> str:
    if not _VALUE.fullmatch(value):
        raise BadRequest(
            f"header {name.decode()} takes 1 to {HEADER_VALUE_CHARS_MAX} letters, digits and . _ : / @ + = -", param=name.decode()
        )
    return value.decode("ascii")
