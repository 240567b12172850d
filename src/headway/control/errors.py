"""Refusals of the control plane: one code, one status, what to do; JSON in the API, a plain page on the board."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from headway.kernel.errors import HeadwayError

JSON = "application/json"


class Refused(HeadwayError):
    """A request that control does not carry out. ``fix`` says what the caller can do; nothing here is secret."""

    def __init__(self, code: str, message: str, *, status: int = 400, fix: str = "", retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.status, self.fix, self.retry_after_s = code, message, status, fix, retry_after_s

    @classmethod
    def unidentified(cls) -> "Refused":
        return cls(
            "unauthorized",
            "nobody is signed in",
            status=401,
            fix="sign in at /login, or send `authorization: Bearer` with a key or the token in control.token",
        )

    @classmethod
    def forbidden(cls, message: str) -> "Refused":
        return cls("forbidden", message, status=403, fix="ask an owner for the role, or sign in as somebody who has it")

    @classmethod
    def missing(cls, what: str, fix: str = "") -> "Refused":
        return cls("not_found", f"there is no {what}", status=404, fix=fix)

    @classmethod
    def bad(cls, message: str, fix: str = "") -> "Refused":
        return cls("bad_request", message, status=400, fix=fix)

    @classmethod
    def away(cls, what: str, why: str) -> "Refused":
        return cls("unavailable", f"{what} cannot be reached: {why}", status=503, fix="calls go on; try again", retry_after_s=2)


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    code: str
    message: str
    fix: str = ""


class ErrorAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every answer of the API that is not 2xx."""

    error: ErrorBody


def error_response(refused: Refused) -> Response:
    """The JSON form."""
    headers = {"retry-after": str(refused.retry_after_s)} if refused.retry_after_s is not None else {}
    if refused.status == 401:
        headers["www-authenticate"] = 'Bearer realm="headway"'
    body = ErrorAnswer(error=ErrorBody(code=refused.code, message=refused.message, fix=refused.fix))
    return Response(msgspec.json.encode(body), refused.status, headers, media_type=JSON)


def wants_json(request: Request) -> bool:
    """The API and ``?_format=json`` answer JSON, everything else a page."""
    path = request.url.path
    if path.startswith(("/api/", "/v1/", "/health/", "/metrics")) or request.query_params.get("_format") == "json":
        return True
    return "text/html" not in request.headers.get("accept", "text/html") and "*/*" not in request.headers.get("accept", "*/*")
