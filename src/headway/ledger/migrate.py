"""Brings the tables to this version at start, forwards only, under a lock: two controls that start together take turns."""

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, text

ADVISORY_LOCK: Final = 0x48454144
"""Postgres advisory lock held while migrating. SQLite holds its write lock instead."""


def migrate(engine: Engine) -> None:
    """Raises SQLAlchemyError when the store cannot be reached or altered, alembic's CommandError when it is newer than this version."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": ADVISORY_LOCK})
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
