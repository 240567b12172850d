"""Streams that end as if all were well and are not: the text went round in circles, broke off, or never came.

Told the text piece by piece, it keeps LOOP_WINDOW_CHARS of it and a few counts, and judges at the end. Nothing here says that a text is wrong;
it says that no reader can have wanted it. Rules are strict in what they need, since tables, code and lists repeat themselves honestly:

- **loop**: one unit came again and again without a change between. How often it must have come depends on what it is: prose seldom says the same
  thing four times in a row, a table of defaults may. And it must be a good part of the answer.
- **truncated**: the reason was ``stop``, the caller named no stop sequence, and the text ends inside a sentence that follows whole ones, inside JSON or
  inside a fenced block's line; or where the most that was allowed, or a round number of tokens, was reached and no sentence had ended.
- **silent**: not one token came, or the last wait before the finish was long beyond the answer's own pace.
"""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from headway.calls.conversation import StopReason, Usage

LOOP, TRUNCATED, SILENT = "loop", "truncated", "silent"
FAULTS: Final = (LOOP, TRUNCATED, SILENT)

LOOP_WINDOW_CHARS = 8_192
_STEP_CHARS = 1_024
"""So much text comes before it is looked at again."""
_ANCHORS_APART_CHARS = 256
_ANCHOR_CHARS = 48
_LOOPED_SHARE_MIN = 0.25
_LOOPED_CHARS_ENOUGH = 2_000
"""Looped text of this length is a fault whatever its share."""
SILENT_MS_MIN = 10_000.0
_SILENT_MEDIANS = 10.0
_CAP_TOKENS_MIN = 16
_ROUND_TOKENS = 1_024
_TAIL_CHARS = 600
_PARAGRAPH_CHARS_MIN = 120

_STRUCTURE: Final = re.compile(r"[|{}\[\]()<>=;\t]")
_STRUCTURE_SHARE_MIN = 0.05
"""Of a unit's characters: from here on it is code or a table, not a sentence with a name or a reference in it."""
_LIST_LINE: Final = re.compile(r"(?:^|\n)\s*(?:[-*+•]|\d+[.)])\s")
_SENTENCE_END: Final = re.compile(r"[.!?…][\"'”’)\]*_]*\s+(?=[\"'“‘(*_]*[A-ZÀ-ÞА-Я])|[。！？]")
_UNFINISHED: Final = re.compile(r"(?:[a-zß-öø-ÿа-яё]|[,\u3001\uff0c]|[a-z]-|\b(?:I|A))\Z")
_PLAIN_WORD: Final = re.compile(r"(?:^|\s)[\"“‘(]*[^\W\d_]+(?:['’-][^\W\d_]+)*[,\u3001\uff0c-]?\Z")
_CODE_UNFINISHED: Final = re.compile(r"[\w,(\[{=+*/.&|-]\Z")


class StreamHealth:
    """One answer's. ``feed`` in order, then ``fault`` once."""

    __slots__ = ("_braces", "_fences", "_fresh", "_head", "_looped", "_marked", "_tail", "chars")

    def __init__(self) -> None:
        self.chars = 0
        self._tail = self._head = ""
        self._fresh = 0
        """Characters at the end of the tail that were not looked at yet."""
        self._looped = self._marked = 0
        """Characters in loops; up to which character they were counted."""
        self._braces = self._fences = 0

    def feed(self, text: str) -> None:
        if not self._head:
            text = text.lstrip()
            self._head = text[:2]
        self._braces += text.count("{") - text.count("}")
        self._fences += (self._tail[-3:] + text).count("\n```") + (not self.chars and text.startswith("```"))
        for begin in range(0, len(text), _STEP_CHARS):
            part = text[begin : begin + _STEP_CHARS]
            self._tail = self._tail[-(LOOP_WINDOW_CHARS - len(part)) :] + part
            self._fresh += len(part)
            self.chars += len(part)
            if self._fresh >= _STEP_CHARS:
                self._look()

    @property
    def looped_chars(self) -> int:
        return self._looped

    def fault(
        self,
        stop: StopReason | None,
        usage: Usage,
        *,
        output_tokens_max: int | None = None,
        own_stops: bool = False,
        said: bool = True,
        reads_ms: Sequence[float] = (),
    ) -> str:
        """One of FAULTS, or empty. ``said``: a token of any kind came; ``reads_ms``: reads up to the one that brought ``stop``."""
        if self._fresh:
            self._look()
        if self._looped > _LOOPED_CHARS_ENOUGH or (self._looped and self._looped >= _LOOPED_SHARE_MIN * self.chars):
            return LOOP
        if stop is not StopReason.END:
            return ""
        if not said or went_silent(reads_ms):
            return SILENT
        return TRUNCATED if not own_stops and self._breaks_off(usage, output_tokens_max) else ""

    def _look(self) -> None:
        """Mark what is in a loop at some anchors in the fresh text."""
        tail = self._tail
        before = self.chars - len(tail)
        for back in range(0, min(self._fresh, len(tail)), _ANCHORS_APART_CHARS):
            end = len(tail) - back
            period, begin = periodic_run(tail, end)
            if period and is_loop(tail[end - period : end], end - begin):
                since = max(before + begin, self._marked)
                self._looped += max(before + end - since, 0)
                self._marked = max(self._marked, before + end)
                break  # what lies before is in the same run, or was looked at before
        self._fresh = 0

    def _breaks_off(self, usage: Usage, output_tokens_max: int | None) -> bool:
        tail = self._tail[-_TAIL_CHARS:].rstrip()
        if not tail:
            return _at_cap(usage, output_tokens_max)
        if self._head[:1] in ("{", "[") and self._braces > 0 and self._head[1:2] in ('"', "\n", "{", " "):
            return not tail.endswith(("}", "]", "`"))
        line = tail.rsplit("\n", 1)[-1]
        if self._fences % 2:
            return not self._tail.endswith("\n") and _CODE_UNFINISHED.search(line) is not None
        unfinished = _UNFINISHED.search(line) is not None and _PLAIN_WORD.search(line) is not None
        if not unfinished:
            return False
        if _at_cap(usage, output_tokens_max) or _at_round_number(usage):
            return True
        return len(line) >= _PARAGRAPH_CHARS_MIN and not _LIST_LINE.match(line) and _begun_sentence(line).count(" ") > 0


def periodic_run(text: str, end: int) -> tuple[int, int]:
    """(period, where it begins) of the run of repeated characters that ends at ``end``; (0, end) where the last few came only once.

    The period is the distance to the last place where the ending _ANCHOR_CHARS stood before.
    """
    if end <= _ANCHOR_CHARS:
        return 0, end
    at = text.rfind(text[end - _ANCHOR_CHARS : end], 0, end - 1)
    if at < 0:
        return 0, end
    period = end - _ANCHOR_CHARS - at
    # The run is equal to itself a period earlier from where it begins on: text[begin:at] == text[begin + period : at + period].
    low, high = 0, at
    while low < high:
        middle = (low + high) // 2
        if text[middle:at] == text[middle + period : at + period]:
            high = middle
        else:
            low = middle + 1
    return period, low


def is_loop(unit: str, run_chars: int) -> bool:
    """Whether so long a run of ``unit`` is more than anybody would write."""
    repeats = run_chars / len(unit)
    letters = sum(map(str.isalpha, unit))
    marks = len(unit) - letters - sum(map(str.isspace, unit))
    if not letters:
        return run_chars >= (400 if not unit.strip(" !?") and unit.strip() else LOOP_WINDOW_CHARS * 0.9)
    if len(_STRUCTURE.findall(unit)) > _STRUCTURE_SHARE_MIN * len(unit) or letters < 1.5 * marks:
        return repeats >= 50 and run_chars >= 4_000
    if _LIST_LINE.search(unit):
        return repeats >= 30 and run_chars >= 1_500
    if len(unit) >= 80:
        return repeats >= (3 if len(unit) >= 400 else 4)
    return repeats >= 8 and run_chars >= 400


def went_silent(reads_ms: Sequence[float]) -> bool:
    """Whether the last wait was long, beyond anything that the answer's own pace explains."""
    if len(reads_ms) < 2 or (last := reads_ms[-1] - reads_ms[-2]) < SILENT_MS_MIN:
        return False
    before = sorted(end - begin for begin, end in pairwise(reads_ms[:-1]))
    return not before or last > _SILENT_MEDIANS * before[len(before) // 2]


def _begun_sentence(line: str) -> str:
    """What stands behind the last whole sentence, empty where there is none: a single word there may be a mark or a greeting."""
    ends = [found.end() for found in _SENTENCE_END.finditer(line)]
    return line[ends[-1] :] if ends else ""


def _at_cap(usage: Usage, output_tokens_max: int | None) -> bool:
    return (
        output_tokens_max is not None and output_tokens_max >= _CAP_TOKENS_MIN and (usage.output_tokens or 0) >= output_tokens_max
    )


def _at_round_number(usage: Usage) -> bool:
    """A cap that nobody told of: of the answer, or of prompt and answer together."""
    output = usage.output_tokens or 0
    total = output + (usage.input_tokens or 0) if usage.input_tokens is not None else 0
    return any(tokens and tokens % _ROUND_TOKENS == 0 for tokens in (output, total))
