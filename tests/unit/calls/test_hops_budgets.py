"""Budgets are read with the line of every mistake, and broken only beyond what chance does."""

import numpy as np
import pytest

from headway.calls.hops.budgets import Budgets, least_traces, parse
from headway.calls.hops.report_budgets import Line, check
from headway.calls.hops.times import TraceTimes
from headway.config.problems import ConfigProblems
from headway.kernel.errors import ConfigError

GOOD = """
by = "calls"
[requests."edge GET /a"]
p99_ms = 800
[requests."edge GET /a".hops.auth]
p50_ms = 5
p99_ms = 60.5
share = 0.1
[requests."*"]
p50_ms = 10
"""


def test_what_is_written_is_read() -> None:
    budgets = parse(GOOD)
    request = budgets.requests["edge GET /a"]
    assert (budgets.by, request.p99_ms, request.hops["auth"].p99_ms, request.hops["auth"].share) == ("calls", 800, 60.5, 0.1)
    assert budgets.requests["*"].p50_ms == 10


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "[requests.a]\np98_ms = 1\np50_ms = 1",
            'b.toml:2: requests.a.p98_ms is not a setting of [requests.a]; did you mean "p99_ms"?',
        ),
        ("[requests.a.hops.x]\np99_ms = 1\nshares = 2", "b.toml:3: requests.a.hops.x.shares is not a setting"),
        ("[requsts.a]\np99_ms = 1", 'b.toml:1: requsts is not a setting of the file; did you mean "requests"?'),
        ("[requests.a]\np99_ms = 'fast'", "b.toml:2: requests.a.p99_ms must be a number, not"),
        ("[requests.a]\np99_ms = 0", "b.toml:2: requests.a.p99_ms is 0; it must be above 0"),
        ("[requests.a]\np99_ms = nan", "b.toml:2: requests.a.p99_ms is nan"),
        ("[requests.a.hops.x]\nshare = 1.5", "b.toml:2: requests.a.hops.x.share is 1.5; it must lie between 0 and 1"),
        (
            "[requests.a]\np99_ms = 10\n[requests.a.hops]\nx = {p99_ms = 6}\ny = {p99_ms = 5}",
            "b.toml:2: requests.a.p99_ms is 10, and its hops",
        ),
        ("[requests.a]", "b.toml:1: requests.a has no budget"),
        ("traces_min = 5\n[requests.a]\np50_ms = 1", "b.toml:1: traces_min is 5"),
        ("by = 'cals'\n[requests.a]\np50_ms = 1", 'b.toml:1: by "cals" is not a way; did you mean "calls"?'),
        ("", "b.toml: requests is missing"),
    ],
)
def test_every_mistake_has_its_line(text: str, told: str) -> None:
    with pytest.raises(ConfigProblems) as refused:
        parse(text, "b.toml")
    assert told in str(refused.value)
    assert "headway.toml" not in str(refused.value)


def test_what_is_no_toml_has_its_line() -> None:
    with pytest.raises(ConfigError, match="b.toml:2"):
        parse("a = 1\nb = = 2", "b.toml")


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ConfigProblems) as refused:
        parse("x = 1\n[requests.a]\np99_ms = -1\n[requests.b.hops.h]\nshare = 0")
    assert len(refused.value.problems) == 3


def test_how_many_traces_a_verdict_takes() -> None:
    assert [least_traces(Budgets(), q) for q in (0.5, 0.95, 0.99)] == [30, 60, 300]
    assert least_traces(Budgets(traces_min=1_000), 0.5) == 1_000


def rows(n: int, kind: str = "edge", seed: int = 3, auth_ms: float = 20.0) -> list[TraceTimes]:
    """The edge takes about 100 ms, auth about ``auth_ms``, both with a tail."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(n):
        own, auth = int(rng.lognormal(np.log(100_000), 0.3)), int(rng.lognormal(np.log(auth_ms * 1_000), 0.3))
        found.append(
            TraceTimes(
                trace=f"{kind}{i}", request_type=kind, start_us=i, duration_us=own + auth, by_hop={"edge": own, "auth": auth}
            )
        )
    return found


def lines(text: str, given: list[TraceTimes]) -> list[Line]:
    return list(check(parse(text), given).lines)


def test_kept_broken_and_within_noise() -> None:
    given = rows(600)
    p99 = float(np.quantile([row.duration_us / 1_000 for row in given], 0.99))
    for budget, state in ((p99 + 60, "kept"), (p99 - 0.5, "over, within noise"), (p99 - 60, "broken")):
        (line,) = lines(f"[requests.edge]\np99_ms = {budget}", given)
        assert line.state == state
        assert line.figure.value == pytest.approx(p99)
    assert check(parse(f"[requests.edge]\np99_ms = {p99 - 0.5}"), given).state == "kept"
    assert check(parse(f"[requests.edge]\np99_ms = {p99 - 60}"), given).state == "broken"


def test_what_a_hop_owns_and_its_share() -> None:
    given = rows(600)
    one, two, three = lines("[requests.edge.hops.auth]\np50_ms = 30\np99_ms = 10\nshare = 0.02", given)
    assert (one.what, one.state) == ("p50_ms", "kept")
    assert (two.what, two.state) == ("p99_ms", "broken")
    assert (three.what, three.state) == ("share", "broken")
    assert one.figure.value == pytest.approx(20, rel=0.2)


def test_few_traces_another_type_and_another_hop_cannot_be_told() -> None:
    few = rows(299)
    assert [line.state for line in lines("[requests.edge]\np50_ms = 1000\np95_ms = 1000\np99_ms = 1000", few)] == [
        "kept",
        "kept",
        "cannot tell",
    ]
    report = check(parse("[requests.edg]\np50_ms = 1"), few)
    assert (report.state, report.unbudgeted) == ("cannot tell", ("edge",))
    assert 'did you mean "edge"' in report.lines[0].why
    (line,) = lines("[requests.edge.hops.aut]\np50_ms = 1", few)
    assert line.state == "cannot tell"
    assert 'did you mean "auth"' in line.why
    assert check(parse("[requests.'*']\np50_ms = 1"), []).state == "cannot tell"


def test_broken_counts_more_than_cannot_tell() -> None:
    assert check(parse("[requests.edge]\np50_ms = 1\np99_ms = 1"), rows(100)).state == "broken"


def test_every_other_type_has_the_stars_budget() -> None:
    given = [*rows(50, "a"), *rows(50, "b", auth_ms=900.0)]
    found = lines("[requests.'*']\np50_ms = 300\n[requests.a]\np50_ms = 20", given)
    assert [(line.request_type, line.state) for line in found] == [("b", "broken"), ("a", "broken")] or [
        (line.request_type, line.state) for line in found
    ] == [("a", "broken"), ("b", "broken")]


def test_a_small_hop_among_many_is_seen() -> None:
    """A report shows so many hops; a budget must see the one that it names."""
    given = [
        TraceTimes(
            trace=str(i),
            request_type="edge",
            start_us=i,
            duration_us=61 * 1_000,
            by_hop={f"h{k}": 1_000 for k in range(60)} | {"tiny": 1_000},
        )
        for i in range(40)
    ]
    (line,) = lines("[requests.edge.hops.tiny]\np50_ms = 0.5", given)
    assert (line.state, line.figure.value) == ("broken", pytest.approx(1.0))
