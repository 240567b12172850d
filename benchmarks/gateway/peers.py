"""What is measured: how each peer is started in front of the mock, and what it is called with."""

import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import load

from headway.prove.product import Child, Product, answers, free_port
from headway.prove.rawhttp import Broken, request

MODELS = ("bench-plain", "bench-burst", "bench-paced")
START_WITHIN_S = 60.0
HERE = Path(__file__).parent

NGINX = """
daemon off; worker_processes 1; error_log {folder}/error.log warn; pid {folder}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; client_max_body_size 64m; client_body_buffer_size 1m; tcp_nodelay on;
  keepalive_requests 1000000;
  upstream mock {{ server 127.0.0.1:{mock}; keepalive 512; keepalive_requests 1000000; }}
  server {{ listen 127.0.0.1:{port} backlog=4096;
    location / {{ proxy_pass http://mock; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }} }}
}}
"""
HEADWAY = """
[providers.mock]
preset = "openai"
base_url = "http://127.0.0.1:{mock}/v1"
key = "env:HEADWAY_UPSTREAM_KEY"
models = ["bench-plain", "bench-burst", "bench-paced"]

[features.bench-plain]
targets = ["mock/bench-plain"]
[features.bench-burst]
targets = ["mock/bench-burst"]
[features.bench-paced]
targets = ["mock/bench-paced"]
"""


class Peer:
    """A process in front of the mock. ``pid`` is what CPU and memory are read of."""

    name = ""
    key = "bench"
    headers: dict[str, str] = {}

    def __init__(self, folder: Path, mock_port: int) -> None:
        self.folder, self.mock_port = folder / self.name, mock_port
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.child: Child | None = None

    def words(self) -> list[str]:
        raise NotImplementedError

    def request(self, model: str, *, stream: bool, prompt: str = "hello there") -> bytes:
        """A call as this peer wants it."""
        return load.request_bytes(self.url, self.key, model, stream=stream, prompt=prompt, headers=self.headers)

    @property
    def pid(self) -> int:
        assert self.child is not None
        return self.child.pid

    def prepare(self) -> str:
        """What is missing here, or nothing."""
        return ""

    async def start(self) -> float:
        """Seconds from the start of the process until its first answer to a call."""
        self.child = Child(self.name, self.words(), cwd=self.folder)
        began = time.perf_counter()
        self.child.start()
        await first_answer(self.child, self.url, self.key, self.headers)
        return time.perf_counter() - began

    def stop(self) -> None:
        if self.child is not None:
            self.child.stop()


async def first_answer(child: Child, url: str, key: str, more: dict[str, str] | None = None) -> None:
    """Ask until a call is answered with 200."""
    body = b'{"model":"bench-plain","messages":[{"role":"user","content":"hi"}]}'
    headers = [("authorization", f"Bearer {key}"), ("content-type", "application/json"), *(more or {}).items()]
    until = time.perf_counter() + START_WITHIN_S
    while time.perf_counter() < until:
        try:
            if (await request(url, "POST", "/v1/chat/completions", headers, body)).status == 200:
                return
        except (OSError, Broken):
            pass
        if not child.running:
            break
        await asyncio.sleep(0.005)
    raise RuntimeError(f"{child.name} gave no answer; it said:\n{child.tail()}")


class Direct(Peer):
    """The mock itself: the zero of added time."""

    name = "direct"

    def words(self) -> list[str]:
        return [sys.executable, str(HERE / "mock.py"), "--port", str(self.mock_port)]

    def __init__(self, folder: Path, mock_port: int) -> None:
        super().__init__(folder, mock_port)
        self.url = f"http://127.0.0.1:{mock_port}"


class Nginx(Peer):
    name = "nginx"

    def prepare(self) -> str:
        return "" if shutil.which("nginx") else "nginx is not installed (Debian: apt-get install nginx-light)"

    def words(self) -> list[str]:
        file = self.folder / "nginx.conf"
        file.write_text(NGINX.format(folder=self.folder, mock=self.mock_port, port=self.port))
        return [shutil.which("nginx") or "nginx", "-p", str(self.folder), "-c", str(file)]


class Floor(Peer):
    """Bare uvicorn and aiohttp: what the stack costs before it does anything."""

    name = "floor"

    def words(self) -> list[str]:
        return [
            sys.executable,
            str(HERE / "floor.py"),
            "--port",
            str(self.port),
            "--upstream",
            f"http://127.0.0.1:{self.mock_port}",
        ]


class Headway(Peer):
    """The gateway with keys, facts and metrics on; control runs beside it and is read apart."""

    name = "headway"

    def __init__(self, folder: Path, mock_port: int) -> None:
        super().__init__(folder, mock_port)
        self.product = Product(self.folder, HEADWAY.format(mock=mock_port))
        self.url = self.product.url
        self.child = self.product.gateway

    @property
    def control_pid(self) -> int:
        return self.product.control.pid

    async def start(self) -> float:
        """Control first, a key, then the gateway anew: what is timed is a gateway's start with its control there."""
        if not self.product.control.running:
            await self.product.start()
            self.key = await self.product.new_key()
            self.product.gateway.stop()
        began = time.perf_counter()
        self.product.gateway.start()
        await first_answer(self.product.gateway, self.url, self.key)
        return time.perf_counter() - began

    def stop(self) -> None:
        self.product.stop()

    def stop_gateway(self) -> None:
        self.product.gateway.stop()


def in_venv(cache: Path, name: str, requirement: str, program: str) -> Path | None:
    """A program of a package in an environment of its own below ``cache``; None when it cannot be installed."""
    home = cache / name
    found = home / "bin" / program
    if not found.exists():
        made = subprocess.run([sys.executable, "-m", "venv", str(home)], capture_output=True)
        if made.returncode or subprocess.run([str(home / "bin/pip"), "install", "-q", requirement], capture_output=True).returncode:
            return None
    return found if found.exists() else None


class LiteLLM(Peer):
    name = "litellm"
    key = "sk-bench"

    def __init__(self, folder: Path, mock_port: int, cache: Path) -> None:
        super().__init__(folder, mock_port)
        self.cache, self.program = cache, None

    def prepare(self) -> str:
        self.program = in_venv(self.cache, "litellm", "litellm[proxy]", "litellm")
        return "" if self.program else "litellm[proxy] does not install here"

    def words(self) -> list[str]:
        rows = "".join(
            f"  - model_name: {m}\n    litellm_params: {{model: openai/{m}, api_base: 'http://127.0.0.1:{self.mock_port}/v1', api_key: k}}\n"
            for m in MODELS
        )
        file = self.folder / "config.yaml"
        file.write_text(
            f"model_list:\n{rows}general_settings: {{master_key: {self.key}}}\nlitellm_settings: {{telemetry: false}}\n"
        )
        return [str(self.program), "--config", str(file), "--port", str(self.port), "--host", "127.0.0.1", "--num_workers", "1"]


class VllmRouter(Peer):
    name = "vllm-router"

    def __init__(self, folder: Path, mock_port: int, cache: Path) -> None:
        super().__init__(folder, mock_port)
        self.cache, self.program = cache, None

    def prepare(self) -> str:
        self.program = in_venv(self.cache, "vllm-router", "vllm-router", "vllm-router")
        return "" if self.program else "vllm-router does not install here"

    def words(self) -> list[str]:
        return [
            *(str(self.program), "--host", "127.0.0.1", "--port", str(self.port)),
            *("--worker-urls", f"http://127.0.0.1:{self.mock_port}", "--policy", "round_robin"),
        ]


class Portkey(Peer):
    name = "portkey"

    def __init__(self, folder: Path, mock_port: int, cache: Path) -> None:
        super().__init__(folder, mock_port)
        self.cache = cache
        self.headers = {"x-portkey-provider": "openai", "x-portkey-custom-host": f"http://127.0.0.1:{mock_port}/v1"}

    def prepare(self) -> str:
        home = self.cache / "portkey"
        self.main = home / "node_modules/@portkey-ai/gateway/build/start-server.js"
        if not self.main.exists():
            if shutil.which("npm") is None:
                return "npm is not installed"
            home.mkdir(parents=True, exist_ok=True)
            subprocess.run(
                ["npm", "install", "--prefix", str(home), "--no-audit", "--no-fund", "@portkey-ai/gateway"], capture_output=True
            )
        return "" if self.main.exists() else "@portkey-ai/gateway does not install here"

    def words(self) -> list[str]:
        return [shutil.which("node") or "node", str(self.main), f"--port={self.port}", "--headless"]


def chosen(which: str, folder: Path, mock_port: int, cache: Path) -> tuple[list[Peer], dict[str, str]]:
    """Peers that run here, and why the others do not. ``which`` is ``default`` or ``all``."""
    peers: Sequence[Peer] = [
        Direct(folder, mock_port),
        Nginx(folder, mock_port),
        Floor(folder, mock_port),
        Headway(folder, mock_port),
    ]
    if which == "all":
        peers = [*peers, VllmRouter(folder, mock_port, cache), LiteLLM(folder, mock_port, cache), Portkey(folder, mock_port, cache)]
    missing = {peer.name: why for peer in peers if (why := peer.prepare())}
    return [peer for peer in peers if peer.name not in missing], missing


__all__ = ["MODELS", "Headway", "Peer", "answers", "chosen"]
