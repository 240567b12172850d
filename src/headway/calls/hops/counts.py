"""How often each kind of repair was made."""

from headway.calls.hops.model import Repair


class Counts:
    """Counts by reason."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def add(self, reason: str, count: int = 1) -> None:
        self._counts[reason] = self._counts.get(reason, 0) + count

    def join(self, other: "Counts") -> None:
        for reason, count in other._counts.items():
            self.add(reason, count)

    def repairs(self) -> tuple[Repair, ...]:
        """By name of the reason."""
        return tuple(Repair(reason=reason, count=count) for reason, count in sorted(self._counts.items()))
