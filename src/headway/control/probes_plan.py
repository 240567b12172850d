"""Which routes are probed, by the settings and the prices in force; and the body that a probe sends."""

from decimal import Decimal

from headway.calls.phases.probes import ANSWER_TOKENS_MAX, ProbeKind, ProbePlan, prompt
from headway.calls.pricing import PriceTable, find
from headway.config.model import Provider, Settings
from headway.config.presets import price_provider
from headway.kernel.money import nano_usd

MS_PER_S = 1000
_NEW_NAME = frozenset({"openai", "azure"})
"""Presets whose newer models refuse ``max_tokens`` for its newer name."""


def plans(settings: Settings, prices: PriceTable) -> list[ProbePlan]:
    """One for each provider x model, those on the schedule first; a provider without known models has none."""
    found = [
        _plan(settings, prices, name, provider, model)
        for name, provider in settings.providers.items()
        for model in models(settings, name, provider)
    ]
    return sorted(found, key=lambda plan: not plan.on)


def models(settings: Settings, name: str, provider: Provider) -> tuple[str, ...]:
    """Those named for probes, else those that features name there, else those listed; each once."""
    if provider.probes.models:
        return tuple(dict.fromkeys(provider.probes.models))
    targets = [target.partition("/") for feature in settings.features.values() for target in feature.targets]
    named = [model for where, _, model in targets if where == name]
    return tuple(dict.fromkeys(named or provider.models))


def caps(settings: Settings) -> dict[str, int]:
    """Nano-dollars a day: of all together under the empty name, and of providers that have a cap of their own."""
    found = {"": int(nano_usd(Decimal(str(settings.probes.usd_per_day))))}
    for name, provider in settings.providers.items():
        if provider.probes.usd_per_day is not None:
            found[name] = int(nano_usd(Decimal(str(provider.probes.usd_per_day))))
    return found


def body(settings: Settings, route: str, kind: ProbeKind, salt: str, number: int) -> dict[str, object]:
    """A chat call, streamed, with usage at its end."""
    provider = settings.providers.get(route.partition("/")[0])
    most = "max_completion_tokens" if provider is not None and provider.preset in _NEW_NAME else "max_tokens"
    return {
        "model": route,
        "messages": [{"role": "user", "content": prompt(kind, salt, number, settings.probes.long_tokens)}],
        "stream": True,
        "stream_options": {"include_usage": True},
        most: ANSWER_TOKENS_MAX,
    }


def _plan(settings: Settings, prices: PriceTable, name: str, provider: Provider, model: str) -> ProbePlan:
    common, own = settings.probes, provider.probes
    return ProbePlan(
        route=f"{name}/{model}",
        every_ms=(own.every_s if own.every_s is not None else common.every_s) * MS_PER_S,
        long_tokens=common.long_tokens,
        price=find(prices, price_provider(provider), model),
        unpriced=own.unpriced if own.unpriced is not None else common.unpriced,
        cap=name if own.usd_per_day is not None else "",
        on=own.on if own.on is not None else common.on,
    )
