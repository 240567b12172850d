"""What waits to go up the link, by what may be lost. Bounded whatever control does: a stuck control costs a fixed amount of memory."""

from collections import OrderedDict, deque

from headway.kernel.limits import LINK_QUEUE_FRAMES_MAX
from headway.link.messages import AdmissionSeen, CallOpened, CallSeen, Heartbeat, LeaseReturned, LeaseWanted, Up

SAID_AGAIN_MAX = 256
"""Last words of blocks kept after they were sent: the link may have broken before control read them. Older ones are reconciled."""


class Outbox:
    """Settlements first, then wishes, then the heartbeat and the state of admission, then the live feed.

    Settlements are kept until sent, one a lease (``spent`` only grows, so the last says all), and last words are sent again after a break.
    Wishes, heartbeats and states die with their link. The feed is shed past LINK_QUEUE_FRAMES_MAX.
    """

    def __init__(self) -> None:
        self._returns: dict[str, LeaseReturned] = {}
        self._said: OrderedDict[str, LeaseReturned] = OrderedDict()
        self._wishes: deque[LeaseWanted] = deque()
        self._beat: Heartbeat | None = None
        self._admission: AdmissionSeen | None = None
        self._feed: deque[CallOpened | CallSeen] = deque()

    def __len__(self) -> int:
        single = (self._beat is not None) + (self._admission is not None)
        return len(self._returns) + len(self._wishes) + len(self._feed) + single

    def settle(self, lease: str, spent: int, *, final: bool) -> None:
        waiting = self._returns.get(lease)
        if waiting is not None:
            spent, final = max(spent, waiting.spent), final or waiting.final
        self._returns[lease] = LeaseReturned(lease=lease, spent=spent, final=final)

    def wish(self, wish: LeaseWanted) -> None:
        """The book asks once a budget, which is the bound."""
        self._wishes.append(wish)

    def beat(self, beat: Heartbeat) -> None:
        """The latest counts."""
        self._beat = beat

    def admission(self, seen: AdmissionSeen) -> None:
        """The latest counts."""
        self._admission = seen

    def feed(self, message: CallOpened | CallSeen) -> bool:
        """False: shed."""
        if len(self._feed) >= LINK_QUEUE_FRAMES_MAX:
            return False
        self._feed.append(message)
        return True

    def pop(self) -> Up | None:
        """The next to send."""
        if self._returns:
            message = self._returns.pop(next(iter(self._returns)))
            if message.final:
                self._said[message.lease] = message
                if len(self._said) > SAID_AGAIN_MAX:
                    self._said.popitem(last=False)
            return message
        if self._wishes:
            return self._wishes.popleft()
        if self._beat is not None:
            beat, self._beat = self._beat, None
            return beat
        if self._admission is not None:
            seen, self._admission = self._admission, None
            return seen
        return self._feed.popleft() if self._feed else None

    def pop_some(self, most: int) -> list[Up]:
        """The next ``most`` to send, in order."""
        some: list[Up] = []
        while len(some) < most and (message := self.pop()) is not None:
            some.append(message)
        return some

    def link_lost(self) -> None:
        """What was sent last may never have been read."""
        self._returns = dict(self._said) | self._returns
        self._said.clear()
        self._wishes.clear()
        self._feed.clear()
        self._beat = self._admission = None
