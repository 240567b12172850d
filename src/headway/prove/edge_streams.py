"""Streams at their edge: an upstream that breaks off after any chunk, a caller that goes away at any moment."""

import asyncio
import time
from typing import Any

from headway.prove.checked import Checked, at_least, at_most, percentile
from headway.prove.forms import CHAT, DIALECTS, MESSAGES, PATHS, body_of, headers_of, stream_end
from headway.prove.rawhttp import Broken, RawConnection
from headway.prove.world import MODEL_BY_DIALECT, World

CUT_POSITIONS = 50
CUT_WAYS = ("close", "reset", "end")
WORDS = 60
AT_ONCE = 10
GONE_N = 60
GONE_WITHIN_MS = 100.0
KNOWN_SOURCES = ("reported", "estimated", "unknown")


async def cuts(stage: World) -> list[Checked]:
    """CUT_POSITIONS x target dialects x caller dialects. A cut before any text may be answered with an error status instead."""
    jobs = [(caller, target, at) for target in DIALECTS for caller in DIALECTS for at in range(CUT_POSITIONS)]
    gate = asyncio.Semaphore(AT_ONCE)
    seen = await asyncio.gather(*(_cut(stage, gate, *job) for job in jobs))
    facts = await stage.facts_of({call for _, call in seen if call})
    recorded = [facts.get(call) for _, call in seen]
    wrong_end = [f"{job}: {what}" for job, (what, _) in zip(jobs, seen, strict=True) if what]
    wrong_fact = [f"{job}: {_shown(f)}" for job, f in zip(jobs, recorded, strict=True) if not _is_honest(f)]
    committed = sum(bool(fact and fact["committed"]) for fact in recorded)
    return [
        at_least(
            "cuts_after_a_committed_byte", committed, len(jobs) // 2, unit="streams", n=len(jobs), method="else before any text"
        ),
        at_most("cuts_not_told_to_the_caller", len(wrong_end), 0, unit="streams", n=len(jobs), method=_first(wrong_end)),
        at_most("cuts_not_honest_in_facts", len(wrong_fact), 0, unit="calls", n=len(jobs), method=_first(wrong_fact)),
    ]


def _first(problems: list[str]) -> str:
    return f"first: {problems[0]}" if problems else "each position x caller x upstream dialect"


async def _cut(stage: World, gate: asyncio.Semaphore, caller: str, target: str, at: int) -> tuple[str, str]:
    """(what is wrong, call id)."""
    async with gate:
        way = CUT_WAYS[at % 3]
        try:
            answer = await stage.call(
                caller, f"<<words={WORDS} delay_ms=1 cut_after={at} cut_how={way}>>", target=target, stream=True
            )
        except Broken as broken:
            return f"no answer at all: {broken}", ""
    call = answer.header("x-headway-call") or ""
    if answer.status >= 500:
        return ("" if b"error" in answer.body else f"{answer.status} without an error body"), call
    if answer.status != 200:
        return f"status {answer.status}", call
    end = stream_end(caller, answer.body)
    if end.clean:
        return "a clean end", call
    if not end.error or end.after:
        return f"no error event at the end: {answer.body[-200:]!r}", call
    return "", call


def _is_honest(fact: dict[str, Any] | None) -> bool:
    if fact is None or fact["usage_source"] not in KNOWN_SOURCES:
        return False
    if fact["usage_source"] == "unknown" and fact.get("output_tokens") is not None:
        return False
    return bool(fact["outcome"] == "incomplete" if fact["committed"] else fact["outcome"] != "done")


def _shown(fact: dict[str, Any] | None) -> str:
    return (
        "no fact"
        if fact is None
        else str({k: fact.get(k) for k in ("outcome", "committed", "usage_source", "output_tokens", "error_code")})
    )


GONE_MOMENTS = {
    "streaming": ("words=400 delay_ms=10", True),
    "not_streaming": ("head_delay_ms=20000", False),
    "before_first_byte": ("head_delay_ms=20000", True),
    "silent_stream": ("words=50 silence_after=6", True),
}


async def gone(stage: World) -> list[Checked]:
    """Milliseconds from the caller's close until the upstream sees its own connection closed, on one machine's monotonic clock."""
    rows = []
    for moment, (script, stream) in GONE_MOMENTS.items():
        closed_ms, lost, outcomes = await _gone_at(stage, moment, script, stream)
        rows.append(
            at_most(
                f"client_gone_{moment}_p99_ms",
                percentile(closed_ms, 0.99) if closed_ms else float("inf"),
                GONE_WITHIN_MS,
                unit="ms",
                n=len(closed_ms),
                method=f"{lost} never closed; facts say {outcomes}",
            )
        )
        honest = outcomes.get("client_gone", 0)
        rows.append(at_least(f"client_gone_{moment}_facts", honest, GONE_N, unit="calls", n=GONE_N, method=f"facts say {outcomes}"))
    return rows


async def _gone_at(stage: World, moment: str, script: str, stream: bool) -> tuple[list[float], int, dict[str, int]]:
    gate = asyncio.Semaphore(AT_ONCE)
    marks = [f"gone-{moment}-{n:03d}" for n in range(GONE_N)]
    closes = await asyncio.gather(*(_leave(stage, gate, script, stream, mark) for mark in marks))
    await asyncio.sleep(0.5)
    closed_ms, lost = [], 0
    for mark, closed_ns in zip(marks, closes, strict=True):
        report: Any = await stage.upstream.seen(mark, last=1, bodies=False)
        record = report["last"][0] if report["last"] else {}
        if record.get("ended") == "peer_closed":
            closed_ms.append((record["ended_ns"] - closed_ns) / 1e6)
        else:
            lost += 1
    return closed_ms, lost, await _outcomes(stage, moment)


async def _outcomes(stage: World, moment: str) -> dict[str, int]:
    """Outcomes of the calls of one moment, which ran in a run of its name."""
    out: dict[str, int] = {}
    for _ in range(40):
        out = {}
        for fact in (await stage.facts()).values():
            if fact.get("run") == f"gone-{moment}":
                out[fact["outcome"]] = out.get(fact["outcome"], 0) + 1
        if sum(out.values()) >= GONE_N:
            break
        await asyncio.sleep(0.25)
    return out


async def _leave(stage: World, gate: asyncio.Semaphore, script: str, stream: bool, mark: str) -> int:
    """Call, wait until the upstream works on it, close; the instant of closing."""
    dialect = (CHAT, MESSAGES)[hash(mark) % 2]
    async with gate:
        connection = await RawConnection.open(stage.product.url)
        body = body_of(dialect, MODEL_BY_DIALECT[dialect], f"<<{script} mark={mark}>>", stream=stream)
        headers = headers_of(dialect, stage.key, ("x-headway-run", mark.rpartition("-")[0]))
        await connection.send("POST", PATHS[dialect], headers, body)
        while True:
            report: Any = await stage.upstream.seen(mark, last=1, bodies=False)
            if report["last"] and (not stream or "head_delay" in script or report["last"][0]["events_sent"] >= 4):
                break
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.02)
        closed_ns = time.monotonic_ns()
        connection.close()
        await asyncio.sleep(0.2)
        return closed_ns
