"""One page of metrics in two formats."""

import pytest

from headway.kernel.openmetrics import CLASSIC, OPENMETRICS, exemplar, page_for, parted, wants_openmetrics
from headway.kernel.traces import trace_id

BEHIND = exemplar(0.25, "call_a", "", 1_700_000_000_123)
PAGE = (
    '# HELP headway_calls_total Calls of "all" kinds.\n# TYPE headway_calls_total counter\nheadway_calls_total{tenant="a"} 3\n'
    "# HELP headway_wait_ms Waits.\n# TYPE headway_wait_ms histogram\n"
    f'headway_wait_ms_bucket{{tenant="a",le="1"}} 2{BEHIND}\nheadway_wait_ms_bucket{{tenant="a",le="+Inf"}} 2\n'
)


def test_an_exemplar_names_the_call_and_its_trace() -> None:
    assert f' # {{call="call_a",trace_id="{trace_id("call_a").hex()}"}} 0.25 1700000000.123' == BEHIND
    assert parted("x 1" + BEHIND) == ("x 1", BEHIND)
    assert parted("x 1") == ("x 1", "")


@pytest.mark.parametrize(
    ("accept", "wants"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", True),
        ("text/plain;q=0.5, application/openmetrics-text; version=1.0.0; q=0.8", True),
        ("application/openmetrics-text;q=0, text/plain", False),
        ("application/openmetrics-text;q=0.1", True),
    ],
)
def test_who_wants_which(accept: str, wants: bool) -> None:
    assert wants_openmetrics(accept) is wants


def test_the_classic_page_has_no_exemplars() -> None:
    page, kind = page_for("text/plain", PAGE)
    assert kind == CLASSIC
    assert page == PAGE.replace(BEHIND, "")


def test_the_other_page_names_families_and_ends() -> None:
    page, kind = page_for("application/openmetrics-text", PAGE)
    assert kind == OPENMETRICS
    assert (
        '# HELP headway_calls Calls of \\"all\\" kinds.\n# TYPE headway_calls counter\nheadway_calls_total{tenant="a"} 3\n' in page
    )
    assert f'le="1.0"}} 2{BEHIND}\n' in page
    assert 'le="+Inf"} 2\n' in page
    assert page.endswith("# EOF\n")
