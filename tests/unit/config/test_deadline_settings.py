"""What is handed down of a deadline, and timeouts above it: told with the line, before anything runs."""

import pytest

from headway.config.load import parse
from headway.config.problems import ConfigProblems

BASE = '[providers.own]\npreset = "vllm"\nbase_url = "http://127.0.0.1:9"\n'
FEATURE = '[features.chat]\ntargets = ["own/m"]\ndeadline_ms = 5000\n'


@pytest.mark.parametrize("name", ["x-request-timeout-ms", "X-Budget", "x-headway-deadline-ms"])
def test_a_header_of_ones_own_or_of_another_headway(name: str) -> None:
    assert parse(f'{BASE}deadline_header = "{name}"\n').settings.providers["own"].deadline_header == name


@pytest.mark.parametrize("name", ["x-headway-run", "Authorization", "content-length", "traceparent", "two words", "x\\r\\ny"])
def test_a_header_that_cannot_hold_it_is_fatal(name: str) -> None:
    with pytest.raises(ConfigProblems) as refused:
        parse(f'{BASE}deadline_header = "{name}"\n')
    assert "headway.toml:4" in str(refused.value)


def test_a_fixed_header_of_the_same_name_is_fatal() -> None:
    with pytest.raises(ConfigProblems, match="in headers too"):
        parse(f'{BASE}deadline_header = "x-budget"\nheaders = {{ X-Budget = "1" }}\n')


def test_defaults_above_a_deadline_say_nothing() -> None:
    assert parse(BASE + FEATURE).warnings == ()


@pytest.mark.parametrize("key", ["connect_ms", "first_byte_ms", "idle_ms", "total_ms"])
def test_a_timeout_that_was_set_above_its_parents_is_told(key: str) -> None:
    others = "first_byte_ms = 4000\n" if key == "total_ms" else ""
    fits, above = (f"[providers.own.timeouts]\n{key} = {ms}\n{others}" for ms in (5000, 5001))
    assert not any(key in warning for warning in parse(BASE + FEATURE + fits).warnings)
    found = parse(BASE + FEATURE + above).warnings
    assert any(f"headway.toml:8: providers.own.timeouts.{key} (5001) is above features.chat.deadline_ms" in w for w in found), found


def test_a_wait_for_admission_above_it_is_told() -> None:
    (told,) = parse(BASE + FEATURE + "[providers.own.admission]\nwait_ms_max = 6000\n").warnings
    assert "wait_ms_max (6000) is above" in told
