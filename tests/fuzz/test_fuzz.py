"""A little of ``make fuzz`` with a fixed seed, and the cases that it once found."""

import asyncio
import random

import pytest

from headway.prove.checked import table
from headway.prove.fuzz import wire
from headway.prove.fuzz_codecs import Corpus, one_case, pieces
from headway.prove.fuzz_wire import request_of

CASES = 400


def test_random_streams_and_bodies_bring_nothing_but_refusals():
    corpus = Corpus()
    findings = [finding for case in range(CASES) for finding in one_case(corpus, 20, case)]
    assert findings == []


@pytest.mark.parametrize(("seed", "case"), [(1, 6093), (1, 6724), (1, 10260), (3, 496), (3, 11353)])
def test_cases_that_were_found_stay_found(seed, case):
    """Bytes that are no UTF-8 inside a string; a CR and its LF in two reads."""
    assert one_case(Corpus(), seed, case) == []


def test_a_case_is_made_again_from_its_seed():
    assert request_of(random.Random("3:7"), "KEY") == request_of(random.Random("3:7"), "KEY")
    assert b"".join(pieces(random.Random(1), b"abcdef")) == b"abcdef"


@pytest.mark.slow
def test_random_requests_leave_the_listener_as_it_was():
    rows = asyncio.run(wire(15.0, 20))
    assert all(row.holds for row in rows), "\n" + table(rows)
