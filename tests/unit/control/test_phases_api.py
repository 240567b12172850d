"""``/api/v1/phases``: verdicts over HTTP, what is refused, and what one tenant may see."""

from typing import Any

from phase_calls import START_MS, STEP_MS, Target

from headway.calls.phases.prefix_change import Prompt
from headway.facts.phases import Read
from headway.kernel.ids import new_id
from headway.kernel.instants import WallMs
from headway.ledger.model import Role

CALL = new_id("call", WallMs(1_790_000_000_000 - 10_000))


def read(target: Target, count: int) -> Read:
    seen = tuple(target.calls(count))
    return Read(seen=seen, prompts=tuple(Prompt(call=s.call, at_ms=s.at_ms, target="p/m", tenant=s.tenant) for s in seen))


async def test_a_call_is_told_with_its_verdict(world: Any) -> None:
    target = Target(1)
    before = read(target, 60)
    slow = target.call(queue_ms=900.0, tenant="acme")
    world.engine.answers = [(slow, before), (slow, before)]
    answer = await (await world.bearer(Role.VIEWER)).get(f"/api/v1/phases/calls/{CALL}")
    assert answer.status_code == 200
    told = answer.json()
    assert told["verdict"]["cause"] == "own_queue"
    assert told["verdict"]["evidence"][0]["unit"] == "ms"
    assert sum(told["split"]["parts_ms"].values()) == told["split"]["duration_ms"]
    other = await (await world.bearer(Role.VIEWER, tenant="bolt")).get(f"/api/v1/phases/calls/{CALL}")
    assert other.status_code == 404


async def test_a_window_is_told_with_its_causes(world: Any) -> None:
    since_ms = 1_790_000_000_000 - 400_000
    target = Target(2)
    target.n = (since_ms - START_MS) // STEP_MS - 100
    before = read(target, 100)
    after = tuple(target.calls(80, queue_ms=900.0))
    prompts = tuple(Prompt(call=s.call, at_ms=s.at_ms, target="p/m", tenant=s.tenant) for s in after)
    world.engine.answers = [Read(seen=before.seen + after, prompts=before.prompts + prompts)]
    answer = await (await world.bearer(Role.VIEWER)).get("/api/v1/phases/since", params={"since": str(since_ms)})
    assert answer.status_code == 200
    report = answer.json()["report"]
    assert report["parts"][0]["cause"] == "own_queue"
    assert (report["n_before"], report["n_after"]) == (100, 80)


async def test_what_cannot_be_told_is_refused(world: Any) -> None:
    client = await world.bearer(Role.VIEWER)
    for path, status in (
        ("calls/nonsense", 404),
        (f"calls/{CALL}", 503),
        ("since?since=soon", 400),
        ("since?since=1", 400),
        ("since?since=2099-01-01", 400),
        ("since?since=1789999990000", 503),
    ):
        assert (await client.get(f"/api/v1/phases/{path}")).status_code == status, path
    assert (await world.client().get(f"/api/v1/phases/calls/{CALL}")).status_code == 401
