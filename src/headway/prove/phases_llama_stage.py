"""The stage of the proof on a real engine: two local models of unlike speed behind one name, and a Headway in front of them.

Which of the two the name leads to is one line of Headway's configuration, changed while it runs.
"""

import asyncio
import contextlib
import os
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from headway.lab.model_build import model_folder
from headway.lab.model_server import MODEL_NAME, ModelServer
from headway.prove.forms import CHAT, PATHS, body_of
from headway.prove.product import Product
from headway.prove.rawhttp import request, until
from headway.prove.watching import metrics

FEATURE: Final = "answers"
TENANTS: Final = ("north", "south", "east")
CROWD: Final = "crowd"
"""The tenant whose calls are the neighbours."""
SLOTS: Final = {"north": 0, "south": 1, "east": 2}
CROWD_SLOTS: Final = (3, 4, 5)
CONTEXT_TOKENS: Final = 16_384
LOAD_EVERY_MS: Final = 500
MORE: Final = ("-c", str(CONTEXT_TOKENS), "-cram", "0", "-t", "1")
"""A prompt that has left its slot has left the cache. One thread: two wait for each other wherever a core has other work too."""
RUNS_S, RESTS_S = 0.010, 0.012
"""By turns, of the other model while the name leads to it: a machine of less than half the speed."""
GENERATION_WITHIN_S: Final = 20.0
_CONFIGURATION: Final = """
{tenants}
[providers.engine]
preset = "llama.cpp"
base_url = "{url}"
models = ["{model}"]
price_as = "free"

[providers.engine.admission]
policy = "fcfs"
load_every_ms = {load_every_ms}

[providers.engine.admission.capacity]
requests_max = 16

[features.{feature}]
targets = ["engine/{model}"]
"""


def configuration(url: str) -> str:
    tenants = "".join(f"[tenants.{name}]\n" for name in (*TENANTS, CROWD))
    return _CONFIGURATION.format(tenants=tenants, url=url, model=MODEL_NAME, load_every_ms=LOAD_EVERY_MS, feature=FEATURE)


class Stage:
    """What runs. ``usual`` and ``other`` are the servers' addresses."""

    def __init__(self, product: Product, usual: ModelServer, other: ModelServer, keys: dict[str, str]) -> None:
        self.product, self.usual, self.other, self.keys = product, usual.url, other.url, keys
        self._other = other

    @asynccontextmanager
    async def elsewhere(self) -> AsyncIterator[None]:
        """The name leads to the other model, for every call that begins inside."""
        await self._lead_to(self.other)
        resting = asyncio.create_task(self._rest())
        try:
            yield
        finally:
            resting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await resting
            await self._lead_to(self.usual)

    async def _rest(self) -> None:
        """The other model stands still by turns."""
        try:
            while self._other.running():
                os.kill(self._other.pid, signal.SIGSTOP)
                await asyncio.sleep(RESTS_S)
                os.kill(self._other.pid, signal.SIGCONT)
                await asyncio.sleep(RUNS_S)
        finally:
            if self._other.running():
                os.kill(self._other.pid, signal.SIGCONT)

    async def _lead_to(self, url: str) -> None:
        """For every call that begins after this returns."""
        before = await self._generation()
        self.product.write(configuration(url))
        await self.product.api("POST", "/generation/reload")

        async def known() -> bool:
            return await self._generation() > before

        await until("the gateway knows the new address", known, within_s=GENERATION_WITHIN_S)

    async def _generation(self) -> int:
        """The gateway's own."""
        return int((await metrics(self.product.url))["headway_config_generation"])

    async def fill_slot(self, url: str, slot: int, text: str) -> None:
        """Straight to the engine, past Headway: another prompt takes the slot."""
        body = body_of(CHAT, MODEL_NAME, text, max_tokens=1, id_slot=slot, cache_prompt=True)
        await request(url, "POST", PATHS[CHAT], [("content-type", "application/json")], body)


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    """Everything up; everything ended and the folder gone afterwards. ModelError when the local model is not built."""
    with tempfile.TemporaryDirectory(prefix="headway-prove-") as name:
        folder, built = Path(name), model_folder()
        with (
            ModelServer(built, log=folder / "usual.out", more=MORE) as usual,
            ModelServer(built, log=folder / "other.out", more=MORE) as other,
        ):
            async with Product(folder, configuration(usual.url)) as product:
                keys = {tenant: await product.new_key(tenant) for tenant in (*TENANTS, CROWD)}
                yield Stage(product, usual, other, keys)
