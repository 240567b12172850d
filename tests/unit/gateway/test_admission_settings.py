"""From headway.toml to admission: every setting arrives, defaults are the same on both sides, presets differ where they must."""

from typing import Any

import msgspec
import pytest
from gateway_engine import Engine, SharedBench, shared_settings

from headway.calls.admission.model import POLICIES, Capacity, EndpointAdmission, LongLane, Pacing, RunShare, Share
from headway.calls.admission.orders import ORDERS
from headway.config import rules
from headway.config.load import parse
from headway.config.model import Admission, AdmissionCapacity, AdmissionLong, AdmissionPacing, AdmissionRun, Provider, Tenant
from headway.config.problems import ConfigProblems
from headway.gateway.admission.settings import admission_of, shares_of

PAIRS: tuple[tuple[type[Any], type[Any]], ...] = (
    (Admission, EndpointAdmission),
    (AdmissionCapacity, Capacity),
    (AdmissionLong, LongLane),
    (AdmissionPacing, Pacing),
    (AdmissionRun, RunShare),
)
BY_PRESET = {"hosted", "requests_max", "on"}
NESTED = {"capacity", "long", "pacing", "run"}
GATEWAY_ONLY = {"priority", "load_every_ms"}


def test_policies_are_those_that_there_are() -> None:
    assert rules.POLICIES == POLICIES
    assert {name for name, _ in ORDERS} == set(POLICIES)


@pytest.mark.parametrize(("told", "meant"), PAIRS)
def test_defaults_are_the_same(told: type[Any], meant: type[Any]) -> None:
    here = {f.name: f.default for f in msgspec.structs.fields(told)}
    there = {f.name: f.default for f in msgspec.structs.fields(meant)}
    assert here.keys() - GATEWAY_ONLY == there.keys()
    skipped = NESTED | GATEWAY_ONLY | (BY_PRESET if told in (AdmissionCapacity, AdmissionPacing) else set())
    assert {k: v for k, v in here.items() if k not in skipped} == {k: v for k, v in there.items() if k not in skipped}


def different(cls: type[Any]) -> Any:
    """An instance in which no field has its default."""
    values: dict[str, object] = {}
    for n, field in enumerate(msgspec.structs.fields(cls)):
        default = field.default
        if field.name in NESTED:
            values[field.name] = different(type(default))
        elif field.name == "policy":
            values[field.name] = "fair"
        elif isinstance(default, bool) or field.name in ("hosted", "on"):
            values[field.name] = not default
        else:
            values[field.name] = 1_000 - n
    return cls(**values)


def test_every_setting_arrives() -> None:
    told = different(Admission)
    meant = admission_of(Provider(preset="ollama", admission=told))
    assert meant is not None
    for source, target in ((told, meant), *((getattr(told, name), getattr(meant, name)) for name in NESTED)):
        for field in msgspec.structs.fields(type(target)):
            if field.name not in NESTED:
                assert getattr(target, field.name) == getattr(source, field.name), field.name


@pytest.mark.parametrize(
    ("preset", "hosted", "paced", "requests_max"),
    [
        ("vllm", False, True, 128),
        ("sglang", False, True, 128),
        ("llama.cpp", False, True, 128),
        ("ollama", False, False, 128),
        ("openai", True, False, 4_096),
        ("anthropic", True, False, 4_096),
    ],
)
def test_presets_differ_where_they_must(preset: str, hosted: bool, paced: bool, requests_max: int) -> None:
    meant = admission_of(Provider(preset=preset, admission=Admission()))
    assert meant is not None
    assert (meant.capacity.hosted, meant.pacing.on, meant.capacity.requests_max) == (hosted, paced, requests_max)


def test_an_engine_with_priorities_is_not_paced() -> None:
    meant = admission_of(Provider(preset="vllm", admission=Admission(priority=True)))
    assert meant is not None
    assert meant.long.engine_step_share


def test_no_table_is_no_admission() -> None:
    assert admission_of(Provider(preset="vllm")) is None


def test_a_budget_that_cuts_is_not_admissions_to_keep() -> None:
    config = shared_settings(
        Admission(),
        cut=Tenant(budget_tokens_per_day=5, weight=2.0, klass="batch", floor_tokens=3, cap_tokens=9),
        soft=Tenant(budget_tokens_per_day=5, on_overrun="demote"),
    )
    shares = shares_of(config)
    assert shares["cut"] == Share(weight=2.0, klass="batch", floor_tokens=3, cap_tokens=9, on_overrun="cut")
    assert (shares["soft"].budget_tokens_per_day, shares["soft"].on_overrun) == (5, "demote")


async def test_a_demoted_tenant_is_served_when_nobody_else_waits() -> None:
    admission = Admission(capacity=AdmissionCapacity(requests_max=1), pacing=AdmissionPacing(on=False))
    config = shared_settings(admission, acme=Tenant(budget_tokens_per_day=20, on_overrun="demote"), globex=Tenant())
    b = SharedBench(Engine(word_s=0.005), config)
    assert (await b.ask("acme", "x" * 400, max_tokens=2)).status == 200
    (view,) = b.admission.views(0)  # type: ignore[arg-type]
    assert view.tenants[0].demoted
    first = b.start("globex", "first", max_tokens=2)
    calls = [b.start(tenant, tenant, max_tokens=2) for _ in range(3) for tenant in ("acme", "globex")]
    for reply in [await first, *[await call for call in calls]]:
        assert reply.status == 200
    assert [s.text for s in b.engine.served][-3:] == ["acme"] * 3


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('policy = "lane"', 5, 'did you mean "lanes"'),
        ("queued_mx = 5", 5, 'did you mean "queued_max"'),
        ("capacity.requests_max = 0", 5, "must lie between 1 and"),
        ("pacing.piece_tokens_min = 500\npacing.piece_tokens_max = 100", 6, "lies under piece_tokens_min"),
        ("pacing.stall = 3", 5, "stall_ms"),
        ('refuse = "no"', 5, "must be true or false"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_line(text: str, line: int, words: str) -> None:
    file = f'[providers.own]\npreset = "vllm"\n\n[providers.own.admission]\n{text}\n'
    with pytest.raises(ConfigProblems) as caught:
        parse(file)
    assert f"headway.toml:{line}" in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("weight = 0", "must lie between 0.001"),
        ("weight = -2", "must lie between 0.001"),
        ("floor_tokens = 10\ncap_tokens = 9", "lies under floor_tokens"),
        ('on_overrun = "demot"', 'did you mean "demote"'),
        ('on_overrun = "pause"', "needs budget_tokens_per_day"),
        ('on_overrun = "pause"\nbudget_tokens_per_day = 5', "needs a provider with an admission table"),
    ],
)
def test_shares_that_cannot_be_meant_are_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigProblems, match=words):
        parse(f'[providers.own]\npreset = "vllm"\n[tenants.acme]\n{text}\n')


def test_an_empty_table_is_enough() -> None:
    loaded = parse('[providers.own]\npreset = "vllm"\n[providers.own.admission]\n')
    assert loaded.settings.providers["own"].admission == Admission()
