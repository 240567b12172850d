"""``make bench-phases``: what it costs to time every read of an answer and to look for streams that loop, break off or go silent.

    python benchmarks/phases/run.py [--json FILE] [--passes N] [--chunks N]

One process, no sockets: the whole pipeline with real codecs passes the same streams with ``gateway.phases`` on and off, interleaved, on this
thread's CPU time. A chunk's cost is the difference over the chunks, from the fastest pass of each side, since other processes only ever add.
Exit 1 when a bound does not hold.
"""

import argparse
import asyncio
import gc
import json
import random
import sys
import time
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "support"))

from gateway_bench import Bench, FakeExchange, settings

from headway.calls.conversation import Delta, DialectName, Finished, PartDelta, PartEnded, PartStarted, Started, StopReason, Usage
from headway.calls.phases.gaps import gaps_between
from headway.config.model import Feature, Gateway, Provider
from headway.facts.measured import measured
from headway.facts.model import AttemptFact
from headway.facts.token_times import encode
from headway.gateway.dialects.registry import REGISTRY
from headway.kernel.figure import Figure, Proof
from headway.kernel.instants import MonoNs
from headway.prove.report import Wanted, as_json, as_table, exit_code

SEED = 11
CALLS_A_PASS = 8
WANTED = {
    "chunk_phases_on_minus_off_us": Wanted(at_most=6.0),
    "token_times_bytes_a_chunk": Wanted(at_most=4.0),
}
HEAD = [("content-type", "text/event-stream"), ("x-request-id", "r1"), ("openai-processing-ms", "120")]
WORDS = Path(__file__).parents[2].joinpath("README.md").read_text().split()


class Side:
    """One dialect with phases on or off."""

    def __init__(self, dialect: DialectName, phases: bool, chunks: int) -> None:
        self.codec = REGISTRY[dialect]
        self.body = json.dumps(_body(dialect)).encode()
        provider = Provider(preset="vllm", base_url="http://one.test", models=("m1",), dialect=dialect)
        config = msgspec.structs.replace(
            settings(), providers={"one": provider}, features={"chat": Feature(targets=("one/m1",))}, gateway=Gateway(phases=phases)
        )
        parts = _stream(dialect, self.body, chunks)
        self.bench = Bench(lambda _: FakeExchange(200, HEAD, parts), config=config)

    async def run(self) -> float:
        """Microseconds of CPU a call."""
        gc.collect()
        gc.disable()
        began = time.thread_time_ns()
        for _ in range(CALLS_A_PASS):
            await self.bench.call(self.body, path=self.codec.path, dialect=self.codec.name)
        took = time.thread_time_ns() - began
        gc.enable()
        self.bench.facts.rows.clear()
        return took / CALLS_A_PASS / 1e3


def _body(dialect: DialectName) -> dict[str, object]:
    body: dict[str, object] = {"model": "chat", "stream": True}
    body |= {"input": "hello"} if dialect is DialectName.OPENAI_RESPONSES else {"messages": [{"role": "user", "content": "hello"}]}
    return body | ({"max_tokens": 4_000} if dialect is DialectName.ANTHROPIC else {})


def _stream(dialect: DialectName, body: bytes, chunks: int) -> list[bytes]:
    codec = REGISTRY[dialect]
    conversation, _ = codec.decode_request(body)
    encoder = codec.encoder(conversation)
    rng = random.Random(SEED)
    said = (PartDelta(index=0, text=rng.choice(WORDS) + " ") for _ in range(chunks))
    ended = Finished(stop=StopReason.END, usage=Usage(input_tokens=9, output_tokens=chunks))
    events: list[Delta] = [Started(id="a", model="m"), PartStarted(index=0, kind="text"), *said, PartEnded(index=0), ended]
    return [data for event in events if (data := encoder.encode(event))]


async def chunk_costs(passes: int, chunks: int) -> dict[str, Figure]:
    out: dict[str, Figure] = {}
    for dialect in DialectName:
        on, off = Side(dialect, True, chunks), Side(dialect, False, chunks)
        taken: list[tuple[float, float]] = []
        for number in range(passes + 1):
            pair = (await on.run(), await off.run()) if number % 2 else tuple(reversed((await off.run(), await on.run())))
            taken.append((pair[0], pair[1]))
        best_on, best_off = (min(each[side] for each in taken[1:]) for side in (0, 1))
        differences = sorted((one - other) / chunks for one, other in taken[1:])
        method = f"CPU time of {CALLS_A_PASS} streams of {chunks} chunks, fastest of {passes} interleaved passes a side"
        out[f"{dialect}.chunk_phases_on_minus_off_us"] = Figure(
            value=(best_on - best_off) / chunks,
            unit="us",
            n=passes * CALLS_A_PASS * chunks,
            low=differences[len(differences) // 10],
            high=differences[-1 - len(differences) // 10],
            method=method,
        )
        out[f"{dialect}.chunk_off_us"] = Figure(value=best_off / chunks, unit="us", n=passes * CALLS_A_PASS * chunks, method=method)
    worst = max((out[f"{dialect}.chunk_phases_on_minus_off_us"] for dialect in DialectName), key=lambda figure: figure.value or 0.0)
    return {"chunk_phases_on_minus_off_us": msgspec.structs.replace(worst, method=f"the dearest dialect: {worst.method}"), **out}


def stored_costs(chunks: int) -> dict[str, Figure]:
    """Bytes that a chunk's time takes, over paces from 5 to 400 ms a token; and what control spends on an answer's gaps."""
    rng = random.Random(SEED)
    sizes = []
    for pace_ms in (5.0, 12.0, 25.0, 60.0, 150.0, 400.0):
        at, reads = 0.0, []
        for _ in range(chunks):
            at += rng.lognormvariate(0.0, 0.5) * pace_ms * 1e6
            reads.append(int(at))
        encoded = encode(MonoNs(0), reads)
        sizes.append(len(encoded) / chunks)
    fact = AttemptFact(
        call="c",
        attempt=1,
        started_wall_ms=0,
        gateway="g",
        first_token_ms=reads[0] / 1e6,
        last_token_ms=reads[-1] / 1e6,
        token_times=encoded,
    )
    took = []
    for _ in range(50):
        began = time.thread_time_ns()
        measured(fact)
        took.append((time.thread_time_ns() - began) / 1e3)
    assert gaps_between([each / 1e6 for each in reads], 0.0, reads[-1] / 1e6).n == chunks - 1
    return {
        "token_times_bytes_a_chunk": Figure(
            value=max(sizes),
            unit="bytes",
            n=len(sizes) * chunks,
            low=min(sizes),
            high=max(sizes),
            method="the slowest pace of six, 5 to 400 ms",
        ),
        "gaps_us_an_answer": Figure(
            value=min(took),
            unit="us",
            n=len(took),
            low=min(took),
            high=max(took),
            method=f"decoded, ranked and stored by control, {chunks} chunks",
        ),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="What the phases of calls cost the gateway.")
    parser.add_argument("--json", default="", help="write the figures here")
    parser.add_argument("--passes", type=int, default=25)
    parser.add_argument("--chunks", type=int, default=400)
    given = parser.parse_args()
    began = time.perf_counter()
    figures = asyncio.run(chunk_costs(given.passes, given.chunks)) | stored_costs(given.chunks)
    proof = Proof(pillar="phases", engine="bench", seed=SEED, figures=figures, took_s=time.perf_counter() - began)
    print(as_table(proof, WANTED))
    if given.json:
        Path(given.json).write_text(json.dumps(as_json(proof), indent=1) + "\n")
    return exit_code(proof, WANTED)


if __name__ == "__main__":
    sys.exit(main())
