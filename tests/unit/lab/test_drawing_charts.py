"""Charts are well-formed SVG, their marks lie inside, and what people wrote is text in them."""

from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.lab.drawing import BLUE, DOTS_MAX, WIDTH, Axis, Panel, binned, document, linear, logarithmic

SVG = "{http://www.w3.org/2000/svg}"
values = st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e7)), min_size=1, max_size=40)


@settings(max_examples=40, deadline=None)
@given(values, st.booleans())
def test_marks_lie_inside_whatever_the_values(points: list[tuple[float, float]], log: bool) -> None:
    ys = [y for _, y in points]
    panel = Panel(
        "a <title> & more", linear([x for x, _ in points], "s"), logarithmic(ys, "ms") if log else linear(ys, "ms"), top=30
    )
    panel.dots(points, BLUE)
    panel.line(points, BLUE, "series <1>")
    root = ElementTree.fromstring(document("t & t", [panel.svg()], panel.bottom))
    for circle in root.iter(f"{SVG}circle"):
        assert 0 <= float(circle.attrib["cx"]) <= WIDTH
        assert 0 <= float(circle.attrib["cy"]) <= panel.bottom


def test_many_dots_are_thinned_evenly() -> None:
    panel = Panel("t", linear([10_000], "s"), linear([1], "ms"), top=0)
    panel.dots([(float(n), 0.5) for n in range(10_000)], BLUE)
    root = ElementTree.fromstring(document("t", [panel.svg()], panel.bottom))
    xs = [float(c.attrib["cx"]) for c in root.iter(f"{SVG}circle")]
    assert len(xs) <= DOTS_MAX
    assert xs[-1] - xs[0] > 700


@pytest.mark.parametrize(
    ("axis", "ticks"),
    [
        (Axis(low=0, high=60, label="s"), [0, 10, 20, 30, 40, 50, 60]),
        (Axis(low=10, high=10_000, label="ms", log=True), [10, 100, 1_000, 10_000]),
        (Axis(low=10, high=100, label="ms", log=True), [10, 20, 50, 100]),
    ],
)
def test_ticks_are_round_numbers(axis: Axis, ticks: list[float]) -> None:
    assert axis.ticks() == pytest.approx(ticks)


def test_bins_hold_what_falls_into_them() -> None:
    assert binned([(0.1, 3), (0.9, 1), (2.5, 7)], 1.0, max) == [(0.5, 3), (2.5, 7)]
