"""Where spans of any form end up: whole ones as ``SeenSpan``, the others counted by the reason for which they were refused."""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from headway.calls.hops.recognise import WANTED, Value, recognise
from headway.calls.hops.seen import SeenSpan
from headway.facts.repair import clamped
from headway.kernel.errors import HeadwayError
from headway.kernel.limits import TRACE_ATTRIBUTE_CHARS_MAX, TRACE_ID_CHARS_MAX, TRACE_NAME_CHARS_MAX

KINDS: Final = ("", "internal", "server", "client", "producer", "consumer")
"""By number in OTLP."""
ID_MALFORMED, SPAN_UNREADABLE, BODY_UNREADABLE = "id_malformed", "span_unreadable", "body_unreadable"
ATTRIBUTE_TRUNCATED, NAME_TRUNCATED, PARENT_MALFORMED = "attribute_truncated", "name_truncated", "parent_malformed"
ERROR: Final = "error"
_DIGITS: Final = "0123456789abcdef"


class Unreadable(HeadwayError):
    """A body or a file that is none of the known forms, or is cut off; ``str()`` says what and where."""


class Reading:
    """Spans in the order in which they were read. ``refused`` counts spans (bodies, where it is ``body_unreadable``), ``mended`` what was changed."""

    __slots__ = ("mended", "refused", "spans")

    def __init__(self) -> None:
        self.spans: list[SeenSpan] = []
        self.refused: Counter[str] = Counter()
        self.mended: Counter[str] = Counter()

    @property
    def spans_in(self) -> int:
        """Spans that were there, kept or refused; those of a body that could not be read are not known."""
        return len(self.spans) + self.refused.total() - self.refused[BODY_UNREADABLE]

    def take(
        self,
        *,
        trace: str,
        span: str,
        parent: str,
        service: str,
        name: str,
        kind: str,
        start_us: int,
        duration_us: int,
        attributes: Mapping[str, Value],
        awaited: bool = True,
        error: bool = False,
    ) -> None:
        """One span. ``attributes`` need hold no more than those in ``WANTED``."""
        if not 0 < len(trace) <= TRACE_ID_CHARS_MAX or not 0 < len(span) <= TRACE_ID_CHARS_MAX:
            self.refused[ID_MALFORMED] += 1
            return
        if len(parent) > TRACE_ID_CHARS_MAX:
            self.mended[PARENT_MALFORMED] += 1
            parent = ""
        told = recognise(name, kind, attributes)
        self.spans.append(
            SeenSpan(
                trace=trace,
                span=span,
                parent=parent,
                service=self._cut(service),
                name=self._cut(name),
                kind=kind,
                role=told.role,
                hop=told.hop,
                peer=told.peer,
                start_us=clamped(start_us),
                duration_us=clamped(duration_us),
                awaited=awaited,
                error=error,
                tenant=told.tenant,
                input_tokens=told.input_tokens,
                cached_tokens=told.cached_tokens,
                inputs=told.inputs,
                outputs=told.outputs,
            )
        )

    def put(self, attributes: dict[str, Value], key: str, value: Value | None) -> None:
        """One attribute, where anybody looks at it; a text that is too long is cut and counted, whoever looks."""
        if isinstance(value, str) and len(value) > TRACE_ATTRIBUTE_CHARS_MAX:
            self.mended[ATTRIBUTE_TRUNCATED] += 1
            value = value[:TRACE_ATTRIBUTE_CHARS_MAX]
        if value is not None and key in WANTED:
            attributes[key] = value

    def _cut(self, name: str) -> str:
        if len(name) <= TRACE_NAME_CHARS_MAX:
            return name
        self.mended[NAME_TRUNCATED] += 1
        return name[:TRACE_NAME_CHARS_MAX]


def is_hex(text: str, chars: int) -> bool:
    """So many hexadecimal digits in lower case that are not all zero."""
    return len(text) == chars and not text.strip(_DIGITS) and bool(text.strip("0"))
