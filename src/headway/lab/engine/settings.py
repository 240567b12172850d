"""Settings that make no engine are refused where they are given."""

from headway.lab.engine.model import EngineSettings


class EngineRefusal(ValueError):
    """Settings that make no engine, or a request that it can never serve."""


def checked(settings: EngineSettings) -> EngineSettings:
    """``settings``; EngineRefusal says which of them cannot be."""
    if settings.sequences_max < 1 or settings.block_tokens < 1:
        raise EngineRefusal("an engine needs at least one sequence, and one token a block")
    if settings.chunked_prefill and settings.step_tokens_max < settings.sequences_max:
        raise EngineRefusal(
            f"a step of {settings.step_tokens_max} tokens cannot decode {settings.sequences_max} sequences; "
            "raise step_tokens_max or lower sequences_max"
        )
    if settings.step_tokens_max < 1:
        raise EngineRefusal("step_tokens_max is at least 1")
    if settings.long_prefill_tokens_max is not None and settings.long_prefill_tokens_max < 1:
        raise EngineRefusal("long_prefill_tokens_max is at least 1")
    if settings.long_prefills_max is not None and settings.long_prefills_max < 1:
        raise EngineRefusal("long_prefills_max is at least 1")
    if settings.long_prefills_max is not None and settings.long_prefill_tokens_max is None:
        raise EngineRefusal("long_prefills_max needs long_prefill_tokens_max, which says what is long")
    if settings.kv_blocks is not None and settings.kv_blocks < 1:
        raise EngineRefusal("kv_blocks is at least 1, or absent for memory without bound")
    if settings.plan_ahead and not settings.chunked_prefill:
        raise EngineRefusal("plan_ahead needs chunked_prefill: a whole prompt in one step leaves nothing to plan a step ahead")
    if settings.decode_steps_between_prefills < 0:
        raise EngineRefusal("decode_steps_between_prefills is not negative")
    return settings
