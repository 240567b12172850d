"""How a request becomes a ``Who``: a Headway key as bearer token (``control.token`` holds the owner's), or a session cookie.

Secrets, throttling and expiry are the ledger's business; nothing is kept here.
"""

import msgspec
from fastapi import Request
from starlette.responses import Response

from headway.control.access import Who, lower_role
from headway.control.errors import Refused
from headway.control.ports import LedgerSubjects
from headway.kernel import limits
from headway.ledger.model import Principal, Role
from headway.ledger.port import LoginResult

NEW_LINK = "run `headway login` on the machine for a new one"


class SignedIn(msgspec.Struct, frozen=True, kw_only=True):
    """What ``/api/v1/me`` answers."""

    name: str
    role: Role
    tenant: str
    via: str


class Authenticator:
    """Identifies requests and opens sessions. ``port`` names the cookie, since browsers share cookies between the ports of a host."""

    def __init__(self, ledger: LedgerSubjects, port: int) -> None:
        self._ledger = ledger
        self._cookie = f"headway_{port}"

    async def identify(self, request: Request) -> Who | None:
        """Who asks; None when no good session was sent. ``Refused`` when a bearer token was sent and is not good."""
        authorization = request.headers.get("authorization", "")
        if authorization:
            scheme, _, credential = authorization.partition(" ")
            if scheme.lower() != "bearer":
                raise Refused("unauthorized", "only bearer tokens are taken", status=401, fix="send `authorization: Bearer ...`")
            return await self._bearer(credential.strip())
        token = request.cookies.get(self._cookie, "")
        session = await self._ledger.sessions.find(token, self._ledger.now()) if token else None
        return None if session is None else _of(session.principal)

    async def sign_in(self, name: str, password: str, address: str, response: Response, *, secure: bool) -> Who:
        """Open a session for the user with this password. ``Refused`` 401 for any other, 429 after too many."""
        result = await self._ledger.sessions.login(name, password, address=address, now=self._ledger.now())
        if result.retry_after_ms:
            wait_s = -(-result.retry_after_ms // 1000)
            raise Refused(
                "too_many_attempts",
                f"too many failed sign-ins; the next is read in {wait_s} s",
                status=429,
                fix="wait, or run `headway login` on the machine for a one-time link",
                retry_after_s=wait_s,
            )
        if result.session is None:
            raise Refused("unauthorized", "this name and password do not match", status=401, fix="check both and try again")
        return self._begin(result, response, secure=secure)

    async def redeem(self, login_token: str, response: Response, *, secure: bool) -> Who:
        """Open a session for whom a one-time link was made. ``Refused`` 401 when it was used or is too old."""
        result = await self._ledger.sessions.redeem(login_token, self._ledger.now())
        if result.session is None:
            raise Refused("unauthorized", "this sign-in link was used already or is too old", status=401, fix=NEW_LINK)
        return self._begin(result, response, secure=secure)

    async def link_for(self, principal: str, actor: str) -> str:
        """Path of a one-time link that signs ``principal`` in."""
        return "/login?token=" + await self._ledger.sessions.login_token(principal, actor=actor, now=self._ledger.now())

    async def end_session(self, request: Request, response: Response) -> None:
        """Close the request's session and take its cookie away."""
        token = request.cookies.get(self._cookie, "")
        if token:
            await self._ledger.sessions.revoke(token, now=self._ledger.now())
        response.delete_cookie(self._cookie, path="/", httponly=True, samesite="strict")

    def _begin(self, result: LoginResult, response: Response, *, secure: bool) -> Who:
        assert result.session is not None
        response.set_cookie(
            self._cookie, result.token, max_age=limits.SESSION_TTL_S, path="/", httponly=True, samesite="strict", secure=secure
        )
        return _of(result.session.principal)

    async def _bearer(self, credential: str) -> Who:
        found = await self._ledger.keys.check(credential, self._ledger.now())
        if found is None:
            raise Refused(
                "unauthorized", "this bearer token is unknown, revoked or expired", status=401, fix="create a key under Settings"
            )
        key, principal = found
        if key.features:
            raise Refused.forbidden(f"key {key.name or key.id} is restricted to features and cannot read the control plane")
        # A key never does more than its owner: a user who was made viewer keeps no owner's key.
        role = lower_role(key.role, principal.role)
        return Who(
            principal=principal.id, name=key.name or principal.name, role=role, tenant=key.tenant or principal.tenant, via="key"
        )


def _of(principal: Principal) -> Who:
    return Who(principal=principal.id, name=principal.name, role=principal.role, tenant=principal.tenant)
