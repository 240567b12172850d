"""TLS to upstreams is always verified, by both adapters: unknown authority, wrong name, and a context that would not check."""

import shutil
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headway.gateway.upstream.conformance_origin import Peer, origin
from headway.gateway.upstream.http1 import Http1Upstream
from headway.gateway.upstream.on_aiohttp import AiohttpUpstream
from headway.gateway.upstream.port import UpstreamError, UpstreamPhase

ADAPTERS: list[Callable[..., Any]] = [AiohttpUpstream, Http1Upstream]
pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed, which makes the certificates")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A self-signed one for the name localhost: the PEM files of certificate and key."""
    folder: Path = tmp_path_factory.mktemp("tls")
    cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2"]
    subprocess.run([*command, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)
    return cert, key


def serving(certificate: tuple[str, str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


async def answers(peer: Peer) -> None:
    while True:
        await peer.request()
        chosen = peer.writer.get_extra_info("ssl_object").selected_alpn_protocol()
        await peer.answer(str(chosen).encode())


@pytest.mark.parametrize("adapter", ADAPTERS)
async def test_an_unknown_authority_is_refused(adapter: Callable[..., Any], certificate: tuple[str, str]) -> None:
    async with origin(answers, tls=serving(certificate), host="localhost") as there:
        upstream = adapter()
        with pytest.raises(UpstreamError, match="certificate") as error:
            await upstream.exchange(there.request())
        await upstream.close()
    assert error.value.phase is UpstreamPhase.CONNECT
    assert there.seen == []


@pytest.mark.parametrize("adapter", ADAPTERS)
async def test_a_wrong_name_is_refused_and_the_right_one_answers(adapter: Callable[..., Any], certificate: tuple[str, str]) -> None:
    trusting = ssl.create_default_context(cafile=certificate[0])
    trusting.set_alpn_protocols(["http/1.1"])
    async with origin(answers, tls=serving(certificate), host="127.0.0.1") as there:
        upstream = adapter(tls=trusting)
        with pytest.raises(UpstreamError):
            await upstream.exchange(there.request())
        assert there.seen == []
        there.url = f"https://localhost:{there.port}"
        for _ in range(2):
            exchange = await upstream.exchange(there.request())
            assert await exchange.read(100) == b"http/1.1"
            await exchange.close()
        assert exchange.connected_at is None, "a TLS connection is kept as well"
        await upstream.close()


@pytest.mark.parametrize("adapter", ADAPTERS)
async def test_a_context_that_does_not_verify_cannot_be_used(adapter: Callable[..., Any]) -> None:
    careless = ssl.create_default_context()
    careless.check_hostname = False
    for mode in (ssl.CERT_REQUIRED, ssl.CERT_NONE):
        careless.verify_mode = mode
        with pytest.raises(ValueError, match="must verify"):
            adapter(tls=careless)
