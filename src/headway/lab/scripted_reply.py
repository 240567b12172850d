"""From request and script to the bytes of a reply, before any time passes: status, headers, and a body or a list of events."""

import base64
import hashlib
import json
import random
import struct
import zlib
from collections.abc import Callable, Sequence
from urllib.parse import parse_qs

import msgspec

from headway.lab import scripted_chat, scripted_messages, scripted_responses
from headway.lab.scripted_answer import answer_to, tokens_of
from headway.lab.scripted_ask import ASK_BY_PATH, CHAT_PATH, MESSAGES_PATH, RESPONSES_PATH, Asked, BadAsk, Json, messages_ask
from headway.lab.scripted_recording import NoRecording, Recordings
from headway.lab.scripted_script import Script

COUNT_PATH = "/v1/messages/count_tokens"
EMBEDDINGS_PATH = "/v1/embeddings"
MODELS_PATH = "/v1/models"
OPAQUE_PREFIXES = ("/v1/images/", "/v1/audio/", "/v1/files")
MODELS = ("scripted", "scripted-small", "scripted-embedding")
DIALECT_BY_PATH = {
    CHAT_PATH: "openai-chat",
    RESPONSES_PATH: "openai-responses",
    MESSAGES_PATH: "anthropic",
    COUNT_PATH: "anthropic",
}
SSE = "text/event-stream; charset=utf-8"


class Reply(msgspec.Struct, kw_only=True):
    """``events`` None is a plain body. ``error_event`` and ``ping`` are the dialect's, for a script that wants them."""

    status: int = 200
    headers: dict[str, str] = {}
    content_type: str = "application/json"
    body: bytes = b""
    events: list[bytes] | None = None
    error_event: bytes = b""
    ping: bytes = b": ping\n\n"


def dumps(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def sse(event: Json | str, *, named: bool) -> bytes:
    """One event. The Responses and Messages dialects name theirs; chat does not."""
    if isinstance(event, str):
        return b"data: " + event.encode() + b"\n\n"
    name = b"event: " + event["type"].encode() + b"\n" if named else b""
    return name + b"data: " + dumps(event) + b"\n\n"


def reply_to(
    method: str, target: str, headers: Sequence[tuple[str, str]], body: bytes, script: Script, recordings: Recordings
) -> Reply:
    path, _, query = target.partition("?")
    dialect = DIALECT_BY_PATH.get(path, "openai-chat")
    reply = _reply(method, path, query, headers, body, script, recordings, dialect)
    reply.headers = (
        _identity(dialect, body) | (_rate_limits(dialect, script, reply.status) if script.rate_limit else {}) | reply.headers
    )
    if script.retry_after_ms is not None:
        reply.headers["retry-after"] = str(-(-script.retry_after_ms // 1000))
        if dialect != "anthropic":
            reply.headers["retry-after-ms"] = str(script.retry_after_ms)
    reply.headers |= script.headers
    reply.content_type = script.content_type or reply.content_type
    return _disfigured(reply, script)


def _reply(
    method: str,
    path: str,
    query: str,
    headers: Sequence[tuple[str, str]],
    body: bytes,
    script: Script,
    recordings: Recordings,
    dialect: str,
) -> Reply:
    if script.recording:
        try:
            return _recorded(recordings, dialect, script.recording, body)
        except NoRecording as missing:
            return error_reply(dialect, 404, str(missing))
    if script.status >= 400:
        return error_reply(dialect, script.status, script.message or f"scripted error {script.status}", script.kind)
    if script.body is not None:
        return Reply(status=script.status, body=script.body.encode())
    try:
        return _answer(method, path, query, headers, body, script)
    except (BadAsk, ValueError, KeyError, TypeError, AttributeError) as error:
        return error_reply(dialect, 400, f"scripted upstream: {error}")


def _answer(method: str, path: str, query: str, headers: Sequence[tuple[str, str]], body: bytes, script: Script) -> Reply:
    if ask := ASK_BY_PATH.get(path):
        return _conversation(ask(_object(body)), script)
    if path == COUNT_PATH:
        return Reply(body=dumps({"input_tokens": tokens_of(messages_ask(_object(body)).prompt_chars)}))
    if path == EMBEDDINGS_PATH:
        return Reply(body=dumps(_embeddings(_object(body))))
    if path == MODELS_PATH or path.startswith(MODELS_PATH + "/"):
        return _models(path, dict(headers))
    if path.startswith(OPAQUE_PREFIXES):
        return _opaque(method, path, query, headers, body)
    return error_reply("openai-chat", 404, f"scripted upstream: no route {method} {path}")


def _object(body: bytes) -> Json:
    value = json.loads(body)
    if not isinstance(value, dict):
        raise BadAsk("the body must be a JSON object")
    return value


def _conversation(asked: Asked, script: Script) -> Reply:
    answer = answer_to(asked, script)
    if asked.dialect == "openai-chat":
        if not asked.stream:
            return Reply(body=dumps(scripted_chat.plain(answer, script)))
        return _stream([sse(e, named=False) for e in scripted_chat.events(answer, asked, script)], asked.dialect, script)
    if asked.dialect == "openai-responses":
        if not asked.stream:
            return Reply(body=dumps(scripted_responses.plain(answer, asked, script)))
        return _stream([sse(e, named=True) for e in scripted_responses.events(answer, asked, script)], asked.dialect, script)
    if not asked.stream:
        return Reply(body=dumps(scripted_messages.plain(answer, script)))
    return _stream([sse(e, named=True) for e in scripted_messages.events(answer, script)], asked.dialect, script)


def _stream(events: list[bytes], dialect: str, script: Script) -> Reply:
    ping = sse(scripted_messages.PING, named=True) if dialect == "anthropic" else b": ping\n\n"
    status = script.status if script.status >= 400 else 529 if dialect == "anthropic" else 500
    return Reply(content_type=SSE, events=events, ping=ping, error_event=_error_event(dialect, status, script))


def _error_event(dialect: str, status: int, script: Script) -> bytes:
    message = script.message or "scripted error inside the stream"
    if dialect == "anthropic":
        return sse(
            scripted_messages.error(script.kind or scripted_messages.error_kind(status), message, "req_scripted"), named=True
        )
    if dialect == "openai-responses":
        event = {"type": "error", "code": script.kind or "server_error", "message": message, "param": None, "sequence_number": 999}
        return sse(event, named=True)
    return sse(scripted_chat.error(script.kind or scripted_chat.error_kind(status), message, status), named=False)


def error_reply(dialect: str, status: int, message: str, kind: str = "") -> Reply:
    if dialect == "anthropic":
        return Reply(
            status=status,
            body=dumps(scripted_messages.error(kind or scripted_messages.error_kind(status), message, "req_scripted")),
        )
    return Reply(status=status, body=dumps(scripted_chat.error(kind or scripted_chat.error_kind(status), message, status)))


def _recorded(recordings: Recordings, dialect: str, name: str, body: bytes) -> Reply:
    """The recording as the provider would have sent it to this request: usage in a chat stream only where it was asked for."""
    streamed = b'"stream":true' in body.replace(b" ", b"")
    recording = recordings.find(dialect, name, streamed=streamed)
    ping = sse(scripted_messages.PING, named=True) if dialect == "anthropic" else b": ping\n\n"
    events = recording.events() if recording.content_type.startswith("text/event-stream") else None
    if events is not None and dialect == "openai-chat" and b'"include_usage":true' not in body.replace(b" ", b""):
        events = [event.replace(b',"usage":null', b"") for event in events if b'"choices":[],"usage":{' not in event]
    return Reply(
        status=recording.status,
        headers=dict(recording.headers),
        content_type=recording.content_type,
        body=recording.body,
        events=events,
        ping=ping,
        error_event=_error_event(dialect, 500, Script()),
    )


def _identity(dialect: str, body: bytes) -> dict[str, str]:
    token = hashlib.blake2b(body, digest_size=10).hexdigest()
    return {"request-id" if dialect == "anthropic" else "x-request-id": f"req_{token}"}


def _rate_limits(dialect: str, script: Script, status: int) -> dict[str, str]:
    headers = scripted_messages.rate_limit_headers() if dialect == "anthropic" else scripted_chat.rate_limit_headers()
    return headers | ({"retry-after": "1"} if status >= 400 and script.retry_after_ms is None else {})


def _embeddings(body: Json) -> Json:
    given = body["input"]
    inputs = [given] if isinstance(given, str) or (given and isinstance(given[0], int)) else list(given)
    size = int(body.get("dimensions") or 8)
    data = []
    for n, text in enumerate(inputs):
        draw = random.Random(json.dumps(text))
        vector = [round(draw.uniform(-1, 1), 6) for _ in range(size)]
        packed = base64.b64encode(struct.pack(f"<{size}f", *vector)).decode()
        data.append({"object": "embedding", "index": n, "embedding": packed if body.get("encoding_format") == "base64" else vector})
    used = tokens_of(sum(len(text) for text in inputs))
    return {"object": "list", "data": data, "model": body["model"], "usage": {"prompt_tokens": used, "total_tokens": used}}


def _models(path: str, headers: dict[str, str]) -> Reply:
    shown: Callable[[str], Json]
    if "anthropic-version" in headers:
        shown = lambda name: {"type": "model", "id": name, "display_name": name, "created_at": "2025-10-09T00:00:00Z"}  # noqa: E731
        whole: Json = {"data": [shown(m) for m in MODELS], "has_more": False, "first_id": MODELS[0], "last_id": MODELS[-1]}
    else:
        shown = lambda name: {"id": name, "object": "model", "created": 1_760_000_000, "owned_by": "headway"}  # noqa: E731
        whole = {"object": "list", "data": [shown(m) for m in MODELS]}
    name = path.removeprefix(MODELS_PATH).strip("/")
    return Reply(body=dumps(shown(name) if name else whole))


def _opaque(method: str, path: str, query: str, headers: Sequence[tuple[str, str]], body: bytes) -> Reply:
    """Says what came, byte for byte, so that a test can tell whether the way there changed it."""
    if path == "/v1/audio/speech":
        return Reply(content_type="audio/mpeg", body=hashlib.blake2b(body).digest() * 64)
    kind = dict(headers).get("content-type", "")
    seen = {"method": method, "path": path, "query": parse_qs(query), "content_type": kind, "bytes": len(body)}
    return Reply(body=dumps({"object": "echo", **seen, "blake2b": hashlib.blake2b(body, digest_size=16).hexdigest()}))


def _disfigured(reply: Reply, script: Script) -> Reply:
    """Noise, padding, other line ends and compression, where the script asks."""
    if script.garbage_bytes:
        reply.body, reply.events = random.Random(script.garbage_bytes).randbytes(script.garbage_bytes), None
    if script.oversize_bytes:
        if reply.events is None:
            reply.body += b" " * max(0, script.oversize_bytes - len(reply.body))
        else:
            reply.events.insert(1, b": " + b"x" * script.oversize_bytes + b"\n\n")
    if script.repeat and reply.events is not None:
        reply.events[2:2] = reply.events[1:2] * script.repeat
    if script.crlf and reply.events is not None:
        reply.events = [event.replace(b"\n", b"\r\n") for event in reply.events]
        reply.ping = reply.ping.replace(b"\n", b"\r\n")
    if script.gzip:
        reply.headers["content-encoding"] = "gzip"
        squeeze = zlib.compressobj(wbits=31)
        if reply.events is None:
            reply.body = squeeze.compress(reply.body) + squeeze.flush()
        else:
            reply.events = [squeeze.compress(event) + squeeze.flush(zlib.Z_SYNC_FLUSH) for event in reply.events]
            reply.events[-1] += squeeze.flush()
    return reply
