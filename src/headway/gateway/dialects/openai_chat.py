"""OpenAI's chat completions: the codec, and what happens to a body that passes."""

import msgspec

from headway.calls.conversation import Answer, Conversation, DialectName
from headway.gateway.dialects import scan as scanning
from headway.gateway.dialects import watch
from headway.gateway.dialects.openai_chat_answer import decode_answer, encode_answer, error_object, failure
from headway.gateway.dialects.openai_chat_decode import decode_request
from headway.gateway.dialects.openai_chat_encode import encode_request, max_tokens_key
from headway.gateway.dialects.openai_chat_events import PING, ChatEncoder, error_bytes
from headway.gateway.dialects.openai_chat_prefix import prefix
from headway.gateway.dialects.openai_chat_stream import ChatDecoder
from headway.gateway.dialects.port import Scan, Seen
from headway.gateway.dialects.scan import Edit, Span
from headway.kernel.errors import CallError

_PROMPT_KEYS = ("messages", "tools", "functions", "response_format")
_INCLUDE = b'{"include_usage":true}'


class OpenAIChat:
    """Holds no state: one object serves every call."""

    name = DialectName.OPENAI_CHAT
    path = "/v1/chat/completions"

    def scan(self, body: bytes) -> Scan:
        found = scanning.spans(body)
        stream = scanning.read_bool(body, found, "stream")
        newer = scanning.read_int(body, found, "max_completion_tokens", least=1)
        older = scanning.read_int(body, found, "max_tokens", least=0)
        return Scan(
            model=scanning.read_model(body, found),
            stream=stream,
            max_tokens=older if newer is None else newer,
            spans=found,
            wants_stream_usage=stream and _wants_usage(body, found),
            prompt_bytes=scanning.bytes_of(found, _PROMPT_KEYS),
            prefix_end=found["messages"][1] if "messages" in found else 0,
        )

    def splice(self, body: bytes, scan: Scan, *, model: str, want_usage: bool, max_tokens: int | None = None) -> bytes:
        members: dict[str, bytes] = {}
        edits: list[Edit] = []
        if model != scan.model:
            members["model"] = scanning.dump(model)
        if max_tokens is not None and scan.max_tokens is None:
            members[max_tokens_key(model)] = b"%d" % max_tokens
        if want_usage and scan.stream and not scan.wants_stream_usage:
            options = scan.spans.get("stream_options")
            if options is None or body[slice(*options)] == b"null":
                members["stream_options"] = _INCLUDE
            else:
                inner = scanning.spans_of(body, options)
                edits += scanning.set_members(body, inner, {"include_usage": b"true"}, at=options[0])
        edits += scanning.set_members(body, scan.spans, members)
        return scanning.splice(body, edits) if edits else body

    def watcher(self, scan: Scan) -> watch.ChatWatcher:
        return watch.ChatWatcher(strip_usage=scan.stream and not scan.wants_stream_usage)

    def see_answer(self, body: bytes) -> Seen:
        return watch.see_answer(body)

    def decode_request(self, body: bytes) -> tuple[Conversation, tuple[str, ...]]:
        return decode_request(body)

    def encode_request(self, conversation: Conversation) -> tuple[bytes, tuple[str, ...]]:
        return encode_request(conversation)

    def decode_answer(self, body: bytes) -> Answer:
        return decode_answer(body)

    def encode_answer(self, answer: Answer, *, model: str) -> bytes:
        return encode_answer(answer, model=model)

    def decoder(self) -> ChatDecoder:
        return ChatDecoder()

    def encoder(self, conversation: Conversation) -> ChatEncoder:
        return ChatEncoder(conversation)

    def error_body(self, error: CallError, *, request_id: str) -> bytes:
        """The dialect has no member for ``request_id``: it travels in the header."""
        return msgspec.json.encode({"error": error_object(error)})

    def error_event(self, error: CallError) -> bytes:
        return error_bytes(error_object(error))

    def decode_error(self, status: int, body: bytes) -> tuple[str, str]:
        kind, message, _ = failure(body)
        return kind, message

    def ping(self) -> bytes:
        return PING

    def prefix(self, body: bytes, upto_tokens: int, bytes_per_token: float) -> bytes:
        return prefix(body, int(upto_tokens * bytes_per_token))


def _wants_usage(body: bytes, found: dict[str, Span]) -> bool:
    options = found.get("stream_options")
    if options is None or body[slice(*options)] == b"null":
        return False
    return scanning.read_bool(body, scanning.spans_of(body, options), "include_usage")
