"""By which attributes a span is known to be a call of a model, a tool, a database, a queue or a person's wait: one small table.

Names follow OpenTelemetry's semantic conventions (GenAI, database, messaging, peer), their older forms, OpenInference and OpenLLMetry. Anything can
be named outright: ``headway.hop`` says who owns the span's time, ``headway.hop.kind`` which role it has. A server's own name says who it is, so
of the roles only ``model`` holds for spans of kind server.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from headway.kernel.limits import TRACE_DATA_VALUES_MAX, TRACE_NAME_CHARS_MAX

Value = str | int | float | bool
MODEL, EMBEDDINGS, TOOL, RETRIEVAL, DATABASE, QUEUE, PERSON = "model", "embeddings", "tool", "retrieval", "db", "queue", "person"
ROLES: Final = (MODEL, EMBEDDINGS, TOOL, RETRIEVAL, DATABASE, QUEUE, PERSON)
SERVER: Final = "server"
HOP, HOP_KIND = "headway.hop", "headway.hop.kind"
DATA_VALUE_CHARS_MIN = 4
"""Shorter values (``ok``, ``12``) are alike by chance."""


class Rule(NamedTuple):
    """A span with attribute ``key`` at one of ``values`` (None: at any) has the role; empty says that it has none, and ends the search."""

    role: str
    key: str
    values: frozenset[str] | None = None


RULES: Final = (
    Rule(MODEL, "gen_ai.operation.name", frozenset({"chat", "text_completion", "generate_content"})),
    Rule(EMBEDDINGS, "gen_ai.operation.name", frozenset({"embeddings"})),
    Rule(TOOL, "gen_ai.operation.name", frozenset({"execute_tool"})),
    Rule(RETRIEVAL, "gen_ai.operation.name", frozenset({"retrieval"})),
    Rule("", "gen_ai.operation.name"),
    Rule(MODEL, "openinference.span.kind", frozenset({"LLM"})),
    Rule(EMBEDDINGS, "openinference.span.kind", frozenset({"EMBEDDING"})),
    Rule(TOOL, "openinference.span.kind", frozenset({"TOOL"})),
    Rule(RETRIEVAL, "openinference.span.kind", frozenset({"RETRIEVER"})),
    Rule("", "openinference.span.kind"),
    Rule(TOOL, "traceloop.span.kind", frozenset({"tool"})),
    Rule("", "traceloop.span.kind"),
    Rule(MODEL, "llm.request.type", frozenset({"chat", "completion"})),
    Rule(EMBEDDINGS, "llm.request.type", frozenset({"embedding"})),
    Rule(TOOL, "gen_ai.tool.name"),
    Rule(MODEL, "gen_ai.request.model"),
    Rule(DATABASE, "db.system.name"),
    Rule(DATABASE, "db.system"),
    Rule(QUEUE, "messaging.system"),
)
"""In order; the first that holds decides."""

NAMES: Final = MappingProxyType(
    {
        MODEL: ("gen_ai.request.model", "gen_ai.response.model", "llm.model_name", "llm.request.model"),
        EMBEDDINGS: ("gen_ai.request.model", "gen_ai.response.model", "embedding.model_name"),
        TOOL: ("gen_ai.tool.name", "tool.name", "traceloop.entity.name"),
        RETRIEVAL: ("gen_ai.data_source.id",),
        DATABASE: ("db.system.name", "db.system"),
        QUEUE: ("messaging.destination.name", "messaging.destination", "messaging.system"),
        PERSON: (),
    }
)
"""Where the name behind the role stands."""
OPERATIONS: Final = frozenset({"execute_tool", "retrieval", "chat", "embeddings", "text_completion", "generate_content"})
"""First words of span names, behind which the name stands that no attribute gave."""
NAMESPACES: Final = ("db.namespace", "db.name")
PEERS: Final = ("peer.service", "service.peer.name")
HOSTS: Final = ("server.address", "net.peer.name")
"""Names of machines: taken for the peer where they are neither an address nor this machine."""
TENANTS: Final = ("headway.tenant", "tenant.id")
INPUT_TOKENS: Final = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt")
CACHED_TOKENS: Final = (
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.cache_read_input_tokens",
    "llm.token_count.prompt_details.cache_read",
)
GIVEN: Final = ("gen_ai.tool.call.arguments", "headway.inputs", "input.value")
GAVE: Final = ("gen_ai.tool.call.result", "headway.outputs", "output.value")
SERVICE: Final = "service.name"
WANTED: Final = frozenset(
    [
        *(rule.key for rule in RULES),
        *(key for keys in NAMES.values() for key in keys),
        *(*NAMESPACES, *PEERS, *HOSTS, *TENANTS, *INPUT_TOKENS, *CACHED_TOKENS, *GIVEN, *GAVE),
        *(HOP, HOP_KIND, "error", "span.kind"),
    ]
)
"""Every attribute of a span that is looked at; readers need not decode others."""


_TELLING: Final = WANTED - {*PEERS, *HOSTS, "error", "span.kind"}
"""Keys of which one at least must be there for anything but a peer to be told."""


class Recognised(msgspec.Struct, frozen=True, kw_only=True):
    """What attributes say of a span. ``hop`` empty: the service's own."""

    role: str = ""
    hop: str = ""
    peer: str = ""
    """Who was called, where the span is of a client."""
    tenant: str = ""
    input_tokens: int | None = None
    cached_tokens: int | None = None
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


NOTHING: Final = Recognised()


def recognise(name: str, kind: str, attributes: Mapping[str, Value]) -> Recognised:
    """``name`` of the span; ``kind`` client, server, internal, producer, consumer or empty. Other attributes than ``WANTED`` do not matter."""
    if not attributes:
        return NOTHING
    if _TELLING.isdisjoint(attributes):  # most spans: a client's that names its peer, if anything
        peer = "" if kind == SERVER else _peer(attributes)
        return Recognised(peer=peer) if peer else NOTHING
    role = _role(kind, attributes)
    hop = _text(attributes, (HOP,)) or (_hop(role, name, attributes) if role else "")
    data = role not in ("", MODEL) or HOP in attributes
    return Recognised(
        role=role,
        hop=hop[:TRACE_NAME_CHARS_MAX],
        peer="" if kind == SERVER else _peer(attributes),
        tenant=_text(attributes, TENANTS),
        input_tokens=_whole(attributes, INPUT_TOKENS),
        cached_tokens=_whole(attributes, CACHED_TOKENS),
        inputs=data_hashes(attributes, GIVEN) if data else (),
        outputs=data_hashes(attributes, GAVE) if data else (),
    )


def _role(kind: str, attributes: Mapping[str, Value]) -> str:
    told = attributes.get(HOP_KIND)
    if told in ROLES:
        return str(told)
    for rule in RULES:
        value = attributes.get(rule.key)
        if value is not None and (rule.values is None or value in rule.values):
            return rule.role if kind != SERVER or rule.role == MODEL else ""
    return ""


def _hop(role: str, name: str, attributes: Mapping[str, Value]) -> str:
    found = _text(attributes, NAMES[role])
    if not found:
        first, _, rest = name.partition(" ")
        found = rest if first in OPERATIONS else name if role == TOOL else ""
    if role == DATABASE and (space := _text(attributes, NAMESPACES)):
        found = f"{found}/{space}"
    return f"{role} {found}".strip()


def _peer(attributes: Mapping[str, Value]) -> str:
    if named := _text(attributes, PEERS):
        return named
    host = _text(attributes, HOSTS)
    return "" if not host or host == "localhost" or ":" in host or host.replace(".", "").isdigit() else host


def _text(attributes: Mapping[str, Value], keys: Sequence[str]) -> str:
    for key in keys:
        value = attributes.get(key)
        if value is not None and value != "":
            return str(value)[:TRACE_NAME_CHARS_MAX]
    return ""


def _whole(attributes: Mapping[str, Value], keys: Sequence[str]) -> int | None:
    for key in keys:
        value = attributes.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53:
            return value
    return None


def data_hashes(attributes: Mapping[str, Value], keys: Sequence[str]) -> tuple[str, ...]:
    """Hashes of the single values in JSON texts: enough to see that one span was given what another gave, and no more than that."""
    found: dict[str, None] = {}
    for key in keys:
        text = attributes.get(key)
        if not isinstance(text, str):
            continue
        try:
            value: object = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError):
            value = text
        for single in _singles(value):
            found[hashlib.blake2b(single.encode("utf-8", "replace"), digest_size=6).hexdigest()] = None
            if len(found) >= TRACE_DATA_VALUES_MAX:
                return tuple(found)
    return tuple(found)


def _singles(value: object) -> Iterator[str]:
    waiting = [value]
    while waiting:
        at = waiting.pop()
        if isinstance(at, dict):
            waiting += at.values()
        elif isinstance(at, list):
            waiting += at
        elif isinstance(at, str | int | float) and not isinstance(at, bool) and len(str(at)) >= DATA_VALUE_CHARS_MIN:
            yield str(at)
