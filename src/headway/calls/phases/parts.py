"""A call's excess over what was expected of it, in parts that add up: X = T - E[T].

What is unusual counts against the usual median, what is ordinary against itself: a prompt of ordinary length is expected to take what its own length
takes, one that is far longer than the tenant's others takes longer than expected, and the difference is the prompt's part. Likewise the noise of first
token and pace: within its usual spread it belongs to what was expected, beyond it it is excess.
"""

from math import expm1, log, log1p

import msgspec

from headway.calls.phases.expected import Line, Point
from headway.calls.phases.model import Phase, Seen, Split
from headway.calls.phases.residual import Lane, residual
from headway.calls.phases.series import Series
from headway.calls.phases.settings import Settings
from headway.calls.phases.split import split
from headway.calls.phases.target import Target, Usuals

PACE_TOKENS_MIN = 8
"""Of fewer tokens no pace is learnt."""
_SCALE_UNKNOWN = 0.1
"""Spread of the excess while too few calls are known."""


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds over what was expected; negative is faster. They sum to ``over_ms``."""

    split: Split
    expected_ms: float
    excess_ms: float
    """X: of ``over_ms`` what is unusual."""
    over_ms: float
    """With the ordinary noise of first token and pace."""
    slow_above_ms: float
    """More excess than this is slow."""
    n_baseline: int
    queue_ms: float = 0.0
    throttled_ms: float = 0.0
    retried_ms: float = 0.0
    connect_ms: float = 0.0
    prompt_ms: float = 0.0
    cold_ms: float = 0.0
    crowd_ms: float = 0.0
    """What the line says that more than the usual load of the engine takes."""
    rest_ms: float = 0.0
    """First token, after tokens and load: R left over."""
    output_ms: float = 0.0
    pace_ms: float = 0.0
    reader_ms: float = 0.0
    tool_ms: float = 0.0
    # --- what they rest on
    noise: float = 0.0
    """First token and pace together, as a share of what was expected."""
    noise_units: float = 0.0
    took_ms: float = 0.0
    """From sending to the first token, without thinking that the stream hides."""
    first_expected_ms: float = 0.0
    """The same as expected of this prompt at this load."""
    residual: float = 0.0
    residual_units: float = 0.0
    pace_token_ms: float | None = None
    """Milliseconds a token; None of too few tokens."""
    pace_units: float = 0.0
    pace_share: float | None = None
    """Time a token over the usual."""
    pace_off: float | None = None
    uncached: float | None = None
    cold_tokens: float = 0.0
    prompt_odd: bool = False
    output_odd: bool = False
    streamed: bool = True


def parts_of(seen: Seen, target: Target) -> Parts:
    """Total: before anything is known all is as expected."""
    times = split(seen)
    usuals, lane = target.usuals(seen.tenant), target.lane(seen)
    first = _First(seen, target, usuals, lane, times)
    decode = _Decode(seen, target, usuals, lane, times, first)
    part = times.parts_ms
    reader, pace = _hidden(_over(usuals.blocked, part[Phase.READER]), decode.pace_ms)
    throttled = min(max(seen.throttled_ms, 0.0), part[Phase.ATTEMPTS])
    found = {
        "queue_ms": _over(usuals.queue, part[Phase.QUEUE]),
        "throttled_ms": throttled,
        "retried_ms": part[Phase.ATTEMPTS] - throttled,
        "connect_ms": _over(usuals.connect, part[Phase.CONNECT]),
        "prompt_ms": first.prompt_ms,
        "cold_ms": first.cold_ms,
        "crowd_ms": first.crowd_ms,
        "rest_ms": first.rest_ms,
        "output_ms": decode.output_ms,
        "pace_ms": pace,
        "reader_ms": reader,
        "tool_ms": _tool_ms(part[Phase.TOOL], usuals, target),
    }
    over = sum(found.values())
    usual_ms = max(times.duration_ms - over, 1.0)
    noise = (first.rest_ms + pace) / usual_ms
    units = _units(usuals, lane, noise, first.residual, decode.pace_share)
    excess = over - _ordinary_noise(units, first.rest_ms, pace, target.settings)
    expected = max(times.duration_ms - excess, 1.0)
    return Parts(
        split=times,
        expected_ms=expected,
        excess_ms=excess,
        over_ms=over,
        slow_above_ms=_slow_above_ms(usuals, usual_ms, target.settings),
        noise=noise,
        noise_units=units[0],
        n_baseline=lane.n if lane is not None else 0,
        took_ms=first.took_ms,
        first_expected_ms=first.expected_ms,
        residual=first.residual,
        residual_units=units[1],
        pace_token_ms=decode.pace_token_ms,
        pace_units=units[2],
        pace_share=decode.pace_share,
        pace_off=log(decode.pace_share) if decode.pace_share is not None else None,
        uncached=first.uncached,
        cold_tokens=first.cold_tokens,
        prompt_odd=first.prompt_odd,
        output_odd=decode.odd,
        streamed=first.streamed,
        **found,
    )


def _units(
    usuals: Usuals, lane: Lane | None, noise: float, residual_log: float, pace_share: float | None
) -> tuple[float, float, float]:
    """How unusual first token and pace are together, the first token, and the pace."""
    if lane is None:
        return 0.0, 0.0, 0.0
    return (
        usuals.excess.units(noise),
        lane.residuals.units(residual_log),
        lane.pace.units(pace_share) if pace_share is not None else 0.0,
    )


def _ordinary_noise(units: tuple[float, float, float], rest_ms: float, pace_ms: float, settings: Settings) -> float:
    """Of first token and pace what is of their usual spread, by themselves and together."""
    together, first, pace = (abs(each) for each in units)
    if together > settings.noise_units:
        return 0.0
    return (rest_ms if first <= settings.noise_units else 0.0) + (pace_ms if pace <= settings.noise_units else 0.0)


def _slow_above_ms(usuals: Usuals, usual_ms: float, settings: Settings) -> float:
    """Of a call that takes longer than its like by ordinary amounts of tokens, not a larger excess is asked than of the usual one."""
    usual = usuals.excess.usual
    enough = usual is not None and usual.n >= settings.baseline_calls_min
    scale = usual.mad if usual is not None and enough else _SCALE_UNKNOWN
    common = min(usual_ms, usuals.expected.median(otherwise=usual_ms))
    return max(settings.slow_units * scale * common, settings.slow_share * common, settings.slow_ms)


def uncached_of(seen: Seen) -> float | None:
    """Tokens that had to be read; all of them where nobody tells of a cache."""
    return None if seen.input_tokens is None else float(max(seen.input_tokens - (seen.cached_tokens or 0), 0))


def share_cached(seen: Seen) -> float | None:
    """Of a prompt whose beginning was seen before; else nothing is known of what its cache should hold."""
    if seen.input_tokens and seen.cached_tokens is not None and seen.prefix_seen_before_ms is not None:
        return min(seen.cached_tokens / seen.input_tokens, 1.0)
    return None


def _over(series: Series, ms: float) -> float:
    return ms - series.median() if series.odd(ms) else 0.0


def meanwhile_of(seen: Seen) -> float | None:
    """Prompt tokens a second that others had read while the call decoded: of a long answer more are, which slows none of it."""
    if seen.beside_decode_tokens is None or seen.first_token_ms is None or seen.last_token_ms is None:
        return None
    took_ms = seen.last_token_ms - seen.first_token_ms
    return seen.beside_decode_tokens * 1000 / took_ms if took_ms > 0 else None


def running_of(seen: Seen) -> float | None:
    """None where the engine does not say."""
    return None if seen.engine_running is None else float(seen.engine_running)


def _token_ms(seen: Seen, target: Target, lane: Lane | None) -> float | None:
    """Milliseconds a token usually takes at this load; at the usual one where this is unusual."""
    running = running_of(seen)
    return None if lane is None else lane.pace_ms(None if running is None else _ordinary(target.crowd.running, running))


def _hidden(reader_ms: float, pace_ms: float) -> tuple[float, float]:
    """Tokens come while our write is blocked: what the decode seems to save by it is no time that the reader cost."""
    return (reader_ms + pace_ms, 0.0) if reader_ms > 0 > pace_ms else (reader_ms, pace_ms)


def _tool_ms(waited_ms: float, usuals: Usuals, target: Target) -> float:
    """Over what the tenant's tools usually take, or everybody's while it has called few or its own take as long; calls without a tool have no
    such time."""
    own, all_ = usuals.tool, target.everyone.tool
    apart = len(own) >= target.settings.baseline_calls_min and abs(all_.units(own.median())) > 1.0
    return _over(own if apart else all_, waited_ms)


class _First:
    """Up to the first token."""

    def __init__(self, seen: Seen, target: Target, usuals: Usuals, lane: Lane | None, times: Split) -> None:
        self.uncached = uncached_of(seen)
        self.streamed = seen.first_token_ms is not None
        line = lane.line if lane is not None else Line()
        rise = target.rose()
        level = lane.level_ms(seen.at_ms, rise.stamp_ms if rise is not None else None) if lane is not None else 0.0
        pace_ms = _token_ms(seen, target, lane) or 0.0
        waiting, beside = float(seen.engine_waiting or 0), float(seen.beside_tokens or 0)
        self.expected_ms = max(line.at(self.uncached, waiting, beside) + level, 1.0)
        provider = times.parts_ms[Phase.PROVIDER]
        self.thinking_ms, self.hidden_tokens = _thinking(seen, provider, self.expected_ms, pace_ms)
        self.took_ms = provider - self.thinking_ms
        answer_ms = 0.0 if self.streamed else pace_ms * max((seen.output_tokens or 1) - 1, 0)
        self.rest_ms = self.took_ms - self.expected_ms - answer_ms if lane is not None and lane.n else 0.0
        self.residual = residual(self.took_ms, self.expected_ms + answer_ms) if lane is not None and lane.n else 0.0
        self._tokens(seen, target, usuals, line, waiting, beside)

    def _tokens(self, seen: Seen, target: Target, usuals: Usuals, line: Line, waiting: float, beside: float) -> None:
        calm = line.at(self.uncached, _ordinary(target.crowd.waiting, waiting), _ordinary(target.crowd.beside, beside))
        self.crowd_ms = line.at(self.uncached, waiting, beside) - calm
        self.cold_tokens = _cold(seen, usuals, target)
        self.prompt_ms = self.cold_ms = 0.0
        self.prompt_odd = False
        if self.uncached is None:
            return
        warm = self.uncached - self.cold_tokens
        self.cold_ms = line.at(self.uncached) - line.at(warm)
        self.prompt_odd = usuals.uncached.odd(log1p(warm)) and usuals.uncached.over_p90(log1p(warm))
        if self.prompt_odd:
            self.prompt_ms = line.at(warm) - line.at(expm1(usuals.uncached.median()))


def _ordinary(series: Series, value: float) -> float:
    return series.median() if series.odd(value) else value


def _cold(seen: Seen, usuals: Usuals, target: Target) -> float:
    """Tokens that are usually cached and were not. A long prompt has a smaller share of it cached, and as many tokens as ever: that is not cold."""
    share, usual = share_cached(seen), usuals.cached_share
    if share is None or seen.input_tokens is None or len(usual) < target.settings.baseline_calls_min:
        return 0.0
    fell = usual.median() - share
    fewer = (seen.cached_tokens or 0) < (1 - target.settings.cached_share_drop) * expm1(usuals.cached.median())
    unusual = fewer and -usual.units(share) > target.settings.unusual_units and fell > target.settings.cached_share_drop
    return fell * seen.input_tokens if unusual else 0.0


def _thinking(seen: Seen, provider_ms: float, expected_ms: float, pace_ms: float) -> tuple[float, int]:
    """Reasoning that the stream hides looks like a slow first token: its milliseconds at the usual pace, and its tokens. (0, 0) where it was shown."""
    tokens = seen.reasoning_tokens or 0
    hidden = min(tokens * pace_ms, max(provider_ms - expected_ms, 0.0))
    return (hidden, tokens) if hidden > 0.5 * tokens * pace_ms and tokens and seen.first_token_ms is not None else (0.0, 0)


class _Decode:
    """From the first token to the last."""

    def __init__(self, seen: Seen, target: Target, usuals: Usuals, lane: Lane | None, times: Split, first: _First) -> None:
        self.output_ms = self.pace_ms = 0.0
        self.pace_token_ms: float | None = None
        self.pace_share: float | None = None
        tokens = seen.output_tokens if seen.output_tokens is not None else len(seen.token_ms) or None
        self.odd = tokens is not None and usuals.output.odd(log1p(tokens))
        usual_ms = _token_ms(seen, target, lane)
        if tokens is None:
            return
        if self.odd and usual_ms is not None:
            self.output_ms = (tokens - expm1(usuals.output.median())) * usual_ms
        shown = max(tokens - first.hidden_tokens, 1)
        took = times.parts_ms[Phase.DECODE] + times.parts_ms[Phase.STALL]
        if not first.streamed or shown < 2:
            return
        if shown >= PACE_TOKENS_MIN and took > 0:
            self.pace_token_ms = took / (shown - 1)
            self.pace_share = self.pace_token_ms / usual_ms if usual_ms is not None else None
        if usual_ms is not None:
            self.pace_ms = took - (shown - 1) * usual_ms


def point_of(seen: Seen, parts: Parts) -> Point:
    """What the line learns of a call."""
    return Point(
        took_ms=parts.took_ms,
        uncached=parts.uncached,
        waiting=float(seen.engine_waiting or 0),
        beside=float(seen.beside_tokens or 0),
    )
