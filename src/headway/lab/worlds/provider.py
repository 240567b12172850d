"""A hosted provider: no batch to see, only requests and tokens a minute, rate-limit headers, and 429 over them."""

import random
from collections.abc import Callable, Sequence

import msgspec

from headway.kernel.instants import NS_PER_MS, NS_PER_S, MonoNs
from headway.lab.engine.model import EngineEvent, EngineRequest
from headway.lab.worlds.agenda import Agenda

Headers = tuple[tuple[str, str], ...]


class ProviderSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Quotas refill steadily and hold at most ``burst_s`` of themselves. Tokens of a call are its prompt and the answer it may give."""

    requests_per_minute: int
    tokens_per_minute: int
    burst_s: float = 60.0
    first_token_ms: float = 350.0
    prompt_token_ms: float = 0.05
    token_ms: float = 12.0
    jitter_sigma: float = 0.25
    """Log-normal, on both times."""


class Quota:
    """A bucket that fills steadily."""

    __slots__ = ("held", "most", "per_ns", "since")

    def __init__(self, per_minute: int, burst_s: float) -> None:
        self.per_ns = per_minute / (60 * NS_PER_S)
        self.most = per_minute * burst_s / 60
        self.held = self.most
        self.since = MonoNs(0)

    def fill(self, now: MonoNs) -> None:
        self.held = min(self.most, self.held + (now - self.since) * self.per_ns)
        self.since = now

    def until_ms(self, cost: float) -> float:
        """Until ``cost`` is there, were nothing taken meanwhile."""
        return max(0.0, (cost - self.held) / self.per_ns / NS_PER_MS)


class HostedProvider:
    """Stands where an engine would. ``answer`` is told status and headers, ``deliver`` the tokens."""

    def __init__(
        self,
        agenda: Agenda,
        settings: ProviderSettings,
        seed: int,
        *,
        answer: Callable[[str, int, Headers], None],
        deliver: Callable[[Sequence[EngineEvent]], None],
    ) -> None:
        self.accepted: list[tuple[MonoNs, int]] = []
        """Instant and tokens of each call taken."""
        self.refused = 0
        self._agenda, self._settings, self._answer, self._deliver = agenda, settings, answer, deliver
        self._requests = Quota(settings.requests_per_minute, settings.burst_s)
        self._tokens = Quota(settings.tokens_per_minute, settings.burst_s)
        self._rng = random.Random(f"provider:{seed}")
        self._gone: set[str] = set()

    def send(self, request: EngineRequest) -> None:
        now = self._agenda.now
        cost = request.prompt_tokens + request.output_tokens
        self._requests.fill(now)
        self._tokens.fill(now)
        if self._requests.held < 1 or self._tokens.held < cost:
            self.refused += 1
            wait_ms = max(self._requests.until_ms(1), self._tokens.until_ms(cost))
            headers = (("retry-after", str(int(-(-wait_ms // 1000)))), ("retry-after-ms", str(int(wait_ms) + 1)))
            self._agenda.at(now + 50 * NS_PER_MS, self._answer, request.id, 429, (*headers, *self._headers()))
            return
        self._requests.held -= 1
        self._tokens.held -= cost
        self.accepted.append((now, cost))
        self._serve(request)

    def abort(self, request_id: str) -> None:
        self._gone.add(request_id)

    def _serve(self, request: EngineRequest) -> None:
        settings, now = self._settings, self._agenda.now
        slow = self._rng.lognormvariate(0.0, settings.jitter_sigma)
        first = now + int((settings.first_token_ms + settings.prompt_token_ms * request.prompt_tokens) * slow * NS_PER_MS)
        last = first + int((request.output_tokens - 1) * settings.token_ms * slow * NS_PER_MS)
        self._agenda.at(first, self._first, request, self._headers())
        self._agenda.at(last, self._last, request)

    def _first(self, request: EngineRequest, headers: Headers) -> None:
        if request.id in self._gone:
            return
        self._answer(request.id, 200, headers)
        self._deliver([EngineEvent(at=self._agenda.now, id=request.id, kind="first", output_tokens=1)])

    def _last(self, request: EngineRequest) -> None:
        if request.id in self._gone:
            self._gone.discard(request.id)
            return
        self._deliver([EngineEvent(at=self._agenda.now, id=request.id, kind="finished", output_tokens=request.output_tokens)])

    def _headers(self) -> Headers:
        """OpenAI's names, as of this instant."""
        told: list[tuple[str, str]] = []
        for name, quota, limit in (
            ("requests", self._requests, self._settings.requests_per_minute),
            ("tokens", self._tokens, self._settings.tokens_per_minute),
        ):
            reset_ms = (quota.most - quota.held) / quota.per_ns / NS_PER_MS
            told += [
                (f"x-ratelimit-limit-{name}", str(limit)),
                (f"x-ratelimit-remaining-{name}", str(int(quota.held))),
                (f"x-ratelimit-reset-{name}", f"{reset_ms / 1000:.3f}s"),
            ]
        return tuple(told)
