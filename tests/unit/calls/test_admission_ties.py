"""Who goes first at equal counters: a tenant that has just come back, not the one whose backlog is older."""

import pytest

from headway.calls.admission.model import Capacity, EndpointAdmission
from headway.calls.admission.scheduler import Refused, Scheduler, Used
from headway.calls.conversation import DialectName
from headway.calls.model import Arrived
from headway.kernel.instants import MonoNs


def arrived(call: str, tenant: str) -> Arrived:
    return Arrived(
        call=call,
        endpoint="gpu",
        tenant=tenant,
        klass="interactive",
        feature="",
        dialect=DialectName.OPENAI_CHAT,
        prompt_tokens_estimate=100,
        prompt_tokens_error=0.0,
        output_tokens_max=50,
        deadline_remaining_ms=None,
    )


class Desk:
    """One place at a time; what it sends takes exactly what was estimated."""

    def __init__(self, policy: str) -> None:
        self.scheduler = Scheduler(EndpointAdmission(policy=policy, capacity=Capacity(requests_max=1)))
        self.now = 0

    def come(self, *calls: str) -> None:
        for call in calls:
            self.now += 1
            answer = self.scheduler.arrive(arrived(call, call[0]), MonoNs(self.now))
            assert answer is not None
            assert not isinstance(answer, Refused)

    def serve(self) -> str:
        self.now += 1
        call = self.scheduler.pick(MonoNs(self.now))
        assert call is not None
        self.now += 1
        self.scheduler.close(call.id, MonoNs(self.now), Used(input_tokens=100, output_tokens=50, cached_tokens=0))
        return call.id


@pytest.mark.parametrize("policy", ["fair", "lanes"])
class TestAtEqualCounters:
    def test_who_comes_back_goes_before_the_older_backlog(self, policy: str) -> None:
        desk = Desk(policy)
        desk.come("h1", "h2", "h3", "h4")
        assert desk.serve() == "h1"
        desk.come("a1")
        assert [desk.serve() for _ in range(4)] == ["a1", "h2", "h3", "h4"]

    def test_it_is_one_call_each_however_many_it_brings(self, policy: str) -> None:
        desk = Desk(policy)
        desk.come("h1", "h2", "h3", "h4")
        assert desk.serve() == "h1"
        desk.come("a1", "a2", "a3")
        assert [desk.serve() for _ in range(6)] == ["a1", "h2", "h3", "a2", "h4", "a3"]

    def test_those_who_came_back_go_by_arrival(self, policy: str) -> None:
        desk = Desk(policy)
        desk.come("h1", "h2", "h3")
        assert desk.serve() == "h1"
        desk.come("a1", "b1", "c1")
        assert [desk.serve() for _ in range(5)] == ["a1", "b1", "c1", "h2", "h3"]

    def test_coming_back_again_and_again_takes_no_more_than_every_other_turn(self, policy: str) -> None:
        desk = Desk(policy)
        desk.come(*(f"h{n}" for n in range(10)))
        desk.serve()
        served = []
        for n in range(6):
            desk.come(f"a{n}")
            served += [desk.serve(), desk.serve()]
        assert [call[0] for call in served] == ["a", "h"] * 6
