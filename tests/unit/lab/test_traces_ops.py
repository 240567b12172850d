"""Known answers of ops/traces (data folder, HEADWAY_DATA)."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headway.calls.hops.clean import clean
from headway.calls.hops.critical_path import exclusive_us
from headway.calls.hops.times import times_of
from headway.lab.traces.jaeger import load_agent, load_cases
from headway.lab.traces.nezha import load_faults, load_nezha, service_of
from headway.lab.traces.ops import ops_folder
from headway.lab.traces.petshop import load_petshop
from headway.lab.traces.reading import TraceError, TraceMissing

FOLDER = ops_folder()
needs_data = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no traces in {FOLDER}; set HEADWAY_DATA")
OVERLAPPED = {"10.json", "19.json", "20.json", "21.json"}
"""CRISP counts an overlap of siblings twice, and takes it from their parent."""


@needs_data
def test_crisp_s_cases_have_crisp_s_answers() -> None:
    cases = load_cases(FOLDER)
    assert len(cases) == 33
    differ = set()
    for case in cases:
        trace = clean(case.spans, skew_us_max=0).traces[0]
        found = exclusive_us(trace)
        assert sum(found.values()) == trace.duration_us
        if found != {hop: us for hop, us in case.expected.items() if us}:
            differ.add(case.name)
    assert differ == OVERLAPPED


@needs_data
def test_a_model_s_time_is_told_in_an_agent_s_trace() -> None:
    spans = load_agent(FOLDER)
    row = times_of(clean(spans).traces[0])
    assert (len(spans), row.duration_us, sum(row.by_hop.values())) == (57, 44_000_000, 44_000_000)
    assert row.model_us == 3_500_000
    assert row.by_hop["model-b"] == 50_000


@needs_data
def test_faults_and_spans_of_train_ticket() -> None:
    faults = load_faults(FOLDER)
    assert (len(faults), sum(fault.slows for fault in faults)) == (60, 28)
    assert faults[0].service == "frontend"
    spans, places = load_nezha(FOLDER, "trainticket")
    assert (len(spans), len(places)) == (325_859, 4_551)
    assert sum(place.normal for place in places.values()) == 71


@needs_data
def test_hops_of_aws_that_outlast_a_first_token() -> None:
    p50 = load_petshop(FOLDER, "p50")
    found = [
        round(p50[name]) for name in ("STS_AWS::STS", "Evidently_AWS::Evidently", "SSM_AWS::SSM", "PGSQL Query_remote", "PetSite")
    ]
    assert found == [751, 261, 232, 16, 52]
    assert round(load_petshop(FOLDER, "p99")["PetSite"]) == 445


def test_files_that_are_not_there_or_not_what_they_should_be_say_so(tmp_path: Path) -> None:
    for load in (lambda: load_nezha(tmp_path, "trainticket"), lambda: load_petshop(tmp_path, "p50"), lambda: load_cases(tmp_path)):
        with pytest.raises(TraceMissing, match="HEADWAY_DATA"):
            load()
    (tmp_path / "crisp_jaeger_test_cases.json.gz").write_bytes(b"no gzip")
    with pytest.raises(TraceError, match="cannot be read"):
        load_cases(tmp_path)
    petshop = tmp_path / "petshop_latency_high_traffic.parquet"
    pq.write_table(pa.table({"value": [1.0]}), petshop)
    with pytest.raises(TraceError, match="no column|cannot be read"):
        load_petshop(tmp_path, "p50")
    assert service_of("ts-order-service-6b9-x7") == "ts-order-service"
