"""Token budgets of the day, over all endpoints: what was spent, and who is past it.

When the day ends is told by whoever knows the calendar; until then spending is counted and nothing is reset.
"""

from headway.calls.admission.model import Share
from headway.kernel.instants import NS_PER_S, MonoNs

DAY_NS = 86_400 * NS_PER_S


class Days:
    """``changes`` counts crossings and resets, so that a scheduler sees with one comparison whether ranks may differ."""

    __slots__ = ("_budgets", "_overruns", "_spent", "changes", "ends_at")

    def __init__(self, shares: dict[str, Share] | None = None, ends_at: MonoNs | None = None) -> None:
        self._budgets: dict[str, Share] = {}
        self._spent: dict[str, float] = {}
        self._overruns: set[str] = set()
        self.changes = 0
        self.ends_at = ends_at
        self.shared_by(shares or {})

    def shared_by(self, shares: dict[str, Share]) -> None:
        """Take new budgets; what was spent today stays."""
        self._budgets = {name: share for name, share in shares.items() if share.budget_tokens_per_day is not None}
        self._spent = {name: self._spent.get(name, 0.0) for name in self._budgets}
        self._overruns = {name for name in self._budgets if self._is_over(name)}
        self.changes += 1

    def spend(self, tenant: str, tokens: float) -> None:
        """Negative is a refund."""
        if tenant not in self._budgets:
            return
        self._spent[tenant] = max(0.0, self._spent[tenant] + tokens)
        if self._is_over(tenant) != (tenant in self._overruns):
            self._overruns ^= {tenant}
            self.changes += 1

    def spent(self, tenant: str) -> float:
        return self._spent.get(tenant, 0.0)

    def overrun(self, tenant: str) -> str:
        """``demote``, ``pause``, ``cut``, or nothing while it is within its budget."""
        return self._budgets[tenant].on_overrun if tenant in self._overruns else ""

    def roll(self, now: MonoNs) -> None:
        """A new day where the old one has ended."""
        if self.ends_at is None or now < self.ends_at:
            return
        while self.ends_at <= now:
            self.ends_at = MonoNs(self.ends_at + DAY_NS)
        self._spent = dict.fromkeys(self._budgets, 0.0)
        self._overruns.clear()
        self.changes += 1

    def _is_over(self, tenant: str) -> bool:
        budget = self._budgets[tenant].budget_tokens_per_day
        return budget is not None and self._spent[tenant] >= budget
