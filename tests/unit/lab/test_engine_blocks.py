"""KV blocks and the prefix cache in them, by hand and on Mooncake's hour (data folder, HEADWAY_DATA)."""

import pytest

from headway.lab.engine.blocks import BlockPool, chain_keys, own_key
from headway.lab.traces.mooncake import load_mooncake
from headway.lab.traces.reading import TraceMissing, traces_folder


def held(pool: BlockPool, keys: tuple[int, ...]) -> list[int]:
    """A request that computes and shares ``keys``, found ones first."""
    found = pool.match(keys, len(keys))
    mine = list(keys[:found])
    pool.hold(mine)
    pool.take(len(keys) - found)
    for key in keys[found:]:
        if pool.publish(key):
            mine.append(key)
    pool.give(len(keys) - len(mine))
    return mine


def test_equal_keys_mean_equal_leading_blocks() -> None:
    assert chain_keys((1, 2, 3))[:2] == chain_keys((1, 2, 9))[:2]
    assert chain_keys((1, 2, 3))[2] != chain_keys((1, 9, 3))[2]
    assert chain_keys((7,)) != chain_keys((8,))
    assert len({own_key(order, index) for order in range(100) for index in range(100)}) == 10_000


def test_released_blocks_are_remembered_and_found_from_the_front() -> None:
    pool = BlockPool(4)
    keys = chain_keys((1, 2, 3))
    pool.release(held(pool, keys))
    assert (pool.used, pool.idle, pool.available) == (0, 3, 4)
    assert pool.match(keys, 9) == 3
    assert pool.match(keys, 2) == 2
    assert pool.match(chain_keys((1, 2, 4)), 9) == 2
    assert pool.match(chain_keys((2, 3)), 9) == 0


def test_the_end_of_the_oldest_chain_is_forgotten_first() -> None:
    pool = BlockPool(6)
    old, new = chain_keys((1, 2, 3)), chain_keys((4, 5, 6))
    pool.release(held(pool, old))
    pool.release(held(pool, new))
    pool.take(2)
    assert pool.match(old, 9) == 1
    assert pool.match(new, 9) == 3


def test_what_is_held_is_not_forgotten_and_is_held_twice_when_two_share_it() -> None:
    pool = BlockPool(3)
    keys = chain_keys((1, 2))
    first, second = held(pool, keys), held(pool, keys)
    assert pool.used == 2
    assert pool.available == 1
    pool.release(first)
    assert pool.used == 2
    pool.release(second)
    assert (pool.used, pool.idle) == (0, 2)


def test_a_block_computed_twice_at_once_is_shared_once() -> None:
    pool = BlockPool(4)
    (key,) = chain_keys((1,))
    pool.take(2)
    assert pool.publish(key)
    assert not pool.publish(key)
    assert (pool.private, pool.used) == (1, 2)


def test_holding_idle_blocks_takes_them_out_of_what_can_be_had() -> None:
    pool = BlockPool(3)
    keys = chain_keys((1, 2))
    pool.release(held(pool, keys))
    assert pool.idle_among(keys) == 2
    pool.hold(keys)
    assert pool.idle_among(keys) == 0
    assert pool.available == 1


def test_the_cache_without_a_bound_on_memory_has_one_of_its_own() -> None:
    pool = BlockPool(None, idle_max=10)
    pool.release(held(pool, chain_keys(range(100))))
    assert pool.idle == 10


@pytest.mark.parametrize("misuse", [lambda pool: pool.take(3), lambda pool: pool.give(1)])
def test_invariant_1_is_asserted(misuse) -> None:
    with pytest.raises(AssertionError, match="invariant 1"):
        misuse(BlockPool(2))


@pytest.mark.parametrize(("capacity", "percent"), [(None, 36.6), (50_000, 35.5), (10_000, 21.1), (1_000, 4.4)])
def test_hits_on_mooncake_are_those_of_its_readme(capacity: int | None, percent: float) -> None:
    """README 3. A tenth of a percent apart: we forget a chain from its end."""
    try:
        calls = load_mooncake(traces_folder())
    except TraceMissing as missing:
        pytest.skip(str(missing))
    pool = BlockPool(capacity)
    hits = blocks = 0
    for call in calls:
        keys = chain_keys(call.blocks)
        hits += pool.match(keys, len(keys))
        blocks += len(keys)
        pool.release(held(pool, keys))
    assert 100 * hits / blocks == pytest.approx(percent, abs=0.1)
    assert pool.used == 0
