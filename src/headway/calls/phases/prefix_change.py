"""Which change broke a cached prefix, and what it cost: a new version of the prompt, a time or an id near its beginning, tools in another order.

Prompts of one kind (target, tenant, prompt name or feature) usually share their first blocks: hashes are chained, so two prompts share as many as
they have blocks in common. A prompt that shares far fewer with each of the latest ones broke the prefix. Where the beginnings were recorded the change
is read from them; else it is known by its block and by whether it comes with every call.
"""

import re
from collections import deque
from collections.abc import Iterable
from enum import StrEnum

import msgspec

SMALL_BLOCKS, SMALL_BYTES, LARGE_BYTES = 16, 1_024, 4_096
"""How the gateway cuts prompts into blocks."""
RECENT_KEPT = 32
KINDS_MAX = 4_096
SHARED_SHARE = 0.5
"""A prompt that shares less than this of the usual blocks broke the prefix."""
KNOWN_MIN = 5
EVERY_CALL_MIN = 3
"""Breaks in a row at one place: it changes with every call."""
_TIME = re.compile(rb"\d{4}-\d\d-\d\d|\d\d:\d\d(:\d\d)?|\b1[6-9]\d{8}(\d{3})?\b")
_NAME = re.compile(rb'"name"\s*:\s*"([^"]{1,128})"')
_AROUND = 24


class PrefixKind(StrEnum):
    VERSION = "other_prompt_version"
    TIME = "timestamp"
    TOOLS = "tools_reordered"
    EVERY_CALL = "changes_every_call"
    """At one place, with each call: a time, an id, a random order."""
    TEXT = "other_text"


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """One call's prompt as far as it is known. ``ref`` is name@version."""

    call: str
    at_ms: int
    target: str
    tenant: str = ""
    feature: str = ""
    ref: str = ""
    hashes: tuple[int, ...] = ()
    head: bytes = b""
    """Its first bytes, where the feature records them."""
    input_tokens: int | None = None
    cached_tokens: int | None = None
    token_ms: float = 0.0
    """What reading one more token takes on the target: b of its line."""


class Break(msgspec.Struct, frozen=True, kw_only=True):
    """A prefix that broke. ``lost_tokens`` None: the provider does not tell what it had cached."""

    kind: PrefixKind
    prompt: str
    """Prompt name, else feature."""
    tenant: str
    target: str
    since_ms: int
    first_call: str
    calls: int
    byte_from: int
    """The first difference lies here or after; exact where the beginnings are recorded."""
    byte_until: int
    what: str
    lost_tokens: float | None
    cost_ms: float | None
    """Over ``calls``, in first-token time."""


def bytes_before(block: int) -> int:
    """Where block number ``block`` begins."""
    return min(block, SMALL_BLOCKS) * SMALL_BYTES + max(block - SMALL_BLOCKS, 0) * LARGE_BYTES


def breaks(prompts: Iterable[Prompt]) -> tuple[Break, ...]:
    """All broken prefixes, the most costly first. Kinds over ``KINDS_MAX`` are not looked at."""
    kinds: dict[tuple[str, str, str], _Kind] = {}
    for prompt in sorted(prompts, key=lambda p: (p.at_ms, p.call)):
        key = (prompt.target, prompt.tenant, _name(prompt))
        kind = kinds.get(key)
        if kind is None:
            if len(kinds) >= KINDS_MAX:
                continue
            kind = kinds[key] = _Kind()
        kind.receive(prompt)
    found = [each for kind in kinds.values() for each in kind.ended()]
    return tuple(sorted(found, key=lambda b: -(b.cost_ms or 0.0)))


def _name(prompt: Prompt) -> str:
    return prompt.ref.partition("@")[0] or prompt.feature


class _Kind:
    """Prompts of one kind in order of time."""

    def __init__(self) -> None:
        self._recent: deque[Prompt] = deque(maxlen=RECENT_KEPT)
        self._shared: deque[int] = deque(maxlen=200)
        self._cached_share: deque[float] = deque(maxlen=200)
        self._run: list[tuple[Prompt, Prompt, int]] = []
        self._found: list[Break] = []

    def receive(self, prompt: Prompt) -> None:
        if not prompt.hashes:
            return
        nearest = max(self._recent, key=lambda other: shared_blocks(prompt, other), default=None)
        blocks = shared_blocks(prompt, nearest) if nearest is not None else 0
        usual = sorted(self._shared)[len(self._shared) // 2] if len(self._shared) >= KNOWN_MIN else 0
        if nearest is not None and usual and blocks < SHARED_SHARE * usual and len(prompt.hashes) > blocks:
            if self._run and self._run[-1][2] != blocks:
                self._close()
            self._run.append((prompt, self._run[0][1] if self._run else nearest, blocks))
        else:
            self._close()
            self._note(prompt, blocks if nearest is not None else None)
        self._recent.append(prompt)

    def _note(self, prompt: Prompt, blocks: int | None) -> None:
        if blocks is not None:
            self._shared.append(blocks)
        if prompt.input_tokens and prompt.cached_tokens is not None:
            self._cached_share.append(prompt.cached_tokens / prompt.input_tokens)

    def _close(self) -> None:
        if self._run:
            self._found.append(self._told())
            self._run = []

    def ended(self) -> list[Break]:
        self._close()
        return self._found

    def _told(self) -> Break:
        run = self._run
        first, before, blocks = run[0]
        every = len(run) >= EVERY_CALL_MIN
        # what comes with every call is seen between two of them: the one before may have had nothing there
        again = every and first.ref == before.ref
        kind, what, at = _read(run[1][0], first, every) if again else _read(first, before, every)
        lost = [(each, each * prompt.token_ms) for prompt, _, _ in run if (each := self._lost(prompt)) is not None]
        begin = bytes_before(blocks)
        return Break(
            kind=kind,
            prompt=_name(first),
            tenant=first.tenant,
            target=first.target,
            since_ms=first.at_ms,
            first_call=first.call,
            calls=len(run),
            byte_from=begin if at is None else at,
            byte_until=bytes_before(blocks + 1) if at is None else at,
            what=what,
            lost_tokens=sum(tokens for tokens, _ in lost) if lost else None,
            cost_ms=sum(ms for _, ms in lost) if lost else None,
        )

    def _lost(self, prompt: Prompt) -> float | None:
        if not prompt.input_tokens or prompt.cached_tokens is None or len(self._cached_share) < KNOWN_MIN:
            return None
        usual = sorted(self._cached_share)[len(self._cached_share) // 2]
        return max(usual * prompt.input_tokens - prompt.cached_tokens, 0.0)


def shared_blocks(one: Prompt, other: Prompt) -> int:
    """How many leading blocks two prompts have in common."""
    count = 0
    for a, b in zip(one.hashes, other.hashes, strict=False):
        if a != b:
            break
        count += 1
    return count


def _read(now: Prompt, before: Prompt, every_call: bool) -> tuple[PrefixKind, str, int | None]:
    """Kind, words, and the exact byte where the beginnings are known."""
    at = _common(now.head, before.head) if now.head and before.head else None
    if at is not None and at >= min(len(now.head), len(before.head)):
        at = None  # they differ after what was recorded
    if now.ref != before.ref and now.ref and before.ref:
        return PrefixKind.VERSION, f"{before.ref} became {now.ref}", at
    if at is None:
        if every_call:
            return PrefixKind.EVERY_CALL, "something near the beginning is another with every call: a time, an id, an order", None
        return PrefixKind.TEXT, "the beginning of the prompt is another", None
    if _same_tools(now.head, before.head):
        return PrefixKind.TOOLS, "the same tools in another order", at
    if _time_at(now.head, at) and _time_at(before.head, at):
        return PrefixKind.TIME, f"a time in the prompt: {_excerpt(before.head, at)} became {_excerpt(now.head, at)}", at
    if every_call:
        return PrefixKind.EVERY_CALL, f"another with every call: {_excerpt(before.head, at)} became {_excerpt(now.head, at)}", at
    return PrefixKind.TEXT, f"{_excerpt(before.head, at)} became {_excerpt(now.head, at)}", at


def _common(one: bytes, other: bytes) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _same_tools(one: bytes, other: bytes) -> bool:
    mine, theirs = _NAME.findall(one), _NAME.findall(other)
    return len(mine) > 1 and mine != theirs and sorted(mine) == sorted(theirs)


def _time_at(head: bytes, at: int) -> bool:
    """Whether a date, a time of day or a Unix time covers ``at``."""
    return any(found.start() <= at < found.end() for found in _TIME.finditer(head))


def _excerpt(head: bytes, at: int) -> str:
    text = head[max(at - _AROUND, 0) : at + _AROUND].decode("utf-8", "replace")
    return repr(text)
