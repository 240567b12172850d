"""The scripted upstream: the same answer in each dialect, and each misbehaviour as told."""

import asyncio
import base64
import json

import msgspec
import pytest

from headway.lab.scripted import ScriptedUpstream, start
from headway.lab.scripted_answer import answer_to, sample
from headway.lab.scripted_ask import ASK_BY_PATH
from headway.lab.scripted_recording import RECORDED, NoRecording, Recordings, parse
from headway.lab.scripted_script import Script, ScriptError, directive_in, directive_of_model

BODIES = {
    "/v1/chat/completions": lambda text, **more: {"model": "scripted", "messages": [{"role": "user", "content": text}], **more},
    "/v1/responses": lambda text, **more: {"model": "scripted", "input": [{"role": "user", "content": text}], **more},
    "/v1/messages": lambda text, **more: {
        "model": "scripted",
        "max_tokens": 512,
        "messages": [{"role": "user", "content": text}],
        **more,
    },
}


@pytest.fixture
async def upstream():
    served = ScriptedUpstream()
    server, port = await start(served)
    served.port = port
    yield served
    server.close()


async def ask(port: int, path: str, body: object, method: str = "POST") -> tuple[int, bytes]:
    """Status and everything after the head, as it came, until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    payload = json.dumps(body).encode() if body is not None else b""
    head = f"{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len(payload)}\r\n\r\n".encode()
    writer.write(head + payload)
    data = await reader.read()
    writer.close()
    head, _, rest = data.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]) if head else 0, rest


@pytest.mark.parametrize("path", BODIES)
async def test_one_question_has_one_answer_in_every_dialect(upstream, path):
    body = BODIES[path]("What is it?")
    expected = answer_to(ASK_BY_PATH[path](body), Script())
    first = answer_to(ASK_BY_PATH["/v1/chat/completions"](BODIES["/v1/chat/completions"]("What is it?")), Script())
    assert expected.text == first.text
    status, answer = await ask(upstream.port, path, body)
    assert status == 200
    assert json.dumps(expected.text)[1:-1].encode() in answer


@pytest.mark.parametrize(
    ("path", "end"),
    [("/v1/chat/completions", b"data: [DONE]\n\n"), ("/v1/responses", b"response.completed"), ("/v1/messages", b"message_stop")],
)
async def test_a_stream_ends_with_its_dialects_end_and_a_cut_one_does_not(upstream, path, end):
    _, whole = await ask(upstream.port, path, BODIES[path]("hello", stream=True))
    assert end in whole
    assert whole.endswith(b"0\r\n\r\n")
    _, cut = await ask(upstream.port, path, BODIES[path]("hello <<cut_after=3>>", stream=True))
    assert end not in cut
    assert not cut.endswith(b"0\r\n\r\n")
    _, failed = await ask(upstream.port, path, BODIES[path]("hello <<error_at=3>>", stream=True))
    assert b"scripted error inside the stream" in failed
    assert end not in failed


async def test_queued_scripts_serve_the_requests_they_match_and_then_no_more(upstream):
    await ask(upstream.port, "/_script", [{"match": "alpha", "status": 503, "times": 2}])
    path = "/v1/chat/completions"
    assert [(await ask(upstream.port, path, BODIES[path](text)))[0] for text in ("beta", "alpha", "alpha", "alpha")] == [
        200,
        503,
        503,
        200,
    ]


async def test_seen_keeps_bodies_byte_for_byte_and_notes_a_peer_that_closes(upstream):
    path = "/v1/chat/completions"
    body = json.dumps(BODIES[path]("<<mark=m1 words=50 delay_ms=20>>", stream=True)).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", upstream.port)
    writer.write(f"POST {path} HTTP/1.1\r\nhost: x\r\nx-mine: 1\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
    await reader.readuntil(b"data:")
    assert upstream.seen.in_flight == 1
    writer.close()
    while upstream.seen.in_flight:
        await asyncio.sleep(0.005)
    seen = json.loads((await ask(upstream.port, "/_seen?contains=m1", None, "GET"))[1])
    (record,) = seen["last"]
    assert base64.b64decode(record["body"]) == body
    assert ["x-mine", "1"] in record["headers"]
    assert record["ended"] == "peer_closed"
    assert seen["ended"]["peer_closed"] == 1


async def test_a_body_is_split_where_the_script_says(upstream):
    path = "/v1/chat/completions"
    _, chunked = await ask(upstream.port, path, BODIES[path]("<<split_at=1,7,8>>", stream=True))
    sizes, at = [], 0
    while True:
        line_end = chunked.index(b"\r\n", at)
        size = int(chunked[at:line_end], 16)
        if not size:
            break
        sizes.append(size)
        at = line_end + 2 + size + 2
    assert sizes[:3] == [1, 6, 1]
    assert len(sizes) == 4


async def test_a_tool_that_the_words_name_is_called_with_arguments_of_its_schema(upstream):
    tool = {"name": "get_weather", "input_schema": {"type": "object", "properties": {"days": {"type": "integer", "maximum": 5}}}}
    _, answer = await ask(upstream.port, "/v1/messages", BODIES["/v1/messages"]("please get_weather", tools=[tool]))
    message = json.loads(answer)
    assert message["stop_reason"] == "tool_use"
    assert 1 <= message["content"][0]["input"]["days"] <= 5


def test_directives_are_read_from_prompt_and_model_and_unknown_ones_are_refused():
    assert directive_in(b'{"x":"<<cut_after=3 delay_ms=2.5 gzip=true split_at=1,2>>"}') == Script(
        cut_after=3, delay_ms=2.5, gzip=True, split_at=(1, 2)
    )
    assert directive_of_model("scripted?words=4&mark=a") == Script(words=4, mark="a")
    assert directive_in(b"nothing") is None
    with pytest.raises(ScriptError, match="cut_afer"):
        directive_in(b"<<cut_afer=3>>")


def test_a_sample_fits_references_choices_and_nesting():
    schema = {
        "type": "object",
        "properties": {
            "city": {"$ref": "#/$defs/City"},
            "unit": {"enum": ["c", "f"]},
            "maybe": {"anyOf": [{"type": "null"}, {"type": "string"}]},
        },
        "$defs": {"City": {"type": "object", "properties": {"name": {"type": "string"}}}},
    }
    made = sample(schema, seed=3)
    assert isinstance(made["city"]["name"], str)
    assert made["unit"] in ("c", "f")
    assert made["maybe"] is None


@pytest.mark.parametrize("file", sorted(RECORDED.glob("*/*.http")), ids=lambda file: f"{file.parent.name}/{file.name}")
def test_every_recording_is_one_answer_of_its_dialect(file):
    recording = parse(file.name, file.read_bytes())
    if not recording.content_type.startswith("text/event-stream"):
        msgspec.json.decode(recording.body)
        return
    assert b"".join(recording.events()) == recording.body
    for line in recording.body.replace(b"\r\n", b"\n").split(b"\n"):
        if line.startswith(b"data: {"):
            msgspec.json.decode(line[6:])


def test_a_missing_recording_names_those_that_there_are(tmp_path):
    (tmp_path / "anthropic").mkdir()
    (tmp_path / "anthropic" / "plain.http").write_text("HTTP/1.1 200 OK\ncontent-type: application/json\n\n{}")
    recordings = Recordings(tmp_path)
    assert recordings.find("anthropic", "plain", streamed=True).body == b"{}"
    with pytest.raises(NoRecording, match="there are: plain"):
        recordings.find("anthropic", "../x", streamed=False)
