"""What a name means, what the last snapshot on disk is worth, and that a prompt's upper bound is one."""

import asyncio
import os
import stat
import time
from pathlib import Path

import msgspec
import pytest
from gateway_bench import key_record, settings
from hypothesis import given
from hypothesis import strategies as st

from headway.calls.pricing import PriceTable
from headway.config.model import Feature, Provider, Tenant
from headway.config.secrets import Secrets
from headway.gateway import snapshot as snapshots
from headway.gateway.estimate import MODELS_LEARNT_MAX, SEEN_BEFORE_TIGHTENING, UPPER_MARGIN, Estimator, prefix_hashes
from headway.gateway.live import Live
from headway.kernel.errors import Forbidden, UnknownModel
from headway.kernel.limits import PREFIX_HASHES_MAX
from headway.link.messages import Snapshot


def snapshot(generation: int = 1) -> Snapshot:
    base = settings(
        m1=Feature(targets=("two/m2",)), wide=Feature(targets=("many/big", "one/m1")), orphan=Feature(targets=("gone/x",))
    )
    more = {
        "many": Provider(preset="vllm", base_urls=("http://a.test", "http://b.test", "http://c.test"), models=("big", "org/name")),
        "asks": Provider(preset="vllm", base_url="http://asks.test"),
    }
    return Snapshot(
        generation=generation,
        made_wall_ms=1,
        settings=msgspec.structs.replace(base, providers=base.providers | more),
        keys=(key_record(),),
        prices=PriceTable(version="v"),
    )


def live(listed: dict[str, tuple[str, ...]] | None = None) -> Live:
    return Live(snapshot(), Secrets({}), listed if listed is not None else {})


@pytest.mark.parametrize(
    ("name", "feature", "target"),
    [
        ("chat", "chat", "one/m1"),
        ("m1", "m1", "two/m2"),  # a feature beats the model of that name
        ("one/m1", "", "one/m1"),
        ("one/never-listed", "", "one/never-listed"),
        ("many/org/name", "", "many/org/name"),
        ("m2", "", "two/m2"),
        ("org/name", "", "many/org/name"),  # a listed name with a slash whose first part is no provider
        ("learnt", "", "asks/learnt"),
    ],
)
def test_a_name_is_a_feature_else_a_provider_and_model_else_a_listed_model(name: str, feature: str, target: str) -> None:
    route = live({"asks": ("learnt",)}).route(name)
    assert (route.feature, route.targets()[0].name) == (feature, target)


@pytest.mark.parametrize(
    "name",
    [
        "nope",
        "",
        "/",
        "one/",
        "/m1",
        "gone/x",
        "one/../x",
        "one/a b",
        "one/a#b",
        "one/a?b",
        "one/%2e",
        "one/" + "x" * 300,
        "ONE/m1",
        "one/\n",
    ],
)
def test_other_names_are_unknown_and_none_becomes_part_of_an_address(name: str) -> None:
    with pytest.raises(UnknownModel):
        live().route(name)


def test_near_names_are_named_and_a_huge_one_costs_nothing() -> None:
    with pytest.raises(UnknownModel, match="near: chat"):
        live().route("chatt")
    many = live({"asks": tuple(f"model-{i:05d}" for i in range(2_000))})
    start = time.perf_counter()
    for name in ("x" * 1_000_000, "modle-00001", "m" * 200):
        with pytest.raises(UnknownModel) as refused:
            many.route(name)
        assert len(refused.value.message) < 500
    assert time.perf_counter() - start < 0.5


def test_replicas_take_turns_and_all_are_fallbacks() -> None:
    route = live().route("wide")
    firsts = [route.targets() for _ in range(6)]
    assert sorted(t[0].endpoint.base_url for t in firsts) == sorted(["http://a.test", "http://b.test", "http://c.test"] * 2)
    for targets in firsts:
        assert [t.name for t in targets] == ["many/big"] * 3 + ["one/m1"]
        assert len({t.endpoint.name for t in targets}) == 4


def test_a_feature_without_a_configured_target_is_a_route_to_nowhere() -> None:
    assert live().route("orphan").targets() == ()


def test_who_is_confined_may_call_that_and_nothing_beside_it() -> None:
    there = live()
    confined = Tenant(features=("chat", "pair"))
    there.check_allowed("chat", there.route("chat"), confined, ())
    there.check_allowed("chat", there.route("chat"), confined, ("chat",))
    for name, key_features in (("abroad", ()), ("one/m1", ()), ("m2", ()), ("pair", ("chat",))):
        with pytest.raises(Forbidden):
            there.check_allowed(name, there.route(name), confined, key_features)


# --- the snapshot on disk


def test_a_snapshot_is_kept_private_and_read_back_equal(tmp_path: Path) -> None:
    path = tmp_path / "gateway-snapshot.msgpack"
    assert snapshots.load(path) is None
    before = os.umask(0)
    try:
        snapshots.save(path, snapshot())
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert snapshots.load(path) == snapshot()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("keep", [0, 1, 10, -1])
def test_a_torn_snapshot_is_said_to_be_and_never_half_used(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "s"
    snapshots.save(path, snapshot())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(snapshots.SnapshotUnusable):
        snapshots.load(path)
    path.write_bytes(msgspec.msgpack.encode({"m": "snapshot", "generation": "x"}))
    with pytest.raises(snapshots.SnapshotUnusable):
        snapshots.load(path)


async def test_of_many_snapshots_the_last_is_on_disk_and_none_is_torn(tmp_path: Path) -> None:
    heard: list[OSError | None] = []
    path = tmp_path / "s"
    saver = snapshots.Saver(path, heard.append)
    for generation in range(1, 40):
        saver.keep(snapshot(generation))
        if not generation % 7:
            await asyncio.sleep(0.002)
            if path.exists():
                assert snapshots.load(path) is not None
    await saver.close()
    last = snapshots.load(path)
    assert last is not None
    assert last.generation == 39
    assert set(heard) == {None}
    assert len(heard) < 39, "those that were overtaken are not written"


async def test_a_disk_that_refuses_is_told_and_tried_again_with_the_next(tmp_path: Path) -> None:
    heard: list[OSError | None] = []
    saver = snapshots.Saver(tmp_path / "missing" / "s", heard.append)
    saver.keep(snapshot())
    await saver.close()
    assert isinstance(heard[0], OSError)
    (tmp_path / "missing").mkdir()
    saver.keep(snapshot())
    await saver.close()
    assert heard[-1] is None


def test_the_grace_counts_from_when_control_last_stood_behind_it(tmp_path: Path) -> None:
    path = tmp_path / "s"
    assert snapshots.unconfirmed_s(path) == 0
    snapshots.confirm(path)
    snapshots.save(path, snapshot())
    os.utime(path, (time.time() - 3_600, time.time() - 3_600))
    assert 3_590 < snapshots.unconfirmed_s(path) < 3_610
    snapshots.confirm(path)
    assert snapshots.unconfirmed_s(path) < 10


# --- estimates


@given(st.integers(0, 10**7), st.data())
def test_a_byte_level_tokenizer_never_exceeds_the_upper_bound_before_anything_is_learnt(
    prompt_bytes: int, data: st.DataObject
) -> None:
    tokens = data.draw(st.integers(0, prompt_bytes))
    assert Estimator().upper("m", prompt_bytes) >= tokens


@given(
    st.lists(st.tuples(st.integers(400, 10**6), st.floats(1.0, 12.0)), min_size=1, max_size=40),
    st.integers(0, 10**6),
    st.floats(0.0, 1.0),
)
def test_nor_after_learning_while_ratios_stay_within_the_margin(
    seen: list[tuple[int, float]], prompt_bytes: int, denser: float
) -> None:
    estimator = Estimator()
    for size, ratio in seen:
        estimator.learn("m", size, max(1, int(size / ratio)))
    learnt = estimator.learnt("m")
    smallest = learnt.smallest if learnt.n >= SEEN_BEFORE_TIGHTENING else 1.0
    floor = max(1.0, smallest * UPPER_MARGIN)
    ratio = floor + (max(smallest, 1.0) - floor) * denser
    assert estimator.upper("m", prompt_bytes) >= int(prompt_bytes / ratio)


def test_what_is_learnt_is_near_and_knows_its_error() -> None:
    estimator = Estimator()
    for _ in range(50):
        estimator.learn("m", 3_000, 1_000)
    assert estimator.tokens("m", 3_000) in range(990, 1_012)
    assert estimator.learnt("m").error < 0.05
    estimator.learn("m", 10, 10)
    assert estimator.learnt("m").n == 50, "short prompts teach nothing"


def test_asking_about_models_never_pushes_out_what_was_learnt() -> None:
    estimator = Estimator()
    estimator.learn("real", 3_000, 1_000)
    for i in range(2 * MODELS_LEARNT_MAX):
        estimator.tokens(f"made-up-{i}", 100)
        estimator.upper(f"made-up-{i}", 100)
    assert estimator.learnt("real").n == 1
    for i in range(MODELS_LEARNT_MAX):
        estimator.learn(f"m{i}", 3_000, 1_000)
    assert estimator.learnt("real").n == 0
    assert len(estimator._models) == MODELS_LEARNT_MAX


@given(st.binary(max_size=200_000), st.binary(max_size=2_000))
def test_prompts_share_as_many_hashes_as_they_share_blocks(common: bytes, rest: bytes) -> None:
    first, second = prefix_hashes(common), prefix_hashes(common + rest)
    assert second[: len(first)] == first
    assert len(second) <= PREFIX_HASHES_MAX
