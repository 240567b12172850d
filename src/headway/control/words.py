"""Numbers and instants as people read them: three figures at most, unit beside them, "unknown" when it is not known."""

from datetime import UTC, datetime

from headway.kernel.figure import Figure
from headway.kernel.money import NANO_PER_USD, usd_text

NONE = "–"
_MS_PER_S, _S_PER_MIN, _S_PER_H, _S_PER_DAY = 1_000, 60, 3_600, 86_400
_STATES = {
    "done": ("ok", "done"),
    "in_flight": ("live", "in flight"),
    "refused": ("warn", "refused"),
    "evicted": ("warn", "evicted"),
    "client_gone": ("warn", "client gone"),
    "upstream_error": ("bad", "upstream error"),
    "incomplete": ("bad", "incomplete"),
    "timeout": ("bad", "timeout"),
    "internal": ("bad", "internal error"),
    "unknown": ("unknown", "unknown"),
}


def state_words(state: str) -> tuple[str, str]:
    """Tone (ok, live, warn, bad, unknown) and words of a call's state."""
    return _STATES.get(state, ("unknown", state.replace("_", " ")))


def count(n: float | None) -> str:
    """1,234 with separators; a dash for None."""
    return NONE if n is None else f"{n:,.0f}"


def short_count(n: float | None) -> str:
    """12.3k, 4.5M: for tokens in tables."""
    if n is None:
        return NONE
    if n < 9_999.5:
        return f"{n:,.0f}"
    for unit, size in (("k", 1e3), ("M", 1e6), ("G", 1e9)):
        if n / size < 999.5:
            return f"{n / size:.3g}{unit}"
    return f"{n / 1e9:,.0f}G"


def milliseconds(ms: float | None) -> str:
    """8.4 ms, 340 ms, 1.24 s, 3 min 05 s; a dash for None."""
    if ms is None:
        return NONE
    if ms < 10:
        return f"{ms:.1f} ms"
    if ms < _MS_PER_S - 0.5:
        return f"{ms:.0f} ms"
    seconds = ms / _MS_PER_S
    if seconds < 99.95:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), _S_PER_MIN)
    if minutes < _S_PER_MIN:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // _S_PER_MIN} h {minutes % _S_PER_MIN:02d} min"


def seconds_span(seconds: float) -> str:
    """A stretch of time in its largest fitting unit: 12 s, 4 min, 3 h, 2 d."""
    if seconds < _S_PER_MIN * 1.5:
        return f"{max(0, seconds):.0f} s"
    if seconds < _S_PER_H * 1.5:
        return f"{seconds / _S_PER_MIN:.0f} min"
    if seconds < _S_PER_DAY * 1.5:
        return f"{seconds / _S_PER_H:.0f} h"
    return f"{seconds / _S_PER_DAY:.0f} d"


def ago(wall_ms: int | None, now_ms: int) -> str:
    """12 s ago; in 3 h for the future; a dash for None."""
    if wall_ms is None:
        return NONE
    seconds = (now_ms - wall_ms) / _MS_PER_S
    if seconds < -0.5:
        return f"in {seconds_span(-seconds)}"
    return f"{seconds_span(seconds)} ago"


def instant(wall_ms: int | None) -> str:
    """2026-11-24 10:15:03.120 UTC, for the hover."""
    if wall_ms is None:
        return NONE
    return datetime.fromtimestamp(wall_ms / _MS_PER_S, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + " UTC"


def iso(wall_ms: int) -> str:
    """For the ``datetime`` attribute."""
    return datetime.fromtimestamp(wall_ms / _MS_PER_S, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def usd(nano: int | None) -> str:
    """$0.00123, $1.23, $1,230; "unknown" for None, never 0."""
    if nano is None:
        return "unknown"
    if nano == 0:
        return "$0"
    size = abs(nano) / NANO_PER_USD
    places = 0 if size >= 1000 else 2 if size >= 1 else 4 if size >= 0.01 else 6
    return usd_text(nano, places)


def usd_short(nano: int | None) -> str:
    """For tables: four decimals below $1, so that points stand below each other; what is smaller says so."""
    if nano is None or nano == 0 or abs(nano) >= NANO_PER_USD:
        return usd(nano)
    return "<$0.0001" if abs(nano) < NANO_PER_USD // 10_000 else usd_text(nano, 4)


def percent(share: float | None) -> str:
    """3.2 %, 0.04 %; a dash for None."""
    if share is None:
        return NONE
    value = share * 100
    return "0 %" if value == 0 else f"{value:.2f} %" if value < 1 else f"{value:.1f} %" if value < 99.95 else "100 %"


def interval(figure: Figure) -> str:
    """The interval of a figure in milliseconds: 310 – 420 ms; empty without one."""
    if figure.low is None or figure.high is None:
        return ""
    return f"{milliseconds(figure.low)} – {milliseconds(figure.high)}"


def short_id(identifier: str) -> str:
    """The end of an id, which is its random part: enough to tell rows apart."""
    return "…" + identifier[-6:] if len(identifier) > 8 else identifier


def plural(n: int, one: str, many: str = "") -> str:
    """1 call, 2 calls."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"
