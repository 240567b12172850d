"""``codec.prefix`` against the local real model: each longer piece of a prompt finds the shorter one in the engine's cache."""

import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from headway.calls.conversation import DialectName, Usage
from headway.gateway.dialects.registry import REGISTRY
from headway.gateway.dialects.scan import set_members, spans, splice
from headway.kernel.limits import RESPONSES_MAX_TOKENS_MIN
from headway.lab.model_build import ModelFolder
from headway.lab.model_server import MODEL_NAME, ModelServer

FOLDER = ModelFolder(root=Path(__file__).parents[3] / ".model")
WORDS = " ".join(f"The harbour log of day {i} notes {i * 7 % 31} ships and a wind of {i % 12}." for i in range(60))
TOOL = {"type": "object", "properties": {"day": {"type": "integer"}}}
BODIES = {
    DialectName.OPENAI_CHAT: {
        "model": MODEL_NAME,
        "messages": [{"role": "system", "content": "You read logs."}, {"role": "user", "content": WORDS}],
        "tools": [{"type": "function", "function": {"name": "look", "parameters": TOOL}}],
        "stream": True,
        "max_tokens": 8,
    },
    DialectName.ANTHROPIC: {
        "model": MODEL_NAME,
        "system": "You read logs.",
        "messages": [{"role": "user", "content": WORDS}],
        "tools": [{"name": "look", "input_schema": TOOL}],
        "stream": True,
        "max_tokens": 8,
    },
    DialectName.OPENAI_RESPONSES: {
        "model": MODEL_NAME,
        "instructions": "You read logs.",
        "input": WORDS,
        "stream": True,
        "max_output_tokens": 16,
    },
}
BYTES_A_TOKEN = 3.0
PIECES = (150, 350, 550)

pytestmark = [
    pytest.mark.llama,
    pytest.mark.skipif(not FOLDER.ready(), reason="the local model is not built: make model"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    with ModelServer(FOLDER, log=tmp_path_factory.mktemp("model") / "server.log") as running:
        yield running


def used(server: ModelServer, dialect: DialectName, body: bytes, slot: int) -> Usage:
    """Send one body to one slot and read what it says of its tokens."""
    body = splice(body, set_members(body, spans(body), {"id_slot": b"%d" % slot, "stream": b"false"}))
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    try:
        connection.request("POST", REGISTRY[dialect].path, body, {"content-type": "application/json"})
        answer = connection.getresponse()
        data = answer.read()
        assert answer.status == 200, data[:500]
        usage = REGISTRY[dialect].see_answer(data).usage
        assert usage is not None
        return usage
    finally:
        connection.close()


@pytest.mark.parametrize(("dialect", "slot"), [(d, i) for i, d in enumerate(BODIES)])
def test_each_piece_finds_the_one_before_it_in_the_cache(server: ModelServer, dialect: DialectName, slot: int) -> None:
    whole = json.dumps(BODIES[dialect]).encode()
    codec = REGISTRY[dialect]
    seen = [used(server, dialect, codec.prefix(whole, tokens, BYTES_A_TOKEN), slot) for tokens in PIECES]
    seen.append(used(server, dialect, whole, slot))
    sizes = [u.input_tokens or 0 for u in seen]
    cached = [u.cached_tokens or 0 for u in seen]
    assert sizes == sorted(sizes)
    assert sizes[-1] > 2 * sizes[0] > 100
    least = RESPONSES_MAX_TOKENS_MIN if dialect is DialectName.OPENAI_RESPONSES else 1
    assert all((piece.output_tokens or 0) <= least for piece in seen[:-1]), "a piece is there for its prompt only"
    for before, after, found in zip(sizes, sizes[1:], cached[1:], strict=False):
        # All of the shorter piece but its last tokens, where the cut and the end of the turn stand.
        assert before - 40 <= found <= after
    assert cached[1] < cached[2] < cached[3]
