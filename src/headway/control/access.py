"""Who asks, and what a route demands: every route of control declares one ``Needs`` (tests/unit/control walks them all)."""

from typing import Protocol

import msgspec
from fastapi import Request

from headway.control.errors import Refused
from headway.ledger.model import Role

_RANK = {role: rank for rank, role in enumerate(Role)}


class Who(msgspec.Struct, frozen=True, kw_only=True):
    """An identified caller of the control plane."""

    principal: str
    name: str
    role: Role
    tenant: str = ""
    """Empty sees every tenant; otherwise nothing of any other tenant exists for this caller."""
    via: str = "session"
    """session or key."""

    def may(self, role: Role) -> bool:
        """Whether this caller's role includes ``role``."""
        return _RANK[self.role] >= _RANK[role]

    def sees(self, tenant: str) -> bool:
        """Whether rows of ``tenant`` exist for this caller."""
        return self.tenant in ("", tenant)


def lower_role(one: Role, other: Role) -> Role:
    """The role that may do less."""
    return one if _RANK[one] <= _RANK[other] else other


class Identifies(Protocol):
    async def identify(self, request: Request) -> Who | None: ...


class Needs:
    """A route's demand, used as ``Depends(Needs(Role.OPERATOR))``. ``everywhere`` also demands a caller bound to no tenant."""

    def __init__(self, role: Role | None, *, everywhere: bool = False) -> None:
        self.role = role
        """None lets anybody in: the route says why in its docstring."""
        self.everywhere = everywhere

    async def __call__(self, request: Request) -> Who | None:
        """The caller. ``Refused`` 401 when nobody is identified, 403 when the role or the tenant does not suffice."""
        if self.role is None:
            return None
        authenticator: Identifies = request.app.state.deps.authenticator
        who = await authenticator.identify(request)
        if who is None:
            raise Refused.unidentified()
        if not who.may(self.role):
            raise Refused.forbidden(f"this needs the role {self.role}; {who.name} is {who.role}")
        if self.everywhere and who.tenant:
            raise Refused.forbidden(f"this concerns every tenant; {who.name} is bound to tenant {who.tenant}")
        return who


ANYBODY = Needs(None)
VIEWER = Needs(Role.VIEWER)
OPERATOR = Needs(Role.OPERATOR)
OWNER = Needs(Role.OWNER)
VIEWER_EVERYWHERE = Needs(Role.VIEWER, everywhere=True)
OPERATOR_EVERYWHERE = Needs(Role.OPERATOR, everywhere=True)
OWNER_EVERYWHERE = Needs(Role.OWNER, everywhere=True)
