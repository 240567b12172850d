"""One request inside the engine: hot state, mutable, slotted."""

from headway.lab.engine.model import EngineRequest

WAITING, PREFILL, DECODE, GONE = range(4)


class Sequence:
    """``target`` tokens must be in KV before the next token comes: the prompt, and after a preemption what was produced too.

    While it decodes nothing here changes from step to step: how far it is follows from ``since``, the step that ended its prefill.
    """

    __slots__ = (
        "base",
        "begun",
        "cached",
        "computed",
        "ends",
        "held",
        "id",
        "keys",
        "order",
        "output",
        "priority",
        "prompt",
        "published",
        "ring",
        "since",
        "state",
        "target",
        "told_first",
    )

    def __init__(self, request: EngineRequest, keys: tuple[int, ...], order: int) -> None:
        self.id = request.id
        self.prompt = request.prompt_tokens
        self.output = request.output_tokens
        self.priority = request.priority
        self.keys = keys
        self.order = order
        """Place among all that were submitted."""
        self.state = WAITING
        self.target = request.prompt_tokens
        self.computed = 0
        """Of ``target``, in KV; while prefilling."""
        self.begun = 0
        """Of ``target``, found in the cache at this admission."""
        self.base = 0
        """Tokens produced up to and with the step ``since``."""
        self.since = 0
        self.ends = 0
        """The step that produces its last token; while decoding."""
        self.ring = 0
        """Steps of this remainder, modulo the block size, need a block; while decoding."""
        self.held: list[int] = []
        """Keys of shared blocks that it holds."""
        self.published = 0
        """Whole prompt blocks already offered to the cache."""
        self.cached = 0
        """Prompt tokens found in the cache when it was first admitted."""
        self.told_first = False
