"""Paced prefill: a long prompt goes to its engine as a growing prefix, so that small requests get in between.

Each piece is the prompt's beginning with one token of output; the engine's prefix cache keeps it, the next piece adds to it, and the whole
request computes only what is left. One ``EndpointPacing`` for each endpoint knows how fast it reads prompts, how often small requests come
and whether its cache holds; one ``Pacer`` for each long call says what goes next. Nothing here reads a clock or sends anything.

Measured on llama.cpp b11434 (SmolLM2-135M, two cores, a small request every 0.5 s, one prompt of 3,100 tokens): first token of the small
ones p50/p99 11.8/16.7 s with the prompt sent whole, 0.42/1.06 s in pieces of about 110 tokens that yield.

Tokens of ``upto_tokens`` are those of the call's own estimate: the cut is made by bytes, so they are shares of the prompt, whatever the
engine counts. An engine rounds cached tokens down to its block, and a chat template ends each piece with a few tokens that the next one
does not share: a cached count a little below the piece before is a cache that holds.
"""

import math
from collections import deque
from statistics import median

import msgspec

from headway.calls.admission.model import Pacing
from headway.calls.admission.prefill_cost import PrefillCost
from headway.kernel.instants import NS_PER_S, MonoNs, after_ms, ms_between
from headway.kernel.limits import PIECES_PER_CALL_MAX

RATE_SAMPLES = 15
RATE_TOKENS_MIN = 16
"""Shorter prefills say more about the round trip than about the rate."""
RATE_FRESH_NS = 600 * NS_PER_S
SMALL_MEMORY_S = 60.0
SMALL_BURST_S = 5.0
"""Time constants with which small requests of the past are forgotten: the one that finds more of them counts."""
QUIET_SMALL = 0.1
"""A prompt goes whole when fewer small ones than this are to be expected while the engine reads it."""
SERVO_PIECES = 3
SERVO_STEP = 2.0
SETTLED_STEP = 1.25
CACHED_GROWTH_MAX = 4.0
"""How much larger pieces get, at most, while an earlier call's cache answers for them and they teach nothing about the rate."""
HELD_SHARE_MIN = 0.5
BLOCK_TOKENS_MAX = 512
"""Blocks of prefix caches are at most so large: a shorter piece may be in none."""
JUDGED_TOKENS_MIN = BLOCK_TOKENS_MAX + 64
SURE_TOKENS_MIN = 2 * BLOCK_TOKENS_MAX
"""A cache that gives back less than half of so long a piece does not hold; of shorter ones it takes two."""
STRIKES_MAX = 2
FAILURES_MAX = 3
"""In a row: one that an engine drops with an idle connection is simply sent again."""
UNREPORTED_SLOWDOWN_MAX = 4.0
"""Without cached counts: what a piece may take beyond the first ones' time for its new tokens."""
DISTRUST_MS = 600_000
SPARE_AT_ONCE = 0.25
"""Share of the spare time that may be waited before the first piece; the rest comes as pieces are done."""
LATE_STEPS_MAX = 2
"""Past its bound a prompt's pieces double so often and no more: its last stretch is not worth a stall of seconds for everybody."""
UNKNOWN_WAIT_STALLS = 4
LOSS_RATE = 0.2
"""How fast what a piece loses follows what the last one lost."""
DEEPER_MAX = 3.0
"""How many times deeper than now, at most, the rest of the prompt is taken to lie."""
LOSS_PIECES_MIN = 3
"""After so many pieces what each of them loses is believed."""
CACHE_DOES_NOT_HOLD = "cache does not hold"


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """Send the prompt's first ``upto_tokens`` (of the call's estimate) now."""

    upto_tokens: int


class Whole(msgspec.Struct, frozen=True, kw_only=True):
    """Send the request itself now."""


class Wait(msgspec.Struct, frozen=True, kw_only=True):
    """Ask again when a small request has its first token or ends, at the latest at ``until``. None: a piece is out, ask when it closes."""

    until: MonoNs | None


class PrefillRate:
    """Uncached prompt tokens a second that an endpoint reads: the median of its last prefills, each weighed by its tokens since a fixed
    part of each makes short ones look slow. ``assumed`` until there is one."""

    __slots__ = ("_assumed", "_samples")

    def __init__(self, assumed: float = 0.0) -> None:
        self._assumed = assumed
        self._samples: deque[tuple[MonoNs, float, int]] = deque(maxlen=RATE_SAMPLES)

    def saw(self, uncached_tokens: int, took_ms: float, now: MonoNs) -> None:
        """A prefill of so many tokens that were not in the cache ended now, after ``took_ms`` from being sent to its first token."""
        if uncached_tokens >= RATE_TOKENS_MIN and took_ms > 0 and math.isfinite(took_ms):
            self._samples.append((now, uncached_tokens * 1000 / took_ms, uncached_tokens))

    def tokens_per_s(self, now: MonoNs) -> float | None:
        """None where nothing is known. Prefills older than ten minutes count only while there is no younger one."""
        if not self._samples:
            return self._assumed or None
        fresh = sorted((rate, tokens) for at, rate, tokens in self._samples if now - at <= RATE_FRESH_NS)
        half = sum(tokens for _, tokens in fresh) / 2
        for rate, tokens in fresh:
            half -= tokens
            if half <= 0:
                return rate
        return self._samples[-1][1]


class SmallTraffic:
    """How many small requests a second have come of late: two exponentially forgetting counts, as traffic begins within seconds and fades."""

    __slots__ = ("_at", "_burst", "_count")

    def __init__(self) -> None:
        self._count = self._burst = 0.0
        self._at = MonoNs(0)

    def saw(self, now: MonoNs) -> None:
        self._count, self._burst, self._at = self._left(now) + 1.0, self._burst_left(now) + 1.0, now

    def per_s(self, now: MonoNs) -> float:
        return max(self._left(now) / SMALL_MEMORY_S, self._burst_left(now) / SMALL_BURST_S)

    def _left(self, now: MonoNs) -> float:
        return self._count * math.exp(-max(0, now - self._at) / NS_PER_S / SMALL_MEMORY_S)

    def _burst_left(self, now: MonoNs) -> float:
        return self._burst * math.exp(-max(0, now - self._at) / NS_PER_S / SMALL_BURST_S)


class EndpointPacing:
    """What is known of one endpoint, and the start of each paced call there."""

    __slots__ = ("_distrusted_until", "cost", "pieces", "rate", "settings", "small")

    def __init__(self, settings: Pacing) -> None:
        self.settings = settings
        self.rate = PrefillRate(settings.prefill_tokens_per_s)
        self.cost = PrefillCost()
        self.small = SmallTraffic()
        self.pieces = 0
        """Sent since the start."""
        self._distrusted_until: MonoNs | None = None

    def begin(self, prompt_tokens: int, now: MonoNs) -> "Pacer | None":
        """A pacer for a call that may go to the engine from now on; None where prompts go whole: off, or a cache that does not hold."""
        if not self.settings.on or not self.trusted(now):
            return None
        return Pacer(self, prompt_tokens, now)

    def trusted(self, now: MonoNs) -> bool:
        return self._distrusted_until is None or now >= self._distrusted_until

    def distrust(self, now: MonoNs) -> None:
        """The cache did not hold: prompts go whole for ten minutes, then one tries again."""
        self._distrusted_until = after_ms(now, DISTRUST_MS)

    def state(self, now: MonoNs, *, pacing: bool) -> str:
        """For ``EndpointView.pacing``; ``pacing`` says whether a pacer is at work."""
        if not self.settings.on:
            return "off"
        if not self.trusted(now):
            return CACHE_DOES_NOT_HOLD
        return "on" if pacing else "idle"


class Pacer:
    """One long call. ``next`` says what goes now; after each piece ``closed`` tells how it went."""

    __slots__ = (
        "_answered_until", "_asked", "_began", "_closed", "_closed_at", "_endpoint", "_failures", "_first_ms_per_token", "_late", "_lost_ms",
        "_ms_per_token", "_out", "_prompt_tokens", "_rate_before", "_read_ms", "_read_tokens", "_size", "_strikes", "_total", "gave_up", "pieces",
    )  # fmt: skip

    def __init__(self, endpoint: EndpointPacing, prompt_tokens: int, now: MonoNs) -> None:
        self._endpoint, self._total, self._began = endpoint, max(1, prompt_tokens), now
        self._rate_before = endpoint.rate.tokens_per_s(now)
        self.pieces = 0
        self.gave_up = ""
        """Why the rest goes whole; empty while pieces are of use."""
        self._closed_at, self._lost_ms = now, 0.0
        self._answered_until = now
        """Until when answers of small requests have the engine for themselves."""
        self._asked = 0
        """Tokens of the last piece that closed well."""
        self._out: int | None = None
        self._prompt_tokens = 0
        """What the engine counted in the last piece that closed well."""
        self._size: float | None = None
        self._ms_per_token: deque[float] = deque(maxlen=SERVO_PIECES)
        self._first_ms_per_token: float | None = None
        self._read_ms, self._read_tokens = 0.0, 0
        self._strikes = self._failures = self._late = self._closed = 0

    @property
    def left_tokens(self) -> int:
        return self._total - self._asked

    def next(self, now: MonoNs, small_waiting: int, small_unread: int, small_answering: int = 0) -> Piece | Whole | Wait:
        """What goes now. ``small_unread``: small requests that were sent and have no first token yet; ``small_answering``: that have.

        Those that answer get one token for each piece that is computed beside them: between two pieces they have the engine for as long as
        the last piece took, or until all have ended. Else answers pile up and fill the engine's places.
        """
        if self._out is not None:
            return Wait(until=None)
        if self.gave_up:
            return Whole()
        if small_waiting + small_unread + small_answering > 0:
            until = self._yields_until(now)
            if not small_waiting + small_unread:
                until = min(until, self._answered_until)
            if until > now:
                return Wait(until=until)
        elif self._quiet(now):
            return Whole()
        piece = self._piece_tokens(now)
        if piece >= self.left_tokens:
            return Whole()
        self._out = self._asked + piece
        self.pieces += 1
        self._endpoint.pieces += 1
        return Piece(upto_tokens=self._out)

    def closed(self, cached_tokens: int | None, prompt_tokens: int | None, took_ms: float, now: MonoNs) -> None:
        """The piece that was out is over. ``prompt_tokens`` None: it failed. ``cached_tokens`` None: the engine does not say."""
        upto, self._out = self._out, None
        if upto is None:
            return
        if prompt_tokens is None or prompt_tokens <= 0:
            self._failures += 1
            if self._failures >= FAILURES_MAX:
                self.gave_up = "pieces fail"
            return
        self._failures = 0
        self._closed += 1
        self._note_loss(prompt_tokens, now)
        self._answered_until = after_ms(now, took_ms)
        before, new_asked = self._prompt_tokens, upto - self._asked
        grown = max(1, prompt_tokens - before)
        uncached = prompt_tokens - cached_tokens if cached_tokens is not None else grown
        if cached_tokens is not None:
            self._endpoint.cost.saw(uncached, cached_tokens, took_ms)
        self._learn(new_asked, grown, uncached, took_ms, now)
        if not self._holds(cached_tokens, before, grown, took_ms / grown):
            self.gave_up = CACHE_DOES_NOT_HOLD
            self._endpoint.distrust(now)
        self._asked, self._prompt_tokens = upto, prompt_tokens

    def _note_loss(self, prompt_tokens: int, now: MonoNs) -> None:
        """What this piece took from the last one's end to its own, beyond reading its tokens."""
        cost = self._endpoint.cost.fit()
        if cost is not None:
            lost = max(0.0, ms_between(self._closed_at, now) - cost.span_ms(self._prompt_tokens, prompt_tokens))
            self._lost_ms += (lost - self._lost_ms) * (LOSS_RATE if self._lost_ms else 1.0)
        self._closed_at = now

    def _learn(self, new_asked: int, grown: int, uncached: int, took_ms: float, now: MonoNs) -> None:
        """The next piece is to take ``stall_ms``: a servo on what pieces took, since a fixed part of each is not a matter of its length."""
        settings = self._endpoint.settings
        self._endpoint.rate.saw(uncached, took_ms, now)
        size = self._size or float(new_asked)
        if uncached * 4 < grown:
            start = self._from_rate(now)
            self._size = min(size * SERVO_STEP, start * CACHED_GROWTH_MAX)
            return
        self._ms_per_token.append(took_ms / max(1, new_asked))
        wanted = settings.stall_ms / max(1e-6, median(self._ms_per_token))
        if wanted < size * SETTLED_STEP:  # pieces that still grow are mostly their fixed part, and say little of the whole prompt
            self._read_ms += took_ms
            self._read_tokens += new_asked
        self._size = min(max(wanted, size / SERVO_STEP), size * SERVO_STEP)

    def _holds(self, cached: int | None, before: int, grown: int, ms_per_token: float) -> bool:
        """Whether the piece found the one before it in the engine's cache, as far as can be told. Not said: a piece that took as long as
        half of all it holds would, at the first one's rate, was read from its start."""
        if before < JUDGED_TOKENS_MIN:
            self._first_ms_per_token = min(self._first_ms_per_token or ms_per_token, ms_per_token)
            return True
        if cached is None:
            first = self._first_ms_per_token = self._first_ms_per_token or ms_per_token
            read_tokens = ms_per_token * grown / first
            found = read_tokens <= max(UNREPORTED_SLOWDOWN_MAX * grown, (before + grown) / 2, grown + BLOCK_TOKENS_MAX)
        else:
            found = cached >= before * HELD_SHARE_MIN
        self._strikes = 0 if found else self._strikes + 1
        return found or (self._strikes < STRIKES_MAX and (cached is None or before < SURE_TOKENS_MIN))

    def _from_rate(self, now: MonoNs) -> float:
        """A first size before pieces were measured."""
        settings = self._endpoint.settings
        rate = self._endpoint.rate.tokens_per_s(now)
        if rate is None:
            return float(settings.piece_tokens_min)
        return rate * settings.stall_ms / 1000 / self._engine_tokens_per_token

    @property
    def _engine_tokens_per_token(self) -> float:
        """What the engine counts for each token of the estimate."""
        return self._prompt_tokens / self._asked if self._asked and self._prompt_tokens else 1.0

    def _piece_tokens(self, now: MonoNs) -> int:
        settings = self._endpoint.settings
        size = self._size if self._size is not None else self._from_rate(now)
        size = min(max(size, settings.piece_tokens_min, self._promised_tokens(now)), settings.piece_tokens_max)
        alone = self._alone_ms(now)
        if alone is not None and ms_between(self._began, now) > alone * max(1.0, settings.delay_factor_max):
            self._late += 1  # past its bound it goes on in steps that grow, rather than in one that stalls everybody
            size *= SERVO_STEP ** min(self._late, LATE_STEPS_MAX)
        return math.ceil(max(size, self.left_tokens / max(1, PIECES_PER_CALL_MAX - self.pieces)))

    def _promised_tokens(self, now: MonoNs) -> float:
        """The smallest piece with which the prompt still comes in within its bound; 0 while any does, or nothing is known.

        What pieces lose of late beside reading (their fixed part, what they read again, waits for small requests) further ones will lose
        too, and more as what is cached grows: engines move it about. So many pieces are left as the spare time pays for.
        """
        cost = self._endpoint.cost.fit()
        if cost is None or self._closed < LOSS_PIECES_MIN or self._strikes:
            return 0.0
        settings, real = self._endpoint.settings, self._engine_tokens_per_token
        total, done = self._total * real, self._asked * real
        elapsed_ms = ms_between(self._began, now)
        deeper = min(DEEPER_MAX, (1 + total / max(1.0, done)) / 2)
        lost_ms = self._lost_ms * (1 + deeper) / 2
        spare_ms = cost.whole_ms(total) * max(1.0, settings.delay_factor_max) - elapsed_ms - cost.span_ms(done, total)
        if spare_ms <= 0:
            return SERVO_STEP * (self._size or 0.0)
        return self.left_tokens * lost_ms / spare_ms

    def _alone_ms(self, now: MonoNs) -> float | None:
        """What the whole prompt would take by itself; None while nothing was measured."""
        cost = self._endpoint.cost.fit()
        if cost is not None:
            return cost.whole_ms(self._total * self._engine_tokens_per_token)
        if self._read_tokens:
            return self._total * self._read_ms / self._read_tokens
        rate = self._rate_before
        return None if rate is None else self._total * self._engine_tokens_per_token * 1000 / rate

    def _yields_until(self, now: MonoNs) -> MonoNs:
        """Until when the next piece may wait for small requests: what is spare is spent as the prompt gets on, not all at its start."""
        settings = self._endpoint.settings
        alone = self._alone_ms(now)
        if alone is None:
            return after_ms(self._began, UNKNOWN_WAIT_STALLS * settings.stall_ms)
        factor = max(1.0, settings.delay_factor_max)
        done = self._asked / self._total
        return after_ms(self._began, alone * (factor * done + SPARE_AT_ONCE * (factor - 1) * (1 - done)))

    def _quiet(self, now: MonoNs) -> bool:
        """Nobody small is here, and none is to be expected while the engine reads the rest."""
        per_s = self._endpoint.small.per_s(now)
        alone = self._alone_ms(now)
        if alone is None:
            return per_s * SMALL_MEMORY_S < QUIET_SMALL
        return per_s * alone / 1000 * self.left_tokens / self._total < QUIET_SMALL
