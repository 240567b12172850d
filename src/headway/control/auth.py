"""How a request becomes a ``Who``: the owner token, a Headway key, or a session cookie; passwords and one-time links open sessions.

Nothing here stores a secret in clear: sessions and passwords are the ledger's business, the owner token is held as a digest.
"""

import hashlib
import hmac
import secrets
from collections import OrderedDict

import msgspec
from fastapi import Request
from starlette.responses import Response

from headway.control.access import Who
from headway.control.errors import Refused
from headway.control.ports import Ledger
from headway.kernel import limits
from headway.kernel.instants import NS_PER_S, MonoNs, mono_ns
from headway.ledger.model import Principal, PrincipalKind, Role

OWNER_TOKEN_WHO = Who(principal="owner_token", name="owner token", role=Role.OWNER, via="owner_token")
_MINUTE_NS = 60 * NS_PER_S


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=32).digest()


class LoginLinks:
    """One-time tokens for ``/login?token=``: each works once, within ``LOGIN_LINK_TTL_S``."""

    def __init__(self) -> None:
        self._open: OrderedDict[bytes, tuple[str, MonoNs]] = OrderedDict()

    def issue(self, principal: str, now: MonoNs) -> str:
        """A new token that signs ``principal`` in. Over ``LOGIN_LINKS_MAX`` the oldest stops working."""
        token = secrets.token_urlsafe(32)
        self._open[_digest(token)] = (principal, MonoNs(now + limits.LOGIN_LINK_TTL_S * NS_PER_S))
        while len(self._open) > limits.LOGIN_LINKS_MAX:
            self._open.popitem(last=False)
        return token

    def redeem(self, token: str, now: MonoNs) -> str | None:
        """The principal, once; None for an unknown, used or old token."""
        principal, until = self._open.pop(_digest(token), ("", MonoNs(0)))
        return principal if principal and now < until else None


class Throttle:
    """Failed sign-ins in the last minute by subject (an address, a name): at ``LOGIN_FAILURES_PER_MINUTE_MAX`` the subject waits."""

    def __init__(self) -> None:
        self._failures: OrderedDict[str, list[MonoNs]] = OrderedDict()

    def wait_s(self, subject: str, now: MonoNs) -> int:
        """Seconds until ``subject`` may try again; 0 now."""
        recent = [at for at in self._failures.get(subject, ()) if now - at < _MINUTE_NS]
        if len(recent) < limits.LOGIN_FAILURES_PER_MINUTE_MAX:
            return 0
        return int((recent[0] + _MINUTE_NS - now) / NS_PER_S) + 1

    def began(self, subject: str, now: MonoNs) -> None:
        """Count an attempt as a failure before its slow check, so that a burst at once is counted too."""
        recent = [at for at in self._failures.pop(subject, ()) if now - at < _MINUTE_NS]
        self._failures[subject] = [*recent[-limits.LOGIN_FAILURES_PER_MINUTE_MAX :], now]
        while len(self._failures) > limits.LOGIN_SUBJECTS_MAX:
            self._failures.popitem(last=False)

    def succeeded(self, subject: str) -> None:
        """Take back what ``began`` counted for the attempt that turned out good."""
        recent = self._failures.get(subject)
        if recent:
            recent.pop()


class Authenticator:
    """Identifies requests and opens sessions. ``owner_token`` is the content of ``control.token``; ``port`` names the cookie,
    since browsers share cookies between the ports of one host."""

    def __init__(self, ledger: Ledger, owner_token: str, port: int) -> None:
        self._ledger = ledger
        self._owner_digest = _digest(owner_token)
        self._cookie = f"headway_{port}"
        self._throttle = Throttle()
        self.links = LoginLinks()

    async def identify(self, request: Request) -> Who | None:
        """Who asks; None when no credential was sent. ``Refused`` 401 when one was sent and is not good."""
        authorization = request.headers.get("authorization", "")
        if authorization:
            scheme, _, credential = authorization.partition(" ")
            if scheme.lower() != "bearer":
                raise Refused("unauthorized", "only bearer tokens are taken", status=401, fix="send `authorization: Bearer ...`")
            return await self._bearer(credential.strip())
        session = request.cookies.get(self._cookie, "")
        principal = await self._ledger.session(session) if session else None
        return _of(principal) if principal is not None and not principal.disabled else None

    async def sign_in(self, name: str, password: str, address: str) -> Who:
        """The user with this password. ``Refused`` 401 for any other, 429 after too many."""
        now = mono_ns()
        subjects = (f"name:{name[: limits.HEADER_VALUE_CHARS_MAX]}", f"address:{address}")
        wait_s = max(self._throttle.wait_s(subject, now) for subject in subjects)
        if wait_s:
            raise Refused(
                "too_many_attempts",
                f"too many failed sign-ins; the next is read in {wait_s} s",
                status=429,
                fix="wait, or run `headway login` on the machine for a one-time link",
                retry_after_s=wait_s,
            )
        for subject in subjects:
            self._throttle.began(subject, now)
        principal = await self._ledger.check_password(name, password)
        if principal is None or principal.disabled:
            raise Refused("unauthorized", "this name and password do not match", status=401, fix="check both and try again")
        for subject in subjects:
            self._throttle.succeeded(subject)
        return _of(principal)

    async def owner_link(self) -> str:
        """Path of a one-time link that signs an owner in."""
        return "/login?token=" + self.links.issue((await self._ledger.owner()).id, mono_ns())

    async def redeem(self, token: str) -> Who:
        """Whoever a one-time link was made for. ``Refused`` 401 when it was used or is too old."""
        principal_id = self.links.redeem(token, mono_ns())
        if principal_id is not None:
            for principal in await self._ledger.principals():
                if principal.id == principal_id and not principal.disabled:
                    return _of(principal)
        raise Refused(
            "unauthorized",
            "this sign-in link was used already or is too old",
            status=401,
            fix="run `headway login` on the machine for a new one",
        )

    async def start_session(self, who: Who, response: Response, *, secure: bool) -> None:
        """Open a session for ``who`` and set its cookie."""
        token = await self._ledger.open_session(who.principal)
        response.set_cookie(
            self._cookie, token, max_age=limits.SESSION_TTL_S, path="/", httponly=True, samesite="strict", secure=secure
        )

    async def end_session(self, request: Request, response: Response) -> None:
        """Close the request's session and take its cookie away."""
        token = request.cookies.get(self._cookie, "")
        if token:
            await self._ledger.close_session(token)
        response.delete_cookie(self._cookie, path="/", httponly=True, samesite="strict")

    async def _bearer(self, credential: str) -> Who:
        if hmac.compare_digest(_digest(credential), self._owner_digest):
            return OWNER_TOKEN_WHO
        key = await self._ledger.check_key(credential)
        if key is None:
            raise Refused(
                "unauthorized", "this bearer token is unknown, revoked or expired", status=401, fix="create a key under Settings"
            )
        if key.features:
            raise Refused.forbidden(f"key {key.name or key.id} is restricted to features and cannot read the control plane")
        return Who(principal=key.id, name=key.name or key.id, role=key.role, tenant=key.tenant, via="key")


def _of(principal: Principal) -> Who:
    assert principal.kind is PrincipalKind.USER, "only users have sessions"
    return Who(principal=principal.id, name=principal.name, role=principal.role, tenant=principal.tenant)


class SignedIn(msgspec.Struct, frozen=True, kw_only=True):
    """What ``/api/v1/me`` answers."""

    name: str
    role: Role
    tenant: str
    via: str
