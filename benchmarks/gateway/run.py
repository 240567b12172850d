"""``make bench``: Headway beside nginx, the bare floor and (PEERS=all) other gateways, same mock, interleaved passes, one table with ratios.

    python benchmarks/gateway/run.py [--json FILE] [--peers default|all] [--passes N] [--only NAME,NAME]

CPU is user and system time of the peer's process tree, from idle before a load to idle after it, so that work put off is billed to the load
that caused it. Ratios are taken within a pass and their median is given with the smallest and largest. Exit 3 where nginx is absent.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import load
import peers as peers_
import proc

try:
    import uvloop
except ImportError:
    uvloop = None

CACHE = Path(os.environ.get("HEADWAY_BENCH_CACHE", Path.home() / ".cache/headway-bench"))
NOT_HERE = 3
PLAIN_S, BURST_S, PACED_STREAMS, SINGLE_CALLS, BIG_CALLS, BIG_BYTES = 3.0, 3.0, 64, 1500, 300, 200_000
OFFERED_PER_S = 500
"""A load that a gateway of models really sees, the same for every peer: each request is a wake-up of its own, and what runs beside calls shows."""
STARTS = 5
COLUMNS = {
    "cpu_request_us": "CPU µs a request, full speed",
    "cpu_request_offered_us": f"CPU µs a request, {OFFERED_PER_S} a second",
    "cpu_chunk_burst_us": "CPU µs a chunk, burst",
    "chunks_a_read": "chunks a read in a burst",
    "cpu_chunk_paced_us": "CPU µs a chunk, paced",
    "added_p50_us": "added p50 µs",
    "paced_first_ms": "first chunk ms, 64 paced",
    "cpu_big_us": "200 KB prompt CPU µs",
    "rss_mb": "RSS MB",
    "start_s": "start s",
}


async def cost_us(peer, run: load.Run, per: str) -> tuple[float, load.Measured]:
    """CPU microseconds of the peer's tree a request or an event, from idle to idle."""
    proc.until_idle(peer.pid)
    before = proc.cpu_s(peer.pid)
    measured = await run()
    proc.until_idle(peer.pid)
    count = measured.requests if per == "request" else measured.events
    return (proc.cpu_s(peer.pid) - before) / count * 1e6, measured


async def one_pass(peer, quick: bool) -> dict[str, float]:
    """All loads on one peer."""
    scale = 0.3 if quick else 1.0
    plain = peer.request("bench-plain", stream=False)
    burst = peer.request("bench-burst", stream=True)
    paced = peer.request("bench-paced", stream=True)
    big = peer.request("bench-plain", stream=False, prompt="word " * (BIG_BYTES // 5))
    out: dict[str, float] = {}
    await load.Run(peer.url, plain, connections=8, seconds=0.5)()
    single = await load.Run(peer.url, plain, connections=1, seconds=30, most=int(SINGLE_CALLS * scale))()
    out["p50_us"] = statistics.median(single.latencies_s) * 1e6
    run = load.Run(peer.url, plain, connections=8, seconds=PLAIN_S * scale, rate=OFFERED_PER_S)
    out["cpu_request_offered_us"], measured = await cost_us(peer, run, "request")
    out["requests"] = measured.requests
    run = load.Run(peer.url, plain, connections=8, seconds=PLAIN_S * scale)
    out["cpu_request_us"], measured = await cost_us(peer, run, "request")
    out["cpu_chunk_burst_us"], measured = await cost_us(
        peer, load.Run(peer.url, burst, connections=8, seconds=BURST_S * scale), "event"
    )
    out["chunks_a_read"] = measured.events / max(1, measured.reads)
    run = load.Run(peer.url, paced, connections=PACED_STREAMS, seconds=30, most=PACED_STREAMS)
    out["cpu_chunk_paced_us"], measured = await cost_us(peer, run, "event")
    out["paced_first_ms"] = statistics.median(measured.first_s) * 1e3
    run = load.Run(peer.url, big, connections=4, seconds=30, most=int(BIG_CALLS * scale))
    out["cpu_big_us"], _ = await cost_us(peer, run, "request")
    out["rss_mb"] = proc.rss_mb(peer.pid)
    return out


async def starts(peer, times: int) -> list[float]:
    """Seconds to the first answer, so many times; the peer is left running."""
    took = []
    for n in range(times):
        if n:
            peer.stop_gateway() if isinstance(peer, peers_.Headway) else peer.stop()
        took.append(await peer.start())
    return took


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def measure(given: argparse.Namespace) -> tuple[dict, dict[str, list[dict]], list[float]]:
    """Starts and passes of every peer, and the foreign load of every pass."""
    with tempfile.TemporaryDirectory(prefix="headway-bench-") as folder, contextlib.ExitStack() as stack:
        running, missing = peers_.chosen(given.peers, Path(folder), peers_.free_port(), CACHE)
        for name, why in missing.items():
            say(f"left out: {name}: {why}")
        if given.only:
            running = [peer for peer in running if peer.name in given.only.split(",")]
        started: dict[str, list[float]] = {}
        for peer in running:
            stack.callback(peer.stop)
            say(f"starting {peer.name}")
            try:
                started[peer.name] = await starts(peer, 1 if peer.name in ("direct", "litellm") else STARTS)
            except RuntimeError as error:
                leave_out(peer, error)
                continue
            place(peer)
        running = [peer for peer in running if peer.name in started]
        passes: dict[str, list[dict]] = {peer.name: [] for peer in running}
        foreign = []
        began = time.perf_counter()
        for n in range(given.passes):
            for peer in [peer for peer in running if peer.name in passes]:
                watch = proc.ForeignLoad.begin()
                try:
                    passes[peer.name].append(await one_pass(peer, given.quick))
                except RuntimeError as error:
                    leave_out(peer, error)
                    del passes[peer.name]
                    continue
                foreign.append(watch.cores())
                done = n * len(running) + running.index(peer) + 1
                left = (time.perf_counter() - began) / done * (given.passes * len(running) - done)
                say(
                    f"pass {n + 1}/{given.passes} {peer.name}: {passes[peer.name][-1]['cpu_request_us']:.0f} µs a request, about {left:.0f} s left"
                )
        return started, passes, foreign


def leave_out(peer, error: RuntimeError) -> None:
    """A peer that does not work here is no reason to measure nothing; without these three there is nothing to say."""
    if peer.name in ("direct", "nginx", "headway"):
        raise error
    say(f"left out: {peer.name}: {error}")


def place(peer) -> None:
    """The peer alone on one core; mock, load and control on the others."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    if len(cores) < 2:
        return
    rest = set(cores[1:])
    proc.pin(peer.pid, rest if peer.name == "direct" else {cores[0]})
    if isinstance(peer, peers_.Headway):
        proc.pin(peer.control_pid, rest)


def figures_of(started: dict, passes: dict[str, list[dict]], foreign: list[float]) -> dict[str, dict]:
    """In the form of every figure of the product."""
    ours, nginx, direct = passes["headway"], passes["nginx"], passes["direct"]
    ratios = {
        "cpu_request_over_nginx": [a["cpu_request_us"] / b["cpu_request_us"] for a, b in zip(ours, nginx, strict=True)],
        "cpu_request_offered_over_nginx": [
            a["cpu_request_offered_us"] / b["cpu_request_offered_us"] for a, b in zip(ours, nginx, strict=True)
        ],
        "cpu_chunk_burst_over_nginx": [a["cpu_chunk_burst_us"] / b["cpu_chunk_burst_us"] for a, b in zip(ours, nginx, strict=True)],
        "cpu_chunk_paced_over_nginx": [a["cpu_chunk_paced_us"] / b["cpu_chunk_paced_us"] for a, b in zip(ours, nginx, strict=True)],
        "added_p50_over_nginx": [
            (a["p50_us"] - z["p50_us"]) / max(b["p50_us"] - z["p50_us"], 1.0) for a, b, z in zip(ours, nginx, direct, strict=True)
        ],
    }
    requests = sum(p["requests"] for p in ours)
    how = f"median of ratios within interleaved passes, {requests} requests of ours, low and high are the extreme passes"
    out = {name: figure(values, "ratio", how) for name, values in ratios.items()}
    out["rss_mb"] = figure([p["rss_mb"] for p in ours], "MB", "resident memory of the gateway after each pass, median and extremes")
    out["start_s"] = figure(started["headway"], "s", "from the start of the gateway's process to its first answer, control running")
    out["foreign_load"] = figure(foreign, "cores", "CPU of processes not of the benchmark while a pass ran, median and extremes")
    return out


def figure(values: list[float], unit: str, method: str) -> dict:
    return {
        "value": round(statistics.median(values), 4),
        "unit": unit,
        "n": len(values),
        "low": round(min(values), 4),
        "high": round(max(values), 4),
        "method": method,
    }


def table(started: dict, passes: dict[str, list[dict]]) -> str:
    """Medians, with multiples of nginx in brackets."""
    rows = [["peer", *COLUMNS.values()]]
    zero = statistics.median(p["p50_us"] for p in passes["direct"])

    def value(name: str, column: str) -> float | None:
        if column == "start_s":
            return statistics.median(started[name])
        if column == "added_p50_us":
            return statistics.median(p["p50_us"] for p in passes[name]) - zero
        return statistics.median(p[column] for p in passes[name])

    for name in passes:
        row = [name]
        for column in COLUMNS:
            number, base = value(name, column), value("nginx", column)
            shown = (
                f"{number:.2f}" if column in ("start_s", "paced_first_ms") else f"{number:.0f}" if number >= 20 else f"{number:.1f}"
            )
            row.append(
                shown
                if name in ("nginx", "direct") or not base or column in ("rss_mb", "chunks_a_read")
                else f"{shown} ({number / base:.1f}x)"
            )
        rows.append(row)
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def main() -> int:
    parser = argparse.ArgumentParser(description="Headway beside other gateways, same mock, interleaved.")
    parser.add_argument("--json", default="", help="write the figures here")
    parser.add_argument("--peers", choices=["default", "all"], default=os.environ.get("PEERS", "default"))
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="short loads: to try the benchmark, not to quote it")
    parser.add_argument("--only", default="", help="peers by name, for work on one of them")
    given = parser.parse_args()
    if why := peers_.Nginx(Path(tempfile.mkdtemp()), 1).prepare():
        say(f"bench: cannot measure here: {why}")
        return NOT_HERE
    began = time.perf_counter()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(0, set(cores[1:]))
    started, passes, foreign = (uvloop or asyncio).run(measure(given))
    os.sched_setaffinity(0, set(cores))
    print(table(started, passes))
    print(
        f"\nn = {given.passes} interleaved passes; foreign load {statistics.median(foreign):.2f} cores (at most {max(foreign):.2f}); {time.perf_counter() - began:.0f} s"
    )
    if "headway" in passes and "nginx" in passes and "direct" in passes:
        figures = figures_of(started, passes, foreign)
        for name, one in figures.items():
            print(f"{name:30} {one['value']:8.2f} {one['unit']:6} [{one['low']:.2f}, {one['high']:.2f}]  n = {one['n']}")
        if given.json:
            Path(given.json).write_text(json.dumps({"figures": figures}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
