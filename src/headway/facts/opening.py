"""Opens the fact store that the configuration names."""

import importlib
from pathlib import Path
from typing import Final, cast

from headway.config.model import Settings
from headway.config.secrets import Secrets
from headway.facts.lake_place import LakePlace, S3Place
from headway.facts.parquet_store import ParquetStore
from headway.facts.store import FactStore
from headway.kernel.errors import ConfigError

FOLDER: Final = "facts"
_EXTRA = "pip install 'headway[ducklake]'"


def open_store(settings: Settings, state_dir: Path) -> FactStore:
    """``ConfigError`` for what is missing or leads nowhere, ``FactsInUse`` when another process has the Parquet folder, ``OSError`` when it cannot be made.

    DuckLake is reached at the first segment or question, so that control starts while Postgres is away.
    """
    if settings.facts.store == "parquet":
        return ParquetStore.open(state_dir / FOLDER)
    try:
        lake = importlib.import_module("headway.facts.lake_store")
    except ModuleNotFoundError as error:
        raise ConfigError(f"{error.name} is not installed", where="facts.store", fix=_EXTRA) from error
    return cast(FactStore, lake.LakeStore(lake_place(settings)))


def lake_place(settings: Settings) -> LakePlace:
    """Where catalog and files are. ``ConfigError`` for a reference that leads nowhere."""
    facts, secrets = settings.facts, Secrets()
    return LakePlace(
        catalog=secrets.resolve_or_literal(facts.catalog or settings.control.store),
        schema=facts.catalog_schema,
        data=facts.data,
        s3=S3Place(
            endpoint=facts.s3_endpoint,
            region=facts.s3_region,
            key=secrets.resolve(facts.s3_key),
            secret=secrets.resolve(facts.s3_secret),
        )
        if facts.data.startswith("s3://")
        else None,
    )
