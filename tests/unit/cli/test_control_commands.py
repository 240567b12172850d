"""Commands that talk to control, against a control that says what the API's structs say."""

import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headway.cli import main
from headway.cli.trouble import NOT_AS_WANTED, UNUSABLE
from headway.control.api.estate import BudgetList
from headway.control.api.keys import KeyCreated, KeyList, KeyRevoked, KeyView
from headway.control.api.people import LoginLink, PrincipalList
from headway.control.callbook import CallList, OneCall
from headway.control.errors import ErrorAnswer, ErrorBody
from headway.control.live import LiveCall
from headway.control.ports import DiffLine, Generation, StoredCall
from headway.facts.model import AttemptFact, CallFact
from headway.facts.token_times import encode
from headway.kernel.instants import MonoNs
from headway.ledger.model import BudgetState, BudgetUnit, Principal, PrincipalKind, Role

CALL = "call_01jd8zk3m4aaaaaaaaaaaaaaaa"
FACT = CallFact(
    call=CALL,
    started_wall_ms=1_790_000_000_000,
    duration_ms=812.4,
    gateway="g1",
    tenant="search",
    requested="chat",
    routed="openai/gpt-5-mini",
    answered="gpt-5-mini-2026-01-01",
    first_token_ms=91.7,
    input_tokens=12,
    output_tokens=34,
    cost_nano_usd=1_234_567,
)
LIVE = LiveCall(
    call=CALL,
    state="ended",
    gateway="g1",
    started_wall_ms=FACT.started_wall_ms,
    tenant="search",
    feature="chat",
    requested="chat",
    dialect="openai-chat",
    stream=True,
    fact=FACT,
)
KEY = KeyView(
    id="key_1",
    name="svc",
    tenant="search",
    role=Role.VIEWER,
    features=(),
    created_wall_ms=1_790_000_000_000,
    expires_wall_ms=None,
    revoked_wall_ms=None,
    state="active",
)
BUDGET = BudgetState(
    id="b1",
    scope="tenant:search",
    unit=BudgetUnit.NANO_USD,
    period="day",
    cap=5_000_000_000,
    spent=1_000_000_000,
    leased=250_000_000,
    period_start_wall_ms=1_790_000_000_000,
    period_end_wall_ms=1_790_086_400_000,
)


class FakeControl:
    """Answers by (method, path) and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], tuple[int, bytes]] = {}
        self.asked: list[tuple[str, str, Any]] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                owner.asked.append((self.command, self.path, json.loads(body) if body else None))
                assert self.headers["authorization"] == "Bearer token-of-owner"
                status, data = owner.answers[(self.command, self.path.partition("?")[0])]
                self.send_response(status)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PATCH = do_DELETE = answer

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def says(self, method: str, path: str, value: object, status: int = 200) -> None:
        data = value if isinstance(value, bytes) else msgspec.json.encode(value)
        self.answers[(method, path)] = (status, data)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeControl]:
    monkeypatch.chdir(tmp_path)
    fake = FakeControl()
    (tmp_path / "headway.toml").write_text(f"[control]\nlisten = '127.0.0.1:{fake.server.server_port}'\n")
    (tmp_path / ".headway").mkdir()
    (tmp_path / ".headway/control.token").write_text("token-of-owner\n")
    yield fake
    fake.close()


def test_keys_are_made_listed_and_revoked(control: FakeControl, capsys: pytest.CaptureFixture[str]) -> None:
    control.says("POST", "/api/v1/keys", KeyCreated(key=KEY, secret="hw_x_y"), 201)
    assert main(["keys", "create", "--tenant", "search", "--name", "svc", "--feature", "chat", "--expires", "2h"]) == 0
    assert capsys.readouterr().out == "hw_x_y\n"
    sent = {"tenant": "search", "name": "svc", "role": "viewer", "features": ["chat"], "expires_in_s": 7200}
    assert control.asked[-1] == ("POST", "/api/v1/keys", sent)
    control.says("GET", "/api/v1/keys", KeyList(keys=(KEY,)))
    assert main(["keys", "list"]) == 0
    assert "key_1  svc   search  viewer  all" in capsys.readouterr().out
    assert main(["keys", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["id"] == "key_1"
    control.says("DELETE", "/api/v1/keys/key_1", KeyRevoked(id="key_1", within_s=10))
    assert main(["keys", "revoke", "key_1"]) == 0
    assert "within 10 s" in capsys.readouterr().out
    assert main(["keys", "revoke", "../x"]) == UNUSABLE


def test_a_key_gets_a_budget_of_its_own(control: FakeControl, capsys: pytest.CaptureFixture[str]) -> None:
    path = "/api/v1/keys/key_1/budgets"
    control.says("PATCH", path, BudgetList(budgets=(msgspec.structs.replace(BUDGET, scope="key:key_1"),)))
    assert main(["keys", "budget", "key_1", "--usd-per-day", "0.25", "--tokens-per-day", "1_000", "--usd-per-month", "none"]) == 0
    assert control.asked[-1] == ("PATCH", path, {"usd_per_day": "0.25", "tokens_per_day": 1000, "usd_per_month": None})
    assert "key:key_1  day     $5.0000" in capsys.readouterr().out
    control.says("GET", path, BudgetList(budgets=()))
    assert main(["keys", "budget", "key_1"]) == 0
    assert "no budget of its own" in capsys.readouterr().out
    for wrong in ("much", "-1", "NaN", "1.5"):
        assert main(["keys", "budget", "key_1", "--tokens-per-day", wrong]) == UNUSABLE


def test_a_refusal_of_control_is_three_lines(control: FakeControl, capsys: pytest.CaptureFixture[str]) -> None:
    refused = ErrorAnswer(error=ErrorBody(code="bad_request", message="there is no tenant 'x'", fix="add [tenants.x]"))
    control.says("POST", "/api/v1/keys", refused, 400)
    assert main(["keys", "create", "--tenant", "x"]) == NOT_AS_WANTED
    assert capsys.readouterr().err.splitlines() == [
        "error: there is no tenant 'x'",
        "why: control answered 400 bad_request",
        "do: add [tenants.x]",
    ]
    control.says("GET", "/api/v1/keys", b"<html>", 502)
    assert main(["keys", "list"]) == NOT_AS_WANTED
    assert "control.log" in capsys.readouterr().err


def test_budgets_add_up(control: FakeControl, capsys: pytest.CaptureFixture[str]) -> None:
    control.says("GET", "/api/v1/budgets", BudgetList(budgets=(BUDGET,)))
    assert main(["budgets", "list"]) == 0
    row = capsys.readouterr().out.splitlines()[1].split()
    assert row[:6] == ["tenant:search", "day", "$5.0000", "$1.0000", "$0.2500", "$3.7500"]


def test_calls_are_listed_and_one_is_shown(control: FakeControl, capsys: pytest.CaptureFixture[str]) -> None:
    control.says("GET", "/api/v1/calls", CallList(in_flight=(), calls=(LIVE,)))
    assert main(["calls", "list", "--tenant", "search"]) == 0
    line = capsys.readouterr().out.splitlines()[1]
    assert line.split()[1:] == ["aaaaaaaaaa", "search", "chat", "gpt-5-mini-20…", "done", "92ms", "812ms", "12", "34", "$0.00123"]
    assert len(line) <= 100
    assert "tenant=search" in control.asked[-1][1]
    attempt = AttemptFact(call=CALL, attempt=1, started_wall_ms=1, gateway="g1", provider="openai", status=200, answered="m")
    stored = StoredCall(fact=FACT, attempts=(attempt,))
    control.says("GET", f"/api/v1/calls/{CALL}", OneCall(call=CALL, state="ended", stored=stored))
    assert main(["calls", "show", CALL]) == 0
    out = capsys.readouterr().out
    assert "$0.001234567" in out
    assert "openai" in out
    assert main(["calls", "show", "a/b"]) == UNUSABLE


def test_gaps_of_a_calls_answer(control: FakeControl, capsys: pytest.CaptureFixture[str]) -> None:
    reads = [100 + 20 * i for i in range(50)] + [1_600, 1_620]
    attempt = AttemptFact(
        call=CALL,
        attempt=1,
        started_wall_ms=1,
        gateway="g1",
        first_token_ms=100.0,
        last_token_ms=1_620.0,
        token_times=encode(MonoNs(0), [each * 1_000_000 for each in reads]),
    )
    stored = StoredCall(fact=FACT, attempts=(attempt,))
    control.says("GET", f"/api/v1/calls/{CALL}", OneCall(call=CALL, state="ended", stored=stored))
    assert main(["calls", "gaps", CALL, "--over", "3"]) == 0
    heads, row = capsys.readouterr().out.splitlines()
    assert "over 3 medians" in heads
    assert row.split() == ["1", "51", "20.0ms", "520.0ms", "520.0ms", "1", "1", "500.0ms", "0"]
    assert main(["calls", "gaps", CALL, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["attempts"]
    assert (found["median_ms"], found["stalls"]) == (20.0, [{"at_ms": 1080.0, "gap_ms": 520.0}])
    control.says("GET", f"/api/v1/calls/{CALL}", OneCall(call=CALL, state="ended", stored=StoredCall(fact=FACT, attempts=())))
    assert main(["calls", "gaps", CALL]) == 0
    assert "no times of reads" in capsys.readouterr().out
    assert main(["calls", "gaps", "a/b"]) == UNUSABLE


def test_tail_follows_and_writes_one_object_a_line(
    control: FakeControl, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = msgspec.structs.replace(LIVE, state="in_flight", fact=None, call="call_2")
    later = msgspec.structs.replace(LIVE, call="call_3")
    control.says("GET", "/api/v1/calls", CallList(in_flight=(), calls=(LIVE,)))
    events = b": watching\n\nevent: calls\ndata: " + msgspec.json.encode((opened, later)) + b"\n\nevent: refetch\ndata: 7\n\n"
    control.says("GET", "/api/v1/calls/stream", events)

    def ctrl_c(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("headway.cli.calls.time.sleep", ctrl_c)
    assert main(["calls", "tail", "--json"]) == 0
    told = capsys.readouterr()
    assert [json.loads(line)["call"] for line in told.out.splitlines()] == [CALL, "call_2", "call_3"]
    assert "7 calls were left out" in told.err
    assert main(["calls", "tail"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["call", "aaaaaaaaaa", "call_3"]


def test_config_shows_the_diff_and_a_bad_file_is_an_error(control: FakeControl, capsys: pytest.CaptureFixture[str]) -> None:
    changed = Generation(
        number=4, loaded_wall_ms=1, path="/x/headway.toml", diff=(DiffLine(key="gateway.drain_s", before="30", after="60"),)
    )
    control.says("GET", "/api/v1/generation", changed)
    assert main(["config", "show"]) == 0
    assert "gateway.drain_s  30      60" in capsys.readouterr().out
    control.says("POST", "/api/v1/generation/reload", msgspec.structs.replace(changed, problem="headway.toml:2: nonsense"))
    assert main(["config", "reload"]) == UNUSABLE
    assert capsys.readouterr().err.splitlines()[0] == "error: generation 4 stays in force"


def test_users_are_added_with_a_password_from_standard_input(
    control: FakeControl, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = Principal(id="prn_1", kind=PrincipalKind.USER, name="ann", role=Role.OPERATOR)
    control.says("POST", "/api/v1/users", ann, 201)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a long password\n"), encoding="utf-8"))
    assert main(["users", "add", "ann", "--role", "operator"]) == 0
    assert control.asked[-1][2] == {"name": "ann", "password": "a long password", "role": "operator", "tenant": ""}
    assert "a long password" not in "".join(capsys.readouterr())
    key = Principal(id="key_1", kind=PrincipalKind.KEY, name="k", role=Role.VIEWER)
    control.says("GET", "/api/v1/principals", PrincipalList(principals=(ann, key)))
    assert main(["users", "list"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["ann", "operator", "all", "active", "prn_1"]


def test_login_prints_a_whole_address(control: FakeControl, capsys: pytest.CaptureFixture[str]) -> None:
    control.says("POST", "/api/v1/login-links", LoginLink(path="/login?token=t", ttl_s=600), 201)
    assert main(["login"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"http://127.0.0.1:{control.server.server_port}/login?token=t"


def test_feedback_goes_to_the_gateway_with_the_callers_key(
    control: FakeControl, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    control.says("POST", "/v1/headway/feedback", {"noted": True}, 202)
    monkeypatch.setenv("HEADWAY_URL", f"http://127.0.0.1:{control.server.server_port}")
    monkeypatch.setenv("HEADWAY_KEY", "token-of-owner")
    assert main(["feedback", CALL, "accepted", "--note", "good"]) == 0
    assert control.asked[-1] == ("POST", "/v1/headway/feedback", {"call": CALL, "kind": "accepted", "note": "good"})
    control.says("POST", "/v1/headway/feedback", {"error": {"message": "no such key"}}, 401)
    assert main(["feedback", CALL, "accepted"]) == NOT_AS_WANTED
    assert "HEADWAY_KEY" in capsys.readouterr().err
