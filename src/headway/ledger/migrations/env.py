"""Alembic's entry: the connection comes from ``ledger/migrate.py``, with its transaction open and its lock held."""

from alembic import context

from headway.ledger.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    compare_type=True,
)
context.run_migrations()
