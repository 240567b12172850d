"""Personal data and credentials out of a text before it is stored: ``redact(text, ("email", "card", "phone", "key"))``.

Pure and linear in the length of the text, which is cut at RECORDED_TEXT_SCANNED_CHARS_MAX: what was not looked at is not stored. It errs on the side of
blanking. It does not find names, addresses or secrets without a form of their own; whoever must be sure stores no text.
"""

import re
from collections.abc import Callable, Sequence

from headway.kernel.limits import RECORDED_TEXT_SCANNED_CHARS_MAX
from headway.kernel.scrub import scrub

EMAIL, CARD, PHONE = "[email]", "[card]", "[phone]"
_GAP = "[ \u00a0\u202f\u2007\\-\u2010-\u2015\u2212]"
"""Between groups of digits: spaces of several widths, hyphens and dashes."""

_LOCAL_REVERSED = re.compile(r"[\w.!#$%&'*+/=?^`{|}~\-]{1,64}")
_DOMAIN = re.compile(r"(?:[\w\-]{1,63}\.){1,8}[^\W\d_](?:[\w\-]{0,61}\w)?|\[[0-9a-fA-F.:]{2,45}\]")
_CARD = re.compile(
    rf"(?<!\d)(?:\d{{13,19}}|\d{{4}}{_GAP}\d{{6}}{_GAP}\d{{4,5}}|(\d{{4}}{_GAP}\d{{4}}{_GAP}\d{{4}}(?:{_GAP}\d{{4}})?)(?:{_GAP}\d{{1,4}})?)(?!\d)"
)
_CARD_DIGITS = range(13, 20)
_CARD_FIRST = "23456"
_PHONE = re.compile(
    rf"""
    (?<![\w.+])(?:
        (?:\+|00)\s?[1-9](?:(?:{_GAP}|[().]){{0,2}}\d){{6,14}}                       # international
      | \(\d{{3}}\){_GAP}?\d{{3}}(?:{_GAP}|\.)\d{{4}}                                # (415) 555-2671
      | (?:1{_GAP})?\d{{3}}(?:{_GAP}|\.)\d{{3}}(?:{_GAP}|\.)\d{{4}}
      | (?!\d{{2}}[\-/.]\d{{2}}[\-/.]\d{{4}})\(?0\d{{1,5}}\)?(?:{_GAP}|/)\d{{2,9}}(?:{_GAP}\d{{2,9}}){{0,4}}  # 030 1234567
    )(?!\w)
    """,
    re.VERBOSE,
)
_PHONE_DIGITS = range(8, 16)


def redact(text: str, kinds: Sequence[str] = ("email", "card", "phone", "key")) -> str:
    """``text`` with what the ``kinds`` name replaced by ``[email]``, ``[card]``, ``[phone]`` or ``[redacted]``. ``ValueError`` for an unknown kind."""
    if unknown := set(kinds).difference(REDACTIONS):
        raise ValueError(f"there is no redaction {sorted(unknown)[0]!r}; there are: {', '.join(sorted(REDACTIONS))}")
    text = text[:RECORDED_TEXT_SCANNED_CHARS_MAX]
    for kind in sorted(kinds, key=_ORDER.index):
        text = REDACTIONS[kind](text)
    return text


def _emails(text: str) -> str:
    pieces: list[str] = []
    done = 0
    at = text.find("@")
    while at >= 0:
        local = _LOCAL_REVERSED.match(text[max(done, at - 64) : at][::-1])
        domain = _DOMAIN.match(text, at + 1)
        if local and domain:
            pieces += (text[done : at - local.end()], EMAIL)
            done = domain.end()
        at = text.find("@", max(at + 1, done))
    return "".join(pieces) + text[done:]


def _cards(text: str) -> str:
    pieces: list[str] = []
    done = 0
    found = _CARD.search(text)
    while found:
        end = next((end for end in (found.end(), found.end(1)) if end > 0 and _is_card(text[found.start() : end])), None)
        if end is not None:
            pieces += (text[done : found.start()], CARD)
            done = end
        found = _CARD.search(text, end if end is not None else found.start() + 1)
    return "".join(pieces) + text[done:]


def _is_card(text: str) -> bool:
    """A payment card's number: length, first digit and Luhn check digit (ISO/IEC 7812-1)."""
    digits = [int(char) for char in text if char.isdecimal()]
    if len(digits) not in _CARD_DIGITS or str(digits[0]) not in _CARD_FIRST:
        return False
    doubled = sum(digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2])
    return (sum(digits[-1::-2]) + doubled) % 10 == 0


def _phones(text: str) -> str:
    return _PHONE.sub(_phone, text)


def _phone(found: "re.Match[str]") -> str:
    digits = sum(char.isdecimal() for char in found.group())
    return PHONE if digits in _PHONE_DIGITS else found.group()


REDACTIONS: dict[str, Callable[[str], str]] = {"key": scrub, "email": _emails, "card": _cards, "phone": _phones}
_ORDER = tuple(REDACTIONS)
"""Keys first, so that no part of one is taken for a telephone number; cards before telephones."""
