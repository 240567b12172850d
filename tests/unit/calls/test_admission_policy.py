"""What the policy asks of the pipeline for what it is told: admissions of others, refusals with a time, pieces, cuts, and nothing for nonsense."""

from collections.abc import Sequence

import pytest
from admission_stage import arrived

from headway.calls.admission.model import Capacity, EndpointAdmission, EngineLoad, LongLane, Pacing, RunShare, Share
from headway.calls.admission.policy import AdmissionPolicy
from headway.calls.conversation import Usage
from headway.calls.model import (
    Admit,
    Arrived,
    AttemptStarted,
    CallPolicy,
    Chunk,
    ClientGone,
    Closed,
    Effect,
    Head,
    Origin,
    Outcome,
    Refuse,
    SubCall,
    Tick,
    Told,
    WaitUntil,
)
from headway.kernel.instants import NS_PER_MS, MonoNs
from headway.kernel.limits import POLICY_EFFECTS_PER_EVENT_MAX

ONE = EndpointAdmission(capacity=Capacity(requests_max=1))


class Told_:
    """A policy with its clock; ``tell`` moves the clock on by a millisecond."""

    def __init__(self, settings: EndpointAdmission = ONE, shares: dict[str, Share] | None = None, **how: object) -> None:
        self.policy = AdmissionPolicy({}, shares or {}, default=settings, **how)  # type: ignore[arg-type]
        self.now = MonoNs(0)

    def tell(self, event: Told, *, after_ms: float = 1.0) -> Sequence[Effect]:
        self.now = MonoNs(self.now + int(after_ms * NS_PER_MS))
        effects = self.policy.receive(event, self.now)
        view = self.policy.view("e", self.now)
        assert view.submitted == view.done + view.queued + view.running + view.refused + view.evicted
        return effects

    def arrive(self, call: str, tenant: str = "a", **fields: object) -> Sequence[Effect]:
        return self.tell(arrived(call, tenant, **fields))  # type: ignore[arg-type]

    def close(
        self, call: str, outcome: Outcome = Outcome.DONE, *, usage: Usage | None = None, last: bool = True
    ) -> Sequence[Effect]:
        return self.tell(Closed(call=call, endpoint="e", outcome=outcome, usage=usage or Usage(), last=last))


def admitted(effects: Sequence[Effect]) -> list[str]:
    return [effect.call for effect in effects if type(effect) is Admit]


def test_it_is_a_call_policy() -> None:
    policy: CallPolicy = AdmissionPolicy({}, {}, default=ONE)
    assert policy.wants_chunks
    assert not policy.wants_text


def test_the_end_of_one_admits_another() -> None:
    told = Told_()
    assert admitted(told.arrive("one")) == ["one"]
    assert told.arrive("two") == []
    assert admitted(told.close("one", usage=Usage(input_tokens=100, output_tokens=5))) == ["two"]
    view = told.policy.view("e", told.now)
    assert (view.done, view.running, view.queued) == (1, 1, 0)


def test_small_before_batch_before_long_for_engines_that_take_a_priority() -> None:
    told = Told_(EndpointAdmission())
    effects = [*told.arrive("small"), *told.arrive("batch", klass="batch"), *told.arrive("long", prompt=9_000)]
    assert [effect.priority for effect in effects if type(effect) is Admit] == [0, 1, 2]


def test_a_caller_that_goes_while_queued_frees_its_place_and_its_end_is_ignored() -> None:
    told = Told_()
    told.arrive("one")
    told.arrive("two")
    told.arrive("three")
    assert told.tell(ClientGone(call="two")) == []
    assert admitted(told.close("one")) == ["three"]
    assert told.close("two", Outcome.CLIENT_GONE) == ()
    view = told.policy.view("e", told.now)
    assert (view.evicted, view.done, view.running) == (1, 1, 1)


def test_a_caller_that_goes_while_running_pays_for_what_its_end_tells() -> None:
    told = Told_()
    told.arrive("one", prompt=100, most=200)
    told.tell(ClientGone(call="one"))
    told.close("one", Outcome.CLIENT_GONE, usage=Usage(input_tokens=100, output_tokens=7))
    [tenant] = told.policy.view("e", told.now).tenants
    assert tenant.served_tokens == 100 + 2 * 7
    assert told.policy.view("e", told.now).evicted == 1


@pytest.mark.parametrize("usage", [Usage(), Usage(input_tokens=-5, output_tokens=-9), Usage(input_tokens=100, output_tokens=2**70)])
def test_usage_that_never_comes_or_is_nonsense_leaves_the_estimate(usage: Usage) -> None:
    told = Told_()
    told.arrive("one", prompt=100, most=200)
    told.close("one", usage=usage)
    view = told.policy.view("e", told.now)
    assert view.tenants[0].served_tokens == 100 + 2 * 200
    assert view.usage_missing == 1
    assert view.usage_refused == ((usage.input_tokens or 0) < 0)


def test_usage_that_comes_twice_is_counted_and_pays_once() -> None:
    told = Told_()
    told.arrive("one", prompt=100, most=200)
    usage = Usage(input_tokens=90, output_tokens=10, cached_tokens=40)
    told.close("one", usage=usage)
    assert told.close("one", usage=usage) == ()
    assert told.policy.view("e", told.now).tenants[0].served_tokens == 50 + 2 * 10
    assert told.policy.ignored == 1


def test_an_attempt_that_failed_before_an_answer_pays_nothing_and_the_next_one_goes_elsewhere() -> None:
    told = Told_()
    told.arrive("one", prompt=100, most=200)
    told.tell(AttemptStarted(call="one", endpoint="e", attempt=1, upstream_model="m"))
    told.tell(Head(call="one", endpoint="e", status=503))
    told.close("one", Outcome.UPSTREAM_ERROR, last=False)
    elsewhere = Arrived(**{**_fields(arrived("one", "a")), "endpoint": "f", "attempt": 2})
    assert admitted(told.tell(elsewhere)) == ["one"]
    told.tell(Closed(call="one", endpoint="f", outcome=Outcome.DONE, usage=Usage(input_tokens=100, output_tokens=1)))
    assert told.policy.view("e", told.now).tenants[0].served_tokens == 0.0
    assert told.policy.view("f", told.now).tenants[0].served_tokens == 102.0
    assert (told.policy.view("e", told.now).done, told.policy.view("f", told.now).done) == (1, 1)


def test_an_attempt_whose_end_was_not_told_frees_its_place_when_the_next_arrives() -> None:
    told = Told_()
    told.arrive("one")
    told.arrive("two")
    elsewhere = Arrived(**{**_fields(arrived("one", "a")), "endpoint": "f", "attempt": 2})
    assert sorted(admitted(told.tell(elsewhere))) == ["one", "two"]


def test_the_same_attempt_told_twice_is_ignored_and_counted() -> None:
    told = Told_()
    told.arrive("one")
    assert told.arrive("one") == ()
    assert told.policy.view("e", told.now).submitted == 1


@pytest.mark.parametrize(
    "event",
    [
        Chunk(call="nobody", events=3, bytes=10),
        Head(call="nobody", endpoint="e", status=200),
        ClientGone(call="nobody"),
        Closed(call="nobody", endpoint="e", outcome=Outcome.DONE),
        Closed(call="x", endpoint="e", outcome=Outcome.DONE, parent_call="nobody"),
        Tick(call="nobody"),
        Tick(endpoint="nowhere"),
        AttemptStarted(call="nobody", endpoint="e", attempt=1, upstream_model="m"),
    ],
)
def test_events_about_nobody_ask_nothing(event: Told) -> None:
    assert list(Told_().tell(event)) == []


def test_streamed_tokens_beyond_the_estimate_are_charged_as_they_come() -> None:
    told = Told_()
    told.arrive("one", prompt=100, most=50)
    for _ in range(60):
        told.tell(Chunk(call="one", events=1, bytes=4))
    tenant = told.policy.view("e", told.now).tenants[0]
    assert tenant.served_tokens == 100 + 2 * 60
    assert tenant.outstanding_tokens == 100 + 2 * 60


def test_early_refusal_tells_when_to_come_and_keeps_a_place() -> None:
    """The wait is forecast from what has been measured; who comes when told is let in although newcomers are not."""
    settings = EndpointAdmission(capacity=Capacity(requests_max=1), queued_per_tenant_max=2)
    told = Told_(settings)
    told.arrive("run")
    told.arrive("q1")
    told.arrive("q2")
    [refuse] = told.arrive("late", prompt=321)
    assert type(refuse) is Refuse
    assert refuse.retry_after_ms is not None
    assert "come again in" in refuse.message
    told.close("run")
    told.close("q1")
    [newcomer] = told.arrive("new", prompt=11) or [None]
    told.arrive("new2", prompt=12)
    assert newcomer is None or type(newcomer) is Refuse
    back = told.tell(arrived("late again", "a", prompt=321), after_ms=refuse.retry_after_ms)
    assert not any(type(effect) is Refuse for effect in back)
    assert told.policy._place("e").scheduler.promises.kept == 1


def test_a_deadline_that_cannot_be_kept_is_refused_at_once() -> None:
    told = Told_(EndpointAdmission(capacity=Capacity(requests_max=1)))
    for number in range(30):  # each call takes a second
        told.arrive(f"c{number}", prompt=500, most=10)
        told.tell(
            Closed(call=f"c{number}", endpoint="e", outcome=Outcome.DONE, usage=Usage(input_tokens=500, output_tokens=10)),
            after_ms=1_000,
        )
    told.arrive("running", prompt=500, most=10)
    for number in range(20):
        assert told.arrive(f"q{number}", prompt=500, most=10) == []
    [refuse] = told.arrive("hurried", prompt=500, most=10, deadline_ms=1_000)
    assert type(refuse) is Refuse
    assert refuse.reason == "overloaded"
    assert refuse.retry_after_ms is not None
    assert 10_000 < refuse.retry_after_ms < 90_000
    assert told.arrive("patient", prompt=500, most=10, deadline_ms=120_000) == []
    told_off = Told_(EndpointAdmission(capacity=Capacity(requests_max=1), refuse=False))
    told_off.arrive("running")
    assert told_off.arrive("hurried", deadline_ms=1) == [], "refuse = false: the pipeline ends it at its deadline"


def test_a_call_over_its_tenants_cap_is_refused_for_good() -> None:
    told = Told_(shares={"a": Share(cap_tokens=300)})
    [refuse] = told.arrive("big", prompt=1_000)
    assert type(refuse) is Refuse
    assert (refuse.reason, refuse.retry_after_ms) == ("over_cap", None)


@pytest.mark.parametrize("on_overrun", ["demote", "pause", "cut"])
def test_a_token_budget_of_the_day(on_overrun: str) -> None:
    """After its first call a is past it. b's calls go on; a's go last, wait for the day to end, or are cut."""
    share = Share(budget_tokens_per_day=500, on_overrun=on_overrun)
    told = Told_(EndpointAdmission(capacity=Capacity(requests_max=2)), {"a": share}, day_ends=MonoNs(3_600_000 * NS_PER_MS))
    told.arrive("a1", prompt=600, most=1)
    after = [*told.arrive("a2", prompt=10, most=1)]
    told.arrive("b1", "b")
    if on_overrun == "cut":
        assert [(e.call, e.reason) for e in after if type(e) is Refuse] == [("a2", "token_budget")]
        told.tell(Head(call="a1", endpoint="e", status=200))
        told.close("a1", Outcome.EVICTED)
        [refuse] = told.arrive("a3", prompt=10, most=1)
        assert type(refuse) is Refuse
        assert refuse.retry_after_ms == pytest.approx(3_600_000, abs=100)
    elif on_overrun == "pause":
        assert [type(e) for e in after] == [WaitUntil]
        assert told.policy.view("e", told.now).queued == 1
        told.close("a1", usage=Usage(input_tokens=600, output_tokens=1))
        assert told.policy.view("e", told.now).queued == 1
        assert admitted(told.tell(Tick(endpoint="e"), after_ms=3_600_000)) == ["a2"]
    else:
        assert admitted(after) == ["a2"], "nobody else waits"
        told.arrive("a4", prompt=10, most=1)
        told.arrive("b2", "b")
        assert admitted(told.close("a2", usage=Usage(input_tokens=10, output_tokens=1))) == ["b1"]
        assert admitted(told.close("a1", usage=Usage(input_tokens=600, output_tokens=1))) == ["b2"]
        assert admitted(told.close("b1")) == ["a4"]
        view = {tenant.tenant: tenant for tenant in told.policy.view("e", told.now).tenants}
        assert view["a"].demoted


def test_running_streams_are_cut_when_their_tenants_budget_is_spent_elsewhere() -> None:
    share = Share(budget_tokens_per_day=1_000, on_overrun="cut")
    told = Told_(EndpointAdmission(capacity=Capacity(requests_max=4)), {"a": share}, day_ends=MonoNs(10**15))
    told.arrive("a1", prompt=100, most=10)
    other = Arrived(**{**_fields(arrived("a2", "a", prompt=900, most=10)), "endpoint": "f"})
    effects = told.tell(other)
    assert sorted(e.call for e in effects if type(e) is Refuse) == ["a1", "a2"]
    again = told.tell(Chunk(call="a1", events=1, bytes=4))
    assert list(again) == [], "cut once"


def test_floors_come_first_and_caps_hold() -> None:
    shares = {"floor": Share(floor_tokens=200), "heavy": Share(weight=100.0)}
    told = Told_(EndpointAdmission(capacity=Capacity(requests_max=1)), shares)
    told.arrive("h1", "heavy")
    told.arrive("h2", "heavy")
    told.arrive("f1", "floor", prompt=50, most=10)
    assert admitted(told.close("h1")) == ["f1"]


def test_a_runs_rate_lets_the_next_child_go_by_time_alone() -> None:
    run = RunShare(concurrency_max=8, tokens_per_s=100.0, burst_tokens=100)
    told = Told_(EndpointAdmission(run=run))
    assert admitted(told.arrive("c1", prompt=100, most=50, run="r")) == ["c1"]
    [wait] = told.arrive("c2", prompt=100, most=50, run="r")
    assert type(wait) is WaitUntil
    assert wait.endpoint == "e"
    assert admitted(told.arrive("other", run="s")) == ["other"]
    told.now = wait.at
    assert admitted(told.tell(Tick(endpoint="e"))) == ["c2"]


def test_more_places_than_effects_are_filled_over_several_turns() -> None:
    """A policy's effects per event are bounded: what is over the bound would be lost."""
    told = Told_(ONE)
    told.arrive("first")
    for number in range(300):
        told.arrive(f"c{number}", f"t{number % 7}")
    effects = list(told.policy.reconfigure({}, {}, told.now, default=EndpointAdmission(capacity=Capacity(requests_max=500))))
    seen = admitted(effects)
    for _ in range(20):
        assert len(effects) <= POLICY_EFFECTS_PER_EVENT_MAX
        if not any(type(effect) is WaitUntil for effect in effects):
            break
        effects = list(told.tell(Tick(endpoint="e")))
        seen += admitted(effects)
    assert sorted(seen) == sorted(f"c{number}" for number in range(300))


def test_what_an_engine_says_bounds_what_is_sent() -> None:
    told = Told_(EndpointAdmission(capacity=Capacity(requests_max=64)))
    told.policy.load("e", EngineLoad(slots=2, kv_tokens=1_000), told.now)
    assert [admitted(told.arrive(f"c{n}", prompt=200, most=100)) for n in range(3)] == [["c0"], ["c1"], []]
    view = told.policy.view("e", told.now)
    assert (view.requests_max, view.tokens_max) == (2.0, 1_000.0)
    assert admitted(told.policy.load("e", EngineLoad(slots=3, kv_tokens=1_000), told.now)) == ["c2"]


def test_a_change_of_order_keeps_who_runs_and_who_waits() -> None:
    told = Told_(ONE)
    told.arrive("one")
    told.arrive("long", prompt=900)
    told.arrive("short", prompt=10)
    told.policy.reconfigure({}, {}, told.now, default=EndpointAdmission(policy="shortest", capacity=Capacity(requests_max=1)))
    assert admitted(told.close("one")) == ["short"]
    assert admitted(told.close("short")) == ["long"]


# --- pieces of a long prompt

PACED = EndpointAdmission(
    capacity=Capacity(requests_max=8),
    long=LongLane(prompt_tokens_over=1_000),
    pacing=Pacing(on=True, stall_ms=100.0, prefill_tokens_per_s=1_000.0),
)


def piece_of(effects: Sequence[Effect]) -> SubCall | None:
    found = [effect for effect in effects if type(effect) is SubCall]
    assert len(found) <= 1
    return found[0] if found else None


def test_a_long_prompt_goes_in_pieces_while_small_ones_come_and_pays_its_prompt_once() -> None:
    told = Told_(PACED)
    for number in range(20):  # small traffic, so that pacing has a reason
        told.arrive(f"s{number}", "chat", prompt=20, most=5)
        told.close(f"s{number}", usage=Usage(input_tokens=20, output_tokens=5))
    effects = told.arrive("giant", "papers", prompt=4_000, most=100)
    piece = piece_of(effects)
    assert piece is not None
    assert not admitted(effects)
    assert (piece.call, piece.charge_to, piece.spec.origin, piece.spec.share) == ("giant", "papers", Origin.PIECE, "slot")
    view = told.policy.view("e", told.now)
    assert (view.pacing, view.long_running, view.paced_pieces) == ("on", 1, 1)
    held = pieces = 0
    while piece is not None:
        pieces += 1
        assert piece.spec.upto_tokens is not None
        assert piece.spec.upto_tokens > held
        upto = piece.spec.upto_tokens
        # 30 tokens of the first piece were in the cache before: a system prompt that others share.
        usage = Usage(input_tokens=upto, output_tokens=1, cached_tokens=max(30, held))
        effects = told.tell(
            Closed(call=f"p{pieces}", endpoint="e", outcome=Outcome.DONE, usage=usage, parent_call="giant"),
            after_ms=(upto - held) / 1.0,
        )
        held, piece = upto, piece_of(effects)
    assert admitted(effects) == ["giant"]
    assert pieces > 3
    told.tell(Chunk(call="giant", events=1, bytes=4))
    assert told.policy.view("e", told.now).long_running == 0
    told.close("giant", usage=Usage(input_tokens=4_000, output_tokens=10, cached_tokens=held))
    served = {tenant.tenant: tenant.served_tokens for tenant in told.policy.view("e", told.now).tenants}
    assert served["papers"] == (4_000 - 30) + 2 * 10


def test_nobody_is_paced_where_nobody_small_comes() -> None:
    told = Told_(PACED)
    assert admitted(told.arrive("giant", prompt=4_000)) == ["giant"]
    assert told.policy.view("e", told.now).pacing == "idle"


def test_where_the_engine_shares_its_step_prompts_go_whole() -> None:
    told = Told_(EndpointAdmission(long=LongLane(prompt_tokens_over=1_000, engine_step_share=True), pacing=Pacing(on=True)))
    told.arrive("small", "chat", prompt=20)
    assert admitted(told.arrive("giant", prompt=4_000)) == ["giant"]


def test_a_paced_call_whose_caller_goes_asks_for_no_more_pieces_and_pays_for_those_it_had() -> None:
    told = Told_(PACED)
    for number in range(20):
        told.arrive(f"s{number}", "chat", prompt=20, most=5)
        told.close(f"s{number}", usage=Usage(input_tokens=20, output_tokens=5))
    piece = piece_of(told.arrive("giant", "papers", prompt=4_000))
    assert piece is not None
    assert piece.spec.upto_tokens is not None
    usage = Usage(input_tokens=piece.spec.upto_tokens, output_tokens=1, cached_tokens=0)
    told.tell(Closed(call="p1", endpoint="e", outcome=Outcome.DONE, usage=usage, parent_call="giant"), after_ms=100)
    told.tell(ClientGone(call="giant"))
    late = told.tell(Closed(call="p2", endpoint="e", outcome=Outcome.CLIENT_GONE, parent_call="giant"))
    assert piece_of(late) is None
    told.close("giant", Outcome.CLIENT_GONE)
    view = told.policy.view("e", told.now)
    served = {tenant.tenant: tenant.served_tokens for tenant in view.tenants}
    assert served["papers"] == piece.spec.upto_tokens
    assert view.running == 0


def test_what_is_done_on_a_calls_behalf_is_charged_to_its_tenant() -> None:
    told = Told_()
    told.arrive("one", prompt=100, most=10)
    usage = Usage(input_tokens=50, output_tokens=5)
    told.tell(Closed(call="second", endpoint="e", outcome=Outcome.DONE, usage=usage, parent_call="one"))
    told.close("one", usage=Usage(input_tokens=100, output_tokens=10))
    assert told.policy.view("e", told.now).tenants[0].served_tokens == (100 + 20) + (50 + 10)


# --- hosted


def test_a_hosted_endpoint_lets_through_what_its_provider_has_left() -> None:
    told = Told_(EndpointAdmission(capacity=Capacity(hosted=True)))
    assert admitted(told.arrive("one", prompt=400, most=100)) == ["one"]
    headers = (
        ("x-ratelimit-limit-tokens", "1000"),
        ("x-ratelimit-remaining-tokens", "100"),
        ("x-ratelimit-reset-tokens", "54s"),
    )
    told.tell(Head(call="one", endpoint="e", status=200, headers=headers))
    [wait] = told.arrive("two", "b", prompt=400, most=100)
    assert type(wait) is WaitUntil
    assert wait.at > told.now
    told.now = wait.at
    found = admitted(told.tell(Tick(endpoint="e")))
    for _ in range(5):
        if found:
            break
        found = admitted(told.tell(Tick(endpoint="e"), after_ms=20_000))
    assert found == ["two"]


def _fields(event: Arrived) -> dict[str, object]:
    return {name: getattr(event, name) for name in event.__struct_fields__}
