"""Both adapters behind the port: every check of the conformance suite, on both loops."""

import asyncio
from collections.abc import Callable

import pytest
import uvloop

from headway.gateway.upstream.conformance import CHECKS, Check
from headway.gateway.upstream.http1 import Http1Upstream
from headway.gateway.upstream.on_aiohttp import AiohttpUpstream

LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


ADAPTERS = (AiohttpUpstream, Http1Upstream)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_adapter_conforms(adapter: type[AiohttpUpstream | Http1Upstream], check: Check, loop: str) -> None:
    factory: Callable[[], asyncio.AbstractEventLoop] = LOOPS[loop]
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(asyncio.wait_for(check(adapter), 30))
