"""The fit grade: a step's time in six numbers a machine, for engines without kernel tables."""

import msgspec

from headway.lab.engine.model import StepWork


class FitStepTime(msgspec.Struct, frozen=True, kw_only=True):
    """t = max(floor, base + per_token x tokens) + per_pair x sum(chunk x (context + chunk/2)) + per_context x decode context + per_decode x decodes.

    All in milliseconds. ``source`` says what the numbers were fitted on.
    """

    name: str
    source: str
    floor_ms: float
    base_ms: float
    token_ms: float
    pair_ms: float
    context_ms: float
    decode_ms: float

    def step_ms(self, work: StepWork) -> float:
        tokens = work.decodes
        pairs = 0.0
        for chunk, before in work.chunks:
            tokens += chunk
            pairs += chunk * (before + chunk / 2)
        return (
            max(self.floor_ms, self.base_ms + self.token_ms * tokens)
            + self.pair_ms * pairs
            + self.context_ms * work.decode_context
            + self.decode_ms * work.decodes
        )
