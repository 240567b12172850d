"""What stands before every route: the Host allow-list, the same-origin check on unsafe methods, and the headers of every answer.

DNS rebinding needs a *name* that resolves to us, so any IP literal passes, and names only when they are ours. Cross-site forms are
stopped three times: SameSite=Strict cookies, ``sec-fetch-site`` and ``origin``.
"""

import ipaddress
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headway.control.errors import Refused, error_response

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
ANSWER_HEADERS = (
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "same-origin"),  # no-referrer would turn the origin of our own forms into "null"
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
)


def host_of(value: str) -> str:
    """The host of ``Host`` or of an origin's authority, lower case, without port and brackets; empty when it is not one."""
    value = value.strip().lower()
    if value.startswith("["):
        return value[1:].partition("]")[0]
    return value.rpartition(":")[0] if value.count(":") == 1 else value


class Gatekeeper:
    """ASGI middleware. ``hosts`` are the names under which the board is reached besides localhost and IP literals."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = ()) -> None:
        self._app = app
        self._hosts = frozenset({"localhost", *(host.lower() for host in hosts if host)})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in ANSWER_HEADERS:
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        refused = self._refusal(scope["method"], Headers(scope=scope))
        await (self._app if refused is None else error_response(refused))(scope, receive, send_guarded)

    def _refusal(self, method: str, headers: Headers) -> Refused | None:
        host = host_of(headers.get("host", ""))
        if not self._ours(host):
            return Refused(
                "unknown_host",
                f"this control plane is not called {host!r}" if host else "the request names no host",
                status=421,
                fix="use its IP address, or add the name to `hosts` under [control] in headway.toml",
            )
        if method not in SAFE_METHODS and not _same_origin(headers):
            return Refused(
                "cross_origin",
                "a change was asked for from another site, and is refused",
                status=403,
                fix="open the board at its own address; for scripts use a bearer token instead of the cookie",
            )
        return None

    def _ours(self, host: str) -> bool:
        if host in self._hosts:
            return True
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return False
        return True


def _same_origin(headers: Headers) -> bool:
    site = headers.get("sec-fetch-site")
    if site is not None and site not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    if origin is not None:
        return origin.partition("://")[2].lower() == headers.get("host", "").lower()
    # Every browser sends one of the two with a change; what sends neither is a script, and a script has no cookie to steal.
    return site is not None or "cookie" not in headers
