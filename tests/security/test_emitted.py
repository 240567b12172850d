"""What we send upstream has one reading: h11's, and nginx's and HAProxy's where they are installed, is what was told."""

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import h11
import pytest

from headway.config.model import Timeouts
from headway.gateway.upstream.conformance_origin import Peer, origin
from headway.gateway.upstream.http1 import Http1Upstream
from headway.gateway.upstream.on_aiohttp import AiohttpUpstream
from headway.gateway.upstream.port import Upstream, UpstreamRequest

Adapter = type[AiohttpUpstream] | type[Http1Upstream]
ADAPTERS: list[Adapter] = [AiohttpUpstream, Http1Upstream]

PATHS = [
    "/",
    "/v1/x",
    "/a?b=c&d=%20",
    "/a;b=c",
    "/openai/deployments/a%2Fb/chat",
    "/a?x=http://b/c",
    "/~a/!$&'()*+,=:@",
]
BODIES = [b"", b"{}", b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", b"0\r\n\r\n", bytes(range(256)), b"x" * 70_000, "é🙂".encode()]
HEADERS = [
    (),
    (("content-type", "application/json"), ("authorization", "Bearer k"), ("x-a", "1"), ("x-a", "2")),
    (("x-tab", "a\tb"), ("x-empty", ""), ("x-latin", "caf~"), ("!#$%&'*+-.^_`|~9", "y")),
]


@contextlib.asynccontextmanager
async def sending(adapter: Adapter) -> AsyncIterator[Upstream]:
    upstream = adapter()
    try:
        yield upstream
    finally:
        await upstream.close()


def read_by_h11(data: bytes) -> list[Any]:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(data)
    read: list[Any] = []
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            read.append([bytes(event.method), bytes(event.target), [tuple(map(bytes, field)) for field in event.headers], b""])
        elif isinstance(event, h11.Data):
            read[-1][3] += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            connection.send(h11.Response(status_code=200, headers=[(b"content-length", b"0")]))
            connection.send(h11.EndOfMessage())
            connection.start_next_cycle()
        else:
            return read


@pytest.mark.parametrize("adapter", ADAPTERS)
async def test_h11_reads_what_was_told(adapter: Adapter) -> None:
    captured = bytearray()

    async def script(peer: Peer) -> None:
        while data := await peer.reader.read(1 << 20):
            captured.extend(data)
            if captured.endswith(b"END"):
                await peer.answer()

    told = [(method, path, headers, body) for method in ("POST", "PUT") for path in PATHS for headers in HEADERS for body in BODIES]
    async with origin(script) as there:
        async with sending(adapter) as upstream:
            for method, path, headers, body in told:
                exchange = await upstream.exchange(there.request(method=method, path=path, headers=headers, body=body + b"END"))
                await exchange.read(100)
        assert there.connections == 1
        port = there.port
    read = read_by_h11(bytes(captured))
    assert len(read) == len(told) >= 250
    for (method, path, headers, body), (got_method, got_path, got_headers, got_body) in zip(told, read, strict=True):
        assert (got_method.decode(), got_path.decode(), got_body) == (method, path, body + b"END")
        ours = [(name.encode(), value.encode()) for name, value in headers]
        set_by_us = {
            (b"host", b"127.0.0.1:%d" % port),
            (b"content-length", b"%d" % len(got_body)),
            (b"accept-encoding", b"identity"),
        }
        assert set(got_headers) == set_by_us | set(ours)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def program(command: list[str], port: int) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(10)


def nginx(folder: Path, port: int, behind: int) -> list[str]:
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log; events {{}}\n"
        f"http {{ access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;\n"
        f"uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; client_max_body_size 10m;\n"
        f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{behind}; proxy_http_version 1.1; }} }} }}\n"
    )
    return [shutil.which("nginx") or "nginx", "-c", str(config), "-p", str(folder)]


def haproxy(folder: Path, port: int, behind: int) -> list[str]:
    config = folder / "haproxy.cfg"
    config.write_text(
        f"defaults\n mode http\n timeout client 10s\n timeout server 10s\n timeout connect 5s\n"
        f"frontend f\n bind 127.0.0.1:{port}\n default_backend b\nbackend b\n server s 127.0.0.1:{behind}\n"
    )
    return [shutil.which("haproxy") or "haproxy", "-f", str(config), "-db"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nginx", "haproxy"])
@pytest.mark.parametrize("adapter", ADAPTERS)
async def test_proxies_that_people_trust_read_what_was_told(adapter: Adapter, name: str, tmp_path: Path) -> None:
    """They pass on what they read: an origin behind them must see the method, target and body that we were told to send."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")

    async def script(peer: Peer) -> None:
        while True:
            seen = await peer.request()
            await peer.answer(seen.line + b"|%d" % len(seen.body))

    async with origin(script) as there:
        port = free_port()
        with program({"nginx": nginx, "haproxy": haproxy}[name](tmp_path, port, there.port), port):
            async with sending(adapter) as upstream:
                for path in PATHS:
                    for headers in HEADERS:
                        for body in BODIES:
                            request = UpstreamRequest(
                                method="POST", url=f"http://127.0.0.1:{port}{path}", headers=headers, body=body, timeouts=Timeouts()
                            )
                            exchange = await upstream.exchange(request)
                            answer = await exchange.read(10_000)
                            assert (exchange.status, answer) == (200, b"POST %s HTTP/1.1|%d" % (path.encode(), len(body)))
