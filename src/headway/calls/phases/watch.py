"""Verdicts a little later: a call is judged when what went on beside it and just after it is known too, so that a change is dated by then."""

from collections import deque

import msgspec

from headway.calls.phases.causes import claims_of
from headway.calls.phases.claims import Case, Claim
from headway.calls.phases.cusum import Alarm
from headway.calls.phases.history import History, target_key
from headway.calls.phases.model import Seen, Verdict
from headway.calls.phases.parts import parts_of
from headway.calls.phases.settings import Settings
from headway.calls.phases.verdict import Judge

PENDING_MAX = 128
"""Calls that wait for what goes on beside them; over it the oldest is judged at once."""


class Told(msgspec.Struct, frozen=True):
    """A verdict, and what every rule said."""

    verdict: Verdict
    claims: tuple[Claim, ...]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A date at which first tokens of a target rose or fell."""

    target: tuple[str, str, str]
    alarm: Alarm


class Watch:
    """Learns calls in order of time and judges each ``together_ms`` later."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.history = History(self.settings)
        self.changes: list[Change] = []
        """One a change that lasts, not one an alarm."""
        self._judge = Judge(self.settings)
        self._alarms: dict[tuple[str, str, str], Alarm] = {}
        self._pending: deque[Seen] = deque()

    def learn(self, seen: Seen) -> list[Told]:
        """The next call; answers those that can be judged now."""
        self.history.learn(seen)
        self._note_change(seen)
        self._pending.append(seen)
        told = []
        while self._pending[0].at_ms + self.settings.together_ms < seen.at_ms or len(self._pending) > PENDING_MAX:
            told.append(self._told(self._pending.popleft()))
        return told

    def finish(self) -> list[Told]:
        """Those that wait still."""
        told = [self._told(seen) for seen in self._pending]
        self._pending.clear()
        return told

    def _told(self, seen: Seen) -> Told:
        target = self.history.target(seen)
        claims = () if target is None else claims_of(Case(seen, parts_of(seen, target), target, self.settings))
        return Told(self._judge.verdict(seen, self.history), claims)

    def _note_change(self, seen: Seen) -> None:
        target = self.history.target(seen)
        alarm = target.whole.first.episode if target is not None else None
        key = target_key(seen)
        if alarm is not None and alarm is not self._alarms.get(key):
            self._alarms[key] = alarm
            self.changes.append(Change(target=key, alarm=alarm))
