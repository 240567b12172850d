"""What is there already: keys in the environment, engines on their usual ports; and the eight lines that ``headway init`` writes."""

import http.client
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import msgspec

from headway.config.addresses import parse_listen
from headway.config.model import Provider, Settings
from headway.config.presets import PRESETS
from headway.kernel import limits

_PROBED: Final = ("ollama", "vllm", "llama.cpp")
_OWNERS: Final = {"ollama": "library", "vllm": "vllm", "llama.cpp": "llamacpp"}
"""``owned_by`` in the engine's own model list: tells it from another server on that port."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A provider nobody configured, and why it is taken to be there."""

    provider: Provider
    why: str
    models: tuple[str, ...] = ()
    """What it listed when probed; empty where it was not asked."""


def discover(settings: Settings | None = None, env: Mapping[str, str] | None = None) -> dict[str, Found]:
    """Providers by name. Takes at most ``DISCOVER_TIMEOUT_MS`` and asks loopback only; our own listeners are left out."""
    env = os.environ if env is None else env
    found: dict[str, Found] = {}
    for name in ("openai", "anthropic"):
        variable = PRESETS[name].key_env
        if env.get(variable):
            found[name] = Found(provider=Provider(preset=name, key=f"env:{variable}"), why=f"{variable} is set")
    ours = _own_ports(settings or Settings())
    names = [name for name in _PROBED if PRESETS[name].port not in ours]
    with ThreadPoolExecutor(len(_PROBED)) as pool:
        for name, models in zip(names, pool.map(_models_of, names), strict=True):
            if models is not None:
                port = PRESETS[name].port
                provider = Provider(preset=name, base_url=f"http://127.0.0.1:{port}")
                found[name] = Found(provider=provider, why=f"{name} answers on port {port}", models=models)
    return found


def _own_ports(settings: Settings) -> set[int]:
    ports = set()
    for listen in (settings.gateway.listen, settings.control.listen):
        try:
            ports.add(parse_listen(listen)[1])
        except ValueError:
            continue  # reported by the checks
    return ports


def _models_of(name: str) -> tuple[str, ...] | None:
    """Model names listed on the engine's usual port; None when nothing there answers like that engine."""
    connection = http.client.HTTPConnection("127.0.0.1", PRESETS[name].port, timeout=limits.DISCOVER_TIMEOUT_MS / 1000)
    try:
        connection.request("GET", "/v1/models", headers={"accept": "application/json"})
        response = connection.getresponse()
        listing = json.loads(response.read(limits.CONFIG_FILE_BYTES_MAX)) if response.status == 200 else {}
        rows = [row for row in listing.get("data") or [] if row.get("owned_by") == _OWNERS[name]]
        return tuple(str(row["id"]) for row in rows) or None
    except (OSError, http.client.HTTPException, ValueError, AttributeError, KeyError):
        return None
    finally:
        connection.close()


def starter(found: Mapping[str, Found]) -> str:
    """The text of a first ``headway.toml``: eight lines for one provider, four more for each further one."""
    chosen = found or {"openai": Found(provider=Provider(preset="openai", key="env:OPENAI_API_KEY"), why="")}
    lines = ["# headway check explains every setting; docs/reference/configuration.md lists them."]
    for name, one in chosen.items():
        lines.append("")
        lines += [f'[providers."{name}"]' if "." in name else f"[providers.{name}]", f'preset = "{one.provider.preset}"']
        lines.append(f'key = "{one.provider.key}"' if one.provider.key else f'base_url = "{one.provider.base_url}"')
    name, first = next(iter(chosen.items()))
    model = first.models[0] if first.models else _USUAL_MODELS.get(name, "MODEL")
    lines += ["", "[features.chat]  # clients name this as the model", f'targets = ["{name}/{model}"]']
    return "\n".join(lines) + "\n"


_USUAL_MODELS: Final = {"openai": "gpt-5-mini", "anthropic": "claude-haiku-4-5"}
