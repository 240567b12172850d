"""The stage of the proof on a real engine: the local model and a Headway in front of it, both as processes of their own on loopback.

Every arm is a provider of its own at the same engine, so that arms can take turns without anything being started anew.
"""

import json
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from headway.lab.model_build import model_folder
from headway.lab.model_server import MODEL_NAME, ModelServer
from headway.prove.admission_llama_load import Endpoint
from headway.prove.product import Product
from headway.prove.rawhttp import request

SMALL_TENANT: Final = "chat"
GIANT_TENANT: Final = "reports"
FIFO: Final = "fifo"
_TOP: Final = f"[tenants.{SMALL_TENANT}]\n\n[tenants.{GIANT_TENANT}]\n"
_PROVIDER: Final = """
[providers.{name}]
preset = "llama.cpp"
base_url = "{url}"
models = ["{model}"]
price_as = "free"

[features.{name}]
targets = ["{name}/{model}"]
"""
_ADMISSION: Final = """
[providers.{name}.admission]
policy = "lanes"

[providers.{name}.admission.pacing]
on = true
"""


class PacedArm(msgspec.Struct, frozen=True, kw_only=True):
    """Lanes and pacing. ``stall_ms`` None is the product's own default."""

    name: str
    stall_ms: float | None = None


def configuration(engine_url: str, paced: Sequence[PacedArm]) -> str:
    """One provider with admission off and one for each paced arm."""
    parts = [_TOP, _provider(FIFO, engine_url)]
    for arm in paced:
        stall = "" if arm.stall_ms is None else f"stall_ms = {arm.stall_ms:g}\n"
        parts.append(_provider(arm.name, engine_url) + _ADMISSION.format(name=arm.name) + stall)
    return "\n".join(parts)


def _provider(name: str, url: str) -> str:
    return _PROVIDER.format(name=name, url=url, model=MODEL_NAME)


class Stage:
    """What runs. Small and giant requests are of two tenants."""

    def __init__(self, engine: ModelServer, product: Product, small_key: str, giant_key: str) -> None:
        self.engine, self.product = engine, product
        self._small_key, self._giant_key = small_key, giant_key

    def small(self, arm: str) -> Endpoint:
        return Endpoint(url=self.product.url, key=self._small_key, model=arm)

    def giant(self, arm: str) -> Endpoint:
        return Endpoint(url=self.product.url, key=self._giant_key, model=arm)

    async def tokens(self, text: str) -> int:
        """As the model counts them, without its chat template."""
        answer = await request(self.engine.url, "POST", "/tokenize", (), json.dumps({"content": text}).encode())
        counted = answer.json()
        assert isinstance(counted, dict)
        return len(counted["tokens"])


@asynccontextmanager
async def stage(paced: Sequence[PacedArm]) -> AsyncIterator[Stage]:
    """Everything up; everything ended and the folder gone afterwards. ModelError when the local model is not built."""
    with tempfile.TemporaryDirectory(prefix="headway-prove-") as name:
        folder = Path(name)
        with ModelServer(model_folder(), log=folder / "engine.out") as engine:
            async with Product(folder, configuration(engine.url, paced)) as product:
                yield Stage(engine, product, await product.new_key(SMALL_TENANT), await product.new_key(GIANT_TENANT))
