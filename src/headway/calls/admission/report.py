"""Evidence of admission: rows of named queries and calls as intervals in, Figures out. Board, API, command line and metrics read this one result.

Strata are told apart by tenant, class, endpoint and prompt band; a line that pools over any of them says which in ``kind``.
Never imported by ``__init__``: the gateway does not load it.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from math import ceil, floor, sqrt

import msgspec

from headway.calls.admission.alone import Alone, alone_by_place
from headway.calls.admission.bands import band_of
from headway.calls.admission.objectives import Kept, Masking, Objective, Part, masking
from headway.calls.admission.spans import CallSpan
from headway.calls.admission.stalls import Matrix, StepSpan, Work, folded, matrix_of, stalls_estimated, stalls_exact
from headway.kernel.figure import Figure
from headway.kernel.limits import ADMISSION_PEERS_KEPT_MAX, ADMISSION_STRATA_SHOWN_MAX

PERCENTS = {"p50": 50, "p95": 95, "p99": 99}
MEASURES = {"queue_ms": "ms", "first_token_ms": "ms", "slowdown": "times its time alone"}
"""What is measured over every call, with its unit. Token gaps come from the intervals."""
KINDS = {
    "all": (),
    "class": ("klass",),
    "tenant": ("tenant",),
    "endpoint": ("endpoint",),
    "tenant and class": ("tenant", "klass"),
    "tenant, class and band": ("tenant", "klass", "band"),
}
"""What a line is of; a name that is not listed is pooled over."""
NAMES = ("endpoint", "tenant", "klass", "band")
TAIL_CALLS_MIN, TAIL_PERCENT = 20, 95
"""Of fewer calls a 95th or 99th percentile would be the largest of them and no more: it is not shown."""
METHOD = "exact quantile by rank; 95 % interval by order statistics"
_Z95 = 1.959963984540054

__all__ = ["StepSpan", "Work", "report", "stalls_estimated", "stalls_exact"]


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """Which calls a line is of. Names outside ``KINDS[kind]`` are empty."""

    kind: str
    endpoint: str = ""
    tenant: str = ""
    klass: str = ""
    band: str = ""

    @property
    def name(self) -> str:
        """``acme, interactive, giant``."""
        return ", ".join(getattr(self, part) or "none" for part in KINDS[self.kind])


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Of one key: ``judged`` calls had an objective to keep, ``broken`` of them did not; ``allowed_share`` is what their classes allow."""

    key: Key
    calls: int
    answered: int
    refused: int
    evicted: int
    judged: int
    broken: int
    allowed_share: float


class Ranked(msgspec.Struct, frozen=True, kw_only=True):
    """One measure of one key: its quantiles by name, each with the ends of its interval (None outside the sample)."""

    key: Key
    n: int
    values: dict[str, tuple[float | None, float | None, float | None]]


class Quantiles(msgspec.Struct, frozen=True, kw_only=True):
    p50: Figure
    p95: Figure
    p99: Figure


class Stratum(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a table."""

    key: Key
    calls: int
    answered: int
    """Of them with a first token: only these have a first-token time and a slowdown."""
    refused: int
    evicted: int
    queue: Quantiles
    first_token: Quantiles
    slowdown: Quantiles
    gap: Quantiles
    kept: Kept


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """A class in one step of time. Tokens are of prompts and answers of calls that began in it."""

    start_wall_ms: int
    klass: str
    calls: int
    p50_ms: float | None
    p99_ms: float | None
    tokens: int


class LongCall(msgspec.Struct, frozen=True, kw_only=True):
    """A giant prompt, where the chart marks it."""

    call: str
    tenant: str
    klass: str
    admitted_wall_ms: int
    first_token_wall_ms: int | None
    uncached_tokens: int


class AdmissionReport(msgspec.Struct, frozen=True, kw_only=True):
    """A range of time in evidence. ``calls_read`` of ``calls_in_range`` are behind matrix, gaps and time alone: the newest."""

    since_wall_ms: int
    until_wall_ms: int
    bucket_ms: int
    newest_wall_ms: int | None
    endpoint: str
    """Empty: of all endpoints together."""
    tenant: str
    """Empty: of all tenants."""
    pooled: Stratum
    classes: tuple[Stratum, ...]
    tenants: tuple[Stratum, ...]
    endpoints: tuple[Stratum, ...]
    strata: tuple[Stratum, ...]
    left_out: int
    """Lines of ``strata`` over ADMISSION_STRATA_SHOWN_MAX: those with the fewest calls."""
    masking: Masking
    objectives: tuple[Objective, ...]
    alone: tuple[Alone, ...]
    stalls: Matrix
    stalls_by_class: Matrix
    moments: tuple[Moment, ...]
    giants: tuple[LongCall, ...]
    calls_in_range: int
    calls_read: int


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """What the named queries found, in plain values."""

    since_wall_ms: int
    until_wall_ms: int
    bucket_ms: int
    newest_wall_ms: int | None
    endpoint: str
    tenant: str
    counts: tuple[Counts, ...]
    measured: dict[str, tuple[Ranked, ...]]
    spans: tuple[CallSpan, ...]
    """Of every tenant and origin, whatever the rest is confined to: they shared the engine."""
    one_in: int = 1
    """Quantiles were taken of one call in so many."""
    moments: tuple[Moment, ...] = ()
    giants: tuple[LongCall, ...] = ()


def report(
    rows: Rows, alone: Mapping[tuple[str, str], Alone], objectives: Sequence[Objective], now_wall_ms: int
) -> AdmissionReport:
    """All figures of a range. ``alone`` is what ``slowdown`` was measured against: ``alone_by_place`` of the same spans."""
    age_s = max(0.0, (now_wall_ms - rows.newest_wall_ms) / 1000) if rows.newest_wall_ms is not None else 0.0
    counts = {each.key: each for each in rows.counts}
    pooled_counts = counts.get(Key(kind="all")) or _nothing()
    verdict = masking(
        _part(pooled_counts), [_part(c) for c in rows.counts if c.key.kind in ("class", "tenant", "endpoint", "tenant and class")]
    )
    kept = {(part.kind, part.name): part for part in verdict.parts}
    table = _Table(rows, age_s)
    lines = {key: table.line(found, kept.get((key.kind, key.name))) for key, found in counts.items()}

    def of(kind: str) -> tuple[Stratum, ...]:
        return tuple(sorted((line for key, line in lines.items() if key.kind == kind), key=lambda s: (-s.calls, s.key.name)))

    strata = of("tenant, class and band")
    stalls = list(stalls_estimated(rows.spans, alone))
    by_tenant = matrix_of(stalls, "tenant", lambda span: span.tenant, _victims(rows.spans, "tenant"))
    return AdmissionReport(
        since_wall_ms=rows.since_wall_ms,
        until_wall_ms=rows.until_wall_ms,
        bucket_ms=rows.bucket_ms,
        newest_wall_ms=rows.newest_wall_ms,
        endpoint=rows.endpoint,
        tenant=rows.tenant,
        pooled=table.line(pooled_counts, verdict.pooled),
        classes=of("class"),
        tenants=of("tenant")[:ADMISSION_STRATA_SHOWN_MAX],
        endpoints=of("endpoint")[:ADMISSION_STRATA_SHOWN_MAX],
        strata=strata[:ADMISSION_STRATA_SHOWN_MAX],
        left_out=max(0, len(strata) - ADMISSION_STRATA_SHOWN_MAX),
        masking=verdict,
        objectives=tuple(objectives),
        alone=tuple(alone.values()),
        stalls=folded(by_tenant, by_tenant.names()[:ADMISSION_PEERS_KEPT_MAX]),
        stalls_by_class=matrix_of(stalls, "class", lambda span: span.klass, _victims(rows.spans, "klass")),
        moments=rows.moments,
        giants=rows.giants,
        calls_in_range=pooled_counts.calls,
        calls_read=sum(1 for span in rows.spans if not span.parent_call and rows.tenant in ("", span.tenant)),
    )


class _Table:
    """Joins counts, measures and gaps of one key to a line."""

    def __init__(self, rows: Rows, age_s: float) -> None:
        self._age_s, self._one_in = age_s, rows.one_in
        self._measured = {name: {each.key: each for each in found} for name, found in rows.measured.items()}
        self._gaps = gaps_by_key(span for span in rows.spans if rows.tenant in ("", span.tenant))

    def line(self, counts: Counts, kept: Kept | None) -> Stratum:
        key = counts.key
        return Stratum(
            key=key,
            calls=counts.calls,
            answered=counts.answered,
            refused=counts.refused,
            evicted=counts.evicted,
            queue=self._ranked("queue_ms", key),
            first_token=self._ranked("first_token_ms", key),
            slowdown=self._ranked("slowdown", key),
            gap=self._gap(key),
            kept=kept or masking(_part(counts), []).pooled,
        )

    def _ranked(self, measure: str, key: Key) -> Quantiles:
        found = self._measured.get(measure, {}).get(key)
        unit = MEASURES[measure]
        missing = {"slowdown": "the time alone of these calls is not known: too few ran alone, or none with so long a prompt"}.get(
            measure, "no call had one"
        )

        def figure(name: str) -> Figure:
            value, low, high = found.values[name] if found is not None else (None, None, None)
            n = found.n if found is not None else 0
            if few := too_few(n, PERCENTS[name]):
                return Figure(value=None, unit=unit, n=n, method=few, age_s=self._age_s, stratum=key.name)
            sampled = f", of one call in {self._one_in}" if self._one_in > 1 else ""
            method = METHOD + sampled if value is not None else missing
            return Figure(value=value, unit=unit, n=n, method=method, low=low, high=high, age_s=self._age_s, stratum=key.name)

        return Quantiles(p50=figure("p50"), p95=figure("p95"), p99=figure("p99"))

    def _gap(self, key: Key) -> Quantiles:
        gaps = self._gaps.get(key, ())

        def figure(name: str) -> Figure:
            if not gaps:
                return Figure(value=None, unit="ms", n=0, method="no answer was streamed", age_s=self._age_s, stratum=key.name)
            value = gaps[_rank(len(gaps), PERCENTS[name]) - 1]
            method = "exact quantile of the gaps between reads of the newest calls; no interval, since gaps of one call go together"
            return Figure(value=value, unit="ms", n=len(gaps), method=method, age_s=self._age_s, stratum=key.name)

        return Quantiles(p50=figure("p50"), p95=figure("p95"), p99=figure("p99"))


def too_few(n: int, percent: int) -> str:
    """Why a quantile is not shown; empty when it is."""
    return f"n too small: {n}, from {TAIL_CALLS_MIN} on" if 0 < n < TAIL_CALLS_MIN and percent >= TAIL_PERCENT else ""


def gaps_by_key(spans: Iterable[CallSpan]) -> dict[Key, list[float]]:
    """Gaps between reads in milliseconds, sorted, for every key that the spans belong to. Children of calls are nobody's answer."""
    found: dict[Key, list[float]] = {}
    for span in spans:
        if span.parent_call or len(span.reads_ms) < 2:
            continue
        gaps = [b - a for a, b in pairwise(span.reads_ms)]
        for key in keys_of(span):
            found.setdefault(key, []).extend(gaps)
    for gaps in found.values():
        gaps.sort()
    return found


def keys_of(span: CallSpan) -> list[Key]:
    """Every line that a call counts in."""
    names = {"endpoint": span.endpoint, "tenant": span.tenant, "klass": span.klass, "band": band_of(span.whole_tokens)}
    return [Key(kind=kind, **{part: names[part] for part in parts}) for kind, parts in KINDS.items()]


def quantile(values: Sequence[float], percent: int, unit: str, stratum: str = "") -> Figure:
    """The value of rank ceil(n p) with its interval between the ranks n p -+ 1.96 sqrt(n p (1 - p)): as the queries compute it."""
    ordered, n = sorted(values), len(values)
    if not n:
        return Figure(value=None, unit=unit, n=0, method="no call had one", stratum=stratum)
    if few := too_few(n, percent):
        return Figure(value=None, unit=unit, n=n, method=few, stratum=stratum)
    middle = n * percent / 100
    half = _Z95 * sqrt(n * percent * (100 - percent) / 10_000)
    low, high = floor(middle - half), ceil(middle + half) + 1
    return Figure(
        value=ordered[_rank(n, percent) - 1],
        unit=unit,
        n=n,
        method=METHOD,
        low=ordered[low - 1] if low >= 1 else None,
        high=ordered[high - 1] if high <= n else None,
        stratum=stratum,
    )


def time_alone(spans: Sequence[CallSpan]) -> dict[tuple[str, str], Alone]:
    """The lines against which slowdown is measured."""
    return alone_by_place(spans)


def _rank(n: int, percent: int) -> int:
    return max(1, ceil(n * percent / 100))


def _part(counts: Counts) -> Part:
    return Part(
        kind=counts.key.kind, name=counts.key.name, calls=counts.judged, broken=counts.broken, allowed_share=counts.allowed_share
    )


def _nothing() -> Counts:
    return Counts(key=Key(kind="all"), calls=0, answered=0, refused=0, evicted=0, judged=0, broken=0, allowed_share=0.0)


def _victims(spans: Iterable[CallSpan], attribute: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for span in spans:
        if not span.parent_call:
            name = getattr(span, attribute)
            found[name] = found.get(name, 0) + 1
    return found
