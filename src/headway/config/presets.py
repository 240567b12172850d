"""What is known of each provider: where it answers, in which dialects, how a key is sent, what it can do.

The gateway builds upstream addresses and key headers from here and from ``headway.toml`` only, never from a caller's words.
Sources are the providers' own documentation as read in November 2026; ``docs/how-to/providers.md`` tells them to people.
"""

from enum import StrEnum
from types import MappingProxyType
from urllib.parse import quote, urlsplit

import msgspec

from headway.config.model import Provider
from headway.kernel.errors import ConfigError

CHAT = "openai-chat"
RESPONSES = "openai-responses"
MESSAGES = "anthropic"
DIALECTS = (CHAT, RESPONSES, MESSAGES)
"""The names of ``headway.calls.conversation.DialectName``, which this layer may not import; a test holds them equal."""

ANTHROPIC_VERSION = "2023-06-01"


class Auth(StrEnum):
    """How a key travels."""

    BEARER = "authorization: Bearer"
    X_API_KEY = "x-api-key"
    API_KEY = "api-key"


class Preset(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of provider."""

    name: str
    base_url: str
    """Without the version part. Empty: must be configured. ``{region}`` is replaced by the provider's region."""
    dialects: tuple[str, ...] = (CHAT,)
    """Spoken at ``base_url``, best first. A call in one of them passes byte for byte."""
    version: str = "/v1"
    """Path between base URL and endpoint; a configured base URL may carry it or not."""
    auth: Auth = Auth.BEARER
    key_needed: bool = True
    port: int = 0
    """Where a local engine usually listens; 0 for services elsewhere."""
    embeddings: bool = True
    count_tokens: bool = False
    stream_usage: bool = True
    """Takes ``stream_options.include_usage``, or reports usage in streams unasked."""
    prices: str = ""
    """Provider id in the price table; ``free`` for engines of your own."""
    key_env: str = ""
    """Variable that its own tools read; what ``headway init`` looks for."""
    fixed_headers: tuple[tuple[str, str], ...] = ()


_ALL = (
    Preset(
        name="openai",
        base_url="https://api.openai.com",
        dialects=(CHAT, RESPONSES),
        prices="openai",
        key_env="OPENAI_API_KEY",
    ),
    Preset(name="azure", base_url="", dialects=(CHAT, RESPONSES), version="/openai/v1", auth=Auth.API_KEY, prices="azure"),
    Preset(
        name="anthropic",
        base_url="https://api.anthropic.com",
        dialects=(MESSAGES,),
        auth=Auth.X_API_KEY,
        embeddings=False,
        count_tokens=True,
        prices="anthropic",
        key_env="ANTHROPIC_API_KEY",
        fixed_headers=(("anthropic-version", ANTHROPIC_VERSION),),
    ),
    Preset(
        name="vllm",
        base_url="http://127.0.0.1:8000",
        dialects=(CHAT, RESPONSES),
        key_needed=False,
        port=8000,
        prices="free",
    ),
    Preset(
        name="sglang",
        base_url="http://127.0.0.1:30000",
        key_needed=False,
        port=30000,
        prices="free",
    ),
    Preset(
        name="llama.cpp",
        base_url="http://127.0.0.1:8080",
        dialects=(CHAT, RESPONSES, MESSAGES),
        count_tokens=True,
        key_needed=False,
        port=8080,
        prices="free",
    ),
    Preset(
        name="ollama",
        base_url="http://127.0.0.1:11434",
        dialects=(CHAT, RESPONSES, MESSAGES),
        key_needed=False,
        port=11434,
        prices="free",
    ),
    Preset(name="openrouter", base_url="https://openrouter.ai/api", prices="openrouter", key_env="OPENROUTER_API_KEY"),
    Preset(name="mistral", base_url="https://api.mistral.ai", prices="mistral", key_env="MISTRAL_API_KEY"),
    Preset(
        name="gemini",
        base_url="https://generativelanguage.googleapis.com",
        version="/v1beta/openai",
        prices="google",
        key_env="GEMINI_API_KEY",
    ),
    Preset(
        name="bedrock",
        base_url="https://bedrock-mantle.{region}.api.aws",
        dialects=(CHAT, RESPONSES),
        embeddings=False,
        prices="aws",
        key_env="AWS_BEARER_TOKEN_BEDROCK",
    ),
)

PRESETS = MappingProxyType({preset.name: preset for preset in _ALL})


def preset_of(provider: Provider) -> Preset:
    """The provider's preset. ConfigError when there is none of that name (loading has checked it)."""
    try:
        return PRESETS[provider.preset]
    except KeyError:
        raise ConfigError(f"no preset {provider.preset!r}", fix="presets are " + ", ".join(PRESETS)) from None


def dialects_of(provider: Provider) -> tuple[str, ...]:
    """Dialects spoken there, best first; one only where ``dialect`` is set."""
    return (provider.dialect,) if provider.dialect else preset_of(provider).dialects


def price_provider(provider: Provider) -> str:
    """Provider id to look prices up under; ``free`` costs nothing."""
    return provider.price_as or preset_of(provider).prices


def base_urls(provider: Provider) -> tuple[str, ...]:
    """Where it answers, one for each replica, without a trailing slash. ConfigError when none is known."""
    configured = provider.base_urls or ((provider.base_url,) if provider.base_url else ())
    if configured:
        return tuple(url.rstrip("/") for url in configured)
    preset = preset_of(provider)
    if not preset.base_url:
        raise ConfigError(f"preset {preset.name!r} has no address of its own", fix="set base_url")
    if "{region}" in preset.base_url and not provider.region:
        raise ConfigError(f"preset {preset.name!r} needs a region", fix='set region, e.g. region = "eu-central-1"')
    return (preset.base_url.replace("{region}", quote(provider.region, safe="-")),)


def endpoint_url(provider: Provider, path: str, *, base_url: str = "", model: str = "") -> str:
    """The address of ``path`` (as OpenAI and Anthropic write it, e.g. ``/v1/chat/completions``) at this provider.

    ``base_url`` picks one of ``base_urls``; the first is used without it. ``model`` is the deployment where the address names it
    (Azure with an ``api_version``). ``path`` comes from the gateway's own table of routes, never from a caller.
    """
    base = (base_url or base_urls(provider)[0]).rstrip("/")
    preset = preset_of(provider)
    rest = path.removeprefix("/v1")
    if preset.name == "azure" and provider.api_version:
        return _azure_deployment(base, rest, provider.api_version, model)
    return base + _missing_version(urlsplit(base).path, preset.version) + rest


def _missing_version(base_path: str, version: str) -> str:
    """What is to be added of ``version``: a configured base may carry all of it, its first half, or another version (``/v4``)."""
    segments = version.strip("/").split("/")
    for count in range(len(segments), 0, -1):
        if base_path.endswith("/" + "/".join(segments[:count])):
            return "".join("/" + segment for segment in segments[count:])
    last = base_path.rpartition("/")[2]
    return "" if last[:1] == "v" and last[1:2].isdigit() else version


def _azure_deployment(base: str, rest: str, api_version: str, model: str) -> str:
    root = base.removesuffix("/v1").removesuffix("/openai")
    middle = f"/openai/deployments/{quote(model, safe='')}" if model else "/openai"
    return f"{root}{middle}{rest}?api-version={quote(api_version, safe='')}"


def key_headers(provider: Provider, key: str) -> tuple[tuple[str, str], ...]:
    """Headers that carry ``key`` (already resolved; empty for none) and what the provider always wants. Lower-case names.

    Headers from the configuration (``provider.headers``) are the caller's to resolve and add.
    """
    preset = preset_of(provider)
    headers: list[tuple[str, str]] = []
    if key:
        headers.append(("authorization", f"Bearer {key}") if preset.auth is Auth.BEARER else (preset.auth.value, key))
    headers.extend(preset.fixed_headers)
    if provider.organization:
        headers.append(("openai-organization", provider.organization))
    return tuple(headers)
