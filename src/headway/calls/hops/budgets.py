"""``hops.toml``: how long a kind of request may take, and how much of it each hop may own. Kept beside the code that it bounds.

    [requests."api-edge POST /checkout"]      # a request type as `headway hops attribute` names it; "*" is every other one
    p99_ms = 800

    [requests."api-edge POST /checkout".hops.auth]
    p99_ms = 60                               # of the request's p99: what hops own of it adds up
    share = 0.1                               # the same as a part of the p99

    [[safe]]                                  # two calls that may run together, and who says so
    first = "auth check"
    then = "search find"
    says = "Ana: search writes nothing"

Unknown keys are fatal, with their line and the nearest known one; so is a budget that cannot be kept because its parts add up to more than the whole.
"""

import tomllib
from math import isfinite
from typing import Final

import msgspec

from headway.calls.hops.pairs import PairKey
from headway.config.decode import decode
from headway.config.locate import Path as KeyPath
from headway.config.locate import locate
from headway.config.problems import ConfigProblems, did_you_mean, dotted, shown
from headway.kernel.errors import ConfigError

EVERY_OTHER: Final = "*"
QUANTILE_KEYS: Final = ("p50_ms", "p95_ms", "p99_ms")
QUANTILES: Final = (0.50, 0.95, 0.99)
BY: Final = ("root", "calls")
BEYOND_MIN = 3
"""Traces expected beyond a quantile, of fewer it cannot be told: 300 for a p99, 60 for a p95."""
TRACES_MIN = 30
_AT_LINE: Final = "(at line "


class HopBudget(msgspec.Struct, frozen=True, kw_only=True):
    """``[requests.TYPE.hops.HOP]``: the most that a hop may own of the request's quantile."""

    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    share: float | None = None
    """Of the p99, 0 to 1."""


class RequestBudget(msgspec.Struct, frozen=True, kw_only=True):
    """``[requests.TYPE]``: the most that the request may take, from end to end."""

    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    hops: dict[str, HopBudget] = {}


class SafePair(msgspec.Struct, frozen=True, kw_only=True):
    """``[[safe]]``: two calls of which somebody who knows says that they may run together."""

    first: str = ""
    then: str = ""
    """As `headway hops attribute` names them."""
    request: str = EVERY_OTHER
    """The request type; ``*`` is any."""
    says: str = ""
    """Who, and why."""


class Budgets(msgspec.Struct, frozen=True, kw_only=True):
    """The whole file."""

    by: str = "root"
    """How requests are told apart: ``root``, or ``calls`` for roots that all look alike."""
    traces_min: int | None = None
    """Fewer traces of a type cannot tell. Unset: 300 where a p99 or a share is budgeted, 60 for a p95, 30 for a p50."""
    requests: dict[str, RequestBudget] = {}
    safe: tuple[SafePair, ...] = ()

    def confirms(self, key: PairKey) -> bool:
        """Whether a pair that could run together was said to be safe."""
        return any(
            (pair.first, pair.then) == (key.first, key.then) and pair.request in (EVERY_OTHER, key.request_type)
            for pair in self.safe
        )


def least_traces(budgets: Budgets, quantile: float) -> int:
    """How many traces a verdict at ``quantile`` needs."""
    needed = max(TRACES_MIN, round(BEYOND_MIN / (1 - quantile)))
    return needed if budgets.traces_min is None else max(TRACES_MIN, budgets.traces_min)


def parse(text: str, name: str = "hops.toml") -> Budgets:
    """The budgets in ``text``. ``ConfigError`` with every mistake, each at its line of ``name``."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _not_toml(name, str(error)) from None
    reading = _Reading(name, locate(text))
    budgets: Budgets = decode(Budgets, raw, (), reading.problem)
    _check(budgets, reading)
    if reading.problems:
        raise ConfigProblems(tuple(error for _, error in sorted(reading.problems, key=lambda pair: pair[0])))
    return budgets


class _Reading:
    """Gathers problems with their lines."""

    def __init__(self, name: str, lines: dict[KeyPath, int]) -> None:
        self._name, self._lines = name, lines
        self.problems: list[tuple[int, ConfigError]] = []

    def problem(self, path: KeyPath, problem: str, fix: str) -> None:
        line = next((self._lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self._lines), 0)
        where = f"{self._name}:{line}" if line else self._name
        fix = "" if fix.startswith("it belongs in") else fix  # which speaks of headway.toml
        self.problems.append((line, ConfigError(f"{dotted(path)} {problem}", where=where, fix=fix)))


def _not_toml(name: str, message: str) -> ConfigError:
    what, _, place = message.partition(_AT_LINE)
    line = place.partition(",")[0]
    return ConfigError(
        f"is not TOML: {what.strip()}", where=f"{name}:{line}" if line.isdigit() else name, fix="see `headway hops check --help`"
    )


def _check(budgets: Budgets, reading: _Reading) -> None:
    if budgets.by not in BY:
        reading.problem(("by",), f"{shown(budgets.by)} is not a way{did_you_mean(budgets.by, BY)}", "ways: " + ", ".join(BY))
    if budgets.traces_min is not None and budgets.traces_min < TRACES_MIN:
        reading.problem(("traces_min",), f"is {budgets.traces_min}; of fewer than {TRACES_MIN} nothing can be told", "")
    if not budgets.requests:
        reading.problem(("requests",), "is missing: nothing has a budget", 'e.g. [requests."*"] with p99_ms = 800')
    for number, pair in enumerate(budgets.safe):
        if not pair.first or not pair.then:
            reading.problem(
                ("safe", number), "names no two calls", "give it first and then, as `headway hops attribute` names them"
            )
    for kind, request in budgets.requests.items():
        path: KeyPath = ("requests", kind)
        _positive(request, path, reading)
        for hop, budget in request.hops.items():
            _positive(budget, (*path, "hops", hop), reading)
            if budget.share is not None and not 0 < budget.share <= 1:
                reading.problem((*path, "hops", hop, "share"), f"is {budget.share:g}; it must lie between 0 and 1", "")
        _sums(request, path, reading)
        if not request.hops and all(getattr(request, key) is None for key in QUANTILE_KEYS):
            reading.problem(path, "has no budget", "give it " + ", ".join(QUANTILE_KEYS) + " or hops")


def _positive(budget: RequestBudget | HopBudget, path: KeyPath, reading: _Reading) -> None:
    for key in QUANTILE_KEYS:
        value = getattr(budget, key)
        if value is not None and not (isfinite(value) and value > 0):
            reading.problem((*path, key), f"is {value:g}; it must be above 0", "")


def _sums(request: RequestBudget, path: KeyPath, reading: _Reading) -> None:
    """What hops own of a quantile adds up to it, so their budgets may not add up to more."""
    for key in QUANTILE_KEYS:
        whole = getattr(request, key)
        parts = [value for hop in request.hops.values() if (value := getattr(hop, key)) is not None]
        if whole is not None and parts and sum(parts) > whole:
            reading.problem((*path, key), f"is {whole:g}, and its hops may take {sum(parts):g}", "lower a hop's, or raise it")
