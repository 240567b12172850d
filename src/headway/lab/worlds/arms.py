"""The arms of a proof: the same clients, with and without us, with and without the engine's own long-prefill threshold."""

from collections.abc import Mapping
from typing import Final

import msgspec

from headway.calls.admission.model import Capacity, EndpointAdmission, LongLane, Pacing, Share
from headway.calls.admission.policy import AdmissionPolicy
from headway.lab.engine.model import EngineSettings

ENDPOINT: Final = "lab"
SLOTS: Final = 128
ENGINE_FLAG_TOKENS: Final = 512
"""Of arm fifo_flag: the engine's threshold for each long prompt."""
OUR_FLAG_TOKENS: Final = 256
"""Of arm headway_flag: an eighth of the step, which we advise for one long prompt at a time."""


class Arm(msgspec.Struct, frozen=True, kw_only=True):
    """``admission`` None: clients go straight to the engine."""

    name: str
    engine: EngineSettings = EngineSettings(sequences_max=SLOTS)
    admission: EndpointAdmission | None = None

    def policy(self, shares: Mapping[str, Share] | None = None) -> AdmissionPolicy | None:
        """A fresh one, as a gateway has after its start."""
        if self.admission is None:
            return None
        return AdmissionPolicy({ENDPOINT: self.admission}, shares or {}, default=self.admission)


def fifo(flag_tokens: int | None = None) -> Arm:
    """No gateway in between; ``flag_tokens`` is the engine's own long-prefill threshold."""
    name = "fifo" if flag_tokens is None else f"fifo_flag_{flag_tokens}"
    return Arm(name=name, engine=EngineSettings(sequences_max=SLOTS, long_prefill_tokens_max=flag_tokens))


def headway(*, stall_ms: float | None = None, policy: str = "lanes") -> Arm:
    """No flag: long prompts are paced, at the product's default stall unless one is given."""
    pacing = Pacing(on=True) if stall_ms is None else Pacing(on=True, stall_ms=stall_ms)
    return Arm(
        name="headway" if stall_ms is None else f"headway_stall_{stall_ms:g}ms",
        admission=EndpointAdmission(policy=policy, capacity=Capacity(requests_max=SLOTS), pacing=pacing),
    )


def headway_flag(flag_tokens: int = OUR_FLAG_TOKENS) -> Arm:
    """The engine shares its step, we send one long prompt at a time."""
    return Arm(
        name="headway_flag" if flag_tokens == OUR_FLAG_TOKENS else f"headway_flag_{flag_tokens}",
        engine=EngineSettings(sequences_max=SLOTS, long_prefill_tokens_max=flag_tokens),
        admission=EndpointAdmission(capacity=Capacity(requests_max=SLOTS), long=LongLane(engine_step_share=True)),
    )
