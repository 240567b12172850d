"""The figure of Headway's own hop: its arithmetic, its caller and its upstream; and once for real, on the running product."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from headway.prove.hops_own import BLOCKS, RATIO, TURNS, WANTED, Round, figures, measure
from headway.prove.hops_own_calls import CallFailed, Turns, connect
from headway.prove.hops_own_mock import DIRECT, HELD, Mock
from headway.prove.rawhttp import get_json
from headway.prove.report import NotMeasurable


def one(arm: str, number: int, *, through_us: float = 200.0) -> Round:
    return Round(arm=arm, feature=f"{arm}-{number}", straight_us=30.0, straight_waited_us=22.0, held_us=12.0, through_us=through_us)


def rounds() -> list[Round]:
    return [one(arm, number) for number in range(3) for arm in (TURNS, BLOCKS)]


def test_the_ratio_is_own_time_and_two_crossings_over_what_is_added() -> None:
    own = {each.feature: [143] * 10 if each.arm == TURNS else [100] * 10 for each in rounds()}
    found = figures(rounds(), own, 10)
    assert found[RATIO].value == 0.9  # (143 + 22 - 12) / (200 - 30)
    assert found["own_hop.blocks_over_bench"].value == round(110 / 170, 3)
    assert found["own_hop.kernel_p50_us"].value == 10
    assert found[RATIO].n == 30
    assert WANTED[RATIO].holds(found[RATIO].value)


def test_a_product_that_hides_a_third_of_its_time_does_not_pass() -> None:
    found = figures(rounds(), {each.feature: [100] * 10 for each in rounds()}, 10)
    assert not WANTED[RATIO].holds(found[RATIO].value)


def test_calls_missing_in_the_store_are_said_and_not_guessed() -> None:
    own = {each.feature: [143] * 10 for each in rounds()} | {f"{TURNS}-1": [143] * 9}
    figure = figures(rounds(), own, 10)[RATIO]
    assert figure.value is None
    assert "turns-1 9" in figure.method


def test_calls_that_were_not_slower_tell_nothing() -> None:
    done = [one(TURNS, 0, through_us=29.0), one(BLOCKS, 0)]
    figure = figures(done, {each.feature: [1] * 10 for each in done}, 10)[RATIO]
    assert figure.value is None


@pytest_asyncio.fixture
async def upstream() -> AsyncIterator[str]:
    held: list[int] = []
    server = await asyncio.get_running_loop().create_server(lambda: Mock(held), "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


async def test_lines_are_asked_in_turn_and_only_straight_calls_are_held(upstream: str) -> None:
    straight, other = await connect(upstream, "k", DIRECT), await connect(upstream, "k", "other")
    await Turns([straight, other], 20).done()
    assert len(straight.took) == len(straight.waited) == len(other.took) == 20
    assert all(0 < waited <= took for waited, took in zip(straight.waited, straight.took, strict=True))
    held = await get_json(upstream, HELD)
    assert isinstance(held, dict)
    assert held["n"] == 20
    assert 0 < held["p50_ns"] < 50_000_000
    assert await get_json(upstream, HELD) == {"n": 0, "p50_ns": 0}
    straight.clear()
    assert not straight.took
    straight.close()
    other.close()


async def test_a_call_that_fails_ends_the_run() -> None:
    async def refuses(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(refuses, "127.0.0.1", 0)
    line = await connect(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "k", "m")
    with pytest.raises(CallFailed, match="401"):
        await Turns([line], 3).done()
    line.close()
    server.close()
    await server.wait_closed()


def test_without_a_product_it_cannot_be_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(work: object) -> None:
        work.close()  # type: ignore[attr-defined]
        raise FileNotFoundError("headway")

    monkeypatch.setattr("headway.prove.hops_own._run", nothing)
    with pytest.raises(NotMeasurable, match="could not be called"):
        measure(lambda text: None)


@pytest.mark.slow
def test_the_running_product_counts_itself() -> None:
    said: list[str] = []
    found = measure(said.append, rounds=4, calls=150)
    assert WANTED[RATIO].holds(found[RATIO].value), found
    assert found["own_hop.kernel_p50_us"].value is not None
    assert 0 < found["own_hop.kernel_p50_us"].value < (found["own_hop.spans_p50_us"].value or 0)
    assert said
