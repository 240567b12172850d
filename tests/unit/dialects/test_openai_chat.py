"""The chat dialect over bodies that pass: what is read, what is spliced, what is refused, what a prefix is."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.calls.conversation import DialectName, StopReason, Usage
from headway.gateway.dialects.openai_chat import OpenAIChat
from headway.gateway.dialects.registry import REGISTRY
from headway.kernel.errors import BadRequest, BudgetExhausted

CHAT = OpenAIChat()


def _body(**members: object) -> bytes:
    return json.dumps({"model": "fast", "messages": [{"role": "user", "content": "hi"}], **members}).encode()


def _spliced(body: bytes, *, model: str = "gpt-4o", want_usage: bool = True, max_tokens: int | None = None) -> dict[str, object]:
    return json.loads(CHAT.splice(body, CHAT.scan(body), model=model, want_usage=want_usage, max_tokens=max_tokens))


def test_every_dialect_is_registered_under_its_own_name() -> None:
    assert set(REGISTRY) == set(DialectName)
    assert all(codec.name is name and codec.path.startswith("/v1/") for name, codec in REGISTRY.items())


def test_scan_reads_the_few_facts() -> None:
    body = _body(stream=True, max_tokens=7, tools=[1], stream_options={"include_usage": True})
    scan = CHAT.scan(body)
    assert (scan.model, scan.stream, scan.max_tokens, scan.wants_stream_usage) == ("fast", True, 7, True)
    assert body[: scan.prefix_end].endswith(b"}]")
    assert scan.prompt_bytes == len(json.dumps([{"role": "user", "content": "hi"}])) + len("[1]")
    assert CHAT.scan(_body(max_tokens=7, max_completion_tokens=9)).max_tokens == 9
    assert not CHAT.scan(_body(stream=False, stream_options={"include_usage": True})).wants_stream_usage
    assert CHAT.scan(_body(stream=None, max_tokens=None, stream_options=None)).max_tokens is None


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"model": None}, "model"), ({"model": 3}, "model"), ({"model": ""}, "model"), ({"stream": 1}, "stream"), ({"stream": "true"}, "stream"),
        ({"max_tokens": "9"}, "max_tokens"), ({"max_tokens": 1.5}, "max_tokens"), ({"max_tokens": 10**30}, "max_tokens"), ({"max_tokens": -1}, "max_tokens"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"), ({"stream": True, "stream_options": {"include_usage": 1}}, "include_usage"),
    ],
)  # fmt: skip
def test_scan_refuses_by_name(members: dict[str, object], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        CHAT.scan(_body(**members))
    assert caught.value.param == param


def test_a_second_model_cannot_slip_by() -> None:
    with pytest.raises(BadRequest, match="'model' stands twice"):
        CHAT.scan(b'{"model":"cheap","messages":[],"\\u006dodel":"dear"}')
    with pytest.raises(BadRequest):
        CHAT.scan(b'{"model":"m","stream":true,"stream_options":{"include_usage":true,"include_usage":false}}')


@pytest.mark.parametrize(
    ("options", "spliced"),
    [
        ({}, {"include_usage": True}),
        ({"stream_options": None}, {"include_usage": True}),
        ({"stream_options": {}}, {"include_usage": True}),
        (
            {"stream_options": {"include_usage": False, "include_obfuscation": False}},
            {"include_usage": True, "include_obfuscation": False},
        ),
        ({"stream_options": {"include_obfuscation": False}}, {"include_usage": True, "include_obfuscation": False}),
    ],
)
def test_usage_is_asked_for_in_a_stream(options: dict[str, object], spliced: dict[str, object]) -> None:
    body = _body(stream=True, **options)
    assert _spliced(body)["stream_options"] == spliced
    assert _spliced(body, want_usage=False).get("stream_options") == options.get("stream_options")
    assert "stream_options" not in _spliced(_body())


def test_a_maximum_is_set_only_where_the_caller_named_none() -> None:
    assert _spliced(_body(), max_tokens=5)["max_tokens"] == 5
    assert "max_completion_tokens" not in _spliced(_body(), max_tokens=5)
    for model in ("o3-mini", "gpt-5.1", "openai/gpt-5"):
        assert _spliced(_body(), model=model, max_tokens=5)["max_completion_tokens"] == 5
    assert _spliced(_body(max_tokens=None), max_tokens=5)["max_tokens"] == 5
    assert _spliced(_body(max_completion_tokens=9), max_tokens=5).get("max_tokens") is None


def test_nothing_to_change_is_the_same_body() -> None:
    body = _body(stream=True, stream_options={"include_usage": True})
    assert CHAT.splice(body, CHAT.scan(body), model="fast", want_usage=True) is body


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=8), st.text(st.characters(exclude_categories=["Cs"])), max_size=5
    ),
    st.sampled_from([{}, {"indent": 1}, {"ensure_ascii": False}]),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9),
)
def test_unknown_fields_pass_untouched(extra: dict[str, str], style: dict[str, object], model: str) -> None:
    wanted = {"model": "fast", "stream": True, "messages": [{"role": "user", "content": "é\n"}], "zz": extra}
    body = json.dumps(wanted, **style).encode()
    spliced = CHAT.splice(body, CHAT.scan(body), model=model, want_usage=True)
    assert json.loads(spliced) == {**wanted, "model": model, "stream_options": {"include_usage": True}}
    assert body[body.index(b'"stream"') :] in spliced


# --- errors --------------------------------------------------------------------------------------------------------------


def test_error_bodies() -> None:
    error = BudgetExhausted("No budget left.", param="model")
    wanted = {"error": {"message": "No budget left.", "type": "insufficient_quota", "param": "model", "code": "budget_exhausted"}}
    assert json.loads(CHAT.error_body(error, request_id="r")) == wanted
    event = CHAT.error_event(error)
    assert event.startswith(b"data: ")
    assert event.endswith(b"\n\n")
    assert json.loads(event[6:]) == wanted


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (b'{"error":{"message":"no","type":"invalid_request_error","param":null,"code":"context_length_exceeded"}}', "context_length_exceeded", "no"),
        (b'{"error":{"message":"no","type":"server_error","code":null}}', "server_error", "no"),
        (b'{"error":{"message":"no","code":502,"metadata":{}}}', "error", "no"),
        (b'{"error":"no"}', "error", "no"),
        (b'{"object":"error","message":"no","type":"BadRequestError","param":null,"code":400}', "BadRequestError", "no"),
        (b'{"detail":"no"}', "error", "no"),
        (b'{"detail":[{"msg":"x"}]}', "error", '[{"msg":"x"}]'),
        (b"<html>", "", ""), (b"", "", ""), (b"[]", "", ""), (b'{"choices":[]}', "", ""), (b"\xff", "", ""),
    ],
)  # fmt: skip
def test_errors_of_providers_in_every_form_met(body: bytes, kind: str, message: str) -> None:
    assert CHAT.decode_error(400, body) == (kind, message)


# --- whole answers -------------------------------------------------------------------------------------------------------


def test_see_answer() -> None:
    body = json.dumps(
        {
            "id": "c1", "object": "chat.completion", "created": 1, "model": "gpt-x", "system_fingerprint": "fp",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "héllo", "reasoning_content": "mm"}, "finish_reason": "length"}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13, "prompt_tokens_details": {"cached_tokens": 3}},
        }
    ).encode()  # fmt: skip
    seen = CHAT.see_answer(body)
    assert (seen.id, seen.model, seen.fingerprint, seen.stop) == ("c1", "gpt-x", "fp", StopReason.LENGTH)
    assert seen.usage == Usage(input_tokens=9, output_tokens=4, cached_tokens=3)
    assert (seen.started, seen.ended, seen.failed) == (True, True, "")
    uncounted = json.loads(body)
    del uncounted["usage"]
    assert CHAT.see_answer(json.dumps(uncounted).encode()).output_chars == 7
    failed = CHAT.see_answer(b'{"error":{"message":"gone","code":"overloaded"}}')
    assert (failed.failed, failed.failed_message, failed.ended) == ("overloaded", "gone", False)
    for odd in (b"", b"<html>", b"[]", b'{"choices":7}', b'{"choices":[{"message":{"content":[{"type":"text","text":"a"}]}}]}'):
        assert CHAT.see_answer(odd).stop is None


# --- prefix --------------------------------------------------------------------------------------------------------------

_LONG = 'Zwölf Boxkämpfer 🌍 \\ "jagen"\n' * 20


def _prompt(**members: object) -> bytes:
    messages = [
        {"role": "system", "content": "Be brief. " * 5},
        {"role": "user", "content": "first " * 20},
        {"role": "assistant", "content": "answer " * 20},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "look"},
                {"type": "text", "text": _LONG},
                {"type": "image_url", "image_url": {"url": "https://x/y"}},
            ],
        },
    ]
    return json.dumps(
        {"model": "m", "messages": messages, "tools": [{"type": "function", "function": {"name": "f"}}], **members}
    ).encode()


@pytest.mark.parametrize("spelling", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("upto", [0, 1, 10, 25, 60, 110, 150, 200, 300, 400])
def test_a_prefix_is_the_beginning_of_the_prompt(upto: int, spelling: str) -> None:
    body = _prompt(stream=True, stream_options={"include_usage": True}, temperature=0, **{spelling: 900})
    whole, cut = json.loads(body), json.loads(CHAT.prefix(body, upto, 4.0))
    assert cut[spelling] == 1
    assert "stream" not in cut
    assert "stream_options" not in cut
    assert (cut["tools"], cut["temperature"], cut["messages"][0]) == (whole["tools"], 0, whole["messages"][0])
    assert json.dumps(whole["tools"]).encode() in CHAT.prefix(body, upto, 4.0)
    *before, last = cut["messages"]
    assert before == whole["messages"][: len(before)]
    assert last["role"] == "user"
    full = whole["messages"][len(before)]["content"]
    if isinstance(full, str):
        assert full.startswith(last["content"])
        assert last["content"]
    else:
        assert last["content"][:-1] == full[: len(last["content"]) - 1]
        assert full[len(last["content"]) - 1].get("text", "").startswith(last["content"][-1].get("text", ""))


def test_prefixes_grow_up_to_the_whole() -> None:
    body = _prompt()
    sizes = [len(CHAT.prefix(body, upto, 1.0)) for upto in range(0, 3000, 7)]
    assert sizes == sorted(sizes)
    assert json.loads(CHAT.prefix(body, 5000, 1.0))["messages"] == json.loads(body)["messages"]
    for upto in range(300, 1600, 7):  # about as long as asked for, past what may not be cut
        cut = json.loads(CHAT.prefix(body, upto, 1.0))
        size = len(json.dumps(cut["messages"])) + len(json.dumps(cut["tools"]))
        assert size <= upto + 80  # a text that begins just behind the place keeps one character
        assert size >= upto - 250


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 900), st.booleans())
def test_a_prefix_never_tears_a_character(upto: int, ascii_only: bool) -> None:
    text = 'é🌍\\"\n' * 30
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}, ensure_ascii=ascii_only).encode()
    cut = json.loads(CHAT.prefix(body, upto, 1.0))
    assert text.startswith(cut["messages"][0]["content"])
    assert cut["max_tokens"] == 1


@pytest.mark.parametrize(
    "messages",
    [
        None,
        [],
        [{"role": "system", "content": "x" * 99}],
        [{"role": "user", "content": ""}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}],
    ],
)
def test_no_text_to_cut_is_refused(messages: object) -> None:
    body = json.dumps({"model": "m", **({} if messages is None else {"messages": messages})}).encode()
    with pytest.raises(BadRequest) as caught:
        CHAT.prefix(body, 1, 1.0)
    assert caught.value.param == "messages"
