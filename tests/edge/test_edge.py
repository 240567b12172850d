"""What must hold at the edge, story by story: the same as ``make edge``."""

import asyncio

import pytest

from headway.prove.checked import table
from headway.prove.edge import STORIES, tell

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", STORIES)
def test_the_story_ends_well(name):
    rows = asyncio.run(tell(name))
    assert all(row.holds for row in rows), "\n" + table(rows) + "\n" + "\n".join(r.figure.method for r in rows if not r.holds)
