"""A little of ``make fuzz`` with a fixed seed, and what it once found."""

import asyncio
import contextlib
import random

import pytest

from headway.gateway.dialects.registry import REGISTRY
from headway.kernel.errors import CallError
from headway.lab.scripted_recording import Recordings
from headway.prove.checked import table
from headway.prove.forms import body_of
from headway.prove.fuzz import wire
from headway.prove.fuzz_codecs import Corpus, one_case, pieces
from headway.prove.fuzz_wire import request_of

CASES = 400


def test_random_streams_and_bodies_bring_nothing_but_refusals():
    corpus = Corpus()
    findings = [finding for case in range(CASES) for finding in one_case(corpus, 20, case)]
    assert findings == []


@pytest.mark.parametrize("dialect", REGISTRY)
@pytest.mark.parametrize("noise", [b"\xff\xfe", b"\xe2\x80\x8f\x80", b"\xe0", b"\xed\xa0\x80"])
def test_bytes_that_are_no_text_inside_a_string_are_a_refusal_or_are_passed(dialect, noise):
    """Found by this fuzzer: a decoder must not fail in any other way."""
    stream = Recordings().find(dialect, "text", streamed=True).body.replace(b" ferry", b" fer" + noise + b"ry")
    decoder = REGISTRY[dialect].decoder()
    with contextlib.suppress(CallError):
        decoder.feed(stream)
        decoder.finish()
    watcher = REGISTRY[dialect].watcher(REGISTRY[dialect].scan(body_of(dialect, "m", "x", stream=True)))
    with contextlib.suppress(CallError):
        watcher.text_of(watcher.feed(stream) + watcher.finish())


def test_a_case_is_made_again_from_its_seed():
    assert request_of(random.Random("3:7"), "KEY") == request_of(random.Random("3:7"), "KEY")
    assert b"".join(pieces(random.Random(1), b"abcdef")) == b"abcdef"


@pytest.mark.slow
def test_random_requests_leave_the_listener_as_it_was():
    rows = asyncio.run(wire(15.0, 20))
    assert all(row.holds for row in rows), "\n" + table(rows)
