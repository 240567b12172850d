"""Images by URL and tools cost tokens that a prompt's bytes do not bound: what is reserved for a call covers them."""

import json
from typing import Any

import pytest
from gateway_bench import JSON, Bench, FakeExchange, settings, whole

from headway.config.model import Feature, Provider
from headway.gateway.dialects.registry import REGISTRY
from headway.gateway.estimate import SEEN_BEFORE_TIGHTENING, TEMPLATE_TOKENS_MAX, Estimator
from headway.gateway.unseen_tokens import IMAGE_TOKENS_MAX, IMAGES_COUNTED_MAX, TOOLS_PROMPT_TOKENS_MAX, count_images
from headway.kernel.instants import mono_ns
from headway.ledger.model import BudgetUnit, Lease
from headway.link.messages import BudgetScope

URL = "https://pictures.test/a.png"
SAID = 'he said "image_url": {"url": 1}, "image", "input_image"'
CHAT: dict[str, Any] = {
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": SAID},
                {"type": "image_url", "image_url": {"url": URL}},
                {"type": "image_url", "image_url": URL},
                {"image_url": {"url": "data:image/png;base64,AAAA"}, "type": "image_url"},
            ],
        }
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"image_url": {"type": "string"}}}}}],
}
RESPONSES: dict[str, Any] = {
    "input": [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": SAID},
                {"type": "input_image", "image_url": URL},
                {"type": "input_image", "file_id": "file-1"},
            ],
        },
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_image", "image_url": URL}]},
    ]
}
MESSAGES: dict[str, Any] = {
    "system": SAID,
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": SAID},
                {"type": "image", "source": {"type": "url", "url": URL}},
                {"type": "tool_result", "content": [{"source": {"type": "file", "file_id": "f"}, "type": "image"}]},
                {"type": "tool_result", "content": [{"type": "image", "source": {"type": "base64", "data": "AA"}}]},
            ],
        }
    ],
}


@pytest.mark.parametrize("indent", [None, 3])
@pytest.mark.parametrize(("name", "body"), [("openai-chat", CHAT), ("openai-responses", RESPONSES), ("anthropic", MESSAGES)])
def test_images_are_counted_where_they_stand(name: str, body: dict[str, Any], indent: int | None) -> None:
    dialect = next(d for d in REGISTRY.values() if d.name == name)
    raw = json.dumps({"model": "m", **body}, indent=indent).encode()
    assert count_images(dialect.name, raw, dialect.scan(raw)) == 3


def test_counting_is_bounded() -> None:
    dialect = REGISTRY[next(iter(REGISTRY))]
    raw = json.dumps({"model": "m", "messages": [{"image_url": 1}] * (IMAGES_COUNTED_MAX + 50)}).encode()
    assert count_images(dialect.name, raw, dialect.scan(raw)) == IMAGES_COUNTED_MAX


async def reserved(provider: Provider, model: str, body: dict[str, Any]) -> tuple[int, int]:
    """(tokens reserved for the prompt, its bytes)."""
    scope = BudgetScope(budget="b1", scope="tenant:acme", unit=BudgetUnit.TOKENS, block=10**7, cap=10**7)
    config = settings(seen=Feature(targets=(f"there/{model}",)))
    config.providers["there"] = provider
    made = Bench(lambda r: FakeExchange(200, JSON, [whole()]), budgets=(scope,), config=config)
    made.services.book.granted(
        Lease(id="l1", budget="b1", scope=scope.scope, unit=scope.unit, amount=scope.cap, ttl_ms=60_000), mono_ns()
    )
    sent = {"model": "seen", "max_tokens": 10, **body}
    taken: list[int] = []
    settle = made.services.book.settle
    made.services.book.settle = lambda held, nano, tokens: (
        taken.append(sum(h.amount for h in held.holds)),
        settle(held, nano, tokens),
    )[1]  # type: ignore[method-assign]
    assert (await made.call(json.dumps(sent).encode())).status == 200
    raw = json.dumps(sent).encode()
    return taken[0] - 10, REGISTRY[next(iter(REGISTRY))].scan(raw).prompt_bytes


@pytest.mark.parametrize(
    ("provider", "model", "each"),
    [
        (Provider(preset="vllm", base_url="http://there.test"), "qwen-vl", IMAGE_TOKENS_MAX),
        (Provider(preset="vllm", base_url="http://there.test", image_tokens_max=256), "small-vl", 256),
        (Provider(preset="openai", base_url="http://there.test", price_as="free"), "gpt-4o-mini-2024-07-18", 48_169),
        (Provider(preset="mistral", base_url="http://there.test", price_as="free"), "pixtral", 4_160),
    ],
)
async def test_the_reservation_covers_the_dearest_image(provider: Provider, model: str, each: int) -> None:
    tokens, size = await reserved(provider, model, CHAT)
    assert tokens == size + TEMPLATE_TOKENS_MAX + TOOLS_PROMPT_TOKENS_MAX + 3 * each


async def test_text_alone_reserves_no_more_than_its_bytes() -> None:
    tokens, size = await reserved(
        Provider(preset="vllm", base_url="http://there.test"), "m", {"messages": [{"role": "user", "content": SAID}]}
    )
    assert tokens == size + TEMPLATE_TOKENS_MAX


def test_prompts_with_images_teach_nothing_about_text() -> None:
    learner = Estimator()
    for _ in range(SEEN_BEFORE_TIGHTENING + 1):
        learner.learn("m", 1_000_000, 300)  # a picture in base64
        learner.learn("m", 500, 1_500)  # one by URL
    assert learner.upper("m", 1_000) >= 1_000
    for _ in range(SEEN_BEFORE_TIGHTENING + 1):
        learner.learn("m", 4_000, 1_000)
    assert learner.upper("m", 4_000) < 2_000


async def test_reserving_does_not_move_the_order_of_replicas() -> None:
    scope = BudgetScope(budget="b1", scope="tenant:acme", unit=BudgetUnit.TOKENS, block=10**6, cap=10**6)
    config = settings(many=Feature(targets=("many/m",)))
    config.providers["many"] = Provider(preset="vllm", base_urls=("http://a.test", "http://b.test"), models=("m",))
    made = Bench(lambda r: FakeExchange(200, JSON, [whole()]), budgets=(scope,), config=config)
    made.services.book.granted(
        Lease(id="l1", budget="b1", scope=scope.scope, unit=scope.unit, amount=scope.cap, ttl_ms=60_000), mono_ns()
    )
    for _ in range(6):
        await made.call(json.dumps({"model": "many", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}).encode())
    hosts = [request.url.split("/")[2] for request in made.upstream.requests]
    assert hosts.count("a.test") == hosts.count("b.test") == 3
