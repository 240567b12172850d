"""What ``headway phases`` says: instants as people write them, verdicts in words."""

from datetime import UTC, datetime

import click
import pytest
from click.testing import CliRunner

from headway.calls.phases.model import Cause, Evidence, Split, Verdict
from headway.cli import phases
from headway.cli.phases import evidence_words, instant_ms, verdict_words
from headway.control.phases import Judged

NOW = datetime(2026, 11, 24, 15, 30, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
HOUR_MS = 3_600_000


@pytest.mark.parametrize(
    ("text", "ago_ms"),
    [
        ("14:00", 1.5 * HOUR_MS),
        ("15:29:30", 30_000),
        ("16:00", 23.5 * HOUR_MS),
        ("2h", 2 * HOUR_MS),
        ("45min", 45 * 60_000),
        ("1d", 24 * HOUR_MS),
        ("2026-11-24T14:00", 1.5 * HOUR_MS),
        ("2026-11-24T14:00:00+01:00", 2.5 * HOUR_MS),
    ],
)
def test_instants_as_people_write_them(text: str, ago_ms: float) -> None:
    assert NOW_MS - instant_ms(text, NOW) == ago_ms


@pytest.mark.parametrize("text", ["soon", "", "25:00", "2 fortnights", "14"])
def test_what_is_no_instant_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        instant_ms(text, NOW)


def verdict(**fields: object) -> Verdict:
    return Verdict(**{"call": "c", "slow": True, "cause": Cause.LONG_PROMPT, "n_baseline": 400, **fields})  # type: ignore[arg-type]


def test_verdicts_in_words() -> None:
    named = verdict(excess_ms=1_000.0, explained_ms=900.0, expected_ms=1_340.0)
    assert verdict_words(named) == "long prompt: explains 90.0 % of 1.00 s over the 1.34 s expected by 400 calls like it"
    assert verdict_words(verdict(slow=False, cause=None, expected_ms=1_340.0)) == "not slow: expected 1.34 s by 400 calls like it"
    unknown = verdict(cause=Cause.CANNOT_TELL, excess_ms=1_000.0)
    assert verdict_words(unknown) == "cannot tell of 1.00 s more than expected: 400 calls like it"
    assert verdict_words(verdict(slow=False, cause=Cause.CANNOT_TELL, n_baseline=3)) == "cannot tell: 3 calls like it"


def test_evidence_in_words() -> None:
    tokens = Evidence(what="uncached prompt tokens", value=6_000.0, usual=400.0, unit="tokens")
    assert evidence_words(tokens) == "uncached prompt tokens: 6,000 tokens (usually 400 tokens)"
    assert evidence_words(Evidence(what="blocked", value=1_500.0, unit="ms")) == "blocked: 1.50 s"
    assert evidence_words(Evidence(what="region is now us")) == "region is now us"


def test_a_call_is_shown_by_its_id_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    parts = {"queue": 900.0, "provider": 1_400.0, "decode": 40.0, "close": 0.0}
    found = Judged(
        call="call_1",
        target="p/m",
        split=Split(call="call_1", duration_ms=2_340.0, parts_ms=parts),
        verdict=verdict(
            cause=Cause.CANNOT_TELL,
            excess_ms=1_000.0,
            second=Cause.COLD_CACHE,
            missing=("the provider reports no cached count",),
            evidence=(Evidence(what="idle", value=3_700_000.0, unit="ms"),),
        ),
    )

    class Told:
        def __init__(self, loaded: object) -> None:
            pass

        def get(self, path: str, kind: type[Judged], **query: object) -> Judged:
            asked.append(path)
            return found

    monkeypatch.setattr(phases, "Control", Told)
    monkeypatch.setattr(phases, "loaded", lambda path: None)
    result = CliRunner().invoke(phases.command, ["call_1"])
    assert result.exit_code == 0, result.output
    assert asked == ["/api/v1/phases/calls/call_1"]
    for words in (
        "2.34 s",
        "provider",
        "59.8 %",
        "cannot tell",
        "likeliest: cold cache",
        "missing: the provider reports no cached count",
    ):
        assert words in result.output
    assert CliRunner().invoke(phases.command, ["../etc"]).exit_code == 2
