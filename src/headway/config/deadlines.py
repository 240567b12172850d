"""What of a call's time is handed down, and timeouts within timeouts: no inner one above its parent's."""

import re
from typing import Final

from headway.config.decode import Report
from headway.config.locate import Path
from headway.config.model import Provider, Settings, Timeouts
from headway.config.problems import shown
from headway.config.rules import DEADLINE_OWN, HEADERS_OF_KEYS, HEADERS_OWNED

_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_INNER: Final = ("connect_ms", "first_byte_ms", "idle_ms", "total_ms")


def check_header(path: Path, provider: Provider, report: Report) -> None:
    """Whether the header that a provider is told its remaining time in can be sent."""
    name, place = provider.deadline_header.lower(), (*path, "deadline_header")
    if not name:
        return
    if not _HEADER.fullmatch(name):
        report(place, f"{shown(name)} is not the name of a header", "e.g. x-request-timeout-ms")
    elif name in (*HEADERS_OWNED, *HEADERS_OF_KEYS) or (name.startswith("x-headway-") and name != DEADLINE_OWN):
        fix = f"use one of your own, or {DEADLINE_OWN} for another Headway"
        report(place, f"{shown(name)} is a header that the gateway sets itself", fix)
    elif name in {own.lower() for own in provider.headers}:
        report(place, f"{shown(name)} is in headers too", "leave it out there: its value is counted for each call")


def check_timeouts(settings: Settings, warn: Report) -> None:
    """At run time the deadline ends a call first. A timeout that was set above it says what never happens; defaults say nothing."""
    for name, feature in settings.features.items():
        if feature.deadline_ms is None:
            continue
        above = f"is above features.{name}.deadline_ms ({feature.deadline_ms}), which ends the call first"
        for provider in dict.fromkeys(target.partition("/")[0] for target in feature.targets):
            if provider in settings.providers:
                for place, value in _above(settings.providers[provider], feature.deadline_ms):
                    warn(("providers", provider, *place), f"({value:g}) {above}", "lower it, or give the feature longer")


def _above(provider: Provider, deadline_ms: int) -> list[tuple[Path, float]]:
    """Timeouts that were set, and exceed the deadline."""
    unset = Timeouts()
    found: list[tuple[Path, float]] = []
    for key in _INNER:
        value = getattr(provider.timeouts, key)
        if value > deadline_ms and value != getattr(unset, key):
            found.append((("timeouts", key), value))
    wait_ms = provider.admission.wait_ms_max if provider.admission is not None else None
    if wait_ms is not None and wait_ms > deadline_ms:
        found.append((("admission", "wait_ms_max"), wait_ms))
    return found
