"""The product reaches what is configured and nobody else: no price table, no documentation, no telemetry, no look-up of a name."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def inside(*arguments: str) -> Any:
    """What ``outbound_inside.py`` saw, in a network namespace of its own."""
    if not (shutil.which("unshare") and shutil.which("ip")):
        pytest.skip("unshare and ip are needed for a network namespace")
    if subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine gives no network namespace")
    env = {**os.environ, "PYTHONPATH": str(HERE.parent / "support")}
    words = ["unshare", "-rn", sys.executable, str(HERE / "outbound_inside.py"), *arguments]
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-2_000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_nobody_is_reached_who_is_not_configured() -> None:
    found = inside()
    assert found["known"] == 3  # the gateway, control, the upstream
    assert found["other"] == []


def test_the_watch_sees_a_connection() -> None:
    assert ["tcp", "192.0.2.9", 443] in inside("192.0.2.9")["other"]
