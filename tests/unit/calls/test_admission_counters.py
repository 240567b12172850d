"""Counters that several gateways keep together, against a store as the port describes it."""

from hypothesis import given
from hypothesis import strategies as st

from headway.calls.admission.counters import SharedCounters

TENANTS = ("a", "b", "c")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("charge"), st.integers(0, 1), st.sampled_from(TENANTS), st.integers(-50, 200)),
        st.tuples(st.just("tell"), st.integers(0, 1), st.just(""), st.integers(1, 3)),
    ),
    max_size=40,
)


class Store:
    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def reconcile(self, gateway: SharedCounters, most: int, cursor: int) -> int:
        words, cursor = gateway.telling(most, cursor)
        for tenant, (value, least, delta) in words.items():
            known = self.values.get(tenant, value)
            self.values[tenant] = (known if least is None else max(known, least)) + delta
        gateway.merge({tenant: self.values[tenant] for tenant in words})
        return cursor


@given(STEPS)
def test_charges_are_neither_lost_nor_doubled(steps: list[tuple[str, int, str, int]]) -> None:
    store, gateways, cursors = Store(), [SharedCounters(), SharedCounters()], [0, 0]
    charged = dict.fromkeys(TENANTS, 0.0)
    for what, which, tenant, number in steps:
        if what == "charge":
            gateways[which].charge(tenant, float(number))
            charged[tenant] += number
        else:
            cursors[which] = store.reconcile(gateways[which], number, cursors[which])
    for _ in range(4):
        cursors = [store.reconcile(gateway, 9, at) for gateway, at in zip(gateways, cursors, strict=True)]
    for gateway in gateways:
        for tenant in store.values:
            if tenant in gateway.telling(9, 0)[0]:
                assert gateway.read(tenant) == store.values[tenant] == charged[tenant]


def test_a_lift_raises_the_store_before_what_was_charged_since() -> None:
    store, one, other = Store(), SharedCounters(), SharedCounters()
    other.charge("a", 10.0)
    store.reconcile(other, 9, 0)
    assert one.lift("a", 100.0) == 100.0
    one.charge("a", 5.0)
    assert one.lift("a", 50.0) == 105.0, "it stands higher already"
    store.reconcile(one, 9, 0)
    assert store.values["a"] == one.read("a") == 105.0


def test_what_has_news_is_not_forgotten() -> None:
    one = SharedCounters()
    one.charge("a", 5.0)
    one.forget("a")
    assert one.read("a") == 5.0
    one.telling(9, 0)
    one.forget("a")
    assert one.read("a") == 0.0
