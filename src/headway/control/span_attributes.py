"""What each span says: one function for a call, one for an attempt. Values only; names stand in ``span_names.py``."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from headway.calls.conversation import StopReason
from headway.calls.model import Outcome
from headway.calls.phases.model import Verdict
from headway.calls.phases.split import split
from headway.config.model import Settings
from headway.config.presets import base_urls
from headway.control.span_names import PHASES, SCHEMA_VERSION, phase_name
from headway.facts.model import AttemptFact, CallFact
from headway.facts.seen import seen_of
from headway.kernel.errors import ConfigError
from headway.kernel.money import NANO_PER_USD

Value = str | bool | int | float | tuple[str, ...] | None
_S_PER_MS = 0.001
_CONVENTION_NAMES = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "google": "gcp.gemini",
    "vertex": "gcp.vertex_ai",
    "mistral": "mistral_ai",
    "xai": "x_ai",
}
"""Well-known names where a preset goes by another one here; all others stay as they are."""
_NO_OPERATION = ("/files", "/batches", "/models", "/count_tokens", "/tokenize", "/rerank", "/moderations")
_OPERATIONS = {
    "/chat/completions": "chat",
    "/completions": "text_completion",
    "/embeddings": "embeddings",
    "/images": "generate_content",
    "/audio": "generate_content",
}
_FINISH_REASONS = {
    StopReason.END: "stop",
    StopReason.STOP_SEQUENCE: "stop",
    StopReason.LENGTH: "length",
    StopReason.TOOL_USE: "tool_calls",
    StopReason.CONTENT_FILTER: "content_filter",
}
_OTHER_FLAVOURS = frozenset({"anthropic", "aws.bedrock", "gcp.gemini", "gcp.vertex_ai", "mistral_ai", "x_ai"})
"""Providers with words of their own in the convention: ``openai.*`` is not expected beside their names."""
_PORTS = {"https": 443, "http": 80}


class Host(NamedTuple):
    """Who a provider of the settings is in the convention's words, and where."""

    name: str
    host: str = ""
    port: int | None = None


def hosts(settings: Settings) -> dict[str, Host]:
    """Each provider by its name in the settings. One with several replicas has no host of its own."""
    found: dict[str, Host] = {}
    for name, provider in settings.providers.items():
        try:
            urls = base_urls(provider)
        except ConfigError:
            urls = ()
        where = urlsplit(urls[0]) if len(urls) == 1 else urlsplit("")
        found[name] = Host(
            provider_name(provider.preset), where.hostname or "", where.port or _PORTS.get(where.scheme) if where.hostname else None
        )
    return found


def operation(path: str) -> str:
    """``gen_ai.operation.name`` from the path that was called; empty for what is no operation of a model, such as files."""
    if any(part in path for part in _NO_OPERATION):
        return ""
    return next((name for part, name in _OPERATIONS.items() if part in path), "chat")


def provider_name(preset: str) -> str:
    """``gen_ai.provider.name`` from a preset, or from a provider's own name where its preset is not known."""
    return _CONVENTION_NAMES.get(preset, preset)


def error_type(outcome: str, code: str) -> str:
    return "" if outcome == Outcome.DONE else code or outcome


def of_call(fact: CallFact, attempts: Sequence[AttemptFact]) -> dict[str, Value]:
    """``attempts``: those that are known; the call's phases are told only when all of them are."""
    return {
        "url.path": fact.path,
        "http.response.status_code": fact.status or None,
        "error.type": error_type(fact.outcome, fact.error_code),
        "headway.schema.version": SCHEMA_VERSION,
        "headway.call": fact.call,
        "headway.gateway": fact.gateway,
        "headway.origin": fact.origin,
        "headway.tenant": fact.tenant,
        "headway.charged_to": fact.charged_to,
        "headway.principal": fact.principal,
        "headway.feature": fact.feature,
        "headway.class": fact.klass,
        "headway.requested": fact.requested,
        "headway.routed": fact.routed,
        "headway.answered": fact.answered,
        "headway.stream": fact.stream,
        "headway.outcome": fact.outcome,
        "headway.stream_fault": fact.stream_fault,
        "headway.dialect": fact.dialect,
        "headway.wire": fact.wire,
        "headway.run": fact.run,
        "headway.step": fact.step,
        "headway.prompt": fact.prompt_ref,
        "headway.attempts": fact.attempts,
        "headway.first_token_ms": fact.first_token_ms,
        "headway.input_tokens": fact.input_tokens,
        "headway.output_tokens": fact.output_tokens,
        "headway.usage_source": fact.usage_source,
        "headway.cost_usd": None if fact.cost_nano_usd is None else fact.cost_nano_usd / NANO_PER_USD,
        "headway.lost": fact.lost,
        "headway.config_generation": fact.config_generation,
        **_phases(fact, attempts),
    }


def of_attempt(fact: AttemptFact, call: CallFact | None, known: Mapping[str, Host]) -> dict[str, Value]:
    """``call``: the attempt's, where it is known; what only the call knows is told of the attempt that answered, or failed last."""
    server = known.get(fact.provider) or Host(provider_name(fact.provider))
    peer, peer_port = _host_and_port(fact.address)
    streamed, openai = call is None or call.stream, server.name not in _OTHER_FLAVOURS
    return {
        "gen_ai.operation.name": operation(call.path) if call is not None else "chat",
        "gen_ai.provider.name": server.name,
        "gen_ai.request.model": fact.upstream_model,
        "gen_ai.response.model": fact.answered,
        "gen_ai.response.id": fact.answer_id,
        "gen_ai.response.time_to_first_chunk": time_to_first_chunk_s(fact) if streamed else None,
        "gen_ai.usage.input_tokens": fact.input_tokens,
        "gen_ai.usage.output_tokens": fact.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": fact.cached_tokens,
        "gen_ai.usage.reasoning.output_tokens": fact.reasoning_tokens,
        **(_from_call(fact, call) if call is not None else {}),
        "openai.response.system_fingerprint": fact.fingerprint if openai else "",
        "openai.response.service_tier": fact.tier if openai else "",
        "server.address": server.host or peer,
        "server.port": server.port if server.host else peer_port,
        "network.peer.address": peer,
        "network.peer.port": peer_port,
        "http.response.status_code": fact.status or None,
        "error.type": error_type(fact.outcome, fact.error_code),
        "headway.schema.version": SCHEMA_VERSION,
        "headway.call": fact.call,
        "headway.gateway": fact.gateway,
        "headway.outcome": fact.outcome,
        "headway.stream_fault": fact.stream_fault,
        "headway.attempt": fact.attempt,
        "headway.endpoint": fact.endpoint,
        "headway.region": fact.region,
        "headway.edge": fact.edge,
        "headway.fingerprint": fact.fingerprint,
        "headway.tier": fact.tier,
        "headway.upstream_request": fact.upstream_request,
        "headway.upstream_ms": fact.upstream_ms,
        "headway.queue_ms": fact.queue_ms,
        "headway.connect_ms": fact.connect_ms,
        "headway.head_ms": fact.head_ms,
        "headway.last_token_ms": fact.last_token_ms,
        "headway.chunks": fact.chunks,
        "headway.engine.waiting": fact.engine_waiting,
        "headway.engine.running": fact.engine_running,
    }


def of_verdict(call: CallFact, verdict: Verdict) -> dict[str, Value]:
    return {
        "headway.schema.version": SCHEMA_VERSION,
        "headway.call": call.call,
        "headway.gateway": call.gateway,
        "headway.origin": call.origin,
        "headway.tenant": call.tenant,
        "headway.feature": call.feature,
        "headway.routed": call.routed,
        "headway.verdict": verdict.cause,
        "headway.verdict.second": verdict.second,
        "headway.verdict.missing": verdict.missing,
        "headway.verdict.expected_ms": float(verdict.expected_ms),
        "headway.verdict.excess_ms": float(verdict.excess_ms),
        "headway.verdict.explained_ms": float(verdict.explained_ms),
    }


def time_to_first_chunk_s(fact: AttemptFact) -> float | None:
    """From leaving our own queue, which no provider answers for, to the first token."""
    return None if fact.first_token_ms is None else max(fact.first_token_ms - fact.queue_ms, 0.0) * _S_PER_MS


def _from_call(fact: AttemptFact, call: CallFact) -> dict[str, Value]:
    last = fact.attempt == call.attempts
    stop = _FINISH_REASONS.get(StopReason(call.stop), call.stop) if call.stop in StopReason.__members__.values() else call.stop
    return {
        "gen_ai.request.stream": call.stream,
        "gen_ai.request.max_tokens": call.output_tokens_max,
        "gen_ai.response.finish_reasons": (str(stop),) if last and stop else (),
        "gen_ai.usage.cache_creation.input_tokens": call.cache_write_tokens if last else None,
        "gen_ai.conversation.id": call.run,
        "headway.origin": call.origin,
        "headway.tenant": call.tenant,
        "headway.feature": call.feature,
    }


def _phases(fact: CallFact, attempts: Sequence[AttemptFact]) -> dict[str, Value]:
    if len(attempts) < fact.attempts:
        return {}
    parts = split(seen_of(fact, attempts)).parts_ms
    return {phase_name(phase): parts[phase] for phase in PHASES}


def _host_and_port(address: str) -> tuple[str, int | None]:
    host, colon, port = address.rpartition(":")
    return (host.strip("[]"), int(port)) if colon and port.isdecimal() else ("", None)
