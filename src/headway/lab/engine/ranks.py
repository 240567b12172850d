"""Steps of data parallel ranks that share their experts: each layer waits for the slowest rank, twice."""

from collections.abc import Sequence

import msgspec

from headway.lab.engine.grids import Grid
from headway.lab.engine.model import StepWork
from headway.lab.engine.table import US_PER_MS, TableStepTime
from headway.lab.traces.profiles import Profile


class Experts(msgspec.Struct, frozen=True, kw_only=True):
    """A block has ``total`` experts, a token goes to ``chosen`` of them; each of ``ranks`` holds an equal part."""

    total: int
    chosen: int
    ranks: int


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """What a layer's two exchanges between ranks cost together (tokens out to their experts, results back). No kernel table holds it."""

    layer_us: float
    token_us: float
    """For each token of all ranks."""


class RanksTable:
    """Attention and dense layers of the slowest rank, experts by the tokens of all, exchanges between.

    Every rank computes as many tokens as the fullest: vLLM pads them to one size. A rank's experts see the (token, expert) pairs of its part of
    the tokens; how many of its experts are touched is what equally likely choices touch on average.
    """

    def __init__(self, profile: Profile, *, layers: int, experts: Experts, exchange: Exchange) -> None:
        assert profile.moe, "experts need measured times of theirs"
        self.name = f"table {profile.hardware} {profile.model}, {experts.ranks} ranks"
        self._rank = TableStepTime(profile, layers=layers)
        self._layers = layers
        self._moe = Grid(profile.moe)
        self._experts = experts
        self._exchange = exchange
        self._experts_known: dict[int, float] = {}

    def step_ms(self, work: StepWork) -> float:
        """One rank works, the others wait for it."""
        return self.ranks_ms([work])

    def ranks_ms(self, works: Sequence[StepWork]) -> float:
        fullest = max(work.decodes + sum(chunk for chunk, _ in work.chunks) for work in works)
        tokens = fullest * self._experts.ranks
        layer = max(self._rank.attention.layer_us(work) for work in works)
        layer += self._experts_us(tokens) + self._exchange.layer_us + self._exchange.token_us * tokens
        head = max(self._rank.head_us(work.sequences) for work in works)
        return (self._rank.dense_us(fullest) + self._layers * layer + head) / US_PER_MS

    def _experts_us(self, tokens: int) -> float:
        us = self._experts_known.get(tokens)
        if us is None:
            experts = self._experts
            touched = experts.total / experts.ranks * (1 - (1 - experts.chosen / experts.total) ** tokens)
            us = self._experts_known[tokens] = self._moe.at(tokens / experts.ranks, touched)
        return us
