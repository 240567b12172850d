"""A DuckLake for tests: a catalog in a throw-away Postgres, files in a folder."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from throwaway_postgres import NoPostgres, server

from headway.facts.lake_place import LakePlace
from headway.kernel.ids import new_id
from headway.kernel.instants import wall_ms


@pytest.fixture(scope="session")
def lake_postgres() -> Iterator[str]:
    try:
        with server() as url:
            yield url
    except NoPostgres as missing:
        pytest.skip(str(missing))


@pytest.fixture
def catalog(lake_postgres: str) -> Iterator[str]:
    """The address of an empty database."""
    name = new_id("lake", wall_ms())
    with psycopg.connect(lake_postgres, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        yield make_conninfo("", **{**conninfo_to_dict(lake_postgres), "dbname": name})
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def place(catalog: str, tmp_path: Path) -> LakePlace:
    return LakePlace(catalog=catalog, schema="headway_facts", data=str(tmp_path / "lake"))
