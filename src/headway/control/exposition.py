"""Prometheus text of several processes as one: a ``gateway`` label on each sample, each family's head once."""

import re

from headway.kernel.openmetrics import parted

_SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(.*)\})?( .+)$")
_SUFFIXES = ("_bucket", "_sum", "_count", "_created")


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def labelled(line: str, gateway: str) -> str:
    """One sample line with the label, and its exemplar as it was; a line that is no sample comes back empty."""
    line, exemplar = parted(line)
    match = _SAMPLE.match(line)
    if match is None:
        return ""
    name, _, labels, rest = match.groups()
    own = f'gateway="{_escaped(gateway)}"'
    return f"{name}{{{own + (',' + labels if labels else '')}}}{rest}{exemplar}"


def merged(own: str, gateways: dict[str, str]) -> str:
    """``own`` text first, then families of the gateways, sorted, each with its HELP and TYPE once, as the format demands."""
    heads: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for gateway, text in sorted(gateways.items()):
        for line in text.split("\n"):
            if line.startswith(("# HELP ", "# TYPE ")):
                kind, family = line.split(" ", 3)[1:3]
                head = heads.setdefault(family, [])
                if not any(known.startswith(f"# {kind} ") for known in head):
                    head.append(line)
            elif sample := labelled(line, gateway):
                samples.setdefault(_family(line, heads), []).append(sample)
    blocks = [line for family in sorted(samples) for line in (*heads.get(family, ()), *samples[family])]
    return own.rstrip("\n") + "\n" + "".join(f"{line}\n" for line in blocks) if own else "".join(f"{line}\n" for line in blocks)


def _family(line: str, heads: dict[str, list[str]]) -> str:
    match = _SAMPLE.match(parted(line)[0])
    name = match.group(1) if match else ""
    for suffix in _SUFFIXES:
        if name.endswith(suffix) and name.removesuffix(suffix) in heads:
            return name.removesuffix(suffix)
    return name
