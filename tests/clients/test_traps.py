"""The traps that gateways have fallen into with these clients, one test each. Raw bytes, since clients differ in what they forgive."""

import asyncio
import base64
import json

import pytest
from clients_setup import MODEL_BY_DIALECT

from headway.prove.forms import CHAT, DIALECTS, MESSAGES, PATHS, RESPONSES, body_of, headers_of, sse_events, stream_end
from headway.prove.rawhttp import RawAnswer, get_json, request
from headway.prove.told import told, told_stream

OTHERS = [(caller, target) for caller in DIALECTS for target in DIALECTS if caller != target]


@pytest.fixture
def call(way):
    """One call in a dialect to the model of another (or of its own)."""

    def ask(
        dialect: str, text: str, *, target: str | None = None, path: str = "", stream: bool = True, model: str = "", **more
    ) -> RawAnswer:
        body = body_of(dialect, model or MODEL_BY_DIALECT[target or dialect], text, stream=stream, **more)
        return asyncio.run(request(way.url, "POST", path or PATHS[dialect], headers_of(dialect, way.key), body))

    return ask


def forwarded(upstream, mark: str) -> dict:
    """The body that the upstream got, by the mark in its prompt."""
    report = asyncio.run(get_json(upstream.url, f"/_seen?contains={mark}&last=1"))
    return json.loads(base64.b64decode(report["last"][0]["body"]))


@pytest.mark.parametrize(("caller", "target"), [(d, d) for d in DIALECTS] + OTHERS)
def test_pings_reach_no_client_as_an_event_that_it_cannot_read(call, translating, caller, target):
    """openai-python reads a blank line after a comment as an event; `id:` and `retry:` alone do the same; the Vercel SDK reads every data line."""
    answer = call(caller, "<<delay_ms=40 ping_every_ms=15 words=4>>", target=target)
    events = sse_events(answer.body)
    assert all(event.data for event in events), "an event without data"
    assert not any(event.fields & {"id", "retry"} for event in events)
    for event in events:
        assert event.data == "[DONE]" or "type" in event.json() or "choices" in event.json()
    assert told_stream(caller, answer.body).text == "w0 w1 w2 w3 "


@pytest.mark.parametrize(("caller", "target"), OTHERS)
@pytest.mark.parametrize("script", ["words=5", "tools=2", "thinking=true words=2", "tools=1 thinking=true"])
def test_translated_streams_keep_the_order_of_their_dialect(call, translating, caller, target, script):
    """One message_start, no delta for a block never opened (Claude Code); an item before its deltas, an end (Codex); [DONE] once."""
    stream = call(caller, f"<<{script}>> go", target=target, tools=tools_of(caller))
    whole = call(caller, f"<<{script}>> go", target=target, stream=False, tools=tools_of(caller))
    assert stream.status == 200, stream.body
    assert whole.status == 200, whole.body
    seen, plain = told_stream(caller, stream.body), told(caller, json.loads(whole.body))
    assert (seen.text, seen.calls, seen.stop) == (plain.text, plain.calls, plain.stop)
    if "tools" in script:
        assert len(seen.calls) == int(script[6])
    if caller != CHAT:
        assert seen.output_tokens == plain.output_tokens


def tools_of(dialect: str) -> list[dict]:
    schema = {
        "type": "object",
        "properties": {"port": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["port", "days"],
    }
    if dialect == MESSAGES:
        return [{"name": "tide_table", "description": "Water.", "input_schema": schema}]
    function = {"name": "tide_table", "description": "Water.", "parameters": schema}
    return [{"type": "function", "function": function}] if dialect == CHAT else [{"type": "function", **function}]


@pytest.mark.parametrize("target", [CHAT, RESPONSES])
def test_message_start_carries_usage_fields_and_json_never_comes_where_a_stream_was_asked(call, translating, target):
    """Absent usage in message_start broke Claude Code 2.1.79; JSON in place of SSE made it fall back."""
    answer = call(MESSAGES, "<<words=3>>", target=target)
    assert answer.header("content-type").startswith("text/event-stream")
    start = sse_events(answer.body)[0].json()
    assert start["type"] == "message_start"
    assert {"input_tokens", "output_tokens"} <= set(start["message"]["usage"])
    assert all(isinstance(start["message"]["usage"][name], int) for name in ("input_tokens", "output_tokens"))


def test_count_tokens_is_answered_or_a_clean_404(call, translating):
    path = "/v1/messages/count_tokens"
    served = call(MESSAGES, "How long is this?", path=path, stream=False)
    assert json.loads(served.body)["input_tokens"] > 0
    refused = call(MESSAGES, "How long is this?", path=path, target=CHAT, stream=False)
    assert refused.status == 404
    assert json.loads(refused.body)["error"]["type"] == "not_found_error"


@pytest.mark.parametrize("path", ["/responses", "/v1/responses"])
def test_a_base_url_works_with_and_without_v1(call, translating, path):
    """Codex is configured either way."""
    answer = call(RESPONSES, "<<words=2>>", path=path)
    assert answer.status == 200, answer.body
    assert told_stream(RESPONSES, answer.body).text == "w0 w1 "


@pytest.mark.parametrize("target", [RESPONSES, MESSAGES])
def test_chat_chunks_have_what_strict_readers_demand(call, translating, target):
    """Vercel: an index in each tool call and `choices: []` beside usage; Pydantic AI: never `choices: null`, and the model that answered."""
    answer = call(
        CHAT, "<<tools=2 answered=harbour-9>> go", target=target, tools=tools_of(CHAT), stream_options={"include_usage": True}
    )
    chunks = [event.json() for event in sse_events(answer.body) if event.data != "[DONE]"]
    calls = [tool for chunk in chunks for choice in chunk["choices"] for tool in choice["delta"].get("tool_calls") or ()]
    assert {tool["index"] for tool in calls} == {0, 1}
    assert all(isinstance(chunk["choices"], list) for chunk in chunks)
    assert {chunk["model"] for chunk in chunks} == {"harbour-9"}
    last = chunks[-1]
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == last["usage"]["prompt_tokens"] + last["usage"]["completion_tokens"]


@pytest.mark.parametrize("target", DIALECTS)
def test_usage_comes_at_the_end_of_a_chat_stream_only_when_asked_for(call, translating, upstream, target):
    """LangChain leaves it off for other base URLs; we ask for it upstream all the same."""
    mark = f"usage-{target}"
    silent = call(CHAT, f"<<words=3 mark={mark}>>", target=target)
    chunks = [event.json() for event in sse_events(silent.body)[:-1]]
    assert all(chunk["choices"] for chunk in chunks), "a chunk that the caller did not ask for"
    assert not any(chunk.get("usage") for chunk in chunks)
    if target == CHAT:
        assert forwarded(upstream, mark)["stream_options"]["include_usage"] is True
    asked = call(CHAT, "<<words=3>>", target=target, stream_options={"include_usage": True})
    assert told_stream(CHAT, asked.body).output_tokens


def test_traces_posted_to_the_base_url_are_answered_cleanly(way, translating):
    """OpenAI Agents send theirs to the same place."""
    body = json.dumps({"data": [{"object": "trace", "id": "trace_1"}]}).encode()
    answer = asyncio.run(request(way.url, "POST", "/v1/traces/ingest", headers_of(CHAT, way.key), body))
    assert answer.status in (200, 202, 204, 404)
    if answer.status == 404:
        assert {"message", "type", "param", "code"} <= set(json.loads(answer.body)["error"])


@pytest.mark.parametrize(("caller", "target"), [(d, d) for d in DIALECTS] + OTHERS)
def test_an_error_after_the_200_is_the_dialects_error_event_and_then_nothing(call, translating, caller, target):
    answer = call(caller, "<<words=9 error_at=8 delay_ms=4>>", target=target)
    assert answer.status == 200
    end = stream_end(caller, answer.body)
    assert (end.clean, end.error, end.after) == (False, True, 0), answer.body[-400:]
    assert b"[DONE]" not in answer.body


@pytest.mark.parametrize("caller", DIALECTS)
@pytest.mark.parametrize("fault", ["no key", "wrong key", "no model", "not JSON", "no such path"])
def test_error_bodies_are_of_the_callers_dialect(way, translating, caller, fault):
    key = {"no key": "", "wrong key": "hw_00000000000000000000000000_nope"}.get(fault, way.key)
    body = (
        b"{nope" if fault == "not JSON" else body_of(caller, MODEL_BY_DIALECT[caller] + ("x" if fault == "no model" else ""), "hi")
    )
    path = PATHS[caller] + ("/nowhere" if fault == "no such path" else "")
    headers = [(n, v) for n, v in headers_of(caller, key) if v not in ("", "Bearer ")]
    answer = asyncio.run(request(way.url, "POST", path, headers, body))
    assert answer.status == {"no model": 404, "not JSON": 400, "no such path": 404}.get(fault, 401)
    error = json.loads(answer.body)
    if caller == MESSAGES:
        assert error["type"] == "error"
        assert {"type", "message"} <= set(error["error"])
    else:
        assert {"message", "type", "param", "code"} <= set(error["error"])
        assert "type" not in error
    if fault == "no model":
        assert f"{MODEL_BY_DIALECT[caller]}x" in answer.body.decode()
        assert answer.body.decode().replace(f"{MODEL_BY_DIALECT[caller]}x", "").count(MODEL_BY_DIALECT[caller]), (
            "the near name is not listed"
        )
    assert answer.header("x-should-retry") == "false"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_unknown_fields_pass_untouched_both_ways(call, translating, upstream, dialect):
    mark = f"unknown-{dialect}"
    strange = {"harbour": {"deep": [1, 2.50, 1e400 if False else "1e400"], "ü": None}, "metadata": {"a": "b"}}
    body = body_of(dialect, MODEL_BY_DIALECT[dialect], f"<<recording=unknown_fields mark={mark}>>", **strange)
    spaced = body.replace(b'"harbour": ', b'"harbour" :\t').replace(b"2.5,", b"2.50,")
    answer = asyncio.run(request(translating.url, "POST", PATHS[dialect], headers_of(dialect, translating.key), spaced))
    report = asyncio.run(get_json(upstream.url, f"/_seen?contains={mark}&last=1"))
    assert base64.b64decode(report["last"][0]["body"]) == spaced
    assert b"mood" in answer.body or b"tide" in answer.body
    if dialect == CHAT:
        assert b"12345678901234567890123" in answer.body


@pytest.mark.parametrize(("caller", "target"), OTHERS)
@pytest.mark.parametrize("name", ["text", "tools", "schema", "unicode", "length", "reasoning"])
def test_what_an_answer_says_survives_the_way_between_dialects(call, translating, upstream, caller, target, name):
    direct = asyncio.run(
        request(upstream.url, "POST", PATHS[target], headers_of(target, "k"), body_of(target, "m", f"<<recording={name}>>"))
    )
    expected = told(target, json.loads(direct.body))
    whole = call(caller, f"<<recording={name}>>", target=target, stream=False, tools=tools_of(caller))
    seen = told(caller, json.loads(whole.body))
    assert (seen.text, seen.calls, seen.stop) == (expected.text, expected.calls, expected.stop)
    assert (seen.input_tokens, seen.output_tokens) == (expected.input_tokens, expected.output_tokens)
    stream = call(caller, f"<<recording={name}>>", target=target, tools=tools_of(caller))
    assert (told_stream(caller, stream.body).text, told_stream(caller, stream.body).calls) == (expected.text, expected.calls)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_answers_name_the_call_and_who_answered(call, translating, dialect):
    answer = call(dialect, "hi", stream=False)
    assert answer.header("x-headway-call").startswith("call_")
    assert answer.header("x-headway-answered").endswith("/" + MODEL_BY_DIALECT[dialect])
    assert answer.header("x-headway-generation").isdigit()


def test_nothing_of_ours_and_no_key_of_the_caller_reaches_the_upstream(way, translating, upstream):
    headers = headers_of(
        CHAT, way.key, ("x-headway-run", "run-1"), ("x-headway-forged", "1"), ("cookie", "a=b"), ("x-forwarded-for", "10.0.0.1")
    )
    body = body_of(CHAT, MODEL_BY_DIALECT[CHAT], "<<mark=leak>>")
    asyncio.run(request(way.url, "POST", PATHS[CHAT], headers, body))
    (record,) = asyncio.run(get_json(upstream.url, "/_seen?contains=leak&last=1"))["last"]
    names = {name for name, _ in record["headers"]}
    assert not any(name.startswith("x-headway-") for name in names)
    assert not names & {"cookie", "x-forwarded-for"}
    assert way.key not in json.dumps(record["headers"])
