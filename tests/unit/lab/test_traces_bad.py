"""Files that cannot be used are refused with their line and what is wrong."""

import gzip
from pathlib import Path

import pytest

from headway.lab.traces import reading
from headway.lab.traces.arena import load_arena
from headway.lab.traces.azure import load_azure
from headway.lab.traces.calls import quantile
from headway.lab.traces.draw import draw_calls
from headway.lab.traces.lengths import load_lengths
from headway.lab.traces.machines import load_distserve
from headway.lab.traces.measured import load_vllm_requests, load_vtc_runs
from headway.lab.traces.mooncake import load_mooncake
from headway.lab.traces.profiles import load_profile
from headway.lab.traces.reading import TraceError, TraceMissing, traces_folder
from headway.lab.traces.servegen import Client, Lengths, Window, load_servegen

AZURE = "azure_llm_2023_code.csv.gz"
AZURE_HEAD = "TIMESTAMP,ContextTokens,GeneratedTokens"
GOOD = "2023-11-16 18:17:03.9799600,10,1"
VTC_HEAD = "experiment,client_id,arrival_s,prompt_tokens,output_tokens,ttft_s,e2e_s"
PROFILES = "calibration/llmservingsim/profile__H__o__M__bf16__"
VLLM = "calibration/llmservingsim/vllm_measured__R__requests.jsonl.gz"
SERVEGEN = "servegen_deepseek_r1.jsonl.gz"


def put(folder: Path, name: str, *lines: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    data = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return folder


def client(**fields: object) -> str:
    import json

    return json.dumps({"client": 1, "trace": [[0, 1.0, 1.0, "Gamma", 1.0, 1.0]], "dataset": {}} | fields)


def request(**fields: object) -> str:
    import json

    told = {"request_id": "a", "input_toks": 5, "output_toks": 5, "arrival_time": 1.0}
    return json.dumps(told | {"queued_ts": 1.0, "scheduled_ts": 2.0, "first_token_ts": 3.0, "last_token_ts": 4.0} | fields)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ((AZURE_HEAD, GOOD, "2023-11-16 18:17:04,x,1"), "line 3: ContextTokens is 'x', not a whole number"),
        ((AZURE_HEAD, "2023-11-16 18:17:04,0,1"), "line 2: ContextTokens is 0, less than 1"),
        ((AZURE_HEAD, "2023-11-16 18:17:04,5"), "line 2: has 2 cells where the heading has 3"),
        ((AZURE_HEAD, "yesterday,5,1"), "line 2: TIMESTAMP is 'yesterday', not a time"),
        ((AZURE_HEAD, "2023-11-16 18:17:04.12x,5,1"), "line 2: TIMESTAMP is"),
        ((AZURE_HEAD, GOOD, "2023-11-16 18:17:03.0,5,1"), "line 3: TIMESTAMP 2023-11-16 18:17:03.0 is before the row above it"),
        (("time,tokens", "1,2"), "line 1: has no column TIMESTAMP, ContextTokens, GeneratedTokens; it has time, tokens"),
    ],
)
def test_rows_of_a_table(tmp_path: Path, lines: tuple[str, ...], words: str) -> None:
    with pytest.raises(TraceError, match="azure_llm_2023_code.csv.gz") as refused:
        load_azure(put(tmp_path, AZURE, *lines), "code")
    assert words in str(refused.value)


def test_a_last_line_without_its_end_counts_and_blank_ones_do_not(tmp_path: Path) -> None:
    (tmp_path / AZURE).write_bytes(gzip.compress(f"{AZURE_HEAD}\n{GOOD}\n\n{GOOD}".encode()))
    calls = load_azure(tmp_path, "code")
    assert [(call.at_ns, call.prompt_tokens) for call in calls] == [(0, 10), (0, 10)]


def test_a_tenth_of_a_microsecond_is_kept(tmp_path: Path) -> None:
    put(tmp_path, AZURE, AZURE_HEAD, "2023-11-16 18:17:03.9999999,10,1", "2023-11-16 18:17:04,10,1")
    assert load_azure(tmp_path, "code")[1].at_ns == 100


@pytest.mark.parametrize("empty", [b"", gzip.compress(b"")])
def test_an_empty_file(tmp_path: Path, empty: bytes) -> None:
    (tmp_path / AZURE).write_bytes(empty)
    with pytest.raises(TraceError, match="is empty"):
        load_azure(tmp_path, "code")


def test_a_file_that_is_not_there_or_broken_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(TraceMissing, match="set HEADWAY_DATA or give --data"):
        load_arena(tmp_path)
    whole = gzip.compress(b"arrival_s,client_id,prompt_tokens,output_tokens\n" + b"1,2,3,4\n" * 5_000)
    (tmp_path / "vtc_arena_27clients.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TraceError, match="cannot be read"):
        load_arena(tmp_path)
    (tmp_path / "vtc_arena_27clients.csv.gz").write_bytes(whole[:40] + b"\xff\xff\xff" + whole[43:])
    with pytest.raises(TraceError):
        load_arena(tmp_path)
    (tmp_path / "vtc_arena_27clients.csv.gz").write_bytes(b"no gzip at all")
    with pytest.raises(TraceError, match="cannot be read"):
        load_arena(tmp_path)
    (tmp_path / "vtc_arena_27clients.csv.gz").write_bytes(gzip.compress(b"\xff\xfe\n"))
    with pytest.raises(TraceError, match="line 1: is not UTF-8"):
        load_arena(tmp_path)


def test_lines_and_files_have_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, AZURE, AZURE_HEAD, GOOD, GOOD)
    monkeypatch.setattr(reading, "LAB_ROWS_MAX", 2)
    with pytest.raises(TraceError, match="line 3: more than 2 lines"):
        load_azure(tmp_path, "code")
    monkeypatch.setattr(reading, "LAB_LINE_BYTES_MAX", 20)
    with pytest.raises(TraceError, match="line 1: the line is longer than 20 bytes"):
        load_azure(tmp_path, "code")


@pytest.mark.parametrize("number", ["nan", "inf", "-1", "x"])
def test_numbers_are_finite_and_not_negative(tmp_path: Path, number: str) -> None:
    put(tmp_path, "vtc_arena_27clients.csv.gz", "arrival_s,client_id,prompt_tokens,output_tokens", f"{number},1,1,1")
    with pytest.raises(TraceError, match="line 2: arrival_s is"):
        load_arena(tmp_path)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"timestamp": 3000, "input_length": 600, "output_length": 1, "hash_ids": [1]}', "line 2: has 1 hash_ids for 600 tokens"),
        ('{"timestamp": 0, "input_length": 0, "output_length": 1, "hash_ids": []}', "line 2: timestamp is negative, or a length"),
        (
            '{"timestamp": 0, "input_length": 5, "output_length": 1, "hash_ids": [1]}',
            "line 2: timestamp 0 is before the line above",
        ),
        ('{"timestamp": 0, "input_length": 5}', "line 2: Object missing required field"),
        ("{", "line 2: Input data was truncated"),
    ],
)
def test_lines_of_mooncake(tmp_path: Path, line: str, words: str) -> None:
    good = '{"timestamp": 3000, "input_length": 5, "output_length": 1, "hash_ids": [1]}'
    put(tmp_path, "mooncake_conversation.jsonl.gz", good, line)
    with pytest.raises(TraceError) as refused:
        load_mooncake(tmp_path)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (client(trace=[[0, -1.0, 1.0, "Gamma", 1.0, 1.0]]), "window 0 has a negative rate"),
        (client(trace=[[0, 1.0, 1.0, "Pareto", 1.0, 1.0]]), "Invalid enum value 'Pareto'"),
        (client(dataset={"0": {"input_tokens": [[1, 2], [1.0]], "output_tokens": [[], []]}}), "have 2 values, 1 shares"),
        (client(dataset={"0": {"input_tokens": [[1, 2], [0.5, 0.1]], "output_tokens": [[], []]}}), "sum 0.6"),
    ],
)
def test_lines_of_servegen(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(TraceError) as refused:
        load_servegen(put(tmp_path, SERVEGEN, line), "r1")
    assert "line 1: " in str(refused.value)
    assert words in str(refused.value)


def test_lengths_whose_total_is_wrong(tmp_path: Path) -> None:
    put(tmp_path, "lengths_sharegpt_8k_llama2tok.csv.gz", "num_prefill_tokens,num_decode_tokens,num_total_tokens", "2,3,6")
    with pytest.raises(TraceError, match="line 2: num_total_tokens is 6, not 5"):
        load_lengths(tmp_path, "sharegpt")


def test_measured_requests_whose_times_run_backwards(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="line 2: queued, scheduled, first and last token are not in that order"):
        load_vllm_requests(put(tmp_path, VLLM, request(), request(first_token_ts=1.5)), "R")
    with pytest.raises(TraceError, match="line 1: a prompt or an answer has no tokens"):
        load_vllm_requests(put(tmp_path, VLLM, request(output_toks=0)), "R")


def test_an_answer_of_one_token_has_no_pace(tmp_path: Path) -> None:
    (one,) = load_vllm_requests(put(tmp_path, VLLM, request(output_toks=1)), "R")
    assert (one.tpot_ms, one.ttft_s, one.e2e_s) == (None, 2.0, 3.0)


def test_refused_requests_have_no_times_and_other_negatives_are_wrong(tmp_path: Path) -> None:
    name = "calibration/vtc_measured_runs.csv.gz"
    (run,) = load_vtc_runs(put(tmp_path, name, VTC_HEAD, "L.x,0,1.0,5,0,-1,-1")).values()
    assert (run[0].ttft_s, run[0].e2e_s) == (None, None)
    with pytest.raises(TraceError, match="line 2: ttft_s is -0.5"):
        load_vtc_runs(put(tmp_path, name, VTC_HEAD, "L.x,0,1.0,5,1,-0.5,2"))


def test_profiles(tmp_path: Path) -> None:
    put(tmp_path, f"{PROFILES}tp1__dense.csv.gz", "layer,tokens,time_us", "a,2,1", "a,1,1")
    with pytest.raises(TraceError, match="line 3: tokens 1 does not rise within layer a"):
        load_profile(tmp_path, "H", "o/M")
    put(tmp_path, f"{PROFILES}tp1__dense.csv.gz", "layer,tokens,time_us", "a,1,1", "a,2,1")
    put(tmp_path, f"{PROFILES}tp1__per_sequence.csv.gz", "layer,sequences,time_us", "lm_head,1,1")
    put(tmp_path, f"{PROFILES}tp1__attention.csv.gz", "prefill_chunk,kv_prefill,n_decode,kv_decode,time_us")
    with pytest.raises(TraceError, match="attention.csv.gz: has no rows"):
        load_profile(tmp_path, "H", "o/M")
    put(tmp_path, f"{PROFILES}tp1__attention.csv.gz", "prefill_chunk,kv_prefill,n_decode,kv_decode,time_us", "16,0,0,0,1")
    put(tmp_path, f"{PROFILES}meta.yaml.gz", "  per_tp:", "    1:", "      alpha_default: much")
    with pytest.raises(TraceError, match="line 3: alpha_default is not a number"):
        load_profile(tmp_path, "H", "o/M")
    put(
        tmp_path, f"{PROFILES}meta.yaml.gz", "  per_tp:", "    1:", "      alpha_default: 0.5", "    2:", "      alpha_default: 0.7"
    )
    assert load_profile(tmp_path, "H", "o/M").skew == 0.5


def test_fits_that_are_no_json(tmp_path: Path) -> None:
    put(tmp_path, "calibration/distserve_profiler_a100_vllm.json", "{")
    with pytest.raises(TraceError, match="distserve_profiler_a100_vllm.json: Input data was truncated"):
        load_distserve(tmp_path, "vllm")


def test_the_folder_is_told_by_option_then_variable_then_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWAY_DATA", "/from/variable")
    assert traces_folder(tmp_path) == tmp_path / "traces"
    assert traces_folder() == Path("/from/variable/traces")
    monkeypatch.delenv("HEADWAY_DATA")
    assert traces_folder().parts[-3:] == ("shared", "data", "traces")


def test_draws_keep_to_their_windows_and_to_known_lengths() -> None:
    windows = (Window(0, 2.0, 1.0, "Gamma", 1.0, 0.5), Window(600, 0.0, 1.0, "Weibull", 1.0, 1.0))
    morning = Lengths(input_tokens=((7,), (1.0,)), output_tokens=((9,), (1.0,)))
    none = Client(client=2, trace=windows, dataset={"0": Lengths(input_tokens=((), ()), output_tokens=((), ()))})
    calls = draw_calls([Client(client=1, trace=windows, dataset={"0": morning}), none], 1, began_s=100, seconds=1_000)
    assert 800 < len(calls) < 1_200
    assert {(call.tenant, call.prompt_tokens, call.output_tokens) for call in calls} == {("1", 7, 9)}
    assert all(0 <= call.at_ns < 500e9 for call in calls)
    halved = draw_calls([Client(client=1, trace=windows, dataset={"0": morning})], 1, began_s=100, seconds=1_000, rate_scale=0.5)
    assert len(halved) == pytest.approx(len(calls) / 2, rel=0.15)


def test_quantiles_are_linear_between_neighbours() -> None:
    assert [quantile([4, 1, 3, 2], share) for share in (0, 0.5, 0.9, 1)] == pytest.approx([1, 2.5, 3.7, 4])
    assert quantile([5], 0.99) == 5
