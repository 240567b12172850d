"""What can be called (``/v1/models``) and what readers did with answers (``/v1/headway/feedback``)."""

import re
from typing import Any, Final

import msgspec

from headway.facts.model import FEEDBACK_KINDS, FeedbackFact
from headway.facts.redaction import redact
from headway.gateway.caller import Caller
from headway.gateway.flow import Inbound
from headway.gateway.identify import identify
from headway.gateway.live import Live
from headway.gateway.services import Services
from headway.kernel.errors import BadRequest, UnknownModel
from headway.kernel.instants import wall_ms

NOTE_CHARS_MAX = 2_000
_CALL_ID: Final = re.compile(r"call_[0-9a-z]{26}")
_EPOCH: Final = "1970-01-01T00:00:00Z"


class FeedbackBody(msgspec.Struct, forbid_unknown_fields=True):
    """``call`` is the value of ``x-headway-call``; ``kind`` one of FEEDBACK_KINDS."""

    call: str
    kind: str
    note: str = ""


def feedback(services: Services, inbound: Inbound, live: Live) -> dict[str, Any]:
    """Note what became of an answer. The tenant of the key is noted with it: only feedback of a call's own tenant counts."""
    caller = identify(inbound, live, inbound.started_wall)
    try:
        body = msgspec.json.decode(inbound.body, type=FeedbackBody)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadRequest(f"feedback is {{call, kind, note?}}: {error}") from error
    if not _CALL_ID.fullmatch(body.call):
        raise BadRequest("call is the value of the answer's x-headway-call header", param="call")
    if body.kind not in FEEDBACK_KINDS:
        raise BadRequest(f"kind is one of {', '.join(FEEDBACK_KINDS)}", param="kind")
    services.facts.put(
        FeedbackFact(
            call=body.call,
            kind=body.kind,
            at_wall_ms=wall_ms(),
            tenant=caller.tenant,
            principal=caller.principal,
            gateway=services.gateway,
            run=caller.run,
            note=redact(body.note[:NOTE_CHARS_MAX]),
        )
    )
    return {"call": body.call, "kind": body.kind, "noted": True}


def list_models(live: Live, caller: Caller, path: str, *, anthropic: bool) -> dict[str, Any]:
    """In the OpenAI form, or Anthropic's where its client asks. Only what this caller may call."""
    names = [n for n in live.callable_names() if _may_call(live, caller, n)]
    wanted = path.removeprefix("/v1/models").lstrip("/")
    if wanted:
        if wanted not in names:
            raise UnknownModel(f"no model named {wanted[:200]!r}; GET /v1/models lists what can be called", param="model")
        return _anthropic_model(wanted) if anthropic else _openai_model(wanted)
    if anthropic:
        data = [_anthropic_model(n) for n in names]
        return {"data": data, "has_more": False, "first_id": names[0] if names else None, "last_id": names[-1] if names else None}
    return {"object": "list", "data": [_openai_model(n) for n in names]}


def _may_call(live: Live, caller: Caller, name: str) -> bool:
    allowed = [a for a in (caller.features, live.tenant(caller.tenant).features) if a]
    return all(name in a for a in allowed)


def _openai_model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": name.partition("/")[0] if "/" in name else "headway"}


def _anthropic_model(name: str) -> dict[str, Any]:
    return {"type": "model", "id": name, "display_name": name, "created_at": _EPOCH}
