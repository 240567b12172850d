"""What a call costs, in whole numbers: find a model's prices in the dated table, price a usage, bound a call before it is sent.

Unknown stays unknown: a model without a row, a kind of token without a price and a usage that was not reported give None, never 0. The
table knows tokens and requests; tool fees (searches, code runs) and dearer audio or image tokens are not in a ``Usage`` and not in a cost.
"""

from bisect import bisect_right
from typing import Final, NamedTuple

import msgspec

from headway.calls.conversation import Usage
from headway.kernel.money import PICO_PER_NANO, NanoUsd, nano_from_pico

FREE: Final = "free"
"""The price provider of engines of your own: every model of it costs a known 0."""


class PriceRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Prices of one provider's model in pico-dollars a token; None is unknown. ``above_tokens`` starts the tier that applies to larger prompts.

    A token kind without a price of its own is billed as its parent kind: cached and written tokens as input, reasoning as output.
    """

    provider: str
    model: str
    """Lower case. A name, or with ``prefix`` the beginning of names such as dated variants."""
    input_pico: int | None = None
    output_pico: int | None = None
    cached_input_pico: int | None = None
    cache_write_pico: int | None = None
    cache_write_1h_pico: int | None = None
    above_tokens: int = 0
    request_pico: int = 0
    reasoning_pico: int | None = None
    prefix: bool = False
    tiers: tuple["PriceRow", ...] = ()
    """Whole price lists for prompts of more than their ``above_tokens``, ascending. The whole call is billed by the last that applies."""


class PriceTable(msgspec.Struct, frozen=True, kw_only=True):
    """``version`` names package version and date. ``rows`` are exact names and ``prefixes`` beginnings of names, both sorted by (provider, model)."""

    version: str
    rows: tuple[PriceRow, ...] = ()
    prefixes: tuple[PriceRow, ...] = ()
    valid_until_wall_ms: int | None = None
    """When a price in it changes next, as far as is known: control sends another table then."""


class Cost(NamedTuple):
    """``nano_usd`` None is unknown. ``source``: ``table``, ``free`` or ``unknown``."""

    nano_usd: NanoUsd | None
    source: str


UNKNOWN: Final = Cost(None, "unknown")
_FREE_ROW: Final = PriceRow(provider=FREE, model="", input_pico=0, output_pico=0)


def find(table: PriceTable, provider: str, model: str) -> PriceRow | None:
    """The row of a model as ``provider`` (a price provider id) names it; None is unknown.

    An exact name wins, then the longest beginning that matches; a compact date (``-20251211``) is tried as ``-2025-12-11`` too.
    """
    if provider == FREE:
        return _FREE_ROW
    name = model.lower()
    found = _lookup(table, provider, name)
    if found is None and (dashed := _dashed_date(name)) != name:
        found = _lookup(table, provider, dashed)
    return found


def cost(usage: Usage, row: PriceRow | None) -> Cost:
    """The price of what was used, rounded once, half to even, to a nano-dollar."""
    if row is None:
        return UNKNOWN
    if row.provider == FREE:
        return Cost(NanoUsd(0), FREE)
    pico = _pico(usage, tier_for(row, usage.input_tokens or 0))
    return UNKNOWN if pico is None else Cost(nano_from_pico(pico), "table")


def reservation(row: PriceRow | None, input_tokens_upper: int, output_tokens_max: int) -> NanoUsd | None:
    """The most a call can cost: every tier that its prompt may reach, every input token at the dearest input price. None is unknown."""
    if row is None:
        return None
    if row.provider == FREE:
        return NanoUsd(0)
    reachable = (row, *(t for t in row.tiers if input_tokens_upper > t.above_tokens))
    worst = [_pico_upper(tier, input_tokens_upper, output_tokens_max) for tier in reachable]
    known = [pico for pico in worst if pico is not None]
    return NanoUsd(-(-max(known) // PICO_PER_NANO)) if len(known) == len(worst) else None


def tier_for(row: PriceRow, input_tokens: int) -> PriceRow:
    """The price list that bills a prompt of this size: the last whose start it exceeds."""
    applies = row
    for tier in row.tiers:
        if input_tokens > tier.above_tokens:
            applies = tier
    return applies


def _pico(usage: Usage, row: PriceRow) -> int | None:
    if usage.input_tokens is None:
        return None
    cached = usage.cached_tokens or 0
    written_1h = usage.cache_write_1h_tokens or 0
    written = max(usage.cache_write_tokens or 0, written_1h) - written_1h
    plain = usage.input_tokens - cached - written - written_1h
    reasoning = usage.reasoning_tokens or 0 if row.reasoning_pico is not None else 0
    if usage.output_tokens is None and row.output_pico is not None:
        return None
    answer = (usage.output_tokens or 0) - reasoning
    if plain < 0 or answer < 0:  # parts larger than the whole: the report contradicts itself
        return None
    write_pico = _first(row.cache_write_pico, row.input_pico)
    parts = (
        (plain, row.input_pico),
        (cached, _first(row.cached_input_pico, row.input_pico)),
        (written, write_pico),
        (written_1h, _first(row.cache_write_1h_pico, write_pico)),
        (answer, row.output_pico),
        (reasoning, row.reasoning_pico),
    )
    return _sum(row, parts)


def _pico_upper(row: PriceRow, input_tokens: int, output_tokens: int) -> int | None:
    dearest_input = [
        p for p in (row.input_pico, row.cached_input_pico, row.cache_write_pico, row.cache_write_1h_pico) if p is not None
    ]
    dearest_output = [p for p in (row.output_pico, row.reasoning_pico) if p is not None]
    parts = (
        (input_tokens, max(dearest_input) if row.input_pico is not None else None),
        # Embeddings have no output price: they answer no tokens, whatever maximum was named.
        (output_tokens, max(dearest_output) if dearest_output else 0),
    )
    return _sum(row, parts)


def _sum(row: PriceRow, parts: tuple[tuple[int, int | None], ...]) -> int | None:
    total = row.request_pico
    for tokens, price in parts:
        if tokens:
            if price is None:
                return None
            total += tokens * price
    return total


def _first(own: int | None, parent: int | None) -> int | None:
    return parent if own is None else own


def _key(row: PriceRow) -> tuple[str, str]:
    return (row.provider, row.model)


def _lookup(table: PriceTable, provider: str, name: str) -> PriceRow | None:
    at = bisect_right(table.rows, (provider, name), key=_key)
    if at and _key(table.rows[at - 1]) == (provider, name):
        return table.rows[at - 1]
    return _longest_prefix(table.prefixes, provider, name)


def _longest_prefix(prefixes: tuple[PriceRow, ...], provider: str, name: str) -> PriceRow | None:
    """In sorted order the nearest entry at or before a name either begins it, or shares with it all that a shorter match could have."""
    probe = name
    while probe:
        at = bisect_right(prefixes, (provider, probe), key=_key)
        if not at or prefixes[at - 1].provider != provider:
            return None
        nearest = prefixes[at - 1]
        if name.startswith(nearest.model):
            return nearest
        probe = probe[: _common(nearest.model, probe)]
    return None


def _common(a: str, b: str) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _dashed_date(name: str) -> str:
    """``gpt-5.2-20251211`` as ``gpt-5.2-2025-12-11``; other names as they are."""
    stem, _, date = name.rpartition("-")
    if stem and len(date) == 8 and date.isdigit() and date.startswith("20"):
        return f"{stem}-{date[:4]}-{date[4:6]}-{date[6:]}"
    return name
