"""Anthropic's Messages dialect behind the port. The parts: ``anthropic_decode``, ``_encode``, ``_answer``, ``_stream``, ``_events``,
``_watch``, ``_prefix``."""

from headway.calls.conversation import Answer, Conversation, DialectName
from headway.gateway.dialects import anthropic_answer, anthropic_events
from headway.gateway.dialects import scan as json_scan
from headway.gateway.dialects.anthropic_decode import decode_request
from headway.gateway.dialects.anthropic_encode import encode_request
from headway.gateway.dialects.anthropic_events import AnthropicEncoder
from headway.gateway.dialects.anthropic_prefix import prefix
from headway.gateway.dialects.anthropic_stream import AnthropicDecoder
from headway.gateway.dialects.anthropic_watch import AnthropicWatcher, see_answer
from headway.gateway.dialects.openai_chat_answer import failure
from headway.gateway.dialects.port import Scan, Seen, StreamDecoder, StreamEncoder, Watcher
from headway.kernel.errors import CallError

_PROMPT = ("tools", "system", "messages")


class AnthropicMessages:
    name = DialectName.ANTHROPIC
    path = "/v1/messages"

    def scan(self, body: bytes) -> Scan:
        """``max_tokens`` may be missing here: count_tokens has none, and a provider says so itself."""
        found = json_scan.spans(body)
        return Scan(
            model=json_scan.read_model(body, found),
            stream=json_scan.read_bool(body, found, "stream"),
            max_tokens=json_scan.read_int(body, found, "max_tokens", least=0),
            spans=found,
            wants_stream_usage=True,
            prompt_bytes=json_scan.bytes_of(found, _PROMPT),
            prefix_end=max((found[key][1] for key in _PROMPT if key in found), default=0),
        )

    def splice(self, body: bytes, scan: Scan, *, model: str, want_usage: bool, max_tokens: int | None = None) -> bytes:
        """Usage comes unasked in this dialect. A body that changes in nothing comes back as it is."""
        members = {}
        if model != scan.model:
            members["model"] = json_scan.dump(model)
        if max_tokens is not None and scan.max_tokens is None:
            members["max_tokens"] = json_scan.dump(max_tokens)
        return json_scan.splice(body, json_scan.set_members(body, scan.spans, members)) if members else body

    def watcher(self, scan: Scan) -> Watcher:
        return AnthropicWatcher()

    def see_answer(self, body: bytes) -> Seen:
        return see_answer(body)

    def decode_request(self, body: bytes) -> tuple[Conversation, tuple[str, ...]]:
        return decode_request(body)

    def encode_request(self, conversation: Conversation) -> tuple[bytes, tuple[str, ...]]:
        return encode_request(conversation)

    def decode_answer(self, body: bytes) -> Answer:
        return anthropic_answer.decode_answer(body)

    def encode_answer(self, answer: Answer, *, model: str) -> bytes:
        return anthropic_answer.encode_answer(answer, model=model)

    def decoder(self) -> StreamDecoder:
        return AnthropicDecoder()

    def encoder(self, conversation: Conversation) -> StreamEncoder:
        return AnthropicEncoder(conversation)

    def error_body(self, error: CallError, *, request_id: str) -> bytes:
        return anthropic_answer.error_body(error, request_id=request_id)

    def error_event(self, error: CallError) -> bytes:
        return anthropic_events.error_event(error)

    def decode_error(self, status: int, body: bytes) -> tuple[str, str]:
        """Engines that speak the dialect sometimes answer errors in OpenAI's form, which is the same inside."""
        kind, message, _ = failure(body)
        return kind, message

    def ping(self) -> bytes:
        return anthropic_events.PING

    def prefix(self, body: bytes, upto_tokens: int, bytes_per_token: float) -> bytes:
        return prefix(body, upto_tokens, bytes_per_token)
