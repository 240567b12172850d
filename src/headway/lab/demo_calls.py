"""The calls that a demonstration sends: each inbound dialect once, plain and streamed, and what came of them in one line."""

import http.client
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

_TIMEOUT_S: Final = 30.0
_SHOWN_CHARS: Final = 40
_ANSWER_BYTES_MAX: Final = 1024 * 1024


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """What came back of one call."""

    path: str
    status: int = 0
    call: str = ""
    answered: str = ""
    text: str = ""
    took_ms: float = 0.0

    def line(self) -> str:
        """For people."""
        if self.status != 200:
            return f"  {self.path}: {self.status or 'no answer'} {self.text}".rstrip()
        shown = self.text if len(self.text) <= _SHOWN_CHARS else self.text[: _SHOWN_CHARS - 1] + "…"
        return f"  {self.path:<22} {self.answered:<18} {self.took_ms:5.0f} ms  {shown!r}"


def first_calls(gateway: str, model: str, say: Callable[[str], None]) -> None:
    """One call in each dialect and one stream."""
    say("sent a few calls:")
    for path, body in (
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 24, "stream": True}),
        ("/v1/responses", {"input": "Say hello.", "max_output_tokens": 24}),
        ("/v1/messages", {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 24}),
    ):
        say(send(gateway, path, {"model": model, **body}).line())


def one_call(gateway: str, model: str) -> Sent:
    """A plain chat completion."""
    body = {"model": model, "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 24}
    return send(gateway, "/v1/chat/completions", body)


def send(gateway: str, path: str, body: dict[str, object]) -> Sent:
    """One call; a Sent with status 0 when nothing answered."""
    start = time.monotonic()
    try:
        status, headers, data = _exchange(gateway, "POST", path, json.dumps(body).encode(), {})
    except (OSError, http.client.HTTPException):
        return Sent(path=path)
    return Sent(
        path=path,
        status=status,
        call=headers.get("x-headway-call", ""),
        answered=headers.get("x-headway-answered", ""),
        text=_text(data),
        took_ms=(time.monotonic() - start) * 1000,
    )


def healthy(url: str, path: str) -> bool:
    """Whether it answers 200 there."""
    try:
        return _exchange(url, "GET", path, None, {})[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def reload(control: str, token_file: Path) -> int:
    """Have control read its file; the generation in force, 0 when it could not be asked."""
    try:
        headers = {"authorization": f"Bearer {token_file.read_text().strip()}"}
        status, _, data = _exchange(control, "POST", "/api/v1/generation/reload", b"{}", headers)
        return int(json.loads(data)["number"]) if status == 200 else 0
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        return 0


def _exchange(
    url: str, method: str, path: str, body: bytes | None, headers: dict[str, str]
) -> tuple[int, http.client.HTTPMessage, bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_TIMEOUT_S)
    try:
        connection.request(method, path, body, {"content-type": "application/json", **headers})
        response = connection.getresponse()
        return response.status, response.headers, response.read(_ANSWER_BYTES_MAX)
    finally:
        connection.close()


def _text(data: bytes) -> str:
    """The text of an answer in any dialect, or of a chat stream; of an error its message."""
    if data.startswith((b"data:", b"event:", b":")):
        lines = [line[5:].strip() for line in data.splitlines() if line.startswith(b"data:")]
        return "".join(_piece(json.loads(line)) for line in lines if line not in (b"[DONE]", b""))
    try:
        answer = json.loads(data)
    except ValueError:
        return ""
    return _piece(answer)


def _piece(answer: object) -> str:
    """Text of one answer or chunk, from wherever its dialect puts it."""
    if not isinstance(answer, dict):
        return ""
    if isinstance(error := answer.get("error"), dict):
        return str(error.get("message", ""))
    for choice in answer.get("choices") or []:
        return str((choice.get("message") or choice.get("delta") or {}).get("content") or "")
    blocks = answer.get("content") or [part for item in answer.get("output") or [] for part in item.get("content") or []]
    return "".join(str(block.get("text", "")) for block in blocks)
