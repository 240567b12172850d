"""Random streams and bodies through the codecs: the same events for any split, and no exception that is not a refusal."""

import json
import random
import time
from collections.abc import Callable

import msgspec

from headway.calls.conversation import Alive, Delta, DialectName
from headway.gateway.dialects.port import Dialect
from headway.gateway.dialects.registry import REGISTRY
from headway.kernel.errors import CallError
from headway.lab.scripted_recording import Recordings
from headway.prove.forms import body_of, sse_events

SCAN_MS_MAX = 50.0
PIECES_MAX = 40
MUTATIONS_MAX = 6


class Finding(msgspec.Struct, frozen=True):
    """``case`` with the run's seed makes it again."""

    case: int
    what: str


class Corpus:
    """Valid streams and bodies to begin from."""

    def __init__(self) -> None:
        recordings = Recordings()
        self.streams = {
            name: [
                recordings.find(name, one, streamed=True).body for one in recordings.names(name) if not one.startswith("error_4")
            ]
            for name in map(str, REGISTRY)
        }
        self.bodies = {name: _bodies(name) for name in map(str, REGISTRY)}


def _bodies(dialect: str) -> list[bytes]:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    tool = (
        {"name": "t", "input_schema": schema} if dialect == "anthropic" else {"type": "function", "name": "t", "parameters": schema}
    )
    if dialect == "openai-chat":
        tool = {"type": "function", "function": {"name": "t", "parameters": schema}}
    return [
        body_of(dialect, "m", "hello"),
        body_of(dialect, "m", "héllo 東京 " * 50, stream=True, temperature=0.5, tools=[tool]),
        body_of(
            dialect, "m", 'quote " and \\ and \n', user="u", metadata={"k": "v"}, unknown={"deep": [[[[1.5e300, None, True]]]]}
        ),
    ]


def mutated(draw: random.Random, data: bytes) -> bytes:
    """Some bytes changed, dropped, doubled or moved."""
    out = bytearray(data)
    for _ in range(draw.randint(1, MUTATIONS_MAX)):
        if not out:
            break
        at = draw.randrange(len(out))
        end = min(len(out), at + draw.choice((1, 1, 2, 8, 64, 400)))
        match draw.randrange(6):
            case 0:
                out[at] = draw.randrange(256)
            case 1:
                del out[at:end]
            case 2:
                out[at:at] = out[at:end]
            case 3:
                out[at:at] = draw.choice(
                    (b"\n", b"\r\n", b"\n\n", b"\x00", b'"', b"{", b"]", b"\xff\xfe", b"data: ", b"event: x\n", b"\\ud800")
                )
            case 4:
                del out[at:]
            case _:
                piece = bytes(out[at:end])
                del out[at:end]
                place = draw.randrange(len(out) + 1)
                out[place:place] = piece
    return bytes(out)


def pieces(draw: random.Random, data: bytes) -> list[bytes]:
    """``data`` cut at random places."""
    marks = sorted(draw.randrange(len(data) + 1) for _ in range(draw.randint(0, PIECES_MAX)))
    return [data[a:b] for a, b in zip([0, *marks], [*marks, len(data)], strict=True)]


def one_case(corpus: Corpus, seed: int, case: int) -> list[Finding]:
    """Everything about one random stream and one random body."""
    draw = random.Random(f"{seed}:{case}")
    name = draw.choice(list(corpus.streams))
    dialect = REGISTRY[DialectName(name)]
    stream = draw.choice(corpus.streams[name])
    if whole := draw.random() < 0.5:
        pass
    else:
        stream = mutated(draw, stream)
    body = draw.choice(corpus.bodies[name])
    body = mutated(draw, body) if draw.random() < 0.9 else body
    found = [
        *_decoder(draw, dialect, stream),
        *_watcher(draw, dialect, stream, corpus),
        *_translated(draw, dialect, stream, whole),
        *_request(dialect, body),
    ]
    return [Finding(case, f"{name}: {what}") for what in found]


def _guarded(what: str, ask: Callable[[], object]) -> tuple[object, list[str]]:
    """The value or the refusal as text, and a finding when it was neither."""
    try:
        return ask(), []
    except CallError as refusal:
        return f"refused: {refusal.reason}", []
    except Exception as error:  # noqa: BLE001 - any other exception is what is looked for
        return f"raised: {error!r}", [f"{what} raised {error!r}"]


def _deltas(dialect: Dialect, parts: list[bytes]) -> list[Delta]:
    decoder = dialect.decoder()
    out = [delta for part in parts for delta in decoder.feed(part)]
    return [delta for delta in [*out, *decoder.finish()] if type(delta) is not Alive]  # pings of one read count once


def _decoder(draw: random.Random, dialect: Dialect, stream: bytes) -> list[str]:
    at_once, one = _guarded("decoder", lambda: _deltas(dialect, [stream]))
    split, two = _guarded("decoder, split", lambda: _deltas(dialect, pieces(draw, stream)))
    same = at_once == split or isinstance(at_once, str) or isinstance(split, str)
    return one + two + ([] if same else ["decoder: other deltas for another split"])


def _watched(dialect: Dialect, body: bytes, parts: list[bytes]) -> tuple[bytes, object]:
    watcher = dialect.watcher(dialect.scan(body))
    out = b"".join([watcher.feed(part) for part in parts]) + watcher.finish()
    seen = msgspec.to_builtins(watcher.seen)
    del seen["output_chars"]  # an estimate, made from whole reads
    return out, seen


def _watcher(draw: random.Random, dialect: Dialect, stream: bytes, corpus: Corpus) -> list[str]:
    body = corpus.bodies[str(dialect.name)][1]
    at_once, one = _guarded("watcher", lambda: _watched(dialect, body, [stream]))
    split, two = _guarded("watcher, split", lambda: _watched(dialect, body, pieces(draw, stream)))
    if isinstance(at_once, tuple) and isinstance(split, tuple):
        if at_once[1] != split[1]:
            two = [*two, f"watcher: saw {at_once[1]} whole and {split[1]} split"]
        if at_once[0] != split[0]:
            two = [*two, "watcher: passed other bytes for another split"]
    return one + two


def _translated(draw: random.Random, dialect: Dialect, stream: bytes, whole: bool) -> list[str]:
    """What the decoder made, through each other dialect's encoder: never an exception, and for a valid stream valid SSE."""
    deltas, _ = _guarded("decoder", lambda: _deltas(dialect, [stream]))
    if not isinstance(deltas, list):
        return []
    out = []
    for other in REGISTRY.values():
        conversation, _ = other.decode_request(body_of(str(other.name), "m", "x", stream=True))
        encoder = other.encoder(conversation)

        def encode(encoder: object = encoder, deltas: list[Delta] = deltas) -> bytes:
            return b"".join(encoder.encode(delta) for delta in deltas)  # type: ignore[attr-defined]

        made, wrong = _guarded(f"encoder of {other.name}", encode)
        out += wrong
        if whole and isinstance(made, bytes):
            for event in sse_events(made):
                if event.data != "[DONE]":
                    json.loads(event.data)
    return out


def _request(dialect: Dialect, body: bytes) -> list[str]:
    began = time.thread_time()  # of this thread: a busy machine is not the scan's fault
    scan, out = _guarded("scan", lambda: dialect.scan(body))
    took_ms = (time.thread_time() - began) * 1000
    if took_ms > SCAN_MS_MAX:
        out = [*out, f"scan took {took_ms:.0f} ms"]
    if isinstance(scan, str):
        return out
    _, more = _guarded("decode_request", lambda: dialect.decode_request(body))
    spliced, wrong = _guarded("splice", lambda: dialect.splice(body, dialect.scan(body), model="other/model", want_usage=True))
    if isinstance(spliced, bytes):
        again, worse = _guarded("scan of a spliced body", lambda: dialect.scan(spliced))
        if not isinstance(again, str) and getattr(again, "model", "") != "other/model":
            worse = [*worse, "splice did not replace the model"]
        wrong = wrong + worse
    return out + more + wrong
