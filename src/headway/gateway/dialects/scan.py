"""Where the top-level values of a JSON body lie, without building the body.

``spans`` lets msgspec skip the values in C and then walks from key to key, so a long prompt costs a pass or two at memory speed. What it accepts is
strict JSON (RFC 8259): UTF-8, no BOM, no NaN, no lone surrogates, no top-level key twice. ``splice`` changes values at known
offsets; every other byte stays.
"""

import codecs
import re
from array import array
from collections.abc import Iterable, Mapping
from itertools import accumulate

import msgspec

from headway.kernel.errors import BadRequest
from headway.kernel.limits import JSON_CONTAINERS_MAX, JSON_DEPTH_MAX, TOP_LEVEL_KEYS_MAX

Span = tuple[int, int]
Spans = dict[str, Span]
Edit = tuple[int, int, bytes]
"""Replace bytes start to end; start == end inserts."""

_RAWS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_RAW = msgspec.json.Decoder(msgspec.Raw)
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_STR = msgspec.json.Decoder(str)
_KEY = re.compile(rb'[ \t\r\n]*+[{,][ \t\r\n]*+"([^"\\]*+(?:\\.[^"\\]*+)*+)"[ \t\r\n]*+:[ \t\r\n]*+', re.DOTALL)
_END = re.compile(rb"[ \t\r\n]*+\}[ \t\r\n]*+\Z")
_EMPTY = re.compile(rb"[ \t\r\n]*+\{[ \t\r\n]*+\}[ \t\r\n]*+\Z")
_INTEGER = re.compile(rb"-?(?:0|[1-9][0-9]{0,18})")
_COMMA = re.compile(rb"[ \t\r\n]*+,?[ \t\r\n]*+")
_WHOLE_CHARACTERS = re.compile(rb"(?:[^\\]++|\\u[dD][89abAB]..\\u....|\\u(?![dD][89abAB])....|\\[^u])*+", re.DOTALL)
_PAIR_BYTES = 12
"""A surrogate pair, the longest escape of one character."""
_AFTER = re.compile(r"trailing characters \(byte (\d+)\)")
_AT = re.compile(r"\(byte (\d+)\)")
_WHITESPACE = b" \t\r\n"
_WALK_FROM_BYTES = 256 * 1024
"""From here on the number of keys is bounded before a dict of them is made (about 0.3 µs a key)."""
_UTF8_SLICE_BYTES = 256 * 1024

_FOLD = bytes.maketrans(b"[]", b"{}")
_NOT_BRACKET = bytes(set(range(256)) - set(b"[]{}"))
_NOT_SYNTAX = bytes(set(range(256)) - set(b'[]{}"\\bfnrtu/'))
_STEPS = bytes.maketrans(b"{}", b"\x01\xff")


def spans(body: bytes) -> Spans:
    """Byte offsets (start, end) of each top-level value. BadRequest says what is wrong and where."""
    _check_utf8(body)
    try:
        found = _walk_bounded(body) if len(body) > _WALK_FROM_BYTES else None
        if found is None:
            found = _walk(body, _RAWS.decode(body))
    except RecursionError:
        raise _too_deep() from None
    except msgspec.ValidationError:
        raise BadRequest("The request body must be a JSON object.") from None
    except msgspec.DecodeError as error:
        raise BadRequest(f"The request body is not valid JSON: {_malformed(body, error)}.") from None
    check_depth(body)
    return found


def spans_of(body: bytes, span: Span) -> Spans:
    """The same for an object inside ``body``, at ``span``; offsets are those of ``body``. BadRequest when it is not an object."""
    start, end = span
    return {key: (start + a, start + b) for key, (a, b) in spans(body[start:end]).items()}


def _walk(body: bytes, raws: Mapping[str, msgspec.Raw]) -> Spans:
    """From key to key by the lengths of the values. A key that came twice has only its last value in ``raws``: the bytes differ, or
    the key is met again."""
    if len(raws) > TOP_LEVEL_KEYS_MAX:
        raise _too_many_keys()
    found: Spans = {}
    at, key = 0, ""
    while match := _KEY.match(body, at):
        key = _key(match[1])
        start = match.end()
        raw = bytes(raws[key])
        if key in found or not body.startswith(raw, start):
            raise _twice(key)
        at = start + len(raw)
        found[key] = (start, at)
    if not _END.match(body, at) and not (not raws and _EMPTY.match(body)):
        raise _twice(key)
    return found


def _walk_bounded(body: bytes) -> Spans | None:
    """The walk for large bodies: never touches more than TOP_LEVEL_KEYS_MAX keys, whatever their values are.

    msgspec skips one value and then complains about what follows, naming the byte: that is the value's end. None when anything
    is unexpected; decoding the whole body then says what.
    """
    view = memoryview(body)
    found: Spans = {}
    at = 0
    while match := _KEY.match(body, at):
        if len(found) >= TOP_LEVEL_KEYS_MAX:
            raise _too_many_keys()
        start = match.end()
        at = _end_of_value(view[start:])
        if at <= 0:
            return None
        at += start
        while body[at - 1] in _WHITESPACE:
            at -= 1
        key = _key(match[1])
        if key in found:
            raise _twice(key)
        found[key] = (start, at)
    return found if found and _END.match(body, at) else None


def _end_of_value(view: memoryview) -> int:
    try:
        _RAW.decode(view)
    except msgspec.DecodeError as error:
        follows = _AFTER.search(str(error))
        return int(follows[1]) - 1 if follows else 0  # it counts the byte that it has read
    return 0


def _key(raw: bytes) -> str:
    return _STR.decode(b'"' + raw + b'"') if b"\\" in raw else raw.decode()


def _check_utf8(body: bytes) -> None:
    if body.isascii():
        return
    if body.startswith(codecs.BOM_UTF8):
        raise BadRequest("The request body begins with a byte order mark; send plain UTF-8.")
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for at in range(0, len(body), _UTF8_SLICE_BYTES):
            decoder.decode(body[at : at + _UTF8_SLICE_BYTES])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise BadRequest("The request body is not valid UTF-8.") from None


def check_depth(body: bytes, depth_max: int = JSON_DEPTH_MAX) -> None:
    """BadRequest when valid JSON nests deeper than ``depth_max``. Most bodies have too few brackets to be in question."""
    if len(body.translate(None, _NOT_BRACKET)) <= 2 * depth_max:
        return
    # An escape keeps its letter, so that a quote that follows one is not taken for an escaped quote.
    syntax = body.translate(_FOLD, _NOT_SYNTAX).replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, b"\\bfnrtu/")
    syntax = syntax.replace(b'""', b"")
    if syntax.count(b'"') > 8 * JSON_CONTAINERS_MAX:  # each quoted run of brackets is followed by one outside
        raise _too_many_containers()
    steps = b"".join(syntax.split(b'"')[::2]).translate(_STEPS)
    if len(steps) > 2 * JSON_CONTAINERS_MAX:
        raise _too_many_containers()
    if max(accumulate(array("b", steps)), default=0) > depth_max:
        raise _too_deep()


def _malformed(body: bytes, error: msgspec.DecodeError) -> str:
    place = _AT.search(str(error))
    if place and body[int(place[1]) :].lstrip(b"-").startswith((b"NaN", b"Infinity")):
        return f"NaN and Infinity are not JSON (byte {place[1]})"
    return str(error).removeprefix("JSON is malformed: ") or "it is empty"


def _twice(key: str) -> BadRequest:
    return BadRequest(f"The key {key[:60]!r} stands twice in the request body; send it once.", param=key[:60])


def _too_deep() -> BadRequest:
    return BadRequest(f"The request body nests deeper than {JSON_DEPTH_MAX} levels.")


def _too_many_keys() -> BadRequest:
    return BadRequest(f"The request body has more than {TOP_LEVEL_KEYS_MAX} top-level keys.")


def _too_many_containers() -> BadRequest:
    return BadRequest(f"The request body holds more than {JSON_CONTAINERS_MAX} objects and lists.")


def items(body: bytes, span: Span) -> list[Span]:
    """Offsets of the items of a list inside ``body``. BadRequest when it is not a list."""
    start, end = span
    try:
        raws = _ITEMS.decode(memoryview(body)[start:end])
    except msgspec.DecodeError:
        raise BadRequest("A list was expected in the request body.") from None
    found: list[Span] = []
    at = start + 1
    for each in raws:
        comma = _COMMA.match(body, at)
        begin = comma.end() if comma else at
        at = begin + len(bytes(each))
        found.append((begin, at))
    return found


# --- reading -------------------------------------------------------------------------------------------------------------


def raw(body: bytes, found: Mapping[str, Span], key: str) -> bytes | None:
    """The bytes of a value; None when the key is absent."""
    span = found.get(key)
    return body[span[0] : span[1]] if span else None


def read_str(body: bytes, found: Mapping[str, Span], key: str) -> str | None:
    """None when absent or null. BadRequest for any other type."""
    value = raw(body, found, key)
    if value is None or value == b"null":
        return None
    if value[:1] != b'"':
        raise BadRequest(f"{key!r} must be a string.", param=key)
    return _STR.decode(value) if b"\\" in value else value[1:-1].decode()


def read_int(body: bytes, found: Mapping[str, Span], key: str, *, least: int | None = None) -> int | None:
    """None when absent or null. BadRequest when it is no integer of 64 bits or below ``least``."""
    value = raw(body, found, key)
    if value is None or value == b"null":
        return None
    if not _INTEGER.fullmatch(value):
        raise BadRequest(f"{key!r} must be an integer of at most 19 digits.", param=key)
    number = int(value)
    if not -(2**63) <= number < 2**63:
        raise BadRequest(f"{key!r} does not fit an integer of 64 bits.", param=key)
    if least is not None and number < least:
        raise BadRequest(f"{key!r} must be at least {least}.", param=key)
    return number


def read_bool(body: bytes, found: Mapping[str, Span], key: str) -> bool:
    """False when absent or null. BadRequest for any other type."""
    value = raw(body, found, key)
    if value is None or value == b"null" or value == b"false":
        return False
    if value != b"true":
        raise BadRequest(f"{key!r} must be true or false.", param=key)
    return True


def read_model(body: bytes, found: Mapping[str, Span]) -> str:
    """The model's name. BadRequest when it is missing, empty or not a string."""
    model = read_str(body, found, "model")
    if not model:
        raise BadRequest("'model' is missing: name a feature or a provider/model.", param="model")
    return model


def bytes_of(found: Mapping[str, Span], keys: Iterable[str]) -> int:
    """How many bytes the values of ``keys`` take together."""
    return sum(found[key][1] - found[key][0] for key in keys if key in found)


# --- changing ------------------------------------------------------------------------------------------------------------


def dump(value: object) -> bytes:
    """JSON of ``value``, compact."""
    return msgspec.json.encode(value)


def splice(body: bytes, edits: Iterable[Edit]) -> bytes:
    """``body`` with ``edits`` made. They must not overlap; those at one place are made in the order given."""
    pieces: list[bytes | memoryview] = []
    view, at = memoryview(body), 0
    for start, end, text in sorted(edits, key=lambda edit: edit[0]):
        assert start >= at, "edits overlap"
        pieces += (view[at:start], text)
        at = end
    pieces.append(view[at:])
    return b"".join(pieces)


def cut_string(text: bytes, keep_bytes: int) -> bytes:
    """A JSON string (with its quotes) cut to at most ``keep_bytes`` between them, never inside a character or an escape."""
    inside = text[1:-1]
    if keep_bytes >= len(inside):
        return text
    at = max(keep_bytes, 0)
    while at > 0 and inside[at] & 0xC0 == 0x80:
        at -= 1
    anchor = max(at - _PAIR_BYTES, 0)
    while anchor > 0 and inside[anchor - 1 : anchor] == b"\\":
        anchor -= 1
    whole = _WHOLE_CHARACTERS.match(inside, anchor, at)
    return b'"' + inside[: whole.end() if whole else anchor] + b'"'


def replace(found: Mapping[str, Span], key: str, value: bytes) -> Edit:
    """The edit that gives an existing top-level ``key`` another value."""
    start, end = found[key]
    return start, end, value


def insert(body: bytes, found: Mapping[str, Span], members: Mapping[str, bytes], at: int = 0) -> Edit:
    """The edit that adds ``members`` (name to raw JSON) right after the ``{`` at or after ``at``; ``found`` are that object's members."""
    brace = body.index(b"{", at) + 1
    text = b",".join(dump(name) + b":" + value for name, value in members.items())
    return brace, brace, text + b"," if found and text else text


def remove(body: bytes, found: Mapping[str, Span], keys: Iterable[str], at: int = 0) -> list[Edit]:
    """Edits that take ``keys`` and one comma each out of the object that begins at or after ``at`` and has the members ``found``."""
    gone = {key for key in keys if key in found}
    order = sorted(found, key=lambda key: found[key])
    brace = body.index(b"{", at) + 1
    edits: list[Edit] = []
    kept_any = False
    last_end = brace
    for index, key in enumerate(order):
        start, end = (last_end if index else brace), found[key][1]
        last_end = end
        if key not in gone:
            if not kept_any and index:  # everything before went: so does the comma before this one
                comma = body.index(b",", start)
                edits.append((start, comma + 1, b""))
            kept_any = True
        else:
            edits.append((start, end, b""))
    return edits


def set_members(body: bytes, found: Mapping[str, Span], members: Mapping[str, bytes], at: int = 0) -> list[Edit]:
    """Edits that replace those of ``members`` that are there and insert the others, in the object that begins at or after ``at``."""
    edits = [replace(found, key, value) for key, value in members.items() if key in found]
    missing = {key: value for key, value in members.items() if key not in found}
    return [*edits, insert(body, found, missing, at)] if missing else edits
