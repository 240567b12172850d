"""Why calls were slow, told to a collector: learnt from what passes, judged when it can be, bounded in cost."""

import time
from random import Random

import pytest
from otlp_collector import Collector, plain, until

from headway.control import otlp, span_verdicts
from headway.control.otlp import SpanExport
from headway.control.span_verdicts import SpanVerdicts
from headway.control.spans import span_id, together
from headway.facts.model import AttemptFact, CallFact, Fact
from headway.kernel.instants import wall_ms
from headway.kernel.limits import SPAN_VERDICTS_PER_S_MAX

T0 = 1_790_000_000_000
SETTLED_MS = 200_000


def call(number: int, *, queue_ms: float = 0.0, at_ms: int | None = None, rng: Random | None = None, **more: object) -> list[Fact]:
    noise = (rng or Random(number)).gauss(0, 15)
    first = 400 + noise + queue_ms
    name = f"call_{number:026d}"
    started = T0 + number * 2_000 if at_ms is None else at_ms
    values = {
        "call": name,
        "started_wall_ms": started,
        "duration_ms": first + 1_000,
        "gateway": "g",
        "tenant": f"t{number % 3}",
        "feature": "f",
        "routed": "one/m1",
        "attempts": 1,
        "queue_ms": queue_ms,
        "first_token_ms": first,
        "input_tokens": 800,
        "output_tokens": 50,
        "stream": True,
    }
    tried = AttemptFact(
        call=name,
        attempt=1,
        started_wall_ms=started,
        gateway="g",
        provider="one",
        upstream_model="m1",
        status=200,
        queue_ms=queue_ms,
        start_ms=0.0,
        sent_ms=queue_ms + 1,
        first_token_ms=first,
        last_token_ms=first + 990,
        duration_ms=first + 1_000,
        input_tokens=800,
        output_tokens=50,
    )
    return [CallFact(**{**values, **more}), tried]  # type: ignore[arg-type]


def test_a_slow_call_is_told_when_what_was_beside_it_is_known() -> None:
    verdicts, found = SpanVerdicts(), []
    for number in range(80):
        facts = call(number, queue_ms=5_000.0 if number == 60 else 0.0)
        told = verdicts.learn(together(facts), now_s=float(number))
        assert not (told and number < 60 + 60), "not before two minutes have passed"
        found += told
    assert found == []
    assert verdicts.pending
    newest = T0 + 79 * 2_000
    assert verdicts.idle(newest + 1_000, 1_000.0) == []
    assert verdicts.idle(newest + SETTLED_MS, 80.0) == [], "a backlog may still come"
    found = verdicts.idle(newest + SETTLED_MS, 100.0)
    assert [(fact.call, verdict.cause) for fact, verdict in found] == [(f"call_{60:026d}", "own_queue")]
    assert found[0][1].explained_ms == pytest.approx(5_000, rel=0.05)
    assert not verdicts.pending
    assert verdicts.idle(newest + 10 * SETTLED_MS, 1_000.0) == []


def test_later_calls_settle_it_too() -> None:
    verdicts, found = SpanVerdicts(), []
    for number in range(160):
        found += verdicts.learn(together(call(number, queue_ms=5_000.0 if number == 60 else 0.0)), now_s=float(number))
    assert [fact.call for fact, _ in found] == [f"call_{60:026d}"]


def test_what_was_not_answered_and_what_is_no_call_teaches_nothing() -> None:
    verdicts = SpanVerdicts()
    lone = together(call(1)[:1])
    failed = together(call(2, outcome="timeout"))
    piece = together(call(3, origin="piece"))
    assert verdicts.learn([*lone, *failed, *piece], 1.0) == []
    assert not verdicts.pending


def test_more_calls_than_are_judged_are_counted() -> None:
    verdicts = SpanVerdicts()
    facts = [fact for number in range(40) for fact in call(number)]
    for round_number in range(20):
        verdicts.learn(together(facts), now_s=100.0 + round_number * 0.001)
    assert verdicts.left_out == 20 * 40 - 10 * SPAN_VERDICTS_PER_S_MAX
    verdicts.learn(together(facts), now_s=200.0)
    assert verdicts.left_out == 20 * 40 - 10 * SPAN_VERDICTS_PER_S_MAX, "a quiet time later all are judged again"


def test_the_collector_gets_it_as_a_child_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "_IDLE_S", 0.05)
    monkeypatch.setattr(span_verdicts, "_QUIET_S", 0.5)
    collector = Collector()
    try:
        export = SpanExport(collector.address)
        began = wall_ms() - SETTLED_MS - 80 * 2_000
        for number in range(80):
            export.offer(call(number, queue_ms=5_000.0 if number == 60 else 0.0, at_ms=began + number * 2_000))
            if number % 20 == 0:
                time.sleep(0.01)
        until(lambda: [span for span in collector.spans() if span.name == "headway verdict"])
        (told,) = [span for span in collector.spans() if span.name == "headway verdict"]
        assert told.parent_span_id == span_id(f"call_{60:026d}")
        assert plain(told)["headway.verdict"] == "own_queue"
        until(lambda: export.stats().sent == 161)
        assert export.stats().unjudged == 0
        export.close()
    finally:
        collector.close()
