"""msgspec structs as the one source of what the API says and takes: answers, request bodies and the OpenAPI document."""

from typing import Any, TypeVar

import msgspec
from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from starlette.responses import Response

from headway.control.errors import JSON, ErrorAnswer, Refused

T = TypeVar("T")
_REF = "#/components/schemas/{name}"


def answer(value: Any, status: int = 200) -> Response:
    """A struct as a JSON answer."""
    return Response(msgspec.json.encode(value), status, media_type=JSON)


async def taken(request: Request, kind: type[T]) -> T:
    """The request's JSON body as ``kind``. ``Refused`` 415 for another media type, 400 with the place of the fault."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
        raise Refused("bad_request", "the body must be JSON", status=415, fix="send `content-type: application/json`")
    try:
        return msgspec.json.decode(await request.body(), type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Refused.bad(f"the body cannot be used: {error}", "see /api/v1/openapi.json for its form") from error


def says(kind: type[Any], *, takes: type[Any] | None = None, status: int = 200) -> dict[str, Any]:
    """Keyword arguments of a route: the shape of its answer and, with ``takes``, of its body."""
    extra: dict[str, Any] = {"x-headway-answer": kind.__name__}
    if takes is not None:
        content = {JSON: {"schema": {"$ref": _REF.format(name=takes.__name__)}}}
        extra["requestBody"] = {"required": True, "content": content}
    return {
        "responses": {
            status: {"description": "Done", "content": {JSON: {"schema": {"$ref": _REF.format(name=kind.__name__)}}}},
            "default": {"description": "Refused", "content": {JSON: {"schema": {"$ref": _REF.format(name="ErrorAnswer")}}}},
        },
        "openapi_extra": extra,
        "status_code": status,
    }


def document(app: FastAPI, kinds: tuple[type[Any], ...]) -> dict[str, Any]:
    """The OpenAPI document, with one schema for each struct in ``kinds`` and those that they hold."""
    spec = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    _, components = msgspec.json.schema_components((*kinds, ErrorAnswer), ref_template=_REF)
    held = spec.setdefault("components", {})
    held.setdefault("schemas", {}).update(components)
    held["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
    spec["security"] = [{"bearer": []}]
    return spec
