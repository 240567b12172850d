"""Who asks: keys, open access and the headers that a caller may send."""

import hmac

import msgspec
import pytest
from gateway_bench import MINTED, Bench, FakeExchange, key_record, settings
from hypothesis import given
from hypothesis import strategies as st

from headway.calls.conversation import DialectName
from headway.config.secrets import Secrets
from headway.gateway import heads
from headway.gateway.caller import Caller
from headway.gateway.flow import Inbound
from headway.gateway.identify import DEADLINE_MS_MAX, from_this_machine, identify, presented_key, unknown_headway_headers
from headway.gateway.live import Live
from headway.kernel.errors import BadRequest, MethodNotAllowed, Overloaded, Unauthorized
from headway.kernel.instants import mono_ns, wall_ms
from headway.ledger import keys as key_bytes
from headway.ledger.keys import mint
from headway.ledger.model import KeyRecord

KEY = {b"authorization": b"Bearer " + MINTED.text.encode()}
OTHER = mint(wall_ms())


def live(*, open_access: bool = False, key: KeyRecord | None = None) -> Live:
    bench = Bench(lambda r: FakeExchange(200, (), []), config=msgspec.structs.replace(settings(), open_access=open_access))
    made = bench.services.live
    assert made is not None
    snapshot = msgspec.structs.replace(made.snapshot, keys=(key or key_record(),))
    return Live(snapshot, Secrets({}), {})


def inbound(headers: dict[bytes, bytes], peer: str = "10.0.0.1") -> Inbound:
    return Inbound("POST", "/v1/chat/completions", headers, b"", peer, mono_ns(), wall_ms())


def who(headers: dict[bytes, bytes], peer: str = "10.0.0.1", **how: bool) -> Caller:
    return identify(inbound(headers, peer), live(**how), wall_ms())


@pytest.mark.parametrize(
    "headers",
    [
        {b"authorization": b"Bearer " + MINTED.text.encode()},
        {b"authorization": b"bearer  " + MINTED.text.encode() + b" "},
        {b"authorization": MINTED.text.encode()},
        {b"x-api-key": MINTED.text.encode()},
        {b"api-key": MINTED.text.encode()},
        {b"authorization": b"Bearer ", b"x-api-key": MINTED.text.encode()},
        {b"authorization": b"Bearer", b"x-api-key": MINTED.text.encode()},
        {b"authorization": b"Bearer sk-something-else", b"x-api-key": MINTED.text.encode()},
    ],
)
def test_a_key_is_found_wherever_clients_put_it(headers: dict[bytes, bytes]) -> None:
    caller = who(headers)
    assert (caller.tenant, caller.key, caller.principal) == ("acme", MINTED.id, "usr_1")
    assert caller.scopes == ("tenant:acme", f"key:{MINTED.id}")


def changed(**fields: object) -> KeyRecord:
    return msgspec.structs.replace(key_record(), **fields)


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({}, None),
        ({b"authorization": b"Bearer sk-foreign"}, None),
        ({b"authorization": b"Bearer " + OTHER.text.encode()}, None),
        ({b"authorization": b"Bearer hw_"}, None),
        ({b"authorization": b"Bearer " + MINTED.text[:-1].encode() + (b"0" if MINTED.text[-1] != "0" else b"1")}, None),
        ({b"authorization": b"Bearer " + MINTED.text.upper().encode()}, None),
        ({b"authorization": b"Bearer " + MINTED.text.encode() + b"\xff"}, None),
        (KEY, changed(revoked_wall_ms=1)),
        (KEY, changed(expires_wall_ms=1)),
        (KEY, changed(digest=bytes(32))),
        (KEY, changed(id="key_" + "0" * 26)),
    ],
    ids=["none", "foreign", "unknown", "stub", "wrong", "upper", "bytes", "revoked", "expired", "digest", "removed"],
)
def test_everything_but_a_good_key_is_401_and_tells_nothing(headers: dict[bytes, bytes], key: KeyRecord | None) -> None:
    with pytest.raises(Unauthorized) as refused:
        identify(inbound(headers), live(key=key), wall_ms())
    assert refused.value.http_status == 401
    for secret in (MINTED.text, OTHER.text, MINTED.digest.hex(), "foreign"):
        assert secret not in refused.value.message


@pytest.fixture
def digests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Digests made and comparisons done, in order."""
    done: list[str] = []
    digest, compare = key_bytes.digest, hmac.compare_digest

    def counted(identifier: str, secret: str) -> bytes:
        done.append("digest")
        return digest(identifier, secret)

    def compared(a: bytes, b: bytes) -> bool:
        done.append("compare")
        return compare(a, b)

    monkeypatch.setattr(key_bytes, "digest", counted)
    monkeypatch.setattr(key_bytes.hmac, "compare_digest", compared)
    return done


@pytest.mark.parametrize(
    "presented",
    ["", "sk-foreign", "hw_", OTHER.text, MINTED.text[:-1], MINTED.text],
    ids=["none", "foreign", "stub", "unknown", "short", "good"],
)
def test_every_answer_costs_one_digest_and_one_comparison(presented: str, digests: list[str]) -> None:
    there = live()
    try:
        identify(inbound({b"authorization": b"Bearer " + presented.encode()} if presented else {}), there, wall_ms())
    except Unauthorized:
        pass
    assert digests == ["digest", "compare"]


def test_a_revoked_key_costs_the_same_as_a_good_one(digests: list[str]) -> None:
    with pytest.raises(Unauthorized):
        identify(inbound(KEY), live(key=changed(revoked_wall_ms=1)), wall_ms())
    assert digests == ["digest", "compare"]


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "::ffff:127.0.0.1", ""])
@pytest.mark.parametrize("headers", [{}, {b"authorization": b"Bearer sk-anything"}])
def test_open_access_lets_this_machine_in(peer: str, headers: dict[bytes, bytes]) -> None:
    caller = who(headers, peer, open_access=True)
    assert (caller.tenant, caller.principal, caller.key) == ("default", "open", "")
    assert caller.scopes == ("tenant:default",)


@pytest.mark.parametrize("peer", ["10.0.0.1", "192.168.1.4", "::ffff:10.0.0.1", "127.0.0.1.evil", "fe80::1"])
def test_open_access_lets_nobody_else_in(peer: str) -> None:
    with pytest.raises(Unauthorized):
        who({}, peer, open_access=True)


@pytest.mark.parametrize("name", [b"x-forwarded-for", b"forwarded", b"x-real-ip"])
def test_open_access_is_not_lent_to_a_proxy_on_this_machine(name: bytes) -> None:
    with pytest.raises(Unauthorized):
        who({name: b"203.0.113.9"}, "127.0.0.1", open_access=True)
    assert not from_this_machine("127.0.0.1", {name: b"127.0.0.1"})


@pytest.mark.parametrize(
    "headers",
    [
        {b"authorization": b"Bearer " + OTHER.text.encode()},
        {b"x-api-key": b"hw_wrong"},
        {b"authorization": b"Bearer sk-fine", b"x-api-key": OTHER.text.encode()},
        {b"authorization": b"Basic abc", b"api-key": b"hw_x"},
    ],
)
def test_open_access_never_forgives_a_wrong_key_of_ours(headers: dict[bytes, bytes]) -> None:
    with pytest.raises(Unauthorized):
        who(headers, "127.0.0.1", open_access=True)


def test_without_open_access_this_machine_needs_a_key_too() -> None:
    with pytest.raises(Unauthorized):
        who({}, "127.0.0.1")


FIELDS = {
    b"x-headway-run": "run",
    b"x-headway-step": "step",
    b"x-headway-parent": "parent",
    b"x-headway-class": "klass",
    b"x-headway-prompt": "prompt_ref",
    b"x-headway-commitment": "commitment",
    b"x-headway-idempotency-key": "idempotency_key",
}


@pytest.mark.parametrize(("name", "field"), FIELDS.items())
def test_each_header_is_taken_validated_and_bounded(name: bytes, field: str) -> None:
    assert getattr(who(KEY | {name: b"a.B-9_:/@+="}), field) == "a.B-9_:/@+="
    assert getattr(who(KEY | {name: b"x" * 200}), field) == "x" * 200
    for bad in (b"", b"x" * 201, b"a b", b"a\r\nb", b"a\x00", b"\xc3\xa9", b"a,b", b"a;b", b'"a"', b"${x}", b"{{x}}", b"a\n"):
        with pytest.raises(BadRequest) as refused:
            who(KEY | {name: bad})
        assert refused.value.param == name.decode()
        assert bad.decode("latin-1") not in refused.value.message or not bad


@pytest.mark.parametrize(("value", "ms"), [(b"1", 1.0), (b"86400000", float(DEADLINE_MS_MAX)), (b"0250", 250.0)])
def test_a_deadline_is_whole_milliseconds(value: bytes, ms: float) -> None:
    assert who(KEY | {b"x-headway-deadline-ms": value}).deadline_ms == ms


@pytest.mark.parametrize(
    "value",
    [
        b"0",
        b"-1",
        b"",
        b"1.5",
        b"1e3",
        b"86400001",
        b"9" * 40,
        b"0x10",
        b" 1",
        b"1 ",
        b"1_000",
        "٣".encode(),
        b"inf",
        b"nan",
        b"+1",
    ],
)
def test_a_deadline_of_anything_else_is_refused(value: bytes) -> None:
    with pytest.raises(BadRequest) as refused:
        who(KEY | {b"x-headway-deadline-ms": value})
    assert refused.value.param == "x-headway-deadline-ms"


def test_headers_are_read_only_of_callers_who_are_known() -> None:
    with pytest.raises(Unauthorized):
        who({b"x-headway-deadline-ms": b"nonsense"})


def test_headers_that_are_not_for_callers_are_counted() -> None:
    known = dict.fromkeys([*FIELDS, b"x-headway-deadline-ms", b"authorization", b"x-other"], b"1")
    assert unknown_headway_headers(known) == 0
    assert unknown_headway_headers(known | {b"x-headway-tenant": b"a", b"x-headway-answered": b"b", b"x-headway-": b"c"}) == 3


@given(st.dictionaries(st.sampled_from([b"authorization", b"x-api-key", b"api-key"]), st.binary(max_size=80)))
def test_any_bytes_as_key_are_refused_and_never_a_fault(headers: dict[bytes, bytes]) -> None:
    presented_key(headers)
    with pytest.raises(Unauthorized):
        identify(inbound(headers), SHARED, wall_ms())


SHARED = live()


# --- heads


def test_only_validated_headers_of_a_caller_go_up_and_configured_ones_win() -> None:
    sent = heads.upstream_headers(
        (("authorization", "Bearer p"), ("anthropic-version", "ours")),
        DialectName.ANTHROPIC,
        stream=True,
        caller={
            b"anthropic-beta": b"tools-2026, cache",
            b"anthropic-version": b"2023-06-01",
            b"cookie": b"c",
            b"x-headway-run": b"r",
            b"authorization": b"Bearer hw",
            b"openai-beta": b"b",
            b"host": b"evil",
            b"x-forwarded-for": b"1.2.3.4",
        },
    )
    assert dict(sent) == {
        "accept": "text/event-stream",
        "content-type": "application/json",
        "user-agent": "headway",
        "authorization": "Bearer p",
        "anthropic-version": "ours",
        "anthropic-beta": "tools-2026, cache",
    }
    assert len(sent) == len(dict(sent))


@pytest.mark.parametrize("bad", [b"", b"a\r\nx: y", b"a\nb", b"\x00", b"\xff", b"x" * 201, b"a;b", b'"'])
def test_a_beta_header_that_could_write_a_line_is_refused(bad: bytes) -> None:
    with pytest.raises(BadRequest):
        heads.caller_headers({b"anthropic-beta": bad}, DialectName.ANTHROPIC, set())
    with pytest.raises(BadRequest):
        heads.caller_headers({b"openai-beta": bad}, DialectName.OPENAI_RESPONSES, set())


def test_an_answers_head_passes_by_the_list_only() -> None:
    told = heads.read_head(
        [
            ("content-type", "text/event-stream; charset=utf-8"),
            ("x-request-id", "req_1"),
            ("openai-processing-ms", "5"),
            ("openai-organization", "org-secret"),
            ("openai-project", "proj-secret"),
            ("anthropic-organization-id", "org-secret"),
            ("openai-processing-region", "eu"),
            ("x-ratelimit-remaining-tokens", "9"),
            ("retry-after", "3"),
            ("set-cookie", "a=b"),
            ("server", "nginx"),
            ("x-headway-tenant", "forged"),
            ("location", "http://elsewhere"),
            ("transfer-encoding", "chunked"),
            ("connection", "close"),
            ("x-internal-host", "10.1.1.1"),
        ]
    )
    assert [n for n, _ in told.passed] == [
        b"x-request-id",
        b"openai-processing-ms",
        b"openai-processing-region",
        b"x-ratelimit-remaining-tokens",
        b"retry-after",
    ]
    assert told.is_stream
    assert (told.request_id, told.region) == ("req_1", "eu")
    assert told.ratelimit == "x-ratelimit-remaining-tokens=9;retry-after=3"


@pytest.mark.parametrize(
    ("headers", "ms"),
    [
        ((), None),
        ((("retry-after", "2"),), 2000),
        ((("retry-after", "0.5"),), 500),
        ((("retry-after-ms", "150"), ("retry-after", "9")), 150),
        ((("retry-after", "9"), ("retry-after-ms", "150")), 150),
        ((("retry-after", "-3"),), 0),
        ((("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT"),), None),
        ((("retry-after", "inf"),), None),
        ((("retry-after", "nan"),), None),
        ((("retry-after-ms", "x"), ("retry-after", "1")), 1000),
    ],
)
def test_retry_after_in_both_spellings(headers: tuple[tuple[str, str], ...], ms: int | None) -> None:
    assert heads.retry_after_ms(headers) == ms


def test_refusals_say_when_and_whether_to_try_again() -> None:
    said = dict(heads.refusal_headers(Overloaded("x", retry_after_ms=1_001)))
    assert (said[b"retry-after"], said[b"retry-after-ms"], said[b"x-should-retry"]) == (b"2", b"1001", b"true")
    assert dict(heads.refusal_headers(MethodNotAllowed("/x", ("GET", "HEAD"))))[b"allow"] == b"GET, HEAD"
