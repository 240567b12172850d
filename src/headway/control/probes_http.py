"""One probe on the wire: a streamed chat call to the gateway, like any client's. What it took, the gateway times; here only its usage is read."""

import asyncio
import ssl
from collections.abc import Mapping
from typing import Final
from urllib.parse import SplitResult, urlsplit

import h11
import msgspec

from headway.calls.conversation import Usage
from headway.kernel.limits import PROBE_ANSWER_BYTES_MAX, PROBE_TIMEOUT_MS

_PATH: Final = "/v1/chat/completions"
_READ_BYTES: Final = 64 * 1024
_MS_PER_S: Final = 1000
_DETAIL_CHARS_MAX: Final = 200


class ProbeCall(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one call. ``call`` is its id in the facts; empty when no gateway answered. ``problem`` is empty when all went well."""

    call: str = ""
    status: int = 0
    usage: Usage | None = None
    problem: str = ""


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Told(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None


class _Event(msgspec.Struct):
    usage: _Told | None = None


class _Error(msgspec.Struct):
    message: str = ""


class _Refusal(msgspec.Struct):
    error: _Error = msgspec.field(default_factory=_Error)


async def send(gateway: str, key: str, body: Mapping[str, object], headers: Mapping[str, str]) -> ProbeCall:
    """POST ``body`` and read the answer to its end. Never raises for what a gateway or a provider does; given up after PROBE_TIMEOUT_MS."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_MS / _MS_PER_S):
            return await _exchanged(urlsplit(gateway), key, msgspec.json.encode(body), headers)
    except TimeoutError:
        return ProbeCall(problem=f"took longer than {PROBE_TIMEOUT_MS} ms")
    except (OSError, h11.RemoteProtocolError, ValueError) as error:
        return ProbeCall(problem=f"the gateway at {gateway} cannot be used: {error or type(error).__name__}")


async def _exchanged(where: SplitResult, key: str, body: bytes, headers: Mapping[str, str]) -> ProbeCall:
    secure = ssl.create_default_context() if where.scheme == "https" else None
    port = where.port or (443 if secure else 80)
    reader, writer = await asyncio.open_connection(where.hostname, port, ssl=secure)
    try:
        line = h11.Connection(h11.CLIENT)
        own = {"host": where.netloc, "authorization": f"Bearer {key}", "content-type": "application/json", "connection": "close"}
        asked = h11.Request(method="POST", target=where.path.rstrip("/") + _PATH, headers=_pairs(own, headers, body))
        for event in (asked, h11.Data(data=body), h11.EndOfMessage()):
            writer.write(line.send(event) or b"")
        await writer.drain()
        return await _answer(line, reader)
    finally:
        writer.transport.abort()  # nothing more is wanted of it, and it may still be sending


def _pairs(own: Mapping[str, str], more: Mapping[str, str], body: bytes) -> list[tuple[str, str]]:
    return [*own.items(), *more.items(), ("content-length", str(len(body)))]


async def _answer(line: h11.Connection, reader: asyncio.StreamReader) -> ProbeCall:
    head: h11.Response | None = None
    parts = bytearray()
    while True:
        event = line.next_event()
        if event is h11.NEED_DATA:
            line.receive_data(await reader.read(_READ_BYTES))
        elif isinstance(event, h11.Response):
            head = event
        elif isinstance(event, h11.Data):
            parts += event.data
            if len(parts) > PROBE_ANSWER_BYTES_MAX:
                return ProbeCall(call=_call_id(head), problem=f"the answer is longer than {PROBE_ANSWER_BYTES_MAX} bytes")
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            return _read(head, bytes(parts))
        elif isinstance(event, h11.ConnectionClosed):
            return ProbeCall(call=_call_id(head), problem="the gateway closed the connection before the answer ended")


def _read(head: h11.Response, body: bytes) -> ProbeCall:
    if head.status_code != 200:
        return ProbeCall(call=_call_id(head), status=head.status_code, problem=f"answered {head.status_code}: {_refusal(body)}")
    usage, problem = _usage(body)
    return ProbeCall(call=_call_id(head), status=200, usage=usage, problem=problem)


def _call_id(head: h11.Response | None) -> str:
    found = [value for name, value in head.headers if name == b"x-headway-call"] if head is not None else []
    return found[0].decode("ascii", "replace") if found else ""


def _refusal(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Refusal).error.message[:_DETAIL_CHARS_MAX]
    except msgspec.DecodeError:
        return "no reason that can be read"


def _usage(body: bytes) -> tuple[Usage | None, str]:
    """The last usage that a stream of events tells, and what is wrong with the stream."""
    usage, ended = None, False
    for raw in body.split(b"\n"):
        if not raw.startswith(b"data:"):
            continue
        data = raw[5:].strip()
        if data == b"[DONE]":
            ended = True
            continue
        try:
            told = msgspec.json.decode(data, type=_Event).usage
        except msgspec.DecodeError:
            continue
        if told is not None:
            cached = told.prompt_tokens_details.cached_tokens if told.prompt_tokens_details is not None else None
            usage = Usage(input_tokens=told.prompt_tokens, output_tokens=told.completion_tokens, cached_tokens=cached)
    return usage, "" if ended else "the stream ended before its end"
