"""Reads calls of a range as phases see them: named queries in, ``Seen`` in order of time out. Runs in the facts' threads."""

import importlib
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any

import msgspec

from headway.calls.model import Origin
from headway.calls.phases.model import Seen
from headway.calls.phases.prefix_change import Prompt
from headway.facts.engine import Reader, load_queries
from headway.facts.model import AttemptFact, CallFact
from headway.facts.seen import seen_of
from headway.kernel.limits import (
    PHASE_HEAD_CHARS_MAX,
    PHASE_HEADS_MAX,
    PHASE_PREFIXES_MAX,
    PHASE_TENANTS_MAX,
)

_SHARED_PREFIX = 0.5
"""Of a prompt's blocks: with so many in common the prefix is the same."""
_RUNS_MAX = 4_096


class PhaseQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Calls that began in a range, ``since`` included, ``until`` not."""

    since_wall_ms: int
    until_wall_ms: int
    routed: str = ""
    """provider/model; empty is all."""
    run: str = ""
    oldest: bool = False
    """Of more than a limit the first instead of the newest."""


class Read(msgspec.Struct, frozen=True, kw_only=True):
    """``seen`` in order of time; ``prompts`` of the same calls, without what a token takes; ``left_out`` calls over the limit."""

    seen: tuple[Seen, ...]
    prompts: tuple[Prompt, ...]
    left_out: int = 0


def read_phases(reader: Reader, where: Sequence[PhaseQuery], limit: int) -> Read:
    """Calls of all stretches together: what lies before a call in one may be told by another."""
    rows = _Rows(reader)
    for each in where:
        rows.take(each, limit)
    ordered = rows.ordered()
    return Read(
        seen=rows.seen(ordered),
        prompts=tuple(_prompt(call, rows.tries.get(call.call, []), rows.heads.get(call.call, b"")) for call in ordered),
        left_out=rows.left_out,
    )


def read_call(reader: Reader, call: str, before_ms: int, after_ms: int, limit: int) -> tuple[Seen, Read] | None:
    """One call whatever became of it, and those of its target before and shortly after it; None where it is not stored (yet)."""
    rows = _Rows(reader)
    whole = load_queries()
    found = [msgspec.convert(row, CallFact, strict=False) for row in reader.rows(whole.rows_of_call("call", call))]
    if not found:
        return None
    fact = found[0]
    at = fact.started_wall_ms
    if fact.routed:
        rows.take(PhaseQuery(since_wall_ms=at - before_ms, until_wall_ms=at + 1, routed=fact.routed), limit + 1)
        rows.take(PhaseQuery(since_wall_ms=at, until_wall_ms=at + after_ms, routed=fact.routed, oldest=True), limit)
    if fact.run:
        rows.take(PhaseQuery(since_wall_ms=at - before_ms, until_wall_ms=at + 1, run=fact.run), limit)
    tries = [msgspec.convert(row, AttemptFact, strict=False) for row in reader.rows(whole.rows_of_call("attempt", call))]
    rows.calls[call], rows.tries[call] = fact, tries
    seen = rows.seen(rows.ordered())
    own = next(each for each in seen if each.call == call)
    return own, Read(seen=tuple(each for each in seen if each.call != call), prompts=())


class _Rows:
    """Rows of one look at the facts."""

    def __init__(self, reader: Reader) -> None:
        self._reader, self._queries = reader, _queries()
        self.calls: dict[str, CallFact] = {}
        self.tries: dict[str, list[AttemptFact]] = {}
        self.heads: dict[str, bytes] = {}
        self.left_out = 0

    def take(self, where: PhaseQuery, limit: int) -> None:
        """Calls of one stretch with their attempts, at most ``limit``; the others are counted."""
        reader, queries = self._reader, self._queries
        found = [msgspec.convert(row, CallFact, strict=False) for row in reader.rows(queries.phase_calls(where, limit))]
        if len(found) == limit:
            self.left_out += reader.rows(queries.phase_count(where))[0]["calls"] - limit
        tries: dict[str, list[AttemptFact]] = {}
        for row in reader.rows(queries.phase_attempts(where, limit)):
            fact = msgspec.convert(row, AttemptFact, strict=False)
            tries.setdefault(fact.call, []).append(fact)
        self.calls.update((fact.call, fact) for fact in found)
        self.tries.update(tries)
        for row in reader.rows(queries.heads(where, PHASE_HEADS_MAX, PHASE_HEAD_CHARS_MAX)):
            self.heads[row["call"]] = row["head"].encode()

    def ordered(self) -> list[CallFact]:
        return sorted(self.calls.values(), key=lambda call: (call.started_wall_ms, call.call))

    def seen(self, ordered: Sequence[CallFact]) -> tuple[Seen, ...]:
        reader, queries = self._reader, self._queries
        routes = {(row["provider"], row["upstream_model"]) for row in reader.rows(queries.cache_routes())}
        telling = {row["provider"] for row in reader.rows(queries.engines_telling())}
        return Joiner(routes, telling).joined(ordered, self.tries)


class Joiner:
    """Ties calls to those before and beside them. ``routes`` have reported cached tokens, engines of ``telling`` providers are one's own."""

    def __init__(self, routes: set[tuple[str, str]], telling: set[str]) -> None:
        self._routes, self._telling = routes, telling
        self._prefixes: dict[tuple[str, int], int] = {}
        self._tenants: dict[tuple[str, str], int] = {}
        self._runs: dict[tuple[str, str], deque[CallFact]] = {}

    def joined(self, calls: Sequence[CallFact], tries: Mapping[str, Sequence[AttemptFact]]) -> tuple[Seen, ...]:
        """``calls`` in order of time."""
        found = [self._seen(call, tries.get(call.call, ())) for call in calls]
        beside = beside_tokens(found)
        return tuple(
            seen if seen.hosted else msgspec.structs.replace(seen, beside_tokens=first, beside_decode_tokens=later)
            for seen, (first, later) in zip(found, beside, strict=True)
        )

    def _seen(self, call: CallFact, tries: Sequence[AttemptFact]) -> Seen:
        last = max(tries, key=lambda each: each.attempt, default=None)
        provider, model = (last.provider, last.upstream_model) if last is not None else ("", "")
        seen = seen_of(
            call,
            tries,
            reports_cache=(provider, model) in self._routes,
            hosted=provider not in self._telling and not _own_address(last.address if last is not None else ""),
            before=self._before(call),
            prefix_seen_before_ms=self._prefix(call),
            idle_ms=self._idle(call),
        )
        return msgspec.structs.replace(seen, asked=model, probe=call.origin == Origin.PROBE.value)

    def _before(self, call: CallFact) -> CallFact | None:
        """The call of the run that ended last before this one began."""
        if not call.run:
            return None
        key = (call.tenant, call.run)
        earlier = self._runs.pop(key, deque(maxlen=64))
        ended = [each for each in earlier if each.started_wall_ms + each.duration_ms <= call.started_wall_ms]
        earlier.append(call)
        _remember(self._runs, key, earlier, _RUNS_MAX)
        return max(ended, key=lambda each: each.started_wall_ms + each.duration_ms, default=None)

    def _prefix(self, call: CallFact) -> float | None:
        """Since a call of the target began alike."""
        hashes, at = call.prefix_hashes, call.started_wall_ms
        deepest = next((i for i in reversed(range(len(hashes))) if (call.routed, hashes[i]) in self._prefixes), None)
        since = None
        if deepest is not None and deepest + 1 >= _SHARED_PREFIX * len(hashes):
            since = float(at - self._prefixes[(call.routed, hashes[deepest])])
        for each in hashes:
            _remember(self._prefixes, (call.routed, each), at, PHASE_PREFIXES_MAX)
        return since

    def _idle(self, call: CallFact) -> float | None:
        key = (call.routed, call.tenant)
        last = self._tenants.get(key)
        _remember(self._tenants, key, call.started_wall_ms, PHASE_TENANTS_MAX)
        return None if last is None else float(call.started_wall_ms - last)


def beside_tokens(calls: Sequence[Seen]) -> list[tuple[int, int]]:
    """Uncached prompt tokens of others that the same engine was reading while it read each, and while it answered each; ``calls`` in order of arrival."""
    reading, answering = [0] * len(calls), [0] * len(calls)
    still: dict[tuple[str, str], list[_Span]] = {}
    order = sorted(range(len(calls)), key=lambda i: calls[i].at_ms + calls[i].sent_ms)
    for i in order:
        call = calls[i]
        if call.first_token_ms is None:
            continue
        mine = _Span(i, call)
        others = [each for each in still.get((call.provider, call.address), ()) if each.ends_ms > mine.sent_ms]
        for other in others:  # was sent before; an answer may go on while this prompt is read, and be over before this one's begins
            if other.first_ms > mine.sent_ms:
                reading[i] += other.tokens
                reading[other.at] += mine.tokens
            if other.first_ms > mine.first_ms:
                answering[i] += other.tokens
            if other.ends_ms > mine.sent_ms and mine.first_ms > other.first_ms:
                answering[other.at] += mine.tokens
        still[(call.provider, call.address)] = [*others, mine]
    return list(zip(reading, answering, strict=True))


class _Span:
    """When a call was read and answered, on the wall's clock."""

    __slots__ = ("at", "ends_ms", "first_ms", "sent_ms", "tokens")

    def __init__(self, at: int, call: Seen) -> None:
        self.at = at
        self.sent_ms = call.at_ms + call.sent_ms
        self.first_ms = call.at_ms + (call.first_token_ms or 0.0)
        self.ends_ms = max(call.at_ms + (call.last_token_ms or 0.0), self.first_ms)
        self.tokens = max((call.input_tokens or 0) - (call.cached_tokens or 0), 0)


def _prompt(call: CallFact, tries: Iterable[AttemptFact], head: bytes) -> Prompt:
    last = max(tries, key=lambda each: each.attempt, default=None)
    return Prompt(
        call=call.call,
        at_ms=call.started_wall_ms,
        target=f"{last.provider}/{last.upstream_model}" if last is not None else call.routed,
        tenant=call.tenant,
        feature=call.feature,
        ref=call.prompt_ref,
        hashes=call.prefix_hashes,
        head=head,
        input_tokens=call.input_tokens,
        cached_tokens=call.cached_tokens,
    )


def _own_address(address: str) -> bool:
    """Of this machine or a private network; ``address`` is an IP address, with or without a port."""
    try:
        return ip_address(address).is_private
    except ValueError:
        pass
    try:
        return ip_address(address.rpartition(":")[0].strip("[]")).is_private
    except ValueError:
        return False


def _remember(table: dict[Any, Any], key: Any, value: Any, bound: int) -> None:
    """The entry goes to the end; over the bound the first goes."""
    table.pop(key, None)
    table[key] = value
    if len(table) > bound:
        del table[next(iter(table))]


def _queries() -> Any:
    """Loaded when it is first needed, as ``engine.load_queries`` does."""
    return importlib.import_module("headway.facts.phase_queries")
