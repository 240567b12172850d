"""Tokens of a prompt that its bytes do not bound: images, of which a URL says nothing, and what a provider writes around tools.

Only what a budget reserves rests on it. The figures are the most that the providers' own pages said in November 2026, for one image in
the dearest detail; ``image_tokens_max`` at a provider goes before them. Documents and audio given by reference are not bounded here.
"""

from collections.abc import Sequence
from typing import Final

from headway.calls.conversation import DialectName
from headway.gateway.dialects.port import Scan
from headway.gateway.live import Target

IMAGES_COUNTED_MAX = 10_000
"""More are not counted: no provider takes as many, and no budget either."""
IMAGE_TOKENS_MAX: Final = 16_384
"""Of an image where nothing better is known: what Qwen2-VL and its successors make at most of one in their standard setting (12,845,056
pixels, 28 x 28 of them a token), which engines of one's own follow; above what OpenAI bills for 10,000 patches and Gemini for 30 tiles."""
_BY_PRESET: Final = {
    "anthropic": 4_784,  # 2,576 pixels at the long edge; older models stop at 1,568 pixels and about 1,600 tokens
    "mistral": 4_160,  # 1,024 x 1,024 pixels, 16 x 16 of them a token, and one at the end of each row
}
_BY_MODEL: Final = {
    "4o-mini": 48_169,  # 2,833 and 5,667 for each of at most 8 tiles: its images cost what those of its larger sibling cost
}
TOOLS_PROMPT_TOKENS_MAX: Final = 1_024
"""What a provider writes into the prompt so that the model can use tools; Anthropic names 313 to 530 tokens, more with a computer's."""

_MARK: Final = {
    DialectName.OPENAI_CHAT: ("messages", b'"image_url"', True),
    DialectName.OPENAI_RESPONSES: ("input", b'"input_image"', False),
    DialectName.ANTHROPIC: ("messages", b'"image"', False),
}
"""Where images stand in each dialect, and what each of them has once: a key of this name, or a value."""


def unseen_tokens(dialect: DialectName, body: bytes, scan: Scan, targets: Sequence[Target]) -> int:
    """The most that images and tools add to what the bytes of a prompt bound, at the dearest of ``targets``."""
    tools = TOOLS_PROMPT_TOKENS_MAX if "tools" in scan.spans else 0
    images = count_images(dialect, body, scan)
    return tools + (images * max(map(image_tokens, targets), default=IMAGE_TOKENS_MAX) if images else 0)


def count_images(dialect: DialectName, body: bytes, scan: Scan) -> int:
    """How many images a prompt has, in a few searches over its bytes. Quotes in texts are escaped, so none is counted that is only
    spoken of; a key written in escapes would be missed, and is charged when the provider reports it."""
    key, mark, is_key = _MARK[dialect]
    start, end = scan.spans.get(key, (0, 0))
    count = 0
    at = body.find(mark, start, end)
    while at >= 0 and count < IMAGES_COUNTED_MAX:
        at += len(mark)
        count += body[at : at + 32].lstrip().startswith(b":") is is_key
        at = body.find(mark, at, end)
    return count


def image_tokens(target: Target) -> int:
    """The most that one image can cost at ``target``."""
    provider = target.endpoint.provider
    if provider.image_tokens_max:
        return provider.image_tokens_max
    known = next((tokens for part, tokens in _BY_MODEL.items() if part in target.model), 0)
    return known or _BY_PRESET.get(provider.preset, IMAGE_TOKENS_MAX)
