"""Writes the generated pages of ``docs/reference``: configuration, command line, limits, errors. ``--check`` only says which are stale."""

import argparse
import ast
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import click
import msgspec

from headway.cli.root import headway
from headway.config.decode import tables
from headway.config.presets import PRESETS
from headway.config.rules import ENV_SETTINGS, RANGES
from headway.control.genai_metrics import INSTRUMENTS, OVERFLOW
from headway.control.span_names import ATTRIBUTES, GENAI_VERSION, RESOURCE
from headway.control.span_names import SCHEMA_VERSION as SPANS_VERSION
from headway.gateway.families import GatewayMetrics
from headway.kernel import errors, limits

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "headway"
REFERENCE = ROOT / "docs" / "reference"
NOTE = "<!-- Written by `make docs` from the code; a test holds it fresh. -->\n\n"


def attribute_notes(path: Path) -> dict[tuple[str, str], str]:
    """(class, field) to the docstring under the field."""
    notes: dict[tuple[str, str], str] = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef):
            for before, after in zip(node.body, node.body[1:], strict=False):
                if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name) and is_text(after):
                    notes[(node.name, before.target.id)] = " ".join(ast.literal_eval(ast.unparse(after)).split())
    return notes


def is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def kind(hint: Any) -> str:
    """A type in words."""
    names = {str: "text", int: "whole number", float: "number", bool: "true/false", type(None): ""}
    if get_origin(hint) is tuple:
        return f"list of {kind(get_args(hint)[0])}s"
    if get_origin(hint) is dict:
        return f"table of {kind(get_args(hint)[1])}s"
    if hint in names:
        return names[hint]
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return "table"
    return " or ".join(word for word in map(kind, get_args(hint)) if word)


def shown_default(value: object) -> str:
    if value is None or value in ("", (), {}):
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "`" + str(list(value)).replace("'", '"') + "`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def configuration() -> str:
    """Every table and key with type, default, range and note."""
    notes = attribute_notes(SOURCE / "config" / "model.py")
    parts = [
        "# Configuration\n",
        NOTE,
        "One file, `headway.toml`, found by `--config`, else `$HEADWAY_CONFIG`, else in the working directory. Every value has a default.\n"
        "An unknown key is an error that names the nearest known one. Secrets are references: `env:NAME`, or `file:PATH`, which is read\n"
        "again when the file changes. `headway check` shows each value with where it came from. A changed file is loaded within seconds;\n"
        "a bad one changes nothing and turns readiness to degraded.\n",
    ]
    for place, cls in tables():
        parts.append(f"\n## {f'`[{place}]`' if place else 'Top of the file'}\n")
        doc = (cls.__doc__ or "").split(":", 1)[-1].strip().replace("``", "`")
        parts.append(doc[:1].upper() + doc[1:] + "\n")
        parts.append("| key | type | default | from | to | |\n|---|---|---|---|---|---|")
        hints = get_type_hints(cls)
        for field in msgspec.structs.fields(cls):
            words = kind(hints[field.name])
            if words in ("table", "table of tables"):
                continue
            low, high = RANGES.get((cls.__name__, field.name), ("", ""))
            note = notes.get((cls.__name__, field.name), "").replace("``", "`").replace("|", "\\|")
            parts.append(f"| `{field.encode_name}` | {words} | {shown_default(field.default)} | {low} | {high} | {note} |")
    parts.append("\n## Environment variables that override the file\n\n| variable | setting |\n|---|---|")
    parts += [f"| `{variable}` | `{'.'.join(path)}` |" for variable, path in ENV_SETTINGS.items()]
    parts.append(
        "\n## Presets\n\n| preset | address | dialects | key is sent as | key needed | usual variable |\n|---|---|---|---|---|---|"
    )
    for preset in PRESETS.values():
        address = f"`{preset.base_url}{preset.version}`" if preset.base_url else "set `base_url`"
        needed = "yes" if preset.key_needed else "no"
        parts.append(
            f"| `{preset.name}` | {address} | {', '.join(preset.dialects)} | `{preset.auth}` | {needed} | {f'`{preset.key_env}`' if preset.key_env else '-'} |"
        )
    return "\n".join(parts) + "\n"


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """Every command that can be called, depth first."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None and not found.hidden:
                yield from commands(found, f"{path} {name}")


def cli() -> str:
    """The help of every command."""
    parts = [
        "# Command line\n",
        NOTE,
        "Exit codes: 0 done; 1 done, and something is not as it should be (or control refused); 2 the command or the configuration cannot\n"
        "be used; 3 what is needed is missing here (control does not answer, no local model); 130 stopped by Ctrl-C.\n\n"
        "`HEADWAY_CONFIG` names the configuration. `HEADWAY_CONTROL_URL` and `HEADWAY_TOKEN` (a key with a role) reach a control\n"
        "elsewhere; without them the address is `control.listen` and the token is `control.token` in the state folder.\n"
        "`headway feedback` reads `HEADWAY_URL` and `HEADWAY_KEY`.\n",
    ]
    for path, command in commands(headway, "headway"):
        text = command.get_help(click.Context(command, info_name=path, max_content_width=100, terminal_width=100))
        parts.append(f"\n## {path}\n\n```text\n{text}\n```\n")
    return "".join(parts)


def limits_page() -> str:
    """Names, values and what happens at each bound, in the order and under the headings of the file."""
    parts = ["# Limits\n", NOTE, "No queue, cache or buffer is without a bound. These are all of them.\n"]
    for line in (SOURCE / "kernel" / "limits.py").read_text().splitlines():
        name, separator, rest = line.partition(" = ")
        if line.startswith("# "):
            heading, _, effect = line[2:].partition(". ")
            parts.append(f"\n## {heading.rstrip('.')}\n\n{effect}\n\n| name | value | |\n|---|---|---|")
        elif separator and name.isupper():
            parts.append(f"| `{name}` | {getattr(limits, name):,} | {rest.partition('#')[2].strip()} |")
    return "\n".join(parts) + "\n"


def errors_page() -> str:
    """Codes a caller can see."""
    parts = [
        "# Errors\n",
        NOTE,
        "What a caller of the gateway gets, in its own dialect. `x-headway-call` names the call; `headway calls show` tells its story.\n"
        'The code is stable. "Again" is what `x-should-retry` says by default.\n\n'
        "| code | status | again | OpenAI type | Anthropic type | what to do |\n|---|---|---|---|---|---|",
    ]
    for cls in walk(errors.CallError):
        again = "yes" if cls.retry else "no"
        parts.append(
            f"| `{cls.code}` | {cls.status} | {again} | `{cls.openai_type}` | `{cls.anthropic_type}` | {FIXES[cls.code]} |"
        )
    return "\n".join(parts) + "\n"


def walk(cls: type[errors.CallError]) -> Iterator[type[errors.CallError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from walk(child)


FIXES = {
    "internal": "a fault of Headway: the gateway's log has it under the call's id",
    "bad_request": "correct the request; the message and `param` name the place",
    "method_not_allowed": "use a method that `allow` names",
    "unauthorized": "send a key that `headway keys list` shows as active",
    "forbidden": "use a key of a tenant, and for a feature, that may",
    "not_found": "correct the path; `/v1/models` lists what is callable",
    "model_not_found": "take one of the near names in the message",
    "conflict": "wait for `retry-after` where it is given; else the call named has been answered: use another idempotency key",
    "too_large": "send less, or raise the limit that the message names",
    "cannot_carry": "leave out what the message names, choose another target, or drop `strict`",
    "budget_exhausted": "wait for the next period, or raise the tenant's budget",
    "rate_limited": "wait for `retry-after`",
    "overloaded": "wait for `retry-after`; if it stays, add gateways or raise `calls_in_flight_max`",
    "draining": "send it again: another gateway, or the next start of this one, takes it",
    "deadline_exceeded": "allow more time, or find out with `headway calls show` where it went",
    "upstream_failed": "look at the attempts with `headway calls show`; add a second target",
}
"""What to do about each code; a test holds that none is missing."""


def telemetry() -> str:
    """Names that leave as OpenTelemetry and for Prometheus."""
    parts = [
        "# Telemetry\n",
        NOTE,
        "## Spans\n\n"
        f"Sent to `control.otlp_endpoint` by OTLP/HTTP. Names of `gen_ai.*` and `openai.*` stand as in {GENAI_VERSION}, all of them of status\n"
        "Development; names under `headway.` are ours and carry `headway.schema.version`"
        f" ({SPANS_VERSION}), which moves when one of them changes.\n"
        "A call is a SERVER span; each attempt below it is a CLIENT span named `{operation} {model}`, the only one with `gen_ai.*`, so that nothing\n"
        "counts twice. What a provider did not report is absent. Resource: " + ", ".join(f"`{name}`" for name in RESOURCE) + ".\n\n"
        "| attribute | type | span | |\n|---|---|---|---|",
    ]
    parts += [f"| `{each.name}` | {each.kind} | {', '.join(each.spans)} | {each.what} |" for each in ATTRIBUTES]
    parts.append(
        "\n## Metrics by OTLP\n\n"
        f"Beside the spans, to `/v1/metrics`, once in {limits.OTLP_METRICS_EVERY_MS // 1000} s and at the end: cumulative histograms of attempts, with exemplars; without probes.\n"
        f"At most {limits.OTLP_SERIES_MAX:,} series; what comes after counts under `{OVERFLOW}`.\n\n"
        "| name | unit | attributes | |\n|---|---|---|---|"
    )
    parts += [
        f"| `{each.name}` | `{each.unit}` | {', '.join(f'`{name}`' for name in each.attributes)} | {each.what} |"
        for each in INSTRUMENTS
    ]
    parts.append(
        "\n## Metrics of a gateway\n\n"
        "At `/metrics` of each gateway (from its own machine) and of control (all gateways, with a label `gateway`, and control's own). Text format\n"
        "0.0.4, or OpenMetrics with exemplars for who accepts `application/openmetrics-text`: of each bucket the last value with `call` and `trace_id`.\n"
        f"A label whose values come from outside keeps {limits.METRIC_VALUES_PER_LABEL_MAX} of them and a family"
        f" {limits.METRIC_SERIES_PER_FAMILY_MAX:,} series; the rest counts as `other`.\n\n"
        "| name | kind | labels | |\n|---|---|---|---|"
    )
    parts += [
        f"| `{family.name}` | {family.kind} | {', '.join(f'`{label}`' for label in family.label_names)} | {family.what} |"
        for family in GatewayMetrics().registry.families()
    ]
    return "\n".join(parts) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "telemetry.md": telemetry,
    "configuration.md": configuration,
    "cli.md": cli,
    "limits.md": limits_page,
    "errors.md": errors_page,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = []
    for name, page in PAGES.items():
        path, text = REFERENCE / name, page()
        if not path.exists() or path.read_text() != text:
            stale.append(name)
            if not check:
                path.write_text(text)
    print("\n".join(f"{'stale' if check else 'written'}: docs/reference/{name}" for name in stale) or "docs/reference is fresh")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
