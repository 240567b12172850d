"""Every client sees the same objects direct and through Headway, with a real model on llama.cpp, which speaks all three dialects itself."""

import asyncio
import re

import pytest
from clients_setup import MODEL_BY_DIALECT, configuration
from programs_run import PROGRAMS, Scenario, run

from headway.lab.model_build import model_folder
from headway.lab.model_server import command
from headway.prove.product import Child, Product, answers, free_port
from headway.prove.rawhttp import until

pytestmark = [pytest.mark.llama, pytest.mark.skipif(not model_folder().ready(), reason="the local model is not built: make model")]

ALWAYS_THE_SAME = ["-np", "1", "--temp", "0", "--top-k", "1", "--seed", "1"]
TABLE = "What does the tide_table say for port Husum, 2 days? Call the tool."
SCENARIOS = [
    Scenario("plain", "plain", "Say hello."),
    Scenario("stream", "stream", "Say hello."),
    Scenario("stream-without-usage", "stream_without_usage", "Say hello."),
    Scenario("unicode", "stream", "Repeat: Grüße aus Zürich, 東京."),
    Scenario("tools", "tools", TABLE),
    Scenario("tools-stream", "tools_stream", TABLE),
    Scenario("schema", "schema", "Give me a timetable of Husum."),
    Scenario("schema-stream", "schema_stream", "Give me a timetable of Husum."),
    Scenario("too-long", "plain", "word " * 9_000),
    Scenario("too-long-stream", "stream", "word " * 9_000),
]
OFFICIAL = ("openai-chat", "openai-responses", "anthropic")
PAIRS = [
    (program, scenario)
    for program in PROGRAMS
    for scenario in SCENARIOS
    if scenario.kind in program.kinds and (program.name in OFFICIAL or "too-long" not in scenario.name)
]
_OWN = re.compile(r"^(id|.*_id|.*[a-z]Id|created.*|completed_at|timings|obfuscation)$")


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """llama-server with one slot and no chance in it."""
    port = free_port()
    child = Child("llama", [*command(model_folder(), port), *ALWAYS_THE_SAME], cwd=tmp_path_factory.mktemp("llama"))
    child.start()
    url = f"http://127.0.0.1:{port}"
    try:
        asyncio.run(until("the local model answers", lambda: answers(url, "/health"), within_s=60))
        yield url
    finally:
        child.stop()


@pytest.fixture(scope="module")
def through(llama, tmp_path_factory):
    product = Product(tmp_path_factory.mktemp("headway-llama"), configuration(llama))

    async def start() -> str:
        await product.start()
        return await product.new_key()

    try:
        yield product.url, asyncio.run(start())
    finally:
        product.stop()


@pytest.fixture(scope="module")
def saw(llama, through, clients_python, request):
    kept: dict[str, tuple[dict, dict]] = {}

    def both(program):
        if program.name not in kept:
            node = request.getfixturevalue("node") if program.module == "node" else ""
            which = [scenario for p, scenario in PAIRS if p == program]
            common = {"python": clients_python, "node": node, "model": MODEL_BY_DIALECT[program.dialect], "which": which}
            url, key = through
            kept[program.name] = (
                run(program, base_url=llama, key="direct", **common),
                run(program, base_url=url, key=key, **common),
            )
        return kept[program.name]

    return both


_IN_TEXT = re.compile(
    r"(resp|msg|rs|fc|call|chatcmpl)[_-][A-Za-z0-9]{20,}|cached_tokens\W{1,4}\d+|created(_at)?\W{1,3}\d+|completed_at\W{1,3}\d+"
)


def without_chance(value):
    """What differs between two calls of one server: names, clocks, and how much of the prompt its cache still held."""
    if isinstance(value, list):
        return [without_chance(inner) for inner in value]
    if isinstance(value, str):
        return _IN_TEXT.sub(r"\1", value)  # error messages quote what they could not read
    if not isinstance(value, dict):
        return value
    kept = {key: without_chance(inner) for key, inner in value.items() if not _OWN.match(key) and "ache" not in key}
    if "cache_read_input_tokens" in value and value.get("input_tokens") is not None:
        kept["input_tokens"] = value["input_tokens"] + (value["cache_read_input_tokens"] or 0)
    return kept


@pytest.mark.parametrize(("program", "scenario"), PAIRS, ids=lambda item: item.name)
def test_a_real_model_gives_the_same_object_direct_and_through_headway(saw, program, scenario):
    direct, through_headway = saw(program)
    assert scenario.name in direct
    if "too-long" in scenario.name:
        assert "raised" in direct[scenario.name]
    assert without_chance(through_headway[scenario.name]) == without_chance(direct[scenario.name])
