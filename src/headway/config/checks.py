"""What must agree between settings: targets with providers, tenants with features, addresses with each other, secrets with references."""

import re
from decimal import Decimal, InvalidOperation
from typing import Final
from urllib.parse import urlsplit

import msgspec

from headway.config.addresses import EVERY_HOST, parse_listen
from headway.config.deadlines import check_header, check_timeouts
from headway.config.decode import Report
from headway.config.locate import Path
from headway.config.model import Admission, Provider, Settings, Tenant
from headway.config.presets import DIALECTS, PRESETS
from headway.config.problems import did_you_mean, nearest, shown
from headway.config.rules import (
    BUDGET_USD_MAX,
    BUDGETS_USD,
    CLASSES,
    FACT_STORES,
    HEADERS_OWNED,
    ON_OVERRUN,
    POLICIES,
    REDACTIONS,
    UPSTREAM_CLIENTS,
)
from headway.config.secrets import is_reference, looks_secret
from headway.kernel import limits

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*")
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_REGION: Final = re.compile(r"[A-Za-z0-9._-]*")
_SCHEMA: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_POSTGRES: Final = ("postgresql://", "postgresql+psycopg://")
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_REFERENCE_FIX: Final = "write env:NAME or file:PATH; a key in a file ends up in backups"


def check(settings: Settings, report: Report, warn: Report) -> None:
    """Report whatever cannot work; warn of what works and is probably not meant."""
    _names(settings, report)
    _listeners(settings, report)
    _control(settings, report)
    _facts(settings, report)
    _probes(settings, report)
    for name, provider in settings.providers.items():
        _provider(("providers", name), provider, report, warn)
    _features(settings, report)
    check_timeouts(settings, warn)
    for name, tenant in settings.tenants.items():
        _tenant(("tenants", name), tenant, settings, report)
    for name in settings.classes:
        _word(("classes", name), name, CLASSES, "class", "classes", report)


def _names(settings: Settings, report: Report) -> None:
    for table in ("providers", "features", "tenants"):
        for name in getattr(settings, table):
            if not _NAME.fullmatch(name):
                report(
                    (table, name),
                    "is not a name",
                    "letters, digits and . _ : - only, and no slash: it stands in addresses and labels",
                )
            elif len(name) > limits.CONFIG_NAME_CHARS_MAX:
                report((table, name), f"is longer than {limits.CONFIG_NAME_CHARS_MAX} characters", "")


def _listeners(settings: Settings, report: Report) -> None:
    taken: dict[int, tuple[str, str]] = {}
    for table, listen in (("gateway", settings.gateway.listen), ("control", settings.control.listen)):
        try:
            host, port = parse_listen(listen)
        except ValueError as error:
            report((table, "listen"), f"{shown(listen)} {error}", "")
            continue
        other = taken.setdefault(port, (table, host))
        if port and other[0] != table and _overlap(other[1], host):
            report((table, "listen"), f"{shown(listen)} is the port that {other[0]}.listen has", "give one of them another port")


def _overlap(one: str, other: str) -> bool:
    return one == other or one in EVERY_HOST or other in EVERY_HOST


def _control(settings: Settings, report: Report) -> None:
    control, gateway = settings.control, settings.gateway
    for path, reference in ((("control", "link_token"), control.link_token), (("gateway", "link_token"), gateway.link_token)):
        _reference(path, reference, report)
    if gateway.upstream_client not in UPSTREAM_CLIENTS:
        hint = did_you_mean(gateway.upstream_client, UPSTREAM_CLIENTS)
        report(
            ("gateway", "upstream_client"),
            f"{shown(gateway.upstream_client)} is not a client{hint}",
            "clients: " + ", ".join(UPSTREAM_CLIENTS),
        )
    if gateway.control and not gateway.control.startswith(("unix:", "tls://")):
        report(("gateway", "control"), f"{shown(gateway.control)} is neither unix:PATH nor tls://host:port", "")
    if gateway.control.startswith("tls://"):
        _tls(("gateway", "control"), gateway.control, gateway.link_token, report)
    if control.link_listen:
        if not control.link_listen.startswith("tls://"):
            report(("control", "link_listen"), f"{shown(control.link_listen)} is not tls://host:port", "")
        else:
            _tls(("control", "link_listen"), control.link_listen, control.link_token, report)
        for key in ("link_certificate", "link_key"):
            if not getattr(control, key):
                report(("control", "link_listen"), f"needs control.{key}", "name a PEM file")
    if control.otlp_endpoint:
        _url(("control", "otlp_endpoint"), control.otlp_endpoint, report)
    _store(control.store, report)


def _facts(settings: Settings, report: Report) -> None:
    facts = settings.facts
    _word(("facts", "store"), facts.store, FACT_STORES, "store", "stores", report)
    for key in ("s3_key", "s3_secret"):
        _reference(("facts", key), getattr(facts, key), report)
    if bool(facts.s3_key) != bool(facts.s3_secret):
        missing = "s3_secret" if facts.s3_key else "s3_key"
        report(("facts", missing), "is missing", "an access key has an id and a secret")
    if facts.s3_endpoint:
        _url(("facts", "s3_endpoint"), facts.s3_endpoint, report)
    if facts.store != "ducklake":
        return
    if not _SCHEMA.fullmatch(facts.catalog_schema):
        report(
            ("facts", "catalog_schema"),
            f"{shown(facts.catalog_schema)} is not the name of a schema",
            "lower-case letters, digits and _",
        )
    if not facts.data.startswith(("s3://", "/")) or len(facts.data) < len("s3://b"):
        report(
            ("facts", "data"),
            f"{shown(facts.data)} is neither s3://BUCKET/PREFIX nor an absolute path",
            "where the Parquet files go",
        )
    catalog, where = (facts.catalog, "facts.catalog") if facts.catalog else (settings.control.store, "control.store")
    if not is_reference(catalog) and not catalog.startswith(_POSTGRES):
        report(("facts", "store"), f"DuckLake keeps its catalog in Postgres, and {where} names none", "postgresql://USER@HOST/NAME")
    if facts.catalog:
        _store(facts.catalog, report, ("facts", "catalog"))


def _probes(settings: Settings, report: Report) -> None:
    probes = settings.probes
    if not _NAME.fullmatch(probes.tenant):
        report(("probes", "tenant"), f"{shown(probes.tenant)} is not a name", "letters, digits and . _ : - only")
    tenant = settings.tenants.get(probes.tenant)
    if tenant is not None and tenant.features:
        report(
            ("probes", "tenant"), f"{shown(probes.tenant)} may call some features only", "probes name provider/model: use another"
        )
    if probes.gateway:
        _url(("probes", "gateway"), probes.gateway, report)
    caps: list[tuple[Path, float | str]] = [(("probes", "usd_per_day"), probes.usd_per_day)]
    for name, provider in settings.providers.items():
        if provider.probes.usd_per_day is not None:
            caps.append((("providers", name, "probes", "usd_per_day"), provider.probes.usd_per_day))
        for index, model in enumerate(provider.probes.models):
            if provider.models and model not in provider.models:
                place = ("providers", name, "probes", "models", index)
                report(place, f"{shown(model)} is not a model of provider {name}{did_you_mean(model, provider.models)}", "")
    for path, amount in caps:
        if not _is_money(amount):
            report(path, f"{shown(amount)} is not an amount of dollars", 'e.g. 2 or "0.25"')


def _tls(path: Path, address: str, token: str, report: Report) -> None:
    try:
        parse_listen(address.removeprefix("tls://"))
    except ValueError as error:
        report(path, f"{shown(address)} {error}", "")
    if not token:
        report(path, f"needs {path[0]}.link_token", "both sides refer to the same secret, e.g. env:HEADWAY_LINK_TOKEN")


def _store(store: str, report: Report, path: Path = ("control", "store")) -> None:
    if not store or is_reference(store):
        return
    parts = urlsplit(store)
    if parts.password:
        report(path, "holds a password", "put the whole address behind env:NAME or file:PATH")
    elif parts.scheme.partition("+")[0] not in ("sqlite", "postgresql"):
        report(path, f"{shown(store)} is neither sqlite:///PATH nor postgresql://…", "")


def _provider(path: Path, provider: Provider, report: Report, warn: Report) -> None:
    preset = PRESETS.get(provider.preset)
    if preset is None:
        report(
            (*path, "preset"),
            f"{shown(provider.preset)} is not a preset{did_you_mean(provider.preset, PRESETS)}",
            "presets: " + ", ".join(PRESETS),
        )
    if provider.dialect and provider.dialect not in DIALECTS:
        report(
            (*path, "dialect"),
            f"{shown(provider.dialect)} is not a dialect{did_you_mean(provider.dialect, DIALECTS)}",
            "dialects: " + ", ".join(DIALECTS),
        )
    _reference((*path, "key"), provider.key, report)
    _headers(path, provider, report)
    _addresses(path, provider, report, warn)
    check_header(path, provider, report)
    if not _REGION.fullmatch(provider.region):
        report((*path, "region"), f"{shown(provider.region)} is not a region's name", "letters, digits, dots and dashes")
    if provider.admission is not None:
        _admission((*path, "admission"), provider.admission, report)
    timeouts = provider.timeouts
    if timeouts.total_ms < max(timeouts.connect_ms, timeouts.first_byte_ms):
        report((*path, "timeouts"), "has a total_ms below connect_ms or first_byte_ms, which could then never apply", "")
    if preset is not None and preset.key_needed and not provider.key and not _has_key_header(provider):
        warn(
            (*path, "key"),
            f"is not set; {preset.name} refuses calls without one",
            f'e.g. key = "env:{preset.key_env or "AZURE_OPENAI_API_KEY"}"',
        )


def _has_key_header(provider: Provider) -> bool:
    return any(name.lower() in ("authorization", "x-api-key", "api-key") for name in provider.headers)


def _addresses(path: Path, provider: Provider, report: Report, warn: Report) -> None:
    if provider.base_url and provider.base_urls:
        report((*path, "base_urls"), "and base_url are both set", "keep base_urls for replicas, base_url for one address")
    preset = PRESETS.get(provider.preset)
    if preset is not None and not (provider.base_url or provider.base_urls):
        if not preset.base_url:
            report((*path,), f"needs base_url: preset {preset.name} has no address of its own", "")
        elif "{region}" in preset.base_url and not provider.region:
            report((*path,), f"needs region or base_url: preset {preset.name} answers by region", 'e.g. region = "eu-central-1"')
    urls = [((*path, "base_url"), provider.base_url)] if provider.base_url else []
    urls += [((*path, "base_urls", index), url) for index, url in enumerate(provider.base_urls)]
    for place, url in urls:
        if _url(place, url, report) and url.startswith("http://") and provider.key and urlsplit(url).hostname not in _LOOPBACK:
            warn(place, "sends the key without TLS", "use https:// unless the network between is yours alone")


def _url(path: Path, url: str, report: Report) -> bool:
    try:
        parts = urlsplit(url)
        port_ok = parts.port is None or parts.port > 0
    except ValueError:
        parts, port_ok = urlsplit(""), False
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_ok:
        report(path, f"{shown(url)} is not an http:// or https:// address", "")
    elif parts.username is not None or parts.password is not None:
        report(path, "holds a user name or password", "use key, or headers with a reference")
    elif parts.query or parts.fragment or any(ord(char) <= 32 or ord(char) > 126 for char in url):
        report(path, f"{shown(url)} must end with its path: no ?, # or blank", "")
    else:
        return True
    return False


def _headers(path: Path, provider: Provider, report: Report) -> None:
    for name, value in provider.headers.items():
        place = (*path, "headers", name)
        if not _HEADER.fullmatch(name) or any(not 32 <= ord(char) < 127 for char in value):
            report(place, "is not a header: control or non-ASCII characters, or a bad name", "")
        elif name.lower() in HEADERS_OWNED or name.lower().startswith("x-headway-"):
            report(place, "is a header that the gateway sets itself", "remove it")
        elif looks_secret(value):
            report(place, "holds what looks like a key", _REFERENCE_FIX)


def _reference(path: Path, text: str, report: Report) -> None:
    if text and not is_reference(text):
        report(path, "must refer to a secret, not be one", _REFERENCE_FIX)


def _features(settings: Settings, report: Report) -> None:
    for name, feature in settings.features.items():
        path: Path = ("features", name)
        if not feature.targets:
            report((*path, "targets"), "is empty, so nothing could answer", 'e.g. targets = ["openai/gpt-5-mini"]')
        for index, target in enumerate(feature.targets):
            _target((*path, "targets", index), target, settings, report)
        for index, kind in enumerate(feature.record.redact):
            if kind not in REDACTIONS:
                fix = "kinds: " + ", ".join(REDACTIONS)
                report((*path, "record", "redact", index), f"{shown(kind)} is not known{did_you_mean(kind, REDACTIONS)}", fix)


def _target(path: Path, target: str, settings: Settings, report: Report) -> None:
    provider_name, slash, model = target.partition("/")
    provider = settings.providers.get(provider_name)
    if not slash or not model:
        report(path, f"{shown(target)} is not provider/model", "")
    elif provider is None:
        near = nearest(provider_name, settings.providers)
        hint = f'; did you mean "{near}/{model}"?' if near else ""
        fix = "providers: " + ", ".join(settings.providers) if settings.providers else f"add a table [providers.{provider_name}]"
        report(path, f"{shown(target)} names no provider{hint}", fix)
    elif provider.models and model not in provider.models:
        near = nearest(model, provider.models)
        hint = f'; did you mean "{provider_name}/{near}"?' if near else ""
        listed = ", ".join(provider.models[:8]) + (", …" if len(provider.models) > 8 else "")
        report(
            path,
            f"{shown(target)} is not a model of provider {provider_name}{hint}",
            f"providers.{provider_name}.models lists {listed}",
        )


def _tenant(path: Path, tenant: Tenant, settings: Settings, report: Report) -> None:
    _word((*path, "class"), tenant.klass, CLASSES, "class", "classes", report)
    _word((*path, "on_overrun"), tenant.on_overrun, ON_OVERRUN, "word", "words", report)
    if tenant.on_overrun in ("demote", "pause"):
        if tenant.budget_tokens_per_day is None:
            report((*path, "on_overrun"), "needs budget_tokens_per_day, whose overrun it speaks of", "")
        elif not any(provider.admission is not None for provider in settings.providers.values()):
            fix = "add e.g. [providers.NAME.admission]"
            report((*path, "on_overrun"), f"{shown(tenant.on_overrun)} needs a provider with an admission table", fix)
    if tenant.cap_tokens is not None and tenant.cap_tokens < tenant.floor_tokens:
        report(
            (*path, "cap_tokens"),
            f"({tenant.cap_tokens}) lies under floor_tokens ({tenant.floor_tokens})",
            "raise the cap or lower the floor",
        )
    for index, name in enumerate(tenant.features):
        if name not in settings.features:
            known = ", ".join(settings.features) or "none is defined"
            hint = did_you_mean(name, settings.features)
            report((*path, "features", index), f"{shown(name)} is not a feature{hint}", f"features: {known}")
    for key in BUDGETS_USD:
        amount = getattr(tenant, key)
        if amount is not None and not _is_money(amount):
            report((*path, key), f"{shown(amount)} is not an amount of dollars", 'e.g. 400 or "0.25"')


def _word(path: Path, word: str, known: tuple[str, ...], one: str, many: str, report: Report) -> None:
    if word not in known:
        report(path, f"{shown(word)} is not a {one}{did_you_mean(word, known)}", f"{many}: " + ", ".join(known))


def _admission(path: Path, admission: Admission, report: Report) -> None:
    _word((*path, "policy"), admission.policy, POLICIES, "policy", "policies", report)
    pacing = admission.pacing
    if pacing.piece_tokens_max < pacing.piece_tokens_min:
        report(
            (*path, "pacing", "piece_tokens_max"),
            f"({pacing.piece_tokens_max}) lies under piece_tokens_min ({pacing.piece_tokens_min})",
            "",
        )


def _is_money(amount: float | str) -> bool:
    try:
        value = Decimal(str(amount))
    except InvalidOperation:
        return False
    return value.is_finite() and 0 <= value <= BUDGET_USD_MAX


def leaves(value: object, path: Path = ()) -> list[tuple[Path, object]]:
    """Every single setting with its place; lists count as one, tables are entered."""
    if isinstance(value, msgspec.Struct):
        fields = msgspec.structs.fields(type(value))
        return [leaf for field in fields for leaf in leaves(getattr(value, field.name), (*path, field.encode_name))]
    if isinstance(value, dict):
        return [leaf for name, item in value.items() for leaf in leaves(item, (*path, str(name)))]
    return [(path, value)]
