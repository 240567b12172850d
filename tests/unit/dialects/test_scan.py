"""Top-level scanning: offsets agree with a real parser, what is not strict JSON is refused, and a splice changes nothing else."""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.gateway.dialects import scan
from headway.kernel.errors import BadRequest
from headway.kernel.limits import JSON_CONTAINERS_MAX, JSON_DEPTH_MAX, TOP_LEVEL_KEYS_MAX

_KEYS = st.one_of(
    st.sampled_from(["model", "stream", "mödel", 'quo"te', "back\\slash", "", "a]b", "🌍"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
)
_LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**20), 10**20), st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12), st.sampled_from(['"', "\\", '\\"', "{[", "]}", "\\\\n", "}{"]),
)  # fmt: skip
_VALUES = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=4), max_leaves=12
)
_OBJECTS = st.dictionaries(_KEYS, _VALUES, max_size=8)
_STYLES = st.sampled_from(
    [{}, {"separators": (",", ":")}, {"indent": 2}, {"ensure_ascii": False}, {"indent": "\t", "ensure_ascii": False}]
)


def _body(value: object, style: dict[str, object]) -> bytes:
    return json.dumps(value, **style).encode()


@settings(max_examples=300, deadline=None)
@given(_OBJECTS, _STYLES)
def test_spans_agree_with_json(value: dict[str, object], style: dict[str, object]) -> None:
    body = _body(value, style)
    found = scan.spans(body)
    assert {key: json.loads(body[a:b]) for key, (a, b) in found.items()} == value
    assert all(body[a:b].strip(b" \t\r\n") == body[a:b] for a, b in found.values())


@settings(max_examples=100, deadline=None)
@given(_OBJECTS, _STYLES)
def test_the_walk_for_large_bodies_agrees(value: dict[str, object], style: dict[str, object]) -> None:
    body = _body({**value, "padding": "x" * 300_000}, style)
    assert {key: json.loads(body[a:b]) for key, (a, b) in scan.spans(body).items()} == json.loads(body)


@settings(max_examples=300, deadline=None)
@given(_OBJECTS, _OBJECTS, _STYLES)
def test_a_splice_changes_what_it_should_and_nothing_else(
    value: dict[str, object], change: dict[str, object], style: dict[str, object]
) -> None:
    body = _body(value, style)
    found = scan.spans(body)
    new = {key: json.dumps(new_value).encode() for key, new_value in change.items()}
    spliced = scan.splice(body, scan.set_members(body, found, new))
    assert json.loads(spliced) == {**value, **change}
    scan.spans(spliced)
    kept, at = [], 0
    for start, end in sorted(found[key] for key in new if key in found):
        kept.append(body[at:start])
        at = end
    rest = spliced
    for piece in [*kept, body[at:]]:  # every untouched stretch is still there, in order
        head = piece[: piece.index(b"{") + 1] if piece is (kept or [body])[0] else b""
        for part in (head, piece[len(head) :]):
            assert part in rest
            rest = rest[rest.index(part) + len(part) :]


@settings(max_examples=200, deadline=None)
@given(_OBJECTS, st.data(), _STYLES)
def test_removing_members(value: dict[str, object], data: st.DataObject, style: dict[str, object]) -> None:
    gone = data.draw(st.sets(st.sampled_from(sorted(value)))) if value else set()
    body = _body(value, style)
    left = scan.splice(body, scan.remove(body, scan.spans(body), gone))
    assert json.loads(left) == {key: kept for key, kept in value.items() if key not in gone}


@settings(max_examples=300, deadline=None)
@given(_VALUES, st.integers(0, 6), _STYLES)
def test_depth_is_exact(value: object, depth_max: int, style: dict[str, object]) -> None:
    def depth(node: object) -> int:
        if isinstance(node, dict | list):
            return 1 + max((depth(inner) for inner in (node.values() if isinstance(node, dict) else node)), default=0)
        return 0

    body = _body({"v": value, "w": ["{[" * 20]}, style)
    if depth({"v": value, "w": []}) > depth_max or depth_max < 2:
        with pytest.raises(BadRequest, match="deeper"):
            scan.check_depth(body, depth_max)
    else:
        scan.check_depth(body, depth_max)


@pytest.mark.parametrize("pad", [0, 300_000])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (b'"model":"a"', b'"model":"b"'), (b'"model":"a"', b'"model":"a"'), (b'"mod\\u0065l":"a"', b'"model":"b"'),
        (b'"model":1', b'"model":12'), (b'"model":12', b'"model":1'), (b'"model":"a","x":"', b'"model":"a\\",\\"x\\":\\""'),
        (b'"model":[]', b'"model":[1,[2]]'), (b'"model" : "a" ', b'"model"\n:\t"a"'),
    ],
)  # fmt: skip
def test_a_key_twice_is_refused_by_name(first: bytes, second: bytes, pad: int) -> None:
    if first.count(b'"') % 2:
        first += b'"'
    for middle in (b"", b'"y":{"model":"inner"},'):
        body = b"{" + first + b',"pad":"' + b"p" * pad + b'",' + middle + second + b"}"
        with pytest.raises(BadRequest) as caught:
            scan.spans(body)
        assert caught.value.param == "model", body
        assert "twice" in caught.value.message


@pytest.mark.parametrize("pad", [0, 300_000])
@pytest.mark.parametrize(
    "body",
    [
        b"", b" ", b"[]", b'"x"', b"null", b"{", b'{"a":1', b'{"a":1}}', b'{"a":1} x', b'{"a":1,}', b'{"a":01}', b'{"a":+1}', b'{"a":.5}', b"{'a':1}",
        b'{"a":NaN}', b'{"a":[-Infinity]}', b'{"a":"\xff"}', b'{"a":["\xc3("]}', b'{"\xff":1}', b'{"a":"\xed\xa0\x80"}', b'\xef\xbb\xbf{"a":1}',
        b'{"a":"\\ud800"}', b'{"a":["\\udc00"]}', b'{"a":{"b":"\\ud800\\u0041"}}', b'{"\\ud800":1}', b'{"a":"\\x"}', b'{"a":"\n"}', b'{"a":1}\x00', b'{"a"\x0c:1}',
    ],
)  # fmt: skip
def test_what_is_no_strict_json_object_is_refused(body: bytes, pad: int) -> None:
    with pytest.raises(BadRequest):
        scan.spans(b" " * pad + body)


def test_the_reason_is_named() -> None:
    for body, reason in (
        (b'{"a":NaN}', "NaN"),
        (b"[]", "object"),
        (b'{"a":"\xff"}', "UTF-8"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b'{"a":1 2}', "byte"),
    ):
        with pytest.raises(BadRequest, match=reason):
            scan.spans(body)


def _nested(depth: int) -> bytes:
    return b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


def _took_ms(body: bytes) -> float:
    best = 1e9
    for _ in range(2):
        begun = time.perf_counter()
        with pytest.raises(BadRequest):
            scan.spans(body)
        best = min(best, (time.perf_counter() - begun) * 1e3)
    return best


def test_depth_has_a_bound() -> None:
    scan.spans(_nested(JSON_DEPTH_MAX))
    for depth in (JSON_DEPTH_MAX + 1, 900, 10_000, 1_000_000):
        assert _took_ms(_nested(depth)) < 50


def test_keys_have_a_bound() -> None:
    def keys(count: int) -> bytes:
        return b"{" + b",".join(b'"k%d":{"x":1}' % i for i in range(count)) + b"}"

    assert len(scan.spans(keys(TOP_LEVEL_KEYS_MAX))) == TOP_LEVEL_KEYS_MAX
    for count in (TOP_LEVEL_KEYS_MAX + 1, 1_000_000):
        assert _took_ms(keys(count)) < 50


def test_containers_have_a_bound() -> None:
    scan.spans(b'{"a":[' + b"[]," * 1000 + b'"' + b"[{" * 2 * JSON_CONTAINERS_MAX + b'"]}')
    for piece in (b"{},", b'"{",[],'):
        with pytest.raises(BadRequest, match="objects and lists"):
            scan.spans(b'{"a":[' + piece * (JSON_CONTAINERS_MAX + 1) + b"1]}")


def test_readers() -> None:
    body = '{"s":"gr\\u00fcn","t":"é","n":null,"i":-7,"f":1.5,"big":123456789012345678901234567890,"max":9223372036854775808,"yes":true,"no":false}'.encode()
    found = scan.spans(body)
    assert scan.read_str(body, found, "s") == "grün"
    assert scan.read_str(body, found, "t") == "é"
    assert scan.read_str(body, found, "n") is scan.read_str(body, found, "absent") is scan.read_int(body, found, "n") is None
    assert scan.read_int(body, found, "i") == -7
    assert (scan.read_bool(body, found, "yes"), scan.read_bool(body, found, "no"), scan.read_bool(body, found, "n")) == (
        True,
        False,
        False,
    )
    for read, key in (
        (scan.read_str, "i"), (scan.read_int, "s"), (scan.read_int, "f"), (scan.read_int, "big"), (scan.read_int, "max"),
        (scan.read_int, "yes"), (scan.read_bool, "s"), (scan.read_bool, "i"),
    ):  # fmt: skip
        with pytest.raises(BadRequest) as caught:
            read(body, found, key)
        assert caught.value.param == key
    with pytest.raises(BadRequest, match="at least 1"):
        scan.read_int(body, found, "i", least=1)
    for broken in (b'{"model":""}', b"{}", b'{"model":null}', b'{"model":["a"]}'):
        with pytest.raises(BadRequest) as caught:
            scan.read_model(broken, scan.spans(broken))
        assert caught.value.param == "model"


def test_nested_members_keep_the_offsets_of_the_body() -> None:
    body = b' {"a": {"b": [1], "c": 2} }'
    inner = scan.spans_of(body, scan.spans(body)["a"])
    assert body[slice(*inner["b"])] == b"[1]"
    assert scan.splice(body, [scan.replace(inner, "c", b"3")]) == b' {"a": {"b": [1], "c": 3} }'
    with pytest.raises(BadRequest):
        scan.spans_of(body, inner["b"])


def test_items_of_a_list() -> None:
    body = b'{"a": [ {"x": [1, 2]} ,"]", 12,[] ] , "e":[], "s":"x"}'
    found = scan.spans(body)
    assert [body[a:b] for a, b in scan.items(body, found["a"])] == [b'{"x": [1, 2]}', b'"]"', b"12", b"[]"]
    assert scan.items(body, found["e"]) == []
    with pytest.raises(BadRequest):
        scan.items(body, found["s"])


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(["a", "é", "🌍", "\\", '"', "\n", "u", "d83d", "\x01", "\\u"]), max_size=14).map("".join),
    st.integers(-2, 60),
    st.booleans(),
)
def test_a_cut_string_is_a_prefix(text: str, keep: int, ascii_only: bool) -> None:
    whole = json.dumps(text, ensure_ascii=ascii_only).encode()
    cut = scan.cut_string(whole, keep)
    assert text.startswith(json.loads(cut))
    assert len(cut) - 2 <= max(keep, 0) or cut == whole
    longest = max(
        (
            len(json.dumps(text[:n], ensure_ascii=ascii_only).encode())
            for n in range(len(text) + 1)
            if len(json.dumps(text[:n], ensure_ascii=ascii_only).encode()) - 2 <= max(keep, 0)
        ),
        default=2,
    )
    assert len(cut) == longest  # as much as fits
