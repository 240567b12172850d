"""``[facts]``: what cannot work is told with its place, and what works opens the store that was named."""

from pathlib import Path

import pytest

from headway.config.load import load
from headway.facts.files import FactsInUse
from headway.facts.lake_store import LakeStore
from headway.facts.opening import lake_place, open_store
from headway.facts.parquet_store import ParquetStore
from headway.kernel.errors import ConfigError

LAKE = """
[control]
store = "env:LEDGER"
[facts]
store = "ducklake"
data = "s3://bucket/headway"
s3_endpoint = "http://127.0.0.1:9"
s3_key = "env:S3_KEY"
s3_secret = "env:S3_SECRET"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "headway.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('store = "ducklak"', 'did you mean "ducklake"'),
        ('store = "ducklake"\ndata = "/x/y"', "control.store names none"),
        ('store = "ducklake"\ndata = "relative"\ncatalog = "env:C"', "neither s3://BUCKET/PREFIX nor an absolute path"),
        ('store = "ducklake"\ndata = "/x/y"\ncatalog = "postgresql://u:secret@h/d"', "holds a password"),
        ('store = "ducklake"\ndata = "/x/y"\ncatalog = "env:C"\ncatalog_schema = "a;b"', "not the name of a schema"),
        ('s3_key = "env:K"', "s3_secret"),
        ('s3_secret = "abc"', "must refer to a secret"),
        ("bytes_max = 5", "bytes_max"),
    ],
)
def test_what_cannot_work(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError) as problem:
        load(written(tmp_path, f"[facts]\n{text}\n"))
    assert told in str(problem.value)
    assert "secret@h" not in str(problem.value)


def test_without_a_word_it_is_the_folder(tmp_path: Path) -> None:
    settings = load(written(tmp_path, "")).settings
    store = open_store(settings, tmp_path / "state")
    assert isinstance(store, ParquetStore)
    with pytest.raises(FactsInUse):
        open_store(settings, tmp_path / "state")
    store.close()


def test_a_lake_is_opened_before_it_can_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(written(tmp_path, LAKE)).settings
    with pytest.raises(ConfigError, match="LEDGER"):
        open_store(settings, tmp_path)
    monkeypatch.setenv("LEDGER", "postgresql+psycopg://u@127.0.0.1:9/x")
    monkeypatch.setenv("S3_KEY", "id")
    monkeypatch.setenv("S3_SECRET", "very-secret")
    place = lake_place(settings)
    assert place.s3 is not None
    assert (place.data, place.schema, place.s3.key, place.s3.secret) == (
        "s3://bucket/headway",
        "headway_facts",
        "id",
        "very-secret",
    )
    assert "very-secret" not in repr(place)
    store = open_store(settings, tmp_path)
    assert isinstance(store, LakeStore)
    store.close()
