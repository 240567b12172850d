"""OpenAI's Responses dialect behind the port. The parts: ``responses_decode``, ``_encode``, ``_answer``, ``_stream``, ``_events``,
``_watch``, ``_prefix``."""

from headway.calls.conversation import Answer, Conversation, DialectName
from headway.gateway.dialects import responses_answer, responses_events
from headway.gateway.dialects import scan as json_scan
from headway.gateway.dialects.openai_chat_answer import error_object, failure
from headway.gateway.dialects.port import Scan, Seen, StreamDecoder, StreamEncoder, Watcher
from headway.gateway.dialects.responses_decode import decode_request
from headway.gateway.dialects.responses_encode import encode_request
from headway.gateway.dialects.responses_events import ResponsesEncoder
from headway.gateway.dialects.responses_prefix import prefix
from headway.gateway.dialects.responses_stream import ResponsesDecoder
from headway.gateway.dialects.responses_watch import ResponsesWatcher, see_answer
from headway.kernel.errors import CallError

_PROMPT = ("tools", "instructions", "input")


class OpenAIResponses:
    name = DialectName.OPENAI_RESPONSES
    path = "/v1/responses"

    def scan(self, body: bytes) -> Scan:
        found = json_scan.spans(body)
        return Scan(
            model=json_scan.read_model(body, found),
            stream=json_scan.read_bool(body, found, "stream"),
            max_tokens=json_scan.read_int(body, found, "max_output_tokens", least=0),
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
            members["max_output_tokens"] = json_scan.dump(max_tokens)
        return json_scan.splice(body, json_scan.set_members(body, scan.spans, members)) if members else body

    def watcher(self, scan: Scan) -> Watcher:
        return ResponsesWatcher()

    def see_answer(self, body: bytes) -> Seen:
        return see_answer(body)

    def decode_request(self, body: bytes) -> tuple[Conversation, tuple[str, ...]]:
        return decode_request(body)

    def encode_request(self, conversation: Conversation) -> tuple[bytes, tuple[str, ...]]:
        return encode_request(conversation)

    def decode_answer(self, body: bytes) -> Answer:
        return responses_answer.decode_answer(body)

    def encode_answer(self, answer: Answer, *, model: str) -> bytes:
        return responses_answer.encode_answer(answer, model=model)

    def decoder(self) -> StreamDecoder:
        return ResponsesDecoder()

    def encoder(self, conversation: Conversation) -> StreamEncoder:
        return ResponsesEncoder(conversation)

    def error_body(self, error: CallError, *, request_id: str) -> bytes:
        """The dialect has no place for a request id in the body; it stands in a header."""
        return json_scan.dump({"error": error_object(error)})

    def error_event(self, error: CallError, seen: Seen | None = None) -> bytes:
        """``error`` and then ``response.failed``; with ``seen`` the latter names the response that it ends."""
        if seen is None:
            return responses_events.error_event(error)
        return responses_events.error_event(error, id=seen.id, sequence=seen.events)

    def decode_error(self, status: int, body: bytes) -> tuple[str, str]:
        kind, message, _ = failure(body)
        return kind, message

    def ping(self) -> bytes:
        return responses_events.PING

    def prefix(self, body: bytes, upto_tokens: int, bytes_per_token: float) -> bytes:
        return prefix(body, upto_tokens, bytes_per_token)
