"""The table grade: a step's time from measured kernel times, layer by layer."""

from typing import Final

import msgspec

from headway.lab.engine.attention import Attention
from headway.lab.engine.grids import Curve
from headway.lab.engine.model import StepWork
from headway.lab.traces.profiles import Profile

ONCE: Final = ("embedding", "final_layernorm")
"""Dense layers that a step passes once; all others once a block."""
US_PER_MS: Final = 1_000.0


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """What kernel tables do not hold: host time a step that no kernel covers, and how dense layers run beside how they were measured."""

    overhead_ms: float = 0.0
    dense_scale: float = 1.0


class TableStepTime:
    """overhead + dense layers by all tokens + attention + head and sampler by the sequences that get a token."""

    def __init__(self, profile: Profile, *, layers: int, calibration: Calibration | None = None) -> None:
        self.name = f"table {profile.hardware} {profile.model}"
        self._layers = layers
        self._calibration = calibration or Calibration()
        self.attention = Attention(profile.attention, skew=profile.skew or 0.0)
        self._once = [Curve(profile.dense[layer]) for layer in ONCE]
        self._block = [Curve(points) for layer, points in profile.dense.items() if layer not in ONCE]
        self._head = [Curve(points) for points in profile.per_sequence.values()]
        self._dense_known: dict[int, float] = {}
        self._head_known: dict[int, float] = {}

    def step_ms(self, work: StepWork) -> float:
        tokens = work.decodes + sum(chunk for chunk, _ in work.chunks)
        us = self._calibration.dense_scale * self.dense_us(tokens)
        us += self._layers * self.attention.layer_us(work) + self.head_us(work.sequences)
        return self._calibration.overhead_ms + us / US_PER_MS

    def dense_us(self, tokens: int) -> float:
        """All dense layers of a step."""
        us = self._dense_known.get(tokens)
        if us is None:
            block = sum(curve.at(tokens) for curve in self._block)
            us = self._dense_known[tokens] = sum(curve.at(tokens) for curve in self._once) + self._layers * block
        return us

    def head_us(self, sequences: int) -> float:
        """Head and sampler."""
        us = self._head_known.get(sequences)
        if us is None:
            us = self._head_known[sequences] = sum(curve.at(sequences) for curve in self._head) if sequences else 0.0
        return us
