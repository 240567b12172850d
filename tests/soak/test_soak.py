"""A minute of what ``make soak`` does for ten."""

import asyncio

import pytest

from headway.prove.checked import table
from headway.prove.soak import soak

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("part", ["mixed", "slow", "thousand"])
def test_a_short_soak_holds_its_bounds(part):
    rows = asyncio.run(soak(1.0, 1, [part]))
    wanted = [row for row in rows if row.name != "rss_growth"]  # a minute is all warming up
    assert all(row.holds for row in wanted), "\n" + table(rows)
