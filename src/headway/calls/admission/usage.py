"""What a call turned out to need, as far as it was told: what it pays, and what a provider counts."""

from typing import NamedTuple

from headway.calls.admission.model import EndpointAdmission
from headway.calls.admission.state import Call

TOKENS_MAX = 2**40


class Used(NamedTuple):
    """As reported. None: not told. What is negative or beyond reason counts as not told."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None

    @property
    def negative(self) -> bool:
        return (self.input_tokens or 0) < 0 or (self.output_tokens or 0) < 0 or (self.cached_tokens or 0) < 0

    @property
    def complete(self) -> bool:
        """Prompt and output were told."""
        return _sound(self.input_tokens) is not None and _sound(self.output_tokens) is not None

    def cost_of(self, call: Call, settings: EndpointAdmission, *, answered: bool) -> float:
        """What the call is to pay in all. What was not told stays at the estimate; of a call that failed only what was seen is paid."""
        prompt, output = _sound(self.input_tokens), _sound(self.output_tokens)
        cached = _sound(self.cached_tokens) or 0
        if prompt is None:
            prompt = call.prompt_tokens if answered or call.head_ok or call.first_at is not None or call.produced else 0
        if output is None:
            output = max(call.out_tokens, call.produced) if answered else call.produced
        return settings.prompt_price * max(0, prompt - cached) + settings.output_price * output

    def taken_by(self, call: Call, *, answered: bool) -> float | None:
        """Tokens that a provider counts for a call. None: nobody knows."""
        prompt, output = _sound(self.input_tokens), _sound(self.output_tokens)
        if prompt is not None and output is not None:
            return prompt + output
        return None if answered or call.head_ok or call.produced else 0.0


NOTHING = Used()


def _sound(tokens: int | None) -> int | None:
    return tokens if tokens is not None and 0 <= tokens <= TOKENS_MAX else None
