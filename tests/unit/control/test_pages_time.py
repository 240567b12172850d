"""The page Where the time goes from its parts: columns of the waterfall, bars, answers kept and asked for once, who may see what."""

import asyncio
import re

import pytest

from headway.calls.hops.clean import clean
from headway.calls.hops.model import HopSpan, HopTrace
from headway.control.pages.kept import WAITING_MAX, Kept, Turns
from headway.control.pages.time import sentence_of
from headway.control.pages.time_charts import axis, parts_of, stacked, top_ms, two_parts
from headway.control.pages.time_report import Labels, Read, TypeReport, Wanted, overview_of, type_report
from headway.control.pages.time_trace import ERROR, MODEL, NOT_AWAITED, columns_of, page_of
from headway.control.ports import Away
from headway.kernel.instants import WallMs

US = 1_000


def trace(name: str, auth_ms: int, model_ms: int, root: str = "web", at_ms: int = 1_790_000_000_000) -> list[HopSpan]:
    start, whole = at_ms * US, auth_ms + model_ms + 10
    return [
        HopSpan(trace=name, span="a", hop=root, name="GET /x", start_us=start, duration_us=whole * US),
        HopSpan(
            trace=name,
            span="b",
            parent="a",
            hop="auth",
            name="verify <b>",
            start_us=start + 5 * US,
            duration_us=auth_ms * US,
            error=auth_ms > 500,
        ),
        HopSpan(
            trace=name,
            span="c",
            parent="a",
            hop="model m",
            start_us=start + (5 + auth_ms) * US,
            duration_us=model_ms * US,
            is_model=True,
        ),
        HopSpan(trace=name, span="d", parent="a", hop="log", start_us=start + (whole - 1) * US, duration_us=500, awaited=False),
    ]


def read(n: int = 200, extra: tuple[list[HopSpan], ...] = ()) -> Read:
    """The slowest tenth are slow in auth; all have one model's call of 100 ms."""
    spans = [span for i in range(n) for span in trace(f"t{i}", 20 + i % 7 if i % 10 else 600 + i, 100 + i % 5)]
    return Read(at_wall_ms=1, cleaned=clean([*spans, *(span for each in extra for span in each)]), left_out=0)


def report() -> TypeReport:
    found = type_report(read(), Wanted(request_type="web GET /x"))
    assert found is not None
    return found


def test_bars_add_up_and_the_model_is_marked() -> None:
    one = report()
    parts, top = parts_of(one), top_ms(one)
    assert one.summary.model_gone is not None
    assert parts[0].hop == "auth"
    assert {part.hop: part.tone for part in parts}["model m"] == "model"
    assert [part.letter for part in parts[:3]] == ["A", "B", "C"]
    for which, tail in ((one.middle, False), (one.tail, True)):
        svg = stacked(which, parts, tail, top, one.summary.model_gone.after[-1])
        widths = sum(float(w) for w in re.findall(r'<rect class="hop-[^"]+" x="[^"]+" y="\d+" width="([\d.]+)%', svg))
        assert widths == pytest.approx((which.total.value or 0) / top * 100, abs=0.05)
        assert 'class="no-model"' in svg
    assert sentence_of(overview_of(read(), Labels()), one)[1].startswith("auth owns ")


def test_names_from_outside_are_escaped() -> None:
    hostile = read(40, tuple(trace(f"h{i}", 50, 20, root='<script>"x') for i in range(40)))
    found = type_report(hostile, Wanted(request_type='<script>"x GET /x'))
    assert found is not None
    svg = stacked(found.tail, parts_of(found), True, top_ms(found), None)
    assert "<script>" not in svg
    assert "&lt;script&gt;" in svg


@pytest.mark.parametrize("top", [0.02, 1.0, 37.0, 950.0, 12_000.0, 3_600_000.0])
def test_the_axis_has_few_ticks_whatever_its_length(top: float) -> None:
    assert 3 <= axis(top).count("<line") <= 10


def test_parts_of_a_tail_below_zero_are_none() -> None:
    assert 'width="0.00%"' in two_parts(-5.0, 10.0)
    assert "0 % other requests" in two_parts(0.0, 0.0)


def test_labels_narrow_and_types_are_told_apart() -> None:
    mixed = read(60, tuple(trace(f"o{i}", 900, 10, root="shop") for i in range(40)))
    found = overview_of(mixed, Labels())
    assert [(row.request_type, row.n) for row in found.types] == [("web GET /x", 60), ("shop GET /x", 40)]
    assert found.mix is not None
    assert found.mix.mix_ms + found.mix.within_ms == pytest.approx(found.mix.excess_ms)
    assert overview_of(mixed, Labels(tenant="nobody")).types == ()
    assert type_report(mixed, Wanted(request_type="web GET /x", labels=Labels(cache="hit"))) is None


def one_trace() -> HopTrace:
    return clean(trace("t", 600, 100)).traces[0]


def test_columns_say_what_the_page_says() -> None:
    columns, page = columns_of(one_trace()), page_of(one_trace())
    assert columns.parent == [-1, 0, 0, 0]
    assert sum(columns.path[2::3]) == one_trace().duration_us
    assert sum(line.path_ms for line in page.hops) == pytest.approx(page.duration_ms)
    rows = {columns.hops[hop]: flags for hop, flags in zip(columns.hop, columns.flags, strict=True)}
    assert (rows["auth"], rows["model m"], rows["log"]) == (ERROR, MODEL, NOT_AWAITED)
    assert page.errors == 1
    assert "1 span ended in an error" in page.sentence


def test_of_a_large_trace_the_longest_and_all_above_them_are_drawn() -> None:
    start = 1_790_000_000_000 * US
    spans = [HopSpan(trace="t", span="0", hop="a", start_us=start, duration_us=10_000)]
    spans += [
        HopSpan(trace="t", span=str(i), parent=str(i - 1), hop="a", start_us=start, duration_us=10_000 - i) for i in range(1, 50)
    ]
    spans += [HopSpan(trace="t", span=f"s{i}", parent="0", hop="b", start_us=start, duration_us=1) for i in range(500)]
    spans.append(HopSpan(trace="t", span="deep", parent="s7", hop="c", start_us=start, duration_us=1))
    columns = columns_of(clean(spans).traces[0], most=50)
    assert len(columns.start) + columns.left_out == len(spans)
    assert 50 <= len(columns.start) <= 52
    assert all(above < row for row, above in enumerate(columns.parent))


async def test_an_answer_is_asked_for_once_and_outlives_who_asked() -> None:
    kept: Kept[int] = Kept(2, lambda: WallMs(0))
    calls, go = [], asyncio.Event()

    async def ask() -> int:
        calls.append(1)
        await go.wait()
        return 7

    first = asyncio.create_task(kept.once("k", 10, ask))
    second = asyncio.create_task(kept.once("k", 10, ask))
    await asyncio.sleep(0)
    first.cancel()
    go.set()
    assert await second == 7
    assert await kept.once("k", 10, ask) == 7
    assert len(calls) == 1


async def test_a_failure_is_not_kept() -> None:
    kept: Kept[int] = Kept(2, lambda: WallMs(0))

    async def fails() -> int:
        raise Away("gone")

    async def works() -> int:
        return 1

    with pytest.raises(Away):
        await kept.once("k", 10, fails)
    assert await kept.once("k", 10, works) == 1


async def test_so_many_wait_and_no_more() -> None:
    turns = Turns("things")
    waiting = [asyncio.create_task(turns.work(lambda: 1)) for _ in range(WAITING_MAX)]
    await asyncio.sleep(0)
    with pytest.raises(Away, match="too many ask things at once"):
        await turns.work(lambda: 1)
    assert await asyncio.gather(*waiting) == [1] * WAITING_MAX


async def test_the_page_says_that_the_facts_are_away(world) -> None:
    olga = await world.user("olga")
    page = await olga.get("/time")
    assert page.status_code == 200
    assert "Cannot tell where the time goes" in page.text
    assert "the facts are away" in page.text
    assert (await olga.get("/time/traces/" + "a" * 32)).status_code == 503


@pytest.mark.parametrize("path", ["/time?range=2h", "/time?types=colour", "/time?cache=maybe", "/time?what=explode&hop=a"])
async def test_what_is_no_choice_is_refused(world, path) -> None:
    assert (await (await world.user("olga")).get(path)).status_code == 400


@pytest.mark.parametrize("name", ["a b", "x" * 65, "%3Cscript%3E"])
async def test_what_is_no_trace_is_not_looked_for(world, name) -> None:
    assert (await (await world.user("olga")).get(f"/time/traces/{name}")).status_code == 404
