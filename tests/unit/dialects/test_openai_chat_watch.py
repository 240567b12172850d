"""A chat stream that passes: bytes are equal but for what the caller did not ask for, and what matters is seen at any split."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.calls.conversation import StopReason, Usage
from headway.gateway.dialects.openai_chat import OpenAIChat
from headway.gateway.dialects.watch import ChatWatcher, _matters

CHAT = OpenAIChat()
COMPACT, SPACED = (",", ":"), (", ", ": ")
USAGE = {
    "prompt_tokens": 11,
    "completion_tokens": 5,
    "total_tokens": 16,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
DONE = b"data: [DONE]\n\n"


def event(data: object, style: tuple[str, str] = COMPACT, name: str = "") -> bytes:
    return (f"event: {name}\n" if name else "").encode() + b"data: " + json.dumps(data, separators=style).encode() + b"\n\n"


def chunk(delta: object, reason: str | None = None, style: tuple[str, str] = COMPACT, **more: object) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 7, "model": "gpt-x", "system_fingerprint": "fp"}
    return event({**head, "choices": [choice], **more}, style)


def stream(style: tuple[str, str] = COMPACT, **more: object) -> list[bytes]:
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 7, "model": "gpt-x", "system_fingerprint": "fp"}
    return [
        chunk({"role": "assistant", "content": ""}, style=style, **more),
        *(
            chunk({"content": word}, style=style, **more)
            for word in ('Say "usage": null, ', '"finish_reason":"stop" ', "[DONE] event: error\n", "done")
        ),
        chunk({}, "stop", style, **more),
        event({**head, "choices": [], "usage": USAGE}, style),
        DONE,
    ]


def watch(data: bytes, cuts: list[int], *, strip: bool) -> tuple[bytes, ChatWatcher]:
    watcher = ChatWatcher(strip_usage=strip)
    places = sorted({min(c, len(data)) for c in cuts} | {0, len(data)})
    out = b"".join(watcher.feed(data[a:b]) for a, b in zip(places, places[1:], strict=False))
    return out + watcher.finish(), watcher


def check(watcher: ChatWatcher) -> None:
    seen = watcher.seen
    assert (seen.id, seen.model, seen.fingerprint) == ("c1", "gpt-x", "fp")
    assert seen.stop is StopReason.END
    assert seen.usage == Usage(input_tokens=11, output_tokens=5, cached_tokens=4, reasoning_tokens=2)
    assert (seen.started, seen.ended, seen.failed, seen.events) == (True, True, "", 8)


@pytest.mark.parametrize("style", [COMPACT, SPACED])
def test_every_cut_in_two(style: tuple[str, str]) -> None:
    data = b"".join(stream(style))
    for at in range(0, len(data), 3):
        out, watcher = watch(data, [at], strip=False)
        assert out == data
        check(watcher)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 2200), max_size=12), st.sampled_from([COMPACT, SPACED]), st.booleans(), st.booleans())
def test_any_split(cuts: list[int], style: tuple[str, str], nulls: bool, strip: bool) -> None:
    data = b"".join(stream(style, **({"usage": None} if nulls else {})))
    out, watcher = watch(data, cuts, strip=strip)
    check(watcher)
    wanted = stream(style)
    if not strip:
        assert out == data
    else:
        assert out == b"".join([*wanted[:6], DONE])


def test_usage_that_was_asked_for_stays() -> None:
    asked = CHAT.scan(b'{"model":"m","stream":true,"stream_options":{"include_usage":true}}')
    unasked = CHAT.scan(b'{"model":"m","stream":true}')
    data = b"".join(stream(usage=None))
    assert CHAT.watcher(asked).feed(data) == data
    assert CHAT.watcher(unasked).feed(data) == b"".join([*stream()[:6], DONE])


def test_usage_beside_an_answer_stays_and_azures_first_chunk_too() -> None:
    """Only what the option adds goes: a chunk without choices that carries usage."""
    first = event({"id": "", "choices": [], "prompt_filter_results": []})
    last = chunk({"content": "x"}, "stop", usage=USAGE)
    out, watcher = watch(first + last + DONE, [], strip=True)
    assert out == first + last + DONE
    assert watcher.seen.usage is not None
    leading = b'data: {"usage":null, "id":"c","choices":[]}\n\n'
    assert watch(leading, [], strip=True)[0] == b'data: {"id":"c","choices":[]}\n\n'


@pytest.mark.parametrize(
    ("delta", "started"),
    [
        ({"role": "assistant", "content": ""}, False), ({"role": "assistant", "content": None, "refusal": None}, False), ({}, False), ({"tool_calls": []}, False),
        ({"content": "x"}, True), ({"reasoning_content": "x"}, True), ({"reasoning": "x"}, True), ({"refusal": "x"}, True),
        ({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}}]}, True), ({"function_call": {"name": "f", "arguments": ""}}, True),
        ({"content": [{"type": "thinking", "thinking": []}]}, True),
    ],
)  # fmt: skip
def test_a_role_alone_is_no_first_token(delta: object, started: bool) -> None:
    watcher = ChatWatcher()
    watcher.feed(b": ping\n\n" + chunk(delta))
    assert watcher.seen.started is started


@pytest.mark.parametrize("style", [COMPACT, SPACED])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    ("error", "name", "kind", "message"),
    [
        ({"error": {"message": "slow down", "type": "rate_limit_error", "code": None}}, "", "rate_limit_error", "slow down"),
        ({"error": {"message": "slow down", "type": "x", "code": "overloaded"}}, "error", "overloaded", "slow down"),
        ({"error": "slow down"}, "", "error", "slow down"),
        ({"message": "slow down", "type": "oops"}, "error", "oops", "slow down"),
        (
            {
                "id": "c1",
                "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}],
                "error": {"code": 502, "message": "slow down"},
            },
            "",
            "error",
            "slow down",
        ),
    ],
)
def test_an_error_in_the_stream(error: object, name: str, kind: str, message: str, late: bool, style: tuple[str, str]) -> None:
    """It passes, it is seen, and no clean end may follow it (vLLM sends one)."""
    before = chunk({"content": "x"}, style=style) if late else b""
    bad = event(error, style, name)
    out, watcher = watch(before + bad + DONE, [len(before), len(before) + len(bad)], strip=False)
    assert out == before + bad
    assert (watcher.seen.failed, watcher.seen.failed_message, watcher.seen.ended) == (kind, message, False)


def test_a_null_error_is_none_and_the_end_comes_once() -> None:
    data = chunk({"content": "x"}, error=None) + chunk({}, "length", error=None) + DONE
    out, watcher = watch(data + DONE, [], strip=False)
    assert out == data
    assert (watcher.seen.failed, watcher.seen.ended, watcher.seen.stop) == ("", True, StopReason.LENGTH)


def test_a_cut_stream_has_not_ended_and_its_torn_event_is_dropped() -> None:
    whole = b"".join(stream())
    for at in range(len(whole) - len(DONE)):
        out, watcher = watch(whole[:at], [at // 2], strip=False)
        assert not watcher.seen.ended
        assert whole.startswith(out)
        assert not out or out.endswith(b"\n\n")


@pytest.mark.parametrize("end", [b"data: [DONE]", b"data: [DONE]\n", b"data:[DONE]\n\n", b"data: [DONE]\r\n\r\n"])
def test_ends_as_servers_write_them(end: bytes) -> None:
    out, watcher = watch(chunk({"content": "x"}) + end, [], strip=False)
    assert watcher.seen.ended
    assert out.startswith(chunk({"content": "x"}) + end)


def test_crlf_streams() -> None:
    data = b"".join(stream()).replace(b"\n", b"\r\n").replace(b"\\n", b"\\n")
    for at in range(0, len(data), 5):
        out, watcher = watch(data, [at], strip=True)
        check(watcher)
        assert out == b"".join([*stream()[:6], DONE]).replace(b"\n", b"\r\n")


def test_tool_calls_that_end_with_stop() -> None:
    watcher = ChatWatcher()
    watcher.feed(
        chunk({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}]}) + chunk({}, "stop") + DONE
    )
    assert watcher.seen.stop is StopReason.TOOL_USE


def test_the_text_and_an_estimate_of_its_length() -> None:
    words = ["Hello", " wörld", ', "said" ', "she", "."]
    data = b"".join([stream()[0], *(chunk({"content": word}) for word in words), *stream()[5:]])
    _, watcher = watch(data, list(range(0, len(data), 100)), strip=False)
    assert watcher.text_of(data) == "".join(words)
    assert watcher.text_of(b": ping\n\n") == ""
    text = sum(len(json.dumps(word)) - 2 for word in words)
    assert text <= watcher.seen.output_chars <= text + 10


@pytest.mark.parametrize(
    "odd",
    [
        b"data: not json\n\n",
        b'data: {"choices":7}\n\n',
        b"data: []\n\n",
        b"data: \xff\n\n",
        b"data\n\n",
        b"\n\n",
        b'data: {"error":\n\n',
        b"data: " + b"[" * 5000 + b"\n\n",
    ],
)
def test_what_cannot_be_read_passes(odd: bytes) -> None:
    for before in (b"", chunk({"content": "x"})):
        out, watcher = watch(before + odd + DONE, [], strip=True)
        assert out == before + odd + DONE
        assert watcher.seen.ended


TELLING = (b'"finish_reason":"', b'"finish_reason": "', b'"usage":{', b'"usage" : {', b"[DONE]", b'"error"', b"event:")


@given(st.binary(max_size=200), st.sampled_from(TELLING), st.binary(max_size=200))
def test_whatever_stands_around_it_what_matters_is_seen(before: bytes, telling: bytes, after: bytes) -> None:
    assert _matters(before + telling + after)


@pytest.mark.parametrize("style", [COMPACT, SPACED])
def test_most_events_do_not_matter(style: tuple[str, str]) -> None:
    for more in ({}, {"usage": None}, {"service_tier": "default", "obfuscation": "xxxx"}):
        assert not _matters(chunk({"content": "every usage error is an event [here]"}, style=style, **more))
