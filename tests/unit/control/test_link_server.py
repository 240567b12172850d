"""Control's end of the link, spoken to by a bare client over its real socket."""

import asyncio
import ssl
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from headway.calls.pricing import PriceTable
from headway.config.model import Settings
from headway.control import link_connection
from headway.control.link import GatewayState, LinkBusy, LinkServer, Listeners, with_keys
from headway.facts.model import CallFact
from headway.ledger.model import BudgetUnit, KeyRecord, Lease
from headway.link import frames
from headway.link.messages import (
    CallOpened,
    CallSeen,
    Down,
    Drain,
    Heartbeat,
    Hello,
    KeysChanged,
    LeaseClosed,
    LeaseGranted,
    LeaseRefused,
    LeaseReturned,
    LeaseWanted,
    SegmentSent,
    SegmentStored,
    Snapshot,
    Up,
)

SNAPSHOT = Snapshot(generation=1, made_wall_ms=1, settings=Settings(), keys=(), prices=PriceTable(version="v"))
KEY = KeyRecord(id="key_1", digest=b"d", principal="p", tenant="t")


class FakeDesk:
    """Grants what is asked, remembers what is told."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.to_close: Sequence[str] = ()
        self.hold: asyncio.Event | None = None

    async def hello(self, gateway: str, open_leases: tuple[str, ...]) -> Sequence[str]:
        self.told.append(("hello", gateway, open_leases))
        return self.to_close

    def gone(self, gateway: str) -> None:
        self.told.append(("gone", gateway))

    async def wanted(self, gateway: str, wish: LeaseWanted) -> LeaseGranted | LeaseRefused:
        if self.hold is not None:
            await self.hold.wait()
        if wish.amount > 100:
            return LeaseRefused(budget=wish.budget, request=wish.request, reason="spent", resets_in_ms=5)
        lease = Lease(id=f"lea_{wish.request}", budget=wish.budget, scope="s", unit=BudgetUnit.TOKENS, amount=wish.amount, ttl_ms=9)
        return LeaseGranted(lease=lease, request=wish.request)

    async def returned(self, message: LeaseReturned) -> None:
        self.told.append(message)

    async def undelivered(self, granted: LeaseGranted) -> None:
        self.told.append(("undelivered", granted.lease.id))

    def heartbeat(self, gateway: str, at_wall_ms: int) -> None:
        self.told.append(("heartbeat", gateway, at_wall_ms))

    def segment_came(self, gateway: str, segment: str) -> None:
        self.told.append(("came", segment))

    def segment_stored(self, gateway: str, segment: str) -> None:
        self.told.append(("stored", segment))


class Heard:
    """The injected listeners. ``broken`` segments cannot be stored; ``disk`` holds storing up."""

    def __init__(self) -> None:
        self.all: list[object] = []
        self.broken: set[str] = set()
        self.disk = asyncio.Event()
        self.disk.set()

    async def store(self, gateway: str, segment: str, data: bytes) -> None:
        await self.disk.wait()
        if segment in self.broken:
            raise OSError("disk full")
        self.all.append((gateway, segment, data))

    def listeners(self) -> Listeners:
        def hear(gateway: str, message: object) -> None:
            self.all.append((gateway, message))

        return Listeners(store_segment=self.store, on_opened=hear, on_seen=hear, on_heartbeat=hear)


class Gateway:
    """A client of the link."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def say(self, *messages: Up) -> None:
        for message in messages:
            self.writer.write(frames.encode(message))
        await self.writer.drain()

    async def hear(self) -> Down | None:
        async with asyncio.timeout(5):
            return await frames.read_down(self.reader)

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except OSError:
            return


def hello(name: str = "g", **more: object) -> Hello:
    return msgspec.structs.replace(Hello(gateway=name, version="1", schema_version=1, generation=0), **more)


async def until(true: object) -> None:
    async with asyncio.timeout(5):
        while not true():  # type: ignore[operator]
            await asyncio.sleep(0.005)


async def ended(client: Gateway) -> bool:
    try:
        return await client.hear() is None
    except (frames.LinkBroken, ConnectionError):
        return True


class Rig:
    def __init__(self, path: Path) -> None:
        self.path, self.desk, self.heard = path, FakeDesk(), Heard()
        self.server = LinkServer(self.desk, self.heard.listeners(), token="canary")
        self.open: list[Gateway] = []

    async def connect(self) -> Gateway:
        client = Gateway(*await asyncio.open_unix_connection(str(self.path)))
        self.open.append(client)
        return client

    async def greeted(self, message: Hello | None = None) -> Gateway:
        client = await self.connect()
        await client.say(message or hello())
        assert isinstance(await client.hear(), Snapshot)
        return client

    def state(self, name: str = "g") -> GatewayState:
        return next(s for s in self.server.gateways() if s.name == name)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(Rig(tmp_path / "link.sock")) as made:
        yield made


@asynccontextmanager
async def running(made: Rig) -> AsyncIterator[Rig]:
    await made.server.listen_unix(made.path)
    made.server.publish(SNAPSHOT)
    try:
        yield made
    finally:
        for client in made.open:
            await client.close()
        await made.server.close()


async def test_hello_is_answered_with_the_snapshot_and_changes_follow(rig: Rig) -> None:
    client = await rig.connect()
    await client.say(hello(open_leases=("lea_1",)))
    assert await client.hear() == SNAPSHOT
    assert rig.desk.told[0] == ("hello", "g", ("lea_1",))
    newer = msgspec.structs.replace(SNAPSHOT, generation=2)
    rig.server.publish(newer)
    assert await client.hear() == newer
    assert rig.state().generation == 2
    changed = KeysChanged(upserted=(KEY,))
    rig.server.publish_keys(changed)
    assert await client.hear() == changed
    late = await rig.connect()
    await late.say(hello("late"))
    assert await late.hear() == msgspec.structs.replace(newer, keys=(KEY,)), "who comes later gets the changed keys at once"
    rig.server.publish_keys(KeysChanged(removed=("key_1",)))
    assert rig.server.snapshot == newer


async def test_a_gateway_that_comes_before_the_first_snapshot_waits_for_it(tmp_path: Path) -> None:
    made = Rig(tmp_path / "link.sock")
    await made.server.listen_unix(made.path)
    client = await made.connect()
    await client.say(hello())
    await asyncio.sleep(0.05)
    assert made.desk.told == []
    made.server.publish(SNAPSHOT)
    assert await client.hear() == SNAPSHOT
    await client.close()
    await made.server.close()


async def test_leases_are_asked_refused_and_returned(rig: Rig) -> None:
    client = await rig.greeted()
    await client.say(LeaseWanted(budget="b", amount=7, request="r1"), LeaseWanted(budget="b", amount=700, request="r2"))
    granted, refused = await client.hear(), await client.hear()
    assert isinstance(granted, LeaseGranted)
    assert (granted.lease.id, granted.lease.amount) == ("lea_r1", 7)
    assert refused == LeaseRefused(budget="b", request="r2", reason="spent", resets_in_ms=5)
    back = LeaseReturned(lease="lea_r1", spent=3, final=True)
    await client.say(back)
    await until(lambda: back in rig.desk.told)
    rig.server.close_lease("g", "lea_9")
    assert await client.hear() == LeaseClosed(lease="lea_9")
    rig.server.close_lease("nobody", "lea_9")
    assert rig.server.drain("g")
    assert await client.hear() == Drain()
    assert not rig.server.drain("nobody")


async def test_blocks_to_return_are_named_at_the_hello(rig: Rig) -> None:
    rig.desk.to_close = ["lea_old"]
    client = await rig.greeted(hello(open_leases=("lea_old",)))
    assert await client.hear() == LeaseClosed(lease="lea_old")


async def test_a_segment_is_answered_when_it_is_durable_and_not_before(rig: Rig) -> None:
    client = await rig.greeted()
    rig.heard.disk.clear()
    await client.say(SegmentSent(segment="s1", data=b"x"), LeaseWanted(budget="b", amount=1, request="r"))
    assert isinstance(await client.hear(), LeaseGranted), "a slow disk delays no lease"
    assert ("stored", "s1") not in rig.desk.told
    rig.heard.disk.set()
    assert await client.hear() == SegmentStored(segment="s1")
    assert ("g", "s1", b"x") in rig.heard.all
    rig.heard.broken.add("s2")
    await client.say(SegmentSent(segment="s2", data=b"y"), SegmentSent(segment="s3", data=b"z"))
    assert await client.hear() == SegmentStored(segment="s3"), "what could not be stored is not answered, and holds up nothing"
    assert ("came", "s2") in rig.desk.told
    assert ("stored", "s2") not in rig.desk.told


async def test_segments_over_the_bound_are_put_off(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_connection, "LINK_SEGMENTS_WAITING_MAX", 2)
    client = await rig.greeted()
    rig.heard.disk.clear()
    await client.say(*(SegmentSent(segment=f"s{i}", data=b"") for i in range(5)))
    await until(lambda: ("came", "s4") in rig.desk.told)
    rig.heard.disk.set()
    answered = [await client.hear() for _ in range(2)]
    assert SegmentStored(segment="s0") in answered
    await client.say(SegmentSent(segment="s4", data=b""))
    async with asyncio.timeout(5):
        while await client.hear() != SegmentStored(segment="s4"):
            pass


async def test_the_live_feed_and_heartbeats_reach_their_listeners(rig: Rig) -> None:
    client = await rig.greeted()
    opened = CallOpened(call="call_1", started_wall_ms=1, tenant="t", feature="f", requested="m", dialect="d", stream=True)
    seen = CallSeen(fact=CallFact(call="call_1", started_wall_ms=1, duration_ms=1.0, gateway="g"))
    beat = Heartbeat(at_wall_ms=77, in_flight=3, degraded=("spool",), metrics="x 1")
    await client.say(opened, seen, beat)
    await until(lambda: ("g", beat) in rig.heard.all)
    assert ("g", opened) in rig.heard.all
    assert ("g", seen) in rig.heard.all
    assert ("heartbeat", "g", 77) in rig.desk.told
    state = rig.state()
    assert (state.connected, state.in_flight, state.degraded, state.metrics) == (True, 3, ("spool",), "x 1")
    assert state.heartbeat_wall_ms is not None


async def test_two_gateways_at_once_and_each_ones_end_is_its_own(rig: Rig) -> None:
    one, two = await rig.greeted(hello("one")), await rig.greeted(hello("two"))
    await one.say(LeaseWanted(budget="b", amount=1, request="of one"))
    await two.say(LeaseWanted(budget="b", amount=2, request="of two"))
    heard = [await one.hear(), await two.hear()]
    assert [m.request for m in heard if isinstance(m, LeaseGranted)] == ["of one", "of two"]
    await one.close()
    await until(lambda: ("gone", "one") in rig.desk.told)
    assert [s.connected for s in rig.server.gateways()] == [False, True]
    rig.server.publish_keys(KeysChanged(removed=("key_x",)))
    assert isinstance(await two.hear(), KeysChanged)


async def test_a_second_link_of_one_gateway_replaces_the_first(rig: Rig) -> None:
    first = await rig.greeted()
    second = await rig.greeted()
    assert await ended(first)
    rig.server.publish_keys(KeysChanged())
    assert isinstance(await second.hear(), KeysChanged)
    assert rig.state().connected
    assert ("gone", "g") not in rig.desk.told


async def test_returns_that_have_arrived_are_settled_though_the_gateway_has_gone(rig: Rig) -> None:
    client = await rig.greeted()
    rig.desk.hold = asyncio.Event()
    back = LeaseReturned(lease="lea_1", spent=1, final=True)
    await client.say(LeaseWanted(budget="b", amount=1, request="r"), back)
    await asyncio.sleep(0.05)
    await client.close()
    await asyncio.sleep(0.05)
    rig.desk.hold.set()
    await until(lambda: back in rig.desk.told)
    await until(lambda: ("undelivered", "lea_r") in rig.desk.told)


async def test_a_gateway_that_does_not_read_is_cut_off(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_connection, "LINK_QUEUE_FRAMES_MAX", 8)
    await rig.greeted()
    big = KeysChanged(removed=tuple("k" * 1000 for _ in range(2000)))
    async with asyncio.timeout(10):
        while rig.state().connected:
            rig.server.publish_keys(big)
            await asyncio.sleep(0)
    assert ("gone", "g") in rig.desk.told


async def test_silence_ends_a_link(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_connection, "LINK_SILENCE_MS_MAX", 50)
    await rig.greeted()
    await until(lambda: not rig.state().connected)


@pytest.mark.parametrize(
    "sent",
    [
        frames.encode(Heartbeat(at_wall_ms=1, in_flight=0)),
        b"\x00\x00\x00\x02\xff\xff",
        b"\xff\xff\xff\xff",
        frames.encode(Hello(gateway="", version="1", schema_version=1, generation=0)),
        frames.encode(hello()) + frames.encode(hello()),
        b"",
    ],
    ids=["no hello first", "not msgpack", "a huge frame", "no name", "hello twice", "nothing"],
)
async def test_who_does_not_speak_the_link_is_turned_away(rig: Rig, sent: bytes) -> None:
    client = await rig.connect()
    client.writer.write(sent)
    client.writer.write_eof()
    heard = []
    try:
        while (message := await client.hear()) is not None:
            heard.append(message)
    except (frames.LinkBroken, ConnectionError):
        pass
    assert all(message == SNAPSHOT for message in heard)
    await rig.greeted(hello("other"))


async def test_the_socket_is_private_and_a_stale_one_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "link.sock"
    dead = await asyncio.start_unix_server(lambda _r, _w: None, str(path))
    dead.close()
    if not path.exists():
        subprocess.run([sys.executable, "-c", f"import socket; s=socket.socket(socket.AF_UNIX); s.bind({str(path)!r})"], check=True)
    async with running(Rig(path)) as made:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        await made.greeted()
    assert not path.exists()


async def test_a_living_control_keeps_its_socket(rig: Rig) -> None:
    rival = LinkServer(FakeDesk(), Heard().listeners())
    with pytest.raises(LinkBusy, match="another control"):
        await rival.listen_unix(rig.path)
    await rig.greeted()


async def test_a_file_in_the_way_is_not_deleted(tmp_path: Path) -> None:
    path = tmp_path / "link.sock"
    path.write_text("precious")
    server = LinkServer(FakeDesk(), Heard().listeners())
    with pytest.raises(LinkBusy, match="not a socket"):
        await server.listen_unix(path)
    assert path.read_text() == "precious"
    await server.close()


async def test_a_path_too_long_for_a_socket_is_named(tmp_path: Path) -> None:
    server = LinkServer(FakeDesk(), Heard().listeners())
    with pytest.raises(LinkBusy, match=r"state\.dir"):
        await server.listen_unix(tmp_path / ("x" * 120) / "link.sock")


async def test_tls_wants_the_token(rig: Rig, tmp_path: Path) -> None:
    cert, key = tmp_path / "c.pem", tmp_path / "k.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(cert), "-days", "2"]
    subprocess.run([*made, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(cert, key)
    port = await rig.server.listen_tls("127.0.0.1", 0, serving)
    trusting = ssl.create_default_context(cafile=str(cert))

    async def dial(token: str) -> Down | None:
        client = Gateway(*await asyncio.open_connection("127.0.0.1", port, ssl=trusting, server_hostname="localhost"))
        try:
            await client.say(hello("far", token=token))
            return await client.hear()
        finally:
            await client.close()

    assert await dial("wrong") is None
    assert await dial("") is None
    assert await dial("canary") == SNAPSHOT
    with pytest.raises(LinkBusy, match="link_token"):
        await LinkServer(FakeDesk(), Heard().listeners()).listen_tls("127.0.0.1", 0, serving)


def test_keys_change_within_a_snapshot() -> None:
    other = msgspec.structs.replace(KEY, id="key_2")
    both = with_keys(SNAPSHOT, KeysChanged(upserted=(KEY, other)))
    assert both.keys == (KEY, other)
    renamed = msgspec.structs.replace(KEY, name="n")
    assert with_keys(both, KeysChanged(upserted=(renamed,), removed=("key_2",))).keys == (renamed,)
