"""The control process as users run it, with a gateway's side of the link played here: facts of a day, calls in flight, heartbeats."""

import asyncio
import contextlib
import json
import math
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from admission_world import played, view, wishes
from slow_world import hour
from time_world import large, shop

from headway.calls.admission.model import EndpointView
from headway.facts.model import AttemptFact, CallFact, Fact, FeedbackFact
from headway.facts.segments import encode_fact, footer_bytes, header_bytes, record_bytes
from headway.kernel.ids import new_id
from headway.kernel.instants import WallMs, wall_ms
from headway.link import frames
from headway.link.messages import AdmissionSeen, CallOpened, CallSeen, Heartbeat, Hello, SegmentSent, SegmentStored

CHROMIUM = "/usr/bin/chromium"
GATEWAY = "gw-1"
DAY_MS = 24 * 3_600_000
USERS = {"olga": ("owner", ""), "vera": ("viewer", ""), "anna": ("operator", "acme")}
PASSWORD = "correct horse battery"
TOML = """
[control]
listen = "127.0.0.1:{control}"
[gateway]
listen = "127.0.0.1:{gateway}"
[providers.openai]
key = "env:OPENAI_API_KEY"
[providers.anthropic]
preset = "anthropic"
key = "env:ANTHROPIC_API_KEY"
[providers.vllm]
preset = "vllm"
base_url = "http://127.0.0.1:9"
models = ["qwen3-32b"]
[features.search]
targets = ["openai/gpt-5-mini", "vllm/qwen3-32b"]
[features.summaries]
targets = ["anthropic/claude-sonnet-4-5"]
strict = true
[features.reports]
targets = ["vllm/qwen3-32b"]
[tenants.acme]
budget_usd_per_day = 25
[tenants.globex]
budget_tokens_per_month = 50000000
[tenants.initech]
"""
_FEATURES = (
    ("search", "openai/gpt-5-mini", "gpt-5-mini-2026-08-14", 5),
    ("summaries", "anthropic/claude-sonnet-4-5", "claude-sonnet-4-5-20250929", 3),
    ("reports", "vllm/qwen3-32b", "qwen3-32b", 2),
)
_ENDS = {"done": 92, "upstream_error": 2, "timeout": 1, "client_gone": 2, "refused": 2, "incomplete": 1}
_WHY = {
    "upstream_error": ("upstream_failed", "openai answered 503: the server is overloaded"),
    "timeout": ("first_byte_timeout", "no first byte within 120 s"),
    "refused": ("budget_exhausted", "the budget of acme for today is used up"),
    "incomplete": ("upstream_cut", "the provider closed the connection inside the answer"),
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_call(rng: random.Random, started: int, outcome: str = "") -> list[Fact]:
    """One call with its attempts and, sometimes, what the reader did."""
    feature, routed, answered, _ = rng.choices(_FEATURES, [f[3] for f in _FEATURES])[0]
    call, outcome = new_id("call", WallMs(started)), outcome or rng.choices(list(_ENDS), list(_ENDS.values()))[0]
    first = math.exp(rng.gauss(6, 0.7))
    took = first + rng.uniform(100, 6000)
    answers, sent = outcome in ("done", "incomplete", "client_gone"), outcome != "refused"
    tries = (2 if rng.random() < 0.1 else 1) if sent else 0
    prompt = rng.randint(50, 28_000) if feature == "reports" else rng.randint(50, 4_000)
    code, detail = _WHY.get(outcome, ("", ""))
    fact = CallFact(
        call=call,
        started_wall_ms=started,
        duration_ms=took if sent else 1.2,
        gateway=GATEWAY,
        tenant=rng.choice(["acme", "globex", "initech"]),
        key="key_01jd8zk3m4abcdefghjkmnpqrs",
        klass="interactive",
        feature=feature,
        requested=feature if rng.random() < 0.8 else routed,
        dialect=rng.choice(["openai-chat", "anthropic", "openai-responses"]),
        path="/v1/chat/completions",
        wire="translated" if rng.random() < 0.3 else "bytes",
        stream=True,
        routed=routed if sent else "",
        answered=answered if answers else "",
        outcome=outcome,
        error_code=code,
        error_detail=detail,
        status=200 if answers else 429 if not sent else 502,
        stop="end" if outcome == "done" else "",
        attempts=tries,
        committed=answers,
        first_token_ms=first if answers else None,
        input_tokens=prompt if sent else None,
        output_tokens=rng.randint(5, 900) if outcome == "done" else None,
        cached_tokens=rng.choice([None, 0, 1024]),
        usage_source="reported" if outcome == "done" else "unknown",
        cost_nano_usd=None if feature == "reports" and rng.random() < 0.3 else rng.randint(100_000, 40_000_000),
        cost_source="table",
        price_version="genai-prices 0.2.3, data of 2026-11-09",
        charged_nano_usd=1_000_000,
        leases=("lease_1",) if sent else (),
        lease_charges=(1_000_000,) if sent else (),
        prompt_bytes=prompt * 4,
        answer_bytes=2_210,
        lost=("cache_control",) if rng.random() < 0.05 else (),
        config_generation=1,
        fingerprint="fp_44709d6fcb" if routed.startswith("openai") else "",
    )
    attempts = [_attempt(rng, fact, n, tries, first, took) for n in range(1, tries + 1)]
    feedback = (
        [FeedbackFact(call=call, kind="rephrased", at_wall_ms=started + 9_000, gateway=GATEWAY)] if rng.random() < 0.2 else []
    )
    return [fact, *attempts, *feedback]


def _attempt(rng: random.Random, fact: CallFact, n: int, tries: int, first: float, took: float) -> AttemptFact:
    last, lead = n == tries, first * 0.3 if n > 1 else 0.0
    provider, _, model = fact.routed.partition("/")
    return AttemptFact(
        call=fact.call,
        attempt=n,
        started_wall_ms=fact.started_wall_ms + int(lead),
        gateway=GATEWAY,
        provider=provider if last else "openai",
        endpoint=provider if last else "openai",
        upstream_model=model,
        answered=fact.answered if last else "",
        status=fact.status if last else 429,
        outcome=fact.outcome if last else "upstream_error",
        error_detail=fact.error_detail if last else "429: rate limit reached for requests",
        queue_ms=rng.choice([0.0, 0.0, 40.0]),
        connect_ms=rng.choice([None, 48.0]),
        head_ms=(first - lead) * 0.6 if last else first * 0.28,
        first_token_ms=first - lead if last and fact.first_token_ms else None,
        last_token_ms=took - lead - 30 if last and fact.outcome == "done" else None,
        duration_ms=took - lead if last else first * 0.28,
        chunks=rng.randint(3, 200),
        retry_after_ms=None if last else 800,
        upstream_request=f"req_{rng.randrange(10**12)}",
    )


def day_of_calls(seed: int, n: int, now: int) -> list[list[Fact]]:
    """``n`` calls over the last day, denser towards its end; the last minute is left free."""
    rng = random.Random(seed)
    return [make_call(rng, now - 60_000 - int(DAY_MS * (1 - (i / n) ** 0.7) * 0.98)) for i in range(n)]


def segment_of(name: str, facts: list[Fact]) -> bytes:
    rows = b"".join(record_bytes(row, encode_fact(fact)) for row, fact in enumerate(facts))
    return header_bytes(GATEWAY, name) + rows + footer_bytes(len(facts))


class PlayedGateway:
    """The gateway's side of the link, on a thread of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.in_flight = 0
        self.degraded: tuple[str, ...] = ()
        self.views: tuple[EndpointView, ...] = ()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._stored: set[str] = set()
        self._call(self._connect())

    def _call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _connect(self) -> None:
        reader, self._writer = await asyncio.open_unix_connection(str(self._path))
        await self._say(Hello(gateway=GATEWAY, version="0.1.0", schema_version=1, generation=0))
        self._tasks = [self._loop.create_task(self._listen(reader)), self._loop.create_task(self._beat())]

    async def _say(self, message: Any) -> None:
        self._writer.write(frames.encode(message))
        await self._writer.drain()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while (message := await frames.read_down(reader)) is not None:
            if isinstance(message, SegmentStored):
                self._stored.add(message.segment)

    async def _beat(self) -> None:
        while True:
            text = f"# TYPE headway_calls_in_flight gauge\nheadway_calls_in_flight {self.in_flight}\n"
            await self._say(Heartbeat(at_wall_ms=wall_ms(), in_flight=self.in_flight, degraded=self.degraded, metrics=text))
            if self.views:
                await self._say(AdmissionSeen(at_wall_ms=wall_ms(), endpoints=self.views))
            await asyncio.sleep(0.5)

    def say(self, message: Any) -> None:
        self._call(self._say(message))

    def store(self, facts: list[Fact], number: int = 1) -> None:
        """Hand over one segment and wait until it is durable."""
        name = f"{wall_ms()}-0123456789abcdef-{number:06d}"
        self.say(SegmentSent(segment=name, data=segment_of(name, facts)))
        deadline = time.monotonic() + 20
        while name not in self._stored:
            assert time.monotonic() < deadline, "the segment was not stored"
            time.sleep(0.02)

    def admission(self, *views: EndpointView) -> None:
        """From now on this is what every second tells."""
        self.views = views
        self.say(AdmissionSeen(at_wall_ms=wall_ms(), endpoints=views))

    def opened(self, fact: CallFact) -> None:
        self.in_flight += 1
        self.say(
            CallOpened(
                call=fact.call,
                started_wall_ms=fact.started_wall_ms,
                tenant=fact.tenant,
                feature=fact.feature,
                requested=fact.requested,
                dialect=fact.dialect,
                stream=fact.stream,
            )
        )

    def ended(self, facts: list[Fact]) -> None:
        self.in_flight -= 1
        call = facts[0]
        assert isinstance(call, CallFact)
        self.say(CallSeen(fact=call, attempts=tuple(f for f in facts if isinstance(f, AttemptFact))))

    def close(self) -> None:
        async def end() -> None:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._writer.close()

        self._call(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()


class Board:
    """A running control process."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.config = folder / "headway.toml"
        self.config.write_text(TOML.format(control=self.port, gateway=free_port()))
        env = {**os.environ, "OPENAI_API_KEY": "test", "ANTHROPIC_API_KEY": "test"}
        words = [sys.executable, "-m", "headway", "control", "--config", str(self.config), "--state-dir", str(folder / "state")]
        self._log = (folder / "control.log").open("wb")
        began = time.monotonic()
        self._process = subprocess.Popen(words, env=env, stdout=self._log, stderr=self._log, stdin=subprocess.DEVNULL)
        self._await_answer()
        self.start_s = time.monotonic() - began
        self.token = (folder / "state" / "control.token").read_text().strip()
        for name, (role, tenant) in USERS.items():
            self.ask("POST", "/api/v1/users", {"name": name, "password": PASSWORD, "role": role, "tenant": tenant})
        self.gateway = PlayedGateway(folder / "state" / "link.sock")

    def _await_answer(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{self.url}/health/live", timeout=2).close()
                return
            assert self._process.poll() is None, (self.folder / "control.log").read_text()
            assert time.monotonic() < deadline, (self.folder / "control.log").read_text()
            time.sleep(0.05)

    def ask(self, method: str, path: str, body: object = None) -> Any:
        data = json.dumps(body).encode() if body is not None else None
        headers = {"authorization": f"Bearer {self.token}", "content-type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data, headers, method=method), timeout=10) as answer:
            return json.load(answer)

    def login_link(self) -> str:
        return self.url + str(self.ask("POST", "/api/v1/login-links", {})["path"])

    def close(self) -> int:
        self.gateway.close()
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(15)
        self._log.close()
        return code


def seeded(board: Board, calls: int = 600) -> list[list[Fact]]:
    """A day of calls in the facts, the last of them in the live feed too, and three in flight."""
    day = day_of_calls(5, calls, wall_ms())
    board.gateway.store([fact for call in day for fact in call])
    for call in day[-20:]:
        board.gateway.in_flight += 1
        board.gateway.ended(call)
    rng = random.Random(6)
    for ago_ms in (9_000, 4_000, 1_000):
        fact = make_call(rng, wall_ms() - ago_ms, "done")[0]
        assert isinstance(fact, CallFact)
        board.gateway.opened(fact)
    return day


@pytest.fixture(scope="session")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """A control process with a day of calls behind it."""
    made = Board(tmp_path_factory.mktemp("board"))
    made.day = seeded(made)  # type: ignore[attr-defined]
    yield made
    assert made.close() == 0


@pytest.fixture(scope="session")
def fresh_board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """A control process to which nothing has happened yet."""
    made = Board(tmp_path_factory.mktemp("fresh"))
    yield made
    assert made.close() == 0


@pytest.fixture(scope="session")
def shared_board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """A control process behind which small calls share an endpoint with a giant prompt every three minutes; an hour of it."""
    made, now = Board(tmp_path_factory.mktemp("shared")), wall_ms()
    giants = [180.0 * i + 90 for i in range(1, 19)]
    world = played(wishes(3, 59, 1.2, giants, ["acme", "globex"]), now - 60 * 60_000)
    made.gateway.store(world.facts)
    made.world = world  # type: ignore[attr-defined]
    for served in (0.0, 1_000.0):
        made.gateway.admission(view(served=served), view("vllm-1", served=served, queued=2, degraded=True))
    yield made
    assert made.close() == 0


@pytest.fixture(scope="session")
def time_board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """A control process with a day of traces, one of ten thousand spans among them, and an hour of calls that are slow for known reasons."""
    made, now = Board(tmp_path_factory.mktemp("time")), wall_ms()
    traces = [*shop(3, 1_500, (now - 20 * 3_600_000) * 1_000, (now - 60_000) * 1_000), large(5, (now - 3_600_000) * 1_000)]
    spans: list[Fact] = [span for trace in traces for span in trace]
    made.gateway.store(spans, 1)
    made.slow = hour(3, now)  # type: ignore[attr-defined]
    made.gateway.store([fact for call in made.slow for fact in call], 2)  # type: ignore[attr-defined]
    made.large = traces[-1][0].trace  # type: ignore[attr-defined]
    yield made
    assert made.close() == 0


@pytest.fixture
def new_calls() -> Callable[..., list[list[Fact]]]:
    """New calls that begin now; each of ``kinds`` sets outcome and tenant of one."""

    def make(n: int, *kinds: tuple[str, str]) -> list[list[Fact]]:
        rng, made = random.Random(time.time_ns()), []
        for i in range(n):
            outcome, tenant = kinds[i] if i < len(kinds) else ("done", "")
            facts = make_call(rng, wall_ms(), outcome)
            if tenant:
                facts[0] = msgspec.structs.replace(facts[0], tenant=tenant)
            made.append(facts)
        return made

    return make


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium; the test is skipped, saying so, where it is absent."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not Path(CHROMIUM).exists():
        pytest.skip(f"no Chromium at {CHROMIUM}")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()
