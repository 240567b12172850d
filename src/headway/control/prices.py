"""The dated price table, compiled from the data that ships with ``genai-prices`` (MIT), offline, into whole numbers for the gateways.

Only price providers that the settings use are compiled. Names come from three places: the exact names of the data, the models that the
settings name (asked of the package's own matcher, so that patterns count), and beginnings of names where the data says that every
continuation, or every dated one, costs the same. Batch prices are left out: calls through the gateway are not batches.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from importlib.metadata import version
from typing import Final

from genai_prices.data_snapshot import find_provider_by_id, get_snapshot
from genai_prices.types import (
    ClauseContains,
    ClauseEndsWith,
    ClauseEquals,
    ClauseOr,
    ClauseStartsWith,
    ModelInfo,
    ModelPrice,
    Provider,
    StartDateConstraint,
    Tier,
    TieredPrices,
    TimeOfDateConstraint,
)
from msgspec.structs import replace

from headway.calls.pricing import FREE, PriceRow, PriceTable
from headway.config.model import Settings
from headway.config.presets import price_provider
from headway.kernel.instants import WallMs
from headway.kernel.money import PICO_PER_USD, pico_per_token

_FIELDS: Final = {
    "input_pico": "input_mtok",
    "output_pico": "output_mtok",
    "cached_input_pico": "cache_read_mtok",
    "cache_write_pico": "cache_write_mtok",
    "cache_write_1h_pico": "cache_write_1h_mtok",
    "reasoning_pico": "output_reasoning_mtok",
}
_ANY_CONTINUATION: Final = "~"
"""A continuation that no rule of the data knows: what still matches is a true prefix rule."""
_DATES: Final = ("-20990101", "-2099-01-01")
_DATED: Final = re.compile(r"-20\d\d-?\d\d-?\d\d")
_ISO_DATE: Final = re.compile(r"20\d\d-\d\d-\d\d")
_REQUESTS_PER_PRICE: Final = 1_000


def compile_prices(settings: Settings, now: WallMs) -> PriceTable:
    """The table for these settings as prices stand at ``now``."""
    when = datetime.fromtimestamp(now / 1000, UTC)
    snapshot = get_snapshot().providers
    rows: dict[tuple[str, str], PriceRow] = {}
    prefixes: dict[tuple[str, str], PriceRow] = {}
    used: dict[int, ModelInfo] = {}
    for price_id, named in sorted(_used(settings).items()):
        provider = find_provider_by_id(snapshot, price_id)
        if provider is None:
            continue
        for name, model in _exact(provider, snapshot, named):
            rows[price_id, name] = _row(price_id, name, model, when)
            used[id(model)] = model
        for name, model in _beginnings(provider, snapshot, named):
            prefixes[price_id, name] = _row(price_id, name, model, when, prefix=True)
            used[id(model)] = model
    changes = [at for model in used.values() if (at := _next_change(model, when)) is not None]
    return PriceTable(
        version=f"genai-prices {version('genai-prices')}, data of {data_date(now).isoformat()}",
        rows=tuple(rows[k] for k in sorted(rows)),
        prefixes=tuple(prefixes[k] for k in sorted(prefixes)),
        valid_until_wall_ms=int(min(changes).timestamp() * 1000) if changes else None,
    )


def data_date(now: WallMs) -> date:
    """The newest day, not after today, that the data itself names: its notes of when a price was checked, and starts of prices."""
    today = datetime.fromtimestamp(now / 1000, UTC).date()
    days = [date(2024, 1, 1)]
    for provider in get_snapshot().providers:
        days.extend(_days(provider.price_comments))
        for model in provider.models:
            days.extend(_days(model.price_comments))
            days.extend(c.start_date for c in _constraints(model) if isinstance(c, StartDateConstraint))
    return max(day for day in days if day <= today)


def _used(settings: Settings) -> dict[str, set[str]]:
    """Price provider id to the model names that the settings mention for it."""
    used: dict[str, set[str]] = {}
    for name, provider in settings.providers.items():
        price_id = price_provider(provider)
        if price_id and price_id != FREE:
            named = used.setdefault(price_id, set())
            named.update(model.lower() for model in provider.models)
            targets = (t.partition("/") for feature in settings.features.values() for t in feature.targets)
            named.update(model.lower() for owner, _, model in targets if owner == name and model)
    return used


def _models(provider: Provider, everyone: list[Provider]) -> Iterator[ModelInfo]:
    yield from provider.models
    for fallback in provider.fallback_model_providers or ():
        yield from next((p.models for p in everyone if p.id == fallback), ())


def _exact(provider: Provider, everyone: list[Provider], named: set[str]) -> Iterator[tuple[str, ModelInfo]]:
    names = set(named)
    for model in _models(provider, everyone):
        names.add(model.id.lower())
        names.update(text for clause, text in _clauses(model) if clause in (ClauseEquals, ClauseEndsWith))
    for name in names:
        if (found := provider.find_model(name, all_providers=everyone)) is not None:
            yield name, found


def _beginnings(provider: Provider, everyone: list[Provider], named: set[str]) -> Iterator[tuple[str, ModelInfo]]:
    for model in _models(provider, everyone):
        for clause, text in _clauses(model):
            if clause in (ClauseStartsWith, ClauseContains):
                found = provider.find_model(text + _ANY_CONTINUATION, all_providers=everyone)
                if found is not None:
                    yield text, found
    for name, model in _exact(provider, everyone, named):
        if not _DATED.search(name) and any(provider.find_model(name + dated, all_providers=everyone) is model for dated in _DATES):
            yield name + "-20", model


def _clauses(model: ModelInfo) -> Iterator[tuple[type, str]]:
    """The alternatives of a model's rule that speak of text. Conjunctions and patterns are left to the package's matcher."""
    open_clauses = [model.match]
    while open_clauses:
        clause = open_clauses.pop()
        if isinstance(clause, ClauseOr):
            open_clauses.extend(clause.or_)
        elif isinstance(clause, ClauseEquals):
            yield ClauseEquals, clause.equals.lower()
        elif isinstance(clause, ClauseStartsWith):
            yield ClauseStartsWith, clause.starts_with.lower()
        elif isinstance(clause, ClauseContains):
            yield ClauseContains, clause.contains.lower()
        elif isinstance(clause, ClauseEndsWith):
            yield ClauseEndsWith, clause.ends_with.lower()


def _row(price_id: str, name: str, model: ModelInfo, when: datetime, *, prefix: bool = False) -> PriceRow:
    prices = model.get_prices(when)
    known = {key: value for key, value in vars(prices).items() if value is not None}
    if not known and model.id.endswith(":free"):
        return PriceRow(provider=price_id, model=name, prefix=prefix, input_pico=0, output_pico=0)
    starts = sorted({tier.start for key in _FIELDS.values() for tier in _tiers(prices, key)})
    base = PriceRow(provider=price_id, model=name, prefix=prefix)
    tiers = tuple(replace(base, above_tokens=start, prefix=False, **_level(prices, start)) for start in starts)
    return replace(base, tiers=tiers, **_level(prices, -1))


def _level(prices: ModelPrice, start: int) -> dict[str, int]:
    """Prices for prompts just larger than ``start``; -1 is the base."""
    out: dict[str, int] = {}
    for field, key in _FIELDS.items():
        value = getattr(prices, key)
        if isinstance(value, TieredPrices):
            value = next((t.price for t in reversed(value.tiers) if t.start <= start), value.base)
        if value is not None:
            out[field] = int(pico_per_token(value))
    if isinstance(requests := getattr(prices, "requests_kcount", None), Decimal):
        out["request_pico"] = int(requests * PICO_PER_USD / _REQUESTS_PER_PRICE)
    return out


def _tiers(prices: ModelPrice, key: str) -> list[Tier]:
    value = getattr(prices, key)
    return value.tiers if isinstance(value, TieredPrices) else []


def _constraints(model: ModelInfo) -> Iterator[StartDateConstraint | TimeOfDateConstraint]:
    if not isinstance(model.prices, ModelPrice):
        yield from (c.constraint for c in model.prices if c.constraint is not None)


def _next_change(model: ModelInfo, when: datetime) -> datetime | None:
    coming: list[datetime] = []
    for constraint in _constraints(model):
        if isinstance(constraint, StartDateConstraint):
            coming.append(datetime.combine(constraint.start_date, time(), UTC))
        else:
            coming.extend(_daily(t, when) for t in (constraint.start_time, constraint.end_time))
    return min((at for at in coming if at > when), default=None)


def _daily(at: time, when: datetime) -> datetime:
    """The next instant after ``when`` at this time of day; times without a zone are UTC."""
    zoned = at if at.tzinfo else at.replace(tzinfo=UTC)
    today = datetime.combine(when.date(), zoned).astimezone(UTC)
    return today if today > when else today + timedelta(days=1)


def _days(comments: str | None) -> Iterable[date]:
    for text in _ISO_DATE.findall(comments or ""):
        try:
            yield date.fromisoformat(text)
        except ValueError:
            continue  # a date that does not exist is a typing error of the data, and dates nothing
