"""Which change broke a cached prefix, and what it cost."""

import zlib

from headway.calls.phases.prefix_change import Break, PrefixKind, Prompt, breaks, bytes_before
from headway.gateway.estimate import prefix_hashes

TOOLS = b'{"name":"search","x":1},{"name":"read","x":2},{"name":"write","x":3}'
SWAPPED = b'{"name":"read","x":2},{"name":"search","x":1},{"name":"write","x":3}'


def body(n: int, begin: bytes = b"system: be kind. ", tail: bytes = b"") -> bytes:
    text = begin + b"".join(b"rule %d. " % i for i in range(900))
    return text + tail + b"question %d " % n * 200


def prompt(n: int, text: bytes, *, cached: bool = True, head: bool = False, ref: str = "help@1") -> Prompt:
    return Prompt(
        call=f"c{n:03d}",
        at_ms=n * 1_000,
        target="p/m",
        tenant="acme",
        ref=ref,
        hashes=prefix_hashes(text),
        head=text[:4_096] if head else b"",
        input_tokens=3_000,
        cached_tokens=2_000 if cached else 0,
        token_ms=0.25,
    )


def found(prompts: list[Prompt]) -> Break:
    (only,) = breaks(prompts)
    return only


def usual(n: int = 20, head: bool = False) -> list[Prompt]:
    return [prompt(i, body(i), head=head) for i in range(n)]


def test_blocks_are_the_gateways() -> None:
    text = bytes(range(256)) * 400
    hashes = prefix_hashes(text)
    assert [zlib.crc32(text[: bytes_before(k + 1)]) for k in range(len(hashes))] == list(hashes)


def test_prompts_with_one_beginning_break_nothing() -> None:
    assert breaks(usual(40)) == ()


def test_a_timestamp_is_read_from_what_was_recorded() -> None:
    late = [prompt(n, body(n, b"now: 2026-11-24T14:%02d. " % n), cached=False, head=True, ref="help@1") for n in range(20, 30)]
    one = found([*usual(head=True), *late])
    assert one.kind is PrefixKind.TIME, "one that is new in the prompt"
    assert one.calls == 10
    stamped = [
        prompt(n, body(n, b"now: 2026-11-24T14:00. " if n < 20 else b"now: 2026-11-24T15:%02d. " % n), head=True, cached=n < 20)
        for n in range(30)
    ]
    one = found(stamped)
    assert one.kind is PrefixKind.TIME
    assert "2026-11-24" in one.what
    assert (one.calls, one.first_call) == (10, "c020")
    assert one.byte_from == one.byte_until == len(b"now: 2026-11-24T15:2")
    assert one.lost_tokens == 10 * 2_000
    assert one.cost_ms == 10 * 2_000 * 0.25


def test_without_a_recording_it_is_known_that_it_comes_with_every_call() -> None:
    one = found([*usual(), *(prompt(n, body(n, b"id %d " % n), cached=False) for n in range(20, 26))])
    assert one.kind is PrefixKind.EVERY_CALL
    assert (one.byte_from, one.byte_until) == (0, 1_024)
    assert one.calls == 6


def test_tools_in_another_order() -> None:
    tools = [prompt(n, body(n, TOOLS), head=True) for n in range(20)]
    one = found([*tools, prompt(20, body(20, SWAPPED), cached=False, head=True)])
    assert one.kind is PrefixKind.TOOLS
    assert one.calls == 1


def test_another_version_of_the_prompt_breaks_it_once() -> None:
    newer = [prompt(n, body(n, b"system: be brief. "), cached=n > 20, ref="help@2") for n in range(20, 40)]
    one = found([*usual(), *newer])
    assert one.kind is PrefixKind.VERSION
    assert one.what == "help@1 became help@2"
    assert (one.calls, one.cost_ms) == (1, 500.0)


def test_what_the_provider_does_not_tell_has_no_cost() -> None:
    blind = [
        Prompt(call=f"c{n:03d}", at_ms=n, target="p/m", feature="f", hashes=prefix_hashes(body(n, b"" if n < 20 else b"x")))
        for n in range(21)
    ]
    one = found(blind)
    assert one.cost_ms is None
    assert one.lost_tokens is None
    assert one.prompt == "f"


def test_short_prompts_and_first_ones_are_no_breaks() -> None:
    assert breaks([prompt(n, b"short %d" % n) for n in range(30)]) == ()
    assert breaks([prompt(0, body(0)), prompt(1, body(1, b"other"))]) == ()
