"""``headway admission show`` says what the API says, within 100 columns, and ends with 1 where an alarm was asked for and stands."""

import json
import re
from typing import Any

import msgspec
import pytest
from admission_world import played, view, wishes

from headway.calls.admission.alone import alone_by_place
from headway.calls.admission.report import AdmissionReport, Counts, Key, Rows, report
from headway.calls.admission.spans import CallSpan
from headway.cli import main
from headway.cli.client import Control
from headway.control.admission_now import AdmissionNow, SharedEndpoint, TenantShare


def counts(kind: str, calls: int, broken: int, **names: str) -> Counts:
    return Counts(
        key=Key(kind=kind, **names),
        calls=calls,
        answered=calls,
        refused=0,
        evicted=0,
        judged=calls,
        broken=broken,
        allowed_share=0.05,
    )


def evidence(late: int) -> AdmissionReport:
    world = played(wishes(2, 3, 2, [60.0], ["acme"]), 0)
    spans = tuple(
        CallSpan(
            call=c.call,
            endpoint="vllm-0",
            model="m",
            tenant=c.tenant,
            klass=c.klass,
            arrived_ms=c.started_wall_ms,
            admitted_ms=c.started_wall_ms,
            first_token_ms=c.started_wall_ms + (c.first_token_ms or 0),
            ended_ms=c.started_wall_ms + c.duration_ms,
            uncached_tokens=c.input_tokens,
        )
        for c in world.calls
    )
    rows = Rows(
        since_wall_ms=0,
        until_wall_ms=3_600_000,
        bucket_ms=60_000,
        newest_wall_ms=1,
        endpoint="",
        tenant="",
        counts=(
            counts("all", 1_000, late),
            counts("class", 900, 0, klass="batch"),
            counts("class", 100, late, klass="interactive"),
            counts(
                "tenant",
                1_000,
                late,
                tenant="a-tenant-with-a-name-that-is-longer-than-anybody-would-ever-want-it-to-be-in-a-table-of-a-terminal",
            ),
        ),
        measured={},
        spans=spans,
    )
    return report(rows, alone_by_place(spans), [], 5_000)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> dict[str, Any]:
    shares = tuple(TenantShare(now=t, entitled_share=0.25, served_share=0.5) for t in view().tenants)
    shared = SharedEndpoint(
        gateway="g",
        seen_wall_ms=1,
        silent=False,
        whole=True,
        view=msgspec.structs.replace(view(), tenants=()),
        tenants=shares,
        adds_up=True,
    )
    found: dict[str, Any] = {
        "/api/v1/admission/now": AdmissionNow(endpoints=(shared,)),
        "/api/v1/admission": evidence(0),
        "asked": [],
    }

    def get(_self: Control, path: str, kind: type, **query: object) -> Any:
        found["asked"].append((path, query))
        return msgspec.json.decode(msgspec.json.encode(found[path]), type=kind)

    monkeypatch.setattr(Control, "get", get)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "headway.toml").write_text("")
    return found


def test_it_fits_a_terminal_and_names_who_waits(answers: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["admission", "show", "--range", "24h", "--endpoint", "vllm-0"]) == 0
    assert answers["asked"][-1] == ("/api/v1/admission", {"range": "24h", "endpoint": "vllm-0"})
    out = capsys.readouterr().out
    assert max(len(line) for line in out.splitlines()) <= 100
    squeezed = re.sub(r" +", " ", out)
    assert "vllm-0 lanes 7 13 1+5 on 310 ms 120 ms - 900 ms local" in squeezed
    assert "vllm-0 reports 5 8.40 s 1 25.0 % 50.0 % demoted" in squeezed
    assert "all 1,000 kept 0 %" in squeezed
    assert "who stalled whom, estimated, the newest" in out
    assert "acme reports 7.17 s 0.0 ms 7.17 s 0.0 ms" in squeezed
    assert "missed the objective" not in out


def test_the_alarm_is_an_exit_code(answers: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["admission", "show", "--alarm"]) == 0
    answers["/api/v1/admission"] = evidence(30)
    assert main(["admission", "show"]) == 0
    capsys.readouterr()
    assert main(["admission", "show", "--alarm"]) == 1
    assert (
        "class interactive: 30.0 % of 100 calls missed the objective, 5.0 % may; all calls together keep theirs, which hides it"
        in capsys.readouterr().out
    )


def test_json_is_the_report_itself(answers: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["admission", "show", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert msgspec.convert(told["report"], AdmissionReport) == answers["/api/v1/admission"]
    assert told["now"][0]["view"]["queued"] == 7


def test_nothing_is_said_in_words(answers: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    answers["/api/v1/admission/now"] = AdmissionNow(endpoints=())
    rows = Rows(
        since_wall_ms=0, until_wall_ms=1, bucket_ms=1, newest_wall_ms=None, endpoint="", tenant="", counts=(), measured={}, spans=()
    )
    answers["/api/v1/admission"] = report(rows, {}, [], 1)
    assert main(["admission", "show"]) == 0
    out = capsys.readouterr().out
    assert "no endpoint is shared by a policy now" in out
    assert "no call in this range" in out
