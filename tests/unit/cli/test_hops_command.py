"""``headway hops``: who owns what, as a table within 100 columns and as JSON; the gate's exit codes; files that are none."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from headway.cli import main
from headway.cli.client import Control
from headway.control.traces import Taken


def trace(number: int, rng: random.Random) -> list[dict[str, Any]]:
    """An edge asks auth, then a model by way of an agent. Auth owns the tail: each twentieth takes ten times as long."""
    start = 1_790_000_000_000_000 + number * 1_000_000
    auth = int(rng.uniform(20_000, 30_000)) * (10 if number % 20 == 0 else 1)
    model = int(rng.uniform(80_000, 120_000))

    def span(own: int, parent: int, service: str, name: str, at: int, took: int, **tags: object) -> dict[str, Any]:
        references = [{"refType": "CHILD_OF", "traceID": f"{number + 1:x}", "spanID": f"{parent:x}"}] if parent else []
        return {
            "traceID": f"{number + 1:x}",
            "spanID": f"{own:x}",
            "operationName": name,
            "references": references,
            "startTime": at,
            "duration": took,
            "process": {"serviceName": service},
            "tags": [{"key": key, "value": value} for key, value in tags.items()],
        }

    chat = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m1", "headway.tenant": f"t{number % 2}"}
    return [
        span(1, 0, "edge", "POST /ask", start, auth + model + 10_000),
        span(2, 1, "auth", "check", start + 2_000, auth),
        span(3, 1, "agent", "chat m1", start + 4_000 + auth, model, **chat),
    ]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = random.Random(7)
    path = tmp_path_factory.mktemp("traces") / "jaeger.json"
    path.write_text(json.dumps({"data": [{"spans": trace(number, rng)} for number in range(400)]}))
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_who_owns_what_as_json(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "hops", "attribute", file, "--by", "type", "--json")
    told = json.loads(out)
    assert (code, told["traces"], told["spans"], told["refused"]) == (0, 400, 1_200, {})
    (stratum,) = told["strata"]
    assert stratum["stratum"] == {"request_type": "edge POST /ask"}
    p50, p95, p99 = stratum["quantiles"]
    for quantile in (p50, p95, p99):
        assert sum(hop["at"]["value"] for hop in quantile["hops"]) == pytest.approx(quantile["total"]["value"])
    assert p50["hops"][0]["hop"] == "model m1"
    assert p99["hops"][0]["hop"] == "auth"
    assert p99["hops"][0]["at"]["low"] < p99["hops"][0]["at"]["value"] < p99["hops"][0]["at"]["high"]
    gone = stratum["model_gone"]
    assert gone["question"] == "model = 0 ms"
    assert gone["after"][0]["value"] < 45 < gone["before"][0]["value"]
    best = stratum["changes"][0]
    assert best["answer"]["saved"][2]["low"] > 0
    assert best["answer"]["after"][2]["value"] < p99["total"]["value"]
    (pair,) = stratum["pairs"]
    assert (pair["key"]["first"], pair["key"]["then"], pair["safe"], pair["speculative"]) == (
        "auth check",
        "model m1 chat m1",
        False,
        True,
    )
    assert told["mix"]


def test_the_table_has_bars_and_fits(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "hops", "attribute", file)
    assert code == 0
    assert max(len(line) for line in out.splitlines()) <= 100
    assert "edge POST /ask: 400 traces" in out
    assert "█" in out
    assert "model = 0 ms: p50" in out
    assert "safe? nobody has said so" in out
    assert "auth x0.5: p99" in out
    assert "spans read" in err


def test_a_pair_that_somebody_confirmed_is_shown_so(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    budget = tmp_path / "hops.toml"
    pair = 'first = "auth check"\nthen = "model m1 chat m1"\nsays = "Ana"'
    for request, shown in (
        ("*", "safe? yes, confirmed"),
        ("edge POST /ask", "safe? yes, confirmed"),
        ("another", "nobody has said so"),
    ):
        budget.write_text(f'[requests."*"]\np99_ms = 800\n[[safe]]\nrequest = "{request}"\n{pair}\n')
        code, out, _ = run(capsys, "hops", "attribute", file, "--budget", budget)
        assert code == 0
        assert shown in " ".join(out.split())
    budget.write_text('[requests."*"]\np99_ms = 800\n[[safe]]\nfirst = "auth check"\nthan = "x"\n')
    code, _, err = run(capsys, "hops", "attribute", file, "--budget", budget)
    assert code == 2
    assert "hops.toml:5" in err
    assert "then" in err


def test_told_apart_by_tenant_and_pooled(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(run(capsys, "hops", "attribute", file, "--by", "TENANT", "--top", 1, "--json")[1])
    assert {stratum["stratum"]["tenant"]: stratum["n"] for stratum in told["strata"]} == {"t0": 200, "t1": 200}
    assert [bool(stratum["changes"]) for stratum in told["strata"]] == [True, False]
    (pooled,) = json.loads(run(capsys, "hops", "attribute", file, "--by", "all", "--json")[1])["strata"]
    assert (pooled["name"], pooled["n"]) == ("all", 400)
    both = json.loads(run(capsys, "hops", "attribute", file, "--by", "type,cache", "--json")[1])["strata"]
    assert both[0]["stratum"] == {"request_type": "edge POST /ask", "cache_hit": "unknown"}


def test_few_traces_still_tell_their_means(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = tmp_path / "few.json"
    few.write_text(json.dumps({"data": json.loads(file.read_text())["data"][1:3]}))
    code, out, _ = run(capsys, "hops", "attribute", few)
    assert code == 0
    assert "quantiles cannot be told: 2 traces" in out
    assert "model m1" in out


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("attribute", "{file}", "--by", "colour"), 2, "is not type, calls, tenant"),
        (("attribute",), 2, "name files of traces, or give --facts"),
        (("attribute", "{file}", "--facts"), 2, "name files of traces, or give --facts"),
        (("attribute", "{absent}"), 2, "No such file"),
        (("attribute", "{text}"), 2, "is none of OTLP"),
        (("attribute", "{file}", "--type", "nothing"), 3, "there are edge POST /ask"),
        (("check", "{file}", "--budget", "{absent}"), 2, "No such file"),
        (("check", "{text}", "--budget", "{kept}"), 2, "is none of OTLP"),
        (("import", "{text}"), 2, "cannot be imported"),
    ],
)
def test_what_cannot_be_used_is_told(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, told: str
) -> None:
    (tmp_path / "text").write_text("hello")
    (tmp_path / "kept").write_text('[requests."*"]\np50_ms = 1000\n')
    names = {"file": file, "absent": tmp_path / "absent", "text": tmp_path / "text", "kept": tmp_path / "kept"}
    found, _, err = run(capsys, "hops", *(argument.format(**names) for argument in arguments))
    assert found == code
    assert told in err


@pytest.mark.parametrize(
    ("budget", "code", "told"),
    [
        ('[requests."edge POST /ask"]\np50_ms = 1000\n[requests."edge POST /ask".hops.auth]\np50_ms = 40\n', 0, "kept"),
        ('[requests."edge POST /ask".hops.auth]\np99_ms = 40\nshare = 0.2\n', 1, "BROKEN"),
        ('[requests."edge POST /ask"]\np99_mss = 40\n', 2, 'did you mean "p99_ms"'),
        ('[requests."edge POST /as"]\np50_ms = 40\n', 3, 'did you mean "edge POST /ask"'),
        ('traces_min = 1000\n[requests."edge POST /ask"]\np50_ms = 1000\n', 3, "400 traces; it takes 1,000"),
    ],
)
def test_the_gates_exit_codes(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], budget: str, code: int, told: str
) -> None:
    path = tmp_path / "hops.toml"
    path.write_text(budget)
    found, out, err = run(capsys, "hops", "check", "--budget", path, file)
    assert found == code
    assert told in out + err
    assert max((len(line) for line in out.splitlines()), default=0) <= 100
    if code != 2:
        states = {line["state"] for line in json.loads(run(capsys, "hops", "check", "--budget", path, file, "--json")[1])["lines"]}
        assert states <= {"kept", "broken", "cannot tell", "over, within noise"}


def test_out_of_the_store_and_into_it(file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[str, int]] = []

    def post(self: Control, path: str, body: Any, kind: type[Any]) -> Any:
        sent.append((path, len(json.loads(bytes(body))["data"])))
        return Taken(spans=3 * sent[-1][1], refused={"id_malformed": 1})

    def fetch(self: Control, path: str, **query: Any) -> bytes:
        sent.append((path + str(query), 0))
        return file.read_bytes()

    monkeypatch.setattr(Control, "post", post)
    monkeypatch.setattr(Control, "fetch", fetch)
    code, out, _ = run(capsys, "hops", "import", file)
    assert (code, sent) == (0, [("/api/v1/traces?form=jaeger", 400)])
    assert out == "1,200 spans stored\nrefused: id_malformed 1\n"
    code, out, _ = run(capsys, "hops", "attribute", "--facts", "--range", "24h")
    assert code == 0
    assert "400 traces" in out
    assert sent[-1][0] == "/api/v1/traces{'range': '24h'}"
