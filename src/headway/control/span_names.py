"""Every name that leaves as OpenTelemetry: the whole vocabulary, in one table. A name that is not here is not sent; a test pins the list.

Names of GenAI stand as in open-telemetry/semantic-conventions-genai @ 002c8a6, all of them of status "Development"; ``server.*``, ``network.*``,
``http.*``, ``url.*`` and ``error.type`` are OpenTelemetry's general ones. What no convention has is ours, under ``headway.``, and carries
``headway.schema.version``, which moves when one of ours changes its name or meaning.
"""

from typing import Final, NamedTuple

from headway.calls.phases.model import Phase

SCHEMA_VERSION: Final = "1"
GENAI_VERSION: Final = "open-telemetry/semantic-conventions-genai @ 002c8a6"

CALL: Final = "call"
ATTEMPT: Final = "attempt"
VERDICT: Final = "verdict"
OTHER: Final = "taken in"


class Name(NamedTuple):
    """An attribute: its name, the type of its value, the spans that carry it, and what it says."""

    name: str
    kind: str
    spans: tuple[str, ...]
    what: str


_BOTH: Final = (CALL, ATTEMPT)
_TOLD: Final = (CALL, ATTEMPT, VERDICT)
_ALL: Final = (CALL, ATTEMPT, VERDICT, OTHER)

PHASES: Final = tuple(phase for phase in Phase if phase is not Phase.TOOL)
"""Parts of a call. The tool wait lies before the call, and so in no span of it."""

_PHASE_NOTES: Final = {
    Phase.ATTEMPTS: "attempts before the one that answered, with their back-off",
    Phase.QUEUE: "Headway's own queue",
    Phase.CONNECT: "connecting to the provider",
    Phase.PROVIDER: "waiting at the provider and prefill, to the first token",
    Phase.DECODE: "first token to last, without stalls",
    Phase.STALL: "gaps longer than max(5 x running median, 250 ms), without their ordinary part",
    Phase.READER: "writes blocked because the caller read slowly",
    Phase.CLOSE: "what is left: last token to last byte",
}


def phase_name(phase: Phase) -> str:
    return f"headway.phase.{phase}_ms"


ATTRIBUTES: Final = (
    Name("gen_ai.operation.name", "text", (ATTEMPT,), "chat, text_completion, embeddings or generate_content"),
    Name(
        "gen_ai.provider.name", "text", (ATTEMPT,), "the convention's word for the provider's preset; else its name in the settings"
    ),
    Name("gen_ai.request.model", "text", (ATTEMPT,), "the model name that was sent"),
    Name("gen_ai.request.stream", "true/false", (ATTEMPT,), "the answer was asked for as a stream"),
    Name("gen_ai.request.max_tokens", "whole number", (ATTEMPT,), "the most that the caller allowed"),
    Name("gen_ai.response.model", "text", (ATTEMPT,), "the model name in the answer"),
    Name("gen_ai.response.id", "text", (ATTEMPT,), "the answer's own id"),
    Name("gen_ai.response.finish_reasons", "list of texts", (ATTEMPT,), "why it stopped, in OpenAI's words"),
    Name(
        "gen_ai.response.time_to_first_chunk", "seconds", (ATTEMPT,), "from leaving Headway's queue to the first token of a stream"
    ),
    Name("gen_ai.usage.input_tokens", "whole number", (ATTEMPT,), "the whole prompt, cached tokens included"),
    Name("gen_ai.usage.output_tokens", "whole number", (ATTEMPT,), "with reasoning tokens"),
    Name("gen_ai.usage.cache_read.input_tokens", "whole number", (ATTEMPT,), "of the prompt, read from the provider's cache"),
    Name("gen_ai.usage.cache_creation.input_tokens", "whole number", (ATTEMPT,), "of the prompt, written to it"),
    Name("gen_ai.usage.reasoning.output_tokens", "whole number", (ATTEMPT,), "of the answer, spent on thinking"),
    Name("gen_ai.conversation.id", "text", (ATTEMPT,), "the run that the call belongs to, x-headway-run"),
    Name("openai.response.system_fingerprint", "text", (ATTEMPT,), "the backend's configuration, as it names it"),
    Name("openai.response.service_tier", "text", (ATTEMPT,), "the tier that answered"),
    Name("server.address", "text", (ATTEMPT,), "host of the provider's address in the settings, else the network address"),
    Name("server.port", "whole number", (ATTEMPT,), "its port"),
    Name("network.peer.address", "text", (ATTEMPT,), "the network address that the request went to"),
    Name("network.peer.port", "whole number", (ATTEMPT,), "its port"),
    Name("url.path", "text", (CALL,), "the path that was called"),
    Name("http.response.status_code", "whole number", _BOTH, "sent to the caller; of an attempt, the provider's"),
    Name("error.type", "text", _BOTH, "code of the failure or refusal; absent when all went well"),
    Name("headway.schema.version", "text", _ALL, "version of the names under headway."),
    Name("headway.call", "text", _ALL, "the call's id: headway calls show CALL"),
    Name("headway.gateway", "text", _ALL, "the gateway that served it"),
    Name("headway.origin", "text", _TOLD, "client, piece, second_pass, probe, drill, shadow, eval or hedge"),
    Name("headway.tenant", "text", _TOLD, "who asked"),
    Name("headway.charged_to", "text", (CALL,), "who pays"),
    Name("headway.principal", "text", (CALL,), "the user, service or key"),
    Name("headway.feature", "text", _TOLD, "the feature that the requested name resolved to"),
    Name("headway.class", "text", (CALL,), "interactive or batch"),
    Name("headway.requested", "text", (CALL,), "the model name in the caller's body"),
    Name("headway.routed", "text", (CALL, VERDICT), "provider/model that answered or failed last"),
    Name("headway.answered", "text", (CALL,), "the model name in the answer"),
    Name("headway.stream", "true/false", (CALL,), "the caller asked for a stream"),
    Name("headway.outcome", "text", _BOTH, "done, refused, evicted, upstream_error, incomplete, timeout, client_gone or internal"),
    Name("headway.stream_fault", "text", _BOTH, "loop, truncated or silent: a stream that ended as if it were good"),
    Name("headway.dialect", "text", (CALL,), "the caller's: openai-chat, openai-responses or anthropic"),
    Name("headway.wire", "text", (CALL,), "bytes, translated or opaque"),
    Name("headway.run", "text", (CALL,), "x-headway-run"),
    Name("headway.step", "text", (CALL,), "x-headway-step"),
    Name("headway.prompt", "text", (CALL,), "x-headway-prompt"),
    Name("headway.attempts", "whole number", (CALL,), "tries, with those that failed"),
    Name("headway.first_token_ms", "number", (CALL,), "from arrival to the first token"),
    Name("headway.input_tokens", "whole number", (CALL,), "as gen_ai.usage.input_tokens of the attempt that answered"),
    Name("headway.output_tokens", "whole number", (CALL,), "likewise"),
    Name("headway.usage_source", "text", (CALL,), "reported, estimated or unknown"),
    Name("headway.cost_usd", "number", (CALL,), "absent when unknown, which is not free"),
    Name("headway.lost", "list of texts", (CALL,), "what the target's dialect could not carry"),
    Name("headway.config_generation", "whole number", (CALL,), "the configuration in force"),
    *(Name(phase_name(phase), "milliseconds", (CALL,), _PHASE_NOTES[phase]) for phase in PHASES),
    Name("headway.verdict", "text", (VERDICT,), "why the call was slow: a cause, or cannot_tell"),
    Name("headway.verdict.second", "text", (VERDICT,), "the next cause, where one explains something"),
    Name("headway.verdict.missing", "list of texts", (VERDICT,), "what would have told it"),
    Name("headway.verdict.expected_ms", "milliseconds", (VERDICT,), "what the call should have taken"),
    Name("headway.verdict.excess_ms", "milliseconds", (VERDICT,), "over that"),
    Name("headway.verdict.explained_ms", "milliseconds", (VERDICT,), "of the excess, by the cause"),
    Name("headway.attempt", "whole number", (ATTEMPT,), "from 1"),
    Name("headway.endpoint", "text", (ATTEMPT,), "the replica"),
    Name("headway.region", "text", (ATTEMPT,), "where it was answered"),
    Name("headway.edge", "text", (ATTEMPT,), "the edge city that answered"),
    Name("headway.fingerprint", "text", (ATTEMPT,), "the backend's configuration, of any provider"),
    Name("headway.tier", "text", (ATTEMPT,), "the service tier, of any provider"),
    Name("headway.upstream_request", "text", (ATTEMPT,), "the provider's id of the request"),
    Name("headway.upstream_ms", "milliseconds", (ATTEMPT,), "what the provider says it took until the head"),
    Name("headway.queue_ms", "milliseconds", (ATTEMPT,), "in Headway's queue for this endpoint"),
    Name("headway.connect_ms", "milliseconds", (ATTEMPT,), "from start to a new socket; absent for a pooled one"),
    Name("headway.head_ms", "milliseconds", (ATTEMPT,), "from start to the head of the answer"),
    Name("headway.last_token_ms", "milliseconds", (ATTEMPT,), "from start to the last token"),
    Name("headway.chunks", "whole number", (ATTEMPT,), "reads that held an event"),
    Name("headway.engine.waiting", "whole number", (ATTEMPT,), "requests waiting in the engine, by its own word"),
    Name("headway.engine.running", "whole number", (ATTEMPT,), "requests running there"),
)

KNOWN: Final = frozenset(each.name for each in ATTRIBUTES)
RESOURCE: Final = ("service.name", "service.version")
