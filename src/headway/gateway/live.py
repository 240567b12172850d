"""A snapshot made ready for use: endpoints, routes, keys, prices and budget scopes of one generation.

Compiled once when it arrives and swapped whole, so that a call sees one generation from its first byte to its last.
"""

import difflib
import re
from dataclasses import dataclass, field
from typing import Final

from headway.calls.conversation import DialectName
from headway.calls.pricing import PriceRow, PriceTable
from headway.config.model import Feature, Provider, Record, Settings, Tenant
from headway.config.presets import Preset, base_urls, dialects_of, endpoint_url, key_headers, preset_of, price_provider
from headway.config.secrets import Secrets
from headway.gateway.caller import Caller
from headway.kernel.errors import ConfigError, Forbidden, Overloaded, UnknownModel
from headway.kernel.instants import NS_PER_S, MonoNs
from headway.kernel.limits import DIRECT_ROUTES_MAX
from headway.ledger.model import KeyRecord
from headway.link.messages import Snapshot

NEAR_NAMES_MAX = 3
NEAR_NAMES_LOOKED_AT_MAX = 500
"""Names compared with an unknown one, features first: a comparison costs tens of microseconds on the loop."""
SECRET_CHARS_SCRUBBED_MIN = 8
URLS_KEPT_MAX = 64
"""Addresses kept ready at an endpoint; those of further paths are built each time."""
SECRET_FRESH_NS = 1 * NS_PER_S
"""How long resolved provider headers are used before their references are looked at again."""
NAME_CHARS_COMPARED_MAX = 200
MODEL_NAME_SAFE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}")
"""What may become part of an upstream URL or header; other names pass in bodies only, where JSON quotes them."""
DEFAULT_TENANT = "default"


@dataclass(slots=True)
class Endpoint:
    """One address of one provider. Headers are resolved here, in the process that sends them."""

    name: str
    provider_name: str
    provider: Provider
    preset: Preset
    base_url: str
    dialects: tuple[DialectName, ...]
    price_provider: str
    _secrets: Secrets
    _headers: tuple[tuple[str, str], ...] = ()
    _headers_until: MonoNs = MonoNs(0)
    _secret_values: tuple[bytes, ...] = ()
    _secret_texts: tuple[str, ...] = ()
    _urls: dict[tuple[str, str], str] = field(default_factory=dict)

    def url(self, path: str, model: str) -> str:
        """Built from configuration. Only Azure's older form holds the model, and then quoted."""
        key = (path, model if self.provider.api_version else "")
        found = self._urls.get(key)
        if found is None:
            found = endpoint_url(self.provider, path, base_url=self.base_url, model=model)
            if not self.provider.api_version and len(self._urls) < URLS_KEPT_MAX:  # ids of files are their callers' choice
                self._urls[key] = found
        return found

    def headers(self, now: MonoNs) -> tuple[tuple[str, str], ...]:
        """Key and fixed headers. Overloaded (503) when a secret cannot be read: the operator's fault, not the caller's."""
        if now >= self._headers_until:
            try:
                own = tuple((n.lower(), self._secrets.resolve_or_literal(v)) for n, v in self.provider.headers.items())
                key = self._secrets.resolve(self.provider.key)
                self._headers = key_headers(self.provider, key) + own
                hidden = (key, *(v for (_, v), told in zip(own, self.provider.headers.values(), strict=True) if v != told))
                self._secret_texts = tuple(v for v in hidden if len(v) >= SECRET_CHARS_SCRUBBED_MIN)
                self._secret_values = tuple(v.encode() for v in self._secret_texts)
            except ConfigError as problem:
                raise Overloaded(f"provider {self.provider_name} cannot be used: {problem}", should_retry=False) from problem
            self._headers_until = MonoNs(now + SECRET_FRESH_NS)
        return self._headers

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """What ``without_secrets`` looks for: one key, as a rule."""
        return self._secret_values

    def without_secrets(self, data: bytes) -> bytes:
        """``data`` without the keys that this endpoint was sent: some providers repeat a wrong one in their refusal."""
        for value in self._secret_values:
            if value in data:
                data = data.replace(value, b"[redacted]")
        return data

    @property
    def secret_texts(self) -> tuple[str, ...]:
        return self._secret_texts

    def text_without_secrets(self, text: str) -> str:
        for value in self._secret_texts:
            if value in text:
                text = text.replace(value, "[redacted]")
        return text


@dataclass(slots=True, frozen=True)
class Target:
    endpoint: Endpoint
    model: str
    name: str = field(init=False)
    """provider/model, as answers and facts tell it."""
    name_bytes: bytes = field(init=False)
    """The same as a header's value."""

    def __post_init__(self) -> None:
        name = f"{self.endpoint.provider_name}/{self.model}"
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "name_bytes", name.encode("ascii", "replace"))


@dataclass(slots=True)
class Route:
    """What a model name in a call means. ``turn`` spreads calls over the replicas of the first provider."""

    feature: str
    groups: tuple[tuple[Target, ...], ...]
    """In order of service; within a group replicas of one engine."""
    deadline_ms: int | None = None
    max_output_tokens: int | None = None
    strict: bool = False
    record: Record = Record()
    turn: int = 0
    _alone: tuple[Target, ...] | None = field(init=False)
    """All targets where no group has replicas to choose among."""

    def __post_init__(self) -> None:
        self._alone = tuple([group[0] for group in self.groups]) if all(len(group) == 1 for group in self.groups) else None

    def targets(self) -> tuple[Target, ...]:
        """All targets in order, each group begun one further than the last time."""
        if self._alone is not None:
            return self._alone
        self.turn += 1
        return tuple(t for g in self.groups for t in (g[self.turn % len(g) :] + g[: self.turn % len(g)]))


class Live:
    """One generation, ready. ``listed`` is what providers said they can call; it grows as they are asked."""

    def __init__(self, snapshot: Snapshot, secrets: Secrets, listed: dict[str, tuple[str, ...]]) -> None:
        self.snapshot = snapshot
        self.generation = snapshot.generation
        self.generation_bytes = str(snapshot.generation).encode()
        self.made_wall_ms = snapshot.made_wall_ms
        self.settings: Settings = snapshot.settings
        self.prices: PriceTable = snapshot.prices
        self.keys: dict[str, KeyRecord] = {k.id: k for k in snapshot.keys}
        self.probe_key = snapshot.probe_key
        self.scopes = frozenset(b.scope for b in snapshot.budgets)
        self.listed = listed
        self.endpoints: dict[str, tuple[Endpoint, ...]] = {
            name: _endpoints(name, provider, secrets) for name, provider in self.settings.providers.items()
        }
        self._routes: dict[str, Route] = {name: self._feature_route(name, f) for name, f in self.settings.features.items()}
        self._direct: dict[str, Route] = {}
        self.callers: dict[str, tuple[KeyRecord, Caller]] = {}
        """Who each key that has called is, beside the record it was made from."""
        self.price_rows: dict[tuple[str, str], PriceRow | None] = {}

    def tenant(self, name: str) -> Tenant:
        return self.settings.tenants.get(name) or _DEFAULT_TENANT

    def route(self, model: str, *confined: tuple[str, ...]) -> Route:
        """A feature, else ``provider/model``, else a bare name that a provider lists. UnknownModel names what is near.

        ``confined``: features that the caller is confined to, empty for none; names outside are no business of that caller.
        """
        found = self._routes.get(model) or self._direct.get(model)
        if found is not None:
            return found
        target = self._direct_target(model)
        if target is None:
            near = self._near(model, [names for names in confined if names])
            raise UnknownModel(
                f"no model named {model[:200]!r}"
                + (f"; near: {', '.join(near)}" if near else "; GET /v1/models lists what can be called"),
                param="model",
            )
        route = Route(feature="", groups=(target,))
        if len(self._direct) < DIRECT_ROUTES_MAX:
            self._direct[model] = route
        return route

    def check_allowed(self, model: str, route: Route, tenant: Tenant, key_features: tuple[str, ...]) -> None:
        """Forbidden when the tenant or the key is confined to features and this is none of them."""
        for who, allowed in (("this key", key_features), ("this tenant", tenant.features)):
            if allowed and route.feature not in allowed:
                raise Forbidden(f"{who} may not call {model[:200]!r}; it may call {', '.join(allowed)}", param="model")

    def callable_names(self) -> list[str]:
        """Features, then ``provider/model`` of everything listed or configured."""
        direct = (
            f"{name}/{model}"
            for name, provider in self.settings.providers.items()
            for model in provider.models or self.listed.get(name, ())
        )
        return [*self._routes, *direct]

    def _near(self, model: str, confined: list[tuple[str, ...]]) -> list[str]:
        if len(model) > NAME_CHARS_COMPARED_MAX:
            return []
        names = [n for n in self.callable_names() if abs(len(n) - len(model)) <= len(model) and all(n in c for c in confined)]
        return difflib.get_close_matches(model, names[:NEAR_NAMES_LOOKED_AT_MAX], NEAR_NAMES_MAX)

    def _feature_route(self, name: str, feature: Feature) -> Route:
        groups = []
        for target in feature.targets:
            provider, _, model = target.partition("/")
            if provider in self.endpoints:
                groups.append(tuple(Target(e, model) for e in self.endpoints[provider]))
        return Route(
            feature=name,
            groups=tuple(groups),
            deadline_ms=feature.deadline_ms,
            max_output_tokens=feature.max_output_tokens,
            strict=feature.strict,
            record=feature.record,
        )

    def _direct_target(self, model: str) -> tuple[Target, ...] | None:
        provider, slash, rest = model.partition("/")
        if slash and rest and provider in self.endpoints and MODEL_NAME_SAFE.fullmatch(rest):
            return tuple(Target(e, rest) for e in self.endpoints[provider])
        for name, settings in self.settings.providers.items():
            if model in settings.models or model in self.listed.get(name, ()):
                return tuple(Target(e, model) for e in self.endpoints[name])
        return None


_DEFAULT_TENANT = Tenant()


def _endpoints(name: str, provider: Provider, secrets: Secrets) -> tuple[Endpoint, ...]:
    urls = base_urls(provider)
    return tuple(
        Endpoint(
            name=name if len(urls) == 1 else f"{name}#{i}",
            provider_name=name,
            provider=provider,
            preset=preset_of(provider),
            base_url=url,
            dialects=tuple(DialectName(d) for d in dialects_of(provider)),
            price_provider=price_provider(provider),
            _secrets=secrets,
        )
        for i, url in enumerate(urls)
    )
